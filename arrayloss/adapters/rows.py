"""Rows whose classes lie across memory, a column a class: sums that NumPy and PyTorch on the CPU take column by column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Array = Any
Add = Callable[..., Array]  # takes `out`


def together(add: Add, columns: Sequence[Array]) -> Array:
    """The sum of columns, by halves."""
    half = len(columns) // 2
    return columns[0] if half == 0 else add(together(add, columns[:half]), together(add, columns[half:]))


def others(add: Add, columns: Array, results: Array, empty: Callable[[Array], Array]) -> None:
    """Each result is the sum of the other columns: 1 - p of a softmax, without cancellation. Both arrays have the columns in front.

    Beside a column are its neighbour and the other pairs, of which the same is asked: rounding grows with log(C) only.
    """
    count = len(columns)
    if count == 1:
        results[...] = 0
        return
    if count == 2:
        results[0], results[1] = columns[1], columns[0]
        return
    even, odd, single = columns[: count - 1 : 2], columns[1::2], columns[count - count % 2 :]
    pairs = len(odd)
    sums = empty(columns[: pairs + len(single)])
    add(even, odd, out=sums[:pairs])
    sums[pairs:] = single
    beyond = empty(sums)
    others(add, sums, beyond, empty)
    add(odd, beyond[:pairs], out=results[: count - 1 : 2])
    add(even, beyond[:pairs], out=results[1::2])
    results[2 * pairs :] = beyond[pairs:]
