"""Losses of embeddings against each other: their definitions pair by pair, on every path, with blocks of any size."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch

from arrayloss import circle_loss, ntxent_loss

from .helpers import BACKENDS, lacking, needs_transposed_scan, quietly, several

rng = np.random.default_rng(0)
N, D = 8, 3
E, K = rng.normal(size=(N, D)), rng.normal(size=(5, D))
LABELS, KEY_LABELS = np.array([0, 1, 0, 2, 1, 0, 3, 1]), np.array([0, 4, 1, 1, 0])  # 2 and 3 have no positives
ONE_CLASS, ALONE, PAIRS = np.zeros(N, int), np.arange(N), np.arange(N) % 4
WIDE = E * np.array([1e-20, 1.0, 1e18, 3.0, 1e-3, 0.5, 2.0, 1e5])[:, None]


def similarities(e: Any, k: Any, is_normal: bool) -> Any:
    """Exact ones of every row of e and of k."""

    def unit(row: Any) -> Any:
        row = [mpmath.mpf(float(v)) for v in row]
        norm = mpmath.sqrt(mpmath.fdot(row, row)) if is_normal else 1
        return [v / norm if norm else v for v in row]

    e, k = [unit(row) for row in e], [unit(row) for row in k]
    return [[mpmath.fdot(a, b) for b in k] for a in e]


def pairs(e: Any, labels: Any, keys: Any, key_labels: Any, is_normal: bool = True) -> Any:
    """Of every anchor: exact similarities to its positives, and to its negatives."""
    others = labels if keys is None else key_labels
    for i, row in enumerate(similarities(e, e if keys is None else keys, is_normal)):
        same = [labels[i] == y and not (keys is None and j == i) for j, y in enumerate(others)]
        positives = [s for s, is_same in zip(row, same, strict=True) if is_same]
        yield positives, [s for s, y in zip(row, others, strict=True) if y != labels[i]]


def ntxent(e: Any, labels: Any, keys: Any = None, key_labels: Any = None, temperature: float = 0.07, normalize: bool = True) -> Any:
    """The loss and the weight of every anchor."""
    for positives, negatives in pairs(e, labels, keys, key_labels, normalize):
        t = mpmath.mpf(temperature)
        rest = [mpmath.fsum([mpmath.exp((k - s) / t) for k in negatives]) for s in positives]
        yield mpmath.fsum(map(mpmath.log1p, rest)), len(positives)


def circle(
    e: Any,
    labels: Any,
    keys: Any = None,
    key_labels: Any = None,
    margin: float = 0.4,
    gamma: float = 80.0,
    normalize: bool = True,
    **_: Any,
) -> Any:
    """The loss and the weight of every anchor."""
    m, g = mpmath.mpf(margin), mpmath.mpf(gamma)
    for positives, negatives in pairs(e, labels, keys, key_labels, normalize):
        above = mpmath.fsum([mpmath.exp(g * max(s + m, 0) * (s - m)) for s in negatives])
        below = mpmath.fsum([mpmath.exp(-g * max(1 + m - s, 0) * (s - 1 + m)) for s in positives])
        yield mpmath.log1p(above * below), float(bool(positives and negatives))


CASES = {
    "ntxent": (ntxent_loss, ntxent, {}),
    "ntxent, warm": (ntxent_loss, ntxent, {"temperature": 0.5}),
    "ntxent, products": (ntxent_loss, ntxent, {"normalize": False, "temperature": 2.0}),
    "circle": (circle_loss, circle, {}),
    "circle, full gradient": (circle_loss, circle, {"constant_weights": False, "gamma": 8.0, "margin": 0.25}),
    "circle, products": (circle_loss, circle, {"normalize": False, "gamma": 0.25}),
}
every_case = pytest.mark.parametrize(("loss", "definition", "options"), CASES.values(), ids=list(CASES))
DIFFERENTIABLE = [(loss, o) for loss, _, o in CASES.values() if o and (loss is ntxent_loss or not o.get("constant_weights", True))]
smooth = pytest.mark.parametrize(("loss", "options"), DIFFERENTIABLE)


@every_case
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("library", ["numpy", "torch", pytest.param("jax", marks=pytest.mark.exhaustive)])
def test_digits(library: str, dtype: str, loss: Any, definition: Any, options: Any) -> None:
    """The loss of an anchor in units of the rounding of its exponents, per pair; and their mean."""
    xp = BACKENDS[library]
    embeddings, keys = (xp.array(a, dtype) for a in (E, K))
    e, k = (np.asarray(xp.numpy(a), np.float64) for a in (embeddings, keys))
    eps, last = {"float64": (2.0**-52, 0), "float16": (2.0**-23, 2.0**-11), "bfloat16": (2.0**-23, 2.0**-8)}.get(dtype, (2.0**-23, 0))
    subnormal = 2.0**-25 if dtype == "float16" else 0.0
    size = 1 / options.get("temperature", 0.07) if loss is ntxent_loss else 2 * options.get("gamma", 80.0)
    size *= 1 if options.get("normalize", True) else (np.abs(e) @ np.abs(e).T).max()
    for others in ({}, {"keys": k, "key_labels": KEY_LABELS}):
        more = {"keys": keys, "key_labels": xp.array(KEY_LABELS)} if others else {}
        for labels in (LABELS, ONE_CLASS, ALONE, PAIRS):
            results = xp.numpy(loss(embeddings, xp.array(labels), block=3, reduction="none", **options, **more))
            with mpmath.workdps(50):
                truth = list(definition(e, labels, *others.values(), **options))
                for ours, (true, weight) in zip(results, truth, strict=True):
                    assert (
                        abs(float(ours) - true)
                        <= 4 * eps * weight * (size + 4) * min(1, true / max(weight, 1)) + (8 * eps + last) * true + subnormal
                    )
                total, weights = (mpmath.fsum(column) for column in zip(*truth, strict=True))
            mean = float(loss(embeddings, xp.array(labels), **options, **more))
            assert mean == pytest.approx(float(total / weights) if weights else 0.0, rel=8 * eps * (size + 4))


def softplus(x: Any) -> Any:
    return torch.logaddexp(torch.zeros_like(x), x)  # PyTorch's own is x beyond 20


def dense(loss: Any, e: Any, labels: Any, k: Any = None, key_labels: Any = None, **options: Any) -> Any:
    """The mean in PyTorch, differentiable, from all similarities at once."""
    o = {"temperature": 0.07, "normalize": True, "margin": 0.4, "gamma": 80.0, "constant_weights": True} | options
    u = e / e.norm(dim=1, keepdim=True) if o["normalize"] else e
    v = u if k is None else k / k.norm(dim=1, keepdim=True) if o["normalize"] else k
    s, same = u @ v.T, labels[:, None] == (labels if k is None else key_labels)[None]
    positive, infinity = same & ~torch.eye(len(e), dtype=torch.bool) if k is None else same, torch.tensor(-math.inf, dtype=e.dtype)
    if loss is ntxent_loss:
        s = s / o["temperature"]
        lse = torch.where(same, infinity, s).logsumexp(1, keepdim=True)
        return torch.where(positive, softplus(lse - s), 0.0).sum() / positive.sum()
    m, g = o["margin"], o["gamma"]
    push, pull = (s + m).clamp_min(0), (1 + m - s).clamp_min(0)
    if o["constant_weights"]:
        push, pull = push.detach(), pull.detach()
    a = torch.where(same, infinity, g * push * (s - m)).logsumexp(1)
    b = torch.where(positive, -g * pull * (s - 1 + m), infinity).logsumexp(1)
    counts = positive.any(1) & ~same.all(1)
    return softplus((a + b)[counts]).mean()


@every_case
@pytest.mark.parametrize("has_keys", [False, True])
def test_gradients(loss: Any, definition: Any, options: Any, has_keys: bool) -> None:
    """Those of all similarities at once; in PyTorch and on the namespace of the standard the same."""
    others = {"keys": K, "key_labels": KEY_LABELS} if has_keys else {}
    leaf = [torch.tensor(a, requires_grad=True) for a in ((E, K) if has_keys else (E,))]
    more = (leaf[1], torch.tensor(KEY_LABELS)) if has_keys else ()
    dense(loss, leaf[0], torch.tensor(LABELS), *more, **options).backward()
    for block in (None, 1, 3):
        value, gradients = loss.value_and_grad(E, LABELS, block=block, **options, **others)
        for ours, theirs in zip(several(gradients), leaf, strict=True):
            np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-9, atol=1e-11)
    tensors = [torch.tensor(a, requires_grad=True) for a in ((E, K) if has_keys else (E,))]
    more = {"keys": tensors[1], "key_labels": torch.tensor(KEY_LABELS)} if has_keys else {}
    result = loss(tensors[0], torch.tensor(LABELS), block=3, **options, **more)
    (3 * result).backward()
    np.testing.assert_allclose(result.detach().numpy(), value, rtol=1e-11)
    for ours, theirs in zip(tensors, several(gradients), strict=True):
        np.testing.assert_allclose(ours.grad.numpy(), 3 * theirs, rtol=1e-9, atol=1e-12)
    xp = BACKENDS["strict"]
    strict = loss.value_and_grad(xp.array(E), xp.array(LABELS), block=3, **options, **xp.arrays(others))
    for ours, theirs in zip((strict[0], *several(strict[1])), (value, *several(gradients)), strict=True):
        np.testing.assert_allclose(xp.numpy(ours), theirs, rtol=1e-11, atol=1e-14)


@every_case
def test_float32_gradients(loss: Any, definition: Any, options: Any) -> None:
    """As far from those of float64 as the rounding of the exponents is, of the largest entry of a row."""
    exact = loss.value_and_grad(E.astype("float32").astype(float), LABELS, **options)[1]
    size = 1 / options.get("temperature", 0.07) if loss is ntxent_loss else 2 * options.get("gamma", 80.0)
    size *= 1 if options.get("normalize", True) else (np.abs(E) @ np.abs(E).T).max()
    for xp in (BACKENDS["numpy"], BACKENDS["torch"]):
        ours = xp.numpy(loss.value_and_grad(xp.array(E, "float32"), xp.array(LABELS), block=3, **options)[1])
        assert np.abs(ours - exact).max() <= 4 * 2.0**-23 * (size + 4) * np.abs(exact).max()


@smooth
@pytest.mark.parametrize("has_keys", [False, True])
def test_torchs_derivatives(loss: Any, options: Any, has_keys: bool) -> None:
    """First and second ones, forward mode and vmap of gradients."""
    if options == {"normalize": False, "temperature": 2.0} and has_keys:
        return
    labels, key_labels = torch.tensor(LABELS[:5]), torch.tensor(KEY_LABELS)

    def function(e: Any, k: Any = None) -> Any:
        more = {} if k is None else {"keys": k, "key_labels": key_labels}
        return loss(e, labels, block=2, reduction="sum", **options, **more)

    leaf = [torch.tensor(a, requires_grad=True) for a in ((E[:5], K) if has_keys else (E[:5],))]
    assert torch.autograd.gradcheck(function, leaf, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, leaf)
    grad, many = torch.func.grad(function), torch.stack([leaf[0].detach(), leaf[0].detach().flip(1) / 2])
    for one, e in zip(torch.func.vmap(grad)(many), many, strict=True):
        torch.testing.assert_close(one, grad(e))


@pytest.mark.parametrize("loss", [ntxent_loss, circle_loss], ids=lambda loss: loss.name)
@lacking("torch", "2.6", "the compiler fails within itself at a lazy term")
def test_compiled_torch(loss: Any) -> None:
    compiled = torch.compile(lambda e, t: loss(e, t, block=3), fullgraph=True, backend="aot_eager")
    eager, leaf = (torch.tensor(E, requires_grad=True) for _ in range(2))
    with quietly():
        compiled(leaf, torch.tensor(LABELS)).backward()
    loss(eager, torch.tensor(LABELS)).backward()
    torch.testing.assert_close(leaf.grad, eager.grad)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (ntxent_loss, {"temperature": 0.5}),
        pytest.param(circle_loss, CASES["circle, full gradient"][2], marks=pytest.mark.exhaustive),
    ],
)
@needs_transposed_scan
def test_transformed_jax(loss: Any, options: Any) -> None:
    """jit, grad, vmap, jvp and a product with the Hessian; NumPy's and PyTorch's numbers. Blocks are a loop of the compiler's."""
    labels, (e, k) = jnp.asarray(LABELS), map(jnp.asarray, (E, K))

    def function(e: Any, k: Any) -> Any:
        return loss(e, labels, block=3, keys=k, key_labels=jnp.asarray(KEY_LABELS), **options)

    @jax.jit
    def program(e: Any, k: Any) -> Any:
        both = jax.value_and_grad(function, argnums=(0, 1))
        return *jax.jvp(both, (e, k), (e + 1, k)), jax.vmap(both, in_axes=(0, None))(jnp.stack([e, -e]), k)

    def theirs(e: Any, k: Any) -> Any:
        return dense(loss, e, torch.tensor(LABELS), k, torch.tensor(KEY_LABELS), **options)

    (value, gradients), (tangent, product), batched = program(e, k)
    at, along = (torch.tensor(E), torch.tensor(K)), (torch.tensor(E) + 1, torch.tensor(K))
    torch_gradients = torch.func.grad(theirs, argnums=(0, 1))
    torch_product = torch.autograd.functional.jvp(lambda *a: torch_gradients(*a), at, along)[1]
    expected = theirs(*at), sum((g * d).sum() for g, d in zip(torch_gradients(*at), along, strict=True))
    for ours, other in zip((value, tangent, *gradients, *product), (*expected, *torch_gradients(*at), *torch_product), strict=True):
        np.testing.assert_allclose(ours, other.numpy(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(batched[1][0][0], gradients[0], rtol=1e-10, atol=1e-13)
    assert "scan" in str(jax.make_jaxpr(function)(e, k))


@every_case
def test_weights_and_masks_are_those_of_anchors(loss: Any, definition: Any, options: Any) -> None:
    """A masked anchor is still a positive or negative of others; deleting it would change their losses."""
    weights, mask = np.linspace(0.5, 1.5, N), np.arange(N) % 3 > 0
    losses = loss(E, LABELS, reduction="none", **options)
    with mpmath.workdps(50):
        masses = np.array([float(w) for _, w in definition(E, LABELS, **options)])
    expected = (weights * losses)[mask].sum() / (weights * masses)[mask].sum()
    assert loss(E, LABELS, weights=weights, where=mask, **options) == pytest.approx(expected, rel=1e-12)
    gradient = sum(
        w * loss.value_and_grad(E, LABELS, where=np.arange(N) == i, reduction="sum", **options)[1] for i, w in enumerate(weights * mask)
    )
    ours = loss.value_and_grad(E, LABELS, weights=weights, where=mask, reduction="sum", **options)[1]
    np.testing.assert_allclose(ours, gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("loss", [ntxent_loss, circle_loss], ids=lambda loss: loss.name)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_edges(loss: Any, dtype: str) -> None:
    """One anchor, none, equal embeddings, rows of any length and of zeros: finite gradients; NaN stays."""
    for n in (0, 1):
        value, gradient = loss.value_and_grad(E[:n], LABELS[:n])
        assert value == 0
        assert gradient.shape == (n, D)
        assert (gradient == 0).all()
    value, gradient = loss.value_and_grad(E, LABELS, keys=K[:0], key_labels=KEY_LABELS[:0])
    assert value == 0
    assert [g.shape for g in gradient] == [(N, D), (0, D)]
    for e in (np.ones((N, D)), WIDE, np.where(np.arange(N)[:, None] == 2, 0.0, E)):
        value, gradient = loss.value_and_grad(e.astype(dtype), LABELS)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all() or e is WIDE  # of a row of 1e-20 it is 1e20 times as large
    assert (gradient[2] == 0).all()
    np.testing.assert_allclose(loss(WIDE, LABELS, reduction="none"), loss(E, LABELS, reduction="none"), rtol=1e-10)
    e = E.copy()
    e[0, 0] = np.nan
    assert np.isnan(loss(e, LABELS))


@pytest.mark.parametrize("loss", [ntxent_loss, circle_loss], ids=lambda loss: loss.name)
def test_parts_add_with_keys_only(loss: Any) -> None:
    keys = {"keys": K, "key_labels": KEY_LABELS}
    parts = loss.parts(E[:3], LABELS[:3], block=1, **keys) + loss.parts(E[3:], LABELS[3:], **keys)
    np.testing.assert_allclose(loss.finish(parts), loss(E, LABELS, **keys), rtol=1e-12)
    with pytest.raises(TypeError, match="the elements of this loss depend on the whole batch; pass keys= to fix the other side"):
        loss.parts(E, LABELS)


@pytest.mark.parametrize("loss", [ntxent_loss, circle_loss], ids=lambda loss: loss.name)
def test_nothing_of_the_size_of_all_similarities_is_kept(loss: Any) -> None:
    """16 MiB would be; a block is 1/64 of it."""
    e, labels = np.random.default_rng(0).normal(size=(2048, 8)).astype(np.float32), np.arange(2048) // 2
    loss.value_and_grad(e[:4], labels[:4])  # imports
    tracemalloc.start()
    try:
        loss.value_and_grad(e, labels, block=32)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


@needs_transposed_scan
@pytest.mark.parametrize("loss", [ntxent_loss, circle_loss], ids=lambda loss: loss.name)
def test_nothing_of_the_size_of_all_similarities_is_kept_by_jax(loss: Any) -> None:
    e, labels = np.random.default_rng(0).normal(size=(2048, 8)).astype(np.float32), np.arange(2048) // 2
    gradient = jax.jit(jax.grad(lambda e: loss(e, labels, block=32)))
    assert gradient.lower(e).compile().memory_analysis().temp_size_in_bytes < 8 * 2**20


def test_temperature_may_be_learned() -> None:
    e, t, temperature = torch.tensor(E), torch.tensor(LABELS), torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda temperature: ntxent_loss(e, t, temperature=temperature, block=3), (temperature,))


@pytest.mark.parametrize("loss", [ntxent_loss, circle_loss], ids=lambda loss: loss.name)
def test_errors(loss: Any) -> None:
    for arguments, options, error, message in (
        ((E[0], LABELS), {}, ValueError, r"embeddings must have shape \(N, D\), D that of all; got \(3,\)"),
        ((E, LABELS[:3]), {}, ValueError, r"labels must have shape \(8,\); got \(3,\)"),
        ((E, LABELS.astype(float)), {}, TypeError, "labels must be integers; got float64"),
        ((E, LABELS), {"keys": K}, TypeError, "keys and key_labels must be passed together"),
        (
            (E, LABELS),
            {"keys": K[:, :2], "key_labels": KEY_LABELS},
            ValueError,
            r"keys must have shape \(N, D\), D that of all; got \(5, 2\)",
        ),
        ((E, LABELS), {"keys": K, "key_labels": KEY_LABELS[:2]}, ValueError, r"key_labels must have shape \(5,\); got \(2,\)"),
        ((E, LABELS), {"block": -1}, ValueError, "block must be an integer of at least 1; got -1"),
    ):
        with pytest.raises(error, match=message):
            loss(*arguments, **options)
    with pytest.raises(ValueError, match="temperature must be above 0; got 0"):
        ntxent_loss.bind(temperature=0)


def test_peers_optax_0_2_8_ntxent() -> None:
    """Value and gradient, for float64 and temperatures that it stands."""
    optax = pytest.importorskip("optax")
    for temperature in (0.5, 0.07):
        ours, gradient = ntxent_loss.value_and_grad(E, LABELS, temperature=temperature)
        peer = jax.value_and_grad(lambda e, t=temperature: optax.losses.ntxent(e, jnp.asarray(LABELS), t))(jnp.asarray(E))
        np.testing.assert_allclose(ours, peer[0], rtol=1e-12)
        np.testing.assert_allclose(gradient, peer[1], rtol=1e-9, atol=1e-12)
