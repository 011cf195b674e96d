"""Parts: the sums behind a loss.

What holds, and the test that would fail without it:

- parts of two batches add, and finish of the sum is the loss of the union  test_parts_of_batches_add_exactly
- with weights, masks, ignored labels and class weights    (the same test)
- sum() of a list; never a tuple, whose + concatenates     test_parts_are_no_tuple
- stack() and back                                         test_stack_and_unstack
- picklable, a pytree in JAX and PyTorch                   test_pickling, test_parts_are_a_pytree_in_jax, test_parts_are_a_pytree_in_torch
- counts are integers                                      test_counts_are_integers
- differentiable, and so is finish                         test_finish_of_parts_differentiates_in_torch, ..._in_jax
- the true gradient of a rank: parts + (total - parts).detach()  test_the_gradient_of_one_process
- normalizer belongs to finish, reduction="none" has no parts  test_errors_of_parts, test_normalizer_of_finish
- a per-sample loss has parts (sum w*l, sum w); axis 0 is summed  test_parts_of_what_reduce_axes_leaves
"""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from drawn import FIRST, Case
from helpers import assert_close, several
from numpy.testing import assert_array_equal

from arrayloss import Parts, sigmoid_cross_entropy, softmax_cross_entropy, squared_error

every_case = pytest.mark.parametrize("case", FIRST, ids=str)
BATCHES = [slice(0, 3), slice(3, 4), slice(4, 4), slice(4, 9)]


@every_case
def test_parts_of_batches_add_exactly(case: Case, xp: Backend) -> None:
    """A batch of nothing among them, and one in which nothing counts."""
    predictions, targets = case.draw(samples=9)
    weights = np.linspace(0.5, 2.0, 9)[:, None]
    where = np.array([1, 1, 0, 0, 1, 0, 1, 1, 1], dtype=bool)[:, None]

    def of(s: slice) -> tuple[list[Any], dict[str, Any]]:
        options = {"weights": xp.array(weights[s]), "where": xp.array(where[s]), **case.options}
        return [*(xp.array(p[s]) for p in predictions), xp.array(targets[s])], options

    arrays, options = of(slice(None))
    together = sum(case.loss.parts(*a, **o) for a, o in map(of, BATCHES))
    assert isinstance(together, Parts)
    whole = case.loss.parts(*arrays, **options)
    for a, b in zip(together.arrays, whole.arrays, strict=True):
        assert a.shape == ()
        assert_close(xp.numpy(a), xp.numpy(b), ulps=8)
    assert_close(xp.numpy(case.loss.finish(together)), xp.numpy(case.loss(*arrays, **options)), ulps=8)
    summed = case.loss(*arrays, reduction="sum", **options)
    assert_close(xp.numpy(case.loss.finish(together, reduction="sum")), xp.numpy(summed), ulps=8)


def test_parts_of_labels_with_class_weights_and_ignored_ones(xp: Backend) -> None:
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(6, 3)), np.array([0, -100, 2, 1, -100, 2])
    options: dict[str, Any] = {"class_weights": (1.0, 4.0, 0.5), "ignore_index": -100, "weights": 2.0}
    first = softmax_cross_entropy.parts(xp.array(x[:2]), xp.array(t[:2]), **options)
    rest = softmax_cross_entropy.parts(xp.array(x[2:]), xp.array(t[2:]), **options)
    assert_close(xp.numpy((first + rest).weight), 2 * (1 + 0.5 + 4 + 0.5))
    assert int(xp.numpy((first + rest).count)) == 4
    expected = softmax_cross_entropy(x, t, **options)
    assert_close(xp.numpy(softmax_cross_entropy.finish(first + rest)), expected)


def test_parts_of_float32_are_as_exact_as_float64() -> None:
    """A float32 sum of 2**24 ones, and of one more in the next batch, stands still."""
    ones, zeros = np.ones(2**20, dtype=np.float32), np.zeros(2**20, dtype=np.float32)
    batch = squared_error.parts(ones, zeros)
    many = sum(batch for _ in range(17)) + squared_error.parts(ones[:1], zeros[:1])
    assert float(many.total) == float(many.weight) == int(many.count) == 17 * 2**20 + 1


def test_parts_are_no_tuple() -> None:
    parts = squared_error.parts(np.array([1.0, 2.0]), np.zeros(2))
    assert not isinstance(parts, tuple | list)
    assert parts.names == ("total", "weight", "count")
    assert (parts + parts).total == 10
    assert (parts - parts).total == 0
    assert sum([parts, parts, parts]).count == 6
    assert parts.map(lambda a: a * 2).weight == 4
    assert repr(parts).startswith("Parts(total=")
    with pytest.raises(AttributeError, match="these parts are total, weight, count; there is no 'mean'"):
        _ = parts.mean
    with pytest.raises(AttributeError, match="parts do not change"):
        parts.total = 0
    with pytest.raises(TypeError):
        _ = parts + 1
    with pytest.raises(TypeError):
        _ = 1 + parts
    with pytest.raises(ValueError, match="parts of different losses do not add: total, weight, count and hits"):
        _ = parts + Parts(("hits",), (np.array(1.0),))


def test_stack_and_unstack(xp: Backend) -> None:
    """One 1-D array for one all-reduce."""
    x, t = xp.array(np.arange(12.0).reshape(3, 4)), xp.array(np.zeros((3, 4)))
    for axes, size in ((None, 3), ((0,), 12)):
        parts = squared_error.parts(x, t, reduce_axes=axes)
        vector = parts.stack()
        assert tuple(vector.shape) == (size,)
        back = parts.unstack(vector * 2)
        assert [a.dtype for a in back.arrays] == [a.dtype for a in parts.arrays]
        for a, b in zip(back.arrays, parts.arrays, strict=True):
            assert_array_equal(xp.numpy(a), 2 * xp.numpy(b))
        if xp.library not in ("numpy", "dask"):
            assert vector.device == x.device


def test_pickling(xp: Backend) -> None:
    parts = squared_error.parts(xp.array(np.array([1.0, 2.0])), xp.array(np.zeros(2)))
    if xp.library == "array_api_strict":
        pytest.skip("array-api-strict arrays do not pickle")
    back = pickle.loads(pickle.dumps(parts))
    assert back.names == parts.names
    for a, b in zip(back.arrays, parts.arrays, strict=True):
        assert_array_equal(xp.numpy(a), xp.numpy(b))


def test_counts_are_integers(xp: Backend) -> None:
    x, t = xp.array(np.array([1.0, 2.0])), xp.array(np.zeros(2))
    where = xp.array(np.array([True, False]))
    for options, count in (({}, 2), ({"where": where}, 1), ({"weights": 0.5}, 2), ({"where": where, "weights": where}, 1)):
        parts = squared_error.parts(x, t, **options)
        assert "int" in str(parts.count.dtype)
        assert int(xp.numpy(parts.count)) == count


def test_normalizer_of_finish(xp: Backend) -> None:
    x, t = xp.array(np.array([3.0, 5.0])), xp.array(np.zeros(2))
    parts = squared_error.parts(x, t, weights=xp.array(np.array([0.5, 2.0])))
    total = 0.5 * 9 + 2 * 25
    for normalizer, denominator in (("weights", 2.5), ("count", 2.0), (8, 8.0), (xp.array(np.array(4.0)), 4.0)):
        assert_close(xp.numpy(squared_error.finish(parts, normalizer=normalizer)), total / denominator)
    assert_close(xp.numpy(squared_error.bind(normalizer="count").finish(parts)), total / 2)
    assert_close(xp.numpy(squared_error.bind(reduction="sum").finish(parts)), total)
    nothing = squared_error.parts(x, t, where=False)
    assert xp.numpy(squared_error.finish(nothing)) == 0


def test_parts_of_what_reduce_axes_leaves(xp: Backend) -> None:
    x, t = xp.array(np.arange(12.0).reshape(3, 4)), xp.array(np.zeros((3, 4)))
    parts = squared_error.parts(x, t, reduce_axes=0)
    assert parts.total.shape == parts.count.shape == (4,)
    assert_close(xp.numpy(squared_error.finish(parts)), (np.arange(12.0).reshape(3, 4) ** 2).mean(0))
    with pytest.raises(ValueError, match=r"reduce_axes must contain axis 0 for parts, since batches are added; got \(1,\)"):
        squared_error.parts(x, t, reduce_axes=1)


def test_errors_of_parts() -> None:
    x = np.zeros(3)
    parts = squared_error.parts(x, x)
    for call, message in (
        (lambda: squared_error.parts(x, x, reduction="none"), "reduction must be 'mean' or 'sum' for parts; got 'none'"),
        (lambda: squared_error.parts(x, x, normalizer="count"), "normalizer belongs to finish, not to parts; got 'count'"),
        (lambda: squared_error.parts(x, x, normalizer=np.array(2.0)), "normalizer belongs to finish, not to parts; got array(2.)"),
        (lambda: squared_error.finish(parts, reduction="none"), "reduction must be 'mean' or 'sum' to finish parts; got 'none'"),
        (lambda: squared_error.finish(parts, normalizer="n"), "normalizer must be 'weights', 'count', a number or a 0-d array; got 'n'"),
        (lambda: squared_error.finish(parts, normalizer=0), "normalizer must not be 0; got 0"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


# -- differentiable -------------------------------------------------------------------------------------------------------


@every_case
def test_finish_of_parts_differentiates_in_torch(case: Case) -> None:
    torch = pytest.importorskip("torch")
    xp = Backend("torch", "torch")
    predictions, targets = case.draw(samples=4)
    arrays = [xp.array(p).requires_grad_() for p in predictions]
    halves = [[a[s] for a in (*arrays, xp.array(targets))] for s in (slice(0, 1), slice(1, 4))]
    loss = case.loss.finish(sum(case.loss.parts(*half, **case.options) for half in halves))
    got = torch.autograd.grad(loss, arrays)
    expected = torch.autograd.grad(case.loss(*arrays, xp.array(targets), **case.options), arrays)
    for g, e in zip(got, expected, strict=True):
        assert_close(xp.numpy(g), xp.numpy(e), ulps=8)


@every_case
def test_finish_of_parts_differentiates_in_jax(case: Case) -> None:
    jax = pytest.importorskip("jax")
    xp = Backend("jax", "jax")
    with jax.enable_x64(True):
        predictions, targets = case.draw(samples=4)
        arrays, t = tuple(map(xp.array, predictions)), xp.array(targets)

        def in_halves(arrays: Any) -> Any:
            halves = [[a[s] for a in (*arrays, t)] for s in (slice(0, 1), slice(1, 4))]
            return case.loss.finish(sum(case.loss.parts(*half, **case.options) for half in halves))

        got = jax.jit(jax.grad(in_halves))(arrays)
        _, expected = case.loss.value_and_grad(*predictions, targets, **case.options)
        for g, e in zip(got, several(expected), strict=True):
            assert_close(xp.numpy(g), e)


def test_the_gradient_of_one_process() -> None:
    """`parts + (total - parts).detach()` has the value of all processes and the gradient of this one's predictions."""
    torch = pytest.importorskip("torch")
    x, t = torch.tensor([0.5, -1.0, 2.0, 0.1], dtype=torch.float64), torch.tensor([1, 0, 0, 1])
    whole = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(sigmoid_cross_entropy(whole, t), whole)
    mine = x[:1].clone().requires_grad_()
    parts = sigmoid_cross_entropy.parts(mine, t[:1])
    total = parts + sigmoid_cross_entropy.parts(x[1:], t[1:])
    loss = sigmoid_cross_entropy.finish(parts + (total - parts).map(lambda a: a.detach()))
    torch.testing.assert_close(loss.detach(), sigmoid_cross_entropy(x, t))
    (gradient,) = torch.autograd.grad(loss, mine)
    torch.testing.assert_close(gradient, expected[:1])


def test_parts_are_a_pytree_in_jax() -> None:
    jax = pytest.importorskip("jax")
    x, t = jax.numpy.asarray([1.0, 2.0]), jax.numpy.zeros(2)
    parts = jax.jit(squared_error.parts)(x, t)
    assert isinstance(parts, Parts)
    doubled = jax.tree_util.tree_map(lambda a: a * 2, parts)
    assert (float(doubled.total), int(doubled.count)) == (10.0, 4)
    assert len(jax.tree_util.tree_leaves(parts)) == 3
    summed = jax.vmap(squared_error.parts, in_axes=(0, 0))(x[:, None], t[:, None])
    assert summed.total.shape == (2,)


def test_parts_are_a_pytree_in_torch() -> None:
    torch = pytest.importorskip("torch")
    pytree = torch.utils._pytree
    parts = squared_error.parts(torch.tensor([1.0, 2.0]), torch.zeros(2))
    doubled = pytree.tree_map(lambda a: a * 2, parts)
    assert isinstance(doubled, Parts)
    assert (float(doubled.total), int(doubled.count)) == (10.0, 4)
    rows = torch.func.vmap(squared_error.parts)(torch.ones(3, 2), torch.zeros(3, 2))
    assert rows.total.shape == (3,)
