"""Second derivatives that PyTorch and JAX make of the slopes by themselves: finite and right, in the tails too.

Newton steps, Laplace approximations and Hessian-vector products differentiate the slope that is written down. What is accurate
in a slope need not be safe to differentiate: 1/b in the derivative of a/b is infinite where b is below the smallest normal number
(2 ** -126), or where XLA has made it 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

from arrayloss.check.accuracy import Batch
from arrayloss.check.definitions import DEFINITIONS, Definition
from arrayloss.check.points import ROWS, Problem
from arrayloss.check.run import loss_options, named_loss

from ..exact import with_answers

pytestmark = pytest.mark.exhaustive

SIZES = [0.0, *(s * v for v in (1e-6, 1.0, 30.0, 80.0, 90.0, 100.0, 1e4) for s in (1, -1))]
PROBABILITIES = [1e-30, 1e-18, 1e-6, 0.25, 0.5, 0.75, 1 - 1e-6, 1 - 2.0**-24]
TARGETS: dict[str, list[Any]] = {
    "binary": [0, 1],
    "signs": [-1, 1],
    "counts": [0.0, 1.0, 0.75, 7.0, 90.0],
    "unit": [0.0, 1.0, 0.25, 1e-6, 1 - 1e-6],
    "real": [0.125, 0.625, -90.5],
}
TARGETS |= {"labels": [0, 1, 2], "logits": [(0.0, 0.0, 0.0), (1.0, -1.0, 0.0), (-40.0, 0.0, 1e-6), (90.0, 0.0, 0.0)]}
TARGETS["log_probs"] = [(-0.5, -1.5, -2.0), (-1.0, -1e-6, -40.0), (-80.0, -0.25, -3.0)]
TARGETS["distribution"] = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.125, 0.625, 0.25), (1 - 1e-6, 0.0, 1e-6)]
DOMAINS: dict[str, list[Any]] = {"real": SIZES, "positive": [1.0], "unit": PROBABILITIES, "logits": [(x, 0.0, 0.0) for x in SIZES]}
DOMAINS |= {"exponents": [x for x in SIZES if abs(x) <= 80], "above_minus_one": [-1 + 2.0**-24, -0.5, 0.0, 1e-6, 7.0, 1e4]}
TARGETS |= {"vectors": [(1.0, -0.5, 0.25), (-2.0, 1.0, 4.0)], "none": [None]}
TARGETS |= {"lists": [(0, -1, -1), (2, 1, -1), (-1, -1, -1)], "relevance": [(0.0, 1.0, 3.0), (2.0, 0.0, 0.0), (0.0, 0.0, 0.0)]}
DOMAINS["vectors"] = [(1.0, 2.0, -0.5), (0.5, -1.0, 0.25), (3.0, 0.0, 4.0), (-0.25, 0.125, 0.75)]
DOMAINS["log_probs"] = [(-1.0, x, -2.0) for x in SIZES if x <= 0]
DOMAINS["probs"] = [(p, (1 - p) * 0.75, (1 - p) * 0.25) for p in PROBABILITIES]
GAMMAS = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)
LENGTH = 75  # of every sample, so that JAX compiles every operation once: 15 sizes by 5 targets

# Differentiating a formula adds roundings to those of the formula: 4 float32 epsilons of the terms of the exact second derivative, which
# may cancel. They grow with the logit, since an exponential carries the rounding of x - max, and with gamma, as in a power.
RELATIVE = 4 * 2.0**-23
# Below the smallest normal number of float32 XLA has only 0. What it flushes, exp(-90) or a little less, would yet have been multiplied
# by |x| and small counts: so much is lost of a second derivative of that size.
FLUSHED = 2.0**-126 * 128


def _forms() -> Iterator[tuple[Definition, str, Mapping[str, Any]]]:
    """Every loss of elements and rows: kinds of targets, options, every gamma where there is one."""
    for definition in itertools.chain.from_iterable(DEFINITIONS.values()):
        if not definition.whole:
            gammas = [{**definition.options[0], "gamma": g} for g in GAMMAS] if definition.gamma({}) else []
            several = {tuple(sorted(o.items())): o for o in (*definition.options, *gammas)}
            yield from ((definition, kind, options) for kind in definition.targets for options in several.values())


FORMS = list(_forms())
NAMES = [f"{d.loss}-{d.given}-{kind}-{'-'.join(f'{k}={v}' for k, v in o.items())}" for d, kind, o in FORMS]
SOFT = [i for i, (_, kind, _) in enumerate(FORMS) if kind not in ("binary", "signs", "labels", "none", "lists")]
every_sample = pytest.mark.parametrize("number", range(len(FORMS)), ids=NAMES)


@cache
def _batch(number: int) -> Batch:
    definition, kind, options = FORMS[number]
    domain, *others = definition.predictions
    rows = domain in ROWS
    points = [(p, t) for p, t in itertools.product(DOMAINS[domain], TARGETS[kind]) if not _overflows(definition, p, t)]
    points = (points * (LENGTH // len(points) + 1))[:LENGTH]
    x = np.array([p for p, _ in points], dtype=float)
    predictions = (x, *[np.full(x.shape, DOMAINS[d][0]) for d in others])
    t = None if kind == "none" else np.array([t for _, t in points])
    t = np.repeat(t[:, None], x.shape[1], axis=1) if rows and kind == "binary" else t
    problem = Problem(kind, predictions, t, -1 if rows else None, options)
    return Batch(definition, problem.rounded("float32"), "float32")


def _overflows(definition: Definition, p: Any, t: Any) -> bool:
    """Whether a probability has a second derivative of -log(p) that float32 cannot hold: a focal factor may make it finite again."""
    rows = definition.predictions[0] == "probs"
    return (rows or definition.predictions[0] == "unit") and np.ravel(p)[0] < 1e-19 and np.ndim(t) == rows and np.ravel(t)[0] > 0


class Sample:
    """A batch as float32 arrays, and the exact second derivatives with the sums of their terms."""

    def __init__(self, config: pytest.Config, number: int) -> None:
        self.batch = with_answers(config, _batch(number))
        problem = self.problem = self.batch.problem
        self.predictions = [p.astype(np.float32) for p in problem.predictions]
        self.targets = [] if problem.targets is None else [problem.targets.astype(np.int32 if problem.labels else np.float32)]
        self.options = loss_options(problem, "sum")
        self.places: list[Any] = [slice(None)] if problem.axis is None else [0, 1, 2]  # entries of a row move one after the other
        hess = self.batch.exact.get("hess")  # not promised for all
        self.exact = hess or self.batch.definition.exact(problem, ("hess",))["hess"]

    def call(self, *arrays: Any) -> Any:
        """The sum of the losses."""
        return named_loss(self.batch.definition.loss)(*arrays, **self.options)

    def assert_right(self, second: Any) -> None:
        """Finite wherever float32 can hold the exact second derivative, and close to it."""
        problem = self.problem
        size = np.minimum(np.abs(problem.predictions[0]), 100.0) if self.batch.definition.predictions[0] in ("real", "logits") else 0.0
        if "softcap" in problem.options:  # tanh rounds every logit of a row, XLA's by 4 ulp
            size = 2 * size.max(axis=-1, keepdims=True)
        for exact, a in zip(self.exact, second, strict=True):
            computed = np.asarray(a, dtype=np.float64)
            allowed = RELATIVE * (1 + self.batch.gamma) * (1 + size / 16) * np.fmax(exact.terms, np.abs(exact.high)) + FLUSHED
            wrong = (np.abs(exact.high) < 2.0**127) & ~(np.abs(computed - exact.high) <= allowed)  # NaN is wrong
            places = list(zip(*np.nonzero(wrong), strict=True))
            at = [(problem.predictions[0][i[0]], [t[i[0]] for t in self.targets], i, exact.high[i], computed[i]) for i in places]
            assert not at, f"prediction, target, place, exact, computed: {at[:8]} of {len(at)}"


@pytest.fixture
def sample(request: pytest.FixtureRequest, number: int) -> Sample:
    return Sample(request.config, number)


@every_sample
def test_torch_double_backward_of_the_fast_path(sample, needs):
    needs("torch")
    import torch

    predictions, t = [torch.from_numpy(p).requires_grad_() for p in sample.predictions], list(map(torch.from_numpy, sample.targets))
    slopes = torch.autograd.grad(sample.call(*predictions, *t), predictions, create_graph=True)
    second = [torch.zeros_like(p) for p in predictions]
    for j, p in enumerate(predictions):
        for c in sample.places if slopes[j].requires_grad else ():
            (moved,) = torch.autograd.grad(slopes[j][..., c].sum(), p, retain_graph=True, allow_unused=True)
            if moved is not None:
                second[j][..., c] = moved[..., c]
    sample.assert_right([s.detach().numpy() for s in second])


@every_sample
def test_torch_transforms_of_the_general_path(sample, needs):
    needs("torch")
    import torch

    predictions, t = [torch.from_numpy(p) for p in sample.predictions], list(map(torch.from_numpy, sample.targets))
    second = [torch.zeros_like(p) for p in predictions]
    for j, p in enumerate(predictions):

        def slope(x: Any, j: int = j) -> Any:
            return torch.func.grad(lambda a: sample.call(*predictions[:j], a, *predictions[j + 1 :], *t))(x)

        for c in sample.places:
            direction = torch.zeros_like(p)
            direction[..., c] = 1
            second[j][..., c] = torch.func.jvp(slope, (p,), (direction,))[1][..., c]
    sample.assert_right([s.numpy() for s in second])


@every_sample
def test_jax_jvp_of_grad(sample, needs):
    needs("jax")
    import jax
    import jax.numpy as jnp

    with jax.disable_jit():
        predictions, t = [jnp.asarray(p) for p in sample.predictions], list(map(jnp.asarray, sample.targets))
        second = [np.zeros(p.shape) for p in predictions]
        for j, p in enumerate(predictions):

            def slope(x: Any, j: int = j) -> Any:
                return jax.grad(lambda a: sample.call(*predictions[:j], a, *predictions[j + 1 :], *t))(x)

            for c in sample.places:
                direction = np.zeros(p.shape, np.float32)
                direction[..., c] = 1
                second[j][..., c] = jax.jvp(slope, (p,), (jnp.asarray(direction),))[1][..., c]
    sample.assert_right(second)


def _is_compiled(definition: Definition, kind: str, options: Mapping[str, Any]) -> bool:
    """Cross-entropies and focal losses of logits, each with one set of options: compiling takes seconds."""
    names = "sigmoid_cross_entropy", "sigmoid_focal_loss", "softmax_cross_entropy", "softmax_focal_loss"
    return definition.loss in names and definition.predictions[0] in ("real", "logits") and options in ({}, {"gamma": 0.25})


COMPILED = [i for i, form in enumerate(FORMS) if _is_compiled(*form)]


@pytest.mark.parametrize("number", COMPILED, ids=[NAMES[i] for i in COMPILED])
def test_jax_compiles_second_derivatives_and_differentiates_backwards_twice(sample, needs):
    """A compiler reorders the factors, and reverse over reverse multiplies them in another order."""
    needs("jax")
    import jax
    import jax.numpy as jnp

    x, t = jnp.asarray(sample.predictions[0]), jnp.asarray(sample.targets[0])

    def slope(x: Any, t: Any) -> Any:
        return jax.grad(sample.call)(x, t)

    if sample.problem.axis is None:
        sample.assert_right([jax.jit(jax.grad(lambda x, t: slope(x, t).sum()))(x, t)])
    else:
        rows = jax.jit(jax.vmap(jax.jacrev(slope), axis_size=LENGTH))(x, t)
        sample.assert_right([np.diagonal(rows, axis1=-2, axis2=-1)])


@pytest.mark.parametrize("number", SOFT, ids=[NAMES[i] for i in SOFT])
def test_mixed_second_derivatives_in_prediction_and_target_are_finite(sample, needs):
    """A target that learns beside a prediction: the slope that is written down is differentiated in the target.

    Where a focal loss of 0 < gamma < 1 is certain it is infinite itself, as miss ** (gamma - 1); there it only must not be NaN.
    """
    needs("torch", "jax")
    import jax
    import jax.numpy as jnp
    import torch

    x, *rest = [torch.from_numpy(p) for p in sample.predictions]
    t = torch.from_numpy(sample.targets[0]).requires_grad_()
    x.requires_grad_()
    (slope,) = torch.autograd.grad(sample.call(x, *rest, t), x, create_graph=True)
    (mixed,) = torch.autograd.grad(slope.sum(), t)
    with jax.disable_jit():
        others, y = [jnp.asarray(p) for p in sample.predictions[1:]], jnp.asarray(sample.targets[0])
        _, moved = jax.jvp(lambda t: jax.grad(sample.call)(jnp.asarray(sample.predictions[0]), *others, t), (y,), (jnp.ones_like(y),))
    for computed in (mixed.numpy(), np.asarray(moved)):
        wrong = np.isnan(computed) if 0 < sample.batch.gamma < 1 else ~np.isfinite(computed)
        assert not wrong.any(), [(x_, t_) for x_, t_, w in zip(sample.predictions[0], sample.targets[0], wrong, strict=True) if np.any(w)][
            :8
        ]
