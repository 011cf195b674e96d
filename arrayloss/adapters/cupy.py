"""CuPy: generated kernels on the device of the predictions; what cannot be recorded runs as plain array calls.

Nothing here copies to the host or waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import array_api_compat.cupy as library
import cupy

from arrayloss.core import special
from arrayloss.engine.cuda.launcher import derivatives_plan, execute, extract, finish_plan, forward_plan, gradient_plan

from .base import Adapter, Arrays, Call

Array = Any


class CuPy(Adapter):
    """A kernel for all sums, one for the finish, and one for the gradient, which is computed from the inputs again rather than stored."""

    compares_devices = True

    def owns(self, a: Any) -> bool:
        return isinstance(a, cupy.ndarray)

    def forward(self, op: Any, arrays: Sequence[Array]) -> Arrays:
        sums = execute(forward_plan, arrays, op, 1.0, None)
        return super().forward(op, arrays) if sums is None else sums

    def value(self, call: Call) -> Array:
        return self._value_and_cotangents(call, has_derivatives=False)[0]

    def finish(self, finish: Any, sums: Sequence[Array]) -> Array:
        return self._finished(finish, sums, has_derivatives=False)[0]

    def value_and_grad(self, call: Call) -> tuple[Array, Arrays]:
        op, x = call.operation, call.arrays[0]
        value, *derivatives = self._value_and_cotangents(call, has_derivatives=True)
        arrays = list(call.arrays)
        shaped = [c.reshape(op.sum_shape(x.shape) if c.ndim else (1,) * x.ndim) if isinstance(c, cupy.ndarray) else c for c in derivatives]
        gradients = execute(gradient_plan, arrays, op, extract(tuple(shaped), arrays))
        if gradients is None:
            gradients = self.pull(op, x, op.vjp(self.xp, call.arrays)[1], derivatives)
        return value, gradients

    def derivatives(self, call: Call) -> tuple[Arrays, ...]:
        both, n = execute(derivatives_plan, call.arrays, call.operation), call.operation.predictions
        return super().derivatives(call) if both is None else (both[:n], both[n:])

    def _value_and_cotangents(self, call: Call, has_derivatives: bool) -> tuple[Any, ...]:
        """The number, then its derivatives for the sums. A mean over a number of elements is divided where its sum ends."""
        op, finish = call.operation, call.finish
        if finish.slope and op.reduce is not None and len(op.outputs) == 1:
            mean = execute(forward_plan, call.arrays, op, finish.denominator or 1.0, finish.dtype)
            if mean is not None:
                return mean[0], finish.slope
        return self._finished(finish, self.forward(op, call.arrays), has_derivatives)

    def _finished(self, finish: Any, sums: Sequence[Array], has_derivatives: bool) -> tuple[Any, ...]:
        """The number, then its derivatives for the sums."""
        if isinstance(getattr(finish, "class_weights", None), tuple):
            finish = replace(finish, class_weights=special.constants(self.xp, finish.class_weights, sums[0].dtype, sums[0]))
        arrays = list(sums)
        rule = finish if finish.is_static else extract(finish, arrays)
        results = execute(finish_plan, arrays, rule, len(sums), has_derivatives)
        if results is not None:
            return results
        steps = finish(self.xp, sums)
        return next(steps), *(next(steps) if has_derivatives else ())


ADAPTER = CuPy(library, "cupy")
