"""Every loss is a map, a sum and a finish. This page is the sum, and the finish of a mean.

Sums of two batches, or of two processes, add; `finish` then gives the exact loss of the union.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from .special import native_first

Array = Any


@native_first
def total(xp: Any, a: Array, shape: Sequence[int], axes: tuple[int, ...], dtype: Any, lines: bool = False) -> Array:
    """The sum over `axes` (kept) of `a` broadcast to `shape`, without the broadcast copy.

    `lines`: the entries of a short line in memory may be added before they are converted to `dtype`.
    """
    summed = xp.sum(a, axis=axes, keepdims=True, dtype=dtype) if axes else xp.astype(a, dtype or a.dtype, copy=False)
    if a.shape == shape:
        return summed
    repeats = prod([shape[i] for i in axes if a.shape[i] == 1])  # a list: compilers take no generator here
    kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
    if repeats != 1:
        summed = summed * repeats
    return summed if summed.shape == kept else xp.broadcast_to(summed, kept)


@native_first
def quotient(xp: Any, a: Array, divisor: float, shape: Sequence[int], dtype: Any) -> Array:
    """Sums divided by a number, in the shape and dtype that a caller sees."""
    return xp.astype(xp.reshape(a, shape) / divisor, dtype, copy=False)


def mean(xp: Any, numerator: Array, denominator: Any, scale: float = 1.0, dtype: Any = None) -> Iterator[Any]:
    """numerator / (denominator * scale) in `dtype`, then its derivative for the numerator; the mean over nothing is 0 and flat.

    Both 0 is the only case that is replaced: a NaN stays one.
    """
    dtype = numerator.dtype if dtype is None else dtype
    if isinstance(denominator, int | float):
        denominator = denominator * scale or 1
        yield xp.astype(numerator / denominator, dtype, copy=False)
        yield 1 / denominator
    else:
        denominator = xp.astype(denominator, numerator.dtype, copy=False)
        if scale != 1:
            denominator = denominator * scale
        empty = (denominator == 0) & (numerator == 0)
        divisor = xp.where(empty, 1.0, denominator)
        yield xp.astype(numerator / divisor, dtype, copy=False)
        yield 1 / divisor
