"""Kinds of operation and paths through the machinery, as data. A case is one of each; a loss stands for its kind only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import pytest

import arrayloss as al
from arrayloss import define
from arrayloss.define import special

from .helpers import BACKENDS, Backend, several

Array = Any
Convert = Callable[[Array], Array]
SAMPLES, CLASSES = 6, 3
_RANDOM = np.random.default_rng(0)

PREDICTIONS = _RANDOM.normal(size=(SAMPLES, CLASSES))
DECISIONS = (_RANDOM.random((SAMPLES, CLASSES)) < 0.4).astype(float)
LABELS = _RANDOM.integers(0, CLASSES, SAMPLES)
DISTRIBUTIONS = _RANDOM.dirichlet(np.ones(CLASSES), SAMPLES)
WEIGHTS, MASK = np.linspace(0.5, 1.5, SAMPLES), np.array([1, 0, 1, 0, 0, 1], bool)


def _normal(xp: Any, mean: Array, log_scale: Array, t: Array) -> Iterator[Any]:
    r = (t - mean) * xp.exp(-log_scale)
    yield r * r / 2 + log_scale
    yield -r * xp.exp(-log_scale), 1 - r * r
    yield xp.exp(-2 * log_scale), 2 * r * r


@define.loss
def normal_loss(predictions: Array, log_scale: Array, targets: Array, **options: Unpack[define.ElementOptions]) -> Any:
    """Of two predictions: mean and logarithm of the scale of a normal distribution."""
    return define.elementwise(_normal, {"predictions": predictions, "log_scale": log_scale}, targets, options)


def _norm(xp: Any, x: Array, t: Array, axes: tuple[int, ...]) -> Iterator[Any]:
    r = x - t
    length = xp.sqrt(1 + xp.sum(r * r, axis=axes, keepdims=True))
    yield length
    yield r / length
    yield 1 / length - (r / length) ** 2 / length


@define.loss
def norm_loss(predictions: Array, targets: Array, **options: Unpack[define.ElementOptions]) -> Any:
    """Of sequences: the smoothed length of the error of a whole sequence."""
    return define.sequences(_norm, predictions, targets, options, event_axes=(1, 2))


def _info_nce(xp: Any, query: Array, key: Array) -> Iterator[Any]:
    logits = xp.matmul(query, xp.matrix_transpose(key))
    p = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
    p = p / xp.sum(p, axis=1, keepdims=True)
    own = xp.astype(special.arange_along(xp, logits, 0) == special.arange_along(xp, logits, 1), query.dtype)
    yield -xp.log(xp.sum(own * p, axis=1, keepdims=True))

    def pullback(g: Array) -> tuple[Array, Array]:
        g = g * (p - own)
        return xp.matmul(g, key), xp.matmul(xp.matrix_transpose(g), query)

    yield pullback


@define.loss
def info_nce_loss(query: Array, key: Array, **options: Unpack[define.ElementOptions]) -> Any:
    """Of pairs, coupled: every query is to find its key among the keys of the batch."""
    return define.coupled(_info_nce, {"query": query, "key": key}, options, elements=0, additive=False)


@dataclass(frozen=True, eq=False)
class Kind:
    """A loss that stands for a kind of operation, with its targets and options; axis 0 of all arrays counts samples."""

    loss: Any
    targets: tuple[Array, ...]
    options: dict[str, Any] = field(default_factory=dict)
    elements: tuple[int, ...] = (SAMPLES, 1)  # the shape of weights and masks with one entry for every sample
    predictions: int = 1
    shape: tuple[int, ...] = (SAMPLES, CLASSES)
    has_labels: bool = False
    is_overlap: bool = False  # the unreduced loss has no samples
    is_coupled: bool = False  # there are no parts, and a masked sample takes part in the losses of others
    has_hessian: bool = True
    arrays: tuple[Array, ...] = ()  # the predictions, where not any numbers will do

    @property
    def stack(self) -> Array:
        """The predictions, one behind the other."""
        arrays = self.arrays or (PREDICTIONS.reshape(self.shape), PREDICTIONS[::-1].reshape(self.shape) / 2)
        return np.stack(arrays[: self.predictions])

    @property
    def samples(self) -> int:
        """How many there are."""
        return self.shape[0]

    def per_sample(self, values: Array) -> Array:
        """An array with one entry for every sample, of the first `values`, in the shape of weights and masks."""
        return values[: self.samples].reshape(self.elements)

    @property
    def x(self) -> Array:
        """The prediction; several are stacked."""
        return self.stack[0] if self.predictions == 1 else self.stack


ROWS: dict[str, Any] = {"elements": (SAMPLES,), "has_labels": True}
OVERLAP: dict[str, Any] = {"is_overlap": True, "has_hessian": False}
KINDS = {
    "elementwise": Kind(al.huber_loss, (DECISIONS,)),
    "binary": Kind(al.sigmoid_cross_entropy, (DECISIONS.astype(int),), has_labels=True),
    "array parameters": Kind(al.sigmoid_focal_loss, (DECISIONS,), {"gamma": np.asarray(1.5), "alpha": (0.2, 0.3, 0.4), "axis": 1}),
    "several predictions": Kind(normal_loss, (DISTRIBUTIONS,), predictions=2),
    "labels": Kind(al.softmax_cross_entropy, (LABELS,), **ROWS),
    "class weights": Kind(al.softmax_cross_entropy, (LABELS,), {"class_weights": (1.0, 2.0, 3.0)}, **ROWS),
    "smoothed": Kind(al.softmax_cross_entropy, (LABELS,), {"label_smoothing": 0.1, "class_weights": (1.0, 2.0, 3.0)}, **ROWS),
    "distribution": Kind(al.softmax_cross_entropy, (DISTRIBUTIONS,), {"axis": -1}, elements=(SAMPLES,)),
    "overlap": Kind(al.dice_loss, (LABELS,), {"activation": "softmax", "axis": 1}, has_labels=True, **OVERLAP),
    "overlap of masks": Kind(al.dice_loss, (DECISIONS.astype(int),), {"activation": "sigmoid"}, has_labels=True, **OVERLAP),
    "sequence": Kind(norm_loss, (DECISIONS.reshape(2, 3, 3),), elements=(2,), shape=(2, 3, 3)),
    "coupled": Kind(info_nce_loss, (), elements=(SAMPLES,), predictions=2, is_coupled=True, has_hessian=False),
}


def _weighted(kind: Kind) -> dict[str, Any]:
    return {"weights": kind.per_sample(WEIGHTS)}


def _masked(kind: Kind) -> dict[str, Any]:
    return {"where": kind.per_sample(MASK)}


PATHS: dict[str, Callable[[Kind], dict[str, Any]]] = {
    "mean": lambda kind: {},
    "sum": lambda kind: {"reduction": "sum"},
    "none": lambda kind: {"reduction": "none"},
    "weighted": _weighted,
    "masked": _masked,
    "ignored": lambda kind: {"ignore_index": 1} if kind.has_labels else {"normalizer": "count"},
    "weighted and masked": lambda kind: {**_weighted(kind), **_masked(kind)},
    "combination": _weighted,
}


@dataclass(frozen=True, eq=False)
class Case:
    """A kind of operation on a path."""

    kind: Kind
    path: str

    @cached_property
    def loss(self) -> Any:
        """The loss; on the path of combinations a weighted sum of it and of another reduction of it."""
        bound = self.kind.loss.bind(**self.kind.options)
        return bound / 2 + bound.bind(reduction="sum") if self.path == "combination" else self.kind.loss

    def arguments(self, convert: Convert) -> tuple[tuple[Array, ...], dict[str, Any]]:
        """Targets and options, with arrays of a library."""
        options = {**PATHS[self.path](self.kind), **({} if self.path == "combination" else self.kind.options)}
        options = {name: convert(value) if isinstance(value, np.ndarray) else value for name, value in options.items()}
        return tuple(map(convert, self.kind.targets)), options

    def function(self, convert: Convert = np.asarray) -> Callable[[Array], Array]:
        """The loss as a function of its prediction, or of the stack of its predictions."""
        loss, (targets, options) = self.loss, self.arguments(convert)
        return lambda x: loss(*self.unstack(x), *targets, **options)

    def total(self, convert: Convert = np.asarray) -> Callable[[Array], Array]:
        """The sum of what the loss returns."""
        function = self.function(convert)
        return lambda x: function(x).sum()

    def value_and_grad(self, xp: Backend) -> tuple[Array, Array]:
        """By the method of that name, in NumPy's arrays; the gradients of several predictions are stacked."""
        targets, options = self.arguments(xp.array)
        value, gradient = self.loss.value_and_grad(*self.unstack(xp.array(self.kind.x)), *targets, **options)
        return xp.numpy(value), np.reshape([xp.numpy(g) for g in several(gradient)], self.kind.x.shape)

    @cached_property
    def reference(self) -> tuple[Array, Array]:
        """Value and gradient by NumPy, which the tests of formulas hold."""
        with al.use_engine("numpy"):
            return self.value_and_grad(BACKENDS["numpy"])

    def unstack(self, x: Array) -> tuple[Array, ...]:
        """Predictions from their stack."""
        return (x,) if self.kind.predictions == 1 else tuple([x[i, ...] for i in range(self.kind.predictions)])


CASES = {f"{kind}-{path}": Case(KINDS[kind], path) for kind in KINDS for path in PATHS}


def additive_of(cases: dict[str, Case]) -> dict[str, Case]:
    """Those that have parts."""
    return {name: case for name, case in cases.items() if not case.kind.is_coupled and case.path != "none"}


def sample_of(cases: dict[str, Case], *kinds: str, paths: tuple[str, ...] = ("weighted and masked",)) -> list[Any]:
    """Cases as parameters; those outside of the sample are exhaustive. The sample: some kinds on all paths, all kinds on some paths."""
    chosen = {name: case.path in paths or name.startswith(tuple([f"{kind}-" for kind in kinds])) for name, case in cases.items()}
    return [pytest.param(case, id=name, marks=() if chosen[name] else pytest.mark.exhaustive) for name, case in cases.items()]
