"""The fixtures of the default tier, over every loss instead of a loss for every kind of operation."""

from __future__ import annotations

import pytest

from tests.operations import PATHS, Case, Kind, additive_of

from .losses import LOSSES

CASES = {f"{name}-{path}": Case(kind, path) for name, kind in LOSSES.items() for path in PATHS}
LONGEST = {name: case for name, case in CASES.items() if case.path == "weighted and masked"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """All of them are exhaustive."""
    item.add_marker(pytest.mark.exhaustive)


@pytest.fixture(params=LOSSES.values(), ids=LOSSES)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Every loss, with every set of options."""
    return request.param


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Every loss on every path."""
    return request.param


@pytest.fixture(params=additive_of(CASES).values(), ids=additive_of(CASES))
def additive(request: pytest.FixtureRequest) -> Case:
    """Every case that has parts."""
    return request.param


@pytest.fixture(params=LONGEST.values(), ids=LONGEST)
def sample(request: pytest.FixtureRequest) -> Case:
    """Every loss on the longest path."""
    return request.param


@pytest.fixture(params=LONGEST.values(), ids=LONGEST)
def spine(request: pytest.FixtureRequest) -> Case:
    """The same."""
    return request.param
