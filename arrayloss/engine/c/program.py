"""Operations as calls of compiled functions: one computes sums, gradients or both, or first and second derivatives.

A plan is everything about a call but its arrays, and is cached. Elements are cut into parts by their shape alone, and the sums of the parts
are added in one order: the number of threads changes no bit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_void_p, cast
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from arrayloss.core import dtypes
from arrayloss.core.operation import ArrayRef

from ..graph import Node
from ..layout import Layouts, Shape, frame_of, input_steps, name_of, output_steps, recorder
from . import library
from .writer import ROWS, Program, Recorder, Writer

Array = Any
Arrays = tuple[Array, ...]
PART = 2**16  # entries of a part
CALLS = 64  # of the function, at most: between two of them threads share the rest
ELEMENTS = 2048  # of a tile without classes
LONG_ROW = 64  # classes along which vectors run, if they are neighbours in memory
_pool: list[ThreadPoolExecutor] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)  # its threads are not in the child


@dataclass(frozen=True, eq=False)
class Plan:
    """What a call computes: for each of several slots sums, in parts, and outputs."""

    program: Program
    tables: tuple[Array, Array]  # numbers and constants
    addresses: tuple[int, ...]  # of the tables
    sums: Shape  # slots, parts of each, sums, and the entries of one: 1, or one for every class
    place: int  # of the classes, among the axes of a sum
    outer: Shape  # the other ones
    scratch: int  # bytes that each thread needs
    calls: int

    def run(self, function: Any, arrays: Sequence[Array], outputs: Sequence[Array], resources: Any) -> list[Array]:
        """Fill the outputs and return the sums, float64."""
        pointers = [_address(arrays[i]) for i in self.program.inputs] + [_address(a) for a in outputs]
        workers = min(resources.threads(), self.calls // 2) if self.calls > 3 else 1  # for less a second one does not pay
        sums = np.empty(self.sums)
        scratch: Array = np.empty(workers * self.scratch, np.uint8)
        job = np.array([*self.addresses, _address(sums), _address(scratch), 0, 0, *pointers], np.int64)
        address = c_void_p(_address(job))
        if workers == 1:
            function(address)
        elif resources.team is not None:
            resources.team(cast(function, c_void_p), address, workers, 0)
        else:
            _share(function, address, workers, (arrays, outputs, sums, scratch, job))
        each = list(np.add.reduce(sums, axis=1).swapaxes(0, 1))
        return each if self.sums[-1] == 1 else [np.moveaxis(a.reshape(*self.outer, -1), -1, self.place) for a in each]


def evaluate(
    op: Any, arrays: Sequence[Array], cotangents: Sequence[Any] | None, resources: Any, *, want_sums: bool = True, derivatives: bool = False
) -> tuple[Arrays, Arrays] | None:
    """Returns the sums, or terms, and gradients (or first, then second derivatives); None where NumPy has to compute them.

    A label out of range makes its element NaN.
    """
    is_aligned = all(a.size and (not isinstance(a, np.ndarray) or a.flags.aligned) for a in arrays)
    if not op.blocked or not is_aligned or not library.is_on():
        return None
    x, every, given = arrays[0], list(arrays), []
    for c in cotangents or ():
        if c is not None and (not isinstance(c, float) or c != 1):
            every.append(np.array(c, np.float32 if op.half else x.dtype, ndmin=x.ndim) if np.ndim(c) == 0 else c)
            c = ArrayRef(len(every) - 1)
        given.append(c)
    n = 0 if cotangents is None and not derivatives else op.predictions * (1 + derivatives)
    shapes = [(arrays[i % op.predictions].shape, resources.empty) for i in range(n)]
    if want_sums and op.reduce is None and not derivatives:
        shapes += [(op.term_shape(x.shape), np.empty if op.half else resources.empty) for _ in op.outputs]
    outputs = tuple([empty(shape, x.dtype) for shape, empty in shapes])
    stored = tuple([dtypes.name(_layout(a)[2]) for a in outputs])
    plan = _plan(tuple(map(_layout, every)), op, None if cotangents is None else tuple(given), want_sums, derivatives, stored)
    function = plan and library.function(plan.program.name, plan.program.source)
    if plan is None or function is None:
        return None
    sums = plan.run(function, every, outputs, resources)
    if not sums:
        return outputs[n:], outputs[:n]
    kinds = [np.int64 if name == "count" else np.float64 for name in op.outputs]
    return tuple([s.reshape(op.sum_shape(x.shape)).astype(kind, copy=False) for s, kind in zip(sums, kinds, strict=True)]), outputs


@lru_cache(maxsize=4096)
def _plan(layouts: Layouts, op: Any, cotangents: Any, want_sums: bool, derivatives: bool, stored: tuple[str, ...]) -> Plan | None:
    """The plan for arrays of these layouts; None where an operation cannot be one function."""
    try:
        graph, nodes = recorder(op, layouts, Recorder)
        terms: Sequence[Node] = ()
        if derivatives:
            first, second = op.derivatives(graph, nodes)
            maps = [*first, *second]
        else:
            sums, pullback = op.vjp(graph, nodes)
            terms = sums() if want_sums else ()
            g = [graph.astype(nodes[c.index], graph.compute) if type(c) is ArrayRef else c for c in cotangents or ()]
            maps = [] if cotangents is None else list(pullback(g))
        maps = [graph.broadcast_to(m, layouts[0][0]) for m in maps] + [*(terms if op.reduce is None else ())]
        what = "derivatives" if derivatives else "gradient" if maps else "sums"
        return _make(name_of(op, what), graph, layouts, op.reduce, () if op.reduce is None else terms, list(zip(maps, stored, strict=True)))
    except (AttributeError, TypeError, RecursionError):  # it is refused, takes a node for what it is not, or is too long
        return None


def _make(name: str, graph: Any, layouts: Layouts, reduce: Any, sums: Sequence[Node], maps: Sequence[tuple[Node, str]]) -> Plan:
    axes = range(len(graph.shape))
    outer = [d for d in axes if sums and d not in reduce]
    steps = input_steps(graph, layouts) | {f"y{j}": output_steps(m) for j, (m, _) in enumerate(maps)}
    frame = frame_of(graph, steps, outer, [d for d in axes if d not in outer], _dimension_of_tiles)
    numbers = dict(frame.numbers)
    classes, elements, length = numbers["classes"], numbers["elements"], numbers[f"n{frame.inner[-1]}"]
    along_classes = classes >= LONG_ROW and (numbers["x0_c"] == 1 or length < LONG_ROW // 4)
    program = Writer(name, frame, along_classes).write(sums, maps)
    tile = 1 if along_classes else ELEMENTS if graph.class_axis is None else min(ROWS, max(64, 2**15 // classes))
    pieces = 1 if along_classes else -(-length // tile)
    tiles = elements if along_classes else elements // length * pieces
    slots, parts = prod([numbers[f"n{d}"] for d in frame.outer]), max(1, min(tiles, elements * classes // PART))
    entries, of_classes = slots * elements * classes, any(s.varies for s in sums)
    calls, scratch = max(1, min(slots * parts, entries // PART, CALLS)), -(-program.kept * classes * tile // 64) * 64
    numbers |= {"calls": calls, "chunks": slots * parts, "room": scratch, "parts": parts, "tiles": tiles, "pieces": pieces, "tile": tile}
    others = [d for d in outer if d != graph.class_axis]
    place = sum(d < graph.class_axis for d in others) if of_classes else 0
    tables = np.array([numbers[n] for n in program.numbers], np.int64), np.array(program.constants, np.float64)
    shape, addresses = (slots, parts, len(sums), classes if of_classes else 1), tuple(map(_address, tables))
    return Plan(program, tables, addresses, shape, place, tuple([graph.shape[d] for d in others]), scratch, calls)


def _dimension_of_tiles(sizes: Sequence[int]) -> int:
    """The last one, which has the smallest steps, or a longer one if that is very short."""
    return len(sizes) - 1 if sizes[-1] >= 32 else max(range(len(sizes)), key=lambda i: sizes[i])


def _share(function: Any, job: c_void_p, workers: int, memory: Any) -> None:
    """Take the calls of a job together with threads that stay: to start one takes as long as a small loss."""
    if not _pool:
        _pool.append(ThreadPoolExecutor(os.cpu_count(), "arrayloss"))
    # an interrupted call leaves its memory to a thread that still works
    others = [_pool[0].submit(lambda *memory: function(job), memory) for _ in range(1, workers)]
    function(job)
    for other in others:
        if not other.cancel():  # one that has had no core yet is not waited for
            other.result()


def _address(a: Array) -> int:
    return int(a.address if hasattr(a, "address") else a.__array_interface__["data"][0])


def _layout(a: Array) -> Any:
    return a.layout if hasattr(a, "layout") else (a.shape, a.strides, a.dtype)
