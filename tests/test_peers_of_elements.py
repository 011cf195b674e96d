"""The losses of single elements beside those of PyTorch, optax and scikit-learn, where a setting means the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayloss as al
from arrayloss.check.libraries import LIBRARIES

from .test_peers import agree_in_torch

rng = np.random.default_rng(3)
X, Y = rng.normal(size=(6, 4)) * 2, rng.normal(size=(6, 4))
SIGNS = rng.choice([-1, 1], size=(6, 4))
COUNTS = rng.poisson(3.0, size=(6, 4)).astype(float)
RATES = rng.uniform(0.1, 9.0, size=(6, 4))


def functional() -> Any:
    return pytest.importorskip("torch").nn.functional


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_torch_regression(reduction: str) -> None:
    F, options = functional(), {"reduction": reduction}  # noqa: N806
    agree_in_torch(al.absolute_error.bind(**options), lambda x, t: F.l1_loss(x, t, **options), X, Y)
    for beta in (0.0, 0.3, 1.0, 5.0):
        agree_in_torch(al.smooth_l1_loss.bind(beta=beta, **options), lambda x, t, b=beta: F.smooth_l1_loss(x, t, beta=b, **options), X, Y)


@pytest.mark.parametrize("full", [False, True])
def test_torch_poisson(full: bool) -> None:
    """PyTorch's constant is Stirling's formula; its rates have eps added in the logarithm only."""
    F, constant = functional(), "stirling" if full else False  # noqa: N806
    agree_in_torch(al.poisson_nll_loss.bind(full=constant), lambda x, t: F.poisson_nll_loss(x, t, full=full), X, COUNTS)
    agree_in_torch(
        lambda x, t: al.poisson_nll_loss(x + 1e-3, t, given="rate", full=constant) - 1e-3,
        lambda x, t: F.poisson_nll_loss(x, t, log_input=False, full=full, eps=1e-3),
        RATES,
        COUNTS,
    )


@pytest.mark.parametrize("full", [False, True])
def test_torch_gaussian_of_a_logarithm_and_of_a_scale(full: bool) -> None:
    import torch

    F = functional()  # noqa: N806
    log_variance = torch.from_numpy(Y)

    def peer(x: Any, t: Any) -> Any:
        return F.gaussian_nll_loss(x, t, log_variance.exp(), full=full)

    agree_in_torch(lambda x, t: al.gaussian_nll_loss(x, log_variance, t, given="log_variance", full=full), peer, X, COUNTS)
    agree_in_torch(lambda x, t: al.gaussian_nll_loss(x, (log_variance / 2).exp(), t, given="scale", full=full), peer, X, COUNTS)


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
def test_torch_margins(margin: float) -> None:
    import torch

    F = functional()  # noqa: N806
    agree_in_torch(al.soft_margin_loss, F.soft_margin_loss, X, SIGNS)
    agree_in_torch(al.hinge_embedding_loss.bind(margin=margin), lambda x, t: F.hinge_embedding_loss(x, t, margin=margin), X, SIGNS)
    second = torch.from_numpy(Y)
    agree_in_torch(
        lambda x, t: al.margin_ranking_loss(x, second, t, margin=margin),
        lambda x, t: F.margin_ranking_loss(x, second, t, margin=margin),
        X,
        SIGNS,
    )


def test_torch_overflows_where_ours_does_not() -> None:
    """torch 2.13: exp(89) is infinite in float32."""
    torch = pytest.importorskip("torch")
    x = torch.tensor([-1000.0], requires_grad=True)
    theirs = torch.nn.functional.soft_margin_loss(x, torch.ones(1))
    assert theirs == float("inf")
    assert torch.autograd.grad(theirs, x)[0].isnan()
    ours = al.soft_margin_loss(x, torch.ones(1))
    assert (ours, torch.autograd.grad(ours, x)[0]) == (1000, -1)


def test_optax_margins() -> None:
    """`sparsemax_loss` is a smooth hinge; optax has half the slope at a kink, so values are compared."""
    optax = pytest.importorskip("optax")
    import jax

    with LIBRARIES["jax"].precision("float64"):
        x, s = jax.numpy.asarray(X), jax.numpy.asarray(SIGNS)
        for ours, peer in (
            (al.hinge_loss(x, s, reduction="none"), optax.losses.hinge_loss(x, s)),
            (al.perceptron_loss(x, s, reduction="none"), optax.losses.perceptron_loss(x, s)),
            (al.smooth_hinge_loss(x, s, smoothing=2.0, reduction="none"), optax.losses.sparsemax_loss(x, s == 1)),
        ):
            np.testing.assert_allclose(ours, peer, rtol=1e-12, atol=1e-15)


def test_scikit_learn_metrics() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    x, t, w = RATES.ravel(), COUNTS.ravel(), RATES[::-1].ravel()
    for ours, peer in (
        (al.absolute_error, metrics.mean_absolute_error),
        (al.squared_log_error, metrics.mean_squared_log_error),
        (al.absolute_percentage_error.bind(floor=np.finfo(float).eps), metrics.mean_absolute_percentage_error),
    ):
        np.testing.assert_allclose(ours(x, t, weights=w), peer(t, x, sample_weight=w), rtol=1e-12)
    s = SIGNS.ravel()
    np.testing.assert_allclose(al.hinge_loss(x, s), metrics.hinge_loss(s, x), rtol=1e-12)
    deviance = metrics.mean_poisson_deviance(t + 1, x)
    best = al.poisson_nll_loss(t + 1, t + 1, given="rate")
    np.testing.assert_allclose(2 * (al.poisson_nll_loss(x, t + 1, given="rate") - best), deviance, rtol=1e-12)
    best = al.gamma_nll_loss(w, w, given="mean", weights=t)
    deviance = metrics.mean_gamma_deviance(w, x, sample_weight=t)
    np.testing.assert_allclose(2 * (al.gamma_nll_loss(x, w, given="mean", weights=t) - best), deviance, rtol=1e-12)


def test_scikit_learn_losses_of_boosting() -> None:
    """Loss, gradient and Hessian; its loss of labels 0 and 1 is ours of signs, and its exponential has half the margin."""
    losses = pytest.importorskip("sklearn._loss.loss")
    x, t, w, labels = X.ravel(), COUNTS.ravel(), RATES.ravel(), (SIGNS.ravel() == 1).astype(float)
    for loss, peer, y in ((al.poisson_nll_loss, losses.HalfPoissonLoss(), t), (al.gamma_nll_loss, losses.HalfGammaLoss(), t + 0.5)):
        np.testing.assert_allclose(loss(x, y, reduction="none"), peer.loss(y, x), rtol=1e-12)
        for ours, theirs in zip(loss.grad_and_hess(x, y, weights=w), peer.gradient_hessian(y, x, sample_weight=w), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    exponential = losses.ExponentialLoss()
    np.testing.assert_allclose(al.exponential_loss(x, labels == 1, reduction="none"), exponential.loss(labels, x), rtol=1e-12)
    gradient, hessian = exponential.gradient_hessian(labels, x)
    ours = al.exponential_loss.grad_and_hess(x, labels == 1)
    np.testing.assert_allclose(ours[0], gradient, rtol=1e-12)
    np.testing.assert_allclose(ours[1], hessian, rtol=1e-12)
    np.testing.assert_allclose(al.absolute_error(x, t, reduction="none"), losses.AbsoluteError().loss(t, x), rtol=1e-12)


def test_scikit_learn_losses_of_linear_models() -> None:
    """Its modified Huber loss is four times the smooth hinge."""
    losses = pytest.importorskip("sklearn.linear_model._sgd_fast")
    signs = (
        (losses.Hinge(1.0), al.hinge_loss, 1),
        (losses.Hinge(0.0), al.perceptron_loss, 1),
        (losses.SquaredHinge(1.0), al.squared_hinge_loss, 1),
        (losses.ModifiedHuber(), al.smooth_hinge_loss.bind(smoothing=2.0), 4),
    )
    tubes = (
        (losses.EpsilonInsensitive(0.5), al.epsilon_insensitive_loss.bind(epsilon=0.5), 1),
        (losses.SquaredEpsilonInsensitive(0.5), al.epsilon_insensitive_loss.bind(epsilon=0.5, squared=True), 1),
    )
    for t, pairs in ((SIGNS.ravel().astype(float), signs), (Y.ravel(), tubes)):
        for peer, ours, factor in pairs:
            theirs = [peer.py_loss(p, y) for p, y in zip(X.ravel(), t, strict=True)]
            slopes = [peer.py_dloss(p, y) for p, y in zip(X.ravel(), t, strict=True)]
            np.testing.assert_allclose(factor * ours(X.ravel(), t, reduction="none"), theirs, rtol=1e-12)
            np.testing.assert_allclose(factor * ours.grad_and_hess(X.ravel(), t)[0], slopes, rtol=1e-12)


def test_scipy_pseudo_huber() -> None:
    special = pytest.importorskip("scipy.special")
    for delta in (0.3, 2.0):
        np.testing.assert_allclose(
            al.pseudo_huber_loss(X, Y, delta=delta, reduction="none"), special.pseudo_huber(delta, X - Y), rtol=1e-12
        )
