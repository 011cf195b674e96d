"""Batches for a loss made with `arrayloss.define`. What it takes is read off the call that it makes of some arrays."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from arrayloss.frontend.loss import Loss

from .derivatives import WHOLE_BATCH, Trial
from .points import Problem, batches

Array = Any
DRAWS: dict[str, Callable[[Any, Any], Array]] = {  # by name, an array for predictions of a shape
    "real": lambda rng, shape: rng.standard_normal(shape).round(3),
    "positive": lambda rng, shape: np.exp(rng.standard_normal(shape)).round(3),
    "unit": lambda rng, shape: rng.uniform(0.05, 0.95, shape).round(3),
    "labels": lambda rng, shape: rng.integers(0, shape[-1], shape[:-1]),
    "binary": lambda rng, shape: rng.integers(0, 2, shape),
    "short labels": lambda rng, shape: rng.integers(1, shape[-1], (shape[0], 2)),
}
SHAPES = (4, 3), (6,), (2, 4, 3)  # of predictions: rows, numbers, sequences
DOMAINS, ROW_DOMAINS = ("real", "positive", "unit"), ("logits", "probs", "log_probs")
TARGETS = ("labels", "real", "binary", "unit", "positive", "short labels")
KINDS = {"elementwise": ("real", "unit", "binary"), "binary": ("binary", "unit"), "rows": ("labels", "distribution")}


def own_problems(
    loss: Loss[Any],
    options: Mapping[str, Any],
    points: str,
    seed: int,
    domains: Sequence[str] | None,
    kinds: Sequence[str] | None,
    classes: int,
    arguments: Sequence[Array] | None,
) -> list[Problem]:
    """The batches: many elements where they are independent; else one small batch, or the caller's `arguments`."""
    op, arrays, all_options = _first_call(loss, options, arguments)
    is_whole = arguments is not None or op.per_entry or not op.blocked or len(op.event_axes) > 1
    family = "rows" if op.event_axes else "binary" if op.positives is not None else "elementwise"
    problems: list[Problem] = []
    for kind in () if is_whole else kinds or KINDS[family]:
        for several in [domains] if domains else product(ROW_DOMAINS if op.event_axes else DOMAINS, repeat=op.predictions):
            (problem,) = batches(several, kind, points, np.random.default_rng(seed), options, classes)
            if _is_mostly_finite(loss, problem):
                problems.append(problem)
                break
        if problems and family == "elementwise":
            break
    if problems:
        return problems
    predictions, (targets, *more) = tuple(arrays[: op.predictions]), (*arrays[op.predictions :], None)
    names = loss.array_names[op.predictions + 1 :]  # of arrays behind the targets
    return [Problem(WHOLE_BATCH, predictions, targets, None, all_options | dict(zip(names, more, strict=False)), whole=True)]


def _first_call(loss: Loss[Any], options: Mapping[str, Any], arguments: Sequence[Array] | None) -> tuple[Any, Sequence[Array], Any]:
    """The operation of the first call whose value is finite, its arrays and its options."""
    required = [p.name for p in inspect.signature(loss).parameters.values() if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    usual: dict[str, Any] = {"activation": "sigmoid"} if "activation" in required else {}
    usual |= {"constant_weights": False} if "constant_weights" in loss.option_names else {}  # its slope is not that of its value
    usual |= {"axis": 1} if "axis" in loss.option_names and arguments is None else {}
    names, reason = ", ".join(loss.array_names), "none has a finite loss"
    for arrays in _some_arrays(len(loss.array_names)) if arguments is None else [arguments]:
        try:
            call = loss._call(*arrays, **{**usual, **options})
            with np.errstate(all="ignore"):
                is_finite = np.isfinite(call.adapter.value(call)).all()
        except Exception as error:  # whatever a kernel raises that is not for such arrays
            reason = f"{type(error).__name__}: {error}"
            continue
        is_mask = not call.operation.per_entry or arrays[-1].dtype.kind in "ib" or arguments is not None
        if is_finite and is_mask:
            return call.operation, arrays, {**usual, **options}
    raise ValueError(f"pass arguments= for {loss.name}: no arrays are known that it takes as {names} (the last: {reason})")


def _some_arrays(count: int) -> Iterator[list[Array]]:
    """Arrays for that many arguments: predictions, then targets, if they are none."""
    for shape in SHAPES:
        for last in TARGETS if count > 1 else DOMAINS:
            for domains in product(DOMAINS, repeat=count - 1):
                rng = np.random.default_rng(0)
                yield [DRAWS[domain](rng, shape) for domain in (*domains, last)]


def _is_mostly_finite(loss: Loss[Any], problem: Problem) -> bool:
    try:
        (value,) = Trial.of(loss, problem, "none").compute("value")
    except Exception:  # targets or options that this loss does not have
        return False
    with np.errstate(invalid="ignore"):  # objects that are NaN
        return bool(np.isfinite(value.astype(np.float64)).mean() > 0.9)
