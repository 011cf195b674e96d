"""Losses made of a convex conjugate of one's own."""

from collections.abc import Callable, Iterator
from typing import Any, Unpack

from .core import special
from .frontend.build import rows
from .frontend.loss import Loss, loss
from .frontend.options import RowOptions

Array = Any


def fenchel_young(name: str, conjugate: Callable[..., Iterator[Array]]) -> Loss[...]:
    """A loss of rows from a convex conjugate: cross-entropy is that of log-sum-exp, sparsemax that of a Gini entropy.

    .. code-block:: text

        loss = conjugate(x) - sum over c of t_c * x_c      (and the conjugate of t, which is a constant, is left out: of labels it is 0)

    Gradient: that of the conjugate less t. The two terms cancel where the loss is small: of the losses that have names of their own the
    forms are better.
    Source: M. Blondel, A. F. T. Martins, V. Niculae, Learning with Fenchel-Young Losses, JMLR 21, 2020, definition 1.

    Parameters
    ----------
    name : str
        What the loss is called. It pickles if that is its name in the module of `conjugate`.
    conjugate : kernel
        A generator over the array API: called as `conjugate(xp, x, axis)` it yields the conjugate of every row, the axis kept with size 1,
        then its gradient, and optionally its Hessian diagonal.

    The loss takes logits, then labels or distributions, and the options of `softmax_cross_entropy`.

    >>> import numpy as np
    >>> def logsumexp(xp, x, axis):
    ...     e = xp.exp(x)
    ...     yield xp.log(xp.sum(e, axis=axis, keepdims=True))
    ...     yield e / xp.sum(e, axis=axis, keepdims=True)
    >>> my_loss = fenchel_young("my_loss", logsumexp)
    >>> value, gradient = my_loss.value_and_grad(np.array([[2.0, 1.0, 0.0]]), np.array([0]))
    >>> print(value.round(6), gradient.round(6))
    0.407606 [[-0.334759  0.244728  0.090031]]
    """

    def of_distribution(xp: Any, x: Array, t: Array, axis: int) -> Iterator[Array]:
        steps = conjugate(xp, x, axis)
        yield next(steps) - xp.sum(special.multiply_no_nan(xp, t, x), axis=axis, keepdims=True)
        yield next(steps) - t
        yield from steps

    def of_labels(xp: Any, x: Array, t: Array, axis: int) -> Iterator[Array]:
        steps = conjugate(xp, x, axis)
        yield next(steps) - special.gather_label(xp, x, t, axis)
        slope = next(steps)
        yield special.scatter_label(xp, slope, t, special.gather_label(xp, slope, t, axis) - 1, axis)
        yield from steps

    def function(logits: Array, targets: Array, **options: Unpack[RowOptions]) -> Array:
        return rows(of_labels, of_distribution, {"logits": logits}, targets, options, needs_two_classes=False)

    for f in (function, of_labels, of_distribution):
        f.__name__ = f.__qualname__ = name
        f.__module__ = conjugate.__module__
    function.__doc__ = f"conjugate(x) - sum(t * x), with the conjugate `{conjugate.__name__}`.\n\n{{options}}"
    return loss(function)
