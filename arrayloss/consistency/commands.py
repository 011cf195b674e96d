"""The commands behind `arrayloss`, with click and rich."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import arrayloss as package

from .libraries import DTYPES, LIBRARIES
from .overview import overview
from .report import format_ulp

WIDTH = 120  # where the output is no terminal


def console(stream: Any = None) -> Console:
    """Colours on a terminal that wants them; elsewhere plain text of a fixed width."""
    stream = stream or sys.stdout
    if stream.isatty():
        return Console(file=stream, no_color="NO_COLOR" in os.environ)
    return Console(file=stream, width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)


@contextmanager
def progress() -> Iterator[Callable[[str], Any]]:
    """A line on the error stream that says what is being done, if somebody can see it."""
    screen = console(sys.stderr)
    if not screen.is_terminal:
        yield lambda line: None
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=screen, transient=True) as bar:
        task = bar.add_task("")
        yield lambda line: bar.update(task, description=line)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package.__version__, prog_name="arrayloss")
def arrayloss() -> None:
    """Loss functions that are the same on every array library: check them, list them, look at them."""


def split(context: Any, parameter: Any, value: str | None) -> tuple[str, ...] | None:
    """Names joined by commas."""
    return None if value is None else tuple(v.strip() for v in value.split(",") if v.strip())


@arrayloss.command()
@click.option("--backends", callback=split, help=f"Libraries to run on, joined by commas: {', '.join(LIBRARIES)}. All by default.")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(DTYPES))
@click.option("--max-ulp", default=8.0, show_default=True, help="What a result may be off, in units in the last place.")
def check(backends: tuple[str, ...] | None, dtype: str, max_ulp: float) -> None:
    """Compute every loss and its gradient on a data set of digits on every library that is installed."""
    named_backends(backends)
    out = console()
    table = Table(
        "loss",
        "value",
        "|gradient|",
        "value ulp",
        "gradient ulp",
        "between two",
        "by their terms",
        "",
        title=f"All losses on 1797 digits, {dtype}",
    )
    passed = True
    lines = []
    with progress() as say:
        for line in overview(backends, dtype=dtype, max_ulp=max_ulp, progress=say):
            lines.append(line)
            passed &= line.report.passed
            between = max(line.worst("value", between=True), line.worst("grad", between=True))
            numbers = (line.worst("value"), line.worst("grad"), between)
            said = "[green]agree[/]" if line.report.passed else "[red]differ[/]"
            table.add_row(
                line.label, f"{line.value:.7g}", f"{line.gradient:.4e}", *map(format_ulp, numbers), str(line.conditioned or ""), said
            )
    out.print(table)
    out.print(backend_table(backends))
    for line in lines:
        for failure in line.report.failures:
            out.print(f"{line.label}: {failure.backend} {failure.quantity}: {failure.said}", markup=False)
    out.print("They agree." if passed else "They do not agree.")
    raise SystemExit(0 if passed else 1)


def named_backends(backends: Sequence[str] | None) -> None:
    """A usage error for a library that was asked for and cannot be had."""
    for name in backends or ():
        if name not in LIBRARIES:
            raise click.UsageError(f"there is no backend {name!r}; there are {', '.join(LIBRARIES)}")
        reason = LIBRARIES[name].missing()
        if reason:
            raise click.UsageError(f"backend {name}: {reason}")


def backend_table(backends: Sequence[str] | None) -> Table:
    """Every library: its version and devices, or why it is missing."""
    table = Table("backend", "version", "device", "")
    for name, library in LIBRARIES.items():
        reason = library.missing() or (None if backends is None or name in backends else "left out")
        if reason:
            table.add_row(name, "-", "-", f"[yellow]{reason}[/]")
        else:
            table.add_row(name, library.version, library.devices(), "[green]compared[/]")
    return table
