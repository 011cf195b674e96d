"""`scan`: the loss functions in a folder of Python files, found by reading. Nothing is imported and nothing is run."""

from __future__ import annotations

import ast
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from .scan_evidence import judge
from .scan_words import library_loss, meaning

LARGEST = 2**20  # bytes: a larger file is data or was generated
NO_SOURCES = ("site-packages", "node_modules")


@dataclass(frozen=True)
class Found:
    """A loss in a file: a "function", "class" or "method" that is one, or a "call" of a library's.

    `looks_like` is a loss of this package, empty where there is none like it; what is not `certain` is to be looked at.
    """

    path: str
    line: int
    name: str
    kind: str
    looks_like: str
    why: str
    certain: bool = True

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Tally:
    """How many files were read, and what was left out, with the reasons."""

    read: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)


def scan(folder: str | os.PathLike[str], *, tally: Tally | None = None) -> Iterator[Found]:
    """The losses of a folder, or of one file, in the order of paths and lines."""
    tally = Tally() if tally is None else tally
    for path in _files(os.fspath(folder), tally):
        try:
            tree = _parse(path)
            found = sorted(File(path, tree).losses(), key=lambda f: (f.line, f.name))
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
            tally.left_out.append((path, _reason(error)))
            continue
        tally.read += 1
        yield from found


def _files(folder: str, tally: Tally) -> Iterator[str]:
    """Python files, not through links to folders, which may loop; not hidden ones, nor what was installed."""
    if os.path.isfile(folder):
        yield folder
        return
    for here, folders, names in os.walk(folder, onerror=lambda e: tally.left_out.append((str(e.filename), _reason(e)))):
        folders.sort()
        here = "" if here == os.curdir else here.removeprefix(os.curdir + os.sep)
        for name in folders[:]:
            path = os.path.join(here, name)
            reason = "hidden folder" if name.startswith(".") else "link to a folder" if os.path.islink(path) else ""
            is_environment = name in NO_SOURCES or os.path.exists(os.path.join(path, "pyvenv.cfg"))
            reason = "virtual environment or installed packages" if is_environment else reason
            if reason or name == "__pycache__":
                folders.remove(name)
            if reason:
                tally.left_out.append((path, reason))
        for name in sorted(names):
            if name.endswith(".ipynb"):
                tally.left_out.append((os.path.join(here, name), "notebook"))
            elif name.endswith(".py"):
                yield os.path.join(here, name)


def _parse(path: str) -> ast.Module:
    known = os.stat(path)
    if not stat.S_ISREG(known.st_mode):
        raise OSError("is no file")
    if known.st_size > LARGEST:
        raise OSError(f"is larger than 1 MiB ({known.st_size / 2**20:.1f})")
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in strings that are not ours
        return ast.parse(file.read())


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"does not parse: line {error.lineno}: {error.msg}" if error.lineno else f"does not parse: {error.msg}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "is nested too deeply" if isinstance(error, RecursionError | MemoryError) else f"does not parse: {error}"


class File:
    """One file: what its names are, and the losses in it."""

    def __init__(self, path: str, tree: ast.Module) -> None:
        self.path, self.tree = path, tree
        self.names: dict[str, str] = {}
        self.functions = {f.name: f for f in tree.body if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self.names |= {a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                self.names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}

    def dotted(self, node: ast.expr) -> str:
        """A name with its module, "" where it is no name."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        full = ".".join([self.names.get(node.id, node.id), *reversed(parts)])
        return full.replace("tf.", "tensorflow.", 1) if full.startswith("tf.") else full.replace("tensorflow.keras.", "keras.", 1)

    def losses(self) -> Iterator[Found]:
        return self._among(self.tree, "", None)

    def _among(self, parent: ast.AST, prefix: str, owner: ast.ClassDef | None) -> Iterator[Found]:
        """The losses that are defined and called in something that is none; `owner` is the class whose methods they are."""
        todo = list(ast.iter_child_nodes(parent))
        for node in todo:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                todo.extend(ast.iter_child_nodes(node))
                yield from self._call(node) if isinstance(node, ast.Call) else ()
            elif verdict := judge(node, self, owner, is_inner=bool(prefix) and owner is None):
                kind = "class" if isinstance(node, ast.ClassDef) else "method" if owner else "function"
                yield Found(self.path, node.lineno, prefix + node.name, kind, *verdict)
            else:
                yield from self._among(node, f"{prefix}{node.name}.", node if isinstance(node, ast.ClassDef) else None)

    def _call(self, node: ast.Call) -> Iterator[Found]:
        dotted = self.dotted(node.func)
        if library := library_loss(dotted):
            said = meaning(dotted.rpartition(".")[2])
            yield Found(self.path, node.lineno, ast.unparse(node.func), "call", said[1] if said else "", f"a loss of {library}")
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "compile":
            for k in node.keywords:
                if k.arg == "loss" and isinstance(k.value, ast.Constant) and isinstance(k.value.value, str):
                    said = meaning(k.value.value)
                    yield Found(
                        self.path, k.value.lineno, f"loss={k.value.value!r}", "call", said[1] if said else "", "a loss of Keras by name"
                    )
