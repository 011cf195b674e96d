"""Losses as an algebra: numbers times losses, added up, are a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .check import is_number
from .joint import Together
from .parts import Parts

Array = Any
SHARED = ("weights", "where", "ignore_index", "normalizer")  # what a call may give to all terms that take it


class Algebra:
    """What can be multiplied by numbers and added: losses and their combinations."""

    __array_ufunc__ = None  # a NumPy scalar leaves the multiplication to us

    def _terms(self) -> tuple[tuple[float, Any], ...]:
        raise NotImplementedError

    def __mul__(self, factor: Any) -> Combination:
        if not is_number(factor):
            return NotImplemented
        return Combination([(float(factor) * c, term) for c, term in self._terms()])

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Combination:
        return Combination((*self._terms(), *other._terms())) if isinstance(other, Algebra) else NotImplemented

    def __radd__(self, other: Any) -> Combination:
        return Combination(self._terms()) if is_number(other) and other == 0 else NotImplemented  # sum() starts with 0


class Combination(Algebra):
    """A weighted sum of losses of the same predictions and targets, itself a loss.

    Options belong to the terms, which are bound; `weights`, `where`, `ignore_index` and `normalizer` may be given at the call, and
    go to every term that takes them.

    >>> import numpy as np
    >>> from arrayloss import cross_entropy, dice_loss
    >>> both = 0.5 * dice_loss.bind(activation="softmax", axis=1, classes=(1, 2)) + cross_entropy.bind(axis=1)
    >>> logits, labels = np.zeros((2, 3, 4, 4)), np.ones((2, 4, 4), dtype=np.int64)
    >>> print(f"{both(logits, labels):.4f}")
    1.4493
    >>> total, terms = both.components(logits, labels)
    >>> {name: round(float(value), 4) for name, value in terms.items()}
    {'dice_loss': 0.7014, 'softmax_cross_entropy': 1.0986}
    >>> parts = both.parts(logits[:1], labels[:1]) + both.parts(logits[1:], labels[1:])
    >>> print(f"{both.finish(parts):.4f}")
    1.4493
    """

    def __init__(self, terms: Sequence[tuple[float, Any]]) -> None:
        self.terms = tuple(terms)
        names: list[str] = []
        for _, term in self.terms:
            name, number = term.name, 1
            while name in names:
                number += 1
                name = f"{term.name}_{number}"
            names.append(name)
        self.names = tuple(names)
        self._taken = tuple(tuple(n for n in SHARED if n in term.__signature__.parameters) for _, term in self.terms)

    def __call__(self, *arrays: Array, **shared: Any) -> Array:
        return self.components(*arrays, **shared)[0]

    def components(self, *arrays: Array, **shared: Any) -> tuple[Array, dict[str, Array]]:
        """The loss, and the value of every term before its coefficient by name; equal names are numbered from 2 on."""
        calls, masks = self._calls(arrays, shared)
        outputs = self._together(calls, masks).forward()
        values = [next(call.answer(own)) for call, own in zip(calls, outputs, strict=True)]
        return self._sum(values), dict(zip(self.names, values, strict=True))

    def value_and_grad(self, *arrays: Array, **shared: Any) -> tuple[Array, Any]:
        """What the call returns, and its gradient with respect to the predictions."""
        calls, masks = self._calls(arrays, shared)
        outputs, pull = self._together(calls, masks).linearize()
        stages = [call.answer(own) for call, own in zip(calls, outputs, strict=True)]
        value = self._sum([next(answer) for answer in stages])
        slopes = [[None if d is None else c * d for d in next(answer)] for (c, _), answer in zip(self.terms, stages, strict=True)]
        gradients = pull(slopes)
        return value, gradients if len(gradients) > 1 else gradients[0]

    def grad_and_hess(self, *arrays: Array, **shared: Any) -> tuple[Any, Any]:
        """First and second derivatives of the sum for every prediction, where all terms have them."""
        options = self._shared(shared)
        pairs = [term.grad_and_hess(*arrays, **o) for (_, term), o in zip(self.terms, options, strict=True)]
        return self._sum([first for first, _ in pairs]), self._sum([second for _, second in pairs])

    def parts(self, *arrays: Array, **shared: Any) -> Parts:
        """The sums behind all terms, which add over batches and processes; their names begin with those of the terms."""
        calls, masks = self._calls(arrays, shared)
        outputs = self._together(calls, masks, for_parts=True).forward()
        each = [term._signed(call.parts_of(own)) for (_, term), call, own in zip(self.terms, calls, outputs, strict=True)]
        names = tuple(f"{name}_{part}" for name, parts in zip(self.names, each, strict=True) for part in parts.names)
        return Parts(names, tuple(a for parts in each for a in parts.arrays), tuple((p.names, p.rule) for p in each))

    def finish(self, parts: Parts, *, normalizer: Any = None) -> Array:
        """The number that the parts stand for; differentiable."""
        made = " + ".join(term.name for _, term in self.terms)
        if not isinstance(parts.rule, tuple) or parts.makers != made:
            raise ValueError(f"parts must be those of this combination of {made}; got parts of {parts.makers}")
        options = self._shared({} if normalizer is None else {"normalizer": normalizer})
        values, start = [], 0
        for (_, term), (names, rule), o in zip(self.terms, parts.rule, options, strict=True):
            own = Parts(names, parts.arrays[start : start + len(names)], rule)
            values.append(term.finish(own, **o))
            start += len(names)
        return self._sum(values)

    def _terms(self) -> tuple[tuple[float, Any], ...]:
        return self.terms

    def _calls(self, arrays: Sequence[Array], shared: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
        """The calls of the terms, and the `where` of each."""
        options = self._shared(shared)
        calls = [term._call(*arrays, **o) for (_, term), o in zip(self.terms, options, strict=True)]
        return calls, [{**term.options, **o}.get("where") for (_, term), o in zip(self.terms, options, strict=True)]

    @staticmethod
    def _together(calls: Sequence[Any], masks: Sequence[Any], for_parts: bool = False) -> Together:
        ops = [call.asked_for_parts() if for_parts else call.asked() for call in calls]
        return Together(calls[0].backend, ops, [call.arrays for call in calls], masks)

    def _shared(self, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What each term gets of the options of a call."""
        for name in given:
            if name not in SHARED:
                raise TypeError(f"a combination takes {', '.join(SHARED)}; got {name!r}: bind it to the terms that need it")
            if not any(name in taken for taken in self._taken):
                raise TypeError(f"no term of this combination takes {name!r}: its terms are {', '.join(self.names)}")
        return [{n: given[n] for n in taken if n in given} for taken in self._taken]

    def _sum(self, values: Sequence[Any]) -> Any:
        """The sum of coefficient * value; values may be tuples, one for each of several predictions."""
        if isinstance(values[0], tuple):
            return tuple(self._sum(column) for column in zip(*values, strict=True))
        shapes = [tuple(v.shape) for v in values]
        if len(set(shapes)) > 1:
            text = ", ".join(f"{name} {shape}" for name, shape in zip(self.names, shapes, strict=True))
            raise ValueError(f"the terms of a combination must have one shape; got {text}")
        total = None
        for (c, _), value in zip(self.terms, values, strict=True):
            scaled = value if c == 1 else c * value
            total = scaled if total is None else total + scaled
        return total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Combination) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.terms)

    def __repr__(self) -> str:
        shown = (repr(term) if term.options else term.name for _, term in self.terms)
        return " + ".join(text if c == 1 else f"{c:g} * {text}" for (c, _), text in zip(self.terms, shown, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return Combination, (self.terms,)
