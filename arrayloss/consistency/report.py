"""`Report`: what a check found, as rows, and as text, Markdown, HTML and plain data."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ulp import Judgement

FAILURES = ("differs", "crashed")


class DisagreementError(AssertionError):
    """Libraries, or a library and its reference, do not agree."""


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
        return {
            "inputs": self.hex,
            "computed": _hex(self.computed),
            "exact": _hex(self.exact),
            "ulp": _finite(self.ulp),
            "options": {k: repr(v) for k, v in self.options.items()},
            "snippet": self.snippet,
        }


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
    errors: Any = None  # in ulps, with where they stand, for the picture
    at: Any = None

    def fill(self, found: Judgement, worst: Worst | None) -> None:
        """Take over what was counted."""
        self.count, self.max_ulp = int(found.errors.size), found.max_ulp
        self.wrong, self.lost, self.conditioned = int(found.wrong.sum()), found.lost, found.conditioned
        self.subnormal, self.flushed = found.subnormal, found.flushed
        self.worst = worst
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
        error = format_ulp(self.max_ulp) if self.status in ("agrees", "differs") else ""
        return (self.subject, self.backend, self.mode, self.dtype, self.targets, quantity, error, self.status, self.said)

    def to_dict(self) -> dict[str, Any]:
        plain = {k: v for k, v in vars(self).items() if k not in ("errors", "at", "worst")}
        return plain | {"max_ulp": _finite(self.max_ulp), "worst": self.worst.to_dict() if self.worst else None}


HEADINGS = ("loss", "backend", "mode", "dtype", "targets", "quantity", "max ulp", "status", "remarks")


@dataclass
class Report:
    """What a check found: `passed`, `rows`, `worst`, and ways to write it down."""

    subject: str
    max_ulp: float
    rows: list[Row] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether something was compared and nothing failed."""
        return any(r.status == "agrees" for r in self.rows) and not self.failures

    @property
    def failures(self) -> list[Row]:
        return [r for r in self.rows if r.failed]

    @property
    def worst(self) -> Worst | None:
        """The worst number of all: among the failures if there are any."""
        found = [r for r in (self.failures or self.rows) if r.worst is not None]
        return max(found, key=lambda r: r.max_ulp).worst if found else None

    def raise_for_failures(self) -> None:
        """Raise `DisagreementError`, an AssertionError, that names every failure."""
        if self.passed:
            return
        if not self.failures:
            raise DisagreementError(f"{self.subject}: nothing was compared: {', '.join(f'{r.backend} {r.said}' for r in self.rows)}")
        raise DisagreementError("\n".join([f"{self.subject}: {self.summary()}", *("  " + described(r) for r in self.failures)]))

    def summary(self) -> str:
        """One line."""
        counts = Counter(r.status for r in self.rows)
        return ", ".join(f"{counts[s]} {s}" for s in ("agrees", "differs", "crashed", "absent", "missing") if counts[s]) or "no rows"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "subject": self.subject,
            "passed": self.passed,
            "max_ulp": self.max_ulp,
            "versions": versions(),
            "rows": [r.to_dict() for r in self.rows],
        }

    def to_markdown(self, path: str | Path | None = None) -> str:
        """The report as Markdown, written to `path` if there is one, with the picture beside it."""
        from .pages import markdown

        picture = None if path is None else Path(path).with_suffix(".png")
        text = markdown(self, picture)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as one HTML page that needs nothing else, written to `path` if there is one."""
        from .pages import html

        text = html(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def extend(self, other: Report) -> None:
        """Take over the rows of another report."""
        self.rows.extend(other.rows)


def described(row: Row) -> str:
    """A failure in one line."""
    where = " ".join(c for c in (row.backend, row.mode, row.dtype, row.targets, row.quantity) if c)
    if row.worst is None:
        return f"{where}: {row.status}: {row.said}"
    w = row.worst
    return f"{where}: {row.said}, worst {format_ulp(w.ulp)} ulp at {w.hex}: {w.computed!r} where {row.other} {w.exact!r}"


def versions() -> dict[str, str]:
    """Python, this package and every library, installed or not."""
    import arrayloss

    from .libraries import LIBRARIES

    found = {"python": platform.python_version(), "arrayloss": arrayloss.__version__, "machine": platform.machine()}
    return found | {name: library.missing() or library.version for name, library in LIBRARIES.items()}


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
