"""Plain CUDA tensors: the kernels that are generated for CuPy compute them, in PyTorch's memory and in order with its stream.

The functions are those of `torch_host`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from warnings import catch_warnings

import cupy
import torch
from torch import Tensor

from arrayloss.engine.cuda.device import Device
from arrayloss.engine.cuda.launcher import Memory

from .torch_traced import is_plain, is_watched, xp

Tensors = tuple[Tensor, ...]


class _Tensors(Memory):
    """PyTorch's tensors."""

    array = Tensor

    def layout(self, a: Tensor) -> Any:
        return tuple(a.shape), tuple([a.itemsize * n for n in a.stride()]), a.dtype

    def empty(self, shape: Sequence[int], dtype: str, like: Tensor) -> Tensor:
        return torch.empty(shape, dtype=getattr(torch, dtype), device=like.device)

    @contextmanager
    def order(self, like: Tensor) -> Iterator[None]:
        device = like.device.index
        with cupy.cuda.Device(device), _stream(torch.cuda.current_stream(device).cuda_stream, device):
            yield

    def argument(self, a: Tensor) -> int:
        return a.data_ptr()


@lru_cache
def _stream(address: int, device: int) -> Any:
    with catch_warnings(
        action="ignore", category=DeprecationWarning
    ):  # what is to replace it asks PyTorch for a protocol that old releases lack (CuPy 14.2)
        return cupy.cuda.ExternalStream(address, device)


DEVICE = Device(_Tensors(), xp)
cupy.RawKernel('extern "C" __global__ void probe() {}', "probe").compile()  # an error where CuPy finds no CUDA to compile with


def views_of(tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """The tensors without their history, if they are on a GPU and nothing watches them but reverse-mode autograd."""
    return None if is_watched() or not all(t.is_cuda and is_plain(t) for t in tensors) else [t.detach() for t in tensors]


def readable(cotangents: Sequence[Tensor | None]) -> Any:
    """Cotangents, if kernels can read them."""
    return None if is_watched() or not all(c is None or is_plain(c) for c in cotangents) else cotangents


def forward(op: Any, finish: Any, views: Sequence[Tensor], dtype: torch.dtype) -> Tensors:
    """The sums; with a finish the number, as a tuple of one."""
    return DEVICE.sums(op, views) if finish is None else DEVICE.number(op, finish, views, has_slopes=False)[:1]


def forward_and_gradients(op: Any, finish: Any, views: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensors, Tensors]:
    """What `forward` returns; and the sums, if the slopes of a number depend on them. The gradient is left to `backward`."""
    if finish is None or finish.slope is not None:
        return forward(op, finish, views, dtype), ()
    sums = DEVICE.sums(op, views)
    return DEVICE.finish(finish, sums, has_slopes=False)[:1], sums


def backward(op: Any, finish: Any, inputs: Sequence[Tensor], sums: Tensors, _: bool, cotangents: Sequence[Any]) -> Tensors | None:
    """The gradients for cotangents of the outputs; None where something watches the inputs."""
    views = views_of(inputs)
    if views is None:
        return None
    if finish is not None:
        slopes: Any = (finish.slope, *[None] * (len(op.outputs) - 1))
        if finish.slope is None:
            slopes = DEVICE.finish(finish, sums or DEVICE.sums(op, views), has_slopes=True)[1:]
        cotangents = [None if s is None else s * cotangents[0] for s in slopes]
    return DEVICE.gradients(op, views, cotangents)


def value_and_grad(op: Any, finish: Any, views: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensors]:
    """The number, and the gradient of each prediction."""
    value, *slopes = DEVICE.number(op, finish, views, has_slopes=True)
    return value, DEVICE.gradients(op, views, slopes)


def derivatives(op: Any, views: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensors, ...]:
    """Gradients and Hessian diagonals of the sum."""
    return DEVICE.derivatives(op, views)
