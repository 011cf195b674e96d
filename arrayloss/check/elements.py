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

LIKELIHOOD = Bound(4, 4, ZEROS, of_terms=True)
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


@define("poisson_nll_loss", "exponents", "counts", *LOG_RATES, promise=Promise(LIKELIHOOD, LIKELIHOOD, Bound(4, 4)))
def poisson_nll_loss(x: Number, t: Number, given: str, full: bool | str = False) -> Number:
    return exp(x) - t * x + constant_of(t, full)


@define("poisson_nll_loss", "positive", "counts", *RATES, promise=Promise(LIKELIHOOD, LIKELIHOOD, Bound(4, 4)))
def poisson_nll_loss_of_rates(x: Number, t: Number, given: str, full: bool | str = False) -> Number:
    return x - t * log(x) + constant_of(t, full)


@define("gaussian_nll_loss", "real exponents", "real", *LOG_VARIANCES, promise=Promise.of_all(OF_LOG))
def gaussian_nll_loss_of_log(x: Number, s: Number, t: Number, given: str, full: bool = False) -> Number:
    return (s + (x - t) ** 2 * exp(-s) + (mpmath.log(2 * mpmath.pi) if full else 0)) / 2


@define("gaussian_nll_loss", "real positive", "real", *SCALES, promise=Promise.of_all(LIKELIHOOD))
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
