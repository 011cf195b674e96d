"""Losses with a known defect: what a port computes that has one, from the same predictions and targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .candidates import GOLDEN, Candidate
from .observe import Fit, Observation, _tidy

Array = Any
OF_PROBABILITIES = {"sigmoid_cross_entropy": "binary_cross_entropy", "softmax_cross_entropy": "nll_loss"}  # the same loss of probabilities
SIGMOIDS = ("sigmoid_cross_entropy", "binary_cross_entropy", "sigmoid_focal_loss")
SOFTMAXES = ("softmax_cross_entropy", "nll_loss", "softmax_focal_loss")
Defect = tuple[str, str, Callable[..., Array]]  # the code, what it is in words, and the losses of the elements of an observation


def defects(candidate: Candidate, observation: Observation) -> Iterator[Defect]:
    """The defects that a port of this loss may have, which are no constant and no factor."""
    x, t = observation.predictions, observation.targets
    scene = candidate.scene
    given_logits = candidate.loss in SIGMOIDS + SOFTMAXES and scene.domains[0] in ("real", "logits")
    if scene.is_rows and scene.domains[0] == "logits":
        yield "softmax_twice", "It applies softmax to what is a softmax already.", lambda **c: candidate.elements([softmax(x[0])], t, **c)
        if scene.targets == "labels":
            yield "softmax_missing", "It takes logits for log-probabilities: a log_softmax is missing.", lambda **c: -own(x[0], t)
            yield (
                "sigmoid_for_softmax",
                "It gives every class a sigmoid of its own, where the loss has one softmax.",
                lambda **c: one_sigmoid_each(candidate, x[0], t, c),
            )
        yield from _axes(candidate, observation)
    if given_logits and not scene.is_rows:
        yield "sigmoid_twice", "It applies sigmoid to what is a sigmoid already.", lambda **c: candidate.elements([sigmoid(x[0])], t, **c)
        if observation.layout.form == "N x C":
            text = "It has one softmax over the classes, where every class has a sigmoid of its own."
            yield "softmax_for_sigmoid", text, lambda **c: _softmax_for_sigmoid(candidate, observation, c)
    if scene.targets == "labels":
        n = x[0].shape[-1]
        yield (
            "labels_shifted",
            "It takes label c for class c - 1, as if labels began at 1.",
            lambda **c: candidate.elements(x, (t - 1) % n, **c),
        )
        yield "labels_shifted", "It takes label c for class c + 1.", lambda **c: candidate.elements(x, (t + 1) % n, **c)
    if scene.targets in ("binary", "signs") and not scene.is_rows:
        text = "It takes positives for negatives and the other way round."
        yield "sign", text, lambda **c: candidate.elements(x, 1 - t if scene.targets == "binary" else -t, **c)
    if scene.targets in ("real", "counts", "unit") and len(x) == 1:
        yield (
            "another_loss",
            "It takes predictions for targets and targets for predictions.",
            lambda **c: candidate.elements([t], x[0], **c),
        )


def _axes(candidate: Candidate, observation: Observation) -> Iterator[Defect]:
    """Softmax along another axis of the port's arrays."""
    layout = observation.layout
    for axis in range(len(observation.batches[0].shape) + 1):
        if axis == layout.class_axis or (layout.class_axis == -1 and axis == len(observation.batches[0].shape)):
            continue

        def along(axis: int = axis, **constants: Any) -> Array:
            x = []
            for batch in observation.batches:
                rows = batch.arguments[layout.prediction_at]
                shifted = rows - np.log(np.sum(np.exp(rows), axis=axis, keepdims=True))
                shifted = shifted if layout.class_axis == -1 else np.moveaxis(shifted, 1, -1)
                x.append(shifted.reshape(-1, rows.shape[layout.class_axis]))
            p, t = np.exp(np.concatenate(x)), observation.targets
            power = constants.get("gamma", candidate.constants.get("gamma", 0.0))
            losses = -((1 - p) ** power) * np.log(p)
            return own(losses, t) if t.ndim == 1 else np.sum(losses * t, axis=-1)

        at = layout.class_axis if layout.class_axis == 1 else len(observation.batches[0].shape)
        yield "axis", f"It takes the classes along axis {axis}, where they are along axis {at}.", along


def clamped(candidate: Candidate, observation: Observation, constants: Mapping[str, float]) -> Iterator[tuple[str, float, Fit]]:
    """Clamps, and numbers added inside of the logarithm, with the value that fits best."""
    truth = of_truth(candidate, observation)
    if truth is None:
        return
    for code, way in CLAMPS.items():

        def of(log_size: float, way: Any = way) -> Fit:
            with np.errstate(all="ignore"):
                return observation.fit(way(truth, 10.0**log_size, power_of(candidate, constants)))

        grid = [-k / 2 for k in range(1, 20)]
        fits = [of(v) for v in grid]
        at = min(range(len(grid)), key=lambda i: fits[i].residual)
        low, high = grid[at] - 0.5, grid[at] + 0.5
        for _ in range(40):
            a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
            low, high = (low, b) if of(a).residual < of(b).residual else (a, high)
        size = _tidy(10.0 ** ((low + high) / 2))
        yield code.split(".")[0], size, of(np.log10(size))


def _clamp(p: Array, size: float, power: float) -> Array:
    p = np.clip(p, size, 1 - size)
    return -((1 - p) ** power) * np.log(p)


CLAMPS: dict[str, Callable[[Array, float, float], Array]] = {
    "clamp": _clamp,
    "clamp.log": lambda p, size, power: -((1 - p) ** power) * np.log(np.clip(p, size, 1 - size)),
    "epsilon": lambda p, size, power: -((1 - p) ** power) * np.log(p + size),
    "epsilon.all": lambda p, size, power: -((1 - p - size) ** power) * np.log(p + size),
}


def of_truth(candidate: Candidate, observation: Observation) -> Array:
    """The probability of the true class, where targets are classes; else None."""
    x, t = observation.predictions[0], observation.targets
    if candidate.loss in SIGMOIDS and candidate.scene.targets == "binary":
        p = x if candidate.scene.domains[0] == "unit" else sigmoid(x)
        return np.where(t > 0, p, 1 - p)
    if candidate.loss in SOFTMAXES and candidate.scene.targets == "labels" and candidate.scene.domains[0] in ("logits", "probs"):
        return own(x if candidate.scene.domains[0] == "probs" else softmax(x), t)
    return None


def power_of(candidate: Candidate, constants: Mapping[str, float]) -> float:
    """The gamma of a focal loss; of others 0."""
    return float(constants.get("gamma", candidate.constants.get("gamma", 0.0)))


def one_sigmoid_each(candidate: Candidate, x: Array, t: Array, constants: Mapping[str, float]) -> Array:
    """Losses of a sigmoid for every class, of labels."""
    p = sigmoid(x)
    hot = np.eye(x.shape[-1])[t]
    p = np.where(hot > 0, p, 1 - p)
    return -((1 - p) ** power_of(candidate, constants)) * np.log(p)


def _softmax_for_sigmoid(candidate: Candidate, observation: Observation, constants: Mapping[str, float]) -> Array:
    losses, power = [], power_of(candidate, constants)
    for batch in observation.batches:
        p, t = softmax(batch.predictions[0].reshape(batch.shape)), batch.targets.reshape(batch.shape)
        losses.append((-t * (1 - p) ** power * np.log(p)).reshape(-1))
    return np.concatenate(losses)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    """Along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def own(x: Array, labels: Array) -> Array:
    """The entry of the label of every row."""
    return np.take_along_axis(x, labels[:, None], axis=-1)[:, 0]
