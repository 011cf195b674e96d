"""NumPy's primitives for kernels: ufuncs that write into arrays that a function made itself.

A choice among random elements (`numpy.where`) mispredicts a branch every other time, 40 times the cost of an addition; here
it is arithmetic on bits. Reductions along short rows and gathers by fancy indices have cheaper forms too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from arrayloss.core import reduction, special

from .rows import others, together

Array = Any
LARGE = 2**10  # entries from which fewer logarithms count for more than fewer calls
GROUP = 8  # elements of which the product of all 1 + u is far from overflow
_BITS = {np.dtype(np.float32): np.dtype(np.int32), np.dtype(np.float64): np.dtype(np.int64)}
_UNSIGNED = {np.dtype(f"int{n}"): np.dtype(f"uint{n}") for n in (8, 16, 32, 64)}
_SIGN = {dtype: np.array(1, bits).view(bits) << (8 * bits.itemsize - 1) for dtype, bits in _BITS.items()}  # the bit that -0.0 sets


def _own(namespace: type) -> dict[str, Any]:
    return {name: getattr(namespace, name) for name in vars(namespace) if not name.startswith("_")}


def _generic(function: Any) -> Callable[..., Any]:
    """The array API form of a special function."""
    return function.__wrapped__


def _chosen(mask: Array, a: Array, b: Array) -> Array:
    """The bits of `a` where those of the mask are set, else those of `b`; all three are integers."""
    bits = np.bitwise_xor(a, b)
    bits = np.bitwise_and(bits, mask, out=bits) if bits.shape == mask.shape else bits & mask
    return np.bitwise_xor(bits, b, out=bits) if bits.shape == np.broadcast_shapes(bits.shape, b.shape) else bits ^ b


def _starts(outer: int, row: int, inner: int) -> Array:
    """Where rows begin in a contiguous array, by the place of their labels."""
    return (np.arange(outer)[:, None] * row + np.arange(inner)).ravel()


_known_starts = lru_cache(64)(_starts)  # of small arrays, which take longer to make than to read


def _flat(labels: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Where the entries that labels name lie in a contiguous array of that shape."""
    inner = prod(shape[axis + 1 :])
    starts = _known_starts if labels.size <= LARGE else _starts
    labels = labels.reshape(-1)
    return starts(prod(shape[:axis]), shape[axis] * inner, inner) + (labels if inner == 1 else labels * inner)


def _others(p: Array, axis: int) -> Array:
    """For every class of a row the sum of the others."""
    q = np.empty_like(p)
    others(np.add, np.moveaxis(p, axis, 0), np.moveaxis(q, axis, 0), np.empty_like)
    return q


def _logistic(x: Array, near: Callable[[Array], Array]) -> tuple[Array, Array, Array, Callable[[], Array]]:
    """With the sign of a number as a bit, since `numpy.copysign` takes as long as an exponential; `near` of u = exp(-|x|)."""
    sign = _SIGN[x.dtype]
    bits = np.ascontiguousarray(x).view(sign.dtype)
    u = np.bitwise_or(bits, sign).view(x.dtype)
    u = np.exp(u, out=u)
    q = 1 + u
    q = np.divide(u, q, out=q)
    bits = np.bitwise_and(bits, sign)
    h = np.equal(bits, 0, out=np.empty_like(u))
    return h, q, near(u), lambda: np.bitwise_or(bits, q.view(sign.dtype), out=bits).view(x.dtype)


class Namespace(special.Native):
    """The array API on NumPy, with its special functions in few passes."""

    library = xp

    def native(self, name: str) -> Any:
        return _OWN.get(name)

    careful: Any  # the same without quick forms

    @staticmethod
    def for_sweep(op: Any, x: Array) -> Any:
        """The same for the blocks of one operation."""
        return _ADDING if op.added and x.size >= LARGE and x.dtype.itemsize <= 8 else NAMESPACE

    def at(self, places: Any) -> Namespace:
        """The same with places for what the next block keeps; they are not used."""
        return self

    @staticmethod
    def is_sound(a: Array) -> bool:
        """Whether there is neither a NaN nor an infinity in it; there may be none too where a sum of it overflows."""
        return abs(float(a.item() if a.size == 1 else np.add.reduce(a, axis=None))) < float("inf")

    float32, float64, int64 = np.float32, np.float64, np.int64
    multiply = staticmethod(np.multiply)
    magnitude = staticmethod(lambda off, h: np.abs(off))
    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    log1p = staticmethod(np.log1p)
    zeros_like = staticmethod(np.zeros_like)
    ones_like = staticmethod(np.ones_like)
    full_like = staticmethod(np.full_like)
    broadcast_to = staticmethod(np.broadcast_to)

    @staticmethod
    def astype(x: Array, dtype: Any, *, copy: bool = True) -> Array:
        return x.astype(dtype, copy=copy)

    @staticmethod
    def sum(x: Array, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:
        return np.add.reduce(x, axis=axis, dtype=dtype, keepdims=keepdims)

    @staticmethod
    def total(a: Array, shape: tuple[int, ...], axes: tuple[int, ...], dtype: Any, lines: bool = False) -> Array:
        if axes and a.shape == shape:
            return np.add.reduce(a, axis=axes, dtype=dtype, keepdims=True)
        return _generic(reduction.total)(NAMESPACE, a, shape, axes, dtype, lines)

    @staticmethod
    def quotient(a: Array, divisor: float, shape: tuple[int, ...], dtype: Any) -> Array:
        """Of one number in Python, which rounds the same way."""
        if shape == () and a.dtype == np.float64:
            return np.dtype(dtype).type(a.item() / divisor)
        return np.divide(a.reshape(shape), divisor).astype(dtype, copy=False)

    @staticmethod
    def as_index(a: Array) -> Array:
        return a if a.dtype == np.int64 else a.astype(np.int64)

    @staticmethod
    def reshape(x: Array, shape: tuple[int, ...]) -> Array:
        return x.reshape(shape)

    @staticmethod
    def where(condition: Array, a: Any, b: Any) -> Array:
        like = a if isinstance(a, np.ndarray) else b
        kind = _BITS.get(like.dtype) if isinstance(like, np.ndarray) and like.ndim else None
        if kind is None or any(isinstance(c, np.ndarray) and c.dtype != like.dtype for c in (a, b)):
            return xp.where(condition, a, b)
        mask = condition.astype(kind)
        first, second = (np.asarray(c, dtype=like.dtype).view(kind) for c in (a, b))
        return _chosen(np.negative(mask, out=mask), first, second).view(like.dtype)

    @staticmethod
    def mix(a: Any, b: Any, t: Array) -> Array:
        if special.is_hard(t):
            return NAMESPACE.where(t, a, b)
        first, second = t * a, 1 - t
        return np.add(first, np.multiply(second, b, out=second) if second.shape == np.shape(b) and second.ndim else second * b)

    @staticmethod
    def sigmoid_pair(x: Array) -> tuple[Array, Array]:
        """1 / (1 + u) and u / (1 + u) with u = exp(-|x|), changed places where x is negative."""
        kind = _BITS.get(x.dtype)
        if kind is None or not isinstance(x, np.ndarray) or not x.ndim:
            return _generic(special.sigmoid_pair)(xp, x)
        u = np.abs(x)
        u = np.exp(np.negative(u, out=u), out=u)
        p = 1 + u
        q = np.divide(u, p, out=u)
        p = np.divide(1, p, out=p)
        p_bits, q_bits = p.view(kind), q.view(kind)
        change = np.bitwise_xor(p_bits, q_bits)
        change &= np.ascontiguousarray(x).view(kind) >> (8 * kind.itemsize - 1)  # all bits of a negative number's place
        p_bits ^= change
        q_bits ^= change
        return p, q

    @staticmethod
    def logistic(x: Array) -> tuple[Array, Array, Array, Callable[[], Array]]:
        if x.dtype not in _SIGN or not isinstance(x, np.ndarray) or not x.ndim:
            return _generic(special.logistic)(xp, x)
        return _logistic(x, np.log1p)

    @staticmethod
    def beside(a: Array, factor: Any, b: Array, t: Array) -> Array:
        result = -2 * t
        result += 1
        result *= b
        result *= factor
        result += a
        return result

    @staticmethod
    def plus_product(c: Array, a: Array, b: Array) -> Array:
        """Quick: a NaN for 0 times infinity."""
        c += a * b
        return c

    @staticmethod
    def ratio(a: Any, b: Array, zero_over_zero: Any) -> Array:
        if b.size and float(b.min()) > 0:
            return a / b
        return _generic(special.ratio)(NAMESPACE, a, b, zero_over_zero)

    @staticmethod
    def in_range(labels: Array, classes: int) -> bool:
        """In one reduction: a negative number is a large one without its sign."""
        unsigned = _UNSIGNED.get(labels.dtype)
        return int(np.maximum.reduce(labels if unsigned is None else labels.view(unsigned), axis=None)) < classes

    @staticmethod
    def bounds(a: Array) -> tuple[int, int]:
        return int(a.min()), int(a.max())

    @staticmethod
    def at_label(a: Array, labels: Array, axis: int) -> Array:
        if not a.flags.c_contiguous:
            return np.take_along_axis(a, labels, axis=axis)
        return a.reshape(-1)[_flat(labels, a.shape, axis)].reshape(labels.shape)

    @staticmethod
    def with_label(a: Array, labels: Array, entries: Any, axis: int) -> Array:
        made = np.array(a, order="C")
        made.reshape(-1)[_flat(labels, a.shape, axis)] = entries.reshape(-1) if isinstance(entries, np.ndarray) else entries
        return made

    @staticmethod
    def softmax_parts(
        x: Array, axis: int, kept: Array | None = None, place: Array | None = None
    ) -> tuple[None, Array, Callable[[], Array]]:
        """q is the sum of the others' p. `softmax_back` finds the maximum when it needs it. Quick: a NaN for infinite logits."""
        if not 2 <= x.shape[axis] <= 32 or not x.size:
            return _generic(special.softmax_parts)(NAMESPACE, x, axis)
        p = kept
        if p is None:
            p = np.subtract(x, x.max(axis=axis, keepdims=True), out=place)
            p = np.exp(p, out=p)
            p = np.divide(p, np.add.reduce(p, axis=axis, keepdims=True), out=p)
        return None, p, lambda: _others(p, axis)

    @staticmethod
    def softmax_back(top: Array | None, p: Array, u: Array, axis: int) -> Array:
        """In place on p."""
        best = p.max(axis=axis, keepdims=True)
        top_only = p == best
        if np.count_nonzero(top_only) != best.size:  # a row has two maxima, or a NaN
            return _generic(special.softmax_back)(NAMESPACE, np.expand_dims(p.argmax(axis=axis), axis), p, u, axis)
        v = np.multiply(top_only.view(np.uint8), u, dtype=u.dtype)
        v = np.subtract(u, together(np.add, np.split(v, v.shape[axis], axis)), out=v)
        v -= together(np.add, np.split(p * v, v.shape[axis], axis))
        return np.multiply(p, v, out=p)

    @staticmethod
    def softmax_pair(x: Array, axis: int, kept: Array | None = None) -> tuple[Array, Array, Array, Array]:
        if kept is None or not 2 <= x.shape[axis] <= 32 or not float(kept.min(initial=1)) > 1e-30:
            return _generic(special.softmax_pair)(NAMESPACE, x, axis)
        q = _others(kept, axis)
        loss = q / kept
        return np.expand_dims(kept.argmax(axis=axis), axis), kept, q, np.log1p(loss, out=loss)

    @staticmethod
    def softmax_at_label(x: Array, labels: Array, axis: int, kept: Array | None = None) -> tuple[Array, Array, Array]:
        """q_y = 1 - p_y is the sum beside the label; -log(p_y) is log1p(rest / e_y), of which nothing cancels.

        The maximum of a row need not be taken off where the sum of its exponentials is neither small nor large: what is lost
        below the smallest number is then no number after the division either, and no quotient overflows.
        """
        places = _flat(labels, x.shape, axis)
        e = np.exp(x, order="C") if kept is None else np.array(kept, order="C")
        e_y, rest = _taken_out(e, places, labels.shape, axis)
        s = rest + e_y
        if kept is None and not (s.min(initial=1) >= 1 and s.max(initial=1) < 1e7):
            e = np.subtract(x, x.max(axis=axis, keepdims=True), order="C")
            e = np.exp(e, out=e)
            e_y, rest = _taken_out(e, places, labels.shape, axis)
            s = rest + e_y
        if not e_y.min(initial=1) > 1e-30:  # too far below the maximum; or NaN, which an infinite maximum gives too
            return _generic(special.softmax_at_label)(NAMESPACE, x, labels, axis)
        if kept is None:
            e /= s
        q = rest / s
        e.reshape(-1)[places] = -q.reshape(-1)
        return np.log1p(rest / e_y), e, q


def _taken_out(e: Array, places: Array, shape: tuple[int, ...], axis: int) -> tuple[Array, Array]:
    """The entries at those places, which become 0, and the sums of the others of each row."""
    flat = e.reshape(-1)
    taken = flat[places].reshape(shape)
    flat[places] = 0
    return taken, np.add.reduce(e, axis=axis, keepdims=True)


_OWN = _own(Namespace)


class _Adding(Namespace):
    """For values of which only the sum is wanted: `logistic` gives u for log1p(u), and `plus_product` puts the logarithms of a group
    into the place of one of its elements.
    """

    def native(self, name: str) -> Any:
        return {"logistic": _Adding.logistic, "plus_product": _Adding.plus_product}.get(name) or _OWN.get(name)

    @staticmethod
    def logistic(x: Array) -> tuple[Array, Array, Array, Callable[[], Array]]:
        return _logistic(x, lambda u: u)

    @staticmethod
    def plus_product(u: Array, a: Array, b: Array) -> Array:
        """Quick: a NaN for 0 times infinity."""
        value = np.multiply(a, b, order="C")
        u, flat = u.reshape(-1), value.reshape(-1)
        whole = u.size // GROUP * GROUP
        few = u[:whole]
        while few.size > whole // GROUP:  # (1 + a) * (1 + b) is 1 + (a + b + a * b), of which nothing cancels
            a, b = few[: few.size // 2], few[few.size // 2 :]
            few = a * b
            few += a
            few += b
        flat[: few.size] += np.log1p(few)
        flat[whole:] += np.log1p(u[whole:])
        return value


class _Careful(Namespace):
    """Without the quick forms, which make a NaN of an infinity where there is a limit."""

    def native(self, name: str) -> Any:
        return None if name in ("plus_product", "softmax_parts") else _OWN.get(name)


Namespace.careful = _Careful()
_ADDING = _Adding()
NAMESPACE = Namespace()
