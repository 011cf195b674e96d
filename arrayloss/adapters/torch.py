"""PyTorch: an `autograd.Function` that knows the slope.

Two of them, since none serves every mode. `_Fast` computes value and slope together in cache-sized blocks and keeps the slope:
for plain tensors in eager mode on the CPU. `_General` is pure array code that saves its inputs only and computes the slope again in
the backward pass: for double backward, forward mode, `torch.func`, compilers, subclasses and GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any

import array_api_compat.torch as xp
import torch
import torch.utils._pytree
from torch import Tensor
from torch.autograd import forward_ad

from arrayloss.core import reduction, special
from arrayloss.core.parts import Parts
from arrayloss.core.plan import ARGUMENTS

from . import torch_host
from .base import Adapter, Pull
from .blocks import sweep, sweep_back
from .torch_native import Eager

BLOCK = 2**18  # entries; smaller ones are dominated by the cost of a call


_EAGER = Eager()


class _Traced(special.Native):
    """The array API where a compiler or a transform looks on."""

    __name__ = "torch"

    library = xp

    @staticmethod
    def narrow(labels: Tensor, classes: int) -> Tensor:
        wide = labels.dtype == torch.int64 and classes < 2**31
        return labels.clamp(-1, classes).to(torch.int32) if wide else labels  # compiled, choices by 64 bits take twice the time

    @staticmethod
    def as_index(a: Tensor) -> Tensor:
        return a if a.dtype == torch.int32 else a.to(torch.int64)

    @staticmethod
    def positions(a: Tensor, axis: int) -> Tensor:
        shape = tuple(-1 if i == axis % a.ndim else 1 for i in range(a.ndim))
        return torch.arange(a.shape[axis], dtype=torch.int32, device=a.device).reshape(shape)

    @staticmethod
    def at_label(a: Tensor, labels: Tensor, axis: int) -> Tensor:
        if torch.compiler.is_compiling() and axis != a.ndim - 1:  # a gather across lines of memory would be one more pass over it
            here = _Traced.positions(a, axis) == labels.to(torch.int32)
            return torch.where(here, a, 0).sum(axis, keepdim=True, dtype=a.dtype)
        return torch.gather(a, axis, labels.to(torch.int64))  # `take_along_dim` would tie a compiled loss to one batch size

    @staticmethod
    def with_label(a: Tensor, labels: Tensor, entries: Any, axis: int) -> Tensor:
        return torch.where(_Traced.positions(a, axis) == labels.to(torch.int32), entries, a)

    @staticmethod
    def total(a: Tensor, shape: Sequence[int], axes: tuple[int, ...], dtype: Any, lines: bool = False) -> Tensor:
        """Sums of samples first: a compiled loop over all samples for every class would fetch each class from memory each time."""
        if torch.compiler.is_compiling() and axes[:1] == (0,) and len(axes) > 1 and a.shape == shape:
            return a.sum(axes[1:], keepdim=True, dtype=dtype).sum(0, keepdim=True)
        return reduction.total.__wrapped__(_TRACED, a, shape, axes, dtype)  # type: ignore[attr-defined]

    @staticmethod
    def keep(p: Tensor) -> Tensor:
        """What a backward pass is to start from."""
        return p

    def softmax_parts(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
        """What is likelier than 1/2 has the sum of the others beside it: compilers take maxima and sums, but unroll an argmax."""
        m = x.amax(axis, keepdim=True)
        e = torch.where(x == float("inf"), torch.zeros_like(x), x - m).exp()  # written as `special.softmax_at_label` does
        p = self.keep(e / e.sum(axis, keepdim=True))

        def complement() -> Tensor:
            likely = p > 0.5
            return torch.where(likely, torch.where(likely, 0.0, p).sum(axis, keepdim=True), 1 - p)

        return x.argmax(axis, keepdim=True), p, complement

    @staticmethod
    def softmax_back(top: Tensor, p: Tensor, u: Tensor, axis: int) -> Tensor:
        best = p == p.amax(axis, keepdim=True)
        v = u - torch.where(best, u, -float("inf")).amax(axis, keepdim=True)
        return p * (v - (p * v).sum(axis, keepdim=True))


_TRACED = _Traced()


class _Compiled(_Traced):
    """Where the compiler is to keep p for the backward pass: of few classes it would rather compute every exponential twice."""

    @staticmethod
    def keep(p: Tensor) -> Tensor:
        return torch.ops.prims.abs.default(p)  # |p| is p, but written as an operation that compilers do not repeat


_COMPILED = _Compiled()


def _namespace() -> _Traced:
    """What a Function that knows its derivative computes with: nothing differentiates through its steps."""
    plain = torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()
    return _COMPILED if plain else _TRACED


def _vjp_of_others(op: Any, arrays: Sequence[Tensor], live: Sequence[int]) -> tuple[list[Tensor], Any]:
    """Targets, weights and parameters learn by autodiff of the value: the outputs that are no counts, and their pullback."""

    def value(*others: Tensor) -> list[Tensor]:
        everything = list(arrays)
        for i, a in zip(live, others, strict=True):
            everything[i] = a
        return [o for o in op.forward(_TRACED, everything) if o.is_floating_point()]

    return torch.func.vjp(value, *(arrays[i] for i in live))


def _jvp_of_others(op: Any, arrays: Sequence[Tensor], live: Sequence[int], tangents: Sequence[Tensor]) -> list[Tensor]:
    """The transpose of the pullback: forward mode inside forward mode does not exist in PyTorch."""
    outputs, pullback = _vjp_of_others(op, arrays, live)
    _, push = torch.func.vjp(pullback, [torch.zeros_like(o) for o in outputs])
    (moved,) = push(tuple(tangents))
    return moved


class _General(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(op: Any, *arrays: Tensor) -> tuple[Tensor, ...]:
        return op.forward(_namespace(), arrays)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        op, *arrays = inputs
        ctx.op = op
        ctx.save_for_backward(*arrays)
        ctx.save_for_forward(*arrays)
        ctx.set_materialize_grads(False)  # what does not move is not differentiated
        ctx.floating = [o.is_floating_point() for o in output]
        ctx.mark_non_differentiable(*(o for o in output if not o.is_floating_point()))

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
        arrays, op = ctx.saved_tensors, ctx.op
        gradients: list[Any] = [None] * len(arrays)
        needs = ctx.needs_input_grad[1:]
        if any(needs[: op.predictions]):
            namespace = _namespace()
            outputs, residual = op.linearize(namespace, arrays)
            gradients[: op.predictions] = op.pull(namespace, arrays, residual, _dense(cotangents, outputs))
        live = [i for i in range(op.predictions, len(arrays)) if needs[i]]
        if live:
            outputs, pullback = _vjp_of_others(op, arrays, live)
            for i, g in zip(live, pullback(_dense(compress(cotangents, ctx.floating), outputs)), strict=True):
                gradients[i] = g
        return (None, *gradients)


class _GeneralWithForwardMode(_General):
    """Dynamo cannot trace a Function that has a `jvp`, so compilers get the one without."""

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Any) -> tuple[Any, ...]:
        if not torch._C._are_functorch_transforms_active():
            return _push(ctx.op, ctx.saved_tensors, tangents)
        # PyTorch runs a `jvp` with forward mode off, at every level: a transform around this one would see a constant.
        with forward_ad._set_fwd_grad_enabled(True):
            arrays = [forward_ad.unpack_dual(a).primal for a in ctx.saved_tensors]
            return _push(ctx.op, arrays, [None if t is None else forward_ad.unpack_dual(t).primal for t in tangents])


def _dense(cotangents: Iterable[Any], outputs: Iterable[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(o) if c is None else c for c, o in zip(cotangents, outputs, strict=True)]


def _push(op: Any, arrays: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """Tangents of the outputs; those of counts are None."""
    outputs, residual = op.linearize(_TRACED, arrays)
    moved: list[Any] = [torch.zeros_like(o) if o.is_floating_point() else None for o in outputs]
    if any(t is not None for t in tangents[: op.predictions]):
        for i, m in enumerate(op.push(_TRACED, arrays, residual, tangents[: op.predictions])):
            moved[i] = moved[i] if m is None else moved[i] + m
    live = [i for i in range(op.predictions, len(arrays)) if tangents[i] is not None]
    if live:
        floating = [i for i, m in enumerate(moved) if m is not None]
        for i, m in zip(floating, _jvp_of_others(op, arrays, live, [tangents[i] for i in live]), strict=True):
            moved[i] = moved[i] + m
    return tuple(moved)


class _Fast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, op: Any, *arrays: Tensor) -> tuple[Tensor, ...]:
        outputs, slopes = _sweep(op, arrays, 1)
        ctx.op = op
        ctx.save_for_backward(*arrays, *slopes)  # the slopes too, for checkpoints and for hooks that store what is saved elsewhere
        ctx.set_materialize_grads(False)
        if len(outputs) > 1:
            ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
        op, g = ctx.op, cotangents[0]
        if g is None:
            return (None,) * len(ctx.needs_input_grad)
        saved = ctx.saved_tensors
        arrays, slopes = saved[: -op.predictions], saved[-op.predictions :]
        nothing = (None,) * (len(arrays) - op.predictions)
        if torch.is_grad_enabled():  # create_graph: the slope is wanted as a function of the inputs
            _, slopes = op.linearize(_TRACED, arrays)
            return (None, *op.pull(xp, arrays, slopes, cotangents), *nothing)
        keep = torch._C._autograd._get_current_graph_task_keep_graph() or _is_batched(g)
        return (None, *_scaled(op, arrays, slopes, g, in_place=not keep), *nothing)


_apply_fast = super(torch.autograd.Function, _Fast).apply  # without what looks for transforms, which are not on


class _Twice(torch.autograd.Function):
    """For operations that save no slope: the inputs are swept again in the backward pass, where what was kept becomes the gradient."""

    @staticmethod
    def forward(ctx: Any, op: Any, *arrays: Tensor) -> tuple[Tensor, ...]:
        outputs, kept = _sweep(op, arrays, min(op.keeps, 1))
        ctx.op = op
        ctx.save_for_backward(*arrays, *kept)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(o for o, moves in zip(outputs, op.moving, strict=True) if not moves))
        return outputs

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
        op, count = ctx.op, len(ctx.needs_input_grad) - 1
        given = [c for c in cotangents if c is not None]
        if not given:
            return (None,) * (count + 1)
        arrays, kept = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        if torch.is_grad_enabled() or any(map(_is_batched, given)):
            gradients = op.pull(xp, arrays, None, cotangents)
        else:
            last = not torch._C._autograd._get_current_graph_task_keep_graph()
            gradients = _sweep_back(op, arrays, cotangents, kept, in_place=last)
        return (None, *gradients, *(None for _ in arrays[op.predictions :]))


class _Concluded(torch.autograd.Function):
    """A number that is more than a sum: what the sums are worth is known with it, and autograd need not follow every step in between."""

    @staticmethod
    def forward(ctx: Any, call: Any, op: Any, *arrays: Tensor) -> Tensor:
        outputs, kept = _sweep(op, arrays, min(op.keeps, 1))
        value, ctx.derivatives = torch_host.conclude(call, arrays[0], outputs)
        ctx.call, ctx.op = call, op
        ctx.save_for_backward(*arrays, *kept)
        ctx.set_materialize_grads(False)
        return value

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Any, ...]:
        op, count = ctx.op, len(ctx.needs_input_grad) - 2
        if g is None:
            return (None,) * (count + 2)
        arrays, kept = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        if torch.is_grad_enabled():
            value = next(ctx.call.of(arrays).answer(_GeneralWithForwardMode.apply(op, *arrays)))
            gradients = torch.autograd.grad(value, arrays[: op.predictions], g, create_graph=True)
        else:
            many = _is_batched(g)
            last = not (many or torch._C._autograd._get_current_graph_task_keep_graph())
            g = float(g) if g.ndim == 0 and not many else g
            cotangents = [None if d is None else torch_host.tensor(d) * g for d in ctx.derivatives]
            if many:
                gradients = op.pull(xp, arrays, kept if op.saves_slope else None, cotangents)
            elif op.saves_slope:
                gradients = _scaled(op, arrays, kept, cotangents[0], in_place=last)
            else:
                gradients = _sweep_back(op, arrays, cotangents, kept, in_place=last)
        return (None, None, *gradients, *(None for _ in arrays[op.predictions :]))


def _is_batched(a: Tensor) -> bool:
    """Whether a tensor is one of many, of `torch.func.vmap` or of the older `is_grads_batched`."""
    return torch._C._functorch.is_batchedtensor(a) or torch._C._functorch.is_legacy_batchedtensor(a)


def _sweep(op: Any, arrays: Sequence[Tensor], order: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    host = torch_host.host_of(arrays[0])
    if host is not None:
        return torch_host.sweep(host, op, arrays, order)
    return sweep(op, _EAGER, arrays, order=order, size=_block(op), empty=_empty)


def _block(op: Any) -> int:
    """Entries of a block: rows take few passes, so that calls count for more, and few arrays."""
    return BLOCK if op.classes is None else 4 * BLOCK


def _empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu")  # whatever the default is


def _scaled(op: Any, arrays: Sequence[Tensor], slopes: Sequence[Tensor], g: Any, in_place: bool = True) -> tuple[Tensor, ...]:
    """The slopes of a sweep times the cotangent, which is 1 most of the time and many, of `vmap`, only if not in place."""
    if not isinstance(g, float) and g.ndim:
        g = op.spread(xp, arrays[0], g)
    if isinstance(g, float) or (g.ndim == 0 and (in_place or not _is_batched(g))):
        g = float(g)
    if not (isinstance(g, float) and g == 1 and in_place):
        slopes = [s.mul_(g) if in_place else s * g for s in slopes]
    return tuple(slopes if not op.half else [s.to(x.dtype) for s, x in zip(slopes, arrays, strict=False)])


def _sweep_back(
    op: Any, arrays: Sequence[Tensor], cotangents: Sequence[Any], kept: Sequence[Tensor] = (), in_place: bool = False
) -> tuple[Tensor, ...]:
    host = torch_host.host_of(arrays[0])
    if host is not None:
        return torch_host.sweep_back(host, op, arrays, cotangents, kept, in_place)
    return sweep_back(op, _EAGER, arrays, cotangents, kept, size=_block(op), empty=_empty, in_place=in_place)


def is_plain(arrays: Sequence[Any]) -> bool:
    """Whether nothing watches these tensors but reverse-mode autograd, and they are on the CPU."""
    if not ADAPTER.repeats():
        return False
    for a in arrays:  # noqa: SIM110  # a generator would take as long as the rest
        if type(a) not in _PLAIN or not a.is_cpu or torch._C._functorch.is_functorch_wrapped_tensor(a):
            return False
    return True


_PLAIN = (Tensor, torch.nn.Parameter)
_BARE = {torch.uint16, torch.uint32, torch.uint64}  # PyTorch stores them, but neither compares them nor finds a minimum


class Torch(Adapter):
    """Chooses between the blocked and the general Function."""

    has_autograd = True

    def __init__(self) -> None:
        super().__init__(_TRACED)
        self.name = "torch"

    def conversion(self, name: str) -> str:
        return f"convert it first, such as by torch.as_tensor({name}, device=...)"

    def accept(self, array: Any, like: Tensor, name: str) -> Tensor:
        array = array if isinstance(array, Tensor) else super().accept(array, like, name)
        if array.dtype in _BARE:
            array = array.long()
        if array.device != like.device:
            raise ValueError(
                f"{name} must be on the device of the predictions, {like.device}; got {array.device}: pass {name}.to({str(like.device)!r})"
            )
        return array

    def device(self, array: Tensor) -> Any:
        return array.device

    def constant(self, values: Any, dtype: Any, like: Tensor) -> Tensor:
        return torch.as_tensor(values, dtype=dtype, device=like.device)

    def varying(self, number: float, dtype: Any, like: Tensor) -> Tensor | None:
        if not torch.compiler.is_compiling():
            return None
        from torch.fx.experimental.symbolic_shapes import has_static_value  # there already, but heavy where nothing is compiled

        if has_static_value(number):
            return None
        return torch.ones((), dtype=dtype, device=like.device) * number  # of a product the compiler makes one of tensors

    def has_float64(self, array: Tensor) -> bool:
        return array.device.type != "mps"

    def reads_labels(self, array: Tensor) -> bool:
        return is_plain((array,))

    def repeats(self) -> bool:
        return not (
            torch.compiler.is_compiling()
            or torch._C._are_functorch_transforms_active()
            or forward_ad._current_level >= 0  # tensors may be dual, with gradients disabled too
            or torch._C._is_tracing()
            or torch._C._len_torch_dispatch_stack()
        )

    def value(self, call: Any) -> Tensor:
        if not call.direct and torch.is_grad_enabled() and call.concludes and is_plain(call.arrays):
            op = call.asked()
            needs = [a.requires_grad for a in call.arrays]
            if True in needs and True not in needs[op.predictions :]:
                return _Concluded.apply(call.of(()), op, *call.arrays)
        return super().value(call)

    def forward(self, op: Any, arrays: Sequence[Tensor]) -> tuple[Tensor, ...]:
        needs = [a.requires_grad for a in arrays] if torch.is_grad_enabled() else []
        if not is_plain(arrays):
            if torch.compiler.is_compiling():  # without a gradient no Function: dynamo would hand our forward a context
                return _General.apply(op, *arrays) if True in needs else op.forward(_TRACED, arrays)
            return _GeneralWithForwardMode.apply(op, *arrays)
        if True not in needs:
            return _sweep(op, arrays, 0)[0]
        if True in needs[op.predictions :]:
            op.check_labels(xp, arrays)
            return _GeneralWithForwardMode.apply(op, *arrays)
        return (_apply_fast if op.saves_slope else _Twice.apply)(op, *arrays)

    def linearize(self, op: Any, arrays: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Pull]:
        if not is_plain(arrays):
            return super().linearize(op, arrays)
        if torch.is_grad_enabled() and any(a.requires_grad for a in arrays):
            op.check_labels(xp, arrays)
            return super().linearize(op, arrays)
        if not op.saves_slope:
            outputs, kept = _sweep(op, arrays, min(op.keeps, 1))
            return outputs, lambda cotangents: _sweep_back(op, arrays, cotangents, kept, in_place=True)
        outputs, slopes = _sweep(op, arrays, 1)
        return outputs, lambda cotangents: _scaled(op, arrays, slopes, cotangents[0])

    def derivatives(self, op: Any, arrays: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        if is_plain(arrays):
            op.check_labels(xp, arrays)
        return super().derivatives(op, arrays)


ADAPTER = Torch()
ARGUMENTS.update(dict.fromkeys(_PLAIN, attrgetter("dtype", "shape", "device", "layout")))

torch.utils._pytree.register_pytree_node(
    Parts,
    lambda parts: (list(parts.arrays), (parts.names, parts.rule)),
    lambda arrays, kind: Parts(kind[0], tuple(arrays), kind[1]),
)
