"""The settings in which other libraries mean the same overlap, live; docs/overlap.md has them as a table."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from arrayloss import dice_loss, generalized_dice_loss, jaccard_loss, tversky_loss
from arrayloss.check.libraries import LIBRARIES

monai = pytest.importorskip("monai.losses", exc_type=ImportError)
kornia = pytest.importorskip("kornia.losses", exc_type=ImportError)
optax = pytest.importorskip("optax.losses", exc_type=ImportError)
import jax  # noqa: E402
import torch  # noqa: E402

N, C, H, W = 2, 3, 6, 5
SOFTMAX: dict[str, Any] = {"activation": "softmax", "axis": 1}
RTOL = 1e-12  # float64 against formulas that cancel


def logits() -> Any:
    return torch.tensor(2 * np.random.default_rng(0).normal(size=(N, C, H, W)), requires_grad=True)


def labels() -> Any:
    drawn = torch.tensor(np.random.default_rng(1).integers(0, C, (N, H, W)))
    drawn[:, 0, :C] = torch.arange(C)  # every class in every sample
    return drawn


def assert_same(ours: Any, theirs: Any, x: Any, rtol: float = RTOL) -> None:
    """Value and gradient."""
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=1e-14)
    (g,) = torch.autograd.grad(ours.sum(), x)
    (h,) = torch.autograd.grad(theirs.sum(), x)
    torch.testing.assert_close(g, h, rtol=100 * rtol, atol=100 * rtol * float(h.abs().max()))


MONAI_DICE = [
    ({}, {"softmax": True}),
    ({}, {"softmax": True, "batch": True}),
    ({"squared": True}, {"softmax": True, "squared_pred": True}),
    ({"soft_labels": True}, {"softmax": True, "soft_label": True}),
    ({"classes": (1, 2)}, {"softmax": True, "include_background": False}),
    ({"activation": "sigmoid"}, {"sigmoid": True}),
    ({"class_weights": (1.0, 2.0, 3.0), "reduction": "sum"}, {"softmax": True, "weight": (1.0, 2.0, 3.0), "reduction": "sum"}),
    ({"reduction": "none"}, {"softmax": True, "reduction": "none"}),
]


@pytest.mark.parametrize(("ours", "theirs"), MONAI_DICE)
@pytest.mark.parametrize("smooth", [1.0, 1e-5])
def test_monai_dice(ours: dict[str, Any], theirs: dict[str, Any], smooth: float) -> None:
    x, t = logits(), labels()
    pool = None if theirs.get("batch") else (2, 3)
    loss = monai.DiceLoss(to_onehot_y=True, smooth_nr=smooth, smooth_dr=smooth, **theirs)
    expected = loss(x, t[:, None])
    if theirs.get("reduction") == "none":
        expected = expected[..., 0, 0]
    rtol = 1e-8 if theirs.get("squared_pred") else RTOL  # it squares the float32 norm of its float32 target
    assert_same(dice_loss(x, t, **{**SOFTMAX, **ours}, pool_axes=pool, smooth=smooth), expected, x, rtol)


def test_monai_jaccard() -> None:
    """It halves nothing that it adds: its smooth is twice ours."""
    x, t = logits(), labels()
    expected = monai.DiceLoss(softmax=True, to_onehot_y=True, jaccard=True, smooth_nr=2.0, smooth_dr=2.0)(x, t[:, None])
    assert_same(jaccard_loss(x, t, **SOFTMAX, pool_axes=(2, 3), smooth=1.0), expected, x)


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (1.5, 0.25)])
def test_monai_tversky(alpha: float, beta: float) -> None:
    x, t = logits(), labels()
    expected = monai.TverskyLoss(softmax=True, to_onehot_y=True, alpha=alpha, beta=beta, smooth_nr=1.0, smooth_dr=1.0)(x, t[:, None])
    assert_same(tversky_loss(x, t, **SOFTMAX, pool_axes=(2, 3), alpha=alpha, beta=beta), expected, x)


@pytest.mark.parametrize("w_type", ["square", "simple", "uniform"])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("absent", [False, True])
def test_monai_generalized_dice(w_type: str, batch: bool, absent: bool) -> None:
    x, t = logits(), labels()
    if absent:
        t = torch.where(t == 2, 0, t)
    loss = monai.GeneralizedDiceLoss(softmax=True, to_onehot_y=True, w_type=w_type, batch=batch, smooth_nr=0.0, smooth_dr=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = loss(x, t[:, None])
    ours = generalized_dice_loss(x, t, **SOFTMAX, pool_axes=None if batch else (2, 3), volume_weights=w_type, smooth=0.0)
    torch.testing.assert_close(ours, expected, rtol=1e-6 if w_type != "uniform" else RTOL, atol=0)  # its weights are float32


def test_monai_does_not_divide_by_the_weights() -> None:
    x, t, w = logits(), labels(), (1.0, 2.0, 3.0)
    loss = monai.DiceLoss(to_onehot_y=True, softmax=True, weight=w, smooth_nr=1.0, smooth_dr=1.0)
    ours = 1 / (N * C) * dice_loss.bind(**SOFTMAX, pool_axes=(2, 3), class_weights=w, reduction="sum")
    assert_same(ours(x, t), loss(x, t[:, None]), x)


@pytest.mark.parametrize("weight", [None, (1.0, 2.0, 3.0)])
def test_kornia_dice(weight: Any) -> None:
    x, t = logits(), labels()
    w = None if weight is None else torch.tensor(weight, dtype=x.dtype)
    macro = kornia.dice_loss(x, t, average="macro", eps=0.0, weight=w)
    assert_same(dice_loss(x, t, **SOFTMAX, pool_axes=(2, 3), smooth=0.0, absent="skip", class_weights=weight), macro, x)
    micro = kornia.dice_loss(x, t, average="micro", eps=0.0, weight=w)
    assert_same(dice_loss(x, t, **SOFTMAX, pool_axes=(1, 2, 3), smooth=0.0, class_weights=weight), micro, x)


def test_kornia_dice_with_ignored_labels() -> None:
    x, t = logits(), labels()
    t[0, 3] = -100
    macro = kornia.dice_loss(x, t, average="macro", eps=0.0)
    assert_same(dice_loss(x, t, **SOFTMAX, pool_axes=(2, 3), smooth=0.0, absent="skip", ignore_index=-100), macro, x)


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (1.5, 0.25)])
def test_kornia_tversky(alpha: float, beta: float) -> None:
    x, t = logits(), labels()
    expected = kornia.tversky_loss(x, t, alpha=alpha, beta=beta, eps=0.0)
    ours = tversky_loss(x, t, **SOFTMAX, pool_axes=(2, 3), alpha=alpha, beta=beta, smooth=0.0, absent="skip")
    assert_same(ours, expected, x)


def last_axis() -> tuple[Any, Any, Any]:
    x = jax.numpy.asarray(logits().detach().permute(0, 2, 3, 1).numpy())
    t = jax.numpy.asarray(labels().numpy())
    return x, t, jax.nn.one_hot(t, C, dtype=x.dtype)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.3, 0.7)])
@pytest.mark.parametrize("background", [True, False])
def test_optax_dice(alpha: float, beta: float, background: bool) -> None:
    with LIBRARIES["jax"].precision("float64"):
        x, t, one_hot = last_axis()
        theirs = optax.dice_loss(x, one_hot, alpha=alpha, beta=beta, ignore_background=not background, reduction="none")
        classes = None if background else (1, 2)
        ours = tversky_loss(
            x, t, activation="softmax", axis=-1, pool_axes=(1, 2), alpha=alpha, beta=beta, classes=classes, reduction="none"
        )
        np.testing.assert_allclose(ours, theirs, rtol=RTOL)


def test_optax_binary_dice() -> None:
    with LIBRARIES["jax"].precision("float64"):
        x, t, _ = last_axis()
        theirs = optax.binary_dice_loss(x[..., 0], (t == 0).astype(x.dtype))
        ours = dice_loss(x[..., 0], t == 0, activation="sigmoid", pool_axes=(1, 2), smooth=2.0, reduction="none")
        np.testing.assert_allclose(ours, theirs, rtol=RTOL)


def test_segmentation_metrics_of_scikit_learn() -> None:
    from sklearn import metrics as sk

    from arrayloss import metrics

    x, t = logits().detach().numpy(), labels().numpy()
    counts = metrics.confusion(x, t, activation="softmax", axis=1)
    predicted, true = x.argmax(axis=1).ravel(), t.ravel()
    for average in ("macro", "micro", None):
        np.testing.assert_allclose(metrics.precision(counts, average=average), sk.precision_score(true, predicted, average=average))
        np.testing.assert_allclose(metrics.recall(counts, average=average), sk.recall_score(true, predicted, average=average))
        np.testing.assert_allclose(metrics.f_beta(counts, 2.0, average=average), sk.fbeta_score(true, predicted, beta=2, average=average))
        np.testing.assert_allclose(metrics.f1(counts, average=average), sk.f1_score(true, predicted, average=average))
        np.testing.assert_allclose(metrics.jaccard(counts, average=average), sk.jaccard_score(true, predicted, average=average))
    np.testing.assert_allclose(metrics.recall(counts, average="micro"), sk.accuracy_score(true, predicted))
