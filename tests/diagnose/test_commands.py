"""`arrayloss check` of functions of the user's own, and `arrayloss identify`, as a user runs them."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from arrayloss.check import commands, libraries
from arrayloss.diagnose import Diagnosis, Reason
from arrayloss.diagnose import commands as ports
from arrayloss.diagnose.works import Outcome

MODULE = """
import sys
import numpy as np
from arrayloss import define

print("it is imported")

def squared(x, t):
    print("it is called")
    return (x - t) ** 2

def cross_entropy(x, t):
    shifted = x - x.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(t)), t]

def doubled(x, t):
    return 2 * (x - t) ** 2

def exits(x, t):
    sys.exit(0)

class Huber:
    def __init__(self, delta=1.0):
        self.delta = delta

    def __call__(self, x, t):
        r = np.abs(x - t)
        return np.mean(np.where(r < self.delta, 0.5 * r**2, self.delta * (r - 0.5 * self.delta)))

def kernel(xp, x, t):
    r = x - t
    yield r * r / 2
    yield r

@define.loss
def half_squared(predictions, targets, **options):
    return define.elementwise(kernel, predictions, targets, options)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A user's project."""
    (tmp_path / "commanded.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments, code=0):
    done = CliRunner().invoke(commands.arrayloss, list(arguments), prog_name="arrayloss")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output[-3000:]
    return done


def test_the_first_screen(project):
    lines = run("check", "numpy=commanded:squared", "--reference", "squared_error").stdout.splitlines()
    assert lines[0] == "squared is the same loss as squared_error."
    assert lines[1].startswith("taken as: squared(x, t)")
    assert "'it is imported'" in lines[-1]
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 80


def test_plain_data_and_nothing_else(project):
    """The worst verdict of several functions, and the reasons of all."""
    subjects = ["numpy=commanded:squared", "numpy=commanded:doubled", "numpy=commanded:exits"]
    found = json.loads(run("check", *subjects, "--reference", "squared_error", "--json", code=2).stdout)
    assert found["verdict"] == "not_compared"
    assert [p["verdict"] for p in found["ports"]] == ["same", "different", "not_compared"]
    assert [r["code"] for r in found["reasons"]] == ["factor", "exits"]
    assert all({"code", "text", "example"} <= set(r) for r in found["reasons"])
    assert "it is called" in found["ports"][0]["printed"]
    assert found["ports"][2]["line"] == MODULE.splitlines().index("    sys.exit(0)") + 1


def test_a_reference_by_its_other_name(project):
    done = run("check", "numpy=commanded:cross_entropy", "--reference", "cross_entropy")
    assert done.stdout.startswith("cross_entropy is the same loss as softmax_cross_entropy, but for digits.")


def test_several_functions_without_a_reference(project):
    """The first that is one of our losses says what the others are compared with."""
    done = run("check", "numpy=commanded:squared", "numpy=commanded:doubled", "--format", "github", code=1)
    same, different = done.stdout.splitlines()
    assert same.startswith("::notice file=commanded.py,line=8,title=numpy=squared::squared is the same loss as ")
    assert different.startswith("::error file=commanded.py,line=16,title=numpy=doubled%3A factor::doubled is not squared_error.%0A")


def test_arguments_and_libraries_are_found_out(project):
    found = json.loads(run("identify", "commanded.py:Huber(delta=0.5)", "--json").stdout)
    assert (found["verdict"], found["library"], found["name"]) == ("same", "numpy", "Huber")
    assert found["calls"][0] == "huber_loss(x, t, delta=0.5)"


def test_flags_overrule(project):
    done = run("check", "numpy=commanded:Huber", "--reference", "huber_loss", "-o", "delta=2.0", "--signature", "t,x", code=1)
    assert "taken as: Huber" in done.stdout
    assert "[option]" in done.stdout


def test_numbers_follow_where_they_are_asked_for(project):
    arguments = ["check", "numpy=commanded:doubled", "--reference", "squared_error", "--quantities", "value", "--points", "random"]
    done = run(*arguments, "--verbose", "--report", "page.md", code=1)
    assert done.stdout.startswith("doubled is not squared_error.")
    assert "max ulp" in done.stdout
    assert "To reproduce it" in done.stdout
    assert "doubled" in (project / "page.md").read_text()


def test_numbers_are_compared_with_the_constants_that_the_function_should_have(project):
    arguments = ["check", "numpy=commanded:Huber(delta=0.5)", "--reference", "huber_loss", "-o", "delta=2.0", "--quantities", "value"]
    assert "[option]" in run(*arguments, "--points", "random", "--report", "page.md", code=1).stdout
    assert "**They do not agree.**" in (project / "page.md").read_text()


def test_a_loss_made_here_is_checked_against_itself(project):
    done = run("check", "commanded:half_squared", "--backends", "numpy", "--modes", "eager")
    assert "They agree." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["check", "torhc=commanded:squared"],
            "there is no library 'torhc'; there are numpy, torch, jax, dask, cupy, strict; did you mean torch?",
        ),
        (["check", "numpy=commanded:squared", "--reference", "squared_eror"], "there is no loss 'squared_eror'; there are"),
        (["check", "numpy=commanded:squared", "-o", "delta=1"], "name it with --reference"),
        (
            ["check", "commanded:squared", "--reference", "huber_loss", "-o", "dleta=1"],
            "huber_loss has no option 'dleta'; did you mean 'delta'?",
        ),
        (["identify"], "Missing argument"),
    ],
)
def test_usage_errors(project, arguments, said):
    assert said in " ".join(run(*arguments, code=2).stderr.replace("│", "").split())


def test_a_library_that_is_not_here_is_a_reason(project, monkeypatch):
    monkeypatch.setattr(libraries.LIBRARIES["torch"], "missing", lambda: "not installed")
    found = json.loads(run("check", "torch=commanded:squared", "--reference", "squared_error", "--json", code=2).stdout)
    assert found["reasons"][0]["text"] == "torch: not installed here."


def outcome(verdict, *reasons, **shared):
    return Outcome(Diagnosis("focal", "torch", verdict, "sigmoid_focal_loss", reasons=list(reasons)), **shared)


@pytest.mark.parametrize(
    ("verdicts", "strict", "code"),
    [
        (["same"], False, 0),
        (["digits"], False, 0),
        (["digits"], True, 1),
        (["same", "digits"], True, 1),
        (["different", "digits"], False, 1),
        (["different", "not_compared", "same"], False, 2),
    ],
)
def test_exit_codes(verdicts, strict, code):
    assert ports.exit_code([outcome(v) for v in verdicts], strict) == code
    assert ports.exit_code([outcome("same", stopped=True)], strict) == 2


def test_annotations_are_escaped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    some = outcome(
        "digits", Reason("digits_lost", "50% of it:\n  lost, from 14 on", "f(1.0)"), file=os.path.join(tmp_path, "a,b:c", "d.py"), line=3
    )
    (line,) = ports.github_lines(some, strict=False)
    assert line.startswith("::warning file=a%2Cb%3Ac/d.py,line=3,title=torch=focal%3A digits_lost::focal is the same loss as")
    assert line.endswith("%0A50%25 of it:%0A  lost, from 14 on%0Af(1.0)")
    assert ports.github_lines(some, strict=True)[0].startswith("::error ")


def test_no_number_that_json_does_not_have():
    some = outcome("different")
    some.result.residual = float("inf")
    assert json.loads(json.dumps(ports._finite(ports.plain([some])), allow_nan=False))["residual"] == "inf"
