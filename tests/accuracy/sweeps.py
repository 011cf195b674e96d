"""Every loss over its whole domain: points that reach the ends, the switches and the cancellations.

A sweep is drawn from what the definition states: the domain of every prediction, the kinds of targets, the options. Magnitudes run
logarithmically from 1e-30 to 1e4; points are dense near 0 and around every number where a formula, or an exponential, changes
its regime; rows of classes are tied, nearly tied, confident and wide; regions are confident and right, confident and wrong, and mixed. All
numbers are as the dtype holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from arrayloss.check.accuracy import Batch
from arrayloss.check.definitions import DEFINITIONS, Definition
from arrayloss.check.libraries import rounded
from arrayloss.check.points import FRAMES, LARGEST, LOGS, ROWS, Problem, batches, row_targets
from arrayloss.check.ulp import FORMATS

Floats = np.ndarray[Any, np.dtype[np.float64]]
Options = Mapping[str, Any]

# Where exp(-x) is half, a rounding of 1, the smallest normal or subnormal number or overflow, in float16, float32 and float64
SWITCHES = (0.6931472, 1.0, 2.81, 3.09, 4.01, 8.3, 9.7, 16.6, 17.0, 17.33, 20.0, 36.04, 36.74, 87.34, 88.72, 103.97, 708.4, 709.8, 745.1)
MANY_CLASSES = 10
CLASSES, LENGTH = 3, 4  # of a sample of regions
MARGINS = (0.0, 1e-3, 1.0, 4.0, 8.3, 17.0, 17.4, 30.0, 60.0, 80.0, 300.0, 700.0)
NAMES = {
    "given",
    "targets_given",
    "elementwise",
    "activation",
    "axis",
    "pool_axes",
    "time_axis",
    "batch_axis",
    "input_lengths",
    "target_lengths",
}  # options that say what the arguments are


def is_plain(options: Options) -> bool:
    """Whether there are no options but those that say what the arguments are."""
    return set(options) <= NAMES


def knot_of(options: Options) -> float:
    """The distance from the target at which a loss changes its formula."""
    return next((float(options[name]) for name in ("delta", "beta", "epsilon", "width") if name in options), 1.0)


@cache
def sweeps(dtype: str, loss: str, dense: bool = True) -> tuple[Batch, ...]:
    """All sweeps of a loss; with `dense=False` about a fifth of the points."""
    problems = [(d, p) for d in DEFINITIONS[loss] for p in _drawer(d)(d, dtype, dense)]
    return tuple([Batch(definition, problem, dtype) for definition, problem in problems])


def _drawer(definition: Definition) -> Any:
    return _of_frames if definition.predictions[0] in FRAMES else _of_regions if definition.whole else _of_elements


def _of_frames(definition: Definition, dtype: str, dense: bool) -> Iterator[Problem]:
    """Sequences of frames at the points of `check`, of logits also confident ones; other draws of random ones are dense."""
    for options in definition.options if dense else definition.options[:1]:
        for seed in range(4 if dense else 1):
            points = "random" if seed else "edges+grid+random"
            for problem in batches(definition.predictions, "labels", points, np.random.default_rng(seed), options):
                for scale in (1, 3) if definition.given == "logits" else (1,):
                    yield replace(problem, predictions=(scale * problem.predictions[0],)).rounded(dtype)


def _of_elements(definition: Definition, dtype: str, dense: bool) -> Iterator[Problem]:
    rows = definition.predictions[0] in ROWS
    for kind in definition.targets:
        for options in definition.options:
            for classes in _numbers_of_classes(kind, options, dense) if rows else (0,):
                rng = np.random.default_rng(len(kind))
                arguments = (dtype, dense, rng)
                draw = _vectors if definition.predictions[0] == "vectors" else _rows
                x, t = draw(definition, kind, classes, *arguments) if rows else _elements(definition, kind, options, *arguments)
                yield Problem(kind, x, t, -1 if rows else None, options)


def _numbers_of_classes(kind: str, options: Options, dense: bool) -> tuple[int, ...]:
    per_class = [len(v) for v in options.values() if isinstance(v, tuple)]
    if per_class:
        return (per_class[0],)
    return (2, 3, 10, 1000 if kind == "labels" else 100) if dense and is_plain(options) else (3,)


def _as_held(values: Any, dtype: str) -> Floats:
    """Numbers as a dtype holds them, without those that it cannot."""
    with np.errstate(all="ignore"):
        numbers: Floats = rounded(values, dtype).astype(np.float64)
    return numbers[np.isfinite(numbers)]


def _neighbours(values: Any, dtype: str) -> Floats:
    """Numbers of a dtype, and the next ones on both sides."""
    numbers = _as_held(values, dtype)
    step = np.ldexp(1.0, np.frexp(numbers)[1] - FORMATS[dtype].digits)
    return np.concatenate([numbers - step, numbers, numbers + step])


def reals(dtype: str, dense: bool, rng: np.random.Generator) -> Floats:
    """Logits and differences."""
    n = 36 if dense else 12
    size = np.concatenate([np.geomspace(1e-30, 1e4, n), np.geomspace(1e-3, 120, n), _neighbours(SWITCHES, dtype)])
    free = np.concatenate([3 * rng.standard_normal(n), rng.uniform(-110, 110, n), np.linspace(-6, 6, n + 1)])
    return np.unique(_as_held(np.concatenate([[0.0], size, -size, free]), dtype))


def units(dtype: str, dense: bool, rng: np.random.Generator) -> Floats:
    """Probabilities between 0 and 1."""
    n = 36 if dense else 12
    numbers = np.concatenate([np.geomspace(1e-30, 0.5, n), 1 - 2.0 ** -np.arange(1, 53), rng.uniform(size=n), [0.25, 0.5, 0.75]])
    numbers = np.unique(_as_held(numbers, dtype))
    return numbers[(numbers > 0) & (numbers < 1)]


def _elements(
    definition: Definition, kind: str, options: Options, dtype: str, dense: bool, rng: np.random.Generator
) -> tuple[tuple[Floats, ...], Any]:
    domain = definition.predictions[0]
    x = (units if domain == "unit" else reals)(dtype, dense, rng)
    if domain in ("exponents", "positive", "above_minus_one"):
        x = np.clip(x, -LARGEST, LARGEST) if domain == "exponents" else np.unique(np.abs(x[x != 0]))
    t: Any
    if kind in ("binary", "signs"):
        x, t = np.tile(x, 2), np.repeat([-1 if kind == "signs" else 0, 1], len(x))
        if kind == "signs":  # every kink
            knots = [options.get("margin", 1.0), 1 - options.get("smoothing", 1.0)]
            kinks = np.concatenate([_neighbours(knots, dtype), _neighbours(-np.array(knots), dtype)])
            x, t = np.concatenate([x, kinks, kinks]), np.concatenate([t, np.repeat([-1, 1], len(kinks))])
    elif kind == "counts":
        t = _as_held(rng.choice([0.0, 0.5, 1.0, 2.0, 3.0, 7.0, 8.0, 12.0, 1000.0, 0.3, 2.6, 1e-4, 1.0001], 2 * len(x)), dtype)
        size = np.tile(x, 2)
        near = _as_held(np.log(t + (t == 0)) if domain == "exponents" else t * (1 + rng.uniform(-1e-3, 1e-3, len(t))), dtype)
        if domain == "above_minus_one":
            low = _as_held(-np.concatenate([1 - 2.0 ** -np.arange(1, 20), np.geomspace(1e-30, 0.5, 20)]), dtype)
            x, t = np.concatenate([size, near, low]), np.concatenate([t, t, np.resize(t, len(low))])
        else:
            keep = (near > 0) | (domain == "exponents")
            x, t = np.concatenate([size, near[keep]]), np.concatenate([t, t[keep]])
    elif kind == "unit":
        t = np.concatenate([[0.0, 1.0], units(dtype, dense, rng), 0.5 + np.array([-0.125, 0.0, 0.125])])
        own = _as_held(1 / (1 + np.exp(-np.clip(x, -700, 700))) if definition.predictions[0] != "unit" else x, dtype)
        x, t = np.tile(x, 3), np.concatenate([rng.choice(t, (2, len(x))).ravel(), own])  # the last where the gradient has its zero
    else:
        t = np.zeros_like(x)
        away = _as_held(np.exp(rng.uniform(-9, 9, len(x))), dtype)
        near: Floats = rounded(away + x * away * 1e-3, dtype).astype(np.float64)
        knot = knot_of(options)
        kinks = _neighbours([knot, knot / 2, 2 * knot], dtype)
        x = np.concatenate([x, near, away, kinks, -kinks])
        t = np.concatenate([t, away, away, 0 * kinks, 0 * kinks])
    others = definition.predictions[1:]
    draws = {"positive": lambda: np.exp(rng.uniform(-6, 9, len(x))), "exponents": lambda: rng.uniform(-18, 12, len(x))}
    return (x, *[_as_held(draws[d](), dtype) if d in draws else rng.permutation(x) for d in others]), t


def _rows(definition: Definition, kind: str, classes: int, dtype: str, dense: bool, rng: np.random.Generator) -> tuple[Any, Any]:
    domain = definition.predictions[0]
    many = classes > MANY_CLASSES
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
    if kind in LOGS:  # equal, nearly equal and other rows
        away = np.resize([0.0, *np.geomspace(1e-30, 30.0, 11)], len(x))[:, None] * rng.standard_normal(x.shape)
        near: Floats = x + away * np.where(rng.random(x.shape) < 0.3, np.abs(x), 1)
        t: Floats = np.concatenate([near, rng.permutation(x)])
        t = t - np.logaddexp.reduce(t, axis=1, keepdims=True) if kind == "log_probs" else t
        return (np.concatenate([x, x]),), rounded(t, dtype).astype(np.float64)
    if kind in ("binary", "relevance", "lists"):
        return (x,), row_targets(kind, x.shape, rng)
    t = rounded(rng.dirichlet(np.full(classes, 0.7), len(x)), dtype).astype(np.float64)
    hot = np.eye(classes)[np.where(rng.random(len(x)) < 0.7, x.argmax(axis=1), rng.integers(0, classes, len(x)))]
    return (np.concatenate([x, x]),), np.concatenate([t, hot])


def _vectors(definition: Definition, kind: str, size: int, dtype: str, dense: bool, rng: np.random.Generator) -> tuple[Any, Any]:
    """Rows of every length and at every angle from each other; those of triplets of a length, since distances are not of an angle alone."""
    count = len(definition.predictions) + (kind == "vectors")
    lengths = np.geomspace(1e-2, 1e2, 5) if dtype == "float16" else np.geomspace(1e-18, 1e18, 13)
    angles = np.geomspace(1e-3, 4.0, 9 if dense else 4)
    first = rng.standard_normal((len(lengths) * len(angles), size))
    step, scale = np.tile(angles, len(lengths))[:, None], np.repeat(lengths, len(angles))[:, None]
    rows = [first, *[first * rng.choice([1, -1, 1], scale.shape) + step * rng.standard_normal(first.shape) for _ in range(count - 1)]]
    scales = [scale if count > 2 or i == 0 else rng.permutation(scale) for i in range(count)]
    *x, t = [rounded(a * s, dtype).astype(np.float64) for a, s in zip(rows, scales, strict=True)] + ([] if kind == "vectors" else [None])
    return tuple(x), rng.choice([-1, 1], len(first)) if kind == "signs" else t


def _of_regions(definition: Definition, dtype: str, dense: bool) -> Iterator[Problem]:
    """Samples of classes x entries, every one an overlap of its own: N x C x L with `pool_axes=2`, so that a sweep has many values.

    Every set of options over softmax, the first also over the others and with soft targets.
    """
    activation = definition.options[0]["activation"]
    every = max([d.options for d in DEFINITIONS[definition.loss]], key=len)  # those of softmax
    for number, options in enumerate(every if dense else definition.options):
        for soft in (False, True) if number == 0 else (False,):
            rng = np.random.default_rng(number)
            x, t = _regions(activation, soft, dtype, rng, absent=options.get("smooth") != 0)
            layout = {**options, "activation": activation, "axis": 1, "pool_axes": (2,)}
            yield Problem("unit" if soft else "labels", (x,), t, None, layout, whole=True, samples=True)


def _regions(activation: str | None, soft: bool, dtype: str, rng: np.random.Generator, absent: bool) -> tuple[Floats, Any]:
    def draw() -> Any:
        labels = rng.integers(0, CLASSES, LENGTH)
        if not absent:  # without `smooth` the loss of an absent class is 1, or 0 where its probabilities underflow
            labels[:CLASSES] = rng.permutation(CLASSES)
        return labels

    samples, targets = [], []
    for margin in MARGINS:
        for wrong in (0, 1, LENGTH) if margin else (0,):  # so many positions are confidently wrong
            labels = draw()
            predicted = labels.copy()
            predicted[:wrong] = (predicted[:wrong] + 1) % CLASSES
            hot = np.arange(CLASSES)[:, None] == predicted
            x = 0.25 * rng.standard_normal((CLASSES, LENGTH)) + margin * (hot if activation == "softmax" else 2 * hot - 1)
            samples.append(x if margin else 0 * x)
            targets.append(labels)
    for scale in (1.0, 4.0, 12.0):
        samples.append(scale * rng.standard_normal((CLASSES, LENGTH)))
        targets.append(draw())
    x, t = np.stack(samples), np.stack(targets)
    if activation is None:
        most = {"float32": 15.0, "float64": 34.0}.get(dtype, 4.5)  # neither p nor 1 - p is 0
        x = 1 / (1 + np.exp(-np.clip(x, -most, most)))
    x = rounded(x, dtype).astype(np.float64)
    keep = np.isfinite(x).all(axis=(1, 2))
    if soft:
        hot = np.arange(CLASSES)[:, None] == t[:, None]
        t = rounded(np.where(hot, 0.875, rng.uniform(0, 0.25, hot.shape)), dtype).astype(np.float64)
    return x[keep], t[keep]
