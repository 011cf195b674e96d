"""Dask: lazy array expressions. Results are 0-d or chunked Dask arrays; nothing is computed here."""

from __future__ import annotations

from typing import Any

import array_api_compat.dask.array as xp

from .base import Adapter

Array = Any


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
