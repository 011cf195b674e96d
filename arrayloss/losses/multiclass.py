"""Losses of one choice among several classes: cross-entropy, negative log-likelihood, focal loss."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import sqrt
from typing import Any, Literal, Unpack

from arrayloss.core import dtypes, special
from arrayloss.frontend.build import around, rows
from arrayloss.frontend.check import Parameter, at_least, choice, is_number, number, per_class, positive
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import RowOptions

from .binary import FORMS, Form, Real, clipped_properties, clipping, focal_properties, times_largest

Array = Any
Weights = Sequence[float] | Array | None  # one number for each class


def _at_label(xp: Any, x: Array, t: Array, of_classes: Array, axis: int) -> Array:
    """What a parameter of the classes is for the class that a label names, the class axis kept."""
    return special.gather_label(xp, xp.broadcast_to(of_classes, x.shape), t, axis)


def _cross_entropy_of_labels(xp: Any, x: Array, t: Array, axis: int, label_smoothing: float, class_weights: Any = None) -> Iterator[Any]:
    """The target is a share for every class, and the rest at the label."""
    rest, share = 1 - label_smoothing, label_smoothing / x.shape[axis]
    weight: Any = None if class_weights is None else _at_label(xp, x, t, class_weights, axis)
    mass, base = weight, share or None
    if share and class_weights is not None:
        base = share * class_weights
        mass = rest * weight + xp.sum(base)
    nll, _, grad, base_nll = special.nll_and_grad_at_label(xp, x, t, axis)
    value = nll if weight is None else weight * nll
    value = value if base is None else rest * value + base_nll(base)
    yield value if weight is None else (value, weight)
    yield grad(mass, base)
    _, p, complement, _ = special.softmax_with_complement(xp, x, axis)  # 1 - p of every class, for the wrong ones that are certain
    yield p * complement() if mass is None else mass * p * complement()


def _cross_entropy_of_distribution(
    xp: Any, x: Array, t: Array, axis: int, label_smoothing: float, class_weights: Any = None
) -> Iterator[Any]:
    argmax, p, complement, nll = special.softmax_with_complement(xp, x, axis)
    t, target = smooth_and_weigh(xp, x, t, axis, label_smoothing, class_weights)
    value = xp.sum(special.multiply_no_nan(xp, target, nll()), axis=axis, keepdims=True)
    yield value if class_weights is None else (value, xp.sum(t * class_weights, axis=axis, keepdims=True))
    yield special.cross_entropy_grad(xp, argmax, p, complement(), target, axis)
    yield xp.sum(target, axis=axis, keepdims=True) * p * complement()


def smooth_and_weigh(xp: Any, x: Array, t: Array, axis: int, smoothing: float, class_weights: Any) -> tuple[Array, Array]:
    """Targets as distributions, smoothed labels too; and the weight of -log(p) for every class."""
    t = special.one_hot(xp, t, x, axis) if dtypes.kind(t.dtype) == "integer" else t
    target = (1 - smoothing) * t + smoothing / x.shape[axis] if smoothing else t
    return t, target if class_weights is None else class_weights * target


CHANGES = ("z_loss", "softcap", "logit_offsets", "label_margins", "scale")


def of_changed_logits(xp: Any, x: Array, t: Array, axis: int, kernel: Any, **own: Any) -> Iterator[Any]:
    """A kernel of the cross-entropy of scale * (softcap * tanh(x / softcap) + offsets - margins of the targets), and z_loss * lse**2."""
    z_loss, softcap, offsets, margins, scale = [own.pop(name, None) for name in CHANGES]
    slope_of_x, bend_of_x = scale, None
    if softcap is not None:
        u = x / softcap
        w = xp.exp(-2 * special.split_sign(xp, u)[1])
        x, slope_of_cap = softcap * xp.tanh(u), 4 * w / ((1 + w) * (1 + w))  # 1 - tanh(u)**2 without cancellation
        slope_of_x = slope_of_cap if scale is None else scale * slope_of_cap
        bend_of_x = -2 * x / softcap / softcap * slope_of_x
    moves, top = offsets, 0.0
    if margins is not None:
        moves = (0.0 if offsets is None else offsets) - margins * smooth_and_weigh(xp, x, t, axis, 0.0, None)[0]
    if moves is not None or scale is not None:  # of logits less their maximum it is the same, and their changes round less
        largest = xp.max(x, axis=axis, keepdims=True)
        top = xp.where(xp.isfinite(largest), largest, 0.0)
        x = x - top if moves is None else (x - top) + moves
    x, top = (x, top) if scale is None else (scale * x, scale * top)
    steps = kernel(xp, x, t, axis, **own)
    value, *weight = terms if isinstance(terms := next(steps), tuple) else (terms,)
    if z_loss is not None:
        m = xp.max(x, axis=axis, keepdims=True)
        e = xp.exp(x - m)
        s = xp.sum(e, axis=axis, keepdims=True)
        lse, p = top + (m + xp.log(s)), e / s
        factor = z_loss * weight[0] if weight else z_loss
        value = value + factor * lse * lse
    yield (value, *weight) if weight else value
    slope = next(steps) if z_loss is None else next(steps) + 2 * factor * lse * p
    yield slope if slope_of_x is None else slope_of_x * slope
    bend = next(steps) if z_loss is None else next(steps) + 2 * factor * p * (p + lse * special.softmax_with_complement(xp, x, axis)[2]())
    bend = bend if slope_of_x is None else slope_of_x * slope_of_x * bend
    yield bend if bend_of_x is None else bend + bend_of_x * slope


def changes_of_logits(z_loss: Real, softcap: Any, logit_offsets: Any, label_margins: Any = None, scale: Real = 1.0) -> dict[str, Any]:
    """Those that change something, checked."""
    checked = [
        None if is_number(z_loss) and z_loss == 0 else at_least(z_loss, 0),
        None if softcap is None else positive(softcap),
        *[None if v is None else Parameter(v, per_class=True, scalar=False) for v in (logit_offsets, label_margins)],
        None if is_number(scale) and scale == 1 else positive(scale),
    ]
    return {name: p for name, p in zip(CHANGES, checked, strict=True) if p is not None}


def _properties(class_weights: Any, label_smoothing: float, z_loss: Any, softcap: Any, scale: Any, **_: Any) -> Properties:
    if not is_number(z_loss) or z_loss:
        return Properties()
    return Properties(softcap is None, times_largest(scale * sqrt(1 + (1 - label_smoothing) ** 2), class_weights))


@loss(properties=_properties)
def softmax_cross_entropy(
    logits: Array,
    targets: Array,
    *,
    class_weights: Weights = None,
    label_smoothing: float = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    logit_offsets: Weights = None,
    label_margins: Weights = None,
    scale: Real = 1.0,
    **options: Unpack[RowOptions],
) -> Array:
    """Cross-entropy of one choice among C classes, from logits: multi-class classification and segmentation.

    .. code-block:: text

        loss = sum over c of t_c * w_c * (lse(x) - x_c) + z_loss * w_t * lse(x)**2,   lse(x) = log(sum over c of exp(x_c))
        x    = scale * (softcap * tanh(logits / softcap) + logit_offsets - label_margins * t),   w_t = sum over c of t_c * w_c

    Gradient: softmax(x) - t for t that sums to 1, finite everywhere, with all its digits on confident rows. The Hessian diagonal is
    p * (1 - p); with z_loss or softcap it may be negative.
    Source: C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.108; C. Szegedy et al., CVPR 2016, section 7;
    z_loss: A. Chowdhery et al., PaLM, JMLR 24, 2023, section 5; logit_offsets: A. K. Menon et al., ICLR 2021, equation 10; label_margins,
    scale: H. Wang et al., CosFace, CVPR 2018, equation 4; K. Cao et al., Learning Imbalanced Datasets, NeurIPS 2019, equation 13.

    Parameters
    ----------
    logits : array, floating point, with C >= 2 entries along `axis`
        A single row is fine. -inf takes a class out; a target that names it has an infinite loss.
    targets : array
        Labels: integers from 0 to C - 1, the shape of `logits` without the class axis or with it at size 1. Or a distribution:
        the shape of `logits`, one-hot or soft, used as it is (it need not sum to 1).
    class_weights : one number >= 0 per class
        w_c. It counts in the denominator of the mean too, for labels and distributions alike.
    label_smoothing : number e from 0 to 1, in t' = (1 - e) * t + e / C
        The denominator of the mean is taken from t, as in PyTorch.
    z_loss : number >= 0, or 0-d array: keeps the normalizer of the softmax near 1; w_t is 1 without class_weights
    softcap : number > 0, or 0-d array: the logits stay between -softcap and softcap
    logit_offsets : one number per class: logarithms of the shares of the classes give balanced softmax, `logit_adjustment` makes them
    label_margins : one number per class: by how much the class of the target must win; `ldam_margins` makes them
    scale : number > 0, or 0-d array: of cosines, which are too flat for a softmax
    {options}

    >>> import numpy as np
    >>> softmax_cross_entropy(np.array([[2.0, 1.0, 0.0], [0.0, 40.0, 0.0]]), np.array([0, 1]), reduction="none")
    array([4.07605964e-01, 8.49670851e-18])
    """
    e, weights = number("label_smoothing", label_smoothing, 0, 1), per_class(class_weights, scalar=False)
    changes = changes_of_logits(z_loss, softcap, logit_offsets, label_margins, scale)
    kernels = _cross_entropy_of_labels, _cross_entropy_of_distribution
    call = rows(*kernels, {"logits": logits}, targets, options, weights, label_smoothing=e, **changes)
    return around(of_changed_logits, call, of_rows=True) if changes else call


cross_entropy = softmax_cross_entropy


def _nll_of_labels(
    xp: Any, x: Array, t: Array, axis: int, is_log: bool, mask: Array | None = None, class_weights: Any = None, **_: Any
) -> Iterator[Any]:
    """Of N x C numbers only N are read."""
    x_y = special.gather_label(xp, x, t, axis)
    x_y = x_y if mask is None else xp.where(mask, x_y, 1.0)
    weight = xp.ones_like(x_y) if class_weights is None else _at_label(xp, x, t, class_weights, axis)
    value = -weight * (x_y if is_log else xp.log(x_y))
    yield value if class_weights is None else (value, weight)

    def pullback(g: Any) -> Array:
        return special.place_at_label(xp, x, t, g * (-weight if is_log else -weight / x_y), axis)

    yield pullback
    # No quotient of a quotient: a compiler makes one by a square of it, which underflows
    yield xp.zeros_like(x) if is_log else special.place_at_label(xp, x, t, (weight / x_y) * (1 / x_y), axis)


def _nll_of_distribution(
    xp: Any, x: Array, t: Array, axis: int, is_log: bool, label_smoothing: float, class_weights: Any = None
) -> Iterator[Any]:
    t, target = smooth_and_weigh(xp, x, t, axis, label_smoothing, class_weights)
    log_p = x if is_log else xp.log(xp.where((target == 0) & (x == 0), 1.0, x))  # 0 * log(0) is 0, in autodiff too
    value = -xp.sum(special.multiply_no_nan(xp, target, log_p), axis=axis, keepdims=True)
    yield value if class_weights is None else (value, xp.sum(t * class_weights, axis=axis, keepdims=True))
    slope = -(target if is_log else special.divide(xp, target, x, 0.0))
    yield slope
    yield xp.zeros_like(x) if is_log else -special.divide(xp, slope, x, 0.0)


def _nll_properties(given: str, class_weights: Any, label_smoothing: float, **own: Any) -> Properties:
    steepest = times_largest(1.0 if given == "log_probs" else None, class_weights)
    return clipped_properties(Properties(True, steepest), class_weights, lambda p: 1 / p, **own)


@loss(properties=_nll_properties)
def nll_loss(
    predictions: Array,
    targets: Array,
    *,
    given: Literal["log_probs", "probs"] = "log_probs",
    class_weights: Weights = None,
    label_smoothing: float = 0.0,
    clip: float | None = None,
    renormalize: bool = False,
    **options: Unpack[RowOptions],
) -> Array:
    """Negative log-likelihood of one choice among C classes, from log-probabilities or probabilities.

    .. code-block:: text

        loss = -sum over c of t_c * w_c * log(p_c)

    Gradient: -t * w for log-probabilities; -t * w / p for probabilities, infinite where the loss is, and where a subnormal p has no
    finite reciprocal (in float16 every p below 1.5e-5).
    Source: C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.108.

    Parameters
    ----------
    predictions : array, floating point, with C >= 1 entries along `axis`
        Log-probabilities, or probabilities with `given="probs"`, of which p = 0 at the target is inf.
    targets : array
        Labels or distributions, as for `softmax_cross_entropy`.
    given : "log_probs" or "probs"
        What the predictions are.
    class_weights, label_smoothing
        As for `softmax_cross_entropy`.
    clip, renormalize : number from 0 to 0.49, bool
        Probabilities are divided by their sum (NaN where that is 0), then moved into [clip, 1 - clip], with gradient 0 outside: Keras.
    {options}

    >>> import numpy as np
    >>> print(f"{nll_loss(np.array([[0.7, 0.2, 0.1], [0.1, 0.0, 0.9]]), np.array([0, 2]), given='probs'):.4f}")
    0.2310
    """
    is_log, smoothing = choice("given", given, ("log_probs", "probs")) == "log_probs", number("label_smoothing", label_smoothing, 0, 1)
    kernel, weights = _nll_of_distribution if smoothing else _nll_of_labels, per_class(class_weights, scalar=False)
    own: dict[str, Any] = {"is_log": is_log, "label_smoothing": smoothing, "needs_two_classes": False}
    call = clipping(given, clip, renormalize)(rows(kernel, _nll_of_distribution, predictions, targets, options, weights, **own))
    # In blocks the gradient would be copied into place; as a whole it is zeros with N entries
    gathers = call.operation.kernel is _nll_of_labels
    return replace(call, operation=replace(call.operation, blocked=not gathers, gathers=gathers))


def _softmax_focal_of_labels(xp: Any, x: Array, t: Array, axis: int, gamma: Any, alpha: Any, **ignored: Any) -> Iterator[Array]:
    ce, q, grad, _ = special.nll_and_grad_at_label(xp, x, t, axis)
    scale = special.power(xp, q, gamma)
    if alpha is not None:
        scale = scale * _at_label(xp, x, t, alpha, axis)
    yield scale * ce
    hit = xp.exp(-ce)  # p at the label: where that is small, 1 - q has lost its digits
    # d (scale * ce) / d ce; with ce as a function of q, ce / q is 1 at q = 0
    yield grad(scale * (1 + gamma * special.multiply_no_nan(xp, hit, special.divide(xp, ce, q, 1.0))))
    _, p, complement, _ = special.softmax_with_complement(xp, x, axis)
    share = special.divide(xp, special.scatter_label(xp, p, t, 0.0, axis), q, 0.0)  # of what is beside the target
    push = q + gamma * hit * ce  # two terms of one sign
    bend = gamma * hit * (2 * q - ce * (q - (gamma - 1) * hit))
    yield scale * special.scatter_label(xp, share * (bend * share + push * complement()), t, bend + push * hit, axis)


def _softmax_focal_of_distribution(xp: Any, x: Array, t: Array, axis: int, gamma: Any, alpha: Any, label_smoothing: Any) -> Iterator[Array]:
    argmax, p, complement, nll = special.softmax_with_complement(xp, x, axis)
    q, ce = complement(), nll()
    scale = special.power(xp, q, gamma) * smooth_and_weigh(xp, x, t, axis, label_smoothing, alpha)[1]
    yield xp.sum(special.multiply_no_nan(xp, scale, ce), axis=axis, keepdims=True)
    weight = scale * (1 + gamma * special.multiply_no_nan(xp, p, special.divide(xp, ce, q, 1.0)))
    yield special.cross_entropy_grad(xp, argmax, p, q, weight, axis)


def _focal_term(xp: Any, p: Array, weight: Array, gamma: Any) -> Iterator[Array]:
    """weight * (1 - p)**gamma * -log(p) of one class, and its derivative."""
    q, ce = 1 - p, -xp.log(xp.where((weight == 0) & (p == 0), 1.0, p))  # 0 * log(0) is 0, in autodiff too
    scale = weight * special.power(xp, q, gamma)
    yield special.multiply_no_nan(xp, scale, ce)
    # -log(p) / (1 - p) is 1 at p = 1; a class of no weight has no slope, even where p is 0 (nor a second one: no 1 / p alone)
    fading = special.multiply_no_nan(xp, scale, gamma * special.divide(xp, ce, q, 1.0))
    yield -(fading + special.divide(xp, scale, p, 0.0))


def _focal_of_probs_of_labels(xp: Any, p: Array, t: Array, axis: int, gamma: Any, alpha: Any, **ignored: Any) -> Iterator[Array]:
    p_y = special.gather_label(xp, p, t, axis)
    steps = _focal_term(xp, p_y, xp.ones_like(p_y) if alpha is None else _at_label(xp, p, t, alpha, axis), gamma)
    yield next(steps)
    yield special.place_at_label(xp, p, t, next(steps), axis)


def _focal_of_probs_of_distribution(xp: Any, p: Array, t: Array, axis: int, gamma: Any, alpha: Any, label_smoothing: Any) -> Iterator[Any]:
    steps = _focal_term(xp, p, smooth_and_weigh(xp, p, t, axis, label_smoothing, alpha)[1], gamma)
    yield xp.sum(next(steps), axis=axis, keepdims=True)
    yield next(steps)


@loss(properties=lambda alpha, label_smoothing, **own: focal_properties(weights=alpha, norm=sqrt(2), **own))
def softmax_focal_loss(
    predictions: Array,
    targets: Array,
    *,
    gamma: Real = 2.0,
    alpha: Weights = None,
    given: Form = "logits",
    label_smoothing: float = 0.0,
    clip: float | None = None,
    renormalize: bool = False,
    **options: Unpack[RowOptions],
) -> Array:
    """Cross-entropy of one choice among C classes in which easy elements count less.

    .. code-block:: text

        loss = -sum over c of t_c * alpha_c * (1 - p_c)**gamma * log(p_c),   p = softmax(x)

    Gradient: from logits finite everywhere, for fractions of gamma too; from probabilities infinite where the loss is, and where a
    subnormal p has no finite reciprocal. The Hessian diagonal is defined for labels and logits, without label_smoothing.
    Source: T.-Y. Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5, with the softmax of section 3.

    Parameters
    ----------
    predictions : array, floating point, with C >= 2 entries along `axis`
    targets : array
        Labels or distributions, as for `softmax_cross_entropy`. Of a distribution every class fades by its own p_c.
    gamma : number >= 0, or 0-d array
        How fast easy elements fade. 0 is cross-entropy; fractions are fine. An array may be traced and differentiated.
    alpha : one number >= 0 per class
        Factor of a class; it scales the loss, never the denominator of the mean. A single number is an error: libraries disagree on it.
    given : "logits" or "probs"
    label_smoothing, clip, renormalize
        As for `nll_loss`.
    {options}

    >>> import numpy as np
    >>> softmax_focal_loss(np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]]), np.array([0, 1]), gamma=2.0, reduction="none").round(6)
    array([0.045678, 0.000778])
    """
    of_logits = _softmax_focal_of_labels, _softmax_focal_of_distribution
    of_probs = _focal_of_probs_of_labels, _focal_of_probs_of_distribution
    of_labels, of_distribution = of_logits if choice("given", given, FORMS) == "logits" else of_probs
    e, clipped = number("label_smoothing", label_smoothing, 0, 1), clipping(given, clip, renormalize)
    own: dict[str, Any] = {"gamma": at_least(gamma, 0), "alpha": per_class(alpha, scalar=False), "label_smoothing": e}
    return clipped(rows(of_distribution if e else of_labels, of_distribution, predictions, targets, options, **own))
