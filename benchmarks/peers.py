"""What losses are compared with: other packages, and formulas as their users write them. Libraries are imported when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[..., Any]


def functional(name: str, **options: Any) -> Function:
    """A loss of torch.nn.functional."""

    def peer(x: Any, t: Any, *more: Any) -> Any:
        import torch

        return getattr(torch.nn.functional, name)(x, t, *more, **options)

    return peer


def with_lengths(loss: Function) -> Function:
    """A loss of sequences in PyTorch, of frames T x N x C and labels N x S, all as long as the arrays are."""

    def of_all(x: Any, t: Any) -> Any:
        import torch

        frames, labels = (torch.full((len(t),), n, device=x.device) for n in (len(x), t.shape[1]))
        return loss(x, t, frames, labels)

    return of_all


def torchvision_focal(x: Any, t: Any, alpha: float = 0.25, gamma: float = 2.0) -> Any:
    """torchvision.ops.sigmoid_focal_loss with reduction="mean", operation by operation."""
    import torch

    p = x.sigmoid()
    ce = torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    p_t = p * t + (1 - p) * (1 - t)
    loss = ce * ((1 - p_t) ** gamma)
    if alpha >= 0:
        loss = (alpha * t + (1 - alpha) * (1 - t)) * loss
    return loss.mean()


def softmax_focal(x: Any, t: Any, gamma: float = 2.0) -> Any:
    """Focal loss of labels from PyTorch's cross-entropy."""
    import torch

    ce = torch.nn.functional.cross_entropy(x, t, reduction="none")
    return ((1 - (-ce).exp()) ** gamma * ce).mean()


def kornia_focal(x: Any, t: Any) -> Any:
    from kornia.losses import focal_loss

    return focal_loss(x, t, alpha=None, gamma=2.0, reduction="mean")


def torch_kl(x: Any, t: Any) -> Any:
    """Divergence of two rows of logits."""
    import torch

    F = torch.nn.functional  # noqa: N806
    return F.kl_div(F.log_softmax(x, 1), F.log_softmax(t, 1), log_target=True, reduction="batchmean")


class Monai:
    """A loss of MONAI's, made when it is first called."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name, self.options, self.loss = name, options, None

    def __call__(self, x: Any, t: Any) -> Any:
        if self.loss is None:
            import monai.losses

            self.loss = getattr(monai.losses, self.name)(**self.options)
        return self.loss(x, t if t.ndim == x.ndim else t[:, None])


def optax_cross_entropy(x: Any, t: Any) -> Any:
    import optax

    return optax.softmax_cross_entropy_with_integer_labels(x, t).mean()


def of_optax(name: str) -> Function:
    """The mean of a loss of optax."""

    def peer(x: Any, t: Any) -> Any:
        import optax

        return getattr(optax, name)(x, t).mean()

    return peer


def optax_focal(x: Any, t: Any) -> Any:
    import optax

    return optax.sigmoid_focal_loss(x, t, alpha=0.25, gamma=2.0).mean()


def numpy_bce(x: Any, t: Any) -> tuple[Any, Any]:
    p = 1 / (1 + np.exp(-x))
    loss = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
    return loss.mean(), (p - t) / x.dtype.type(x.size)


def numpy_cross_entropy(x: Any, t: Any) -> tuple[Any, Any]:
    rows = np.arange(len(t))
    d = x - x.max(axis=1, keepdims=True)
    e = np.exp(d)
    s = e.sum(axis=1, keepdims=True)
    loss = np.log(s[:, 0]) - d[rows, t]
    p = e / s
    p[rows, t] -= 1
    return loss.mean(), p / x.dtype.type(len(t))


def numpy_kl(x: Any, t: Any) -> tuple[Any, Any]:
    def log_softmax(a: Any) -> Any:
        d = a - a.max(axis=1, keepdims=True)
        return d - np.log(np.exp(d).sum(axis=1, keepdims=True))

    log_q, log_p = log_softmax(x), log_softmax(t)
    p = np.exp(log_p)
    return (p * (log_p - log_q)).sum() / len(x), (np.exp(log_q) - p) / x.dtype.type(len(x))


def numpy_binary_objective(x: Any, t: Any) -> tuple[Any, Any]:
    """Gradient and Hessian diagonal, as boosting takes them."""
    p = 1 / (1 + np.exp(-x))
    return p - t, p * (1 - p)


def numpy_softmax_objective(x: Any, t: Any) -> tuple[Any, Any]:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    g = p.copy()
    g[np.arange(len(t)), t] -= 1
    return g, p * (1 - p)


def sklearn_array_api(name: str, **options: Any) -> Function:
    """Losses of elements and their gradient by a loss of scikit-learn that is written on the array API."""
    made: dict[Any, Any] = {}  # by library: it keeps the targets of its first call as the integers and the masks that it needs

    def peer(x: Any, t: Any) -> tuple[Any, Any]:
        import sklearn._loss.loss

        if type(x) not in made:
            from array_api_compat import array_namespace

            made[type(x)] = getattr(sklearn._loss.loss, name)(xp=array_namespace(x), **options)
        with sklearn.config_context(array_api_dispatch=True):
            return made[type(x)].loss_gradient(t, x)

    return peer


def sklearn_bce(x: Any, t: Any) -> tuple[Any, Any]:
    """Compiled, on one thread."""
    from sklearn._loss import HalfBinomialLoss

    return HalfBinomialLoss().loss_gradient(t, x, n_threads=1)
