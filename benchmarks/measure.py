"""Time and memory of two pieces of work, side by side.

Both sides run in one process on the same inputs, in turn, and the medians are compared: what the machine does meanwhile meets
both alike. pyperf gives each side processes of its own, and pytest-benchmark finishes one side before it starts the
other, so a machine that changes its clock in between changes their ratio; hence the small loop here.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

Work = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Medians in seconds for one call, and how often each side ran."""

    ours: float
    peer: float
    rounds: int

    @property
    def ratio(self) -> float:
        return self.ours / self.peer


def seconds(work: Work, calls: int, depth: int = 0) -> float:
    """Seconds of one call, made so many Python frames deep.

    CPython 3.11 keeps its frames in pieces of 16 KiB. A call that begins near the end of one maps and releases another each time,
    which takes longer than a small loss; where that is depends on who calls.
    """
    if depth:
        return seconds(work, calls, depth - 1)
    start = perf_counter()
    for _ in range(calls):
        work()
    return (perf_counter() - start) / calls


def calls_in(work: Work, target: float) -> int:
    """How many calls take about `target` seconds."""
    calls = 1
    while (took := seconds(work, calls) * calls) < target and calls < 100_000:
        calls = max(calls * 2, min(calls * 16, int(calls * target / max(took, 1e-9))))
    return calls


def compare(ours: Work, peer: Work, budget: float) -> Timing:
    """Medians of both sides, run in turn for about `budget` seconds and at least five times each."""
    for work in (ours, peer, ours, peer):
        work()
    collecting = gc.isenabled()
    gc.disable()
    try:
        calls = calls_in(ours, 0.01), calls_in(peer, 0.01)
        times: tuple[list[float], list[float]] = ([], [])
        start = perf_counter()
        while len(times[0]) < 5 or perf_counter() - start < budget:
            depth = 7 * len(times[0]) % 120
            for side, work in enumerate((ours, peer)):
                times[side].append(seconds(work, calls[side], depth))
    finally:
        if collecting:
            gc.enable()
    return Timing(median(times[0]), median(times[1]), len(times[0]))


def alone(work: Work, budget: float) -> float:
    """Median seconds of one call."""
    work()
    calls = calls_in(work, 0.005)
    times: list[float] = []
    start = perf_counter()
    while len(times) < 3 or perf_counter() - start < budget:
        times.append(seconds(work, calls, 7 * len(times) % 120))
    return median(times)


def peak_bytes(work: Work, library: str) -> int | None:
    """The most memory that one call holds at a time, beyond what was there before; None where nothing counts it."""
    work()
    gc.collect()
    if library == "numpy":
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            kept = work()
            peak = tracemalloc.get_traced_memory()[1] - before
            del kept
        finally:
            tracemalloc.stop()
        return peak
    if library == "torch":
        return _peak_of_torch(work)
    return None


def _peak_of_torch(work: Work) -> int:
    """Every allocation and release that the profiler of PyTorch saw, added up in order."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        work()
    changes = sorted((e.start_ns(), e.nbytes()) for e in run.profiler.kineto_results.events() if e.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def versions(*libraries: str) -> dict[str, str]:
    """The versions of those libraries that are there, and of Python."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": sys.version.split()[0]}
    for library in libraries:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
