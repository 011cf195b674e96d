"""PyTorch's primitives for kernels on the CPU, where nothing traces and nothing differentiates.

One pass over a block costs what a whole formula costs in registers, so the special functions here take as few as they can:
fused primitives (`sigmoid`, `softmax`, `lerp`), in place on arrays that they made themselves. A choice among random elements
(`torch.where`) mispredicts a branch every other time, 30 times the cost of an addition; on large arrays it becomes arithmetic
on bits. What these forms do not cover, infinities above all, goes to the generic form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import array_api_compat.torch as xp
import torch
from torch import Tensor

from arrayloss.core import reduction, special

from .rows import others

_NORMAL = {torch.float32: torch.finfo(torch.float32).tiny, torch.float64: torch.finfo(torch.float64).tiny}
LARGE = 2**12  # entries from which fewer passes count for more than fewer calls
GROUP = 8  # elements of which the product of all 1 + u is far from overflow
LINE = 256  # products that are added in float32
FEW = 6  # classes of which all pairs are cheaper than passes
SAMPLE = 2**13  # elements of which a matrix product takes longer than the calls around it
_BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def _generic(function: Any) -> Callable[..., Any]:
    """The array API form of a special function."""
    return function.__wrapped__


@lru_cache(256)
def _tensor(number: float, dtype: torch.dtype) -> Tensor:
    """A number whose sign does not count if it is 0, as a tensor that is made once: that takes longer than to use it."""
    return torch.tensor(number, dtype=dtype, device="cpu")


@lru_cache(256)
def _exact_step(a: float, b: float, dtype: torch.dtype) -> float | None:
    """a - b, if b and the step add up to a to the last digit: then nothing has cancelled, and one pass mixes the two."""
    start, end = (torch.tensor(c, dtype=dtype, device="cpu") for c in (b, a))
    step = float(end - start)
    return step if float(start + step) == float(end) and a > 0 and b > 0 else None


def _finite(number: Tensor) -> bool:
    return abs(float(number)) < float("inf")


def _has_exact_products() -> bool:
    """Whether matrix products keep the digits of their dtype, which a user may have traded for speed."""
    return torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")


@lru_cache(64)
def _all_others(classes: int, dtype: torch.dtype) -> Tensor:
    """1 beside the diagonal."""
    return 1 - torch.eye(classes, dtype=dtype, device="cpu")


def _others(p: Tensor, axis: int) -> Tensor:
    """For every class of a row the sum of the others: none of the terms is negative, so that in a matrix product none cancel."""
    if _has_exact_products():
        rows = p.reshape(prod(p.shape[:axis]), p.shape[axis], prod(p.shape[axis + 1 :]))
        return torch.matmul(_all_others(p.shape[axis], p.dtype), rows).reshape(p.shape)
    q = torch.empty_like(p)
    others(torch.add, p.movedim(axis, 0), q.movedim(axis, 0), torch.empty_like)
    return q


def _crossed(t: Tensor, p: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The sums of t_c * p_k over the elements of each sample of N x C x ..., N x C x C; None where passes over p and t are cheaper."""
    entries = prod(p.shape[2:])
    line = LINE if entries % LINE == 0 else p.shape[-1]
    cheap = p.shape[1] <= FEW and entries >= SAMPLE and 8 <= line <= LINE
    if not (cheap and t.is_contiguous() and p.is_contiguous() and _has_exact_products()):
        return None
    sums = []
    for sample in zip(t, p, strict=True):
        rows, columns = (a.view(p.shape[1], -1, line).transpose(0, 1) for a in sample)
        sums.append(torch.bmm(rows, columns.transpose(1, 2)).sum(0, dtype=dtype))
    return torch.stack(sums)


class Eager(special.Native):
    """The array API in native calls."""

    library = xp
    careful: Any  # the same without quick forms

    @staticmethod
    def for_sweep(op: Any, x: Tensor) -> Any:
        """The same for the blocks of one operation."""
        if op.added and x.numel() >= LARGE:
            return _ADDING
        return _Rows() if op.saves_slope and op.from_softmax else _EAGER

    def at(self, places: Sequence[Tensor]) -> Eager:
        """The same with places for what the next block keeps."""
        return self

    @staticmethod
    def is_sound(a: Tensor) -> bool:
        """Whether there is neither a NaN nor an infinity in it; there may be none too where a sum of it overflows."""
        return _finite(a if a.numel() == 1 else a.sum())

    def native(self, name: str) -> Any:
        return _OWN.get(name)

    float32, float64, int64 = torch.float32, torch.float64, torch.int64
    magnitude = staticmethod(lambda off, h: torch.abs(off))
    minimum = staticmethod(torch.minimum)
    maximum = staticmethod(torch.maximum)
    reshape = staticmethod(torch.reshape)
    broadcast_to = staticmethod(torch.broadcast_to)
    zeros_like = staticmethod(torch.zeros_like)
    ones_like = staticmethod(torch.ones_like)
    full_like = staticmethod(torch.full_like)

    @staticmethod
    def astype(x: Tensor, dtype: torch.dtype, *, copy: bool = True) -> Tensor:
        return x.to(dtype, copy=copy)

    @staticmethod
    def sum(x: Tensor, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
        return xp.sum(x, axis=axis, dtype=dtype, keepdims=keepdims) if axis in (None, ()) else torch.sum(x, axis, keepdims, dtype=dtype)

    @staticmethod
    def total(a: Tensor, shape: Sequence[int], axes: tuple[int, ...], dtype: Any, lines: bool = False) -> Tensor:
        last = a.ndim - 1
        if not lines and axes and a.shape == shape:
            return torch.sum(a, axes, True, dtype=dtype)
        if lines and last in axes and a.shape == shape and 8 <= shape[last] <= 1024 and a.dtype != dtype:
            line = torch.sum(a, last, True)  # by halves, so that it is right to an ulp or two: a quarter of the time of float64
            return torch.sum(line, axes, True, dtype=dtype)
        return _generic(reduction.total)(_EAGER, a, shape, axes, dtype)

    @staticmethod
    def quotient(a: Tensor, divisor: float, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Of one number in Python, which rounds the same way: it costs less than a third of three calls."""
        return (
            a.new_full((), float(a) / divisor, dtype=dtype) if shape == () else _generic(reduction.quotient)(xp, a, divisor, shape, dtype)
        )

    @staticmethod
    def multiply(a: Tensor, b: Any, out: Tensor | None = None) -> Tensor:
        return torch.mul(a, _tensor(b, a.dtype) if type(b) is float else b, out=out)

    @staticmethod
    def as_index(a: Tensor) -> Tensor:
        return a if a.dtype == torch.int64 else a.to(torch.int64)

    @staticmethod
    def where(condition: Tensor, a: Any, b: Any) -> Tensor:
        """The bits of `a` under the mask, of `b` beside it."""
        like = a if isinstance(a, Tensor) else b
        kind = _BITS.get(like.dtype) if isinstance(like, Tensor) and like.numel() >= LARGE else None
        if kind is None or any(isinstance(c, Tensor) and c.dtype != like.dtype for c in (a, b)):
            return torch.where(condition, a, b)
        mask = condition.to(kind).neg_()
        first, second = (
            c.view(kind) if isinstance(c, Tensor) else torch.tensor(c, dtype=like.dtype, device=like.device).view(kind) for c in (a, b)
        )
        chosen = torch.bitwise_xor(first, second)
        chosen = chosen.bitwise_and_(mask) if chosen.shape == torch.broadcast_shapes(chosen.shape, mask.shape) else chosen & mask
        chosen = chosen.bitwise_xor_(second) if chosen.shape == torch.broadcast_shapes(chosen.shape, second.shape) else chosen ^ second
        return chosen.view(like.dtype)

    @staticmethod
    def mix(a: Any, b: Any, t: Tensor) -> Tensor:
        if special.is_hard(t):
            return Eager.where(t, a, b)
        if isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype == t.dtype:
            if a.shape[-1:] == b.shape[-1:] == (1,) != t.shape[-1:]:  # repeated within a line, numbers are read one by one
                a, b = (c.expand(*c.shape[:-1], t.shape[-1]).contiguous() for c in (a, b))
            return torch.lerp(b, a, t)  # exact at t = 0 and t = 1, and no term cancels the other between
        if isinstance(a, float) and isinstance(b, float):
            step = _exact_step(a, b, t.dtype)
            if step is not None:
                return torch.add(_tensor(b, t.dtype), t, alpha=step)
            a, b = (torch.full_like(t, c) if t.numel() >= LARGE else _tensor(c, t.dtype) for c in (a, b))
            return torch.lerp(b, a, t)
        return t * a + (1 - t) * b

    @staticmethod
    def sigmoid_pair(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sigmoid(x), torch.neg(x).sigmoid_()

    @staticmethod
    def logistic(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Callable[[], Tensor]]:
        q = torch.abs(x).neg_().sigmoid_()
        h = torch.gt(x, _tensor(0.0, x.dtype), out=torch.empty_like(x))
        return h, q, torch.neg(q).log1p_().neg_(), lambda: torch.ops.aten.leaky_relu_backward(q, x, -1.0, False)  # -q unless x > 0

    @staticmethod
    def beside(a: Tensor, factor: Any, b: Tensor, t: Tensor) -> Tensor:
        if not isinstance(factor, float):
            factor, b = 1.0, factor * b
        return torch.add(a, b, alpha=factor).addcmul_(t, b, value=-2 * factor)

    @staticmethod
    def beyond(p: Tensor, t: Tensor) -> Tensor:
        """Exact at t = 0 and t = 1, and nothing cancels between."""
        if p.numel() < LARGE or p.dtype != t.dtype or p.shape != t.shape:
            return _generic(special.beyond)(_EAGER, p, t)
        return torch.lerp(p, p.new_zeros((1,) * (p.ndim - 1) + p.shape[-1:]), t)

    @staticmethod
    def overlaps(
        t: Tensor, p: Tensor, axis: int, shape: Sequence[int], axes: tuple[int, ...], dtype: Any, of_labels: bool
    ) -> tuple[Tensor, ...] | None:
        """From the sums of t_c * p_k for all pairs of classes, as products of matrices of short lines, whose sums are float64."""
        if p.dtype not in _BITS or not LARGE <= p.numel() == t.numel() or axis in axes:
            return None
        t = Eager.as_float(t, p) if special.is_hard(t) else t

        def total(a: Tensor) -> Tensor:
            return Eager.total(a, shape, axes, dtype, lines=True)

        crossed = _crossed(t, p, dtype) if axis == 1 and axes in ((0, *range(2, p.ndim)), tuple(range(2, p.ndim))) else None
        if crossed is not None:
            crossed = crossed.sum(0, keepdim=True) if 0 in axes else crossed
            kept = (crossed.shape[0], p.shape[1], *(1 for _ in p.shape[2:]))
            apart = crossed * _all_others(p.shape[1], dtype)
            fp = apart.sum(1).reshape(kept) if of_labels else total(Eager.beyond(p, t))
            return crossed.diagonal(dim1=1, dim2=2).reshape(kept), fp, apart.sum(2).reshape(kept)
        if not of_labels:
            return None
        beside = Eager.beyond(p, t)
        return total(t * p), total(beside), total(t * beside.sum(axis, keepdim=True))

    @staticmethod
    def plus_product(c: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Quick: a NaN for 0 times infinity."""
        return c.addcmul_(a, b)

    @staticmethod
    def ratio(a: Any, b: Tensor, zero_over_zero: Any) -> Tensor:
        if b.numel() and float(b.amin()) > 0:
            return a / b
        return _generic(special.ratio)(_EAGER, a, b, zero_over_zero)

    @staticmethod
    def bounds(a: Tensor) -> tuple[int, int]:
        low, high = torch.aminmax(a)
        return int(low), int(high)

    @staticmethod
    def expand_dims(a: Tensor, *, axis: int) -> Tensor:
        return torch.unsqueeze(a, axis)

    @staticmethod
    def at_label(a: Tensor, labels: Tensor, axis: int) -> Tensor:
        return torch.gather(a, axis, labels)

    @staticmethod
    def with_label(a: Tensor, labels: Tensor, entries: Any, axis: int) -> Tensor:
        return torch.scatter(a, axis, labels, entries)

    @staticmethod
    def as_float(t: Tensor, like: Tensor) -> Tensor:
        return (t.view(torch.uint8) if t.dtype == torch.bool else t).to(like.dtype)  # from booleans it takes 7 times as long

    @staticmethod
    def one_hot(labels: Tensor, like: Tensor, axis: int, place: Tensor | None = None) -> Tensor:
        """Numbers: comparing floating point into floating point takes a fifth of comparing integers."""
        places = torch.arange(like.shape[axis], dtype=like.dtype, device=like.device).reshape(
            tuple(-1 if a == axis else 1 for a in range(like.ndim))
        )
        return torch.eq(places, labels.to(like.dtype), out=torch.empty_like(like) if place is None else place)

    @staticmethod
    def softmax_parts(
        x: Tensor, axis: int, kept: Tensor | None = None, place: Tensor | None = None
    ) -> tuple[None, Tensor, Callable[[], Tensor]]:
        """q is the sum of the others' p. `softmax_back` finds the maximum when it needs it. Quick: a NaN for infinite logits."""
        if 2 <= x.shape[axis] <= 32:
            p = kept
            if p is None:
                p = torch.softmax(x, axis, out=place if place is not None and place.is_contiguous() else None)
            return None, p, lambda: _others(p, axis)
        return _generic(special.softmax_parts)(_EAGER, x, axis)

    @staticmethod
    def softmax_back(top: Tensor | None, p: Tensor, u: Tensor, axis: int) -> Tensor:
        """In place on p, if it is contiguous: the kernel reads a row before it writes it, but knows no strides of what it is to fill."""
        best = p.amax(axis, keepdim=True)
        top_only = torch.eq(p, best, out=torch.empty_like(p))
        if int(top_only.sum()) != best.numel():  # a row has two maxima, or a NaN
            return _generic(special.softmax_back)(_EAGER, p.argmax(axis, keepdim=True), p, u, axis)
        from_top = torch.sub(u, top_only.mul_(u).sum(axis, keepdim=True), out=top_only)
        if p.is_contiguous() and from_top.is_contiguous():
            return torch._softmax_backward_data(from_top, p, axis, p.dtype, grad_input=p)
        return torch._softmax_backward_data(from_top, p, axis, p.dtype)

    @staticmethod
    def softmax_pull(top: Tensor, p: Tensor, q: Tensor, weight: Tensor, axis: int) -> Tensor:
        """In place on one array, which is the weights without the maximum and then the result."""
        result = weight.scatter(axis, top, 0.0)
        others = result.sum(axis, keepdim=True)
        torch.sub(others + weight.gather(axis, top), weight, out=result)
        return result.scatter_(axis, top, others).mul_(p).addcmul_(weight, q, value=-1)

    @staticmethod
    def softmax_pair(x: Tensor, axis: int, kept: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if kept is None or not 2 <= x.shape[axis] <= 32 or not (kept.numel() and float(kept.min()) > _NORMAL[x.dtype]):
            return _generic(special.softmax_pair)(_EAGER, x, axis)
        q = _others(kept, axis)
        return kept.argmax(axis, keepdim=True), kept, q, torch.div(q, kept).log1p_()

    @staticmethod
    def softmax_at_label(
        x: Tensor, labels: Tensor, axis: int, kept: Tensor | None = None, place: Tensor | None = None, scratch: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q_y = 1 - p_y is the sum beside the label, and -log(p_y) is log1p(q_y / p_y), of which nothing cancels."""
        p = torch.softmax(x, axis, out=place) if kept is None else kept
        if kept is None and axis != x.ndim - 1 and x.shape[axis] > 32:
            p.div_(p.sum(axis, keepdim=True))  # across rows in memory, softmax adds its terms one after the other
        p_y = torch.gather(p, axis, labels)
        if not (p_y.numel() and float(p_y.min()) > _NORMAL[x.dtype]):  # or NaN, an infinite logit among others
            return _generic(special.softmax_at_label)(_EAGER, x, labels, axis)
        slope = p if kept is None else torch.empty_like(p)
        if axis != x.ndim - 1 and x.shape[axis] <= 32:  # across memory, masks take a third of scattering
            here = Eager.one_hot(labels, p, axis, scratch)
            torch.addcmul(p, here, p, value=-1, out=slope)
            q = slope.sum(axis, keepdim=True)
            slope.addcmul_(here, q, value=-1)
        else:
            torch.scatter(p, axis, labels, 0.0, out=slope)
            q = slope.sum(axis, keepdim=True)
            slope.scatter_(axis, labels, -q)
        return torch.div(q, p_y, out=p_y).log1p_(), slope, q


class _Adding(Eager):
    """For values of which only the sum is wanted: `logistic` gives u for log1p(u), and `plus_product` puts the logarithms of a group
    into the place of one of its elements.
    """

    def native(self, name: str) -> Any:
        return {"logistic": _Adding.logistic, "plus_product": _Adding.plus_product}.get(name) or _OWN.get(name)

    @staticmethod
    def logistic(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Callable[[], Tensor]]:
        u = torch.abs(x).neg_().exp_()
        q = torch.add(u, 1)
        torch.div(u, q, out=q)
        h = torch.gt(x, _tensor(0.0, x.dtype), out=torch.empty_like(x))
        return h, q, u, lambda: torch.ops.aten.leaky_relu_backward(q, x, -1.0, False)

    @staticmethod
    def plus_product(u: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Quick: a NaN for 0 times infinity."""
        value = torch.mul(a, b).contiguous()
        u, flat = u.reshape(-1), value.view(-1)
        whole = u.numel() // GROUP * GROUP
        few = u[:whole]
        while few.numel() > whole // GROUP:  # (1 + a) * (1 + b) is 1 + (a + b + a * b), of which nothing cancels
            a, b = few.tensor_split(2)
            few = torch.add(a, b).addcmul_(a, b)
        flat[: few.numel()] += few.log1p_()
        if whole < u.numel():
            flat[whole:] += u[whole:].log1p_()
        return value


class _Rows(Eager):
    """For slopes of rows: softmax is written where the slope is to be, and what else is of the size of a block serves all of them. Memory
    that is released after each block may go back to the system, and fetching it again takes longer than filling it.
    """

    def __init__(self) -> None:
        self._place: Tensor | None = None
        self._scratch: list[Tensor] = []

    def native(self, name: str) -> Any:
        return self._at_label if name == "softmax_at_label" else _OWN.get(name)

    def at(self, places: Sequence[Tensor]) -> Eager:
        self._place = next((p for p in places if p.is_contiguous()), None)
        return self

    def _at_label(self, x: Tensor, labels: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        if not self._scratch or self._scratch[0].numel() < x.numel() or self._scratch[0].dtype != x.dtype:
            self._scratch = [torch.empty(x.numel(), dtype=x.dtype, device="cpu") for _ in range(2)]  # not touched before they are used
        place, scratch = (flat[: x.numel()].view(x.shape) for flat in self._scratch)
        return Eager.softmax_at_label(x, labels, axis, place=place if self._place is None else self._place, scratch=scratch)


class _Careful(Eager):
    """Without the quick forms, which make a NaN of an infinity where there is a limit."""

    def native(self, name: str) -> Any:
        return None if name in ("plus_product", "softmax_parts") else _OWN.get(name)


_OWN = {name: getattr(Eager, name) for name in vars(Eager) if not name.startswith("_")}
Eager.careful = _Careful()
_ADDING = _Adding()
_EAGER = Eager()
