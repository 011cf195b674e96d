"""The ends of every domain: infinite and subnormal numbers, masked classes, ties, certain targets, a gamma that goes to 0."""

from __future__ import annotations

import math

import numpy as np
import pytest

import arrayloss as al
from arrayloss.check.libraries import LIBRARIES

INF = math.inf


@pytest.fixture(params=["numpy", "torch", "jax"])
def on(request):
    """value, gradient and curvature of a loss as float64 NumPy arrays, on every backend."""
    library = LIBRARIES[request.param]
    if reason := library.missing():
        pytest.skip(f"{request.param}: {reason}")

    def compute(loss, x, t, dtype="float64", curvature=True, **options):
        with library.precision(dtype):
            x = library.array(np.asarray(x, dtype=float), dtype)
            t = np.asarray(t)
            t = library.array(t) if t.dtype.kind in "iub" else library.array(t, dtype)
            value, gradient = loss.value_and_grad(x, t, reduction="none", **options)
            hess = library.numpy(loss.grad_and_hess(x, t, **options)[1]) if curvature else None
            return library.numpy(value), library.numpy(gradient), hess

    compute.library = library
    return compute


@pytest.mark.parametrize("soft", [False, True])
def test_infinite_logits_of_a_sigmoid_give_the_limit(on, soft):
    t = np.array([1, 0, 1, 0])
    value, gradient, hess = on(al.sigmoid_cross_entropy, [INF, -INF, -INF, INF], t.astype(float) if soft else t)
    assert value.tolist() == [0, 0, INF, INF]
    assert gradient.tolist() == [0, 0, -1, 1]
    assert hess.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_infinite_logits_of_a_focal_loss_give_the_limit(on, gamma):
    value, _, _ = on(al.sigmoid_focal_loss, [INF, -INF, -INF, INF], [1, 0, 1, 0], curvature=False, gamma=gamma)
    assert value.tolist() == [0, 0, INF, INF]


def test_both_zeros_are_the_middle(on):
    value, gradient, hess = on(al.sigmoid_cross_entropy, [0.0, -0.0, 0.0, -0.0], [0, 0, 1, 1])
    assert np.allclose(value, math.log(2), rtol=1e-15, atol=0)
    assert gradient.tolist() == [0.5, 0.5, -0.5, -0.5]
    assert hess.tolist() == [0.25] * 4


def test_subnormal_logits_are_as_good_as_zero(on):
    for loss in (al.sigmoid_cross_entropy, al.sigmoid_focal_loss):
        tiny = on(loss, [5e-324, -5e-324, 1e-310], [0, 1, 1])
        zero = on(loss, [0.0, 0.0, 0.0], [0, 1, 1])
        for a, b in zip(tiny, zero, strict=True):
            assert np.allclose(a, b, rtol=1e-15, atol=0)


@pytest.mark.parametrize("options", [{}, {"class_weights": (1.0, 3.0, 0.5)}])
def test_a_masked_class_has_no_part_in_cross_entropy(on, options):
    x = [[2.0, -INF, 1.0]]
    value, gradient, hess = on(al.softmax_cross_entropy, x, [0], **options)
    q = 1 / (1 + math.e)
    assert np.allclose(value, [math.log1p(math.exp(-1))], rtol=1e-15)
    assert np.allclose(gradient, [[-q, 0, q]], rtol=1e-15)
    assert np.allclose(hess, [[q * (1 - q), 0, q * (1 - q)]], rtol=1e-15)
    assert on(al.softmax_cross_entropy, x, [1], **options)[0].tolist() == [INF]
    assert not np.isnan(on(al.softmax_cross_entropy, x, [1], **options)[1]).any()


def test_a_masked_class_may_have_a_weight_of_zero_in_a_distribution(on):
    value, gradient, hess = on(al.softmax_cross_entropy, [[2.0, -INF, 1.0]], [[1.0, 0.0, 0.0]])
    assert np.allclose(value, [math.log1p(math.exp(-1))], rtol=1e-15)
    assert gradient[0, 1] == 0
    assert not np.isnan(gradient).any()
    assert not np.isnan(hess).any()


def test_smoothing_makes_the_loss_of_a_masked_class_infinite_and_never_nan(on):
    value, gradient, hess = on(al.softmax_cross_entropy, [[2.0, -INF, 1.0]], [0], label_smoothing=0.1)
    assert value.tolist() == [INF]
    assert np.isfinite(gradient).all()
    assert np.isfinite(hess).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("soft", [False, True])
def test_a_masked_class_has_no_part_in_a_softmax_focal_loss(on, gamma, soft):
    with_mask = on(al.softmax_focal_loss, [[2.0, -INF, 1.0]], [[1.0, 0.0, 0.0]] if soft else [0], curvature=False, gamma=gamma)
    without = on(al.softmax_focal_loss, [[2.0, 1.0]], [[1.0, 0.0]] if soft else [0], curvature=False, gamma=gamma)
    assert np.allclose(with_mask[0], without[0], rtol=1e-14)
    assert np.allclose(with_mask[1][:, [0, 2]], without[1], rtol=1e-14)
    assert with_mask[1][0, 1] == 0


def test_ties_at_the_maximum_share_it(on):
    value, gradient, hess = on(al.softmax_cross_entropy, [[7.0, 7.0, -1e3], [1e4, 1e4, 1e4]], [1, 2])
    assert np.allclose(value, [math.log(2), math.log(3)], rtol=4e-16)
    assert np.allclose(gradient, [[0.5, -0.5, 0], [1 / 3, 1 / 3, -2 / 3]], rtol=4e-16)
    assert np.allclose(hess, [[0.25, 0.25, 0], [2 / 9] * 3], rtol=4e-16)


def test_the_first_and_the_last_label(on):
    value, gradient, _ = on(al.softmax_cross_entropy, [[40.0, 0.0, 0.0], [0.0, 0.0, 40.0]], [0, 2])
    exact = math.log1p(2 * math.exp(-40))
    assert np.allclose(value, exact, rtol=1e-15, atol=0)
    assert np.allclose([gradient[0, 0], gradient[1, 2]], -2 * math.exp(-40), rtol=1e-15, atol=0)


@pytest.mark.parametrize("soft", [False, True])
def test_certain_probabilities_are_infinitely_wrong_or_perfectly_right(on, soft):
    t = np.array([1, 0, 1, 0])
    value, gradient, _ = on(al.binary_cross_entropy, [1.0, 0.0, 0.0, 1.0], t.astype(float) if soft else t, curvature=False)
    assert value.tolist() == [0, 0, INF, INF]
    assert gradient.tolist() == [-1, 1, -INF, INF]


@pytest.mark.parametrize("soft", [False, True])
def test_certain_probabilities_of_a_focal_loss(on, soft):
    t = np.array([1, 0, 1, 0])
    t = t.astype(float) if soft else t
    value, gradient, _ = on(al.sigmoid_focal_loss, [1.0, 0.0, 0.0, 1.0], t, curvature=False, given="probs")
    assert value.tolist() == [0, 0, INF, INF]
    assert gradient.tolist() == [0, 0, -INF, INF]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_certain_probabilities_that_a_soft_target_denies_have_an_infinite_slope(on, gamma):
    """It was the difference of two infinities: the slope of the logarithm is of higher order than the logarithm."""
    options = {"gamma": gamma, "given": "probs", "curvature": False}
    value, gradient, _ = on(al.sigmoid_focal_loss, [1.0, 0.0, 1.0, 0.0], [0.25, 0.25, 0.75, 0.75], **options)
    assert value.tolist() == [INF] * 4
    assert gradient.tolist() == [INF, -INF, INF, -INF]


@pytest.mark.parametrize("soft", [False, True])
def test_a_second_derivative_that_float32_can_hold_is_not_infinite(on, soft):
    """A compiler made 1 / (p * p) of (1 / p) / p, and p * p was flushed to 0."""
    p = float(np.float32(9e-20))
    hess = on(al.nll_loss, [[p, 0.75, 0.25]], [[1.0, 0.0, 0.0]] if soft else [0], dtype="float32", given="probs")[2]
    assert np.allclose(hess, [[p**-2, 0, 0]], rtol=4e-7, atol=0)


def test_gamma_to_zero_is_cross_entropy(on):
    x = np.array([-30.0, -1.0, 0.0, 2.0, 30.0])
    for t in (np.ones(5, dtype=int), np.zeros(5, dtype=int)):
        exact = on(al.sigmoid_cross_entropy, x, t)
        zero = on(al.sigmoid_focal_loss, x, t, gamma=0.0)
        near = on(al.sigmoid_focal_loss, x, t, gamma=1e-30)
        for a, b, c in zip(exact, zero, near, strict=True):
            assert np.allclose(b, a, rtol=1e-15, atol=0)
            assert np.allclose(c, a, rtol=1e-15, atol=0)
    rows = np.array([[1.0, 2.0, -3.0], [60.0, 0.0, 0.0]])
    for a, b in zip(on(al.softmax_cross_entropy, rows, [0, 0]), on(al.softmax_focal_loss, rows, [0, 0], gamma=1e-30), strict=True):
        assert np.allclose(b, a, rtol=2e-15, atol=0)


def test_a_confident_row_keeps_its_digits_in_float32(on):
    """Others return exactly 0."""
    value, gradient, _ = on(al.softmax_cross_entropy, [[17.0, 0.0]], [0], dtype="float32")
    assert np.allclose(value, 4.1399377e-08, rtol=1e-6, atol=0)
    assert np.allclose(gradient, [[-4.1399376e-08, 4.1399376e-08]], rtol=1e-6, atol=0)


def test_a_soft_target_that_is_nearly_certain_keeps_its_gradient(on):
    """The weight of the other classes was the whole less the target: one rounding of 1 for something of 1e-7."""
    t = np.array([[2.0**-23, 1 - 2.0**-23, 2.0**-24]])
    _, gradient, _ = on(al.softmax_cross_entropy, [[0.0, 60.0, 0.0]], t, dtype="float32")
    assert np.allclose(gradient[0, 1], 1.5 * 2.0**-23, rtol=1e-6, atol=0)


def test_a_row_that_is_sure_of_another_class_keeps_its_focal_curvature(on):
    """1 - q rounded to 0 where the target has a probability of 2e-18."""
    _, _, hess = on(al.softmax_focal_loss, [[-40.0, 0.0]], [0])
    p = math.exp(-40)
    bend = 2 * p * (2 - 40 * (1 - p)) + p
    assert np.allclose(hess, bend, rtol=1e-12, atol=0)


def test_a_class_that_both_distributions_mask_has_no_part_in_their_divergence(on):
    with_mask = on(al.kl_divergence, [[2.0, -INF, 1.0]], [[0.5, -INF, 1.0]])
    without = on(al.kl_divergence, [[2.0, 1.0]], [[0.5, 1.0]])
    assert np.allclose(with_mask[0], without[0], rtol=4e-16, atol=0)
    for a, b in zip(with_mask[1:], without[1:], strict=True):
        assert np.allclose(a[:, [0, 2]], b, rtol=4e-16, atol=0)
        assert a[0, 1] == 0


def test_a_class_that_the_target_masks_costs_what_it_takes_from_the_others(on):
    value, gradient, hess = on(al.kl_divergence, [[0.0, math.log(3.0), 0.0]], [[0.0, -INF, 0.0]])
    assert np.allclose(value, math.log(2.5), rtol=8e-16)
    assert np.allclose(gradient, [[-0.3, 0.6, -0.3]], rtol=8e-16)
    assert np.allclose(hess, [[0.16, 0.24, 0.16]], rtol=8e-16)


def test_a_class_that_only_the_logits_mask_makes_the_divergence_infinite_and_leaves_its_gradient_finite(on):
    value, gradient, hess = on(al.kl_divergence, [[0.0, -INF, 0.0], [0.0, 0.0, 0.0]], [[0.0, math.log(2.0), 0.0], [0.0, 0.0, 0.0]])
    assert value.tolist() == [INF, 0]
    assert np.allclose(gradient, [[0.25, -0.5, 0.25], [0, 0, 0]], rtol=4e-16, atol=0)
    assert np.allclose(hess, [[0.25, 0, 0.25], [2 / 9] * 3], rtol=4e-16)


def test_a_class_of_a_probability_that_underflows_is_not_a_masked_one(on):
    """exp(-800) is 0 in float64, and yet an infinite loss if the logits mask it."""
    value, gradient, _ = on(al.kl_divergence, [[0.0, -INF], [0.0, -1e4], [0.0, -900.0]], [[0.0, -800.0]] * 3)
    assert value.tolist() == [INF, 0, 0]
    assert gradient.tolist() == [[0, 0]] * 3


def test_infinite_logits_of_a_divergence_decide(on):
    value, gradient, _ = on(al.kl_divergence, [[INF, 0.0], [INF, 0.0], [0.0, 0.0]], [[INF, 1.0], [0.0, INF], [INF, 1.0]])
    assert np.allclose(value, [0, INF, math.log(2)], rtol=4e-16, atol=0)
    assert gradient.tolist() == [[0, 0], [1, -1], [-0.5, 0.5]]


def test_equal_distributions_have_no_divergence_whatever_was_added_to_their_logits(on):
    x = np.array([[3.0, -2.5, 0.75, 1000.0], [0.125, 7.5, -3.0, 7.5]])
    for added in (0.0, 5.0, -512.0):
        value, gradient, _ = on(al.kl_divergence, x, x + added)
        assert not value.any()
        assert not gradient.any()


def test_a_divergence_between_distributions_that_nearly_agree_keeps_its_digits_in_float32(on):
    """log p - log q has none of them left; others return 0, or less."""
    step = 2.0**-20
    value, gradient, _ = on(al.kl_divergence, [[1.0 + step, 1.0, 1.0]], [[1.0, 1.0, 1.0]], dtype="float32")
    p = np.array([math.exp(step), 1, 1]) / (math.exp(step) + 2)
    assert np.allclose(value, step**2 / 9, rtol=1e-6, atol=0)
    assert np.allclose(gradient, [p - 1 / 3], rtol=3e-7, atol=0)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_target_of_a_divergence_may_learn_too(axis):
    torch = pytest.importorskip("torch")
    x = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([[0.25, 1.0, -2.0], [3.0, 1e-7, 0.0]], dtype=torch.float64, requires_grad=True)
    ours = torch.autograd.grad(al.kl_divergence(x, t, axis=axis, reduction="sum"), (x, t))
    log_p, log_q = torch.log_softmax(t, axis), torch.log_softmax(x, axis)
    theirs = torch.autograd.grad(torch.nn.functional.kl_div(log_q, log_p, reduction="sum", log_target=True), (x, t))
    for a, b in zip(ours, theirs, strict=True):
        assert np.allclose(a.numpy(), b.numpy(), rtol=1e-13, atol=1e-15)
