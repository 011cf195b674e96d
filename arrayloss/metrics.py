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
    The mean of the metric over all overlaps (classes, samples) that `confusion` counted apart; the metric of their added counts; or
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

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

from .adapters.dispatch import adapter_of
from .core import dtypes, special
from .core.parts import Parts, Source
from .frontend.build import overlap_sums
from .frontend.check import choice, number
from .frontend.options import OverlapOptions, checked
from .losses.segmentation import Link, as_masks, link

__all__ = ["accuracy", "confusion", "dice", "f1", "f_beta", "jaccard", "precision", "recall"]

Array = Any
Axes = int | tuple[int, ...] | None
Average = Literal["macro", "micro"] | None
Absent = Literal["skip", "keep"]
NAMES = ("tp", "fp", "fn", "tn")


def _soft_counts(xp: Any, x: Array, t: Array, activation: str | None, axis: Any, labels: bool) -> Iterator[Any]:
    p, complement, to_x = link(xp, x, activation, axis)
    t, q = as_masks(xp, x, t, axis, labels), complement()
    yield t * p, (1 - t) * p, t * q, (1 - t) * q
    yield lambda tp, fp, fn, tn: to_x(special.lerp(xp, fp - tn, tp - fn, t))


def _hard_counts(xp: Any, x: Array, t: Array, activation: str | None, axis: Any, labels: bool, threshold: float) -> Iterator[Any]:
    """Decisions, which are flat. NaN is no decision, and a row with one has no largest class."""
    if activation == "softmax":
        largest = xp.expand_dims(xp.argmax(x, axis=axis), axis=axis)
        p = special.place_at_label(xp, x, largest, 1.0, axis)
        p = p + xp.sum(xp.where(xp.isnan(x), x, xp.zeros_like(x)), axis=axis, keepdims=True)
    else:
        p, _, _ = link(xp, x, activation, axis)
        p = xp.where(xp.isnan(p), p, xp.astype(p > threshold, p.dtype))
    t = as_masks(xp, x, t, axis, labels)
    yield t * p, (1 - t) * p, t * (1 - p), (1 - t) * (1 - p)
    yield lambda tp, fp, fn, tn: xp.zeros_like(x)


def confusion(
    predictions: Array,
    targets: Array,
    *,
    activation: Link,
    hard: bool = True,
    threshold: float = 0.5,
    axis: int | None = None,
    pool_axes: Axes = None,
    classes: Axes = None,
    ignore_index: Axes = None,
    weights: float | Array | None = None,
    where: Array | None = None,
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
        As for `dice_loss`.

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
        xp = adapter_of(predictions, "predictions").xp
        predictions = xp.astype(predictions, xp.float32)
    choice("hard", hard, (True, False))
    threshold = number("threshold", threshold, low=0, high=1)
    meaning: dict[str, Any] = {"axis": axis, "pool_axes": pool_axes, "classes": classes, "ignore_index": ignore_index}
    options = checked({**meaning, "weights": weights, "where": where}, OverlapOptions, {})
    decision: dict[str, Any] = {"threshold": threshold} if hard else {}
    kernel = _hard_counts if hard else _soft_counts
    arguments, op, regions = overlap_sums(kernel, predictions, targets, activation, options, NAMES, **decision)
    adapter, xp = arguments.adapter, arguments.adapter.xp
    op = replace(op, float64=adapter.has_float64(arguments.x, for_parts=True))
    sums = adapter.forward(op, tuple(arguments.arrays))
    with adapter.float64():
        counts = [regions.take_classes(xp, a) for a in sums]
        if regions.are_pooled:
            counts = [xp.sum(a, axis=regions.axis) for a in counts]
    meaning = {"activation": activation, "hard": hard, **decision, **meaning}
    static = tuple([(name, tuple(value) if isinstance(value, list) else value) for name, value in meaning.items()])
    return Parts((Source("metrics.confusion", NAMES, static, None),), tuple(counts))


def _metric(counts: Parts, average: Average, absent: Absent, empty: float, ratio: Callable[..., tuple[Array, Array]]) -> Array:
    """The mean of a ratio whose terms are linear in the counts."""
    choice("average", average, ("macro", "micro", None))
    choice("absent", absent, ("skip", "keep"))
    if not isinstance(counts, Parts) or counts.names != NAMES:
        got = f"parts of {counts.losses}" if isinstance(counts, Parts) else type(counts).__name__
        raise TypeError(f"counts must be what metrics.confusion returns; got {got}")
    adapter = adapter_of(counts.tp, "counts")
    xp, dtype = adapter.xp, counts.tp.dtype if adapter.has_float64(counts.tp) else adapter.xp.float32
    with adapter.float64():
        tp, fp, fn, tn = (xp.sum(a) if average == "micro" else a for a in counts.arrays)
        each = special.divide(xp, *ratio(tp, fp, fn, tn), number("empty", empty))
        if average == "macro":
            is_present = xp.astype(tp + fn != 0, each.dtype) if absent == "skip" else xp.ones_like(each)
            weights = xp.where(xp.sum(is_present) == 0, xp.ones_like(is_present), is_present)
            each = xp.sum(xp.where(weights == 0, 0.0, each)) / xp.sum(weights)
        return xp.astype(each, dtype, copy=False)


def precision(counts: Parts, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0) -> Array:
    """How much of what is called positive is so: TP / (TP + FP)."""
    return _metric(counts, average, absent, empty, lambda tp, fp, fn, tn: (tp, tp + fp))


def recall(counts: Parts, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0) -> Array:
    """How much of what is positive is called so: TP / (TP + FN). With `average="micro"` it is the accuracy of classes."""
    return _metric(counts, average, absent, empty, lambda tp, fp, fn, tn: (tp, tp + fn))


def f_beta(counts: Parts, beta: float = 1.0, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0) -> Array:
    """Precision and recall in one number, recall beta times as important: (1 + b**2) TP / ((1 + b**2) TP + b**2 FN + FP).

    C. J. van Rijsbergen, Information Retrieval, 1979, chapter 7.
    """
    b = number("beta", beta, low=0) ** 2
    return _metric(counts, average, absent, empty, lambda tp, fp, fn, tn: ((1 + b) * tp, (1 + b) * tp + b * fn + fp))


def f1(counts: Parts, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0) -> Array:
    """The harmonic mean of precision and recall, which is Dice."""
    return f_beta(counts, 1.0, average=average, absent=absent, empty=empty)


def dice(counts: Parts, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0) -> Array:
    """Twice the overlap over the sum of both: 2 TP / (2 TP + FP + FN)."""
    return f_beta(counts, 1.0, average=average, absent=absent, empty=empty)


def jaccard(counts: Parts, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0) -> Array:
    """Intersection over union: TP / (TP + FP + FN)."""
    return _metric(counts, average, absent, empty, lambda tp, fp, fn, tn: (tp, tp + fp + fn))


def accuracy(counts: Parts, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0) -> Array:
    """How much is called right: (TP + TN) / all. Of one class among several it is high for rare ones, whatever is predicted."""
    return _metric(counts, average, absent, empty, lambda tp, fp, fn, tn: (tp + tn, tp + fp + fn + tn))
