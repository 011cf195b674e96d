"""What is special to JAX: tracing and compilation, precision without float64, arrays of NumPy, parts as a pytree, several devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.test_util import check_grads

import arrayloss as al
from arrayloss.check.libraries import LIBRARIES
from arrayloss.core.operation import Operation

from .helpers import lacking, needs_64_bits, needs_meshes

X = np.array([[0.5, -1.0, 2.0], [0.25, 3.0, -0.5]])
DECISIONS = np.array([[1, 0, 1], [0, 0, 1]])
LABELS = np.array([2, 0])
dice = al.dice_loss.bind(activation="softmax", axis=1)


# -- derivatives ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[2, 3, -1, 0], np.array([2, 3, 255, 0], "uint8")], ids=["int64", "uint8"])
def test_invalid_labels_are_nan_in_values_gradients_and_tangents(labels: Any) -> None:
    """Their gradient was 0: the transpose of a pullback keeps only what is linear, and the choice of a constant NaN is not."""
    x, labels = jnp.asarray(np.arange(12.0).reshape(4, 3) % 5), jnp.asarray(labels)
    losses = jax.jit(lambda x: al.softmax_cross_entropy(x, labels, reduction="none"))
    value, tangent = jax.jvp(losses, (x,), (x,))
    gradient = jax.grad(lambda x: losses(x).sum())(x)
    for result in (value, tangent, gradient[:, 0]):
        assert np.isnan(result).tolist() == [False, True, True, False]
    assert np.isnan(dice(x, labels))


def test_targets_weights_and_parameters_are_differentiated() -> None:
    def focal(x: Any, t: Any, w: Any, gamma: Any, alpha: Any) -> Any:
        return al.sigmoid_focal_loss(x, t, weights=w, gamma=gamma, alpha=alpha)

    arrays = tuple(map(jnp.asarray, (X, 1 / (1 + np.exp(X)), np.abs(X), 1.75, 0.25)))
    check_grads(jax.jit(focal), arrays, order=1, modes=("fwd", "rev"))
    class_weights = jnp.asarray([0.5, 0.25, 0.875])
    check_grads(jax.jit(lambda x, w: al.softmax_cross_entropy(x, LABELS, class_weights=w)), (arrays[0], class_weights), 2, modes=("rev",))


def test_predictions_keep_their_slope_beside_a_target_that_is_differentiated() -> None:
    x, t = jnp.asarray([60.0, -60.0, 1e4, 0.0], jnp.float32), jnp.asarray([1.0, 0.0, 0.0, 0.5], jnp.float32)
    for gamma in (0.5, 2.0):
        loss = al.sigmoid_focal_loss.bind(gamma=gamma, reduction="sum")
        np.testing.assert_allclose(jax.grad(loss, argnums=(0, 1))(x, t)[0], jax.grad(loss)(x, t), rtol=1e-6)


@pytest.mark.parametrize("label", [0, 1])
@lacking("jax", "0.5", "a second derivative through the exponential of -90, which is subnormal, is NaN")
def test_second_derivatives_agree_with_the_curvature_at_confident_points(label: int) -> None:
    """JAX's derivative of a quotient squares 1 / b, which is infinite long before the quotient is."""
    tails = jnp.asarray([0.0, 1.0, -1.0, 30.0, -30.0, 90.0, -90.0, 1e4, -1e4], jnp.float32)
    t = jnp.full(tails.shape, label)

    @jax.jit
    def second(gamma: Any) -> Any:
        return jax.vmap(jax.grad(jax.grad(lambda x, t: al.sigmoid_focal_loss(x, t, gamma=gamma))))(tails, t)

    for gamma in (0.0, 0.25, 2.0):
        _, exact = al.sigmoid_focal_loss.grad_and_hess(np.asarray(tails, np.float64), np.asarray(t), gamma=gamma)
        _, curvature = al.sigmoid_focal_loss.grad_and_hess(tails, t, gamma=gamma)
        flushed = 2.0**-126 * 90  # XLA makes 0 of exp(-90), below the smallest normal number; for gamma > 0 it is multiplied by some |x|
        np.testing.assert_allclose(curvature, exact, rtol=2e-6, atol=flushed)
        np.testing.assert_allclose(second(gamma), exact, rtol=2e-6, atol=flushed)


# -- tracing and compilation ------------------------------------------------------------------------------------------------


def test_a_traced_gamma_is_differentiated_and_mapped_without_compiling_again() -> None:
    traces = []

    @jax.jit
    def loss(x: Any, gamma: Any) -> Any:
        traces.append(gamma)
        return al.sigmoid_focal_loss(x, DECISIONS, gamma=gamma)

    x, gammas = jnp.asarray(X), [0.0, 0.25, 0.5, 1.0, 2.0, 5.0]
    expected = [al.sigmoid_focal_loss(X, DECISIONS, gamma=gamma) for gamma in gammas]
    np.testing.assert_allclose([loss(x, gamma) for gamma in gammas], expected, rtol=1e-12)
    assert len(traces) == 1
    np.testing.assert_allclose(jax.vmap(loss, in_axes=(None, 0))(x, jnp.asarray(gammas)), expected, rtol=1e-12)
    check_grads(lambda gamma: loss(x, gamma), (2.0,), order=2, modes=("rev",))


def test_eager_calls_trace_once_for_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another normalizer, which is a number of every batch, is no other program."""
    traces = []
    vjp = Operation.vjp
    monkeypatch.setattr(Operation, "vjp", lambda *args, **kwargs: (traces.append(args), vjp(*args, **kwargs))[1])
    labels, smoothing = jnp.arange(7) % 5, 0.03125
    for seed in range(3):
        x = jnp.asarray(np.random.default_rng(seed).normal(size=(7, 5)))
        al.softmax_cross_entropy(x, labels, label_smoothing=smoothing, normalizer=seed + 1)
    assert len(traces) == 1
    al.softmax_cross_entropy(x[:6], labels[:6], label_smoothing=smoothing)
    assert len(traces) == 2


def test_scan_auxiliary_outputs_and_donation() -> None:
    x, t = jnp.asarray(X), jnp.asarray(LABELS)

    def body(x: Any, _: Any) -> Any:
        (value, aux), g = jax.value_and_grad(lambda x: (al.softmax_cross_entropy(x, t), x.sum()), has_aux=True)(x)
        return x - 0.1 * g, (value, aux)

    last, (values, _) = jax.lax.scan(body, x, None, length=4)
    assert (np.diff(values) < 0).all()
    step = jax.jit(lambda x: body(x, None)[0], donate_argnums=0)
    current = jnp.array(X)
    for _ in range(4):
        current = step(current)
    np.testing.assert_allclose(current, last, rtol=1e-12)


def test_a_batch_of_symbolic_size_is_exported() -> None:
    """A mean divides by a number of elements that is not known yet."""
    (n,) = export.symbolic_shape("n")
    x, labels = jax.ShapeDtypeStruct((n, 3), jnp.float64), jax.ShapeDtypeStruct((n,), jnp.int64)
    for loss in (al.softmax_cross_entropy, dice.bind(pool_axes=1)):
        exported = export.export(jax.jit(jax.value_and_grad(loss)))(x, labels)
        value, gradient = exported.call(jnp.asarray(X), jnp.asarray(LABELS))
        expected, expected_gradient = loss.value_and_grad(X, LABELS)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-12)


IMAGE = jnp.zeros((8, 4, 64, 64), jnp.float32)
BATCH = jnp.zeros((512, 256), jnp.float32)


@pytest.mark.parametrize(
    ("loss", "x", "t", "exponentials", "arrays"),
    [
        (al.softmax_cross_entropy, BATCH, jnp.zeros(512, jnp.int32), 2, 0.25),
        (al.softmax_cross_entropy.bind(label_smoothing=0.1), BATCH, jnp.zeros(512, jnp.int32), 2, 1.25),
        (al.sigmoid_focal_loss, BATCH, BATCH, 1, 1.0),
        (dice, IMAGE, jnp.zeros((8, 64, 64), jnp.int32), 1, 6.0),
    ],
    ids=["labels", "smoothed", "elements", "overlap"],
)
@lacking("jax", "0.5", "XLA keeps temporary arrays that later versions fuse")
def test_a_compiled_gradient_takes_few_passes(loss: Any, x: Any, t: Any, exponentials: int, arrays: float) -> None:
    """One exponential of every entry (and one of the labels' entries), and memory for few arrays beside the gradient."""
    compiled = jax.jit(jax.value_and_grad(loss)).lower(x, t).compile()
    assert compiled.as_text().count(" exponential(") <= exponentials
    assert compiled.memory_analysis().temp_size_in_bytes <= arrays * x.nbytes + 2**13


@pytest.mark.parametrize("loss", [dice, al.softmax_cross_entropy.bind(class_weights=(1.0, 2.0, 3.0), ignore_index=1)], ids=repr)
def test_debug_nans_finds_none_for_finite_inputs(loss: Any) -> None:
    """The NaN that marks invalid labels was a constant of the program, and was found where there was no invalid label."""
    x, t = jnp.asarray(X), jnp.asarray(LABELS)
    with jax.debug_nans(True):
        assert np.isfinite(jax.grad(loss)(x, t)).all()
        assert np.isfinite(jax.hessian(loss)(x, t)).all()


# -- precision and arrays of NumPy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.exhaustive), "bfloat16"])
@needs_64_bits
def test_without_float64(dtype: str) -> None:
    """Numbers are float32, gradients have the dtype of the predictions, parts 64 bits; nothing warns."""
    rounding = {"float32": 1e-6, "float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    with LIBRARIES["jax"].precision("float32"):
        x = jnp.asarray(X, dtype)
        for loss, t in ((al.softmax_cross_entropy.bind(ignore_index=1), LABELS), (al.sigmoid_focal_loss, DECISIONS), (dice, LABELS)):
            expected, exact = loss.value_and_grad(np.asarray(x, np.float64), t)
            for value, gradient in (jax.value_and_grad(loss)(x, t), loss.value_and_grad(x, t)):
                assert (value.dtype, gradient.dtype) == (jnp.float32, x.dtype)
                np.testing.assert_allclose(value, expected, rtol=1e-6)
                np.testing.assert_allclose(np.asarray(gradient, np.float64), exact, rtol=1.05 * rounding, atol=1e-7)
            parts = loss.parts(x, t)
            assert {a.dtype.name for a in parts.arrays} <= {"float64", "int64"}
            twice = loss(*[np.concatenate([a, a]) for a in (np.asarray(x, np.float64), t)])
            assert loss.finish(parts).dtype == jnp.float32
            np.testing.assert_allclose(loss.finish(parts + parts), twice, rtol=1e-6)


def test_arrays_of_numpy_beside_those_of_jax() -> None:
    x = jnp.asarray(X)
    expected = al.softmax_cross_entropy(X, LABELS)
    for labels in (LABELS, LABELS.astype(">i4"), LABELS.view(np.memmap)):
        np.testing.assert_allclose(al.softmax_cross_entropy(x, labels), expected, rtol=1e-12)
    with LIBRARIES["jax"].precision("float32"):  # JAX wraps around: 2**32 + 1 became the label 1
        for labels in (np.array([2**32 + 1, 0]), np.array([2**32 + 1, 0], "uint64"), np.array([-(2**32) + 1, 0])):
            losses = al.softmax_cross_entropy(x.astype(jnp.float32), labels, reduction="none")
            assert np.isnan(losses).tolist() == [True, False]
    for t in (np.ma.array(X), X.astype(object), X.astype(str)):
        with pytest.raises(TypeError, match="targets must"):
            al.huber_loss(x, t)


# -- parts and several devices ------------------------------------------------------------------------------------------------


def test_parts_are_a_pytree_of_their_sums() -> None:
    """The rest is static and hashable, so that parts of one loss compile once."""
    x = jnp.asarray(X)
    for loss, t in (
        (al.softmax_cross_entropy.bind(class_weights=(1.0, 2.0, 3.0)), LABELS),
        (dice, LABELS),
        (dice + al.cross_entropy, LABELS),
    ):
        parts = jax.jit(loss.parts)(x, t)
        leaves, structure = jax.tree.flatten(parts)
        assert leaves == list(parts.arrays)
        assert hash(structure) == hash(jax.tree.structure(loss.parts(x, t)))
        assert structure == jax.tree.structure(loss.parts(x, t))
        assert jax.tree.unflatten(structure, leaves).names == parts.names
        np.testing.assert_allclose(jax.jit(loss.finish)(parts), loss(X, t), rtol=1e-12)


def test_parts_hold_no_traced_array() -> None:
    """An array that a finish held was static data of the tree, and leaked from `jax.jit`."""

    @jax.jit
    def parts(x: Any, smooth: Any) -> Any:
        return dice.parts(x, LABELS, smooth=smooth)

    with pytest.raises(TypeError, match="must be Python numbers for parts"):
        parts(jnp.asarray(X), 1.0)


@needs_meshes
def test_losses_over_four_devices() -> None:
    names = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size", "jax_persistent_cache_min_compile_time_secs")
    settings = {name.upper(): str(getattr(jax.config, name)) for name in names if jax.config.jax_compilation_cache_dir}
    environment = {**os.environ, **settings, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    script = Path(__file__).parent / "on_four_devices.py"
    done = subprocess.run([sys.executable, "-W", "error", str(script)], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "leaves",
        "stack",
        "shard_map",
        "gradient-inside",
        "Auto-batch",
        "Auto-classes",
        "Explicit-batch",
        "Explicit-classes",
    ]
