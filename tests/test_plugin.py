"""The pytest plugin, in runs of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from arrayloss.check.libraries import LIBRARIES

ROOT = Path(__file__).parents[1]
SUITE = """
import arrayloss
from arrayloss.pytest_plugin import assert_losses_agree as agree


def test_on_every_library(loss_backend):
    x = loss_backend.array([1.0, 3.0], "float32")
    assert loss_backend.numpy(arrayloss.squared_error(x, 0 * x)) == 5.0


def test_of_ours(assert_losses_agree):
    assert_losses_agree("squared_error", modes=["eager"], points="random")


def test_imported():
    assert agree("huber_loss", backends=["numpy"], modes=["eager"]).passed
"""
WRONG = """
def double(x, t):
    return 2 * (x - t) ** 2


def test_wrong(assert_losses_agree):
    assert_losses_agree(
        {"numpy": double}, reference="squared_error", signature="input,target", reduction="none", modes=["eager"], quantities=["value"]
    )
"""

OWN = """
import numpy as np
import pytest
from arrayloss.pytest_plugin import assert_losses_agree as agree


def squared(y_true, y_pred):
    return np.mean((y_true - y_pred) ** 2)


def added(y_true, y_pred):
    return np.sum((y_true - y_pred) ** 2)


def confident(logits, targets):
    z = (1 - 2 * targets) * logits
    return np.maximum(z, 0) + np.log(1 + np.exp(-np.abs(z)))


def test_same(assert_losses_agree):
    (found,) = assert_losses_agree(squared, reference="squared_error")
    assert (found.verdict, found.library) == ("same", "numpy")


def test_different(assert_losses_agree):
    assert_losses_agree({"numpy": squared, "strict": added}, reference="squared_error")


def test_declared():
    with pytest.raises(AssertionError, match="It adds up"):
        agree({"numpy": added}, reference="squared_error", reduction="mean")
    agree({"numpy": added}, reference="squared_error", reduction="sum")


def test_digits(assert_losses_agree):
    assert_losses_agree({"numpy": confident}, reference="sigmoid_cross_entropy")


def test_strict():
    with pytest.raises(AssertionError, match="digits_lost"):
        agree({"numpy": confident}, reference="sigmoid_cross_entropy", strict=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reference": "squared_error", "max_ulp": 4}, "max_ulp is for a check of numbers"),
        ({"delta": 2.0}, "delta belongs to a reference"),
        ({"reference": "huber_loss", "dleta": 2.0}, "did you mean delta"),
        ({"reference": "squared_eror"}, "there is no loss 'squared_eror'"),
        ({"reference": "squared_error", "signature": "t,x", "reduction": "mean", "strict": True}, "strict is for functions"),
    ],
)
def test_what_does_not_go_together(options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        agree({"numpy": squared}, **options)
"""


def run(folder: Path, suite: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_suite.py").write_text(suite)
    command = [sys.executable, "-m", "pytest", "-p", "arrayloss.pytest_plugin", "-p", "no:cacheprovider", "-rs", "-v", *arguments]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "250"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env, check=False)


def test_every_library_in_turn_and_a_summary(tmp_path):
    done = run(tmp_path, SUITE)
    assert done.returncode == 0, done.stdout
    for name, library in LIBRARIES.items():
        reason = library.missing()
        line = next(line for line in done.stdout.splitlines() if f"test_on_every_library[{name}]" in line)
        assert ("SKIPPED" if reason else "PASSED") in line
        if reason:
            assert f"{name}: {reason}" in done.stdout
    assert "arrayloss: worst rows" in done.stdout
    assert "squared_error:" in done.stdout


def test_libraries_by_name(tmp_path):
    done = run(tmp_path, SUITE, "--arrayloss-backends", "numpy,strict")
    assert done.returncode == 0, done.stdout
    assert "test_on_every_library[strict]" in done.stdout
    assert "torch" not in done.stdout


@pytest.mark.parametrize(("names", "said"), [("foo", "there is no backend 'foo'"), ("numpy,foo", "there are numpy, torch")])
def test_a_library_that_does_not_exist_is_an_error(tmp_path, names, said):
    done = run(tmp_path, SUITE, "--arrayloss-backends", names)
    assert done.returncode == 4
    assert said in done.stdout + done.stderr


def test_a_failure_names_the_worst_input(tmp_path):
    done = run(tmp_path, WRONG)
    assert done.returncode == 1
    assert "DisagreementError: double: 1 differs" in done.stdout
    assert "ulp at 0x" in done.stdout or "ulp at -0x" in done.stdout
    assert "1 comparisons in 1 checks" in done.stdout


def test_functions_of_the_users_own_are_diagnosed(tmp_path):
    """Nothing is declared; the reasons are those of the command, also with warnings as errors."""
    done = run(tmp_path, OWN, "-W", "error")
    assert re.findall(r"^test_suite.py::(\S+) .*FAILED", done.stdout, re.MULTILINE) == ["test_different"], done.stdout
    assert "DisagreementError: strict: added is not squared_error." in done.stdout
    assert "It adds up the elements, where the loss takes their mean. [sum_for_mean]" in done.stdout
    summary = done.stdout.partition("arrayloss: functions")[2]
    assert "numpy: squared is the same loss as squared_error." in summary
    assert "strict: added is not squared_error. [sum_for_mean]" in summary
    assert "confident is the same loss as sigmoid_cross_entropy, but for digits. [digits_lost]" in summary


def test_the_plugin_imports_nothing_heavy():
    program = "import sys, arrayloss.pytest_plugin; print(sorted({'numpy', 'torch', 'jax', 'mpmath', 'rich', 'click'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
