"""PyTorch's tensors in the kernels generated for CuPy. On the double the memory of a GPU is the host's: CPU tensors stand for CUDA's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from ..helpers import BACKENDS, assert_same, several
from ..operations import CASES, Case
from .on_double import cupy_cpu

torch = pytest.importorskip("torch", reason="PyTorch is not installed beside the double: .ci/cupy does that in its full tier")
TORCH = BACKENDS["torch"]


@pytest.fixture(autouse=True)
def on_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from arrayloss.adapters import torch as adapter
    from arrayloss.adapters import torch_device
    from arrayloss.adapters.torch_traced import is_plain, is_watched

    def views_of(tensors: Any) -> Any:
        return None if is_watched() or not all(map(is_plain, tensors)) else [t.detach() for t in tensors]

    monkeypatch.setattr(torch_device, "views_of", views_of)
    monkeypatch.setattr(torch_device._Tensors, "order", lambda *_: nullcontext())
    monkeypatch.setattr(adapter, "torch_host", torch_device)
    monkeypatch.setattr(adapter.Torch, "host_view", lambda *_: None)
    yield
    cupy_cpu.check_memory()


def leaves(case: Case, dtype: str | None = None) -> tuple[list[Any], tuple[Any, ...], dict[str, Any]]:
    """Predictions that want a gradient, targets and options."""
    targets, options = case.arguments(TORCH.array)
    return [p.clone().requires_grad_() for p in case.unstack(TORCH.array(case.kind.x, dtype))], targets, options


@pytest.mark.parametrize("name", CASES)
def test_forward_and_backward(name: str) -> None:
    """And the same gradient by `value_and_grad`, and a second time after the first backward pass has taken what was kept."""
    case = CASES[name]
    predictions, targets, options = leaves(case)
    with cupy_cpu.record() as taken:
        value = case.loss(*predictions, *targets, **options)
        for _ in range(2):
            gradients = torch.autograd.grad(value.sum(), predictions, retain_graph=True)
            assert_same(np.reshape([g.numpy() for g in gradients], case.kind.x.shape), case.reference[1])
    assert_same(TORCH.numpy(value), case.reference[0])
    assert taken["launches"] or name.startswith(("sequence", "coupled"))
    again, found = case.loss.value_and_grad(*[p.detach() for p in predictions], *targets, **options)
    assert_same(TORCH.numpy(again), case.reference[0])
    assert_same(np.reshape([g.numpy() for g in several(found)], case.kind.x.shape), case.reference[1])


@pytest.mark.parametrize("name", CASES)
def test_second_order(name: str) -> None:
    """By array code: kernels know no history."""
    case = CASES[name]
    predictions, targets, options = leaves(case)
    gradients = torch.autograd.grad(case.loss(*predictions, *targets, **options).sum(), predictions, create_graph=True)
    assert_same(np.reshape([g.detach().numpy() for g in gradients], case.kind.x.shape), case.reference[1])
    assert all(g.requires_grad for g in gradients)
