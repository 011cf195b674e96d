"""The loss functions and classes of `keras.losses` (Keras 3.15) on every array library.

Functions return one loss for each sample, as there: most of them average over the last axis. Classes reduce it, with sample weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import arrayloss as al
from arrayloss.core import dtypes

from ._keras import Loss, Samples, class_of, preset
from ._preset import INTEGERS, Preset, Symbol, UnlikeError, adapter, as_floats, broadcast

Array = Any
EPSILON = 1e-7


def _ranks(y_true: Array, y_pred: Array) -> tuple[Array, Array]:
    """Targets of the dtype of the predictions; an axis of size 1 that one of the two has is taken away, or given to rows."""
    if dtypes.kind(y_pred.dtype) in INTEGERS:
        y_pred = adapter(y_pred).xp.astype(y_pred, adapter(y_pred).xp.float32)
    t, x = as_floats(y_true, y_pred), y_pred
    if t.ndim == x.ndim + 1 and t.shape[-1] == 1:
        return (t, adapter(x).xp.expand_dims(x, axis=-1)) if x.ndim == 1 else (t[..., 0], x)
    if x.ndim == t.ndim + 1 and x.shape[-1] == 1:
        return (adapter(t).xp.expand_dims(t, axis=-1), x) if t.ndim == 1 else (t, x[..., 0])
    return t, x


def _labels(t: Array) -> Array:
    """Labels that may be floating point."""
    return t if isinstance(t, Symbol) or dtypes.kind(t.dtype) in INTEGERS else adapter(t).xp.astype(t, adapter(t).xp.int64)


def _without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    axis %= len(shape)
    return tuple([n for i, n in enumerate(shape) if i != axis])


def _elements(loss: Any, y_true: Array, y_pred: Array, axis: int = -1, back: Any = None, scale: float = 1.0, **own: Any) -> Samples:
    """A loss of every entry, of which the mean over an axis is that of a sample."""
    t, x = broadcast(y_true, y_pred)
    return Samples(loss, (x, t), own, (), (back,), scale, shape=_without(x.shape, axis), mean_over=axis)


def _rows(loss: Any, y_true: Array, y_pred: Array, axis: int, back: Any = None, **own: Any) -> Samples:
    return Samples(loss, (y_pred, y_true), {"axis": axis, **own}, (), (back,), shape=_without(y_pred.shape, axis))


def _between(x: Array, low: float, high: float = float("inf")) -> tuple[Array, Callable[[Array], Array]]:
    """Numbers moved between bounds, and the way back of gradients: 0 where one was outside."""
    if isinstance(x, Symbol):
        return Symbol(f"clip({x}, {low:g}, {high:g})", x.shape), lambda g: g
    xp, is_low, is_high = adapter(x).xp, x < low, x > high
    return xp.where(is_low, low, xp.where(is_high, high, x)), lambda g: xp.where(is_low | is_high, 0.0, g)


@preset()
def mean_squared_error(y_true: Array, y_pred: Array) -> Samples:
    return _elements(al.squared_error, *_ranks(y_true, y_pred))


@preset()
def mean_absolute_error(y_true: Array, y_pred: Array) -> Samples:
    return _elements(al.absolute_error, *_ranks(y_true, y_pred))


@preset()
def mean_absolute_percentage_error(y_true: Array, y_pred: Array) -> Samples:
    return _elements(al.absolute_percentage_error, *_ranks(y_true, y_pred), scale=100.0, floor=EPSILON)


@preset()
def mean_squared_logarithmic_error(y_true: Array, y_pred: Array) -> Samples:
    t, x = _ranks(y_true, y_pred)
    x, back = _between(x, EPSILON)
    return _elements(al.squared_log_error, _between(t, EPSILON)[0], x, back=back)


@preset(differs="Keras does not divide by norms below 1e-7.")
def cosine_similarity(y_true: Array, y_pred: Array, axis: int = -1) -> Samples:
    t, x = broadcast(*_ranks(y_true, y_pred))
    call = _rows(al.cosine_distance, t, x, axis)
    call.shift = -1.0
    return call


@preset(shows=["delta=0.5"])
def huber(y_true: Array, y_pred: Array, delta: float = 1.0) -> Samples:
    return _elements(al.huber_loss, *_ranks(y_true, y_pred), delta=delta)


@preset()
def log_cosh(y_true: Array, y_pred: Array) -> Samples:
    return _elements(al.log_cosh_loss, *_ranks(y_true, y_pred))


def _signs(t: Array) -> Array:
    """Targets of a batch that are all 0 or 1 as -1 and 1."""
    if isinstance(t, Symbol):
        return t
    xp = adapter(t).xp
    return xp.where(xp.all((t == 0) | (t == 1)), 2.0 * t - 1.0, t)


@preset(differs="At the kink the slope is that of the active side; Keras has half of it, or none.")
def hinge(y_true: Array, y_pred: Array) -> Samples:
    t, x = _ranks(y_true, y_pred)
    return _elements(al.hinge_loss, _signs(t), x)


@preset()
def squared_hinge(y_true: Array, y_pred: Array) -> Samples:
    t, x = _ranks(y_true, y_pred)
    return _elements(al.squared_hinge_loss, _signs(t), x)


@preset(differs="The largest wrong score is at least 0, as there: the label stands for a 0 among the scores, and is one more class.")
def categorical_hinge(y_true: Array, y_pred: Array) -> Samples:
    t, x = _ranks(y_true, y_pred)
    if isinstance(x, Symbol):
        return _rows(
            al.multiclass_hinge_loss, Symbol("C", x.shape[:1]), Symbol("concat([(1 - y_true) * y_pred, sum(y_true * y_pred)])", x.shape), -1
        )
    xp = adapter(x).xp
    scores = xp.concat([(1 - t) * x, xp.sum(t * x, axis=-1, keepdims=True)], axis=-1)
    labels = xp.full_like(xp.astype(x[..., 0], xp.int64), x.shape[-1])
    return _rows(al.multiclass_hinge_loss, labels, scores, -1, lambda g: g[..., :-1] * (1 - t) + g[..., -1:] * t)


@preset()
def kl_divergence(y_true: Array, y_pred: Array) -> Samples:
    t, x = broadcast(*_ranks(y_true, y_pred))
    p, back = _between(x, EPSILON, 1)
    return _rows(al.kl_divergence, _between(t, EPSILON, 1)[0], p, -1, back, given="probs", targets_given="probs")


@preset()
def poisson(y_true: Array, y_pred: Array) -> Samples:
    t, x = _ranks(y_true, y_pred)
    call = _elements(al.poisson_nll_loss, t, x + EPSILON, given="rate")
    call.shift = -EPSILON
    return call


def _check_axis(axis: Any) -> None:
    if isinstance(axis, bool):
        raise ValueError(f"axis must be an integer; got {axis}")


CLIPPED: dict[str, Any] = {"given": "probs", "clip": EPSILON}
NORMALIZED: dict[str, Any] = {**CLIPPED, "renormalize": True}


def _smoothed(t: Array, axis: int, smoothing: float) -> tuple[Array, dict[str, Any]]:
    """Targets and the option of label smoothing: by the number of classes, for which Keras takes the size of the last axis."""
    if not smoothing or axis in (-1, t.ndim - 1):
        return t, {"label_smoothing": smoothing}
    return t * (1.0 - smoothing) + smoothing / t.shape[-1], {}


@preset(shows=["from_logits=True, label_smoothing=0.1"], differs="A softmax of one class is refused.")
def categorical_crossentropy(
    y_true: Array, y_pred: Array, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Samples:
    _check_axis(axis)
    t, x = _ranks(y_true, y_pred)
    _same_shape(t, x)
    t, own = _smoothed(t, axis, label_smoothing)
    return _rows(al.softmax_cross_entropy, t, x, axis, **own) if from_logits else _rows(al.nll_loss, t, x, axis, **own, **NORMALIZED)


@preset(labels=["y_true"], shows=["from_logits=True, ignore_class=255"], differs="Labels out of range are refused.")
def sparse_categorical_crossentropy(
    y_true: Array, y_pred: Array, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Samples:
    t = _labels(y_true)
    if t.ndim == y_pred.ndim and t.shape[axis] == 1:
        t = adapter(t).xp.squeeze(t, axis=axis)
    own = {"ignore_index": None if ignore_class is None else int(ignore_class)}
    return (
        _rows(al.softmax_cross_entropy, t, y_pred, axis, **own) if from_logits else _rows(al.nll_loss, t, y_pred, axis, **own, **NORMALIZED)
    )


@preset(shows=["from_logits=True, label_smoothing=0.1"], differs="Targets below 0 or above 1 are refused.")
def binary_crossentropy(y_true: Array, y_pred: Array, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1) -> Samples:
    t, x = _ranks(y_true, y_pred)
    _same_shape(t, x)
    if from_logits:
        return _elements(al.sigmoid_cross_entropy, t, x, axis, label_smoothing=label_smoothing)
    return _elements(al.binary_cross_entropy, t, x, axis, label_smoothing=label_smoothing, clip=EPSILON)


def _same_shape(t: Array, x: Array) -> None:
    if tuple(t.shape) != tuple(x.shape):
        raise ValueError(f"y_true and y_pred must have the same shape; got {tuple(t.shape)} and {tuple(x.shape)}")


@preset(
    shows=["from_logits=True, apply_class_balancing=True"],
    differs="From logits nothing is clipped; Keras clips probabilities within 1e-7 of 0 and 1. There the focal factor is clipped too.",
)
def binary_focal_crossentropy(
    y_true: Array,
    y_pred: Array,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Samples:
    t, x = _ranks(y_true, y_pred)
    _same_shape(t, x)
    own: dict[str, Any] = {"alpha": alpha if apply_class_balancing else None, "gamma": gamma, "label_smoothing": label_smoothing}
    return _elements(al.sigmoid_focal_loss, t, x, axis, **own, **({} if from_logits else CLIPPED))


@preset(
    shows=["alpha=1.0, from_logits=True"],
    differs="From logits nothing is clipped; Keras clips probabilities within 1e-7 of 0 and 1.",
)
def categorical_focal_crossentropy(
    y_true: Array,
    y_pred: Array,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Samples:
    _check_axis(axis)
    t, x = _ranks(y_true, y_pred)
    _same_shape(t, x)
    t, own = _smoothed(t, axis, label_smoothing)
    own |= {"gamma": gamma} | ({} if from_logits else NORMALIZED)
    if isinstance(alpha, (int, float)):
        call = _rows(al.softmax_focal_loss, t, x, axis, **own)
        call.scale = alpha
        return call
    return _rows(al.softmax_focal_loss, t, x, axis, alpha=alpha, **own)


@preset(
    labels=["y_true"],
    differs="A target that no alignment has a probability for has the loss inf; Keras has 1e5 for each step that is missing.",
)
def ctc(y_true: Array, y_pred: Array) -> Samples:
    if isinstance(y_pred, Symbol):
        return Samples(al.ctc_loss, (y_pred, y_true, Symbol("T"), Symbol("sum(y_true != 0)")), dict(_CTC), shape=y_pred.shape[:1])
    if y_true.ndim != 2 or y_pred.ndim != 3:
        raise ValueError(f"y_true must have shape (N, S) and y_pred (N, T, C); got {tuple(y_true.shape)} and {tuple(y_pred.shape)}")
    xp = adapter(y_true).xp
    t = _labels(y_true)
    lengths = xp.sum(xp.astype(t != 0, xp.int64), axis=-1)
    frames = xp.full_like(lengths, y_pred.shape[1])
    return Samples(al.ctc_loss, (y_pred, t, frames, lengths), dict(_CTC), shape=tuple(y_pred.shape[:1]))


_CTC = {"given": "logits", "time_axis": 1, "batch_axis": 0}


def _regions(y_true: Array, y_pred: Array, axis: Any, column: tuple[float, float], alpha: float, beta: float) -> Samples:
    """Overlaps of the entries along some axes, with one more entry, (prediction, target): that is how epsilon stands below the line."""
    t, x = broadcast(*_ranks(y_true, y_pred))
    own = {"activation": None, "pool_axes": -1, "alpha": alpha, "beta": beta, "smooth": 0.0}
    if isinstance(x, Symbol):
        return Samples(al.tversky_loss, [Symbol(f"concat([{a}, {c:g}])", x.shape) for a, c in zip((x, t), column, strict=True)], own)
    xp, ndim = adapter(x).xp, x.ndim
    axes = tuple(range(ndim)) if axis is None else tuple([a % ndim for a in (axis if isinstance(axis, (tuple, list)) else (axis,))])
    order = (*[i for i in range(ndim) if i not in axes], *axes)
    shape = tuple([x.shape[i] for i in order])
    rest = shape[: ndim - len(axes)]
    arrays = []
    for a, c in zip((x, t), column, strict=True):
        a = xp.reshape(xp.permute_dims(a, order), (*rest, -1))
        arrays.append(xp.concat([a, xp.full_like(a[..., :1], c)], axis=-1))

    def back(g: Array) -> Array:
        return xp.permute_dims(xp.reshape(g[..., :-1], shape), tuple([order.index(i) for i in range(ndim)]))

    return Samples(al.tversky_loss, arrays, own, (), (back,), shape=rest)


@preset(shows=["axis=(1, 2)"])
def dice(y_true: Array, y_pred: Array, axis: Any = None) -> Samples:
    return _regions(y_true, y_pred, axis, (EPSILON, 0.0), 0.5, 0.5)


@preset(shows=["alpha=0.3, beta=0.7"], differs="The weight of false positives is `beta` there, that of false negatives `alpha`.")
def tversky(y_true: Array, y_pred: Array, alpha: float = 0.5, beta: float = 0.5, axis: Any = None) -> Samples:
    column = (EPSILON / beta, 0.0) if beta else (0.0, EPSILON / alpha)
    return _regions(y_true, y_pred, axis, column, beta, alpha)


@preset(labels=["y_true"], differs="Similarities above 1, of vectors longer than 1, are not cut off; Keras does so.")
def circle(
    y_true: Array,
    y_pred: Array,
    ref_labels: Array | None = None,
    ref_embeddings: Array | None = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> Samples:
    if (ref_embeddings is None) != bool(remove_diagonal) or (ref_labels is None) != (ref_embeddings is None):
        raise UnlikeError(
            "remove_diagonal must be True without ref_labels and ref_embeddings, and False with them: an anchor is no key of its own"
        )
    own = {"gamma": gamma, "margin": margin, "constant_weights": False, "normalize": False}
    labels = y_true if isinstance(y_true, Symbol) else adapter(y_true).xp.reshape(_labels(y_true), (-1,))
    if ref_embeddings is not None:
        own |= {"keys": ref_embeddings, "key_labels": adapter(ref_labels).xp.reshape(_labels(ref_labels), (-1,))}
    call = Samples(al.circle_loss, (y_pred, labels), own, shape=tuple(y_pred.shape[:1]))
    call.counts_above_0 = True
    return call


@preset(labels=["y_true"])
def categorical_generalized_cross_entropy(y_true: Array, y_pred: Array, q: float) -> Samples:
    return _rows(al.generalized_cross_entropy, _labels(y_true), y_pred, -1, given="probs", q=q)


MeanSquaredError = class_of("MeanSquaredError", mean_squared_error)
MeanAbsoluteError = class_of("MeanAbsoluteError", mean_absolute_error)
MeanAbsolutePercentageError = class_of("MeanAbsolutePercentageError", mean_absolute_percentage_error)
MeanSquaredLogarithmicError = class_of("MeanSquaredLogarithmicError", mean_squared_logarithmic_error)
CosineSimilarity = class_of("CosineSimilarity", cosine_similarity, "axis reduction name dtype")
Huber = class_of("Huber", huber, "delta reduction name dtype", name="huber_loss")
LogCosh = class_of("LogCosh", log_cosh)
Hinge = class_of("Hinge", hinge)
SquaredHinge = class_of("SquaredHinge", squared_hinge)
CategoricalHinge = class_of("CategoricalHinge", categorical_hinge)
KLDivergence = class_of("KLDivergence", kl_divergence)
Poisson = class_of("Poisson", poisson)
BinaryCrossentropy = class_of("BinaryCrossentropy", binary_crossentropy, "from_logits label_smoothing axis reduction name dtype")
BinaryFocalCrossentropy = class_of(
    "BinaryFocalCrossentropy",
    binary_focal_crossentropy,
    "apply_class_balancing alpha gamma from_logits label_smoothing axis reduction name dtype",
)
CategoricalCrossentropy = class_of(
    "CategoricalCrossentropy", categorical_crossentropy, "from_logits label_smoothing axis reduction name dtype"
)
CategoricalFocalCrossentropy = class_of(
    "CategoricalFocalCrossentropy", categorical_focal_crossentropy, "alpha gamma from_logits label_smoothing axis reduction name dtype"
)
SparseCategoricalCrossentropy = class_of(
    "SparseCategoricalCrossentropy", sparse_categorical_crossentropy, "from_logits ignore_class reduction axis name dtype"
)
CTC = class_of("CTC", ctc)
Dice = class_of("Dice", dice, "reduction name axis dtype")
Tversky = class_of("Tversky", tversky, "alpha beta reduction name axis dtype")
Circle = class_of("Circle", circle, "gamma margin remove_diagonal reduction name dtype", gamma=80.0)
CategoricalGeneralizedCrossEntropy = class_of(
    "CategoricalGeneralizedCrossEntropy", categorical_generalized_cross_entropy, "q reduction name dtype", q=0.5
)

LOSSES = {name: value for name, value in list(globals().items()) if isinstance(value, Preset)}
CLASSES = {
    name: value for name, value in list(globals().items()) if isinstance(value, type) and issubclass(value, Loss) and value is not Loss
}
__all__ = list(LOSSES)
__all__ += list(CLASSES)
