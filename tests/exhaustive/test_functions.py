"""The functions that compiled losses are made of, each at all floats or at a hundred million points."""

from collections.abc import Callable, Iterable

import pytest

from tests.test_functions import BOUNDS, fixture_errors


@pytest.mark.parametrize("name", BOUNDS)
def test_all_points(errors: Callable[[int, Iterable[str]], None], name: str) -> None:
    errors(1, [name])
