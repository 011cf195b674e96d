"""Calls like earlier ones: what types, dtypes, shapes and options decide is decided once.

On small arrays the checks of the arguments would take longer than the loss. They read no array, so a call that they let pass
stands for every later one whose arguments have the same types, dtypes and shapes and the same options: it is the same operation, of
other arrays. Errors are not remembered, and what depends on values (labels in range) belongs to the operation, which runs each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import index
from typing import Any

from .namespace import BACKENDS

Array = Any
LIMIT = 64  # calls that one loss remembers; then it starts anew


def _several(values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    key = _key(OPTIONS, values)
    return None if key is None else tuple(key)


# What has to be the same next time, by the type, which has to be the same too: True, 1 and 1.0 are equal, but not as options.
OPTIONS: dict[type, Callable[[Any], Any]] = {
    type(None): repr,
    bool: index,
    int: index,
    float: float.hex,  # 0.0 and -0.0 are equal
    str: str,
    tuple: _several,
}
ARGUMENTS = dict(OPTIONS)  # an adapter adds its arrays, with all of them that a check may look at


def _key(signatures: Mapping[type, Callable[[Any], Any]], values: Iterable[Any]) -> list[Any] | None:
    """What the values have in common with those of every call like this one; None if there is no telling."""
    key: list[Any] = []
    for value in values:
        kind = type(value)
        signature = signatures.get(kind)
        part = None if signature is None else signature(value)
        if part is None:
            return None
        key += (kind, part)
    return key


class Plans:
    """A loss that remembers its calls."""

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self._function = function
        self._options = options
        self._known: dict[Any, Any] = {}
        self._fixed = _key(OPTIONS, options.values()) is not None  # what is bound holds no array, which could change

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The call, new or like one before."""
        backend = BACKENDS.get(type(args[0])) if args and self._fixed else None
        key: tuple[Any, ...] | None = None
        if backend is not None and backend.repeats():  # before all else: a compiler that looks on is to see no dictionary of ours
            values = (*args, *kwargs.values()) if kwargs else args
            parts = _key(ARGUMENTS, values)
            if parts is not None:
                key = (*parts, *kwargs)
                plan = self._known.get(key)
                if plan is not None:
                    call, steps = plan
                    return call.of([values[i] if how is None else how(values[i]) for i, how in steps])
        call = self._function(*args, **({**self._options, **kwargs} if self._options else kwargs))
        steps = None if key is None else _steps(call, values)
        if steps is not None:
            if len(self._known) >= LIMIT:
                self._known.clear()
            self._known[key] = call.of(()), steps
        return call


def _steps(call: Any, values: tuple[Any, ...]) -> list[tuple[int, Any]] | None:
    """Which argument each array of the call is, and how it is made of it.

    None unless every array among the arguments is one of the call's, once, and the call has no others.
    """
    arrays = {id(value): i for i, value in enumerate(values) if type(value) not in OPTIONS}
    steps = [(arrays.get(id(array), -1), how) for array, how in call.origins]
    return steps if sorted(i for i, _ in steps) == [i for i, value in enumerate(values) if type(value) not in OPTIONS] else None
