"""Second derivatives that PyTorch and JAX make of the slopes by themselves: finite and right, in the tails too.

Newton steps, Laplace approximations and Hessian-vector products differentiate the slope that is written down. What is accurate
in a slope need not be safe to differentiate: 1/b in the derivative of a/b is infinite where b is below the smallest normal number
(2 ** -126), or where XLA has made it 0.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from helpers import library
from mpmath import mpf

from arrayloss.consistency import oracles
from arrayloss.consistency.oracles import ORACLES
from arrayloss.core.loss import REGISTRY

SIZES = [0.0, *(s * v for v in (1e-6, 1.0, 30.0, 80.0, 90.0, 100.0, 1e4) for s in (1, -1))]
PROBABILITIES = [1e-30, 1e-18, 1e-6, 0.25, 0.5, 0.75, 1 - 1e-6, 1 - 2.0**-24]
TARGETS = {"binary": [0, 1], "unit": [0.0, 1.0, 0.25, 1e-6, 1 - 1e-6], "real": [0.125, 0.625, -90.5], "labels": [0, 1, 2]}
TARGETS["logits"] = [(0.0, 0.0, 0.0), (1.0, -1.0, 0.0), (-40.0, 0.0, 1e-6), (90.0, 0.0, 0.0)]
TARGETS["distribution"] = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.125, 0.625, 0.25), (1 - 1e-6, 0.0, 1e-6)]
DOMAINS = {"real": SIZES, "positive": [1.0], "unit": PROBABILITIES, "logits": [(x, 0.0, 0.0) for x in SIZES]}
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


@dataclass(frozen=True)
class Sample:
    """Predictions and targets of one loss, as float32 numbers, and the exact second derivatives with the sums of their terms."""

    loss: str
    options: tuple
    domain: tuple
    rows: bool
    predictions: tuple
    targets: np.ndarray
    exact: tuple
    terms: tuple

    def __str__(self):
        kind = "soft" if self.targets.dtype.kind == "f" else "hard"
        return "-".join([self.loss, self.domain[0], kind, *(f"{k}={v}" for k, v in self.options if k != "given")])

    def call(self, *arrays, reduction="sum"):
        return REGISTRY[self.loss](*arrays, reduction=reduction, **dict(self.options), **({"axis": -1} if self.rows else {}))

    @property
    def positions(self):
        """Which entries of a row are differentiated together: one after the other; elements all at once."""
        return range(3) if self.rows else [slice(None)]


def asked():
    """(loss, oracle, kind of targets, options): all that is registered with a definition, every gamma where there is one."""
    for loss, forms in ORACLES.items():
        for oracle in forms:
            options = {tuple(sorted(o.items())): dict(o) for o in oracle.options}
            if "focal" in loss:
                made = [{k: v for k, v in oracle.options[0].items() if k == "given"} | {"gamma": g} for g in GAMMAS]
                options |= {tuple(sorted(o.items())): o for o in made}
            yield from ((loss, oracle, kind, o) for kind in oracle.targets for o in options.values())


@cache
def sample(number):
    loss, oracle, kind, options = list(asked())[number]
    first = DOMAINS[oracle.predictions[0]]
    points = [(p, t) for p, t in itertools.product(first, TARGETS[kind]) if not _overflows(oracle, p, t)]
    points = (points * (LENGTH // len(points) + 1))[:LENGTH]
    x = np.array([p for p, _ in points], dtype=np.float32)
    t = np.array([t for _, t in points])
    t = t.astype(np.float32) if t.dtype.kind == "f" else t.astype(np.int32)
    predictions = (x, *(np.full(x.shape, DOMAINS[d][0], dtype=np.float32) for d in oracle.predictions[1:]))
    exact, terms = [np.zeros(x.shape) for _ in predictions], [np.zeros(x.shape) for _ in predictions]
    known = {}
    for i in range(LENGTH):
        key = points[i]
        if key not in known:
            known[key] = _exact(oracle, [p[i] for p in predictions], t[i], options)
        for j, (d, s) in enumerate(known[key]):
            exact[j][i], terms[j][i] = d, s
    return Sample(loss, tuple(options.items()), oracle.predictions, oracle.rows, predictions, t, tuple(exact), tuple(terms))


def _overflows(oracle, p, t):
    """Whether a probability has a second derivative of -log(p) that float32 cannot hold: a focal factor may make it finite again."""
    return oracle.predictions[0] in ("unit", "probs") and np.ravel(p)[0] < 1e-19 and np.ndim(t) == oracle.rows and np.ravel(t)[0] > 0


def _exact(oracle, entries, t, options):
    """Second derivatives of one element or row in every prediction, and their terms."""
    if oracle.rows:
        row = [[mpf(float(v)) for v in p] for p in entries]
        t = int(t) if t.ndim == 0 else [mpf(float(v)) for v in t]
        jets = [[oracles.jet(oracle, row, t, options, (j, c)) for c in range(3)] for j in range(len(row))]
        return [([float(j.orders[2]) for j in of], [float(j.terms[2]) for j in of]) for of in jets]
    numbers = [mpf(float(v)) for v in entries]
    jets = [oracles.jet(oracle, numbers, mpf(float(t)), options, j) for j in range(len(numbers))]
    return [(float(j.orders[2]), float(j.terms[2])) for j in jets]


SAMPLES = [f"{loss}-{oracle.predictions[0]}-{kind}-{options}" for loss, oracle, kind, options in asked()]
every_sample = pytest.mark.parametrize("number", range(len(SAMPLES)), ids=SAMPLES)


def right(made, second):
    """Finite wherever float32 can hold the exact second derivative, and close to it."""
    for j, (exact, terms) in enumerate(zip(made.exact, made.terms, strict=True)):
        computed = np.asarray(second[j], dtype=np.float64)
        held = np.abs(exact) < 2.0**127
        gamma = dict(made.options).get("gamma", 2.0)
        size = np.minimum(np.abs(made.predictions[0]), 100.0) if made.domain[0] in ("real", "logits") else 0.0
        allowed = RELATIVE * (1 + gamma) * (1 + size / 16) * np.fmax(terms, np.abs(exact)) + FLUSHED
        wrong = held & ~(np.abs(computed - exact) <= allowed)  # NaN is wrong
        at = [(made.predictions[0][i[0]], made.targets[i[0]], i, exact[i], computed[i]) for i in zip(*np.nonzero(wrong), strict=True)]
        assert not at, f"{made}: prediction, target, place, exact, computed: {at[:8]} of {len(at)}"


def in_torch(made):
    import torch

    return [torch.from_numpy(p.copy()) for p in made.predictions], torch.from_numpy(made.targets.copy())


@every_sample
def test_torch_double_backward_of_the_fast_path(number):
    library("torch")
    import torch

    made = sample(number)
    predictions, t = in_torch(made)
    predictions = [p.requires_grad_() for p in predictions]
    slopes = torch.autograd.grad(made.call(*predictions, t), predictions, create_graph=True)
    second = [torch.zeros_like(p) for p in predictions]
    for j, p in enumerate(predictions):
        for c in made.positions:
            if slopes[j].requires_grad:
                (moved,) = torch.autograd.grad(slopes[j][..., c].sum(), p, retain_graph=True, allow_unused=True)
                if moved is not None:
                    second[j][..., c] = moved[..., c]
    right(made, [s.detach().numpy() for s in second])


@every_sample
def test_torch_transforms_of_the_general_path(number):
    library("torch")
    import torch

    made = sample(number)
    predictions, t = in_torch(made)
    second = [torch.zeros_like(p) for p in predictions]
    for j, p in enumerate(predictions):

        def slope(x, j=j):
            return torch.func.grad(lambda a: made.call(*predictions[:j], a, *predictions[j + 1 :], t))(x)

        for c in made.positions:
            direction = torch.zeros_like(p)
            direction[..., c] = 1
            second[j][..., c] = torch.func.jvp(slope, (p,), (direction,))[1][..., c]
    right(made, [s.numpy() for s in second])


@every_sample
def test_jax_jvp_of_grad(number):
    library("jax")
    import jax
    import jax.numpy as jnp

    made = sample(number)
    with jax.disable_jit():
        predictions, t = [jnp.asarray(p) for p in made.predictions], jnp.asarray(made.targets)
        second = [np.zeros(p.shape) for p in predictions]
        for j, p in enumerate(predictions):

            def slope(x, j=j):
                return jax.grad(lambda a: made.call(*predictions[:j], a, *predictions[j + 1 :], t))(x)

            for c in made.positions:
                direction = np.zeros(p.shape, np.float32)
                direction[..., c] = 1
                second[j][..., c] = jax.jvp(slope, (p,), (jnp.asarray(direction),))[1][..., c]
    right(made, second)


@pytest.mark.parametrize("name", ["sigmoid_focal_loss", "softmax_focal_loss", "sigmoid_cross_entropy", "softmax_cross_entropy"])
def test_jax_compiles_second_derivatives_and_differentiates_backwards_twice(name):
    """A compiler reorders the factors, and reverse over reverse multiplies them in another order."""
    library("jax")
    import jax
    import jax.numpy as jnp

    for number, (loss, oracle, _, options) in enumerate(asked()):
        if (
            loss == name
            and oracle.predictions[0] in ("real", "logits")
            and set(options) <= {"gamma"}
            and options.get("gamma") in (None, 0.25)
        ):
            made = sample(number)
            x, t = jnp.asarray(made.predictions[0]), jnp.asarray(made.targets)

            def slope(x, t, made=made):
                return jax.grad(made.call)(x, t)

            if made.rows:
                rows = jax.jit(jax.vmap(jax.jacrev(slope), axis_size=LENGTH))(x, t)
                right(made, [np.diagonal(rows, axis1=-2, axis2=-1)])
            else:
                right(made, [jax.jit(jax.grad(lambda x, t, slope=slope: slope(x, t).sum()))(x, t)])


SOFT = [i for i, (_, oracle, kind, _) in enumerate(asked()) if kind in ("unit", "distribution", "real", "logits")]


@pytest.mark.parametrize("number", SOFT, ids=[SAMPLES[i] for i in SOFT])
def test_mixed_second_derivatives_in_prediction_and_target_are_finite(number):
    """A target that learns beside a prediction: the slope that is written down is differentiated in the target.

    Where a focal loss of 0 < gamma < 1 is certain it is infinite itself, as miss ** (gamma - 1); there it only must not be NaN.
    """
    library("torch")
    library("jax")
    import jax
    import jax.numpy as jnp
    import torch

    made = sample(number)
    predictions, t = in_torch(made)
    x = predictions[0].requires_grad_()
    t.requires_grad_()
    (slope,) = torch.autograd.grad(made.call(x, *predictions[1:], t), x, create_graph=True)
    (mixed,) = torch.autograd.grad(slope.sum(), t)
    with jax.disable_jit():
        others, t = [jnp.asarray(p) for p in made.predictions[1:]], jnp.asarray(made.targets)

        def bend(t):
            return jax.grad(made.call)(jnp.asarray(made.predictions[0]), *others, t)

        _, moved = jax.jvp(bend, (t,), (jnp.ones_like(t),))
    for computed in (mixed.numpy(), np.asarray(moved)):
        infinite = 0 < dict(made.options).get("gamma", 2.0) < 1
        wrong = np.isnan(computed) if infinite else ~np.isfinite(computed)
        assert not wrong.any(), [(x_, t_) for x_, t_, w in zip(made.predictions[0], made.targets, wrong, strict=True) if np.any(w)][:8]
