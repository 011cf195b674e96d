"""The `arrayloss` command: check losses against each other and against their definitions."""

from __future__ import annotations

import sys
from typing import Any

MISSING = "arrayloss: {name} is not installed; the command needs: pip install 'arrayloss[check]'"
AGREE, DISAGREE, USAGE = 0, 1, 2


def main() -> None:
    """Run the command, if what it needs is there."""
    try:
        import click  # noqa: F401
        import mpmath  # noqa: F401
        import numpy  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        print(MISSING.format(name=error.name), file=sys.stderr)
        raise SystemExit(USAGE) from None
    from .check.commands import arrayloss

    run: Any = arrayloss
    run(prog_name="arrayloss")
