"""Losses of overlaps over their whole domain: small samples that are confident and right, confident and wrong, tied and mixed.

Every sample is an overlap of its own for each class, N x C x L with `pool_axes=2`, so that a sweep has many values; its gradient is that of
their sum. The exact numbers are those of the definitions: probabilities to hundreds of digits, so that 1 - a / b loses none that matter,
derivatives for them by central differences whose step is smaller than anything that float64 holds, and the chain rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from .libraries import rounded
from .overlap_oracles import OVERLAPS
from .sweeps import Floats, Numbers, Sweep
from .ulp import Exact

DIGITS = 420  # of probabilities and gradients
STEP = mpf(10) ** -500
CLASSES, LENGTH = 3, 4
MARGINS = (0.0, 1e-3, 1.0, 4.0, 8.3, 17.0, 17.4, 30.0, 60.0, 80.0, 300.0, 700.0)


@dataclass(frozen=True, eq=False)
class OverlapSweep(Sweep):
    """One loss of overlaps with its options."""

    @property
    def given(self) -> str:
        return self.options["activation"] or "probs"

    @property
    def gamma(self) -> float:
        return float(self.options.get("gamma", 0.75))

    @cached_property
    def masks(self) -> Floats:
        """Targets as masks."""
        t = self.targets
        return (np.stack([t == c for c in range(CLASSES)], axis=1) if t.ndim == 2 else t).astype(np.float64)

    @cached_property
    def spread(self) -> dict[str, Floats]:
        """How far below the maximum of its row what counts lies, for a softmax: for values on the average of what an overlap misses."""
        x, t = self.predictions[0], self.masks
        if self.given != "softmax":
            return {"value": np.zeros(self.results["value"][0].terms.shape), "derivative": np.zeros(x.shape)}
        below = x.max(axis=1, keepdims=True) - x
        e = np.exp(-below)
        top = np.arange(CLASSES)[None, :, None] == x.argmax(axis=1)[:, None]
        beside = np.where(top, 0, e).sum(axis=1, keepdims=True)
        nearest = np.sort(below, axis=1)[:, 1:2]
        mean = np.where(beside > 1e-300, (e * below).sum(axis=1, keepdims=True) / np.maximum(beside, 1e-300), nearest)
        p = e / (1 + beside)
        q = np.where(top, beside / (1 + beside), 1 - p)
        of_p, of_q = np.where(top, q * mean, below), np.where(top, mean, p * below)  # a p or q near 1 is hardly moved
        axes: Any = (1, 2) if self.results["value"][0].terms.ndim == 1 else 2
        missed = (t * q + (1 - t) * p).sum(axis=axes)
        moved = (t * q * of_q + (1 - t) * p * of_p).sum(axis=axes)
        power = 2 if self.options.get("squared") else 1
        value = np.where(missed > 1e-300, moved / np.maximum(missed, 1e-300), below.max())
        return {"value": power * value, "derivative": power * np.maximum(below, mean)}

    @cached_property
    def results(self) -> dict[str, tuple[Numbers, ...]]:
        """The exact values, and gradients with the sizes of what is subtracted in them."""
        values: list[Any] = []
        slopes: list[Any] = []
        sizes: list[Any] = []
        for x, t in zip(self.predictions[0], self.masks, strict=True):
            with mpmath.workdps(DIGITS):
                p = self._probabilities([[mpf(float(v)) for v in row] for row in x])
            with mpmath.workdps(2 * DIGITS + 1000):
                losses, u = self._derivatives(p, [[mpf(float(v)) for v in row] for row in t])
            with mpmath.workdps(DIGITS):
                values += losses
                slopes += self._pulled(p, u, lambda a, b: a - b)
                # a soft target mixes two derivatives for the probability, of which the class has the larger somewhere
                most = [list(map(abs, row)) if self.hard else [max(map(abs, row))] * LENGTH for row in u]
                sizes += self._pulled(p, most, lambda a, b: a + b)
        shape = self.predictions[0].shape
        each = shape[:1] if self.loss == "generalized_dice_loss" else shape[:2]
        value, gradient = Numbers(_pairs(values, each), _floats(values, each)), Numbers(_pairs(slopes, shape), _floats(sizes, shape))
        return {"value": (value,), "gradient": (gradient,)}

    def _probabilities(self, x: Sequence[Sequence[Any]]) -> list[list[Any]]:
        if self.given == "probs":
            return [list(row) for row in x]
        if self.given == "sigmoid":
            return [[1 / (1 + mpmath.exp(-v)) for v in row] for row in x]
        columns = [[mpmath.exp(v) for v in column] for column in zip(*x, strict=True)]
        return [[column[c] / mpmath.fsum(column) for column in columns] for c in range(CLASSES)]

    def _derivatives(self, p: list[list[Any]], t: list[list[Any]]) -> tuple[list[Any], list[list[Any]]]:
        """The losses of one sample, and the derivatives of their sum for every probability."""
        options = {k: v for k, v in self.options.items() if k not in ("activation", "axis", "pool_axes")}
        definition = OVERLAPS[self.loss].value

        def loss(c: int) -> Any:
            if self.loss == "generalized_dice_loss":
                return definition(p, t, [mpf(1)] * CLASSES, **options)
            return definition(p[c], t[c], **options)

        losses = [loss(c) for c in range(1 if self.loss == "generalized_dice_loss" else CLASSES)]
        u: list[list[Any]] = []
        for c, row in enumerate(p):
            u.append([])
            for i, held in enumerate(row):
                row[i] = held + STEP
                up = loss(c)
                row[i] = held - STEP
                u[c].append((up - loss(c)) / (2 * STEP))
                row[i] = held
        return losses, u

    def _pulled(self, p: list[list[Any]], u: list[list[Any]], minus: Callable[[Any, Any], Any]) -> list[Any]:
        """Derivatives for the predictions, from those for the probabilities."""
        if self.given == "probs":
            return [v for row in u for v in row]
        if self.given == "sigmoid":
            return [a * (1 - a) * v for row, of in zip(p, u, strict=True) for a, v in zip(row, of, strict=True)]
        classes = range(CLASSES)
        return [p[c][i] * mpmath.fsum(p[k][i] * minus(u[c][i], u[k][i]) for k in classes if k != c) for c in classes for i in range(LENGTH)]


def _floats(many: Sequence[Any], shape: Any) -> Floats:
    return np.reshape(np.array([float(v) for v in many]), shape)


def _pairs(many: Sequence[Any], shape: Any) -> Exact:
    with mpmath.workdps(DIGITS):
        return Exact(_floats(many, shape), _floats([v - float(v) for v in many], shape))


# -- the points of a domain ------------------------------------------------------------------------------------------------


def overlap_sweeps(dtype: str, loss: str, dense: bool) -> Iterator[OverlapSweep]:
    """All sweeps of a loss: every set of options over softmax, the first also over the others and with soft targets."""
    for number, options in enumerate(OVERLAPS[loss].options):
        for activation in ("softmax", "sigmoid", None) if number < (len(OVERLAPS[loss].options) if dense else 1) else ("softmax",):
            for soft in (False, True) if number == 0 else (False,):
                rng = np.random.default_rng(number)
                x, t = _points(activation, soft, dtype, rng, absent=options.get("smooth") != 0)
                layout = {**options, "activation": activation, "axis": 1, "pool_axes": (2,)}
                yield OverlapSweep(loss, None, "masks", layout, dtype, (x,), t)  # type: ignore[arg-type]  # no oracle of elements


def _points(activation: str | None, soft: bool, dtype: str, rng: np.random.Generator, absent: bool) -> tuple[Floats, Any]:
    def drawn() -> Any:
        labels = rng.integers(0, CLASSES, LENGTH)
        if not absent:  # without `smooth` the loss of an absent class is 1, or 0 where its probabilities underflow
            labels[:CLASSES] = rng.permutation(CLASSES)
        return labels

    samples, targets = [], []
    for margin in MARGINS:
        for wrong in (0, 1, LENGTH) if margin else (0,):  # so many positions are confidently wrong
            labels = drawn()
            said = labels.copy()
            said[:wrong] = (said[:wrong] + 1) % CLASSES
            hot = np.arange(CLASSES)[:, None] == said
            x = 0.25 * rng.standard_normal((CLASSES, LENGTH)) + margin * (hot if activation == "softmax" else 2 * hot - 1)
            samples.append(x if margin else 0 * x)
            targets.append(labels)
    for scale in (1.0, 4.0, 12.0):
        samples.append(scale * rng.standard_normal((CLASSES, LENGTH)))
        targets.append(drawn())
    x, t = np.stack(samples), np.stack(targets)
    if activation is None:
        most = {"float32": 15.0, "float64": 34.0}.get(dtype, 4.5)  # neither p nor 1 - p is 0
        x = 1 / (1 + np.exp(-np.clip(x, -most, most)))
    x = rounded(x, dtype).astype(np.float64)
    keep = np.isfinite(x).all(axis=(1, 2))
    if soft:
        hot = np.arange(CLASSES)[:, None] == t[:, None]
        return x[keep], rounded(np.where(hot, 0.875, rng.uniform(0, 0.25, hot.shape)), dtype).astype(np.float64)[keep]
    return x[keep], t[keep]
