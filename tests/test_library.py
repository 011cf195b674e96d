"""The compiler, the cache and the choice of the engine. What a new process would know is a new state, or a real process."""

from __future__ import annotations

import ctypes
import errno
import math
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from arrayloss.engine import choice
from arrayloss.engine.c import library

SOURCE = """
#ifndef FACTOR
#define FACTOR 2
#endif
void times(const double* x, double* y, int64_t n) { for (int64_t i = 0; i < n; i++) y[i] = FACTOR * x[i]; }
"""  # int64_t comes from functions.h
PROGRAM = f"""
import ctypes
from arrayloss.engine.c import library

def run(source):
    x, y = ctypes.c_double(21), ctypes.c_double()
    library.function("times", source)(ctypes.byref(x), ctypes.byref(y), ctypes.c_int64(1))
    print(y.value, flush=True)

source = {SOURCE!r}
"""
GCC = next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), "")
needs_compiler = pytest.mark.skipif(not GCC, reason="no C compiler (gcc, clang or cc) is on the path")


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The cache's folder, not made yet. Whatever a test does, it leaves nothing in the folder of temporary files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(library, "_state", library._State())
    monkeypatch.setattr(choice, "_chosen", [])
    yield tmp_path / "cache" / "arrayloss" / "c"
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What follows is as in a new process."""
    return lambda: monkeypatch.setattr(library, "_state", library._State())


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Makes a shell script the compiler."""

    def write(body: str, *arguments: str) -> Path:
        path = tmp_path / "my cc"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o700)
        monkeypatch.setenv("CC", " ".join([f"'{path}'", *arguments]))
        return path

    return write


@pytest.fixture
def starts(script: Callable[..., Path], tmp_path: Path) -> Callable[[], int]:
    """How often the compiler was started."""
    log = tmp_path / "log"
    log.touch()
    script(f"echo >> '{log}'; exec {GCC} \"$@\"")
    return lambda: len(log.read_text().splitlines())


def times(function: Any) -> float:
    """21 times the factor of the source."""
    x, y = ctypes.c_double(21), ctypes.c_double()
    function(ctypes.byref(x), ctypes.byref(y), ctypes.c_int64(1))
    return y.value


def ask(source: str = SOURCE) -> Any:
    return library.function("times", source)


def process(program: str = "run(source)") -> subprocess.Popen[str]:
    """A process with an empty memory, in which a warning is an error."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM + program]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output(started: subprocess.Popen[str]) -> str:
    out, err = started.communicate(timeout=60)
    assert started.returncode == 0, err
    return out.strip()


def files(folder: Path) -> list[str]:
    return sorted(p.suffix for p in folder.iterdir()) if folder.exists() else []


@needs_compiler
def test_a_function_is_compiled_and_kept(folder: Path) -> None:
    function = ask()
    assert times(function) == 42
    assert ask() is function
    assert files(folder) == [".so"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert library.describe() == f"compiled, by {GCC} (a C compiler on the path); cache {folder}"


@needs_compiler
def test_functions_of_c_are_found() -> None:
    function = library.function("gamma_of", "double lgamma(double);\ndouble gamma_of(double x) { return lgamma(x); }\n")
    assert function is not None
    function.restype = ctypes.c_double
    assert function(ctypes.c_double(5)) == pytest.approx(math.log(24))


@pytest.mark.skipif(find_spec("ziglang") is None, reason="ziglang is not installed")
@pytest.mark.parametrize("home", ["a home", "no home"])
def test_zig_is_used_where_no_other_compiler_is(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    if home == "no home":  # zig never ends where it cannot write to caches of its own
        monkeypatch.setenv("HOME", "/proc/nowhere")
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
        monkeypatch.setattr(library, "TIMEOUT", 20)
    assert times(ask()) == 42
    assert "zig cc (of the package ziglang)" in library.describe()


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    assert not library.is_on()
    assert ask() is None
    assert library.describe() == "numpy: no C compiler was found (gcc, clang, cc; pip install arrayloss[compile] brings one)"
    with choice.use_engine("compiled"), pytest.raises(RuntimeError, match=r"needs a C compiler .*pip install arrayloss\[compile\]"):
        ask()
    assert ask() is None


@needs_compiler
def test_cc_is_used_with_its_arguments(script: Callable[..., Path]) -> None:
    path = script(f'exec {GCC} "$@"', "-DFACTOR=3")
    assert times(ask()) == 63
    assert library.describe().startswith(f"compiled, by '{path}' -DFACTOR=3 (CC); cache ")


@needs_compiler
def test_flags_that_a_compiler_does_not_know_are_left_out(script: Callable[..., Path], tmp_path: Path) -> None:
    """As clang says it; and not again in this process."""
    refuse = "echo \"clang: error: unknown argument: '-fno-thread-jumps'\" >&2; exit 1"
    script(f'echo >> {tmp_path}/log; case "$*" in *-fno-thread-jumps*) {refuse};; esac; exec {GCC} "$@"')
    assert times(ask()) == 42
    assert times(ask(SOURCE + "/* another */")) == 42
    assert len((tmp_path / "log").read_text()) == 3


BROKEN = {
    "fails": ("echo first; echo second >&2; echo last >&2; exit 1", "last"),
    "names an error": ("echo 'a.c:1: error: reason' >&2; echo ' | ^' >&2; exit 1", "a.c:1: error: reason"),
    "fails silently": ("exit 3", "exit status 3"),
    "makes nothing": ("exit 0", "No such file"),
    "makes a text": ('while [ "$1" != -o ]; do shift; done; echo text > "$2"', "function.so"),
    "hangs": ("exec sleep 30", "no end after"),
}


@pytest.mark.parametrize(("body", "last"), BROKEN.values(), ids=BROKEN)
def test_a_compiler_that_fails_warns_once(
    body: str, last: str, script: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(library, "TIMEOUT", 0.5)
    path = script(body)
    with pytest.warns(RuntimeWarning, match=last) as warned:
        assert ask() is None
    assert len(warned) == 1
    assert str(path) in str(warned[0].message)
    assert ask() is None
    assert ask(SOURCE + "/* another */") is None
    assert not library.is_on()
    assert library.describe().startswith(f"numpy: '{path}' failed: ")
    assert last in library.describe()
    with choice.use_engine("compiled"), pytest.raises(RuntimeError, match=last):
        ask()
    assert body == BROKEN["makes a text"][0] or files(folder) == []


@pytest.mark.parametrize("cc", ["/nowhere/cc -O1", "no 'such"])
def test_a_command_that_does_not_exist_is_a_compiler_that_fails(cc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", cc)
    with pytest.warns(RuntimeWarning, match=r"failed: \[Errno"):
        assert ask() is None


def test_a_warning_that_is_an_error_is_raised_once(script: Callable[..., Path]) -> None:
    script("exit 1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning):
            ask()
        assert ask() is None


@needs_compiler
def test_a_text_that_does_not_compile_leaves_no_file(folder: Path) -> None:
    with pytest.warns(RuntimeWarning, match="error"):
        assert ask("this is not C") is None
    assert files(folder) == []


def test_a_compiler_that_fails_is_an_error_where_it_is_demanded(script: Callable[..., Path]) -> None:
    """And no warning."""
    script("echo reason >&2; exit 1")
    choice.use_engine("compiled")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="failed: reason"):
            ask()
    assert library.describe().startswith("none, though use_engine demands a compiled one: ")


def test_unknown_engines_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^name must be 'auto', 'numpy' or 'compiled'; got 'gpu'$"):
        choice.use_engine("gpu")
    monkeypatch.setenv(choice.VARIABLE, "fast")
    for call in (ask, library.is_on, library.describe):
        with pytest.raises(ValueError, match=r"^ARRAYLOSS_ENGINE must be 'auto', 'numpy' or 'compiled'; got 'fast'$"):
            call()


@needs_compiler
def test_use_engine_is_a_call_and_a_block() -> None:
    with choice.use_engine("numpy"):
        assert ask() is None
        assert library.describe() == "numpy: chosen by use_engine"
        with choice.use_engine("compiled"):
            assert ask() is not None
        assert ask() is None
    assert ask() is not None
    choice.use_engine("numpy")
    assert ask() is None
    choice.use_engine("auto")
    assert ask() is not None


@needs_compiler
def test_the_environment_chooses_until_a_call_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "numpy")
    assert ask() is None
    assert library.describe() == "numpy: chosen by ARRAYLOSS_ENGINE"
    with choice.use_engine("compiled"):
        assert ask() is not None
    assert ask() is None


def make_read_only(folder: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root writes to read-only folders; the cases beside this one are real for root too")
    folder.mkdir(parents=True)
    folder.chmod(0o500)


HOMES: dict[str, Callable[[Path], Any]] = {
    "read-only": make_read_only,
    "a file": lambda folder: (folder.parent.mkdir(parents=True), folder.touch()),
    "below a file": lambda folder: folder.parent.parent.touch(),
    "in /proc": lambda folder: folder.parent.parent.symlink_to("/proc/nowhere"),
    "a link": lambda folder: (folder.parent.mkdir(parents=True), (folder.parent / "d").mkdir(), folder.symlink_to(folder.parent / "d")),
    "writable for the group": lambda folder: (folder.mkdir(parents=True), folder.chmod(0o770)),
    "writable for all": lambda folder: (folder.mkdir(parents=True), folder.chmod(0o707)),
}


@needs_compiler
@pytest.mark.parametrize("home", HOMES.values(), ids=HOMES)
def test_a_folder_that_cannot_or_must_not_be_used(home: Callable[[Path], Any], folder: Path) -> None:
    """Silently compiled in a temporary folder."""
    home(folder)
    assert times(ask()) == 42
    assert not folder.is_dir() or files(folder) == []
    assert library.describe().endswith(f"no cache: {folder} is not writable or not safe")


@needs_compiler
def test_a_folder_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real for root; for others the process says that it is someone else."""
    folder.mkdir(parents=True, mode=0o700)
    if os.getuid() == 0:
        os.chown(folder, 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert times(ask()) == 42
    assert files(folder) == []


@needs_compiler
@pytest.mark.parametrize("variable", ["", "relative"])
def test_the_cache_is_in_the_home_and_a_relative_path_is_none(variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert times(ask()) == 42
    assert files(tmp_path / "home" / ".cache" / "arrayloss" / "c") == [".so"]
    assert not (tmp_path / "relative").exists()


@needs_compiler
def test_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert times(ask()) == 42
    assert not (tmp_path / "~").exists()


@needs_compiler
@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_full_disk(step: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, since to mount a small one takes rights: half of what is written is there, then the error comes."""

    def fail(self: Path, content: Any) -> None:
        if step == "write_bytes":
            with open(self, "wb") as file:
                file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, step, fail)
    assert times(ask()) == 42
    assert files(folder) == []


def test_nothing_can_be_written_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "true")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.warns(RuntimeWarning, match="No such file or directory"):
        assert ask() is None


@needs_compiler
def test_two_processes_at_once(folder: Path, starts: Callable[[], int]) -> None:
    assert [output(p) for p in [process(), process()]] == ["42.0"] * 2
    built = starts()
    assert built in (1, 2)
    assert files(folder) == [".so"]
    assert times(ask()) == 42
    assert starts() == built


@needs_compiler
def test_a_later_process_starts_no_compiler(folder: Path, starts: Callable[[], int]) -> None:
    assert [output(process()) for _ in range(2)] == ["42.0"] * 2
    assert starts() == 1


def library_of(folder: Path) -> Path:
    return next(folder.glob("*.so"))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "empty": lambda file: os.truncate(file, 0),
    "foreign": lambda file: file.write_bytes(b"foreign"),
    "one bit": lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\x01"),
    "no library": lambda file: file.unlink(),
    "no digest": lambda file: os.truncate(file, file.stat().st_size - 64),
    "a foreign digest": lambda file: file.write_bytes(file.read_bytes()[:-64] + b"f" * 64),
}


@needs_compiler
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_wrong_file_is_built_again(damage: Callable[[Path], Any], folder: Path, starts: Callable[[], int]) -> None:
    """By a process other than the one that built it: a library that is loaded would not be read again."""
    output(process())
    good = library_of(folder).read_bytes()
    damage(library_of(folder))
    assert times(ask()) == 42
    assert starts() == 2
    assert library_of(folder).read_bytes() == good


@needs_compiler
def test_the_file_of_another_function_is_not_loaded(folder: Path, starts: Callable[[], int]) -> None:
    """Though its digest is right, for another name."""
    output(process())
    three = library_of(folder)
    content = three.read_bytes()
    output(process("run(source.replace('FACTOR 2', 'FACTOR 3'))"))
    other = next(p for p in folder.glob("*.so") if p != three)
    other.write_bytes(content)
    assert times(ask(SOURCE.replace("FACTOR 2", "FACTOR 3"))) == 63


@needs_compiler
@pytest.mark.parametrize("change", ["processor", "compiler", "flags", "header"])
def test_another_processor_compiler_or_header_has_another_file(
    change: str, folder: Path, monkeypatch: pytest.MonkeyPatch, script: Callable[..., Path], forget: Callable[[], None], tmp_path: Path
) -> None:
    path = script(f'exec {GCC} "$@"')
    assert times(ask()) == 42
    forget()
    if change == "processor":
        monkeypatch.setattr(library, "_processor", lambda: "another")
    elif change == "compiler":
        os.utime(path, ns=(1, 1))
    elif change == "flags":
        monkeypatch.setattr(library, "FLAGS", [*library.FLAGS, "-g0"])
    else:
        header = tmp_path / "functions.h"
        header.write_text(library.HEADER.read_text() + "/* newer */\n")
        monkeypatch.setattr(library, "HEADER", header)
    assert times(ask()) == 42
    assert files(folder) == [".so"] * 2


def test_the_processor_has_a_model_or_a_name() -> None:
    text = library._processor()
    assert text
    assert "MHz" not in text
    assert text == library._processor()


@needs_compiler
def test_threads_compile_once(starts: Callable[[], int]) -> None:
    with ThreadPoolExecutor(4) as pool:
        functions = list(pool.map(ask, [SOURCE] * 4))
    assert [times(f) for f in functions] == [42] * 4
    assert len(set(map(id, functions))) == 1
    assert starts() == 1


@needs_compiler
def test_a_forked_process_works_while_a_thread_of_its_parent_compiles() -> None:
    program = """
import os, threading
run(source)
inside, leave = threading.Event(), threading.Event()

def hold():
    with library._state.lock:
        inside.set()
        leave.wait()

thread = threading.Thread(target=hold)
thread.start()
inside.wait()
import signal, warnings
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    signal.alarm(20)
    run(source)
    run(source.replace("FACTOR 2", "FACTOR 3"))
    os._exit(0)
status = os.waitpid(child, 0)[1]
leave.set()
thread.join()
run(source.replace("FACTOR 2", "FACTOR 4"))
assert status == 0
"""
    assert output(process(program)).split() == ["42.0", "42.0", "63.0", "84.0"]
