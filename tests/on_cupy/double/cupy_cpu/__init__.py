"""What runs the kernels of the CPU double of CuPy, and what it counts.

with cupy_cpu.record() as taken: loss(x)  # taken["launches"], taken["d2h"], taken["peak_bytes"], ...
with cupy_cpu.no_d2h(syncs=True): loss(x)  # AssertionError on a copy to the host or a synchronisation
cupy_cpu.check_memory()  # AssertionError if a kernel wrote past the end of an array
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
LIB = str(FOLDER / "libcupycpu.so")
INCLUDE = str(FOLDER / "include")
COUNTERS = ("launches", "d2h", "h2d", "d2d", "d2h_bytes", "h2d_bytes", "syncs", "live_bytes", "peak_bytes", "out_of_bounds")

log = {"compiled": 0, "cache_hits": 0}  # kernels
_library: Any = None


class NotEmulatedError(NotImplementedError):
    """What the double does not have."""


class _Statistics(ctypes.Structure):
    _fields_ = [(name, ctypes.c_longlong) for name in COUNTERS]


def load() -> Any:
    """The library, whose symbols CuPy's extension modules then find."""
    global _library
    if _library is None:
        os.environ.setdefault("CUPY_ACCELERATORS", "")  # neither CUB nor cuTENSOR
        cache = os.environ.get("CUPY_CPU_CACHE", os.path.expanduser("~/.cupy/kernel_cache_cpu"))
        os.environ.setdefault("CUPY_CACHE_DIR", cache)  # kernels of a GPU lie elsewhere
        _library = ctypes.CDLL(LIB, mode=ctypes.RTLD_GLOBAL)
        _library.cupycpu_statistics.restype = ctypes.POINTER(_Statistics)
        _library.cupycpu_check_red_zones.restype = ctypes.c_longlong
    return _library


def counters() -> _Statistics:
    """The live counters."""
    return load().cupycpu_statistics().contents


def allocate(size: int) -> Any:
    """CuPy's allocator: every array is a block of its own, so that memory which no kernel has written to is never 0."""
    from cupy.cuda import memory, runtime

    try:
        return memory.MemoryPointer(memory.Memory(size), 0)
    except runtime.CUDARuntimeError as e:
        if e.status == 2:  # cudaErrorMemoryAllocation
            raise memory.OutOfMemoryError(size, counters().live_bytes) from e
        raise


def check_memory() -> None:
    """Raise if a kernel has written past the end of an array."""
    if load().cupycpu_check_red_zones():
        raise AssertionError(f"{counters().out_of_bounds} writes past the end of an array, see stderr")


@contextmanager
def record() -> Iterator[dict[str, int]]:
    """What the block takes; bytes beyond those that are alive before it."""
    live = counters()
    before = {name: getattr(live, name) for name in COUNTERS}
    live.peak_bytes = live.live_bytes
    taken: dict[str, int] = {}
    try:
        yield taken
    finally:
        taken.update({name: getattr(live, name) - before[name] for name in COUNTERS})
        taken["peak_bytes"] = live.peak_bytes - before["live_bytes"]


@contextmanager
def no_d2h(syncs: bool = False) -> Iterator[dict[str, int]]:
    """Raise if the block copies to the host; with `syncs` also if it waits for the device."""
    with record() as taken:
        yield taken
    if taken["d2h"]:
        raise AssertionError(f"hidden copy to the host: {taken['d2h']} copies, {taken['d2h_bytes']} bytes")
    if syncs and taken["syncs"]:
        raise AssertionError(f"hidden synchronisation: {taken['syncs']}")
