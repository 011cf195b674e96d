"""The hardest elements, the steps of padded sequences, the levels of ordinal labels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import arrayloss as al

from .helpers import BACKENDS, Backend

every_backend = pytest.mark.parametrize("xp", [BACKENDS[name] for name in ("numpy", "torch", "strict")], ids=lambda b: b.name)
LOSSES = np.array([[3.0, 1.0, 3.0, 0.5], [2.0, 3.0, 0.0, 0.0]])


@every_backend
def test_the_hardest_are_as_many_as_asked_for_and_the_first_of_equal_ones(xp: Backend) -> None:
    losses = xp.array(LOSSES)
    for options, expected in (
        ({"k": 2}, [[1, 0, 1, 0], [0, 0, 0, 0]]),
        ({"k": 4}, [[1, 0, 1, 0], [1, 1, 0, 0]]),
        ({"k": 0}, [[0, 0, 0, 0], [0, 0, 0, 0]]),
        ({"k": 99}, [[1, 1, 1, 1], [1, 1, 1, 1]]),
        ({"k": 1, "axis": 1}, [[1, 0, 0, 0], [0, 1, 0, 0]]),
        ({"k": 3, "axis": -1}, [[1, 1, 1, 0], [1, 1, 1, 0]]),
        ({"k": 1, "axis": 0}, [[1, 0, 1, 1], [0, 1, 0, 0]]),
        ({"fraction": 0.375}, [[1, 0, 1, 0], [0, 1, 0, 0]]),
        ({"fraction": 0.01}, [[1, 0, 0, 0], [0, 0, 0, 0]]),
        ({"fraction": 0.0}, [[0, 0, 0, 0], [0, 0, 0, 0]]),
        ({"fraction": 1.0}, [[1, 1, 1, 1], [1, 1, 1, 1]]),
        ({"fraction": 0.5, "axis": 1}, [[1, 0, 1, 0], [1, 1, 0, 0]]),
    ):
        mask = xp.numpy(al.hardest(losses, **options))
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, np.array(expected, bool), err_msg=str(options))


def test_large_ties_are_in_order() -> None:
    for a in (np.zeros(1000), torch.zeros(1000), jnp.zeros(1000)):
        np.testing.assert_array_equal(al.hardest(a, k=300), np.arange(1000) < 300)


def test_a_nan_is_chosen_and_nothing_else_is_read() -> None:
    for convert in (np.asarray, torch.from_numpy, jnp.asarray):
        a = convert(np.array([1.0, np.nan, 5.0, -np.inf, np.nan]))
        np.testing.assert_array_equal(al.hardest(a, k=2), [False, True, False, False, True])
    np.testing.assert_array_equal(al.hardest(np.zeros((0, 3)), k=2, axis=1), np.zeros((0, 3), bool))
    np.testing.assert_array_equal(al.hardest(np.array(2.0), k=1), True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves(dtype: torch.dtype) -> None:
    assert al.hardest(torch.tensor([1.0, 3.0, 2.0], dtype=dtype), k=1).tolist() == [False, True, False]


def test_mean_and_gradient_of_the_hardest_are_those_of_top_k() -> None:
    """OHEM, as written with torch.topk: the gradient goes to what was chosen, and nothing goes through the choice."""
    rng = np.random.default_rng(0)
    x, t = torch.tensor(rng.normal(size=(40, 5))), torch.tensor(rng.integers(0, 5, 40))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    value = al.cross_entropy(ours, t, where=al.hardest(al.cross_entropy(ours, t, reduction="none"), fraction=0.25))
    expected = torch.topk(torch.nn.functional.cross_entropy(theirs, t, reduction="none"), 10).values.mean()
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)

    @jax.jit
    @jax.value_and_grad
    def program(x: Any) -> Any:
        y = jnp.asarray(t.numpy())
        return al.cross_entropy(x, y, where=al.hardest(al.cross_entropy(x, y, reduction="none"), k=10))

    value, gradient = program(jnp.asarray(x.numpy()))
    np.testing.assert_allclose(value, expected.item(), rtol=1e-12)
    np.testing.assert_allclose(gradient, theirs.grad, rtol=1e-10, atol=1e-14)


def test_wrong_choices() -> None:
    for options, text in (
        ({}, "k or fraction must be given, and not both; got k=None and fraction=None"),
        ({"k": 1, "fraction": 0.5}, "k or fraction must be given, and not both"),
        ({"k": -1}, "k must be an integer of at least 0; got -1"),
        ({"k": 1.5}, "k must be an integer"),
        ({"k": True}, "k must be an integer"),
        ({"fraction": 1.5}, "fraction must be from 0 to 1"),
        ({"k": 1, "axis": 2}, "axis must be from -2 to 1"),
    ):
        with pytest.raises(ValueError, match=text):
            al.hardest(LOSSES, **options)
    with pytest.raises(TypeError, match="losses must be floating point; got int64"):
        al.hardest(np.array([1, 2]), k=1)


@every_backend
def test_lengths_and_levels(xp: Backend) -> None:
    numbers = np.array([[0, 3], [2, 1]])
    for a in (xp.array(numbers), xp.array(numbers, "uint8")):
        for function in (al.length_mask, al.ordinal_levels):
            result = xp.numpy(function(a, 3))
            assert result.dtype == bool
            np.testing.assert_array_equal(result, [[[0, 0, 0], [1, 1, 1]], [[1, 1, 0], [1, 0, 0]]])
    assert xp.numpy(al.length_mask(xp.array(np.array(2)), 3)).tolist() == [True, True, False]
    assert xp.numpy(al.length_mask(xp.array(np.zeros(2, int)), 0)).shape == (2, 0)


def test_masks_of_lengths_are_those_of_losses() -> None:
    x, t = np.random.default_rng(0).normal(size=(2, 4, 3)), np.array([[0, 1, 2, 0], [2, 1, 0, 0]])
    value = al.cross_entropy(x, t, axis=-1, where=al.length_mask(np.array([4, 1]), 4))
    rows = [*zip(x[0], t[0], strict=True), (x[1, 0], t[1, 0])]
    np.testing.assert_allclose(value, np.mean([np.log(np.sum(np.exp(a))) - a[y] for a, y in rows]), rtol=1e-14)
    levels = al.ordinal_levels(np.array([0, 2]), 2)
    coral = al.sigmoid_cross_entropy(x[0, :2, :2], levels, reduction="none")
    expected = np.log1p(np.exp(np.where(levels, -1, 1) * x[0, :2, :2]))
    np.testing.assert_allclose(coral, expected, rtol=1e-14)
    jitted = jax.jit(lambda a: al.length_mask(a, 4))(jnp.asarray([4, 1]))
    np.testing.assert_array_equal(jitted, al.length_mask(np.array([4, 1]), 4))


def test_wrong_lengths_and_labels() -> None:
    for function, a, size, error, text in (
        (al.length_mask, np.array([1, 5]), 4, ValueError, "lengths must be from 0 to 4; got 5"),
        (al.length_mask, torch.tensor([-1]), 4, ValueError, "lengths must be from 0 to 4; got -1"),
        (al.ordinal_levels, np.array([3]), 2, ValueError, "labels must be from 0 to 2; got 3"),
        (al.ordinal_levels, np.array([0]), 0, ValueError, "size must be an integer of at least 1; got 0"),
        (al.length_mask, np.array([1.0]), 4, TypeError, r"lengths must be integers; got float64: pass lengths.astype\('int64'\)"),
        (al.length_mask, [1, 2], 4, TypeError, "lengths must be an array"),
    ):
        with pytest.raises(error, match=text):
            function(a, size)
