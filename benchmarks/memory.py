"""Memory: what a call holds beyond its inputs and the gradient, what it keeps for the backward pass; and the time of the import."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from . import peers
from .measure import peak_bytes, torch_allocations
from .rows import FEATURES, Inputs, backward, linear_inputs, ours

MIB = 2**20
FOCAL = ours("sigmoid_focal_loss")
CLOCK = "from time import process_time\nstart = process_time()"
STATEMENTS = f"import numpy, array_api_compat\n{CLOCK}\nimport arrayloss\nprint(1e3 * (process_time() - start))"


@dataclass(frozen=True)
class Check:
    """`measure(is_small)` returns a number, which is not to be more than `bound`."""

    name: str
    unit: str
    bound: float
    measure: Callable[[bool], float]


def _focal(size: int, is_small: bool) -> tuple[Any, Any]:
    return Inputs((size,), (4096,), "numbers").arrays(is_small)


def numpy_beyond_gradient(is_small: bool) -> float:
    x, t = _focal(2**24, is_small)
    return (peak_bytes(lambda: FOCAL.get().value_and_grad(x, t)) - x.nbytes) / MIB


def torch_beyond_gradient(is_small: bool) -> float:
    import torch

    x, t = map(torch.from_numpy, _focal(2**24, is_small))
    return (peak_bytes(backward(FOCAL.get(), x.requires_grad_(), t)) - x.nbytes) / MIB


def kept_for_backward(is_small: bool) -> float:
    """What our graph keeps until the backward pass beside the inputs, as a share of what torchvision's formula keeps."""
    import torch

    x, t = map(torch.from_numpy, _focal(2**22, is_small))
    x.requires_grad_()
    sizes = []
    for loss in (FOCAL.get(), peers.torchvision_focal):
        results: list[Any] = []
        loss(x, t)
        sizes.append(sum(torch_allocations(lambda loss=loss, results=results: results.append(loss(x, t)))))
    return sizes[0] / sizes[1]


def bfloat16_beyond_gradient(is_small: bool) -> float:
    import torch

    from arrayloss import softmax_cross_entropy

    rows, classes = (16, 100) if is_small else (1024, 128_256)
    x = torch.randn(rows, classes).bfloat16().requires_grad_()
    t = torch.randint(0, classes, (rows,))
    return (peak_bytes(backward(softmax_cross_entropy, x, t)) - x.nbytes) / MIB


def linear_beyond_gradients(is_small: bool) -> float:
    """The logits alone would be 786 MiB."""
    from arrayloss import linear_cross_entropy

    f, w, t = linear_inputs(*FEATURES.arrays(is_small), is_small)

    def work() -> None:
        linear_cross_entropy(f, w, t).backward()
        f.grad = w.grad = None

    return (peak_bytes(work) - f.nbytes - w.nbytes) / MIB


def ntxent_beyond_gradient(is_small: bool) -> float:
    """The similarities alone would be 4 GiB."""
    import numpy as np

    from arrayloss import ntxent_loss

    n = 64 if is_small else 32_768
    x = np.random.default_rng(0).standard_normal((n, 128), dtype=np.float32)
    return (peak_bytes(lambda: ntxent_loss.value_and_grad(x, np.arange(n) % (n // 2))) - x.nbytes) / MIB


def import_time(is_small: bool) -> float:
    """Milliseconds of a core beyond NumPy and array-api-compat, each time in a fresh interpreter.

    It finds bytecode, as after an installation.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", STATEMENTS]
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(3 if is_small else 21)]
    return median([float(run.stdout) for run in runs])


CHECKS = [
    Check("memory: NumPy, sigmoid focal 16M, beyond the gradient", "MiB", 1, numpy_beyond_gradient),
    Check("memory: PyTorch, sigmoid focal 16M, beyond the gradient", "MiB", 1, torch_beyond_gradient),
    Check("memory: PyTorch, sigmoid focal 4M, kept for backward", "of torchvision's formula", 1 / 6, kept_for_backward),
    Check("memory: PyTorch, bfloat16 cross-entropy 1024x128256, beyond the gradient", "MiB", 1, bfloat16_beyond_gradient),
    Check("memory: PyTorch, linear cross-entropy 4096x512x50304, beyond the gradients", "MiB", 160, linear_beyond_gradients),
    Check("memory: NumPy, NT-Xent loss 32768x128, beyond the gradient", "MiB", 256, ntxent_beyond_gradient),
    Check("import arrayloss, beyond NumPy and array-api-compat", "ms", 60, import_time),
]
