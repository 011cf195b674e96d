"""The rows of the table, measured one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

from .measure import compare, peak_bytes
from .rows import ROWS, Row


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Both sides on so many threads."""
    if count is None:
        yield
        return
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def measured(row: Row, small: bool, budget: float) -> dict[str, Any]:
    """One row of the table, or why it is missing."""
    entry: dict[str, Any] = {"name": row.name, "peer": row.peer, "target": row.target}
    missing = [n for n in row.needs if find_spec(n) is None]
    if missing:
        return {**entry, "missing": f"{' and '.join(missing)} not installed"}
    with threads(row.threads):
        try:
            ours, peer = row.make(small)
        except ImportError as error:
            return {**entry, "missing": str(error)}
        timing = compare(ours, peer, budget)
        entry |= {"ours_ms": timing.ours * 1e3, "peer_ms": timing.peer * 1e3, "ratio": timing.ratio, "rounds": timing.rounds}
        entry["reached"] = timing.ratio <= row.target
        if row.memory:
            entry["ours_peak_mib"], entry["peer_peak_mib"] = (_mib(peak_bytes(work, row.library)) for work in (ours, peer))
    return entry


def alone(index: int, small: bool, budget: float) -> dict[str, Any]:
    """The row of that number in a process of its own: what one row leaves in the heap would change the next."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(here, index, small, budget).result()


def here(index: int, small: bool, budget: float) -> dict[str, Any]:
    return measured(ROWS[index], small, budget)


def _mib(count: int | None) -> float | None:
    return None if count is None else count / 2**20


def line(entry: dict[str, Any]) -> str:
    head = f"{entry['name']:38} {entry['peer']:22}"
    if "missing" in entry:
        return f"{head} {entry['missing']}"
    peak = "".join(f"{'-' if m is None else format(m, '.1f'):>9}" for m in (entry.get("ours_peak_mib"), entry.get("peer_peak_mib")))
    mark = "" if entry["reached"] else "  MISSED"
    return f"{head}{entry['ours_ms']:10.3f}{entry['peer_ms']:10.3f}{entry['ratio']:8.2f}{entry['target']:8.2f}{peak}{mark}"
