"""The page of promises, the table, and what others reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from arrayloss.consistency.accuracy import lines, table
from arrayloss.consistency.bounds import PROMISES, promised
from arrayloss.consistency.peers import PEERS

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"


def test_the_page_states_what_the_tests_assert():
    """If this fails: python -c "from arrayloss.consistency.bounds import promised; print(promised(), end='')" > docs/accuracy.md"""
    assert PAGE.read_text() == promised()


def test_every_figure_beyond_those_of_a_plain_loss_has_its_reason():
    for bounds in PROMISES.values():
        for bound in bounds:
            if bound is not None and (bound.extra or bound.spread or bound.terms or bound.per_gamma):
                assert bound.reason


def test_the_table_shows_ours_beside_theirs():
    pytest.importorskip("torch")
    rows = list(table(["sigmoid_cross_entropy"], dtypes=("float32",), backends=("numpy", "torch")))
    ours = [r for r in rows if r.backend == "torch" and r.quantity == "value" and r.targets == "hard"]
    theirs = [r for r in rows if r.backend == "torch's" and r.quantity == "value"]
    assert [r.holds for r in ours] == [True]
    assert ours[0].max_ulp <= 4
    assert theirs[0].max_ulp > 1e6
    assert theirs[0].lost > 0
    text = "\n".join(lines(rows))
    assert "0x1." in text
    assert "BROKEN" not in text


def test_peers_are_named_after_losses_that_exist():
    assert {p.loss for p in PEERS} <= {loss for loss, _, _ in PROMISES}
