"""The fixtures of the default tier, over every loss instead of a loss for every kind of operation."""

from __future__ import annotations

import pytest

from tests.helpers import each
from tests.operations import PATHS, Case, additive_of

from .losses import LOSSES

CASES = {f"{name}-{path}": Case(kind, path) for name, kind in LOSSES.items() for path in PATHS}
LONGEST = {name: case for name, case in CASES.items() if case.path == "weighted and masked"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """All of them are exhaustive."""
    item.add_marker(pytest.mark.exhaustive)


kind = each(LOSSES)  # every loss, with every set of options
case = each(CASES)  # every loss on every path
additive = each(additive_of(CASES))  # every case that has parts
sample = spine = each(LONGEST)  # every loss on the longest path
