"""The Kullback-Leibler divergence of two distributions, each given as logits, log-probabilities or probabilities.

Where the two are nearly equal, the difference of their logarithms has no digits left. For two rows of logits the form below takes the
difference of the logits first, and counts it from the class that is likeliest in the target: it is 0 there.
"""

from collections.abc import Iterator
from math import exp, factorial, inf, log, sqrt
from typing import Any, Literal, Unpack

from arrayloss.core import dtypes, special
from arrayloss.frontend import build
from arrayloss.frontend.check import choice, positive
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import RowOptions

Array = Any
Form = Literal["logits", "log_probs", "probs"]
FORMS = ("logits", "log_probs", "probs")


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b rounded, and what rounding took (Knuth). There are no products: a compiler's fused multiply-add changes nothing."""
    rounded = a + b
    part = rounded - a
    return rounded, (a - (rounded - part)) + (b - part)


def _exp(xp: Any, a: Array, low: Array, temperature: Any) -> Array:
    """exp((a + low) / temperature)."""
    e = xp.exp(a / temperature)
    return e + e * (low / temperature)


def _expm1_pair(xp: Any, y: Array) -> tuple[Array, Array]:
    """exp(y) - 1 and exp(y) - 1 - y for y from -1 to 3, by a series: PyTorch's compiler makes exp(y) - 1 of a native expm1."""
    is_small = y < 1.5
    z = xp.where(is_small, y, y / 2)
    terms = 13 if dtypes.name(y.dtype) == "float32" else 21  # the next, (3/2)**13 / 15!, is no part of a float32
    tail = xp.full_like(z, 1 / factorial(terms + 1))
    for k in range(terms, 1, -1):
        tail = tail * z + 1 / factorial(k)
    above = z * z * tail
    growth = z + above
    above = xp.where(is_small, above, 2 * above + growth * growth)  # exp(2z) - 1 - 2z, by exp(z) - 1 - z and exp(z) - 1
    return y + above, above


def _limit(xp: Any, x: Array, axis: int) -> Array:
    """Logits in which an infinite one has taken all others out."""
    is_infinite = x == inf
    return xp.where(xp.any(is_infinite, axis=axis, keepdims=True), xp.where(is_infinite, xp.zeros_like(x), -inf), x)


def _divergence_of_logits(xp: Any, x: Array, t: Array, axis: int, temperature: Any, reverse: bool, **_: Any) -> Iterator[Array]:
    """Differences as pairs: what they round to, and what rounding took; divided by the temperature last. Reverse: x is the target."""
    x, t = (_limit(xp, a, axis) for a in ((t, x) if reverse else (x, t)))
    x_top, t_top = (xp.expand_dims(xp.argmax(a, axis=axis), axis=axis) for a in (x, t))
    in_x, in_t, zeros = x != -inf, t != -inf, xp.zeros_like(x)  # a NaN is in
    both = in_x & in_t
    is_finite = xp.sum(xp.where(in_t & ~in_x, 1.0, zeros), axis=axis, keepdims=True) == 0
    x, t = xp.where(in_x, x, zeros), xp.where(in_t, t, zeros)

    def from_place(a: Array, is_in: Array, place: Array) -> tuple[Array, ...]:
        """`high, low`: the difference from the entry at a place, where it is constant: no derivatives cancel; its exp; the others' sum."""
        here = special.arange_along(xp, a, axis) == place
        high, low = (xp.where(here, zeros, b) for b in two_sum(a, -special.gather_label(xp, a, place, axis)))
        e = xp.where(is_in, _exp(xp, high, low, temperature), zeros)
        return high, low, e, xp.sum(xp.where(here, zeros, e), axis=axis, keepdims=True)

    d_t, low_t, e_t, s_t = from_place(t, in_t, t_top)
    d_x, low_x, _, _ = from_place(x, in_x, t_top)
    _, _, e_x, s_x = from_place(x, in_x, x_top)
    x_max, low_max = (special.gather_label(xp, a, x_top, axis) for a in (d_x, low_x))
    gap, rest = two_sum(xp.where(both, d_x, zeros), -xp.where(both, d_t, zeros))
    gap, rest = two_sum(gap, rest + xp.where(both, low_x - low_t, zeros))
    mean = center = xp.sum(e_t * gap, axis=axis, keepdims=True) / (1 + s_t)
    far_value = (x_max - mean) / temperature + (xp.log1p(s_x) - xp.log1p(s_t))  # the divergence, without its digits where it is small
    is_near = (far_value < 8) & is_finite
    mean, x_max = xp.where(is_near, mean, 0.0), xp.where(is_near, x_max, 0.0)
    y, missing = two_sum(gap, -mean)  # log(q / p) up to a constant, its mean under the target 0
    y = y + (missing + rest)
    more = xp.where(is_near, xp.sum(e_t * y, axis=axis, keepdims=True) / (1 + s_t), 0.0)  # what rounding left of the mean
    y = (y - more) / temperature

    # log(E[exp(y)]): what exp(y) is above 1 + y is never negative, so nothing cancels in the sum
    is_inside = (y > -1) & (y < 3) & both
    shift, missing = two_sum(x_max, -mean)
    weighted = e_x * _exp(xp, shift, low_max + missing - more, temperature)  # e_t * exp(y), where one is 0 and the other infinite
    above = e_t * _expm1_pair(xp, xp.where(is_inside, y, zeros))[1]
    above = xp.where(is_inside, above, weighted - e_t * (1 + xp.where(is_inside, zeros, y)))
    above = xp.sum(above, axis=axis, keepdims=True) / (1 + s_t)
    value = xp.where(is_near, xp.log1p(xp.where(is_near, above, 0.0)), far_value)
    yield xp.where(is_finite, value, inf)

    q, p, v = e_x / (1 + s_x), e_t / (1 + s_t), y - value  # log(q / p)
    if reverse:
        slope = -p * xp.where(is_near, y, (gap - center) / temperature)
        rest = special.scatter_label(xp, 1 - p, t_top, s_t / (1 + s_t), axis)
        yield slope / temperature
        yield (p * rest + slope * (rest - p)) / temperature / temperature
        return
    is_close = (v > -1) & (v < 1) & (value < 1) & is_near & both
    slope = xp.where(is_close, p * _expm1_pair(xp, xp.where(is_close, v, zeros))[0], q - p)
    # Slopes add up to 0: at a maximum that is certain, the others are all there is of it, and so are their derivatives
    others = xp.sum(special.scatter_label(xp, slope, x_top, 0.0, axis), axis=axis, keepdims=True)
    yield xp.where(s_x < 1, special.scatter_label(xp, slope, x_top, -others, axis), slope) / temperature
    yield q * special.scatter_label(xp, 1 - q, x_top, s_x / (1 + s_x), axis) / temperature / temperature


def _log_ratio(xp: Any, q: Array, p: Array) -> Array:
    """log(q / p) of probabilities: log(1 + r), where r is their difference over the smaller one, has all digits where they nearly agree."""
    is_above, size = special.split_sign(xp, q - p)
    low = xp.where(is_above, p, q)
    is_far = size > 2.0**96 * low  # r might overflow, and 1 is no part of it
    r = xp.where(is_far, 2.0**-64 * size, size) / xp.where(low == 0, 1.0, low)
    d = xp.log1p(r) + xp.where(is_far, 64 * log(2), 0 * r)
    return xp.where(is_above, d, -d)


def _with_logs(xp: Any, a: Array, form: str, temperature: Any, axis: Any) -> tuple[Any, ...]:
    """p; log(p), or 0 where p is 0; where that is; of logits also the place of the maximum, and a function for 1 - p."""
    if form == "probs":
        return a, xp.log(xp.where(a == 0, 1.0, a)), a == 0
    if form == "log_probs":
        return xp.exp(a), xp.where(a == -inf, 0.0, a), a == -inf
    argmax, p, complement, nll = special.softmax_with_complement(xp, a / temperature, axis)
    loss = nll()
    return p, xp.where(loss == inf, 0.0, -loss), loss == inf, argmax, complement


def _divergence(
    xp: Any, x: Array, t: Array, forms: tuple[str, str], reverse: bool, generalized: bool, temperature: Any = None, axis: Any = None
) -> Iterator[Array]:
    """Of entries, or of rows along an axis."""
    (q, log_q, no_q, *softmax), (p, log_p, no_p, *_) = (_with_logs(xp, *a, temperature, axis) for a in zip((x, t), forms, strict=True))
    is_one_sided = no_q | no_p
    d = xp.where(is_one_sided, 0.0, _log_ratio(xp, q, p) if forms == ("probs", "probs") else log_q - log_p)
    own, other, gap = (q, p, -d) if reverse else (p, q, d)
    value = -own * gap
    if generalized:
        is_near = (gap > -1) & (gap < 3)
        growth, above = _expm1_pair(xp, xp.where(is_near, gap, 0.0))
        value = xp.where(is_near, own * above, other - own * (1 + gap))
    none = 0 * (log_q + log_p)  # or NaN
    value = xp.where(is_one_sided, xp.where(own > 0, inf, none + other if generalized else none), value)
    yield value if axis is None else xp.sum(value, axis=axis, keepdims=True)

    of_probs = forms[0] == "probs"
    unit, share = (xp.astype(q != 0, q.dtype), special.divide(xp, p, q, 0.0)) if of_probs else (q, p)
    slope = unit * d if reverse else -share  # for q or log(q); the latter up to a multiple of q, which a softmax takes out
    if softmax:
        rest = softmax[1]()
        slope = special.cross_entropy_grad(xp, softmax[0], q, rest, -slope, axis)
        yield slope / temperature
        yield (q * rest + slope * (rest - q) if reverse else xp.sum(p, axis=axis, keepdims=True) * q * rest) / temperature / temperature
        return
    slope = slope if generalized == reverse else slope + unit
    if generalized and not reverse and forms[0] in (forms[1], "probs"):  # all digits of q - p; autodiff of (q - p) / q keeps them when near
        near = (abs(q - p) < q / 2, special.divide(xp, q - p, q, 0.0)) if of_probs else (is_near & ~is_one_sided, p * growth)
        slope = xp.where(*near, slope)
    yield slope
    of_log = slope + q if reverse else q if generalized else xp.zeros_like(q)
    yield special.divide(xp, unit if reverse else share, q, 0.0) if of_probs else of_log


def _properties(given: str, targets_given: str, temperature: Any, reverse: bool, generalized: bool, **_: Any) -> Properties:
    is_number = not hasattr(temperature, "dtype")
    steepest = {"logits": sqrt(2) / temperature if is_number else None, "log_probs": None if generalized else 1.0}.get(given)
    lower = 0.0 if generalized or given == targets_given == "logits" else -exp(-1) if reverse or given == "logits" else -inf
    return Properties(convex=not reverse or given == "probs", lipschitz=None if reverse else steepest, lower=lower)


@loss(properties=_properties)
def kl_divergence(
    predictions: Array,
    targets: Array,
    *,
    given: Form = "logits",
    targets_given: Form = "logits",
    temperature: float | Array = 1.0,
    reverse: bool = False,
    generalized: bool = False,
    elementwise: bool = False,
    **options: Unpack[RowOptions],
) -> Array:
    """How far a predicted distribution is from a target distribution: distillation, consistency, priors. The mean is over rows.

    .. code-block:: text

        loss = sum over c of p_c * (log(p_c) - log(q_c)),   p = softmax(targets / T),  q = softmax(predictions / T)
        reverse: q and p change places;   generalized: + q_c - p_c (reverse: + p_c - q_c)

    Gradient: (q - p) / T from logits, -p from log-probabilities, -p / q from probabilities; 0 for a class without p and q, and reverse
    also for one without q. Of two rows of logits that nearly agree it has all digits, as the loss. A target that is an array of PyTorch or
    JAX and learns has its gradient too. The Hessian diagonal is defined; from logits it is q * (1 - q) / T**2.
    Source: S. Kullback and R. A. Leibler, On Information and Sufficiency, Annals of Mathematical Statistics 22, 1951, equation 2.4.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
        A probability of 0 (a logit or logarithm of -inf) takes a class out: 0 * log(0) is 0. The loss is infinite where p > 0 = q (reverse:
        q > 0 = p). Nothing is clipped or renormalised.
    given, targets_given : "logits", "log_probs" or "probs"
        What predictions and targets are. PyTorch's kl_div is given="log_probs", targets_given="probs".
    temperature : number T > 0, or 0-d array
        What divides logits, and gradients again: in distillation the loss is multiplied by T**2.
    reverse, generalized : bool
        The divergence of the target from the prediction, which seeks one mode; that of numbers that need not sum to 1, never negative.
    elementwise : bool
        Whether every entry is an element, and the mean over entries: "none" and "mean" of PyTorch. Not for logits.
    {options}

    >>> import numpy as np
    >>> teacher = np.array([[2.0, 1.0, 0.0], [0.0, 40.0, 0.0]])
    >>> print(f"{kl_divergence(np.zeros((2, 3)), teacher):.4f} {kl_divergence(teacher + 1e-9 * np.eye(2, 3), teacher):.4g}")
    0.6824 5.567e-20
    """
    forms = choice("given", given, FORMS), choice("targets_given", targets_given, FORMS)
    own: dict[str, Any] = {n: choice(n, v, (True, False)) for n, v in (("reverse", reverse), ("generalized", generalized))}
    if "logits" not in forms and (hasattr(temperature, "dtype") or temperature != 1):
        raise ValueError(f"temperature must be 1 without logits, which it divides; got {temperature} with given={given!r}")
    if "logits" in forms and choice("elementwise", elementwise, (True, False)):
        raise ValueError("elementwise must be False for logits, which are of rows; got True: pass log-probabilities, given='log_probs'")
    if choice("elementwise", elementwise, (True, False)):
        return build.elementwise(_divergence, predictions, targets, options, forms=forms, **own)
    own |= {"forms": forms, "temperature": positive(temperature)}
    kernel = _divergence_of_logits if forms == ("logits", "logits") else _divergence  # both sum to 1: generalized, it is the same
    return build.rows(None, kernel, predictions, targets, options, needs_two_classes="logits" in forms, **own)
