"""Losses of several classes where they have no peer, or a peer goes wrong: ends of domains, NaN, lists of labels, padded lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arrayloss import (
    fenchel_young,
    generalized_cross_entropy,
    multi_margin_loss,
    multiclass_hinge_loss,
    multiclass_perceptron_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    poly1_cross_entropy,
    ranking_softmax_loss,
    softmax_cross_entropy,
    sparsemax_loss,
)

from .helpers import BACKENDS
from .test_peers_margins import LISTS, SOFT, YES, T, X, logsumexp

rng = np.random.default_rng(1)
SCORED = [multi_margin_loss, multiclass_hinge_loss, multiclass_perceptron_loss]


@pytest.mark.parametrize("q", [0.2, 0.7, 1.0])
def test_generalized_cross_entropy_is_a_power_of_the_probability(q: float) -> None:
    probs = np.exp(X) / np.exp(X).sum(-1, keepdims=True)
    expected = (1 - probs[np.arange(6), T] ** q) / q
    np.testing.assert_allclose(generalized_cross_entropy(X, T, q=q, reduction="none"), expected, rtol=1e-12)
    np.testing.assert_allclose(generalized_cross_entropy(probs, T, q=q, given="probs", reduction="none"), expected, rtol=1e-12)


def test_probabilities_of_0_are_infinitely_steep_but_for_q_of_1() -> None:
    p = np.array([[0.0, 1.0]])
    for q, slope in ((0.0, -np.inf), (0.5, -np.inf), (1.0, -1.0)):
        value, gradient = generalized_cross_entropy.value_and_grad(p, np.array([0]), q=q, given="probs")
        assert value == (1 / q if q else np.inf)
        assert gradient[0].tolist() == [slope, 0]


def test_parameters_that_go_to_0_give_cross_entropy() -> None:
    expected = softmax_cross_entropy.value_and_grad(X, T)
    for ours in (
        generalized_cross_entropy.bind(q=0.0),
        generalized_cross_entropy.bind(q=np.float64(0)),
        poly1_cross_entropy.bind(epsilon=0),
    ):
        for a, b in zip(ours.value_and_grad(X, T), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_parameters_may_be_arrays_that_learn(value: float) -> None:
    torch = pytest.importorskip("torch")
    x, t = torch.tensor(X), torch.tensor(T)
    for loss, name in ((generalized_cross_entropy, "q"), (poly1_cross_entropy, "epsilon"), (multi_margin_loss, "margin")):
        parameter = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        result = loss(x, t, **{name: parameter})
        torch.testing.assert_close(result.detach(), loss(x, t, **{name: value}), rtol=1e-12, atol=0)
        assert torch.isfinite(torch.autograd.grad(result, parameter)[0])


@pytest.mark.parametrize("loss", SCORED, ids=lambda f: f.name)
def test_of_one_class_the_loss_is_0_and_labels_are_labels(loss: Any) -> None:
    value, gradient = loss.value_and_grad(X[:, :1], np.zeros(6, int), reduction="none")
    assert not value.any()
    assert not gradient.any()
    with pytest.raises(TypeError, match=r"targets must be labels of shape \(6,\); got a distribution of shape \(6, 4\)"):
        loss(X, SOFT)


def test_errors() -> None:
    with pytest.raises(TypeError, match="margin must be a number or an array; got str"):
        multiclass_hinge_loss(X, T, margin="1")
    with pytest.raises(ValueError, match="p must be 1 or 2; got 3"):
        multi_margin_loss(X, T, p=3)
    with pytest.raises(ValueError, match="epsilon must be at least -1; got -2"):
        poly1_cross_entropy(X, T, epsilon=-2)
    with pytest.raises(ValueError, match=r"q must be from 0 to 1; got 1\.5"):
        generalized_cross_entropy(X, T, q=1.5)


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_a_nan_stays(name: str) -> None:
    xp = BACKENDS[name]
    labelled = (*SCORED, sparsemax_loss, poly1_cross_entropy, generalized_cross_entropy)
    others = ((multilabel_soft_margin_loss, YES), (multilabel_margin_loss, LISTS), (ranking_softmax_loss, YES))
    x = X.copy()
    x[0, 0] = x[1, (T[1] + 1) % 4] = x[3, T[3]] = np.nan
    for loss, t in (*[(loss, T) for loss in labelled], *others):
        value = xp.numpy(loss(xp.array(x), xp.array(t), reduction="none"))
        assert np.isnan(value).tolist() == [True, True, False, True, False, False], loss.name


def test_tied_scores_move() -> None:
    zeros = np.zeros((1, 3))
    for loss, expected in ((multiclass_perceptron_loss, [1 / 3, -2 / 3, 1 / 3]), (multiclass_hinge_loss.bind(margin=0.0), [0.5, -1, 0.5])):
        np.testing.assert_allclose(loss.value_and_grad(zeros, np.array([1]))[1][0], expected, rtol=1e-15)
    np.testing.assert_allclose(multi_margin_loss.value_and_grad(zeros, np.array([1]), margin=0)[1][0], [1 / 3, -2 / 3, 1 / 3], rtol=1e-15)


def test_sparsemax_has_its_digits_and_its_ends() -> None:
    """Confident rows in float32; classes that are taken out; a logit that is infinite."""
    x = np.array([[1.0, 2.0**-20, 0.0]], np.float32)
    value, gradient = sparsemax_loss.value_and_grad(x, np.array([0]))
    np.testing.assert_allclose(value, 2.0**-42, rtol=1e-6)  # p = 1 - 2**-21, 2**-21
    np.testing.assert_allclose(gradient, [[-(2.0**-21), 2.0**-21, 0]], rtol=1e-6)
    x = np.array([[0.5, -np.inf, 0.25], [np.inf, 0.0, 3.0]])
    value, gradient = sparsemax_loss.value_and_grad(x, np.array([2, 0]), reduction="none")
    np.testing.assert_allclose(value, [0.625**2, 0])
    np.testing.assert_allclose(gradient, [[0.625, 0, -0.625], [0, 0, 0]])
    assert sparsemax_loss(x[:1], np.array([1])) == np.inf


def test_lists_of_labels_are_masks() -> None:
    mask = np.zeros((6, 4), bool)
    for row, labels in zip(mask, LISTS, strict=True):
        for label in labels:
            if label < 0:
                break
            row[label] = True
    distinct = np.arange(6) != 4
    for t in (mask, mask.astype(float)):
        both = [multilabel_margin_loss(X, targets, reduction="none")[distinct] for targets in (t, LISTS)]
        np.testing.assert_allclose(*both, rtol=1e-14)
    image = np.moveaxis(X.reshape(2, 3, 4), -1, 1), np.moveaxis(LISTS.reshape(2, 3, 4), -1, 1)
    np.testing.assert_allclose(multilabel_margin_loss(*image, axis=1), multilabel_margin_loss(X, LISTS), rtol=1e-14)
    wide = rng.normal(size=(3, 40)), rng.integers(0, 2, (3, 40)).astype(bool)
    value, gradient = multilabel_margin_loss.value_and_grad(*wide, reduction="sum")
    z = 1 - wide[0][:, :, None] + wide[0][:, None, :]
    active = (z >= 0) & wide[1][:, :, None] & ~wide[1][:, None, :]
    np.testing.assert_allclose(value, (z * active).sum() / 40, rtol=1e-13)
    np.testing.assert_allclose(gradient, (active.sum(1) - active.sum(2)) / 40.0, rtol=1e-13)


def test_labels_out_of_range_in_a_list_are_an_error_or_a_nan() -> None:
    jax = pytest.importorskip("jax")
    t = LISTS.copy()
    t[0, 1] = 4
    with pytest.raises(ValueError, match="integer targets must be labels from 0 to 3, or negative behind the last; got 4"):
        multilabel_margin_loss(X, t)
    losses = multilabel_margin_loss(jax.numpy.asarray(X), jax.numpy.asarray(t), reduction="none")
    assert np.isnan(losses).tolist() == [True] + 5 * [False]
    with pytest.raises(ValueError, match=r"targets must be lists of labels along axis 1, as scores \(6, 4\); got \(6,\)"):
        multilabel_margin_loss(X, T)


def test_items_that_do_not_exist_have_no_part_and_lists_without_items_do_not_count() -> None:
    grades, mask = rng.integers(0, 4, X.shape), rng.random(X.shape) < 0.6
    mask[0], mask[1] = True, False
    x = np.where(mask, X, np.nan)
    value, gradient = ranking_softmax_loss.value_and_grad(x, grades, mask=mask, reduction="none")
    for i in range(6):
        alone, own = ranking_softmax_loss.value_and_grad(X[i, mask[i]], grades[i, mask[i]]) if mask[i].any() else (0, 0)
        np.testing.assert_allclose(value[i], alone, rtol=1e-13)
        np.testing.assert_allclose(gradient[i, mask[i]], own, rtol=1e-12, atol=1e-14)
        assert not gradient[i, ~mask[i]].any()
    counts = mask.any(1)
    assert ranking_softmax_loss(x, grades, mask=mask) == pytest.approx(value[counts].mean(), rel=1e-14)
    where = np.arange(6) != 2
    for w in (where, where[:, None]):
        expected = value[counts & where].mean()
        assert ranking_softmax_loss(x, grades, mask=mask, where=w) == pytest.approx(expected, rel=1e-14)
    for normalize in (True, False):
        assert ranking_softmax_loss(X, 0 * grades, normalize=normalize) == 0
    with pytest.raises(TypeError, match="mask must be boolean, True where there is an item; got int64: pass mask != 0"):
        ranking_softmax_loss(X, grades, mask=mask.astype(np.int64))


def test_a_loss_of_a_conjugate_is_a_loss() -> None:
    my_loss = fenchel_young("my_loss", logsumexp)
    assert repr(my_loss).startswith("<loss my_loss(")
    for a, b in zip(my_loss.value_and_grad(X, SOFT, axis=-1), softmax_cross_entropy.value_and_grad(X, SOFT), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    with pytest.raises(NotImplementedError, match="no second derivative is defined for my_loss"):
        my_loss.grad_and_hess(X, T)
    with pytest.raises(ValueError, match="reduction must be"):
        my_loss.bind(reduction="avg")
