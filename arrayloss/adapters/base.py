"""The adapter of any array library: plain array calls, gradients by the pullback."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

Array = Any
Arrays = tuple[Array, ...]


@dataclass(eq=False)
class Call:
    """A loss with its arguments, not yet computed."""

    adapter: Any
    operation: Any
    arrays: Arrays
    finish: Any
    is_additive: bool = True  # the losses of two batches add
    shapes: Sequence[tuple[int, ...]] = ()  # of the predictions before they were broadcast
    is_of_arguments: bool = True  # its arrays are the predictions of the caller, not functions of them that only autograd knows

    def sum_to_shapes(self, gradients: Arrays) -> Any:
        """Gradients of the predictions as they came: of one that was broadcast the sum. That of a single one is no tuple."""
        xp, sums = self.adapter.xp, list(gradients)
        for i, shape in enumerate(self.shapes):
            axes = tuple([a for a, n in enumerate(sums[i].shape) if not shape or shape[a : a + 1] == (1,) != (n,)])
            if axes:
                total = xp.sum(sums[i], axis=axes, dtype=xp.float64 if self.operation.float64 else xp.float32)
                sums[i] = xp.reshape(xp.astype(total, sums[i].dtype), shape)
        return tuple(sums) if len(sums) > 1 else sums[0]


class Adapter:
    """How an operation is run for one array library, and how its autograd learns the pullback."""

    conversion = "asarray"  # the function of the library that an error advises
    to_integers, to_floats = ".astype('int64')", ".astype('float32')"  # methods that errors advise
    float64: Any = nullcontext  # a context in which arrays of 64 bits compute, for parts
    compares_devices = False  # whether an array elsewhere than the predictions is an error

    def __init__(self, xp: Any, name: str = "") -> None:
        self.xp = xp
        self.name = name or xp.__name__.rsplit(".", 1)[-1]

    def as_array(self, a: Any, like: Array, name: str) -> Array:
        """`a` if it is an array of this library, beside predictions `like`."""
        if type(a) is not type(like):
            refuse_masked(a, name)
            if not self.owns(a):
                rule = f"an array of {self.name}" + ("" if a is like else ", as the predictions are")
                raise no_array(a, name, rule, f"{self.name}.{self.conversion}")
        if self.compares_devices and a.device != like.device:
            raise ValueError(f"{name} must be on the device of the predictions, {like.device}; got {a.device}: pass {name}.to(...)")
        return a

    def host_view(self, a: Array) -> Any:
        """What can be read now, without stopping a compiler or waiting for a device, as the host engine sees it; else None."""
        return None

    def label_mode(self, op: Any, arrays: Sequence[Array]) -> str:
        """Labels out of range raise where they may be read; elsewhere their loss is NaN."""
        return "raise" if op.labels is not None and self.host_view(arrays[op.labels.index]) is not None else "nan"

    def owns(self, a: Any) -> bool:
        return hasattr(a, "__array_namespace__") and a.__array_namespace__() is self.xp

    def symbolic_number(self, number: float, dtype: Any, like: Array) -> Array | None:
        """A number that a compiler lets vary, as an array."""
        return None

    def has_float64(self, x: Array, *, for_parts: bool = False) -> bool:
        """Whether sums on the device of `x`, or those of parts, may be float64."""
        return True

    def forward(self, op: Any, arrays: Sequence[Array]) -> Arrays:
        """The sums, differentiable where the library differentiates."""
        return op.to_result(self.xp, arrays[0], op.vjp(self.xp, arrays)[0]())

    def value(self, call: Call) -> Array:
        """What the loss returns, differentiable where the library differentiates."""
        return self.finish(call.finish, self.forward(call.operation, call.arrays))

    def finish(self, finish: Any, sums: Sequence[Array]) -> Array:
        return next(finish(self.xp, sums))

    def value_and_grad(self, call: Call) -> tuple[Array, Arrays]:
        """What the loss returns, and the gradient of each prediction."""
        op, x = call.operation, call.arrays[0]
        sums, pullback = op.vjp(self.xp, call.arrays, self.label_mode(op, call.arrays))
        steps = call.finish(self.xp, op.to_result(self.xp, x, sums()))
        value = next(steps)
        return value, self.pull(op, x, pullback, next(steps))

    def derivatives(self, call: Call) -> tuple[Arrays, ...]:
        op, arrays = call.operation, call.arrays
        return tuple([self.cast(many, arrays[0]) for many in op.derivatives(self.xp, arrays, self.label_mode(op, arrays))])

    def pull(self, op: Any, x: Array, pullback: Any, cotangents: Sequence[Any]) -> Arrays:
        """Gradients in the dtype of the predictions from cotangents of the sums."""
        return self.cast(pullback([op.expand_cotangent(self.xp, x, c) for c in cotangents]), x)

    def cast(self, gradients: Sequence[Array], x: Array) -> Arrays:
        """Gradients in the dtype of the predictions: those of 16-bit predictions are computed in float32 and rounded once."""
        return tuple([self.xp.astype(g, x.dtype, copy=False) for g in gradients])


def refuse_masked(array: Any, name: str) -> None:
    """Raise on a masked array or a subclass of one: a plain view of it would forget the mask."""
    bases = [base.__name__ for base in type(array).__mro__]
    if "MaskedArray" in bases or "MaskedTensor" in bases:
        mask = "~mask" if "MaskedArray" in bases else "mask"
        raise TypeError(f"{name} must not be a masked array; got {type(array).__name__}: pass its data and where={mask}")


def no_array(a: Any, name: str, rule: str, conversion: str) -> TypeError:
    """The error for what is no array of a library. Files are read into memory, and sparse matrices filled, before they are converted."""
    kind = f"{type(a).__module__}.{type(a).__name__}".removeprefix("builtins.")
    read = {"h5py": "[:]", "zarr": "[:]", "scipy": ".toarray()", "sparse": ".todense()"}.get(kind.partition(".")[0], "")
    return TypeError(f"{name} must be {rule}; got {kind}: pass {conversion}({name}{read})")
