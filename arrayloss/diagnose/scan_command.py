"""`arrayloss scan`: a list of the losses in a folder, to be replaced one by one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from arrayloss.check.terminal import console, progress, say_plainly, table_of

from .scan import Found, Tally, scan

ROWS = 100
SHOWN = 5  # of what was left out


@click.command("scan", epilog="Exit codes: 0 files were read, 2 none was, or the command was wrong.")
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print nothing but JSON.")
@click.option("--run", is_flag=True, help="Import what was found at module level, and try which loss it is. This runs the code.")
@click.option("--limit", type=click.IntRange(0), help=f"How many rows; 0 for all. [default: {ROWS}; all for --json]")
def scan_command(folder: Path, as_json: bool, run: bool, limit: int | None) -> None:
    """Find the loss functions in a folder of Python files by reading them.

    Lists functions, classes and methods that are losses, and calls of losses of PyTorch, optax, Keras, MONAI, kornia, torchvision and
    scikit-learn, with the loss of this package that each looks like. "perhaps" is what is not certain: --run tells.
    """
    tally = Tally()
    with progress() as say:
        found = []
        for one in scan(folder, tally=tally):
            found.append(one)
            say(f"{one.path}: {len(found)} found")
        rows = _rows(found) if not as_json else [(one, 1) for one in found]
        limit = (0 if as_json else ROWS) if limit is None else limit
        shown = rows[:limit] if limit else rows
        tried = _try([one for one, _ in shown], say) if run else {}
    if as_json:
        losses = [one.to_dict() | ({"run": tried[one].to_dict()} if one in tried else {}) for one, _ in shown]
        left_out = [{"path": path, "reason": reason} for path, reason in tally.left_out]
        click.echo(json.dumps({"files": tally.read, "found": losses, "left_out": left_out}, indent=1))
    else:
        _print(shown, tried if run else None)
        if len(shown) < len(rows):
            say_plainly(f"... and {len(rows) - len(shown)} rows more; --limit 0 shows all.")
        for sentence in sentences(found, tally):
            say_plainly(sentence)
    raise SystemExit(0 if tally.read else 2)


def _rows(found: Sequence[Found]) -> list[tuple[Found, int]]:
    """What was found; calls of one loss in one file are one row, with their number."""
    counts = Counter((one.path, one.name) for one in found if one.kind == "call")
    first = dict.fromkeys(counts, True)
    rows = []
    for one in found:
        key = (one.path, one.name)
        if one.kind != "call":
            rows.append((one, 1))
        elif first[key]:
            first[key] = False
            rows.append((one, counts[key]))
    return rows


def _try(found: Sequence[Found], say: Any) -> dict[Found, Any]:
    """Which loss each function and class at module level is, in a process of its own."""
    from .worker import run_all
    from .works import Job

    tried = [one for one in found if one.kind in ("function", "class") and "." not in one.name]
    outcomes = run_all([Job(f"{one.path}:{one.name}", None, "identify") for one in tried], say=say)
    return {one: outcome.result for one, outcome in zip(tried, outcomes, strict=True)}


def _print(rows: Sequence[tuple[Found, int]], tried: dict[Found, Any] | None) -> None:
    table = table_of("file:line", "name", "looks like", *([] if tried is None else ["run"]))
    for one, count in rows:
        looks = one.looks_like or ("none of arrayloss" if one.certain else "a loss")
        looks = looks if one.certain else f"perhaps {looks}: {one.why}"
        cells = [f"{one.path}:{one.line}", one.name + (" (call)" if one.kind == "call" else "") + (f", {count} times" if count > 1 else "")]
        cells += [looks] + ([] if tried is None else [_said(tried[one]) if one in tried else ""])
        table.add_row(*[escape(printable(cell)) for cell in cells])
    if table.rows:
        console().print(table)


def _said(diagnosis: Any) -> str:
    """A diagnosis in one line: the call that replaces the loss, or what differs from the nearest one, or why it was not compared."""
    codes = ", ".join(reason.code for reason in diagnosis.reasons)
    if diagnosis.verdict == "not_compared":
        return f"not compared: {diagnosis.reasons[0].text if diagnosis.reasons else 'no reason is known'}"
    call = diagnosis.calls[0] if diagnosis.calls else diagnosis.reference
    return (
        f"is {call}" + (f" ({codes})" if codes else "") if diagnosis.verdict != "different" else f"is not {call or 'one of ours'}: {codes}"
    )


def sentences(found: Sequence[Found], tally: Tally) -> list[str]:
    """What was found, in how many files, and what was left out and why."""
    calls = [one for one in found if one.kind == "call"]
    losses = [one for one in found if one.kind != "call"]
    doubts = sum(not one.certain for one in losses)
    total = _count(losses, "loss", "losses") + (f" ({doubts} of them uncertain)" if doubts else "")
    said = [f"{total} and {_count(calls, 'call')} of losses of libraries in {tally.read} Python file{'s' * (tally.read != 1)}."]
    kinds = Counter(reason for _, reason in tally.left_out if reason in ("hidden folder", "link to a folder", "notebook"))
    kinds += Counter("virtual environment" for _, reason in tally.left_out if reason.startswith("virtual"))
    if kinds:
        said.append("Left out: " + ", ".join(f"{n} {kind}{'s' * (n > 1)}" for kind, n in sorted(kinds.items())) + ".")
    others = [(p, r) for p, r in tally.left_out if r not in kinds and not r.startswith("virtual")]
    if others:
        said.append(f"Not read: {_count(others, 'file')}.")
        said += [f"  {printable(path)} {reason}" for path, reason in others[:SHOWN]]
        said += [f"  ... and {len(others) - SHOWN} more (--json names all)"] if len(others) > SHOWN else []
    return said


def _count(things: Sequence[Any], one: str, several: str = "") -> str:
    return f"{len(things)} {one if len(things) == 1 else several or one + 's'}"


def printable(text: str) -> str:
    """A name without signs that a terminal obeys, or that no text can hold."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
