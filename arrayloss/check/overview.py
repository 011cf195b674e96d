"""Every loss on real data, on every library: what `arrayloss check` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayloss.frontend.loss import REGISTRY

from .compare import check
from .definitions import DEFINITIONS, Definition
from .evaluate import FORMS
from .libraries import LIBRARIES
from .points import batches
from .report import Report
from .run import Subject, named_loss

EVERY = 75  # of the images, how many share one that is compared with the definition: times the square of the number of predictions
EVERY_WHOLE = 1797  # the same where all pixels depend on each other


@dataclass(frozen=True)
class Line:
    """One loss on the digits: the mean over the data set, the norm of its gradient, and what was compared."""

    label: str
    value: float
    gradient: float
    report: Report


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
        for definition in forms_of(name):
            shared: dict[str, Any] = {"max_ulp": max_ulp, "points": "digits", "targets": definition.targets[0], "progress": progress}
            shared |= {"quantities": ("value", "grad"), **definition.options[0]}
            every = EVERY_WHOLE if definition.whole else EVERY * len(definition.predictions) ** 2
            sample = check(name, backends=["numpy"], modes=["eager"], dtypes=["float64"], every=every, **shared)
            report = check(name, backends=backends, modes=modes, dtypes=[dtype], reference="float64:numpy", **shared)
            for r in sample.rows:
                r.backend = "float64 reference"
            report.rows += sample.rows
            given = definition.options[0].get("given")
            yield Line(f"{name} ({given})" if given else name, *_mean(name, definition, dtype), report)


def forms_of(name: str) -> list[Definition]:
    """The definitions of a loss, one for each form of its predictions without other options; of an overlap the first one."""
    definitions = DEFINITIONS.get(name, [])
    plain = [d for d in definitions if not (d.whole or set(d.options[0]) - set(FORMS))]
    return plain or definitions[:1]


def _mean(name: str, definition: Definition, dtype: str) -> tuple[float, float]:
    """The mean over the digits in NumPy, and the norm of its gradient."""
    subject = Subject(name, {}, named_loss(name), reduction="mean")
    options = definition.options[0]
    batch = batches(definition.predictions, definition.targets[0], "digits", np.random.default_rng(0), options)[0].rounded(dtype)
    results = subject.run(LIBRARIES["numpy"], "eager", dtype, batch, ("value", "grad"))
    if any(isinstance(result, Exception) for result in results.values()):
        return float("nan"), float("nan")  # the report says why
    return float(results["value"][0]), float(np.sqrt(sum(np.sum(g**2) for g in results["grad"])))
