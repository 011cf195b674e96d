"""Losses of one choice among several classes: cross-entropy, negative log-likelihood, focal loss; and one-hot arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from arrayloss.core import dtypes, special
from arrayloss.core.call import Call
from arrayloss.core.check import choice, is_boolean, normal_axis, number
from arrayloss.core.inputs import Inputs
from arrayloss.core.loss import loss
from arrayloss.core.namespace import backend_of
from arrayloss.core.operation import Kernel, Labels, Slot

Array = Any


def _weight_of_label(xp: Any, x: Array, t: Array, class_weights: Array, axis: int) -> Array:
    """The weight of the class that a label names, the class axis kept."""
    return special.at_label(xp, xp.broadcast_to(class_weights, x.shape), t, axis)


def _weight_of_distribution(xp: Any, t: Array, class_weights: Array, axis: int) -> Array:
    """The mean weight of the classes under a target distribution, the class axis kept."""
    return xp.sum(t * class_weights, axis=axis, keepdims=True)


def _expected(xp: Any, target: Array, loss: Array, axis: int) -> Array:
    """The sum over the classes of target * loss, where a class of no weight may have an infinite loss."""
    return xp.sum(special.product(xp, target, loss), axis=axis, keepdims=True)


def _cross_entropy_of_labels(xp: Any, x: Array, t: Array, class_weights: Any, axis: int) -> Iterator[Array]:
    loss, slope, _ = special.softmax_at_label(xp, x, t, axis)
    scale = None if class_weights is None else _weight_of_label(xp, x, t, class_weights, axis)
    yield loss if scale is None else scale * loss
    yield slope if scale is None else scale * slope
    _, p, q, _ = special.softmax_pair(xp, x, axis)  # 1 - p of every class, for the wrong ones that are certain
    yield p * q if scale is None else scale * p * q


def _cross_entropy_of_smoothed_labels(xp: Any, x: Array, t: Array, class_weights: Any, smoothing: float, axis: int) -> Iterator[Array]:
    top, p, q, loss = special.softmax_pair(xp, x, axis)
    weights = xp.ones_like(p) if class_weights is None else xp.broadcast_to(class_weights, x.shape)
    base = smoothing / x.shape[axis] * weights
    at_label = (1 - smoothing) * special.at_label(xp, weights, t, axis)
    yield at_label * special.at_label(xp, loss, t, axis) + _expected(xp, base, loss, axis)
    target = special.with_label(xp, base, t, special.at_label(xp, base, t, axis) + at_label, axis)
    yield special.softmax_pull(xp, top, p, q, target, axis)
    yield xp.sum(target, axis=axis, keepdims=True) * p * q


def _cross_entropy_of_distribution(xp: Any, x: Array, t: Array, class_weights: Any, smoothing: float, axis: int) -> Iterator[Array]:
    top, p, q, loss = special.softmax_pair(xp, x, axis)
    target = (1 - smoothing) * t + smoothing / x.shape[axis] if smoothing else t
    if class_weights is not None:
        target = class_weights * target
    yield _expected(xp, target, loss, axis)
    yield special.softmax_pull(xp, top, p, q, target, axis)
    yield xp.sum(target, axis=axis, keepdims=True) * p * q


@loss
def softmax_cross_entropy(
    logits: Array,
    targets: Array,
    *,
    class_weights: Any = None,
    label_smoothing: float = 0.0,
    axis: int | None = None,
    ignore_index: int | tuple[int, ...] | None = None,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
    reduce_axes: int | tuple[int, ...] | None = None,
    normalizer: Any = "weights",
) -> Call:
    """Cross-entropy of one choice among C classes, from logits: multi-class classification and segmentation.

    .. code-block:: text

        loss = sum over c of t_c * w_c * (log(sum over j of exp(x_j)) - x_c)

    Parameters
    ----------
    logits : array, floating point, with C >= 1 entries along `axis`
        A single row is fine. -inf takes a class out; a target that names it has an infinite loss.
    targets : array
        Labels: integers from 0 to C - 1, the shape of `logits` without the class axis or with it at size 1. Or a distribution:
        the shape of `logits`, one-hot or soft, used as it is (it need not sum to 1).
    class_weights : one number >= 0 per class
        w_c. It counts in the denominator of the mean too, for labels and distributions alike.
    label_smoothing : number from 0 to 1
        e in t' = (1 - e) * t + e / C. The denominator of the mean is taken from t, as in PyTorch.
    axis : int
        The class axis; the last by default. It must be named where a wrong guess would be silent: for distributions of three
        and more dimensions, and for labels that fit both axis 1 and axis -1.
    weights, where, ignore_index, reduction, reduce_axes, normalizer
        See `arrayloss.losses`.

    Returns
    -------
    array
        0-d, or what `reduce_axes` leaves, or the shape of `logits` without the class axis with `reduction="none"`.

    Notes
    -----
    Gradient: softmax(x) - t for t that sums to 1, finite everywhere, with all its digits on confident rows. The Hessian diagonal is
    p * (1 - p).

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import softmax_cross_entropy
    >>> softmax_cross_entropy(np.array([[2.0, 1.0, 0.0], [0.0, 40.0, 0.0]]), np.array([0, 1]), reduction="none")
    array([4.07605964e-01, 8.49670851e-18])

    References
    ----------
    C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.108. Label smoothing: C. Szegedy et al.,
    Rethinking the Inception Architecture for Computer Vision, CVPR 2016, section 7.
    """
    inputs = Inputs(logits=logits)
    t, hard = inputs.class_targets(targets, axis, ignore_index)
    w = inputs.per_class("class_weights", class_weights, scalar=False)
    e = number("label_smoothing", label_smoothing, low=0, high=1)
    kernel: Kernel = _cross_entropy_of_smoothed_labels if hard else _cross_entropy_of_distribution
    options: tuple[Any, ...] = (e,)
    if hard and not e:
        kernel, options = _cross_entropy_of_labels, ()
    return inputs.call(
        kernel,
        t,
        w,
        *options,
        inputs.classes,
        mass=_class_mass(inputs, t, hard, w),
        from_softmax=True,
        weights=weights,
        where=where,
        reduction=reduction,
        reduce_axes=reduce_axes,
        normalizer=normalizer,
    )


def _class_mass(inputs: Inputs, t: Any, hard: bool, class_weights: Any) -> tuple[Any, ...] | None:
    """What an element counts in a mean: sum over c of t_c * w_c, with t before smoothing."""
    if class_weights is None:
        return None
    if hard:
        return (_weight_of_label, inputs.prediction, t, class_weights, inputs.classes)
    return (_weight_of_distribution, t, class_weights, inputs.classes)


cross_entropy = softmax_cross_entropy


def _nll_of_labels(xp: Any, x: Array, t: Array, class_weights: Any, logs: bool, axis: int) -> Iterator[Array]:
    x_y = special.at_label(xp, x, t, axis)
    weight = xp.ones_like(x_y) if class_weights is None else _weight_of_label(xp, x, t, class_weights, axis)
    nothing = xp.zeros_like(x)
    yield -weight * (x_y if logs else xp.log(x_y))
    yield special.with_label(xp, nothing, t, -weight if logs else -weight / x_y, axis)
    # no quotient of a quotient, of which a compiler may make one by a square that underflows
    yield nothing if logs else special.with_label(xp, nothing, t, (weight / x_y) * (1 / x_y), axis)


def _nll_of_distribution(
    xp: Any, x: Array, t: Array, class_weights: Any, logs: bool, axis: int, smoothing: float, hard: bool
) -> Iterator[Array]:
    base = smoothing / x.shape[axis]
    target = special.with_label(xp, xp.full_like(x, base), t, base + 1 - smoothing, axis) if hard else (1 - smoothing) * t + base
    if class_weights is not None:
        target = class_weights * target
    if logs:
        yield -_expected(xp, target, x, axis)
        yield -target
        yield xp.zeros_like(target)
    else:
        yield -xp.sum(special.xlogy(xp, target, x), axis=axis, keepdims=True)
        slope = -special.ratio(xp, target, x, zero_over_zero=0.0)
        yield slope
        yield -special.ratio(xp, slope, x, zero_over_zero=0.0)


@loss
def nll_loss(
    predictions: Array,
    targets: Array,
    *,
    given: str = "log_probs",
    class_weights: Any = None,
    label_smoothing: float = 0.0,
    axis: int | None = None,
    ignore_index: int | tuple[int, ...] | None = None,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
    reduce_axes: int | tuple[int, ...] | None = None,
    normalizer: Any = "weights",
) -> Call:
    """Negative log-likelihood of one choice among C classes, from log-probabilities or probabilities.

    .. code-block:: text

        loss = -sum over c of t_c * w_c * log(p_c)

    Parameters
    ----------
    predictions : array, floating point, with C >= 1 entries along `axis`
        Log-probabilities, or probabilities with `given="probs"`. Neither clipped nor renormalised: p = 0 at the target is inf.
    targets : array
        Labels: integers from 0 to C - 1, the shape of `predictions` without the class axis or with it at size 1. Or a
        distribution: the shape of `predictions`, one-hot or soft, used as it is.
    given : "log_probs" or "probs"
        What the predictions are.
    class_weights : one number >= 0 per class
        w_c. It counts in the denominator of the mean too.
    label_smoothing : number from 0 to 1
        e in t' = (1 - e) * t + e / C.
    axis : int
        The class axis; the last by default, and to be named as for `softmax_cross_entropy`.
    weights, where, ignore_index, reduction, reduce_axes, normalizer
        See `arrayloss.losses`.

    Returns
    -------
    array
        0-d, or what `reduce_axes` leaves, or the shape of `predictions` without the class axis with `reduction="none"`.

    Notes
    -----
    Gradient: -t * w for log-probabilities; -t * w / p for probabilities, finite except where the loss is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import nll_loss
    >>> probs = np.array([[0.7, 0.2, 0.1], [0.1, 0.0, 0.9]])
    >>> print(f"{nll_loss(probs, np.array([0, 2]), given='probs'):.4f}")
    0.2310

    References
    ----------
    C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.108.
    """
    inputs = Inputs(predictions=predictions)
    logs = choice("given", given, {"log_probs": True, "probs": False})
    t, hard = inputs.class_targets(targets, axis, ignore_index)
    w = inputs.per_class("class_weights", class_weights, scalar=False)
    e = number("label_smoothing", label_smoothing, low=0, high=1)
    kernel: Kernel = _nll_of_labels if hard and not e else _nll_of_distribution
    options: tuple[Any, ...] = () if hard and not e else (e, hard)
    return inputs.call(
        kernel,
        t,
        w,
        logs,
        inputs.classes,
        *options,
        mass=_class_mass(inputs, t, hard, w),
        weights=weights,
        where=where,
        reduction=reduction,
        reduce_axes=reduce_axes,
        normalizer=normalizer,
    )


def _softmax_focal_of_labels(xp: Any, x: Array, t: Array, gamma: Any, alpha: Any, axis: int) -> Iterator[Array]:
    ce, slope, q = special.softmax_at_label(xp, x, t, axis)
    scale = special.power(xp, q, gamma)
    if alpha is not None:
        scale = scale * _weight_of_label(xp, x, t, alpha, axis)
    yield scale * ce
    hit = xp.exp(-ce)  # p at the label: where that is small, 1 - q has lost its digits
    # d (scale * ce) / d ce; with ce as a function of q, ce / q is 1 at q = 0
    yield scale * (1 + gamma * hit * special.ratio(xp, ce, q, zero_over_zero=1.0)) * slope
    push = q + gamma * hit * ce  # two terms of one sign
    share = special.ratio(xp, special.with_label(xp, slope, t, 0.0, axis), q, zero_over_zero=0.0)  # of what is beside the target
    _, _, rest, _ = special.softmax_pair(xp, x, axis)
    bend = gamma * hit * (2 * q - ce * (q - (gamma - 1) * hit))
    yield scale * special.with_label(xp, share * (bend * share + push * rest), t, bend + push * hit, axis)


def _softmax_focal_of_distribution(xp: Any, x: Array, t: Array, gamma: Any, alpha: Any, axis: int) -> Iterator[Array]:
    top, p, q, ce = special.softmax_pair(xp, x, axis)
    scale = special.power(xp, q, gamma) * (t if alpha is None else alpha * t)
    yield _expected(xp, scale, ce, axis)
    pull = scale * (1 + gamma * special.product(xp, p, special.ratio(xp, ce, q, zero_over_zero=1.0)))
    yield special.softmax_pull(xp, top, p, q, pull, axis)


def _softmax_focal_of_probs(xp: Any, p: Array, t: Array, gamma: Any, alpha: Any, axis: int, hard: bool) -> Iterator[Array]:
    if hard:
        p_y = special.at_label(xp, p, t, axis)
        weight = xp.ones_like(p_y) if alpha is None else _weight_of_label(xp, p, t, alpha, axis)
    else:
        p_y, weight = p, t if alpha is None else alpha * t
    q = 1 - p_y
    scale = weight * special.power(xp, q, gamma)
    ce = -xp.log(p_y)
    yield xp.sum(special.product(xp, scale, ce), axis=axis, keepdims=True)
    # -log(p) / (1 - p) is 1 at p = 1; a class that is no target has no slope, even where p is 0 (nor a second one: no 1 / p alone)
    fading = special.product(xp, scale, gamma * special.ratio(xp, ce, q, zero_over_zero=1.0))
    slope = -(fading + special.ratio(xp, scale, p_y, zero_over_zero=0.0))
    yield special.with_label(xp, xp.zeros_like(p), t, slope, axis) if hard else slope


@loss
def softmax_focal_loss(
    predictions: Array,
    targets: Array,
    *,
    gamma: Any = 2.0,
    alpha: Any = None,
    given: str = "logits",
    axis: int | None = None,
    ignore_index: int | tuple[int, ...] | None = None,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
    reduce_axes: int | tuple[int, ...] | None = None,
    normalizer: Any = "weights",
) -> Call:
    """Cross-entropy of one choice among C classes in which easy elements count less.

    .. code-block:: text

        loss = -sum over c of t_c * alpha_c * (1 - p_c)**gamma * log(p_c),   p = softmax(x)

    Parameters
    ----------
    predictions : array, floating point, with C >= 1 entries along `axis`
        Logits, or probabilities with `given="probs"` (neither clipped nor renormalised).
    targets : array
        Labels: integers from 0 to C - 1, the shape of `predictions` without the class axis or with it at size 1. Or a
        distribution: the shape of `predictions`, one-hot or soft, used as it is; every class then fades by its own p_c.
    gamma : number >= 0, or 0-d array
        How fast easy elements fade. 0 is cross-entropy; fractions are fine. An array may be traced and differentiated.
    alpha : one number >= 0 per class
        Factor of a class; it scales the loss, never the denominator of the mean. A single number is an error, since libraries
        disagree on what it means.
    given : "logits" or "probs"
        What the predictions are.
    axis : int
        The class axis; the last by default, and to be named as for `softmax_cross_entropy`.
    weights, where, ignore_index, reduction, reduce_axes, normalizer
        See `arrayloss.losses`.

    Returns
    -------
    array
        0-d, or what `reduce_axes` leaves, or the shape of `predictions` without the class axis with `reduction="none"`.

    Notes
    -----
    Gradient from logits: finite everywhere, for fractions of gamma too. From probabilities it is infinite where the loss is.
    The Hessian diagonal is defined for labels and logits.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import softmax_focal_loss
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
    >>> softmax_focal_loss(logits, np.array([0, 1]), gamma=2.0, reduction="none").round(6)
    array([0.045678, 0.000778])

    References
    ----------
    T.-Y. Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5, with the softmax of section 3.
    """
    inputs = Inputs(predictions=predictions)
    logits = choice("given", given, {"logits": True, "probs": False})
    t, hard = inputs.class_targets(targets, axis, ignore_index)
    kernel: Kernel = _softmax_focal_of_probs
    options: tuple[Any, ...] = (hard,)
    if logits:
        kernel, options = _softmax_focal_of_labels if hard else _softmax_focal_of_distribution, ()
    return inputs.call(
        kernel,
        t,
        inputs.parameter("gamma", gamma, low=0),
        inputs.per_class("alpha", alpha, scalar=False),
        inputs.classes,
        *options,
        from_softmax=logits,
        weights=weights,
        where=where,
        reduction=reduction,
        reduce_axes=reduce_axes,
        normalizer=normalizer,
    )


def one_hot(labels: Array, num_classes: int, axis: int = -1, dtype: Any = None) -> Array:
    """Labels as rows with a single 1.

    Parameters
    ----------
    labels : array of integers from 0 to `num_classes` - 1, any shape
    num_classes : int >= 1
    axis : int
        Where the class axis goes, counted in the result.
    dtype : dtype of the library
        float32 by default.

    Returns
    -------
    array
        The shape of `labels` with an axis of size `num_classes` inserted. A label out of range raises `ValueError` where labels
        can be read for free (NumPy, PyTorch on the CPU); elsewhere its row is NaN, so the dtype must be floating point there.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import one_hot
    >>> one_hot(np.array([2, 0]), 3)
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    backend = backend_of(labels, "labels")
    labels = backend.accept(labels, labels, "labels")
    xp = backend.xp
    if dtypes.kind(labels.dtype) not in ("integer", "bool"):
        raise TypeError(f"labels must be integers; got {dtypes.name(labels.dtype)}")
    if not hasattr(num_classes, "__index__") or is_boolean(num_classes) or int(num_classes) < 1:
        raise ValueError(f"num_classes must be an integer of at least 1; got {num_classes!r}")
    num_classes, axis = int(num_classes), normal_axis("axis", axis, labels.ndim + 1)
    dtype = xp.float32 if dtype is None else dtype
    rule = Labels(Slot(0), num_classes)
    readable = backend.reads_labels(labels)
    if readable:
        rule.check(xp, labels)
    elif dtypes.kind(dtype) not in ("half", "float"):
        raise TypeError(f"dtype must be floating point where labels are not read, so that a wrong one can be NaN; got {dtypes.name(dtype)}")
    rows = xp.expand_dims(labels, axis=axis)
    valid = None if readable else rule.valid(rows)
    like = xp.broadcast_to(rows, (*labels.shape[:axis], num_classes, *labels.shape[axis:]))
    hot = xp.astype(special.positions(xp, like, axis) == special.as_index(xp, rows), dtype)
    return hot if valid is None else xp.where(valid, hot, float("nan"))
