"""Every loss on real data, on every library: what `arrayloss check` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayloss.core.loss import REGISTRY

from .compare import check, forms
from .libraries import LIBRARIES
from .oracles import ORACLES
from .problems import Problem, batches
from .report import Report
from .subject import Subject, named_loss

EVERY = 75  # of the images, how many share one that is held against the definition
EVERY_WHOLE = 1797  # the same where all pixels depend on each other


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
    max_ulp: float | None = None,
    progress: Callable[[str], Any] | None = None,
) -> Iterator[Line]:
    """One line a loss and form of its predictions.

    All the data is compared with NumPy's float64, which itself is compared with the definition in mpmath on a sample.
    """
    for name in REGISTRY:
        for options in forms_of(name):
            (domains, kinds, whole_options, oracle), *_ = forms(name, options)
            kind = kinds[0]
            shared: dict[str, Any] = {"max_ulp": max_ulp, "points": "digits", "targets": kind, "progress": progress, **options}
            every = EVERY if oracle is not None else EVERY_WHOLE
            confirmed = check(
                name, backends=["numpy"], modes=["eager"], dtypes=["float64"], every=every, quantities=["value", "grad"], **shared
            )
            report = check(
                name, backends=backends, modes=modes, dtypes=[dtype], quantities=["value", "grad"], reference="float64:numpy", **shared
            )
            for r in confirmed.rows:
                r.backend = "float64 reference"
            report.extend(confirmed)
            batch = batches(domains, kind, "digits", np.random.default_rng(0), whole_options)[0].rounded(dtype)
            yield Line(name, str(options.get("given", "")), *_mean(name, batch, dtype), report)


def forms_of(name: str) -> list[dict[str, Any]]:
    """One set of options for each form of the predictions."""
    return [dict(o.options[0]) for o in ORACLES.get(name, ())] or [{}]


def _mean(name: str, batch: Problem, dtype: str) -> tuple[float, float]:
    """The mean over the digits in NumPy, and the norm of its gradient."""
    subject = Subject(name, {}, named_loss(name), reduction="mean")
    found = subject.run(LIBRARIES["numpy"], "eager", dtype, batch, ("value", "grad"))
    if any(isinstance(result, Exception) for result in found.values()):
        return float("nan"), float("nan")  # the report says why
    return float(found["value"][0]), float(np.sqrt(sum(np.sum(g**2) for g in found["grad"])))
