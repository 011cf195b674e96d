"""`Parts`: the additive state of a loss."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

Array = Any


@dataclass(frozen=True)
class Rule:
    """How parts are finished: which loss made them, and what it does with them (None: a mean, which asks for nothing more)."""

    loss: str
    finish: Any = None


class Parts:
    """The sums behind a loss, a fixed set of named arrays.

    Parts of two batches, or of two processes, add; `loss.finish` of the result is the exact loss of the union. They are a
    pytree in JAX and PyTorch, pickle, and differentiate. `stack()` is one 1-D array, for one all-reduce.

    >>> import numpy as np
    >>> from arrayloss import squared_error
    >>> first = squared_error.parts(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    >>> rest = squared_error.parts(np.array([4.0]), np.array([0.0]))
    >>> print(first.total, first.count)
    5.0 2
    >>> float(squared_error.finish(first + rest))
    7.0
    """

    __slots__ = ("_arrays", "_names", "_rule")

    def __init__(self, names: tuple[str, ...], arrays: tuple[Array, ...], rule: Any = None) -> None:
        object.__setattr__(self, "_names", tuple(names))
        object.__setattr__(self, "_arrays", tuple(arrays))
        object.__setattr__(self, "_rule", rule)

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    @property
    def arrays(self) -> tuple[Array, ...]:
        return self._arrays

    @property
    def rule(self) -> Any:
        """A `Rule`; one for each term of a combination; or None, where no loss made them."""
        return self._rule

    @property
    def makers(self) -> str:
        """The loss or losses that made them, by name."""
        rules = [rule for _, rule in self._rule] if isinstance(self._rule, tuple) else [self._rule]
        return " + ".join("no loss" if rule is None else rule.loss for rule in rules)

    def __getattr__(self, name: str) -> Array:
        if name.startswith("_"):
            raise AttributeError(name)  # of an object that is still being made, which cannot be described
        if name not in self._names:
            raise AttributeError(f"these parts are {', '.join(self._names)}; there is no {name!r}")
        return self._arrays[self._names.index(name)]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("parts do not change; add them, or map their arrays")

    def map(self, function: Any) -> Parts:
        """The parts with `function` applied to every array, such as `detach` or an all-reduce."""
        return Parts(self._names, tuple(function(a) for a in self._arrays), self._rule)

    def _settings(self) -> set[str]:
        """What the rules have been given, as text."""
        rules = [rule for _, rule in self._rule] if isinstance(self._rule, tuple) else [self._rule]
        return {f"{f.name}={getattr(r.finish, f.name)}" for r in rules if r is not None and r.finish for f in fields(r.finish)}

    def _together(self, other: Parts, function: Any) -> Parts:
        if not isinstance(other, Parts):
            return NotImplemented
        if other._names != self._names:
            raise ValueError(f"parts of different losses do not add: {', '.join(self._names)} and {', '.join(other._names)}")
        if other._rule != self._rule:
            if other.makers != self.makers:
                raise ValueError(f"parts of different losses do not add: those of {self.makers} and of {other.makers}")
            one, two = self._settings(), other._settings()
            texts = (", ".join(sorted(a - b)) for a, b in ((one, two), (two, one)))
            raise ValueError(f"parts of {self.makers} with different options do not add: {' and '.join(texts)}")
        return Parts(self._names, tuple(map(function, self._arrays, other._arrays)), self._rule)

    def __add__(self, other: Parts) -> Parts:
        return self._together(other, lambda a, b: a + b)

    def __sub__(self, other: Parts) -> Parts:
        return self._together(other, lambda a, b: a - b)

    def __radd__(self, other: Any) -> Parts:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # sum() starts with 0

    def stack(self) -> Array:
        """All of them as one 1-D floating-point array; `unstack` is the way back."""
        from .namespace import backend_of

        xp = backend_of(self._arrays[0]).xp
        dtype = self._arrays[0].dtype
        return xp.concat([xp.reshape(xp.astype(a, dtype), (-1,)) for a in self._arrays])

    def unstack(self, vector: Array) -> Parts:
        """Parts with the shapes and dtypes of these and the numbers of `vector`."""
        from .namespace import backend_of

        xp = backend_of(vector).xp
        out, start = [], 0
        for a in self._arrays:
            size = 1
            for n in a.shape:
                size *= n
            out.append(xp.astype(xp.reshape(vector[start : start + size], a.shape), a.dtype))
            start += size
        return Parts(self._names, tuple(out), self._rule)

    def __reduce__(self) -> tuple[Any, ...]:
        return Parts, (self._names, self._arrays, self._rule)

    def __repr__(self) -> str:
        return "Parts(" + ", ".join(f"{n}={a!r}" for n, a in zip(self._names, self._arrays, strict=True)) + ")"
