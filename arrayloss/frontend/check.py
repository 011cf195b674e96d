"""Checks of single arguments: an error names the argument, the rule and what came."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import inf
from typing import Any, NoReturn

from arrayloss.core import dtypes


class NeedsArrayError(Exception):
    """A check that cannot be made before there are arrays."""


class Unknown:
    """Stands for an argument that is not there yet, so that `bind` can run the checks of the others: whatever reads it stops."""

    def _stop(self, *_: Any) -> NoReturn:
        raise NeedsArrayError

    __bool__ = __eq__ = __float__ = __getattr__ = __hash__ = __index__ = __iter__ = __len__ = __repr__ = _stop


@dataclass(frozen=True)
class Parameter:
    """A number between bounds, or an array that may be traced: 0-d, or one entry per class."""

    value: Any
    low: float = -inf
    high: float = inf
    above: float = -inf
    per_class: bool = False
    scalar: bool = True

    def constant(self, name: str) -> Any:
        """A checked number, or a tuple of them, one per class. An array of a library that may trace or wait comes back as it is."""
        value, bounds = self.value, (self.low, self.high, self.above)
        if is_numpy_array(value) and value.ndim <= 1:
            if dtypes.kind(value.dtype) == "other":
                raise TypeError(f"{name} must be real numbers; got {dtypes.name(value.dtype)}")
            for extreme in (value.min(), value.max()) if value.size else ():
                number(name, extreme, *bounds)
            value = tuple(value.tolist()) if value.ndim else value.item()
        elif isinstance(value, (tuple, list)):
            value = tuple([number(name, v, *bounds) for v in value])
        if isinstance(value, tuple):
            if not self.per_class:
                raise TypeError(f"{name} must be a number or a 0-d array; got {value!r}")
            return value
        if is_number(value):
            if not self.scalar:
                raise TypeError(f"{name} must have one entry per class; got the single number {value!r}")
            return number(name, value, *bounds)
        if not dtypes.is_array(value):
            raise TypeError(f"{name} must be a number or an array; got {type(value).__name__}")
        return value


def positive(value: Any) -> Parameter:
    """A number above 0, or a 0-d array."""
    return Parameter(value, above=0)


def at_least(value: Any, low: float) -> Parameter:
    """A number with a lower bound, or a 0-d array."""
    return Parameter(value, low=low)


def fraction(value: Any) -> Parameter:
    """A number from 0 to 1, or a 0-d array."""
    return Parameter(value, low=0, high=1)


def per_class(value: Any, *, high: float = inf, scalar: bool = True) -> Parameter | None:
    """One number >= 0 per class; unless `scalar` is False also one for all classes."""
    return None if value is None else Parameter(value, low=0, high=high, per_class=True, scalar=scalar)


def is_numpy_array(value: Any) -> bool:
    """Whether it is a NumPy array, whose entries may be read. This module does not import NumPy."""
    return type(value).__module__ == "numpy" and type(value).__name__ in ("ndarray", "memmap")


def is_boolean(value: Any) -> bool:
    """Whether it is a Python or NumPy truth value."""
    return isinstance(value, bool) or (type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"))


def is_number(value: Any) -> bool:
    """Whether it is a Python number or a NumPy scalar, but no boolean."""
    is_scalar = type(value).__module__ == "numpy" and hasattr(value, "__float__") and not hasattr(value, "__array_finalize__")  # no array
    return (is_scalar or isinstance(value, (int, float))) and not is_boolean(value)


def number(name: str, value: Any, low: float = -inf, high: float = inf, above: float = -inf) -> float:
    """A finite number between bounds, as a float."""
    if not is_number(value):
        raise TypeError(f"{name} must be a number; got {type(value).__name__}")
    result = float(value)
    if result - result != 0:  # infinite bounds are compared with nothing: PyTorch's compiler dies of "sympy expression is NaN" (torch 2.13)
        raise ValueError(f"{name} must be finite; got {result}")
    if above != -inf and result <= above:
        raise ValueError(f"{name} must be above {above:g}; got {value}")
    if (low != -inf and result < low) or (high != inf and result > high):
        rule = f"at least {low:g}" if high == inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{name} must be {rule}; got {value}")
    return result


def choice(name: str, value: Any, choices: Collection[Any]) -> Any:
    """One of several values."""
    if not isinstance(value, (str, bool, type(None))) or value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices)).replace(' or ', ', ', len(choices) - 2)}; got {value!r}")
    return value


def integers(name: str, value: Any) -> tuple[int, ...]:
    """An integer or several, as a tuple; None gives none."""
    values = () if value is None else value if isinstance(value, (tuple, list)) else (value,)
    for v in values:
        if type(v) is not int and (isinstance(v, bool) or not hasattr(v, "__index__") or getattr(v, "ndim", False)):
            raise TypeError(f"{name} must be an integer or a tuple of integers; got {value!r}")
    return tuple(map(int, values))


def ignored_labels(ignore_index: Any, dtype: Any) -> tuple[int, ...]:
    """The labels to ignore. A value outside the dtype of the labels matches nothing: in uint8, -100 would be 156."""
    low, high = dtypes.integer_range(dtype)
    return tuple([v for v in integers("ignore_index", ignore_index) if low <= v <= high])


def chosen_classes(classes: Any, size: int | None) -> tuple[int, ...] | None:
    """The classes that count, from the front; None: all."""
    if classes is None:
        return None
    if size is None:
        raise ValueError(f"axis must be named for classes; got classes={classes!r} and axis=None: pass axis=1 for (N, C, H, W)")
    chosen = tuple([normal_axis("classes", c, size, "classes") for c in (classes if isinstance(classes, (tuple, list)) else (classes,))])
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"classes must name at least one class, and each once; got {classes!r}")
    return chosen


def normal_axis(name: str, axis: Any, ndim: int, what: str = "dimensions") -> int:
    """An axis counted from the front."""
    if type(axis) is not int and (isinstance(axis, bool) or not hasattr(axis, "__index__")):
        raise TypeError(f"{name} must be an integer; got {axis!r}")
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name} must be from {-ndim} to {ndim - 1} for an array of {ndim} {what}; got {axis}")
    return int(axis) % ndim


def normal_axes(name: str, axes: Any, ndim: int) -> tuple[int, ...]:
    """Axes counted from the front, sorted, each once."""
    normal = tuple([normal_axis(name, a, ndim) for a in (axes if isinstance(axes, (tuple, list)) else (axes,))])
    if len(set(normal)) != len(normal):
        raise ValueError(f"{name} must name an axis once; got {axes!r}")
    return tuple(sorted(normal))
