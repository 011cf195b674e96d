"""Leaving out: `where` and `ignore_index`. What is masked reaches neither value nor gradient, whatever it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import arrayloss as al

from .helpers import BACKENDS, Backend, assert_close, several
from .operations import MASK, WEIGHTS, Kind

BAD = np.array([0.0, np.nan, 0.0, np.inf, -np.inf, 0.0])


def spoiled(values: np.ndarray) -> np.ndarray:
    """NaN, inf and -inf in masked samples; labels that name no class."""
    n = len(values)
    bad = BAD[:n].reshape(n, *(1,) * (values.ndim - 1)) if values.dtype.kind == "f" else -7
    return np.where(MASK[:n].reshape(n, *(1,) * (values.ndim - 1)), values, bad).astype(values.dtype)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_nan_and_inf_that_are_masked_reach_nothing(kind: Kind, reduction: str, xp: Backend) -> None:
    """In predictions, targets and weights. The loss is that of the rest alone."""
    keep, options = MASK[: kind.samples], {**kind.options, "reduction": reduction}
    if kind.is_coupled:  # a masked sample takes part in the losses of others: NaN there is theirs
        value, gradients = kind.loss.value_and_grad(*map(xp.array, kind.stack), where=xp.array(keep), **options)
        each = kind.loss(*kind.stack, reduction="none")[keep]
        assert_close(xp.numpy(value), each.mean() if reduction == "mean" else np.where(keep, kind.loss(*kind.stack, reduction="none"), 0))
        assert_array_equal(xp.numpy(gradients[0])[~keep], 0)
        return
    rest = [a[keep] for a in (*kind.stack, *kind.targets)]
    weights = kind.per_sample(WEIGHTS)
    alone = kind.loss.value_and_grad(*rest, weights=weights[keep], **options)
    arrays = [xp.array(spoiled(a)) for a in (*kind.stack, *kind.targets)]
    masked = {"weights": xp.array(spoiled(weights)), "where": xp.array(kind.per_sample(MASK)), **xp.arrays(options)}
    value, gradients = kind.loss.value_and_grad(*arrays, **masked)
    value = xp.numpy(value)
    if reduction == "none" and not kind.is_overlap:
        assert_array_equal(value[~keep], 0)
        value = value[keep]
    assert_close(value, alone[0])
    for g, expected in zip(several(gradients), several(alone[1]), strict=True):
        assert_array_equal(xp.numpy(g)[~keep], 0)
        assert_close(xp.numpy(g)[keep], expected)


def test_second_derivatives_do_not_meet_what_is_masked(kind: Kind, xp: Backend) -> None:
    if not kind.has_hessian:
        with pytest.raises(NotImplementedError, match="no second derivative is defined for"):
            kind.loss.grad_and_hess(*kind.stack, *kind.targets, **kind.options)
        return
    arrays = [xp.array(spoiled(a)) for a in (*kind.stack, *kind.targets)]
    both = kind.loss.grad_and_hess(*arrays, where=xp.array(kind.per_sample(MASK)), **xp.arrays(kind.options))
    for d in (*several(both[0]), *several(both[1])):
        assert_array_equal(xp.numpy(d)[~MASK[: kind.samples]], 0)
        assert np.isfinite(xp.numpy(d)).all()


def test_the_mean_over_nothing_is_0_with_gradient_0(kind: Kind, xp: Backend) -> None:
    arrays = [xp.array(a) for a in (*kind.stack, *kind.targets)]
    options = {"where": xp.array(np.zeros_like(kind.per_sample(MASK))), "weights": xp.array(kind.per_sample(WEIGHTS))}
    value, gradients = kind.loss.value_and_grad(*arrays, **options, **xp.arrays(kind.options))
    assert_array_equal(xp.numpy(value), 0)
    for g in several(gradients):
        assert_array_equal(xp.numpy(g), 0)


def test_a_weight_of_0_is_no_mask(kind: Kind, xp: Backend) -> None:
    """0 * NaN is NaN."""
    x, *others = kind.stack
    x[0] = np.nan
    weights = kind.per_sample(np.array([0.0, 1, 1, 1, 1, 1]))
    arrays = map(xp.array, (x, *others, *kind.targets))
    value = kind.loss(*arrays, weights=xp.array(weights), **xp.arrays(kind.options))
    assert np.isnan(xp.numpy(value))


def test_a_nan_that_is_not_masked_stays(kind: Kind) -> None:
    """In every array that may have one."""
    arrays = [*kind.stack, *kind.targets]
    for i, a in enumerate(arrays):
        if a.dtype.kind == "f":
            broken = [*arrays[:i], np.concatenate([np.full_like(a[:1], np.nan), a[1:]]), *arrays[i + 1 :]]
            assert np.isnan(kind.loss(*broken, **kind.options))
            if not kind.is_overlap and not kind.is_coupled:
                bad = np.isnan(kind.loss(*broken, **{**kind.options, "reduction": "none"}))
                assert bad.reshape(kind.samples, -1).any(axis=1).tolist() == [True] + [False] * (kind.samples - 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_nan_in_the_target_of_a_divergence_stays(dtype: str) -> None:
    """It was taken for -inf, whose class does not count."""
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(dtype)
    t = x[::-1].copy()
    t[0] = np.nan
    for arrays in ((x, t), (t, x)):
        assert np.isnan(al.kl_divergence(*arrays, reduction="none")).tolist() == [True, False]


@pytest.mark.parametrize("shape", [(), (1, 1), (6, 1), (1, 3), (6, 3)])
def test_where_broadcasts(shape: tuple[int, ...], xp: Backend) -> None:
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(6, 3)), rng.integers(0, 2, size=(6, 3))
    keep = rng.random(shape) < 0.6 if shape else np.array(True)
    each = np.log1p(np.exp(np.where(t == 1, -x, x)))
    value = al.sigmoid_cross_entropy(xp.array(x), xp.array(t), where=xp.array(keep))
    assert_close(xp.numpy(value), each[np.broadcast_to(keep, (6, 3))].mean())


@pytest.mark.parametrize("one", [True, False, np.True_, np.False_])
def test_where_may_be_one_boolean(one: Any) -> None:
    x, t = np.array([0.5, -1.0]), np.array([1, 0])
    for xp in (BACKENDS["numpy"], BACKENDS["torch"]):
        value = al.sigmoid_cross_entropy(xp.array(x), xp.array(t), where=one)
        assert_close(xp.numpy(value), np.log1p(np.exp([-0.5, -1.0])).mean() if one else 0.0)


@pytest.mark.parametrize("seed", range(40))
def test_masks_and_weights_of_any_broadcast_shape(seed: int) -> None:
    """Against a plain loop in NumPy, over shapes, class axes, masks and weights."""
    rng = np.random.default_rng(seed)
    elements = tuple(rng.integers(1, 4, size=seed % 4).tolist())
    axis = int(rng.integers(0, len(elements) + 1))
    shape = (*elements[:axis], int(rng.integers(2, 5)), *elements[axis:])

    def broadcastable() -> tuple[int, ...]:
        """With the class axis at size 1, or without it."""
        sizes = [int(rng.choice([1, n])) for n in elements]
        return (*sizes[:axis], 1, *sizes[axis:]) if rng.random() < 0.5 else tuple(sizes)

    x, t = rng.normal(size=shape), rng.integers(0, shape[axis], size=elements)
    keep, weights = rng.random(broadcastable()) < 0.7, rng.uniform(0.1, 2, size=broadcastable())

    def full(a: np.ndarray) -> np.ndarray:
        return np.broadcast_to(a if a.ndim == len(elements) else np.squeeze(a, axis=axis), elements)

    each = np.moveaxis(x, axis, -1)
    each = np.log(np.exp(each).sum(-1)) - np.take_along_axis(each, t[..., None], -1)[..., 0]
    w = np.where(full(keep), full(weights), 0.0)
    expected = (w * each).sum() / w.sum() if full(keep).any() else 0.0
    got = al.softmax_cross_entropy(x, t, axis=axis, where=np.asarray(keep), weights=np.asarray(weights))
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


# -- ignore_index ---------------------------------------------------------------------------------------------------------

LABELS: list[tuple[Any, dict[str, Any]]] = [
    (al.softmax_cross_entropy, {}),
    (al.softmax_cross_entropy, {"label_smoothing": 0.2, "class_weights": (1.0, 2.0, 3.0)}),
    (al.dice_loss, {"activation": "softmax", "axis": 1}),
]
DECISIONS: list[tuple[Any, dict[str, Any]]] = [
    (al.sigmoid_cross_entropy, {"pos_weight": 2.0, "label_smoothing": 0.1}),
    (al.sigmoid_focal_loss, {"alpha": 0.25}),
]


@pytest.mark.parametrize(("ignore", "kept"), [(-100, [0, 2, 3]), ([-100, 255], [0, 3])])
@pytest.mark.parametrize(("loss", "options"), LABELS + DECISIONS)
def test_ignored_labels_are_masked(loss: Any, options: dict[str, Any], ignore: Any, kept: list[int], xp: Backend) -> None:
    """Before range checks and gathers; an integer, a tuple or a list."""
    x = np.random.default_rng(2).normal(size=(4,) if loss in [d for d, _ in DECISIONS] else (4, 3))
    t = np.array([1, -100, 255 if 2 not in kept else 0, 0])
    x[1] = np.nan
    if 2 not in kept:
        x[2] = np.inf
    value, gradient = loss.value_and_grad(xp.array(x), xp.array(t), ignore_index=ignore, **options)
    expected, alone = loss.value_and_grad(x[kept], t[kept], **options)
    assert_close(xp.numpy(value), expected)
    assert_close(xp.numpy(gradient)[kept], alone)
    assert_array_equal(np.delete(xp.numpy(gradient), kept, axis=0), 0)


@pytest.mark.everywhere
def test_masked_labels_need_not_name_a_class(xp: Backend) -> None:
    """A gather never meets them, whichever option masks them."""
    x, t = xp.array(np.zeros((3, 2))), xp.array(np.array([0, 10**9, -(10**9)]))
    masked = al.softmax_cross_entropy(x, t, where=xp.array(np.array([True, False, False])))
    ignored = al.softmax_cross_entropy(x, t, ignore_index=(10**9, -(10**9)))
    both = al.softmax_cross_entropy(x, t, ignore_index=10**9, where=xp.array(np.array([True, True, False])))
    for value in (masked, ignored, both):
        assert_close(xp.numpy(value), np.log(2.0))


@pytest.mark.parametrize(("ignore", "same"), [(-100, 156), (256, 0), (2**40, 0), (-1, 255)])
@pytest.mark.everywhere
def test_an_ignored_value_outside_the_dtype_matches_nothing(ignore: int, same: int, xp: Backend) -> None:
    """In uint8, -100 and 156 are the same bits: libraries that compare arrays call them equal."""
    x = np.linspace(-1, 1, 2 * 257).reshape(2, 257)
    t = np.array([1, same], dtype=np.uint8)
    each = al.softmax_cross_entropy(xp.array(x), xp.array(t), ignore_index=ignore, reduction="none")
    assert (xp.numpy(each) != 0).all()


def test_booleans_may_be_ignored() -> None:
    x, t = np.array([0.5, -1.0, 2.0]), np.array([True, False, True])
    assert_close(al.sigmoid_cross_entropy(x, t, ignore_index=0), np.log1p(np.exp(-x[[0, 2]])).mean())
    assert_close(al.sigmoid_cross_entropy(x, t, ignore_index=-100), np.log1p(np.exp([-0.5, -1, -2])).mean())


@pytest.mark.everywhere
def test_ignored_entries_of_masks(xp: Backend) -> None:
    """An entry of a sigmoid; all classes of an element under a softmax."""
    x, mask = np.random.default_rng(3).normal(size=(2, 3, 4)), np.zeros((2, 3, 4), np.uint8)
    mask[:, 1], mask[0, 1, 2] = 1, 255
    for activation, where in (("sigmoid", mask != 255), ("softmax", (mask != 255).all(axis=1, keepdims=True))):
        loss = al.dice_loss.bind(activation=activation, axis=1)
        value = loss(xp.array(x), xp.array(mask), ignore_index=255)
        assert_close(xp.numpy(value), loss(x, np.where(mask == 255, 0, mask), where=where))
