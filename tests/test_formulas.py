"""Is each formula right? Every row of the definitions, at some thirty points with the edges, on every path that computes it.

`tests/accuracy` asks the same of every point and every mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from arrayloss.check.accuracy import Batch, judge_all, measure
from arrayloss.check.definitions import DEFINITIONS, Definition
from arrayloss.check.libraries import LIBRARIES
from arrayloss.check.points import Problem, batches
from arrayloss.check.run import loss_options, named_loss
from arrayloss.engine import host
from arrayloss.frontend.loss import REGISTRY

from .accuracy.accuracy import assert_kept
from .exact import with_answers
from .helpers import BACKENDS, is_release, several

POINTS = 30
ROWS = [pytest.param(d, id=f"{loss}-{d.given}") for loss, definitions in DEFINITIONS.items() for d in definitions]
NOT_COMPILED = ("sparsemax_loss", "multilabel_margin_loss")  # sorted rows, pairs of classes
COUPLED = {"circle_loss", "linear_cross_entropy", "ntxent_loss"}  # of arrays of several shapes: test_linear.py, test_contrastive.py
every_row = pytest.mark.parametrize("row", ROWS)


def problems(row: Definition, sets: int | None = None) -> Iterator[Problem]:
    """Every kind of targets, every set of options or the first `sets` of them; the first are the defaults."""
    for kind in row.targets:
        for options in row.options[:sets]:
            for problem in batches(row.predictions, kind, "edges" if row.whole else "edges+random", np.random.default_rng(0), options):
                yield problem if row.whole else problem.take(slice(None, None, -(-len(problem.predictions[0]) // POINTS)))


def samples(row: Definition, config: pytest.Config, *dtypes: str, sets: int | None = None) -> Iterator[Batch]:
    """The problems in some dtypes, with exact answers."""
    for problem in problems(row, sets):
        for dtype in dtypes:
            yield with_answers(config, Batch(row, problem.rounded(dtype), dtype))


def arguments(row: Definition, dtype: str = "float64", number: int = -1) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """NumPy's predictions, targets (one, or none) and options of one of the problems, by default the last one."""
    problem = list(problems(row))[number].rounded(dtype)
    targets = [t if problem.labels else t.astype(dtype) for t in as_list(problem.targets)]
    return [p.astype(dtype) for p in problem.predictions], targets, loss_options(problem, "none")


def as_list(targets: Any) -> list[Any]:
    return [] if targets is None else [targets]


def test_every_loss_has_a_definition():
    ours = {loss.name for loss in REGISTRY.values() if loss.__module__.startswith("arrayloss.losses.")}
    assert ours == set(DEFINITIONS) | COUPLED
    assert not COUPLED & set(DEFINITIONS)


@every_row
def test_numpy(row, request):
    """Value, gradient and Hessian diagonal are those of the definition, within what is promised."""
    for batch in samples(row, request.config, "float64", "float32", "float16"):
        assert_kept(measure(batch, LIBRARIES["numpy"]))


@every_row
def test_compiled(row, request):
    """The same bounds hold for compiled functions, here with the default options; with ARRAYLOSS_ENGINE=compiled, `test_numpy` has all."""
    by_blocks = host._by_blocks

    def by_numpy(op, *arguments):
        assert not op.blocked or row.loss in NOT_COMPILED, "NumPy computes what was to be compiled"
        return by_blocks(op, *arguments)

    request.getfixturevalue("compiled")
    request.getfixturevalue("monkeypatch").setattr(host, "_by_blocks", by_numpy)
    for batch in samples(row, request.config, "float64", "float32", sets=1):
        assert_kept(measure(batch, LIBRARIES["numpy"]))


@every_row
def test_array_api_strict(row, request):
    """The formula uses nothing but the standard."""
    for batch in samples(row, request.config, "float64"):
        assert_kept(measure(batch, LIBRARIES["strict"]))


@every_row
def test_a_hessian_that_is_not_defined_says_so(row):
    for problem in problems(row):
        promise = row.promise(problem)
        if promise is not None and promise.hess is None:
            options = loss_options(problem, "none")
            with pytest.raises(NotImplementedError, match="is defined for"):
                named_loss(row.loss).grad_and_hess(*problem.predictions, *as_list(problem.targets), **options)


@every_row
def test_eager_torch_has_numpys_bits(row):
    loss = named_loss(row.loss)
    for number, problem in enumerate(problems(row)):
        x, t, options = arguments(row, "float32", number)
        value, gradients = loss.value_and_grad(*x, *t, **options)
        xs = [torch.from_numpy(p.copy()).requires_grad_() for p in x]
        result = loss(*xs, *[torch.from_numpy(a.copy()) for a in t], **BACKENDS["torch"].arrays(options))
        result.sum().backward()
        for ours, theirs in zip((result.detach(), *[p.grad for p in xs]), (value, *several(gradients)), strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs, err_msg=str(problem))


@every_row
def test_torchs_second_derivatives_are_those_of_differences(row):
    for kind in row.targets:
        (problem,) = batches(row.predictions, kind, "random", np.random.default_rng(1), row.options[0])
        is_elementwise = problem.axis is None and not row.whole
        problem = problem if row.regions else problem.take(slice(0, 6 if is_elementwise else 2))
        some = np.s_[:1, :, :1, :2] if row.regions else ...
        shape = (2, 3) if is_elementwise else problem.predictions[0][some].shape
        xs = [torch.from_numpy(p[some].reshape(shape).copy()).requires_grad_() for p in problem.predictions]
        is_mask = not problem.labels or is_elementwise or row.regions
        t = [torch.from_numpy(a[some].reshape(shape).copy() if is_mask else a) for a in as_list(problem.targets)]
        options = BACKENDS["torch"].arrays(loss_options(problem, "mean"))
        assert torch.autograd.gradgradcheck(lambda *x, t=t, options=options: named_loss(row.loss)(*x, *t, **options), xs)


@every_row
def test_jitted_jax(row, request):
    """Value, gradient and the product of the Hessian with a vector that picks one entry of an element, in one program."""
    if row.loss.startswith("cosine") and is_release("jax", "0.5"):
        pytest.skip("jax 0.5: unit vectors are compiled with other roundings; the distance of parallel ones is 8e-33, not 0")
    batch = list(samples(row, request.config, "float64"))[-1]
    x, t, options = arguments(row)
    loss = named_loss(row.loss)
    place: Any = ... if batch.problem.axis is None and not row.whole else (..., 0) if not row.whole else (0,) * x[0].ndim

    def total(*x: Any) -> Any:
        value = loss(*x, *map(jnp.asarray, t), **options)
        return value.sum(), value

    @jax.jit
    def program(*x: Any) -> Any:
        gradient = jax.grad(total, argnums=tuple(range(len(x))), has_aux=True)
        vector = jnp.zeros(x[0].shape).at[place].set(1.0)
        gradients, product, value = jax.jvp(lambda first: gradient(first, *x[1:]), (x[0],), (vector,), has_aux=True)
        return value, gradients, product[0]

    value, gradients, product = program(*map(jnp.asarray, x))
    assert_kept(judge_all(batch, "jax compiled", {"value": (np.asarray(value),), "grad": tuple(map(np.asarray, gradients))}))
    hess = row.exact(batch.problem, ("hess",))["hess"][0]
    slack = (64 + np.zeros_like(hess.high) + batch.spread[1]) * (1 + batch.gamma) * 2.0**-52 * np.maximum(np.abs(hess.high), hess.terms)
    assert (np.abs(np.asarray(product) - hess.high) <= slack + 2.0**-1000)[place].all()


@every_row
def test_masks_weights_and_parts(row):
    """An element with weight 2 counts as two, a masked one is not there, whatever it holds, and parts of batches add."""
    loss, (x, t, options) = named_loss(row.loss), arguments(row)
    options |= {"reduction": "mean"}
    axis, n = (-1, x[0].shape[-1]) if row.regions else (0, len(x[0]))

    def chosen(choose: Any) -> dict[str, Any]:
        return {name: choose(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}

    def reduced(counts: Any, **more: Any) -> Any:
        repeated = [np.repeat(a, counts, axis=axis) for a in (*x, *t)]
        return loss(*repeated, **chosen(lambda a: np.repeat(a, counts)), **more)

    expand = (1,) * (x[0].ndim - 1) if row.regions else ()
    counts = np.arange(n) % 3 % 2 + 1
    np.testing.assert_allclose(loss(*x, *t, **options, weights=counts.reshape(*expand, n)), reduced(counts), rtol=1e-12)
    mask = np.arange(n) % 3 > 0
    with_nan = [np.where(mask if axis == -1 else mask.reshape(n, *(1,) * (a.ndim - 1)), a, np.nan) for a in x]
    value, gradients = loss.value_and_grad(*with_nan, *t, **options, where=mask.reshape(*expand, n))
    np.testing.assert_allclose(value, reduced(mask.astype(int)), rtol=1e-12)
    assert all(np.isfinite(g).all() for g in several(gradients))
    middle = len(x[0]) // 2
    halves = slice(None, middle), slice(middle, None)
    parts = sum(loss.parts(*[a[half] for a in (*x, *t)], **chosen(lambda a, half=half: a[half])) for half in halves)
    np.testing.assert_allclose(loss.finish(parts), loss(*x, *t, **options), rtol=1e-12)
