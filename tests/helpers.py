"""What the tests of the contract share: the exact answers for a case, and how close a computed one has to be."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest
from conftest import Backend
from drawn import CASES, Case
from mpmath import mpf

from arrayloss.consistency.libraries import LIBRARIES, Library
from arrayloss.consistency.oracles import DIGITS, Oracle, derivative

# A finite sum of a few correctly formed terms, each a few native calls of 1 to 3 ulp: what is left for a formula is
# tested elsewhere, at every magnitude; a wrong term, factor or sign is larger than this by ten orders.
ULPS = 32
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def library(name: str) -> Library:
    """An array library to measure on; a test that needs one which is not there says so."""
    made = LIBRARIES[name]
    if made.missing() is not None:
        pytest.skip(f"{name} is {made.missing()}")
    return made


def exact(number: Any) -> Any:
    """A NumPy number as mpmath sees it: labels stay integers."""
    return int(number) if np.asarray(number).dtype.kind in "ib" else mpf(float(number))


def exact_elements(
    oracle: Oracle, options: Mapping[str, Any], predictions: tuple[np.ndarray, ...], targets: np.ndarray, *, labels: bool
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Losses, first and second derivatives of every element by mpmath; rows of classes lie along the last axis."""
    first = predictions[0]
    elements = first.shape[:-1] if oracle.rows else first.shape
    value = np.empty(elements)
    grads = [np.empty(first.shape) for _ in predictions]
    hesses = [np.empty(first.shape) for _ in predictions]
    with mpmath.workdps(DIGITS):
        for index in np.ndindex(*elements):
            if oracle.rows:
                row = [[exact(v) for v in p[index]] for p in predictions]
                t = int(targets[index]) if labels else [mpf(float(v)) for v in targets[index]]
                value[index] = float(oracle.value(*row, t, **options))
                for i in range(len(predictions)):
                    for c in range(first.shape[-1]):
                        grads[i][(*index, c)] = float(derivative(oracle, row, t, options, (i, c), 1))
                        hesses[i][(*index, c)] = float(derivative(oracle, row, t, options, (i, c), 2))
            else:
                entries = [mpf(float(p[index])) for p in predictions]
                t = mpf(float(targets[index]))
                value[index] = float(oracle.value(*entries, t, **options))
                for i in range(len(predictions)):
                    grads[i][index] = float(derivative(oracle, entries, t, options, i, 1))
                    hesses[i][index] = float(derivative(oracle, entries, t, options, i, 2))
    return value, grads, hesses


@cache
def answers(number: int) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Predictions, targets, and what mpmath makes of them, for a case by its place in `CASES`."""
    case = CASES[number]
    predictions, targets = case.draw(samples=4, seed=number)
    return (predictions, targets, *exact_elements(case.oracle, case.options, predictions, targets, labels=case.targets == "labels"))


def arguments(case: Case, xp: Backend, dtype: str = "float64", samples: int = 4, seed: int = 0) -> list[Any]:
    """Predictions and targets of a case as arrays of a backend."""
    predictions, targets = case.draw(samples=samples, seed=seed)
    return [*(xp.array(p, dtype) for p in predictions), target(xp, targets, dtype)]


def target(xp: Backend, targets: np.ndarray, dtype: str) -> Any:
    """Targets on a backend: floating-point ones have the dtype of the predictions."""
    return xp.array(targets, dtype if targets.dtype.kind == "f" else None)


def several(gradients: Any) -> tuple[Any, ...]:
    """The gradients of all predictions, one or more, as a tuple."""
    return gradients if isinstance(gradients, tuple) else (gradients,)


def assert_close(actual: np.ndarray, expected: Any, dtype: str = "float64", ulps: float = ULPS) -> None:
    """Equal up to `ulps` of the larger of the exact value and 1."""
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=ulps * EPSILON[dtype], atol=ulps * EPSILON[dtype])
