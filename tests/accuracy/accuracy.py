"""Runs of a sweep in other ways than the eager one, and comparisons of backends with each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from arrayloss.check.accuracy import Batch, Measured, judge_all, measure, place
from arrayloss.check.definitions import QUANTITIES
from arrayloss.check.libraries import LIBRARIES, Library
from arrayloss.check.points import Problem
from arrayloss.check.run import Subject, loss_options, named_loss

Array = Any
FIRST_TWO = ("value", "grad")
LARGE = 2**17 + 1  # entries, from which the host engine works in blocks


def run(batch: Batch, backend: str, mode: str = "eager", quantities: Sequence[str] = QUANTITIES) -> list[Measured]:
    """Errors on a backend, in one of its modes.

    "eager"; "compiled"; "large", which is repeated until engines work in blocks; "general", where PyTorch's own functions compute.
    """
    library = LIBRARIES[backend]
    if mode in ("eager", "compiled"):
        return measure(batch, library, mode, quantities if mode == "eager" else FIRST_TWO)
    results = _large(batch, library) if mode == "large" else _general(batch, library)
    return judge_all(batch, f"{backend} {mode}", results)


def _large(batch: Batch, library: Library) -> dict[str, tuple[Array, ...]]:
    problem, n = batch.problem, len(batch.problem.predictions[0])
    times = -(-LARGE // problem.predictions[0].size)

    def repeat(a: Array) -> Array:
        return np.concatenate([a] * times)

    options = {n: repeat(v) if isinstance(v, np.ndarray) else v for n, v in problem.options.items()}
    targets = None if problem.targets is None else repeat(problem.targets)
    repeated = replace(problem, predictions=tuple(map(repeat, problem.predictions)), targets=targets, options=options)
    subject = Subject.of(named_loss(batch.definition.loss), signature=None, reduction="none", target_dtype=None)
    results = subject.run(library, "eager", batch.dtype, repeated, FIRST_TWO)
    return {quantity: tuple([a[:n] for a in arrays]) for quantity, arrays in results.items()}


def _general(batch: Batch, library: Library) -> dict[str, tuple[Array, ...]]:
    import torch

    problem = batch.problem
    predictions, targets = [library.array(p, batch.dtype) for p in problem.predictions], as_targets(library, problem, batch.dtype)
    loss, options = named_loss(batch.definition.loss), loss_options(problem, "none")
    options |= {n: library.array(v) for n, v in options.items() if isinstance(v, np.ndarray)}
    value, pullback = torch.func.vjp(lambda *xs: loss(*xs, *targets, **options), *predictions)
    return {"value": (library.numpy(value),), "grad": tuple(map(library.numpy, pullback(torch.ones_like(value))))}


def as_targets(library: Library, problem: Problem, dtype: str) -> list[Array]:
    """Labels as they are, other targets in the dtype of the predictions; or none."""
    t = problem.targets
    return [] if t is None else [library.array(t) if problem.labels else library.array(t, dtype)]


def assert_kept(measured: Sequence[Measured]) -> None:
    """Every promise is kept; a failure says the loss, the options, how much over the bound, and where."""
    broken = [
        f"{m.backend} {m.batch.dtype} {m.quantity} {dict(m.batch.problem.options)} {m.batch.form}: "
        f"{m.excess:.3g} of the bound, {m.nans} NaN, {m.lost} lost, at {m.worst}"
        for m in measured
        if not m.holds
    ]
    if broken:
        raise AssertionError("\n".join(broken))


def differences(measured: Sequence[Measured]) -> Iterator[tuple[float, str]]:
    """How far two backends are from each other, over the sum of their bounds, and who and where: at most 1, for every pair of them."""
    for a, b in combinations(measured, 2):
        if (a.batch, a.quantity, a.which) == (b.batch, b.quantity, b.which) and a.backend != b.backend:
            with np.errstate(all="ignore"):
                apart = np.where(a.computed == b.computed, 0.0, np.abs(a.computed - b.computed) / (a.allowed + b.allowed))
            apart = np.where(np.isfinite(a.allowed) & np.isnan(apart), np.inf, np.nan_to_num(apart, nan=0.0))
            at = np.unravel_index(int(np.argmax(apart)), apart.shape)
            yield float(apart[at]), f"{a.backend} and {b.backend}, {a.quantity} at {place(a.batch, at, a.computed[at], b.computed[at])}"
