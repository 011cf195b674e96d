"""`check`: run a subject on every library, judge every number, and say who disagrees with whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from .libraries import DTYPES, Library, named
from .oracles import ORACLES, Oracle
from .overlap_oracles import OVERLAPS
from .problems import Problem, batches
from .reference import Definition, Float64, Reference, Whole
from .report import Report, Row, Worst
from .snippets import snippet
from .subject import Subject, named_loss
from .ulp import Exact, Judgement, flushable, judge

QUANTITIES = ("value", "grad", "hess")
MODES = ("eager", "compiled")
MAX_ULP = 8.0


def check(
    subject: Any,
    *,
    backends: Sequence[str] | None = None,
    modes: Sequence[str] = MODES,
    dtypes: Sequence[str] = ("float32",),
    quantities: Sequence[str] = QUANTITIES,
    reference: Any = "mpmath",
    points: str = "edges+grid+random",
    every: int = 1,
    rng: int = 0,
    max_ulp: float | None = None,
    relative_to: str = "number",
    signature: str | None = None,
    reduction: str | None = None,
    domain: str | None = None,
    targets: str | Sequence[str] | None = None,
    target_dtype: str | None = None,
    classes: int = 3,
    progress: Callable[[str], Any] | None = None,
    **options: Any,
) -> Report:
    """Whether a loss gives the same numbers on every library, and the right ones.

    Parameters
    ----------
    subject : name of one of our losses, a function, or a mapping such as {"torch": f, "jax": g}
        Each function takes arrays of its library. One function alone is called with the arrays of every library.
    backends : names of libraries
        Those to run on; by default all that the subject has a function for. One that is not installed is a row of the report.
    modes : "eager" and "compiled"
        The second is `torch.compile` and `jax.jit`; libraries without a compiler have no such rows.
    dtypes : names of dtypes
    quantities : "value", "grad" and "hess"
        Gradients and Hessian diagonals of the sum of what the function returns, by autograd where the library has it.
    reference : "mpmath", the name of one of our losses, a function in mpmath, "float64:torch", or another subject
        "mpmath" is the definition of the subject, which must then be one of our losses. A function in mpmath gets the predictions
        and the target of one element, or of one row as lists, and the options. "float64:<library>" is the subject itself
        in float64; another subject is run in float64 too.
    points : names joined by "+": "edges", "grid", "random", or "digits"
    every : int
        Every how-many-th of the points is taken.
    rng : seed of the random points
    max_ulp : number
        What a result may be off, in units in the last place; more only where the last place of the inputs moves it by more. By default
        8, and for a loss of ours what it promises where that is more.
    relative_to : "number" or "batch"
        Whether a small number must be right to its own digits, or only to those of the largest of its batch. A plain formula in
        floating point is often the same loss in the second sense only: `log_softmax` loses the digits of confident rows.
    signature : str
        The order of the arguments of functions of your own: "input,target", "y_true,y_pred" and so on. Never guessed.
    reduction : "mean", "sum" or "none"
        What functions of your own return. Never guessed.
    domain, targets : str
        What goes in: "real", "unit", "positive", or with classes along the last axis "logits", "log_probs", "probs" (several
        predictions joined by ","); targets "binary", "unit", "real", "labels", "distribution" or "logits". Those of the reference where
        that is one of our losses.
    target_dtype : str
        The dtype of the targets that functions of your own get, or "float" for that of the predictions; by default labels are
        int64 and everything else has the dtype of the predictions.
    classes : int
        How many classes rows have.
    progress : callable
        Called with a line before every step.
    options
        Options of our loss, or of the reference; functions of your own have theirs bound already.

    Examples
    --------
    >>> from arrayloss.consistency import check
    >>> report = check("sigmoid_cross_entropy", backends=["numpy"], quantities=["value", "grad"])
    >>> report.passed
    True
    """
    for name, given, known in (
        ("modes", modes, MODES),
        ("dtypes", dtypes, DTYPES),
        ("quantities", quantities, QUANTITIES),
        ("relative_to", [relative_to], ("number", "batch")),
    ):
        for value in given:
            if value not in known:
                raise ValueError(f"{name} must be some of {', '.join(known)}; got {value!r}")
    made = Subject.of(subject, signature=signature, reduction=reduction, target_dtype=target_dtype)
    wanted = [named(b) for b in backends] if backends is not None else made.runs_on()
    for library in wanted:
        if made.loss is None and library.name not in made.functions:
            raise ValueError(f"the subject has no function for {library.name}; it has {', '.join(made.functions)}")
    cases = list(_cases(made, reference, domain, targets, options))
    report = Report(made.label, MAX_ULP if max_ulp is None else max_ulp)
    run = _Run(made, wanted, tuple(modes), tuple(quantities), max_ulp, relative_to, report, progress or (lambda line: None))
    for library in wanted:
        if library.missing():
            report.rows.append(Row(made.label, library.name, status="missing", message=library.missing() or ""))
    for case in cases:
        for kind in case.targets:
            for batch in batches(case.domains, kind, points, np.random.default_rng(rng), case.options, classes):
                some = batch.take(slice(None, None, every))
                for dtype in dtypes:
                    run.batch(some.rounded(dtype), dtype, case.reference)
    return report


@dataclass(frozen=True)
class _Case:
    domains: tuple[str, ...]
    targets: tuple[str, ...]
    reference: Reference
    options: Mapping[str, Any]


def forms(name: str, options: Mapping[str, Any]) -> list[tuple[tuple[str, ...], tuple[str, ...], Mapping[str, Any], Oracle | None]]:
    """How a loss of ours can be called with these options: domains, kinds of targets, all options, the definition of one element."""
    if name in OVERLAPS:
        options = {"activation": "sigmoid", "axis": 1, **OVERLAPS[name].options[0], **options}
        return [(("mask_probs" if options["activation"] is None else "masks",), ("binary",), options, None)]
    if name not in ORACLES:
        raise ValueError(f"{name} has no definition to be compared with; pass reference='float64:numpy'")
    given = options.get("given")
    rows = [o for o in ORACLES[name] if o.options[0].get("given") == given] or ORACLES[name][:1]
    return [(o.predictions, o.targets, options, o) for o in rows]


def _cases(subject: Subject, reference: Any, domain: str | None, targets: Any, options: Mapping[str, Any]) -> Iterator[_Case]:
    """The domains that a subject is tried on, each with what it is compared with."""
    kinds = None if targets is None else (targets,) if isinstance(targets, str) else tuple(targets)
    domains = None if domain is None else tuple(d.strip() for d in domain.split(","))
    name = reference if isinstance(reference, str) else None
    if name == "mpmath":
        if subject.loss is None:
            raise ValueError("reference must be declared for functions of your own: one of our losses by name, a function in mpmath, ...")
        name = subject.loss.name
    if name and not name.startswith("float64"):
        for row_domains, row_kinds, settled, oracle in forms(named_loss(name).name, options):
            label = f"{name} (mpmath)"
            definition = Whole(name, label) if oracle is None else Definition(oracle, label, subject.reduction)
            yield _Case(domains or row_domains, kinds or row_kinds, definition, settled)
        return
    if subject.loss is not None:
        row_domains, row_kinds, options, _ = forms(subject.loss.name, options)[0]
        domains, kinds = domains or row_domains, kinds or row_kinds
    if domains is None or kinds is None:
        raise ValueError("domain and targets must be declared unless the reference is one of our losses")
    yield _Case(domains, kinds, _float_reference(subject, reference), options)


def _float_reference(subject: Subject, reference: Any) -> Reference:
    if isinstance(reference, str):
        _, _, backend = reference.partition(":")
        return float64(subject, named(backend or "numpy"))
    if isinstance(reference, Subject):
        return float64(reference, reference.runs_on()[0])
    if isinstance(reference, Mapping):
        ((name, function),) = reference.items()
        label = str(getattr(function, "__qualname__", name))
        other = Subject(label, {name: function}, None, subject.target_at, subject.reduction, subject.target_dtype)
        return float64(other, named(name))
    if callable(reference):
        return Definition(reference, f"{getattr(reference, '__name__', 'definition')} (mpmath)", subject.reduction)
    raise TypeError(f"reference must be a name, a function in mpmath or a mapping of one function; got {type(reference).__name__}")


def float64(subject: Subject, library: Library) -> Float64:
    """A subject in float64 on one library as the reference."""

    def run(batch: Problem, quantity: str) -> Any:
        found = subject.run(library, "eager", "float64", batch, (quantity,))[quantity]
        if isinstance(found, Exception):
            raise found
        return found

    return Float64(run, f"{subject.label} (float64, {library.name})")


@dataclass
class _Run:
    """Everything that stays the same over the batches of one check."""

    subject: Subject
    libraries: Sequence[Library]
    modes: Sequence[str]
    quantities: Sequence[str]
    max_ulp: float | None
    relative_to: str
    report: Report
    progress: Callable[[str], Any]

    def batch(self, batch: Problem, dtype: str, reference: Reference) -> None:
        results: dict[tuple[str, str], dict[str, Any]] = {}
        wanted = [q for q in self.quantities if not (q == "hess" and batch.whole)]  # the diagonal of a whole is not asked for
        for library in self.libraries:
            if library.missing():
                continue
            for mode in self.modes:
                if mode == "compiled" and not library.compiles:
                    continue
                self.progress(f"{self.subject.label}: {library.name} {mode} {dtype} {batch.targets_kind}")
                quantities = [q for q in wanted if not (q == "hess" and mode == "compiled")]
                try:
                    results[library.name, mode] = self.subject.run(library, mode, dtype, batch, quantities)
                except Exception as error:
                    results[library.name, mode] = dict.fromkeys(quantities, error)
        for quantity in wanted:
            self.progress(f"{self.subject.label}: reference {dtype} {batch.targets_kind} {quantity}")
            try:
                exact = reference.exact(batch, quantity)
            except Exception as error:
                row = Row(self.subject.label, "reference", "", dtype, quantity, batch.targets_kind, against=reference.name)
                row.status, row.message = "crashed", _one_line(error)
                self.report.rows.append(row)
                continue
            self._quantity(batch, dtype, reference, quantity, exact, results)

    def _quantity(
        self,
        batch: Problem,
        dtype: str,
        reference: Reference,
        quantity: str,
        exact: tuple[Exact, ...],
        results: Mapping[tuple[str, str], Any],
    ) -> None:
        for which, numbers in enumerate(exact):
            moved = _Remembered(partial(reference.moved, batch, quantity, which), numbers.shape)
            agreed: dict[tuple[str, str], Any] = {}
            for (name, mode), found in results.items():
                if quantity not in found:
                    continue
                row = Row(self.subject.label, name, mode, dtype, quantity, batch.targets_kind, which, reference.name)
                result = found[quantity]
                if isinstance(result, Exception):
                    absent = isinstance(result, NotImplementedError)
                    row.status, row.message = "absent" if absent else "crashed", _one_line(result)
                else:
                    try:
                        self._judge(row, result[which], numbers, dtype, moved, batch)
                        agreed[name, mode] = result[which]
                    except ValueError as error:
                        row.status, row.message = "crashed", _one_line(error)
                self.report.rows.append(row)
            self._between(batch, dtype, quantity, which, agreed, numbers, moved)

    def _limit(self, library: str, dtype: str, quantity: str, batch: Problem) -> float:
        """What a result may be off in ulps."""
        if self.max_ulp is not None:
            return self.max_ulp
        if self.subject.loss is None:
            return MAX_ULP
        return max(MAX_ULP, promised(self.subject.loss.name, batch, library, dtype, quantity))

    def _judge(self, row: Row, result: Any, exact: Exact, dtype: str, moved: Any, batch: Problem) -> None:
        found = judge(result, exact, dtype, self._limit(row.backend, dtype, row.quantity, batch), moved, relative_to=self.relative_to)
        row.fill(found, self._worst(batch, result, exact, found, row))
        row.errors, row.at = found.errors, position(batch, exact.shape)

    def _worst(self, batch: Problem, result: Any, exact: Exact, found: Judgement, row: Row) -> Worst | None:
        """The worst number with the inputs that it came from, and the program that computes it."""
        if not found.errors.size:
            return None
        index = tuple(int(i) for i in np.unravel_index(found.worst, exact.shape))
        inputs, target, place = None, None, None  # of a number that the whole batch makes
        if index and not batch.whole:
            rows = batch.axis is not None and row.quantity != "value"
            element: Any = index[:-1] if rows else index
            inputs = tuple(np.asarray(p[element]).tolist() for p in batch.predictions)
            target, place = np.asarray(batch.targets[element]).tolist(), int(index[-1]) if rows else None
        code = (
            ""
            if not found.wrong.any()
            else "\n\n".join(
                snippet(
                    self.subject, name, "eager" if row.mode == "both" else row.mode, row.dtype, row.quantity, row.prediction, batch, index
                )
                for name in row.backend.split(" - ")
            )
        )
        numbers = float(np.asarray(result)[index]), float(exact.high[index]), float(found.errors[index])
        return Worst(inputs, target, place, *numbers, dict(batch.options), code)

    def _between(
        self, batch: Problem, dtype: str, quantity: str, which: int, agreed: Mapping[tuple[str, str], Any], exact: Exact, moved: Any
    ) -> None:
        """The two libraries that differ most: they differ by the sum of what each may be off at most."""
        most: tuple[Judgement, Row] | None = None
        for (a, x), (b, y) in combinations(agreed.items(), 2):
            if a[0] == b[0]:
                continue
            y = np.where(flushable(x, exact, dtype) | flushable(y, exact, dtype), x, y)
            limit = sum(self._limit(library, dtype, quantity, batch) for library in (a[0], b[0]))
            found = judge(x, Exact.of(y), dtype, limit, moved, relative_to=self.relative_to)
            row = Row(self.subject.label, f"{a[0]} - {b[0]}", a[1] if a[1] == b[1] else "both", dtype, quantity, batch.targets_kind, which)
            row.against = "each other"
            row.fill(found, self._worst(batch, x, Exact.of(y), found, row))
            if most is None or (bool(found.wrong.any()), found.max_ulp) > (bool(most[0].wrong.any()), most[0].max_ulp):
                most = found, row
        if most is not None:
            self.report.rows.append(most[1])


def promised(loss: str, batch: Problem, library: str, dtype: str, quantity: str) -> float:
    """The bound in ulps of a loss of ours that holds in a well-conditioned row; 0 if none is declared."""
    from .bounds import PROMISES

    domain = forms(loss, batch.options)[0][0][0]
    given = {"real": "numbers" if batch.targets_kind == "real" else "logits", "unit": "probs"}.get(domain, domain)
    hard = batch.targets_kind in ("labels", "binary") and not batch.options.get("label_smoothing")
    row = PROMISES.get((loss, given, "hard" if hard else "soft"))
    bound = row[QUANTITIES.index(quantity)] if row is not None else None
    if bound is None:
        return 0.0
    width = "float64" if dtype == "float64" else "float32"
    extra = bound.extra.get(library, 0.0) + bound.extra.get(f"{library} {width}", 0.0)
    gamma = batch.options.get("gamma", 2.0)
    return float(getattr(bound, width) + (bound.per_gamma * gamma if bound.per_gamma else 0.0) + extra)


class _Remembered:
    """Conditioning, computed once for every number that some library got wrong."""

    def __init__(self, moved: Callable[[Any], Any], shape: tuple[int, ...]) -> None:
        self._moved = moved
        self._known = np.full(shape, np.nan)

    def __call__(self, wrong: Any) -> Any:
        new = wrong & np.isnan(self._known)
        if new.any():
            found = self._moved(new)
            self._known[new] = np.where(np.isnan(found), 0.0, found)
        return self._known[wrong]


def position(batch: Problem, shape: tuple[int, ...]) -> Any:
    """Where every number stands on the axis of a picture: the first prediction, or the margin of a row."""
    x = batch.predictions[0]
    if x.shape == shape:
        return x
    if batch.axis is not None and shape == x.shape[:-1]:
        if batch.labels:
            own = np.take_along_axis(x, np.clip(batch.targets, 0, x.shape[-1] - 1)[..., None], axis=-1)[..., 0]
            others = np.where(np.arange(x.shape[-1]) == batch.targets[..., None], -np.inf, x)
            return own - others.max(axis=-1)
        return x.max(axis=-1) - x.min(axis=-1)
    return np.full(shape, np.nan)


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:300]
