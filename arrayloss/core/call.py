"""`Call`: one loss with its arguments, not yet computed; and how each question to it is answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from . import dtypes, reduction
from .operation import Slot
from .parts import Parts
from .separable import Separable

Array = Any


@dataclass
class Call:
    """What a public loss returns; `@loss` asks it for the number, the gradient or the parts."""

    backend: Any
    op: Separable
    arrays: tuple[Array, ...]
    reduction: str
    normalizer: Any

    def value(self) -> Array:
        op = self._with_denominator()
        return next(self._finish(self.backend.forward(op, self.arrays)))

    def value_and_grad(self) -> tuple[Array, Any]:
        op = self._with_denominator()
        outputs, pull = self.backend.linearize(op, self.arrays)
        finish = self._finish(outputs)
        value = next(finish)
        gradients = pull((next(finish), *(None for _ in outputs[1:])))
        return value, gradients if op.predictions > 1 else gradients[0]

    def grad_and_hess(self) -> tuple[Any, Any]:
        slopes, curvatures = self.backend.derivatives(self.op, self.arrays)
        xp = self.backend.xp
        dtype = self.arrays[0].dtype
        g, h = (tuple(xp.astype(d, dtype, copy=False) for d in many) for many in (slopes, curvatures))
        return (g, h) if self.op.predictions > 1 else (g[0], h[0])

    def parts(self) -> Parts:
        if self.reduction == "none":
            raise ValueError("reduction must be 'mean' or 'sum' for parts; got 'none'")
        if not isinstance(self.normalizer, str) or self.normalizer != "weights":
            raise ValueError(f"normalizer belongs to finish, not to parts; got {self.normalizer!r}")
        shape = self.arrays[0].shape
        assert self.op.reduce is not None
        if shape and 0 not in self.op.reduce and self.op.classes != 0:
            raise ValueError(f"reduce_axes must contain axis 0 for parts, since batches are added; got {self.op.reduce}")
        names = ["total"]
        if self._weighted():
            names.append("weight")
        if self._masked():
            names.append("count")
        outputs = dict(zip(names, self.backend.forward(replace(self.op, outputs=tuple(names), mean=False), self.arrays), strict=True))
        xp = self.backend.xp
        if "count" not in outputs:
            full = self.backend.constant(self._elements(), outputs_integer(xp), self.arrays[0])
            outputs["count"] = xp.broadcast_to(full, outputs["total"].shape)
        if "weight" not in outputs:
            outputs["weight"] = xp.astype(outputs["count"], outputs["total"].dtype) * self._constant_weight()
        return Parts(("total", "weight", "count"), (outputs["total"], outputs["weight"], outputs["count"]))

    # -- the denominator --------------------------------------------------------------------------------------------

    def _weighted(self) -> bool:
        """Whether what an element weighs has to be computed."""
        return self.op.mass is not None or any(isinstance(w, Slot) for w in self.op.weights)

    def _masked(self) -> bool:
        return self.op.where is not None or (self.op.labels is not None and bool(self.op.labels.ignore))

    def _elements(self) -> int:
        """How many elements a sum adds."""
        shape = self.arrays[0].shape
        return prod([shape[a] for a in self.op.reduce or ()])

    def _constant_weight(self) -> float:
        return prod([w for w in self.op.weights if not isinstance(w, Slot)])

    def _with_denominator(self) -> Separable:
        """The operation, with the denominator of a mean among its outputs if that is no plain number."""
        if self.reduction == "mean" and isinstance(self.normalizer, str) and not self.op.mean:
            if self.normalizer == "weights" and self._weighted():
                return replace(self.op, outputs=("total", "weight"))
            if self._masked():
                return replace(self.op, outputs=("total", "count"))
        return self.op

    def _finish(self, outputs: tuple[Array, ...]) -> Iterator[Any]:
        """The number in the dtype that a caller sees, then its derivative for the total."""
        xp = self.backend.xp
        total = outputs[0]
        if self.op.mean:
            yield total
            yield 1.0
            return
        if self.reduction != "mean":
            yield xp.astype(total, self._dtype(), copy=False) if self.reduction == "sum" else total
            yield 1.0
            return
        if not isinstance(self.normalizer, str):
            denominator = self.normalizer
        elif len(outputs) > 1:
            denominator = outputs[1]
        else:
            denominator = self._elements()
        scale = 1.0
        if isinstance(self.normalizer, str) and self.normalizer == "weights" and not self._weighted():
            scale = self._constant_weight()
        yield from self.backend.stages(reduction.mean, total, denominator, scale, self._dtype())

    def _dtype(self) -> Any:
        """The dtype of a sum or a mean."""
        x = self.arrays[0]
        return self.backend.xp.float32 if dtypes.kind(x.dtype) == "half" else x.dtype


def outputs_integer(xp: Any) -> Any:
    """The dtype of counts."""
    return xp.__array_namespace_info__().default_dtypes()["integral"]
