"""Losses that compare two distributions: the Kullback-Leibler divergence of two rows of logits.

Where the two are nearly equal, the difference of their logarithms has no digits left. The form below takes the difference of the logits
first, and counts it from the class that is likeliest in the target: it is 0 there.
"""

from collections.abc import Iterator
from math import factorial, sqrt
from typing import Any, Unpack

from arrayloss.core import dtypes, special
from arrayloss.frontend.build import rows
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import RowOptions

Array = Any


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b rounded, and what rounding took (Knuth). There are no products: a compiler's fused multiply-add changes nothing."""
    rounded = a + b
    part = rounded - a
    return rounded, (a - (rounded - part)) + (b - part)


def _exp(xp: Any, a: Array, low: Array) -> Array:
    """exp(a + low)."""
    e = xp.exp(a)
    return e + e * low


def _expm1_pair(xp: Any, y: Array) -> tuple[Array, Array]:
    """exp(y) - 1 and exp(y) - 1 - y for y from -1 to 3. PyTorch's compiler makes exp(y) - 1 of a native expm1: so here is the series.

    It is taken at y, or at y / 2 and doubled by exp(2z) - 1 - 2z = 2 * (exp(z) - 1 - z) + (exp(z) - 1)**2.
    """
    is_small = y < 1.5
    z = xp.where(is_small, y, y / 2)
    terms = 13 if dtypes.name(y.dtype) == "float32" else 21  # the next, (3/2)**13 / 15!, is no part of a float32
    tail = xp.full_like(z, 1 / factorial(terms + 1))
    for k in range(terms, 1, -1):
        tail = tail * z + 1 / factorial(k)
    above = z * z * tail
    growth = z + above
    above = xp.where(is_small, above, 2 * above + growth * growth)
    return y + above, above


def _limit(xp: Any, x: Array, axis: int) -> Array:
    """Logits in which an infinite one has taken all others out."""
    is_infinite = x == float("inf")
    has_infinite = xp.any(is_infinite, axis=axis, keepdims=True)
    return xp.where(has_infinite, xp.where(is_infinite, xp.zeros_like(x), -float("inf")), x)


def _kl_divergence(xp: Any, x: Array, t: Array, axis: int) -> Iterator[Array]:
    """Differences as pairs: what they round to, and what rounding took."""
    x, t = _limit(xp, x, axis), _limit(xp, t, axis)
    x_top, t_top = (xp.expand_dims(xp.argmax(a, axis=axis), axis=axis) for a in (x, t))
    in_x, in_t, zeros = x != -float("inf"), t != -float("inf"), xp.zeros_like(x)  # a NaN is in
    both = in_x & in_t
    is_finite = xp.sum(xp.where(in_t & ~in_x, 1.0, zeros), axis=axis, keepdims=True) == 0
    x, t = xp.where(in_x, x, zeros), xp.where(in_t, t, zeros)

    def from_place(a: Array, is_in: Array, place: Array) -> tuple[Array, ...]:
        """`high, low`: the difference from the entry at a place, a constant there, so that no derivatives cancel; its exponential; and the
        sum of the exponentials of the others.
        """
        here = special.arange_along(xp, a, axis) == place
        high, low = (xp.where(here, zeros, b) for b in _two_sum(a, -special.gather_label(xp, a, place, axis)))
        e = xp.where(is_in, _exp(xp, high, low), zeros)
        return high, low, e, xp.sum(xp.where(here, zeros, e), axis=axis, keepdims=True)

    d_t, low_t, e_t, s_t = from_place(t, in_t, t_top)
    d_x, low_x, _, _ = from_place(x, in_x, t_top)
    _, _, e_x, s_x = from_place(x, in_x, x_top)
    x_max, low_max = (special.gather_label(xp, a, x_top, axis) for a in (d_x, low_x))
    gap, rest = _two_sum(xp.where(both, d_x, zeros), -xp.where(both, d_t, zeros))
    gap, rest = _two_sum(gap, rest + xp.where(both, low_x - low_t, zeros))
    mean = xp.sum(e_t * gap, axis=axis, keepdims=True) / (1 + s_t)
    far_value = x_max - mean + (xp.log1p(s_x) - xp.log1p(s_t))  # the divergence, without its digits where it is small
    is_near = (far_value < 8) & is_finite
    mean, x_max = xp.where(is_near, mean, 0.0), xp.where(is_near, x_max, 0.0)
    y, missing = _two_sum(gap, -mean)  # log(q / p) up to a constant, its mean under the target 0
    y = y + (missing + rest)
    more = xp.where(is_near, xp.sum(e_t * y, axis=axis, keepdims=True) / (1 + s_t), 0.0)  # what rounding left of the mean
    y = y - more

    # log(E[exp(y)]): what exp(y) is above 1 + y is never negative, so nothing cancels in the sum
    is_inside = (y > -1) & (y < 3) & both
    shift, missing = _two_sum(x_max, -mean)
    weighted = e_x * _exp(xp, shift, low_max + missing - more)  # e_t * exp(y), where one is 0 and the other infinite
    above = e_t * _expm1_pair(xp, xp.where(is_inside, y, zeros))[1]
    above = xp.where(is_inside, above, weighted - e_t * (1 + xp.where(is_inside, zeros, y)))
    above = xp.sum(above, axis=axis, keepdims=True) / (1 + s_t)
    value = xp.where(is_near, xp.log1p(xp.where(is_near, above, 0.0)), far_value)
    yield xp.where(is_finite, value, float("inf"))

    q, p, v = e_x / (1 + s_x), e_t / (1 + s_t), y - value  # log(q / p)
    is_close = (v > -1) & (v < 1) & (value < 1) & is_near & both
    slope = xp.where(is_close, p * _expm1_pair(xp, xp.where(is_close, v, zeros))[0], q - p)
    # Slopes add up to 0: at a maximum that is certain, the others are all there is of it, and so are their derivatives
    others = xp.sum(special.scatter_label(xp, slope, x_top, 0.0, axis), axis=axis, keepdims=True)
    yield xp.where(s_x < 1, special.scatter_label(xp, slope, x_top, -others, axis), slope)
    yield q * special.scatter_label(xp, 1 - q, x_top, s_x / (1 + s_x), axis)


@loss(properties=lambda **_: Properties(convex=True, lipschitz=sqrt(2)))
def kl_divergence(logits: Array, target_logits: Array, **options: Unpack[RowOptions]) -> Array:
    """How far a predicted distribution is from a target distribution, both from logits: distillation, consistency, priors.

    .. code-block:: text

        loss = sum over c of p_c * (log(p_c) - log(q_c)),   p = softmax(target_logits),  q = softmax(logits)

    Gradient: q - p, finite everywhere, with all its digits where both distributions agree nearly or fully. The Hessian diagonal is
    q * (1 - q). A target that is an array of PyTorch or JAX and learns has its gradient too.

    Parameters
    ----------
    logits : array, floating point, with C >= 2 entries along `axis`
        A single row is fine. -inf takes a class out; the loss is infinite where the target gives that class any probability.
    target_logits : array, the shape of `logits`
        Logits of the target too: of a teacher, an average, an older model. -inf takes a class out. Log-probabilities are logits.
    {options}

    The mean is over rows ("batchmean" in PyTorch).

    >>> import numpy as np
    >>> teacher = np.array([[2.0, 1.0, 0.0], [0.0, 40.0, 0.0]])
    >>> print(f"{kl_divergence(np.zeros((2, 3)), teacher):.4f}")
    0.6824
    >>> print(f"{kl_divergence(teacher + 1e-9 * np.eye(2, 3), teacher):.4g}")
    5.567e-20

    S. Kullback and R. A. Leibler, On Information and Sufficiency, Annals of Mathematical Statistics 22, 1951, equation 2.4.
    """
    return rows(None, _kl_divergence, {"logits": logits}, {"target_logits": target_logits}, options)
