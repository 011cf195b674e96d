"""Arithmetic that keeps what rounding takes away: for losses in which differences of large numbers decide.

A difference is a pair of numbers, what it rounds to and what is then missing (Knuth's two-sum: no products, so that no compiler's
fused multiply-add changes it). Its derivative is that of the difference, as autodiff finds by itself.
"""

from __future__ import annotations

from math import factorial
from typing import Any

from . import dtypes, special

Array = Any

TERMS = {"float32": 13}  # of exp's series: the next, (3/2)**13 / 15!, is no part of a float32
MORE_TERMS = 21


def total(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b, rounded, and what rounding took."""
    rounded = a + b
    part = rounded - a
    return rounded, (a - (rounded - part)) + (b - part)


def difference(a: Array, b: Array) -> tuple[Array, Array]:
    """a - b, rounded, and what rounding took."""
    return total(a, -b)


def softmax_rows(xp: Any, x: Array, axis: int) -> tuple[Array, Array, Array, Array, Array]:
    """top, d, low, e, s: as `special.softmax_rows`, where d + low is x - max to twice the digits, and e = exp(d + low)."""
    top = xp.expand_dims(xp.argmax(x, axis=axis), axis=axis)
    m = special.at_label(xp, x, top, axis)
    here = special.positions(xp, x, axis) == top
    d, low = difference(x, m)
    d = xp.where(here | (x == float("inf")), xp.zeros_like(x), d)
    low = xp.where(xp.abs(low) < float("inf"), low, xp.zeros_like(x))  # nothing is missing from an infinite one
    e = xp.exp(d)
    e = e + e * low
    s = xp.sum(xp.where(here, xp.zeros_like(e), e), axis=axis, keepdims=True)
    return top, d, low, e, s


def expm1_pair(xp: Any, y: Array) -> tuple[Array, Array]:
    """exp(y) - 1 and exp(y) - 1 - y, both without cancellation, for y from -1 to 3.

    From the series: at y, or at y / 2, doubled by exp(2z) - 1 - 2z = 2 * (exp(z) - 1 - z) + (exp(z) - 1)**2. No native expm1 is used,
    since PyTorch's compiler makes exp(y) - 1 of it.
    """
    small = y < 1.5
    z = xp.where(small, y, y / 2)
    terms = TERMS.get(dtypes.name(y.dtype), MORE_TERMS)
    tail = xp.full_like(z, 1 / factorial(terms + 1))
    for k in reversed(range(terms - 1)):
        tail = tail * z + 1 / factorial(k + 2)
    above = z * z * tail
    growth = z + above
    above = xp.where(small, above, 2 * above + growth * growth)
    return y + above, above
