"""A graph of array calls written as one C function, whose inner loops a compiler puts into vector registers.

A function walks over tiles. What is needed class by class is computed in loops over the classes, as often as sums of a row depend on other
sums. Where classes are many and neighbours in memory, a tile is one row, and vectors run along its classes; else a tile is a run of
elements, and vectors run along those: what one loop computes for an element and another one needs is in an array of the tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from arrayloss.core import dtypes

from ..expressions import OPERATORS, Expressions, Scope, levels
from ..graph import DTYPES, UNARY, Graph, Node, RefusedError, is_abs, is_never_positive
from ..layout import Frame

ENTRIES = 512  # of a float32 sum, behind which it goes on in float64
ROWS = 512  # of a tile, at most
WORTH_KEEPING = 8  # what a node costs that is stored for a later loop rather than computed again
INT_MAX = 2**31 - 1
NOT_IN_C = frozenset(("cos", "erf", "exp2", "lgamma", "log2", "sin", "tan"))  # functions that the header has not

STORED = {d: f"{d}_t" for d in DTYPES if "int" in d} | {"bool": "uint8_t", "float16": "uint16_t", "bfloat16": "uint16_t"}
STORED |= {"float32": "float", "float64": "double"}
_LOADS = {"bool": "((int32_t){} != 0)", "float16": "f_of_half({})", "bfloat16": "f_of_bfloat({})"}
_LOADS |= dict.fromkeys(("int64", "uint32"), "label_of((int64_t){})")  # integers are labels
_LOADS |= {"uint64": "label_of((int64_t)({0} > INT32_MAX ? INT32_MAX : {0}))"}
_STORES = {"float16": "half_of((float){})", "bfloat16": "bfloat_of((float){})"}
_LEAVES = ("input", "full", "position")
_COSTS = dict.fromkeys(("exp", "expm1", "log", "log1p", "pow", "sinh", "cosh", "tanh"), 12) | {"divide": 4, "sqrt": 4}
_START = {"sum": "0", "max": "-__builtin_inff()", "min": "INT32_MAX"}
_NEXT = {"sum": "{0} + {1}", "max": "({1} > {0}) | ({1} != {1}) ? {1} : {0}", "min": "{1} < {0} ? {1} : {0}"}  # a NaN stays


class Recorder(Graph):
    """A graph whose reductions are "sum", "max" and "min"."""

    def max(self, a: Node, *, axis: int, keepdims: bool = False) -> Node:
        return self._reduced("max", a, axis, keepdims)

    def argmax(self, a: Node, *, axis: int, keepdims: bool = False) -> Node:
        is_max = self.logical_or(self.equal(a, self.max(a, axis=axis, keepdims=True)), self.isnan(a))
        return self._reduced("min", self.where(is_max, self.arange_along(a, axis), INT_MAX), axis, keepdims)


@dataclass(frozen=True)
class Program:
    """A C function, the numbers that it gets by name, its constants, the arrays that it reads, and the bytes that it keeps for a class."""

    name: str
    source: str
    numbers: tuple[str, ...]
    constants: tuple[float, ...]
    inputs: tuple[int, ...]
    kept: int


@dataclass(eq=False)
class Loop(Scope):
    """A loop over the elements of a tile or, at the place `c`, over the classes. Lines of `last` stand behind all others."""

    before: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    clauses: list[str] = field(default_factory=list)


class Writer(Expressions):
    """Writes one function."""

    types = {d: "int32_t" for d in DTYPES if "int" in d} | {"bool": "_Bool", "float16": "float", "bfloat16": "float"}
    types |= {"float32": "float", "float64": "double"}
    operators = OPERATORS | {"logical_and": "{0} & {1}", "logical_or": "{0} | {1}", "isnan": "{0} != {0}"}
    operators |= {"isinf": "{f}_abs({0}) == (float)__builtin_inff()", "isfinite": "{f}_abs({0}) < (float)__builtin_inff()"}
    operators |= {"pow": "{f}_pow({0}, {1})", "minimum": "{f}_smaller({0}, {1})", "maximum": "{f}_larger({0}, {1})"}
    operators |= {n: f"{{f}}_{n}({{0}})" for n in UNARY if n not in OPERATORS and n not in NOT_IN_C}
    index = "ptrdiff_t"

    def __init__(self, name: str, frame: Frame, along_classes: bool) -> None:
        """`along_classes`: vectors run along the classes."""
        super().__init__()
        self.name, self.frame, self.along_classes = name, frame, along_classes
        self.loops: list[Loop] = []
        self.memory: dict[Node, str] = {}  # the place of what a loop stores for others
        self.owners: dict[Node, Loop] = {}  # the loop that computes it
        self.keep: set[Node] = set()
        self.kept: dict[str, str] = {}  # arrays with an entry for every class, and their types
        self.arrays: list[str] = []  # declarations of those with one for every element
        self._start_row()

    def write(self, sums: Sequence[Node], maps: Sequence[tuple[Node, str]]) -> Program:
        """The sum of nodes over the inner dimensions, and nodes that are stored, each in a dtype."""
        every = [*sums, *[node for node, _ in maps]]
        steps = levels(every, tuple(_START), ())
        if self.frame.numbers["classes"] <= (2**16 if self.along_classes else 2**12):  # of more it would take megabytes
            self._choose_what_is_kept([[n.args[0] for n in level] for level in steps] + [every])
        for level in steps:
            self._reduce(level)
        entry, of_classes = Loop([], "c"), any(node.varies for node in sums)
        self.loops.append(entry)
        for j, node in enumerate(sums):
            self._total(entry if node.varies else self.row, f"a{j}[c]" if of_classes else f"a{j}", node, f"t{j}")
        for j, (node, dtype) in enumerate(maps):
            scope: Loop = entry if node.varies else self.row
            value = self._argument(node, "float32" if dtypes.kind(dtype) == "half" else dtype, scope)
            scope.lines.append(f"o{j}[{self._place(f'y{j}', scope.place)}] = {_STORES.get(dtype, '{}').format(value)};")
        return self._program(len(sums), of_classes, [dtype for _, dtype in maps])

    def _start_row(self) -> None:
        """Begin what is computed between two loops over the classes."""
        self.row: Loop = Loop([], names=self.loops[0].names if self.loops and self.along_classes else {})
        self.loops.append(self.row)

    def _choose_what_is_kept(self, roots: Sequence[Sequence[Node]]) -> None:
        """What is dear and is needed by several loops over the classes."""
        seen: dict[Node, int] = {}

        def reach(node: Any, level: int, now: set[Node]) -> None:
            if isinstance(node, Node) and node.varies and node not in now:
                now.add(node)
                if seen.setdefault(node, level) != level and self._cost(node) >= WORTH_KEEPING:
                    self.keep.add(node)
                    return
                for a in node.args:
                    reach(a, level, now)

        for level, nodes in enumerate(roots):
            now: set[Node] = set()
            for node in nodes:
                reach(node, level, now)

    def _cost(self, node: Any, within: int = 3) -> int:
        if not isinstance(node, Node) or not node.varies or node.operation in ("full", "position"):
            return 0
        if node.operation == "input":
            return 1 if self.along_classes or self._step(f"x{node.args[0]}", "l") in (0, 1) else WORTH_KEEPING
        return _COSTS.get(node.operation, 1) + (sum(self._cost(a, within - 1) for a in node.args) if within else 0)

    def _reduce(self, nodes: Sequence[Node]) -> None:
        """One loop over the classes for reductions that do not depend on each other."""
        entry, values = Loop([], "c"), {}
        self.loops.append(entry)
        for node in nodes:
            v, type_, operation = self._new(), self.types[node.dtype], node.operation
            x = self._argument(node.args[0], node.dtype, entry)
            if not self.along_classes:
                is_long = operation == "sum" and self.frame.numbers["classes"] > ENTRIES // 16  # as many for each lane of a vector
                self.arrays.append(f"{'double' if is_long and type_ == 'float' else type_} {v}[{ROWS}];")
                self.row.lines.append(f"{v}[l] = {_START[operation]};")
                entry.lines.append(f"{v}[l] = {_NEXT[operation].format(f'{v}[l]', x)};")
                self.memory[node], self.owners[node] = f"{v}[l]", entry
            elif operation == "sum":
                self.row.lines.append(f"{'double' if 'float' in node.dtype else 'int64_t'} {v} = 0;")
                self._total(entry, v, node.args[0], f"{v}t", type_)
                values[node] = v
            else:  # what OpenMP calls a reduction loses a NaN
                self.row.lines.append(f"{type_} {v} = {_START[operation]}; int32_t {v}n = 0;")
                entry.lines += [f"{v} = {x} {'>' if operation == 'max' else '<'} {v} ? {x} : {v};", f"{v}n |= {x} != {x};"]
                entry.clauses += [f"{operation}:{v}", f"|:{v}n"]
                values[node] = f'{v}n ? __builtin_nanf("") : {v}' if operation == "max" else v
        self._start_row()
        for node, text in values.items():
            self.row.names[node] = self._new()
            self.row.lines.append(f"const {self.types[node.dtype]} {self.row.names[node]} = {text};")

    def _total(self, loop: Loop, total: str, node: Node, v: str, type_: str = "double") -> None:
        """Add what a loop adds up to a total, which is one number for all it walks over, or one for every class."""
        value = self._argument(node, node.dtype if type_ != "double" else "float64", loop)
        if self.along_classes and (not loop.place or total.endswith("[c]")):
            loop.lines.append(f"{total} += {value};")
            return
        loop.before.append(f"{type_} {v} = 0;")
        loop.clauses.append(f"+:{v}")
        loop.lines.append(f"{v} += {value};")
        loop.after.append(f"{total} += {v};")

    # -- text -------------------------------------------------------------------------------------------------------

    def _text(self, loop: Loop) -> list[str]:
        if not loop.lines or (self.along_classes and not loop.place):
            return loop.lines
        simd = f'_Pragma("omp simd{"".join(f" reduction({c})" for c in loop.clauses)}")'
        if self.along_classes:
            head = [f"for (int32_t b = 0; b < classes; b += {ENTRIES}) {{"]
            head += [f"const int32_t end = (int32_t)classes - b < {ENTRIES} ? (int32_t)classes : b + {ENTRIES};"]
            return [*head, *loop.before, simd, "for (int32_t c = b; c < end; ++c) {", *loop.lines, "}", *loop.after, "}"]
        lines = [*loop.before, simd, "for (int32_t l = 0; l < m; ++l) {", *loop.lines, *loop.last, "}", *loop.after]
        return ["for (int32_t c = 0; c < classes; ++c) {", *lines, "}"] if loop.place else lines

    def _program(self, sums: int, of_classes: bool, stored: Sequence[str]) -> Program:
        """The function around the loops of one tile, and the one that threads call with one job: each takes the next part of it."""
        outer, inner, tiled = self.frame.outer, self.frame.inner, not self.along_classes
        arrays = {f"x{i}": f"const {STORED[node.dtype]}*" for i, node in sorted(self.inputs.items())}
        arrays |= {f"y{j}": f"{STORED[dtype]}*" for j, dtype in enumerate(stored)}
        parameters = ["const ptrdiff_t* n, const double* k, double* restrict sums, char* scratch, ptrdiff_t first, ptrdiff_t last"]
        parameters += [f"{type_} restrict {a}" for a, type_ in arrays.items()]
        numbers = ["calls", "chunks", "room", "parts", "tiles", "classes", "pieces", "tile", *[f"n{d}" for d in (*outer, *inner)]]
        numbers += [f"{a}_{d}" for a in arrays for d in (*outer, *inner, "c")]
        head = [f"const ptrdiff_t {name} = n[{i}];" for i, name in enumerate(numbers)]
        head += [f"const double {name} = k[{i}];" for i, name in enumerate(self.constants)]
        kept = 0
        for name, type_ in sorted(self.kept.items(), key=lambda item: item[1] != "double"):  # a double is aligned to 8
            head.append(f"{type_}* restrict {name} = ({type_}*)(scratch + {kept} * classes * tile);")
            kept += 8 if type_ == "double" else 4
        size = "classes" if of_classes else "1"
        slot = [f"double* restrict s{j} = sums + (j * {sums} + {j}) * {size};" for j in range(sums)]
        slot += [f"double* restrict a{j} = s{j};" if of_classes else f"double a{j} = 0;" for j in range(sums)]
        slot += [f"for (ptrdiff_t c = 0; c < {sums} * classes; ++c) s0[c] = 0;"] if of_classes else []
        last = inner[-1]
        tile = self._decoded("t", inner)
        if tiled:
            tile = [f"const ptrdiff_t line = t / pieces, i{last} = t % pieces * tile;", *self._decoded("line", inner[:-1])]
            tile += [f"const int32_t m = (int32_t)(n{last} - i{last} < tile ? n{last} - i{last} : tile);"]
        for a, type_ in arrays.items():
            start = " + ".join([a, *[f"i{d} * {a}_{d}" for d in (*outer, *inner)]])
            tile.append(f"{type_} restrict {a.replace('x', 'r').replace('y', 'o')} = {start};")
        body = [line for loop in self.loops for line in self._text(loop)]
        lines = [f"static __attribute__((noinline)) void part_of({', '.join(parameters)}) {{", *head, *self.arrays]
        lines += ["for (ptrdiff_t j = first; j < last; ++j) {", "const ptrdiff_t slot = j / parts, part = j % parts;"]
        lines += [*self._decoded("slot", outer), *slot]
        lines += ["for (ptrdiff_t t = tiles * part / parts; t < tiles * (part + 1) / parts; ++t) {", *tile, *body, "}"]
        lines += [f"s{j}[0] = a{j};" for j in range(sums) if not of_classes]
        lines += ["}", "}", f"void {self.name}(ptrdiff_t* job) {{", "const ptrdiff_t* n = (const ptrdiff_t*)job[0];"]
        lines += ["char* scratch = (char*)job[3] + next_of(job + 4) * n[2];", "for (ptrdiff_t i; (i = next_of(job + 5)) < n[0];)"]
        given = [f"({type_})job[{i}]" for i, type_ in enumerate(arrays.values(), 6)]
        part = ["n, (const double*)job[1], (double*)job[2], scratch", "n[1] * i / n[0], n[1] * (i + 1) / n[0]", *given]
        source = "\n".join([*lines, f"part_of({', '.join(part)});", "}", ""])
        return Program(self.name, source, tuple(numbers), tuple(self.constants.values()), tuple(sorted(self.inputs)), kept)

    # -- expressions ------------------------------------------------------------------------------------------------

    def _step(self, array: str, along: str) -> int:
        """How far apart the entries of an array are along the classes, or along the elements of a tile."""
        return int(self.frame.numbers[f"{array}_{self.frame.inner[-1] if along == 'l' else along}"])

    def _place(self, array: str, place: str) -> str:
        """Where an entry is, from where its tile begins. Steps of 0 and 1 are part of the text, for vectors."""
        terms = []
        for index, along in ((place, "c"), ("" if self.along_classes else "l", "l")):
            step = self._step(array, along) if index else 0
            name = f"{array}_{self.frame.inner[-1] if along == 'l' else along}"
            terms += [] if step == 0 else [index if step == 1 else f"{index} * {name}"]
        return " + ".join(terms) or "0"

    def load(self, node: Node, scope: Scope) -> str:
        i = node.args[0]
        return _LOADS.get(node.dtype, "{}").format(f"r{i}[{self._place(f'x{i}', scope.place if node.varies else '')}]")

    def cast(self, value: str, source: str, dtype: str) -> str:
        if dtypes.kind(dtype) == "half":
            raise RefusedError("rounding to 16 bits within a formula")
        if dtype == "bool":
            return f"{value} != 0"
        return f"({self.types[dtype]})(int32_t){value}" if source == "bool" else f"({self.types[dtype]}){value}"  # `? 1 : 0` is a branch

    def _name(self, node: Node, scope: Scope) -> str:
        is_of_element = not node.varies and node.operation not in _LEAVES
        here: Scope = self.row if is_of_element and (self.along_classes or not isinstance(scope, Loop)) else scope
        if node in here.names:
            return here.names[node]
        if is_of_element and node not in self.owners:
            self.owners[node] = self.row
            self._define(node, self.row)
        if is_of_element and self.owners[node] is not here and node not in self.memory:
            array, owner = self._new(), self.owners[node]
            self.arrays.append(f"{self.types[node.dtype].replace('_Bool', 'int32_t')} {array}[{ROWS}];")
            owner.last.append(f"{array}[l] = {owner.names[node]};")
            self.memory[node] = f"{array}[l]"
        loop = here if isinstance(here, Loop) else self.row
        if node in self.memory and self.loops.index(self.owners[node]) < self.loops.index(loop):
            here.names[node], place = self._new(), self.memory[node].format(scope.place)
            as_condition = " != 0" if node.dtype == "bool" else ""  # one that is loaded as such is no mask to gcc
            here.lines.append(f"const {self.types[node.dtype]} {here.names[node]} = {place}{as_condition};")
            return here.names[node]
        name = self._define(node, here)
        if node in self.keep and isinstance(here, Loop):
            array = f"kept{len(self.kept)}"
            self.kept[array] = self.types[node.dtype].replace("_Bool", "int32_t")
            self.memory[node], self.owners[node] = array + ("[{}]" if self.along_classes else "[{} * tile + l]"), here
            here.lines.append(f"{self.memory[node].format('c')} = {name};")
        return name

    def _expression(self, node: Node, scope: Scope) -> str:
        """With cheaper functions where bounds of their argument are known."""
        if is_abs(node):
            return f"{'d' if node.dtype == 'float64' else 'f'}_abs({self._name(node.args[1], scope)})"
        text, operation = super()._expression(node, scope), node.operation
        if operation == "exp" and is_never_positive(node.args[0]):
            return text.replace("_exp(", "_exp_negative(", 1)
        a = node.args[0] if operation == "log1p" else None
        is_unit = isinstance(a, Node) and a.operation == "exp" and is_never_positive(a.args[0])
        return text.replace("_log1p(", "_log1p_unit(", 1) if is_unit else text

    def _constant(self, value: Any, dtype: str) -> str:
        if dtypes.kind(dtype) == "integer" and not abs(value) <= INT_MAX:
            raise RefusedError(f"the number {value} beside labels")
        return super()._constant(value, dtype)
