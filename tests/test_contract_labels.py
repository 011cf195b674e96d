"""Integer and boolean targets: their range, and `one_hot`.

What holds, and the test that would fail without it:

- out of range: an error where reading is free, else NaN for that element  test_labels_out_of_range, test_binary_targets_out_of_range
- never a silent 0, never a silent wrap-around             (the same tests: -1, C, and values that wrap to a class in 8 bits)
- -100 without ignore_index says so                        test_the_message_of_a_label_that_others_ignore
- 0/255 masks raise, integer distributions too             test_the_message_of_a_mask_of_0_and_255
- whatever asks reads the labels: gradients, parts, curvature  test_every_question_checks_the_labels
- one_hot: float32, any axis, out of range never zeros     test_one_hot, test_one_hot_of_labels_out_of_range
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from numpy.testing import assert_array_equal

from arrayloss import (
    binary_cross_entropy,
    nll_loss,
    one_hot,
    sigmoid_cross_entropy,
    sigmoid_focal_loss,
    softmax_cross_entropy,
    softmax_focal_loss,
)
from arrayloss.core.loss import Loss

ROWS: list[tuple[Loss[Any], dict[str, Any]]] = [
    (softmax_cross_entropy, {}),
    (softmax_cross_entropy, {"label_smoothing": 0.1}),
    (softmax_cross_entropy, {"class_weights": (1.0, 2.0, 3.0)}),
    (nll_loss, {}),
    (nll_loss, {"given": "probs", "label_smoothing": 0.1}),
    (softmax_focal_loss, {}),
    (softmax_focal_loss, {"given": "probs"}),
]
YES_NO: list[tuple[Loss[Any], dict[str, Any]]] = [
    (sigmoid_cross_entropy, {}),
    (binary_cross_entropy, {}),
    (sigmoid_focal_loss, {}),
    (sigmoid_focal_loss, {"given": "probs"}),
]


def check(xp: Backend, loss: Loss[Any], x: np.ndarray, t: np.ndarray, bad: int, message: str, options: dict[str, Any]) -> None:
    """One bad target: an error that says so, or NaN in the value and the gradient of that element alone."""
    arrays = [xp.array(x), xp.array(t)]
    if xp.reads_labels:
        with pytest.raises(ValueError, match=re.escape(message)):
            loss.value_and_grad(*arrays, **options)
        return
    value, gradient = loss.value_and_grad(*arrays, reduction="none", **options)
    good = [i for i in range(len(t)) if i != bad]
    for a in (xp.numpy(value), xp.numpy(gradient)):
        assert np.isnan(a[bad]).all()
        assert np.isfinite(a[good]).all()
    assert np.isnan(xp.numpy(loss(*arrays, **options)))


@pytest.mark.parametrize(("loss", "options"), ROWS)
@pytest.mark.parametrize(
    ("wrong", "dtype"), [(-1, "int64"), (3, "int64"), (-1, "int8"), (255, "uint8"), (2**31, "int64"), (2**32 + 1, "int64")]
)
def test_labels_out_of_range(loss: Loss[Any], options: dict[str, Any], wrong: int, dtype: str, xp: Backend) -> None:
    x = np.random.default_rng(0).uniform(0.1, 0.9, size=(3, 3))
    t = np.array([0, wrong, 2]).astype(dtype)
    check(xp, loss, x, t, 1, f"integer targets must be labels from 0 to 2; got {t[1]}", options)


@pytest.mark.parametrize(("loss", "options"), YES_NO)
@pytest.mark.parametrize(("wrong", "dtype"), [(-1, "int64"), (2, "int32"), (255, "uint8"), (256, "int16")])
def test_binary_targets_out_of_range(loss: Loss[Any], options: dict[str, Any], wrong: int, dtype: str, xp: Backend) -> None:
    x = np.random.default_rng(0).uniform(0.1, 0.9, size=3)
    check(xp, loss, x, np.array([0, wrong, 1]).astype(dtype), 1, f"integer targets must be 0 or 1; got {wrong}", options)


@pytest.mark.parametrize(("loss", "options"), ROWS)
def test_integer_distributions_out_of_range(loss: Loss[Any], options: dict[str, Any], xp: Backend) -> None:
    """A one-hot mask of 0 and 255 would silently weigh 255 times as much."""
    x = np.random.default_rng(0).uniform(0.1, 0.9, size=(3, 3))
    t = np.eye(3, dtype=np.uint8)
    t[1] *= 255
    check(xp, loss, x, t, 1, "integer targets must be 0 or 1; got 255 (a mask of 0 and 255 is `targets == 255`)", options)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_message_of_a_label_that_others_ignore(library: str) -> None:
    xp = Backend(library, library)
    hint = r"got -100 \(pass ignore_index=-100 to leave those elements out\)"
    with pytest.raises(ValueError, match="labels from 0 to 1; " + hint):
        softmax_cross_entropy(xp.array(np.zeros((2, 2))), xp.array(np.array([0, -100])))
    with pytest.raises(ValueError, match="0 or 1; " + hint):
        sigmoid_cross_entropy(xp.array(np.zeros(2)), xp.array(np.array([0, -100])))


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_message_of_a_mask_of_0_and_255(library: str) -> None:
    xp = Backend(library, library)
    with pytest.raises(ValueError, match=r"0 or 1; got 255 \(a mask of 0 and 255 is `targets == 255`\)"):
        sigmoid_cross_entropy(xp.array(np.zeros(2)), xp.array(np.array([0, 255], dtype=np.uint8)))


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("size", [3, 2**19])
def test_every_question_checks_the_labels(library: str, size: int) -> None:
    """The number, its gradient, curvature and parts; in one block and in several."""
    xp = Backend(library, library)
    x, t = xp.array(np.zeros((size, 3))), np.zeros(size, dtype=np.int64)
    t[-1] = 3
    for question in (
        softmax_cross_entropy,
        softmax_cross_entropy.value_and_grad,
        softmax_cross_entropy.grad_and_hess,
        softmax_cross_entropy.parts,
    ):
        with pytest.raises(ValueError, match="labels from 0 to 2; got 3"):
            question(x, xp.array(t))


@pytest.mark.parametrize("wrong", [2**32 + 1, -(2**32) + 1, 2**31, -1])
def test_jax_in_32_bits_wraps_no_label(wrong: int) -> None:
    """Without float64 JAX has no int64 either, and makes 2**32 + 1 of a NumPy data loader a 1."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(False):
        each = softmax_cross_entropy(jax.numpy.zeros((2, 3)), np.array([0, wrong]), reduction="none")
    assert_array_equal(np.isnan(np.asarray(each)), [False, True])


def test_torch_checks_labels_whatever_requires_a_gradient() -> None:
    torch = pytest.importorskip("torch")
    t = torch.tensor([0, 3])
    for x_requires, w_requires in ((False, False), (True, False), (False, True), (True, True)):
        x = torch.zeros(2, 3, requires_grad=x_requires)
        w = torch.ones(2, requires_grad=w_requires)
        for question in (softmax_cross_entropy, softmax_cross_entropy.value_and_grad, softmax_cross_entropy.grad_and_hess):
            with pytest.raises(ValueError, match="labels from 0 to 2; got 3"):
                question(x, t, weights=w)


def test_labels_that_are_left_out_are_not_checked(xp: Backend) -> None:
    x, t, where = np.zeros((3, 3)), np.array([0, -1, 77]), np.array([True, False, False])
    value = softmax_cross_entropy(xp.array(x), xp.array(t), where=xp.array(where))
    np.testing.assert_allclose(xp.numpy(value), np.log(3))


# -- one_hot --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_one_hot(axis: int, xp: Backend) -> None:
    t = np.array([[0, 2, 1], [2, 2, 0]])
    hot = one_hot(xp.array(t), 3, axis=axis)
    assert str(hot.dtype).endswith("float32")
    assert_array_equal(xp.numpy(hot), np.moveaxis(np.eye(3)[t], -1, axis))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_one_hot_of_any_integer_dtype(dtype: str, xp: Backend) -> None:
    assert_array_equal(xp.numpy(one_hot(xp.array(np.array([1, 0]), dtype), np.int64(2))), [[0, 1], [1, 0]])


def test_one_hot_of_one_label(xp: Backend) -> None:
    assert_array_equal(xp.numpy(one_hot(xp.array(np.array(1)), 3)), [0, 1, 0])
    assert xp.numpy(one_hot(xp.array(np.zeros((0, 2), dtype=int)), 3)).shape == (0, 2, 3)


@pytest.mark.parametrize("wrong", [-1, 3, 300])
def test_one_hot_of_labels_out_of_range(wrong: int, xp: Backend) -> None:
    """A row of zeros, which others make of it, trains on nothing and says nothing."""
    t = xp.array(np.array([0, wrong]))
    if xp.reads_labels:
        with pytest.raises(ValueError, match=f"labels from 0 to 2; got {wrong}"):
            one_hot(t, 3)
    else:
        rows = xp.numpy(one_hot(t, 3))
        assert_array_equal(rows, [[1, 0, 0], [np.nan] * 3])


def test_one_hot_dtype(xp: Backend) -> None:
    import array_api_compat

    t = xp.array(np.array([1, 0]))
    namespace = array_api_compat.array_namespace(t)
    assert str(one_hot(t, 2, dtype=namespace.float64).dtype).endswith("float64")
    if xp.reads_labels:
        assert str(one_hot(t, 2, dtype=namespace.int32).dtype).endswith("int32")
    else:
        with pytest.raises(
            TypeError, match="dtype must be floating point where labels are not read, so that a wrong one can be NaN; got int32"
        ):
            one_hot(t, 2, dtype=namespace.int32)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.array([0.0, 1.0]), 2), {}, TypeError, "labels must be integers; got float64"),
        (
            ([0, 1], 2),
            {},
            TypeError,
            "labels must be an array (NumPy, PyTorch, JAX, CuPy, Dask or another of the array API); got builtins.list",
        ),
        ((np.array([0, 1]), 0), {}, ValueError, "num_classes must be an integer of at least 1; got 0"),
        ((np.array([0, 1]), 2.0), {}, ValueError, "num_classes must be an integer of at least 1; got 2.0"),
        ((np.array([0, 1]), True), {}, ValueError, "num_classes must be an integer of at least 1; got True"),
        ((np.array([0, 1]), 2), {"axis": 2}, ValueError, "axis must be from -2 to 1 for an array of 2 dimensions; got 2"),
        ((np.array([0, 1]), 2), {"axis": "last"}, TypeError, "axis must be an integer; got 'last'"),
    ],
)
def test_errors_of_one_hot(arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        one_hot(*arguments, **options)
