"""Right ports, in the styles that people write: `same`, or `digits` where a formula cancels when the loss is small.

What makes `digits`: 1 - p after p was rounded, the logarithm of a sigmoid or softmax, the difference of two nearly equal numbers.
"""

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

RIGHT: list[Port] = []


def right(verdict: str, library: str, reference: str, **options: Any) -> Callable[[Any], Any]:
    """Enter a port: its verdict, its library, the loss that it is, and the options of `-o`."""

    def enter(thing: Any) -> Any:
        RIGHT.append(Port(thing.__name__, library, instance_of(thing), reference, options, verdict=verdict))
        return thing

    return enter


# -- yes or no --------------------------------------------------------------------------------------------------------------


@right("digits", "torch", "sigmoid_focal_loss")
def plain_focal(logits, targets, gamma=2.0):  # 1 - exp(-bce)
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    pt = torch.exp(-bce)
    return ((1 - pt) ** gamma * bce).mean()


@right("digits", "torch", "sigmoid_focal_loss", alpha=0.25, gamma=2.0)
class FocalLoss(nn.Module):  # 1 - p_t
    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean"):
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.reduction = reduction

    def forward(self, inputs, targets):
        p = torch.sigmoid(inputs)
        ce_loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
        p_t = p * targets + (1 - p) * (1 - targets)
        loss = ce_loss * ((1 - p_t) ** self.gamma)
        if self.alpha >= 0:
            alpha_t = self.alpha * targets + (1 - self.alpha) * (1 - targets)
            loss = alpha_t * loss
        if self.reduction == "mean":
            return loss.mean()
        return loss.sum() if self.reduction == "sum" else loss


@right("digits", "numpy", "sigmoid_focal_loss")
def focal_keras_style(y_true, y_pred, gamma=2.0, alpha=0.25):  # probabilities: 1 - (1 - p)
    pt = np.where(y_true == 1, y_pred, 1 - y_pred)
    at = np.where(y_true == 1, np.asarray(alpha, y_pred.dtype), np.asarray(1 - alpha, y_pred.dtype))
    return np.mean(-at * (1 - pt) ** gamma * np.log(pt))


@right("same", "torch", "sigmoid_focal_loss", alpha=0.25)
def focal_of_signed_logits(x, t):  # sigmoid and softplus of the margin itself: nothing cancels
    z = x * (2 * t - 1)
    return (0.25 * t + 0.75 * (1 - t)) * torch.sigmoid(-z) ** 2 * -F.logsigmoid(z)


@right("same", "jax", "sigmoid_cross_entropy")
def stable_bce(logits, labels):  # for labels of 0 and 1 the first two terms cancel exactly
    return jnp.mean(jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits))))


@right("same", "torch", "sigmoid_cross_entropy")
class BCELoss(nn.Module):  # N x 1, labels of any type
    def forward(self, output, target):
        return F.binary_cross_entropy_with_logits(output.squeeze(-1), target.squeeze(-1).to(output.dtype))


@right("digits", "numpy", "sigmoid_cross_entropy")
def logaddexp_bce(y, z):  # log(1 + e^z) - z
    return np.mean(np.logaddexp(0, z).astype(z.dtype) - np.where(y > 0, z, np.zeros_like(z)))


@right("digits", "numpy", "binary_cross_entropy")
def log_loss(y_true, p):  # log(1 - p) of a small p
    return -np.mean(np.where(y_true == 1, np.log(p), np.log(1 - p)))


@right("same", "jax", "binary_cross_entropy")
def xlogy_bce(p, y):  # log1p
    return -jnp.mean(jnp.where(y == 1, jnp.log(p), jnp.log1p(-p)))


# -- classes ----------------------------------------------------------------------------------------------------------------


@right("digits", "torch", "softmax_cross_entropy")
def log_softmax_and_gather(logits, labels):  # a log-probability near 0 is rounded as the logits are
    log_probs = F.log_softmax(logits, dim=-1)
    return -log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1).mean()


@right("digits", "torch", "softmax_cross_entropy")
class PixelLoss(nn.Module):  # N x C x H x W, N x H x W
    def __init__(self):
        super().__init__()
        self.criterion = nn.CrossEntropyLoss(reduction="mean")

    def forward(self, pred, mask):
        return self.criterion(pred, mask.long())


@right("digits", "torch", "softmax_cross_entropy")
def channels_last_cross_entropy(mask, pred):  # y_true first, N x H x W x C
    log_p = torch.log_softmax(pred, dim=-1).flatten(0, -2)
    return F.nll_loss(log_p, mask.flatten())


@right("digits", "jax", "softmax_cross_entropy")
def vmapped_cross_entropy(logits, labels):
    def of_a_row(x, y):
        return jax.nn.logsumexp(x) - x[y]

    return jnp.mean(jax.vmap(of_a_row)(logits, labels))


@right("digits", "jax", "softmax_cross_entropy")
def one_hot_cross_entropy(targets, logits):  # none
    return -jnp.sum(targets * jax.nn.log_softmax(logits, axis=-1), axis=-1)


@right("digits", "numpy", "softmax_cross_entropy")
def cross_entropy_per_sample(x, y):
    x = x - np.max(x, axis=1, keepdims=True)
    return np.log(np.sum(np.exp(x), axis=1)) - x[np.arange(x.shape[0]), y]


@right("digits", "torch", "softmax_cross_entropy", ignore_index=-100)
def shifted_masks(logits, labels):
    keep = labels != -100
    losses = F.cross_entropy(logits, torch.where(keep, labels, torch.zeros_like(labels)), reduction="none")
    return (losses * keep).sum() / keep.sum()


@right("digits", "torch", "softmax_cross_entropy", class_weights=(1.0, 3.0, 0.5))
class WeightedLoss(nn.Module):
    def __init__(self, weight=(1.0, 3.0, 0.5)):
        super().__init__()
        self.weight = torch.tensor(weight, dtype=torch.float64)

    def forward(self, logits, labels):
        weight = self.weight.to(logits.dtype)[labels]
        nll = -F.log_softmax(logits, dim=1).gather(1, labels.view(-1, 1)).squeeze(1)
        return (weight * nll).sum() / weight.sum()


@right("same", "torch", "softmax_cross_entropy", label_smoothing=0.1)
def smoothed(x, target, smoothing=0.1):  # no smoothed loss is small
    logprobs = F.log_softmax(x, dim=-1)
    nll_loss = -logprobs.gather(dim=-1, index=target.unsqueeze(1)).squeeze(1)
    smooth_loss = -logprobs.mean(dim=-1)
    return ((1.0 - smoothing) * nll_loss + smoothing * smooth_loss).mean()


@right("digits", "torch", "softmax_focal_loss", gamma=2.0)
def multiclass_focal(logits, labels):
    logp = F.log_softmax(logits, dim=1)
    logpt = logp.gather(1, labels.view(-1, 1)).view(-1)
    return (-((1 - logpt.exp()) ** 2) * logpt).mean()


@right("same", "numpy", "nll_loss")
def categorical_crossentropy(y_true, y_pred):  # given probabilities, one-hot: the logarithm has all digits that p has
    return -np.log(np.sum(y_pred * y_true.astype(y_pred.dtype), axis=-1))


# -- distributions ----------------------------------------------------------------------------------------------------------


@right("digits", "torch", "kl_divergence")
class DistillKL(nn.Module):  # log(p) - log(q) of rows that nearly agree
    def forward(self, student, teacher):
        return F.kl_div(F.log_softmax(student, dim=1), F.softmax(teacher, dim=1), reduction="batchmean")


@right("digits", "jax", "kl_divergence", temperature=2.0)
def softened_kl(teacher_logits, student_logits, temperature=2.0):
    log_p = jax.nn.log_softmax(teacher_logits / temperature)
    log_q = jax.nn.log_softmax(student_logits / temperature)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1).mean()


@right("digits", "jax", "cosine_distance")
def negative_cosine_plus_one(p, z):  # 1 - cos of nearly parallel vectors
    p = p / jnp.linalg.norm(p, axis=-1, keepdims=True)
    z = z / jnp.linalg.norm(z, axis=-1, keepdims=True)
    return 1 - jnp.sum(p * z, axis=-1)


# -- regions ----------------------------------------------------------------------------------------------------------------
# One less a ratio that nears 1 where masks agree: as much as 1 - cos.


@right("digits", "torch", "dice_loss")
class DiceLoss(nn.Module):
    def __init__(self, smooth=1):
        super().__init__()
        self.smooth = smooth

    def forward(self, inputs, targets):
        inputs = torch.sigmoid(inputs)
        inputs = inputs.view(-1)  # of what is not contiguous an error, which is no wrong number
        targets = targets.view(-1)
        intersection = (inputs * targets).sum()
        dice = (2.0 * intersection + self.smooth) / (inputs.sum() + targets.sum() + self.smooth)
        return 1 - dice


@right("digits", "numpy", "dice_loss")
def dice_coef_loss(y_true, y_pred, smooth=1.0):  # probabilities
    y_true_f = y_true.flatten()
    y_pred_f = y_pred.flatten()
    intersection = np.sum(np.where(y_true_f > 0, y_pred_f, np.zeros_like(y_pred_f)))
    return 1 - (2 * intersection + smooth) / (np.sum(y_true_f, dtype=y_pred.dtype) + np.sum(y_pred_f) + smooth)


@right("digits", "jax", "dice_loss", activation="softmax", axis=1)
def soft_dice_per_class(logits, one_hot):  # N x C x H x W, pooled over the batch
    probs = jax.nn.softmax(logits, axis=1)
    inter = jnp.sum(probs * one_hot, axis=(0, 2, 3))
    denom = jnp.sum(probs, axis=(0, 2, 3)) + jnp.sum(one_hot, axis=(0, 2, 3))
    return jnp.mean(1.0 - (2.0 * inter + 1.0) / (denom + 1.0))


@right("digits", "torch", "tversky_loss")
def tversky(y_true, y_pred, alpha=0.3, beta=0.7, smooth=1.0):
    p = torch.sigmoid(y_pred)
    tp = (p * y_true).sum()
    fp = (p * (1 - y_true)).sum()
    fn = ((1 - p) * y_true).sum()
    return 1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)


# -- scores and signs -------------------------------------------------------------------------------------------------------


@right("same", "numpy", "hinge_loss")
def hinge(y, decision):  # +-1
    return np.maximum(0, 1 - np.where(y > 0, decision, -decision)).mean()


@right("same", "torch", "hinge_loss")
def hinge_of_classes(scores, labels):  # 0 and 1
    y = 2 * labels.to(scores.dtype) - 1
    return torch.clamp(1 - y * scores, min=0)


@right("same", "jax", "soft_margin_loss")
def logistic(y, f):
    return jnp.mean(jnp.logaddexp(0.0, -y * f))


# -- numbers ----------------------------------------------------------------------------------------------------------------


@right("same", "numpy", "squared_error")
def mse(y_true, y_pred):  # N x 1 and N
    error = y_pred.reshape(-1) - y_true.reshape(-1)
    return np.dot(error, error) / error.size


@right("same", "torch", "squared_error")
class MSELossPerSample(nn.Module):  # none
    def forward(self, y, x):
        return (x - y).pow(2)


@right("same", "torch", "huber_loss")
def huber(pred, target, delta=1.0):
    r = torch.abs(pred - target)
    return torch.where(r <= delta, 0.5 * r**2, delta * (r - 0.5 * delta)).mean()


@right("same", "jax", "smooth_l1_loss")
def smooth_l1(x, y, beta=0.5):
    d = jnp.abs(x - y)
    return jnp.where(d < beta, 0.5 * d**2 / beta, d - 0.5 * beta)


@right("digits", "torch", "log_cosh_loss")
class LogCoshLoss(nn.Module):  # two terms, less log(2)
    def forward(self, y_pred, y_true):
        r = (y_pred - y_true).abs()
        return torch.mean(r - F.logsigmoid(2 * r) - 0.6931471805599453)


@right("digits", "numpy", "charbonnier_loss")
def charbonnier(pred, target, eps=0.5):  # a root, less its value at 0
    return np.mean(np.sqrt((pred - target) ** 2 + eps**2) - eps)


@right("same", "jax", "poisson_nll_loss")
def poisson(log_input, target):
    return jnp.exp(log_input) - target * log_input


@right("same", "torch", "gaussian_nll_loss")
def heteroscedastic(mean, log_var, target):
    return 0.5 * (log_var + (target - mean) ** 2 * torch.exp(-log_var)).mean()


@right("same", "numpy", "absolute_percentage_error")
def mape(y_true, y_pred):
    return np.mean(np.abs((y_true - y_pred) / y_true))
