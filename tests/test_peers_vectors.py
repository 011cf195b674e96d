"""Live comparison of losses of vectors with PyTorch 2.13 and optax 0.2.8; what those get wrong is not ours."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest

from arrayloss import (
    cosine_distance,
    cosine_embedding_loss,
    pairwise_distance,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from arrayloss.check.libraries import LIBRARIES

torch = pytest.importorskip("torch")
F: Any = torch.nn.functional

rng = np.random.default_rng(0)
A, B, C = rng.normal(size=(3, 8, 5))
SIGNS = np.array([1, -1] * 4)


def agree(ours: Any, peer: Any, *arrays: Any, rtol: float = 1e-11) -> None:
    """Values and the gradients of all arrays."""
    several = [[torch.tensor(a, requires_grad=True) for a in arrays] for _ in range(2)]
    values = [f(*xs) for f, xs in zip((ours, peer), several, strict=True)]
    torch.testing.assert_close(*values, rtol=rtol, atol=1e-13)
    gradients = [torch.autograd.grad(v.sum(), xs) for v, xs in zip(values, several, strict=True)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("margin", [-0.5, 0.0, 0.3])
def test_torch_cosine_embedding_loss(reduction: str, margin: float) -> None:
    t = torch.tensor(SIGNS)
    options = {"margin": margin, "reduction": reduction}  # PyTorch adds 1e-12 under a root
    agree(lambda a, b: cosine_embedding_loss(a, b, t, **options), lambda a, b: F.cosine_embedding_loss(a, b, t, **options), A, B, rtol=1e-9)


def test_torch_cosine_similarity() -> None:
    target = torch.tensor(B)
    agree(lambda a: 1 - cosine_distance(a, target, reduction="none"), lambda a: F.cosine_similarity(a, target, dim=-1), A)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, inf])
@pytest.mark.parametrize("eps", [0.0, 1e-6, 0.1])
def test_torch_pairwise_distance(p: float, eps: float) -> None:
    agree(lambda a, b: pairwise_distance(a, b, p=p, eps=eps), lambda a, b: F.pairwise_distance(a, b, p=p, eps=eps), A, B)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(("p", "eps"), [(1.0, 0.0), (2.0, 1e-6), (2.0, 0.0), (3.0, 1e-6)])
def test_torch_triplet_margin_loss(reduction: str, swap: bool, p: float, eps: float) -> None:
    options = {"p": p, "eps": eps, "swap": swap, "margin": 0.8, "reduction": reduction}
    agree(lambda *xs: triplet_margin_loss(*xs, **options), lambda *xs: F.triplet_margin_loss(*xs, **options), A, B, C)


@pytest.mark.parametrize("swap", [False, True])
def test_torch_triplet_margin_with_distance_loss(swap: bool) -> None:
    """With functions of one's own, and with ours by name."""

    def squared(a: Any, b: Any) -> Any:
        return ((a - b) ** 2).sum(-1)

    peer = lambda *xs: F.triplet_margin_with_distance_loss(*xs, distance_function=squared, swap=swap, margin=0.7)  # noqa: E731
    for distance in (squared, "squared"):
        ours = triplet_margin_with_distance_loss.bind(distance_function=distance, swap=swap, margin=0.7)
        agree(ours, peer, A, B, C)
    agree(
        triplet_margin_with_distance_loss.bind(distance_function="cosine", swap=swap),
        lambda *xs: F.triplet_margin_with_distance_loss(
            *xs, distance_function=lambda a, b: 1 - F.cosine_similarity(a, b, dim=-1), swap=swap
        ),
        A,
        B,
        C,
    )


def test_optax() -> None:
    """At eps = 0; otherwise it stands under a root there."""
    optax = pytest.importorskip("optax")
    import jax

    with LIBRARIES["jax"].precision("float64"):
        a, b, c = map(jax.numpy.asarray, (A, B, C))
        pairs = [
            (lambda x: cosine_distance(x, b, reduction="none"), lambda x: optax.losses.cosine_distance(x, b, epsilon=0.0)),
            (
                lambda x: triplet_margin_loss(x, b, c, margin=0.8, reduction="none"),
                lambda x: optax.losses.triplet_margin_loss(x, b, c, margin=0.8, eps=0.0),
            ),
        ]
        for ours, peer in pairs:
            np.testing.assert_allclose(ours(a), peer(a), rtol=1e-11)
            gradients = [jax.grad(lambda x, f=f: f(x).sum())(a) for f in (ours, peer)]
            np.testing.assert_allclose(*gradients, rtol=1e-10, atol=1e-13)


# -- what goes wrong there -----------------------------------------------------------------------------------------------------------


def test_a_vector_that_is_zero_is_flat() -> None:
    """PyTorch 2.13 has a gradient of -5e5 there, optax a NaN."""
    a, b = torch.zeros((1, 3), requires_grad=True), torch.ones((1, 3))
    assert abs(torch.autograd.grad(F.cosine_embedding_loss(a, b, torch.tensor([1])), a)[0]).max() > 1e5
    value = cosine_embedding_loss(a, b, torch.tensor([1]))
    assert value == 1
    assert not torch.autograd.grad(value, a)[0].any()


@pytest.mark.parametrize("size", [1e-30, 1e-7, 1e30])
def test_equal_vectors_of_any_length_have_no_distance(size: float) -> None:
    """Of rows of 1e-7 PyTorch 2.13 says 0.96."""
    a = torch.full((1, 3), size)
    if size == 1e-7:
        assert F.cosine_embedding_loss(a, a, torch.tensor([1])) > 0.9
    assert cosine_embedding_loss(a, a, torch.tensor([1])) == 0
    assert cosine_distance(a, 2 * a) == 0


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_neither_overflow_nor_vanish(p: float, dtype: Any) -> None:
    for size in (1e-30, 1e30):
        a = np.array([[3.0, -4.0]], dtype=dtype) * dtype(size)
        expected = {1.0: 7.0, 2.0: 5.0, 3.0: 91 ** (1 / 3), inf: 4.0}[p] * size
        np.testing.assert_allclose(pairwise_distance(a, 0 * a, p=p), [expected], rtol=1e-6)
        value, (_, _, gradient) = triplet_margin_loss.value_and_grad(a, a, 0 * a, p=p, margin=2 * expected)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert np.isfinite(gradient).all()
        assert gradient.any()


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"integer targets must be -1 or 1; got 0 \(targets of 0 and 1 are `targets == 1`\)"):
        cosine_embedding_loss(A, B, np.array([0, 1] * 4))
    with pytest.raises(ValueError, match=r"targets must have one sign for each row, shape \(8,\); got \(8, 5\)"):
        cosine_embedding_loss(A, B, A)
    with pytest.raises(ValueError, match=r"p must be at least 1; got 0.5"):
        triplet_margin_loss(A, B, C, p=0.5)
    with pytest.raises(ValueError, match=r"distance_function must be None, 'euclidean', 'squared' or 'cosine'; got 'l1'"):
        triplet_margin_with_distance_loss(A, B, C, distance_function="l1")
    with pytest.raises(TypeError, match="has derivatives by autograd alone"):
        triplet_margin_with_distance_loss.value_and_grad(A, B, C, distance_function=pairwise_distance)
    with pytest.raises(ValueError, match=r"b must have the shape of a, \(8, 5\); got \(5,\)"):
        pairwise_distance(A, B[0])
    with pytest.raises(TypeError, match=r"a must be floating point; got int64"):
        pairwise_distance(SIGNS, SIGNS)


def test_signs_are_integers_booleans_or_numbers_and_one_may_be_ignored() -> None:
    each = cosine_embedding_loss(A, B, SIGNS, reduction="none")
    for t in (SIGNS == 1, SIGNS.astype(float), SIGNS.astype(np.int8), SIGNS[:, None]):
        np.testing.assert_array_equal(cosine_embedding_loss(A, B, t, reduction="none"), each)
    t = np.where(np.arange(8) == 3, -100, SIGNS)
    np.testing.assert_allclose(cosine_embedding_loss(A, B, t, ignore_index=-100), np.delete(each, 3).mean(), rtol=1e-14)
    mask = np.arange(8) != 3
    for masked in (t, SIGNS == 1):
        np.testing.assert_allclose(cosine_embedding_loss(A, B, masked, where=mask), np.delete(each, 3).mean(), rtol=1e-14)
    t = np.where(np.arange(8) == 3, np.nan, SIGNS)
    np.testing.assert_array_equal(np.isnan(cosine_embedding_loss(A, B, t, reduction="none")), ~mask)
