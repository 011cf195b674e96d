"""PyTorch as its users know it: every way to differentiate, transforms, compilers, modes."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from drawn import CASES, CLASSES, FIRST, Case
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import arrayloss
from arrayloss.adapters import torch as adapter

# Inside dynamo, whoever compiles an `autograd.Function`.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated.*:DeprecationWarning")

each = pytest.mark.parametrize("case", CASES, ids=str)
each_first = pytest.mark.parametrize("case", FIRST, ids=str)
ONE_EACH = [next(c for c in FIRST if c.name == name) for name in dict.fromkeys(c.name for c in FIRST)]


def drawn(case: Case, dtype: str = "float64", samples: int = 3) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    predictions, targets = case.draw(samples, dtype)
    return tuple(map(torch.from_numpy, predictions)), torch.from_numpy(targets)


def of(case: Case, **options: Any) -> Callable[..., torch.Tensor]:
    return lambda *a: case.loss(*a, **case.options, **options)


def leaves(tensors: Any) -> tuple[torch.Tensor, ...]:
    return tuple(t.clone().requires_grad_() for t in tensors)


def both_ways(case: Case, x: Any, t: torch.Tensor, function: Any = None) -> None:
    """Value and gradients of `function`, or of the loss in a general mode, are those of the eager fast path."""
    here, there = leaves(x), leaves(x)
    value, expected = (function or of(case))(*here, t), of(case)(*there, t)
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


# -- derivatives ----------------------------------------------------------------------------------------------------------


@each
def test_first_and_second_derivatives_in_every_mode(case: Case) -> None:
    x, t = drawn(case, samples=2)
    x = leaves(x)

    def f(*a: torch.Tensor) -> torch.Tensor:
        return of(case)(*a, t)

    assert torch.autograd.gradcheck(f, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, x, check_fwd_over_rev=True)


@each_first
def test_targets_and_weights_learn_too(case: Case) -> None:
    x, t = drawn(case, samples=2)
    w = torch.linspace(0.5, 1.5, 2 if case.oracle.rows else 2 * CLASSES, dtype=torch.float64).reshape(
        2, *x[0].shape[1 : x[0].ndim - case.oracle.rows]
    )
    soft = t.is_floating_point()
    arrays = leaves((*x, t, w) if soft else (*x, w))

    def f(*a: torch.Tensor) -> torch.Tensor:
        *front, weights = a
        return of(case, weights=weights)(*front, *(() if soft else (t,)))

    assert torch.autograd.gradcheck(f, arrays, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, arrays, check_fwd_over_rev=True)


X = torch.tensor([[0.5, -1.0, 2.0], [0.25, 3.0, -0.5]], dtype=torch.float64)
YES_NO = torch.tensor([[1, 0, 1], [0, 0, 1]])
LABELS = torch.tensor([2, 0])
ROW = torch.tensor([0.5, 0.25, 0.875], dtype=torch.float64)
SCALAR = torch.tensor(1.75, dtype=torch.float64)

PARAMETERS: dict[str, tuple[Callable[..., Any], tuple[torch.Tensor, ...]]] = {
    "gamma and alpha": (lambda x, g, a: arrayloss.sigmoid_focal_loss(x, YES_NO, gamma=g, alpha=a), (X, SCALAR, ROW[0])),
    "softmax gamma and alpha": (lambda x, g, a: arrayloss.softmax_focal_loss(x, LABELS, gamma=g, alpha=a), (X, SCALAR, ROW)),
    "pos_weight": (lambda x, p, c: arrayloss.sigmoid_cross_entropy(x, YES_NO, pos_weight=p, class_weights=c), (X, ROW, 2 * ROW)),
    "class_weights": (lambda x, c: arrayloss.softmax_cross_entropy(x, LABELS, class_weights=c), (X, ROW)),
    "parts": (lambda x, c: arrayloss.softmax_cross_entropy.parts(x, LABELS, class_weights=c, ignore_index=0).arrays[:2], (X, ROW)),
    "delta": (lambda x, d: arrayloss.huber_loss(x, YES_NO, delta=d), (X, SCALAR)),
    "normalizer": (lambda x, n: arrayloss.squared_error(x, YES_NO, normalizer=n), (X, SCALAR)),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_that_are_tensors_learn(name: str) -> None:
    function, arrays = PARAMETERS[name]
    arrays = leaves(arrays)
    assert torch.autograd.gradcheck(function, arrays, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, arrays, check_fwd_over_rev=True)


def test_predictions_keep_the_analytic_slope_beside_a_target_that_learns() -> None:
    x = torch.tensor([60.0, -60.0, 1e4, 0.0], requires_grad=True)  # float32: the derivative of the value would be 0 or NaN here
    t = torch.tensor([1.0, 0.0, 0.0, 0.5])
    for gamma in (0.0, 0.5, 2.0):
        learned = torch.autograd.grad(arrayloss.sigmoid_focal_loss(x, t.clone().requires_grad_(), gamma=gamma, reduction="sum"), x)
        alone = torch.autograd.grad(arrayloss.sigmoid_focal_loss(x, t, gamma=gamma, reduction="sum"), x)
        torch.testing.assert_close(learned, alone, rtol=1e-5, atol=0)
        assert alone[0][0] < 0 or gamma == 2.0


LOGITS = torch.tensor([[3.0, -2.0, 0.5], [0.0, 2.0, -1.0]], dtype=torch.float64)
PROBS = torch.softmax(LOGITS, -1)


@pytest.mark.parametrize(
    ("loss", "x"),
    [
        (arrayloss.sigmoid_cross_entropy, LOGITS),
        (arrayloss.sigmoid_focal_loss, LOGITS),
        (arrayloss.softmax_cross_entropy, LOGITS),
        (arrayloss.binary_cross_entropy, PROBS),
        (arrayloss.nll_loss.bind(given="probs"), PROBS),
        (arrayloss.sigmoid_focal_loss.bind(given="probs"), PROBS),
    ],
    ids=str,
)
def test_a_target_of_0_or_1_has_the_gradient_of_its_neighbours(loss: Any, x: torch.Tensor) -> None:
    """A guard against 0 * inf made it 0: a loss that vanishes at its target still grows when the target moves."""
    t = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    at, beside = (torch.autograd.grad(loss(x, leaf, reduction="sum"), leaf)[0] for leaf in leaves((t, t + 1e-9 * (1 - 2 * t))))
    torch.testing.assert_close(at, beside, rtol=1e-6, atol=1e-7)


def test_tensors_stay_where_they_are_whatever_device_is_the_default() -> None:
    """Blocked sweeps once put their results on the default device."""
    x, t = torch.randn(2, 3, 400, 400), torch.randint(0, 3, (2, 400, 400))
    overlap = arrayloss.dice_loss.bind(axis=1, activation="softmax")
    entropy = arrayloss.softmax_cross_entropy.bind(axis=1, class_weights=(1.0, 2.0, 3.0))
    for loss in (overlap, entropy, overlap + entropy, arrayloss.softmax_focal_loss.bind(axis=1, reduction="none")):
        value, gradient = loss.value_and_grad(x, t)
        with torch.device("meta"):
            again, gradient_again = loss.value_and_grad(x, t)
            (learned,) = torch.autograd.grad(loss(leaf := x.clone().requires_grad_(), t).sum(), leaf)
        for got, expected in ((again, value), (gradient_again, gradient), (learned, gradient)):
            assert got.device == x.device
            torch.testing.assert_close(got, expected)
    with torch.device("meta"):
        assert entropy.parts(x, t).stack().device == x.device


@each_first
def test_a_graph_that_is_kept_gives_the_same_gradient_again(case: Case) -> None:
    for reduction in ("mean", "sum", "none"):
        for dtype in (torch.float32, torch.bfloat16):
            x, t = drawn(case, "float32")
            x = leaves(a.to(dtype) for a in x)
            value = of(case, reduction=reduction)(*x, t.to(dtype) if t.is_floating_point() else t)
            g = torch.ones_like(value)
            first = torch.autograd.grad(value, x, g, retain_graph=True)
            kept = [a.clone() for a in first]
            doubled = torch.autograd.grad(value, x, 2 * g, retain_graph=True)
            last = torch.autograd.grad(value, x, g)
            for a, b, c, d in zip(first, kept, doubled, last, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=0)
                torch.testing.assert_close(c, 2 * b, rtol=0, atol=0)
                torch.testing.assert_close(d, b, rtol=0, atol=0)


@each_first
def test_a_batch_of_cotangents_at_once(case: Case) -> None:
    x, t = drawn(case)

    def f(a: torch.Tensor) -> torch.Tensor:
        return of(case, reduction="none")(a, *x[1:], t)

    plain = torch.autograd.functional.jacobian(f, x[0])
    torch.testing.assert_close(torch.autograd.functional.jacobian(f, x[0], vectorize=True), plain)
    torch.testing.assert_close(torch.autograd.functional.jacobian(f, x[0], vectorize=True, strategy="forward-mode"), plain)


# -- torch.func -----------------------------------------------------------------------------------------------------------


@each_first
def test_hessian_by_every_composition_of_transforms(case: Case) -> None:
    x, t = drawn(case)

    def f(a: torch.Tensor) -> torch.Tensor:
        return of(case)(a, *x[1:], t)

    expected = torch.autograd.functional.hessian(f, x[0])
    fwd, rev = torch.func.jacfwd, torch.func.jacrev
    for hessian in (fwd(rev(f)), rev(rev(f)), fwd(fwd(f)), rev(fwd(f))):  # fwd(fwd(f)) was 0 without a word
        torch.testing.assert_close(hessian(x[0]), expected)


@each_first
def test_vmap_is_a_loop(case: Case) -> None:
    x, t = drawn(case)
    f, many = of(case), range(3)
    losses = torch.stack([f(*(a[i] for a in x), t[i]) for i in many])
    torch.testing.assert_close(torch.func.vmap(f)(*x, t), losses)
    torch.testing.assert_close(torch.func.vmap(f, in_dims=(1,) * len(x) + (0,))(*(a.movedim(0, 1) for a in x), t), losses)
    twice = torch.func.vmap(f, in_dims=(0,) + (None,) * len(x))(torch.stack([x[0], x[0]]), *x[1:], t)
    torch.testing.assert_close(twice, f(*x, t).expand(2))
    everything = tuple(range(len(x)))
    gradients = torch.func.vmap(torch.func.grad(f, argnums=everything))(*x, t)
    for i in many:
        row = leaves(a[i] for a in x)
        for mapped, alone in zip(gradients, torch.autograd.grad(f(*row, t[i]), row), strict=True):
            torch.testing.assert_close(mapped[i], alone)


@each_first
def test_directional_derivative(case: Case) -> None:
    x, t = drawn(case)
    v = torch.ones_like(x[0])

    def f(a: torch.Tensor) -> torch.Tensor:
        return of(case)(a, *x[1:], t)

    expected = torch.func.grad(f)(x[0]).sum()
    torch.testing.assert_close(torch.func.jvp(f, (x[0],), (v,))[1], expected)
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients), forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(x[0], v))).tangent
        assert tangent is not None, "the tangent was dropped"
        torch.testing.assert_close(tangent, expected)


def test_vmap_over_gamma() -> None:
    gammas = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)

    def slope(gamma: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(lambda g: arrayloss.sigmoid_focal_loss(X, YES_NO, gamma=g))(gamma)

    h = 1e-6
    numeric = [
        (float(arrayloss.sigmoid_focal_loss(X, YES_NO, gamma=g + h)) - float(arrayloss.sigmoid_focal_loss(X, YES_NO, gamma=max(g - h, 0))))
        / (g + h - max(g - h, 0))
        for g in gammas.tolist()
    ]
    torch.testing.assert_close(torch.func.vmap(slope)(gammas), torch.tensor(numeric, dtype=torch.float64), rtol=1e-5, atol=0)


# -- second derivatives in the tails --------------------------------------------------------------------------------------

TAILS = torch.tensor([0.0, 1.0, -1.0, 30.0, -30.0, 90.0, -90.0, 1e4, -1e4])


@pytest.mark.parametrize("gamma", [0.0, 0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("label", [0, 1])
def test_second_derivative_agrees_with_the_curvature_in_the_tails(gamma: float, label: int) -> None:
    t = torch.full(TAILS.shape, label)
    x = TAILS.clone().requires_grad_()
    loss = arrayloss.sigmoid_focal_loss.bind(gamma=gamma, reduction="sum")
    (slope,) = torch.autograd.grad(loss(x, t), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    _, curvature = loss.grad_and_hess(TAILS, t)
    # where the exact curvature is below the smallest normal number (2 ** -126), both are subnormal or 0
    torch.testing.assert_close(second, curvature, rtol=2e-6, atol=2.0**-126)
    _, exact = loss.grad_and_hess(TAILS.double(), t)
    torch.testing.assert_close(curvature.double(), exact, rtol=2e-6, atol=2.0**-126)
    assert torch.isfinite(second).all()


@pytest.mark.parametrize("loss", [arrayloss.softmax_cross_entropy, arrayloss.softmax_focal_loss])
def test_second_derivative_of_rows_agrees_with_the_curvature_in_the_tails(loss: Any) -> None:
    x = torch.stack([TAILS, torch.zeros_like(TAILS), torch.full_like(TAILS, -2.0)], dim=-1)
    for label in range(3):
        t = torch.full(TAILS.shape, label)
        rows = torch.func.vmap(torch.func.hessian(lambda row, label: loss(row, label, reduction="sum")))(x, t)
        second = rows.diagonal(dim1=-2, dim2=-1)
        _, curvature = loss.grad_and_hess(x, t)
        torch.testing.assert_close(second, curvature, rtol=1e-5, atol=2.0**-126)


# -- compilers ------------------------------------------------------------------------------------------------------------


def compiled(function: Callable[..., Any], backend: Any = "aot_eager") -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend=backend)


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_compile_without_a_graph_break(case: Case) -> None:
    x, t = drawn(case, "float32")
    both_ways(case, x, t, compiled(of(case)))


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "sigmoid_focal_loss"])
def test_compile_with_inductor(name: str) -> None:
    case = next(c for c in FIRST if c.name == name)
    x, t = drawn(case, "float32")
    both_ways(case, x, t, compiled(of(case), "inductor"))


def test_compile_every_question() -> None:
    x = X.float()
    loss = arrayloss.softmax_cross_entropy.bind(ignore_index=0)

    def everything(x: torch.Tensor) -> Any:
        parts = loss.parts(x, LABELS)
        return loss(x, LABELS), loss.value_and_grad(x, LABELS), loss.grad_and_hess(x, LABELS), loss.finish(parts), parts.arrays

    torch.testing.assert_close(compiled(everything)(x), everything(x))


def test_compile_transforms() -> None:
    def everything(x: torch.Tensor) -> Any:
        per_sample = torch.func.vmap(torch.func.grad(arrayloss.softmax_cross_entropy))(x, LABELS)
        return per_sample, torch.func.hessian(lambda a: arrayloss.softmax_cross_entropy(a, LABELS))(x)

    torch.testing.assert_close(compiled(everything)(X), everything(X))


def test_compile_targets_that_learn() -> None:
    def f(x: torch.Tensor, t: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
        return arrayloss.sigmoid_focal_loss(x, t, gamma=gamma)

    arrays = (X, torch.sigmoid(-X), SCALAR)
    here, there = leaves(arrays), leaves(arrays)
    torch.testing.assert_close(torch.autograd.grad(compiled(f)(*here), here), torch.autograd.grad(f(*there), there))


def test_compile_an_axis_that_changes_from_call_to_call() -> None:
    """The second value makes a compiler let the axis vary: a number of its own that has no `__index__`."""
    x, t = torch.randn(4, 4, 4), torch.randint(0, 4, (4, 4))
    losses = compiled(lambda axis: arrayloss.softmax_cross_entropy(x, t, axis=axis, reduction="none"))
    for axis in (0, 1, 2, -1, 0):
        torch.testing.assert_close(losses(axis), arrayloss.softmax_cross_entropy(x, t, axis=axis, reduction="none"))
    sums = compiled(lambda axis: arrayloss.squared_error(x, 0 * x, reduce_axes=axis, reduction="sum"))
    for axis in (0, 1, -1):
        torch.testing.assert_close(sums(axis), (x * x).sum(axis))


def test_compile_once_for_all_batch_sizes_and_all_gammas() -> None:
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    loss = compiled(lambda x, t, g: arrayloss.softmax_focal_loss(x, t, gamma=g), counter)
    for n in (5, 7, 12, 33):
        for gamma in (0.0, 0.5, 1.0, 2.0, 5.0):
            x = torch.randn(n, 3, requires_grad=True)
            t = torch.randint(0, 3, (n,))
            value = loss(x, t, torch.tensor(gamma))
            value.backward()
            torch.testing.assert_close(value, arrayloss.softmax_focal_loss(x, t, gamma=gamma), rtol=1e-5, atol=1e-7)
    assert counter.frame_count <= 2, "one graph for the first size, one for all others"


SWEEPS: dict[str, Callable[..., torch.Tensor]] = {
    "gamma": lambda x, t, g: arrayloss.softmax_focal_loss(x, t, gamma=g),
    "sigmoid gamma": lambda x, t, g: arrayloss.sigmoid_focal_loss(x, torch.nn.functional.one_hot(t, 3), gamma=g),
    "alpha": lambda x, t, g: arrayloss.sigmoid_focal_loss(x, torch.nn.functional.one_hot(t, 3), alpha=g / 8),
    "pos_weight": lambda x, t, g: arrayloss.sigmoid_cross_entropy(x, torch.nn.functional.one_hot(t, 3), pos_weight=g),
    "delta": lambda x, t, g: arrayloss.huber_loss(x, torch.nn.functional.one_hot(t, 3), delta=g + 0.5),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_of_python_numbers_over_five_batch_sizes_makes_three_graphs(name: str) -> None:
    """Each value made one of its own: whether a power is whole was read from it."""
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    loss = compiled(SWEEPS[name], counter)
    for n in (5, 7, 12, 33, 40):
        for number in (0.5, 1.0, 2.0, 0.0, 5.0, 1.75):
            here = torch.randn(n, 3, requires_grad=True)
            there = here.detach().clone().requires_grad_()
            t = torch.randint(0, 3, (n,))
            value, expected = loss(here, t, number), SWEEPS[name](there, t, number)
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
            for v in (value, expected):
                v.backward()
            torch.testing.assert_close(here.grad, there.grad, rtol=1e-5, atol=1e-7)
    assert counter.frame_count <= 3, "one graph for the first number, one for all numbers, one for all sizes"


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64])
def test_compiled_labels_that_would_wrap_are_out_of_range(dtype: torch.dtype) -> None:
    """Compared in 32 bits, 2**32 + 1 is no label 1; on both axes, since labels are read differently across lines of memory."""
    wrong = 2**32 + 1 if dtype == torch.int64 else torch.iinfo(dtype).max
    labels = torch.tensor([1, wrong, 2, 0], dtype=dtype)
    for axis in (0, 1):
        x = torch.linspace(-1, 1, 12).reshape(4, 3).movedim(1, axis).contiguous().requires_grad_()
        value = compiled(lambda x, axis=axis: arrayloss.softmax_cross_entropy(x, labels, axis=axis, reduction="none"))(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        assert value.isnan().tolist() == [False, True, False, False]
        assert gradient.isnan().any(axis).tolist() == gradient.isnan().all(axis).tolist() == [False, True, False, False]
        right = arrayloss.softmax_cross_entropy(x.detach(), labels.clamp(0, 2), axis=axis, reduction="none")
        torch.testing.assert_close(value[[0, 2, 3]], right[[0, 2, 3]])


def test_a_compiler_may_be_the_first_to_call() -> None:
    from arrayloss.core import namespace

    known = dict(namespace.BACKENDS)
    namespace.BACKENDS.clear()
    try:
        assert torch.isfinite(compiled(lambda x: arrayloss.squared_error(x, YES_NO))(X))
    finally:
        namespace.BACKENDS.update(known)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_export(case: Case, strict: bool) -> None:
    class Model(torch.nn.Module):
        def forward(self, *a: torch.Tensor) -> torch.Tensor:
            return of(case)(*a)

    x, t = drawn(case, "float32")
    program = torch.export.export(Model(), (*x, t), strict=strict)
    torch.testing.assert_close(program.module()(*x, t), of(case)(*x, t))


def test_compiled_labels_out_of_range_give_nan() -> None:
    labels = torch.tensor([2, 9, -1])
    x = torch.zeros(3, 3, requires_grad=True)
    value = compiled(lambda x: arrayloss.softmax_cross_entropy(x, labels, reduction="none"))(x)
    assert value.isnan().tolist() == [False, True, True]


# -- modes ----------------------------------------------------------------------------------------------------------------


@each_first
def test_no_grad_and_inference_mode(case: Case) -> None:
    x, t = drawn(case)
    expected = of(case)(*x, t)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            value = of(case)(*leaves(x), t)
            again, _ = case.loss.value_and_grad(*x, t, **case.options)
        assert not value.requires_grad
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(again, expected)


@each_first
def test_checkpoint(case: Case) -> None:
    x, t = drawn(case)
    both_ways(case, x, t, lambda *a: checkpoint(of(case), *a, use_reentrant=False))


def test_a_checkpoint_keeps_no_slope() -> None:
    x, t = torch.linspace(-2, 2, 12347, requires_grad=True), torch.full((12347,), 0.25)

    def large() -> int:
        return sum(type(o) is torch.Tensor and o.numel() == 12347 for o in gc.get_objects())

    before = large()
    value = checkpoint(arrayloss.sigmoid_focal_loss, x, t, use_reentrant=False)
    assert large() == before
    (gradient,) = torch.autograd.grad(value, x)
    torch.testing.assert_close(gradient, torch.autograd.grad(arrayloss.sigmoid_focal_loss(x, t), x)[0], rtol=0, atol=0)


def test_hooks_on_saved_tensors_see_the_slope_and_may_store_it_elsewhere() -> None:
    x, t = X.clone().requires_grad_(), torch.full_like(X, 0.25)
    stored: list[np.ndarray] = []

    def pack(a: torch.Tensor) -> int:
        stored.append(a.detach().numpy().copy())
        return len(stored) - 1

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda i: torch.from_numpy(stored[i].copy())):
        value = arrayloss.sigmoid_focal_loss(x, t, reduction="sum")
    _, slope = arrayloss.sigmoid_focal_loss.value_and_grad(X, t, reduction="sum")
    assert any(np.array_equal(a, slope.numpy()) for a in stored)
    for keep in (True, True, False):  # the last one scales the slope in place
        (gradient,) = torch.autograd.grad(3 * value, x, retain_graph=keep)
        torch.testing.assert_close(gradient, 3 * slope)


def test_autocast_computes_bfloat16_in_float32() -> None:
    model = torch.nn.Linear(3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(X.float())
        value = arrayloss.softmax_cross_entropy(logits, LABELS)
    assert logits.dtype is torch.bfloat16
    assert value.dtype is torch.float32
    torch.testing.assert_close(value, arrayloss.softmax_cross_entropy(logits.float(), LABELS), rtol=1e-6, atol=0)
    value.backward()
    assert torch.isfinite(model.weight.grad).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):  # what is no matrix product stays as it was
        assert arrayloss.softmax_cross_entropy(X, LABELS).dtype is torch.float64


@each_first
def test_no_value_of_a_meta_tensor_is_read(case: Case) -> None:
    x, t = drawn(case)
    x, t = leaves(a.to("meta") for a in x), t.to("meta")
    of(case)(*x, t).backward()
    assert all(a.grad.shape == a.shape and a.grad.device.type == "meta" for a in x)
    value, _ = case.loss.value_and_grad(*(a.detach() for a in x), t, **case.options)
    assert value.device.type == "meta"
    assert case.loss.finish(case.loss.parts(*x, t, **case.options)).device.type == "meta"


@each_first
def test_no_value_of_a_fake_tensor_on_a_gpu_is_read(case: Case) -> None:
    from torch._subclasses import FakeTensorMode

    x, t = drawn(case)
    with FakeTensorMode():
        x = tuple(torch.empty(a.shape, dtype=a.dtype, device="cuda") for a in x)
        t = torch.empty(t.shape, dtype=t.dtype, device="cuda")
        value, gradient = case.loss.value_and_grad(*x, t, **case.options)
        assert of(case)(*x, t).device.type == value.device.type == "cuda"
        gradients = gradient if case.several else (gradient,)
        assert all(g.device.type == "cuda" and g.shape == a.shape for g, a in zip(gradients, x, strict=True))


class Tagged(torch.Tensor):
    pass


@each_first
def test_parameters_and_subclasses(case: Case) -> None:
    x, t = drawn(case)
    expected = torch.autograd.grad(of(case)(*(a := leaves(x)), t), a)
    for made in (torch.nn.Parameter, lambda a: a.clone().as_subclass(Tagged).requires_grad_()):
        inputs = tuple(made(a) for a in x)
        for g, e in zip(torch.autograd.grad(of(case)(*inputs, t), inputs), expected, strict=True):
            torch.testing.assert_close(g.as_subclass(torch.Tensor), e)


def test_counts_have_no_gradient() -> None:
    x = X.clone().requires_grad_()
    for logits in (x, x.as_subclass(Tagged)):
        parts = arrayloss.softmax_cross_entropy.parts(logits, LABELS, ignore_index=0)
        assert parts.total.requires_grad
        assert not parts.count.requires_grad
        assert not parts.weight.requires_grad


def test_devices_do_not_mix() -> None:
    with pytest.raises(ValueError, match=r"targets must be on the device of the predictions, cpu; got meta: pass targets.to\('cpu'\)"):
        arrayloss.softmax_cross_entropy(X, LABELS.to("meta"))
    with pytest.raises(ValueError, match="weights must be on the device of the predictions, meta; got cpu"):
        arrayloss.softmax_cross_entropy(X.to("meta"), LABELS.to("meta"), weights=torch.ones(2))


def test_parts_are_a_pytree() -> None:
    parts = arrayloss.softmax_cross_entropy.parts(X, LABELS)
    doubled = torch.utils._pytree.tree_map(lambda a: 2 * a, parts)
    torch.testing.assert_close(doubled.arrays, (parts + parts).arrays)
    per_sample = torch.func.vmap(arrayloss.softmax_cross_entropy.parts)(X, LABELS)
    torch.testing.assert_close(per_sample.total.sum(), parts.total)
    torch.testing.assert_close(copy.deepcopy(parts).arrays, parts.arrays)
    torch.testing.assert_close(pickle.loads(pickle.dumps(parts)).arrays, parts.arrays)


def test_a_deep_copied_module_keeps_its_loss() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss = arrayloss.softmax_focal_loss.bind(gamma=1.5, alpha=(1.0, 2.0, 3.0))

    model = Model()
    assert copy.deepcopy(model).loss == model.loss


class Losses(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return arrayloss.softmax_cross_entropy(X * index, LABELS)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:os.fork.*:RuntimeWarning")  # the worker is a fork
def test_a_loss_inside_a_worker_process() -> None:
    arrayloss.softmax_cross_entropy(X, LABELS)  # before the fork
    loader = torch.utils.data.DataLoader(Losses(), batch_size=2, num_workers=1, multiprocessing_context="fork", timeout=30)
    torch.testing.assert_close(torch.cat(list(loader)), torch.stack([Losses()[i] for i in range(4)]))


# -- the choice between the fast path and the general one ------------------------------------------------------------------


def test_every_private_name_that_the_choice_rests_on_is_there() -> None:
    assert callable(torch._C._are_functorch_transforms_active)
    assert callable(torch._C._len_torch_dispatch_stack)
    assert callable(torch._C._is_tracing)
    assert callable(torch._C._autograd._get_current_graph_task_keep_graph)
    assert callable(torch._C._functorch.is_batchedtensor)
    assert callable(torch._C._functorch.is_legacy_batchedtensor)
    assert callable(forward_ad._set_fwd_grad_enabled)
    assert forward_ad._current_level == -1
    with forward_ad.dual_level():
        assert forward_ad._current_level == 0


def test_a_tensor_that_outlived_its_transform_is_itself_again() -> None:
    kept = []

    def look(x: torch.Tensor) -> torch.Tensor:
        kept.append(x)
        return (x * x).sum()

    x = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    t = torch.zeros(3)
    torch.func.grad(look)(x)
    assert not adapter.is_plain(kept)
    value = arrayloss.squared_error(kept[0], t)
    assert value.item() == 7
    (slope,) = torch.autograd.grad(value, x)
    torch.testing.assert_close(slope, 2 * x.detach() / 3)


def test_the_fast_path_is_for_plain_tensors_alone() -> None:
    seen = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(adapter.is_plain((x,)))
        return x.sum()

    look(X)
    look(torch.nn.Parameter(X))
    assert seen == [True, True]
    seen.clear()
    torch.func.grad(look)(X)
    torch.func.vmap(look)(X)
    torch.func.jvp(look, (X,), (X,))
    look(X.as_subclass(Tagged))
    look(X.to("meta"))
    with forward_ad.dual_level():
        look(X)
    with torch._subclasses.FakeTensorMode():
        look(torch.empty(2))
    assert seen == [False] * 7
    assert bool(compiled(lambda x: x + adapter.is_plain((x,)))(torch.zeros(1)) == 0)


def test_a_gradient_in_place_leaves_the_inputs_alone() -> None:
    x = X.clone().requires_grad_()
    before = x.detach().clone()
    weights = torch.tensor([1.0, 2.0], dtype=torch.float64)
    arrayloss.softmax_cross_entropy(x, LABELS, weights=weights).backward()
    np.testing.assert_array_equal(x.detach().numpy(), before.numpy())
    np.testing.assert_array_equal(weights.numpy(), [1.0, 2.0])
