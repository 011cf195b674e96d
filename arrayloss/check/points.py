"""The inputs that losses are compared on: synthetic points that reach every corner of a domain, or real data.

A domain is named as in the definitions: "real", "exponents" (reals whose exponential is finite), "positive", "above_minus_one" and "unit"
for losses of elements, "logits", "log_probs" and "probs" for losses of rows of classes, "masks" (logits) and "mask_probs" for losses of
whole regions, "frames" (logits) and "frame_log_probs" for losses of sequences; targets are "binary", "signs", "unit", "real", "counts",
"labels", "distribution", "logits" or "log_probs". Vectors are rows too; their targets are "vectors", "signs" (one for each row) or "none".
Rows may also have "lists" of labels, or a "relevance" of every entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from .libraries import rounded

Floats = np.ndarray[Any, np.dtype[np.float64]]
ROWS = ("logits", "log_probs", "probs", "vectors")
FRAMES = ("frames", "frame_log_probs")
WHOLE = ("masks", "mask_probs", *FRAMES)
DOMAINS = ("real", "exponents", "positive", "above_minus_one", "unit", *ROWS, *WHOLE)
LOGS = ("logits", "log_probs")
TARGETS = ("binary", "signs", "unit", "real", "counts", "labels", "distribution", *LOGS, "vectors", "none", "lists", "relevance")
LARGEST = 80.0  # of exponents
POINTS = ("edges", "grid", "random", "digits")


@dataclass(frozen=True)
class Problem:
    """One batch of inputs: every prediction, and the targets."""

    targets_kind: str
    predictions: tuple[Floats, ...]
    targets: Any  # an array, or None: there are none
    axis: int | None = None  # of the classes
    options: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False  # the elements are not independent: a definition gets all arrays at once
    samples: bool = False  # of a whole: those along the first axis are independent

    def rounded(self, dtype: str) -> Problem:
        """The same batch with every number as a dtype holds it."""
        predictions: Any = tuple(rounded(p, dtype).astype(np.float64) for p in self.predictions)
        targets = self.targets if self.labels or self.targets is None else rounded(self.targets, dtype).astype(np.float64)
        return replace(self, predictions=predictions, targets=targets)

    @property
    def labels(self) -> bool:
        """Whether the targets are integers."""
        return self.targets is not None and self.targets.dtype.kind in "iu"

    def take(self, index: Any) -> Problem:
        """Some elements or rows of the batch."""
        targets = None if self.targets is None else self.targets[index]
        options = {n: v[index] if isinstance(v, np.ndarray) else v for n, v in self.options.items()}
        return replace(self, predictions=tuple(p[index] for p in self.predictions), targets=targets, options=options)


def batches(
    domains: Sequence[str],
    targets: str,
    points: str,
    rng: np.random.Generator,
    options: Mapping[str, Any] | None = None,
    classes: int = 3,
) -> list[Problem]:
    """The batches of a domain: one, or one for each of the points where a loss is one of a whole. `points` joins names by +."""
    names = points.split("+")
    for kind, values, known in (("points", names, POINTS), ("domain", domains, DOMAINS), ("targets", [targets], TARGETS)):
        for name in values:
            if name not in known:
                raise ValueError(f"{kind} must be among {', '.join(known)}; got {name!r}")
    options = dict(options or {})
    if domains[0] in FRAMES:
        return [_frames(domains[0], name, rng, options, classes) for name in names]
    if domains[0] in WHOLE:
        return [_whole(domains[0], name, rng, options, classes) for name in names]
    draw = _vectors if domains[0] == "vectors" else _rows if domains[0] in ROWS else _elements
    parts = [_digits(domains, targets) if name == "digits" else draw(domains, targets, name, rng, classes) for name in names]
    if len({tuple(np.shape(a)[1:] for a in part) for part in parts}) > 1:
        raise ValueError(f"points must be digits alone, which have another shape than others; got {points!r}")
    joined: list[Any] = [None if many[0] is None else np.concatenate(many) for many in zip(*parts, strict=True)]
    *predictions, t = joined
    ignored = options.get("ignore_index")
    if ignored is not None and targets in ("labels", "binary", "signs"):
        t = t.astype(np.int64)
        t[::5] = ignored if isinstance(ignored, int) else ignored[0]
    return [Problem(targets, tuple(predictions), t, -1 if domains[0] in ROWS else None, options)]


# -- synthetic points ------------------------------------------------------------------------------------------------


def _reals(name: str, rng: np.random.Generator) -> Floats:
    if name == "edges":
        size = np.array([1e-30, 2.0**-24, 2.0**-12, 0.3, 0.7, 1.1, 3.1, 8.0, 16.5, 17.5, 36.0, 80.0, 700.0, 1e4])
        return np.concatenate([[0.0], size, -size])
    if name == "grid":
        return np.concatenate([np.linspace(-40.0, 40.0, 33) + 0.01, np.geomspace(1e-3, 90.0, 13), -np.geomspace(1e-3, 90.0, 13)])
    return 4.0 * rng.standard_normal(24)


def _units(name: str, rng: np.random.Generator) -> Floats:
    if name == "edges":
        small = np.array([1e-30, 1e-7, 1e-3])
        return np.concatenate([small, [0.25, 0.5, 0.75], 1 - np.array([2.0**-3, 2.0**-7, 2.0**-20])])
    if name == "grid":
        return np.linspace(0.0, 1.0, 27)[1:-1]
    return rng.uniform(size=16)


def _positives(shape: Any, rng: np.random.Generator) -> Floats:
    return np.exp(rng.uniform(-4.0, 4.0, shape))


def _elements(domains: Sequence[str], targets: str, name: str, rng: np.random.Generator, classes: int) -> list[np.ndarray[Any, Any]]:
    if domains[0] in ("positive", "above_minus_one"):
        x: Floats = _positives(40, rng) - (domains[0] != "positive")
    else:
        x = _units(name, rng) if domains[0] == "unit" else _reals(name, rng)
    if domains[0] == "exponents":
        x = x.clip(-LARGEST, LARGEST)
    if targets in ("binary", "signs"):
        t: Any = np.repeat(np.array([0 if targets == "binary" else -1, 1]), len(x))
        x = np.tile(x, 2)
    elif targets == "unit":
        t = rng.uniform(size=len(x))
    elif targets == "counts":
        t = np.where(rng.uniform(size=len(x)) < 0.75, rng.poisson(4.0, len(x)), _positives(len(x), rng))
    else:
        t = rng.standard_normal(len(x))
        x = x + t if name != "edges" else x
    others = [_positives(len(x), rng) if d == "positive" else 4.0 * rng.standard_normal(len(x)) for d in domains[1:]]
    return [x, *others, t]


def _rows(domains: Sequence[str], targets: str, name: str, rng: np.random.Generator, classes: int) -> list[np.ndarray[Any, Any]]:
    narrow = domains[0] != "logits"  # probabilities that float16 can hold
    if name == "edges":
        rows = np.zeros((1, classes))
        for m in (0.1, 1.0, 4.0) if narrow else (1e-3, 1.0, 8.0, 17.0, 30.0, 80.0, 1e3, 1e4):
            shapes = np.zeros((4, classes))
            shapes[0, 0], shapes[1, 0], shapes[2, :2] = m, -m, m
            shapes[3, 0], shapes[3, -1] = m, -m
            rows = np.concatenate([rows, shapes])
    elif name == "grid":
        rows = np.outer(np.linspace(-5.0, 5.0, 11) if narrow else np.linspace(-60.0, 60.0, 17), np.linspace(0.0, 1.0, classes))
    else:
        scale: Any = np.repeat([0.1, 1.0, 2.0] if narrow else [0.1, 1.0, 5.0, 20.0], 8)
        rows = scale[:, None] * rng.standard_normal((len(scale), classes))
    if targets == "labels":
        t: Any = np.arange(len(rows), dtype=np.int64) % classes
        if name == "edges":
            rows, t = np.repeat(rows, classes, axis=0), np.tile(np.arange(classes, dtype=np.int64), len(rows))
    elif targets in LOGS:  # rows that nearly agree, and rows that do not
        t = rows + 0.125 * rng.standard_normal(rows.shape)
        t[::3] = rng.permutation(rows)[::3]
        t = t - np.logaddexp.reduce(t, axis=1, keepdims=True) if targets == "log_probs" else t
    elif targets in ("binary", "relevance", "lists"):
        t = row_targets(targets, rows.shape, rng)
    else:
        t = rng.dirichlet(np.ones(classes), len(rows))
        t[::3] = np.eye(classes)[np.arange(len(t[::3])) % classes]
    if narrow:
        rows = rows - np.log(np.sum(np.exp(rows), axis=1, keepdims=True))
        rows = rows if domains[0] == "log_probs" else np.exp(rows)
    return [rows, t]


def row_targets(kind: str, shape: Any, rng: np.random.Generator) -> Any:
    """Yes/no answers, grades, or lists of labels that end with -1, sometimes with nothing in them or one label twice."""
    if kind != "lists":
        return rng.integers(0, 2, shape) if kind == "binary" else rng.integers(0, 4, shape).astype(np.float64)
    labels = rng.permuted(np.tile(np.arange(shape[-1]), (*shape[:-1], 1)), axis=-1)
    labels[::7, -1] = labels[::7, 0]
    return np.where(np.arange(shape[-1]) < rng.integers(0, shape[-1] + 1, (*shape[:-1], 1)), labels, -1)


def _vectors(domains: Sequence[str], targets: str, name: str, rng: np.random.Generator, size: int) -> list[Any]:
    """Rows that are equal, nearly equal, opposite, orthogonal, 0, short and long, and others."""
    count = len(domains) + (targets == "vectors")
    if name == "edges":
        base = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 4.0], [0.25, 0.25, -0.25]])[:, np.arange(size) % 3]
        away = np.zeros((3, size))
        away[:, 0], away[:, -1] = 1.0, 2.0
        pairs = [(base, base), (base, -base), (base, 0 * base), (0 * base, away), (base, 1e-3 * base), (base, 8.0 * away)]
        pairs += [(base, base + step * away) for step in (2.0**-8, 2.0**-5, 0.25)]
        first, second = (np.concatenate(several) for several in zip(*pairs, strict=True))
        rows = [first, second, *[np.roll(second, 3 * i + 4, axis=0) for i in range(count - 2)]]
    else:
        scale: Any = np.repeat([0.25, 1.0, 4.0], 8)[:, None]
        rows = [scale * rng.standard_normal((24, size)) for _ in range(count)]
        if name == "grid":
            rows[1:] = [rows[0] + np.geomspace(1e-3, 1.0, 24)[:, None] * r for r in rows[1:]]
    signs = np.where(np.arange(len(rows[0])) % 2 == 0, 1, -1)
    return rows if targets == "vectors" else [*rows, None if targets == "none" else signs]


def _whole(domain: str, name: str, rng: np.random.Generator, options: Mapping[str, Any], classes: int) -> Problem:
    """Masks of samples, with a class axis where the options name one, one-hot along it where classes exclude each other."""
    axis, activation = options.get("axis"), options.get("activation")
    if name == "digits":
        pixels, labels = digits()
        mean = np.stack([pixels[labels == c].mean(axis=0) for c in range(10)])[labels]
        x, t = (mean - 8.0).reshape(-1, 8, 8) / 2, (pixels.reshape(-1, 8, 8) > 8).astype(np.float64)
        if axis is not None:
            x, t = (np.stack([sign * a + (sign < 0) * rest for sign in (1, -1)], axis=axis) for a, rest in ((x, 0.0), (t, 1.0)))
    else:
        shape = [2, 3, 4]
        if axis is not None:
            shape.insert(axis % 4, classes)
        t = rng.integers(0, 2, shape).astype(np.float64)
        if axis is not None and activation == "softmax":
            owner = rng.integers(0, classes, [1 if i == axis % 4 else n for i, n in enumerate(shape)])
            t = (np.arange(classes).reshape([-1 if i == axis % 4 else 1 for i in range(4)]) == owner).astype(np.float64)
        x = 2.0 * rng.standard_normal(shape)
        if name == "edges":  # all right, and confident
            x = (2 * t - 1) * rng.uniform(4.0, 12.0, shape)
        elif name == "grid":  # one sample without a target
            t[0] = 0.0
    if domain == "mask_probs":
        x = 1 / (1 + np.exp(-x))
    return Problem(f"masks {name}", (x,), t, None, options, whole=True)


def _frames(domain: str, name: str, rng: np.random.Generator, options: dict[str, Any], classes: int) -> Problem:
    """Sequences of five frames, some shorter, and of at most two labels; of the digits every image is two frames of three."""
    if name == "digits":
        x = np.pad(np.repeat(classifier().reshape(-1, 3, 10) / 6, 2, axis=1), ((0, 0), (0, 0), (1, 0)))
        t: Any = digits()[1].reshape(-1, 3) + 1
        frames, labels = np.full(len(x), 6), np.full(len(x), 3)
    else:
        x, frames, labels = rng.standard_normal((6, 5, classes)), np.array([5, 5, 4, 3, 1, 5]), np.array([2, 1, 2, 0, 1, 2])
        t = rng.integers(1, classes, (6, 2))
        t[0] = 1  # twice the same label needs a blank between them
        x = {"random": 2 * x, "grid": np.linspace(-4, 4, x.size).reshape(x.shape), "edges": 3 * (x > 0) + x}[name]
    if domain == "frame_log_probs":
        x = x - np.log(np.sum(np.exp(x), axis=2, keepdims=True))
    layout = {"time_axis": 1, "batch_axis": 0, "input_lengths": frames, "target_lengths": labels}
    return Problem("labels", (x,), t, None, {**options, **layout}, whole=True, samples=True)


# -- real data -----------------------------------------------------------------------------------------------------------


@cache
def digits() -> tuple[Floats, np.ndarray[Any, Any]]:
    """1797 images of handwritten digits, 8 x 8 pixels from 0 to 16, and their labels.

    The test set of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
    doi:10.24432/C50P49, licence CC BY 4.0, as scikit-learn ships it.
    """
    with files("arrayloss.check").joinpath("digits.npz").open("rb") as f, np.load(f, allow_pickle=False) as data:
        return data["pixels"].astype(np.float64), data["labels"].astype(np.int64)


@cache
def classifier() -> Floats:
    """Logits of a linear classifier of the digits: least squares on one-vs-rest targets, stretched to confident logits."""
    pixels, labels = digits()
    x = np.concatenate([pixels / 16, np.ones((len(pixels), 1))], axis=1)
    weights = np.linalg.solve(x.T @ x + 1e-2 * np.eye(x.shape[1]), x.T @ (2.0 * np.eye(10)[labels] - 1))
    return 6.0 * (x @ weights)


def _digits(domains: Sequence[str], targets: str) -> list[Any]:
    pixels, labels = digits()
    if targets in ("real", "counts"):  # every pixel from the mean image of its digit, with the spread of that pixel
        mean = np.stack([pixels[labels == c].mean(axis=0) for c in range(10)])[labels]
        spread = np.stack([pixels[labels == c].var(axis=0) for c in range(10)])[labels]
        numbers = {"real": mean / 16, "exponents": np.log(spread / 256 + 0.01), "positive": spread / 256 + 0.01}
        counts = {"exponents": np.log(mean + 0.01), "positive": mean + 0.01, "above_minus_one": mean}
        predictions, t = (counts, pixels) if targets == "counts" else (numbers, pixels / 16)
        return [*(_of_digits(predictions, d, targets) for d in domains), t]
    logits, hot = classifier(), np.eye(10, dtype=np.int64)[labels]
    soft = 0.9 * hot + 0.01
    log_probs = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    predictions = dict.fromkeys(("logits", "real", "exponents", "vectors"), logits)
    predictions |= {"log_probs": log_probs, "probs": np.exp(log_probs), "unit": 1 / (1 + np.exp(-logits))}
    kinds: Any = {"labels": labels, "binary": hot, "relevance": 2.0 * hot, "logits": logits / 2, "log_probs": np.log(soft), "none": None}
    kinds |= dict.fromkeys(("unit", "distribution", "vectors"), soft)
    kinds["lists"] = np.where(np.arange(10) == 0, labels[:, None], -1)
    kinds["signs"] = np.where(labels < 5, 1, -1) if domains[0] == "vectors" else 2 * hot - 1
    return [*(np.roll(_of_digits(predictions, d, targets), i, axis=0) for i, d in enumerate(domains)), kinds[targets]]


def _of_digits(predictions: Mapping[str, Floats], domain: str, targets: str) -> Floats:
    if domain not in predictions:
        raise ValueError(f"domain must be among {', '.join(predictions)} for digits with {targets} targets; got {domain!r}")
    return predictions[domain]
