"""A blocked sweep for host arrays: value and slope of a block are computed together while it is in the cache.

NumPy and PyTorch on the CPU share it: both slice without copying and assign into slices. Results do not depend on the
block size or on the number of threads: the sums of the blocks are kept in float64 and added in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

Array = Any
Index = tuple[slice, ...]
Run = Callable[[Callable[[Index], Any], Iterable[Index]], Iterable[Any]]


def indices(shape: Sequence[int], whole: int | None, size: int) -> Iterator[Index]:
    """Slices that cut `shape` into blocks of at most `size` entries where that is possible, never along the axis `whole`."""
    step = [n if axis == whole else 1 for axis, n in enumerate(shape)]
    held = shape[whole] if whole is not None else 1
    for axis in reversed([a for a in range(len(shape)) if a != whole]):
        step[axis] = min(shape[axis], max(1, size // max(held, 1)))
        held *= step[axis]
        if step[axis] < shape[axis]:
            break
    starts = [range(0, n, max(s, 1)) for n, s in zip(shape, step, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(c, c + s) for c, s in zip(corner, step, strict=True))


def cut(array: Array, index: Index) -> Array:
    """One block of an array that broadcasts to the shape that `index` cuts."""
    parts = [i if n != 1 else slice(None) for i, n in zip(index, array.shape, strict=True)]
    whole = all(i.start is None or (i.start == 0 and i.stop >= n) for i, n in zip(parts, array.shape, strict=True))
    return array if whole else array[tuple(parts)]


def _step(op: Any, quick: Any, arrays: Sequence[Array], order: int, places: Sequence[Array] = ()) -> tuple[Any, ...]:
    """A step by quick forms, which make a NaN of infinite predictions; by careful ones where there is such a thing."""
    made = op.step(quick.at(places), arrays, order, read_labels=True, places=places)
    return made if all(map(quick.is_sound, made[0])) else op.step(quick.careful, arrays, order, read_labels=True, places=places)


def sweep(
    op: Any,
    xp: Any,
    arrays: Sequence[Array],
    *,
    order: int,
    size: int,
    empty: Callable[[Sequence[int], Any], Array],
    run: Run = map,
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """The outputs of an operation and, for order 1, their slopes (or what it keeps) in the dtype of the computation, in own arrays.

    What divides the total divides the slopes here: the copy into place costs the same without it.
    """
    shape = tuple(arrays[0].shape)
    scale = 1 / op.denominator(shape) if order else 1.0
    quick = xp.for_sweep(op, arrays[0])
    if prod(shape) <= size:
        outputs, *rest = _step(op, quick, arrays, order)
        return op.settle(xp, arrays[0], outputs), tuple([xp.multiply(slope, scale) for slope in rest[0]]) if rest else ()
    slopes: tuple[Array, ...] = ()
    if order:
        dtype = xp.float32 if op.half else arrays[0].dtype
        slopes = tuple(empty(shape, dtype) for _ in range(op.keeps))
    values = empty(op.element_shape(shape), arrays[0].dtype) if op.reduce is None else None

    def block(index: Index) -> tuple[Array, ...]:
        places = [whole[index] for whole in slopes]
        outputs, *rest = _step(op, quick, [cut(a, index) for a in arrays], order, places)
        for place, part in zip(places, rest[0] if rest else (), strict=True):
            if part is not place or scale != 1:
                xp.multiply(part, scale, out=place)
        if values is not None:
            cut(values, index)[...] = outputs[0]
        return outputs

    blocks = list(indices(shape, op.classes, size))
    if values is not None:
        for _ in run(block, blocks):
            pass
        return op.settle(xp, arrays[0], (values,)), slopes
    sums: list[Array] = []
    for index, outputs in zip(blocks, run(block, blocks), strict=True):
        if not sums:
            sums = [empty(kept, o.dtype) for kept, o in zip(op.sum_shapes(shape), outputs, strict=True)]
            for s in sums:
                s[...] = 0
        for s, o in zip(sums, outputs, strict=True):
            place = cut(s, index)
            place += o
    return op.settle(xp, arrays[0], sums), slopes


def sweep_back(
    op: Any,
    xp: Any,
    arrays: Sequence[Array],
    cotangents: Sequence[Any],
    kept: Sequence[Array] = (),
    *,
    size: int,
    empty: Callable[[Sequence[int], Any], Array],
    run: Run = map,
    in_place: bool = False,
) -> tuple[Array, ...]:
    """The gradients of an operation that saves no slope, from derivatives for its outputs: its inputs are swept a second time.

    What the first sweep `kept` becomes the gradients, as far as there are so many: itself with `in_place`, else a copy.
    """
    shape = tuple(arrays[0].shape)
    spread = op.spread_all(xp, arrays[0], cotangents)
    if not in_place:
        kept = [*(xp.multiply(k, 1) for k in kept[: op.predictions]), *kept[op.predictions :]]
    if prod(shape) <= size:
        made = op.gradient(xp, arrays, spread, kept, read_labels=None)
        return tuple([xp.astype(g, a.dtype, copy=False) for g, a in zip(made, arrays, strict=False)])
    gradients = tuple(kept[: op.predictions]) if kept else tuple(empty(shape, a.dtype) for a in arrays[: op.predictions])

    def block(index: Index) -> None:
        inputs, derivatives, own = ([cut(a, index) for a in some] for some in (arrays, spread, kept))
        for whole, part in zip(gradients, op.gradient(xp, inputs, derivatives, own, read_labels=None), strict=True):
            if not any(part is a for a in own):
                whole[index] = part

    for _ in run(block, list(indices(shape, op.classes, size))):
        pass
    return gradients
