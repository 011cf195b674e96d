"""The keyword options that losses of a family share: types, text of their docstrings, defaults, checks."""

import difflib
import inspect
from typing import Any, Literal, TypedDict

from arrayloss.core import dtypes

from .check import Parameter, choice, integers, is_boolean, is_number, number

Array = Any
Reduction = Literal["mean", "sum", "none"]
Normalizer = Literal["weights", "count", "positives"] | float | Array
Integers = int | tuple[int, ...] | None


class ElementOptions(TypedDict, total=False):
    """Options of losses whose elements are independent.

    weights : number or array
        Factor of every element: a number, or an array with the dimensions of the unreduced loss, each size equal or 1.
    where : boolean array
        True where an element counts. What is masked is taken out before anything is computed.
    reduction : "mean", "sum" or "none"
        The mean is sum(w*l) / sum(w) over the elements that count; over nothing it is 0.
    reduce_axes : int or tuple of int
        The axes that are reduced, counted in the predictions; all by default.
    normalizer : "weights", "count", number or 0-d array
        What a mean divides by: the sum of the weights, the number of elements that count, or that number. Where it is 0, so is the mean.
    """

    weights: float | Array | None
    where: Array | None
    reduction: Reduction
    reduce_axes: Integers
    normalizer: Normalizer


class LabelOptions(ElementOptions, total=False):
    """Options of losses whose targets may be labels, signs among them.

    ignore_index : int or tuple of int
        Values of integer targets that are masked.
    """

    ignore_index: Integers


class BinaryOptions(LabelOptions, total=False):
    """Options of losses of independent yes/no decisions. A normalizer may also be "positives": max(1, sum of the targets that count).

    axis : int
        Where parameters with one entry per class have their classes. It must be named where several axes have that size.
    """

    axis: int | None


class RowOptions(LabelOptions, total=False):
    """Options of losses of one choice among several classes.

    axis : int, or tuple of int where targets are distributions over several axes
        The class axis; the last by default. It must be named where a wrong guess would be silent.
    """

    axis: Integers


class OverlapOptions(TypedDict, total=False):
    """Options of losses of whole regions.

    axis : int or None
        Where the classes or channels are; None: the predictions are one mask.
    pool_axes : int or tuple of int
        The axes whose elements form one overlap; all but `axis` by default. With `axis` among them the sums of all classes form one
        overlap, weighted by `class_weights`.
    classes : int or tuple of int
        The classes that count, after the activation: (1, 2) leaves out the background.
    class_weights : one number >= 0 per class, those that `classes` leaves out too
        The mean over overlaps is sum(w * loss) / sum(w).
    absent : "keep" or "skip"
        Whether an overlap whose target is empty counts in the mean. An empty prediction for an empty target is a perfect overlap: loss
        0, gradient 0.
    ignore_index : int or tuple of int
        Labels that are masked.
    weights : number or array
        Factor of every element in the sums of its overlap.
    where : boolean array
        True where an element counts.
    reduction : "mean", "sum" or "none"
        What becomes of the losses of the overlaps.
    """

    axis: int | None
    pool_axes: Integers
    classes: Integers
    class_weights: Any
    absent: Literal["keep", "skip"]
    ignore_index: Integers
    weights: float | Array | None
    where: Array | None
    reduction: Reduction


DEFAULTS: dict[str, Any] = {"reduction": "mean", "normalizer": "weights", "absent": "keep"}  # of every other option: None
BASES: dict[Any, tuple[Any, ...]] = {LabelOptions: (ElementOptions,)}  # a TypedDict forgets them
BASES |= dict.fromkeys((BinaryOptions, RowOptions), (ElementOptions, LabelOptions))
OPTIONS: dict[Any, dict[str, Any]] = {  # of each family, with their defaults
    f: {n: DEFAULTS.get(n) for n in f.__annotations__} for f in (ElementOptions, LabelOptions, BinaryOptions, RowOptions, OverlapOptions)
}
_OTHER_LIBRARIES = {"weight": "class_weights or weights", "dim": "axis", "eps": "smooth", "smooth_nr": "smooth", "mask": "where"}
_OTHER_LIBRARIES |= {"size_average": "reduction", "from_logits": "given"}


def text_of(family: Any) -> str:
    """The options of a family as lines of a docstring's section: its docstrings without their first paragraphs."""
    families = () if family is None else (*BASES.get(family, ()), family)
    return "\n".join([inspect.cleandoc(f.__doc__ or "").partition("\n\n")[2] for f in families])


def unknown_option(name: str, names: Any) -> TypeError:
    """The error for an option that a loss does not have."""
    close = _OTHER_LIBRARIES.get(name) or next(iter(difflib.get_close_matches(name, names, 1)), None)
    return TypeError(f"there is no option {name!r}" + (f": did you mean {close}?" if close else f"; options are {', '.join(names)}"))


def checked(options: dict[str, Any], family: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """Options with their defaults. Unknown names are refused, and wrong values of options and parameters that are no arrays."""
    for name in [n for n in options if n not in OPTIONS[family]]:
        raise unknown_option(name, OPTIONS[family])
    for name, p in parameters.items():
        if isinstance(p, Parameter):
            p.constant(name)
    options = {**OPTIONS[family], **options}
    reduction = choice("reduction", options["reduction"], ("mean", "sum", "none"))
    choice("absent", options.get("absent", "keep"), ("keep", "skip"))
    for name in ("reduce_axes", "pool_axes", "ignore_index", "axis", "classes"):
        integers(name, options.get(name))
    weights, where = options["weights"], options["where"]
    if is_number(weights):
        number("weights", weights)
    elif weights is not None and not dtypes.is_array(weights):
        raise TypeError(f"weights must be a number or an array; got {type(weights).__name__}: pass an array like the predictions")
    if where is not None and not is_boolean(where) and dtypes.kind(getattr(where, "dtype", None)) != "bool":
        got = dtypes.name(getattr(where, "dtype", type(where)))
        raise TypeError(f"where must be boolean, True where an element counts; got {got}: pass where != 0")
    if "normalizer" in options:
        normalizer = options["normalizer"] = check_normalizer(options["normalizer"], has_positives=family is BinaryOptions)
        if reduction == "none" and options["reduce_axes"] is not None:
            raise ValueError(f"reduce_axes must be None with reduction='none'; got {options['reduce_axes']!r}")
        if reduction == "none" and not (isinstance(normalizer, str) and normalizer == "weights"):
            raise ValueError(f"normalizer must be left alone with reduction='none'; got {normalizer!r}")
    return options


def check_normalizer(normalizer: Any, has_positives: bool) -> Any:
    """A name, a number or something like an array."""
    names = ("weights", "count", "positives") if has_positives else ("weights", "count")
    if isinstance(normalizer, str):
        return choice("normalizer", normalizer, names)
    if is_number(normalizer):
        return number("normalizer", normalizer)
    if not dtypes.is_array(normalizer):
        raise TypeError(f"normalizer must be {', '.join(map(repr, names))}, a number or a 0-d array; got {normalizer!r}")
    return normalizer
