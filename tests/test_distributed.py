"""Exact losses across batches and processes: the code of docs/distributed.md, run."""

from __future__ import annotations

import os
import re
import runpy
import warnings
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from arrayloss import softmax_cross_entropy

from .helpers import needs_meshes

PAGE = (Path(__file__).parent.parent / "docs" / "distributed.md").read_text()
BLOCKS = dict(re.findall(r"## ([^\n]*)\n(?:(?!## ).)*?```python\n(.*?)```", PAGE, re.DOTALL))
SIZES = (5, 2)  # of the two processes


def run_block(title: str, folder: Path) -> dict[str, Any]:
    """What the code of a section defines."""
    file = folder / f"{os.getpid()}.py"
    file.write_text(BLOCKS[title])
    return runpy.run_path(str(file))


@pytest.mark.parametrize("title", ["A data set larger than memory", "Gradient accumulation"])
def test_the_page_is_right(title: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    run_block(title, tmp_path)


@needs_meshes
def test_shard_map_on_the_page(tmp_path: Path) -> None:
    import jax
    import jax.numpy as jnp

    n = 4 * jax.device_count()
    logits, labels = jnp.asarray(np.random.default_rng(0).normal(size=(n, 3))), jnp.asarray(np.arange(n) % 4 - 1)
    expected = jax.grad(lambda x: softmax_cross_entropy(x, labels, ignore_index=-1))(logits)
    np.testing.assert_allclose(run_block("JAX: several devices", tmp_path)["gradient"](logits, labels), expected, rtol=1e-6)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    n = sum(SIZES)
    return torch.sin(torch.arange(n * 3, dtype=torch.float64)).reshape(n, 3), torch.tensor([0, -1, 2, 1, 1, -1, 2])


def process(rank: int, folder: str) -> None:
    """One of the two: its loss, the gradient of its predictions, and that of a shared weight through DDP."""
    warnings.simplefilter("ignore")  # of a process of its own; PyTorch warns about the devices that gloo lacks
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        loss_of_all = run_block("PyTorch: several processes", Path(folder))["loss_of_all"]
        x, t = (a.split(SIZES)[rank] for a in data())
        x = x.clone().requires_grad_()
        value = loss_of_all(x, t)
        value.backward()
        model = torch.nn.Linear(3, 3, bias=False, dtype=torch.float64)
        torch.nn.init.eye_(model.weight)
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        (loss_of_all(parallel(x.detach()), t) * dist.get_world_size()).backward()
        torch.save({"value": value.detach(), "gradient": x.grad, "weight": model.weight.grad}, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="this PyTorch has no gloo")
def test_two_processes_have_the_loss_and_the_gradients_of_one(tmp_path: Path) -> None:
    running = torch.multiprocessing.start_processes(process, args=(str(tmp_path),), nprocs=2, join=False, start_method="spawn")
    try:
        end = monotonic() + 240
        while not running.join(timeout=10):  # True when both have ended
            assert monotonic() < end, "the processes did not come to an end"
    finally:
        for child in running.processes:
            if child.is_alive():
                child.kill()
    x, t = data()
    weight = torch.eye(3, dtype=torch.float64, requires_grad=True)
    x.requires_grad_()
    expected = softmax_cross_entropy(x @ weight.T, t, ignore_index=-1)
    expected.backward()
    assert x.grad is not None
    for rank, gradient in enumerate(x.grad.split(SIZES)):
        result = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(result["value"], expected.detach())
        torch.testing.assert_close(result["gradient"], gradient)
        torch.testing.assert_close(result["weight"], weight.grad)
