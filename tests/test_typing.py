"""Type checkers see the options of every loss: a small program of a user, checked by mypy and by pyright."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

import arrayloss as al

PROGRAM = """
from typing import Any

import arrayloss as al

x: Any = None
t: Any = None

al.huber_loss(x, t, delta=0.5, reduction="sum")
al.cross_entropy(x, t, class_weights=(1.0, 2.0), label_smoothing=0.1, ignore_index=(-100, 255), axis=1)
al.sigmoid_focal_loss(x, t, alpha=0.25, normalizer="positives", weights=2.0, where=x > 0)
al.dice_loss(x, t, activation="softmax", axis=1, classes=(1, 2), absent="skip")
al.gaussian_nll_loss(x, x, t)
value, gradient = al.kl_divergence.value_and_grad(x, t)
slopes, curvatures = al.softmax_cross_entropy.grad_and_hess(x, t)
parts = [al.cross_entropy.parts(x, t, weights=x), al.cross_entropy.parts(x, t)]
al.cross_entropy.finish(sum(parts))
al.cross_entropy.finish(parts[0] + parts[1], normalizer="count")
al.dice_loss.bind(activation="softmax", axis=1)(x, t)
both = 0.5 * al.dice_loss.bind(activation="softmax", axis=1) + al.cross_entropy - al.squared_error / 2
total, terms = both.components(x, t)
number: float | None = al.huber_loss.properties.lipschitz

al.huber_loss(x, t, reduction="avg")  # error: reduction
al.huber_loss(x, t, wieghts=1.0)  # error: wieghts
al.huber_loss(x)  # error: targets
al.huber_loss.value_and_grad(x, t, gamma=2.0)  # error: gamma
al.cross_entropy.parts(x, t, reduction="avg")  # error: reduction
al.dice_loss(x, t)  # error: activation
al.dice_loss(x, t, activation="relu")  # error: activation
al.cross_entropy.grad_and_hess(x, t, axis="last")  # error: axis
"""
LINES = PROGRAM.split("\n")
EXPECTED = {i + 1: line.rpartition("# error: ")[2] for i, line in enumerate(LINES) if "# error: " in line}


def check(command: list[str], folder: Path, pattern: str) -> None:
    """Errors in the lines that are to have some, each of them about the word that the line names, and in no other line."""
    (folder / "program.py").write_text(PROGRAM)
    done = subprocess.run([sys.executable, "-m", *command, "program.py"], cwd=folder, capture_output=True, text=True, check=False)
    found: dict[int, str] = {}
    for line, text in re.findall(pattern, done.stdout):
        found[int(line)] = found.get(int(line), "") + text
    assert {line: LINES[line - 1] for line in found} == {line: LINES[line - 1] for line in EXPECTED}, done.stdout + done.stderr
    for line, word in EXPECTED.items():
        assert word in found[line]


def test_mypy(tmp_path: Path) -> None:
    """In its strict mode. Array libraries have no types in the program: reading theirs takes twenty seconds."""
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n[mypy-numpy.*,torch.*,jax.*,dask.*,cupy.*,array_api_compat.*]\nfollow_imports = skip\n"
    )
    check(["mypy", f"--cache-dir={tmp_path}"], tmp_path, r"program\.py:(\d+): error: (.*)")


def test_pyright(tmp_path: Path) -> None:
    """PyPI's `pyright` fetches the program itself when it first runs."""
    if util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    probe = subprocess.run([sys.executable, "-m", "pyright", "--version"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"pyright's program is not on this machine and cannot be fetched: {probe.stderr.strip()[-200:]}")
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "reportUnknownMemberType": false}')
    check(["pyright", "--pythonpath", sys.executable], tmp_path, r"program\.py:(\d+):\d+ - error: (.*(?:\n {4}.*)*)")


def test_what_checkers_cannot_see_in_bind_is_an_error_when_it_is_called() -> None:
    """A ParamSpec cannot lose a parameter: `bind` takes any option as far as they know."""
    for options, error in (({"reduction": "avg"}, ValueError), ({"wieghts": 1.0}, TypeError), ({"activation": "relu"}, TypeError)):
        with pytest.raises(error, match=next(iter(options))):
            al.huber_loss.bind(**options)
