"""What the tests on the CPU double of CuPy share. The double is the real CuPy, whose kernels a host compiler compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from arrayloss.adapters import dispatch

from ..helpers import BACKENDS

cupy_cpu = pytest.importorskip("cupy_cpu", reason="the CPU double of CuPy is not installed: .ci/cupy builds it")
cupy = pytest.importorskip("cupy")

CUPY = BACKENDS["cupy"]
DTYPES = ("float32", "float64", "float16", "bfloat16")


def measured(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, dict[str, int]]:
    """The result and what it took, which was no copy to the host, no synchronisation and no write past an array."""
    with cupy_cpu.no_d2h(syncs=True) as taken:
        result = function(*args, **kwargs)
    cupy_cpu.check_memory()
    return result, taken


def by_array_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is recorded from here on."""
    dispatch.adapter_of(cupy.zeros(1))
    monkeypatch.setattr("arrayloss.engine.cuda.device.execute", lambda *_, **__: None)
