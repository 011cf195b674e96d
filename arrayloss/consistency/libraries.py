"""The array libraries as the check sees them: is it there, how are arrays made and read back, who differentiates.

Nothing is imported before a library is used. `LIBRARIES` is the list, in the order of every table.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module, metadata, util
from typing import Any

import numpy as np

Array = Any
Call = Callable[..., Array]  # predictions, then targets
DTYPES = ("float16", "bfloat16", "float32", "float64")


class Library:
    """One array library; this class fits any that implements the array API and has no autograd."""

    has_autograd = False
    compiles = False

    def __init__(self, name: str, module: str | None = None) -> None:
        self.name = name
        self.module = module or name

    def __str__(self) -> str:
        return self.name

    def missing(self) -> str | None:
        """Why it cannot be used here, or None."""
        return None if util.find_spec(self.module) else "not installed"

    @property
    def version(self) -> str:
        distribution = self.module.replace("_", "-")
        return metadata.version(distribution) if util.find_spec(self.module) else "-"

    def devices(self) -> str:
        return "cpu"

    def precision(self, dtype: str) -> AbstractContextManager[Any]:
        """What must hold while a dtype is in use."""
        return nullcontext()

    # -- arrays -----------------------------------------------------------------------------------------------------

    def array(self, values: np.ndarray[Any, Any], dtype: str | None = None) -> Array:
        """A new array; the dtype of `values` where none is named."""
        return self.from_numpy(np.array(values) if dtype is None else rounded(values, dtype))

    def from_numpy(self, values: np.ndarray[Any, Any]) -> Array:
        return import_module(self.module).asarray(values)

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """An array on the host; the numbers in float64, which holds them all exactly."""
        return np.asarray(array).astype(np.float64)

    # -- derivatives ------------------------------------------------------------------------------------------------

    def compiled(self, call: Call) -> Call:
        raise NotImplementedError(f"{self.name} has no compiler")

    def gradient(self, call: Call, predictions: Sequence[Array], targets: Array) -> tuple[Array, ...]:
        """Gradients of the sum of what `call` returns."""
        raise NotImplementedError(f"{self.name} does not differentiate")

    def hessian(self, call: Call, predictions: Sequence[Array], targets: Array, axis: int | None) -> tuple[Array, ...]:
        """Hessian diagonals of the sum: elements do not interact, but entries along `axis` do."""
        raise NotImplementedError(f"{self.name} does not differentiate")


class Strict(Library):
    """array-api-strict: nothing but the standard."""

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.from_dlpack(array).astype(np.float64) if array.ndim else np.asarray(float(array))


class Dask(Library):
    """Dask arrays, in two chunks."""

    def missing(self) -> str | None:
        return None if util.find_spec("dask") and util.find_spec("dask.array") else "not installed"

    def from_numpy(self, values: np.ndarray[Any, Any]) -> Array:
        chunks = tuple(max(1, -(-n // 2)) if i == 0 else n for i, n in enumerate(values.shape))
        return import_module("dask.array").from_array(values, chunks=chunks)

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array.compute() if hasattr(array, "compute") else array).astype(np.float64)


class CuPy(Library):
    """CuPy, where there is a GPU."""

    def missing(self) -> str | None:
        if not util.find_spec("cupy"):
            return "not installed"
        return None if import_module("cupy").is_available() else "finds no GPU"

    @property
    def version(self) -> str:
        return str(import_module("cupy").__version__) if util.find_spec("cupy") else "-"

    def devices(self) -> str:
        return f"{import_module('cupy').cuda.runtime.getDeviceCount()} GPU"

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return array.get().astype(np.float64)


class Torch(Library):
    """PyTorch on the CPU: autograd, and `torch.compile`."""

    has_autograd = True
    compiles = True

    def precision(self, dtype: str) -> AbstractContextManager[Any]:
        """Its own primitives: small tensors have the digits of NumPy, which is a library of its own here."""
        from arrayloss.adapters import torch_host

        return torch_host.absent()

    def devices(self) -> str:
        torch = import_module("torch")
        cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return f"cpu ({torch.get_num_threads()} threads)" + (f", {cuda} GPU" if cuda else "")

    def array(self, values: np.ndarray[Any, Any], dtype: str | None = None) -> Array:
        torch = import_module("torch")
        if dtype is None:
            return torch.tensor(np.asarray(values))
        return torch.tensor(np.asarray(values, dtype=np.float64)).to(getattr(torch, dtype))

    def numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return array.detach().double().cpu().numpy()

    def compiled(self, call: Call) -> Call:
        torch = import_module("torch")
        torch.compiler.reset()
        made = torch.compile(call, fullgraph=True, dynamic=False)

        def quiet(*arrays: Array) -> Array:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler's own deprecations are no finding about a loss
                return made(*arrays)

        return quiet

    def gradient(self, call: Call, predictions: Sequence[Array], targets: Array) -> tuple[Array, ...]:
        torch = import_module("torch")
        xs = tuple(p.detach().clone().requires_grad_() for p in predictions)
        return tuple(torch.autograd.grad(self._sum(call(*xs, targets)), xs))

    def hessian(self, call: Call, predictions: Sequence[Array], targets: Array, axis: int | None) -> tuple[Array, ...]:
        torch = import_module("torch")
        xs = tuple(p.detach().clone().requires_grad_() for p in predictions)
        slopes = torch.autograd.grad(self._sum(call(*xs, targets)), xs, create_graph=True)
        result = []
        for x, slope in zip(xs, slopes, strict=True):
            if not slope.requires_grad:  # a line: its second derivative is 0
                result.append(torch.zeros_like(x))
                continue
            places = [None] if axis is None else range(x.shape[axis])
            columns = []
            for c in places:
                some = slope if c is None else slope.select(axis, c)
                (h,) = torch.autograd.grad(some.sum(), x, retain_graph=True)
                columns.append(h if c is None else h.select(axis, c))
            result.append(columns[0] if axis is None else torch.stack(columns, dim=axis))
        return tuple(result)

    @staticmethod
    def _sum(a: Array) -> Array:
        return a.sum() if a.ndim else a


class Jax(Library):
    """JAX on its default device: `jax.grad`, and `jax.jit`."""

    has_autograd = True
    compiles = True

    def devices(self) -> str:
        return ", ".join(sorted({d.platform for d in import_module("jax").devices()}))

    def precision(self, dtype: str) -> AbstractContextManager[Any]:
        jax = import_module("jax")
        wide = dtype == "float64"
        if hasattr(jax, "enable_x64"):
            return jax.enable_x64(wide)
        return import_module("jax.experimental").enable_x64(wide)

    def from_numpy(self, values: np.ndarray[Any, Any]) -> Array:
        if values.dtype == np.int64 and not import_module("jax").config.jax_enable_x64:
            values = values.astype(np.int32)  # what jax.numpy.asarray would make of it
        return import_module("jax.numpy").asarray(values)

    def compiled(self, call: Call) -> Call:
        return import_module("jax").jit(call)

    def gradient(self, call: Call, predictions: Sequence[Array], targets: Array) -> tuple[Array, ...]:
        jax = import_module("jax")
        return jax.grad(lambda *xs: call(*xs, targets).sum(), argnums=tuple(range(len(predictions))))(*predictions)

    def hessian(self, call: Call, predictions: Sequence[Array], targets: Array, axis: int | None) -> tuple[Array, ...]:
        jax, jnp = import_module("jax"), import_module("jax.numpy")
        slope = jax.grad(lambda *xs: call(*xs, targets).sum(), argnums=tuple(range(len(predictions))))
        result = []
        for i, x in enumerate(predictions):

            def entry(x: Array, c: int | None, i: int = i) -> Array:
                s = slope(*predictions[:i], x, *predictions[i + 1 :])[i]
                return s.sum() if c is None else jnp.take(s, c, axis=axis).sum()

            if axis is None:
                result.append(jax.grad(entry)(x, None))
            else:
                columns = [jnp.take(jax.grad(entry)(x, c), c, axis=axis) for c in range(x.shape[axis])]
                result.append(jnp.stack(columns, axis=axis))
        return tuple(result)


LIBRARIES: dict[str, Library] = {
    library.name: library
    for library in (
        Library("numpy"),
        Torch("torch"),
        Jax("jax"),
        Dask("dask"),
        CuPy("cupy"),
        Strict("strict", "array_api_strict"),
    )
}


def named(name: str) -> Library:
    """A library by name."""
    if name not in LIBRARIES:
        raise ValueError(f"backend must be one of {', '.join(LIBRARIES)}; got {name!r}")
    return LIBRARIES[name]


def rounded(values: Any, dtype: str) -> np.ndarray[Any, Any]:
    """Numbers as NumPy holds them in a dtype; bfloat16 is that of ml_dtypes."""
    values = np.asarray(values, dtype=np.float64)
    if dtype != "bfloat16":
        return values.astype(dtype)
    if not util.find_spec("ml_dtypes"):
        raise NotImplementedError("bfloat16 outside PyTorch needs ml_dtypes, which JAX brings")
    return values.astype(import_module("ml_dtypes").bfloat16)
