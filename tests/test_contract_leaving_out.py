"""Leaving out: `where` and `ignore_index`.

What holds, and the test that would fail without it:

- what is left out reaches neither value nor gradient, NaN and inf in predictions, targets and weights included
                                                           test_nan_and_inf_that_are_left_out_reach_nothing
- "none" gives 0 there                                     (the same test)
- the mean divides by what counts                          (the same test: equal to the loss of the rest alone)
- `where` may be broadcast, 0-d, or a Python boolean       test_where_broadcasts, test_where_may_be_one_boolean
- the mean over nothing is 0 with gradient 0               test_the_mean_over_nothing_is_0_with_gradient_0
- `ignore_index`, an int or a tuple, for all integer targets  test_ignored_labels_are_left_out
- compared as a Python number: outside the dtype it matches nothing  test_an_ignored_value_outside_the_dtype_matches_nothing
- ignored labels are taken out before range checks and gathers  test_ignored_labels_need_not_name_a_class
- with float targets it is an error naming `where`         test_ignore_index_with_floating_point_targets
- a weight of 0 is not a mask                              test_a_weight_of_0_is_not_a_mask
- NaN in, NaN out                                          test_a_nan_that_is_not_left_out_stays
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import Backend
from drawn import FIRST, Case
from helpers import arguments, assert_close, several
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from arrayloss import binary_cross_entropy, nll_loss, sigmoid_cross_entropy, sigmoid_focal_loss, softmax_cross_entropy, softmax_focal_loss
from arrayloss.core.loss import Loss

every_case = pytest.mark.parametrize("case", FIRST, ids=str)
KEEP = np.array([True, False, True, False, False, True])
BAD = np.array([0.0, np.nan, 0.0, np.inf, -np.inf, 0.0])


def spoiled(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """NaN, inf and -inf where a mask along the first axis leaves out; labels that name no class."""
    values = values.copy()
    values[~keep] = BAD[~keep].reshape(-1, *(1,) * (values.ndim - 1)) if values.dtype.kind == "f" else -7
    return values


@every_case
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nan_and_inf_that_are_left_out_reach_nothing(case: Case, reduction: str, xp: Backend) -> None:
    predictions, targets = case.draw(samples=6)
    weights = np.linspace(0.5, 2.0, 6)[:, None]
    kept = [*(xp.array(p[KEEP]) for p in predictions), xp.array(targets[KEEP])]
    alone = case.loss.value_and_grad(*kept, weights=xp.array(weights[KEEP]), reduction=reduction, **case.options)
    arrays = [*(xp.array(spoiled(p, KEEP)) for p in predictions), xp.array(spoiled(targets, KEEP))]
    masked = {"weights": xp.array(spoiled(weights, KEEP)), "where": xp.array(KEEP[:, None]), "reduction": reduction, **case.options}
    value, gradients = case.loss.value_and_grad(*arrays, **masked)
    assert_close(xp.numpy(case.loss(*arrays, **masked)), xp.numpy(value), ulps=4)
    value = xp.numpy(value)
    if reduction == "none":
        assert_array_equal(value[~KEEP], 0)
        value = value[KEEP]
    assert_close(value, xp.numpy(alone[0]), ulps=4)
    for g, e in zip(several(gradients), several(alone[1]), strict=True):
        assert_array_equal(xp.numpy(g)[~KEEP], 0)
        assert_close(xp.numpy(g)[KEEP], xp.numpy(e), ulps=4)


@every_case
def test_curvature_does_not_meet_what_is_left_out(case: Case, xp: Backend) -> None:
    predictions, targets = case.draw(samples=6)
    arrays = [*(xp.array(spoiled(p, KEEP)) for p in predictions), xp.array(spoiled(targets, KEEP))]
    try:
        g, h = case.loss.grad_and_hess(*arrays, where=xp.array(KEEP[:, None]), **case.options)
    except NotImplementedError:  # where no curvature is defined; the property tests say where that is
        return
    for d in several(g) + several(h):
        assert_array_equal(xp.numpy(d)[~KEEP], 0)
        assert np.isfinite(xp.numpy(d)).all()


@every_case
def test_the_mean_over_nothing_is_0_with_gradient_0(case: Case, xp: Backend) -> None:
    predictions, targets = case.draw(samples=6)
    nothing = np.zeros((6, 1), dtype=bool)
    arrays = [*(xp.array(spoiled(p, KEEP)) for p in predictions), xp.array(spoiled(targets, KEEP))]
    for options in ({}, {"normalizer": "count"}, {"weights": xp.array(np.ones((6, 1)))}, {"reduce_axes": (0,)}):
        if "reduce_axes" in options and case.oracle.rows:
            continue
        value, gradients = case.loss.value_and_grad(*arrays, where=xp.array(nothing), **options, **case.options)
        assert_array_equal(xp.numpy(value), 0)
        for g in several(gradients):
            assert_array_equal(xp.numpy(g), 0)


@pytest.mark.parametrize("shape", [(), (1, 1), (6, 1), (1, 3), (6, 3)])
def test_where_broadcasts(shape: tuple[int, ...], xp: Backend) -> None:
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(6, 3)), rng.integers(0, 2, size=(6, 3))
    keep = rng.random(shape) < 0.6 if shape else np.array(True)
    full = np.broadcast_to(keep, (6, 3))
    each = sigmoid_cross_entropy(x, t, reduction="none")
    value = sigmoid_cross_entropy(xp.array(x), xp.array(t), where=xp.array(keep))
    assert_close(xp.numpy(value), each[full].mean() if full.any() else 0.0, ulps=8)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_masks_and_weights_of_any_broadcast_shape(data: st.DataObject) -> None:
    """Against a plain loop in NumPy, over shapes, class axes, masks and weights."""
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    elements = tuple(n for a, n in enumerate(shape) if a != axis)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))

    def broadcastable() -> tuple[int, ...]:
        kept = [1 if a == axis else data.draw(st.sampled_from([1, n])) for a, n in enumerate(shape)]
        return tuple(kept if data.draw(st.booleans()) else [n for a, n in enumerate(kept) if a != axis])

    x, t = rng.normal(size=shape), rng.integers(0, shape[axis], size=elements)
    keep, weights = rng.random(broadcastable()) < 0.7, rng.uniform(0.1, 2, size=broadcastable())

    def full(a: np.ndarray) -> np.ndarray:
        return np.broadcast_to(a if a.ndim == len(elements) else np.squeeze(a, axis=axis), elements)

    each = np.moveaxis(x, axis, -1)
    each = np.log(np.exp(each).sum(-1)) - np.take_along_axis(each, t[..., None], -1)[..., 0]
    w = np.where(full(keep), full(weights), 0.0)
    expected = (w * each).sum() / w.sum() if full(keep).any() else 0.0
    np.testing.assert_allclose(softmax_cross_entropy(x, t, axis=axis, where=keep, weights=weights), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("one", [True, False, np.True_, np.False_])
def test_where_may_be_one_boolean(one: Any, xp: Backend) -> None:
    x, t = np.array([0.5, -1.0]), np.array([1, 0])
    value = sigmoid_cross_entropy(xp.array(x), xp.array(t), where=one)
    assert_close(xp.numpy(value), sigmoid_cross_entropy(x, t) if one else 0.0)


@every_case
def test_a_weight_of_0_is_not_a_mask(case: Case, xp: Backend) -> None:
    predictions, targets = case.draw(samples=3)
    predictions = tuple(p.copy() for p in predictions)
    predictions[0][1] = np.nan
    arrays = [*(xp.array(p) for p in predictions), xp.array(targets)]
    for weights in (xp.array(np.array([[1.0], [0.0], [1.0]])), 0):
        value, gradients = case.loss.value_and_grad(*arrays, weights=weights, **case.options)
        assert np.isnan(xp.numpy(value))
        # log-probabilities have a slope that does not depend on them
        assert case.oracle.predictions == ("log_probs",) or np.isnan(xp.numpy(several(gradients)[0])[1]).any()


@every_case
def test_a_nan_that_is_not_left_out_stays(case: Case, xp: Backend) -> None:
    predictions, targets = case.draw(samples=3)
    for i in range(len(predictions) + (targets.dtype.kind == "f")):
        everything = [*(p.copy() for p in predictions), targets.copy()]
        everything[i][1] = np.nan
        arrays = [xp.array(a) for a in everything]
        assert np.isnan(xp.numpy(case.loss(*arrays, **case.options)))
        each = xp.numpy(case.loss(*arrays, reduction="none", **case.options))
        assert np.isnan(each[1]).all()
        assert np.isfinite(each[[0, 2]]).all()


# -- ignore_index ---------------------------------------------------------------------------------------------------------

LABEL_LOSSES: list[tuple[Loss[Any], dict[str, Any], float]] = [
    (softmax_cross_entropy, {}, 0.3),
    (softmax_cross_entropy, {"label_smoothing": 0.2, "class_weights": (1.0, 2.0, 3.0)}, 0.3),
    (nll_loss, {"given": "probs"}, 0.3),
    (nll_loss, {"given": "probs", "label_smoothing": 0.2}, 0.3),
    (softmax_focal_loss, {"alpha": (1.0, 2.0, 3.0)}, 0.3),
    (softmax_focal_loss, {"given": "probs"}, 0.3),
]
BINARY_LOSSES: list[tuple[Loss[Any], dict[str, Any]]] = [
    (sigmoid_cross_entropy, {}),
    (sigmoid_cross_entropy, {"pos_weight": 2.0, "label_smoothing": 0.1}),
    (binary_cross_entropy, {}),
    (sigmoid_focal_loss, {}),
    (sigmoid_focal_loss, {"given": "probs", "alpha": 0.25}),
]


@pytest.mark.parametrize(("loss", "options"), [(loss, o) for loss, o, _ in LABEL_LOSSES] + BINARY_LOSSES)
@pytest.mark.parametrize(("ignore", "kept"), [(-100, [0, 2, 3]), ((-100, 255), [0, 3]), ([-100, 255, 1], [3])])
def test_ignored_labels_are_left_out(loss: Loss[Any], options: dict[str, Any], ignore: Any, kept: list[int], xp: Backend) -> None:
    rows = any(loss is row for row, _, _ in LABEL_LOSSES)
    x = np.random.default_rng(2).uniform(0.1, 0.9, size=(4, 3) if rows else (4,))
    t = np.array([1, -100, 255, 0])
    x[1] = np.nan
    if 2 not in kept:
        x[2] = np.inf
    else:
        t[2] = 0
    each = loss(xp.array(x), xp.array(t), ignore_index=ignore, reduction="none", **options)
    alone = loss(xp.array(x[kept]), xp.array(t[kept]), reduction="none", **options)
    out = [i for i in range(4) if i not in kept]
    assert_close(xp.numpy(each)[kept], xp.numpy(alone), ulps=4)
    assert_array_equal(xp.numpy(each)[out], 0)
    value, gradient = loss.value_and_grad(xp.array(x), xp.array(t), ignore_index=ignore, **options)
    expected, gradient_alone = loss.value_and_grad(xp.array(x[kept]), xp.array(t[kept]), **options)
    assert_close(xp.numpy(value), xp.numpy(expected), ulps=4)
    assert_close(xp.numpy(gradient)[kept], xp.numpy(gradient_alone), ulps=4)
    assert_array_equal(xp.numpy(gradient)[out], 0)


def test_ignored_labels_need_not_name_a_class(xp: Backend) -> None:
    """A gather never meets them, even where `where` leaves them out and `ignore_index` does not."""
    x = xp.array(np.zeros((3, 2)))
    t = xp.array(np.array([0, 10**9, -(10**9)]))
    value = softmax_cross_entropy(x, t, where=xp.array(np.array([True, False, False])))
    assert_close(xp.numpy(value), np.log(2.0))
    value = softmax_cross_entropy(x, t, ignore_index=(10**9, -(10**9)))
    assert_close(xp.numpy(value), np.log(2.0))


@pytest.mark.parametrize(("ignore", "same"), [(-100, 156), (256, 0), (2**40, 0), (-1, 255)])
def test_an_ignored_value_outside_the_dtype_matches_nothing(ignore: int, same: int, xp: Backend) -> None:
    """In uint8, -100 and 156 are the same bits: libraries that compare arrays call them equal."""
    x = np.linspace(-1, 1, 2 * 257).reshape(2, 257)
    t = np.array([1, same], dtype=np.uint8)
    each = softmax_cross_entropy(xp.array(x), xp.array(t), ignore_index=ignore, reduction="none")
    assert (xp.numpy(each) != 0).all()


def test_booleans_may_be_ignored(xp: Backend) -> None:
    x, t = np.array([0.5, -1.0, 2.0]), np.array([True, False, True])
    assert_close(xp.numpy(sigmoid_cross_entropy(xp.array(x), xp.array(t), ignore_index=0)), np.log1p(np.exp(-x[[0, 2]])).mean())
    assert_close(xp.numpy(sigmoid_cross_entropy(xp.array(x), xp.array(t), ignore_index=-100)), np.log1p(np.exp([-0.5, -1, -2])).mean())


def test_where_and_ignore_index_together(xp: Backend) -> None:
    x, t = np.array([0.5, -1.0, 2.0, 3.0]), np.array([1, -1, 1, 0])
    where = np.array([True, True, False, True])
    value = sigmoid_cross_entropy(xp.array(x), xp.array(t), where=xp.array(where), ignore_index=-1)
    assert_close(xp.numpy(value), (np.log1p(np.exp(-0.5)) + np.log1p(np.exp(3.0))) / 2)


@pytest.mark.parametrize("case", [c for c in FIRST if c.targets in ("unit", "distribution")], ids=str)
def test_ignore_index_with_floating_point_targets(case: Case, xp: Backend) -> None:
    with pytest.raises(ValueError, match=r"ignore_index is for labels; got -100 with float64 targets: pass where="):
        case.loss(*arguments(case, xp), ignore_index=-100, **case.options)
