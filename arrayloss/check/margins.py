"""What losses of rows mean that ask for a margin, for several labels, for an order, or compare vectors: definitions in mpmath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import mpmath
from mpmath import mpf

from .evaluate import define
from .jets import Jet, Row, log, number, softplus
from .promises import ZEROS, Bound, Promise, within_spread

__all__ = ["CLIP", "CROSS_ENTROPY", "WEIGHTS", "clipped", "cosine", "hinge", "shares"]

Number = Any
Numbers = Sequence[Number]
WEIGHTS, CLIP = {"class_weights": (1.0, 3.0, 0.5)}, {"given": "probs", "clip": 2.0**-10}
MARGIN = Promise(Bound(3, 3).with_zeros(), Bound(3, 3).with_zeros(), Bound(3, 3))


def gap(a: Number, b: Number) -> Jet:
    """a - b, which floating point rounds once."""
    return Jet(Jet.of(a - b).orders)


def like(x: Sequence[Number], loss: Number) -> Number:
    """A loss that carries derivatives only if an entry does."""
    return loss if any(isinstance(v, Jet) for v in x) else number(loss)


def hinge(z: Number) -> Number:
    """max(0, z), active at 0."""
    return mpf(0) if z < 0 else z


def largest(several: Sequence[Number]) -> Sequence[Number]:
    """Those that are the largest."""
    top = max(map(number, several))
    return [v for v in several if number(v) == top]


def total(several: Sequence[Number]) -> Number:
    """The sum, of nothing too."""
    return sum(several, mpf(0))


@define("multi_margin_loss", "logits", "labels", {}, {"p": 2, "margin": 0.5, **WEIGHTS}, promise=MARGIN)
def multi_margin_loss(x: Numbers, t: int, p: int = 1, margin: float = 1.0, class_weights: Any = None) -> Number:
    hinges = [hinge(Jet.of(mpf(margin)) + gap(v, x[t])) for j, v in enumerate(x) if j != t]
    weight = 1 if class_weights is None else mpf(class_weights[t])
    return like(x, total([z if p == 1 else z * z for z in hinges]) * weight / len(x))


@define("multiclass_hinge_loss", "logits", "labels", {}, {"margin": 0.5}, promise=MARGIN)
def multiclass_hinge_loss(x: Numbers, t: int, margin: float = 1.0) -> Number:
    tied = largest([v for j, v in enumerate(x) if j != t])
    return like(x, hinge(Jet.of(mpf(margin)) + total([gap(v, x[t]) for v in tied]) / len(tied)))


@define("multiclass_perceptron_loss", "logits", "labels", promise=Promise(Bound(1, 1), Bound(1, 1), Bound(0, 0)))
def multiclass_perceptron_loss(x: Numbers, t: int) -> Number:
    tied = largest(x)
    return like(x, total([gap(v, x[t]) for v in tied]) / len(tied))


@define("multilabel_soft_margin_loss", "logits", "binary", {}, WEIGHTS, promise=Promise.of_all(Bound(4, 4)))
def multilabel_soft_margin_loss(x: Numbers, t: Numbers, class_weights: Any = None) -> Number:
    weights = [1] * len(x) if class_weights is None else class_weights
    return total([mpf(w) * softplus(-v if y else v) for v, y, w in zip(x, t, weights, strict=True)]) / len(x)


# -- variants of cross-entropy ---------------------------------------------------------------------------------------------


def shares(t: Any, n: int, class_weights: Any = None, label_smoothing: float = 0.0) -> list[Number]:
    """The weight of every class in the loss of a label or a distribution."""
    e, weights = mpf(label_smoothing), [1] * n if class_weights is None else class_weights
    return [w * ((1 - e) * (mpf(c == t) if isinstance(t, int) else t[c]) + e / n) for c, w in enumerate(weights)]


def clipped(p: Number, clip: float) -> Number:
    """A probability moved into [clip, 1 - clip]."""
    v = min(max(number(p), mpf(clip)), 1 - mpf(clip))
    return p if v == number(p) else v


WIDEST = "float64 has rows with a spread of 708, whose worst in the sweep is 506 ulp"
CROSS_ENTROPY = Bound(6, 6, WIDEST, at_most=(70.0, 520.0))
LISTS, POLYS = (within_spread(CROSS_ENTROPY, CROSS_ENTROPY.with_zeros(), hess) for hess in (Bound(8, 8), Bound(8, 8).with_zeros()))
POLY_OPTIONS: tuple[dict[str, Any], ...] = {}, {"epsilon": -0.5, **WEIGHTS}, {"label_smoothing": 0.125}


@define("poly1_cross_entropy", "logits", "labels distribution", *POLY_OPTIONS, promise=POLYS)
def poly1_cross_entropy(x: Numbers, t: Any, epsilon: float = 2.0, class_weights: Any = None, label_smoothing: float = 0.0) -> Number:
    row = Row(x)
    weights = shares(t, len(x), class_weights, label_smoothing)
    return total([w * (row.log_loss(c) + mpf(epsilon) * row.complement(c)) for c, w in enumerate(weights) if w])


GENERALIZED = Bound(12, 12, of_label=True)
OF_PROBS = Promise.of_all(Bound(4, 4))
FLATTENED = within_spread(Bound(12, 12, WIDEST, at_most=(70.0, 520.0)), GENERALIZED, GENERALIZED.with_zeros())


@define("generalized_cross_entropy", "probs", "labels", {"given": "probs"}, {"given": "probs", "q": 1.0}, CLIP, promise=OF_PROBS)
@define("generalized_cross_entropy", "logits", "labels", *[{"q": q} for q in (0.7, 0.0, 1.0, 0.125)], promise=FLATTENED)
def generalized_cross_entropy(x: Numbers, t: int, q: float = 0.7, given: str = "logits", clip: float = 0.0) -> Number:
    return box_cox(Row(x).log_loss(t) if given == "logits" else -log(clipped(x[t], clip)), q)


def box_cox(loss: Number, q: float) -> Number:
    """(1 - exp(-q * loss)) / q, and its limit at q = 0."""
    if q == 0:
        return loss
    v, q = number(loss), mpf(q)
    value, slope = -mpmath.expm1(-q * v) / q, mpmath.exp(-q * v)
    return loss.through(value, slope, -q * slope) if isinstance(loss, Jet) else value


# -- several labels, sparse probabilities, lists -----------------------------------------------------------------------------


@define("multilabel_margin_loss", "logits", "lists", promise=MARGIN)
def multilabel_margin_loss(x: Numbers, t: Numbers) -> Number:
    named = [int(c) for c in t]
    right = named[: next((i for i, c in enumerate(named) if c < 0), len(named))]
    pairs = [hinge(Jet.of(mpf(1)) + gap(x[j], x[y])) for y in right for j in range(len(x)) if j not in right]
    return like(x, total(pairs) / len(x))


EDGE = "in ulps of its terms: an entry at the edge of the support is a difference from the threshold"
SPARSE = Bound(4, 4, EDGE, of_terms=True)


@define("sparsemax_loss", "logits", "labels distribution", promise=Promise(SPARSE, SPARSE, Bound(2, 2)))
def sparsemax_loss(x: Numbers, t: Any) -> Number:
    v, targets, whole, count = list(map(number, x)), shares(t, len(x)), mpf(0), 0
    for k, a in enumerate(sorted(v, reverse=True), 1):
        if 1 + k * a <= whole + a:
            break
        whole, count = whole + a, k
    tau = (whole - 1) / count
    p, short = [max(a - tau, mpf(0)) for a in v], [w and w * max(tau - a, mpf(0)) for w, a in zip(targets, v, strict=True)]
    value = total([(a - w) ** 2 for a, w in zip(p, targets, strict=True)]) / 2 + total(short)
    sizes = [abs(1 + a - max(v)) + 1 + tau - max(v) for a in v]  # |v| + T of the formula
    entries = enumerate(zip(p, sizes, targets, strict=True))
    slopes = [abs(a - w) if isinstance(t, int) and c == t else w + (b if a else 0) for c, (a, b, w) in entries]
    terms = value + total([abs(a - w) * r + (0 if a else w * b) for a, b, w, r in zip(p, sizes, targets, slopes, strict=True)])
    for c, a in enumerate(x):
        if isinstance(a, Jet):  # of targets that sum to 1, up to a rounding
            bend = 1 - 1 / mpf(count) if p[c] else mpf(0)
            return Jet((value, p[c] - targets[c], bend), (terms, slopes[c], bend))
    return value


@define("ranking_softmax_loss", "logits", "relevance", {}, {"normalize": True}, promise=LISTS)
def ranking_softmax_loss(x: Numbers, t: Numbers, normalize: bool = False) -> Number:
    row, scale = Row(x), (total(t) or mpf(1)) if normalize else mpf(1)
    return total([y / scale * row.log_loss(c) for c, y in enumerate(t) if y])


# -- vectors -----------------------------------------------------------------------------------------------------------------

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


COSINE = Bound(5, 4, ANGLE, of_terms=True, underflow=26)


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


def triplet(a: Numbers, p: Numbers, n: Numbers, kind: Any, margin: float = 1.0, swap: bool = False, eps: float = 0.0) -> Number:
    """Behind the distances."""
    far = [distance(a, n, kind, eps), *([distance(p, n, kind, eps)] if swap else [])]
    nearest = [v for v in far if number(v) == min(map(number, far))]
    margins = Jet.of(mpf(margin)) + Jet.of(distance(a, p, kind, eps))
    return like((*a, *p, *n), hinge(margins - Jet.of(total(nearest) / len(nearest))))


THREE, TRIPLET = "vectors vectors vectors", Bound(4, 4).with_zeros(underflow=26)
OF_POWER = replace(TRIPLET, float32=6, float64=6, reason=f"a power carries the error of its base p - 1 times; {ZEROS}")
NORMS: tuple[dict[str, Any], ...] = {}, {"p": 1.0, "margin": 0.25}, {"p": 3.0, "swap": True}, {"p": inf}, {"eps": 1e-6}


@define("triplet_margin_loss", THREE, "none", *NORMS, promise=Promise(TRIPLET, OF_POWER))
def triplet_margin_loss(a: Numbers, p_: Numbers, n: Numbers, p: float = 2.0, **options: Any) -> Number:
    return triplet(a, p_, n, p, **options)


TWO_COSINES = Bound(4, 4, f"{ANGLE}; two cosines", extra={"jax": 4.0}).with_zeros(underflow=26)
DISTANCES: tuple[dict[str, Any], ...] = {}, {"distance_function": "squared"}, {"distance_function": "cosine", "margin": 0.5}


@define("triplet_margin_with_distance_loss", THREE, "none", *DISTANCES, promise=Promise(TRIPLET, TWO_COSINES))
def triplet_margin_with_distance_loss(a: Numbers, p: Numbers, n: Numbers, distance_function: Any = 2, **options: Any) -> Number:
    return triplet(a, p, n, distance_function, **options)
