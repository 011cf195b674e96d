"""Rows of two logits, m and -m, with the label on either side: every width, past each switch of the native forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arrayloss import softmax_cross_entropy

pytestmark = pytest.mark.exhaustive

MARGINS = np.arange(0, 400, 0.25)
ROWS = np.stack([MARGINS, -MARGINS], axis=-1).astype(np.float32)


@pytest.mark.parametrize("step", [1, 7, 1600])
@pytest.mark.parametrize("label", [0, 1])
def test_every_width_of_a_row_has_its_loss(xp: Any, label: int, step: int) -> None:
    """Of exponentials from which no maximum was taken the quotient overflowed, though none of them did."""
    exact = np.logaddexp(0.0, -2 * MARGINS if label == 0 else 2 * MARGINS)
    parts = [ROWS[i : i + step] for i in range(0, len(ROWS), step)][:: 1 if step > 1 else 37]
    shown = np.concatenate([exact[i : i + step] for i in range(0, len(ROWS), step)][:: 1 if step > 1 else 37])
    losses = [xp.numpy(softmax_cross_entropy(xp.array(x), xp.array(np.full(len(x), label)), reduction="none")) for x in parts]
    normal = shown > 1e-37
    np.testing.assert_allclose(np.concatenate(losses)[normal], shown[normal], rtol=1e-6)
