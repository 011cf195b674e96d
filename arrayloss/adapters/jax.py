"""JAX: a `custom_jvp` whose rule is the transposed pullback, jitted so that eager calls do not run one operation at a time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero, zero_from_primal

from arrayloss.core import dtypes, special
from arrayloss.core.parts import FLOAT64, Parts

from .base import Adapter, Array, Arrays, Call

_x64 = getattr(jax, "enable_x64", nullcontext)  # in older versions arrays of 64 bits become ones of 32 behind such a context


def _has_tangent(tangent: Any) -> bool:
    return not isinstance(tangent, SymbolicZero)


def _is_split(a: Array, axis: int) -> bool:
    """Whether every device of an explicit mesh has a part of the axis: a gather is refused there, a comparison is not."""
    return hasattr(jax, "typeof") and jax.typeof(a).sharding.spec[axis] is not None  # older versions have no explicit meshes


@jax.custom_jvp  # type: ignore[untyped-decorator]
def _divide(a: Array, b: Array) -> Array:
    """a / b. JAX's own derivative squares 1 / b, which is infinite from b = 5e-20 on in float32."""
    return a / b


@partial(_divide.defjvp, symbolic_zeros=True)
def _divide_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    (a, b), (da, db) = primals, tangents
    quotient = _divide(a, b)
    tangent = _divide(da, b) if _has_tangent(da) else jnp.zeros_like(quotient)
    if _has_tangent(db):  # without a tangent 0 * inf would be NaN
        tangent = tangent - quotient * _divide(db, b)  # XLA would rewrite (a / b) / b as a / (b * b)
    return quotient, tangent


class _Namespace(special.Native):
    """`jax.numpy`, for tracers and arrays that are split over devices."""

    library = jnp
    int64 = property(lambda self: jnp.int64 if jax.config.jax_enable_x64 else jnp.int32)  # the widest integers that are enabled

    def asarray(self, a: Any, dtype: Any = None, device: Any = None) -> Array:
        """Without a device: JAX moves constants to the arrays beside them, and the device of a split array has a rank."""
        return jnp.asarray(a, dtype=dtype)

    def full(self, shape: Any, number: float, dtype: Any = None, device: Any = None) -> Array:
        return jnp.full(shape, number, dtype=dtype)

    def as_index(self, a: Array) -> Array:
        return a.astype(jnp.int32) if a.dtype == jnp.bool_ else a  # JAX gathers with any integer

    def arange_along(self, a: Array, axis: int) -> Array:
        if _is_split(a, axis):
            return jax.lax.broadcasted_iota(jnp.int32, a.shape, axis, out_sharding=jax.typeof(a).sharding)
        return jnp.reshape(jnp.arange(a.shape[axis]), tuple([-1 if i == axis else 1 for i in range(a.ndim)]))

    def gather_label(self, a: Array, labels: Array, axis: int) -> Array:
        if _is_split(a, axis):
            return jnp.sum(jnp.where(self.arange_along(a, axis) == labels, a, 0), axis=axis, keepdims=True)
        return jnp.take_along_axis(a, labels, axis=axis, mode="promise_in_bounds")  # labels have been masked

    def sum_to(self, a: Array, shape: tuple[int, ...], axes: tuple[int, ...], dtype: Any) -> Array:
        with _x64(dtype == jnp.float64 or jax.config.jax_enable_x64):  # parts have 64 bits also where x64 is not enabled
            return special.generic(special.sum_to)(self, a, shape, axes, self.int64 if dtypes.kind(a.dtype) == "integer" else dtype)

    def label_columns(self, like: Array, labels: Array) -> Any:
        at = jnp.arange(like.shape[0]), labels
        return lambda a: a[at], lambda b: jnp.zeros_like(like).at[at].add(b)

    quotient = staticmethod(lambda _, a, b: _divide(a, b))
    scan = staticmethod(lambda _, body, *rest, reverse=False: jax.lax.scan(jax.checkpoint(body, prevent_cse=False), *rest, reverse=reverse))


xp = _Namespace()
_plain = Adapter(xp, "jax")


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sums(op: Any, *arrays: Array) -> Arrays:
    return _plain.forward(op, arrays)


@partial(_sums.defjvp, symbolic_zeros=True)
def _sums_jvp(op: Any, primals: Arrays, tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """The tangents of predictions go through the transpose of the pullback, those of other arrays through autodiff of the sums."""
    sums, pullback = op.vjp(xp, primals)
    outputs = op.to_result(xp, primals[0], sums())
    floating = {i: s for i, s in enumerate(outputs) if jnp.issubdtype(s.dtype, jnp.floating)}  # counts have no tangent
    others = {i: a for i, a in enumerate(primals) if i >= op.predictions and _has_tangent(tangents[i])}

    def gradients(cotangents: dict[int, Array]) -> Arrays:
        return _plain.pull(op, primals[0], pullback, [cotangents.get(i) for i in range(len(outputs))])

    def sums_of(others: dict[int, Array]) -> dict[int, Array]:
        results = enumerate(_plain.forward(op, [others.get(i, a) for i, a in enumerate(primals)]))
        return {i: s for i, s in results if i in floating}

    tangents_out = {i: jnp.zeros_like(s) for i, s in floating.items()}
    if any(map(_has_tangent, tangents[: op.predictions])):
        directions = [t if _has_tangent(t) else jnp.zeros_like(x) for x, t in zip(primals, tangents, strict=True)]
        (tangents_out,) = jax.linear_transpose(gradients, floating)(tuple(directions[: op.predictions]))
    if others:
        _, more = jax.jvp(sums_of, (others,), ({i: tangents[i] for i in others},))
        tangents_out = jax.tree.map(jnp.add, tangents_out, more)
    return outputs, tuple([tangents_out[i] if i in floating else zero_from_primal(s, symbolic_zeros=True) for i, s in enumerate(outputs)])


@partial(jax.jit, static_argnums=0)
def _gradients(op: Any, arrays: Arrays, cotangents: Sequence[Any]) -> Arrays:
    return _plain.pull(op, arrays[0], op.vjp(xp, arrays)[1], cotangents)


@partial(jax.jit, static_argnums=0)
def _sums_and_gradients(op: Any, slope: Any, arrays: Arrays) -> tuple[Arrays, Arrays]:
    """For a slope of the first sum, the only one that the number depends on."""
    return _sums(op, *arrays), _gradients(op, arrays, (slope, *[None] * (len(op.outputs) - 1)))


_compiled_sums = jax.jit(_sums, static_argnums=0)
_compiled_finish = jax.jit(_plain.finish, static_argnums=0)
_derivatives = jax.jit(lambda op, *arrays: op.derivatives(xp, arrays), static_argnums=0)


class Jax(Adapter):
    """Jitted primitives. NumPy arrays beside those of JAX are JAX's."""

    conversion = "numpy.asarray"
    float64 = staticmethod(partial(_x64, True))

    def owns(self, a: Any) -> bool:
        return isinstance(a, jax.Array)

    def as_array(self, a: Any, like: Array, name: str) -> Array:
        if not isinstance(a, np.ndarray) or isinstance(a, np.ma.MaskedArray | np.matrix):
            return super().as_array(a, like, name)
        if dtypes.kind(a.dtype) == "other":  # JAX has no such array; the check of its dtype names the argument
            return a
        a = a.astype(a.dtype.newbyteorder("="), copy=False)
        if a.dtype.kind in "iu" and a.itemsize == 8 and not self.has_float64(like):
            a = np.clip(a, 0 if a.dtype.kind == "u" else -(2**31), 2**31 - 1)  # JAX would wrap: 2**32 + 1 is no label 1
        return jnp.asarray(a)

    def has_float64(self, x: Array, *, for_parts: bool = False) -> bool:
        return (for_parts and _x64 is not nullcontext) or bool(jax.config.jax_enable_x64)

    def forward(self, op: Any, arrays: Sequence[Array]) -> Arrays:
        return _compiled_sums(op, *arrays)

    def finish(self, finish: Any, sums: Sequence[Array]) -> Array:
        """Compiled unless it is one division, by a number that may change from call to call, or holds arrays."""
        return (_compiled_finish if finish.is_static and finish.slope is None else super().finish)(finish, sums)

    def value_and_grad(self, call: Call) -> tuple[Array, Arrays]:
        op, finish, arrays = call.operation, call.finish, call.arrays
        if finish.slope is not None:
            sums, gradients = _sums_and_gradients(op, finish.slope, arrays)
            return self.finish(finish, sums), gradients
        steps = finish(xp, self.forward(op, arrays))
        return next(steps), _gradients(op, arrays, next(steps))

    def derivatives(self, call: Call) -> tuple[Arrays, ...]:
        return tuple([self.cast(many, call.arrays[0]) for many in _derivatives(call.operation, *call.arrays)])


ADAPTER = Jax(xp, "jax")
FLOAT64[jnp] = ADAPTER.float64
jax.tree_util.register_pytree_node(Parts, lambda p: (p.arrays, p.sources), lambda sources, arrays: Parts(sources, tuple(arrays)))
