"""The forms of the divergence: all pairs of what predictions and targets may be, peers, temperature, and the ends of the domains."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from arrayloss import kl_divergence
from arrayloss.check.libraries import LIBRARIES

from .test_peers import SOFT, UNIT, X, agree_in_torch
from .test_peers_margins import agree_in_optax

FORMS = ("logits", "log_probs", "probs")
LOG_Q, Q = X - np.logaddexp.reduce(X, axis=1, keepdims=True), np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
TO_PROBS: dict[str, Any] = {"given": "log_probs", "targets_given": "probs"}
INF = math.inf


def textbook(x: torch.Tensor, t: torch.Tensor, forms: Any, temperature: Any, reverse: bool, generalized: bool) -> torch.Tensor:
    def with_log(a: torch.Tensor, form: str) -> tuple[torch.Tensor, torch.Tensor]:
        a = torch.log_softmax(a / temperature, -1) if form == "logits" else a.log() if form == "probs" else a
        return a.exp(), a

    (q, log_q), (p, log_p) = map(with_log, (x, t), forms)
    own, other, gap = (q, p, log_q - log_p) if reverse else (p, q, log_p - log_q)
    return (own * gap + (other - own if generalized else 0)).sum(-1)


@pytest.mark.parametrize("forms", list(product(FORMS, FORMS)), ids=" ".join)
def test_all_pairs_are_their_textbooks(forms: Any) -> None:
    """With the gradients for predictions, for targets and for a temperature that learns."""
    draws = {"logits": X, "log_probs": LOG_Q, "probs": Q}
    for reverse, generalized, temperature in product((False, True), (False, True), (None, 2.5) if "logits" in forms else (None,)):
        x, t = (torch.tensor(draws[form][::step].copy(), requires_grad=True) for form, step in zip(forms, (1, -1), strict=True))
        scale = torch.tensor(temperature or 1.0, dtype=torch.float64, requires_grad=temperature is not None)
        leaves = [x, t] if temperature is None else [x, t, scale]
        options: Any = {"given": forms[0], "targets_given": forms[1], "reverse": reverse, "generalized": generalized, "reduction": "none"}
        values = (
            kl_divergence(x, t, temperature=1.0 if temperature is None else scale, **options),
            textbook(x, t, forms, scale, reverse, generalized),
        )
        torch.testing.assert_close(*values, rtol=1e-12, atol=1e-13)
        gradients = [torch.autograd.grad((v * torch.arange(1.0, 7.0)).sum(), leaves) for v in values]
        torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("log_target", [False, True])
def test_torch_kl_div(log_target: bool) -> None:
    """Its batchmean is the mean over rows, its mean and "none" are those of entries. A target of 0 counts 0 in both."""
    t = SOFT.copy()
    t[0] = [0.0, 0.25, 0.75, 0.0]
    given = "log_probs" if log_target else "probs"
    ours, t = kl_divergence.bind(given="log_probs", targets_given=given), np.log(SOFT) if log_target else t
    for reduction, options in (
        ("batchmean", {}),
        ("sum", {"reduction": "sum"}),
        ("mean", {"elementwise": True}),
        ("none", {"elementwise": True, "reduction": "none"}),
    ):
        peer = partial(torch.nn.functional.kl_div, reduction=reduction, log_target=log_target)
        agree_in_torch(ours.bind(**options), peer, LOG_Q, t)


@pytest.mark.exhaustive  # compiles for ten seconds
def test_optax_divergences() -> None:
    peers: Any = pytest.importorskip("optax").losses
    rows = kl_divergence.bind(reduction="none", **TO_PROBS)
    pairs = [
        (rows, peers.kl_divergence, LOG_Q, SOFT),
        (rows.bind(targets_given="log_probs"), peers.kl_divergence_with_log_targets, LOG_Q, np.log(SOFT)),
        (rows.bind(generalized=True), peers.generalized_kl_divergence, X, UNIT),  # also known as convex_kl_divergence
    ]
    agree_in_optax(pairs)


def test_probabilities_that_nearly_agree_keep_their_digits() -> None:
    """log(p) - log(q) has none of them left, nor has p * log(p / q) - p + q."""
    q, p = np.float32([0.3, 0.3, 1e-20, 0.9]), np.float32([0.3 * (1 + 2.0**-20), 0.3, 3e-20, 1e-38])
    value, slope = kl_divergence.value_and_grad(
        q, p, given="probs", targets_given="probs", generalized=True, elementwise=True, reduction="none"
    )
    with mpmath.workdps(50):
        for i in range(4):
            a, b = mpmath.mpf(float(q[i])), mpmath.mpf(float(p[i]))
            np.testing.assert_allclose(value[i], float(b * mpmath.log(b / a) - b + a), rtol=4e-7)
            np.testing.assert_allclose(slope[i], float((a - b) / a), rtol=3e-7)


@pytest.mark.parametrize("library", ["numpy", "torch", pytest.param("jax", marks=pytest.mark.exhaustive)])
def test_probabilities_of_zero(library: str) -> None:
    """0 log 0 is 0; p > 0 = q is infinite, and its gradient from logarithms finite; at p = q = 0 the slope is 0."""
    on = LIBRARIES[library]
    q, p = np.array([0.5, 0.0, 0.0, 0.5]), np.array([0.0, 0.0, 0.5, 0.5])
    with on.precision("float64"), np.errstate(divide="ignore"):
        logs = np.log(q), np.log(p)
    expected = {
        (False, False): ([0, 0, INF, 0], [0, 0, -0.5, -0.5]),
        (False, True): ([0.5, 0, INF, 0], [0.5, 0, -0.5, 0]),
        (True, False): ([INF, 0, 0, 0], [0.5, 0, 0, 0.5]),
        (True, True): ([INF, 0, 0.5, 0], [0, 0, 0, 0]),
    }
    with on.precision("float64"):
        for (reverse, generalized), (values, slopes) in expected.items():
            options = {"reverse": reverse, "generalized": generalized, "elementwise": True, "reduction": "none"}
            for given, targets_given in product(FORMS[1:], FORMS[1:]):
                x, t = q if given == "probs" else logs[0], p if targets_given == "probs" else logs[1]
                value, slope = kl_divergence.value_and_grad(
                    on.array(x, "float64"), on.array(t, "float64"), given=given, targets_given=targets_given, **options
                )
                np.testing.assert_array_equal(on.numpy(value), values)
                with np.errstate(all="ignore"):
                    right = np.array(slopes) / q if given == "probs" else np.array(slopes)
                np.testing.assert_allclose(on.numpy(slope), np.where(np.isnan(right), 0.0, right), atol=1e-300)


def test_a_class_that_log_probabilities_or_logits_mask() -> None:
    """Of a softmax every gradient is finite, and infinite is only the loss."""
    x, t = np.array([[1.0, -INF, 0.5], [INF, 0.0, 0.0]]), np.array([[0.25, 0.0, 0.75], [0.5, 0.5, 0.0]])
    value, gradient = kl_divergence.value_and_grad(x, t, targets_given="probs", reduction="none")
    right = kl_divergence(x[:1, ::2], t[:1, ::2], targets_given="probs")
    np.testing.assert_allclose(value, [right, INF], rtol=1e-15)
    np.testing.assert_allclose(gradient[1], [0.5, -0.5, 0.0])
    value, gradient = kl_divergence.value_and_grad(np.zeros((1, 3)), t[:1], targets_given="probs", reverse=True, reduction="none")
    assert value == INF
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("given", FORMS[1:])
def test_nan_stays_and_a_masked_one_reaches_no_gradient(given: str) -> None:
    """A target of 0 hid it; of a learning target or temperature the derivative of a masked row was inf * 0."""
    x, t = np.array([[np.nan, 0.5, 0.5], [0.2, 0.3, 0.5]]), np.array([[0.0, 0.5, 0.5], [0.0, 0.4, 0.6]])
    for reverse, generalized in product((False, True), (False, True)):
        options: Any = {"given": given, "targets_given": "probs", "reverse": reverse, "generalized": generalized}
        assert np.isnan(kl_divergence(x, t, reduction="none", **options)[0])
        leaf, target = torch.tensor(x, requires_grad=True), torch.tensor(t, requires_grad=True)
        kl_divergence(leaf, target, where=torch.tensor([False, False]), **options).backward()
        assert not leaf.grad.any()
        assert not target.grad.any()
    rows, temperature = torch.tensor(x), torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    options = {"targets_given": "probs", "reverse": True, "where": torch.tensor([False, True])}
    kl_divergence(rows, torch.tensor([[0.0, 0.5, 0.5], [0.2, 0.3, 0.5]]), temperature=temperature, **options).backward()
    assert torch.isfinite(temperature.grad)


def test_a_learning_target_of_zero_has_a_finite_gradient() -> None:
    p = torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64, requires_grad=True)
    for given, x in (("logits", X[:2, :2]), ("log_probs", LOG_Q[:2, :2]), ("probs", Q[:2, :2])):
        value = kl_divergence(torch.tensor(x), p, given=given, targets_given="probs", reduction="sum")
        (gradient,) = torch.autograd.grad(value, p)
        log_q = torch.log_softmax(torch.tensor(x), -1) if given == "logits" else torch.tensor(x if given == "log_probs" else np.log(x))
        right = (p.log() + 1 - log_q).detach().numpy()
        np.testing.assert_allclose(gradient.numpy(), np.where(np.isfinite(right), right, 0.0), rtol=1e-13)


def test_near_zero_of_a_high_temperature() -> None:
    """What softmax rounds in x / T is gone before the difference: rows are subtracted first, and divided then."""
    t = np.float32([[3.0, -1.0, 0.5, 8.0]])
    x = t + np.float32([[2.0**-18, 0.0, 0.0, 0.0]])
    value, slope = kl_divergence.value_and_grad(x, t, temperature=3.0)
    with mpmath.workdps(50):
        rows = [[mpmath.mpf(float(v)) / 3 for v in a[0]] for a in (x, t)]
        q, p = ([mpmath.exp(v) / mpmath.fsum(map(mpmath.exp, a)) for v in a] for a in rows)
        right = mpmath.fsum(b * mpmath.log(b / a) for a, b in zip(q, p, strict=True))
        np.testing.assert_allclose(value, float(right), rtol=1e-6)
        np.testing.assert_allclose(slope[0], [float((a - b) / 3) for a, b in zip(q, p, strict=True)], rtol=1e-6)


def test_what_has_no_meaning_is_refused() -> None:
    for options, text in (
        ({"temperature": 2.0, **TO_PROBS}, "temperature must be 1 without logits"),
        ({"elementwise": True}, "elementwise must be False for logits"),
        ({"given": "probs", "elementwise": True}, "elementwise must be False for logits"),
        ({"given": "log"}, "given must be 'logits', 'log_probs' or 'probs'; got 'log'"),
        ({"reverse": 1}, "reverse must be True or False; got 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ):
        with pytest.raises(ValueError, match=text):
            kl_divergence(X, X, **options)
    with pytest.raises(ValueError, match="predictions must have at least two classes"):
        kl_divergence(X[:, :1], SOFT[:, :1], targets_given="probs")
    with pytest.raises(ValueError, match="targets must have the shape of predictions"):
        kl_divergence(X, SOFT[0], targets_given="probs")
