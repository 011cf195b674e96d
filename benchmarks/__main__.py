"""Our losses against their peers, in time and memory.

    python -m benchmarks                           the whole table in three conditions, some minutes
    python -m benchmarks focal NumPy               only rows whose name contains one of these words
    python -m benchmarks --alone                   one condition: alone; --behind an OpenMP region; --busy cores
    python -m benchmarks --smoke                   tiny sizes, alone unless another condition is named: whether every row still runs
    python -m benchmarks --write docs/speed.md     replace the tables of that page

The number of threads is what PyTorch and `OMP_NUM_THREADS` say (by default all cores that the process may use). XLA takes all cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # what scikit-learn asks for before it computes with tensors
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler that counts allocations reports every start and stop

from .measure import CONDITIONS, cores, versions
from .memory import CHECKS
from .rows import ROWS
from .table import CHECK_HEAD, HEAD, check_line, line, measure_check, measure_row, run

LIBRARIES = ("numpy", "torch", "jax", "optax", "kornia", "monai", "scikit-learn")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only rows whose name contains one of these words")
    for condition in CONDITIONS:
        parser.add_argument(f"--{condition}", action="append_const", const=condition, dest="conditions")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that every row runs")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to measure a row in each condition")
    parser.add_argument("--write", type=Path, help="put the tables into this page, between its marks")
    options = parser.parse_args(arguments)
    conditions = options.conditions or list(CONDITIONS[: 1 if options.smoke else None])
    budget = 0.0 if options.smoke else options.seconds
    machine = f"{platform.machine()}, {cores()} cores, {versions(*LIBRARIES)}"
    tables: list[list[str]] = [[HEAD], [CHECK_HEAD]]
    print(f"{machine}\n\n{HEAD}")
    for index, row in enumerate(ROWS):
        if not options.words or any(word in row.title for word in options.words):
            if row.module and find_spec(row.module) is None:
                print(f"{row.title}: {row.module} is not installed")
                continue
            timings = run(measure_row, index, conditions, options.smoke, budget, alone=not options.smoke)
            tables[0].append(line(row, timings))
            print(tables[0][-1], flush=True)
    print(f"\n{CHECK_HEAD}")
    for index, check in enumerate(CHECKS):
        if not options.words or any(word in check.name for word in options.words):
            number = run(measure_check, index, options.smoke, alone=not options.smoke)
            tables[1].append(check_line(check.name, number, check.bound, check.unit))
            print(tables[1][-1], flush=True)
    if options.write:
        text = "\n\n".join([f"Measured on {machine}.", *map("\n".join, tables)])
        page = options.write.read_text()
        options.write.write_text(re.sub(r"(?s)(<!-- tables -->\n).*(\n<!-- end -->)", lambda m: m[1] + text + m[2], page))
    return 0


if __name__ == "__main__":
    sys.exit(main())
