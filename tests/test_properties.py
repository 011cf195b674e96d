"""What losses state of themselves in `loss.properties`, held against numbers: midpoints, norms of gradients, one-sided slopes, extremes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import pytest

from arrayloss.check.definitions import DEFINITIONS, Definition
from arrayloss.check.points import LOGS, ROWS, row_targets
from arrayloss.check.run import named_loss
from arrayloss.frontend.loss import Properties

from .accuracy.sweeps import knot_of
from .helpers import several

N, CLASSES = 3000, 3
WITH_LONGER_ROWS = ("triplet_margin_loss", "multilabel_margin_loss", "kl_divergence")  # are steeper, or lower: p = 1; pairs; -log(classes)
LOGARITHMS = ("cauchy_loss",)  # of an error of 1000 only 13
FORMS = [(d, o) for definitions in DEFINITIONS.values() for d in definitions for o in d.options]
NAMES = [f"{d.loss}-{d.given}-{'-'.join(f'{k}={v}' for k, v in o.items() if k not in ('given', 'activation', 'axis'))}" for d, o in FORMS]
every_form = pytest.mark.parametrize(("definition", "options"), FORMS, ids=NAMES)


@dataclass
class Elements:
    """Elements of a loss with targets of one kind, as a function from predictions to the loss of each."""

    definition: Definition
    options: dict[str, Any]
    kind: str
    rng: np.random.Generator

    def __post_init__(self) -> None:
        definition = self.definition
        self.loss = named_loss(definition.loss)
        rows, is_sequence = definition.predictions[0] in ROWS, definition.whole and not definition.regions
        classes = 1 if rows and self.kind == "binary" and "class_weights" not in self.options else CLASSES  # an average is steepest of one
        self.shape: tuple[int, ...] = (N, classes) if rows else (N,)
        if definition.whole:
            self.shape = (N, 3, CLASSES) if is_sequence else (N, CLASSES, 2)
        self.calls = {**self.options, "reduction": "none"} | ({"pool_axes": 2} if definition.regions else {"axis": -1} if rows else {})
        if is_sequence:
            self.calls |= {"time_axis": 1, "batch_axis": 0, "input_lengths": np.full(N, 3), "target_lengths": self.rng.integers(0, 3, N)}
        self.targets = self.rng.integers(1, CLASSES, (N, 2)) if is_sequence else self._targets()
        self.given = [] if self.targets is None else [self.targets]

    def _targets(self) -> Any:
        rng, shape = self.rng, self.shape
        if self.kind in ("none", "vectors", "signs"):
            return {"none": None, "vectors": rng.normal(size=shape), "signs": rng.choice([-1, 1], N)}[self.kind]
        if self.kind in ("lists", "relevance"):
            return row_targets(self.kind, shape, rng) * (50 if self.kind == "relevance" else 1)
        if self.kind == "labels":
            return rng.integers(0, CLASSES, N)
        if self.kind == "binary":
            t = rng.integers(0, 2, shape)
            t[:20] = 0
            return t
        if self.kind == "counts":
            return rng.poisson(5.0, shape).astype(float)
        if self.kind == "distribution":
            return np.concatenate([rng.dirichlet(np.ones(CLASSES), N // 2), np.eye(CLASSES)[rng.integers(0, CLASSES, N - N // 2)]])
        if self.kind in LOGS:
            t = rng.choice([1.0, 100.0], (N, 1)) * rng.normal(size=shape)
            return t if self.kind == "logits" else t - np.logaddexp.reduce(t, axis=1, keepdims=True)
        t = rng.uniform(size=shape) if self.kind == "unit" else rng.normal(size=shape)
        t[:20] *= 1e-3 if self.kind == "real" else 1
        return t

    def draw(self, *, wide: bool) -> list[Any]:
        """Predictions from the whole of their domains, or from where nothing is steep."""
        draws = dict.fromkeys(("real", "logits", "masks", "frames"), self._reals)
        draws |= dict.fromkeys(("unit", "mask_probs"), self._units)
        draws |= {"vectors": self._vectors, "positive": self._positives, "probs": self._probs, "frame_log_probs": self._frames}
        draws |= {
            "exponents": lambda wide: self._reals(wide).clip(-80, 80),
            "above_minus_one": lambda wide: self._positives(wide) - 1,
            "log_probs": lambda wide: np.log(self._probs(wide)),
        }
        return [draws[domain](wide) for domain in self.definition.predictions]

    def _reals(self, wide: bool) -> Any:
        scale = self.rng.choice([0.3, 3.0, 30.0, 1000.0], (N, *(1 for _ in self.shape[1:]))) if wide else 1.0
        x = scale * self.rng.normal(size=self.shape)
        x[:20] *= 1e-3
        return x

    def _vectors(self, wide: bool) -> Any:
        return (10.0 ** self.rng.uniform(-6, 3, (N, 1)) if wide else 1.0) * self.rng.normal(size=self.shape)

    def _positives(self, wide: bool) -> Any:
        return np.exp(self.rng.uniform(-9, 9, self.shape) if wide else self.rng.uniform(-1, 1, self.shape))

    def _units(self, wide: bool) -> Any:
        if not wide:
            return self.rng.uniform(0.2, 0.8, self.shape)
        p = self.rng.beta(0.3, 0.3, self.shape).clip(1e-12, 1 - 1e-12)
        return np.where(self.rng.random(self.shape) < 0.1, 10.0 ** self.rng.uniform(-100, 0, self.shape), p)

    def _probs(self, wide: bool) -> Any:
        p = self.rng.dirichlet(np.full(CLASSES, 0.3 if wide else 5.0), N)
        return np.where(self.rng.random(self.shape) < 0.1, 10.0 ** self.rng.uniform(-100, 0, self.shape), p) if wide else p

    def _frames(self, wide: bool) -> Any:
        x = self._reals(wide)
        return x - np.logaddexp.reduce(x, axis=-1, keepdims=True) - 1e-9  # no more than 1 in sum, whatever is rounded

    def special(self) -> list[Any]:
        """Where a derivative may jump or be infinite: at the target, at a knot, ties, the ends of probabilities, empty regions."""
        x, *others = self.draw(wide=False)
        t = np.eye(CLASSES)[self.targets] if self.kind == "labels" and not self.definition.whole else self.targets
        domain = self.definition.predictions[0]
        if domain == "real" and self.kind == "real":
            x[::2] = t[::2] + self.rng.choice([-1, 0, 1], N)[::2] * knot_of(self.options)
        elif domain == "real" and self.kind == "signs":  # where a hinge begins, and where it becomes a line
            knots = [0.0, self.options.get("margin", 1.0), 1 - self.options.get("smoothing", 1.0)]
            x[::2] = self.rng.choice([-1, 1], N // 2) * self.rng.choice(knots, N // 2)
            others = [np.where(np.arange(N) % 2 == 0, 0.0, p) for p in others]
        elif domain in ("real", "logits", "masks", "frames"):
            x[::2] = 0.0
            if domain == "masks" and self.kind == "unit":  # the first of several classes as likely as in the target
                x[::2, 0] = np.log((x.shape[1] - 1) * t[::2, 0] / (1 - t[::2, 0]))
            if self.kind == "lists":
                t = (t[:, None] == np.arange(CLASSES)[:, None]).any(axis=-1)
            if domain == "logits" and self.kind not in (*LOGS, "relevance"):
                x[1::4] = self.options.get("margin", 1.0) * t[1::4]  # where a hinge begins
        elif domain in ("unit", "mask_probs"):
            x[::2] = np.where(t == t.round(), t, t.clip(0.1, 0.9))[::2]  # perfect, and at the end of the domain
            x[1::4] = self.options.get("clip", 0.5)
        elif domain == "vectors":  # equal ones, and 0
            x[::2] = 0.0
            others = [np.where(np.arange(N)[:, None] % 2 == 0, x, o) if i == 0 else o for i, o in enumerate(others)]
            if len(others) > 1:  # as far as the margin
                others[1][::4] = self.options.get("margin", 1.0) * np.eye(CLASSES)[0]
        elif domain == "probs":
            x[::2], clip = t[::2].clip(0.1), self.options.get("clip", 0.5)
            x[1::4] = (clip, (1 - clip) / 2, (1 - clip) / 2)
        return [x, *others]

    def values(self, predictions: list[Any]) -> Any:
        """The loss of every element; of several overlaps of a sample their mean."""
        with np.errstate(all="ignore"):
            return np.asarray(self.loss(*predictions, *self.given, **self.calls)).reshape(N, -1).mean(axis=1)

    def gradients(self, predictions: list[Any]) -> list[Any]:
        """The gradient of every element, of all predictions side by side."""
        with np.errstate(all="ignore"):
            value, gradients = self.loss.value_and_grad(*predictions, *self.given, **self.calls)
        return np.concatenate([g.reshape(N, -1) for g in several(gradients)], axis=1) / (value.size / N)


def violations(definition: Definition, options: Any, properties: Properties) -> Iterator[str]:
    """What is not true of a loss with these options. Of bounds for values any that holds is true; nothing else may be weaker than it is."""
    kinds = (*definition.targets, "unit") if "soft_labels" in options else definition.targets
    samples = [Elements(definition, dict(options), kind, np.random.default_rng(7)) for kind in kinds]
    values, norms, gaps = [], [], []
    for elements in samples:
        a, b = elements.draw(wide=True), elements.draw(wide=True)
        b = [
            np.where(elements.rng.random(N).reshape(N, *(1 for _ in p.shape[1:])) < 0.5, p + 0.1 * (q - p), q)
            for p, q in zip(a, b, strict=True)
        ]
        f, g, middle = elements.values(a), elements.values(b), elements.values([(p + q) / 2 for p, q in zip(a, b, strict=True)])
        values.append(f)
        gaps.append((middle - (f + g) / 2) / (1 + np.abs(f) + np.abs(g)))
        norms.append(np.linalg.norm(elements.gradients(a), axis=1))
    low, high, steepest, gap = np.min(values), np.max(values), np.max(norms), np.max(gaps)
    if properties.convex != (gap < 1e-12):
        yield f"convex: a midpoint is above the mean of its ends by {gap:.3g}"
    if properties.lipschitz is not None and not 0.75 * properties.lipschitz < steepest < properties.lipschitz * (1 + 1e-12):
        yield f"lipschitz: the largest norm of a gradient is {steepest:.17g}"
    if properties.lipschitz is None and not definition.whole and steepest < 100 and definition.loss not in WITH_LONGER_ROWS:
        yield f"lipschitz: no gradient is larger than {steepest:.17g}"
    if low < properties.lower or (properties.lower == -inf and low > -1 and definition.loss not in WITH_LONGER_ROWS):
        yield f"lower: the least value is {low:.17g}"
    is_large = 10 if definition.loss in LOGARITHMS else 50
    if high > properties.upper * (1 + 1e-15) or (properties.upper == inf and high < is_large and not options.get("log")):  # of more is more
        yield f"upper: the largest value is {high:.17g}"
    for name, order in (("differentiable", 1), ("twice_differentiable", 2)):
        jump = max(_jump(elements, order) for elements in samples)
        if getattr(properties, name) != (jump < 0.05):
            yield f"{name}: slopes on two sides, or over two steps, differ by {jump:.3g}"


def _jump(elements: Elements, order: int) -> float:
    """How far slopes of the loss (1) or of its slope (2) on both sides of special points, and over two steps, are apart."""
    x = elements.special()
    v = [elements.rng.normal(size=p.shape) for p in x]
    flat = np.concatenate([d.reshape(N, -1) for d in v], axis=1)

    def along(h: float) -> Any:
        moved = [p + h * d for p, d in zip(x, v, strict=True)]
        return elements.values(moved) if order == 1 else (elements.gradients(moved) * flat).sum(axis=1)

    here = along(0.0)
    slopes = np.stack([(along(h) - here) / h for h in (1e-6, -1e-6, 1e-8, -1e-8)])
    known = np.isfinite(slopes)  # a probability beyond 1 has no loss
    apart = np.where(known, slopes, -inf).max(axis=0) - np.where(known, slopes, inf).min(axis=0)
    return float(np.max(np.where(known.any(axis=0), apart, 0.0) / (1 + np.abs(np.where(known, slopes, 0.0)).min(axis=0))))


@every_form
def test_properties_are_true(definition, options):
    properties = named_loss(definition.loss).bind(**options).properties
    assert not list(violations(definition, options, properties))


WRONG = {"convex": False, "lipschitz": 0.9, "differentiable": False, "twice_differentiable": True, "lower": 0.25, "upper": 40.0}


@pytest.mark.parametrize(("name", "value"), [*WRONG.items(), ("lipschitz", 1.5), ("lipschitz", None)])
def test_a_wrong_statement_is_found(name, value):
    (definition,) = DEFINITIONS["huber_loss"]
    properties = named_loss("huber_loss").properties
    assert getattr(properties, name) != value
    (found,) = violations(definition, {}, replace(properties, **{name: value}))
    assert found.startswith(f"{name}: ")
