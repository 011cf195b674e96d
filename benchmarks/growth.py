"""How the cost of one call grows with the number of elements."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from . import peers
from .measure import Work, alone
from .rows import arrays, backward, torch_inputs


def _work(size: int) -> dict[str, Work]:
    from arrayloss import sigmoid_focal_loss

    x, t = arrays((size,))
    work: dict[str, Work] = {"numpy": lambda: sigmoid_focal_loss.value_and_grad(x, t)}
    if find_spec("torch") is not None:
        inputs = torch_inputs((size,))
        work["torch"] = backward(sigmoid_focal_loss, *inputs)
        work["torchvision's formula"] = backward(lambda x, t: peers.torchvision_sigmoid_focal(x, t, alpha=-1), *inputs)
    return work


def measured(small: bool) -> list[dict[str, Any]]:
    """Milliseconds of sigmoid focal loss with its gradient, from 2**5 to 2**24 elements."""
    exponents = range(5, 9) if small else range(5, 25)
    return [
        {"elements": 2**k, **{name: alone(work, 0.01 if small else 0.2) * 1e3 for name, work in _work(2**k).items()}} for k in exponents
    ]


def table(entries: list[dict[str, Any]]) -> str:
    names = [n for n in entries[0] if n != "elements"]
    lines = ["sigmoid focal loss with gradient, ms by number of elements", f"{'elements':>10}" + "".join(f"{n:>24}" for n in names)]
    lines += [f"{e['elements']:>10}" + "".join(f"{e[n]:24.4f}" for n in names) for e in entries]
    return "\n".join(lines)
