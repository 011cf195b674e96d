"""Masks that choose elements: the hardest ones, the steps of sequences that are there; and the levels that an ordinal label reaches."""

from math import floor
from typing import Any

from .adapters.dispatch import adapter_of
from .core import dtypes, special
from .frontend.check import is_boolean, normal_axis, number

Array = Any


def hardest(losses: Array, *, k: int | None = None, fraction: float | None = None, axis: int | None = None) -> Array:
    """Where the largest losses are, as a mask for `where`: online hard example mining, top-k losses.

    Exactly k elements are chosen; of equal losses the first ones. There is no gradient through the choice. A NaN is the largest of
    losses, so that none is hidden; elements that were masked in `losses` have 0 there, and come last. Under a compiler, too: k is a number.
    Source: A. Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016, section 4.

    Parameters
    ----------
    losses : array, floating point: of `reduction="none"`
    k : int >= 0
        How many elements are chosen, of all or of every row along `axis`. All, where there are not as many.
    fraction : number from 0 to 1
        Instead of k the share of the elements, rounded; above 0 at least one element.
    axis : int; None: all elements are ranked together

    >>> import numpy as np
    >>> from arrayloss import squared_error
    >>> x, t = np.array([0.5, 3.0, -2.0, 1.0]), np.zeros(4)
    >>> mask = hardest(squared_error(x, t, reduction="none"), k=2)
    >>> print(mask, squared_error(x, t, where=mask))
    [False  True  True False] 6.5
    """
    adapter = adapter_of(losses, "losses")
    losses, xp = adapter.as_array(losses, losses, "losses"), adapter.xp
    if dtypes.kind(losses.dtype) not in ("half", "float"):
        raise TypeError(f"losses must be floating point; got {dtypes.name(losses.dtype)}")
    if (k is None) == (fraction is None):
        raise ValueError(f"k or fraction must be given, and not both; got k={k!r} and fraction={fraction!r}")
    flat = xp.reshape(losses, (-1,)) if axis is None else losses
    along = 0 if axis is None else normal_axis("axis", axis, losses.ndim)
    share = 0.0 if fraction is None else number("fraction", fraction, low=0, high=1)
    count = max(floor(share * flat.shape[along] + 0.5), int(share > 0)) if k is None else _size("k", k, 0)
    largest = xp.where(flat == flat, flat, float("inf"))
    order = xp.argsort(largest, axis=along, descending=True, stable=True)
    return xp.reshape(xp.argsort(order, axis=along) < count, tuple(losses.shape))


def length_mask(lengths: Array, size: int) -> Array:
    """Where the steps of padded sequences are, as a mask for `where`: True before the length of each.

    Parameters
    ----------
    lengths : array of integers from 0 to `size`, of any shape; checked where they can be read for free
    size : int >= 0: the length of the padded axis, which is the last of the result

    >>> import numpy as np
    >>> length_mask(np.array([2, 0, 3]), 3)
    array([[ True,  True, False],
           [False, False, False],
           [ True,  True,  True]])
    """
    return _below("lengths", lengths, _size("size", size, 0))


def ordinal_levels(labels: Array, size: int) -> Array:
    """Which of `size` levels an ordinal label reaches: targets of decisions "is the label above k?" for k from 0 to size - 1.

    `sigmoid_cross_entropy` of such decisions, whose logits share their weights, is CORAL.
    Source: W. Cao et al., Rank consistent ordinal regression for neural networks, Pattern Recognition Letters 140, 2020, section 3.2.

    Parameters
    ----------
    labels : array of integers from 0 to `size`, of any shape; checked where they can be read for free
        There is one class more than there are levels.
    size : int >= 1: how many levels there are; they are the last axis of the result, which is boolean

    >>> import numpy as np
    >>> ordinal_levels(np.array([0, 2, 3]), 3)
    array([[False, False, False],
           [ True,  True, False],
           [ True,  True,  True]])
    """
    return _below("labels", labels, _size("size", size, 1))


def _size(name: str, value: Any, low: int) -> int:
    if not hasattr(value, "__index__") or is_boolean(value) or dtypes.is_array(value) or int(value) < low:
        raise ValueError(f"{name} must be an integer of at least {low}; got {value!r}")
    return int(value)


def _below(name: str, numbers: Array, size: int) -> Array:
    """Which of the numbers 0, 1, .. size - 1, along a new last axis, are below those of an array."""
    adapter = adapter_of(numbers, name)
    numbers, xp = adapter.as_array(numbers, numbers, name), adapter.xp
    if dtypes.kind(numbers.dtype) != "integer":
        raise TypeError(f"{name} must be integers; got {dtypes.name(numbers.dtype)}: pass {name}{adapter.to_integers}")
    if adapter.host_view(numbers) is not None and 0 not in numbers.shape:
        for extreme in special.label_range(xp, numbers):
            if not 0 <= extreme <= size:
                raise ValueError(f"{name} must be from 0 to {size}; got {extreme}")
    last = xp.expand_dims(special.as_index(xp, numbers), axis=-1)
    steps = xp.reshape(xp.arange(size, dtype=last.dtype, device=getattr(numbers, "device", None)), (1,) * numbers.ndim + (size,))
    return steps < last
