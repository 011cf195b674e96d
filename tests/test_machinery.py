"""Is the machinery right? Kinds of operation x paths, one test for each mode; whether formulas are right is asked elsewhere."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from arrayloss import use_engine
from arrayloss.engine import host
from arrayloss.engine.c import program

from .helpers import BACKENDS, WHOLE_GRAPHS, assert_same, needs_whole_graphs, quietly, several
from .operations import Case, info_nce_loss, norm_loss


def tensor(a: Any) -> torch.Tensor:
    """A NumPy array as a tensor with memory of its own."""
    return torch.from_numpy(np.array(a))


def leaf(case: Case) -> torch.Tensor:
    """The predictions as a tensor that requires a gradient."""
    return tensor(case.kind.x).requires_grad_()


class TestTorch:
    """Eager PyTorch on the CPU, its transforms and its compiler."""

    def test_backward_gives_numpys_gradient(self, case: Case) -> None:
        """One engine computes both."""
        x, (value, gradient) = leaf(case), case.reference
        result = case.function(tensor)(x)
        result.sum().backward()
        assert_same(result.detach(), value)
        assert_same(x.grad, gradient)

    def test_value_and_grad_needs_no_autograd(self, case: Case) -> None:
        """The engine returns what autograd finds."""
        for result, expected in zip(case.value_and_grad(BACKENDS["torch"]), case.reference, strict=True):
            assert_same(result, expected)

    def test_gradients_are_those_of_differences(self, case: Case) -> None:
        """In reverse mode, in forward mode, and for a batch of cotangents; a second backward pass gives the same bits."""
        assert torch.autograd.gradcheck(case.function(tensor), leaf(case), check_forward_ad=True, check_batched_grad=True)

    def test_second_derivatives_are_those_of_differences(self, sample: Case) -> None:
        """In reverse over reverse and in forward over reverse mode."""
        assert torch.autograd.gradgradcheck(sample.function(tensor), leaf(sample), check_fwd_over_rev=True)

    @pytest.mark.parametrize("use_reentrant", [False, True])
    def test_checkpoint(self, case: Case, use_reentrant: bool) -> None:
        """One that is not reentrant lets saved tensors be unpacked once."""
        x = leaf(case)
        checkpoint(case.function(tensor), x, use_reentrant=use_reentrant).sum().backward()
        assert_same(x.grad, case.reference[1])

    def test_a_second_backward_adds_the_same_gradient(self, case: Case) -> None:
        """The first one took the memory of the saved gradient."""
        x = leaf(case)
        total = case.total(tensor)(x)
        total.backward(retain_graph=True)
        first = x.grad.clone()
        total.backward(retain_graph=True)
        total.backward()
        assert_same(first, case.reference[1])
        assert_same(x.grad, 3 * first)

    def test_hooks_on_saved_tensors(self, case: Case) -> None:
        """What a hook unpacks is used, not what was saved."""
        x = leaf(case)
        with torch.autograd.graph.saved_tensors_hooks(torch.clone, torch.clone):
            total = case.total(tensor)(x)
        total.backward()
        assert_same(x.grad, case.reference[1])

    def test_create_graph_gives_the_same_gradient(self, case: Case) -> None:
        """It takes the way of array code."""
        x = leaf(case)
        (g,) = torch.autograd.grad(case.total(tensor)(x), x, create_graph=True)
        assert g.requires_grad
        assert_same(g.detach(), case.reference[1])

    def test_transforms(self, sample: Case) -> None:
        """`torch.func`: reverse, forward, both over each other, batched."""
        total, x, gradient = sample.total(tensor), tensor(sample.kind.x), sample.reference[1]
        assert_same(torch.func.grad(total)(x), gradient)
        assert_same(torch.func.jvp(total, (x,), (torch.ones_like(x),))[1], gradient.sum())
        assert_same(torch.func.vmap(torch.func.grad(total))(torch.stack([x, x]))[1], gradient)
        hessian = torch.autograd.functional.hessian(total, x)
        assert_same(torch.func.hessian(total)(x), hessian)
        assert_same(torch.func.jacfwd(torch.func.jacfwd(total))(x), hessian)

    def test_compile(self, sample: Case) -> None:
        """In one graph, with its gradient."""
        torch._dynamo.reset()
        x = leaf(sample)
        with quietly():
            torch.compile(sample.function(tensor), fullgraph=WHOLE_GRAPHS, backend="aot_eager")(x).sum().backward()
        assert_same(x.grad, sample.reference[1])

    @needs_whole_graphs
    def test_export(self, spine: Case) -> None:
        """A program without Python."""

        class Model(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return spine.function(tensor)(x)

        x = tensor(spine.kind.x)
        assert_same(torch.export.export(Model(), (x,)).module()(x), spine.reference[0])


class TestJax:
    """JAX, jitted."""

    def test_jit(self, sample: Case) -> None:
        """Value and gradient."""
        value, gradient = jax.jit(jax.value_and_grad(sample.total(jnp.asarray)))(jnp.asarray(sample.kind.x))
        assert_same(value, np.sum(sample.reference[0]))
        assert_same(gradient, sample.reference[1])

    def test_transforms(self, sample: Case) -> None:
        """Forward over reverse, reverse over reverse, forward, batched, rematerialised; in one program."""
        total, x, gradient = sample.total(jnp.asarray), jnp.asarray(sample.kind.x), sample.reference[1]

        @jax.jit
        def everything(x: Any) -> Any:
            pushed = jax.jvp(total, (x,), (jnp.ones_like(x),))[1]
            batched = jax.vmap(jax.grad(total))(jnp.stack([x, x]))[1]
            return jax.hessian(total)(x), jax.jacrev(jax.jacrev(total))(x), pushed, batched, jax.grad(jax.checkpoint(total))(x)

        hessian, reverse, pushed, batched, rematerialised = everything(x)
        expected = torch.func.hessian(sample.total(tensor))(tensor(sample.kind.x))
        assert_same(hessian, expected)
        assert_same(reverse, expected)
        assert_same(pushed, gradient.sum())
        assert_same(batched, gradient)
        assert_same(rematerialised, gradient)

    def test_scan(self, spine: Case) -> None:
        """Steps of gradient descent in a loop."""
        slope, x = jax.grad(spine.total(jnp.asarray)), jnp.asarray(spine.kind.x)
        last, _ = jax.lax.scan(lambda x, _: (x - 0.1 * slope(x), None), x, None, length=2)
        first = spine.kind.x - 0.1 * spine.reference[1]
        y = tensor(first).requires_grad_()
        spine.total(tensor)(y).backward()
        assert_same(last, first - 0.1 * y.grad.numpy())


@pytest.mark.usefixtures("compiled")
class TestCompiled:
    """The compiled engine, beside NumPy."""

    def test_numpy(self, case: Case) -> None:
        """Value and gradient, then the value alone."""
        targets, options = case.arguments(np.asarray)
        for result, expected in zip(case.value_and_grad(BACKENDS["numpy"]), case.reference, strict=True):
            assert_same(result, expected)
        assert_same(case.loss(*case.unstack(case.kind.x), *targets, **options), case.reference[0])

    def test_backward_of_torch(self, case: Case) -> None:
        x, (value, gradient) = leaf(case), case.reference
        result = case.function(tensor)(x)
        result.sum().backward()
        assert_same(result.detach(), value)
        assert_same(x.grad, gradient)

    def test_derivatives(self, case: Case) -> None:
        """First and second ones, or the same error."""
        targets, options = case.arguments(np.asarray)

        def derivatives() -> Any:
            try:
                return [a for many in case.loss.grad_and_hess(*case.unstack(case.kind.x), *targets, **options) for a in several(many)]
            except (NotImplementedError, ValueError) as error:
                return str(error)

        with use_engine("numpy"):
            expected = derivatives()
        if isinstance(expected, str):
            assert derivatives() == expected
        else:
            for result, reference in zip(derivatives(), expected, strict=True):
                assert_same(result, reference)

    def test_elements_rows_and_overlaps_are_compiled(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        """All kinds but those that depend on other elements, or have several axes."""
        runs = []
        run = program.Plan.run
        monkeypatch.setattr(program.Plan, "run", lambda *args: [runs.append(1), run(*args)][1])
        case.value_and_grad(BACKENDS["numpy"])
        assert bool(runs) == (case.kind.loss not in (norm_loss, info_nce_loss))


class TestOtherLibraries:
    """Value and gradient without autograd."""

    def test_strict(self, case: Case) -> None:
        """array-api-strict refuses what the standard does not promise."""
        self.check(case, "strict")

    def test_dask(self, sample: Case) -> None:
        """Several chunks along every axis."""
        self.check(sample, "dask")

    def test_jax(self, spine: Case) -> None:
        """The method `value_and_grad`."""
        self.check(spine, "jax")

    def check(self, case: Case, library: str) -> None:
        """Against NumPy."""
        for result, expected in zip(case.value_and_grad(BACKENDS[library]), case.reference, strict=True):
            assert_same(result, expected)


@pytest.mark.usefixtures("engine")
def test_blocks_and_threads(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 3 entries change nothing but the order of sums, and the number of threads no bit."""
    expected = case.reference
    monkeypatch.setattr(host, "BLOCK", 3)
    for size in ("PART", "ELEMENTS", "ROWS"):
        monkeypatch.setattr(program, size, 3)
    program._plan.cache_clear()
    several = []
    for threads in (1, 3):
        monkeypatch.setattr(host, "threads", lambda threads=threads: threads)
        several.append(case.value_and_grad(BACKENDS["numpy"]))
    for one, three, reference in zip(*several, expected, strict=True):
        assert_same(one, reference)
        assert one.tobytes() == three.tobytes()


class TestParts:
    """The sums behind a loss."""

    def test_of_two_batches_add(self, additive: Case) -> None:
        """The finish of their sum is the loss of the union."""
        targets, options = additive.arguments(np.asarray)
        x, n = additive.kind.x, additive.kind.samples
        batches = []
        for batch in (slice(0, n // 3), slice(n // 3, n)):
            some = {name: v[batch] if isinstance(v, np.ndarray) and v.ndim else v for name, v in options.items() if name != "normalizer"}
            predictions = [p[batch] for p in additive.unstack(x)]
            batches.append(additive.loss.parts(*predictions, *[t[batch] for t in targets], **some))
        whole = additive.loss.finish(sum(batches), **{name: v for name, v in options.items() if name == "normalizer"})
        assert_same(whole, additive.reference[0])

    def test_are_differentiable(self, additive: Case) -> None:
        """As is the finish."""
        x, (targets, options) = leaf(additive), additive.arguments(tensor)
        normalizer = {"normalizer": options.pop("normalizer")} if "normalizer" in options else {}
        additive.loss.finish(additive.loss.parts(*additive.unstack(x), *targets, **options), **normalizer).backward()
        assert_same(x.grad, additive.reference[1])
