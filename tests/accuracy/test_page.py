"""The page of promises, the table, and what others reach."""

from __future__ import annotations

import pytest

from arrayloss.check.accuracy import table as table_of_check
from arrayloss.check.definitions import DEFINITIONS

from .__main__ import table, text
from .page import PAGE, printed
from .peers import PEERS


def test_the_page_states_what_the_tests_assert():
    """If this fails: python -m tests.accuracy --page"""
    assert PAGE.read_text(encoding="utf-8") == printed()


def test_every_figure_beyond_those_of_a_plain_loss_has_its_reason():
    promises = [p for definitions in DEFINITIONS.values() for d in definitions for p in (d.hard, d.soft) if p is not None]
    for bound in [b for promise in promises for b in promise if b is not None]:
        assert bound.reason or not (bound.extra or bound.spread or bound.of_terms or bound.per_gamma)


def test_the_table_shows_ours_beside_theirs():
    pytest.importorskip("torch")
    rows = list(table(["sigmoid_cross_entropy"], ["float32"], ["numpy", "torch"]))
    ours = [r for r in rows if r.backend == "torch" and r.quantity == "value" and r.targets == "hard"]
    theirs = [r for r in rows if r.backend == "torch's" and r.quantity == "value"]
    assert [r.holds for r in ours] == [True]
    assert ours[0].max_ulp <= 4
    assert theirs[0].max_ulp > 1e6
    assert theirs[0].lost > 0
    page = "\n".join(text(rows))
    assert "0x1." in page
    assert "BROKEN" not in page


@pytest.mark.parametrize("losses", [["huber_loss"], pytest.param(list(DEFINITIONS), marks=pytest.mark.exhaustive)], ids=["one", "all"])
def test_promises_are_kept_at_the_points_of_check(losses):
    rows = list(table_of_check(losses, backends=("numpy",)))
    assert {r.loss for r in rows} == set(losses)
    assert not [r for r in rows if not r.holds]


def test_peers_are_named_after_losses_that_exist():
    assert {p.loss for p in PEERS} <= set(DEFINITIONS)
