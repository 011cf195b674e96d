"""Confusion counts, hard and soft, and what is made of them: precision, recall, F-beta, Dice, Jaccard, accuracy.

`confusion` counts; every metric is a function of the counts. Counts of batches and processes add, so that a metric of a whole data
set is exact, which the mean of the metrics of its batches is not:

>>> import numpy as np
>>> from arrayloss import metrics
>>> target = np.arange(100) < 30  # 100 people, 30 of them ill
>>> called = (np.arange(100) < 20) | (np.arange(100) >= 95)  # 25 called ill, 5 of them wrongly
>>> halves = [metrics.confusion(called[i::2], target[i::2], activation=None) for i in range(2)]
>>> counts = sum(halves)
>>> [int(a) for a in (counts.tp, counts.fp, counts.fn, counts.tn)]
[20, 5, 10, 65]
>>> [round(float(m(counts)), 4) for m in (metrics.precision, metrics.recall, metrics.f1, metrics.dice, metrics.jaccard, metrics.accuracy)]
[0.8, 0.6667, 0.7273, 0.7273, 0.5714, 0.85]

Arguments that the metrics share
--------------------------------
counts : Parts
    What `confusion` returned, or a sum of such.
average : "macro", "micro" or None
    The mean of the metric over all overlaps (classes, samples) that `confusion` left apart; the metric of their added counts; or
    one metric for each.
absent : "skip" or "keep"
    Whether an overlap whose target is empty counts in the macro mean. Where all targets are empty, all count.
empty : number
    What 0/0 is: 1 by default, since to find nothing where nothing is is right. It concerns precision where nothing is predicted,
    recall where nothing is there, the others where both are so.

Results are NaN where labels out of range could not be read. Hard counts have no gradient; soft ones are differentiable, but the
losses keep more digits.
"""

from __future__ import annotations

from typing import Any

from .core import dtypes, special
from .core.check import choice, number
from .core.inputs import Inputs
from .core.namespace import backend_of
from .core.parts import Parts

__all__ = ["accuracy", "confusion", "dice", "f1", "f_beta", "jaccard", "precision", "recall"]

Array = Any
Axes = int | tuple[int, ...] | None


def _counts(xp: Any, p: Array, q: Array, t: Array, threshold: float | None) -> tuple[Array, ...]:
    if threshold is not None:
        p = xp.where(xp.isnan(p), p, xp.astype(p > threshold, p.dtype))  # NaN is no decision
        q = 1 - p
    t = special.as_float(xp, t, p)
    return t * p, (1 - t) * p, t * q, (1 - t) * q


def _counts_slope(xp: Any, p: Array, q: Any, t: Array, threshold: float | None, tp: Array, fp: Array, fn: Array, tn: Array) -> Array:
    soft = special.mix(xp, tp - fn, fp - tn, t)
    return soft if threshold is None else xp.zeros_like(soft)


def confusion(
    predictions: Array,
    targets: Array,
    *,
    activation: str | None,
    hard: bool = True,
    threshold: float = 0.5,
    axis: int | None = None,
    pool_axes: Axes = None,
    classes: Axes = None,
    ignore_index: Axes = None,
    weights: Any = None,
    where: Any = None,
) -> Parts:
    """True and false positives and negatives of every overlap.

    Parameters
    ----------
    predictions : array, floating point or boolean
        Logits, probabilities (`activation=None`), or decisions.
    targets : array
        Labels or masks, as for the losses of overlaps.
    activation : "softmax", "sigmoid" or None
        What makes probabilities of the predictions.
    hard : bool
        Whether predictions are decided: the largest class of a softmax, otherwise what is above `threshold`. False: probabilities
        are counted as fractions.
    threshold : number from 0 to 1
        A probability above it is positive. A softmax, which decides by the largest, has none.
    axis, pool_axes, classes, ignore_index, weights, where
        As for `arrayloss.losses.segmentation`.

    Returns
    -------
    Parts
        `tp`, `fp`, `fn` and `tn`, each of the shape that `pool_axes` leaves, with the classes along their axis. They add.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import metrics
    >>> logits, labels = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0], [1.0, 0.0, 0.0]]), np.array([0, 1, 0])
    >>> counts = metrics.confusion(logits, labels, activation="softmax", axis=1)
    >>> [a.tolist() for a in counts.arrays]
    [[2.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 2.0, 2.0]]
    """
    if dtypes.kind(getattr(predictions, "dtype", None)) == "bool":
        if activation is not None:
            raise ValueError(f"activation must be None for boolean predictions; got {activation!r}")
        xp = backend_of(predictions, "predictions").xp
        predictions = xp.astype(predictions, xp.float32)
    inputs = Inputs(predictions=predictions)
    hard = choice("hard", hard, {True: True, False: False})
    threshold = number("threshold", threshold, low=0, high=1)
    call = inputs.pooled(
        _counts,
        _counts_slope,
        _counts,
        names=("tp", "fp", "fn", "tn"),
        targets=targets,
        activation=activation,
        axis=axis,
        pool_axes=pool_axes,
        classes=classes,
        class_weights=None,
        absent="keep",
        ignore_index=ignore_index,
        weights=weights,
        where=where,
        reduction="none",
        options=(threshold if hard and activation != "softmax" else None,),
        decided=hard,
    )
    return call.sums()


def _metric(counts: Parts, average: str | None, absent: str, empty: float, terms: Any) -> Array:
    """The mean of a ratio whose terms are linear in the counts."""
    average = choice("average", average, {"macro": "macro", "micro": "micro", None: None})
    skip = choice("absent", absent, {"skip": True, "keep": False})
    if counts.names != ("tp", "fp", "fn", "tn"):
        raise ValueError(f"counts must be those of metrics.confusion; got parts named {', '.join(counts.names)}")
    xp = backend_of(counts.tp, "counts").xp
    tp, fp, fn, tn = (xp.sum(a) if average == "micro" else a for a in counts.arrays)
    above, below = terms(tp, fp, fn, tn)
    each = special.ratio(xp, above, below, number("empty", empty))
    if average != "macro":
        return each
    present = xp.astype(tp + fn != 0, each.dtype) if skip else xp.ones_like(each)
    weights = xp.where(xp.sum(present) == 0, xp.ones_like(present), present)
    return xp.sum(xp.where(weights == 0, 0.0, each)) / xp.sum(weights)


def precision(counts: Parts, *, average: str | None = "macro", absent: str = "skip", empty: float = 1.0) -> Array:
    """How much of what is called positive is so: TP / (TP + FP)."""
    return _metric(counts, average, absent, empty, lambda tp, fp, fn, tn: (tp, tp + fp))


def recall(counts: Parts, *, average: str | None = "macro", absent: str = "skip", empty: float = 1.0) -> Array:
    """How much of what is positive is called so: TP / (TP + FN). With `average="micro"` it is the accuracy of classes."""
    return _metric(counts, average, absent, empty, lambda tp, fp, fn, tn: (tp, tp + fn))


def f_beta(counts: Parts, beta: float = 1.0, *, average: str | None = "macro", absent: str = "skip", empty: float = 1.0) -> Array:
    """Precision and recall in one number, recall beta times as important: (1 + b**2) TP / ((1 + b**2) TP + b**2 FN + FP).

    C. J. van Rijsbergen, Information Retrieval, 1979, chapter 7.
    """
    b = number("beta", beta, low=0) ** 2
    return _metric(counts, average, absent, empty, lambda tp, fp, fn, tn: ((1 + b) * tp, (1 + b) * tp + b * fn + fp))


def f1(counts: Parts, *, average: str | None = "macro", absent: str = "skip", empty: float = 1.0) -> Array:
    """The harmonic mean of precision and recall, which is Dice."""
    return f_beta(counts, 1.0, average=average, absent=absent, empty=empty)


def dice(counts: Parts, *, average: str | None = "macro", absent: str = "skip", empty: float = 1.0) -> Array:
    """Twice the overlap over the sum of both: 2 TP / (2 TP + FP + FN)."""
    return f_beta(counts, 1.0, average=average, absent=absent, empty=empty)


def jaccard(counts: Parts, *, average: str | None = "macro", absent: str = "skip", empty: float = 1.0) -> Array:
    """Intersection over union: TP / (TP + FP + FN)."""
    return _metric(counts, average, absent, empty, lambda tp, fp, fn, tn: (tp, tp + fp + fn))


def accuracy(counts: Parts, *, average: str | None = "macro", absent: str = "skip", empty: float = 1.0) -> Array:
    """How much is called right: (TP + TN) / all. Of one class among several it is high for rare ones, whatever is predicted."""
    return _metric(counts, average, absent, empty, lambda tp, fp, fn, tn: (tp + tn, tp + fp + fn + tn))
