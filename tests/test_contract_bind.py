"""`bind`, and what a loss is as an object.

What holds, and the test that would fail without it:

- the same loss with options fixed                         test_a_bound_loss_is_the_loss_with_its_options
- options given at the call come before bound ones         test_options_of_the_call_come_first
- picklable, hashable, comparable, readable repr           test_bound_losses_pickle_hash_and_compare, test_repr
- NumPy arrays and lists become tuples, scalars numbers    test_host_arrays_become_tuples
- device arrays bind with hash and equality by identity    test_device_arrays_bind_by_identity
- a Loss pickles by its qualified name, its alias too      test_losses_pickle_by_name
- __signature__ shows the options and the array return type  test_signature
- unknown options are errors                               test_unknown_options
- docstrings: domain, gradient, example that runs, reference  test_docstrings
"""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from drawn import CASES, Case
from helpers import arguments, several
from numpy.testing import assert_array_equal

import arrayloss
from arrayloss import cross_entropy, huber_loss, sigmoid_cross_entropy, sigmoid_focal_loss, softmax_cross_entropy, squared_error
from arrayloss.core.loss import REGISTRY

BOUND = [c for c in CASES if c.options]


@pytest.mark.parametrize("case", BOUND, ids=str)
def test_a_bound_loss_is_the_loss_with_its_options(case: Case) -> None:
    arrays = arguments(case, Backend("numpy", "numpy"))
    bound = case.loss.bind(**case.options)
    value, gradients = case.loss.value_and_grad(*arrays, **case.options)
    got, got_gradients = bound.value_and_grad(*arrays)
    assert got == value == bound(*arrays) == bound.finish(bound.parts(*arrays))
    for g, e in zip(several(got_gradients), several(gradients), strict=True):
        assert_array_equal(g, e)


@pytest.mark.parametrize("case", BOUND, ids=str)
def test_bound_losses_pickle_hash_and_compare(case: Case) -> None:
    bound = case.loss.bind(**case.options)
    for other in (case.loss.bind(**case.options), pickle.loads(pickle.dumps(bound)), copy.deepcopy(bound)):
        assert other == bound
        assert hash(other) == hash(bound)
        assert repr(other) == repr(bound)
    assert bound != case.loss
    assert bound != case.loss.bind(**case.options, reduction="sum")
    assert len({bound, case.loss, case.loss.bind(**case.options)}) == 2
    assert bound.options == dict(case.options)


def test_options_of_the_call_come_first() -> None:
    x, t = np.array([2.0, -1.0]), np.array([1, 1])
    bound = sigmoid_focal_loss.bind(gamma=5.0, reduction="sum")
    assert bound(x, t, gamma=1.0) == sigmoid_focal_loss(x, t, gamma=1.0, reduction="sum")
    assert bound.bind(gamma=1.0) == sigmoid_focal_loss.bind(gamma=1.0, reduction="sum")


def test_host_arrays_become_tuples(xp: Backend) -> None:
    """So that a loss bound to NumPy class weights works on every backend."""
    for given in (np.array([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0], (1.0, 2.0, 3.0), np.array([1, 2, 3])):
        bound = softmax_cross_entropy.bind(class_weights=given, label_smoothing=np.float32(0.25))
        assert bound == softmax_cross_entropy.bind(class_weights=(1.0, 2.0, 3.0), label_smoothing=0.25)
        hash(bound)
    assert sigmoid_focal_loss.bind(gamma=np.array(2.0)) == sigmoid_focal_loss.bind(gamma=2.0)
    x, t = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 1, 2, 2])
    np.testing.assert_allclose(xp.numpy(bound(xp.array(x), xp.array(t))), bound(x, t), rtol=1e-12)


def test_arrays_that_are_no_class_parameters_stay_arrays() -> None:
    """A tuple is no weight of elements and no mask."""
    x, t, w, keep = np.array([1.0, 2.0]), np.zeros(2), np.array([1.0, 3.0]), np.array([True, False])
    assert squared_error.bind(weights=w)(x, t) == squared_error(x, t, weights=w)
    assert squared_error.bind(where=keep)(x, t) == 1.0


@pytest.mark.parametrize("library", ["torch", "jax", "array_api_strict"])
def test_device_arrays_bind_by_identity(library: str) -> None:
    pytest.importorskip(library)
    xp = Backend(library, library, device="CPU_DEVICE")
    one, two = xp.array(np.array([1.0, 2.0, 3.0])), xp.array(np.array([1.0, 2.0, 3.0]))
    assert softmax_cross_entropy.bind(class_weights=one) == softmax_cross_entropy.bind(class_weights=one)
    assert softmax_cross_entropy.bind(class_weights=one) != softmax_cross_entropy.bind(class_weights=two)
    assert hash(softmax_cross_entropy.bind(class_weights=one)) == hash(softmax_cross_entropy.bind(class_weights=one))


@pytest.mark.parametrize("name", REGISTRY)
def test_losses_pickle_by_name(name: str) -> None:
    loss = REGISTRY[name]
    assert pickle.loads(pickle.dumps(loss)) is loss
    assert copy.deepcopy(loss) is loss
    assert loss.name == name


def test_the_alias_pickles_too() -> None:
    assert pickle.loads(pickle.dumps(cross_entropy)) is cross_entropy
    assert pickle.loads(pickle.dumps(cross_entropy.bind(axis=1))) == softmax_cross_entropy.bind(axis=1)


def test_repr() -> None:
    assert repr(sigmoid_focal_loss.bind(gamma=1.0, alpha=[0.25, 0.5])) == "sigmoid_focal_loss.bind(gamma=1.0, alpha=(0.25, 0.5))"
    assert repr(squared_error).startswith("<loss squared_error(predictions, targets, *, weights=None, where=None")


def test_signature() -> None:
    bound = inspect.signature(huber_loss.bind(delta=0.5))
    assert bound.parameters["delta"].default == 0.5
    for loss in REGISTRY.values():
        assert inspect.signature(loss).return_annotation == "Array"


def test_unknown_options() -> None:
    with pytest.raises(TypeError, match=r"huber_loss has no option 'gamma'; its options are delta, weights, where"):
        huber_loss.bind(gamma=1)
    with pytest.raises(TypeError, match="huber_loss has no option 'targets'"):
        huber_loss.bind(targets=np.zeros(2))
    with pytest.raises(TypeError, match=r"huber_loss\.bind takes options by name; got 1 positional arguments"):
        huber_loss.bind(1.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'gamma'"):
        huber_loss(np.zeros(2), np.zeros(2), gamma=1)


@pytest.mark.parametrize("name", REGISTRY)
def test_docstrings(name: str) -> None:
    """The examples themselves run as doctests."""
    text = inspect.getdoc(REGISTRY[name]) or ""
    assert text.partition("\n")[0].endswith(".")
    for part in ("Parameters\n---", "Returns\n---", "Gradient", "Examples\n---", ">>> ", "References\n---"):
        assert part in text
    for parameter in inspect.signature(REGISTRY[name]).parameters:
        assert parameter in text


def test_public_names() -> None:
    assert all(hasattr(arrayloss, name) for name in arrayloss.__all__)
    public = {n for n, v in vars(arrayloss).items() if isinstance(v, arrayloss.Loss)}
    assert {arrayloss.__dict__[n].name for n in public} <= set(REGISTRY)
    assert public <= set(arrayloss.__all__)


def test_a_bound_loss_is_static_for_jax() -> None:
    jax: Any = pytest.importorskip("jax")
    step = jax.jit(lambda loss, x, t: loss(x, t), static_argnums=0)
    x, t = jax.numpy.asarray([0.5, -1.0]), jax.numpy.asarray([1, 0])
    assert float(step(sigmoid_cross_entropy.bind(pos_weight=[2.0]), x[:1], t[:1])) == pytest.approx(2 * np.log1p(np.exp(-0.5)), rel=1e-6)


def test_predictions_and_targets_may_be_passed_by_name() -> None:
    x, t = np.array([0.5, -1.0]), np.array([1, 0])
    assert sigmoid_cross_entropy(logits=x, targets=t) == sigmoid_cross_entropy(x, t)
