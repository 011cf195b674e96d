"""Operations as launches of generated kernels: one kernel for all sums, one that adds up what its blocks found, one for the finish, and
one for the gradient, which is computed from the inputs again rather than stored.

A plan is everything about a call but its arrays, and is cached. Nothing here copies to the host or waits for the device.
"""

from __future__ import annotations

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

from ..graph import Graph, Node
from ..layout import Frame, Layouts, Shape, contiguous, frame_of, input_steps, inputs_of, name_of, output_steps, recorder
from .writer import BLOCK, Kernel, Writer

Array = Any
Outputs = Sequence[tuple[Node, str]]  # and the dtype that is stored

ELEMENTS = 8  # or classes of one that a thread adds up before another block is worth its launch
BLOCKS = 2048  # of a sum: some sixteen for every multiprocessor of a large GPU
GRID = 2**16  # blocks of anything else, at most
LANES = 32  # of a warp, which share a row that has as many classes, if they are neighbours in memory
LONG = 2048  # classes of a row that a whole block shares
SIDE_BY_SIDE = 8  # sums of classes that a thread keeps in registers; for more of them the rows are computed again


class Memory:
    """Arrays of a library on a GPU, as they are read, allocated and passed to a kernel; these are CuPy's."""

    array: Any = cupy.ndarray

    def layout(self, a: Array) -> Any:
        """Shape, strides in bytes, dtype."""
        return a.shape, a.strides, a.dtype

    def empty(self, shape: Shape, dtype: str, like: Array) -> Array:
        """An uninitialised array on the device of another one."""
        return cupy.empty(shape, dtype=dtype)

    def order(self, like: Array) -> Any:
        """A context in which kernels run on the device of an array, behind what is queued for it."""
        return like.device

    def argument(self, a: Array) -> Any:
        """What a kernel gets."""
        return a


CUPY = Memory()


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

    def run(self, arrays: Sequence[Array], memory: Memory) -> tuple[Any, ...]:
        """Launch it; the results may not be there yet."""
        with memory.order(arrays[0]):
            every = [*arrays, *[memory.empty(shape, dtype, arrays[0]) for shape, dtype in self.outputs]]
            for one in self.launches:
                arguments = tuple([memory.argument(every[a.index]) if type(a) is ArrayRef else a for a in one.arguments])
                _compiled(one.kernel.name, one.kernel.source)((one.grid,), (one.block,), arguments)
        return tuple([every[r.index] if type(r) is ArrayRef else r for r in self.results])


@lru_cache(maxsize=4096)
def _compiled(name: str, source: str) -> Any:
    return cupy.RawKernel(source, name, options=("--std=c++17",))


def execute(make: Callable[..., Plan | None], arrays: Sequence[Array], *static: Any, memory: Memory = CUPY) -> tuple[Any, ...] | None:
    """The results of a plan for arrays of these shapes, strides and dtypes; None where array calls have to do."""
    layouts = tuple(map(memory.layout, arrays))
    plan = None if any(0 in shape for shape, *_ in layouts) else make(layouts, *static)
    return None if plan is None else plan.run(arrays, memory)


def extract(value: Any, arrays: list[Array], memory: Memory = CUPY) -> Any:
    """A finish or a tuple with references in the place of its arrays, which are appended to `arrays`."""

    def enter(a: Any) -> Any:
        if not isinstance(a, memory.array):
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
    graph, nodes = recorder(op, layouts)
    terms = op.vjp(graph, nodes)[0]()
    shape = op.result_shape(layouts[0][0])
    if op.reduce is None:
        return _map_plan(name_of(op, "value"), graph, layouts, [(node, dtypes.name(layouts[0][2])) for node in terms], [shape] * len(terms))
    sums = [(node, "int64" if dtypes.kind(node.dtype) == "integer" else dtype or "float64") for node in terms]
    return _sum_plan(name_of(op, "sums"), graph, layouts, sums, op.reduce, shape, divisor)


@_cached
def gradient_plan(layouts: Layouts, op: Any, cotangents: tuple[Any, ...]) -> Plan:
    """Gradients of the predictions. A cotangent of a sum is a number, None, or a reference to one of the arrays."""
    graph, nodes = recorder(op, layouts)
    _, pullback = op.vjp(graph, nodes)
    gradients = pullback([graph.astype(nodes[c.index], graph.compute) if type(c) is ArrayRef else c for c in cotangents])
    return _derivative_plan(op, "gradient", graph, layouts, gradients)


@_cached
def derivatives_plan(layouts: Layouts, op: Any) -> Plan:
    """First and second derivatives of every element."""
    graph, nodes = recorder(op, layouts)
    first, second = op.derivatives(graph, nodes)
    return _derivative_plan(op, "derivatives", graph, layouts, (*first, *second))


@_cached
def finish_plan(layouts: Layouts, finish: Any, sums: int, has_derivatives: bool) -> Plan:
    """The number, and its derivatives, from so many sums; behind them come the arrays that the finish refers to."""
    regions = getattr(finish, "regions", None)
    graph = Graph(layouts[0][0], regions and regions.axis, dtypes.name(layouts[0][2]), has_totals=True)
    nodes = inputs_of(graph, layouts)
    steps = _substitute(finish, lambda v: nodes[v.index] if type(v) is ArrayRef else v)(graph, nodes[:sums])
    results = [next(steps), *(next(steps) if has_derivatives else ())]
    results = [ArrayRef(r.args[0]) if isinstance(r, Node) and r.operation == "input" else r for r in results]
    outputs = [(r, r.dtype) for r in results if isinstance(r, Node)]
    plan = _map_plan("arrayloss_finish", graph, layouts, outputs, [node.shape for node, _ in outputs])
    refs = iter(plan.results)
    return replace(plan, results=tuple([next(refs) if isinstance(r, Node) else r for r in results]))


def _derivative_plan(op: Any, what: str, graph: Graph, layouts: Layouts, derivatives: Sequence[Node]) -> Plan:
    """Derivatives in the shapes and the dtype of the predictions, once or twice around."""
    shapes, dtype = [layouts[i % op.predictions][0] for i in range(len(derivatives))], dtypes.name(layouts[0][2])
    outputs = [(graph.broadcast_to(d, shape), dtype) for d, shape in zip(derivatives, shapes, strict=True)]
    return _map_plan(name_of(op, what), graph, layouts, outputs, shapes)


def _map_plan(name: str, graph: Graph, layouts: Layouts, outputs: Outputs, shapes: Sequence[Shape]) -> Plan:
    """Every element on its own; `shapes` are those in which a caller sees the outputs."""
    steps = input_steps(graph, layouts) | {f"y{j}": output_steps(node) for j, (node, _) in enumerate(outputs)}
    frame = frame_of(graph, steps, (), range(len(graph.shape)))
    threads, has_totals = frame.numbers["elements"] * _lanes(frame), any(node.operation == "total" for node in graph.nodes.values())
    block = _block(threads)
    grid = 1 if has_totals else min(-(-threads // block), GRID)
    launch = _launch(_writer(name, frame).map(outputs), grid, block, frame.numbers, 0, len(layouts))
    results = tuple([(shape, dtype) for shape, (_, dtype) in zip(shapes, outputs, strict=True)])
    return Plan(results, (launch,) if outputs else (), tuple([ArrayRef(len(layouts) + j) for j in range(len(outputs))]))


def _sum_plan(
    name: str, graph: Graph, layouts: Layouts, outputs: Outputs, reduce: Sequence[int], shape: Shape, divisor: float, start: int = 0
) -> Plan:
    """The sums over the axes `reduce`, for every place along the others and, where terms have them, for every class.

    `start`: how many arrays of the plan stand before those of the layouts.
    """
    node = outputs[0][0]
    steps = input_steps(graph, layouts) | {"y": contiguous([1 if d in reduce else n for d, n in enumerate(node.shape)])}
    frame = frame_of(graph, steps, [d for d in range(len(graph.shape)) if d not in reduce], reduce)
    entries, lanes = frame.numbers["classes"] if node.varies else 1, _lanes(frame)
    side_by_side = min(SIDE_BY_SIDE, -(-entries // lanes))
    chunks, threads = -(-entries // (side_by_side * lanes)), frame.numbers["elements"] * lanes
    slots, block = prod(shape) // entries * chunks, _block(threads)
    work = min(threads, -(-frame.numbers["elements"] * frame.numbers["classes"] // ELEMENTS))
    workers = max(1, min(-(-work // BLOCK), BLOCKS // slots))
    numbers = {**frame.numbers, "workers": workers, "chunks": chunks, "entries": entries, "divisor": divisor if workers == 1 else 1.0}
    writer, kinds = _writer(name, replace(frame, numbers=numbers)), [dtype if workers == 1 else "float64" for _, dtype in outputs]
    kernel = writer.sums([(node, kind) for (node, _), kind in zip(outputs, kinds, strict=True)], side_by_side)
    end, m = start + len(layouts), len(outputs)
    launch = _launch(kernel, slots * workers, block, numbers, start, end)
    if workers == 1:
        return Plan(tuple([(shape, kind) for kind in kinds]), (launch,), tuple([ArrayRef(end + j) for j in range(m)]))
    partial = [((prod(shape), workers), (8 * workers, 8), np.dtype("float64"))] * m  # sums, one from every block
    gather = Graph(partial[0][0], None, "float64")
    totals = [(total, dtype) for total, (_, dtype) in zip(inputs_of(gather, partial), outputs, strict=True)]
    last = _sum_plan("arrayloss_gather", gather, partial, totals, (1,), shape, divisor, end)
    return Plan(((gather.shape, "float64"),) * m + last.outputs, (launch, *last.launches), last.results)


def _launch(kernel: Kernel, grid: int, block: int, numbers: Mapping[str, Any], x: int, y: int) -> Launch:
    """`x` and `y`: where the arrays x0 and y0 are among those of the plan."""
    numbers, first = {**numbers, **kernel.constants}, {"x": x, "y": y}
    arguments = [numbers[p] if p in numbers else ArrayRef(first[p[0]] + int(p[1:])) for p in kernel.parameters]
    return Launch(kernel, grid, block, tuple(arguments))


def _writer(name: str, frame: Frame) -> Writer:
    index = "int" if frame.numbers["elements"] < 2**31 - GRID * BLOCK else "long long"  # division by 32 bits is much cheaper
    return Writer(name, frame, _lanes(frame), index)


def _lanes(frame: Frame) -> int:
    """Threads that share a row."""
    classes = frame.numbers["classes"] if frame.numbers["x0_c"] == 1 else 1
    return 1 if classes < LANES else LANES if classes < LONG else BLOCK


def _block(threads: int) -> int:
    """Threads of a block: a power of two, of whole warps."""
    return min(BLOCK, max(LANES, 1 << (threads - 1).bit_length()))
