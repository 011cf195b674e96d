"""Memory: what a call holds beyond its inputs and the gradient, and what it keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from . import peers
from .measure import peak_bytes
from .rows import arrays, backward, torch_inputs

MIB = 2**20


@dataclass(frozen=True)
class Check:
    """`measure(small)` returns what we hold, what it is compared with, and the largest share that passes."""

    name: str
    against: str
    needs: tuple[str, ...]
    target: float
    measure: Callable[[bool], tuple[float, float]]


def _beyond_gradient(library: str) -> Callable[[bool], tuple[float, float]]:
    def measure(small: bool) -> tuple[float, float]:
        from arrayloss import sigmoid_focal_loss

        shape = (2**12 if small else 2**24,)
        if library == "numpy":
            x, t = arrays(shape)
            work = lambda: sigmoid_focal_loss.value_and_grad(x, t)  # noqa: E731
        else:
            x, t = torch_inputs(shape)
            work = backward(sigmoid_focal_loss, x, t)
        peak = peak_bytes(work, library)
        assert peak is not None
        gradient = x.nbytes
        return (peak - gradient) / MIB, 32.0

    return measure


def _saved(small: bool) -> tuple[float, float]:
    """What both graphs keep until the backward pass, beside the inputs."""
    from arrayloss import sigmoid_focal_loss

    x, t = torch_inputs((2**12 if small else 2**22,))
    return saved_bytes(lambda: sigmoid_focal_loss(x, t), x, t) / MIB, saved_bytes(lambda: peers.torchvision_sigmoid_focal(x, t), x, t) / MIB


def saved_bytes(forward: Callable[[], Any], *inputs: Any) -> int:
    """Bytes that stay allocated as long as the result of a forward pass is held."""
    from torch.profiler import ProfilerActivity, profile

    result = forward()
    del result
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        result = forward()
    del result
    return sum(e.nbytes() for e in run.profiler.kineto_results.events() if e.name() == "[memory]")


CHECKS = [
    Check("numpy sigmoid focal 16M, MiB beyond the gradient", "32 MiB", (), 1.0, _beyond_gradient("numpy")),
    Check("torch sigmoid focal 16M, MiB beyond the gradient", "32 MiB", ("torch",), 1.0, _beyond_gradient("torch")),
    Check("torch sigmoid focal 4M, MiB kept for backward", "torchvision's formula", ("torch",), 0.125, _saved),
]


def measured(check: Check, small: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": check.name, "against": check.against, "target": check.target}
    missing = [n for n in check.needs if find_spec(n) is None]
    if missing:
        return {**entry, "missing": f"{' and '.join(missing)} not installed"}
    ours, other = check.measure(small)
    return {**entry, "ours_mib": ours, "other_mib": other, "ratio": ours / other, "reached": ours / other <= check.target}


def line(entry: dict[str, Any]) -> str:
    head = f"{entry['name']:50} {entry['against']:22}"
    if "missing" in entry:
        return f"{head} {entry['missing']}"
    mark = "" if entry["reached"] else "  MISSED"
    return f"{head}{entry['ours_mib']:10.2f}{entry['other_mib']:10.2f}{entry['ratio']:8.3f}{entry['target']:8.3f}{mark}"
