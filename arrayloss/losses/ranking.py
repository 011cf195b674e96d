"""Losses of lists: scores of items that are to be ranked by their relevance."""

from collections.abc import Iterator
from math import sqrt
from typing import Any, Unpack

from arrayloss.core import special
from arrayloss.frontend.build import vectors
from arrayloss.frontend.check import choice
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import ElementOptions

Array = Any


def _ranking_softmax(xp: Any, x: Array, t: Array, axis: int, normalize: bool, mask: Array | None = None) -> Iterator[Array]:
    if mask is not None:
        mask = mask | ~xp.any(mask, axis=axis, keepdims=True)  # a list without items is masked as a whole: it must not become NaN
        x, t = xp.where(mask, x, -float("inf")), xp.where(mask, t, 0.0)
    total = xp.sum(t, axis=axis, keepdims=True)
    if normalize:
        t, total = special.divide(xp, t, total, 0.0), special.divide(xp, total, total, 0.0)
    argmax, p, complement, nll = special.softmax_with_complement(xp, x, axis)
    yield xp.sum(special.multiply_no_nan(xp, t, nll()), axis=axis, keepdims=True)
    yield special.cross_entropy_grad(xp, argmax, p, complement(), t, axis)
    yield total * p * complement()


@loss(properties=lambda normalize, **_: Properties(True, sqrt(2) if normalize else None))
def ranking_softmax_loss(
    scores: Array,
    relevance: Array,
    *,
    mask: Array | None = None,
    normalize: bool = False,
    axis: int = -1,
    **options: Unpack[ElementOptions],
) -> Array:
    """Cross-entropy of the softmax of a list with the relevance of its items: learning to rank.

    .. code-block:: text

        loss = -sum over i of y_i * log(p_i),   p = softmax(scores of the items of the list)

    Gradient: p * sum(y) - y, finite everywhere. The Hessian diagonal is sum(y) * p * (1 - p).
    Source: Z. Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, ICML 2007, section 4.3 (ListNet, top one).

    Parameters
    ----------
    scores : array, floating point: lists along `axis`
    relevance : array of numbers >= 0, the shape of `scores`: grades, clicks or probabilities
    mask : boolean array, the shape of `scores`
        Which items exist: padded lists. The others have no part in the softmax. A list without items does not count in the mean either.
    normalize : bool
        Whether the relevance of a list is divided by its sum: then every list with a relevant item weighs the same.
    axis : int, that of the lists; `weights` and `where` have one entry per list
    {options}

    >>> import numpy as np
    >>> scores, relevance = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 9.0]]), np.array([[2, 0, 1], [0, 1, 0]])
    >>> mask = np.array([[True, True, True], [True, True, False]])
    >>> ranking_softmax_loss(scores, relevance, mask=mask, reduction="none").round(6)
    array([3.222818, 0.048587])
    """
    normalize = choice("normalize", normalize, (True, False))
    return vectors(
        _ranking_softmax, {"scores": scores}, {"relevance": relevance}, {**options, "axis": axis}, mask=mask, normalize=normalize
    )
