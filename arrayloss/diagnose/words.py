"""How a port is called, and the call of ours that replaces it, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from arrayloss.frontend.loss import REGISTRY

from .explain import Case, Explanation
from .observe import ENTRIES, MEAN, ONE_LESS, POSITIVES, ROWS, SUM, WEIGHTS
from .regions import pooled

CALLS = {MEAN: "the mean over all elements", SUM: "the sum", ROWS: "the sum over N", ENTRIES: "the sum over N * C"}
CALLS |= {POSITIVES: "the sum over the number of positives", WEIGHTS: "the sum over the sum of the weights", ONE_LESS: "the sum over N - 1"}


def options_of(case: Case, e: Explanation) -> dict[str, Any]:
    """The options with which the loss has the port's numbers."""
    own = {n: v for n, v in e.candidate.options.items() if REGISTRY[e.candidate.loss]._defaults.get(n) != v}
    pool = own.pop("pool", "batch")
    if pool != "batch" and e.layout.form != "mask of N":
        own["pool_axes"] = pooled(pool, len(e.observation.batches[0].shape), own.get("axis"))
    own |= {n: v for n, v in e.constants.items() if abs(v - e.candidate.constants.get(n, np.inf)) > 1e-9}
    if e.fit.factor is None:
        w = e.fit.weights
        if "alpha" in e.candidate.names and e.candidate.scene.targets == "binary" and abs(sum(w) - 1) < 1e-3:
            own["alpha"] = w[1]
        elif "pos_weight" in e.candidate.names and len(w) == 2 and abs(w[0] - 1) < 1e-4:
            own["pos_weight"] = w[1]
        elif len(w) > 2:
            own["alpha" if "alpha" in e.candidate.names else "class_weights"] = w
    return own


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options but the reduction."""
    return {n: v for n, v in options.items() if n != "reduction"}


def call_of(loss: str, options: Mapping[str, Any]) -> str:
    """A call without its arrays."""
    return f"{loss}({', '.join(f'{n}={number_text(v)}' for n, v in options.items())})" if options else loss


def number_text(value: Any) -> str:
    """A number of few digits, or a tuple of them."""
    if isinstance(value, tuple):
        return f"({', '.join(map(number_text, value))})"
    return f"{value:g}" if isinstance(value, float) else repr(value)


def replacement(case: Case, e: Explanation) -> str:
    """The call that replaces the port."""
    own = options_of(case, e)
    fit, factor = e.fit, e.fit.factor
    if e.observation.lead:
        own["reduction"] = "none"
    elif fit.denominator not in (MEAN, WEIGHTS):
        own["reduction"] = "sum"
    axis = e.layout.class_axis
    if axis == 1 and "axis" in REGISTRY[e.candidate.loss].option_names:
        own["axis"] = 1
    names = ["x", "y", "z"][: len(e.candidate.scene.domains)] + ["t"] * (e.layout.targets != "none")
    text = f"{e.candidate.loss}({', '.join([*names, *(f'{n}={number_text(v)}' for n, v in own.items())])})"
    if factor is not None and abs(factor - 1) > 1e-4:
        text = f"{factor:g} * {text}"
    return text + {ROWS: " / N", ENTRIES: " / (N * C)", POSITIVES: " / number of positives", ONE_LESS: " / (N - 1)"}.get(
        fit.denominator, ""
    )


def taken(case: Case, e: Explanation) -> str:
    """How the port is called and what it returns, in one line."""
    names = list(case.port.arguments[: len(e.candidate.scene.domains) + 1]) or e.layout.order(
        ["predictions"] * len(e.candidate.scene.domains), "targets"
    )
    given = {
        "unit": "probabilities go in",
        "probs": "probabilities go in",
        "log_probs": "log-probabilities go in",
        "real": "",
        "logits": "",
    }
    what = given.get(e.candidate.scene.domains[0], "") or ("logits go in" if e.candidate.scene.targets in ("binary", "labels") else "")
    lead = e.observation.lead
    result = (
        "one number"
        if e.layout.scene.is_whole
        else CALLS[e.fit.denominator]
        if not lead
        else "one number for each element"
        if lead >= len(e.observation.batches[0].shape)
        else "one number for each row"
    )
    if e.layout.scene.is_whole and not lead and len(e.observation.batches[0].shape) > 1:
        result = "one overlap for each sample" if e.candidate.options["pool"].startswith("samples") else "one overlap of the whole batch"
    if e.fit.denominator == MEAN and not lead and e.candidate.scene.is_rows:
        result = "the mean over all rows"
    shown = ("smooth",) if e.layout.scene.is_whole else ("gamma",)
    options = {**{n: e.candidate.constants[n] for n in shown if n in e.candidate.constants}, **e.constants, **options_of(case, e)}
    constants = ", ".join(f"{n} = {number_text(v)}" for n, v in options.items() if not isinstance(v, bool | str))
    parts = [f"{case.port.name}({', '.join(n for n in names if n)})", str(e.layout), what, result, constants]
    return ", ".join(p for p in parts if p)


def convention(case: Case, e: Explanation, own: Mapping[str, Any]) -> dict[str, Any]:
    """What a check of the numbers is called with."""
    lead = e.observation.lead
    return {
        "signature": ",".join(e.layout.order(["input"] * len(e.candidate.scene.domains), "target")),
        "reduction": "none" if lead else "sum" if e.fit.denominator == SUM else "mean",
        "domain": ",".join(e.candidate.scene.domains),
        "targets": e.candidate.scene.targets,
        "target_dtype": "int64" if e.layout.targets in ("labels", "integers 0 or 1") else "float",
        "layout": e.layout.form,
        "loss": e.candidate.loss,
        "options": dict(own),
    }
