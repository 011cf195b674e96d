"""The host engine: a kernel runs block by block while the block is in the cache, on several threads.

NumPy computes NumPy arrays and plain CPU tensors of PyTorch. The number of threads changes no bit: the shape alone decides the
blocks, and their float64 sums are added in one order. Results belong to the caller: writable, sharing no memory with an input.

The door is narrow: `sweep`, `value_and_vjp`, `gradients_for`, `scale_gradient`, `derivatives`. An adapter may store an array in a form of
its own that has `shape`, `size`, `ndim`, `dtype`, `block(index)` and `set_block(index, part)`, as 16-bit tensors are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from .native import EXACT, FAST

Array = Any
Arrays = tuple[Array, ...]
Index = tuple[slice, ...]
BLOCK = 2**17  # entries, twice as many of rows (of large arrays four times): smaller blocks cost calls, larger ones leave the cache
PARALLEL = 2**21  # entries from which several threads pay: behind an OpenMP region the second one waits 3.5 ms for its core
BUFFER = 2**10  # entries: NumPy copies a broadcast number into a buffer where rows are shorter, at the cost of two additions
# glibc gives memory back as soon as more is free than twice the largest array freed so far. In a young process each call would fetch the
# pages of its temporaries again: 0.8 ms of a focal loss of 2^17 entries become 4.
np.empty(2**24, np.uint8)


def threads() -> int:
    """How many threads a call of NumPy arrays uses: OMP_NUM_THREADS, or the process's affinity."""
    number = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if number.isdigit() and int(number) > 0:
        return int(number)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Resources:
    """How many threads a sweep of large arrays may use, and where the memory of its results comes from."""

    threads: Callable[[], int] = lambda: threads()
    empty: Callable[[Sequence[int], Any], Array] = np.empty


NUMPY = Resources()


def sweep(
    op: Any,
    arrays: Sequence[Array],
    cotangents: Sequence[Any] | None = None,
    *,
    scale: float = 1.0,
    labels: str = "raise",
    want_sums: bool = True,
    resources: Resources = NUMPY,
) -> tuple[Arrays, Arrays]:
    """Returns the sums as a caller sees them, and gradients times `scale`.

    `cotangents`: numbers, or arrays of `op.sum_shape`, one for each sum (None: 0). Without them there are no gradients.
    """
    x, n = arrays[0], 0 if cotangents is None else op.predictions

    def evaluate(index: Index | None) -> tuple[Arrays, Arrays]:
        block, g = [slice_block(a, index) for a in arrays], [slice_block(c, index) for c in cotangents or ()]
        for xp in _forms(op):
            sums_of, pullback = op.vjp(xp, block, labels)
            sums, gradients = sums_of() if want_sums else (), pullback(g) if n else ()
            if xp is EXACT or all_finite(sums or gradients):
                break
        return sums, gradients

    if _is_whole(op, x):
        with np.errstate(all="ignore"):
            sums, gradients = evaluate(None)
        gradients = _as_results([g if scale == 1 else g * scale for g in gradients], arrays, arrays)
    else:
        outputs = [(a.shape, resources.empty) for a in arrays[:n]]
        if want_sums and op.reduce is None:
            outputs += [(op.term_shape(x.shape), np.empty if op.half else resources.empty) for _ in op.outputs]
        sums, results = _by_blocks(op, evaluate, x, outputs, scale, resources)
        sums, gradients = sums or results[n:], results[:n]
    return _as_results(op.to_result(FAST, x, sums), () if op.reduce else arrays) if want_sums else (), gradients


def value_and_vjp(op: Any, finish: Any, arrays: Sequence[Array], *, resources: Resources = NUMPY) -> tuple[Array, Arrays, Any]:
    """Returns the value, the gradients of its total, and a factor that these are still to be multiplied by.

    Of a local operation one sweep computes both, even where the derivative of the value is known only after it: that is the factor.
    Else a second sweep follows the first. So it does for 16-bit gradients, which are rounded once: they have no factor.
    """
    if _is_whole(op, arrays[0]):
        return *_whole_vjp(op, finish, [slice_block(a, None) for a in arrays]), 1.0
    slope = finish.slope if op.is_local else None
    in_one_sweep = op.is_local and not (op.half and slope is None)
    unit = unit_cotangents(op) if in_one_sweep else None
    sums, gradients = sweep(op, arrays, unit, scale=1.0 if slope is None else slope, resources=resources)
    with np.errstate(all="ignore"):
        steps = finish(FAST, sums)
        value, derivatives = np.asarray(next(steps)), next(steps)
    if in_one_sweep:
        return value, gradients, derivatives[0] if slope is None else 1.0
    return value, gradients_for(op, arrays, derivatives, resources=resources), 1.0


def _whole_vjp(op: Any, finish: Any, arrays: Sequence[Array]) -> tuple[Array, Arrays]:
    """Returns the value and its gradients, by one run of the kernel."""
    x = arrays[0]
    with np.errstate(all="ignore"):
        for xp in _forms(op):
            sums_of, pullback = op.vjp(xp, arrays, "raise")
            sums = sums_of()
            steps = finish(xp, op.to_result(xp, x, sums))
            value = np.asarray(next(steps))
            gradients = pullback([op.expand_cotangent(xp, x, d) for d in next(steps)])
            if xp is EXACT or all_finite(sums):
                break
    return _as_results([value], arrays)[0] if value.ndim or not value.flags.writeable else value, _as_results(gradients, arrays, arrays)


def gradients_for(op: Any, arrays: Sequence[Array], cotangents: Sequence[Any], *, resources: Resources = NUMPY) -> Arrays:
    """The gradients for cotangents of the sums as a caller sees them (None: 0). Labels must have been checked by an earlier sweep."""
    g = [op.expand_cotangent(FAST, arrays[0], c) for c in cotangents]
    return sweep(op, arrays, g, labels="checked", want_sums=False, resources=resources)[1]


def scale_gradient(op: Any, gradients: Sequence[Array], *factors: Any) -> Arrays:
    """Gradients of a local operation times factors, numbers or arrays of the shape of a result, in place."""
    factor: Any = 1.0
    for f in factors:
        f = float(f) if np.ndim(f) == 0 else f
        factor = f if isinstance(factor, float) and factor == 1 else factor * f
    if isinstance(factor, float) and factor == 1:
        return tuple(gradients)
    factor = op.expand_cotangent(FAST, gradients[0], factor)
    with np.errstate(all="ignore"):
        return tuple([np.multiply(g, factor, out=g) for g in gradients])


def derivatives(op: Any, arrays: Sequence[Array], *, resources: Resources = NUMPY) -> tuple[Arrays, Arrays]:
    """Returns the first derivatives of the weighted elements for every prediction, and the second ones (the Hessian diagonal)."""
    x, n = arrays[0], op.predictions

    def evaluate(index: Index | None) -> tuple[Arrays, Arrays]:
        block = [slice_block(a, index) for a in arrays]
        for xp in _forms(op):
            first, second = op.derivatives(xp, block, "raise")
            if xp is EXACT or all_finite(first):
                break
        return (), (*first, *second)

    if _is_whole(op, x):
        with np.errstate(all="ignore"):
            results = _as_results(evaluate(None)[1], arrays, (*arrays[:n], *arrays[:n]))
    else:
        results = _by_blocks(op, evaluate, x, [(a.shape, resources.empty) for a in arrays[:n]] * 2, 1.0, resources)[1]
    return results[:n], results[n:]


def unit_cotangents(op: Any) -> list[float | None]:
    """Cotangents of a local operation: 1 for its total."""
    return [1.0 if name == op.terms[0] else None for name in op.outputs]


def _forms(op: Any) -> tuple[Any, ...]:
    """Fast forms, then exact ones for where a result of the fast ones is not finite. To look at large gradients would cost a pass."""
    return (FAST, EXACT) if op.blocked else (EXACT,)


def all_finite(arrays: Sequence[Array]) -> bool:
    """Whether no entry is infinite or NaN, by the sum: where the exact form has a limit, the fast one leaves a NaN."""
    sums = [np.add.reduce(a, axis=None) if a.size < BUFFER else np.einsum(a, range(a.ndim), ()) for a in arrays]
    return all(abs(float(s)) < float("inf") for s in sums)


def _as_results(arrays: Sequence[Array], inputs: Sequence[Array], like: Sequence[Array] = ()) -> Arrays:
    """Arrays that their caller may write to, of the shapes of `like`: copies of views that are read-only, shared or smaller."""
    results: list[Array] = []
    for a, b in zip(arrays, like or arrays, strict=False):
        is_shared = any(np.may_share_memory(a, other) for other in (*inputs, *results) if isinstance(other, np.ndarray))
        results.append(np.array(np.broadcast_to(a, b.shape)) if is_shared or a.shape != b.shape or not a.flags.writeable else a)
    return tuple(results)


def _is_whole(op: Any, x: Array) -> bool:
    """Whether all of an operation is one block: what is small, and what depends on other elements."""
    return not op.blocked or x.size <= BLOCK


def block_slices(shape: Sequence[int], whole: Sequence[int], size: int) -> Iterator[Index]:
    """Slices that cut `shape` into blocks of about `size` entries, never along the axes `whole`."""
    step = [n if axis in whole else 1 for axis, n in enumerate(shape)]
    entries = prod(step)
    for axis in reversed([a for a in range(len(shape)) if a not in whole]):
        step[axis] = min(shape[axis], max(1, size // max(entries, 1)))
        entries *= step[axis]
        if step[axis] < shape[axis]:
            break
    starts = [range(0, n, max(s, 1)) for n, s in zip(shape, step, strict=True)]
    for corner in product(*starts):
        yield tuple([slice(c, c + s) for c, s in zip(corner, step, strict=True)])


def slice_block(a: Any, index: Index | None) -> Any:
    """One block (None: all) of an array that broadcasts to the shape that `index` cuts; a number stays one."""
    if hasattr(a, "block"):
        return a.block(() if index is None else index)
    if index is None or not isinstance(a, np.ndarray) or a.size == 1:
        return a
    return a[tuple([i if n != 1 else slice(None) for i, n in zip(index, a.shape, strict=True)])]


def _by_blocks(
    op: Any,
    evaluate: Callable[[Index], tuple[Arrays, Arrays]],
    x: Array,
    outputs: Sequence[tuple[Any, Any]],
    scale: float,
    resources: Resources,
) -> tuple[Arrays, Arrays]:
    """Returns the sums that `evaluate` returns, added up, and its results times `scale`.

    `outputs`: the shape of each result, and what allocates it. What `evaluate` returns behind its gradients are results too: terms that
    are not reduced.
    """
    results = tuple([empty(shape, x.dtype) for shape, empty in outputs])

    def block(index: Index) -> Arrays:
        sums, gradients = evaluate(index)
        parts = (*gradients, *sums)
        for result, part in zip(results, parts, strict=False):
            if hasattr(result, "set_block"):
                result.set_block(index, np.multiply(part, scale))
            else:  # the factor costs nothing beside the copy
                np.multiply(part, scale, out=slice_block(result, index))
        return parts[len(results) :]

    is_large = x.size >= PARALLEL  # the shape alone decides: the number of threads changes no bit
    blocks = list(block_slices(x.shape, op.event_axes, BLOCK * (1 if not op.event_axes else 4 if is_large else 2)))
    parts = _run(block, blocks, resources.threads() if is_large else 1)
    totals = tuple([np.zeros(op.sum_shape(x.shape), s.dtype) for s in parts[0]])
    for index, sums in zip(blocks, parts, strict=True):
        for total, part in zip(totals, sums, strict=True):
            place = slice_block(total, index)
            place += part
    return totals, results


def _run(block: Callable[[Index], Any], blocks: Sequence[Index], workers: int) -> list[Any]:
    """What `block` returns for each of the blocks, in their order, on this thread and others beside it."""
    results: dict[int, Any] = {}
    pending = iter(list(enumerate(blocks)))

    def work(_: int) -> None:
        with np.errstate(all="ignore"):
            np.setbufsize(BUFFER)  # until the end of `errstate`
            for i, index in pending:
                results[i] = block(index)

    workers = min(workers, len(blocks) // 2)
    if workers < 2:
        work(0)
    else:
        with ThreadPoolExecutor(workers - 1) as pool:
            others = pool.map(work, range(1, workers))
            work(0)
            list(others)  # raises what they raised
    return [results[i] for i in range(len(blocks))]
