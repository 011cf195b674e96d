"""`Parts`: the additive state of a loss, a fixed set of named sums, and the finish that belongs to them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from operator import add, neg
from typing import Any

from array_api_compat import array_namespace

from . import dtypes

Array = Any
FLOAT64: dict[Any, Callable[[], Any]] = {}  # contexts in which a namespace has it, where it has to be asked for
LIMB = 2**31  # counts are stacked as two numbers, since float64 holds no integers beyond 2**53


@dataclass(frozen=True)
class Source:
    """What sums are sums of: a loss by name, their own names, the options that decide what they mean, and their finish."""

    loss: str
    names: tuple[str, ...]
    options: tuple[tuple[str, Any], ...]
    finish: Any
    prefix: str = ""  # of the names, in a combination


@dataclass(frozen=True, eq=False, repr=False)
class Parts:
    """The sums behind a loss, a fixed set of named arrays; a combination has a source for every term.

    Parts of two batches, or of two processes, add; `loss.finish` of the result is the exact loss of the union. They are a
    pytree in JAX and PyTorch, pickle, and differentiate. `stack()` is one 1-D array, for one all-reduce. Sums are float64 and counts
    int64 wherever the device has 64 bits, in JAX also where x64 is not enabled.

    >>> import numpy as np
    >>> from arrayloss import squared_error
    >>> first = squared_error.parts(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    >>> rest = squared_error.parts(np.array([4.0]), np.array([0.0]))
    >>> print(first.total, first.count)
    5.0 2
    >>> float(squared_error.finish(first + rest))
    7.0
    """

    sources: tuple[Source, ...]
    arrays: tuple[Array, ...]
    __array_ufunc__ = None  # an array leaves the addition to us, which refuses it

    @property
    def names(self) -> tuple[str, ...]:
        return tuple([source.prefix + name for source in self.sources for name in source.names])

    @property
    def losses(self) -> str:
        """The losses whose sums they are, by name."""
        return " + ".join([source.loss for source in self.sources])

    def __getattr__(self, name: str) -> Array:
        if name.startswith("_"):
            raise AttributeError(name)  # of an object that is being unpickled, which cannot be described
        if name not in self.names:
            raise AttributeError(f"these parts are {', '.join(self.names)}; there is no {name!r}")
        return self.arrays[self.names.index(name)]

    def map(self, function: Callable[[Array], Array]) -> Parts:
        """The parts with `function` applied to every array, such as `detach` or an all-reduce."""
        return Parts(self.sources, tuple([function(a) for a in self.arrays]))

    def split(self) -> list[Parts]:
        """The parts of each term of a combination."""
        arrays = iter(self.arrays)
        return [Parts((source,), tuple([next(arrays) for _ in source.names])) for source in self.sources]

    def __add__(self, other: Any) -> Parts:
        if isinstance(other, int) and other == 0:  # sum() starts with it
            return self
        if not isinstance(other, Parts):
            raise TypeError(f"parts add to parts of the same loss; got {type(other).__name__}: pass what {self.losses} gave for a batch")
        if self.losses != other.losses or self.names != other.names:
            raise ValueError(f"parts of different losses do not add: those of {self.losses} and of {other.losses}")
        for a, b in zip(self.sources, other.sources, strict=True):
            for (name, ours), (_, theirs) in zip(a.options, b.options, strict=True):
                if ours != theirs:
                    raise ValueError(f"parts of {a.loss} with different options do not add: {name} is {ours!r} and {theirs!r}")
        if type(self.arrays[0]) is not type(other.arrays[0]):
            names = [array_namespace(p.arrays[0]).__name__.removeprefix("array_api_compat.") for p in (self, other)]
            if len({*names}) > 1 and {*names} != {"numpy", "jax.numpy"}:
                raise TypeError(f"parts must be of one array library to add; got {' and '.join(names)}: pass parts.map(convert)")
        return Parts(self.sources, tuple(map(add, self.arrays, other.arrays)))

    def __sub__(self, other: Any) -> Parts:
        return self + (other.map(neg) if isinstance(other, Parts) else other)

    __radd__ = __add__

    def stack(self) -> Array:
        """All of them as one 1-D floating-point array; `unstack` is the way back. A count is two entries."""
        xp, dtype = array_namespace(self.arrays[0]), self.arrays[0].dtype
        with FLOAT64.get(xp, nullcontext)():
            limbs = [b for a in self.arrays for b in ((a // LIMB, a % LIMB) if dtypes.kind(a.dtype) == "integer" else (a,))]
            return xp.concat([xp.reshape(xp.astype(b, dtype), (-1,)) for b in limbs])

    def unstack(self, vector: Array) -> Parts:
        """Parts with the shapes and dtypes of these and the numbers of `vector`."""
        xp, arrays, start = array_namespace(vector), [], 0
        with FLOAT64.get(xp, nullcontext)():
            for a in self.arrays:
                n = 2 if dtypes.kind(a.dtype) == "integer" else 1
                b = xp.astype(xp.reshape(vector[start : start + n * prod(a.shape)], (n, *a.shape)), a.dtype)
                arrays.append(b[0, ...] * LIMB + b[1, ...] if n == 2 else b[0, ...])
                start += n * prod(a.shape)
        return Parts(self.sources, tuple(arrays))

    def __repr__(self) -> str:
        return "Parts(" + ", ".join([f"{n}={a!r}" for n, a in zip(self.names, self.arrays, strict=True)]) + ")"
