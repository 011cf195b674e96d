"""A graph of array calls written as one CUDA kernel. Nothing here needs CUDA: it takes nodes and gives text.

A kernel walks over elements. In losses of rows an element is a row, which one thread, the 32 lanes of a warp or all threads of a block walk
over class by class, as often as sums of the row depend on other sums. Sums over elements are float64, in an order that
depends on shapes alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arrayloss.core import dtypes

from ..expressions import OPERATORS, Expressions, Scope, levels
from ..graph import DTYPES, PREDICATES, UNARY, Node
from ..layout import Frame

BLOCK = 256  # threads, at most; always a power of two
SHORT = 32  # lines of a loop over the classes that is unrolled

_SIGNED, _UNSIGNED = ("signed char", "short", "int", "long long"), ("unsigned char", "unsigned short", "unsigned int", "unsigned long long")
C_TYPES = dict(zip(DTYPES, ("bool", *_SIGNED, *_UNSIGNED, "__half", "__nv_bfloat16", "float", "double"), strict=True))

_OPERATORS = OPERATORS | {"logical_and": "{0} && {1}", "logical_or": "{0} || {1}", "abs": "fabs({0})", "round": "rint({0})"}
_OPERATORS |= {"minimum": "smaller({0}, {1})", "maximum": "larger({0}, {1})", "pow": "pow({0}, {1})"}
_OPERATORS |= {name: f"{name}({{0}})" for name in UNARY | PREDICATES if name not in _OPERATORS}
_LOADS = {"float16": "__half2float({})", "bfloat16": "__bfloat162float({})"}
_STORES = {"float16": "__float2half_rn((float){})", "bfloat16": "__float2bfloat16((float){})"}

_HELPERS = {  # what uses another comes before it
    # A NaN is the maximum, as in every array library; of equal entries the first is.
    "lanes_argmax": """template <class T> __device__ void lanes_argmax(T& v, Count& i) {
    for (int away = WARP / 2; away; away /= 2) {
        const T w = __shfl_xor_sync(0xffffffffu, v, away);
        const Count j = __shfl_xor_sync(0xffffffffu, i, away);
        if (j >= 0 && (i < 0 || above(w, j, v, i))) { v = w; i = j; }
    }
    if (LANES > WARP) {
        __shared__ T best[LANES / WARP];
        __shared__ Count place[LANES / WARP];
        __syncthreads();
        if (threadIdx.x % WARP == 0) { best[threadIdx.x / WARP] = v; place[threadIdx.x / WARP] = i; }
        __syncthreads();
        for (int k = 0; k < LANES / WARP; ++k)
            if (place[k] >= 0 && (i < 0 || above(best[k], place[k], v, i))) { v = best[k]; i = place[k]; }
    }
}
""",
    "above": """template <class T> __device__ bool above(T a, Count i, T b, Count j) {
    if (a != a || b != b) return a != a && (b == b || i < j);
    return a > b || (a == b && i < j);
}
""",
    "lanes_sum": """template <class T> __device__ T lanes_sum(T v) {
    for (int away = WARP / 2; away; away /= 2) v += __shfl_xor_sync(0xffffffffu, v, away);
    if (LANES > WARP) {
        __shared__ T part[LANES / WARP];
        __syncthreads();
        if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = v;
        __syncthreads();
        v = 0;
        for (int k = 0; k < LANES / WARP; ++k) v += part[k];
    }
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


class Writer(Expressions):
    """Writes one kernel."""

    types, operators = C_TYPES | {"float16": "float", "bfloat16": "float"}, _OPERATORS  # 16 bits are computed in 32

    def __init__(self, name: str, frame: Frame, lanes: int, index: str) -> None:
        """`lanes`: threads that share a row; `index`: the C type that counts elements."""
        super().__init__()
        self.name, self.frame, self.inner, self.lanes, self.index = name, frame, frame.inner, lanes, index
        self.totals: dict[Node, str] = {}

    def map(self, outputs: Sequence[tuple[Node, str]]) -> Kernel:
        """Every element on its own, behind the totals that it needs. An output is a node and the dtype that is stored."""
        nodes, body = [node for node, _ in outputs], []
        for level in levels(nodes, ("total",), ()):
            self._start_row([node.args[0] for node in level])
            for node in level:
                value, total = self._name(node.args[0], self.row), self.totals.setdefault(node, self._new())
                self.row.lines.append(f"{total} += {value};")
                body.append(f"double {total} = 0;")
            body += self._elements("blockIdx.x", "gridDim.x", self.row.lines)
            body += [f"{self.totals[node]} = block_sum({self.totals[node]});" for node in level]
        self._start_row(nodes)
        entries = Scope([], "c")
        for j, (node, dtype) in enumerate(outputs):
            value, place = _stored(self._name(node, entries), dtype), self._place(f"y{j}", self.inner)
            if node.varies:
                entries.lines.append(f"y{j}[{place} + c{self._times(f'y{j}')}] = {value};")
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
        scope = Scope([], "c")
        scope.lines += [f"a{j}[k] += {self._name(node, scope)};" for j, (node, _) in enumerate(outputs)]
        each = ["#pragma unroll", f"for (int k = 0; k < {side_by_side}; ++k) {{", "const Count c = first + k * LANES + lane;"]
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
        parameters = {f"x{i}": f"const {C_TYPES[node.dtype]}* __restrict__" for i, node in sorted(self.inputs.items())}
        parameters |= {f"y{j}": f"{C_TYPES[dtype]}* __restrict__" for j, dtype in enumerate(outputs)}
        for name, value in {**self.frame.numbers, **self.constants}.items():
            parameters[name] = "double" if isinstance(value, float) else "long long"
        count = "int" if self.frame.numbers["classes"] < 2**31 - BLOCK else "long long"
        constants = [f"constexpr int LANES = {self.lanes}, WARP = {min(self.lanes, 32)};", f"using Count = {count};"]  # of classes
        source = _source(self.name, parameters, ["const int lane = threadIdx.x % LANES;", *body], constants)
        return Kernel(self.name, source, tuple(parameters), self.constants)

    def _elements(self, start: str, step: str, lines: Sequence[str]) -> list[str]:
        """A walk over the elements by blocks, of which this one is the one with number `start` of `step`."""
        first, ahead = f"((long long){start} * blockDim.x + threadIdx.x) / LANES", f"(long long){step} * blockDim.x / LANES"
        return [f"for ({self.index} e = {first}; e < elements; e += {ahead}) {{", *self._decoded("e", self.inner), *lines, "}"]

    @staticmethod
    def _place(array: str, dimensions: Sequence[int]) -> str:
        return " + ".join(f"i{d} * {array}_{d}" for d in dimensions) or "0"

    def _times(self, array: str) -> str:
        """The step along the classes, as a factor."""
        return "" if self.frame.numbers[f"{array}_c"] == 1 else f" * {array}_c"

    def _start_row(self, outputs: Sequence[Node]) -> None:
        """Begin the lines of one element with all that needs a walk over its row, in as few walks as depend on each other."""
        self.row = Scope([], names=dict(self.totals))
        for level in levels(outputs, ("sum", "argmax"), self.totals):
            entries, after = Scope([], "c"), []
            for node in level:
                (a,), variable, type_ = node.args, self._new(), self.types[node.args[0].dtype]
                value, best = self._name(a, entries), f"{variable}_"
                if node.operation == "sum":  # in float64, which costs nothing beside reading the entry
                    self.row.lines.append(f"{'double' if dtypes.kind(node.dtype) == 'float' else 'long long'} {best} = 0;")
                    entries.lines.append(f"{best} += {value};")
                    after.append(f"const {type_} {variable} = ({type_}){best if self.lanes == 1 else f'lanes_sum({best})'};")
                else:
                    self.row.lines.append(f"{type_} {best} = 0; Count {variable} = -1;")
                    is_new = f"{variable} < 0 || above({value}, c, {best}, {variable})"
                    entries.lines.append(f"if ({is_new}) {{ {best} = {value}; {variable} = c; }}")
                    after += [f"lanes_argmax({best}, {variable});"] if self.lanes > 1 else []
                self.row.names[node] = variable
            self._loop(entries)
            self.row.lines += after

    def _loop(self, entries: Scope) -> None:
        if entries.lines:
            unroll = ["#pragma unroll 4"] if len(entries.lines) <= SHORT else []  # a long formula has work enough while it waits for memory
            self.row.lines += [*unroll, "for (Count c = lane; c < classes; c += LANES) {", *entries.lines, "}"]

    def load(self, node: Node, scope: Scope) -> str:
        i = node.args[0]
        place = self._place(f"x{i}", (*self.frame.outer, *self.inner)) + (f" + {scope.place}{self._times(f'x{i}')}" if node.varies else "")
        return _LOADS.get(node.dtype, "{}").format(f"x{i}[{place}]")

    def cast(self, value: str, source: str, dtype: str) -> str:
        return _LOADS.get(dtype, "{}").format(_stored(value, dtype))


def _source(name: str, parameters: Mapping[str, str], body: Sequence[str], constants: Sequence[str]) -> str:
    head, text = ", ".join([f"{type_} {n}" for n, type_ in parameters.items()]), "\n".join(body)
    code = f'extern "C" __global__ void {name}({head}) {{\n{text}\n}}\n'
    for helper, source in _HELPERS.items():
        code = source + code if f"{helper}(" in code else code
    includes = [f"#include <cuda_{h}.h>\n" for h, name in (("fp16", "half"), ("bf16", "bfloat16")) if name in code]
    return "".join([*includes, *[f"{line}\n" for line in constants], code])


def _stored(value: str, dtype: str) -> str:
    return _STORES.get(dtype, f"({C_TYPES[dtype]}){{}}").format(value)
