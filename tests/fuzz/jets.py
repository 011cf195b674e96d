"""Numbers with their first and second derivatives along many directions, in the longest floating point that NumPy has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
REAL = np.longdouble


class Jet:
    """Arrays with a leading axis of directions, of size 1 in the value."""

    __array_ufunc__ = None  # NumPy leaves its operators to this class

    def __init__(self, value: Array, first: Array = 0.0, second: Array = 0.0) -> None:
        self.value, self.first, self.second = np.asarray(value, REAL), np.asarray(first, REAL), np.asarray(second, REAL)

    @classmethod
    def constant(cls, values: Any) -> Jet:
        return cls(np.asarray(values, REAL)[None])

    def through(self, f: Array, df: Array, d2f: Array) -> Jet:
        """A function of it, by its derivatives."""
        return Jet(f, times(df, self.first), times(df, self.second) + times(d2f, self.first * self.first))

    def __add__(self, other: Any) -> Jet:
        other = as_jet(other)
        return Jet(self.value + other.value, self.first + other.first, self.second + other.second)

    def __mul__(self, other: Any) -> Jet:
        b = as_jet(other)
        first = times(self.value, b.first) + times(b.value, self.first)
        second = times(self.value, b.second) + times(b.value, self.second) + 2 * times(self.first, b.first)
        return Jet(times(self.value, b.value), first, second)

    def __neg__(self) -> Jet:
        return self * -1.0

    def __sub__(self, other: Any) -> Jet:
        return self + -as_jet(other)

    def __rsub__(self, other: Any) -> Jet:
        return -self + other

    def __truediv__(self, other: Any) -> Jet:
        b = as_jet(other)
        return self * b.through(1 / b.value, -1 / b.value**2, 2 / b.value**3)

    __radd__, __rmul__ = __add__, __mul__

    def along(self, f: Callable[[Array], Array]) -> Jet:
        """A linear operation on all three."""
        return Jet(
            f(self.value), *(f(np.broadcast_to(d, np.broadcast_shapes(d.shape, self.value.shape))) for d in (self.first, self.second))
        )

    def sum(self, axes: Any, keepdims: bool = False) -> Jet:
        return self.along(lambda a: a.sum(axis=tuple(i + 1 for i in axes), keepdims=keepdims))

    def take(self, places: Any, axis: int) -> Jet:
        return self.along(lambda a: np.take(a, places, axis=axis + 1))


def times(a: Array, b: Array) -> Array:
    """a * b, 0 where either is 0."""
    return np.where((a == 0) | (b == 0), 0.0, a * b)


def as_jet(a: Any) -> Jet:
    return a if isinstance(a, Jet) else Jet(a)


def where(mask: Array, a: Any, b: Any) -> Jet:
    """By a mask without the axis of directions."""
    a, b = as_jet(a), as_jet(b)
    return Jet(*(np.where(mask, c, d) for c, d in ((a.value, b.value), (a.first, b.first), (a.second, b.second))))


def exp(a: Jet) -> Jet:
    e = np.exp(a.value)
    return a.through(e, e, e)


def log(a: Jet) -> Jet:
    return a.through(np.log(a.value), 1 / a.value, -1 / a.value**2)


def log1p(a: Jet) -> Jet:
    return a.through(np.log1p(a.value), 1 / (1 + a.value), -1 / (1 + a.value) ** 2)


def power(a: Jet, n: float) -> Jet:
    if n == 0:
        return Jet(np.ones_like(a.value))
    v = a.value
    return a.through(v**n, n * v ** (n - 1), n * (n - 1) * v ** (n - 2) if n not in (0, 1) else 0.0 * v)


def softplus(a: Jet) -> Jet:
    return where(a.value > 0, a, 0.0) + log1p(exp(where(a.value > 0, -a, a)))


def sigmoid(a: Jet) -> Jet:
    e = exp(where(a.value > 0, -a, a))
    return where(a.value > 0, 1.0, e) / (1 + e)


def tanh(a: Jet) -> Jet:
    w = np.exp(-2 * abs(a.value))
    slope = 4 * w / (1 + w) ** 2  # 1 - tanh**2
    return a.through(np.tanh(a.value), slope, -2 * np.tanh(a.value) * slope)


def log_softmax(a: Jet, axis: int) -> Jet:
    top = a.value.max(axis=axis + 1, keepdims=True)
    shifted = a - Jet(top)
    return shifted - log(exp(shifted).sum((axis,), keepdims=True))
