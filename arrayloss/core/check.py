"""Checks of single arguments: an error names the argument, the rule and what came."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from . import dtypes


def is_number(value: Any) -> bool:
    """A Python number or a NumPy scalar, but no boolean."""
    if is_boolean(value):
        return False
    return isinstance(value, int | float) or (
        type(value).__module__ == "numpy"
        and getattr(value, "ndim", None) == 0
        and hasattr(value, "__float__")
        and not hasattr(value, "__setitem__")
    )


def is_boolean(value: Any) -> bool:
    """A Python or NumPy truth value."""
    return isinstance(value, bool) or (type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"))


def number(name: str, value: Any, *, low: float = -float("inf"), high: float = float("inf")) -> float:
    """A finite Python float between two bounds."""
    if not is_number(value):
        raise TypeError(f"{name} must be a number; got {type(value).__name__}")
    result = float(value)
    if not -inf < result < inf:  # a compiler that lets the number vary can follow a comparison, but no isfinite
        raise ValueError(f"{name} must be finite; got {result}")
    if not low <= result <= high:
        rule = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
        raise ValueError(f"{name} must be {rule}; got {value}")
    return result


def ignored_labels(ignore_index: Any, dtype: Any) -> tuple[int, ...]:
    """`ignore_index` as a tuple of Python integers; a value outside the dtype of the labels matches nothing, so it is dropped.

    Arrays would wrap it: in uint8, -100 is 156.
    """
    values = () if ignore_index is None else ignore_index if isinstance(ignore_index, tuple | list) else (ignore_index,)
    for value in values:
        if isinstance(value, bool) or not hasattr(value, "__index__") or getattr(value, "ndim", 0) != 0:
            raise TypeError(f"ignore_index must be an integer or a tuple of integers; got {ignore_index!r}")
    low, high = dtypes.integer_range(dtype)
    return tuple(int(v) for v in values if low <= int(v) <= high)


def normal_axis(name: str, axis: Any, ndim: int) -> int:
    """An axis counted from the front."""
    if isinstance(axis, bool) or not (isinstance(axis, int) or hasattr(axis, "__index__")):  # a compiler that lets it vary knows its type
        raise TypeError(f"{name} must be an integer; got {axis!r}")
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name} must be from {-ndim} to {ndim - 1} for an array of {ndim} dimensions; got {axis}")
    return tuple(range(ndim))[axis]  # a plain number for every kind of integer: a compiler makes one graph for each axis


def chosen_classes(classes: Any, size: int | None) -> tuple[int, ...] | None:
    """Which classes count, counted from the front."""
    if classes is None:
        return None
    if size is None:
        raise ValueError("classes needs a class axis: pass axis=")
    named = tuple(normal_axis("classes", c, size) for c in ((classes,) if isinstance(classes, int) else classes))
    if not named or len(set(named)) != len(named):
        raise ValueError(f"classes must name at least one class, and each once; got {classes!r}")
    return named


def choice(name: str, value: Any, choices: Mapping[Any, Any]) -> Any:
    """What `value` stands for."""
    if not isinstance(value, str | bool | None) or value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}; got {value!r}")
    return choices[value]
