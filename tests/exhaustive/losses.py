"""The losses of the package as kinds of operation: one for every definition, kind of targets and set of options."""

from __future__ import annotations

from typing import Any

import numpy as np

from arrayloss.check.definitions import DEFINITIONS, Definition
from arrayloss.check.points import FRAMES, row_targets
from arrayloss.frontend.loss import REGISTRY
from tests.operations import Kind

Array = Any
SHAPE, IMAGE = (6, 3), (6, 3, 2)
ROWS = ("logits", "log_probs", "probs", "vectors")
SOFT = {
    "vectors": "vectors",
    "unit": "unit",
    "real": "real",
    "counts": "positive",
    "distribution": "probs",
    "logits": "logits",
    "log_probs": "log_probs",
}  # floating-point targets by the domain of predictions


def draw(domain: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Predictions away from kinks and from the ends of their domain."""
    x = rng.normal(size=shape) * 1.5
    if domain in ("positive", "above_minus_one"):
        return np.exp(x / 3) - (domain != "positive")
    if domain in ("unit", "mask_probs"):
        return rng.uniform(0.05, 0.95, size=shape)
    if domain in ("probs", "log_probs"):
        x = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
        return np.exp(x) if domain == "probs" else x
    return x


def draw_targets(targets: str, rng: np.random.Generator, shape: tuple[int, ...], is_row: bool) -> Array:
    """Labels, masks, or numbers."""
    if targets == "labels":
        return rng.integers(0, shape[1], size=(shape[0], *shape[2:]))
    if targets in ("lists", "relevance"):
        return row_targets(targets, shape, rng)
    if targets in ("binary", "signs"):
        t = rng.integers(0, 2, size=shape[:1] if is_row and targets == "signs" else shape)
        return t if targets == "binary" else 2 * t - 1
    return draw(SOFT[targets], rng, shape)


def kind_of(definition: Definition, targets: str, options: dict[str, Any]) -> Kind:
    """A loss with options. Softmax couples the channels of an element, so that masks and weights have one entry for all of them."""
    rng = np.random.default_rng(0)
    shape = IMAGE if definition.whole else SHAPE
    is_row, is_label = definition.predictions[0] in ROWS, targets in ("labels", "binary", "signs")
    is_smoothed = is_row and "label_smoothing" in options  # labels that become distributions
    axis = {"axis": 1} if is_row or any(isinstance(v, tuple) for v in options.values()) else {}
    return Kind(
        REGISTRY[definition.loss],
        () if targets == "none" else (draw_targets(targets, rng, shape, is_row),),
        {**options, **axis},
        elements=(shape[0],) if is_row else (shape[0], *(1,) * (len(shape) - 1)),
        predictions=len(definition.predictions),
        shape=shape,
        has_labels=is_label,
        is_overlap=definition.whole,
        has_hessian=_has_hessian(definition, is_label and not is_smoothed),
        arrays=tuple([draw(domain, rng, shape) for domain in definition.predictions]),
    )


def _has_hessian(definition: Definition, is_hard: bool) -> bool:
    promise = definition.hard if is_hard else definition.soft
    return promise is not None and promise.hess is not None


LOSSES = {
    "-".join([definition.loss, definition.given, targets, *[f"{n}={v}" for n, v in options.items()]]): kind_of(definition, targets, options)
    for definitions in DEFINITIONS.values()
    for definition in definitions
    if definition.predictions[0] not in FRAMES
    for targets in definition.targets
    for options in map(dict, definition.options)
}
