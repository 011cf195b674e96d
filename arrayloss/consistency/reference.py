"""What results are compared with: a definition evaluated at high precision, or a subject evaluated in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from .oracles import DIGITS, Oracle, jet
from .problems import Floats, Problem
from .ulp import Exact

STEP = 2.0**-20  # relative change of the inputs that conditioning is measured with
ORDERS = {"value": 0, "grad": 1, "hess": 2}


class Reference:
    """Exact values and derivatives of a batch; `name` says where they come from."""

    name = ""

    separates = False  # whether elements (or rows) can be evaluated alone

    def exact(self, problem: Problem, quantity: str) -> tuple[Exact, ...]:
        """The numbers of a quantity: one array of values, or one array of derivatives for every prediction."""
        raise NotImplementedError

    def moved(self, problem: Problem, quantity: str, which: int, wrong: Any) -> Floats:
        """By how much a relative change of the inputs, one after the other, changes the numbers that a mask names."""
        if self.separates:
            keep = wrong.any(axis=problem.axis) if problem.axis is not None and quantity != "value" else wrong
            problem, wrong = problem.take(keep), wrong[keep]
        base = self.exact(problem, quantity)[which]
        total = np.zeros_like(base.high)
        for other in _nudged(problem):
            there = self.exact(other, quantity)[which]
            with np.errstate(all="ignore"):
                total += np.abs((there.high - base.high) + (there.low - base.low)) / STEP
        return total[wrong]


def _nudged(problem: Problem) -> Iterator[Problem]:
    """The batch with one input of every element (or row) changed relatively by STEP; of a whole, all of them up or down."""
    if problem.whole:
        for seed in range(3):
            x = problem.predictions[0]
            signs = np.where(np.random.default_rng(seed).integers(0, 2, x.shape) == 1, 1.0, -1.0) if seed else np.sign(x)
            yield replace(problem, predictions=(x * (1 + STEP * signs),))
        return
    arrays = [*problem.predictions] + ([] if problem.labels else [problem.targets])
    for i, a in enumerate(arrays):
        places: Sequence[Any] = [...] if problem.axis is None else [(..., c) for c in range(a.shape[-1])]
        for place in places:
            changed = a.copy()
            changed[place] *= 1 + STEP
            if i < len(problem.predictions):
                predictions = tuple(changed if j == i else p for j, p in enumerate(problem.predictions))
                yield replace(problem, predictions=predictions)
            else:
                yield replace(problem, targets=changed)


@dataclass(frozen=True)
class Definition(Reference):
    """A definition in mpmath: `value(*predictions, target, **options)` of one element, or of one row as lists.

    Ours come with their derivatives; those of any other function are difference quotients, with enough digits for them.
    """

    value: Callable[..., Any] | Oracle
    name: str
    reduction: str = "none"

    @property
    def separates(self) -> bool:  # type: ignore[override]
        return self.reduction == "none"

    def exact(self, problem: Problem, quantity: str) -> tuple[Exact, ...]:
        order = ORDERS[quantity]
        options = {k: v for k, v in problem.options.items() if k != "ignore_index"}
        ignored = problem.options.get("ignore_index", ())
        ignored = (ignored,) if isinstance(ignored, int) else tuple(ignored or ())
        count = len(problem.predictions)
        results: list[list[Any]] = [[] for _ in range(count if order else 1)]
        rows = problem.axis is not None
        weights: list[Any] = []
        for index in np.ndindex(problem.predictions[0].shape[:-1] if rows else problem.predictions[0].shape):
            point = [p[index].tolist() for p in problem.predictions]
            target = problem.targets[index].tolist()
            if not isinstance(target, list) and target in ignored:
                weights.append(mpf(0))
                for result in results:
                    result.append([mpf(0)] * len(point[0]) if rows and order else mpf(0))
                continue
            weights.append(_mass(target, options, rows))
            for i, result in enumerate(results):
                result.append(self._point(point, target, options, i, order, rows))
        with mpmath.workdps(DIGITS):
            if self.reduction == "mean":
                mass = sum(weights, mpf(0)) or mpf(1)
                results = [[[v / mass for v in r] if isinstance(r, list) else r / mass for r in result] for result in results]
            if self.reduction != "none" and not order:
                return (_split(sum(results[0], mpf(0)), ()),)
            shape = problem.predictions[0].shape if order or not rows else problem.predictions[0].shape[:-1]
            return tuple(_split(result, shape) for result in results)

    def moved(self, problem: Problem, quantity: str, which: int, wrong: Any) -> Floats:
        """Of our own definitions the terms of a derivative count too: near its zeros they cancel in exact arithmetic already."""
        nudged = super().moved(problem, quantity, which, wrong)
        if quantity == "value" or not isinstance(self.value, Oracle) or self.reduction != "none":
            return nudged
        options = {k: v for k, v in problem.options.items() if k != "ignore_index"}
        terms = []
        for index in zip(*np.nonzero(wrong), strict=True):
            element, place = (index[:-1], (which, int(index[-1]))) if problem.axis is not None else (index, which)
            point, target = [p[element].tolist() for p in problem.predictions], problem.targets[element].tolist()
            exact = [[mpf(v) for v in p] if isinstance(p, list) else mpf(p) for p in point]
            wanted = [mpf(v) for v in target] if isinstance(target, list) else target if problem.axis is not None else mpf(target)
            terms.append(float(jet(self.value, exact, wanted, options, place).terms[ORDERS[quantity]]))
        return np.maximum(nudged, np.asarray(terms))

    def _point(self, point: list[Any], target: Any, options: Any, which: int, order: int, rows: bool) -> Any:
        with mpmath.workdps(_digits(point, rows) if order else DIGITS):
            exact = [[mpf(v) for v in p] if rows else mpf(p) for p in point]
            wanted = [mpf(v) for v in target] if isinstance(target, list) else target if rows else mpf(target)
            if isinstance(self.value, Oracle):
                if not order:
                    return self.value.value(*exact, wanted, **options)
                places = [(which, c) for c in range(len(exact[which]))] if rows else [which]
                found = [jet(self.value, exact, wanted, options, place).orders[order] for place in places]
                return found if rows else found[0]
            return self._quotients(self.value, exact, wanted, options, which, order, rows)

    @staticmethod
    def _quotients(value: Any, exact: list[Any], wanted: Any, options: Any, which: int, order: int, rows: bool) -> Any:
        def at(v: Any, c: int | None) -> Any:
            moved = list(exact)
            moved[which] = v if c is None else [v if j == c else w for j, w in enumerate(exact[which])]
            return value(*moved, wanted, **options)

        if not order:
            return value(*exact, wanted, **options)
        if not rows:
            return mpmath.diff(lambda v: at(v, None), exact[which], order)
        return [mpmath.diff(lambda v, c=c: at(v, c), x, order) for c, x in enumerate(exact[which])]


def _digits(point: list[Any], rows: bool) -> int:
    """Enough digits to see exp(-spread) beside 1 twice."""
    numbers = point[0] if rows else [*point[:1], 0.0]
    return DIGITS + int(min(max(numbers) - min(numbers), 800.0))


def _mass(target: Any, options: Any, rows: bool) -> Any:
    """What an element counts in a mean."""
    weights = options.get("class_weights")
    if not rows or weights is None:
        return mpf(1)
    if isinstance(target, list):
        return sum((mpf(t) * mpf(w) for t, w in zip(target, weights, strict=True)), mpf(0))
    return mpf(weights[target])


def _split(values: Any, shape: tuple[int, ...]) -> Exact:
    """mpf numbers as pairs of float64."""
    flat: list[Any] = []

    def walk(v: Any) -> None:
        if isinstance(v, list):
            for w in v:
                walk(w)
        else:
            flat.append(v)

    walk(values)
    high = np.array([float(v) for v in flat])
    low = np.array([float(v - h) if np.isfinite(h) else 0.0 for v, h in zip(flat, high.tolist(), strict=True)])
    return Exact(high.reshape(shape), low.reshape(shape))


@dataclass(frozen=True)
class Whole(Reference):
    """A definition in mpmath of a whole batch of masks: `OVERLAPS` by name, with the mean over samples and classes."""

    loss: str
    name: str

    def exact(self, problem: Problem, quantity: str) -> tuple[Exact, ...]:
        from .overlap_oracles import DIGITS as ENOUGH
        from .overlap_oracles import gradient, whole

        (x,) = problem.predictions
        shape = x.shape
        options = {"activation": None, **problem.options}
        with mpmath.workdps(ENOUGH):
            p, t = ({i: mpf(float(a[i])) for i in np.ndindex(*shape)} for a in (x, problem.targets))
            if quantity == "value":
                return (_split(whole(self.loss, p, t, shape, **options), ()),)
            return (_split(gradient(self.loss, p, t, shape, list(np.ndindex(*shape)), **options), shape),)


@dataclass(frozen=True)
class Float64(Reference):
    """A subject in float64: exact enough to judge narrower dtypes."""

    run: Callable[[Problem, str], tuple[Floats, ...]]
    name: str

    def exact(self, problem: Problem, quantity: str) -> tuple[Exact, ...]:
        return tuple(map(Exact.of, self.run(problem, quantity)))
