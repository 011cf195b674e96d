"""NumPy: the host engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from arrayloss.engine import host
from arrayloss.engine.native import XP

from .base import Adapter, Arrays, Call

Array = Any


class NumPy(Adapter):
    """Blocked sweeps on as many threads as OMP_NUM_THREADS or the affinity of the process allow."""

    def host_view(self, a: Array) -> Any:
        return a

    def owns(self, a: Any) -> bool:
        return isinstance(a, np.ndarray | np.generic) and not isinstance(a, np.matrix)

    @np.errstate(all="ignore")
    def forward(self, op: Any, arrays: Sequence[Array]) -> Arrays:
        return host.sweep(op, as_native(arrays))[0]

    def finish(self, finish: Any, sums: Sequence[Array]) -> Array:
        with np.errstate(all="ignore"):
            return next(finish(XP, sums))[()]

    def value(self, call: Call) -> Array:
        return round_unreduced(super().value(call), call)

    @np.errstate(all="ignore")
    def value_and_grad(self, call: Call) -> tuple[Array, Arrays]:
        op, arrays = call.operation, as_native(call.arrays)
        value, gradients = host.value_and_vjp(op, call.finish, arrays)
        return round_unreduced(value, call)[()], self.cast(gradients, arrays[0])

    @np.errstate(all="ignore")
    def derivatives(self, call: Call) -> tuple[Arrays, ...]:
        arrays = as_native(call.arrays)
        return tuple([self.cast(many, arrays[0]) for many in host.derivatives(call.operation, arrays)])


@np.errstate(all="ignore")  # what 16 bits do not hold is infinite, without a warning
def round_unreduced(value: Array, call: Call) -> Array:
    """Losses that are not reduced in the dtype of the predictions: NumPy has no name for the bfloat16 of other packages."""
    return value.astype(call.arrays[0].dtype.newbyteorder("="), copy=False) if call.finish.reduction == "none" else value


def as_native(arrays: Sequence[Array]) -> list[Array]:
    """Arrays in the byte order of the machine, as results are: ufuncs convert others each time they read them."""
    return [a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("=")) for a in map(np.asarray, arrays)]


ADAPTER = NumPy(XP, "numpy")
