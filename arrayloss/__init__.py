"""Loss functions for every array library.

Written once against the Python array API standard, dispatched to NumPy, PyTorch, JAX, CuPy and Dask, with analytic gradients.
"""

from . import define, metrics
from .core.parts import Parts
from .engine.choice import use_engine
from .frontend.combination import Combination
from .frontend.loss import Loss, Properties, loss
from .frontend.outputs import Outputs, outputs
from .losses.binary import binary_cross_entropy, sigmoid_cross_entropy, sigmoid_focal_loss
from .losses.count import absolute_percentage_error, poisson_nll_loss, squared_log_error
from .losses.divergence import kl_divergence
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
from .losses.regression import absolute_error, gaussian_nll_loss, huber_loss, log_cosh_loss, smooth_l1_loss, squared_error
from .losses.segmentation import dice_loss, focal_tversky_loss, generalized_dice_loss, jaccard_loss, tversky_loss
from .one_hot import one_hot

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
    "cross_entropy",
    "define",
    "dice_loss",
    "exponential_loss",
    "focal_tversky_loss",
    "gaussian_nll_loss",
    "generalized_dice_loss",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "jaccard_loss",
    "kl_divergence",
    "log_cosh_loss",
    "loss",
    "margin_ranking_loss",
    "metrics",
    "nll_loss",
    "one_hot",
    "outputs",
    "perceptron_loss",
    "poisson_nll_loss",
    "sigmoid_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_hinge_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "squared_error",
    "squared_hinge_loss",
    "squared_log_error",
    "tversky_loss",
    "use_engine",
]
