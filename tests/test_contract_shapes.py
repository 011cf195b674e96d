"""Shapes, axes, memory layouts and devices."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace
from numpy.testing import assert_array_equal

import arrayloss as al

from .helpers import BACKENDS, Backend, assert_close, several
from .operations import MASK, WEIGHTS, Kind

ROWS: list[tuple[Any, dict[str, Any]]] = [(al.softmax_cross_entropy, {}), (al.softmax_cross_entropy, {"class_weights": (1.0, 2.0, 3.0)})]
HOST = pytest.mark.parametrize("library", ["numpy", "torch"])


def arrays_of(kind: Kind, xp: Backend) -> list[Any]:
    """Predictions and targets."""
    return [xp.array(a) for a in (*kind.stack, *kind.targets)]


def kind_of(array: Any) -> type:
    """The array type, with NumPy's scalars counted as its 0-d arrays."""
    return np.ndarray if isinstance(array, np.generic) else type(array)


def test_results_are_arrays_of_the_library_on_the_device_of_the_predictions(kind: Kind, xp: Backend) -> None:
    """A number is a 0-d array; the unreduced loss has the shape of the elements."""
    arrays, options = arrays_of(kind, xp), xp.arrays(kind.options)
    value, gradients = kind.loss.value_and_grad(*arrays, **options)
    results = [value, *several(gradients)]
    if not kind.is_coupled:
        parts = kind.loss.parts(*arrays, **options)
        results += [*parts.arrays, kind.loss.finish(parts)]
    for a in results:
        assert kind_of(a) is type(arrays[0])
        if xp.name not in ("numpy", "dask"):
            assert a.device == arrays[0].device
    assert value.shape == ()
    assert [tuple(g.shape) for g in several(gradients)] == [kind.shape] * kind.predictions
    each = kind.loss(*arrays, **{**options, "reduction": "none"})
    if not kind.is_overlap:
        assert len(each.shape) == len(kind.elements)
        assert each.shape[0] == kind.samples


@HOST
def test_inputs_are_not_changed(kind: Kind, library: str) -> None:
    """Whatever writes in place writes to memory of its own; arrays of NumPy are read-only in all other tests."""
    xp = BACKENDS[library]
    weights, where = kind.per_sample(WEIGHTS), kind.per_sample(MASK)
    sources = [np.array(a) for a in (*kind.stack, *kind.targets, weights, where)]
    inputs = sources if library == "numpy" else [xp.array(a) for a in sources]
    before = [a.copy() for a in sources]
    *arrays, w, m = inputs
    for reduction in ("mean", "sum", "none"):
        value, gradients = kind.loss.value_and_grad(*arrays, weights=w, where=m, **{**xp.arrays(kind.options), "reduction": reduction})
        value += 1  # results belong to the caller
        for g in several(gradients):
            g += 1
    for a, b in zip(inputs, before, strict=True):
        assert_array_equal(xp.numpy(a), b)


def transposed(xp: Backend, values: np.ndarray) -> Any:
    """The values with their first axis last in memory."""
    a = xp.array(np.ascontiguousarray(np.moveaxis(values, 0, -1)))
    return array_namespace(a).permute_dims(a, (a.ndim - 1, *range(a.ndim - 1)))


@HOST
def test_the_layout_of_memory_does_not_matter(kind: Kind, library: str) -> None:
    """Transposed and strided arrays, as predictions and targets."""
    xp = BACKENDS[library]
    plain = [*kind.stack, *kind.targets]
    value, gradients = kind.loss.value_and_grad(*plain, **kind.options)
    turned = [transposed(xp, a) for a in plain]
    strided = [xp.array(np.repeat(a, 2, axis=0))[::2, ...] for a in plain]
    for arrays in (turned, strided):
        got, got_gradients = kind.loss.value_and_grad(*arrays, **xp.arrays(kind.options))
        assert_close(xp.numpy(got), value, ulps=4)
        for g, e in zip(several(got_gradients), several(gradients), strict=True):
            assert_close(xp.numpy(g), e, ulps=4)


def test_no_samples(kind: Kind, xp: Backend) -> None:
    """The mean over nothing is 0 with an empty gradient, so is the sum, and the parts are zeros."""
    if kind.is_coupled:
        return  # a contrast needs others to be a contrast with
    arrays = [xp.array(a[:0]) for a in (*kind.stack, *kind.targets)]
    for reduction in ("mean", "sum"):
        value, gradients = kind.loss.value_and_grad(*arrays, **{**xp.arrays(kind.options), "reduction": reduction})
        assert_array_equal(xp.numpy(value), 0)
        assert all(xp.numpy(g).shape == (0, *kind.shape[1:]) for g in several(gradients))
    parts = kind.loss.parts(*arrays, **xp.arrays(kind.options))
    assert not any(np.any(xp.numpy(a)) for a in parts.arrays)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("loss", "options"), ROWS, ids=["labels", "class weights"])
def test_any_class_axis(loss: Any, options: dict[str, Any], axis: int, xp: Backend) -> None:
    """Moving the class axis moves nothing else: N x C x H x W is no transposed image."""
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(2, 4, 5, 3)), rng.integers(0, 3, (2, 4, 5))
    value, gradient = loss.value_and_grad(x, t, axis=-1, reduction="none", **options)
    moved = [xp.array(np.moveaxis(x, -1, axis)), xp.array(t)]
    value_moved, gradient_moved = loss.value_and_grad(*moved, axis=axis, reduction="none", **options)
    assert_close(xp.numpy(value_moved), value)
    assert_close(xp.numpy(gradient_moved), np.moveaxis(gradient, -1, axis))
    kept = loss(moved[0], xp.array(np.expand_dims(t, axis)), axis=axis, reduction="none", **options)
    assert_array_equal(xp.numpy(kept), xp.numpy(value_moved))


@pytest.mark.everywhere
def test_a_single_row_and_a_single_element(xp: Backend) -> None:
    rng = np.random.default_rng(1)
    x, row, labels = rng.normal(size=(2, 3)), np.array([0.2, 0.5, 0.3]), np.array([2, 0])
    each = al.softmax_cross_entropy(x, labels, reduction="none")
    for reduction in ("none", "mean", "sum"):
        value, gradient = al.softmax_cross_entropy.value_and_grad(xp.array(x[1]), xp.array(labels[1]), reduction=reduction)
        assert_close(xp.numpy(value), each[1])
        assert gradient.shape == (3,)
    assert_close(xp.numpy(al.softmax_cross_entropy(xp.array(x[1]), xp.array(row))), -(row * (x[1] - np.log(np.exp(x[1]).sum()))).sum())
    value, gradient = al.sigmoid_cross_entropy.value_and_grad(xp.array(x[0, 0]), xp.array(np.array(1)))
    assert_close(xp.numpy(value), np.log1p(np.exp(-x[0, 0])))
    assert gradient.shape == ()


def test_the_image_of_a_segmentation_is_not_transposed() -> None:
    """Swapping axes 1 and 3 to bring the classes last turns the image as well; rows and columns stay where they are."""
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(1, 3, 4, 5)), rng.integers(0, 3, size=(1, 4, 5))
    loss = al.cross_entropy(x, t, axis=1, reduction="none")
    assert loss.shape == (1, 4, 5)
    assert_close(loss[0, 3, 1], al.cross_entropy(x[0, :, 3, 1], t[0, 3, 1]))


@pytest.mark.parametrize("dtype", [int, bool, float])
def test_one_channel_and_masks_without_its_axis(dtype: type) -> None:
    """0 was read as class 0: an empty mask counted as a full one."""
    x = np.random.default_rng(1).normal(size=(2, 1, 4, 4))
    mask = (x[:, 0] > 0).astype(dtype)
    loss = al.dice_loss.bind(activation="sigmoid", axis=1)
    assert_close(loss(x, mask), loss(x, mask[:, None]))


def test_shapes_of_unreduced_overlaps(xp: Backend) -> None:
    """One loss for each overlap: of a class, of a sample and class, of a sample, of all."""
    x, t = xp.array(np.zeros((2, 3, 4, 5))), xp.array(np.zeros((2, 4, 5), np.int64))
    loss = al.dice_loss.bind(activation="softmax", axis=1, reduction="none")
    for options, shape in (
        ({}, (3,)),
        ({"pool_axes": (2, 3)}, (2, 3)),
        ({"pool_axes": (2, 3), "classes": (1, 2)}, (2, 2)),
        ({"pool_axes": (1, 2, 3)}, (2,)),
        ({"pool_axes": (0, 1, 2, 3)}, ()),
        ({"classes": 2}, (1,)),
    ):
        assert tuple(loss(x, t, **options).shape) == shape


@pytest.mark.parametrize("loss", [al.softmax_cross_entropy, al.sigmoid_focal_loss, al.huber_loss, al.dice_loss, al.kl_divergence])
def test_options_are_keyword_only(loss: Any) -> None:
    parameters = inspect.signature(loss).parameters.values()
    assert [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY][-1] == "targets"
    assert {"weights", "where", "reduction"} <= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
