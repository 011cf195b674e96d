"""Classes over several axes: distributions over maps. The loss is that of the classes side by side in one axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayloss as al

from .helpers import BACKENDS

rng = np.random.default_rng(0)
X, T = rng.normal(size=(3, 4, 5, 2)), rng.dirichlet(np.ones(20), (3, 2)).reshape(3, 2, 4, 5).transpose(0, 2, 3, 1)
W, MASK = rng.uniform(size=(3, 2)), rng.uniform(size=(3, 1, 1, 2)) > 0.3
LOSSES = {
    "cross-entropy": al.softmax_cross_entropy,
    "changed": al.softmax_cross_entropy.bind(label_smoothing=0.1, z_loss=0.1, softcap=3.0, scale=2.0),
    "focal": al.softmax_focal_loss.bind(label_smoothing=0.1),
    "probabilities": al.nll_loss.bind(given="probs", clip=0.01, renormalize=True),
    "divergence": al.kl_divergence,
    "of log-probabilities": al.kl_divergence.bind(given="log_probs"),
}


def flat(a: Any) -> Any:
    return a.transpose(0, 3, 1, 2).reshape(3, 2, 20)


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_the_loss_of_the_classes_side_by_side(name: str) -> None:
    loss, x = LOSSES[name], np.exp(X) if name == "probabilities" else X
    masked = {"where": MASK, "weights": W}, {"where": MASK[:, 0, 0], "weights": W}
    for options, there in (({"reduction": "none"}, {"reduction": "none"}), masked):
        value, gradient = loss.value_and_grad(x, T, axis=(2, -3), **options)
        expected = loss.value_and_grad(flat(x), flat(T), axis=-1, **there)
        np.testing.assert_allclose(value, expected[0], rtol=1e-14)
        np.testing.assert_allclose(flat(gradient), expected[1], rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(loss(x, T, axis=(1, 2), reduce_axes=0), loss(flat(x), flat(T), axis=-1, reduce_axes=0), rtol=1e-14)
    np.testing.assert_allclose(loss.finish(loss.parts(x, T, axis=(1, 2))), loss(x, T, axis=(1, 2)), rtol=1e-14)
    if name != "focal":
        hess, expected = (loss.grad_and_hess(a, t, axis=axis)[1] for a, t, axis in ((x, T, (1, 2)), (flat(x), flat(T), -1)))
        np.testing.assert_allclose(flat(hess), expected, rtol=1e-14, atol=1e-16)


def test_every_library() -> None:
    expected = al.softmax_cross_entropy.value_and_grad(X, T, axis=(1, 2))
    for name in ("torch", "jax", "strict", "dask"):
        backend = BACKENDS[name]
        value, gradient = al.softmax_cross_entropy.value_and_grad(backend.array(X), backend.array(T), axis=(1, 2))
        np.testing.assert_allclose(backend.numpy(value), expected[0], rtol=1e-14)
        np.testing.assert_allclose(backend.numpy(gradient), expected[1], rtol=1e-12, atol=1e-16)


def test_optax() -> None:
    optax, jnp = pytest.importorskip("optax"), pytest.importorskip("jax.numpy")
    theirs = optax.losses.softmax_cross_entropy(jnp.asarray(X), jnp.asarray(T), axis=(1, 2))
    np.testing.assert_allclose(al.softmax_cross_entropy(X, T, axis=(1, 2), reduction="none"), theirs, rtol=1e-13)


def test_labels_and_numbers_of_classes_have_one_axis() -> None:
    loss = al.softmax_cross_entropy.bind(axis=(1, 2))
    with pytest.raises(ValueError, match=r"targets must have the shape of logits, \(3, 4, 5, 2\); got \(3, 2\)"):
        loss(X, np.zeros((3, 2), int))
    with pytest.raises(ValueError, match=r"axis must be one axis for labels, and .* one entry per class; got \(1, 2\)"):
        loss(X, T, class_weights=(1.0,) * 20)
    with pytest.raises(ValueError, match="axis must be one axis for labels"):
        al.generalized_cross_entropy(X, T, axis=(1, 2))
    with pytest.raises(ValueError, match="reduce_axes must not contain an axis of one element, 1"):
        loss(X, T, reduce_axes=1)
    with pytest.raises(ValueError, match="axis must name an axis once"):
        al.softmax_cross_entropy(X, T, axis=(1, -3))
