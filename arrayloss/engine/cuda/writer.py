"""A graph of array calls written as one CUDA kernel. Nothing here needs CUDA: it takes nodes and gives text.

A kernel walks over elements. In losses of rows an element is a row, which one thread or the 32 lanes of a warp walk over class by class,
as often as sums of the row depend on other sums. Sums over elements are float64, and their order depends on shapes alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arrayloss.core import dtypes

from ..graph import COMPARISONS, DTYPES, ELEMENTWISE, PREDICATES, Node

BLOCK = 256  # threads, at most; always a power of two

_SIGNED, _UNSIGNED = ("signed char", "short", "int", "long long"), ("unsigned char", "unsigned short", "unsigned int", "unsigned long long")
C_TYPES = dict(zip(DTYPES, ("bool", *_SIGNED, *_UNSIGNED, "__half", "__nv_bfloat16", "float", "double"), strict=True))

_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "logical_and": "&&", "logical_or": "||", "logical_xor": "!="}
_INFIX |= {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!="}
_OPERATORS = {name: f"{{0}} {sign} {{1}}" for name, sign in _INFIX.items()}
_OPERATORS |= {"logical_not": "!{0}", "negative": "-{0}", "abs": "fabs({0})", "round": "rint({0})"}
_OPERATORS |= {"minimum": "smaller({0}, {1})", "maximum": "larger({0}, {1})"}
_LITERALS = frozenset(repr(v) for v in (0, 1, 2, 3, 4, -1, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, -1.0))
_LOADS = {"float16": "__half2float({})", "bfloat16": "__bfloat162float({})"}
_STORES = {"float16": "__float2half_rn((float){})", "bfloat16": "__float2bfloat16((float){})"}

_HELPERS = {  # what uses another comes before it
    # A NaN is the maximum, as in every array library; of equal entries the first is.
    "lanes_argmax": """template <class T> __device__ void lanes_argmax(T& v, long long& i) {
    for (int away = LANES / 2; away; away /= 2) {
        const T w = __shfl_xor_sync(0xffffffffu, v, away);
        const long long j = __shfl_xor_sync(0xffffffffu, i, away);
        if (j >= 0 && (i < 0 || above(w, j, v, i))) { v = w; i = j; }
    }
}
""",
    "above": """template <class T> __device__ bool above(T a, long long i, T b, long long j) {
    if (a != a || b != b) return a != a && (b == b || i < j);
    return a > b || (a == b && i < j);
}
""",
    "lanes_sum": """template <class T> __device__ T lanes_sum(T v) {
    for (int away = LANES / 2; away; away /= 2) v += __shfl_xor_sync(0xffffffffu, v, away);
    return v;
}
""",
    # Every thread gets the sum over the threads of its lane.
    "block_sum": f"""__device__ double block_sum(double v) {{
    __shared__ double part[{BLOCK}];
    __syncthreads();
    part[threadIdx.x] = v;
    for (int n = blockDim.x / 2; n >= LANES; n /= 2) {{
        __syncthreads();
        if (threadIdx.x < n) part[threadIdx.x] += part[threadIdx.x + n];
    }}
    __syncthreads();
    return part[threadIdx.x % LANES];
}}
""",
    "smaller": "template <class T> __device__ T smaller(T a, T b) { return a < b || a != a ? a : b; }\n",
    "larger": "template <class T> __device__ T larger(T a, T b) { return a > b || a != a ? a : b; }\n",
}


@dataclass(frozen=True)
class Kernel:
    """CUDA C++, the parameters of a launch by name, and those of them that the formula sets."""

    name: str
    source: str
    parameters: tuple[str, ...]
    constants: Mapping[str, Any]


@dataclass
class _Scope:
    """Where lines go, and which variables are known there: in a row, or at one of its places."""

    lines: list[str]
    place: str = ""
    names: dict[Node, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """What a kernel walks over. `outer` are the dimensions along which there are several sums, `inner` those that an element is found by.

    `numbers` are the parameters that are no arrays: sizes `n0`, steps such as `x0_1` and `x0_c` (along the classes), `elements`.
    """

    numbers: Mapping[str, Any]
    outer: range
    inner: range
    lanes: int  # threads that share a row
    index: str  # the C type that counts elements


class Writer:
    """Writes one kernel."""

    def __init__(self, name: str, frame: Frame) -> None:
        self.name, self.frame, self.inner, self.lanes, self.index = name, frame, frame.inner, frame.lanes, frame.index
        self.inputs: dict[int, Node] = {}
        self.constants: dict[str, Any] = {}
        self.totals: dict[Node, str] = {}
        self.row = _Scope([])
        self._count = 0

    def map(self, outputs: Sequence[tuple[Node, str]]) -> Kernel:
        """Every element on its own, behind the totals that it needs. An output is a node and the dtype that is stored."""
        nodes, body = [node for node, _ in outputs], []
        for level in _levels(nodes, ("total",), ()):
            self._start_row([node.args[0] for node in level])
            for node in level:
                value, total = self._name(node.args[0], self.row), self.totals.setdefault(node, self._new())
                self.row.lines.append(f"{total} += {value};")
                body.append(f"double {total} = 0;")
            body += self._elements("blockIdx.x", "gridDim.x", self.row.lines)
            body += [f"{self.totals[node]} = block_sum({self.totals[node]});" for node in level]
        self._start_row(nodes)
        entries = _Scope([], "c")
        for j, (node, dtype) in enumerate(outputs):
            value, place = _stored(self._name(node, entries), dtype), self._place(f"y{j}", self.inner)
            if node.varies:
                entries.lines.append(f"y{j}[{place} + c * y{j}_c] = {value};")
            else:
                self.row.lines.append(f"if (lane == 0) y{j}[{place}] = {value};")
        self._loop(entries)
        body += self._elements("blockIdx.x", "gridDim.x", self.row.lines)
        return self._kernel(body, [dtype for _, dtype in outputs])

    def sums(self, outputs: Sequence[tuple[Node, str]], side_by_side: int) -> Kernel:
        """The sum of each output over the inner dimensions, divided by `divisor`; or what each of several `workers`, blocks, finds.

        There are `entries` sums, one for every class or one; a thread adds up so many of them side by side.
        """
        self._start_row([node for node, _ in outputs])
        scope = _Scope([], "c")
        scope.lines += [f"a{j}[k] += {self._name(node, scope)};" for j, (node, _) in enumerate(outputs)]
        each = ["#pragma unroll", f"for (int k = 0; k < {side_by_side}; ++k) {{", "const long long c = first + k * LANES + lane;"]
        self.row.lines += [*each, "if (c < entries) {", *scope.lines, "}", "}"]
        body = [
            "const long long worker = blockIdx.x % workers, slot = blockIdx.x / workers;",
            f"const long long first = slot % chunks * {side_by_side} * LANES;",
            *self._decoded("slot / chunks", self.frame.outer),
            *[f"double a{j}[{side_by_side}] = {{}};" for j in range(len(outputs))],
            *self._elements("worker", "workers", self.row.lines),
            *each,
            f"const long long place = ({self._place('y', self.frame.outer)} + c * y_c) * workers + worker;",
            *[f"a{j}[k] = block_sum(a{j}[k]) / divisor;" for j in range(len(outputs))],
            "if (threadIdx.x < LANES && c < entries) {",
            *[f"y{j}[place] = {_stored(f'a{j}[k]', dtype)};" for j, (_, dtype) in enumerate(outputs)],
            "}",
            "}",
        ]
        return self._kernel(body, [dtype for _, dtype in outputs])

    def _kernel(self, body: Sequence[str], outputs: Sequence[str]) -> Kernel:
        parameters = {f"x{i}": f"const {C_TYPES[node.dtype]}*" for i, node in sorted(self.inputs.items())}
        parameters |= {f"y{j}": f"{C_TYPES[dtype]}*" for j, dtype in enumerate(outputs)}
        for name, value in {**self.frame.numbers, **self.constants}.items():
            parameters[name] = "double" if isinstance(value, float) else "long long"
        source = _source(self.name, parameters, ["const int lane = threadIdx.x % LANES;", *body], self.lanes)
        return Kernel(self.name, source, tuple(parameters), self.constants)

    def _elements(self, start: str, step: str, lines: Sequence[str]) -> list[str]:
        """A walk over the elements by blocks, of which this one is the one with number `start` of `step`."""
        first, ahead = f"((long long){start} * blockDim.x + threadIdx.x) / LANES", f"(long long){step} * blockDim.x / LANES"
        return [f"for ({self.index} e = {first}; e < elements; e += {ahead}) {{", *self._decoded("e", self.inner), *lines, "}"]

    def _decoded(self, place: str, dimensions: range) -> list[str]:
        """The index along every dimension, from the number of an element."""
        lines, rest = [], f"({self.index})({place})"
        for d in reversed(dimensions[1:]):
            lines += [f"const {self.index} i{d} = {rest} % n{d}, rest{d} = {rest} / n{d};"]
            rest = f"rest{d}"
        return lines + [f"const {self.index} i{d} = {rest};" for d in dimensions[:1]]

    @staticmethod
    def _place(array: str, dimensions: Sequence[int]) -> str:
        return " + ".join(f"i{d} * {array}_{d}" for d in dimensions) or "0"

    def _start_row(self, outputs: Sequence[Node]) -> None:
        """Begin the lines of one element with all that needs a walk over its row, in as few walks as depend on each other."""
        self.row = _Scope([], names=dict(self.totals))
        for level in _levels(outputs, ("sum", "argmax"), self.totals):
            entries, after = _Scope([], "c"), []
            for node in level:
                (a,), variable, type_ = node.args, self._new(), _computed(node.args[0].dtype)
                value, best = self._name(a, entries), f"{variable}_"
                if node.operation == "sum":  # in float64, which costs nothing beside reading the entry
                    self.row.lines.append(f"{'double' if dtypes.kind(node.dtype) == 'float' else 'long long'} {best} = 0;")
                    entries.lines.append(f"{best} += {value};")
                    after.append(f"const {type_} {variable} = ({type_}){best if self.lanes == 1 else f'lanes_sum({best})'};")
                else:
                    self.row.lines.append(f"{type_} {best} = 0; long long {variable} = -1;")
                    is_new = f"{variable} < 0 || above({value}, c, {best}, {variable})"
                    entries.lines.append(f"if ({is_new}) {{ {best} = {value}; {variable} = c; }}")
                    after += [f"lanes_argmax({best}, {variable});"] if self.lanes > 1 else []
                self.row.names[node] = variable
            self._loop(entries)
            self.row.lines += after

    def _loop(self, entries: _Scope) -> None:
        if entries.lines:
            self.row.lines += ["for (long long c = lane; c < classes; c += LANES) {", *entries.lines, "}"]

    def _new(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _name(self, node: Node, scope: _Scope) -> str:
        """The variable that holds a node, written where it is first needed."""
        scope = scope if node.varies else self.row
        if node not in scope.names:
            if node.operation == "same":
                scope.names[node] = self._name(node.args[0], scope)
            elif node.operation == "at":
                scope.names[node] = self._name(node.args[0], _Scope(scope.lines, self._name(node.args[1], scope)))
            else:
                text = self._expression(node, scope)
                scope.names[node] = self._new()
                scope.lines.append(f"const {_computed(node.dtype)} {scope.names[node]} = {text};")
        return scope.names[node]

    def _argument(self, a: Any, dtype: str, scope: _Scope) -> str:
        if not isinstance(a, Node):
            return self._constant(a, dtype)
        name = self._name(a, scope)
        return name if _computed(a.dtype) == _computed(dtype) else f"({_computed(dtype)}){name}"

    def _constant(self, value: Any, dtype: str) -> str:
        """A small number as it is; any other is a parameter, so that another number or batch size needs no new kernel."""
        if dtype == "bool":
            return "true" if value else "false"
        value = float(value) if dtypes.kind(dtype) != "integer" else int(value)
        if repr(value) in _LITERALS:
            return f"({_computed(dtype)}){value!r}"
        names = [n for n, v in self.constants.items() if repr(v) == repr(value)]
        name = names[0] if names else f"k{len(self.constants)}"
        self.constants[name] = value
        return f"({_computed(dtype)}){name}"

    def _expression(self, node: Node, scope: _Scope) -> str:
        operation, args = node.operation, node.args
        if operation == "input":
            i, self.inputs[args[0]] = args[0], node
            place = self._place(f"x{i}", (*self.frame.outer, *self.inner)) + (f" + {scope.place} * x{i}_c" if node.varies else "")
            return _LOADS.get(node.dtype, "{}").format(f"x{i}[{place}]")
        if operation == "position":
            return scope.place
        if operation == "full":
            return self._constant(args[0], node.dtype)
        if operation == "astype":
            return _LOADS.get(node.dtype, "{}").format(_stored(self._name(args[0], scope), node.dtype))
        if operation == "where":
            condition = self._argument(args[0], "bool", scope)
            return f"{condition} ? {self._argument(args[1], node.dtype, scope)} : {self._argument(args[2], node.dtype, scope)}"
        common = node.graph.promoted(args) if operation in COMPARISONS | PREDICATES else node.dtype
        names = [self._argument(a, common, scope) for a in args]
        assert operation in ELEMENTWISE, operation
        return _OPERATORS[operation].format(*names) if operation in _OPERATORS else f"{operation}({', '.join(names)})"


def _source(name: str, parameters: Mapping[str, str], body: Sequence[str], lanes: int) -> str:
    head, text = ", ".join([f"{type_} {n}" for n, type_ in parameters.items()]), "\n".join(body)
    code = f'extern "C" __global__ void {name}({head}) {{\n{text}\n}}\n'
    for helper, source in _HELPERS.items():
        code = source + code if f"{helper}(" in code else code
    includes = [f"#include <cuda_{h}.h>\n" for h, name in (("fp16", "half"), ("bf16", "bfloat16")) if name in code]
    return "".join([*includes, f"constexpr int LANES = {lanes};\n", code])


def _levels(outputs: Sequence[Node], operations: Collection[str], known: Collection[Node]) -> list[list[Node]]:
    """The nodes with one of these operations that outputs need: first those that depend on no other, then those that depend on them."""
    depths: dict[Node, int] = dict.fromkeys(known, 0)
    levels: list[list[Node]] = []

    def depth(node: Node) -> int:
        if node not in depths:
            below = max((depth(a) for a in node.args if isinstance(a, Node)), default=0)
            if node.operation in operations:
                levels[below:] = levels[below:] or [[]]
                levels[below].append(node)
                below += 1
            depths[node] = below
        return depths[node]

    for node in outputs:
        depth(node)
    return levels


def _computed(dtype: str) -> str:
    """The C type in which a dtype is computed."""
    return "float" if dtypes.kind(dtype) == "half" else C_TYPES[dtype]


def _stored(value: str, dtype: str) -> str:
    return _STORES.get(dtype, f"({C_TYPES[dtype]}){{}}").format(value)
