"""Losses with a known defect: what a port computes that has one, from the same predictions and targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from arrayloss.frontend.loss import REGISTRY

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
    if scene.is_whole:
        yield from _activations(candidate, x, t)
        return
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
            yield (
                "sigmoid_for_softmax",
                "It takes the sigmoid of the true class, where the loss has a softmax.",
                lambda **c: losses_of(own(sigmoid(x[0]), t), power_of(candidate, c)),
            )
            yield "labels_shifted", "It compares every row with the label of the next one.", lambda **c: _next(candidate, observation, c)
        yield from _axes(candidate, observation)
    if given_logits and not scene.is_rows:
        yield "sigmoid_twice", "It applies sigmoid to what is a sigmoid already.", lambda **c: candidate.elements([sigmoid(x[0])], t, **c)
        if observation.layout.form == "N x C":
            text = "It has one softmax over the classes, where every class has a sigmoid of its own."
            for both in (False, True):
                yield "softmax_for_sigmoid", text, partial(_softmax_for_sigmoid, candidate, observation, both)
    if scene.targets == "labels":
        n = x[0].shape[-1]
        yield (
            "labels_shifted",
            "It takes label c for class c - 1, as if labels began at 1.",
            lambda **c: candidate.elements(x, (t - 1) % n, **c),
        )
        yield "labels_shifted", "It takes label c for class c + 1.", lambda **c: candidate.elements(x, (t + 1) % n, **c)
        text = "It takes label c for class c + 1, and has nothing for the last one."
        yield "labels_shifted", text, lambda **c: np.where(t + 1 < n, candidate.elements(x, (t + 1) % n, **c), 0.0)
    if "label_smoothing" in candidate.names and scene.targets in ("binary", "labels") and given_logits:
        yield from _smoothed(candidate, observation)
    if scene.is_rows and observation.targets is not None and observation.targets.ndim == 2:
        yield from _other_axes(candidate, observation)
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
            losses = losses_of(p, power_of(candidate, constants))
            return own(losses, t) if t.ndim == 1 else np.sum(losses * t, axis=-1)

        at = layout.class_axis if layout.class_axis == 1 else len(observation.batches[0].shape)
        yield "axis", f"It takes the classes along axis {axis}, where they are along axis {at}.", along


def _smoothed(candidate: Candidate, observation: Observation) -> Iterator[Defect]:
    """Ways of smoothing that are not those of the loss."""
    x, t = observation.predictions[0], observation.targets
    p = softmax(x) if candidate.scene.is_rows else sigmoid(x)
    n = p.shape[-1] if candidate.scene.is_rows else 2
    for shown in (0.05, 0.1, 0.2):
        for share, words in ((1.0, "{0:g} to every class"), (1 / (n - 1), "{0:g} / (C - 1) to the other classes")):

            def smoothed(shown: float = shown, share: float = share, **constants: Any) -> Array:
                size = constants.get("label_smoothing", 0.0) or shown
                power = power_of(candidate, constants)
                if candidate.scene.is_rows:
                    hot = np.eye(n)[t]
                    q = hot * (1 - size) + (size if share == 1 else (1 - hot) * size * share)
                    return np.sum(q * losses_of(p, power), axis=-1)
                q = t * (1 - size) + (size if share == 1 else (1 - t) * size)
                return q * losses_of(p, power) + (1 - q) * losses_of(1 - p, power)

            yield "label_smoothing", f"It smooths labels in another way: it adds {words.format(shown)}.", smoothed


def _other_axes(candidate: Candidate, observation: Observation) -> Iterator[Defect]:
    """The loss with its classes along another axis of the port's arrays, for targets that have all axes."""
    layout, loss = observation.layout, REGISTRY[candidate.loss]
    if "axis" not in loss.option_names or observation.lead:
        return
    count = len(observation.batches[0].shape) + 1
    at = range(count)[layout.class_axis] if layout.class_axis is not None else -1
    for axis in set(range(count)) - {at}:

        def along(axis: int = axis, **constants: Any) -> Array:
            spread = []
            for batch in observation.batches:
                losses = loss(*batch.arguments[: len(batch.arguments)], **{**candidate.options, **constants}, axis=axis, reduction="none")
                spread.append(np.full(len(batch.predictions[0]), losses.sum() / len(batch.predictions[0])))
            return np.concatenate(spread)

        if layout.targets_at == -1:
            yield "axis", f"It takes the classes along axis {axis}, where they are along axis {at}.", along


def clamped(candidate: Candidate, observation: Observation, constants: Mapping[str, float]) -> Iterator[tuple[str, float, Fit]]:
    """Clamps, and numbers added inside of the logarithm, with the value that fits best."""
    truth = of_truth(candidate, observation)
    ways: dict[str, Any] = (
        {} if truth is None else {c: partial(_of_truth, way, truth, power_of(candidate, constants)) for c, way in CLAMPS.items()}
    )
    x, t = observation.predictions, observation.targets
    if candidate.loss == "kl_divergence" and candidate.scene.domains[0] == "probs" and candidate.scene.targets == "distribution":
        ways["epsilon"] = lambda size: np.sum(t * np.log((t + size) / (x[0] + size)), axis=-1)
    if candidate.loss == "cosine_distance":
        ways["epsilon"] = lambda size: 1 - np.sum(x[0] * t, axis=-1) / (np.linalg.norm(x[0], axis=-1) * np.linalg.norm(t, axis=-1) + size)
    for code, way in ways.items():

        def of(log_size: float, way: Any = way) -> Fit:
            with np.errstate(all="ignore"):
                return observation.fit(way(10.0**log_size))

        grid = [-k / 2 for k in range(1, 20)]
        fits = [of(v) for v in grid]
        at = min(range(len(grid)), key=lambda i: fits[i].residual)
        low, high = grid[at] - 0.5, grid[at] + 0.5
        for _ in range(40):
            a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
            low, high = (low, b) if of(a).residual < of(b).residual else (a, high)
        size = _tidy(10.0 ** ((low + high) / 2))
        yield code.split(".")[0], size, of(np.log10(size))


def _of_truth(way: Any, truth: Array, power: float, size: float) -> Array:
    result: Array = way(truth, size, power)
    return result


def _clamp(p: Array, size: float, power: float) -> Array:
    return losses_of(np.clip(p, size, 1 - size), power)


def losses_of(p: Array, power: float = 0.0) -> Array:
    """-(1 - p)**power log(p)."""
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
    return losses_of(np.where(hot > 0, p, 1 - p), power_of(candidate, constants))


def _softmax_for_sigmoid(candidate: Candidate, observation: Observation, both: bool, **constants: float) -> Array:
    losses, power = [], power_of(candidate, constants)
    for batch in observation.batches:
        p, t = softmax(batch.predictions[0].reshape(batch.shape)), batch.targets.reshape(batch.shape)
        losses.append((t * losses_of(p, power) + both * (1 - t) * losses_of(1 - p, power)).reshape(-1))
    return np.concatenate(losses)


def _next(candidate: Candidate, observation: Observation, constants: Mapping[str, float]) -> Array:
    """Of rows with the labels of the next ones; the last row of a batch has none."""
    sizes = np.cumsum([len(b.targets) for b in observation.batches])
    losses = np.array(candidate.elements(observation.predictions, np.roll(observation.targets, -1), **constants))
    losses[sizes - 1] = 0.0
    return losses


def _activations(candidate: Candidate, x: Array, t: Array) -> Iterator[Defect]:
    """Of regions: an activation that is missing, applied twice, or another one."""
    activation = candidate.options["activation"]
    if activation is None:
        return
    makes = sigmoid if activation == "sigmoid" else lambda v: np.moveaxis(softmax(np.moveaxis(v, 1, -1)), -1, 1)
    bare = replace(candidate, options={**candidate.options, "activation": None})
    yield f"{activation}_missing", f"It takes logits for probabilities: a {activation} is missing.", lambda **c: bare.elements(x, t, **c)
    twice = [[makes(v) for v in x[0]]]
    text = f"It applies {activation} to what is a {activation} already."
    yield f"{activation}_twice", text, lambda **c: candidate.elements(twice, t, **c)
    if "axis" in candidate.options and all(v.shape[1] > 1 for v in x[0]):
        other = "softmax" if activation == "sigmoid" else "sigmoid"
        swapped = replace(candidate, options={**candidate.options, "activation": other})
        text = f"It takes a {other}, where the loss has a {activation}."
        yield f"{other}_for_{activation}", text, lambda **c: swapped.elements(x, t, **c)


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
