"""Losses in which every output depends on its own element, or on its own row along one axis.

`Separable` is what runs a kernel: it casts, leaves out, checks labels, weighs and adds up. It is a pure function of a
tuple of arrays, predictions first; everything else about it is static and hashable, so that it can key a compiler's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from . import dtypes, special
from .reduction import total

Array = Any
Kernel = Callable[..., Iterator[Any]]

# A prediction that is left out becomes 1/2 before the formula sees it: inside the domain of logits, probabilities,
# log-probabilities, variances and regression alike, so that neither a value nor a derivative of any order is a NaN there.
NEUTRAL = 0.5


@dataclass(frozen=True)
class Slot:
    """The place of an array among the arrays of an operation; whatever is no `Slot` is a number and static."""

    index: int


@dataclass(frozen=True)
class Labels:
    """Integer or boolean targets: how many classes they may name, and which values are left out."""

    slot: Slot
    classes: int
    ignore: tuple[int, ...] = ()
    binary: bool = False  # 0 and 1 of a sigmoid loss, given to the kernel as booleans

    def ignored(self, t: Array) -> Array | None:
        """Where a label is to be left out; a value outside the dtype is compared in Python, where it matches nothing."""
        if not self.ignore:
            return None
        low, high = dtypes.integer_range(t.dtype) if dtypes.kind(t.dtype) == "integer" else (0, 1)
        out = None
        for value in self.ignore:
            if low <= value <= high:
                same = t == (bool(value) if dtypes.kind(t.dtype) == "bool" else value)
                out = same if out is None else out | same
        return out

    def valid(self, t: Array) -> Array | None:
        """Where a label names a class; None if its dtype allows no other."""
        if dtypes.kind(t.dtype) == "bool":
            return None if self.classes >= 2 else ~t
        low, high = dtypes.integer_range(t.dtype)
        above = t >= 0 if low < 0 else None
        below = t < self.classes if self.classes <= high else None
        if above is None or below is None:
            return below if above is None else above
        return above & below

    def check(self, xp: Any, t: Array) -> None:
        """Raise where a label is out of range. Reads two numbers: only for arrays on the host."""
        if self.valid(t) is None or prod(t.shape) == 0:
            return
        low, high = int(xp.min(t)), int(xp.max(t))
        if low >= 0 and high < self.classes:
            return
        what = "0 or 1" if self.binary else f"labels from 0 to {self.classes - 1}"
        wrong = low if low < 0 else high
        text = f"integer targets must be {what}; got {wrong}"
        if low == -100:
            text += " (pass ignore_index=-100 to leave those elements out)"
        elif self.binary and high > 1 and low >= 0:
            text += f" (a mask of 0 and {high} is `targets == {high}`)"
        raise ValueError(text)


@dataclass(frozen=True)
class Separable:
    """One separable loss, up to but without the division of a mean."""

    kernel: Kernel
    arguments: tuple[Any, ...]  # of the kernel, after xp: slots and static numbers
    predictions: int  # the first so many arrays are predictions
    classes: int | None  # the class axis, or None where every entry is an element
    labels: Labels | None = None
    weights: tuple[Any, ...] = ()  # factors: slots and numbers
    mass: tuple[Any, ...] | None = None  # (function, arguments): what an element counts in a mean, beside its weights
    where: Slot | None = None
    reduce: tuple[int, ...] | None = None  # axes that are summed; None: no reduction
    outputs: tuple[str, ...] = ("total",)  # of "total", "weight" and "count"
    half: bool = False  # predictions of 16 bits: computed in float32
    wide: bool = True  # the device has float64

    saves_slope = True  # what a backward pass needs is one array per prediction, whatever the cotangent

    def step(self, xp: Any, arrays: Sequence[Array], order: int, *, read_labels: bool = False) -> tuple[Any, ...]:
        """The outputs, every axis kept, then the slopes (order >= 1) and curvatures (order >= 2), a tuple each.

        Slopes and curvatures are those of the weighted elements, in the dtype of the computation.
        """
        keep, valid, arrays = self._leave_out(xp, arrays, read_labels)
        weights = [self._get(w, arrays) for w in self.weights]
        stages = self.kernel(xp, *(self._get(a, arrays) for a in self.arguments))

        def weighed(a: Array) -> Array:
            for w in weights:
                a = w * a
            if valid is not None:
                a = xp.where(valid, a, float("nan"))
            return a if keep is None else xp.where(keep, a, 0.0)

        value = weighed(next(stages))
        result: list[Any] = [tuple(self._output(xp, name, value, weights, keep, arrays) for name in self.outputs)]
        for _ in range(order):
            derivative = next(stages, None)
            if derivative is None:
                raise NotImplementedError(f"no curvature is defined for {self.kernel.__name__.strip('_')}")
            many = derivative if isinstance(derivative, tuple) else (derivative,)
            result.append(tuple(weighed(d) for d in many))
        return tuple(result)

    def forward(self, xp: Any, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs."""
        return self.settle(xp, arrays[0], self.step(xp, arrays, 0)[0])

    def linearize(self, xp: Any, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """The outputs, and what `pull` and `push` need: the slopes."""
        outputs, slopes = self.step(xp, arrays, 1)
        return self.settle(xp, arrays[0], outputs), slopes

    def pull(self, xp: Any, arrays: Sequence[Array], slopes: Sequence[Array], cotangents: Sequence[Any]) -> tuple[Array, ...]:
        """Gradients of the predictions: only the total depends on them."""
        g = self.spread(xp, arrays[0], cotangents[0])
        if hasattr(g, "dtype"):
            g = xp.astype(g, slopes[0].dtype, copy=False)
        return tuple(xp.astype(g * s, x.dtype, copy=False) for s, x in zip(slopes, arrays, strict=False))

    def push(self, xp: Any, arrays: Sequence[Array], slopes: Sequence[Array], tangents: Sequence[Any]) -> tuple[Array, ...]:
        """Tangent of the total for tangents of the predictions (None: it does not move)."""
        shape = self.element_shape(arrays[0].shape)
        moved = None
        for s, dx in zip(slopes, tangents, strict=False):
            if dx is not None:
                part = s * xp.astype(dx, s.dtype, copy=False)
                if self.classes is not None:
                    part = xp.sum(part, axis=self.classes, keepdims=True)
                moved = part if moved is None else moved + part
        if self.reduce is not None:
            moved = total(xp, moved, shape, self.reduce, self.sum_dtype(xp, moved))
        return self.settle(xp, arrays[0], (moved,))

    # -- shapes ---------------------------------------------------------------------------------------------------

    def element_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the unreduced loss, with the class axis kept at size 1."""
        return tuple(1 if i == self.classes else n for i, n in enumerate(shape))

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of what a caller sees."""
        gone = (*(self.reduce or ()), self.classes)
        return tuple(n for i, n in enumerate(shape) if i not in gone)

    def settle(self, xp: Any, x: Array, outputs: Sequence[Array]) -> tuple[Array, ...]:
        """Outputs in the shape and dtype that a caller sees."""
        shape = self.output_shape(x.shape)
        if self.reduce is None:
            return tuple(xp.astype(xp.reshape(o, shape), x.dtype, copy=False) for o in outputs)
        outputs = tuple(xp.reshape(o, shape) for o in outputs)
        if self.half:
            return tuple(xp.astype(o, xp.float32, copy=False) if dtypes.kind(o.dtype) == "float" else o for o in outputs)
        return outputs

    def sum_dtype(self, xp: Any, a: Array) -> Any:
        """float64 where the device has it: then the sum over a whole data set is right to the last digit."""
        return xp.float64 if self.wide and dtypes.name(a.dtype) == "float32" else a.dtype

    def spread(self, xp: Any, x: Array, g: Any) -> Any:
        """A cotangent of the total, shaped so that it multiplies slopes."""
        if getattr(g, "ndim", 0) == 0:
            return g
        gone = (*(self.reduce or ()), self.classes)
        return xp.reshape(g, tuple(1 if i in gone else n for i, n in enumerate(x.shape)))

    # -- steps ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _get(argument: Any, arrays: Sequence[Array]) -> Any:
        return arrays[argument.index] if isinstance(argument, Slot) else argument

    def _leave_out(self, xp: Any, arrays: Sequence[Array], read_labels: bool) -> tuple[Array | None, Array | None, list[Array]]:
        """What counts, which labels are valid, and the arrays that the formula may see.

        What does not count is replaced before any range check, gather or nonlinearity meets it.
        """
        arrays = list(arrays)
        shape = self.element_shape(arrays[0].shape)
        keep = None if self.where is None else arrays[self.where.index]
        labels = self.labels
        if labels is not None:
            ignored = labels.ignored(arrays[labels.slot.index])
            if ignored is not None:
                keep = ~ignored if keep is None else keep & ~ignored
        seen = [a.index for a in self.arguments if isinstance(a, Slot)]
        for i in seen:
            if self.half and dtypes.kind(arrays[i].dtype) == "half":
                arrays[i] = xp.astype(arrays[i], xp.float32)
            if keep is not None and self.element_shape(arrays[i].shape) == shape:
                arrays[i] = xp.where(keep, arrays[i], NEUTRAL if i < self.predictions else 0)
        valid = None
        if labels is not None:
            i = labels.slot.index
            if read_labels:
                labels.check(xp, arrays[i])
            else:
                valid = labels.valid(arrays[i])
                if valid is not None:
                    arrays[i] = xp.where(valid, arrays[i], 0)
            if not labels.binary:
                arrays[i] = special.as_index(xp, arrays[i])
            elif dtypes.kind(arrays[i].dtype) != "bool":
                arrays[i] = arrays[i] == 1
        return keep, valid, arrays

    def _output(self, xp: Any, name: str, value: Array, weights: Sequence[Any], keep: Array | None, arrays: Sequence[Array]) -> Array:
        """One of the sums, or the unreduced loss."""
        shape = self.element_shape(arrays[0].shape)
        if self.reduce is None:
            return xp.broadcast_to(value, shape)
        if name == "total":
            return total(xp, value, shape, self.reduce, self.sum_dtype(xp, value))
        if name == "count":
            return total(xp, special.as_index(xp, keep), shape, self.reduce, None)
        mass: Any = 1
        for factor in weights:
            mass = factor * mass
        if self.mass is not None:
            function, *arguments = self.mass
            mass = mass * function(xp, *(self._get(a, arrays) for a in arguments))
        if keep is not None:
            mass = xp.where(keep, mass, 0 * mass if isinstance(mass, float) else 0)
        return total(xp, mass, shape, self.reduce, self.sum_dtype(xp, value))
