"""The check counts truthfully, whatever is put into it."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from importlib import util
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch

import arrayloss
from arrayloss.check import DisagreementError, check, ulp
from arrayloss.check.definitions import definition_of
from arrayloss.check.points import Problem, batches, digits
from arrayloss.check.reference import Reference
from arrayloss.frontend.loss import REGISTRY


def judge(computed, exact, dtype="float32", max_ulp=8.0, moved=lambda wrong: np.zeros(int(wrong.sum())), **options):
    return ulp.judge(np.asarray(computed, float), ulp.Exact.of(exact), dtype, max_ulp, moved, **options)


# -- ulps ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_spacing_is_that_of_numpy(dtype):
    numbers = np.asarray([1.0, 1.5, 0.999, 1e-4, 3e4, 2.0**-14, 6e-8], dtype=dtype)
    np.testing.assert_array_equal(ulp.spacing(np.abs(numbers.astype(float)), dtype), np.spacing(numbers).astype(float))


def test_errors_of_float64_see_digits_beyond_it():
    with mpmath.workdps(50):
        third = mpmath.mpf(1) / 3
        exact = ulp.Exact(np.array([float(third)]), np.array([float(third - float(third))]), np.array([1 / 3]))
    error = ulp.in_ulps(np.array([1 / 3]), exact, "float64")[0]
    assert error == pytest.approx(1 / 3, rel=1e-12)  # 1/3 is a third of an ulp from the nearest float64


def test_nan_agrees_with_nan_only():
    found = judge([np.nan, np.nan, 1.0, np.inf, np.inf, -np.inf, np.inf], [np.nan, 1.0, np.nan, np.inf, -np.inf, -np.inf, 1.0])
    np.testing.assert_array_equal(found.wrong, [False, True, True, False, True, False, True])


def test_what_rounds_to_infinity_is_infinite():
    assert not judge([np.inf], [1e6], "float16").wrong.any()
    assert judge([np.inf], [65504.0], "float16").wrong.all()
    assert judge([65504.0], [1e6], "float16").wrong.all()


def test_subnormal_flushes_are_counted_apart():
    found = judge([0.0, 0.0, 1e-39, 1e-3, 0.0], [1e-39, 1e-37, 1.1e-39, 1e-39, 1e-30])
    np.testing.assert_array_equal(found.wrong, [False, False, False, True, True])
    assert (found.flushed, found.subnormal) == (2, 3)
    assert found.errors[0] == 0


def test_near_a_zero_a_number_is_judged_by_what_moves_it():
    steps = 2.0**-23
    close, far = judge([3 * steps], [0.0], moved=lambda w: np.ones(1)), judge([30 * steps], [0.0], moved=lambda w: np.ones(1))
    assert not close.wrong.any()
    assert close.conditioned == 1
    assert far.wrong.all()


def test_digits_lost_beside_a_large_number_are_told_from_wrong_numbers():
    lost = judge([1.0, 0.0], [1.0, 1e-9])
    assert lost.wrong.tolist() == [False, True]
    assert lost.lost == 1
    assert not judge([1.0, 0.0], [1.0, 1e-9], relative_to="batch").wrong.any()
    assert judge([1.0, 0.0], [1.0, 1e-3]).lost == 0
    assert judge([1.0, 0.0], [1.0, 1e-3], relative_to="batch").wrong.tolist() == [False, True]


def test_a_result_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"the result has shape \(1,\) where \(2,\) was declared"):
        judge([1.0], [1.0, 2.0])


# -- ours ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gaussian_nll_loss", "nll_loss", "softmax_focal_loss", "dice_loss"])
def test_losses_agree_with_their_definitions(name):
    check(name, backends=["numpy", "torch"], modes=["eager"], points="edges+random").raise_for_failures()


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_loss_agrees_with_its_definition(name):
    report = check(name, backends=["numpy", "torch", "jax"])
    report.raise_for_failures()
    rows = [r for r in report.rows if r.against != "each other" and r.backend != "kernel"]  # that of a loss without a definition
    assert {(r.backend, r.mode) for r in rows} == {
        ("numpy", "eager"),
        *((backend, mode) for backend in ("torch", "jax") for mode in ("eager", "compiled")),
    }


def test_compiled_calls_are_compared_too():
    report = check("huber_loss", backends=["numpy", "jax"], quantities=["value", "grad"], points="random")
    report.raise_for_failures()
    modes = {("numpy", "eager"), ("jax", "eager"), ("jax", "compiled")}
    assert {(r.backend, r.mode) for r in report.rows if r.against != "each other"} == modes


def test_bound_options_are_those_of_the_definition():
    check(arrayloss.huber_loss.bind(delta=0.25), backends=["numpy"]).raise_for_failures()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes(dtype):
    shared = {"modes": ["eager"], "quantities": ["value", "grad"], "points": "random"}
    check("softmax_cross_entropy", backends=["torch", "jax"], targets="labels", dtypes=[dtype], **shared).raise_for_failures()


def test_the_same_seed_gives_the_same_points():
    def points(seed):
        return batches(["real"], "unit", "random", np.random.default_rng(seed))[0].predictions[0]

    np.testing.assert_array_equal(points(3), points(3))
    assert not np.array_equal(points(3), points(4))


@pytest.mark.parametrize(("reduction", "share"), [("none", 1.0), ("sum", 1.0), ("mean", 0.5)])
def test_slopes_are_judged_by_the_terms_that_cancel_under_every_reduction(reduction, share):
    """p - q of a frame, two probabilities near 0.4: an error of 0.4 times 1.5e-7 was 1354 ulp of their difference under a mean."""
    options = {"given": "logits", "time_axis": 1, "batch_axis": 0, "input_lengths": np.array([2, 2]), "target_lengths": np.array([1, 1])}
    batch = Problem("labels", (np.zeros((2, 2, 2)),), np.array([[1], [1]]), None, options, whole=True, samples=True)
    reference = Reference.of_definition(definition_of("ctc_loss", options), "ctc_loss", reduction)
    (exact,), everywhere = reference.exact(batch, "grad"), np.ones((2, 2, 2), bool)
    np.testing.assert_allclose(np.abs(exact.high), share / 6)  # q = 2/3 of the label, since 3 of 4 paths are alignments; p = 1/2
    assert (reference.sensitivity(batch, "grad", 0, exact, everywhere) >= share / 3).all()  # zeros do not move under relative changes


def test_the_digits_are_those_of_scikit_learn():
    (folder,) = util.find_spec("sklearn").submodule_search_locations  # importing it takes seconds
    *pixels, labels = np.loadtxt(Path(folder) / "datasets" / "data" / "digits.csv.gz", delimiter=",", unpack=True)
    np.testing.assert_array_equal(digits()[0], np.transpose(pixels))
    np.testing.assert_array_equal(digits()[1], labels)


# -- theirs ----------------------------------------------------------------------------------------------------------------------


def squared(x, t):
    return (x - t) ** 2


def in_jax(x, t):
    return jnp.square(x - t)


DECLARED = {"signature": "input,target", "reduction": "none", "modes": ["eager"]}
RANDOM = {"domain": "real", "targets": "real", "points": "random"}


def test_a_definition_of_ones_own():
    def definition(x, t):
        return mpmath.fabs(x - t) ** 3

    def cubed(x, t):
        return abs(x - t) ** 3

    shared = {**DECLARED, **RANDOM, "relative_to": "batch", "quantities": ["value", "grad"]}
    check({"torch": cubed, "jax": cubed, "numpy": cubed}, reference=definition, **shared).raise_for_failures()
    assert not check({"torch": squared}, reference=definition, **shared).passed


def test_one_function_for_all_libraries():
    report = check(squared, backends=["numpy", "torch", "jax", "strict"], reference="squared_error", **DECLARED, quantities=["value"])
    report.raise_for_failures()
    assert {"numpy", "torch", "jax", "strict"} <= {r.backend for r in report.rows}


def test_float64_of_a_library_is_a_reference():
    check({"torch": squared, "jax": in_jax}, reference="float64:jax", **DECLARED, **RANDOM).raise_for_failures()


def test_a_library_without_autograd_has_no_gradient_and_says_so():
    report = check({"numpy": squared}, reference="squared_error", **DECLARED)
    report.raise_for_failures()
    assert {r.quantity: r.status for r in report.rows} == {"value": "agrees", "grad": "absent", "hess": "absent"}


def test_a_crash_is_a_row():
    def crashes(x, t):
        raise RuntimeError("out of luck")

    report = check({"torch": crashes, "jax": in_jax}, reference="squared_error", **DECLARED)
    assert not report.passed
    assert {r.message for r in report.rows if r.status == "crashed"} == {"RuntimeError: out of luck"}
    assert all(r.status == "agrees" for r in report.rows if r.backend == "jax")


def test_a_reduction_that_was_not_declared_is_a_row():
    report = check({"torch": lambda x, t: ((x - t) ** 2).mean()}, reference="squared_error", **DECLARED, quantities=["value"])
    assert "the result has shape () where" in report.failures[0].message


def test_swapped_arguments_are_caught():
    def bce(t, x):
        return torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none")

    shared = {"reference": "sigmoid_cross_entropy", "reduction": "none", "points": "random", "targets": "unit", "modes": ["eager"]}
    assert not check({"torch": bce}, signature="input,target", relative_to="batch", **shared).passed
    check({"torch": bce}, signature="y_true,y_pred", relative_to="batch", **shared).raise_for_failures()


def test_the_worst_input_is_reproduced_by_its_snippet():
    shared = {"modes": ["eager"], "max_ulp": 0.1, "quantities": ["value", "grad", "hess"], "points": "grid+random", "targets": "labels"}
    report = check("softmax_focal_loss", backends=["numpy", "torch", "jax"], **shared)
    rows = [r for r in report.failures if r.against != "each other"]
    assert {(r.backend, r.quantity) for r in rows} >= {("numpy", "hess"), ("torch", "grad"), ("jax", "value"), ("jax", "grad")}
    for row in [r for r in rows if r.backend != "jax" or r.quantity == "grad"]:  # JAX compiles each of them
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(row.worst.snippet, {})
        # in a batch of one, vectorised primitives round otherwise in their last places
        assert float(out.getvalue()) == pytest.approx(row.worst.computed, rel=32 * 2.0**-23), row.worst.snippet


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reduction": None}, "reduction must be declared"),
        ({"signature": None}, "signature must be declared"),
        ({"signature": "a,b"}, "signature must name the arguments in order"),
        ({"reference": "mpmath"}, "reference must be declared for functions of your own"),
        ({"backends": ["jax"]}, "the subject has no function for jax; it has torch"),
        ({"dtypes": ["int8"]}, "dtypes must be some of float16, bfloat16, float32, float64; got 'int8'"),
        ({"reference": squared}, "domain and targets must be declared unless the reference is one of our losses"),
    ],
)
def test_what_is_not_declared_is_never_guessed(options, said):
    with pytest.raises(ValueError, match=said):
        check({"torch": squared}, **{"reference": "squared_error", **DECLARED, **options})


# -- reports ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def failing():
    return check({"torch": lambda x, t: 2 * squared(x, t), "jax": in_jax}, reference="squared_error", **DECLARED, quantities=["value"])


def test_failures_are_raised_with_their_inputs(failing):
    said = r"torch eager float32 real value: \d+ of \d+ wrong.* ulp at .*0x1\..* where squared_error \(mpmath\) has "
    with pytest.raises(DisagreementError, match=said):
        failing.raise_for_failures()


def test_pages_hold_everything(failing, tmp_path):
    page = Path(tmp_path / "report.md")
    text = failing.to_markdown(page)
    assert page.read_text() == text
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    html = failing.to_html(tmp_path / "report.html")
    for page_text in (text, html):
        for part in (
            "They do not agree.",
            "max_ulp = 8",
            "The worst inputs",
            "import torch",
            torch.__version__.partition("+")[0],
            jax.__version__,
        ):
            assert part in page_text
    assert "data:image/png;base64," in html


def test_a_page_without_matplotlib_says_what_to_install(failing, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pictures need: pip install &#x27;arrayloss[plot]&#x27;" in failing.to_html()


def test_plain_data_is_json(failing):
    found = json.loads(json.dumps(failing.to_dict()))
    assert found["passed"] is False
    worst = next(r["worst"] for r in found["rows"] if r["status"] == "differs")
    assert "0x1." in worst["inputs"]
