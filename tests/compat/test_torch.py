"""`arrayloss.compat.torch` beside the installed PyTorch: value and gradient on tensors, NumPy arrays and JAX arrays; signatures, errors."""

from __future__ import annotations

import inspect
import warnings
from itertools import product
from typing import Any

import numpy as np
import pytest

from arrayloss.compat import torch as compat

from ..helpers import WHOLE_GRAPHS, is_release

torch = pytest.importorskip("torch", minversion="2.13")  # older ones lack arguments and losses
F = torch.nn.functional
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(6, 4)) * 2, rng.normal(size=(6, 4))
LABELS = np.array([0, 3, -100, 1, 1, 2])
SOFT = rng.dirichlet(np.ones(4), size=6)
UNIT = rng.uniform(0.05, 0.95, size=(6, 4))
SIGNS, ROW_SIGNS = np.where(rng.uniform(size=(6, 4)) < 0.5, 1.0, -1.0), np.array([1, -1, 1, -1, -1, 1])
WEIGHT, CLASSES = rng.uniform(0.5, 2.0, size=(6, 4)), rng.uniform(0.5, 2.0, size=4)
LOGS = np.log(rng.dirichlet(np.ones(4), size=(7, 3)))  # frames, sequences, classes
LISTS = np.array([[0, 2, -1, 1], [3, -1, -1, -1], [-1, 0, 1, 2], [0, 1, 2, -1], [2, -1, 0, 0], [1, 3, -1, -1]])
FORMS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("l1_loss", (X, Y), {}),
    ("l1_loss", (X, Y), {"weight": WEIGHT}),
    ("mse_loss", (X, Y), {"weight": WEIGHT}),
    ("mse_loss", (X, Y[:1]), {}),
    ("huber_loss", (X, Y), {"delta": 0.5}),
    ("huber_loss", (X, Y), {"weight": WEIGHT}),
    ("smooth_l1_loss", (X, Y), {"beta": 0.5}),
    ("smooth_l1_loss", (X, Y), {"beta": 0.0}),
    ("poisson_nll_loss", (X, UNIT * 5), {"full": True}),
    ("poisson_nll_loss", (UNIT, UNIT * 5), {"log_input": False, "eps": 0.01}),
    ("gaussian_nll_loss", (X, Y, UNIT), {"full": True, "eps": 0.3}),
    ("gaussian_nll_loss", (X, Y, UNIT[:, 0]), {}),
    ("gaussian_nll_loss", (X, Y[:1], UNIT[:, :1]), {}),
    ("cross_entropy", (X, LABELS), {}),
    ("cross_entropy", (X, LABELS), {"weight": CLASSES, "label_smoothing": 0.1}),
    ("cross_entropy", (X, SOFT), {"weight": CLASSES, "label_smoothing": 0.1}),
    ("cross_entropy", (X.reshape(2, 3, 4), np.array([[0, 1, 2, 2], [1, 0, 0, 2]])), {"ignore_index": 2}),
    ("cross_entropy", (X[0], np.array(2)), {}),
    ("kl_div", (np.log(UNIT), SOFT * (UNIT > 0.3)), {}),
    ("kl_div", (np.log(UNIT), np.log(SOFT)), {"log_target": True}),
    ("nll_loss", (np.log(SOFT), LABELS), {"weight": CLASSES}),
    ("binary_cross_entropy", (UNIT, SOFT), {}),
    ("binary_cross_entropy", (UNIT, SOFT), {"weight": CLASSES}),
    ("binary_cross_entropy_with_logits", (X, SOFT), {"weight": WEIGHT[:, :1], "pos_weight": CLASSES}),
    ("binary_cross_entropy_with_logits", (X, SOFT), {"pos_weight": WEIGHT}),
    ("linear_cross_entropy", (X, Y[:5], np.array([4, 0, 1, -100, 2, 2])), {"weight": WEIGHT[:5, 0], "linear_bias": UNIT[:5, 0]}),
    ("linear_cross_entropy", (X, Y[:4], SOFT), {"label_smoothing": 0.1, "weight": CLASSES}),
    ("multi_margin_loss", (X, np.abs(LABELS) % 4), {"p": 2, "margin": 0.7, "weight": CLASSES}),
    ("multilabel_margin_loss", (X, LISTS), {}),
    ("multilabel_soft_margin_loss", (X, SOFT), {"weight": CLASSES}),
    ("multilabel_soft_margin_loss", (X, SOFT), {"weight": WEIGHT}),
    ("soft_margin_loss", (X, SIGNS), {}),
    ("hinge_embedding_loss", (X, SIGNS), {"margin": 0.7}),
    ("hinge_embedding_loss", (X, np.round(SIGNS * UNIT)), {}),
    ("margin_ranking_loss", (X, Y, SIGNS), {"margin": 0.7}),
    ("margin_ranking_loss", (X, Y[:1], np.sign(X).astype(int)), {}),
    ("cosine_embedding_loss", (X, Y, ROW_SIGNS), {"margin": 0.1}),
    ("cosine_embedding_loss", (X * 1e-3, Y[:1] * 1e-3, ROW_SIGNS), {}),
    ("triplet_margin_loss", (X, Y, WEIGHT), {"p": 3, "swap": True}),
    ("triplet_margin_with_distance_loss", (X, Y, WEIGHT), {"margin": 0.7}),
    ("ctc_loss", (LOGS, np.array([[1, 2], [3, 3], [1, 0]]), [7, 6, 5], (2, 2, 1)), {}),
    ("ctc_loss", (LOGS[:, 0], np.array([1, 2]), np.array(7), np.array(2)), {}),
]


def as_arrays(value: Any, to: Any) -> Any:
    return to(value) if isinstance(value, np.ndarray) else value


def numbers(value: Any) -> Any:
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)


@pytest.mark.filterwarnings("ignore:Using a target size", "ignore:size_average", "ignore:reduction.*divides the total loss")
@pytest.mark.parametrize("library", ["torch", "numpy", pytest.param("jax", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(("name", "arrays", "options"), FORMS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(FORMS)])
def test_value_and_gradients(name: str, arrays: Any, options: Any, library: str) -> None:
    ours, theirs = compat.LOSSES[name], getattr(F, name)
    to = {"torch": torch.from_numpy, "numpy": np.asarray}.get(library) or pytest.importorskip("jax").numpy.asarray
    predictions = {"gaussian_nll_loss": [0, 2]}.get(name, [i for i, n in enumerate(inspect.signature(ours).parameters) if n in PREDICTIONS])
    for reduction in ("mean", "sum", "none", *(["batchmean"] if name == "kl_div" else [])):
        tensors = [as_arrays(a, torch.tensor) for a in arrays]
        leaves = [tensors[i].requires_grad_() for i in predictions]
        expected = theirs(*tensors, **{n: as_arrays(v, torch.tensor) for n, v in options.items()}, reduction=reduction)
        gradients = torch.autograd.grad(expected.sum(), leaves)
        args, own = [as_arrays(a, to) for a in arrays], {n: as_arrays(v, to) for n, v in options.items()} | {"reduction": reduction}
        if library == "torch":
            args = [a.detach().clone() if isinstance(a, torch.Tensor) else a for a in args]
            inputs = [args[i].requires_grad_() for i in predictions]
            for a, b in zip(torch.autograd.grad(ours(*args, **own).sum(), inputs), gradients, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        value, found = ours.value_and_grad(*args, **own)
        np.testing.assert_allclose(numbers(value), numbers(expected), rtol=1e-9, atol=1e-12)
        assert np.shape(numbers(value)) == tuple(expected.shape)
        for a, b in zip(found if isinstance(found, tuple) else (found,), gradients, strict=len(gradients) > 1 and name[:6] != "linear"):
            np.testing.assert_allclose(numbers(a), b, rtol=1e-9, atol=1e-12)


PREDICTIONS = ("input", "input1", "input2", "linear_weight", "anchor", "positive", "negative", "log_probs")


@pytest.mark.skipif(
    not is_release("torch", "2.13"), reason=f"PyTorch 2.13, whose signatures the presets have, is not installed: {torch.__version__} is"
)
def test_every_loss_has_its_signature() -> None:
    losses = {n for n in dir(F) if n.endswith(("_loss", "cross_entropy", "cross_entropy_with_logits")) and not n.startswith("_")}
    assert set(compat.LOSSES) == losses | {"kl_div"}
    assert len(compat.LOSSES) == 22
    for name, loss in compat.LOSSES.items():
        own, theirs = (list(inspect.signature(f).parameters.values()) for f in (loss, getattr(F, name)))
        assert [(p.name, p.kind, p.default) for p in own] == [(p.name, p.kind, p.default) for p in theirs], name


@pytest.mark.parametrize(("average", "reduce"), list(product((None, True, False), repeat=2)))
def test_deprecated_arguments(average: Any, reduce: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = F.mse_loss(torch.tensor(X), torch.tensor(Y), average, reduce)
    np.testing.assert_allclose(compat.mse_loss(X, Y, average, reduce), expected, rtol=1e-12)


def test_wrong_arguments_are_refused_as_there() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'wieght'"):
        compat.cross_entropy(X, LABELS, wieght=None)
    for name, loss in compat.LOSSES.items():
        if name in ("l1_loss", "cross_entropy", "ctc_loss", "triplet_margin_loss"):
            arrays = next(a for n, a, _ in FORMS if n == name)
            with pytest.raises(ValueError, match="avg is not a valid value for reduction"):
                loss(*arrays, reduction="avg")
    with pytest.raises(TypeError, match="target must be floating point"):
        compat.cross_entropy(X, np.ones((6, 4), int))
    with pytest.raises(ValueError, match="var has negative"):
        compat.gaussian_nll_loss(X, Y, -UNIT)
    with pytest.raises(ValueError, match="margin must be greater than 0"):
        compat.triplet_margin_loss(X, Y, X, margin=0)


def test_methods_and_what_it_prints() -> None:
    loss = compat.huber_loss
    assert repr(loss) == "<torch.nn.functional.huber_loss of PyTorch 2.13: huber_loss(input, target)>"
    a = "<float64 (6, 4)>"
    assert repr(loss.native(X, Y, delta=0.5, weight=WEIGHT)) == f"huber_loss({a}, {a}, delta=0.5, normalizer='count', weights={a})"
    gradient, hessian = loss.grad_and_hess(X, Y[:1])
    assert gradient.shape == hessian.shape == X.shape
    call = compat.binary_cross_entropy.native(UNIT, SOFT, CLASSES)
    total = compat.binary_cross_entropy.parts(UNIT[:2], SOFT[:2], CLASSES) + compat.binary_cross_entropy.parts(UNIT[2:], SOFT[2:], CLASSES)
    np.testing.assert_allclose(call.finish(total), compat.binary_cross_entropy(UNIT, SOFT, CLASSES), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("cross_entropy", (X, LABELS)),
        ("mse_loss", (X, Y[:1])),
        ("gaussian_nll_loss", (X, Y, UNIT)),
        ("cosine_embedding_loss", (X, Y, ROW_SIGNS)),
    ],
)
def test_dask(name: str, arrays: Any) -> None:
    """Chunks of the batch."""
    dask = pytest.importorskip("dask.array")
    loss = compat.LOSSES[name]
    value, gradient = loss.value_and_grad(*[dask.from_array(a, chunks=(3, *a.shape[1:])) for a in arrays])
    expected = loss.value_and_grad(*arrays)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    for a, b in zip(*[g if isinstance(g, tuple) else (g,) for g in (gradient, expected[1])], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of PyTorch's compiler itself
@pytest.mark.parametrize(("name", "arrays"), [("cross_entropy", (X, LABELS)), ("huber_loss", (X, Y)), ("gaussian_nll_loss", (X, Y, UNIT))])
def test_one_graph_of_a_compiler(name: str, arrays: Any) -> None:
    loss, tensors = compat.LOSSES[name], [torch.tensor(a) for a in arrays]
    tensors[0].requires_grad_()
    value = torch.compile(lambda *a: loss(*a), fullgraph=WHOLE_GRAPHS, backend="aot_eager")(*tensors)
    torch.testing.assert_close(value, loss(*tensors))
    value.backward()
    torch.testing.assert_close(tensors[0].grad, torch.autograd.grad(loss(*tensors), tensors[0])[0])
