"""What a port does beside returning a number: whether it repeats itself, what it leaves of its inputs, and where it breaks down."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .defects import defects
from .explain import Case, Explanation
from .layouts import Batch, batch, batches
from .observe import Observation
from .result import Reason

Array = Any
OFF = 1e-3  # a relative difference that is no rounding
SIZES = (40, 257, 4097)
CLASSES = (2, 5, 11, 101, 1001)


def repeats(case: Case, first: Batch) -> Iterator[Reason]:
    """Whether the same call gives the same number, also after another one."""
    values = [case.port.value(first.arguments) for _ in range(6)]
    if len({v.tobytes() for v in values}) > 1:
        seeded = [_with_seed(case, first) for _ in range(3)]
        is_random = len({v.tobytes() for v in seeded}) == 1 or not _is_drift(values)
    other = batches(first.layout, 3, seed=1)[-1]
    case.port.value(other.arguments)
    after = case.port.value(first.arguments)
    if case.port.changed:
        yield Reason("inputs_changed", "It changes its inputs: the arrays that it was called with are others after the call.")
    distinct = {v.tobytes() for v in values}
    if len(distinct) > 1 and is_random:
        shown = f"{case.port.name} of the same arrays: {_short(values[0])}, then {_short(values[1])}"
        yield Reason("noise", "Two calls with the same arrays give two numbers: there is noise in it.", shown, "leave out what is random")
    elif len(distinct) > 1 or after.tobytes() != values[-1].tobytes():
        at = next((i for i, v in enumerate(values) if v.tobytes() != values[0].tobytes()), len(values))
        shown = f"{case.port.name} of the same arrays: {_short(values[0])}, in call {at + 1} {_short((*values, after)[at])}"
        yield Reason("state", "A call depends on earlier calls: something is kept between them.", shown)


def _with_seed(case: Case, first: Batch) -> Array:
    """The result after the random numbers of Python, NumPy and PyTorch have been set back; they go on as before afterwards."""
    torch = sys.modules.get("torch")
    before = random.getstate(), np.random.get_state(), torch.get_rng_state() if torch else None
    random.seed(0)
    np.random.seed(0)
    if torch:
        torch.manual_seed(0)
    try:
        return case.port.value(first.arguments)
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        if torch:
            torch.set_rng_state(before[2])


def _is_drift(values: Sequence[Array]) -> bool:
    """Whether results go one way, or repeat themselves: something is kept, nothing is drawn."""
    totals = np.array([float(np.sum(v)) for v in values])
    steps = np.diff(totals)
    return len(set(totals.tolist())) < len(totals) or bool((steps >= 0).all() or (steps <= 0).all())


def depends_on_others(case: Case, observation: Observation) -> Iterator[Reason]:
    """Whether what is returned for a batch is more than its rows together."""
    whole = observation.batches[0]
    if len(whole.shape) == 0 or whole.shape[0] < 2 or not len(whole.targets.shape):
        return
    per = int(np.prod(whole.shape[1:]))
    changed = whole.predictions[0].copy()
    changed[per:] = changed[per:][::-1] if whole.layout.scene.domains[0] != "unit" else 1 - changed[per:]
    if observation.lead:
        before, after = case.port.value(whole.arguments), case.port.value(whole.with_predictions(changed).arguments)
        if before.shape == after.shape and not np.allclose(before[0], after[0], rtol=1e-6, atol=1e-9):
            text = "The loss of a row depends on the other rows of the batch."
            shown = f"its first row has {_short(before[0])}, and {_short(after[0])} when only other rows change"
            yield Reason("batch_dependence", text, shown)
        return
    rows = [Batch(whole.layout, (1, *whole.shape[1:]), *_row(whole, i, per)) for i in range(whole.shape[0])]
    try:
        single = [float(case.port.value(r.arguments)) for r in rows]
    except Exception:
        return
    together = float(case.port.value(whole.arguments))
    if not any(np.isclose(together, v, rtol=1e-5) for v in (np.mean(single), np.sum(single))):
        shown = f"a batch of {len(rows)}: {together:.6g}; the mean over its rows, one at a time: {np.mean(single):.6g}"
        yield Reason("batch_dependence", "The loss of a row depends on the other rows of the batch.", shown)


def _row(whole: Batch, i: int, per: int) -> tuple[tuple[Array, ...], Array]:
    return tuple(p[i * per : (i + 1) * per] for p in whole.predictions), whole.targets[i * per : (i + 1) * per]


def results(case: Case, e: Explanation, first: Batch) -> Iterator[Reason]:
    """The dtype and the shape of what it returns."""
    if case.port.library_name in ("numpy", "torch", "jax"):
        case.port.value(first.arguments, "float32")
        dtype, shape = case.port.returned
        if dtype not in ("float32", "float", "int"):
            yield Reason("dtype", f"It returns {dtype} for inputs of float32.", "", "keep the dtype of the predictions")
        if len(shape) and int(np.prod(shape)) == 1 and first.predictions[0].shape[0] > 1:
            yield Reason("shape", f"It returns an array of shape {shape} where a number of shape () is meant.", "", "leave no axis over")


def sizes(case: Case, e: Explanation) -> Iterator[Reason]:
    """From how many elements, or classes, on it is wrong."""
    rng = np.random.default_rng(5)
    base = e.observation.batches[0]

    def wrong(count: int) -> bool:
        return _is_off(case, e, batch(base.layout, (count, *base.shape[1:]), rng))

    found = _first(wrong, SIZES)
    if found is not None:
        total = found * int(np.prod(base.shape[1:]))
        yield Reason(
            "from_elements",
            f"It is wrong for batches of {total} elements and more." if total > found else f"It is wrong from {found} elements on.",
        )
    if e.layout.scene.is_rows and len(e.fit.weights) == 1:

        def wrong_classes(count: int) -> bool:
            return _is_off(case, e, batch(base.layout, base.shape, rng, classes=count))

        try:
            found = _first(wrong_classes, CLASSES)
        except Exception:
            return  # it takes three classes
        if found is not None:
            yield Reason("from_classes", f"It is wrong from {found} classes on.")


def _first(wrong: Callable[[int], bool], known: Sequence[int]) -> int | None:
    """The smallest number that is wrong, where all that are larger are."""
    bad = [n for n in known if wrong(n)]
    if not bad:
        return None
    low, high = max((n for n in known if n < bad[0]), default=1), bad[0]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if wrong(middle) else (middle, high)
    return high


def layouts_too(case: Case, e: Explanation) -> Iterator[Reason]:
    """A port of rows that also takes arrays of more axes: whether its softmax is along the axis of its labels there."""
    if e.layout.form != "rows" or e.layout.targets != "labels":
        return
    for o in case.observations(e.layout.scene, e.layout.targets_at):
        if o.layout.form == "rows" or o.layout.targets != "labels":
            continue
        for code, text, elements in defects(e.candidate, o):
            if code == "axis" and o.fit(elements(**e.constants), weighted=False).is_match:
                form = o.layout.form.partition(",")[0].replace("images", "N x C x H x W")
                yield Reason("axis", f"For {form}: {text[0].lower()}{text[1:]}", "", "take softmax along the axis of the classes")
                return


def strided(case: Case, e: Explanation) -> Iterator[Reason]:
    """Whether arrays that are not contiguous are read rightly."""
    if case.port.library_name not in ("numpy", "torch"):
        return
    one = e.observation.batches[0]
    try:
        plain = Observation.of_one(case.port, one).y
        if not all(np.allclose(Observation.of_one(case.port, one, strided=way).y, plain, rtol=1e-6) for way in ("slice", "transpose")):
            yield Reason(
                "strided", "It is wrong for arrays that are not contiguous, such as slices and transposes.", "", "do not read raw memory"
            )
    except Exception:
        return  # an error is no wrong number


def _is_off(case: Case, e: Explanation, one: Batch, dtype: str = "float64") -> bool:
    seen = Observation.of_one(case.port, one, dtype)
    return not np.allclose(seen.y, e.predicted(seen), rtol=OFF, atol=1e-9)


def ignored(case: Case, e: Explanation) -> Iterator[Reason]:
    """Whether rows with an ignored label count."""
    label = case.options.get("ignore_index", case.port.constants.get("ignore_index"))
    if not isinstance(label, int | float) or e.layout.scene.targets != "labels" or e.layout.targets != "labels":
        return
    whole = e.observation.batches[0]
    t = whole.targets.copy()
    t[:2] = int(label)
    one = Batch(whole.layout, whole.shape, whole.predictions, t)
    case.port.changed = False
    try:
        seen = Observation.of_one(case.port, one)
    except Exception as error:
        yield Reason(
            "ignored_label_counted", f"It fails for the ignored label {int(label)}: {type(error).__name__}.", "", "leave these rows out"
        )
        return
    if case.port.changed:
        yield Reason(
            "inputs_changed",
            "It changes its inputs: the labels that it was called with are others after the call.",
            "",
            "copy before writing",
        )
    kept = Batch(whole.layout, (len(t) - 2,), (whole.predictions[0][2:],), t[2:])
    losses = e.candidate.elements(kept.predictions, kept.targets, **e.constants)
    if seen.lead == 0 and not np.allclose(seen.y[0], losses.mean() * (e.fit.factor or 1.0), rtol=OFF):
        how = "in the mean" if np.allclose(seen.y[0], losses.sum() / len(t), rtol=OFF) else "as if they were of a class"
        yield Reason(
            "ignored_label_counted",
            f"Rows with the ignored label {int(label)} are counted {how}.",
            "",
            "divide by the number of rows that are left",
        )


def _short(value: Any) -> str:
    value = np.asarray(value)
    return f"{float(value):.7g}" if value.ndim == 0 else "[" + ", ".join(f"{v:.7g}" for v in value.reshape(-1)[:3]) + "]"
