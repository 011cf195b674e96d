"""Fuzzing for a time: rounds of examples with seeds one after the other, which are printed so that a failure can be repeated.

`ARRAYLOSS_FUZZ_SECONDS` is the time of all fuzzers together, `ARRAYLOSS_FUZZ_SEED` the seed of the first round.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy


def fuzz(share: float, examples: int, strategy: SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Check examples for a share of the time, at least one round of them."""
    end = time.monotonic() + share * float(os.environ.get("ARRAYLOSS_FUZZ_SECONDS", "600"))
    first = int(os.environ.get("ARRAYLOSS_FUZZ_SEED") or random.SystemRandom().randrange(10**6))
    rules = settings(
        database=None,
        deadline=None,
        max_examples=examples,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )

    def one(example: Any) -> None:
        check(example)

    for number in count(first):
        print(f"ARRAYLOSS_FUZZ_SEED={number}", flush=True)
        seed(number)(rules(given(strategy)(one)))()
        if time.monotonic() > end:
            break
