"""Losses of real numbers: squared and absolute errors, what lies between them, and the Gaussian likelihood with its own variance."""

from collections.abc import Iterator
from math import inf, log, pi
from typing import Any, Literal, Unpack

from arrayloss.core import special
from arrayloss.frontend.build import elementwise
from arrayloss.frontend.check import at_least, choice, positive
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import ElementOptions

from .binary import times_largest

Array = Any


def _squared_error(xp: Any, x: Array, t: Array) -> Iterator[Array]:
    r = x - t
    yield r * r
    yield 2 * r
    yield xp.full_like(r, 2.0)


@loss(properties=lambda **_: Properties(convex=True))
def squared_error(predictions: Array, targets: Array, **options: Unpack[ElementOptions]) -> Array:
    """Squared difference of real numbers; its mean is the mean squared error.

    .. code-block:: text

        loss = (x - t)**2

    Gradient: 2 * (x - t). Some libraries call half of this the squared or L2 loss.
    Source: C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 1.2 (without its factor 1/2).

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
    {options}

    >>> import numpy as np
    >>> print(squared_error(np.array([1.0, 4.0]), np.array([0.0, 2.0])))
    2.5
    """
    return elementwise(_squared_error, predictions, targets, options)


def _absolute_error(xp: Any, x: Array, t: Array) -> Iterator[Array]:
    r = x - t
    sign = special.sign(xp, r)
    yield sign * r
    yield sign
    yield xp.zeros_like(r)


@loss(properties=lambda **_: Properties(convex=True, lipschitz=1.0, differentiable=False, twice_differentiable=False))
def absolute_error(predictions: Array, targets: Array, **options: Unpack[ElementOptions]) -> Array:
    """Absolute difference of real numbers: regression of a median, which outliers do not move.

    .. code-block:: text

        loss = |x - t|

    Gradient: the sign of x - t, and 0 where they are equal. The second derivative is 0.
    Source: P. J. Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35, 1964, section 1.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
    {options}

    >>> import numpy as np
    >>> print(absolute_error(np.array([1.0, 4.0]), np.array([0.0, 2.0])))
    1.5
    """
    return elementwise(_absolute_error, predictions, targets, options)


def _epsilon_insensitive(xp: Any, x: Array, t: Array, epsilon: Any, squared: bool) -> Iterator[Array]:
    r = x - t
    z = r - special.clip(xp, r, -epsilon, epsilon)  # beyond the tube, with the sign of r
    sign = special.sign(xp, z)
    yield z * z if squared else sign * z
    yield 2 * z if squared else sign
    yield 2 * sign * sign if squared else xp.zeros_like(z)


def _epsilon_insensitive_properties(squared: bool, **_: Any) -> Properties:
    return Properties(convex=True, lipschitz=None if squared else 1.0, differentiable=squared, twice_differentiable=False)


@loss(properties=_epsilon_insensitive_properties)
def epsilon_insensitive_loss(
    predictions: Array, targets: Array, *, epsilon: float | Array = 0.1, squared: bool = False, **options: Unpack[ElementOptions]
) -> Array:
    """Absolute or squared error beyond a tube around the target: support vector regression. Inside the tube nothing costs.

    .. code-block:: text

        loss = z  or, squared, z**2;   z = max(0, |x - t| - epsilon)

    Gradient: the sign of x - t where z > 0, times 2 * z if squared, else 0. The second derivative is 2 where z > 0 if squared, else 0.
    Source: V. N. Vapnik, The Nature of Statistical Learning Theory, 1995, chapter 6.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
    epsilon : number >= 0, or 0-d array: half the width of the tube; 0 is the absolute or squared error
    squared : bool
    {options}

    >>> import numpy as np
    >>> epsilon_insensitive_loss(np.array([0.2, -3.0]), np.zeros(2), epsilon=0.5, reduction="none")
    array([0. , 2.5])
    """
    own = {"epsilon": at_least(epsilon, 0), "squared": choice("squared", squared, (True, False))}
    return elementwise(_epsilon_insensitive, predictions, targets, options, **own)


def _smooth_l1(xp: Any, x: Array, t: Array, beta: Any) -> Iterator[Array]:
    is_array = hasattr(beta, "dtype")
    if not is_array and beta == 0:
        yield from _absolute_error(xp, x, t)
        return
    r = x - t
    inside = special.clip(xp, r, -beta, beta)
    share = special.divide(xp, inside, beta, lambda: special.sign(xp, r)) if is_array else inside / beta
    yield share * (r - inside / 2)  # beta * r may underflow
    yield share
    steep = xp.ones_like(r) / (xp.where(beta == 0, 1.0, beta) if is_array else beta)
    yield xp.where((inside == r) & (beta > 0), steep, 0.0)


def _smooth_l1_properties(beta: Any, **_: Any) -> Properties:
    is_smooth = hasattr(beta, "dtype") or beta > 0
    return Properties(convex=True, lipschitz=1.0, differentiable=is_smooth, twice_differentiable=False)


@loss(properties=_smooth_l1_properties)
def smooth_l1_loss(predictions: Array, targets: Array, *, beta: float | Array = 1.0, **options: Unpack[ElementOptions]) -> Array:
    """Absolute error with a rounded kink: regression of boxes. It is the Huber loss of `delta=beta`, divided by beta.

    .. code-block:: text

        loss = r**2 / (2 * beta)  where |r| <= beta,  |r| - beta / 2  elsewhere;   r = x - t

    Gradient: r / beta, clipped to [-1, 1]. The second derivative is 1 / beta up to and at |r| = beta, else 0.
    Source: R. Girshick, Fast R-CNN, ICCV 2015, equation 3, with beta = 1.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
    beta : number >= 0, or 0-d array: where the square becomes a line; 0 is the absolute error
    {options}

    >>> import numpy as np
    >>> smooth_l1_loss(np.array([0.25, -3.0]), np.array([0.0, 0.0]), beta=0.5, reduction="none")
    array([0.0625, 2.75  ])
    """
    return elementwise(_smooth_l1, predictions, targets, options, beta=at_least(beta, 0))


def _huber(xp: Any, x: Array, t: Array, delta: Any) -> Iterator[Array]:
    r = x - t
    inside = special.clip(xp, r, -delta, delta)
    yield (inside * -0.5 + r) * inside  # inside * (r - inside / 2); NumPy reuses the memory of a temporary on the left
    yield inside
    yield xp.astype(inside == r, r.dtype)


@loss(properties=lambda delta, **_: Properties(convex=True, lipschitz=times_largest(1.0, delta), twice_differentiable=False))
def huber_loss(predictions: Array, targets: Array, *, delta: float | Array = 1.0, **options: Unpack[ElementOptions]) -> Array:
    """Squared error near the target, absolute error far from it: regression with outliers.

    .. code-block:: text

        loss = r**2 / 2  where |r| <= delta,  delta * (|r| - delta / 2)  elsewhere;   r = x - t

    Gradient: r clipped to [-delta, delta], continuous at the kink. The second derivative is 1 up to and at |r| = delta, else 0.
    Source: P. J. Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35, 1964, section 3.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
    delta : number > 0, or 0-d array: where the square becomes a line
    {options}

    >>> import numpy as np
    >>> huber_loss(np.array([0.5, -3.0]), np.array([0.0, 0.0]), reduction="none")
    array([0.125, 2.5  ])
    """
    return elementwise(_huber, predictions, targets, options, delta=positive(delta))


def _log_cosh(xp: Any, x: Array, t: Array) -> Iterator[Array]:
    r = x - t
    is_positive, size = special.split_sign(xp, r)
    u = xp.exp(-2 * size)
    is_near = size < 1
    half = xp.sinh(xp.where(is_near, size, 1.0) / 2)  # cosh(r) = 1 + 2*sinh(r/2)**2: the logarithm of a cosh near 1 loses every digit
    yield xp.where(is_near, xp.log1p(2 * half * half), size + (xp.log1p(u) - log(2)))
    far = (1 - u) / (1 + u)  # tanh(|r|), without the 1 - tanh(r)**2 that autodiff would make of its derivative
    yield xp.where(is_near, xp.tanh(xp.where(is_near, r, 0.0)), xp.where(is_positive, far, -far))
    yield 4 * u / (1 + u) ** 2


@loss(properties=lambda **_: Properties(convex=True, lipschitz=1.0))
def log_cosh_loss(predictions: Array, targets: Array, **options: Unpack[ElementOptions]) -> Array:
    """Half the squared error near the target, absolute error far from it, and smooth in between: regression with outliers.

    .. code-block:: text

        loss = log(cosh(x - t))

    Gradient: tanh(x - t), with all its digits at any distance. The second derivative is 1 / cosh(x - t)**2.
    Source: P. J. Green, Bayesian Reconstructions from Emission Tomography Data, IEEE Transactions on Medical Imaging 9, 1990: a potential.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
    {options}

    >>> import numpy as np
    >>> print(f"{log_cosh_loss(np.array([0.5, -3.0]), np.array([0.0, 0.0])):.4f}")
    1.2147
    >>> print(log_cosh_loss(np.array([1e-9]), np.array([0.0])))
    5e-19
    """
    return elementwise(_log_cosh, predictions, targets, options)


def _gaussian_nll(xp: Any, x: Array, v: Array, t: Array, constant: float) -> Iterator[Any]:
    r = x - t
    pull = r / v
    yield (xp.log(v) + r * pull) / 2 + constant
    yield pull, (1 - r * pull) / (2 * v)
    yield 1 / v, (2 * r * pull - 1) / (2 * v * v)


def _gaussian_nll_of_log(xp: Any, x: Array, s: Array, t: Array, constant: float) -> Iterator[Any]:
    e = xp.exp(s / -2)  # the square root of 1 / v, which leaves the range of the dtype later
    z = special.multiply_no_nan(xp, x - t, e)
    yield (s + z * z) / 2 + constant
    yield special.multiply_no_nan(xp, z, e), (1 - z) * (1 + z) / 2
    yield e * e, z * z / 2


def _gaussian_nll_of_scale(xp: Any, x: Array, d: Array, t: Array, constant: float) -> Iterator[Any]:
    z = (x - t) / d
    yield xp.log(d) + z * z / 2 + constant
    yield z / d, (1 - z) * (1 + z) / d
    yield 1 / d / d, (3 * z * z - 1) / d / d


_GAUSSIANS = {"variance": _gaussian_nll, "log_variance": _gaussian_nll_of_log, "scale": _gaussian_nll_of_scale}


@loss(properties=lambda **_: Properties(lower=-inf))
def gaussian_nll_loss(
    mean: Array,
    variance: Array,
    targets: Array,
    *,
    given: Literal["variance", "log_variance", "scale"] = "variance",
    full: bool = False,
    **options: Unpack[ElementOptions],
) -> Array:
    """Negative log-likelihood of a Gaussian whose mean and variance are both predicted: regression that knows its own error.

    .. code-block:: text

        loss = (log(v) + (x - t)**2 / v) / 2   (+ log(2*pi) / 2 with full=True)

    Gradient: a pair, (x - t) / v for the mean and (1 - (x - t)**2 / v) / (2*v) for the variance; (1 - (x - t)**2 / v) / 2 for its
    logarithm, (1 - (x - t)**2 / v) / d for the scale d.
    Source: D. A. Nix and A. S. Weigend, Estimating the Mean and Variance of the Target Probability Distribution, ICNN 1994, equation 4.

    Parameters
    ----------
    mean, variance : arrays of one dtype, floating point
        Predictions; the variance v is positive. It is not clipped: 0 gives an infinite loss or a NaN, a negative one a NaN. It has the
        shape of `mean`, each size equal or 1, or is a number; the gradient of a variance that many elements share is the sum.
    targets : array, the shape of `mean`
    given : "variance", "log_variance" or "scale"
        What the second prediction is: v, log(v), which may be any number, or d = sqrt(v).
    full : bool, whether the constant log(2*pi) / 2 is added
    {options}

    >>> import numpy as np
    >>> mean, variance, targets = np.array([0.0, 1.0]), np.array([1.0, 4.0]), np.array([1.0, 1.0])
    >>> value, (of_mean, of_variance) = gaussian_nll_loss.value_and_grad(mean, variance, targets)
    >>> print(f"{value:.4f}", of_mean, of_variance)
    0.5966 [-0.5  0. ] [0.     0.0625]
    """
    constant = log(2 * pi) / 2 if choice("full", full, (True, False)) else 0.0
    kernel = _GAUSSIANS[choice("given", given, tuple(_GAUSSIANS))]
    return elementwise(kernel, {"mean": mean, given: variance}, targets, options, constant=constant)
