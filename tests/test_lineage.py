"""The formulas that taught these losses to many people, each with its defect live, and what ours makes of the same input.

The functions below are minimal reconstructions of published classes: a negative log-likelihood, a binary cross-entropy and two
focal losses from tutorials, a focal loss with pt = exp(-BCE) that was copied widely, and GluonCV's FocalLoss.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch

import arrayloss as al

ROWS = np.array([[0.7, 0.2, 0.1], [1e-4, 0.9998, 1e-4]])
LABELS = np.array([0, 0])


# -- a negative log-likelihood of softmax probabilities, clamped ---------------------------------------------------------------


def clamped_nll(probs, labels):
    hot = np.zeros_like(probs)
    np.put_along_axis(hot, labels[:, None], 1.0, axis=1)
    return -np.sum(hot * np.log(np.clip(probs, 0.001, None))) / len(labels)


def test_nll_is_not_biased_by_a_clamp():
    true = -(np.log(0.7) + np.log(1e-4)) / 2
    assert clamped_nll(ROWS, LABELS) < true - 1  # 6.9 where 9.2 is true
    assert al.nll_loss(ROWS, LABELS, given="probs") == pytest.approx(true, rel=1e-15)


def test_nll_has_a_gradient_where_the_clamp_has_none():
    probs = torch.tensor(ROWS, requires_grad=True)
    picked = probs.clamp(min=0.001)[torch.arange(2), torch.tensor(LABELS)]
    picked.log().mean().neg().backward()
    assert probs.grad[1, 0] == 0  # the worst row of all learns nothing
    _, gradient = al.nll_loss.value_and_grad(ROWS, LABELS, given="probs")
    assert gradient[1, 0] == pytest.approx(-1e4 / 2, rel=1e-15)


# -- a binary cross-entropy and a binary focal loss with an optional alpha ----------------------------------------------------


def tutorial_binary_focal(p, y, alpha=None, gamma=0.0):
    positive, negative = y * (1 - p) ** gamma * p.log(), (1 - y) * p**gamma * (1 - p).log()
    if alpha:
        return -(alpha * positive + (1 - alpha) * negative).sum()
    return -(positive + negative).sum()


P = torch.tensor([[0.9, 0.4], [0.2, 0.7]], dtype=torch.float64)
Y = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)


def binary_focal(p, y, **options):
    return al.sigmoid_focal_loss(p, y, given="probs", reduction="sum", **options)


def test_alpha_zero_counts():
    negatives_only = -((1 - Y) * (1 - P).log()).sum()
    assert tutorial_binary_focal(P, Y, alpha=0.0) == tutorial_binary_focal(P, Y)  # taken for "no alpha"
    torch.testing.assert_close(binary_focal(P, Y, gamma=0, alpha=0.0), negatives_only)


def test_alpha_per_class_is_an_array():
    alpha = torch.tensor([0.25, 0.75], dtype=torch.float64)
    with pytest.raises(RuntimeError, match="ambiguous"):
        tutorial_binary_focal(P, Y, alpha=alpha)
    wanted = sum(tutorial_binary_focal(P[:, c], Y[:, c], alpha=float(alpha[c])) for c in range(2))
    torch.testing.assert_close(binary_focal(P, Y, gamma=0, alpha=alpha, axis=1), wanted)


def test_alpha_is_a_number_without_a_device():
    def on_gpu(alpha):
        return alpha.is_cuda

    with pytest.raises(AttributeError, match="is_cuda"):
        on_gpu(0.25)
    assert torch.isfinite(binary_focal(P, Y, alpha=0.25))


def test_binary_focal_is_the_published_sum():
    for alpha, gamma in ((0.25, 2.0), (0.6, 0.5)):
        torch.testing.assert_close(binary_focal(P, Y, gamma=gamma, alpha=alpha), tutorial_binary_focal(P, Y, alpha, gamma))


# -- a multiclass focal loss that is not reduced ------------------------------------------------------------------------------------


def tutorial_multiclass_focal(probs, labels, gamma=2.0):
    hot = np.eye(probs.shape[1])[labels]
    return -hot * (1 - probs) ** gamma * np.log(probs) / len(labels)


def test_multiclass_focal_is_one_number():
    matrix = tutorial_multiclass_focal(ROWS, LABELS)
    assert matrix.shape == (2, 3)  # `backward()` refuses it
    ours = al.softmax_focal_loss(ROWS, LABELS, given="probs", gamma=2.0)
    assert ours.shape == ()
    assert ours == pytest.approx(matrix.sum(), rel=1e-14)


# -- pt = exp(-BCE) ------------------------------------------------------------------------------------------------------------------


def exp_of_bce_focal(x, y, alpha=1.0, gamma=2.0):
    bce = torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none")
    return alpha * (1 - torch.exp(-bce)) ** gamma * bce


def test_confident_elements_keep_their_digits():
    x = torch.tensor([10.0, 17.0, 20.0])
    lost = exp_of_bce_focal(x, torch.ones(3))
    assert lost[2] == 0  # 1 - exp(-2e-9) is 0 in float32
    ours = al.sigmoid_focal_loss(x, torch.ones(3), reduction="none")
    with mpmath.workdps(40):
        true = [float((1 / (1 + mpmath.exp(v))) ** 2 * mpmath.log1p(mpmath.exp(-v))) for v in (10, 17, 20)]
    np.testing.assert_allclose(ours.numpy(), true, rtol=2e-6)
    assert abs(lost[1] / true[1] - 1) > 0.3


def test_alpha_tells_the_classes_apart():
    x, one, zero = torch.tensor([1.0]), torch.ones(1), torch.zeros(1)
    for y in (one, zero):
        torch.testing.assert_close(exp_of_bce_focal(x, y, alpha=0.25), 0.25 * exp_of_bce_focal(x, y))  # both the same
    plain = [al.sigmoid_focal_loss(x, y) for y in (one, zero)]
    balanced = [al.sigmoid_focal_loss(x, y, alpha=0.25) for y in (one, zero)]
    torch.testing.assert_close(balanced[0], 0.25 * plain[0])
    torch.testing.assert_close(balanced[1], 0.75 * plain[1])


# -- GluonCV's FocalLoss --------------------------------------------------------------------------------------------------------------


def gluon_focal(pred, label, *, axis=-1, alpha=0.25, gamma=2.0, sparse_label=True, from_logits=False, num_class=None, eps=1e-12):
    """`axis` arrives and is never read."""
    if not from_logits:
        pred = 1 / (1 + np.exp(-pred))
    hot = label[..., None] == np.arange(num_class) if sparse_label else label > 0
    pt = np.where(hot, pred, 1 - pred)
    return -np.where(hot, alpha, 1 - alpha) * (1 - pt) ** gamma * np.log(np.minimum(pt + eps, 1))


RNG = np.random.default_rng(3)
IMAGE, CLASSES = RNG.standard_normal((2, 3, 4, 5)), RNG.integers(0, 3, (2, 4, 5))


def one_vs_rest(x, labels, **options):
    return al.sigmoid_focal_loss(x, al.one_hot(labels, x.shape[1], axis=1), alpha=0.25, reduction="none", **options)


def test_the_class_axis_is_used():
    with pytest.raises(ValueError, match="broadcast"):
        gluon_focal(IMAGE, CLASSES, axis=1, num_class=3)
    wanted = np.moveaxis(gluon_focal(np.moveaxis(IMAGE, 1, -1), CLASSES, num_class=3), -1, 1)
    np.testing.assert_allclose(one_vs_rest(IMAGE, CLASSES), wanted, rtol=1e-9)


def test_swapping_axes_transposes_the_image():
    square, labels = IMAGE[..., :4], CLASSES[..., :4]
    swapped = np.swapaxes(gluon_focal(np.swapaxes(square, 1, 3), labels, num_class=3), 1, 3)  # runs, and is wrong
    right = np.moveaxis(gluon_focal(np.moveaxis(square, 1, -1), labels, num_class=3), -1, 1)
    assert np.max(np.abs(swapped - right)) > 0.1
    np.testing.assert_allclose(one_vs_rest(square, labels), right, rtol=1e-9)


def test_logits_are_logits_and_probabilities_are_named():
    probs = 1 / (1 + np.exp(-IMAGE))
    hot = np.moveaxis(np.eye(3)[CLASSES], -1, 1)
    assert np.isnan(gluon_focal_quietly(IMAGE, hot)).any()  # `from_logits=True` given logits
    as_probs = gluon_focal(probs, hot, sparse_label=False, from_logits=True)
    np.testing.assert_allclose(al.sigmoid_focal_loss(probs, hot, given="probs", alpha=0.25, reduction="none"), as_probs, rtol=1e-9)
    np.testing.assert_allclose(al.sigmoid_focal_loss(IMAGE, hot, alpha=0.25, reduction="none"), as_probs, rtol=1e-9)


def gluon_focal_quietly(x, hot):
    with np.errstate(all="ignore"):
        return gluon_focal(x, hot, sparse_label=False, from_logits=True)


def test_soft_labels_stay_soft():
    x = np.array([0.5, -1.0])
    soft = np.array([0.1, 0.9])
    binarised = gluon_focal(x, soft, sparse_label=False)
    np.testing.assert_array_equal(binarised, gluon_focal(x, np.ones(2), sparse_label=False))  # 0.1 counts as 1
    ours = al.sigmoid_focal_loss(x, soft, reduction="none")
    p = 1 / (1 + np.exp(-x))
    pt = p * soft + (1 - p) * (1 - soft)
    np.testing.assert_allclose(ours, (1 - pt) ** 2 * -(soft * np.log(p) + (1 - soft) * np.log(1 - p)), rtol=1e-12)


def test_softmax_has_a_name_of_its_own():
    x, labels = np.moveaxis(IMAGE, 1, -1), CLASSES
    p = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
    p_y = np.take_along_axis(p, labels[..., None], axis=-1)[..., 0]
    ours = al.softmax_focal_loss(IMAGE, labels, axis=1, reduction="none")
    np.testing.assert_allclose(ours, -((1 - p_y) ** 2) * np.log(p_y), rtol=1e-12)
    one_vs_rest_sum = gluon_focal(x, labels, num_class=3, alpha=0.5).sum(axis=-1)
    assert np.max(np.abs(2 * one_vs_rest_sum - ours)) > 0.1  # never softmax


# -- binary segmentation with one channel and with two ----------------------------------------------------------------------------------


def test_segmentation_with_one_channel():
    logits = np.array([[[0.43, -0.25], [-0.32, 0.69]], [[-0.29, 0.37], [0.54, -0.72]]])
    masks = np.array([[[0, 0], [0, 1]], [[0, 0], [1, 1]]])
    assert round(float(al.sigmoid_cross_entropy(logits, masks)), 4) == 0.6861
    probs = 1 / (1 + np.exp(-logits))
    assert round(float(al.binary_cross_entropy(probs, masks)), 4) == 0.6861


def test_segmentation_with_two_channels():
    logits = np.array(
        [
            [[[0.3164, -0.1922], [0.4326, -1.2193]], [[0.6873, 0.6838], [0.2244, 0.5615]]],
            [[[-0.2516, -0.8875], [-0.6289, -0.1796]], [[0.0411, -1.7851], [-0.3069, -1.0379]]],
        ]
    )
    labels = np.array([[[0, 1], [1, 0]], [[1, 1], [0, 1]]])
    assert round(float(al.softmax_cross_entropy(logits, labels, axis=1)), 4) == 0.9823
    margin = logits[:, 1] - logits[:, 0]  # two channels are one, their difference
    assert al.sigmoid_cross_entropy(margin, labels) == pytest.approx(al.cross_entropy(logits, labels, axis=1), rel=1e-14)
