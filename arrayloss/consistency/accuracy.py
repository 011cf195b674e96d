"""How accurate every loss is on this machine: errors over the sweeps, beside the bounds and beside what others reach."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import combinations
from typing import Any

import numpy as np

from arrayloss.core.loss import REGISTRY

from .bounds import NOTHING, PROMISES, Bound
from .libraries import LIBRARIES, Library
from .peers import installed
from .sweeps import QUANTITIES, Floats, Sweep, sweeps
from .ulp import FORMATS, in_ulps, spacing

Array = Any
LARGE = 2**14  # entries


@dataclass(frozen=True)
class Measured:
    """What one sweep gave on one backend."""

    sweep: Sweep
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
    subnormal: int

    @property
    def max(self) -> float:
        return float(self.errors.max(initial=0.0))


def judge(sweep: Sweep, backend: str, quantity: str, which: int, computed: Floats, bound: Bound) -> Measured:
    """Compare with the exact results. Subnormal results, and those of subnormal arguments, are set apart: XLA flushes them."""
    numbers = sweep.results[quantity][which]
    f = FORMATS[sweep.dtype]
    exact = numbers.exact
    tiny = np.ldexp(1.0, f.low)
    known = ~np.isnan(numbers.terms)
    size = np.abs(exact.high)
    flushed = np.zeros(sweep.targets.shape[:1], dtype=bool)
    for a in (*sweep.predictions, sweep.targets):
        small = (a != 0) & (np.abs(a) < np.ldexp(1.0, -1022 if sweep.dtype == "float64" else -126))
        flushed |= small.reshape(len(small), -1).any(axis=1)
    flushed = flushed.reshape(-1, *(1 for _ in size.shape[1:]))
    low = tiny if sweep.dtype == "float16" else np.ldexp(tiny, bound.underflow)  # of float32, where float16 is computed, it is far away
    subnormal = known & (((size < low) & (size > 0)) | flushed)
    normal = known & ~subnormal
    nans = int((np.isnan(computed) & known).sum())
    with np.errstate(all="ignore"):
        allowed = bound.allowed(sweep, numbers, quantity, backend)
        if sweep.dtype != "float16":  # a term of the result that is subnormal: XLA, and torch.sigmoid, make it 0
            allowed = allowed + np.ldexp(tiny, bound.underflow - 4 if backend.startswith(("jax", "torch")) else bound.underflow - f.digits)
        ulps = in_ulps(computed, exact, sweep.dtype)
        scaled = ulps * spacing(size, sweep.dtype) / spacing(np.maximum(size, numbers.terms), sweep.dtype) if bound.terms else ulps
        ratio = np.where(ulps == 0, 0.0, ulps * spacing(size, sweep.dtype) / allowed)
        largest = np.ldexp(2.0 - np.ldexp(1.0, -f.digits), f.high - 1)
        finite = normal & (size > 0) & (size < largest)
        lost = finite & (~np.isfinite(computed) | (computed == 0))
        apart_wrong = subnormal & ~(np.abs(computed - exact.high) <= low) & ~flushed
    if bound.terms:  # a zero where the terms cancel to less than their own roundings is no loss
        lost &= size > allowed
    ratio = np.where(normal, ratio, np.where(apart_wrong, np.inf, 0.0))
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    scaled = np.where(normal, scaled, 0.0)
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return Measured(
        sweep,
        backend,
        quantity,
        which,
        computed,
        np.where(normal, allowed, np.inf),
        scaled[normal],
        float(ratio.max(initial=0.0)),
        _place(sweep, at, computed[at], exact.high[at]),
        nans,
        int(lost.sum()),
        int(subnormal.sum()),
    )


def _place(sweep: Sweep, at: tuple[Any, ...], computed: float, exact: float) -> str:
    row = at[0]
    inputs = [p[row] for p in sweep.predictions] + [sweep.targets[row]]
    shown = ", ".join(_hex(a) for a in inputs)
    entry = f" entry {', '.join(map(str, at[1:]))}" if len(at) > 1 else ""
    return f"({shown}){entry}: {computed!r} for {exact!r}"


def _hex(a: Any) -> str:
    if np.ndim(a):
        return "[" + ", ".join(_hex(v) for v in a[:12]) + (", ...]" if len(a) > 12 else "]")
    return str(int(a)) if np.asarray(a).dtype.kind in "iub" else float(a).hex()


# -- running ------------------------------------------------------------------------------------------------------------


def run(sweep: Sweep, library: Library, mode: str = "eager", quantities: Sequence[str] = QUANTITIES) -> dict[str, tuple[Floats, ...]]:
    """What a library computes: the value, and the gradients and Hessian diagonals of every prediction.

    `mode` is "eager", "compiled", "large" (repeated to some thousands of entries, where an adapter may have other primitives) or
    "general" (PyTorch under a transform).
    """
    loss = REGISTRY[sweep.loss]
    if mode == "large":
        return _repeated(sweep, library, quantities)
    with library.precision(sweep.dtype), np.errstate(all="ignore"):  # float16 overflows where it must
        predictions = [library.array(p, sweep.dtype) for p in sweep.predictions]
        targets = library.array(sweep.targets) if sweep.targets.dtype.kind in "iu" else library.array(sweep.targets, sweep.dtype)

        def call(*arrays: Array) -> Array:
            return loss(*arrays, **sweep.options, reduction="none")

        if mode == "compiled":
            call = library.compiled(call)
        result: dict[str, tuple[Floats, ...]] = {}
        if mode == "general":
            return _transformed(call, predictions, targets, library)
        if mode == "eager" and not library.has_autograd:
            value, gradients = loss.value_and_grad(*predictions, targets, **sweep.options, reduction="none")
            gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        else:
            value = call(*predictions, targets)
            gradients = library.gradient(call, predictions, targets) if "gradient" in quantities else ()
        result["value"] = (library.numpy(value),)
        result["gradient"] = tuple(library.numpy(g) for g in gradients)
        if "curvature" in quantities:
            with warnings.catch_warnings():
                try:
                    _, curvatures = loss.grad_and_hess(*predictions, targets, **sweep.options)
                except NotImplementedError:
                    return result
            result["curvature"] = tuple(library.numpy(h) for h in (curvatures if isinstance(curvatures, tuple) else (curvatures,)))
        return result


def _repeated(sweep: Sweep, library: Library, quantities: Sequence[str]) -> dict[str, tuple[Floats, ...]]:
    size = sweep.predictions[0].size
    times, n = -(-LARGE // size), len(sweep.targets)
    predictions = tuple(np.concatenate([p] * times) for p in sweep.predictions)
    result = run(replace(sweep, predictions=predictions, targets=np.concatenate([sweep.targets] * times)), library, "eager", quantities)
    return {quantity: tuple(a[:n] for a in many) for quantity, many in result.items()}


def _transformed(call: Any, predictions: Sequence[Array], targets: Array, library: Library) -> dict[str, tuple[Floats, ...]]:
    torch = import_module("torch")
    value, pullback = torch.func.vjp(lambda *xs: call(*xs, targets), *predictions)
    gradients = pullback(torch.ones_like(value))
    return {"value": (library.numpy(value),), "gradient": tuple(library.numpy(g) for g in gradients)}


def form(sweep: Sweep) -> tuple[str, str, str]:
    """The row of `PROMISES` that a sweep belongs to."""
    return sweep.loss, sweep.given, "hard" if sweep.hard else "soft"


def bound_of(sweep: Sweep, quantity: str) -> Bound:
    """The bound of a loss, a kind of targets and a quantity."""
    return PROMISES[form(sweep)][QUANTITIES.index(quantity)] or NOTHING


def measure(sweep: Sweep, library: Library, mode: str = "eager", quantities: Sequence[str] = QUANTITIES) -> list[Measured]:
    """Errors of every quantity over a sweep."""
    name = library.name if mode == "eager" else f"{library.name} {mode}"
    return judge_all(sweep, name, run(sweep, library, mode, quantities))


def apart(measured: Sequence[Measured]) -> Iterator[tuple[float, str]]:
    """How far two backends are from each other, over the sum of their bounds, and who and where: at most 1, for every pair of them."""
    for a, b in combinations(measured, 2):
        if (a.sweep, a.quantity, a.which) == (b.sweep, b.quantity, b.which) and a.backend != b.backend:
            with np.errstate(all="ignore"):
                away = np.where(a.computed == b.computed, 0.0, np.abs(a.computed - b.computed) / (a.allowed + b.allowed))
            away = np.where(np.isfinite(a.allowed) & np.isnan(away), np.inf, np.nan_to_num(away, nan=0.0))
            at = np.unravel_index(int(np.argmax(away)), away.shape)
            yield float(away[at]), f"{a.backend} and {b.backend}, {a.quantity} at {_place(a.sweep, at, a.computed[at], b.computed[at])}"


def judge_all(sweep: Sweep, name: str, results: Mapping[str, Sequence[Floats]]) -> list[Measured]:
    """Errors of whatever was computed."""
    return [
        judge(sweep, name, quantity, which, computed, bound_of(sweep, quantity))
        for quantity, many in results.items()
        for which, computed in enumerate(many)
    ]


# -- the table ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line: a loss, or a peer's form of it, on one backend and in one dtype."""

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
    subnormal: int
    bound: str  # empty for peers, who promise nothing
    reason: str
    holds: bool
    worst: str


def table(
    losses: Iterable[str] | None = None,
    *,
    dtypes: Sequence[str] = ("float32", "float64"),
    backends: Sequence[str] = ("numpy", "torch", "jax"),
    peers: bool = True,
    dense: bool = False,
) -> Iterator[Row]:
    """The accuracy of every loss, and of the same loss of installed peers, computed now. Backends that are missing are left out."""
    usable = [LIBRARIES[b] for b in backends if LIBRARIES[b].missing() is None]
    for loss in dict.fromkeys(form[0] for form in PROMISES) if losses is None else losses:
        for dtype in dtypes:
            groups: dict[tuple[str, ...], list[Measured]] = {}
            for sweep in sweeps(dtype, loss, dense):
                measured = [m for library in usable for m in measure(sweep, library)]
                if peers and set(sweep.options) <= {"given"}:
                    measured += [m for peer in installed(loss) for m in judge_all(sweep, peer.name, peer.run(sweep))]
                for m in measured:
                    groups.setdefault((*form(sweep), m.quantity, m.backend), []).append(m)
            for (_, given, targets, quantity, backend), many in sorted(groups.items()):
                yield _row(loss, given, targets, quantity, dtype, backend, many, backend in backends)


def _row(loss: str, given: str, targets: str, quantity: str, dtype: str, backend: str, many: Sequence[Measured], ours: bool) -> Row:
    worst = max(many, key=lambda m: m.excess)
    errors = np.concatenate([m.errors for m in many])
    bound = bound_of(worst.sweep, worst.quantity)
    nans, lost, subnormal = sum(m.nans for m in many), sum(m.lost for m in many), sum(m.subnormal for m in many)
    return Row(
        loss,
        given,
        targets,
        quantity,
        dtype,
        backend,
        float(errors.max(initial=0.0)),
        float(np.median(errors)) if errors.size else 0.0,
        nans,
        lost,
        subnormal,
        str(bound) if ours else "",
        bound.reason if ours else "",
        worst.excess <= 1 and not nans and not lost,
        worst.worst,
    )


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """The table as text, a line at a time."""
    yield f"{'loss':24}{'given':10}{'targets':8}{'quantity':10}{'dtype':9}{'by':12}{'max ulp':>9}{'median':>8}{'NaN':>5}{'lost':>6}  bound"
    for r in rows:
        figure = f"{r.max_ulp:9.3g}{r.median_ulp:8.2g}{r.nans:5d}{r.lost:6d}"
        yield f"{r.loss:24}{r.given:10}{r.targets:8}{r.quantity:10}{r.dtype:9}{r.backend:12}{figure}  {r.bound}" + (
            "" if r.holds or not r.bound else "  BROKEN"
        )
        if not r.holds:
            yield f"{'':24}worst at {r.worst}"
