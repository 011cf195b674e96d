"""What is checked: one of our losses, or functions of the user's own, one a library; and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayloss.core.loss import REGISTRY, Loss

from .libraries import LIBRARIES, Library
from .overlap_oracles import OVERLAPS
from .problems import Problem

Array = Any
TARGETS = ("target", "targets", "label", "labels", "y_true", "true", "t")
REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True)
class Subject:
    """Functions by library. `loss` is set if it is one of ours, which every library runs."""

    label: str
    functions: Mapping[str, Callable[..., Array]]
    loss: Loss[Any] | None = None
    target_at: int = -1  # where the targets stand among the arguments
    reduction: str = "none"
    target_dtype: str | None = None

    @classmethod
    def of(cls, subject: Any, *, signature: str | None, reduction: str | None, target_dtype: str | None) -> Subject:
        """One of our losses by name or itself, one function for all libraries, or functions by library."""
        if isinstance(subject, str):
            subject = named_loss(subject)
        if isinstance(subject, Loss):
            if signature is not None:
                raise ValueError(f"signature is for functions of your own; {subject.name} takes predictions, then targets")
            usual = "mean" if subject.name in OVERLAPS else "none"
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
        return list(LIBRARIES.values()) if self.loss is not None else [LIBRARIES[name] for name in LIBRARIES if name in self.functions]

    def call(self, library: Library, options: Mapping[str, Any]) -> Callable[..., Array]:
        """A function of predictions and then targets."""
        if self.loss is not None:
            loss, reduction = self.loss, self.reduction
            return lambda *arrays: loss(*arrays, **options, reduction=reduction)
        function = self.functions[library.name]

        def ordered(*arrays: Array) -> Array:
            *predictions, targets = arrays
            at = self.target_at % len(arrays)
            return function(*predictions[:at], targets, *predictions[at:])

        return ordered

    def run(self, library: Library, mode: str, dtype: str, problem: Problem, quantities: Sequence[str]) -> dict[str, Any]:
        """Results by quantity, float64 arrays on the host, or the exception that kept one from being there."""
        with library.precision(dtype):
            options = _settled(problem, self)
            predictions = [library.array(p, dtype) for p in problem.predictions]
            targets = self._targets(library, problem, dtype)
            call = self.call(library, options)
            if mode == "compiled":
                call = library.compiled(call)
            results: dict[str, Any] = {}
            for quantity in quantities:
                try:
                    with np.errstate(all="ignore"):
                        found = self._quantity(library, quantity, call, predictions, targets, problem, options)
                        results[quantity] = tuple(library.numpy(a) for a in found)
                except Exception as error:  # a crash in one library is a finding, not the end of the run
                    results[quantity] = error
            return results

    def _quantity(
        self,
        library: Library,
        quantity: str,
        call: Any,
        predictions: list[Array],
        targets: Array,
        problem: Problem,
        options: Mapping[str, Any],
    ) -> tuple[Array, ...]:
        if quantity == "value":
            return (call(*predictions, targets),)
        if quantity == "grad" and library.has_autograd:
            return library.gradient(call, predictions, targets)
        if self.loss is not None:  # second derivatives as `grad_and_hess` gives them, on every library
            method = self.loss.value_and_grad if quantity == "grad" else self.loss.grad_and_hess
            found = method(*predictions, targets, **options, reduction=self.reduction)[1]
        elif library.has_autograd:
            return library.hessian(call, predictions, targets, problem.axis)
        elif quantity == "grad" and hasattr(self.functions[library.name], "value_and_grad"):
            at = self.target_at % (len(predictions) + 1)
            found = self.functions[library.name].value_and_grad(*predictions[:at], targets, *predictions[at:])[1]  # type: ignore[attr-defined]
        else:
            raise NotImplementedError(f"{library.name} does not differentiate")
        return found if isinstance(found, tuple) else (found,)

    def _targets(self, library: Library, problem: Problem, dtype: str) -> Array:
        t = problem.targets
        if self.target_dtype is not None:
            return library.array(t, dtype) if self.target_dtype == "float" else library.array(t.astype(self.target_dtype))
        if problem.labels and (self.loss is not None or problem.targets_kind == "labels"):
            return library.array(t)
        return library.array(t, dtype)


def _settled(problem: Problem, subject: Subject) -> dict[str, Any]:
    options = dict(problem.options)
    if subject.loss is not None and problem.axis is not None:
        options["axis"] = problem.axis
    return options


def named_loss(name: str) -> Loss[Any]:
    """One of our losses by name."""
    import arrayloss

    found = REGISTRY.get(name) or getattr(arrayloss, name, None)
    if not isinstance(found, Loss):
        raise ValueError(f"there is no loss {name!r}; there are {', '.join(sorted(REGISTRY))}")
    return found


def target_position(signature: str) -> int:
    """Where the targets stand in a declared order of arguments."""
    names = [n.strip() for n in signature.split(",")]
    places = [i for i, n in enumerate(names) if n in TARGETS]
    if len(places) != 1 or len(names) < 2:
        raise ValueError(f"signature must name the arguments in order, one of them {', '.join(TARGETS)}; got {signature!r}")
    return places[0]


def _one_of(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
    return value
