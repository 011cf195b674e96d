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
average : "macro", "weighted", "micro" or None
    The mean of the metric over all overlaps (classes, samples) that `confusion` counted apart; the mean in which an overlap weighs as
    much as its target; the metric of the added counts; or one metric for each.
absent : "skip" or "keep"
    Whether an overlap whose target is empty counts in the macro mean. Where all targets are empty, all count.
empty : number or NaN
    The metric of an overlap that is empty in prediction and target: 1 by default, since to find nothing where nothing is is right. With
    NaN it does not count in a mean. Any other 0/0 is 0: the precision of a class that is there and never predicted, say.
axes : int or tuple of int
    The axes of the counts that the mean goes over; all by default. Of one count per sample and class, 0 is the mean over samples alone.

Results are NaN where labels out of range could not be read. Hard counts have no gradient; soft ones are differentiable, but the
losses keep more digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from typing import Any, Literal

from .adapters.dispatch import adapter_of
from .core import dtypes, special
from .core.operation import ArrayRef
from .core.parts import Parts, Source
from .frontend.build import overlap_sums
from .frontend.check import choice, normal_axes, normal_axis, number
from .frontend.options import OverlapOptions, checked
from .losses.segmentation import Link, link
from .one_hot import one_hot

__all__ = ["accuracy", "confusion", "dice", "f1", "f_beta", "jaccard", "precision", "recall"]

Array = Any
Axes = int | tuple[int, ...] | None
Average = Literal["macro", "weighted", "micro"] | None
Absent = Literal["skip", "keep"]
NAMES = ("tp", "fp", "fn", "tn")


def _soft_counts(xp: Any, x: Array, t: Array, activation: str | None, axis: Any, labels: bool) -> Iterator[Any]:
    p, complement, to_x = link(xp, x, activation, axis)
    t, q = special.one_hot(xp, t, x, axis) if labels else t, complement()
    yield t * p, (1 - t) * p, t * q, (1 - t) * q
    yield lambda tp, fp, fn, tn: to_x(special.lerp(fp - tn, tp - fn, t))


def _hard_counts(xp: Any, x: Array, t: Array, activation: str | None, axis: Any, labels: bool, threshold: float) -> Iterator[Any]:
    """Decisions, which are flat. NaN is no decision, and a row with one has no largest class."""
    if activation == "softmax":
        largest = xp.expand_dims(xp.argmax(x, axis=axis), axis=axis)
        p = special.place_at_label(xp, x, largest, 1.0, axis)
        p = p + xp.sum(xp.where(xp.isnan(x), x, xp.zeros_like(x)), axis=axis, keepdims=True)
    else:
        p, _, _ = link(xp, x, activation, axis)
        p = xp.where(xp.isnan(p), p, xp.astype(p > threshold, p.dtype))
    t = special.one_hot(xp, t, x, axis) if labels else t
    yield t * p, (1 - t) * p, t * (1 - p), (1 - t) * (1 - p)
    yield lambda tp, fp, fn, tn: xp.zeros_like(x)


def _count_labels(arguments: Any, op: Any, predictions: Array) -> tuple[Array, ...]:
    """The counts of labels in the host's memory, which have size 1 along the class axis: no array has an entry for every class."""
    labels, *arrays = [arguments.adapter.host_view(a) for a in (predictions, *arguments.arrays)]
    xp, shape, axis = adapter_of(labels).xp, arguments.shape, arguments.class_axis
    targets, classes, rows = arrays[op.labels.index], shape[axis], op.mask_shape(shape)
    is_counted = None if op.where is None else arrays[op.where.index]
    if op.labels.ignore:
        not_ignored = op.labels.not_ignored(xp, targets, op.event_axes)
        is_counted = not_ignored if is_counted is None else is_counted & not_ignored

    def flat(a: Array) -> Array:
        a = xp.reshape(xp.broadcast_to(a, rows), (-1,))
        return a if is_counted is None else a[xp.reshape(xp.broadcast_to(is_counted, rows), (-1,))]

    p, t = flat(labels), flat(targets)
    op.labels.check(xp, t)
    low, high = special.label_range(xp, p) if 0 not in p.shape else (0, 0)
    if low < 0 or high >= classes:
        raise ValueError(f"predictions must be labels from 0 to {classes - 1}; got {low if low < 0 else high}")
    p, t = special.as_index(xp, p), special.as_index(xp, t)
    factors = [flat(arrays[w.index]) if isinstance(w, ArrayRef) else w * xp.ones_like(t, dtype=xp.float64) for w in op.weights]
    kept = [a for a in range(len(shape)) if a != axis and a not in op.reduce]
    sizes, place, is_hit = [shape[a] for a in kept], 0, p == t
    for a in kept:
        place = place * shape[a] + flat(special.arange_along(xp, xp.broadcast_to(targets, rows), a))

    def count(labels: Array, weights: Any) -> Array:
        sums = xp.astype(xp.bincount(labels, weights, prod(sizes) * classes), xp.float64)
        return xp.moveaxis(xp.reshape(sums, (*sizes, classes)), -1, sum(a < axis for a in kept))

    p, t, weights = p + place * classes if kept else p, t + place * classes if kept else t, prod(factors) if factors else None
    positive, true, tp = count(p, weights), count(t, weights), count(t[is_hit], None if weights is None else weights[is_hit])
    whole = xp.sum(true, axis=sum(a < axis for a in kept), keepdims=True)
    return tuple([arguments.adapter.xp.asarray(a) for a in (tp, positive - tp, true - tp, whole - positive - true + tp)])


def confusion(
    predictions: Array,
    targets: Array,
    *,
    activation: Link,
    hard: bool = True,
    threshold: float = 0.5,
    num_classes: int | None = None,
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
    predictions : array, floating point, boolean or integer
        Logits, probabilities (`activation=None`), or decisions: yes or no, or with `num_classes` labels, which have no class axis.
    targets : array
        Labels or masks, as for the losses of overlaps.
    activation : "softmax", "sigmoid" or None
        What makes probabilities of the predictions.
    hard : bool
        Whether predictions are decided: the largest class of a softmax, otherwise what is above `threshold`. False: probabilities
        are counted as fractions.
    threshold : number from 0 to 1
        A probability above it is positive. A softmax, which decides by the largest, has none.
    num_classes : int
        How many classes there are, where predictions are labels. `axis` is where they would be in an array with a class axis.
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
    labels, kind = None, dtypes.kind(getattr(predictions, "dtype", None))
    if kind in ("bool", "integer") and activation is not None:
        raise ValueError(f"activation must be None for {kind.replace('bool', 'boolean')} predictions; got {activation!r}")
    if kind == "bool":
        xp = adapter_of(predictions, "predictions").xp
        predictions = xp.astype(predictions, xp.float32)
    elif kind == "integer":
        labels, predictions = _as_predictions(predictions, targets, num_classes, axis)
    choice("hard", hard, (True, False))
    threshold = number("threshold", threshold, low=0, high=1)
    meaning: dict[str, Any] = {"axis": axis, "pool_axes": pool_axes, "classes": classes, "ignore_index": ignore_index}
    options = checked({**meaning, "weights": weights, "where": where}, OverlapOptions, {})
    decision: dict[str, Any] = {"threshold": threshold} if hard else {}
    kernel = _hard_counts if hard else _soft_counts
    arguments, op, regions = overlap_sums(kernel, predictions, targets, activation, options, NAMES, **decision)
    adapter, xp = arguments.adapter, arguments.adapter.xp
    op = replace(op, float64=adapter.has_float64(arguments.x, for_parts=True))
    every = adapter.forward(op, tuple(arguments.arrays)) if labels is None else _count_labels(arguments, op, labels)
    with adapter.float64():
        counts = [regions.take_classes(xp, a) for a in every]
        if regions.are_pooled:
            counts = [xp.sum(a, axis=regions.axis) for a in counts]
    meaning = {"activation": activation, "hard": hard, **decision, **meaning}
    static = tuple([(name, tuple(value) if isinstance(value, list) else value) for name, value in meaning.items()])
    return Parts((Source("metrics.confusion", NAMES, static, None),), tuple(counts))


def _as_predictions(labels: Array, targets: Array, num_classes: int | None, axis: int | None) -> tuple[Array | None, Array]:
    """Labels with a class axis of size 1 and an array that has the shape of predictions; or None and the labels as one-hot predictions."""
    if num_classes is None or axis is None:
        raise TypeError("integer predictions are labels: pass num_classes= and axis=; of a mask pass predictions == 1")
    adapter = adapter_of(labels, "predictions")
    xp, axis = adapter.xp, normal_axis("axis", axis, labels.ndim + 1)
    are_labels = dtypes.kind(getattr(targets, "dtype", None)) in ("bool", "integer") and targets.ndim <= labels.ndim
    if adapter.host_view(labels) is None or not are_labels:
        return None, one_hot(labels, num_classes, axis)
    labels = xp.expand_dims(adapter.as_array(labels, labels, "predictions"), axis=axis)
    shape = (*labels.shape[:axis], number("num_classes", num_classes, low=1), *labels.shape[axis + 1 :])
    return labels, xp.broadcast_to(special.constant(xp, 0.0, xp.float64, labels), tuple(map(int, shape)))


def _metric(counts: Parts, average: Average, absent: Absent, empty: float, axes: Axes, ratio: Callable[..., tuple[Array, Array]]) -> Array:
    """The mean of a ratio whose terms are linear in the counts."""
    choice("average", average, ("macro", "weighted", "micro", None))
    choice("absent", absent, ("skip", "keep"))
    if not isinstance(counts, Parts) or counts.names != NAMES:
        got = f"parts of {counts.losses}" if isinstance(counts, Parts) else type(counts).__name__
        raise TypeError(f"counts must be what metrics.confusion returns; got {got}")
    empty = empty if empty != empty else number("empty", empty)
    adapter, shape = adapter_of(counts.tp, "counts"), tuple(counts.tp.shape)
    xp, dtype = adapter.xp, counts.tp.dtype if adapter.has_float64(counts.tp) else adapter.xp.float32
    along = tuple(range(len(shape))) if axes is None else normal_axes("axes", axes, len(shape))
    if average is not None and 0 in [shape[a] for a in along]:
        raise ValueError(f"there is no mean over no elements: the counts have shape {shape}")
    with adapter.float64():
        tp, fp, fn, tn = (xp.sum(a, axis=along) if average == "micro" else a for a in counts.arrays)
        is_empty = tp + fp + fn == 0
        each = special.divide(xp, *ratio(tp, fp, fn, tn), lambda: xp.where(is_empty, empty, xp.zeros_like(tp)))
        if average not in ("micro", None):
            weights = tp + fn if average == "weighted" else xp.astype(tp + fn != 0, each.dtype) if absent == "skip" else xp.ones_like(each)
            weights = xp.where(xp.sum(weights, axis=along, keepdims=True) == 0, xp.ones_like(weights), weights)
            weights = xp.where(is_empty, 0.0, weights) if empty != empty else weights
            total, whole = xp.sum(xp.where(weights == 0, 0.0, weights * each), axis=along), xp.sum(weights, axis=along)
            each = total / xp.where(whole == 0, float("nan"), whole)
        return xp.astype(each, dtype, copy=False)


def precision(counts: Parts, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0, axes: Axes = None) -> Array:
    """How much of what is called positive is so: TP / (TP + FP)."""
    return _metric(counts, average, absent, empty, axes, lambda tp, fp, fn, tn: (tp, tp + fp))


def recall(counts: Parts, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0, axes: Axes = None) -> Array:
    """How much of what is positive is called so: TP / (TP + FN). With `average="micro"` it is the accuracy of classes."""
    return _metric(counts, average, absent, empty, axes, lambda tp, fp, fn, tn: (tp, tp + fn))


def f_beta(
    counts: Parts, beta: float = 1.0, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0, axes: Axes = None
) -> Array:
    """Precision and recall in one number, recall beta times as important: (1 + b**2) TP / ((1 + b**2) TP + b**2 FN + FP).

    C. J. van Rijsbergen, Information Retrieval, 1979, chapter 7.
    """
    b = number("beta", beta, low=0) ** 2
    return _metric(counts, average, absent, empty, axes, lambda tp, fp, fn, tn: ((1 + b) * tp, (1 + b) * tp + b * fn + fp))


def f1(counts: Parts, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0, axes: Axes = None) -> Array:
    """The harmonic mean of precision and recall, which is Dice."""
    return f_beta(counts, 1.0, average=average, absent=absent, empty=empty, axes=axes)


def dice(counts: Parts, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0, axes: Axes = None) -> Array:
    """Twice the overlap over the sum of both: 2 TP / (2 TP + FP + FN)."""
    return f_beta(counts, 1.0, average=average, absent=absent, empty=empty, axes=axes)


def jaccard(counts: Parts, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0, axes: Axes = None) -> Array:
    """Intersection over union: TP / (TP + FP + FN)."""
    return _metric(counts, average, absent, empty, axes, lambda tp, fp, fn, tn: (tp, tp + fp + fn))


def accuracy(counts: Parts, *, average: Average = "macro", absent: Absent = "skip", empty: float = 1.0, axes: Axes = None) -> Array:
    """How much is called right: (TP + TN) / all. Of one class among several it is high for rare ones, whatever is predicted."""
    return _metric(counts, average, absent, empty, axes, lambda tp, fp, fn, tn: (tp + tn, tp + fp + fn + tn))
