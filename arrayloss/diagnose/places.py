"""Where in the user's code an error came from: file and line, and a sentence with both."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

OURS = str(Path(__file__).parents[1])
STANDARD = sysconfig.get_paths()["stdlib"]


class NotLoadedError(ImportError):
    """An object that cannot be had: why, and the file and line where they are known."""

    def __init__(self, text: str, code: str = "import_error", file: str = "", line: int = 0) -> None:
        super().__init__(text)
        self.code, self.file, self.line = code, file, line


def where(error: BaseException) -> tuple[str, int]:
    """The file and the line that an exception came from."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 0
    return innermost([(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)])


def innermost(frames: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """The last of some (file, line) that is in the user's own code, else in a library, else in ours."""
    kept = [f for f in frames if not f[0].startswith("<")]
    ours = [f for f in kept if f[0].startswith(OURS)]
    installed = [f for f in kept if f not in ours and ("site-packages" in f[0] or "dist-packages" in f[0])]
    own = [f for f in kept if f not in ours and f not in installed and not f[0].startswith(STANDARD)]
    return (own or installed or ours or [("", 0)])[-1]


def said(error: BaseException) -> str:
    """An exception in one line."""
    if isinstance(error, SystemExit):
        return f"it ends the process, sys.exit({error.code!r})"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    lines = text.strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}"[:300] if lines else type(error).__name__


def at(file: str, line: int = 0) -> str:
    """The end of a sentence that says where."""
    return f" ({short(file)}, line {line})" if file and line else f" ({short(file)})" if file else ""


def short(file: str) -> str:
    """A file as it is called from here."""
    here = os.getcwd() + os.sep
    return file.removeprefix(here)


@contextmanager
def blame(what: str) -> Iterator[None]:
    """Errors and exits of the user's code as one kind of error, with its place."""
    try:
        yield
    except NotLoadedError:
        raise
    except (Exception, SystemExit) as error:
        file, line = where(error)
        file, line = ("", 0) if file.startswith(OURS) else (file, line)
        code = "exits" if isinstance(error, SystemExit) else "import_error"
        raise NotLoadedError(f"{what}: {said(error)}{at(file, line)}", code, file, line) from error
