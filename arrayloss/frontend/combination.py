"""Losses as an algebra: numbers times losses, added up, are a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import inf
from operator import add
from typing import Any

from arrayloss.core.parts import Parts

from .check import is_number, number

Array = Any
SHARED = ("weights", "where", "ignore_index", "normalizer")  # what a call may give to all terms that take it


def check_parts(parts: Any, losses: str) -> Parts:
    """What `finish` may finish: parts of these losses."""
    got = f"parts of {parts.losses}" if isinstance(parts, Parts) else f"{type(parts).__name__}: pass those of a batch, or their sum"
    if got != f"parts of {losses}":
        raise (ValueError if isinstance(parts, Parts) else TypeError)(f"parts must be those of {losses}; got {got}")
    return parts


class Algebra:
    """What can be multiplied by numbers and added: losses and their combinations."""

    __array_ufunc__ = None  # a NumPy number leaves the multiplication to us

    def _terms(self) -> tuple[tuple[float, Any], ...]:
        return ((1.0, self),)

    def __mul__(self, factor: Any) -> Combination:
        return (
            Combination(tuple([(number("factor", factor) * f, loss) for f, loss in self._terms()])) if is_number(factor) else NotImplemented
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Combination:
        return self * (1 / float(divisor) if divisor else inf) if is_number(divisor) else NotImplemented

    def __neg__(self) -> Combination:
        return self * -1

    def __add__(self, other: Any) -> Combination:
        return Combination((*self._terms(), *other._terms())) if isinstance(other, Algebra) else NotImplemented

    def __radd__(self, other: Any) -> Combination:
        return Combination(self._terms()) if is_number(other) and other == 0 else NotImplemented  # sum() starts with 0

    def __sub__(self, other: Any) -> Combination:
        return self + -other if isinstance(other, Algebra) else NotImplemented


@dataclass(frozen=True, repr=False)
class Combination(Algebra):
    """A weighted sum of losses of the same predictions and targets, itself a loss.

    Options are bound to the terms; `weights`, `where`, `ignore_index` and `normalizer` of a call go to every term that takes them.

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

    terms: tuple[tuple[float, Any], ...] = ()  # PyTorch's compiler hashes an object before it has its attributes (before 2.13)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the terms; equal ones are numbered from 2 on."""
        names = [loss.name for _, loss in self.terms]
        return tuple([f"{n}_{sum([m == n for m in names[:i]]) + 1}" if n in names[:i] else n for i, n in enumerate(names)])

    @property
    def name(self) -> str:
        return " + ".join([loss.name if factor == 1 else f"{factor:g} * {loss.name}" for factor, loss in self.terms])

    def __call__(self, *arrays: Array, **shared: Any) -> Array:
        return self.components(*arrays, **shared)[0]

    def components(self, *arrays: Array, **shared: Any) -> tuple[Array, dict[str, Array]]:
        """The loss, and the value of every term before its factor by name."""
        values = self._each("__call__", arrays, shared)
        return self._weighted_sum(values), dict(zip(self.names, values, strict=True))

    def value_and_grad(self, *arrays: Array, **shared: Any) -> tuple[Array, Any]:
        """The number and its gradient with respect to the predictions (a tuple, if there are several)."""
        return self._weighted_sum(self._each("value_and_grad", arrays, shared))

    def grad_and_hess(self, *arrays: Array, **shared: Any) -> tuple[Any, Any]:
        """First and second derivatives of the sum for every prediction, where all terms have them."""
        return self._weighted_sum(self._each("grad_and_hess", arrays, shared))

    def parts(self, *arrays: Array, **shared: Any) -> Parts:
        """The sums behind all terms, which add over batches and processes; their names begin with those of the terms."""
        parts = self._each("parts", arrays, shared)
        sources = [replace(p.sources[0], prefix=f"{name}_") for name, p in zip(self.names, parts, strict=True)]
        return Parts(tuple(sources), tuple([a for p in parts for a in p.arrays]))

    def finish(self, parts: Parts | int, *, normalizer: Any = None) -> Array:
        """The number that the parts stand for; differentiable. A normalizer goes to every term that takes one."""
        parts = check_parts(parts, " + ".join([loss.origin for _, loss in self.terms]))
        options = self._options_of_terms({} if normalizer is None else {"normalizer": normalizer})
        return self._weighted_sum([loss.finish(p, **o) for (_, loss), p, o in zip(self.terms, parts.split(), options, strict=True)])

    def bind(self, **options: Any) -> Combination:
        """The same combination with options fixed in every term that has them."""
        each = zip(self.terms, self._options_of_terms(options), strict=True)
        return Combination(tuple([(factor, loss.bind(**own)) for (factor, loss), own in each]))

    def _terms(self) -> tuple[tuple[float, Any], ...]:
        return self.terms

    def _each(self, method: str, arrays: Sequence[Array], shared: Mapping[str, Any]) -> list[Any]:
        """What a method of every loss returns. Predictions and targets may be named as any of the losses names them."""
        places = {name: i for _, loss in self.terms for i, name in enumerate(loss.array_names)}
        by_place = dict(enumerate(arrays)) | {places[name]: value for name, value in shared.items() if name in places}
        options = {name: value for name, value in shared.items() if name not in places}
        for name in [n for n in options if n not in SHARED]:
            raise TypeError(f"a combination takes {', '.join(SHARED)}; got {name!r}: bind it to the terms that need it")
        names, given = self.terms[0][1].array_names, len(arrays) + len(shared) - len(options)
        if not len(by_place) == given == len(names):
            raise TypeError(f"{' and '.join(names)} must be given once each; got {given} arrays: pass them by place or by name")
        arrays = [by_place[i] for i in range(given)]
        return [getattr(loss, method)(*arrays, **o) for (_, loss), o in zip(self.terms, self._options_of_terms(options), strict=True)]

    def _options_of_terms(self, shared: Mapping[str, Any]) -> list[dict[str, Any]]:
        for name in shared:
            if not any(name in loss.option_names for _, loss in self.terms):
                raise TypeError(f"no term of this combination takes {name!r}: its terms are {', '.join(self.names)}")
        return [{n: v for n, v in shared.items() if n in loss.option_names} for _, loss in self.terms]

    def _weighted_sum(self, values: Sequence[Any]) -> Any:
        """The sum of factor * value; values may be tuples."""
        if isinstance(values[0], tuple):
            return tuple([self._weighted_sum(column) for column in zip(*values, strict=True)])
        shapes = [tuple(v.shape) for v in values]
        if len(set(shapes)) > 1:
            text = ", ".join([f"{name} {shape}" for name, shape in zip(self.names, shapes, strict=True)])
            raise ValueError(f"the terms of a combination must have one shape; got {text}")
        return reduce(add, [value if factor == 1 else factor * value for (factor, _), value in zip(self.terms, values, strict=True)])

    def __repr__(self) -> str:
        texts = [(factor, repr(loss) if loss.options else loss.name) for factor, loss in self.terms]
        return " + ".join([text if factor == 1 else f"{factor:g} * {text}" for factor, text in texts])
