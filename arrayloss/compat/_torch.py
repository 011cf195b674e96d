"""What losses of PyTorch share."""

from __future__ import annotations

from typing import Any

from ._preset import Library, as_weights

Array = Any
preset = Library("torch.nn.functional", "PyTorch 2.13")


def reduction_of(reduction: str, size_average: bool | None = None, reduce: bool | None = None) -> str:
    """The reduction, by its deprecated arguments too."""
    if size_average is not None or reduce is not None:
        if reduce is not None and not reduce:
            return "none"
        return "mean" if size_average is None or size_average else "sum"
    if reduction == "elementwise_mean":
        return "mean"
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def by_count(reduction: str) -> dict[str, Any]:
    """A mean over the number of elements, whatever they weigh."""
    return {"reduction": reduction, **({"normalizer": "count"} if reduction == "mean" else {})}


def check_same_shape(what: str, a: Array, b: Array) -> None:
    if tuple(a.shape) != tuple(b.shape):
        raise ValueError(f"{what} must have the shape of the input, {tuple(b.shape)}; got {tuple(a.shape)}")


def check_same_ndim(**arrays: Array) -> None:
    if len({a.ndim for a in arrays.values()}) > 1:
        raise ValueError(f"{', '.join(arrays)} must have one number of dimensions; got {', '.join([str(a.ndim) for a in arrays.values()])}")


def weighted(weight: Array | None, input: Array, reduction: str) -> dict[str, Any]:
    """Weights of elements, of which the mean is over the number of elements."""
    return {"reduction": reduction} if weight is None else {"weights": as_weights(weight, input), **by_count(reduction)}
