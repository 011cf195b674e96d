"""What results are compared with: a definition at high precision, or a subject in float64; and how far an input's last place moves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .definitions import Definition
from .points import Floats, Problem
from .ulp import Exact

STEP = 2.0**-20  # relative change of the inputs that conditioning is measured with


@dataclass(frozen=True)
class Reference:
    """Exact values and derivatives of a batch; `name` says where they come from.

    `exact(problem, quantity)` returns one array of values, or one array of derivatives for every prediction.
    """

    name: str
    exact: Callable[[Problem, str], tuple[Exact, ...]]
    is_separable: bool = False  # elements (or rows) can be evaluated alone
    has_terms: bool = False  # derivatives come with the terms that they are sums of, which cancel near their zeros

    @classmethod
    def of_definition(cls, definition: Definition, label: str, reduction: str) -> Reference:
        """A definition in mpmath."""

        def exact(problem: Problem, quantity: str) -> tuple[Exact, ...]:
            return definition.exact(problem, (quantity,), reduction)[quantity]

        is_separable = reduction == "none" and not definition.whole
        return cls(f"{label} (mpmath)", exact, is_separable, has_terms=definition.jets)

    def sensitivity(self, problem: Problem, quantity: str, which: int, exact: Exact, mask: Any) -> Any:
        """By how much a relative change of the inputs, one after the other, changes the numbers of `mask`; at least their terms."""
        terms = exact.terms[mask] if self.has_terms and quantity != "value" else 0.0
        if self.is_separable:
            elements = mask.any(axis=problem.axis) if problem.axis is not None and quantity != "value" else mask
            problem, mask = problem.take(elements), mask[elements]
        base = self.exact(problem, quantity)[which]
        total = np.zeros_like(base.high)
        for other in _with_one_input_changed(problem):
            there = self.exact(other, quantity)[which]
            with np.errstate(all="ignore"):
                total += np.abs((there.high - base.high) + (there.low - base.low)) / STEP
        return np.fmax(total[mask], terms)


def _with_one_input_changed(problem: Problem) -> Iterator[Problem]:
    """The batch with one input of every element (or row) changed relatively by STEP; of a whole, every prediction up or down."""
    for i, x in enumerate(problem.predictions):
        for changed in _changed(problem, x):
            yield replace(problem, predictions=tuple([changed if j == i else p for j, p in enumerate(problem.predictions)]))
    if problem.targets is not None and not problem.labels and not problem.whole:
        for changed in _changed(problem, problem.targets):
            yield replace(problem, targets=changed)


def _changed(problem: Problem, a: Floats) -> Iterator[Floats]:
    if problem.whole:
        for seed in range(3):
            signs = np.where(np.random.default_rng(seed).integers(0, 2, a.shape) == 1, 1.0, -1.0) if seed else np.sign(a)
            yield a * (1 + STEP * signs)
        return
    places: Sequence[Any] = [...] if problem.axis is None else [(..., c) for c in range(a.shape[-1])]
    for place in places:
        changed = a.copy()
        changed[place] *= 1 + STEP
        yield changed
