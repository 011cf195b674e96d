"""Loss functions for every array library.

Written once against the Python array API standard, dispatched to NumPy, PyTorch, JAX, CuPy and Dask, with analytic gradients.
`arrayloss.check` compares losses number by number, and `arrayloss.diagnose` says which loss a function is and what is different about it.
"""

from . import define, metrics
from .class_weights import class_balanced_weights, ldam_margins, logit_adjustment
from .core.parts import Parts
from .engine.choice import use_engine
from .fenchel_young import fenchel_young
from .frontend.combination import Combination
from .frontend.loss import Loss, Properties, loss
from .losses.binary import binary_cross_entropy, sigmoid_cross_entropy, sigmoid_focal_loss
from .losses.contrastive import circle_loss, ntxent_loss
from .losses.count import absolute_percentage_error, gamma_nll_loss, poisson_nll_loss, squared_log_error
from .losses.divergence import kl_divergence
from .losses.linear import linear_cross_entropy
from .losses.margin import (
    exponential_loss,
    hinge_embedding_loss,
    hinge_loss,
    margin_ranking_loss,
    perceptron_loss,
    smooth_hinge_loss,
    soft_margin_loss,
    squared_hinge_loss,
)
from .losses.multiclass import cross_entropy, nll_loss, softmax_cross_entropy, softmax_focal_loss
from .losses.multiclass_margin import (
    multi_margin_loss,
    multiclass_hinge_loss,
    multiclass_perceptron_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
)
from .losses.multiclass_variants import generalized_cross_entropy, poly1_cross_entropy
from .losses.ranking import ranking_softmax_loss
from .losses.regression import (
    absolute_error,
    epsilon_insensitive_loss,
    gaussian_nll_loss,
    huber_loss,
    log_cosh_loss,
    smooth_l1_loss,
    squared_error,
)
from .losses.robust import cauchy_loss, charbonnier_loss, geman_mcclure_loss, pseudo_huber_loss, welsch_loss, wing_loss
from .losses.segmentation import dice_loss, focal_tversky_loss, generalized_dice_loss, jaccard_loss, tversky_loss
from .losses.sequence import ctc_loss
from .losses.sparsemax import sparsemax_loss
from .losses.vectors import (
    cosine_distance,
    cosine_embedding_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from .one_hot import one_hot
from .outputs import Outputs, outputs
from .pairwise_distance import pairwise_distance
from .selections import hardest, length_mask, ordinal_levels

__version__ = "0.1.0"

__all__ = [
    "Combination",
    "Loss",
    "Outputs",
    "Parts",
    "Properties",
    "absolute_error",
    "absolute_percentage_error",
    "binary_cross_entropy",
    "cauchy_loss",
    "charbonnier_loss",
    "circle_loss",
    "class_balanced_weights",
    "cosine_distance",
    "cosine_embedding_loss",
    "cross_entropy",
    "ctc_loss",
    "define",
    "dice_loss",
    "epsilon_insensitive_loss",
    "exponential_loss",
    "fenchel_young",
    "focal_tversky_loss",
    "gamma_nll_loss",
    "gaussian_nll_loss",
    "geman_mcclure_loss",
    "generalized_cross_entropy",
    "generalized_dice_loss",
    "hardest",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "jaccard_loss",
    "kl_divergence",
    "ldam_margins",
    "length_mask",
    "linear_cross_entropy",
    "log_cosh_loss",
    "logit_adjustment",
    "loss",
    "margin_ranking_loss",
    "metrics",
    "multi_margin_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "ntxent_loss",
    "one_hot",
    "ordinal_levels",
    "outputs",
    "pairwise_distance",
    "perceptron_loss",
    "poisson_nll_loss",
    "poly1_cross_entropy",
    "pseudo_huber_loss",
    "ranking_softmax_loss",
    "sigmoid_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_hinge_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "sparsemax_loss",
    "squared_error",
    "squared_hinge_loss",
    "squared_log_error",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
    "tversky_loss",
    "use_engine",
    "welsch_loss",
    "wing_loss",
]
