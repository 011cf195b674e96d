"""Weights, offsets and margins of classes by their sizes, on every library, against figures of others."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import arrayloss as al

from .helpers import BACKENDS, Backend

COUNTS = np.array([900, 90, 9, 1])
# timm 1.0.31, compute_class_weights(COUNTS, 1000, method, power, beta): "effective_num", "inv_freq", "neg_pos"
TIMM: list[tuple[dict[str, Any], list[float]]] = [
    ({"method": "effective"}, [0.00599046005, 0.04129623249, 0.3966961205, 3.55601716042]),
    ({"method": "effective", "beta": 0.9}, [0.29341608286, 0.29343843460, 0.47898450494, 2.9341609478]),
    ({"method": "inverse"}, [0.00395647855, 0.03956478834, 0.39564788342, 3.56083083153]),
    ({"method": "inverse", "power": 0.5}, [0.09057503939, 0.28642341495, 0.90575039387, 2.71725106239]),
    ({"method": "negative/positive"}, [0.11111111194, 10.11111068726, 110.11111450195, 999.0]),
    ({"method": "negative/positive", "power": 0.5}, [0.33333334327, 3.17979741096, 10.49338436127, 31.60696220398]),
]
FUNCTIONS = [al.class_balanced_weights, al.logit_adjustment, al.ldam_margins]
every_backend = pytest.mark.parametrize("xp", [BACKENDS[name] for name in ("numpy", "torch", "strict", "dask")], ids=lambda b: b.name)


@pytest.mark.parametrize(("options", "expected"), TIMM, ids=str)
def test_weights_are_those_of_timm(options: dict[str, Any], expected: list[float]) -> None:
    np.testing.assert_allclose(al.class_balanced_weights(COUNTS, **options), expected, rtol=1e-7)  # timm rounds to float32


def test_weights_keep_their_digits() -> None:
    """1 - beta**n of a beta near 1 is as small as it is; the limits are equal weights and those of "inverse"."""
    weights = al.class_balanced_weights(COUNTS.astype(np.float32), beta=1 - 1e-9)
    np.testing.assert_allclose(weights, al.class_balanced_weights(COUNTS, method="inverse"), rtol=3e-6)
    np.testing.assert_array_equal(al.class_balanced_weights(COUNTS, beta=0), 1.0)
    np.testing.assert_allclose(
        al.class_balanced_weights(np.array([30.0, 5.0]), method="negative/positive", total=100), [70 / 30, 95 / 5], rtol=1e-15
    )


def test_offsets_and_margins() -> None:
    np.testing.assert_allclose(al.logit_adjustment(COUNTS, tau=2.0), [-0.210721031, -4.815891217, -9.421061403, -13.815510558], rtol=1e-8)
    np.testing.assert_allclose(np.exp(al.logit_adjustment(np.array([0.5, 0.3, 0.2]))), [0.5, 0.3, 0.2], rtol=1e-15)  # shares, too
    np.testing.assert_allclose(al.ldam_margins(np.array([1600, 625, 16]), largest=0.6), [0.6 / 10**0.5, 0.24, 0.6], rtol=1e-15)


def test_losses_take_them() -> None:
    x, t = np.random.default_rng(0).normal(size=(5, 4)), np.array([0, 1, 2, 3, 0])
    shares = COUNTS / COUNTS.sum()
    balanced = np.exp(x) * shares / np.sum(np.exp(x) * shares, axis=1, keepdims=True)
    ours = al.softmax_cross_entropy(x, t, logit_offsets=al.logit_adjustment(COUNTS), reduction="none")
    np.testing.assert_allclose(ours, -np.log(balanced[np.arange(5), t]), rtol=1e-13)
    moved = x - al.ldam_margins(COUNTS) * np.eye(4)[t]
    ours = al.softmax_cross_entropy(x, t, label_margins=al.ldam_margins(COUNTS), scale=30.0)
    np.testing.assert_allclose(ours, al.softmax_cross_entropy(30 * moved, t), rtol=1e-13)
    assert al.softmax_cross_entropy(x, t, class_weights=al.class_balanced_weights(COUNTS)) > 0


@every_backend
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_library(function: Any, xp: Backend) -> None:
    for counts, rtol in ((COUNTS, 1e-6), (COUNTS.astype(np.float64), 1e-14)):
        result = function(xp.array(counts))
        np.testing.assert_allclose(xp.numpy(result), function(COUNTS.astype(np.float64)), rtol=rtol)


def test_dtypes() -> None:
    assert al.ldam_margins(torch.tensor(COUNTS)).dtype == torch.float32
    assert al.ldam_margins(COUNTS.astype(np.float32)).dtype == np.float32
    assert np.isfinite(al.class_balanced_weights(COUNTS.astype(np.float16))).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_jit_and_classes_without_samples(function: Any) -> None:
    counts = np.array([5.0, 0.0, 20.0])
    expected = function(np.array([5.0, 1.0, 20.0]))
    np.testing.assert_allclose(function(counts), expected, rtol=1e-14)
    np.testing.assert_allclose(jax.jit(function)(jnp.asarray(counts)), expected, rtol=1e-14)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_wrong_counts(function: Any) -> None:
    for counts, error, text in (
        (np.array([5, -1]), ValueError, "counts must be at least 0; got -1"),
        (np.array([5.0, np.nan]), ValueError, "counts must be finite"),
        (np.array([[5]]), ValueError, r"counts must have one entry per class, shape \(C,\); got shape \(1, 1\)"),
        (np.array([]), ValueError, "counts must have one entry per class"),
        (np.array([True]), TypeError, "counts must be real numbers; got bool"),
        ([5, 1], TypeError, "counts must be an array"),
    ):
        with pytest.raises(error, match=text):
            function(counts)


def test_wrong_options() -> None:
    for function, options, text in (
        (al.class_balanced_weights, {"method": "effective_num"}, "method must be 'effective', 'inverse' or 'negative/positive'"),
        (al.class_balanced_weights, {"beta": 1.0}, "beta must be below 1"),
        (al.class_balanced_weights, {"beta": -0.1}, "beta must be from 0 to 1"),
        (al.class_balanced_weights, {"power": -1}, "power must be at least 0"),
        (al.class_balanced_weights, {"total": 0}, "total must be above 0"),
        (al.ldam_margins, {"largest": -1}, "largest must be at least 0"),
        (al.logit_adjustment, {"tau": float("inf")}, "tau must be finite"),
    ):
        with pytest.raises(ValueError, match=text):
            function(COUNTS, **options)
