"""Every kind of operation on every path: NumPy's numbers, few launches, nothing copied to the host, nothing written past an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ..helpers import assert_same, several
from ..operations import CASES, Case, additive_of
from .on_double import CUPY, by_array_calls, measured

ARRAY_CALLS = ("sequence", "coupled")  # elements of several axes, or that depend on each other
RECORDED = {name: case for name, case in CASES.items() if not name.startswith(ARRAY_CALLS)}
HESSIANS = {name: case for name, case in CASES.items() if case.kind.has_hessian and not name.startswith(ARRAY_CALLS)}


def of_each(cases: dict[str, Case]) -> pytest.MarkDecorator:
    """A test for every case."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in cases.items()])


def arguments(case: Case) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Predictions and targets, and the options."""
    targets, options = case.arguments(CUPY.array)
    return (*case.unstack(CUPY.array(case.kind.x)), *targets), options


def most_launches(case: Case) -> int:
    """Of a value: one for the sums, and one for the finish where it is more than a division by a number."""
    if case.path == "combination":
        return 6 if case.kind.is_overlap else 5  # two losses, one of them with a finish of its own; two products and a sum
    is_divided_by_a_sum = case.path in ("weighted", "masked", "weighted and masked") or (case.path == "ignored" and case.kind.has_labels)
    is_divided_by_a_sum |= "class_weights" in case.kind.options and case.path == "mean"
    return 2 if case.kind.is_overlap or is_divided_by_a_sum else 1


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name: str) -> None:
    case = CASES[name]
    arrays, options = arguments(case)
    value, taken = measured(case.loss, *arrays, **options)
    assert_same(value.get(), case.reference[0])
    (again, gradient), taken_with_gradient = measured(case.loss.value_and_grad, *arrays, **options)
    assert_same(again.get(), case.reference[0])
    assert_same(np.reshape([g.get() for g in several(gradient)], case.kind.x.shape), case.reference[1])
    if name in RECORDED:
        assert taken["launches"] <= most_launches(case)
        products = 2 * case.kind.predictions if case.path == "combination" else 0  # and sums, of the gradients
        losses = 2 if case.path == "combination" else 1
        assert taken_with_gradient["launches"] <= most_launches(case) + losses + products


@of_each(RECORDED)
def test_array_calls_give_the_same_numbers(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are what remains where a call cannot be one kernel."""
    arrays, options = arguments(case)
    by_array_calls(monkeypatch)
    (value, gradient), _ = measured(case.loss.value_and_grad, *arrays, **options)
    assert_same(value.get(), case.reference[0])
    assert_same(np.reshape([g.get() for g in several(gradient)], case.kind.x.shape), case.reference[1])


@of_each(additive_of(RECORDED))
def test_parts_of_two_batches(case: Case) -> None:
    arrays, options = arguments(case)
    options.pop("normalizer", None)
    expected = case.loss.parts(*case.unstack(case.kind.x), *case.arguments(np.asarray)[0], **here(case))
    parts, taken = measured(case.loss.parts, *arrays, **options)
    assert taken["launches"] <= (2 if case.path == "combination" else 1)
    for a, b in zip(parts.arrays, expected.arrays, strict=True):
        assert a.dtype == b.dtype
        assert_same(a.get(), b)
    value, _ = measured(case.loss.finish, parts + parts)
    assert_same(value.get(), case.loss.finish(expected + expected))


def here(case: Case) -> dict[str, Any]:
    """The options of parts, on NumPy."""
    return {name: value for name, value in case.arguments(np.asarray)[1].items() if name != "normalizer"}


@of_each({name: case for name, case in HESSIANS.items() if case.path in ("sum", "weighted and masked")})
def test_gradients_and_hessian_diagonals_are_one_launch(case: Case) -> None:
    arrays, options = arguments(case)
    both, taken = measured(case.loss.grad_and_hess, *arrays, **options)
    assert taken["launches"] == 1
    expected = case.loss.grad_and_hess(*case.unstack(case.kind.x), *case.arguments(np.asarray)[0], **case.arguments(np.asarray)[1])
    for many, known in zip(both, expected, strict=True):
        for a, b in zip(several(many), several(known), strict=True):
            assert_same(a.get(), b)


@of_each({name: case for name, case in RECORDED.items() if case.path in ("mean", "weighted and masked")})
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_other_dtypes(case: Case, dtype: str) -> None:
    """16 bits are computed in float32 and rounded once."""
    x = CUPY.array(case.kind.x, dtype)
    targets, options = case.arguments(lambda a: CUPY.array(a, dtype if a.dtype.kind == "f" else None))
    (value, gradient), taken = measured(case.loss.value_and_grad, *case.unstack(x), *targets, **options)
    assert taken["launches"] <= most_launches(case) + 1
    computed, epsilon = np.float32, {"float32": 2.0**-23, "float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    assert value.dtype == computed
    assert {str(g.dtype) for g in several(gradient)} == {dtype}

    def wide(a):
        return CUPY.numpy(a).astype(float) if a.dtype.kind not in "biu" else CUPY.numpy(a)

    there = {name: wide(v) if hasattr(v, "dtype") else v for name, v in options.items()}
    expected, slopes = case.loss.value_and_grad(*case.unstack(wide(x)), *map(wide, targets), **there)
    np.testing.assert_allclose(value.get(), expected, rtol=16 * 2.0**-23)
    for g, s in zip(several(gradient), several(slopes), strict=True):
        np.testing.assert_allclose(CUPY.numpy(g), s, rtol=1.01 * epsilon if dtype != "float32" else 2e-5, atol=1e-6)
