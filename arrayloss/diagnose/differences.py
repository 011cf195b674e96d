"""What is different about a port that is explained: constants, weights, factors and denominators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .explain import MODIFICATIONS, Case, Explanation
from .observe import DENOMINATORS, ENTRIES, POSITIVES, ROWS, SUM
from .result import Reason
from .words import CALLS


def differences(case: Case, e: Explanation, reference: str, reduction: str | None) -> Iterator[Reason]:
    """What is different about a port that is explained."""
    if e.code:
        yield Reason(e.code, e.text, "", _fix(e.code))
    own, declared = e.candidate.constants, case.declared(e.candidate.loss)
    for name in own:
        value, meant = e.constants.get(name, own[name]), declared.get(name, own[name])
        if abs(value - meant) <= 1e-5 * max(1.0, abs(meant)) or not (name in declared or name in MODIFICATIONS):
            continue
        code = name if name in ("gamma", "label_smoothing") else "option"
        said = f"where {name} = {meant:g} is {'asked for' if name in case.options else 'said' if name in declared else 'the default'}"
        yield Reason(code, f"It behaves as {name} = {value:g} {said}.", "", f"the call with {name}={value:g} has its numbers")
    yield from _weights(case, e, reduction)


def _weights(case: Case, e: Explanation, reduction: str | None) -> Iterator[Reason]:
    """Factors, denominators and weights of classes."""
    fit, factor = e.fit, e.fit.factor
    alpha = case.options.get("alpha", case.port.constants.get("alpha"))
    if isinstance(alpha, int | float) and "alpha" in e.candidate.names and e.candidate.scene.targets == "binary":
        found = (factor, factor) if factor is not None else fit.weights
        if _close(found, (alpha, 1 - alpha)) and abs(alpha - 0.5) > 1e-6:
            yield Reason(
                "alpha_swapped",
                f"alpha = {alpha:g} weighs the negatives, and {1 - alpha:g} the positives: they are swapped.",
                "",
                _fix("alpha_swapped"),
            )
        elif factor is not None and abs(factor - alpha) < 1e-4 and abs(alpha - 1) > 1e-6:
            yield Reason(
                "alpha_constant",
                f"alpha = {alpha:g} multiplies all elements, where 1 - alpha is the weight of the negatives.",
                "",
                _fix("alpha_constant"),
            )
        elif factor is not None and abs(factor - 1) < 1e-4:
            yield Reason("alpha_missing", f"alpha = {alpha:g} has no effect.", "", _fix("alpha_missing"))
        elif not _close(found, (1 - alpha, alpha)):
            yield Reason("option", f"It weighs positives by {found[1]:g} and negatives by {found[0]:g}, where alpha = {alpha:g} is said.")
        factor = 1.0
    elif factor is None and _weights_are_new(case, e):
        yield Reason(
            "option",
            f"It weighs the classes by {', '.join(f'{w:g}' for w in fit.weights)}, in their order.",
            "",
            "pass these weights to the loss",
        )
        factor = 1.0
    if fit.denominator == SUM and reduction != "sum":
        yield Reason(
            "sum_for_mean",
            "It adds up the elements, where the loss takes their mean.",
            "",
            "take the mean, or call the loss with reduction='sum'",
        )
    elif fit.denominator != SUM and reduction == "sum" and e.observation.lead == 0:
        yield Reason("mean_for_sum", f"It has {CALLS[fit.denominator]}, where the sum is asked for.")
    elif fit.denominator in (ROWS, ENTRIES, POSITIVES) and reduction != "none":
        yield Reason(
            "denominator",
            f"It divides by {DENOMINATORS[fit.denominator]}, where the mean divides by the number of elements.",
            "",
            "divide by the number of elements",
        )
    if factor is not None and abs(factor - 1) > 1e-4 and factor:
        if abs(factor + 1) < 1e-4:
            yield Reason("sign", "It has the other sign.", "", "multiply it by -1")
        elif not (e.candidate.scene.is_rows and abs(factor * 3 - 1) < 1e-4):
            yield Reason("factor", f"It is {factor:.6g} times the loss.", "", f"multiply it by {1 / factor:.6g}")
        else:
            yield Reason(
                "denominator", "It divides by N * C, where the mean divides by the number N of rows.", "", "divide by the number of rows"
            )


def _weights_are_new(case: Case, e: Explanation) -> bool:
    """Whether weights of classes are neither asked for nor something that the port names."""
    if "alpha" in e.candidate.names and e.candidate.scene.targets == "binary" and abs(sum(e.fit.weights) - 1) < 1e-3:
        return False  # found by probing, as gamma is
    named = [n for n in (*case.port.constants, *case.options) if "weight" in n or n == "alpha"]
    return not named


def _close(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and all(abs(x - y) < 1e-4 for x, y in zip(a, b, strict=True))


def _fix(code: str) -> str:
    return {
        "softmax_twice": "hand over logits",
        "sigmoid_twice": "hand over logits",
        "softmax_missing": "take log_softmax first",
        "sigmoid_for_softmax": "take log_softmax over the classes",
        "softmax_for_sigmoid": "take a sigmoid of every entry",
        "labels_shifted": "labels begin at 0",
        "axis": "take softmax along the axis of the classes",
        "clamp": "take logits: log_softmax and logsigmoid need no clamp",
        "epsilon": "take logits: log_softmax and logsigmoid need no epsilon",
        "alpha_swapped": "alpha * t + (1 - alpha) * (1 - t)",
        "alpha_constant": "alpha * t + (1 - alpha) * (1 - t)",
        "alpha_missing": "multiply by alpha * t + (1 - alpha) * (1 - t)",
        "offset": "add nothing",
    }.get(code, "")
