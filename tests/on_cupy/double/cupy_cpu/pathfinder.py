"""Takes the place of cuda.pathfinder in CuPy: no library or header of NVIDIA is looked for."""

from __future__ import annotations

from typing import Any

from . import INCLUDE, LIB, load


class DynamicLibNotFoundError(RuntimeError):
    """There is no such library here."""


class LoadedDL:
    """What was found: a handle."""

    found_via = "cupy_cpu"
    abs_path = LIB

    def __init__(self, handle: int) -> None:
        self._handle_uint = handle


def load_nvidia_dynamic_lib(name: str) -> Any:
    """libcupycpu.so in the place of the runtime and NVRTC; cuBLAS is `cupy_cpu.cublas`."""
    if name in ("cudart", "nvrtc", "cublas"):
        return LoadedDL(0 if name == "cublas" else load()._handle)
    raise DynamicLibNotFoundError(f"the library {name!r} is not emulated")


def find_nvidia_header_directory(name: str) -> str | None:
    """The emulator's headers in the place of the runtime's."""
    return INCLUDE if name == "cudart" else None


def find_nvidia_binary_utility(name: str) -> None:
    """There is none."""
