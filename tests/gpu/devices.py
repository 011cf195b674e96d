"""Why a test of a GPU cannot run here."""

from __future__ import annotations

import os
from importlib import import_module, util

from ..helpers import BACKENDS

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several libraries and processes share the memory


def no_gpu() -> str | None:
    """Why CuPy cannot run."""
    if util.find_spec("cupy_cpu") is not None:
        return "needs a GPU; this is the CPU double of CuPy"
    missing = BACKENDS["cupy"].missing()
    return f"needs a GPU; {missing}" if missing else None


def no_cuda() -> str | None:
    """Why PyTorch cannot run on a GPU."""
    if util.find_spec("torch") is None:
        return "PyTorch is not installed"
    return None if import_module("torch").cuda.is_available() else "needs a GPU, and PyTorch with CUDA"
