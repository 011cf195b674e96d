"""The commands behind `arrayloss`, with click and rich."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

import arrayloss as package
from arrayloss.diagnose import overall
from arrayloss.diagnose.commands import EXIT_CODES, Output, annotation, check_ports, declared, identify, is_for_ports, job, printed_as
from arrayloss.diagnose.loading import find, load
from arrayloss.diagnose.scan_command import scan_command
from arrayloss.engine.c import library
from arrayloss.engine.host import threads
from arrayloss.frontend.loss import REGISTRY, Loss

from . import picture
from .accuracy import table as accuracy_lines
from .compare import MODES
from .compare import check as compare
from .definitions import DEFINITIONS, QUANTITIES
from .derivatives import summary
from .judge import MAX_ULP
from .libraries import DTYPES, LIBRARIES
from .overview import forms_of, overview
from .report import Report
from .rows import HEADINGS, describe, format_ulp, versions
from .run import named_loss
from .terminal import Names, Option, Say, console, progress, say_plainly, table_of

COLOURS = {"agrees": "green", "differs": "red", "crashed": "red", "absent": "bright_black", "missing": "yellow"}
GAMMAS = tuple({"gamma": g} for g in (0.0, 0.5, 1.0, 2.0, 5.0))  # those of the figure in the focal loss paper


@click.group(commands=[identify, scan_command], context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package.__version__, prog_name="arrayloss")
def arrayloss() -> None:
    """Loss functions that are the same on every array library: check them, list them, look at them."""


@arrayloss.command(epilog=f"{EXIT_CODES} For losses of ours: 0 the libraries agree, 1 they do not, 2 the command was wrong.")
@click.argument("subjects", metavar="[LOSS | [LIBRARY=]MODULE:FUNCTION]...", nargs=-1)
@click.option("--against", metavar="LIBRARY=MODULE:FUNCTION", help="Another function; in float64 it is the reference.")
@click.option("--reference", help="One of our losses, MODULE:FUNCTION in mpmath, or float64:LIBRARY.")
@click.option("--backends", type=Names("backend", tuple(LIBRARIES)), help=f"Joined by commas: {', '.join(LIBRARIES)}. All by default.")
@click.option("--dtype", "dtypes", default="float32", show_default=True, type=Names("dtype", DTYPES), help="Joined by commas.")
@click.option("--modes", type=Names("mode", MODES), help="eager, compiled or both. Eager by default for the digits, else both.")
@click.option("--quantities", default="value,grad", show_default=True, type=Names("quantity", QUANTITIES), help="value, grad, hess.")
@declared
@click.option("--target-dtype", help="The dtype of the targets for functions of yours, or 'float' for that of the predictions.")
@click.option("--arguments", metavar="MODULE:NAME", help="What a loss of yours is called with, NumPy arrays, if trying does not find it.")
@click.option("--points", help="Joined by +: edges, grid, random; or digits. [default: edges+grid+random; random+grid for losses of yours]")
@click.option("--seed", "rng", default=0, show_default=True, help="Of the random points.")
@click.option("--max-ulp", type=float, help="What a result may be off, in units in the last place. [default: 8, or what our loss promises]")
@click.option("--relative-to", type=click.Choice(["number", "batch"]), help="Whose last place. [default: number; batch for your losses]")
@click.option("-o", "--option", "options", type=Option(), multiple=True, help="name=value: an option of the loss, or of the reference.")
@click.option("--accuracy", is_flag=True, help="How accurate our losses are on this machine, beside what they promise.")
@printed_as
@click.option("--report", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write a page: .html or .md.")
@click.option("-v", "--verbose", is_flag=True, help="Every row in units in the last place, and the programs that reproduce the failures.")
def check(
    subjects: tuple[str, ...],
    options: tuple[tuple[str, Any], ...],
    accuracy: bool,
    form: str,
    strict: bool,
    limit_s: float,
    report: Path | None,
    verbose: bool,
    **shared: Any,
) -> None:
    """Is it the same loss, and does it give the same numbers everywhere?

    With functions of your own, [LIBRARY=]MODULE:FUNCTION: how each is called is found out, and what is different from --reference, one
    of our losses, is said in words. Without --reference the loss is identified first. Each library runs in a process of its own:

    \b
        arrayloss check torch=mine.losses:focal --reference sigmoid_focal_loss
        arrayloss check "mine/losses.py:FocalLoss(gamma=3)" --reference sigmoid_focal_loss -o gamma=3

    With functions and --against another one: their numbers, in units in the last place; --signature and --reduction are declared.

    Without an argument: all losses on a data set of handwritten digits, on every library that is installed.

    With the name of one of our losses: that loss, on points that reach every corner of its domain.

    With a loss of your own, MODULE:LOSS made with arrayloss.define: its slope and its curvature against differences of its own value
    at high precision, then the libraries with each other.
    """
    backends, dtypes, modes = (shared[name] for name in ("backends", "dtypes", "modes"))
    for name in backends or ():
        if reason := LIBRARIES[name].missing():
            raise click.UsageError(f"backend {name}: {reason}")
    if (max_ulp := shared["max_ulp"]) is not None and not 0 <= max_ulp < float("inf"):
        raise click.UsageError(f"--max-ulp must be a number >= 0; got {max_ulp}")
    if report is not None and (report.suffix not in (".html", ".md") or not os.access(report.parent, os.W_OK)):
        raise click.UsageError(f"--report writes .html or .md; got {report} (its folder has to be there, and writable)")
    output = Output(form, strict, limit_s, verbose, report)
    if not accuracy and is_for_ports(subjects, shared["reference"], shared["against"], shared["arguments"]):
        some = {k: v for k, v in shared.items() if k not in ("against", "arguments")} | {"modes": modes or MODES}
        checked = check_ports(subjects, output, options=dict(options), **some)
        if checked is not None:
            code, numbers = checked
            if numbers is not None:
                if verbose and form == "text":
                    print_rows(numbers, verbose)
                output.write(numbers)
            raise SystemExit(code)
    with progress() as say:
        if accuracy:
            raise SystemExit(print_accuracy(subjects, backends, dtypes, say))
        if not subjects:
            result = digits(backends, dtypes, modes or ("eager",), max_ulp, say, show=form == "text", verbose=verbose)
        else:
            result = named_subjects(subjects, say, **{**shared, **dict(options), "modes": modes or MODES})
    if form == "json":
        click.echo(json.dumps(result.to_dict(), indent=1))
    elif form == "github":
        for row in result.failures:
            click.echo(annotation("error", describe(row), row.subject))
    elif subjects:
        print_rows(result, verbose)
    output.write(result)
    if form == "text":
        click.echo(result.verdict)
    is_missing = "=" in "".join(subjects) and any(r.status == "missing" for r in result.rows)
    raise SystemExit(2 if is_missing else 0 if result.passed else 1)


def named_subjects(
    subjects: Sequence[str], say: Say, against: str | None, reference: str | None, arguments: str | None, **shared: Any
) -> Report:
    """A check of what was named on the command line; what is wrong with it is a usage error."""
    path = list(sys.path)
    try:
        subject = parse_subjects(subjects)
        if isinstance(subject, Loss) and reference is None and against is None:
            reference = "mpmath"
        compared: Any = reference
        if reference is not None and ":" in reference and not reference.startswith("float64"):
            compared = load(reference)
        if against is not None:
            if reference is not None:
                raise ValueError("--against and --reference are both references; pass one")
            backend, function = one(against)
            compared = {backend or (shared["backends"] or ["numpy"])[0]: function}
            subject = {**compared, **subject} if isinstance(subject, dict) else subject
        arrays = arguments and find(arguments)[0]
        return compare(subject, reference=compared, progress=say, arguments=arrays() if callable(arrays) else arrays, **shared)
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        raise click.UsageError(str(error)) from error
    except SystemExit as error:  # whose status says nothing about a comparison
        raise click.UsageError(f"code that the check ran ended the process, with {error.code!r}") from error
    finally:
        sys.path[:] = path


def parse_subjects(subjects: Sequence[str]) -> Any:
    """A loss, one function, or functions by backend."""
    if len(subjects) == 1 and ":" not in subjects[0]:
        return named_loss(subjects[0])
    pairs = [one(s) for s in subjects]
    if len(pairs) == 1 and pairs[0][0] is None:
        return pairs[0][1]
    if len({backend for backend, _ in pairs} - {None}) < len(pairs):
        raise ValueError("several functions need their backends, one each: torch=module:function jax=module:function")
    return {str(backend): function for backend, function in pairs}


def one(text: str) -> tuple[str | None, Callable[..., Any]]:
    """[LIBRARY=]MODULE:FUNCTION as the library, or None, and the function."""
    subject = job(text, "", {})
    return subject.library, load(subject.text)


def print_rows(report: Report, verbose: bool) -> None:
    """The rows of a report; the pairs of libraries that agree only if `verbose`."""
    table = table_of(*HEADINGS, title=f"{report.subject}, max_ulp = {report.max_ulp:g}")
    for row in report.rows:
        if row.backend != "kernel" and (verbose or row.failed or row.against != "each other"):
            cells = [escape(cell) for cell in row.cells()]
            cells[7] = f"[{COLOURS[row.status]}]{cells[7]}[/]"
            table.add_row(*cells)
    if table.rows:
        console().print(table)
    for row in report.rows:
        if row.failed:
            say_plainly(describe(row))
    kernel = [row for row in report.rows if row.backend == "kernel"]
    if kernel and not any(row.failed for row in kernel):
        say_plainly(f"{report.subject}: {summary(kernel)}.")
    programs = [(r, r.worst.snippet) for r in report.failures if r.worst is not None and r.worst.snippet]
    for row, program in programs if verbose else programs[:1]:
        say_plainly(f"\nTo reproduce it ({row.backend} {row.mode} {row.dtype} {row.quantity}):\n\n{program}\n")


def digits(
    backends: Sequence[str] | None, dtypes: Sequence[str], modes: Sequence[str], max_ulp: float | None, say: Say, show: bool, verbose: bool
) -> Report:
    """All losses on the digits; prints one line each, then what came of them in sentences."""
    whole, lines = Report("all losses on 1797 digits", MAX_ULP if max_ulp is None else max_ulp), []
    for dtype in dtypes:
        table = table_of(*overall.headings(verbose), title=f"All losses on 1797 digits, {dtype}: the largest {overall.unit(verbose)}")
        for line in overview(backends, dtype=dtype, modes=modes, max_ulp=max_ulp, progress=say):
            table.add_row(*overall.cells(line, verbose), "[green]agree[/]" if line.report.passed else "[red]differ[/]")
            whole.rows += line.report.rows
            lines.append(line)
        if show:
            console().print(table)
    for sentence in overall.sentences(lines, backends, verbose) if show else ():
        say_plainly(sentence)
    return whole


def print_accuracy(subjects: Sequence[str], backends: Sequence[str] | None, dtypes: Sequence[str], say: Say) -> int:
    """The table of errors on this machine; 0 if every loss keeps its promise."""
    for name in subjects:
        if name not in DEFINITIONS:
            raise click.UsageError(f"--accuracy takes losses of ours; there is no definition of {name!r}")
    table = table_of("loss", "given", "targets", "quantity", "dtype", "by", "max ulp", "median", "NaN", "lost", "promise", title="Accuracy")
    broken = []
    for line in accuracy_lines(subjects or None, dtypes=dtypes, backends=backends or ("numpy", "torch", "jax")):
        say(f"accuracy: {line.loss} {line.dtype} {line.quantity} {line.backend}")
        promise = line.promise if line.holds or not line.promise else f"[red]{line.promise} broken[/]"
        figures = (format_ulp(line.max_ulp), format_ulp(line.median_ulp), str(line.nans), str(line.lost), promise)
        table.add_row(line.loss, line.given, line.targets, line.quantity, line.dtype, line.backend, *figures)
        if line.promise and not line.holds:
            broken.append(line)
    console().print(table)
    for line in broken:
        say_plainly(f"{line.loss} {line.quantity} {line.dtype} {line.backend}: worst at {line.worst}")
    return 1 if broken else 0


def backend_table(backends: Sequence[str] | None) -> Table:
    """Every library: its version and devices, or why it is missing."""
    table = table_of("backend", "version", "device", "")
    for name, backend in LIBRARIES.items():
        reason = backend.missing() or (None if backends is None or name in backends else "left out")
        if reason:
            table.add_row(name, "-", "-", f"[yellow]{escape(reason)}[/]")
        else:
            table.add_row(name, backend.version, backend.devices(), "[green]installed[/]")
    return table


@arrayloss.command("list")
def list_losses() -> None:
    """The losses, what goes in, and the first sentence of their documentation."""
    table = table_of("loss", "predictions", "targets", "for")
    for name, loss in sorted(REGISTRY.items()):
        predictions = dict.fromkeys(", ".join(d.predictions) for d in forms_of(name))
        targets = dict.fromkeys(t for d in forms_of(name) for t in d.targets)
        table.add_row(name, " | ".join(predictions), ", ".join(targets), (loss.__doc__ or "").strip().partition("\n")[0])
    console().print(table)


@arrayloss.command()
def info() -> None:
    """Versions, engine, devices and threads."""
    own = versions()
    for name in ("arrayloss", "python", "machine"):
        say_plainly(f"{name} {own[name]}")
    say_plainly(f"engine {library.describe()}")
    say_plainly(f"threads {threads()} for arrays (OMP_NUM_THREADS, or the cores of this process)")
    console().print(backend_table(None))


@arrayloss.command()
@click.argument("losses", nargs=-1, required=True, metavar="LOSS...")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The picture, .png.")
@click.option("--option", "options", type=Option(), multiple=True, help="name=value; a list such as gamma=[0,2] draws a line each.")
def plot(losses: tuple[str, ...], output: Path, options: tuple[tuple[str, Any], ...]) -> None:
    """Draw loss, gradient and curvature against the logit; several losses lie over each other."""
    variants: list[dict[str, Any]] = [{}]
    for key, value in options:
        variants = [{**v, key: some} for v in variants for some in (value if isinstance(value, list) else [value])]
    if not options and all("focal_loss" in name for name in losses):
        variants = list(GAMMAS)
    try:
        output.write_bytes(picture.curves(losses, variants))
    except (ModuleNotFoundError, ValueError, TypeError, OSError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"The picture is in {output}.")
