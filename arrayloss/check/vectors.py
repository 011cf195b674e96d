"""What losses of vectors mean: their definitions in mpmath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import mpmath
from mpmath import mpf

from .evaluate import define
from .jets import Jet, number
from .margins import gap, hinge, largest, like, total
from .promises import ZEROS, Bound, Promise

__all__ = ["cosine"]

Number = Any
Numbers = Sequence[Number]
DIGITS = 420  # for what float64 resolves of the square of a tiny angle
ANGLE = "unit vectors are rounded: terms are the angle, and the entries of both over the norm"


def cosine(a: Numbers, b: Numbers) -> Number:
    """1 - cos; its terms are the roundings of unit vectors."""
    with mpmath.workdps(DIGITS):
        if not any(map(number, a)) or not any(map(number, b)):
            return like((*a, *b), Jet.of(mpf(1)))
        norms = [total([v * v for v in x]) ** mpf(0.5) for x in (a, b)]
        value = 1 - total([v * w for v, w in zip(a, b, strict=True)]) / (norms[0] * norms[1])
        if not isinstance(value, Jet):
            return value
        own, other, norm, of_other = (a, b, *norms) if isinstance(norms[0], Jet) else (b, a, *norms[::-1])
        i = next(i for i, v in enumerate(own) if isinstance(v, Jet))
        angle, size, u, v = abs(value.orders[0]), number(norm), abs(number(own[i]) / number(norm)), abs(other[i] / of_other)
        terms = angle + mpmath.sqrt(2 * angle), (u + v) / size, (1 + 3 * u * u + 2 * u * v) / size**2
        return Jet(value.orders, terms)


COSINE = Bound(4, 4, ANGLE, of_terms=True, underflow=26)


@define("cosine_distance", "vectors", "vectors", promise=Promise(COSINE, COSINE))
def cosine_distance(x: Numbers, t: Numbers) -> Number:
    return cosine(x, t)


@define("cosine_embedding_loss", "vectors vectors", "signs", {}, {"margin": 0.5}, promise=Promise(COSINE, COSINE))
def cosine_embedding_loss(a: Numbers, b: Numbers, t: int, margin: float = 0.0) -> Number:
    value = cosine(a, b)
    return value if t > 0 else like((*a, *b), hinge(Jet.of(1 - mpf(margin)) - value))


def distance(a: Numbers, b: Numbers, kind: Any, eps: float = 0.0) -> Number:
    """Of two vectors; where it is 0 it is flat."""
    if kind == "cosine":
        return cosine(a, b)
    differences = [gap(v, w) + mpf(eps) if eps else gap(v, w) for v, w in zip(a, b, strict=True)]
    if kind == "squared":
        return total([v * v for v in differences])
    sizes = [mpf(0) if number(v) == 0 and kind != 2 else abs(v) for v in differences]
    if not any(map(number, sizes)):
        return mpf(0)
    if kind == inf:
        tied = largest(sizes)
        return total(tied) / len(tied)
    return total([v * v if kind == 2 else v if kind == 1 else v ** mpf(kind) for v in sizes]) ** (1 / mpf(kind))


def triplet(a: Numbers, p: Numbers, n: Numbers, margin: float, swap: bool, kind: Any, eps: float = 0.0) -> Number:
    """Behind the distances."""
    far = [distance(a, n, kind, eps), *([distance(p, n, kind, eps)] if swap else [])]
    nearest = [v for v in far if number(v) == min(map(number, far))]
    margins = Jet.of(mpf(margin)) + Jet.of(distance(a, p, kind, eps))
    return like((*a, *p, *n), hinge(margins - Jet.of(total(nearest) / len(nearest))))


TRIPLET = Bound(4, 4).with_zeros(underflow=26)


@define(
    "triplet_margin_loss",
    "vectors vectors vectors",
    "none",
    {},
    {"p": 1.0, "margin": 0.25},
    {"p": 3.0, "swap": True},
    {"p": inf},
    {"eps": 1e-6},
    promise=Promise(TRIPLET, replace(TRIPLET, float32=6, float64=6, reason=f"a power carries the error of its base p - 1 times; {ZEROS}")),
)
def triplet_margin_loss(
    a: Numbers, p_: Numbers, n: Numbers, margin: float = 1.0, p: float = 2.0, swap: bool = False, eps: float = 0.0
) -> Number:
    return triplet(a, p_, n, margin, swap, p, eps)


@define(
    "triplet_margin_with_distance_loss",
    "vectors vectors vectors",
    "none",
    {},
    {"distance_function": "squared"},
    {"distance_function": "cosine", "margin": 0.5},
    promise=Promise(TRIPLET, Bound(4, 4, f"{ANGLE}; two cosines", extra={"jax": 4.0}).with_zeros(underflow=26)),
)
def triplet_margin_with_distance_loss(
    a: Numbers, p: Numbers, n: Numbers, distance_function: str | None = None, margin: float = 1.0, swap: bool = False
) -> Number:
    return triplet(a, p, n, margin, swap, 2 if distance_function is None else distance_function)
