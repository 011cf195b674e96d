"""What losses of overlaps mean: definitions of whole batches, from functions of the entries of one overlap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np
from mpmath import mpf

from .evaluate import define
from .jets import Row, log1p, share, sigmoid
from .promises import POWER, Bound, Promise, within_spread

PRICES = {"alpha": 0.3, "beta": 0.7}
__all__: list[str] = []  # they are reached through `definitions`

Number = Any
Numbers = Sequence[Number]


def probabilities(x: Any, activation: str | None, axis: int | None) -> tuple[Any, Any]:
    """p and 1 - p of every entry."""
    if activation == "softmax":
        rows = np.moveaxis(x, axis, -1)
        p, q = np.empty_like(rows), np.empty_like(rows)
        for i in np.ndindex(rows.shape[:-1]):
            row = Row(list(rows[i]))
            for c in range(rows.shape[-1]):
                p[(*i, c)], q[(*i, c)] = row.prob(c), row.complement(c)
        return np.moveaxis(p, -1, axis), np.moveaxis(q, -1, axis)
    p, q = (sigmoid, lambda v: sigmoid(-v)) if activation == "sigmoid" else (lambda v: v, lambda v: 1 - v)
    return np.frompyfunc(p, 1, 1)(x), np.frompyfunc(q, 1, 1)(x)


def over_batch(
    one: Callable[..., Number],
    of_samples: bool,
    x: Any,
    t: Any,
    *,
    activation: str | None,
    axis: int | None = None,
    pool_axes: Any = None,
    classes: Any = None,
    class_weights: Any = None,
    absent: str = "keep",
    reduction: str = "mean",
    **own: Any,
) -> Number:
    """The losses of a batch, or their weighted mean, from the loss of one overlap (or sample)."""
    axis = axis if axis is None else axis % x.ndim
    pool = [a for a in range(x.ndim) if a != axis] if pool_axes is None else [a % x.ndim for a in np.atleast_1d(pool_axes)]
    several = [] if axis is None or axis in pool else [axis]
    samples = [a for a in range(x.ndim) if a not in pool and a not in several]
    if axis is not None and t.ndim < x.ndim:
        t = np.stack([np.where(t == c, mpf(1), mpf(0)) for c in range(x.shape[axis])], axis=axis)
    shape = [x.shape[a] for a in samples]
    chosen = list(range(int(np.prod([x.shape[a] for a in several])))) if classes is None else list(classes)

    def grouped(a: Any) -> Any:  # samples x classes x entries
        entries = int(np.prod([x.shape[i] for i in pool]))
        return a.transpose([*samples, *several, *pool]).reshape(-1, a.size // (entries * int(np.prod(shape))), entries)[:, chosen]

    losses, weights = [], []
    for sample in zip(*map(grouped, (*probabilities(x, activation, axis), t)), strict=True):
        w = [mpf(1 if class_weights is None else class_weights[c]) for c in chosen]
        if absent == "skip":
            w = [a if y.sum() else mpf(0) for a, y in zip(w, sample[2], strict=True)]
        losses += [one(*sample, w, **own)] if of_samples else [one(*entries, **own) for entries in zip(*sample, strict=True)]
        weights += [mpf(1)] if of_samples else w
    if reduction == "none":
        return np.array(losses, dtype=object).reshape([*shape, *([] if of_samples or not several else [len(chosen)])])
    total = sum((w * a for w, a in zip(weights, losses, strict=True)), mpf(0))
    return total if reduction == "sum" else total / (sum(weights, mpf(0)) or mpf(1))


def overlap(*options: Mapping[str, Any], per_gamma: float = 0.0, of_samples: bool = False) -> Callable[[Callable[..., Number]], Any]:
    """Enter a loss of overlaps for the three kinds of predictions, from a function of p, 1 - p and t: the entries of one overlap.

    `of_samples`: of one sample, classes x entries, and the weights of its classes.
    """

    def enter(one: Callable[..., Number]) -> Callable[..., Number]:
        @wraps(one)
        def value(x: Any, t: Any, **settings: Any) -> Number:
            return over_batch(one, of_samples, x, t, **settings)

        why = POWER if per_gamma else ""
        bounds = Bound(4, 4, why, per_gamma), Bound(16, 16, why, per_gamma)
        for activation in ("sigmoid", "softmax", None):
            layout: dict[str, Any] = {"activation": activation, "axis": 1}
            sets = [{**layout, **o} for o in (options if activation == "softmax" else options[:1])]
            promise = within_spread(*bounds).with_zeros() if activation == "softmax" else Promise(*bounds)
            soft, domain = promise if activation == "softmax" else promise.with_zeros(), "masks" if activation else "mask_probs"
            define(one.__name__, domain, "binary", *sets, promise=promise, soft=soft)(value)
        return one

    return enter


def errors(p: Any, q: Any, t: Any, squared: bool = False, soft_labels: bool = False) -> tuple[Number, Number]:
    """What prediction and target do not share, false positives and false negatives; of squares the sum of (p - t)**2, and 0."""
    missed = t * q - (1 - t) * p
    if soft_labels:
        return np.where(missed < mpf(0), -missed, mpf(0)).sum(), np.where(missed < mpf(0), mpf(0), missed).sum()
    return ((missed**2).sum(), mpf(0)) if squared else (((1 - t) * p).sum(), (t * q).sum())


def raised(missed: Number, shared: Number, log: bool = False, gamma: float = 1.0) -> Number:
    """A power of the share of what is missed, or of -log of the other one."""
    return (log1p(missed / shared) if log else share(missed, shared)) ** mpf(gamma)


@overlap({}, {"smooth": 0.0}, {"squared": True}, {"squared": True, "smooth": 0.0}, {"soft_labels": True}, {"log": True, "gamma": 2.0})
def dice_loss(p: Any, q: Any, t: Any, smooth: float = 1.0, squared: bool = False, soft_labels: bool = False, **power: Any) -> Number:
    """1 - (2 I + smooth) / (P + T + smooth), which is E / (E + 2 I + smooth) with the errors E = P + T - 2 I."""
    return raised(sum(errors(p, q, t, squared, soft_labels)), 2 * (np.minimum(p, t) if soft_labels else p * t).sum() + mpf(smooth), **power)


@overlap({}, {"smooth": 0.0}, {"squared": True}, {"soft_labels": True}, {"log": True})
def jaccard_loss(p: Any, q: Any, t: Any, smooth: float = 1.0, squared: bool = False, soft_labels: bool = False, **power: Any) -> Number:
    """1 - (I + smooth) / (P + T - I + smooth)."""
    return raised(sum(errors(p, q, t, squared, soft_labels)), (np.minimum(p, t) if soft_labels else p * t).sum() + mpf(smooth), **power)


@overlap(PRICES, {"alpha": 1.5, "beta": 0.25, "smooth": 0.0}, PRICES | {"soft_labels": True}, PRICES | {"log": True})
def tversky_loss(p: Any, q: Any, t: Any, alpha: float, beta: float, smooth: float = 1.0, soft_labels: bool = False, **power: Any) -> Number:
    """1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth)."""
    fp, fn = errors(p, q, t, soft_labels=soft_labels)
    return raised(mpf(alpha) * fp + mpf(beta) * fn, (np.minimum(p, t) if soft_labels else p * t).sum() + mpf(smooth), **power)


@overlap(PRICES, {"alpha": 0.5, "beta": 0.5, "gamma": 2.0, "smooth": 0.0}, per_gamma=2.0)
def focal_tversky_loss(p: Any, q: Any, t: Any, gamma: float = 0.75, **options: Any) -> Number:
    return tversky_loss(p, q, t, gamma=gamma, **options)


@overlap({}, {"smooth": 0.0}, {"volume_weights": "simple"}, {"volume_weights": "uniform"}, of_samples=True)
def generalized_dice_loss(p: Any, q: Any, t: Any, weights: Numbers, smooth: float = 1.0, volume_weights: str = "square") -> Number:
    """One Dice of all classes, weighted by a power of their volumes in the target; the volumes relative to the smallest."""
    volumes = [row.sum() for row in t]
    smallest = min((v for v in volumes if v > 0), default=mpf(1))
    power = {"square": 2, "simple": 1, "uniform": 0}[volume_weights]
    scale = [w * ((smallest / v) ** power if v > 0 else 1) for w, v in zip(weights, volumes, strict=True)]
    missed = sum((s * sum(errors(*row)) for s, row in zip(scale, zip(p, q, t, strict=True), strict=True)), mpf(0))
    return share(missed, sum((2 * s * (a * b).sum() for s, a, b in zip(scale, p, t, strict=True)), mpf(0)) + mpf(smooth))
