"""Losses of decisions with the target -1 or 1, which ask for a margin: hinges, perceptron, soft margin, exponential, embedding, ranking.

m = t * x is the margin of an element: how far its score lies on the right side. A hinge max(0, z) has its slope at z = 0 too, as in
PyTorch's `clamp_min` and scikit-learn: a perceptron or a ranking that starts from zeros has to move.
"""

from collections.abc import Iterator
from math import inf, sqrt
from typing import Any, Unpack

from arrayloss.core import special
from arrayloss.frontend.build import signed
from arrayloss.frontend.check import Parameter, positive
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import LabelOptions

Array = Any


def above_zero(xp: Any, z: Array, value: Any) -> Array:
    """A value where z >= 0, and 0 elsewhere. A NaN stays."""
    return xp.where(z < 0, 0.0, xp.where(z >= 0, value, z))


def by_sign(xp: Any, t: Array, positive: Array, negative: Array) -> Array:
    """One of two by the sign of targets. A NaN stays."""
    return xp.where(t > 0, positive, xp.where(t <= 0, negative, t))


def _hinge(xp: Any, x: Array, t: Array, margin: Any) -> Iterator[Array]:
    z = margin - t * x
    yield xp.where(z < 0, 0.0, z)
    yield above_zero(xp, z, -t)
    yield xp.zeros_like(x)


@loss(properties=lambda **_: Properties(convex=True, lipschitz=1.0, differentiable=False, twice_differentiable=False))
def hinge_loss(scores: Array, targets: Array, *, margin: float | Array = 1.0, **options: Unpack[LabelOptions]) -> Array:
    """What a score lacks to lie on the right side by a margin: support vector machines, discriminators.

    .. code-block:: text

        loss = max(0, margin - t * x)

    Gradient: -t where t * x <= margin, at the kink too, else 0. The second derivative is 0.
    Source: C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 7.45.

    Parameters
    ----------
    scores : array, any shape, floating point
        Any real numbers: a score is no probability. An infinite one gives the limit, 0 or inf.
    targets : array, the shape of `scores`: integer (-1 and 1, checked), boolean (False is -1), or floating point, used as it is
        Integers 0 and 1 are an error: pass `targets == 1`.
    margin : number, or 0-d array
    {options}

    >>> import numpy as np
    >>> hinge_loss(np.array([0.5, 3.0, -1.0]), np.array([1, 1, 1]), reduction="none")
    array([0.5, 0. , 2. ])
    """
    return signed(_hinge, {"scores": scores}, targets, options, margin=Parameter(margin))


def _squared_hinge(xp: Any, x: Array, t: Array, margin: Any) -> Iterator[Array]:
    z = margin - t * x
    z = xp.where(z <= 0, 0.0, z)
    yield z * z
    yield -2 * t * z
    yield xp.where(z > 0, 2 * t * t, 0.0)


@loss(properties=lambda **_: Properties(convex=True, twice_differentiable=False))
def squared_hinge_loss(scores: Array, targets: Array, *, margin: float | Array = 1.0, **options: Unpack[LabelOptions]) -> Array:
    """Square of the hinge: a few large violations of the margin cost more than many small ones.

    .. code-block:: text

        loss = max(0, margin - t * x)**2

    Gradient: -2 * t * max(0, margin - t * x). The second derivative is 2 * t**2 within the margin, else 0.
    Source: Y. Tang, Deep Learning using Linear Support Vector Machines, ICML Workshop on Challenges in Representation Learning 2013, eq. 6.

    Parameters
    ----------
    scores, targets, margin
        As for `hinge_loss`.
    {options}

    >>> import numpy as np
    >>> squared_hinge_loss(np.array([0.5, 3.0, -1.0]), np.array([1, 1, 1]), reduction="none")
    array([0.25, 0.  , 4.  ])
    """
    return signed(_squared_hinge, {"scores": scores}, targets, options, margin=Parameter(margin))


def _smooth_hinge(xp: Any, x: Array, t: Array, smoothing: Any) -> Iterator[Array]:
    m = t * x
    is_line = m < 1 - smoothing  # 1 - m would have lost a small m
    z = xp.where(m >= 1, 0.0, 1 - m)
    inside = xp.where(is_line, smoothing, z)
    share = inside / smoothing
    yield share * (z - inside / 2)
    yield -t * share
    yield xp.where((z > 0) & ~is_line, t * t / smoothing, 0.0)


@loss(properties=lambda **_: Properties(convex=True, lipschitz=1.0, twice_differentiable=False))
def smooth_hinge_loss(scores: Array, targets: Array, *, smoothing: float | Array = 1.0, **options: Unpack[LabelOptions]) -> Array:
    """Hinge with a rounded kink: differentiable, and robust as the hinge is.

    .. code-block:: text

        loss = 0  where z <= 0,  z**2 / (2 * g)  where z <= g,  z - g / 2  elsewhere;   z = 1 - t * x,  g = smoothing

    Gradient: -t * clip(z / g, 0, 1). The second derivative is t**2 / g for 0 < z <= g, else 0. With g = 2 it is the binary sparsemax loss,
    and a quarter of the modified Huber loss.
    Source: S. Shalev-Shwartz, T. Zhang, Stochastic Dual Coordinate Ascent Methods for Regularized Loss Minimization, JMLR 14, 2013.

    Parameters
    ----------
    scores, targets
        As for `hinge_loss`.
    smoothing : number > 0, or 0-d array
    {options}

    >>> import numpy as np
    >>> smooth_hinge_loss(np.array([0.5, 3.0, -1.0]), np.array([1, 1, 1]), reduction="none")
    array([0.125, 0.   , 1.5  ])
    """
    return signed(_smooth_hinge, {"scores": scores}, targets, options, smoothing=positive(smoothing))


@loss(properties=lambda **_: Properties(convex=True, lipschitz=1.0, differentiable=False, twice_differentiable=False))
def perceptron_loss(scores: Array, targets: Array, **options: Unpack[LabelOptions]) -> Array:
    """How far a score lies on the wrong side: the loss that the perceptron's rule descends.

    .. code-block:: text

        loss = max(0, -t * x)

    Gradient: -t where t * x <= 0, else 0: a score of 0 is moved. The second derivative is 0. It is a hinge without a margin.
    Source: C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.54.

    Parameters
    ----------
    scores, targets
        As for `hinge_loss`.
    {options}

    >>> import numpy as np
    >>> perceptron_loss(np.array([0.5, 3.0, -1.0]), np.array([1, -1, 1]), reduction="none")
    array([0., 3., 1.])
    """
    return signed(_hinge, {"scores": scores}, targets, options, margin=0.0)


def _soft_margin(xp: Any, x: Array, t: Array) -> Iterator[Array]:
    z = -t * x
    step, tail, softplus, add_sigmoid_minus_step = special.sigmoid_terms(xp, z)
    yield lambda: softplus() + special.multiply_no_nan(xp, step, z)
    yield -t * add_sigmoid_minus_step(step)
    yield t * t * tail * (1 - tail)


@loss(properties=lambda **_: Properties(convex=True, lipschitz=1.0))
def soft_margin_loss(scores: Array, targets: Array, **options: Unpack[LabelOptions]) -> Array:
    """Logistic loss of a margin: the sigmoid cross-entropy, for targets -1 and 1.

    .. code-block:: text

        loss = log(1 + exp(-t * x))

    Gradient: -t * sigmoid(-t * x), finite everywhere, with all its digits at any margin. The second derivative is
    t**2 * sigmoid(t * x) * sigmoid(-t * x).
    Source: C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 7.48.

    Parameters
    ----------
    scores, targets
        As for `hinge_loss`.
    {options}

    >>> import numpy as np
    >>> soft_margin_loss(np.array([0.0, 20.0, -1000.0]), np.array([1, 1, 1]), reduction="none")
    array([6.93147181e-01, 2.06115362e-09, 1.00000000e+03])
    """
    return signed(_soft_margin, {"scores": scores}, targets, options)


def _exponential(xp: Any, x: Array, t: Array) -> Iterator[Array]:
    e = xp.exp(-t * x)
    yield e
    yield -t * e
    yield t * t * e


@loss(properties=lambda **_: Properties(convex=True))
def exponential_loss(scores: Array, targets: Array, **options: Unpack[LabelOptions]) -> Array:
    """Exponential of the negative margin: the loss that AdaBoost descends. An element on the wrong side soon outweighs all others.

    .. code-block:: text

        loss = exp(-t * x)

    Gradient: -t * exp(-t * x). Value and derivatives overflow where they are larger than the dtype can hold.
    Source: T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd edition, 2009, equation 10.8.

    Parameters
    ----------
    scores, targets
        As for `hinge_loss`.
    {options}

    >>> import numpy as np
    >>> exponential_loss(np.array([0.0, 2.0, -2.0]), np.array([1, 1, 1]), reduction="none").round(4)
    array([1.    , 0.1353, 7.3891])
    """
    return signed(_exponential, {"scores": scores}, targets, options)


def _hinge_embedding(xp: Any, x: Array, t: Array, margin: Any) -> Iterator[Array]:
    z = margin - x
    yield by_sign(xp, t, x, xp.where(z < 0, 0.0, z))
    yield by_sign(xp, t, xp.ones_like(x), above_zero(xp, z, -1.0))
    yield xp.zeros_like(x)


@loss(properties=lambda **_: Properties(convex=True, lipschitz=1.0, differentiable=False, twice_differentiable=False, lower=-inf))
def hinge_embedding_loss(distances: Array, targets: Array, *, margin: float | Array = 1.0, **options: Unpack[LabelOptions]) -> Array:
    """Distances of pairs: small for those that belong together (1), at least the margin for others (-1).

    .. code-block:: text

        loss = x  where t > 0,  max(0, margin - x)  elsewhere

    Gradient: 1 where t > 0; elsewhere -1 for x <= margin, at the kink too, else 0. The second derivative is 0.
    Source: R. Hadsell, S. Chopra, Y. LeCun, Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006, equation 4, has it with
    squares; this is PyTorch's, which adds both terms where a target is 0.

    Parameters
    ----------
    distances : array, any shape, floating point
        They may be negative; such a loss has no lower bound.
    targets
        As for `hinge_loss`. Of floating-point targets only the sign counts; 0 counts as -1.
    margin : number, or 0-d array
    {options}

    >>> import numpy as np
    >>> hinge_embedding_loss(np.array([0.25, 0.25, 3.0]), np.array([1, -1, -1]), reduction="none")
    array([0.25, 0.75, 0.  ])
    """
    return signed(_hinge_embedding, {"distances": distances}, targets, options, margin=Parameter(margin))


def _margin_ranking(xp: Any, x1: Array, x2: Array, t: Array, margin: Any) -> Iterator[Any]:
    lead = x1 - x2
    near = lead - x1
    lost = xp.where(abs(lead) < inf, (x1 - (lead - near)) - (x2 + near), 0.0)  # what rounding has taken from the lead, exactly
    z = margin - t * lead - t * lost
    yield xp.where(z < 0, 0.0, z)
    slope = above_zero(xp, z, t)
    yield -slope, slope
    yield xp.zeros_like(x1), xp.zeros_like(x2)


@loss(properties=lambda **_: Properties(convex=True, lipschitz=sqrt(2), differentiable=False, twice_differentiable=False))
def margin_ranking_loss(
    scores1: Array, scores2: Array, targets: Array, *, margin: float | Array = 0.0, **options: Unpack[LabelOptions]
) -> Array:
    """What the better of two scores lacks to lead by a margin: learning to rank from pairs.

    .. code-block:: text

        loss = max(0, margin - t * (x1 - x2))

    Gradient: a pair, -t and t where t * (x1 - x2) <= margin, at the kink too, else 0. The second derivatives are 0.
    Source: R. Collobert et al., Natural Language Processing (Almost) from Scratch, JMLR 12, 2011, section 4.2, with a margin of 1.

    Parameters
    ----------
    scores1, scores2 : arrays of one shape and dtype, floating point
    targets : array, the shape of `scores1`
        1 where the first is to be larger, -1 where the second is; kinds and checks as for `hinge_loss`.
    margin : number, or 0-d array
    {options}

    >>> import numpy as np
    >>> margin_ranking_loss(np.array([1.0, 2.0]), np.array([0.5, 3.0]), np.array([1, 1]), margin=1.0, reduction="none")
    array([0.5, 2. ])
    """
    return signed(_margin_ranking, {"scores1": scores1, "scores2": scores2}, targets, options, margin=Parameter(margin))
