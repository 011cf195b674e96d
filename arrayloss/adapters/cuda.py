"""A graph of array calls written as one CUDA kernel. Nothing here needs CUDA: it takes nodes and gives text.

A kernel walks over elements; in losses of rows an element is a row, which one thread or the 32 lanes of a warp walk over class by
class, as often as sums of the row depend on other sums. Only the sums over elements are added up across threads, in float64 and in
an order that depends on shapes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from arrayloss.core import dtypes

from .graph import BINARY, C_TYPES, COMPARISONS, LOGICAL, PREDICATES, UNARY, Node

LANES = 32  # of a warp

_OPERATORS = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "logical_and": "{0} && {1}",
    "logical_or": "{0} || {1}",
    "logical_xor": "{0} != {1}",
    "logical_not": "!{0}",
    "negative": "-{0}",
    "abs": "fabs({0})",
    "round": "rint({0})",
    "minimum": "smaller({0}, {1})",
    "maximum": "larger({0}, {1})",
}
_LITERALS = frozenset(repr(v) for v in (0, 1, 2, 3, 4, -1, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, -1.0))

_SMALLER = """template <class T> __device__ T smaller(T a, T b) { return a < b || a != a ? a : b; }
template <class T> __device__ T larger(T a, T b) { return a > b || a != a ? a : b; }
"""
_LANES_SUM = """template <class T> __device__ T lanes_sum(T v) {
    for (int away = 16; away; away /= 2) v += __shfl_xor_sync(0xffffffffu, v, away);
    return v;
}
"""
# A NaN is the maximum, as in every array library; of equal entries the first is.
_ABOVE = """template <class T> __device__ bool above(T a, long long i, T b, long long j) {
    if (a != a || b != b) return a != a && (b == b || i < j);
    return a > b || (a == b && i < j);
}
"""
_LANES_ARGMAX = """template <class T> __device__ void lanes_argmax(T& v, long long& i) {
    for (int away = 16; away; away /= 2) {
        const T w = __shfl_xor_sync(0xffffffffu, v, away);
        const long long j = __shfl_xor_sync(0xffffffffu, i, away);
        if (j >= 0 && (i < 0 || above(w, j, v, i))) { v = w; i = j; }
    }
}
"""
_BLOCK_SUM = """__device__ double block_sum(double v) {
    __shared__ double warps[32];
    v = lanes_sum(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
    for (int i = 0; i < (int)blockDim.x / 32; ++i) v += warps[i];
    return v;
}
"""


@dataclass(frozen=True)
class Kernel:
    """CUDA C++ and the names of the parameters that its launch has to supply."""

    name: str
    source: str
    parameters: tuple[str, ...]
    constants: dict[str, Any]


@dataclass
class _Scope:
    """Where lines go, and what is known there: a row, or one of its classes (`position`)."""

    lines: list[str]
    position: str = ""
    names: dict[Node, str] = field(default_factory=dict)


class Writer:
    """Writes one kernel. `inner` and `outer` are the numbers of dimensions that it walks over and keeps."""

    def __init__(self, name: str, *, outer: int, inner: int, rows: bool, lanes: int, index: str) -> None:
        self.name, self.outer, self.inner, self.rows, self.lanes, self.index = name, outer, inner, rows, lanes, index
        self.row = _Scope([])
        self.inputs: dict[int, Node] = {}
        self.constants: dict[str, Any] = {}
        self._count = 0

    # -- frames -------------------------------------------------------------------------------------------------------

    def map(self, outputs: Sequence[tuple[Node, str, bool]]) -> Kernel:
        """Every element on its own; an output is a node, its dtype, and whether it has an entry for every class."""
        self._sums([node for node, _, _ in outputs])
        stores = []
        for j, (node, dtype, per_class) in enumerate(outputs):
            if not per_class:
                stores.append(f"y{j}[{self._place(f'y{j}')}] = {self._stored(self._name(node, self.row), dtype)};")
        self.row.lines += [f"if (lane == 0) {s}" if self.lanes > 1 else s for s in stores]
        body = _Scope([], "c")
        for j, (node, dtype, per_class) in enumerate(outputs):
            if per_class:
                value = self._stored(self._name(node, body), dtype)
                body.lines.append(f"y{j}[{self._place(f'y{j}')} + c * y{j}_c] = {value};")
        if body.lines:
            self._loop(body)
        walk = [
            f"const {self.index} step = (long long)gridDim.x * blockDim.x / {self.lanes};",
            f"for ({self.index} e = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / {self.lanes}; e < elements; e += step) {{",
            *self._decoded("e", range(self.inner)),
            *self.row.lines,
            "}",
        ]
        types = [("elements", "long long")]
        return self._kernel(walk, types, [dtype for _, dtype, _ in outputs], [per_class for _, _, per_class in outputs])

    def sums(self, outputs: Sequence[tuple[Node, str]], *, final: bool) -> Kernel:
        """The sum of each output over the inner dimensions: by one block (`final`), or what several blocks each add up."""
        self._sums([node for node, _ in outputs])
        adds = [f"a{j} += (double){self._name(node, self.row)};" for j, (node, _) in enumerate(outputs)]
        self.row.lines += [f"if (lane == 0) {{ {' '.join(adds)} }}"] if self.lanes > 1 else adds
        walk = [
            "const long long kept = blockIdx.x / workers, worker = blockIdx.x % workers;",
            *self._decoded("(long long)kept", range(self.outer)),
            *(f"double a{j} = 0;" for j in range(len(outputs))),
            f"const {self.index} step = workers * blockDim.x / {self.lanes};",
            f"for ({self.index} e = (worker * blockDim.x + threadIdx.x) / {self.lanes}; e < elements; e += step) {{",
            *self._decoded("e", range(self.outer, self.outer + self.inner)),
            *self.row.lines,
            "}",
        ]
        for j, (_, dtype) in enumerate(outputs):
            walk.append(f"a{j} = block_sum(a{j});")
            place = f"y{j}[kept]" if final else f"y0[({j} * (gridDim.x / workers) + kept) * workers + worker]"
            walk.append(f"if (threadIdx.x == 0) {place} = {self._stored(f'a{j}', dtype) if final else f'a{j}'};")
        types = [("elements", "long long"), ("workers", "long long")]
        return self._kernel(walk, types, [dtype for _, dtype in outputs] if final else ["float64"], None)

    def _kernel(
        self, walk: Sequence[str], numbers: list[tuple[str, str]], outputs: Sequence[str], per_class: Sequence[bool] | None
    ) -> Kernel:
        parameters = [(f"x{i}", f"const {C_TYPES[node.dtype]}*") for i, node in sorted(self.inputs.items())]
        parameters += [(f"y{j}", f"{C_TYPES[dtype]}*") for j, dtype in enumerate(outputs)]
        parameters += numbers
        dimensions = range(self.outer + self.inner)
        parameters += [(f"n{d}", "long long") for d in dimensions]
        if self.rows:
            parameters.append(("classes", "long long"))
        placed = [f"x{i}" for i in sorted(self.inputs)] + [f"y{j}" for j in range(len(outputs)) if per_class is not None]
        parameters += [(f"{a}_{d}", "long long") for a in placed for d in dimensions]
        parameters += [(f"x{i}_c", "long long") for i, node in sorted(self.inputs.items()) if node.varies]
        parameters += [(f"y{j}_c", "long long") for j, several in enumerate(per_class or ()) if several]
        parameters += [(name, "double" if isinstance(v, float) else "long long") for name, v in self.constants.items()]
        code = ["#include <cuda_fp16.h>"] if any("__half" in t for _, t in parameters) else []
        code += ["#include <cuda_bf16.h>"] if any("bfloat" in t for _, t in parameters) else []
        text = "\n".join(walk)
        head = ", ".join(f"{t} {n}" for n, t in parameters)
        lane = f"const int lane = threadIdx.x % {self.lanes};\n" if self.lanes > 1 else ""
        helpers = [
            (_SMALLER, "smaller(" in text or "larger(" in text),
            (_LANES_SUM, "lanes_sum(" in text or "block_sum(" in text),
            (_ABOVE, "above(" in text or "lanes_argmax(" in text),
            (_LANES_ARGMAX, "lanes_argmax(" in text),
            (_BLOCK_SUM, "block_sum(" in text),
        ]
        code += [helper for helper, used in helpers if used]
        code.append(f'extern "C" __global__ void {self.name}({head}) {{\n{lane}{text}\n}}\n')
        return Kernel(self.name, "\n".join(code), tuple(n for n, _ in parameters), self.constants)

    # -- places -------------------------------------------------------------------------------------------------------

    def _decoded(self, place: str, dimensions: range) -> list[str]:
        """The index along every dimension, from the number of an element."""
        lines, rest = [], place
        for d in reversed(dimensions[1:]):
            lines += [f"const {self.index} i{d} = {rest} % n{d}, rest{d} = {rest} / n{d};"]
            rest = f"rest{d}"
        return lines + [f"const {self.index} i{d} = {rest};" for d in dimensions[:1]]

    def _place(self, array: str) -> str:
        return " + ".join(f"i{d} * {array}_{d}" for d in range(self.outer + self.inner)) or "0"

    # -- rows -----------------------------------------------------------------------------------------------------------

    def _sums(self, outputs: Sequence[Node]) -> None:
        """Everything that needs a walk over the row, in as few walks as depend on each other."""
        depths: dict[Node, int] = {}
        levels: dict[int, list[Node]] = {}

        def depth(node: Node) -> int:
            if node not in depths:
                below = max((depth(a) for a in node.args if isinstance(a, Node)), default=0)
                if node.operation in ("sum", "argmax"):
                    below += 1
                    levels.setdefault(below, []).append(node)
                depths[node] = below
            return depths[node]

        for node in outputs:
            depth(node)
        for _, nodes in sorted(levels.items()):
            body = _Scope([], "c")
            after = []
            for node in nodes:
                value = self._name(node.args[0], body)
                held = self._new()
                self.row.names[node] = held
                if node.operation == "sum":  # in float64, which costs nothing beside reading the entry
                    accumulator = "double" if dtypes.kind(node.dtype) == "float" else "long long"
                    total = f"{held}_"
                    self.row.lines.append(f"{accumulator} {total} = 0;")
                    body.lines.append(f"{total} += {value};")
                    whole = f"lanes_sum({total})" if self.lanes > 1 else total
                    after.append(f"const {C_TYPES[node.dtype]} {held} = ({C_TYPES[node.dtype]}){whole};")
                else:
                    best = self._new()
                    self.row.lines.append(f"{_computed(node.args[0].dtype)} {best} = 0; long long {held} = -1;")
                    body.lines.append(f"if ({held} < 0 || above({value}, c, {best}, {held})) {{ {best} = {value}; {held} = c; }}")
                    if self.lanes > 1:
                        after.append(f"lanes_argmax({best}, {held});")
            self._loop(body)
            self.row.lines += after

    def _loop(self, body: _Scope) -> None:
        start, step = ("lane", str(LANES)) if self.lanes > 1 else ("0", "1")
        self.row.lines += [f"for (long long c = {start}; c < classes; c += {step}) {{", *body.lines, "}"]

    # -- expressions ----------------------------------------------------------------------------------------------------

    def _new(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _name(self, node: Node, scope: _Scope) -> str:
        """The variable that holds a node, written where it is first needed."""
        scope = scope if node.varies else self.row
        if node not in scope.names:
            if node.operation == "same":
                scope.names[node] = self._name(node.args[0], scope)
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
        known = [n for n, v in self.constants.items() if repr(v) == repr(value)]
        name = known[0] if known else f"k{len(self.constants)}"
        self.constants[name] = value
        return f"({_computed(dtype)}){name}"

    def _expression(self, node: Node, scope: _Scope) -> str:
        operation, args = node.operation, node.args
        if operation == "input":
            (i,) = args
            self.inputs[i] = node
            return _loaded(f"x{i}[{self._place(f'x{i}')}{f' + {scope.position} * x{i}_c' if node.varies else ''}]", node.dtype)
        if operation == "position":
            return scope.position
        if operation == "full":
            return self._constant(args[0], node.dtype)
        if operation == "astype":
            return f"({_computed(node.dtype)}){self._name(args[0], scope)}"
        if operation == "where":
            condition = self._argument(args[0], "bool", scope)
            return f"{condition} ? {self._argument(args[1], node.dtype, scope)} : {self._argument(args[2], node.dtype, scope)}"
        if operation == "at":
            label = self._new()
            self.row.lines.append(f"const long long {label} = {self._name(args[1], self.row)};")
            return self._name(args[0], _Scope(self.row.lines, label)) if args[0].varies else self._name(args[0], self.row)
        meeting = node.graph.promoted(args) if operation in COMPARISONS | PREDICATES else node.dtype
        names = [self._argument(a, meeting, scope) for a in args]
        assert operation in UNARY | BINARY | COMPARISONS | LOGICAL | PREDICATES | {"logical_not"}, operation
        return _OPERATORS[operation].format(*names) if operation in _OPERATORS else f"{operation}({', '.join(names)})"

    @staticmethod
    def _stored(value: str, dtype: str) -> str:
        if dtype == "float16":
            return f"__float2half_rn((float){value})"
        if dtype == "bfloat16":
            return f"__float2bfloat16_rn((float){value})"
        return f"({C_TYPES[dtype]}){value}"


@lru_cache
def gather(kinds: tuple[str, ...]) -> Kernel:
    """Adds up what the blocks of `sums` left."""
    name, body = "arrayloss_gather", []
    for j, dtype in enumerate(kinds):
        body += [
            f"double a{j} = 0;",
            f"const double* part{j} = x0 + ({j} * (long long)gridDim.x + blockIdx.x) * workers;",
            f"for (long long i = threadIdx.x; i < workers; i += blockDim.x) a{j} += part{j}[i];",
            f"a{j} = block_sum(a{j});",
            f"if (threadIdx.x == 0) y{j}[blockIdx.x] = ({C_TYPES[dtype]})a{j};",
        ]
    head = ", ".join(["const double* x0", "long long workers", *(f"{C_TYPES[dtype]}* y{j}" for j, dtype in enumerate(kinds))])
    text = "\n".join(body)
    source = f'{_LANES_SUM}\n{_BLOCK_SUM}\nextern "C" __global__ void {name}({head}) {{\n{text}\n}}\n'
    return Kernel(name, source, ("x0", "workers", *(f"y{j}" for j in range(len(kinds)))), {})


def _computed(dtype: str) -> str:
    """The C type in which a dtype is computed."""
    return "float" if dtypes.kind(dtype) == "half" else C_TYPES[dtype]


def _loaded(place: str, dtype: str) -> str:
    return {"float16": f"__half2float({place})", "bfloat16": f"__bfloat162float({place})"}.get(dtype, place)
