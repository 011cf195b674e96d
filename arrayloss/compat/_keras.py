"""What losses of Keras share: one loss for each sample, and classes that reduce it with sample weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from math import prod
from typing import Any, ParamSpec

from arrayloss.core import dtypes
from arrayloss.core.parts import Parts

from ._preset import Library, Native, Preset, Symbol, adapter, as_floats

Array = Any
P = ParamSpec("P")
MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight")
_library = Library("keras.losses", "Keras 3.15")


@dataclass(eq=False, repr=False)
class Samples(Native):
    """A call before its reduction.

    shape : of the losses of the samples
    mean_over : an axis of the predictions that each of them averages over
    counts_above_0 : whether a mean is over the losses that are not 0
    """

    shape: tuple[int, ...] = ()
    mean_over: int | None = None
    counts_above_0: bool = False

    def _finished(self, value: Array) -> Array:
        """Losses of weighted overlaps, which are computed in a row, in their shape."""
        value = super()._finished(value)
        return adapter(value).xp.reshape(value, self.shape) if value.ndim and "class_weights" in self.options else value


def preset(differs: str = "", shows: Sequence[str] = (), labels: Sequence[str] = ()) -> Callable[[Callable[P, Samples]], Preset[P]]:
    """The decorator of a function: of the losses of the samples."""

    def of(function: Callable[P, Samples]) -> Preset[P]:
        @wraps(function)
        def unreduced(*args: P.args, **kwargs: P.kwargs) -> Native:
            call, y_pred = function(*args, **kwargs), kwargs["y_pred"] if "y_pred" in kwargs else args[1]
            return reduced(call, y_pred, "none", None)

        return _library(differs, shows, labels)(unreduced)

    return of


def reduced(call: Samples, y_pred: Array, reduction: str | None, sample_weight: Any) -> Native:
    """The call with a reduction of Keras and the weights of the samples."""
    call.given = (y_pred,)
    own, size = call.options, 1 if call.mean_over is None else call.arrays[0].shape[call.mean_over]
    weights: Any = None
    if sample_weight is not None:
        weights = sample_weight
        if hasattr(weights, "shape"):
            weights = as_floats(weights, call.arrays[0])
            if weights.ndim == len(call.shape) + 1 and weights.shape[-1] == 1:
                weights = weights[..., 0]
            weights = adapter(weights).xp.reshape(weights, (1,) * (len(call.shape) - weights.ndim) + tuple(weights.shape))
            if weights.ndim > len(call.shape) or any(n not in (1, m) for n, m in zip(weights.shape, call.shape, strict=True)):
                raise ValueError(f"sample_weight must broadcast to the losses of the samples, {call.shape}; got {tuple(weights.shape)}")
        if "pool_axes" in own:
            return _of_weighted_overlaps(call, reduction, weights)
        own["weights"] = weights
        if call.mean_over is not None and hasattr(weights, "shape"):
            own["weights"] = adapter(weights).xp.expand_dims(weights, axis=call.mean_over % call.arrays[0].ndim)
    if reduction is None or reduction == "none":
        own |= {"reduction": "none"} if call.mean_over is None else {"reduce_axes": call.mean_over}
        own |= {"normalizer": "count"} if weights is not None and call.mean_over is not None else {}
    elif reduction == "sum":
        own["reduction"] = "sum"
        call.scale = call.scale if call.mean_over is None else call.scale / size
    elif call.counts_above_0 and not isinstance(call.arrays[0], Symbol):
        losses = call.loss(*call.arrays, **{**own, "weights": None, "reduction": "none"})
        counts = adapter(losses).xp.astype(losses > 0, losses.dtype)
        counts = counts if weights is None or reduction != "mean_with_sample_weight" else counts * weights
        own["normalizer"] = adapter(losses).xp.sum(counts)
    elif weights is not None:
        own["normalizer"] = _normalizer(call, reduction, weights, size)
    if call.shift:
        call.shift = _reduced_shift(call, reduction, weights)
    return call


def _of_weighted_overlaps(call: Samples, reduction: str | None, weights: Any) -> Samples:
    """The losses of overlaps times weights: the overlaps are classes, and the weights those of the classes."""
    xp, count, own = adapter(call.arrays[0]).xp, prod(call.shape), call.options
    call.arrays = [xp.reshape(a, (count, a.shape[-1])) for a in call.arrays]
    each = weights * xp.ones_like(xp.reshape(call.arrays[0][:, 0], call.shape))
    own |= {"axis": 0, "pool_axes": 1, "class_weights": xp.reshape(each, (count,)), "reduction": "sum"}
    if reduction is None or reduction == "none":
        own["reduction"] = "none"
    elif reduction == "mean_with_sample_weight" and call.shape:  # Keras does not reduce what is one number
        call.scale = 1 / (xp.sum(weights) if hasattr(weights, "shape") else weights)
    elif reduction != "sum":
        call.scale = 1 / count
    return call


def _normalizer(call: Samples, reduction: str, weights: Any, size: int) -> Any:
    """What a mean divides by: the number of samples, or the sum of the weights as they came, whatever they broadcast to."""
    if reduction != "mean_with_sample_weight":
        return "count"
    if tuple(getattr(weights, "shape", ())) == call.shape:
        return "weights"
    return (weights if isinstance(weights, (int, float)) else adapter(weights).xp.sum(weights)) * size


def _reduced_shift(call: Samples, reduction: str | None, weights: Any) -> Any:
    """What the losses of the samples are shifted by, reduced as they are."""
    shift, count = call.shift if weights is None else weights * call.shift, prod(call.shape)
    if reduction is None or reduction == "none" or (weights is None and reduction != "sum"):
        return shift
    total = adapter(shift).xp.sum(adapter(shift).xp.broadcast_to(shift, call.shape)) if dtypes.is_array(shift) else shift * count
    if reduction == "mean_with_sample_weight":
        count = adapter(weights).xp.sum(weights) if hasattr(weights, "shape") else weights
    return total if reduction == "sum" else total / count


class Loss:
    """A class of Keras: options first, then `(y_true, y_pred, sample_weight=None)`, with the methods of losses. It pickles.

    Arrays keep their dtype, unless `dtype` names one; Keras makes them float32.
    """

    function: Preset[Any]
    __signature__: inspect.Signature

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = self.__signature__.bind(*args, **kwargs)
        self._shown = ", ".join([f"{n}={v!r}" for n, v in given.arguments.items()])
        given.apply_defaults()
        self.options = dict(given.arguments)
        self.reduction, self.name, self.dtype = (self.options.pop(n) for n in ("reduction", "name", "dtype"))
        if self.reduction not in (*MEANS, "sum", "none", None):
            allowed = ", ".join(map(repr, (*MEANS, "sum", "none", None)))
            raise ValueError(f"Invalid value for argument `reduction`. Expected one of {allowed}; got {self.reduction!r}")
        if not 0 < self.options.get("q", 0.5) < 1:
            raise ValueError("q must be in the interval (0, 1)")

    def __call__(self, y_true: Array, y_pred: Array, sample_weight: Any = None) -> Array:
        return self._in_dtype(self.native(y_true, y_pred, sample_weight).value())

    def _in_dtype(self, a: Array) -> Array:
        if self.dtype is None or isinstance(a, Symbol):
            return a
        return a.astype(self.dtype) if hasattr(a, "astype") else adapter(a, "y_pred").xp.astype(a, getattr(adapter(a).xp, self.dtype))

    def value_and_grad(self, y_true: Array, y_pred: Array, sample_weight: Any = None) -> tuple[Array, Any]:
        """What the call returns, and its gradient with respect to the predictions."""
        return self.native(y_true, y_pred, sample_weight).value_and_grad()

    def grad_and_hess(self, y_true: Array, y_pred: Array, sample_weight: Any = None) -> tuple[Any, Any]:
        """First and second derivatives of the sum for every prediction, never divided by a number of samples."""
        return self.native(y_true, y_pred, sample_weight).grad_and_hess()

    def parts(self, y_true: Array, y_pred: Array, sample_weight: Any = None) -> Parts:
        """The sums behind the number, which add over batches and processes. `native(...).finish(parts)` is the number."""
        return self.native(y_true, y_pred, sample_weight).parts()

    def native(self, y_true: Array, y_pred: Array, sample_weight: Any = None) -> Native:
        """The call of ours, not yet computed. It prints."""
        function: Any = self.function._function
        y_pred = self._in_dtype(y_pred)
        call: Samples = function.__wrapped__(y_true, y_pred, **self.options)
        return reduced(call, y_pred, self.reduction, sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "reduction": self.reduction, **self.options}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        return cls(**config)

    def __repr__(self) -> str:
        arrays = [self.function.symbol(n) for n in ("y_true", "y_pred")]
        return f"<keras.losses.{type(self).__name__}({self._shown}) of Keras 3.15: {self.native(*arrays)!r}>"


def class_of(title: str, function: Preset[Any], names: str = "", /, **defaults: Any) -> Any:
    """The class with the options of a function, in the order of their names."""
    known = inspect.signature(function).parameters
    defaults = {"reduction": "sum_over_batch_size", "name": function.name, "dtype": None} | defaults
    parameters = [
        inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=defaults[n] if n in defaults else known[n].default)
        for n in (names or "reduction name dtype").split()
    ]
    doc = f"`keras.losses.{title}` of Keras 3.15." + (f" {function.differs}" if function.differs else "")
    own = {"function": function, "__signature__": inspect.Signature(parameters), "__module__": "arrayloss.compat.keras", "__doc__": doc}
    return type(title, (Loss,), own)
