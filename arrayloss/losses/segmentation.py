"""Losses of overlap between predicted and true regions: Dice, Jaccard, Tversky and their kin.

All of them are made of three sums over the elements of one overlap,

.. code-block:: text

    TP = sum p * t      FP = sum p * (1 - t)      FN = sum (1 - p) * t

and use them in the form (FP + FN) / (...) rather than 1 - TP / (...), which loses the digits of a near-perfect overlap.

Arguments that they share
-------------------------
activation : "softmax", "sigmoid" or None
    What makes probabilities of the predictions. None: they are probabilities, neither clipped nor checked. It has no default,
    since a wrong guess is silent.
axis : int or None
    Where the classes or channels are; None: there are none, the predictions are one mask. Targets are labels (integers, the
    shape of the predictions without the class axis or with it at size 1) or masks of the predictions' shape. "sigmoid" with
    `axis=1` on (N, C, H, W) is one overlap a channel, for regions that may cover each other.
pool_axes : int or tuple of int
    The axes whose elements form one overlap; all but `axis` by default. With `axis` among them the sums of all classes form one
    overlap, weighed by `class_weights`.
classes : int or tuple of int
    The classes that count, after the activation: (1, 2) leaves out the background.
class_weights : one number >= 0 per class, those that `classes` leaves out too
    The mean over what `pool_axes` leaves is sum(w * loss) / sum(w).
smooth : number >= 0 or 0-d array
    Added above and below the line. With 0, or a tiny number, an empty target does not push false positives down.
absent : "keep" or "skip"
    Whether an overlap whose target is empty counts in the mean. An empty prediction for an empty target is a perfect overlap: loss 0,
    gradient 0.
weights, where, ignore_index, reduction
    See `arrayloss.losses`. `weights` multiply elements in the sums. What softmax makes is left out by rows. "none" has the
    shape that `pool_axes` leaves, with the classes that count.

The parts of an overlap are its sums `tp`, `fp` and `fn`, as long as axis 0 is pooled: those of a data set seen in batches add up to the
overlap of the whole. They remember the options that they were made with, for `finish`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from arrayloss.core import special
from arrayloss.core.check import choice
from arrayloss.core.inputs import Inputs
from arrayloss.core.loss import loss
from arrayloss.core.pooled import Complement, PooledCall

Array = Any
Axes = int | tuple[int, ...] | None


def _inside(xp: Any, a: Array, t: Array) -> Array:
    """a * t."""
    return xp.where(t, a, 0.0) if special.is_hard(t) else t * a


def _overlap(xp: Any, p: Array, q: Array, t: Array) -> Iterator[Array]:
    t = special.as_float(xp, t, p)  # products are exact for masks, and cheaper than choices
    yield t * p
    yield special.beyond(xp, p, t)
    yield t * q


def _overlap_slope(xp: Any, p: Array, q: Complement, t: Array, tp: Array, fp: Array, fn: Array) -> Array:
    return special.mix(xp, tp - fn, fp, special.as_float(xp, t, p))  # q falls as p rises


def _overlap_of_squares(xp: Any, p: Array, q: Array, t: Array) -> tuple[Array, ...]:
    miss = special.mix(xp, -q, p, t)  # p - t, without cancellation for hard targets
    above = miss > 0
    square = miss * miss
    return _inside(xp, p, t), xp.where(above, square, 0.0), xp.where(above, 0.0, square)


def _overlap_of_squares_slope(xp: Any, p: Array, q: Complement, t: Array, tp: Array, fp: Array, fn: Array) -> Array:
    miss = special.mix(xp, -q(), p, t)
    return 2 * miss * xp.where(miss > 0, fp, fn) + _inside(xp, tp, t)


def _tversky(xp: Any, tp: Array, fp: Array, fn: Array, alpha: Any, beta: Any, smooth: Any) -> Iterator[Any]:
    miss = alpha * fp + beta * fn
    hit = tp + smooth
    # miss / (hit + miss) from the quotient of the smaller by the larger: autodiff of it cancels nothing either
    better = miss <= hit
    less, more = xp.where(better, miss, hit), xp.where(better, hit, miss)
    empty = more == 0  # nothing predicted and nothing there is a perfect overlap, and flat
    ratio = xp.where(empty, 0.0, xp.divide(less, xp.where(empty, 1.0, more)))
    yield xp.where(better, ratio, 1.0) / (1 + ratio)
    whole = xp.where(empty, 1.0, hit + miss)
    share = hit / whole / whole  # the square of `whole` may underflow
    yield -(miss / whole / whole), alpha * share, beta * share


def _focal_tversky(xp: Any, tp: Array, fp: Array, fn: Array, alpha: Any, beta: Any, smooth: Any, gamma: Any) -> Iterator[Any]:
    stages = _tversky(xp, tp, fp, fn, alpha, beta, smooth)
    base = next(stages)
    yield special.power(xp, base, gamma)
    scale = gamma * special.power(xp, base, gamma - 1)  # at a perfect overlap, where gamma < 1 has no slope, it is flat
    yield tuple(scale * d for d in next(stages))


@loss
def dice_loss(
    predictions: Array,
    targets: Array,
    *,
    activation: str | None,
    squared: bool = False,
    axis: int | None = None,
    pool_axes: Axes = None,
    classes: Axes = None,
    class_weights: Any = None,
    smooth: Any = 1.0,
    absent: str = "keep",
    ignore_index: Axes = None,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> PooledCall:
    """Dice loss of whole regions, pooled over the batch: segmentation. One Dice per sample and class: `pool_axes=(2, 3)` in N x C x H x W.

    .. code-block:: text

        loss = 1 - (2 * TP + smooth) / (P + T + smooth),   P = TP + FP = sum p,   T = TP + FN = sum t

    Parameters
    ----------
    predictions : array, floating point
        Logits, or probabilities with `activation=None`.
    targets : array
        Labels, or masks of the shape of `predictions`: boolean, integer (0 and 1, checked), or floating point from 0 to 1.
    squared : bool
        Sums of squares below the line, as in V-Net: sum p**2 + sum t**2. False positives and negatives are then sums of (p - t)**2.
    activation, axis, pool_axes, classes, class_weights, smooth, absent, weights, where, ignore_index, reduction
        See `arrayloss.losses.segmentation`.

    Returns
    -------
    array
        0-d, or what `pool_axes` leaves with `reduction="none"`.

    Notes
    -----
    Gradient: finite everywhere, from logits with all its digits on confident elements. 0 where prediction and target are empty.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import dice_loss
    >>> probs, mask = np.array([0.9, 0.8, 0.1, 0.0]), np.array([1, 1, 0, 0])
    >>> print(f"{dice_loss(probs, mask, activation=None, smooth=0.0):.6f}")
    0.105263

    Softmax over three classes, without the background:

    >>> logits = np.zeros((2, 3, 4, 4))
    >>> labels = np.ones((2, 4, 4), dtype=np.int64)
    >>> dice_loss(logits, labels, activation="softmax", axis=1, classes=(1, 2), reduction="none").round(4)
    array([0.4885, 0.9143])

    References
    ----------
    F. Milletari, N. Navab, S.-A. Ahmadi, V-Net, 3DV 2016, section 3 (with squares); L. R. Dice, Ecology 26, 1945.
    """
    inputs = Inputs(predictions=predictions)
    squared = choice("squared", squared, {True: True, False: False})
    return inputs.pooled(
        _overlap_of_squares if squared else _overlap,
        _overlap_of_squares_slope if squared else _overlap_slope,
        _tversky,  # with both weights 1/2, and everything halved
        0.5,
        0.5,
        inputs.scalar("smooth", smooth, low=0) / 2,
        names=("tp", "fp", "fn"),
        linear=not squared,
        targets=targets,
        activation=activation,
        axis=axis,
        pool_axes=pool_axes,
        classes=classes,
        class_weights=class_weights,
        absent=absent,
        ignore_index=ignore_index,
        weights=weights,
        where=where,
        reduction=reduction,
    )


@loss
def jaccard_loss(
    predictions: Array,
    targets: Array,
    *,
    activation: str | None,
    squared: bool = False,
    axis: int | None = None,
    pool_axes: Axes = None,
    classes: Axes = None,
    class_weights: Any = None,
    smooth: Any = 1.0,
    absent: str = "keep",
    ignore_index: Axes = None,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> PooledCall:
    """Jaccard loss, 1 - intersection / union, pooled over the batch. One per sample and class: `pool_axes=(2, 3)` in N x C x H x W.

    .. code-block:: text

        loss = 1 - (TP + smooth) / (P + T - TP + smooth),   P = TP + FP = sum p,   T = TP + FN = sum t

    Parameters
    ----------
    predictions : array, floating point
        Logits, or probabilities with `activation=None`.
    targets : array
        Labels, or masks of the shape of `predictions`: boolean, integer (0 and 1, checked), or floating point from 0 to 1.
    squared : bool
        Sums of squares below the line: sum p**2 + sum t**2 - TP. False positives and negatives are then sums of (p - t)**2.
    activation, axis, pool_axes, classes, class_weights, smooth, absent, weights, where, ignore_index, reduction
        See `arrayloss.losses.segmentation`.

    Returns
    -------
    array
        0-d, or what `pool_axes` leaves with `reduction="none"`.

    Notes
    -----
    Gradient: finite everywhere, from logits with all its digits on confident elements. 0 where prediction and target are empty.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import jaccard_loss
    >>> probs, mask = np.array([0.9, 0.8, 0.1, 0.0]), np.array([1, 1, 0, 0])
    >>> print(f"{jaccard_loss(probs, mask, activation=None, smooth=0.0):.6f}")
    0.190476

    References
    ----------
    M. A. Rahman, Y. Wang, Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation, ISVC 2016,
    equation 3.
    """
    inputs = Inputs(predictions=predictions)
    squared = choice("squared", squared, {True: True, False: False})
    return inputs.pooled(
        _overlap_of_squares if squared else _overlap,
        _overlap_of_squares_slope if squared else _overlap_slope,
        _tversky,  # with both weights 1
        1.0,
        1.0,
        inputs.scalar("smooth", smooth, low=0),
        names=("tp", "fp", "fn"),
        linear=not squared,
        targets=targets,
        activation=activation,
        axis=axis,
        pool_axes=pool_axes,
        classes=classes,
        class_weights=class_weights,
        absent=absent,
        ignore_index=ignore_index,
        weights=weights,
        where=where,
        reduction=reduction,
    )


@loss
def tversky_loss(
    predictions: Array,
    targets: Array,
    *,
    activation: str | None,
    alpha: Any,
    beta: Any,
    axis: int | None = None,
    pool_axes: Axes = None,
    classes: Axes = None,
    class_weights: Any = None,
    smooth: Any = 1.0,
    absent: str = "keep",
    ignore_index: Axes = None,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> PooledCall:
    """Dice with a price for each kind of error, pooled over the batch. One per sample and class: `pool_axes=(2, 3)` in N x C x H x W.

    .. code-block:: text

        loss = 1 - (TP + smooth) / (TP + alpha * FP + beta * FN + smooth)

    Parameters
    ----------
    predictions : array, floating point
        Logits, or probabilities with `activation=None`.
    targets : array
        Labels, or masks of the shape of `predictions`: boolean, integer (0 and 1, checked), or floating point from 0 to 1.
    alpha : number >= 0 or 0-d array
        Weight of false positives. Some libraries have it the other way round.
    beta : number >= 0 or 0-d array
        Weight of false negatives. Both 1/2 are Dice (with half its `smooth`), both 1 are Jaccard.
    activation, axis, pool_axes, classes, class_weights, smooth, absent, weights, where, ignore_index, reduction
        See `arrayloss.losses.segmentation`.

    Returns
    -------
    array
        0-d, or what `pool_axes` leaves with `reduction="none"`.

    Notes
    -----
    Gradient: finite everywhere, from logits with all its digits on confident elements. 0 where prediction and target are empty.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import tversky_loss
    >>> probs, mask = np.array([0.9, 0.8, 0.1, 0.0]), np.array([1, 1, 0, 0])
    >>> print(f"{tversky_loss(probs, mask, activation=None, alpha=0.3, beta=0.7, smooth=0.0):.6f}")
    0.123711

    References
    ----------
    S. S. M. Salehi, D. Erdogmus, A. Gholipour, Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep
    Networks, MLMI 2017, equation 4.
    """
    inputs = Inputs(predictions=predictions)
    return inputs.pooled(
        _overlap,
        _overlap_slope,
        _tversky,
        inputs.scalar("alpha", alpha, low=0),
        inputs.scalar("beta", beta, low=0),
        inputs.scalar("smooth", smooth, low=0),
        names=("tp", "fp", "fn"),
        linear=True,
        targets=targets,
        activation=activation,
        axis=axis,
        pool_axes=pool_axes,
        classes=classes,
        class_weights=class_weights,
        absent=absent,
        ignore_index=ignore_index,
        weights=weights,
        where=where,
        reduction=reduction,
    )


@loss
def focal_tversky_loss(
    predictions: Array,
    targets: Array,
    *,
    activation: str | None,
    alpha: Any,
    beta: Any,
    gamma: Any = 0.75,
    axis: int | None = None,
    pool_axes: Axes = None,
    classes: Axes = None,
    class_weights: Any = None,
    smooth: Any = 1.0,
    absent: str = "keep",
    ignore_index: Axes = None,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> PooledCall:
    """Tversky loss raised to a power, class by class before the mean, pooled over the batch. One per sample and class: `pool_axes=(2, 3)`.

    .. code-block:: text

        loss = (1 - (TP + smooth) / (TP + alpha * FP + beta * FN + smooth))**gamma

    Parameters
    ----------
    predictions : array, floating point
        Logits, or probabilities with `activation=None`.
    targets : array
        Labels, or masks of the shape of `predictions`: boolean, integer (0 and 1, checked), or floating point from 0 to 1.
    alpha : number >= 0 or 0-d array
        Weight of false positives.
    beta : number >= 0 or 0-d array
        Weight of false negatives.
    gamma : number > 0 or 0-d array
        Below 1 it raises small losses, above 1 it lowers them. The paper's gamma is 1 over this one: its 4/3 is 0.75.
    activation, axis, pool_axes, classes, class_weights, smooth, absent, weights, where, ignore_index, reduction
        See `arrayloss.losses.segmentation`.

    Returns
    -------
    array
        0-d, or what `pool_axes` leaves with `reduction="none"`.

    Notes
    -----
    Gradient: finite; at a perfect overlap, where no slope exists for gamma < 1, it is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import focal_tversky_loss
    >>> probs, mask = np.array([0.9, 0.8, 0.1, 0.0]), np.array([1, 1, 0, 0])
    >>> print(f"{focal_tversky_loss(probs, mask, activation=None, alpha=0.3, beta=0.7, smooth=0.0):.6f}")
    0.208597

    References
    ----------
    N. Abraham, N. M. Khan, A Novel Focal Tversky Loss Function with Improved Attention U-Net for Lesion Segmentation, ISBI 2019,
    equation 4.
    """
    inputs = Inputs(predictions=predictions)
    return inputs.pooled(
        _overlap,
        _overlap_slope,
        _focal_tversky,
        inputs.scalar("alpha", alpha, low=0),
        inputs.scalar("beta", beta, low=0),
        inputs.scalar("smooth", smooth, low=0),
        inputs.scalar("gamma", gamma, above=0),
        names=("tp", "fp", "fn"),
        linear=True,
        targets=targets,
        activation=activation,
        axis=axis,
        pool_axes=pool_axes,
        classes=classes,
        class_weights=class_weights,
        absent=absent,
        ignore_index=ignore_index,
        weights=weights,
        where=where,
        reduction=reduction,
    )


def _overlap_and_volume(xp: Any, p: Array, q: Array, t: Array) -> Iterator[Array]:
    yield from _overlap(xp, p, q, t)
    yield special.as_float(xp, t, p)


def _overlap_and_volume_slope(xp: Any, p: Array, q: Complement, t: Array, tp: Array, fp: Array, fn: Array, volume: Array) -> Array:
    return _overlap_slope(xp, p, q, t, tp, fp, fn)


@loss
def generalized_dice_loss(
    predictions: Array,
    targets: Array,
    *,
    activation: str | None,
    volume_weights: str = "square",
    axis: int | None = None,
    pool_axes: Axes = None,
    classes: Axes = None,
    class_weights: Any = None,
    smooth: Any = 1.0,
    absent: str = "keep",
    ignore_index: Axes = None,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> PooledCall:
    """One Dice of all classes, the rare as heavy as the common, pooled over the batch. One per sample: `pool_axes=(2, 3)`.

    .. code-block:: text

        loss = 1 - (2 * sum_c w_c * TP_c + smooth) / (sum_c w_c * (P_c + T_c) + smooth),   w_c = (min T / T_c)**2

    Parameters
    ----------
    predictions : array, floating point
        Logits, or probabilities with `activation=None`.
    targets : array
        Labels, or masks of the shape of `predictions`: boolean, integer (0 and 1, checked), or floating point from 0 to 1.
    volume_weights : "square", "simple" or "uniform"
        w_c from the volume T_c of the class in the target: T_c**-2, T_c**-1, or 1 for all. They are scaled so that the rarest
        class that is there weighs 1, and `smooth` is a number of its elements. A class that is absent weighs 1 too, as much as the
        rarest (or 0 with `absent="skip"`); T_c = 0 never makes it the whole loss.
    activation, axis, pool_axes, classes, class_weights, smooth, absent, weights, where, ignore_index, reduction
        See `arrayloss.losses.segmentation`.

    Returns
    -------
    array
        0-d, or what `pool_axes` leaves with `reduction="none"`.

    Notes
    -----
    `axis` must be named; `class_weights` multiply w_c. Gradient: finite everywhere. The weights are constants of the
    predictions.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import generalized_dice_loss
    >>> logits = np.array([[4.0, 0.0, 0.0], [3.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    >>> print(f"{generalized_dice_loss(logits, np.array([0, 0, 1]), activation='softmax', axis=1, smooth=0.0):.6f}")
    0.191129

    References
    ----------
    C. H. Sudre et al., Generalised Dice overlap as a deep learning loss function for highly unbalanced segmentations, DLMIA 2017,
    section 2.2.
    """
    inputs = Inputs(predictions=predictions)
    if axis is None:
        raise ValueError("axis must be named for generalized_dice_loss: it weighs classes")
    return inputs.pooled(
        _overlap_and_volume,
        _overlap_and_volume_slope,
        _tversky,
        0.5,
        0.5,
        inputs.scalar("smooth", smooth, low=0) / 2,
        volumes=choice("volume_weights", volume_weights, {"square": 2, "simple": 1, "uniform": 0}),
        names=("tp", "fp", "fn", "volume"),
        targets=targets,
        activation=activation,
        axis=axis,
        pool_axes=pool_axes,
        classes=classes,
        class_weights=class_weights,
        absent=absent,
        ignore_index=ignore_index,
        weights=weights,
        where=where,
        reduction=reduction,
    )
