"""dtypes: of inputs, of results, and of what is computed in between.

What holds, and the test that would fail without it:

- none and gradients have the dtype of the predictions; mean, sum and parts of 16 bits are float32  test_result_dtypes
- parts are float64 where the device has it                (the same test)
- 16 bits are computed in float32 and rounded once         test_16_bits_are_computed_in_float32_and_rounded_once
- a float16 sum neither overflows nor stands still          test_a_sum_of_16_bits_neither_overflows_nor_stands_still
- NumPy scalars and array options promote nothing           test_options_promote_nothing
- targets of any integer dtype, boolean, of another float dtype  test_targets_of_any_dtype, test_labels_of_any_integer_dtype
- gradients finite for |logit| up to 1e4 and every gamma    test_gradients_are_finite
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import Backend
from drawn import FIRST, Case
from helpers import arguments, assert_close, several
from numpy.testing import assert_array_equal

from arrayloss import (
    huber_loss,
    nll_loss,
    sigmoid_cross_entropy,
    sigmoid_focal_loss,
    softmax_cross_entropy,
    softmax_focal_loss,
    squared_error,
)
from arrayloss.core import dtypes

every_case = pytest.mark.parametrize("case", FIRST, ids=str)
HALVES = ["float16", "bfloat16"]
LABELS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def skip_unless(xp: Backend, dtype: str) -> None:
    """The array API standard has no 16-bit floating point, and array-api-strict has nothing else."""
    if xp.library == "array_api_strict" and dtype in HALVES:
        pytest.skip(f"array-api-strict has no {dtype}")


def dtype_of(array: Any) -> str:
    return dtypes.name(array.dtype)


@every_case
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_result_dtypes(case: Case, dtype: str, xp: Backend) -> None:
    skip_unless(xp, dtype)
    arrays = arguments(case, xp, dtype)
    weights = {"weights": xp.array(np.ones((4, 1)), dtype)}
    reduced = "float32" if dtype in HALVES else dtype
    each, gradients = case.loss.value_and_grad(*arrays, reduction="none", **case.options)
    assert [dtype_of(a) for a in (each, *several(gradients))] == [dtype] * (1 + len(several(gradients)))
    for options in ({}, {"reduction": "sum"}, weights):
        value, gradients = case.loss.value_and_grad(*arrays, **options, **case.options)
        assert dtype_of(value) == reduced
        assert {dtype_of(g) for g in several(gradients)} == {dtype}
    assert dtype_of(case.loss(*arrays, **case.options)) == reduced
    parts = case.loss.parts(*arrays, **weights, **case.options)
    wide = {"float16": "float32", "bfloat16": "float32"}.get(dtype, "float64")
    assert [dtype_of(parts.total), dtype_of(parts.weight), dtypes.kind(parts.count.dtype)] == [wide, wide, "integer"]


def test_jax_without_float64_keeps_float32() -> None:
    """Where there is no float64, nothing asks for it: JAX would warn."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(False):
        x = jax.numpy.asarray([0.5, -1.0])
        value, gradient = sigmoid_cross_entropy.value_and_grad(x, jax.numpy.asarray([1, 0]), weights=2.0)
        parts = sigmoid_cross_entropy.parts(x, np.array([1, 0]), weights=np.array([1.0, 2.0]))
        assert {dtype_of(a) for a in (value, gradient, parts.total, parts.weight)} == {"float32"}
        assert dtype_of(parts.count) == "int32"


@every_case
@pytest.mark.parametrize("dtype", HALVES)
def test_16_bits_are_computed_in_float32_and_rounded_once(case: Case, dtype: str, xp: Backend) -> None:
    skip_unless(xp, dtype)
    half = arguments(case, xp, dtype, samples=6)
    wide = [xp.array(xp.numpy(a), "float32") if dtypes.kind(a.dtype) == "half" else a for a in half]
    weights = np.linspace(0.3, 2, 6)[:, None]
    for options in ({"reduction": "none"}, {"weights": weights}):
        narrow = {k: xp.array(v, dtype) if k == "weights" else v for k, v in options.items()}
        full = {k: xp.array(xp.numpy(narrow[k]), "float32") if k == "weights" else v for k, v in options.items()}
        value, gradients = case.loss.value_and_grad(*half, **narrow, **case.options)
        expected, wide_gradients = case.loss.value_and_grad(*wide, **full, **case.options)
        if "weights" in options:
            assert_close(xp.numpy(value), xp.numpy(expected), "float32", ulps=1)
        else:
            assert_array_equal(xp.numpy(value), rounded(xp, expected, dtype))
        for g, e in zip(several(gradients), several(wide_gradients), strict=True):
            assert_array_equal(xp.numpy(g), rounded(xp, e, dtype))


def rounded(xp: Backend, array: Any, dtype: str) -> np.ndarray:
    return xp.numpy(xp.array(xp.numpy(array), dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_a_sum_of_16_bits_neither_overflows_nor_stands_still(dtype: str, xp: Backend) -> None:
    """A float16 sum ends at 65504; a bfloat16 sum of ones at 256; the count must not be kept in 16 bits either."""
    skip_unless(xp, dtype)
    x, t = xp.array(np.full((300, 300), 16.0), dtype), xp.array(np.zeros((300, 300)), dtype)
    keep = xp.array(np.ones((300, 300), dtype=bool))
    ones = xp.array(np.ones((300, 300)), dtype)
    assert xp.numpy(squared_error(x, t, reduction="sum")) == 256.0 * 90000
    assert xp.numpy(squared_error(x, t)) == 256.0
    assert xp.numpy(squared_error(x, t, weights=ones, where=keep)) == 256.0
    assert xp.numpy(squared_error.parts(x, t, weights=ones).weight) == 90000


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_options_promote_nothing(dtype: str, xp: Backend) -> None:
    """np.float64 scalars and float64 arrays, as parameters, weights, targets and normalizer."""
    skip_unless(xp, dtype)
    reduced = "float32"
    x, t = xp.array(np.array([[0.5, -1.0, 2.0]]), dtype), xp.array(np.array([[1, 0, 1]]))
    wide = xp.array(np.array([[0.5, 1.0, 2.0]]))
    soft = xp.array(np.array([[0.25, 0.5, 1.0]]))
    one = xp.array(np.array(1.5))
    perclass = xp.array(np.array([0.5, 1.0, 0.25]))
    labels = xp.array(np.array([2]))
    for loss, targets, options in (
        (sigmoid_focal_loss, t, {"gamma": np.float64(1.5), "alpha": np.float64(0.25)}),
        (sigmoid_focal_loss, soft, {"gamma": one, "alpha": perclass}),
        (sigmoid_cross_entropy, t, {"pos_weight": perclass, "class_weights": perclass}),
        (sigmoid_cross_entropy, t, {"weights": np.float64(2.0), "label_smoothing": np.float64(0.1)}),
        (softmax_cross_entropy, labels, {"class_weights": perclass, "label_smoothing": np.float64(0.1)}),
        (softmax_focal_loss, labels, {"gamma": np.float64(0.5), "alpha": perclass}),
        (nll_loss, labels, {"class_weights": (np.float64(1), np.float64(2), 3)}),
        (softmax_cross_entropy, soft, {"normalizer": one}),
        (huber_loss, soft, {"delta": np.float64(1.0)}),
        (huber_loss, soft, {"delta": one}),
    ):
        value, gradient = loss.value_and_grad(x, targets, **options)
        assert (dtype_of(value), dtype_of(gradient)) == (reduced, dtype)
        if "normalizer" not in options:
            each, gradient = loss.value_and_grad(x, targets, reduction="none", **options)
            assert (dtype_of(each), dtype_of(gradient)) == (dtype, dtype)
    each, gradient = sigmoid_cross_entropy.value_and_grad(x, t, weights=wide, reduction="none")
    assert (dtype_of(each), dtype_of(gradient)) == (dtype, dtype)
    g, h = sigmoid_cross_entropy.grad_and_hess(x, t, weights=wide)
    assert (dtype_of(g), dtype_of(h)) == (dtype, dtype)


@pytest.mark.parametrize("dtype", ["bool", *LABELS, "float16", "bfloat16", "float32", "float64"])
def test_targets_of_any_dtype(dtype: str, xp: Backend) -> None:
    """0 and 1 are the same targets in every dtype."""
    skip_unless(xp, dtype)
    x, t = np.array([[0.5, -1.0, 2.0], [0.1, 0.2, 0.3]]), np.array([[1, 0, 0], [0, 0, 1]])
    for loss in (sigmoid_cross_entropy, sigmoid_focal_loss, softmax_cross_entropy, softmax_focal_loss, squared_error):
        expected = loss.value_and_grad(x, t.astype(float))
        value, gradient = loss.value_and_grad(xp.array(x), xp.array(t, dtype))
        assert_close(xp.numpy(value), expected[0])
        assert_close(xp.numpy(gradient), expected[1])


@pytest.mark.parametrize("dtype", LABELS)
def test_labels_of_any_integer_dtype(dtype: str, xp: Backend) -> None:
    x, t = np.random.default_rng(8).normal(size=(4, 3)), np.array([1, 0, 2, 2])
    where = xp.array(np.array([True, True, False, True]))
    for loss, options in ((softmax_cross_entropy, {}), (softmax_focal_loss, {}), (softmax_cross_entropy, {"label_smoothing": 0.1})):
        expected = loss.value_and_grad(x[[0, 3]], t[[0, 3]], **options)
        value, gradient = loss.value_and_grad(xp.array(x), xp.array(t, dtype), where=where, ignore_index=0, **options)
        assert_close(xp.numpy(value), expected[0])
        assert_close(xp.numpy(gradient)[[0, 3]], expected[1])


def test_boolean_labels_of_two_classes(xp: Backend) -> None:
    x, t = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([True, False])
    assert_close(xp.numpy(softmax_cross_entropy(xp.array(x), xp.array(t))), softmax_cross_entropy(x, t.astype(int)))
    where = xp.array(np.array([True, False]))
    assert_close(xp.numpy(softmax_cross_entropy(xp.array(x), xp.array(t), where=where)), softmax_cross_entropy(x[:1], np.array([1])))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("gamma", [0, 0.25, 0.5, 1, 2, 5])
def test_gradients_are_finite(gamma: float, dtype: str, xp: Backend) -> None:
    skip_unless(xp, dtype)
    sizes = np.array([0.0, 1e-30, 1e-4, 0.5, 1.0, 10.0, 20.0, 40.0, 90.0, 100.0, 710.0, 800.0, 5000.0, 1e4])
    x = np.concatenate([sizes, -sizes])
    logits = xp.array(np.stack([x, x]), dtype)
    rows = xp.array(np.stack([x, np.zeros_like(x), np.flip(x)], axis=1), dtype)
    for targets in (np.stack([np.ones_like(x), np.zeros_like(x)]), np.full((2, x.size), 0.3)):
        for t in (targets, targets.astype(int)) if (targets % 1 == 0).all() else (targets,):
            assert finite(xp, sigmoid_focal_loss.value_and_grad(logits, xp.array(t), gamma=gamma, alpha=0.25, reduction="sum"))
            if gamma == 0:
                assert finite(xp, sigmoid_cross_entropy.value_and_grad(logits, xp.array(t), reduction="sum"))
    for t in (np.arange(x.size) % 3, np.eye(3)[np.arange(x.size) % 3], np.full((x.size, 3), 1 / 3)):
        assert finite(xp, softmax_focal_loss.value_and_grad(rows, xp.array(t), gamma=gamma, reduction="sum"))
        if gamma == 0:
            assert finite(xp, softmax_cross_entropy.value_and_grad(rows, xp.array(t), reduction="sum"))


def finite(xp: Backend, answer: tuple[Any, Any]) -> bool:
    return all(np.isfinite(xp.numpy(a)).all() for a in answer)
