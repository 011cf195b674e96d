"""The whole registry on CuPy: values, gradients, Hessian diagonals and parts against NumPy in float64, from the inputs as rounded.

Every call is one that copies nothing to the host, waits for nothing and takes as few launches as there are steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from double import CUPY, DTYPES, flat, measured, on_cupy
from drawn import CASES, CLASSES, FIRST, Case
from helpers import assert_close

from arrayloss.core import dtypes
from arrayloss.core.namespace import adapter

SAMPLES = 6


def arguments(case: Case, dtype: str, samples: int = SAMPLES) -> tuple[list[Any], list[Any]]:
    """The arrays on CuPy, and the same numbers in float64 on NumPy."""
    predictions, targets = case.draw(samples=samples)
    there = [*(CUPY.array(p, dtype) for p in predictions), CUPY.array(targets, dtype if targets.dtype.kind == "f" else None)]
    here = [a if (a := CUPY.numpy(b)).dtype.kind in "bi" else a.astype(np.float64) for b in there]
    return there, here


def machinery(case: Case) -> list[dict[str, Any]]:
    """Options that every loss has, in shapes of its elements."""
    rng = np.random.default_rng(1)
    shape = (SAMPLES,) if case.oracle.rows else (SAMPLES, CLASSES)
    weights, where = rng.uniform(0.5, 2.0, size=shape), rng.uniform(size=shape) < 0.7
    some: list[dict[str, Any]] = [
        {"weights": weights, "where": where},
        {"weights": weights[:1], "normalizer": "count"},
        {"weights": 2.5, "reduction": "sum"},
        {"reduction": "none", "where": where},
        {"reduce_axes": 0, "where": where},
        {"normalizer": np.asarray(7.0)},
    ]
    return [*some, {"ignore_index": 1, "weights": weights}] if case.targets in ("labels", "binary") else some


def differs(there: Any, here: Any, dtype: str) -> None:
    """Compare what CuPy and NumPy gave. Sums of float32 losses are float64, those of 16-bit losses float32."""
    computed = "float64" if dtype == "float64" else "float32"
    for a, b in zip(flat(there), flat(here), strict=True):
        rounded = dtypes.kind(a.dtype) == "half"
        assert_close(CUPY.numpy(a), b, dtypes.name(a.dtype) if rounded else computed, ulps=0.51 if rounded else 32)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_option_of_every_loss(case: Case) -> None:
    there, here = arguments(case, "float32")
    got, took = measured(case.loss.value_and_grad, *there, **case.options)
    differs(got, case.loss.value_and_grad(*here, **case.options), "float32")
    assert took["launches"] <= 4
    got, took = measured(case.loss, *there, reduction="none", **case.options)
    differs(got, case.loss(*here, reduction="none", **case.options), "float32")
    assert took["launches"] == 1
    try:
        expected = case.loss.grad_and_hess(*here, **case.options)
    except NotImplementedError:
        with pytest.raises(NotImplementedError, match="no curvature is defined"):
            case.loss.grad_and_hess(*there, **case.options)
    else:
        got, took = measured(case.loss.grad_and_hess, *there, **case.options)
        differs(got, expected, "float32")
        assert took["launches"] == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", FIRST, ids=str)
def test_every_dtype(case: Case, dtype: str) -> None:
    there, here = arguments(case, dtype)
    got, took = measured(case.loss.value_and_grad, *there, **case.options)
    differs(got, case.loss.value_and_grad(*here, **case.options), dtype)
    assert took["launches"] <= 4
    value, gradient = got[0], flat(got[1])[0]
    assert dtypes.name(value.dtype) == (dtype if dtype in ("float32", "float64") else "float32")
    assert dtypes.name(gradient.dtype) == dtype
    assert value.shape == ()


@pytest.mark.parametrize(("case", "options"), [(c, i) for c in FIRST for i in range(len(machinery(c)))], ids=str)
def test_weights_masks_and_reductions(case: Case, options: int) -> None:
    extra = {**case.options, **machinery(case)[options]}
    there, here = arguments(case, "float32")
    there_extra = on_cupy({k: v.astype(np.float32) if getattr(v, "dtype", None) == np.float64 else v for k, v in extra.items()})
    here_extra = {
        k: CUPY.numpy(v).astype(np.float64) if getattr(v, "dtype", None) == np.float32 else extra[k] for k, v in there_extra.items()
    }
    got, took = measured(case.loss.value_and_grad, *there, **there_extra)
    differs(got, case.loss.value_and_grad(*here, **here_extra), "float32")
    assert took["launches"] <= 4
    if extra.get("reduction") != "none" and "normalizer" not in extra:
        got, _ = measured(lambda: case.loss.parts(*there, **there_extra).arrays if 0 in (extra.get("reduce_axes", 0),) else ())
        expected = case.loss.parts(*here, **here_extra).arrays
        assert dtypes.kind(got[2].dtype) == "integer"
        differs(got, expected, "float32")


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_plain_array_calls_give_the_same_numbers(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a formula falls back to if it cannot be one kernel."""
    there, here = arguments(case, "float32")
    fused, few = measured(case.loss.value_and_grad, *there, **case.options)
    monkeypatch.setattr(adapter("cupy"), "fused", False)
    plain, many = measured(case.loss.value_and_grad, *there, **case.options)
    assert many["launches"] > few["launches"]
    for a, b in zip(flat(fused), flat(plain), strict=True):
        assert a.dtype == b.dtype
        assert_close(CUPY.numpy(a), CUPY.numpy(b), "float32", ulps=8)
    differs(plain, case.loss.value_and_grad(*here, **case.options), "float32")
