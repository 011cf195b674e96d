"""The recorder and the writer, which need neither CuPy nor CUDA: what they refuse, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from arrayloss.core import special
from arrayloss.engine.cuda.writer import Writer
from arrayloss.engine.graph import Graph, Node, RefusedError
from arrayloss.engine.layout import Frame

SHAPE = (4, 3)


def recorder(class_axis: int | None = 1, shape: tuple[int, ...] = SHAPE, **options: Any) -> tuple[Graph, Node, Node]:
    """A graph with predictions, and labels without the class axis."""
    graph = Graph(shape, class_axis, "float32", **options)
    labels = tuple([1 if i == class_axis else n for i, n in enumerate(shape)])
    return graph, graph.input(0, "float32", shape), graph.input(1, "int64", labels)


def written(node: Node) -> str:
    """The source of a kernel that stores one node."""
    numbers = {"elements": 4, "classes": 3, "n0": 4, "x0_0": 3, "x0_c": 1, "x1_0": 1, "x1_c": 0, "y0_0": 3, "y0_c": 1}
    frame = Frame(numbers, range(0), range(1))
    return Writer("kernel", frame, 1, "int").map([(node, node.dtype)]).source


REFUSED: dict[str, Callable[[Graph, Node, Node], Any]] = {
    "a condition": lambda xp, x, t: 1 if x[:, 0:1] > 0 else 0,
    "a sum over elements": lambda xp, x, t: xp.sum(x, axis=0),
    "a sum over everything": lambda xp, x, t: xp.sum(x),
    "a maximum over elements": lambda xp, x, t: xp.max(x, axis=0),
    "an unknown function": lambda xp, x, t: xp.sort(x),
    "a reshape that moves entries": lambda xp, x, t: xp.reshape(x, (3, 4)),
    "rows beside elements": lambda xp, x, t: x + xp.reshape(xp.squeeze(xp.astype(t, "float32"), 1), (1, 4)),
    "a broadcast to more": lambda xp, x, t: xp.broadcast_to(x, (5, 4, 3)),
    "an index": lambda xp, x, t: x[0],
    "labels that vary in a row": lambda xp, x, t: special.gather_label(xp, x, special.arange_along(xp, x, 1), 1),
    "arithmetic of integers": lambda xp, x, t: t + 1,
    "half of an integer": lambda xp, x, t: t * 0.5,
    "places of elements": lambda xp, x, t: special.arange_along(xp, x, 0),
    "a list of numbers": lambda xp, x, t: xp.asarray([1.0, 2.0, 0.0], dtype="float32"),
    "arrays side by side": lambda xp, x, t: xp.concat([x, x], axis=0),
    "a method of arrays": lambda xp, x, t: x.sum(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    with pytest.raises((RefusedError, AttributeError, TypeError)):
        REFUSED[what](*recorder())


def test_an_array_of_another_shape_is_refused() -> None:
    graph, _, _ = recorder()
    for shape in ((4, 2), (5, 3), (2, 4, 3)):
        with pytest.raises(RefusedError, match="an array of shape"):
            graph.input(2, "float32", shape)
    with pytest.raises(RefusedError, match="an array of complex64"):
        graph.input(2, "complex64", SHAPE)


def test_totals_need_one_block() -> None:
    graph, x, _ = recorder(has_totals=True)
    total = graph.sum(x, keepdims=True)
    assert (total.operation, total.shape, total.varies) == ("total", (1, 1), False)
    with pytest.raises(RefusedError):
        graph.sum(x, axis=0)  # a total for every class


def test_one_class_is_no_row() -> None:
    """Labels with an axis of size 1 were taken for rows, and CUDA was generated that did not compile."""
    graph, x, t = recorder(shape=(4, 1))
    assert not any(node.varies for node in (x, t))
    assert special.gather_label(graph, x, t, 1).operation == "input"
    assert special.arange_along(graph, x, 1).operation == "full"
    nll, _, grad, _ = special.nll_and_grad_at_label(graph, x, t, 1)
    assert not nll.varies
    assert not grad().varies


def test_equal_calls_are_one_node() -> None:
    graph, x, _ = recorder()
    assert graph.exp(x) is graph.exp(x)
    assert graph.exp(x) is not graph.exp(-x)
    p, q = special.sigmoid_pair(graph, x)
    assert written(p * q).count("exp(") == 1


def test_what_is_the_same_in_a_row_is_computed_once() -> None:
    """Nothing of it stands in the loop over the classes."""
    graph, x, t = recorder()
    slope = special.nll_and_grad_at_label(graph, x, t, 1)[2]()
    last = written(slope).rpartition("for (Count c")[2]
    assert "x1[" not in last
    assert last.count("exp(") == 1


def test_numbers_are_parameters_and_small_ones_are_not() -> None:
    _, x, _ = recorder()
    assert written(x * 0.37) == written(x * 0.91).replace("0.91", "0.37")
    assert "k0" in written(x * 0.37)
    assert "k0" not in written(x * 2.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes_meet_as_arrays_do(dtype: str) -> None:
    graph = Graph(SHAPE, 1, "float32")
    x, t = graph.input(0, dtype, SHAPE), graph.input(1, "bool", SHAPE)
    computed = "float64" if dtype == "float64" else "float32"
    assert (x * 2.0).dtype == graph.where(t, x, 0.0).dtype == computed
    assert (x > 0.5).dtype == (~t).dtype == "bool"
    assert (graph.astype(t, "float64") * x).dtype == "float64"
    assert (graph.astype(x, "float16") + 1.0).dtype == "float32"
