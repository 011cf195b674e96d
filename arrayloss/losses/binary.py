"""Losses of independent yes/no decisions: cross-entropy and focal loss, from logits or probabilities."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import exp, inf, log, log1p
from typing import Any, Literal, Unpack

from arrayloss.core import special
from arrayloss.frontend.build import around, binary
from arrayloss.frontend.check import at_least, choice, number, per_class
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import BinaryOptions

Array = Any
Real = float | Array
Weight = float | Sequence[float] | Array | None  # one number for all classes, or one for each
Form = Literal["logits", "probs"]
FORMS = ("logits", "probs")


def times_largest(constant: float | None, weights: Weight) -> float | None:
    """A Lipschitz constant times the largest of some weights (None: 1). None where one of the two is not known: no array is read."""
    if constant is None or hasattr(constant, "dtype") or hasattr(weights, "dtype"):
        return None
    return constant if weights is None else constant * float(max(weights) if isinstance(weights, Sequence) else weights)


def _clipped(xp: Any, x: Array, t: Array, kernel: Any, clip: float, renormalize: bool, **own: Any) -> Iterator[Any]:
    """A kernel of probabilities that are divided by their sum, then clipped: outside, its slope is 0."""
    axis, total = own.get("axis"), xp.sum(x, axis=own.get("axis"), keepdims=True) if renormalize else None
    p = x / total if renormalize else x
    is_outside = (p < clip) | (p > 1 - clip)
    steps = kernel(xp, special.clip(xp, p, clip, 1 - clip), t, **own)
    yield next(steps)
    of_p = next(steps)

    def pullback(g: Any) -> Array:
        slope = xp.where(is_outside, 0.0, of_p(g) if callable(of_p) else g * of_p)
        return (slope - xp.sum(p * slope, axis=axis, keepdims=True)) / total if renormalize else slope

    yield pullback
    for bend in steps:
        bend = xp.where(is_outside, 0.0, bend)
        if renormalize:
            bend = (((1 - 2 * p) * bend + xp.sum(p * p * bend, axis=axis, keepdims=True)) / total - 2 * pullback(1.0)) / total
        yield bend


def clipping(given: str, clip: float | None, renormalize: bool = False) -> Callable[[Any], Any]:
    """What makes the call of a loss of probabilities that of a loss of renormalized and clipped ones."""
    limit = number("clip", 0 if clip is None else clip, 0, 0.49)
    if not choice("renormalize", renormalize, (False, True)) and clip is None:
        return lambda call: call
    if given != "probs":
        raise ValueError(f"clip and renormalize are for given='probs'; got {clip=} and {renormalize=} with {given=}: leave them out")
    return partial(around, _clipped, clip=limit, renormalize=renormalize)


def clipped_properties(of: Properties, weights: Any, steepest: Any, clip: float | None, renormalize: bool = False) -> Properties:
    """Those of a loss of probabilities behind `clipping`: `steepest` finds how steep it is at a probability."""
    if not clip:
        return replace(of, convex=False, lipschitz=None) if renormalize else of
    upper, lipschitz = times_largest(-log(clip), weights), times_largest(steepest(clip), weights)
    return Properties(False, None if renormalize else lipschitz, False, False, upper=inf if upper is None else min(of.upper, upper))


def _sigmoid_cross_entropy(xp: Any, x: Array, t: Array, pos_weight: Any, label_smoothing: float) -> Iterator[Array]:
    t = (1 - label_smoothing) * t + label_smoothing / 2 if label_smoothing else t
    step, tail, softplus, add_sigmoid_minus_step = special.sigmoid_terms(xp, x)
    step_error = step - t  # exact for hard targets
    if pos_weight is None:
        yield lambda: softplus() + special.multiply_no_nan(xp, step_error, x)  # terms that are never negative, so that none cancel
        yield add_sigmoid_minus_step(step_error)  # sigmoid - t, which cancels on confident elements
        yield tail * (1 - tail)
    else:
        positive, negative = pos_weight * t, 1 - t
        step_error, weight = special.lerp(-positive, negative, step), positive + negative
        yield lambda: weight * softplus() + special.multiply_no_nan(xp, step_error, x)
        yield add_sigmoid_minus_step(step_error, weight)
        yield weight * tail * (1 - tail)


def _cross_entropy_properties(pos_weight: Any, class_weights: Any, label_smoothing: float, **_: Any) -> Properties:
    of_positives = times_largest(1.0, pos_weight)
    steepest = None if of_positives is None else max(1.0, of_positives) * (1 - label_smoothing / 2)
    return Properties(convex=True, lipschitz=times_largest(steepest, class_weights))


@loss(properties=_cross_entropy_properties)
def sigmoid_cross_entropy(
    logits: Array,
    targets: Array,
    *,
    pos_weight: Weight = None,
    class_weights: Weight = None,
    label_smoothing: float = 0.0,
    **options: Unpack[BinaryOptions],
) -> Array:
    """Cross-entropy of yes/no decisions from logits: binary and multi-label classification.

    .. code-block:: text

        loss = pos_weight * t * softplus(-x) + (1 - t) * softplus(x)

    Gradient: (1 - t) * sigmoid(x) - pos_weight * t * sigmoid(-x), finite everywhere, with all its digits on confident elements.
    Source: C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.90.

    Parameters
    ----------
    logits : array, any shape, floating point
        An infinite logit gives the limit: 0 on the side of the target, inf on the other.
    targets : array, the shape of `logits`: boolean or integer (0 and 1, checked), or floating point from 0 to 1, used as it is
    pos_weight : number >= 0, or one per class along `axis`
        Factor of the positive term. It scales the loss, never the denominator of the mean.
    class_weights : number >= 0, or one per class along `axis`
        Weight of a class; it counts in the denominator too.
    label_smoothing : number e from 0 to 1, in t' = (1 - e) * t + e / 2
    {options}

    >>> import numpy as np
    >>> sigmoid_cross_entropy(np.array([0.0, 20.0, -3.0]), np.array([1, 1, 0]), reduction="none").round(10)
    array([6.93147181e-01, 2.10000000e-09, 4.85873516e-02])
    """
    parameters = {"pos_weight": per_class(pos_weight), "label_smoothing": number("label_smoothing", label_smoothing, low=0, high=1)}
    return binary(_sigmoid_cross_entropy, {"logits": logits}, targets, options, per_class(class_weights), **parameters)


def _log_loss(xp: Any, p: Array, t: Array, u: Array) -> Array:
    yes, no = xp.where((t == 0) & (p == 0), 1.0, p), xp.where((u == 0) & (p == 1), 0.0, p)  # 0 * log(0), in autodiff too
    return 0.0 - t * xp.log(yes) - u * xp.log1p(-no)


def _smoothed(t: Array, e: float) -> tuple[Array, Array]:
    """Targets t and u = 1 - t, both with all their digits."""
    return ((1 - e) * t + e / 2, (1 - e) * (1 - t) + e / 2) if e else (t, 1 - t)


def _binary_cross_entropy(xp: Any, p: Array, t: Array, label_smoothing: float) -> Iterator[Array]:
    t, u = _smoothed(t, label_smoothing)
    yield _log_loss(xp, p, t, u)
    # 0/0 where target and probability agree exactly: that term of the loss is 0 for every p, and so is its slope
    positive, negative = special.divide(xp, t, p, 0.0), special.divide(xp, u, 1 - p, 0.0)
    yield negative - positive
    yield special.divide(xp, negative, 1 - p, 0.0) + special.divide(xp, positive, p, 0.0)


@loss(properties=lambda class_weights, clip, **_: clipped_properties(Properties(convex=True), class_weights, lambda p: 1 / p, clip))
def binary_cross_entropy(
    probs: Array,
    targets: Array,
    *,
    class_weights: Weight = None,
    label_smoothing: float = 0.0,
    clip: float | None = None,
    **options: Unpack[BinaryOptions],
) -> Array:
    """Cross-entropy of yes/no decisions from probabilities; from logits use `sigmoid_cross_entropy`, which loses nothing.

    .. code-block:: text

        loss = -t * log(p) - (1 - t) * log(1 - p)

    Gradient: (1 - t) / (1 - p) - t / p, infinite where the loss is, and where a subnormal p has no finite reciprocal.
    Source: C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.90.

    Parameters
    ----------
    probs : array, any shape, floating point from 0 to 1
        Not checked: 0 at a positive target is an infinite loss, a number outside [0, 1] a NaN.
    targets, class_weights, label_smoothing
        As for `sigmoid_cross_entropy`.
    clip : number from 0 to 0.49
        Probabilities are moved into [clip, 1 - clip], rounded to the dtype, with gradient 0 outside; Keras: 1e-7.
    {options}

    >>> import numpy as np
    >>> binary_cross_entropy(np.array([0.5, 1.0, 0.0]), np.array([1, 1, 1]), reduction="none").round(4)
    array([0.6931, 0.    ,    inf])
    """
    e, clipped = number("label_smoothing", label_smoothing, low=0, high=1), clipping("probs", clip)
    return clipped(binary(_binary_cross_entropy, {"probs": probs}, targets, options, per_class(class_weights), label_smoothing=e))


def _sigmoid_focal(xp: Any, x: Array, t: Array, gamma: Any, alpha: Any, label_smoothing: float) -> Iterator[Array]:
    e = label_smoothing
    step, q, softplus, add_sigmoid_minus_step = special.sigmoid_terms(xp, x)
    p = 1 - q  # of the likelier answer
    step_error = (1 - e) * (step - t) + e * (step - 0.5) if e else step - t
    t = (1 - e) * t + e / 2 if e else t
    abs_error = (2 * step - 1) * step_error  # with a derivative at 0 too
    miss = special.lerp(q, p, abs_error)  # 1 - p_t, without cancellation at either end
    scale = special.power(xp, miss, gamma)
    if alpha is not None:
        scale = special.lerp(1 - alpha, alpha, t) * scale
    ce = softplus() + special.multiply_no_nan(xp, step_error, x)
    value = scale * ce
    yield value
    # miss' / miss; in the tail, where that is 0/0, hard targets have p*q / miss = p_t
    dlog_miss = (1 - 2 * t) * special.divide(xp, p * q, miss, lambda: special.lerp(p, q, abs_error))
    # From the value: a compiler need keep neither ce nor scale
    yield scale * add_sigmoid_minus_step(step_error) + special.multiply_no_nan(xp, gamma * dlog_miss, value)
    slope = add_sigmoid_minus_step(step_error)
    bend = ((gamma - 1) * dlog_miss - (2 * step - 1) * (p - q)) * special.multiply_no_nan(xp, dlog_miss, ce)
    yield scale * (gamma * (bend + 2 * dlog_miss * slope) + p * q)


def _focal_of_probs(xp: Any, p: Array, t: Array, gamma: Any, alpha: Any, label_smoothing: float) -> Iterator[Array]:
    t, u = _smoothed(t, label_smoothing)
    q = 1 - p
    miss = t * q + u * p
    scale = special.power(xp, miss, gamma)
    if alpha is not None:
        scale = special.lerp((1 - alpha) * scale, alpha * scale, t)
    ce = _log_loss(xp, p, t, u)
    yield scale * ce
    slope = special.divide(xp, u, q, 0.0) - special.divide(xp, t, p, 0.0)
    # ce / miss where a hard target is certain: -log(1 - m) / m at m = 0; where it is infinite, so is the slope, of higher order
    ratio = xp.where(xp.isfinite(ce), special.divide(xp, ce, miss, 1.0), 0.0)
    yield scale * (gamma * (1 - 2 * t) * ratio + slope)


def steepest_focal_slope(gamma: float) -> float:
    """The largest |d/dx| of the focal loss, q**gamma * (q - gamma * p * log(p)): where the second derivative is 0, found by bisection."""
    low, high = -40.0 - gamma, 0.0
    while True:
        z = (low + high) / 2
        q, log_p = 1 / (1 + exp(z)), z - log1p(exp(z))
        if z in (low, high):
            return float(q**gamma * (q - gamma * (1 - q) * log_p))
        low, high = (z, high) if q * (1 + 2 * gamma) < gamma * log_p * (gamma * (1 - q) - q) else (low, z)


def focal_properties(gamma: Any, weights: Any, given: str, norm: float = 1.0, **own: Any) -> Properties:
    """`norm`: the largest gradient of the cross-entropy."""
    is_known = not hasattr(gamma, "dtype")
    if given == "probs":
        of = Properties(convex=True, twice_differentiable=is_known and not 0 < gamma < 1)
        return clipped_properties(of, weights, lambda p: (1 - p) ** gamma * (1 / p - gamma * log(p) / (1 - p)), **own)
    if not is_known:
        return Properties()
    return Properties(convex=gamma == 0, lipschitz=times_largest(norm * steepest_focal_slope(gamma), weights))


def _of_both_answers(alpha: Any) -> Any:
    alphas = [alpha] if isinstance(alpha, (float, int)) else alpha
    return [max(a, 1 - a) for a in alphas] if isinstance(alphas, Sequence) else alphas


@loss(properties=lambda alpha, label_smoothing, **own: focal_properties(weights=_of_both_answers(alpha), **own))
def sigmoid_focal_loss(
    predictions: Array,
    targets: Array,
    *,
    gamma: Real = 2.0,
    alpha: Weight = None,
    given: Form = "logits",
    label_smoothing: float = 0.0,
    clip: float | None = None,
    **options: Unpack[BinaryOptions],
) -> Array:
    """Cross-entropy of yes/no decisions in which easy elements count less: detection, rare classes.

    .. code-block:: text

        p_t  = p * t + (1 - p) * (1 - t),   p = sigmoid(x)
        loss = alpha_t * (1 - p_t)**gamma * cross_entropy,   alpha_t = alpha * t + (1 - alpha) * (1 - t)

    The paper divides by the number of assigned anchors: `normalizer="positives"`.
    Gradient: from logits finite everywhere, for fractions of gamma too; from probabilities infinite where the loss is, and where a
    subnormal p has no finite reciprocal. With 0 < gamma < 1 no second derivative for probabilities exists at p_t = 1.
    Source: T.-Y. Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5.

    Parameters
    ----------
    predictions : array, any shape, floating point
    targets : array, the shape of `predictions`
        Boolean or integer (0 and 1, checked), or floating point from 0 to 1. Soft targets follow the linear mix p_t above.
    gamma : number >= 0, or 0-d array
        How fast easy elements fade. 0 is cross-entropy; fractions are fine. An array may be traced and differentiated.
    alpha : number from 0 to 1, or one per class along `axis`
        Weight of the positives; the negatives have 1 - alpha. It scales the loss, never the denominator of the mean.
    given : "logits" or "probs", which are not checked
    label_smoothing, clip
        As for `binary_cross_entropy`; `clip` for probabilities only.
    {options}

    >>> import numpy as np
    >>> print(f"{sigmoid_focal_loss(np.array([2.0, -1.0, 0.5]), np.array([1, 1, 0]), gamma=2.0, alpha=0.25):.6f}")
    0.152992
    """
    kernel = _sigmoid_focal if choice("given", given, FORMS) == "logits" else _focal_of_probs
    own = {"gamma": at_least(gamma, 0), "alpha": per_class(alpha, high=1)}
    e, clipped = number("label_smoothing", label_smoothing, low=0, high=1), clipping(given, clip)
    return clipped(binary(kernel, predictions, targets, options, **own, label_smoothing=e))
