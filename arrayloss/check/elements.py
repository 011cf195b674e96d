"""What losses of single elements mean: margins of decisions."""

from __future__ import annotations

from typing import Any

from mpmath import mpf

from .evaluate import define
from .jets import exp, softplus
from .promises import Bound, Promise

__all__: list[str] = []  # they are reached through `definitions`

Number = Any
EXACT = Bound(0, 0)


def hinge(z: Number) -> Number:
    """z, and 0 below 0. At 0 it is as steep as above."""
    return 0 * z if z < 0 else z


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


@define("exponential_loss", "exponents", "signs", promise=Promise(Bound(4, 4), Bound(4, 4), Bound(4, 4)))
def exponential_loss(x: Number, t: Number) -> Number:
    return exp(-t * x)


@define("hinge_embedding_loss", "real", "signs", {}, MARGIN, promise=HINGE)
def hinge_embedding_loss(x: Number, t: Number, margin: float = 1.0) -> Number:
    return x if t > 0 else hinge(margin - x)


@define("margin_ranking_loss", "real real", "signs", {}, MARGIN, promise=Promise(Bound(1, 1), EXACT, EXACT))
def margin_ranking_loss(x1: Number, x2: Number, t: Number, margin: float = 0.0) -> Number:
    return hinge(margin - t * (x1 - x2))
