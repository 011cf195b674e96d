"""Forms that hosts prefer where they are quick: for few classes, for large blocks, for finite predictions. They change no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import Backend, missing, without_numpy_for_torch

import arrayloss

EPS = 2.0**-23


@pytest.fixture(params=["numpy", "torch"])
def host(request: pytest.FixtureRequest) -> Any:
    if missing(request.param):
        pytest.skip(str(missing(request.param)))
    with without_numpy_for_torch(), pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr("arrayloss.adapters.torch_native.SAMPLE", 1024)
        yield Backend(request.param, request.param)


def sums(p: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, ...]:
    """True positives, false positives and false negatives of every class along axis 1, in float64; q is the sum of the others."""
    axes = (0, *range(2, p.ndim))
    q = np.stack([np.delete(p, c, axis=1).sum(1) for c in range(p.shape[1])], axis=1)
    return (p * t).sum(axes), (p * (1 - t)).sum(axes), (q * t).sum(axes)


@pytest.mark.parametrize("classes", [2, 3, 5, 9, 33])
@pytest.mark.parametrize("confidence", [1.0, 30.0])
@pytest.mark.parametrize("shape", [(16, 64), (48, 25), (7, 1999), (2048,)], ids=str)
@pytest.mark.parametrize("kind", ["labels", "masks", "soft"])
def test_sums_of_overlaps(host: Backend, kind: str, shape: tuple[int, ...], confidence: float, classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, (2, *shape))
    t = np.moveaxis(np.eye(classes)[labels], -1, 1)
    x = (confidence * (rng.random((2, classes, *shape)) + t)).astype(np.float32)
    if kind == "soft":
        t = (0.75 * t + 0.25 * rng.random(t.shape)).astype(np.float32)
    given = labels if kind == "labels" else t.astype(np.float32)
    parts = arrayloss.dice_loss.parts(host.array(x), host.array(given), activation="softmax", axis=1)
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    expected = sums(e / e.sum(1, keepdims=True), t.astype(np.float64))
    for name, s in zip(("tp", "fp", "fn"), expected, strict=True):
        np.testing.assert_allclose(
            host.numpy(getattr(parts, name)), s, rtol=4 * EPS
        )  # what the loss may be off, with room for nothing else


@pytest.mark.parametrize("kind", ["labels", "masks"])
@pytest.mark.parametrize("classes", [3, 9])
def test_infinite_logits_have_limits_in_large_arrays_too(host: Backend, classes: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, classes, 64, 64)).astype(np.float32)
    labels = rng.integers(0, classes, (2, 64, 64))
    x[0, :, 3, 5], x[0, 1, 3, 5] = -np.inf, np.inf
    x[1, 0, 2, 2], labels[1, 2, 2] = -np.inf, 1
    t = labels if kind == "labels" else np.moveaxis(np.eye(classes, dtype=np.float32)[labels], -1, 1).copy()
    finite = np.where(np.isinf(x), np.sign(x) * 1e4, x).astype(np.float32)
    for loss in (arrayloss.dice_loss.bind(activation="softmax", axis=1), arrayloss.cross_entropy.bind(axis=1, where=None)):
        value, gradient = loss.value_and_grad(host.array(x), host.array(t))
        expected, slopes = loss.value_and_grad(host.array(finite), host.array(t))
        keep = np.ones(x.shape, dtype=bool)
        keep[0, :, 3, 5] = False  # the limit of a wrong infinite logit is another
        if loss.name == "dice_loss":
            np.testing.assert_allclose(host.numpy(value), host.numpy(expected), rtol=EPS)
        np.testing.assert_allclose(host.numpy(gradient)[keep], host.numpy(slopes)[keep], rtol=16 * EPS, atol=EPS * host.numpy(slopes).max())
        assert np.isfinite(host.numpy(gradient)).all()


@pytest.mark.parametrize("size", [1024, 4096, 4099, 2**18 + 5])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sums_of_logarithms_are_logarithms_of_products(host: Backend, reduction: str, size: int) -> None:
    rng = np.random.default_rng(size)
    for scale in (0.0, 1.0, 40.0):
        x = (scale * rng.normal(size=size)).astype(np.float32)
        for t in ((x > 0).astype(np.float32), rng.random(size).astype(np.float32), (rng.random(size) < 0.5)):
            z = x.astype(np.float64)
            soft = np.maximum(z, 0) - z * t + np.log1p(np.exp(-abs(z)))
            if t.dtype == np.float32 and set(np.unique(t)) <= {0.0, 1.0}:
                soft = np.maximum(np.where(t == 1, -z, z), 0) + np.log1p(np.exp(-abs(z)))  # without the cancellation of the plain form
            expected = soft.sum() / (size if reduction == "mean" else 1)
            value = arrayloss.sigmoid_cross_entropy(host.array(x), host.array(t), reduction=reduction)
            np.testing.assert_allclose(float(value), expected, rtol=2 * EPS)


def test_sums_of_logarithms_of_arrays_in_any_order(host: Backend) -> None:
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(64, 48, 5)).astype(np.float32), rng.random((64, 48, 5)).astype(np.float32)
    expected = float(arrayloss.sigmoid_cross_entropy(host.array(x), host.array(t)))
    for turn in (lambda a: np.asfortranarray(a), lambda a: np.ascontiguousarray(a.transpose(1, 2, 0)).transpose(2, 0, 1)):
        turned = turn(x), turn(t)
        for arrays in (turned, (turned[0], t), (x, turned[1])):
            if host.library == "torch":
                import torch

                arrays = [torch.from_numpy(a) for a in arrays]  # of the same strides
            np.testing.assert_allclose(float(arrayloss.sigmoid_cross_entropy(*arrays)), expected, rtol=2 * EPS)


def test_infinite_logits_among_many(host: Backend) -> None:
    x = np.array([np.inf, -np.inf, 3.0, 0.0] * 2000, np.float32)
    right, wrong = np.array([1.0, 0.0, 1.0, 0.0] * 2000, np.float32), np.array([1.0, 1.0, 1.0, 0.0] * 2000, np.float32)
    for loss in (arrayloss.sigmoid_cross_entropy, arrayloss.sigmoid_focal_loss):
        few = loss(x[:4].astype(np.float64), right[:4].astype(np.float64))
        value, gradient = loss.value_and_grad(host.array(x), host.array(right))
        np.testing.assert_allclose(float(value), few, rtol=4 * EPS)
        assert np.isfinite(host.numpy(gradient)).all()
        assert float(loss(host.array(x), host.array(wrong))) == np.inf
        x_nan = np.where(np.arange(x.size) == 77, np.nan, x).astype(np.float32)
        assert np.isnan(float(loss(host.array(x_nan), host.array(right))))


@pytest.mark.parametrize("ends", [(0.25, 0.75), (0.9, 0.1), (0.1, 0.9), (1e-3, 0.999), (1 / 3, 2 / 3), (0.0, 1.0), (1.0, 0.0)])
def test_two_numbers_are_mixed_exactly_at_both_ends(ends: tuple[float, float]) -> None:
    torch = pytest.importorskip("torch")
    from arrayloss.adapters.torch_native import Eager

    t = torch.linspace(0, 1, 2**13)
    mixed = Eager.mix(*ends, t)
    assert mixed[-1] == torch.tensor(ends[0])
    assert mixed[0] == torch.tensor(ends[1])
    exact = t.double() * ends[0] + (1 - t.double()) * ends[1]
    torch.testing.assert_close(mixed.double(), exact, rtol=3 * EPS, atol=0)


def test_coarse_matrix_products_are_not_used() -> None:
    """A user may let products of float32 matrices lose digits; a loss keeps its own."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    t = np.moveaxis(np.eye(4, dtype=np.float32)[rng.integers(0, 4, (2, 128, 128))], -1, 1).copy()
    x, t = torch.from_numpy((9 * (rng.random(t.shape) + t)).astype(np.float32)), torch.from_numpy(t)
    called: list[str] = []
    loss = arrayloss.dice_loss.bind(activation="softmax", axis=1)
    before, setting = loss(x, t), torch.backends.mkldnn.matmul.fp32_precision
    with pytest.MonkeyPatch.context() as patch:
        for name in ("matmul", "bmm"):
            patch.setattr(torch, name, lambda *_, name=name: called.append(name))
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        try:
            after = loss(x, t)
        finally:
            torch.backends.mkldnn.matmul.fp32_precision = setting
    assert not called
    torch.testing.assert_close(after, before, rtol=4 * EPS, atol=0)
