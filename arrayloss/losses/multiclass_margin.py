"""Losses of scores of several classes that ask for a margin: hinges over the wrong classes, and yes/no decisions averaged over classes."""

from collections.abc import Iterator, Sequence
from math import fsum, sqrt
from typing import Any, Unpack

from arrayloss.core import special
from arrayloss.frontend.build import rows, vectors
from arrayloss.frontend.check import Parameter, number, per_class
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import ElementOptions, RowOptions

from .binary import Real, Weight, _sigmoid_cross_entropy, times_largest
from .margin import above_zero
from .multiclass import Weights, _at_label

Array = Any


def hinge(xp: Any, z: Array) -> tuple[Array, Array]:
    """max(0, z), and its slope: 1 at z = 0 too, so that tied scores move. A NaN stays."""
    return xp.where(z < 0, 0.0, z), above_zero(xp, z, 1.0)


def _multi_margin(xp: Any, x: Array, t: Array, axis: int, p: int, margin: Any, class_weights: Any = None) -> Iterator[Any]:
    z, active = hinge(xp, margin + (x - special.gather_label(xp, x, t, axis)))
    z = special.scatter_label(xp, z, t, 0.0, axis)
    classes = x.shape[axis]
    scale: Any = 1 / classes
    value = xp.sum(z if p == 1 else z * z, axis=axis, keepdims=True)
    if class_weights is None:
        yield value / classes
    else:
        weight = _at_label(xp, x, t, class_weights, axis)
        scale = weight / classes
        yield scale * value, weight
    active = special.scatter_label(xp, active, t, 0.0, axis)
    push = active if p == 1 else 2 * z
    yield scale * special.scatter_label(xp, push, t, -xp.sum(push, axis=axis, keepdims=True), axis)
    if p == 1:
        yield xp.zeros_like(x)
    else:
        yield 2 * scale * special.scatter_label(xp, active, t, xp.sum(active, axis=axis, keepdims=True), axis)


def _multi_margin_properties(p: int, margin: Any, class_weights: Any) -> Properties:
    steepest = times_largest(1.0 if p == 1 else None, class_weights)
    return Properties(True, steepest, differentiable=p == 2, twice_differentiable=False)


@loss(properties=_multi_margin_properties)
def multi_margin_loss(
    scores: Array, targets: Array, *, p: int = 1, margin: Real = 1.0, class_weights: Weights = None, **options: Unpack[RowOptions]
) -> Array:
    """Hinge over every wrong class: the right score is to be above each of the others by a margin.

    .. code-block:: text

        loss = w_y * sum over j != y of max(0, margin - x_y + x_j)**p / C

    Gradient: finite; at its kink a hinge counts as active. The Hessian diagonal is 0 for p = 1.
    Source: J. Weston, C. Watkins, Support Vector Machines for Multi-Class Pattern Recognition, ESANN 1999, section 3 (without the 1 / C).

    Parameters
    ----------
    scores : array, floating point, with C >= 1 entries along `axis`
    targets : labels, integers from 0 to C - 1, the shape of `scores` without the class axis or with it at size 1
    p : 1 or 2, the power of the hinge
    margin : number, or 0-d array
    class_weights : one number >= 0 per class
        w_y. It counts in the denominator of the mean too; `normalizer="count"` divides by the number of rows.
    {options}

    >>> import numpy as np
    >>> multi_margin_loss(np.array([[2.0, 1.5, 0.0], [0.0, 1.0, 3.0]]), np.array([0, 1]), reduction="none").round(6)
    array([0.166667, 1.      ])
    """
    if number("p", p) not in (1, 2):
        raise ValueError(f"p must be 1 or 2; got {p!r}")
    weights = per_class(class_weights, scalar=False)
    return rows(
        _multi_margin, None, {"scores": scores}, targets, options, weights, needs_two_classes=False, p=int(p), margin=Parameter(margin)
    )


def share_of_ties(xp: Any, x: Array, largest: Array, axis: int) -> Array:
    """1 / k at each of the k entries that are the largest: the gradient of a maximum; NaN where it is NaN."""
    is_largest = xp.astype(x == largest, x.dtype)
    return is_largest / xp.where(largest == largest, xp.sum(is_largest, axis=axis, keepdims=True), largest)


def _multiclass_hinge(xp: Any, x: Array, t: Array, axis: int, margin: Any) -> Iterator[Array]:
    others = special.scatter_label(xp, x, t, -float("inf"), axis)
    largest = xp.max(others, axis=axis, keepdims=True)
    value, active = hinge(xp, margin + (largest - special.gather_label(xp, x, t, axis)))
    yield value
    yield active * special.scatter_label(xp, share_of_ties(xp, others, largest, axis), t, -1.0, axis)
    yield xp.zeros_like(x)


@loss(properties=lambda **_: Properties(True, sqrt(2), differentiable=False, twice_differentiable=False))
def multiclass_hinge_loss(scores: Array, targets: Array, *, margin: Real = 1.0, **options: Unpack[RowOptions]) -> Array:
    """Hinge over the best wrong class: the right score is to be above all others by a margin.

    .. code-block:: text

        loss = max(0, margin + max over j != y of x_j - x_y)

    Gradient: finite. Tied maxima share it equally; at its kink the hinge counts as active. The Hessian diagonal is 0.
    Source: K. Crammer, Y. Singer, On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines, JMLR 2, 2001, equation 2.

    Parameters
    ----------
    scores, targets, margin
        As for `multi_margin_loss`. Of one class the loss is 0. -inf takes a class out.
    {options}

    >>> import numpy as np
    >>> multiclass_hinge_loss(np.array([[2.0, 1.5, 0.0], [0.0, 1.0, 3.0]]), np.array([0, 1]), reduction="none")
    array([0.5, 3. ])
    """
    return rows(_multiclass_hinge, None, {"scores": scores}, targets, options, needs_two_classes=False, margin=Parameter(margin))


def _multiclass_perceptron(xp: Any, x: Array, t: Array, axis: int) -> Iterator[Array]:
    largest = xp.max(x, axis=axis, keepdims=True)
    yield largest - special.gather_label(xp, x, t, axis)
    share = share_of_ties(xp, x, largest, axis)
    yield special.scatter_label(xp, share, t, special.gather_label(xp, share, t, axis) - 1, axis)
    yield xp.zeros_like(x)


@loss(properties=lambda **_: Properties(True, sqrt(2), differentiable=False, twice_differentiable=False))
def multiclass_perceptron_loss(scores: Array, targets: Array, **options: Unpack[RowOptions]) -> Array:
    """How far the right score lies below the largest one: classification without a margin.

    .. code-block:: text

        loss = max over j of x_j - x_y

    Gradient: finite. Tied maxima share it equally, so that scores which are all 0 move. The Hessian diagonal is 0.
    Source: M. Collins, Discriminative Training Methods for Hidden Markov Models, EMNLP 2002, section 2; F. Rosenblatt, Psychological
    Review 65, 1958.

    Parameters
    ----------
    scores, targets
        As for `multi_margin_loss`.
    {options}

    >>> import numpy as np
    >>> multiclass_perceptron_loss(np.array([[2.0, 1.5, 0.0], [0.0, 1.0, 3.0]]), np.array([0, 1]), reduction="none")
    array([0., 2.])
    """
    return rows(_multiclass_perceptron, None, {"scores": scores}, targets, options, needs_two_classes=False)


def _pairs(xp: Any, x: Array, t: Array) -> Iterator[tuple[Array, Array, Array]]:
    """For 16 classes y after another: t_y, and over all j the hinge of x_j - x_y and its slope, 0 where j is a target too."""
    is_out = (t == 0)[..., None, :]
    for start in range(0, x.shape[-1], 16):
        some = slice(start, min(start + 16, x.shape[-1]))
        z, active = hinge(xp, 1 + (x[..., None, :] - x[..., some, None]))
        yield t[..., some], xp.where(is_out, z, 0.0), xp.where(is_out, active, 0.0)


def _multilabel_margin(xp: Any, x: Array, t: Array, axis: int) -> Iterator[Array]:
    order = [*[i for i in range(x.ndim) if i != axis], axis]  # PyTorch's vmap of the pullback has no rule for moveaxis
    back = tuple([order.index(i) for i in range(x.ndim)])
    t, rows = xp.permute_dims(t, tuple(order)), xp.permute_dims(x, tuple(order))
    classes = x.shape[axis]
    value = xp.sum(xp.where(rows == rows, 0.0, rows), axis=-1, keepdims=True)  # a NaN, also where there are no pairs
    for t_y, z, _ in _pairs(xp, rows, t):
        value = value + xp.sum(special.multiply_no_nan(xp, t_y, xp.sum(z, axis=-1)), axis=-1, keepdims=True)
    yield xp.permute_dims(value / classes, back)
    pairs = [(xp.sum(t_y[..., None] * active, axis=-2), t_y * xp.sum(active, axis=-1)) for t_y, _, active in _pairs(xp, rows, t)]
    slope = sum(up for up, _ in pairs) - xp.concat([down for _, down in pairs], axis=-1)
    yield xp.permute_dims(slope / classes, back)
    yield xp.zeros_like(x)


@loss(properties=lambda **_: Properties(convex=True, differentiable=False, twice_differentiable=False))
def multilabel_margin_loss(scores: Array, targets: Array, *, axis: int = -1, **options: Unpack[ElementOptions]) -> Array:
    """Hinge over pairs of a right and a wrong class: every right score is to be 1 above every wrong one.

    .. code-block:: text

        loss = sum over y in T, j not in T of max(0, 1 - x_y + x_j) / C

    Gradient: how many pairs are active, by C; finite. At its kink a hinge counts as active. The Hessian diagonal is 0.
    Source: K. Crammer, Y. Singer, A Family of Additive Online Algorithms for Category Ranking, JMLR 3, 2003, section 3; as a sum over pairs
    J. Weston, C. Watkins, ESANN 1999.

    Parameters
    ----------
    scores : array, floating point, with C >= 1 entries along `axis`
    targets : array
        Masks of the shape of `scores`: booleans, or floating-point weights of the right classes, 0 at the wrong ones. Or integers: lists of
        labels along `axis`, of any length, each ended by a negative number, as in PyTorch. A label that is there twice counts twice. Beyond
        C - 1 it is an error where labels may be read, and makes the loss NaN elsewhere.
    axis : int, that of the classes; `weights` and `where` have one entry per row
    {options}

    >>> import numpy as np
    >>> scores = np.array([[2.0, 1.5, 0.0], [0.0, 1.0, 3.0]])
    >>> multilabel_margin_loss(scores, np.array([[0, -1, -1], [1, 2, -1]]), reduction="none").round(6)
    array([0.166667, 0.      ])
    >>> print(multilabel_margin_loss(scores, np.array([[True, False, False], [False, True, True]])).round(6))
    0.083333
    """
    return vectors(_multilabel_margin, {"scores": scores}, targets, {**options, "axis": axis}, kind="lists")


def _multilabel_soft_margin(xp: Any, x: Array, t: Array, axis: int, class_weights: Any = None) -> Iterator[Array]:
    steps = _sigmoid_cross_entropy(xp, x, t, None, 0.0)
    scale = 1 / x.shape[axis] if class_weights is None else class_weights / x.shape[axis]
    value = next(steps)
    yield lambda: xp.sum(scale * value(), axis=axis, keepdims=True)
    yield scale * next(steps)
    yield scale * next(steps)


def _multilabel_soft_margin_properties(class_weights: Any) -> Properties:
    """Of one class the loss is steepest."""
    several = isinstance(class_weights, Sequence)
    return Properties(True, sqrt(fsum(w * w for w in class_weights)) / len(class_weights) if several else times_largest(1.0, class_weights))


@loss(properties=_multilabel_soft_margin_properties)
def multilabel_soft_margin_loss(logits: Array, targets: Array, *, class_weights: Weight = None, **options: Unpack[RowOptions]) -> Array:
    """Cross-entropy of yes/no decisions, averaged over the classes of each row: several labels at once.

    .. code-block:: text

        loss = sum over c of w_c * (t_c * softplus(-x_c) + (1 - t_c) * softplus(x_c)) / C

    Gradient: w * (sigmoid(x) - t) / C, finite everywhere, with all its digits on confident entries.
    Source: C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.90.

    Parameters
    ----------
    logits : array, floating point, with C >= 1 entries along `axis`
    targets : array, the shape of `logits`: boolean or integer (0 and 1, checked), or floating point from 0 to 1, used as it is
    class_weights : number >= 0, or one per class along `axis`
        It scales the loss, never the denominator: the mean is over rows. `weights` and `where` have one entry per row.
    {options}

    >>> import numpy as np
    >>> logits, targets = np.array([[2.0, -1.0, 0.0], [0.0, 1.0, 3.0]]), np.array([[1, 0, 0], [0, 1, 1]])
    >>> multilabel_soft_margin_loss(logits, targets, reduction="none").round(6)
    array([0.377779, 0.351665])
    """
    return vectors(_multilabel_soft_margin, {"logits": logits}, targets, options, per_class(class_weights), kind="binary")
