"""The adapter for any array library: plain array calls, gradients from the slopes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Array = Any
Pull = Callable[[Sequence[Any]], tuple[Array, ...]]


class Adapter:
    """How an operation (a `Separable`, say) is run for one array library.

    Subclasses answer two questions: how is a kernel run fast here, and how does this library's autograd learn the slope?
    """

    has_autograd = False
    joins = True  # operations over one softmax are run together

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.name = xp.__name__.rsplit(".", 1)[-1] if hasattr(xp, "__name__") else type(xp).__name__

    # -- arrays -----------------------------------------------------------------------------------------------------

    def accept(self, array: Any, like: Array, name: str) -> Array:
        """`array` as an array of this library."""
        from arrayloss.core.namespace import backend_of

        other = backend_of(array, name)
        if other is not self:
            raise TypeError(f"{name} is a {_described(array)} beside predictions that are a {_described(like)}: {self.conversion(name)}")
        return array

    def conversion(self, name: str) -> str:
        return f"convert it first, such as by {self.name}.asarray({name})"

    def constant(self, values: Any, dtype: Any, like: Array) -> Array:
        """Python numbers as an array on the device of `like`."""
        return self.xp.asarray(values, dtype=dtype, device=self.device(like))

    def device(self, array: Array) -> Any:
        from array_api_compat import device

        return device(array)

    def varying(self, number: float, dtype: Any, like: Array) -> Array | None:
        """A number that a compiler lets vary from call to call, as an array: a formula that looks at it would make it a constant."""
        return None

    def has_float64(self, array: Array) -> bool:
        return True

    def reads_labels(self, array: Array) -> bool:
        """Whether two labels can be read now, without stopping a compiler or waiting for a device."""
        return False

    def repeats(self) -> bool:
        """Whether a call may be taken for one like an earlier one: in plain eager mode, where nothing looks on."""
        return False

    # -- running ------------------------------------------------------------------------------------------------------

    def value(self, call: Any) -> Array:
        """The number of a call."""
        if call.direct:
            return self.forward(call.op, call.arrays)[0]
        return next(call.answer(self.forward(call.asked(), call.arrays)))

    def forward(self, op: Any, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs of an operation, differentiable where the library differentiates."""
        return op.forward(self.xp, arrays)

    def linearize(self, op: Any, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], Pull]:
        """The outputs, and the function from their cotangents to the gradients of the predictions."""
        outputs, residual = op.linearize(self.xp, arrays)
        return outputs, lambda cotangents: op.pull(self.xp, arrays, residual, cotangents)

    def derivatives(self, op: Any, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Slope and curvature of every prediction."""
        _, slopes, curvatures = op.step(self.xp, arrays, 2)
        return slopes, curvatures

    def stages(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
        """What an elementwise generator of array code yields."""
        return function(self.xp, *arguments)


def _described(array: Any) -> str:
    return f"{type(array).__module__.partition('.')[0]} {type(array).__name__}"
