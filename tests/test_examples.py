"""The programs in examples/ do what they say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_loss_curves_of_three_libraries_coincide(capsys):
    program = runpy.run_path(str(EXAMPLES / "digits.py"))
    curves = {name: np.asarray(curve) for name, curve in program["curves"]().items()}
    assert list(curves) == ["NumPy", "PyTorch", "JAX"]
    assert curves["NumPy"][-1] < 0.1 * curves["NumPy"][0]  # it learns
    for name in ("PyTorch", "JAX"):
        # float32 sums in another order, carried through 30 steps: a few dozen roundings of 6e-8
        np.testing.assert_allclose(curves[name], curves["NumPy"], rtol=1e-5, err_msg=name)
    program["main"]()
    printed = capsys.readouterr().out
    assert len(re.findall(r"^ *\d+  ( +\d\.\d{7}){3}$", printed, flags=re.MULTILINE)) == 10
