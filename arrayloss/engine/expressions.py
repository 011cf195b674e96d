"""Nodes of a graph as expressions of C: what the writers of CUDA and of C share. They say where a line belongs and what a load is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arrayloss.core import dtypes

from .graph import COMPARISONS, PREDICATES, Node, RefusedError

_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "less": "<", "less_equal": "<=", "greater": ">"}
_INFIX |= {"greater_equal": ">=", "equal": "==", "not_equal": "!=", "logical_xor": "!="}
OPERATORS = {name: f"{{0}} {sign} {{1}}" for name, sign in _INFIX.items()} | {"logical_not": "!{0}", "negative": "-{0}"}
OPERATORS |= {"square": "{0} * {0}", "sign": "{0} > 0 ? 1 : {0} < 0 ? -1 : {0}"}  # a NaN stays
_LITERALS = frozenset(repr(v) for v in (0, 1, 2, 3, 4, -1, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, -1.0))


@dataclass
class Scope:
    """Where lines go, and which variables are known there: in a row, or at one of its places."""

    lines: list[str]
    place: str = ""
    names: dict[Node, str] = field(default_factory=dict)


class Expressions:
    """Writes what nodes are. `row` takes the lines that do not depend on the place within a row."""

    types: Mapping[str, str]  # in which a dtype is computed
    operators: Mapping[str, str]
    index: str  # the type that counts elements
    load: Callable[[Node, Scope], str]  # the entry of an input that the scope is at
    cast: Callable[[str, str, str], str]  # a value of one dtype as one of another

    def __init__(self) -> None:
        self.inputs: dict[int, Node] = {}
        self.constants: dict[str, Any] = {}
        self.row = Scope([])
        self._count = 0

    def _decoded(self, place: str, dimensions: range) -> list[str]:
        """The index along every dimension, from the number of an element."""
        lines, rest = [], f"({self.index})({place})"
        for d in reversed(dimensions[1:]):
            lines += [f"const {self.index} i{d} = {rest} % n{d}, rest{d} = {rest} / n{d};"]
            rest = f"rest{d}"
        return lines + [f"const {self.index} i{d} = {rest};" for d in dimensions[:1]]

    def _new(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _name(self, node: Node, scope: Scope) -> str:
        """The variable that holds a node, written where it is first needed."""
        return self._define(node, scope if node.varies else self.row)

    def _define(self, node: Node, scope: Scope) -> str:
        """The same in this very scope."""
        if node not in scope.names:
            if node.operation == "same":
                scope.names[node] = self._name(node.args[0], scope)
            elif node.operation == "at":
                scope.names[node] = self._name(node.args[0], Scope(scope.lines, self._name(node.args[1], scope)))
            else:
                text = self._expression(node, scope)
                scope.names[node] = self._new()
                scope.lines.append(f"const {self.types[node.dtype]} {scope.names[node]} = {text};")
        return scope.names[node]

    def _argument(self, a: Any, dtype: str, scope: Scope) -> str:
        if not isinstance(a, Node):
            return self._constant(a, dtype)
        name = self._name(a, scope)
        return name if self.types[a.dtype] == self.types[dtype] else self.cast(name, a.dtype, dtype)

    def _constant(self, value: Any, dtype: str) -> str:
        """A small number as it is; any other is a parameter, so that another number or batch size needs no new kernel."""
        if dtype == "bool":
            return "1" if value else "0"
        value = float(value) if dtypes.kind(dtype) != "integer" else int(value)
        if repr(value) in _LITERALS:
            return f"({self.types[dtype]}){value!r}"
        names = [n for n, v in self.constants.items() if repr(v) == repr(value)]
        name = names[0] if names else f"k{len(self.constants)}"
        self.constants[name] = value
        return f"({self.types[dtype]}){name}"

    def _expression(self, node: Node, scope: Scope) -> str:
        operation, args = node.operation, node.args
        if operation == "input":
            self.inputs[args[0]] = node
            return self.load(node, scope)
        if operation == "position":
            return scope.place
        if operation == "full":
            return self._constant(args[0], node.dtype)
        if operation == "astype":
            return self.cast(self._name(args[0], scope), args[0].dtype, node.dtype)
        if operation == "where":
            names = [self._argument(a, dtype, scope) for a, dtype in zip(args, ("bool", node.dtype, node.dtype), strict=True)]
            return "{} ? {} : {}".format(*names)
        common = node.graph.promoted(args) if operation in COMPARISONS | PREDICATES else node.dtype
        if operation not in self.operators:
            raise RefusedError(f"{operation} in a kernel")
        return self.operators[operation].format(*[self._argument(a, common, scope) for a in args], f="d" if common == "float64" else "f")


def levels(outputs: Sequence[Node], operations: Collection[str], known: Collection[Node]) -> list[list[Node]]:
    """The nodes with one of these operations that outputs need: first those that depend on no other, then those that depend on them."""
    depths: dict[Node, int] = dict.fromkeys(known, 0)
    result: list[list[Node]] = []

    def depth(node: Node) -> int:
        if node not in depths:
            below = max((depth(a) for a in node.args if isinstance(a, Node)), default=0)
            if node.operation in operations:
                result[below:] = result[below:] or [[]]
                result[below].append(node)
                below += 1
            depths[node] = below
        return depths[node]

    for node in outputs:
        depth(node)
    return result
