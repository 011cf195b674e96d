"""What is special to Dask: nothing is computed until it is asked for, however the arrays are chunked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

import arrayloss as al

from .helpers import lacking

RANDOM = np.random.default_rng(0)
X, LABELS, DECISIONS = RANDOM.normal(size=(6, 3)), RANDOM.integers(0, 3, 6), RANDOM.integers(0, 2, (6, 3))
dice = al.dice_loss.bind(activation="softmax", axis=1)
LOSSES = {
    "elements": (al.sigmoid_focal_loss.bind(alpha=0.25), DECISIONS),
    "labels": (al.softmax_cross_entropy.bind(class_weights=(1.0, 2.0, 3.0), ignore_index=1), LABELS),
    "overlap": (dice, LABELS),
}
losses = pytest.mark.parametrize(("loss", "targets"), LOSSES.values(), ids=LOSSES)


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("something was computed")


@pytest.fixture(autouse=True)
def lazy() -> Iterator[None]:
    """A scheduler that raises; tests compute with one of their own."""
    with dask.config.set(scheduler=refuse):
        yield


def compute(*arrays: Any) -> Any:
    return dask.compute(*arrays, scheduler="synchronous")


@pytest.mark.parametrize("chunks", [(2, 3), (6, 1), pytest.param((2, 1), marks=pytest.mark.exhaustive)], ids=str)
@losses
def test_results_of_chunks_are_those_of_numpy(loss: Any, targets: Any, chunks: tuple[int, int]) -> None:
    x, t = da.from_array(X, chunks=chunks), da.from_array(targets, chunks=chunks[: targets.ndim])
    value, gradient = loss.value_and_grad(x, t)
    unreduced = loss(x, t, reduction="none")
    assert gradient.chunks == x.chunks
    expected, exact = loss.value_and_grad(X, targets)
    for result, reference in zip(
        compute(value, loss(x, t), gradient, unreduced), (expected, expected, exact, loss(X, targets, reduction="none")), strict=True
    ):
        np.testing.assert_allclose(result, reference, rtol=1e-12, atol=1e-15)


@losses
def test_parts_of_two_batches_add(loss: Any, targets: Any) -> None:
    batches = [loss.parts(da.from_array(X[s], chunks=(2, 3)), da.from_array(targets[s], chunks=2)) for s in (slice(0, 4), slice(4, 6))]
    np.testing.assert_allclose(compute(loss.finish(sum(batches)))[0], loss(X, targets), rtol=1e-13)


def test_dtypes_are_those_of_numpy() -> None:
    x, loss = X.astype("float32"), al.softmax_cross_entropy.bind(class_weights=(1.0, 2.0, 3.0), weights=0.5, ignore_index=1)
    lazily = da.from_array(x, chunks=(2, 3)), da.from_array(LABELS, chunks=2)
    promised = *loss.parts(*lazily).arrays, *loss.value_and_grad(*lazily)
    expected = *loss.parts(x, LABELS).arrays, *loss.value_and_grad(x, LABELS)
    for a, computed, b in zip(promised, compute(*promised), expected, strict=True):
        assert a.dtype == np.asarray(computed).dtype == np.asarray(b).dtype


@losses
@lacking("dask", "2025.1", "no dask.base.collections_to_expr, whose tasks are counted")
def test_a_chunk_is_read_once_and_costs_few_tasks(loss: Any, targets: Any) -> None:
    """Value and gradient share their work."""
    reads = []

    def read(block: np.ndarray) -> np.ndarray:
        reads.append(block.shape)
        return block

    def tasks(copies: int) -> int:
        x = da.from_array(np.tile(X, (copies, 1)), chunks=(6, 3)).map_blocks(read, meta=np.empty((0, 0)))
        t = da.from_array(np.tile(targets, (copies,) + (1,) * (targets.ndim - 1)), chunks=6)
        both = loss.value_and_grad(x, t)
        reads.clear()
        compute(*both)
        assert len(reads) == copies
        return len(dask.base.collections_to_expr(both).__dask_graph__())

    assert (tasks(12) - tasks(4)) / 8 <= 40  # 5, 27 and 32


def test_labels_out_of_range_are_nan() -> None:
    x = da.zeros((3, 4), chunks=(2, 4))
    unreduced = al.softmax_cross_entropy(x, da.from_array(np.array([0, 4, -1]), chunks=2), reduction="none")
    assert np.isnan(compute(unreduced)[0]).tolist() == [False, True, True]


@losses
def test_nothing_is_a_loss_of_0(loss: Any, targets: Any) -> None:
    """Dask's maximum fails where there are no rows."""
    value, gradient = compute(*loss.value_and_grad(da.zeros((0, 3)), da.zeros((0, *targets.shape[1:]), dtype=int)))
    assert (value, gradient.shape) == (0, (0, 3))


def test_arrays_of_numpy_are_refused_with_the_conversion() -> None:
    with pytest.raises(TypeError, match=r"targets must be an array of dask.array, .* pass dask.array.from_array\(targets\)"):
        al.softmax_cross_entropy(da.zeros((3, 4)), np.zeros(3, dtype=int))
