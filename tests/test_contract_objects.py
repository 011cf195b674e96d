"""What a loss is as an object: `bind`, names, signatures, docstrings."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import arrayloss as al
from arrayloss.frontend.loss import REGISTRY

from .helpers import BACKENDS, Backend, assert_same
from .operations import DECISIONS, LABELS, PREDICTIONS, Kind

softmax_dice = al.dice_loss.bind(activation="softmax", axis=1)


def test_a_bound_loss_is_the_loss_with_its_options(kind: Kind) -> None:
    """It pickles, hashes, compares and prints."""
    bound, arrays = kind.loss.bind(**kind.options), (*kind.stack, *kind.targets)
    value = kind.loss(*arrays, **kind.options)
    assert bound(*arrays) == bound.value_and_grad(*arrays)[0] == value
    again = kind.loss.bind(**kind.options)
    assert again == bound
    assert hash(again) == hash(bound)
    assert repr(again) == repr(bound)
    assert bound != kind.loss.bind(**{**kind.options, "reduction": "sum"})
    if kind.loss in REGISTRY.values():
        assert pickle.loads(pickle.dumps(bound)) == bound == copy.deepcopy(bound)


@pytest.mark.parametrize("name", REGISTRY)
def test_losses_pickle_by_name(name: str) -> None:
    """And are singletons."""
    loss = REGISTRY[name]
    assert pickle.loads(pickle.dumps(loss)) is loss
    assert copy.deepcopy(loss) is loss
    assert loss.name == name.rpartition(".")[2]
    assert getattr(al, loss.name) is loss


def test_an_alias_is_the_loss() -> None:
    """PyTorch's name for it."""
    assert al.cross_entropy is al.softmax_cross_entropy
    assert pickle.loads(pickle.dumps(al.cross_entropy.bind(axis=1))) == al.softmax_cross_entropy.bind(axis=1)


def test_options_of_the_call_come_first() -> None:
    x, t = np.array([2.0, -1.0]), np.array([1, 1])
    bound = al.sigmoid_focal_loss.bind(gamma=5.0, reduction="sum")
    assert bound(x, t, gamma=1.0) == al.sigmoid_focal_loss(x, t, gamma=1.0, reduction="sum")
    assert bound.bind(gamma=1.0) == al.sigmoid_focal_loss.bind(gamma=1.0, reduction="sum")


@pytest.mark.everywhere
def test_host_arrays_become_tuples(xp: Backend) -> None:
    """So that a loss bound to NumPy class weights works on every library."""
    for given in (np.array([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0], (1.0, 2.0, 3.0), np.array([1, 2, 3])):
        bound = al.softmax_cross_entropy.bind(class_weights=given, label_smoothing=np.float32(0.25))
        assert bound == al.softmax_cross_entropy.bind(class_weights=(1.0, 2.0, 3.0), label_smoothing=0.25)
        hash(bound)
    assert al.sigmoid_focal_loss.bind(gamma=np.array(2.0)) == al.sigmoid_focal_loss.bind(gamma=2.0)
    assert_same(xp.numpy(bound(xp.array(PREDICTIONS), xp.array(LABELS))), bound(PREDICTIONS, LABELS))


def test_arrays_of_elements_stay_arrays() -> None:
    """A tuple is no weight of elements and no mask."""
    x, t, w, keep = np.array([1.0, 2.0]), np.zeros(2), np.array([1.0, 3.0]), np.array([True, False])
    assert al.squared_error.bind(weights=w)(x, t) == al.squared_error(x, t, weights=w)
    assert al.squared_error.bind(where=keep)(x, t) == 1.0


@pytest.mark.parametrize("library", ["torch", "jax", "strict"])
def test_device_arrays_bind_by_identity(library: str) -> None:
    """To compare their entries would wait for a device."""
    one, two = (BACKENDS[library].array(np.array([1.0, 2.0, 3.0])) for _ in range(2))
    bind = al.softmax_cross_entropy.bind
    assert bind(class_weights=one) == bind(class_weights=one)
    assert bind(class_weights=one) != bind(class_weights=two)
    assert len({bind(class_weights=one), bind(class_weights=one), bind(class_weights=two), al.softmax_cross_entropy}) == 3


def test_repr() -> None:
    bound = al.sigmoid_focal_loss.bind(gamma=1.0, alpha=[0.25, 0.5])
    assert repr(bound) == "sigmoid_focal_loss.bind(gamma=1.0, alpha=(0.25, 0.5))"
    assert repr(al.squared_error).startswith("<loss squared_error")


def test_a_missing_second_derivative_names_the_loss(xp: Backend) -> None:
    """It named the kernel, which is a private function: "triplet"."""
    x = xp.array(PREDICTIONS)
    for loss in (al.triplet_margin_loss, 2 * al.triplet_margin_loss.bind(swap=True)):
        with pytest.raises(NotImplementedError, match=r"^no second derivative is defined for triplet_margin_loss$"):
            loss.grad_and_hess(x, x, x)


@pytest.mark.parametrize("loss", REGISTRY.values(), ids=lambda loss: loss.name)
def test_signature_and_docstring(loss: Any) -> None:
    """Shared options are explicit in both. Options stood at the wrong indentation, with ForwardRef as types."""
    signature, text = inspect.signature(loss), inspect.getdoc(loss) or ""
    assert signature.return_annotation == "Array"
    assert "ForwardRef" not in str(signature)
    assert not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in signature.parameters.values())
    assert text.partition("\n")[0].endswith((".", ":"))
    assert "{options}" not in text
    assert ">>> " in text
    for name in signature.parameters:
        assert name in text
    lines = text.split("\n")
    assert lines[lines.index("where : boolean array") + 1].startswith("    True where")


def test_signature_of_a_bound_loss() -> None:
    signature = inspect.signature(al.cross_entropy.bind(axis=1))
    assert signature.parameters["axis"].annotation == int | tuple[int, ...] | None
    assert signature.parameters["axis"].default == 1
    assert signature.parameters["reduction"].default == "mean"


def test_a_bound_loss_is_static_for_jax() -> None:
    jax = pytest.importorskip("jax")
    step = jax.jit(lambda loss, x, t: loss(x, t), static_argnums=0)
    x, t = jax.numpy.asarray([0.5]), jax.numpy.asarray([1])
    assert float(step(al.sigmoid_cross_entropy.bind(pos_weight=[2.0]), x, t)) == pytest.approx(2 * np.log1p(np.exp(-0.5)), rel=1e-6)


def test_predictions_and_targets_may_be_passed_by_name() -> None:
    expected = al.sigmoid_cross_entropy(PREDICTIONS, DECISIONS)
    assert al.sigmoid_cross_entropy(logits=PREDICTIONS, targets=DECISIONS) == expected


def test_values_are_checked_by_bind_without_arrays() -> None:
    """Arrays are checked by the call."""
    al.softmax_cross_entropy.bind(class_weights=(1.0, 2.0), ignore_index=255, reduction="sum")
    with pytest.raises(ValueError, match="one entry for each of the 3 classes"):
        al.softmax_cross_entropy.bind(class_weights=(1.0, 2.0))(PREDICTIONS, LABELS)


def test_properties_follow_bound_options() -> None:
    assert al.huber_loss.properties.convex
    assert al.huber_loss.bind(delta=0.5).properties.lipschitz == 0.5
    assert al.squared_error.properties.lipschitz is None
