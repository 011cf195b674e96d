"""Losses of overlaps: sums over chosen axes, then a small formula of the sums.

link · terms · finish. The *link* turns predictions into p and q = 1 - p, both without cancellation, and owns its derivative.
The *terms* are elementwise in (p, q, t), and `Pooled` sums them: that is all an autograd ever sees as one piece. The *finish* is
plain array code on a handful of numbers: it gives its own derivative where there is no autograd, and is differentiated by the
array library where there is one.

A backward pass starts from the inputs, and from p where PyTorch keeps it in the place of the gradient: the slope needs the
totals, so that a second sweep is due in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

from . import dtypes, reduction, special
from .call import AnyCall
from .operation import Operation
from .parts import Parts
from .reduction import total

Array = Any
Move = Callable[[Array], Array]
Complement = Callable[[], Array]
Linked = tuple[Array, Complement, Move, Move]
Link = Callable[..., Linked]

# -- links: p, q = 1 - p (where it is asked for), the pullback (from derivatives for p to those for x) and its transpose --
# Links over which p is kept for the backward pass take more arguments.


def identity(xp: Any, x: Array, axis: int | None) -> Linked:
    """The predictions are probabilities."""
    return x, lambda: 1 - x, lambda u: u, lambda dx: dx


def sigmoid(xp: Any, x: Array, axis: int | None) -> Linked:
    """One probability an entry."""
    p, q = special.sigmoid_pair(xp, x)
    return p, lambda: q, lambda u: p * q * u, lambda dx: p * q * dx


def softmax(xp: Any, x: Array, axis: int, *kept: Array | None) -> Linked:
    """One distribution a row. `kept`: p, or None and the place for it."""
    top, p, q = special.softmax_parts(xp, x, axis, *kept)

    def push(dx: Array) -> Array:
        dp = p * (dx - xp.sum(p * dx, axis=axis, keepdims=True))
        rest = special.with_label(xp, dp, top, 0.0, axis)
        return special.with_label(xp, dp, top, -xp.sum(rest, axis=axis, keepdims=True), axis)

    return p, q, lambda u: special.softmax_back(xp, top, p, u, axis), push


def largest(xp: Any, x: Array, axis: int) -> Linked:
    """1 where a row has its maximum: a decision, which is flat."""
    top = xp.expand_dims(xp.argmax(x, axis=axis), axis=axis)
    unknown = xp.where(xp.isnan(x), x, xp.zeros_like(x))  # a row with a NaN has no largest
    p = special.with_label(xp, xp.zeros_like(x), top, 1.0, axis) + xp.sum(unknown, axis=axis, keepdims=True)
    return p, lambda: 1 - p, xp.zeros_like, xp.zeros_like


# -- sums -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Pooled(Operation):
    """The sums of one loss. `kernel` gives the terms of every entry."""

    link: Link = identity
    slope: Callable[..., Array] | None = None  # from derivatives for the sums to those for p
    axis: int | None = None  # where the predictions have their classes or channels
    plain: bool = False  # the terms are t * p, (1 - t) * p and t * q, of which none is weighed or left out

    saves_slope = False
    added = False

    @property
    def keeps(self) -> int:
        """p spares work in the backward pass of a softmax; it takes the place of the gradient until then."""
        return int(self.from_softmax and not self.half)

    def denominator(self, shape: Sequence[int]) -> float:
        """What divides p."""
        return 1

    def step(
        self, xp: Any, arrays: Sequence[Array], order: int = 0, *, read_labels: bool = False, places: Sequence[Array] = ()
    ) -> tuple[Any, ...]:
        """The sums, every axis kept; for order 1 also what `gradient` can start from, if the operation `keeps` that."""
        (p, q, _, _), t, weighed = self._entries(xp, arrays, read_labels, *((None, *places) if places else ()))
        sums = self._overlaps(xp, p, t, arrays[0]) if self.plain else None
        if sums is None:
            terms = self.kernel(xp, p, q(), t, *self.arguments[2:])
            sums = tuple(self._total(xp, weighed(a), arrays[0]) for a in terms)
        return (sums, (p,)) if order else (sums,)

    def forward(self, xp: Any, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The sums."""
        return self.settle(xp, arrays[0], self.step(xp, arrays)[0])

    def linearize(self, xp: Any, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], None]:
        """The sums; nothing is kept for `pull` and `push`."""
        return self.forward(xp, arrays), None

    def pull(self, xp: Any, arrays: Sequence[Array], residual: None, cotangents: Sequence[Any]) -> tuple[Array, ...]:
        """The gradient of the predictions, from derivatives for the sums (None: not asked for)."""
        (gradient,) = self.gradient(xp, arrays, self.spread_all(xp, arrays[0], cotangents))
        return (xp.astype(gradient, arrays[0].dtype, copy=False),)

    def gradient(
        self, xp: Any, arrays: Sequence[Array], spread: Sequence[Array], kept: Sequence[Array] = (), *, read_labels: bool | None = False
    ) -> tuple[Array, ...]:
        """`pull` of one block, given what `spread_all` made and what a sweep kept, in the dtype of the computation."""
        assert self.slope is not None
        (p, q, pull, _), t, weighed = self._entries(xp, arrays, read_labels, *kept)
        u = weighed(self.slope(xp, p, q, t, *self.arguments[2:], *spread))
        return (pull(u),)

    def push(self, xp: Any, arrays: Sequence[Array], residual: None, tangents: Sequence[Any]) -> tuple[Array, ...]:
        """Tangents of the sums for a tangent of the predictions."""
        assert self.slope is not None
        (p, q, _, push), t, weighed = self._entries(xp, arrays, False)
        dp = push(xp.astype(tangents[0], p.dtype, copy=False))
        one, none = xp.ones_like(p), xp.zeros_like(p)
        moved = []
        for i in range(len(self.outputs)):
            unit = (one if j == i else none for j in range(len(self.outputs)))
            moved.append(self._total(xp, weighed(self.slope(xp, p, q, t, *self.arguments[2:], *unit) * dp), arrays[0]))
        return self.settle(xp, arrays[0], moved)

    def element_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(shape)

    def _gone(self) -> tuple[int | None, ...]:
        return self.reduce or ()

    def _entries(
        self, xp: Any, arrays: Sequence[Array], read_labels: bool | None, *kept: Array | None
    ) -> tuple[tuple[Any, ...], Array, Move]:
        """What the link gives, the targets (booleans for masks and labels), and what weighs and leaves out.

        `kept`: p, or None and the place for it, of operations that keep it.
        """
        keep, valid, arrays = self._leave_out(xp, arrays, read_labels)
        x, t = (self._get(a, arrays) for a in self.arguments[:2])
        if self.labels is not None and not self.labels.binary:
            assert self.classes is not None
            t = special.one_hot(xp, t, x, self.classes)
        weights = [self._get(w, arrays) for w in self.weights]

        def weighed(a: Array) -> Array:
            for w in weights:
                a = w * a
            if valid is not None:
                a = xp.where(valid, a, float("nan"))
            return a if keep is None else xp.where(keep, a, 0.0)

        return self.link(xp, x, self.axis, *kept), t, weighed

    def _overlaps(self, xp: Any, p: Array, t: Array, x: Array) -> tuple[Array, ...] | None:
        """The sums in a shorter way, if there is one for rows that add up to 1."""
        assert self.axis is not None
        assert self.reduce is not None
        of_labels = self.labels is not None and not self.labels.binary
        return special.overlaps(xp, t, p, self.axis, x.shape, self.reduce, self.sum_dtype(xp, p), of_labels)

    def _total(self, xp: Any, a: Array, x: Array) -> Array:
        assert self.reduce is not None
        return total(xp, a, x.shape, self.reduce, self.sum_dtype(xp, a), lines=True)  # nothing cancels in these sums


# -- the finish -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finish:
    """From the sums (true positives, false positives, false negatives) of every overlap to the number.

    `formula` is a generator: the losses of overlaps from their three sums, then the derivatives for them. Parameters and class
    weights may be arrays; parts, which outlive a call, take numbers only.
    """

    formula: Callable[..., Iterator[Any]]
    parameters: tuple[Any, ...]
    axis: int | None  # where the sums have their classes
    classes: tuple[int, ...] | None  # which of them count
    together: bool  # the sums of the classes, weighed, are added: they form one overlap
    class_weights: Any
    absent: str
    reduction: str
    volumes: int | None = None  # a class weighs volume**-volumes; the volumes are the fourth sum

    def __call__(self, backend: Any, sums: Sequence[Array]) -> Iterator[Any]:
        """The number, then its derivatives for the sums."""
        xp = backend.xp
        losses, weights, pull = self.losses(backend, sums)
        weighed = losses if weights is None else weights * losses
        if self.reduction == "none":
            yield weighed
            g: Any = xp.ones_like(losses)
        elif self.reduction == "sum":
            yield xp.sum(weighed)
            g = xp.ones_like(losses)
        else:
            mean = reduction.mean(xp, xp.sum(weighed), float(prod(losses.shape)) if weights is None else xp.sum(weights))
            yield next(mean)
            g = next(mean) * xp.ones_like(losses)
        yield pull(g if weights is None else weights * g)

    def losses(self, backend: Any, sums: Sequence[Array]) -> tuple[Array, Array | None, Callable[[Array], tuple[Any, ...]]]:
        """The losses of the overlaps, their weights (None: all 1), and the pullback of the losses to the sums."""
        xp = backend.xp
        three = [self.choose(xp, s) for s in sums[:3]]
        weights = self._class_weights(backend, sums[0])
        present = (three[0] + three[2] != 0) if self.absent == "skip" else None
        if self.volumes is not None:
            scarce = _scarcity(xp, self.choose(xp, sums[3]), self.axis, self.volumes)
            weights = scarce if weights is None else scarce * weights
        if weights is not None or present is not None:
            weights = xp.broadcast_to(xp.ones_like(three[0]) if weights is None else weights, three[0].shape)
            weights = weights if present is None else xp.where(present, weights, 0.0)
        inner = None
        if self.together:
            inner, weights = weights, None
            three = [xp.sum(s if inner is None else inner * s, axis=self.axis, keepdims=True) for s in three]
        like = three[0]
        stages = self.formula(xp, *three, *(p if isinstance(p, float) else xp.astype(p, like.dtype) for p in self.parameters))
        losses = next(stages)

        def pull(g: Array) -> tuple[Any, ...]:
            g = xp.expand_dims(g, axis=self.axis) if self.together else g
            ds = [d * g if inner is None else inner * (d * g) for d in next(stages)]
            return (*(self._unchoose(xp, d, sums[0].shape) for d in ds), *(None for _ in sums[3:]))

        return xp.squeeze(losses, axis=self.axis) if self.together else losses, weights, pull

    @property
    def of_numbers(self) -> bool:
        """Whether there are no arrays among the parameters and weights."""
        return all(isinstance(p, float) for p in self.parameters) and isinstance(self.class_weights, tuple | None)

    def lasting(self) -> Finish:
        """The same for parts: without arrays, which belong to a call."""
        if not self.of_numbers:
            raise TypeError("parameters and class_weights must be Python numbers for parts; got an array")
        return self

    def _class_weights(self, backend: Any, like: Array) -> Array | None:
        """The weights of the chosen classes along their axis."""
        w = self.class_weights
        if w is None or self.axis is None:
            return None
        xp = backend.xp
        w = backend.constant(w, like.dtype, like) if isinstance(w, tuple) else xp.astype(w, like.dtype)
        return self.choose(xp, xp.reshape(w, tuple(-1 if i == self.axis else 1 for i in range(like.ndim))))

    def choose(self, xp: Any, a: Array) -> Array:
        """The sums of the classes that count."""
        return a if self.classes is None else xp.concat([self._of_class(a, c) for c in self.classes], axis=self.axis)

    def _unchoose(self, xp: Any, g: Array, shape: Sequence[int]) -> Array:
        """The transpose of `choose`."""
        chosen = self.classes
        wanted = tuple(len(chosen) if chosen is not None and i == self.axis else n for i, n in enumerate(shape))
        g = xp.broadcast_to(g, wanted)
        if chosen is None or self.axis is None:
            return g
        none = xp.zeros_like(self._of_class(g, 0))
        every = [self._of_class(g, chosen.index(c)) if c in chosen else none for c in range(shape[self.axis])]
        return xp.concat(every, axis=self.axis)

    def _of_class(self, a: Array, c: int) -> Array:
        return a[tuple(slice(c, c + 1) if i == self.axis else slice(None) for i in range(a.ndim))]


def _scarcity(xp: Any, volumes: Array, axis: int | None, exponent: int) -> Array:
    """volumes**-exponent up to a factor: 1 for the smallest volume that is not 0, and for those that are 0."""
    absent = volumes == 0
    smallest = xp.min(xp.where(absent, float("inf"), volumes), axis=axis, keepdims=True)
    smallest = xp.where(smallest == float("inf"), 1.0, smallest)
    return special.power(xp, xp.where(absent, 1.0, smallest / xp.where(absent, 1.0, volumes)), exponent)


@dataclass(eq=False, repr=False)
class PooledCall(AnyCall):
    """One pooled loss with its arguments, not yet computed."""

    finish: Finish

    @property
    def concludes(self) -> bool:
        return self.finish.reduction != "none" and self.finish.of_numbers

    def answer(self, outputs: Sequence[Array]) -> Iterator[Any]:
        stages = self.finish(self.backend, outputs)
        yield self._rounded(next(stages))
        yield next(stages)

    def grad_and_hess(self) -> NoReturn:
        raise NotImplementedError("no curvature is defined for a loss of overlaps: its elements are coupled")

    def sums(self) -> Parts:
        """The sums of the overlaps of the chosen classes, without a finish."""
        xp = self.backend.xp
        chosen = [self.finish.choose(xp, s) for s in self.backend.forward(self.op, self.arrays)]
        if self.finish.together:
            chosen = [xp.sum(s, axis=self.finish.axis) for s in chosen]
        return Parts(self.op.outputs, tuple(chosen))

    def asked_for_parts(self) -> Pooled:
        if self.finish.reduction == "none":
            raise ValueError("reduction must be 'mean' or 'sum' for parts; got 'none'")
        return self.op

    def parts_of(self, outputs: Sequence[Array]) -> Parts:
        if not self.arrays[0].ndim or 0 in (*(self.op.reduce or ()), self.op.axis):
            return Parts(self.op.outputs, tuple(outputs), self.finish.lasting())
        xp = self.backend.xp
        losses, weights, _ = self.finish.losses(self.backend, outputs)
        if weights is None:
            weights = xp.ones_like(losses)
        counted = xp.sum(special.as_index(xp, weights != 0))
        return Parts(("total", "weight", "count"), (xp.sum(weights * losses), xp.sum(weights), counted))

    def _rounded(self, a: Array) -> Array:
        x = self.arrays[0]
        wider = dtypes.kind(x.dtype) == "half" and self.finish.reduction != "none"
        return self.backend.xp.astype(a, self.backend.xp.float32 if wider else x.dtype, copy=False)
