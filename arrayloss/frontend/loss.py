"""`@loss`: what turns a function that describes a call into the public loss of that name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, update_wrapper
from math import inf
from typing import Any, Generic, ParamSpec, get_args, get_origin, get_type_hints, overload

from arrayloss.adapters.dispatch import adapter_of
from arrayloss.core import dtypes
from arrayloss.core.finish import hashable
from arrayloss.core.parts import Parts, Source

from . import options as shared
from .build import finish_with, for_parts
from .check import NeedsArrayError, Unknown, is_number, is_numpy_array
from .combination import Algebra, check_parts

Array = Any
P = ParamSpec("P")
REGISTRY: dict[str, Loss[Any]] = {}  # the losses of this package, by name
OF_ONE_CALL = ("weights", "where", "normalizer", "lengths", "block")  # options that may differ between parts that add


@dataclass(frozen=True)
class Properties:
    """What is known of the loss of one element as a function of its predictions."""

    convex: bool = False
    lipschitz: float | None = None  # the largest Euclidean norm of the gradient; None: there is no bound
    differentiable: bool = True
    twice_differentiable: bool = True
    lower: float = 0.0
    upper: float = inf


class Loss(Algebra, Generic[P]):
    """A loss function: call it for the number, or ask it for more.

    `loss(...)` is the number, or the loss per element with `reduction="none"`. `value_and_grad`, `grad_and_hess` and `parts` take the
    same arguments; `bind` fixes options; `finish` turns parts into the number. Numbers times losses, added up, are a loss again.
    """

    _function: Any = None  # PyTorch's compiler hashes an object before it has its attributes (before 2.13)
    _options: Any = None

    def __init__(
        self, function: Callable[P, Any], properties: Any = None, options: Mapping[str, Any] | None = None, base: Loss[Any] | None = None
    ) -> None:
        self._function, self._properties, self.name = function, properties, function.__name__
        self._options = dict(options or {})
        self._base = self if base is None else base  # the loss without bound options
        update_wrapper(self, function, updated=())
        if base is None:  # what a compiler cannot follow is done once, when a module is imported
            family, parameters = _family(function), inspect.signature(function).parameters.values()
            own = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
            self._own_names = tuple(own)  # parameters of the loss itself
            self._defaults = own | shared.OPTIONS.get(family, {})
            self._is_open = family is None and any(p.kind is p.VAR_KEYWORD for p in parameters)  # the builder checks names
            self.array_names = tuple([p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD])  # predictions and targets
            self.__doc__ = inspect.cleandoc(self.__doc__ or "").replace("{options}", shared.text_of(family))
            self.origin = f"{self.__module__}.{self.name}"  # what tells the parts of losses apart
            if self.__module__.startswith("arrayloss.losses."):
                REGISTRY[self.name], self.origin = self, self.name
        else:
            self._own_names, self._defaults, self._is_open = base._own_names, base._defaults, base._is_open
            self.array_names, self.origin, self.__doc__ = base.array_names, base.origin, base.__doc__
        self.option_names = tuple(self._defaults)

    def __getattr__(self, name: str) -> Any:
        """The signature with the shared options expanded. It is made when it is first asked for: it costs 0.1 ms."""
        if name != "__signature__":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.__signature__ = _signature(self._function, self._options)
        return self.__signature__

    @property
    def options(self) -> dict[str, Any]:
        return dict(self._options)

    @property
    def properties(self) -> Properties:
        """What is known of the loss, under its bound options."""
        if self._properties is None:
            raise NotImplementedError(f"no properties are stated for {self.name}")
        return self._properties(**{name: self._options.get(name, self._defaults[name]) for name in self._own_names})

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        options = {**self._options, **kwargs} if self._options else kwargs
        for name in options:
            if name not in self._defaults and name not in self.array_names and not self._is_open:
                raise shared.unknown_option(name, self._defaults)
        return self._function(*args, **options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Array:
        """The number; of reduction "none" the losses of the elements."""
        call = self._call(*args, **kwargs)
        return call.adapter.value(call)

    def value_and_grad(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Array, Any]:
        """What the call returns, and its gradient with respect to the predictions (a tuple, if there are several).

        With `reduction="none"`, or with axes left over, it is the gradient of the sum of what the call returns.
        """
        call = self._differentiable(*args, **kwargs)
        value, gradients = call.adapter.value_and_grad(call)
        return value, call.sum_to_shapes(gradients)

    def grad_and_hess(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Any, Any]:
        """First and second derivatives of the *sum* for every prediction: what gradient boosting takes.

        Weights are multiplied in; nothing is divided by a number of elements. The second derivatives are the diagonal of the Hessian.
        """
        call = self._differentiable(*args, **kwargs)
        try:
            gradients, hessians = call.adapter.derivatives(call)
        except NotImplementedError as error:
            error.args = (str(error).replace("this loss", self.name),)  # a kernel does not know it
            raise
        return call.sum_to_shapes(gradients), call.sum_to_shapes(hessians)

    def _differentiable(self, *args: Any, **kwargs: Any) -> Any:
        call = self._call(*args, **kwargs)
        if not call.is_of_arguments:
            raise TypeError(f"{self.name} has derivatives by autograd alone where a function of yours computes what it takes")
        return call

    def parts(self, *args: P.args, **kwargs: P.kwargs) -> Parts:
        """The sums behind the number, which add over batches and processes. A normalizer belongs to `finish`."""
        if "normalizer" in kwargs:
            raise TypeError(f"parts have no normalizer: pass it to finish, {self.name}.finish(parts, normalizer=...)")
        options = {n: v for n, v in self._options.items() if n != "normalizer"} | kwargs
        call = for_parts(self._base._call(*args, **options), self.option_names)
        sums = call.adapter.forward(call.operation, call.arrays)
        with call.adapter.float64():
            rule, names, arrays = call.finish.parts(call.adapter.xp, call.operation.outputs, sums)
        # The options that decide what sums mean. Of an array the dtype and the shape: it is not read
        values = [(n, _constant(n, options.get(n, default))) for n, default in self._defaults.items() if n not in OF_ONE_CALL]
        texts = [(n, f"array of {v.dtype} {tuple(v.shape)}" if dtypes.is_array(v) else v) for n, v in values]
        return Parts((Source(self.origin, names, tuple(texts), rule),), arrays)

    def finish(self, parts: Parts | int, *, reduction: str | None = None, normalizer: Any = None) -> Array:
        """The number that the parts stand for, in their dtype; differentiable. A mean divides by the weights, or by another normalizer."""
        parts = check_parts(parts, self.origin)
        reduction = self._options.get("reduction") if reduction is None else reduction
        normalizer = self._options.get("normalizer") if normalizer is None else normalizer
        adapter = adapter_of(parts.arrays[0], "parts")
        rule = finish_with(parts.sources[0].finish, reduction, normalizer, adapter, parts.arrays[0])
        with adapter.float64():
            return adapter.finish(rule, parts.arrays)

    def bind(self, *args: Any, **options: Any) -> Loss[...]:
        """The same loss with options fixed: it pickles, hashes, compares and prints. Names are checked, and values that are no arrays."""
        if args:
            raise TypeError(f"{self.name}.bind takes options by name; got {len(args)} positional arguments")
        for name in set(options) & set(self.array_names):
            raise shared.unknown_option(name, self._defaults)
        fixed = self._options | {n: _constant(n, v) for n, v in options.items()}
        bound: Loss[Any] = Loss(self._function, self._properties, fixed, self._base)
        required = [n for n, default in self._defaults.items() if default is inspect.Parameter.empty and n not in fixed]
        with suppress(NeedsArrayError):
            bound._call(**dict.fromkeys((*self.array_names, *required), Unknown()))
        return bound

    def _key(self) -> Any:
        return self._function, tuple([(name, hashable(value)) for name, value in sorted((self._options or {}).items())])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loss) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        if self._options:
            return f"{self.name}.bind({', '.join([f'{name}={value!r}' for name, value in self._options.items()])})"
        plain = [p.replace(annotation=p.empty) for p in self.__signature__.parameters.values()]
        return f"<loss {self.name}{inspect.Signature(plain)}>"

    def __reduce__(self) -> Any:
        return self._function.__qualname__ if self is self._base else (partial(self._base.bind, **self._options), ())


@overload
def loss(function: Callable[P, Any], /) -> Loss[P]: ...
@overload
def loss(*, properties: Callable[..., Properties]) -> Callable[[Callable[P, Any]], Loss[P]]: ...


def loss(function: Any = None, /, *, properties: Any = None) -> Any:
    """Make a public loss of a function that returns what a builder makes.

    `properties` is a function of the loss's own parameters, by keyword, that returns its `Properties`.
    """
    return partial(Loss, properties=properties) if function is None else Loss(function)


def _constant(name: str, value: Any) -> Any:
    """A list or a small NumPy array as a tuple, so that losses compare and hash. Arrays of a call stay arrays."""
    if name in OF_ONE_CALL:
        return value
    if (is_numpy_array(value) and value.ndim <= 1) or (is_number(value) and dtypes.is_array(value)):
        value = value.tolist()  # of a number: a Python number
    return tuple(value) if isinstance(value, list) else value


def _family(function: Callable[..., Any]) -> Any:
    """The TypedDict of the shared options: `Unpack` of it is the type of `**options`."""
    names = [n for n, p in inspect.signature(function).parameters.items() if p.kind is p.VAR_KEYWORD]
    with suppress(NameError):  # people import types for type checkers only
        hint = get_type_hints(function).get(names[0]) if names else None
        return get_args(hint)[0] if get_origin(hint) is not None else None


def _signature(function: Callable[..., Any], options: Mapping[str, Any]) -> inspect.Signature:
    """The signature with the shared options and the bound values."""
    signature = inspect.signature(function, eval_str=True)
    family = _family(function)
    parameters = []
    for p in signature.parameters.values():
        expanded = [p]
        if p.kind is p.VAR_KEYWORD and family is not None:
            types = get_type_hints(family)
            expanded = [inspect.Parameter(n, p.KEYWORD_ONLY, default=shared.DEFAULTS.get(n), annotation=t) for n, t in types.items()]
        parameters += [q.replace(default=options[q.name]) if q.name in options else q for q in expanded]
    return signature.replace(parameters=parameters, return_annotation="Array")
