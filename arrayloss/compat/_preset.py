"""Presets: functions with the signature of a loss of another library that say which call of ours gives its number."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import update_wrapper
from math import prod
from typing import Any, Generic, ParamSpec

from arrayloss.adapters.dispatch import adapter_of
from arrayloss.core import dtypes
from arrayloss.core.parts import Parts

Array = Any
P = ParamSpec("P")
INTEGERS = ("bool", "integer")


class UnlikeError(NotImplementedError):
    """The number of the other library cannot be had; the message says what differs, and what to call instead."""


class Symbol:
    """Stands for an array in a call that is only to be shown: what is computed of it is text."""

    def __init__(self, text: str, shape: tuple[Any, ...] = (), dtype: str = "float64") -> None:
        self.text, self.shape, self.dtype, self.ndim = text, shape, dtype, len(shape)

    def __repr__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> Any:
        return self._with("==", other) if self.shape and isinstance(other, (int, float)) else self is other

    __hash__ = object.__hash__

    def _with(self, sign: str, other: Any, *, is_left: bool = True) -> Symbol:
        sides = (self, other) if is_left else (other, self)
        return Symbol(f"({sides[0]!r} {sign} {sides[1]!r})", self.shape, self.dtype)

    def __add__(self, other: Any) -> Symbol:
        return self._with("+", other)

    def __sub__(self, other: Any) -> Symbol:
        return self._with("-", other)

    def __rsub__(self, other: Any) -> Symbol:
        return self._with("-", other, is_left=False)

    def __mul__(self, other: Any) -> Symbol:
        return self._with("*", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Symbol:
        return self._with("/", other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self._with("/", other, is_left=False)

    def __getitem__(self, index: Any) -> Symbol:
        text = str(index).replace("Ellipsis", "...").strip("()")
        return Symbol(f"{self.text}[{text}]", self.shape + (1,) * (index == (..., None)), self.dtype)


class _Text:
    """A namespace whose functions are text."""

    def __getattr__(self, name: str) -> Any:
        if name in ("float32", "float64", "int64", "bool"):
            return name
        return lambda *args, **options: Symbol(
            f"{name}({', '.join([*map(repr, args), *[f'{n}={v!r}' for n, v in options.items()]])})", args[0].shape, args[0].dtype
        )


class _TextAdapter:
    xp = _Text()

    @staticmethod
    def host_view(a: Any) -> None:
        return None


SIZES = Symbol("N"), Symbol("H"), Symbol("W"), Symbol("C")


def adapter(a: Array, name: str = "input") -> Any:
    """The adapter of an array's library."""
    return _TextAdapter if isinstance(a, Symbol) else adapter_of(a, name)


@dataclass(eq=False)
class Native:
    """A call of a loss of ours with the number of the other library: `scale * loss(*arrays, **options) + shift`.

    given : the predictions as they came, for gradients of their shapes; by default as the loss takes them
    back : for each of them a linear function of gradients, from what the loss took to what came; None: they differ in shape only
    summed : an axis of the result that is summed in the end
    """

    loss: Any
    arrays: Sequence[Array]
    options: dict[str, Any] = field(default_factory=dict)
    given: Sequence[Array] = ()
    back: Sequence[Callable[[Array], Array] | None] = ()
    scale: Any = 1.0
    shift: Any = 0.0
    summed: int | None = None

    def value(self) -> Array:
        return self._finished(self.loss(*self.arrays, **self.options))

    def value_and_grad(self) -> tuple[Array, Any]:
        value, gradients = self.loss.value_and_grad(*self.arrays, **self.options)
        return self._finished(value), self._to_given(gradients)

    def grad_and_hess(self) -> tuple[Any, Any]:
        gradients, hessians = self.loss.grad_and_hess(*self.arrays, **self.options)
        return self._to_given(gradients), self._to_given(hessians)

    def parts(self) -> Parts:
        if self.summed is not None:
            raise ValueError("reduction must be one that leaves no axis for parts")
        if dtypes.is_array(self.shift) or (self.shift and self.options.get("reduction") == "sum"):
            raise NotImplementedError(f"there are no parts: what is added depends on the number of elements, {text_of(self.shift)}")
        parts: Parts = self.loss.parts(*self.arrays, **{n: v for n, v in self.options.items() if n != "normalizer"})
        return parts

    def finish(self, parts: Parts) -> Array:
        given = {n: self.options[n] for n in ("reduction", "normalizer") if n in self.options}
        return self._finished(self.loss.finish(parts, **given))

    def _finished(self, value: Array) -> Array:
        value = value if is_one(self.scale) else self.scale * value
        value = value if self.summed is None else adapter(value).xp.sum(value, axis=self.summed)
        return value if not dtypes.is_array(self.shift) and self.shift == 0 else value + self.shift

    def _to_given(self, gradients: Any) -> Any:
        several = gradients if isinstance(gradients, tuple) else (gradients,)
        back = [*self.back, *[None] * len(several)]
        results = []
        for i, gradient in enumerate(several):
            g, step = gradient, back[i]
            g = g if step is None else step(g)
            g = sum_to_shape(g, tuple(self.given[i].shape)) if i < len(self.given) else g
            results.append(g if is_one(self.scale) else self.scale * g)
        return tuple(results) if len(results) > 1 else results[0]

    def __repr__(self) -> str:
        """The call; of options that are not the default."""
        defaults = self.loss._defaults
        own = [(n, v) for n, v in self.options.items() if isinstance(v, Symbol) or dtypes.is_array(v) or v != defaults[n]]
        texts = [text_of(a) for a in self.arrays] + [f"{n}={text_of(v)}" for n, v in own]
        text = f"{self.loss.name}({', '.join(texts)})"
        text = text if is_one(self.scale) else f"{text_of(self.scale)} * {text}"
        text = text if self.summed is None else f"sum({text}, axis={self.summed})"
        if dtypes.is_array(self.shift):
            return f"{text} + {text_of(self.shift)}"
        return text if self.shift == 0 else f"{text} {'+' if self.shift > 0 else '-'} {abs(self.shift):g}"


def is_one(scale: Any) -> bool:
    return isinstance(scale, (int, float)) and scale == 1


def text_of(value: Any) -> str:
    if dtypes.is_array(value) and not isinstance(value, Symbol):
        return f"<{dtypes.name(value.dtype)} {tuple(value.shape)}>"
    return getattr(value, "__name__", None) or repr(value)


class Preset(Generic[P]):
    """A loss of another library: its name, arguments, defaults and results."""

    def __init__(self, function: Callable[P, Native], peer: str, version: str, differs: str, shows: Any, labels: Any, maps: Any) -> None:
        self._function, self.name, self.peer, self.version = function, function.__name__, peer, version
        self.differs, self.shows, self.labels, self.maps = differs, tuple(shows), tuple(labels), tuple(maps)
        update_wrapper(self, function)
        self.__doc__ = f"`{peer}.{self.name}` of {version}." + (f" {differs}" if differs else "")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Array:
        return self._function(*args, **kwargs).value()

    def value_and_grad(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Array, Any]:
        """What the call returns, and its gradient with respect to the predictions (a tuple, if there are several)."""
        return self._function(*args, **kwargs).value_and_grad()

    def grad_and_hess(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Any, Any]:
        """First and second derivatives of the sum for every prediction, never divided by a number of elements."""
        return self._function(*args, **kwargs).grad_and_hess()

    def parts(self, *args: P.args, **kwargs: P.kwargs) -> Parts:
        """The sums behind the number, which add over batches and processes. `native(...).finish(parts)` is the number."""
        return self._function(*args, **kwargs).parts()

    def native(self, *args: P.args, **kwargs: P.kwargs) -> Native:
        """The call of ours, not yet computed. It prints."""
        return self._function(*args, **kwargs)

    def symbol(self, name: str) -> Symbol:
        """What stands for one of the arrays: of shape (N, C), (N,) or (N, H, W, C)."""
        if name in self.labels:
            return Symbol(name, SIZES[:1], "int64")
        return Symbol(name, SIZES if name in self.maps else (SIZES[0], SIZES[-1]))

    def sketch(self, **options: Any) -> Native:
        """The call of ours for options, with names in the place of arrays."""
        parameters = inspect.signature(self._function).parameters.values()
        symbols = {p.name: self.symbol(p.name) for p in parameters if p.default is p.empty}
        function: Any = self._function
        call: Native = function(**symbols | options)
        return call

    def __repr__(self) -> str:
        return f"<{self.peer}.{self.name} of {self.version}: {self.sketch()!r}>"

    def __reduce__(self) -> str:
        return self._function.__qualname__


@dataclass(frozen=True)
class Library:
    """The decorator for the losses of a library: it makes a row of the table.

    `differs`: what is not as there; `shows`: options whose calls the page shows too; `labels`, `maps`: arrays that have no class axis, or
    the dimensions of images.
    """

    peer: str
    version: str

    def __call__(
        self, differs: str = "", shows: Sequence[str] = (), labels: Sequence[str] = (), maps: Sequence[str] = ()
    ) -> Callable[[Callable[P, Native]], Preset[P]]:
        return lambda function: Preset(function, self.peer, self.version, differs, shows, labels, maps)


def sum_to_shape(g: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of an array that was broadcast, or got or lost axes of size 1."""
    xp = adapter(g).xp
    if tuple(g.shape) == shape:
        return g
    if prod(g.shape) != prod(shape):
        whole = (1,) * (g.ndim - len(shape)) + shape
        g = xp.sum(g, axis=tuple([i for i, n in enumerate(whole) if n == 1 and g.shape[i] != 1]), keepdims=True, dtype=g.dtype)
    return xp.reshape(g, shape)


def broadcast(*arrays: Array) -> tuple[Array, ...]:
    """Arrays of one shape, by the rules of NumPy."""
    shapes = [tuple(a.shape) for a in arrays]
    if all(s == shapes[0] for s in shapes):
        return arrays
    ndim = max(map(len, shapes))
    columns = zip(*[(1,) * (ndim - len(s)) + s for s in shapes], strict=True)
    sizes = [set(c) - {1} or {1} for c in columns]
    if any(len(s) > 1 for s in sizes):
        raise ValueError(f"shapes must broadcast; got {', '.join(map(str, shapes))}")
    shape = tuple([s.pop() for s in sizes])
    return tuple([adapter(a).xp.broadcast_to(a, shape) for a in arrays])


def as_weights(weight: Array, like: Array) -> Array:
    """Weights of elements with the dimensions of an array that they broadcast to."""
    missing = like.ndim - getattr(weight, "ndim", like.ndim)
    return adapter(weight).xp.reshape(weight, (1,) * missing + tuple(weight.shape)) if missing > 0 else weight


def as_floats(t: Array, like: Array) -> Array:
    """Numbers of the dtype of the predictions: integers are not checked to be labels or signs then."""
    return adapter(t).xp.astype(t, like.dtype) if not isinstance(t, Symbol) and dtypes.kind(t.dtype) in INTEGERS else t


def readable(a: Array) -> Any:
    """What may be read now, without waiting for a device or stopping a compiler; else None."""
    return adapter(a).host_view(a)
