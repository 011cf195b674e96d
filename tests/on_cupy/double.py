"""What the tests on the CPU double of CuPy share. The double is the real CuPy, whose kernels a host compiler compiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from conftest import Backend

cupy_cpu = pytest.importorskip("cupy_cpu", reason="the CPU double of CuPy is not installed: .ci/cupy builds it")

CUPY = Backend("cupy", "cupy")
DTYPES = ("float32", "float64", "float16", "bfloat16")


def measured(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, dict[str, int]]:
    """The result and what it took, which was no copy to the host, no wait and no write past an array."""
    with cupy_cpu.no_d2h(syncs=True) as took:
        result = function(*args, **kwargs)
    cupy_cpu.check_memory()
    return result, took


def on_cupy(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options with their NumPy arrays moved."""
    return {k: CUPY.array(v) if isinstance(v, np.ndarray) else v for k, v in values.items()}


def flat(result: Any) -> list[Any]:
    """Value and gradients, in one list."""
    return [r for part in result for r in flat(part)] if isinstance(result, tuple) else [result]
