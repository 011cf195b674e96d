"""What crashed, or gave what could not be used. Neighbours that were tried are named in each test.

Shown elsewhere:

* checkpoints that are not reentrant: `test_machinery.TestTorch.test_checkpoint`, every kind of operation on every path;
* forward mode with weights that broadcast, and second derivatives with a constant prediction: `test_torch.TestDerivatives`;
* big-endian numbers of any size, on both engines: `test_engine.TestLayouts`;
* results that share memory with inputs or each other: `test_engine.TestResults`;
* CUDA for labels with an axis of size 1: `on_cupy/test_recorder.py`;
* `jax_debug_nans`: `test_jax.test_debug_nans_finds_none_for_finite_inputs`;
* errors that did not name the argument: `test_errors_page.py`, which prints docs/errors.md.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayloss as al

from ..helpers import lacking, needs_whole_graphs, quietly
from .on_a_mesh import CASES, compare

torch = pytest.importorskip("torch")
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
softmax_dice = al.dice_loss.bind(activation="softmax", axis=1)


# -- saved tensors ------------------------------------------------------------------------------------------------------------

SAVING: dict[str, Callable[[Any], Any]] = {
    "ignored labels": lambda x: al.cross_entropy(x, LABELS, ignore_index=1),
    "class weights": lambda x: al.cross_entropy(x, LABELS, class_weights=(1.0, 2.0, 3.0)),
    "normalizer": lambda x: al.cross_entropy(x, LABELS, normalizer=torch.tensor(3.0)),
    "unreduced": lambda x: al.cross_entropy(x, LABELS, reduction="none").sum(),
    "masked": lambda x: al.squared_error(x, 2 * x.detach(), where=x.detach() > 0),
    "two predictions": lambda x: al.gaussian_nll_loss(x, x.exp(), 2 * x.detach(), where=x.detach() > 0),
    "overlap": lambda x: softmax_dice(x, LABELS),
    "classes pooled": lambda x: al.generalized_dice_loss(x, LABELS, activation="softmax", axis=1),
    "combination": lambda x: (softmax_dice + al.cross_entropy)(x, LABELS),
    "parts": lambda x: al.cross_entropy.finish(al.cross_entropy.parts(x, LABELS) + al.cross_entropy.parts(2 * x, LABELS)),
    "array parameter": lambda x: al.sigmoid_focal_loss(x, torch.ones_like(x), gamma=torch.tensor(2.0)),
    "targets with gradient": lambda x: al.squared_error(x, 2 * x),
}


@pytest.mark.parametrize("loss", SAVING.values(), ids=SAVING)
def test_a_saved_tensor_is_unpacked_once(loss: Callable[[Any], Any]) -> None:
    """Twice is an error in a checkpoint, and a second copy from the host in `save_on_cpu`.

    Weighted, masked, pooled, combined, with arrays as options, with two predictions, and differentiated through the targets.
    """
    x, packed, unpacked = torch.randn(6, 3, requires_grad=True), [], []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: unpacked.append(t) or t):
        value = loss(x)
    value.backward()
    assert len(unpacked) == len(packed)


# -- forward mode -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3, 3), (2, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_forward_mode_of_every_family_with_weights_that_broadcast(shape: tuple[int, ...], reduction: str) -> None:
    """An expanded output, to which no tangent could be written: binary losses, rows, overlaps, two predictions."""
    weights, t = torch.rand(shape), torch.rand(2, 3, 3)
    for function in (
        lambda x: al.sigmoid_cross_entropy(x, t, weights=weights, reduction=reduction),
        lambda x: al.cross_entropy(x, LABELS.reshape(2, 3), axis=2, weights=weights[..., 0], reduction=reduction),
        lambda x: al.dice_loss(x, t, activation="sigmoid", axis=1, weights=weights, reduction=reduction),
        lambda x: al.gaussian_nll_loss(x, t + 1, t, weights=weights, reduction=reduction),
    ):
        x = torch.randn(2, 3, 3)
        value, tangent = torch.func.jvp(function, (x,), (torch.ones_like(x),))
        jacobian = torch.autograd.functional.jacobian(function, x)
        torch.testing.assert_close(tangent, jacobian.flatten(value.ndim).sum(-1))


# -- compiled options ---------------------------------------------------------------------------------------------------------

BINARY = (torch.arange(18.0).reshape(6, 3) % 2).requires_grad_(False)
VARYING: dict[str, tuple[Any, Any, list[Any]]] = {
    "ignore_index": (al.cross_entropy, LABELS, [0, 1]),
    "label_smoothing": (al.cross_entropy, LABELS, [0.1, 0.2, 0.3]),
    "normalizer": (al.cross_entropy, LABELS, [2.0, 3.0, 4]),
    "weights": (al.cross_entropy, LABELS, [2.0, 3.0, 4]),
    "gamma": (al.sigmoid_focal_loss, BINARY, [1.0, 2.5, 3]),
    "alpha": (al.sigmoid_focal_loss, BINARY, [0.2, 0.3, 0.4]),
    "delta": (al.huber_loss, BINARY, [1.0, 2.0, 3.0]),
    "smooth": (softmax_dice, LABELS, [1.0, 2.0, 3]),
    "classes": (softmax_dice, LABELS, [0, (1, 2), (0, 2)]),
    "pool_axes": (al.dice_loss.bind(activation="sigmoid", axis=1), BINARY, [0, (0, 1)]),
}
QUICK = ("ignore_index",)


@pytest.fixture
def quiet() -> Iterator[None]:
    torch._dynamo.reset()
    with quietly():
        yield


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.exhaustive) for n in VARYING])
@needs_whole_graphs
def test_a_second_value_of_an_option_compiles(name: str, quiet: None) -> None:
    """The compiler makes a symbol of a number that changes, which has no attributes to ask for. Numbers, integers and tuples."""
    loss, t, values = VARYING[name]
    x = torch.randn(6, 3, requires_grad=True)
    compiled = torch.compile(lambda x, value: loss(x, t, **{name: value}), fullgraph=True, backend="eager")
    for value in values:
        torch.testing.assert_close(compiled(x, value), loss(x, t, **{name: value}))


def _bound(x: Any, y: Any, gamma: float) -> Any:
    return al.cross_entropy.bind(label_smoothing=0.1, ignore_index=2)(x, y) + 0.5 * al.softmax_focal_loss.bind(gamma=gamma)(x, y)


def _of_parts(x: Any, y: Any, gamma: float) -> Any:
    return al.cross_entropy.finish(al.cross_entropy.parts(x, y) + al.cross_entropy.parts(gamma * x, y))


def _metric(x: Any, y: Any, gamma: float) -> Any:
    return al.metrics.dice(al.metrics.confusion(gamma * x, y, activation="softmax", axis=1))


def _both(x: Any, y: Any, gamma: float) -> Any:
    value, gradient = (al.softmax_focal_loss.bind(gamma=gamma) + softmax_dice.bind(smooth=gamma)).value_and_grad(x.detach(), y)
    return value + gradient.sum() + al.cross_entropy.grad_and_hess(x.detach(), y)[1].sum()


@pytest.mark.parametrize("function", [_bound, *[pytest.param(f, marks=pytest.mark.exhaustive) for f in (_of_parts, _metric, _both)]])
@needs_whole_graphs
def test_a_loss_bound_inside_a_compiled_function_takes_any_batch(function: Any, quiet: None) -> None:
    """Sizes and options that vary; beside `bind` parts, metrics, combinations, gradients and curvatures."""
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="eager")
    for n, gamma in ((6, 1.0), (7, 2.5)):
        x, y = torch.randn(n, 3, requires_grad=True), torch.arange(n) % 3
        torch.testing.assert_close(compiled(x, y, gamma), function(x, y, gamma))


@pytest.mark.parametrize(
    "loss", [al.softmax_cross_entropy, *[pytest.param(s, marks=pytest.mark.exhaustive) for s in (al.nll_loss, softmax_dice)]]
)
@needs_whole_graphs
def test_a_batched_gradient_compiles(loss: Any, quiet: None) -> None:
    """`vmap` of `grad` inside `torch.compile`, of labels, of log-probabilities and of overlaps."""
    x, y = torch.randn(3, 6, 3), LABELS.expand(3, 6).contiguous()
    gradients = torch.func.vmap(torch.func.grad(loss))
    torch.testing.assert_close(torch.compile(gradients, backend="eager")(x, y), gradients(x, y))


CERTAIN = torch.tensor([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
ABOUT_ZERO = {
    "generalized": (al.generalized_cross_entropy.bind(given="probs", q=0.5, axis=1), torch.tensor([0, 1, 0])),
    "generalized, q = 1": (al.generalized_cross_entropy.bind(given="probs", q=1, axis=1), torch.tensor([0, 1, 0])),
    "generalized, a tensor": (al.generalized_cross_entropy.bind(given="probs", q=torch.tensor(0.5), axis=1), torch.tensor([0, 1, 0])),
    "binary": (al.binary_cross_entropy, CERTAIN),
    "nll": (al.nll_loss.bind(given="probs", axis=1), CERTAIN),
    "focal": (al.softmax_focal_loss.bind(given="probs", axis=1), CERTAIN),
    "binary focal": (al.sigmoid_focal_loss.bind(given="probs"), CERTAIN),
}


@pytest.mark.parametrize("name", [n if n == "generalized" else pytest.param(n, marks=pytest.mark.exhaustive) for n in ABOUT_ZERO])
@needs_whole_graphs
def test_a_compiled_gradient_transform_at_a_probability_of_zero(name: str, quiet: None) -> None:
    """NaN: dynamo differentiates the value, where the logarithm, or its exponential, is multiplied by 0."""
    loss, t = ABOUT_ZERO[name]
    compiled = torch.compile(torch.func.grad(loss), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(CERTAIN, t), loss.value_and_grad(CERTAIN, t)[1])


# -- exported programs --------------------------------------------------------------------------------------------------------

by_class = al.cross_entropy.bind(axis=1)
EXPORTED = {
    "labels": (by_class, LABELS),
    "ignored": (by_class.bind(ignore_index=-100), LABELS),
    "class weights": (by_class.bind(class_weights=(1.0, 2.0, 3.0)), LABELS),
    "overlap": (softmax_dice, LABELS),
    "of each row": (softmax_dice.bind(pool_axes=(), reduction="none"), LABELS),
    "combination": (by_class + softmax_dice, LABELS),
    "distribution": (by_class, torch.full((6, 3), 1 / 3)),
    "weight of a class": (al.sigmoid_cross_entropy.bind(axis=1, pos_weight=(1.0, 2.0, 3.0)), torch.ones(6, 3)),
}
SOME = ("class weights", "combination")


@pytest.mark.parametrize("name", [n if n in SOME else pytest.param(n, marks=pytest.mark.exhaustive) for n in EXPORTED])
@needs_whole_graphs
def test_an_exported_program_takes_any_batch(name: str, quiet: None) -> None:
    """With a named axis a batch was compared with the number of classes, so that no program was made for one of three samples."""
    loss, t = EXPORTED[name]

    class Model(torch.nn.Module):
        def forward(self, x: Any, t: Any) -> Any:
            return loss(x, t)

    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(Model(), (torch.randn(6, 3), t), dynamic_shapes={"x": {0: batch}, "t": {0: batch}}).module()
    for n in (2, 3, 5):
        x = torch.randn(n, 3)
        torch.testing.assert_close(program(x, t[:n]), loss(x, t[:n]))


@pytest.mark.exhaustive
@needs_whole_graphs
def test_an_exported_program_takes_images_of_any_size(quiet: None) -> None:
    """The height was compared with the number of classes."""

    class Model(torch.nn.Module):
        def forward(self, x: Any, t: Any) -> Any:
            return (by_class + softmax_dice)(x, t)

    n, h, w = (torch.export.Dim(name, min=2) for name in "nhw")
    shapes = {"x": {0: n, 2: h, 3: w}, "t": {0: n, 1: h, 2: w}}
    program = torch.export.export(Model(), (torch.randn(4, 3, 6, 5), torch.ones(4, 6, 5, dtype=torch.long)), dynamic_shapes=shapes).module()
    x, t = torch.randn(7, 3, 3, 4), torch.ones(7, 3, 4, dtype=torch.long)
    torch.testing.assert_close(program(x, t), (by_class + softmax_dice)(x, t))


# -- tensors that lie on several devices --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of process groups without a device
@lacking("torch", "2.6", "DTensor has no strategy for aten.amax")
def test_distributed_tensors_are_computed_at_every_placement(tmp_path: Path) -> None:
    """PyTorch takes no plain tensor beside a DTensor.

    Batches that are split, copies, and classes that are split: labels, masks, weights, class weights, smoothing, overlaps, combinations.
    """
    assert compare(str(tmp_path / "store"), 1, 0) == 3 * len(CASES)


@pytest.mark.exhaustive
def test_distributed_tensors_over_two_processes(tmp_path: Path) -> None:
    """A gather of labels over classes that are split is silently wrong in PyTorch 2.13."""
    program = [sys.executable, "-W", "ignore", "-m", "tests.defects.on_a_mesh", str(tmp_path / "store"), "2"]
    running = [subprocess.Popen([*program, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for rank in range(2)]
    for process in running:
        out, error = process.communicate(timeout=120)
        assert out.split("\n")[-2:] == [f"{3 * len(CASES)} agree", ""], out + error


# -- results of NumPy ---------------------------------------------------------------------------------------------------------

WRITABLE = [
    (al.squared_error, {}),
    (al.sigmoid_focal_loss, {"weights": 2.0}),
    (al.cross_entropy, {"axis": 1}),
    (al.dice_loss, {"activation": "sigmoid", "axis": 1, "pool_axes": ()}),
]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", "<f2"])
@pytest.mark.parametrize("size", [1, 2**11, 2**16 + 1])
@pytest.mark.parametrize(("loss", "options"), WRITABLE)
def test_what_is_returned_can_be_written_and_has_the_byte_order_of_the_machine(loss: Any, options: Any, size: int, dtype: str) -> None:
    """Unreduced losses were read-only views, and big-endian where predictions are. Losses, gradients, curvatures, parts, all families."""
    x = np.linspace(0.1, 0.9, 3 * size).reshape(size, 3).astype(dtype)
    t = np.ones_like(x) / 3
    results = [loss(x, t, reduction="none", **options), *loss.value_and_grad(x, t, reduction="none", **options)]
    results += [*loss.parts(x, t, **options).arrays] if "pool_axes" not in options else []
    results += [*loss.grad_and_hess(x, t, **options)] if loss is not al.dice_loss else []
    for result in results:
        assert result.dtype.isnative
        if isinstance(result, np.ndarray):
            result[...] = 0
    assert (x > 0).all()
    assert (t > 0).all()
