"""What the contract says beside topics of their own: who owns results, what compilers follow, what a sum over the whole world sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from torch.utils.flop_counter import FlopCounterMode

import arrayloss as al

from .helpers import WHOLE_GRAPHS, assert_same, lacking, needs_whole_graphs, quietly
from .operations import DECISIONS, LABELS, PREDICTIONS

X, Y = torch.tensor(PREDICTIONS), torch.tensor(LABELS)
softmax_dice = al.dice_loss.bind(activation="softmax", axis=1)


class TestResults:
    """What we return belongs to the caller."""

    @pytest.mark.parametrize("loss", [al.huber_loss, al.sigmoid_cross_entropy])
    @pytest.mark.parametrize("size", [3, 2**17])
    def test_can_be_written(self, loss: Any, size: int) -> None:
        """Up to 2^18 entries they were read-only views."""
        x = np.zeros((2, size))
        for result in (loss(x, x, reduction="none"), loss(x, x, reduction="none", weights=np.ones((2, 1)))):
            result[0] = 7
        assert not x.any()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    @lacking("numpy", "2.0", "arrays by DLPack are read-only, so results are in memory of NumPy")
    def test_of_torch_can_be_resized(self, dtype: torch.dtype) -> None:
        """`Tensor.numpy()` pins the storage of inputs and results."""
        x = torch.zeros(400, 1000, dtype=dtype, requires_grad=True)
        losses = al.huber_loss(x, torch.ones_like(x), reduction="none")
        losses.sum().backward()
        for result in (losses.detach(), x.grad, x.detach()):
            assert result.dtype == dtype
            result.resize_(2**20)

    def test_of_torch_can_be_written_in_place(self) -> None:
        """A view that a Function returns cannot."""
        x = torch.zeros(400, 300, 2, requires_grad=True)
        losses = al.cross_entropy(x, torch.zeros(400, 300, dtype=torch.int64), axis=-1, reduction="none")
        assert losses.mul_(2).shape == (400, 300)


@pytest.mark.parametrize("loss", [al.huber_loss, softmax_dice])
def test_backward_under_a_dispatch_mode(loss: Any) -> None:
    """Something watches the backward pass that did not watch the forward pass: no host memory is read."""
    x, targets = X.clone().requires_grad_(), Y if loss is softmax_dice else torch.tensor(DECISIONS)
    value = loss(x, targets)
    value.backward(retain_graph=True)
    with FlopCounterMode(display=False):
        value.backward()
    assert_same(x.grad, 2 * loss.value_and_grad(x.detach(), targets)[1])


class TestCompiled:
    """`torch.compile` follows everything that a call does, in one graph."""

    @pytest.fixture
    def compiled(self) -> Iterator[Callable[..., Any]]:
        """The compiler."""
        torch._dynamo.reset()
        with quietly():
            yield lambda function, backend="aot_eager", **options: torch.compile(
                function, fullgraph=WHOLE_GRAPHS, backend=backend, **options
            )

    @needs_whole_graphs
    def test_every_question_in_one_graph(self, compiled: Callable[..., Any]) -> None:
        """Signatures and `update_wrapper` stopped the compiler."""

        def everything(x: torch.Tensor) -> Any:
            parts = al.cross_entropy.parts(x, Y)
            loss = al.cross_entropy.bind(axis=1, label_smoothing=0.1)
            both = (al.cross_entropy / 2 - softmax_dice)(x, Y)
            finished = al.cross_entropy.finish(parts, normalizer="count")
            return loss(x, Y), loss.value_and_grad(x, Y), loss.grad_and_hess(x, Y), both, finished, al.cross_entropy(x, Y, normalizer=0)

        torch.testing.assert_close(compiled(everything)(X), everything(X))

    @needs_whole_graphs
    def test_batches_of_any_size(self, compiled: Callable[..., Any]) -> None:
        """A denominator that is symbolic has no attributes."""
        counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
        loss = compiled(lambda x, y: al.cross_entropy(x, y) + softmax_dice(x, y), counter)
        for n in (6, 4, 5):
            assert_same(loss(X[:n], Y[:n]), al.cross_entropy(X[:n], Y[:n]) + softmax_dice(X[:n], Y[:n]))
        assert counter.frame_count <= 2, "one graph for the first size, one for all others"

    @needs_whole_graphs
    def test_a_sweep_of_numbers_makes_three_graphs(self, compiled: Callable[..., Any]) -> None:
        """Each value made one of its own: whether a power is whole was read from it."""
        counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
        loss = compiled(lambda x, y, g: al.softmax_focal_loss(x, y, gamma=g), counter)
        for n in (6, 4):
            for gamma in (0.5, 1.0, 2.0, 0.0):
                x = X[:n].clone().requires_grad_()
                value = loss(x, Y[:n], gamma)
                value.backward()
                expected, gradient = al.softmax_focal_loss.value_and_grad(X[:n], Y[:n], gamma=gamma)
                assert_same(value.detach(), expected)
                assert_same(x.grad, gradient)
        assert counter.frame_count <= 3, "one graph for the first number, one for all numbers, one for all sizes"

    @pytest.mark.parametrize("axis", [0, 1])
    def test_labels_that_would_wrap_are_out_of_range(self, compiled: Callable[..., Any], axis: int) -> None:
        """Compared in 32 bits, 2**32 + 1 is no label 1; labels are read differently across lines of memory."""
        labels = torch.tensor([1, 2**32 + 1, 2, -1])
        x = torch.linspace(-1, 1, 12).reshape(4, 3).movedim(1, axis).contiguous().requires_grad_()
        value = compiled(lambda x: al.softmax_cross_entropy(x, labels, axis=axis, reduction="none"))(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        assert value.isnan().tolist() == [False, True, False, True]
        assert gradient.isnan().any(axis).tolist() == gradient.isnan().all(axis).tolist() == [False, True, False, True]

    def test_parameters_and_targets_that_learn(self, compiled: Callable[..., Any]) -> None:
        """Inputs like any others."""
        function = lambda x, t, gamma: al.sigmoid_focal_loss(x, t, gamma=gamma)  # noqa: E731
        here, there = (
            [a.clone().requires_grad_() for a in (X, torch.sigmoid(-X), torch.tensor(1.75, dtype=torch.float64))] for _ in range(2)
        )
        torch.testing.assert_close(torch.autograd.grad(compiled(function)(*here), here), torch.autograd.grad(function(*there), there))

    @pytest.mark.exhaustive
    @pytest.mark.parametrize("loss", [al.cross_entropy, softmax_dice, al.sigmoid_focal_loss])
    def test_inductor(self, compiled: Callable[..., Any], loss: Any) -> None:
        """The compiler's own code."""
        t = torch.tensor(DECISIONS) if loss is al.sigmoid_focal_loss else Y
        x = X.clone().requires_grad_()
        value = compiled(loss, "inductor")(x, t)
        value.backward()
        assert_same(value.detach(), loss(X, t))
        assert_same(x.grad, loss.value_and_grad(X, t)[1])


class TestDevices:
    """No value of a tensor is read where that would wait."""

    def test_meta(self, kind: Any) -> None:
        """Shapes and dtypes alone."""
        arrays = [torch.tensor(a).to("meta") for a in (*kind.stack, *kind.targets)]
        options = {n: torch.tensor(v).to("meta") if isinstance(v, np.ndarray) else v for n, v in kind.options.items()}
        x = arrays[0].requires_grad_()
        kind.loss(*arrays, **options).backward()
        assert (x.grad.shape, x.grad.device.type) == (x.shape, "meta")
        if not kind.is_coupled:
            assert kind.loss.finish(kind.loss.parts(*arrays, **options)).device.type == "meta"

    def test_a_gpu_that_is_not_there(self, kind: Any) -> None:
        """Fake tensors know where they are."""
        from torch._subclasses import FakeTensorMode

        with FakeTensorMode():
            fake = lambda a: torch.empty(a.shape, dtype=torch.from_numpy(np.array(a)).dtype, device="cuda")  # noqa: E731
            options = {n: fake(v) if isinstance(v, np.ndarray) else v for n, v in kind.options.items()}
            value, gradients = kind.loss.value_and_grad(*map(fake, (*kind.stack, *kind.targets)), **options)
            assert value.device.type == "cuda"
            assert all(g.device.type == "cuda" for g in (gradients if isinstance(gradients, tuple) else (gradients,)))
