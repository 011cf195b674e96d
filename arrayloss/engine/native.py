"""NumPy's primitives for kernels: ufuncs that write into the temporaries of a function."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import array_api_compat.numpy as library
import numpy as np

from arrayloss.core import special

Array = Any
MASKS = 8  # up to so many classes across memory a comparison takes less time than scattering
FEW = 32  # up to so many classes columns are added one by one
_BITS = {np.dtype(np.float32): np.dtype(np.int32), np.dtype(np.float64): np.dtype(np.int64)}
_SIGN = {dtype: np.array(1, bits).view(bits) << (8 * bits.itemsize - 1) for dtype, bits in _BITS.items()}  # the bit that -0.0 sets
_UNSIGNED = {np.dtype(f"int{n}"): (np.dtype(f"uint{n}"), 2 ** (n - 1) - 1) for n in (8, 16, 32, 64)}  # and the largest signed number


@lru_cache(64)
def _starts(outer: int, row: int, inner: int) -> Array:
    """Where the first entry of every row lies in a contiguous array."""
    return (np.arange(outer)[:, None] * row + np.arange(inner)).ravel()


def _flat_positions(labels: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Where the entries that labels name lie in a contiguous array of that shape."""
    inner = prod(shape[axis + 1 :])
    starts = (_starts if labels.size <= 1024 else _starts.__wrapped__)(prod(shape[:axis]), shape[axis] * inner, inner)
    labels = labels.reshape(-1)
    return starts + (labels if inner == 1 else labels * inner)


def pairwise_sum(columns: Array) -> Array:
    """The sum over the first axis, by halves."""
    half = len(columns) // 2
    return columns[0] if half == 0 else np.add(pairwise_sum(columns[:half]), pairwise_sum(columns[half:]))


def leave_one_out_sums(columns: Array, out: Array) -> Array:
    """Each is the sum of the other columns: 1 - p of a softmax, without cancellation. Rounding grows with log(C) only."""
    n = len(columns)
    if n <= 2:
        out[...] = columns[::-1] if n == 2 else 0
        return out
    even, odd, single = columns[: n - 1 : 2], columns[1::2], columns[n - n % 2 :]
    pairs = len(odd)
    sums = np.empty_like(columns[: pairs + len(single)])
    np.add(even, odd, out=sums[:pairs])
    sums[pairs:] = single
    sums_of_others = leave_one_out_sums(sums, np.empty_like(sums))
    np.add(odd, sums_of_others[:pairs], out=out[: n - 1 : 2])
    np.add(even, sums_of_others[:pairs], out=out[1::2])
    out[2 * pairs :] = sums_of_others[pairs:]
    return out


class Exact(special.Native):
    """The array API on NumPy; special functions in few passes, with the limits of the generic ones."""

    library = library
    float32, float64, int64 = np.float32, np.float64, np.int64
    bfloat16 = np.float32  # NumPy has none: the adapter of PyTorch rounds
    exp, log, log1p = staticmethod(np.exp), staticmethod(np.log), staticmethod(np.log1p)
    zeros_like, ones_like, broadcast_to = staticmethod(np.zeros_like), staticmethod(np.ones_like), staticmethod(np.broadcast_to)

    @staticmethod
    def astype(x: Array, dtype: Any, *, copy: bool = True) -> Array:
        return x.astype(dtype, copy=copy)

    @staticmethod
    def reshape(x: Array, shape: tuple[int, ...]) -> Array:
        return x.reshape(shape)

    @staticmethod
    def sum(x: Array, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:
        return np.add.reduce(x, axis=axis, dtype=dtype, keepdims=keepdims)

    def sum_to(self, a: Array, shape: tuple[int, ...], axes: tuple[int, ...], dtype: Any) -> Array:
        """Groups of 64 are added in float32: a quarter of the time of a cast to float64, 0.02 ulp of the sum, nothing of equal numbers."""
        last = len(shape) - 1
        if a.shape == shape and a.size >= 2**12 and last in axes and shape[-1] % 64 == 0 and a.dtype == np.float32:
            a = np.einsum("...i->...", a.reshape(*shape[:-1], -1, 64))
            return np.add.reduce(a, axis=axes, dtype=dtype, keepdims=True)
        return special.generic(special.sum_to)(self, a, shape, axes, dtype)

    def clip(self, x: Array, /, min: Any = None, max: Any = None) -> Array:
        return x.clip(min, max)

    @staticmethod
    def where(condition: Array, a: Any, b: Any) -> Array:
        """By bits for equal shapes: `np.where` mispredicts a branch at every other random element, 40 times the cost of an addition."""
        like = a if isinstance(a, np.ndarray) else b
        integer = _BITS.get(like.dtype) if isinstance(like, np.ndarray) and like.shape == condition.shape and like.ndim else None
        if integer is None or any(isinstance(c, np.ndarray) and (c.dtype != like.dtype or c.shape != like.shape) for c in (a, b)):
            return library.where(condition, a, b)
        mask = condition.astype(integer)
        mask = np.negative(mask, out=mask)
        first, second = (np.asarray(c, dtype=like.dtype).view(integer) for c in (a, b))
        bits = np.bitwise_and(np.bitwise_xor(first, second), mask, out=mask)
        return np.bitwise_xor(bits, second, out=bits).view(like.dtype)

    def lerp(self, b: Any, a: Any, t: Array) -> Array:
        if special.is_boolean(t):
            return self.where(t, a, b)
        result, rest = t * a, 1 - t
        rest = np.multiply(rest, b, out=rest) if rest.shape == np.shape(b) and rest.ndim else rest * b
        return np.add(result, rest, out=result) if result.shape == rest.shape and result.ndim else result + rest

    def sigmoid_terms(self, x: Array) -> tuple[Array, Array, Callable[[], Array], Callable[..., Array]]:
        """With the sign of a number as a bit: `numpy.copysign` takes the time of an exponential."""
        if x.dtype not in _SIGN or not x.ndim:
            return special.generic(special.sigmoid_terms)(library, x)
        sign = _SIGN[x.dtype]
        u = np.bitwise_or(np.ascontiguousarray(x).view(sign.dtype), sign).view(x.dtype)
        u = np.exp(u, out=u)
        step = np.greater_equal(x, 0, out=np.empty_like(u))
        tail = 1 + u
        tail = np.divide(u, tail, out=tail)

        def add_sigmoid_minus_step(a: Array, weight: Any = None) -> Array:
            bits = np.left_shift(step.view(sign.dtype), 2)  # of 1.0 this is negative, of 0.0 it is not
            bits = np.bitwise_or(np.bitwise_and(bits, sign, out=bits), tail.view(sign.dtype), out=bits)
            difference = bits.view(x.dtype)
            difference = difference if weight is None else np.multiply(difference, weight, out=difference)
            return np.add(a, difference, out=difference)

        return step, tail, lambda: np.log1p(u, out=u), add_sigmoid_minus_step

    def multiply_no_nan(self, a: Array, b: Array) -> Array:
        """Looks for 0 times infinity only where the sum is not finite."""
        product = a * b
        if abs(float(np.add.reduce(product, axis=None))) < float("inf"):
            return product
        return library.where((a == 0) & np.isinf(b), 0.0, product)

    def divide(self, a: Any, b: Array, at_0_over_0: Any) -> Array:
        if b.size and float(b.min()) > 1e-30:
            return a / b
        return special.generic(special.divide)(self, a, b, at_0_over_0)

    def as_index(self, a: Array) -> Array:
        return a if a.dtype == np.int64 else a.astype(np.int64)

    def label_range(self, a: Array) -> tuple[int, int]:
        if a.dtype in _UNSIGNED:  # one reduction: a negative number is a large one without its sign
            unsigned, limit = _UNSIGNED[a.dtype]
            largest = int(np.maximum.reduce(a.view(unsigned), axis=None))
            if largest <= limit:
                return 0, largest
        return int(a.min()), int(a.max())

    def gather_label(self, a: Array, labels: Array, axis: int) -> Array:
        if a.size and not any(n for i, n in enumerate(a.strides) if i != axis):  # one number for each class, broadcast
            return a[tuple([slice(None) if i == axis else 0 for i in range(a.ndim)])].take(labels)
        if not a.flags.c_contiguous:
            return np.take_along_axis(a, labels, axis=axis)
        return a.reshape(-1)[_flat_positions(labels, a.shape, axis)].reshape(labels.shape)

    def scatter_label(self, a: Array, labels: Array, entries: Any, axis: int, copy: bool | None = True) -> Array:
        result = np.array(a, order="C", copy=copy)
        result.reshape(-1)[_flat_positions(labels, a.shape, axis)] = entries.reshape(-1) if isinstance(entries, np.ndarray) else entries
        return result

    def place_at_label(self, like: Array, labels: Array, entries: Any, axis: int) -> Array:
        """The zeros cost nothing before they are read: their pages come from the operating system."""
        return self.scatter_label(np.zeros(like.shape, like.dtype), labels, entries, axis, copy=None)

    def one_hot(self, labels: Array, like: Array, axis: int) -> Array:
        if axis != like.ndim - 1 and like.shape[axis] <= MASKS:  # across memory a comparison takes a third of scattering
            positions = np.arange(like.shape[axis], dtype=like.dtype).reshape([-1 if i == axis else 1 for i in range(like.ndim)])
            return np.equal(labels.astype(like.dtype), positions, out=np.empty_like(like, order="C"))
        return self.place_at_label(like, labels, 1.0, axis)

    def nll_and_grad_at_label(self, x: Array, labels: Array, axis: int) -> Any:
        """log1p(rest / e_y), of which nothing cancels; `rest` is the sum of the other classes' exponentials. The maximum is not subtracted
        where their whole sum is neither small nor large: what underflows then would underflow after the division too.
        """
        shift, e = 0.0, np.exp(x, order="C")
        e_y, rest, put_at_label = self._take_label_out(e, labels, axis)
        s = rest + e_y
        smallest = np.minimum.reduce(s, axis=None, initial=1)
        if not (np.maximum.reduce(s, axis=None, initial=1) < 1e7 and (smallest >= 1 or (smallest > 1e-7 and x.min() > -69))):
            shift = x.max(axis=axis, keepdims=True)
            e = np.exp(np.subtract(x, shift, out=e), out=e)
            e_y, rest, put_at_label = self._take_label_out(e, labels, axis)
            s = rest + e_y
        if not np.minimum.reduce(e_y, axis=None, initial=1) > 1e-30:  # too far below the maximum; or NaN, as an infinite maximum gives
            return special.generic(special.nll_and_grad_at_label)(self, x, labels, axis)

        def grad(weight: Any = None, base: Any = None) -> Array:
            sum_of_base = 0.0 if base is None else special.sum_base(self, base, x.shape[axis])
            if weight is None:
                put_at_label(sum_of_base * s - rest)
                slope = np.divide(e, s, out=e)
            else:
                factor = weight / s  # 0 where a class weighs nothing: the row is flat then
                slope = np.multiply(e, factor, out=e)
                put_at_label(sum_of_base - rest * factor)
            return slope if base is None else np.subtract(slope, base, out=slope)

        def base_nll(base: Any) -> Array:
            d = x if isinstance(shift, float) else x - shift
            sums = base * row_sums(d, axis) if isinstance(base, float) else row_sums(base * d, axis)
            return special.sum_base(self, base, x.shape[axis]) * np.log(s) - sums

        return np.log1p(rest / e_y), rest / s, grad, base_nll

    def _take_label_out(self, e: Array, labels: Array, axis: int) -> tuple[Array, Array, Callable[[Array], Any]]:
        """Returns the entries at the labels, which become 0; the row sums of the others; and a function that puts entries there."""
        if axis != e.ndim - 1 and e.shape[axis] <= MASKS:
            is_label = self.one_hot(labels, e, axis)
            e_y = is_label * e
            e -= e_y
            return row_sums(e_y, axis), row_sums(e, axis), lambda a: np.add(e, np.multiply(is_label, a, out=is_label), out=e)
        positions, flat = _flat_positions(labels, e.shape, axis), e.reshape(-1)
        e_y = flat[positions].reshape(labels.shape)
        flat[positions] = 0
        return e_y, row_sums(e, axis), lambda a: flat.__setitem__(positions, a.reshape(-1))


def row_sums(a: Array, axis: int) -> Array:
    """The sums along an axis, kept. For short rows in contiguous memory NumPy's pairwise sum takes twice the time."""
    if axis == a.ndim - 1 and 8 <= a.shape[axis] <= 2**11 and a.size >= 2**12:
        return np.einsum("...i->...", a)[..., None]
    return np.add.reduce(a, axis=axis, keepdims=True)


class Fast(Exact):
    """Forms in fewer passes. `multiply_add` and wider dtypes leave a NaN where an infinity has a limit: the engine looks for it in the sums
    of a block, or else in its derivatives, and repeats the block by exact forms.
    """

    def wider_dtype(self, x: Array) -> Any:
        return np.float64 if x.dtype == np.float32 else None

    def multiply_add(self, c: Array, a: Array, b: Array) -> Array:
        c += a * b
        return c

    def softmax_with_complement(self, x: Array, axis: int) -> Any:
        if x.shape[axis] < 2 or (axis == x.ndim - 1 and x.shape[axis] > FEW) or not x.size:
            return special.generic(special.softmax_with_complement)(self, x, axis)
        p = np.exp(x, order="C")
        s = row_sums(p, axis)
        if not (s.max() < 1e30 and x.min() > -69):
            p = np.exp(np.subtract(x, x.max(axis=axis, keepdims=True), out=p), out=p)
            s = row_sums(p, axis)
            if not s.max() >= 1:  # NaN: an infinite maximum
                return special.generic(special.softmax_with_complement)(EXACT, x, axis)
        p /= s
        others: list[Array] = []

        def q() -> Array:
            if not others:
                others.append(np.empty_like(p))
                leave_one_out_sums(np.moveaxis(p, axis, 0), np.moveaxis(others[0], axis, 0))
            return others[0]

        def nll() -> Array:
            if not p.min() > 1e-30:
                return special.generic(special.softmax_with_complement)(EXACT, x, axis)[3]()
            ratio = q() / p
            return np.log1p(ratio, out=ratio)

        return None, p, q, nll

    def softmax_vjp(self, argmax: Array | None, p: Array, u: Array, axis: int) -> Array:
        """In place on p and u. Rows with two maxima count u from the mean there: neither is confident, so any reference will do."""
        is_max = np.equal(p, p.max(axis=axis, keepdims=True), out=np.empty_like(p))
        count = row_sums(is_max, axis)
        v = np.subtract(u, row_sums(np.multiply(is_max, u, out=is_max), axis) / count, out=u)
        v -= row_sums(np.multiply(p, v, out=is_max), axis)
        return np.multiply(p, v, out=p)

    def sigmoid_pair(self, x: Array) -> tuple[Array, Array]:
        if not np.minimum.reduce(x, axis=None, initial=0) > -80:  # exp(-x) overflows
            return special.generic(special.sigmoid_pair)(EXACT, x)
        v = np.negative(x, out=np.empty_like(x))  # of 0-d arrays NumPy returns scalars, unless there is an output
        v = np.exp(v, out=v)
        p = np.add(1, v, out=np.empty_like(v))
        p = np.divide(1, p, out=p)
        return p, np.multiply(v, p, out=v)

    def cross_entropy_grad(self, argmax: Array | None, p: Array, q: Array, weight: Array, axis: int) -> Array:
        argmax = p.argmax(axis=axis, keepdims=True) if argmax is None else argmax
        return special.generic(special.cross_entropy_grad)(self, argmax, p, q, weight, axis)


FAST, EXACT = Fast(), Exact()
