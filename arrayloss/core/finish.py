"""`finish`: from the sums of a loss to its number.

A finish is a generator of the sums. It yields the number, then a derivative for every sum: None where a sum does not depend on predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from . import dtypes, special

Array = Any
Arrays = tuple[Array, ...]
Names = tuple[str, ...]
PARTS_OF_MEAN = ("total", "weight", "count")


def hashable(value: Any) -> Any:
    """A key that is equal where values are. An array is equal to itself only: to compare entries is to wait for a device."""
    if isinstance(value, tuple):
        return tuple([hashable(v) for v in value])
    return ("array", id(value)) if dtypes.is_array(value) else value


def divide_total(xp: Any, total: Array, denominator: Any) -> tuple[Array, Any]:
    """The mean and its derivative for the total. Over a denominator of 0 both are 0, but a NaN stays NaN."""
    if not dtypes.is_array(denominator):
        if denominator == 0:
            return xp.where(total == total, 0.0, total), 0.0
        return total / denominator, 1 / denominator
    denominator = xp.astype(denominator, total.dtype, copy=False)
    zero = denominator == 0
    divisor = xp.where(zero, 1.0, denominator)  # both branches of a `where` are differentiated: neither may divide by 0
    return xp.where(zero & (total == total), 0.0, total / divisor), xp.where(zero, 0.0, 1 / divisor)


def size_of(shape: Sequence[int]) -> Any:
    """The number of entries as a float; an array where a size is symbolic, as in `jax.export`."""
    size = prod(shape) * 1.0
    return float(size) if isinstance(size, (int, float)) else size


@dataclass(frozen=True, eq=False)
class Finish:
    """Equality by fields and by the identity of arrays, so that a finish can key a cache."""

    reduction: str

    def _key(self) -> Any:
        return type(self), hashable(tuple(vars(self).values()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Finish) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@dataclass(frozen=True, eq=False)
class Mean(Finish):
    """The total of a loss of elements; of reduction "mean" divided."""

    denominator: Any = None  # the name of a sum ("weight", "count", "positives"), a number or a 0-d array; None: no mean
    outputs: tuple[str, ...] = ("total",)
    dtype: str | None = None  # of the number; None: that of the total
    is_linear = True  # in the total: its derivative is known from the other sums

    @property
    def is_static(self) -> bool:
        """Whether it holds no array of a caller's."""
        return not dtypes.is_array(self.denominator)

    @property
    def slope(self) -> float | None:
        """The derivative for the total where it is known before the sums are: a mean over a number of elements."""
        if self.reduction != "mean":
            return 1.0
        d = self.denominator
        return (1 / d if d else 0.0) if isinstance(d, (int, float)) else None

    def __call__(self, xp: Any, sums: Sequence[Array]) -> Iterator[Any]:
        total, slope = sums[0], 1.0
        if self.reduction == "mean":
            divisor = self.denominator
            if isinstance(divisor, str):
                divisor = sums[self.outputs.index(divisor)]
                divisor = xp.where(divisor < 1, 1.0, divisor) if self.denominator == "positives" else divisor  # what detectors divide by
            total, slope = divide_total(xp, total, divisor)
        dtype = None if self.reduction == "none" else self.dtype
        yield total if dtype is None else xp.astype(total, getattr(xp, dtype), copy=False)
        yield (slope, *[None] * (len(sums) - 1))

    def parts(self, xp: Any, names: Names, sums: Arrays) -> tuple[Finish, Names, Arrays]:
        """The finish of the parts, their names and the parts: here the sums."""
        return self, names, sums


@dataclass(frozen=True)
class Regions:
    """Which sums form an overlap of their own: the classes that count, along `axis` of the sums."""

    axis: int | None
    classes: tuple[int, ...] | None = None  # None: all
    are_pooled: bool = False  # the classes form one overlap

    def take_classes(self, xp: Any, a: Array) -> Array:
        return a if self.classes is None else xp.concat([self._class(a, c) for c in self.classes], axis=self.axis)

    def scatter_classes(self, xp: Any, a: Array, shape: Sequence[int]) -> Array:
        """The transpose of `take_classes`: 0 for the classes that do not count."""
        if self.classes is None or self.axis is None:
            return xp.broadcast_to(a, tuple(shape))
        a = xp.broadcast_to(a, tuple([len(self.classes) if i == self.axis else n for i, n in enumerate(shape)]))
        zeros = xp.zeros_like(self._class(a, 0))
        every = [self._class(a, self.classes.index(c)) if c in self.classes else zeros for c in range(shape[self.axis])]
        return xp.concat(every, axis=self.axis)

    def _class(self, a: Array, c: int) -> Array:
        return a[tuple([slice(c, c + 1) if i == self.axis else slice(None) for i in range(a.ndim)])]


@dataclass(frozen=True, eq=False)
class Overlap(Finish):
    """A formula of the sums of every overlap, then the mean over overlaps. `formula` yields losses, then a derivative for each sum."""

    formula: Callable[..., Iterator[Any]]
    parameters: tuple[tuple[str, Any], ...]
    regions: Regions
    class_weights: Any = None  # a tuple, or an array of one dimension
    weighting: Callable[..., Array] | None = None  # more weights of the classes, from their sums
    skips_absent: bool = False  # an overlap without a target has no weight
    is_additive: bool = True  # the sums of two batches add: the batch axis is among those that are summed
    dtype: str | None = None
    is_linear, slope = False, None

    @property
    def is_static(self) -> bool:
        return not any(dtypes.is_array(p) for p in (*[v for _, v in self.parameters], self.class_weights))

    @property
    def is_sharp(self) -> bool:
        """Whether nothing that counts is added to the sums: losses may be infinite then, and derivatives may overflow."""
        smooth = dict(self.parameters).get("smooth", 0.0)
        return dtypes.is_array(smooth) or not smooth > 1e-9

    def _weighted(self, xp: Any, weights: Array, losses: Array) -> Array:
        return special.multiply_no_nan(xp, weights, losses) if self.is_sharp else weights * losses

    def __call__(self, xp: Any, sums: Sequence[Array]) -> Iterator[Any]:
        losses, weights, pullback = self._losses(xp, sums)
        result, slope = (losses if weights is None else self._weighted(xp, weights, losses)), 1.0
        if self.reduction != "none":
            result = xp.sum(result)
        if self.reduction == "mean":
            result, slope = divide_total(xp, result, size_of(losses.shape) if weights is None else xp.sum(weights))
        yield result if self.dtype is None else xp.astype(result, getattr(xp, self.dtype), copy=False)
        yield pullback(slope if weights is None else slope * weights)

    def parts(self, xp: Any, names: Names, sums: Arrays) -> tuple[Finish, Names, Arrays]:
        """The finish of the parts, their names and the parts: the sums, or totals where the overlaps of two batches are different ones."""
        if not self.is_static:
            raise TypeError("parameters and class_weights must be Python numbers for parts; got an array")
        if self.is_additive:
            return self, names, sums
        losses, weights, _ = self._losses(xp, sums)
        weights = xp.ones_like(losses) if weights is None else weights
        totals = xp.sum(self._weighted(xp, weights, losses)), xp.sum(weights), xp.sum(xp.astype(weights != 0, xp.int64))
        return Mean(self.reduction, "weight" if self.reduction == "mean" else None, PARTS_OF_MEAN), PARTS_OF_MEAN, totals

    def _losses(self, xp: Any, sums: Sequence[Array]) -> tuple[Array, Array | None, Callable[[Any], tuple[Any, ...]]]:
        """The losses of the overlaps, their weights (None: all 1), and the pullback from cotangents of the losses to those of the sums."""
        regions = self.regions
        terms = [regions.take_classes(xp, s) for s in sums]
        weights, inner = self._weights(xp, sums[0], terms), None
        if regions.are_pooled:
            weights, inner = None, weights
            terms = [xp.sum(s if inner is None else inner * s, axis=regions.axis, keepdims=True) for s in terms]
        steps = self.formula(xp, *terms, **dict(self.parameters))
        losses = next(steps)

        def pullback(g: Any) -> tuple[Any, ...]:
            if regions.are_pooled and dtypes.is_array(g) and g.ndim:
                g = xp.expand_dims(g, axis=regions.axis)
            g = g if inner is None else inner * g
            # The derivative of a tiny overlap overflows, in the dtype of predictions whose sums are float64 too; with 0 it would be NaN
            most = 2.0 ** (1020 if self.dtype == "float64" else 124)
            slopes = [special.clip(xp, d, -most, most) if self.is_sharp and d is not None else d for d in next(steps)]
            return tuple([None if d is None else regions.scatter_classes(xp, d * g, sums[0].shape) for d in slopes])

        return xp.squeeze(losses, axis=regions.axis) if regions.are_pooled else losses, weights, pullback

    def _weights(self, xp: Any, like: Array, terms: Sequence[Array]) -> Array | None:
        """The weights of the overlaps; None: all 1."""
        weights, axis = self.class_weights, self.regions.axis
        if weights is not None:
            weights = special.constants(xp, weights, like.dtype, like) if isinstance(weights, tuple) else xp.astype(weights, like.dtype)
            weights = self.regions.take_classes(xp, xp.reshape(weights, tuple([-1 if a == axis else 1 for a in range(like.ndim)])))
        if self.weighting is not None:
            more = self.weighting(xp, *terms, axis=axis)
            weights = more if weights is None else more * weights
        if weights is not None:
            weights = xp.broadcast_to(weights, terms[0].shape)
        if not self.skips_absent:
            return weights
        is_present = terms[0] + terms[2] != 0
        return xp.where(is_present, xp.ones_like(terms[0]) if weights is None else weights, 0.0)
