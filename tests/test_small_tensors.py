"""Small tensors on the CPU, on which NumPy computes: the same bits as its own arrays give, and everything that autograd promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import overlap_cases
import pytest
from drawn import CASES, Case
from helpers import several

import arrayloss

torch = pytest.importorskip("torch")

from arrayloss.adapters import torch_host  # noqa: E402

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_overlap = pytest.mark.parametrize("case", overlap_cases.CASES, ids=str)
ROWS = {"axis": 1, "class_weights": (1.0, 2.0, 0.5)}


def rows(dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return 2 * rng.normal(size=(4, 3, 5)).astype(dtype), rng.integers(0, 3, (4, 5))


def leaf(x: np.ndarray) -> Any:
    return torch.from_numpy(x.copy()).requires_grad_()


@every_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_are_those_of_numpy(case: Case, dtype: str) -> None:
    predictions, targets = case.draw(dtype=dtype)
    value, gradients = case.loss.value_and_grad(*predictions, targets, **case.options)
    leaves = [leaf(p) for p in predictions]
    made = case.loss(*leaves, torch.from_numpy(targets), **case.options)
    assert made.detach().numpy().tobytes() == np.asarray(value).tobytes()
    for g, expected in zip(torch.autograd.grad(made, leaves), several(gradients), strict=True):
        np.testing.assert_allclose(g.numpy(), expected, rtol=2 * np.finfo(dtype).eps)  # several slopes are multiplied in another order


@every_overlap
def test_bits_of_overlaps_are_those_of_numpy(case: overlap_cases.Case) -> None:
    x, t = case.draw()
    value, gradient = case.loss.value_and_grad(x, t, **case.options)
    x = leaf(x)
    made = case.loss(x, torch.from_numpy(t), **case.options)
    assert made.detach().numpy().tobytes() == np.asarray(value).tobytes()
    (g,) = torch.autograd.grad(made.sum(), x)
    np.testing.assert_allclose(g.numpy(), gradient, rtol=1e-14, atol=1e-17)


@pytest.mark.parametrize("limit", [0, 2**13], ids=["by PyTorch", "by NumPy"])
@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (arrayloss.cross_entropy, ROWS),
        (arrayloss.cross_entropy, {**ROWS, "reduce_axes": 0}),
        (arrayloss.dice_loss, {**ROWS, "activation": "softmax"}),
        (arrayloss.dice_loss, {"axis": 1, "activation": "softmax", "pool_axes": 2, "absent": "skip"}),
        (arrayloss.tversky_loss, {"axis": 1, "activation": "sigmoid", "alpha": 0.3, "beta": 0.7}),
    ],
    ids=["weighted mean", "weighted means", "dice", "dice of samples", "tversky of sigmoids"],
)
def test_a_number_that_is_more_than_a_sum(loss: Any, options: dict[str, Any], limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its derivatives for the sums are found with it: scaled, batched, retained and differentiated once more they are the same."""
    monkeypatch.setattr(torch_host, "SMALL", limit)
    x, t = rows()
    x, t = leaf(x), torch.from_numpy(t)
    value = loss(x, t, **options).sum()
    expected = torch.func.grad(lambda x: loss(x, t, **options).sum())(x.detach())
    (first,) = torch.autograd.grad(value, x, retain_graph=True)
    kept = first.clone()
    first.zero_()  # what a caller does with a gradient reaches no later one
    torch.testing.assert_close(kept, expected, rtol=1e-13, atol=1e-16)
    (scaled,) = torch.autograd.grad(3 * value, x, retain_graph=True)
    torch.testing.assert_close(scaled, 3 * kept, rtol=1e-14, atol=0)
    (many,) = torch.autograd.grad(value, x, torch.tensor([1.0, -2.0], dtype=x.dtype), retain_graph=True, is_grads_batched=True)
    torch.testing.assert_close(many, torch.stack([kept, -2 * kept]), rtol=1e-12, atol=1e-16)
    (again,) = torch.autograd.grad(value, x, create_graph=True)
    torch.testing.assert_close(again, kept, rtol=1e-12, atol=1e-16)
    (second,) = torch.autograd.grad(again.square().sum(), x)
    hessian = torch.func.hessian(lambda x: loss(x, t, **options).sum())(x.detach()).reshape(x.numel(), x.numel())
    torch.testing.assert_close(second.flatten(), 2 * hessian @ kept.flatten(), rtol=1e-9, atol=1e-14)
    assert torch.autograd.gradcheck(lambda x: loss(x, t, **options), (x,), check_forward_ad=True)


def test_parameters_that_learn_are_no_numbers() -> None:
    """A smoothing term or a denominator that requires a gradient gets one."""
    x, t = rows()
    x, t = torch.from_numpy(x), torch.from_numpy(t)
    smooth = torch.tensor(1.0, dtype=x.dtype, requires_grad=True)
    for predictions in (x, x.clone().requires_grad_()):
        loss = arrayloss.dice_loss(predictions, t, axis=1, activation="softmax", smooth=smooth)
        (g,) = torch.autograd.grad(loss, smooth)
        assert torch.isfinite(g)
        assert g != 0
        (g,) = torch.autograd.grad(arrayloss.cross_entropy(predictions, t, axis=1, normalizer=smooth), smooth)
        assert g < 0


def test_without_numpy_small_tensors_are_computed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_host, "_numpy", lambda: None)
    x, t = rows("float32")
    for loss, options in ((arrayloss.cross_entropy, ROWS), (arrayloss.dice_loss, {**ROWS, "activation": "softmax"})):
        value, gradient = loss.value_and_grad(x, t, **options)
        tensor = leaf(x)
        made = loss(tensor, torch.from_numpy(t), **options)
        made.backward()
        np.testing.assert_allclose(made.item(), value, rtol=1e-6)
        np.testing.assert_allclose(tensor.grad.numpy(), gradient, rtol=1e-5, atol=1e-8)


def test_tensors_of_every_layout_in_memory() -> None:
    x, t = rows("float32")
    value, gradient = arrayloss.cross_entropy.value_and_grad(x, t, axis=1)
    strided = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, 0, 2))).permute(2, 0, 1).requires_grad_()
    made = arrayloss.cross_entropy(strided, torch.from_numpy(np.ascontiguousarray(t.T)).T, axis=1)
    made.backward()
    np.testing.assert_allclose(made.item(), value, rtol=1e-6)
    np.testing.assert_allclose(strided.grad.numpy(), gradient, rtol=1e-6)
    number = torch.tensor(0.5, requires_grad=True)
    arrayloss.squared_error(number, torch.tensor(2.0)).backward()
    assert number.grad == -3
    negative = torch.tensor([1 + 0.5j, 2 - 1j]).conj().imag  # PyTorch remembers the sign instead of changing it
    assert negative.is_neg()
    assert arrayloss.squared_error(negative, torch.zeros(2)) == 0.625
    spread = torch.tensor([0.5]).expand(4)
    assert arrayloss.squared_error(spread, torch.zeros(1).expand(4)) == 0.25


def test_what_is_returned_belongs_to_the_caller() -> None:
    x, t = (torch.from_numpy(a) for a in rows("float32"))
    before = x.clone()
    for reduction in ("none", "sum"):
        value, gradient = arrayloss.cross_entropy.value_and_grad(x, t, axis=1, reduction=reduction)
        value += 1
        gradient += 1
    for part in arrayloss.cross_entropy.parts(x, t, axis=1).arrays:
        part += 1
    assert torch.equal(x, before)


def test_labels_out_of_range_raise() -> None:
    x, t = rows("float32")
    for wrong in (-1, 3, -100):
        t[1, 1] = wrong
        with pytest.raises(ValueError, match=f"integer targets must be labels from 0 to 2; got {wrong}"):
            arrayloss.cross_entropy(leaf(x), torch.from_numpy(t), axis=1)
