"""Random arguments for every loss: one case for every oracle row, kind of targets and set of options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayloss.consistency.oracles import ORACLES, Oracle
from arrayloss.core.loss import REGISTRY, Loss

CLASSES = 3


@dataclass(frozen=True)
class Case:
    """One way to call one loss."""

    name: str
    oracle: Oracle
    targets: str
    options: Mapping[str, Any]

    @property
    def loss(self) -> Loss[Any]:
        return REGISTRY[self.name]

    @property
    def several(self) -> bool:
        return len(self.oracle.predictions) > 1

    def draw(self, samples: int = 5, dtype: str = "float64", seed: int = 0) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """Predictions and targets, away from kinks and from the ends of their domains."""
        rng = np.random.default_rng(seed)
        shape = (samples, CLASSES)
        predictions = tuple(_prediction(kind, rng, shape).astype(dtype) for kind in self.oracle.predictions)
        targets = _target(self.targets, rng, shape)
        return predictions, targets.astype(dtype) if targets.dtype.kind == "f" else targets

    def __str__(self) -> str:
        options = "-".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.name}-{self.targets}" + (f"-{options}" if options else "")


def _prediction(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    x = rng.normal(size=shape) * 1.5
    if kind in ("real", "logits"):
        return x
    if kind == "positive":
        return np.exp(x / 3)
    if kind == "unit":
        return rng.uniform(0.05, 0.95, size=shape)
    rows = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
    return {"probs": rows, "log_probs": np.log(rows)}[kind]


def _target(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "labels":
        return rng.integers(0, shape[-1], size=shape[:-1])
    if kind == "binary":
        return rng.integers(0, 2, size=shape)
    if kind == "real":
        return rng.normal(size=shape) * 2
    return _prediction({"distribution": "probs"}.get(kind, kind), rng, shape)


CASES = [
    Case(name, oracle, kind, options)
    for name, rows in ORACLES.items()
    for oracle in rows
    for kind in oracle.targets
    for options in oracle.options
]

# One case a loss, form of predictions and kind of targets, its first options: where every set of options would cost too much.
FIRST = [c for c in CASES if c.options == c.oracle.options[0]]
