"""JAX: a `custom_jvp` that knows the slope, jitted so that eager calls do not run one operation at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arrayloss.core import special

from .base import Adapter, Pull

Array = Any


def _is_split(a: Array, axis: int) -> bool:
    """Whether each device has some of the classes (of an explicit mesh): a gather would need them all, a comparison does not."""
    return jax.typeof(a).sharding.spec[axis] is not None


def _moves(tangent: Any) -> bool:
    return not isinstance(tangent, jax.custom_derivatives.SymbolicZero)


@jax.custom_jvp  # type: ignore[untyped-decorator]  # JAX does not type it
def _divide(a: Array, b: Array) -> Array:
    """a / b; JAX's own derivative squares 1 / b, which is infinite from b = 5e-20 on in float32."""
    return a / b


@partial(_divide.defjvp, symbolic_zeros=True)
def _divide_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    (a, b), (da, db) = primals, tangents
    quotient = jax.lax.optimization_barrier(_divide(a, b))  # XLA makes a / (b * b) of (a / b) / b
    moved = jnp.zeros_like(quotient)
    if _moves(da):
        moved = moved + _divide(da, b)
    if _moves(db):  # not 0 * inf where b stands still
        moved = moved - _divide(quotient, b) * db
    return quotient, moved


class _Namespace(special.Native):
    """`jax.numpy`, with what differs under a tracer."""

    library = jnp

    divide = staticmethod(_divide)

    @staticmethod
    def as_index(a: Array) -> Array:
        return a.astype(jnp.int32) if a.dtype == jnp.bool_ else a  # JAX gathers with any integer; int64 may not exist

    @staticmethod
    def positions(a: Array, axis: int) -> Array:
        if _is_split(a, axis):
            return jax.lax.broadcasted_iota(jnp.int32, a.shape, axis, out_sharding=jax.typeof(a).sharding)
        return jnp.reshape(jnp.arange(a.shape[axis]), tuple(-1 if i == axis % a.ndim else 1 for i in range(a.ndim)))

    @staticmethod
    def at_label(a: Array, labels: Array, axis: int) -> Array:
        if _is_split(a, axis):
            here = xp.positions(a, axis) == labels
            return jnp.sum(jnp.where(here, a, jnp.zeros_like(a)), axis=axis, keepdims=True)
        return jnp.take_along_axis(a, labels, axis=axis, mode="promise_in_bounds")


xp = _Namespace()


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _outputs(op: Any, *arrays: Array) -> tuple[Array, ...]:
    return op.forward(xp, arrays)


@partial(_outputs.defjvp, symbolic_zeros=True)
def _outputs_jvp(op: Any, primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    moving = [_moves(t) for t in tangents]
    outputs, residual = op.linearize(xp, primals)
    counts = [not jnp.issubdtype(o.dtype, jnp.floating) for o in outputs]
    moved = [
        jax.custom_derivatives.zero_from_primal(o, symbolic_zeros=True) if c else jnp.zeros_like(o)
        for o, c in zip(outputs, counts, strict=True)
    ]
    if any(moving[: op.predictions]):
        directions = [t if m else None for t, m in zip(tangents[: op.predictions], moving, strict=False)]
        for i, m in enumerate(op.push(xp, primals, residual, directions)):
            moved[i] = moved[i] if m is None else m
    live = [i for i in range(op.predictions, len(primals)) if moving[i] and jnp.issubdtype(primals[i].dtype, jnp.floating)]
    if live:

        def value(*others: Array) -> tuple[Array, ...]:
            everything = list(primals)
            for i, a in zip(live, others, strict=True):
                everything[i] = a
            return op.forward(xp, everything)

        _, more = jax.jvp(value, tuple(primals[i] for i in live), tuple(tangents[i] for i in live))
        moved = [a if c else a + b for a, b, c in zip(moved, more, counts, strict=True)]
    return outputs, tuple(moved)


_run = jax.jit(_outputs, static_argnums=0)


@partial(jax.jit, static_argnums=0)
def _linearize(op: Any, *arrays: Array) -> tuple[Any, Any]:
    return op.linearize(xp, arrays)


@partial(jax.jit, static_argnums=0)
def _pull(op: Any, arrays: Any, residual: Any, cotangents: Any) -> Any:
    return op.pull(xp, arrays, residual, cotangents)


@partial(jax.jit, static_argnums=0)
def _derivatives(op: Any, *arrays: Array) -> Any:
    return op.step(xp, arrays, 2)[1:]


class Jax(Adapter):
    """Jitted primitives."""

    has_autograd = True

    def __init__(self) -> None:
        super().__init__(xp)
        self.name = "jax"

    def accept(self, array: Any, like: Array, name: str) -> Array:
        if isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray | np.matrix):
            if array.dtype.kind in "iu" and array.itemsize == 8 and not jax.config.jax_enable_x64:
                array = np.clip(array, 0 if array.dtype.kind == "u" else -(2**31), 2**31 - 1)  # JAX would wrap: 2**32 + 1 is no label 1
            return jnp.asarray(array)  # targets of a NumPy data loader beside JAX predictions
        return super().accept(array, like, name)

    def conversion(self, name: str) -> str:
        return f"convert it first, such as by jax.numpy.asarray({name})"

    def constant(self, values: Any, dtype: Any, like: Array) -> Array:
        return jnp.asarray(values, dtype=dtype)

    def has_float64(self, array: Array) -> bool:
        return bool(jax.config.jax_enable_x64)

    def forward(self, op: Any, arrays: Sequence[Array]) -> tuple[Array, ...]:
        return _run(op, *arrays)

    def linearize(self, op: Any, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], Pull]:
        outputs, residual = _linearize(op, *arrays)
        return outputs, lambda cotangents: _pull(op, tuple(arrays), residual, tuple(cotangents))

    def derivatives(self, op: Any, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        return _derivatives(op, *arrays)


ADAPTER = Jax()


def _register_parts() -> None:
    from arrayloss.core.parts import Parts

    def made(kind: Any, arrays: Any) -> Parts:
        names, rule = kind
        return Parts(names, tuple(arrays), rule)

    jax.tree_util.register_pytree_node(Parts, lambda p: (p.arrays, (p.names, p.rule)), made)


_register_parts()
