"""PyTorch: an `autograd.Function` that knows the pullback. Plain tensors are computed by an engine: on the CPU by `torch_host`, on a GPU,
where CuPy is installed, by `torch_device`.

Three Functions, since none serves every mode. `_Plain` calls an engine: plain tensors in eager mode.
`_General` is array code that saves its inputs and runs the kernel again in backward: compilers, double backward, what has no engine.
`_GeneralWithJvp` adds forward mode, for everything but compilers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from warnings import warn

import torch
import torch.utils._pytree
from torch import Tensor
from torch.autograd import forward_ad

from arrayloss.core.parts import Parts

from .base import Adapter, Call
from .torch_traced import xp

try:
    from . import torch_host
except ImportError:  # without NumPy there is `_General`, unblocked and correct
    torch_host = None  # type: ignore[assignment]

Tensors = tuple[Tensor, ...]
PLAIN = (Tensor, torch.nn.Parameter)
NONE = None, None


def _forward(op: Any, arrays: Sequence[Tensor], labels: str = "nan") -> Tensors:
    """The sums as a caller sees them; dense, since forward mode cannot write the tangent of an expanded tensor (torch 2.13)."""
    sums = tuple(op.to_result(xp, arrays[0], op.vjp(xp, arrays, labels)[0]()))
    if torch.compiler.is_compiling():  # an output that is another tensor of the graph got no gradient (torch 2.11)
        return sums
    return tuple([s.contiguous() for s in sums])


def _gradients(op: Any, arrays: Sequence[Tensor], cotangents: Sequence[Any], needs: Sequence[bool]) -> list[Tensor | None]:
    """Of predictions by the pullback; of targets, weights and parameters by autodiff of the sums."""
    gradients: list[Tensor | None] = [None] * len(arrays)
    if any(needs[: op.predictions]):
        if op.per_entry:  # the derivative of a tiny overlap overflows the dtype of the predictions, and a float64 sum holds it
            most = 2.0 ** (1020 if arrays[0].dtype == torch.float64 else 124)
            cotangents = [None if c is None else torch.clamp(c, -most, most) for c in cotangents]
        g = op.vjp(xp, arrays)[1]([op.expand_cotangent(xp, arrays[0], c) for c in cotangents])
        gradients[: op.predictions] = [_link(d.to(a.dtype), a) for d, a in zip(g, arrays[: op.predictions], strict=True)]
    others = [i for i in range(op.predictions, len(arrays)) if needs[i]]
    if others:
        sums, pullback, *_ = torch.func.vjp(_sums_of(op, arrays, others), *[arrays[i] for i in others])
        floating = [c for c, name in zip(cotangents, op.outputs, strict=True) if name != "count"]
        dense = [torch.zeros_like(s) if c is None else c for s, c in zip(sums, floating, strict=True)]
        for i, g in zip(others, pullback(dense), strict=True):
            gradients[i] = g
    return gradients


def _link(gradient: Tensor, prediction: Tensor) -> Tensor:
    """The gradient as a function of its prediction: where it is a constant, its own derivative is 0, and no error."""
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and prediction.requires_grad):
        return gradient
    return torch.where(torch.zeros((), dtype=torch.bool, device=gradient.device), prediction, gradient)


def _sums_of(op: Any, arrays: Sequence[Tensor], places: Sequence[int]) -> Callable[..., list[Tensor]]:
    """The floating-point sums as a function of the arrays at `places`."""

    def sums(*tensors: Tensor) -> list[Tensor]:
        by_place = dict(zip(places, tensors, strict=True))
        return [s for s in _forward(op, [by_place.get(i, a) for i, a in enumerate(arrays)]) if s.is_floating_point()]

    return sums


class _General(torch.autograd.Function):
    """Array code, without a `jvp`: dynamo refuses a Function that has one (torch 2.13)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(op: Any, *arrays: Tensor) -> Tensors:
        return _forward(op, arrays)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        op, *arrays = inputs
        ctx.op = op
        ctx.save_for_backward(*arrays)
        ctx.save_for_forward(*arrays)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[s for s in output if not s.is_floating_point()])

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
        return None, *_gradients(ctx.op, ctx.saved_tensors, cotangents, ctx.needs_input_grad[1:])


class _GeneralWithJvp(_General):
    """The same with forward mode."""

    @staticmethod
    def forward(op: Any, *arrays: Tensor) -> Tensors:
        return _forward(op, arrays, ADAPTER.label_mode(op, arrays))

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Any) -> tuple[Any, ...]:
        """The transpose of the pullback: forward mode inside forward mode does not exist in PyTorch."""
        with forward_ad._set_fwd_grad_enabled(True):  # PyTorch turns it off in a `jvp`: a transform around this one would see a constant
            op, arrays, tangents = ctx.op, _primals(ctx.saved_tensors), _primals(tangents)
            has_tangent = [t is not None for t in tangents]
            places = [i for i, has in enumerate(has_tangent) if has]
            sums = _forward(op, arrays)
            floating = [i for i, name in enumerate(op.outputs) if name != "count"]

            def pullback(*cotangents: Tensor) -> list[Tensor | None]:
                by_place = dict(zip(floating, cotangents, strict=True))
                gradients = _gradients(op, arrays, [by_place.get(i) for i in range(len(sums))], has_tangent)
                return [gradients[i] for i in places]

            _, transpose, *_ = torch.func.vjp(pullback, *[torch.zeros_like(sums[i]) for i in floating])
            by_place = dict(zip(floating, transpose([tangents[i] for i in places]), strict=True))
            return tuple([by_place.get(i) for i in range(len(sums))])


def _primals(tensors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    return tuple([None if t is None else forward_ad.unpack_dual(t).primal for t in tensors])


class _Plain(torch.autograd.Function):
    """An engine. With a finish the output is the number, else the sums.

    What the engine wants to keep is saved: the host's a gradient, if it serves every cotangent. The first backward pass may take its memory
    (`ctx.is_consumed`); later ones compute it again.
    """

    @staticmethod
    def forward(ctx: Any, engine: Any, op: Any, finish: Any, views: Sequence[Any], *tensors: Tensor) -> Any:
        results, kept = engine.forward_and_gradients(op, finish, views, tensors[0].dtype)
        ctx.engine, ctx.op, ctx.finish, ctx.serves, ctx.is_consumed = engine, op, finish, bool(kept), False
        ctx.save_for_backward(*tensors, *kept)
        ctx.set_materialize_grads(False)
        if finish is None:
            ctx.mark_non_differentiable(*[r for r, n in zip(results, op.outputs, strict=True) if n not in op.terms or n == "weight"])
        return results

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> tuple[Any, ...]:
        op, engine, count = ctx.op, ctx.engine, len(ctx.needs_input_grad) - 4
        if all(c is None for c in cotangents):
            return (None,) * (count + 4)
        saved = ctx.saved_tensors  # read once: checkpoints allow no more
        inputs, kept = saved[:count], () if ctx.is_consumed else saved[count:]
        g = None if torch.is_grad_enabled() else engine.readable(cotangents)
        results = None if g is None else engine.backward(op, ctx.finish, inputs, kept, ctx.serves, g)
        if results is None:  # create_graph; many cotangents at once, of vmap; or something watches the backward pass
            results = _differentiate(op, ctx.finish, inputs, cotangents)
        else:
            ctx.is_consumed = True
        return None, None, None, None, *results, *[None] * (count - op.predictions)


def _differentiate(op: Any, finish: Any, inputs: Sequence[Tensor], cotangents: Sequence[Any]) -> list[Tensor | None]:
    """The gradients of the predictions by array code that can be differentiated again; None for a constant one."""
    with torch.enable_grad():
        leaves = [a if a.requires_grad else a.detach() for a in inputs]
        sums = _GeneralWithJvp.apply(op, *leaves)
        outputs = sums if finish is None else (next(finish(xp, sums)),)
    outputs, g = zip(*[(o, c) for o, c in zip(outputs, cotangents, strict=True) if c is not None], strict=True)
    places = [i for i in range(op.predictions) if leaves[i].requires_grad]
    gradients = torch.autograd.grad(outputs, [leaves[i] for i in places], g, create_graph=torch.is_grad_enabled())
    by_place = dict(zip(places, gradients, strict=True))
    return [by_place.get(i) for i in range(op.predictions)]


class Torch(Adapter):
    """Chooses between the engines and the general Function."""

    conversion, compares_devices = "as_tensor", True
    to_integers, to_floats = ".long()", ".float()"

    def host_view(self, a: Tensor) -> Any:
        views = None if torch_host is None else torch_host.views_of((a,))
        return views and views[0]

    def owns(self, a: Any) -> bool:
        return isinstance(a, Tensor)

    def as_array(self, a: Any, like: Tensor, name: str) -> Tensor:
        a = super().as_array(a, like, name)
        if a.is_nested or a.layout is not torch.strided:
            kind, remedy = ("torch.nested", "to_padded_tensor(0.0) and where=") if a.is_nested else (a.layout, "to_dense()")
            raise TypeError(f"{name} must be a dense tensor; got {kind}: pass {name}.{remedy}")
        a = a.long() if a.dtype in (torch.uint16, torch.uint32, torch.uint64) else a  # which PyTorch does not order or choose from
        is_marked = type(a) not in PLAIN and type(a).__torch_dispatch__ is Tensor.__torch_dispatch__  # images and masks of other packages
        return a.as_subclass(Tensor) if is_marked else a

    def symbolic_number(self, number: float, dtype: Any, like: Tensor) -> Tensor | None:
        if not torch.compiler.is_compiling():
            return None
        from torch.fx.experimental import symbolic_shapes

        # PyTorch 2.6 has no such function
        is_static = getattr(symbolic_shapes, "has_static_value", lambda number: isinstance(number, (int, float)))(number)
        return None if is_static else torch.ones((), dtype=dtype, device=like.device) * number

    def has_float64(self, x: Tensor, *, for_parts: bool = False) -> bool:
        return x.device.type != "mps"

    def forward(self, op: Any, arrays: Sequence[Tensor]) -> Tensors:
        return self._run(op, None, arrays)

    def value(self, call: Call) -> Tensor:
        if call.finish.is_static and (call.finish.reduction != "none" or call.operation.is_local):
            return self._run(call.operation, call.finish, call.arrays)[0]
        return super().value(call)

    def value_and_grad(self, call: Call) -> tuple[Tensor, Tensors]:
        op, finish, arrays = call.operation, call.finish, call.arrays
        engine, views = _engine(arrays) if finish.is_static and not _need_grad(arrays) else NONE
        return super().value_and_grad(call) if engine is None else engine.value_and_grad(op, finish, views, arrays[0].dtype)

    def derivatives(self, call: Call) -> tuple[Tensors, ...]:
        engine, views = NONE if _need_grad(call.arrays) else _engine(call.arrays)
        return super().derivatives(call) if engine is None else engine.derivatives(call.operation, views, call.arrays[0].dtype)

    def _run(self, op: Any, finish: Any, arrays: Sequence[Tensor]) -> Tensors:
        """The sums; with a finish the number, as a tuple of one."""
        needs_grad = _need_grad(arrays)
        engine, views = NONE if needs_grad and _need_grad(arrays[op.predictions :]) else _engine(arrays)
        if engine is None:
            if not torch.compiler.is_compiling():
                sums = _GeneralWithJvp.apply(op, *arrays)
            else:  # without a gradient no Function: dynamo would hand our forward a context
                sums = _General.apply(op, *arrays) if needs_grad else _forward(op, arrays)
            return sums if finish is None else (next(finish(xp, sums)),)
        if needs_grad:
            return _Plain.apply(engine, op, finish, views, *arrays)
        return engine.forward(op, finish, views, arrays[0].dtype)


def _engine(arrays: Sequence[Tensor]) -> tuple[Any, Any]:
    """What computes these tensors, and the tensors as it reads them."""
    if torch.compiler.is_compiling():
        return NONE
    engine = _device() if arrays[0].is_cuda else torch_host
    views = None if engine is None else engine.views_of(arrays)
    return NONE if views is None else (engine, views)


@cache
def _device() -> Any:
    """The engine of CUDA tensors, where CuPy works."""
    if find_spec("cupy") is None:
        return None
    try:
        return import_module("arrayloss.adapters.torch_device")
    except Exception as error:
        warn(f"losses of CUDA tensors are computed by PyTorch's own operations, which is slower: CuPy fails with {error}", stacklevel=2)
        return None


def _need_grad(arrays: Sequence[Tensor]) -> bool:
    return torch.is_grad_enabled() and any(a.requires_grad for a in arrays)


ADAPTER = Torch(xp, "torch")
torch.utils._pytree.register_pytree_node(Parts, lambda p: (list(p.arrays), p.sources), lambda a, sources: Parts(sources, tuple(a)))
