"""Peers that are formulas rather than packages, as their users write them."""

from __future__ import annotations

from typing import Any

import numpy as np


def torchvision_sigmoid_focal(x: Any, t: Any, alpha: float = 0.25, gamma: float = 2.0) -> Any:
    """torchvision.ops.sigmoid_focal_loss with reduction="mean", operation by operation."""
    import torch.nn.functional as F  # noqa: N812

    p = x.sigmoid()
    ce = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    p_t = p * t + (1 - p) * (1 - t)
    loss = ce * ((1 - p_t) ** gamma)
    if alpha >= 0:
        loss = (alpha * t + (1 - alpha) * (1 - t)) * loss
    return loss.mean()


def numpy_bce(x: np.ndarray, t: np.ndarray) -> tuple[Any, np.ndarray]:
    p = 1 / (1 + np.exp(-x))
    loss = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
    return loss.mean(), (p - t) / x.dtype.type(x.size)


def numpy_cross_entropy(x: np.ndarray, t: np.ndarray) -> tuple[Any, np.ndarray]:
    rows = np.arange(len(t))
    d = x - x.max(axis=1, keepdims=True)
    e = np.exp(d)
    s = e.sum(axis=1, keepdims=True)
    loss = np.log(s[:, 0]) - d[rows, t]
    p = e / s
    p[rows, t] -= 1
    return loss.mean(), p / x.dtype.type(len(t))
