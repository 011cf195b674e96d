"""Live comparison with the libraries that users would compare with, where a setting means the same.

Where it does not, the reason stands in the test: PyTorch divides a weighted mean over distributions by N.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arrayloss import (
    binary_cross_entropy,
    gaussian_nll_loss,
    huber_loss,
    nll_loss,
    sigmoid_cross_entropy,
    sigmoid_focal_loss,
    softmax_cross_entropy,
    squared_error,
)
from arrayloss.check.libraries import LIBRARIES

rng = np.random.default_rng(0)
X, T = rng.normal(size=(6, 4)) * 2, rng.integers(0, 4, size=6)
SOFT = rng.dirichlet(np.ones(4), size=6)
YES, UNIT = rng.integers(0, 2, size=(6, 4)).astype(float), rng.uniform(size=(6, 4))
W = (1.0, 0.5, 2.0, 4.0)


def agree_in_torch(ours: Any, peer: Any, *arrays: np.ndarray) -> None:
    """Values and gradients, to a few ulp of the peer's own formulas."""
    torch = pytest.importorskip("torch")
    first = [torch.tensor(arrays[0], requires_grad=True) for _ in range(2)]
    rest = [torch.from_numpy(np.asarray(a)) for a in arrays[1:]]
    a, b = ours(first[0], *rest), peer(first[1], *rest)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    a.sum().backward()
    b.sum().backward()
    torch.testing.assert_close(first[0].grad, first[1].grad, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_torch_cross_entropy_of_labels(reduction: str, smoothing: float, weighted: bool) -> None:
    """Smoothing inside the class weights, the denominator from the labels, -100 left out: the same in both."""
    torch = pytest.importorskip("torch")
    t = T.copy()
    t[2] = -100
    weight = torch.tensor(W, dtype=torch.float64) if weighted else None
    agree_in_torch(
        softmax_cross_entropy.bind(
            class_weights=W if weighted else None, label_smoothing=smoothing, reduction=reduction, ignore_index=-100
        ),
        lambda x, t: torch.nn.functional.cross_entropy(x, t, weight=weight, label_smoothing=smoothing, reduction=reduction),
        X,
        t,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_torch_cross_entropy_of_distributions(smoothing: float, weighted: bool) -> None:
    """PyTorch divides by N whatever the weights: ours with normalizer="count"; by default sum_c t_c * w_c."""
    torch = pytest.importorskip("torch")
    weight = torch.tensor(W, dtype=torch.float64) if weighted else None
    agree_in_torch(
        softmax_cross_entropy.bind(class_weights=W if weighted else None, label_smoothing=smoothing, normalizer="count"),
        lambda x, t: torch.nn.functional.cross_entropy(x, t, weight=weight, label_smoothing=smoothing),
        X,
        SOFT,
    )


def test_torch_cross_entropy_of_images() -> None:
    torch = pytest.importorskip("torch")
    agree_in_torch(
        softmax_cross_entropy.bind(axis=1),
        torch.nn.functional.cross_entropy,
        rng.normal(size=(2, 3, 4, 5)),
        rng.integers(0, 3, size=(2, 4, 5)),
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_torch_nll_loss(weighted: bool) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.tensor(W, dtype=torch.float64) if weighted else None
    logs = X - np.log(np.exp(X).sum(-1, keepdims=True))
    agree_in_torch(
        nll_loss.bind(class_weights=W if weighted else None), lambda x, t: torch.nn.functional.nll_loss(x, t, weight=weight), logs, T
    )


@pytest.mark.parametrize("targets", [YES, UNIT], ids=["hard", "soft"])
def test_torch_binary_cross_entropy(targets: np.ndarray) -> None:
    """A mean over weights is divided by their sum here, by the number of elements in PyTorch: normalizer="count"."""
    F = pytest.importorskip("torch").nn.functional  # noqa: N806
    import torch

    w = torch.from_numpy(UNIT)
    agree_in_torch(sigmoid_cross_entropy, F.binary_cross_entropy_with_logits, X, targets)
    agree_in_torch(
        sigmoid_cross_entropy.bind(pos_weight=W, normalizer="count", weights=w),
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, weight=w, pos_weight=torch.tensor(W, dtype=torch.float64)),
        X,
        targets,
    )
    agree_in_torch(binary_cross_entropy, F.binary_cross_entropy, rng.uniform(0.05, 0.95, size=(6, 4)), targets)


def test_torch_regression() -> None:
    F = pytest.importorskip("torch").nn.functional  # noqa: N806
    import torch

    agree_in_torch(squared_error, F.mse_loss, X, UNIT)
    agree_in_torch(huber_loss.bind(delta=0.7), lambda x, t: F.huber_loss(x, t, delta=0.7), X, UNIT)
    variance = torch.from_numpy(UNIT + 0.5)
    agree_in_torch(
        lambda x, t: gaussian_nll_loss(x, variance, t, full=True), lambda x, t: F.gaussian_nll_loss(x, t, variance, full=True), X, SOFT
    )


@pytest.mark.exhaustive  # compiles for ten seconds
def test_optax() -> None:
    optax = pytest.importorskip("optax")
    import jax

    with LIBRARIES["jax"].precision("float64"):
        x, t, soft, unit = map(jax.numpy.asarray, (X, T, SOFT, UNIT))
        for ours, peer in (
            (softmax_cross_entropy(x, t, reduction="none"), optax.softmax_cross_entropy_with_integer_labels(x, t)),
            (softmax_cross_entropy(x, soft, reduction="none"), optax.softmax_cross_entropy(x, soft)),
            (
                softmax_cross_entropy(x, soft, label_smoothing=0.2, reduction="none"),
                optax.softmax_cross_entropy(x, optax.smooth_labels(soft, 0.2)),
            ),
            (sigmoid_cross_entropy(x, unit, reduction="none"), optax.sigmoid_binary_cross_entropy(x, unit)),
            (
                sigmoid_focal_loss(x, jax.numpy.asarray(YES), gamma=1.5, alpha=0.25, reduction="none"),
                optax.sigmoid_focal_loss(x, jax.numpy.asarray(YES), alpha=0.25, gamma=1.5),
            ),
            (squared_error(x, unit, reduction="none"), optax.squared_error(x, unit)),
            (huber_loss(x, unit, delta=0.7, reduction="none"), optax.huber_loss(x, unit, delta=0.7)),
        ):
            np.testing.assert_allclose(ours, peer, rtol=1e-11, atol=1e-14)


def test_scikit_learn_log_loss() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    probs = np.exp(X) / np.exp(X).sum(-1, keepdims=True)
    weights = UNIT[:, 0]
    expected = metrics.log_loss(T, probs, labels=[0, 1, 2, 3], sample_weight=weights)
    np.testing.assert_allclose(nll_loss(probs, T, given="probs", weights=weights), expected, rtol=1e-12)
    np.testing.assert_allclose(softmax_cross_entropy(X, T, weights=weights), expected, rtol=1e-12)


def test_scikit_learn_half_binomial_loss() -> None:
    """Half the deviance is the cross-entropy of a decision: its loss, gradient and Hessian, as boosting takes them."""
    loss = pytest.importorskip("sklearn._loss.loss").HalfBinomialLoss()
    x, t, w = X.ravel(), UNIT.ravel(), SOFT.ravel()
    np.testing.assert_allclose(
        sigmoid_cross_entropy(x, t, weights=w, reduction="none"), loss.loss(t, x, sample_weight=w), rtol=1e-12, atol=1e-15
    )
    gradient, hessian = sigmoid_cross_entropy.grad_and_hess(x, t, weights=w)
    expected = loss.gradient_hessian(t, x, sample_weight=w)
    np.testing.assert_allclose(gradient, expected[0], rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(hessian, expected[1], rtol=1e-11, atol=1e-15)
