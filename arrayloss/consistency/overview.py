"""Every loss on real data, on every library: what `arrayloss check` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .compare import check
from .oracles import ORACLES, Oracle
from .problems import problem
from .report import Report
from .subject import Subject, named_loss

EVERY = 75  # of the images, how many share one that is held against the definition


@dataclass(frozen=True)
class Line:
    """One loss on the digits: the mean over the data set, the norm of its gradient, and what was compared."""

    loss: str
    given: str
    value: float
    gradient: float
    report: Report

    @property
    def label(self) -> str:
        return self.loss + (f" ({self.given})" if self.given else "")

    @property
    def conditioned(self) -> int:
        """How many numbers were judged by what the last place of the inputs moves them by."""
        return sum(r.conditioned for r in self.report.rows)

    def worst(self, quantity: str, *, between: bool = False) -> float:
        """The largest error in ulps against the reference, or between two libraries."""
        return max(
            (r.max_ulp for r in self.report.rows if r.quantity == quantity and (r.against == "each other") == between and r.count),
            default=0.0,
        )


def overview(
    backends: Sequence[str] | None = None,
    *,
    dtype: str = "float32",
    modes: Sequence[str] = ("eager",),
    max_ulp: float = 8,
    progress: Callable[[str], Any] | None = None,
) -> Iterator[Line]:
    """One line a loss and form of its predictions.

    All the data is compared with NumPy's float64, which itself is compared with the definition in mpmath on a sample.
    """
    for name, rows in ORACLES.items():
        loss = named_loss(name)
        for row in rows:
            options = dict(row.options[0])
            shared: dict[str, Any] = {"max_ulp": max_ulp, "points": "digits", "targets": row.targets[0], "progress": progress, **options}
            confirmed = check(
                name, backends=["numpy"], modes=["eager"], dtypes=["float64"], every=EVERY, quantities=["value", "grad"], **shared
            )
            report = check(
                name, backends=backends, modes=modes, dtypes=[dtype], quantities=["value", "grad"], reference="float64:numpy", **shared
            )
            for r in confirmed.rows:
                r.backend = "float64 reference"
            report.extend(confirmed)
            value, gradient = _mean(loss, row, dtype, options)
            yield Line(name, str(options.get("given", "")), value, gradient, report)


def _mean(loss: Any, row: Oracle, dtype: str, options: dict[str, Any]) -> tuple[float, float]:
    """The mean over the digits in NumPy, and the norm of its gradient."""
    from .libraries import LIBRARIES

    batch = problem(row.predictions, row.targets[0], "digits", np.random.default_rng(0), options).rounded(dtype)
    subject = Subject(loss.name, {}, loss, reduction="mean")
    found = subject.run(LIBRARIES["numpy"], "eager", dtype, batch, ("value", "grad"))
    for result in found.values():
        if isinstance(result, Exception):
            raise result
    return float(found["value"][0]), float(np.sqrt(sum(np.sum(g**2) for g in found["grad"])))
