"""The sums of regions, by which constants are searched for, give the numbers of the losses."""

from __future__ import annotations

import numpy as np
import pytest

from arrayloss.diagnose.candidates import candidates
from arrayloss.diagnose.layouts import batches, layouts
from arrayloss.diagnose.observe import Observation
from arrayloss.diagnose.regions import RATIOS


@pytest.mark.parametrize("loss", RATIOS)
@pytest.mark.parametrize("lead", [0, 1])
def test_sums_give_the_numbers_of_the_loss(loss: str, lead: int) -> None:
    compared = 0
    for candidate in candidates(loss):
        constants = {n: v * f for (n, v), f in zip(candidate.constants.items(), (0.3, 0.7, 1.3, 1.1), strict=False)}
        for layout in layouts(candidate.scene):
            axis = candidate.options.get("axis")
            if layout.targets != "masks" or layout.targets_at != -1 or (axis is not None and layout.form != "masks"):
                continue
            if lead and (candidate.options["pool"] != "samples" or layout.form == "mask of N"):
                continue
            several = batches(layout, 3)
            o = Observation(layout, several, [np.zeros(b.shape[0] if lead else ()) for b in several])
            each = {"reduction": "none"} if lead else {}
            expected = candidate.elements(o.predictions, o.targets, **constants, **each)
            np.testing.assert_allclose(candidate.losses(o, constants), expected, rtol=1e-12)
            compared += 1
    assert compared > 10
