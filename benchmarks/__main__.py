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
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler that counts allocations reports every start and stop

from . import growth, imports, memory, table
from .measure import versions
from .rows import ROWS

LIBRARIES = ("numpy", "torch", "jax", "optax", "kornia", "monai", "scikit-learn", "array-api-compat")


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
    for index, row in enumerate(ROWS):
        if wanted(row.name):
            result["rows"].append((table.here if options.smoke else table.alone)(index, options.smoke, budget))
            print(table.line(result["rows"][-1]), flush=True)
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
