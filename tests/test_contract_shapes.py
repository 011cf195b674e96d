"""Shapes, axes and layouts.

What holds, and the test that would fail without it:

- an element is one entry of the unreduced loss             test_none_has_the_shape_of_the_elements
- predictions come first, everything after the targets is by name  test_options_are_keyword_only
- any class axis, for labels and distributions              test_any_class_axis
- labels may keep the class axis at size 1                  test_labels_may_keep_the_class_axis
- a single row, a 0-d element                               test_a_single_row_and_a_single_element
- no elements at all                                        test_no_elements
- the same numbers from any memory layout, inputs untouched test_layout_does_not_matter, test_inputs_are_not_changed
- the result lives where the predictions live               test_results_are_arrays_of_the_backend_on_the_device_of_the_predictions
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from drawn import FIRST, Case
from helpers import arguments, assert_close, several
from numpy.testing import assert_array_equal

from arrayloss import cross_entropy, sigmoid_cross_entropy, softmax_cross_entropy
from arrayloss.consistency.overlap_oracles import OVERLAPS
from arrayloss.core.loss import REGISTRY

every_case = pytest.mark.parametrize("case", FIRST, ids=str)
every_row_case = pytest.mark.parametrize("case", [c for c in FIRST if c.oracle.rows], ids=str)


def kind_of(array: Any) -> type:
    """The array type, with NumPy's scalars counted as its 0-d arrays."""
    return np.ndarray if isinstance(array, np.generic) else type(array)


@every_case
def test_none_has_the_shape_of_the_elements(case: Case, xp: Backend) -> None:
    arrays = arguments(case, xp)
    value = case.loss(*arrays, reduction="none", **case.options)
    assert tuple(value.shape) == (tuple(arrays[0].shape[:-1]) if case.oracle.rows else tuple(arrays[0].shape))


@pytest.mark.parametrize("name", REGISTRY)
def test_options_are_keyword_only(name: str) -> None:
    parameters = list(inspect.signature(REGISTRY[name]).parameters.values())
    first = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    assert first[-1] in ("targets", "target_logits")
    own = {"pool_axes"} if name in OVERLAPS else {"reduce_axes", "normalizer"}
    assert {"weights", "where", "reduction", *own} <= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


@every_case
def test_results_are_arrays_of_the_backend_on_the_device_of_the_predictions(case: Case, xp: Backend) -> None:
    arrays = arguments(case, xp)
    value, gradients = case.loss.value_and_grad(*arrays, **case.options)
    assert value.shape == ()
    parts = case.loss.parts(*arrays, **case.options)
    for a in (value, *several(gradients), *parts.arrays, case.loss.finish(parts)):
        assert kind_of(a) is type(arrays[0])
        if xp.library not in ("numpy", "dask"):
            assert a.device == arrays[0].device


@every_case
def test_inputs_are_not_changed(case: Case, xp: Backend) -> None:
    arrays = arguments(case, xp)
    weights = xp.array(np.full((4, 1), 0.5))
    where = xp.array(np.array([[True], [False], [True], [True]]))
    before = [xp.numpy(a).copy() for a in (*arrays, weights, where)]
    case.loss.value_and_grad(*arrays, weights=weights, where=where, **case.options)
    case.loss.value_and_grad(*arrays, reduction="none", **case.options)
    case.loss.parts(*arrays, weights=weights, where=where, **case.options)
    for a, b in zip((*arrays, weights, where), before, strict=True):
        assert_array_equal(xp.numpy(a), b)


def transposed(xp: Backend, values: np.ndarray, dtype: str | None) -> Any:
    """The values with their first axis last in memory."""
    a = xp.array(np.ascontiguousarray(np.moveaxis(values, 0, -1)), dtype)
    return a.permute(-1, *range(a.ndim - 1)) if xp.library == "torch" else namespace(a).permute_dims(a, (a.ndim - 1, *range(a.ndim - 1)))


def namespace(a: Any) -> Any:
    from array_api_compat import array_namespace

    return array_namespace(a)


@every_case
def test_layout_does_not_matter(case: Case, xp: Backend) -> None:
    """Transposed and strided arrays, as predictions, targets and weights."""
    predictions, targets = case.draw(samples=4)
    weights = np.linspace(0.5, 2.0, 4)[:, None] * (np.ones((4, 1)) if case.oracle.rows else np.ones((4, 3)))
    plain = [*(xp.array(p) for p in predictions), xp.array(targets)]
    expected = case.loss.value_and_grad(*plain, weights=xp.array(weights), reduction="none", **case.options)
    turned = [*(transposed(xp, p, None) for p in predictions), transposed(xp, targets, None)]
    strided = [xp.array(np.repeat(a, 2, axis=0))[::2, ...] for a in (*predictions, targets)]
    if xp.library in ("numpy", "torch"):
        assert any(
            a.strides != b.strides if xp.library == "numpy" else a.stride() != b.stride() for a, b in zip(turned, plain, strict=True)
        )
    for arrays in (turned, strided):
        value, gradients = case.loss.value_and_grad(*arrays, weights=transposed(xp, weights, None), reduction="none", **case.options)
        assert_close(xp.numpy(value), xp.numpy(expected[0]), ulps=4)
        for g, e in zip(several(gradients), several(expected[1]), strict=True):
            assert_close(xp.numpy(g), xp.numpy(e), ulps=4)


@every_row_case
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_any_class_axis(case: Case, axis: int, xp: Backend) -> None:
    """Moving the class axis moves nothing else: N x C x H x W is no transposed image."""
    (x,), t = case.draw(samples=2 * 4 * 5)
    x = x.reshape(2, 4, 5, 3)
    t = t.reshape(2, 4, 5) if case.targets == "labels" else t.reshape(2, 4, 5, 3)
    value, gradient = case.loss.value_and_grad(xp.array(x), xp.array(t), axis=-1, reduction="none", **case.options)
    moved = [xp.array(np.moveaxis(x, -1, axis)), xp.array(t if case.targets == "labels" else np.moveaxis(t, -1, axis))]
    value_moved, gradient_moved = case.loss.value_and_grad(*moved, axis=axis, reduction="none", **case.options)
    assert_close(xp.numpy(value_moved), xp.numpy(value), ulps=4)
    assert_close(xp.numpy(gradient_moved), np.moveaxis(xp.numpy(gradient), -1, axis), ulps=4)


@pytest.mark.parametrize("case", [c for c in FIRST if c.targets == "labels"], ids=str)
def test_labels_may_keep_the_class_axis(case: Case, xp: Backend) -> None:
    (x,), t = case.draw(samples=8)
    x, t = np.moveaxis(x.reshape(2, 4, 3), -1, 1), t.reshape(2, 4)
    flat = case.loss(xp.array(x), xp.array(t), axis=1, reduction="none", **case.options)
    kept = case.loss(xp.array(x), xp.array(t[:, None]), axis=1, reduction="none", **case.options)
    assert kept.shape == (2, 4)
    assert_array_equal(xp.numpy(kept), xp.numpy(flat))


@every_case
def test_a_single_row_and_a_single_element(case: Case, xp: Backend) -> None:
    predictions, targets = case.draw(samples=4)
    whole = xp.numpy(case.loss(*map(xp.array, predictions), xp.array(targets), reduction="none", **case.options))
    if case.oracle.rows:
        arrays = [*(xp.array(p[1]) for p in predictions), xp.array(targets[1])]
        expected = whole[1]
    else:
        arrays = [*(xp.array(p[1, 2]) for p in predictions), xp.array(targets[1, 2])]
        expected = whole[1, 2]
    assert arrays[0].ndim == int(case.oracle.rows)
    for reduction in ("none", "mean", "sum"):
        value, gradients = case.loss.value_and_grad(*arrays, reduction=reduction, **case.options)
        assert value.shape == ()
        assert_close(xp.numpy(value), expected, ulps=4)
        assert all(g.shape == arrays[0].shape for g in several(gradients))
    parts = case.loss.parts(*arrays, **case.options)
    assert_close(xp.numpy(case.loss.finish(parts)), expected, ulps=4)


@every_case
def test_no_elements(case: Case, xp: Backend) -> None:
    """n = 0: the mean over nothing is 0 with an empty gradient, so is the sum, and the parts are zeros."""
    predictions, targets = case.draw(samples=4)
    arrays = [*(xp.array(p[:0]) for p in predictions), xp.array(targets[:0])]
    for reduction in ("mean", "sum"):
        value, gradients = case.loss.value_and_grad(*arrays, reduction=reduction, **case.options)
        assert xp.numpy(value) == 0
        assert all(xp.numpy(g).shape == (0, 3) for g in several(gradients))
    assert xp.numpy(case.loss(*arrays, reduction="none", **case.options)).size == 0
    weighted = case.loss(*arrays, weights=xp.array(np.ones((0, 1))), where=xp.array(np.ones((0, 1), dtype=bool)), **case.options)
    assert xp.numpy(weighted) == 0
    assert [float(xp.numpy(a)) for a in case.loss.parts(*arrays, **case.options).arrays] == [0, 0, 0]


def test_the_image_of_a_segmentation_is_not_transposed() -> None:
    """Swapping axes 1 and 3 to bring the classes last turns the image as well; rows and columns stay where they are."""
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(1, 3, 4, 5)), rng.integers(0, 3, size=(1, 4, 5))
    loss = cross_entropy(x, t, axis=1, reduction="none")
    assert loss.shape == (1, 4, 5)
    assert loss[0, 3, 1] == cross_entropy(x[0, :, 3, 1], t[0, 3, 1])


def test_cross_entropy_is_the_name_that_pytorch_gives_it() -> None:
    assert cross_entropy is softmax_cross_entropy


def test_reading_a_label_with_one_of_one_class() -> None:
    """One class only: the loss is 0 and flat, and the label must be 0."""
    value, gradient = softmax_cross_entropy.value_and_grad(np.array([[3.0], [-2.0]]), np.array([0, 0]))
    assert value == 0
    assert_array_equal(gradient, [[0.0], [0.0]])
    with pytest.raises(ValueError, match="labels from 0 to 0; got 1"):
        softmax_cross_entropy(np.array([[3.0], [-2.0]]), np.array([0, 1]))


def test_axis_of_a_sigmoid_loss_names_the_classes_of_its_parameters(xp: Backend) -> None:
    x, t = np.linspace(-2, 2, 12).reshape(2, 3, 2), np.arange(12).reshape(2, 3, 2) % 2
    weights = (1.0, 2.0, 4.0)
    value = sigmoid_cross_entropy(xp.array(x), xp.array(t), pos_weight=weights, axis=1, reduction="none")
    plain = np.log1p(np.exp(np.where(t == 1, -x, x)))
    assert_close(xp.numpy(value), np.where(t == 1, np.array(weights)[None, :, None], 1) * plain)
