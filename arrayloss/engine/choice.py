"""Which engine computes arrays in the host's memory: one choice for the process."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack
from typing import Any

VARIABLE = "ARRAYLOSS_ENGINE"
_chosen: list[tuple[str, str]] = []  # the engine, and what chose it


def use_engine(name: str) -> AbstractContextManager[Any]:
    """Choose the engine of arrays in the host's memory for the whole process: 'auto', 'numpy' or 'compiled'.

    'auto' compiles where there is a C compiler, 'compiled' raises where there is none. The choice holds at once; as a context manager it
    ends with its block. Without a call the environment variable ARRAYLOSS_ENGINE decides.
    """
    former, _chosen[:] = [*_chosen], [(_checked("name", name), "use_engine")]
    stack = ExitStack()
    stack.callback(lambda: _chosen.__setitem__(slice(None), former))
    return stack


def choice() -> tuple[str, str]:
    """The engine, and what chose it. The environment is read once."""
    if not _chosen:
        _chosen.append((_checked(VARIABLE, os.environ.get(VARIABLE) or "auto"), VARIABLE))
    return _chosen[0]


def _checked(argument: str, name: str) -> str:
    if name not in ("auto", "numpy", "compiled"):
        raise ValueError(f"{argument} must be 'auto', 'numpy' or 'compiled'; got {name!r}")
    return name
