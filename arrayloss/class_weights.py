"""What losses take for classes of unequal sizes: weights, offsets of logits and margins, from how many samples each class has."""

from math import inf, log
from typing import Any, Literal

from .adapters.dispatch import adapter_of
from .core import dtypes
from .frontend.check import choice, number

Array = Any
METHODS = ("effective", "inverse", "negative/positive")


def class_balanced_weights(
    counts: Array,
    *,
    method: Literal["effective", "inverse", "negative/positive"] = "effective",
    beta: float = 0.999,
    power: float = 1.0,
    total: float | None = None,
) -> Array:
    """Weights of classes that make up for their sizes: `class_weights`, or `pos_weight` of decisions.

    .. code-block:: text

        "effective"          (1 - beta) / (1 - beta**n), divided by their mean
        "inverse"            (N / n)**power, divided by their mean
        "negative/positive"  ((N - n) / n)**power: pos_weight, which makes the positives of a class weigh as much as its negatives

    Source: Y. Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, equation 2.

    Parameters
    ----------
    counts : array of shape (C,), integers or floating point >= 0
        How many samples each class has, n; a class without samples counts as one that has one.
    method : "effective", "inverse" or "negative/positive"
    beta : number from 0 to below 1, of "effective"
        0 gives every class the same weight; the nearer to 1, the nearer the weights are to those of "inverse".
    power : number >= 0, of the other two; 0.5 is a milder correction
    total : number > 0: the number of samples N, by default the sum of counts. For labels that exclude each other it is that.

    >>> import numpy as np
    >>> class_balanced_weights(np.array([900, 90, 10]), method="inverse").round(4)
    array([0.0297, 0.297 , 2.6733])
    """
    xp, n, whole = _positive_counts(counts)
    choice("method", method, METHODS)
    beta, power = number("beta", beta, low=0, high=1), number("power", power, low=0)
    if beta == 1:
        raise ValueError("beta must be below 1; got 1: method='inverse' is the limit")
    whole = whole if total is None else number("total", total, above=0)
    if method == "negative/positive":
        return (xp.maximum(whole - n, xp.zeros_like(n)) / n) ** power
    weights = -1 / xp.expm1(n * (log(beta) if beta else -inf)) if method == "effective" else (xp.max(n) / n) ** power
    return weights / xp.mean(weights)


def logit_adjustment(counts: Array, tau: float = 1.0) -> Array:
    """tau * log(n / N): the logarithms of the shares of the classes, as `logit_offsets` of a cross-entropy.

    Trained with them, the logits themselves rank classes as if all had the same size. With tau = 1 that is balanced softmax.
    Source: A. K. Menon et al., Long-tail learning via logit adjustment, ICLR 2021, equation 10; J. Ren et al., Balanced Meta-Softmax,
    NeurIPS 2020, equation 4.

    Parameters
    ----------
    counts : array of shape (C,), integers or floating point >= 0
        How many samples each class has, n; a class without samples counts as one that has one. N is the sum.
    tau : number

    >>> import numpy as np
    >>> logit_adjustment(np.array([900, 90, 10])).round(4)
    array([-0.1054, -2.4079, -4.6052])
    """
    xp, n, whole = _positive_counts(counts)
    return number("tau", tau) * xp.log(n / whole)


def ldam_margins(counts: Array, largest: float = 0.5) -> Array:
    """largest * (min(n) / n)**(1/4): margins that are wide for small classes, as `label_margins` of a cross-entropy.

    Source: K. Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019, equation 13. Its `scale`
    is 30, of cosines.

    Parameters
    ----------
    counts : array of shape (C,), integers or floating point >= 0
        How many samples each class has, n; a class without samples counts as one that has one.
    largest : number >= 0: the margin of the smallest class

    >>> import numpy as np
    >>> ldam_margins(np.array([1600, 625, 1])).round(4)
    array([0.0791, 0.1   , 0.5   ])
    """
    xp, n, _ = _positive_counts(counts)
    return number("largest", largest, low=0) * (xp.min(n) / n) ** 0.25


def _positive_counts(counts: Array) -> tuple[Any, Array, Array]:
    """The namespace, counts as numbers above 0, and their sum."""
    adapter = adapter_of(counts, "counts")
    counts, xp = adapter.as_array(counts, counts, "counts"), adapter.xp
    kind = dtypes.kind(counts.dtype)
    if kind not in ("integer", "half", "float"):
        raise TypeError(f"counts must be real numbers; got {dtypes.name(counts.dtype)}")
    if counts.ndim != 1 or counts.shape[0] == 0:
        raise ValueError(f"counts must have one entry per class, shape (C,); got shape {tuple(counts.shape)}")
    if adapter.host_view(counts) is not None:
        for extreme in (xp.min(counts), xp.max(counts)):
            number("counts", float(extreme), low=0)
    if kind != "float":
        counts = xp.astype(counts, xp.__array_namespace_info__().default_dtypes()["real floating"])
    n = xp.where(counts == 0, xp.ones_like(counts), counts)
    return xp, n, xp.sum(n)
