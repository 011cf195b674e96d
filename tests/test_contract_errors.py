"""Errors name the argument, the rule and what came, in one line; each row here is one."""

from __future__ import annotations

import re
from itertools import permutations
from typing import Any

import numpy as np
import pytest

import arrayloss as al

from .helpers import BACKENDS, Backend
from .operations import KINDS, Kind

X, T = np.zeros((4, 3)), np.zeros((4, 3), dtype=int)
LABELS = np.zeros(4, dtype=int)
IMAGE, MASKS = np.zeros((2, 3, 4, 5)), np.zeros((2, 4, 5), dtype=int)
LENGTH, SPOTS = np.zeros((2, 3, 4)), np.zeros((2, 3, 4), dtype=bool)
NONE = {"reduction": "none"}
SOFTMAX = {"activation": "softmax", "axis": 1}
V, E = ValueError, TypeError

sigmoid, softmax, squares, focal = al.sigmoid_cross_entropy, al.softmax_cross_entropy, al.squared_error, al.sigmoid_focal_loss
Row = tuple[Any, tuple[Any, ...], dict[str, Any], type[Exception], str]

SHAPES: list[Row] = [
    (sigmoid, (np.zeros((4, 1)), LABELS), {}, V, "targets must have the shape of logits, (4, 1); got (4,): pass logits[:, 0]"),
    (sigmoid, (np.zeros((2, 4, 1)), np.zeros((2, 4))), {}, V, "(2, 4, 1); got (2, 4): pass logits[..., 0]"),
    (sigmoid, (np.zeros(4), np.zeros((4, 1))), {}, V, "(4,); got (4, 1): pass targets[:, 0]"),
    (sigmoid, (X, np.zeros((3, 4))), {}, V, "targets must have the shape of logits, (4, 3); got (3, 4)"),
    (al.binary_cross_entropy, (X, np.zeros((1, 3))), {}, V, "targets must have the shape of probs, (4, 3); got (1, 3)"),
    (squares, (X, np.zeros(())), {}, V, "targets must have the shape of predictions, (4, 3); got ()"),
    (al.gaussian_nll_loss, (X, np.ones((4, 2)), X), {}, V, "variance must have the shape of mean, (4, 3); got (4, 2)"),
    (al.gaussian_nll_loss, (X, np.ones((4, 3), np.float32), X), {}, E, "variance must have the dtype of mean, float64; got float32"),
]
CLASSES: list[Row] = [
    (softmax, (np.zeros(()), np.zeros((), int)), {}, V, "logits must have a class axis; got a 0-d array"),
    (softmax, (np.zeros((4, 0)), LABELS), {}, V, "logits must have at least one class along axis 1; got shape (4, 0)"),
    (softmax, (np.zeros((4, 1)), LABELS), {}, V, "for one yes/no decision use sigmoid_cross_entropy"),
    (softmax, (X, np.zeros(5, int)), {}, V, "targets must be labels of shape (4,) or a distribution of shape (4, 3); got (5,)"),
    (softmax, (IMAGE, MASKS), {}, V, "labels of shape (2, 3, 4) or a distribution of shape (2, 3, 4, 5); got (2, 4, 5): pass axis=1"),
    (softmax, (IMAGE, MASKS), {"axis": 2}, V, "of shape (2, 3, 5) or a distribution of shape (2, 3, 4, 5); got (2, 4, 5): pass axis=1"),
    (al.softmax_focal_loss, (IMAGE, IMAGE), {}, V, "axis must be named for targets of the same shape as"),
    (softmax, (np.zeros((2, 3, 3)), T[:2]), {}, V, "axis must be named: labels (2, 3) fit logits (2, 3, 3) with axis=1 and with axis=-1"),
    (softmax, (X, np.zeros(4)), {}, E, "targets must be integer labels; got float64: "),
    (al.nll_loss, (X, LABELS), {"axis": 2}, V, "axis must be from -2 to 1 for an array of 2 dimensions; got 2"),
    (al.nll_loss, (X, LABELS), {"axis": 1.0}, E, "axis must be an integer"),
    (al.nll_loss, (X, LABELS), {"axis": True}, E, "axis must be an integer"),
    (sigmoid, (X, T), {"axis": 2}, V, "axis must be from -2 to 1 for an array of 2 dimensions; got 2"),
    (focal, (X, T), {"axis": "last"}, E, "axis must be an integer"),
]
ARRAYS: list[Row] = [
    (sigmoid, (X.astype(int), T), {}, E, "logits must be floating point; got int64"),
    (squares, (X > 0, X), {}, E, "predictions must be floating point; got bool"),
    (squares, (X.astype(complex), X), {}, E, "predictions must be floating point; got complex128"),
    (squares, (X, X.astype(complex)), {}, E, "targets must be real numbers; got complex128"),
    (sigmoid, (X, X.astype(complex)), {}, E, "targets must be real numbers; got complex128"),
    (softmax, (X, X.astype(complex)), {}, E, "targets must be real numbers; got complex128"),
    (squares, (X, X), {"weights": X.astype(complex)}, E, "weights must be real numbers; got complex128"),
    (squares, ([1.0], [1.0]), {}, E, "predictions must be an array"),
    (squares, (1.0, 2.0), {}, E, "predictions must be an array"),
    (squares, (X, [[0.0]]), {}, E, "targets must be an array"),
    (squares, (np.ma.masked_array(X), X), {}, E, "predictions must not be a masked array; got MaskedArray: pass its data and where=~mask"),
    (squares, (X, np.ma.masked_array(X)), {}, E, "targets must not be a masked array; got MaskedArray"),
]
ELEMENTS: list[Row] = [
    (
        softmax,
        (X, LABELS),
        {"weights": np.ones(3)},
        V,
        "the shape of the unreduced loss, (4,), each size equal or 1; got (3,) (for one wei",
    ),
    (sigmoid, (X, T), {"weights": np.ones(3)}, V, "(4, 3), each size equal or 1; got (3,) (for one weight per class pass class_weights)"),
    (squares, (X, X), {"weights": np.ones((1, 4, 3))}, V, "weights must have the shape of the unreduced loss, (4, 3), each size equal or"),
    (squares, (X[:1], X[:1]), {"weights": np.ones((4, 3))}, V, "(1, 3), each size equal or 1; got (4, 3)"),
    (squares, (X, X), {"weights": [1.0]}, E, "weights must be a number or an array; got list"),
    (squares, (X, X), {"weights": float("nan")}, V, "weights must be finite; got nan"),
    (squares, (X, X), {"weights": True}, E, "weights must be a number or an array; got bool"),
    (squares, (X, X), {"where": X}, E, "where must be boolean, True where an element counts; got float64: pass where != 0"),
    (squares, (X, X), {"where": X.astype(np.uint8)}, E, "where must be boolean, True where an element counts; got uint8"),
    (squares, (X, X), {"where": 1}, E, "where must be boolean, True where an element counts; got int: pass where != 0"),
    (squares, (X, X), {"where": LABELS == 0}, V, "where must have the shape of the unreduced loss, (4, 3), each size equal or 1; got (4,)"),
    (softmax, (X, LABELS), {"where": X == 0}, V, "where must have the shape of the unreduced loss, (4,), each size equal or 1; got (4, 3)"),
    (softmax, (X, LABELS), {"ignore_index": 1.0}, E, "must be an integer or a tuple of integers; got 1.0"),
    (softmax, (X, LABELS), {"ignore_index": (0, True)}, E, "must be an integer or a tuple of integers; got (0, True)"),
    (softmax, (X, X), {"ignore_index": 0}, V, "ignore_index is for labels; got 0 with float64 targets: pass where="),
    (sigmoid, (X, X), {"ignore_index": -1}, V, "ignore_index is for labels; got -1 with float64 targets: pass where="),
]
REDUCTIONS: list[Row] = [
    (squares, (X, X), {"reduction": "avg"}, V, "reduction must be 'mean', 'sum' or 'none'; got 'avg'"),
    (squares, (X, X), {"reduction": None}, V, "reduction must be 'mean', 'sum' or 'none'; got None"),
    (squares, (X, X), {"reduce_axes": 0, **NONE}, V, "reduce_axes must be None with reduction='none'; got 0"),
    (squares, (X, X), {"reduce_axes": (0, -2)}, V, "reduce_axes must name an axis once; got (0, -2)"),
    (squares, (X, X), {"reduce_axes": 2}, V, "reduce_axes must be from -2 to 1 for an array of 2 dimensions; got 2"),
    (squares, (X, X), {"reduce_axes": 1.0}, E, "reduce_axes must be an integer"),
    (squares, (X, X), {"reduce_axes": "01"}, E, "reduce_axes must be an integer"),
    (softmax, (X, LABELS), {"reduce_axes": -1}, V, "reduce_axes must not contain the class axis 1; got -1"),
    (squares, (X, X), {"normalizer": "n"}, V, "normalizer must be 'weights' or 'count'; got 'n'"),
    (squares, (X, X), {"normalizer": float("inf")}, V, "normalizer must be finite; got inf"),
    (squares, (X, X), {"normalizer": np.ones(2)}, V, "normalizer must be a number or a 0-d array; got shape (2,)"),
    (squares, (X, X), {"normalizer": True}, E, "normalizer must be 'weights', 'count', a number or a 0-d array; got "),
    (squares, (X, X), {"normalizer": "count", **NONE}, V, "normalizer must be left alone with reduction='none'; got 'count'"),
    (squares, (X, X), {"normalizer": 3, **NONE}, V, "normalizer must be left alone with reduction='none'; got 3"),
]
PARAMETERS: list[Row] = [
    (focal, (X, T), {"gamma": -1}, V, "gamma must be at least 0; got -1"),
    (focal, (X, T), {"gamma": float("nan")}, V, "gamma must be finite; got nan"),
    (focal, (X, T), {"gamma": "2"}, E, "gamma must be a number or "),
    (focal, (X, T), {"gamma": None}, E, "gamma must be a number or "),
    (focal, (X, T), {"gamma": (1.0, 2.0, 3.0)}, E, "gamma must be a number or a 0-d array; got "),
    (focal, (X, T), {"alpha": 1.5}, V, "alpha must be from 0 to 1; got 1.5"),
    (focal, (X, T), {"alpha": (0.5, 0.5)}, V, "alpha must have one entry for each of the 3 classes along axis 1; got shape (2,)"),
    (focal, (X, T), {"alpha": (0.5, 0.5, -0.5)}, V, "alpha must be from 0 to 1; got -0.5"),
    (focal, (X, T), {"alpha": "balanced"}, E, "alpha must be a number"),
    (focal, (X, T), {"given": "log_probs"}, V, "given must be 'logits' or 'probs'; got 'log_probs'"),
    (al.softmax_focal_loss, (X, LABELS), {"alpha": 0.25}, E, "alpha must have one entry per class; got the single number 0.25"),
    (al.softmax_focal_loss, (X, LABELS), {"alpha": np.array(0.25)}, E, "alpha must have one entry per class; got the single number"),
    (al.softmax_focal_loss, (X, LABELS), {"alpha": (1.0, 1.0, -1.0)}, V, "alpha must be at least 0; got -1"),
    (al.softmax_focal_loss, (X, LABELS), {"given": "log_probs"}, V, "given must be 'logits' or 'probs'; got 'log_probs'"),
    (softmax, (X, LABELS), {"class_weights": 2.0}, E, "class_weights must have one entry per class; got the single number 2.0"),
    (softmax, (X, LABELS), {"class_weights": (1.0, 2.0)}, V, "one entry for each of the 3 classes along axis 1; got shape (2,)"),
    (softmax, (X, LABELS), {"class_weights": np.array([1.0, -2.0, 3.0])}, V, "class_weights must be at least 0; got -2"),
    (softmax, (X, LABELS), {"class_weights": (1, "a", 2)}, E, "class_weights must be a number; got str"),
    (softmax, (X, LABELS), {"label_smoothing": 1.5}, V, "label_smoothing must be from 0 to 1; got 1.5"),
    (softmax, (X, LABELS), {"label_smoothing": np.array([0.1])}, E, "label_smoothing must be a number"),
    (sigmoid, (X, T), {"pos_weight": -1.0}, V, "pos_weight must be at least 0; got -1"),
    (sigmoid, (IMAGE[..., :4], IMAGE[..., :4]), {"pos_weight": (1.0,) * 4}, V, "axis must be named: pos_weight has 4 entries"),
    (sigmoid, (IMAGE, IMAGE), {"pos_weight": (1.0,) * 3}, V, "got shape (3,): pass axis=1"),
    (al.huber_loss, (X, X), {"delta": 0}, V, "delta must be above 0; got 0"),
    (al.gaussian_nll_loss, (X, X, X), {"full": "yes"}, V, "full must be "),
    (al.gaussian_nll_loss, (X, X, X), {"given": "std"}, V, "given must be 'variance', 'log_variance' or 'scale'; got 'std'"),
    (al.gaussian_nll_loss, (X, X[:2], X), {"given": "scale"}, V, "scale must have the shape of mean, (4, 3); got (2, 3)"),
    (al.smooth_l1_loss, (X, X), {"beta": -1}, V, "beta must be at least 0; got -1"),
    (al.poisson_nll_loss, (X, X), {"full": "exact"}, V, "full must be False, True or 'stirling'; got 'exact'"),
    (al.poisson_nll_loss, (X, X), {"given": "logits"}, V, "given must be 'log_rate' or 'rate'; got 'logits'"),
    (al.absolute_percentage_error, (X, X), {"floor": -1}, V, "floor must be at least 0; got -1"),
    (al.absolute_percentage_error, (X, X), {"floor": 1, "symmetric": True}, V, "floor must be 0 with symmetric=True; got 1"),
    (al.pseudo_huber_loss, (X, X), {"delta": 0}, V, "delta must be above 0; got 0"),
    (al.cauchy_loss, (X, X), {"scale": -1}, V, "scale must be above 0; got -1"),
    (al.wing_loss, (X, X), {"curvature": 0}, V, "curvature must be above 0; got 0"),
    (al.epsilon_insensitive_loss, (X, X), {"epsilon": -1}, V, "epsilon must be at least 0; got -1"),
    (al.epsilon_insensitive_loss, (X, X), {"squared": 1}, V, "squared must be True or False; got 1"),
    (al.gamma_nll_loss, (X, X), {"given": "log_rate"}, V, "given must be 'log_mean' or 'mean'; got 'log_rate'"),
    (al.smooth_hinge_loss, (X, X), {"smoothing": 0}, V, "smoothing must be above 0; got 0"),
    (al.hinge_loss, (X, X), {"margin": None}, E, "margin must be a number or "),
    (al.hinge_loss, (X, X), {"ignore_index": 0}, V, "ignore_index is for labels; got 0 with float64 targets: pass where="),
    (al.margin_ranking_loss, (X, X[:2], X), {}, V, "scores2 must have the shape of scores1, (4, 3); got (2, 3)"),
]
OVERLAPS: list[Row] = [
    (al.dice_loss, (LENGTH, SPOTS), options, error, message)
    for options, error, message in [
        ({"activation": "tanh"}, V, "activation must be None, 'sigmoid' or 'softmax'; got 'tanh'"),
        ({"activation": "softmax"}, V, "axis must be named for activation='softmax'; got None: pass axis=1"),
        ({"activation": "sigmoid", "classes": 1}, V, "axis must be named for classes; got classes=1 and axis=None: pass axis=1"),
        (
            {"activation": "sigmoid", "class_weights": (1, 2)},
            V,
            "axis must be named for class_weights, one for each class; got None: pass axis=1",
        ),
        ({"activation": "softmax", "axis": 3}, V, "axis must be from -3 to 2"),
        ({**SOFTMAX, "classes": 3}, V, "classes must be from -3 to 2"),
        ({**SOFTMAX, "classes": (1, 1)}, V, "classes must name at least one class, and each once"),
        ({**SOFTMAX, "classes": ()}, V, "classes must name at least one class, and each once"),
        ({**SOFTMAX, "pool_axes": (0, 0)}, V, "pool_axes must name an axis once"),
        ({**SOFTMAX, "class_weights": (1, 2)}, V, "one entry for each of the 3 classes"),
        ({**SOFTMAX, "class_weights": 2.0}, E, "class_weights must have one entry per class"),
        ({**SOFTMAX, "class_weights": (1, 2, -1)}, V, "class_weights must be at least 0; got -1"),
        ({**SOFTMAX, "smooth": -1}, V, "smooth must be at least 0; got -1"),
        ({**SOFTMAX, "squared": 1}, V, "squared must be "),
        ({**SOFTMAX, "absent": "drop"}, V, "absent must be 'keep' or 'skip'; got 'drop'"),
        ({**SOFTMAX, "reduction": "max"}, V, "reduction must be 'mean', 'sum' or 'none'; got 'max'"),
    ]
]
OVERLAPS += [
    (
        al.dice_loss,
        (LENGTH[:, :1], SPOTS[:, :1]),
        SOFTMAX,
        V,
        "at least two classes along axis 1; got shape (2, 1, 4): for one channel pass activ",
    ),
    (al.dice_loss, (LENGTH, SPOTS[:, 0]), {"activation": "sigmoid"}, V, "targets must have the shape of predictions"),
    (al.dice_loss, (LENGTH, LENGTH[:, 0]), SOFTMAX, E, "targets must be integer labels"),
    (al.focal_tversky_loss, (LENGTH, SPOTS), {"activation": None, "alpha": 1, "beta": 1, "gamma": 0}, V, "gamma must be above 0; got 0"),
    (al.generalized_dice_loss, (LENGTH, SPOTS), {"activation": "sigmoid"}, V, "axis must be named for volume_weights, one for each cl"),
]
LABEL_VALUES: list[Row] = [
    (softmax, (X, LABELS - 100), {}, V, "labels from 0 to 2; got -100 (pass ignore_index=-100 to leave those elements out)"),
    (sigmoid, (X, T - 100), {}, V, "0 or 1; got -100 (pass ignore_index=-100 to leave those elements out)"),
    (sigmoid, (X, (T + 255).astype(np.uint8)), {}, V, "integer targets must be 0 or 1; got 255 (a mask of 0 and 255 is `targets == 255`)"),
    (softmax, (X, 255 * np.eye(4, 3, dtype=np.uint8)), {}, V, "integer targets must be 0 or 1; got 255 (a mask of 0 and 255"),
    (al.dice_loss, (X, (T + 255).astype(np.uint8)), {"activation": None}, V, "a mask of 0 and 255 is `targets == 255`"),
]
ROWS = SHAPES + CLASSES + ARRAYS + ELEMENTS + REDUCTIONS + PARAMETERS + OVERLAPS + LABEL_VALUES


@pytest.mark.parametrize(("loss", "arrays", "options", "error", "message"), ROWS, ids=[f"{r[0].name}-{r[4][:50]}" for r in ROWS])
def test_errors(loss: Any, arrays: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str) -> None:
    """From the number, its gradient and the derivatives of elements alike."""
    for question in (loss, loss.value_and_grad, loss.grad_and_hess):
        with pytest.raises(error, match=re.escape(message)) as caught:
            question(*arrays, **options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_loss_refuses_what_no_loss_takes(kind: Kind) -> None:
    """Whatever its kind."""
    predictions, targets = kind.stack, kind.targets
    with pytest.raises(TypeError, match=r"must be floating point; got int64: pass \w+\.astype"):
        kind.loss(*[p.astype(int) for p in predictions], *targets, **kind.options)
    with pytest.raises(TypeError, match=r"must be an array .*got list: pass numpy\.asarray"):
        kind.loss(*[p.tolist() for p in predictions], *targets, **kind.options)
    for t in targets:
        with pytest.raises(ValueError, match=r"targets must .*got (shape )?\(6, 3, 1, 1\)"):
            kind.loss(*predictions, np.zeros((6, 3, 1, 1), dtype=t.dtype), **kind.options)
    with pytest.raises(ValueError, match=r"reduction must be 'mean', 'sum' or 'none'; got 'batchmean'"):
        kind.loss(*predictions, *targets, **{**kind.options, "reduction": "batchmean"})
    with pytest.raises(TypeError, match=r"there is no option 'size_average': did you mean reduction\?"):
        kind.loss(*predictions, *targets, **{**kind.options, "size_average": True})


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
        with pytest.raises(TypeError, match=rf"must be an array .*\.{kind.__name__}: pass "):
            squares(*arrays)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrices() -> None:
    for arrays in ((np.matrix([[1.0]]), np.zeros((1, 1))), (np.zeros((1, 1)), np.matrix([[1.0]]))):
        with pytest.raises(TypeError, match=r"must be an array .*matrix: pass numpy\.asarray\("):
            squares(*arrays)


HOST = [b for b in BACKENDS.values() if b.name != "cupy"]
MIXTURES = [pair for pair in permutations(HOST, 2) if {b.name for b in pair} != {"numpy", "jax"}]


@pytest.mark.parametrize(("one", "other"), MIXTURES, ids=str)
def test_mixtures_of_libraries(one: Backend, other: Backend) -> None:
    """An error that names the conversion. NumPy beside JAX, either way round, is JAX's: data loaders give it."""
    x, t = one.array(np.array([0.5, -1.0])), other.array(np.array([1.0, 0.0]))
    for options in ({}, {"weights": t}, {"where": t > 0}):
        name = next(iter(options), "targets")
        with pytest.raises(TypeError, match=rf"{name} must be an array of \S+, as the predictions are; got \S+: pass \S+\({name}\)"):
            squares(x, x if options else t, **options)


def test_what_no_computer_knows() -> None:
    """float8, and arrays of another device."""
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"predictions must be floating point.*; got float8_e4m3fn"):
        squares(torch.zeros(2).to(torch.float8_e4m3fn), torch.zeros(2))
    with pytest.raises(ValueError, match=r"targets must be on the device of the predictions, cpu; got meta"):
        squares(torch.zeros(2), torch.zeros(2, device="meta"))


def test_curvature_that_is_not_defined() -> None:
    with pytest.raises(NotImplementedError, match=r"no (curvature|second derivative) is defined for"):
        al.softmax_focal_loss.grad_and_hess(np.full((2, 2), 0.5), np.array([0, 1]), given="probs")
    with pytest.raises(NotImplementedError, match=r"no (curvature|second derivative) is defined for"):
        al.dice_loss.grad_and_hess(LENGTH, SPOTS, activation="sigmoid")


@pytest.mark.parametrize(
    ("loss", "options", "error"),
    [
        (softmax, {"label_smoothing": 7}, "label_smoothing must be from 0 to 1; got 7"),
        (softmax, {"reduction": "avg"}, "reduction must be 'mean', 'sum' or 'none'; got 'avg'"),
        (softmax, {"wieghts": 1}, "there is no option 'wieghts': did you mean weights?"),
        (softmax, {"dim": 1}, "there is no option 'dim': did you mean axis?"),
        (softmax, {"weight": 1}, "there is no option 'weight': did you mean class_weights or weights?"),
        (al.dice_loss, {"eps": 1}, "there is no option 'eps': did you mean smooth?"),
        (al.dice_loss, {"normalizer": "count"}, "there is no option 'normalizer'"),
        (al.dice_loss, {"smooth": -1}, "smooth must be at least 0; got -1"),
        (al.dice_loss, {"activation": "relu"}, "activation must be None, 'sigmoid' or 'softmax'; got 'relu'"),
        (focal, {"from_logits": True}, "there is no option 'from_logits': did you mean given?"),
        (focal, {"alpha": (0.5, 2)}, "alpha must be from 0 to 1; got 2"),
        (focal, {"normalizer": "mean"}, "normalizer must be 'weights', 'count' or 'positives'; got 'mean'"),
        (al.huber_loss, {"gamma": 1}, "there is no option 'gamma'"),
        (al.huber_loss, {"targets": X}, "there is no option 'targets'"),
    ],
)
def test_bind_checks_names_and_values(loss: Any, options: dict[str, Any], error: str) -> None:
    """They were accepted until the call."""
    with pytest.raises((TypeError, ValueError), match=re.escape(error)):
        loss.bind(**options)


def test_bind_takes_names_only() -> None:
    with pytest.raises(TypeError, match=r"huber_loss\.bind takes options by name; got 1 positional arguments"):
        al.huber_loss.bind(1.0)
