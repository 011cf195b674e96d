"""What a row of the tables of ports says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

Call = tuple[str, Mapping[str, Any]]  # a loss of ours, and the options that make it


@dataclass(frozen=True)
class Port:
    """A function or object as somebody published it, and what the diagnosis has to say of it."""

    name: str
    library: str
    function: Callable[..., Any]
    reference: str
    options: Mapping[str, Any] = field(default_factory=dict)  # those of `-o`
    code: str = ""  # the first reason; empty for a right port
    also: tuple[str, ...] = ()  # codes that name the same defect as well
    verdict: str = "different"

    def __str__(self) -> str:
        return f"{self.code or self.verdict}-{self.library}-{self.name}"


@dataclass(frozen=True)
class Public:
    """A function of another package, and the calls of ours that replace it."""

    name: str
    library: str
    function: Callable[..., Any]
    calls: tuple[Call, ...]
    factor: float = 1.0  # what our loss is multiplied by

    def __str__(self) -> str:
        return self.name


def parameters(table: Sequence[Port | Public], by_default: Callable[[Any], Any]) -> list[Any]:
    """Rows as parameters: in the default suite the first of each kind outside of JAX, which compiles every shape; all in the full one."""
    seen: set[Any] = set()
    found = []
    for row in table:
        is_first = row.library != "jax" and by_default(row) not in seen
        seen |= {by_default(row)} if is_first else set()
        found.append(pytest.param(row, id=str(row), marks=() if is_first else pytest.mark.exhaustive))
    return found


def instance_of(thing: Any) -> Any:
    """A class is made with its defaults: what people pass on is the object."""
    return thing() if isinstance(thing, type) else thing
