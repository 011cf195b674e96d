"""Confusion counts, hard and soft, and the metrics made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arrayloss import dice_loss, jaccard_loss, metrics

from .helpers import BACKENDS, Backend

# What follows the counts is array code, for which array-api-strict is the judge: not everything is compiled by JAX again
eager = pytest.mark.parametrize("xp", [BACKENDS[name] for name in ("numpy", "torch", "strict")], ids=str, indirect=True)
ALL = [metrics.precision, metrics.recall, metrics.f1, metrics.dice, metrics.jaccard, metrics.accuracy]


def people() -> tuple[np.ndarray, np.ndarray]:
    """100 people, 30 of them ill; 25 called ill, 5 of them wrongly."""
    number = np.arange(100)
    return (number < 20) | (number >= 95), number < 30


def test_a_hundred_people(xp: Backend) -> None:
    called, ill = people()
    counts = metrics.confusion(xp.array(called), xp.array(ill), activation=None)
    assert [float(xp.numpy(a)) for a in counts.arrays] == [20, 5, 10, 65]
    expected = [20 / 25, 20 / 30, 40 / 55, 40 / 55, 20 / 35, 85 / 100]
    np.testing.assert_allclose([float(xp.numpy(m(counts))) for m in ALL], expected, rtol=1e-6)
    np.testing.assert_allclose(xp.numpy(metrics.f_beta(counts, 2.0)), 5 * 20 / (5 * 20 + 4 * 10 + 5), rtol=1e-6)


@eager
def test_counts_of_batches_add(xp: Backend) -> None:
    called, ill = people()
    counts = sum(metrics.confusion(xp.array(called[i::3]), xp.array(ill[i::3]), activation=None) for i in range(3))
    assert [float(xp.numpy(a)) for a in counts.arrays] == [20, 5, 10, 65]


def logits() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 3, 7)), rng.integers(0, 3, (2, 7))


def test_the_largest_class_of_a_softmax_counts(xp: Backend) -> None:
    x, t = logits()
    counts = metrics.confusion(xp.array(x), xp.array(t), activation="softmax", axis=1)
    decided = x.argmax(axis=1)
    for c in range(3):
        p, y = decided == c, t == c
        expected = [(p & y).sum(), (p & ~y).sum(), (~p & y).sum(), (~p & ~y).sum()]
        assert [int(xp.numpy(a)[c]) for a in counts.arrays] == expected
    np.testing.assert_allclose(xp.numpy(metrics.recall(counts, average="micro")), (decided == t).mean(), rtol=1e-6)


@eager
@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.9])
def test_what_is_above_the_threshold_counts(threshold: float, xp: Backend) -> None:
    x, t = logits()
    mask = np.stack([t == c for c in range(3)], axis=1)
    counts = metrics.confusion(xp.array(x), xp.array(mask), activation="sigmoid", axis=1, threshold=threshold)
    p = 1 / (1 + np.exp(-x)) > threshold
    assert xp.numpy(counts.tp).tolist() == (p & mask).sum(axis=(0, 2)).tolist()
    assert xp.numpy(counts.tn).tolist() == (~p & ~mask).sum(axis=(0, 2)).tolist()
    at = metrics.confusion(xp.array(np.array([0.5, 0.75])), xp.array(np.array([1, 1])), activation=None)
    assert float(xp.numpy(at.tp)) == 1  # 0.5 is not above 0.5


def test_soft_counts_are_the_sums_of_the_losses(xp: Backend) -> None:
    x, t = logits()
    args, shared = (xp.array(x), xp.array(t)), {"activation": "softmax", "axis": 1}
    counts = metrics.confusion(*args, **shared, hard=False)
    parts = dice_loss.parts(*args, **shared)
    for name in ("tp", "fp", "fn"):
        np.testing.assert_allclose(xp.numpy(getattr(counts, name)), xp.numpy(getattr(parts, name)), rtol=1e-6)
    np.testing.assert_allclose(sum(xp.numpy(a) for a in counts.arrays), 14, rtol=1e-6)
    for metric, loss in ((metrics.dice, dice_loss), (metrics.jaccard, jaccard_loss)):
        np.testing.assert_allclose(1 - xp.numpy(metric(counts)), xp.numpy(loss(*args, **shared, smooth=0.0)), rtol=1e-5)


def test_soft_counts_are_differentiable_and_hard_ones_are_flat() -> None:
    import torch

    x, t = (torch.tensor(a) for a in logits())
    x.requires_grad_()
    (g,) = torch.autograd.grad(metrics.dice(metrics.confusion(x, t, activation="softmax", axis=1, hard=False)), x)
    (h,) = torch.autograd.grad(dice_loss(x, t, activation="softmax", axis=1, smooth=0.0), x)
    torch.testing.assert_close(g, -h, rtol=1e-10, atol=1e-15)
    (flat,) = torch.autograd.grad(metrics.dice(metrics.confusion(x, t, activation="softmax", axis=1)), x)
    assert torch.all(flat == 0)


@eager
def test_axes_classes_and_what_is_left_out(xp: Backend) -> None:
    x, t = logits()
    ignored = t.copy()
    ignored[0, :3] = 255
    shared: dict[str, Any] = {"activation": "softmax", "axis": 1}
    counts = metrics.confusion(xp.array(x), xp.array(ignored), **shared, ignore_index=255, pool_axes=2, classes=(1, 2))
    assert tuple(counts.tp.shape) == (2, 2)
    assert xp.numpy(sum(counts.arrays)).tolist() == [[4, 4], [7, 7]]
    where = metrics.confusion(xp.array(x), xp.array(t), **shared, where=xp.array(ignored != 255), pool_axes=2, classes=(1, 2))
    assert xp.numpy(where.tp).tolist() == xp.numpy(counts.tp).tolist()
    together = metrics.confusion(xp.array(x), xp.array(t), **shared, pool_axes=(0, 1, 2))
    assert tuple(together.tp.shape) == ()
    weighed = metrics.confusion(xp.array(x), xp.array(t), **shared, weights=2.0)
    assert float(xp.numpy(sum(weighed.arrays))[0]) == 28


@eager
def test_zero_over_zero_is_empty(xp: Backend) -> None:
    nothing = xp.array(np.zeros(4, bool))
    counts = metrics.confusion(nothing, nothing, activation=None)
    for metric in ALL[:-1]:
        assert float(xp.numpy(metric(counts))) == 1
        assert float(xp.numpy(metric(counts, empty=0.0))) == 0
    invented = metrics.confusion(xp.array(np.array([True, False])), xp.array(np.array([False, False])), activation=None)
    assert [float(xp.numpy(m(invented))) for m in ALL] == [0, 0, 0, 0, 0, 0.5]
    no_one = metrics.confusion(xp.array(np.zeros(0, bool)), xp.array(np.zeros(0, bool)), activation=None)
    assert float(xp.numpy(metrics.accuracy(no_one))) == 1


@eager
def test_absent_classes_do_not_count_in_a_macro_mean(xp: Backend) -> None:
    x = np.eye(3)[[0, 0, 1, 2]]
    counts = metrics.confusion(xp.array(x), xp.array(np.array([0, 0, 1, 1])), activation="softmax", axis=1)
    each = xp.numpy(metrics.dice(counts, average=None))
    np.testing.assert_allclose(each, [1, 2 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(xp.numpy(metrics.dice(counts)), 5 / 6, rtol=1e-6)
    np.testing.assert_allclose(xp.numpy(metrics.dice(counts, absent="keep")), 5 / 9, rtol=1e-6)
    np.testing.assert_allclose(xp.numpy(metrics.dice(counts, average="micro")), 3 / 4, rtol=1e-6)


def test_nan_is_no_decision(xp: Backend) -> None:
    x, t = logits()
    x = x.copy()
    x[0, 0, 0] = np.nan
    for activation in ("softmax", "sigmoid"):
        counts = metrics.confusion(xp.array(x), xp.array(t), activation=activation, axis=1)
        assert np.isnan(xp.numpy(counts.tp) + xp.numpy(counts.fp) + xp.numpy(counts.fn))[0]
        assert np.isnan(xp.numpy(metrics.dice(counts)))


def test_errors() -> None:
    x, t = logits()
    counts = metrics.confusion(x, t, activation="softmax", axis=1)
    with pytest.raises(ValueError, match="activation must be None for boolean predictions; got 'sigmoid'"):
        metrics.confusion(x > 0, x > 0, activation="sigmoid")
    with pytest.raises(ValueError, match="hard must be True or False; got 2"):
        metrics.confusion(x, t, activation="softmax", axis=1, hard=2)
    with pytest.raises(ValueError, match="threshold must be from 0 to 1; got 2"):
        metrics.confusion(x, x > 0, activation="sigmoid", threshold=2)
    with pytest.raises(ValueError, match="average must be 'macro', 'weighted', 'micro' or None; got 'samples'"):
        metrics.dice(counts, average="samples")
    with pytest.raises(ValueError, match="absent must be 'skip' or 'keep'; got 'drop'"):
        metrics.dice(counts, absent="drop")
    with pytest.raises(TypeError, match=r"counts must be what metrics\.confusion returns; got parts of dice_loss"):
        metrics.dice(dice_loss.parts(x, t, activation="softmax", axis=1))
    with pytest.raises(TypeError, match="integer predictions are labels: pass num_classes= and axis="):
        metrics.confusion(t, t, activation=None)


def test_counts_of_different_decisions_do_not_add() -> None:
    p, mask = np.array([0.2, 0.6, 0.9]), np.array([0, 1, 1])
    half = metrics.confusion(p, mask, activation=None)
    with pytest.raises(ValueError, match=r"different options do not add: threshold is 0\.5 and 0\.7"):
        half + metrics.confusion(p, mask, activation=None, threshold=0.7)
    with pytest.raises(ValueError, match="do not add"):
        half + metrics.confusion(p, mask, activation=None, hard=False)
