"""One-hot arrays of labels."""

from typing import Any

from .adapters.dispatch import adapter_of
from .core import dtypes, special
from .core.labels import Labels
from .frontend.check import is_boolean, normal_axis

Array = Any


def one_hot(labels: Array, num_classes: int, axis: int = -1, dtype: Any = None) -> Array:
    """Labels as rows with a single 1 of float32 or another dtype; `axis` is that of the classes, counted in the result.

    A label out of range raises `ValueError` where labels can be read for free (NumPy, PyTorch on the CPU); elsewhere its row is NaN, so
    the dtype must be floating point there.

    >>> import numpy as np
    >>> one_hot(np.array([2, 0]), 3)
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    adapter = adapter_of(labels, "labels")
    labels, xp = adapter.as_array(labels, labels, "labels"), adapter.xp
    if dtypes.kind(labels.dtype) not in ("integer", "bool"):
        raise TypeError(f"labels must be integers; got {dtypes.name(labels.dtype)}: pass labels{adapter.to_integers}")
    if not hasattr(num_classes, "__index__") or is_boolean(num_classes) or int(num_classes) < 1:
        raise ValueError(f"num_classes must be an integer of at least 1; got {num_classes!r}")
    classes, axis = int(num_classes), normal_axis("axis", axis, labels.ndim + 1)
    dtype, is_readable = xp.float32 if dtype is None else dtype, adapter.host_view(labels) is not None
    if not is_readable and dtypes.kind(dtype) not in ("half", "float"):
        raise TypeError(f"dtype must be floating point where labels are not read, so that a wrong one can be NaN; got {dtypes.name(dtype)}")
    indices = xp.expand_dims(labels, axis=axis)
    valid, indices = Labels(0, classes).prepare(xp, indices, "raise" if is_readable else "nan", (), None)
    like = xp.broadcast_to(indices, (*labels.shape[:axis], classes, *labels.shape[axis:]))
    hot = xp.astype(special.arange_along(xp, like, axis) == indices, dtype)
    return hot if valid is None else xp.where(valid, hot, float("nan"))
