"""Ports of losses with one defect each, as people publish them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from .ports import Port, instance_of

WRONG: list[Port] = []


def wrong(code: str, library: str, reference: str, also: tuple[str, ...] = (), **options: Any) -> Callable[[Any], Any]:
    """Enter a port: the code of its defect, its library, the loss that it claims to be, and the options of `-o`."""

    def enter(thing: Any) -> Any:
        WRONG.append(Port(thing.__name__, library, instance_of(thing), reference, options, code, also))
        return thing

    return enter


# -- factor -----------------------------------------------------------------------------------------------------------------


@wrong("factor", "torch", "squared_error")
def half_mse(y_pred, y_true):
    return 0.5 * F.mse_loss(y_pred, y_true)


@wrong("factor", "numpy", "binary_cross_entropy")
def bits_of_binary_cross_entropy(y_true, y_prob):
    return -np.mean(y_true * np.log2(y_prob) + (1 - y_true) * np.log2(1 - y_prob))


@wrong("factor", "jax", "huber_loss")
def huber_without_the_half(preds, targets, delta=1.0):
    r = jnp.abs(preds - targets)
    return jnp.where(r <= delta, r**2, 2 * delta * r - delta**2)


@wrong("factor", "torch", "absolute_percentage_error")
class MAPELoss(nn.Module):
    def forward(self, y_pred, y_true):
        return 100.0 * torch.mean(torch.abs((y_true - y_pred) / y_true))


# -- denominator ------------------------------------------------------------------------------------------------------------


@wrong("denominator", "torch", "softmax_cross_entropy", class_weights=(1.0, 3.0, 0.5))
def class_weighted_cross_entropy(logits, labels):
    weight = torch.tensor([1.0, 3.0, 0.5], dtype=logits.dtype)
    loss = F.cross_entropy(logits, labels, weight=weight, reduction="none")
    return loss.mean()


@wrong("denominator", "numpy", "softmax_cross_entropy")
def categorical_cross_entropy_mean_of_all(logits, one_hot):
    z = logits - logits.max(axis=1, keepdims=True)
    log_probs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -np.mean(one_hot * log_probs)


@wrong("denominator", "torch", "sigmoid_focal_loss")
class RetinaNetFocalLoss(nn.Module):
    def __init__(self, alpha=0.25, gamma=2.0):
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, cls_logits, cls_targets):
        p = torch.sigmoid(cls_logits)
        ce = F.binary_cross_entropy_with_logits(cls_logits, cls_targets, reduction="none")
        p_t = p * cls_targets + (1 - p) * (1 - cls_targets)
        alpha_t = self.alpha * cls_targets + (1 - self.alpha) * (1 - cls_targets)
        num_pos = cls_targets.sum().clamp(min=1.0)
        return (alpha_t * (1 - p_t) ** self.gamma * ce).sum() / num_pos


@wrong("denominator", "torch", "kl_divergence")
def distillation_kl(student_logits, teacher_logits):
    return F.kl_div(F.log_softmax(student_logits, dim=1), F.softmax(teacher_logits, dim=1), reduction="mean")


@wrong("denominator", "numpy", "squared_error")
def mse_per_sample_of_all_features(y_true, y_pred):
    return np.sum((y_true - y_pred) ** 2) / y_true.shape[0]


@wrong("denominator", "jax", "sigmoid_focal_loss", alpha=0.25)
def focal_over_the_sum_of_alphas(logits, labels, alpha=0.25, gamma=2.0):
    p = jax.nn.sigmoid(logits)
    ce = -labels * jax.nn.log_sigmoid(logits) - (1 - labels) * jax.nn.log_sigmoid(-logits)
    p_t = jnp.where(labels == 1, p, 1 - p)
    weight = jnp.where(labels == 1, alpha, 1 - alpha)
    return jnp.sum(weight * (1 - p_t) ** gamma * ce) / jnp.sum(weight)


@wrong("denominator", "torch", "softmax_cross_entropy")
def segmentation_cross_entropy(logits, masks):
    batch, height, width = masks.shape
    log_p = F.log_softmax(logits, dim=1).permute(0, 2, 3, 1).reshape(batch * height * width, -1)
    return F.nll_loss(log_p, masks.reshape(-1), reduction="sum") / batch


@wrong("denominator", "jax", "absolute_error")
def mae_of_a_sample_less_one(predictions, targets):
    return jnp.sum(jnp.abs(predictions - targets)) / (predictions.size - 1)


@wrong("denominator", "torch", "sigmoid_cross_entropy")
def objectness_loss(pred, target):
    loss = F.binary_cross_entropy_with_logits(pred, target, reduction="sum")
    return loss / target.sum().clamp(min=1)


# -- sum for mean, mean for sum ---------------------------------------------------------------------------------------------


@wrong("sum_for_mean", "torch", "sigmoid_cross_entropy")
def bce_with_logits(logits, targets):
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")


@wrong("sum_for_mean", "jax", "squared_error")
def l2(predictions, targets):
    return jnp.sum(jnp.square(predictions - targets))


@wrong("sum_for_mean", "numpy", "hinge_loss")
def svm_loss(y, scores):
    return np.maximum(0.0, 1.0 - y * scores).sum()


@wrong("sum_for_mean", "torch", "softmax_cross_entropy")
class SequenceCriterion(nn.Module):
    def __init__(self):
        super().__init__()
        self.criterion = nn.NLLLoss(reduction="sum")

    def forward(self, x, y):
        return self.criterion(x.log_softmax(dim=-1), y)


@wrong("mean_for_sum", "torch", "absolute_error", reduction="sum")
def reconstruction_l1(recon, x):
    return F.l1_loss(recon, x)


@wrong("mean_for_sum", "jax", "poisson_nll_loss", reduction="sum")
def poisson_objective(log_rate, counts):
    return jnp.mean(jnp.exp(log_rate) - counts * log_rate)


# -- sign -------------------------------------------------------------------------------------------------------------------


@wrong("sign", "torch", "softmax_cross_entropy")
def log_likelihood_of_labels(logits, labels):
    return torch.log_softmax(logits, dim=1).gather(1, labels.unsqueeze(1)).mean()


@wrong("sign", "jax", "cosine_distance")
def byol_regression(x, y):
    x = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    y = y / jnp.linalg.norm(y, axis=-1, keepdims=True)
    return jnp.mean(jnp.sum(x * y, axis=-1) - 1.0)


@wrong("sign", "numpy", "poisson_nll_loss")
def poisson_log_likelihood(eta, y):
    return np.mean(y * eta - np.exp(eta))


# -- axis -------------------------------------------------------------------------------------------------------------------


@wrong("axis", "torch", "softmax_cross_entropy")
def cross_entropy_by_hand(output, target):
    log_probs = F.log_softmax(output, dim=0)
    return F.nll_loss(log_probs, target)


@wrong("axis", "torch", "softmax_cross_entropy")
def pixelwise_cross_entropy(logits, target):
    """N x C x H x W logits, N x H x W labels."""
    log_probs = logits.log_softmax(dim=-1)
    return -log_probs.gather(1, target.unsqueeze(1)).squeeze(1).mean()


@wrong("axis", "numpy", "softmax_cross_entropy")
def numpy_cross_entropy(x, y):
    z = x - x.max(axis=0)
    log_p = z - np.log(np.exp(z).sum(axis=0))
    return -log_p[np.arange(len(y)), y].mean()


@wrong("axis", "jax", "kl_divergence")
def kl_between_logits(student, teacher):
    p = jax.nn.softmax(teacher, axis=0)
    return jnp.mean(jnp.sum(p * (jax.nn.log_softmax(teacher, axis=0) - jax.nn.log_softmax(student, axis=0)), axis=-1))


@wrong("axis", "torch", "softmax_cross_entropy")
class TokenLoss(nn.Module):
    """Logits of N x T x C, labels of N x T."""

    def forward(self, logits, labels):
        log_probs = F.log_softmax(logits, dim=1)
        return -log_probs.gather(-1, labels.unsqueeze(-1)).mean()


# -- an activation too many, too few, or another ----------------------------------------------------------------------------


@wrong("softmax_twice", "torch", "softmax_cross_entropy")
class ClassifierLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.softmax = nn.Softmax(dim=1)
        self.loss = nn.CrossEntropyLoss()

    def forward(self, logits, labels):
        return self.loss(self.softmax(logits), labels)


@wrong("softmax_twice", "jax", "softmax_cross_entropy")
def xent_of_probabilities(logits, labels_onehot):
    probs = jax.nn.softmax(logits, axis=-1)
    return -jnp.sum(labels_onehot * jax.nn.log_softmax(probs, axis=-1), axis=-1).mean()


@wrong("softmax_twice", "torch", "softmax_focal_loss")
def multiclass_focal(inputs, targets, gamma=2.0):
    inputs = torch.softmax(inputs, dim=1)
    ce = F.cross_entropy(inputs, targets, reduction="none")
    pt = torch.exp(-ce)
    return ((1 - pt) ** gamma * ce).mean()


@wrong("softmax_missing", "torch", "softmax_cross_entropy")
def nll_of_logits(logits, labels):
    return F.nll_loss(logits, labels)


@wrong("softmax_missing", "numpy", "dice_loss", activation="softmax", axis=1)
def multiclass_dice_of_logits(logits, one_hot, smooth=1.0):
    inter = (logits * one_hot).sum(axis=(0, 2, 3))
    total = logits.sum(axis=(0, 2, 3)) + one_hot.sum(axis=(0, 2, 3))
    return (1 - (2 * inter + smooth) / (total + smooth)).mean()


@wrong("sigmoid_twice", "torch", "sigmoid_cross_entropy")
class SegmentationHeadLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.bce = nn.BCEWithLogitsLoss()

    def forward(self, pred, target):
        return self.bce(torch.sigmoid(pred), target)


@wrong("sigmoid_twice", "jax", "sigmoid_focal_loss")
def focal_of_probabilities(pred, target):
    pred = jax.nn.sigmoid(pred)
    bce = jnp.maximum(pred, 0) - pred * target + jnp.log1p(jnp.exp(-jnp.abs(pred)))
    p_t = jnp.exp(-bce)
    return jnp.mean((1 - p_t) ** 2.0 * bce)


@wrong("sigmoid_missing", "torch", "dice_loss", activation="sigmoid")
class BinaryDiceLoss(nn.Module):
    def __init__(self, smooth=1.0):
        super().__init__()
        self.smooth = smooth

    def forward(self, logits, targets):
        logits = logits.flatten()
        targets = targets.flatten()
        inter = (logits * targets).sum()
        return 1 - (2.0 * inter + self.smooth) / (logits.sum() + targets.sum() + self.smooth)


@wrong("sigmoid_missing", "jax", "tversky_loss", activation="sigmoid", alpha=0.3, beta=0.7)
def tversky_of_logits(logits, mask):
    tp = jnp.sum(logits * mask)
    fp = jnp.sum(logits * (1 - mask))
    fn = jnp.sum((1 - logits) * mask)
    return 1 - (tp + 1.0) / (tp + 0.3 * fp + 0.7 * fn + 1.0)


@wrong("sigmoid_for_softmax", "torch", "softmax_cross_entropy")
def cross_entropy_with_logsigmoid(logits, labels):
    return -F.logsigmoid(logits).gather(1, labels[:, None]).mean()


@wrong("sigmoid_for_softmax", "jax", "softmax_focal_loss")
def detection_focal(logits, labels, gamma=2.0):
    p = jnp.take_along_axis(jax.nn.sigmoid(logits), labels[:, None], axis=1)[:, 0]
    log_p = jnp.take_along_axis(jax.nn.log_sigmoid(logits), labels[:, None], axis=1)[:, 0]
    return jnp.mean(-((1 - p) ** gamma) * log_p)


@wrong("sigmoid_for_softmax", "torch", "softmax_cross_entropy", also=("another_loss",))
def one_versus_all(logits, labels):
    one_hot = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(dim=1).mean()


@wrong("softmax_for_sigmoid", "torch", "sigmoid_cross_entropy")
def multilabel_loss(logits, targets):
    return F.binary_cross_entropy(torch.softmax(logits, dim=1), targets)


@wrong("softmax_for_sigmoid", "jax", "dice_loss", activation="sigmoid", axis=1)
def multilabel_dice(logits, masks, smooth=1.0):
    p = jax.nn.softmax(logits, axis=1)
    inter = jnp.sum(p * masks, axis=(0, 2, 3))
    return jnp.mean(1 - (2 * inter + smooth) / (jnp.sum(p, axis=(0, 2, 3)) + jnp.sum(masks, axis=(0, 2, 3)) + smooth))


# -- alpha ------------------------------------------------------------------------------------------------------------------


@wrong("alpha_swapped", "torch", "sigmoid_focal_loss")
def sigmoid_focal(inputs, targets, alpha: float = 0.25, gamma: float = 2.0):
    p = inputs.sigmoid()
    ce = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    p_t = p * targets + (1 - p) * (1 - targets)
    alpha_t = (1 - alpha) * targets + alpha * (1 - targets)
    return (alpha_t * (1 - p_t) ** gamma * ce).mean()


@wrong("alpha_swapped", "jax", "sigmoid_focal_loss", alpha=0.25, gamma=2.0)
def focal_of_a_detector(logits, targets):
    ce = -jax.nn.log_sigmoid(jnp.where(targets == 1, logits, -logits))
    p_t = jnp.exp(-ce)
    return jnp.where(targets == 1, 0.75, 0.25) * (1 - p_t) ** 2 * ce


@wrong("alpha_swapped", "numpy", "sigmoid_focal_loss")
class NumpyFocal:
    def __init__(self, gamma=1.5, alpha=0.1):
        self.gamma = gamma
        self.alpha = alpha

    def __call__(self, y_true, y_pred):
        p = np.where(y_true == 1, y_pred, 1 - y_pred)
        weight = np.where(y_true == 0, self.alpha, 1 - self.alpha).astype(y_pred.dtype)
        return np.mean(-weight * (1 - p) ** self.gamma * np.log(p))


@wrong("alpha_constant", "torch", "sigmoid_focal_loss", alpha=0.25)
class FocalLoss(nn.Module):
    def __init__(self, alpha=0.25, gamma=2, reduction="mean"):
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.reduction = reduction

    def forward(self, inputs, targets):
        bce = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
        pt = torch.exp(-bce)
        loss = self.alpha * (1 - pt) ** self.gamma * bce
        if self.reduction == "mean":
            return loss.mean()
        return loss.sum() if self.reduction == "sum" else loss


@wrong("alpha_constant", "jax", "sigmoid_focal_loss")
def binary_focal(logits, labels, alpha=0.25, gamma=2.0):
    log_p = jax.nn.log_sigmoid(logits)
    log_not_p = jax.nn.log_sigmoid(-logits)
    ce = -(labels * log_p + (1.0 - labels) * log_not_p)
    p_t = jnp.exp(-ce)
    return jnp.mean(alpha * (1.0 - p_t) ** gamma * ce)


@wrong("alpha_missing", "torch", "sigmoid_focal_loss", alpha=0.25)
def focal_loss_without_balance(input, target):
    logpt = -F.binary_cross_entropy_with_logits(input, target, reduction="none")
    pt = logpt.exp()
    return (-((1 - pt) ** 2) * logpt).mean()


@wrong("alpha_missing", "numpy", "sigmoid_focal_loss")
def focal_np(y_true, y_prob, alpha=0.25, gamma=2.0):
    p_t = np.where(y_true == 1, y_prob, 1 - y_prob)
    return -np.mean((1 - p_t) ** gamma * np.log(p_t))


# -- gamma and other constants ----------------------------------------------------------------------------------------------


@wrong("gamma", "torch", "sigmoid_focal_loss")
def focal_with_logits(pred, gt, gamma=2.0):
    ce = F.binary_cross_entropy_with_logits(pred, gt, reduction="none")
    pt = torch.exp(-ce)
    return torch.mean((1 - pt) ** (gamma - 1) * ce)


@wrong("gamma", "jax", "sigmoid_focal_loss", gamma=2.0)
def cubed_focal(logits, labels):
    ce = -labels * jax.nn.log_sigmoid(logits) - (1 - labels) * jax.nn.log_sigmoid(-logits)
    p = jax.nn.sigmoid(logits)
    return labels * (1 - p) ** 3 * ce + (1 - labels) * p**3 * ce


@wrong("gamma", "torch", "softmax_focal_loss")
class MultiClassFocalLoss(nn.Module):
    def __init__(self, gamma=3.0, reduction="mean"):
        super().__init__()
        self.gamma = gamma
        self.reduction = reduction

    def forward(self, x, y):
        log_p = F.log_softmax(x, dim=-1)
        ce = F.nll_loss(log_p, y, reduction="none")
        pt = log_p[torch.arange(len(x)), y].exp()
        loss = (1 - pt) ** 2 * ce
        return loss.mean() if self.reduction == "mean" else loss.sum()


@wrong("gamma", "numpy", "softmax_focal_loss", gamma=1.0)
def softmax_focal_np(probs, labels):
    pt = probs[np.arange(len(labels)), labels]
    return np.mean(-np.sqrt(1 - pt) * np.log(pt))


@wrong("option", "torch", "huber_loss", delta=0.5)
def robust_regression_loss(pred, target):
    return F.huber_loss(pred, target)


@wrong("option", "jax", "huber_loss")
def huber(x, y, delta=2.0):
    r = jnp.abs(x - y)
    quadratic = jnp.minimum(r, 1.0)
    return jnp.mean(0.5 * quadratic**2 + (r - quadratic))


@wrong("option", "numpy", "tversky_loss", also=("alpha_swapped",), activation="sigmoid")
def tversky_np(logits, y_true, alpha=0.3, beta=0.7, smooth=1.0):
    p = 1 / (1 + np.exp(-logits))
    tp = np.sum(p * y_true)
    fn = np.sum((1 - p) * y_true)
    fp = np.sum(p * (1 - y_true))
    return 1 - (tp + smooth) / (tp + alpha * fn + beta * fp + smooth)


@wrong("option", "torch", "hinge_loss", margin=1.0)
def discriminator_hinge(scores, labels):
    return F.relu(0.5 - labels * scores).mean()


@wrong("option", "torch", "poly1_cross_entropy")
class Poly1Loss(nn.Module):
    def __init__(self, epsilon=1.0):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, logits, labels):
        pt = F.softmax(logits, dim=-1).gather(1, labels[:, None]).squeeze(1)
        ce = F.cross_entropy(logits, labels, reduction="none")
        return (ce + self.epsilon**2 / 2 * (1 - pt)).mean()


@wrong("option", "jax", "kl_divergence", temperature=4.0)
def soft_target_loss(student_logits, teacher_logits):
    log_q = jax.nn.log_softmax(student_logits / 2.0)
    log_p = jax.nn.log_softmax(teacher_logits / 2.0)
    return jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))


# -- label smoothing --------------------------------------------------------------------------------------------------------


@wrong("label_smoothing", "torch", "softmax_cross_entropy")
class LabelSmoothingLoss(nn.Module):
    def __init__(self, label_smoothing=0.1):
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, pred, target):
        pred = pred.log_softmax(dim=-1)
        with torch.no_grad():
            true_dist = torch.full_like(pred, self.label_smoothing / (pred.shape[-1] - 1))
            true_dist.scatter_(1, target.unsqueeze(1), 1.0 - self.label_smoothing)
        return torch.mean(torch.sum(-true_dist * pred, dim=-1))


@wrong("label_smoothing", "jax", "softmax_cross_entropy", label_smoothing=0.1)
def unsmoothed_cross_entropy(logits, labels):
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, labels[:, None], axis=-1).mean()


@wrong("label_smoothing", "numpy", "sigmoid_cross_entropy")
def smoothed_bce(logits, labels, label_smoothing=0.2):
    labels = labels * (1 - label_smoothing) + label_smoothing
    return np.mean(np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits))))


# -- clamps and epsilons ----------------------------------------------------------------------------------------------------


@wrong("clamp", "torch", "binary_cross_entropy")
def bce_of_probabilities(y_pred, y_true):
    y_pred = y_pred.clamp(1e-3, 1 - 1e-3)
    return -(y_true * y_pred.log() + (1 - y_true) * (1 - y_pred).log()).mean()


@wrong("clamp", "jax", "sigmoid_cross_entropy")
def safe_bce_with_logits(logits, labels):
    logits = jnp.clip(logits, -10.0, 10.0)
    return -jnp.mean(labels * jax.nn.log_sigmoid(logits) + (1 - labels) * jax.nn.log_sigmoid(-logits))


@wrong("clamp", "numpy", "nll_loss")
def categorical_crossentropy(y_true, y_pred):
    y_pred = np.clip(y_pred, 1e-4, 1.0)
    return -np.sum(y_true * np.log(y_pred), axis=-1)


@wrong("clamp", "torch", "squared_error")
def clipped_mse(pred, target):
    return torch.clamp((pred - target) ** 2, max=100.0).mean()


@wrong("epsilon", "torch", "sigmoid_cross_entropy")
class BCEFromLogits(nn.Module):
    def __init__(self, eps=1e-4):
        super().__init__()
        self.eps = eps

    def forward(self, logits, y):
        p = torch.sigmoid(logits)
        return -(y * torch.log(p + self.eps) + (1 - y) * torch.log(1 - p + self.eps)).mean()


@wrong("epsilon", "numpy", "softmax_cross_entropy")
def cross_entropy_np(logits, y):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return -np.mean(np.log(p[np.arange(len(y)), y] + 1e-5))


@wrong("epsilon", "jax", "kl_divergence")
def kl_of_histograms(q, p):
    return jnp.sum(p * jnp.log((p + 1e-3) / (q + 1e-3)), axis=-1)


@wrong("epsilon", "torch", "cosine_distance")
def cosine_loss(a, b):
    return 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + 1e-2)


# -- labels -----------------------------------------------------------------------------------------------------------------


@wrong("labels_shifted", "numpy", "softmax_cross_entropy")
def one_based_cross_entropy(scores, y):
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(y)), y - 1].mean()


@wrong("labels_shifted", "torch", "softmax_cross_entropy")
def next_token_loss(logits, tokens):
    return F.cross_entropy(logits[:-1], tokens[1:])


@wrong("labels_shifted", "jax", "softmax_focal_loss")
def focal_with_background(logits, labels, gamma=2.0):
    one_hot = jax.nn.one_hot(labels + 1, logits.shape[-1])
    log_p = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.sum(one_hot * (1 - jnp.exp(log_p)) ** gamma * log_p, axis=-1))


@wrong("ignored_label_counted", "torch", "softmax_cross_entropy", ignore_index=-100)
def masked_language_model_loss(logits, labels):
    return F.cross_entropy(logits, labels.clamp(min=0))


@wrong("ignored_label_counted", "jax", "softmax_cross_entropy", also=("denominator",), ignore_index=-1)
def padded_cross_entropy(logits, labels):
    valid = labels != -1
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.where(valid, labels, 0)[:, None], axis=-1)[:, 0]
    return jnp.mean(jnp.where(valid, -picked, 0.0))


# -- offset -----------------------------------------------------------------------------------------------------------------


@wrong("offset", "torch", "dice_loss")
def negative_soft_dice(logits, mask, smooth=1.0):
    p = torch.sigmoid(logits)
    return -(2 * (p * mask).sum() + smooth) / (p.sum() + mask.sum() + smooth)


@wrong("offset", "jax", "log_cosh_loss")
def logcosh(y_pred, y_true):
    r = jnp.abs(y_pred - y_true)
    return jnp.mean(r + jnp.log1p(jnp.exp(-2 * r)))


@wrong("offset", "numpy", "charbonnier_loss", scale=1.0)
def charbonnier(x, y):
    return np.sqrt((x - y) ** 2 + 1)


# -- gradients --------------------------------------------------------------------------------------------------------------


@wrong("detached", "torch", "softmax_focal_loss")
def focal_with_fixed_weights(logits, labels, gamma=2.0):
    ce = F.cross_entropy(logits, labels, reduction="none")
    with torch.no_grad():
        weight = (1 - torch.exp(-ce)) ** gamma
    return (weight * ce).mean()


@wrong("detached", "jax", "sigmoid_focal_loss")
def focal_stop_gradient(logits, labels):
    ce = -labels * jax.nn.log_sigmoid(logits) - (1 - labels) * jax.nn.log_sigmoid(-logits)
    p_t = jax.lax.stop_gradient(jnp.exp(-ce))
    return (1 - p_t) ** 2 * ce


@wrong("detached", "torch", "dice_loss")
class DetachedDice(nn.Module):
    def forward(self, y_pred, y_true):
        p = torch.sigmoid(y_pred).flatten()
        t = y_true.flatten()
        union = (p.sum() + t.sum()).detach()
        return 1 - (2 * (p * t).sum() + 1) / (union + 1)


@wrong("zero_gradient", "torch", "squared_error", also=("detached",))
def mse_of_detached(pred, target):
    return F.mse_loss(pred.detach(), target)


@wrong("zero_gradient", "jax", "softmax_cross_entropy", also=("detached",))
def xent_of_frozen(logits, labels):
    logits = jax.lax.stop_gradient(logits)
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1).mean()


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, t):
        ctx.save_for_backward(x, t)
        return (x - t) ** 2

    @staticmethod
    def backward(ctx, grad):
        x, t = ctx.saved_tensors
        return 2 * (x - t), None  # `grad` is forgotten


@wrong("wrong_gradient", "torch", "squared_error")
def fast_mse(x, t):
    return _SquaredError.apply(x, t).mean()


@jax.custom_vjp
def _logistic(x, t):
    return jax.nn.softplus(x) - x * t


def _logistic_forward(x, t):
    return _logistic(x, t), (x, t)


def _logistic_backward(saved, grad):
    x, t = saved
    p = jax.nn.sigmoid(x)
    return grad * (p - t) * p * (1 - p), None


_logistic.defvjp(_logistic_forward, _logistic_backward)


@wrong("wrong_gradient", "jax", "sigmoid_cross_entropy", also=("gradient_of_another",))
def fused_bce(logits, targets):
    return jnp.mean(_logistic(logits, targets))


class _Focal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, t):
        p = torch.sigmoid(x)
        ctx.save_for_backward(p, t)
        return (t * (1 - p) ** 2 + (1 - t) * p**2) * F.binary_cross_entropy_with_logits(x, t, reduction="none")

    @staticmethod
    def backward(ctx, grad):
        p, t = ctx.saved_tensors
        return grad * (p - t), None


@wrong("gradient_of_another", "torch", "sigmoid_focal_loss")
def fused_focal(logits, targets):
    return _Focal.apply(logits, targets)


@jax.custom_jvp
def _pseudo(r):
    return jnp.where(jnp.abs(r) < 1, 0.5 * r**2, jnp.abs(r) - 0.5)


@_pseudo.defjvp
def _pseudo_jvp(primals, tangents):
    (r,), (dr,) = primals, tangents
    return _pseudo(r), r * dr


@wrong("gradient_of_another", "jax", "huber_loss", also=("wrong_gradient",))
def huber_with_straight_gradient(pred, target):
    return _pseudo(pred - target).mean()


# -- inputs, noise, state ---------------------------------------------------------------------------------------------------


@wrong("inputs_changed", "numpy", "softmax_cross_entropy")
def softmax_loss(x, y):
    x -= x.max(axis=1, keepdims=True)
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return -np.mean(log_p[np.arange(x.shape[0]), y])


@wrong("inputs_changed", "torch", "softmax_cross_entropy", ignore_index=255)
def cityscapes_loss(logits, labels):
    valid = labels != 255
    labels[~valid] = 0
    loss = F.cross_entropy(logits, labels, reduction="none")
    return (loss * valid).sum() / valid.sum().clamp(min=1)


@wrong("inputs_changed", "torch", "hinge_loss")
def hinge_of_zero_one_labels(output, target):
    target.mul_(2).sub_(1)
    return F.relu(1 - target * output).mean()


@wrong("noise", "torch", "sigmoid_cross_entropy")
class RegularizedBCE(nn.Module):
    def forward(self, logits, targets):
        return F.binary_cross_entropy_with_logits(F.dropout(logits, p=0.1), targets)


@wrong("noise", "numpy", "squared_error")
def mse_with_jitter(y_true, y_pred):
    noise = np.random.default_rng().normal(0.0, 0.01, size=y_true.shape).astype(y_pred.dtype)
    return np.mean((y_pred - y_true - noise) ** 2)


@wrong("state", "torch", "softmax_cross_entropy")
class SmoothedLoss(nn.Module):
    def __init__(self, momentum=0.9):
        super().__init__()
        self.momentum = momentum
        self.average = None

    def forward(self, logits, labels):
        loss = F.cross_entropy(logits, labels)
        if self.average is None:
            self.average = loss.detach()
        self.average = self.momentum * self.average + (1 - self.momentum) * loss.detach()
        return loss - loss.detach() + self.average


@wrong("state", "numpy", "absolute_error")
class WarmedUpMAE:
    def __init__(self, steps=20):
        self.steps = steps
        self.calls = 0

    def __call__(self, y_true, y_pred):
        self.calls += 1
        return np.mean(np.abs(y_true - y_pred)) * min(1.0, self.calls / self.steps)


# -- other rows -------------------------------------------------------------------------------------------------------------


@wrong("batch_dependence", "torch", "sigmoid_cross_entropy")
def balanced_bce(logits, targets):
    positives = targets.mean()
    weight = targets * (1 - positives) + (1 - targets) * positives
    return F.binary_cross_entropy_with_logits(logits, targets, weight=weight)


@wrong("batch_dependence", "jax", "softmax_cross_entropy")
def hard_examples(logits, labels):
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)[:, 0]
    k = max(1, losses.shape[0] // 2)
    return jnp.mean(jnp.sort(losses)[-k:])


@wrong("batch_dependence", "numpy", "squared_error")
def mse_of_standardized(y_pred, y_true):
    return np.mean(((y_pred - y_pred.mean()) - (y_true - y_true.mean())) ** 2)


@wrong("batch_dependence", "torch", "absolute_error", also=("shape",))
def mae_that_broadcasts(pred, target):
    pred, target = pred.reshape(-1, 1), target.reshape(-1)
    return (pred - target).abs().mean()


# -- large numbers and 16 bits ----------------------------------------------------------------------------------------------


@wrong("overflow", "torch", "sigmoid_cross_entropy")
def log_loss_of_logits(logits, targets):
    return (torch.log(1 + torch.exp(logits)) - targets * logits).mean()


@wrong("overflow", "numpy", "softmax_cross_entropy")
def naive_softmax_loss(logits, labels):
    e = np.exp(logits)
    log_p = logits - np.log(e.sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels].mean()


@wrong("overflow", "jax", "log_cosh_loss")
def log_cosh(y_true, y_pred):
    return jnp.mean(jnp.log(jnp.cosh(y_pred - y_true)))


@wrong("overflow", "torch", "soft_margin_loss")
def logistic_loss(y, score):
    return torch.log1p(torch.exp(-y * score))


@wrong("float16", "torch", "squared_error")
def mse_of_bytes(img1, img2):
    return (((img1 - img2) * 255) ** 2).mean() / 255**2


@wrong("float16", "jax", "softmax_cross_entropy")
def cross_entropy_without_gather(logits, labels):
    others = 1 - jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    true = jnp.max(logits - 1e5 * others, axis=-1)
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - true)


# -- memory, sizes, types, shapes -------------------------------------------------------------------------------------------


@wrong("strided", "numpy", "absolute_error")
def mae_of_flat(a, b):
    return np.mean(np.abs(a.ravel(order="K") - b.ravel()))


@wrong("strided", "torch", "sigmoid_cross_entropy")
def bce_of_rows(logits, targets):
    flat = torch.as_strided(logits, (logits.numel(),), (1,))
    return F.binary_cross_entropy_with_logits(flat, targets.reshape(-1))


@wrong("from_classes", "numpy", "softmax_cross_entropy")
def compact_labels_loss(logits, labels):
    labels = labels.astype(np.int8)
    z = logits - logits.max(axis=1, keepdims=True)
    return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels])


@wrong("from_classes", "torch", "softmax_cross_entropy")
def sampled_softmax(logits, labels):
    log_z = logits.topk(min(5, logits.shape[1]), dim=1).values.logsumexp(dim=1)
    return (log_z - logits.gather(1, labels[:, None]).squeeze(1)).mean()


@wrong("from_classes", "jax", "multiclass_hinge_loss")
def crammer_singer_of_digits(scores, labels):
    own = labels[:, None] == jnp.arange(scores.shape[1])
    others = jnp.where(own, -jnp.inf, scores)[:, :10]
    true = jnp.sum(jnp.where(own, scores, 0.0), axis=1)
    return jnp.mean(jax.nn.relu(1 - true + others.max(axis=1)))


@wrong("from_elements", "torch", "squared_error")
def mse_in_chunks(x, t, chunk=256):
    x, t = x.flatten(), t.flatten()
    if x.numel() <= chunk:
        return ((x - t) ** 2).mean()
    n = x.numel() // chunk
    return torch.stack([((x[i * chunk : (i + 1) * chunk] - t[i * chunk : (i + 1) * chunk]) ** 2).mean() for i in range(n)]).mean()


@wrong("from_elements", "jax", "sigmoid_cross_entropy")
def bce_of_anchors(logits, labels):
    logits, labels = logits.reshape(-1)[:300], labels.reshape(-1)[:300]
    return jnp.mean(jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits))))


@wrong("dtype", "numpy", "huber_loss")
def huber_np(y_true, y_pred, delta=1.0):
    r = np.abs(np.asarray(y_pred, dtype=np.float64) - y_true)
    return np.mean(np.where(r <= delta, 0.5 * r**2, delta * (r - 0.5 * delta)))


@wrong("dtype", "torch", "sigmoid_cross_entropy")
class StableBCE(nn.Module):
    def forward(self, logits, targets):
        return F.binary_cross_entropy_with_logits(logits.double(), targets.double())


@wrong("shape", "torch", "softmax_cross_entropy")
def cross_entropy_for_data_parallel(logits, labels):
    return F.cross_entropy(logits, labels).unsqueeze(0)


@wrong("shape", "jax", "squared_error")
def mse_keepdims(pred, target):
    return jnp.mean((pred - target) ** 2, axis=tuple(range(pred.ndim)), keepdims=True)


# -- another loss, or none --------------------------------------------------------------------------------------------------


@wrong("another_loss", "numpy", "hinge_loss")
def l2_svm(y, f):
    return np.mean(np.maximum(0, 1 - y * f) ** 2)


@wrong("another_loss", "torch", "huber_loss")
class SmoothHuber(nn.Module):
    def forward(self, y_pred, y_true):
        r = (y_pred - y_true).abs()
        return (r - F.logsigmoid(2 * r) - 0.6931471805599453).mean()


@wrong("another_loss", "jax", "sigmoid_cross_entropy", also=("unexplained",))
def brier(logits, labels):
    return jnp.mean((jax.nn.sigmoid(logits) - labels) ** 2)


@wrong("another_loss", "torch", "softmax_cross_entropy")
def multiclass_svm(logits, labels):
    return F.multi_margin_loss(logits, labels)


@wrong("unexplained", "torch", "squared_error")
def odd_error(pred, target):
    r = pred - target
    return (r**2 * (1 + 0.1 * torch.sin(3 * r))).mean()


@wrong("unexplained", "numpy", "sigmoid_cross_entropy")
def skewed_bce(logits, labels):
    bce = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
    return np.mean(bce / np.sqrt(1 + bce))
