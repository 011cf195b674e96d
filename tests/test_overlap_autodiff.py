"""What PyTorch and JAX make of the losses of overlaps: every mode of differentiation, compilers, and the blocked sweeps."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import mpmath
import numpy as np
import pytest
from conftest import missing
from mpmath import mpf
from overlap_cases import CASES, Case

from arrayloss import dice_loss
from arrayloss.consistency.overlap_oracles import DIGITS, whole

jax = pytest.importorskip("jax") if missing("jax") is None else pytest.skip(str(missing("jax")), allow_module_level=True)
torch = pytest.importorskip("torch")
import jax.numpy as jnp  # noqa: E402

every_case = pytest.mark.parametrize("case", CASES, ids=str)
few_cases = pytest.mark.parametrize("case", [c for c in CASES if c.few], ids=str)
two_cases = pytest.mark.parametrize("case", [c for c in CASES if c.few][::4], ids=str)  # for what compiles


def tensors(case: Case) -> tuple[Any, Any, Any]:
    x, t = case.draw()
    return torch.tensor(x, requires_grad=True), torch.tensor(t), partial(case.loss, **case.options)


@every_case
def test_torch_gradient_is_the_analytic_one(case: Case) -> None:
    x, t, loss = tensors(case)
    assert torch.autograd.gradcheck(lambda x: loss(x, t), (x,), check_forward_ad=True)
    (taken,) = torch.autograd.grad(loss(x, t), x)
    _, ours = case.loss.value_and_grad(x.detach(), t, **case.options)
    torch.testing.assert_close(taken, ours, rtol=1e-13, atol=1e-15)


@few_cases
def test_torch_second_derivatives(case: Case) -> None:
    x, t, loss = tensors(case)
    assert torch.autograd.gradgradcheck(lambda x: loss(x, t), (x,))


@every_case
def test_torch_func(case: Case) -> None:
    x, t, loss = tensors(case)
    (plain,) = torch.autograd.grad(loss(x, t), x)
    x = x.detach()
    torch.testing.assert_close(torch.func.grad(loss)(x, t), plain, rtol=1e-12, atol=1e-15)
    dx = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).reshape(x.shape)
    _, moved = torch.func.jvp(lambda x: loss(x, t), (x,), (dx,))
    torch.testing.assert_close(moved, (plain * dx).sum(), rtol=1e-10, atol=1e-13)
    several = torch.stack([x, 2 * x, -x])
    many = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None))(several, t)
    for one, g in zip(several, many, strict=True):
        torch.testing.assert_close(g, torch.func.grad(loss)(one, t), rtol=1e-12, atol=1e-15)


@two_cases
def test_hessians_of_torch_and_jax_agree(case: Case) -> None:
    x, t, loss = tensors(case)
    x = x.detach()
    hessian = torch.func.hessian(lambda x: loss(x, t))(x)
    assert torch.isfinite(hessian).all()
    torch.testing.assert_close(torch.func.jacrev(torch.func.jacrev(lambda x: loss(x, t)))(x), hessian, rtol=1e-9, atol=1e-12)
    with jax.enable_x64(True):
        other = jax.hessian(lambda x: loss(x, jnp.asarray(t.numpy())))(jnp.asarray(x.numpy()))
    np.testing.assert_allclose(np.asarray(other), hessian.numpy(), rtol=1e-9, atol=1e-12)


@two_cases
def test_jax_gradient_is_the_analytic_one(case: Case) -> None:
    x, t = case.draw()
    loss = partial(case.loss, **case.options)
    with jax.enable_x64(True):
        x, t = jnp.asarray(x), jnp.asarray(t)
        value, ours = case.loss.value_and_grad(x, t, **case.options)
        again, taken = jax.jit(jax.value_and_grad(loss))(x, t)
        np.testing.assert_allclose(taken, ours, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(again, value, rtol=1e-14)
        several = jnp.stack([x, 2 * x, -x])
        many = jax.vmap(jax.grad(loss), in_axes=(0, None))(several, t)
        for one, g in zip(several, many, strict=True):
            np.testing.assert_allclose(g, jax.grad(loss)(one, t), rtol=1e-12, atol=1e-15)
        _, moved = jax.jvp(lambda x: loss(x, t), (x,), (jnp.ones_like(x),))
        np.testing.assert_allclose(moved, jnp.sum(ours), rtol=1e-9, atol=1e-12)


@two_cases
@pytest.mark.filterwarnings("ignore:.*should not be instantiated.*:DeprecationWarning")  # dynamo's own, of any autograd.Function
def test_compiled_without_graph_breaks(case: Case) -> None:
    x, t, loss = tensors(case)
    compiled = torch.compile(lambda x: loss(x, t), fullgraph=True)
    value = compiled(x)
    torch.testing.assert_close(value, loss(x, t), rtol=1e-12, atol=1e-14)
    (g,) = torch.autograd.grad(value, x)
    (plain,) = torch.autograd.grad(loss(x, t), x)
    torch.testing.assert_close(g, plain, rtol=1e-11, atol=1e-14)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated.*:DeprecationWarning")
def test_compiled_with_weights_that_learn() -> None:
    x, t, loss = tensors(CASES[0])
    weights = torch.linspace(0.5, 1.5, x[:, 0].numel(), dtype=x.dtype).reshape(x[:, 0].shape).requires_grad_()
    found = torch.autograd.grad(torch.compile(lambda x, w: loss(x, t, weights=w), fullgraph=True)(x, weights), (x, weights))
    for g, plain in zip(found, torch.autograd.grad(loss(x, t, weights=weights), (x, weights)), strict=True):
        torch.testing.assert_close(g, plain, rtol=1e-11, atol=1e-14)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated.*:DeprecationWarning")
def test_a_compiler_keeps_the_softmax_of_few_classes() -> None:
    from torch._inductor.utils import run_and_get_code

    x = torch.randn(2, 4, 16, 16, requires_grad=True)
    t = torch.nn.functional.one_hot(torch.randint(0, 4, (2, 16, 16)), 4).movedim(-1, 1).float()
    torch._dynamo.reset()
    loss = torch.compile(lambda x: dice_loss(x, t, activation="softmax", axis=1), fullgraph=True)
    _, codes = run_and_get_code(lambda: loss(x).backward())
    assert [code.count(".exp()") > 0 for code in codes] == [True, False]  # forward, backward


@pytest.mark.parametrize("case", [c for c in CASES if not c.labels], ids=str)
def test_soft_targets_weights_and_parameters_are_differentiated(case: Case) -> None:
    x, t = case.draw(soft=True)
    rows = case.options["activation"] == "softmax"
    weights = np.linspace(0.5, 1.5, 8).reshape(2, 4) if rows else np.linspace(0.5, 1.5, x.size).reshape(x.shape)
    smooth = torch.tensor(0.75, dtype=torch.float64, requires_grad=True)
    inputs = [torch.tensor(a, requires_grad=True) for a in (x, t, weights)]

    def loss(x: Any, t: Any, w: Any, smooth: Any) -> Any:
        return case.loss(x, t, weights=w, **{**case.options, "smooth": smooth})

    assert torch.autograd.gradcheck(loss, (*inputs, smooth), check_forward_ad=True)


def by_differences(function: Any, at: np.ndarray) -> np.ndarray:
    """Central differences of a function of a float64 array; right to some 1e-8 of its derivatives."""
    out = np.empty_like(at)
    for i in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[i] += 1e-5
        down[i] -= 1e-5
        out[i] = (function(up) - function(down)) / 2e-5
    return out


SOFT = [c for c in CASES if not c.labels]


@pytest.mark.parametrize(
    ("case", "library"),
    [*((c, library) for c in SOFT for library in ("torch", "jax")), *((c, "jitted jax") for c in SOFT[::6])],
    ids=str,
)
def test_soft_targets_and_weights_learn_by_the_definition(case: Case, library: str) -> None:
    """Targets against 80 digits, which know nothing of the library; weights against differences of NumPy's values."""
    x, t = case.draw(soft=True)
    rows = case.options["activation"] == "softmax"
    weights = np.linspace(0.5, 1.5, 8).reshape(2, 4) if rows else np.linspace(0.5, 1.5, x.size).reshape(x.shape)
    one = np.ones_like(weights)

    def loss(t: Any, w: Any) -> Any:
        return case.loss(convert(x), t, weights=w, **case.options)

    if library == "torch":
        convert, context = torch.tensor, nullcontext()
        slopes = torch.func.grad(loss, argnums=(0, 1))
    else:
        convert, context = jnp.asarray, jax.enable_x64(True)
        slopes = jax.grad(loss, argnums=(0, 1))
    with context, nullcontext() if library != "jax" else jax.disable_jit():
        for_targets, _ = slopes(convert(t), convert(one))
        _, for_weights = slopes(convert(t), convert(weights))
    field_x, field_t = ({i: mpf(float(a[i])) for i in np.ndindex(a.shape)} for a in (x, t))
    entries = [(0, 0, 0), (0, 2, 3), (1, 1, 1), (1, 2, 0)]
    with mpmath.workdps(DIGITS):
        step = mpf(10) ** -20
        for i in entries:
            up, down = (whole(case.name, field_x, {**field_t, i: field_t[i] + sign * step}, x.shape, **case.options) for sign in (1, -1))
            assert abs(float(for_targets[i]) - float((up - down) / (2 * step))) < 1e-13
    expected = by_differences(lambda w: float(case.loss(x, t, weights=w, **case.options)), weights)
    np.testing.assert_allclose(np.asarray(for_weights), expected, rtol=1e-6, atol=1e-10)


@few_cases
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("keep_graph", [False, True])
def test_blocks_change_nothing(case: Case, library: str, keep_graph: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from arrayloss.core.namespace import adapter

    x, t = case.draw()
    expected = case.loss.value_and_grad(x, t, **case.options)
    monkeypatch.setattr("arrayloss.adapters.torch_host.SMALL", 0)
    monkeypatch.setattr(f"arrayloss.adapters.{library}.BLOCK", 3)
    assert adapter(library)
    if library == "numpy":
        value, gradient = case.loss.value_and_grad(x, t, **case.options)
    else:
        leaf = torch.tensor(x, requires_grad=True)
        result = case.loss(leaf, torch.tensor(t), **case.options)
        (gradient,) = torch.autograd.grad(result, leaf, retain_graph=keep_graph)
        value, gradient = result.detach().numpy(), gradient.numpy()
    np.testing.assert_allclose(value, expected[0], rtol=1e-15)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-14, atol=1e-17)


@pytest.mark.parametrize("block", [3, 10**6])
def test_what_is_kept_in_the_place_of_the_gradient_outlives_a_retained_graph(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arrayloss.adapters.torch_host.SMALL", 0)
    monkeypatch.setattr("arrayloss.adapters.torch.BLOCK", block)
    case = next(c for c in CASES if c.options["activation"] == "softmax")
    x, t = case.draw()
    leaf = torch.tensor(x, requires_grad=True)
    result = case.loss(leaf, torch.tensor(t), **case.options)
    (first,) = torch.autograd.grad(result, leaf, retain_graph=True)
    before = first.clone()
    (second,) = torch.autograd.grad(result, leaf)
    assert torch.equal(first, before)
    assert torch.equal(second, before)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("tied", [0.0, 2.0**-19])
def test_two_wrong_classes_that_share_the_maximum_keep_the_digits_of_a_gradient(library: str, tied: float) -> None:
    """Both are above the target by 17, so that their derivatives for p are equal and what is left of the difference is tiny."""
    x = np.array([[[17.0], [17.0 + tied], [0.0], [1.0]]])
    options: dict[str, Any] = {"activation": "softmax", "axis": 1, "pool_axes": (0, 1, 2)}
    leaf = torch.tensor(x.astype("float32"), dtype=torch.float64, requires_grad=True)
    probs = torch.softmax(leaf, 1)
    (1 - (2 * probs[0, 2, 0] + 1) / (probs.sum() + 2)).backward()  # in float64 half of the digits are left, more than enough
    args = (x.astype("float32"), np.array([[2]]))
    args = args if library == "numpy" else tuple(map(torch.tensor, args))
    _, gradient = dice_loss.value_and_grad(*args, **options)
    np.testing.assert_allclose(np.asarray(gradient), leaf.grad.numpy(), rtol=(16 + 17) * 2**-24)


def test_create_graph_after_the_blocked_forward() -> None:
    case = CASES[0]
    x, t, loss = tensors(case)
    (g,) = torch.autograd.grad(loss(x, t), x, create_graph=True)
    (second,) = torch.autograd.grad((g * g).sum(), x)
    hessian = torch.func.hessian(lambda x: loss(x, t))(x.detach()).reshape(x.numel(), x.numel())
    torch.testing.assert_close(second.flatten(), 2 * hessian @ g.detach().flatten(), rtol=1e-10, atol=1e-14)
