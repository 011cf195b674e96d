"""Array libraries as tests see them: how arrays are made and read back; and how close two results have to be."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module, util
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest

Array = Any
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
HALVES = ("float16", "bfloat16")


def is_release(library: str, release: str) -> bool:
    return util.find_spec(library) is not None and version(library).startswith(f"{release}.")


def lacking(library: str, releases: str, reason: str) -> pytest.MarkDecorator:
    """Skips a test of what releases, one or several, cannot do."""
    return pytest.mark.skipif(any(is_release(library, r) for r in releases.split()), reason=f"{library} {releases}: {reason}")


needs_whole_graphs = lacking(
    "torch", "2.6 2.7", "the compiler breaks a graph where it meets a dataclass or a cache, or (2.7) two dictionaries joined by |"
)
WHOLE_GRAPHS = not needs_whole_graphs.args[0]
needs_64_bits = lacking("jax", "0.5", "no jax.enable_x64: arrays of 64 bits become ones of 32 where x64 is not enabled")
needs_transposed_scan = lacking("jax", "0.5", "lax.scan over blocks, checkpointed, has no transpose")
needs_meshes = lacking("jax", "0.5", "no jax.sharding.AxisType, which meshes with explicit axes have")


def quietly() -> AbstractContextManager[Any]:
    """Compiling any `autograd.Function` makes dynamo warn about its own use of `torch.jit` (torch 2.13)."""
    return warnings.catch_warnings(action="ignore")


@dataclass(frozen=True)
class Backend:
    """One array library. Arrays of NumPy are read-only, so that whatever writes to its inputs fails; strict ones are on a second device."""

    name: str
    library: str

    @property
    def reads_labels(self) -> bool:
        """Whether labels out of range raise; elsewhere they give NaN."""
        return self.name in ("numpy", "torch")

    def missing(self) -> str | None:
        """Why it cannot be used here."""
        if util.find_spec(self.library) is None:
            return f"{self.library} is not installed"
        return "CuPy finds no GPU" if self.name == "cupy" and not import_module("cupy").is_available() else None

    def has(self, dtype: str) -> bool:
        """Whether it has a dtype: the array API standard knows no 16 bits, and Dask's arrays are no bfloat16."""
        return dtype not in HALVES or self.name not in ("strict", "dask") or (self.name, dtype) == ("dask", "float16")

    def array(self, values: Any, dtype: str | None = None) -> Array:
        """A new array; a dtype by name, "bfloat16" included."""
        values = np.array(values)
        if self.name == "torch":
            import torch

            tensor = torch.from_numpy(values.reshape(values.shape or 1)).reshape(values.shape)
            return tensor if dtype is None else tensor.to(getattr(torch, dtype))
        if dtype == "bfloat16":
            import ml_dtypes

            values = values.astype(ml_dtypes.bfloat16)
        elif dtype is not None:
            values = values.astype(dtype)
        if self.name == "jax":
            return import_module("jax.numpy").asarray(values)
        if self.name == "dask":
            return import_module("dask.array").from_array(values, chunks=tuple([max(2, -(-n // 2)) for n in values.shape]))
        if self.name == "cupy":
            return import_module("cupy").asarray(values)
        if self.name == "strict":
            strict = import_module("array_api_strict")
            return strict.asarray(values, device=strict.Device("device1"))
        values.flags.writeable = False
        return values

    def arrays(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options with their NumPy arrays moved."""
        return {name: self.array(value) if isinstance(value, np.ndarray) else value for name, value in options.items()}

    def numpy(self, array: Array) -> np.ndarray:
        """The array on the host, bfloat16 widened to float32."""
        if self.name == "torch":
            array = array.detach()
            return (array.float() if str(array.dtype) == "torch.bfloat16" else array).numpy()
        if self.name == "cupy":
            array = array.get()
        if self.name == "strict":
            strict = import_module("array_api_strict")
            array = strict.asarray(array, copy=True, device=strict.Device("CPU_DEVICE"))
        array = np.asarray(array)
        return array.astype(np.float32) if array.dtype.name == "bfloat16" else array

    def __str__(self) -> str:
        return self.name


BACKENDS = {
    name: Backend(name, library)
    for name, library in {
        "numpy": "numpy",
        "strict": "array_api_strict",
        "torch": "torch",
        "jax": "jax",
        "dask": "dask",
        "cupy": "cupy",
    }.items()
}


def several(gradients: Any) -> tuple[Array, ...]:
    """The gradients of all predictions, one or more, as a tuple."""
    return gradients if isinstance(gradients, tuple) else (gradients,)


def assert_same(a: Any, b: Any) -> None:
    """Equal but for rounding in float64."""
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-9, atol=1e-12)


def assert_close(actual: Any, expected: Any, dtype: str = "float64", ulps: float = 32) -> None:
    """Equal shapes, and equal up to `ulps` of the larger of the exact value and 1.

    32 is a finite sum of a few terms, each a few calls that are right to 1 to 3 ulp; a wrong term, factor or sign is larger by far.
    """
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=ulps * EPSILON[dtype], atol=ulps * EPSILON[dtype])


def each(cases: Any) -> Any:
    """A fixture that takes each of some cases in turn; a dictionary names them."""

    @pytest.fixture(params=list(cases.values()) if isinstance(cases, dict) else cases, ids=list(cases) if isinstance(cases, dict) else None)
    def one(request: pytest.FixtureRequest) -> Any:
        return request.param

    return one
