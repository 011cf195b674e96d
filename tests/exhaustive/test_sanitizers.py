"""Compiled functions under AddressSanitizer and UndefinedBehaviorSanitizer: no access beside an array, no overflow, none misaligned."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exhaustive import sanitized

ROOT = Path(__file__).parents[2]
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"


@pytest.fixture(scope="module", name="environment")
def fixture_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Both sanitizers come into the process with it, as Python is made without them; the compiler runs without them."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not on the path: it compiles with sanitizers")
    libraries = []
    for name in ("libasan.so", "libubsan.so"):
        path = subprocess.run([gcc, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        if not os.path.isabs(path):  # it says the name alone
            pytest.skip(f"gcc has no {name}")
        libraries.append(path)
    return os.environ | {
        "CC": f"env -u LD_PRELOAD {gcc} {FLAGS}",
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # those of Python, which frees not all at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "ARRAYLOSS_ENGINE": "compiled",
        "OMP_NUM_THREADS": "2",
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("sanitized")),
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", sanitized.__name__, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace", check=False)


@pytest.mark.parametrize("fault", sanitized.FAULTS)
def test_faults_are_seen(environment: dict[str, str], fault: str) -> None:
    done = run(environment, fault)
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr or "runtime error" in done.stderr


def test_compiled_functions_have_no_faults(environment: dict[str, str]) -> None:
    done = run(environment)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    assert done.stdout.endswith("nothing found\n")
