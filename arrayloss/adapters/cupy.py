"""CuPy: generated kernels on the device of the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import array_api_compat.cupy as library
import cupy

from arrayloss.engine.cuda.device import Device
from arrayloss.engine.cuda.launcher import CUPY

from .base import Adapter, Arrays, Call

Array = Any


class CuPy(Adapter):
    """Everything is left to the device."""

    compares_devices = True

    def owns(self, a: Any) -> bool:
        return isinstance(a, cupy.ndarray)

    @property
    def device(self) -> Device:
        return Device(CUPY, self.xp)

    def forward(self, op: Any, arrays: Sequence[Array]) -> Arrays:
        return self.device.sums(op, arrays)

    def value(self, call: Call) -> Array:
        return self.device.number(call.operation, call.finish, call.arrays, has_slopes=False)[0]

    def finish(self, finish: Any, sums: Sequence[Array]) -> Array:
        return self.device.finish(finish, sums, has_slopes=False)[0]

    def value_and_grad(self, call: Call) -> tuple[Array, Arrays]:
        value, *slopes = self.device.number(call.operation, call.finish, call.arrays, has_slopes=True)
        return value, self.device.gradients(call.operation, call.arrays, slopes)

    def derivatives(self, call: Call) -> tuple[Arrays, ...]:
        return self.device.derivatives(call.operation, call.arrays)


ADAPTER = CuPy(library, "cupy")
