"""The check tells right ports from wrong ones, every one."""

from __future__ import annotations

import pytest

from arrayloss.check import Report, check

from .wrong_ports import RIGHT, WRONG, Port


def checked(port: Port, relative_to: str) -> Report:
    options = {"relative_to": relative_to, "modes": ["eager"], "quantities": ["value", "grad"], **port.check, **port.options}
    return check({"torch": port.function}, reference=port.claims, signature="input,target", reduction=port.reduction, **options)


@pytest.mark.parametrize("port", RIGHT, ids=lambda p: p.name)
def test_right_ports_pass(port):
    checked(port, "batch").raise_for_failures()


@pytest.mark.parametrize("port", WRONG, ids=lambda p: p.name)
def test_wrong_ports_are_caught(port):
    lost_digits = port.name == "confident_rows_lose_their_digits"
    for relative_to in ("number",) if lost_digits else ("number", "batch"):
        report = checked(port, relative_to)
        assert not report.passed
        assert any(r.status == "differs" for r in report.failures), [r.said for r in report.rows]  # compared, not crashed
    if lost_digits:
        assert all(r.lost == r.wrong for r in report.failures)
        checked(port, "batch").raise_for_failures()


def test_there_are_enough_of_them():
    assert len({p.name for p in WRONG}) >= 12
    assert {p.claims for p in WRONG} <= {p.claims for p in RIGHT} | {"nll_loss", "binary_cross_entropy", "huber_loss"}
