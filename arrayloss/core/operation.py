"""`Operation`: a loss up to but without its last, non-additive step. It masks, runs the kernel, weighs and sums.

A pure function of a tuple of arrays, predictions first. Everything else about it is static and hashable: it keys compilers' caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import dtypes, special
from .labels import Labels

Array = Any
Pullback = Callable[[Sequence[Any]], tuple[Array, ...]]
NEUTRAL = 0.5  # what a masked prediction or target becomes: inside the domain of logits, probabilities and variances alike


@dataclass(frozen=True)
class ArrayRef:
    """The place of an array among those of an operation; whatever else an argument is, it is static."""

    index: int


@dataclass(frozen=True)
class Operation:
    """Terms of the elements, and their sums.

    The kernel is a generator. It yields the terms of every element: an array, a tuple, or a function of no arguments that returns them,
    where the pullback can do without. Then it yields slopes of the first term (an array of the shape of each prediction) or a pullback (a
    function from cotangents of the terms to gradients of the predictions). Then, optionally, the Hessian diagonal of the first term.
    """

    kernel: Callable[..., Iterator[Any]]
    arguments: tuple[tuple[str, Any], ...]  # of the kernel behind its predictions, by name: `ArrayRef` or static
    predictions: int = 1
    terms: tuple[str, ...] = ("total",)  # what the kernel yields, by name
    outputs: tuple[str, ...] = ("total",)  # what is summed: terms, "weight", "count" (of elements that are not masked) or "positives"
    event_axes: tuple[int, ...] = ()  # axes that belong to one element, in the first prediction
    columns: tuple[int, ...] | None = None  # instead of the last axis of the first prediction: those of a linear layer's outputs
    per_entry: bool = False  # the terms keep the event axes (overlaps), else they have size 1 there
    blocked: bool = True  # an element needs its own entries only
    is_coupled: bool = False  # a masked element has no loss of its own, but takes part in the losses of others
    gathers: bool = False  # the kernel reads single entries of the predictions: it gets the mask, and masks those itself
    labels: Labels | None = None
    where: ArrayRef | None = None
    weights: tuple[Any, ...] = ()  # factors of the elements: numbers and `ArrayRef`
    positives: ArrayRef | None = None  # binary targets, whose sum is the output "positives"
    reduce: tuple[int, ...] | None = None  # axes that are summed; None: no reduction
    half: bool = False  # predictions of 16 bits: computed in float32
    float64: bool = True  # the device has it, for sums

    def entry_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape whose axes are meant: that of the first prediction, or of the outputs of a linear layer."""
        return tuple(shape) if self.columns is None else (*shape[:-1], *self.columns)

    def mask_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """One entry for every element, every axis kept."""
        return self._one_entry(self.entry_shape(shape))

    def _one_entry(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple([1 if a in self.event_axes else n for a, n in enumerate(shape)])

    def term_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(shape) if self.per_entry else self.mask_shape(shape)

    def sum_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the sums, every axis kept."""
        return tuple([1 if a in (self.reduce or ()) else n for a, n in enumerate(self.term_shape(shape))])

    def result_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the sums that a caller sees."""
        summed = (*(self.reduce or ()), *(() if self.per_entry else self.event_axes))
        return tuple([n for a, n in enumerate(self.entry_shape(shape)) if a not in summed])

    @property
    def is_local(self) -> bool:
        """Whether one gradient serves every cotangent: there is one term, and an entry of the predictions moves one entry of its sums."""
        return self.blocked and len(self.terms) - ("weight" in self.terms) == 1

    def to_result(self, xp: Any, x: Array, sums: Sequence[Array]) -> tuple[Array, ...]:
        """Sums in the shape and dtype that a caller sees."""
        shape = self.result_shape(x.shape)
        return tuple([xp.reshape(xp.astype(s, x.dtype, copy=False) if self.reduce is None else s, shape) for s in sums])

    def expand_cotangent(self, xp: Any, x: Array, g: Any) -> Any:
        """A cotangent of a result, shaped and cast to multiply terms. A number stays a number."""
        if not dtypes.is_array(g):
            return g
        g = xp.astype(g, xp.float32 if self.half else x.dtype, copy=False)
        return xp.reshape(g, self.sum_shape(x.shape) if g.ndim else (1,) * x.ndim)

    def vjp(self, xp: Any, arrays: Sequence[Array], labels: str = "nan") -> tuple[Callable[..., tuple[Array, ...]], Pullback]:
        """Two functions: the sums (all outputs, or those named), every axis kept; and their pullback. What is not called is not computed.

        `labels`: "raise" on labels out of range (host memory), make their loss "nan" (device, tracing), or trust that they are "checked".
        """
        arrays, mask, weigh, steps = self._start(xp, arrays, labels)
        terms, dtype, shape = next(steps), arrays[0].dtype, self.term_shape(arrays[0].shape)
        computed: dict[str, Any] = {}

        def ones(dtype: Any) -> Array:
            return xp.reshape(special.constant(xp, 1, dtype, arrays[0]), (1,) * len(shape))

        def summand(name: str) -> Array:
            if name == "count":
                return ones(xp.int64) if mask is None else xp.astype(mask, xp.int64)
            if name == "positives" and self.positives is not None:
                return arrays[self.positives.index] if mask is None else xp.where(mask, arrays[self.positives.index], 0.0)
            if name in self.terms and not computed:
                computed.update(zip(self.terms, _as_tuple(terms() if callable(terms) else terms), strict=True))
            term = computed[name] if name in self.terms else ones(dtype)
            term = term() if callable(term) else term
            return term if weigh is None else weigh(term)

        def sums(names: Sequence[str] = self.outputs) -> tuple[Array, ...]:
            if self.reduce is None:
                return tuple([xp.broadcast_to(summand(name), shape) for name in names])
            return tuple([self._sum(xp, summand(name), shape) for name in names])

        def pullback(cotangents: Sequence[Any]) -> tuple[Array, ...]:
            derivative = next(steps)
            by_name = dict(zip(self.outputs, cotangents, strict=True))
            g = [0.0 if by_name.get(t) is None else by_name[t] for t in self.terms if t != "weight"]
            if weigh is not None:
                g = [weigh(c if dtypes.is_array(c) else special.constant(xp, c, dtype, arrays[0])) for c in g]
            if callable(derivative):
                return _as_tuple(derivative(*g))
            slopes = _as_tuple(derivative)
            return slopes if isinstance(g[0], float) and g[0] == 1 else tuple([g[0] * s for s in slopes])

        return sums, pullback

    def derivatives(self, xp: Any, arrays: Sequence[Array], labels: str = "nan") -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """First derivatives of the weighted elements for every prediction, and second ones (the Hessian diagonal)."""
        arrays, _, weigh, steps = self._start(xp, arrays, labels)
        _, first, second = next(steps), next(steps), next(steps, None)
        if second is None:
            raise NotImplementedError("no second derivative is defined for this loss")
        if callable(first):
            zeros = [0.0] * (len(self.terms) - ("weight" in self.terms) - 1)
            first = first(special.constant(xp, 1.0, arrays[0].dtype, arrays[0]), *zeros)
        first, second = _as_tuple(first), _as_tuple(second)
        return (first, second) if weigh is None else (tuple(map(weigh, first)), tuple(map(weigh, second)))

    def _weigh(self, xp: Any, arrays: Sequence[Array], mask: Array | None, valid: Array | None) -> Callable[[Array], Array] | None:
        """The function that weighs elements, and makes NaN of invalid labels and 0 of what is masked. None: there is nothing to do."""
        factor: Any = None
        for w in self.weights:
            if type(w) is ArrayRef:
                w = arrays[w.index]
                w = w if mask is None else xp.where(mask, w, 0.0)  # a masked NaN must not reach a derivative of any order
            factor = w if factor is None else factor * w
        if valid is not None:  # NaN as a factor: the transpose of a pullback, which forward mode takes, keeps only what is linear
            one = special.constant(xp, 1.0, arrays[0].dtype, arrays[0])
            factor = xp.where(valid, one if factor is None else factor * one, float("nan"))
        if factor is None and mask is None:
            return None

        def weigh(a: Array) -> Array:
            a = a if factor is None else factor * a
            return a if mask is None else xp.where(mask, a, 0.0)

        return weigh

    def _sum(self, xp: Any, a: Array, shape: tuple[int, ...]) -> Array:
        """Sums are float64 where the device has it: those of a whole data set are right to the last digit."""
        dtype = xp.float64 if self.float64 and dtypes.name(a.dtype) in ("float32", "int32") else a.dtype  # int32: counts of JAX without x64
        return special.sum_to(xp, a, shape, self.reduce or (), dtype)

    def _start(self, xp: Any, arrays: Sequence[Array], mode: str) -> tuple[list[Array], Array | None, Any, Iterator[Any]]:
        """The arrays that the kernel may see, where elements count (None: everywhere), `weigh` and the steps of the kernel.

        What does not count is replaced before a range check, a gather or a nonlinearity meets it.
        """
        arrays, labels = list(arrays), self.labels
        mask = None if self.where is None else arrays[self.where.index]
        if labels is not None and labels.ignore:
            counts = labels.not_ignored(xp, arrays[labels.index], self.event_axes)
            mask = counts if mask is None else mask & counts
        if self.half:
            arrays = [xp.astype(a, xp.float32) if dtypes.kind(a.dtype) == "half" else a for a in arrays]
        if mask is not None and not self.is_coupled:
            shape, legal = self.mask_shape(arrays[0].shape), int(labels is not None and labels.signs)
            places = [a.index for _, a in self.arguments if type(a) is ArrayRef]
            if self.columns is not None:  # a row of features is masked where all of its elements are
                maps = tuple(range(arrays[0].ndim, mask.ndim))
                arrays[0] = xp.where(xp.any(mask, axis=maps) if maps else mask, arrays[0], NEUTRAL)
            elif not self.gathers:
                places = [*range(self.predictions), *places]
            for i in places:
                if self._one_entry(arrays[i].shape) == shape:
                    neutral = {"bool": False, "integer": legal}.get(dtypes.kind(arrays[i].dtype), NEUTRAL)
                    arrays[i] = xp.where(mask, arrays[i], neutral)
        valid = None
        if labels is not None:
            valid, arrays[labels.index] = labels.prepare(xp, arrays[labels.index], mode, self.event_axes, arrays[0].dtype)
        arguments = {n: arrays[a.index] if type(a) is ArrayRef else a for n, a in self.arguments} | ({"mask": mask} if self.gathers else {})
        return arrays, mask, self._weigh(xp, arrays, mask, valid), self.kernel(xp, *arrays[: self.predictions], **arguments)


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
