"""Losses of real numbers that large errors move little: lines and logarithms far away, and losses with a ceiling."""

from collections.abc import Callable, Iterator
from math import exp, inf, log, sqrt
from typing import Any, Unpack

from arrayloss.core import special
from arrayloss.frontend.build import elementwise
from arrayloss.frontend.check import positive
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import ElementOptions

from .binary import times_largest
from .divergence import two_sum

Array = Any


def _inverted(xp: Any, u: Array, border: float) -> tuple[Array, Array]:
    """Whether |u| is beyond a border; and 1 / u there, u elsewhere: its square does not overflow."""
    is_far = abs(u) > border
    return is_far, xp.where(is_far, 1 / xp.where(is_far, u, 1.0), u)


def _descending(steepest: float, upper: float = inf) -> Callable[..., Properties]:
    """The properties of a loss of (x - t) / scale whose slope is largest at some distance and then goes to 0."""
    return lambda scale, **_: Properties(lipschitz=None if hasattr(scale, "dtype") else steepest / scale, upper=upper)


def _charbonnier(xp: Any, x: Array, t: Array, scale: Any) -> Iterator[Array]:
    r = x - t
    is_far, w = _inverted(xp, u := r / scale, 1)
    square = 1 + w * w
    root = xp.sqrt(square)
    top, least = xp.where(is_far, special.sign(xp, u), u), xp.where(is_far, abs(w), 1.0)  # u and 1, over |u| where that is far
    yield r * (top / (least + root))
    yield top / root
    yield least * least * least / (square * root) / scale


@loss(properties=lambda **_: Properties(convex=True, lipschitz=1.0))
def charbonnier_loss(predictions: Array, targets: Array, *, scale: float | Array = 1.0, **options: Unpack[ElementOptions]) -> Array:
    """Absolute error whose kink is a hyperbola: optical flow, restoration of images. With `scale` added it is sqrt(r**2 + scale**2).

    .. code-block:: text

        loss = sqrt(r**2 + scale**2) - scale;   r = x - t

    Gradient: r / sqrt(r**2 + scale**2). The second derivative is scale**2 / (r**2 + scale**2)**1.5.
    Source: P. Charbonnier et al., Two Deterministic Half-Quadratic Regularization Algorithms for Computed Imaging, ICIP 1994.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
    scale : number > 0, or 0-d array: where the square becomes a line
    {options}

    >>> import numpy as np
    >>> charbonnier_loss(np.array([0.75, 1e-9, -1e9]), np.zeros(3), reduction="none")
    array([2.50000000e-01, 5.00000000e-19, 9.99999999e+08])
    """
    return elementwise(_charbonnier, predictions, targets, options, scale=positive(scale))


def _pseudo_huber(xp: Any, x: Array, t: Array, delta: Any) -> Iterator[Array]:
    yield from (delta * derivative for derivative in _charbonnier(xp, x, t, delta))


@loss(properties=lambda delta, **_: Properties(convex=True, lipschitz=times_largest(1.0, delta)))
def pseudo_huber_loss(predictions: Array, targets: Array, *, delta: float | Array = 1.0, **options: Unpack[ElementOptions]) -> Array:
    """Half the squared error near the target, delta times the absolute error far from it, smooth everywhere: delta * the Charbonnier loss.

    .. code-block:: text

        loss = delta**2 * (sqrt(1 + (r / delta)**2) - 1);   r = x - t

    Gradient: r / sqrt(1 + (r / delta)**2), within [-delta, delta]. The second derivative is (1 + (r / delta)**2)**-1.5.
    Source: R. Hartley, A. Zisserman, Multiple View Geometry in Computer Vision, 2nd edition, 2004, appendix 6.8.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
    delta : number > 0, or 0-d array: where the square becomes a line
    {options}

    >>> import numpy as np
    >>> pseudo_huber_loss(np.array([1.5, -1e30]), np.zeros(2), delta=2.0, reduction="none")
    array([1.e+00, 2.e+30])
    """
    return elementwise(_pseudo_huber, predictions, targets, options, delta=positive(delta))


def _cauchy(xp: Any, x: Array, t: Array, scale: Any) -> Iterator[Array]:
    is_far, w = _inverted(xp, u := (x - t) / scale, 4)
    z = w * w
    size = xp.where(is_far, abs(u), 1.0)
    yield xp.where(is_far, 2 * xp.log(size) - log(2), 0.0) + xp.log1p(xp.where(is_far, 2 * z, z / 2))
    whole = xp.where(is_far, 1 + 2 * z, 2 + z)
    yield 2 * w / whole / scale
    yield 2 * xp.where(is_far, z * (2 * z - 1), 2 - z) / (whole * whole) / scale / scale


@loss(properties=_descending(sqrt(0.5)))
def cauchy_loss(predictions: Array, targets: Array, *, scale: float | Array = 1.0, **options: Unpack[ElementOptions]) -> Array:
    """The logarithm of an error: what lies far away pulls the less, the farther it is. Also called Lorentzian.

    .. code-block:: text

        loss = log(1 + u**2 / 2);   u = (x - t) / scale

    Gradient: u / (1 + u**2 / 2) / scale, largest at u = sqrt(2). The second derivative, (1 - u**2 / 2) / (1 + u**2 / 2)**2 / scale**2, is
    negative beyond.
    Source: J. T. Barron, A General and Adaptive Robust Loss Function, CVPR 2019, equation 5.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
    scale : number > 0, or 0-d array
    {options}

    >>> import numpy as np
    >>> cauchy_loss(np.array([1.0, -1e20]), np.zeros(2), reduction="none").round(4)
    array([ 0.4055, 91.4103])
    """
    return elementwise(_cauchy, predictions, targets, options, scale=positive(scale))


def _welsch(xp: Any, x: Array, t: Array, scale: Any) -> Iterator[Array]:
    r, rest = two_sum(x, -t)
    u = special.clip(xp, r / scale, -40.0, 40.0)  # exp(-40**2 / 2) is 0 in float64
    yield -xp.expm1(u * u / -2)
    h = xp.round(u * 256) / 256  # h * h is exact; the exponential of u * u would enlarge its rounding, and that of r, u * u times
    coarse, fine = xp.exp(h * h / -2), xp.exp((h - u - xp.where(abs(u) < 40, rest / scale, 0.0)) * (h + u) / 2)
    yield u * coarse * fine / scale  # in this order: XLA makes exp(a + b) of exp(a) * exp(b)
    yield (1 - u) * (1 + u) * coarse * fine / scale / scale


@loss(properties=_descending(exp(-0.5), 1.0))
def welsch_loss(predictions: Array, targets: Array, *, scale: float | Array = 1.0, **options: Unpack[ElementOptions]) -> Array:
    """A bell upside down: half the square of u near the target, 1 far from it, where nothing pulls. Also called Leclerc, or correntropy.

    .. code-block:: text

        loss = 1 - exp(-u**2 / 2);   u = (x - t) / scale

    Gradient: u * exp(-u**2 / 2) / scale, largest at u = 1. The second derivative, (1 - u**2) * exp(-u**2 / 2) / scale**2, is negative
    beyond.
    Source: J. T. Barron, A General and Adaptive Robust Loss Function, CVPR 2019, equation 7.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
    scale : number > 0, or 0-d array
    {options}

    >>> import numpy as np
    >>> welsch_loss(np.array([1e-9, -100.0]), np.zeros(2), reduction="none")
    array([5.e-19, 1.e+00])
    """
    return elementwise(_welsch, predictions, targets, options, scale=positive(scale))


def _geman_mcclure(xp: Any, x: Array, t: Array, scale: Any) -> Iterator[Array]:
    is_far, w = _inverted(xp, (x - t) / scale, 2)
    z = w * w
    whole = xp.where(is_far, 1 + 4 * z, 4 + z)
    yield 2 * xp.where(is_far, 1.0, z) / whole
    yield 16 * w * xp.where(is_far, z, 1.0) / (whole * whole) / scale
    yield 16 * xp.where(is_far, z * z * (4 * z - 3), 4 - 3 * z) / (whole * whole * whole) / scale / scale


@loss(properties=_descending(sqrt(27) / 8, 2.0))
def geman_mcclure_loss(predictions: Array, targets: Array, *, scale: float | Array = 1.0, **options: Unpack[ElementOptions]) -> Array:
    """Half the square of u near the target, 2 far from it; its tail is longer than that of the Welsch loss.

    .. code-block:: text

        loss = 2 * u**2 / (u**2 + 4);   u = (x - t) / scale

    Gradient: 16 * u / (u**2 + 4)**2 / scale, largest at u = sqrt(4 / 3). The second derivative is negative beyond: it is
    16 * (4 - 3 * u**2) / (u**2 + 4)**3 / scale**2.
    Source: J. T. Barron, A General and Adaptive Robust Loss Function, CVPR 2019, equation 6.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
    scale : number > 0, or 0-d array
    {options}

    >>> import numpy as np
    >>> geman_mcclure_loss(np.array([1.0, -2.0, 1e200]), np.zeros(3), reduction="none")
    array([0.4, 1. , 2. ])
    """
    return elementwise(_geman_mcclure, predictions, targets, options, scale=positive(scale))


def _wing(xp: Any, x: Array, t: Array, width: Any, curvature: Any) -> Iterator[Array]:
    r = x - t
    sign = special.sign(xp, r)
    size = sign * r
    is_near = size < width
    inside = xp.where(is_near, size, width)
    yield width * xp.log1p(inside / curvature) + (size - inside)
    slope = sign * xp.where(is_near, width / (curvature + inside), 1.0)
    yield slope
    yield xp.where(is_near, slope * slope / -width, 0.0)


def _wing_properties(width: Any, curvature: Any, **_: Any) -> Properties:
    steepest = None if hasattr(width, "dtype") or hasattr(curvature, "dtype") else max(1.0, width / curvature)
    return Properties(lipschitz=steepest, differentiable=False, twice_differentiable=False)


@loss(properties=_wing_properties)
def wing_loss(
    predictions: Array,
    targets: Array,
    *,
    width: float | Array = 5.0,
    curvature: float | Array = 0.5,
    **options: Unpack[ElementOptions],
) -> Array:
    """The logarithm of a small error, the absolute value of a large one: landmarks. The smaller an error, the more it pulls.

    .. code-block:: text

        loss = w * log(1 + a / c)  where a < w,  a - w + w * log(1 + w / c)  elsewhere;   a = |x - t|, w = width, c = curvature

    Gradient: the sign of x - t, times w / (c + a) where a < w, and 0 where x and t are equal. The second derivative is -w / (c + a)**2
    where 0 < a < w, else 0.
    Source: Z.-H. Feng et al., Wing Loss for Robust Facial Landmark Localisation, CVPR 2018, equation 5.

    Parameters
    ----------
    predictions, targets : arrays of one shape, floating point predictions
    width : number > 0, or 0-d array: where the logarithm becomes a line
    curvature : number > 0, or 0-d array: the smaller, the steeper is the loss near the target
    {options}

    >>> import numpy as np
    >>> wing_loss(np.array([0.5, -7.0]), np.zeros(2), reduction="none").round(4)
    array([ 3.4657, 13.9895])
    """
    return elementwise(_wing, predictions, targets, options, width=positive(width), curvature=positive(curvature))
