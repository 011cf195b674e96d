"""`check`: run a subject on every library, judge every number, and say who disagrees with whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from arrayloss.frontend.check import number

from .definitions import QUANTITIES, Definition
from .derivatives import derivative_rows, own_reference
from .judge import MAX_ULP, Judge, one_line
from .libraries import DTYPES, Library, library_of
from .own import own_problems
from .points import Problem, batches
from .reference import Reference
from .report import Report
from .rows import Row
from .run import Subject, form, is_ours, named_loss
from .ulp import Exact

MODES = ("eager", "compiled")
EVERYWHERE = "edges+grid+random"


def check(
    subject: Any,
    *,
    backends: Sequence[str] | None = None,
    modes: Sequence[str] = MODES,
    dtypes: Sequence[str] = ("float32",),
    quantities: Sequence[str] = QUANTITIES,
    reference: Any = "mpmath",
    points: str | None = None,
    every: int = 1,
    rng: int = 0,
    max_ulp: float | None = None,
    relative_to: str | None = None,
    signature: str | None = None,
    reduction: str | None = None,
    domain: str | None = None,
    targets: str | Sequence[str] | None = None,
    target_dtype: str | None = None,
    classes: int = 3,
    arguments: Sequence[Any] | None = None,
    progress: Callable[[str], Any] | None = None,
    **options: Any,
) -> Report:
    """Whether a loss gives the same numbers on every library, and the right ones.

    Parameters
    ----------
    subject : name of one of our losses, a loss, a function, or a mapping such as {"torch": f, "jax": g}
        Each function takes arrays of its library. One function alone is called with the arrays of every library.
    backends : names of libraries
        Those to run on; by default all that the subject has a function for. One that is not installed is a row of the report.
    modes : "eager" and "compiled"
        The second is `torch.compile` and `jax.jit`; libraries without a compiler have no such rows.
    dtypes : names of dtypes
    quantities : "value", "grad" and "hess"
        Gradients and Hessian diagonals of the sum of what the function returns, by autograd where the library has it.
    reference : "mpmath", the name of one of our losses, a function in mpmath, "float64:torch", or another subject
        "mpmath" is the definition of the subject, one of our losses. A loss made with `arrayloss.define` has none: its slope and its
        curvature are compared with differences of its own value, and its numbers with its own kernel at high precision. A function in
        mpmath gets the predictions and the target of one element, or of one row as arrays, and the options. "float64:<library>" is the
        subject itself in float64; another subject is run in float64 too.
    points : names joined by "+": "edges", "grid", "random", or "digits"
        By default "edges+grid+random"; for losses made with `arrayloss.define`, "grid+random".
    every : int
        Every how-many-th of the points is taken.
    rng : seed of the random points
    max_ulp : number
        What a result may be off, in units in the last place; more only where the last place of the inputs moves it by more. By default
        8, and for a loss of ours what it promises where that is more.
    relative_to : "number" or "batch"
        Whether a small number must be right to its own digits, or only to those of the largest of its batch. A plain formula in
        floating point is often the same loss in the second sense only: `log_softmax` loses the digits of confident rows. By default
        "number"; for losses made with `arrayloss.define`, "batch".
    signature : str
        The order of the arguments of functions of your own: "input,target", "y_true,y_pred" and so on. Never guessed.
    reduction : "mean", "sum" or "none"
        What functions of your own return. Never guessed.
    domain, targets : str
        What goes in: "real", "unit", "positive", or with classes along the last axis "logits", "log_probs", "probs" (several
        predictions joined by ","); targets "binary", "signs", "unit", "real", "counts", "labels", "distribution" or "logits". Those of
        the reference where that is one of our losses.
    target_dtype : str
        The dtype of the targets that functions of your own get, or "float" for that of the predictions; by default labels are
        int64 and everything else has the dtype of the predictions.
    classes : int
        How many classes rows have.
    arguments : NumPy arrays
        What a loss made with `arrayloss.define` is called with, where that is not found by trying.
    progress : callable
        Called with a line before every step.
    options
        Options of the loss, or of the reference; functions of your own have theirs bound already.
    """
    for name, values, known in (
        ("modes", modes, MODES),
        ("dtypes", dtypes, DTYPES),
        ("quantities", quantities, QUANTITIES),
        ("relative_to", [relative_to or "number"], ("number", "batch")),
    ):
        for value in values:
            if value not in known:
                raise ValueError(f"{name} must be some of {', '.join(known)}; got {value!r}")
    max_ulp = None if max_ulp is None else number("max_ulp", max_ulp, low=0)
    candidate = Subject.of(subject, signature=signature, reduction=reduction, target_dtype=target_dtype)
    libraries = candidate.runs_on() if backends is None else [library_of(b) for b in backends]
    for library in libraries:
        if candidate.loss is None and library.name not in candidate.functions:
            raise ValueError(f"the subject has no function for {library.name}; it has {', '.join(candidate.functions)}")
    report = Report(candidate.label, MAX_ULP if max_ulp is None else max_ulp)
    domains = None if domain is None else tuple(d.strip() for d in domain.split(","))
    kinds = None if targets is None else (targets,) if isinstance(targets, str) else tuple(targets)
    loss = candidate.loss
    options = options if loss is None else {**loss.options, **options}
    if loss is not None and not is_ours(loss) and reference == "mpmath":
        draw = partial(own_problems, loss, options, seed=rng, domains=domains, kinds=kinds, classes=classes, arguments=arguments)
        for problem in draw(points or "random+grid+edges"):
            report.rows += derivative_rows(loss, problem, candidate.label)
        if report.failures:
            return report
        problems = draw(points or "random+grid")
        quantities = [q for q in quantities if not any(r.quantity == q and r.status == "absent" for r in report.rows)]
        candidate = replace(candidate, reduction=reduction or ("mean" if problems[0].whole else "none"))
        against, relative_to = own_reference(loss, candidate.reduction), relative_to or "batch"
    else:
        if arguments is not None:
            raise ValueError(
                f"arguments are for a loss made with arrayloss.define that is checked against itself; got some for {candidate.label}"
            )
        domains, kinds, settings, against = _question(candidate, reference, domains, kinds, options)
        several = [batches(domains, kind, points or EVERYWHERE, np.random.default_rng(rng), settings, classes) for kind in kinds]
        problems = [problem for some in several for problem in some]
    judge = Judge(candidate, max_ulp, relative_to or "number")
    report.rows += [Row(candidate.label, lib.name, status="missing", message=lib.missing() or "") for lib in libraries if lib.missing()]
    say, runs = progress or (lambda line: None), [(lib, mode) for lib, mode in product(libraries, modes) if not lib.missing()]
    runs = [(lib, mode) for lib, mode in runs if mode == "eager" or lib.compiles]
    for problem, dtype in product(problems, dtypes):
        report.rows += _rows(judge, against, runs, problem.take(slice(None, None, every)).rounded(dtype), dtype, quantities, say)
    return report


def _question(
    subject: Subject, reference: Any, domains: tuple[str, ...] | None, kinds: tuple[str, ...] | None, options: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...], Mapping[str, Any], Reference]:
    """Domains of the predictions, kinds of targets, all options, and what the subject is compared with."""
    name = reference if isinstance(reference, str) and not reference.startswith("float64") else None
    if name == "mpmath" and subject.loss is None:
        raise ValueError("reference must be declared for functions of your own: one of our losses by name, a function in mpmath, ...")
    loss = subject.loss if name == "mpmath" or name is None else named_loss(name)
    definition = None
    if loss is not None and is_ours(loss):
        definition, options = form(loss.name, options)
        domains, kinds = domains or definition.predictions, kinds or definition.targets
    if domains is None or kinds is None:
        raise ValueError("domain and targets must be declared unless the reference is one of our losses")
    if name is not None and definition is not None:
        return domains, kinds, options, Reference.of_definition(definition, definition.loss, subject.reduction)
    return domains, kinds, options, _reference(subject, reference, domains, kinds)


def _reference(subject: Subject, reference: Any, domains: tuple[str, ...], kinds: tuple[str, ...]) -> Reference:
    """A function in mpmath, or a subject in float64."""
    if isinstance(reference, str):
        return _in_float64(subject, library_of(reference.partition(":")[2] or "numpy"))
    if isinstance(reference, Mapping):
        ((name, function),) = reference.items()
        label = str(getattr(function, "__qualname__", name))
        return _in_float64(replace(subject, label=label, functions={name: function}, loss=None), library_of(name))
    if callable(reference):
        label = str(getattr(reference, "__name__", "definition"))
        return Reference.of_definition(Definition(label, reference, domains, kinds, jets=False), label, subject.reduction)
    raise TypeError(f"reference must be a name, a function in mpmath or a mapping of one function; got {type(reference).__name__}")


def _in_float64(subject: Subject, library: Library) -> Reference:
    """A subject in float64 on one library."""

    def exact(problem: Problem, quantity: str) -> tuple[Exact, ...]:
        result = subject.run(library, "eager", "float64", problem, (quantity,))[quantity]
        if isinstance(result, BaseException):
            raise result
        return tuple(map(Exact.of, result))

    return Reference(f"{subject.label} (float64, {library.name})", exact)


def _rows(
    judge: Judge, reference: Reference, runs: Sequence[tuple[Library, str]], batch: Problem, dtype: str, quantities: Sequence[str], say: Any
) -> Iterator[Row]:
    """The rows of one batch, for every library and mode of `runs`."""
    subject, results = judge.subject, {}
    quantities = [q for q in quantities if not (q == "hess" and batch.whole)]  # overlaps have no diagonal
    for library, mode in runs:
        say(f"{subject.label}: {library.name} {mode} {dtype} {batch.targets_kind}")
        some = [q for q in quantities if not (q == "hess" and mode == "compiled")]
        try:
            results[library.name, mode] = subject.run(library, mode, dtype, batch, some)
        except (Exception, SystemExit) as error:
            results[library.name, mode] = dict.fromkeys(some, error)
    for quantity in quantities:
        say(f"{subject.label}: reference {dtype} {batch.targets_kind} {quantity}")
        try:
            yield from judge.rows(batch, dtype, quantity, reference, results)
        except (Exception, SystemExit) as error:  # of the reference
            row = Row(subject.label, "reference", "", dtype, quantity, batch.targets_kind, against=reference.name)
            row.status, row.message = "crashed", one_line(error)
            yield row
