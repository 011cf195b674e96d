"""PyTorch: what went wrong there once, and what the host engine promises for tensors."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import arrayloss as al
from arrayloss import define
from arrayloss.adapters import torch_host

from .helpers import assert_same
from .operations import normal_loss

softmax_dice = al.dice_loss.bind(activation="softmax", axis=1)
HALF = [torch.float16, torch.bfloat16]
LARGE = 2**16 + 8  # two rows of so many entries are computed in blocks


def _linear(xp: Any, x: Any, t: Any) -> Iterator[Any]:
    yield -x * t
    yield -t


@define.loss
def linear_loss(predictions: Any, targets: Any, **options: Any) -> Any:
    """A loss whose slope does not depend on the prediction."""
    return define.elementwise(_linear, predictions, targets, options)


def image(size: int = 128) -> tuple[torch.Tensor, torch.Tensor]:
    """Confident logits and their masks, beyond the size at which products of matrices run in 16 bits."""
    torch.manual_seed(0)
    masks = torch.nn.functional.one_hot(torch.randint(0, 3, (2, size, size)), 3).movedim(-1, 1).float()
    return 20 * masks, masks


class TestAutocast:
    """No region computes a loss in fewer bits than its inputs have."""

    @pytest.mark.parametrize("dtype", HALF)
    def test_changes_no_digit(self, dtype: torch.dtype) -> None:
        """The Dice loss of confident logits was 0: its sums were products of matrices in 16 bits."""
        loss = softmax_dice.bind(smooth=0.0)
        x, masks = image()
        expected, value = loss.value_and_grad(x, masks), loss(x, masks)
        transform = torch.func.grad_and_value(loss)(x, masks)
        with torch.autocast("cpu", dtype):
            assert torch.equal(loss(x, masks), value)
            assert all(map(torch.equal, loss.value_and_grad(x, masks), expected))
            assert all(map(torch.equal, torch.func.grad_and_value(loss)(x, masks), transform))
        assert 4.0e-9 < value < 4.3e-9


class TestDerivatives:
    """Modes of differentiation that failed."""

    @pytest.mark.parametrize("options", [{"reduce_axes": (1, 2)}, {"reduction": "none"}, {}])
    def test_forward_mode_with_weights_that_broadcast(self, options: dict[str, Any]) -> None:
        """The sums of the weights were an expanded tensor, to whose tangent nothing can be written."""
        x, weights = torch.randn(2, 3, 3), torch.rand(1, 3, 3)
        function = lambda x: al.huber_loss(x, 2 * x, weights=weights, **options)  # noqa: E731
        expected = torch.autograd.functional.jvp(function, x, torch.ones_like(x), create_graph=False)[1]
        torch.testing.assert_close(torch.func.jvp(function, (x,), (torch.ones_like(x),))[1], expected)

    @pytest.mark.parametrize("constant", [0, 1])
    def test_create_graph_with_a_constant_prediction(self, constant: int) -> None:
        """One of two predictions needs no gradient: it was an error."""
        predictions = list(torch.rand(2, 5, dtype=torch.float64) + 1)
        targets = torch.rand(5, dtype=torch.float64)

        def loss(x: torch.Tensor) -> torch.Tensor:
            return normal_loss(*[predictions[i] if i == constant else x for i in range(2)], targets, where=targets > 0.2)

        assert torch.autograd.gradgradcheck(loss, predictions[1 - constant].requires_grad_())

    def test_a_second_derivative_of_a_slope_without_a_graph(self) -> None:
        """It does not require grad, said an error; it is 0, at infinity too."""
        x = torch.tensor([1.0, -torch.inf], requires_grad=True)
        for t in (torch.ones(2), torch.ones(2, requires_grad=True)):
            (slope,) = torch.autograd.grad(linear_loss(x, t, reduction="sum"), x, create_graph=True)
            assert torch.equal(slope, -torch.ones(2))
            (second,) = torch.autograd.grad(slope.sum(), x)
            assert torch.equal(second, torch.zeros(2))

    @pytest.mark.parametrize("options", [{"ignore_index": 1}, {"weights": torch.rand(2, 3, 3)}, {}])
    @pytest.mark.parametrize("loss", [softmax_dice, al.cross_entropy.bind(axis=1), softmax_dice + al.cross_entropy.bind(axis=1)])
    def test_a_checkpoint_that_is_not_reentrant(self, loss: Any, options: dict[str, Any]) -> None:
        """Saved tensors were unpacked twice."""
        x, y = torch.randn(2, 4, 3, 3, requires_grad=True), torch.randint(0, 4, (2, 3, 3))
        if "weights" in options and loss is not al.cross_entropy.bind(axis=1):
            options = {"weights": options["weights"][:, None]}
        checkpoint(lambda x: loss(x, y, **options), x, use_reentrant=False).backward()
        torch.testing.assert_close(x.grad, loss.value_and_grad(x.detach(), y, **options)[1])


class TestBackward:
    """What the host engine saves, and what it does with it."""

    @pytest.mark.parametrize("dtype", [torch.float32, *HALF])
    @pytest.mark.parametrize("size", [10, LARGE])
    @pytest.mark.parametrize("loss", [al.huber_loss, al.dice_loss.bind(activation="sigmoid")])
    def test_three_times(self, loss: Any, size: int, dtype: torch.dtype) -> None:
        """The first gradient lies in memory that was saved: what is added to it is no change of a saved tensor."""
        x = torch.randn(2, size).to(dtype).requires_grad_()
        value, gradients = loss(x, torch.ones_like(x), weights=torch.tensor([[0.5], [1.5]])), []
        for retain in (True, True, False):
            x.grad = None
            value.backward(retain_graph=retain)
            gradients.append(x.grad.clone())
            x.grad += 1
        assert torch.equal(gradients[0], gradients[1])
        assert torch.equal(gradients[0], gradients[2])
        assert gradients[0].dtype == dtype

    @pytest.mark.parametrize("size", [10, LARGE])
    @pytest.mark.parametrize("options", [{}, {"weights": torch.tensor([[0.5], [1.5]])}, {"reduce_axes": 1}])
    def test_loss_scaling_of_16_bits(self, size: int, options: dict[str, Any]) -> None:
        """The gradient of a mean underflows in float16; scaled, it is right to the last digit."""
        x, scale = torch.randn(2, size).half(), 2.0**12
        targets = torch.rand(2, size).half()
        half, single = x.clone().requires_grad_(), x.float().requires_grad_()
        for a in (half, single):
            (scale * al.sigmoid_cross_entropy(a, targets.to(a.dtype), **options)).sum().backward()
        assert torch.equal(half.grad, single.grad.half())

    @pytest.mark.parametrize("size", [10, LARGE])
    @pytest.mark.parametrize("loss", [al.dice_loss, al.huber_loss])
    def test_memory_goes_when_its_references_go(self, loss: Any, size: int) -> None:
        """Every backward pass of an overlap left a cycle: without garbage collections all batches stayed alive."""
        loss = loss.bind(activation="softmax", axis=1) if loss is al.dice_loss else loss
        gc.collect()
        gc.disable()
        try:
            x = torch.randn(size, 3, requires_grad=True)
            value = loss(x, torch.ones(size, 3))
            value.backward(retain_graph=True)
            value.backward()
            alive = [weakref.ref(x), weakref.ref(x.grad)]
            del x, value
            assert [r() for r in alive] == [None, None]
        finally:
            gc.enable()


class TestDtypes:
    """16 bits."""

    @pytest.mark.parametrize("dtype", HALF)
    @pytest.mark.parametrize("size", [10, LARGE])
    def test_unreduced_losses_have_the_dtype_of_the_predictions(self, dtype: torch.dtype, size: int) -> None:
        """Those of overlaps were float32; a mean is. In blocks, on tensors that a transform watches, and from `value_and_grad`."""
        x = torch.randn(2, size).to(dtype)
        for loss in (al.dice_loss.bind(activation="sigmoid", pool_axes=1), al.huber_loss):
            unreduced = loss.bind(reduction="none")
            targets = torch.ones_like(x)
            results = [
                unreduced(x, targets),
                *unreduced.value_and_grad(x, targets),
                torch.func.vmap(loss.bind(reduction="none"))(x[None], targets[None]),
            ]
            assert {r.dtype for r in results} == {dtype}
            assert loss(x, targets).dtype == torch.float32

    def test_large_16_bits_are_rounded_once(self) -> None:
        x, t = torch.randn(2, LARGE), torch.rand(2, LARGE)
        for dtype in HALF:
            half = x.to(dtype)
            gradients = [al.sigmoid_focal_loss.value_and_grad(a, t, reduction="sum")[1] for a in (half, half.float())]
            assert torch.equal(gradients[0], gradients[1].to(dtype))
            first, second = al.sigmoid_focal_loss.grad_and_hess(half, t)
            expected = al.sigmoid_focal_loss.grad_and_hess(half.float(), t)
            assert torch.equal(first, expected[0].to(dtype))
            assert torch.equal(second, expected[1].to(dtype))


def test_private_names() -> None:
    """The only private names that decide whether a tensor is watched: a version of PyTorch without them must be noticed here."""
    assert torch._C._are_functorch_transforms_active() is False
    assert torch._C._len_torch_dispatch_stack() == 0
    assert torch.func.vmap(lambda x: x * torch._C._are_functorch_transforms_active())(torch.ones(2)).sum() == 2


@pytest.fixture
def large() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What several threads compute. The number of PyTorch's threads comes back."""
    before = torch.get_num_threads()
    x = torch.randn(3, 2**20)
    yield x, torch.zeros_like(x)
    torch.set_num_threads(before)


@pytest.mark.usefixtures("compiled")
@pytest.mark.skipif(not torch_host._team, reason="PyTorch's OpenMP has no GOMP_parallel")
def test_threads_are_those_of_torch(large: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits are the same on any number of them, and on threads of ours."""
    workers, team = [], torch_host._team[0]
    monkeypatch.setattr(torch_host, "_team", [lambda *args: [workers.append(args[2]), team(*args)]])
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(al.huber_loss.value_and_grad(*large))
    assert workers == [2, 3]
    monkeypatch.setattr(torch_host, "_team", [])
    results.append(al.huber_loss.value_and_grad(*large))
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.usefixtures("compiled")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    """Those of OpenMP stay behind: a parallel region of theirs would wait for ever."""
    program = """
import os, signal, warnings
import torch, arrayloss as al
warnings.simplefilter("ignore")
al.use_engine("compiled")
torch.set_num_threads(2)
x = torch.linspace(-3, 3, 2**20)
t = torch.zeros_like(x)
value, gradient = al.huber_loss.value_and_grad(x, t)
child = os.fork()
if child == 0:
    signal.alarm(20)
    again, other = al.huber_loss.value_and_grad(x, t)
    os._exit(not (again.item() == value.item() and (other.numpy() == gradient.numpy()).all()))
print(os.waitpid(child, 0)[1])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "0\n"


def test_numpy_computes_for_torch() -> None:
    """One engine: the same bits."""
    x, t = np.random.default_rng(0).random((2, 300, 500)).astype(np.float32)
    for result, expected in zip(
        al.sigmoid_focal_loss.value_and_grad(*map(torch.from_numpy, (x, t))), al.sigmoid_focal_loss.value_and_grad(x, t), strict=True
    ):
        assert np.array_equal(result, expected)
        assert_same(result, expected)


def test_without_numpy() -> None:
    """The general Function computes what the host engine does."""
    program = """
import sys
sys.modules["numpy"] = None
import torch, arrayloss as al
x = torch.arange(6.0).reshape(2, 3).requires_grad_()
value = al.cross_entropy(x, torch.tensor([0, 2]))
value.backward()
print(value.item(), *x.grad.flatten().tolist())
"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    value, gradient = al.cross_entropy.value_and_grad(torch.arange(6.0).reshape(2, 3), torch.tensor([0, 2]))
    np.testing.assert_allclose([float(number) for number in run.stdout.split()], [value, *gradient.flatten()], rtol=1e-6)
