"""`arrayloss.compat.keras` against formulas of NumPy, with weights and reductions. `tests.compat.theirs` has Keras itself, which has an
environment of its own.
"""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import numpy as np
import pytest

from arrayloss.compat import keras as compat
from arrayloss.compat._preset import UnlikeError

rng = np.random.default_rng(0)
X, Y, P = rng.normal(size=(6, 4)) * 2, rng.normal(size=(6, 4)), rng.uniform(size=(6, 4))
P[0, 0], P[1, 1] = 0.0, 1.0
SOFT, LABELS, W = rng.dirichlet(np.ones(4), size=6), np.array([0, 3, 2, 1, 1, 2]), rng.uniform(0.5, 2.0, size=6)
HOT, YES = np.eye(4)[LABELS], (Y > 0).astype(float)
E = 1e-7


def share(p: np.ndarray) -> np.ndarray:
    return np.clip(p / p.sum(-1, keepdims=True), E, 1 - E)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def bce(t: np.ndarray, p: np.ndarray) -> np.ndarray:
    p = np.clip(p, E, 1 - E)
    return -t * np.log(p) - (1 - t) * np.log(1 - p)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def circle(x: np.ndarray, gamma: float, margin: float) -> np.ndarray:
    s, same = x @ x.T, LABELS[:, None] == LABELS
    positive, negative = same & ~np.eye(6, dtype=bool), ~same
    a = np.where(negative, np.exp(gamma * np.maximum(s + margin, 0) * (s - margin)), 0).sum(1)
    b = np.where(positive, np.exp(-gamma * np.maximum(1 + margin - s, 0) * (s - 1 + margin)), 0).sum(1)
    return np.log1p(a * b)


SMOOTH = 0.9 * HOT + 0.025
FORMS: dict[str, tuple[Any, Any, dict[str, Any], np.ndarray]] = {  # targets, predictions, options, the losses of the samples
    "MeanSquaredError": (Y, X, {}, ((X - Y) ** 2).mean(-1)),
    "MeanAbsoluteError": (Y[..., None], X, {}, abs(X - Y).mean(-1)),
    "MeanAbsolutePercentageError": (Y, X, {}, 100 * (abs(X - Y) / np.maximum(abs(Y), E)).mean(-1)),
    "MeanSquaredLogarithmicError": (Y, X, {}, ((np.log1p(np.maximum(X, E)) - np.log1p(np.maximum(Y, E))) ** 2).mean(-1)),
    "CosineSimilarity": (Y, X, {}, -(unit(X) * unit(Y)).sum(-1)),
    "Huber": (Y, X, {"delta": 0.5}, np.where(abs(X - Y) <= 0.5, (X - Y) ** 2 / 2, 0.5 * abs(X - Y) - 0.125).mean(-1)),
    "LogCosh": (Y, X, {}, np.log(np.cosh(X - Y)).mean(-1)),
    "Hinge": (YES, X, {}, np.maximum(1 - (2 * YES - 1) * X, 0).mean(-1)),
    "SquaredHinge": (2 * YES - 1, X, {}, (np.maximum(1 - (2 * YES - 1) * X, 0) ** 2).mean(-1)),
    "CategoricalHinge": (HOT, X, {}, np.maximum(((1 - HOT) * X).max(-1) - (HOT * X).sum(-1) + 1, 0)),
    "KLDivergence": (SOFT, P, {}, (SOFT * np.log(SOFT / np.clip(P, E, 1))).sum(-1)),
    "Poisson": (3 * SOFT, P, {}, (P - 3 * SOFT * np.log(P + E)).mean(-1)),
    "BinaryCrossentropy": (HOT, P, {"label_smoothing": 0.1}, bce(0.9 * HOT + 0.05, P).mean(-1)),
    "BinaryFocalCrossentropy": (
        HOT,
        X,
        {"from_logits": True, "apply_class_balancing": True},
        (np.where(HOT == 1, 0.25, 0.75) * abs(HOT - sigmoid(X)) ** 2 * bce(HOT, sigmoid(X))).mean(-1),
    ),
    "CategoricalCrossentropy": (HOT, P, {"label_smoothing": 0.1}, -(SMOOTH * np.log(share(P))).sum(-1)),
    "CategoricalFocalCrossentropy": (HOT, P, {"label_smoothing": 0.1}, -(0.25 * SMOOTH * (1 - share(P)) ** 2 * np.log(share(P))).sum(-1)),
    "SparseCategoricalCrossentropy": (LABELS[:, None].astype(float), X, {"from_logits": True}, -np.log((softmax(X) * HOT).sum(-1))),
    "Dice": (HOT, P, {"axis": 1}, 1 - 2 * (HOT * P).sum(-1) / (HOT.sum(-1) + P.sum(-1) + E)),
    "Tversky": (
        HOT,
        P,
        {"axis": -1, "alpha": 0.3, "beta": 0.7},
        1 - (HOT * P).sum(-1) / ((HOT * P).sum(-1) + 0.3 * (HOT * (1 - P)).sum(-1) + 0.7 * (P * (1 - HOT)).sum(-1) + E),
    ),
    "CategoricalGeneralizedCrossEntropy": (LABELS, P + 0.1, {"q": 0.3}, (1 - ((P + 0.1) * HOT).sum(-1) ** 0.3) / 0.3),
}


@pytest.mark.parametrize("name", FORMS)
def test_classes(name: str) -> None:
    y_true, y_pred, options, losses = FORMS[name]
    for reduction, expected, weighted in (
        ("none", losses, losses * W),
        ("sum", losses.sum(), (losses * W).sum()),
        ("sum_over_batch_size", losses.mean(), (losses * W).mean()),
        ("mean_with_sample_weight", losses.mean(), (losses * W).sum() / W.sum()),
    ):
        loss = getattr(compat, name)(**options, reduction=reduction)
        np.testing.assert_allclose(loss(y_true, y_pred), expected, rtol=1e-9)
        np.testing.assert_allclose(loss(y_true, y_pred, sample_weight=W), weighted, rtol=1e-9)
        np.testing.assert_allclose(loss(y_true, y_pred, W[:, None]), weighted, rtol=1e-9)


@pytest.mark.parametrize("name", FORMS)
def test_gradients_and_methods(name: str) -> None:
    """Of a weighted mean, against central differences away from kinks; parts; a tensor has the same gradient."""
    torch = pytest.importorskip("torch")
    y_true, y_pred, options, _ = FORMS[name]
    y_pred = y_pred if y_pred is not P else np.clip(P, 0.05, 0.95)
    loss = getattr(compat, name)(**options)
    weights = (W,)
    value, gradient = loss.value_and_grad(y_true, y_pred, *weights)
    np.testing.assert_allclose(value, loss(y_true, y_pred, *weights), rtol=1e-12)
    moved, h = rng.normal(size=y_pred.shape), 1e-6
    slope = (loss(y_true, y_pred + h * moved, *weights) - loss(y_true, y_pred - h * moved, *weights)) / (2 * h)
    np.testing.assert_allclose((gradient * moved).sum(), slope, rtol=1e-6, atol=1e-8)
    tensor = torch.tensor(y_pred, requires_grad=True)
    loss(torch.tensor(y_true), tensor, *map(torch.tensor, weights)).backward()
    np.testing.assert_allclose(tensor.grad, gradient, rtol=1e-9, atol=1e-12)
    assert pickle.loads(pickle.dumps(loss))(y_true, y_pred, *weights) == value
    assert repr(loss).startswith(f"<keras.losses.{name}(")
    if name not in ("Dice", "Tversky", "CosineSimilarity", "Poisson"):
        parts = sum(loss.parts(y_true[i : i + 2], y_pred[i : i + 2], *[w[i : i + 2] for w in weights]) for i in (0, 2, 4))
        np.testing.assert_allclose(loss.native(y_true, y_pred, *weights).finish(parts), value, rtol=1e-12)


@pytest.mark.parametrize(("axis", "weight"), [((1, 2), rng.random((4, 3))), ((1, 2), rng.random((4, 1))), (-1, 2.0), (None, 2.0)])
def test_weights_of_overlaps_multiply_their_losses(axis: Any, weight: Any) -> None:
    y_true, p = (rng.random((4, 5, 6, 3)) < 0.4).astype(float), rng.random((4, 5, 6, 3))
    losses = 1 - 2 * (y_true * p).sum(axis) / (y_true.sum(axis) + p.sum(axis) + E)
    weighted = losses * weight
    divisors = {
        "none": None,
        "sum": 1,
        "sum_over_batch_size": np.size(losses),
        "mean_with_sample_weight": 1 if axis is None else np.sum(weight),
    }
    for reduction, divisor in divisors.items():
        loss = compat.Dice(axis=axis, reduction=reduction)
        expected = weighted if divisor is None else weighted.sum() / divisor
        np.testing.assert_allclose(loss(y_true, p, weight), expected, rtol=1e-9)
        value, gradient = loss.value_and_grad(y_true, p, weight)
        np.testing.assert_allclose(value, expected, rtol=1e-9)
        moved = 1e-5 * rng.normal(size=p.shape)
        change = np.sum(loss(y_true, p + moved, weight) - loss(y_true, p - moved, weight)) / 2
        np.testing.assert_allclose((gradient * moved).sum(), change, rtol=1e-5, atol=1e-10)
    with pytest.raises(ValueError, match="sample_weight must broadcast to the losses"):
        compat.Dice()(y_true, p, np.ones(4))


def test_ignored_classes_do_not_count() -> None:
    losses, counts = -np.log((softmax(X) * HOT).sum(-1)), LABELS != 1
    loss = compat.SparseCategoricalCrossentropy(from_logits=True, ignore_class=1)
    np.testing.assert_allclose(loss(LABELS, X), losses[counts].mean(), rtol=1e-12)
    np.testing.assert_allclose(loss(LABELS, X, W), (losses * W)[counts].sum() / counts.sum(), rtol=1e-12)
    np.testing.assert_allclose(compat.sparse_categorical_crossentropy(LABELS, X, True, 1), np.where(counts, losses, 0.0), rtol=1e-12)


def test_the_mean_of_circle_losses_is_over_those_above_0() -> None:
    losses = circle(unit(Y), 2.0, 0.4)
    assert 0 in losses  # of an anchor without a positive
    loss = compat.Circle(gamma=2.0)
    np.testing.assert_allclose(loss(LABELS, unit(Y)), losses.sum() / (losses > 0).sum(), rtol=1e-9)
    np.testing.assert_allclose(loss(LABELS, unit(Y), W), (losses * W).sum() / (losses > 0).sum(), rtol=1e-9)
    np.testing.assert_allclose(compat.circle(LABELS, unit(Y), gamma=2.0), losses, rtol=1e-9)
    np.testing.assert_allclose(
        compat.Circle(2.0, reduction="mean_with_sample_weight")(LABELS, unit(Y), W), (losses * W).sum() / W[losses > 0].sum()
    )


def test_ctc() -> None:
    """Two frames for one label: twice itself, or a blank before or behind it."""
    x = rng.normal(size=(1, 2, 3))
    p = softmax(x)[0]
    expected = -np.log(p[0, 2] * p[1, 2] + p[0, 0] * p[1, 2] + p[0, 2] * p[1, 0])
    np.testing.assert_allclose(compat.CTC()(np.array([[2, 0]]), x), expected, rtol=1e-9)


def test_signatures() -> None:
    """Those of Keras 3.15, which is not installed here."""
    assert str(inspect.signature(compat.Dice)) == "(reduction='sum_over_batch_size', name='dice', axis=None, dtype=None)"
    names = list(inspect.signature(compat.SparseCategoricalCrossentropy).parameters)
    assert names == ["from_logits", "ignore_class", "reduction", "axis", "name", "dtype"]
    assert list(inspect.signature(compat.binary_focal_crossentropy).parameters)[:4] == [
        "y_true",
        "y_pred",
        "apply_class_balancing",
        "alpha",
    ]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="Invalid value for argument `reduction`"):
        compat.Huber(reduction="avg")
    with pytest.raises(TypeError, match="unexpected keyword argument 'deltas'"):
        compat.Huber(deltas=1.0)
    with pytest.raises(ValueError, match="sample_weight must broadcast"):
        compat.Huber()(Y, X, W[:3])
    with pytest.raises(UnlikeError, match="an anchor is no key of its own"):
        compat.circle(LABELS, X, remove_diagonal=False)
    assert compat.Huber(dtype="float32")(Y, X).dtype == np.float32
    assert compat.Huber.from_config(compat.Huber(delta=0.5).get_config()).options == {"delta": 0.5}
