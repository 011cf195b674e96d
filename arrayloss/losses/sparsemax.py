"""Sparsemax, whose probabilities may be 0."""

from collections.abc import Iterator
from math import sqrt
from typing import Any, Unpack

from arrayloss.core import special
from arrayloss.frontend.build import rows
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import RowOptions

from .divergence import _limit, two_sum

Array = Any


def _sparsemax(xp: Any, x: Array, axis: int) -> tuple[Array, Array, Array, Array, Array]:
    """The projection of a row on the probabilities: `p`; `v` = 1 + x - max and the threshold T, with p = max(0, v - T); where p > 0; and of
    how many entries that is true.

    T is 1 less the largest probability: the sum of v over the others where p > 0, by how many there are. Nothing cancels in it.
    """
    x = _limit(xp, x, axis)
    is_out = x == -float("inf")
    argmax = xp.expand_dims(xp.argmax(x, axis=axis), axis=axis)
    largest = special.gather_label(xp, x, argmax, axis)
    is_max = special.arange_along(xp, x, axis) == argmax
    below, low = two_sum(xp.where(is_out, largest, x), -largest)
    v = xp.where(is_out, -float("inf"), (1 + below) + low)
    size = special.arange_along(xp, x, axis) + 1
    falling = -xp.sort(-v, axis=axis)
    others = xp.cumulative_sum(xp.where(size == 1, 0.0, falling), axis=axis)
    has_so_many = (size == 1) | (xp.astype(size, x.dtype) * falling > others)
    last = xp.sum(xp.astype(has_so_many, xp.int64), axis=axis, keepdims=True) - 1
    bound = special.gather_label(xp, others, last, axis) / xp.astype(last + 1, x.dtype)
    in_support = is_max | (v > bound)
    count = xp.sum(xp.astype(in_support, x.dtype), axis=axis, keepdims=True)
    threshold = xp.sum(xp.where(in_support & ~is_max, v, 0.0), axis=axis, keepdims=True) / count
    return xp.where(in_support, v - threshold, 0.0), v, threshold, in_support, count


def _sparsemax_of_labels(xp: Any, x: Array, t: Array, axis: int) -> Iterator[Array]:
    p, v, threshold, in_support, count = _sparsemax(xp, x, axis)
    others, p_y = special.scatter_label(xp, p, t, 0.0, axis), special.gather_label(xp, p, t, axis)
    miss = xp.where(p_y > 0.5, xp.sum(others, axis=axis, keepdims=True), 1 - p_y)  # 1 - p at the label: all have the error of T
    v_y = special.gather_label(xp, v, t, axis)
    short = xp.where(v_y >= threshold, 0.0, threshold - v_y)
    yield (miss * miss + xp.sum(others * others, axis=axis, keepdims=True)) / 2 + short
    yield special.scatter_label(xp, others, t, -miss, axis)
    yield xp.where(in_support, 1 - 1 / count, 0.0)


def _sparsemax_of_distribution(xp: Any, x: Array, t: Array, axis: int) -> Iterator[Array]:
    p, v, threshold, in_support, count = _sparsemax(xp, x, axis)
    short = xp.where(v >= threshold, 0.0, threshold - v)
    yield xp.sum((t - p) * (t - p) / 2 + special.multiply_no_nan(xp, t, short), axis=axis, keepdims=True)
    yield p - t
    yield xp.where(in_support, 1 - 1 / count, 0.0)


@loss(properties=lambda **_: Properties(True, sqrt(2), twice_differentiable=False))
def sparsemax_loss(logits: Array, targets: Array, **options: Unpack[RowOptions]) -> Array:
    """Like cross-entropy, but of probabilities that may be 0: it is exactly 0 as soon as the right logit is 1 above all others.

    .. code-block:: text

        loss = sum over j of (t_j - p_j)**2 / 2 + t_j * max(0, tau - x_j),   p_j = max(0, x_j - tau), which sum to 1

    Gradient: p - t for t that sums to 1, finite everywhere. The Hessian diagonal is 1 - 1 / k at the k classes with p > 0, and 0 elsewhere.
    Source: A. F. T. Martins, R. F. Astudillo, From Softmax to Sparsemax, ICML 2016, equation 17 (for labels 16).

    Parameters
    ----------
    logits : array, floating point, with C >= 2 entries along `axis`
        -inf takes a class out; a target that names it has an infinite loss.
    targets : array
        Labels or distributions, as for `softmax_cross_entropy`; the entries of a distribution are to sum to 1.
    {options}

    >>> import numpy as np
    >>> sparsemax_loss(np.array([[2.0, 1.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, -3.0]]), np.array([0, 1, 2]), reduction="none").round(6)
    array([0.      , 0.083333, 3.25    ])
    """
    return rows(_sparsemax_of_labels, _sparsemax_of_distribution, {"logits": logits}, targets, options)
