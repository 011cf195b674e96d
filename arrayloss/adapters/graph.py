"""Array calls recorded instead of computed: what an adapter that fuses makes one kernel of.

`Graph` is a namespace whose arrays are `Node`s. A formula that runs on it leaves an expression for one element, or for one row
along the class axis; what cannot be expressed so raises `RefusedError`, and the adapter then makes the array calls one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from math import prod
from typing import Any

from arrayloss.core import dtypes, special

Array = Any  # a Node, whose operators are made below
Number = bool | int | float
_ORDER = {"bool": 0, "integer": 1, "half": 2, "float": 2}

UNARY = frozenset(("abs", "ceil", "cos", "cosh", "erf", "exp", "exp2", "expm1", "floor", "lgamma", "log", "log1p", "log2", "negative"))
UNARY |= frozenset(("round", "sin", "sinh", "sqrt", "tan", "tanh"))
PREDICATES = frozenset(("isnan", "isinf", "isfinite"))
BINARY = frozenset(("add", "subtract", "multiply", "divide", "pow", "minimum", "maximum"))
COMPARISONS = frozenset(("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"))
LOGICAL = frozenset(("logical_and", "logical_or", "logical_xor"))


class RefusedError(AttributeError):
    """A call that one kernel cannot hold."""


class Node:
    """One array of a graph: an operation and what it takes. `varies` says whether the entries of a row may differ."""

    __slots__ = ("args", "dtype", "graph", "operation", "shape", "varies")

    def __init__(self, graph: Graph, operation: str, args: tuple[Any, ...], dtype: str, shape: tuple[int, ...], varies: bool) -> None:
        self.graph, self.operation, self.args, self.dtype, self.shape, self.varies = graph, operation, args, dtype, shape, varies

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __bool__(self) -> bool:
        raise RefusedError("a condition on the value of an array")

    __hash__ = object.__hash__


def _operator(name: str, swapped: bool = False) -> Callable[[Node, Any], Node]:
    def call(self: Node, other: Any) -> Node:
        return self.graph.call(name, other, self) if swapped else self.graph.call(name, self, other)

    return call


for _symbol, _name in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "pow": "pow",
    "and": "logical_and",
    "or": "logical_or",
    "xor": "logical_xor",
}.items():
    setattr(Node, f"__{_symbol}__", _operator(_name))
    setattr(Node, f"__r{_symbol}__", _operator(_name, swapped=True))
for _symbol, _name in {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}.items():
    setattr(Node, f"__{_symbol}__", _operator(_name))
for _symbol, _name in {"neg": "negative", "invert": "logical_not", "abs": "abs"}.items():
    setattr(Node, f"__{_symbol}__", lambda self, name=_name: self.graph.call(name, self))


class Graph(special.Native):
    """A namespace that records. Equal calls give the same node, so that what two formulas share is computed once."""

    def __init__(self, classes: int | None, compute: str) -> None:
        self.classes = classes
        self.compute = compute
        self._nodes: dict[Any, Node] = {}
        for dtype in C_TYPES:
            setattr(self, dtype, dtype)

    def input(self, index: int, dtype: str, shape: Sequence[int], varies: bool) -> Node:
        """The array with that index among those that the kernel gets."""
        if dtypes.kind(dtype) == "other" or dtype not in C_TYPES:
            raise RefusedError(f"an array of {dtype}")
        return self._node("input", (index,), dtype, tuple(shape), varies)

    def _node(self, operation: str, args: tuple[Any, ...], dtype: str, shape: tuple[int, ...], varies: bool) -> Node:
        key = (operation, dtype, shape, *((id(a) if isinstance(a, Node) else (type(a), repr(a))) for a in args))
        if key not in self._nodes:
            self._nodes[key] = Node(self, operation, args, dtype, shape, varies)
        return self._nodes[key]

    # -- elementwise ------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name in _ELEMENTWISE:
            return lambda *args: self.call(name, *args)
        raise RefusedError(name)

    def call(self, name: str, *args: Any) -> Node:
        """An elementwise operation of the array API."""
        nodes = [a for a in args if isinstance(a, Node)]
        if not nodes or not all(isinstance(a, Node | bool | int | float) for a in args):
            raise RefusedError(f"{name} of something that is no array of the graph")
        dtype = self.promoted(args)
        if name in PREDICATES or name in COMPARISONS:
            result = "bool"
        elif name in LOGICAL or name == "logical_not":
            if dtype != "bool":
                raise RefusedError(f"{name} of {dtype}")
            result = "bool"
        elif name in ("minimum", "maximum") or dtypes.kind(dtype) == "float":
            result = dtype
        else:
            raise RefusedError(f"{name} of {dtype}")  # integers wrap around as their library does; nothing here needs them
        return self._node(name, tuple(args), result, _broadcast(nodes), any(n.varies for n in nodes))

    def promoted(self, args: Sequence[Any]) -> str:
        """The dtype in which arguments meet; Python numbers take that of the arrays. Halves are read as float32."""
        found = None
        for a in args:
            if isinstance(a, Node):
                dtype = "float32" if dtypes.kind(a.dtype) == "half" else a.dtype
                if found is None or found == dtype:
                    found = dtype
                    continue
                ranks = _ORDER[dtypes.kind(found)], _ORDER[dtypes.kind(dtype)]
                if ranks == (1, 1):
                    raise RefusedError(f"{found} beside {dtype}")
                if ranks == (2, 2):
                    found = "float64"
                elif ranks[1] > ranks[0]:
                    found = dtype
        if found is None:
            return self.compute
        if any(isinstance(a, float) for a in args) and _ORDER[dtypes.kind(found)] < 2:
            raise RefusedError(f"{found} beside a fraction")
        return found

    def where(self, condition: Node, a: Any, b: Any) -> Node:
        if condition.dtype != "bool":
            raise RefusedError(f"a condition of {condition.dtype}")
        dtype = self.promoted((a, b))
        nodes = [n for n in (condition, a, b) if isinstance(n, Node)]
        return self._node("where", (condition, a, b), dtype, _broadcast(nodes), any(n.varies for n in nodes))

    def astype(self, a: Node, dtype: str, *, copy: Any = None) -> Node:
        if a.dtype == dtype:
            return a
        if dtypes.kind(dtype) == "half":
            raise RefusedError("rounding to 16 bits within a formula")
        return self._node("astype", (a,), dtype, a.shape, a.varies)

    def sign(self, a: Array) -> Array:
        return self.where(a > 0, 1.0, self.where(a < 0, -1.0, a))

    def square(self, a: Array) -> Array:
        return a * a

    def full_like(self, a: Node, value: Number, *, dtype: str | None = None) -> Node:
        dtype = dtype or ("float32" if dtypes.kind(a.dtype) == "half" else a.dtype)
        return self._node("full", (value,), dtype, a.shape, False)

    def ones_like(self, a: Node, *, dtype: str | None = None) -> Node:
        return self.full_like(a, 1, dtype=dtype)

    def zeros_like(self, a: Node, *, dtype: str | None = None) -> Node:
        return self.full_like(a, 0, dtype=dtype)

    # -- shapes -----------------------------------------------------------------------------------------------------

    def broadcast_to(self, a: Node, shape: Sequence[int]) -> Node:
        return self._same(a, tuple(shape))

    def expand_dims(self, a: Node, *, axis: int) -> Node:
        axis %= a.ndim + 1
        return self._same(a, (*a.shape[:axis], 1, *a.shape[axis:]))

    def reshape(self, a: Node, shape: Sequence[int]) -> Node:
        if prod(a.shape) != 1 or prod(shape) != 1:
            raise RefusedError("reshape")
        return self._same(a, tuple(shape))

    def _same(self, a: Node, shape: tuple[int, ...]) -> Node:
        return a if a.shape == shape else self._node("same", (a,), a.dtype, shape, a.varies)

    # -- rows -------------------------------------------------------------------------------------------------------

    def sum(self, a: Array, *, axis: Any = None, dtype: str | None = None, keepdims: bool = False) -> Array:
        natural = {"float": a.dtype, "half": "float32"}.get(dtypes.kind(a.dtype), "int64")
        return self._of_row("sum", self.astype(a, dtype or natural), axis, keepdims, dtype or natural)

    def argmax(self, a: Node, *, axis: int, keepdims: bool = False) -> Node:
        return self._of_row("argmax", a, axis, keepdims, "int64")

    def max(self, a: Array, *, axis: int, keepdims: bool = False) -> Array:
        top = self.argmax(a, axis=axis, keepdims=True)
        return self._squeezed(self.at_label(a, top, axis), axis, keepdims)

    def min(self, a: Array, *, axis: int, keepdims: bool = False) -> Array:
        return -self.max(-a, axis=axis, keepdims=keepdims)

    def any(self, a: Array, *, axis: int, keepdims: bool = False) -> Array:
        return self.sum(a, axis=axis, keepdims=keepdims) > 0

    def _of_row(self, name: str, a: Node, axis: Any, keepdims: bool, dtype: str) -> Node:
        axis = self._class_axis(a, axis, name)
        shape = tuple(1 if i == axis else n for i, n in enumerate(a.shape))
        if a.shape != shape or a.varies:
            a = self._node(name, (a,), dtype, shape, False)
        else:  # a row of one entry
            a = self.astype(a, dtype) if name == "sum" else self.full_like(a, 0, dtype=dtype)
        return self._squeezed(a, axis, keepdims)

    def _squeezed(self, a: Node, axis: int, keepdims: bool) -> Node:
        axis %= a.ndim
        return a if keepdims else self._same(a, (*a.shape[:axis], *a.shape[axis + 1 :]))

    def _class_axis(self, a: Node, axis: Any, name: str) -> int:
        axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
        if self.classes is None or not isinstance(axis, int) or axis % a.ndim != self.classes:
            raise RefusedError(f"{name} along axis {axis}")
        return self.classes

    def positions(self, a: Node, axis: int) -> Node:
        axis = self._class_axis(a, axis, "positions")
        return self._node("position", (), "int64", tuple(n if i == axis else 1 for i, n in enumerate(a.shape)), True)

    def at_label(self, a: Node, labels: Node, axis: int) -> Node:
        axis = self._class_axis(a, axis, "at_label")
        return self._node("at", (a, labels), a.dtype, tuple(1 if i == axis else n for i, n in enumerate(a.shape)), False)

    def total(self, a: Node, shape: Sequence[int], axes: tuple[int, ...], dtype: str | None, lines: bool = False) -> Node:
        """What is to be added up; adding is the kernel's own work."""
        return self.broadcast_to(a, shape)


_ELEMENTWISE = UNARY | PREDICATES | BINARY | COMPARISONS | LOGICAL | {"logical_not"}

C_TYPES = {
    "bool": "bool",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
    "float16": "__half",
    "bfloat16": "__nv_bfloat16",
    "float32": "float",
    "float64": "double",
}


def _broadcast(nodes: Sequence[Node]) -> tuple[int, ...]:
    sizes = zip_longest(*(reversed(n.shape) for n in nodes), fillvalue=1)
    return tuple(reversed([next((n for n in many if n != 1), 1) for many in sizes]))
