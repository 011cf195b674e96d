"""The recorder: array calls noted down instead of computed, for a writer that makes one kernel of them.

`Graph` is a namespace whose arrays are `Node`s. A formula that runs on it leaves an expression for one element, or for one row along
the class axis; what cannot be expressed so raises `RefusedError`, and an adapter then makes the array calls one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partialmethod
from itertools import zip_longest
from math import prod
from typing import Any

from arrayloss.core import dtypes, special

Array = Any  # a Node, whose operators are set below
Number = bool | int | float
DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32", "float64")

UNARY = frozenset(("abs", "ceil", "cos", "cosh", "erf", "exp", "exp2", "expm1", "floor", "lgamma", "log", "log1p", "log2", "negative"))
UNARY |= frozenset(("round", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh"))
PREDICATES = frozenset(("isnan", "isinf", "isfinite"))
BINARY = frozenset(("add", "subtract", "multiply", "divide", "pow", "minimum", "maximum"))
COMPARISONS = frozenset(("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"))
LOGICAL = frozenset(("logical_and", "logical_or", "logical_xor", "logical_not"))
ELEMENTWISE = UNARY | PREDICATES | BINARY | COMPARISONS | LOGICAL
_OF_EVERY_DTYPE = PREDICATES | COMPARISONS | {"minimum", "maximum"}


class RefusedError(AttributeError):
    """A call that one kernel cannot hold."""


@dataclass(eq=False, repr=False, slots=True)
class Node:
    """One array of a graph: an operation and its arguments. `axes` are those of the graph that its axes run along; None at size 1."""

    graph: Graph
    operation: str
    args: tuple[Any, ...]
    dtype: str
    shape: tuple[int, ...]
    axes: tuple[Any, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def varies(self) -> bool:
        """Whether the entries of a row may differ."""
        return self.graph.class_axis is not None and self.graph.class_axis in self.axes

    def __bool__(self) -> bool:
        raise RefusedError("a condition on the value of an array")


def _operator(name: str, swapped: bool = False) -> Callable[..., Node]:
    def call(self: Node, *other: Any) -> Node:
        return self.graph.call(name, *other, self) if swapped else self.graph.call(name, self, *other)

    return call


_SWAPPABLE = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow"}
_SWAPPABLE |= {"and": "logical_and", "or": "logical_or", "xor": "logical_xor"}
_OTHERS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
for _symbol, _name in (_SWAPPABLE | _OTHERS | {"neg": "negative", "invert": "logical_not", "abs": "abs"}).items():
    setattr(Node, f"__{_symbol}__", _operator(_name))
for _symbol, _name in _SWAPPABLE.items():
    setattr(Node, f"__r{_symbol}__", _operator(_name, swapped=True))


class Graph(special.Native):
    """A namespace that records: methods are those of the array API. Equal calls give one node: what two formulas share is computed once.

    `shape` is that of the arrays that a kernel walks over, `compute` the dtype of numbers among themselves. `has_totals`: one block of
    threads sees all elements, so that a formula may use their total.
    """

    def __init__(self, shape: Sequence[int], class_axis: int | None, compute: str, has_totals: bool = False) -> None:
        self.shape, self.class_axis, self.compute, self.has_totals = tuple(shape), class_axis, compute, has_totals
        self.nodes: dict[Any, Node] = {}
        vars(self).update(zip(DTYPES, DTYPES, strict=True))

    def input(self, index: int, dtype: str, shape: Sequence[int]) -> Node:
        """The array with that index among those that the kernel gets."""
        if dtype not in DTYPES:
            raise RefusedError(f"an array of {dtype}")
        start = len(self.shape) - len(shape)
        if start < 0 or any(n not in (1, m) for n, m in zip(shape, self.shape[start:], strict=True)):
            raise RefusedError(f"an array of shape {tuple(shape)} beside {self.shape}")
        return self._node("input", (index,), dtype, shape, [None if n == 1 else start + i for i, n in enumerate(shape)])

    def _node(self, operation: str, args: tuple[Any, ...], dtype: str, shape: Sequence[int], axes: Sequence[Any]) -> Node:
        keys = [id(a) if isinstance(a, Node) else (type(a), repr(a)) for a in args]
        key = (operation, dtype, tuple(shape), tuple(axes), *keys)
        if key not in self.nodes:
            self.nodes[key] = Node(self, operation, args, dtype, tuple(shape), tuple(axes))
        return self.nodes[key]

    def __getattr__(self, name: str) -> Any:
        if name in ELEMENTWISE:
            return lambda *args: self.call(name, *args)
        raise RefusedError(name)

    def call(self, name: str, *args: Any) -> Node:
        nodes = [a for a in args if isinstance(a, Node)]
        if not nodes or not all(isinstance(a, Node | bool | int | float) for a in args):
            raise RefusedError(f"{name} of something that is no array of the graph")
        dtype = self.promoted(args)
        if name not in _OF_EVERY_DTYPE and dtypes.kind(dtype) != ("bool" if name in LOGICAL else "float"):
            raise RefusedError(f"{name} of {dtype}")  # integers wrap around as their library does; nothing here needs them
        return self._node(name, args, dtype if name in UNARY or name in BINARY else "bool", *_broadcast(nodes))

    def promoted(self, args: Sequence[Any]) -> str:
        """The dtype in which arguments meet; Python numbers take that of the arrays. Halves are read as float32."""
        every = {"float32" if dtypes.kind(a.dtype) == "half" else a.dtype for a in args if isinstance(a, Node)} or {self.compute}
        floats = {dtype for dtype in every if dtypes.kind(dtype) == "float"}
        highest = floats or every - {"bool"} or every
        if not floats and (len(highest) > 1 or any(isinstance(a, float) for a in args)):
            raise RefusedError(f"{' and '.join(highest)} beside another dtype or a fraction")
        return max(highest)  # float64 before float32

    def where(self, condition: Node, a: Any, b: Any) -> Node:
        if condition.dtype != "bool":
            raise RefusedError(f"a condition of {condition.dtype}")
        dtype, nodes = self.promoted((a, b)), [n for n in (condition, a, b) if isinstance(n, Node)]
        return self._node("where", (condition, a, b), dtype, *_broadcast(nodes))

    def astype(self, a: Node, dtype: str, *, copy: Any = None) -> Node:
        return a if a.dtype == dtype else self._node("astype", (a,), dtype, a.shape, a.axes)

    def full_like(self, a: Node, value: Number, *, dtype: str | None = None) -> Node:
        return self._node("full", (value,), dtype or self.promoted((a,)), a.shape, a.axes)

    def full(self, shape: Sequence[int], value: Number, *, dtype: str, device: Any = None) -> Node:
        return self.broadcast_to(self._node("full", (value,), dtype, (1,) * len(shape), (None,) * len(shape)), shape)

    ones_like = partialmethod(full_like, value=1)
    zeros_like = partialmethod(full_like, value=0)

    def broadcast_to(self, a: Node, shape: Sequence[int]) -> Node:
        """The array in a larger shape; new entries run along the axes of the graph in their order."""
        start = len(shape) - a.ndim
        axes: list[Any] = [None] * start + list(a.axes)
        for i, n in enumerate(shape):
            if n != (a.shape[i - start] if i >= start else 1):
                if len(shape) != len(self.shape) or axes[i] is not None or n != self.shape[i]:
                    raise RefusedError(f"{a.shape} broadcast to {tuple(shape)}")
                axes[i] = i
        return self._same(a, shape, axes)

    def expand_dims(self, a: Node, *, axis: int) -> Node:
        axis %= a.ndim + 1
        return self._same(a, (*a.shape[:axis], 1, *a.shape[axis:]), (*a.axes[:axis], None, *a.axes[axis:]))

    def squeeze(self, a: Node, axis: int) -> Node:
        axis %= a.ndim
        return self._same(a, a.shape[:axis] + a.shape[axis + 1 :], a.axes[:axis] + a.axes[axis + 1 :])

    def reshape(self, a: Node, shape: Sequence[int]) -> Node:
        """The array with other axes of size 1."""
        shape = [-prod(a.shape) // prod(shape) if n == -1 else n for n in shape]
        longer = iter([(n, axis) for n, axis in zip(a.shape, a.axes, strict=True) if n != 1])
        pairs = [(1, None) if n == 1 else next(longer, (0, None)) for n in shape]
        if prod(a.shape) != prod(shape) or [n for n, _ in pairs] != list(shape):
            raise RefusedError("reshape")
        return self._same(a, shape, [axis for _, axis in pairs])

    def _same(self, a: Node, shape: Sequence[int], axes: Sequence[Any]) -> Node:
        return a if a.shape == tuple(shape) else self._node("same", (a,), a.dtype, shape, axes)

    def sum(self, a: Array, *, axis: Any = None, dtype: str | None = None, keepdims: bool = False) -> Array:
        """The sum of every row, or the total over all elements."""
        natural = "int64" if dtypes.kind(a.dtype) in ("bool", "integer") else self.promoted((a,))
        return self._reduced("sum", self.astype(a, dtype or natural), axis, keepdims)

    def argmax(self, a: Node, *, axis: int, keepdims: bool = False) -> Node:
        return self._reduced("argmax", a, axis, keepdims)

    def max(self, a: Array, *, axis: int, keepdims: bool = False) -> Array:
        """The maximum of every row; a NaN is the maximum."""
        largest = self.gather_label(a, self.argmax(a, axis=axis, keepdims=True), axis)
        return largest if keepdims else self.squeeze(largest, axis)

    def min(self, a: Array, *, axis: int, keepdims: bool = False) -> Array:
        return -self.max(-a, axis=axis, keepdims=keepdims)

    def any(self, a: Array, *, axis: Any, keepdims: bool = False) -> Array:
        return self.sum(a, axis=axis, keepdims=keepdims) > 0

    def all(self, a: Array, *, axis: Any, keepdims: bool = False) -> Array:
        return ~self.any(~a, axis=axis, keepdims=keepdims)

    def _reduced(self, name: str, a: Node, axis: Any, keepdims: bool) -> Node:
        """Along the class axis; a sum also along all others together, where there are totals."""
        places = {i % a.ndim for i in (range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,))}
        along = {a.axes[i] for i in places} - {None}
        shape = tuple([1 if i in places else n for i, n in enumerate(a.shape)])
        elements = {i for i, n in enumerate(self.shape) if n != 1 and i != self.class_axis}
        others = along - {self.class_axis}
        if others and (name != "sum" or not self.has_totals or others != elements or (a.varies and self.class_axis not in along)):
            raise RefusedError(f"{name} along axis {axis}")
        if name == "argmax" and not along:
            a = self.full_like(a, 0, dtype="int64")
        if self.class_axis in along:
            a = self._node(name, (a,), "int64" if name == "argmax" else a.dtype, *_with_one(a, a.axes.index(self.class_axis)))
        if others:
            a = self._node("total", (a,), a.dtype, shape, [None if i in places else d for i, d in enumerate(a.axes)])
        for i in () if keepdims else sorted(places, reverse=True):
            a = self.squeeze(a, i)
        return a

    def arange_along(self, a: Node, axis: int) -> Node:
        axis %= a.ndim
        if a.axes[axis] not in (None, self.class_axis):
            raise RefusedError(f"places along axis {axis}")
        operation, args = ("full", (0,)) if a.shape[axis] == 1 else ("position", ())
        shape, axes = [1] * a.ndim, [None] * a.ndim
        shape[axis], axes[axis] = a.shape[axis], a.axes[axis]
        return self._node(operation, args, "int64", shape, axes)

    def gather_label(self, a: Node, labels: Node, axis: int) -> Node:
        """The entry of every row that its label names, the axis kept."""
        axis %= a.ndim
        if a.axes[axis] not in (None, self.class_axis) or labels.varies:
            raise RefusedError(f"a gather along axis {axis}")
        rest = self._node("at", (a, labels), a.dtype, *_with_one(a, axis)) if a.varies else a
        return self._same(rest, *_broadcast([rest, labels]))

    def sum_to(self, a: Node, shape: Sequence[int], axes: tuple[int, ...], dtype: str | None) -> Node:
        """What is to be added up along all axes but that of the classes: adding is the kernel's own work."""
        a = self.broadcast_to(a, shape)
        return self.sum(a, axis=self.class_axis, dtype=dtype, keepdims=True) if self.class_axis in axes and a.varies else a


def _with_one(a: Node, axis: int) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """Shape and axes with size 1 along an axis."""
    return tuple([1 if i == axis else n for i, n in enumerate(a.shape)]), tuple([None if i == axis else d for i, d in enumerate(a.axes)])


def _broadcast(nodes: Sequence[Node]) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """The common shape of nodes, and the axes that it runs along."""
    common: list[tuple[int, Any]] = []
    for pairs in zip_longest(*[list(zip(n.shape, n.axes, strict=True))[::-1] for n in nodes], fillvalue=(1, None)):
        longer = {pair for pair in pairs if pair[0] != 1}
        if len(longer) > 1:
            raise RefusedError("arrays that run along different axes")
        common.insert(0, longer.pop() if longer else (1, None))
    along = [axis for _, axis in common if axis is not None]
    if len(set(along)) < len(along):
        raise RefusedError("pairs of entries along one axis")
    return tuple([size for size, _ in common]), tuple([axis for _, axis in common])


def is_abs(node: Node) -> bool:
    """where(x >= 0, x, -x)"""
    if node.operation != "where" or not all(isinstance(a, Node) for a in node.args):
        return False
    test, a, b = node.args
    is_sign = test.operation == "greater_equal" and test.args[0] is a and repr(test.args[1]) in ("0", "0.0")
    return is_sign and b.operation == "negative" and b.args[0] is a


def is_never_positive(node: Any) -> bool:
    """Whether that is known; a NaN apart."""
    if not isinstance(node, Node):
        return bool(node <= 0)
    a, operation = node.args, node.operation
    if operation in ("full", "same"):
        return is_never_positive(a[0])
    if operation == "where":
        return all(map(is_never_positive, a[1:]))
    if operation == "negative":
        return is_abs(a[0])
    x = a[0].args[0] if operation == "subtract" and isinstance(a[0], Node) and a[0].operation == "at" else a[0] if a else None
    return operation == "subtract" and isinstance(a[1], Node) and a[1].operation == "max" and a[1].args[0] is x
