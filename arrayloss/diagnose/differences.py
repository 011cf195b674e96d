"""What is different about a port that is explained: constants, weights, factors and denominators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .explain import MODIFICATIONS, Case, Explanation
from .observe import DENOMINATORS, ENTRIES, MEAN, ONE_LESS, POSITIVES, ROWS, SUM, WEIGHTS
from .result import Reason
from .words import CALLS


def differences(case: Case, e: Explanation, reference: str, reduction: str | None) -> Iterator[Reason]:
    """What is different about a port that is explained."""
    if e.code:
        yield Reason(e.code, e.text, "", _fix(e.code))
    own, declared = e.candidate.constants, case.declared(e.candidate.loss)
    for name in own:
        value, meant = e.constants.get(name, own[name]), declared.get(name, own[name])
        if abs(value - meant) <= 1e-5 * max(1.0, abs(meant)) or not (name in declared or _is_off(name, e.candidate.loss)):
            continue
        code = name if name in ("gamma", "label_smoothing") else "option"
        said = f"where {name} = {meant:g} is {'asked for' if name in case.options else 'said' if name in declared else 'the default'}"
        yield Reason(code, f"It behaves as {name} = {value:g} {said}.", "", f"the call with {name}={value:g} has its numbers")
    yield from _weights(case, e, reduction)


def _is_off(name: str, loss: str) -> bool:
    """Whether a constant has no effect by default: with it, it is another loss."""
    return name in MODIFICATIONS or (name == "scale" and loss == "softmax_cross_entropy")


def _weights(case: Case, e: Explanation, reduction: str | None) -> Iterator[Reason]:
    """Factors, denominators and weights of classes."""
    fit, factor = e.fit, e.fit.factor
    expected = expected_weights(case, e)
    if expected is not None:
        weights, denominator = expected
        found = fit.weights if factor is None else (factor,) * len(weights)
        ratio = [f / w if w else float("inf") for f, w in zip(found, weights, strict=True)] if len(found) == len(weights) else []
        is_proportional = bool(ratio) and max(ratio) - min(ratio) < 1e-3 * abs(max(ratio))
        if is_proportional and fit.denominator not in (denominator, SUM):
            text = f"It divides by {DENOMINATORS[fit.denominator]}, where the loss divides by {DENOMINATORS[denominator]}."
            yield Reason("denominator", text, "", f"divide by {DENOMINATORS[denominator]}")
            return
    alpha = case.options.get("alpha", case.port.constants.get("alpha"))
    if isinstance(alpha, int | float) and _has_alpha(e):
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
    elif fit.denominator in (ROWS, ENTRIES, POSITIVES, ONE_LESS) and reduction != "none":
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


def expected_weights(case: Case, e: Explanation) -> tuple[tuple[float, ...], str] | None:
    """The weights of the classes that options ask for, and what the loss divides by then."""
    options = case.options
    if isinstance(options.get("class_weights"), tuple | list) and e.candidate.scene.is_rows:
        return tuple(map(float, options["class_weights"])), WEIGHTS
    alpha = options.get("alpha", case.port.constants.get("alpha"))
    if isinstance(alpha, int | float) and _has_alpha(e):
        return (1 - alpha, float(alpha)), MEAN
    if isinstance(options.get("pos_weight"), int | float):
        return (1.0, float(options["pos_weight"])), MEAN
    return None


def _has_alpha(e: Explanation) -> bool:
    """Whether it is a loss whose alpha weighs positives."""
    return "alpha" in e.candidate.names and e.candidate.scene.targets == "binary" and not e.candidate.scene.is_whole


def _weights_are_new(case: Case, e: Explanation) -> bool:
    """Whether weights of classes are neither asked for nor something that the port names."""
    if _has_alpha(e) and abs(sum(e.fit.weights) - 1) < 1e-3:
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
