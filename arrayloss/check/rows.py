"""`Row`: one comparison, and how its numbers are written."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import arrayloss

from .libraries import LIBRARIES
from .ulp import Judgement

FAILURES = ("differs", "crashed")
HEADINGS = ("loss", "backend", "mode", "dtype", "targets", "quantity", "max ulp", "status", "remarks")


@dataclass(frozen=True)
class Worst:
    """The worst number of a row and the inputs that it came from; those are None for a number of the whole batch."""

    inputs: tuple[Any, ...] | None
    target: Any
    place: int | None  # along the class axis
    computed: float
    exact: float
    ulp: float
    options: Mapping[str, Any]
    snippet: str = ""  # a program that prints it, where it is wrong

    @property
    def hex(self) -> str:
        """The inputs as hex floats, which any language reads back exactly."""
        if self.inputs is None:
            return "the whole batch"
        text = ", ".join(_hex(x) for x in (*self.inputs, self.target))
        return text if self.place is None else f"{text}, entry {self.place}"

    def to_dict(self) -> dict[str, Any]:
        numbers = {"computed": _hex(self.computed), "exact": _hex(self.exact), "ulp": _finite(self.ulp)}
        return {"inputs": self.hex, **numbers, "options": {k: repr(v) for k, v in self.options.items()}, "snippet": self.snippet}


@dataclass
class Row:
    """One comparison: a quantity of a subject on one backend (or between two) against a reference.

    `status` is "agrees", "differs", "crashed" (with its message), "absent" (this library has no such quantity) or "missing" (the
    library cannot be used here).
    """

    subject: str
    backend: str
    mode: str = ""
    dtype: str = ""
    quantity: str = ""
    targets: str = ""
    prediction: int = 0
    against: str = ""
    status: str = "agrees"
    message: str = ""
    count: int = 0
    max_ulp: float = 0.0
    wrong: int = 0
    lost: int = 0
    conditioned: int = 0
    subnormal: int = 0
    flushed: int = 0
    worst: Worst | None = None
    errors: Any = None  # in ulps
    at: Any = None  # where they are on the axis of the picture, which does not show rows that have no positions

    def fill(self, judgement: Judgement) -> None:
        """Take over what was counted."""
        self.count, self.max_ulp = int(judgement.errors.size), judgement.max_ulp
        self.wrong, self.lost, self.conditioned = int(judgement.wrong.sum()), judgement.lost, judgement.conditioned
        self.subnormal, self.flushed = judgement.subnormal, judgement.flushed
        self.errors = judgement.errors
        self.status = "differs" if self.wrong else "agrees"

    @property
    def failed(self) -> bool:
        return self.status in FAILURES

    @property
    def other(self) -> str:
        """Whom the number is compared with, as the beginning of a sentence."""
        return f"{self.backend.split(' - ')[1]} has" if self.against == "each other" else f"{self.against} has"

    @property
    def said(self) -> str:
        """What there is to say beside the numbers."""
        notes = [self.message] if self.message else []
        if self.wrong:
            lost = "all small numbers that lost digits" if self.lost == self.wrong else f"{self.lost} small numbers that lost digits"
            notes.append(f"{self.wrong} of {self.count} wrong" + (f" ({lost})" if self.lost else ""))
        if self.conditioned:
            notes.append(f"{self.conditioned} judged by their terms")
        if self.flushed:
            notes.append(f"{self.flushed} subnormal as 0")
        return ", ".join(notes)

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of `HEADINGS`."""
        quantity = self.quantity + (f" {self.prediction}" if self.prediction else "")
        error = "" if self.errors is None else format_ulp(self.max_ulp)
        return (self.subject, self.backend, self.mode, self.dtype, self.targets, quantity, error, self.status, self.said)

    def to_dict(self) -> dict[str, Any]:
        plain = {k: v for k, v in vars(self).items() if k not in ("errors", "at", "worst")}
        return plain | {"max_ulp": _finite(self.max_ulp), "worst": self.worst.to_dict() if self.worst else None}


def describe(row: Row) -> str:
    """A row in one line: a failure, or the worst number of those that agree."""
    where, w = " ".join(c for c in (row.backend, row.mode, row.dtype, row.targets, row.quantity) if c), row.worst
    if w is None:
        return f"{where}: {row.status}: {row.said}"
    remarks = f"{row.said}, " if row.said else ""
    return f"{where}: {remarks}worst {format_ulp(w.ulp)} ulp at {w.hex}: {w.computed!r} where {row.other} {w.exact!r}"


def versions() -> dict[str, str]:
    """Python, this package and every library, installed or not."""
    own = {"python": platform.python_version(), "arrayloss": arrayloss.__version__, "machine": platform.machine()}
    return own | {name: library.missing() or library.version for name, library in LIBRARIES.items()}


def format_ulp(value: float) -> str:
    """Ulps as people read them."""
    if value != value or value == float("inf"):
        return "inf"
    return f"{value:.2f}" if value < 1000 else f"{value:.1e}"


def _hex(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_hex(v) for v in value) + "]"
    return value.hex() if isinstance(value, float) else str(value)


def _finite(value: float) -> float | str:
    return value if abs(value) < float("inf") else str(value)
