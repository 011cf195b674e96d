"""Loss functions for every array library.

Written once against the Python array API standard, dispatched to NumPy, PyTorch, JAX, CuPy and Dask, with analytic gradients.
"""

from .core.loss import Loss, loss
from .core.parts import Parts
from .losses.binary import binary_cross_entropy, sigmoid_cross_entropy, sigmoid_focal_loss
from .losses.multiclass import cross_entropy, nll_loss, one_hot, softmax_cross_entropy, softmax_focal_loss
from .losses.regression import gaussian_nll_loss, huber_loss, squared_error

__version__ = "0.1.0"

__all__ = [
    "Loss",
    "Parts",
    "binary_cross_entropy",
    "cross_entropy",
    "gaussian_nll_loss",
    "huber_loss",
    "loss",
    "nll_loss",
    "one_hot",
    "sigmoid_cross_entropy",
    "sigmoid_focal_loss",
    "softmax_cross_entropy",
    "softmax_focal_loss",
    "squared_error",
]
