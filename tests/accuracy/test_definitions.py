"""The exact answers: derivatives by rules are those by differences, and overlaps are their textbook's."""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from arrayloss.check.definitions import DEFINITIONS
from arrayloss.check.overlaps import dice_loss, generalized_dice_loss, jaccard_loss, tversky_loss
from arrayloss.check.points import batches

ROWS = [pytest.param(d, id=f"{loss}-{d.given}") for loss, definitions in DEFINITIONS.items() for d in definitions]


@pytest.mark.parametrize("definition", ROWS)
def test_derivatives_are_those_of_differences(definition):
    """At points where all of them are smooth; terms are not smaller than the sums that they make."""
    for kind in definition.targets:
        for options in definition.options:
            (problem,) = batches(definition.predictions, kind, "random", np.random.default_rng(3), options)
            if definition.given == "log_probs" and definition.whole:
                continue  # its derivatives are those along distributions
            if definition.regions:
                problem = replace(problem, predictions=(problem.predictions[0][:1, :, :1, :2],), targets=problem.targets[:1, :, :1, :2])
            else:
                problem = problem.take(slice(0, 2))
            rules, differences = definition.exact(problem), replace(definition, jets=False).exact(problem)
            for quantity, several in rules.items():
                for a, b in zip(several, differences[quantity], strict=True):
                    np.testing.assert_allclose(a.high + a.low, b.high + b.low, rtol=1e-14, atol=1e-25)
                    assert (a.terms >= np.abs(a.high) * (1 - 1e-15)).all()


def test_overlaps_are_their_textbooks():
    """1 - (2 I + smooth) / (P + T + smooth) and so on: definitions have a form whose terms do not cancel."""
    rng = np.random.default_rng(0)
    with mpmath.workdps(60):
        p, t = ([mpf(v) for v in rng.uniform(size=5)] for _ in range(2))
        p, t, one = np.array(p), np.array(t), mpf(1)
        shared, both, squares, s = (p * t).sum(), p.sum() + t.sum(), (p * p).sum() + (t * t).sum(), mpf(0.5)
        fp, fn = (p * (1 - t)).sum(), ((1 - p) * t).sum()
        for loss, quotient, options in (
            (dice_loss, (2 * shared + s) / (both + s), {}),
            (dice_loss, (2 * shared + s) / (squares + s), {"squared": True}),
            (jaccard_loss, (shared + s) / (both - shared + s), {}),
            (jaccard_loss, (shared + s) / (squares - shared + s), {"squared": True}),
            (tversky_loss, (shared + s) / (shared + fp / 4 + 3 * fn / 2 + s), {"alpha": 0.25, "beta": 1.5}),
        ):
            assert abs(loss(p, 1 - p, t, smooth=0.5, **options) - (1 - quotient)) < mpf(10) ** -55
        p, t = np.stack([p, p / 2]), np.stack([t, t / 3])
        volumes = t.sum(axis=1)
        scale = (volumes.min() / volumes) ** 2
        quotient = (2 * (scale * (p * t).sum(axis=1)).sum() + s) / ((scale * (p.sum(axis=1) + volumes)).sum() + s)
        assert abs(generalized_dice_loss(p, 1 - p, t, [one, one], smooth=0.5) - (1 - quotient)) < mpf(10) ** -55


def test_a_divergence_is_that_of_its_probabilities():
    definition = DEFINITIONS["kl_divergence"][0]
    with mpmath.workdps(60):
        x, t = [mpf(1), mpf(-2), mpf(0.5)], [mpf(0), mpf(3), mpf(-1)]
        q, p = ([mpmath.exp(v) / sum(map(mpmath.exp, row)) for v in row] for row in (x, t))
        assert abs(definition.value(x, t) - sum(a * mpmath.log(a / b) for a, b in zip(p, q, strict=True))) < mpf(10) ** -55
