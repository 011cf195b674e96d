"""Weights, reductions and normalizers.

What holds, and the test that would fail without it:

- mean = sum(w*l) / sum(w), sum = sum(w*l), none = w*l     test_weights_multiply_and_the_mean_divides_by_them
- weights are numbers, 0-d, or broadcast to the elements   (the same test)
- grad_and_hess belong to the sum: weights multiplied, nothing divided  test_grad_and_hess_belong_to_the_sum
- class weights weigh the mean, labels and one-hot alike   test_one_hot_targets_give_what_labels_give
- the mass of a distribution is sum_c t_c * w_c            test_class_weights_of_a_distribution
- of t before smoothing                                    test_smoothing_is_not_in_the_denominator
- factors of a loss are not in the denominator             test_factors_scale_the_loss_and_not_the_denominator
- normalizer "count", a number, a 0-d array                test_normalizers
- reduce_axes, counted in the predictions                  test_reduce_axes
- label smoothing of rows and of yes/no decisions          test_label_smoothing
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import Backend
from drawn import CASES, FIRST, Case
from helpers import answers, assert_close, several

from arrayloss import (
    binary_cross_entropy,
    huber_loss,
    nll_loss,
    one_hot,
    sigmoid_cross_entropy,
    sigmoid_focal_loss,
    softmax_cross_entropy,
    softmax_focal_loss,
    squared_error,
)

every_case = pytest.mark.parametrize("number", [pytest.param(CASES.index(c), id=str(c)) for c in FIRST])


def mass_of(case: Case, targets: np.ndarray) -> np.ndarray:
    """What an element counts beside its weights, by the contract."""
    weights = case.options.get("class_weights")
    if weights is None:
        return np.ones(targets.shape[:1] if case.oracle.rows else targets.shape)
    if case.targets == "labels":
        return np.array(weights)[targets]
    return (targets * np.array(weights)).sum(-1)


def weight_shapes(case: Case) -> list[tuple[int, ...]]:
    return [(), (4,), (1,), (4, 1)] if case.oracle.rows else [(), (4, 3), (4, 1), (1, 3)]


WEIGHTED = [i for i, c in enumerate(CASES) if c in FIRST or "class_weights" in c.options]


@pytest.mark.parametrize("number", [pytest.param(i, id=str(CASES[i])) for i in WEIGHTED])
def test_weights_multiply_and_the_mean_divides_by_them(number: int, xp: Backend) -> None:
    case = CASES[number]
    predictions, targets, value, grads, _ = answers(number)
    arrays = [*(xp.array(p) for p in predictions), xp.array(targets)]
    rng = np.random.default_rng(3)
    shapes = weight_shapes(case)
    for i, weights in enumerate((2.5, *(rng.uniform(0.1, 2.0, size=s) for s in shapes))):
        w = np.asarray(weights)
        w = np.broadcast_to(w[..., 0] if case.oracle.rows and w.ndim == 2 else w, value.shape)
        wide = w[..., None] if case.oracle.rows else w
        given = weights if isinstance(weights, float) else xp.array(weights)
        mass = (w * mass_of(case, targets)).sum()
        reduction, scale = (("mean", 1 / mass), ("sum", 1.0))[i % 2]
        got, gradients = case.loss.value_and_grad(*arrays, weights=given, reduction=reduction, **case.options)
        assert_close(xp.numpy(got), (w * value).sum() * scale, ulps=64)
        for g, e in zip(several(gradients), grads, strict=True):
            assert_close(xp.numpy(g), wide * e * scale)
    assert_close(xp.numpy(case.loss(*arrays, weights=xp.array(w.copy()), reduction="none", **case.options)), w * value)


@every_case
def test_grad_and_hess_belong_to_the_sum(number: int, xp: Backend) -> None:
    """Dividing by the number of elements makes boosting split nothing."""
    case = CASES[number]
    predictions, targets, _, grads, hesses = answers(number)
    arrays = [*(xp.array(p) for p in predictions), xp.array(targets)]
    weights = np.array([[0.5], [1.0], [2.0], [0.0]])
    for options in ({}, {"reduction": "none"}, {"normalizer": 7.0}):
        try:
            g, h = case.loss.grad_and_hess(*arrays, weights=xp.array(weights), **options, **case.options)
        except NotImplementedError:  # where no curvature is defined; the property tests say where that is
            return
        for a, e in zip(several(g) + several(h), grads + hesses, strict=True):
            assert_close(xp.numpy(a), weights * e)


LABELS = [(softmax_cross_entropy, None), (softmax_cross_entropy, 0.2), (nll_loss, None), (nll_loss, 0.2), (softmax_focal_loss, None)]


@pytest.mark.parametrize(("loss", "smoothing"), LABELS, ids=lambda value: getattr(value, "name", str(value)))
def test_one_hot_targets_give_what_labels_give(loss: Any, smoothing: float | None, xp: Backend) -> None:
    """PyTorch divides the labels by their weights and one-hot targets by N."""
    rng = np.random.default_rng(4)
    x, t = rng.normal(size=(5, 3)), np.array([0, 2, 2, 1, 0])
    options: dict[str, Any] = {"alpha" if loss is softmax_focal_loss else "class_weights": (1.0, 3.0, 0.5)}
    if smoothing is not None:
        options["label_smoothing"] = smoothing
    if loss is nll_loss:
        x = x - np.log(np.exp(x).sum(-1, keepdims=True))
    value, gradient = loss.value_and_grad(xp.array(x), xp.array(t), **options)
    for dtype in ("float64", "int32", "bool"):
        hot = xp.array(np.eye(3)[t].astype(dtype))
        got, gradient_hot = loss.value_and_grad(xp.array(x), hot, **options)
        assert_close(xp.numpy(got), xp.numpy(value))
        assert_close(xp.numpy(gradient_hot), xp.numpy(gradient))


def test_class_weights_of_a_distribution() -> None:
    """The denominator is sum_c t_c * w_c over the rows, which PyTorch makes N."""
    x, t, w = np.zeros((2, 2)), np.array([[0.25, 0.75], [1.0, 0.0]]), (1.0, 3.0)
    total = (0.25 + 2.25 + 1.0) * np.log(2)
    assert_close(softmax_cross_entropy(x, t, class_weights=w, reduction="sum"), total)
    assert_close(softmax_cross_entropy(x, t, class_weights=w), np.log(2))
    assert_close(softmax_cross_entropy(x, t, class_weights=w, normalizer="count"), total / 2)


def test_smoothing_is_not_in_the_denominator() -> None:
    x, t, w, e = np.zeros((2, 2)), np.array([0, 1]), (1.0, 3.0), 0.5
    smoothed = [0.75 * 1 + 0.25 * 3, 0.25 * 1 + 0.75 * 3]
    expected = sum(smoothed) * np.log(2) / (1 + 3)
    assert_close(softmax_cross_entropy(x, t, class_weights=w, label_smoothing=e), expected)
    assert_close(softmax_cross_entropy(x, np.eye(2)[t], class_weights=w, label_smoothing=e), expected)


def test_class_weights_of_a_sigmoid_loss_are_in_the_denominator(xp: Backend) -> None:
    x, t, w = np.array([[0.5, -1.0], [2.0, 0.0]]), np.array([[1, 0], [0, 1]]), (1.0, 3.0)
    each = np.log1p(np.exp(np.where(t == 1, -x, x)))
    expected = (each * w).sum() / (2 * sum(w))
    assert_close(xp.numpy(sigmoid_cross_entropy(xp.array(x), xp.array(t), class_weights=w)), expected)
    given = xp.array(np.array(w))
    assert_close(xp.numpy(sigmoid_cross_entropy(xp.array(x), xp.array(t), class_weights=given)), expected)
    where = xp.array(np.array([[True, False], [True, True]]))
    assert_close(
        xp.numpy(sigmoid_cross_entropy(xp.array(x), xp.array(t), class_weights=w, where=where)),
        (each[0, 0] + each[1, 0] + 3 * each[1, 1]) / 5,
    )


def test_factors_scale_the_loss_and_not_the_denominator(xp: Backend) -> None:
    """pos_weight, alpha and the focal factor: with all of them a thousandfold, so is the mean."""
    x, t = xp.array(np.array([0.5, -1.0, 2.0])), xp.array(np.array([1, 1, 1]))
    plain = xp.numpy(sigmoid_cross_entropy(x, t))
    assert_close(xp.numpy(sigmoid_cross_entropy(x, t, pos_weight=1000.0)), 1000 * plain, ulps=64)
    assert_close(xp.numpy(sigmoid_focal_loss(x, t, gamma=0.0, alpha=0.125)), 0.125 * plain)
    rows, labels = xp.array(np.array([[0.5, 1.0], [2.0, -1.0]])), xp.array(np.array([0, 1]))
    plain = xp.numpy(softmax_focal_loss(rows, labels, gamma=0.0))
    assert_close(xp.numpy(softmax_focal_loss(rows, labels, gamma=0.0, alpha=(1000.0, 1000.0))), 1000 * plain, ulps=64)
    each = xp.numpy(softmax_focal_loss(rows, labels, gamma=3.0, reduction="none"))
    assert_close(xp.numpy(softmax_focal_loss(rows, labels, gamma=3.0)), each.sum() / 2)


def test_normalizers(xp: Backend) -> None:
    x, t = np.array([3.0, 5.0, 7.0, 9.0]), np.zeros(4)
    w, where = np.array([0.5, 1.0, 0.0, 4.0]), np.array([True, True, True, False])
    total = 0.5 * 9 + 25
    arrays = [xp.array(x), xp.array(t)]
    options = {"weights": xp.array(w), "where": xp.array(where)}
    for normalizer, denominator in (
        ("weights", 1.5),
        ("count", 3.0),  # elements that count, whatever their weight
        (10, 10.0),
        (-2.5, -2.5),  # a number is used as it is
        (np.float32(8.0), 8.0),
        (np.int64(8), 8.0),
        (xp.array(np.array(8.0)), 8.0),
        (xp.array(np.array(8)), 8.0),
    ):
        value, gradient = squared_error.value_and_grad(*arrays, **options, normalizer=normalizer)
        assert_close(xp.numpy(value), total / denominator)
        assert_close(xp.numpy(gradient), np.where(where, w * 2 * x, 0) / denominator)
        value = squared_error.value_and_grad(*arrays, normalizer=normalizer, weights=2)[0]
        denominator = {"weights": 8.0, "count": 4.0}.get(normalizer, denominator) if isinstance(normalizer, str) else denominator
        assert_close(xp.numpy(value), 2 * (x**2).sum() / denominator)


def test_a_normalizer_of_no_positives_divides_0_by_0_once() -> None:
    """`normalizer=positives` where nothing counts is the mean over nothing."""
    x, t = np.array([1.0, 2.0]), np.array([0, 0])
    value, gradient = sigmoid_focal_loss.value_and_grad(x, t, where=np.array([False, False]), normalizer=np.array(0))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("axes", [0, 1, 2, -1, (0,), (0, 2), (2, 1), [1, 2], (), np.int64(1)])
def test_reduce_axes(axes: Any, xp: Backend) -> None:
    rng = np.random.default_rng(5)
    x, t, w = rng.normal(size=(2, 3, 4)), rng.integers(0, 2, size=(2, 3, 4)), rng.uniform(0.5, 1, size=(2, 1, 4))
    where = rng.random((2, 3, 1)) < 0.7
    each = np.log1p(np.exp(np.where(t == 1, -x, x)))
    mass = np.where(where, np.broadcast_to(w, x.shape), 0.0)
    over = (int(axes),) if not isinstance(axes, tuple | list) else tuple(axes)
    total, count = (mass * each).sum(axis=over), mass.sum(axis=over)
    expected = np.divide(total, count, out=np.zeros_like(total), where=count != 0)
    options = {"weights": xp.array(w), "where": xp.array(where), "reduce_axes": axes}
    value, gradient = sigmoid_cross_entropy.value_and_grad(xp.array(x), xp.array(t), **options)
    assert_close(xp.numpy(value), expected)
    slope = np.where(t == 1, -1 / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))
    divisor = np.expand_dims(np.where(count == 0, 1, count), over)
    assert_close(xp.numpy(gradient), mass * slope / divisor)
    summed = sigmoid_cross_entropy(xp.array(x), xp.array(t), reduction="sum", **options)
    assert_close(xp.numpy(summed), total)


def test_reduce_axes_of_rows_are_counted_in_the_predictions(xp: Backend) -> None:
    """(2, 3) of N x C x H x W with class axis 1 is one loss a sample."""
    rng = np.random.default_rng(6)
    x, t = rng.normal(size=(2, 3, 4, 5)), rng.integers(0, 3, size=(2, 4, 5))
    value, gradient = softmax_cross_entropy.value_and_grad(xp.array(x), xp.array(t), axis=1, reduce_axes=(2, 3))
    singles = [softmax_cross_entropy.value_and_grad(x[i], t[i], axis=0) for i in range(2)]
    assert_close(xp.numpy(value), [v for v, _ in singles])
    assert_close(xp.numpy(gradient), np.stack([g for _, g in singles]))


def test_label_smoothing(xp: Backend) -> None:
    """(1-e)*t + e/C for rows, (1-e)*t + e/2 for yes/no decisions; labels and distributions alike, at e = 0 and 1 too."""
    rng = np.random.default_rng(7)
    x, t = rng.normal(size=(4, 3)), np.array([0, 2, 1, 2])
    yes = rng.integers(0, 2, size=(4, 3))
    for e in (0.0, 0.25, 1.0):
        rows = softmax_cross_entropy(x, (1 - e) * np.eye(3)[t] + e / 3)
        for given in (t, np.eye(3)[t]):
            assert_close(xp.numpy(softmax_cross_entropy(xp.array(x), xp.array(given), label_smoothing=e)), rows)
        logs = x - np.log(np.exp(x).sum(-1, keepdims=True))
        for given in (t, np.eye(3)[t]):
            assert_close(xp.numpy(nll_loss(xp.array(logs), xp.array(given), label_smoothing=e)), rows)
        decisions = sigmoid_cross_entropy(x, (1 - e) * yes + e / 2)
        for given in (yes, yes.astype(float), yes == 1):
            assert_close(xp.numpy(sigmoid_cross_entropy(xp.array(x), xp.array(given), label_smoothing=e)), decisions)
            probs = xp.array(1 / (1 + np.exp(-x)))
            assert_close(xp.numpy(binary_cross_entropy(probs, xp.array(given), label_smoothing=e)), decisions)


def test_parameters_may_be_0d_arrays(xp: Backend) -> None:
    x, t = np.array([0.5, -1.0, 2.0]), np.array([1, 0, 1])
    for loss, name, number in (
        (sigmoid_focal_loss, "gamma", 1.5),
        (sigmoid_focal_loss, "alpha", 0.25),
        (sigmoid_cross_entropy, "pos_weight", 3.0),
        (sigmoid_cross_entropy, "class_weights", 3.0),
        (huber_loss, "delta", 0.75),
    ):
        targets = t.astype(float) if loss is huber_loss else t
        expected = loss.value_and_grad(x, targets, **{name: number})
        got = loss.value_and_grad(xp.array(x), xp.array(targets), **{name: xp.array(np.array(number))})
        assert_close(xp.numpy(got[0]), expected[0])
        assert_close(xp.numpy(got[1]), expected[1])


def test_one_hot_and_labels_agree_with_where(xp: Backend) -> None:
    x, t, where = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 0.5]]), np.array([0, 1, 0]), np.array([True, False, True])
    labels = softmax_cross_entropy(xp.array(x), xp.array(t), class_weights=(1.0, 4.0), where=xp.array(where))
    hot = softmax_cross_entropy(xp.array(x), one_hot(xp.array(t), 2), class_weights=(1.0, 4.0), where=xp.array(where))
    assert_close(xp.numpy(labels), xp.numpy(hot))
