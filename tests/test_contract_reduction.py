"""Weights, reductions and normalizers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayloss as al

from .helpers import BACKENDS, Backend, assert_close, several
from .operations import DECISIONS, LABELS, PREDICTIONS, WEIGHTS, Kind


def softplus(x: Any) -> Any:
    """What a decision for the wrong answer costs."""
    return np.log1p(np.exp(x))


def test_weights_multiply_and_the_mean_divides_by_them(kind: Kind, xp: Backend) -> None:
    """sum(w*l), and sum(w*l) / sum(w); of overlaps they multiply the sums."""
    if kind.is_overlap:
        repeats = np.array([2, 1, 0, 3, 1, 1])
        arrays = [np.repeat(a, repeats, axis=0) for a in (*kind.stack, *kind.targets)]
        expected = {"mean": kind.loss(*arrays, **kind.options)}
        weights = repeats.astype(float).reshape(kind.elements)
    else:
        each = kind.loss(*kind.stack, *kind.targets, **{**kind.options, "reduction": "none"})
        mass = np.ones_like(each)
        if "class_weights" in kind.options and kind.loss.name != "multilabel_soft_margin_loss":  # in which they are no denominator
            (t,), w = kind.targets, np.array(kind.options["class_weights"])
            mass = w[t] if t.ndim == 1 else (t * w).sum(axis=1)
        weights = kind.per_sample(WEIGHTS)
        expected = {"none": weights * each, "sum": (weights * each).sum(), "mean": (weights * each).sum() / (weights * mass).sum()}
    arrays = [xp.array(a) for a in (*kind.stack, *kind.targets)]
    for reduction, value in expected.items():
        got = kind.loss(*arrays, weights=xp.array(weights), **{**xp.arrays(kind.options), "reduction": reduction})
        assert_close(xp.numpy(got), value)


def test_grad_and_hess_belong_to_the_sum(kind: Kind, xp: Backend) -> None:
    """Weights multiplied, nothing divided: divided by the number of elements, boosting splits nothing."""
    if not kind.has_hessian:
        return
    arrays = [xp.array(a) for a in (*kind.stack, *kind.targets)]
    options = {"weights": xp.array(kind.per_sample(WEIGHTS)), **xp.arrays(kind.options)}
    _, gradients = kind.loss.value_and_grad(*arrays, **{**options, "reduction": "sum"})
    first, second = kind.loss.grad_and_hess(*arrays, **options)
    h = 1e-6
    for i, (g, d, e) in enumerate(zip(several(first), several(second), several(gradients), strict=True)):
        np.testing.assert_allclose(xp.numpy(g), xp.numpy(e), rtol=1e-12, atol=1e-15)
        if xp.name == "numpy":  # the diagonal against differences of the gradient, an entry at a time
            for index in ((0,) * len(kind.shape), tuple(n - 1 for n in kind.shape)):
                up, down = kind.stack, kind.stack
                up[i][index] += h
                down[i][index] -= h
                slopes = [
                    several(kind.loss.value_and_grad(*x, *kind.targets, **{**options, "reduction": "sum"})[1])[i][index] for x in (up, down)
                ]
                assert abs(d[index] - (slopes[0] - slopes[1]) / (2 * h)) < 1e-7


def test_grad_and_hess_run_the_kernel_once() -> None:
    """It ran twice."""
    runs = []

    def kernel(xp: Any, x: Any, t: Any) -> Any:
        runs.append(1)
        yield (x - t) ** 2
        yield 2 * (x - t)
        yield 2 + 0 * x

    al.loss(lambda x, t, **options: al.define.elementwise(kernel, x, t, options)).grad_and_hess(PREDICTIONS, DECISIONS)
    assert len(runs) == 1


def test_one_hot_targets_give_what_labels_give(xp: Backend) -> None:
    """PyTorch divides those of labels by their weights and those of one-hot targets by N."""
    x, t = np.random.default_rng(4).normal(size=(5, 3)), np.array([0, 2, 2, 1, 0])
    logs = x - np.log(np.exp(x).sum(-1, keepdims=True))
    for loss, given, options in (
        (al.softmax_cross_entropy, x, {"class_weights": (1.0, 3.0, 0.5)}),
        (al.softmax_cross_entropy, x, {"class_weights": (1.0, 3.0, 0.5), "label_smoothing": 0.2}),
        (al.nll_loss, logs, {"class_weights": (1.0, 3.0, 0.5), "label_smoothing": 0.2}),
        (al.softmax_focal_loss, x, {"alpha": (1.0, 3.0, 0.5)}),
    ):
        expected = loss.value_and_grad(given, t, **options)
        for dtype in ("float64", "int32", "bool"):
            got = loss.value_and_grad(xp.array(given), xp.array(np.eye(3)[t].astype(dtype)), **options)
            assert_close(xp.numpy(got[0]), expected[0])
            assert_close(xp.numpy(got[1]), expected[1])


def test_class_weights_of_a_distribution() -> None:
    """The denominator is sum_c t_c * w_c over the rows, which PyTorch makes N."""
    x, t, w = np.zeros((2, 2)), np.array([[0.25, 0.75], [1.0, 0.0]]), (1.0, 3.0)
    total = (0.25 + 2.25 + 1.0) * np.log(2)
    assert_close(al.softmax_cross_entropy(x, t, class_weights=w, reduction="sum"), total)
    assert_close(al.softmax_cross_entropy(x, t, class_weights=w), np.log(2))
    assert_close(al.softmax_cross_entropy(x, t, class_weights=w, normalizer="count"), total / 2)


def test_smoothing_is_not_in_the_denominator() -> None:
    x, t, w, e = np.zeros((2, 2)), np.array([0, 1]), (1.0, 3.0), 0.5
    expected = (0.75 * 1 + 0.25 * 3 + 0.25 * 1 + 0.75 * 3) * np.log(2) / (1 + 3)
    assert_close(al.softmax_cross_entropy(x, t, class_weights=w, label_smoothing=e), expected)
    assert_close(al.softmax_cross_entropy(x, np.eye(2)[t], class_weights=w, label_smoothing=e), expected)


def test_class_weights_of_a_sigmoid_loss_are_in_the_denominator(xp: Backend) -> None:
    x, t, w = np.array([[0.5, -1.0], [2.0, 0.0]]), np.array([[1, 0], [0, 1]]), (1.0, 3.0)
    each = softplus(np.where(t == 1, -x, x)) * w
    where = np.array([[True, False], [True, True]])
    for weights in (w, xp.array(np.array(w))):
        loss = al.sigmoid_cross_entropy.bind(axis=1)
        assert_close(xp.numpy(loss(xp.array(x), xp.array(t), class_weights=weights)), each.sum() / 8)
        assert_close(xp.numpy(loss(xp.array(x), xp.array(t), class_weights=weights, where=xp.array(where))), each[where].sum() / 5)


def test_factors_scale_the_loss_and_not_the_denominator(xp: Backend) -> None:
    """pos_weight, alpha and the focal factor: with all of them a thousandfold, so is the mean."""
    x, t = xp.array(np.array([0.5, -1.0, 2.0])), xp.array(np.array([1, 1, 1]))
    plain = softplus(-np.array([0.5, -1.0, 2.0])).mean()
    assert_close(xp.numpy(al.sigmoid_cross_entropy(x, t, pos_weight=1000.0)) / 1000, plain)
    assert_close(xp.numpy(al.sigmoid_focal_loss(x, t, gamma=0.0, alpha=0.125)), 0.125 * plain)
    rows, labels = xp.array(np.array([[0.5, 1.0], [2.0, -1.0]])), xp.array(np.array([0, 1]))
    plain = softplus(np.array([0.5, 3.0])).mean()
    assert_close(xp.numpy(al.softmax_focal_loss(rows, labels, gamma=0.0, alpha=(1000.0, 1000.0))) / 1000, plain)


@pytest.mark.parametrize("normalizer", ["weights", "count", 10, -2.5, np.float32(8), np.int64(8), np.array(8.0), np.array(8)])
def test_normalizers(normalizer: Any, xp: Backend) -> None:
    """What a mean divides by; a number as it is, whatever its sign. Parts get it when they are finished."""
    x, t, w, where = np.array([3.0, 5.0, 7.0, 9.0]), np.zeros(4), np.array([0.5, 1.0, 0.0, 4.0]), np.array([True, True, True, False])
    denominator = {"weights": 1.5, "count": 3.0}[normalizer] if isinstance(normalizer, str) else float(normalizer)
    converted = xp.array(normalizer) if isinstance(normalizer, np.ndarray) else normalizer
    arguments = [xp.array(x), xp.array(t)]
    options = {"weights": xp.array(w), "where": xp.array(where)}
    value, gradient = al.squared_error.value_and_grad(*arguments, **options, normalizer=converted)
    parts = al.squared_error.parts(*arguments, **options)
    total = 0.5 * 9 + 25
    assert_close(xp.numpy(value), total / denominator)
    assert_close(xp.numpy(gradient), np.where(where, w * 2 * x, 0) / denominator)
    assert_close(xp.numpy(al.squared_error.finish(parts, normalizer=converted)), total / denominator)
    if not isinstance(normalizer, np.ndarray):
        assert_close(xp.numpy(al.squared_error.bind(normalizer=normalizer).finish(parts)), total / denominator)


class TestPositives:
    """What detectors divide by: the sum of the targets that count, whatever their weights, and at least 1."""

    @pytest.mark.parametrize("targets", [DECISIONS, DECISIONS.astype(int)], ids=["floating", "integer"])
    def test_divide(self, targets: Any, xp: Backend) -> None:
        x, t, where = xp.array(PREDICTIONS), xp.array(targets), xp.array(np.arange(6)[:, None] < 4)
        expected = xp.numpy(al.sigmoid_focal_loss(x, t, where=where, reduction="sum")) / targets[:4].sum()
        assert_close(xp.numpy(al.sigmoid_focal_loss(x, t, where=where, normalizer="positives")), expected)
        parts = al.sigmoid_focal_loss.parts(x, t, where=where)
        assert_close(xp.numpy(al.sigmoid_focal_loss.finish(parts, normalizer="positives")), expected)

    def test_none_of_them_divide_by_one(self) -> None:
        t = np.zeros_like(DECISIONS)
        expected = al.sigmoid_focal_loss(PREDICTIONS, t, reduction="sum")
        assert_close(al.sigmoid_focal_loss(PREDICTIONS, t, normalizer="positives"), expected)

    def test_are_for_binary_losses(self) -> None:
        with pytest.raises(ValueError, match="normalizer must be 'weights' or 'count'; got 'positives'"):
            al.cross_entropy(PREDICTIONS, LABELS, normalizer="positives")


class TestDenominatorOfZero:
    """A mean over nothing is 0 and flat, wherever the denominator came from."""

    @pytest.mark.parametrize(
        "options",
        [
            {"normalizer": 0},
            {"normalizer": np.asarray(0)},
            {"normalizer": np.asarray(0.0)},
            {"ignore_index": (0, 1, 2)},
            {"weights": np.zeros(6)},
            {"class_weights": (0.0, 0.0, 0.0)},
        ],
        ids=str,
    )
    @pytest.mark.everywhere
    def test_of_a_mean(self, options: dict[str, Any], xp: Backend) -> None:
        """A number raised an error, an array gave 0."""
        value, gradient = al.cross_entropy.value_and_grad(xp.array(PREDICTIONS), xp.array(LABELS), **xp.arrays(options))
        assert not xp.numpy(value)
        assert not xp.numpy(gradient).any()

    def test_in_autograd_of_torch_and_jax(self) -> None:
        """As a number and as an array."""
        jax, torch = pytest.importorskip("jax"), pytest.importorskip("torch")
        for zero in (0, torch.tensor(0), torch.tensor(0.0)):
            x = torch.tensor(PREDICTIONS, requires_grad=True)
            value = al.cross_entropy(x, torch.tensor(LABELS), normalizer=zero)
            value.backward()
            assert value == 0
            assert not x.grad.any()
        for zero in (0, jax.numpy.asarray(0)):
            loss = lambda x, zero=zero: al.cross_entropy(x, LABELS, normalizer=zero)  # noqa: E731
            value, gradient = jax.value_and_grad(loss)(jax.numpy.asarray(PREDICTIONS))
            assert value == 0
            assert not gradient.any()

    def test_a_class_weight_of_zero_with_smoothing(self) -> None:
        """The numerator is not 0, the denominator is: it was infinite, and so was the gradient."""
        options: dict[str, Any] = {"class_weights": (0.0, 1.0, 1.0), "label_smoothing": 0.1}
        value, gradient = al.cross_entropy.value_and_grad(PREDICTIONS, 0 * LABELS, **options)
        parts = al.cross_entropy.parts(PREDICTIONS, 0 * LABELS, **options)
        assert value == al.cross_entropy.finish(parts + parts) == 0
        assert not gradient.any()

    def test_a_nan_stays_one(self, xp: Backend) -> None:
        x = xp.array(np.full_like(PREDICTIONS, np.nan))
        assert np.isnan(xp.numpy(al.cross_entropy(x, xp.array(LABELS), normalizer=0)))


@pytest.mark.parametrize("axes", [0, -1, (0, 2), [1, 2], (), np.int64(1)], ids=str)
def test_reduce_axes(axes: Any, xp: Backend) -> None:
    rng = np.random.default_rng(5)
    x, t, w = rng.normal(size=(2, 3, 4)), rng.integers(0, 2, size=(2, 3, 4)), rng.uniform(0.5, 1, size=(2, 1, 4))
    where = rng.random((2, 3, 1)) < 0.7
    mass = np.where(where, np.broadcast_to(w, x.shape), 0.0)
    over = (int(axes),) if not isinstance(axes, tuple | list) else tuple(axes)
    total, count = (mass * softplus(np.where(t == 1, -x, x))).sum(axis=over), mass.sum(axis=over)
    options = {"weights": xp.array(w), "where": xp.array(where), "reduce_axes": axes}
    value, gradient = al.sigmoid_cross_entropy.value_and_grad(xp.array(x), xp.array(t), **options)
    assert_close(xp.numpy(value), np.divide(total, count, out=np.zeros_like(total), where=count != 0))
    slope = np.where(t == 1, -1 / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))
    assert_close(xp.numpy(gradient), mass * slope / np.expand_dims(np.where(count == 0, 1, count), over))


def test_reduce_axes_of_rows_are_counted_in_the_predictions(xp: Backend) -> None:
    """(2, 3) of N x C x H x W with class axis 1 is one loss a sample."""
    rng = np.random.default_rng(6)
    x, t = rng.normal(size=(2, 3, 4, 5)), rng.integers(0, 3, size=(2, 4, 5))
    value, gradient = al.softmax_cross_entropy.value_and_grad(xp.array(x), xp.array(t), axis=1, reduce_axes=(2, 3))
    singles = [al.softmax_cross_entropy.value_and_grad(x[i], t[i], axis=0) for i in range(2)]
    assert_close(xp.numpy(value), [v for v, _ in singles])
    assert_close(xp.numpy(gradient), np.stack([g for _, g in singles]))


@pytest.mark.parametrize("e", [0.25, 1.0])
def test_label_smoothing(e: float, xp: Backend) -> None:
    """(1-e)*t + e/C for rows, (1-e)*t + e/2 for yes/no decisions; labels and distributions alike."""
    rng = np.random.default_rng(7)
    x, t, yes = rng.normal(size=(4, 3)), np.array([0, 2, 1, 2]), rng.integers(0, 2, size=(4, 3))
    logs = x - np.log(np.exp(x).sum(-1, keepdims=True))
    rows = -(((1 - e) * np.eye(3)[t] + e / 3) * logs).sum(-1).mean()
    for targets in (t, np.eye(3)[t]):
        assert_close(xp.numpy(al.softmax_cross_entropy(xp.array(x), xp.array(targets), label_smoothing=e)), rows)
        assert_close(xp.numpy(al.nll_loss(xp.array(logs), xp.array(targets), label_smoothing=e)), rows)
    smooth = (1 - e) * yes + e / 2
    decisions = (smooth * softplus(-x) + (1 - smooth) * softplus(x)).mean()
    for targets in (yes, yes.astype(float), yes == 1):
        assert_close(xp.numpy(al.sigmoid_cross_entropy(xp.array(x), xp.array(targets), label_smoothing=e)), decisions)


@pytest.mark.everywhere
def test_parameters_may_be_0d_arrays(xp: Backend) -> None:
    x, t = np.array([0.5, -1.0, 2.0]), np.array([1, 0, 1])
    for loss, name, number in (
        (al.sigmoid_focal_loss, "gamma", 1.5),
        (al.sigmoid_focal_loss, "alpha", 0.25),
        (al.sigmoid_cross_entropy, "pos_weight", 3.0),
        (al.sigmoid_cross_entropy, "class_weights", 3.0),
        (al.huber_loss, "delta", 0.75),
    ):
        expected = loss.value_and_grad(x, t, **{name: number})
        got = loss.value_and_grad(xp.array(x), xp.array(t), **{name: xp.array(np.array(number))})
        assert_close(xp.numpy(got[0]), expected[0])
        assert_close(xp.numpy(got[1]), expected[1])


@pytest.mark.parametrize("loss", [al.cross_entropy, al.dice_loss.bind(activation="softmax", axis=1)])
def test_numpy_class_weights_beside_torch(loss: Any) -> None:
    """One loss refused them, another took them."""
    xp, options = BACKENDS["torch"], {"class_weights": np.array([1.0, 2.0, 3.0])}
    assert_close(xp.numpy(loss(xp.array(PREDICTIONS), xp.array(LABELS), **options)), loss(PREDICTIONS, LABELS, **options))


class TestAbsentClasses:
    """Classes without an element."""

    def test_keep_and_skip(self, xp: Backend) -> None:
        """Kept it weighs as any other, skipped it does not count, and its gradient is 0."""
        p, t = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]), np.array([0, 1])
        loss = al.dice_loss.bind(activation=None, axis=1)
        each = 1 - (2 * np.array([0.5, 0.5, 0]) + 1) / (p.sum(0) + np.array([1, 1, 0]) + 1)
        assert_close(xp.numpy(loss(xp.array(p), xp.array(t))), each.mean())
        skip, g = loss.value_and_grad(xp.array(p), xp.array(t), absent="skip")
        assert_close(xp.numpy(skip), each[:2].mean())
        assert not xp.numpy(g)[:, 2].any()

    @pytest.mark.parametrize("loss", [al.dice_loss, al.jaccard_loss, al.generalized_dice_loss])
    def test_nothing_predicted_and_nothing_there_is_perfect_and_flat(self, loss: Any, xp: Backend) -> None:
        nothing = np.zeros((2, 3, 4))
        value, g = loss.value_and_grad(xp.array(nothing), xp.array(nothing == 1), activation=None, axis=1, smooth=0.0)
        assert not xp.numpy(value)
        assert not xp.numpy(g).any()

    def test_do_not_become_the_whole_generalized_dice(self, xp: Backend) -> None:
        """With 1 / T**2 and a tiny number below the line, class 2 would weigh 1e10 times as much as the others."""
        x, t = np.zeros((1, 3, 8)), np.array([[0, 0, 0, 0, 1, 1, 0, 0]])
        loss = al.generalized_dice_loss.bind(activation="softmax", axis=1, smooth=0.0)
        value, g = loss.value_and_grad(xp.array(x), xp.array(t))
        rare, volume = np.array([(2 / 6) ** 2, 1.0, 1.0]), np.array([6, 2, 0])
        assert_close(xp.numpy(value), 1 - 2 * (rare * volume / 3).sum() / (rare * (8 / 3 + volume)).sum())
        assert np.max(np.abs(xp.numpy(g)[:, 2])) < 4 * np.max(np.abs(xp.numpy(g)[:, 1]))


def test_no_warnings() -> None:
    """Division by zero within a finish is ours to hide."""
    softmax_dice = al.dice_loss.bind(activation="softmax", axis=1)
    softmax_dice.finish(softmax_dice.parts(0 * PREDICTIONS - np.inf, LABELS))
    al.cross_entropy.finish(al.cross_entropy.parts(PREDICTIONS, LABELS), normalizer=0)


@pytest.mark.parametrize("loss", [al.sigmoid_cross_entropy, al.sigmoid_focal_loss])
def test_negative_zero_is_zero(loss: Any) -> None:
    """The slope at -0.0 was 1.5 where it is 0.5: the step and the sign were read from different bits."""
    zeros, targets = np.zeros(5), np.ones(5)
    assert_close(loss.value_and_grad(-zeros, targets)[1], loss.value_and_grad(zeros, targets)[1])
