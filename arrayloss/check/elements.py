"""What losses of single elements mean: margins of decisions, counts, relative errors, absolute errors."""

from __future__ import annotations

from typing import Any

import mpmath
from mpmath import mpf

from .evaluate import define
from .jets import exp, log, log1p, softplus
from .margins import hinge
from .promises import ZEROS, Bound, Promise

__all__: list[str] = []  # they are reached through `definitions`

Number = Any
EXACT = Bound(0, 0)
FOUR, OF_TERMS = Promise.of_all(Bound(4, 4)), Bound(4, 4, ZEROS, of_terms=True)


def distance(a: Number, b: Number) -> Number:
    """|a - b|, flat where it is 0."""
    return 0 * (a - b) if a == b else abs(a - b)


# -- regression ----------------------------------------------------------------------------------------------------------


@define("absolute_error", "real", "real", promise=Promise(Bound(0.5, 0.5), EXACT, EXACT))
def absolute_error(x: Number, t: Number) -> Number:
    return distance(x, t)


@define("smooth_l1_loss", "real", "real", {}, {"beta": 0.25}, {"beta": 0.0}, promise=Promise(Bound(2.5, 2), Bound(1, 1), Bound(1, 1)))
def smooth_l1_loss(x: Number, t: Number, beta: float = 1.0) -> Number:
    r, b = distance(x, t), mpf(beta)
    return (x - t) ** 2 / (2 * b) if r <= b and b else r - b / 2


TUBE = Promise(OF_TERMS, OF_TERMS, EXACT)


@define("epsilon_insensitive_loss", "real", "real", {"epsilon": 0.125}, {"epsilon": 0.5, "squared": True}, promise=TUBE)
def epsilon_insensitive_loss(x: Number, t: Number, epsilon: float, squared: bool = False) -> Number:
    z = 1 * distance(x, t) - mpf(epsilon)  # not an argument any more: it is rounded before epsilon is taken away
    return 0 * z if z <= 0 else z * z if squared else z


CUBED = "the difference, and its inverse, are rounded before they are cubed"
SQUARES = 70  # more digits, for the square of 1e-30 beside 1


@define("charbonnier_loss", "real", "real", {}, {"scale": 0.25}, promise=FOUR._replace(hess=Bound(7, 7, CUBED)))
def charbonnier_loss(x: Number, t: Number, scale: float = 1.0) -> Number:
    with mpmath.extradps(SQUARES):
        return ((x - t) ** 2 + mpf(scale) ** 2) ** 0.5 - scale


@define("pseudo_huber_loss", "real", "real", {}, {"delta": 0.25}, promise=FOUR._replace(hess=Bound(7, 7, CUBED)))
def pseudo_huber_loss(x: Number, t: Number, delta: float = 1.0) -> Number:
    return delta * charbonnier_loss(x, t, delta)


@define("cauchy_loss", "real", "real", {}, {"scale": 0.25}, promise=FOUR._replace(hess=OF_TERMS))
def cauchy_loss(x: Number, t: Number, scale: float = 1.0) -> Number:
    return log1p(((x - t) / scale) ** 2 / 2)


@define("welsch_loss", "real", "real", {}, {"scale": 0.25}, promise=FOUR._replace(hess=OF_TERMS))
def welsch_loss(x: Number, t: Number, scale: float = 1.0) -> Number:
    with mpmath.extradps(SQUARES):
        return 1 - exp(-(((x - t) / scale) ** 2) / 2)


GEMAN = Promise(Bound(4, 4), Bound(6, 6, CUBED), Bound(5, 5, f"{CUBED}; {ZEROS}", of_terms=True))


@define("geman_mcclure_loss", "real", "real", {}, {"scale": 0.25}, promise=GEMAN)
def geman_mcclure_loss(x: Number, t: Number, scale: float = 1.0) -> Number:
    with mpmath.extradps(SQUARES):
        return 2 - 8 / (((x - t) / scale) ** 2 + 4)


@define("wing_loss", "real", "real", {}, {"width": 0.75, "curvature": 2.0}, promise=FOUR)
def wing_loss(x: Number, t: Number, width: float = 5.0, curvature: float = 0.5) -> Number:
    a, w, c = distance(x, t), mpf(width), mpf(curvature)
    return w * log1p(a / c) if a < w else a - w + w * log1p(w / c)


PERCENTAGE = Promise(Bound(2, 2), Bound(4, 4), Bound(5, 5))


@define("absolute_percentage_error", "real", "real", {}, {"floor": 0.5}, {"symmetric": True}, promise=PERCENTAGE)
def absolute_percentage_error(x: Number, t: Number, floor: float = 0.0, symmetric: bool = False) -> Number:
    if x == t:
        return distance(x, t)
    if symmetric and (x * t < 0 or t == 0):
        return 2 + 0 * x
    if symmetric:
        return 2 * distance(x, t) / (distance(x, 0) + abs(t))
    size = max(abs(t), mpf(floor))
    return distance(x, t) * (1 / size if size else mpf("inf"))


SQUARED_LOG = Bound(5, 5, "XLA's log1p has errors of 2.4 ulp near 0.4, and is squared", extra={"jax": 5.0})


@define("squared_log_error", "above_minus_one", "counts", promise=Promise(SQUARED_LOG, Bound(4, 4), Bound(5, 5, ZEROS, of_terms=True)))
def squared_log_error(x: Number, t: Number) -> Number:
    return (log1p(x) - log1p(t)) ** 2


# -- likelihoods ---------------------------------------------------------------------------------------------------------

SQUARED_EXP = "an exponential is squared, and NumPy's in float32 has errors of 2.5 ulp"
OF_LOG = Bound(4, 4, f"{ZEROS}; {SQUARED_EXP}", of_terms=True, extra={"numpy float32": 3.0})


def constant_of(t: Number, full: bool | str) -> Number:
    """The constant of a likelihood of counts."""
    if full == "stirling":
        return t * mpmath.log(t) - t + mpmath.log(2 * mpmath.pi * t) / 2 if t > 1 else mpf(0)
    return mpmath.loggamma(t + 1) if full else mpf(0)


FULL: list[dict[str, Any]] = [{}, {"full": True}, {"full": "stirling"}]
LOG_RATES, RATES = ([{"given": given, **options} for options in FULL] for given in ("log_rate", "rate"))
LOG_VARIANCES, SCALES = ([{"given": given, **options} for options in FULL[:2]] for given in ("log_variance", "scale"))


@define("poisson_nll_loss", "positive", "counts", *RATES, promise=Promise(OF_TERMS, OF_TERMS, Bound(4, 4)))
@define("poisson_nll_loss", "exponents", "counts", *LOG_RATES, promise=Promise(OF_TERMS, OF_TERMS, Bound(4, 4)))
def poisson_nll_loss(x: Number, t: Number, given: str, full: bool | str = False) -> Number:
    return (exp(x) - t * x if given == "log_rate" else x - t * log(x)) + constant_of(t, full)


@define("gamma_nll_loss", "exponents", "counts", {"given": "log_mean"}, promise=Promise(OF_TERMS, OF_TERMS, Bound(4, 4)))
@define("gamma_nll_loss", "positive", "counts", {"given": "mean"}, promise=Promise.of_all(OF_TERMS))
def gamma_nll_loss(x: Number, t: Number, given: str) -> Number:
    return x + t * exp(-x) if given == "log_mean" else log(x) + t / x


@define("gaussian_nll_loss", "real exponents", "real", *LOG_VARIANCES, promise=Promise.of_all(OF_LOG))
def gaussian_nll_loss_of_log(x: Number, s: Number, t: Number, given: str, full: bool = False) -> Number:
    return (s + (x - t) ** 2 * exp(-s) + (mpmath.log(2 * mpmath.pi) if full else 0)) / 2


@define("gaussian_nll_loss", "real positive", "real", *SCALES, promise=Promise.of_all(OF_TERMS))
def gaussian_nll_loss_of_scale(x: Number, d: Number, t: Number, given: str, full: bool = False) -> Number:
    return log(d) + ((x - t) / d) ** 2 / 2 + (mpmath.log(2 * mpmath.pi) / 2 if full else 0)


# -- margins of decisions ------------------------------------------------------------------------------------------------

HINGE = Promise(Bound(0.5, 0.5), EXACT, EXACT)
MARGIN = {"margin": 0.25}


@define("hinge_loss", "real", "signs", {}, MARGIN, promise=HINGE)
def hinge_loss(x: Number, t: Number, margin: float = 1.0) -> Number:
    return hinge(margin - t * x)


@define("squared_hinge_loss", "real", "signs", {}, MARGIN, promise=Promise(Bound(2, 2), Bound(0.5, 0.5), EXACT))
def squared_hinge_loss(x: Number, t: Number, margin: float = 1.0) -> Number:
    z = margin - t * x
    return 0 * z if z <= 0 else z**2


@define("smooth_hinge_loss", "real", "signs", {}, {"smoothing": 0.375}, promise=Promise(Bound(2, 2), Bound(1, 1), Bound(0.5, 0.5)))
def smooth_hinge_loss(x: Number, t: Number, smoothing: float = 1.0) -> Number:
    z, g = 1 - t * x, mpf(smoothing)
    return 0 * z if z <= 0 else z * z / (2 * g) if z <= g else z - g / 2


@define("perceptron_loss", "real", "signs", promise=HINGE)
def perceptron_loss(x: Number, t: Number) -> Number:
    return hinge(-t * x)


@define("soft_margin_loss", "real", "signs", promise=Promise(Bound(4, 4), Bound(4, 4), Bound(5, 5)))
def soft_margin_loss(x: Number, t: Number) -> Number:
    return softplus(-t * x)


@define("exponential_loss", "exponents", "signs", promise=Promise.of_all(Bound(4, 4)))
def exponential_loss(x: Number, t: Number) -> Number:
    return exp(-t * x)


@define("hinge_embedding_loss", "real", "signs", {}, MARGIN, promise=HINGE)
def hinge_embedding_loss(x: Number, t: Number, margin: float = 1.0) -> Number:
    return x if t > 0 else hinge(margin - x)


@define("margin_ranking_loss", "real real", "signs", {}, MARGIN, promise=Promise(Bound(1, 1), EXACT, EXACT))
def margin_ranking_loss(x1: Number, x2: Number, t: Number, margin: float = 0.0) -> Number:
    return hinge(margin - t * (x1 - x2))
