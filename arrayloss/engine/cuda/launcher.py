"""Operations as launches of generated kernels: one kernel for all sums, one that adds up what its blocks found, one for the finish, and
one for the gradient, which is computed from the inputs again rather than stored.

A plan is everything about a call but its arrays, and is cached. Nothing here copies to the host or waits for the device.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any

import cupy
import numpy as np

from arrayloss.core import dtypes
from arrayloss.core.finish import Finish
from arrayloss.core.operation import ArrayRef

from ..graph import Graph, Node, RefusedError
from .writer import BLOCK, Frame, Kernel, Writer

Array = Any
Shape = tuple[int, ...]
Layouts = Sequence[tuple[Shape, Shape, Any]]  # shape, strides in bytes, dtype
Outputs = Sequence[tuple[Node, str]]  # and the dtype that is stored
Steps = dict[str, Shape]  # by the name of an array: how far apart its neighbours along every axis are; 0 where it is broadcast

ELEMENTS = 8  # that a thread adds up before another block is worth its launch
BLOCKS = 2048  # of a sum: some sixteen for every multiprocessor of a large GPU
GRID = 2**16  # blocks of anything else, at most
LANES = 32  # of a warp, which share a row that has as many classes, if they are neighbours in memory
SIDE_BY_SIDE = 8  # sums of classes that a thread keeps in registers; for more of them the rows are computed again


@dataclass(frozen=True, eq=False)
class Launch:
    """A kernel with its arguments: numbers, and references to arrays."""

    kernel: Kernel
    grid: int
    block: int
    arguments: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """What a call allocates, by shape and dtype, launches and returns. References count its arrays, then what it allocates."""

    outputs: tuple[tuple[Shape, str], ...]
    launches: tuple[Launch, ...]
    results: tuple[Any, ...]

    def run(self, arrays: Sequence[Array]) -> tuple[Any, ...]:
        """Launch it; the results may not be there yet."""
        with arrays[0].device:
            every = [*arrays, *[cupy.empty(shape, dtype=dtype) for shape, dtype in self.outputs]]
            for one in self.launches:
                arguments = tuple([every[a.index] if type(a) is ArrayRef else a for a in one.arguments])
                _compiled(one.kernel.name, one.kernel.source)((one.grid,), (one.block,), arguments)
        return tuple([every[r.index] if type(r) is ArrayRef else r for r in self.results])


@lru_cache(maxsize=4096)
def _compiled(name: str, source: str) -> Any:
    return cupy.RawKernel(source, name, options=("--std=c++17",))


def execute(make: Callable[..., Plan | None], arrays: Sequence[Array], *static: Any) -> tuple[Any, ...] | None:
    """The results of a plan for arrays of these shapes, strides and dtypes; None where array calls have to do."""
    if any(a.size == 0 for a in arrays):
        return None
    plan = make(tuple([(a.shape, a.strides, a.dtype) for a in arrays]), *static)
    return None if plan is None else plan.run(arrays)


def extract(value: Any, arrays: list[Array]) -> Any:
    """A finish or a tuple with references in the place of its arrays, which are appended to `arrays`."""

    def enter(a: Any) -> Any:
        if not isinstance(a, cupy.ndarray):
            return a
        arrays.append(a)
        return ArrayRef(len(arrays) - 1)

    return _substitute(value, enter)


def _substitute(value: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple):
        return tuple([_substitute(v, function) for v in value])
    if isinstance(value, Finish):
        return replace(value, **{name: _substitute(v, function) for name, v in vars(value).items()})
    return function(value)


def _cached(make: Callable[..., Plan]) -> Callable[..., Plan | None]:
    """The plan for arrays of the same layouts, cached; None where a call cannot be one kernel."""

    @lru_cache(maxsize=1024)
    def plan(layouts: Layouts, *static: Any) -> Plan | None:
        try:
            return make(layouts, *static)
        except (AttributeError, TypeError, RecursionError):  # it is refused, takes a node for what it is not, or is too long
            return None

    return plan


@_cached
def forward_plan(layouts: Layouts, op: Any, divisor: float, dtype: str | None) -> Plan:
    """The sums, divided, in a dtype (None: that of sums); or the terms, where nothing is summed."""
    graph, nodes = _recorder(op, layouts)
    terms = op.vjp(graph, nodes)[0]()
    shape = op.result_shape(layouts[0][0])
    if op.reduce is None:
        return _map_plan(_name(op, "value"), graph, layouts, [(node, dtypes.name(layouts[0][2])) for node in terms], [shape] * len(terms))
    wide = dtype or ("float32" if op.half else "float64")
    sums = [(node, "int64" if dtypes.kind(node.dtype) == "integer" else wide) for node in terms]
    return _sum_plan(_name(op, "sums"), graph, layouts, sums, op.reduce, shape, divisor)


@_cached
def gradient_plan(layouts: Layouts, op: Any, cotangents: tuple[Any, ...]) -> Plan:
    """Gradients of the predictions. A cotangent of a sum is a number, None, or a reference to one of the arrays."""
    graph, nodes = _recorder(op, layouts)
    _, pullback = op.vjp(graph, nodes)
    gradients = pullback([graph.astype(nodes[c.index], graph.compute) if type(c) is ArrayRef else c for c in cotangents])
    return _derivative_plan(op, "gradient", graph, layouts, gradients)


@_cached
def derivatives_plan(layouts: Layouts, op: Any) -> Plan:
    """First and second derivatives of every element."""
    graph, nodes = _recorder(op, layouts)
    first, second = op.derivatives(graph, nodes)
    return _derivative_plan(op, "derivatives", graph, layouts, (*first, *second))


@_cached
def finish_plan(layouts: Layouts, finish: Any, sums: int, has_derivatives: bool) -> Plan:
    """The number, and its derivatives, from so many sums; behind them come the arrays that the finish refers to."""
    regions = getattr(finish, "regions", None)
    graph = Graph(layouts[0][0], regions and regions.axis, dtypes.name(layouts[0][2]), has_totals=True)
    nodes = _inputs(graph, layouts)
    steps = _substitute(finish, lambda v: nodes[v.index] if type(v) is ArrayRef else v)(graph, nodes[:sums])
    results = [next(steps), *(next(steps) if has_derivatives else ())]
    results = [ArrayRef(r.args[0]) if isinstance(r, Node) and r.operation == "input" else r for r in results]
    outputs = [(r, r.dtype) for r in results if isinstance(r, Node)]
    plan = _map_plan("arrayloss_finish", graph, layouts, outputs, [node.shape for node, _ in outputs])
    refs = iter(plan.results)
    return replace(plan, results=tuple([next(refs) if isinstance(r, Node) else r for r in results]))


def _recorder(op: Any, layouts: Layouts) -> tuple[Graph, list[Node]]:
    """A graph for an operation, and its arrays in it."""
    if len(op.event_axes) > 1:
        raise RefusedError("elements of several axes")
    shape, _, dtype = layouts[0]
    graph = Graph(shape, op.event_axes[0] if op.event_axes else None, "float32" if op.half else dtypes.name(dtype))
    return graph, _inputs(graph, layouts)


def _inputs(graph: Graph, layouts: Layouts) -> list[Node]:
    return [graph.input(i, dtypes.name(dtype), shape) for i, (shape, _, dtype) in enumerate(layouts)]


def _name(op: Any, what: str) -> str:
    return "arrayloss_" + re.sub(r"\W", "", getattr(op.kernel, "__name__", "kernel").strip("_")) + "_" + what


def _derivative_plan(op: Any, what: str, graph: Graph, layouts: Layouts, derivatives: Sequence[Node]) -> Plan:
    """Derivatives in the shapes and the dtype of the predictions, once or twice around."""
    shapes, dtype = [layouts[i % op.predictions][0] for i in range(len(derivatives))], dtypes.name(layouts[0][2])
    outputs = [(graph.broadcast_to(d, shape), dtype) for d, shape in zip(derivatives, shapes, strict=True)]
    return _map_plan(_name(op, what), graph, layouts, outputs, shapes)


def _map_plan(name: str, graph: Graph, layouts: Layouts, outputs: Outputs, shapes: Sequence[Shape]) -> Plan:
    """Every element on its own; `shapes` are those in which a caller sees the outputs."""
    steps = _input_steps(graph, layouts) | {f"y{j}": _output_steps(node) for j, (node, _) in enumerate(outputs)}
    frame = _frame(graph, steps, (), range(len(graph.shape)))
    threads, has_totals = frame.numbers["elements"] * frame.lanes, any(node.operation == "total" for node in graph.nodes.values())
    block = _block(threads)
    grid = 1 if has_totals else min(-(-threads // block), GRID)
    launch = _launch(Writer(name, frame).map(outputs), grid, block, frame.numbers, 0, len(layouts))
    results = tuple([(shape, dtype) for shape, (_, dtype) in zip(shapes, outputs, strict=True)])
    return Plan(results, (launch,) if outputs else (), tuple([ArrayRef(len(layouts) + j) for j in range(len(outputs))]))


def _sum_plan(
    name: str, graph: Graph, layouts: Layouts, outputs: Outputs, reduce: Sequence[int], shape: Shape, divisor: float, start: int = 0
) -> Plan:
    """The sums over the axes `reduce`, for every place along the others and, where terms have them, for every class.

    `start`: how many arrays of the plan stand before those of the layouts.
    """
    node = outputs[0][0]
    steps = _input_steps(graph, layouts) | {"y": _contiguous([1 if d in reduce else n for d, n in enumerate(node.shape)])}
    frame = _frame(graph, steps, [d for d in range(len(graph.shape)) if d not in reduce], reduce)
    entries = frame.numbers["classes"] if node.varies else 1
    side_by_side = min(SIDE_BY_SIDE, -(-entries // frame.lanes))
    chunks, threads = -(-entries // (side_by_side * frame.lanes)), frame.numbers["elements"] * frame.lanes
    slots, block = prod(shape) // entries * chunks, _block(threads)
    workers = max(1, min(-(-threads // (BLOCK * ELEMENTS)), BLOCKS // slots))
    numbers = {**frame.numbers, "workers": workers, "chunks": chunks, "entries": entries, "divisor": divisor if workers == 1 else 1.0}
    writer, kinds = Writer(name, replace(frame, numbers=numbers)), [dtype if workers == 1 else "float64" for _, dtype in outputs]
    kernel = writer.sums([(node, kind) for (node, _), kind in zip(outputs, kinds, strict=True)], side_by_side)
    end, m = start + len(layouts), len(outputs)
    launch = _launch(kernel, slots * workers, block, numbers, start, end)
    if workers == 1:
        return Plan(tuple([(shape, kind) for kind in kinds]), (launch,), tuple([ArrayRef(end + j) for j in range(m)]))
    partial = [((prod(shape), workers), (8 * workers, 8), np.dtype("float64"))] * m  # sums, one from every block
    gather = Graph(partial[0][0], None, "float64")
    totals = [(total, dtype) for total, (_, dtype) in zip(_inputs(gather, partial), outputs, strict=True)]
    last = _sum_plan("arrayloss_gather", gather, partial, totals, (1,), shape, divisor, end)
    return Plan(((gather.shape, "float64"),) * m + last.outputs, (launch, *last.launches), last.results)


def _launch(kernel: Kernel, grid: int, block: int, numbers: Mapping[str, Any], x: int, y: int) -> Launch:
    """`x` and `y`: where the arrays x0 and y0 are among those of the plan."""
    numbers, first = {**numbers, **kernel.constants}, {"x": x, "y": y}
    arguments = [numbers[p] if p in numbers else ArrayRef(first[p[0]] + int(p[1:])) for p in kernel.parameters]
    return Launch(kernel, grid, block, tuple(arguments))


def _frame(graph: Graph, steps: Steps, outer: Sequence[int], inner: Sequence[int]) -> Frame:
    """As few dimensions as walk over these axes and those, without the class axis: large steps of the predictions outside."""
    rows = graph.class_axis
    numbers: dict[str, Any] = {}
    sizes: list[int] = []
    starts = [0]
    for axes in (outer, sorted(inner, key=lambda d: -abs(steps["x0"][d]))):
        for d in [d for d in axes if d != rows and graph.shape[d] != 1]:
            n, before = graph.shape[d], f"_{len(sizes) - 1}"
            if len(sizes) > starts[-1] and all(numbers[a + before] == s[d] * n for a, s in steps.items()):
                sizes[-1] *= n
            else:
                sizes.append(n)
            numbers |= {f"{a}_{len(sizes) - 1}": s[d] for a, s in steps.items()}
        starts.append(len(sizes))
    numbers |= {f"n{d}": n for d, n in enumerate(sizes)} | {f"{a}_c": 0 if rows is None else s[rows] for a, s in steps.items()}
    classes, elements = 1 if rows is None else graph.shape[rows], prod(sizes[starts[1] :])
    numbers |= {"classes": classes, "elements": elements}
    lanes = LANES if rows is not None and classes >= LANES and steps["x0"][rows] == 1 else 1
    index = "int" if elements < 2**31 - GRID * BLOCK else "long long"  # division by 32 bits is much cheaper
    return Frame(numbers, range(starts[1]), range(starts[1], starts[2]), lanes, index)


def _input_steps(graph: Graph, layouts: Layouts) -> Steps:
    result = {}
    for i, (shape, strides, dtype) in enumerate(layouts):
        if any(s % dtype.itemsize for s in strides):
            raise RefusedError("strides that are no whole entries")
        here = [s // dtype.itemsize if n != 1 else 0 for n, s in zip(shape, strides, strict=True)]
        result[f"x{i}"] = (0,) * (len(graph.shape) - len(shape)) + tuple(here)
    return result


def _output_steps(node: Node) -> Shape:
    by_axis = dict(zip(node.axes, _contiguous(node.shape), strict=True))
    return tuple([by_axis.get(d, 0) for d in range(len(node.graph.shape))])


def _contiguous(shape: Sequence[int]) -> Shape:
    return tuple([prod(shape[d + 1 :]) if n != 1 else 0 for d, n in enumerate(shape)])


def _block(threads: int) -> int:
    """Threads of a block: a power of two, of whole warps."""
    return min(BLOCK, max(LANES, 1 << (threads - 1).bit_length()))
