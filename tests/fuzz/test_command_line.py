"""Random command lines: no traceback of our own, no exit status 0 without a comparison, no end that does not come."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import strategies as st

from .budget import fuzz
from .cases import one_in
from .oracle import BINARY, ELEMENTWISE, OVERLAPS, ROWS

pytestmark = pytest.mark.exhaustive
ROOT = Path(__file__).parents[2]
BOUND = 300  # seconds for one command, on busy cores too
FILES = {"ends.py": "import sys\nsys.exit(0)\n", "fails.py": "raise RuntimeError('no [licence] here')\n"}  # where commands run
LOSSES = ("cross_entropy", *BINARY, *ELEMENTWISE, *ROWS, *OVERLAPS)
RIGHT = ("right", "an_object", "prints")
WRONG = ("doubled", "raises", "raises_nothing_to_say", "exits", "exits_with_text", "none", "text", "nan", "shapeless", "column", "wide")
WRONG += ("complex_number", "boolean", "one_argument", "recursive", "a_number", "no_such_function", "")
MODULES = ("ends:f", "fails:f", "no.such.module:f", "tests/fuzz/ports.py:right", ":", "a:b:c", "os:")
VALUES = {
    "--backends": ["numpy", "numpy,strict", "numpy,numpy", "dask", "cupy", "tensorflow", ",", "", "torch"],
    "--dtype": ["float32", "float64", "float16", "bfloat16", "float32,float64", "int32", "f4", ",", ""],
    "--modes": ["eager", "compiled", "both", ",", "", "eager,eager"],
    "--quantities": ["value", "grad", "hess", "value,grad,hess", "hess,", "loss", ""],
    "--signature": ["input,target", "y_true,y_pred", "x", "", ",", "target,target", "input,target,mask"],
    "--reduction": ["mean", "sum", "none", "avg"],
    "--domain": ["real", "logits", "probs", "masks", "nowhere", "", "positive,positive"],
    "--targets": ["binary", "unit", "labels", "real", "distribution", "logits", "none", ""],
    "--target-dtype": ["int64", "float", "uint8", "string", "", "nonsense"],
    "--points": ["edges", "grid", "random", "digits", "edges+random", "", "+", "corners"],
    "--seed": ["0", "7", "-1", "1.5", "99999999999999999999999", ""],
    "--max-ulp": ["0", "8", "1e9", "inf", "nan", "-1", "", "eight"],
    "--relative-to": ["number", "batch", "nothing"],
    "-o": [
        "gamma=1",
        "gamma=-1",
        "gamma=[0,2]",
        "reduction=none",
        "axis=1",
        "axis=-1",
        "label_smoothing=.1",
        "bogus=1",
        "=",
        "a",
        "gamma=",
        "x y=1",
    ],
    "--report": ["a.md", "a.html", "a.txt", "missing/a.md", ".", ""],
    "--against": ["tests.fuzz.ports:right", "numpy=tests.fuzz.ports:raises", "strict=tests.fuzz.ports:right", "a", "="],
    "--reference": [
        "squared_error",
        "huber_loss",
        "mpmath",
        "float64:numpy",
        "float64:",
        "float64:x",
        "tests.fuzz.ports:right",
        "nothing",
        "",
    ],
    "--arguments": ["tests.fuzz.ports:a_number", "nothing", ""],
}


def some_options(draw: Any, names: Any, at_most: int) -> list[str]:
    chosen = draw(st.lists(st.sampled_from(sorted(names)), unique=True, max_size=at_most))
    return [word for name in chosen for word in (name, draw(st.sampled_from(VALUES[name])))]


@st.composite
def commands(draw: Any) -> list[str]:
    if draw(one_in(12)):
        words = st.sampled_from(
            ["list", "info", "plot", "chek", "--version", "-h", "", "check", "--json", "-v", "squared_error", "nothing", "-o", "a.png"]
        )
        line: list[str] = draw(st.lists(words, max_size=5))
        return line if line[:1] != ["check"] or len(line) > 1 else ["list"]  # all losses take minutes
    line = ["check"]
    if draw(st.booleans()):
        line.append(draw(st.sampled_from([*LOSSES, "nothing", *MODULES])))
        line += some_options(draw, VALUES, 3)
    else:
        ports = draw(st.lists(st.sampled_from(RIGHT + WRONG), min_size=1, max_size=2))
        backends = draw(st.sampled_from([["numpy", "strict"], ["numpy", "dask"], ["", ""], ["numpy", "numpy"]]))
        line += [(f"{b}=" if b else "") + f"tests.fuzz.ports:{p}" for b, p in zip(backends, ports, strict=False)]
        line += ["--reference", "squared_error", "--signature", "input,target", "--reduction", "none"]
        line += some_options(draw, set(VALUES) - {"--reference", "--signature", "--reduction", "--against"}, 2)
    if "--backends" not in line and not any("=tests" in word for word in line):
        line += ["--backends", "numpy"]
    if "--points" not in line:
        line += ["--points", "random"]
    flags = ("--json", "-v", "--accuracy") if line[1] in ELEMENTWISE else ("--json", "-v")  # sweeps of others take a minute
    return line + [flag for flag in flags if draw(one_in(6))]


def run(line: list[str], bound: float = BOUND) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    with TemporaryDirectory() as folder:
        for name, text in FILES.items():
            Path(folder, name).write_text(text)
        command = [sys.executable, "-W", "ignore", "-m", "arrayloss", *line]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=bound, stdin=subprocess.DEVNULL)


def check(line: list[str]) -> None:
    done = run(line)
    said = f"exit status {done.returncode} of: arrayloss {' '.join(map(repr, line))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert done.returncode in (0, 1, 2), said
    assert "Traceback" not in done.stdout + done.stderr, said
    assert done.returncode == 0 or done.stdout.strip() or done.stderr.strip(), said
    if line[:1] != ["check"] or {"-h", "--help"} & set(line):
        return
    is_data = "--json" in line and "--accuracy" not in line and not any("prints" in word for word in line)
    rows = json.loads(done.stdout)["rows"] if is_data and done.returncode < 2 else []
    if done.returncode == 0:
        assert any(r["status"] == "agrees" for r in rows) if is_data else "agree" in done.stdout or "Accuracy" in done.stdout, said
        is_strict = not {"--max-ulp", "--accuracy", "--relative-to"} & set(line)
        ported = [word.rpartition(":")[2] for word in line if "tests.fuzz.ports:" in word and "squared_error" in line]
        assert not (is_strict and set(ported) & set(WRONG)), said
    else:
        assert "They agree." not in done.stdout, said


def test_commands():
    fuzz(0.3, 20, commands(), check)
