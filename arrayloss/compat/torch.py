"""The losses of `torch.nn.functional` (PyTorch 2.13) on every array library."""

from __future__ import annotations

import sys
from math import prod
from typing import Any

import arrayloss as al
from arrayloss.core import dtypes

from ._preset import INTEGERS, Native, Preset, Symbol, adapter, as_floats, as_weights, broadcast, readable
from ._torch import by_count, check_same_shape, preset, reduction_of, weighted
from ._torch_margins import (
    cosine_embedding_loss,
    ctc_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    soft_margin_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)

Array = Any


def _class_axis(input: Array) -> int:
    return min(1, input.ndim - 1)


def _regression(loss: Any, input: Array, target: Array, reduction: str, weight: Array | None, is_counted: bool, **own: Any) -> Native:
    x, t = broadcast(input, target)
    options = own | (by_count(reduction) if weight is not None and is_counted else {"reduction": reduction})
    if weight is not None:
        check_same_shape("weight", weight, input)
        options["weights"] = as_weights(weight, x)
    return Native(loss, (x, t), options, (input,))


@preset(shows=["size_average=False", "weight=weight"])
def l1_loss(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Array | None = None,
) -> Native:
    return _regression(al.absolute_error, input, target, reduction_of(reduction, size_average, reduce), weight, is_counted=False)


@preset(shows=["weight=weight"])
def mse_loss(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Array | None = None,
) -> Native:
    return _regression(al.squared_error, input, target, reduction_of(reduction, size_average, reduce), weight, is_counted=False)


@preset(shows=["delta=0.5, weight=weight"])
def huber_loss(input: Array, target: Array, reduction: str = "mean", delta: float = 1.0, weight: Array | None = None) -> Native:
    return _regression(al.huber_loss, input, target, reduction_of(reduction), weight, is_counted=True, delta=delta)


@preset(shows=["beta=0.5"])
def smooth_l1_loss(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Native:
    return _regression(al.smooth_l1_loss, input, target, reduction_of(reduction, size_average, reduce), None, is_counted=False, beta=beta)


@preset(shows=["log_input=False", "full=True"])
def poisson_nll_loss(
    input: Array,
    target: Array,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Native:
    x, t = broadcast(input, target)
    reduction = reduction_of(reduction, size_average, reduce)
    own: dict[str, Any] = {"full": "stirling" if full else False, "reduction": reduction}
    if log_input:
        return Native(al.poisson_nll_loss, (x, t), own, (input,))
    shift = -eps * prod(x.shape) if reduction == "sum" else -eps  # of every element: eps stands in the logarithm only
    return Native(al.poisson_nll_loss, (x + eps, t), {"given": "rate", **own}, (input,), shift=shift)


def _clamped(v: Array, eps: float) -> Array:
    """max(v, eps), whose derivative is 1 everywhere."""
    if isinstance(v, Symbol):
        return Symbol(f"maximum({v}, {eps!r})", v.shape)
    gap = adapter(v).xp.where(v < eps, eps - v, 0.0)
    if hasattr(gap, "detach"):
        gap = gap.detach()
    elif "jax" in sys.modules and isinstance(gap, sys.modules["jax"].Array):
        gap = sys.modules["jax"].lax.stop_gradient(gap)
    return v + gap


@preset(shows=["full=True"], differs="Where a negative variance cannot be read, its loss is that of `eps`.")
def gaussian_nll_loss(
    input: Array, target: Array, var: Array | float, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Native:
    x, t = broadcast(input, target)
    v: Any = var
    if isinstance(v, (int, float)):
        if v < 0:
            raise ValueError("var has negative entry/entries")
        v = adapter(x).xp.full_like(x, max(float(v), eps))
        return Native(al.gaussian_nll_loss, (x, v, t), {"full": full, "reduction": reduction}, (input,))
    view = readable(v)
    if view is not None and bool((view < 0).any()):
        raise ValueError("var has negative entry/entries")
    if tuple(v.shape) != tuple(input.shape):
        sizes = tuple(input.shape)
        if sizes[:-1] == tuple(v.shape) and sizes:
            v = adapter(v).xp.expand_dims(v, axis=-1)
        elif input.ndim != v.ndim or sum([m for n, m in zip(sizes, v.shape, strict=True) if n != m]) != 1:
            raise ValueError("var is of incorrect size")
    x, t, _ = broadcast(x, t, v)
    v = _clamped(v, eps)
    reduction_of(reduction)
    return Native(al.gaussian_nll_loss, (x, v, t), {"full": full, "reduction": reduction}, (input, var))


@preset(labels=["target"], shows=["weight=weight, label_smoothing=0.1", "target=target, weight=weight"])
def cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Native:
    reduction = reduction_of(reduction, size_average, reduce)
    own = {"axis": _class_axis(input), "class_weights": weight, "label_smoothing": label_smoothing}
    if tuple(target.shape) != tuple(input.shape):
        return Native(al.softmax_cross_entropy, (input, target), own | {"ignore_index": ignore_index, "reduction": reduction})
    _probabilities(target, ignore_index)
    return Native(al.softmax_cross_entropy, (input, target), own | by_count(reduction))


def _probabilities(target: Array, ignore_index: int | None) -> None:
    """Targets of the shape of the logits."""
    if dtypes.kind(target.dtype) in INTEGERS:
        raise TypeError(f"target must be floating point where it has the shape of the logits; got {dtypes.name(target.dtype)}")
    if ignore_index is not None and ignore_index >= 0:
        raise ValueError(f"ignore_index must be left alone with class probabilities; got {ignore_index}")


@preset(shows=["linear_bias=linear_bias, ignore_index=0"], labels=["target"], differs="Of `options` the size of the chunks counts.")
def linear_cross_entropy(
    input: Array,
    linear_weight: Array,
    target: Array,
    *,
    linear_bias: Array | None = None,
    weight: Array | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Native:
    reduction_of(reduction)
    if input.ndim == 1 and linear_weight.ndim > 2:
        raise ValueError(
            f"input must have shape (N, D) for a linear_weight of shape {tuple(linear_weight.shape)}; got {tuple(input.shape)}"
        )
    own = {"bias": linear_bias, "class_weights": weight, "label_smoothing": label_smoothing, "block": options and options.batch_chunk_size}
    arrays = input, linear_weight, target
    if tuple(target.shape) != (*input.shape[:-1], *linear_weight.shape[:-1]):
        labels = {"ignore_index": -100 if ignore_index is None else ignore_index, "reduction": reduction}
        return Native(al.linear_cross_entropy, arrays, own | labels)
    _probabilities(target, ignore_index)
    return Native(al.linear_cross_entropy, arrays, own | by_count(reduction))


@preset(labels=["target"], shows=["weight=weight, ignore_index=0"])
def nll_loss(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Native:
    own = {"axis": _class_axis(input), "class_weights": weight, "ignore_index": ignore_index}
    if tuple(target.shape) == tuple(input.shape):
        raise ValueError(f"target must be labels, without the class axis of the input {tuple(input.shape)}; got {tuple(target.shape)}")
    return Native(al.nll_loss, (input, target), own | {"reduction": reduction_of(reduction, size_average, reduce)})


@preset(shows=["reduction='batchmean'", "reduction='sum', log_target=True"], differs="A probability of 0 adds 0, whatever the prediction.")
def kl_div(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Native:
    arrays, by_batch = broadcast(input, target), reduction == "batchmean" and size_average is None and reduce is None
    own = {"given": "log_probs", "targets_given": "log_probs" if log_target else "probs", "elementwise": True}
    if not by_batch:
        return Native(al.kl_divergence, arrays, own | {"reduction": reduction_of(reduction, size_average, reduce)}, (input,))
    if input.ndim == 2:  # of rows, whose mean it is
        return Native(al.kl_divergence, arrays, own | {"elementwise": False, "axis": 1}, (input,))
    return Native(al.kl_divergence, arrays, own | {"reduction": "sum"}, (input,), scale=1 / input.shape[0] if input.ndim else 1.0)


@preset(
    shows=["weight=weight"],
    differs="At a probability of 0 for what is true the loss is inf; PyTorch has 100 there, and slopes of at most 1e12.",
)
def binary_cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Native:
    check_same_shape("target", target, input)
    own = weighted(weight, input, reduction_of(reduction, size_average, reduce))
    return Native(al.binary_cross_entropy, (input, as_floats(target, input)), own)


@preset(shows=["weight=weight", "pos_weight=2.0"], differs="Targets below 0 or above 1 are refused.")
def binary_cross_entropy_with_logits(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Array | None = None,
) -> Native:
    check_same_shape("target", target, input)
    reduction, t = reduction_of(reduction, size_average, reduce), as_floats(target, input)
    shape = tuple(getattr(pos_weight, "shape", ()))
    if shape in ((), (1,)) or shape == tuple(input.shape[-1:]):
        of_classes = {"pos_weight": pos_weight, "axis": None if shape in ((), (1,)) else -1}
        of_classes["pos_weight"] = pos_weight if shape != (1,) or not input.ndim else adapter(pos_weight).xp.reshape(pos_weight, ())
        return Native(al.sigmoid_cross_entropy, (input, t), of_classes | weighted(weight, input, reduction))
    # A weight of every positive term: a weight of the element, and another share of it that is positive
    xp = adapter(input).xp
    positive = as_weights(pos_weight, input) * t
    both = positive + (1 - t)
    share = xp.where(both == 0, 0.0, positive / xp.where(both == 0, 1.0, both))
    both = both if weight is None else both * as_weights(weight, input)
    return Native(al.sigmoid_cross_entropy, (input, share), weighted(both, input, reduction))


_ALL: tuple[Preset[Any], ...] = (
    l1_loss,
    mse_loss,
    huber_loss,
    smooth_l1_loss,
    poisson_nll_loss,
    gaussian_nll_loss,
    cross_entropy,
    linear_cross_entropy,
    nll_loss,
    kl_div,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    ctc_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    soft_margin_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
LOSSES = {loss.name: loss for loss in _ALL}
__all__ = list(LOSSES)
