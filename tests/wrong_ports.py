"""Ports of losses from one framework to another with one mistake each, as people make them, and the right ports.

Every one is a function (logits, targets) in PyTorch; `PORTS` says what it claims to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812


@dataclass(frozen=True)
class Port:
    """A function with what it claims to be: a loss of ours with options, a reduction, and how it is to be tried."""

    function: Callable[..., Any]
    claims: str
    options: Mapping[str, Any] = field(default_factory=dict)
    reduction: str = "mean"
    check: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.function.__name__


RIGHT: list[Port] = []
WRONG: list[Port] = []


def port(
    to: list[Port], claims: str, reduction: str = "mean", check: Mapping[str, Any] | None = None, **options: Any
) -> Callable[..., Any]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        to.append(Port(function, claims, options, reduction, check or {}))
        return function

    return enter


MODEST = {"points": "random", "targets": "binary"}
ROWS = {"points": "random", "targets": "labels"}
REGIONS = {"points": "random", "quantities": ["value"]}  # exact gradients of regions take seconds
WEIGHTS = (1.0, 3.0, 0.5)


# -- right ------------------------------------------------------------------------------------------------------------------


@port(RIGHT, "sigmoid_cross_entropy", check=MODEST)
def mean_of_bce(x, t):
    return F.binary_cross_entropy_with_logits(x, t)


@port(RIGHT, "sigmoid_focal_loss", "none", check=MODEST, gamma=2.0, alpha=0.25)
def focal_from_logsigmoid(x, t):
    p = torch.sigmoid((1 - 2 * t) * x)
    return (0.25 * t + 0.75 * (1 - t)) * p**2 * F.softplus((1 - 2 * t) * x, threshold=100)


@port(RIGHT, "softmax_cross_entropy", check=ROWS)
def mean_of_cross_entropy(x, t):
    return F.cross_entropy(x, t)


@port(RIGHT, "softmax_cross_entropy", check=ROWS, ignore_index=-100)
def cross_entropy_that_ignores(x, t):
    return F.cross_entropy(x, t, ignore_index=-100)


@port(RIGHT, "softmax_cross_entropy", check=ROWS, class_weights=WEIGHTS)
def weighted_cross_entropy(x, t):
    return F.cross_entropy(x, t, weight=torch.tensor(WEIGHTS, dtype=x.dtype))


@port(RIGHT, "softmax_cross_entropy", check=ROWS, label_smoothing=0.125)
def smoothed_cross_entropy(x, t):
    return F.cross_entropy(x, t, label_smoothing=0.125)


@port(RIGHT, "squared_error", check={"points": "random"})
def mean_squared_error(x, t):
    return F.mse_loss(x, t)


@port(RIGHT, "tversky_loss", check={"points": "random"}, alpha=0.3, beta=0.7)
def tversky(x, t):
    p = torch.sigmoid(x)
    sums = [(a * b).sum(dim=(0, 2, 3)) for a, b in ((p, t), (p, 1 - t), (1 - p, t))]
    tp, fp, fn = sums
    return (1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)).mean()


# -- wrong ------------------------------------------------------------------------------------------------------------------


@port(WRONG, "softmax_cross_entropy", check=ROWS, class_weights=WEIGHTS)
def denominator_is_the_count(x, t):
    return F.cross_entropy(x, t, weight=torch.tensor(WEIGHTS, dtype=x.dtype), reduction="sum") / len(t)


@port(WRONG, "softmax_cross_entropy", check=ROWS)
def softmax_over_the_batch(x, t):
    return -torch.log_softmax(x, dim=0).gather(1, t[:, None]).mean()


@port(WRONG, "tversky_loss", check=REGIONS, alpha=0.3, beta=0.7)
def sums_over_the_class_axis(x, t):
    p = torch.sigmoid(x)
    tp, fp, fn = ((a * b).sum(dim=(0, 1, 3)) for a, b in ((p, t), (p, 1 - t), (1 - p, t)))
    return (1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)).mean()


@port(WRONG, "binary_cross_entropy", "none", check={"points": "edges+random", "targets": "binary"})
def clamped_probability(p, t):
    p = p.clamp(1e-3, 1 - 1e-3)
    return -(t * p.log() + (1 - t) * (1 - p).log())


@port(WRONG, "sigmoid_focal_loss", "none", check=MODEST, gamma=2.0, alpha=0.25)
def alpha_on_the_wrong_class(x, t):
    p = torch.sigmoid((1 - 2 * t) * x)
    return (0.75 * t + 0.25 * (1 - t)) * p**2 * F.softplus((1 - 2 * t) * x, threshold=100)


@port(WRONG, "softmax_cross_entropy", check=ROWS, ignore_index=0)
def ignore_index_is_missing(x, t):
    return F.cross_entropy(x, t)


@port(WRONG, "softmax_cross_entropy", check=ROWS, ignore_index=-100)
def mean_of_means(x, t):
    first, rest = (F.cross_entropy(x[s], t[s], ignore_index=-100) for s in (slice(0, 5), slice(5, None)))
    return (5 * first + (len(t) - 5) * rest) / len(t)


@port(WRONG, "squared_error", "none", check={"points": "edges", "dtypes": ["float32"]})
def squares_in_float16(x, t):
    return ((x - t).half() ** 2).to(x.dtype)


@port(WRONG, "softmax_cross_entropy", check=ROWS)
def softmax_twice(x, t):
    return F.cross_entropy(torch.softmax(x, dim=-1), t)


@port(WRONG, "sigmoid_focal_loss", "none", check=MODEST, gamma=2.0)
def gamma_off_by_one(x, t):
    p = torch.sigmoid((1 - 2 * t) * x)
    return p * F.softplus((1 - 2 * t) * x, threshold=100)


@port(WRONG, "nll_loss", check=ROWS)
def sign_is_wrong(x, t):
    return x.gather(1, t[:, None]).mean()


@port(WRONG, "tversky_loss", check=REGIONS, alpha=0.3, beta=0.7)
def tversky_weights_swapped(x, t):
    p = torch.sigmoid(x)
    tp, fp, fn = ((a * b).sum(dim=(0, 2, 3)) for a, b in ((p, t), (p, 1 - t), (1 - p, t)))
    return (1 - (tp + 1) / (tp + 0.7 * fp + 0.3 * fn + 1)).mean()


@port(WRONG, "softmax_cross_entropy", check=ROWS, label_smoothing=0.125)
def smoothing_of_the_other_classes_only(x, t):
    target = torch.full_like(x, 0.125 / (x.shape[1] - 1)).scatter(1, t[:, None], 0.875)
    return F.cross_entropy(x, target)


@port(WRONG, "sigmoid_cross_entropy", "none", check=MODEST)
def logits_taken_for_probabilities(x, t):
    p = x.clamp(0, 1)
    return F.binary_cross_entropy(p, t, reduction="none")


@port(WRONG, "softmax_cross_entropy", "none", check={"points": "edges", "targets": "labels"})
def confident_rows_lose_their_digits(x, t):
    return F.cross_entropy(x, t, reduction="none")


@port(WRONG, "huber_loss", check={"points": "random"}, delta=0.25)
def smooth_l1_is_not_huber(x, t):
    return F.smooth_l1_loss(x, t, beta=0.25)
