"""Logarithms and powers of overlaps: `log=` and `gamma=` of the Dice, Jaccard and Tversky losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from arrayloss import dice_loss, focal_tversky_loss, jaccard_loss, tversky_loss

PRICES = {"alpha": 0.3, "beta": 0.7}


@pytest.mark.parametrize("gamma", [1.0, 0.75, 2.0])
def test_logarithms_are_those_of_the_overlap(gamma: float) -> None:
    """segmentation_models_pytorch 0.6, log_loss=True: minus the logarithm of the score of each class, by its formula."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(2, 3, 4, 5)), requires_grad=True)
    t = torch.tensor(rng.integers(0, 3, (2, 4, 5)))
    p, hot = x.softmax(1), torch.nn.functional.one_hot(t, 3).movedim(-1, 1)
    shared, p_sum, t_sum = ((a * torch.ones_like(p)).sum((0, 2, 3)) for a in (p * hot, p, hot))
    options: Any = {"activation": "softmax", "axis": 1, "smooth": 0.5, "log": True, "gamma": gamma}
    for ours, score in (
        (dice_loss, (2 * shared + 0.5) / (p_sum + t_sum + 0.5)),
        (jaccard_loss, (shared + 0.5) / (p_sum + t_sum - shared + 0.5)),
        (tversky_loss.bind(**PRICES), (shared + 0.5) / (shared + 0.3 * (p_sum - shared) + 0.7 * (t_sum - shared) + 0.5)),
    ):
        pairs = ours(x, t, **options), ((-score.log()) ** gamma).mean()
        torch.testing.assert_close(*pairs, rtol=1e-12, atol=0)
        gradients = [torch.autograd.grad(v, x, retain_graph=True)[0] for v in pairs]
        torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-15)


def test_a_power_of_tversky_is_the_focal_one() -> None:
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(6, 4)), rng.integers(0, 2, (6, 4))
    options: Any = {"activation": "sigmoid", "gamma": 0.75, **PRICES}
    pairs = zip(tversky_loss.value_and_grad(x, t, **options), focal_tversky_loss.value_and_grad(x, t, **options), strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)


def test_a_near_perfect_overlap_keeps_its_digits() -> None:
    """-log(1 - loss) of a loss of 1e-20 is 0; and 1 - loss of one of 1 - 1e-20 is 0 too, whose logarithm is not infinite."""
    options: Any = {"activation": None, "smooth": 0.0, "log": True}
    p = np.array([1.0, 1e-20])
    np.testing.assert_allclose(jaccard_loss(p, np.array([1, 0]), **options), 1e-20, rtol=1e-15)
    value, gradient = jaccard_loss.value_and_grad(p, np.array([0, 1]), **options)
    np.testing.assert_allclose(value, 20 * np.log(10) + np.log(2), rtol=1e-15)
    np.testing.assert_allclose(gradient, [0.5, -1e20], rtol=1e-15)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("learns", [False, True])
def test_no_overlap_is_infinite_and_flat(gamma: float, learns: bool) -> None:
    """Of regions apart, and 0 of two that are empty; with a gamma that learns by PyTorch's own derivatives."""
    p = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([[0, 1, 0], [0, 0, 0]])
    power: Any = torch.tensor(gamma, dtype=torch.float64, requires_grad=True) if learns else gamma
    options: Any = {"activation": None, "axis": 0, "smooth": 0.0, "log": True, "gamma": power}
    losses = dice_loss(p, t, reduction="none", **options)
    assert losses.tolist() == [np.inf, 0]
    losses.sum().backward()
    assert not p.grad.any()
