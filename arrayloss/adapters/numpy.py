"""NumPy: blocks that stay in the cache, on as many threads as there are cores to run them.

NumPy's ufuncs release the interpreter lock, so threads help; they are made for one call and end with it, which is safe after
a fork and leaves none behind. `OMP_NUM_THREADS` or the process's affinity sets how many.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from arrayloss.core.plan import ARGUMENTS

from .base import Adapter, Pull
from .blocks import sweep, sweep_back
from .numpy_native import NAMESPACE

Array = Any
BLOCK = 2**18  # entries; smaller ones would fit a second-level cache, but threads then meet at the interpreter lock too often


def threads() -> int:
    """How many threads a large call uses."""
    named = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if named.isdigit() and int(named) > 0:
        return int(named)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class NumPy(Adapter):
    """Blocked sweeps, threaded where they are large."""

    def __init__(self) -> None:
        super().__init__(xp)
        self.name = "numpy"

    def accept(self, array: Any, like: Array, name: str) -> Array:
        return array if type(array) is np.ndarray else super().accept(array, like, name)

    def device(self, array: Array) -> Any:
        return "cpu"

    def conversion(self, name: str) -> str:
        return f"convert it first, such as by numpy.asarray({name})"

    def reads_labels(self, array: Array) -> bool:
        return True

    def repeats(self) -> bool:
        return True

    def forward(self, op: Any, arrays: Sequence[Array]) -> tuple[Array, ...]:
        return self.sweep(op, arrays, 0)[0]

    def linearize(self, op: Any, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], Pull]:
        if not op.saves_slope:
            outputs, kept = self.sweep(op, arrays, min(op.keeps, 1))
            return outputs, lambda cotangents: self.sweep_back(op, arrays, cotangents, kept)
        outputs, slopes = self.sweep(op, arrays, 1)
        slopes = tuple(map(np.asarray, slopes))  # of a 0-d prediction the slope is a scalar

        def pull(cotangents: Sequence[Any]) -> tuple[Array, ...]:
            g = op.spread(xp, arrays[0], cotangents[0])
            if not (isinstance(g, float) and g == 1):
                with quiet():
                    for s in slopes:
                        np.multiply(s, g, out=s, casting="unsafe")
            return tuple(s.astype(x.dtype, copy=False) for s, x in zip(slopes, arrays, strict=False))

        return outputs, pull

    def derivatives(self, op: Any, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        with quiet():
            _, slopes, curvatures = op.step(NAMESPACE.careful, arrays, 2, read_labels=True)
        return slopes, curvatures

    def sweep(self, op: Any, arrays: Sequence[Array], order: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        with quiet():
            return sweep(op, NAMESPACE, arrays, order=order, size=BLOCK, empty=np.empty, run=_run)

    def sweep_back(
        self, op: Any, arrays: Sequence[Array], cotangents: Sequence[Any], kept: Sequence[Array], in_place: bool = True
    ) -> tuple[Array, ...]:
        with quiet():
            return sweep_back(op, NAMESPACE, arrays, cotangents, kept, size=BLOCK, empty=np.empty, run=_run, in_place=in_place)


def _run(block: Callable[[Any], Any], blocks: Iterable[Any]) -> Iterable[Any]:
    """What `block` makes of every one of the blocks, in their order, by this thread and others beside it."""
    blocks = list(blocks)
    workers = min(threads(), len(blocks) // 4)
    if workers < 2:
        return map(block, blocks)
    made: list[Any] = [None] * len(blocks)
    left = iter(list(enumerate(blocks)))  # of which every thread takes the next

    def work() -> None:
        try:
            with quiet():  # of its thread
                for i, index in left:
                    made[i] = block(index)
        finally:
            for _ in left:  # after an error nobody begins another block
                pass

    with ThreadPoolExecutor(workers - 1) as pool:
        others = [pool.submit(work) for _ in range(workers - 1)]
        work()
        for other in others:
            other.result()
    return made


ARRAYS = (np.ndarray, np.generic)


def quiet() -> np.errstate:
    """Where infinities and NaN are what they should be."""
    return np.errstate(all="ignore")


def owned(a: Any) -> Array:
    """A number or an array as an array that may be written to."""
    a = np.asarray(a)
    return a if a.flags.writeable else a.copy()


ADAPTER = NumPy()
ARGUMENTS[np.ndarray] = attrgetter("dtype", "shape")
