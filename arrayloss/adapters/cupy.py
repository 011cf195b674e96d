"""CuPy: plain calls for now. Nothing here copies to the host or waits for the device."""

from __future__ import annotations

from typing import Any

import array_api_compat.cupy as xp

from .base import Adapter

Array = Any


class CuPy(Adapter):
    """Array calls on the device of the predictions."""

    def __init__(self) -> None:
        super().__init__(xp)
        self.name = "cupy"

    def conversion(self, name: str) -> str:
        return f"convert it first, such as by cupy.asarray({name})"

    def constant(self, values: Any, dtype: Any, like: Array) -> Array:
        with like.device:
            return xp.asarray(values, dtype=dtype)


ADAPTER = CuPy()
