"""The losses of optax 0.2.8 on every array library."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NoReturn

import arrayloss as al
from arrayloss.core import dtypes

from ._preset import INTEGERS, Library, Native, Preset, Symbol, UnlikeError, adapter, as_floats, broadcast, readable

Array = Any
Axes = int | tuple[int, ...] | None
Back = Callable[[Array], Array] | None
preset = Library("optax.losses", "optax 0.2.8")
NONE = {"reduction": "none"}


def _elementwise(loss: Any, predictions: Array, targets: Array | None, scale: float = 1.0, **own: Any) -> Native:
    """Without targets the predictions are errors."""
    if targets is None:
        text = isinstance(predictions, Symbol)
        targets = Symbol("0", predictions.shape) if text else adapter(predictions).xp.zeros_like(predictions)
    x, t = broadcast(predictions, targets)
    return Native(loss, (x, t), {**own, **NONE}, (predictions,), scale=scale)


def _check_same_shape(a: Array, b: Array) -> None:
    if tuple(a.shape) != tuple(b.shape):
        raise ValueError(f"predictions and targets must have one shape; got {tuple(a.shape)} and {tuple(b.shape)}")


@preset()
def squared_error(predictions: Array, targets: Array | None = None) -> Native:
    if targets is not None:
        _check_same_shape(predictions, targets)
    return _elementwise(al.squared_error, predictions, targets)


@preset()
def l2_loss(predictions: Array, targets: Array | None = None) -> Native:
    if targets is not None:
        _check_same_shape(predictions, targets)
    return _elementwise(al.squared_error, predictions, targets, scale=0.5)


@preset(shows=["delta=0.5"])
def huber_loss(predictions: Array, targets: Array | None = None, *, delta: Any = 1.0) -> Native:
    return _elementwise(al.huber_loss, predictions, targets, delta=delta)


@preset()
def log_cosh(predictions: Array, targets: Array | None = None) -> Native:
    return _elementwise(al.log_cosh_loss, predictions, targets)


def _joined(axis: Axes, *arrays: Array) -> tuple[int, tuple[Array, ...], Back]:
    """Arrays of one shape with several axes made one, the last; its place, and the way back of gradients."""
    ndim, xp = arrays[0].ndim, adapter(arrays[0]).xp
    axes = (axis,) if isinstance(axis, int) else tuple(range(ndim)) if axis is None else axis
    if len(axes) == 1:
        return axes[0], arrays, None
    axes = tuple([a % ndim for a in axes])
    order = (*[i for i in range(ndim) if i not in axes], *axes)
    shape = tuple([arrays[0].shape[i] for i in order])
    joined = tuple([xp.reshape(xp.permute_dims(a, order), (*shape[: ndim - len(axes)], -1)) for a in arrays])
    return -1, joined, lambda g: xp.permute_dims(xp.reshape(g, shape), tuple([order.index(i) for i in range(ndim)]))


def _back(joined: Back, where: Array | None) -> tuple[Back]:
    """The way back of a gradient, which is 0 where entries do not count."""
    if where is None:
        return (joined,)
    return (lambda g: adapter(g).xp.where(where, g if joined is None else joined(g), 0.0),)


def _with_zeros(where: Array | None, *arrays: Array) -> tuple[Array, ...]:
    """Vectors without the entries that do not count."""
    return arrays if where is None else tuple([adapter(a).xp.where(where, a, 0.0) for a in arrays])


def _cosine(predictions: Array, targets: Array, epsilon: Any, axis: Axes, where: Array | None, scale: float, shift: float) -> Native:
    if not isinstance(epsilon, (int, float)) or epsilon:
        raise UnlikeError("epsilon must be 0: it replaces squared norms below it, and what is here has the exact angle of any vectors")
    x, t = broadcast(predictions, as_floats(targets, predictions))
    x, t = _with_zeros(where, x, t)
    axis, arrays, back = _joined(axis, x, t)
    return Native(al.cosine_distance, arrays, {"axis": axis, **NONE}, (predictions,), _back(back, where), scale=scale, shift=shift)


@preset(differs="`epsilon` must be 0; a vector of 0 has the similarity 0, where optax has NaN.")
def cosine_similarity(predictions: Array, targets: Array, *, epsilon: Any = 0.0, axis: Axes = -1, where: Array | None = None) -> Native:
    return _cosine(predictions, targets, epsilon, axis, where, -1.0, 1.0)


@preset(differs="`epsilon` must be 0; a vector of 0 has the distance 1, where optax has NaN.")
def cosine_distance(predictions: Array, targets: Array, *, epsilon: Any = 0.0, axis: Axes = -1, where: Array | None = None) -> Native:
    return _cosine(predictions, targets, epsilon, axis, where, 1.0, 0.0)


@preset(differs="Targets below 0 or above 1 are refused.")
def sigmoid_binary_cross_entropy(logits: Array, labels: Array) -> Native:
    x, t = broadcast(logits, as_floats(labels, logits))
    return Native(al.sigmoid_cross_entropy, (x, t), NONE, (logits,))


@preset(shows=["alpha=0.25, gamma=1.5"], differs="Targets below 0 or above 1 are refused.")
def sigmoid_focal_loss(logits: Array, labels: Array, *, alpha: Any = None, gamma: Any = 2.0) -> Native:
    x, t = broadcast(logits, as_floats(labels, logits))
    return Native(al.sigmoid_focal_loss, (x, t), {"alpha": alpha, "gamma": gamma, **NONE}, (logits,))


@preset(differs="At the kink the slope is that of the active side; optax has half.")
def hinge_loss(predictor_outputs: Array, targets: Array) -> Native:
    x, t = broadcast(predictor_outputs, as_floats(targets, predictor_outputs))
    return Native(al.hinge_loss, (x, t), NONE, (predictor_outputs,))


@preset(differs="At the kink the slope is that of the active side; optax has half.")
def perceptron_loss(predictor_outputs: Array, targets: Array) -> Native:
    _check_same_shape(predictor_outputs, targets)
    return Native(al.perceptron_loss, (predictor_outputs, as_floats(targets, predictor_outputs)), NONE)


@preset()
def sparsemax_loss(logits: Array, labels: Array) -> Native:
    x, t = broadcast(logits, labels)
    signs = t if isinstance(t, Symbol) else t != 0
    return Native(al.smooth_hinge_loss, (x, signs), {"smoothing": 2.0, **NONE}, (logits,))


def _in_softmax(x: Array, axis: Axes, where: Array | None) -> tuple[Array, Array | None, Array | None]:
    """Logits of which entries that do not count are out, which entries count, and rows that have one (None: all)."""
    if where is None:
        return x, None, None
    xp = adapter(x).xp
    where = where if where.ndim == x.ndim else xp.expand_dims(where, axis=axis)
    where = broadcast(where, x)[0]
    has = xp.any(where, axis=axis, keepdims=True)
    return xp.where(where | ~has, x, -float("inf")), where, has  # a row without entries is masked as a whole: it must not become NaN


def _softmax(loss: Any, logits: Array, labels: Array, axis: Axes, where: Array | None, **own: Any) -> Native:
    x, t = broadcast(logits, as_floats(labels, logits))
    x, where, has = _in_softmax(x, axis, where)
    (t,) = _with_zeros(where, t)
    axis, arrays, back = _joined(axis, x, t)
    own |= {} if has is None else {"where": adapter(has).xp.reshape(has, (*arrays[0].shape[:-1], 1)) if axis == -1 else has}
    return Native(loss, arrays, {"axis": axis, **own, **NONE}, (logits,), _back(back, where))


@preset(shows=["axis=1"], differs="A logit of -inf of a class whose target is 0 counts 0, where optax has NaN.")
def softmax_cross_entropy(logits: Array, labels: Array, axis: Axes = -1, where: Array | None = None) -> Native:
    return _softmax(al.softmax_cross_entropy, logits, labels, axis, where)


@preset()
def safe_softmax_cross_entropy(logits: Array, labels: Array) -> Native:
    return _softmax(al.softmax_cross_entropy, logits, labels, -1, None)


@preset(shows=["epsilon=1.0"])
def poly_loss_cross_entropy(logits: Array, labels: Array, *, epsilon: Any = 2.0, axis: Axes = -1, where: Array | None = None) -> Native:
    return _softmax(al.poly1_cross_entropy, logits, labels, axis, where, epsilon=epsilon)


@preset(labels=["labels"], shows=["axis=1"])
def softmax_cross_entropy_with_integer_labels(
    logits: Array, labels: Array, axis: int | tuple[int, ...] = -1, where: Array | None = None
) -> Native:
    if dtypes.kind(labels.dtype) not in INTEGERS:
        raise TypeError(f"labels must be integers; got {dtypes.name(labels.dtype)}")
    if not isinstance(axis, (int, tuple)):
        raise ValueError(f"axis must be an integer or a tuple of integers; got {axis!r}")
    x, where, has = _in_softmax(logits, axis, where)
    axis, arrays, back = _joined(axis, x)
    own = {} if has is None else {"where": adapter(has).xp.reshape(has, (*arrays[0].shape[:-1], 1)) if axis == -1 else has}
    return Native(al.softmax_cross_entropy, (*arrays, labels), {"axis": axis, **own, **NONE}, (logits,), _back(back, where))


def _divergence(log_predictions: Array, targets: Array, axis: Axes, where: Array | None, absent: float, **own: Any) -> Native:
    """`absent`: the target of entries that do not count, whose prediction is -inf."""
    x, t = broadcast(log_predictions, targets)
    own |= {"given": "log_probs", "targets_given": "probs"} | own
    if where is not None:
        xp, where = adapter(x).xp, broadcast(where, x)[0]
        x, t = xp.where(where, x, -float("inf")), xp.where(where, t, absent)
    axes = tuple(range(x.ndim)) if axis is None else axis
    return Native(al.kl_divergence, (x, t), {**own, "axis": axes, **NONE}, (log_predictions,), _back(None, where))


KL = "A probability of 0 adds 0, whatever the prediction."


@preset(differs=KL)
def kl_divergence(log_predictions: Array, targets: Array, axis: Axes = -1, where: Array | None = None) -> Native:
    return _divergence(log_predictions, targets, axis, where, 0.0)


@preset(differs=KL)
def kl_divergence_with_log_targets(log_predictions: Array, log_targets: Array, axis: Axes = -1, where: Array | None = None) -> Native:
    return _divergence(log_predictions, log_targets, axis, where, -float("inf"), targets_given="log_probs")


@preset(differs=KL)
def generalized_kl_divergence(log_predictions: Array, targets: Array, axis: Axes = -1, where: Array | None = None) -> Native:
    return _divergence(log_predictions, targets, axis, where, 0.0, generalized=True)


@preset(differs=KL)
def convex_kl_divergence(log_predictions: Array, targets: Array, axis: Axes = -1, where: Array | None = None) -> Native:
    return _divergence(log_predictions, targets, axis, where, 0.0, generalized=True)


def _rows_of_labels(loss: Any, scores: Array, labels: Array) -> Native:
    return Native(loss, (scores, labels), {"axis": -1, **NONE})


@preset(labels=["labels"], differs="At the kink the slope is that of the active side; optax has half.")
def multiclass_hinge_loss(scores: Array, labels: Array) -> Native:
    return _rows_of_labels(al.multiclass_hinge_loss, scores, labels)


@preset(labels=["labels"])
def multiclass_perceptron_loss(scores: Array, labels: Array) -> Native:
    return _rows_of_labels(al.multiclass_perceptron_loss, scores, labels)


@preset(labels=["labels"])
def multiclass_sparsemax_loss(scores: Array, labels: Array) -> Native:
    return _rows_of_labels(al.sparsemax_loss, scores, labels)


@preset(shows=["where=where, reduce_fn=None"], differs="`reduce_fn` is a mean, a sum or None. The mean over no lists is 0.")
def ranking_softmax_loss(
    logits: Array, labels: Array, *, where: Array | None = None, weights: Array | None = None, reduce_fn: Any = "mean"
) -> Native:
    reduction = "none" if reduce_fn is None else getattr(reduce_fn, "__name__", reduce_fn)
    if reduction not in ("mean", "sum", "none"):
        raise UnlikeError(f"reduce_fn must be a mean, a sum or None; got {reduce_fn!r}: reduce what reduce_fn=None returns")
    t = as_floats(labels, logits)
    t = t if weights is None else t * weights
    return Native(al.ranking_softmax_loss, (logits, t), {"mask": where, "reduction": reduction})


@preset(differs="A target that no alignment has a probability for has the loss inf; optax has 1e5 for each step that is missing.")
def ctc_loss(
    logits: Array, logit_paddings: Array, labels: Array, label_paddings: Array, *, blank_id: int = 0, log_epsilon: Any = -1e5
) -> Native:
    if isinstance(logits, Symbol):
        lengths: tuple[Array, ...] = (Symbol("sum(1 - logit_paddings, axis=1)"), Symbol("sum(1 - label_paddings, axis=1)"))
    else:
        if logits.ndim != 3 or tuple(logit_paddings.shape) != tuple(logits.shape[:2]) or tuple(labels.shape) != tuple(label_paddings.shape):
            raise ValueError("logits must have shape (B, T, C), logit_paddings (B, T), labels and label_paddings (B, N)")
        lengths = tuple([_lengths(p) for p in (logit_paddings, label_paddings)])
    own = {"given": "logits", "blank": blank_id, "time_axis": 1, "batch_axis": 0, **NONE}
    return Native(al.ctc_loss, (logits, labels, *lengths), own)


def _lengths(paddings: Array) -> Array:
    xp = adapter(paddings).xp
    return xp.sum(xp.astype(paddings == 0, xp.int64), axis=1)


def ctc_loss_with_forward_probs(
    logits: Array, logit_paddings: Array, labels: Array, label_paddings: Array, *, blank_id: int = 0, log_epsilon: Any = -1e5
) -> NoReturn:
    """Refused: the table of forward probabilities is not kept."""
    raise UnlikeError("the table of forward probabilities is not kept: ctc_loss has the first of the three results")


@preset(labels=["labels"], differs="Without a pair of one label the mean is 0, where optax has NaN.")
def ntxent(embeddings: Array, labels: Array, temperature: Any = 0.07) -> Native:
    if tuple(labels.shape[:1]) != tuple(embeddings.shape[:1]):
        raise ValueError(f"labels must be one for each of {embeddings.shape[0]} embeddings; got {tuple(labels.shape)}")
    return Native(al.ntxent_loss, (embeddings, labels), {"temperature": temperature})


def _with_column(x: Array, value: float, axis: int) -> Array:
    """Vectors with one more entry."""
    xp = adapter(x).xp
    first = x[tuple([slice(0, 1) if i == axis else slice(None) for i in range(x.ndim)])]
    return xp.concat([x, xp.full_like(first, value)], axis=axis)


@preset(
    differs="`eps` is added to the power of the distance, as there, by one more entry of vectors. Of an odd `norm_degree` optax has NaN."
)
def triplet_margin_loss(
    anchors: Array, positives: Array, negatives: Array, axis: int = -1, norm_degree: Any = 2, margin: Any = 1.0, eps: Any = 1e-6
) -> Native:
    back: list[Any]
    own, given = {"axis": axis, "p": float(norm_degree), "margin": margin, **NONE}, (anchors, positives, negatives)
    arrays, back = broadcast(*given), []
    if not isinstance(anchors, Symbol) and eps:
        axis %= arrays[0].ndim
        arrays = tuple([_with_column(a, value, axis) for a, value in zip(arrays, (float(eps) ** (1 / norm_degree), 0, 0), strict=True)])
        index = tuple([slice(0, -1) if i == axis else slice(None) for i in range(arrays[0].ndim)])
        back = [lambda g: g[index]] * 3
    return Native(al.triplet_margin_loss, arrays, own, given, back)


@preset(shows=["alpha=0.3, beta=0.7, reduction='none'"], maps=["predictions", "targets"])
def dice_loss(
    predictions: Array,
    targets: Array,
    *,
    class_weights: Array | None = None,
    smooth: Any = 1.0,
    alpha: Any = 0.5,
    beta: Any = 0.5,
    apply_softmax: bool = True,
    reduction: str = "mean",
    ignore_background: bool = False,
    axis: Any = None,
) -> Native:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"Unsupported reduction: {reduction}")
    call = _dice(predictions, targets, smooth, alpha, beta, apply_softmax, ignore_background, axis)
    call.options |= {} if class_weights is None else {"class_weights": class_weights}
    if reduction == "mean":
        call.scale = 1 / _classes(call)
    call.summed = None if reduction == "none" else -1
    return call


def _dice(x: Array, t: Array, smooth: Any, alpha: Any, beta: Any, apply_softmax: bool, ignore_background: bool, axis: Any = None) -> Native:
    """One overlap for every sample and class, the last axis."""
    given = (x,)
    x, t = (adapter(a).xp.expand_dims(a, axis=-1) if a.ndim == b.ndim - 1 else a for a, b in ((x, t), (t, x)))
    _check_same_shape(x, t)
    if not apply_softmax and (view := readable(x)) is not None and bool((abs(view.sum(-1) - 1.0) > 1e-5).any()):
        raise ValueError(
            "When apply_softmax=False, predictions must be valid probability distributions that sum to 1 along the class axis."
        )
    pool = tuple(range(1, x.ndim - 1)) if axis is None else axis
    activation = None if not apply_softmax else "sigmoid" if x.shape[-1] == 1 else "softmax"
    own: dict[str, Any] = {"activation": activation, "alpha": alpha, "beta": beta, "smooth": smooth, "axis": -1, "pool_axes": pool, **NONE}
    if ignore_background and x.shape[-1] != 1:
        own["classes"] = tuple(range(1, x.shape[-1]))
    return Native(al.tversky_loss, (x, as_floats(t, x)), own, given)


def _classes(call: Native) -> Any:
    """How many classes count."""
    return len(call.options["classes"]) if "classes" in call.options else call.arrays[0].shape[-1]


@preset(maps=["predictions", "targets"])
def multiclass_generalized_dice_loss(
    predictions: Array, targets: Array, *, smooth: Any = 1.0, apply_softmax: bool = True, ignore_background: bool = False
) -> Native:
    call = _dice(predictions, targets, smooth, 0.5, 0.5, apply_softmax, ignore_background)
    x, t = call.arrays
    if isinstance(x, Symbol):
        weights: Any = Symbol("weights")
    else:
        weights = 1.0 / (adapter(t).xp.sum(t, axis=tuple(range(t.ndim - 1))) ** 2 + 1e-7)
        weights = weights / adapter(t).xp.sum(weights) * t.shape[-1]
    call.options |= {"class_weights": weights, "reduction": "sum"}
    call.scale = 1 / (x.shape[0] * _classes(call))
    return call


@preset(maps=["predictions", "targets"])
def binary_dice_loss(predictions: Array, targets: Array, *, smooth: Any = 1.0, apply_sigmoid: bool = True) -> Native:
    x, t = predictions, targets
    if x.ndim == t.ndim and x.shape[-1] != 1:
        x, t = (a[..., None] for a in (x, t))
    call = _dice(x, t, smooth, 0.5, 0.5, apply_sigmoid, False)
    call.given, call.summed = (predictions,), -1
    return call


def make_fenchel_young_loss(max_fun: Any) -> NoReturn:
    """Refused: a function of one vector has no array API form, and no gradient beside JAX and PyTorch."""
    raise UnlikeError(
        "max_fun is a function of one vector of JAX: write it for rows with its gradient, arrayloss.fenchel_young(name, conjugate)"
    )


def smooth_labels(labels: Array, alpha: Any, *, axis: Axes = -1, where: Array | None = None) -> Array:
    """`optax.smooth_labels`: (1 - alpha) * labels + alpha / number of classes. No loss."""
    if dtypes.kind(labels.dtype) in INTEGERS:
        raise ValueError(f"labels must be floating point; got {dtypes.name(labels.dtype)}")
    axes = tuple(range(labels.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    xp = adapter(labels).xp
    count = prod([labels.shape[a] for a in axes]) if where is None else xp.sum(xp.astype(where, labels.dtype), axis=axes, keepdims=True)
    return (1.0 - alpha) * labels + alpha / count


LOSSES = {name: value for name, value in list(globals().items()) if isinstance(value, Preset)}
__all__ = ["ctc_loss_with_forward_probs", "make_fenchel_young_loss", "smooth_labels"]
__all__ += list(LOSSES)
