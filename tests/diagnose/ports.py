"""What a row of the tables of ports says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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
    unknown: str = ""  # why it is not found

    def __str__(self) -> str:
        return self.name


def parameters(table: Sequence[Port | Public], kind: Callable[[Any], Any], slow: Collection[Any] = ()) -> list[Any]:
    """Rows as parameters. The default suite has one of each kind that is not slow, on NumPy if there is one; the full one has all."""
    first: dict[Any, str] = {}
    for row in sorted(table, key=lambda row: row.library != "numpy"):
        if row.library != "jax" and kind(row) not in slow and not getattr(row, "unknown", ""):
            first.setdefault(kind(row), str(row))
    found = []
    for row in table:
        why = getattr(row, "unknown", "")
        marks = [] if first.get(kind(row)) == str(row) else [pytest.mark.exhaustive]
        found.append(pytest.param(row, id=str(row), marks=[*marks, *([pytest.mark.xfail(reason=why, strict=True)] if why else [])]))
    return found


def instance_of(thing: Any) -> Any:
    """A class is made with its defaults: what people pass on is the object."""
    return thing() if isinstance(thing, type) else thing
