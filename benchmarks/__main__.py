"""The table of ours against peers, memory, and how the cost grows.

    python -m benchmarks                        the whole table, some minutes
    python -m benchmarks focal numpy            only rows whose name contains one of these words
    python -m benchmarks --smoke                tiny sizes, seconds: whether every row still runs
    python -m benchmarks --json FILE --plot FILE

The number of threads is what PyTorch and `OMP_NUM_THREADS` say (by default all cores that the process may use); rows that
name a number of threads set it for both sides. XLA takes all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler that counts allocations reports every start and stop

from . import growth, imports, memory
from .measure import compare, peak_bytes, versions
from .rows import ROWS, Row

LIBRARIES = ("numpy", "torch", "jax", "optax", "kornia", "monai", "scikit-learn", "array-api-compat")


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


def _mib(count: int | None) -> float | None:
    return None if count is None else count / 2**20


def line(entry: dict[str, Any]) -> str:
    head = f"{entry['name']:38} {entry['peer']:22}"
    if "missing" in entry:
        return f"{head} {entry['missing']}"
    peak = "".join(f"{'-' if m is None else format(m, '.1f'):>9}" for m in (entry.get("ours_peak_mib"), entry.get("peer_peak_mib")))
    mark = "" if entry["reached"] else "  MISSED"
    return f"{head}{entry['ours_ms']:10.3f}{entry['peer_ms']:10.3f}{entry['ratio']:8.2f}{entry['target']:8.2f}{peak}{mark}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks", description="arrayloss against its peers: time, memory, growth.")
    parser.add_argument("words", nargs="*", help="only rows whose name contains one of these words")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that every row runs")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long to measure a row")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--plot", type=Path, help="draw ratios and growth to this file (matplotlib)")
    options = parser.parse_args(arguments)
    budget = 0.02 if options.smoke else options.seconds

    def wanted(name: str) -> bool:
        return not options.words or any(word in name for word in options.words)

    print(f"{platform.machine()}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores;", end=" ")
    found = versions(*LIBRARIES)
    print(", ".join(f"{k} {v}" for k, v in found.items()), "\n")
    print(f"{'row':38} {'peer':22}{'ours ms':>10}{'peer ms':>10}{'ratio':>8}{'target':>8}{'ours MiB':>9}{'peer MiB':>9}")
    result: dict[str, Any] = {"versions": found, "rows": [], "memory": [], "growth": []}
    for row in ROWS:
        if wanted(row.name):
            result["rows"].append(measured(row, options.smoke, budget))
            print(line(result["rows"][-1]), flush=True)
    for check in memory.CHECKS:
        if wanted(check.name):
            result["memory"].append(memory.measured(check, options.smoke))
            print(memory.line(result["memory"][-1]), flush=True)
    if wanted("import"):
        result["import"] = imports.measured(options.smoke)
        print(imports.line(result["import"]), flush=True)
    if wanted("growth"):
        result["growth"] = growth.measured(options.smoke)
        print("\n" + growth.table(result["growth"]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.plot:
        from .plot import draw

        draw(result, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
