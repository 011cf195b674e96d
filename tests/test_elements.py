"""Losses of single elements at their kinks and limits, with arrays as parameters, and the constant of a likelihood of counts."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

import arrayloss as al
from arrayloss.losses.count import log_factorial

from .helpers import BACKENDS, several

INF, NAN = float("inf"), float("nan")
X, SIGNS = np.array([0.5, -1.25, 3.0, 0.0, 2.0]), np.array([1, 1, -1, -1, 1])
COUNTS = np.array([0.0, 1.0, 3.0, 0.0, 7.5])


@pytest.mark.parametrize(
    ("loss", "arrays", "options", "gradients"),
    [
        (al.absolute_error, ([1.0], [1.0]), {}, [[0.0]]),
        (al.smooth_l1_loss, ([1.0], [1.0]), {"beta": 0.0}, [[0.0]]),
        (al.absolute_percentage_error, ([0.0, 2.0], [0.0, 2.0]), {}, [[0.0, 0.0]]),
        (al.absolute_percentage_error, ([0.0, 0.0, -1.0], [0.0, 4.0, 4.0]), {"symmetric": True}, [[0.0, -0.5, 0.0]]),
        (al.hinge_loss, ([1.0, -1.0], [1, -1]), {}, [[-1.0, 1.0]]),
        (al.perceptron_loss, ([0.0, 0.0], [1, -1]), {}, [[-1.0, 1.0]]),
        (al.hinge_embedding_loss, ([1.0, 0.0], [-1, 1]), {}, [[-1.0, 1.0]]),
        (al.margin_ranking_loss, ([0.0, 0.0], [0.0, 0.0], [1, -1]), {}, [[-1.0, 1.0], [1.0, -1.0]]),
        (al.margin_ranking_loss, ([-0.25, INF], [1e-28, 0.0], [-1, -1]), {"margin": 0.25}, [[0.0, 1.0], [0.0, -1.0]]),
        (al.poisson_nll_loss, ([0.0], [0.0]), {"given": "rate"}, [[1.0]]),
        (al.wing_loss, ([0.0, 2.0, -2.0], [0.0, 0.0, 0.0]), {"width": 2.0}, [[0.0, 1.0, -1.0]]),
        (al.epsilon_insensitive_loss, ([0.5, -0.5, 0.0], [0.0, 0.0, 0.0]), {"epsilon": 0.5}, [[0.0, 0.0, 0.0]]),
        (al.epsilon_insensitive_loss, ([1.0, 2.0], [1.0, 1.0]), {"epsilon": 0.0}, [[0.0, 1.0]]),
    ],
)
def test_slopes_at_kinks(loss: Any, arrays: Any, options: dict[str, Any], gradients: Any) -> None:
    result = loss.value_and_grad(*map(np.array, arrays), reduction="sum", **options)[1]
    np.testing.assert_array_equal(several(result), gradients)


@pytest.mark.parametrize(
    ("loss", "arrays", "options", "values", "gradient"),
    [
        (al.hinge_loss, ([INF, -INF], [1, 1]), {}, [0.0, INF], [0.0, -1.0]),
        (al.smooth_hinge_loss, ([INF, -INF], [1, 1]), {}, [0.0, INF], [0.0, -1.0]),
        (al.soft_margin_loss, ([INF, -INF], [1, 1]), {}, [0.0, INF], [0.0, -1.0]),
        (al.exponential_loss, ([INF, -INF], [1, 1]), {}, [0.0, INF], [0.0, -INF]),
        (al.smooth_l1_loss, ([INF, -INF], [0.0, 0.0]), {"beta": 2.0}, [INF, INF], [1.0, -1.0]),
        (al.poisson_nll_loss, ([-INF, -INF, INF], [0.0, 1.0, 1.0]), {}, [0.0, INF, INF], [0.0, -1.0, INF]),
        (al.poisson_nll_loss, ([0.0, 0.0], [0.0, 1.0]), {"given": "rate"}, [0.0, INF], [1.0, -INF]),
        (al.squared_log_error, ([-1.0, -2.0], [0.0, 0.0]), {}, [INF, NAN], [-INF, NAN]),
        (al.absolute_percentage_error, ([1.0], [0.0]), {}, [INF], [INF]),
        (al.pseudo_huber_loss, ([INF, -INF], [0.0, 0.0]), {"delta": 2.0}, [INF, INF], [2.0, -2.0]),
        (al.charbonnier_loss, ([INF, 0.0], [0.0, INF]), {"scale": 2.0}, [INF, INF], [1.0, -1.0]),
        (al.cauchy_loss, ([INF, 0.0], [0.0, INF]), {}, [INF, INF], [0.0, 0.0]),
        (al.welsch_loss, ([INF, 0.0], [0.0, INF]), {}, [1.0, 1.0], [0.0, 0.0]),
        (al.geman_mcclure_loss, ([INF, 0.0], [0.0, INF]), {}, [2.0, 2.0], [0.0, 0.0]),
        (al.wing_loss, ([INF, 0.0], [0.0, INF]), {}, [INF, INF], [1.0, -1.0]),
        (al.epsilon_insensitive_loss, ([INF, 0.0], [0.0, INF]), {}, [INF, INF], [1.0, -1.0]),
        (al.gamma_nll_loss, ([-INF, -INF, INF, -1e3], [0.0, 1.0, 1.0, 0.0]), {}, [-INF, INF, INF, -1e3], [1.0, -INF, 1.0, 1.0]),
        (al.gamma_nll_loss, ([0.0, 0.0, INF], [0.0, 1.0, 1.0]), {"given": "mean"}, [-INF, INF, INF], [INF, -INF, 0.0]),
    ],
)
def test_limits(loss: Any, arrays: Any, options: dict[str, Any], values: Any, gradient: Any) -> None:
    a = [np.array(v) for v in arrays]
    np.testing.assert_array_equal(loss(*a, **options, reduction="none"), values)
    np.testing.assert_array_equal(loss.value_and_grad(*a, **options, reduction="sum")[1], gradient)


@pytest.mark.parametrize("given", ["log_variance", "scale"])
def test_a_gaussian_that_is_certain_and_right_has_a_finite_slope(given: str) -> None:
    """exp(1000) is infinite, and its product with an error of 0 was NaN."""
    second = np.array([-2000.0 if given == "log_variance" else 1e-300])
    value, gradients = al.gaussian_nll_loss.value_and_grad(np.array([3.0]), second, np.array([3.0]), given=given)
    assert value < -600
    assert gradients[0] == 0
    assert np.isfinite(gradients[1]) or given == "scale"


def test_the_forms_of_a_gaussian_agree() -> None:
    v = np.array([0.25, 1.0, 4.0, 9.0, 0.5])
    for full in (False, True):
        expected = al.gaussian_nll_loss(X, v, COUNTS, full=full)
        for given, second in (("log_variance", np.log(v)), ("scale", np.sqrt(v))):
            assert al.gaussian_nll_loss(X, second, COUNTS, given=given, full=full) == pytest.approx(expected, rel=1e-14)


SCALED = al.charbonnier_loss, al.cauchy_loss, al.welsch_loss, al.geman_mcclure_loss
ROBUST = (*SCALED, al.pseudo_huber_loss, al.wing_loss, al.epsilon_insensitive_loss)
PARAMETERS: list[tuple[Any, Any, dict[str, float]]] = [
    (al.smooth_l1_loss, X, {"beta": 0.5}),
    (al.smooth_l1_loss, X, {"beta": 0.0}),
    (al.absolute_percentage_error, X + 0.5, {"floor": 0.75}),
    (al.hinge_loss, SIGNS, {"margin": 0.5}),
    (al.smooth_hinge_loss, SIGNS, {"smoothing": 0.5}),
    (al.hinge_embedding_loss, SIGNS, {"margin": 0.5}),
    (al.pseudo_huber_loss, X, {"delta": 0.5}),
    *[(loss, X, {"scale": 0.5}) for loss in SCALED],
    (al.wing_loss, X, {"width": 0.5, "curvature": 0.25}),
    (al.epsilon_insensitive_loss, X, {"epsilon": 0.5}),
]


@pytest.mark.parametrize(("loss", "targets", "options"), PARAMETERS)
@pytest.mark.parametrize("library", ["torch", "strict"])
def test_parameters_may_be_arrays(loss: Any, targets: Any, options: dict[str, float], library: str) -> None:
    xp, x = BACKENDS[library], np.array([0.25, -1.0, 3.5, 0.5, 2.5])
    arrays = {name: xp.array(np.array(value)) for name, value in options.items()}
    for method in (loss.value_and_grad, loss.grad_and_hess):
        ours = method(xp.array(x), xp.array(targets), **arrays)
        for a, b in zip(ours, method(x, targets, **options), strict=True):
            np.testing.assert_allclose(xp.numpy(a), b, rtol=1e-15)


@pytest.mark.parametrize(("loss", "targets", "options"), [p for p in PARAMETERS if p[0] in ROBUST])
def test_parameters_learn(loss: Any, targets: Any, options: dict[str, float]) -> None:
    """Their derivatives, and those of targets, are those of differences."""
    import torch

    x, t = torch.tensor(X + 0.3), torch.tensor(targets[::-1].copy(), requires_grad=True)
    own = [torch.tensor(value, requires_grad=True, dtype=torch.float64) for value in options.values()]
    assert torch.autograd.gradcheck(lambda t, *own: loss(x, t, **dict(zip(options, own, strict=True))), (t, *own))


@pytest.mark.parametrize("loss", ROBUST)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_errors_of_any_size_neither_overflow_nor_vanish(loss: Any, dtype: str) -> None:
    x = np.array([-1e30, -1e10, -1e-10, 1e-10, 1e10, 1e30], dtype)
    value, gradient = loss.value_and_grad(x, np.zeros_like(x), reduction="none")
    with np.errstate(all="raise"):
        assert (np.isfinite(value) & np.isfinite(gradient)).all()
    is_flat = (value > 0) & (gradient == 0)  # far from the target a slope may underflow
    assert (is_flat <= (np.abs(x) > 1)).all()
    assert ((value > 0) | (loss is al.epsilon_insensitive_loss)).all()
    learned = BACKENDS["torch"].array(x)
    t = (0 * learned).requires_grad_()
    loss(learned, t, reduction="sum").backward()
    assert t.grad.isfinite().all()


@pytest.mark.parametrize(
    "loss", [al.smooth_l1_loss, al.smooth_hinge_loss, al.hinge_loss, al.poisson_nll_loss, al.squared_log_error, al.gamma_nll_loss, *ROBUST]
)
@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_nan_stays(loss: Any, engine: str, request: pytest.FixtureRequest) -> None:
    if engine == "compiled":
        request.getfixturevalue("compiled")
    x = np.array([0.5, NAN, 0.5])
    for a, b in ((x, np.ones(3)), (np.ones(3), x)):
        with al.use_engine(engine):
            value, gradient = loss.value_and_grad(a, b, reduction="none")
        np.testing.assert_array_equal(np.isnan(value), [False, True, False])
        np.testing.assert_array_equal(np.isnan(gradient), [False, True, False])


def test_signs_may_be_numbers() -> None:
    for loss in (al.hinge_loss, al.soft_margin_loss, al.hinge_embedding_loss):
        np.testing.assert_array_equal(loss(X, SIGNS.astype(float), reduction="none"), loss(X, SIGNS, reduction="none"))


def test_infinite_scores_of_masked_elements_count_nothing() -> None:
    value, gradient = al.poisson_nll_loss.value_and_grad(
        np.array([NAN, INF, 0.0]), np.array([1, -5, 2]), where=np.array([False, False, True])
    )
    assert value == 1.0
    np.testing.assert_array_equal(gradient, [0.0, 0.0, -1.0])


def test_the_logarithm_of_a_factorial() -> None:
    t = np.concatenate([np.arange(40.0), np.linspace(0, 12, 301), [1e-9, 1 - 1e-9, 1 + 1e-9, 7.999999, 1e3, 1e15, NAN]])
    with mpmath.workdps(50):
        expected = np.array([float(mpmath.loggamma(mpmath.mpf(float(v)) + 1)) for v in t])
    got = log_factorial(np, t)
    np.testing.assert_allclose(got, expected, rtol=2e-15)
    np.testing.assert_array_equal(got[:2], [0.0, 0.0])
    import torch

    tensor = torch.tensor(t[:-2], requires_grad=True)
    log_factorial(torch, tensor).sum().backward()
    np.testing.assert_allclose(tensor.grad, torch.digamma(tensor.detach() + 1), rtol=1e-12, atol=1e-14)
