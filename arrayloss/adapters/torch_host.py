"""Plain CPU tensors as NumPy arrays: how the host engine reads and writes PyTorch's memory."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arrayloss.adapters.torch_products import PRIMITIVES
from arrayloss.engine import host

from .torch_traced import is_plain, is_watched

Tensors = tuple[Tensor, ...]
SMALL = host.BLOCK  # beyond it arrays are views by DLPack: `Tensor.numpy` pins the size of a storage, but takes 1 us less
HALF = (torch.float16, torch.bfloat16)
_team: list[Any] = []  # PyTorch's own threads do our work too: they spin behind a parallel region, and others would wait for a core
with suppress(OSError, AttributeError):  # where OpenMP is GNU's, or has its functions
    _team.append(ctypes.CDLL(os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cpu.so")).GOMP_parallel)
    os.register_at_fork(after_in_child=_team.clear)  # they are not in the child


def views_of(tensors: Sequence[Tensor]) -> list[Any] | None:
    """The tensors as the engine reads them, if they are on the CPU and nothing watches them but reverse-mode autograd."""
    if is_watched():
        return None
    return [_view(t, tensors[0].shape) for t in tensors] if all(t.is_cpu and is_plain(t) for t in tensors) else None


def _view(t: Tensor, shape: torch.Size) -> Any:
    """A tensor as an array. NumPy has no bfloat16: large 16-bit tensors of the predictions' shape are read block by block."""
    if (t := t.detach()).dtype in HALF:
        if t.numel() > SMALL and t.shape == shape:
            return _Half(t)
        t = t.float()
    array = t.numpy() if t.numel() <= SMALL else np.from_dlpack(t)
    return array if array.flags.writeable else t.numpy()  # before NumPy 2.1 or PyTorch 2.9


class _Half:
    """A tensor of 16 bits for the engine: a block is read as float32, and rounded when it is written."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.shape, self.size, self.ndim = tuple(tensor.shape), tensor.numel(), tensor.ndim
        self.dtype = np.dtype(np.float32)
        self.address = tensor.data_ptr()  # for compiled functions, which read and write 16 bits
        self.layout = self.shape, tuple([2 * s for s in tensor.stride()]), tensor.dtype

    def block(self, index: Any) -> Any:
        return self.tensor[index].float().numpy()

    def set_block(self, index: Any, part: Any) -> None:
        self.tensor[index].copy_(torch.from_numpy(part))


def readable(cotangents: Sequence[Tensor | None]) -> list[Any] | None:
    """Cotangents as arrays, if NumPy can read them: batched tensors refuse."""
    try:
        return [c if c is None else c.float().numpy() if c.dtype is torch.bfloat16 else c.numpy() for c in cotangents]
    except RuntimeError:
        return None


class _Memory:
    """Where the engine puts results of a dtype: large ones in tensors of PyTorch's own, which are returned themselves."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.tensors: dict[int, Tensor] = {}  # by the address of their memory

    @property
    def resources(self) -> host.Resources:
        """For the engine. Not an attribute: the cycle would keep the tensors until a garbage collection."""
        return host.Resources(torch.get_num_threads, self.empty, PRIMITIVES, *_team)

    def empty(self, shape: Sequence[int], dtype: Any) -> Any:
        """An uninitialised array in a tensor's memory."""
        kind = self.dtype if self.dtype in HALF else torch.float32 if dtype == np.float32 else torch.float64
        return self.add(torch.empty(shape, dtype=kind, device="cpu"))

    def add(self, tensor: Tensor) -> Any:
        """A tensor as an array, of which `tensor` makes a tensor of its own: autograd copies one that is referred to twice, and takes
        later writes to a gradient for writes to what it has saved.
        """
        array = _view(tensor.data, tensor.shape)
        if tensor.numel() > SMALL and not isinstance(array, _Half):
            self.tensors[array.ctypes.data] = tensor.data
        return array

    def tensor(self, a: Any) -> Tensor:
        """The tensor of an array that the engine returned."""
        if isinstance(a, _Half):
            return a.tensor
        tensor = self.tensors.get(a.ctypes.data) if a.size > SMALL else None
        if tensor is None:
            return torch.from_numpy(a)
        return tensor if tensor.shape == a.shape else tensor.resize_(a.shape)  # not a view, which could not be written to in place

    def results(self, op: Any, finish: Any, outputs: Sequence[Any]) -> Tensors:
        """Outputs as tensors; of 16-bit predictions the unreduced ones are rounded."""
        tensors = map(self.tensor, map(np.asarray, outputs))
        is_unreduced = op.reduce is None or (finish is not None and finish.reduction == "none")
        return tuple([t.to(self.dtype) for t in tensors] if is_unreduced else tensors)

    def gradients(self, arrays: Sequence[Any]) -> Tensors:
        return tuple([self.tensor(a).to(self.dtype) for a in arrays])


def forward(op: Any, finish: Any, views: Sequence[Any], dtype: torch.dtype) -> Tensors:
    """The sums; with a finish the number, as a tuple of one."""
    memory = _Memory(dtype)
    sums = host.sweep(op, views, resources=memory.resources)[0]
    return memory.results(op, finish, sums if finish is None else (host.steps_of(finish, sums)[0],))


def forward_and_gradients(op: Any, finish: Any, views: Sequence[Any], dtype: torch.dtype) -> tuple[Tensors, Tensors]:
    """What `forward` returns, and gradients that serve every cotangent; none where there are no such gradients."""
    memory = _Memory(dtype)
    outputs, gradients = _outputs_and_gradients(op, finish, views, memory)
    return memory.results(op, finish, outputs), tuple(map(memory.tensor, gradients))


def backward(op: Any, finish: Any, inputs: Sequence[Tensor], saved: Sequence[Tensor], serves: bool, cotangents: Sequence[Any]) -> Any:
    """The gradients for cotangents of the outputs; None where the inputs cannot be read. The memory of `saved` gradients is used.

    `serves`: the gradients of the forward pass serve every cotangent; but those of 16 bits, which are rounded once, only 1.
    """
    memory = _Memory(inputs[0].dtype)
    is_rounded = inputs[0].dtype in HALF and inputs[0].numel() > SMALL
    serves = serves and (not is_rounded or bool(np.all(cotangents[0] == 1)))
    views = None if serves and saved else views_of(inputs)
    if views is None and not (serves and saved):
        return None
    if serves:  # without what was saved the same steps again, for the same bits
        gradients = list(map(memory.add, saved)) if saved else _outputs_and_gradients(op, finish, views or (), memory)[1]
        return memory.gradients(host.scale_gradient(op, gradients, 1 if is_rounded else cotangents[0]))
    if finish is not None:
        sums = host.sweep(op, views or (), labels="checked", resources=memory.resources)[0]
        cotangents = [None if d is None else d * cotangents[0] for d in host.steps_of(finish, sums)[1]]
    return memory.gradients(host.gradients_for(op, views or (), cotangents, resources=memory.resources))


def value_and_grad(op: Any, finish: Any, views: Sequence[Any], dtype: torch.dtype) -> tuple[Tensor, Tensors]:
    """The number, and the gradient of each prediction."""
    memory = _Memory(dtype)
    value, gradients = host.value_and_vjp(op, finish, views, resources=memory.resources)
    return memory.results(op, finish, (value,))[0], memory.gradients(gradients)


def derivatives(op: Any, views: Sequence[Any], dtype: torch.dtype) -> tuple[Tensors, ...]:
    """Gradients and Hessian diagonals of the sum."""
    memory = _Memory(dtype)
    return tuple(map(memory.gradients, host.derivatives(op, views, resources=memory.resources)))


def _outputs_and_gradients(op: Any, finish: Any, views: Sequence[Any], memory: _Memory) -> tuple[Any, Any]:
    """Returns the outputs and the gradients of `forward_and_gradients`, as arrays."""
    if finish is not None and (op.is_local or finish.reduction != "none"):
        value, gradients = host.value_and_vjp(op, finish, views, resources=memory.resources)
        if value.ndim == 0 or op.is_local:
            return (value,), gradients
    if finish is None and op.is_local:
        units = [1.0 if name == op.terms[0] else None for name in op.outputs]
        return host.sweep(op, views, units, resources=memory.resources)
    sums = host.sweep(op, views, resources=memory.resources)[0]
    return sums if finish is None else (host.steps_of(finish, sums)[0],), ()
