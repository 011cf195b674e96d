"""`arrayloss check` for functions of the user's own, and `arrayloss identify`: what is different, in words."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from arrayloss.check.libraries import LIBRARIES
from arrayloss.check.points import DOMAINS, TARGETS
from arrayloss.check.report import Report
from arrayloss.check.run import REDUCTIONS, named_loss
from arrayloss.check.terminal import Names, Say, console, progress

from .places import short
from .result import Diagnosis, Reason
from .worker import LIMIT_S, run_all
from .works import Job, Outcome

COLOURS = {"same": "green", "digits": "yellow", "different": "red", "not_compared": "magenta"}
ORDER = tuple(COLOURS)  # from the best to the worst
LEVELS = {"same": "notice", "digits": "warning", "different": "error", "not_compared": "error"}
FLAGS = ("signature", "reduction", "domain", "targets")  # what probing finds out where they are not given
EXIT_CODES = "Exit codes: 0 the same loss, also but for digits (then 1 with --strict), 1 another one, 2 nothing was compared."


def declared(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that overrule probing."""
    for option in (
        click.option("--targets", type=Names("kind of targets", TARGETS), help=", ".join(TARGETS) + "."),
        click.option("--domain", help=f"What goes into it: {', '.join(DOMAINS)}."),
        click.option("--reduction", type=click.Choice(REDUCTIONS), help="What a function of yours returns."),
        click.option("--signature", help="Order of the arguments of a function of yours: 'input,target', 'y_true,y_pred', ..."),
    ):
        command = option(command)
    return command


def printed_as(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what is printed, and when that is a failure."""
    for option in (
        click.option(
            "--time-limit", "limit_s", type=click.FloatRange(min=0.1), default=LIMIT_S, help="Seconds for one step of a function."
        ),
        click.option("--strict", is_flag=True, help="Lost digits are a difference."),
        click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text", help="github: its annotations."),
        click.option("--json", "form", flag_value="json", help="Print plain data, as --format json."),
    ):
        command = option(command)
    return command


@click.command(epilog=EXIT_CODES)
@click.argument("subjects", metavar="[LIBRARY=]MODULE:FUNCTION...", nargs=-1, required=True)
@declared
@printed_as
def identify(subjects: tuple[str, ...], form: str, strict: bool, limit_s: float, **flags: Any) -> None:
    """Which loss of ours is this function, and with which options?

    The function is called on probes, and its values and gradients are compared with those of every loss here. The answer is the call
    that replaces it, or the nearest one and what is different. It runs in a process of its own:

    \b
        arrayloss identify torch=mine.losses:focal
        arrayloss identify "mine/losses.py:FocalLoss(gamma=3)"
    """
    with progress() as say:
        outcomes = compared([job(s, "identify", given(flags)) for s in subjects], limit_s, say)
    show(outcomes, Output(form, strict, limit_s))
    raise SystemExit(exit_code(outcomes, strict))


def is_for_ports(subjects: Sequence[str], reference: str | None, against: str | None, arguments: str | None) -> bool:
    """Whether functions of the user's own are to be compared with a loss of ours."""
    return bool(subjects) and all(":" in s for s in subjects) and ":" not in (reference or "") and not (against or arguments)


@dataclass(frozen=True)
class Output:
    """What is printed and written, and how long one step of a function may take."""

    form: str
    strict: bool
    limit_s: float
    verbose: bool = False
    report: Path | None = None

    def write(self, report: Report) -> None:
        """The page of a report, if one is asked for."""
        if self.report is not None:
            (report.to_html if self.report.suffix == ".html" else report.to_markdown)(self.report)
            if self.form == "text":
                click.echo(f"The report is in {self.report}.")


def check_ports(
    subjects: Sequence[str], output: Output, *, reference: str | None, options: Mapping[str, Any], **shared: Any
) -> tuple[int, Report | None] | None:
    """Print a check of functions of the user's own: the exit code, and the check of their numbers if it is asked for.

    None where the function is a loss made with `arrayloss.define`.
    """
    flags, options = given(shared), dict(options)
    if "reduction" in options:
        flags["reduction"] = options.pop("reduction")
    if reference is not None:
        accept(reference, options)
    elif options:
        raise click.UsageError("-o gives the options of a reference: name it with --reference")
    if len(subjects) == 1 and not LIBRARY.match(subjects[0]) and shared["backends"]:
        subjects = [f"{backend}={subjects[0]}" for backend in shared["backends"]]
    jobs = [job(s, "check", {**flags, "reference": reference, "options": options}) for s in subjects]
    with progress() as say:
        outcomes = compared(jobs, output.limit_s, say)
    if any(isinstance(o.result, str) for o in outcomes):
        return None
    numbers: Report | None = None
    if output.form == "text":
        show(outcomes, output)
    if (output.verbose or output.report) and not any(o.stopped for o in outcomes):
        about = {k: v for k, v in shared.items() if k not in (*FLAGS, "backends", "target_dtype") and v is not None}
        with progress() as say:
            numbers = tables(jobs, outcomes, output.limit_s, say, {**about, "options": options})
    if output.form != "text":
        show(outcomes, output, numbers)
    return exit_code(outcomes, output.strict), numbers


LIBRARY = re.compile(r"(\w+)=(?=.*:)")


def job(subject: str, work: str, keywords: Mapping[str, Any]) -> Job:
    """[LIBRARY=]MODULE:FUNCTION and what is to be done with it."""
    match = LIBRARY.match(subject)
    if match and match[1] not in LIBRARIES:
        near = difflib.get_close_matches(match[1], LIBRARIES, 1)
        raise click.UsageError(
            f"there is no library {match[1]!r}; there are {', '.join(LIBRARIES)}" + f"; did you mean {near[0]}?" * len(near)
        )
    return Job(subject[match.end() :] if match else subject, match[1] if match else None, work, keywords)


def given(shared: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that overrule probing, where they are given."""
    return {k: shared[k] for k in FLAGS if shared.get(k) is not None}


def accept(reference: str, options: Mapping[str, Any]) -> None:
    """A usage error where the reference is no loss of ours, or does not have such an option."""
    try:
        loss = named_loss(reference)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for name in options:
        if name not in loss.option_names:
            near = difflib.get_close_matches(name, loss.option_names, 1)
            raise click.UsageError(f"{reference} has no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def compared(jobs: Sequence[Job], limit_s: float, say: Say) -> list[Outcome]:
    """What came of the jobs. Without a reference, the first function that is one of our losses says what the others are compared with."""
    outcomes, jobs = [_absent(job) for job in jobs], list(jobs)
    waiting = [i for i, outcome in enumerate(outcomes) if outcome is None]
    while waiting:
        is_open = jobs[waiting[0]].work == "check" and not jobs[waiting[0]].keywords["reference"]
        now = waiting[:1] if is_open else waiting
        waiting = waiting[len(now) :]
        for i, outcome in zip(now, run_all([jobs[i] for i in now], limit_s, say), strict=True):
            outcomes[i] = outcome
            waiting = [] if outcome.stopped else waiting
            if is_open and isinstance(outcome.result, Diagnosis) and outcome.result.verdict in ("same", "digits"):
                found = {"reference": outcome.result.convention["loss"], "options": outcome.result.convention["options"]}
                jobs = [replace(job, keywords={**job.keywords, **found}) for job in jobs]
    return [o or Outcome(job.failure(), stopped=True) for o, job in zip(outcomes, jobs, strict=True)]


def _absent(job: Job) -> Outcome | None:
    """The outcome where the library is not here."""
    reason = job.library and LIBRARIES[job.library].missing()
    return Outcome(job.failure(Reason("import_error", f"{job.library}: {reason} here.")), failed=True) if reason else None


def exit_code(outcomes: Sequence[Outcome], strict: bool) -> int:
    """0 for the same loss, 1 for another, 2 where something was not compared to the end."""
    codes = {"same": 0, "digits": int(strict), "different": 1, "not_compared": 2}
    return max(2 if o.stopped else codes[o.result.verdict] for o in outcomes)


def tables(jobs: Sequence[Job], outcomes: Sequence[Outcome], limit_s: float, say: Say, numbers: Mapping[str, Any]) -> Report:
    """The check of numbers of every function that was compared, called as it was found to be."""
    some = [(job, o.result) for job, o in zip(jobs, outcomes, strict=True) if o.result.verdict != "not_compared" and o.result.convention]
    checks = [replace(j, library=d.library, work="tables", keywords={**numbers, "convention": d.convention}) for j, d in some]
    results = [o.result for o in run_all(checks, limit_s, say)]
    reports = [r for r in results if isinstance(r, Report)]
    whole = Report(" / ".join(dict.fromkeys(r.subject for r in reports)), max((r.max_ulp for r in reports), default=0.0))
    whole.rows += [row for r in reports for row in r.rows]
    for (_, diagnosis), result in zip(some, results, strict=True):
        if isinstance(result, Diagnosis):  # of a failure
            diagnosis.notes += [f"The check of its numbers: {r.text}" for r in result.reasons]
    return whole


def show(outcomes: Sequence[Outcome], output: Output, numbers: Report | None = None) -> None:
    """Print what came of it."""
    if output.form == "json":
        click.echo(json.dumps(_finite(plain(outcomes, numbers)), indent=1, default=str))
    elif output.form == "github":
        for outcome in outcomes:
            for line in github_lines(outcome, output.strict):
                click.echo(line)
    else:
        for i, outcome in enumerate(outcomes):
            screen = console()
            first, *rest = outcome.result.lines()
            if len(outcomes) > 1:
                screen.print("\n" * bool(i) + f"{outcome.result.library or outcome.result.name}:", markup=False, highlight=False)
            screen.print(first, style=COLOURS[outcome.result.verdict], markup=False, highlight=False, soft_wrap=True)
            for line in rest:
                screen.print(line, markup=False, highlight=False, soft_wrap=True)


def plain(outcomes: Sequence[Outcome], numbers: Report | None = None) -> dict[str, Any]:
    """The worst verdict and all reasons; for one function the rest of its diagnosis too; every function under `ports`."""
    ports = []
    for o in outcomes:
        where = {"file": o.file, "line": o.line, "printed": o.printed, "stopped": o.stopped, "seconds": round(o.seconds, 3)}
        ports.append({**o.result.to_dict(), **where})
    verdict = max((o.result.verdict for o in outcomes), key=ORDER.index)
    reasons = [r for p in ports for r in p["reasons"]]
    rows = {} if numbers is None else {"rows": numbers.to_dict()["rows"]}
    return {"verdict": verdict, "reasons": reasons, **(ports[0] if len(ports) == 1 else {}), "ports": ports, **rows}


def _finite(value: Any) -> Any:
    """The same data without numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def github_lines(outcome: Outcome, strict: bool) -> list[str]:
    """A line for every reason, in the format of GitHub's workflow commands."""
    d = outcome.result
    level = "error" if strict and d.verdict == "digits" else LEVELS[d.verdict]
    first = " ".join(d.lines()[:1])
    name = f"{d.library}={d.name}" if d.library else d.name
    if not d.reasons:
        return [annotation(level, first, name, outcome.file, outcome.line)]
    texts = [(r.code, "\n".join(filter(None, [d.title, r.text, r.example, r.fix and f"To change: {r.fix}"]))) for r in d.reasons]
    return [annotation(level, text, f"{name}: {code}", outcome.file, outcome.line) for code, text in texts]


def annotation(level: str, text: str, title: str, file: str = "", line: int = 0) -> str:
    """One workflow command; the file as it is called from here."""
    properties = {"file": short(file).replace(os.sep, "/"), "line": line, "title": title}
    said = ",".join(f"{k}={_escaped(str(v)).replace(':', '%3A').replace(',', '%2C')}" for k, v in properties.items() if v)
    return f"::{level} {said}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
