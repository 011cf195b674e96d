"""How a function may take its arrays, and the batches that it is asked about.

A scene is what a loss of ours takes: numbers or rows of classes, with targets of one kind. A layout says how the arrays of a scene are
handed to a function: their shapes, the form of the targets, and the order of the arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = Any
CLASSES = 3
ROWS = ("logits", "log_probs", "probs", "vectors")
FORMS = {  # two shapes of batches in turn, the classes of rows left out: a library may compile anew for each shape
    "N": ((12,), (8,)),
    "N x C": ((6, 2), (5, 3)),
    "N x 1": ((12, 1), (8, 1)),
    "N x C x H x W": ((2, 1, 3, 4), (3, 1, 2, 5)),
    "rows": ((8,), (5,)),
    "N x C x L": ((2, 4), (3, 5)),
    "N x L x C": ((2, 4), (3, 5)),
    "images": ((2, 4, 5), (3, 2, 5)),
    "images, classes last": ((2, 4, 5), (3, 2, 5)),
    "mask": ((2, 1, 4, 5), (3, 1, 3, 4)),
    "masks": ((2, 3, 4, 5), (4, 3, 3, 4)),
    "flat mask": ((2, 4, 5), (3, 3, 4)),
    "mask of N": ((12,), (9,)),
}
WORDS = {
    "N": "N",
    "N x C": "N x C, every entry an element",
    "N x 1": "N x 1",
    "N x C x H x W": "N x 1 x H x W",
    "rows": "N x C",
    "N x C x L": "N x C x L",
    "N x L x C": "N x L x C",
    "images": "N x C x H x W",
    "images, classes last": "N x H x W x C",
    "mask": "N x 1 x H x W",
    "masks": "N x C x H x W",
    "flat mask": "N x H x W",
    "mask of N": "N",
}
TARGET_WORDS = {
    "labels": "integer labels",
    "one-hot": "one-hot targets",
    "soft": "targets that are distributions",
    "0 or 1": "targets 0 or 1",
    "integers 0 or 1": "integer targets 0 or 1",
    "-1 or 1": "targets -1 or 1",
    "between 0 and 1": "targets from 0 to 1",
    "numbers": "",
    "none": "",
    "lists": "lists of labels that end with -1",
    "masks": "masks of 0 and 1",
    "integer masks": "integer masks",
}
WHOLE = ("masks", "mask_probs")


@dataclass(frozen=True)
class Scene:
    """The domains of the predictions and the kind of targets, in the words of the definitions."""

    domains: tuple[str, ...]
    targets: str

    @property
    def is_rows(self) -> bool:
        return self.domains[0] in ROWS

    @property
    def is_whole(self) -> bool:
        """Whether a loss is one of whole regions."""
        return self.domains[0] in WHOLE


@dataclass(frozen=True)
class Layout:
    """How a function takes the arrays of a scene."""

    scene: Scene
    form: str
    targets: str  # their form
    targets_at: int = -1

    @property
    def class_axis(self) -> int | None:
        if self.scene.is_whole:
            return 1 if self.form == "masks" else None
        if not self.scene.is_rows:
            return None
        return -1 if self.form in ("rows", "N x L x C", "images, classes last") else 1

    def __str__(self) -> str:
        return ", ".join(filter(None, (WORDS[self.form], TARGET_WORDS[self.targets])))

    def order(self, predictions: Sequence[Any], targets: Any) -> list[Any]:
        """Predictions and targets in the order of the arguments."""
        if self.targets == "none":
            return list(predictions)
        at = self.targets_at % (len(predictions) + 1)
        return [*predictions[:at], targets, *predictions[at:]]

    @property
    def prediction_at(self) -> int:
        """Where the first prediction stands."""
        return self.order([1] + [0] * (len(self.scene.domains) - 1), 0).index(1)


@dataclass(frozen=True)
class Batch:
    """One batch: for ours elements (R,) or rows (R, C), for a port the same numbers in its layout."""

    layout: Layout
    shape: tuple[int, ...]  # without classes
    predictions: tuple[Array, ...]
    targets: Array

    @cached_property
    def arguments(self) -> list[Array]:
        """What the port is called with."""
        return self.layout.order([self._shaped(p) for p in self.predictions], self._target())

    def _shaped(self, p: Array) -> Array:
        if not self.layout.scene.is_rows or p.ndim == 1:
            return p.reshape(self.shape)
        rows = p.reshape(*self.shape, p.shape[-1])
        return rows if self.layout.class_axis == -1 else np.moveaxis(rows, -1, 1)

    def _target(self) -> Array:
        t, form = self.targets, self.layout.targets
        if self.layout.scene.is_whole:
            return np.argmax(t, axis=1) if form == "labels" else t.astype(np.int64) if form == "integer masks" else t
        if form == "none":
            return None
        if form == "one-hot":
            return self._shaped(np.eye(self.predictions[0].shape[-1])[t])
        if form == "lists":
            return t
        if form in ("labels", "integers 0 or 1"):
            return t.reshape(self.shape).astype(np.int64)
        if form == "-1 or 1" and self.layout.scene.targets == "binary":
            t = 2.0 * t - 1
        if form == "0 or 1" and self.layout.scene.targets == "signs":
            t = (t + 1.0) / 2
        return self._shaped(np.asarray(t, dtype=np.float64)) if t.ndim > 1 else np.asarray(t, dtype=np.float64).reshape(self.shape)

    def with_predictions(self, first: Array) -> Batch:
        return Batch(self.layout, self.shape, (first, *self.predictions[1:]), self.targets)


def batches(layout: Layout, count: int = 12, seed: int = 0) -> list[Batch]:
    """Batches of several sizes, of moderate numbers."""
    rng = np.random.default_rng(seed)
    shapes = FORMS[layout.form]
    return [batch(layout, shapes[i % len(shapes)], rng) for i in range(count)]


def batch(layout: Layout, shape: tuple[int, ...], rng: np.random.Generator, classes: int = CLASSES) -> Batch:
    """One batch of moderate numbers."""
    size, scene = int(np.prod(shape)), layout.scene
    if scene.is_whole:
        return _regions(layout, shape, rng)
    rows = (size, classes) if scene.is_rows else (size,)
    t = _targets(scene.targets, rows, rng)
    predictions = [_predictions(d, rows, rng) for d in scene.domains]
    return Batch(layout, shape, tuple(predictions), t)


def _regions(layout: Layout, shape: tuple[int, ...], rng: np.random.Generator) -> Batch:
    """Masks of one or of several classes that exclude each other, and predictions that have something to do with them."""
    t = (rng.uniform(size=shape) < rng.uniform(0.3, 0.7)).astype(np.float64)
    if layout.form == "masks":
        labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
        t = np.moveaxis(np.eye(shape[1])[labels], -1, 1)
    x = 1.5 * rng.standard_normal(shape) + 0.5 * t
    if layout.scene.domains[0] == "mask_probs":
        x = np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True) if layout.form == "masks" else 1 / (1 + np.exp(-x))
    return Batch(layout, shape, (x,), t)


def _predictions(domain: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if domain == "unit":
        return rng.uniform(0.04, 0.96, shape)
    if domain in ("positive", "above_minus_one"):
        return np.exp(0.8 * rng.standard_normal(shape))
    x = rng.standard_normal(shape) * {"real": 1.5, "logits": 1.5}.get(domain, 1.0)
    if domain in ("log_probs", "probs"):
        x = x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))
    return np.exp(x) if domain == "probs" else x


def _targets(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if kind in ("binary", "signs"):
        t = (rng.uniform(size=shape if kind == "binary" else shape[:1]) < rng.uniform(0.25, 0.75)).astype(np.float64)
        t.flat[:2] = 0.0, 1.0
        return t if kind == "binary" else 2 * t - 1
    if kind == "unit":
        return rng.uniform(0.02, 0.98, shape)
    if kind == "counts":
        return rng.poisson(3.0, shape) + 0.0
    if kind == "labels":
        return np.concatenate([rng.permutation(shape[1])[: shape[0]], rng.integers(0, shape[1], max(0, shape[0] - shape[1]))])
    if kind in ("distribution", "probs"):
        return rng.dirichlet(np.ones(shape[1]), shape[0])
    if kind == "log_probs":
        return np.log(rng.dirichlet(np.ones(shape[1]), shape[0]))
    if kind == "lists":
        return np.where(
            np.arange(shape[1]) < rng.integers(0, shape[1] + 1, (shape[0], 1)),
            rng.permuted(np.tile(np.arange(shape[1]), (shape[0], 1)), axis=1),
            -1,
        )
    if kind == "relevance":
        return rng.integers(0, 4, shape) + 0.0
    return np.array(0.0) if kind == "none" else rng.standard_normal(shape)


def layouts(scene: Scene, names: Sequence[str] = (), *, signature: int | None = None) -> Iterator[Layout]:
    """Every way in which a function may take the arrays of a scene; the likeliest first."""
    if scene.is_whole:
        for form in ("mask", "masks", "flat mask", "mask of N"):
            for targets in ("masks", "integer masks", *(["labels"] if form == "masks" else [])):
                for at in [signature] if signature is not None else positions(names, 1):
                    yield Layout(scene, form, targets, at)
        return
    kinds = {
        "labels": ("labels", "one-hot"),
        "distribution": ("soft",),
        "binary": ("0 or 1", "integers 0 or 1", "-1 or 1"),
        "signs": ("-1 or 1", "0 or 1"),
        "unit": ("between 0 and 1",),
        "none": ("none",),
        "lists": ("lists",),
    }.get(scene.targets, ("numbers",))
    forms: tuple[str, ...] = ("N x C", "N", "N x 1", "N x C x H x W")
    if scene.is_rows:
        forms = ("rows", "images", "images, classes last", "N x C x L", "N x L x C")
    if scene.domains[0] == "vectors" or (scene.targets in ("binary", "relevance", "signs", "lists") and scene.is_rows):
        forms = ("rows",)
    for form in forms:
        for targets in kinds:
            for at in [signature] if signature is not None else positions(names, len(scene.domains)) if targets != "none" else (-1,):
                yield Layout(scene, form, targets, at)


TARGET_NAMES = (
    "target",
    "targets",
    "label",
    "labels",
    "y_true",
    "true",
    "t",
    "y",
    "gt",
    "gts",
    "truth",
    "mask",
    "masks",
    "ytrue",
    "target_tensor",
)


def positions(names: Sequence[str], predictions: int) -> tuple[int, ...]:
    """Where targets may stand: where their name says so first, then last, then first."""
    named = [i for i, n in enumerate(names[: predictions + 1]) if n.lower() in TARGET_NAMES]
    return tuple(dict.fromkeys([*[i if i < predictions else -1 for i in named], -1, 0, *([1] if predictions > 1 else [])]))
