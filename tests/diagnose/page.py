"""The page of the check: what stands between its markers is what `python -m tests.diagnose.page` writes there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from arrayloss.diagnose import CODES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "check.md"
PROGRAM = ROOT / "docs" / "examples" / "mine.py"
COMMANDS = (
    "arrayloss check torch=mine:focal --reference sigmoid_focal_loss",
    "arrayloss check torch=mine:copied --reference sigmoid_focal_loss",
    "arrayloss identify torch=mine:Criterion",
)


def sessions() -> dict[str, str]:
    """The program and the commands as a person sees them, by marker."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "NO_COLOR": "1"}
    run = [
        subprocess.Popen(
            [sys.executable, "-m", *shlex.split(c)],
            cwd=PROGRAM.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for c in COMMANDS
    ]
    printed = [process.communicate() for process in run]
    for process, (_, errors) in zip(run, printed, strict=True):
        assert process.returncode in (0, 1), errors
    names = ("right", "wrong", "unknown")
    return {n: block(f"$ {c}\n{out}", "console") for n, c, (out, _) in zip(names, COMMANDS, printed, strict=True)}


def read() -> dict[str, str]:
    """What needs no run, by marker."""
    rows = "\n".join(f"| `{code}` | {text} |" for code, text in CODES.items())
    return {"program": block(PROGRAM.read_text(encoding="utf-8"), "python"), "codes": f"| code | |\n| --- | --- |\n{rows}"}


def block(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def written(page: str, parts: dict[str, str]) -> str:
    """The page with the parts in the places of those that it has."""
    for name, part in parts.items():
        page, count = re.subn(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", lambda m, part=part: m[1] + part + m[2], page, flags=re.DOTALL)
        assert count == 1, name
    return page


def session(page: str, name: str) -> Sequence[str]:
    """The lines of a session: its command, then what it printed."""
    return re.search(rf"<!-- {name} -->\n```console\n(.*?)\n```\n<!-- end -->", page, flags=re.DOTALL)[1].splitlines()


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), {**read(), **sessions()}), encoding="utf-8")
