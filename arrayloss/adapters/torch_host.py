"""Small tensors on the CPU are NumPy arrays too: NumPy computes on their memory, at a third of what PyTorch's calls cost.

Without NumPy there is nothing here, and PyTorch's own calls serve tensors of every size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

SMALL = 2**13  # entries; on twice as many, PyTorch's threads and vectors make up for its calls
_FLOATS = (torch.float32, torch.float64)


@contextmanager
def absent() -> Iterator[None]:
    """PyTorch's own calls for tensors of every size, as large ones take them: for tests, and where digits are compared."""
    global SMALL
    before, SMALL = SMALL, 0
    try:
        yield
    finally:
        SMALL = before


@cache
def _numpy() -> Any:
    """The adapter module of NumPy, if it is installed."""
    try:
        from . import numpy
    except ImportError:
        return None
    return numpy


def host_of(x: Tensor, limit: float | None = None) -> Any:
    """What computes on these predictions if they are small: the module of NumPy's adapter."""
    return _numpy() if x.numel() <= (SMALL if limit is None else limit) and x.dtype in _FLOATS else None


def _array(t: Tensor) -> Any:
    t = t.detach() if t.requires_grad else t
    return (t.resolve_neg() if t.is_neg() else t).numpy()


def arrays_of(tensors: Iterable[Any]) -> list[Any]:
    """The same memory as NumPy sees it."""
    return [_array(t) if isinstance(t, Tensor) else t for t in tensors]


def tensor(a: Any) -> Any:
    """An array of NumPy as a tensor; whatever else is, as it is."""
    numpy = _numpy()
    return torch.from_numpy(numpy.owned(a)) if numpy is not None and isinstance(a, numpy.ARRAYS) else a


def sweep(host: Any, op: Any, tensors: Sequence[Tensor], order: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """`blocks.sweep` of these tensors."""
    outputs, kept = host.ADAPTER.sweep(op, arrays_of(tensors), order)
    return _tensors(host, outputs), _tensors(host, kept)


def sweep_back(
    host: Any, op: Any, tensors: Sequence[Tensor], cotangents: Sequence[Any], kept: Sequence[Tensor], in_place: bool
) -> tuple[Tensor, ...]:
    """`blocks.sweep_back` of these tensors."""
    return _tensors(host, host.ADAPTER.sweep_back(op, arrays_of(tensors), arrays_of(cotangents), arrays_of(kept), in_place))


def _tensors(host: Any, arrays: Iterable[Any]) -> tuple[Tensor, ...]:
    return tuple([torch.from_numpy(host.owned(a)) for a in arrays])


def conclude(call: Any, x: Tensor, outputs: Sequence[Tensor]) -> tuple[Tensor, Sequence[Any]]:
    """The number of a call of these predictions, and its derivatives for the outputs, which are few numbers whatever the predictions."""
    host = host_of(x, float("inf"))
    if host is None:
        stages = call.of((x,)).answer(outputs)
        return next(stages), next(stages)
    with host.quiet():
        stages = call.of(arrays_of((x,)), host.ADAPTER).answer(arrays_of(outputs))
        (value,) = _tensors(host, (next(stages),))
        return value, next(stages)
