"""Losses in which every output depends on its own element, or on its own row along one axis.

`Separable` is what runs a kernel: it casts, leaves out, checks labels, weighs and adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import dtypes, special
from .operation import Operation, Slot
from .reduction import quotient, total

Array = Any


@dataclass(frozen=True, repr=False)
class Separable(Operation):
    """One separable loss, up to but without the division of a mean."""

    mass: tuple[Any, ...] | None = None  # (function, arguments): what an element counts in a mean, beside its weights
    added: bool = False  # of the values only the sum is wanted, and log1p of them only to be added: those of several may be taken as one
    mean: bool = False  # the total is divided by what the elements weigh together, a plain number here, and rounded

    saves_slope = True  # what a backward pass needs is one array per prediction, whatever the cotangent

    @property
    def keeps(self) -> int:
        return self.predictions

    @property
    def moving(self) -> tuple[bool, ...]:
        return tuple(name == "total" for name in self.outputs)

    def denominator(self, shape: Sequence[int]) -> float:
        """What divides the total, and with it the slopes; known so early, it costs a blocked sweep no pass of its own."""
        if not self.mean:
            return 1
        weighs: float = 1
        for a in self.reduce or ():
            weighs *= shape[a]
        for w in self.weights:
            weighs *= w
        return weighs or 1  # the mean over nothing is 0

    def settle(self, xp: Any, x: Array, outputs: Sequence[Array]) -> tuple[Array, ...]:
        if not self.mean:
            return super().settle(xp, x, outputs)
        dtype = xp.float32 if self.half else x.dtype
        return (quotient(xp, outputs[0], self.denominator(x.shape), self.output_shape(x.shape), dtype),)

    def step(
        self, xp: Any, arrays: Sequence[Array], order: int, *, read_labels: bool = False, places: Sequence[Array] = ()
    ) -> tuple[Any, ...]:
        """The outputs, every axis kept, then the slopes (order >= 1) and curvatures (order >= 2), a tuple each.

        Slopes and curvatures are those of the weighted elements, in the dtype of the computation. `places`: where slopes could be put.
        """
        keep, valid, arrays = self._leave_out(xp, arrays, read_labels)
        weights = [self._factor(xp, arrays[w.index], keep) if isinstance(w, Slot) else w for w in self.weights]
        stages = self.kernel(xp, *[arrays[a.index] if isinstance(a, Slot) else a for a in self.arguments])

        def weighed(a: Array) -> Array:
            for w in weights:
                a = w * a
            if valid is not None:
                a = xp.where(valid, a, float("nan"))
            return a if keep is None else xp.where(keep, a, 0.0)

        value = weighed(next(stages))
        result: list[Any] = [tuple([self._output(xp, name, value, weights, keep, arrays) for name in self.outputs])]
        for _ in range(order):
            derivative = next(stages, None)
            if derivative is None:
                raise NotImplementedError(f"no curvature is defined for {self.kernel.__name__.strip('_')}")
            many = derivative if isinstance(derivative, tuple) else (derivative,)
            result.append(tuple([weighed(d) for d in many]))
        return tuple(result)

    def forward(self, xp: Any, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs."""
        return self.settle(xp, arrays[0], self.step(xp, arrays, 0)[0])

    def linearize(self, xp: Any, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """The outputs, and what `pull` and `push` need: the slopes."""
        outputs, slopes = self.step(xp, arrays, 1)
        return self.settle(xp, arrays[0], outputs), slopes

    def pull(self, xp: Any, arrays: Sequence[Array], slopes: Sequence[Array], cotangents: Sequence[Any]) -> tuple[Array, ...]:
        """Gradients of the predictions: only the total depends on them."""
        g = self.spread(xp, arrays[0], cotangents[0])
        if self.mean:
            g = g / self.denominator(arrays[0].shape)
        if hasattr(g, "dtype"):
            g = xp.astype(g, slopes[0].dtype, copy=False)
        return tuple(xp.astype(g * s, x.dtype, copy=False) for s, x in zip(slopes, arrays, strict=False))

    def spread_all(self, xp: Any, x: Array, cotangents: Sequence[Any]) -> tuple[Array, ...]:
        (g,) = super().spread_all(xp, x, cotangents)
        return (g / self.denominator(x.shape) if self.mean else g,)

    def push(self, xp: Any, arrays: Sequence[Array], slopes: Sequence[Array], tangents: Sequence[Any]) -> tuple[Array, ...]:
        """Tangent of the total for tangents of the predictions (None: it does not move)."""
        shape = self.element_shape(arrays[0].shape)
        moved = None
        for s, dx in zip(slopes, tangents, strict=False):
            if dx is not None:
                part = s * xp.astype(dx, s.dtype, copy=False)
                if self.classes is not None:
                    part = xp.sum(part, axis=self.classes, keepdims=True)
                moved = part if moved is None else moved + part
        if self.reduce is not None:
            moved = total(xp, moved, shape, self.reduce, self.sum_dtype(xp, moved))
        return self.settle(xp, arrays[0], (moved,))

    @staticmethod
    def _factor(xp: Any, weights: Array, keep: Array | None) -> Array:
        """Weights as the formula may see them: a NaN that is left out must not reach a derivative of any order either."""
        if dtypes.kind(weights.dtype) == "half":
            weights = xp.astype(weights, xp.float32)
        return weights if keep is None else xp.where(keep, weights, 0.0)

    def _output(self, xp: Any, name: str, value: Array, weights: Sequence[Any], keep: Array | None, arrays: Sequence[Array]) -> Array:
        """One of the sums, or the unreduced loss."""
        shape = self.element_shape(arrays[0].shape)
        if self.reduce is None:
            return xp.broadcast_to(value, shape)
        if name == "total":
            return total(xp, value, shape, self.reduce, self.sum_dtype(xp, value))
        if name == "count":
            return total(xp, special.as_index(xp, keep), shape, self.reduce, None)
        mass: Any = 1
        for factor in weights:
            mass = factor * mass
        if self.mass is not None:
            function, *arguments = self.mass
            mass = mass * function(xp, *(self._get(a, arrays) for a in arguments))
        if keep is not None:
            mass = xp.where(keep, mass, 0.0)
        return total(xp, mass, shape, self.reduce, self.sum_dtype(xp, value))
