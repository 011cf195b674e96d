"""Integer and boolean targets: their range, and `one_hot`."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import arrayloss as al
from arrayloss.check.libraries import LIBRARIES

from .helpers import BACKENDS, Backend

ROWS: list[tuple[Any, dict[str, Any]]] = [
    (al.softmax_cross_entropy, {"label_smoothing": 0.1, "class_weights": (1.0, 2.0, 3.0)}),
    (al.softmax_focal_loss, {"given": "probs"}),
]
YES_NO: list[tuple[Any, dict[str, Any]]] = [(al.sigmoid_cross_entropy, {}), (al.sigmoid_focal_loss, {"given": "probs"})]
HOST = [BACKENDS["numpy"], BACKENDS["torch"]]


def check(xp: Backend, loss: Any, x: np.ndarray, t: np.ndarray, bad: int, message: str, options: dict[str, Any]) -> None:
    """One bad target: an error that says so, or NaN in the value and the gradient of that element alone. Never 0, never a class."""
    arrays = [xp.array(x), xp.array(t)]
    if xp.reads_labels:
        for question in (loss, loss.value_and_grad, loss.parts):
            with pytest.raises(ValueError, match=re.escape(message)):
                question(*arrays, **options)
        return
    for a in map(xp.numpy, loss.value_and_grad(*arrays, reduction="none", **options)):
        assert np.isnan(a[bad]).all()
        assert np.isfinite(np.delete(a, bad, axis=0)).all()
    assert np.isnan(xp.numpy(loss(*arrays, **options)))


@pytest.mark.parametrize(("loss", "options"), ROWS)
@pytest.mark.parametrize(("wrong", "dtype"), [(-1, "int8"), (3, "int64"), (255, "uint8"), (2**32 + 1, "int64")])
@pytest.mark.everywhere
def test_labels_out_of_range(loss: Any, options: dict[str, Any], wrong: int, dtype: str, xp: Backend) -> None:
    x = np.random.default_rng(0).uniform(0.1, 0.9, size=(3, 3))
    check(xp, loss, x, np.array([0, wrong, 2]).astype(dtype), 1, f"integer targets must be labels from 0 to 2; got {wrong}", options)


@pytest.mark.parametrize(("loss", "options"), YES_NO)
@pytest.mark.parametrize(("wrong", "dtype"), [(-1, "int64"), (2, "int32"), (255, "uint8"), (256, "int16")])
def test_binary_targets_out_of_range(loss: Any, options: dict[str, Any], wrong: int, dtype: str, xp: Backend) -> None:
    x = np.random.default_rng(0).uniform(0.1, 0.9, size=3)
    check(xp, loss, x, np.array([0, wrong, 1]).astype(dtype), 1, f"integer targets must be 0 or 1; got {wrong}", options)


@pytest.mark.parametrize(
    ("targets", "dtype", "wrong", "hint"),
    [
        ([1, 0, 1], "int64", 0, " (targets of 0 and 1 are `targets == 1`)"),
        ([1, 255, 1], "uint8", 255, ""),
        ([1, 127, -1], "int8", 127, ""),
        ([1, 2**32 + 1, -1], "int64", 2**32 + 1, ""),
        ([-1, -2, 1], "int32", -2, ""),
        ([-1, -100, 1], "int64", -100, " (pass ignore_index=-100 to leave those elements out)"),
    ],
)
@pytest.mark.everywhere
def test_signs_out_of_range(targets: list[int], dtype: str, wrong: int, hint: str, xp: Backend) -> None:
    """255 is the -1 of an unsigned byte, and 127 * 127 is 1 in 8 bits."""
    x = np.random.default_rng(0).uniform(0.1, 0.9, size=3)
    message = f"integer targets must be -1 or 1; got {wrong}{hint}"
    check(xp, al.squared_hinge_loss, x, np.array(targets).astype(dtype), 1, message, {})


@pytest.mark.everywhere
def test_signs_of_every_kind(xp: Backend) -> None:
    """Booleans and integers, masked or ignored ones among them whatever they are; numbers are used as they are."""
    x, signs = np.array([0.5, -2.0, 0.25, 3.0]), np.array([1, -1, -1, 1])

    def losses(t: Any, **options: Any) -> Any:
        return xp.numpy(al.hinge_loss(xp.array(x), xp.array(t), reduction="none", **options))

    expected = [0.5, 0.0, 1.25, 0.0]
    for t in (signs, signs.astype(np.int8), signs == 1, signs.astype(float)):
        assert_array_equal(losses(t), expected)
    assert_array_equal(losses(signs * 0.5), [0.75, 0.0, 1.125, 0.0])
    strange = np.array([1, 0, -1, 7])
    for options in ({"where": xp.array(np.array([True, False, True, False]))}, {"ignore_index": (0, 7)}):
        assert_array_equal(losses(strange, **options), expected)
        value, gradient = al.hinge_loss.value_and_grad(xp.array(x), xp.array(strange), **options)
        assert_array_equal([xp.numpy(value), *xp.numpy(gradient)], [0.875, -0.5, 0.0, 0.5, 0.0])
    assert_array_equal(losses(signs == 1, ignore_index=0), [0.5, 0.0, 0.0, 0.0])


@pytest.mark.everywhere
def test_integer_distributions_out_of_range(xp: Backend) -> None:
    """A one-hot mask of 0 and 255 would silently weigh 255 times as much."""
    x, t = np.random.default_rng(0).uniform(0.1, 0.9, size=(3, 3)), np.eye(3, dtype=np.uint8)
    t[1] *= 255
    check(xp, al.softmax_cross_entropy, x, t, 1, "integer targets must be 0 or 1; got 255", {})


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.everywhere
def test_labels_of_overlaps_out_of_range(activation: str, xp: Backend) -> None:
    x, t = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, -1, 2, 1])
    loss = al.dice_loss.bind(activation=activation, axis=1)
    if xp.reads_labels:
        with pytest.raises(ValueError, match="integer targets must be labels from 0 to 2; got -1"):
            loss(xp.array(x), xp.array(t))
    else:
        assert np.isnan(xp.numpy(loss(xp.array(x), xp.array(t))))


@pytest.mark.parametrize("xp", HOST, ids=str)
@pytest.mark.parametrize("size", [3, 2**19])
def test_every_question_checks_the_labels(xp: Backend, size: int) -> None:
    """The number, its gradient, derivatives and parts; in one block and in several."""
    x, t, loss = xp.array(np.zeros((size, 3))), np.zeros(size, dtype=np.int64), al.softmax_cross_entropy
    t[-1] = 3
    for question in (loss, loss.value_and_grad, loss.grad_and_hess, loss.parts):
        with pytest.raises(ValueError, match="labels from 0 to 2; got 3"):
            question(x, xp.array(t))


@pytest.mark.parametrize("library", ["jax", "strict"])
def test_a_bad_label_makes_both_derivatives_nan(library: str) -> None:
    """Only the gradient was."""
    xp, x = BACKENDS[library], np.random.default_rng(0).normal(size=(6, 3))
    for derivative in al.cross_entropy.grad_and_hess(xp.array(x), xp.array(np.array([0, 1, 7, 2, 0, 1]))):
        assert_array_equal(np.isnan(xp.numpy(derivative)).any(axis=1), np.arange(6) == 2)


def test_torch_checks_labels_whatever_requires_a_gradient() -> None:
    torch = pytest.importorskip("torch")
    t, loss = torch.tensor([0, 3]), al.softmax_cross_entropy
    for x_requires, w_requires in ((False, False), (True, False), (False, True), (True, True)):
        x, w = torch.zeros(2, 3, requires_grad=x_requires), torch.ones(2, requires_grad=w_requires)
        for question in (loss, loss.value_and_grad, loss.grad_and_hess):
            with pytest.raises(ValueError, match="labels from 0 to 2; got 3"):
                question(x, t, weights=w)


@pytest.mark.parametrize("wrong", [2**32 + 1, -(2**32) + 1, 2**31, -1])
def test_jax_in_32_bits_wraps_no_label(wrong: int) -> None:
    """Without float64 JAX has no int64 either, and makes 2**32 + 1 of a NumPy data loader a 1."""
    jax = pytest.importorskip("jax")
    with LIBRARIES["jax"].precision("float32"):
        each = al.softmax_cross_entropy(jax.numpy.zeros((2, 3)), np.array([0, wrong]), reduction="none")
    assert_array_equal(np.isnan(np.asarray(each)), [False, True])


# -- one_hot --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(axis: int, xp: Backend) -> None:
    t = np.array([[0, 2, 1], [2, 2, 0]])
    hot = al.one_hot(xp.array(t), 3, axis=axis)
    assert str(hot.dtype).endswith("float32")
    assert_array_equal(xp.numpy(hot), np.moveaxis(np.eye(3)[t], -1, axis))
    assert_array_equal(xp.numpy(al.one_hot(xp.array(np.array(1)), 3)), [0, 1, 0])
    assert xp.numpy(al.one_hot(xp.array(np.zeros((0, 2), dtype=int)), 3)).shape == (0, 2, 3)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "uint16", "int32", "int64", "uint64"])
def test_one_hot_of_any_integer_dtype(dtype: str, xp: Backend) -> None:
    assert_array_equal(xp.numpy(al.one_hot(xp.array(np.array([1, 0]), dtype), np.int64(2))), [[0, 1], [1, 0]])


@pytest.mark.parametrize("wrong", [-1, 3, 300])
@pytest.mark.everywhere
def test_one_hot_of_labels_out_of_range(wrong: int, xp: Backend) -> None:
    """A row of zeros, which others make of it, trains on nothing and says nothing."""
    t = xp.array(np.array([0, wrong]))
    if xp.reads_labels:
        with pytest.raises(ValueError, match=f"labels from 0 to 2; got {wrong}"):
            al.one_hot(t, 3)
    else:
        assert_array_equal(xp.numpy(al.one_hot(t, 3)), [[1, 0, 0], [np.nan] * 3])


def test_one_hot_dtype(xp: Backend) -> None:
    import array_api_compat

    t = xp.array(np.array([1, 0]))
    namespace = array_api_compat.array_namespace(t)
    assert str(al.one_hot(t, 2, dtype=namespace.float64).dtype).endswith("float64")
    if xp.reads_labels:
        assert str(al.one_hot(t, 2, dtype=namespace.int32).dtype).endswith("int32")
    else:
        with pytest.raises(TypeError, match=r"dtype must be floating point where labels are not read.*; got int32"):
            al.one_hot(t, 2, dtype=namespace.int32)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.array([0.0, 1.0]), 2), {}, TypeError, "labels must be integers; got float64"),
        (([0, 1], 2), {}, TypeError, "labels must be an array"),
        ((np.array([0, 1]), 0), {}, ValueError, "num_classes must be an integer of at least 1; got 0"),
        ((np.array([0, 1]), 2.0), {}, ValueError, "num_classes must be an integer of at least 1; got 2.0"),
        ((np.array([0, 1]), True), {}, ValueError, "num_classes must be an integer of at least 1; got True"),
        ((np.array([0, 1]), 2), {"axis": 2}, ValueError, "axis must be from -2 to 1 for an array of 2 dimensions; got 2"),
        ((np.array([0, 1]), 2), {"axis": "last"}, TypeError, "axis must be an integer; got 'last'"),
    ],
)
def test_errors_of_one_hot(arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        al.one_hot(*arguments, **options)
