"""Parts of three thousand million elements: the exact count, and the mean to 2 units in the last place of float32.

A batch of 2**20 elements is added up 3,000 times. JAX without x64 had float32 sums and int32 counts: the mean was 3.8 % off and the
count negative. Neighbours that were tried: predictions of 16 bits (float32 parts on every library), elements, rows with labels, masks,
class weights, overlaps whose batch axis is summed and overlaps of samples, losses of two predictions, combinations, weights, hard and
soft counts of metrics; eager, `jit`, `scan`, `vmap`, `grad`, `hessian`, `psum`; both engines on the host. Over four devices:
`on_four_devices.py`. On CuPy: `on_cupy/test_kernels.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayloss as al
from arrayloss import metrics, use_engine
from tests.helpers import BACKENDS, Backend, needs_64_bits

jax, jnp = pytest.importorskip("jax"), pytest.importorskip("jax.numpy")
N, BATCHES = 2**20, 3000
SIXTY_FOURTHS = np.random.default_rng(0).integers(0, 200, N)  # that 8 bits hold; their squares are exact in float32
EXACT = int((SIXTY_FOURTHS.astype(np.int64) ** 2).sum()) / 64**2 / N
DTYPES = ["float32", "float16", "bfloat16"]
X, LABELS = np.random.default_rng(1).normal(size=(6, 4)), np.array([0, 1, 3, 2, 1, 0])
DICE = al.dice_loss.bind(activation="softmax", axis=1)
LOSSES = {
    "rows": al.softmax_cross_entropy.bind(class_weights=(1.0, 2.0, 3.0, 4.0), ignore_index=1),
    "overlap": DICE,
    "overlaps of samples": DICE.bind(pool_axes=()),
    "combination": DICE + 2 * al.cross_entropy,
}


def times(parts: Any, n: int) -> Any:
    """The sum of n times the same parts, in few additions."""
    if n == 1:
        return parts
    half = times(parts, n // 2)
    return half + half + parts if n % 2 else half + half


def check(mean: Any, parts: Any) -> None:
    assert abs(float(mean) - EXACT) <= 2 * np.spacing(np.float32(EXACT))
    assert int(parts.count) == BATCHES * N
    assert float(parts.total) == pytest.approx(BATCHES * N * EXACT, rel=1e-7)


def parts_of(xp: Backend, dtype: str, **options: Any) -> Any:
    x = xp.array(SIXTY_FOURTHS / 64, dtype)
    return al.squared_error.parts(x, 0 * x, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_mean_of_three_thousand_million_elements_is_exact(library: str, dtype: str) -> None:
    """Added up batch by batch."""
    if library == "torch":
        pytest.importorskip("torch")
    xp = BACKENDS[library]
    if not xp.has(dtype):
        pytest.skip(f"{xp} has no {dtype}")
    total = sum([parts_of(xp, dtype)] * BATCHES)
    check(al.squared_error.finish(total), total)


@pytest.mark.usefixtures("compiled")
def test_it_is_exact_in_the_compiled_engine() -> None:
    with use_engine("compiled"):
        total = times(parts_of(BACKENDS["numpy"], "float32"), BATCHES)
    check(al.squared_error.finish(total), total)


def test_it_is_exact_on_dask() -> None:
    """Lazily, so in few additions."""
    dask = pytest.importorskip("dask.array")
    x = dask.from_array((SIXTY_FOURTHS / 64).astype(np.float32), chunks=2**18)
    parts = al.squared_error.parts(x, 0 * x)
    total = times(parts.map(lambda a: a.persist()), BATCHES)
    check(al.squared_error.finish(total), total)


@pytest.mark.parametrize("dtype", DTYPES)
@needs_64_bits
def test_jax_without_x64_counted_to_minus_a_thousand_million(dtype: str) -> None:
    """Eagerly, compiled, and as the carry of a loop."""
    with jax.enable_x64(False):
        x = jnp.asarray(SIXTY_FOURTHS / 64, dtype)
        parts = al.squared_error.parts(x, 0 * x)
        total = times(parts, BATCHES)
        check(al.squared_error.finish(total), total)

        @jax.jit
        def loop(x: Any) -> Any:
            first = al.squared_error.parts(x, 0 * x)
            total, _ = jax.lax.scan(lambda carry, _: (carry + first, None), first, None, length=BATCHES - 1)
            return al.squared_error.finish(total), total

        mean, total = loop(x)
        assert mean.dtype == jnp.float32
        check(mean, total)


@needs_64_bits
def test_masks_and_weights_count_exactly() -> None:
    """A weight of 0.5 for each, and every fourth one masked; the sums of weights too are right."""
    where = np.arange(N) % 4 > 0
    with jax.enable_x64(False):
        for xp in (BACKENDS["numpy"], BACKENDS["jax"]):
            x = xp.array(SIXTY_FOURTHS / 64, "float16")
            parts = times(al.squared_error.parts(x, 0 * x, weights=0.5, where=xp.array(where)), BATCHES)
            assert int(parts.count) == BATCHES * where.sum()
            assert float(parts.weight) == BATCHES * where.sum() / 2


@pytest.mark.parametrize(
    "name", ["rows", "overlaps of samples", *[pytest.param(n, marks=pytest.mark.exhaustive) for n in list(LOSSES)[1::2]]]
)
@needs_64_bits
def test_parts_without_x64_differentiate_as_the_loss_does(name: str) -> None:
    """Compiled; and nothing warns of numbers that are truncated."""
    loss = LOSSES[name]
    with jax.enable_x64(False):
        x, t = jnp.asarray(X, jnp.float32), jnp.asarray(LABELS)

        def from_parts(x: Any) -> Any:
            first, rest = loss.parts(x[:2], t[:2]), loss.parts(x[2:], t[2:])
            return loss.finish(first + rest - first + first)

        value, gradient = jax.jit(jax.value_and_grad(from_parts))(x)
        expected, slope = jax.value_and_grad(lambda x: loss(x, t))(x)
        assert value.dtype == gradient.dtype == jnp.float32
        np.testing.assert_allclose(value, expected, rtol=3e-7)
        np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-8)
        parts = loss.parts(x, t)
        assert str(parts.unstack(parts.stack())) == str(parts)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@needs_64_bits
def test_a_count_is_stacked_exactly(library: str) -> None:
    """As float64 it lost what is beyond 2**53."""
    pytest.importorskip(library)
    with jax.enable_x64(False):
        xp = BACKENDS[library]
        x = xp.array(np.ones(3), "float32")
        total = times(al.squared_error.parts(x, 0 * x), 2**60 + 1)
        assert int(total.count) == 3 * (2**60 + 1)
        vector = total.stack()
        assert int(total.unstack(vector).count) == 3 * (2**60 + 1)


@pytest.mark.parametrize("library", ["numpy", "jax"])
@needs_64_bits
def test_hard_counts_beyond_what_float32_counts_to(library: str) -> None:
    """2**25 + 3 came out one off for predictions of 16 bits, and on JAX without x64."""
    n = 2**25 + 3
    with jax.enable_x64(False):
        decisions = BACKENDS[library].array(np.ones(n, bool))
        counts = metrics.confusion(decisions if library == "jax" else np.ones(n, np.float16), decisions, activation=None)
        assert [int(a) for a in counts.arrays] == [n, 0, 0, 0]
        assert float(metrics.accuracy(counts + counts)) == 1


@needs_64_bits
def test_metrics_without_x64_are_float32() -> None:
    """Of a softmax, compiled, with a derivative."""
    with jax.enable_x64(False):
        x, t = jnp.asarray(X, jnp.float32), jnp.asarray(LABELS)

        def dice(x: Any, hard: bool) -> Any:
            counts = metrics.confusion(x, t, activation="softmax", axis=1, hard=hard)
            return metrics.dice(counts)

        value, slope = jax.jit(lambda x: (dice(x, True), jax.grad(lambda x: dice(x, False))(x)))(x)
        assert value.dtype == slope.dtype == jnp.float32
        np.testing.assert_allclose(value, metrics.dice(metrics.confusion(X, LABELS, activation="softmax", axis=1)), rtol=1e-6)
