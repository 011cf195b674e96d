"""Which adapter an array belongs to: one dictionary look-up after the first array of a type. The only file that names adapters."""

from __future__ import annotations

from typing import Any

from .base import Adapter, no_array, refuse_masked

ADAPTERS: dict[type, Any] = {}


def adapter_of(array: Any, name: str = "array") -> Any:
    """The adapter of an array's library; `name` is how an error calls the array."""
    adapter = ADAPTERS.get(type(array))
    if adapter is None:
        adapter = ADAPTERS[type(array)] = _find(array, name)
    return adapter


def _find(array: Any, name: str) -> Any:
    kind = type(array)
    library: Any
    refuse_masked(array, name)
    bases = [base.__name__ for base in kind.__mro__]
    if "matrix" not in bases and hasattr(array, "dtype") and hasattr(array, "ndim"):
        for base in kind.__mro__:
            package = base.__module__.partition(".")[0]
            if package == "numpy":  # a compiler that meets a loss for the first time can follow these statements, but no importlib
                from . import numpy as library
            elif package == "torch":
                from . import torch as library
            elif package in ("jax", "jaxlib"):
                from . import jax as library
            elif package == "cupy":
                from . import cupy as library
            elif package == "dask":
                from . import dask as library
            else:
                continue
            return library.ADAPTER
        if hasattr(array, "__array_namespace__"):
            return Adapter(array.__array_namespace__())
    raise no_array(array, name, "an array (NumPy, PyTorch, JAX or another of the array API)", "numpy.asarray")
