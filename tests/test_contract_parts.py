"""Parts: the sums behind a loss. That those of batches add and differentiate is held for every case of the machinery."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import arrayloss as al

from .helpers import Backend, assert_close
from .operations import KINDS, LABELS, PREDICTIONS, WEIGHTS, Kind

squares, softmax, focal = al.squared_error, al.softmax_cross_entropy, al.sigmoid_focal_loss
dice = al.dice_loss.bind(activation="softmax", axis=1)
X, ZEROS = np.array([3.0, 5.0]), np.zeros(2)


def test_parts_of_batches_add_on_every_library(kind: Kind, xp: Backend) -> None:
    """A batch of nothing among them, and one in which nothing counts."""
    if kind.is_coupled:
        with pytest.raises(TypeError, match="there are no parts: the losses of one batch depend on each other"):
            kind.loss.parts(*kind.stack)
        return
    arrays, n = [*kind.stack, *kind.targets], kind.samples
    weights, where = kind.per_sample(WEIGHTS), kind.per_sample(np.array([True, True, True, False, True, False]))

    def options_of(batch: slice, xp: Backend) -> dict[str, Any]:
        return {"weights": xp.array(weights[batch]), "where": xp.array(where[batch]), **xp.arrays(kind.options)}

    batches = [slice(0, n // 2), slice(n // 2, n // 2), slice(n // 2, n)]
    total = sum(kind.loss.parts(*[xp.array(a[batch]) for a in arrays], **options_of(batch, xp)) for batch in batches)
    expected = kind.loss(*arrays, weights=weights, where=where, **kind.options)
    assert isinstance(total, al.Parts)
    assert_close(xp.numpy(kind.loss.finish(total)), expected)
    assert_close(xp.numpy(kind.loss.finish(total.unstack(total.stack()))), expected)


def test_parts_of_labels_with_class_weights_and_ignored_ones(xp: Backend) -> None:
    x, t = np.random.default_rng(1).normal(size=(6, 3)), np.array([0, -100, 2, 1, -100, 2])
    options: dict[str, Any] = {"class_weights": (1.0, 4.0, 0.5), "ignore_index": -100, "weights": 2.0}
    both = [softmax.parts(xp.array(x[batch]), xp.array(t[batch]), **options) for batch in (slice(0, 2), slice(2, 6))]
    assert_close(xp.numpy(sum(both).weight), 2 * (1 + 0.5 + 4 + 0.5))
    assert int(xp.numpy(sum(both).count)) == 4
    assert_close(xp.numpy(softmax.finish(sum(both))), softmax(x, t, **options))


def test_parts_are_no_tuple() -> None:
    """Whose + concatenates."""
    parts = squares.parts(np.array([1.0, 2.0]), ZEROS)
    assert not isinstance(parts, tuple | list)
    assert parts.names == ("total", "weight", "count")
    assert (parts + parts).total == 10
    assert (parts - parts).total == 0
    assert sum([parts, parts, parts]).count == 6
    assert parts.map(lambda a: a * 2).weight == 4
    assert repr(parts).startswith("Parts(total=")
    with pytest.raises(AttributeError, match="mean"):
        _ = parts.mean
    with pytest.raises(AttributeError):
        parts.total = 0
    for add in (lambda: parts + 1, lambda: 1 + parts):
        with pytest.raises(TypeError):
            add()


@pytest.mark.everywhere
def test_stack_and_unstack(xp: Backend) -> None:
    """One 1-D array for one all-reduce, with two entries for a count."""
    x, t = xp.array(np.arange(12.0).reshape(3, 4)), xp.array(np.zeros((3, 4)))
    for axes, size in ((None, 4), ((0,), 16)):
        parts = squares.parts(x, t, reduce_axes=axes)
        vector = parts.stack()
        assert tuple(vector.shape) == (size,)
        back = parts.unstack(vector * 2)
        assert [a.dtype for a in back.arrays] == [a.dtype for a in parts.arrays]
        for a, b in zip(back.arrays, parts.arrays, strict=True):
            assert_array_equal(xp.numpy(a), 2 * xp.numpy(b))
        if xp.name not in ("numpy", "dask"):
            assert vector.device == x.device


@pytest.mark.everywhere
def test_counts_are_integers(xp: Backend) -> None:
    x, t, where = xp.array(X), xp.array(ZEROS), xp.array(np.array([True, False]))
    for options, count in (({}, 2), ({"where": where}, 1), ({"weights": 0.5}, 2), ({"where": where, "weights": where}, 1)):
        parts = squares.parts(x, t, **options)
        assert "int" in str(parts.count.dtype)
        assert int(xp.numpy(parts.count)) == count


def test_parts_of_an_overlap_are_its_sums(xp: Backend) -> None:
    p, t = np.array([0.75, 0.5, 0.25, 0.0]), np.array([1, 1, 0, 0])
    parts = al.dice_loss.parts(xp.array(p), xp.array(t), activation=None, smooth=0.0)
    assert parts.names == ("tp", "fp", "fn")
    assert [float(xp.numpy(a)) for a in parts.arrays] == [1.25, 0.25, 0.75]
    assert_close(xp.numpy(al.dice_loss.finish(parts)), 1 - 2.5 / 3.5)


def test_parts_of_overlaps_of_samples_are_means(xp: Backend) -> None:
    """What is left after each sample's formula adds as the mean of elements does."""
    x, t = np.random.default_rng(0).normal(size=(2, 3, 4)), np.random.default_rng(1).integers(0, 3, (2, 4))
    options: dict[str, Any] = {"activation": "softmax", "axis": 1, "pool_axes": (2,), "class_weights": (1.0, 2.0, 3.0)}
    parts = al.dice_loss.parts(xp.array(x), xp.array(t), **options)
    assert parts.names == ("total", "weight", "count")
    assert (int(xp.numpy(parts.count)), float(xp.numpy(parts.weight))) == (6, 12)
    assert_close(xp.numpy(al.dice_loss.finish(parts)), al.dice_loss(x, t, **options))


def test_parts_of_what_reduce_axes_leaves(xp: Backend) -> None:
    x, t = xp.array(np.arange(12.0).reshape(3, 4)), xp.array(np.zeros((3, 4)))
    parts = squares.parts(x, t, reduce_axes=0)
    assert parts.total.shape == parts.count.shape == (4,)
    assert_close(xp.numpy(squares.finish(parts)), (np.arange(12.0).reshape(3, 4) ** 2).mean(0))
    with pytest.raises(ValueError, match=r"reduce_axes must contain axis 0 for parts, since batches are added; got \(1,\)"):
        squares.parts(x, t, reduce_axes=1)


def test_finish_with_another_reduction() -> None:
    parts = squares.parts(X, ZEROS)
    assert squares.finish(parts, reduction="sum") == squares.bind(reduction="sum").finish(parts) == 34
    each = dice.finish(dice.parts(PREDICTIONS, LABELS), reduction="sum")
    assert_close(each, 3 * dice(PREDICTIONS, LABELS))


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        (lambda: squares.parts(X, ZEROS, reduction="none"), ValueError, "reduction must be 'mean' or 'sum' for parts; got 'none'"),
        (lambda: squares.parts(X, ZEROS, normalizer="count"), TypeError, r"pass it to finish, squared_error.finish\(parts, normalizer="),
        (lambda: squares.finish(squares.parts(X, ZEROS), reduction="none"), ValueError, "must be 'mean' or 'sum' to finish parts"),
        (lambda: squares.finish(squares.parts(X, ZEROS), normalizer="n"), ValueError, "normalizer must be 'weights' or 'count'; got 'n'"),
        (lambda: dice.finish(dice.parts(PREDICTIONS, LABELS), normalizer="count"), ValueError, "normalizer is for means over elements"),
        (lambda: squares.finish(sum([])), TypeError, r"parts must be those of squared_error; got int: pass those of a batch"),
        (
            lambda: focal.parts(X, ZEROS, gamma=0.0) + focal.parts(X, ZEROS, gamma=5.0),
            ValueError,
            r"with different options do not add: gamma is 0\.0 and 5\.0",
        ),
        (
            lambda: focal.parts(X, ZEROS, gamma=0.0) + focal.parts(X, ZEROS),
            ValueError,
            r"with different options do not add: gamma is 0\.0 and 2\.0",
        ),
        (
            lambda: squares.parts(X, ZEROS) + focal.parts(X, ZEROS),
            ValueError,
            "do not add: those of squared_error and of sigmoid_focal_loss",
        ),
        (
            lambda: dice.parts(PREDICTIONS, LABELS) + dice.parts(PREDICTIONS, LABELS, smooth=0),
            ValueError,
            "parts of dice_loss with different options do not add: smooth",
        ),
        (lambda: al.jaccard_loss.finish(dice.parts(PREDICTIONS, LABELS)), ValueError, "those of jaccard_loss; got parts of dice_loss"),
        (lambda: dice.finish(softmax.parts(PREDICTIONS, LABELS)), ValueError, "those of dice_loss; got parts of softmax_cross_entropy"),
    ],
)
def test_errors_of_parts(question: Any, error: type[Exception], message: str) -> None:
    """Parts of a Dice and of a Jaccard loss have the same names, and gave a number."""
    with pytest.raises(error, match=message):
        question()


def test_weights_and_defaults_do_not_keep_parts_from_adding() -> None:
    """Every batch has weights of its own."""
    parts = softmax.parts(PREDICTIONS, LABELS, weights=WEIGHTS) + softmax.bind(label_smoothing=0).parts(
        PREDICTIONS, LABELS, where=LABELS > 0
    )
    assert parts.count == 6 + (LABELS > 0).sum()


def test_trees_of_jax() -> None:
    """Parts come out of compiled functions; an array in their finish would be a traced one that leaks."""
    jax = pytest.importorskip("jax")
    loss = softmax.bind(class_weights=(1.0, 2.0, 3.0))
    parts = jax.jit(loss.parts)(jax.numpy.asarray(PREDICTIONS), jax.numpy.asarray(LABELS))
    doubled = jax.tree.map(lambda a: 2 * a, parts)
    assert isinstance(doubled, al.Parts)
    assert_close(loss.finish(doubled), loss(PREDICTIONS, LABELS))
    rows = jax.vmap(softmax.parts)(jax.numpy.asarray(PREDICTIONS), jax.numpy.asarray(LABELS))
    assert rows.total.shape == (6,)
    with pytest.raises(TypeError, match="must be Python numbers for parts; got an array"):
        jax.jit(lambda x, t, s: dice.parts(x, t, smooth=s))(PREDICTIONS, jax.numpy.asarray(LABELS), jax.numpy.asarray(0.5))


def test_trees_of_torch() -> None:
    """They pickle, too."""
    torch = pytest.importorskip("torch")
    parts = softmax.parts(torch.tensor(PREDICTIONS), torch.tensor(LABELS))
    doubled = torch.utils._pytree.tree_map(lambda a: 2 * a, pickle.loads(pickle.dumps(parts)))
    assert isinstance(doubled, al.Parts)
    assert_close(softmax.finish(doubled), softmax(PREDICTIONS, LABELS))
    assert torch.func.vmap(softmax.parts)(torch.tensor(PREDICTIONS), torch.tensor(LABELS)).total.shape == (6,)


def test_the_gradient_of_one_process() -> None:
    """`parts + (total - parts).detach()` has the value of all processes and the gradient of this one's predictions."""
    torch = pytest.importorskip("torch")
    for loss in (softmax, dice):
        whole, labels = torch.tensor(PREDICTIONS, requires_grad=True), torch.tensor(LABELS)
        (expected,) = torch.autograd.grad(loss(whole, labels), whole)
        mine = whole.detach()[:2].clone().requires_grad_()
        parts = loss.parts(mine, labels[:2])
        total = parts + loss.parts(whole.detach()[2:], labels[2:])
        value = loss.finish(parts + (total - parts).map(lambda a: a.detach()))
        assert_close(value.detach(), loss(whole.detach(), labels))
        assert_close(torch.autograd.grad(value, mine)[0], expected[:2])


def test_kinds_with_parts() -> None:
    """All but those whose elements depend on each other."""
    assert [name for name, kind in KINDS.items() if kind.is_coupled] == ["coupled"]
