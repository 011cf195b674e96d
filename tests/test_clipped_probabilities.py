"""Probabilities that are divided by their sum and clipped, as Keras does: its formulas, written in PyTorch, which differentiates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arrayloss import (
    binary_cross_entropy,
    generalized_cross_entropy,
    nll_loss,
    sigmoid_focal_loss,
    softmax_cross_entropy,
    softmax_focal_loss,
)

torch = pytest.importorskip("torch")
rng = np.random.default_rng(0)
EPS, ALPHA = 1e-7, (0.25, 1.0, 2.0, 0.5)
P = rng.dirichlet(np.full(4, 0.4), 12) * rng.uniform(0.3, 3.0, (12, 1))
P[0], P[1] = (0, 0, 1, 0), (2, 1e-9, 0, 0)
UNITS, YES = rng.uniform(size=(3, 4)), rng.integers(0, 2, (3, 4)).astype(float)
UNITS[0], YES[0] = (0, 1, 1e-9, 1 - 1e-9), (1, 0, 1, 1)
LABELS, SOFT = np.arange(12) % 4, rng.dirichlet(np.ones(4), 12)
HOT = np.eye(4)[LABELS]
KERAS = {"given": "probs", "clip": EPS, "renormalize": True}


def shares(p: Any) -> Any:
    return (p / p.sum(-1, keepdim=True)).clip(EPS, 1 - EPS)


def smoothed(t: Any, e: float) -> Any:
    return t * (1 - e) + e / t.shape[-1]


def focal(p: Any, t: Any) -> Any:
    return (torch.tensor(ALPHA, dtype=p.dtype) * (1 - shares(p)) ** 1.5 * -t * shares(p).log()).sum(-1)


OPTIONS = {**KERAS, "alpha": ALPHA, "gamma": 1.5}
ROWS = {
    "labels": (nll_loss.bind(**KERAS), LABELS, lambda p: -(torch.tensor(HOT) * shares(p).log()).sum(-1)),
    "distribution": (nll_loss.bind(**KERAS), SOFT, lambda p: -(torch.tensor(SOFT) * shares(p).log()).sum(-1)),
    "smoothed": (
        nll_loss.bind(**KERAS, label_smoothing=0.1),
        LABELS,
        lambda p: -(smoothed(torch.tensor(HOT), 0.1) * shares(p).log()).sum(-1),
    ),
    "focal": (softmax_focal_loss.bind(**OPTIONS), LABELS, lambda p: focal(p, torch.tensor(HOT))),
    "focal smoothed": (
        softmax_focal_loss.bind(**OPTIONS, label_smoothing=0.1),
        SOFT,
        lambda p: focal(p, smoothed(torch.tensor(SOFT), 0.1)),
    ),
    "power": (generalized_cross_entropy.bind(**KERAS), LABELS, lambda p: ((1 - shares(p) ** 0.7) / 0.7 * torch.tensor(HOT)).sum(-1)),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_agree_with_keras(name: str) -> None:
    ours, t, peer = ROWS[name]
    p, q = (torch.tensor(P, requires_grad=True) for _ in range(2))
    value, expected = ours(p, torch.tensor(t), reduction="none"), peer(q)
    torch.testing.assert_close(value, expected, rtol=1e-14, atol=1e-14)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-13)
    _, gradient = ours.value_and_grad(P, t, reduction="sum")  # NumPy's, masked and in blocks
    np.testing.assert_allclose(gradient, q.grad, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_decisions_agree_with_keras(smoothing: float) -> None:
    t = YES * (1 - smoothing) + smoothing / 2
    x = torch.tensor(UNITS, requires_grad=True)
    inside = x.clip(EPS, 1 - EPS)
    expected = torch.nn.functional.binary_cross_entropy(inside, torch.tensor(t), reduction="none")
    expected.sum().backward()
    options = {"clip": EPS, "label_smoothing": smoothing}
    value, gradient = binary_cross_entropy.value_and_grad(UNITS, YES, reduction="none", **options)
    np.testing.assert_allclose(value, expected.detach(), rtol=1e-14)
    np.testing.assert_allclose(gradient, x.grad, rtol=1e-12)
    assert not gradient[0].any()
    miss = 1 - (t * UNITS + (1 - t) * (1 - UNITS))
    focal, expected = sigmoid_focal_loss(UNITS, YES, given="probs", reduction="none", **options), miss**2 * expected.detach().numpy()
    np.testing.assert_allclose(focal[1:], expected[1:], rtol=1e-13)
    np.testing.assert_allclose(focal[0], expected[0], rtol=2 * EPS, atol=2 * EPS)  # Keras fades by the square of what is not clipped


def test_second_derivatives_of_a_renormalized_row_are_those_of_differences() -> None:
    p = np.array([[0.5, 0.2, 0.9], [0.3, 0.3, 0.1]])
    options = {"given": "probs", "renormalize": True, "clip": 0.01}
    for loss, t in ((nll_loss, np.array([0, 2])), (nll_loss, p[::-1] / 2), (generalized_cross_entropy, np.array([1, 1]))):
        gradient, hess = loss.grad_and_hess(p, t, **options)
        step, differences = 1e-5, np.zeros_like(p)
        for c in range(3):
            h = step * np.eye(3)[c]
            differences[:, c] = (loss.grad_and_hess(p + h, t, **options)[0] - loss.grad_and_hess(p - h, t, **options)[0])[:, c] / (2 * step)
        np.testing.assert_allclose(hess, differences, rtol=1e-7)
        assert abs(np.sum(gradient * p, axis=-1)).max() < 1e-14  # a multiple of a row has the same loss


def test_a_nan_stays_and_masked_ones_do_not_matter() -> None:
    p = P.copy()
    p[2, 1] = np.nan
    for loss in (nll_loss, softmax_focal_loss, generalized_cross_entropy):
        for options in ({"clip": EPS}, KERAS):
            call = loss.bind(**{"given": "probs", **options})
            y = np.ones(12, int)
            value, gradient = call.value_and_grad(p, y, reduction="none")
            assert np.isnan([value[2], gradient[2, 1]]).all()
            assert np.isfinite(np.delete(value, 2)).all()
            value, gradient = call.value_and_grad(p, y, where=np.arange(12) != 2)
            assert np.isfinite(value)
            assert np.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [nll_loss, sigmoid_focal_loss, softmax_focal_loss, generalized_cross_entropy])
def test_only_probabilities_are_clipped(loss: Any) -> None:
    with pytest.raises(ValueError, match=r"for given='probs'; got clip=0\.1"):
        loss.bind(clip=0.1)
    if loss is not sigmoid_focal_loss:
        with pytest.raises(ValueError, match="renormalize=True with given='log"):
            loss(P, LABELS, renormalize=True)
        with pytest.raises(ValueError, match="renormalize must be False or True; got 1"):
            loss.bind(given="probs", renormalize=1)
    for clip in (0.5, -EPS, float("nan")):
        with pytest.raises(ValueError, match="clip must be"):
            loss.bind(given="probs", clip=clip)
    assert loss.bind(given="probs", clip=0.0)(P.clip(0.1, 1.0), YES.repeat(4, 0) if loss is sigmoid_focal_loss else LABELS) > 0


def test_smoothed_focal_losses_without_a_power_are_cross_entropies() -> None:
    x = rng.normal(size=(12, 4))
    for t in (LABELS, SOFT):
        expected = softmax_cross_entropy.value_and_grad(x, t, label_smoothing=0.2)
        for a, b in zip(softmax_focal_loss.value_and_grad(x, t, gamma=0.0, label_smoothing=0.2), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)
