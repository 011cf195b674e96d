"""`Inputs`: the arguments of one call, checked and gathered.

A public loss hands every array to its `Inputs` and gets a slot back; `call` then makes the operation. Checks look at
shapes, dtypes and Python numbers only; no array is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from . import dtypes
from .call import Call
from .check import choice, chosen_classes, ignored_labels, is_boolean, is_number, normal_axis, number
from .namespace import backend_of
from .operation import Kernel, Labels, Slot
from .pooled import Finish, Link, Pooled, PooledCall, identity, largest, sigmoid, softmax
from .separable import Separable

Array = Any
Convert = Callable[[Array], Array] | None
LINKS: dict[Any, Link] = {None: identity, "sigmoid": sigmoid, "softmax": softmax}


def _both(first: Callable[[Array], Array], second: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda a: second(first(a))


class Inputs:
    """What goes into one call: predictions by name, all of one shape."""

    def __init__(self, **predictions: Array) -> None:
        (first, x), *others = predictions.items()
        self.backend = backend_of(x, first)
        self.xp = self.backend.xp
        self.x = x
        self.shape: tuple[int, ...] = tuple(x.shape)
        self.ndim = len(self.shape)
        self.classes: int | None = None
        self.labels: Labels | None = None
        kind = dtypes.kind(x.dtype)
        if kind not in ("float", "half"):
            rule = "floating point of 16 bits or more" if dtypes.name(x.dtype).startswith("float") else "floating point"
            raise TypeError(f"{first} must be {rule}; got {dtypes.name(x.dtype)}")
        self.half = kind == "half"
        self.compute = self.xp.float32 if self.half else x.dtype
        self.arrays: list[Array] = []
        self.origins: list[tuple[Array, Convert]] = []
        self._add(x)
        for name, other in others:
            other = self.backend.accept(other, x, name)
            if other.dtype != x.dtype:
                raise TypeError(f"{name} must have the dtype of {first}, {dtypes.name(x.dtype)}; got {dtypes.name(other.dtype)}")
            self._same_shape(other, name, first)
            self._add(other)
        self.predictions = len(self.arrays)
        self.prediction = Slot(0)
        self.first = first

    # -- targets ----------------------------------------------------------------------------------------------------

    def targets(self, targets: Array, ignore_index: Any = None, name: str = "targets") -> Slot:
        """Targets of the predictions' shape, used as they are; integers and booleans are cast."""
        t = self.backend.accept(targets, self.x, name)
        self._same_shape(t, name, self.first)
        if ignore_index is not None:
            raise ValueError(f"ignore_index is for labels; got {ignore_index!r} with {dtypes.name(t.dtype)} targets: pass where=")
        return self._add(t, self._casting(t, name))

    def row_targets(self, targets: Array, axis: int | None, name: str = "targets") -> Slot:
        """Targets that are rows of numbers like the predictions, used as they are. Finds the class axis."""
        slot = self.targets(targets, name=name)
        self._find_classes(self.shape, axis)
        return slot

    def binary_targets(self, targets: Array, ignore_index: Any, *, numbers: bool = False) -> Slot:
        """Targets from 0 to 1: floating point, used as they are, or integers and booleans, which are checked. `numbers`: the kernel
        takes no booleans.
        """
        t = self.backend.accept(targets, self.x, "targets")
        self._same_shape(t, "targets", self.first)
        if dtypes.kind(t.dtype) not in ("bool", "integer"):
            return self.targets(t, ignore_index)
        slot = self._add(t)
        self.labels = Labels(slot, 2, ignored_labels(ignore_index, t.dtype), binary=True, numbers=numbers)
        return slot

    def class_targets(self, targets: Array, axis: int | None, ignore_index: Any) -> tuple[Slot, bool]:
        """Targets of a softmax loss: labels (True), or a distribution of the predictions' shape (False). Finds the class axis."""
        t = self.backend.accept(targets, self.x, "targets")
        shape = tuple(t.shape)
        axis = self._find_classes(shape, axis)
        kind = dtypes.kind(t.dtype)
        if shape == self.shape:
            return self.binary_targets(t, ignore_index, numbers=True), False
        if kind not in ("bool", "integer"):
            raise TypeError(f"labels must be integers; got {dtypes.name(t.dtype)}: cast them, such as by targets.astype('int64')")
        slot = self._add(t, None if len(shape) == self.ndim else partial(self.xp.expand_dims, axis=axis))
        self.labels = Labels(slot, self.shape[axis], ignored_labels(ignore_index, t.dtype))
        return slot, True

    def mask_targets(self, targets: Array, axis: int | None, rows: bool, ignore_index: Any) -> Slot:
        """Targets of an overlap: masks of the predictions' shape, or labels without the class axis. `rows`: what is left out is left
        out of all classes.
        """
        if axis is None:
            return self.binary_targets(targets, ignore_index)
        t = self.backend.accept(targets, self.x, "targets")
        if tuple(t.shape) != self.shape:
            return self.class_targets(targets, axis, ignore_index)[0]
        self.classes = normal_axis("axis", axis, self.ndim) if rows else None
        return self.binary_targets(t, ignore_index)

    def _find_classes(self, targets: tuple[int, ...], axis: int | None) -> int:
        self.classes = found = self._class_axis(targets, axis)
        if self.shape[found] == 0:
            raise ValueError(f"{self.first} must have at least one class along axis {found}; got shape {self.shape}")
        return found

    def _class_axis(self, targets: tuple[int, ...], axis: int | None) -> int:
        if self.ndim == 0:
            raise ValueError(f"{self.first} must have a class axis; got a 0-d array")
        last = self.ndim - 1
        if last < 2 and axis is None and targets == self.shape[:-1]:
            return last  # what nearly every classifier passes; the rest is for telling what is meant
        fits = [a for a in range(self.ndim) if targets in (self._without(a), self._without(a, keep=True))]
        if axis is not None:
            named = normal_axis("axis", axis, self.ndim)
            if targets == self.shape or named in fits:
                return named
        elif targets == self.shape:
            if self.ndim > 2:
                raise ValueError(f"axis must be named for targets of the same shape as {self.first}, {self.shape}: pass axis=1 or axis=-1")
            return last
        elif last in fits:
            if 1 in fits and last > 1 and len(targets) < self.ndim:
                raise ValueError(f"axis must be named: labels {targets} fit {self.first} {self.shape} with axis=1 and with axis=-1")
            return last
        labels = self._without(last if axis is None else named)
        text = f"targets must be labels of shape {labels} or a distribution of shape {self.shape}; got {targets}"
        raise ValueError(text + (f": pass axis={fits[0]}" if fits else ""))

    def _without(self, axis: int, keep: bool = False) -> tuple[int, ...]:
        return self.shape[:axis] + ((1,) if keep else ()) + self.shape[axis + 1 :]

    # -- parameters -------------------------------------------------------------------------------------------------

    def per_class(
        self, name: str, value: Any, axis: int | None = None, *, low: float = 0.0, high: float = float("inf"), scalar: bool = True
    ) -> Any:
        """One number for all classes, or one per class: a tuple, a list or a 1-D array along `axis`."""
        if axis is not None and self.ndim:
            axis = normal_axis("axis", axis, self.ndim)
        if value is None:
            return None
        if is_number(value) or getattr(value, "ndim", None) == 0:
            if not scalar:
                raise TypeError(f"{name} must have one entry per class; got the single number {value!r}")
            return self.parameter(name, value, low=0, high=high)
        if axis is None:
            axis = self.classes
        axis = self.ndim - 1 if axis is None else axis
        size = self.shape[axis] if self.ndim else 0
        if isinstance(value, tuple | list):
            value = [number(name, v, low=0, high=high) for v in value]
            given: tuple[int, ...] = (len(value),)
        else:
            value = self._array(name, value, "a number, or one per class as a tuple, a list or a 1-D array")
            given = tuple(value.shape)
        if given != (size,):
            raise ValueError(f"{name} must have one entry for each of the {size} classes along axis {axis}; got shape {given}")
        if isinstance(value, list):
            value = self.backend.constant(value, self.compute, self.x)
        along = tuple(size if i == axis else 1 for i in range(self.ndim))
        return self._add(value, self._casting(value, name), partial(self.xp.reshape, shape=along))

    def parameter(
        self, name: str, value: Any, *, low: float = -float("inf"), high: float = float("inf"), above: float = -float("inf")
    ) -> Any:
        """A number, checked, or a 0-d array, which may be traced and differentiated."""
        if is_number(value):
            if float(value) <= above:
                raise ValueError(f"{name} must be above {above:g}; got {value}")
            value = number(name, value, low=low, high=high)
            varying = self.backend.varying(value, self.compute, self.x)
            if varying is None:
                return value
            value = varying
        else:
            value = self._array(name, value, "a number or a 0-d array")
        if value.ndim:
            raise ValueError(f"{name} must be a number or a 0-d array; got shape {tuple(value.shape)}")
        return self._add(value, self._casting(value, name), partial(self.xp.reshape, shape=(1,) * self.ndim))

    # -- the call -----------------------------------------------------------------------------------------------------

    def call(
        self,
        kernel: Kernel,
        *arguments: Any,
        class_weights: Any = None,
        mass: tuple[Callable[..., Array], Any] | None = None,
        from_softmax: bool = False,
        of_logs: bool = False,
        weights: Any = None,
        where: Any = None,
        reduction: str = "mean",
        reduce_axes: int | Sequence[int] | None = None,
        normalizer: Any = "weights",
    ) -> Call:
        """The call of a separable loss. `arguments` are those of the kernel behind its predictions.

        `class_weights` weigh elements, `mass` is what an element counts where the kernel weighs its own sum over classes;
        `from_softmax`: all that the kernel takes of its predictions is their softmax along the class axis; `of_logs`: what `logistic`
        makes is only added to the loss of an element, without a factor.
        """
        factors = tuple(f for f in (self._per_element("weights", weights), class_weights) if f is not None)
        masks = self._where(where)
        weighted = mass is not None or any(isinstance(f, Slot) for f in factors)
        plain = not weighted and masks is None and not (self.labels and self.labels.ignore)
        reduce = self._reduce(reduction, reduce_axes)
        op = Separable(
            kernel,
            (*map(Slot, range(self.predictions)), *arguments),
            self.predictions,
            self.classes,
            labels=self.labels,
            weights=factors,
            mass=mass,
            where=masks,
            reduce=reduce,
            half=self.half,
            wide=self.backend.has_float64(self.x),
            from_softmax=from_softmax,
            added=of_logs and plain and reduce == tuple(range(self.ndim)),
            mean=plain and reduction == "mean" and isinstance(normalizer, str) and normalizer == "weights",
        )
        normalizer = self._normalizer(normalizer, reduction)
        return Call(self.backend, op, tuple(self.arrays), reduction, normalizer, origins=tuple(self.origins))

    def pooled(
        self,
        terms: Kernel,
        slope: Kernel,
        formula: Kernel,
        *parameters: Any,
        names: tuple[str, ...],
        targets: Array,
        activation: Any,
        axis: int | None,
        pool_axes: int | Sequence[int] | None,
        classes: int | Sequence[int] | None,
        class_weights: Any,
        absent: str,
        ignore_index: Any,
        weights: Any,
        where: Any,
        reduction: str,
        options: tuple[Any, ...] = (),
        volumes: int | None = None,
        decided: bool = False,
        linear: bool = False,
    ) -> PooledCall:
        """The call of a loss of overlaps: `terms` with their `slope` and `options`, `formula` with its `parameters`.

        `decided`: the largest class of a softmax counts as 1. `linear`: the terms are t * p, (1 - t) * p and t * q.
        """
        link = choice("activation", activation, LINKS)
        rows = link is softmax
        if axis is not None:
            axis = normal_axis("axis", axis, self.ndim)
        elif rows:
            raise ValueError("axis must be named for activation='softmax': pass axis=1 for (N, C, H, W)")
        if axis is not None and rows and self.shape[axis] < 2:
            raise ValueError(
                f"softmax needs at least two channels along axis {axis}; got shape {self.shape}: pass activation='sigmoid' for one mask"
            )
        target = self.mask_targets(targets, axis, rows, ignore_index)
        everything = tuple(a for a in range(self.ndim) if a != axis)
        pool = everything if pool_axes is None else self._axes("pool_axes", pool_axes)
        together = axis is not None and (axis in pool or volumes is not None)
        reduce = tuple(a for a in pool if a != axis)
        kept = [a for a in range(self.ndim) if a not in reduce]
        factors = () if weights is None else (self._per_element("weights", weights),)
        masks = self._where(where)
        everywhere = weights is None and masks is None and not (self.labels and self.labels.ignore)
        op = Pooled(
            terms,
            (self.prediction, target, *options),
            1,
            self.classes,
            labels=self.labels,
            weights=factors,
            where=masks,
            reduce=reduce,
            outputs=names,
            half=self.half,
            wide=self.backend.has_float64(self.x),
            from_softmax=rows and not decided,
            link=largest if rows and decided else link,
            slope=slope,
            axis=axis,
            plain=linear and everywhere and rows and not decided,
        )
        size = None if axis is None else self.shape[axis]
        finish = Finish(
            formula,
            parameters,
            None if axis is None else kept.index(axis),
            chosen_classes(classes, size),
            together,
            self._class_entries("class_weights", class_weights, size),
            choice("absent", absent, {"keep": "keep", "skip": "skip"}),
            choice("reduction", reduction, {"mean": "mean", "sum": "sum", "none": "none"}),
            volumes,
        )
        return PooledCall(self.backend, op, tuple(self.arrays), finish, origins=tuple(self.origins))

    def _where(self, where: Any) -> Slot | None:
        if is_boolean(where):
            where = None if where else self.backend.constant(False, self.xp.bool, self.x)
        if where is None:
            return None
        kind = dtypes.kind(getattr(where, "dtype", None))
        if kind != "bool":
            got = dtypes.name(where.dtype) if hasattr(where, "dtype") else type(where).__name__
            raise TypeError(f"where must be boolean, True where an element counts; got {got}: pass mask != 0")
        return self._per_element("where", where)

    def _per_element(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if is_number(value):
            return number(name, value)
        a = self._array(name, value, "a number or an array")
        shape = tuple(a.shape)
        elements = self.shape if self.classes is None else self._without(self.classes)
        wide = self.shape if self.classes is None else self._without(self.classes, keep=True)
        widen: Convert = None
        if not shape:
            widen = partial(self.xp.reshape, shape=(1,) * self.ndim)
        elif len(shape) == len(elements) and all(n in (1, m) for n, m in zip(shape, elements, strict=True)):
            widen = None if self.classes is None else partial(self.xp.expand_dims, axis=self.classes)
        elif not (len(shape) == len(wide) and all(n in (1, m) for n, m in zip(shape, wide, strict=True))):
            text = f"{name} must have the shape of the unreduced loss, {elements}, each size equal or 1; got {shape}"
            classes = self.shape[-1 if self.classes is None else self.classes] if self.ndim else None
            raise ValueError(text + (" (for one weight per class pass class_weights)" if name == "weights" and shape == (classes,) else ""))
        return self._add(a, None if name == "where" else self._casting(a, name), widen)

    def _reduce(self, reduction: str, axes: int | Sequence[int] | None) -> tuple[int, ...] | None:
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none'; got {reduction!r}")
        if reduction == "none":
            if axes is not None:
                raise ValueError(f"reduce_axes must be None with reduction='none'; got {axes!r}")
            return None
        if axes is None:
            return tuple(a for a in range(self.ndim) if a != self.classes)
        named = self._axes("reduce_axes", axes)
        if self.classes in named:
            raise ValueError(f"reduce_axes must not contain the class axis {self.classes}; got {axes!r}")
        return named

    def _axes(self, name: str, axes: int | Sequence[int]) -> tuple[int, ...]:
        many = axes if isinstance(axes, Iterable) else (axes,)
        named = tuple(normal_axis(name, a, self.ndim) for a in many)
        if len(set(named)) != len(named):
            raise ValueError(f"{name} must name an axis once; got {axes!r}")
        return tuple(sorted(named))

    def _normalizer(self, normalizer: Any, reduction: str) -> Any:
        if isinstance(normalizer, str):
            if normalizer not in ("weights", "count"):
                raise ValueError(f"normalizer must be 'weights', 'count', a number or a 0-d array; got {normalizer!r}")
            if reduction == "none" and normalizer != "weights":
                raise ValueError(f"normalizer must be left alone with reduction='none'; got {normalizer!r}")
            return normalizer
        if reduction == "none":
            raise ValueError(f"normalizer must be left alone with reduction='none'; got {normalizer!r}")
        if is_number(normalizer):
            if number("normalizer", normalizer) == 0:
                raise ValueError("normalizer must not be 0; got 0")
            return float(normalizer)
        normalizer = self._array("normalizer", normalizer, "'weights', 'count', a number or a 0-d array")
        if normalizer.ndim:
            raise ValueError(f"normalizer must be a number or a 0-d array; got shape {tuple(normalizer.shape)}")
        return normalizer

    def scalar(self, name: str, value: Any, *, low: float = -float("inf"), above: float = -float("inf")) -> Any:
        """A parameter of a finish: a number, checked, or a 0-d array, which may be traced and differentiated."""
        if not is_number(value):
            array = self._array(name, value, "a number or a 0-d array")
            if array.ndim:
                raise ValueError(f"{name} must be a number or a 0-d array; got shape {tuple(array.shape)}")
            return array
        if float(value) <= above:
            raise ValueError(f"{name} must be above {above:g}; got {value}")
        return number(name, value, low=low)

    def _class_entries(self, name: str, value: Any, size: int | None) -> Any:
        """One number per class: a tuple, or a 1-D array of this library."""
        if value is None:
            return None
        if size is None:
            raise ValueError(f"{name} needs classes: pass axis=")
        if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 1:
            value = value.tolist()
        if isinstance(value, tuple | list):
            value = tuple(number(name, v, low=0) for v in value)
            given: tuple[int, ...] = (len(value),)
        elif is_number(value) or getattr(value, "ndim", None) == 0:
            raise TypeError(f"{name} must have one entry per class; got the single number {value!r}")
        else:
            value = self.backend.accept(value, self.x, name)
            given = tuple(value.shape)
        if given != (size,):
            raise ValueError(f"{name} must have one entry for each of the {size} classes, those that are left out too; got shape {given}")
        return value

    # -- small things -------------------------------------------------------------------------------------------------

    def _array(self, name: str, value: Any, rule: str) -> Array:
        """An argument that may be something else than an array, and is none of that."""
        if not hasattr(value, "dtype"):
            raise TypeError(f"{name} must be {rule}; got {type(value).__name__}")
        return self.backend.accept(value, self.x, name)

    def _add(self, array: Array, *conversions: Convert) -> Slot:
        """The slot of an argument, as it is or converted."""
        convert: Convert = None
        for step in conversions:
            convert = step if convert is None else convert if step is None else _both(convert, step)
        self.origins.append((array, convert))
        self.arrays.append(array if convert is None else convert(array))
        return Slot(len(self.arrays) - 1)

    def _casting(self, a: Array, name: str) -> Convert:
        """What makes numbers of the computation of an array; None if it has such."""
        if dtypes.kind(a.dtype) == "other":
            raise TypeError(f"{name} must be real numbers; got {dtypes.name(a.dtype)}")
        if a.dtype == self.compute or (self.half and a.dtype == self.x.dtype):
            return None
        xp, dtype = self.xp, self.compute
        return lambda a: xp.astype(a, dtype)

    def _same_shape(self, a: Array, name: str, first: str) -> None:
        shape = tuple(a.shape)
        if shape == self.shape:
            return
        text = f"{name} must have the shape of {first}, {self.shape}; got {shape}"
        if (*shape, 1) == self.shape:
            text += f": pass {first}[..., 0]" if len(shape) > 1 else f": pass {first}[:, 0]"
        elif (*self.shape, 1) == shape:
            text += f": pass {name}[..., 0]" if self.ndim > 1 else f": pass {name}[:, 0]"
        raise ValueError(text)
