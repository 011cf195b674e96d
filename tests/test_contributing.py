"""The loss of CONTRIBUTING.md: its two blocks, run where they belong, make a loss that the tests of formulas find and hold."""

from __future__ import annotations

import doctest
import re
from inspect import signature
from pathlib import Path

import pytest

from arrayloss.check import definitions
from arrayloss.check.definitions import DEFINITIONS, Definition
from arrayloss.frontend.check import fraction
from arrayloss.frontend.loss import REGISTRY
from arrayloss.losses import regression

from . import test_formulas as formulas
from .test_properties import violations

FORMULA, DEFINITION = re.findall(r"```python\n(.*?)```", (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(), re.DOTALL)
NAME = "pinball_loss"
TESTS = [f for name, f in vars(formulas).items() if name.startswith("test_") and "row" in signature(f).parameters]


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Definition:
    """The row of the loss, which is in the tables for the time of a test."""
    for table in (REGISTRY, DEFINITIONS):
        monkeypatch.setitem(table, NAME, [])  # what the blocks enter is taken out again
    exec(FORMULA, {**vars(regression), "fraction": fraction})
    exec(DEFINITION, dict(vars(definitions)))
    (entry,) = DEFINITIONS[NAME]
    return entry


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.__name__)
def test_the_tests_of_formulas_hold(row, test, request):
    test(row, request) if "request" in signature(test).parameters else test(row)


def test_its_properties_are_true(row):
    for options in row.options:
        assert not list(violations(row, options, REGISTRY[NAME].bind(**options).properties))


def test_its_example_runs_and_its_options_are_spelt_out(row):
    loss = REGISTRY[NAME]
    example = doctest.DocTestParser().get_doctest(loss.__doc__, {NAME: loss}, NAME, None, None)
    assert doctest.DocTestRunner().run(example) == doctest.TestResults(failed=0, attempted=2)
    assert "{options}" not in loss.__doc__
    assert list(loss.__signature__.parameters)[:5] == ["predictions", "targets", "quantile", "weights", "where"]


def test_it_takes_25_lines():
    kernel, function = FORMULA.split("\n\n\n")
    assert len(kernel.splitlines()) + len(function.splitlines()) <= 25
