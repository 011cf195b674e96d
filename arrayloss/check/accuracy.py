"""How accurate our losses are on this machine: the errors of values and derivatives beside what the losses promise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from .definitions import DEFINITIONS, QUANTITIES, Bound, Definition
from .libraries import LIBRARIES, Library
from .points import Problem, batches
from .run import Subject, named_loss
from .ulp import FORMATS, Exact, Floats, in_ulps, spacing

NOTHING = Bound(0, 0)
HALF = 0.51  # ulps of a 16-bit result, which is rounded once
HALVES = ("float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class Batch:
    """A problem for one loss, its numbers as a dtype holds them."""

    definition: Definition
    problem: Problem
    dtype: str

    @property
    def form(self) -> tuple[str, str, str]:
        """The row of the page of promises that it belongs to: loss, what is given, targets."""
        return self.definition.loss, self.definition.given, "hard" if self.definition.is_hard(self.problem) else "soft"

    @property
    def gamma(self) -> float:
        """The gamma of a focal loss."""
        return self.definition.gamma(self.problem.options)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What is promised."""
        return tuple([q for q in QUANTITIES if self.bound(q) is not NOTHING])

    def bound(self, quantity: str) -> Bound:
        """The bound of a quantity."""
        promise = self.definition.promise(self.problem)
        return (promise and promise[QUANTITIES.index(quantity)]) or NOTHING

    @cached_property
    def exact(self) -> Mapping[str, tuple[Exact, ...]]:
        """The exact numbers of every quantity that is promised; wide rows at some of their classes."""
        return self.definition.exact(self.problem, self.quantities, some=True)

    @cached_property
    def spread(self) -> tuple[Floats, Floats]:
        """How far below the maximum of its row what counts lies, for values and for derivatives.

        For losses of differences it is twice the difference, for other losses of elements 0.
        """
        x, t = self.problem.predictions[0], self.problem.targets
        if self.definition.given == "softmax":
            return self._spread_of_overlaps(x)
        if self.definition.predictions[0] == "logits":
            below, mean = _below(x, -1)[:2]
            return mean[..., 0], np.maximum(below, mean)
        return np.zeros(()), 2 * np.abs(x - t) if self.problem.targets_kind == "real" else np.zeros(())

    def _spread_of_overlaps(self, x: Floats) -> tuple[Floats, Floats]:
        """For values the average over what an overlap misses: a p or 1 - p near 1 is hardly moved."""
        options, t = self.problem.options, self.problem.targets
        axis = options["axis"] % x.ndim
        t = t if t.ndim == x.ndim else np.stack([t == c for c in range(x.shape[axis])], axis=axis)
        below, mean, others = _below(x, axis)
        is_top = below == 0
        p, q = np.exp(-below) / (1 + others), np.where(is_top, others, 1 + others - np.exp(-below)) / (1 + others)
        of_p, of_q = np.where(is_top, q * mean, below), np.where(is_top, mean, p * below)
        value = next(iter(self.exact["value"])).high
        pool = options.get("pool_axes") or tuple([a for a in range(x.ndim) if a != axis])
        axes: Any = pool if value.ndim == x.ndim - len(pool) else (axis, *pool)
        missed, moved = (t * q + (1 - t) * p).sum(axis=axes), (t * q * of_q + (1 - t) * p * of_p).sum(axis=axes)
        power = 2 if options.get("squared") else 1
        of_value = np.where(missed > 1e-300, moved / np.maximum(missed, 1e-300), below.max())
        return power * of_value, power * np.maximum(below, mean)

    def allowed(self, quantity: str, which: int, backend: str) -> Floats:
        """The largest absolute error of every number."""
        exact, bound = self.exact[quantity][which], self.bound(quantity)
        size = np.abs(exact.high)
        terms = np.fmax(size, exact.terms) if bound.of_terms else size
        once = HALF * spacing(size, self.dtype) if self.dtype in HALVES else np.zeros(())
        if self.dtype in HALVES and not bound.of_terms:
            return once
        dtype = "float64" if self.dtype == "float64" else "float32"
        allowed = bound.ulps(dtype, backend, self.gamma) * spacing(terms, dtype)
        if bound.spread:
            power = bound.spread * (1 + self.gamma if bound.per_gamma else 1)
            spread = self.spread[quantity != "value"]
            if bound.of_label:
                below = _below(self.problem.predictions[0], -1)[0]
                spread = spread + np.take_along_axis(below, self.problem.targets[..., None], axis=-1)
            allowed = allowed + power * spread * np.ldexp(terms, -FORMATS[dtype].digits)
        if bound.at_most is not None:
            allowed = np.minimum(allowed, bound.at_most[dtype == "float64"] * spacing(terms, dtype))
        if self.dtype != "float16":  # a term of the result that is subnormal: XLA, and torch.sigmoid, make it 0
            flushes = 4 if backend.startswith(("jax", "torch")) else FORMATS[self.dtype].digits
            allowed = allowed + np.ldexp(1.0, FORMATS[self.dtype].low + bound.underflow - flushes)
        return allowed + once


def _below(x: Floats, axis: int) -> tuple[Floats, Floats, Floats]:
    """How far below its maximum every entry of a row lies; the mean of that over all but the maximum; their exponentials' sum."""
    below = x.max(axis=axis, keepdims=True) - x
    e = np.exp(-below)
    others = e.sum(axis=axis, keepdims=True) - 1
    nearest = np.take(np.sort(below, axis=axis), [min(1, x.shape[axis] - 1)], axis=axis)
    mean = np.where(others > 0, (e * below).sum(axis=axis, keepdims=True) / np.maximum(others, 1e-300), nearest)
    return below, mean, others


@dataclass(frozen=True)
class Measured:
    """One quantity of a batch on one backend."""

    batch: Batch
    backend: str
    quantity: str
    which: int  # prediction, for derivatives
    computed: Floats
    allowed: Floats  # the bound of every error; infinite where a result is set apart
    errors: Floats  # in ulps of the exact result, or of its terms
    excess: float  # the largest error over its bound: at most 1
    worst: str  # where, as hex floats
    nans: int
    lost: int  # zero, infinite or NaN where the exact result is finite and normal

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return self.excess <= 1 and not self.nans and not self.lost


def judge(batch: Batch, backend: str, quantity: str, which: int, computed: Floats) -> Measured:
    """Compare with the exact results. Subnormal results, and those of subnormal arguments, are set apart: XLA flushes them."""
    exact, bound, f = batch.exact[quantity][which], batch.bound(quantity), FORMATS[batch.dtype]
    size, tiny = np.abs(exact.high), np.ldexp(1.0, f.low)
    known = ~np.isnan(exact.high)
    low = tiny if batch.dtype == "float16" else np.ldexp(tiny, bound.underflow)  # of float32, where float16 is computed, it is far away
    flushed = _of_subnormal_arguments(batch, size)
    subnormal = known & (((size < low) & (size > 0)) | flushed)
    normal = known & ~subnormal
    with np.errstate(all="ignore"):
        allowed = batch.allowed(quantity, which, backend)
        ulps = in_ulps(computed, exact, batch.dtype)
        absolute = ulps * spacing(size, batch.dtype)
        scaled = absolute / spacing(np.maximum(size, exact.terms), batch.dtype) if bound.of_terms else ulps
        ratio = np.where(ulps == 0, 0.0, absolute / allowed)
        largest = np.ldexp(2.0 - np.ldexp(1.0, -f.digits), f.high - 1)
        lost = normal & (size > 0) & (size < largest) & (~np.isfinite(computed) | (computed == 0))
        wrong_apart = subnormal & ~(np.abs(computed - exact.high) <= np.fmax(low, allowed)) & ~flushed
    if bound.of_terms:  # a zero where the terms cancel to less than their own roundings is no loss
        lost &= size > allowed
    ratio = np.where(normal, ratio, np.where(wrong_apart, np.inf, 0.0))
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    worst, excess = place(batch, at, computed[at], exact.high[at]), float(ratio.max(initial=0.0))
    counts = [int(np.sum(mask)) for mask in (np.isnan(computed) & known, lost)]
    allowed = np.where(normal, allowed, np.inf)
    return Measured(batch, backend, quantity, which, computed, allowed, scaled[normal], excess, worst, *counts)


def _of_subnormal_arguments(batch: Batch, numbers: Floats) -> Any:
    """Which numbers come from a subnormal argument."""
    subnormal = np.ldexp(1.0, -1022 if batch.dtype == "float64" else -126)
    arguments = [a for a in (*batch.problem.predictions, batch.problem.targets) if a is not None]
    if batch.definition.whole and not batch.problem.samples:
        return np.asarray(any(((a != 0) & (np.abs(a) < subnormal)).any() for a in arguments))
    flushed: Any = np.zeros(len(arguments[0]), dtype=bool)
    for a in arguments:
        flushed |= ((a != 0) & (np.abs(a) < subnormal)).reshape(len(a), -1).any(axis=1)
    return flushed.reshape(-1, *(1 for _ in numbers.shape[1:]))


def place(batch: Batch, at: tuple[Any, ...], computed: float, exact: float) -> str:
    """Where a number stands, as hex floats."""
    entry = f" entry {', '.join(map(str, at))}"
    if batch.definition.whole and not batch.problem.samples:
        return f"the whole batch{entry}: {computed!r} for {exact!r}"
    inputs = ", ".join([_hex(a[at[0]]) for a in (*batch.problem.predictions, batch.problem.targets) if a is not None])
    return f"({inputs}){entry if len(at) > 1 else ''}: {computed!r} for {exact!r}"


def _hex(a: Any) -> str:
    if np.ndim(a):
        return "[" + ", ".join(_hex(v) for v in a[:12]) + (", ...]" if len(a) > 12 else "]")
    return str(int(a)) if np.asarray(a).dtype.kind in "iub" else float(a).hex()


def measure(batch: Batch, library: Library, mode: str = "eager", quantities: Sequence[str] = QUANTITIES) -> list[Measured]:
    """Errors of every quantity that is promised."""
    subject = Subject.of(named_loss(batch.definition.loss), signature=None, reduction="none", target_dtype=None)
    wanted = [q for q in batch.quantities if q in quantities]
    results = subject.run(library, mode, batch.dtype, batch.problem, wanted)
    return judge_all(batch, library.name if mode == "eager" else f"{library.name} {mode}", results)


def judge_all(batch: Batch, backend: str, results: Mapping[str, Any]) -> list[Measured]:
    """Errors of whatever was computed."""
    for result in results.values():
        if isinstance(result, Exception):
            raise result
    return [judge(batch, backend, quantity, i, a) for quantity, arrays in results.items() for i, a in enumerate(arrays)]


# -- the table -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One line of the table: a form of a loss, or a peer of it, on one backend and in one dtype."""

    loss: str
    given: str
    targets: str
    quantity: str
    dtype: str
    backend: str
    max_ulp: float
    median_ulp: float
    nans: int
    lost: int
    promise: str  # empty for peers, who promise nothing
    holds: bool
    worst: str


def lines(measured: Iterable[Measured], peers: Sequence[str] = ()) -> Iterator[Line]:
    """What was measured, a line for each form, quantity, dtype and backend."""

    def key(m: Measured) -> tuple[str, ...]:
        return (*m.batch.form, m.batch.dtype, m.quantity, m.backend)

    for (loss, given, targets, dtype, quantity, backend), group in groupby(sorted(measured, key=key), key=key):
        several = list(group)
        worst = max(several, key=lambda m: m.excess)
        errors = np.concatenate([m.errors for m in several])
        largest, median = (float(f(errors)) if errors.size else 0.0 for f in (np.max, np.median))
        nans, lost, holds = sum(m.nans for m in several), sum(m.lost for m in several), all(m.holds for m in several)
        promise = "" if backend in peers else str(worst.batch.bound(quantity))
        yield Line(loss, given, targets, quantity, dtype, backend, largest, median, nans, lost, promise, holds, worst.worst)


def table(
    losses: Iterable[str] | None = None,
    *,
    dtypes: Sequence[str] = ("float32", "float64"),
    backends: Sequence[str] = ("numpy", "torch", "jax"),
) -> Iterator[Line]:
    """The accuracy of our losses at the points of `check`, computed now. Backends that are missing are left out."""
    libraries = [LIBRARIES[b] for b in backends if LIBRARIES[b].missing() is None]
    for loss in DEFINITIONS if losses is None else losses:
        yield from lines([m for batch in _batches(loss, dtypes) for library in libraries for m in measure(batch, library)])


def _batches(loss: str, dtypes: Sequence[str]) -> Iterator[Batch]:
    for definition in DEFINITIONS[loss]:
        for kind in definition.targets:
            for options in definition.options:
                for problem in batches(definition.predictions, kind, "edges+grid+random", np.random.default_rng(0), options):
                    yield from [Batch(definition, problem.rounded(dtype), dtype) for dtype in dtypes]
