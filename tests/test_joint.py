"""Terms over one softmax: it is computed once for all of them, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from arrayloss import cross_entropy, dice_loss, jaccard_loss, softmax_focal_loss

torch = pytest.importorskip("torch")

DICE = dice_loss.bind(activation="softmax", axis=1)
JACCARD = jaccard_loss.bind(activation="softmax", axis=1, pool_axes=2, squared=True)
CE = cross_entropy.bind(axis=1)
SMOOTHED = cross_entropy.bind(axis=1, label_smoothing=0.1, class_weights=(1.0, 2.0, 0.5))
FOCAL = softmax_focal_loss.bind(axis=1, alpha=(0.5, 1.0, 2.0))
PAIRS = {
    "dice + cross-entropy": 0.5 * DICE + 2 * CE,
    "cross-entropy + dice": CE + DICE,
    "dice + focal": DICE + 0.25 * FOCAL,
    "dice + jaccard + smoothed": DICE + JACCARD + 0.5 * SMOOTHED,
    "cross-entropy + focal": CE + FOCAL,
    "dice + sum of a sample": DICE + 0.1 * CE.bind(reduction="sum"),
}
every_pair = pytest.mark.parametrize("loss", PAIRS.values(), ids=PAIRS)


def draw(dtype: str = "float64", spread: float = 2.0, shape: tuple[int, ...] = (4, 3, 5)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return (spread * rng.normal(size=shape)).astype(dtype), rng.integers(0, shape[1], (shape[0], *shape[2:]))


def apart(loss: Any, *arrays: Any, **shared: Any) -> tuple[Any, Any]:
    """The sum of the values and gradients of the terms, one by one."""
    pairs = [(c, term.value_and_grad(*arrays, **shared)) for c, term in loss.terms]
    return sum(c * value for c, (value, _) in pairs), sum(c * gradient for c, (_, gradient) in pairs)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often a softmax was computed since it was last asked: PyTorch's own, or an exponential of NumPy's."""
    calls = []

    def counted(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(function)
            return function(*args, **kwargs)

        return call

    from arrayloss.adapters import numpy_native

    monkeypatch.setattr("arrayloss.adapters.torch_host.SMALL", 0)
    monkeypatch.setattr(torch, "softmax", counted(torch.softmax))
    monkeypatch.setattr(numpy_native.np, "exp", counted(np.exp))
    monkeypatch.setattr(numpy_native.Namespace, "exp", staticmethod(numpy_native.np.exp))

    def made() -> int:
        number = len(calls)
        calls.clear()
        return number

    return made


@pytest.mark.parametrize("name", ["dice + cross-entropy", "cross-entropy + dice", "dice + focal", "dice + jaccard + smoothed"])
def test_one_softmax_in_numpy_and_eager_torch(name: str, count: Callable[[], int]) -> None:
    loss = PAIRS[name]
    gradient_of_focal = 1 if "focal" in name else 0  # exp(-ce), one number a row
    for x, t in (draw(), tuple(map(torch.tensor, draw()))):
        numpy = isinstance(x, np.ndarray)
        for ask in (loss, loss.components, loss.parts):
            ask(x, t)
            assert count() == 1
        loss.value_and_grad(x, t)
        assert count() == 1 + (gradient_of_focal if numpy else 0)
    leaf = torch.tensor(draw()[0], requires_grad=True)
    loss(leaf, t).backward()
    assert count() == 1


def test_terms_that_see_other_rows_have_their_own_softmax(count: Callable[[], int]) -> None:
    x, t = draw()
    where = np.arange(20).reshape(4, 5) % 3 != 0
    (DICE.bind(where=where) + CE)(x, t)
    assert count() >= 2
    (DICE + CE)(x, t, where=where)
    assert count() == 1
    (DICE.bind(where=where) + CE.bind(where=where.copy()))(x, t)
    assert count() >= 2
    (DICE.bind(ignore_index=2) + CE.bind(ignore_index=1))(x, t)
    assert count() >= 2
    (DICE + CE)(x, t, ignore_index=2)
    assert count() == 1
    (dice_loss.bind(activation="sigmoid", axis=1) + CE)(x, t)
    assert count() >= 2


def test_xla_sees_one_exponential() -> None:
    jax = pytest.importorskip("jax")
    x, t = draw("float32", shape=(2, 4, 64))
    for loss in (0.5 * DICE + CE, DICE + softmax_focal_loss.bind(axis=1)):
        for function in (loss, jax.value_and_grad(loss)):
            lines = jax.jit(function).lower(x, t).compile().as_text().splitlines()
            assert sum("f32[2,4,64]" in line.partition(" exponential(")[0] for line in lines if " exponential(" in line) == 1


@every_pair
@pytest.mark.parametrize("block", [3, 10**6])
@pytest.mark.parametrize("option", ["nothing", "where", "ignore_index", "weights"])
def test_nothing_else_changes(loss: Any, block: int, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arrayloss.adapters.torch_host.SMALL", 0)
    for library in ("numpy", "torch"):
        monkeypatch.setattr(f"arrayloss.adapters.{library}.BLOCK", block)
    x, t = draw()
    numbers = np.arange(20).reshape(4, 5)
    given = {"nothing": None, "where": numbers % 3 != 0, "ignore_index": 2, "weights": numbers / 10}
    shared = {} if option == "nothing" else {option: given[option]}
    if option == "where":
        x[~np.broadcast_to(given["where"][:, None], x.shape)] = np.nan
    value, gradient = apart(loss, x, t, **shared)
    ours, g = loss.value_and_grad(x, t, **shared)
    np.testing.assert_allclose(ours, value, rtol=4e-15)
    np.testing.assert_allclose(g, gradient, rtol=2e-14, atol=1e-17)
    np.testing.assert_allclose(loss.finish(loss.parts(x, t, **shared)), value, rtol=4e-15)
    shared = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in shared.items()}
    for keep in (False, True):
        leaf = torch.tensor(x, requires_grad=True)
        total = loss(leaf, torch.tensor(t), **shared)
        for _ in range(1 + keep):
            (taken,) = torch.autograd.grad(total, leaf, retain_graph=keep)
            np.testing.assert_allclose(taken, gradient, rtol=2e-14, atol=1e-17)
        np.testing.assert_allclose(total.detach(), value, rtol=4e-15)
    (taken,) = (loss.value_and_grad(leaf.detach(), torch.tensor(t), **shared)[1],)
    np.testing.assert_allclose(taken, gradient, rtol=2e-14, atol=1e-17)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dtypes_and_soft_targets(dtype: str) -> None:
    x, t = draw(dtype)
    rng = np.random.default_rng(1)
    soft = rng.uniform(size=x.shape).astype(dtype)
    atol = {"float16": 2e-4, "float32": 1e-8}[dtype]  # of a gradient; the terms are rounded to float16 before they are added
    for loss in (DICE + CE, PAIRS["dice + jaccard + smoothed"]):
        for targets in (t, soft):
            value, gradient = apart(loss, x, targets)
            ours, g = loss.value_and_grad(x, targets)
            assert g.dtype == x.dtype
            np.testing.assert_allclose(ours, value, rtol=1e-6)
            np.testing.assert_allclose(g, gradient, rtol=1e-5, atol=atol)
            ours, g = loss.value_and_grad(torch.tensor(x), torch.tensor(targets))
            np.testing.assert_allclose(ours, value, rtol=1e-6)
            np.testing.assert_allclose(g, gradient, rtol=1e-5, atol=atol)


def test_one_term_alone_can_be_differentiated() -> None:
    x, t = draw()
    for index, term in ((0, DICE), (1, CE)):
        leaf = torch.tensor(x, requires_grad=True)
        _, terms = (DICE + CE).components(leaf, torch.tensor(t))
        (g,) = torch.autograd.grad(list(terms.values())[index], leaf)
        np.testing.assert_allclose(g, term.value_and_grad(x, t)[1], rtol=2e-14, atol=1e-17)


@every_pair
def test_modes_of_torch(loss: Any) -> None:
    x, t = (torch.tensor(a) for a in draw(shape=(2, 3, 2)))
    leaf = x.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, t), (leaf,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: loss(x, t), (leaf,))
    many = torch.func.vmap(torch.func.grad(lambda x: loss(x, t)))(torch.stack([x, -x]))
    torch.testing.assert_close(many[1], loss.value_and_grad(-x, t)[1], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(
        torch.func.hessian(lambda x: loss(x, t))(x),
        sum(c * torch.func.hessian(lambda x, term=term: term(x, t))(x) for c, term in loss.terms),
        rtol=1e-10,
        atol=1e-14,
    )


def test_weights_that_learn() -> None:
    x, t = (torch.tensor(a) for a in draw(shape=(2, 3, 2)))
    weights = torch.linspace(0.5, 1.5, 4, dtype=x.dtype).reshape(2, 2).requires_grad_()
    leaf = x.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: PAIRS["dice + cross-entropy"](x, t, weights=w), (leaf, weights))


@pytest.mark.parametrize("loss", [DICE + CE, DICE + 2 * FOCAL.bind(alpha=None), DICE + SMOOTHED.bind(class_weights=None)], ids=repr)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_confident_rows_keep_their_digits(loss: Any, library: str) -> None:
    """Rows by which the second term is judged: sure of the label, sure of another class, and undecided, against 120 digits."""
    x = np.array([[[20.0, 0.0, 0.5], [0.0, 25.0, 0.25], [1.0, 0.0, 0.125], [-3.0, 60.0, 0.0]]], dtype="float32")
    t = np.array([[0, 3, 0]])
    convert = torch.tensor if library == "torch" else np.asarray
    _, terms = loss.components(convert(x), convert(t))
    _, gradient = loss.value_and_grad(convert(x), convert(t))
    with mpmath.workdps(120):
        value = _exact(loss, x, t, 0.0)(_matrix(x))
        assert abs(float(list(terms.values())[1]) / float(value) - 1) < 16 * 2**-24
        whole = _exact(loss, x, t, 1.0)
        flat = _matrix(x)
        for i in range(x.size):
            step = mpmath.mpf(10) ** -40
            up, down = list(flat), list(flat)
            up[i] += step
            down[i] -= step
            slope = (whole(up) - whole(down)) / (2 * step)
            taken = float(np.asarray(gradient).reshape(-1)[i])
            assert abs(taken - float(slope)) <= (32 + 60) * 2**-24 * abs(float(slope)), (i, taken, float(slope))


def _matrix(x: np.ndarray) -> list[Any]:
    return [mpmath.mpf(float(a)) for a in x.reshape(-1)]


def _exact(loss: Any, x: np.ndarray, t: np.ndarray, dice: float) -> Callable[[list[Any]], Any]:
    """The second term, and `dice` times the first, as a function of flat logits."""
    _, (c, second) = loss.terms
    classes, n = x.shape[1:]

    def value(flat: list[Any]) -> Any:
        total = mpmath.mpf(0)
        hits, everything = [mpmath.mpf(0)] * classes, [mpmath.mpf(0)] * classes
        for j in range(n):
            e = [mpmath.exp(flat[k * n + j]) for k in range(classes)]
            p = [a / mpmath.fsum(e) for a in e]
            y = int(t[0, j])
            for k in range(classes):
                hits[k] += p[k] * (k == y)
                everything[k] += p[k] + (k == y)
            logs = [mpmath.log(a) for a in p]
            smoothing = mpmath.mpf(second.options.get("label_smoothing", 0))
            ce = -(1 - smoothing) * logs[y] - smoothing * mpmath.fsum(logs) / classes
            total += ce * ((1 - p[y]) ** 2 if second.name == "softmax_focal_loss" else 1)
        total /= n
        if not dice:
            return total
        return c * total + mpmath.fsum(1 - (2 * h + 1) / (s + 1) for h, s in zip(hits, everything, strict=True)) / classes

    return value


@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated.*:DeprecationWarning", "ignore:.*torch.jit.script_method.*:DeprecationWarning"
)
def test_a_compiler_of_pytorch_merges_the_exponentials_of_the_terms() -> None:
    """It merges what is written alike: an infinite logit was a number in one term and an array in the other."""
    from torch._inductor.utils import run_and_get_code

    x, t = (torch.from_numpy(a) for a in draw("float32", shape=(8, 4, 64, 64)))

    def exponentials(loss: Any) -> int:
        torch._dynamo.reset()
        function = torch.compile(lambda x, t: loss(x, t), fullgraph=True)
        _, (forward, _) = run_and_get_code(lambda: function(x.requires_grad_(), t).backward())
        return forward.count(".exp()")

    assert exponentials(DICE) >= 1
    assert exponentials(DICE + CE) == exponentials(CE)
