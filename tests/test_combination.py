"""Numbers times losses, added up, are a loss."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from conftest import Backend

from arrayloss import cross_entropy, dice_loss, gaussian_nll_loss, sigmoid_focal_loss, softmax_focal_loss, squared_error
from arrayloss.core.combination import Combination

DICE = dice_loss.bind(activation="softmax", axis=1, classes=(1, 2))
CE = cross_entropy.bind(axis=1, class_weights=(1.0, 2.0, 4.0))
BOTH = 0.5 * DICE + CE


def draw(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return 2 * rng.normal(size=(4, 3, 5)), rng.integers(0, 3, (4, 5))


def test_it_is_the_sum_of_its_terms(xp: Backend) -> None:
    x, t = (xp.array(a) for a in draw())
    value, g = BOTH.value_and_grad(x, t)
    (d, gd), (c, gc) = DICE.value_and_grad(x, t), CE.value_and_grad(x, t)
    np.testing.assert_allclose(xp.numpy(value), 0.5 * xp.numpy(d) + xp.numpy(c), rtol=1e-6)
    np.testing.assert_allclose(xp.numpy(g), 0.5 * xp.numpy(gd) + xp.numpy(gc), rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(xp.numpy(BOTH(x, t)), xp.numpy(value))


def test_components_are_values_before_their_coefficients(xp: Backend) -> None:
    x, t = (xp.array(a) for a in draw())
    total, terms = (0.5 * DICE + CE + 2 * dice_loss.bind(activation="softmax", axis=1)).components(x, t)
    assert list(terms) == ["dice_loss", "softmax_cross_entropy", "dice_loss_2"]
    values = [float(xp.numpy(v)) for v in terms.values()]
    assert values[0] == float(xp.numpy(DICE(x, t)))
    np.testing.assert_allclose(xp.numpy(total), 0.5 * values[0] + values[1] + 2 * values[2], rtol=1e-6)


def test_parts_add_up_to_the_whole(xp: Backend) -> None:
    x, t = draw()
    batches = [BOTH.parts(xp.array(x[i : i + 1]), xp.array(t[i : i + 1])) for i in range(4)]
    assert batches[0].names[:4] == ("dice_loss_tp", "dice_loss_fp", "dice_loss_fn", "softmax_cross_entropy_total")
    whole = BOTH(xp.array(x), xp.array(t))
    np.testing.assert_allclose(xp.numpy(BOTH.finish(sum(batches))), xp.numpy(whole), rtol=1e-6)
    vector = sum(batches).stack()
    np.testing.assert_allclose(xp.numpy(BOTH.finish(batches[0].unstack(vector))), xp.numpy(whole), rtol=1e-6)


def test_the_normalizer_belongs_to_finish() -> None:
    x, t = draw()
    parts = BOTH.parts(x, t)
    np.testing.assert_allclose(BOTH.finish(parts, normalizer="count"), BOTH(x, t, normalizer="count"), rtol=1e-14)
    assert BOTH.finish(parts, normalizer="count") != BOTH.finish(parts)


def test_what_a_call_gives_goes_to_the_terms_that_take_it(xp: Backend) -> None:
    x, t = draw()
    where = np.arange(20).reshape(4, 5) % 3 != 0
    weights = np.linspace(0.5, 2.0, 20).reshape(4, 5)
    x[0, :, 0] = np.nan
    shared: dict[str, Any] = {"weights": xp.array(weights), "where": xp.array(where)}
    value = BOTH(xp.array(x), xp.array(t), **shared, normalizer=3.0)
    expected = 0.5 * xp.numpy(DICE(xp.array(x), xp.array(t), **shared)) + xp.numpy(CE(xp.array(x), xp.array(t), **shared, normalizer=3.0))
    np.testing.assert_allclose(xp.numpy(value), expected, rtol=1e-6)
    ignored = np.where(where, t, -100)
    value = BOTH(xp.array(x), xp.array(ignored), ignore_index=-100)
    np.testing.assert_allclose(xp.numpy(value), xp.numpy(BOTH(xp.array(x), xp.array(t), where=xp.array(where))), rtol=1e-6)


def test_autograd_of_torch_and_jax() -> None:
    import jax
    import torch

    x, t = draw()
    _, g = BOTH.value_and_grad(x, t)
    leaf = torch.tensor(x, requires_grad=True)
    total, terms = BOTH.components(leaf, torch.tensor(t))
    (taken,) = torch.autograd.grad(total, leaf)
    np.testing.assert_allclose(taken.numpy(), g, rtol=1e-12, atol=1e-16)
    assert torch.autograd.gradcheck(lambda x: BOTH(x, torch.tensor(t)), (leaf,))
    with jax.enable_x64(True):
        (_, aux), taken = jax.jit(jax.value_and_grad(BOTH.components, has_aux=True))(jax.numpy.asarray(x), jax.numpy.asarray(t))
        np.testing.assert_allclose(taken, g, rtol=1e-12, atol=1e-16)
        np.testing.assert_allclose(aux["dice_loss"], float(terms["dice_loss"].detach()), rtol=1e-14)
        parts = jax.jit(BOTH.parts)(jax.numpy.asarray(x), jax.numpy.asarray(t))
        np.testing.assert_allclose(BOTH.finish(parts), BOTH(x, t), rtol=1e-14)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated.*:DeprecationWarning")  # dynamo's own, of any autograd.Function
def test_compiled() -> None:
    import torch

    x, t = (torch.tensor(a) for a in draw())
    leaf = x.clone().requires_grad_()
    value = torch.compile(lambda x: BOTH(x, t), fullgraph=True)(leaf)
    torch.testing.assert_close(value, BOTH(x, t), rtol=1e-13, atol=0)
    (g,) = torch.autograd.grad(value, leaf)
    torch.testing.assert_close(g, BOTH.value_and_grad(x, t)[1], rtol=1e-11, atol=1e-15)


def test_dice_and_focal(xp: Backend) -> None:
    x, t = (xp.array(a) for a in draw())
    loss = dice_loss.bind(activation="softmax", axis=1) + 0.25 * softmax_focal_loss.bind(axis=1)
    assert np.all(np.isfinite(xp.numpy(loss.value_and_grad(x, t)[1])))


def test_it_pickles_compares_and_prints() -> None:
    again = pickle.loads(pickle.dumps(BOTH))
    assert again == BOTH
    assert hash(again) == hash(BOTH)
    assert again != 0.25 * DICE + CE
    shown = "dice_loss.bind(activation='softmax', axis=1, classes=(1, 2))"
    assert repr(BOTH) == f"0.5 * {shown} + softmax_cross_entropy.bind(axis=1, class_weights=(1.0, 2.0, 4.0))"
    assert repr(2 * squared_error) == "2 * squared_error"


def test_algebra() -> None:
    x, t = draw()
    np.testing.assert_allclose((2 * BOTH)(x, t), 2 * BOTH(x, t), rtol=1e-15)
    assert BOTH * 2 == 2 * BOTH
    assert sum([0.5 * DICE, CE]) == BOTH
    assert sum([DICE, CE]) == DICE + CE
    assert isinstance(np.float64(0.5) * DICE, Combination)
    assert np.float64(0.5) * DICE + CE == BOTH
    assert (DICE + CE) + DICE == DICE + (CE + DICE)


def test_several_predictions_and_curvatures() -> None:
    rng = np.random.default_rng(0)
    mean, variance, target = rng.normal(size=6), rng.uniform(0.5, 2, 6), rng.normal(size=6)
    loss = 0.5 * squared_error + squared_error
    g, h = loss.grad_and_hess(mean, target)
    np.testing.assert_allclose(g, 3 * (mean - target), rtol=1e-15)
    np.testing.assert_allclose(h, np.full(6, 3.0))
    doubled = 2 * gaussian_nll_loss
    _, (gm, gv) = gaussian_nll_loss.value_and_grad(mean, variance, target)
    _, (dm, dv) = doubled.value_and_grad(mean, variance, target)
    np.testing.assert_allclose((dm, dv), (2 * gm, 2 * gv))


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (BOTH, {"axis": 1}, "a combination takes weights, where, ignore_index, normalizer; got 'axis': bind it"),
        (0.5 * DICE, {"normalizer": 2.0}, "no term of this combination takes 'normalizer': its terms are dice_loss"),
    ],
)
def test_other_keywords_are_errors(loss: Any, options: dict[str, Any], message: str) -> None:
    x, t = draw()
    with pytest.raises(TypeError, match=message):
        loss(x, t, **options)


def test_other_errors() -> None:
    x, t = draw()
    with pytest.raises(ValueError, match=r"must have one shape; got dice_loss \(4, 2\), softmax_cross_entropy \(\)"):
        (DICE.bind(pool_axes=2, reduction="none") + CE)(x, t)
    with pytest.raises(ValueError, match=r"combination of dice_loss \+ softmax_cross_entropy; got parts of softmax_cross_entropy"):
        BOTH.finish(CE.parts(x, t))
    with pytest.raises(
        ValueError, match=r"combination of dice_loss \+ softmax_cross_entropy; got parts of softmax_cross_entropy \+ dice_loss"
    ):
        BOTH.finish((CE + DICE).parts(x, t))
    with pytest.raises(ValueError, match=r"must be those of dice_loss; got parts of dice_loss \+ softmax_cross_entropy"):
        DICE.finish(BOTH.parts(x, t))
    with pytest.raises(ValueError, match="do not add"):
        BOTH.parts(x, t) + (DICE.bind(smooth=0.0) + CE).parts(x, t)
    with pytest.raises(TypeError, match="can't multiply"):
        "0.5" * DICE  # type: ignore[operator]
    with pytest.raises(TypeError, match="unsupported operand"):
        DICE + 1  # type: ignore[operator]
    with pytest.raises(NotImplementedError, match="no curvature is defined"):
        BOTH.grad_and_hess(x, t)
    assert sigmoid_focal_loss != DICE
