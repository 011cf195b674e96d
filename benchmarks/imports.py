"""What importing the package costs beyond array-api-compat, each time in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from typing import Any

TARGET = 60.0  # milliseconds
BEFORE = "import numpy, array_api_compat"
FIRST_CALL = "arrayloss.squared_error(numpy.ones(2), numpy.zeros(2))"


def _milliseconds(*statements: str) -> float:
    lines = ("from time import perf_counter", BEFORE, "start = perf_counter()", *statements, "print(1e3 * (perf_counter() - start))")
    run = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    return float(run.stdout)


def measured(small: bool) -> dict[str, Any]:
    """Medians: of the import alone, and with a first call, which imports what NumPy needs."""
    rounds = 2 if small else 20
    alone, called = (
        median(_milliseconds(*statements) for _ in range(rounds))
        for statements in (("import arrayloss",), ("import arrayloss", FIRST_CALL))
    )
    return {"name": "import arrayloss", "ms": alone, "first_call_ms": called, "target_ms": TARGET, "reached": alone <= TARGET}


def line(entry: dict[str, Any]) -> str:
    mark = "" if entry["reached"] else "  MISSED"
    return f"{entry['name']:38} {'beyond array-api-compat':22}{entry['ms']:10.1f} ms, target {entry['target_ms']:.0f};" + (
        f" with a first call on NumPy {entry['first_call_ms']:.1f} ms{mark}"
    )
