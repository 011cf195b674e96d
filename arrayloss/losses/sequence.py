"""Losses of sequences: connectionist temporal classification."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, Unpack

from arrayloss.core import dtypes, special
from arrayloss.frontend.arguments import Arguments
from arrayloss.frontend.build import _of_elements
from arrayloss.frontend.check import choice, integers, normal_axis
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import ElementOptions, checked

Array = Any
Named = dict[str, Any]
LOW = -1e30  # for -inf: finite, so that differences are
WINDOWS = (slice(2, None), slice(1, -1), slice(None, -2))


def _in_layout(xp: Any, a: Array, layout: tuple[Any, ...]) -> Array:
    """An array of the dimensions of the predictions as time x batch x classes."""
    if layout[1] is None:
        return xp.expand_dims(xp.permute_dims(a, (layout[0], layout[2])), axis=1)
    return a if layout == (0, 1, 2) else xp.permute_dims(a, layout)


def _as_predictions(xp: Any, a: Array, shape: tuple[int, ...], layout: tuple[Any, ...]) -> Array:
    """The way back, to an array of a shape."""
    if layout[1] is None:
        a, layout = a[:, 0, :], (layout[0], layout[2])
    a = a if layout == tuple(range(a.ndim)) else xp.permute_dims(a, tuple([layout.index(i) for i in range(a.ndim)]))
    return xp.reshape(a, shape)


def _ctc(
    xp: Any, x: Array, t: Array, input_lengths: Array, target_lengths: Array, layout: Any, blank: int, of_logits: bool, **flags: bool
) -> Iterator[Array]:
    """States are blank, label, blank, .. label, blank: S labels make L = 2S + 1 of them. Their probabilities are logarithms, each a whole
    number and a rest: errors do not grow with the loss, though float32 has 1e-5 between the numbers near 200.
    """
    t, frames, length = (xp.permute_dims(_in_layout(xp, a, layout)[0, ...], (1, 0)) for a in (t, input_lengths, target_lengths))
    x_in = _in_layout(xp, x, layout)
    (count, n, classes), size = x_in.shape, t.shape[0]
    alive = special.arange_along(xp, x_in, 0) < xp.expand_dims(frames, axis=2)
    x_in = xp.where(alive, x_in, 0.0)  # padding may hold anything
    argmax, p, nll = None, None, None
    if of_logits:
        argmax, p, _, nll = special.softmax_with_complement(xp, x_in, 2)
    log_p = special.clip(xp, x_in if nll is None else -nll(), LOW, float("inf"))
    is_label = (t >= 0) & (t < classes) & (t != blank)
    is_valid = xp.all(is_label | (special.arange_along(xp, t, 0) >= length), axis=0, keepdims=True)
    is_valid = is_valid & (frames >= 0) & (frames <= count) & (length >= 0) & (length <= size)
    t, blanks = xp.where(is_label, t, blank), xp.zeros_like(frames) + blank
    labels = xp.concat([xp.reshape(xp.stack([xp.full_like(t, blank), t], axis=1), (2 * size, n)), blanks], axis=0)
    before = xp.concat([blanks, blanks, labels], axis=0)[: 2 * size + 1, :]
    zero = xp.broadcast_to(special.constant(xp, 0.0, x.dtype, t), (2, n))
    enter = xp.where(labels != before, 0.0, LOW + zero[:1, :])  # from the label before, without a blank between them
    low, nowhere = LOW + zero, xp.zeros_like(enter)
    leave = xp.concat([enter, low], axis=0)[2:, :]
    state, end = special.arange_along(xp, labels, 0), 2 * length
    take, add = special.label_columns(xp, x_in[0, ...] if count else xp.zeros((n, classes)), labels)
    is_on = xp.astype(alive, x.dtype)

    def moved(whole: Array, rest: Array, on: bool) -> tuple[Array, Array]:
        """The sums over a state, its neighbour and, if that is another label, the next but one: before it, or behind it."""
        whole = xp.concat([low, whole] if on else [whole, low], axis=0)
        rest = xp.concat([zero, rest] if on else [rest, zero], axis=0)
        windows = WINDOWS if on else WINDOWS[::-1]
        own, near, far = (whole[w, :] for w in windows)
        high = xp.maximum(xp.maximum(own, near), far)
        a, b, c = (rest[w, :] + (k - high) for w, k in zip(windows, (own, near, far), strict=True))
        a, b = special.in_order(xp, a, b)
        a, c = special.in_order(xp, a, c + (enter if on else leave))
        return high, a + xp.log1p(xp.exp(b - a) + xp.exp(c - a))

    def forward(alpha: tuple[Array, Array], inputs: tuple[Array]) -> tuple[Any, tuple[Array, Array]]:
        whole, logs = moved(*alpha, on=True)
        logs = logs + take(inputs[0])
        more = xp.round(logs)
        alpha = whole + more, logs - more
        return alpha, alpha

    def backward(beta: tuple[Array, Array], inputs: tuple[Array, Array, Array, Array]) -> tuple[Any, tuple[Array]]:
        """Behind the last frame beta stays as it is."""
        row, on, alpha, rest = inputs
        whole, logs = moved(*beta, on=False)
        gamma = xp.exp((logs + rest) + (whole + alpha))
        logs, on = logs + take(row), on + nowhere  # in full: NumPy's loops over 16 sequences are short
        more, off = xp.round(logs), 1 - on
        return (on * (whole + more) + off * beta[0], on * (logs - more) + off * beta[1]), (add(gamma),)

    def only(place: Any, whole: Any, rest: Any) -> tuple[Array, Array]:
        """States of which one has a probability."""
        return xp.where(state == place, whole, low[:1, :]), xp.where(state == place, rest, zero[:1, :])

    alphas: Any = ()
    alpha = only(0 * end, zero[:1, :], zero[:1, :])  # as if a blank came first
    if count:
        _, alphas = special.scan(xp, forward, alpha, (log_p,))
        place = xp.broadcast_to(special.clip(xp, frames - 1, 0, count - 1), labels.shape)
        ends = [special.gather_label(xp, states, xp.expand_dims(place, axis=0), 0)[0, ...] for states in alphas]
        alpha = tuple([xp.where(frames > 0, new, old) for new, old in zip(ends, alpha, strict=True)])
    last, last_rest = (xp.sum(xp.where(state == end, a, 0.0), axis=0, keepdims=True) for a in moved(*alpha, on=True))
    is_possible = ~(last + last_rest < LOW / 2)  # a NaN is
    last, last_rest = (xp.where(is_possible, a, 0.0) for a in (last, last_rest))
    scale = 1 + zero[:1, :] if not flags["length_normalized"] else 1 / special.clip(xp, xp.astype(length, x.dtype), 1.0, float("inf"))
    value = scale * xp.where(is_possible, (0.0 - last) - last_rest, 0.0 if flags["zero_infinity"] else float("inf"))
    value = xp.where(is_valid, value, float("nan"))
    yield xp.reshape(value, tuple([1 if i in (layout[0], layout[2]) else m for i, m in enumerate(x.shape)]))

    if not count:
        yield xp.zeros_like(x)
        return
    inputs = log_p, xp.permute_dims(is_on, (0, 2, 1)), *alphas
    _, (occupancy,) = special.scan(xp, backward, only(end, -last, -last_rest), inputs, reverse=True)  # a blank last
    total = special.clip(xp, xp.sum(occupancy, axis=2, keepdims=True), 0.5, float("inf"))  # 0 of an impossible target, else nearly 1
    slope = (xp.exp(log_p) if p is None else p) - occupancy / total
    if argmax is not None:  # slopes add up to 0: where a class is certain, the others have the digits
        others = xp.sum(special.scatter_label(xp, slope, argmax, 0.0, 2), axis=2, keepdims=True)
        slope = special.scatter_label(xp, slope, argmax, -others, 2)
    scale, is_valid, is_possible = (xp.expand_dims(a, axis=2) for a in (scale, is_valid, is_possible))
    factor = xp.where(is_valid, xp.where(alive & is_possible, scale, 0.0), float("nan"))
    yield _as_predictions(xp, factor * slope, x.shape, layout)


def _label_sequences(
    kernel: Callable[..., Any], predictions: Array, targets: Array, lengths: Named, options: Any, *, axes: Named, blank: int, **own: Any
) -> Any:
    """Every sequence is an element. `lengths`: of the frames, then of the targets; `axes`: of time, of the batch (None: there is one
    sequence) and of the classes. Targets: a padded row of labels for each sequence, or the labels of all sequences in one dimension.

    The kernel gets targets and lengths in the dimensions of the predictions, labels along the class axis, and `layout`, the three axes.
    Numbers out of range raise where they may be read; elsewhere the kernel makes NaN of their sequences.
    """
    options, _ = checked(options, ElementOptions, own), integers("blank", blank)
    arguments = Arguments(predictions)
    xp, shape = arguments.xp, arguments.shape
    layout: Any = [None if a is None and n == "batch_axis" else normal_axis(n, a, arguments.ndim) for n, a in axes.items()]
    time, batch, classes = layout
    if sorted([a for a in layout if a is not None]) != list(range(arguments.ndim)):
        text = ", ".join([f"{n}={a}" for n, a in axes.items()])
        raise ValueError(f"{', '.join(axes)} must name all axes of {arguments.first}, each once; got {text} for shape {shape}")
    if not 0 <= blank < shape[classes]:
        raise ValueError(f"blank must be a class from 0 to {shape[classes] - 1}; got {blank}")
    size = () if batch is None else (shape[batch],)
    rows = {n: arguments.adapter.as_array(a, arguments.x, n) for n, a in {**lengths, "targets": targets}.items()}
    for name, a in rows.items():
        if dtypes.kind(a.dtype) != "integer":
            raise TypeError(f"{name} must be integers; got {dtypes.name(a.dtype)}")
        if name != "targets" and tuple(a.shape) != size:
            raise ValueError(f"{name} must be one length for each sequence, of shape {size}; got {tuple(a.shape)}")
    is_readable = all(arguments.adapter.host_view(a) is not None for a in rows.values())
    of_frames, of_labels, t = [xp.astype(a, xp.int64, copy=False) for a in rows.values()]
    if size and t.ndim == 1:
        t = _padded(xp, t, of_labels, is_readable)
    if t.ndim != len(size) + 1 or tuple(t.shape[:-1]) != size:
        raise ValueError(f"targets must be a row for each of {size} sequences, or one dimension of all labels; got {tuple(t.shape)}")
    events, origin = tuple(sorted((time, classes))), [a for a in (batch, classes, time) if a is not None]
    if options["where"] is not None:
        options["where"] = arguments.arrays[arguments.per_element("where", options["where"], events).index]
    if is_readable:
        columns = [xp.reshape(a, (size or (1,)) + (n,)) for a, n in ((of_frames, 1), (of_labels, 1), (t, t.shape[-1]))]
        limits = dict(zip(rows, (shape[time], t.shape[-1], shape[classes] - 1), strict=True))
        _check(xp, dict(zip(rows, columns, strict=True)), limits, blank, options["where"])

    def placed(a: Array, length: int) -> Any:
        a = xp.reshape(a, (*size, length, 1))
        return arguments.add_array(xp.permute_dims(a, tuple([origin.index(i) for i in range(arguments.ndim)])))

    arrays = {"t": placed(t, t.shape[-1])} | {n: placed(a, 1) for n, a in zip(lengths, (of_frames, of_labels), strict=True)}
    return _of_elements(arguments, kernel, {**arrays, "layout": tuple(layout), "blank": blank, **own}, options, events, blocked=False)


def _padded(xp: Any, t: Array, lengths: Array, is_readable: bool) -> Array:
    """Labels of all sequences as a row for each. Where lengths cannot be read, the rows have room for all labels."""
    if is_readable and (count := int(xp.sum(lengths))) != t.shape[0]:
        raise ValueError(f"targets of one dimension must have as many labels as target_lengths say, {count}; got {t.shape[0]}")
    longest = int(xp.max(lengths)) if is_readable and lengths.shape[0] else t.shape[0]
    place = xp.reshape(xp.arange(longest, device=getattr(t, "device", None)), (1, -1))
    starts, lengths = (xp.reshape(a, (-1, 1)) for a in (xp.cumulative_sum(lengths) - lengths, lengths))
    places = xp.where(place < lengths, starts + place, 0)
    return xp.reshape(xp.take(t, xp.reshape(places, (-1,)), axis=0), places.shape)


def _check(xp: Any, rows: Named, limits: Named, blank: int, where: Any) -> None:
    """Raise where a number that counts is out of range: lengths of frames and of labels, labels. Reads values: for host memory only."""
    (_, lengths, t), counts = rows.values(), True if where is None else xp.reshape(where, (-1, 1))
    used = (xp.reshape(xp.arange(t.shape[1]), (1, -1)) < lengths) & counts
    for (name, a), high in zip(rows.items(), limits.values(), strict=True):
        bad = ((a < 0) | (a > high)) & (used if a is t else counts)
        if bool(xp.any(bad)):
            raise ValueError(f"{name} must be from 0 to {high}; got {int(a[bad][0])}")
    if bool(xp.any((t == blank) & used)):
        raise ValueError(f"targets must not contain the blank, class {blank}")


@loss(properties=lambda **_: Properties())
def ctc_loss(
    predictions: Array,
    targets: Array,
    input_lengths: Array,
    target_lengths: Array,
    *,
    given: Literal["log_probs", "logits"] = "log_probs",
    blank: int = 0,
    zero_infinity: bool = False,
    length_normalized: bool = False,
    time_axis: int = 0,
    batch_axis: int | None = 1,
    axis: int = 2,
    **options: Unpack[ElementOptions],
) -> Array:
    """Connectionist temporal classification: a sequence of labels from a longer sequence of frames, whose alignment is not known.

    .. code-block:: text

        loss = -log(sum over alignments of the product over frames of p_t(label of the frame))

    An alignment gives every frame a label or the blank; labels of adjacent frames that are equal count once, then blanks are removed, and
    what is left is the target. Gradient: p - q, q the probability of a class in a frame given the target; finite, with an absolute error
    of about 1e-6 in float32 after hundreds of frames. For log-probabilities p is exp(log_probs), as in PyTorch: the gradient along
    distributions. There is no Hessian diagonal. A target that no alignment has (fewer frames than labels and repeats, or a probability
    of 0) has an infinite loss with gradient 0; an empty one is all blanks.
    Source: A. Graves et al., Connectionist Temporal Classification, ICML 2006, equations 6 to 16.

    Parameters
    ----------
    predictions : array, floating point, T x N x C, or T x C with `batch_axis=None, axis=1`; frames behind their length do not count
    targets : integers, N x S padded with anything, or one dimension with the labels of all sequences; S with `batch_axis=None`
        Classes beside the blank. In one dimension, where lengths cannot be read (a GPU, a compiler), every target has room for all labels.
    input_lengths, target_lengths : integers, one for each sequence, from 0 to T and to S
        A number out of range raises in host memory; elsewhere the loss of the sequence is NaN.
    given : "log_probs" or "logits"
        Log-probabilities are used as they are. From logits nothing is lost in confident frames.
    blank : int from 0 to C - 1
    zero_infinity : bool: infinite losses are 0; they count in the mean
    length_normalized : bool
        Divide the loss of a sequence by max(S, 1), S its target length. The mean of that is the "mean" of PyTorch.
    time_axis, batch_axis, axis : int, the axes of frames, sequences and classes; without a batch axis there is one sequence
    {options}

    Memory: about 8 numbers for every frame, label and sequence. Frames are a loop, under JAX one of the compiler's; PyTorch's compiler
    unrolls it (`torch.compiler.disable` leaves the loss out of a compiled model), and Dask has a task for every step.

    >>> import numpy as np
    >>> log_probs = np.log(np.array([[[0.5, 0.5, 0.0]], [[0.25, 0.5, 0.25]]]) + 1e-300)
    >>> print(f"{np.exp(-ctc_loss(log_probs, np.array([[1]]), np.array([2]), np.array([1]))):.3f}")  # 1 1, 1 blank or blank 1
    0.625
    """
    of_logits = choice("given", given, ("log_probs", "logits")) == "logits"
    flags = {"zero_infinity": zero_infinity, "length_normalized": length_normalized}
    parameters = {name: choice(name, flag, (True, False)) for name, flag in flags.items()}
    lengths = {"input_lengths": input_lengths, "target_lengths": target_lengths}
    axes = {"time_axis": time_axis, "batch_axis": batch_axis, "axis": axis}
    return _label_sequences(_ctc, predictions, targets, lengths, options, axes=axes, blank=blank, of_logits=of_logits, **parameters)
