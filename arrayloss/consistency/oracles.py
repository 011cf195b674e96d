"""What every loss means, in mpmath: one row a loss, independent of the library's own formulas.

A row says where predictions and targets come from, which options are worth testing, and what the loss of one element (or of
one row of classes) is, written so that it keeps its digits at any magnitude. Derivatives are taken numerically from it at
high precision. Everything that is tested or checked for all losses finds them here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mpmath
from mpmath import mpf

DIGITS = 60
Number = Any


@dataclass(frozen=True)
class Oracle:
    """One loss: its domain and its definition.

    `predictions` names the domain of each: "real" (logits and numbers), "positive", "unit" (probabilities), and for losses of
    rows "logits", "log_probs" and "probs". `targets` names the kinds that the loss takes: "binary", "unit", "real", "labels",
    "distribution". `value` gets the predictions and the target of one element as mpf, of a row as lists of them (a label as
    an int), then the options.
    """

    value: Callable[..., Number]
    predictions: tuple[str, ...]
    targets: tuple[str, ...]
    options: tuple[Mapping[str, Any], ...] = field(default=({},))

    @property
    def rows(self) -> bool:
        """Whether the loss is one of rows of classes."""
        return self.predictions[0] in ("logits", "log_probs", "probs")


ORACLES: dict[str, list[Oracle]] = {}


def oracle(name: str, predictions: Sequence[str], targets: Sequence[str], *options: Mapping[str, Any]) -> Callable[..., Any]:
    """Enter a definition; a loss with two forms of predictions has two."""

    def enter(value: Callable[..., Number]) -> Callable[..., Number]:
        ORACLES.setdefault(name, []).append(Oracle(value, tuple(predictions), tuple(targets), options or ({},)))
        return value

    return enter


def softplus(x: Number) -> Number:
    return mpmath.log1p(mpmath.exp(x)) if x < 0 else x + mpmath.log1p(mpmath.exp(-x))


def sigmoid(x: Number) -> Number:
    return 1 / (1 + mpmath.exp(-x))


def times(a: Number, function: Callable[..., Number], *arguments: Any) -> Number:
    """a * function(*arguments), and 0 where a is 0 whatever the function is."""
    return mpf(0) if a == 0 else a * function(*arguments)


def binary_log_loss(p: Number, t: Number) -> Number:
    return -times(t, mpmath.log, p) - times(1 - t, mpmath.log1p, -p)


@oracle(
    "sigmoid_cross_entropy",
    ["real"],
    ["binary", "unit"],
    {},
    {"pos_weight": 3.0},
    {"label_smoothing": 0.25},
)
def sigmoid_cross_entropy(x: Number, t: Number, pos_weight: float = 1.0, label_smoothing: float = 0.0) -> Number:
    t = (1 - mpf(label_smoothing)) * t + mpf(label_smoothing) / 2
    return times(pos_weight * t, softplus, -x) + times(1 - t, softplus, x)


@oracle("binary_cross_entropy", ["unit"], ["binary", "unit"], {}, {"label_smoothing": 0.25})
def binary_cross_entropy(p: Number, t: Number, label_smoothing: float = 0.0) -> Number:
    return binary_log_loss(p, (1 - mpf(label_smoothing)) * t + mpf(label_smoothing) / 2)


@oracle(
    "sigmoid_focal_loss",
    ["real"],
    ["binary", "unit"],
    {},
    *({"gamma": g} for g in (0.0, 0.25, 0.5, 1.0, 5.0)),
    {"gamma": 1.5, "alpha": 0.25},
)
def sigmoid_focal_loss(x: Number, t: Number, gamma: float = 2.0, alpha: float | None = None) -> Number:
    scale = 1 if alpha is None else mpf(alpha) * t + (1 - mpf(alpha)) * (1 - t)
    miss = t * sigmoid(-x) + (1 - t) * sigmoid(x)
    return scale * miss ** mpf(gamma) * (times(t, softplus, -x) + times(1 - t, softplus, x))


@oracle("sigmoid_focal_loss", ["unit"], ["binary", "unit"], {"given": "probs"}, {"given": "probs", "gamma": 0.5, "alpha": 0.25})
def sigmoid_focal_loss_of_probs(p: Number, t: Number, given: str, gamma: float = 2.0, alpha: float | None = None) -> Number:
    scale = 1 if alpha is None else mpf(alpha) * t + (1 - mpf(alpha)) * (1 - t)
    return scale * (t * (1 - p) + (1 - t) * p) ** mpf(gamma) * binary_log_loss(p, t)


def row_terms(t: int | Sequence[Number], classes: int) -> list[Number]:
    """A label or a distribution as a list of weights."""
    return [mpf(c == t) for c in range(classes)] if isinstance(t, int) else list(t)


def log_loss_of_class(x: Sequence[Number], c: int) -> Number:
    """-log softmax(x)[c], with its digits."""
    others = sum((mpmath.exp(v - x[c]) for i, v in enumerate(x) if i != c), mpf(0))
    return mpmath.log1p(others)


def miss_of_class(x: Sequence[Number], c: int) -> Number:
    """1 - softmax(x)[c], with its digits."""
    others = sum((mpmath.exp(v - x[c]) for i, v in enumerate(x) if i != c), mpf(0))
    return others / (1 + others) if mpmath.isfinite(others) else mpf(1)


@oracle(
    "softmax_cross_entropy",
    ["logits"],
    ["labels", "distribution"],
    {},
    {"class_weights": (1.0, 3.0, 0.5)},
    {"label_smoothing": 0.125},
    {"class_weights": (1.0, 3.0, 0.5), "label_smoothing": 0.125},
)
def softmax_cross_entropy(x: Sequence[Number], t: Any, class_weights: Any = None, label_smoothing: float = 0.0) -> Number:
    e, n = mpf(label_smoothing), len(x)
    terms = [((1 - e) * w + e / n) * (1 if class_weights is None else class_weights[c]) for c, w in enumerate(row_terms(t, n))]
    return sum((times(w, log_loss_of_class, x, c) for c, w in enumerate(terms)), mpf(0))


def negative_log(x: Sequence[Number], t: Any, log: Callable[[Number], Number], class_weights: Any, label_smoothing: float) -> Number:
    e, n = mpf(label_smoothing), len(x)
    weights = [1] * n if class_weights is None else class_weights
    return -sum((times(((1 - e) * t_c + e / n) * w, log, v) for t_c, w, v in zip(row_terms(t, n), weights, x, strict=True)), mpf(0))


@oracle(
    "nll_loss",
    ["log_probs"],
    ["labels", "distribution"],
    {},
    {"class_weights": (1.0, 3.0, 0.5), "label_smoothing": 0.125},
)
def nll_loss(x: Sequence[Number], t: Any, class_weights: Any = None, label_smoothing: float = 0.0) -> Number:
    return negative_log(x, t, mpf, class_weights, label_smoothing)


@oracle(
    "nll_loss",
    ["probs"],
    ["labels", "distribution"],
    {"given": "probs"},
    {"given": "probs", "class_weights": (1.0, 3.0, 0.5), "label_smoothing": 0.125},
)
def nll_loss_of_probs(p: Sequence[Number], t: Any, given: str, class_weights: Any = None, label_smoothing: float = 0.0) -> Number:
    return negative_log(p, t, mpmath.log, class_weights, label_smoothing)


@oracle(
    "softmax_focal_loss",
    ["logits"],
    ["labels", "distribution"],
    {},
    *({"gamma": g} for g in (0.0, 0.25, 0.5, 1.0, 5.0)),
    {"gamma": 1.5, "alpha": (0.25, 2.0, 1.0)},
)
def softmax_focal_loss(x: Sequence[Number], t: Any, gamma: float = 2.0, alpha: Any = None) -> Number:
    def term(c: int) -> Number:
        return (1 if alpha is None else alpha[c]) * miss_of_class(x, c) ** mpf(gamma) * log_loss_of_class(x, c)

    return sum((times(w, term, c) for c, w in enumerate(row_terms(t, len(x)))), mpf(0))


@oracle(
    "softmax_focal_loss",
    ["probs"],
    ["labels", "distribution"],
    {"given": "probs"},
    {"given": "probs", "gamma": 0.5, "alpha": (0.25, 2.0, 1.0)},
)
def softmax_focal_loss_of_probs(p: Sequence[Number], t: Any, given: str, gamma: float = 2.0, alpha: Any = None) -> Number:
    def term(c: int) -> Number:
        return -(1 if alpha is None else alpha[c]) * (1 - p[c]) ** mpf(gamma) * mpmath.log(p[c])

    return sum((times(w, term, c) for c, w in enumerate(row_terms(t, len(p)))), mpf(0))


@oracle("squared_error", ["real"], ["real"])
def squared_error(x: Number, t: Number) -> Number:
    return (x - t) ** 2


@oracle("huber_loss", ["real"], ["real"], {}, {"delta": 0.25})
def huber_loss(x: Number, t: Number, delta: float = 1.0) -> Number:
    r, d = abs(x - t), mpf(delta)
    return r * r / 2 if r <= d else d * (r - d / 2)


@oracle("gaussian_nll_loss", ["real", "positive"], ["real"], {}, {"full": True})
def gaussian_nll_loss(x: Number, v: Number, t: Number, full: bool = False) -> Number:
    return (mpmath.log(v) + (x - t) ** 2 / v + (mpmath.log(2 * mpmath.pi) if full else 0)) / 2


def derivative(oracle: Oracle, predictions: Sequence[Any], target: Any, options: Mapping[str, Any], which: Any, order: int) -> Number:
    """A derivative of the loss of one element or row: `which` is the prediction, or (prediction, class) for rows."""
    index, position = which if isinstance(which, tuple) else (which, None)

    def moved(value: Number) -> Number:
        changed = list(predictions)
        if position is None:
            changed[index] = value
        else:
            changed[index] = [value if c == position else v for c, v in enumerate(changed[index])]
        return oracle.value(*changed, target, **options)

    at = predictions[index] if position is None else predictions[index][position]
    with mpmath.workdps(DIGITS):
        return mpmath.diff(moved, at, order)
