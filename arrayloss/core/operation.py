"""What the kinds of operation share: which arrays there are, what is left out of them, and the shapes of sums.

An operation is a pure function of a tuple of arrays, predictions first; everything else about it is static and hashable, so
that it can key a compiler's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import dtypes, special

Array = Any
Kernel = Callable[..., Any]

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
    ignore: tuple[int, ...] = ()  # each a value of the labels' dtype
    binary: bool = False  # 0 and 1 of a sigmoid loss, given to the kernel as booleans
    numbers: bool = False  # 0 and 1 of a distribution, given to the kernel as floating point

    def ignored(self, t: Array) -> Array:
        """Where a label is to be left out, if any is."""
        out: Any = None
        for value in self.ignore:
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
        low, high = dtypes.integer_range(t.dtype)
        if (low >= 0 and high < self.classes) or 0 in t.shape:
            return
        if special.in_range(xp, t, self.classes):
            return
        low, high = special.bounds(xp, t)
        what = "0 or 1" if self.binary else f"labels from 0 to {self.classes - 1}"
        wrong = low if low < 0 else high
        text = f"integer targets must be {what}; got {wrong}"
        if low == -100:
            text += " (pass ignore_index=-100 to leave those elements out)"
        elif self.binary and high > 1 and low >= 0:
            text += f" (a mask of 0 and {high} is `targets == {high}`)"
        raise ValueError(text)


@dataclass(frozen=True, repr=False)
class Operation:
    """A loss up to but without its last, non-additive step."""

    kernel: Kernel  # the formula
    arguments: tuple[Any, ...]  # of the kernel, after xp: slots and static numbers
    predictions: int  # the first so many arrays are predictions
    classes: int | None  # the class axis, or None where every entry is an element
    labels: Labels | None = None
    weights: tuple[Any, ...] = ()  # factors: slots and numbers
    where: Slot | None = None
    reduce: tuple[int, ...] | None = None  # axes that are summed; None: no reduction
    outputs: tuple[str, ...] = ("total",)  # of "total", "weight" and "count"
    half: bool = False  # predictions of 16 bits: computed in float32
    wide: bool = True  # the device has float64
    from_softmax: bool = False  # the formula starts from the softmax of its prediction along the class axis, and from no other softmax

    # -- shapes ---------------------------------------------------------------------------------------------------

    def row_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """One entry for every element or row: what can be left out."""
        c = self.classes
        return tuple(shape) if c is None else (*shape[:c], 1, *shape[c + 1 :])

    def element_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of what is summed, every axis kept."""
        return self.row_shape(shape)

    def sum_shapes(self, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """The shape of each output of a reduction, every axis kept."""
        kept = tuple(1 if a in (self.reduce or ()) else n for a, n in enumerate(self.element_shape(shape)))
        return (kept,) * len(self.outputs)

    @property
    def moving(self) -> tuple[bool, ...]:
        """Which outputs depend on predictions."""
        return (True,) * len(self.outputs)

    def _gone(self) -> tuple[int | None, ...]:
        """The axes that a caller does not see."""
        return (*(self.reduce or ()), self.classes)

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of what a caller sees."""
        gone = self._gone()
        return tuple([n for i, n in enumerate(shape) if i not in gone])

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
        gone = self._gone()
        return xp.reshape(g, tuple(1 if i in gone else n for i, n in enumerate(x.shape)))

    def spread_all(self, xp: Any, x: Array, cotangents: Sequence[Any]) -> tuple[Array, ...]:
        """Cotangents of the outputs that depend on predictions (None: not asked for), in the dtype of the computation, every axis kept."""
        gone, dtype = self._gone(), xp.float32 if self.half else x.dtype
        shape = tuple(1 if i in gone else n for i, n in enumerate(x.shape))
        given = next(g for g in cotangents if g is not None)

        def spread(g: Any) -> Array:
            if not hasattr(g, "dtype"):
                return xp.zeros_like(spread(given)) if g is None else special.constant(xp, g, dtype, x)
            return xp.astype(xp.reshape(g, shape if g.ndim else (1,) * x.ndim), dtype, copy=False)

        return tuple(spread(g) for g, moves in zip(cotangents, self.moving, strict=True) if moves)

    # -- steps ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _get(argument: Any, arrays: Sequence[Array]) -> Any:
        return arrays[argument.index] if isinstance(argument, Slot) else argument

    def check_labels(self, xp: Any, arrays: Sequence[Array]) -> None:
        """Raise where a label that counts is out of range; for host arrays whose kernel runs where none can be read."""
        if self.labels is not None:
            self._leave_out(xp, arrays, True)

    def _leave_out(self, xp: Any, arrays: Sequence[Array], read_labels: bool | None) -> tuple[Array | None, Array | None, list[Array]]:
        """What counts, which labels are valid, and the arrays that the formula may see. `read_labels`: None if they have been read.

        What does not count is replaced before any range check, gather or nonlinearity meets it.
        """
        arrays = list(arrays)
        keep = None if self.where is None else arrays[self.where.index]
        labels = self.labels
        if labels is not None and labels.ignore:
            ignored = labels.ignored(arrays[labels.slot.index])
            if self.classes is not None and labels.binary:
                ignored = xp.any(ignored, axis=self.classes, keepdims=True)  # a row counts or does not
            keep = ~ignored if keep is None else keep & ~ignored
        if keep is not None or self.half:
            shape = self.row_shape(arrays[0].shape)
            for i in [a.index for a in self.arguments if isinstance(a, Slot)]:
                if self.half and dtypes.kind(arrays[i].dtype) == "half":
                    arrays[i] = xp.astype(arrays[i], xp.float32)
                if keep is not None and self.row_shape(arrays[i].shape) == shape:
                    nothing = False if dtypes.kind(arrays[i].dtype) == "bool" else 0
                    arrays[i] = xp.where(keep, arrays[i], NEUTRAL if i < self.predictions else nothing)
        valid = None
        if labels is not None:
            i = labels.slot.index
            if read_labels:
                labels.check(xp, arrays[i])
            elif read_labels is not None:
                arrays[i] = special.narrow(xp, arrays[i], labels.classes)
                valid = labels.valid(arrays[i])
                if valid is not None and self.classes is not None and labels.binary:
                    valid = xp.all(valid, axis=self.classes, keepdims=True)
                if valid is not None:
                    arrays[i] = xp.where(valid, arrays[i], 0)
            if not labels.binary:
                arrays[i] = special.as_index(xp, arrays[i])
            elif dtypes.kind(arrays[i].dtype) != "bool":
                arrays[i] = arrays[i] == 1
            if labels.numbers:
                arrays[i] = xp.astype(arrays[i], arrays[0].dtype)
        return keep, valid, arrays
