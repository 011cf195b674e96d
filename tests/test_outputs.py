"""`outputs`: one loss of several outputs."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import arrayloss as al
from arrayloss import outputs

from .helpers import Backend, assert_same

RANDOM = np.random.default_rng(0)
both = outputs(energy=0.02 * al.squared_error, forces=al.huber_loss.bind(delta=0.01))
nested = outputs({"boxes": (al.huber_loss, al.cross_entropy), "pair": {"mean": al.gaussian_nll_loss}})
PREDICTIONS = {"energy": RANDOM.normal(size=5), "forces": RANDOM.normal(size=(5, 3))}
TARGETS = {"energy": RANDOM.normal(size=5), "forces": RANDOM.normal(size=(5, 3))}
NESTED = {"boxes": (RANDOM.normal(size=4), RANDOM.normal(size=(6, 3))), "pair": {"mean": (RANDOM.normal(size=3), np.ones(3))}}
NESTED_TARGETS = {"boxes": (RANDOM.normal(size=4), np.array([0, 1, 2, 0, 1, 2])), "pair": {"mean": RANDOM.normal(size=3)}}


def mapped(tree: Any, function: Any) -> Any:
    if isinstance(tree, dict):
        return {name: mapped(value, function) for name, value in tree.items()}
    return tuple([mapped(value, function) for value in tree]) if isinstance(tree, tuple) else function(tree)


def test_the_value_is_the_sum_of_the_terms(xp: Backend) -> None:
    p, t = (mapped(tree, xp.array) for tree in (PREDICTIONS, TARGETS))
    terms = {
        "energy": 0.02 * al.squared_error(PREDICTIONS["energy"], TARGETS["energy"]),
        "forces": 3 * al.huber_loss(PREDICTIONS["forces"], TARGETS["forces"], delta=0.01),
    }
    total, each = both.components(p, t, coefficients={"forces": 3})
    assert_same(xp.numpy(total), sum(terms.values()))
    assert_same(xp.numpy(both(p, t, coefficients={"forces": xp.array(np.array(3.0))})), sum(terms.values()))
    assert list(each) == ["energy", "forces"]
    for name, term in terms.items():
        assert_same(xp.numpy(each[name]), term)


def test_gradients_have_the_structure_of_the_predictions(xp: Backend) -> None:
    p, t = (mapped(tree, xp.array) for tree in (NESTED, NESTED_TARGETS))
    value, gradients = nested.value_and_grad(p, t, coefficients={"boxes": {0: 2.0}, "pair.mean": xp.array(np.array(0.5))})
    huber = al.huber_loss.value_and_grad(NESTED["boxes"][0], NESTED_TARGETS["boxes"][0])
    labels = al.cross_entropy.value_and_grad(NESTED["boxes"][1], NESTED_TARGETS["boxes"][1])
    normal = al.gaussian_nll_loss.value_and_grad(*NESTED["pair"]["mean"], NESTED_TARGETS["pair"]["mean"])
    assert_same(xp.numpy(value), 2 * huber[0] + labels[0] + 0.5 * normal[0])
    assert_same(xp.numpy(gradients["boxes"][0]), 2 * huber[1])
    assert_same(xp.numpy(gradients["boxes"][1]), labels[1])
    for gradient, expected in zip(gradients["pair"]["mean"], normal[1], strict=True):
        assert_same(xp.numpy(gradient), 0.5 * expected)


@pytest.mark.parametrize("loss", [nested, nested.bind(reduction="sum")], ids=["mean", "sum"])
def test_parts_of_batches_finish_to_the_whole(xp: Backend, loss: Any) -> None:
    first, second = (
        (mapped(NESTED, part), mapped(NESTED_TARGETS, part)) for part in (lambda a: xp.array(a[:2]), lambda a: xp.array(a[2:]))
    )
    parts = loss.parts(*first) + loss.parts(*second)
    assert parts.names[0] == "boxes.0_total"
    assert_same(xp.numpy(loss.finish(parts, coefficients={"boxes.1": 2.0})), loss(NESTED, NESTED_TARGETS, coefficients={"boxes.1": 2.0}))


def test_a_term_without_targets_is_left_out_if_asked_for(xp: Backend) -> None:
    loss = outputs(nested.losses, missing="skip")
    p = mapped(NESTED, xp.array)
    some = {"boxes": (mapped(NESTED_TARGETS["boxes"][0], xp.array), None)}
    value, gradients = loss.value_and_grad(p, some)
    assert_same(xp.numpy(value), al.huber_loss(NESTED["boxes"][0], NESTED_TARGETS["boxes"][0]))
    assert_same(xp.numpy(gradients["boxes"][1]), np.zeros((6, 3)))
    assert_same(xp.numpy(gradients["pair"]["mean"][0]), np.zeros(3))
    parts = loss.parts(p, some) + loss.parts(p, mapped(NESTED_TARGETS, xp.array))
    assert_same(xp.numpy(loss.finish(parts)), nested(NESTED, NESTED_TARGETS))
    with pytest.raises(ValueError, match=r"^targets must have every output; got none of 'boxes.1'$"):
        nested(p, some)
    with pytest.raises(ValueError, match=r"^targets must have one of the outputs boxes.0, boxes.1, pair.mean; got none of them$"):
        loss(p, {})


@al.loss
def fourth_power(predictions: Any, targets: Any, **options: Any) -> Any:
    """A loss of somebody's own."""

    def kernel(xp: Any, x: Any, t: Any) -> Any:
        r = x - t
        yield r**4
        yield 4 * r**3

    return al.define.elementwise(kernel, predictions, targets, options)


def test_parts_of_a_loss_of_ones_own_finish() -> None:
    loss = outputs(energy=fourth_power, forces=al.huber_loss)
    assert_same(loss.finish(loss.parts(PREDICTIONS, TARGETS)), loss(PREDICTIONS, TARGETS))


def test_options_go_to_all_terms_or_to_those_that_a_dict_names() -> None:
    where = np.array([True, True, False, True, False])
    for option in ("where", "weights"):
        expected = 0.02 * al.squared_error(PREDICTIONS["energy"], TARGETS["energy"], **{option: where})
        expected += al.huber_loss(PREDICTIONS["forces"], TARGETS["forces"], delta=0.01)
        assert_same(both(PREDICTIONS, TARGETS, **{option: {"energy": where}}), expected)
    both_masked = both(PREDICTIONS, TARGETS, where={"energy": where, "forces": where[:, None]})
    assert_same(both_masked, both({n: a[where] for n, a in PREDICTIONS.items()}, {n: a[where] for n, a in TARGETS.items()}))
    assert nested(NESTED, NESTED_TARGETS, ignore_index=0) == nested.bind(ignore_index={"boxes": {1: 0}})(NESTED, NESTED_TARGETS)


def test_bound_coefficients_multiply() -> None:
    assert both.bind(coefficients={"forces": 3})(PREDICTIONS, TARGETS) == both(PREDICTIONS, TARGETS, coefficients={"forces": 3})
    with pytest.raises(TypeError, match="coefficients must be a number; got ndarray"):
        both.bind(coefficients={"forces": np.array([1.0, 2.0])})


def test_coefficients_are_differentiated() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    p, t = (mapped(tree, torch.from_numpy) for tree in (PREDICTIONS, TARGETS))
    c = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    both(p, t, coefficients={"forces": c}).backward()
    expected = al.huber_loss(PREDICTIONS["forces"], TARGETS["forces"], delta=0.01)
    assert_same(c.grad, expected)
    gradient = jax.jit(jax.grad(lambda c: both(*jax.tree.map(jax.numpy.asarray, (PREDICTIONS, TARGETS)), coefficients={"forces": c})))(
        jax.numpy.asarray(2.0)
    )
    assert_same(gradient, expected)


def test_autograd_and_compilers_pass_through() -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    value, gradients = both.value_and_grad(PREDICTIONS, TARGETS)
    p, t = (mapped(tree, torch.from_numpy) for tree in (PREDICTIONS, TARGETS))
    p = {name: a.clone().requires_grad_() for name, a in p.items()}
    both(p, t).backward()
    results = jax.jit(jax.value_and_grad(lambda p: both(p, TARGETS)))(PREDICTIONS)
    assert_same(results[0], value)
    for name, gradient in gradients.items():
        assert_same(p[name].grad, gradient)
        assert_same(results[1][name], gradient)


def test_outputs_are_values() -> None:
    again = pickle.loads(pickle.dumps(nested))
    assert again == nested
    assert hash(again) == hash(nested)
    assert nested != both
    assert nested.names == ("boxes.0", "boxes.1", "pair.mean")
    assert repr(both) == "outputs({'energy': 0.02 * squared_error, 'forces': huber_loss.bind(delta=0.01)})"
    assert outputs({"a-b": al.huber_loss}, c=al.huber_loss).names == ("a-b", "c")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: outputs(), ValueError, "outputs must be one or more, with names of their own; got none"),
        (lambda: outputs(a=abs), TypeError, "the output 'a' must have a loss; got builtin_function_or_method"),
        (lambda: outputs(a=al.huber_loss, missing="drop"), ValueError, "missing must be 'error' or 'skip'; got 'drop'"),
        (lambda: outputs((al.huber_loss,), a=al.huber_loss), TypeError, "losses by name stand beside a dict of losses only; got a tuple"),
        (lambda: outputs({"a.b": al.huber_loss, "a": {"b": al.huber_loss}}), ValueError, "names of their own; got a.b, a.b"),
        (lambda: both({"energy": np.ones(2)}, TARGETS), ValueError, "predictions must have every output; got none of 'forces'"),
        (lambda: both(PREDICTIONS | {"stress": 1}, TARGETS), ValueError, "for the outputs energy, forces; got one for 'stress'"),
        (lambda: both(PREDICTIONS, np.ones(3)), TypeError, "targets must be a dict of energy, forces; got ndarray"),
        (lambda: nested(NESTED | {"boxes": {}}, NESTED_TARGETS), TypeError, "predictions of 'boxes' must be a tuple of 0, 1; got dict"),
        (
            lambda: both(PREDICTIONS, TARGETS, coefficients={"force": 1}),
            ValueError,
            "coefficients must be for some of .*; got one for 'force'",
        ),
        (lambda: both(PREDICTIONS, TARGETS, coefficients=2), TypeError, "coefficients must be a dict of numbers by output; got int"),
        (
            lambda: both(PREDICTIONS, TARGETS, coefficients={"forces": np.ones(2)}),
            TypeError,
            r"numbers or 0-d arrays; got shape \(2,\)",
        ),
        (lambda: both(PREDICTIONS, TARGETS, delta=1), TypeError, "outputs take coefficients, weights, where, .*; got 'delta': bind it"),
        (
            lambda: both(PREDICTIONS, TARGETS, ignore_index=0),
            TypeError,
            "no loss of these outputs takes 'ignore_index': they are energy, forces",
        ),
        (lambda: both.bind(reduction="none")(PREDICTIONS, TARGETS), ValueError, r"must be one number; got shape \(5,\) of 'energy'"),
        (
            lambda: both.finish(al.huber_loss.parts(np.ones(2), np.ones(2))),
            ValueError,
            r"must be those of squared_error \+ huber_loss; got parts of huber_loss",
        ),
        (lambda: both.finish(3), TypeError, r"parts must be those of squared_error \+ huber_loss; got int: pass those of a batch"),
    ],
)
def test_a_wrong_call_is_an_error_that_names_the_output(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
