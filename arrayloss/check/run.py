"""`Subject`: what is checked, a loss or functions of the user's own, one a library; and how it runs on a library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import arrayloss
from arrayloss.frontend.loss import REGISTRY, Loss

from .definitions import DEFINITIONS, Definition, definition_of
from .libraries import LIBRARIES, Library
from .points import Problem

Array = Any
TARGETS = ("target", "targets", "label", "labels", "y_true", "true", "t")
REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True)
class Subject:
    """Functions by library. `loss` is set where it is a `Loss`, which every library runs."""

    label: str
    functions: Mapping[str, Callable[..., Array]]
    loss: Loss[Any] | None = None
    target_at: int = -1  # where the targets stand among the arguments
    reduction: str = "none"
    target_dtype: str | None = None

    @classmethod
    def of(cls, subject: Any, *, signature: str | None, reduction: str | None, target_dtype: str | None) -> Subject:
        """One of our losses by name, a loss, one function for all libraries, or functions by library."""
        subject = named_loss(subject) if isinstance(subject, str) else subject
        if isinstance(subject, Loss):
            if signature is not None:
                raise ValueError(f"signature is for functions of your own; {subject.name} takes predictions, then targets")
            usual = "mean" if is_ours(subject) and DEFINITIONS[subject.name][0].whole else "none"
            return cls(subject.name, {}, subject, reduction=_one_of("reduction", reduction or usual, REDUCTIONS))
        functions = dict(subject) if isinstance(subject, Mapping) else dict.fromkeys(LIBRARIES, subject)
        for name, function in functions.items():
            if name not in LIBRARIES:
                raise ValueError(f"a subject is keyed by {', '.join(LIBRARIES)}; got {name!r}")
            if not callable(function):
                raise TypeError(f"the subject for {name} must be callable; got {type(function).__name__}")
        if reduction is None:
            raise ValueError("reduction must be declared for functions of your own: 'mean', 'sum' or 'none'")
        if signature is None:
            raise ValueError("signature must be declared for functions of your own, such as 'input,target' or 'y_true,y_pred'")
        label = " / ".join(dict.fromkeys(getattr(f, "__qualname__", type(f).__name__) for f in functions.values()))
        return cls(label, functions, None, target_position(signature), _one_of("reduction", reduction, REDUCTIONS), target_dtype)

    def runs_on(self) -> list[Library]:
        """The libraries that it has a function for."""
        return [library for name, library in LIBRARIES.items() if self.loss is not None or name in self.functions]

    def options(self, problem: Problem) -> dict[str, Any]:
        """The options that a loss is called with; functions of the user's own have theirs bound."""
        return {} if self.loss is None else loss_options(problem, self.reduction)

    def in_order(self, arrays: Sequence[Any]) -> list[Any]:
        """Predictions, then targets, in the order of the function's arguments."""
        *predictions, targets = arrays
        at = self.target_at % len(arrays)
        return [*predictions[:at], targets, *predictions[at:]]

    def run(self, library: Library, mode: str, dtype: str, problem: Problem, quantities: Sequence[str]) -> dict[str, Any]:
        """Results by quantity: float64 arrays on the host, or the exception that there was instead."""
        with library.precision(dtype), np.errstate(all="ignore"):
            predictions = [library.array(p, dtype) for p in problem.predictions]
            others = [] if problem.targets is None else [self._targets(library, problem, dtype)]
            function: Any = self.loss or self.functions[library.name]
            options = self.options(problem)
            arrays = {n: a for n, a in options.items() if isinstance(a, np.ndarray)}
            options |= {n: library.array(a, dtype if a.dtype.kind == "f" else None) for n, a in arrays.items()}

            def call(*arrays: Array) -> Array:
                return function(*self.in_order(arrays), **options)

            def method(name: str) -> tuple[Array, ...]:
                result: Any = getattr(function, name)(*self.in_order([*predictions, *others]), **options)[1]
                return result if isinstance(result, tuple) else (result,)

            program = library.compiled(call) if mode == "compiled" else call

            def compute(quantity: str) -> tuple[Array, ...]:
                if quantity == "value":
                    return (program(*predictions, *others),)
                if quantity == "grad" and library.has_autograd:
                    return tuple(library.gradient(program, predictions, others))
                if quantity == "grad" and hasattr(function, "value_and_grad"):
                    return method("value_and_grad")
                if quantity == "hess" and self.loss is not None:
                    return method("grad_and_hess")
                if library.has_autograd:
                    return tuple(library.hessian(program, predictions, others, problem.axis))
                raise NotImplementedError(f"{library.name} does not differentiate")

            results: dict[str, Any] = {}
            for quantity in quantities:
                try:
                    results[quantity] = tuple(map(library.numpy, compute(quantity)))
                except (Exception, SystemExit) as error:  # a crash in one library is a row of the report
                    results[quantity] = error
            return results

    def _targets(self, library: Library, problem: Problem, dtype: str) -> Array:
        t = problem.targets
        if self.target_dtype is not None:
            return library.array(t, dtype) if self.target_dtype == "float" else library.array(t.astype(self.target_dtype))
        is_label = problem.labels and (self.loss is not None or problem.targets_kind == "labels")
        return library.array(t, None if is_label else dtype)


def loss_options(problem: Problem, reduction: str) -> dict[str, Any]:
    """The options that a loss is called with."""
    axis = {} if problem.axis is None else {"axis": problem.axis}
    return {**problem.options, **axis, "reduction": reduction}


def is_ours(loss: Loss[Any]) -> bool:
    """Whether it is a loss of this package that has a definition. One that couples arrays of several shapes has none."""
    return loss.__module__.startswith("arrayloss.losses.") and loss.name in DEFINITIONS


def named_loss(name: str) -> Loss[Any]:
    """One of our losses by name."""
    loss = REGISTRY.get(name) or getattr(arrayloss, name, None)
    if not isinstance(loss, Loss):
        raise ValueError(f"there is no loss {name!r}; there are {', '.join(sorted(REGISTRY))}")
    return loss


def form(loss: str, options: Mapping[str, Any]) -> tuple[Definition, dict[str, Any]]:
    """The definition of a loss of ours that is called with these options, and all options."""
    definition = definition_of(loss, options)
    if definition is None:
        raise ValueError(f"{loss} has no definition to be compared with; pass reference='float64:numpy'")
    return definition, {**definition.options[0], **options}


def target_position(signature: str) -> int:
    """Where the targets stand in a declared order of arguments."""
    names = [n.strip() for n in signature.split(",")]
    positions = [i for i, n in enumerate(names) if n in TARGETS]
    if len(positions) != 1 or len(names) < 2:
        raise ValueError(f"signature must name the arguments in order, one of them {', '.join(TARGETS)}; got {signature!r}")
    return positions[0]


def _one_of(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
    return value
