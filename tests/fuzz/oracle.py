"""What every loss is, by plain formulas: unreduced, then masked, weighted and reduced as the contract says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .jets import REAL, Jet, exp, log, log1p, log_softmax, power, sigmoid, softplus, tanh, where

Array = Any
ELEMENTWISE = ("squared_error", "huber_loss", "log_cosh_loss", "gaussian_nll_loss")
BINARY = ("sigmoid_cross_entropy", "binary_cross_entropy", "sigmoid_focal_loss")
ROWS = ("softmax_cross_entropy", "nll_loss", "softmax_focal_loss", "kl_divergence")
OVERLAPS = ("dice_loss", "jaccard_loss", "tversky_loss", "focal_tversky_loss", "generalized_dice_loss")


@dataclass
class Exact:
    """The value with the derivatives of its sum along the directions, and how large the terms are that add up to each."""

    value: Array
    first: Array
    second: Array
    size: float
    slope: float
    least: float = 1.0  # the smallest number but 0 that an overlap divides by


def directions_of(xs: Sequence[Array]) -> list[Array]:
    """One direction for each number of each prediction."""
    numbers = np.eye(sum(x.size for x in xs))
    ends = np.cumsum([x.size for x in xs])
    return [numbers[:, end - x.size : end].reshape(len(numbers), *x.shape) for x, end in zip(xs, ends, strict=True)]


def per_class(values: Any, axis: int, ndim: int) -> Array:
    """A number, or one number a class, to multiply predictions."""
    values = np.asarray(values, REAL)
    return values.reshape([-1 if i == axis else 1 for i in range(ndim)]) if values.ndim else values


def exact(name: str, xs: Sequence[Array], t: Array, directions: Sequence[Array], options: Mapping[str, Any], copies: int = 1) -> Exact:
    """`t`: floating targets of the shape of the predictions, NaN where no label is. `copies`: the batch as often, in the sums."""
    with np.errstate(all="ignore"):
        o = dict(options)
        axis, mask = o.pop("axis"), np.asarray(o.pop("mask"), bool)
        jets = [Jet(np.where(mask, x, 0.5)[None], d) for x, d in zip(xs, directions, strict=True)]
        t = np.where(mask, np.asarray(t, REAL), 0.0)
        result, size, unit, least = (overlap if name in OVERLAPS else elements)(name, jets, t, mask, axis, o, copies)
        total = result.sum(range(result.value.ndim - 1))
        return Exact(result.value[0], np.atleast_1d(total.first) / copies, np.atleast_1d(total.second) / copies, size, unit, least)


def slope_of(name: str, xs: Sequence[Jet], t: Array, mask: Array, at: int, o: dict[str, Any]) -> Array:
    """How large the terms are that add up to a slope, or to a second derivative."""
    x = probabilities(xs[0], at, o).value[0]
    if name == "gaussian_nll_loss":
        r, v = x - t, xs[1].value[0]
        slope = (1 + r * r / v) * (1 + 1 / v) ** 2
    elif name == "binary_cross_entropy" or o.get("given") == "probs":
        slope = (1 / x + 1 / np.maximum(1 - x, 2.0**-12)) ** 2
    elif CHANGES & set(o):
        slope = np.ones_like(x) * changed_size(x, t, at, o) * max(1.0, float(o.get("scale", 1.0))) ** 2
    else:
        slope = np.ones_like(x)
    largest = np.prod(
        [max(1.0, float(np.max(o[n], initial=0.0))) for n in ("pos_weight", "alpha", "class_weights", "gamma") if o.get(n) is not None]
    )
    return np.max(np.where(mask, slope * (1 + abs(t) * (name in ROWS)), 0.0), initial=0.0) * largest


def elements(name: str, xs: Sequence[Jet], t: Array, mask: Array, axis: int | None, o: dict[str, Any], copies: int) -> Any:
    ndim, x = t.ndim, xs[0]
    at = ndim - 1 if axis is None else axis
    slope = slope_of(name, xs, t, mask, at, o)
    class_weights = o.get("class_weights")
    weight: Any = np.ones_like(t)
    if class_weights is not None:
        weight = per_class(class_weights, at, ndim) * weight
    if name in ELEMENTWISE:
        loss = of_numbers(name, xs, t, o)
    elif name in BINARY:
        loss = weight * of_decisions(name, x, t, at, o)
    else:
        loss = of_rows(name, x, t, at, weight, o)
        weight = (t * weight).sum(axis=at, keepdims=True) if class_weights is not None else np.ones_like(t.sum(axis=at, keepdims=True))
        mask = mask.any(axis=at, keepdims=True) if mask.shape else mask
    w = np.asarray(o.get("weights", 1.0), REAL)
    w = np.where(mask, np.where(mask, w, 0.0), 0.0) + np.zeros_like(weight)
    loss, weight = w * where(mask, loss, 0.0), w * weight
    parts = abs(loss.value)
    if CHANGES & set(o):
        parts = parts + abs(w) * changed_size(xs[0].value[0], t, at, o)
    if name == "gaussian_nll_loss":
        parts = parts + abs(w * (abs(np.log(xs[1].value)) + 1) * mask)
    if o["reduction"] == "none":
        loss = loss if name not in ROWS else loss.along(lambda a: a.squeeze(at + 1))
        return loss, float(np.max(parts, initial=0.0)), float(slope * np.max(w, initial=0.0)), 1.0
    axes = o.get("reduce_axes")
    others = tuple(i for i in range(ndim) if not (name in ROWS and i == at))
    axes = others if axes is None else tuple(sorted(a % ndim for a in ((axes,) if np.ndim(axes) == 0 else axes)))
    gone = (*axes, at) if name in ROWS else axes

    def total(a: Array, before: int = 0) -> Array:
        return (a.sum(axis=tuple(i + before for i in axes), keepdims=True)).squeeze(tuple(i + before for i in gone)) * copies

    result = loss.along(lambda a: total(a, 1))
    size: Any = total(parts[0])
    slope = slope * np.max(w, initial=0.0)
    if o["reduction"] == "mean":
        rule = o.get("normalizer", "weights")
        if isinstance(rule, str):
            of_rule = {"weights": weight, "count": mask * np.ones_like(weight), "positives": t * np.ones_like(weight)}[rule]
            rule = total(of_rule)
            rule = np.maximum(rule, 1) if o.get("normalizer") == "positives" else rule
        rule = np.asarray(rule, REAL)
        is_zero = rule == 0
        result = where(is_zero & ~np.isnan(result.value[0]), 0.0, result / Jet(np.where(is_zero, 1.0, rule)[None]))
        rule = abs(np.where(is_zero, 1.0, rule))
        size, slope = np.where(is_zero, 0.0, size / rule), slope / np.min(rule, initial=np.inf)
    return result, float(np.max(size, initial=0.0)), float(slope), 1.0


def of_numbers(name: str, xs: Sequence[Jet], t: Array, o: dict[str, Any]) -> Jet:
    r = xs[0] - t
    if name == "squared_error":
        return r * r
    if name == "huber_loss":
        d = o.get("delta", 1.0)
        size = where(r.value > 0, r, -r)
        return where(size.value <= d, r * r * 0.5, d * (size - d / 2))
    if name == "log_cosh_loss":
        size = where(r.value > 0, r, -r)
        return size + log1p(exp(size * -2.0)) - np.log(REAL(2))
    v = xs[1]
    return (log(v) + r * r / v) * 0.5 + (np.log(2 * REAL(np.pi)) / 2 if o.get("full") else 0.0)


CHANGES = {"z_loss", "softcap", "logit_offsets", "label_margins", "scale"}


def changed_logits(x: Jet, t: Array, at: int, o: dict[str, Any]) -> Jet:
    cap = o.get("softcap")
    x = x if cap is None else tanh(x / float(cap)) * float(cap)
    shift = per_class(o.get("logit_offsets", 0.0), at, t.ndim) - per_class(o.get("label_margins", 0.0), at, t.ndim) * t
    return (x + shift) * float(o.get("scale", 1.0))


def changed_size(x: Array, t: Array, at: int, o: dict[str, Any]) -> Array:
    """How much what logits are rounded to moves a loss, in roundings: their size, and that of the slope of z_loss."""
    changed = changed_logits(Jet(x[None]), t, at, o).value[0]
    size = 1 + np.max(abs(changed), initial=0.0)
    return size * (1 + 2 * float(o.get("z_loss", 0.0)) * size) * max(1.0, float(np.max(t.sum(axis=at), initial=0.0)))


def probabilities(p: Jet, at: int, o: dict[str, Any]) -> Jet:
    """Divided by their sum, then clipped, as asked."""
    p = p / p.sum((at,), keepdims=True) if o.get("renormalize") else p
    low = float(o.get("clip", 0.0))
    return p if not low else where(p.value < low, low, where(p.value > 1 - low, 1 - low, p))


def no_nan(a: Array, b: Jet) -> Jet:
    """a * b for a constant a, 0 where a is 0."""
    return where(a == 0, 0.0, a * b)


def of_decisions(name: str, x: Jet, t: Array, at: int, o: dict[str, Any]) -> Jet:
    e, is_logit = o.get("label_smoothing", 0.0), o.get("given", "logits") == "logits" and name != "binary_cross_entropy"
    t, x = (1 - e) * t + e / REAL(2), probabilities(x, at, o)
    positive, negative = (softplus(-x), softplus(x)) if is_logit else (-log(x), -log1p(-x))
    if name != "sigmoid_focal_loss":
        factor = 1.0 if o.get("pos_weight") is None else per_class(o["pos_weight"], at, t.ndim)
        return no_nan(factor * t, positive) + no_nan(1 - t, negative)
    p, q = (sigmoid(x), sigmoid(-x)) if is_logit else (x, 1 - x)
    miss = no_nan(t, q) + no_nan(1 - t, p)
    alpha = o.get("alpha")
    factor = 1.0
    if alpha is not None:
        alpha = per_class(alpha, at, t.ndim)
        factor = alpha * t + (1 - alpha) * (1 - t)
    return factor * power(miss, float(o.get("gamma", 2.0))) * (no_nan(t, positive) + no_nan(1 - t, negative))


def of_rows(name: str, x: Jet, t: Array, at: int, weight: Array, o: dict[str, Any]) -> Jet:
    if name == "kl_divergence":
        log_q, log_p = log_softmax(x, at), log_softmax(Jet(t[None]), at)
        p = np.exp(log_p.value)
        return where(p == 0, 0.0, p * (log_p - log_q)).sum((at,), keepdims=True)
    given, e = o.get("given", "log_probs" if name == "nll_loss" else "logits"), o.get("label_smoothing", 0.0)
    x = changed_logits(x, t, at, o) if CHANGES & set(o) else probabilities(x, at, o)
    log_p = log_softmax(x, at) if given == "logits" else log(x) if given == "probs" else x
    if name == "softmax_focal_loss":
        p = exp(log_p) if given == "logits" else x
        size = t.shape[at]
        others = [p.take([j for j in range(size) if j != c], at).sum((at,), keepdims=True) for c in range(size)]
        q = Jet(*(np.concatenate([getattr(other, name) for other in others], axis=at + 1) for name in ("value", "first", "second")))
        q = q if given == "logits" else 1 - x
        alpha = 1.0 if o.get("alpha") is None else per_class(o["alpha"], at, t.ndim)
        t = (1 - e) * t + e / REAL(size)
        return where(t * alpha == 0, 0.0, t * alpha * power(q, float(o.get("gamma", 2.0))) * -log_p).sum((at,), keepdims=True)
    target = ((1 - e) * t + e / REAL(t.shape[at])) * weight
    lse = (x - log_p).take([0], at)
    of_row = (t * weight).sum(axis=at, keepdims=True) if o.get("class_weights") is not None else 1.0
    return no_nan(target, -log_p).sum((at,), keepdims=True) + (lse * lse * (float(o.get("z_loss", 0.0)) * of_row) if "z_loss" in o else 0.0)


def overlap(name: str, xs: Sequence[Jet], t: Array, mask: Array, axis: int | None, o: dict[str, Any], copies: int) -> Any:
    (x,), ndim = xs, t.ndim
    activation = o["activation"]
    p = x if activation is None else sigmoid(x) if activation == "sigmoid" else exp(log_softmax(x, axis or 0))
    w = np.where(mask, np.asarray(o.get("weights", 1.0), REAL), 0.0) + np.zeros_like(t)
    pool = o.get("pool_axes")
    pool = (
        tuple(i for i in range(ndim) if i != axis) if pool is None else tuple(a % ndim for a in ((pool,) if np.ndim(pool) == 0 else pool))
    )
    summed = tuple(sorted(i for i in pool if i != axis))

    def total(a: Jet) -> Jet:
        return where(w == 0, 0.0, w * a).sum(summed) * copies

    square = o.get("squared", False)
    tp, of_p, of_t = total(t * p), total(p * p if square else p), total(Jet((t * t if square else t)[None]))
    place = None if axis is None else axis - sum(i < axis for i in summed)
    classes = o.get("classes")
    if classes is not None and place is not None:
        chosen = [c % t.shape[axis or 0] for c in ((classes,) if np.ndim(classes) == 0 else classes)]
        tp, of_p, of_t = (a.take(chosen, place) for a in (tp, of_p, of_t))
    weights = np.ones_like(of_t.value[0])
    if o.get("class_weights") is not None:
        values = np.asarray(o["class_weights"], REAL)
        weights = weights * per_class(values if classes is None else values[chosen], place or 0, weights.ndim)
    if name == "generalized_dice_loss":
        volume = of_t.value[0]
        least = np.min(np.where(volume == 0, np.inf, volume), axis=place, keepdims=True)
        least = np.where(np.isinf(least), 1.0, least)
        ratio = np.where(volume == 0, 1.0, least / np.where(volume == 0, 1.0, volume))
        weights = weights * ratio ** {"square": 2, "simple": 1, "uniform": 0}[o.get("volume_weights", "square")]
    if o.get("absent", "keep") == "skip":
        weights = np.where(of_t.value[0] == 0, 0.0, weights)
    is_pooled = axis is not None and (axis in pool or name == "generalized_dice_loss")
    if is_pooled:
        tp, of_p, of_t = (((weights * a).sum((place,))) for a in (tp, of_p, of_t))
        weights = np.ones_like(of_t.value[0])
    s = o.get("smooth", 1.0)
    if name in ("dice_loss", "generalized_dice_loss"):
        miss, whole = of_p + of_t - 2 * tp, of_p + of_t + s
    elif name == "jaccard_loss":
        miss, whole = of_p + of_t - 2 * tp, of_p + of_t - tp + s
    else:
        miss = o["alpha"] * (of_p - tp) + o["beta"] * (of_t - tp)
        whole = miss + tp + s
    is_empty = whole.value[0] == 0
    least = float(np.min(np.where(is_empty, 1.0, whole.value[0]), initial=1.0))
    losses = where(is_empty, 0.0, miss / where(is_empty, 1.0, whole))
    gamma, steep = float(o.get("gamma", 0.75 if name == "focal_tversky_loss" else 1.0)), np.ones_like(losses.value)
    if o.get("log"):
        hit = where(is_empty, 1.0, whole - miss)
        losses = where(is_empty, 0.0, log(where(is_empty, 1.0, whole)) - log(hit))
        steep = where(is_empty, 1.0, whole).value / np.maximum(hit.value, 1e-300)
        least = min(least, float(np.min(np.where(hit.value == 0, 1.0, abs(hit.value)), initial=1.0)))
    if gamma != 1:
        is_perfect = losses.value <= 1e-18
        losses = where(is_perfect, 1.0, losses)
        steep = np.where(is_perfect, 0.0, steep * gamma * losses.value ** (gamma - 1))
        losses = where(is_perfect, 0.0, power(losses, gamma))
    result = weights * losses
    # A softmax takes the differences of derivatives for p, each at most this large
    slope = (
        np.max(weights * steep[0] / np.where(is_empty, 1.0, whole.value[0]), initial=0.0)
        * np.max(w, initial=0.0)
        * (activation == "softmax")
    )
    if o["reduction"] == "none":
        return result, 1.0, float(slope), least
    result = result.sum(range(weights.ndim))
    divisor = 1.0 if o["reduction"] == "sum" else weights.sum()
    scale = 0.0 if divisor == 0 else 1 / divisor
    return result * scale, 1.0, float(slope * scale), least
