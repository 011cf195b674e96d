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


def others(add: Add, columns: Sequence[Array], results: Sequence[Array], *outside: Array) -> None:
    """Each result is the sum of what is outside and of the other columns: 1 - p of a softmax, without cancellation.

    Halves are added to halves, so that rounding grows with log(C) only.
    """
    if len(columns) == 1:
        if len(outside) == 2:
            add(*outside, out=results[0])
        else:
            results[0][...] = outside[0]
        return
    half = len(columns) // 2
    beyond = (add(*outside),) if len(outside) == 2 else outside
    others(add, columns[:half], results[:half], *beyond, together(add, columns[half:]))
    others(add, columns[half:], results[half:], *beyond, together(add, columns[:half]))
