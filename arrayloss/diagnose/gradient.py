"""Whether the gradient of a port is the slope of its value, and what it is where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from arrayloss.frontend.loss import REGISTRY

from .candidates import Candidate, candidates
from .defects import of_truth, power_of, sigmoid
from .explain import Case, Explanation
from .layouts import Batch
from .observe import Observation
from .result import Reason

Array = Any
STEP, CLOSE = 1e-4, 2e-3


def gradients(case: Case, e: Explanation) -> Iterator[Reason]:
    """The reasons that the gradient gives."""
    if not case.port.library.has_autograd:
        return
    o = e.observation
    one = o.batches[2] if len(o.batches) > 2 else o.batches[0]
    at = e.layout.prediction_at
    try:
        g = case.port.gradient(one.arguments, at)
    except Exception as error:
        line = str(error).strip().splitlines()[0][:110] if str(error).strip() else ""
        if "does not require grad" in line or "not have a grad_fn" in line:
            yield Reason(
                "zero_gradient",
                "There is no gradient: the value is detached from the predictions.",
                "",
                "do not detach, and keep to arrays of the library",
            )
        else:
            yield Reason("wrong_gradient", f"Its gradient cannot be had: {type(error).__name__}: {line}")
        return
    slope = _slope(case, one, at)
    scale = float(np.abs(slope).max()) or 1.0
    if not np.isfinite(g).all():
        yield Reason("wrong_gradient", "Its gradient is not finite where its value is.", _shown(one, at, g, slope))
        return
    if np.allclose(g, slope, rtol=CLOSE, atol=CLOSE * scale):
        return
    shown = _shown(one, at, g, slope)
    if not np.any(np.abs(g) > 1e-6 * scale):
        yield Reason("zero_gradient", "The gradient is 0 everywhere.", shown, "the value is detached, rounded or compared somewhere")
        return
    k = float(np.vdot(g, slope) / np.vdot(slope, slope))
    if np.allclose(g, k * slope, rtol=CLOSE, atol=CLOSE * scale) and abs(k) > 1e-6:
        yield Reason("wrong_gradient", f"The gradient is {k:.5g} times the slope of the value.", shown)
        return
    for name, text, part in _others(e, one):
        if _is_multiple(part, g, one):
            yield Reason(name, text, shown, "differentiate the whole value" if name == "detached" else "")
            return
    yield Reason("wrong_gradient", "The gradient is not the slope of the value.", shown)


def _slope(case: Case, one: Batch, at: int) -> Array:
    """Central differences of the sum of what the port returns, for every entry of the predictions."""
    x = one.arguments[at]
    slope = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        values = []
        for step in (STEP, -STEP):
            moved = x.copy()
            moved[index] += step
            arguments = [*one.arguments]
            arguments[at] = moved
            values.append(float(np.sum(case.port.value(arguments))))
        slope[index] = (values[0] - values[1]) / (2 * STEP)
    return slope


def _others(e: Explanation, one: Batch) -> Iterator[tuple[str, str, Array]]:
    """Gradients that a port has by mistake: of a part of the value, or of another loss."""
    if e.layout.scene.is_whole:
        if e.candidate.loss == "dice_loss" and e.candidate.options["activation"] == "sigmoid":
            yield "detached", "The gradient takes the sum below the line for a constant: it is detached.", _above_the_line(e, one)
        return
    single = Observation(e.layout, [one], [np.zeros(())])
    truth = of_truth(e.candidate, single)
    power = power_of(e.candidate, e.constants)
    if truth is not None and power:
        frozen = (1 - truth) ** power
        log = _numeric(lambda x: _log_truth(e.candidate, one, x), one)
        yield "detached", "The gradient takes the factor (1 - p)^gamma for a constant: it is detached.", _times(frozen, log)
        weight = _numeric(lambda x: -((1 - _truth(e.candidate, one, x)) ** power), one)
        yield "detached", "The gradient takes the cross-entropy for a constant: it is detached.", _times(-np.log(truth), weight)
    for name in REGISTRY:
        for other in candidates(name):
            if other.scene == e.candidate.scene and name != e.candidate.loss:
                try:
                    part = _numeric(partial(_elements, other, one), one)
                except (ValueError, TypeError, NotImplementedError):
                    continue
                call = name + ("" if not other.options else f"({', '.join(f'{n}={v!r}' for n, v in other.options.items())})")
                yield "gradient_of_another", f"The gradient is that of {call}.", part


def _above_the_line(e: Explanation, one: Batch) -> Array:
    """The gradient of a Dice loss whose denominator does not move."""
    x, t = one.predictions[0], one.targets
    p = sigmoid(x)
    axes = tuple(range(1, x.ndim)) if e.candidate.options["pool"] == "samples" else None
    below = np.sum(p + t, axis=axes, keepdims=True) + e.constants.get("smooth", 1.0)
    return -2 * t * p * (1 - p) / below


def _elements(candidate: Candidate, one: Batch, x: Array) -> Array:
    return candidate.elements([x, *one.predictions[1:]], one.targets)


def _truth(candidate: Candidate, one: Batch, x: Array) -> Array:
    return of_truth(candidate, Observation(one.layout, [one.with_predictions(x)], [np.zeros(())]))


def _log_truth(candidate: Candidate, one: Batch, x: Array) -> Array:
    return -np.log(_truth(candidate, one, x))


def _numeric(losses: Callable[[Array], Array], one: Batch) -> Array:
    """Slopes of the sum of the losses of elements or rows, in the shape of the predictions."""
    x = one.predictions[0]
    if x.ndim == 1:
        return (losses(x + STEP) - losses(x - STEP)) / (2 * STEP)
    columns = []
    for c in range(x.shape[-1]):
        step = np.zeros(x.shape)
        step[..., c] = STEP
        columns.append(((losses(x + step) - losses(x - step)) / (2 * STEP)).reshape(len(x), -1).sum(axis=-1))
    return np.stack(columns, axis=-1)


def _times(factor: Array, slopes: Array) -> Array:
    return factor[:, None] * slopes if slopes.ndim > 1 else factor * slopes


def _is_multiple(part: Array, g: Array, one: Batch) -> bool:
    """Whether a gradient is a multiple of another one, one for each class of targets."""
    if not np.isfinite(part).all():
        return False
    if one.layout.scene.is_whole:
        k = float(np.vdot(part, g) / np.vdot(part, part))
        return np.allclose(k * part, g, rtol=CLOSE, atol=CLOSE * float(np.abs(g).max()))
    mine = Batch(one.layout, one.shape, (part, *one.predictions[1:]), one.targets).arguments[one.layout.prediction_at]
    observation = Observation(one.layout, [one], [np.zeros(())])
    classes = Batch(
        one.layout, one.shape, (np.broadcast_to(_column(observation.classes, part), part.shape), *one.predictions[1:]), one.targets
    )
    of = classes.arguments[one.layout.prediction_at]
    scale = float(np.abs(g).max())
    for c in np.unique(of):
        a, b = mine[of == c], g[of == c]
        k = float(a @ b / (a @ a)) if a.any() else 0.0
        if abs(k) < 1e-9 or not np.allclose(k * a, b, rtol=CLOSE, atol=CLOSE * scale):
            return False
    return True


def _column(classes: Array, part: Array) -> Array:
    return classes[:, None] if part.ndim > 1 else classes


def _shown(one: Batch, at: int, g: Array, slope: Array) -> str:
    """The entry that is off most."""
    index = np.unravel_index(int(np.argmax(np.abs(np.nan_to_num(g, nan=np.inf) - slope))), slope.shape)
    where = f" at x = {one.arguments[at][index]:.5g}"
    return f"gradient{where}: {g[index]:.6g}\nslope of the value: {slope[index]:.6g}"
