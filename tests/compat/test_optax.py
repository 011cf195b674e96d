"""`arrayloss.compat.optax` beside the installed optax: value and gradient on JAX arrays, NumPy arrays and tensors; signatures, refusals."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from arrayloss.check.libraries import LIBRARIES
from arrayloss.compat import optax as compat
from arrayloss.compat._preset import UnlikeError

optax = pytest.importorskip("optax", minversion="0.2.8")  # older ones lack arguments and losses
rng = np.random.default_rng(0)
X, Y, UNIT = rng.normal(size=(6, 4)) * 2, rng.normal(size=(6, 4)), rng.uniform(0.05, 0.95, size=(6, 4))
SOFT, LABELS = rng.dirichlet(np.ones(4), size=6), np.array([0, 3, 2, 1, 1, 2])
SIGNS = np.where(rng.uniform(size=(6, 4)) < 0.5, 1.0, -1.0)
LOGS = X - np.log(np.exp(X).sum(-1, keepdims=True))
WHERE = rng.uniform(size=(6, 4)) < 0.7
WHERE[0] = False
KEEPS_LABEL = WHERE | np.eye(4, dtype=bool)[LABELS]
IMAGE, MASKS = rng.normal(size=(2, 5, 3, 4)), np.eye(4)[rng.integers(0, 4, size=(2, 5, 3))]
PADDINGS, ENDS = np.array([[0.0] * 7, [0.0] * 6 + [1.0], [0.0] * 7]), np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
FORMS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("squared_error", (X, Y), {}),
    ("squared_error", (X,), {}),
    ("l2_loss", (X, Y), {}),
    ("huber_loss", (X, Y), {"delta": 0.5}),
    ("log_cosh", (X, Y), {}),
    ("cosine_similarity", (X, Y), {}),
    ("cosine_distance", (X, Y), {"axis": 0}),
    ("cosine_distance", (IMAGE, MASKS + 0.1), {"axis": (1, 3)}),
    ("cosine_distance", (X[1:], Y[1:]), {"where": WHERE[1:]}),
    ("sigmoid_binary_cross_entropy", (X, SOFT), {}),
    ("sigmoid_focal_loss", (X, SIGNS > 0), {"alpha": 0.25, "gamma": 1.5}),
    ("hinge_loss", (X, SIGNS), {}),
    ("perceptron_loss", (X, SIGNS), {}),
    ("sparsemax_loss", (X, (SIGNS > 0).astype(int)), {}),
    ("softmax_cross_entropy", (X, SOFT), {}),
    ("softmax_cross_entropy", (X[1:], SOFT[1:]), {"where": WHERE[1:]}),
    ("softmax_cross_entropy", (IMAGE, MASKS), {"axis": (1, -1)}),
    ("safe_softmax_cross_entropy", (X, SOFT), {}),
    ("poly_loss_cross_entropy", (X, SOFT), {"epsilon": 1.0}),
    ("softmax_cross_entropy_with_integer_labels", (X, LABELS), {}),
    ("softmax_cross_entropy_with_integer_labels", (X, LABELS), {"where": KEEPS_LABEL}),
    ("softmax_cross_entropy_with_integer_labels", (IMAGE, np.array([[0, 7, 19], [3, 11, 5]])), {"axis": (3, 1)}),
    ("kl_divergence", (LOGS, SOFT * WHERE), {}),
    ("kl_divergence", (IMAGE, MASKS), {"axis": (1, 3)}),
    ("kl_divergence_with_log_targets", (LOGS, np.log(SOFT)), {"where": WHERE}),
    ("generalized_kl_divergence", (LOGS, SOFT * WHERE), {"axis": None}),
    ("convex_kl_divergence", (LOGS, SOFT), {"axis": 0, "where": WHERE}),
    ("multiclass_hinge_loss", (X, LABELS), {}),
    ("multiclass_perceptron_loss", (X, LABELS), {}),
    ("multiclass_sparsemax_loss", (X, LABELS), {}),
    ("ranking_softmax_loss", (X, UNIT), {"where": WHERE}),
    ("ranking_softmax_loss", (X, UNIT), {"where": WHERE, "weights": UNIT, "reduce_fn": None}),
    ("ctc_loss", (rng.normal(size=(3, 7, 4)), PADDINGS, np.array([[1, 2], [3, 3], [1, 0]]), ENDS), {}),
    ("ntxent", (X, np.array([0, 1, 0, 1, 2, 2])), {"temperature": 0.5}),
    ("triplet_margin_loss", (X, Y, UNIT), {"axis": 0, "eps": 0.1, "norm_degree": 4}),
    ("dice_loss", (IMAGE, MASKS), {"alpha": 0.3, "beta": 0.7}),
    ("dice_loss", (IMAGE, MASKS), {"class_weights": UNIT[0], "ignore_background": True, "smooth": 0.0}),
    ("dice_loss", (SOFT[:, None], MASKS[:1, 0, :1].repeat(6, 0)), {"apply_softmax": False, "reduction": "sum"}),
    ("multiclass_generalized_dice_loss", (IMAGE, MASKS), {}),
    ("binary_dice_loss", (IMAGE[..., 0], MASKS[..., 0]), {}),
]


def as_arrays(value: Any, to: Any) -> Any:
    return to(value) if isinstance(value, np.ndarray) else value


# What compiles least
QUICK = ["squared_error", "l2_loss", "hinge_loss", "sigmoid_binary_cross_entropy", "poly_loss_cross_entropy", "kl_divergence"]


@pytest.mark.filterwarnings("ignore:The function convex_kl_divergence is deprecated")
@pytest.mark.parametrize(
    ("name", "arrays", "options"),
    [pytest.param(*f, id=f"{f[0]}-{i}", marks=() if f[0] in QUICK else pytest.mark.exhaustive) for i, f in enumerate(FORMS)],
)
def test_value_and_gradient(name: str, arrays: Any, options: Any) -> None:
    import jax
    import torch

    ours, theirs = compat.LOSSES[name], getattr(optax.losses, name)
    with LIBRARIES["jax"].precision("float64"):
        given, own = [as_arrays(a, jax.numpy.asarray) for a in arrays], {n: as_arrays(v, jax.numpy.asarray) for n, v in options.items()}

        def total(x: Any, loss: Any) -> Any:
            value = loss(x, *given[1:], **own)
            return value.sum(), value

        (_, expected), gradient = jax.value_and_grad(total, has_aux=True)(given[0], theirs)
        (_, value), found = jax.value_and_grad(total, has_aux=True)(given[0], ours)
        expected, gradient, results = np.asarray(expected), np.asarray(gradient), [(value, found)]
    for to in (np.asarray, torch.tensor):
        results += [ours.value_and_grad(*[as_arrays(a, to) for a in arrays], **{n: as_arrays(v, to) for n, v in options.items()})]
    for value, found in results:
        found = found[0] if isinstance(found, tuple) else found
        assert np.shape(value) == expected.shape
        np.testing.assert_allclose(np.asarray(value), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.asarray(found), gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(
    optax.__version__ != "0.2.8", reason=f"optax 0.2.8, whose signatures the presets have, is not installed: {optax.__version__} is"
)
def test_every_loss_has_its_signature() -> None:
    """But for the mean of JAX, which is its name here."""
    names = {n for n in dir(optax.losses) if not n.startswith("_") and callable(getattr(optax.losses, n))}
    assert set(compat.__all__) == names
    for name in compat.__all__:
        own, theirs = (list(inspect.signature(f).parameters.values()) for f in (getattr(compat, name), getattr(optax.losses, name)))
        ours = [(p.name, p.kind, getattr(p.default, "__name__", p.default)) for p in own]
        assert ours == [(p.name, p.kind, getattr(p.default, "__name__", p.default)) for p in theirs], name


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(UnlikeError, match="the table of forward probabilities is not kept"):
        compat.ctc_loss_with_forward_probs(X, X, X, X)
    with pytest.raises(UnlikeError, match=r"arrayloss\.fenchel_young"):
        compat.make_fenchel_young_loss(max)
    with pytest.raises(UnlikeError, match="epsilon must be 0"):
        compat.cosine_distance(X, Y, epsilon=1e-6)
    with pytest.raises(TypeError, match="unexpected keyword argument 'reduction'"):
        compat.squared_error(X, Y, reduction="mean")
    with pytest.raises(ValueError, match="one shape"):
        compat.squared_error(X, Y[0])
    with pytest.raises(ValueError, match="sum to 1"):
        compat.dice_loss(IMAGE, MASKS, apply_softmax=False)


def test_smooth_labels() -> None:
    np.testing.assert_allclose(compat.smooth_labels(SOFT, 0.2), 0.8 * SOFT + 0.05, rtol=1e-14)
    np.testing.assert_allclose(compat.smooth_labels(SOFT, 0.2, where=WHERE[1:2])[:, 0], 0.8 * SOFT[:, 0] + 0.2 / WHERE[1].sum(), rtol=1e-14)
