"""Variants of cross-entropy: with a term of its polynomial changed, or flattened so that wrong labels count less."""

from collections.abc import Iterator
from math import inf, sqrt
from typing import Any, Unpack

from arrayloss.core import special
from arrayloss.frontend.build import rows
from arrayloss.frontend.check import at_least, choice, fraction, number, per_class
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import RowOptions

from .binary import FORMS, Form, Real, clipped_properties, clipping, times_largest
from .multiclass import Weights, _at_label, smooth_and_weigh

Array = Any


def _poly1_of_labels(xp: Any, x: Array, t: Array, axis: int, epsilon: Any, class_weights: Any = None, **ignored: Any) -> Iterator[Any]:
    ce, q, grad, _ = special.nll_and_grad_at_label(xp, x, t, axis)
    value = ce + epsilon * q
    weight = None if class_weights is None else _at_label(xp, x, t, class_weights, axis)
    yield value if weight is None else (weight * value, weight)
    hit = xp.exp(-ce)  # p at the label: where that is small, 1 - q has lost its digits
    more = epsilon * hit
    scale = 1 + more
    yield grad(scale if weight is None else weight * scale)
    _, p, complement, _ = special.softmax_with_complement(xp, x, axis)
    bend = special.scatter_label(xp, p * (scale * complement() - more * p), t, hit * q * (scale - epsilon * q), axis)
    yield bend if weight is None else weight * bend


def _poly1_of_distribution(
    xp: Any, x: Array, t: Array, axis: int, epsilon: Any, label_smoothing: float, class_weights: Any = None
) -> Iterator[Any]:
    argmax, p, complement, nll = special.softmax_with_complement(xp, x, axis)
    t, target = smooth_and_weigh(xp, x, t, axis, label_smoothing, class_weights)
    q = complement()
    value = xp.sum(special.multiply_no_nan(xp, target, nll()) + epsilon * target * q, axis=axis, keepdims=True)
    yield value if class_weights is None else (value, xp.sum(t * class_weights, axis=axis, keepdims=True))
    slope = special.cross_entropy_grad(xp, argmax, p, q, target, axis)
    step = epsilon * special.softmax_vjp(xp, argmax, p + 0, target + 0, axis)  # may overwrite what it gets
    yield slope - step
    yield xp.sum(target, axis=axis, keepdims=True) * p * q - (q - p) * step


def _poly1_properties(epsilon: Any, class_weights: Any, **_: Any) -> Properties:
    if hasattr(epsilon, "dtype"):
        return Properties()
    steepest = (1 + epsilon) ** 2 / (4 * epsilon) if epsilon > 1 else 1.0  # the largest (1 + epsilon * p) * (1 - p)
    return Properties(convex=epsilon <= 0, lipschitz=times_largest(sqrt(2) * steepest, class_weights))


@loss(properties=_poly1_properties)
def poly1_cross_entropy(
    logits: Array,
    targets: Array,
    *,
    epsilon: Real = 2.0,
    class_weights: Weights = None,
    label_smoothing: float = 0.0,
    **options: Unpack[RowOptions],
) -> Array:
    """Cross-entropy with another first term of its expansion in 1 - p: a little more or less weight on rows that are right already.

    .. code-block:: text

        loss = sum over c of t_c * w_c * (-log(p_c) + epsilon * (1 - p_c)),   p = softmax(x)

    Gradient: (1 + epsilon * p_y) * (p - t) for a label y, finite everywhere, with all its digits on confident rows. The Hessian diagonal
    may be negative for epsilon > 0.
    Source: Z. Leng et al., PolyLoss, ICLR 2022, equation 6.

    Parameters
    ----------
    logits, targets, class_weights, label_smoothing
        As for `softmax_cross_entropy`.
    epsilon : number >= -1, or 0-d array: what is added to the first coefficient, 1; with 0 the loss is the cross-entropy
    {options}

    >>> import numpy as np
    >>> poly1_cross_entropy(np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]]), np.array([0, 1]), reduction="none").round(6)
    array([1.077124, 0.276037])
    """
    smoothing, weights = number("label_smoothing", label_smoothing, 0, 1), per_class(class_weights, scalar=False)
    of_labels = _poly1_of_distribution if smoothing else _poly1_of_labels
    parameters: dict[str, Any] = {"epsilon": at_least(epsilon, -1), "label_smoothing": smoothing}
    return rows(of_labels, _poly1_of_distribution, {"logits": logits}, targets, options, weights, **parameters)


def _box_cox(xp: Any, ce: Array, q: Any) -> Array:
    """(1 - exp(-q * ce)) / q, and its limit ce at q = 0."""
    if not hasattr(q, "dtype"):
        return -xp.expm1(-q * ce) / q if q else ce
    is_zero = q == 0
    q = xp.where(is_zero, 1.0, q)
    return xp.where(is_zero, ce, -xp.expm1(-q * ce) / q)


def _box_cox_of_probs(xp: Any, p: Array, q: Any) -> Array:
    """(1 - p**q) / q, and its limit at q = 0. At p = 0 by the power: autodiff of expm1(q * log(p)), as compilers do, has 0 * inf."""
    is_array, is_zero = hasattr(q, "dtype"), p == 0
    if not is_array and not q:
        return -xp.log(p)
    n = xp.where(q == 0, 1.0, q) if is_array else q
    gap = xp.where(is_zero, 1 - p**n, -xp.expm1(n * xp.log(xp.where(is_zero, 1.0, p)))) / n
    return xp.where(q == 0, -xp.log(xp.where(q == 0, p, 1.0)), gap) if is_array else gap


def _generalized_of_logits(xp: Any, x: Array, t: Array, axis: int, q: Any) -> Iterator[Array]:
    ce, miss, grad, _ = special.nll_and_grad_at_label(xp, x, t, axis)
    yield _box_cox(xp, ce, q)
    scale = xp.exp(-special.multiply_no_nan(xp, q * xp.ones_like(ce), ce))
    yield grad(scale)
    _, p, complement, _ = special.softmax_with_complement(xp, x, axis)
    yield scale * special.scatter_label(xp, p * (complement() - q * p), t, miss * (xp.exp(-ce) - q * miss), axis)


def _generalized_of_probs(xp: Any, p: Array, t: Array, axis: int, q: Any) -> Iterator[Array]:
    p_y = special.gather_label(xp, p, t, axis)
    yield _box_cox_of_probs(xp, p_y, q)
    slope = 1 / special.power(xp, p_y, 1 - q)
    yield special.place_at_label(xp, p, t, -slope, axis)
    yield special.place_at_label(xp, p, t, (1 - q) * slope * (1 / p_y), axis)


def _generalized_properties(q: Any, given: str, **own: Any) -> Properties:
    upper = inf if hasattr(q, "dtype") or not q else 1 / q
    if given == "probs":
        return clipped_properties(Properties(True, 1.0 if upper == 1 else None, upper=upper), None, lambda p: p ** (q - 1), **own)
    if hasattr(q, "dtype"):
        return Properties()
    return Properties(q == 0, sqrt(2) * (q / (1 + q)) ** q / (1 + q), upper=upper)  # p**q * (1 - p) is largest at p = q / (1 + q)


@loss(properties=_generalized_properties)
def generalized_cross_entropy(
    predictions: Array,
    targets: Array,
    *,
    q: Real = 0.7,
    given: Form = "logits",
    clip: float | None = None,
    renormalize: bool = False,
    **options: Unpack[RowOptions],
) -> Array:
    """Between cross-entropy and absolute error: classification with labels of which some are wrong.

    .. code-block:: text

        loss = (1 - p_y**q) / q,   p = softmax(x)

    Gradient: p_y**q * (p - t) from logits, finite everywhere; -p_y**(q - 1) from probabilities, infinite at p_y = 0 for q < 1. The
    Hessian diagonal may be negative for logits.
    Source: Z. Zhang, M. R. Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels, NeurIPS 2018,
    equation 6.

    Parameters
    ----------
    predictions : array, floating point, with C >= 2 entries along `axis`
    targets : labels, integers from 0 to C - 1, the shape of `predictions` without the class axis or with it at size 1
    q : number from 0 to 1, or 0-d array
        0 is cross-entropy; 1 is 1 - p_y, half the absolute error. A row that is as wrong as can be has the loss 1 / q.
    given : "logits" or "probs"
    clip, renormalize
        As for `nll_loss`.
    {options}

    >>> import numpy as np
    >>> generalized_cross_entropy(np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]]), np.array([0, 1]), reduction="none").round(6)
    array([0.354614, 0.091838])
    """
    kernel = _generalized_of_logits if choice("given", given, FORMS) == "logits" else _generalized_of_probs
    return clipping(given, clip, renormalize)(rows(kernel, None, predictions, targets, options, q=fraction(q)))
