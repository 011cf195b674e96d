"""A callable as people have it, and what it says of itself: where it is written, which arguments take arrays, which numbers it has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

from .loading import Applied, is_of, load

__all__ = ["argument_names", "body", "constants", "load", "source"]

FRAMEWORKS = ("torch.", "keras.", "tf_keras.", "flax.", "builtins")
GROUPS = ("_parameters", "_buffers", "_fn_kwargs")  # of an nn.Module, of a Keras loss around a function


def body(function: Any) -> Any:
    """What does the work: `forward` of an nn.Module, `call` of a Keras loss, what a partial calls; a function as it stands."""
    if isinstance(function, partial):
        return body(function.func)
    function = getattr(function.module if isinstance(function, Applied) else function, "_orig_mod", function)
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and is_of(owner, "torch.autograd.function"):
        return owner.forward  # type: ignore[attr-defined]
    if inspect.isroutine(function) or hasattr(function, "__wrapped__"):
        return function
    kind = type(function)
    is_keras = any(is_of(kind, name) for name in ("keras.", "tf_keras."))
    return getattr(function, "forward" if is_of(kind, "torch.nn.") else "call" if is_keras else "__call__")


def source(function: Callable[..., Any]) -> tuple[str, int]:
    """The file and line where a callable is written, as far as they are known."""
    code = getattr(inspect.unwrap(body(function)), "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)


def argument_names(function: Callable[..., Any]) -> list[str]:
    """The arguments that take arrays: those that can be passed by position, after the second only those without a default.

    None for functions in C and for `*args`, which do not say.
    """
    by_position = [p for p in _parameters(function) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [p.name for i, p in enumerate(by_position) if i < 2 or p.default is p.empty]


def constants(function: Callable[..., Any]) -> dict[str, float]:
    """The numbers that a callable has by name: defaults, attributes, keywords of a partial, variables of the function around it."""
    found: dict[str, float] = {}
    for name, value in _named(function):
        value = value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
        if isinstance(value, int | float) and not isinstance(value, bool) and not name.startswith("__"):
            found[name.lstrip("_")] = float(value)
    return found


def _parameters(function: Any) -> list[inspect.Parameter]:
    bound = partial(body(function), *function.args, **function.keywords) if isinstance(function, partial) else body(function)
    try:
        return [p for p in inspect.signature(bound).parameters.values() if p.name != "ctx"]
    except (ValueError, TypeError):  # of a function in C
        return []


def _named(function: Any) -> Iterator[tuple[str, Any]]:
    """Names and values; where a name comes twice, the last one counts."""
    if isinstance(function, partial):
        yield from _named(function.func)
        yield from zip([p.name for p in _parameters(function.func)], function.args, strict=False)
        yield from function.keywords.items()
        return
    yield from ((p.name, p.default) for p in _parameters(function))
    work = body(function)
    inner = inspect.unwrap(work)
    names, cells = getattr(getattr(inner, "__code__", None), "co_freevars", ()), getattr(inner, "__closure__", None) or ()
    yield from ((name, cell.cell_contents) for name, cell in zip(names, cells, strict=False) if cell != type(cell)())
    owner = getattr(work, "__self__", None)
    if owner is None or isinstance(owner, ModuleType):
        return
    for kind in reversed((owner if isinstance(owner, type) else type(owner)).__mro__):
        if not kind.__module__.startswith(FRAMEWORKS):
            yield from vars(kind).items()
    own = {} if isinstance(owner, type) else getattr(owner, "__dict__", {})
    yield from own.items()
    for group in GROUPS:
        yield from (own.get(group) or {}).items()
