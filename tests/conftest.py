"""The `xp` fixture: every array library, as a test sees it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module, util
from typing import Any

import numpy as np
import pytest

collect_ignore = ["contributed.py", "on_four_devices.py"]  # programs that tests run in a process of their own


@dataclass(frozen=True)
class Backend:
    """How a test makes arrays of one library and reads them back."""

    name: str
    library: str
    device: str | None = None
    read_only: bool = False

    @property
    def reads_labels(self) -> bool:
        """Whether labels out of range raise; elsewhere they give NaN."""
        return self.library in ("numpy", "torch")

    def array(self, values: Any, dtype: str | None = None) -> Any:
        """A new array; a dtype by name, "bfloat16" included."""
        values = np.array(values)
        if self.library == "torch":
            import torch

            made = torch.from_numpy(np.ascontiguousarray(values)) if values.ndim else torch.tensor(values[()])
            return made if dtype is None else made.to(getattr(torch, dtype))
        if dtype == "bfloat16":
            import ml_dtypes

            values = values.astype(ml_dtypes.bfloat16)
        elif dtype is not None:
            values = values.astype(dtype)
        if self.library == "numpy":
            values.flags.writeable = not self.read_only
            return values
        if self.library == "jax":
            import jax.numpy as jnp

            return jnp.asarray(values)
        if self.library == "dask":
            import dask.array as da

            return da.from_array(values, chunks=tuple(max(2, -(-n // 2)) for n in values.shape))
        if self.library == "cupy":
            import cupy

            return cupy.asarray(values)
        import array_api_strict

        return array_api_strict.asarray(values, device=array_api_strict.Device(self.device))

    def numpy(self, array: Any) -> np.ndarray:
        """The array on the host, bfloat16 widened to float32."""
        if self.library == "torch":
            array = array.detach()
            array = array.float() if str(array.dtype) == "torch.bfloat16" else array
            return array.numpy()
        if self.library == "dask":
            return np.asarray(array.compute() if hasattr(array, "compute") else array)
        if self.library == "cupy":
            array = array.get()
        if self.library == "array_api_strict":
            import array_api_strict

            array = array_api_strict.asarray(array, copy=True, device=array_api_strict.Device("CPU_DEVICE"))
        array = np.asarray(array)
        return array.astype(np.float32) if array.dtype.name == "bfloat16" else array

    def __str__(self) -> str:
        return self.name


BACKENDS = [
    Backend("numpy", "numpy"),
    Backend("numpy-read-only", "numpy", read_only=True),
    Backend("strict", "array_api_strict", device="CPU_DEVICE"),
    Backend("strict-device1", "array_api_strict", device="device1"),
    Backend("torch", "torch"),
    Backend("jax", "jax"),
    Backend("dask", "dask"),
    Backend("cupy", "cupy"),
]


def missing(library: str) -> str | None:
    """Why a library cannot be used here."""
    if util.find_spec(library) is None:
        return f"{library} is not installed"
    if library == "cupy" and not import_module("cupy").is_available():
        return "cupy finds no GPU"
    return None


def without_numpy_for_torch() -> AbstractContextManager[Any]:
    """Small tensors are computed as large ones are, by PyTorch's own calls; what NumPy makes of them is tested with its arrays."""
    if not util.find_spec("torch"):
        return nullcontext()
    from arrayloss.adapters import torch_host

    return torch_host.absent()


@pytest.fixture(autouse=True)
def accuracy_is_that_of_every_size(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is measured is what tensors of every size can take."""
    with without_numpy_for_torch() if request.path.parent.name == "accuracy" else nullcontext():
        yield


@pytest.fixture(params=BACKENDS, ids=str)
def xp(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every backend in turn."""
    backend: Backend = request.param
    reason = missing(backend.library)
    if reason is not None:
        pytest.skip(reason)
    if backend.library == "torch":
        with without_numpy_for_torch():
            yield backend
        return
    if backend.library != "jax":
        yield backend
        return
    import jax

    # JAX has no float64 otherwise. Compiling for every new shape is most of what such tests cost, so only those marked `jitted` do.
    with jax.enable_x64(True), jax.disable_jit("jitted" not in request.keywords):
        yield backend
