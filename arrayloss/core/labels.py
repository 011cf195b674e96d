"""Integer and boolean targets: which values name a class, which are ignored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from . import dtypes, special

Array = Any


@dataclass(frozen=True)
class Labels:
    """How the targets with that index among the arrays are read."""

    index: int
    classes: int
    ignore: tuple[int, ...] = ()  # each a value of the labels' dtype
    binary: bool = False  # 0 and 1, one for every entry; the kernel gets floating point
    signs: bool = False  # of binary ones: -1 and 1

    def not_ignored(self, xp: Any, t: Array, event_axes: tuple[int, ...]) -> Array:
        """Where no label is ignored; an element counts as a whole."""
        is_boolean = dtypes.kind(t.dtype) == "bool"
        ignored = reduce(or_, [t == (bool(value) if is_boolean else value) for value in self.ignore])
        if self.binary and event_axes:
            ignored = xp.any(ignored, axis=event_axes, keepdims=True)
        return ~ignored

    def prepare(self, xp: Any, t: Array, mode: str, event_axes: tuple[int, ...], dtype: Any) -> tuple[Array | None, Array]:
        """Where labels are valid (None: everywhere), and the labels that the kernel sees.

        `mode`: "raise" on labels out of range, mark them as invalid ("nan"), or trust that they are "checked".
        """
        valid = None
        if mode == "raise":
            self.check(xp, t)
        elif mode == "nan":
            t = t if self.signs else special.labels_to_int32(xp, t, self.classes)
            valid = self._valid(t)
            t = t if valid is None else xp.where(valid, t, 0)
            valid = xp.all(valid, axis=event_axes, keepdims=True) if valid is not None and self.binary and event_axes else valid
        if not self.binary:
            return valid, special.as_index(xp, t)
        t = xp.astype(t if dtypes.kind(t.dtype) == "bool" else t == 1, dtype)
        return valid, 2 * t - 1 if self.signs else t

    def _valid(self, t: Array) -> Array | None:
        """Where labels are in range; None where their dtype has no other values."""
        if dtypes.kind(t.dtype) == "bool":
            return None if self.classes >= 2 else ~t
        low, high = dtypes.integer_range(t.dtype)
        if self.signs:  # an unsigned integer has no -1, and libraries compare it with 255
            return (t == 1) | (t == -1) if low < 0 else t == 1
        below = t < self.classes if self.classes <= high else None
        above = t >= 0 if low < 0 else None
        return below if above is None else above if below is None else above & below

    def check(self, xp: Any, t: Array) -> None:
        """Raise where a label is out of range. Reads two numbers: for host memory only."""
        low, high = dtypes.integer_range(t.dtype)
        if 0 in t.shape or (dtypes.kind(t.dtype) == "bool" if self.signs else low >= 0 and high < self.classes):
            return
        if self.signs and bool(xp.all(self._valid(t))):
            return
        low, high = special.label_range(xp, t)
        if not self.signs and low >= 0 and high < self.classes:
            return
        first = -1 if self.signs else 0
        what = f"{first} or 1" if self.binary else f"labels from 0 to {self.classes - 1}"
        wrong = low if low < first else high if high >= self.classes else 0
        text = f"integer targets must be {what}; got {wrong}"
        if low == -100:
            text += " (pass ignore_index=-100 to leave those elements out)"
        elif self.binary and high > 1 and low >= 0:
            text += f" (a mask of 0 and {high} is `targets == {high}`)"
        elif self.signs and low == 0:
            text += " (targets of 0 and 1 are `targets == 1`)"
        raise ValueError(text)
