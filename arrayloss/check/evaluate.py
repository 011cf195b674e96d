"""`Definition`: one loss as a function of mpf numbers, and its exact values and derivatives for a batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from .jets import Jet, number
from .points import FRAMES, WHOLE, Problem
from .promises import Promise
from .ulp import Exact

Number = Any
QUANTITIES = ("value", "grad", "hess")
DIGITS = 60
VARIANTS = {"renormalize": " of any sum", "softcap": ", capped", "label_margins": ", changed"}
FORMS = ("given", "targets_given", "elementwise", "activation")  # options that say what arguments and elements are
WIDE = 10  # of rows with more classes some entries stand for all, if the caller agrees


@dataclass(frozen=True)
class Definition:
    """One loss with one kind of predictions.

    `value` gets the predictions and the target of one element as mpf, of a row as arrays of them (a label as an int), of a whole batch as
    arrays, then the options. Of overlaps it gets the option `reduction` too, and returns an array of losses for "none".
    """

    loss: str
    value: Callable[..., Number]
    predictions: tuple[str, ...]  # the domain of each
    targets: tuple[str, ...]  # the kinds that the loss takes
    options: tuple[Mapping[str, Any], ...] = ({},)  # sets of options worth testing; what the first one names is true of all
    hard: Promise | None = None  # for labels and targets that are 0 or 1; None: nothing is promised
    soft: Promise | None = None
    jets: bool = True  # `value` takes numbers that carry their derivatives; else they are difference quotients

    @property
    def whole(self) -> bool:
        """Whether an element is the whole batch."""
        return self.predictions[0] in WHOLE

    @property
    def regions(self) -> bool:
        """Whether it is a loss of overlaps."""
        return self.whole and self.predictions[0] not in FRAMES

    @property
    def given(self) -> str:
        """What the predictions are, in a word."""
        domain = self.predictions[0]
        if domain in FRAMES:
            return "logits" if domain == "frames" else "log_probs"
        if self.whole:
            return self.options[0]["activation"] or "probs"
        words = dict.fromkeys(("real", "exponents", "above_minus_one"), "logits" if "binary" in self.targets else "numbers") | {
            "unit": "probs"
        }
        given = str(self.options[0].get("given") or words.get(domain, domain))
        given += next((text for name, text in VARIANTS.items() if name in self.options[0]), "")
        return ", ".join(filter(None, (given, self.options[0].get("targets_given"), "elementwise" * ("elementwise" in self.options[0]))))

    def is_hard(self, problem: Problem) -> bool:
        """Whether targets are labels, or 0 and 1."""
        if problem.options.get("label_smoothing"):
            return False
        return problem.labels or (self.whole and bool(np.isin(problem.targets, (0, 1)).all()))

    def promise(self, problem: Problem) -> Promise | None:
        """The bounds that hold for the targets of a problem."""
        return self.hard if self.is_hard(problem) else self.soft

    def gamma(self, options: Mapping[str, Any]) -> float:
        """The gamma of a focal loss; of others 0."""
        parameter = inspect.signature(self.value).parameters.get("gamma")
        return 0.0 if parameter is None else float(options.get("gamma", parameter.default))

    def exact(
        self, problem: Problem, quantities: Sequence[str] = QUANTITIES, reduction: str = "none", *, some: bool = False
    ) -> dict[str, tuple[Exact, ...]]:
        """The exact numbers of each quantity: one array of values, one array of derivatives of their sum for every prediction.

        `some`: derivatives of wide rows at a few classes, and NaN at the others.
        """
        shape = problem.predictions[0].shape
        elements = shape[:1] if problem.samples else () if problem.whole else shape[: len(shape) - (problem.axis is not None)]
        every = [_Element(self, problem, index, reduction) for index in np.ndindex(elements)]
        with mpmath.workdps(DIGITS):
            scale = mpf(1)
            if reduction == "mean" and (problem.samples or not problem.whole):
                scale = 1 / (sum((e.weight for e in every), mpf(0)) or mpf(1))
            numbers: dict[str, tuple[Exact, ...]] = {}
            if "value" in quantities:
                values = [e.values() for e in every]
                if reduction != "none":
                    values = [[sum((v for many in values for v in many), Jet.of(mpf(0))) * scale]]
                own = every[0].losses if problem.whole else ()
                numbers["value"] = (_exact([v for many in values for v in many], 0, (*elements, *own) if reduction == "none" else ()),)
            derivatives = [e.jets(some) for e in every] if set(quantities) - {"value"} else []
            for order in (1, 2):
                if QUANTITIES[order] in quantities:
                    columns = [[j and j * scale for e in derivatives for j in e[i]] for i in range(len(problem.predictions))]
                    numbers[QUANTITIES[order]] = tuple([_exact(jets, order, shape) for jets in columns])
            return numbers


class _Element:
    """One element of a problem: a number, a row, a sample, or the whole batch."""

    def __init__(self, definition: Definition, problem: Problem, index: tuple[int, ...], reduction: str) -> None:
        self.definition, self.rows = definition, problem.axis is not None
        at: Any = (slice(index[0], index[0] + 1),) if problem.samples else index
        self.predictions = [_precise(p[at]) for p in problem.predictions]
        options = {k: v[at] if isinstance(v, np.ndarray) else v for k, v in problem.options.items()}
        self.options = {k: v for k, v in options.items() if k != "ignore_index"}
        if problem.whole:
            self.options["reduction"] = reduction
        ignored = problem.options.get("ignore_index")
        target = None if problem.targets is None else problem.targets[at]
        self.ignored = ignored is not None and not problem.whole and np.ndim(target) == 0 and target in np.ravel(ignored)
        as_label = problem.labels and (self.rows or problem.whole)
        self.target = [] if target is None else [target if as_label and np.ndim(target) else int(target) if as_label else _precise(target)]
        self.samples, self.kind = problem.samples, problem.targets_kind
        self.losses: tuple[int, ...] = ()  # of a whole: the shape of its losses, once they are known

    @property
    def weight(self) -> Number:
        """What the element counts in a mean."""
        weights = self.options.get("class_weights")
        if self.ignored or not self.rows or weights is None or self.kind == "binary":
            return mpf(0 if self.ignored else 1)
        (t,) = self.target
        return mpf(weights[t]) if isinstance(t, int) else sum((a * mpf(w) for a, w in zip(t, weights, strict=True)), mpf(0))

    def loss(self, predictions: Sequence[Any]) -> Number:
        """The loss, or the losses of a whole, of other predictions."""
        return self.definition.value(*predictions, *self.target, **self.options)

    def values(self) -> list[Jet]:
        """The loss as a jet in the first entry, whose terms are known; of a whole every loss as a constant."""
        if self.ignored:
            return [Jet.of(mpf(0))]
        losses: Any = self.loss(self.predictions)
        if isinstance(losses, np.ndarray):
            self.losses = losses.shape[1:] if self.samples else losses.shape
            return list(map(Jet.of, losses.flat))
        return [self.jet(0, (0,) * np.ndim(self.predictions[0]))] if self.definition.jets else [Jet.of(losses)]

    def jets(self, some: bool) -> list[list[Jet | None]]:
        """For every prediction the derivatives in every entry."""
        many = []
        for i, p in enumerate(self.predictions):
            places = list(np.ndindex(np.shape(p)))
            wanted = set(places)
            if some and self.rows and len(places) > WIDE:
                order = np.argsort(p.astype(float))
                labels = [t if isinstance(t, int) else np.argmax(t.astype(float)) for t in self.target]
                random = np.random.default_rng(5).integers(0, len(places), 3)
                wanted = {(int(c),) for c in (order[-1], order[-2], order[0], *labels, *random)}
            many.append([None if c not in wanted else Jet.of(mpf(0)) if self.ignored else self.jet(i, c) for c in places])
        return many

    def jet(self, i: int, place: tuple[int, ...]) -> Jet:
        """The loss with its derivatives in one entry of a prediction."""

        def moved(v: Number) -> Number:
            predictions = list(self.predictions)
            predictions[i] = v if not place else np.array(predictions[i], dtype=object)
            if place:
                predictions[i][place] = v
            losses = self.loss(predictions)
            return losses.sum() if isinstance(losses, np.ndarray) else losses

        at = self.predictions[i][place] if place else self.predictions[i]
        if self.definition.jets:
            return Jet.of(moved(Jet.variable(at)))
        apart = max(self.predictions[0].flat) - min(self.predictions[0].flat) if place else abs(self.predictions[0])
        with mpmath.workdps(DIGITS + int(min(apart, 800))):  # enough to see exp(-apart) beside 1 twice
            return Jet([mpmath.diff(lambda v: number(moved(v)), at, order) for order in range(3)])


def _precise(a: Any) -> Any:
    """A number as mpf, an array as an array of them."""
    return np.frompyfunc(lambda v: mpf(float(v)), 1, 1)(a)


def _exact(jets: Sequence[Jet | None], order: int, shape: tuple[int, ...]) -> Exact:
    """One order of jets as pairs of float64, NaN where there is none."""
    nan = mpf("nan")
    numbers = [nan if j is None else j.orders[order] for j in jets]
    high = [float(v) for v in numbers]
    low = [float(v - h) if np.isfinite(h) else 0.0 for v, h in zip(numbers, high, strict=True)]
    terms = [float(nan if j is None else j.terms[order]) for j in jets]
    return Exact(*[np.reshape(np.asarray(a, dtype=float), shape) for a in (high, low, terms)])


DEFINITIONS: dict[str, list[Definition]] = {}  # by the name of the loss


def define(
    loss: str, predictions: str, targets: str, *options: Mapping[str, Any], promise: Promise, soft: Promise | None = None
) -> Callable[[Callable[..., Number]], Callable[..., Number]]:
    """Enter a definition. `soft`: the promise for targets between 0 and 1, where it is another one."""

    def enter(value: Callable[..., Number]) -> Callable[..., Number]:
        entry = Definition(loss, value, tuple(predictions.split()), tuple(targets.split()), options or ({},), promise, soft or promise)
        DEFINITIONS.setdefault(loss, []).append(entry)
        return value

    return enter


def definition_of(loss: str, options: Mapping[str, Any]) -> Definition | None:
    """The definition of a loss called with these options, or None."""
    several = DEFINITIONS.get(loss, [])
    named = [d for d in several if all(options[n] == d.options[0].get(n) for n in FORMS if n in options)]
    return next(iter(named or ([] if "targets_given" in options else several)), None)
