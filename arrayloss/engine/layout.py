"""How a kernel walks over arrays: an operation recorded for arrays of given shapes, strides and dtypes, and the steps between entries."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from arrayloss.core import dtypes

from .graph import Graph, Node, RefusedError

Shape = tuple[int, ...]
Layouts = Sequence[tuple[Shape, Shape, Any]]  # shape, strides in bytes, dtype
Steps = dict[str, Shape]  # by the name of an array: how far apart its neighbours along every axis are; 0 where it is broadcast


@dataclass(frozen=True)
class Frame:
    """What a kernel walks over. `outer` are the dimensions along which there are several sums, `inner` those that an element is found by.

    `numbers` are the parameters that are no arrays: sizes `n0`, steps such as `x0_1` and `x0_c` (along the classes), `elements`.
    """

    numbers: Mapping[str, Any]
    outer: range
    inner: range


def recorder(op: Any, layouts: Layouts, kind: type[Graph] = Graph) -> tuple[Graph, list[Node]]:
    """A graph for an operation, and its arrays in it."""
    if len(op.event_axes) > 1:
        raise RefusedError("elements of several axes")
    shape, _, dtype = layouts[0]
    graph = kind(shape, op.event_axes[0] if op.event_axes else None, "float32" if op.half else dtypes.name(dtype))
    return graph, inputs_of(graph, layouts)


def inputs_of(graph: Graph, layouts: Layouts) -> list[Node]:
    """The arrays of a kernel in its graph."""
    return [graph.input(i, dtypes.name(dtype), shape) for i, (shape, _, dtype) in enumerate(layouts)]


def name_of(op: Any, what: str) -> str:
    """The name of a kernel of an operation."""
    return "arrayloss_" + re.sub(r"\W", "", getattr(op.kernel, "__name__", "kernel").strip("_")) + "_" + what


def frame_of(
    graph: Graph, steps: Steps, outer: Sequence[int], inner: Sequence[int], as_last: Callable[[Sequence[int]], int] | None = None
) -> Frame:
    """As few dimensions as walk over the axes `outer` and `inner` without the class axis: large steps of the predictions outside.

    `as_last` chooses which inner one comes last, by their sizes.
    """
    groups: list[list[tuple[int, dict[str, int]]]] = []
    for axes in (outer, sorted(inner, key=lambda d: -abs(steps["x0"][d]))):
        group: list[tuple[int, dict[str, int]]] = []
        for d in [d for d in axes if d != graph.class_axis and graph.shape[d] != 1]:
            n, here = graph.shape[d], {a: s[d] for a, s in steps.items()}
            if group and all(group[-1][1][a] == step * n for a, step in here.items()):
                n *= group.pop()[0]
            group.append((n, here))
        groups.append(group)
    if as_last is not None:
        groups[1] = groups[1] or [(1, dict.fromkeys(steps, 0))]  # there is one
        groups[1].append(groups[1].pop(as_last([n for n, _ in groups[1]])))
    numbers = {f"n{d}": n for d, (n, _) in enumerate(groups[0] + groups[1])}
    numbers |= {f"{a}_{d}": step for d, (_, here) in enumerate(groups[0] + groups[1]) for a, step in here.items()}
    numbers |= {f"{a}_c": 0 if graph.class_axis is None else s[graph.class_axis] for a, s in steps.items()}
    numbers |= {"classes": 1 if graph.class_axis is None else graph.shape[graph.class_axis], "elements": prod([n for n, _ in groups[1]])}
    first = len(groups[0])
    return Frame(numbers, range(first), range(first, first + len(groups[1])))


def input_steps(graph: Graph, layouts: Layouts) -> Steps:
    """Of arrays as they are."""
    result = {}
    for i, (shape, strides, dtype) in enumerate(layouts):
        if any(s % dtype.itemsize for s in strides):
            raise RefusedError("strides that are no whole entries")
        here = [s // dtype.itemsize if n != 1 else 0 for n, s in zip(shape, strides, strict=True)]
        result[f"x{i}"] = (0,) * (len(graph.shape) - len(shape)) + tuple(here)
    return result


def output_steps(node: Node) -> Shape:
    """Of a new array that takes the entries of a node."""
    by_axis = dict(zip(node.axes, contiguous(node.shape), strict=True))
    return tuple([by_axis.get(d, 0) for d in range(len(node.graph.shape))])


def contiguous(shape: Sequence[int]) -> Shape:
    """Steps of a contiguous array, 0 along axes of size 1."""
    return tuple([prod(shape[d + 1 :]) if n != 1 else 0 for d, n in enumerate(shape)])
