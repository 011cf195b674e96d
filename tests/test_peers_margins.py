"""Live comparison of losses of several classes with PyTorch 2.13, optax 0.2.8 and scikit-learn 1.9."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arrayloss import (
    fenchel_young,
    multi_margin_loss,
    multiclass_hinge_loss,
    multiclass_perceptron_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    poly1_cross_entropy,
    ranking_softmax_loss,
    sparsemax_loss,
)
from arrayloss.check.libraries import LIBRARIES

from .test_peers import SOFT, YES, T, W, X, agree_in_torch

rng = np.random.default_rng(1)
reductions = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def agree_in_optax(pairs: Any) -> None:
    """Values and gradients of functions of one array, the losses of all rows."""
    import jax

    with LIBRARIES["jax"].precision("float64"):
        for ours, peer, *arrays in pairs:
            x, *rest = map(jax.numpy.asarray, arrays)
            np.testing.assert_allclose(ours(x, *rest), peer(x, *rest), rtol=1e-11, atol=1e-14)
            a, b = (jax.grad(lambda x, f=f, rest=rest: f(x, *rest).sum())(x) for f in (ours, peer))
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14)


@reductions
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_torch_multi_margin(reduction: str, p: int, weighted: bool) -> None:
    """PyTorch divides by the number of rows whatever the weights."""
    torch = pytest.importorskip("torch")
    options: Any = {"normalizer": "count"} if reduction == "mean" else {}
    weight = torch.tensor(W, dtype=torch.float64) if weighted else None
    agree_in_torch(
        multi_margin_loss.bind(p=p, margin=0.7, class_weights=W if weighted else None, reduction=reduction, **options),
        lambda x, t: torch.nn.functional.multi_margin_loss(x, t, p=p, margin=0.7, weight=weight, reduction=reduction),
        X,
        T,
    )


@reductions
@pytest.mark.parametrize("weighted", [False, True])
def test_torch_multilabel_soft_margin(reduction: str, weighted: bool) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.tensor(W, dtype=torch.float64) if weighted else None
    agree_in_torch(
        multilabel_soft_margin_loss.bind(class_weights=W if weighted else None, reduction=reduction),
        lambda x, t: torch.nn.functional.multilabel_soft_margin_loss(x, t, weight=weight, reduction=reduction),
        X,
        YES,
    )


LISTS = np.array([[1, 3, -1, 0], [0, -1, -1, -1], [-1, 2, -1, -1], [3, 2, 1, 0], [2, 2, 0, -1], [2, 3, -1, -1]])


@reductions
def test_torch_multilabel_margin(reduction: str) -> None:
    """Lists end at the first negative label, and a label that is there twice counts twice."""
    torch = pytest.importorskip("torch")
    peer = torch.nn.functional.multilabel_margin_loss
    agree_in_torch(multilabel_margin_loss.bind(reduction=reduction), lambda x, t: peer(x, t, reduction=reduction), X, LISTS)


def test_scikit_learn_hinge_loss() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    expected = metrics.hinge_loss(T, X, labels=[0, 1, 2, 3], sample_weight=SOFT[:, 0])
    np.testing.assert_allclose(multiclass_hinge_loss(X, T, weights=SOFT[:, 0]), expected, rtol=1e-12)


def logsumexp(xp: Any, x: Any, axis: int) -> Any:
    e = xp.exp(x)
    yield xp.log(xp.sum(e, axis=axis, keepdims=True))
    yield e / xp.sum(e, axis=axis, keepdims=True)


@pytest.mark.exhaustive  # compiles for some seconds; the presets of optax are compared by default
def test_optax() -> None:
    optax = pytest.importorskip("optax")
    import jax

    zeros, none = np.zeros_like(X), {"reduction": "none"}
    poly = poly1_cross_entropy.bind(epsilon=1.5, **none)
    my_loss = fenchel_young("my_loss", logsumexp).bind(**none)
    peer = optax.losses.make_fenchel_young_loss(jax.scipy.special.logsumexp)
    grades, mask = rng.integers(0, 4, X.shape).astype(float), rng.random(X.shape) < 0.7
    mask[:, 0] = True  # of a list without items optax has a loss of 0 too, but counts it
    agree_in_optax(
        [
            (my_loss, lambda x, t: peer(x, jax.nn.one_hot(t, 4)), X, T),
            (my_loss, peer, X, SOFT),
            (sparsemax_loss.bind(**none), optax.losses.multiclass_sparsemax_loss, X, T),
            (ranking_softmax_loss.bind(**none), lambda x, t: optax.losses.ranking_softmax_loss(x, t, reduce_fn=None), X, grades),
            (
                lambda x, t, m: ranking_softmax_loss(x, t, mask=m, **none),
                lambda x, t, m: optax.losses.ranking_softmax_loss(x, t, where=m, reduce_fn=None),
                X,
                grades,
                mask,
            ),
            (poly, lambda x, t: optax.losses.poly_loss_cross_entropy(x, t, epsilon=1.5), X, SOFT),
            (poly, lambda x, t: optax.losses.poly_loss_cross_entropy(x, jax.nn.one_hot(t, 4), epsilon=1.5), X, T),
            (multiclass_hinge_loss.bind(**none), optax.losses.multiclass_hinge_loss, X, T),
            (multiclass_perceptron_loss.bind(**none), optax.losses.multiclass_perceptron_loss, X, T),
            (multiclass_perceptron_loss.bind(**none), optax.losses.multiclass_perceptron_loss, zeros, T),
        ]
    )
