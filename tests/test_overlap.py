"""Losses of overlaps: their definitions, digits, edges, options and errors, on every backend."""

from __future__ import annotations

import pickle
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest
from conftest import Backend
from mpmath import mpf
from overlap_cases import CASES, SHAPE, Case, one_hot

import arrayloss
from arrayloss import dice_loss, focal_tversky_loss, generalized_dice_loss, jaccard_loss, tversky_loss
from arrayloss.consistency.overlap_oracles import DIGITS, OVERLAPS, gradient, whole

every_case = pytest.mark.parametrize("number", [pytest.param(i, id=str(c)) for i, c in enumerate(CASES)])


def field(a: np.ndarray) -> dict[tuple[int, ...], Any]:
    return {i: mpf(float(a[i])) for i in np.ndindex(a.shape)}


def masks(case: Case, t: np.ndarray) -> np.ndarray:
    return one_hot(t) if case.labels else t


@cache
def answers(number: int) -> tuple[np.ndarray, np.ndarray, Any, np.ndarray]:
    """Predictions and targets, and what mpmath makes of them; all exact in float32."""
    case = CASES[number]
    x, t = case.draw(seed=number)
    x = x.astype("float32").astype("float64")
    everywhere = list(np.ndindex(SHAPE))
    with mpmath.workdps(DIGITS):
        value = whole(case.name, field(x), field(masks(case, t)), SHAPE, **case.options)
        g = gradient(case.name, field(x), field(masks(case, t)), SHAPE, everywhere, **case.options)
        return x, t, value, np.array([float(v) for v in g]).reshape(SHAPE)


def ulps(actual: Any, exact: Any, dtype: str) -> float:
    """Distance in spacings of the dtype at the exact value."""
    with mpmath.workdps(DIGITS):
        return float(abs(mpf(float(actual)) - exact) / mpf(float(np.spacing(np.abs(np.asarray(float(exact), dtype))))))


@every_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_gradient_are_those_of_the_definition(number: int, dtype: str, xp: Backend) -> None:
    case = CASES[number]
    if xp.name == "jax" and dtype == "float64":
        pytest.skip("JAX starts without float64")
    x, t, value, expected = answers(number)
    args = xp.array(x, dtype), xp.array(t)
    actual, g = case.loss.value_and_grad(*args, **case.options)
    assert ulps(xp.numpy(actual), value, dtype) <= 4
    np.testing.assert_array_equal(xp.numpy(case.loss(*args, **case.options)), xp.numpy(actual))
    # A gradient is a difference within its row and may cross 0: 16 ulp of itself, or of a tenth of the largest
    scale = np.maximum(np.abs(expected), np.max(np.abs(expected)) / 10)
    assert np.max(np.abs(xp.numpy(g) - expected) / np.spacing(scale.astype(dtype))) <= 16


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("margin", [17.0, 70.0])
@pytest.mark.parametrize("name", ["dice_loss", "tversky_loss", "generalized_dice_loss"])
def test_confident_logits_keep_their_digits(name: str, margin: float, activation: str, xp: Backend) -> None:
    """With 1 - a / b these losses are 0, and a third of the gradient is lost, from a margin of 17 on in float32."""
    labels = np.array([[0, 1, 0, 1, 1, 0]])
    t = np.stack([labels == c for c in range(2)], axis=1)
    x = np.where(t, margin, -margin) / 2 * np.linspace(0.9, 1.1, 6)
    x = x.astype("float32").astype("float64")
    options = {"activation": activation, "axis": 1}
    if "tversky" in name:
        options |= {"alpha": 0.3, "beta": 0.7}
    everywhere = list(np.ndindex(x.shape))
    with mpmath.workdps(DIGITS):
        value = whole(name, field(x), field(t), x.shape, **options)
        expected = np.array([float(g) for g in gradient(name, field(x), field(t), x.shape, everywhere, **options)]).reshape(x.shape)
    actual, g = getattr(arrayloss, name).value_and_grad(xp.array(x, "float32"), xp.array(t), **options)
    assert ulps(xp.numpy(actual), value, "float32") <= 4
    assert np.max(np.abs(xp.numpy(g) - expected) / np.spacing(np.abs(expected).astype("float32"))) <= 16 + 1.1 * margin


EDGES = {
    "empty": (np.full(SHAPE, -80.0), np.zeros(SHAPE, bool)),
    "full": (np.full(SHAPE, 80.0), np.ones(SHAPE, bool)),
    "perfect": (np.where(np.arange(24).reshape(SHAPE) % 2, 80.0, -80.0), np.arange(24).reshape(SHAPE) % 2 == 1),
    "disjoint": (np.where(np.arange(24).reshape(SHAPE) % 2, -80.0, 80.0), np.arange(24).reshape(SHAPE) % 2 == 1),
    "missed": (np.full(SHAPE, -80.0), np.ones(SHAPE, bool)),
    "invented": (np.full(SHAPE, 80.0), np.zeros(SHAPE, bool)),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(
    ("name", "smooth"), [("dice_loss", 0.0), ("dice_loss", 1.0), ("focal_tversky_loss", 0.0), ("generalized_dice_loss", 0.0)]
)
def test_edges_are_finite_and_right(name: str, smooth: float, edge: str, xp: Backend) -> None:
    x, t = EDGES[edge]
    options = {"activation": "sigmoid", "axis": 1, "smooth": smooth}
    if "tversky" in name:
        options |= {"alpha": 0.3, "beta": 0.7}
    if name == "focal_tversky_loss":
        options |= {"gamma": 2.0}
    dtype = "float32" if xp.library == "jax" else "float64"
    value, g = getattr(arrayloss, name).value_and_grad(xp.array(x, dtype), xp.array(t), **options)
    everywhere = list(np.ndindex(SHAPE))
    with mpmath.workdps(DIGITS * 4):
        exact = whole(name, field(x), field(t), SHAPE, **options)
        expected = [float(d) for d in gradient(name, field(x), field(t), SHAPE, everywhere[::5], **options)]
    np.testing.assert_allclose(xp.numpy(value), float(exact), rtol=1e-6 if dtype == "float32" else 1e-14, atol=1e-37)
    assert np.all(np.isfinite(xp.numpy(g)))
    np.testing.assert_allclose(xp.numpy(g).flatten()[::5], expected, rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-37)


@pytest.mark.parametrize(("name", "reduction"), [*((n, "mean") for n in OVERLAPS), ("dice_loss", "sum"), ("dice_loss", "none")])
def test_nothing_predicted_and_nothing_there_is_perfect_and_flat(name: str, reduction: str, xp: Backend) -> None:
    options: dict[str, Any] = {"activation": None, "axis": 1, "smooth": 0.0, "reduction": reduction}
    if "tversky" in name:
        options |= {"alpha": 0.3, "beta": 0.7}
    nothing = xp.array(np.zeros(SHAPE), "float32")
    value, g = getattr(arrayloss, name).value_and_grad(nothing, xp.array(np.zeros(SHAPE, bool)), **options)
    assert np.all(xp.numpy(value) == 0)
    assert np.all(xp.numpy(g) == 0)


def test_nothing_and_nothing_has_no_nan_in_second_derivatives() -> None:
    import jax
    import torch

    for name in OVERLAPS:
        options: dict[str, Any] = {"activation": None, "axis": 0, "smooth": 0.0} | (
            {"alpha": 0.3, "beta": 0.7} if "tversky" in name else {}
        )
        loss = getattr(arrayloss, name)
        zeros, none = np.zeros((2, 3)), np.zeros((2, 3), bool)
        h = torch.func.hessian(lambda x, loss=loss, options=options, none=none: loss(x, torch.tensor(none), **options))(torch.tensor(zeros))
        assert torch.isfinite(h).all()
        h = jax.hessian(lambda x, loss=loss, options=options, none=none: loss(x, none, **options))(jax.numpy.asarray(zeros))
        assert np.isfinite(h).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_large_half_precision_masks_neither_overflow_nor_lose(dtype: str, xp: Backend) -> None:
    """2048 x 2048 elements: sums in float16 would be inf, in bfloat16 stuck at 256."""
    if xp.name in ("dask", "strict", "strict-device1", "numpy-read-only"):
        pytest.skip("half precision of NumPy arrays is tested once; array-api-strict has none")
    side = 2048
    x = np.tile(np.array([[0.25, 0.75], [1.0, 0.5]]), (side // 2, side // 2))
    t = np.tile(np.array([[False, True], [True, False]]), (side // 2, side // 2))
    value, g = dice_loss.value_and_grad(xp.array(x, dtype), xp.array(t), activation=None, smooth=0.0)
    assert str(value.dtype).endswith("float32")
    quarter = side * side // 4
    tp, p, q = 1.75 * quarter, 2.5 * quarter, 2 * quarter
    np.testing.assert_allclose(xp.numpy(value), 1 - 2 * tp / (p + q), rtol=2e-7)
    slope = np.where(t, -2 * (p + q) + 2 * tp, 2 * tp) / (p + q) ** 2
    assert np.all(xp.numpy(g)[:2, :2] == xp.numpy(xp.array(slope[:2, :2], dtype)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32_and_rounded_once(dtype: str, xp: Backend) -> None:
    if xp.library == "array_api_strict" or (xp.library == "dask" and dtype == "bfloat16"):
        pytest.skip(f"{xp.library} has no {dtype}")
    x, t = CASES[0].draw()
    low = xp.array(x, dtype)
    high = xp.array(xp.numpy(low), "float32")
    options = CASES[0].options
    value, g = dice_loss.value_and_grad(low, xp.array(t), **options)
    expected, slope = dice_loss.value_and_grad(high, xp.array(t), **options)
    assert g.dtype == low.dtype
    np.testing.assert_allclose(xp.numpy(value), xp.numpy(expected), rtol=2e-7)
    np.testing.assert_array_equal(xp.numpy(g), xp.numpy(xp.array(xp.numpy(slope), dtype)))
    none = dice_loss(low, xp.array(t), **options, reduction="none")
    assert none.dtype == low.dtype


@pytest.mark.parametrize("number", [i for i, c in enumerate(CASES) if c.few])
def test_batches_add_up_to_the_whole(number: int, xp: Backend) -> None:
    case = CASES[number]
    if "pool_axes" in case.options and case.name == "generalized_dice_loss":
        options = {**case.options, "pool_axes": (2,)}
    else:
        options = dict(case.options)
    x, t = case.draw()
    x, t = np.concatenate([x, -x + (1 if options["activation"] is None else 0)]), np.concatenate([t, t])
    bound = case.loss.bind(**options)
    batches = [bound.parts(xp.array(x[i : i + 1], "float32"), xp.array(t[i : i + 1])) for i in range(4)]
    together = pickle.loads(pickle.dumps(sum(batches))) if xp.library in ("numpy", "torch") else sum(batches)
    np.testing.assert_allclose(xp.numpy(bound.finish(together)), xp.numpy(bound(xp.array(x, "float32"), xp.array(t))), rtol=1e-6)
    one_by_one = [bound.parts(xp.array(x[i : i + 1]), xp.array(t[i : i + 1])) for i in range(4)]
    np.testing.assert_allclose(xp.numpy(case.loss.finish(sum(one_by_one))), xp.numpy(bound(xp.array(x), xp.array(t))), rtol=1e-6)


def test_parts_of_an_overlap_are_its_sums(xp: Backend) -> None:
    p, t = np.array([0.75, 0.5, 0.25, 0.0]), np.array([1, 1, 0, 0])
    parts = dice_loss.parts(xp.array(p), xp.array(t), activation=None, smooth=0.0)
    assert parts.names == ("tp", "fp", "fn")
    assert [float(xp.numpy(a)) for a in parts.arrays] == [1.25, 0.25, 0.75]
    np.testing.assert_allclose(xp.numpy(dice_loss.finish(parts)), 1 - 2.5 / 3.5, rtol=1e-6)


def test_parts_with_other_options_do_not_add() -> None:
    p, t = np.array([0.75, 0.5]), np.array([1, 0])
    first = dice_loss.parts(p, t, activation=None)
    with pytest.raises(ValueError, match=r"parts of dice_loss with different options do not add: parameters=\(0.5, 0.5, 0.5\) and"):
        first + dice_loss.parts(p, t, activation=None, smooth=0.0)
    with pytest.raises(ValueError, match="parts of overlaps have none"):
        dice_loss.finish(first, normalizer="count")
    import torch

    weights = torch.ones(2, dtype=torch.float64)
    logits = torch.zeros((3, 2), dtype=torch.float64)
    with pytest.raises(TypeError, match="must be Python numbers for parts"):
        dice_loss.parts(logits, torch.tensor([0, 1, 1]), activation="softmax", axis=1, class_weights=weights)


def test_parts_per_sample_are_means(xp: Backend) -> None:
    x, t = CASES[0].draw()
    options: dict[str, Any] = {"activation": "softmax", "axis": 1, "pool_axes": (2,), "class_weights": (1.0, 2.0, 3.0)}
    parts = dice_loss.parts(xp.array(x), xp.array(t), **options)
    assert parts.names == ("total", "weight", "count")
    assert int(xp.numpy(parts.count)) == 6
    assert float(xp.numpy(parts.weight)) == 12
    np.testing.assert_allclose(xp.numpy(dice_loss.finish(parts)), xp.numpy(dice_loss(xp.array(x), xp.array(t), **options)), rtol=1e-6)


def test_the_finish_of_parts_can_show_every_class(xp: Backend) -> None:
    x, t = CASES[0].draw()
    parts = dice_loss.parts(xp.array(x), xp.array(t), activation="softmax", axis=1)
    each = dice_loss.finish(parts, reduction="none")
    assert tuple(each.shape) == (3,)
    np.testing.assert_allclose(xp.numpy(each).mean(), xp.numpy(dice_loss.finish(parts)), rtol=1e-6)


def test_what_is_left_out_reaches_nothing(xp: Backend) -> None:
    """NaN and labels out of range where `where` is False or the label is ignored."""
    x, t = CASES[0].draw()
    keep = np.ones((2, 4), bool)
    keep[0, 1] = keep[1, 3] = False
    options: dict[str, Any] = {"activation": "softmax", "axis": 1}
    broken, ignored = x.copy(), t.copy()
    broken[0, :, 1] = np.nan
    broken[1, :, 3] = np.inf
    ignored[~keep] = 255
    value, g = dice_loss.value_and_grad(xp.array(broken), xp.array(ignored), **options, ignore_index=255)
    again, h = dice_loss.value_and_grad(xp.array(broken), xp.array(ignored), **options, where=xp.array(keep))
    kept = np.moveaxis(x, 1, -1)[keep]
    expected, slope = dice_loss.value_and_grad(xp.array(kept), xp.array(t[keep]), activation="softmax", axis=-1)
    for a in (value, again):
        np.testing.assert_allclose(xp.numpy(a), xp.numpy(expected), rtol=1e-6)
    for a in (g, h):
        moved = np.moveaxis(xp.numpy(a), 1, -1)
        assert np.all(moved[~keep] == 0)
        np.testing.assert_allclose(moved[keep], xp.numpy(slope), rtol=1e-5, atol=1e-8)


def test_masks_with_ignored_entries(xp: Backend) -> None:
    """An entry of a sigmoid; all classes of an element under a softmax."""
    x, t = CASES[0].draw()
    mask = one_hot(t).astype(np.uint8)
    mask[0, 1, 2] = 255
    where = mask != 255
    for activation, counts in (("sigmoid", where), ("softmax", np.broadcast_to(where.all(axis=1, keepdims=True), SHAPE)[:, :1])):
        options: dict[str, Any] = {"activation": activation, "axis": 1}
        value = dice_loss(xp.array(x), xp.array(mask), **options, ignore_index=255)
        expected = dice_loss(xp.array(x), xp.array(np.where(where, mask, 0)), **options, where=xp.array(np.array(counts)))
        np.testing.assert_allclose(xp.numpy(value), xp.numpy(expected), rtol=1e-6)


def test_everything_left_out_is_zero(xp: Backend) -> None:
    x, t = CASES[0].draw()
    for smooth in (0.0, 1.0):
        value, g = dice_loss.value_and_grad(
            xp.array(np.full_like(x, np.nan)),
            xp.array(t),
            activation="softmax",
            axis=1,
            smooth=smooth,
            where=xp.array(np.zeros((2, 4), bool)),
        )
        assert float(xp.numpy(value)) == 0
        assert np.all(xp.numpy(g) == 0)


def test_weights_count_elements_again(xp: Backend) -> None:
    x, t = CASES[0].draw()
    weights = np.array([[1.0, 2.0, 0.0, 1.0], [3.0, 1.0, 1.0, 0.0]])
    rows = np.repeat(np.moveaxis(x, 1, -1).reshape(-1, 3), weights.flatten().astype(int), axis=0)
    labels = np.repeat(t.flatten(), weights.flatten().astype(int))
    value = dice_loss(xp.array(x), xp.array(t), activation="softmax", axis=1, weights=xp.array(weights))
    expected = dice_loss(xp.array(rows), xp.array(labels), activation="softmax", axis=1)
    np.testing.assert_allclose(xp.numpy(value), xp.numpy(expected), rtol=1e-6)


def test_nan_is_not_hidden(xp: Backend) -> None:
    x, t = CASES[0].draw()
    x = x.copy()
    x[0, 0, 0] = np.nan
    for options in ({"activation": "softmax"}, {"activation": "sigmoid"}):
        assert np.isnan(xp.numpy(dice_loss(xp.array(x), xp.array(t), axis=1, **options)))


def test_labels_out_of_range_raise_or_give_nan(xp: Backend) -> None:
    x, t = CASES[0].draw()
    t = t.copy()
    t[0, 0] = -1
    for activation in ("softmax", "sigmoid"):
        if xp.reads_labels:
            with pytest.raises(ValueError, match="integer targets must be labels from 0 to 2; got -1"):
                dice_loss(xp.array(x), xp.array(t), activation=activation, axis=1)
        else:
            assert np.isnan(xp.numpy(dice_loss(xp.array(x), xp.array(t), activation=activation, axis=1)))


def test_shapes_of_none(xp: Backend) -> None:
    x = xp.array(np.zeros((2, 3, 4, 5)))
    t = xp.array(np.zeros((2, 4, 5), np.int64))
    shapes = {
        (): (3,),
        (("pool_axes", (2, 3)),): (2, 3),
        (("pool_axes", (2, 3)), ("classes", (1, 2))): (2, 2),
        (("pool_axes", (1, 2, 3)),): (2,),
        (("pool_axes", (0, 1, 2, 3)),): (),
        (("classes", 2),): (1,),
    }
    for options, shape in shapes.items():
        value = dice_loss(x, t, activation="softmax", axis=1, reduction="none", **dict(options))
        assert tuple(value.shape) == shape
        total, g = dice_loss.value_and_grad(x, t, activation="softmax", axis=1, reduction="none", **dict(options))
        assert tuple(total.shape) == shape
        assert tuple(g.shape) == (2, 3, 4, 5)
    assert tuple(generalized_dice_loss(x, t, activation="softmax", axis=1, pool_axes=(2, 3), reduction="none").shape) == (2,)
    assert tuple(dice_loss(x, xp.array(np.zeros((2, 3, 4, 5), bool)), activation="sigmoid", reduction="none").shape) == ()


def test_labels_are_masks(xp: Backend) -> None:
    """Labels, labels with the class axis, boolean, integer and floating-point masks say the same, for every activation and axis."""
    x, t = CASES[0].draw()
    x = np.clip(np.abs(x), 0, 1)
    for activation in ("softmax", "sigmoid", None):
        expected = xp.numpy(dice_loss(xp.array(x), xp.array(t), activation=activation, axis=1))
        for other in (t[:, None], one_hot(t), one_hot(t).astype(np.int32), one_hot(t).astype(np.float64)):
            np.testing.assert_allclose(
                xp.numpy(dice_loss(xp.array(x), xp.array(other), activation=activation, axis=1)), expected, rtol=1e-6
            )
        moved = dice_loss(xp.array(np.moveaxis(x, 1, -1)), xp.array(t), activation=activation, axis=-1)
        np.testing.assert_allclose(xp.numpy(moved), expected, rtol=1e-6)


def test_absent_classes(xp: Backend) -> None:
    """Class 2 is not there: kept it weighs as any other, skipped it does not count, and its gradient is 0."""
    p = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
    t = np.array([0, 1])
    each = xp.numpy(dice_loss(xp.array(p), xp.array(t), activation=None, axis=1, reduction="none"))
    keep = dice_loss(xp.array(p), xp.array(t), activation=None, axis=1)
    skip, g = dice_loss.value_and_grad(xp.array(p), xp.array(t), activation=None, axis=1, absent="skip")
    np.testing.assert_allclose(xp.numpy(keep), each.mean(), rtol=1e-6)
    np.testing.assert_allclose(xp.numpy(skip), each[:2].mean(), rtol=1e-6)
    assert np.all(xp.numpy(g)[:, 2] == 0)


def test_an_absent_class_does_not_become_the_whole_generalized_dice(xp: Backend) -> None:
    """With 1 / T**2 and a tiny number below the line, class 2 would weigh 1e10 times as much as the others."""
    x = np.zeros((1, 3, 8))
    t = np.array([[0, 0, 0, 0, 1, 1, 0, 0]])
    value, g = generalized_dice_loss.value_and_grad(xp.array(x), xp.array(t), activation="softmax", axis=1, smooth=0.0)
    rare = [(2 / 6) ** 2, 1.0, 1.0]
    p, volume = 8 / 3, [6, 2, 0]
    expected = 1 - 2 * sum(w * v / 3 for w, v in zip(rare, volume, strict=True)) / sum(
        w * (p + v) for w, v in zip(rare, volume, strict=True)
    )
    np.testing.assert_allclose(xp.numpy(value), expected, rtol=1e-6)
    assert np.max(np.abs(xp.numpy(g)[:, 2])) < 4 * np.max(np.abs(xp.numpy(g)[:, 1]))
    skip = generalized_dice_loss(xp.array(x), xp.array(t), activation="softmax", axis=1, smooth=0.0, absent="skip")
    assert float(xp.numpy(skip)) < float(xp.numpy(value))
    nothing = np.zeros((1, 3, 8))
    value, g = generalized_dice_loss.value_and_grad(xp.array(x), xp.array(nothing), activation="softmax", axis=1, smooth=0.0)
    assert float(xp.numpy(value)) == 1
    assert np.all(np.isfinite(xp.numpy(g)))


def test_relations_in_the_family(xp: Backend) -> None:
    x, t = CASES[0].draw()
    args, shared = (xp.array(x), xp.array(t)), {"activation": "softmax", "axis": 1}
    dice, jaccard = (xp.numpy(f(*args, **shared, smooth=0.0, reduction="none")) for f in (dice_loss, jaccard_loss))
    np.testing.assert_allclose(1 - dice, 2 * (1 - jaccard) / (2 - jaccard), rtol=1e-5)
    tversky = tversky_loss(*args, **shared, alpha=0.5, beta=0.5, smooth=0.5)
    np.testing.assert_allclose(xp.numpy(tversky), xp.numpy(dice_loss(*args, **shared, smooth=1.0)), rtol=1e-6)
    focal = focal_tversky_loss(*args, **shared, alpha=0.3, beta=0.7, gamma=1.0)
    np.testing.assert_allclose(xp.numpy(focal), xp.numpy(tversky_loss(*args, **shared, alpha=0.3, beta=0.7)), rtol=1e-6)


def test_alpha_weighs_false_positives_and_beta_false_negatives(xp: Backend) -> None:
    target = xp.array(np.array([True, True, False, False]))
    invented, missed = xp.array(np.array([1.0, 1.0, 1.0, 0.0])), xp.array(np.array([1.0, 0.0, 0.0, 0.0]))
    loss = tversky_loss.bind(activation=None, alpha=0.25, beta=2.0, smooth=0.0)
    np.testing.assert_allclose(xp.numpy(loss(invented, target)), 1 - 2 / 2.25, rtol=1e-6)
    np.testing.assert_allclose(xp.numpy(loss(missed, target)), 1 - 1 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"activation": "tanh"}, ValueError, "activation must be None or 'sigmoid' or 'softmax'; got 'tanh'"),
        ({"activation": "softmax"}, ValueError, "axis must be named for activation='softmax': pass axis=1"),
        ({"activation": "sigmoid", "classes": 1}, ValueError, "classes needs a class axis: pass axis="),
        ({"activation": "sigmoid", "class_weights": (1, 2)}, ValueError, "class_weights needs classes: pass axis="),
        ({"activation": "softmax", "axis": 3}, ValueError, "axis must be from -3 to 2"),
        ({"activation": "softmax", "axis": 1, "classes": 3}, ValueError, "classes must be from -3 to 2"),
        ({"activation": "softmax", "axis": 1, "classes": (1, 1)}, ValueError, "classes must name at least one class, and each once"),
        ({"activation": "softmax", "axis": 1, "classes": ()}, ValueError, "classes must name at least one class, and each once"),
        ({"activation": "softmax", "axis": 1, "pool_axes": (0, 0)}, ValueError, "pool_axes must name an axis once"),
        ({"activation": "softmax", "axis": 1, "class_weights": (1, 2)}, ValueError, "one entry for each of the 3 classes"),
        ({"activation": "softmax", "axis": 1, "class_weights": 2.0}, TypeError, "class_weights must have one entry per class"),
        ({"activation": "softmax", "axis": 1, "class_weights": (1, 2, -1)}, ValueError, "class_weights must be at least 0; got -1"),
        ({"activation": "softmax", "axis": 1, "smooth": -1}, ValueError, "smooth must be at least 0; got -1"),
        ({"activation": "softmax", "axis": 1, "squared": 1}, ValueError, "squared must be True or False; got 1"),
        ({"activation": "softmax", "axis": 1, "absent": "drop"}, ValueError, "absent must be 'keep' or 'skip'; got 'drop'"),
        ({"activation": "softmax", "axis": 1, "reduction": "max"}, ValueError, "reduction must be 'mean' or 'sum' or 'none'; got 'max'"),
    ],
)
def test_errors_name_the_rule(options: dict[str, Any], error: type[Exception], message: str) -> None:
    x, t = np.zeros(SHAPE), np.zeros(SHAPE, bool)
    with pytest.raises(error, match=message):
        dice_loss(x, t, **options)


def test_more_errors() -> None:
    x, t = np.zeros(SHAPE), np.zeros(SHAPE, bool)
    with pytest.raises(TypeError, match="activation"):
        dice_loss(x, t)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="softmax needs at least two channels along axis 1"):
        dice_loss(x[:, :1], t[:, :1], activation="softmax", axis=1)
    with pytest.raises(ValueError, match="targets must have the shape of predictions"):
        dice_loss(x, t[:, 0], activation="sigmoid")
    with pytest.raises(TypeError, match="labels must be integers"):
        dice_loss(x, np.zeros((2, 4)), activation="softmax", axis=1)
    with pytest.raises(ValueError, match="a mask of 0 and 255 is"):
        dice_loss(x, 255 * t.astype(np.uint8) + np.uint8(255), activation="sigmoid")
    with pytest.raises(ValueError, match="gamma must be above 0; got 0"):
        focal_tversky_loss(x, t, activation="sigmoid", alpha=1, beta=1, gamma=0)
    with pytest.raises(ValueError, match="axis must be named for generalized_dice_loss"):
        generalized_dice_loss(x, t, activation="sigmoid")
    with pytest.raises(NotImplementedError, match="no curvature is defined"):
        dice_loss.grad_and_hess(x, t, activation="sigmoid")
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'sum' for parts"):
        dice_loss.parts(x, t, activation="sigmoid", reduction="none")
    with pytest.raises(TypeError, match="has no option 'normalizer'"):
        dice_loss.bind(normalizer="count")  # type: ignore[call-arg]


def test_parts_of_one_loss_are_no_other_loss() -> None:
    """All of them have tp, fp and fn, and a Jaccard loss of the parts of a Dice was the Dice."""
    from arrayloss import cross_entropy, jaccard_loss, metrics

    x, t = np.zeros((2, 3, 4)), np.ones((2, 4), dtype=np.int64)
    of_dice = dice_loss.parts(x, t, activation="softmax", axis=1)
    with pytest.raises(ValueError, match="parts must be those of jaccard_loss; got parts of dice_loss"):
        jaccard_loss.finish(of_dice)
    with pytest.raises(ValueError, match="parts must be those of dice_loss; got parts of softmax_cross_entropy"):
        dice_loss.finish(cross_entropy.parts(x, t, axis=1))
    with pytest.raises(ValueError, match="do not add: those of dice_loss and of jaccard_loss"):
        of_dice + jaccard_loss.parts(x, t, activation="softmax", axis=1)
    with pytest.raises(ValueError, match="parts of dice_loss with different options do not add"):
        of_dice + dice_loss.parts(x, t, activation="softmax", axis=1, smooth=0.5)
    with pytest.raises(ValueError, match="parts must be those of dice_loss; got parts of no loss"):
        dice_loss.finish(metrics.confusion(x, t, activation="softmax", axis=1))
    whole = dice_loss.bind(activation="softmax", axis=1)
    np.testing.assert_allclose(dice_loss.finish(of_dice), whole(x, t), rtol=1e-15)
