"""What a port returned for the batches of a layout, and how well a loss of elements explains it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from .layouts import Batch, Layout, batches
from .port import Floats, Port
from .regions import Sums, sums

Array = Any
TOLERANCE = 1e-5  # of a residual: what a port in float32 keeps of moderate numbers
MEAN, SUM, ROWS, ENTRIES, POSITIVES, WEIGHTS, ONE_LESS = "mean", "sum", "rows", "entries", "positives", "weights", "one less"
DENOMINATORS = {
    MEAN: "the number of elements",
    SUM: "nothing",
    ROWS: "N",
    ENTRIES: "N * C",
    POSITIVES: "the number of positives",
    WEIGHTS: "the sum of the weights",
    ONE_LESS: "N - 1",
}


@dataclass(frozen=True)
class Fit:
    """y = sum over classes of weight * (sum of losses) / denominator."""

    residual: float
    denominator: str
    weights: tuple[float, ...]  # one for each class, or one for all

    @property
    def is_match(self) -> bool:
        return self.residual < TOLERANCE

    @property
    def factor(self) -> float | None:
        """The one weight of all, or None."""
        first = self.weights[0]
        return first if all(abs(w - first) <= 1e-4 * abs(first) for w in self.weights) else None

    @property
    def cost(self) -> int:
        """How far it is from the mean of the losses themselves."""
        k = self.factor
        return (0 if self.denominator == MEAN else 1) + (2 if k is None else 0 if abs(k - 1) < 1e-4 else 1)


@dataclass
class Observation:
    """The results of all batches, and which elements go into which of them."""

    layout: Layout
    batches: list[Batch]
    results: list[Floats]
    known: dict[Any, Sums] = field(default_factory=dict)

    @classmethod
    def of(cls, port: Port, layout: Layout) -> Observation:
        """Ask the port; what it raises goes through."""
        several = batches(layout, 5 if layout.scene.is_whole else 12)
        results = [cls.of_one(port, b).results[0] for b in several]
        return cls(layout, several, results)

    @classmethod
    def of_one(cls, port: Port, batch: Batch, dtype: str = "float64", *, strided: str = "") -> Observation:
        """The result of one batch."""
        result = port.value(batch.arguments, dtype, strided=strided)
        is_number = result.size == 1 and int(np.prod(batch.shape)) > 1
        return cls(batch.layout, [batch], [np.squeeze(result) if _has_ones(batch) or is_number else result])

    def predicted(self, elements: Array, fit: Fit) -> Floats:
        """What a port that is explained by a fit returns."""
        e = np.asarray(elements, dtype=np.float64)
        per_row = self._per_row(e)
        groups, size = self.groups(per_row), len(self.y)
        classes: Array = np.repeat(self.classes, per_row)
        weights = np.asarray(fit.weights)[classes if len(fit.weights) > 1 else np.zeros_like(classes)]
        total = np.bincount(groups, weights=weights * e.reshape(-1), minlength=size)
        named = dict(self.denominators(groups)) | {WEIGHTS: np.bincount(groups, weights=weights, minlength=size)}
        return total / named.get(fit.denominator, named[MEAN])

    @property
    def lead(self) -> int:
        """How many axes are left in the result."""
        return self.results[0].ndim

    @property
    def is_plausible(self) -> bool:
        """Finite numbers, in the shape of elements, rows or a batch."""
        for batch, y in zip(self.batches, self.results, strict=True):
            if not np.isfinite(y).all() or not y.size:
                return False
            if y.shape != _without_ones(batch)[: y.ndim] and y.shape != (*batch.shape, *batch.predictions[0].shape[1:]):
                return self.lead == len(batch.shape) + 1 and self.layout.class_axis == 1 and y.size == batch.predictions[0].size
        return True

    @cached_property
    def predictions(self) -> list[Array]:
        """Those of all batches in one array each; of regions a list of the batches."""
        if self.layout.scene.is_whole:
            return [[b.predictions[0] for b in self.batches]]
        return [np.concatenate(many) for many in zip(*(b.predictions for b in self.batches), strict=True)]

    def sums(self, options: Mapping[str, Any]) -> Sums:
        """Those of regions, in one of their forms."""
        key = tuple(options.items())
        if key not in self.known:
            self.known[key] = sums(self.predictions[0], self.targets, options)
        return self.known[key]

    @cached_property
    def targets(self) -> Array:
        if self.layout.scene.is_whole:
            return [b.targets for b in self.batches]
        return None if self.layout.targets == "none" else np.concatenate([b.targets for b in self.batches])

    @cached_property
    def y(self) -> Floats:
        return np.concatenate([self._flat(b, y) for b, y in zip(self.batches, self.results, strict=True)])

    def _flat(self, batch: Batch, y: Floats) -> Floats:
        if y.ndim > len(batch.shape) and self.layout.class_axis == 1:
            y = np.moveaxis(y, 1, -1)
        return y.reshape(-1)

    def groups(self, per_row: int) -> Array:
        """For every element of all batches, the result that it goes into; `per_row` is 1, or C for entries of rows."""
        if self.layout.scene.is_whole:
            return np.arange(len(self.y))
        if any(b.predictions[0].shape[0] * per_row % max(1, y.size) for b, y in zip(self.batches, self.results, strict=True)):
            return np.zeros(0, dtype=np.int64)
        ids: list[Array] = []
        start = 0
        for batch, y in zip(self.batches, self.results, strict=True):
            ids.append(start + np.repeat(np.arange(y.size), batch.predictions[0].shape[0] * per_row // max(1, y.size)))
            start += y.size
        return np.concatenate(ids)

    @cached_property
    def classes(self) -> Array:
        """The class of every element or row, where targets are classes."""
        if self.layout.scene.is_whole:
            return np.zeros(len(self.y), dtype=np.int64)
        if self.layout.scene.targets in ("binary", "signs") and not self.layout.scene.is_rows:
            return (self.targets > 0).astype(np.int64)
        if self.layout.scene.targets == "labels":
            return self.targets
        return np.zeros(len(self.predictions[0]), dtype=np.int64)

    def denominators(self, groups: Array) -> Iterator[tuple[str, Floats]]:
        """The numbers that a port may divide by, for every result."""
        size = len(self.y)
        counts = np.bincount(groups, minlength=size).astype(np.float64)
        yield MEAN, counts
        if (counts == 1).all():
            return
        yield SUM, np.ones(size)
        if (counts > 1).all():
            yield ONE_LESS, counts - 1
        if self.lead == 0:
            first = np.array([float(b.shape[0]) for b in self.batches])
            if not np.array_equal(first, counts):
                yield ROWS, first
            if self.layout.scene.is_rows and len(groups) == len(self.predictions[0]):
                yield ENTRIES, counts * self.predictions[0].shape[-1]
            if self.layout.scene.targets in ("binary", "signs") and not self.layout.scene.is_rows:
                yield POSITIVES, np.maximum(1.0, np.bincount(groups, weights=self.classes, minlength=size))

    def _per_row(self, e: Floats) -> int:
        """How many losses an element or row of the batches has; 0 where they are not those of these results."""
        if self.layout.scene.is_whole:
            return int(e.size == len(self.y))
        per_row, rest = divmod(e.size, len(self.predictions[0]))
        return 0 if rest or e.shape[0] != len(self.predictions[0]) or len(self.groups(per_row)) != e.size else per_row

    def fit(self, elements: Array, *, weighted: bool = True) -> Fit:
        """The simplest way to get the results from the losses of the elements."""
        e = np.asarray(elements, dtype=np.float64)
        if not np.isfinite(e).all() or not e.ndim or not self._per_row(e):
            return Fit(np.inf, MEAN, (1.0,))
        per_row = self._per_row(e)
        groups, y, size = self.groups(per_row), self.y, len(self.y)
        classes: Array = np.repeat(self.classes, per_row)
        count = int(classes.max()) + 1 if weighted else 1
        sums = np.stack([np.bincount(groups, weights=e.reshape(-1) * (classes == c), minlength=size) for c in range(count)], axis=1)
        sums = sums if weighted else np.bincount(groups, weights=e.reshape(-1), minlength=size)[:, None]
        scale = float(np.linalg.norm(y))
        if not scale:  # nothing is no evidence
            return Fit(np.inf, MEAN, (1.0,))
        fits = []
        for name, d in self.denominators(groups):
            a = sums.sum(axis=1) / d
            k = float(a @ y / (a @ a)) if a.any() else 0.0
            fits.append(Fit(float(np.linalg.norm(y - k * a)) / scale, name, (_tidy(k),)))
        good = [f for f in fits if f.is_match]
        if good or not weighted or count == 1 or size <= count:
            return min(good or fits, key=lambda f: f.cost if good else f.residual)
        for name, d in self.denominators(groups):
            a = sums / d[:, None]
            w = np.linalg.lstsq(a, y, rcond=None)[0]
            fits.append(Fit(float(np.linalg.norm(y - a @ w)) / scale, name, tuple(map(_tidy, w))))
        if self.lead == 0:
            counts = np.stack([np.bincount(groups, weights=1.0 * (classes == c), minlength=size) for c in range(count)], axis=1)
            w = np.linalg.svd(sums - y[:, None] * counts)[2][-1]
            w = w / w[np.argmax(np.abs(w))]
            a = (sums @ w) / (counts @ w)
            fits.append(Fit(float(np.linalg.norm(y - a)) / scale, WEIGHTS, tuple(map(_tidy, w))))
        fits = [f if _is_one_sided(f.weights) else replace(f, residual=np.inf) for f in fits]
        good = [f for f in fits if f.is_match]
        return min(good or fits, key=lambda f: f.cost if good else f.residual)


def _is_one_sided(weights: tuple[float, ...]) -> bool:
    """Whether no class is left out, and none has another sign."""
    return min(weights) > 1e-6 * max(weights) > 0 or max(weights) < 1e-6 * min(weights) < 0


def _tidy(number: float) -> float:
    """A number of few digits, where it is one but for roundings."""
    for digits in range(1, 6):
        short = float(f"{number:.{digits}g}")
        if abs(number - short) <= 2e-6 * max(1.0, abs(number)):
            return short
    return float(f"{number:.6g}")


def _without_ones(batch: Batch) -> tuple[int, ...]:
    return tuple(n for n in batch.shape if n != 1) if _has_ones(batch) else batch.shape


def _has_ones(batch: Batch) -> bool:
    return not batch.layout.scene.is_rows and 1 in batch.shape[1:]
