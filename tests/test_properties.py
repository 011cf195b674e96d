"""Properties of all registered losses, found through the registry and the oracles."""

from __future__ import annotations

import pytest
from conftest import Backend
from drawn import CASES, Case
from helpers import answers, assert_close, several

from arrayloss.core.loss import REGISTRY

pytestmark = pytest.mark.jitted

NUMBERED = [pytest.param(i, id=str(c)) for i, c in enumerate(CASES)]
# Second derivatives that the library declares undefined, and says so.
NO_CURVATURE = {"softmax_focal_loss": ("distribution", "given"), "sigmoid_focal_loss": ("given",)}


def has_curvature(case: Case) -> bool:
    return not any(why == case.targets or why in case.options for why in NO_CURVATURE.get(case.name, ()))


def test_every_loss_has_an_oracle() -> None:
    from arrayloss.consistency.oracles import ORACLES
    from arrayloss.consistency.overlap_oracles import OVERLAPS

    assert set(REGISTRY) <= set(ORACLES) | set(OVERLAPS)


@pytest.mark.parametrize("number", NUMBERED)
def test_value_gradient_and_hessian_are_those_of_the_definition(number: int, xp: Backend) -> None:
    case = CASES[number]
    predictions, targets, value, grads, hesses = answers(number)
    arrays = [*(xp.array(p) for p in predictions), xp.array(targets)]
    got, gradients = case.loss.value_and_grad(*arrays, reduction="none", **case.options)
    assert_close(xp.numpy(got), value)
    for g, e in zip(several(gradients), grads, strict=True):
        assert_close(xp.numpy(g), e)
    if has_curvature(case):
        g, h = case.loss.grad_and_hess(*arrays, **case.options)
        for a, e in zip(several(g) + several(h), grads + hesses, strict=True):
            assert_close(xp.numpy(a), e)
    else:
        with pytest.raises(NotImplementedError, match="no curvature is defined for"):
            case.loss.grad_and_hess(*arrays, **case.options)
