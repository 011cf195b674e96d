"""Losses of overlap between predicted and true regions: Dice, Jaccard, Tversky and their kin.

All are made of three sums over the elements of one overlap: TP = sum p * t, FP = sum p * (1 - t), FN = sum (1 - p) * t. They have the form
(FP + FN) / (...) rather than 1 - TP / (...), which loses the digits of a near-perfect overlap. The sums are the parts of an overlap, as
long as axis 0 is pooled: those of a data set seen in batches add up to the overlap of the whole.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from typing import Any, Literal, Unpack

from arrayloss.core import special
from arrayloss.frontend.build import overlap
from arrayloss.frontend.check import at_least, choice, is_number, positive
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import OverlapOptions

Array = Any
Real = float | Array
Link = Literal["softmax", "sigmoid"] | None


def link(xp: Any, x: Array, activation: str | None, axis: Any) -> tuple[Array, Callable[[], Array], Callable[[Array], Array]]:
    """p; q = 1 - p without cancellation, when it is called; and the pullback from derivatives for p to those for x."""
    if activation is None:
        return x, lambda: 1 - x, lambda u: u
    if activation == "sigmoid":
        p, q = special.sigmoid_pair(xp, x)
        return p, lambda: q, lambda u: p * q * u
    argmax, p, complement, _ = special.softmax_with_complement(xp, x, axis)
    return p, complement, lambda u: special.softmax_vjp(xp, argmax, p, u, axis)


def _overlap(xp: Any, x: Array, t: Array, activation: str | None, axis: int | None, labels: bool) -> Iterator[Any]:
    p, complement, to_x = link(xp, x, activation, axis)
    t = special.one_hot(xp, t, x, axis) if labels else t

    def terms() -> tuple[Array, Array, Array]:
        hit = t * p
        if not (labels and activation == "softmax"):
            return hit, (1 - t) * p, t * complement()
        off = p - hit  # exact: t is 0 or 1
        return hit, off, t * xp.sum(off, axis=axis, keepdims=True)  # what a row's label misses is what its other classes have

    yield terms
    yield lambda tp, fp, fn: to_x(t * (tp - fn - fp) + fp)  # q falls as p rises


def _overlap_of_squares(xp: Any, x: Array, t: Array, activation: str | None, axis: int | None, labels: bool) -> Iterator[Any]:
    p, complement, to_x = link(xp, x, activation, axis)
    t = special.one_hot(xp, t, x, axis) if labels else t
    miss = special.lerp(p, -complement(), t)  # p - t, without cancellation for hard targets
    is_above = miss > 0
    yield t * p, xp.where(is_above, miss * miss, 0.0), xp.where(is_above, 0.0, miss * miss)
    yield lambda tp, fp, fn: to_x(2 * miss * xp.where(is_above, fp, fn) + t * tp)


def _overlap_of_minima(xp: Any, x: Array, t: Array, activation: str | None, axis: int | None, labels: bool) -> Iterator[Any]:
    p, complement, to_x = link(xp, x, activation, axis)
    t = special.one_hot(xp, t, x, axis) if labels else t
    miss = special.lerp(p, -complement(), t)  # p - t, without cancellation for hard targets
    is_above, is_below = miss > 0, miss < 0  # at the kink, p = t, it is flat
    yield xp.where(is_above, t, p), xp.where(is_above, miss, 0.0), xp.where(is_above, 0.0, -miss)
    yield lambda tp, fp, fn: to_x(xp.where(is_above, fp, xp.where(is_below, tp - fn, 0.0)))


def _kernel(soft_labels: bool, squared: bool = False) -> Callable[..., Iterator[Any]]:
    """What makes the sums: products, squares or minima."""
    kernels = {(False, False): _overlap, (False, True): _overlap_of_squares, (True, False): _overlap_of_minima}
    form = choice("soft_labels", soft_labels, (True, False)), choice("squared", squared, (True, False))
    if form not in kernels:
        raise ValueError("soft_labels and squared must not both be True: each has its minimum where p = t")
    return kernels[form]


def _tversky(xp: Any, *sums: Any, alpha: Any, beta: Any, smooth: Any, gain: Any = 1, gamma: Any = None, log: Any = False) -> Iterator[Any]:
    """A power of 1 - s or of -log(s), s = (gain * TP + smooth) / (gain * TP + alpha * FP + beta * FN + smooth). Other sums are fixed."""
    tp, fp, fn, *fixed = sums
    miss = alpha * fp + beta * fn
    hit = gain * tp + smooth
    # miss / (hit + miss) from the quotient of the smaller by the larger: autodiff of it cancels nothing either
    is_better = miss <= hit
    less, more = xp.where(is_better, miss, hit), xp.where(is_better, hit, miss)
    is_empty = more == 0  # nothing predicted and nothing there is a perfect overlap, and flat
    ratio = xp.where(is_empty, 0.0, special.quotient(xp, less, xp.where(is_empty, 1.0, more)))
    is_apart = (miss > hit) & (ratio == 0) if log else None  # nothing in common
    base = xp.log1p(ratio) - xp.log(xp.where(is_better | is_apart, 1.0, ratio)) if log else xp.where(is_better, ratio, 1.0) / (1 + ratio)
    base = base if gamma is None else xp.where(base < 0, 0.0, base)  # of probabilities an ulp above 1
    value = base if gamma is None else special.power(xp, base, gamma)
    yield xp.where(is_apart, inf, value) if log else value
    whole = xp.where(is_empty, 1.0, hit + miss)
    # At a perfect overlap, where gamma < 1 has no slope, it is flat
    scale = None if gamma is None else gamma * special.power(xp, base, gamma - 1)
    divisor = xp.where(is_empty | is_apart, 1.0, hit) if log else whole
    hits, misses = (a / whole / divisor for a in (hit, miss))  # the square of `whole` may underflow
    hits, misses = (hits, misses) if scale is None else (scale * hits, scale * misses)
    yield (-gain * misses, alpha * hits, beta * hits, *[None for _ in fixed])


def _power(log: bool, gamma: Real) -> dict[str, Any]:
    """The parameters of a power of a loss, or of its logarithm; none where it stays as it is."""
    is_plain = not choice("log", log, (True, False)) and is_number(gamma) and gamma == 1
    return {} if is_plain else {"log": log, "gamma": positive(gamma)}


def _properties(activation: Any, smooth: Any, gamma: Any = 1.0, soft_labels: bool = False, log: bool = False, **_: Any) -> Properties:
    """Empty overlaps without `smooth`, and perfect ones under a power, have no slope; from logits neither is reached.

    The form for soft labels has a kink where p = t.
    """
    of_logits = activation in ("softmax", "sigmoid")
    is_smooth = not hasattr(smooth, "dtype") and smooth > 0
    once, twice = (of_logits or (is_smooth and not hasattr(gamma, "dtype") and (gamma == 1 or gamma >= n)) for n in (1, 2))
    return Properties(differentiable=once and not soft_labels, twice_differentiable=twice and not soft_labels, upper=inf if log else 1.0)


@loss(properties=_properties)
def dice_loss(
    predictions: Array,
    targets: Array,
    *,
    activation: Link,
    squared: bool = False,
    soft_labels: bool = False,
    smooth: Real = 1.0,
    log: bool = False,
    gamma: Real = 1.0,
    **options: Unpack[OverlapOptions],
) -> Array:
    """Dice loss of whole regions, pooled over the batch: segmentation. One Dice per sample and class: `pool_axes=(2, 3)` in N x C x H x W.

    .. code-block:: text

        loss = (1 - s)**gamma, or (-log(s))**gamma,   s = (2 * TP + smooth) / (P + T + smooth),   P = TP + FP = sum p,   T = TP + FN = sum t

    Gradient: finite everywhere, from logits with all its digits on confident elements. 0 where prediction and target are empty.
    Source: F. Milletari, N. Navab, S.-A. Ahmadi, V-Net, 3DV 2016, section 3 (with squares); L. R. Dice, Ecology 26, 1945.

    Parameters
    ----------
    predictions : array, floating point
        Logits, or probabilities with `activation=None`.
    targets : array
        Labels, or masks of the shape of `predictions`: boolean, integer (0 and 1, checked), or floating point from 0 to 1.
    activation : "softmax", "sigmoid" or None
        What makes probabilities of the predictions. None: they are probabilities, neither clipped nor checked. It has no default, since
        a wrong guess is silent. "sigmoid" with `axis=1` is one overlap a channel, for regions that may cover each other.
    squared : bool
        Sums of squares below the line, as in V-Net: sum p**2 + sum t**2. False positives and negatives are then sums of (p - t)**2.
    soft_labels : bool
        TP = sum min(p, t), FP + FN = sum |p - t|: the L1 form. For targets of 0 and 1 nothing changes. For soft ones the loss is 0, and
        flat, where p = t. Without it, and without `squared`, it is neither: it falls until p is 0 or 1.
    smooth : number >= 0 or 0-d array, added above and below the line
        With 0, or a tiny number, an empty target does not push false positives down.
    log : bool
        -log(s) in the place of 1 - s, with all digits of a near-perfect overlap. Where nothing overlaps it is infinite, and flat.
    gamma : number > 0 or 0-d array, the power of the loss of each overlap. Below 1 it raises small losses, above 1 it lowers them
    {options}

    >>> import numpy as np
    >>> probs, mask = np.array([0.9, 0.8, 0.1, 0.0]), np.array([1, 1, 0, 0])
    >>> print(f"{dice_loss(probs, mask, activation=None, smooth=0.0):.6f}")
    0.105263
    >>> logits, labels = np.zeros((2, 3, 4, 4)), np.ones((2, 4, 4), dtype=np.int64)  # three classes, without the background:
    >>> dice_loss(logits, labels, activation="softmax", axis=1, classes=(1, 2), reduction="none").round(4)
    array([0.4885, 0.9143])
    """
    parameters: dict[str, Any] = {"alpha": 1.0, "beta": 1.0, "smooth": at_least(smooth, 0), "gain": 2.0}
    parameters |= _power(log, gamma)
    return overlap(_kernel(soft_labels, squared), _tversky, predictions, targets, activation, options, **parameters)


@loss(properties=_properties)
def jaccard_loss(
    predictions: Array,
    targets: Array,
    *,
    activation: Link,
    squared: bool = False,
    soft_labels: bool = False,
    smooth: Real = 1.0,
    log: bool = False,
    gamma: Real = 1.0,
    **options: Unpack[OverlapOptions],
) -> Array:
    """Jaccard loss, 1 - intersection / union, pooled over the batch. One per sample and class: `pool_axes=(2, 3)` in N x C x H x W.

    .. code-block:: text

        loss = (1 - s)**gamma, or (-log(s))**gamma,   s = (TP + smooth) / (P + T - TP + smooth),   P = sum p,   T = sum t

    Gradient: finite everywhere, from logits with all its digits on confident elements. 0 where prediction and target are empty.
    Source: M. A. Rahman, Y. Wang, Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation, ISVC 2016, equation 3.

    Parameters
    ----------
    predictions, targets, activation, soft_labels, smooth, log, gamma
        As for `dice_loss`.
    squared : bool
        Sums of squares below the line: sum p**2 + sum t**2 - TP. False positives and negatives are then sums of (p - t)**2.
    {options}

    >>> import numpy as np
    >>> print(f"{jaccard_loss(np.array([0.9, 0.8, 0.1, 0.0]), np.array([1, 1, 0, 0]), activation=None, smooth=0.0):.6f}")
    0.190476
    """
    parameters: dict[str, Any] = {"alpha": 1.0, "beta": 1.0, "smooth": at_least(smooth, 0)}
    parameters |= _power(log, gamma)
    return overlap(_kernel(soft_labels, squared), _tversky, predictions, targets, activation, options, **parameters)


@loss(properties=_properties)
def tversky_loss(
    predictions: Array,
    targets: Array,
    *,
    activation: Link,
    alpha: Real,
    beta: Real,
    soft_labels: bool = False,
    smooth: Real = 1.0,
    log: bool = False,
    gamma: Real = 1.0,
    **options: Unpack[OverlapOptions],
) -> Array:
    """Dice with a price for each kind of error, pooled over the batch. One per sample and class: `pool_axes=(2, 3)` in N x C x H x W.

    .. code-block:: text

        loss = (1 - s)**gamma, or (-log(s))**gamma,   s = (TP + smooth) / (TP + alpha * FP + beta * FN + smooth)

    Gradient: finite everywhere, from logits with all its digits on confident elements. 0 where prediction and target are empty.
    Source: S. S. M. Salehi, D. Erdogmus, A. Gholipour, Tversky Loss Function for Image Segmentation, MLMI 2017, equation 4.

    Parameters
    ----------
    predictions, targets, activation, soft_labels, smooth, log, gamma
        As for `dice_loss`.
    alpha, beta : numbers >= 0 or 0-d arrays
        Weights of false positives and of false negatives; some libraries have them the other way round. Both 1/2 are Dice (with half
        its `smooth`), both 1 are Jaccard.
    {options}

    >>> import numpy as np
    >>> print(tversky_loss(np.array([0.9, 0.2, 0.1]), np.array([1, 1, 0]), activation=None, alpha=0.3, beta=0.7, smooth=0.0).round(6))
    0.375
    """
    parameters: dict[str, Any] = {"alpha": at_least(alpha, 0), "beta": at_least(beta, 0), "smooth": at_least(smooth, 0)}
    parameters |= _power(log, gamma)
    return overlap(_kernel(soft_labels), _tversky, predictions, targets, activation, options, **parameters)


@loss(properties=_properties)
def focal_tversky_loss(
    predictions: Array,
    targets: Array,
    *,
    activation: Link,
    alpha: Real,
    beta: Real,
    gamma: Real = 0.75,
    soft_labels: bool = False,
    smooth: Real = 1.0,
    **options: Unpack[OverlapOptions],
) -> Array:
    """Tversky loss raised to a power, class by class before the mean, pooled over the batch. One per sample and class: `pool_axes=(2, 3)`.

    .. code-block:: text

        loss = (1 - (TP + smooth) / (TP + alpha * FP + beta * FN + smooth))**gamma

    Gradient: finite; at a perfect overlap, where no slope exists for gamma < 1, it is 0.
    Source: N. Abraham, N. M. Khan, A Novel Focal Tversky Loss Function with Improved Attention U-Net, ISBI 2019, equation 4.

    Parameters
    ----------
    predictions, targets, activation, alpha, beta, soft_labels, smooth
        As for `tversky_loss`.
    gamma : number > 0 or 0-d array
        Below 1 it raises small losses, above 1 it lowers them. The paper's gamma is 1 over this one: its 4/3 is 0.75.
    {options}

    >>> import numpy as np
    >>> print(f"{focal_tversky_loss(np.array([0.9, 0.2]), np.array([1, 1]), activation=None, alpha=0.3, beta=0.7, smooth=0.0):.6f}")
    0.468782
    """
    parameters: dict[str, Any] = {"alpha": at_least(alpha, 0), "beta": at_least(beta, 0), "smooth": at_least(smooth, 0)}
    return overlap(_kernel(soft_labels), _tversky, predictions, targets, activation, options, gamma=positive(gamma), **parameters)


def _overlap_and_volume(xp: Any, x: Array, t: Array, axis: int | None, labels: bool, **options: Any) -> Iterator[Any]:
    terms, pullback = _overlap(xp, x, t, axis=axis, labels=labels, **options)
    yield lambda: (*terms(), special.one_hot(xp, t, x, axis) if labels else t)
    yield lambda tp, fp, fn, volume: pullback(tp, fp, fn)


def _inverse_volumes(xp: Any, tp: Array, fp: Array, fn: Array, volume: Array, axis: int, exponent: int) -> Array:
    """volume**-exponent up to a factor: 1 for the smallest volume that is not 0, and for those that are 0."""
    is_absent = volume == 0
    smallest = xp.min(xp.where(is_absent, float("inf"), volume), axis=axis, keepdims=True)
    smallest = xp.where(smallest == float("inf"), 1.0, smallest)
    return special.power(xp, xp.where(is_absent, 1.0, smallest / xp.where(is_absent, 1.0, volume)), exponent)


_WEIGHTINGS = {name: partial(_inverse_volumes, exponent=n) for name, n in (("square", 2), ("simple", 1), ("uniform", 0))}


@loss(properties=_properties)
def generalized_dice_loss(
    predictions: Array,
    targets: Array,
    *,
    activation: Link,
    volume_weights: Literal["square", "simple", "uniform"] = "square",
    smooth: Real = 1.0,
    **options: Unpack[OverlapOptions],
) -> Array:
    """One Dice of all classes, the rare as heavy as the common, pooled over the batch. One per sample: `pool_axes=(2, 3)`.

    .. code-block:: text

        loss = 1 - (2 * sum_c w_c * TP_c + smooth) / (sum_c w_c * (P_c + T_c) + smooth),   w_c = (min T / T_c)**2

    Gradient: finite everywhere. The weights are constants of the predictions; `class_weights` multiply them. `axis` must be named.
    Source: C. H. Sudre et al., Generalised Dice overlap as a deep learning loss function, DLMIA 2017, section 2.2.

    Parameters
    ----------
    predictions, targets, activation, smooth
        As for `dice_loss`; `smooth` is a number of elements of the rarest class.
    volume_weights : "square", "simple" or "uniform"
        w_c from the volume T_c of the class in the target: T_c**-2, T_c**-1, or 1 for all. They are scaled so that the rarest class
        that is there weighs 1. A class that is absent weighs 1 too (or 0 with `absent="skip"`): T_c = 0 never makes it the whole loss.
    {options}

    >>> import numpy as np
    >>> logits = np.array([[4.0, 0.0, 0.0], [3.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    >>> print(f"{generalized_dice_loss(logits, np.array([0, 0, 1]), activation='softmax', axis=1, smooth=0.0):.6f}")
    0.191129
    """
    weighting = _WEIGHTINGS[choice("volume_weights", volume_weights, tuple(_WEIGHTINGS))]
    parameters: dict[str, Any] = {"alpha": 1.0, "beta": 1.0, "smooth": at_least(smooth, 0), "gain": 2.0}
    parameters |= {"names": ("tp", "fp", "fn", "volume"), "weighting": weighting}
    return overlap(_overlap_and_volume, _tversky, predictions, targets, activation, options, **parameters)
