"""Losses of vectors, the rows along one axis: cosine distance, embeddings of pairs, triplets."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf, sqrt
from typing import Any, Literal, Unpack

from arrayloss.core import special
from arrayloss.frontend.arguments import Arguments
from arrayloss.frontend.build import elementwise, vectors
from arrayloss.frontend.check import Parameter, choice, number
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import ElementOptions, Integers

from .binary import Real
from .margin import by_sign
from .multiclass_margin import hinge, share_of_ties

Array = Any
Distance = Literal["euclidean", "squared", "cosine"]


def _cosine(xp: Any, a: Array, b: Array, axis: int) -> tuple[Array, Array, Array]:
    """1 - cos, from the difference of unit vectors, and its slopes for a and b. Of a vector 0 it is 1, and flat."""
    u, is_zero, over_a = special.unit_rows(xp, a, axis)
    v, b_is_zero, over_b = special.unit_rows(xp, b, axis)
    d = v - u
    value = xp.where(is_zero | b_is_zero, 1.0, xp.sum(d * d, axis=axis, keepdims=True) / 2)
    cos, is_near = xp.sum(u * v, axis=axis, keepdims=True), value < 0.5  # where vectors are far apart, d is larger than what is left of it
    return value, over_a(xp.where(is_near, -(d + value * u), cos * u - v)), over_b(xp.where(is_near, d - value * v, cos * v - u))


def distance(xp: Any, a: Array, b: Array, axis: int, kind: Any, eps: float = 0.0) -> tuple[Array, Array, Array]:
    """A distance, and its slopes for a and b. `kind`: "cosine", "squared" or the p of a norm, which is scaled by the largest entry."""
    if kind == "cosine":
        return _cosine(xp, a, b, axis)
    v = a - b + eps if eps else a - b
    if kind == "squared":
        return xp.sum(v * v, axis=axis, keepdims=True), 2 * v, -2 * v
    size = abs(v)
    largest = xp.max(size, axis=axis, keepdims=True)
    if kind == 1:
        value, slope = xp.sum(size, axis=axis, keepdims=True), special.sign(xp, v)
    elif kind == inf:
        value, slope = largest, special.sign(xp, v) * share_of_ties(xp, size, largest, axis)
    else:
        is_zero = largest == 0
        scale = xp.where(is_zero, 1.0, largest)
        w = special.quotient(xp, v, scale)
        powers = xp.where(is_zero, 1.0, xp.sum(w * w if kind == 2 else special.power(xp, abs(w), kind), axis=axis, keepdims=True))
        root = xp.sqrt(powers) if kind == 2 else powers ** (1 / kind)
        value = largest * root
        slope = w / root if kind == 2 else special.sign(xp, v) * special.power(xp, abs(w) / root, kind - 1)
        slope = xp.where(is_zero, 0.0, slope)
    return value, slope, -slope


def as_p(p: Any) -> float:
    """A checked p of a norm."""
    return inf if isinstance(p, float) and p == inf else number("p", p, low=1)


def _cosine_distance(xp: Any, x: Array, t: Array, axis: int) -> Iterator[Array]:
    value, slope, _ = _cosine(xp, x, t, axis)
    yield value
    yield slope


@loss(properties=lambda **_: Properties(differentiable=False, twice_differentiable=False, upper=2.0))
def cosine_distance(predictions: Array, targets: Array, *, axis: int = -1, **options: Unpack[ElementOptions]) -> Array:
    """One less the cosine of the angle between two vectors: embeddings, retrieval, self-supervised targets.

    .. code-block:: text

        loss = 1 - sum(x * t) / (|x| * |t|) = |x / |x| - t / |t||**2 / 2

    Gradient: (x / |x| * cos - t / |t|) / |x|, with all digits that the angle has. A vector that is 0 has the loss 1 and the gradient 0.
    Source: G. Salton, M. J. McGill, Introduction to Modern Information Retrieval, 1983, section 4.2 (the cosine measure).

    Parameters
    ----------
    predictions : array, floating point: vectors along `axis`, whose length does not matter, however tiny or huge
    targets : array, the shape of `predictions`
    axis : int, that of the vectors; `weights` and `where` have one entry per vector
    {options}

    >>> import numpy as np
    >>> cosine_distance(np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]]), np.array([[0.0, 2.0], [3.0, 4.0], [1.0, 1.0]]), reduction="none")
    array([1., 0., 1.])
    """
    return vectors(_cosine_distance, predictions, targets, {**options, "axis": axis})


def _cosine_embedding(xp: Any, a: Array, b: Array, t: Array, axis: int, margin: Any) -> Iterator[Any]:
    value, slope_a, slope_b = _cosine(xp, a, b, axis)
    apart, active = hinge(xp, (1 - margin) - value)
    yield by_sign(xp, t, value, apart)
    sign = by_sign(xp, t, xp.ones_like(value), -active)
    yield sign * slope_a, sign * slope_b


def _embedding_properties(margin: Any, **_: Any) -> Properties:
    return Properties(differentiable=False, twice_differentiable=False, upper=inf if hasattr(margin, "dtype") else max(2.0, 1.0 - margin))


@loss(properties=_embedding_properties)
def cosine_embedding_loss(
    embeddings1: Array,
    embeddings2: Array,
    targets: Array,
    *,
    margin: Real = 0.0,
    axis: int = -1,
    ignore_index: Integers = None,
    **options: Unpack[ElementOptions],
) -> Array:
    """Cosine distance of pairs that belong together; of others how far their cosine is above a margin.

    .. code-block:: text

        loss = 1 - cos  where t = 1,  max(0, cos - margin)  where t = -1

    Gradient: for both embeddings, as of `cosine_distance`; at its kink the hinge counts as active. A vector that is 0 has the gradient 0.
    Source: the pairs of R. Hadsell, S. Chopra, Y. LeCun, Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006,
    equation 1, with the cosine for the distance.

    Parameters
    ----------
    embeddings1, embeddings2 : arrays of one shape, floating point
    targets : array, one sign for each pair: integers -1 and 1 (checked), booleans, or floating point, of which the sign counts
    margin : number, or 0-d array
    axis
        As for `cosine_distance`.
    ignore_index : int or tuple of int: values of integer targets that are masked
    {options}

    >>> import numpy as np
    >>> a, b = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 2.0], [3.0, 4.0]])
    >>> cosine_embedding_loss(a, b, np.array([1, -1]), margin=0.5, reduction="none").round(6)
    array([1. , 0.1])
    """
    arrays, named = {"embeddings1": embeddings1, "embeddings2": embeddings2}, {**options, "axis": axis, "ignore_index": ignore_index}
    return vectors(_cosine_embedding, arrays, targets, named, kind="signs", margin=Parameter(margin))


def _triplet_of_distances(xp: Any, d_p: Array, d_n: Array, *d_s: Array, margin: Any) -> Iterator[Any]:
    """Of the distances to the positive, to the negative and, if there is a third one, from the positive to the negative."""
    nearest = xp.minimum(d_n, d_s[0]) if d_s else d_n
    value, active = hinge(xp, margin + (d_p - nearest))
    yield value
    if not d_s:
        yield active, -active
    else:
        share = xp.where(d_n < d_s[0], 1.0, xp.where(d_n > d_s[0], 0.0, 0.5 * xp.ones_like(d_n)))
        yield active, -active * share, -active * (1 - share)


def _triplet(xp: Any, a: Array, p: Array, n: Array, axis: int, margin: Any, norm: Any, swap: bool, eps: float) -> Iterator[Any]:
    d_p, p_a, p_p = distance(xp, a, p, axis, norm, eps)
    d_n, n_a, n_n = distance(xp, a, n, axis, norm, eps)
    d_s, s_p, s_n = distance(xp, p, n, axis, norm, eps) if swap else (None, None, None)
    steps = _triplet_of_distances(xp, d_p, d_n, *([d_s] if swap else []), margin=margin)
    yield next(steps)
    of_p, of_n, *of_s = next(steps)
    slopes = of_p * p_a + of_n * n_a, of_p * p_p, of_n * n_n
    yield (slopes[0], slopes[1] + of_s[0] * s_p, slopes[2] + of_s[0] * s_n) if swap else slopes


def _triplet_properties(p: float, **_: Any) -> Properties:
    return Properties(lipschitz=sqrt(6) if p >= 2 else None, differentiable=False, twice_differentiable=False)


@loss(properties=_triplet_properties)
def triplet_margin_loss(
    anchors: Array,
    positives: Array,
    negatives: Array,
    *,
    margin: Real = 1.0,
    p: float = 2.0,
    swap: bool = False,
    eps: float = 0.0,
    axis: int = -1,
    **options: Unpack[ElementOptions],
) -> Array:
    """An anchor is to be nearer to its positive than to its negative, by a margin: metric learning.

    .. code-block:: text

        loss = max(0, margin + d(a, p) - d(a, n)),   d(x, y) = sum(|x - y + eps|**p)**(1 / p)

    Gradient: for all three, finite, and 0 of a distance that is 0. At its kink the hinge counts as active.
    Source: V. Balntas et al., Learning Local Feature Descriptors with Triplets and Shallow Convolutional Neural Networks, BMVC 2016,
    equation 3, and 4 for the swap; F. Schroff et al., FaceNet, CVPR 2015.

    Parameters
    ----------
    anchors, positives, negatives : arrays of one shape, floating point: vectors along `axis`
    margin : number, or 0-d array
    p : number >= 1, or infinity, that of the norm; the mean over triplets is the same for all
    swap : bool
        Whether the negative may be nearer to the positive than to the anchor: then that distance counts, min(d(a, n), d(p, n)).
    eps : number added to the differences, as PyTorch does (by default 1e-6 there)
    axis : int, that of the vectors; `weights` and `where` have one entry per triplet
    {options}

    >>> import numpy as np
    >>> a, p, n = np.zeros((2, 2)), np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([[0.0, 4.5], [6.0, 8.0]])
    >>> triplet_margin_loss(a, p, n, reduction="none")
    array([1.5, 0. ])
    """
    arrays = {"anchors": anchors, "positives": positives, "negatives": negatives}
    parameters: dict[str, Any] = {"margin": Parameter(margin), "norm": as_p(p), "swap": choice("swap", swap, (True, False))}
    return vectors(_triplet, arrays, None, {**options, "axis": axis}, eps=number("eps", eps), **parameters)


def _with_distance_properties(distance_function: Any, margin: Any, **_: Any) -> Properties:
    steepest = sqrt(6) if distance_function in (None, "euclidean") else None
    upper = inf if distance_function != "cosine" or hasattr(margin, "dtype") else max(0.0, margin + 2.0)
    return Properties(lipschitz=steepest, differentiable=False, twice_differentiable=False, upper=upper)


@loss(properties=_with_distance_properties)
def triplet_margin_with_distance_loss(
    anchors: Array,
    positives: Array,
    negatives: Array,
    *,
    distance_function: Distance | Callable[[Array, Array], Array] | None = None,
    margin: Real = 1.0,
    swap: bool = False,
    axis: int = -1,
    **options: Unpack[ElementOptions],
) -> Array:
    """`triplet_margin_loss` with another distance.

    .. code-block:: text

        loss = max(0, margin + d(a, p) - d(a, n))

    Gradient: for all three, where the distance is one of ours. Of a function of yours PyTorch and JAX differentiate the call; elsewhere it
    has a value only, and `value_and_grad` is an error.
    Source: V. Balntas et al., Learning Local Feature Descriptors with Triplets and Shallow Convolutional Neural Networks, BMVC 2016,
    equation 3, and 4 for the swap.

    Parameters
    ----------
    anchors, positives, negatives, margin, swap, axis
        As for `triplet_margin_loss`.
    distance_function : "euclidean", "squared", "cosine", or a function of two arrays
        "squared" is the sum of squared differences, "cosine" that of `cosine_distance`. A function of yours returns the distances, without
        the axis of the vectors; `axis` is then not used. None: "euclidean".
    {options}

    >>> import numpy as np
    >>> a, p, n = np.zeros((2, 2)), np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([[0.0, 4.5], [6.0, 8.0]])
    >>> triplet_margin_with_distance_loss(a, p, n, distance_function="squared", reduction="none")
    array([5.75, 0.  ])
    >>> triplet_margin_with_distance_loss(a, p, n, distance_function=lambda x, y: abs(x - y).max(axis=-1), reduction="none")
    array([0.5, 0. ])
    """
    arrays = {"anchors": anchors, "positives": positives, "negatives": negatives}
    has_swap = choice("swap", swap, (True, False))
    if not callable(distance_function):
        kind = choice("distance_function", distance_function, (None, "euclidean", "squared", "cosine"))
        parameters: dict[str, Any] = {"margin": Parameter(margin), "norm": 2.0 if kind in (None, "euclidean") else kind}
        return vectors(_triplet, arrays, None, {**options, "axis": axis}, swap=has_swap, eps=0.0, **parameters)
    Arguments(arrays)  # before anything of yours is called
    distances = {
        "distance_function(anchors, positives)": distance_function(anchors, positives),
        "distance_function(anchors, negatives)": distance_function(anchors, negatives),
    }
    if has_swap:
        distances["distance_function(positives, negatives)"] = distance_function(positives, negatives)
    return replace(elementwise(_triplet_of_distances, distances, None, options, margin=Parameter(margin)), is_of_arguments=False)
