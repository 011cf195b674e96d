"""`Report`: what a check says, as rows, and as text, Markdown, HTML and plain data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import pages
from .rows import Row, Worst, describe, versions


class DisagreementError(AssertionError):
    """Libraries, or a library and its reference, do not agree."""


@dataclass
class Report:
    """What a check says: `passed`, `rows`, `worst`, and ways to write it down."""

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
        rows = [r for r in (self.failures or self.rows) if r.worst is not None]
        return max(rows, key=lambda r: r.max_ulp).worst if rows else None

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.failures:
            return "They do not agree."
        return "They agree." if self.passed else "Nothing was compared."

    def raise_for_failures(self) -> None:
        """Raise `DisagreementError`, an AssertionError, that names every failure."""
        if self.passed:
            return
        if not self.failures:
            raise DisagreementError(f"{self.subject}: nothing was compared: {', '.join(f'{r.backend} {r.said}' for r in self.rows)}")
        raise DisagreementError("\n".join([f"{self.subject}: {self.summary()}", *("  " + describe(r) for r in self.failures)]))

    def summary(self) -> str:
        """One line."""
        counts = Counter(r.status for r in self.rows)
        return ", ".join(f"{counts[s]} {s}" for s in ("agrees", "differs", "crashed", "absent", "missing") if counts[s]) or "no rows"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        numbers = {"subject": self.subject, "passed": self.passed, "max_ulp": self.max_ulp}
        return {**numbers, "versions": versions(), "rows": [r.to_dict() for r in self.rows]}

    def to_markdown(self, path: str | Path | None = None) -> str:
        """The report as Markdown, written to `path` if there is one, with the picture beside it."""
        return _write(pages.markdown(self, None if path is None else Path(path).with_suffix(".png")), path)

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as one HTML page that needs nothing else, written to `path` if there is one."""
        return _write(pages.html(self), path)


def _write(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
