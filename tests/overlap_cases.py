"""Losses of overlaps with options worth testing together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import arrayloss
from arrayloss.consistency.overlap_oracles import OVERLAPS

SHAPE = (2, 3, 4)  # N x C x L
LAYOUTS: list[tuple[bool, dict[str, Any]]] = [
    (True, {"activation": "softmax", "axis": 1}),
    (False, {"activation": "softmax", "axis": 1, "pool_axes": (2,), "classes": (1, 2)}),
    (False, {"activation": "sigmoid", "axis": 1, "class_weights": (1.0, 2.0, 0.5)}),
    (True, {"activation": None, "axis": 1, "absent": "skip"}),
]


@dataclass(frozen=True)
class Case:
    """One loss with options; targets are labels or masks."""

    name: str
    options: Mapping[str, Any]
    labels: bool
    few: bool  # for the slower tests

    @property
    def loss(self) -> Any:
        return getattr(arrayloss, self.name)

    def draw(self, seed: int = 0, soft: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Predictions and targets in float64; targets as labels, masks, or soft masks."""
        rng = np.random.default_rng(seed)
        x = rng.uniform(0.05, 0.95, SHAPE) if self.options["activation"] is None else 2 * rng.normal(size=SHAPE)
        labels = rng.integers(0, 3, (SHAPE[0], *SHAPE[2:]))
        if self.labels:
            return x, labels
        return x, rng.uniform(0.1, 0.9, SHAPE) if soft else one_hot(labels)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in self.options.items())})"


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Masks along axis 1."""
    return np.stack([labels == c for c in range(SHAPE[1])], axis=1)


CASES = [
    Case(name, {**layout, **options}, labels, number == 0 and (i == 0 or name in ("dice_loss", "generalized_dice_loss")))
    for name, oracle in OVERLAPS.items()
    for number, options in enumerate(oracle.options)
    for i, (labels, layout) in enumerate(LAYOUTS)
    if i == 0 or number < 3
]
