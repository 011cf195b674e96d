"""Where a formula has a limit, its value and its gradient are that limit."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import torch

import arrayloss as al

INF = float("inf")


@pytest.mark.parametrize("size", [1, 2**18])
def test_an_infinite_residual_of_huber_was_nan(size: int) -> None:
    value, gradient = al.huber_loss.value_and_grad(np.full(size, INF), np.zeros(size), delta=2.0, reduction="sum")
    assert value == INF
    assert (gradient == 2.0).all()


@pytest.mark.parametrize("loss", [al.sigmoid_cross_entropy, al.sigmoid_focal_loss])
def test_the_slope_at_an_infinite_logit_was_nan(loss: Any) -> None:
    x, t = np.array([INF, -INF, INF, -INF]), np.array([1, 0, 0, 1])
    value, gradient = loss.value_and_grad(x, t, reduction="none")
    np.testing.assert_array_equal(value, [0, 0, INF, INF])
    np.testing.assert_array_equal(gradient, [0, 0, 1, -1])
    leaf = torch.tensor(x, requires_grad=True)
    loss(leaf, torch.tensor(t), reduction="sum").backward()
    np.testing.assert_array_equal(leaf.grad, gradient)


def test_probabilities_an_ulp_above_1_made_focal_tversky_nan() -> None:
    p = np.array([np.nextafter(np.float32(1), np.float32(2)), 0.0], dtype=np.float32)
    options = {"activation": None, "alpha": 0.5, "beta": 0.5, "smooth": 0.0}
    value, gradient = al.focal_tversky_loss.value_and_grad(p, np.array([1, 0]), **options)
    assert value == 0
    assert np.isfinite(gradient).all()


def test_the_gradient_for_confident_target_logits_lost_its_digits() -> None:
    x, t = [0.3, -0.2, 0.1], [30.0, 0.5, -0.25]
    target = torch.tensor([t], dtype=torch.float64, requires_grad=True)
    al.kl_divergence(torch.tensor([x], dtype=torch.float64), target).backward()
    with mpmath.workdps(50):
        (p, log_p), (_, log_q) = (_softmax(a) for a in (t, x))
        mean = mpmath.fsum(a * (b - c) for a, b, c in zip(p, log_p, log_q, strict=True))
        exact = [float(a * ((b - c) - mean)) for a, b, c in zip(p, log_p, log_q, strict=True)]
    np.testing.assert_allclose(target.grad[0], exact, rtol=1e-13)


def _softmax(a: list[float]) -> tuple[list[Any], list[Any]]:
    """Probabilities and their logarithms."""
    total = mpmath.fsum(mpmath.exp(v) for v in a)
    return [mpmath.exp(v) / total for v in a], [v - mpmath.log(total) for v in a]
