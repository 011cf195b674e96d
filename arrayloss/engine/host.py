"""The host engine: compiled functions where there is a C compiler, else NumPy, block by block while a block is in the cache.

It computes NumPy arrays and plain CPU tensors of PyTorch. Results belong to the caller: writable, sharing no memory with an input.

The door is narrow: `sweep`, `value_and_vjp`, `gradients_for`, `scale_gradient`, `derivatives`. An adapter may store an array in a form of
its own that has `shape`, `size`, `ndim`, `dtype`, `block(index)`, `set_block(index, part)`, `address` and `layout`, as 16-bit tensors are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import numpy as np

from .c import program
from .native import XP

Array = Any
Arrays = tuple[Array, ...]
Index = tuple[slice, ...]
BLOCK = 2**17  # entries, twice as many of rows: smaller blocks cost calls, larger ones leave the cache
# glibc gives memory back as soon as more is free than twice the largest array freed so far. In a young process each call would fetch the
# pages of its results and temporaries again, four times the work of a small loss.
np.empty(2**24, np.uint8)


def threads() -> int:
    """How many threads a call of NumPy arrays uses: OMP_NUM_THREADS, or the process's affinity."""
    number = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if number.isdigit() and int(number) > 0:
        return int(number)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Resources:
    """How many threads a sweep of large arrays may use, where its results' memory comes from, primitives, and OpenMP's `GOMP_parallel`."""

    threads: Callable[[], int] = lambda: threads()
    empty: Callable[[Sequence[int], Any], Array] = np.empty
    xp: Any = XP
    team: Any = None


NUMPY = Resources()


def sweep(
    op: Any,
    arrays: Sequence[Array],
    cotangents: Sequence[Any] | None = None,
    *,
    labels: str = "raise",
    want_sums: bool = True,
    resources: Resources = NUMPY,
) -> tuple[Arrays, Arrays]:
    """Returns the sums as a caller sees them, and gradients.

    `cotangents`: numbers, or arrays of `op.sum_shape`, one for each sum (None: 0). Without them there are no gradients.
    """
    x, n = arrays[0], 0 if cotangents is None else op.predictions
    compiled = program.evaluate(op, arrays, cotangents, resources, want_sums=want_sums)

    def evaluate(index: Index | None) -> tuple[Arrays, Arrays]:
        sums_of, pullback = op.vjp(resources.xp, [slice_block(a, index) for a in arrays], labels)
        sums = sums_of() if want_sums else ()
        gradients = pullback([slice_block(c, index) for c in cotangents or ()]) if n else ()
        return ((), (*gradients, *sums)) if op.reduce is None else (sums, gradients)

    if compiled is not None:
        sums, gradients = compiled
        if want_sums and labels == "raise":
            _check_labels(op, arrays, sums)
    else:
        outputs = [(a.shape, resources.empty) for a in arrays[:n]]
        if want_sums and op.reduce is None:
            outputs += [(op.term_shape(x.shape), np.empty if op.half else resources.empty) for _ in op.outputs]
        sums, results = _by_blocks(op, evaluate, arrays, outputs)
        sums, gradients = sums or results[n:], results[:n]
    return _as_results(op.to_result(XP, x, sums)) if want_sums else (), gradients


def value_and_vjp(op: Any, finish: Any, arrays: Sequence[Array], *, resources: Resources = NUMPY) -> tuple[Array, Arrays]:
    """Returns the value, and the gradients of its total.

    Where the derivative for the total is known from the other sums, one sweep computes both. Else a second sweep follows the first; but of
    what is one block the kernel runs once.
    """
    x, outputs = arrays[0], op.outputs
    if not op.blocked:
        with np.errstate(all="ignore"):
            sums, pullback = op.vjp(resources.xp, [slice_block(a, None) for a in arrays], "raise")
            # A pullback may find the losses on its way: it comes first, since the sums beside the total say what the derivative is
            others = replace(op, outputs=outputs[1:]).to_result(XP, x, sums(outputs[1:]))
            derivatives = steps_of(finish, (np.zeros(op.result_shape(x.shape)), *others))[1]
            gradients = pullback([op.expand_cotangent(XP, x, d) for d in derivatives])
            value = steps_of(finish, op.to_result(XP, x, sums()))[0]
        return _as_results([value], arrays)[0], _as_results(gradients, arrays, [a.shape for a in arrays])
    if not (op.is_local and finish.is_linear):
        value, derivatives = steps_of(finish, sweep(op, arrays, resources=resources)[0])
        return value, gradients_for(op, arrays, derivatives, resources=resources)
    slope = finish.slope
    if slope is None:
        others = sweep(replace(op, outputs=outputs[1:]), arrays, resources=resources)[0] if len(outputs) > 1 else ()
        slope = steps_of(finish, (np.zeros(op.result_shape(x.shape)), *others))[1][0]
    cotangents = [op.expand_cotangent(XP, x, slope), *[None] * (len(outputs) - 1)]
    sums, gradients = sweep(op, arrays, cotangents, resources=resources)
    return steps_of(finish, sums)[0], gradients


def steps_of(finish: Any, sums: Sequence[Array]) -> tuple[Array, Any]:
    """The number and its derivatives for the sums."""
    with np.errstate(all="ignore"):
        steps = finish(XP, sums)
        return np.asarray(next(steps)), next(steps)


def gradients_for(op: Any, arrays: Sequence[Array], cotangents: Sequence[Any], *, resources: Resources = NUMPY) -> Arrays:
    """The gradients for cotangents of the sums as a caller sees them (None: 0). Labels must have been checked by an earlier sweep."""
    g = [op.expand_cotangent(XP, arrays[0], c) for c in cotangents]
    return sweep(op, arrays, g, labels="checked", want_sums=False, resources=resources)[1]


def scale_gradient(op: Any, gradients: Sequence[Array], factor: Any) -> Arrays:
    """Gradients of a local operation times a number, or an array of the shape of a result, in place."""
    if np.ndim(factor) == 0 and factor == 1:
        return tuple(gradients)
    factor = op.expand_cotangent(XP, gradients[0], factor) if np.ndim(factor) else np.asarray(factor, gradients[0].dtype)
    with np.errstate(all="ignore"):
        return tuple([np.multiply(g, factor, out=g) for g in gradients])


def derivatives(op: Any, arrays: Sequence[Array], *, resources: Resources = NUMPY) -> tuple[Arrays, Arrays]:
    """Returns the first derivatives of the weighted elements for every prediction, and the second ones (the Hessian diagonal)."""
    n, compiled = op.predictions, program.evaluate(op, arrays, None, resources, derivatives=True)

    def evaluate(index: Index | None) -> tuple[Arrays, Arrays]:
        first, second = op.derivatives(XP, [slice_block(a, index) for a in arrays], "raise")
        return (), (*first, *second)

    if compiled is not None:
        _check_labels(op, arrays, compiled[1][:n])
        return compiled[1][:n], compiled[1][n:]
    results = _by_blocks(op, evaluate, arrays, [(a.shape, resources.empty) for a in arrays[:n]] * 2)[1]
    return results[:n], results[n:]


def _check_labels(op: Any, arrays: Sequence[Array], results: Sequence[Array]) -> None:
    """Raise where a label is out of range: a compiled function makes a NaN of it."""
    with np.errstate(all="ignore"):
        if op.labels is not None and not all(np.isfinite(np.add.reduce(slice_block(a, None), axis=None)) for a in results):
            op.vjp(XP, [slice_block(a, None) for a in arrays], "raise")


def _as_results(arrays: Sequence[Array], inputs: Sequence[Array] = (), shapes: Sequence[Any] = ()) -> Arrays:
    """Arrays of these shapes that their caller may write to: copies of views that are read-only, shared or smaller."""
    results: list[Array] = []
    for a, shape in zip(arrays, shapes or [a.shape for a in arrays], strict=False):
        is_shared = any(np.may_share_memory(a, other) for other in (*inputs, *results) if isinstance(other, np.ndarray))
        results.append(np.array(np.broadcast_to(a, shape)) if is_shared or a.shape != shape or not a.flags.writeable else a)
    return tuple(results)


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
    op: Any, evaluate: Callable[[Index | None], tuple[Arrays, Arrays]], arrays: Sequence[Array], outputs: Sequence[tuple[Any, Any]]
) -> tuple[Arrays, Arrays]:
    """Returns the sums that `evaluate` returns, added up, and its other results, whose shapes and allocators are `outputs`.

    What is small, and what depends on other elements, is one block.
    """
    x, totals = arrays[0], tuple[Array, ...]()
    with np.errstate(all="ignore"):
        if not op.blocked or x.size <= BLOCK:
            sums, results = evaluate(None)
            return sums, _as_results(results, arrays, [shape for shape, _ in outputs])
        results = tuple([empty(shape, x.dtype) for shape, empty in outputs])
        for index in block_slices(x.shape, op.event_axes, BLOCK * (2 if op.event_axes else 1)):
            sums, parts = evaluate(index)
            totals = totals or tuple([np.zeros(op.sum_shape(x.shape), s.dtype) for s in sums])
            for total, part in zip(totals, sums, strict=True):
                place = slice_block(total, index)
                place += part
            for result, part in zip(results, parts, strict=True):
                if hasattr(result, "set_block"):
                    result.set_block(index, part)
                else:
                    slice_block(result, index)[...] = part
    return totals, results
