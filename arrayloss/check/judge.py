"""From the results of one batch to rows: every number against the reference, and the two libraries that differ most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from .definitions import QUANTITIES, definition_of
from .points import Problem
from .reference import Reference
from .rows import Row, Worst
from .run import Subject
from .snippets import snippet
from .ulp import Exact, flushable, judge

MAX_ULP = 8.0
Results = Mapping[tuple[str, str], Mapping[str, Any]]  # by library and mode, then by quantity


@dataclass(frozen=True)
class Numbers:
    """The exact numbers of one array, a value or the derivatives of one prediction, and their sensitivity to the inputs."""

    batch: Problem
    dtype: str
    quantity: str
    which: int
    exact: Exact
    sensitivity: Callable[[Any], Any]


@dataclass(frozen=True)
class Judge:
    """What a subject's numbers may be off."""

    subject: Subject
    max_ulp: float | None = None  # None: 8, and for a loss of ours what it promises where that is more
    relative_to: str = "number"

    def rows(self, batch: Problem, dtype: str, quantity: str, reference: Reference, results: Results) -> Iterator[Row]:
        """The rows of one quantity."""
        for which, exact in enumerate(reference.exact(batch, quantity)):
            numbers = Numbers(batch, dtype, quantity, which, exact, _Sensitivity(reference, batch, quantity, which, exact))
            computed: dict[tuple[str, str], Any] = {}
            for (name, mode), by_quantity in results.items():
                if quantity not in by_quantity:
                    continue
                row = Row(self.subject.label, name, mode, dtype, quantity, batch.targets_kind, which, reference.name)
                result = by_quantity[quantity]
                if isinstance(result, BaseException):
                    row.status = "absent" if isinstance(result, NotImplementedError) else "crashed"
                    row.message = one_line(result)
                else:
                    try:
                        self._fill(row, numbers, result[which], exact, self._limit(name, numbers))
                        row.at = position(batch, exact.shape)
                        computed[name, mode] = result[which]
                    except ValueError as error:
                        row.status, row.message = "crashed", one_line(error)
                yield row
            pairs = [self._pair(numbers, computed, a, b) for a, b in combinations(computed, 2) if a[0] != b[0]]
            if pairs:
                yield max(pairs, key=lambda row: (row.wrong > 0, row.max_ulp))

    def _pair(self, numbers: Numbers, computed: Mapping[tuple[str, str], Any], a: tuple[str, str], b: tuple[str, str]) -> Row:
        """The row of two libraries: they may differ by the sum of what each may be off."""
        x, y, dtype = computed[a], computed[b], numbers.dtype
        y = np.where(flushable(x, numbers.exact, dtype) | flushable(y, numbers.exact, dtype), x, y)
        row = Row(self.subject.label, f"{a[0]} - {b[0]}", a[1] if a[1] == b[1] else "both", dtype, numbers.quantity)
        row.targets, row.prediction, row.against = numbers.batch.targets_kind, numbers.which, "each other"
        self._fill(row, numbers, x, Exact.of(y), self._limit(a[0], numbers) + self._limit(b[0], numbers))
        return row

    def _limit(self, library: str, numbers: Numbers) -> float:
        """What a result may be off in ulps."""
        if self.max_ulp is not None:
            return self.max_ulp
        batch, loss = numbers.batch, self.subject.loss
        definition = None if loss is None else definition_of(loss.name, batch.options)
        promise = None if definition is None else definition.promise(batch)
        bound = None if promise is None else promise[QUANTITIES.index(numbers.quantity)]
        if definition is None or bound is None:
            return MAX_ULP
        return max(MAX_ULP, bound.ulps(numbers.dtype, library, definition.gamma(batch.options)))

    def _fill(self, row: Row, numbers: Numbers, result: Any, exact: Exact, limit: float) -> None:
        """Judge a result, and name the worst number with the inputs that it came from and a program that computes it."""
        batch = numbers.batch
        judgement = judge(result, exact, row.dtype, limit, numbers.sensitivity, relative_to=self.relative_to)
        row.fill(judgement)
        if not row.count:
            return
        index = tuple(int(i) for i in np.unravel_index(judgement.worst, exact.shape))
        inputs, target, place = None, None, None  # of a number that the whole batch makes
        if index and not batch.whole:
            is_entry = batch.axis is not None and row.quantity != "value"
            element: Any = index[:-1] if is_entry else index
            inputs = tuple(np.asarray(p[element]).tolist() for p in batch.predictions)
            target = None if batch.targets is None else np.asarray(batch.targets[element]).tolist()
            place = int(index[-1]) if is_entry else None
        programs = [
            snippet(self.subject, name, row.mode if row.mode != "both" else "eager", row.dtype, row.quantity, row.prediction, batch, index)
            for name in (row.backend.split(" - ") if row.wrong else ())
        ]
        worst = float(np.asarray(result)[index]), float(exact.high[index]), float(judgement.errors[index])
        row.worst = Worst(inputs, target, place, *worst, dict(batch.options), "\n\n".join(programs))


class _Sensitivity:
    """By how much the inputs move numbers, computed once for every number that some library got wrong."""

    def __init__(self, reference: Reference, batch: Problem, quantity: str, which: int, exact: Exact) -> None:
        self._reference, self._arguments = reference, (batch, quantity, which, exact)
        self._known = np.full(exact.shape, np.nan)

    def __call__(self, mask: Any) -> Any:
        new = mask & np.isnan(self._known)
        if new.any():
            self._known[new] = np.nan_to_num(self._reference.sensitivity(*self._arguments, new), nan=0.0, posinf=np.inf)
        return self._known[mask]


def position(batch: Problem, shape: tuple[int, ...]) -> Any:
    """Where every number stands on the axis of a picture: the first prediction, or the margin of a row."""
    x = batch.predictions[0]
    if x.shape == shape:
        return x
    if batch.axis is not None and shape == x.shape[:-1]:
        if batch.labels and batch.targets.shape == shape:
            own = np.take_along_axis(x, np.clip(batch.targets, 0, x.shape[-1] - 1)[..., None], axis=-1)[..., 0]
            others = np.where(np.arange(x.shape[-1]) == batch.targets[..., None], -np.inf, x)
            return own - others.max(axis=-1)
        return x.max(axis=-1) - x.min(axis=-1)
    return np.full(shape, np.nan)


def one_line(error: BaseException) -> str:
    """The class of an error and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
