"""People's own losses: whoever writes a kernel gets value, gradient, derivatives, masks, weights, parts and autograd.

One loss of every builder, written as a user writes it, against a formula in plain NumPy that knows nothing of the kernel. That transforms,
compilers and other libraries follow, the cases of the machinery hold, whose sequence and coupled losses are of this kind too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Unpack

import numpy as np
import pytest

import arrayloss as al
from arrayloss.define import (
    BinaryOptions,
    ElementOptions,
    OverlapOptions,
    Properties,
    RowOptions,
    at_least,
    binary,
    choice,
    coupled,
    elementwise,
    fraction,
    loss,
    overlap,
    per_class,
    positive,
    rows,
    sequences,
    special,
)
from arrayloss.frontend.loss import REGISTRY

from .helpers import BACKENDS, Backend, assert_close, several

Array = Any


# -- elementwise ----------------------------------------------------------------------------------------------------------


def _pinball(xp: Any, x: Array, t: Array, quantile: Any) -> Iterator[Array]:
    side = xp.astype(x > t, x.dtype) - quantile
    yield side * (x - t)
    yield side
    yield 0 * x


@loss(properties=lambda quantile: Properties(convex=True, lipschitz=max(quantile, 1 - quantile), differentiable=False))
def pinball_loss(predictions: Array, targets: Array, *, quantile: Any = 0.5, **options: Unpack[ElementOptions]) -> Array:
    """A quantile instead of a mean.

    {options}
    """
    return elementwise(_pinball, predictions, targets, options, quantile=fraction(quantile))


# -- binary ---------------------------------------------------------------------------------------------------------------


def _hinge(xp: Any, x: Array, t: Array, margin: float) -> Iterator[Array]:
    sign = 2 * t - 1
    short = xp.clip(margin - sign * x, min=0)
    yield short * short
    yield -2 * sign * short
    yield 2 * xp.astype(short > 0, x.dtype)


@loss
def binary_hinge_loss(
    predictions: Array, targets: Array, *, margin: float = 1.0, class_weights: Any = None, **options: Unpack[BinaryOptions]
) -> Array:
    """Yes/no decisions, that are to be right by a margin."""
    return binary(_hinge, predictions, targets, options, per_class(class_weights), margin=positive(margin))


# -- rows -----------------------------------------------------------------------------------------------------------------


def _brier_of_distribution(xp: Any, x: Array, t: Array, axis: int) -> Iterator[Array]:
    r = x - t
    yield xp.sum(r * r, axis=axis, keepdims=True)
    yield 2 * r
    yield 2 * xp.ones_like(x)


def _brier_of_labels(xp: Any, x: Array, t: Array, axis: int) -> Iterator[Array]:
    yield from _brier_of_distribution(xp, x, special.one_hot(xp, t, x, axis), axis)


@loss
def brier_loss(probs: Array, targets: Array, **options: Unpack[RowOptions]) -> Array:
    """Squared distance between distributions; labels are distributions, too."""
    return rows(_brier_of_labels, _brier_of_distribution, {"probs": probs}, targets, options)


# -- overlaps -------------------------------------------------------------------------------------------------------------


def _products(xp: Any, x: Array, t: Array, activation: Any, axis: int | None, labels: bool) -> Iterator[Any]:
    t = special.one_hot(xp, t, x, axis) if labels else t
    yield t * x, t, x
    yield lambda both, true, predicted: t * both + predicted


def _cosine(xp: Any, both: Array, true: Array, predicted: Array, power: float) -> Iterator[Any]:
    total = true + predicted
    yield 1 - (2 * both / total) ** power
    slope = power * (2 * both / total) ** (power - 1)
    yield -2 * slope / total, None, 2 * slope * both / total**2


@loss
def region_loss(predictions: Array, targets: Array, *, power: Any = 1.0, **options: Unpack[OverlapOptions]) -> Array:
    """A power of the Dice coefficient of masks."""
    names = ("both", "true", "predicted")
    return overlap(_products, _cosine, predictions, targets, None, options, names=names, power=at_least(power, 1))


# -- several arrays: sequences and contrasts ------------------------------------------------------------------------------


def _alignment(xp: Any, x: Array, t: Array, axes: tuple[int, ...], lengths: Array | None = None) -> Iterator[Array]:
    frames = special.arange_along(xp, x, axes[0])
    there = xp.ones_like(x) if lengths is None else xp.astype(frames < lengths, x.dtype)
    r = (x - t) * there
    size = xp.sqrt(1 + xp.sum(r * r, axis=axes, keepdims=True))
    yield size
    yield r / size
    yield there * (1 / size) - r * r / size**3


@loss
def track_loss(predictions: Array, targets: Array, *, lengths: Array | None = None, **options: Unpack[ElementOptions]) -> Array:
    """The smoothed length of the error of a track of several frames; frames beyond its length do not count."""
    return sequences(_alignment, predictions, targets, options, event_axes=(1, 2), lengths=lengths)


def _info_nce(xp: Any, query: Array, key: Array, temperature: Any) -> Iterator[Any]:
    logits = xp.matmul(query, xp.matrix_transpose(key)) / temperature
    p = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
    p = p / xp.sum(p, axis=1, keepdims=True)
    own = xp.astype(special.arange_along(xp, logits, 0) == special.arange_along(xp, logits, 1), query.dtype)
    yield -xp.log(xp.sum(own * p, axis=1, keepdims=True))

    def pullback(g: Array) -> tuple[Array, Array]:
        g = g * (p - own) / temperature
        return xp.matmul(g, key), xp.matmul(xp.matrix_transpose(g), query)

    yield pullback


@loss
def info_nce_loss(query: Array, key: Array, *, temperature: Any = 0.5, **options: Unpack[ElementOptions]) -> Array:
    """Every query is to find its key among the keys of the batch."""
    return coupled(_info_nce, {"query": query, "key": key}, options, elements=0, additive=False, temperature=positive(temperature))


# -- what they are to be --------------------------------------------------------------------------------------------------

_RANDOM = np.random.default_rng(0)
X, Y = _RANDOM.normal(size=(6, 3)), _RANDOM.normal(size=(6, 3))
P, LABELS, MASKS = _RANDOM.dirichlet(np.ones(3), 6), np.array([0, 2, 1, 1, 0, 2]), (Y > 0).astype(int)
TRACKS, LENGTHS = (X.reshape(2, 3, 3), Y.reshape(2, 3, 3)), np.array([3, 2])


def _nce(q: Array, k: Array, temperature: float = 0.5) -> Array:
    logits = q @ k.T / temperature
    return np.log(np.exp(logits).sum(1)) - np.diag(logits)


def _track(x: Array, t: Array, lengths: Array) -> Array:
    return np.array([np.sqrt(1 + ((a[:n] - b[:n]) ** 2).sum()) for a, b, n in zip(x, t, lengths, strict=True)])


@dataclass(frozen=True, eq=False)
class Own:
    """A loss of ours, its arguments, and the losses of its elements by a formula of the predictions in NumPy."""

    loss: Any
    predictions: tuple[Array, ...]
    targets: tuple[Array, ...]
    options: dict[str, Any]
    formula: Callable[..., Array]
    hessian: bool = True
    additive: bool = True
    elements: Literal["entries", "rows", "regions"] = "rows"

    def total(self, *predictions: Array) -> float:
        """The sum of the losses."""
        return float(self.formula(*predictions).sum())


OWN = {
    "elementwise": Own(
        pinball_loss, (X,), (Y,), {"quantile": 0.25}, lambda x: np.maximum(0.75 * (x - Y), 0.25 * (Y - x)), elements="entries"
    ),
    "binary": Own(
        binary_hinge_loss, (X,), (MASKS,), {"margin": 2}, lambda x: np.maximum(2 - (2 * MASKS - 1) * x, 0) ** 2, elements="entries"
    ),
    "rows of labels": Own(brier_loss, (P,), (LABELS,), {}, lambda p: ((p - np.eye(3)[LABELS]) ** 2).sum(1)),
    "rows": Own(brier_loss, (P,), (P[::-1],), {"axis": 1}, lambda p: ((p - P[::-1]) ** 2).sum(1)),
    "overlap": Own(
        region_loss,
        (P,),
        (LABELS,),
        {"axis": 1, "power": 2},
        lambda p: 1 - (2 * (p * np.eye(3)[LABELS]).sum(0) / (p + np.eye(3)[LABELS]).sum(0)) ** 2,
        hessian=False,
        elements="regions",
    ),
    "sequences": Own(track_loss, TRACKS[:1], TRACKS[1:], {"lengths": LENGTHS}, lambda x: _track(x, TRACKS[1], LENGTHS)),
    "coupled": Own(info_nce_loss, (X, Y), (), {}, _nce, hessian=False, additive=False),
}


@pytest.fixture(params=OWN.values(), ids=OWN)
def own(request: pytest.FixtureRequest) -> Own:
    """Each of our losses."""
    return request.param


def differences(function: Callable[..., float], at: tuple[Array, ...], order: int, h: float) -> list[Array]:
    """First derivatives, or the diagonal of the second ones, by central differences."""
    results = []
    for i, x in enumerate(at):
        d = np.empty_like(x)
        for index in np.ndindex(x.shape):
            values = []
            for step in (-h, 0, h):
                moved = x.copy()
                moved[index] += step
                values.append(function(*at[:i], moved, *at[i + 1 :]))
            d[index] = (values[2] - values[0]) / (2 * h) if order == 1 else (values[2] - 2 * values[1] + values[0]) / h**2
        results.append(d)
    return results


def test_values_and_gradients(own: Own, xp: Backend) -> None:
    """On every library, of the mean and of every element."""
    arrays, options = [xp.array(a) for a in (*own.predictions, *own.targets)], xp.arrays(own.options)
    value, gradient = own.loss.value_and_grad(*arrays, **options)
    each = own.formula(*own.predictions)
    assert_close(xp.numpy(value), each.mean())
    assert_close(xp.numpy(own.loss(*arrays, reduction="none", **options)), each)
    for g, d in zip(several(gradient), differences(own.total, own.predictions, 1, 1e-6), strict=True):
        np.testing.assert_allclose(xp.numpy(g), d / each.size, atol=1e-8)


def test_second_derivatives(own: Own) -> None:
    """The diagonal of the Hessian, where the kernel has a third yield."""
    arrays = (*own.predictions, *own.targets)
    if not own.hessian:
        with pytest.raises(NotImplementedError, match="no second derivative is defined for"):
            own.loss.grad_and_hess(*arrays, **own.options)
        return
    _, hessians = own.loss.grad_and_hess(*arrays, **own.options)
    for h, d in zip(several(hessians), differences(own.total, own.predictions, 2, 1e-4), strict=True):
        np.testing.assert_allclose(h, d, atol=1e-6)


def test_masks_and_weights(own: Own) -> None:
    """One entry for every sample."""
    keep, weights = np.array([True, False, True, True, False, True]), np.linspace(0.5, 2.0, 6)
    each, arrays = own.formula(*own.predictions), (*own.predictions, *own.targets)
    n = len(own.predictions[0])
    keep, weights = keep[:n], weights[:n]
    if own.elements == "regions":
        p, t = own.predictions[0][keep], np.eye(3)[own.targets[0]][keep]
        w = weights[keep][:, None]
        expected = np.mean(1 - (2 * (w * p * t).sum(0) / (w * (p + t)).sum(0)) ** 2)
        shape: tuple[int, ...] = (n, 1)
    else:
        w = (weights * keep).reshape(n, *(1,) * (each.ndim - 1)) * np.ones_like(each)
        expected = (w * each).sum() / w.sum()
        shape = (n, *(1,) * (each.ndim - 1))
    assert_close(own.loss(*arrays, where=keep.reshape(shape), weights=weights.reshape(shape), **own.options), expected)


def test_parts(own: Own) -> None:
    """Of two batches, where the losses of batches add."""
    arrays, batches = (*own.predictions, *own.targets), (slice(0, 1), slice(1, None))
    if not own.additive:
        with pytest.raises(TypeError, match="there are no parts"):
            own.loss.parts(*arrays)
        return
    parts = []
    for batch in batches:
        options = {n: v[batch] if isinstance(v, np.ndarray) else v for n, v in own.options.items()}
        parts.append(own.loss.parts(*[a[batch] for a in arrays], **options))
    assert_close(own.loss.finish(sum(parts)), own.formula(*own.predictions).mean())


def test_autograd_of_torch_and_jax(own: Own) -> None:
    """Gradients, and second derivatives by differentiating them."""
    jax, torch = pytest.importorskip("jax"), pytest.importorskip("torch")
    slopes = differences(own.total, own.predictions, 1, 1e-6)
    xp = BACKENDS["torch"]
    leaves = [xp.array(p).requires_grad_() for p in own.predictions]
    targets, options = [xp.array(t) for t in own.targets], xp.arrays({**own.options, "reduction": "sum"})
    own.loss(*leaves, *targets, **options).backward()
    for leaf, d in zip(leaves, slopes, strict=True):
        np.testing.assert_allclose(leaf.grad, d, atol=1e-8)
    assert torch.autograd.gradgradcheck(lambda *x: own.loss(*x, *targets, **options), tuple(leaves))
    xp = BACKENDS["jax"]
    targets, options = [xp.array(t) for t in own.targets], xp.arrays({**own.options, "reduction": "sum"})
    total = lambda x: own.loss(*x, *targets, **options)  # noqa: E731
    x = [xp.array(p) for p in own.predictions]
    gradients, hessian = jax.jit(lambda x: (jax.grad(total)(x), jax.hessian(lambda first: total([first, *x[1:]]))(x[0])))(x)
    for g, d in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(g, d, atol=1e-8)
    n = x[0].size
    diagonal = np.diagonal(hessian.reshape(n, n)).reshape(x[0].shape)
    np.testing.assert_allclose(diagonal, differences(own.total, own.predictions, 2, 1e-4)[0], atol=1e-6)


def test_options_of_the_family_are_checked(own: Own) -> None:
    """By the call and by `bind`."""
    with pytest.raises(TypeError, match="there is no option 'size_average': did you mean reduction"):
        own.loss.bind(size_average=True)
    with pytest.raises(ValueError, match="reduction must be 'mean', 'sum' or 'none'; got 'avg'"):
        own.loss(*own.predictions, *own.targets, **own.options, reduction="avg")


def test_own_parameters_are_checked() -> None:
    for bad, error in (
        (lambda: pinball_loss(X, Y, quantile=2), "quantile must be from 0 to 1; got 2"),
        (lambda: binary_hinge_loss.bind(margin=0), "margin must be above 0; got 0"),
        (lambda: region_loss.bind(power=0.5), "power must be at least 1; got 0.5"),
        (lambda: choice("mode", "c", ("a", "b")), "mode must be 'a' or 'b'; got 'c'"),
    ):
        with pytest.raises(ValueError, match=error):
            bad()


def test_parameters_that_are_tensors_learn() -> None:
    """They are differentiable inputs, without a line in the kernel."""
    torch = pytest.importorskip("torch")
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    info_nce_loss(torch.tensor(X), torch.tensor(Y), temperature=temperature).backward()
    (d,) = differences(lambda s: float(_nce(X, Y, s[0]).mean()), (np.array([0.5]),), 1, 1e-6)
    np.testing.assert_allclose(temperature.grad, d[0], atol=1e-8)


def test_properties_are_those_of_the_options() -> None:
    assert pinball_loss.properties.lipschitz == 0.5
    assert pinball_loss.bind(quantile=0.9).properties.lipschitz == 0.9
    with pytest.raises(NotImplementedError, match="no properties are stated for brier_loss"):
        _ = brier_loss.properties


def test_they_are_losses_like_ours_but_kept_apart() -> None:
    """A sum with one of ours; none of them is in our registry, which tests and tables walk over."""
    both = 0.5 * brier_loss + al.squared_error.bind(reduction="sum")
    assert_close(both(P, P[::-1]), 0.5 * brier_loss(P, P[::-1]) + al.squared_error(P, P[::-1], reduction="sum"))
    assert not {own.loss.name for own in OWN.values()} & set(REGISTRY)


def test_an_untyped_loss_without_a_docstring() -> None:
    """Options are left open, and checked by the builder."""
    plain = loss(lambda x, t, **options: elementwise(_pinball, x, t, options, quantile=0.5))
    assert_close(plain(X, Y), np.abs(X - Y).mean() / 2)
    with pytest.raises(TypeError, match="there is no option 'wieghts': did you mean weights"):
        plain(X, Y, wieghts=1)
