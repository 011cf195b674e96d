"""All losses with all options that their definitions name, on points that reach the corners: NumPy's numbers, few launches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayloss as al
from arrayloss.check.definitions import DEFINITIONS
from arrayloss.check.points import FRAMES, Problem, batches

from ..helpers import assert_close, several
from .on_double import CUPY, DTYPES, by_array_calls, measured

BY_ARRAY_CALLS = ("sparsemax_loss", "multilabel_margin_loss")  # a row that is sorted, and pairs of classes, are more than one kernel
ROWS = [
    pytest.param(definition, kind, options, id=f"{name}-{definition.given}-{kind}-{i}", marks=pytest.mark.exhaustive)
    for name, several_ in DEFINITIONS.items()
    if name not in BY_ARRAY_CALLS
    for definition in several_
    if definition.predictions[0] not in FRAMES  # array calls: test_sequences
    for kind in definition.targets
    for i, options in enumerate(definition.options)
]
FIRST = [row for row in ROWS if row.id.endswith("-0")]


def problems(definition: Any, kind: str, options: Any, points: str) -> list[Problem]:
    return batches(definition.predictions, kind, points, np.random.default_rng(0), options)


def there(problem: Problem, dtype: str) -> list[Any]:
    """The arrays of a problem on CuPy."""
    arrays = [*problem.predictions, *([] if problem.targets is None else [problem.targets])]
    return [CUPY.array(a, dtype if a.dtype.kind == "f" else None) for a in arrays]


def here(arrays: list[Any]) -> list[Any]:
    """The same numbers on NumPy, in float64."""
    return [CUPY.numpy(a) if a.dtype.kind in "biu" else CUPY.numpy(a).astype(np.float64) for a in arrays]


@pytest.mark.parametrize(("definition", "kind", "options"), ROWS)
def test_every_option_at_the_edges(definition: Any, kind: str, options: Any) -> None:
    """In float64, by the same formulas: what differs is the last digit of a few functions."""
    loss = getattr(al, definition.loss)
    for problem in problems(definition, kind, options, "edges+random"):
        arrays = there(problem, "float64")
        (value, gradients), taken = measured(loss.value_and_grad, *arrays, **problem.options)
        assert taken["launches"] <= 4
        losses, taken = measured(loss, *arrays, reduction="none", **problem.options)
        assert taken["launches"] <= 2
        with np.errstate(all="ignore"):
            expected, slopes = loss.value_and_grad(*here(arrays), **problem.options)
            known = loss(*here(arrays), reduction="none", **problem.options)
        numbers = [losses, value, *several(gradients)], [known, expected, *several(slopes)]
        for a, b in zip(*numbers, strict=True):
            np.testing.assert_allclose(a.get(), b, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("definition", "kind", "options"), FIRST)
def test_every_dtype(definition: Any, kind: str, options: Any, dtype: str) -> None:
    loss = getattr(al, definition.loss)
    computed = "float64" if dtype == "float64" else "float32"
    for problem in problems(definition, kind, options, "random"):
        arrays = there(problem, dtype)
        (value, gradients), taken = measured(loss.value_and_grad, *arrays, **problem.options)
        assert taken["launches"] <= 4
        expected, slopes = loss.value_and_grad(*here(arrays), **problem.options)
        assert value.dtype == computed
        assert_close(value.get(), expected, computed)
        for g, s in zip(several(gradients), several(slopes), strict=True):
            assert str(g.dtype) == dtype
            assert_close(CUPY.numpy(g), s, dtype, ulps=32 if dtype == computed else 0.51)


@pytest.mark.parametrize(("definition", "kind", "options"), FIRST)
def test_hessian_diagonals(definition: Any, kind: str, options: Any) -> None:
    loss = getattr(al, definition.loss)
    (problem,) = problems(definition, kind, options, "random")
    arrays = there(problem, "float64")
    try:
        expected = loss.grad_and_hess(*here(arrays), **problem.options)
    except NotImplementedError:
        with pytest.raises(NotImplementedError, match="no second derivative"):
            loss.grad_and_hess(*arrays, **problem.options)
    else:
        both, taken = measured(loss.grad_and_hess, *arrays, **problem.options)
        assert taken["launches"] == 1
        for many, known in zip(both, expected, strict=True):
            for a, b in zip(several(many), several(known), strict=True):
                assert_close(a.get(), b)


@pytest.mark.parametrize(("definition", "kind", "options"), FIRST)
def test_array_calls_give_the_same_numbers(definition: Any, kind: str, options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = getattr(al, definition.loss)
    (problem,) = problems(definition, kind, options, "random")
    arrays = there(problem, "float32")
    (value, gradients), few = measured(loss.value_and_grad, *arrays, **problem.options)
    by_array_calls(monkeypatch)
    (again, same), many = measured(loss.value_and_grad, *arrays, **problem.options)
    assert many["launches"] > few["launches"]
    assert value.dtype == again.dtype
    assert_close(value.get(), again.get(), "float32", ulps=8)
    for a, b in zip(several(gradients), several(same), strict=True):
        assert_close(a.get(), b.get(), "float32", ulps=8)


@pytest.mark.parametrize(
    "options", [{}, {"softcap": 3.0, "z_loss": 0.1, "label_smoothing": 0.1, "class_weights": (1.0, 2.0, 3.0, 1.0, 1.0)}]
)
def test_losses_of_arrays_of_several_shapes(options: Any) -> None:
    """By array calls, in blocks: nothing of them is one kernel."""
    rng = np.random.default_rng(0)
    f, w, labels = rng.normal(size=(7, 4)), rng.normal(size=(5, 4)), rng.integers(0, 5, 7)
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [(al.linear_cross_entropy, (f, w, labels), options | {"bias": w[:, 0]})]
    for loss in () if options else (al.ntxent_loss, al.circle_loss):
        calls += [(loss, (f, labels), {}), (loss, (f, labels), {"keys": w, "key_labels": labels[:5]})]
    for loss, arrays, more in calls:
        value, gradients = loss.value_and_grad(*map(CUPY.array, arrays), block=3, **CUPY.arrays(more))
        expected = loss.value_and_grad(*arrays, **more)
        for ours, theirs in zip((value, *several(gradients)), (expected[0], *several(expected[1])), strict=True):
            assert_close(CUPY.numpy(ours), theirs)
