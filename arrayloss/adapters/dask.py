"""Dask: lazy array expressions. Results are 0-d or chunked Dask arrays; nothing is computed here."""

from __future__ import annotations

from typing import Any

import array_api_compat.dask.array as da

from arrayloss.core import special

from .base import Adapter

Array = Any


class _Namespace(special.Native):
    """Dask's array API, whose maximum of rows fails where there are no rows."""

    library = da

    @staticmethod
    def max(a: Array, *, axis: int, keepdims: bool) -> Array:
        return da.sum(a, axis=axis, keepdims=keepdims) if 0 in a.shape else da.max(a, axis=axis, keepdims=keepdims)


xp = _Namespace()


class Dask(Adapter):
    """Lazy array calls."""

    def __init__(self) -> None:
        super().__init__(xp)
        self.name = "dask"

    def conversion(self, name: str) -> str:
        return f"convert it first, such as by dask.array.from_array({name})"

    def constant(self, values: Any, dtype: Any, like: Array) -> Array:
        return xp.asarray(values, dtype=dtype)


ADAPTER = Dask()
