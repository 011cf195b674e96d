"""C functions from their text: the compiler, a cache on disk, and ctypes.

`function` has what is compiled, or None where NumPy computes: it was chosen, there is no compiler, or the compiler has failed. A library is
loaded from a file in a folder that is the user's alone, and only if the digest at its end is right: half a file can end the process.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import stat
import sys
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from ..choice import VARIABLE, choice

MISSING = "no C compiler was found (gcc, clang, cc; pip install arrayloss[compile] brings one)"
SPEED = ["-march=native", "-mprefer-vector-width=512", "-fno-thread-jumps"]  # left out where the compiler does not know them
SPEED += ["--param=vect-epilogues-nomask=0"]  # half the time to compile
FLAGS = ["-O2", "-std=gnu11", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-shared", "-fPIC"]
# Linux finds C's functions in the process that loads the library. To link them costs zig 5 s and 47 MB once, or 0.4 s each time (-lm).
FLAGS += ["-nostdlib"] if sys.platform == "linux" else ["-lm"]
TIMEOUT = 60  # seconds
HEADER = Path(__file__).with_name("functions.h")


@dataclass(frozen=True)
class _Compiler:
    command: tuple[str, ...]  # empty where there is none
    origin: str
    identity: str  # tells it and the processor from others


@dataclass
class _State:
    compiler: _Compiler | None = None
    problem: str = ""  # why nothing can be compiled
    refused: frozenset[str] = frozenset()  # flags that the compiler does not know
    functions: dict[tuple[str, str], Any] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)


_state = _State()
if hasattr(os, "register_at_fork"):  # a thread that is not in the child may have held it
    os.register_at_fork(after_in_child=lambda: setattr(_state, "lock", threading.Lock()))


def is_on() -> bool:
    """Whether functions are compiled, as far as is known. Raises where they have to be and cannot."""
    chosen = choice()[0]
    if chosen == "numpy":
        return False
    if _state.compiler is None:
        _state.compiler = _find_compiler()
        _state.problem = _state.problem if _state.compiler.command else MISSING
    if _state.problem and chosen == "compiled":
        raise RuntimeError(f"the engine 'compiled' needs a C compiler (gcc or clang, or pip install arrayloss[compile]): {_state.problem}")
    return not _state.problem


def function(name: str, source: str) -> Any | None:
    """The function `name` of a C text, which may use what is in functions.h; None where NumPy computes."""
    if not is_on():
        return None
    key = name, source
    if key not in _state.functions:
        with _state.lock:  # one thread compiles, others wait
            if key not in _state.functions and not _state.problem and (compiler := _state.compiler):
                try:
                    _state.functions[key] = _load(source, compiler)[name]
                except OSError as error:
                    _state.problem = f"{shlex.join(compiler.command)} failed: {error}"
                    if choice()[0] == "auto":
                        warnings.warn(f"{_state.problem}; NumPy computes, as with {VARIABLE}=numpy", RuntimeWarning, stacklevel=2)
    return _state.functions[key] if is_on() else None


def describe() -> str:
    """Which engine runs, and why: a function is compiled to find out."""
    chosen, by = choice()
    if chosen == "numpy":
        return f"numpy: chosen by {by}"
    with warnings.catch_warnings(), suppress(RuntimeError):
        warnings.simplefilter("ignore")
        if function("arrayloss_probe", "void arrayloss_probe(void) {}\n") is not None and (compiler := _state.compiler):
            folder, is_safe = _cache()
            cache = f"cache {folder}" if is_safe and os.access(folder, os.W_OK) else f"no cache: {folder} is not writable or not safe"
            return f"compiled, by {shlex.join(compiler.command)} ({compiler.origin}); {cache}"
    return f"{'numpy' if chosen == 'auto' else f'none, though {by} demands a compiled one'}: {_state.problem}"


def _find_compiler() -> _Compiler:
    cc = os.environ.get("CC", "").strip()
    words, origin = [cc] if cc else [], "CC"
    with suppress(ValueError):  # a quote that does not end: there is no such command, which is said when it runs
        words = shlex.split(cc)
    if not words:
        path = next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), None)
        words, origin = [path] if path else [], "a C compiler on the path"
    if not words and (spec := find_spec("ziglang")) and spec.origin:
        path = shutil.which("zig", path=os.path.dirname(spec.origin))
        words, origin = [path, "cc", "-fno-sanitize=undefined"] if path else [], "of the package ziglang"
    facts = [*words, *SPEED, *FLAGS, _processor()]
    for path in filter(None, map(shutil.which, words)):  # a wrapper's compiler too
        with suppress(OSError):
            real = os.path.realpath(path)
            facts += [real, str(os.stat(real).st_size), str(os.stat(real).st_mtime_ns)]
    return _Compiler(tuple(words), origin, "\0".join(facts))


def _processor() -> str:
    """Model and features of the first processor; elsewhere than on Linux, what names this machine."""
    with suppress(OSError), open("/proc/cpuinfo") as file:
        return "".join(islice((line for line in file if line.startswith(("model name", "flags", "Features", "CPU part"))), 2))
    return str(os.uname() if hasattr(os, "uname") else sys.platform)


def _cache() -> tuple[Path, bool]:
    """The folder of libraries, and whether it is a folder, this user's, and not writable for others."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(root if os.path.isabs(root) else os.path.expanduser("~/.cache"), "arrayloss", "c")
    try:
        for part in (folder.parent, folder) if folder.is_absolute() else ():  # a user may have no home
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(folder)
    except OSError:
        return folder, False
    is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return folder, stat.S_ISDIR(status.st_mode) and is_own and not status.st_mode & 0o022


def _load(source: str, compiler: _Compiler) -> ctypes.CDLL:
    """The library of a C text: from the cache, else compiled, and kept there if that is possible."""
    text = HEADER.read_text() + source
    key = hashlib.sha256(f"{compiler.identity}\0{text}".encode()).hexdigest()
    folder, is_safe = _cache()
    kept = folder / f"{key}.so"
    with suppress(OSError):  # it is not there, or its file system does not execute
        library = kept.read_bytes() if is_safe else b""
        if library[-64:] == _digest(key, library[:-64]):
            return ctypes.CDLL(str(kept))
    from tempfile import TemporaryDirectory  # with `subprocess` 10 ms, which a process that finds its library need not spend

    with TemporaryDirectory(prefix="arrayloss-") as temporary:  # a library that is loaded needs its file no longer
        built = _compile(text, compiler, Path(temporary))
        if is_safe:
            library = built.read_bytes()
            with suppress(OSError), TemporaryDirectory(prefix="new-", dir=folder) as beside:
                new = Path(beside, kept.name)
                new.write_bytes(library + _digest(key, library))
                new.replace(kept)  # whole, or, where the disk is full or read-only, not at all
                return ctypes.CDLL(str(kept))
        return ctypes.CDLL(str(built))


def _digest(key: str, library: bytes) -> bytes:
    """What stands behind a library in its file."""
    return hashlib.sha256(key.encode() + library).hexdigest().encode()


def _compile(text: str, compiler: _Compiler, folder: Path) -> Path:
    import subprocess

    source, library = folder / "function.c", folder / "function.so"
    source.write_text(text)
    # Where zig cannot write to caches, it never ends.
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder)}
    while True:
        flags = [f for f in SPEED if f not in _state.refused]
        command = [*compiler.command, *flags, *FLAGS, str(source), "-o", str(library)]
        try:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=TIMEOUT
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"no end after {TIMEOUT} s") from error
        if done.returncode == 0:
            return library
        unknown = [f for f in flags if f.partition("=")[0] in done.stderr]  # it says so
        if not unknown:
            lines = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
            raise OSError(next((line for line in reversed(lines) if "error" in line), lines[-1]).strip())
        _state.refused |= {*unknown}
