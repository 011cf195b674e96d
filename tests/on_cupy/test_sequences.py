"""Alignments on the double: array calls, with NumPy's numbers, nothing copied to the host, nothing written past an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayloss as al

from ..helpers import assert_same
from ..test_ctc import FRAMES, LENGTHS, LOGITS, TARGETS
from .on_double import CUPY, measured


@pytest.mark.parametrize(
    "targets", [TARGETS, np.concatenate([t[:n] for t, n in zip(TARGETS, LENGTHS, strict=True)])], ids=["padded", "flat"]
)
@pytest.mark.parametrize("given", ["log_probs", "logits"])
def test_value_and_gradient(given: Any, targets: Any) -> None:
    arrays, options = (LOGITS, targets, FRAMES, LENGTHS), {"given": given, "zero_infinity": True}
    expected, slopes = al.ctc_loss.value_and_grad(*arrays, **options)
    (value, gradient), _ = measured(al.ctc_loss.value_and_grad, *map(CUPY.array, arrays), **options)
    assert_same(value.get(), expected)
    assert_same(gradient.get(), slopes)
