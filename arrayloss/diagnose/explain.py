"""The search: how a port is called, which loss it is, and with which defect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arrayloss.frontend.loss import REGISTRY

from .candidates import Candidate, candidates, search
from .defects import OF_PROBABILITIES, clamped, defects
from .layouts import Batch, Layout, Scene, layouts
from .observe import Fit, Observation
from .port import Port

Array = Any
SYNONYMS = {"label_smoothing": ("smoothing",), "delta": ("beta",), "beta": ("delta",), "margin": ("m",), "gamma": ("focusing",)}
MODIFICATIONS = ("label_smoothing", "z_loss", "floor")  # constants that are off by default: with them it is another loss
MOST = 10  # losses whose constants are searched for
NEAREST = 3  # layouts in which constants are searched for


@dataclass
class Explanation:
    """A loss, with constants, weights and a denominator, that gives what a port returns."""

    candidate: Candidate
    observation: Observation
    constants: dict[str, float]
    fit: Fit
    code: str = ""  # of a defect
    text: str = ""

    @property
    def is_match(self) -> bool:
        return self.fit.is_match

    @property
    def layout(self) -> Layout:
        return self.observation.layout

    def predicted(self, observation: Observation) -> Array:
        """What the port should return for other batches."""
        return observation.predicted(self.candidate.losses(observation, self.constants), self.fit)

    def candidate_truth(self, margin: float) -> float:
        """-log p of a decision that is wrong by this margin: of two classes, or of three equal ones but one."""
        return float(np.logaddexp(0.0, margin) if not self.layout.scene.is_rows else np.log(1 + 2 * np.exp(min(margin, 700.0))))


@dataclass
class Case:
    """One port, what was declared of it, and what it returned so far."""

    port: Port
    options: Mapping[str, Any] = field(default_factory=dict)
    targets_at: int | None = None
    domain: str | None = None
    targets: Sequence[str] | None = None
    say: Callable[[str], Any] = lambda line: None
    seen: dict[Layout, Observation | BaseException] = field(default_factory=dict)

    def observations(self, scene: Scene, targets_at: int | None = None) -> Iterator[Observation]:
        """The results in every layout of a scene that the port takes."""
        for layout in layouts(scene, self.port.arguments, signature=self.targets_at if targets_at is None else targets_at):
            if layout not in self.seen:
                self.say(f"{self.port.name}: {layout}")
                try:
                    self.seen[layout] = Observation.of(self.port, layout)
                except Exception as error:
                    self.seen[layout] = error
            observation = self.seen[layout]
            if isinstance(observation, Observation) and observation.is_plausible:
                yield observation

    def declared(self, loss: str) -> dict[str, float]:
        """The constants that the options, or the names of the port's own parameters and attributes, say."""
        known = {}
        for name in REGISTRY[loss]._own_names:
            for own in (name, *SYNONYMS.get(name, ())):
                if own in self.port.constants:
                    known[name] = float(self.port.constants[own])
                    break
            if isinstance(self.options.get(name), int | float):
                known[name] = float(self.options[name])
        return known

    @property
    def hints(self) -> tuple[float, ...]:
        """The numbers that the port names, whatever their names are."""
        return tuple(dict.fromkeys(v for v in self.port.constants.values() if abs(v) < 1e3))[:4]

    def is_of_elements(self) -> bool:
        """Whether the number of a batch is made of those of its halves: it is no loss of whole regions then."""
        for observation in (o for o in self.seen.values() if isinstance(o, Observation) and o.is_plausible):
            whole = observation.batches[0]
            if whole.layout.form in ("N", "N x C", "N x 1") and not whole.layout.scene.is_rows and observation.lead == 0:
                half = len(whole.targets) // 2
                shape = (whole.shape[0] // 2, *whole.shape[1:])
                parts = [slice(0, half), slice(half, 2 * half)]
                several = [Batch(whole.layout, shape, tuple(p[at] for p in whole.predictions), whole.targets[at]) for at in parts]
                halves = [float(self.port.value(b.arguments)) for b in several]
                return any(np.isclose(float(observation.results[0]), v, rtol=1e-6) for v in (np.mean(halves), np.sum(halves)))
        return any(isinstance(o, Observation) and o.lead > 1 for o in self.seen.values())

    def forms(self, loss: str) -> list[Candidate]:
        """The forms of a loss that the declared options, domain and targets leave; also the same loss of probabilities."""
        fixed = {n: v for n, v in self.options.items() if isinstance(v, bool | str) and n != "reduction"}
        found = [c for c in candidates(loss) if all(c.options.get(n, REGISTRY[loss]._defaults.get(n)) == v for n, v in fixed.items())]
        if loss in OF_PROBABILITIES and "given" not in fixed:
            found += [c for c in candidates(OF_PROBABILITIES[loss]) if c.scene.domains[0] in ("unit", "probs") and len(c.options) < 2]
        found = [c for c in found if self.domain in (None, ",".join(c.scene.domains))]
        return [c for c in found if self.targets is None or c.scene.targets in self.targets]

    def explain(self, loss: str) -> Explanation | None:
        """The best explanation of the port as this loss: a match, else the nearest; None where it takes nothing that the loss takes."""
        declared = self.declared(loss)
        tried: list[Explanation] = []
        for c in self.forms(loss):
            for o in self.observations(c.scene):
                found = self._tried([(c, o)], declared)
                if found and found[0].is_match and self.cost(found[0]) < 1 and not any(e.is_match for e in tried) and self._holds(found[0]):
                    return found[0]  # the loss as it is called by default: nothing else is tried
                tried += found
        if best := self._first(tried):
            return best
        near = _by_layout(sorted(tried, key=lambda e: e.fit.residual))
        if best := self._first(self._everywhere(tried, near, declared)):
            return best
        if best := self._first([d for e in tried for d in self._defective(e)]):
            return best
        if best := self._first([d for e in near for d in self._clamped(e)]):
            return best
        if best := self._first(self._everywhere(tried, near, {})):
            return best
        return min(tried, key=lambda e: e.fit.residual) if tried else None

    def plainly(self, losses: Iterable[str]) -> list[Explanation]:
        """The best explanations as each of some losses without defects: with constants, weights and a denominator."""
        known = {loss: self.declared(loss) for loss in losses}
        regions = [loss for loss in known if candidates(loss) and candidates(loss)[0].scene.is_whole]
        known = {loss: known[loss] for loss in sorted(known, key=lambda name: name in regions)}
        tried = {}
        for loss in known:
            if loss not in regions or not self.is_of_elements():
                forms = [(c, o) for c in candidates(loss) for o in self.observations(c.scene)]
                tried[loss] = self._tried(forms, known[loss])
        tried = {loss: some for loss, some in tried.items() if some}
        found = {loss: self._first(some) for loss, some in tried.items()}
        nearest = {loss: min(some, key=lambda e: e.fit.residual) for loss, some in tried.items()}
        if not any(e is not None and self.cost(e) < 1 for e in found.values()):  # none as it is called by default
            for loss in sorted(tried, key=lambda name: nearest[name].fit.residual)[:MOST]:
                near = _by_layout(sorted(tried[loss], key=lambda e: e.fit.residual), 2)
                found[loss] = found[loss] or self._first(self._everywhere(tried[loss], near, known[loss]))
        return [found[loss] or nearest[loss] for loss in tried]

    def _everywhere(self, tried: Sequence[Explanation], near: Sequence[Explanation], declared: Mapping[str, float]) -> list[Explanation]:
        """Constants that explain a near one, in every layout: the likeliest layout may be another one."""
        for e in near:
            for constants, fit in search(e.candidate, e.observation, declared, self.hints):
                if fit.is_match:
                    return [Explanation(t.candidate, t.observation, constants, t.candidate.seen(t.observation, constants)) for t in tried]
        return []

    def _tried(self, forms: Sequence[tuple[Candidate, Observation]], declared: Mapping[str, float]) -> list[Explanation]:
        """The forms that the arrays of a layout can be given to, with the constants that are declared."""
        known = [(c, o, self._known(c, declared)) for c, o in forms]
        return [e for c, o, k in known if np.isfinite((e := Explanation(c, o, k, c.seen(o, k))).fit.residual)]

    def _known(self, candidate: Candidate, declared: Mapping[str, float]) -> dict[str, float]:
        return {n: v for n, v in declared.items() if n in candidate.constants}

    def _first(self, explanations: Sequence[Explanation]) -> Explanation | None:
        """Of the matches in the likeliest layout the simplest one."""
        matches = [e for e in explanations if e.is_match and self._holds(e)]
        if not matches:
            return None
        likeliest = next(e.layout for e in matches)
        return min([e for e in matches if (e.layout.form, e.layout.targets) == (likeliest.form, likeliest.targets)], key=self.cost)

    def _holds(self, e: Explanation) -> bool:
        """Whether a match on narrow data, such as log-probabilities, holds on wider data, such as logits, where the port takes them."""
        scene, numbers = e.candidate.scene, Scene(("real",), "real")
        wider = {"log_probs": "logits", "mask_probs": "masks"}.get(scene.domains[0])
        if wider is not None:
            wide = Scene((wider, *scene.domains[1:]), scene.targets)
        elif scene == Scene(("unit",), "binary") and any(c.scene == numbers for c in candidates(e.candidate.loss)):
            wide = numbers  # the error of a probability, for a loss of any numbers
        else:
            return True
        key = (e.layout.form, e.layout.targets_at, e.layout.targets if wide != numbers else "numbers")
        others = [o for o in self.observations(wide) if (o.layout.form, o.layout.targets_at, o.layout.targets) == key]
        return all(e.candidate.seen(o, e.constants).is_match for o in others)

    def cost(self, explanation: Explanation) -> float:
        """How far an explanation is from the loss as it is called by default."""
        own, declared = explanation.candidate.constants, self.declared(explanation.candidate.loss)
        changed = sum(abs(v - declared.get(n, own[n])) > 1e-6 for n, v in explanation.constants.items())
        signs = {"binary": "-1 or 1", "signs": "0 or 1"}.get(explanation.layout.scene.targets)
        order = explanation.layout.targets_at == -1 or any(n[:1] == "y" for n in self.port.arguments)
        return (
            4.0 * bool(explanation.code)
            + 2 * changed
            + explanation.fit.cost
            + 0.5 * len(explanation.candidate.options)
            + 0.1 * (not order)
            + 0.3 * (explanation.layout.targets == signs)
        )

    def _defective(self, e: Explanation) -> Iterator[Explanation]:
        """The defects that are known, with the constants that are declared, then with none."""
        for code, text, elements in defects(e.candidate, e.observation):
            with np.errstate(all="ignore"):
                try:
                    fit = e.observation.fit(elements(**e.constants))
                except (ValueError, TypeError):
                    continue
            yield Explanation(e.candidate, e.observation, e.constants, fit, code, text)
        offset, fit = shifted(e)
        if e.layout.scene.is_whole and abs(offset - 1) < 1e-4 and _is(fit.factor, -1):
            yield Explanation(
                e.candidate, e.observation, e.constants, fit, "sign", "It returns the overlap itself, which grows, not 1 minus it."
            )
        else:
            factor = "" if _is(fit.factor, 1) else f" to {fit.factor:g} times the loss"
            yield Explanation(e.candidate, e.observation, e.constants, fit, "offset", f"A constant is added{factor}: {offset:g}.")

    def _clamped(self, e: Explanation) -> Iterator[Explanation]:
        """Clamps, and numbers that are added to probabilities."""
        for code, size, fit in clamped(e.candidate, e.observation, e.constants):
            what = (
                f"It clamps probabilities at {size:g}."
                if code == "clamp"
                else f"It adds {size:g} to probabilities inside of the logarithm."
            )
            yield Explanation(e.candidate, e.observation, e.constants, fit, code, what)


def _is(number: float | None, value: float) -> bool:
    return number is not None and abs(number - value) < 1e-4


def shifted(e: Explanation) -> tuple[float, Fit]:
    """The best constant that may be added to every result."""
    o = e.observation
    plain = o.predicted(e.candidate.losses(o, e.constants), Fit(0.0, "mean", (1.0,)))
    if not np.isfinite(plain).all():
        return 0.0, Fit(np.inf, "mean", (1.0,))
    k, c = np.linalg.lstsq(np.stack([plain, np.ones_like(plain)], axis=1), o.y, rcond=None)[0]
    residual = float(np.linalg.norm(o.y - k * plain - c) / (np.linalg.norm(o.y) or 1.0))
    return float(f"{c:.4g}"), Fit(residual if abs(c) > 1e-4 and abs(k) > 1e-3 else np.inf, "mean", (float(f"{k:.5g}"),))


def _by_layout(explanations: Sequence[Explanation], count: int = NEAREST) -> list[Explanation]:
    """The nearest ones, each layout once."""
    first: dict[Any, Explanation] = {}
    for e in explanations:
        options = tuple(e.candidate.options.items()) if e.layout.scene.is_whole else e.candidate.options.get("given")
        first.setdefault((e.layout.form, e.layout.targets, e.layout.targets_at, options), e)
    return list(first.values())[: count * 20 if explanations and explanations[0].layout.scene.is_whole else count]
