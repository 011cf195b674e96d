"""`Call`: one loss with its arguments, not yet computed; and how each question to it is answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Self

from . import dtypes, reduction
from .operation import Slot
from .parts import Parts
from .separable import Separable

Array = Any


@dataclass(eq=False, repr=False)
class AnyCall:
    """What a public loss returns; `@loss` asks it for the number, the gradient or the parts."""

    backend: Any
    op: Any
    arrays: tuple[Array, ...]
    origins: tuple[Any, ...] = field(default=(), kw_only=True)  # of each array the argument, and what converted it; for plans

    def of(self, arrays: Sequence[Array], backend: Any = None) -> Self:
        """The same call of other arrays, perhaps of another library."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, arrays=tuple(arrays), origins=(), backend=backend or self.backend)
        return made

    def value(self) -> Array:
        return self.backend.value(self)

    def value_and_grad(self) -> tuple[Array, Any]:
        op = self.asked()
        outputs, pull = self.backend.linearize(op, self.arrays)
        stages = self.answer(outputs)
        value = next(stages)
        gradients = pull(next(stages))
        return value, gradients if op.predictions > 1 else gradients[0]

    def parts(self) -> Parts:
        return self.parts_of(self.backend.forward(self.asked_for_parts(), self.arrays))

    def asked(self) -> Any:
        """The operation whose outputs `answer` takes."""
        return self.op

    def answer(self, outputs: Sequence[Array]) -> Iterator[Any]:
        """The number in the dtype that a caller sees, then its derivatives for the outputs (None: it does not depend on one, or the
        output does not depend on predictions).
        """
        raise NotImplementedError

    @property
    def direct(self) -> bool:
        """Whether the number is the only output as it is."""
        return False

    @property
    def concludes(self) -> bool:
        """Whether the number is more than an output, of which every element of the predictions moves at most one, and nothing in
        between is an array of the caller's.
        """
        raise NotImplementedError

    def asked_for_parts(self) -> Any:
        """The operation whose outputs `parts_of` takes."""
        return self.op

    def parts_of(self, outputs: Sequence[Array]) -> Parts:
        """The parts that are made of them."""
        raise NotImplementedError


@dataclass(eq=False, repr=False)
class Call(AnyCall):
    """A call of a separable loss."""

    reduction: str
    normalizer: Any

    def grad_and_hess(self) -> tuple[Any, Any]:
        slopes, curvatures = self.backend.derivatives(self.op, self.arrays)
        xp = self.backend.xp
        dtype = self.arrays[0].dtype
        g, h = (tuple(xp.astype(d, dtype, copy=False) for d in many) for many in (slopes, curvatures))
        return (g, h) if self.op.predictions > 1 else (g[0], h[0])

    def asked_for_parts(self) -> Separable:
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
        return replace(self.op, outputs=tuple(names), mean=False)

    def parts_of(self, outputs: Sequence[Array]) -> Parts:
        xp = self.backend.xp
        sums = dict(zip(self.asked_for_parts().outputs, outputs, strict=True))
        if "count" not in sums:
            full = self.backend.constant(self._elements(), outputs_integer(xp), self.arrays[0])
            sums["count"] = xp.broadcast_to(full, sums["total"].shape)
        if "weight" not in sums:
            sums["weight"] = xp.astype(sums["count"], sums["total"].dtype) * self._constant_weight()
        return Parts(("total", "weight", "count"), (sums["total"], sums["weight"], sums["count"]))

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

    def asked(self) -> Separable:
        if self.reduction == "mean" and isinstance(self.normalizer, str) and not self.op.mean:
            if self.normalizer == "weights" and self._weighted():
                return replace(self.op, outputs=("total", "weight"))
            if self._masked():
                return replace(self.op, outputs=("total", "count"))
        return self.op

    @property
    def direct(self) -> bool:
        return self.op.mean

    @property
    def concludes(self) -> bool:
        return self.reduction == "mean" and not self.op.mean and isinstance(self.normalizer, str | float)

    def answer(self, outputs: Sequence[Array]) -> Iterator[Any]:
        total, *others = outputs
        if self.reduction == "mean" and not self.op.mean:
            stages = self._mean(total, *others)
            yield next(stages)
            slope = next(stages)
        else:
            yield self.backend.xp.astype(total, self._dtype(), copy=False) if self.reduction == "sum" else total
            slope = 1.0
        yield (slope, *(None for _ in others))

    def _mean(self, total: Array, denominator: Any = None) -> Iterator[Any]:
        """The mean, then its derivative for the total; the operation has no denominator if that is a number or known."""
        scale = 1.0
        if not isinstance(self.normalizer, str):
            denominator = self.normalizer
        elif denominator is None:
            denominator = self._elements()
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
