"""Where a port breaks down far from 0, and near its targets: overflow, clamps, lost digits, float16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .examples import text_of
from .explain import Case, Explanation
from .layouts import Batch, batch
from .observe import Observation
from .result import Reason

Array = Any
OFF = 1e-3  # a relative difference that is no rounding
LOST = 0.05  # one that leaves a digit
MARGINS = (
    1.0,
    2.0,
    4.0,
    6.0,
    8.0,
    10.0,
    12.0,
    14.0,
    16.0,
    18.0,
    20.0,
    25.0,
    30.0,
    40.0,
    60.0,
    80.0,
    88.0,
    89.0,
    100.0,
    104.0,
    200.0,
    700.0,
    1e3,
    1e4,
)


def constant(e: Explanation, margin: float, right: bool, dtype: str) -> Batch | None:
    """A batch of equal elements or rows that are decided by a margin, rightly or wrongly."""
    shape, scene = e.observation.batches[0].shape, e.layout.scene
    if len(scene.domains) > 1:
        return None
    if scene.is_whole:
        return _nearly_all(e, margin, dtype) if right and margin <= 40 else None
    size = int(np.prod(shape))
    sign = 1.0 if right else -1.0
    if scene.is_rows and scene.targets in ("distribution", "logits", "vectors") and right and margin <= 30:
        return _near(e, margin, dtype)
    if scene.is_rows:
        if scene.targets != "labels" or scene.domains[0] not in ("logits", "probs"):
            return None
        x: Array = np.zeros((size, 3))
        x[:, 1] = sign * margin
        if scene.domains[0] == "probs":
            x = np.exp(x - np.logaddexp.reduce(x, axis=1, keepdims=True))
        t: Array = np.ones(size, dtype=np.int64)
    elif scene.targets in ("binary", "signs") and scene.domains[0] in ("real", "unit", "exponents"):
        x, t = np.full(size, sign * margin), np.ones(size)
        if scene.domains[0] == "unit" and margin <= 80:
            x, t = (np.exp(-np.abs(x)), np.zeros(size) if right else np.ones(size))
    elif scene.targets == "real" and scene.domains[0] == "real":
        x, t = np.full(size, sign * (margin if right else 1 / margin**4)), np.zeros(size)
    else:
        return None
    x = x.astype(dtype).astype(np.float64)
    if scene.domains[0] in ("unit", "probs") and not ((x > 0) & (x < 1)).all():
        return None
    return Batch(e.layout, shape, (x,), t)


def _nearly_all(e: Explanation, margin: float, dtype: str) -> Batch:
    """Regions that are predicted rightly, by a margin."""
    first = e.observation.batches[0]
    t = first.targets
    x = (2 * t - 1) * margin
    if e.layout.scene.domains[0] == "mask_probs":
        x = np.where(t > 0, 1 - np.exp(-margin), np.exp(-margin))
    return Batch(first.layout, first.shape, (x.astype(dtype).astype(np.float64),), t)


def _near(e: Explanation, margin: float, dtype: str) -> Batch | None:
    """Rows that are their targets but for 2**-margin."""
    first, scene = e.observation.batches[0], e.layout.scene
    x = np.array(first.predictions[0])
    t, step = np.array(x), 2.0**-margin
    if scene.domains[0] == "probs" and scene.targets == "distribution":
        t[:, 0], t[:, 1] = x[:, 0] * (1 - step), x[:, 1] + x[:, 0] * step
    elif (scene.domains[0], scene.targets) in (("logits", "logits"), ("vectors", "vectors")):
        t[:, 0] = x[:, 0] + step
    else:
        return None
    x, t = x.astype(dtype).astype(np.float64), t.astype(dtype).astype(np.float64)
    return Batch(e.layout, first.shape, (x,), t)


def far(case: Case, e: Explanation, dtype: str) -> Iterator[tuple[float, bool, float, float]]:
    """Margin, whether it is right, what the port has and what it should have."""
    for right in (True, False):
        for margin in MARGINS:
            one = constant(e, margin, right, dtype)
            if one is None:
                continue
            try:
                seen = Observation.of_one(case.port, one, dtype)
            except Exception:
                continue
            yield margin, right, float(seen.y[0]), float(e.predicted(seen)[0])


def breakdowns(case: Case, e: Explanation) -> Iterator[Reason]:
    """Overflow, clamps and lost digits: from which margin on."""
    double = {(m, right): (has, should) for m, right, has, should in far(case, e, "float64")}
    single = {(m, right): (has, should) for m, right, has, should in far(case, e, "float32")}
    yield from _clamps(case, e, double)
    for (margin, right), (has, should) in single.items():
        if not np.isfinite(has) and np.isfinite(should) and abs(should) < 1e30:
            exact = _bisect(case, e, margin, right, lambda h, s: not np.isfinite(h))
            text = f"It overflows: {_where(e, exact, right)} it returns {has} where the loss is finite (float32)."
            yield Reason("overflow", text, _shown(case, e, margin, right, has, should), "use logsumexp, log_softmax or softplus of logits")
            break
    for (margin, right), (has, should) in single.items():
        twice = double.get((margin, right), (np.nan, np.nan))
        is_rounding = abs(twice[0] - twice[1]) <= OFF * abs(twice[1])
        if abs(should) > 1e-37 and np.isfinite(has) and abs(has - should) > LOST * abs(should) and is_rounding:
            exact = _bisect(case, e, margin, right, lambda h, s: abs(h - s) > LOST * abs(s))
            text = f"Small losses lose their digits, {_where(e, exact, right)} (float32)."
            yield Reason(
                "digits_lost", text, _shown(case, e, margin, right, has, should), "compute the small number itself, not 1 minus a large one"
            )
            break


def _clamps(case: Case, e: Explanation, double: dict[tuple[float, bool], tuple[float, float]]) -> Iterator[Reason]:
    """A loss that stops to grow: probabilities are clamped there, or a number is added to them."""
    if e.layout.scene.targets == "real":
        most = [(has, should) for (m, right), (has, should) in double.items() if right and m >= 200 and np.isfinite(has + should)]
        if len(most) > 1 and np.ptp([has for has, _ in most]) <= 1e-9 * abs(most[0][0]) and np.ptp([should for _, should in most]) > 1e-3:
            yield Reason(
                "clamp", f"It clamps the loss at {most[0][0]:.5g}: its gradient is 0 beyond.", _shown(case, e, 1e3, True, *most[-1])
            )
        return
    wrong = [(m, *double[m, right]) for m, right in double if not right and m >= 4]
    full = [(m, has, should) for m, has, should in wrong if np.isfinite(has) and should > 1 and has < should * (1 - OFF)]
    if not full or e.layout.scene.targets not in ("binary", "labels"):
        return
    margin, has, should = full[-1]
    weight = should / e.candidate_truth(margin)
    size = float(np.exp(-has / weight))
    size = float(f"{size:.3g}")
    near = float(-np.log(size))
    one = constant(e, near, False, "float64")
    seen = None if one is None else Observation.of_one(case.port, one)
    halfway = np.nan if seen is None else float(seen.y[0]) / (float(e.predicted(seen)[0]) / e.candidate_truth(near))
    is_clamp = not (abs(halfway - (near - np.log(2))) < 0.2)
    text = f"It clamps probabilities at {size:g}" if is_clamp else f"It adds {size:g} to probabilities inside of the logarithm"
    shown = _shown(case, e, full[0][0], False, *full[0][1:])
    yield Reason(
        "clamp" if is_clamp else "epsilon",
        f"{text}: the loss stops at {has:.5g}, and its gradient is 0 there.",
        shown,
        "take logits; log_softmax needs no clamp",
    )


def halves(case: Case, e: Explanation) -> Iterator[Reason]:
    """What goes wrong in float16 only."""
    for right in (True, False):
        for margin in MARGINS[:6]:
            one = constant(e, margin, right, "float16")
            if one is None:
                continue
            try:
                seen = Observation.of_one(case.port, one, "float16")
            except Exception as error:
                if "overflow" in str(error):
                    yield Reason("float16", f"It fails in float16 only: {str(error).splitlines()[0][:90]}", "", "use numbers below 65504")
                return
            has, should = float(seen.y[0]), float(e.predicted(seen)[0])
            if 0.05 < abs(should) < 6e4 and not abs(has - should) <= 0.25 * abs(should):
                text = f"It is wrong in float16 only: {_where(e, margin, right)}."
                yield Reason("float16", text, _shown(case, e, margin, right, has, should), "compute in float32")
                return
    if e.layout.scene.is_whole:
        return
    big = batch(e.layout, (2000, *e.observation.batches[0].shape[1:]), np.random.default_rng(3))
    try:
        seen = Observation.of_one(case.port, big, "float16")
    except Exception:
        return
    should = e.predicted(seen)
    if (np.abs(should) < 6e4).all() and not np.allclose(seen.y, should, rtol=0.1, atol=1e-2):
        yield Reason("float16", "It is wrong in float16 only: its sums leave the range of float16.", "", "add up in float32")


def _bisect(case: Case, e: Explanation, margin: float, right: bool, bad: Callable[[float, float], bool]) -> float:
    """The margin from which on it is bad."""
    low, high = max((m for m in MARGINS if m < margin), default=0.0), margin
    for _ in range(12):
        middle = (low + high) / 2
        one = constant(e, middle, right, "float32")
        if one is None:
            break
        seen = Observation.of_one(case.port, one, "float32")
        low, high = (low, middle) if bad(float(seen.y[0]), float(e.predicted(seen)[0])) else (middle, high)
    return high


def _where(e: Explanation, margin: float, right: bool) -> str:
    """The elements or rows that a margin stands for, and those beyond."""
    scene = e.layout.scene
    if scene.is_whole:
        return f"for masks that are right by a margin of {margin:.3g} and more"
    if scene.targets in ("distribution", "logits", "vectors"):
        return f"for rows that differ from their targets by less than {2.0**-margin:.2g}"
    if scene.is_rows or scene.targets in ("binary", "signs"):
        return f"from a margin of {margin:.3g} on"
    return f"from a difference of {margin:.3g} on" if right else f"for differences below {margin**-4:.2g}"


def _shown(case: Case, e: Explanation, margin: float, right: bool, has: float, should: float) -> str:
    """One element or row, and both numbers."""
    one = constant(e, margin, right, "float64")
    if one is None:
        return ""
    if e.layout.scene.is_whole:
        return f"{case.port.name} of masks that are right by a margin of {margin:g}: {has:.6g}\n{e.candidate.loss}: {should:.6g}"
    x = one.predictions[0][0]
    return f"{case.port.name} of {text_of(x)}, target {text_of(one.targets[0])}: {has:.6g}\n{e.candidate.loss}: {should:.6g}"
