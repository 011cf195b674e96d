"""NumPy's primitives for kernels: ufuncs that write into the temporaries of a function."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as library
import numpy as np

from arrayloss.core import special

Array = Any
_BITS = {np.dtype(np.float32): np.dtype(np.int32), np.dtype(np.float64): np.dtype(np.int64)}


class NumPy(special.Native):
    """The array API on NumPy, in few passes."""

    library = library
    bfloat16 = np.float32  # NumPy has none: the adapter of PyTorch rounds

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

    def scatter_label(self, a: Array, labels: Array, entries: Any, axis: int) -> Array:
        result = np.array(a)
        np.put_along_axis(result, labels, entries, axis)
        return result

    def place_at_label(self, like: Array, labels: Array, entries: Any, axis: int) -> Array:
        """The zeros cost nothing before they are read: their pages come from the operating system."""
        result: Array = np.zeros(like.shape, like.dtype)
        np.put_along_axis(result, labels, entries, axis)
        return result

    def map_rows(self, function: Any, a: Array, *others: Array) -> Any:
        """A few rows at a time, which stay in the cache, into the memory of `a`."""
        numbers, step = [], max(1, 2**17 // max(1, a[:1].size))
        for i in range(0, max(1, len(a)), step):
            rows, *several = function(a[i : i + step], *[b[i : i + step] for b in others])
            numbers.append(several)
            if rows is not None:
                a[i : i + step] = rows
        return a, *[np.concatenate(parts) for parts in zip(*numbers, strict=True)]

    def add_product(self, total: Array, a: Array, b: Array) -> Array:
        """A product as large as the total is never there at once."""
        step = max(64, 2**18 // max(1, b.shape[1]))
        for i in range(0, len(total), step):
            total[i : i + step] += a[:, i : i + step].T @ b
        return total

    in_order = staticmethod(lambda _, a, b: (np.maximum(a, b), np.minimum(a, b)))

    def label_columns(self, like: Array, labels: Array) -> Any:
        """By places in the memory of contiguous rows."""
        places = labels + like.shape[1] * np.arange(len(like))
        flat, size = places.ravel(), like.size
        return lambda a: a.take(places), lambda b: np.bincount(flat, b.ravel(), size).reshape(like.shape).astype(b.dtype, copy=False)


XP = NumPy()
