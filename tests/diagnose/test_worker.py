"""What a function of the user's own does to its process is a finding, never an accident of the check."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from arrayloss.diagnose import worker
from arrayloss.diagnose.works import Job

MODULE = """
import ctypes, os, subprocess, sys
import numpy as np

def right(x, t):
    return (x - t) ** 2

def prints(x, t):
    print("hello")
    os.write(1, b"from the operating system\\n")
    ctypes.CDLL(None).printf(b"from C\\n")
    print("to the errors", file=sys.stderr)
    return right(x, t)

def exits(x, t):
    sys.exit(0)

def leaves(x, t):
    os._exit(0)

def leaves_in_c(x, t):
    ctypes.CDLL(None)._exit(3)

def hangs(x, t):
    while True:
        pass

def sleeps_in_c(x, t):
    ctypes.PyDLL(None).sleep(100)  # with the lock of the interpreter

def dies(x, t):
    return ctypes.string_at(0)

def is_killed(x, t):
    subprocess.Popen(["sleep", "98765"])
    os.kill(os.getpid(), 9)

def raises(x, t):
    raise RuntimeError("out of luck")

def floods(x, t):
    while True:
        print("x" * 1000)

def asks(x, t):
    input("continue? ")
"""
LIMIT_S = 2.0
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and the C library of POSIX")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A user's project."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "ports.py").write_text(MODULE)
    (folder / "exits_on_import.py").write_text("import sys\nsys.exit(0)\n")
    (folder / "leaves_on_import.py").write_text("import os\n\nos._exit(0)\n")
    (folder / "broken.py").write_text("\n\ndef right(:\n")
    return folder


SUBJECTS = [f"ports:{name}" for name in MODULE.replace("(", " ").split() if f"def {name}(" in MODULE]
SUBJECTS += ["exits_on_import:right", "leaves_on_import:right", "broken:right", "ports:rihgt", "nowhere:right"]


@pytest.fixture(scope="module")
def processes():
    """The processes of this file's first fixture."""
    return []


def is_running(pid):
    """Whether there is such a process, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def outcomes(project, processes):
    """Every function compared with the squared error, in processes that end before the next test."""

    class Process(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            processes.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setattr(worker.subprocess, "Popen", Process)
        patch.setattr(worker, "MOST_BYTES", 2**20)
        jobs = [Job(s, "numpy", "diagnose", {"reference": "squared_error"}) for s in SUBJECTS]
        return dict(zip(SUBJECTS, worker.run_all(jobs, LIMIT_S), strict=True))


def line_of(text):
    return MODULE.splitlines().index(next(line for line in MODULE.splitlines() if text in line)) + 1


@POSIX
@pytest.mark.parametrize(
    ("name", "code", "said", "marked"),
    [
        ("exits", "exits", "it ends the process, sys.exit(0)", "sys.exit(0)"),
        ("leaves", "exits", "It ends the process, os._exit(0)", "os._exit(0)"),
        ("leaves_in_c", "exits", "It ends the process with status 3", ""),
        ("hangs", "hangs", "Nothing came back for 2 s", "while True"),
        ("sleeps_in_c", "hangs", "Nothing came back for 2 s", "sleep(100)"),
        ("dies", "dies", "Its process dies of SIGSEGV", "string_at(0)"),
        ("is_killed", "dies", "Its process dies of SIGKILL", ""),
        ("raises", "raises", "RuntimeError: out of luck", ""),
        ("floods", "hangs", "It prints without end", ""),
        ("asks", "raises", "EOFError", ""),
    ],
)
def test_failures_of_a_call(outcomes, project, name, code, said, marked):
    outcome = outcomes[f"ports:{name}"]
    (reason,) = outcome.result.reasons
    assert (outcome.result.verdict, outcome.result.name, outcome.result.library) == ("not_compared", name, "numpy")
    assert reason.code == code
    assert said in reason.text
    if marked:
        line = line_of(marked)
        assert f"ports.py, line {line}" in reason.text or f"ports.py, line {line + 1}" in reason.text


@pytest.mark.parametrize(
    ("subject", "code", "said"),
    [
        ("exits_on_import:right", "exits", "module exits_on_import cannot be imported: it ends the process, sys.exit(0) ({file}, line 2)"),
        ("leaves_on_import:right", "exits", "It ends the process, os._exit(0) ({file}, line 3)"),
        ("broken:right", "import_error", "SyntaxError: invalid syntax ({file}, line 3)"),
        ("ports:rihgt", "import_error", "module ports has no 'rihgt' ({file}); did you mean 'right'?"),
        ("nowhere:right", "import_error", "No module named 'nowhere'"),
    ],
)
def test_failures_of_an_import(outcomes, project, subject, code, said):
    outcome = outcomes[subject]
    (reason,) = outcome.result.reasons
    assert (outcome.result.verdict, outcome.failed, reason.code) == ("not_compared", True, code)
    assert said.format(file=f"{subject.partition(':')[0]}.py") in reason.text


def test_a_right_one(outcomes, project):
    outcome = outcomes["ports:right"]
    assert (outcome.result.verdict, outcome.result.reasons, outcome.failed) == ("same", [], False)
    assert (outcome.file, outcome.line) == (str(project / "ports.py"), line_of("def right"))


def test_prints_are_kept_apart(outcomes, capfd):
    outcome = outcomes["ports:prints"]
    assert outcome.result.verdict == "same"
    for text in ("hello", "from the operating system", *(["from C"] if os.name == "posix" else [])):
        assert text in outcome.printed
    assert any("It printed" in note and "'hello'" in note for note in outcome.result.notes)
    assert capfd.readouterr() == ("", "")


@POSIX
def test_nothing_is_left_behind(outcomes, processes):
    """Neither processes of ours, nor zombies, nor what they have started."""
    assert len(processes) == len(SUBJECTS)
    assert all(p.returncode is not None for p in processes)
    listed = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if is_running(int(p.parent.name))]
    assert b"sleep\x0098765\x00" not in listed


def test_the_library_is_found_out(project, monkeypatch):
    monkeypatch.chdir(project)
    outcome = worker.run("ports.py:right", None, "diagnose", 20.0, reference="squared_error")
    assert (outcome.result.verdict, outcome.result.library) == ("same", "numpy")


@POSIX
def test_ctrl_c_ends_all_of_it_and_says_what_is_known(project):
    program = """
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs tests in the background has it ignored
        from arrayloss.diagnose.worker import run_all
        from arrayloss.diagnose.works import Job
        jobs = [Job(f"ports:{name}", "numpy", "diagnose", {"reference": "squared_error"}) for name in ("hangs", "hangs", "hangs")]
        for outcome in run_all(jobs, 300.0, lambda line: print(line, flush=True)):
            print(outcome.stopped, outcome.result.verdict, outcome.result.notes)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    root = str(Path(worker.__file__).parents[2])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=project, env={**os.environ, "PYTHONPATH": root})
    assert process.stdout is not None
    while "call hangs" not in process.stdout.readline():
        assert process.poll() is None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    some = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    process.send_signal(signal.SIGINT)
    try:
        said = process.communicate(timeout=20)[0].splitlines()
    finally:
        process.kill()
    assert process.returncode == 0
    assert [line.split()[:2] for line in said if "not_compared" in line] == [["True", "not_compared"]] * 3
    assert any("Stopped at the step" in line for line in said)
    assert not any(map(is_running, some))


@POSIX
def test_processes_end_with_their_parent(project):
    program = "from arrayloss.diagnose.worker import run; run('ports:hangs', 'numpy', 'diagnose', 300.0, print, reference='squared_error')"
    root = str(Path(worker.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True, cwd=project, env={**os.environ, "PYTHONPATH": root}
    )
    assert process.stdout is not None
    while "call hangs" not in process.stdout.readline():
        assert process.poll() is None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    some = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    process.kill()
    process.communicate()
    until = time.monotonic() + 20
    while any(map(is_running, some)):
        assert time.monotonic() < until
        time.sleep(0.05)
