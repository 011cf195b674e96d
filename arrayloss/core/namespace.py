"""Which array library an array belongs to: one dictionary look-up after the first array of a type."""

from __future__ import annotations

from typing import Any

BACKENDS: dict[type, Any] = {}  # of the types of array that came
_LIBRARIES = {"numpy": "numpy", "torch": "torch", "jax": "jax", "jaxlib": "jax", "cupy": "cupy", "dask": "dask"}
_CONVERSIONS = {
    "list": "numpy.asarray(...)",
    "tuple": "numpy.asarray(...)",
    "int": "a 0-d array",
    "float": "a 0-d array",
    "MaskedArray": "its .data, with where=~mask",
    "matrix": "numpy.asarray(...)",
    "DataFrame": ".to_numpy()",
    "Series": ".to_numpy()",
}


def backend_of(array: Any, name: str = "array") -> Any:
    """The adapter for an array's library; `name` is how an error calls the array."""
    found = BACKENDS.get(type(array))
    if found is None:
        found = BACKENDS[type(array)] = _discover(array, name)
    return found


def adapter(library: str) -> Any:
    """The adapter of a library by name; it imports that library.

    A compiler that meets a loss for the first time can follow these statements, but no `importlib`.
    """
    if library == "numpy":
        from arrayloss.adapters import numpy

        return numpy.ADAPTER
    if library == "torch":
        from arrayloss.adapters import torch

        return torch.ADAPTER
    if library == "jax":
        from arrayloss.adapters import jax

        return jax.ADAPTER
    if library == "cupy":
        from arrayloss.adapters import cupy

        return cupy.ADAPTER
    if library == "dask":
        from arrayloss.adapters import dask

        return dask.ADAPTER
    raise ValueError(f"there is no adapter for {library!r}")


def _discover(array: Any, name: str) -> Any:
    kind = type(array)
    if kind.__name__ in ("MaskedArray", "matrix") or not hasattr(array, "dtype") or not hasattr(array, "ndim"):
        raise refusal(array, name)
    for base in kind.__mro__:
        library = _LIBRARIES.get(base.__module__.partition(".")[0])
        if library is not None:
            return adapter(library)
    if hasattr(array, "__array_namespace__"):
        from arrayloss.adapters.base import Adapter

        return Adapter(array.__array_namespace__())
    raise refusal(array, name)


def refusal(array: Any, name: str) -> TypeError:
    """The error for something that is no array of a library we know."""
    kind = type(array)
    text = f"{name} must be an array (NumPy, PyTorch, JAX, CuPy, Dask or another of the array API); got {kind.__module__}.{kind.__name__}"
    return TypeError(text + (f": pass {_CONVERSIONS[kind.__name__]}" if kind.__name__ in _CONVERSIONS else ""))
