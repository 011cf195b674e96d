"""What stood in people's way. Neighbours that were tried are named in each test.

Shown elsewhere:

* types of `bind(...)(x, t)` and of `finish(sum(parts))`, for mypy and pyright: `test_typing.py`;
* values that `bind` refuses: `test_contract_errors.test_bind_checks_names_and_values`;
* sums, differences and quotients of losses: `test_combination.py`.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import arrayloss as al

X, LABELS = np.random.default_rng(0).normal(size=(6, 3)), np.array([0, 1, 2, 0, 1, 2])
ROOT = Path(__file__).parents[2]


# -- options ------------------------------------------------------------------------------------------------------------------

PER_CLASS = [
    (al.cross_entropy, "class_weights", LABELS, {}),
    (al.nll_loss, "class_weights", LABELS, {}),
    (al.softmax_focal_loss, "alpha", LABELS, {}),
    (al.sigmoid_cross_entropy, "pos_weight", X > 0, {"axis": 1}),
    (al.dice_loss, "class_weights", LABELS, {"activation": "softmax", "axis": 1}),
    (al.generalized_dice_loss, "class_weights", LABELS, {"activation": "softmax", "axis": 1}),
]


@pytest.mark.parametrize("library", ["torch", "jax.numpy", "dask.array"])
@pytest.mark.parametrize(("loss", "name", "t", "options"), PER_CLASS, ids=lambda a: getattr(a, "name", None))
def test_parameters_of_classes_may_be_numpys_beside_every_library(library: str, loss: Any, name: str, t: Any, options: Any) -> None:
    """They were refused by `cross_entropy` and taken by `dice_loss` and `bind`. Tuples, lists, arrays of two precisions, bound or not."""
    convert = pytest.importorskip(library).asarray
    expected = loss(X, t, **{name: (0.2, 0.3, 0.5)}, **options)
    for value in ([0.2, 0.3, 0.5], np.array([0.2, 0.3, 0.5]), np.array([0.2, 0.3, 0.5], ">f8")):
        for result in (
            loss(convert(X), convert(t), **{name: value}, **options),
            loss.bind(**{name: value}, **options)(convert(X), convert(t)),
        ):
            np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (al.cross_entropy, {"class_weights": (1.0, -2.0, 3.0)}),
        (al.dice_loss, {"class_weights": (1.0, -2.0, 3.0), "activation": "softmax", "axis": 1}),
        (al.sigmoid_focal_loss, {"gamma": -2.0}),
        (al.sigmoid_focal_loss, {"alpha": (0.5, -2.0, 0.5), "axis": 1}),
        (al.huber_loss, {"delta": -2.0}),
        (al.tversky_loss, {"alpha": -2.0, "beta": 0.5, "activation": "softmax", "axis": 1}),
    ],
)
def test_what_is_refused_as_a_number_is_refused_as_an_array_of_numpy(loss: Any, options: Any) -> None:
    """Negative weights and gammas were taken as arrays. Numbers, tuples, lists, NumPy scalars and arrays, by call and by `bind`."""
    name, value = next(iter(options.items()))
    t = LABELS if loss.name in ("softmax_cross_entropy", "dice_loss", "tversky_loss") else np.ones_like(X)
    for form in (
        value,
        np.asarray(value),
        np.asarray(value, np.float32),
        *([list(value)] if isinstance(value, tuple) else [np.float64(value)]),
    ):
        for call in (lambda form=form: loss(X, t, **{**options, name: form}), lambda form=form: loss.bind(**{**options, name: form})):
            with pytest.raises(ValueError, match=rf"{name} must be (at least 0|above 0|from 0 to 1); got -2"):
                call()


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (al.cross_entropy, {"weights": "a"}),
        (al.cross_entropy, {"weights": [1.0]}),
        (al.cross_entropy, {"where": 3}),
        (al.dice_loss, {"absent": "no"}),
        (al.dice_loss, {"classes": "a"}),
        (al.dice_loss, {"classes": 1.5}),
        (al.cross_entropy, {"class_weights": np.array(["a", "b"])}),
    ],
)
def test_bind_refuses_what_no_array_can_make_right(loss: Any, options: Any) -> None:
    """It was accepted until the call: kinds of weights and masks, choices, classes, text."""
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(options))} must be"):
        loss.bind(**options)


def test_options_that_belong_together_are_bound_one_after_the_other() -> None:
    """`bind(activation=...)` of the generalized Dice loss asked for the axis at once; that of the others did not."""
    for loss in (al.dice_loss, al.generalized_dice_loss):
        bound = loss.bind(activation="softmax").bind(axis=1)
        assert bound(X, LABELS) == loss(X, LABELS, activation="softmax", axis=1)
    with pytest.raises(ValueError, match="axis must be named for volume_weights"):
        al.generalized_dice_loss(X, X > 0, activation="sigmoid")


# -- combinations -------------------------------------------------------------------------------------------------------------

ROWS = al.cross_entropy + 0.5 * al.dice_loss.bind(activation="softmax", axis=1)


def test_arrays_of_a_combination_are_given_by_name() -> None:
    """By the names of any term, by name or by place, in every method."""
    expected = ROWS(X, LABELS)
    for arrays in ({"logits": X, "targets": LABELS}, {"targets": LABELS, "predictions": X}):
        assert ROWS(**arrays) == ROWS.value_and_grad(**arrays)[0] == expected
        assert ROWS.finish(ROWS.parts(**arrays)) == pytest.approx(expected)
    assert ROWS(X, targets=LABELS) == expected
    assert ROWS.name == "softmax_cross_entropy + 0.5 * dice_loss"


@pytest.mark.parametrize(
    ("arrays", "named"), [((X,), {}), ((), {"targets": LABELS}), ((), {"logits": X, "predictions": X}), ((X, LABELS), {"targets": LABELS})]
)
def test_arrays_of_a_combination_are_given_once(arrays: Any, named: Any) -> None:
    """One by two names was taken without a word, and targets alone were taken for logits."""
    with pytest.raises(TypeError, match="logits and targets must be given once each; got "):
        ROWS(*arrays, **named)


def test_factors_are_finite_numbers() -> None:
    """0 as a divisor was an error of Python's, NaN was taken."""
    for make in (lambda: al.huber_loss * float("nan"), lambda: al.huber_loss / 0, lambda: float("inf") * ROWS):
        with pytest.raises(ValueError, match="factor must be finite; got "):
            make()
    x = np.array([3.0])
    assert (-al.huber_loss)(x, 0 * x) == -(al.huber_loss(x, 0 * x))
    assert (al.squared_error - al.huber_loss / 2)(x, 0 * x) == 9.0 - 1.25


# -- parts --------------------------------------------------------------------------------------------------------------------


def test_parts_add_to_a_sum_that_is_empty_and_to_parts_of_their_library() -> None:
    """`parts + 0` was an error, and parts of NumPy and of PyTorch gave those of the library that came first."""
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax.numpy")
    of = [al.cross_entropy.parts(convert(X), convert(LABELS)) for convert in (np.asarray, torch.from_numpy, jax.asarray)]
    for parts in of:
        for result in (parts + 0, 0 + parts, parts - 0, sum([parts])):
            assert float(al.cross_entropy.finish(result)) == float(al.cross_entropy.finish(parts))
    for one, other in ((0, 1), (1, 0), (1, 2), (2, 1)):
        with pytest.raises(TypeError, match="parts must be of one array library to add; got "):
            of[one] + of[other]
    np.testing.assert_allclose(al.cross_entropy.finish(of[0] + of[2]), al.cross_entropy(X, LABELS))
    for other in (1, 1.0, X, None, "a"):
        for add in (lambda other=other: of[0] + other, lambda other=other: other + of[0]):
            with pytest.raises(TypeError, match=r"parts add to parts of the same loss; got|can only concatenate"):
                add()


# -- what the command prints --------------------------------------------------------------------------------------------------


def _terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What the command prints on a terminal of that width."""
    rich, commands = pytest.importorskip("rich.console"), import_module("arrayloss.check.commands")
    stream = StringIO()
    monkeypatch.setattr(commands, "console", lambda _=None: rich.Console(file=stream, width=columns, color_system=None))
    return stream


def test_no_name_is_cut_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine columns do not fit; what does not fit is folded. The list of losses too."""
    stream = _terminal(80, monkeypatch)
    import_module("arrayloss.check.commands").list_losses.callback()
    assert "…" not in stream.getvalue()
    assert "generalized_dice_" in stream.getvalue()


def test_markup_in_names_is_text() -> None:
    """`[bold]` in a name was taken for a style, and `<lambda>` in Markdown for a tag of HTML."""
    from rich.console import Console

    from arrayloss.check.commands import table_of
    from arrayloss.check.report import Report

    stream = StringIO()
    Console(file=stream, width=80).print(table_of("what the function is called", title="[bold]mine[/]"))
    assert "[bold]mine[/]" in stream.getvalue()
    page = Report("mine:<lambda> a*b*c [x](y)", 8.0).to_markdown()
    assert page.startswith("# mine:\\<lambda\\> a\\*b\\*c \\[x\\](y)\n")
    assert "&lt;lambda&gt;" in Report("mine:<lambda>", 8.0).to_html()


# -- the package --------------------------------------------------------------------------------------------------------------


def test_the_package_runs_without_docstrings() -> None:
    """`python -OO -m arrayloss list` failed: the table shows the first lines of docstrings."""
    done = subprocess.run([sys.executable, "-OO", "-m", "arrayloss", "list"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "cross_entropy" in done.stdout


def _pyproject() -> Any:
    tomllib: ModuleType = import_module("tomllib")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_metadata_say_what_is_in_the_package() -> None:
    """The data set of the command has a licence of its own; there was no extra for all, and no version of Python in the classifiers."""
    project = _pyproject()
    assert "CC-BY-4.0" in project["license"]
    assert "digits.npz" in (ROOT / "NOTICE").read_text()
    assert "NOTICE" in project["license-files"]
    extras = set(project["optional-dependencies"]) - {"all", "test", "bench", "cupy13x"}
    (everything,) = project["optional-dependencies"]["all"]
    assert set(everything.removeprefix("arrayloss[").removesuffix("]").split(",")) == extras
    assert f"Programming Language :: Python :: {project['requires-python'].removeprefix('>=')}" in project["classifiers"]


def test_the_source_distribution_has_what_its_tests_read() -> None:
    """Folders that tests open are in the list of the archive."""
    tomllib: ModuleType = import_module("tomllib")
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    documents = {f"/{p.name}" for p in [*ROOT.glob("*.md"), ROOT / "NOTICE", ROOT / "LICENSE", ROOT / "constraints.txt"]}
    assert documents | {"/arrayloss", "/tests", "/docs", "/examples", "/benchmarks"} <= set(included)
