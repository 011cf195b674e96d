"""Operations on arrays in a GPU's memory: by generated kernels; what cannot be recorded runs as plain array calls.

Nothing here copies to the host or waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from arrayloss.core import special

from .launcher import Memory, derivatives_plan, execute, extract, finish_plan, forward_plan, gradient_plan

Array = Any
Arrays = tuple[Array, ...]


@dataclass(frozen=True)
class Device:
    """A kernel for all sums, one for the finish, and one for the gradient, which is computed from the inputs again rather than stored."""

    memory: Memory
    xp: Any

    def _execute(self, make: Callable[..., Any], arrays: Sequence[Array], *static: Any) -> Any:
        return execute(make, arrays, *static, memory=self.memory)

    def sums(self, op: Any, arrays: Sequence[Array]) -> Arrays:
        sums = self._execute(forward_plan, arrays, op, 1.0, None)
        return op.to_result(self.xp, arrays[0], op.vjp(self.xp, arrays)[0]()) if sums is None else sums

    def number(self, op: Any, finish: Any, arrays: Sequence[Array], has_slopes: bool) -> tuple[Any, ...]:
        """The number, then its slopes for the sums. A mean over a number of elements is divided where its sum ends."""
        if finish.slope and op.reduce is not None and len(op.outputs) == 1:
            mean = self._execute(forward_plan, arrays, op, finish.denominator or 1.0, finish.dtype)
            if mean is not None:
                return mean[0], finish.slope
        return self.finish(finish, self.sums(op, arrays), has_slopes)

    def finish(self, finish: Any, sums: Sequence[Array], has_slopes: bool) -> tuple[Any, ...]:
        """The number, then its slopes for the sums."""
        if isinstance(getattr(finish, "class_weights", None), tuple):
            finish = replace(finish, class_weights=special.constants(self.xp, finish.class_weights, sums[0].dtype, sums[0]))
        arrays = list(sums)
        rule = finish if finish.is_static else extract(finish, arrays, self.memory)
        results = self._execute(finish_plan, arrays, rule, len(sums), has_slopes)
        if results is not None:
            return results
        steps = finish(self.xp, sums)
        return next(steps), *(next(steps) if has_slopes else ())

    def gradients(self, op: Any, arrays: Sequence[Array], cotangents: Sequence[Any]) -> Arrays:
        """Of the predictions, in their dtype. Cotangents of the sums are numbers, None, or arrays."""
        x, every = arrays[0], list(arrays)
        shapes = {True: op.sum_shape(x.shape), False: (1,) * x.ndim}
        shaped = [c.reshape(shapes[c.ndim > 0]) if isinstance(c, self.memory.array) else c for c in cotangents]
        gradients = self._execute(gradient_plan, every, op, extract(tuple(shaped), every, self.memory))
        if gradients is None:
            gradients = op.vjp(self.xp, arrays)[1]([op.expand_cotangent(self.xp, x, c) for c in cotangents])
        return self._cast(gradients, x)

    def derivatives(self, op: Any, arrays: Sequence[Array]) -> tuple[Arrays, ...]:
        """First and second derivatives of every element."""
        both, n = self._execute(derivatives_plan, arrays, op), op.predictions
        return tuple([self._cast(d, arrays[0]) for d in (op.derivatives(self.xp, arrays) if both is None else (both[:n], both[n:]))])

    def _cast(self, derivatives: Sequence[Array], x: Array) -> Arrays:
        return tuple([self.xp.astype(d, x.dtype, copy=False) for d in derivatives])
