"""What people have, as a callable: `package.module:name`, `path/file.py:name`, `mine:FocalLoss(gamma=3)`."""

from __future__ import annotations

import ast
import difflib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from types import ModuleType
from typing import Any

from .places import NotLoadedError, at, blame

LITERALS = "arguments are literals, such as 3, -0.5, 'mean', [1, 2] or None"


@dataclass(frozen=True)
class Applied:
    """A module of flax.linen that has no variables, as a function."""

    module: Any

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        return self.module.apply({}, *arrays, **options)


def load(text: str) -> Callable[..., Any]:
    """The callable that a text names; of a class an object, made without arguments."""
    found, file = find(text)
    if isinstance(found, type):
        if is_of(found, "torch.autograd.function"):
            return found.apply  # type: ignore[attr-defined]
        if not any("__call__" in vars(c) for c in found.__mro__):
            raise NotLoadedError(f"{text} is a class whose objects cannot be called", file=file)
        with blame(f"{text} cannot be made without arguments; write {text}(option=value)"):
            found = found()
    if not callable(found):
        raise NotLoadedError(f"{text} is no function, but {type(found).__name__}{at(file)}", file=file)
    return Applied(found) if is_of(type(found), "flax.linen") else found


def find(text: str) -> tuple[Any, str]:
    """The object that a text names, and the file of its module. Arguments in it are literals; nothing of the text is evaluated."""
    place, expression = split(text)
    with blame(f"module {place} cannot be imported"):
        module = _module(place)
    return _resolve(expression, module, text), getattr(module, "__file__", None) or ""


def split(text: str) -> tuple[str, ast.expr]:
    """The module or file, and the expression after it: a name with attributes and calls."""
    for i in (i for i, sign in enumerate(text) if sign == ":" and i):  # the first may be that of a drive
        try:
            node = ast.parse(text[i + 1 :].strip(), mode="eval").body
        except (SyntaxError, ValueError):
            continue
        if isinstance(node, ast.Name | ast.Attribute | ast.Call):
            return text[:i], node
    raise NotLoadedError(f"write package.module:name, path/file.py:name or module:Class(option=value); got {text!r}")


def _module(place: str) -> ModuleType:
    """A module by its name, as a program in this folder would import it, or by its file."""
    path = Path(place)
    if path.suffix != ".py" and not {"/", os.sep} & set(place):
        sys.path.insert(0, os.getcwd())
        return import_module(place)
    path = (path if path.suffix == ".py" else path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).absolute()
    if not path.is_file():
        raise NotLoadedError(f"there is no file {path}", file=str(path))
    folder, names = path.parent, [path.stem] if path.stem != "__init__" else []
    while (folder / "__init__.py").is_file():
        folder, names = folder.parent, [folder.name, *names]
    sys.path[:0] = dict.fromkeys([str(path.parent), str(folder)])
    if folder != path.parent and any(isinstance(n, ast.ImportFrom) and n.level for n in ast.walk(ast.parse(path.read_bytes(), str(path)))):
        return import_module(".".join(names))
    taken = path.stem in sys.modules or path.stem in sys.stdlib_module_names
    spec = util.spec_from_file_location(f"file_{path.stem}" if taken else path.stem, path)
    if spec is None or spec.loader is None:
        raise NotLoadedError(f"{path} is no module", file=str(path))
    module = sys.modules[spec.name] = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _resolve(node: ast.expr, module: ModuleType, text: str) -> Any:
    """What an expression of names, attributes and calls is."""
    if isinstance(node, ast.Call):
        function = _resolve(node.func, module, text)
        try:
            if any(k.arg is None for k in node.keywords):
                raise ValueError
            arguments = [ast.literal_eval(a) for a in node.args]
            options = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
        except (ValueError, SyntaxError, TypeError):
            raise NotLoadedError(f"{text}: {LITERALS}") from None
        with blame(f"{text} cannot be made"):
            return function(*arguments, **options)
    if not isinstance(node, ast.Name | ast.Attribute):
        raise NotLoadedError(f"{text}: names, attributes and calls are read, nothing else; {LITERALS}")
    owner, name = (module, node.id) if isinstance(node, ast.Name) else (_resolve(node.value, module, text), node.attr)
    with blame(f"{text} cannot be read"):
        if hasattr(owner, name):
            return getattr(owner, name)
    near = difflib.get_close_matches(name, [n for n in dir(owner) if not n.startswith("__")], 1)
    file = getattr(module, "__file__", None) or ""
    label = f"module {module.__name__}" if owner is module else ast.unparse(node).rpartition(".")[0]
    raise NotLoadedError(f"{label} has no {name!r}{at(file)}" + (f"; did you mean {near[0]!r}?" if near else ""), file=file)


def is_of(kind: type, module: str) -> bool:
    """Whether a class comes from one of a module."""
    return any(c.__module__.startswith(module) for c in kind.__mro__)
