"""Public functions of other packages, and the calls of ours that replace them; the first is the simplest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import kornia.losses as kornia
import monai.losses as monai
import numpy as np
import optax
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn import metrics
from torch import nn

from .ports import Call, Public, instance_of

PUBLIC: list[Public] = []


def call(loss: str, **options: Any) -> Call:
    return loss, options


def entry(library: str, name: str, function: Callable[..., Any], *calls: Call, factor: float = 1.0, unknown: str = "") -> None:
    PUBLIC.append(Public(name, library, function, calls, factor, unknown))


def public(library: str, *calls: Call, factor: float = 1.0) -> Callable[[Any], Any]:
    """The same for what is written out below."""

    def enter(thing: Any) -> Any:
        entry(library, thing.__name__, instance_of(thing), *calls, factor=factor)
        return thing

    return enter


# -- torch.nn.functional ----------------------------------------------------------------------------------------------------

HUBER = call("huber_loss"), call("smooth_l1_loss")  # of delta = 1 and beta = 1 they are one
KL_OF_PROBS = call("kl_divergence", given="log_probs", targets_given="probs")

entry("torch", "F.binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits, call("sigmoid_cross_entropy"))
entry("torch", "F.binary_cross_entropy", F.binary_cross_entropy, call("binary_cross_entropy"))
entry("torch", "F.cross_entropy", F.cross_entropy, call("softmax_cross_entropy"))
entry("torch", "F.nll_loss", F.nll_loss, call("nll_loss"))
entry("torch", "F.mse_loss", F.mse_loss, call("squared_error"))
entry("torch", "F.l1_loss", F.l1_loss, call("absolute_error"))
entry("torch", "F.smooth_l1_loss", F.smooth_l1_loss, *HUBER)
entry("torch", "F.huber_loss", F.huber_loss, *HUBER)
entry("torch", "F.poisson_nll_loss", F.poisson_nll_loss, call("poisson_nll_loss"))
entry("torch", "F.soft_margin_loss", F.soft_margin_loss, call("soft_margin_loss"))
entry("torch", "F.hinge_embedding_loss", F.hinge_embedding_loss, call("hinge_embedding_loss"))
entry("torch", "F.multi_margin_loss", F.multi_margin_loss, call("multi_margin_loss"))
entry("torch", "F.multilabel_margin_loss", F.multilabel_margin_loss, call("multilabel_margin_loss"))
entry(
    "torch",
    "F.multilabel_soft_margin_loss",
    F.multilabel_soft_margin_loss,
    call("multilabel_soft_margin_loss"),
    call("sigmoid_cross_entropy"),
)
entry("torch", "F.margin_ranking_loss", F.margin_ranking_loss, call("margin_ranking_loss"))
entry("torch", "F.cosine_embedding_loss", F.cosine_embedding_loss, call("cosine_embedding_loss"))
entry("torch", "F.triplet_margin_loss", F.triplet_margin_loss, call("triplet_margin_loss", eps=1e-6))

# -- torch.nn ---------------------------------------------------------------------------------------------------------------

entry("torch", "nn.BCEWithLogitsLoss", nn.BCEWithLogitsLoss(), call("sigmoid_cross_entropy"))
entry(
    "torch",
    "nn.BCEWithLogitsLoss(pos_weight)",
    nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0)),
    call("sigmoid_cross_entropy", pos_weight=3.0),
)
entry("torch", "nn.CrossEntropyLoss", nn.CrossEntropyLoss(), call("softmax_cross_entropy"))
entry(
    "torch",
    "nn.CrossEntropyLoss(label_smoothing)",
    nn.CrossEntropyLoss(label_smoothing=0.1),
    call("softmax_cross_entropy", label_smoothing=0.1),
)
entry("torch", "nn.NLLLoss(none)", nn.NLLLoss(reduction="none"), call("nll_loss"))
entry("torch", "nn.MSELoss(sum)", nn.MSELoss(reduction="sum"), call("squared_error", reduction="sum"))
entry("torch", "nn.L1Loss", nn.L1Loss(), call("absolute_error"))
entry("torch", "nn.SmoothL1Loss(beta)", nn.SmoothL1Loss(beta=0.5), call("smooth_l1_loss", beta=0.5))
entry("torch", "nn.HuberLoss(delta)", nn.HuberLoss(delta=2.0), call("huber_loss", delta=2.0))
entry("torch", "nn.KLDivLoss(batchmean)", nn.KLDivLoss(reduction="batchmean"), KL_OF_PROBS)
entry(
    "torch",
    "nn.KLDivLoss(none, log_target)",
    nn.KLDivLoss(reduction="none", log_target=True),
    call("kl_divergence", given="log_probs", targets_given="log_probs", elementwise=True),
)
entry("torch", "nn.PoissonNLLLoss(rate)", nn.PoissonNLLLoss(log_input=False, eps=0.0), call("poisson_nll_loss", given="rate"))
entry("torch", "nn.HingeEmbeddingLoss(margin)", nn.HingeEmbeddingLoss(margin=2.0), call("hinge_embedding_loss", margin=2.0))
entry("torch", "nn.MultiMarginLoss(p=2)", nn.MultiMarginLoss(p=2), call("multi_margin_loss", p=2))
entry("torch", "nn.CosineEmbeddingLoss(margin)", nn.CosineEmbeddingLoss(margin=0.25), call("cosine_embedding_loss", margin=0.25))


@public("torch", call("gaussian_nll_loss"))
def gaussian_nll_loss(mean, variance, targets):
    return F.gaussian_nll_loss(mean, targets, variance, eps=0.0)


# -- optax ------------------------------------------------------------------------------------------------------------------

entry("jax", "optax.sigmoid_binary_cross_entropy", optax.losses.sigmoid_binary_cross_entropy, call("sigmoid_cross_entropy"))
entry("jax", "optax.sigmoid_focal_loss", optax.losses.sigmoid_focal_loss, call("sigmoid_focal_loss"))
entry("jax", "optax.softmax_cross_entropy", optax.losses.softmax_cross_entropy, call("softmax_cross_entropy"))
entry(
    "jax",
    "optax.softmax_cross_entropy_with_integer_labels",
    optax.losses.softmax_cross_entropy_with_integer_labels,
    call("softmax_cross_entropy"),
)
entry("jax", "optax.squared_error", optax.losses.squared_error, call("squared_error"))
entry("jax", "optax.l2_loss", optax.losses.l2_loss, call("squared_error"), factor=0.5)
entry("jax", "optax.huber_loss", optax.losses.huber_loss, *HUBER)
entry("jax", "optax.log_cosh", optax.losses.log_cosh, call("log_cosh_loss"))
entry("jax", "optax.hinge_loss", optax.losses.hinge_loss, call("hinge_loss"))
entry("jax", "optax.perceptron_loss", optax.losses.perceptron_loss, call("perceptron_loss"))
entry("jax", "optax.sparsemax_loss", optax.losses.sparsemax_loss, call("smooth_hinge_loss", smoothing=2.0))
entry("jax", "optax.multiclass_hinge_loss", optax.losses.multiclass_hinge_loss, call("multiclass_hinge_loss"))
entry("jax", "optax.multiclass_perceptron_loss", optax.losses.multiclass_perceptron_loss, call("multiclass_perceptron_loss"))
entry("jax", "optax.multiclass_sparsemax_loss", optax.losses.multiclass_sparsemax_loss, call("sparsemax_loss"))
entry("jax", "optax.poly_loss_cross_entropy", optax.losses.poly_loss_cross_entropy, call("poly1_cross_entropy"))
entry("jax", "optax.kl_divergence", optax.losses.kl_divergence, KL_OF_PROBS)
entry(
    "jax",
    "optax.kl_divergence_with_log_targets",
    optax.losses.kl_divergence_with_log_targets,
    call("kl_divergence", given="log_probs", targets_given="log_probs"),
)
entry(
    "jax",
    "optax.convex_kl_divergence",
    optax.losses.convex_kl_divergence,
    call("kl_divergence", given="log_probs", targets_given="probs", generalized=True),
)
entry("jax", "optax.cosine_distance", optax.losses.cosine_distance, call("cosine_distance"))
entry("jax", "optax.triplet_margin_loss", partial(optax.losses.triplet_margin_loss, eps=0.0), call("triplet_margin_loss"))
entry(
    "jax",
    "optax.binary_dice_loss",
    optax.losses.binary_dice_loss,
    call("dice_loss", activation="sigmoid", smooth=2.0, pool_axes=(1, 2, 3)),
    call("tversky_loss", activation="sigmoid", alpha=0.5, beta=0.5, pool_axes=(1, 2, 3)),
)

# -- MONAI and kornia -------------------------------------------------------------------------------------------------------

entry(
    "torch",
    "monai.DiceLoss(sigmoid)",
    monai.DiceLoss(sigmoid=True),
    call("dice_loss", activation="sigmoid", smooth=1e-5, axis=1, pool_axes=(2, 3)),
)
entry(
    "torch",
    "monai.DiceLoss(softmax, batch)",
    monai.DiceLoss(softmax=True, batch=True),
    call("dice_loss", activation="softmax", smooth=1e-5, axis=1),
)
entry(
    "torch",
    "monai.DiceLoss(jaccard)",
    monai.DiceLoss(sigmoid=True, jaccard=True, batch=True),
    call("jaccard_loss", activation="sigmoid", smooth=5e-6, axis=1),
)
entry(
    "torch",
    "monai.DiceLoss(squared_pred)",
    monai.DiceLoss(squared_pred=True, batch=True),
    call("dice_loss", activation=None, smooth=1e-5, squared=True, axis=1),
)
entry(
    "torch",
    "monai.TverskyLoss",
    monai.TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, batch=True),
    call("tversky_loss", activation="sigmoid", alpha=0.3, beta=0.7, smooth=1e-5, axis=1),
)
entry(
    "torch",
    "monai.GeneralizedDiceLoss",
    monai.GeneralizedDiceLoss(softmax=True, batch=True, smooth_nr=0.0, smooth_dr=0.0),
    call("generalized_dice_loss", activation="softmax", smooth=0.0, axis=1),
)
entry("torch", "monai.FocalLoss", monai.FocalLoss(), call("sigmoid_focal_loss"))
entry("torch", "monai.FocalLoss(alpha)", monai.FocalLoss(alpha=0.25), call("sigmoid_focal_loss", alpha=0.25))
entry("torch", "kornia.binary_focal_loss_with_logits", kornia.binary_focal_loss_with_logits, call("sigmoid_focal_loss", alpha=0.25))
entry("torch", "kornia.FocalLoss", kornia.FocalLoss(alpha=None, gamma=2.0, reduction="sum"), call("softmax_focal_loss", reduction="sum"))
entry("torch", "kornia.charbonnier_loss", kornia.charbonnier_loss, call("charbonnier_loss"), call("pseudo_huber_loss"))
entry("torch", "kornia.cauchy_loss", kornia.cauchy_loss, call("cauchy_loss"))
entry("torch", "kornia.welsch_loss", kornia.welsch_loss, call("welsch_loss"))
entry("torch", "kornia.geman_mcclure_loss", kornia.geman_mcclure_loss, call("geman_mcclure_loss"))
entry(
    "torch",
    "kornia.dice_loss",
    kornia.dice_loss,
    call("dice_loss", activation="softmax", smooth=0.0, axis=1, pool_axes=(1, 2, 3)),
    call("dice_loss", activation="softmax", smooth=1e-8, axis=1, pool_axes=(1, 2, 3)),
)
entry(
    "torch",
    "kornia.DiceLoss(macro)",
    kornia.DiceLoss(average="macro", eps=0.0),
    call("dice_loss", activation="softmax", smooth=0.0, axis=1, pool_axes=(2, 3)),
    unknown="of a class that a sample lacks it has another value than the loss, and some samples lack one",
)

# -- scikit-learn -----------------------------------------------------------------------------------------------------------


@public("numpy", call("binary_cross_entropy"))
def sklearn_log_loss(y_true, y_prob):
    return metrics.log_loss(y_true.ravel().astype(int), y_prob.ravel(), labels=[0, 1])


@public("numpy", call("nll_loss", given="probs"))
def sklearn_log_loss_of_classes(y_true, y_prob):
    return metrics.log_loss(y_true, y_prob, labels=np.arange(y_prob.shape[1]))


@public("numpy", call("squared_error"))
def sklearn_mean_squared_error(y_true, y_pred):
    return metrics.mean_squared_error(y_true.ravel(), y_pred.ravel())


@public("numpy", call("absolute_error"))
def sklearn_mean_absolute_error(y_true, y_pred):
    return metrics.mean_absolute_error(y_true.ravel(), y_pred.ravel())


@public("numpy", call("squared_log_error"))
def sklearn_mean_squared_log_error(y_true, y_pred):
    return metrics.mean_squared_log_error(y_true.ravel(), y_pred.ravel())


@public("numpy", call("absolute_percentage_error"))
def sklearn_mean_absolute_percentage_error(y_true, y_pred):
    return metrics.mean_absolute_percentage_error(y_true.ravel(), y_pred.ravel())


@public("numpy", call("hinge_loss"))
def sklearn_hinge_loss(y_true, decision):
    return metrics.hinge_loss(y_true.ravel(), decision.ravel(), labels=[-1, 1])


@public("numpy", call("squared_error"))
def sklearn_brier_score(y_true, y_prob):
    return metrics.brier_score_loss(y_true.ravel().astype(int), y_prob.ravel(), pos_label=1, labels=[0, 1])


@public("numpy", call("absolute_error"), factor=0.5)
def sklearn_pinball_loss(y_true, y_pred):
    return metrics.mean_pinball_loss(y_true.ravel(), y_pred.ravel(), alpha=0.5)


# -- written by hand --------------------------------------------------------------------------------------------------------


@public("torch", call("softmax_cross_entropy"))
def gathered_log_softmax(x, y):
    return -x.log_softmax(-1).gather(-1, y[..., None])[..., 0].mean()


@public("torch", call("sigmoid_focal_loss", alpha=0.25, gamma=1.5))
def torchvision_style_focal(inputs, targets, alpha=0.25, gamma=1.5, reduction="none"):
    p = torch.sigmoid(inputs)
    ce = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    p_t = p * targets + (1 - p) * (1 - targets)
    return (alpha * targets + (1 - alpha) * (1 - targets)) * ce * (1 - p_t) ** gamma


@public("torch", call("softmax_focal_loss", gamma=3.0))
def multiclass_focal(x, y):
    ce = F.cross_entropy(x, y, reduction="none")
    return ((1 - torch.exp(-ce)) ** 3 * ce).mean()


@public("torch", call("dice_loss", activation="sigmoid"))
class KaggleDiceLoss(nn.Module):
    def forward(self, inputs, targets, smooth=1):
        inputs = torch.sigmoid(inputs).view(-1)
        targets = targets.view(-1)
        return 1 - (2.0 * (inputs * targets).sum() + smooth) / (inputs.sum() + targets.sum() + smooth)


@public("torch", call("jaccard_loss", activation="sigmoid"))
def kaggle_iou_loss(inputs, targets, smooth=1):
    inputs = torch.sigmoid(inputs).flatten()
    targets = targets.flatten()
    intersection = (inputs * targets).sum()
    return 1 - (intersection + smooth) / ((inputs + targets).sum() - intersection + smooth)


@public("torch", call("focal_tversky_loss", activation="sigmoid", alpha=0.3, beta=0.7, gamma=0.75))
def focal_tversky(y_true, y_pred):
    p, t = torch.sigmoid(y_pred).flatten(), y_true.flatten()
    tp, fp, fn = (p * t).sum(), (p * (1 - t)).sum(), ((1 - p) * t).sum()
    return (1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)) ** 0.75


@public("jax", call("kl_divergence", temperature=3.0))
def distillation(student, teacher):
    log_q = jax.nn.log_softmax(student / 3.0, axis=-1)
    log_p = jax.nn.log_softmax(teacher / 3.0, axis=-1)
    return jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))


@public("numpy", call("squared_hinge_loss"))
def squared_hinge(y_true, y_pred):
    return np.mean(np.square(np.maximum(1.0 - y_true * y_pred, 0.0)))


@public("numpy", call("exponential_loss"))
def adaboost(y, f):
    return np.exp(-y * f)


@public("jax", call("poisson_nll_loss", given="rate"))
def poisson_of_rates(y_true, y_pred):
    return jnp.mean(y_pred - y_true * jnp.log(y_pred))


@public("torch", call("generalized_cross_entropy", q=0.7))
class GCELoss(nn.Module):
    def __init__(self, q=0.7):
        super().__init__()
        self.q = q

    def forward(self, logits, targets):
        pt = F.softmax(logits, dim=-1)[torch.arange(logits.shape[0]), targets]
        return ((1 - pt**self.q) / self.q).mean()


@public("numpy", call("epsilon_insensitive_loss", epsilon=0.1))
def svr_loss(y, f, epsilon=0.1):
    return np.maximum(0, np.abs(y - f) - epsilon)


@public("torch", call("wing_loss", width=10.0, curvature=2.0))
class WingLoss(nn.Module):
    def __init__(self, omega=10.0, epsilon=2.0):
        super().__init__()
        self.omega = omega
        self.epsilon = epsilon

    def forward(self, pred, target):
        delta = (target - pred).abs()
        c = self.omega - self.omega * np.log(1 + self.omega / self.epsilon)
        return torch.where(delta < self.omega, self.omega * torch.log(1 + delta / self.epsilon), delta - c).mean()


@public("torch", call("softmax_cross_entropy", z_loss=1e-2))
def palm_loss(logits, labels):
    log_z = torch.logsumexp(logits, dim=-1)
    return (F.cross_entropy(logits, labels, reduction="none") + 1e-2 * log_z**2).mean()
