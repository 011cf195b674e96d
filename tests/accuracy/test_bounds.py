"""Every loss keeps the bound that it promises, over its whole domain, in every dtype, on every backend, in every mode."""

from __future__ import annotations

from importlib import util

import numpy as np
import pytest

from arrayloss.check.accuracy import judge_all
from arrayloss.check.definitions import DEFINITIONS
from arrayloss.check.libraries import LIBRARIES
from arrayloss.check.run import loss_options, named_loss

from .accuracy import as_targets, assert_kept, differences, run
from .sweeps import is_plain

pytestmark = pytest.mark.exhaustive

LOSSES = sorted(DEFINITIONS)
OVERLAPS = [loss for loss in LOSSES if DEFINITIONS[loss][0].whole]
BACKENDS = ["numpy", "torch", "jax"]
RUNS = [("numpy", "eager"), ("torch", "eager"), ("torch", "general"), ("jax", "eager"), ("torch", "compiled"), ("jax", "compiled")]
every_loss = pytest.mark.parametrize("loss", LOSSES)
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def some(batches, backend):
    """JAX compiles every sweep anew: in float64 two gammas fewer, and overlaps without options."""
    if backend != "jax" or batches[0].dtype == "float32":
        return batches
    return [b for b in batches if is_plain(b.problem.options) or not (b.definition.whole or b.problem.options.get("gamma") in (0.25, 1.5))]


@every_backend
@every_loss
def test_float32(loss, backend, sweeps_of, needs):
    needs(backend)
    for batch in some(sweeps_of("float32", loss, dense=backend != "jax"), backend):
        assert_kept(run(batch, backend))


@every_loss
def test_float64_and_two_backends_differ_by_no_more_than_the_sum_of_their_bounds(loss, sweeps_of, needs):
    needs(*BACKENDS)
    for batch in sweeps_of("float64", loss):
        measured = [m for name in BACKENDS if batch in some([batch], name) for m in run(batch, name)]
        assert_kept(measured)
        assert not [where for far, where in differences(measured) if far > 1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@every_backend
@every_loss
def test_sixteen_bits_are_rounded_once(loss, backend, dtype, sweeps_of, needs):
    needs(backend)
    if dtype == "bfloat16" and backend != "torch" and not util.find_spec("ml_dtypes"):
        pytest.skip("bfloat16 outside PyTorch needs ml_dtypes, which is not installed")
    batches = [b for b in sweeps_of(dtype, loss) if backend != "jax" or is_plain(b.problem.options)]
    assert_kept([m for b in batches for m in run(b, backend)])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
@every_loss
def test_large_arrays_in_blocks_are_as_accurate(loss, backend, dtype, sweeps_of, needs):
    needs(backend)
    if dtype == "bfloat16" and backend == "numpy" and not util.find_spec("ml_dtypes"):
        pytest.skip("bfloat16 outside PyTorch needs ml_dtypes, which is not installed")
    batches = [b for b in sweeps_of(dtype, loss) if is_plain(b.problem.options)]
    assert_kept([m for b in batches for m in run(b, backend, "large")])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_loss
def test_torchs_own_functions_are_as_accurate(loss, dtype, sweeps_of, needs):
    """Under transforms, on GPUs and in compiled programs PyTorch's own functions compute, elsewhere NumPy's engine."""
    needs("torch")
    assert_kept([m for batch in sweeps_of(dtype, loss) for m in run(batch, "torch", "general")])


@every_loss
def test_compilers_keep_the_bounds_and_two_runs_differ_by_no_more_than_the_sum_of_theirs(loss, sweeps_of, needs):
    needs(*BACKENDS)
    seen = set()
    for batch in sweeps_of("float32", loss):
        if not is_plain(batch.problem.options) or batch.form in seen:
            continue
        seen.add(batch.form)
        measured = [m for name, mode in RUNS for m in run(batch, name, mode) if m.quantity != "hess"]
        assert_kept(measured)
        pairs = list(differences(measured))
        assert len(pairs) == (1 + len(batch.problem.predictions)) * len(RUNS) * (len(RUNS) - 1) // 2
        assert not [where for far, where in pairs if far > 1]


def test_backends_that_differ_by_more_are_found(sweeps_of):
    """One digit too many is found, and so is a NaN; what is set apart is not."""
    batch = sweeps_of("float32", "sigmoid_cross_entropy")[0]
    exact = batch.exact["value"][0].high
    wrong, lost = exact.copy(), exact.copy()
    at = int(np.argmax(exact > 1))
    wrong[at] *= 1 + 2e-6
    lost[at] = np.nan
    for other in (wrong, lost):
        measured = [*judge_all(batch, "numpy", {"value": (exact,)}), *judge_all(batch, "torch", {"value": (other,)})]
        assert [m.holds for m in measured] == [True, False]
        ((far, where),) = differences(measured)
        assert far > 1
        assert where.startswith("numpy and torch, value at (")


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss not in OVERLAPS and loss != "softmax_focal_loss"])
def test_second_derivatives_by_autodiff_agree_with_the_exact_hessian(loss, backend, sweeps_of, needs):
    """Differentiated by the library, the slope loses a few more digits than the Hessian that is written down: 64 ulp of its terms."""
    needs(backend)
    batch, library = sweeps_of("float64", loss)[0], LIBRARIES[backend]
    with library.precision("float64"):
        predictions = [library.array(p, "float64") for p in batch.problem.predictions]
        targets = as_targets(library, batch.problem, "float64")
        options = loss_options(batch.problem, "none")
        computed = library.hessian(lambda *a: named_loss(loss)(*a, **options), predictions, targets, batch.problem.axis)
    exactly = batch.exact.get("hess") or batch.definition.exact(batch.problem, ("hess",))["hess"]
    for exact, a in zip(exactly, computed, strict=True):
        h = library.numpy(a)
        size = np.fmax(np.abs(exact.high), exact.terms)
        assert not np.isnan(h).any()
        assert (np.abs(h - exact.high) <= (64 + batch.spread[1]) * 2.0**-52 * size)[size > 1e-290].all()
