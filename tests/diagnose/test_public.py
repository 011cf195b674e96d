"""Functions of other packages are named by the calls that replace them."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Iterator
from typing import Any

import pytest

from arrayloss.diagnose import identify
from arrayloss.frontend.loss import REGISTRY

from .ports import Call, Public, parameters

for needed in ("torch", "jax", "optax", "monai.losses", "kornia.losses", "sklearn"):
    pytest.importorskip(needed, exc_type=ImportError)

from .public import PUBLIC  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # what a function warns of is its own affair

UNNAMED = {"axis"}  # options that the shape of the arrays decides


def values_in(text: str) -> Iterator[Any]:
    """The numbers of a call's text outside of its calls."""
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Constant):
            yield node.value


def calls_in(text: str) -> Iterator[Call]:
    """The losses that a text calls, with the options that it gives them."""
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in REGISTRY:
                yield name, {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg and is_literal(k.value)}


def is_literal(node: ast.expr) -> bool:
    return not any(isinstance(n, (ast.Name, ast.Attribute, ast.Call)) for n in ast.walk(node))


def equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, tuple) or isinstance(theirs, tuple):  # the axes of a sum depend on the arrays that were tried
        return (ours is None) == (theirs is None)
    if isinstance(ours, str | bool) or ours is None or not isinstance(theirs, int | float):
        return bool(ours == theirs)
    return math.isclose(ours, theirs, rel_tol=1e-5, abs_tol=1e-7)


def is_call(found: Call, expected: Call) -> bool:
    """Whether a call is the expected one: of the same loss, every option that one of them has is the same in both."""
    defaults = {k: p.default for k, p in inspect.signature(REGISTRY[expected[0]]).parameters.items()}
    names = (set(found[1]) | set(expected[1])) - UNNAMED - ({"reduction"} - set(expected[1]))
    return found[0] == expected[0] and all(equal(found[1].get(n, defaults.get(n)), expected[1].get(n, defaults.get(n))) for n in names)


@pytest.mark.parametrize("function", parameters(PUBLIC, lambda p: p.library, slow=("torch",)))
def test_public_function(function: Public) -> None:
    found = identify(function.function, function.library, name=function.name)
    said = "\n".join([*found.lines(80), *found.calls])
    assert found.calls, said
    matches = [any(is_call(c, e) for c in calls_in(text) for e in function.calls) for text in found.calls]
    assert any(is_call(c, function.calls[0]) for text in found.calls for c in calls_in(text)), said
    assert matches[0], said
    if function.factor != 1.0:
        text = found.calls[matches.index(True)]
        assert any(equal(v, function.factor) or equal(v, 1 / function.factor) for v in values_in(text) if isinstance(v, int | float)), said


def test_the_table() -> None:
    assert len(PUBLIC) >= 45
    assert {p.library for p in PUBLIC} == {"numpy", "torch", "jax"}
    assert len({p.name for p in PUBLIC}) == len(PUBLIC)
    assert {name for p in PUBLIC for name, _ in p.calls} <= set(REGISTRY)


def test_calls_are_compared_by_what_they_mean() -> None:
    text = "0.5 * arrayloss.huber_loss(x, t, delta=2, reduction='none')"
    (found,) = calls_in(text)
    assert found == ("huber_loss", {"delta": 2, "reduction": "none"})
    assert next(iter(values_in(text))) == 0.5
    assert is_call(found, ("huber_loss", {"delta": 2.0}))
    assert not is_call(found, ("huber_loss", {}))
    assert not is_call(found, ("huber_loss", {"delta": 2.0, "reduction": "sum"}))
    assert not is_call(found, ("smooth_l1_loss", {"beta": 2.0}))
    assert is_call(
        ("dice_loss", {"activation": "sigmoid", "pool_axes": (1, 2)}), ("dice_loss", {"activation": "sigmoid", "pool_axes": (1, 2, 3)})
    )
