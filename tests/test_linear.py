"""The cross-entropy behind a linear layer: that of the dense logits, on every path, with blocks of any size."""

from __future__ import annotations

import tracemalloc
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch

from arrayloss import linear_cross_entropy, softmax_cross_entropy

from .helpers import BACKENDS, is_release, lacking, needs_transposed_scan, quietly, several

rng = np.random.default_rng(0)
N, C, D = 7, 5, 4
F, W, B = rng.normal(size=(N, D)), rng.normal(size=(C, D)), rng.normal(size=C)
LABELS, SOFT = rng.integers(0, C, N), rng.dirichlet(np.ones(C), N)
WEIGHTS, OFFSETS = (1.0, 2.0, 0.5, 3.0, 1.5), (0.1, -0.2, 0.3, 0.0, 1.0)
ALL: dict[str, Any] = {"softcap": 3.0, "z_loss": 0.01, "logit_offsets": OFFSETS, "class_weights": WEIGHTS, "label_smoothing": 0.125}
OPTIONS = {"plain": {}, "weighted": {"class_weights": WEIGHTS}, "smoothed": {"label_smoothing": 0.125}, "all": ALL}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
TARGETS = pytest.mark.parametrize("t", [LABELS, SOFT], ids=["labels", "distribution"])
LABELS_BY_DEFAULT = pytest.mark.parametrize(
    "t", [pytest.param(LABELS, id="labels"), pytest.param(SOFT, id="soft", marks=pytest.mark.exhaustive)]
)


def dense(f: Any, w: Any, b: Any, t: Any, **options: Any) -> Any:
    """By way of the dense logits, in PyTorch, differentiable."""
    options = dict(options)
    softcap, offsets, z_loss = options.pop("softcap", None), options.pop("logit_offsets", None), options.pop("z_loss", 0.0)
    axis = f.ndim - 1
    x = torch.tensordot(f, w, dims=([-1], [-1])) + b
    x = x if softcap is None else softcap * torch.tanh(x / softcap)
    x = x if offsets is None else x + torch.as_tensor(offsets, dtype=x.dtype).reshape(-1, *[1] * (w.ndim - 2))
    ce = softmax_cross_entropy(x, t, axis=axis, reduction="none", **options)
    weights = torch.as_tensor(options.get("class_weights") or [1.0] * w.shape[0], dtype=x.dtype)
    mass = weights[t] if t.ndim < x.ndim else torch.movedim(t, axis, -1) @ weights
    return (ce + z_loss * mass * torch.logsumexp(x, axis) ** 2).sum() / mass.sum()


def leaves(*arrays: Any) -> list[Any]:
    return [torch.tensor(a, requires_grad=True) for a in arrays]


@every_option
@pytest.mark.parametrize("maps", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("lead", [(7,), (2, 3), ()], ids=str)
def test_it_is_the_loss_of_dense_logits(lead: Any, maps: Any, options: Any) -> None:
    """For any shape of features and weight, with blocks of one row, three and all."""
    arrays = rng.normal(size=(*lead, D)), rng.normal(size=(C, *maps, D)), rng.normal(size=(C, *maps))
    for t in (rng.integers(0, C, (*lead, *maps)), np.moveaxis(rng.dirichlet(np.ones(C), (*lead, *maps)), -1, len(lead))):
        leaf = leaves(*arrays)
        expected = dense(*leaf, torch.as_tensor(t), **options)
        expected.backward()
        for block in (None, 1, 3):
            value, gradients = linear_cross_entropy.value_and_grad(*arrays[:2], t, bias=arrays[2], block=block, **options)
            for ours, theirs in zip((value, *gradients), (expected.detach(), *[a.grad for a in leaf]), strict=True):
                np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-15)
            unreduced = linear_cross_entropy(*arrays[:2], t, bias=arrays[2], block=block, reduction="none", **options)
            assert np.asarray(unreduced).shape == (*lead, *maps)


def exact(f: Any, w: Any, t: int, options: Any) -> Any:
    """One element in mpmath."""
    x = [mpmath.fdot(map(mpmath.mpf, f), map(mpmath.mpf, row)) for row in w]
    if "softcap" in options:
        x = [options["softcap"] * mpmath.tanh(v / mpmath.mpf(options["softcap"])) for v in x]
    x = [v + mpmath.mpf(o) for v, o in zip(x, options.get("logit_offsets", [0] * len(x)), strict=True)]
    lse = mpmath.log(mpmath.fsum(map(mpmath.exp, x)))
    e, weights = mpmath.mpf(options.get("label_smoothing", 0)), options.get("class_weights", [1] * len(x))
    shares = [(1 - e) * (c == t) + e / len(x) for c in range(len(x))]
    nll = mpmath.fsum([s * mpmath.mpf(v) * (lse - u) for s, v, u in zip(shares, weights, x, strict=True)])
    return nll + options.get("z_loss", 0) * mpmath.mpf(weights[t]) * lse**2


@every_option
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("library", ["numpy", "torch", pytest.param("jax", marks=pytest.mark.exhaustive)])
def test_digits(library: str, dtype: str, options: Any) -> None:
    """The loss of an element, in units of the rounding of its logits, each a sum of D products."""
    xp = BACKENDS[library]
    f, w = xp.array(F, dtype), xp.array(3 * W, dtype)
    losses = xp.numpy(linear_cross_entropy(f, w, xp.array(LABELS), reduction="none", **options))
    f, w = (np.asarray(xp.numpy(a), np.float64) for a in (f, w))
    size = np.abs(f) @ np.abs(w).T
    eps = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-23, "bfloat16": 2.0**-23}[dtype]
    last = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 0.0)  # rounded once
    with mpmath.workdps(50):
        for i in range(N):
            error = abs(mpmath.mpf(float(losses[i])) - (true := exact(f[i], w, int(LABELS[i]), options)))
            assert error <= 4 * eps * (size[i].max() + true) + last * true


@every_option
@TARGETS
def test_torch_and_strict(t: Any, options: Any) -> None:
    """NumPy's value and gradients, but for the last digits of a product. The namespace of the standard has nothing but the standard."""
    expected = linear_cross_entropy.value_and_grad(F, W, t, bias=B, block=3, **options)
    leaf = leaves(F, W, B)
    value = linear_cross_entropy(*leaf[:2], torch.as_tensor(t), bias=leaf[2], block=3, **options)
    value.backward()
    for ours, theirs in zip((value.detach(), *[a.grad for a in leaf]), (expected[0], *expected[1]), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12, atol=1e-15)
    xp = BACKENDS["strict"]
    value, gradients = linear_cross_entropy.value_and_grad(*map(xp.array, (F, W, t)), bias=xp.array(B), block=3, **options)
    for ours, theirs in zip((value, *gradients), (expected[0], *expected[1]), strict=True):
        np.testing.assert_allclose(xp.numpy(ours), theirs, rtol=1e-12, atol=1e-15)


def test_every_reduction_in_torch() -> None:
    """One pass, two passes for losses that are not reduced, or with a traced normalizer."""
    g = torch.linspace(0.5, 1.5, N, dtype=torch.float64)
    t, weights = torch.tensor(LABELS), torch.linspace(1, 2, N, dtype=torch.float64)
    for options in ({"reduction": "none"}, {"reduction": "sum"}, {"weights": weights}, {"normalizer": torch.tensor(3.0)}):
        leaf, ours = leaves(F, W, B), leaves(F, W, B)
        x = leaf[0] @ leaf[1].T + leaf[2]
        expected = softmax_cross_entropy(x, t, **options)
        value = linear_cross_entropy(*ours[:2], t, bias=ours[2], block=2, **options)
        torch.testing.assert_close(value, expected, rtol=1e-13, atol=0)
        for v in (value, expected):
            v.backward(g) if v.ndim else v.backward()
        for a, b in zip(ours, leaf, strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-15)


def test_autocast_changes_nothing() -> None:
    f, w, t = torch.tensor(F).float(), torch.tensor(W).float(), torch.tensor(LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = linear_cross_entropy(f, w, t)
    assert value == linear_cross_entropy(f, w, t)


@TARGETS
def test_torchs_derivatives(t: Any) -> None:
    """First and second ones, forward mode and vmap of gradients."""
    t = torch.as_tensor(t[:3])

    def function(f: Any, w: Any, b: Any) -> Any:
        return linear_cross_entropy(f, w, t, bias=b, block=2, **ALL)

    leaf = leaves(F[:3], W, B)
    assert torch.autograd.gradcheck(function, leaf, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, leaf)
    many = torch.stack([torch.tensor(F[:3]), torch.tensor(F[3:6])])
    grad = torch.func.grad(function)
    batched = torch.func.vmap(grad, in_dims=(0, None, None))(many, *[a.detach() for a in leaf[1:]])
    for one, f in zip(batched, many, strict=True):
        torch.testing.assert_close(one, grad(f, *[a.detach() for a in leaf[1:]]))


@LABELS_BY_DEFAULT
@lacking("torch", "2.6", "the compiler fails within itself at a lazy term")
def test_compiled_torch(t: Any) -> None:
    compiled = torch.compile(lambda f, w, t, b: linear_cross_entropy(f, w, t, bias=b, block=3, **ALL), fullgraph=True, backend="aot_eager")
    eager, leaf = leaves(F, W, B), leaves(F, W, B)
    t = torch.as_tensor(t)
    expected = linear_cross_entropy(*eager[:2], t, bias=eager[2], **ALL)
    with quietly():
        value = compiled(*leaf[:2], t, leaf[2])
        value.backward()
    torch.testing.assert_close(value, expected)
    expected.backward()
    for a, b in zip(leaf, eager, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@LABELS_BY_DEFAULT
@needs_transposed_scan
def test_transformed_jax(t: Any) -> None:
    """jit, grad, vmap, jvp and a product with the Hessian are those of the dense logits; blocks are a loop of the compiler's."""
    t = jnp.asarray(t)

    def ours(f: Any, w: Any, b: Any) -> Any:
        return linear_cross_entropy(f, w, t, bias=b, block=2, **ALL)

    def theirs(f: Any, w: Any, b: Any) -> Any:
        x = 3 * jnp.tanh((f @ w.T + b) / 3) + jnp.asarray(OFFSETS)
        weights = jnp.asarray(WEIGHTS)
        mass = weights[t] if t.ndim == 1 else t @ weights
        ce = softmax_cross_entropy(x, t, reduction="none", class_weights=WEIGHTS, label_smoothing=0.125)
        return (ce + 0.01 * mass * jax.nn.logsumexp(x, axis=-1) ** 2).sum() / mass.sum()

    arrays = tuple(map(jnp.asarray, (F, W, B)))

    @jax.jit
    def program(*arrays: Any) -> Any:
        results = []
        for function in (ours, theirs):
            both = jax.value_and_grad(function, argnums=(0, 1, 2))
            results += [jax.jvp(both, arrays, arrays)]
            results += [jax.vmap(both, in_axes=(0, None, None))(jnp.stack([arrays[0], -arrays[0]]), *arrays[1:])]
        return results

    results = jax.tree.leaves(program(*arrays))
    half = len(results) // 2
    for a, b in zip(results[:half], results[half:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)
    assert "scan" in str(jax.make_jaxpr(ours)(*arrays))


def test_nothing_of_the_size_of_the_logits_is_kept() -> None:
    """16 MiB would be; a block is 1/32 of it."""
    f, w, t = np.ones((1024, 8), np.float32), np.ones((4096, 8), np.float32), np.zeros(1024, int)
    linear_cross_entropy.value_and_grad(f[:2], w, t[:2])  # imports
    tracemalloc.start()
    try:
        linear_cross_entropy.value_and_grad(f, w, t, block=32)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


@needs_transposed_scan
def test_nothing_of_the_size_of_the_logits_is_kept_by_jax() -> None:
    f, w, t = np.ones((1024, 8), np.float32), np.ones((4096, 8), np.float32), np.zeros(1024, int)
    gradient = jax.jit(jax.grad(lambda f, w: linear_cross_entropy(f, w, t, block=32), argnums=(0, 1)))
    assert gradient.lower(f, w).compile().memory_analysis().temp_size_in_bytes < 8 * 2**20


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_masked_rows_may_hold_anything(library: str) -> None:
    """Neither value nor gradients know them. A row of features of several maps counts if one of its elements does."""
    xp = BACKENDS[library]
    mask, t = np.arange(N) % 3 > 0, np.where(np.arange(N) == 1, -100, LABELS)
    counts = mask & (t >= 0)
    f = np.where(counts[:, None], F, np.nan)
    value, gradients = linear_cross_entropy.value_and_grad(
        *map(xp.array, (f, W, t)), bias=xp.array(B), where=xp.array(mask), ignore_index=-100, block=2
    )
    expected, deleted = linear_cross_entropy.value_and_grad(F[counts], W, LABELS[counts], bias=B)
    np.testing.assert_allclose(xp.numpy(value), expected, rtol=1e-13)
    np.testing.assert_allclose(xp.numpy(gradients[0])[counts], deleted[0], rtol=1e-12)
    assert (xp.numpy(gradients[0])[~counts] == 0).all()
    for ours, theirs in zip(gradients[1:], deleted[1:], strict=True):
        np.testing.assert_allclose(xp.numpy(ours), theirs, rtol=1e-12, atol=1e-15)
    maps, labels = rng.normal(size=(C, 2, D)), rng.integers(0, C, (N, 2))
    labels[0], labels[1, 0] = -100, -100
    f = np.where(np.arange(N)[:, None] == 0, np.nan, F)
    value, gradients = linear_cross_entropy.value_and_grad(*map(xp.array, (f, maps, labels)), ignore_index=-100)
    x = np.moveaxis(np.tensordot(F, maps, axes=(1, 2)), 1, 2)
    np.testing.assert_allclose(xp.numpy(value), softmax_cross_entropy(x[labels >= 0], labels[labels >= 0]), rtol=1e-13)
    assert all(np.isfinite(xp.numpy(g)).all() for g in gradients)


def test_as_many_rows_as_classes() -> None:
    """The mask of the elements had the shape of the weight."""
    mask = np.arange(C) > 1
    value = linear_cross_entropy(F[:C], W, LABELS[:C], where=mask)
    np.testing.assert_allclose(value, linear_cross_entropy(F[2:C], W, LABELS[2:C]), rtol=1e-13)


def test_parts_add() -> None:
    loss = linear_cross_entropy.bind(**ALL)
    parts = loss.parts(F[:3], W, LABELS[:3], bias=B, block=1) + loss.parts(F[3:], W, LABELS[3:], bias=B)
    np.testing.assert_allclose(loss.finish(parts), loss(F, W, LABELS, bias=B), rtol=1e-13)


def test_no_rows() -> None:
    for library in ("numpy", "torch", "strict"):
        xp = BACKENDS[library]
        value, gradients = linear_cross_entropy.value_and_grad(*map(xp.array, (F[:0], W, LABELS[:0])), bias=xp.array(B))
        assert xp.numpy(value) == 0
        assert all((xp.numpy(g) == 0).all() for g in gradients)


def test_errors() -> None:
    for arguments, options, message in (
        ((F, W[:, :3], LABELS), {}, r"weight must have shape \(C, ..., D\) for features of shape \(..., D\), \(7, 4\); got \(5, 3\)"),
        ((F, W, LABELS), {"bias": B[:2]}, r"bias must have the shape of weight without its last axis, \(5,\); got \(2,\)"),
        ((F, W, LABELS[:3]), {}, r"targets must be labels of shape \(7,\) or a distribution of shape \(7, 5\); got \(3,\)"),
        ((F, W, LABELS + C), {}, "integer targets must be labels from 0 to 4; got"),
        ((F, W[:1], LABELS), {}, r"logits must have at least two classes along axis 1; got shape \(7, 1\)"),
        ((F, W, LABELS), {"block": 0}, "block must be an integer of at least 1; got 0"),
        ((F, W, LABELS), {"softcap": 0}, "softcap must be above 0; got 0"),
        ((F, W, LABELS), {"z_loss": -1}, "z_loss must be at least 0; got -1"),
        ((F, W, LABELS), {"logit_offsets": (1.0, 2.0)}, "logit_offsets must have one entry for each of the 5 classes along axis 1; got"),
    ):
        with pytest.raises(ValueError, match=message):
            linear_cross_entropy(*arguments, **options)
    with pytest.raises(TypeError, match="weight must have the dtype of features, float64; got float32"):
        linear_cross_entropy(F, W.astype("float32"), LABELS)


@pytest.mark.parametrize(("reduction", "smoothing", "weighted"), [*product(["mean", "sum", "none"], [0.0, 0.3], [False, True])])
@pytest.mark.skipif(
    not is_release("torch", "2.13") and not hasattr(torch.nn.functional, "linear_cross_entropy"),
    reason=f"PyTorch {torch.__version__} has no torch.nn.functional.linear_cross_entropy",
)
def test_peers_torch_2_13(reduction: str, smoothing: float, weighted: bool) -> None:
    """One sample, and maps of logits, too."""
    peer: Any = torch.nn.functional.linear_cross_entropy
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5], dtype=torch.float64) if weighted else None
    bound = linear_cross_entropy.bind(reduction=reduction, label_smoothing=smoothing, ignore_index=-100)
    loss = bound.bind(class_weights=tuple(weight.tolist())) if weight is not None else bound
    for lead, maps in (((N,), ()), ((), ()), ((N,), (2,)), ((N,), (2, 3))):
        arrays = rng.normal(size=(*lead, D)), rng.normal(size=(C, *maps, D)), rng.normal(size=(C, *maps))
        t = rng.integers(0, C, (*lead, *maps))
        if lead:
            t[0] = -100
        ours, theirs, t = leaves(*arrays), leaves(*arrays), torch.tensor(t)
        a = loss(*ours[:2], t, bias=ours[2], block=2)
        b = peer(*theirs[:2], t, linear_bias=theirs[2], weight=weight, reduction=reduction, label_smoothing=smoothing)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
        a.sum().backward()
        b.sum().backward()
        for x, y in zip(several(tuple(ours)), theirs, strict=True):
            torch.testing.assert_close(x.grad, y.grad, rtol=1e-11, atol=1e-14)
