"""A kernel's slope and curvature against differences of its own value.

A loss made with `arrayloss.define` has no independent definition, but its kernel runs on numbers of 120 digits, where a quotient over a
step of 1e-20 has 20 digits, a one-sided one too: at a kink a derivative has to lie between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mpmath
import numpy as np

from arrayloss.frontend.loss import Loss

from .points import Problem
from .precise import precise
from .reference import Reference
from .rows import Row
from .run import loss_options
from .ulp import Exact

Array = Any
DIGITS = 120
WHOLE_BATCH = "batch"  # kind of the targets of a batch whose elements depend on each other
MOST = 24  # entries of such a batch: every one costs five calls
METHODS = {"value": "__call__", "grad": "value_and_grad", "hess": "grad_and_hess"}
WORDS = {"grad": "slope", "hess": "curvature"}


@dataclass(frozen=True)
class Arithmetic:
    """Numbers that differences are taken in."""

    name: str
    array: Callable[[Any], Array]
    step: float  # relative
    epsilon: float
    tolerance: float  # the relative error that passes: constants of a kernel are float64


PRECISE = Arithmetic(f"{DIGITS} digits", precise, 2.0**-66, 1e-118, 1e-8)
FLOAT64 = Arithmetic("float64", np.asarray, 2.0**-13, 2.0**-52, 1e-6)  # for kernels that use what `precise` does not have


@dataclass(frozen=True)
class Trial:
    """A loss on a batch, in high precision if its kernel runs in it."""

    loss: Loss[Any]
    problem: Problem
    options: Mapping[str, Any]
    arithmetic: Arithmetic = PRECISE

    @classmethod
    def of(cls, loss: Loss[Any], problem: Problem, reduction: str) -> Trial:
        """The loss on a batch."""
        trial = cls(loss, problem, loss_options(problem, reduction))
        try:
            trial.compute("value")
        except Exception:  # whatever a kernel does that mpmath cannot follow
            return replace(trial, arithmetic=FLOAT64)
        return trial

    def compute(self, quantity: str) -> tuple[Array, ...]:
        """The value, or a derivative for every prediction."""
        arrays = [*self.problem.predictions, *(() if self.problem.targets is None else (self.problem.targets,))]
        options = {n: self.arithmetic.array(v) if isinstance(v, np.ndarray) else v for n, v in self.options.items()}
        with mpmath.workdps(DIGITS), np.errstate(all="ignore"):
            result = getattr(self.loss, METHODS[quantity])(*map(self.arithmetic.array, arrays), **options)
        result = result if quantity == "value" else result[1]
        return tuple(map(np.asarray, result if isinstance(result, tuple) else (result,)))

    def quotients(self, which: int, entries: Any, order: int) -> tuple[Array, Array, Array]:
        """The smaller and the larger one-sided difference quotient for entries of a prediction, and what rounding makes of them."""
        problem, a = self.problem, self.arithmetic
        x = a.array(problem.predictions[which])
        h = np.where(x == 0, a.step, a.step * abs(x))
        mask = np.zeros(x.shape)
        mask[entries] = 1

        def at(steps: int) -> Array:
            predictions = tuple([x + steps * mask * h if i == which else p for i, p in enumerate(problem.predictions)])
            return replace(self, problem=replace(problem, predictions=predictions)).compute("value")[0]

        with mpmath.workdps(DIGITS), np.errstate(all="ignore"):
            step, here, above, below = h[entries], at(0), at(1), at(-1)
            if order == 1:
                right, left = (above - here) / step, (here - below) / step
            else:
                right, left = (at(2) - 2 * above + here) / step**2, (at(-2) - 2 * below + here) / step**2
            size = abs(x) if not problem.whole and problem.axis is None else np.max(abs(x), axis=problem.axis)
            return np.minimum(left, right), np.maximum(left, right), 64 * a.epsilon * (1 + abs(here) + size) / step**order

    def message(self, word: str, which: int, entries: Any, at: tuple[int, ...], computed: Any, quotient: Any) -> str:
        """The entry that is wrong, with the arguments of its element, or of the whole batch, as Python literals."""
        problem, names = self.problem, self.loss.array_names
        arrays = [*problem.predictions, *(() if problem.targets is None else (problem.targets,))]
        values = {n: np.asarray(a)[at] for n, a in zip(names, arrays, strict=False)} | dict(problem.options)
        text = ", ".join([f"{n} = {v.tolist() if isinstance(v, np.ndarray | np.generic) else v!r}" for n, v in values.items()])
        entry = list(entries) if problem.whole else list(entries[1:]) if problem.axis is not None else ""
        name = f" for {names[which]}{entry}" if entry or len(problem.predictions) > 1 else ""
        numbers = f"the kernel says {float(computed)!r}, differences of its value say {float(quotient)!r}"
        return f"the {word}{name} is wrong at {text}: {numbers}"


def derivative_rows(loss: Loss[Any], problem: Problem, label: str) -> Iterator[Row]:
    """A row for the slope and one for the curvature: how many numbers agree, or the first one that differs."""
    trial = Trial.of(loss, problem, "sum" if problem.whole else "none")
    for order, (quantity, word) in enumerate(WORDS.items(), 1):
        row = Row(label, "kernel", "", trial.arithmetic.name, quantity, problem.targets_kind, against="differences of its value")
        try:
            derivatives = trial.compute(quantity)
        except NotImplementedError:
            row.status, row.message = "absent", f"no {word} is defined"
            derivatives = ()
        for which, k in enumerate(derivatives):
            x = problem.predictions[which]
            if k.shape != x.shape:
                row.status, row.message = "differs", f"the {word} has shape {k.shape} where {loss.array_names[which]} has {x.shape}"
                break
            for entries in _unrelated_entries(problem, x.shape):
                low, high, slack = trial.quotients(which, entries, order)
                slack = slack + trial.arithmetic.tolerance * np.maximum(abs(k[entries]), np.maximum(abs(low), abs(high)))
                is_known = np.asarray(abs(low) + abs(high) < float("inf"))
                is_wrong = is_known & ~np.asarray((k[entries] >= low - slack) & (k[entries] <= high + slack))
                if is_wrong.any() and not row.wrong:
                    at = tuple(np.argwhere(is_wrong)[0].tolist())
                    row.status = "differs"
                    row.message = trial.message(word, which, entries, at, np.asarray(k[entries])[at], np.asarray(low + high)[at] / 2)
                row.count += int(is_known.sum())
                row.wrong += int(is_wrong.sum())
        if row.status == "agrees" and not row.count:
            row.status, row.message = "differs", f"the {word} cannot be compared: nowhere are the differences of the value finite"
        yield row


def _unrelated_entries(problem: Problem, shape: tuple[int, ...]) -> list[Any]:
    """Indices of entries that may change together, since no number of the loss depends on two of them."""
    if problem.whole:
        return list(np.ndindex(shape))[:: -(-int(np.prod(shape)) // MOST)]
    return [...] if problem.axis is None else [(..., c) for c in range(shape[-1])]


def summary(rows: Sequence[Row]) -> str:
    """What agrees, in one line."""
    words = [word for quantity, word in WORDS.items() if any(r.quantity == quantity and r.status == "agrees" for r in rows)]
    text = f"{' and '.join(words)} {'agrees' if len(words) == 1 else 'agree'} with differences of the value at "
    text += f"{sum(r.count for r in rows)} numbers ({rows[0].dtype})"
    absent = [r for r in rows if r.status == "absent"]
    if absent:
        text += f"; {absent[0].message}" + (f" for {', '.join(r.targets for r in absent)} targets" if len(words) == 2 else "")
    return text


def own_reference(loss: Loss[Any], reduction: str) -> Reference:
    """The loss itself in high precision."""

    def exact(problem: Problem, quantity: str) -> tuple[Exact, ...]:
        with mpmath.workdps(DIGITS):
            return tuple(map(_as_exact, Trial.of(loss, problem, reduction).compute(quantity)))

    return Reference(f"{loss.name} itself", exact)


def _as_exact(array: Array) -> Exact:
    """Numbers as pairs of float64."""
    high = array.astype(np.float64)
    is_finite = np.isfinite(high)
    low = np.asarray(array - np.where(is_finite, high, 0.0)).astype(np.float64)
    return Exact(high, np.where(is_finite, low, 0.0), np.abs(high))
