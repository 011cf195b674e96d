"""Builders: what a public loss returns, from its kernel, its arrays and the options of its family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

from arrayloss.adapters.base import Call
from arrayloss.core import dtypes
from arrayloss.core.finish import Mean, Overlap, Regions, size_of
from arrayloss.core.operation import ArrayRef, Operation

from .arguments import INTEGERS, Arguments
from .check import Parameter, choice, chosen_classes, normal_axes, normal_axis, per_class
from .options import BinaryOptions, ElementOptions, LabelOptions, OverlapOptions, RowOptions, check_normalizer, checked

Array = Any
Arrays = Array | dict[str, Array]
Kernel = Callable[..., Any]
Axes = tuple[int, ...]
Named = dict[str, Any]
ACTIVATIONS = (None, "sigmoid", "softmax")


def elementwise(kernel: Kernel, predictions: Arrays, targets: Arrays | None, options: Any, **parameters: Any) -> Call:
    """Every entry is an element. Without targets: None."""
    options = checked(options, ElementOptions, parameters)
    arguments = Arguments(predictions)
    own = {} if targets is None else {"t": arguments.targets(targets)}
    return _of_elements(arguments, kernel, own | parameters, options)


def binary(
    kernel: Kernel, predictions: Arrays, targets: Array, options: Any, class_weights: Parameter | None = None, **parameters: Any
) -> Call:
    """Every entry is a yes/no decision."""
    options = checked(options, BinaryOptions, {"class_weights": class_weights, **parameters})
    arguments = Arguments(predictions)
    if options["axis"] is not None:
        arguments.class_axis = normal_axis("axis", options["axis"], arguments.ndim)
    t = arguments.binary_targets(targets, options["ignore_index"])
    factors = () if class_weights is None else (arguments.parameter("class_weights", class_weights),)
    return _of_elements(arguments, kernel, {"t": t, **parameters}, options, factors=factors, positives=t)


def signed(kernel: Kernel, predictions: Arrays, targets: Array, options: Any, **parameters: Any) -> Call:
    """Every entry is a decision with the target -1 or 1. The kernel gets floating point."""
    options = checked(options, LabelOptions, parameters)
    arguments = Arguments(predictions)
    t = arguments.binary_targets(targets, options["ignore_index"], signs=True)
    return _of_elements(arguments, kernel, {"t": t, **parameters}, options)


def rows(
    of_labels: Kernel | None,
    of_distribution: Kernel | None,
    predictions: Arrays,
    targets: Arrays,
    options: Any,
    class_weights: Parameter | None = None,
    *,
    needs_two_classes: bool = True,
    **parameters: Any,
) -> Call:
    """Every row along the class axis is an element. Kernels that take class weights yield the weight of the row behind its loss.

    Without a kernel of labels, targets are rows of numbers like the predictions; without one of distributions they are labels. A softmax
    `needs_two_classes`.
    """
    options = checked(options, RowOptions, {"class_weights": class_weights, **parameters})
    arguments = Arguments(predictions)
    if isinstance(options["axis"], tuple) and options["axis"]:
        axes = normal_axes("axis", options["axis"], arguments.ndim)
        if of_distribution is None or any(isinstance(p, Parameter) and p.per_class for p in (class_weights, *parameters.values())):
            raise ValueError(f"axis must be one axis for labels, and for parameters with one entry per class; got {options['axis']}")
        t = arguments.targets(targets, options["ignore_index"])
        several: Named = {"t": t, "axis": axes, "of_rows": of_distribution, **parameters}
        return _of_elements(arguments, _of_several_axes, several, options, axes, blocked=False)
    kernel = of_distribution
    if of_labels is None:
        t = arguments.targets(targets, options["ignore_index"])
        arguments.set_class_axis(arguments.shape, options["axis"])
    else:
        t, has_labels = arguments.class_targets(targets, options["axis"], options["ignore_index"])
        kernel = of_labels if has_labels else of_distribution
    axis: Any = arguments.class_axis
    if kernel is None:
        raise TypeError(f"targets must be labels of shape {arguments.without_axis(axis)}; got a distribution of shape {arguments.shape}")
    if needs_two_classes:
        arguments.refuse_one_class(axis, "for one yes/no decision use sigmoid_cross_entropy")
    own: Named = {"t": t, "axis": axis, **({} if class_weights is None else {"class_weights": class_weights}), **parameters}
    terms = ("total",) if class_weights is None else ("total", "weight")
    return _of_elements(arguments, kernel, own, options, (axis,), terms=terms)


def _of_several_axes(xp: Any, x: Array, t: Array, axis: Axes, of_rows: Kernel, **own: Any) -> Any:
    """The steps of a kernel of rows for rows along several axes."""
    order = (*[i for i in range(x.ndim) if i not in axis], *axis)
    shape, back = tuple([x.shape[i] for i in order]), tuple(sorted(range(x.ndim), key=order.__getitem__))
    lead, last = shape[: -len(axis)], prod(shape[-len(axis) :])
    x, t = [xp.reshape(xp.permute_dims(a, order), (*lead, last)) for a in (x, t)]
    own = {n: xp.reshape(v, (1,) * x.ndim) if dtypes.is_array(v) else v for n, v in own.items()}
    steps = of_rows(xp, x, t, axis=len(lead), **own)
    yield xp.permute_dims(xp.reshape(next(steps), (*lead, *[1 for _ in axis])), back)
    for derivative in steps:
        yield xp.permute_dims(xp.reshape(derivative, shape), back)


def around(kernel: Kernel, call: Call, of_rows: bool = False, **static: Any) -> Call:
    """The call with a kernel around its own, which that one gets as the argument `kernel`; `of_rows`: inside, where axes become one."""
    own, op = dict(call.operation.arguments), call.operation
    if of_rows and "of_rows" in own:
        own["kernel"], own["of_rows"] = own["of_rows"], kernel
    else:
        own["kernel"], op = op.kernel, replace(op, kernel=kernel)
    return replace(call, operation=replace(op, arguments=(*own.items(), *static.items())))


def vectors(
    kernel: Kernel, arrays: Arrays, targets: Any, options: Any, weights: Any = None, *, kind: str = "rows", mask: Any = None, **own: Any
) -> Call:
    """Every row along an axis, by default the last, is an element, but no choice of one class among several.

    `kind` of the targets: "rows" of numbers, or "binary" ones, like the predictions; "signs", one for each row; "lists" of labels, or
    masks. Without targets: None. `mask`: which entries exist; it is an argument of the kernel, and a row without entries does not count.
    """
    options = checked(options, RowOptions, {"class_weights": weights, **own})
    arguments = Arguments(arrays)
    axis = arguments.set_class_axis(arguments.shape, -1 if options["axis"] is None else options["axis"])
    own |= {"axis": axis, **({} if weights is None else {"class_weights": weights})}
    if targets is not None:
        read: Named = {"rows": arguments.targets, "lists": arguments.label_lists, "binary": arguments.binary_targets}
        own["t"] = read.get(kind, partial(arguments.binary_targets, signs=True))(targets, options["ignore_index"])
    if mask is not None:
        own["mask"], options["where"] = arguments.items("mask", mask, options["where"])
    return _of_elements(arguments, kernel, own, options, (axis,))


def sequences(
    kernel: Kernel, predictions: Arrays, targets: Array, options: Any, *, event_axes: Axes, lengths: Array = None, **parameters: Any
) -> Call:
    """The entries along several axes are one element: frames by classes, or a map. The terms have size 1 along those axes.

    Targets have the dimensions of the predictions, or all but the last of the event axes; sizes along event axes are free. `lengths`,
    integers with one entry per element, is an argument of the kernel too.
    """
    options = checked(options, ElementOptions, parameters)
    arguments = Arguments(predictions)
    axes = normal_axes("event_axes", tuple(event_axes), arguments.ndim)
    own: dict[str, Any] = {"t": arguments.per_event("targets", targets, axes), "axes": axes, **parameters}
    if lengths is not None:
        own["lengths"] = arguments.per_event("lengths", lengths, axes, is_integer=True)
    is_aligned = all(a.shape[i] in (1, arguments.shape[i]) for a in arguments.arrays for i in axes)
    return _of_elements(arguments, kernel, own, options, axes, blocked=is_aligned)


def coupled(
    kernel: Kernel, arrays: Named, options: Any, *, elements: int = 0, additive: bool = True, has_weights: bool = False, **parameters: Any
) -> Call:
    """Elements depend on each other or on shared arrays: contrastive losses, a linear layer with its loss.

    Floating-point arrays are predictions and come first; integer and boolean ones behind them are arguments of the kernel, by name. The
    losses lie along the axis `elements` of the first array, every other axis has size 1. The kernel's second yield is a pullback.
    `additive`: the losses of two batches add. A masked element has no loss of its own, but takes part in the losses of others.
    `has_weights`: the kernel yields the weights of the elements in a mean behind their losses.
    """
    options = checked(options, ElementOptions, parameters)
    is_label = {n: i > 0 and dtypes.kind(getattr(a, "dtype", None)) in INTEGERS for i, (n, a) in enumerate(arrays.items())}
    arguments = Arguments({n: a for n, a in arrays.items() if not is_label[n]}, same_shape=False)
    labels = {n: arguments.add_array(arguments.adapter.as_array(a, arguments.x, n)) for n, a in arrays.items() if is_label[n]}
    axis = normal_axis("elements", elements, arguments.ndim)
    event_axes = tuple([i for i in range(arguments.ndim) if i != axis])
    terms = ("total", "weight") if has_weights else ("total",)
    call = _of_elements(arguments, kernel, {**labels, **parameters}, options, event_axes, terms=terms, blocked=False, is_coupled=True)
    return replace(call, is_additive=additive)


def linear_rows(
    kernel: Kernel,
    of_labels: Kernel,
    of_distribution: Kernel,
    arrays: dict[str, Array],
    targets: Array,
    options: Any,
    ignore_index: Any,
    class_weights: Parameter | None = None,
    **parameters: Any,
) -> Call:
    """Rows of logits that are the outputs of a linear layer: predictions are features and weight, and perhaps a bias.

    Its argument `kernel` is that of rows of logits, of labels or of distributions.
    """
    options = checked(options, ElementOptions, {"class_weights": class_weights, **parameters})
    arguments = Arguments({n: a for n, a in arrays.items() if a is not None}, same_shape=False)
    features, weight, *bias = [tuple(a.shape) for a in arguments.arrays]
    if not features or len(weight) < 2 or weight[-1] != features[-1]:
        raise ValueError(f"weight must have shape (C, ..., D) for features of shape (..., D), {features}; got {weight}")
    if bias and bias[0] != weight[:-1]:
        raise ValueError(f"bias must have the shape of weight without its last axis, {weight[:-1]}; got {bias[0]}")
    axis = len(features) - 1
    arguments.first, arguments.shape, arguments.ndim = "logits", (*features[:-1], *weight[:-1]), axis + len(weight) - 1
    t, has_labels = arguments.class_targets(targets, axis, ignore_index)
    arguments.refuse_one_class(axis, "for one yes/no decision use sigmoid_cross_entropy")
    own: Named = {"t": t, "kernel": of_labels if has_labels else of_distribution, "class_weights": class_weights, **parameters}
    terms = ("total",) if class_weights is None else ("total", "weight")
    return _of_elements(arguments, kernel, own, options, (axis,), terms=terms, blocked=False, columns=weight[:-1])


def overlap(
    kernel: Kernel,
    formula: Kernel,
    predictions: Arrays,
    targets: Array,
    activation: Any,
    options: Any,
    names: tuple[str, ...] = ("tp", "fp", "fn"),
    weighting: Callable[..., Array] | None = None,
    **parameters: Any,
) -> Call:
    """Sums over whole regions, then a formula of the sums. With a `weighting` the classes form one overlap."""
    class_weights = per_class(options.get("class_weights"), scalar=False)
    options = checked(options, OverlapOptions, {"class_weights": class_weights, **parameters})
    arguments, op, regions = overlap_sums(kernel, predictions, targets, activation, options, names, pool_classes=weighting is not None)
    for name, value in (("class_weights", class_weights), ("volume_weights", weighting)):
        if value is not None and arguments.class_axis is None:
            raise ValueError(f"axis must be named for {name}, one for each class; got None: pass axis=1 for (N, C, H, W)")
    rule = Overlap(
        options["reduction"],
        formula,
        tuple([(n, arguments.parameter_value(n, p) if isinstance(p, Parameter) else p) for n, p in parameters.items()]),
        regions,
        None if class_weights is None else arguments.parameter_value("class_weights", class_weights),
        weighting,
        options["absent"] == "skip",
        not arguments.ndim or 0 in (*(op.reduce or ()), arguments.class_axis),
        dtypes.name(arguments.x.dtype if options["reduction"] == "none" else arguments.compute),
    )
    return Call(arguments.adapter, op, tuple(arguments.arrays), rule)


def overlap_sums(
    kernel: Kernel,
    predictions: Arrays,
    targets: Array,
    activation: Any,
    options: Named,
    names: tuple[str, ...],
    *,
    pool_classes: bool = False,
    **static: Any,
) -> tuple[Arguments, Operation, Regions]:
    """The arguments, the operation whose sums are those of the overlaps, and which of them count. `static`: arguments of the kernel."""
    choice("activation", activation, ACTIVATIONS)
    arguments = Arguments(predictions)
    axis = None if options["axis"] is None else normal_axis("axis", options["axis"], arguments.ndim)
    if activation == "softmax":
        if axis is None:
            raise ValueError("axis must be named for activation='softmax'; got None: pass axis=1 for (N, C, H, W)")
        arguments.refuse_one_class(axis, "for one channel pass activation='sigmoid'")
    t, has_labels = _overlap_targets(arguments, targets, axis, options["ignore_index"])
    arguments.class_axis = axis
    event_axes = (axis,) if axis is not None and (activation == "softmax" or has_labels) else ()
    others, pool_axes = tuple([i for i in range(arguments.ndim) if i != axis]), options["pool_axes"]
    pool = others if pool_axes is None else normal_axes("pool_axes", pool_axes, arguments.ndim)
    summed = tuple([i for i in pool if i != axis])
    op = Operation(
        kernel,
        (("t", t), ("activation", activation), ("axis", axis), ("labels", has_labels), *static.items()),
        terms=names,
        outputs=names,
        event_axes=event_axes,
        per_entry=True,
        reduce=summed,
        **_of_every_operation(arguments, options, event_axes),
    )
    classes = chosen_classes(options["classes"], None if axis is None else arguments.shape[axis])
    place = None if axis is None else [i for i in range(arguments.ndim) if i not in summed].index(axis)
    return arguments, op, Regions(place, classes, axis is not None and (pool_classes or axis in pool))


def _overlap_targets(arguments: Arguments, targets: Array, axis: int | None, ignore_index: Any) -> tuple[ArrayRef, bool]:
    """Labels (True), or the masks of every class (False)."""
    t = arguments.adapter.as_array(targets, arguments.x, "targets")
    shape = tuple(t.shape)
    if axis is None or arguments.has_shape(shape):
        return arguments.binary_targets(t, ignore_index), False
    if arguments.shape[axis] == 1 and shape == arguments.without_axis(axis):  # one channel: not labels of one class, but its mask
        return arguments.binary_targets(arguments.xp.expand_dims(t, axis=axis), ignore_index), False
    return arguments.class_targets(t, axis, ignore_index)


def _of_elements(
    arguments: Arguments, kernel: Kernel, own: Named, options: Named, event_axes: Axes = (), factors: tuple[Any, ...] = (), **fields: Any
) -> Call:
    """The call of a loss of elements: `own` are the arguments of its kernel, `factors` weights of the elements."""
    op = Operation(
        kernel,
        tuple([(n, arguments.parameter(n, p)) for n, p in own.items()]),
        arguments.predictions,
        event_axes=event_axes,
        reduce=_reduce_axes(arguments, options, event_axes),
        **fields,
        **_of_every_operation(arguments, options, event_axes, factors),
    )
    denominator = _denominator(arguments, op, options)
    op = replace(op, outputs=("total", denominator)) if isinstance(denominator, str) else op
    rule = Mean(options["reduction"], denominator, op.outputs, dtypes.name(arguments.compute))
    return Call(arguments.adapter, op, tuple(arguments.arrays), rule, shapes=arguments.given)


def _of_every_operation(arguments: Arguments, options: Named, event_axes: Axes, factors: tuple[Any, ...] = ()) -> Named:
    """What operations of all families have: labels, mask, weights, precision."""
    weights, where = options["weights"], options["where"]
    where = None if where is None or where is True else arguments.per_element("where", where, event_axes)
    arguments.check_fractions(where)
    return {
        "where": where,
        "weights": (*factors, *(() if weights is None else (arguments.per_element("weights", weights, event_axes),))),
        "labels": arguments.labels,
        "half": arguments.half,
        "float64": arguments.adapter.has_float64(arguments.x),
    }


def _reduce_axes(arguments: Arguments, options: Named, event_axes: Axes) -> Axes | None:
    axes = options["reduce_axes"]
    if options["reduction"] == "none":
        return None
    if axes is None:
        return tuple([i for i in range(arguments.ndim) if i not in event_axes])
    axes = normal_axes("reduce_axes", axes, arguments.ndim)
    for axis in event_axes:
        if axis in axes:
            name = "the class axis" if axis == arguments.class_axis else "an axis of one element,"
            raise ValueError(f"reduce_axes must not contain {name} {axis}; got {options['reduce_axes']!r}")
    return axes


def _denominator(arguments: Arguments, op: Operation, options: Named) -> Any:
    """What a mean divides by: a sum by its name, or a number where the shape decides it."""
    normalizer = normalizer_of(arguments.adapter, arguments.x, options["normalizer"])
    if options["reduction"] != "mean":
        return None
    if not isinstance(normalizer, str) or normalizer == "positives":
        return normalizer
    if normalizer == "weights" and ("weight" in op.terms or any(type(w) is ArrayRef for w in op.weights)):
        return "weight"
    scale: Any = prod(op.weights) if normalizer == "weights" else 1.0
    if op.where is not None or (op.labels is not None and op.labels.ignore):
        return "count" if scale == 1 else "weight"
    return size_of([arguments.shape[i] for i in op.reduce or ()]) * scale


def normalizer_of(adapter: Any, like: Array, normalizer: Any) -> Any:
    """A checked normalizer as a name, a number or a 0-d array of the library of `like`."""
    if isinstance(normalizer, (str, float)):
        return normalizer
    normalizer = adapter.as_array(normalizer, like, "normalizer")
    if normalizer.ndim:
        raise ValueError(f"normalizer must be a number or a 0-d array; got shape {tuple(normalizer.shape)}")
    return normalizer


def for_parts(call: Call, names: Sequence[str] = ()) -> Call:
    """The call whose sums are the parts: all that any normalizer asks for. `names`: the options of the loss, for an error."""
    op, rule = replace(call.operation, float64=call.adapter.has_float64(call.arrays[0], for_parts=True)), call.finish
    if rule.reduction == "none":
        raise ValueError("reduction must be 'mean' or 'sum' for parts; got 'none'")
    if isinstance(rule, Overlap):
        return replace(call, operation=op)
    if not call.is_additive:
        if "keys" in names:
            raise TypeError("the elements of this loss depend on the whole batch; pass keys= to fix the other side")
        raise TypeError("there are no parts: the losses of one batch depend on each other, so those of two batches do not add")
    if call.arrays[0].ndim and 0 not in (*op.reduce, *op.event_axes):
        raise ValueError(f"reduce_axes must contain axis 0 for parts, since batches are added; got {op.reduce}")
    outputs = ("total", "weight", "count", *(() if op.positives is None else ("positives",)))
    denominator = "weight" if rule.reduction == "mean" else None
    return replace(call, operation=replace(op, outputs=outputs), finish=replace(rule, denominator=denominator, outputs=outputs))


def finish_with(rule: Any, reduction: Any, normalizer: Any, adapter: Any, like: Array) -> Any:
    """The finish of parts with another reduction, or another normalizer than the weights; None: as it is. The number has their dtype."""
    rule = replace(rule, dtype=None if adapter.has_float64(like) else "float32")
    if reduction is not None:
        if reduction not in ("mean", "sum", *(("none",) if isinstance(rule, Overlap) else ())):
            raise ValueError(f"reduction must be 'mean' or 'sum' to finish parts; got {reduction!r}")
        rule = replace(rule, reduction=reduction)
    if isinstance(rule, Overlap):
        if normalizer is not None:
            raise ValueError(f"normalizer is for means over elements; got {normalizer!r} for the parts of overlaps")
        return rule
    normalizer = "weights" if normalizer is None else check_normalizer(normalizer, has_positives="positives" in rule.outputs)
    if rule.reduction == "sum":
        return replace(rule, denominator=None)
    normalizer = normalizer_of(adapter, like, normalizer)
    return replace(rule, denominator="weight" if isinstance(normalizer, str) and normalizer == "weights" else normalizer)
