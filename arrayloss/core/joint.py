"""Operations that start from the softmax of the same rows, run together: it is computed once for all of them.

Formulas know nothing of it. They run in a namespace that computes a softmax when the first of them asks for it, and hands the
others what it made. In blocked sweeps it is kept in the place of the gradient if there are overlaps, as that of a single one is; the
slopes of the other losses are kept beside it, since making them again would take longer than the softmax that is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import special
from .operation import Operation

Array = Any


class _Known(special.Native):
    """A namespace of native primitives in which p, the softmax of all these operations, is computed once. It may be given."""

    def __init__(self, library: Any, *kept: Array | None) -> None:
        self.library = library
        self._kept = kept  # p, or None and the place for it
        self._parts: Any = None

    def native(self, name: str) -> Any:
        return super().native(name) or self.library.native(name)

    def softmax_parts(self, x: Array, axis: int, *_: Array) -> tuple[Any, Array, Callable[[], Array]]:
        if self._parts is None:
            self._parts = special.softmax_parts(self.library, x, axis, *self._kept)
        return self._parts

    def softmax_back(self, top: Any, p: Array, u: Array, axis: int) -> Array:
        """As it is: the pullback of the sum of all follows."""
        return u

    def softmax_pair(self, x: Array, axis: int) -> tuple[Array, Array, Array, Array]:
        return self.library.softmax_pair(x, axis, self.softmax_parts(x, axis)[1])

    def softmax_at_label(self, x: Array, labels: Array, axis: int) -> tuple[Array, Array, Array]:
        return self.library.softmax_at_label(x, labels, axis, self.softmax_parts(x, axis)[1])


class _KnownRows(special.Native):
    """The same for generic forms: compilers merge exponentials only where they are written alike."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self._rows: Any = None

    def native(self, name: str) -> Any:
        own = super().native(name)
        return self.library.native(name) if own is None and isinstance(self.library, special.Native) else own

    def softmax_rows(self, x: Array, axis: int) -> tuple[Array, Array, Array, Array]:
        if self._rows is None:
            self._rows = special.softmax_rows(self.library, x, axis)
        return self._rows

    def softmax_at_label(self, x: Array, labels: Array, axis: int) -> tuple[Array, Array, Array]:
        _, d, e, _ = self.softmax_rows(x, axis)
        return special.at_label_of_exponentials(self.library, e, special.at_label(self.library, d, labels, axis), labels, axis)


def _generic(xp: Any) -> Any:
    """The namespace for array calls on whole arrays; one with forms of its own sees to it that they are alike."""
    return xp if isinstance(xp, special.Native) and xp.native("softmax_parts") else _KnownRows(xp)


def _split(outputs: Sequence[Any], ops: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """What belongs to the outputs of each operation."""
    start = 0
    for op in ops:
        yield tuple(outputs[start : start + len(op.outputs)])
        start += len(op.outputs)


@dataclass(frozen=True, repr=False)
class Joint:
    """Operations over the same softmax as one: the outputs of all, and the sum of their gradients."""

    ops: tuple[Any, ...]
    sizes: tuple[int, ...]  # how many arrays each has beside the prediction, which comes first

    predictions = 1
    saves_slope = False
    added = False

    @property
    def classes(self) -> Any:
        return self.ops[0].classes

    @property
    def half(self) -> bool:
        return self.ops[0].half

    @property
    def reduce(self) -> tuple[int, ...] | None:
        return self.ops[0].reduce

    @property
    def overlaps(self) -> bool:
        return any(not op.saves_slope for op in self.ops)

    @property
    def keeps(self) -> int:
        """p, if there are overlaps, in the place of the gradient; and the slopes of the others."""
        return self.overlaps + sum(op.saves_slope for op in self.ops)

    @property
    def moving(self) -> tuple[bool, ...]:
        return tuple(m for op in self.ops for m in op.moving)

    # -- what belongs to whom -----------------------------------------------------------------------------------------

    def _arrays(self, arrays: Sequence[Array]) -> Iterator[tuple[Array, ...]]:
        start = 1
        for size in self.sizes:
            yield (arrays[0], *arrays[start : start + size])
            start += size

    # -- as one operation ---------------------------------------------------------------------------------------------

    def check_labels(self, xp: Any, arrays: Sequence[Array]) -> None:
        for op, own in zip(self.ops, self._arrays(arrays), strict=True):
            op.check_labels(xp, own)

    def forward(self, xp: Any, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs of all."""
        known = _generic(xp)
        return tuple(o for op, own in zip(self.ops, self._arrays(arrays), strict=True) for o in op.forward(known, own))

    def linearize(self, xp: Any, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
        """The outputs of all, and what each needs for `pull` and `push`."""
        known = _generic(xp)
        both = [op.linearize(known, own) for op, own in zip(self.ops, self._arrays(arrays), strict=True)]
        return tuple(o for outputs, _ in both for o in outputs), tuple(residual for _, residual in both)

    def pull(self, xp: Any, arrays: Sequence[Array], residuals: Any, cotangents: Sequence[Any]) -> tuple[Array, ...]:
        """The sum of the gradients of those that are asked for."""
        known = _generic(xp)
        if residuals is None:
            _, residuals = self.linearize(xp, arrays)
        total = None
        for op, own, residual, given in zip(self.ops, self._arrays(arrays), residuals, _split(cotangents, self.ops), strict=True):
            if any(c is not None for c, m in zip(given, op.moving, strict=True) if m):
                (gradient,) = op.pull(known, own, residual, given)
                total = gradient if total is None else total + gradient
        return (total,)

    def push(self, xp: Any, arrays: Sequence[Array], residuals: Any, tangents: Sequence[Any]) -> tuple[Any, ...]:
        """Tangents of the outputs of all; None where they do not depend on predictions."""
        known = _generic(xp)
        moved: list[Any] = []
        for op, own, residual in zip(self.ops, self._arrays(arrays), residuals, strict=True):
            tangent = iter(op.push(known, own, residual, tangents))
            moved.extend(next(tangent) if m else None for m in op.moving)
        return tuple(moved)

    # -- in blocks ----------------------------------------------------------------------------------------------------

    def denominator(self, shape: Sequence[int]) -> float:
        return 1

    def sum_shapes(self, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        return tuple(s for op in self.ops for s in op.sum_shapes(shape))

    def settle(self, xp: Any, x: Array, outputs: Sequence[Array]) -> tuple[Array, ...]:
        return tuple(o for op, own in zip(self.ops, _split(outputs, self.ops), strict=True) for o in op.settle(xp, x, own))

    def step(
        self, xp: Any, arrays: Sequence[Array], order: int = 0, *, read_labels: bool = False, places: Sequence[Array] = ()
    ) -> tuple[Any, ...]:
        """The outputs of all, every axis kept; for order 1 also what `gradient` starts from."""
        known = _Known(xp, None, *places[: self.overlaps])
        sums: list[Array] = []
        slopes: list[Array] = []
        for op, own in zip(self.ops, self._arrays(arrays), strict=True):
            outputs, *rest = op.step(known, own, order if op.saves_slope else 0, read_labels=read_labels)
            sums.extend(outputs)
            slopes.extend(rest[0] if rest else ())
        if not order:
            return (tuple(sums),)
        return tuple(sums), (*((known.softmax_parts(arrays[0], self.classes)[1],) if self.overlaps else ()), *slopes)

    def spread_all(self, xp: Any, x: Array, cotangents: Sequence[Any]) -> tuple[Array, ...]:
        """Derivatives for the outputs that depend on predictions, in the dtype of the computation, every axis kept."""
        spread: list[Array] = []
        for op, given in zip(self.ops, _split(cotangents, self.ops), strict=True):
            asked = any(c is not None for c in given)
            spread.extend(op.spread_all(xp, x, given) if asked else (special.constant(xp, 0.0, x.dtype, x),) * sum(op.moving))
        return tuple(spread)

    def gradient(
        self, xp: Any, arrays: Sequence[Array], spread: Sequence[Array], kept: Sequence[Array], *, read_labels: bool | None = False
    ) -> tuple[Array, ...]:
        """`pull` of one block, given what `spread_all` made and what a sweep kept."""
        known, derivatives, slopes = _Known(xp, *kept[:1]), iter(spread), iter(kept[self.overlaps :])
        u = direct = None
        for op, own in zip(self.ops, self._arrays(arrays), strict=True):
            given = [next(derivatives) for m in op.moving if m]
            if op.saves_slope:
                part = given[0] * next(slopes)
                direct = part if direct is None else direct + part
            else:
                (part,) = op.gradient(known, own, given, read_labels=read_labels)
                u = part if u is None else u + part
        if u is None:
            return (direct,)
        top, p, _ = known.softmax_parts(arrays[0], self.classes)
        gradient = special.softmax_back(xp, top, p, u, self.classes)  # in the place of p
        if direct is not None:
            gradient += direct
        return (gradient,)


# -- which operations, and how they are run -------------------------------------------------------------------------------


class Together:
    """Operations on the same predictions and targets, and how an array library runs them: jointly where they share a softmax.

    `masks` are what was given as `where` for each.
    """

    def __init__(self, backend: Any, ops: Sequence[Any], arrays: Sequence[Sequence[Array]], masks: Sequence[Any]) -> None:
        self._backend = backend
        self._ops = ops
        self._groups: list[list[int]] = []
        for i in range(len(ops)):
            x = arrays[i][0]
            joins = backend.joins and ops[i].from_softmax and x.shape[ops[i].classes] > 1  # one class is no choice
            group = next((g for g in self._groups if joins and _same_rows(ops[g[0]], ops[i], masks[g[0]], masks[i])), None)
            if group is None:
                self._groups.append([i])
            else:
                group.append(i)
        self._runs = [self._run(group, arrays) for group in self._groups]

    def _run(self, group: Sequence[int], arrays: Sequence[Sequence[Array]]) -> tuple[Any, Sequence[Array]]:
        """One operation and its arrays."""
        if len(group) == 1:
            return self._ops[group[0]], arrays[group[0]]
        joint = Joint(tuple(self._ops[i] for i in group), tuple(len(arrays[i]) - 1 for i in group))
        return joint, (arrays[group[0]][0], *(a for i in group for a in arrays[i][1:]))

    def forward(self) -> list[tuple[Array, ...]]:
        """The outputs of every operation."""
        return self._sorted([self._backend.forward(op, arrays) for op, arrays in self._runs])

    def linearize(self) -> tuple[list[tuple[Array, ...]], Callable[[Sequence[Sequence[Any]]], tuple[Array, ...]]]:
        """The outputs of every operation, and the function from their cotangents to the gradients of the predictions."""
        both = [self._backend.linearize(op, arrays) for op, arrays in self._runs]

        def pull(cotangents: Sequence[Sequence[Any]]) -> tuple[Array, ...]:
            total: tuple[Array, ...] | None = None
            for group, (_, pull_group) in zip(self._groups, both, strict=True):
                gradients = pull_group([c for i in group for c in cotangents[i]])
                total = gradients if total is None else tuple(a + b for a, b in zip(total, gradients, strict=True))
            assert total is not None
            return total

        return self._sorted([outputs for outputs, _ in both]), pull

    def _sorted(self, outputs: Sequence[Sequence[Array]]) -> list[tuple[Array, ...]]:
        """The outputs of the groups, by operation."""
        results: dict[int, tuple[Array, ...]] = {}
        for group, own in zip(self._groups, outputs, strict=True):
            results.update(zip(group, _split(own, [self._ops[i] for i in group]), strict=True))
        return [results[i] for i in range(len(self._ops))]


def _same_rows(a: Operation, b: Operation, mask_a: Any, mask_b: Any) -> bool:
    """Whether two operations on the same predictions and targets see the same rows of logits."""
    if not (a.from_softmax and b.from_softmax and a.classes == b.classes) or a.reduce is None or b.reduce is None or a.half:
        return False
    return (None if a.where is None else mask_a) is (None if b.where is None else mask_b) and _ignored(a) == _ignored(b)


def _ignored(op: Operation) -> Any:
    return (op.labels.ignore, op.labels.binary) if op.labels is not None and op.labels.ignore else None
