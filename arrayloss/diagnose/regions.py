"""Losses of regions by their sums: those of a form are added up once, and a search for constants costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any
RATIOS = ("dice_loss", "jaccard_loss", "tversky_loss", "focal_tversky_loss")


@dataclass(frozen=True)
class Sums:
    """True positives, predictions and targets of every overlap, batch by batch."""

    true: list[Array]
    predicted: list[Array]
    target: list[Array]

    def losses(self, loss: str, constants: Mapping[str, float], *, each: bool) -> Array:
        """The loss of every batch, or of every overlap; it is compared with ours by a test."""
        smooth, gamma = constants["smooth"], constants.get("gamma", 1.0)
        found = []
        for both, p, t in zip(self.true, self.predicted, self.target, strict=True):
            if loss == "dice_loss":
                above, below = 2 * both, p + t
            elif loss == "jaccard_loss":
                above, below = both, p + t - both
            else:
                above, below = both, both + constants["alpha"] * (p - both) + constants["beta"] * (t - both)
            one = (1 - (above + smooth) / (below + smooth)) ** gamma
            found.append(one.reshape(-1) if each else np.mean(one, keepdims=True).reshape(1))
        return np.concatenate(found)


def sums(predictions: Sequence[Array], targets: Sequence[Array], options: Mapping[str, Any]) -> Sums:
    """The sums of a form: its activation, class axis, classes, squares, and what is one overlap."""
    columns: tuple[list[Array], ...] = ([], [], [])
    for x, t in zip(predictions, targets, strict=True):
        axis = options.get("axis")
        p = _activated(x, options["activation"], axis)
        if "classes" in options:
            p, t = (np.take(v, options["classes"], axis=axis) for v in (p, t))
        axes = pooled(options["pool"], x.ndim, axis)
        power = 2 if options.get("squared") else 1
        for column, v in zip(columns, (p * t, p**power, t**power), strict=True):
            column.append(np.sum(v, axis=axes))
    return Sums(*columns)


def pooled(pool: str, ndim: int, axis: int | None) -> tuple[int, ...]:
    """The axes whose elements form one overlap: of the batch or of a sample, of one class or of all."""
    first = 0 if pool.startswith("batch") or ndim == 1 else 1
    return tuple(i for i in range(first, ndim) if i != axis or pool.endswith("all classes"))


def _activated(x: Array, activation: str | None, axis: int | None) -> Array:
    if activation is None:
        return x
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-x))
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)
