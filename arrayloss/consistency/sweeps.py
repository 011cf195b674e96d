"""Every loss over its whole domain: points that reach the ends, the switches and the cancellations, and the exact results.

A sweep is made from what the oracle declares: the domain of every prediction, the kinds of targets, the options. Magnitudes run
logarithmically from 1e-30 to 1e4; points are dense near 0 and around every number where a formula, or an exponential, changes
its regime; rows of classes are tied, nearly tied, confident and wide. All numbers are as the dtype holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from . import oracles
from .libraries import rounded
from .oracles import ORACLES, Oracle
from .overlap_oracles import OVERLAPS
from .ulp import Exact

Floats = np.ndarray[Any, np.dtype[np.float64]]

# Where exp(-x) is half, a rounding of 1, the smallest normal or subnormal number or overflow, in float16, float32 and float64
SWITCHES = (0.6931472, 1.0, 2.81, 3.09, 4.01, 8.3, 9.7, 16.6, 17.0, 17.33, 20.0, 36.04, 36.74, 87.34, 88.72, 103.97, 708.4, 709.8, 745.1)
WIDE_CLASSES = 10  # of rows with more, some entries stand for all


@dataclass(frozen=True)
class Numbers:
    """Exact numbers, and the sum of the absolute terms that each is made of; NaN where none was computed."""

    exact: Exact
    terms: Floats


@dataclass(frozen=True, eq=False)
class Sweep:
    """One loss, one kind of targets, one set of options, one dtype: arguments and exact results."""

    loss: str
    oracle: Oracle
    kind: str
    options: Mapping[str, Any]
    dtype: str
    predictions: tuple[Floats, ...]
    targets: np.ndarray[Any, Any]

    @property
    def hard(self) -> bool:
        """Whether targets are labels, or 0 and 1."""
        return self.targets.dtype.kind in "iu" and not self.options.get("label_smoothing")

    @property
    def rows(self) -> bool:
        return self.oracle.rows

    @property
    def gamma(self) -> float:
        """The gamma of a focal loss."""
        return float(self.options.get("gamma", 2.0))

    @property
    def given(self) -> str:
        """What the predictions are."""
        domain = self.oracle.predictions[0]
        return {"real": "numbers" if self.kind == "real" else "logits", "unit": "probs"}.get(domain, domain)

    @cached_property
    def spread(self) -> dict[str, Floats]:
        """How far below the maximum of its row what counts lies, for values and derivatives.

        For losses of differences it is twice the difference, for other losses of elements 0.
        """
        x = self.predictions[0]
        if self.kind == "real":
            return {"value": np.zeros(x.shape), "derivative": 2 * np.abs(x - self.targets)}
        if self.oracle.predictions[0] != "logits":
            return {"value": np.zeros(x.shape[:1] if self.rows else x.shape), "derivative": np.zeros(x.shape)}
        below = x.max(axis=-1, keepdims=True) - x
        e = np.exp(-below)
        beside = e.sum(axis=-1) - 1
        mean = np.where(
            beside > 0, (e * below).sum(axis=-1) / np.maximum(beside, 1e-300), np.sort(below, axis=-1)[:, min(1, x.shape[1] - 1)]
        )
        return {"value": mean, "derivative": np.maximum(below, mean[:, None])}

    @cached_property
    def results(self) -> dict[str, tuple[Numbers, ...]]:
        """The exact value, gradients and Hessian diagonals: one array each prediction for derivatives."""
        with mpmath.workdps(oracles.DIGITS):
            return self._rows() if self.rows else self._elements()

    def _elements(self) -> dict[str, tuple[Numbers, ...]]:
        columns = [[mpf(float(v)) for v in p] for p in self.predictions]
        targets = [mpf(float(t)) for t in self.targets]
        jets = [
            [oracles.jet(self.oracle, [c[i] for c in columns], t, self.options, which) for i, t in enumerate(targets)]
            for which in range(len(columns))
        ]
        return {name: tuple(_numbers(j, k, (len(targets),)) for j in (jets if k else jets[:1])) for k, name in enumerate(QUANTITIES)}

    def _rows(self) -> dict[str, tuple[Numbers, ...]]:
        x = self.predictions[0]
        rng = np.random.default_rng(5)
        values: list[Any] = []
        entries: list[Any] = []
        for row, t in zip(x, self.targets, strict=True):
            exact = [mpf(float(v)) for v in row]
            target = int(t) if self.targets.ndim == 1 else [mpf(float(v)) for v in t]
            if len(row) <= WIDE_CLASSES:
                places = set(range(len(row)))
            else:
                places = {int(row.argmax()), int(np.argsort(row)[-2]), int(row.argmin()), *rng.integers(0, len(row), 3).tolist()}
                places.add(int(t) if self.targets.ndim == 1 else int(t.argmax()))
            jets = {c: oracles.jet(self.oracle, [exact], target, self.options, (0, c)) for c in places}
            values.append(next(iter(jets.values())))
            entries.extend(jets.get(c) for c in range(len(row)))
        made: dict[str, tuple[Numbers, ...]] = {"value": (_numbers(values, 0, (len(x),)),)}
        return made | {name: (_numbers(entries, k, x.shape),) for k, name in enumerate(QUANTITIES) if k}


QUANTITIES = ("value", "gradient", "curvature")


def _numbers(jets: Sequence[Any], order: int, shape: tuple[int, ...]) -> Numbers:
    nan = mpf("nan")
    exact = [nan if j is None else j.orders[order] for j in jets]
    high = [float(v) for v in exact]
    low = [float(v - h) if np.isfinite(h) else 0.0 for v, h in zip(exact, high, strict=True)]
    terms = [np.nan if j is None else float(j.terms[order]) for j in jets]
    return Numbers(Exact(np.reshape(high, shape), np.reshape(low, shape)), np.reshape(np.asarray(terms, dtype=float), shape))


# -- the points of a domain ------------------------------------------------------------------------------------------------


@cache
def sweeps(dtype: str, loss: str, dense: bool = True) -> tuple[Sweep, ...]:
    """All sweeps of a loss; with `dense=False` about a fifth of the points."""
    if loss in OVERLAPS:
        from .overlap_sweeps import overlap_sweeps

        return tuple(overlap_sweeps(dtype, loss, dense))
    return tuple(_sweeps(dtype, loss, dense))


def _sweeps(dtype: str, loss: str, dense: bool) -> Iterator[Sweep]:
    for oracle in ORACLES[loss]:
        for kind in oracle.targets:
            for options in oracle.options:
                for classes in _classes(oracle, kind, options, dense):
                    rng = np.random.default_rng(len(kind))
                    made = (
                        _row_points(oracle, kind, classes, dtype, dense, rng)
                        if oracle.rows
                        else _points(oracle, kind, options, dtype, dense, rng)
                    )
                    yield Sweep(loss, oracle, kind, options, dtype, *made)


def _classes(oracle: Oracle, kind: str, options: Mapping[str, Any], dense: bool) -> tuple[int | None, ...]:
    if not oracle.rows:
        return (None,)
    per_class = [len(v) for v in options.values() if isinstance(v, tuple)]
    if per_class:
        return (per_class[0],)
    return (2, 3, 10, 1000 if kind == "labels" else 100) if dense and set(options) <= {"given"} else (3,)


def _held(values: Any, dtype: str) -> Floats:
    """Numbers as a dtype holds them, without those that it cannot."""
    with np.errstate(all="ignore"):
        made: Floats = rounded(values, dtype).astype(np.float64)
    return made[np.isfinite(made)]


def _neighbours(values: Any, dtype: str) -> Floats:
    """Numbers of a dtype, and the next ones on both sides."""
    digits = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[dtype]
    held = _held(values, dtype)
    step = np.ldexp(1.0, np.frexp(held)[1] - 1 - digits)
    return np.concatenate([held - step, held, held + step])


def reals(dtype: str, dense: bool, rng: np.random.Generator) -> Floats:
    """Logits and differences."""
    n = 3 if dense else 1
    size = np.concatenate([np.geomspace(1e-30, 1e4, 12 * n), np.geomspace(1e-3, 120, 12 * n), _neighbours(SWITCHES, dtype)])
    free = np.concatenate([3 * rng.standard_normal(12 * n), rng.uniform(-110, 110, 12 * n), np.linspace(-6, 6, 12 * n + 1)])
    return np.unique(_held(np.concatenate([[0.0], size, -size, free]), dtype))


def units(dtype: str, dense: bool, rng: np.random.Generator) -> Floats:
    """Probabilities between 0 and 1."""
    n = 3 if dense else 1
    some = np.concatenate([np.geomspace(1e-30, 0.5, 12 * n), 1 - 2.0 ** -np.arange(1, 53), rng.uniform(size=12 * n), [0.25, 0.5, 0.75]])
    made = np.unique(_held(some, dtype))
    return made[(made > 0) & (made < 1)]


def _points(oracle: Oracle, kind: str, options: Mapping[str, Any], dtype: str, dense: bool, rng: np.random.Generator) -> tuple[Any, Any]:
    x = (units if oracle.predictions[0] == "unit" else reals)(dtype, dense, rng)
    t: Any
    if kind == "binary":
        x, t = np.tile(x, 2), np.repeat([0, 1], len(x))
    elif kind == "unit":
        t = units(dtype, dense, rng)
        t = np.concatenate([[0.0, 1.0], t, 0.5 + np.array([-0.125, 0.0, 0.125])])
        own = _held(1 / (1 + np.exp(-np.clip(x, -700, 700))) if oracle.predictions[0] == "real" else x, dtype)
        x, t = np.tile(x, 3), np.concatenate([rng.choice(t, (2, len(x))).ravel(), own])  # the last where the gradient has its zero
    else:
        t = np.zeros_like(x)
        away = _held(np.exp(rng.uniform(-9, 9, len(x))), dtype)
        near: Floats = rounded(away + x * away * 1e-3, dtype).astype(np.float64)
        knot = options.get("delta", 1.0)
        kinks = _neighbours([knot, knot / 2, 2 * knot], dtype)
        x = np.concatenate([x, near, away, kinks, -kinks])
        t = np.concatenate([t, away, away, 0 * kinks, 0 * kinks])
    others = [_held(np.exp(rng.uniform(-6, 9, len(x))), dtype) if d == "positive" else rng.permutation(x) for d in oracle.predictions[1:]]
    return (x, *others), t


def _row_points(oracle: Oracle, kind: str, classes: Any, dtype: str, dense: bool, rng: np.random.Generator) -> tuple[Any, Any]:
    domain = oracle.predictions[0]
    many = classes > WIDE_CLASSES
    scales: tuple[float, ...] = (0.1, 1.0, 4.0) if domain != "logits" else (1e-30, 1e-3, 1.0, 4.0, 12.0, 40.0, 300.0, 3000.0)
    scales = scales[-5::2] if many else scales
    repeats = 1 if many else 6 if dense else 2
    rows = [rng.standard_normal(classes) * s for s in scales for _ in range(repeats)]
    if domain == "logits":
        gaps = np.concatenate([SWITCHES, np.geomspace(1e-3, 1e4, 20 if dense else 5)]) if not many else [3.0, 17.0, 60.0]
        for gap in gaps:  # confident rows
            row = 0.3 * rng.standard_normal(classes)
            row[rng.integers(classes)] += gap
            rows.append(row)
        tied = rng.standard_normal(classes)
        tied[:2] = tied.max() + np.array([0.0, 0.0])
        rows += [np.zeros(classes), tied, np.concatenate([_neighbours([1.0], dtype)[:2], np.zeros(classes - 2)]), tied + 1000]
    x = np.stack(rows)
    if domain != "logits":
        x = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    x = rounded(np.exp(x) if domain == "probs" else x, dtype).astype(np.float64)
    x = x[np.isfinite(x).all(axis=1) & ((domain != "probs") | (x > 0).all(axis=1))]
    if kind == "labels":
        top = x.argmax(axis=1)
        other = (top + rng.integers(1, classes, len(x))) % classes
        return (np.concatenate([x, x]),), np.concatenate([top, other])
    if kind == "logits":  # equal, nearly equal and other rows
        away = np.resize([0.0, *np.geomspace(1e-30, 30.0, 11)], len(x))[:, None] * rng.standard_normal(x.shape)
        near: Floats = rounded(x + away * np.where(rng.random(x.shape) < 0.3, np.abs(x), 1), dtype).astype(np.float64)
        return (np.concatenate([x, x]),), np.concatenate([near, rng.permutation(x)])
    t: Floats = rounded(rng.dirichlet(np.full(classes, 0.7), len(x)), dtype).astype(np.float64)
    hot = np.eye(classes)[np.where(rng.random(len(x)) < 0.7, x.argmax(axis=1), rng.integers(0, classes, len(x)))]
    return (np.concatenate([x, x]),), np.concatenate([t, hot])
