"""What every loss means, in mpmath, independent of the library's own formulas; and how accurate the loss promises to be.

One definition for each loss and kind of predictions. It says what predictions and targets are, which options are worth testing, and what
the loss of one element is, written so that it keeps its digits at any magnitude. Derivatives follow by the rules of differentiation
(`jets`) at the same precision. Whatever is tested or checked for all losses is found here.

Domains of predictions and kinds of targets are those of `points`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from . import overlaps  # enters its definitions, as `margins` does
from .evaluate import DEFINITIONS, QUANTITIES, Definition, define, definition_of
from .jets import Jet, Row, exp, log, log1p, log_cosh, number, sigmoid, softplus, tanh, times
from .margins import CLIP, CROSS_ENTROPY, WEIGHTS, clipped, gap, shares
from .promises import LOG1P, POWER, PRIMITIVES, ZEROS, Bound, Promise, within_spread

__all__ = ["DEFINITIONS", "QUANTITIES", "Bound", "Definition", "Promise", "define", "definition_of", "overlaps"]

Number = Any
Numbers = Sequence[Number]
SMOOTHED = {"label_smoothing": 0.125}
GAMMAS = [{"gamma": g} for g in (0.0, 0.25, 0.5, 1.0, 5.0)]
PROBS = {"given": "probs"}
NEARLY_EQUAL = 420  # digits for what float64 resolves of the square of a tiny difference


# -- yes/no decisions ----------------------------------------------------------------------------------------------------


def mixed(t: Number, yes: Callable[[], Number], no: Callable[[], Number]) -> Number:
    """The loss of a soft target: t yes + (1 - t) no."""
    return times(t, yes) + times(1 - t, no)


def smoothed(t: Number, label_smoothing: float = 0.0) -> Number:
    """A target between 0 and 1 moved towards 1/2."""
    return (1 - mpf(label_smoothing)) * t + mpf(label_smoothing) / 2


def alpha_of(t: Number, alpha: float | None) -> Number:
    """The factor of a focal loss: alpha of targets that are 1, 1 - alpha of those that are 0."""
    return 1 if alpha is None else mpf(alpha) * t + (1 - mpf(alpha)) * (1 - t)


ROUNDED = Bound(4, 2.5, "2 without pos_weight, which is rounded once more")
SIGMOID, SIGMOID_SOFT = Promise(ROUNDED, ROUNDED, Bound(5, 4)), Promise(Bound(4, 4), Bound(4, 4), Bound(5, 4)).with_zeros()
DECISION = "binary unit"


@define("sigmoid_cross_entropy", "real", DECISION, {}, {"pos_weight": 3.0}, {"label_smoothing": 0.25}, promise=SIGMOID, soft=SIGMOID_SOFT)
def sigmoid_cross_entropy(x: Number, t: Number, pos_weight: float = 1.0, label_smoothing: float = 0.0) -> Number:
    return mixed(smoothed(t, label_smoothing), lambda: pos_weight * softplus(-x), lambda: softplus(x))


BINARY = Promise(Bound(4, 2, LOG1P, extra={"jax float64": 26}), Bound(4, 2), Bound(4, 4))
BINARY_SOFT = Promise(Bound(4, 5, LOG1P, extra={"jax float64": 26}), Bound(4, 4), Bound(4, 4)).with_zeros()


@define("binary_cross_entropy", "unit", DECISION, {}, {"label_smoothing": 0.25}, {"clip": 2.0**-10}, promise=BINARY, soft=BINARY_SOFT)
def binary_cross_entropy(p: Number, t: Number, label_smoothing: float = 0.0, clip: float = 0.0) -> Number:
    p = clipped(p, clip)
    return mixed(smoothed(t, label_smoothing), lambda: -log(p), lambda: -log1p(-p))


EXP = {"numpy float32": 2.0, "jax float64": 4.0}
FOCAL_HESS = Bound(6, 5.5, POWER, 1.4, underflow=14), Bound(8, 8, PRIMITIVES, 1.6, extra={"numpy float32": 2.0}, underflow=14)
FADING = Promise(Bound(5.4, 3.5, PRIMITIVES, 1.32, extra=EXP), Bound(6, 4.5, PRIMITIVES, 1.4, extra=EXP), FOCAL_HESS[0].with_zeros())
FADING_SOFT = Promise(Bound(6, 6, PRIMITIVES, 1.6, extra=EXP), Bound(7, 7, PRIMITIVES, 1.6, extra=EXP), FOCAL_HESS[1].with_zeros())
ALPHA, SLIGHTLY = {"gamma": 1.5, "alpha": 0.25}, {"label_smoothing": 0.0625}


@define("sigmoid_focal_loss", "real", DECISION, {}, *GAMMAS, ALPHA, SLIGHTLY, promise=FADING, soft=FADING_SOFT.with_zeros())
def sigmoid_focal_loss(x: Number, t: Number, gamma: float = 2.0, alpha: float | None = None, **e: float) -> Number:
    t = smoothed(t, **e)
    miss = t * sigmoid(-x) + (1 - t) * sigmoid(x)
    return alpha_of(t, alpha) * miss ** mpf(gamma) * mixed(t, lambda: softplus(-x), lambda: softplus(x))


OF_PROBS = Bound(5, 5, LOG1P, extra={"jax float64": 26.0})
HALF = {**PROBS, "gamma": 0.5, "alpha": 0.25}
OF_PROBS_SOFT = Promise(Bound(5, 6, f"{POWER}; {LOG1P}", extra={"jax float64": 26.0}), OF_PROBS.with_zeros(underflow=40))


@define("sigmoid_focal_loss", "unit", DECISION, PROBS, HALF, CLIP | SLIGHTLY, promise=Promise(OF_PROBS, OF_PROBS), soft=OF_PROBS_SOFT)
def sigmoid_focal_loss_of_probs(p: Number, t: Number, given: str, gamma: float = 2.0, alpha: Any = None, clip: Any = 0, **e: Any) -> Number:
    t, p = smoothed(t, **e), clipped(p, clip)
    return alpha_of(t, alpha) * (t * (1 - p) + (1 - t) * p) ** mpf(gamma) * binary_cross_entropy(p, t)


# -- one choice among several ----------------------------------------------------------------------------------------------


def expected(t: Any, loss: Callable[[int], Number], n: int, class_weights: Any = None, label_smoothing: float = 0.0) -> Number:
    """The sum over n classes of weight * target * loss, for a label or a distribution."""
    return sum((times(share, loss, c) for c, share in enumerate(shares(t, n, class_weights, label_smoothing))), mpf(0))


CROSS_ENTROPIES = within_spread(CROSS_ENTROPY, CROSS_ENTROPY, Bound(8, 8))
CHOICE, BOTH, OFFSETS = "labels distribution", {**WEIGHTS, **SMOOTHED}, {"logit_offsets": (0.5, -1.0, 0.0)}
CAPPED, CHANGES = {"softcap": 64.0, "scale": 0.5, **OFFSETS}, {"label_margins": (0.25, 0.5, 0.0), **OFFSETS}
OF_CAPPED = within_spread(*3 * [Bound(160, 240, "tanh rounds logits near the cap, XLA's by 4 ulp", underflow=20).with_zeros()])
OF_CHANGED = within_spread(*3 * [Bound(8, 8, "offsets, margins and a scale round x - max again", underflow=20).with_zeros()], times=4)


@define("softmax_cross_entropy", "logits", CHOICE, CAPPED, promise=OF_CAPPED)
@define("softmax_cross_entropy", "logits", CHOICE, CHANGES | {"scale": 0.75}, CHANGES | BOTH | {"z_loss": 0.25}, promise=OF_CHANGED)
@define("softmax_cross_entropy", "logits", CHOICE, {}, WEIGHTS, SMOOTHED, BOTH, promise=CROSS_ENTROPIES, soft=CROSS_ENTROPIES.with_zeros())
def softmax_cross_entropy(x: Numbers, t: Any, class_weights: Any = None, label_smoothing: Any = 0, z_loss: Any = 0, **own: Any) -> Number:
    if own:
        margins = zip(own.get("label_margins", [0] * len(x)), shares(t, len(x)), own["logit_offsets"], strict=True)
        x = [v if "softcap" not in own else tanh(v / own["softcap"]) * own["softcap"] for v in x]
        x = [own.get("scale", 1) * (v + (mpf(o) - mpf(m) * s)) for v, (m, s, o) in zip(x, margins, strict=True)]
    row = Row(x)
    c = 1 if row.moving == 0 else 0
    lse, weight = row.log_loss(c) + x[c], sum(shares(t, len(x), class_weights), mpf(0))
    return expected(t, row.log_loss, len(x), class_weights, label_smoothing) + mpf(z_loss) * weight * lse**2


@define("nll_loss", "log_probs", CHOICE, {}, BOTH, promise=Promise(Bound(3, 3), Bound(2, 2), Bound(0, 0)))
def nll_loss(x: Numbers, t: Any, class_weights: Any = None, label_smoothing: float = 0.0) -> Number:
    return expected(t, lambda c: -x[c], len(x), class_weights, label_smoothing)


TARGET = Bound(3, 3, "smoothing and class weights round a target three times; without them 1")
RENORMALIZED = Promise(
    *3 * [Bound(16, 16, "a share of a sum has errors of 2 ulp, and its logarithm is small where it is near 1").with_zeros()]
)
NLL, NLL_SOFT = (Promise(Bound(3, 3), grad, Bound(3, 3)) for grad in (Bound(2, 2), TARGET))


@define("nll_loss", "probs", CHOICE, {**CLIP, "clip": 0.125, "renormalize": True}, promise=RENORMALIZED)
@define("nll_loss", "probs", CHOICE, PROBS, {**PROBS, **BOTH}, CLIP, promise=NLL, soft=NLL_SOFT)
def nll_loss_of_probs(p: Numbers, t: Any, given: str, clip: float = 0.0, renormalize: bool = False, **options: Any) -> Number:
    whole = sum(p, mpf(0)) if renormalize else 1
    return expected(t, lambda c: -log(clipped(p[c] / whole, clip)), len(p), **options)


FOCAL = Bound(8, 8, POWER, 6)
FOCALS = within_spread(FOCAL, FOCAL, Bound(12, 12, POWER, 6, underflow=14).with_zeros())
FOCALS_SOFT, ALPHAS = within_spread(FOCAL, FOCAL.with_zeros()), {"gamma": 1.5, "alpha": (0.25, 2.0, 1.0)}
HALVES = {**PROBS, **ALPHAS, "gamma": 0.5}


@define("softmax_focal_loss", "logits", CHOICE, {}, *GAMMAS, ALPHAS, SMOOTHED, promise=FOCALS, soft=FOCALS_SOFT)
def softmax_focal_loss(x: Numbers, t: Any, gamma: float = 2.0, alpha: Any = None, label_smoothing: float = 0.0) -> Number:
    row = Row(x)
    return expected(t, lambda c: row.complement(c) ** mpf(gamma) * row.log_loss(c), len(x), alpha, label_smoothing)


@define("softmax_focal_loss", "probs", CHOICE, PROBS, HALVES, CLIP | SMOOTHED, promise=Promise(Bound(5, 5), Bound(5, 5)))
def softmax_focal_loss_of_probs(p: Numbers, t: Any, given: str, gamma: float = 2.0, alpha: Any = None, clip: Any = 0, **e: Any) -> Number:
    p = [clipped(v, clip) for v in p]
    return expected(t, lambda c: -((1 - p[c]) ** mpf(gamma)) * log(p[c]), len(p), alpha, **e)


RANDOM = "over the sweep; of 190000 random rows in float32 one in a thousand is beyond 3.6 ulp (4.4 on NumPy), the worst at 6.7"
EIGHT = "NumPy adds up a long row in eight sums, entry by entry: equal entries are rounded alike"
DIVERGENCE = Bound(4, 4, f"{RANDOM}; {EIGHT}", extra={"numpy": 2.0}, underflow=26)
DIVERGENCES = Promise(DIVERGENCE, DIVERGENCE.with_zeros(), Bound(5, 4).with_zeros(underflow=26))
ENTRIES = Promise.of_all(Bound(4, 4).with_zeros())
GENERALIZED, REVERSE = {"generalized": True}, {"reverse": True}
ALL: list[dict[str, Any]] = [{}, GENERALIZED, REVERSE, GENERALIZED | REVERSE]
LOG_PROBS, TO_PROBS, TO_LOGS = {"given": "log_probs"}, {"targets_given": "probs"}, {"targets_given": "log_probs"}


def with_logs(a: Any, form: str, temperature: float) -> list[tuple[Number, Number]]:
    """p and log(p) of every class, or of a single number."""
    if form == "logits":
        row = Row([v / mpf(temperature) for v in a])
        return [(row.prob(c), -row.log_loss(c)) for c in range(len(a))]
    return [(exp(v), v) if form == "log_probs" else (v, log(v)) for v in (a if np.ndim(a) else [a])]


@define("kl_divergence", "exponents", "unit", *[LOG_PROBS | TO_PROBS | {"elementwise": True} | o for o in ALL[:2]], promise=ENTRIES)
@define("kl_divergence", "logits", "distribution", *[{"given": "logits"} | TO_PROBS | o for o in ALL[:2]], promise=within_spread(*ENTRIES))
@define("kl_divergence", "log_probs", "log_probs", *[LOG_PROBS | TO_LOGS | o for o in ALL], promise=ENTRIES)
@define("kl_divergence", "probs", "log_probs", *[PROBS | TO_LOGS | o for o in ALL[2:]], promise=ENTRIES)
@define("kl_divergence", "probs", "distribution", *[PROBS | TO_PROBS | o for o in ALL[:2]], promise=ENTRIES)
@define("kl_divergence", "logits", "logits", {}, REVERSE, GENERALIZED | {"temperature": 2.0}, promise=DIVERGENCES)
def kl_divergence(x: Any, t: Any, temperature: float = 1.0, given: str = "logits", targets_given: str = "logits", **which: bool) -> Number:
    """Log-ratios of one kind of numbers are rounded once, as are values and slopes of a generalized divergence."""
    with mpmath.workdps(NEARLY_EQUAL):
        is_reverse, is_generalized, is_once = which.get("reverse"), which.get("generalized"), given == targets_given
        value, own, gaps = mpf(0), [], []
        for several in zip(with_logs(t, targets_given, temperature), with_logs(x, given, temperature), strict=True):
            (a, log_a), (b, log_b) = several[::-1] if is_reverse else several
            own.append(a)
            gaps.append(gap(log_a, log_b) if is_once else Jet.of(log_a) - Jet.of(log_b))
            term = Jet.of(times(a, gaps[-1]) + (b - a if is_generalized else 0))
            value += Jet(term.orders, (*map(abs, term.orders[:2]), term.terms[2])) if is_generalized and is_once else term
        if given != "logits" or not is_once or not any(isinstance(v, Jet) for v in x):
            return value
        # The slope q - p is p times a log-ratio, as far as that is small: a difference from its own mean, and from the loss
        i = next(c for c, v in enumerate(x) if isinstance(v, Jet))
        away = [abs(number(g) - number(value)) for g in gaps]
        size = away[i] + sum((times(number(a), d) for a, d in zip(own, away, strict=True)), number(value))
        slope = number(own[i]) * (size if is_reverse else min(1, size)) / mpf(temperature)
        bend = value.terms[2] if is_reverse else value.orders[2]
        return Jet(value.orders, (value.orders[0], max(slope, abs(value.orders[1])), bend))


# -- regression --------------------------------------------------------------------------------------------------------------


@define("squared_error", "real", "real", promise=Promise(Bound(2, 2), Bound(1, 1), Bound(0, 0)))
def squared_error(x: Number, t: Number) -> Number:
    return (x - t) ** 2


HUBER = Promise(Bound(2, 2, "the difference is rounded before it is squared"), Bound(0.5, 0.5), Bound(0, 0))


@define("huber_loss", "real", "real", {}, {"delta": 0.25}, promise=HUBER)
def huber_loss(x: Number, t: Number, delta: float = 1.0) -> Number:
    r, d = abs(x - t), mpf(delta)
    return r * r / 2 if r <= d else d * (r - d / 2)


SINH = Bound(5, 3, "XLA's sinh has errors of 3 ulp, and is squared", extra={"jax": 3.0})
TANH = Bound(3, 3, "XLA's tanh has errors of 4 ulp", extra={"jax": 3.0})
COSH = Bound(6, 6, "the exponential of twice the difference carries its rounding (spread: twice the difference)", spread=True)


@define("log_cosh_loss", "real", "real", promise=Promise(SINH, TANH, COSH))
def log_cosh_loss(x: Number, t: Number) -> Number:
    return log_cosh(x - t)


GAUSSIAN = Promise.of_all(Bound(4, 4, ZEROS, of_terms=True))


@define("gaussian_nll_loss", "real positive", "real", {}, {"full": True}, promise=GAUSSIAN)
def gaussian_nll_loss(x: Number, v: Number, t: Number, full: bool = False) -> Number:
    return (log(v) + (x - t) ** 2 / v + (mpmath.log(2 * mpmath.pi) if full else 0)) / 2


# -- sequences ---------------------------------------------------------------------------------------------------------------

FRAMES = Bound(4, 4, "in ulps of 1 + loss: probabilities near 1/2 are as numbers near 1", of_terms=True)
OCCUPANCY = Bound(36, 36, f"{ZEROS}; probabilities are exponentials of sums of logarithms, and carry their roundings", of_terms=True)
NORMALIZED = {"length_normalized": True, "zero_infinity": True}


@define("ctc_loss", "frame_log_probs", "labels", {}, NORMALIZED, promise=Promise(FRAMES, replace(OCCUPANCY, float32=12, float64=12)))
@define("ctc_loss", "frames", "labels", {"given": "logits"}, {"given": "logits", **NORMALIZED}, promise=Promise(FRAMES, OCCUPANCY))
def ctc_loss(x: Any, t: Any, input_lengths: Any, target_lengths: Any, given: str = "log_probs", blank: int = 0, **options: Any) -> Number:
    """Of one sequence, by sums of probabilities; that of log-probabilities has the derivatives of a distribution."""
    (frames,), (count,), tilt = input_lengths, target_lengths, mpf(0)
    states = [blank, *[state for label in t[0][:count] for state in (int(label), blank)]]
    sums = [mpf(1), *[mpf(0)] * 2 * int(count)]
    for row in x[0][:frames]:
        p = [Row(row).prob(c) for c in range(len(row))] if given == "logits" else list(map(exp, row))
        tilt = tilt if given == "logits" else tilt + sum(p, mpf(0))
        for s in reversed(range(len(sums))):
            skips = s > 1 and states[s] not in (blank, states[s - 2])
            sums[s] = (sums[s] + (sums[s - 1] if s else 0) + (sums[s - 2] if skips else 0)) * p[states[s]]
    loss = (tilt - number(tilt) - log(sum(sums[-2:], mpf(0)))) / (max(int(count), 1) if options.get("length_normalized") else 1)
    jet = Jet.of(loss)
    return np.array([Jet(jet.orders, (1 + jet.orders[0], *jet.terms[1:]))])


from . import elements  # noqa: E402, F401  # it enters its definitions behind these: the first one of a loss is that of its defaults
