"""Numbers times losses, added up, are a loss. Every kind of loss is a term of one among the cases of the machinery."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import arrayloss as al

from .helpers import BACKENDS, Backend, assert_close, several
from .operations import KINDS

DICE = al.dice_loss.bind(activation="softmax", axis=1, classes=(1, 2))
CE = al.cross_entropy.bind(axis=1, class_weights=(1.0, 2.0, 4.0))
BOTH = 0.5 * DICE + CE
_RANDOM = np.random.default_rng(0)
X, T = 2 * _RANDOM.normal(size=(4, 3, 5)), _RANDOM.integers(0, 3, (4, 5))

without_compilers = pytest.mark.parametrize("xp", [BACKENDS["numpy"], BACKENDS["torch"], BACKENDS["strict"]], ids=str)


@without_compilers
def test_it_is_the_sum_of_its_terms(xp: Backend) -> None:
    x, t = xp.array(X), xp.array(T)
    value, g = BOTH.value_and_grad(x, t)
    (d, gd), (c, gc) = DICE.value_and_grad(X, T), CE.value_and_grad(X, T)
    assert_close(xp.numpy(value), 0.5 * d + c)
    assert_close(xp.numpy(g), 0.5 * gd + gc)
    assert_close(xp.numpy(BOTH(x, t)), 0.5 * d + c)


@without_compilers
def test_components_are_values_before_their_coefficients(xp: Backend) -> None:
    loss = 0.5 * DICE + CE + 2 * al.dice_loss.bind(activation="softmax", axis=1)
    total, terms = loss.components(xp.array(X), xp.array(T))
    assert list(terms) == ["dice_loss", "softmax_cross_entropy", "dice_loss_2"]
    values = [float(xp.numpy(v)) for v in terms.values()]
    assert_close(values[0], DICE(X, T))
    assert_close(xp.numpy(total), 0.5 * values[0] + values[1] + 2 * values[2])


@without_compilers
def test_parts_add_up_to_the_whole(xp: Backend) -> None:
    batches = [BOTH.parts(xp.array(X[i : i + 1]), xp.array(T[i : i + 1])) for i in range(4)]
    assert batches[0].names[:4] == ("dice_loss_tp", "dice_loss_fp", "dice_loss_fn", "softmax_cross_entropy_total")
    assert_close(xp.numpy(BOTH.finish(sum(batches))), BOTH(X, T))
    assert_close(xp.numpy(BOTH.finish(batches[0].unstack(sum(batches).stack()))), BOTH(X, T))


def test_the_normalizer_belongs_to_finish() -> None:
    parts = BOTH.parts(X, T)
    assert_close(BOTH.finish(parts, normalizer="count"), BOTH(X, T, normalizer="count"))
    assert BOTH.finish(parts, normalizer="count") != BOTH.finish(parts)


def test_options_of_a_call_go_to_the_terms_that_take_them() -> None:
    where, weights = np.arange(20).reshape(4, 5) % 3 != 0, np.linspace(0.5, 2.0, 20).reshape(4, 5)
    x = X.copy()
    x[0, :, 0] = np.nan
    shared: dict[str, Any] = {"weights": weights, "where": where}
    assert_close(BOTH(x, T, **shared, normalizer=3.0), 0.5 * DICE(x, T, **shared) + CE(x, T, **shared, normalizer=3.0))
    assert_close(BOTH(x, np.where(where, T, -100), ignore_index=-100), BOTH(x, T, where=where))


def test_names_of_arrays() -> None:
    """As any of the losses calls them."""
    assert_close(BOTH(logits=X, targets=T), BOTH(X, T))


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.has_hessian])
def test_derivatives_of_the_sum(name: str) -> None:
    """Of one prediction or of several."""
    kind = KINDS[name]
    loss = kind.loss.bind(**kind.options)
    single, double = (f.grad_and_hess(*kind.stack, *kind.targets) for f in (loss, 0.5 * loss + 1.5 * loss))
    for one, two in zip(single, double, strict=True):
        for a, b in zip(several(one), several(two), strict=True):
            assert_close(b, 2 * a)


def test_compiled_with_components() -> None:
    """Auxiliary values of a differentiated function."""
    jax, torch = pytest.importorskip("jax"), pytest.importorskip("torch")
    value, g = BOTH.value_and_grad(X, T)
    (total, terms), gradient = jax.jit(jax.value_and_grad(BOTH.components, has_aux=True))(jax.numpy.asarray(X), jax.numpy.asarray(T))
    assert_close(total, value)
    assert_close(gradient, g)
    assert_close(terms["dice_loss"], DICE(X, T))
    leaf = torch.tensor(X, requires_grad=True)
    total, terms = BOTH.components(leaf, torch.tensor(T))
    total.backward()
    assert_close(leaf.grad, g)
    assert terms["dice_loss"].requires_grad


def test_it_pickles_compares_and_prints() -> None:
    for again in (pickle.loads(pickle.dumps(BOTH)), copy.deepcopy(BOTH)):
        assert again == BOTH
        assert hash(again) == hash(BOTH)
    assert BOTH != 0.25 * DICE + CE
    shown = "dice_loss.bind(activation='softmax', axis=1, classes=(1, 2))"
    assert repr(BOTH) == f"0.5 * {shown} + softmax_cross_entropy.bind(axis=1, class_weights=(1.0, 2.0, 4.0))"
    assert repr(2 * al.squared_error) == "2 * squared_error"


def test_algebra() -> None:
    assert_close((2 * BOTH)(X, T), 2 * BOTH(X, T))
    assert BOTH * 2 == 2 * BOTH
    assert sum([0.5 * DICE, CE]) == BOTH
    assert sum([DICE, CE]) == DICE + CE
    assert np.float64(0.5) * DICE + CE == BOTH
    assert (DICE + CE) + DICE == DICE + (CE + DICE)
    difference = -CE + CE / 4 - 2 * DICE
    assert_close(difference(X, T), -0.75 * CE(X, T) - 2 * DICE(X, T))
    assert difference.name == "-1 * softmax_cross_entropy + 0.25 * softmax_cross_entropy + -2 * dice_loss"


def test_bind_goes_to_the_terms_that_have_the_option() -> None:
    loss = (0.5 * al.dice_loss.bind(activation="softmax") + al.cross_entropy).bind(axis=1, label_smoothing=0.1)
    expected = 0.5 * al.dice_loss(X, T, activation="softmax", axis=1) + al.cross_entropy(X, T, axis=1, label_smoothing=0.1)
    assert_close(loss(X, T), expected)
    with pytest.raises(TypeError, match="no term of this combination takes 'delta'"):
        loss.bind(delta=2.0)


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        (lambda: BOTH(X, T, axis=1), TypeError, "takes weights, where, ignore_index, normalizer; got 'axis': bind it"),
        (lambda: (0.5 * DICE)(X, T, normalizer=2.0), TypeError, "no term of this combination takes 'normalizer': its terms are dice_loss"),
        (lambda: (DICE.bind(pool_axes=2, reduction="none") + CE)(X, T), ValueError, r"one shape; got dice_loss \(4, 2\), softmax_cross_en"),
        (lambda: BOTH.finish(CE.parts(X, T)), ValueError, r"of dice_loss \+ softmax_cross_entropy; got parts of softmax_cross_entropy"),
        (lambda: BOTH.finish((CE + DICE).parts(X, T)), ValueError, r"_entropy; got parts of softmax_cross_entropy \+ dice_loss"),
        (lambda: BOTH.finish(0), TypeError, "parts must be those of .*; got int: pass those of a batch"),
        (lambda: DICE.finish(BOTH.parts(X, T)), ValueError, r"must be those of dice_loss; got parts of dice_loss \+ softmax_cross_entropy"),
        (lambda: BOTH.parts(X, T) + (DICE.bind(smooth=0.0) + CE).parts(X, T), ValueError, "do not add"),
        (lambda: "0.5" * DICE, TypeError, "can't multiply"),
        (lambda: DICE + 1, TypeError, "unsupported operand"),
        (lambda: BOTH.grad_and_hess(X, T), NotImplementedError, "no (curvature|second derivative) is defined"),
    ],
)
def test_errors(question: Any, error: type[Exception], message: str) -> None:
    """They name the terms."""
    with pytest.raises(error, match=message):
        question()
