"""dtypes: of inputs, of results, and of what is computed in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayloss as al
from arrayloss.check.libraries import LIBRARIES
from arrayloss.core import dtypes

from .helpers import BACKENDS, EPSILON, HALVES, Backend, assert_close, needs_64_bits, several
from .operations import WEIGHTS, Kind

LABELS = ["int8", "int32", "int64", "uint8", "uint16", "uint64"]
FLOATS = [(xp, dtype) for xp in BACKENDS.values() if xp.missing() is None for dtype in (*HALVES, "float32", "float64") if xp.has(dtype)]


every_dtype = pytest.mark.parametrize(("xp", "dtype"), FLOATS, ids=lambda value: str(value))


def is_slow(xp: Backend) -> bool:
    """Whether a test takes a hundred times what it takes on NumPy."""
    return xp.name in ("jax", "dask")


def name(array: Any) -> str:
    """The dtype."""
    return dtypes.name(array.dtype)


def arrays_of(kind: Kind, xp: Backend, dtype: str) -> list[Any]:
    """Predictions and targets; floating-point targets have the dtype of the predictions."""
    return [xp.array(a, dtype if a.dtype.kind == "f" else None) for a in (*kind.stack, *kind.targets)]


@every_dtype
def test_result_dtypes(kind: Kind, xp: Backend, dtype: str) -> None:
    """Of `none` and gradients that of the predictions; of means and sums of 16 bits float32; of all parts float64."""
    arrays, options = arrays_of(kind, xp, dtype), {"weights": xp.array(kind.per_sample(WEIGHTS)), **xp.arrays(kind.options)}
    reduced = "float32" if dtype in HALVES else dtype
    each, gradients = kind.loss.value_and_grad(*arrays, **{**options, "reduction": "none"})
    assert {name(a) for a in (each, *several(gradients))} == {dtype}
    value, gradients = kind.loss.value_and_grad(*arrays, **options)
    assert (name(value), *map(name, several(gradients))) == (reduced, *[dtype] * kind.predictions)
    assert name(kind.loss(*arrays, **options)) == reduced
    if not kind.is_coupled:
        parts = kind.loss.parts(*arrays, **options)
        for part, array in zip(parts.names, parts.arrays, strict=True):
            assert dtypes.kind(array.dtype) == "integer" if part == "count" else name(array) == "float64"
        assert name(kind.loss.finish(parts)) == "float64"


@every_dtype
def test_16_bits_are_computed_in_float32_and_rounded_once(kind: Kind, xp: Backend, dtype: str) -> None:
    """The predictions' values are the same in both."""
    if dtype not in HALVES:
        return
    narrow, options = arrays_of(kind, xp, dtype), xp.arrays(kind.options)
    wide = [xp.array(xp.numpy(a), "float32") if dtypes.kind(a.dtype) == "half" else a for a in narrow]
    value, gradients = kind.loss.value_and_grad(*narrow, **options)
    expected, wide_gradients = kind.loss.value_and_grad(*wide, **options)
    assert_close(xp.numpy(value), xp.numpy(expected), "float32", ulps=1)
    for g, e in zip(several(gradients), several(wide_gradients), strict=True):
        e = xp.numpy(e).astype(float)
        ulp = EPSILON[dtype] * 2.0 ** np.floor(np.log2(np.maximum(np.abs(e), 2.0**-14)))
        assert (np.abs(xp.numpy(g) - e) <= 0.51 * ulp).all()  # rounded twice it could be 0.75


@needs_64_bits
def test_jax_without_float64_keeps_float32() -> None:
    """Where float64 is not enabled, only parts have it, whose number is float32 again; and nothing warns."""
    jax = pytest.importorskip("jax")
    with LIBRARIES["jax"].precision("float32"):
        x = jax.numpy.asarray([0.5, -1.0])
        value, gradient = al.sigmoid_cross_entropy.value_and_grad(x, jax.numpy.asarray([1, 0]), weights=2.0)
        parts = al.sigmoid_cross_entropy.parts(x, np.array([1, 0]), weights=np.array([1.0, 2.0]))
        assert {name(a) for a in (value, gradient)} == {"float32"}
        assert {name(a) for a in parts.arrays} == {"float64", "int64"}
        assert name(al.sigmoid_cross_entropy.finish(parts + parts - parts)) == "float32"


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.everywhere
def test_a_sum_of_16_bits_neither_overflows_nor_stands_still(dtype: str, xp: Backend) -> None:
    """A float16 sum ends at 65504; a bfloat16 sum of ones at 256; the count must not be kept in 16 bits either."""
    if not xp.has(dtype):
        pytest.skip(f"{xp} has no {dtype}")
    x, t = xp.array(np.full((300, 300), 16.0), dtype), xp.array(np.zeros((300, 300)), dtype)
    ones, keep = xp.array(np.ones((300, 300)), dtype), xp.array(np.ones((300, 300), dtype=bool))
    assert xp.numpy(al.squared_error(x, t, reduction="sum")) == 256.0 * 90000
    assert xp.numpy(al.squared_error(x, t, weights=ones, where=keep)) == 256.0
    assert xp.numpy(al.squared_error.parts(x, t, weights=ones).weight) == 90000


def test_parts_of_float32_are_as_exact_as_float64() -> None:
    """A float32 sum of 2**24 ones, and of one more in the next batch, stands still."""
    ones, zeros = np.ones(2**20, dtype=np.float32), np.zeros(2**20, dtype=np.float32)
    batch = al.squared_error.parts(ones, zeros)
    many = sum(batch for _ in range(17)) + al.squared_error.parts(ones[:1], zeros[:1])
    assert float(many.total) == float(many.weight) == int(many.count) == 17 * 2**20 + 1


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_options_promote_nothing(dtype: str, xp: Backend) -> None:
    """np.float64 scalars and float64 arrays, as parameters, weights, targets and normalizer."""
    if not xp.has(dtype):
        pytest.skip(f"{xp} has no {dtype}")
    x, t, labels = xp.array(np.array([[0.5, -1.0, 2.0]]), dtype), xp.array(np.array([[1, 0, 1]])), xp.array(np.array([2]))
    wide, soft = xp.array(np.array([[0.5, 1.0, 2.0]])), xp.array(np.array([[0.25, 0.5, 1.0]]))
    one, per_class = xp.array(np.array(1.5)), xp.array(np.array([0.5, 1.0, 0.25]))
    for loss, targets, options in (
        (al.sigmoid_focal_loss, t, {"gamma": np.float64(1.5), "alpha": np.float64(0.25)}),
        (al.sigmoid_focal_loss, soft, {"gamma": one, "alpha": per_class}),
        (al.sigmoid_cross_entropy, t, {"pos_weight": per_class, "class_weights": per_class}),
        (al.sigmoid_cross_entropy, t, {"weights": wide, "label_smoothing": np.float64(0.1)}),
        (al.softmax_cross_entropy, labels, {"class_weights": per_class, "label_smoothing": np.float64(0.1)}),
        (al.softmax_cross_entropy, soft, {"normalizer": one}),
        (al.dice_loss, soft, {"activation": "softmax", "axis": 1, "class_weights": per_class, "smooth": one}),
    ):
        value, gradient = loss.value_and_grad(x, targets, **options)
        assert (name(value), name(gradient)) == ("float32", dtype)
        if "normalizer" not in options:
            each = loss(x, targets, reduction="none", **options)
            assert name(each) == dtype
    g, h = al.sigmoid_cross_entropy.grad_and_hess(x, t, weights=wide)
    assert (name(g), name(h)) == (dtype, dtype)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "uint64", *HALVES, "float32"])
def test_targets_of_any_dtype(dtype: str, xp: Backend) -> None:
    """0 and 1 are the same targets in every dtype."""
    if not xp.has(dtype):
        pytest.skip(f"{xp} has no {dtype}")
    x, t = np.array([[0.5, -1.0, 2.0], [0.1, 0.2, 0.3]]), np.array([[1, 0, 0], [0, 0, 1]])
    for loss in (al.sigmoid_cross_entropy, al.softmax_cross_entropy, al.squared_error, al.dice_loss.bind(activation="sigmoid")):
        assert_close(xp.numpy(loss(xp.array(x), xp.array(t, dtype))), loss(x, t.astype(float)))


@pytest.mark.parametrize("dtype", LABELS)
def test_labels_of_any_integer_dtype(dtype: str, xp: Backend) -> None:
    """Ignored and masked ones too."""
    x, t = np.random.default_rng(8).normal(size=(4, 3)), np.array([1, 0, 2, 2])
    where = xp.array(np.array([True, True, False, True]))
    value, gradient = al.softmax_cross_entropy.value_and_grad(xp.array(x), xp.array(t, dtype), where=where, ignore_index=0)
    expected = al.softmax_cross_entropy.value_and_grad(x[[0, 3]], t[[0, 3]])
    assert_close(xp.numpy(value), expected[0])
    assert_close(xp.numpy(gradient)[[0, 3]], expected[1])


@pytest.mark.everywhere
def test_boolean_labels_of_two_classes(xp: Backend) -> None:
    x, t = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([True, False])
    each = al.softmax_cross_entropy(x, t.astype(int), reduction="none")
    assert_close(xp.numpy(al.softmax_cross_entropy(xp.array(x), xp.array(t))), each.mean())
    assert_close(xp.numpy(al.softmax_cross_entropy(xp.array(x), xp.array(t), where=xp.array(np.array([True, False])))), each[0])


FINITE = [
    pytest.param(xp, dtype, gamma, marks=pytest.mark.exhaustive if is_slow(xp) and (dtype, gamma) != ("bfloat16", 0.5) else ())
    for xp, dtype in FLOATS
    for gamma in (0, 0.25, 0.5, 1, 2, 5)
]


@pytest.mark.parametrize(("xp", "dtype", "gamma"), FINITE, ids=str)
@pytest.mark.everywhere
def test_gradients_are_finite(xp: Backend, dtype: str, gamma: float) -> None:
    """For every finite logit, in every dtype."""
    sizes = np.array([0.0, 1e-30, 1e-4, 0.5, 1.0, 10.0, 20.0, 40.0, 90.0, 100.0, 710.0, 800.0, 5000.0, 1e4])
    x = np.concatenate([sizes, -sizes])
    logits, rows = xp.array(np.stack([x, x]), dtype), xp.array(np.stack([x, np.zeros_like(x), np.flip(x)], axis=1), dtype)
    for t in (np.stack([np.ones_like(x), np.zeros_like(x)]).astype(int), np.full((2, x.size), 0.3)):
        results = al.sigmoid_focal_loss.value_and_grad(logits, xp.array(t), gamma=gamma, alpha=0.25, reduction="sum")
        assert all(np.isfinite(xp.numpy(a)).all() for a in results)
    for t in (np.arange(x.size) % 3, np.full((x.size, 3), 1 / 3)):
        results = al.softmax_focal_loss.value_and_grad(rows, xp.array(t), gamma=gamma, reduction="sum")
        assert all(np.isfinite(xp.numpy(a)).all() for a in results)
