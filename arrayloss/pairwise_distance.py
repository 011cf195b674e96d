"""The distance of vectors, as losses of vectors take it."""

from typing import Any

from .frontend.arguments import Arguments
from .frontend.check import number
from .losses.vectors import as_p, distance

Array = Any


def pairwise_distance(a: Array, b: Array, *, p: float = 2.0, eps: float = 0.0, axis: int = -1) -> Array:
    """The distance of vectors, sum(|a - b + eps|**p)**(1 / p): no loss, but what losses of vectors take.

    Parameters
    ----------
    a, b : arrays of one shape, floating point
        Vectors lie along `axis`, which the result does not have. Neither tiny nor huge entries lose anything.
    p : number >= 1, or infinity
    eps : number added to the differences, as PyTorch does (by default 1e-6 there)
    axis : int

    >>> import numpy as np
    >>> pairwise_distance(np.array([[3.0, 0.0], [1e200, 0.0]]), np.array([[0.0, 4.0], [0.0, 0.0]]))
    array([5.e+000, 1.e+200])
    """
    arguments = Arguments({"a": a, "b": b})
    axis = arguments.set_class_axis(arguments.shape, axis)
    x, y = (arguments.xp.astype(v, arguments.compute, copy=False) for v in arguments.arrays)
    value = distance(arguments.xp, x, y, axis, as_p(p), number("eps", eps))[0]
    return arguments.xp.astype(arguments.xp.squeeze(value, axis=axis), a.dtype, copy=False)
