"""Our losses as explanations of what a port returns: their forms, and the search for their constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from inspect import Parameter
from itertools import permutations, product
from typing import Any

import numpy as np

from arrayloss.check.definitions import DEFINITIONS
from arrayloss.check.evaluate import FORMS
from arrayloss.engine.choice import use_engine
from arrayloss.frontend.loss import REGISTRY

from .layouts import Scene
from .observe import Fit, Observation, _tidy
from .regions import RATIOS, pooled

Array = Any
TAKEN = {  # the numbers that a search for a constant starts from
    "gamma": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0),
    "label_smoothing": (0.0, 0.02, 0.05, 0.1, 0.2, 0.3),
    "epsilon": (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0),
    "q": (0.3, 0.5, 0.7, 0.9),
    "margin": (0.0, 0.1, 0.25, 0.5, 1.0, 2.0),
    "smooth": (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0, 2.0),
    "alpha": (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9),
    "beta": (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9),
}
SCALES = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)  # of other constants
EXACT = 1e-9  # a residual that no other constant makes smaller
NEAR, NEAR_REGIONS = 0.3, 0.02  # residuals from which on a constant is searched for between two others
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Candidate:
    """A loss with the options that say what it takes."""

    loss: str
    scene: Scene
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The options of the loss itself."""
        return REGISTRY[self.loss]._own_names

    @property
    def constants(self) -> dict[str, float]:
        """The options that are numbers, with their defaults."""
        own = REGISTRY[self.loss]._defaults
        numbers = {n: float(own[n]) for n in REGISTRY[self.loss]._own_names if type(own[n]) is float}
        return numbers | ({n: 0.5 for n in ("alpha", "beta") if own.get(n) is Parameter.empty} if self.scene.is_whole else {})

    def elements(self, predictions: Sequence[Array], targets: Array, **constants: Any) -> Array:
        """The losses of the elements or rows."""
        if self.scene.is_whole:
            with np.errstate(all="ignore"), use_engine("numpy"):
                return self._whole(predictions, targets, constants)
        takes_axis = self.scene.is_rows and "axis" in REGISTRY[self.loss].option_names and not self.options.get("elementwise")
        axis = {"axis": -1} if takes_axis else {}
        arrays = predictions if targets is None else [*predictions, targets]
        with np.errstate(all="ignore"), use_engine("numpy"):  # nothing is compiled for arrays that are used once
            return REGISTRY[self.loss](*arrays, **{**axis, **self.options, **constants}, reduction="none")

    def _whole(self, predictions: Sequence[Array], targets: Sequence[Array], constants: Mapping[str, Any]) -> Array:
        """Losses of regions: one for each batch."""
        loss, options = REGISTRY[self.loss], {**self.options, **constants}
        pool = options.pop("pool", "batch")
        losses: list[Array] = []
        for x, t in zip(predictions[0], targets, strict=True):
            if pool != "batch" and x.ndim > 1:
                options["pool_axes"] = pooled(pool, x.ndim, options.get("axis"))
            losses.append(np.ravel(loss(x, t, **options)))
        return np.concatenate(losses)

    def losses(self, observation: Observation, constants: Mapping[str, Any]) -> Array:
        """The losses of what an observation is of: of regions one a batch, or one an overlap where the port returns several."""
        if self.loss in RATIOS and self._can(observation):
            return observation.sums(self.options).losses(self.loss, {**self.constants, **constants}, each=observation.lead > 0)
        each = {"reduction": "none"} if self.scene.is_whole and observation.lead else {}
        return self.elements(observation.predictions, observation.targets, **constants, **each)

    def _can(self, observation: Observation) -> bool:
        """Whether the arrays have the axes, and the classes, that the form takes."""
        axis = self.options.get("axis")
        return axis is None or (observation.layout.form == "masks")

    def seen(self, observation: Observation, constants: Mapping[str, Any], *, weighted: bool = True) -> Fit:
        try:
            e = self.losses(observation, constants)
        except (ValueError, TypeError, NotImplementedError):
            return Fit(np.inf, "mean", (1.0,))
        return observation.fit(e, weighted=weighted)


@cache
def candidates(loss: str) -> tuple[Candidate, ...]:
    """The forms of a loss of elements or rows: what goes in, and options that are no numbers."""
    found: dict[Any, Candidate] = {}
    if any(d.regions for d in DEFINITIONS.get(loss, ())):
        return _regions(loss)
    for definition in DEFINITIONS.get(loss, ()):
        if definition.whole:
            continue
        fixed = {n: v for n, v in definition.options[0].items() if n in FORMS}
        for options in definition.options:
            chosen = {n: v for n, v in options.items() if isinstance(v, bool | str) or n == "p"} | fixed
            for targets in definition.targets:
                one = Candidate(loss, Scene(definition.predictions, targets), chosen)
                found.setdefault((one.scene, tuple(sorted(chosen.items(), key=str))), one)
    if loss == "kl_divergence":  # of PyTorch, optax and Keras: logarithms, and distributions
        fixed = {"given": "log_probs", "targets_given": "probs"}
        mixed = [Candidate(loss, Scene(("log_probs",), "distribution"), fixed | more) for more in ({}, {"generalized": True})]
        logs = {"given": "log_probs", "targets_given": "log_probs", "elementwise": True}
        mixed += [Candidate(loss, Scene(("log_probs",), "log_probs"), logs), Candidate(loss, mixed[0].scene, fixed | {"elementwise": True})]
        return (*mixed, *found.values())
    of_numbers = [c for c in found.values() if c.scene == Scene(("real",), "real")]
    return (*found.values(), *[replace(c, scene=Scene(("unit",), "binary")) for c in of_numbers])


def _regions(loss: str) -> tuple[Candidate, ...]:
    """The forms of a loss of regions: what makes probabilities, where the classes are, what is one overlap, and which classes count."""
    own = REGISTRY[loss]._own_names
    forms = []
    for given, activation, axis in (
        ("masks", "sigmoid", None),
        ("masks", "softmax", 1),
        ("masks", "sigmoid", 1),
        ("mask_probs", None, None),
        ("mask_probs", None, 1),
    ):
        pools = ("batch", "samples", "batch, all classes", "samples, all classes")
        for pool, squared, background in product(
            pools if axis is not None else pools[:2], (False, True) if "squared" in own else (False,), (True, False)
        ):
            options: dict[str, Any] = {"activation": activation, "pool": pool}
            options |= {"squared": True} if squared else {}
            options |= {"axis": axis} if axis is not None else {}
            options |= {"classes": (1, 2)} if axis is not None and not background else {}
            if background or axis is not None:
                forms.append(Candidate(loss, Scene((given,), "binary"), options))
    return tuple(forms)


def search(
    candidate: Candidate, observation: Observation, declared: Mapping[str, float], hints: Sequence[float] = ()
) -> Iterator[tuple[dict[str, float], Fit]]:
    """Constants with which a candidate comes near, the simplest first: the declared ones, pairs of hints, one and then two others."""
    names = candidate.constants
    known = {n: declared[n] for n in names if n in declared}
    first = candidate.seen(observation, known)
    yield known, first
    if first.is_match or not np.isfinite(first.residual):
        return
    for pair in permutations(names, min(2, len(names))):
        for values in product(hints, repeat=len(pair)):
            tried = {**known, **dict(zip(pair, values, strict=True))}
            fit = candidate.seen(observation, tried)
            if fit.is_match:
                yield tried, fit
                return
    best = first
    chosen = dict(known)
    for _ in range(2 if len(names) > 1 else 1):
        found = [_along(candidate, observation, chosen, name, default) for name, default in names.items()]
        if not found:
            return
        options, fit = min(found, key=lambda pair: pair[1].residual)
        if fit.residual >= 0.999 * best.residual:
            return
        yield options, fit
        if fit.is_match:
            return
        chosen, best = options, fit


def _along(
    candidate: Candidate, observation: Observation, others: Mapping[str, float], name: str, default: float
) -> tuple[dict[str, float], Fit]:
    """The best value of one constant."""
    starts = sorted({default, *TAKEN.get(name, [default * s for s in SCALES] if default else SCALES)})

    def of(value: float) -> Fit:
        return candidate.seen(observation, {**others, name: value})

    fits = [of(v) for v in starts]
    at = min(range(len(starts)), key=lambda i: fits[i].residual)
    value, fit = starts[at], fits[at]
    if fit.residual > EXACT and fit.residual < (NEAR_REGIONS if candidate.scene.is_whole else NEAR):
        low, high = starts[max(0, at - 1)], starts[min(len(starts) - 1, at + 1)]
        for _ in range(28):  # golden section
            a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
            low, high = (low, b) if of(a).residual < of(b).residual else (a, high)
        middle = (low + high) / 2
        value = min(
            (_tidy(middle), float(f"{middle:.3g}"), float(f"{middle:.2g}"), middle), key=lambda v: (not of(v).is_match, of(v).residual)
        )
        if of(value).residual < 0.1 * fit.residual:
            fit = of(value)
        else:
            value = starts[at]
    return {**others, name: value}, fit
