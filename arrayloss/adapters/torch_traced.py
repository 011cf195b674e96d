"""PyTorch's array API where a compiler or a transform looks on, and on GPUs."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch as library
import torch
from torch import Tensor
from torch.autograd import forward_ad

from arrayloss.core import special


def _beside(constant: Tensor, a: Tensor) -> Tensor:
    """A constant on all devices of a DTensor, beside which PyTorch takes no plain tensor."""
    return a.from_local(constant, a.device_mesh) if hasattr(a, "placements") else constant


class Traced(special.Native):
    """The array API where a compiler or a transform looks on, and on GPUs."""

    library = library

    @staticmethod
    def broadcast_to(a: Tensor, shape: Any) -> Tensor:
        return a.expand(shape)  # batched gradients have no rule for `broadcast_to`

    @staticmethod
    def matrix_transpose(a: Tensor) -> Tensor:
        return a.mT  # nor for `swapaxes`

    @staticmethod
    def expm1(a: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            return torch.expm1(a)
        half = a.clamp(min=-1.0) / 2  # Inductor makes exp(a) - 1 of it, which has no digits near 0 (torch 2.13)
        return torch.where(a < -1, a.exp() - 1, 2 * half.exp() * half.sinh())

    def as_index(self, a: Tensor) -> Tensor:
        return a if a.dtype == torch.int32 else a.to(torch.int64)

    def label_range(self, a: Tensor) -> tuple[int, int]:
        low, high = a.to(torch.int64).aminmax()  # unsigned integers have no minimum (torch 2.13)
        return int(low), int(high)

    def labels_to_int32(self, labels: Tensor, classes: int) -> Tensor:
        """Compiled, choices by 64 bits take twice the time. Unsigned integers have no order (torch 2.13)."""
        labels = labels.to(torch.int64) if labels.dtype in (torch.uint16, torch.uint32, torch.uint64) else labels
        wide = labels.dtype == torch.int64 and classes < 2**31
        return labels.clamp(-1, classes).to(torch.int32) if wide else labels

    def arange_along(self, a: Tensor, axis: int) -> Tensor:
        places = torch.arange(a.shape[axis], dtype=torch.int32, device=a.device)
        return _beside(places.reshape([-1 if i == axis else 1 for i in range(a.ndim)]), a)

    def constants(self, numbers: Any, dtype: Any, like: Tensor) -> Tensor:
        return _beside(torch.tensor(list(numbers), dtype=dtype, device=like.device), like)

    def gather_label(self, a: Tensor, labels: Tensor, axis: int) -> Tensor:
        # Compiled, a gather across lines of memory would be one more pass over it; of a DTensor whose classes are split it is wrong
        if hasattr(a, "placements") or (torch.compiler.is_compiling() and axis != a.ndim - 1):
            return torch.where(self.arange_along(a, axis) == labels, a, 0).sum(axis, keepdim=True, dtype=a.dtype)
        return torch.gather(a, axis, labels.to(torch.int64))  # `take_along_dim` would tie a compiled loss to one batch size

    def add_product(self, total: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.addmm(total, a.mT, b)

    def sum_to(self, a: Tensor, shape: tuple[int, ...], axes: tuple[int, ...], dtype: Any) -> Tensor:
        """Samples first: a compiled loop over all samples for every class would fetch each class from memory each time."""
        if torch.compiler.is_compiling() and axes[:1] == (0,) and len(axes) > 1 and a.shape == shape:
            return a.sum(axes[1:], keepdim=True, dtype=dtype).sum(0, keepdim=True)
        return special.generic(special.sum_to)(self, a, shape, axes, dtype)

    def softmax_with_complement(self, x: Tensor, axis: int) -> Any:
        """What is likelier than 1/2 has the sum of the others beside it: compilers take maxima and sums, but unroll an argmax."""
        d = torch.where(x == float("inf"), torch.zeros_like(x), x - x.amax(axis, keepdim=True))
        e = d.exp()
        s = e.sum(axis, keepdim=True)
        p = e / s
        if torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active():
            # Identity, since p >= 0. Inductor's partitioner would recompute softmax in the backward; it does not recompute prims.abs
            # (torch 2.13): 1.35x on compiled Dice.
            p = torch.ops.prims.abs.default(p)
        likely = p > 0.5

        def complement() -> Tensor:
            return torch.where(likely, torch.where(likely, 0.0, p).sum(axis, keepdim=True), 1 - p)

        def nll() -> Tensor:
            return torch.where(likely, -torch.log1p(-torch.where(likely, complement(), 0.0)), s.log() - d)

        return x.argmax(axis, keepdim=True), p, complement, nll

    def softmax_vjp(self, argmax: Tensor, p: Tensor, u: Tensor, axis: int) -> Tensor:
        best = p == p.amax(axis, keepdim=True)
        v = u - torch.where(best, u, -float("inf")).amax(axis, keepdim=True)
        return p * (v - (p * v).sum(axis, keepdim=True))

    def label_columns(self, like: Tensor, labels: Tensor) -> Any:
        return lambda a: torch.gather(a, 1, labels.mT).mT, lambda b: torch.zeros_like(like).scatter_add(1, labels.mT, b.mT)


xp = Traced()


def is_watched() -> bool:
    """Whether a compiler, a transform or a mode has to see every operation."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return bool(torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack())


def is_plain(t: Tensor) -> bool:
    """Whether nothing but reverse-mode autograd knows more of a tensor than its memory."""
    if type(t) not in (Tensor, torch.nn.Parameter) or t.is_neg() or t.layout is not torch.strided:
        return False
    return forward_ad.unpack_dual(t).tangent is None
