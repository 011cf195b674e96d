"""Dask: nothing is computed until it is asked for, however the arrays are chunked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from drawn import FIRST, Case

from arrayloss import softmax_cross_entropy

CHUNKS = [(2, 3), (5, 1), (2, 1)]


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("something was computed")


@pytest.fixture(autouse=True)
def lazy() -> Iterator[None]:
    """A scheduler that raises; tests compute with one of their own."""
    with dask.config.set(scheduler=refuse):
        yield


def compute(*arrays: Any) -> Any:
    return dask.compute(*arrays, scheduler="synchronous")


def drawn(case: Case, chunks: tuple[int, int]) -> tuple[Any, Any, Any]:
    predictions, targets = case.draw(5)
    lazily = [*(da.from_array(p, chunks=chunks) for p in predictions), da.from_array(targets, chunks=chunks[: targets.ndim])]
    return predictions, targets, lazily


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize("case", FIRST, ids=str)
def test_value_and_gradient_of_chunks_are_those_of_numpy(case: Case, chunks: tuple[int, int]) -> None:
    predictions, targets, lazily = drawn(case, chunks)
    value, gradient = case.loss.value_and_grad(*lazily, **case.options)
    gradients = gradient if case.several else (gradient,)
    assert isinstance(value, da.Array)
    assert all(isinstance(g, da.Array) and g.shape == predictions[0].shape for g in gradients)
    again = case.loss(*lazily, **case.options)
    got, also, *slopes = compute(value, again, *gradients)
    expected, exact = case.loss.value_and_grad(*predictions, targets, **case.options)
    np.testing.assert_allclose([got, also], expected, rtol=1e-13)
    for s, e in zip(slopes, exact if case.several else (exact,), strict=True):
        np.testing.assert_allclose(s, e, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_parts_are_lazy_and_add(case: Case) -> None:
    predictions, targets, lazily = drawn(case, (2, 3))
    halves = [case.loss.parts(*(a[s] for a in lazily), **case.options) for s in (slice(0, 3), slice(3, 5))]
    value, count = compute(case.loss.finish(sum(halves)), sum(halves).count)
    np.testing.assert_allclose(value, case.loss(*predictions, targets, **case.options), rtol=1e-13)
    assert count == case.loss.parts(*predictions, targets, **case.options).count


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_are_those_of_numpy(dtype: str) -> None:
    x = np.linspace(-2, 2, 15, dtype=dtype).reshape(5, 3)
    t = np.array([0, 1, 2, 1, 0])
    options: dict[str, Any] = {"class_weights": (1.0, 2.0, 3.0), "weights": 0.5, "ignore_index": 1}
    lazily = da.from_array(x, chunks=(2, 3)), da.from_array(t, chunks=2)
    for reduction in ("mean", "sum", "none"):
        here = softmax_cross_entropy.value_and_grad(x, t, reduction=reduction, **options)
        there = softmax_cross_entropy.value_and_grad(*lazily, reduction=reduction, **options)
        for promised, computed, expected in zip(there, compute(*there), here, strict=True):
            assert promised.dtype == np.asarray(computed).dtype == np.asarray(expected).dtype
            np.testing.assert_allclose(computed, expected, rtol=1e-6)
    parts = softmax_cross_entropy.parts(*lazily, **options)
    for promised, computed, expected in zip(
        parts.arrays, compute(*parts.arrays), softmax_cross_entropy.parts(x, t, **options).arrays, strict=True
    ):
        assert promised.dtype == np.asarray(computed).dtype == np.asarray(expected).dtype


def test_value_and_gradient_share_their_work() -> None:
    reads = []

    def read(block: np.ndarray) -> np.ndarray:
        reads.append(block.shape)
        return block

    x = da.from_array(np.linspace(-2, 2, 24).reshape(8, 3), chunks=(2, 3)).map_blocks(read, meta=np.empty((0, 0)))
    t = da.from_array(np.array([0, 1, 2, 1, 0, 0, 1, 2]), chunks=2)
    reads.clear()
    compute(*softmax_cross_entropy.value_and_grad(x, t))
    assert len(reads) == 4


def test_labels_out_of_range_are_nan() -> None:
    x = da.zeros((3, 4), chunks=(2, 4))
    losses = softmax_cross_entropy(x, da.from_array(np.array([0, 4, -1]), chunks=2), reduction="none")
    assert np.isnan(compute(losses)[0]).tolist() == [False, True, True]


def test_other_arrays_are_refused_with_the_conversion() -> None:
    with pytest.raises(
        TypeError, match=r"targets is a numpy ndarray beside .* dask Array: convert it first, such as by dask.array.from_array"
    ):
        softmax_cross_entropy(da.zeros((3, 4)), np.zeros(3, dtype=int))
