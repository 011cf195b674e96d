"""`Arguments`: the arrays of one call, checked and gathered. Checks look at shapes, dtypes and Python numbers; no array is read here."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from arrayloss.adapters.dispatch import adapter_of
from arrayloss.core import dtypes, special
from arrayloss.core.labels import Labels
from arrayloss.core.operation import ArrayRef

from .check import Parameter, ignored_labels, is_boolean, is_number, normal_axis, number

Array = Any
INTEGERS = ("bool", "integer")  # kinds of dtypes whose targets are labels


class Arguments:
    """Predictions, all of one shape, then whatever is added. A dictionary of arrays names them for errors."""

    def __init__(self, predictions: Array | dict[str, Array], *, same_shape: bool = True) -> None:
        by_name = predictions if isinstance(predictions, dict) else {"predictions": predictions}
        (self.first, x), *others = by_name.items()
        self.adapter = adapter_of(x, self.first)
        x = self.adapter.as_array(x, x, self.first)
        self.xp, self.x, self.shape, self.ndim = self.adapter.xp, x, tuple(x.shape), len(x.shape)
        self.class_axis: int | None = None
        self.labels: Labels | None = None
        self.fractions: ArrayRef | None = None  # floating targets from 0 to 1
        kind = dtypes.kind(x.dtype)
        if kind not in ("float", "half"):
            raise TypeError(f"{self.first} must be floating point; got {dtypes.name(x.dtype)}: pass {self.first}{self.adapter.to_floats}")
        self.half = kind == "half"
        self.compute = self.xp.float32 if self.half else x.dtype  # of the sums too: 16 bits would overflow
        self.arrays, self.given = [x], [self.shape]  # `given`: the shapes of the predictions before they were broadcast
        for name, other in others:
            self.given.append(tuple(getattr(other, "shape", ())))
            other = special.constant(self.xp, other, x.dtype, x) if is_number(other) else self.adapter.as_array(other, x, name)
            if dtypes.name(other.dtype) != dtypes.name(x.dtype):  # in any byte order
                raise TypeError(f"{name} must have the dtype of {self.first}, {dtypes.name(x.dtype)}; got {dtypes.name(other.dtype)}")
            if same_shape and other.ndim in (0, self.ndim) and all(n in (1, m) for n, m in zip(other.shape, self.shape, strict=False)):
                other = self.xp.broadcast_to(other, self.shape)
            elif same_shape:
                self._check_same_shape(other, name)
            self.arrays.append(other)
        self.predictions = len(self.arrays)

    def targets(self, targets: Array | dict[str, Array], ignore_index: Any = None) -> ArrayRef:
        """Targets of the predictions' shape, used as they are."""
        ((name, t),) = (targets if isinstance(targets, dict) else {"targets": targets}).items()
        t = self.adapter.as_array(t, self.x, name)
        self._check_same_shape(t, name)
        return self._numbers(t, name, ignore_index)

    def _numbers(self, t: Array, name: str, ignore_index: Any) -> ArrayRef:
        if ignore_index is not None:
            raise ValueError(f"ignore_index is for labels; got {ignore_index!r} with {dtypes.name(t.dtype)} targets: pass where=")
        return self.add_array(self._cast(t, name))

    def binary_targets(self, targets: Array, ignore_index: Any, *, fractions: bool = True, signs: bool = False) -> ArrayRef:
        """Targets from 0 to 1: floating point, used as they are, or integers and booleans, which are checked.

        `fractions`: whether floating-point ones must be from 0 to 1. `signs`: -1 and 1, one for each row where the class axis is known.
        """
        t, axis = self.adapter.as_array(targets, self.x, "targets"), self.class_axis if signs else None
        if axis is None:
            self._check_same_shape(t, "targets")
        elif tuple(t.shape) == self.without_axis(axis):
            t = self.xp.expand_dims(t, axis=axis)
        elif tuple(t.shape) != self.without_axis(axis, (1,)):
            raise ValueError(f"targets must have one sign for each row, shape {self.without_axis(axis)}; got {tuple(t.shape)}")
        if dtypes.kind(t.dtype) not in INTEGERS:
            ref = self._numbers(t, "targets", ignore_index)
            self.fractions = ref if fractions and not signs else None
            return ref
        ref = self.add_array(t)
        self.labels = Labels(ref.index, 2, ignored_labels(ignore_index, t.dtype), binary=True, signs=signs)
        return ref

    def check_fractions(self, where: ArrayRef | None) -> None:
        """Raise on floating targets beyond 0 to 1, such as masks of 0 and 255. The first 2**16 are looked at, where they may be read."""
        if self.fractions is None:
            return
        views = [self.adapter.host_view(self.arrays[ref.index]) for ref in (self.fractions, where) if ref]
        if views[0] is None or views[-1] is None or not views[0].size:
            return
        if prod(self.shape) > 2**16 or hasattr(views[0], "block"):
            index = (..., *[slice(2**16 // max(1, prod(self.shape[i + 1 :])) or 1) for i in range(self.ndim)])
            views = [v.block(index) if hasattr(v, "block") else v[index] for v in views]
        t, *mask = views
        low, high = [extreme(initial=0.5, where=mask[0]) if mask else extreme() for extreme in (t.min, t.max)]
        if low < -1e-3 or high > 1.001:
            raise ValueError(f"binary targets must be from 0 to 1; got {low if low < 0 else high:g} (of a mask pass `targets > 0`)")

    def class_targets(self, targets: Array, axis: int | None, ignore_index: Any) -> tuple[ArrayRef, bool]:
        """Labels (True), or a distribution of the predictions' shape (False). Finds the class axis."""
        t = self.adapter.as_array(targets, self.x, "targets")
        shape = tuple(t.shape)
        axis = self.set_class_axis(shape, axis)
        if self.has_shape(shape):
            return self.binary_targets(t, ignore_index, fractions=False), False
        if dtypes.kind(t.dtype) not in INTEGERS:
            name = dtypes.name(t.dtype)
            cast = "numpy.unique(targets, return_inverse=True)[1]" if "str" in name.lower() else f"targets{self.adapter.to_integers}"
            raise TypeError(f"targets must be integer labels; got {name}: pass {cast}")
        ref = self.add_array(t if len(shape) == self.ndim else self.xp.expand_dims(t, axis=axis))
        self.labels = Labels(ref.index, self.shape[axis], ignored_labels(ignore_index, t.dtype))
        return ref, True

    def label_lists(self, targets: Array, ignore_index: Any = None) -> ArrayRef:
        """Masks of the predictions' shape, or integers: lists of labels along the class axis, ended by a negative one, as masks.

        A label counts as often as it is in the list. One that is out of range raises where it may be read; elsewhere its mask is NaN.
        """
        t, axis, xp = self.adapter.as_array(targets, self.x, "targets"), self.class_axis or 0, self.xp
        if dtypes.kind(t.dtype) != "integer":
            return self.targets(t, ignore_index)
        if len(t.shape) != self.ndim or tuple(t.shape) != self.without_axis(axis, (t.shape[axis],)):
            raise ValueError(f"targets must be lists of labels along axis {axis}, as {self.first} {self.shape}; got {tuple(t.shape)}")
        classes = self.shape[axis]
        if self.adapter.host_view(t) is not None and 0 not in t.shape and (high := special.label_range(xp, t)[1]) >= classes:
            raise ValueError(f"integer targets must be labels from 0 to {classes - 1}, or negative behind the last; got {high}")
        is_in = xp.cumulative_sum(xp.astype(t < 0, xp.int64), axis=axis) == 0
        is_wrong = xp.any(is_in & (t >= classes), axis=axis, keepdims=True)
        like = xp.expand_dims(self.x, axis=axis)  # the classes behind the lists
        here = special.arange_along(xp, like, axis + 1) == xp.expand_dims(t, axis=axis + 1)
        counts = xp.sum(xp.astype(here & xp.expand_dims(is_in, axis=axis + 1), self.compute), axis=axis)
        return self.add_array(xp.where(is_wrong, float("nan"), counts))

    def items(self, name: str, mask: Array, where: Any) -> tuple[ArrayRef, Array]:
        """A boolean array of the predictions' shape, and where the rows that have an item count."""
        mask = self.adapter.as_array(mask, self.x, name)
        if dtypes.kind(mask.dtype) != "bool":
            raise TypeError(f"{name} must be boolean, True where there is an item; got {dtypes.name(mask.dtype)}: pass {name} != 0")
        self._check_same_shape(mask, name)
        axis = self.class_axis or 0
        counts = self.xp.any(mask, axis=axis, keepdims=True)
        if where is not None and where is not True:
            self.per_element("where", where, (axis,))
            counts = counts & self.arrays.pop()
        return self.add_array(mask), counts

    def refuse_one_class(self, axis: int, remedy: str) -> None:
        """A softmax over one class is 1: the loss would be a constant."""
        if self.shape[axis] == 1:
            raise ValueError(f"{self.first} must have at least two classes along axis {axis}; got shape {self.shape}: {remedy}")

    def without_axis(self, axis: int, size: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The shape of the predictions without an axis, or with another size there."""
        return self.shape[:axis] + size + self.shape[axis + 1 :]

    def set_class_axis(self, targets: tuple[int, ...], axis: int | None) -> int:
        """Find the class axis by the shape of the targets."""
        axis = self.class_axis = self._find_class_axis(targets, axis)
        if self.shape[axis] == 0:
            raise ValueError(f"{self.first} must have at least one class along axis {axis}; got shape {self.shape}")
        return axis

    def has_shape(self, shape: tuple[int, ...]) -> bool:
        """Whether it is that of the predictions. Lengths first: a compiler guards on sizes that are compared."""
        return len(shape) == self.ndim and shape == self.shape

    def _find_class_axis(self, targets: tuple[int, ...], axis: int | None) -> int:
        if self.ndim == 0:
            raise ValueError(f"{self.first} must have a class axis; got a 0-d array")
        last = self.ndim - 1
        named = last if axis is None else normal_axis("axis", axis, self.ndim)
        has_shape, size = self.has_shape(targets), (1,) * (len(targets) == self.ndim)
        if (axis is not None or last < 2) and (has_shape or targets == self.without_axis(named, size)):
            return named
        fits = [a for a in range(self.ndim) if targets == self.without_axis(a, size)]
        if axis is None and has_shape:
            raise ValueError(f"axis must be named for targets of the same shape as {self.first}; got {self.shape}: pass axis=1 or axis=-1")
        if axis is None and last > 1 and len(targets) < self.ndim and 1 in fits and last in fits:
            raise ValueError(f"axis must be named: labels {targets} fit {self.first} {self.shape} with axis=1 and with axis=-1")
        if named in fits:
            return named
        text = f"targets must be labels of shape {self.without_axis(named)} or a distribution of shape {self.shape}; got {targets}"
        raise ValueError(text + (f": pass axis={fits[0]}" if fits else ""))

    def parameter(self, name: str, p: Any) -> Any:
        """A `Parameter` as a number, or as a reference to an array that broadcasts to the predictions; anything else as it is."""
        if not isinstance(p, Parameter):
            return p
        value = self.parameter_value(name, p)
        if is_number(value):
            symbolic = self.adapter.symbolic_number(value, self.compute, self.x)
            return value if symbolic is None else self.add_array(self.xp.reshape(symbolic, (1,) * self.ndim))
        if isinstance(value, tuple):
            value = special.constants(self.xp, value, self.compute, self.x)
        axis = self.parameter_axis(name, tuple(value.shape)) if value.ndim else None
        return self.add_array(self.xp.reshape(value, tuple([-1 if i == axis else 1 for i in range(self.ndim)])))

    def parameter_value(self, name: str, p: Parameter) -> Any:
        """A number, a tuple with one number per class, or an array: 0-d, or with one entry per class."""
        value = p.constant(name)
        if isinstance(value, tuple):
            self.parameter_axis(name, (len(value),))
        elif not is_number(value):
            value = self._cast(self.adapter.as_array(value, self.x, name), name)
            if value.ndim and not p.per_class:
                raise ValueError(f"{name} must be a number or a 0-d array; got shape {tuple(value.shape)}")
            if value.ndim or not p.scalar:
                self.parameter_axis(name, tuple(value.shape))
        return value

    def parameter_axis(self, name: str, shape: tuple[int, ...]) -> int:
        """The axis of the classes that a parameter of this shape has its entries for."""
        axis = self.class_axis
        fits = [i for i, n in enumerate(self.shape) if axis in (None, i) and shape == (n,)]
        hint = f": pass axis={fits[0]}" if fits and axis is None else ""
        if axis is None and len(fits) > 1:  # independent decisions: the last axis, unless another would fit too
            raise ValueError(f"axis must be named: {name} has {shape[0]} entries, as have the axes {fits} of {self.first}{hint}")
        axis = self.ndim - 1 if axis is None else axis
        if axis not in fits:
            classes = self.shape[axis] if self.ndim else 0
            raise ValueError(f"{name} must have one entry for each of the {classes} classes along axis {axis}; got shape {shape}{hint}")
        return axis

    def per_element(self, name: str, value: Any, event_axes: Sequence[int]) -> Any:
        """Weights or a mask: a number, or an array with the dimensions of the unreduced loss, each size equal or 1."""
        if name == "where":
            value = special.constant(self.xp, bool(value), self.xp.bool, self.x) if is_boolean(value) else value
        elif is_number(value):
            return number(name, value)
        a = self.adapter.as_array(value, self.x, name)
        every_axis = tuple([1 if i in event_axes else n for i, n in enumerate(self.shape)])
        elements = tuple([n for i, n in enumerate(self.shape) if i not in event_axes])
        shape, sizes = tuple(a.shape), iter(a.shape or (1,) * self.ndim)
        has_axes = shape and len(shape) != len(elements)  # of the events too
        full = tuple(sizes) if has_axes else tuple([1 if i in event_axes else next(sizes) for i in range(self.ndim)])
        if len(full) != self.ndim or any(n not in (1, m) for n, m in zip(full, every_axis, strict=True)):
            text = f"{name} must have the shape of the unreduced loss, {elements}, each size equal or 1; got {shape}"
            hint = name == "weights" and self.ndim and shape == (self.shape[-1 if self.class_axis is None else self.class_axis],)
            raise ValueError(text + (" (for one weight per class pass class_weights)" if hint else ""))
        return self.add_array(self.xp.reshape(a if name == "where" else self._cast(a, name), full))

    def per_event(self, name: str, value: Any, event_axes: Sequence[int], *, is_integer: bool = False) -> ArrayRef:
        """An array with the dimensions of the predictions, or without the last event axes; sizes differ along event axes only."""
        a = self.adapter.as_array(value, self.x, name)
        if is_integer and dtypes.kind(a.dtype) not in INTEGERS:
            raise TypeError(f"{name} must be integers; got {dtypes.name(a.dtype)}")
        shape, missing = tuple(a.shape), self.ndim - a.ndim
        for axis in event_axes[len(event_axes) - missing :] if 0 < missing <= len(event_axes) else ():
            a = self.xp.expand_dims(a, axis=axis)
        sizes = tuple([n for i, n in enumerate(self.shape) if i not in event_axes])
        if a.ndim != self.ndim or tuple([n for i, n in enumerate(a.shape) if i not in event_axes]) != sizes:
            raise ValueError(f"{name} must have the sizes {sizes} of {self.first} beside the event axes {event_axes}; got shape {shape}")
        return self.add_array(a if dtypes.kind(a.dtype) in INTEGERS else self._cast(a, name))

    def add_array(self, a: Array) -> ArrayRef:
        self.arrays.append(a)
        return ArrayRef(len(self.arrays) - 1)

    def _cast(self, a: Array, name: str) -> Array:
        if a.dtype == self.compute or (self.half and a.dtype == self.x.dtype):
            return a
        if dtypes.kind(a.dtype) == "other":
            real = ".real" if "complex" in dtypes.name(a.dtype) else self.adapter.to_floats
            raise TypeError(f"{name} must be real numbers; got {dtypes.name(a.dtype)}: pass {name}{real}")
        return self.xp.astype(a, self.compute)

    def _check_same_shape(self, a: Array, name: str) -> None:
        shape = tuple(a.shape)
        if shape != self.shape:
            text = f"{name} must have the shape of {self.first}, {self.shape}; got {shape}"
            longer = self.first if (*shape, 1) == self.shape else name if (*self.shape, 1) == shape else None
            index = "[:, 0]" if max(len(shape), self.ndim) < 3 else "[..., 0]"
            raise ValueError(text + (f": pass {longer}{index}" if longer else ""))
