"""The losses of `torch.nn.functional` that ask for a margin, of vectors, and of sequences."""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import Any

import arrayloss as al

from ._preset import Native, Symbol, adapter, as_floats, as_weights, broadcast, readable
from ._torch import by_count, check_same_ndim, check_same_shape, preset, reduction_of

Array = Any


@preset(differs="Pairs at the kink count: PyTorch has no slope there.", labels=["target", "weight"], shows=["p=2, weight=weight"])
def multi_margin_loss(
    input: Array,
    target: Array,
    p: int = 1,
    margin: float = 1.0,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Native:
    reduction = reduction_of(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    x = input
    if input.ndim < 2:
        x = adapter(input).xp.reshape(input, (1,) * target.ndim + (-1,))
    own = {"p": int(p), "margin": margin, "class_weights": weight, "axis": -1}
    mean = by_count(reduction) if weight is not None else {"reduction": reduction}
    return Native(al.multi_margin_loss, (x, target), own | mean, (input,))


@preset(differs="Pairs at the kink count: PyTorch has no slope there.")
def multilabel_margin_loss(
    input: Array, target: Array, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
) -> Native:
    check_same_shape("target", target, input)
    x, t = [a if a.ndim else adapter(a).xp.reshape(a, (1,)) for a in (input, target)]
    return Native(al.multilabel_margin_loss, (x, t), {"reduction": reduction_of(reduction, size_average, reduce)}, (input,))


@preset(shows=["weight=weight"], differs="Targets below 0 or above 1 are refused.")
def multilabel_soft_margin_loss(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Native:
    reduction, arrays = reduction_of(reduction, size_average, reduce), (input, as_floats(target, input))
    if weight is None or weight.ndim < 2:
        return Native(al.multilabel_soft_margin_loss, arrays, {"class_weights": weight, "axis": -1, "reduction": reduction})
    own = {"weights": as_weights(weight, input), **by_count("mean" if reduction == "none" else reduction)}
    own |= {"reduce_axes": -1} if reduction == "none" else {}
    return Native(al.sigmoid_cross_entropy, arrays, own, scale=1 / input.shape[-1] if reduction == "sum" else 1.0)


@preset()
def soft_margin_loss(
    input: Array, target: Array, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
) -> Native:
    x, t = broadcast(input, as_floats(target, input))
    return Native(al.soft_margin_loss, (x, t), {"reduction": reduction_of(reduction, size_average, reduce)}, (input,))


@preset(shows=["margin=0.5"])
def hinge_embedding_loss(
    input: Array,
    target: Array,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Native:
    x, t = broadcast(input, as_floats(target, input))
    own = {"margin": margin, "reduction": reduction_of(reduction, size_average, reduce)}
    view = readable(t)
    if isinstance(t, Symbol) or (view is not None and bool((abs(view) == 1).all())):
        return Native(al.hinge_embedding_loss, (x, t), own, (input,))
    xp = adapter(t).xp  # for another target than 1 and -1 both terms are added: every element twice, once with each target
    twice, signs = xp.stack([x, x]), xp.stack([xp.ones_like(t), -xp.ones_like(t)])
    own |= {"where": xp.stack([t != -1, t != 1])} | ({"normalizer": float(prod(x.shape))} if own["reduction"] == "mean" else {})
    return Native(al.hinge_embedding_loss, (twice, signs), own, (input,), summed=0 if own["reduction"] == "none" else None)


@preset(shows=["margin=0.5"])
def margin_ranking_loss(
    input1: Array,
    input2: Array,
    target: Array,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Native:
    check_same_ndim(input1=input1, input2=input2, target=target)
    arrays = broadcast(input1, input2, as_floats(target, input1))
    own = {"margin": margin, "reduction": reduction_of(reduction, size_average, reduce)}
    return Native(al.margin_ranking_loss, arrays, own, (input1, input2))


def _with_columns(x: Array, *columns: float) -> Array:
    """Vectors with more entries."""
    xp = adapter(x).xp
    return xp.concat([x, *[xp.full_like(x[..., :1], c) for c in columns]], axis=-1)


def _without_columns(g: Array) -> Array:
    return g[..., :-2]


@preset(labels=["target"], differs="Squared norms are 1e-12 larger, as there: by two more entries of every vector.")
def cosine_embedding_loss(
    input1: Array,
    input2: Array,
    target: Array,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Native:
    if target.ndim != input1.ndim - 1:
        raise ValueError(f"target must have one entry for each pair of vectors of {tuple(input1.shape)}; got {tuple(target.shape)}")
    own = {"margin": margin, "reduction": reduction_of(reduction, size_average, reduce)}
    a, b = broadcast(input1, input2)
    if not isinstance(a, Symbol):
        eps = sqrt(1e-12)
        a, b = _with_columns(a, eps, 0.0), _with_columns(b, 0.0, eps)
    back = (_without_columns, _without_columns)
    return Native(al.cosine_embedding_loss, (a, b, as_floats(target, input1)), own, (input1, input2), back)


def _triplet(loss: Any, arrays: tuple[Array, ...], margin: float, **own: Any) -> Native:
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    check_same_ndim(anchor=arrays[0], positive=arrays[1], negative=arrays[2])
    return Native(loss, broadcast(*arrays), {"margin": margin, **own}, arrays)


@preset(shows=["p=1, swap=True"], differs="The norm must have p >= 1.")
def triplet_margin_loss(
    anchor: Array,
    positive: Array,
    negative: Array,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Native:
    own = {"p": float(p), "swap": swap, "eps": eps, "reduction": reduction_of(reduction, size_average, reduce)}
    return _triplet(al.triplet_margin_loss, (anchor, positive, negative), margin, **own)


@preset(
    shows=["distance_function=distance"],
    differs="Of a function of yours PyTorch and JAX differentiate the call; there is no `value_and_grad`.",
)
def triplet_margin_with_distance_loss(
    anchor: Array,
    positive: Array,
    negative: Array,
    *,
    distance_function: Callable[[Array, Array], Array] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Native:
    own = {"swap": swap, "reduction": reduction_of(reduction)}
    arrays = anchor, positive, negative
    if distance_function is None:
        return _triplet(al.triplet_margin_loss, arrays, margin, eps=1e-6, **own)
    return _triplet(al.triplet_margin_with_distance_loss, arrays, margin, distance_function=distance_function, **own)


@preset(labels=["input_lengths", "target_lengths"], differs="The gradient of a target that no alignment has is 0; PyTorch has NaN.")
def ctc_loss(
    log_probs: Array,
    targets: Array,
    input_lengths: Array,
    target_lengths: Array,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Native:
    xp = adapter(log_probs).xp
    lengths = input_lengths, target_lengths
    if not isinstance(log_probs, Symbol):
        lengths = tuple([n if hasattr(n, "shape") else xp.asarray(n, dtype=xp.int64) for n in lengths])
    own: dict[str, Any] = {"blank": blank, "zero_infinity": zero_infinity, "reduction": reduction_of(reduction)}
    own |= {"length_normalized": True} if reduction == "mean" else {}
    if log_probs.ndim == 2 and not isinstance(log_probs, Symbol):
        own |= {"batch_axis": None, "axis": 1}
        lengths = tuple([xp.reshape(n, ()) for n in lengths])
    return Native(al.ctc_loss, (log_probs, targets, *lengths), own)
