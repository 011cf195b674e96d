"""Losses of counts and other numbers whose errors are relative: Poisson likelihood, squared logarithmic and absolute percentage error."""

from collections.abc import Iterator
from math import inf, log, pi
from typing import Any, Literal, Unpack

from arrayloss.core import dtypes, special
from arrayloss.frontend.build import elementwise
from arrayloss.frontend.check import at_least, choice
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import ElementOptions

Array = Any

# log(f!) / (f * (f - 1)) for f from 0 to 1, a polynomial of 2*f - 1 that interpolates at the Chebyshev points, right to 9e-18
_LOW: tuple[float, ...] = (0.4831289505409809, -0.07297994795715297, 0.01572785026864121, -0.003913560937631659, 0.0010498186644508718)
_LOW += (-0.0002945507014009265, 8.510090378468051e-05, -2.509432984849446e-05, 7.5113915317296576e-06, -2.274240971132041e-06)
_LOW += (6.948440187550096e-07, -2.138843561161159e-07, 6.623601939725099e-08, -2.057761163373013e-08, 6.434152357291201e-09)
_LOW += (-2.0732827842398214e-09, 6.533268528434416e-10, -1.6393816009998903e-10, 5.18198984494436e-11, -3.533898162275879e-11)
_LOW += (1.1273354955165048e-11,)
_HIGH = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)  # Stirling's series in 1 / t**2, times t


def _polynomial(coefficients: tuple[float, ...], u: Array) -> Array:
    value = 0 * u + coefficients[-1]
    for c in coefficients[-2::-1]:
        value = value * u + c
    return value


def stirling(xp: Any, t: Array) -> Array:
    """Stirling's approximation of log(t!)."""
    return t * (xp.log(t) - 1) + xp.log(2 * pi * t) / 2


def log_factorial(xp: Any, t: Array) -> Array:
    """log(t!) for t >= 0, exactly 0 at 0 and 1: below 8 the logarithm of t * (t - 1) * ... and what a fraction adds."""
    is_low = t < 8
    low, high = xp.where(is_low, t, 1.0), xp.where(is_low, 8.0, t)
    fraction, product = low - xp.floor(low), xp.ones_like(low)
    for k in range(7):
        product = product * xp.where(low >= k + 1, low - k, 1.0)
    added = fraction * (fraction - 1) * _polynomial(_LOW, 2 * fraction - 1)
    return xp.where(is_low, xp.log(product) + added, stirling(xp, high) + _polynomial(_HIGH, 1 / high / high) / high)


def _with_constant(xp: Any, value: Array, t: Array, full: bool | str) -> Array:
    """A loss of counts with the constant that its likelihood has."""
    if not full:
        return value
    if full == "stirling":
        return value + xp.where(t > 1, stirling(xp, xp.where(t > 1, t, 1.0)), 0 * t)
    return value + log_factorial(xp, t)


def _poisson_of_log(xp: Any, x: Array, t: Array, full: bool | str) -> Iterator[Array]:
    e = xp.exp(x)

    def value() -> Array:
        is_lost = (abs(x) == inf) & ((x > 0) | (t == 0))  # the exponential outweighs an infinite product, and 0 of a count is 0
        return _with_constant(xp, e - xp.where(is_lost, 0.0, t * xp.where(is_lost, 0.0, x)), t, full)

    yield value
    yield e - t
    yield e


def _poisson(xp: Any, x: Array, t: Array, full: bool | str) -> Iterator[Array]:
    yield _with_constant(xp, x - special.multiply_no_nan(xp, t, xp.log(x)), t, full)
    share = special.divide(xp, t, x, 0.0)  # nothing expected and nothing there: the loss is x
    is_near = abs(x - t) < x / 2  # far away, autodiff of (x - t) / x would lose the digits of t / x**2
    yield xp.where(is_near, (x - t) / xp.where(is_near, x, 1.0), 1 - share)
    yield special.divide(xp, share, x, 0.0)


_POISSONS = {"log_rate": _poisson_of_log, "rate": _poisson}


@loss(properties=lambda full, **_: Properties(convex=True, lower=0.0 if full else -inf))
def poisson_nll_loss(
    predictions: Array,
    targets: Array,
    *,
    given: Literal["log_rate", "rate"] = "log_rate",
    full: bool | Literal["stirling"] = False,
    **options: Unpack[ElementOptions],
) -> Array:
    """Negative log-likelihood of a Poisson distribution: regression of counts.

    .. code-block:: text

        loss = exp(x) - t * x      given log_rate
        loss = x - t * log(x)      given rate      (both + log(t!) with full=True)

    Gradient: exp(x) - t given log_rate, (x - t) / x given rate, and 1 there where both are 0. The second derivatives are exp(x) and
    t / x**2.
    Source: P. McCullagh, J. A. Nelder, Generalized Linear Models, 2nd edition, 1989, section 6.2.

    Parameters
    ----------
    predictions : array, floating point
        The logarithm x of the expected count, any number; or that count, x >= 0, which is not clipped: 0 at a positive target is inf.
    targets : array, the shape of `predictions`: counts t >= 0, which need not be whole
    given : "log_rate" or "rate"
    full : bool, or "stirling"
        Whether the constant log(t!) is added; "stirling": t * log(t) - t + log(2*pi*t) / 2 in its place where t > 1, and 0 elsewhere.
    {options}

    >>> import numpy as np
    >>> poisson_nll_loss(np.array([0.0, 1.0]), np.array([0, 3]), reduction="none").round(4)
    array([ 1.    , -0.2817])
    >>> poisson_nll_loss(np.array([0.0, 2.5]), np.array([0, 3]), given="rate", full=True, reduction="none").round(4)
    array([0.    , 1.5429])
    """
    kernel = _POISSONS[choice("given", given, tuple(_POISSONS))]
    return elementwise(kernel, predictions, targets, options, full=choice("full", full, (False, True, "stirling")))


def _gamma_nll(xp: Any, x: Array, t: Array, is_log: bool) -> Iterator[Array]:
    is_lost = is_log and (t == 0) & (x < log(dtypes.smallest_normal(x.dtype)))  # 0 * exp(-x) is 0, but for its derivative 0 * inf
    share = t * xp.exp(-xp.where(is_lost, inf, x)) if is_log else special.divide(xp, t, x, 0.0)
    yield share + xp.where(share == inf, 0.0, x if is_log else xp.log(x))  # where both are infinite, the logarithm is outweighed
    yield 1 - share if is_log else (1 - share) / x
    yield share if is_log else (2 * share - 1) / x / x


@loss(properties=lambda given, **_: Properties(convex=given == "log_mean", lower=-inf))
def gamma_nll_loss(
    predictions: Array, targets: Array, *, given: Literal["log_mean", "mean"] = "log_mean", **options: Unpack[ElementOptions]
) -> Array:
    """Negative log-likelihood of a gamma distribution: durations, sums of money. An error of a factor costs the same everywhere.

    .. code-block:: text

        loss = x + t * exp(-x)      given log_mean
        loss = log(x) + t / x       given mean

    It is that of shape 1, an exponential distribution; another shape multiplies it and adds a constant of t. The least loss of a target
    is log(t) + 1, and twice the difference to it is the gamma deviance.
    Gradient: 1 - t * exp(-x) given log_mean, (1 - t / x) / x given mean. The second derivatives are t * exp(-x) and (2 * t / x - 1) / x**2.
    Source: P. McCullagh, J. A. Nelder, Generalized Linear Models, 2nd edition, 1989, section 8.3.

    Parameters
    ----------
    predictions : array, floating point
        The logarithm x of the expected number, any number; or that number, x > 0, which is not clipped.
    targets : array, the shape of `predictions`: numbers t >= 0; the loss of 0 is the logarithm alone
    given : "log_mean" or "mean"
    {options}

    >>> import numpy as np
    >>> gamma_nll_loss(np.array([0.0, 1.0]), np.array([2.0, 0.0]), reduction="none")
    array([2., 1.])
    """
    is_log = choice("given", given, ("log_mean", "mean")) == "log_mean"
    return elementwise(_gamma_nll, predictions, targets, options, is_log=is_log)


def _squared_log_error(xp: Any, x: Array, t: Array) -> Iterator[Array]:
    is_positive, size = special.split_sign(xp, x - t)
    far = xp.log1p(size / (1 + xp.where(is_positive, t, x)))  # the difference of two logarithms, of which the smaller one is left out
    far = xp.where(is_positive, far, -far)
    yield far * far
    yield 2 * far / (1 + x)
    yield 2 * (1 - far) / (1 + x) / (1 + x)


@loss(properties=lambda **_: Properties())
def squared_log_error(predictions: Array, targets: Array, **options: Unpack[ElementOptions]) -> Array:
    """Squared error of logarithms: regression of numbers of very different size. An error of a factor costs the same everywhere.

    .. code-block:: text

        loss = L**2,   L = log(1 + x) - log(1 + t)

    Gradient: 2 * L / (1 + x). The second derivative, 2 * (1 - L) / (1 + x)**2, is negative for L > 1: the loss is not convex.
    Source: F. Pedregosa et al., Scikit-learn, JMLR 12, 2011, whose user guide has its mean as the mean squared logarithmic error.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
        Both above -1; they are not clipped. At -1 the loss is infinite, below it is NaN.
    {options}

    >>> import numpy as np
    >>> squared_log_error(np.array([3.0, 100.0]), np.array([1.0, 101.0]), reduction="none").round(6)
    array([4.80453e-01, 9.70000e-05])
    """
    return elementwise(_squared_log_error, predictions, targets, options)


def _absolute_percentage(xp: Any, x: Array, t: Array, floor: Any) -> Iterator[Array]:
    r, size = x - t, abs(t)
    size = size if not hasattr(floor, "dtype") and floor == 0 else xp.where(size < floor, floor, size)
    size = xp.where(r == 0, 1.0, size)  # 0/0: no error is no error, whatever it is relative to
    sign = special.sign(xp, r)
    yield sign * r / size
    yield sign / size
    yield xp.zeros_like(r)


def _symmetric_percentage(xp: Any, x: Array, t: Array) -> Iterator[Array]:
    r = x - t
    sign, sign_of_x, sign_of_t = special.sign(xp, r), special.sign(xp, x), special.sign(xp, t)
    size = sign_of_x * x + sign_of_t * t
    size = xp.where(size == 0, 1.0, size)  # both are 0: no error
    yield 2 * sign * r / size
    slope = 2 * sign * (sign_of_t * t / size) * (1 + sign_of_x * sign_of_t) / size  # 0 for different signs: then it is 2
    yield slope
    yield -2 * sign_of_x * slope / size


def _percentage_properties(floor: Any, symmetric: bool, **_: Any) -> Properties:
    steepest = 1 / floor if not hasattr(floor, "dtype") and floor > 0 else None
    return Properties(not symmetric, steepest, differentiable=False, twice_differentiable=False, upper=2.0 if symmetric else inf)


@loss(properties=_percentage_properties)
def absolute_percentage_error(
    predictions: Array, targets: Array, *, floor: float | Array = 0.0, symmetric: bool = False, **options: Unpack[ElementOptions]
) -> Array:
    """Absolute error relative to the target: forecasts. 0.1 is ten per cent; some libraries multiply by 100.

    .. code-block:: text

        loss = |x - t| / max(|t|, floor)
        loss = 2 * |x - t| / (|x| + |t|)      symmetric

    Gradient: the sign of x - t, over max(|t|, floor); symmetric: 4 * |t| * sign(x - t) / (|x| + |t|)**2 where x and t have one sign,
    0 where they have different ones, the mean of both at x = 0. Where x and t are equal, it is 0, and so is the loss.
    Source: R. J. Hyndman, A. B. Koehler, Another Look at Measures of Forecast Accuracy, International Journal of Forecasting 22, 2006,
    section 2.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
        With a floor of 0 an error at a target of 0 is infinite.
    floor : number >= 0, or 0-d array
        The least number that an error is relative to. It must be 0 for the symmetric error.
    symmetric : bool
        Whether the error is relative to the mean of |x| and |t|. It is at most 2, and 2 wherever signs differ.
    {options}

    >>> import numpy as np
    >>> absolute_percentage_error(np.array([90.0, 0.5]), np.array([100.0, 0.0]), floor=1.0, reduction="none")
    array([0.1, 0.5])
    """
    if not choice("symmetric", symmetric, (True, False)):
        return elementwise(_absolute_percentage, predictions, targets, options, floor=at_least(floor, 0))
    if hasattr(floor, "dtype") or floor != 0:
        raise ValueError(f"floor must be 0 with symmetric=True; got {floor}")
    return elementwise(_symmetric_percentage, predictions, targets, options)
