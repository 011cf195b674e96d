"""Losses of independent yes/no decisions: cross-entropy and focal loss, from logits or probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from arrayloss.core import special
from arrayloss.core.call import Call
from arrayloss.core.check import choice, number
from arrayloss.core.inputs import Inputs
from arrayloss.core.loss import loss

Array = Any


def _smooth(xp: Any, t: Array, smoothing: float, like: Array) -> Array:
    """(1-e)*t + e/2, as numbers: targets moved towards one half."""
    t = special.as_float(xp, t, like)
    return t if smoothing == 0 else (1 - smoothing) * t + smoothing / 2


def _sigmoid_cross_entropy(xp: Any, x: Array, t: Array, pos_weight: Any, smoothing: float) -> Iterator[Array]:
    t = _smooth(xp, t, smoothing, x)
    h, q, near, tail = special.logistic(xp, x)
    off = h - t  # of the likelier answer from the target: exact for hard targets
    if pos_weight is None:
        yield special.plus_product(xp, near, off, x)  # terms that are never negative, so that none cancel
        yield off - tail()  # sigma - t, which cancels on confident elements, with t taken from h first
        yield q * (1 - q)
    else:
        wanted, other = pos_weight * t, 1 - t
        off, weight = special.mix(xp, other, -wanted, h), wanted + other
        yield special.plus_product(xp, weight * near, off, x)
        yield off - weight * tail()
        yield weight * q * (1 - q)


@loss
def sigmoid_cross_entropy(
    logits: Array,
    targets: Array,
    *,
    pos_weight: Any = None,
    class_weights: Any = None,
    label_smoothing: float = 0.0,
    axis: int = -1,
    ignore_index: int | tuple[int, ...] | None = None,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
    reduce_axes: int | tuple[int, ...] | None = None,
    normalizer: Any = "weights",
) -> Call:
    """Cross-entropy of yes/no decisions from logits: binary and multi-label classification.

    .. code-block:: text

        loss = pos_weight * t * softplus(-x) + (1 - t) * softplus(x)

    Parameters
    ----------
    logits : array, any shape, floating point
        Any finite value; an infinite logit gives the limit, 0 on the side of the target and inf on the other.
    targets : array, the shape of `logits`
        Boolean or integer (0 and 1, checked), or floating point from 0 to 1, used as it is.
    pos_weight : number >= 0, or one per class along `axis`
        Factor of the positive term. It scales the loss, never the denominator of the mean.
    class_weights : number >= 0, or one per class along `axis`
        Weight of a class; it counts in the denominator too.
    label_smoothing : number from 0 to 1
        e in t' = (1 - e) * t + e / 2.
    axis : int
        Where `pos_weight` and `class_weights` have their classes.
    weights, where, ignore_index, reduction, reduce_axes, normalizer
        See `arrayloss.losses`.

    Returns
    -------
    array
        0-d, or what `reduce_axes` leaves, or the shape of `logits` with `reduction="none"`.

    Notes
    -----
    Gradient: (1 - t) * sigmoid(x) - pos_weight * t * sigmoid(-x), finite everywhere, with all its digits on confident elements.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import sigmoid_cross_entropy
    >>> logits, targets = np.array([0.0, 20.0, -3.0]), np.array([1, 1, 0])
    >>> print(f"{sigmoid_cross_entropy(logits, targets):.6f}")
    0.247245
    >>> sigmoid_cross_entropy(logits, targets, reduction="none").round(10)
    array([6.93147181e-01, 2.10000000e-09, 4.85873516e-02])

    References
    ----------
    C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.90.
    """
    inputs = Inputs(logits=logits)
    t = inputs.binary_targets(targets, ignore_index)
    return inputs.call(
        _sigmoid_cross_entropy,
        t,
        inputs.per_class("pos_weight", pos_weight, axis),
        number("label_smoothing", label_smoothing, low=0, high=1),
        class_weights=inputs.per_class("class_weights", class_weights, axis),
        of_logs=pos_weight is None,
        weights=weights,
        where=where,
        reduction=reduction,
        reduce_axes=reduce_axes,
        normalizer=normalizer,
    )


def _binary_cross_entropy(xp: Any, p: Array, t: Array, smoothing: float) -> Iterator[Array]:
    t = _smooth(xp, t, smoothing, p)
    yield 0.0 - special.xlogy(xp, t, p) - special.xlog1py(xp, 1 - t, -p)
    # 0/0 where target and probability agree exactly: that term of the loss is 0 for every p, and so is its slope
    yes, no = special.ratio(xp, t, p, zero_over_zero=0.0), special.ratio(xp, 1 - t, 1 - p, zero_over_zero=0.0)
    yield no - yes
    yield special.ratio(xp, no, 1 - p, zero_over_zero=0.0) + special.ratio(xp, yes, p, zero_over_zero=0.0)


@loss
def binary_cross_entropy(
    probs: Array,
    targets: Array,
    *,
    class_weights: Any = None,
    label_smoothing: float = 0.0,
    axis: int = -1,
    ignore_index: int | tuple[int, ...] | None = None,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
    reduce_axes: int | tuple[int, ...] | None = None,
    normalizer: Any = "weights",
) -> Call:
    """Cross-entropy of yes/no decisions from probabilities; from logits use `sigmoid_cross_entropy`, which loses nothing.

    .. code-block:: text

        loss = -t * log(p) - (1 - t) * log(1 - p)

    Parameters
    ----------
    probs : array, any shape, floating point from 0 to 1
        Neither clipped nor checked: a probability of 0 at a positive target is an infinite loss, one outside [0, 1] a NaN.
    targets : array, the shape of `probs`
        Boolean or integer (0 and 1, checked), or floating point from 0 to 1, used as it is.
    class_weights : number >= 0, or one per class along `axis`
        Weight of a class; it counts in the denominator too.
    label_smoothing : number from 0 to 1
        e in t' = (1 - e) * t + e / 2.
    axis : int
        Where `class_weights` has its classes.
    weights, where, ignore_index, reduction, reduce_axes, normalizer
        See `arrayloss.losses`.

    Returns
    -------
    array
        0-d, or what `reduce_axes` leaves, or the shape of `probs` with `reduction="none"`.

    Notes
    -----
    Gradient: (1 - t) / (1 - p) - t / p; finite except where the loss is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import binary_cross_entropy
    >>> binary_cross_entropy(np.array([0.5, 1.0, 0.0]), np.array([1, 1, 1]), reduction="none").round(4)
    array([0.6931, 0.    ,    inf])

    References
    ----------
    C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.90.
    """
    inputs = Inputs(probs=probs)
    t = inputs.binary_targets(targets, ignore_index)
    return inputs.call(
        _binary_cross_entropy,
        t,
        number("label_smoothing", label_smoothing, low=0, high=1),
        class_weights=inputs.per_class("class_weights", class_weights, axis),
        weights=weights,
        where=where,
        reduction=reduction,
        reduce_axes=reduce_axes,
        normalizer=normalizer,
    )


def _sigmoid_focal(xp: Any, x: Array, t: Array, gamma: Any, alpha: Any) -> Iterator[Array]:
    t = special.as_float(xp, t, x)
    h, q, near, tail = special.logistic(xp, x)
    p = 1 - q
    off = h - t
    far = special.magnitude(xp, off, h)
    miss = special.mix(xp, p, q, far)  # 1 - p_t, without cancellation at either end
    scale = special.power(xp, miss, gamma)
    if alpha is not None:
        scale = special.mix(xp, alpha, 1 - alpha, t) * scale
    ce = special.plus_product(xp, near, off, x)
    value = scale * ce
    yield value
    # |miss' / miss|; in the tail, where that is 0/0, hard targets have p*q / miss = p_t
    turn = special.ratio(xp, p * q, miss, zero_over_zero=lambda: special.mix(xp, q, p, far))
    slope = off - tail()
    yield special.beside(xp, scale * slope, gamma, turn * value, t)  # from the value: neither ce nor scale need be kept by a compiler
    turn = (1 - 2 * t) * turn
    yield scale * (gamma * turn * (((gamma - 1) * turn - (2 * h - 1) * (p - q)) * ce + 2 * slope) + p * q)


def _focal_of_probs(xp: Any, p: Array, t: Array, gamma: Any, alpha: Any) -> Iterator[Array]:
    t = special.as_float(xp, t, p)
    q = 1 - p
    miss = special.mix(xp, q, p, t)
    scale = special.power(xp, miss, gamma)
    if alpha is not None:
        scale = special.mix(xp, alpha * scale, (1 - alpha) * scale, t)
    ce = -special.xlogy(xp, t, p) - special.xlog1py(xp, 1 - t, -p)
    yield scale * ce
    turn = gamma * (1 - 2 * t)
    slope = special.ratio(xp, 1 - t, q, zero_over_zero=0.0) - special.ratio(xp, t, p, zero_over_zero=0.0)
    # ce / miss where a hard target is certain: -log(1 - m) / m at m = 0
    yield scale * (turn * special.ratio(xp, ce, miss, zero_over_zero=1.0) + slope)


@loss
def sigmoid_focal_loss(
    predictions: Array,
    targets: Array,
    *,
    gamma: Any = 2.0,
    alpha: Any = None,
    given: str = "logits",
    axis: int = -1,
    ignore_index: int | tuple[int, ...] | None = None,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
    reduce_axes: int | tuple[int, ...] | None = None,
    normalizer: Any = "weights",
) -> Call:
    """Cross-entropy of yes/no decisions in which easy elements count less: detection, rare classes.

    .. code-block:: text

        p_t  = p * t + (1 - p) * (1 - t),   p = sigmoid(x)
        loss = alpha_t * (1 - p_t)**gamma * cross_entropy,   alpha_t = alpha * t + (1 - alpha) * (1 - t)

    Parameters
    ----------
    predictions : array, any shape, floating point
        Logits, or probabilities with `given="probs"` (neither clipped nor checked).
    targets : array, the shape of `predictions`
        Boolean or integer (0 and 1, checked), or floating point from 0 to 1. Soft targets follow the linear mix p_t above.
    gamma : number >= 0, or 0-d array
        How fast easy elements fade. 0 is cross-entropy; fractions are fine. An array may be traced and differentiated.
    alpha : number from 0 to 1, or one per class along `axis`
        Weight of the positives; the negatives have 1 - alpha. None: no such weight. It scales the loss, never the
        denominator of the mean.
    given : "logits" or "probs"
        What the predictions are.
    axis : int
        Where `alpha` has its classes.
    weights, where, ignore_index, reduction, reduce_axes, normalizer
        See `arrayloss.losses`.

    Returns
    -------
    array
        0-d, or what `reduce_axes` leaves, or the shape of `predictions` with `reduction="none"`.

    Notes
    -----
    Gradient from logits: finite everywhere, for fractions of gamma too. From probabilities it is infinite where the loss is;
    with 0 < gamma < 1 no second derivative exists there at p_t = 1. The paper divides the sum by the number of assigned anchors:
    `normalizer=positives`.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import sigmoid_focal_loss
    >>> logits, targets = np.array([2.0, -1.0, 0.5]), np.array([1, 1, 0])
    >>> print(f"{sigmoid_focal_loss(logits, targets, gamma=2.0, alpha=0.25):.6f}")
    0.152992

    References
    ----------
    T.-Y. Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5.
    """
    inputs = Inputs(predictions=predictions)
    t = inputs.binary_targets(targets, ignore_index)
    return inputs.call(
        choice("given", given, {"logits": _sigmoid_focal, "probs": _focal_of_probs}),
        t,
        inputs.parameter("gamma", gamma, low=0),
        inputs.per_class("alpha", alpha, axis, high=1),
        weights=weights,
        where=where,
        reduction=reduction,
        reduce_axes=reduce_axes,
        normalizer=normalizer,
    )
