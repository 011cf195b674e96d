"""What the generated kernels promise beside their numbers: launches, memory, layouts, and that new numbers need no new kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import arrayloss as al
from arrayloss import define

from .on_double import cupy, cupy_cpu, measured

LARGE = 40_000  # elements: a sum of several blocks

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=LARGE).astype(np.float32), RNG.integers(0, 2, size=LARGE)
W, MASK = RNG.uniform(0.5, 2.0, size=LARGE).astype(np.float32), RNG.uniform(size=LARGE) < 0.7
ROWS, LABELS = RNG.normal(size=(300, 40)).astype(np.float32) * 3, RNG.integers(0, 40, size=300)


ROW_LOSSES = [al.softmax_cross_entropy, al.softmax_focal_loss, al.nll_loss]
MARGIN_AND_ROW_LOSSES = [al.multi_margin_loss, *ROW_LOSSES]
ENTRY_LOSSES = [al.sigmoid_cross_entropy, al.sigmoid_focal_loss, al.squared_error, al.huber_loss]


def names(losses: list[Any]) -> list[str]:
    return [loss.name for loss in losses]


def moved(*arrays: Any) -> list[Any]:
    return [cupy.asarray(a) for a in arrays]


@pytest.mark.parametrize("classes", [31, 32, 1000, 2048, 5001])  # a thread, a warp or a block walks over a row
@pytest.mark.parametrize("loss", MARGIN_AND_ROW_LOSSES, ids=names(MARGIN_AND_ROW_LOSSES))
def test_rows_of_any_length(loss: Any, classes: int) -> None:
    rng = np.random.default_rng(classes)
    x, labels = rng.normal(size=(37, classes)).astype(np.float32) * 3, rng.integers(0, classes, size=37)
    x[3, [classes // 2, -1]] = 20  # the largest one twice, in different warps
    x[5, 7] = -np.inf if loss is not al.multi_margin_loss else -9
    value, gradient = loss.value_and_grad(*moved(x, labels))
    expected, slopes = loss.value_and_grad(x.astype(np.float64), labels)
    assert_allclose(value.get(), expected, rtol=1e-6)
    assert_allclose(gradient.get(), slopes, rtol=1e-5, atol=1e-8)


def compiled() -> int:
    """How many kernels have been compiled or fetched from the disk."""
    return int(cupy_cpu.log["compiled"] + cupy_cpu.log["cache_hits"])


@pytest.mark.parametrize("loss", ENTRY_LOSSES, ids=names(ENTRY_LOSSES))
def test_a_mean_is_two_launches_and_its_gradient_a_third(loss: Any) -> None:
    x, t = moved(X, T)
    value, taken = measured(loss, x, t)
    casts = int(loss in (al.squared_error, al.huber_loss))  # of integer targets
    assert taken["launches"] == 2 + casts
    assert taken["peak_bytes"] < 4 * LARGE // 8 + casts * 4 * LARGE  # nothing of the size of the predictions
    assert_allclose(value.get(), loss(X.astype(np.float64), T), rtol=1e-6)
    (_, gradient), taken = measured(loss.value_and_grad, x, t)
    assert taken["launches"] == 3 + casts
    assert taken["peak_bytes"] < (1 + casts) * gradient.nbytes + 4 * LARGE // 8
    assert taken["h2d"] == 0


def test_a_weighted_masked_mean_is_three_launches_and_its_gradient_a_fourth() -> None:
    x, t, w, mask = moved(X, T, W, MASK)
    value, taken = measured(al.sigmoid_focal_loss, x, t, weights=w, where=mask)
    assert taken["launches"] == 3
    (again, gradient), taken = measured(al.sigmoid_focal_loss.value_and_grad, x, t, weights=w, where=mask)
    assert taken["launches"] == 4
    assert taken["peak_bytes"] < gradient.nbytes + 4 * LARGE // 4
    expected, slope = al.sigmoid_focal_loss.value_and_grad(X.astype(np.float64), T, weights=W.astype(np.float64), where=MASK)
    assert_allclose(value.get(), expected, rtol=1e-6)
    assert_allclose(again.get(), expected, rtol=1e-6)
    assert_allclose(gradient.get(), slope, rtol=1e-5, atol=1e-12)
    assert_array_equal(gradient.get()[~MASK], 0)


@pytest.mark.parametrize("loss", ROW_LOSSES, ids=names(ROW_LOSSES))
def test_rows_share_their_statistics_in_one_kernel(loss: Any) -> None:
    x, t = moved(ROWS, LABELS)
    (value, gradient), taken = measured(loss.value_and_grad, x, t)
    assert taken["launches"] <= 3
    assert taken["peak_bytes"] < gradient.nbytes + 4096
    expected, slope = loss.value_and_grad(ROWS.astype(np.float64), LABELS)
    assert_allclose(value.get(), expected, rtol=1e-6)
    assert_allclose(gradient.get(), slope, rtol=2e-5, atol=1e-12)


def regions(shape: tuple[int, ...], axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels."""
    return RNG.normal(size=shape).astype(np.float32), RNG.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((2, 4, 50, 50), 1), ((2, 21, 40, 40), 1), ((1, 70, 40, 40), 1), ((3, 50, 40, 33), 3), ((3, 15, 15, 300), 3), ((200, 5), 1)],
    ids=str,
)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_an_overlap_is_at_most_three_launches_and_its_gradient_a_fourth(shape: tuple[int, ...], axis: int, activation: str) -> None:
    """Sums for every class side by side, in one pass over the rows or in several; a row for a thread, or for a warp."""
    x, t = regions(shape, axis)
    options: dict[str, Any] = {"activation": activation, "axis": axis}
    value, taken = measured(al.dice_loss, *moved(x, t), **options)
    assert taken["launches"] <= 3
    (again, gradient), taken = measured(al.dice_loss.value_and_grad, *moved(x, t), **options)
    assert taken["launches"] <= 4
    assert taken["h2d"] == 0
    assert taken["peak_bytes"] < gradient.nbytes + 2**20
    expected, slope = al.dice_loss.value_and_grad(x.astype(np.float64), t, **options)
    assert_allclose(value.get(), expected, rtol=1e-6)
    assert value.get() == again.get()
    assert_allclose(gradient.get(), slope, rtol=1e-4, atol=1e-6 * np.abs(slope).max())


OVERLAPS: dict[str, dict[str, Any]] = {
    "sum": {"reduction": "sum"},
    "per sample": {"pool_axes": (2, 3)},
    "losses": {"pool_axes": (2, 3), "reduction": "none"},
    "rows pooled": {"pool_axes": (0, 3)},
    "class weights": {"class_weights": (1.0, 0.5, 2.0, 0.0, 3.0), "pool_axes": (2, 3)},
    "array of class weights": {"class_weights": np.array([1.0, 0.5, 2.0, 0.0, 3.0])},
    "without background": {"classes": (1, 2, 3, 4), "pool_axes": (2, 3), "class_weights": (1.0, 0.5, 2.0, 0.0, 3.0)},
    "two classes": {"classes": (3, 0)},
    "one class": {"classes": (1,), "reduction": "none"},
    "classes pooled": {"pool_axes": (1, 2, 3)},
    "everything pooled": {"pool_axes": (0, 1, 2, 3)},
    "classes pooled, losses": {"pool_axes": (1, 2, 3), "reduction": "none"},
    "absent classes": {"absent": "skip", "pool_axes": (2, 3)},
    "ignored": {"ignore_index": (0, 255)},
    "array parameter": {"smooth": np.asarray(0.25)},
}


PICKED = ("without background", "two classes", "one class")  # classes are picked by array calls, from a handful of sums


@pytest.mark.parametrize("name", OVERLAPS)
def test_options_of_overlaps_add_no_launches(name: str) -> None:
    x, t = regions((3, 5, 4, 6), 1)
    t[:, 0, :2], t[1][t[1] == 2] = 255 if name == "ignored" else 1, 1
    options: dict[str, Any] = {"activation": "softmax", "axis": 1, **OVERLAPS[name]}
    there = {k: cupy.asarray(v.astype(np.float32)) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    (value, gradient), taken = measured(al.dice_loss.value_and_grad, *moved(x, t), **there)
    assert taken["launches"] <= (75 if name in PICKED else 3)
    expected, slope = al.dice_loss.value_and_grad(x.astype(np.float64), t, **options)
    assert_allclose(value.get(), expected, rtol=2e-6)
    assert_allclose(gradient.get(), slope, rtol=1e-4, atol=1e-6 * np.abs(slope).max())


def test_another_batch_size_or_parameter_needs_no_new_kernel() -> None:
    x, t = moved(X, T)
    first = al.sigmoid_focal_loss.value_and_grad(x, t, gamma=1.25, alpha=0.3, weights=2.5)
    before = compiled()
    other = al.sigmoid_focal_loss.value_and_grad(x[: LARGE - 17], t[: LARGE - 17], gamma=1.75, alpha=0.2, weights=4.5)
    assert compiled() == before
    assert float(first[0]) != float(other[0])


def test_a_second_call_plans_nothing() -> None:
    from arrayloss.engine.cuda import launcher

    plans = [getattr(launcher, name).cache_info for name in ("forward_plan", "finish_plan", "gradient_plan")]
    x, t = moved(*regions((2, 3, 4, 4), 1))
    for _ in range(2):
        before = [info().misses for info in plans]
        al.dice_loss.value_and_grad(x, t, activation="softmax", axis=1, smooth=0.125)
    assert [info().misses for info in plans] == before


def layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    """The same numbers, laid out otherwise."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return {
        "fortran": np.asfortranarray(x),
        "every second": wide[..., ::2],
        "backwards": x[::-1].copy()[::-1],
        "inner backwards": np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    }


def strided(a: np.ndarray) -> Any:
    """A NumPy view as a CuPy view with the same strides."""
    base = a
    while isinstance(base.base, np.ndarray):
        base = base.base
    offset = a.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    there = cupy.asarray(np.ascontiguousarray(base.ravel(order="K")))
    return cupy.ndarray(a.shape, a.dtype, memptr=there.data + offset, strides=a.strides)


@pytest.mark.parametrize("name", layouts(ROWS))
def test_layouts_give_the_same_numbers(name: str) -> None:
    a = layouts(ROWS)[name]
    x, labels, masks = strided(a), cupy.asarray(LABELS), cupy.asarray((ROWS > 0.3).astype(np.int8))
    assert x.strides == a.strides
    assert_array_equal(x.get(), ROWS)
    for loss, t, options in (
        (al.softmax_cross_entropy, labels, {}),
        (al.sigmoid_cross_entropy, masks, {}),
        (al.dice_loss, labels, {"activation": "softmax", "axis": 1}),
    ):
        straight = loss.value_and_grad(cupy.asarray(ROWS), t, **options)
        (value, gradient), _ = measured(loss.value_and_grad, x, t, **options)
        assert_allclose(value.get(), straight[0].get(), rtol=1e-6)
        assert_allclose(gradient.get(), straight[1].get(), rtol=1e-5, atol=1e-10)


def test_classes_in_the_middle_with_everything_broadcast() -> None:
    x, labels = regions((3, 5, 4, 6), 1)
    labels[0, 0, :3] = 255
    weights, where = RNG.uniform(1, 2, size=(3, 1, 6)).astype(np.float32), RNG.uniform(size=(1, 4, 6)) < 0.7
    options: dict[str, Any] = {"axis": 1, "ignore_index": 255, "class_weights": (1.0, 0.5, 2.0, 1.0, 3.0), "label_smoothing": 0.125}
    options["reduce_axes"] = (2, 3)
    expected = al.softmax_cross_entropy.value_and_grad(
        x.astype(np.float64), labels, weights=weights.astype(np.float64), where=where, **options
    )
    there = moved(x, labels.astype(np.uint8), weights, where)
    (value, gradient), taken = measured(al.softmax_cross_entropy.value_and_grad, *there[:2], weights=there[2], where=there[3], **options)
    assert taken["launches"] <= 4
    assert_allclose(value.get(), expected[0], rtol=2e-6)
    assert_allclose(gradient.get(), expected[1], rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("loss", ROW_LOSSES, ids=names(ROW_LOSSES))
def test_arrays_of_size_one(loss: Any, keepdims: bool) -> None:
    """Axes of size 1, of elements and of labels."""
    for shape in ((1, 3), (4, 2), (1, 2)):
        x, t = RNG.normal(size=shape).astype(np.float32), np.zeros(shape[:1] + (1,) * keepdims, np.int32)
        (value, gradient), taken = measured(loss.value_and_grad, *moved(x, t))
        assert taken["launches"] <= 2
        expected, slope = loss.value_and_grad(x.astype(np.float64), t)
        assert_allclose(value.get(), expected, rtol=1e-6)
        assert_allclose(gradient.get(), slope, rtol=1e-5, atol=1e-7)


def test_masks_of_one_channel_and_a_single_number() -> None:
    x, t = RNG.normal(size=(2, 1, 5)).astype(np.float32), RNG.integers(0, 2, (2, 5))
    for loss, x_, t_, options in (
        (al.dice_loss, x, t, {"activation": "sigmoid", "axis": 1}),
        (al.dice_loss, x, t, {"activation": "sigmoid", "axis": 1, "pool_axes": 2, "reduction": "none"}),
        (al.huber_loss, x[0, 0, 0], x[1, 0, 0], {}),
        (al.softmax_cross_entropy, x[0, 0], np.asarray(2), {}),
    ):
        (value, gradient), taken = measured(loss.value_and_grad, *moved(x_, t_), **options)
        assert taken["launches"] <= 3
        expected, slope = loss.value_and_grad(np.asarray(x_, np.float64), np.asarray(t_), **options)
        assert_allclose(value.get(), expected, rtol=1e-6)
        assert_allclose(gradient.get(), slope, rtol=1e-5)


def test_empty_arrays() -> None:
    x = np.zeros((0, 3), np.float32)
    for loss, shape in ((al.sigmoid_cross_entropy, (0, 3)), (al.softmax_cross_entropy, (0,))):
        (value, gradient), _ = measured(loss.value_and_grad, *moved(x, np.zeros(shape, np.int64)))
        assert float(value) == 0
        assert gradient.shape == x.shape


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
@pytest.mark.parametrize("classes", [3, 40])
def test_a_label_out_of_range_is_masked_before_it_is_gathered(dtype: Any, classes: int) -> None:
    x = ROWS[:4, :classes]
    wrong = [classes, np.iinfo(dtype).max, np.iinfo(dtype).min] if np.iinfo(dtype).min < 0 else [classes, np.iinfo(dtype).max, 200]
    labels = np.array([1, *wrong], dtype=dtype)
    (value, gradient), _ = measured(al.softmax_cross_entropy.value_and_grad, *moved(x, labels), reduction="none")
    assert_array_equal(np.isnan(value.get()), [False, True, True, True])
    assert_array_equal(np.isnan(gradient.get()).all(axis=1), [False, True, True, True])
    losses, _ = measured(al.dice_loss, *moved(x, labels), activation="softmax", axis=1, pool_axes=(), reduction="none")
    assert_array_equal(np.isnan(losses.get()).all(axis=1), [False, True, True, True])


@pytest.mark.parametrize("classes", [4, 40])
def test_the_first_maximum_a_nan_and_infinities(classes: int) -> None:
    rows = np.zeros((6, classes), np.float32)
    rows[0, [1, 3]] = 7  # two maxima
    rows[1, 2] = np.nan
    rows[2, 1] = np.inf
    rows[3] = -np.inf
    rows[3, 2] = 0
    rows[4] = -np.arange(classes) * 30  # confident
    labels = np.asarray([3, 0, 1, 2, 0, 1])
    (value, gradient), _ = measured(al.softmax_cross_entropy.value_and_grad, *moved(rows, labels), reduction="none")
    expected = al.softmax_cross_entropy.value_and_grad(rows.astype(np.float64), labels, reduction="none")
    assert_allclose(value.get(), expected[0], rtol=1e-6)
    assert_allclose(gradient.get(), expected[1], rtol=1e-5, atol=1e-45)  # what float32 cannot hold is 0


def test_sums_of_halves_do_not_overflow() -> None:
    x, t = np.full(LARGE, 30.0, np.float16), np.zeros(LARGE, np.float16)
    for array in (x, x.astype(ml_dtypes.bfloat16)):
        total, _ = measured(al.squared_error, *moved(array, t.astype(array.dtype)), reduction="sum")
        assert total.dtype == np.float32
        assert float(total) == 900.0 * LARGE


def test_the_same_call_gives_the_same_bits() -> None:
    x, t = moved(X, T)
    assert len({float(al.sigmoid_focal_loss(x, t)) for _ in range(3)}) == 1


def test_a_normalizer_on_the_device_stays_there() -> None:
    x, t = moved(X, T)
    positives = cupy.asarray(np.float32(T.sum()))
    (value, gradient), taken = measured(al.sigmoid_focal_loss.value_and_grad, x, t, normalizer=positives)
    assert taken["launches"] <= 4
    expected, slope = al.sigmoid_focal_loss.value_and_grad(X.astype(np.float64), T, normalizer=float(T.sum()))
    assert_allclose(value.get(), expected, rtol=1e-6)
    assert_allclose(gradient.get(), slope, rtol=1e-5, atol=1e-12)


def test_a_mean_over_nothing_is_zero() -> None:
    x, t = moved(X, T)
    for options in ({"normalizer": 0.0}, {"normalizer": cupy.zeros(())}, {"where": cupy.zeros(1, bool)}):
        (value, gradient), _ = measured(al.sigmoid_focal_loss.value_and_grad, x, t, **options)
        assert float(value) == 0
        assert not gradient.any()


def sorted_difference(xp: Any, x: Any, t: Any) -> Iterator[Any]:
    r = xp.sort(x, axis=-1) - t
    yield r * r
    yield 2 * r


def transposed(xp: Any, x: Any, t: Any) -> Iterator[Any]:
    yield (x.T * t.T).T
    yield (t.T + 0 * x.T).T


def item_by_item(xp: Any, x: Any, t: Any) -> Iterator[Any]:
    yield xp.stack([x[i, ...] * t[i, ...] for i in range(x.shape[0])])
    yield xp.stack([t[i, ...] for i in range(x.shape[0])])


def cumulated(xp: Any, x: Any, t: Any) -> Iterator[Any]:
    yield x * xp.cumulative_sum(t, axis=1)
    yield xp.cumulative_sum(t, axis=1)


def very_long(xp: Any, x: Any, t: Any) -> Iterator[Any]:
    for _ in range(1500):
        x = x * 1.0 + 0.0
    yield x * t
    yield t


@pytest.mark.parametrize("kernel", [sorted_difference, transposed, item_by_item, cumulated, very_long])
def test_a_formula_that_cannot_be_one_kernel_runs_as_array_calls(kernel: Any) -> None:
    loss = define.loss(lambda predictions, targets, **options: define.elementwise(kernel, predictions, targets, options))
    x, t = RNG.normal(size=(4, 5)), RNG.normal(size=(4, 5))
    (value, gradient), _ = measured(loss.value_and_grad, *moved(x, t))
    expected, slope = loss.value_and_grad(x, t)
    assert_allclose(value.get(), expected, rtol=1e-12)
    assert_allclose(gradient.get(), slope, rtol=1e-12)


def test_another_device_is_an_error_that_names_both() -> None:
    class Elsewhere(cupy.ndarray):
        device = "<CUDA Device 1>"

    x = cupy.asarray(X)
    with pytest.raises(ValueError, match="targets must be on the device of the predictions, <CUDA Device 0>; got <CUDA Device 1>"):
        al.squared_error(x, cupy.asarray(T).view(Elsewhere))


def test_dlpack_there_and_back_copies_nothing() -> None:
    """The bridge to the gradient of another library."""
    x, t = moved(X, T)
    lent = cupy.from_dlpack(x)
    assert lent.data.ptr == x.data.ptr
    (_, gradient), taken = measured(al.sigmoid_focal_loss.value_and_grad, lent, t)
    back = cupy.from_dlpack(gradient)
    assert back.data.ptr == gradient.data.ptr
    assert taken["h2d"] == taken["d2d"] == 0


def test_what_the_blocks_find_is_added_up_in_float64() -> None:
    """One float32 entry among many, each of which is lost beside it in float32."""
    x = np.full(LARGE, 2.0**-12, np.float32)
    x[-1] = 2.0**15
    total, taken = measured(al.squared_error, cupy.asarray(x), cupy.zeros(LARGE, np.float32), reduction="sum")
    assert taken["launches"] == 2
    assert float(total) == np.float32(2.0**30 + (LARGE - 1) * 2.0**-24)
    parts, _ = measured(al.squared_error.parts, cupy.asarray(x), cupy.zeros(LARGE, np.float32))
    assert float(parts.total) == pytest.approx(2.0**30 + (LARGE - 1) * 2.0**-24, rel=1e-15)
    assert int(parts.count) == LARGE


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_mean_of_three_thousand_million_elements_is_exact(dtype: str) -> None:
    """The same parts are doubled, for few additions. Those of 16 bits were float32."""
    sixty_fourths = np.arange(LARGE) % 200
    x = cupy.asarray((sixty_fourths / 64).astype(dtype))
    parts, n = al.squared_error.parts(x, cupy.zeros_like(x)), LARGE
    while n < 3e9:
        parts, n = parts + parts, 2 * n
    mean = float((sixty_fourths**2).sum()) / 64**2 / LARGE
    assert int(parts.count) == int(parts.unstack(parts.stack()).count) == n
    assert abs(float(al.squared_error.finish(parts)) - mean) <= 2 * np.spacing(np.float32(mean))
