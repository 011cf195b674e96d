"""What commands print on, and the types of their options."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

WIDTH = 140  # where the output is no terminal
Say = Callable[[str], Any]


def console(stream: Any = None) -> Console:
    """Colours on a terminal that wants them; elsewhere plain text of a fixed width."""
    stream = stream or sys.stdout
    if stream.isatty():
        return Console(file=stream, no_color="NO_COLOR" in os.environ)
    return Console(file=stream, width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)


def table_of(*headings: str, title: str | None = None) -> Table:
    """A table that folds what does not fit into it: no name is cut."""
    return Table(*[Column(heading, overflow="fold") for heading in headings], title=title and escape(title))


def say_plainly(text: str) -> None:
    """Text as it stands: no markup, no colours, no line breaks of the console's own."""
    console().print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Say]:
    """A line on the error stream that says what is being done, if somebody can see it."""
    screen = console(sys.stderr)
    if not screen.is_terminal:
        yield lambda line: None
        return
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=screen, transient=True, redirect_stdout=False
    ) as bar:
        task = bar.add_task("")
        yield lambda line: bar.update(task, description=line)


class Names(click.ParamType[tuple[str, ...]]):
    """Names joined by commas, each among those that are known."""

    name = "names"

    def __init__(self, what: str, known: Sequence[str]) -> None:
        self.what, self.known = what, known

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        names = value if isinstance(value, tuple) else tuple(v.strip() for v in value.split(",") if v.strip())
        for name in names or ("",):
            if name not in self.known:
                self.fail(f"there is no {self.what} {name!r}; there are {', '.join(self.known)}", param, ctx)
        return names


class Option(click.ParamType[tuple[str, Any]]):
    """name=value, the value a Python literal or a plain word."""

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not equals or not key.isidentifier():
            self.fail(f"write name=value; got {value!r}", param, ctx)
        try:
            return key, ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return key, text
