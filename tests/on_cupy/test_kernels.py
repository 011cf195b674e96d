"""What the generated kernels promise beside their numbers: launches, memory, layouts, and that new numbers need no new kernel."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from double import cupy_cpu, measured
from numpy.testing import assert_allclose, assert_array_equal

import arrayloss as al
from arrayloss.adapters import cuda

cupy = pytest.importorskip("cupy")
LARGE = 40_000  # elements: a sum of several blocks

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=LARGE).astype(np.float32), RNG.integers(0, 2, size=LARGE)
W, KEEP = RNG.uniform(0.5, 2.0, size=LARGE).astype(np.float32), RNG.uniform(size=LARGE) < 0.7
ROWS, LABELS = RNG.normal(size=(300, 40)).astype(np.float32) * 3, RNG.integers(0, 40, size=300)


def moved(*arrays: Any) -> list[Any]:
    return [cupy.asarray(a) for a in arrays]


def compiled() -> int:
    """How many kernels have been compiled or fetched from the disk."""
    return cupy_cpu.log["compiled"] + cupy_cpu.log["cache_hits"]


@pytest.mark.parametrize("loss", [al.sigmoid_cross_entropy, al.sigmoid_focal_loss, al.squared_error, al.huber_loss])
def test_a_mean_is_two_launches_and_its_gradient_a_third(loss: Any) -> None:
    x, t = moved(X, T)
    value, took = measured(loss, x, t)
    casts = int(loss in (al.squared_error, al.huber_loss))  # of integer targets
    assert took["launches"] == 2 + casts
    assert took["peak_bytes"] < 4 * LARGE // 8 + casts * 4 * LARGE  # nothing of the size of the predictions
    assert_allclose(value.get(), loss(X.astype(np.float64), T), rtol=1e-6)
    (_, gradient), took = measured(loss.value_and_grad, x, t)
    assert took["launches"] == 3 + casts
    assert took["peak_bytes"] < (1 + casts) * gradient.nbytes + 4 * LARGE // 8
    assert took["h2d"] == 0


def test_a_weighted_masked_mean_is_three_launches_and_its_gradient_a_fourth() -> None:
    x, t, w, keep = moved(X, T, W, KEEP)
    value, took = measured(al.sigmoid_focal_loss, x, t, weights=w, where=keep)
    assert took["launches"] == 3
    (again, gradient), took = measured(al.sigmoid_focal_loss.value_and_grad, x, t, weights=w, where=keep)
    assert took["launches"] == 4
    assert took["peak_bytes"] < gradient.nbytes + 4 * LARGE // 4
    expected, slope = al.sigmoid_focal_loss.value_and_grad(X.astype(np.float64), T, weights=W.astype(np.float64), where=KEEP)
    assert_allclose(value.get(), expected, rtol=1e-6)
    assert_allclose(again.get(), expected, rtol=1e-6)
    assert_allclose(gradient.get(), slope, rtol=1e-5, atol=1e-12)
    assert_array_equal(gradient.get()[~KEEP], 0)


@pytest.mark.parametrize("loss", [al.softmax_cross_entropy, al.softmax_focal_loss])
def test_rows_share_their_statistics_in_one_kernel(loss: Any) -> None:
    x, t = moved(ROWS, LABELS)
    (value, gradient), took = measured(loss.value_and_grad, x, t)
    assert took["launches"] <= 3
    assert took["peak_bytes"] < gradient.nbytes + 4096
    expected, slope = loss.value_and_grad(ROWS.astype(np.float64), LABELS)
    assert_allclose(value.get(), expected, rtol=1e-6)
    assert_allclose(gradient.get(), slope, rtol=2e-5, atol=1e-12)


def test_another_batch_size_or_parameter_needs_no_new_kernel() -> None:
    x, t = moved(X, T)
    first = al.sigmoid_focal_loss.value_and_grad(x, t, gamma=1.25, alpha=0.3, weights=2.5)
    before = compiled()
    other = al.sigmoid_focal_loss.value_and_grad(x[: LARGE - 17], t[: LARGE - 17], gamma=1.75, alpha=0.2, weights=4.5)
    assert compiled() == before
    assert float(first[0]) != float(other[0])


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
    x, t = strided(a), cupy.asarray(LABELS)
    assert x.strides == a.strides
    assert_array_equal(x.get(), ROWS)
    for loss, targets in ((al.softmax_cross_entropy, t), (al.sigmoid_cross_entropy, cupy.asarray((ROWS > 0.3).astype(np.int8)))):
        straight = loss.value_and_grad(cupy.asarray(ROWS), targets)
        (value, gradient), _ = measured(loss.value_and_grad, x, targets)
        assert_allclose(value.get(), straight[0].get(), rtol=1e-6)
        assert_allclose(gradient.get(), straight[1].get(), rtol=1e-5, atol=1e-12)


def test_classes_in_the_middle_with_everything_broadcast() -> None:
    x = RNG.normal(size=(3, 5, 4, 6)).astype(np.float32)
    labels = RNG.integers(0, 5, size=(3, 4, 6))
    labels[0, 0, :3] = 255
    weights, where = RNG.uniform(1, 2, size=(3, 1, 6)).astype(np.float32), RNG.uniform(size=(1, 4, 6)) < 0.7
    options: dict[str, Any] = {"axis": 1, "ignore_index": 255, "class_weights": (1.0, 0.5, 2.0, 1.0, 3.0), "label_smoothing": 0.125}
    expected = al.softmax_cross_entropy.value_and_grad(
        x.astype(np.float64), labels, weights=weights.astype(np.float64), where=where, reduce_axes=(2, 3), **options
    )
    there = moved(x, labels.astype(np.uint8), weights, where)
    (value, gradient), took = measured(
        al.softmax_cross_entropy.value_and_grad, *there[:2], weights=there[2], where=there[3], reduce_axes=(2, 3), **options
    )
    assert took["launches"] <= 4
    assert_allclose(value.get(), expected[0], rtol=2e-6)
    assert_allclose(gradient.get(), expected[1], rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
@pytest.mark.parametrize("classes", [3, 40])
def test_a_label_out_of_range_is_masked_before_it_is_gathered(dtype: Any, classes: int) -> None:
    x = ROWS[:4, :classes]
    wrong = [classes, np.iinfo(dtype).max, np.iinfo(dtype).min] if np.iinfo(dtype).min < 0 else [classes, np.iinfo(dtype).max, 200]
    labels = np.array([1, *wrong], dtype=dtype)
    (value, gradient), _ = measured(al.softmax_cross_entropy.value_and_grad, *moved(x, labels), reduction="none")
    assert_array_equal(np.isnan(value.get()), [False, True, True, True])
    assert_array_equal(np.isnan(gradient.get()).all(axis=1), [False, True, True, True])


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


def test_sums_do_not_depend_on_who_else_runs() -> None:
    x, t = moved(X, T)
    assert len({float(al.sigmoid_focal_loss(x, t)) for _ in range(3)}) == 1


def test_a_gradient_is_scaled_by_an_array_that_stays_on_the_device() -> None:
    x, t = moved(X, T)
    positives = cupy.asarray(np.float32(T.sum()))
    (value, gradient), took = measured(al.sigmoid_focal_loss.value_and_grad, x, t, normalizer=positives)
    assert took["launches"] <= 4
    expected, slope = al.sigmoid_focal_loss.value_and_grad(X.astype(np.float64), T, normalizer=float(T.sum()))
    assert_allclose(value.get(), expected, rtol=1e-6)
    assert_allclose(gradient.get(), slope, rtol=1e-5, atol=1e-12)


def test_a_formula_that_cannot_be_one_kernel_runs_as_array_calls() -> None:
    from arrayloss.core.call import Call
    from arrayloss.core.inputs import Inputs

    def sorted_difference(xp: Any, x: Any, t: Any) -> Any:
        r = xp.sort(x, axis=-1) - t
        yield r * r
        yield 2 * r

    inputs = Inputs(predictions=cupy.asarray(X))
    call: Any = inputs.call(sorted_difference, inputs.targets(cupy.asarray(W)))
    assert isinstance(call, Call)
    (value, gradient), _ = measured(call.value_and_grad)
    assert_allclose(value.get(), np.mean((np.sort(X).astype(np.float64) - W) ** 2), rtol=1e-6)
    assert_allclose(gradient.get(), 2 * (np.sort(X) - W) / LARGE, rtol=1e-4, atol=1e-12)


def test_another_device_is_an_error_that_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(cupy.ndarray):  # type: ignore[misc]
        device = "<CUDA Device 1>"

    x = cupy.asarray(X)
    with pytest.raises(ValueError, match="targets must be on the device of the predictions, <CUDA Device 0>; got <CUDA Device 1>"):
        al.squared_error(x, cupy.asarray(T).view(Elsewhere))


def test_dlpack_there_and_back_copies_nothing() -> None:
    """The bridge to the gradient of another library."""
    x, t = moved(X, T)
    lent = cupy.from_dlpack(x)
    assert lent.data.ptr == x.data.ptr
    (_, gradient), took = measured(al.sigmoid_focal_loss.value_and_grad, lent, t)
    back = cupy.from_dlpack(gradient)
    assert back.data.ptr == gradient.data.ptr
    assert took["h2d"] == took["d2d"] == 0


def test_the_gather_of_blocks_takes_its_sums_in_one_order() -> None:
    kernel = cuda.gather(("float32", "int64"), False)
    assert kernel.parameters == ("x0", "workers", "y0", "y1")
    parts = np.asarray([[1e16, 1.0, -1e16], [1.0, 2.0, 3.0]])
    x, y0, y1 = cupy.asarray(parts), cupy.zeros(1, np.float32), cupy.zeros(1, np.int64)
    cupy.RawKernel(kernel.source, kernel.name)((1,), (32,), (x, 3, y0, y1))
    assert int(y1[0]) == 6
    assert math.isfinite(float(y0[0]))
