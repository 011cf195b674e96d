"""The sweeps, with exact answers from pytest's cache."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from arrayloss.check.accuracy import Batch
from arrayloss.check.libraries import LIBRARIES

from ..exact import with_answers
from .sweeps import sweeps


@pytest.fixture
def sweeps_of(request: pytest.FixtureRequest) -> Callable[..., list[Batch]]:
    """`sweeps_of(dtype, loss, dense=False)`."""
    return lambda dtype, loss, dense=False: [with_answers(request.config, batch) for batch in sweeps(dtype, loss, dense)]


@pytest.fixture
def needs() -> Callable[..., None]:
    """`needs("torch", "jax")` skips a test where one of them is missing."""

    def skip(*names: str) -> None:
        for name in names:
            if reason := LIBRARIES[name].missing():
                pytest.skip(f"{name}: {reason}")

    return skip
