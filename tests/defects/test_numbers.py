"""Calls that returned wrong numbers without a word.

Parts of other options that were added: `test_contract_parts.py::test_errors_of_parts`. Parts and counts that were inexact:
`test_exact_sums.py`.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayloss as al
from arrayloss import define, metrics
from arrayloss.define import loss

INF = float("inf")


# -- autocast -----------------------------------------------------------------------------------------------------------------
# Neighbours: bfloat16; losses of elements, rows and overlaps; reverse mode, `torch.func` and `create_graph`, which take another path.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_sum_under_autocast_has_the_bits_of_its_inputs(dtype: str) -> None:
    """A Dice loss of 4e-9 was 0: products of matrices, by which sums were made, run in 16 bits there."""
    torch = pytest.importorskip("torch")
    labels = torch.arange(2 * 128 * 128).reshape(2, 128, 128) % 3
    logits = 20 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    dice = al.dice_loss.bind(activation="softmax", axis=1, smooth=0.0)

    def results(function: Callable[..., Any]) -> list[Any]:
        x = logits.clone().requires_grad_()
        value = function(x, labels)
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
        return [value.detach(), slope.detach(), torch.func.grad(lambda x: function(x, labels))(logits)]

    for function in (dice, al.cross_entropy.bind(axis=1), lambda x, t: al.sigmoid_focal_loss(x[:, 0], t > 1)):
        expected = results(function)
        with torch.autocast("cpu", getattr(torch, dtype)):
            for a, b in zip(results(function), expected, strict=True):
                assert a.dtype == torch.float32
                torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert 0 < float(dice(logits, labels)) < 1e-8


# -- infinities ---------------------------------------------------------------------------------------------------------------
# Neighbours: every loss of residuals, binary and focal losses with gamma from 0 to 10, float32 and float64, residuals that overflow,
# weights and masks, both engines, PyTorch, parts.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["huber_loss", "log_cosh_loss", "squared_error"])
@pytest.mark.usefixtures("engine")
def test_an_infinite_residual_is_an_infinite_loss(name: str, dtype: str) -> None:
    """Huber's was NaN; a residual overflows on the way, too."""
    largest, function = np.finfo(dtype).max, getattr(al, name)
    for prediction, target in ((INF, 0.0), (-INF, 0.0), (0.0, INF), (largest, -largest)):
        x, t = np.array([prediction], dtype), np.array([target], dtype)
        value, gradient = function.value_and_grad(x, t)
        assert value == INF
        sign = 1.0 if prediction > target else -1.0
        assert gradient[0] == sign * (INF if name == "squared_error" else 1.0)
        assert function.finish(function.parts(x, t)) == INF


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 10.0])
@pytest.mark.usefixtures("engine")
def test_the_gradient_of_a_focal_loss_at_an_infinite_logit(gamma: float) -> None:
    """Sure and wrong it is infinite with slope 1, sure and right 0 with slope 0."""
    x, t = np.array([INF, -INF, INF, -INF]), np.array([0, 1, 1, 0])
    losses, gradient = al.sigmoid_focal_loss.value_and_grad(x, t, gamma=gamma, reduction="none")
    assert losses.tolist() == [INF, INF, 0, 0]
    assert gradient.tolist() == [1, -1, 0, 0]
    losses, gradient = al.softmax_focal_loss.value_and_grad(np.array([[INF, 0.0]] * 2), np.array([1, 0]), gamma=gamma, reduction="none")
    assert losses.tolist() == [INF, 0]
    assert gradient.tolist() == [[1, -1], [0, 0]]


# -- labels -------------------------------------------------------------------------------------------------------------------
# Neighbours: all integers of both byte orders, signed and unsigned; every loss of labels; sizes around the engine's blocks; PyTorch.


@pytest.mark.parametrize("dtype", ["i1", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8"])
@pytest.mark.usefixtures("engine")
def test_a_signed_label_below_zero_is_not_read_as_unsigned(dtype: str) -> None:
    """-1 of int8 was class 255; in the other byte order it was never found."""
    x, labels = np.random.default_rng(0).random((4, 256)), np.array([0, 1, 3, 2]).astype(dtype)
    losses = [al.cross_entropy, al.softmax_focal_loss, al.nll_loss.bind(given="probs"), al.dice_loss.bind(activation="softmax", axis=1)]
    for function in losses:
        assert function(x, labels) == function(x, labels.astype(np.int64))
        wrong = labels.copy()
        wrong[2] = -1
        with pytest.raises(ValueError, match="integer targets must be labels from 0 to 255; got -1"):
            function(x, wrong)
    binary = np.array([0, 1, -1, 1]).astype(dtype)
    with pytest.raises(ValueError, match="integer targets must be 0 or 1; got -1"):
        al.sigmoid_cross_entropy(x[:, 0], binary)
    assert al.cross_entropy(x, wrong, ignore_index=-1) == pytest.approx(al.cross_entropy(x[[0, 1, 3]], labels[[0, 1, 3]]))


@pytest.mark.usefixtures("engine")
def test_a_label_below_zero_is_found_at_the_end_of_a_large_batch() -> None:
    for rows in (2**8, 2**13, 2**15 + 1):
        labels = np.zeros(rows, np.int8)
        labels[-1] = -1
        with pytest.raises(ValueError, match="got -1"):
            al.cross_entropy(np.zeros((rows, 8), np.float32), labels)


# -- parts --------------------------------------------------------------------------------------------------------------------


def test_parts_of_weight_zero_are_zero() -> None:
    """Called the loss was infinite, finished 0.693: 0 over 0 is 0, with any number of parts and on any library."""
    function = al.nll_loss.bind(given="probs", label_smoothing=0.5, class_weights=(0.0, 1.0))
    x, t = np.full((3, 2), 0.5), np.zeros(3, int)
    parts = function.parts(x, t)
    assert function(x, t) == function.finish(parts) == function.finish(parts + parts) == function.finish(sum([parts] * 3)) == 0
    assert isinstance((parts + parts).total, np.floating)


@pytest.mark.parametrize("options", [{}, {"pool_axes": 2}, {"pool_axes": ()}, {"classes": (0, 2)}, {"absent": "skip"}], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_parts_remember_every_option(options: dict[str, Any], reduction: str) -> None:
    """A sum over overlaps of samples was finished as a mean. Every overlap loss, bound and called."""
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(2, 3, 4)), rng.integers(0, 3, (2, 4))
    tversky = al.tversky_loss.bind(alpha=0.3, beta=0.7), al.focal_tversky_loss.bind(alpha=0.3, beta=0.7, gamma=1.5)
    for function in (al.dice_loss, al.jaccard_loss, *tversky, al.generalized_dice_loss):
        if any(name not in function.option_names for name in options):
            continue
        every = {"activation": "softmax", "axis": 1, "reduction": reduction, **options}
        parts = function.parts(x, t, **every)
        assert function.finish(parts) == pytest.approx(function(x, t, **every))
        assert function.bind(**every).finish(function.bind(**every).parts(x, t)) == pytest.approx(function(x, t, **every))


# -- subclasses of arrays -----------------------------------------------------------------------------------------------------
# Neighbours: every argument that takes an array; parameters, normalizers, `finish` and metrics; memory-mapped files, which are arrays.


class Column(np.ma.MaskedArray):
    """As some packages have it."""


ROW, ZEROS = np.array([[1.0, 3.0]]), np.zeros((1, 2))
USES: dict[str, Callable[[Any], Any]] = {
    "predictions": lambda a: al.squared_error(a, ZEROS),
    "targets": lambda a: al.squared_error(ROW, a),
    "weights": lambda a: al.squared_error(ROW, ZEROS, weights=a),
    "where": lambda a: al.squared_error(ROW, ZEROS, where=a > 2),
    "class_weights": lambda a: al.cross_entropy(ROW, np.array([1]), class_weights=a),
    "normalizer": lambda a: al.squared_error(ROW, ZEROS, normalizer=a),
    "finish": lambda a: al.squared_error.finish(al.squared_error.parts(ROW, ZEROS), normalizer=a),
    "delta": lambda a: al.huber_loss(ROW, ZEROS, delta=a),
    "metrics": lambda a: metrics.confusion(a, ROW > 2, activation=None),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("name", USES)
def test_a_masked_array_does_not_lose_its_mask(name: str) -> None:
    """A mean of either one or three elements was that of two. A matrix, whose products differ, is refused in the same way."""
    with pytest.raises(TypeError, match=r"must not be a masked array; got Column: pass its data and where=~mask"):
        USES[name](np.ma.array(ROW, mask=[[False, True]]).view(Column))
    with pytest.raises(TypeError, match=r"must be (an array .*|boolean.* got numpy\.)matrix: pass numpy\.asarray\("):
        USES[name](np.matrix(ROW))


def test_a_memory_mapped_file_is_an_array(tmp_path: Path) -> None:
    """As weights it was taken for a number."""
    row = np.memmap(tmp_path / "row", dtype="f8", mode="w+", shape=(2,))
    row[:] = ROW[0]
    assert al.squared_error(row, ZEROS[0], weights=row, where=row > 2) == 9
    assert al.cross_entropy.bind(class_weights=row) == al.cross_entropy.bind(class_weights=(1.0, 3.0))
    assert al.cross_entropy(ZEROS, np.array([1]), class_weights=row) == al.cross_entropy(ZEROS, np.array([1]))


# -- names --------------------------------------------------------------------------------------------------------------------


def huber_of_somebody_else() -> Any:
    """A loss that has the name of one of ours, and another meaning."""

    def absolute(xp: Any, x: Any, t: Any) -> Any:
        yield abs(x - t)
        yield xp.sign(x - t)

    @loss
    def huber_loss(predictions: Any, targets: Any, *, delta: float = 1.0, **options: Any) -> Any:
        return define.elementwise(absolute, predictions, targets, options)

    return huber_loss


def test_a_masked_error_is_relative_to_nothing() -> None:
    """A masked target was 0 beside a masked prediction of 1/2: a division by 0, with its warning, where the target is the divisor."""
    x, t, where = np.array([np.nan, 2.0]), np.array([np.nan, 1.0]), np.array([False, True])
    value, gradient = al.absolute_percentage_error.value_and_grad(x, t, where=where)
    assert value == 1
    assert gradient.tolist() == [0, 1]
    assert al.absolute_percentage_error(x, t, where=np.array([False, False])) == 0


def test_a_masked_target_is_no_positive() -> None:
    x, t, where = np.zeros(4), np.array([1.0, 1.0, 0.0, np.nan]), np.array([True, False, True, False])
    assert al.sigmoid_focal_loss(x, t, where=where, gamma=0, normalizer="positives") == pytest.approx(2 * np.log(2))


def test_a_loss_of_the_same_name_does_not_answer_for_ours() -> None:
    """Copies and pickles of a bound loss were the other one; its parts added to ours."""
    bound, x, t = al.huber_loss.bind(delta=2.0), np.array([5.0]), np.array([0.0])
    theirs = huber_of_somebody_else()
    for other in (copy.copy(bound), copy.deepcopy(bound), pickle.loads(pickle.dumps(bound))):
        assert other == bound
        assert other(x, t) == bound(x, t) == 8
    assert theirs != al.huber_loss
    assert theirs.bind(delta=2.0) != bound
    assert copy.deepcopy(theirs.bind(delta=2.0))(x, t) == 5
    with pytest.raises(ValueError, match=r"parts of different losses do not add: those of huber_loss and of .*huber_loss"):
        al.huber_loss.parts(x, t) + theirs.parts(x, t)
    with pytest.raises(ValueError, match=r"parts must be those of huber_loss; got parts of .*huber_loss"):
        al.huber_loss.finish(theirs.parts(x, t))
    with pytest.raises(ValueError, match="parts must be those of huber_loss"):
        (al.huber_loss + al.squared_error).finish((theirs + al.squared_error).parts(x, t))
    assert theirs.finish(theirs.parts(x, t) + theirs.parts(x, t)) == 5
