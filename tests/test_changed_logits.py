"""Cross-entropies of capped, moved and stretched logits: the formulas of those who proposed them, in PyTorch, which differentiates them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from arrayloss import softmax_cross_entropy

rng = np.random.default_rng(0)
N, C = 6, 4
X, LABELS, SOFT = 3 * rng.normal(size=(N, C)), np.arange(N) % C, rng.dirichlet(np.ones(C), N)
COSINES = np.tanh(X)
COUNTS = np.array([100.0, 25.0, 10.0, 4.0])
WEIGHTS, PRIOR = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64), torch.tensor(np.log(COUNTS / COUNTS.sum()))
HOT = torch.eye(C, dtype=torch.float64)[torch.tensor(LABELS)]
LDAM = torch.tensor(0.5 * (COUNTS.min() / COUNTS) ** 0.25)
ALL = {"z_loss": 0.1, "softcap": 5.0, "logit_offsets": (0.5, -1.0, 0.0, 2.0), "label_margins": (0.1, 0.2, 0.0, 0.4), "scale": 1.5}


def softcapped(x: Any, t: Any) -> Any:
    return cross_entropy(30 * torch.tanh(x / 30), t, reduction="none", label_smoothing=0.1)


def with_z(x: Any, t: Any) -> Any:
    return cross_entropy(x, t, reduction="none", weight=WEIGHTS) + 1e-2 * WEIGHTS[t] * torch.logsumexp(x, -1) ** 2


PEERS = {
    "Gemma's softcap": (X, {"softcap": 30.0, "label_smoothing": 0.1}, softcapped),
    "PaLM's z": (X, {"z_loss": 1e-2, "class_weights": tuple(WEIGHTS.tolist())}, with_z),
    "balanced softmax": (X, {"logit_offsets": PRIOR.numpy()}, lambda x, t: cross_entropy(x + PRIOR, t, reduction="none")),
    "CosFace": (
        COSINES,
        {"label_margins": (0.35,) * C, "scale": 16.0},
        lambda x, t: cross_entropy(16 * (x - 0.35 * HOT), t, reduction="none"),
    ),
    "LDAM": (
        COSINES,
        {"label_margins": LDAM.numpy(), "scale": 30},
        lambda x, t: cross_entropy(30 * torch.where(HOT == 1, x - LDAM[t][:, None], x), t, reduction="none"),
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_peers(name: str) -> None:
    x, options, peer = PEERS[name]
    leaf = torch.tensor(x, requires_grad=True)
    expected = peer(leaf, torch.tensor(LABELS))
    expected.sum().backward()
    value, gradient = softmax_cross_entropy.value_and_grad(x, LABELS, reduction="none", **options)
    np.testing.assert_allclose(value, expected.detach(), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(gradient, leaf.grad, rtol=1e-11, atol=1e-14)


def changed(x: Any, t: Any, z_loss: Any, softcap: Any, logit_offsets: Any, label_margins: Any, scale: Any) -> Any:
    """Of distributions, in PyTorch."""
    x = scale * (softcap * torch.tanh(x / softcap) + logit_offsets - label_margins * t)
    return cross_entropy(x, t, reduction="none") + z_loss * torch.logsumexp(x, -1) ** 2


@pytest.mark.parametrize("t", [LABELS, SOFT], ids=["labels", "distribution"])
def test_all_changes_at_once_and_the_hessian_diagonal(t: Any) -> None:
    dense = torch.tensor(SOFT) if t.ndim == 2 else HOT
    arrays = {n: torch.tensor(v, dtype=torch.float64) for n, v in ALL.items()}
    gradient, hess = softmax_cross_entropy.grad_and_hess(X, t, **ALL)
    x = torch.tensor(X, requires_grad=True)
    expected = changed(x, dense, **arrays).sum()
    (slope,) = torch.autograd.grad(expected, x, create_graph=True)
    np.testing.assert_allclose(gradient, slope.detach(), rtol=1e-11)
    for c in range(C):
        (bend,) = torch.autograd.grad(slope[:, c].sum(), x, retain_graph=True)
        np.testing.assert_allclose(hess[:, c], bend[:, c], rtol=1e-10, atol=1e-13)
    axis_first = softmax_cross_entropy.value_and_grad(X.T, t if t.ndim == 1 else t.T, axis=0, reduction="sum", **ALL)
    np.testing.assert_allclose(axis_first[0], expected.detach(), rtol=1e-13)
    np.testing.assert_allclose(axis_first[1], gradient.T, rtol=1e-12)


@pytest.mark.parametrize("t", [pytest.param(LABELS, id="labels"), pytest.param(SOFT, id="distribution", marks=pytest.mark.exhaustive)])
def test_parameters_may_be_arrays_that_are_differentiated(t: Any) -> None:
    names = list(ALL)
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ALL.values()]

    def loss(x: Any, *values: Any) -> Any:
        return softmax_cross_entropy(x, torch.tensor(t[: len(x)]), **dict(zip(names, values, strict=True)))

    assert torch.autograd.gradcheck(loss, (torch.tensor(X[:2], requires_grad=True), *leaves))
    ours = torch.autograd.grad(loss(torch.tensor(X), *leaves), leaves)
    arrays = {n: jnp.asarray(v, dtype=jnp.float64) for n, v in ALL.items()}
    theirs = jax.jit(jax.grad(lambda arrays: softmax_cross_entropy(jnp.asarray(X), jnp.asarray(t), **arrays)))(arrays)
    for a, n in zip(ours, names, strict=True):
        np.testing.assert_allclose(a, theirs[n], rtol=1e-11)


def test_nothing_changes_where_the_options_are_left_alone() -> None:
    plain = softmax_cross_entropy._function(X, LABELS).operation
    for options in ({"z_loss": 0, "scale": 1}, {"z_loss": np.float64(0), "softcap": None, "scale": np.float32(1)}):
        assert softmax_cross_entropy._function(X, LABELS, **options).operation == plain
    assert softmax_cross_entropy._function(X, LABELS, scale=2.0).operation.kernel is not plain.kernel


def test_wrong_values() -> None:
    for name, value, text in (
        ("z_loss", -1.0, "z_loss must be at least 0"),
        ("softcap", 0.0, "softcap must be above 0"),
        ("scale", 0.0, "scale must be above 0"),
        ("scale", True, "scale must be a number"),
        ("logit_offsets", 1.0, "logit_offsets must have one entry per class"),
        ("label_margins", (1.0, 2.0), "label_margins must have one entry for each of the 4 classes"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            softmax_cross_entropy(X, LABELS, **{name: value})
