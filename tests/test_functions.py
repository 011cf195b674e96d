"""The functions that compiled losses are made of: their errors and their ends on a sample, and that a compiler puts each into vectors."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from arrayloss.engine.c import library

# The largest error of each in ulp; NaN, infinities and the sign of zero have to be right. 0: all results are rounded correctly.
BOUNDS = {
    **{"f_exp": 0.9, "f_exp_negative": 0.9, "f_log": 1.0, "f_log1p": 1.15, "f_log1p_unit": 1.0},
    **{"d_exp": 0.9, "d_exp_negative": 0.9, "d_log": 1.0, "d_log1p": 1.0, "d_log1p_unit": 1.0, "d_expm1": 2.0},
    **{"d_tanh": 2.0, "d_sinh": 2.0, "d_cosh": 2.0, "d_pow": 2.0, "f_pow": 2.0},
    **dict.fromkeys(("f_expm1", "f_tanh", "f_sinh", "f_cosh"), 0.501),
    **{letter + name: 0.0 for name in ("abs", "floor", "ceil", "round", "smaller", "larger") for letter in ("f_", "d_")},
    **{"f_sqrt": 0.0, "d_sqrt": 0.501},  # rounding a square root of more digits is not the same as rounding the root
    **dict.fromkeys(("f_of_half", "f_of_bfloat", "half_of", "bfloat_of"), 0.0),
}
PAIRS = ("pow", "smaller", "larger")
PROGRAM = Path(__file__).with_name("exhaustive") / "functions.c"
FLAGS = [flag for flag in library.FLAGS if flag not in ("-shared", "-fPIC", "-nostdlib")]


def compiled(source: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Compile with the flags of losses, less those for speed that the compiler does not know; skip where there is no compiler."""
    words = shlex.split(os.environ.get("CC", "")) or [path for path in map(shutil.which, ("gcc", "clang", "cc")) if path][:1]
    if not words:
        pytest.skip("there is no C compiler (gcc, clang or cc)")
    for speed in (library.SPEED, ["-march=native"]):
        command = [*words, *FLAGS, *speed, str(source), "-o", str(output), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    return done


@pytest.fixture(scope="session", name="errors")
def fixture_errors(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, Iterable[str]], None]:
    """Called with a step and names: checks these functions at every step-th point."""
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("long double has no more digits here than double has")
    program = tmp_path_factory.mktemp("functions") / "functions"
    build = compiled(PROGRAM, program, "-lm", "-lpthread")
    assert build.returncode == 0, build.stderr

    def check(step: int, names: Iterable[str]) -> None:
        bounds = [word for name in names for word in (name, str(BOUNDS[name]))]
        done = subprocess.run([program, str(step), *bounds], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("; bound") == len(bounds) // 2

    return check


def test_sample(errors: Callable[[int, Iterable[str]], None]) -> None:
    errors(4099, BOUNDS)


def test_all_are_checked() -> None:
    """All that return a number and are not a step of another."""
    header = re.sub(r"\bf##_", "f_", library.HEADER.read_text())
    found = {*re.findall(r"INLINE (?:type|float|double|uint16_t) (\w+)\(", header)}
    steps = r"[fd]_(of|number)|\w+_(reduced|tail|sum|scaled|quarter|series|ends)"
    assert {name for name in found if not re.fullmatch(steps, name)} <= {*BOUNDS}


def test_vectors(tmp_path: Path) -> None:
    """gcc puts each into vectors, as well if the second argument is the same for all."""
    lines = [f'#include "{library.HEADER}"']
    for name in BOUNDS:
        a, y = ("double",) * 2 if name.startswith("d_") else ("uint16_t", "float") if "_of_" in name else ("float", "float")
        y = "uint16_t" if name.endswith("_of") else y
        for second in (", b[i]", ", *b", ", 1.5f") if name[2:] in PAIRS else ("",):
            loop = f'_Pragma("omp simd") for (int32_t i = 0; i < n; i++) y[i] = {name}(a[i]{second});'
            lines.append(f"void l{len(lines)}(int n, const {a} *restrict a, const {a} *restrict b, {y} *restrict y) {{ (void)b; {loop} }}")
    source = tmp_path / "loops.c"
    source.write_text("\n".join(lines) + "\n")
    done = compiled(source, tmp_path / "loops.o", "-c", "-fopt-info-vec-optimized", "-fno-ipa-icf", "-Wall", "-Wextra", "-Werror")
    if "opt-info" in done.stderr:
        pytest.skip("the compiler is not gcc: it does not say what it puts into vectors")
    assert done.returncode == 0, done.stderr
    vectors = {int(line) for line in re.findall(r"loops\.c:(\d+):\d+: optimized: .*loop vectorized", done.stderr)}
    assert [lines[i - 1] for i in range(2, len(lines) + 1) if i not in vectors] == []
