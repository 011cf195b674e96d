"""CuPy: a formula, with everything around it, is one kernel.

The array calls of an operation are recorded once (`graph`), written as CUDA (`cuda`) and launched: one kernel for all sums, one that
adds up what its blocks left, one for the division of a mean, one for the gradient, which is computed from the inputs again rather
than stored. What cannot be recorded runs as plain array calls. Nothing here copies to the host or waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import array_api_compat.cupy as xp
import cupy

from arrayloss.core import dtypes

from . import cuda
from .base import Adapter, Pull
from .graph import Graph, Node, RefusedError

Array = Any
Layout = tuple[tuple[int, ...], tuple[int, ...], str]  # shape, strides in entries, dtype

BLOCK = 256  # threads
WALK = 8  # elements that a thread adds up before another block is worth its launch
BLOCKS = 2048  # of a sum: some sixteen for every multiprocessor of a large GPU
NARROW = 32  # rows of fewer classes belong to one thread, and all rows whose classes lie apart in memory


class CuPy(Adapter):
    """Generated kernels on the device of the predictions; `fused=False` makes the array calls one by one."""

    joins = False  # a kernel of one formula computes its softmax in registers

    def __init__(self, fused: bool = True) -> None:
        super().__init__(xp)
        self.name = "cupy"
        self.fused = fused

    def accept(self, array: Any, like: Array, name: str) -> Array:
        array = super().accept(array, like, name)
        if array.device != like.device:
            raise ValueError(f"{name} must be on the device of the predictions, {like.device}; got {array.device}")
        return array

    def conversion(self, name: str) -> str:
        return f"convert it first, such as by cupy.asarray({name})"

    def constant(self, values: Any, dtype: Any, like: Array) -> Array:
        with like.device:
            return cupy.asarray(values, dtype=dtype) if isinstance(values, list | tuple) else cupy.full((), values, dtype=dtype)

    # -- running --------------------------------------------------------------------------------------------------------

    def forward(self, op: Any, arrays: Sequence[Array]) -> tuple[Array, ...]:
        plan = self._plan(_forward_plan, arrays, op)
        return super().forward(op, arrays) if plan is None else plan.run(arrays)

    def linearize(self, op: Any, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], Pull]:
        if not op.saves_slope:  # the slope needs the sums: array calls, from the inputs
            return self.forward(op, arrays), lambda cotangents: op.pull(xp, arrays, None, cotangents)
        if self._plan(_gradient_plan, (*arrays, None), op, 1.0) is None:
            return super().linearize(op, arrays)

        def pull(cotangents: Sequence[Any]) -> tuple[Array, ...]:
            g = op.spread(xp, arrays[0], cotangents[0])
            everything = (*arrays, g if isinstance(g, cupy.ndarray) else None)
            plan = self._plan(_gradient_plan, everything, op, None if isinstance(g, cupy.ndarray) else float(g))
            assert plan is not None
            return plan.run(everything)

        return self.forward(op, arrays), pull

    def derivatives(self, op: Any, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        plan = self._plan(_derivatives_plan, arrays, op)
        if plan is None:
            return super().derivatives(op, arrays)
        both = plan.run(arrays)
        return both[: op.predictions], both[op.predictions :]

    def stages(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
        arrays = [a for a in arguments if isinstance(a, cupy.ndarray)]
        static = tuple(None if isinstance(a, cupy.ndarray) else a if isinstance(a, int | float) else cupy.dtype(a).name for a in arguments)
        plan = self._plan(_stages_plan, arrays, function, static) if arrays else None
        return super().stages(function, *arguments) if plan is None else iter(plan.run(arrays))

    def _plan(self, make: Callable[..., _Plan | None], arrays: Sequence[Array | None], *static: Any) -> _Plan | None:
        if not self.fused or any(a is not None and a.size == 0 for a in arrays):
            return None
        layouts = tuple(None if a is None else (a.shape, a.strides, a.dtype) for a in arrays)
        return make(layouts, *static)


# -- launches -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _compiled(name: str, source: str) -> Any:
    return cupy.RawKernel(source, name, options=("--std=c++17",))


@dataclass(frozen=True, eq=False)
class _Plan:
    """What one call launches: everything about it but the arrays."""

    kernel: cuda.Kernel
    numbers: dict[str, Any]  # parameters that are no arrays
    outputs: tuple[tuple[tuple[int, ...], str], ...]  # shape and dtype
    grid: int
    block: int
    workers: int = 1  # blocks that share a sum
    fixed: tuple[Any, ...] = ()  # results that are numbers, in their places

    def run(self, arrays: Sequence[Array]) -> tuple[Any, ...]:
        with arrays[0].device:
            made = [cupy.empty(shape, dtype=dtype) for shape, dtype in self.outputs]
            targets = made if self.workers == 1 else [cupy.empty(len(made) * self.grid, dtype="float64")]
            self._launch(self.kernel, self.grid, self.block, arrays, targets, self.numbers)
            if self.workers > 1:
                kernel = cuda.gather(tuple(dtype for _, dtype in self.outputs), "divisor" in self.numbers)
                self._launch(kernel, self.grid // self.workers, BLOCK, targets, made, self.numbers)
        results = iter(made)
        return tuple(next(results) if f is None else f for f in self.fixed) if self.fixed else tuple(made)

    @staticmethod
    def _launch(kernel: cuda.Kernel, grid: int, block: int, inputs: Sequence[Array], outputs: Sequence[Array], numbers: Any) -> None:
        arguments = []
        for name in kernel.parameters:
            if name in numbers:
                arguments.append(numbers[name])
            else:
                arguments.append((outputs if name[0] == "y" else inputs)[int(name[1:])])
        _compiled(kernel.name, kernel.source)((grid,), (block,), tuple(arguments))


# -- plans ----------------------------------------------------------------------------------------------------------------


def _refusable(make: Callable[..., _Plan]) -> Callable[..., _Plan | None]:
    """A plan, remembered; None where a call cannot be one kernel."""

    @lru_cache(maxsize=1024)
    def remembered(layouts: Any, *static: Any) -> _Plan | None:
        try:
            ndim = max(len(a[0]) for a in layouts if a is not None)
            return make([None if a is None else _layout(ndim, *a) for a in layouts], *static)
        except RefusedError:
            return None

    return remembered


def _layout(ndim: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> Layout:
    if any(s % dtype.itemsize for s in strides):
        raise RefusedError("strides that are no whole entries")
    new = ndim - len(shape)
    return (1,) * new + shape, (0,) * new + tuple(s // dtype.itemsize for s in strides), dtypes.name(dtype)


def _inputs(graph: Graph, layouts: Sequence[Layout | None], rows: int | None) -> list[Node | None]:
    shape = layouts[0][0]  # type: ignore[index]  # of the predictions, which are there
    return [
        None if a is None else graph.input(i, a[2], a[0], rows is not None and a[0][rows] == shape[rows]) for i, a in enumerate(layouts)
    ]


def _traced(op: Any, layouts: Sequence[Layout | None]) -> tuple[Graph, list[Any]]:
    graph = Graph(op.classes, "float32" if op.half else layouts[0][2])  # type: ignore[index]
    return graph, _inputs(graph, layouts, op.classes)


@_refusable
def _forward_plan(layouts: list[Layout], op: Any) -> _Plan:
    graph, nodes = _traced(op, layouts)
    results = op.step(graph, nodes, 0)[0]
    shape, _, dtype = layouts[0]
    if op.reduce is None:
        outputs = [(node, dtype, op.element_shape(shape)) for node in results]
        return _map_plan(_name(op, "value"), layouts, outputs, op.classes, op.output_shape(shape))
    if any(node.varies for node in results):
        raise RefusedError("a sum for every class")
    mean = getattr(op, "mean", False)  # a division by a plain number, done where the sum ends
    wide = "float32" if op.half else dtype if mean else "float64"
    sums = [(node, "int64" if dtypes.kind(node.dtype) == "integer" else wide) for node in results]
    divisor = float(op.denominator(shape)) if mean else None
    return _sum_plan(_name(op, "mean" if mean else "sums"), layouts, sums, op.classes, op.reduce, op.output_shape(shape), divisor)


@_refusable
def _gradient_plan(layouts: list[Layout], op: Any, number: float | None) -> _Plan:
    graph, nodes = _traced(op, layouts)
    g = nodes.pop()
    slopes = op.step(graph, nodes, 1)[1]
    factor = number if g is None else graph.astype(g, slopes[0].dtype)
    shape, _, dtype = layouts[0]
    if op.mean:
        factor = factor / op.denominator(shape)
    outputs = [(factor * s, dtype, shape) for s in slopes]
    return _map_plan(_name(op, "gradient"), layouts, outputs, op.classes)


@_refusable
def _derivatives_plan(layouts: list[Layout], op: Any) -> _Plan:
    graph, nodes = _traced(op, layouts)
    _, slopes, curvatures = op.step(graph, nodes, 2)
    shape, _, dtype = layouts[0]
    return _map_plan(_name(op, "derivatives"), layouts, [(d, dtype, shape) for d in (*slopes, *curvatures)], op.classes)


@_refusable
def _stages_plan(layouts: list[Layout], function: Callable[..., Iterator[Any]], static: tuple[Any, ...]) -> _Plan:
    graph = Graph(None, layouts[0][2])
    nodes = iter(_inputs(graph, layouts, None))
    results = list(function(graph, *(next(nodes) if a is None else a for a in static)))
    outputs = [(r, r.dtype, r.shape) for r in results if isinstance(r, Node)]
    fixed = tuple(None if isinstance(r, Node) else r for r in results)
    return _map_plan(f"arrayloss_{function.__name__.strip('_')}", layouts, outputs, None, fixed=fixed)


def _name(op: Any, what: str) -> str:
    return f"arrayloss_{op.kernel.__name__.strip('_')}_{what}"


def _map_plan(
    name: str,
    layouts: Sequence[Layout | None],
    outputs: Sequence[tuple[Node, str, tuple[int, ...]]],
    rows: int | None,
    seen: tuple[int, ...] | None = None,
    fixed: tuple[Any, ...] = (),
) -> _Plan:
    """Every element on its own; `seen` is the shape in which a caller sees the outputs."""
    full = tuple(max(n, key=lambda n: n != 1) for n in zip(*(shape for _, _, shape in outputs), *(a[0] for a in layouts if a), strict=True))
    operands = {f"x{i}": a for i, a in enumerate(layouts) if a}
    operands |= {f"y{j}": (shape, _contiguous(shape), dtype) for j, (_, dtype, shape) in enumerate(outputs)}
    axes = sorted((d for d in range(len(full)) if d != rows), key=lambda d: -abs(layouts[0][1][d]))  # type: ignore[index]
    sizes, numbers = _collapsed(axes, full, operands)
    elements = prod(sizes)
    lanes = _lanes(layouts[0], rows, full)
    numbers |= _sizes(0, sizes) | _of_classes(rows, full, operands) | {"elements": elements}
    writer = cuda.Writer(name, outer=0, inner=len(sizes), rows=rows is not None, lanes=lanes, index=_index(elements))
    per_class = [(node, dtype, rows is not None and shape[rows] == full[rows]) for node, dtype, shape in outputs]
    kernel = writer.map(per_class)
    made = tuple((shape if seen is None else seen, dtype) for _, dtype, shape in outputs)
    grid = min(-(-elements * lanes // BLOCK), 2**20)
    return _Plan(kernel, {**numbers, **kernel.constants}, made, grid, min(BLOCK, -(-elements * lanes // 32) * 32), fixed=fixed)


def _sum_plan(
    name: str,
    layouts: Sequence[Layout],
    outputs: Sequence[tuple[Node, str]],
    rows: int | None,
    reduce: tuple[int, ...],
    seen: tuple[int, ...],
    divisor: float | None,
) -> _Plan:
    """The sums over the axes `reduce`, for every place along the others, divided if there is a divisor."""
    full = layouts[0][0]
    operands = {f"x{i}": a for i, a in enumerate(layouts)}
    kept = [d for d in range(len(full)) if d not in reduce and d != rows]
    outer, places = _collapsed(kept, full, operands)
    inner, numbers = _collapsed(sorted(reduce, key=lambda d: -abs(layouts[0][1][d])), full, operands, start=len(outer))
    numbers |= places | _sizes(0, (*outer, *inner)) | _of_classes(rows, full, operands)
    lanes = _lanes(layouts[0], rows, full)
    elements, sums = prod(inner), prod(outer)
    block = min(BLOCK, -(-elements * lanes // 32) * 32)
    workers = max(1, min(-(-elements * lanes // (BLOCK * WALK)), BLOCKS // sums))
    numbers |= {"elements": elements, "workers": workers}
    index = _index(elements + BLOCK * workers)
    writer = cuda.Writer(name, outer=len(outer), inner=len(inner), rows=rows is not None, lanes=lanes, index=index)
    kernel = writer.sums(outputs, final=workers == 1, mean=divisor is not None)
    everything = {**numbers, **kernel.constants} if divisor is None else {**numbers, **kernel.constants, "divisor": divisor}
    return _Plan(kernel, everything, tuple((seen, dtype) for _, dtype in outputs), sums * workers, block, workers)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[d + 1 :]) for d in range(len(shape)))


def _steps(operand: Layout, d: int) -> int:
    """How far apart neighbours along an axis are; what is broadcast does not move."""
    return operand[1][d] if operand[0][d] != 1 else 0


def _collapsed(axes: Sequence[int], full: tuple[int, ...], operands: dict[str, Layout], start: int = 0) -> tuple[list[int], dict[str, int]]:
    """Sizes and strides of as few dimensions as walk over all these axes."""
    sizes: list[int] = []
    strides: list[list[int]] = []
    for d in axes:
        steps = [_steps(a, d) for a in operands.values()]
        if full[d] == 1:
            continue
        if sizes and all(before == step * full[d] for before, step in zip(strides[-1], steps, strict=True)):
            sizes[-1], strides[-1] = sizes[-1] * full[d], steps
        else:
            sizes.append(full[d])
            strides.append(steps)
    places = {f"{a}_{start + d}": step for d, steps in enumerate(strides) for a, step in zip(operands, steps, strict=True)}
    return sizes, places


def _sizes(start: int, sizes: Sequence[int]) -> dict[str, int]:
    return {f"n{start + d}": n for d, n in enumerate(sizes)}


def _of_classes(rows: int | None, full: tuple[int, ...], operands: dict[str, Layout]) -> dict[str, int]:
    """The number of classes, and the stride along them."""
    return {} if rows is None else {"classes": full[rows]} | {f"{name}_c": _steps(a, rows) for name, a in operands.items()}


def _lanes(predictions: Layout | None, rows: int | None, full: tuple[int, ...]) -> int:
    """How many threads share a row: a warp where its classes are neighbours in memory."""
    return cuda.LANES if rows is not None and predictions and full[rows] >= NARROW and predictions[1][rows] == 1 else 1


def _index(elements: int) -> str:
    """The type that counts elements: division by 32 bits is much cheaper."""
    return "int" if elements < 2**31 - 2**22 else "long long"


ADAPTER = CuPy()
