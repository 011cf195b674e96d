"""Errors name the argument, the rule and what came, in one line; each row here is one."""

from __future__ import annotations

import re
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from conftest import BACKENDS, missing
from drawn import FIRST, Case

from arrayloss import (
    binary_cross_entropy,
    gaussian_nll_loss,
    huber_loss,
    nll_loss,
    sigmoid_cross_entropy,
    sigmoid_focal_loss,
    softmax_cross_entropy,
    softmax_focal_loss,
    squared_error,
)

X, T = np.zeros((4, 3)), np.zeros((4, 3), dtype=int)
LABELS = np.zeros(4, dtype=int)
IMAGE, MASKS = np.zeros((2, 3, 4, 5)), np.zeros((2, 4, 5), dtype=int)
NONE = {"reduction": "none"}

V, E = ValueError, TypeError
ROWS: list[tuple[Any, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    # shapes of targets
    (
        sigmoid_cross_entropy,
        (np.zeros((4, 1)), LABELS),
        {},
        V,
        "targets must have the shape of logits, (4, 1); got (4,): pass logits[:, 0]",
    ),
    (sigmoid_cross_entropy, (np.zeros((2, 4, 1)), np.zeros((2, 4))), {}, V, "(2, 4, 1); got (2, 4): pass logits[..., 0]"),
    (sigmoid_cross_entropy, (np.zeros(4), np.zeros((4, 1))), {}, V, "(4,); got (4, 1): pass targets[:, 0]"),
    (sigmoid_cross_entropy, (X, np.zeros((3, 4))), {}, V, "targets must have the shape of logits, (4, 3); got (3, 4)"),
    (binary_cross_entropy, (X, np.zeros((1, 3))), {}, V, "targets must have the shape of probs, (4, 3); got (1, 3)"),
    (squared_error, (X, np.zeros(())), {}, V, "targets must have the shape of predictions, (4, 3); got ()"),
    (gaussian_nll_loss, (X, np.ones((4, 1)), X), {}, V, "variance must have the shape of mean, (4, 3); got (4, 1)"),
    (gaussian_nll_loss, (X, np.ones((4, 3), dtype=np.float32), X), {}, E, "variance must have the dtype of mean, float64; got float32"),
    # classes
    (softmax_cross_entropy, (np.zeros(()), np.zeros((), dtype=int)), {}, V, "logits must have a class axis; got a 0-d array"),
    (softmax_cross_entropy, (np.zeros((4, 0)), LABELS), {}, V, "logits must have at least one class along axis 1; got shape (4, 0)"),
    (
        softmax_cross_entropy,
        (X, np.zeros(5, dtype=int)),
        {},
        V,
        "targets must be labels of shape (4,) or a distribution of shape (4, 3); got (5,)",
    ),
    (
        softmax_cross_entropy,
        (IMAGE, MASKS),
        {},
        V,
        "labels of shape (2, 3, 4) or a distribution of shape (2, 3, 4, 5); got (2, 4, 5): pass axis=1",
    ),
    (
        softmax_cross_entropy,
        (IMAGE, MASKS),
        {"axis": 2},
        V,
        "labels of shape (2, 3, 5) or a distribution of shape (2, 3, 4, 5); got (2, 4, 5): pass axis=1",
    ),
    (
        softmax_focal_loss,
        (IMAGE, IMAGE),
        {},
        V,
        "axis must be named for targets of the same shape as predictions, (2, 3, 4, 5): pass axis=1 or axis=-1",
    ),
    (
        softmax_cross_entropy,
        (np.zeros((2, 3, 3)), np.zeros((2, 3), dtype=int)),
        {},
        V,
        "axis must be named: labels (2, 3) fit logits (2, 3, 3) with axis=1 and with axis=-1",
    ),
    (softmax_cross_entropy, (X, np.zeros(4)), {}, E, "labels must be integers; got float64: cast them, such as by targets.astype('int64')"),
    (nll_loss, (X, LABELS), {"axis": 2}, V, "axis must be from -2 to 1 for an array of 2 dimensions; got 2"),
    (nll_loss, (X, LABELS), {"axis": 1.0}, E, "axis must be an integer; got 1.0"),
    (nll_loss, (X, LABELS), {"axis": True}, E, "axis must be an integer; got True"),
    (sigmoid_cross_entropy, (X, T), {"axis": 2}, V, "axis must be from -2 to 1 for an array of 2 dimensions; got 2"),
    (sigmoid_focal_loss, (X, T), {"axis": "last"}, E, "axis must be an integer; got 'last'"),
    # dtypes and libraries
    (sigmoid_cross_entropy, (X.astype(int), T), {}, E, "logits must be floating point; got int64"),
    (squared_error, (X > 0, X), {}, E, "predictions must be floating point; got bool"),
    (squared_error, (X.astype(complex), X), {}, E, "predictions must be floating point; got complex128"),
    (squared_error, (X, X.astype(complex)), {}, E, "targets must be real numbers; got complex128"),
    (sigmoid_cross_entropy, (X, X.astype(complex)), {}, E, "targets must be real numbers; got complex128"),
    (softmax_cross_entropy, (X, X.astype(complex)), {}, E, "targets must be real numbers; got complex128"),
    (squared_error, (X, X), {"weights": X.astype(complex)}, E, "weights must be real numbers; got complex128"),
    (
        squared_error,
        ([1.0], [1.0]),
        {},
        E,
        "an array (NumPy, PyTorch, JAX, CuPy, Dask or another of the array API); got builtins.list: pass numpy.asarray(...)",
    ),
    (squared_error, (1.0, 2.0), {}, E, "got builtins.float: pass a 0-d array"),
    (squared_error, (X, [[0.0]]), {}, E, "targets must be an array"),
    (squared_error, (np.ma.masked_array(X), X), {}, E, "got numpy.ma.MaskedArray: pass its .data, with where=~mask"),
    (squared_error, (X, np.ma.masked_array(X)), {}, E, "targets must be an array"),
    # weights and masks
    (
        softmax_cross_entropy,
        (X, LABELS),
        {"weights": np.ones(3)},
        V,
        "the shape of the unreduced loss, (4,), each size equal or 1; got (3,) (for one weight per class pass class_weights)",
    ),
    (
        sigmoid_cross_entropy,
        (X, T),
        {"weights": np.ones(3)},
        V,
        "(4, 3), each size equal or 1; got (3,) (for one weight per class pass class_weights)",
    ),
    (
        squared_error,
        (X, X),
        {"weights": np.ones((1, 4, 3))},
        V,
        "weights must have the shape of the unreduced loss, (4, 3), each size equal or 1; got (1, 4, 3)",
    ),
    (squared_error, (np.zeros((1, 3)), np.zeros((1, 3))), {"weights": np.ones((4, 3))}, V, "(1, 3), each size equal or 1; got (4, 3)"),
    (squared_error, (X, X), {"weights": [1.0]}, E, "weights must be a number or an array; got list"),
    (squared_error, (X, X), {"weights": float("nan")}, V, "weights must be finite; got nan"),
    (squared_error, (X, X), {"weights": True}, E, "weights must be a number or an array; got bool"),
    (
        squared_error,
        (X, X),
        {"where": np.ones((4, 3))},
        E,
        "where must be boolean, True where an element counts; got float64: pass mask != 0",
    ),
    (
        squared_error,
        (X, X),
        {"where": np.ones((4, 3), dtype=np.uint8)},
        E,
        "where must be boolean, True where an element counts; got uint8",
    ),
    (squared_error, (X, X), {"where": 1}, E, "where must be boolean, True where an element counts; got int: pass mask != 0"),
    (
        squared_error,
        (X, X),
        {"where": np.ones(4, dtype=bool)},
        V,
        "where must have the shape of the unreduced loss, (4, 3), each size equal or 1; got (4,)",
    ),
    (
        softmax_cross_entropy,
        (X, LABELS),
        {"where": np.ones((4, 3), dtype=bool)},
        V,
        "where must have the shape of the unreduced loss, (4,), each size equal or 1; got (4, 3)",
    ),
    (softmax_cross_entropy, (X, LABELS), {"ignore_index": 1.0}, E, "an integer or a tuple of integers; got 1.0"),
    (
        softmax_cross_entropy,
        (X, LABELS),
        {"ignore_index": (0, True)},
        E,
        "must be an integer or a tuple of integers; got (0, True)",
    ),
    (softmax_cross_entropy, (X, X), {"ignore_index": 0}, V, "ignore_index is for labels; got 0 with float64 targets: pass where="),
    (sigmoid_cross_entropy, (X, X), {"ignore_index": -1}, V, "ignore_index is for labels; got -1 with float64 targets: pass where="),
    # reductions
    (squared_error, (X, X), {"reduction": "avg"}, V, "reduction must be 'mean', 'sum' or 'none'; got 'avg'"),
    (squared_error, (X, X), {"reduction": None}, V, "reduction must be 'mean', 'sum' or 'none'; got None"),
    (squared_error, (X, X), {"reduction": "none", "reduce_axes": 0}, V, "reduce_axes must be None with reduction='none'; got 0"),
    (squared_error, (X, X), {"reduce_axes": (0, -2)}, V, "reduce_axes must name an axis once; got (0, -2)"),
    (squared_error, (X, X), {"reduce_axes": 2}, V, "reduce_axes must be from -2 to 1 for an array of 2 dimensions; got 2"),
    (squared_error, (X, X), {"reduce_axes": 1.0}, E, "reduce_axes must be an integer; got 1.0"),
    (squared_error, (X, X), {"reduce_axes": "01"}, E, "reduce_axes must be an integer; got '0'"),
    (softmax_cross_entropy, (X, LABELS), {"reduce_axes": -1}, V, "reduce_axes must not contain the class axis 1; got -1"),
    (squared_error, (X, X), {"normalizer": "n"}, V, "normalizer must be 'weights', 'count', a number or a 0-d array; got 'n'"),
    (squared_error, (X, X), {"normalizer": 0}, V, "normalizer must not be 0; got 0"),
    (squared_error, (X, X), {"normalizer": float("inf")}, V, "normalizer must be finite; got inf"),
    (squared_error, (X, X), {"normalizer": np.ones(2)}, V, "normalizer must be a number or a 0-d array; got shape (2,)"),
    (squared_error, (X, X), {"normalizer": True}, E, "normalizer must be 'weights', 'count', a number or a 0-d array; got bool"),
    (squared_error, (X, X), {"normalizer": "count", **NONE}, V, "normalizer must be left alone with reduction='none'; got 'count'"),
    (squared_error, (X, X), {"normalizer": 3, **NONE}, V, "normalizer must be left alone with reduction='none'; got 3"),
    # parameters
    (sigmoid_focal_loss, (X, T), {"gamma": -1}, V, "gamma must be at least 0; got -1"),
    (sigmoid_focal_loss, (X, T), {"gamma": float("nan")}, V, "gamma must be finite; got nan"),
    (sigmoid_focal_loss, (X, T), {"gamma": "2"}, E, "gamma must be a number or a 0-d array; got str"),
    (sigmoid_focal_loss, (X, T), {"gamma": None}, E, "gamma must be a number or a 0-d array; got NoneType"),
    (sigmoid_focal_loss, (X, T), {"gamma": np.ones(3)}, V, "gamma must be a number or a 0-d array; got shape (3,)"),
    (sigmoid_focal_loss, (X, T), {"alpha": 1.5}, V, "alpha must be from 0 to 1; got 1.5"),
    (
        sigmoid_focal_loss,
        (X, T),
        {"alpha": (0.5, 0.5)},
        V,
        "alpha must have one entry for each of the 3 classes along axis 1; got shape (2,)",
    ),
    (sigmoid_focal_loss, (X, T), {"alpha": (0.5, 0.5, -0.5)}, V, "alpha must be from 0 to 1; got -0.5"),
    (
        sigmoid_focal_loss,
        (X, T),
        {"alpha": "balanced"},
        E,
        "alpha must be a number, or one per class as a tuple, a list or a 1-D array; got str",
    ),
    (sigmoid_focal_loss, (X, T), {"given": "log_probs"}, V, "given must be 'logits' or 'probs'; got 'log_probs'"),
    (softmax_focal_loss, (X, LABELS), {"alpha": 0.25}, E, "alpha must have one entry per class; got the single number 0.25"),
    (softmax_focal_loss, (X, LABELS), {"alpha": np.array(0.25)}, E, "alpha must have one entry per class; got the single number"),
    (softmax_focal_loss, (X, LABELS), {"alpha": (1.0, 1.0, -1.0)}, V, "alpha must be at least 0; got -1.0"),
    (softmax_focal_loss, (X, LABELS), {"given": "log_probs"}, V, "given must be 'logits' or 'probs'; got 'log_probs'"),
    (
        softmax_cross_entropy,
        (X, LABELS),
        {"class_weights": 2.0},
        E,
        "class_weights must have one entry per class; got the single number 2.0",
    ),
    (
        softmax_cross_entropy,
        (X, LABELS),
        {"class_weights": np.ones((3, 1))},
        V,
        "class_weights must have one entry for each of the 3 classes along axis 1; got shape (3, 1)",
    ),
    (softmax_cross_entropy, (X, LABELS), {"class_weights": (1, "a", 2)}, E, "class_weights must be a number; got str"),
    (softmax_cross_entropy, (X, LABELS), {"label_smoothing": 1.5}, V, "label_smoothing must be from 0 to 1; got 1.5"),
    (softmax_cross_entropy, (X, LABELS), {"label_smoothing": np.array([0.1])}, E, "label_smoothing must be a number; got ndarray"),
    (sigmoid_cross_entropy, (X, T), {"pos_weight": -1.0}, V, "pos_weight must be at least 0; got -1.0"),
    (huber_loss, (X, X), {"delta": 0}, V, "delta must be above 0; got 0"),
    (gaussian_nll_loss, (X, X, X), {"full": "yes"}, V, "full must be True or False; got 'yes'"),
]


@pytest.mark.parametrize(("loss", "arrays", "options", "error", "message"), ROWS, ids=[f"{r[0].name}-{r[4][:50]}" for r in ROWS])
def test_errors(loss: Any, arrays: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str) -> None:
    for question in (loss, loss.value_and_grad, loss.grad_and_hess):
        with pytest.raises(error, match=re.escape(message)) as caught:
            question(*arrays, **options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_every_loss_refuses_what_no_loss_takes(case: Case) -> None:
    predictions, targets = case.draw()
    with pytest.raises(TypeError, match=r"must be floating point; got int64$"):
        case.loss(*(p.astype(int) for p in predictions), targets, **case.options)
    with pytest.raises(TypeError, match=r"must be an array .*got builtins\.list: pass numpy\.asarray"):
        case.loss(*(p.tolist() for p in predictions), targets, **case.options)
    with pytest.raises(ValueError, match=r"(targets|target_logits) must (be labels of|have the) shape .*got \(5, 3, 1\)"):
        case.loss(*predictions, np.zeros((5, 3, 1), dtype=targets.dtype), **case.options)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'size_average'"):
        case.loss(*predictions, targets, size_average=True)
    with pytest.raises(ValueError, match=r"reduction must be 'mean', 'sum' or 'none'; got 'batchmean'"):
        case.loss(*predictions, targets, reduction="batchmean", **case.options)


class DataFrame:
    """What a data frame shows to a library that looks for arrays."""

    shape, ndim, dtypes = (2, 1), 2, {"a": np.dtype("float64")}

    def to_numpy(self) -> np.ndarray:
        return np.zeros(self.shape)


class Series(DataFrame):
    ndim, shape, dtype = 1, (2,), np.dtype("float64")


@pytest.mark.parametrize("kind", [DataFrame, Series])
def test_data_frames(kind: type) -> None:
    for arrays in ((kind(), np.zeros(2)), (np.zeros(2), kind())):
        with pytest.raises(TypeError, match=rf"must be an array .*\.{kind.__name__}: pass \.to_numpy\(\)"):
            squared_error(*arrays)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrices() -> None:
    for arrays in ((np.matrix([[1.0]]), np.zeros((1, 1))), (np.zeros((1, 1)), np.matrix([[1.0]]))):
        with pytest.raises(TypeError, match=r"must be an array .*matrix: pass numpy\.asarray\(\.\.\.\)"):
            squared_error(*arrays)


LIBRARIES = [b for b in BACKENDS if b.name in ("numpy", "strict", "torch", "jax", "dask")]


@pytest.mark.parametrize(("one", "other"), list(permutations(LIBRARIES, 2)), ids=str)
def test_mixtures_of_libraries(one: Any, other: Any) -> None:
    """An error that names the conversion; only NumPy beside JAX is taken, as data loaders give it."""
    for b in (one, other):
        if missing(b.library) is not None:
            pytest.skip(missing(b.library))
    x, t = one.array(np.array([0.5, -1.0])), other.array(np.array([1.0, 0.0]))
    if (one.name, other.name) == ("jax", "numpy"):
        np.testing.assert_allclose(one.numpy(squared_error(x, t, weights=np.ones(2), where=np.array([True, True]))), 0.625)
        return
    for options in ({}, {"weights": t}, {"where": t > 0}):
        targets = x if options else t
        name = next(iter(options), "targets")
        with pytest.raises(TypeError, match=rf"{name} is a .* beside predictions that are a .*: convert it first, such as by "):
            squared_error(x, targets, **options)


def test_float8_is_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"predictions must be floating point of 16 bits or more; got float8_e4m3fn"):
        squared_error(torch.zeros(2).to(torch.float8_e4m3fn), torch.zeros(2))


def test_another_device_is_refused() -> None:
    torch = pytest.importorskip("torch")
    x = torch.zeros(2)
    with pytest.raises(ValueError, match=r"targets must be on the device of the predictions, cpu; got meta: pass targets\.to\('cpu'\)"):
        squared_error(x, torch.zeros(2, device="meta"))


def test_curvature_that_is_not_defined() -> None:
    with pytest.raises(NotImplementedError, match="no curvature is defined for softmax_focal_of_probs"):
        softmax_focal_loss.grad_and_hess(np.full((2, 2), 0.5), np.array([0, 1]), given="probs")
