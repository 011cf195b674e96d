"""The same losses as others ship them, for figures beside ours. Nothing is imported before it is used."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, util
from typing import Any

import numpy as np

from arrayloss.check.accuracy import Batch, Measured, judge_all
from arrayloss.check.libraries import LIBRARIES

Array = Any


@dataclass(frozen=True)
class Peer:
    """One loss of another library: elementwise, or one number a row. Its gradient is its own library's autograd."""

    name: str
    loss: str
    kind: str  # of targets
    backend: str
    package: str
    function: Callable[..., Array]
    options: dict[str, Any]  # of ours

    def measure(self, batch: Batch) -> list[Measured]:
        """Errors of value and gradient; nothing where the batch is of another kind, or has other options."""
        problem = batch.problem
        if (problem.targets_kind, problem.options) != (self.kind, self.options):
            return []
        library = LIBRARIES[self.backend]
        with library.precision(batch.dtype), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            predictions = [library.array(p, batch.dtype) for p in problem.predictions]
            targets = library.array(problem.targets, None if self.kind == "labels" else batch.dtype)
            if self.backend == "numpy":
                value, *gradients = self.function(*predictions, targets)
            else:
                gradients = library.gradient(self.function, predictions, [targets])
                value = self.function(*predictions, targets)
            results = {"value": (library.numpy(value),), "grad": tuple(map(library.numpy, gradients))}
        return judge_all(batch, self.name, results)


def installed(loss: str) -> list[Peer]:
    """The peers of a loss whose package is there."""
    return [p for p in PEERS if p.loss == loss and util.find_spec(p.package) is not None]


PEERS: list[Peer] = []


def peer(name: str, loss: str, kind: str, *, backend: str = "torch", package: str = "", **options: Any) -> Callable[..., Any]:
    """Enter a peer of a loss with those options."""

    def enter(function: Callable[..., Array]) -> Callable[..., Array]:
        PEERS.append(Peer(name, loss, kind, backend, package or name, function, options))
        return function

    return enter


def _torch() -> Any:
    return import_module("torch.nn.functional")


def _optax() -> Any:
    return import_module("optax")


@peer("torch's", "sigmoid_cross_entropy", "binary", package="torch")
def _(x: Array, t: Array) -> Array:
    return _torch().binary_cross_entropy_with_logits(x, t, reduction="none")


@peer("torch's", "binary_cross_entropy", "binary", package="torch")
def _(p: Array, t: Array) -> Array:
    return _torch().binary_cross_entropy(p, t, reduction="none")


@peer("torchvision's", "sigmoid_focal_loss", "binary", package="torch")
def _(x: Array, t: Array) -> Array:
    # The formula of torchvision.ops.sigmoid_focal_loss with gamma = 2 and no alpha.
    p = x.sigmoid()
    miss = 1 - (p * t + (1 - p) * (1 - t))
    return _torch().binary_cross_entropy_with_logits(x, t, reduction="none") * miss**2


@peer("torch's", "softmax_cross_entropy", "labels", package="torch")
def _(x: Array, t: Array) -> Array:
    return _torch().cross_entropy(x, t, reduction="none")


@peer("torch's", "kl_divergence", "logits", package="torch")
def _(x: Array, t: Array) -> Array:
    log_p, log_q = _torch().log_softmax(t, -1), _torch().log_softmax(x, -1)
    return _torch().kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


@peer("torch's", "huber_loss", "real", package="torch")
def _(x: Array, t: Array) -> Array:
    return _torch().huber_loss(x, t, reduction="none")


@peer("torch's", "soft_margin_loss", "signs", package="torch")
def _(x: Array, t: Array) -> Array:
    return _torch().soft_margin_loss(x, t, reduction="none")


@peer("torch's", "gaussian_nll_loss", "real", package="torch")
def _(x: Array, v: Array, t: Array) -> Array:
    return _torch().gaussian_nll_loss(x, t, v, eps=1e-30, reduction="none")


@peer("kornia's", "sigmoid_focal_loss", "binary", package="kornia")
def _(x: Array, t: Array) -> Array:
    return import_module("kornia.losses").binary_focal_loss_with_logits(x[:, None], t[:, None], alpha=None, gamma=2.0, reduction="none")[
        :, 0
    ]


@peer("optax's", "sigmoid_cross_entropy", "binary", backend="jax", package="optax")
def _(x: Array, t: Array) -> Array:
    return _optax().sigmoid_binary_cross_entropy(x, t)


@peer("optax's", "sigmoid_focal_loss", "binary", backend="jax", package="optax")
def _(x: Array, t: Array) -> Array:
    return _optax().sigmoid_focal_loss(x, t, gamma=2.0)


@peer("optax's", "softmax_cross_entropy", "labels", backend="jax", package="optax")
def _(x: Array, t: Array) -> Array:
    return _optax().softmax_cross_entropy_with_integer_labels(x, t)


@peer("optax's", "kl_divergence", "logits", backend="jax", package="optax")
def _(x: Array, t: Array) -> Array:
    log_softmax = import_module("jax.nn").log_softmax
    return _optax().losses.kl_divergence_with_log_targets(log_softmax(x), log_softmax(t))


@peer("optax's", "log_cosh_loss", "real", backend="jax", package="optax")
def _(x: Array, t: Array) -> Array:
    return _optax().log_cosh(x, t)


@peer("sklearn's", "sigmoid_cross_entropy", "binary", backend="numpy", package="sklearn")
def _(x: Array, t: Array) -> tuple[Array, Array]:
    return import_module("sklearn._loss").HalfBinomialLoss().loss_gradient(t, x)


def _sklearn_array_api(name: str, **options: Any) -> Any:
    return getattr(import_module("sklearn._loss.loss"), name)(xp=import_module("array_api_compat.numpy"), **options).loss_gradient


@peer("sklearn's, array API", "sigmoid_cross_entropy", "binary", backend="numpy", package="sklearn")
def _(x: Array, t: Array) -> tuple[Array, Array]:
    return _sklearn_array_api("HalfBinomialLossArrayAPI")(t, x)


@peer("sklearn's, array API", "softmax_cross_entropy", "labels", backend="numpy", package="sklearn")
def _(x: Array, t: Array) -> tuple[Array, Array]:
    return _sklearn_array_api("HalfMultinomialLossArrayAPI", n_classes=x.shape[1])(t, x)


@peer("sklearn's, array API", "poisson_nll_loss", "counts", backend="numpy", package="sklearn", given="log_rate")
def _(x: Array, t: Array) -> tuple[Array, Array]:
    return _sklearn_array_api("HalfPoissonLossArrayAPI")(t, x)


@peer("sklearn's", "softmax_cross_entropy", "labels", backend="numpy", package="sklearn")
def _(x: Array, t: Array) -> tuple[Array, Array]:
    return import_module("sklearn._loss").HalfMultinomialLoss(n_classes=x.shape[1]).loss_gradient(t.astype(x.dtype), x)
