"""Rows and checks measured, and the lines of the tables."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from .measure import CONDITIONS, Timing, compare
from .memory import CHECKS
from .rows import ROWS, Row

HEAD = "| | against | ours, ms | alone | behind | busy | aims |\n|---|---|---|---|---|---|---|"
CHECK_HEAD = "| | | at most |\n|---|---|---|"


def measure_row(index: int, conditions: list[str], is_small: bool, budget: float) -> dict[str, Timing]:
    """A row's timing in each of the conditions that it has an aim for."""
    row = ROWS[index]
    works = row.works(is_small)
    return {c: compare(*works, c, budget) for c in CONDITIONS[: len(row.aims)] if c in conditions}


def measure_check(index: int, is_small: bool) -> float:
    return CHECKS[index].measure(is_small)


def run(function: Any, *arguments: Any, alone: bool) -> Any:
    """In a process of its own, if so: what one row leaves in the heap would change the next."""
    if not alone:
        return function(*arguments)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def line(row: Row, timings: dict[str, Timing]) -> str:
    """A row of the table; what has missed its aim is bold."""
    cells = []
    for condition, aim in zip(CONDITIONS, (*row.aims, None, None), strict=False):
        ratio = timings[condition].ratio if condition in timings else None
        cells.append("" if ratio is None else f"{ratio:.2f}" if aim is None or ratio <= aim else f"**{ratio:.2f}**")
    first = next(iter(timings.values()), None)
    milliseconds = "" if first is None else f"{first.ours:.3g}"
    return f"| {row.title} | {row.against} | {milliseconds} | {' | '.join(cells)} | {', '.join(f'{a:g}' for a in row.aims)} |"


def check_line(name: str, number: float, bound: float, unit: str) -> str:
    """A line of the second table; what is over its bound is bold."""
    text = f"{number:.3g}"
    return f"| {name} | {text if number <= bound else f'**{text}**'} {unit} | {bound:.3g} |"
