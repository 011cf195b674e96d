"""Losses of independent yes/no decisions: cross-entropy and focal loss, from logits or probabilities."""

from collections.abc import Iterator, Sequence
from math import exp, log1p
from typing import Any, Literal, Unpack

from arrayloss.core import special
from arrayloss.frontend.build import binary
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
    if constant is None or hasattr(weights, "dtype"):
        return None
    return constant if weights is None else constant * float(max(weights) if isinstance(weights, Sequence) else weights)


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


def _log_loss(xp: Any, p: Array, t: Array) -> Array:
    return 0.0 - special.multiply_no_nan(xp, t, xp.log(p)) - special.multiply_no_nan(xp, 1 - t, xp.log1p(-p))


def _binary_cross_entropy(xp: Any, p: Array, t: Array, label_smoothing: float) -> Iterator[Array]:
    t = (1 - label_smoothing) * t + label_smoothing / 2 if label_smoothing else t
    yield _log_loss(xp, p, t)
    # 0/0 where target and probability agree exactly: that term of the loss is 0 for every p, and so is its slope
    positive, negative = special.divide(xp, t, p, 0.0), special.divide(xp, 1 - t, 1 - p, 0.0)
    yield negative - positive
    yield special.divide(xp, negative, 1 - p, 0.0) + special.divide(xp, positive, p, 0.0)


@loss(properties=lambda **_: Properties(convex=True))
def binary_cross_entropy(
    probs: Array, targets: Array, *, class_weights: Weight = None, label_smoothing: float = 0.0, **options: Unpack[BinaryOptions]
) -> Array:
    """Cross-entropy of yes/no decisions from probabilities; from logits use `sigmoid_cross_entropy`, which loses nothing.

    .. code-block:: text

        loss = -t * log(p) - (1 - t) * log(1 - p)

    Gradient: (1 - t) / (1 - p) - t / p, infinite where the loss is, and where a subnormal p has no finite reciprocal.
    Source: C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.90.

    Parameters
    ----------
    probs : array, any shape, floating point from 0 to 1
        Neither clipped nor checked: 0 at a positive target is an infinite loss, a number outside [0, 1] a NaN.
    targets, class_weights, label_smoothing
        As for `sigmoid_cross_entropy`.
    {options}

    >>> import numpy as np
    >>> binary_cross_entropy(np.array([0.5, 1.0, 0.0]), np.array([1, 1, 1]), reduction="none").round(4)
    array([0.6931, 0.    ,    inf])
    """
    e = number("label_smoothing", label_smoothing, low=0, high=1)
    return binary(_binary_cross_entropy, {"probs": probs}, targets, options, per_class(class_weights), label_smoothing=e)


def _sigmoid_focal(xp: Any, x: Array, t: Array, gamma: Any, alpha: Any) -> Iterator[Array]:
    step, q, softplus, add_sigmoid_minus_step = special.sigmoid_terms(xp, x)
    p = 1 - q  # of the likelier answer
    step_error = step - t
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


def _focal_of_probs(xp: Any, p: Array, t: Array, gamma: Any, alpha: Any) -> Iterator[Array]:
    q = 1 - p
    miss = special.lerp(p, q, t)
    scale = special.power(xp, miss, gamma)
    if alpha is not None:
        scale = special.lerp((1 - alpha) * scale, alpha * scale, t)
    ce = _log_loss(xp, p, t)
    yield scale * ce
    slope = special.divide(xp, 1 - t, q, 0.0) - special.divide(xp, t, p, 0.0)
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


def focal_properties(gamma: Any, weights: Any, given: str, norm: float = 1.0) -> Properties:
    """`norm`: the largest gradient of the cross-entropy."""
    if hasattr(gamma, "dtype"):
        return Properties(convex=given == "probs", twice_differentiable=given == "logits")
    if given == "probs":
        return Properties(convex=True, twice_differentiable=not 0 < gamma < 1)
    return Properties(convex=gamma == 0, lipschitz=times_largest(norm * steepest_focal_slope(gamma), weights))


def _of_both_answers(alpha: Any) -> Any:
    alphas = [alpha] if isinstance(alpha, (float, int)) else alpha
    return [max(a, 1 - a) for a in alphas] if isinstance(alphas, Sequence) else alphas


@loss(properties=lambda gamma, alpha, given, **_: focal_properties(gamma, _of_both_answers(alpha), given))
def sigmoid_focal_loss(
    predictions: Array, targets: Array, *, gamma: Real = 2.0, alpha: Weight = None, given: Form = "logits", **options: Unpack[BinaryOptions]
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
    given : "logits" or "probs"
        What the predictions are. Probabilities are neither clipped nor checked.
    {options}

    >>> import numpy as np
    >>> print(f"{sigmoid_focal_loss(np.array([2.0, -1.0, 0.5]), np.array([1, 1, 0]), gamma=2.0, alpha=0.25):.6f}")
    0.152992
    """
    kernel = _sigmoid_focal if choice("given", given, FORMS) == "logits" else _focal_of_probs
    return binary(kernel, predictions, targets, options, gamma=at_least(gamma, 0), alpha=per_class(alpha, high=1))
