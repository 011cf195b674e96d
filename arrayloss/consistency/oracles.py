"""What every loss means, in mpmath: one row a loss, independent of the library's own formulas.

A row says where predictions and targets come from, which options are worth testing, and what the loss of one element (or of
one row of classes) is, written so that it keeps its digits at any magnitude. Derivatives follow from it by the rules of
differentiation, at the same precision. Everything that is tested or checked for all losses finds them here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mpmath
from mpmath import mpf

from .jets import Jet, Row, log, log1p, log_cosh, sigmoid, softplus

DIGITS = 60
NEARLY_EQUAL = 420  # for what float64 holds of the square of a tiny difference
Number = Any


@dataclass(frozen=True)
class Oracle:
    """One loss: its domain and its definition.

    `predictions` names the domain of each: "real" (logits and numbers), "positive", "unit" (probabilities), and for losses of
    rows "logits", "log_probs" and "probs". `targets` names the kinds that the loss takes: "binary", "unit", "real", "labels",
    "distribution", "logits". `value` gets the predictions and the target of one element as mpf, of a row as lists of them (a label as
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


def times(a: Number, function: Callable[..., Number], *arguments: Any) -> Number:
    """a * function(*arguments), and 0 where a is 0 whatever the function is."""
    return mpf(0) if a == 0 else a * function(*arguments)


def binary_log_loss(p: Number, t: Number) -> Number:
    return -times(t, log, p) - times(1 - t, log1p, -p)


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
    e, n, row = mpf(label_smoothing), len(x), Row(x)
    terms = [((1 - e) * w + e / n) * (1 if class_weights is None else class_weights[c]) for c, w in enumerate(row_terms(t, n))]
    return sum((times(w, row.log_loss, c) for c, w in enumerate(terms)), mpf(0))


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
    return negative_log(x, t, lambda v: v, class_weights, label_smoothing)


@oracle(
    "nll_loss",
    ["probs"],
    ["labels", "distribution"],
    {"given": "probs"},
    {"given": "probs", "class_weights": (1.0, 3.0, 0.5), "label_smoothing": 0.125},
)
def nll_loss_of_probs(p: Sequence[Number], t: Any, given: str, class_weights: Any = None, label_smoothing: float = 0.0) -> Number:
    return negative_log(p, t, log, class_weights, label_smoothing)


@oracle(
    "softmax_focal_loss",
    ["logits"],
    ["labels", "distribution"],
    {},
    *({"gamma": g} for g in (0.0, 0.25, 0.5, 1.0, 5.0)),
    {"gamma": 1.5, "alpha": (0.25, 2.0, 1.0)},
)
def softmax_focal_loss(x: Sequence[Number], t: Any, gamma: float = 2.0, alpha: Any = None) -> Number:
    row = Row(x)

    def term(c: int) -> Number:
        return (1 if alpha is None else alpha[c]) * row.miss(c) ** mpf(gamma) * row.log_loss(c)

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
        return -(1 if alpha is None else alpha[c]) * (1 - p[c]) ** mpf(gamma) * log(p[c])

    return sum((times(w, term, c) for c, w in enumerate(row_terms(t, len(p)))), mpf(0))


@oracle("kl_divergence", ["logits"], ["logits"])
def kl_divergence(x: Sequence[Number], t: Sequence[Number]) -> Number:
    with mpmath.workdps(NEARLY_EQUAL):
        row, target = Row(x), Row(t)
        gaps = [row.log_loss(c) - target.log_loss(c) if p else mpf(0) for c, p in enumerate(target.p)]  # log(p / q)
        value = sum((times(p, lambda g: g, g) for p, g in zip(target.p, gaps, strict=True)), mpf(0))
        if not isinstance(value, Jet):
            return value
        # The slope q - p is p times a log-ratio, as far as that is small: a difference from its own mean, and from the loss
        away = [(g.orders[0] if isinstance(g, Jet) else g) - value.orders[0] for g in gaps]
        mean = sum((times(p, abs, a) for p, a in zip(target.p, away, strict=True)), mpf(0))
        term = target.p[row.moving] * min(1, abs(away[row.moving]) + mean + value.orders[0])
        return Jet(value.orders, (value.orders[0], max(term, abs(value.orders[1])), value.orders[2]))


@oracle("squared_error", ["real"], ["real"])
def squared_error(x: Number, t: Number) -> Number:
    return (x - t) ** 2


@oracle("huber_loss", ["real"], ["real"], {}, {"delta": 0.25})
def huber_loss(x: Number, t: Number, delta: float = 1.0) -> Number:
    r, d = abs(x - t), mpf(delta)
    return r * r / 2 if r <= d else d * (r - d / 2)


@oracle("log_cosh_loss", ["real"], ["real"])
def log_cosh_loss(x: Number, t: Number) -> Number:
    return log_cosh(x - t)


@oracle("gaussian_nll_loss", ["real", "positive"], ["real"], {}, {"full": True})
def gaussian_nll_loss(x: Number, v: Number, t: Number, full: bool = False) -> Number:
    return (log(v) + (x - t) ** 2 / v + (mpmath.log(2 * mpmath.pi) if full else 0)) / 2


def jet(oracle: Oracle, predictions: Sequence[Any], target: Any, options: Mapping[str, Any], which: Any) -> Jet:
    """The loss of one element or row with its first two derivatives: `which` is the prediction, or (prediction, class) for rows."""
    with mpmath.workdps(DIGITS):
        moved = list(predictions)
        if isinstance(which, tuple):
            index, position = which
            moved[index] = [Jet.variable(v) if c == position else v for c, v in enumerate(moved[index])]
        else:
            moved[which] = Jet.variable(moved[which])
        result = oracle.value(*moved, target, **options)
        return result if isinstance(result, Jet) else Jet((result, mpf(0), mpf(0)))


def derivative(oracle: Oracle, predictions: Sequence[Any], target: Any, options: Mapping[str, Any], which: Any, order: int) -> Number:
    """A derivative of the loss of one element or row."""
    return jet(oracle, predictions, target, options, which).orders[order]
