"""Numbers that carry their first and second derivative along: exact derivatives of the definitions.

A difference quotient would need a step that suits every magnitude from 1e-30 to 1e4; the rules of differentiation need none.
Beside every derivative a jet has the sum of the absolute values of its terms: near a real zero of a derivative, where its
terms cancel in exact arithmetic too, no formula in floating point can do better than a few roundings of those terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import mpmath
from mpmath import mpf

Number = Any


class Jet:
    """A value with its first and second derivative, and the sums of their absolute terms."""

    __slots__ = ("is_argument", "orders", "terms")

    def __init__(self, orders: Sequence[Number], terms: Sequence[Number] | None = None, *, is_argument: bool = False) -> None:
        self.orders = tuple(orders)
        self.terms = tuple(map(abs, self.orders)) if terms is None else tuple(terms)
        self.is_argument = is_argument  # an argument, or its difference from a number, which floating point rounds once

    @classmethod
    def variable(cls, value: Number) -> Jet:
        """A number to differentiate by."""
        return cls((mpf(value), mpf(1), mpf(0)), is_argument=True)

    @classmethod
    def of(cls, value: Number) -> Jet:
        """A jet as it is, or a number as a constant."""
        return value if isinstance(value, cls) else cls((value, mpf(0), mpf(0)))

    def through(self, f: Number, f1: Number, f2: Number, terms2: Number = None) -> Jet:
        """A function of this jet, from its value and derivatives (`terms2`: the absolute terms of the second): the chain rule."""
        (_, d, h), (_, md, mh) = self.orders, self.terms
        bend = abs(f2) if terms2 is None else terms2
        orders = f, times(f1, d), times(f2, d * d) + times(f1, h)
        return Jet(orders, (abs(f), abs(times(f1, md)), abs(times(bend, md * md)) + abs(times(f1, mh))))

    def __add__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            value = self.orders[0] + other
            first = abs(value) if self.is_argument else self.terms[0] + abs(other)
            return Jet((value, *self.orders[1:]), (first, *self.terms[1:]), is_argument=self.is_argument)
        orders = [a + b for a, b in zip(self.orders, other.orders, strict=True)]
        return Jet(orders, [a + b for a, b in zip(self.terms, other.terms, strict=True)])

    __radd__ = __add__

    def __neg__(self) -> Jet:
        return Jet([-a for a in self.orders], self.terms, is_argument=self.is_argument)

    def __sub__(self, other: Any) -> Jet:
        return self + -other

    def __rsub__(self, other: Any) -> Jet:
        return -self + other

    def __mul__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return Jet([times(a, other) for a in self.orders], [abs(times(a, other)) for a in self.terms])
        return Jet(_leibniz(self.orders, other.orders), _leibniz(self.terms, other.terms))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Jet:
        return self * (other**-1 if isinstance(other, Jet) else 1 / mpf(other))

    def __rtruediv__(self, other: Any) -> Jet:
        return self**-1 * other

    def __pow__(self, n: Any) -> Jet:
        v, n = self.orders[0], mpf(n)
        return self.through(_power(v, n), times(n, _power, v, n - 1), times(n * (n - 1), _power, v, n - 2))

    def __abs__(self) -> Jet:
        return -self if self.orders[0] < 0 else self

    def __lt__(self, other: Any) -> bool:
        return self.orders[0] < (other.orders[0] if isinstance(other, Jet) else other)

    def __le__(self, other: Any) -> bool:
        return self.orders[0] <= (other.orders[0] if isinstance(other, Jet) else other)

    def __eq__(self, other: object) -> bool:
        return bool(self.orders[0] == (other.orders[0] if isinstance(other, Jet) else other))

    __hash__ = None  # type: ignore[assignment]


def times(a: Number, b: Any, *arguments: Any) -> Number:
    """a * b, or a * b(*arguments); 0 where a is 0 whatever b is."""
    if a == 0:
        return mpf(0)
    return a * (b(*arguments) if callable(b) else b)


def _power(base: Number, exponent: Number) -> Number:
    return mpf("inf") if base == 0 and exponent < 0 else base**exponent


def _leibniz(a: Sequence[Number], b: Sequence[Number]) -> tuple[Number, Number, Number]:
    return times(a[0], b[0]), times(a[1], b[0]) + times(b[1], a[0]), times(a[2], b[0]) + 2 * times(a[1], b[1]) + times(b[2], a[0])


def number(x: Number) -> Number:
    """The value of a number or jet."""
    return x.orders[0] if isinstance(x, Jet) else x


def exp(x: Number) -> Number:
    """The exponential of a number or jet."""
    e = mpmath.exp(number(x))
    return x.through(e, e, e) if isinstance(x, Jet) else e


def log(x: Number) -> Number:
    """The logarithm of a number or jet."""
    if not isinstance(x, Jet):
        return mpmath.log(x)
    inverse = _power(x.orders[0], mpf(-1))
    return x.through(mpmath.log(x.orders[0]), inverse, -(inverse**2))


def log1p(x: Number) -> Number:
    """log(1 + x) of a number or jet."""
    if not isinstance(x, Jet):
        return mpmath.log1p(x)
    inverse = _power(1 + x.orders[0], mpf(-1))
    return x.through(mpmath.log1p(x.orders[0]), inverse, -(inverse**2))


@lru_cache(maxsize=1024)
def _sigmoid(v: Number, precision: int) -> tuple[Number, Number]:
    """p and 1 - p; kept for the derivatives in the other entries of a region, which all need them."""
    return 1 / (1 + mpmath.exp(-v)), 1 / (1 + mpmath.exp(v))


def sigmoid(x: Number) -> Number:
    """1 / (1 + exp(-x)) of a number or jet."""
    p, q = _sigmoid(number(x), mpmath.mp.prec)
    return x.through(p, p * q, p * q * (q - p), p * q) if isinstance(x, Jet) else p


def softplus(x: Number) -> Number:
    """log(1 + exp(x)) of a number or jet, with all its digits on both sides."""
    v = number(x)
    value = mpmath.log1p(mpmath.exp(v)) if v < 0 else v + mpmath.log1p(mpmath.exp(-v))
    return x.through(value, p := sigmoid(v), p * sigmoid(-v)) if isinstance(x, Jet) else value


def log_cosh(x: Number) -> Number:
    """log(cosh(x)) of a number or jet."""
    v = number(x)
    value = mpmath.log1p(2 * mpmath.sinh(v / 2) ** 2)
    return x.through(value, mpmath.tanh(v), mpmath.sech(v) ** 2) if isinstance(x, Jet) else value


def tanh(x: Number) -> Number:
    """The hyperbolic tangent of a number or jet."""
    value, slope = mpmath.tanh(number(x)), mpmath.sech(number(x)) ** 2
    return x.through(value, slope, -2 * value * slope) if isinstance(x, Jet) else value


def share(a: Number, b: Number) -> Number:
    """a / (a + b) of numbers >= 0 or jets, 0 where both are 0. Its derivative is (a'b - ab') / (a + b)**2: no other terms cancel."""
    if not isinstance(a, Jet) and not isinstance(b, Jet):
        return a / (a + b) if a else mpf(0)
    a, b = Jet.of(a), Jet.of(b)
    whole = a + b
    if whole == 0:
        return Jet.of(mpf(0))
    w = whole.orders[0]

    def derivatives(a: Sequence[Number], b: Sequence[Number], bend: Number, sign: int) -> tuple[Number, ...]:
        first = a[1] * b[0] + sign * a[0] * b[1]
        return a[0] / w, first / w**2, (a[2] * b[0] + sign * a[0] * b[2]) / w**2 + sign * 2 * first * bend / w**3

    return Jet(derivatives(a.orders, b.orders, whole.orders[1], -1), derivatives(a.terms, b.terms, whole.terms[1], 1))


@lru_cache(maxsize=4096)
def _softmax(x: tuple[Number, ...], precision: int) -> tuple[list[Number], list[Number], list[Number]]:
    """p, 1 - p and -log(p) of every class; cached for the derivatives of one row, which all need them."""
    top = max(range(len(x)), key=lambda i: x[i])
    e = [mpf(1) if i == top else mpmath.exp(v - x[top]) for i, v in enumerate(x)]
    others = sum((v for i, v in enumerate(e) if i != top), mpf(0))
    whole = 1 + others
    p = [v / whole for v in e]
    q = [(others if i == top else whole - v) / whole for i, v in enumerate(e)]
    loss = [mpmath.log1p(others) - (0 if i == top else v - x[top]) for i, v in enumerate(x)]
    return p, q, loss


class Row:
    """Softmax of a row of logits of which at most one is a jet: p, 1 - p and -log(p) of every class, with all digits."""

    def __init__(self, x: Sequence[Number]) -> None:
        self.moving = next((i for i, v in enumerate(x) if isinstance(v, Jet)), -1)
        self.jet: Jet | None = x[self.moving] if self.moving >= 0 else None
        self.p, self.q, self.loss = _softmax(tuple(map(number, x)), mpmath.mp.prec)

    def log_loss(self, c: int) -> Number:
        """-log(p_c)."""
        if self.jet is None:
            return self.loss[c]
        p, q = self.p[self.moving], self.q[self.moving]
        return self.jet.through(self.loss[c], -q if c == self.moving else p, p * q)

    def prob(self, c: int) -> Number:
        """p_c."""
        if self.jet is None:
            return self.p[c]
        p, q = self.p[self.moving], self.q[self.moving]
        if c == self.moving:
            return self.jet.through(p, p * q, p * q * (q - p), p * q)
        return self.jet.through(self.p[c], -self.p[c] * p, self.p[c] * p * (p - q), self.p[c] * p)

    def complement(self, c: int) -> Number:
        """1 - p_c."""
        if self.jet is None:
            return self.q[c]
        p = self.prob(c)
        return Jet((self.q[c], -p.orders[1], -p.orders[2]), (self.q[c], *p.terms[1:]))
