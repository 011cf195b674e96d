"""JAX as its users know it: transforms and their compositions, tracing, precision, sharding."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import CASES, FIRST, Case
from jax.test_util import check_grads

import arrayloss
from arrayloss.core.separable import Separable

each_first = pytest.mark.parametrize("case", FIRST, ids=str)
ONE_EACH = [next(c for c in FIRST if c.name == name) for name in dict.fromkeys(c.name for c in FIRST)]


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """float64 is there, unless a test says otherwise."""
    with jax.enable_x64(True):
        yield


def drawn(case: Case, samples: int = 3) -> tuple[tuple[jax.Array, ...], jax.Array]:
    predictions, targets = case.draw(samples)
    return tuple(map(jnp.asarray, predictions)), jnp.asarray(targets)


def of(case: Case, **options: Any) -> Callable[..., jax.Array]:
    return lambda *a: case.loss(*a, **case.options, **options)


def analytic(case: Case, predictions: Any, targets: Any, **options: Any) -> tuple[Any, tuple[np.ndarray, ...]]:
    """The same from NumPy, where no autograd is involved."""
    value, gradient = case.loss.value_and_grad(*predictions, targets, **case.options, **options)
    return value, gradient if case.several else (gradient,)


# -- derivatives ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradient_are_those_of_numpy(case: Case) -> None:
    predictions, targets = case.draw(3)
    x = tuple(map(jnp.asarray, predictions))
    everything = tuple(range(len(x)))
    value, gradients = jax.jit(jax.value_and_grad(lambda *a: of(case)(*a, targets), argnums=everything))(*x)  # NumPy targets are fine
    expected, slopes = analytic(case, predictions, targets)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for g, s in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(g, s, rtol=1e-11, atol=1e-14)


@each_first
def test_second_derivatives_in_every_mode(case: Case) -> None:
    predictions, targets = case.draw(2)
    x = tuple(map(jnp.asarray, predictions))
    others = x[1:]

    def f(a: jax.Array) -> jax.Array:
        return of(case)(a, *others, targets)

    @jax.jit
    def hessians(a: jax.Array) -> Any:
        fwd, rev = jax.jacfwd, jax.jacrev
        return jax.hessian(f)(a), rev(rev(f))(a), fwd(fwd(f))(a), rev(fwd(f))(a)

    h = 1e-6
    numeric = np.empty((*predictions[0].shape, *predictions[0].shape))
    for index in np.ndindex(*predictions[0].shape):
        step = np.zeros_like(predictions[0])
        step[index] = h
        up, down = (analytic(case, (predictions[0] + s * step, *predictions[1:]), targets)[1][0] for s in (1, -1))
        numeric[index] = (up - down) / (2 * h)
    for hessian in hessians(x[0]):
        np.testing.assert_allclose(hessian, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["sigmoid_focal_loss", "softmax_focal_loss", "gaussian_nll_loss"])
def test_check_grads_of_second_order(name: str) -> None:
    case = next(c for c in FIRST if c.name == name)
    x, t = drawn(case, 1)
    check_grads(lambda *a: of(case)(*map(jnp.asarray, a), t), x, order=2, modes=("fwd", "rev"))


@each_first
def test_vmap_is_a_loop(case: Case) -> None:
    x, t = drawn(case)
    f = of(case)
    everything = tuple(range(len(x)))
    per_sample = jax.value_and_grad(f, argnums=everything)
    losses, gradients = jax.jit(jax.vmap(per_sample))(*x, t)
    alone = jax.jit(per_sample)
    for i in range(3):
        value, slopes = alone(*(a[i] for a in x), t[i])
        np.testing.assert_allclose(losses[i], value, rtol=1e-12)
        for g, s in zip(gradients, slopes, strict=True):
            np.testing.assert_allclose(g[i], s, rtol=1e-12, atol=1e-15)
    turned = jax.vmap(f, in_axes=(1,) * len(x) + (0,))(*(a.T for a in x), t)
    np.testing.assert_allclose(turned, losses, rtol=1e-12)
    twice = jax.vmap(f, in_axes=(0,) + (None,) * len(x))(jnp.stack([x[0], x[0]]), *x[1:], t)
    np.testing.assert_allclose(twice, [f(*x, t)] * 2, rtol=1e-12)


X = np.array([[0.5, -1.0, 2.0], [0.25, 3.0, -0.5]])
YES_NO = np.array([[1, 0, 1], [0, 0, 1]])
LABELS = np.array([2, 0])
ROW = np.array([0.5, 0.25, 0.875])


def test_targets_weights_and_parameters_learn() -> None:
    def focal(x: Any, t: Any, w: Any, gamma: Any, alpha: Any) -> Any:
        return arrayloss.sigmoid_focal_loss(x, t, weights=w, gamma=gamma, alpha=alpha)

    def cross_entropy(x: Any, class_weights: Any) -> Any:
        return arrayloss.softmax_cross_entropy(x, LABELS, class_weights=class_weights)

    def weighted(x: Any, pos_weight: Any) -> Any:
        return arrayloss.sigmoid_cross_entropy(x, YES_NO, pos_weight=pos_weight)

    everything = tuple(map(jnp.asarray, (X, 1 / (1 + np.exp(X)), np.abs(X), 1.75, 0.25)))
    check_grads(focal, everything, order=2, modes=("rev",))
    check_grads(focal, everything, order=1, modes=("fwd",))
    check_grads(cross_entropy, (jnp.asarray(X), jnp.asarray(ROW)), order=2, modes=("rev",))
    check_grads(weighted, (jnp.asarray(X), jnp.asarray(ROW)), order=2, modes=("rev",))


def test_predictions_keep_the_analytic_slope_beside_a_target_that_learns() -> None:
    x = jnp.asarray([60.0, -60.0, 1e4, 0.0], jnp.float32)
    t = jnp.asarray([1.0, 0.0, 0.0, 0.5], jnp.float32)
    for gamma in (0.0, 0.5, 2.0):
        loss = arrayloss.sigmoid_focal_loss.bind(gamma=gamma, reduction="sum")
        np.testing.assert_allclose(jax.grad(loss, argnums=(0, 1))(x, t)[0], jax.grad(loss)(x, t), rtol=1e-6)


TAILS = jnp.asarray([0.0, 1.0, -1.0, 30.0, -30.0, 90.0, -90.0, 1e4, -1e4], jnp.float32)


@pytest.mark.parametrize("label", [0, 1])
def test_second_derivative_agrees_with_the_curvature_in_the_tails(label: int) -> None:
    t = np.full(TAILS.shape, label)

    def second(gamma: Any) -> jax.Array:
        one = jax.grad(jax.grad(lambda x, t: arrayloss.sigmoid_focal_loss(x, t, gamma=gamma)))
        return jax.vmap(one)(TAILS, jnp.asarray(t))

    for gamma in (0.0, 0.25, 0.5, 1.0, 2.0):
        _, exact = arrayloss.sigmoid_focal_loss.grad_and_hess(np.asarray(TAILS, np.float64), t, gamma=gamma)
        _, curvature = arrayloss.sigmoid_focal_loss.grad_and_hess(TAILS, t, gamma=gamma)
        # XLA flushes exp(-90), below the smallest normal number, to 0; at gamma > 0 it is to be multiplied by some |x|
        flushed = 2.0**-126 * 90
        np.testing.assert_allclose(curvature, exact, rtol=2e-6, atol=flushed)
        np.testing.assert_allclose(second(gamma), exact, rtol=2e-6, atol=flushed)


# -- tracing --------------------------------------------------------------------------------------------------------------


def test_a_traced_gamma_is_differentiated_and_mapped_without_compiling_again() -> None:
    traces = []

    @jax.jit
    def loss(x: Any, gamma: Any) -> Any:
        traces.append(gamma)
        return arrayloss.sigmoid_focal_loss(x, YES_NO, gamma=gamma)

    x = jnp.asarray(X)
    for gamma in (0.0, 0.25, 0.5, 1.0, 2.0, 5.0):
        np.testing.assert_allclose(loss(x, gamma), arrayloss.sigmoid_focal_loss(X, YES_NO, gamma=gamma), rtol=1e-12)
    assert len(traces) == 1
    gammas = jnp.asarray([0.5, 2.0, 5.0])
    np.testing.assert_allclose(jax.vmap(loss, in_axes=(None, 0))(x, gammas), [loss(x, g) for g in gammas], rtol=1e-12)
    h = 1e-5
    slope, bend = jax.grad(loss, argnums=1), jax.hessian(loss, argnums=1)
    for g in (0.5, 2.0):
        np.testing.assert_allclose(slope(x, g), (loss(x, g + h) - loss(x, g - h)) / (2 * h), rtol=1e-7)
        np.testing.assert_allclose(bend(x, g), (slope(x, g + h) - slope(x, g - h)) / (2 * h), rtol=1e-7)


def test_eager_calls_trace_once_for_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []
    inner = Separable.forward

    def forward(self: Separable, xp: Any, arrays: Any) -> Any:
        traced.append(arrays)
        return inner(self, xp, arrays)

    monkeypatch.setattr(Separable, "forward", forward)
    for seed in range(3):
        x = jnp.asarray(np.random.default_rng(seed).normal(size=(7, 5)))
        arrayloss.softmax_cross_entropy(x, jnp.asarray([0, 1, 2, 3, 4, 0, 1]), label_smoothing=0.03125)
    assert len(traced) == 1
    arrayloss.softmax_cross_entropy(x[:6], jnp.asarray([0, 1, 2, 3, 4, 0]), label_smoothing=0.03125)
    assert len(traced) == 2


def test_scan_aux_and_donation() -> None:
    x, t = jnp.asarray(X), jnp.asarray(LABELS)

    def body(x: Any, _: Any) -> Any:
        (value, aux), g = jax.value_and_grad(lambda x: (arrayloss.softmax_cross_entropy(x, t), x.sum()), has_aux=True)(x)
        return x - 0.1 * g, (value, aux)

    last, (values, _) = jax.lax.scan(body, x, None, length=4)
    assert (np.diff(values) < 0).all()
    step = jax.jit(lambda x: body(x, None)[0], donate_argnums=0)
    moved = jnp.array(X)
    for _ in range(4):
        moved = step(moved)
    np.testing.assert_allclose(moved, last, rtol=1e-12)


def test_labels_out_of_range_are_nan_and_an_index_outside_their_dtype_matches_nothing() -> None:
    x = jnp.zeros((4, 3))
    for labels in (jnp.asarray([2, 3, -1, 0]), jnp.asarray([2, 3, 255, 0], jnp.uint8)):
        for f in (arrayloss.softmax_cross_entropy, jax.jit(arrayloss.softmax_cross_entropy, static_argnames="reduction")):
            assert np.isnan(f(x, labels, reduction="none")).tolist() == [False, True, True, False]
    labels = jnp.asarray([156, 0, 1, 2], jnp.uint8)  # as an int8, 156 is -100
    value = arrayloss.softmax_cross_entropy(x, labels, ignore_index=-100, reduction="none")
    assert np.isnan(value).tolist() == [True, False, False, False]
    assert arrayloss.softmax_cross_entropy(x, labels, ignore_index=156, reduction="none")[0] == 0


@pytest.mark.parametrize(("name", "arrays"), [("softmax_cross_entropy", 0.25), ("sigmoid_focal_loss", 1.0)])
def test_a_compiled_gradient_holds_few_arrays_beside_itself(name: str, arrays: float) -> None:
    """Each costs a pass over memory, and its pages. Cross-entropy of labels held two beside its gradient, focal loss two."""
    x = jnp.zeros((512, 256), jnp.float32)
    t = jnp.zeros(512, jnp.int32) if name == "softmax_cross_entropy" else x
    compiled = jax.jit(jax.value_and_grad(getattr(arrayloss, name))).lower(x, t).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= arrays * x.nbytes + 2**12


# -- precision ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_half_precision_and_no_float64(case: Case) -> None:
    predictions, targets = case.draw(3, "float32")
    with jax.enable_x64(False):
        for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
            x = tuple(jnp.asarray(p, dtype) for p in predictions)
            t = jnp.asarray(targets, dtype if targets.dtype.kind == "f" else None)
            value, gradient = jax.value_and_grad(of(case))(*x, t)
            assert value.dtype == jnp.float32
            assert gradient.dtype == dtype
            wide = tuple(np.asarray(a, np.float64) for a in x)
            expected, slopes = analytic(case, wide, np.asarray(t, np.float64) if targets.dtype.kind == "f" else targets)
            np.testing.assert_allclose(value, expected, rtol=1e-5)
            half_ulp = {jnp.float32: 1e-5, jnp.bfloat16: 2.0**-8, jnp.float16: 2.0**-11}[dtype]
            np.testing.assert_allclose(np.asarray(gradient, np.float64), slopes[0], rtol=1.05 * half_ulp, atol=1e-6)
        assert case.loss.parts(*x, t, **case.options).total.dtype == jnp.float32


# -- sharding -------------------------------------------------------------------------------------------------------------


def test_exact_losses_over_four_devices() -> None:
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    script = Path(__file__).parent / "on_four_devices.py"
    done = subprocess.run([sys.executable, "-W", "error", str(script)], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "shard_map",
        "gradient-inside",
        "automatic-batch",
        "automatic-classes",
        "explicit-batch",
        "explicit-classes",
    ]
