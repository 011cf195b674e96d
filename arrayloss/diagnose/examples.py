"""The smallest call that shows a difference."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from .differences import expected_weights
from .explain import Case, Explanation
from .layouts import Batch
from .observe import MEAN, Fit, Observation

NICE = (0.5, -1.0, 2.0, -3.0)


def example(case: Case, e: Explanation) -> str:
    """A call with at most three numbers in which the port and the loss differ most."""
    best, shown = -1.0, ""
    expected = expected_weights(case, e)
    weights = expected[0] if expected is not None else e.fit.weights if e.fit.factor is None else (1.0,)
    for one in _small(e):
        try:
            seen = Observation.of_one(case.port, one)
            known = {n: v for n, v in case.declared(e.candidate.loss).items() if n in e.candidate.constants}
            e_ours = e.candidate.elements(seen.predictions, seen.targets, **known)
        except Exception:
            continue
        ours = seen.predicted(e_ours, Fit(0.0, MEAN, weights))
        if not (np.isfinite(seen.y).all() and np.isfinite(ours).all()):
            continue
        off = float(np.abs(seen.y - ours).max() / max(1e-6, np.abs(ours).max()))
        size = one.predictions[0].size
        if off > (1.5 if size > 1 else 1.0) * best and off > 1e-3:
            best = off
            call = ", ".join(text_of(a) for a in one.arguments if a is not None)
            has, should = (text_of(v if seen.lead else v[0]) for v in (seen.y, ours))
            shown = f"{case.port.name}({call}) = {has}\n{e.candidate.loss} has {should}"
    return shown


def _small(e: Explanation) -> Iterator[Batch]:
    """Batches of one to three numbers."""
    form, scene = e.layout.form, e.layout.scene
    extra = {"N": 0, "N x C": 0, "N x 1": 1, "N x C x H x W": 3}.get(form)
    if scene.is_rows:
        rows = [np.array([[0.5, -1.0, 2.0]]), np.array([[2.0, 0.0, -1.0]])]
        if scene.domains[0] == "probs":
            rows = [np.array([[0.2, 0.5, 0.3]]), np.array([[0.7, 0.2, 0.1]])]
        if scene.targets == "labels":
            ones = (1,) * len(e.observation.batches[0].shape)
            for x, label in product(rows, (0, 1, 2)):
                yield Batch(e.layout, ones, (x,), np.array([label]))
        return
    if extra is None or len(scene.domains) > 1:
        return
    numbers = {"unit": (0.3, 0.6, 0.9)}.get(scene.domains[0], NICE)
    answers = {"binary": (0.0, 1.0), "signs": (-1.0, 1.0), "unit": (0.25, 0.75)}.get(scene.targets, (0.0, 1.0, 3.0))
    for size in (1, 2, 3):
        shape = (1, size) if form == "N x C" else (size,) + (1,) * extra
        for x in product(numbers, repeat=size):
            for t in product(answers, repeat=size):
                if size == 1 or (len(set(x)) == size and len(set(t)) > 1):
                    yield Batch(e.layout, shape, (np.array(x),), np.array(t))


def text_of(value: Any) -> str:
    """Numbers as Python has them, in six digits."""
    value = np.asarray(value)
    if value.ndim == 0:
        return f"{float(value):.6g}" if value.dtype.kind == "f" else str(int(value))
    return "[" + ", ".join(text_of(v) for v in value) + "]"
