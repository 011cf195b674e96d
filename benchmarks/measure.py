"""Time and memory of two pieces of work, side by side.

Both run in one process on the same inputs, in turn, and medians are compared: whatever the machine does meanwhile, both meet it. Tools
that finish one side before the other starts compare two states of the machine.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from statistics import median
from time import perf_counter
from warnings import catch_warnings

Work = Callable[[], object]
CONDITIONS = ("alone", "behind", "busy")
SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(100_000): pass"  # ends with its parent


@dataclass(frozen=True)
class Timing:
    """Medians in milliseconds for one call."""

    ours: float
    peer: float

    @property
    def ratio(self) -> float:
        return self.ours / self.peer


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def other_work() -> Iterator[None]:
    """A busy process for each core."""
    processes = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(cores())]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def openmp_region() -> Work:
    """A short parallel region of PyTorch's: its threads go on spinning on their cores for some milliseconds."""
    import torch

    x = torch.ones(2**22)
    return lambda: torch.relu(x)


def rest() -> None:
    """Wait until threads of the other side have stopped spinning. The core stays awake: one that slept wakes others late."""
    start = perf_counter()
    while perf_counter() - start < 0.01:
        pass


def seconds(work: Work, calls: int, before: Work | None = None, depth: int = 0) -> float:
    """Seconds of one call, made so many Python frames deep.

    CPython 3.11 keeps its frames in pieces of 16 KiB. A call that begins near the end of one maps and releases another each time, which
    takes longer than a small loss; where that is depends on who calls.
    """
    if depth:
        return seconds(work, calls, before, depth - 1)
    if before is not None:
        before()
    start = perf_counter()
    for _ in range(calls):
        work()
    return (perf_counter() - start) / calls


def calls_in(work: Work, target: float) -> int:
    """How many calls take about `target` seconds."""
    calls = 1
    while (total := seconds(work, calls) * calls) < target and calls < 100_000:
        calls = max(calls * 2, min(calls * 16, int(calls * target / max(total, 1e-9))))
    return calls


def compare(ours: Work, peer: Work, condition: str, budget: float) -> Timing:
    """Both sides in turn, for about `budget` seconds and at least five times each; a budget of 0 only sees that they run."""
    works = (ours, peer)
    for work in works * (2 if budget else 1):
        work()
    before = {"behind": openmp_region, "alone": lambda: rest if budget else None}.get(condition, lambda: None)()
    calls = [1 if condition == "behind" or not budget else calls_in(work, 0.01) for work in works]
    times: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    gc.disable()
    try:
        with other_work() if condition == "busy" else nullcontext():
            start = perf_counter()
            while len(times[0]) < 5 or perf_counter() - start < budget:
                depth = 7 * len(times[0]) % 120
                for side, work in enumerate(works):
                    times[side].append(seconds(work, calls[side], before, depth))
    finally:
        gc.enable()
    return Timing(*[1e3 * median(side) for side in times])


def peak_bytes(work: Work) -> int:
    """The most memory that one call holds at a time: NumPy's and PyTorch's, as if both had their peaks at the same time."""
    work()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = work()
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    del result
    return peak + max([0, *accumulate(torch_allocations(work))])


def torch_allocations(work: Work) -> list[int]:
    """Every allocation (> 0) and release (< 0) of PyTorch's while `work` runs, in order."""
    if "torch" not in sys.modules:
        return []
    from torch.profiler import ProfilerActivity, profile

    quiet = catch_warnings(action="ignore", category=UserWarning)  # PyTorch 2.11 says at every start that it keeps one cycle of events
    with quiet, profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        result = work()
    del result
    events = [e for e in run.profiler.kineto_results.events() if e.name() == "[memory]"]
    return [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]


def versions(*libraries: str) -> str:
    """Python and the libraries that are there, with their versions."""
    text = [f"Python {sys.version.split()[0]}"]
    for library in libraries:
        try:
            text.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            continue
    return ", ".join(text)
