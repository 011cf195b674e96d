"""Losses of real numbers: squared error, Huber, log-cosh, and the Gaussian likelihood with its own variance."""

from __future__ import annotations

from collections.abc import Iterator
from math import log, pi
from typing import Any

from arrayloss.core import special
from arrayloss.core.call import Call
from arrayloss.core.check import choice
from arrayloss.core.inputs import Inputs
from arrayloss.core.loss import loss

Array = Any


def _squared_error(xp: Any, x: Array, t: Array) -> Iterator[Array]:
    r = x - t
    yield r * r
    yield 2 * r
    yield xp.full_like(r, 2.0)


@loss
def squared_error(
    predictions: Array,
    targets: Array,
    *,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
    reduce_axes: int | tuple[int, ...] | None = None,
    normalizer: Any = "weights",
) -> Call:
    """Squared difference of real numbers; its mean is the mean squared error.

    .. code-block:: text

        loss = (x - t)**2

    Parameters
    ----------
    predictions : array, any shape, floating point
    targets : array, the shape of `predictions`
    weights, where, reduction, reduce_axes, normalizer
        See `arrayloss.losses`.

    Returns
    -------
    array
        0-d, or what `reduce_axes` leaves, or the shape of `predictions` with `reduction="none"`.

    Notes
    -----
    Gradient: 2 * (x - t). Some libraries call half of this the squared or L2 loss.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import squared_error
    >>> print(squared_error(np.array([1.0, 4.0]), np.array([0.0, 2.0])))
    2.5

    References
    ----------
    C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 1.2 (without its factor 1/2).
    """
    inputs = Inputs(predictions=predictions)
    t = inputs.targets(targets)
    return inputs.call(_squared_error, t, weights=weights, where=where, reduction=reduction, reduce_axes=reduce_axes, normalizer=normalizer)


def _huber(xp: Any, x: Array, t: Array, delta: Any) -> Iterator[Array]:
    r = x - t
    clipped = xp.minimum(xp.maximum(r, -delta + 0 * r), delta + 0 * r)
    yield clipped * (r - clipped / 2)
    yield clipped
    yield xp.where(clipped == r, xp.ones_like(r), xp.zeros_like(r))


@loss
def huber_loss(
    predictions: Array,
    targets: Array,
    *,
    delta: Any = 1.0,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
    reduce_axes: int | tuple[int, ...] | None = None,
    normalizer: Any = "weights",
) -> Call:
    """Squared error near the target, absolute error far from it: regression with outliers.

    .. code-block:: text

        loss = r**2 / 2                     where |r| <= delta,   r = x - t
               delta * (|r| - delta / 2)    elsewhere

    Parameters
    ----------
    predictions : array, any shape, floating point
    targets : array, the shape of `predictions`
    delta : number > 0, or 0-d array
        Where the square becomes a line.
    weights, where, reduction, reduce_axes, normalizer
        See `arrayloss.losses`.

    Returns
    -------
    array
        0-d, or what `reduce_axes` leaves, or the shape of `predictions` with `reduction="none"`.

    Notes
    -----
    Gradient: r clipped to [-delta, delta], continuous at the kink. The second derivative is 1 up to and at |r| = delta, else 0.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import huber_loss
    >>> huber_loss(np.array([0.5, -3.0]), np.array([0.0, 0.0]), reduction="none")
    array([0.125, 2.5  ])

    References
    ----------
    P. J. Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35, 1964, section 3.
    """
    inputs = Inputs(predictions=predictions)
    t = inputs.targets(targets)
    return inputs.call(
        _huber,
        t,
        inputs.parameter("delta", delta, above=0),
        weights=weights,
        where=where,
        reduction=reduction,
        reduce_axes=reduce_axes,
        normalizer=normalizer,
    )


def _log_cosh(xp: Any, x: Array, t: Array) -> Iterator[Array]:
    r = x - t
    positive, size = special.fold(xp, r)
    u = xp.exp(-2 * size)
    close = size < 1
    half = xp.sinh(xp.where(close, size, 1.0) / 2)  # cosh(r) = 1 + 2*sinh(r/2)**2: the logarithm of a cosh near 1 loses every digit
    yield xp.where(close, xp.log1p(2 * half * half), size + (xp.log1p(u) - log(2)))
    far = (1 - u) / (1 + u)  # tanh(|r|), without the 1 - tanh(r)**2 that autodiff would make of its derivative
    yield xp.where(close, xp.tanh(xp.where(close, r, 0.0)), xp.where(positive, far, -far))
    yield 4 * u / (1 + u) ** 2


@loss
def log_cosh_loss(
    predictions: Array,
    targets: Array,
    *,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
    reduce_axes: int | tuple[int, ...] | None = None,
    normalizer: Any = "weights",
) -> Call:
    """Half the squared error near the target, absolute error far from it, and smooth in between: regression with outliers.

    .. code-block:: text

        loss = log(cosh(x - t))

    Parameters
    ----------
    predictions : array, any shape, floating point
    targets : array, the shape of `predictions`
    weights, where, reduction, reduce_axes, normalizer
        See `arrayloss.losses`.

    Returns
    -------
    array
        0-d, or what `reduce_axes` leaves, or the shape of `predictions` with `reduction="none"`.

    Notes
    -----
    Gradient: tanh(x - t), with all its digits at any distance. The second derivative is 1 / cosh(x - t)**2.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import log_cosh_loss
    >>> print(f"{log_cosh_loss(np.array([0.5, -3.0]), np.array([0.0, 0.0])):.4f}")
    1.2147
    >>> print(log_cosh_loss(np.array([1e-9]), np.array([0.0])))
    5e-19

    References
    ----------
    P. J. Green, Bayesian Reconstructions from Emission Tomography Data Using a Modified EM Algorithm, IEEE Transactions on Medical
    Imaging 9, 1990, where log(cosh) is a potential that keeps edges.
    """
    inputs = Inputs(predictions=predictions)
    t = inputs.targets(targets)
    return inputs.call(_log_cosh, t, weights=weights, where=where, reduction=reduction, reduce_axes=reduce_axes, normalizer=normalizer)


def _gaussian_nll(xp: Any, x: Array, v: Array, t: Array, constant: float) -> Iterator[Any]:
    r = x - t
    pull = r / v
    yield (xp.log(v) + r * pull) / 2 + constant
    yield pull, (1 - r * pull) / (2 * v)
    yield 1 / v, (2 * r * pull - 1) / (2 * v * v)


@loss
def gaussian_nll_loss(
    mean: Array,
    variance: Array,
    targets: Array,
    *,
    full: bool = False,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
    reduce_axes: int | tuple[int, ...] | None = None,
    normalizer: Any = "weights",
) -> Call:
    """Negative log-likelihood of a Gaussian whose mean and variance are both predicted: regression that knows its own error.

    .. code-block:: text

        loss = (log(v) + (x - t)**2 / v) / 2   (+ log(2*pi) / 2 with full=True)

    Parameters
    ----------
    mean, variance : arrays of one shape and dtype, floating point
        Predictions; the variance v is positive. It is not clipped: 0 gives an infinite loss or a NaN, a negative one a NaN.
    targets : array, the shape of `mean`
    full : bool
        Whether the constant log(2*pi) / 2 is added; without it the loss can be negative by more.
    weights, where, reduction, reduce_axes, normalizer
        See `arrayloss.losses`.

    Returns
    -------
    array
        0-d, or what `reduce_axes` leaves, or the shape of `mean` with `reduction="none"`.

    Notes
    -----
    Gradient: a pair, (x - t) / v for the mean and (1 - (x - t)**2 / v) / (2*v) for the variance.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayloss import gaussian_nll_loss
    >>> mean, variance, targets = np.array([0.0, 1.0]), np.array([1.0, 4.0]), np.array([1.0, 1.0])
    >>> value, (for_mean, for_variance) = gaussian_nll_loss.value_and_grad(mean, variance, targets)
    >>> print(f"{value:.4f}", for_mean, for_variance)
    0.5966 [-0.5  0. ] [0.     0.0625]

    References
    ----------
    D. A. Nix and A. S. Weigend, Estimating the Mean and Variance of the Target Probability Distribution, ICNN 1994, equation 4.
    """
    inputs = Inputs(mean=mean, variance=variance)
    t = inputs.targets(targets)
    return inputs.call(
        _gaussian_nll,
        t,
        choice("full", full, {True: log(2 * pi) / 2, False: 0.0}),
        weights=weights,
        where=where,
        reduction=reduction,
        reduce_axes=reduce_axes,
        normalizer=normalizer,
    )
