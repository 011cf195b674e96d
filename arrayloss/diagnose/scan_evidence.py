"""Whether a definition is a loss, and which: by its name, its arguments and what it does, as far as reading tells."""

from __future__ import annotations

import ast
from typing import Any

from .scan_words import LOSS_WORDS, NEUTRAL, OTHER_WORDS, PREDICTIONS, TARGETS, VAGUE, library_loss, meaning, words_of

METHODS = ("forward", "call", "__call__", "loss", "loss_fn", "compute_loss", "compute")
NO_LOSSES = ("Protocol", "ABC", "TypedDict", "NamedTuple", "Exception", "Enum")
INDICES = ("dice_loss", "jaccard_loss", "tversky_loss")  # a ratio that is not taken from 1 is a measure
SURE, LIKELY = 5, 4  # points of evidence
OTHER_RESULTS = {"bool", "str", "None", "int", "dict", "list", "Dict", "List", "Iterator", "Module"}
TRAINING = {"backward", "zero_grad", "apply_gradients", "add_scalar", "savefig", "subplots"}
LOG_VARIANCES = {"logvar", "log_var", "log_variance"}
NONE = "none"  # a loss that this package does not have
BINARY = ("binary_cross_entropy", "sigmoid_cross_entropy", "softmax_cross_entropy")
REFINED = {  # a name that may mean several losses: operations decide among them
    "sigmoid_focal_loss": ("softmax_focal_loss", "sigmoid_focal_loss"),
    "binary_cross_entropy": BINARY[:2],
    "softmax_cross_entropy": BINARY,
    "nll_loss": (*BINARY, "gaussian_nll_loss"),
    "dice_loss": ("generalized_dice_loss",),
    "kl_divergence": (NONE,),
    "huber_loss": ("smooth_l1_loss",),
}


def judge(node: Any, file: Any, owner: ast.ClassDef | None, *, is_inner: bool) -> tuple[str, str, bool] | None:
    """What a definition looks like, why, and whether that is certain; None if it is no loss.

    `owner` is the class whose method it is, `is_inner` whether it stands in a function.
    """
    words, said, is_class = words_of(node.name), meaning(node.name), isinstance(node, ast.ClassDef)
    is_named, is_vague = bool(LOSS_WORDS & set(words)), said is not None and said[0] in VAGUE
    bases = [file.dotted(b).rpartition(".")[2] for b in node.bases] if is_class else []
    loss_bases = [b for b in bases if b.lower().endswith("criterion") or "Loss" in b]
    function = node
    if is_class:
        function = next((f for f in node.body if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) and f.name in METHODS), None)
        is_other = any("Test" in b or b.endswith(NO_LOSSES) for b in bases)
        if is_other or (function is None and (not loss_bases or node.name.startswith("_"))):
            return None
    if owner is not None and node.name in METHODS and not is_named:
        return None  # of a class that is no loss
    names = _names(function)
    has_pair = any(_says(n, PREDICTIONS) for n in names) and any(_says(n, TARGETS) for n in names[:4])
    others = {w for w in words if w in OTHER_WORDS and not (said and w in said[0])} | (
        set() if said else {"softmax", "sigmoid"} & set(words[-1:])
    )
    if not is_named and said is None and (is_class or others or not has_pair or names[:2] == ["x", "y"]):
        return None  # where no name helps, all else has to fit
    if not is_class and (LOSS_WORDS & set(names[:1]) or (is_inner and said is None and len(names) < 2)):
        return None  # a function of losses, a closure over one
    body = Body(node, file)
    if function is not None and (_is_empty(function) or (not is_class and (body.trains or not body.returns or body.returns_other))):
        return None
    looks_like, operation = body.guess(with_helpers=said is not None or is_named)
    is_index = looks_like in INDICES and not is_named
    if (is_index and body.returns_ratio and not is_class) or (not is_named and said is None and (not operation or body.returns_several)):
        return None

    points = (4 + bool(said)) if is_named else 1 if is_vague else 3 if said else 0
    points += 2 * bool(operation) + 2 * bool(loss_bases) + 2 * has_pair + body.makes_function - 6 * bool(others)
    points += is_class and has_pair and said is not None and said[1] not in INDICES
    is_lone = len(names) < (1 if len(words) > 1 and words[-1] == "loss" else 2) and not body.makes_function
    points -= 2 * (is_lone and function is not None and not function.args.vararg)
    looks_like = body.settle(said, looks_like)
    if points < LIKELY or not (looks_like or is_named or (said and not is_vague)):
        return None
    is_told = not body.is_mixed and is_named and (not looks_like or not set(words) - LOSS_WORDS - NEUTRAL)
    is_certain = points >= SURE and (is_told if said is None else not (is_index and is_vague))
    why = ["its name"] * (is_named or said is not None) + [operation] * bool(operation) + [f"its base {b}" for b in loss_bases[:1]]
    why += [f"({', '.join(names[:2])})"] * has_pair + ["makes a function"] * body.makes_function
    return looks_like, ", ".join(why[:3]), is_certain


def _names(function: Any) -> list[str]:
    """The names of the arguments that may be passed by position."""
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)] if function is not None else []
    return [n for n in names if n not in ("self", "cls", "ctx")]


def _says(name: str, known: set[str]) -> bool:
    return name in known or (not name.isupper() and bool(known & set(words_of(name)[:1] + words_of(name)[-1:])))


def _is_empty(function: Any) -> bool:
    """Whether a function only raises, passes or documents."""
    return all(
        isinstance(s, ast.Raise | ast.Pass) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)) for s in function.body
    )


class Body:
    """The calls, differences, powers and products in a definition, and in the functions of its file that it calls."""

    def __init__(self, node: Any, file: Any) -> None:
        self.values: dict[str, ast.expr] = {}
        self.calls: set[str] = set()
        self.names: set[str] = set()
        self.library: list[str] = []
        self.is_mixed = False
        self.divides = self.focal = self.squared = self.absolute = self.overlap = self.twice = self.hinge = self.two_logs = (
            self.log_ratio
        ) = False
        own = list(ast.walk(node))
        called = {n.func.id for n in own if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        self._helpers = [n for name in sorted(called & set(file.functions)) if (f := file.functions[name]) is not node for n in ast.walk(f)]
        self._dotted = file.dotted
        self._read(own)
        self.trains = any(isinstance(n, ast.Call) and _last(n) in TRAINING for n in own)
        returned = [n.value for n in own if isinstance(n, ast.Return) and n.value is not None]
        functions = {n.name for n in own if isinstance(n, ast.FunctionDef) and n is not node}
        is_class = isinstance(node, ast.ClassDef)
        self.makes_function = not is_class and any(isinstance(r, ast.Lambda) or getattr(r, "id", "") in functions for r in returned)
        self.returns = bool(returned)
        self.returns_several = bool(returned) and all(isinstance(r, ast.Tuple) for r in returned)
        self.returns_ratio = bool(returned) and all(self._is_ratio(r) for r in returned)
        result = getattr(node, "returns", None)
        self.returns_other = result is not None and getattr(result, "id", str(getattr(result, "value", ""))) in OTHER_RESULTS
        self.returns_other |= bool(returned) and all(isinstance(r, ast.Dict | ast.JoinedStr | ast.Constant | ast.Compare) for r in returned)

    def _read(self, nodes: list[ast.AST]) -> None:
        for n in nodes:
            if isinstance(n, ast.Assign) and len(n.targets) == 1 and isinstance(n.targets[0], ast.Name):
                self.values[n.targets[0].id] = n.value
        self.names |= {n.id.lower() for n in nodes if isinstance(n, ast.Name)}
        for n in nodes:
            if isinstance(n, ast.Call):
                self._call(n, self._dotted(n.func))
            elif isinstance(n, ast.BinOp):
                self._operation(n)

    def _call(self, n: ast.Call, dotted: str) -> None:
        name = n.func.attr if isinstance(n.func, ast.Attribute) else n.func.id if isinstance(n.func, ast.Name) else ""
        self.calls.add(name.lower())
        if library_loss(dotted):
            self.library.append(dotted)
        receiver = [n.func.value] if isinstance(n.func, ast.Attribute) else []
        operands = receiver + n.args[:2]
        if name in ("square", "squared_difference"):
            self.squared |= name != "square" or any(map(self._is_difference, operands))
        elif name in ("pow", "power", "float_power") and len(operands) > 1:
            self._power(operands[-2], operands[-1])
        elif name in ("abs", "absolute", "fabs"):
            self.absolute |= any(map(self._is_difference, operands))
        elif name in ("sum", "einsum", "tensordot", "reduce_sum"):
            self.overlap |= any(self._is_product(o) for o in operands) or not name.endswith("sum") or name == "einsum"
        elif name == "log":
            self.log_ratio |= any(isinstance(v := self._value(o), ast.BinOp) and isinstance(v.op, ast.Div) for o in operands)
        elif name in ("relu", "clamp", "clip", "maximum", "max", "clamp_min"):
            self.hinge |= any(self._is_margin(o) for o in operands)

    def _operation(self, n: ast.BinOp) -> None:
        if isinstance(n.op, ast.Pow):
            self._power(n.left, n.right)
        elif isinstance(n.op, ast.Div):
            self.divides = True
        elif isinstance(n.op, ast.Mult):
            constants = [c.value for c in (n.left, n.right) if isinstance(c, ast.Constant)]
            self.twice |= 2 in constants
            self.squared |= isinstance(n.left, ast.Name) and ast.dump(n.left) == ast.dump(n.right) and self._is_difference(n.left)
        elif isinstance(n.op, ast.Add | ast.Sub):
            self.two_logs |= all(
                any(isinstance(c, ast.Call) and _last(c) in ("log", "log_", "xlogy") for c in ast.walk(s)) for s in (n.left, n.right)
            )

    def _power(self, base: ast.expr, exponent: ast.expr) -> None:
        base = self._value(base)
        is_complement = (
            isinstance(base, ast.BinOp) and isinstance(base.op, ast.Sub) and isinstance(base.left, ast.Constant) and base.left.value == 1
        )
        self.focal |= is_complement or "gamma" in ast.dump(exponent)
        self.squared |= isinstance(exponent, ast.Constant) and exponent.value == 2 and self._is_difference(base)

    def _value(self, node: ast.expr) -> ast.expr:
        return self.values.get(node.id, node) if isinstance(node, ast.Name) else node

    def _is_difference(self, node: ast.expr) -> bool:
        node = self._value(node)
        node = node.body if isinstance(node, ast.IfExp) else node
        is_minus = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub)
        if not isinstance(node, ast.BinOp) or not is_minus or any(isinstance(s, ast.Constant) for s in (node.left, node.right)):
            return False
        both = [ast.dump(s.value) for s in (node.left, node.right) if isinstance(s, ast.Subscript)]
        return len(both) < 2 or both[0] != both[1]  # neighbours in one array are no prediction and target

    def _is_ratio(self, node: ast.expr) -> bool:
        node = self._value(node)
        if isinstance(node, ast.Call) and _last(node) == "mean":
            node = self._value(node.args[0] if node.args else getattr(node.func, "value", node))
        return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)

    def _is_product(self, node: ast.expr) -> bool:
        node = self._value(node)
        return (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Mult)
            and not any(isinstance(s, ast.Constant) for s in (node.left, node.right))
        )

    def _is_margin(self, node: ast.expr) -> bool:
        node = self._value(node)
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Sub | ast.Add):
            return False
        parts = [p for s in (node.left, node.right) for p in ast.walk(s)]
        is_one = isinstance(node.left, ast.Constant) and node.left.value == 1 and self._is_product(node.right)
        return is_one or any("margin" in (getattr(p, "id", "") or getattr(p, "attr", "")) for p in parts)

    def guess(self, *, with_helpers: bool) -> tuple[str, str]:
        """The loss that the operations look like, and the operations; both empty if they look like none."""
        found = self._guess()
        if not found[1] and with_helpers and self._helpers:
            self._read(self._helpers)
            found = self._guess()
        return found

    def _guess(self) -> tuple[str, str]:
        c, names = self.calls, self.names
        softmax, sigmoid = (
            c & {"log_softmax", "softmax", "logsumexp"},
            c & {"sigmoid", "logsigmoid", "log_sigmoid", "softplus", "expit", "logaddexp"},
        )
        logs = c & {
            "log",
            "log1p",
            "log_softmax",
            "logsigmoid",
            "log_sigmoid",
            "softplus",
            "logaddexp",
            "xlogy",
            "log2",
            "log10",
            "logsumexp",
        }
        known = [(d.rpartition(".")[2], m[1]) for d in self.library if (m := meaning(d.rpartition(".")[2])) and m[1]]
        entropies = [name for name, loss in known if "entropy" in loss]
        if self.focal and (logs or entropies):
            is_rows = softmax or any(loss == "softmax_cross_entropy" for _, loss in known)
            return ("softmax_focal_loss" if is_rows and not sigmoid else "sigmoid_focal_loss"), "(1 - p)**gamma"
        overlaps = self.divides and (self.overlap or bool(names & {"intersection", "inter", "tp"})) and not logs
        if overlaps and names & {"intersection", "inter", "tp", "union", "overlap"} | ({"2 *"} if self.twice else set()):
            if {"alpha", "beta"} <= names or names & {"fp", "false_pos", "false_positive"}:
                return "tversky_loss", "sums of products, weighted"
            return (
                ("jaccard_loss", "intersection / union") if "union" in names and not self.twice else ("dice_loss", "2 * sum(p * t) / ...")
            )
        if known:
            self.is_mixed = len({loss for _, loss in known}) > 1 or bool(names & LOG_VARIANCES)
            return known[0][1], "calls " + ", ".join(list(dict.fromkeys(name for name, _ in known))[:2])
        if "exp" in c and names & LOG_VARIANCES and not self.squared | self.absolute:
            return NONE, "KL of a Gaussian"
        if self.log_ratio and c & {"sum", "mean", "nansum"}:
            return "kl_divergence", "p * log(p / q)"
        if "cosh" in c and logs:
            return "log_cosh_loss", "log(cosh)"
        if self.two_logs and not softmax:
            return ("sigmoid_cross_entropy" if sigmoid else "binary_cross_entropy"), "t * log(p) + (1 - t) * log(1 - p)"
        if sigmoid and logs:
            return "sigmoid_cross_entropy", f"calls {', '.join(sorted(sigmoid | logs)[:2])}"
        if {"exp", "log1p"} <= c:
            return "sigmoid_cross_entropy", "log1p(exp())"
        if softmax and logs:
            return "softmax_cross_entropy", f"calls {', '.join(sorted(softmax | logs)[:2])}"
        if self.hinge:
            return ("triplet_margin_loss" if names & {"anchor", "negative"} else "hinge_loss"), "max(0, margin - ...)"
        if self.squared and logs:
            return "gaussian_nll_loss" if self.divides or "exp" in c else "squared_log_error", "squared difference and log"
        if self.squared and (self.absolute or "abs" in c) and c & {"where", "clamp", "clip", "minimum"}:
            return "huber_loss", "squared or absolute difference"
        if self.squared or self.absolute:
            return ("squared_error", "squared difference") if self.squared else ("absolute_error", "absolute difference")
        if "cosine_similarity" in c:
            return "cosine_distance", "cosine_similarity"
        return "", ""

    def settle(self, said: tuple[str, str] | None, by_operations: str) -> str:
        """The name decides, and where it may mean several losses, the operations among them."""
        looks_like = by_operations if said is None or by_operations in REFINED.get(said[1], ()) else said[1]
        return "" if looks_like == NONE else looks_like


def _last(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
