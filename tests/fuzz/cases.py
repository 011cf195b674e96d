"""Random calls of losses, as data: which loss, on what, with which options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .oracle import BINARY, ELEMENTWISE, OVERLAPS, ROWS

Array = Any
LABELS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64", "float16", "bfloat16")
LAYOUTS = ("plain", "strided", "reversed", "fortran", "read-only", "foreign", "unaligned")
FORMS = {"nll_loss": ("log_probs", "probs"), "sigmoid_focal_loss": ("logits", "probs"), "softmax_focal_loss": ("logits", "probs")}


@dataclass(repr=False)
class Case:
    """A call. Numbers are float64 that the dtype holds; `plain` has them before what does not count was made NaN."""

    name: str
    dtype: str
    predictions: list[Array]
    targets: Array
    options: dict[str, Any]  # as a loss gets them, arrays in NumPy
    exact: dict[str, Any] = field(default_factory=dict)  # as the oracle gets them
    plain: list[Array] = field(default_factory=list)
    dense: Array = None  # targets as floating point in the shape of the predictions
    axis: int | None = None
    copies: int = 1
    is_split: bool = False  # the loss gets the class axis as two
    layouts: tuple[str, ...] = ("plain",)
    seed: int = 0

    def __repr__(self) -> str:
        options = {n: (v.dtype, v.shape, v.tolist()) if isinstance(v, np.ndarray) and v.size < 50 else v for n, v in self.options.items()}
        t = self.targets
        text = f"{self.name} {self.dtype} x{[p.shape for p in self.predictions]} t {t.dtype} {t.shape} {options} axis={self.axis}"
        numbers = f"\n x = {[p.tolist() for p in self.predictions]}\n t = {t.tolist()}" if t.size < 60 else ""
        return f"{text} copies={self.copies} {self.layouts} seed={self.seed}{numbers}"


def rounded(a: Array, dtype: str) -> Array:
    """Numbers that a dtype holds, as float64."""
    if dtype != "bfloat16":
        return np.asarray(a).astype(dtype).astype(np.float64)
    bits = np.asarray(a, np.float32).view(np.uint32)
    return ((bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def one_in(n: int) -> st.SearchStrategy[bool]:
    return st.sampled_from([False] * (n - 1) + [True])


@st.composite
def cases(draw: Any, names: tuple[str, ...] = (*ELEMENTWISE, *BINARY, *ROWS, *OVERLAPS)) -> Case:
    name = draw(st.sampled_from(names))
    dtype, seed = draw(st.sampled_from(FLOATS)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    own = own_options(draw, name, rng)
    has_classes = name in ROWS or (name in OVERLAPS and (own["activation"] == "softmax" or name == OVERLAPS[-1] or draw(st.booleans())))
    sizes = st.sampled_from([1, 2, 3, 4, 5, 7, 0] if draw(one_in(6)) else [1, 2, 3, 4, 5, 7])
    shape = draw(st.lists(sizes, min_size=int(has_classes), max_size=4).filter(lambda s: np.prod(s) <= 96))
    ndim, axis = len(shape), None
    if has_classes:
        axis = draw(st.integers(0, ndim - 1))
        least = 2 if name in ROWS or own["activation"] == "softmax" else 1
        shape[axis] = draw(st.integers(1 if name == "nll_loss" else least, 5))
    elif name in BINARY and ndim and draw(st.booleans()):
        axis = draw(st.integers(0, ndim - 1))
    shape = tuple(shape)
    plain = [rounded(a, dtype) for a in draw_predictions(draw, name, own, shape, axis, rng)]
    t, dense, ignored = draw_targets(draw, name, own, shape, axis, rng)
    options: dict[str, Any] = dict(own)
    mask = np.ones(shape, bool) if ignored is None else ~ignored
    if ignored is not None:
        options["ignore_index"] = own.pop("ignore_index")
    case = Case(name, dtype, plain, t, options, dict(own), plain, dense, axis, seed=seed)
    is_one_mask = axis is not None and shape[axis] == 1 and t.ndim < len(shape)
    has_labels = t.shape != shape and not is_one_mask
    by_row = name in ROWS or (name in OVERLAPS and axis is not None and (own["activation"] == "softmax" or has_labels))
    if by_row and axis is not None:
        mask = np.broadcast_to(mask.all(axis=axis, keepdims=True), shape)
    if axis is not None:
        may_be_left_out = name in ROWS and axis == ndim - 1 and ndim <= 2
        if not (may_be_left_out and draw(st.booleans())):
            options["axis"] = axis - ndim if draw(st.booleans()) else axis
    class_options(draw, case, shape, rng)
    here = element_options(draw, case, shape, axis if by_row else None, rng)
    reduction_options(draw, case, shape)
    case.exact |= {"axis": axis, "mask": mask & here}
    poison(draw, case, mask & here, here)
    case.layouts = tuple(draw(st.lists(st.sampled_from(LAYOUTS), min_size=3, max_size=3)))
    if ndim and case.plain[0].size and draw(one_in(8)):
        goal = draw(st.sampled_from([2**11, 2**16, 2**17, 2**18, 2**18 + 2**17]))
        repeat(case, max(1, goal // case.plain[0].size + draw(st.integers(-1, 1))))
    elif name in ROWS and t.shape == shape and shape[axis] == 4 and not {"class_weights", "alpha", "ignore_index", *OFFSETS} & set(options):
        split_classes(case, draw(st.booleans()))
    return case


OFFSETS = ("logit_offsets", "label_margins")


def split_classes(case: Case, is_reversed: bool) -> None:
    """Four classes as two axes of two, for the loss; what the oracle gets stays as it is. Such targets are numbers: none is ignored."""
    axis, ndim, shape = case.axis or 0, case.plain[0].ndim, case.plain[0].shape
    case.is_split = True
    case.predictions = [x.reshape(*shape[:axis], 2, 2, *shape[axis + 1 :]) for x in case.predictions]
    case.targets = case.targets.reshape(case.predictions[0].shape)
    case.options["axis"] = (axis + 1, axis - ndim - 1) if is_reversed else (axis, axis + 1)
    for name in ("weights", "where"):
        if np.ndim(case.options.get(name)) == ndim:
            case.options[name] = np.expand_dims(case.options[name], axis)
    if "reduce_axes" in case.options:
        places = [a % ndim for a in np.atleast_1d(case.options["reduce_axes"]).astype(int).tolist()]
        case.options["reduce_axes"] = tuple([a + (a > axis) for a in places])


def own_options(draw: Any, name: str, rng: Any) -> dict[str, Any]:
    o: dict[str, Any] = {}

    def maybe(key: str, *values: Any) -> None:
        if draw(st.booleans()):
            o[key] = draw(st.sampled_from(values))

    if name in FORMS:
        maybe("given", *FORMS[name])
    if name in BINARY or name in ("softmax_cross_entropy", "nll_loss", "softmax_focal_loss"):
        maybe("label_smoothing", 0.0, 0.125, 0.5, 1.0, 1, np.float64(0.25), np.float32(0.5))
    if "focal_loss" in name:
        maybe("gamma", 0, 0.5, 1, 1.5, 2.0, 3, 5.0, np.array(2.0), np.float32(1.0), np.array(0.5, np.float32))
    if (name in ROWS or name in BINARY) and domain_of(name, o) == "probs":
        maybe("clip", 0, 2.0**-10, 0.015625, 0.11, np.float32(0.25))
        if name in ROWS:
            maybe("renormalize", True, False)
    if name == "softmax_cross_entropy" and draw(st.booleans()):
        maybe("z_loss", 0, 0.5, 1, np.float32(0.25), np.array(0.125))
        maybe("softcap", 2.0, 30, np.float64(50.0), np.array(8.0))
        maybe("scale", 1, 0.5, 4.0, np.float32(2.0), np.array(2.0, np.float32))
    if name == "huber_loss":
        maybe("delta", 0.5, 1, 2.0, np.array(1.0), 1e-3, 100)
    if name == "gaussian_nll_loss":
        maybe("full", True, False)
    if name in OVERLAPS:
        o["activation"] = draw(st.sampled_from(["softmax", "sigmoid", None]))
        maybe("smooth", 0.0, 0, 1e-3, 1.0, 5, np.array(0.5))
        maybe("absent", "skip", "keep")
        if name in ("dice_loss", "jaccard_loss", "tversky_loss"):
            maybe("log", True, False)
            maybe("gamma", 1, 1.0, 0.75, 2, 0.5, np.float32(1.5))
    if name in ("dice_loss", "jaccard_loss"):
        maybe("squared", True, False)
    if "tversky" in name:
        o["alpha"], o["beta"] = draw(st.sampled_from([(0.5, 0.5), (0.25, 0.75), (1, 1), (0.0, 1.0), (np.array(0.25), 2.0)]))
    if name == "focal_tversky_loss":
        maybe("gamma", 0.75, 1.0, 2, 0.5)
    if name == "generalized_dice_loss":
        maybe("volume_weights", "square", "simple", "uniform")
    return o


def domain_of(name: str, own: dict[str, Any]) -> str:
    if name == "binary_cross_entropy" or own.get("given") == "probs" or (name in OVERLAPS and own["activation"] is None):
        return "probs"
    return "log_probs" if name == "nll_loss" else "logits"


def draw_predictions(draw: Any, name: str, own: dict[str, Any], shape: Any, axis: int | None, rng: Any) -> list[Array]:
    scale = draw(st.sampled_from([1.0, 0.01, 8.0, 60.0]))
    x = rng.normal(size=shape) * scale
    if draw(one_in(4)):
        x = np.where(rng.random(shape) < 0.4, rng.choice([0.0, -0.0, 1.0, -1.0, 88.0, -88.0, 300.0, -300.0], shape), x)
    domain = domain_of(name, own)
    if domain == "probs":
        x = 1 / (1 + np.exp(-x))
        if name in ROWS and axis is not None and x.shape[axis] > 1:
            x = x / x.sum(axis=axis, keepdims=True)
        x = np.clip(x, 2.0**-12, 1 - 2.0**-7)
        x = 3 * x if own.get("renormalize") else x
    if domain == "log_probs":
        x = -np.abs(x)
    return [x, np.exp(rng.normal(size=shape)) + 0.1] if name == "gaussian_nll_loss" else [x]


def draw_targets(draw: Any, name: str, own: dict[str, Any], shape: Any, axis: int | None, rng: Any) -> tuple[Array, Array, Array]:
    """Targets; the same as numbers in the shape of the predictions; and what is ignored (None: `ignore_index` is not passed)."""
    if name in ELEMENTWISE or name == "kl_divergence":
        t = np.round(rng.normal(size=shape) * draw(st.sampled_from([1, 8, 30])) * 4) / 4
        kind = draw(st.sampled_from(["float64", "float32", "float16", "int64"]))
        t = t.astype(kind)
        return t, t.astype(np.float64), None
    kind = draw(st.sampled_from(["labels", "masks", "soft"] if axis is not None and name not in BINARY else ["masks", "soft"]))
    if kind == "soft":
        t = (rng.integers(0, 9, shape) / 8).astype(draw(st.sampled_from(["float64", "float32", "float16"])))
        if draw(st.booleans()):
            t = t.round()
        if name in ROWS and draw(st.booleans()):
            t = np.where(np.arange(t.shape[axis]).reshape([-1 if i == axis else 1 for i in range(t.ndim)]) == 0, t, 0).astype(t.dtype)
        return t, t.astype(np.float64), None
    dtype = draw(st.sampled_from((*LABELS, "bool")))
    if kind == "masks":
        classes, place = 2, shape
    else:
        classes, place = shape[axis], tuple(n for i, n in enumerate(shape) if i != axis)
        if classes == 1 and name in OVERLAPS:
            classes = 2  # with one channel such an array is its mask
    highest = 1 if dtype == "bool" else classes - 1
    labels = np.asarray(rng.integers(0, min(highest, classes - 1) + 1, place))
    if draw(one_in(3)):
        labels = labels * (rng.random(place) < 0.5)
    ignored = None
    if draw(st.booleans()):
        bounds = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        values = draw(st.lists(st.sampled_from([-100, -1, 0, 1, 255, 156, 7, 2**31 - 1, 2**32 - 100]), min_size=1, max_size=3))
        inside = [v for v in values if bounds[0] <= v <= bounds[1]]
        if inside:
            labels = np.where(rng.random(place) < 0.3, rng.choice(inside, place), labels)
        ignored = np.isin(labels, inside)
        own["ignore_index"] = values[0] if len(values) == 1 and draw(st.booleans()) else tuple(values)
    t = labels.astype(dtype)
    counted = np.where(ignored, 0, labels) if ignored is not None else labels
    if kind == "labels" and not (shape[axis] == 1 and name in OVERLAPS):
        counted = np.expand_dims(counted, axis) == np.arange(classes).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    dense = counted.reshape(shape).astype(np.float64)
    if ignored is not None:
        ignored = np.broadcast_to(ignored if kind == "masks" else np.expand_dims(ignored, axis), shape)
    if kind == "labels" and shape[axis] > 1 and draw(one_in(3)):  # of one class it would be a distribution
        t = np.expand_dims(t, axis)
    return t, dense, ignored


def class_options(draw: Any, case: Case, shape: Any, rng: Any) -> None:
    """Parameters with one number a class."""
    name, axis, ndim = case.name, case.axis, len(shape)
    at = axis if axis is not None else ndim - 1 if ndim and name in BINARY and shape.count(shape[-1]) == 1 else None

    def numbers(key: str, palette: list[float], scalar: bool) -> None:
        if not draw(one_in(3)):
            return
        if scalar and (at is None or draw(st.booleans())):
            case.options[key] = case.exact[key] = draw(st.sampled_from(palette))
        elif at is not None:
            values = rng.choice(palette, shape[at])
            form = draw(st.sampled_from(["tuple", "list", "float32", "float64"]))
            case.options[key] = tuple(values.tolist()) if form == "tuple" else values.tolist() if form == "list" else values.astype(form)
            case.exact[key] = values

    if name in ("sigmoid_cross_entropy", "binary_cross_entropy"):
        numbers("class_weights", [0.0, 0.5, 1.0, 3.0], True)
    if name == "sigmoid_cross_entropy":
        numbers("pos_weight", [0.0, 0.5, 1.0, 4.0], True)
    if name == "sigmoid_focal_loss":
        numbers("alpha", [0.0, 0.25, 0.5, 1.0], True)
    if name in ("softmax_cross_entropy", "nll_loss") or name in OVERLAPS:
        numbers("class_weights", [0.0, 0.5, 1.0, 3.0], False)
    if name == "softmax_focal_loss":
        numbers("alpha", [0.0, 0.25, 1.0, 2.0], False)
    if name == "softmax_cross_entropy":
        numbers("logit_offsets", [0.0, 0.5, -1.0, 3.0], False)
        numbers("label_margins", [0.0, 0.5, 1.0, -0.25], False)
    if name in OVERLAPS and axis is not None and draw(one_in(3)):
        chosen = rng.permutation(shape[axis])[: draw(st.integers(1, shape[axis]))]
        chosen = [int(c) - (shape[axis] if draw(one_in(4)) else 0) for c in chosen]
        case.options["classes"] = case.exact["classes"] = chosen[0] if len(chosen) == 1 and draw(st.booleans()) else tuple(chosen)


def element_options(draw: Any, case: Case, shape: Any, event: int | None, rng: Any) -> Array:
    """`weights` and `where`; returns the latter."""
    sizes = tuple(1 if i == event else n for i, n in enumerate(shape))

    def spread() -> tuple[int, ...]:
        if draw(one_in(6)):
            return ()
        return tuple(1 if draw(one_in(4)) else n for n in sizes)

    def given(a: Array) -> Array:
        """For a loss: with the class axis or without."""
        return a.squeeze(event) if event is not None and a.ndim and draw(st.booleans()) else a

    if draw(one_in(3)):
        place = spread()
        number = draw(one_in(3))
        kind = draw(st.sampled_from(["float64", "float32", "float16", "int64"]))
        w = np.array(rng.choice([0.0, 1.0, 2.0, 3.0] if kind == "int64" else [0.0, 0.5, 1.0, 2.0, 3.0], () if number else place))
        case.exact["weights"] = w
        case.options["weights"] = float(w) if number else given(w.astype(kind))
    where = np.ones(shape, bool)
    if draw(one_in(3)):
        place = spread()
        here = np.array(rng.random(place) < draw(st.sampled_from([0.5, 0.0, 0.9])))
        case.options["where"] = given(here)
        where = where & here
    return where


def reduction_options(draw: Any, case: Case, shape: Any) -> None:
    name, ndim, o = case.name, len(shape), case.options
    reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    if reduction != "mean" or draw(st.booleans()):
        o["reduction"] = reduction
    case.exact["reduction"] = reduction
    axes = [i for i in range(ndim) if not (name in ROWS and i == case.axis)]
    if name in OVERLAPS:
        if draw(one_in(2)) and ndim:
            some = draw(st.lists(st.sampled_from(range(ndim)), unique=True, min_size=0))
            case.exact["pool_axes"] = tuple(some)
            o["pool_axes"] = some[0] if len(some) == 1 and draw(st.booleans()) else tuple(some)
    elif reduction != "none":
        if draw(one_in(3)) and axes:
            some = [a - ndim if draw(one_in(4)) else a for a in draw(st.lists(st.sampled_from(axes), unique=True, min_size=0))]
            case.exact["reduce_axes"] = o["reduce_axes"] = some[0] if len(some) == 1 and draw(st.booleans()) else tuple(some)
        if draw(one_in(3)):
            rules = ["weights", "count", 3, 0.5, 0, np.array(2.0), np.array(7), np.array(0.0, np.float32), np.float64(4.0)]
            case.exact["normalizer"] = o["normalizer"] = draw(st.sampled_from(rules + ["positives"] * 2 * (name in BINARY)))


def poison(draw: Any, case: Case, mask: Array, here: Array) -> None:
    """What does not count is made NaN, infinite, or a label that there is not."""
    if mask.all() or draw(one_in(3)):
        return
    bad = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    case.predictions = [np.where(mask, x, bad) for x in case.plain]
    t = case.targets
    out = ~here if t.shape == here.shape else ~here.any(axis=case.axis, keepdims=True).reshape(t.shape)
    if t.dtype.kind == "f":
        case.targets = np.where(out, np.array(np.nan, t.dtype), t)
    elif t.dtype.kind in "iu":
        case.targets = np.where(out, np.array(99, t.dtype), t)


def repeat(case: Case, copies: int) -> None:
    """The batch, as often, along axis 0: sizes at which the engine cuts blocks and starts threads."""
    first = case.plain[0].shape[0]
    o, name = case.options, case.name
    if case.axis == 0 or o.get("reduction") == "none" or first == 0:
        return
    key = "pool_axes" if name in OVERLAPS else "reduce_axes"
    axes = case.exact.get(key)
    if axes is not None and 0 not in {a % case.plain[0].ndim for a in ((axes,) if np.ndim(axes) == 0 else axes)}:
        return
    if first == 1 and any(getattr(o.get(n), "ndim", 0) for n in ("weights", "where")):
        return
    if name in BINARY and case.axis is None and any(np.ndim(o.get(n, 0)) for n in ("pos_weight", "class_weights", "alpha")):
        return  # the longer axis may now be the one that fits, or no longer
    case.copies = copies
    case.predictions = [np.concatenate([x] * copies) for x in case.predictions]
    case.targets = np.concatenate([case.targets] * copies)
    for n in ("weights", "where"):
        a = o.get(n)
        if getattr(a, "ndim", 0) and a.shape[0] == first:
            o[n] = np.concatenate([a] * copies)
