"""`diagnose`: is it that loss, and if not, why? `identify`: which loss is it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from arrayloss.check.run import named_loss
from arrayloss.frontend.loss import REGISTRY

from . import behaviour, breakdown
from .differences import differences
from .examples import example
from .explain import Case, Explanation
from .gradient import gradients
from .objects import argument_names
from .objects import constants as constants_of
from .observe import MEAN, Fit, Observation
from .port import Port
from .result import Diagnosis, Reason
from .words import call_of, convention, options_of, plain, replacement, taken

Array = Any
Say = Callable[[str], Any]


def diagnose(
    function: Callable[..., Any],
    library: str = "numpy",
    *,
    reference: str,
    options: Mapping[str, Any] | None = None,
    name: str | None = None,
    constants: Mapping[str, float] | None = None,
    arguments: Sequence[str] = (),
    signature: int | None = None,
    reduction: str | None = None,
    domain: str | None = None,
    targets: Sequence[str] | None = None,
    say: Say = lambda line: None,
) -> Diagnosis:
    """Whether a function is one of our losses, and if not, what is different.

    The function is called on small batches, in this process. The order of its arguments, the form of its targets, the shapes, what it
    returns and its constants are found out; what is given here, or named by its own parameters and attributes, is what it should have.

    Parameters
    ----------
    function : callable
        Takes arrays of `library` and returns an array, or a number.
    library : "numpy", "torch", "jax", "dask", "cupy" or "strict"
    reference : str
        The name of one of our losses.
    options : mapping
        Options of the reference. What is not among them is found by probing.
    name : str
        What the function is called in the text; by default by its own name.
    constants : mapping
        The numbers that the function has by name; by default its parameters' defaults and its attributes.
    arguments : sequence of str
        The names of the arguments that take arrays; by default those of its signature.
    signature : int
        Where the targets stand among the arguments, -1 for the last place; by default found by probing.
    reduction : "mean", "sum" or "none"
        What the function should return; by default a mean, or the loss of each element.
    domain : str
        What goes in, as in `arrayloss.check.check`; by default found by probing.
    targets : sequence of str
        The kinds of targets that it may take, as in `arrayloss.check.check`; by default found by probing.
    say : callable
        Called with a line before every step.

    Returns
    -------
    Diagnosis
        `verdict` is "same", "digits" (the same, but small results lose digits), "different" or "not_compared"; `reasons` have the codes
        of `CODES`; `lines()` is what the command prints.

    Raises
    ------
    ValueError
        There is no such loss. Errors of the function are reasons, not errors.

    Examples
    --------
    >>> import numpy as np
    >>> def mse(y_true, y_pred):
    ...     return np.sum((y_true - y_pred) ** 2)
    >>> found = diagnose(mse, "numpy", reference="squared_error")
    >>> found.verdict, found.reasons[0].code
    ('different', 'sum_for_mean')
    >>> diagnose(mse, "numpy", reference="squared_error", reduction="sum").verdict
    'same'
    """
    reference = named_loss(reference).name
    case = _case(function, library, name, constants, arguments, options, signature, domain, targets, say)
    found = Diagnosis(case.port.name, library, reference=call_of(reference, {n: v for n, v in case.options.items() if n != "reduction"}))
    early = _early(case, reference)
    e = case.explain(reference)
    if e is None:
        return _not_taken(case, found)
    reasons = [*early]
    if not any(r.code in ("noise", "state") for r in early):
        if e.is_match:
            reasons += differences(case, e, reference, reduction or str(case.options.get("reduction", "")) or None)
            reasons += _conduct(case, e)
        else:
            reasons += [*behaviour.depends_on_others(case, e.observation)] or [_unexplained(case, e, reference)]
        if not e.is_match or e.code:
            reasons += gradients(case, e)
    if not e.is_match:
        e.fit = Fit(e.fit.residual, MEAN, (1.0,))
    found.taken = taken(case, e)
    found.residual = e.fit.residual
    own = options_of(case, e)
    if e.is_match and not e.code:
        said = own if not reasons or {r.code for r in reasons} == {"digits_lost"} else _declared(case, e)
        found.reference = call_of(e.candidate.loss, {**plain(case.options), **said})
    found.reasons = [_with_example(case, e, r) for r in _once(reasons)]
    codes = {r.code for r in found.reasons}
    found.verdict = "same" if not codes else "digits" if codes == {"digits_lost"} else "different"
    should = case.declared(e.candidate.loss) if found.verdict == "different" else {}
    found.convention = convention(case, e, own | should)
    return found


def identify(
    function: Callable[..., Any],
    library: str = "numpy",
    *,
    name: str | None = None,
    constants: Mapping[str, float] | None = None,
    arguments: Sequence[str] = (),
    signature: int | None = None,
    say: Say = lambda line: None,
) -> Diagnosis:
    """Which of our losses a function is: the calls that replace it, the simplest first; else the nearest, and what differs.

    Parameters
    ----------
    function, library, name, constants, arguments, signature, say
        As in `diagnose`.

    Returns
    -------
    Diagnosis
        `calls` replace the function, with `x` for predictions and `t` for targets. Where there are none, `verdict` is "different",
        `reference` the nearest loss, and `reasons` what differs. `residual` is how far the first call, or the nearest loss, is off in
        relation to its size; `ruled_out` are the nearest of the others.

    Examples
    --------
    >>> import numpy as np
    >>> def margin(scores, y):
    ...     return np.maximum(0, 1 - scores * y).mean()
    >>> identify(margin).calls
    ['hinge_loss(x, t)']
    """
    case = _case(function, library, name, constants, arguments, {}, signature, None, None, say)
    found = Diagnosis(case.port.name, library)
    explained = case.plainly(REGISTRY)
    if not explained:
        return _not_taken(case, found)
    matches = _most_general(sorted([e for e in explained if e.is_match], key=lambda e: (e.fit.cost + case.cost(e), _rank(e))))
    near = sorted([e for e in explained if not e.is_match], key=lambda e: e.fit.residual)
    found.ruled_out = [f"{e.candidate.loss} (off by {e.fit.residual:.2g})" for e in near[:5]]
    if not matches:
        return _nearest(case, found, near)
    best = matches[0]
    found.calls = list(dict.fromkeys(replacement(case, e) for e in matches if e.fit.cost <= best.fit.cost + 1))
    found.taken, found.residual = taken(case, best), best.fit.residual
    found.reasons = [_with_example(case, best, r) for r in _once([*_early(case, best.candidate.loss), *_conduct(case, best)])]
    codes = {r.code for r in found.reasons}
    found.verdict = "same" if not codes else "digits" if codes == {"digits_lost"} else "different"
    found.convention = convention(case, best, options_of(case, best))
    return found


def _declared(case: Case, e: Explanation) -> dict[str, Any]:
    """The options that the port, or the options of the reference, name, where they are not the defaults."""
    own = {n: v for n, v in options_of(case, e).items() if n not in e.candidate.constants and not isinstance(v, float | tuple)}
    defaults = REGISTRY[e.candidate.loss]._defaults
    return own | {n: v for n, v in case.declared(e.candidate.loss).items() if defaults.get(n) != v}


COMMON = (  # where several losses have the same numbers, the one that people know comes first
    *("squared_error", "absolute_error", "huber_loss", "sigmoid_cross_entropy", "binary_cross_entropy", "soft_margin_loss"),
    *("softmax_cross_entropy", "nll_loss", "sigmoid_focal_loss", "softmax_focal_loss", "dice_loss", "kl_divergence", "hinge_loss"),
)


def _rank(e: Explanation) -> int:
    return COMMON.index(e.candidate.loss) if e.candidate.loss in COMMON else len(COMMON)


def _most_general(matches: Sequence[Explanation]) -> list[Explanation]:
    """Without those that hold on narrower data: log-probabilities for logits, one-hot targets for distributions, masks for elements."""

    def breadth(e: Explanation) -> int:
        scene = e.candidate.scene
        wide = scene.domains[0] in ("real", "logits", "vectors", "exponents", "masks")
        return 4 * (not scene.is_whole) + 2 * wide + (scene.targets not in ("labels", "binary") or e.layout.targets == "labels")

    widest = max((breadth(e) for e in matches), default=0)
    return [e for e in matches if breadth(e) >= widest - 1 or widest < 4] if widest >= 6 else [e for e in matches if breadth(e) == widest]


def _case(
    function: Any,
    library: str,
    name: Any,
    constants: Any,
    arguments: Any,
    options: Any,
    signature: Any,
    domain: Any,
    targets: Any,
    say: Say,
) -> Case:
    label = name or getattr(function, "__name__", type(function).__name__)
    numbers = constants_of(function) if constants is None else constants
    port = Port(function, library, label, dict(numbers), tuple(arguments or argument_names(function)))
    return Case(port, dict(options or {}), signature, domain, targets, say)


def _early(case: Case, loss: str) -> list[Reason]:
    """What has to be known before numbers are compared."""
    for candidate in case.forms(loss):
        for observation in case.observations(candidate.scene):
            return list(behaviour.repeats(case, observation.batches[0]))
    return []


def _conduct(case: Case, e: Explanation) -> Iterator[Reason]:
    """What the function does with other arrays than those that it was identified by."""
    first = e.observation.batches[0]
    yield from behaviour.results(case, e, first)
    if e.code:
        return
    yield from gradients(case, e)
    for check in (behaviour.ignored, behaviour.strided, behaviour.sizes, behaviour.layouts_too):
        try:
            yield from check(case, e)
        except Exception as error:
            yield Reason(
                "unexplained", f"It raises {type(error).__name__} for other sizes: {str(error).splitlines()[0][:100] if str(error) else ''}"
            )
    broken = list(breakdown.breakdowns(case, e))
    yield from broken
    if not any(r.code == "overflow" for r in broken):
        yield from breakdown.halves(case, e)


def _unexplained(case: Case, e: Explanation, reference: str) -> Reason:
    """Another loss, or none that is known."""
    others = [f for f in case.plainly([loss for loss in REGISTRY if loss != reference]) if f.is_match]
    if others:
        best = min(others, key=lambda f: f.fit.cost + case.cost(f))
        return Reason("another_loss", f"It is another loss: {replacement(case, best)}.", "", "")
    return Reason("unexplained", f"It differs from {reference}, by {e.fit.residual:.2g} of its size, in no way that is known.")


def _not_taken(case: Case, found: Diagnosis) -> Diagnosis:
    """No layout was taken: the errors that there were."""
    errors = [seen for seen in case.seen.values() if isinstance(seen, BaseException)]
    found.verdict = "not_compared"
    if not errors:
        text = "It returned no finite numbers of a shape that a loss may have."
        shapes = {str(seen.results[0].shape) for seen in case.seen.values() if isinstance(seen, Observation)}
        found.reasons = [Reason("no_number", f"{text} Shapes: {', '.join(sorted(shapes)[:4])}.")]
        return found
    kinds = list(dict.fromkeys(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:120]}" for error in errors))
    found.reasons = [Reason("raises", f"It raised an error for all of {len(errors)} kinds of arrays. {kinds[0]}", "\n".join(kinds[1:4]))]
    return found


def _nearest(case: Case, found: Diagnosis, near: Sequence[Explanation]) -> Diagnosis:
    """What is known of a function that is none of our losses."""
    found.verdict = "different"
    first = near[0].observation
    found.reasons = [*behaviour.repeats(case, first.batches[0])]
    if not found.reasons:
        for e in near[:3]:
            known = case.explain(e.candidate.loss)
            if known is not None and known.is_match:
                found.reference, found.taken, found.residual = known.candidate.loss, taken(case, known), known.fit.residual
                found.reasons = [_with_example(case, known, r) for r in differences(case, known, known.candidate.loss, None)]
                return found
        found.reasons = [*behaviour.depends_on_others(case, first)]
    found.reference, found.residual = f"{near[0].candidate.loss}, the nearest", near[0].fit.residual
    if not found.reasons:
        text = f"It is none of the losses. The nearest, {near[0].candidate.loss}, differs by {near[0].fit.residual:.2g} of its size."
        found.reasons = [Reason("unexplained", text)]
    return found


def _once(reasons: Sequence[Reason]) -> list[Reason]:
    """Each code once; what is explained by clamps is not said again."""
    first: dict[str, Reason] = {}
    for reason in reasons:
        first.setdefault(reason.code, reason)
    if {"clamp", "epsilon"} & set(first):
        first.pop("digits_lost", None)
    return sorted(first.values(), key=lambda r: r.code == "digits_lost")


def _with_example(case: Case, e: Explanation, reason: Reason) -> Reason:
    """The reason with the smallest example that shows it."""
    if reason.example or reason.code in ("strided", "shape", "dtype", "float16", "inputs_changed", "from_elements", "from_classes"):
        return reason
    return Reason(reason.code, reason.text, example(case, e), reason.fix)
