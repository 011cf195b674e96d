"""The array libraries as the check sees them: whether one is installed, how arrays are made and read back, who differentiates.

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
Call = Callable[..., Array]  # of predictions, then of other arrays
DTYPES = ("float16", "bfloat16", "float32", "float64")


class Library:
    """One array library; this class fits any that implements the array API and has no autograd."""

    has_autograd = compiles = False
    gradient: Any  # where the library has autograd; so is `hessian`
    hessian: Any
    compiled: Any  # where it compiles

    def __init__(self, name: str, module: str | None = None) -> None:
        self.name = name
        self.module = module or name

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

    def array(self, values: np.ndarray[Any, Any], dtype: str | None = None) -> Array:
        """A new array; the dtype of `values` where none is named."""
        return self.from_numpy(np.array(values) if dtype is None else rounded(values, dtype))

    def from_numpy(self, values: np.ndarray[Any, Any]) -> Array:
        return import_module(self.module).asarray(values)

    def numpy(self, array: Array) -> Array:
        """An array on the host; the numbers in float64, which holds them all exactly."""
        return np.asarray(array).astype(np.float64)


class Strict(Library):
    """array-api-strict: nothing but the standard."""

    def numpy(self, array: Array) -> Array:
        own = array.__array_namespace__().asarray(array, copy=True)  # NumPy 2.0 lends nothing that is read-only
        return np.from_dlpack(own).astype(np.float64) if array.ndim else np.asarray(float(array))


class Dask(Library):
    """Dask arrays, in two chunks."""

    def missing(self) -> str | None:
        return None if util.find_spec("dask") and util.find_spec("dask.array") else "not installed"

    def from_numpy(self, values: np.ndarray[Any, Any]) -> Array:
        chunks = tuple(max(1, -(-n // 2)) if i == 0 else n for i, n in enumerate(values.shape))
        return import_module("dask.array").from_array(values, chunks=chunks)

    def numpy(self, array: Array) -> Array:
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

    def numpy(self, array: Array) -> Array:
        return array.get().astype(np.float64)


class Torch(Library):
    """PyTorch on the CPU: autograd, and `torch.compile`."""

    has_autograd = compiles = True

    def devices(self) -> str:
        torch = import_module("torch")
        cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return f"cpu ({torch.get_num_threads()} threads)" + (f", {cuda} GPU" if cuda else "")

    def array(self, values: np.ndarray[Any, Any], dtype: str | None = None) -> Array:
        torch = import_module("torch")
        if dtype is None:
            return torch.tensor(np.asarray(values))
        return torch.tensor(np.asarray(values, dtype=np.float64)).to(getattr(torch, dtype))

    def numpy(self, array: Array) -> Array:
        return array.detach().double().cpu().numpy()

    def compiled(self, call: Call) -> Call:
        torch = import_module("torch")
        torch.compiler.reset()
        program = torch.compile(call, fullgraph=True, dynamic=False)

        def quiet(*arrays: Array) -> Array:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler's own deprecations are no finding about a loss
                return program(*arrays)

        return quiet

    def gradient(self, call: Call, predictions: Sequence[Array], others: Sequence[Array]) -> tuple[Array, ...]:
        """Gradients of the sum of what `call` returns."""
        torch = import_module("torch")
        xs = tuple(p.detach().clone().requires_grad_() for p in predictions)
        return tuple(torch.autograd.grad(self._sum(call(*xs, *others)), xs))

    def hessian(self, call: Call, predictions: Sequence[Array], others: Sequence[Array], axis: int | None) -> tuple[Array, ...]:
        """Hessian diagonals of the sum: elements do not interact, but entries along `axis` do."""
        torch = import_module("torch")
        xs = tuple(p.detach().clone().requires_grad_() for p in predictions)
        slopes = torch.autograd.grad(self._sum(call(*xs, *others)), xs, create_graph=True)
        diagonals = []
        for x, slope in zip(xs, slopes, strict=True):
            diagonal = torch.zeros_like(x)
            for mask in unrelated(x.shape, axis) if slope.requires_grad else ():  # else a line: its second derivative is 0
                (h,) = torch.autograd.grad(slope, x, torch.tensor(mask).to(x.dtype), retain_graph=True)
                diagonal = torch.where(torch.tensor(mask), h, diagonal)
            diagonals.append(diagonal)
        return tuple(diagonals)

    @staticmethod
    def _sum(a: Array) -> Array:
        return a.sum() if a.ndim else a


class Jax(Library):
    """JAX on its default device: `jax.grad`, and `jax.jit`."""

    has_autograd = compiles = True

    def devices(self) -> str:
        return ", ".join(sorted({d.platform for d in import_module("jax").devices()}))

    def precision(self, dtype: str) -> AbstractContextManager[Any]:
        where = "jax" if hasattr(import_module("jax"), "enable_x64") else "jax.experimental"  # of older versions
        context: AbstractContextManager[Any] = import_module(where).enable_x64(dtype == "float64")
        return context

    def from_numpy(self, values: np.ndarray[Any, Any]) -> Array:
        if values.dtype == np.int64 and not import_module("jax").config.jax_enable_x64:
            values = values.astype(np.int32)  # what jax.numpy.asarray would make of it
        return import_module("jax.numpy").asarray(values)

    def compiled(self, call: Call) -> Call:
        program: Call = import_module("jax").jit(call)
        return program

    def gradient(self, call: Call, predictions: Sequence[Array], others: Sequence[Array]) -> tuple[Array, ...]:
        jax = import_module("jax")
        return tuple(jax.grad(lambda *xs: call(*xs, *others).sum(), argnums=tuple(range(len(predictions))))(*predictions))

    def hessian(self, call: Call, predictions: Sequence[Array], others: Sequence[Array], axis: int | None) -> tuple[Array, ...]:
        jax, jnp = import_module("jax"), import_module("jax.numpy")
        slope = jax.grad(lambda *xs: call(*xs, *others).sum(), argnums=tuple(range(len(predictions))))
        diagonals = []
        for i, x in enumerate(predictions):
            _, pullback = jax.vjp(lambda v, i=i: slope(*predictions[:i], v, *predictions[i + 1 :])[i], x)
            diagonal = jnp.zeros_like(x)
            for mask in unrelated(x.shape, axis):
                diagonal = jnp.where(mask, pullback(jnp.asarray(mask, dtype=x.dtype))[0], diagonal)
            diagonals.append(diagonal)
        return tuple(diagonals)


def unrelated(shape: Sequence[int], axis: int | None) -> list[Any]:
    """Masks of entries that do not interact: all of them, or those with one index along `axis`."""
    return [np.ones(shape, dtype=bool)] if axis is None else [np.indices(shape)[axis] == c for c in range(shape[axis])]


_ALL = Library("numpy"), Torch("torch"), Jax("jax"), Dask("dask"), CuPy("cupy"), Strict("strict", "array_api_strict")
LIBRARIES: dict[str, Library] = {library.name: library for library in _ALL}


def library_of(name: str) -> Library:
    """A library by name."""
    if name not in LIBRARIES:
        raise ValueError(f"backend must be one of {', '.join(LIBRARIES)}; got {name!r}")
    return LIBRARIES[name]


def rounded(values: Any, dtype: str) -> Array:
    """Numbers as NumPy holds them in a dtype; bfloat16 is that of ml_dtypes."""
    values = np.asarray(values, dtype=np.float64)
    if dtype != "bfloat16":
        return values.astype(dtype)
    if not util.find_spec("ml_dtypes"):
        raise NotImplementedError("bfloat16 outside PyTorch needs ml_dtypes, which JAX brings")
    return values.astype(import_module("ml_dtypes").bfloat16)
