"""`@loss`: what turns a function that describes a call into the public loss of that name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import update_wrapper
from typing import Any, Generic, ParamSpec

from . import reduction
from .call import Call
from .check import is_number, number
from .combination import Algebra
from .namespace import backend_of
from .parts import Parts, Rule
from .plan import Plans
from .pooled import PooledCall

Array = Any
P = ParamSpec("P")

REGISTRY: dict[str, Loss[Any]] = {}


class Loss(Algebra, Generic[P]):
    """A loss function: call it for the number, or ask it for more.

    `loss(...)` is the number, or the loss per element with `reduction="none"`. `value_and_grad`, `grad_and_hess` and
    `parts` take the same arguments; `bind` fixes options; `finish` turns parts into the number. Numbers times losses, added up, are
    a loss again.
    """

    def __init__(self, function: Callable[P, Call | PooledCall], options: Mapping[str, Any] | None = None) -> None:
        self._function = function
        self._options = dict(options or {})
        self._plans = Plans(function, self._options)
        update_wrapper(self, function)

    def __getattr__(self, name: str) -> Any:
        """The signature that editors and `help` show, when it is asked for: it takes longer to make than all else here."""
        if name != "__signature__":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        signature = inspect.signature(self._function)
        made = self.__signature__ = signature.replace(
            parameters=[p.replace(default=self._options[n]) if n in self._options else p for n, p in signature.parameters.items()],
            return_annotation="Array",
        )
        return made

    @property
    def name(self) -> str:
        return self._function.__name__

    @property
    def options(self) -> dict[str, Any]:
        """The options that `bind` fixed."""
        return dict(self._options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Array:
        return self._plans(args, kwargs).value()

    def value_and_grad(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Array, Any]:
        """What the call returns, and its gradient with respect to the predictions (a tuple, if there are several).

        With `reduction="none"`, or with axes left over, it is the gradient of the sum of what the call returns.
        """
        return self._plans(args, kwargs).value_and_grad()

    def grad_and_hess(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Any, Any]:
        """First and second derivatives of the *sum* for every prediction: what gradient boosting takes.

        Weights are multiplied in; nothing is divided by the number of elements, whatever the reduction. The second
        derivatives are the diagonal of the Hessian.
        """
        return self._call(*args, **kwargs).grad_and_hess()

    def parts(self, *args: P.args, **kwargs: P.kwargs) -> Parts:
        """The sums behind the number, which add over batches and processes."""
        return self._signed(self._call(*args, **kwargs).parts())

    def _signed(self, parts: Parts) -> Parts:
        """Parts that know which loss made them."""
        return Parts(parts.names, parts.arrays, Rule(self.name, parts.rule))

    def finish(self, parts: Parts, *, reduction: str | None = None, normalizer: Any = None) -> Array:
        """The number that the parts stand for, in their dtype; differentiable.

        Parts of overlaps know the options that they were made with; only `reduction` can be another one here.
        """
        if not isinstance(parts.rule, Rule) or parts.rule.loss != self.name:
            raise ValueError(f"parts must be those of {self.name}; got parts of {parts.makers}")
        if parts.rule.finish is not None:
            if normalizer is not None:
                raise ValueError(f"normalizer is for means of elements; parts of overlaps have none; got {normalizer!r}")
            rule = parts.rule.finish if reduction is None else replace(parts.rule.finish, reduction=reduction)
            return next(rule(backend_of(parts.arrays[0], "parts"), parts.arrays))
        reduction = self._options.get("reduction", "mean") if reduction is None else reduction
        normalizer = self._options.get("normalizer", "weights") if normalizer is None else normalizer
        return _finish_mean(parts, reduction, normalizer)

    def bind(self, *args: Any, **options: Any) -> Loss[P]:
        """The same loss with options fixed: it pickles, hashes, compares and prints."""
        if args:
            raise TypeError(f"{self.name}.bind takes options by name; got {len(args)} positional arguments")
        known = [n for n, p in inspect.signature(self._function).parameters.items() if p.kind is p.KEYWORD_ONLY]
        for name in options:
            if name not in known:
                raise TypeError(f"{self.name} has no option {name!r}; its options are {', '.join(known)}")
        return Loss(self._function, {**self._options, **{k: _frozen(k, v) for k, v in options.items()}})

    def _call(self, *args: Any, **kwargs: Any) -> Call | PooledCall:
        return self._plans(args, kwargs)

    def _terms(self) -> tuple[tuple[float, Any], ...]:
        return ((1.0, self),)

    # -- identity -----------------------------------------------------------------------------------------------------

    def _key(self) -> tuple[Any, ...]:
        return (self._function, tuple(sorted((k, _identity(v)) for k, v in self._options.items())))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loss) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self._options.items())
        if options:
            return f"{self.name}.bind({options})"
        plain = [p.replace(annotation=p.empty) for p in self.__signature__.parameters.values()]
        return f"<loss {self.name}{inspect.Signature(plain)}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        if not self._options:
            return self._function.__qualname__
        return _rebind, (REGISTRY.get(self.name, Loss(self._function)), self._options)


def loss(function: Callable[P, Call | PooledCall]) -> Loss[P]:
    """Make a public loss of a function that checks its arguments and returns a `Call`, and enter it in the registry."""
    made = Loss(function)
    REGISTRY[made.name] = made
    return made


def _rebind(base: Loss[Any], options: dict[str, Any]) -> Loss[Any]:
    return base.bind(**options)


def _frozen(name: str, value: Any) -> Any:
    """Lists and small host arrays become tuples and numbers, which hash and compare; device arrays and those of elements stay."""
    if name in ("weights", "where"):
        return value
    if isinstance(value, list):
        return tuple(value)
    if is_number(value) and not isinstance(value, int | float):
        return float(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) in (0, 1):
        return tuple(value.tolist()) if value.ndim else value.item()
    return value


def _identity(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return id(value)
    return id(value) if hasattr(value, "ndim") else value


def _finish_mean(parts: Parts, how: str, normalizer: Any) -> Array:
    if how == "sum":
        return parts.total
    if how != "mean":
        raise ValueError(f"reduction must be 'mean' or 'sum' to finish parts; got {how!r}")
    if isinstance(normalizer, str) and normalizer not in ("weights", "count"):
        raise ValueError(f"normalizer must be 'weights', 'count', a number or a 0-d array; got {normalizer!r}")
    if is_number(normalizer) and number("normalizer", normalizer) == 0:
        raise ValueError("normalizer must not be 0; got 0")
    xp = backend_of(parts.total, "parts").xp
    denominator = {"weights": parts.weight, "count": parts.count}[normalizer] if isinstance(normalizer, str) else normalizer
    return next(reduction.mean(xp, parts.total, denominator))
