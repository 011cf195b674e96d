"""What random calls and random command lines have found (`tests/fuzz`)."""

from __future__ import annotations

import re
import sys
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import arrayloss as al
from arrayloss.check import check, commands
from arrayloss.check.points import DOMAINS, POINTS, TARGETS, batches

from ..helpers import needs_whole_graphs, quietly


@pytest.mark.parametrize("orders", [(">", "<"), ("<", ">"), (">", ">")])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_two_predictions_of_two_byte_orders_have_one_dtype(orders, dtype, engine):
    """ "variance must have the dtype of mean, float32; got float32". Tried: value, gradient, Hessian, parts; 0-d, empty."""
    mean, variance = (np.array([1.0, 2.0], order + dtype) for order in orders)
    t = np.zeros(2)
    with al.use_engine(engine):
        value, (of_mean, of_variance) = al.gaussian_nll_loss.value_and_grad(mean, variance, t)
        assert np.isclose(value, np.mean([0.5, 0.5 * np.log(2) + 1]), rtol=1e-3)
        np.testing.assert_allclose(of_mean, [0.5, 0.5], rtol=1e-3)
        assert of_mean.dtype == of_variance.dtype == np.dtype(dtype)
        assert al.gaussian_nll_loss.grad_and_hess(mean, variance, t)[1][0].dtype == np.dtype(dtype)
        assert al.gaussian_nll_loss.finish(al.gaussian_nll_loss.parts(mean, variance, t)) == pytest.approx(float(value))
        assert al.gaussian_nll_loss(mean[0], variance[0], t[0]) == 0.5
        assert al.gaussian_nll_loss(mean[:0], variance[:0], t[:0]) == 0


def test_two_predictions_of_two_dtypes_are_still_refused():
    with pytest.raises(TypeError, match="variance must have the dtype of mean, float32; got float64"):
        al.gaussian_nll_loss(np.ones(2, np.float32), np.ones(2), np.ones(2))


@pytest.mark.exhaustive  # compiles for some seconds
@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_unsigned_labels_of_which_some_are_left_out_compile(dtype):
    """Inductor: "Promotion for uint16, uint32, uint64 types is not supported". Tried: decisions, rows, overlaps."""
    t, where = torch.tensor([1, 0]).to(dtype), torch.tensor([True, False])
    for loss, x in (
        (al.dice_loss.bind(activation="sigmoid", ignore_index=(-100, 0)), torch.tensor([0.9, 0.1])),
        (al.sigmoid_cross_entropy.bind(where=where), torch.tensor([0.9, 0.1])),
        (al.cross_entropy.bind(ignore_index=0), torch.tensor([[0.5, 2.0, 0.0], [1.0, 0.0, 0.0]])),
    ):
        torch.testing.assert_close(torch.compile(lambda x, t, loss=loss: loss(x, t))(x, t), loss(x, t))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_unsigned_labels_differentiate_twice_and_under_transforms(dtype):
    """ "lt_cpu" not implemented for 'UInt16': PyTorch does not order them. Tried: labels, masks, smoothing, ignored labels, overlaps."""
    x = torch.tensor([[0.5, -1.0], [2.0, 0.0], [0.25, 3.0]], dtype=torch.float64)
    labels, masks = torch.tensor([0, 1, 1]), torch.tensor([[0, 1], [1, 0], [1, 1]])
    for loss, t, options in (
        (al.cross_entropy, labels, {}),
        (al.nll_loss, labels, {"label_smoothing": 0.125}),
        (al.cross_entropy, masks, {"ignore_index": 7}),
        (al.sigmoid_focal_loss, masks, {"where": masks == masks}),
        (al.dice_loss, labels, {"activation": "softmax", "axis": 1}),
    ):
        right, of = loss.value_and_grad(x, t, **options)

        def f(z, loss=loss, t=t.to(dtype), options=options):
            return loss(z, t, **options)

        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(f(leaf), leaf, create_graph=True)
        torch.testing.assert_close(gradient.detach(), of)
        torch.testing.assert_close(torch.func.grad(f)(x), of)
        torch.testing.assert_close(torch.func.jvp(f, (x,), (x,)), (right, (of * x).sum()))
    wrong = torch.tensor([0, 200, 1]).to(dtype)
    result = torch.func.vmap(lambda z, t: al.cross_entropy(z, t, reduction="none"))(x[None], wrong[None])
    assert result.isnan().tolist() == [[False, True, False]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("entries", [2**17, 2**17 + 2])
def test_second_derivatives_of_many_16_bit_logits_with_labels(entries, dtype, engine):
    """ufunc 'isfinite' not supported: large tensors of 16 bits are no arrays of NumPy. Tried: both sides of the size, rows too."""
    x = torch.zeros(entries, dtype=dtype)
    with al.use_engine(engine):
        gradient, hessian = al.sigmoid_cross_entropy.grad_and_hess(x, torch.ones(entries, dtype=torch.int64))
        assert (gradient == -0.5).all()
        assert (hessian == 0.25).all()
        gradient, hessian = al.cross_entropy.grad_and_hess(x.reshape(-1, 2), torch.ones(entries // 2, dtype=torch.uint8))
        assert (gradient[:, 0] == 0.5).all()
        assert (hessian == 0.25).all()
        with pytest.raises(ValueError, match="integer targets must be 0 or 1; got 7"):
            al.sigmoid_cross_entropy.grad_and_hess(x, torch.full((entries,), 7))


def test_16_bits_that_overflow_give_no_warning(engine):
    """overflow encountered in cast, of Hessian diagonals. Tried: every method, reduction "none", probabilities, blocks."""
    p, many = np.array([2.0**-12], np.float16), np.full(2**17 + 1, 300.0, np.float16)
    with al.use_engine(engine):
        assert al.binary_cross_entropy.grad_and_hess(p, np.array([1]))[1] == np.inf
        assert al.nll_loss.grad_and_hess(p[:, None], np.array([0]), given="probs")[1] == np.inf
        assert al.gaussian_nll_loss.grad_and_hess(many[:1], p, np.zeros(1))[1][1] == np.inf
        for x in (many[:1], many[0], many):
            assert np.all(al.squared_error(x, 0 * x, reduction="none") == np.inf)
            assert np.all(al.squared_error.value_and_grad(x, 0 * x, weights=1e4, reduction="none")[1] == np.inf)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_an_array_parameter_of_a_distribution_over_several_axes(rows):
    """It kept the dimensions of the predictions, whose classes had become one axis: "cannot reshape array of size 4 into shape (1,1)"."""
    x, t = np.linspace(-2.0, 1.0, 4 * rows).reshape(rows, 2, 2), np.full((rows, 2, 2), 0.25)
    loss = al.softmax_focal_loss.bind(axis=(1, 2))
    value, gradient = loss.value_and_grad(x, t, gamma=1.5)
    for gamma, of in ((torch.tensor(1.5), torch.from_numpy), (jnp.asarray(1.5), jnp.asarray)):
        by_array = loss.value_and_grad(of(x), of(t), gamma=gamma)
        np.testing.assert_allclose(by_array[0], value, rtol=1e-5)
        np.testing.assert_allclose(by_array[1], gradient, rtol=1e-4)


OPTIONS_OF_NUMBERS = {
    "label_smoothing": (al.sigmoid_cross_entropy, {"label_smoothing": np.float32(0.5)}),
    "weights": (al.sigmoid_cross_entropy, {"weights": np.float32(0.5)}),
    "normalizer": (al.sigmoid_cross_entropy, {"normalizer": np.float32(0.5)}),
    "gamma and alpha": (al.sigmoid_focal_loss, {"gamma": np.float32(0.5), "alpha": np.float64(0.25)}),
    "delta": (al.huber_loss, {"delta": np.float64(0.5)}),
    "class_weights": (al.nll_loss.bind(given="probs", axis=1), {"class_weights": (np.float32(0.5), np.float64(2.0))}),
}


@needs_whole_graphs
def test_a_number_of_numpy_in_a_whole_compiled_graph_is_refused_by_the_compiler():
    """It makes a symbol of it, and died of "sympy expression is NaN" where it is compared with infinite bounds."""
    (loss, options), x = OPTIONS_OF_NUMBERS["label_smoothing"], torch.tensor([[0.25, 0.75]])
    torch._dynamo.reset()
    with quietly(), pytest.raises((torch._dynamo.exc.Unsupported, torch._dynamo.exc.UserError), match=r"data-dependent|contextlib"):
        torch.compile(lambda x: loss(x, x, **options), backend="eager", fullgraph=True)(x)


@pytest.mark.exhaustive  # compiles for some seconds
@pytest.mark.parametrize("name", OPTIONS_OF_NUMBERS)
def test_a_number_of_numpy_ends_a_compiled_graph(name):
    (loss, options), x = OPTIONS_OF_NUMBERS[name], torch.tensor([[0.25, 0.75]])
    torch._dynamo.reset()
    with quietly():
        torch.testing.assert_close(torch.compile(lambda x: loss(x, x, **options), backend="eager")(x), loss(x, x, **options))


@pytest.mark.parametrize("x", [-1000.0, -89.0, 3.0])
def test_the_second_derivative_of_nothing_that_was_expected(x):
    """t = 0 beside exp(-x) = inf: the curvature t * exp(-x) was NaN by autodiff twice, where `grad_and_hess` has 0."""
    leaf, t = torch.tensor(x, requires_grad=True), torch.tensor(0.0)
    (slope,) = torch.autograd.grad(al.gamma_nll_loss(leaf, t), leaf, create_graph=True)
    (bend,) = torch.autograd.grad(slope, leaf)
    assert (slope, bend) == (1, 0)
    assert torch.func.hessian(al.gamma_nll_loss)(leaf.detach(), t) == 0
    assert jax.hessian(al.gamma_nll_loss)(jnp.float32(x), jnp.float32(0)) == 0
    by_target = torch.func.grad(al.gamma_nll_loss, 1)(leaf.detach(), t)  # exp(-x), for the target is differentiable too
    assert by_target == (np.exp(-np.float32(x)) if x > 0 else 0)


PORT = """
import sys
{on_import}
def ends(x, t):
    sys.exit(0)
def squared(x, t):
    return (x - t) ** 2
"""
DECLARED = ["--reduction", "none", "--backends", "numpy", "--points", "random", "--signature", "x,t"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder that modules are imported from, and forgotten."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("port_of_a_test", None)


def command(*line):
    """Exit status and all output; an exception of any other kind is raised."""
    done = CliRunner().invoke(commands.arrayloss, list(line))
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize("statement", ["sys.exit(0)", "raise RuntimeError('no [licence]')", "1 +"])
def test_a_module_that_ends_or_fails_on_import_is_no_comparison(project, statement):
    (project / "port_of_a_test.py").write_text(PORT.format(on_import=statement))
    status, text = command("check", "port_of_a_test:squared", "--reference", "squared_error", *DECLARED)
    assert status == 2
    assert "module port_of_a_test cannot be imported" in text


def test_a_port_that_ends_the_process_has_crashed(project):
    (project / "port_of_a_test.py").write_text(PORT.format(on_import=""))
    status, text = command("check", "port_of_a_test:ends", "--reference", "squared_error", *DECLARED)
    assert status == 2
    assert "[exits]" in text
    against = ["--against", "numpy=port_of_a_test:ends", "--domain", "real", "--targets", "real"]
    status, text = command("check", "port_of_a_test:squared", *against, *DECLARED)
    assert status == 1
    assert "They agree" not in text


def test_a_kernel_that_ends_the_process_is_no_agreement():
    def kernel(xp, x, t):
        yield x - t
        sys.exit(0)

    @al.define.loss
    def ending_loss(predictions, targets, **options):
        """Of this test."""
        return al.define.elementwise(kernel, predictions, targets, options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "parse_subjects", lambda subjects: ending_loss)
        status, text = command("check", "m:ending_loss", "--backends", "numpy")
    assert status in (1, 2)
    assert "They agree" not in text


@pytest.mark.parametrize(
    "line",
    [
        ["--max-ulp", "nan"],
        ["squared_error", "--max-ulp", "nan"],
        ["squared_error", "--max-ulp", "inf"],
        ["squared_error", "--max-ulp", "-1"],
        ["squared_error", "--modes", ","],
        ["--backends", ","],
        ["--accuracy", "squared_error", "--dtype", ","],
        ["squared_error", "--report", "missing/page.md"],
    ],
    ids=" ".join,
)
def test_a_command_line_that_compares_nothing_is_refused(line):
    """A limit that nothing exceeds; lists of names without a name, which were taken for the default or compared nothing, with status 0."""
    assert command("check", *line)[0] == 2


def test_no_number_is_within_a_limit_that_is_none():
    with pytest.raises(ValueError, match="max_ulp must be finite; got nan"):
        check("squared_error", backends=["numpy"], max_ulp=float("nan"))


def test_a_picture_that_cannot_be_written_is_a_usage_error():
    assert command("plot", "squared_error", "-o", "missing/a.png")[0] == 2


def the_command(*line):
    return CliRunner().invoke(commands.arrayloss, ["check", "squared_error", "--backends", "numpy", "--modes", "eager", *line])


def test_digits_without_predictions_of_a_domain_are_a_usage_error():
    """KeyError: 'logits'. Tried: every domain, pair of domains, kind of targets and points."""
    done = the_command("--relative-to", "number", "--domain", "logits", "--points", "digits")
    assert done.exit_code == 2
    assert "domain must be among real, exponents, positive for digits with real targets; got 'logits'" in done.output
    done = the_command("--points", "edges+digits")
    assert done.exit_code == 2
    assert "points must be digits alone, which have another shape than others; got 'edges+digits'" in done.output


@pytest.mark.parametrize("points", POINTS)
def test_points_of_every_domain_and_kind_of_targets_are_there_or_refused(points):
    refused = []
    for domain, targets in product(DOMAINS, TARGETS):
        try:
            (problem,) = batches([domain], targets, points, np.random.default_rng(0))
            assert problem.predictions[0].size
        except ValueError as error:
            refused.append(str(error))
    assert all(re.match("domain must be among .* for digits with", line) for line in refused)
    assert bool(refused) == (points == "digits")


LIBRARIES = [np.asarray, torch.tensor, pytest.param(jnp.asarray, marks=pytest.mark.exhaustive)]
OVERLAPS = {"dice_loss": {}, "jaccard_loss": {}, "tversky_loss": {"alpha": 0.25, "beta": 2.0}}


@pytest.mark.parametrize("of", LIBRARIES, ids=["numpy", "torch", "jax"])
@pytest.mark.parametrize("name", OVERLAPS)
def test_an_infinite_loss_without_weight_is_0(name, of, engine):
    """NaN, 0 * inf. Tried: 0-d, reductions, parts, pooled samples, powers, class weights; a NaN stays."""
    logits, masks = np.array([[[-2.5], [3.0]], [[-1.0], [2.0]]], np.float32), np.array([[[0], [1]], [[0], [1]]], np.int8)
    plain = {"activation": "sigmoid", "smooth": 0.0, "log": True, **OVERLAPS[name]}
    loss = getattr(al, name)
    with al.use_engine(engine):
        for reduction in ("mean", "sum", "none"):
            value, gradient = loss.value_and_grad(of(logits[0, 0, 0]), of(masks[0, 0, 0]), absent="skip", reduction=reduction, **plain)
            assert value == gradient == 0
        for left_out, more in product(({"absent": "skip"}, {"class_weights": (0.0, 1.0)}), ({}, {"pool_axes": 2}, {"gamma": 2.0})):
            bound = loss.bind(axis=1, **plain, **more)
            value, gradient = bound.value_and_grad(of(logits), of(masks), **left_out)
            np.testing.assert_allclose(value, bound(of(logits), of(masks), classes=1), rtol=1e-6)
            assert np.isfinite(np.asarray(gradient)).all()
            np.testing.assert_allclose(bound.finish(bound.parts(of(logits), of(masks), **left_out)), value, rtol=1e-6)
            assert not np.isnan(np.asarray(bound(of(logits), of(masks), reduction="none", **left_out))).any()
            assert np.isnan(float(bound(of(logits * np.float32(np.nan)), of(masks), **left_out)))


@pytest.mark.parametrize("of", LIBRARIES, ids=["numpy", "torch", "jax"])
@pytest.mark.parametrize(("dtype", "x"), [("float32", -89.0), ("float32", -100.0), ("float64", -709.5), ("float64", -744.0)])
def test_the_gradient_of_a_tiny_overlap_is_finite(dtype, x, of, engine):
    """NaN: the derivative for a sum of 1e-44 overflows. Tried: all losses, hard and empty targets, powers, class weights."""
    logits = of(np.array([[x, 0.0], [x, 1.0]], dtype))
    with al.use_engine(engine):
        for activation, label, power in product(("sigmoid", "softmax"), (0, 1), ({}, {"log": True, "gamma": 2.0})):
            for left_out in ({}, {"absent": "skip"}, {"class_weights": (0.0, 1.0)}):
                options = {"axis": 1, "activation": activation, "smooth": 0.0, **power, **left_out}
                _, gradient = al.dice_loss.value_and_grad(logits, of(np.array([label, label])), **options)
                assert np.isfinite(np.asarray(gradient)).all()


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(("dtype", "x"), [(torch.float32, -89.0), (torch.float32, -100.0), (torch.float64, -720.0)], ids=str)
def test_autograd_of_a_tiny_overlap_is_finite(dtype, x, create_graph, engine):
    """NaN: a cotangent in float64 became infinite in float32. Tried: second derivatives, compilers, bfloat16."""
    logits = torch.tensor([[x, 0.0], [x, 1.0]], dtype=dtype, requires_grad=True)
    with al.use_engine(engine):
        for activation, label, power in product(("sigmoid", "softmax"), (0, 1), ({}, {"log": True, "gamma": 2.0})):
            value = al.dice_loss(logits, torch.tensor([label, label]), axis=1, activation=activation, smooth=0.0, **power)
            (gradient,) = torch.autograd.grad(value, logits, create_graph=create_graph)
            assert gradient.isfinite().all()
