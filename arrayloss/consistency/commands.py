"""The commands behind `arrayloss`, with click and rich."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import arrayloss as package
from arrayloss.core.loss import REGISTRY, Loss

from .compare import MAX_ULP, MODES, QUANTITIES, forms
from .compare import check as compare
from .libraries import DTYPES, LIBRARIES
from .overview import forms_of, overview
from .pages import verdict
from .problems import DOMAINS, TARGETS
from .report import HEADINGS, Report, described, format_ulp, versions
from .subject import REDUCTIONS

WIDTH = 140  # where the output is no terminal
COLOURS = {"agrees": "green", "differs": "red", "crashed": "red", "absent": "bright_black", "missing": "yellow"}
FOCUS = tuple({"gamma": g} for g in (0.0, 0.5, 1.0, 2.0, 5.0))  # those of the figure in the focal loss paper


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


class Names(click.ParamType[tuple[str, ...]]):
    """Names joined by commas, each among those that are known."""

    name = "names"

    def __init__(self, what: str, known: Sequence[str]) -> None:
        self.what, self.known = what, known

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        names = value if isinstance(value, tuple) else tuple(v.strip() for v in value.split(",") if v.strip())
        for name in names:
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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package.__version__, prog_name="arrayloss")
def arrayloss() -> None:
    """Loss functions that are the same on every array library: check them, list them, look at them."""


@arrayloss.command(epilog="Exit codes: 0 they agree, 1 they do not, 2 the command was wrong or a named backend is missing.")
@click.argument("subjects", metavar="[LOSS | [BACKEND=]MODULE:FUNCTION]...", nargs=-1)
@click.option("--against", metavar="BACKEND=MODULE:FUNCTION", help="Another function; in float64 it is the reference.")
@click.option("--reference", help="One of our losses, MODULE:FUNCTION in mpmath, or float64:BACKEND.")
@click.option("--backends", type=Names("backend", tuple(LIBRARIES)), help=f"Joined by commas: {', '.join(LIBRARIES)}. All by default.")
@click.option("--dtype", "dtypes", default="float32", show_default=True, type=Names("dtype", DTYPES), help="Joined by commas.")
@click.option("--modes", type=Names("mode", MODES), help="eager, compiled or both. Eager by default for the digits, else both.")
@click.option("--quantities", default="value,grad", show_default=True, type=Names("quantity", QUANTITIES), help="value, grad, hess.")
@click.option("--signature", help="Order of the arguments of a function of yours: 'input,target', 'y_true,y_pred', ...")
@click.option("--reduction", type=click.Choice(REDUCTIONS), help="What a function of yours returns.")
@click.option("--domain", help=f"What goes into it: {', '.join(DOMAINS)}.")
@click.option("--targets", type=Names("kind of targets", TARGETS), help=", ".join(TARGETS) + ".")
@click.option("--target-dtype", help="The dtype of the targets for functions of yours, or 'float' for that of the predictions.")
@click.option("--points", default="edges+grid+random", show_default=True, help="Or digits.")
@click.option("--seed", default=0, show_default=True, help="Of the random points.")
@click.option("--max-ulp", type=float, help="What a result may be off, in units in the last place. [default: 8, or what our loss promises]")
@click.option("--relative-to", default="number", show_default=True, type=click.Choice(["number", "batch"]), help="Whose last place.")
@click.option("-o", "--option", "options", type=Option(), multiple=True, help="name=value: an option of the loss, or of the reference.")
@click.option("--accuracy", is_flag=True, help="How accurate our losses, and those of installed peers, are on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print plain data.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a page: .html or .md.")
@click.option("-v", "--verbose", is_flag=True, help="Every row, and the programs that reproduce the failures.")
def check(
    subjects: tuple[str, ...],
    against: str | None,
    reference: str | None,
    backends: tuple[str, ...] | None,
    dtypes: tuple[str, ...],
    modes: tuple[str, ...] | None,
    quantities: tuple[str, ...],
    options: tuple[tuple[str, Any], ...],
    accuracy: bool,
    as_json: bool,
    report: Path | None,
    verbose: bool,
    seed: int,
    **declared: Any,
) -> None:
    """Do losses give the same numbers everywhere, and the right ones?

    Without an argument: all losses on a data set of handwritten digits, on every library that is installed.

    With the name of one of our losses: that loss, on points that reach every corner of its domain.

    With functions of your own, MODULE:FUNCTION for any library or BACKEND=MODULE:FUNCTION for one: those, against --reference or
    --against, or else against the first of several, in float64. The order of their arguments, and what they return, is declared
    and never guessed:

    \b
        arrayloss check torch=mine.losses:focal jax=mine.port:focal --reference sigmoid_focal_loss
            --signature input,target --reduction none
    """
    for name in backends or ():
        reason = LIBRARIES[name].missing()
        if reason:
            raise click.UsageError(f"backend {name}: {reason}")
    if report is not None and report.suffix not in (".html", ".md"):
        raise click.UsageError(f"--report writes .html or .md; got {report.name}")
    with progress() as say:
        if accuracy:
            raise SystemExit(print_accuracy(subjects, backends, dtypes, say))
        if not subjects:
            found = digits(backends, dtypes, modes or ("eager",), declared["max_ulp"], say, quiet=as_json)
        else:
            found = own(subjects, against, reference, backends, dtypes, modes or MODES, quantities, seed, dict(options), declared, say)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1))
    elif subjects:
        rows(found, verbose)
    if report is not None:
        (found.to_html if report.suffix == ".html" else found.to_markdown)(report)
        if not as_json:
            click.echo(f"The report is in {report}.")
    if not as_json:
        click.echo(verdict(found))
    named_and_missing = [r for r in found.rows if r.status == "missing"] if subjects and "=" in "".join(subjects) else []
    raise SystemExit(2 if named_and_missing else 0 if found.passed else 1)


def own(
    subjects: Sequence[str],
    against: str | None,
    reference: str | None,
    backends: Sequence[str] | None,
    dtypes: Sequence[str],
    modes: Sequence[str],
    quantities: Sequence[str],
    seed: int,
    options: Mapping[str, Any],
    declared: Mapping[str, Any],
    say: Callable[[str], Any],
) -> Report:
    """A check of what was named on the command line; what is wrong with it is a usage error."""
    sys.path.insert(0, os.getcwd())  # as `python -m` does: a module of the user's own project
    try:
        subject = parsed(subjects)
        if isinstance(subject, Loss) and reference is None and against is None:
            reference = "mpmath"
        compared: Any = reference
        if reference is not None and ":" in reference and not reference.startswith("float64"):
            compared = loaded(reference)
        if against is not None:
            if reference is not None:
                raise ValueError("--against and --reference are both references; pass one")
            backend, function = one(against)
            backend = backend or (backends or ["numpy"])[0]
            compared = {backend: function}
            if isinstance(subject, dict):
                subject = {**compared, **subject}
        if compared is None and isinstance(subject, dict) and len(subject) > 1:
            compared = f"float64:{next(iter(subject))}"  # a function and its ports: the first of them, in float64
        if compared is None:
            raise ValueError("name what a function of yours is compared with: --reference or --against")
        shared = {**declared, **options}
        shared["backends"], shared["dtypes"], shared["modes"], shared["quantities"] = backends, dtypes, modes, quantities
        return compare(subject, reference=compared, rng=seed, progress=say, **shared)
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        raise click.UsageError(str(error)) from error
    finally:
        sys.path.pop(0)


def parsed(subjects: Sequence[str]) -> Any:
    """A loss of ours, one function, or functions by backend."""
    if len(subjects) == 1 and ":" not in subjects[0]:
        from .subject import named_loss

        return named_loss(subjects[0])
    found = [one(s) for s in subjects]
    if len(found) == 1 and found[0][0] is None:
        return found[0][1]
    if any(backend is None for backend, _ in found):
        raise ValueError("several functions need their backends: torch=module:function jax=module:function")
    return {str(backend): function for backend, function in found}


def one(text: str) -> tuple[str | None, Callable[..., Any]]:
    """[BACKEND=]MODULE:FUNCTION."""
    backend, equals, path = text.rpartition("=")
    if equals and backend not in LIBRARIES:
        raise ValueError(f"there is no backend {backend!r}; there are {', '.join(LIBRARIES)}")
    return backend or None, loaded(path)


def loaded(path: str) -> Callable[..., Any]:
    """A function by module:name."""
    module, colon, name = path.partition(":")
    if not colon or not module or not name:
        raise ValueError(f"write package.module:function; got {path!r}")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{path} is no function")
    return found


def rows(report: Report, verbose: bool) -> None:
    """The rows of a report; the agreeing pairs only if they are asked for."""
    table = Table(*HEADINGS, title=f"{report.subject}, max_ulp = {report.max_ulp:g}")
    for row in report.rows:
        if verbose or row.failed or row.against != "each other":
            cells = list(row.cells())
            cells[7] = f"[{COLOURS[row.status]}]{cells[7]}[/]"
            cells[8] = cells[8].replace("[", "\\[")
            table.add_row(*cells)
    out = console()
    out.print(table)
    for row in report.failures:
        out.print(described(row), markup=False, highlight=False, soft_wrap=True)
    worst = [r for r in report.failures if r.worst is not None and r.worst.snippet]
    for row in worst if verbose else worst[:1]:
        assert row.worst is not None
        out.print(f"\nTo reproduce it ({row.backend} {row.mode} {row.dtype} {row.quantity}):\n", markup=False)
        out.print(row.worst.snippet, markup=False, highlight=False, soft_wrap=True)
        out.print()


def digits(
    backends: Sequence[str] | None,
    dtypes: Sequence[str],
    modes: Sequence[str],
    max_ulp: float | None,
    say: Callable[[str], Any],
    *,
    quiet: bool,
) -> Report:
    """All losses on the digits; prints one line each."""
    whole = Report("all losses on 1797 digits", MAX_ULP if max_ulp is None else max_ulp)
    out = console()
    for dtype in dtypes:
        headings = ("loss", "value", "|gradient|", "value ulp", "gradient ulp", "between two", "by their terms", "")
        table = Table(*headings, title=f"All losses on 1797 digits, {dtype}")
        for line in overview(backends, dtype=dtype, modes=modes, max_ulp=max_ulp, progress=say):
            between = max(line.worst("value", between=True), line.worst("grad", between=True))
            numbers = (line.worst("value"), line.worst("grad"), between)
            said = "[green]agree[/]" if line.report.passed else "[red]differ[/]"
            counted = str(line.conditioned or "")
            table.add_row(line.label, f"{line.value:.7g}", f"{line.gradient:.4e}", *map(format_ulp, numbers), counted, said)
            whole.extend(line.report)
        if not quiet:
            out.print(table)
    if not quiet:
        out.print(backend_table(backends))
        for failure in whole.failures:
            out.print(f"{failure.subject}: {described(failure)}", markup=False, highlight=False, soft_wrap=True)
    return whole


def print_accuracy(subjects: Sequence[str], backends: Sequence[str] | None, dtypes: Sequence[str], say: Callable[[str], Any]) -> int:
    """The table of errors on this machine, ours and those of installed peers; 0 if every loss keeps its promise."""
    from .accuracy import table

    for name in subjects:
        if name not in REGISTRY:
            raise click.UsageError(f"--accuracy takes losses of ours; there is no loss {name!r}")
    out = console()
    shown = Table("loss", "given", "targets", "quantity", "dtype", "by", "max ulp", "median", "NaN", "lost", "promise", title="Accuracy")
    broken = []
    for row in table(subjects or None, dtypes=dtypes, backends=backends or [n for n in ("numpy", "torch", "jax") if n in LIBRARIES]):
        say(f"accuracy: {row.loss} {row.dtype} {row.quantity} {row.backend}")
        promise = row.bound if row.holds or not row.bound else f"[red]{row.bound} broken[/]"
        figures = (format_ulp(row.max_ulp), format_ulp(row.median_ulp), str(row.nans), str(row.lost), promise)
        shown.add_row(row.loss, row.given, row.targets, row.quantity, row.dtype, row.backend, *figures)
        if row.bound and not row.holds:
            broken.append(row)
    out.print(shown)
    for row in broken:
        out.print(f"{row.loss} {row.quantity} {row.dtype} {row.backend}: worst at {row.worst}", markup=False, soft_wrap=True)
    return 1 if broken else 0


def backend_table(backends: Sequence[str] | None) -> Table:
    """Every library: its version and devices, or why it is missing."""
    table = Table("backend", "version", "device", "")
    for name, library in LIBRARIES.items():
        reason = library.missing() or (None if backends is None or name in backends else "left out")
        if reason:
            table.add_row(name, "-", "-", f"[yellow]{reason}[/]")
        else:
            table.add_row(name, library.version, library.devices(), "[green]installed[/]")
    return table


@arrayloss.command("list")
def list_losses() -> None:
    """The losses, what goes in, and the first sentence of their documentation."""
    table = Table("loss", "predictions", "targets", "for")
    for name, loss in sorted(REGISTRY.items()):
        known = [f for options in forms_of(name) for f in forms(name, options)]
        predictions = dict.fromkeys(", ".join(f[0]) for f in known)
        targets = dict.fromkeys(t for f in known for t in f[1])
        table.add_row(name, " | ".join(predictions), ", ".join(targets), (loss.__doc__ or "").strip().splitlines()[0])
    console().print(table)


@arrayloss.command()
def info() -> None:
    """Versions, devices and threads."""
    out = console()
    found = versions()
    for name in ("arrayloss", "python", "machine"):
        out.print(f"{name} {found[name]}", highlight=False)
    from arrayloss.adapters.numpy import threads

    out.print(f"threads {threads()} for NumPy (OMP_NUM_THREADS, or the cores of this process)", highlight=False)
    out.print(backend_table(None))


@arrayloss.command()
@click.argument("losses", nargs=-1, required=True, metavar="LOSS...")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The picture, .png.")
@click.option("--option", "options", type=Option(), multiple=True, help="name=value; a list such as gamma=[0,2] draws a line each.")
def plot(losses: tuple[str, ...], output: Path, options: tuple[tuple[str, Any], ...]) -> None:
    """Draw loss, gradient and curvature against the logit; several losses lie over each other."""
    from . import picture

    variants: list[dict[str, Any]] = [{}]
    for key, value in options:
        variants = [{**v, key: some} for v in variants for some in (value if isinstance(value, list) else [value])]
    if not options and all("focal_loss" in name for name in losses):
        variants = list(FOCUS)
    try:
        output.write_bytes(picture.curves(losses, variants))
    except ModuleNotFoundError as error:
        raise click.UsageError(str(error)) from error
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"The picture is in {output}.")
