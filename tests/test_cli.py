"""The `arrayloss` command, as a user runs it, with no terminal."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from arrayloss.check import commands, definitions, libraries, overview

ROOT = Path(__file__).parents[1]
PORTS = """
import torch, jax, jax.numpy as jnp


def focal(x, t):
    bce = torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    return (1 - torch.exp(-bce)) ** 2 * bce


def focal_in_jax(x, t):
    z = (1 - 2 * t) * x
    return jax.nn.sigmoid(z) ** 2 * jnp.logaddexp(z, 0.0)


def swapped(t, x):
    return focal(x, t)


def crashes(x, t):
    raise RuntimeError("out of luck")


def squared(x, t):
    return (x - t) ** 2


def doubled(x, t):
    return 2 * (x - t) ** 2
"""
MINE = ["--signature", "input,target", "--reduction", "none", "--modes", "eager"]


def run(*arguments, cwd=ROOT, code=0, **environment):
    """The command in this process, its output no terminal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        done = CliRunner().invoke(commands.arrayloss, list(arguments), env=environment, prog_name="arrayloss")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output[-3000:]
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A user's project with losses of its own."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "mine.py").write_text(PORTS)
    return folder


@pytest.mark.parametrize("names", [("nll_loss", "squared_error"), pytest.param(None, marks=pytest.mark.exhaustive)], ids=["some", "all"])
def test_losses_agree_on_the_digits(names, monkeypatch):
    monkeypatch.setattr(overview, "REGISTRY", overview.REGISTRY if names is None else names)
    done = run("check", "--backends", "numpy,torch,jax")
    assert done.stdout.count(" agree ") == sum(len(overview.forms_of(name)) for name in overview.REGISTRY)
    assert done.stdout.endswith("They agree.\n")
    assert done.stderr == ""


def test_the_digits_end_with_sentences(monkeypatch):
    monkeypatch.setattr(overview, "REGISTRY", ("nll_loss", "squared_error"))
    monkeypatch.setattr(libraries.LIBRARIES["cupy"], "missing", lambda: "not installed")
    monkeypatch.setattr(libraries.LIBRARIES["jax"], "missing", lambda: "finds no GPU")
    for name in ("torch", "dask", "strict"):
        monkeypatch.setattr(libraries.LIBRARIES[name], "missing", lambda: "not installed")
    text = run("check").stdout
    assert "value off by" in text
    assert "ulp" not in text
    table, _, said = text.partition("└")
    version = libraries.LIBRARIES["numpy"].version
    assert (
        f"2 losses in 3 forms (of logits, of probabilities, ...) and the gradients were computed with NumPy {version}, in float32." in said
    )
    number = re.search(r"The largest relative difference from the exact numbers is (\S+), in the value of squared_error with NumPy\.", said)
    assert number
    assert 1e-9 < float(number[1]) < 1e-6
    assert number[1] in table
    assert "between two libraries" not in said
    for name, what in (("PyTorch", "torch"), ("Dask", '"dask[array]"'), ("array-api-strict", "array-api-strict"), ("CuPy", "cupy-cuda13x")):
        assert f"{name} is not installed: pip install {what}" in said
    assert "JAX finds no GPU." in said


def test_differences_on_the_digits_are_named(monkeypatch):
    monkeypatch.setattr(overview, "REGISTRY", ("squared_error",))
    done = run("check", "--backends", "numpy", "--max-ulp", "0.1", code=1)
    said = done.stdout.partition("└")[2]
    assert re.search(
        r"squared_error differs: the value in float32 with NumPy is \S+ where .* has \S+, a relative difference of \S+ \(", said
    )
    assert "ulp " not in said
    assert done.stdout.endswith("They do not agree.\n")
    verbose = run("check", "--backends", "numpy", "--max-ulp", "0.1", "--verbose", code=1).stdout
    assert "value ulp" in verbose
    assert re.search(r"squared_error: numpy eager float32 .* ulp at .*0x", verbose)
    data = json.loads(run("check", "--backends", "numpy", "--max-ulp", "0.1", "--json", code=1).stdout)
    assert data["passed"] is False


def test_a_library_that_is_not_installed_is_a_visible_row(monkeypatch):
    for name in ("torch", "jax", "dask", "strict"):
        monkeypatch.setattr(libraries.LIBRARIES[name], "missing", lambda: "not installed")
    lines = run("check", "squared_error", "--modes", "eager").stdout.splitlines()
    assert any("torch" in line and "missing" in line and "not installed" in line for line in lines)


def test_python_m_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "arrayloss", "check", "squared_error", "--backends", "numpy"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "They agree." in done.stdout
    assert done.stderr == ""


def test_one_loss_in_plain_data():
    found = json.loads(run("check", "huber_loss", "-o", "delta=0.25", "--backends", "numpy,jax", "--modes", "eager", "--json").stdout)
    assert found["passed"] is True
    assert {r["backend"] for r in found["rows"]} == {"numpy", "jax", "numpy - jax"}
    assert found["versions"]["numpy"]


@pytest.mark.parametrize(("promise", "code"), [(2.0, 0), (1.0, 1)])
def test_accuracy_stands_beside_the_promise(monkeypatch, promise, code):
    (definition,) = definitions.DEFINITIONS["huber_loss"]
    kept = definition.hard._replace(value=definitions.Bound(promise, promise))
    monkeypatch.setitem(definitions.DEFINITIONS, "huber_loss", [replace(definition, hard=kept, soft=kept)])
    done = run("check", "--accuracy", "huber_loss", "--backends", "numpy", code=code)
    assert f"{promise:g} / {promise:g}" in done.stdout
    assert ("huber_loss value float32 numpy: worst at (" in done.stdout) == (code == 1)


@pytest.mark.exhaustive  # PyTorch and JAX, each in a process of its own
def test_a_port_that_loses_digits_is_found_and_reproduced(project, tmp_path):
    page = tmp_path / "report.html"
    arguments = ["check", "torch=mine:focal", "jax=mine:focal_in_jax", "--reference", "sigmoid_focal_loss", "--modes", "eager"]
    done = run(*arguments, "--quantities", "value", "--report", str(page), "--verbose", cwd=project)
    lines = done.stdout.splitlines()
    assert "focal is the same loss as sigmoid_focal_loss, but for digits." in lines
    assert "focal_in_jax is the same loss as sigmoid_focal_loss." in lines  # the port is the better one
    assert len([line for line in lines if line.startswith("torch eager float32 binary value")]) == 1
    assert not any(line.startswith("jax eager") for line in lines)
    text = page.read_text()
    assert "data:image/png;base64," in text
    assert "from mine import focal as f" in text
    assert "http" not in text.replace("http-equiv", "")  # it needs nothing else
    run(*arguments, "--strict", cwd=project, code=1)


def test_against_another_function(project):
    shared = [*MINE, "--domain", "real", "--targets", "real", "--points", "random"]
    run("check", "torch=mine:squared", "--against", "jax=mine:squared", *shared, cwd=project)
    done = run("check", "torch=mine:squared", "--against", "jax=mine:doubled", *shared, cwd=project, code=1)
    assert "torch - jax" in done.stdout
    agnostic = run("check", "mine:squared", "--reference", "squared_error", "--backends", "numpy,torch", cwd=project)
    assert agnostic.stdout.count("squared is the same loss as squared_error.") == 2


@pytest.mark.exhaustive  # PyTorch and JAX, each in a process of its own
def test_a_function_and_its_port_without_a_reference(project):
    run("check", "torch=mine:squared", "jax=mine:squared", cwd=project)
    done = run("check", "torch=mine:squared", "jax=mine:doubled", cwd=project, code=1)
    assert "[factor]" in done.stdout


@pytest.mark.exhaustive  # six processes
def test_the_order_of_arguments_is_found_out_or_declared(project):
    port = ["check", "torch=mine:swapped", "--reference", "sigmoid_focal_loss"]
    assert "taken as: swapped(t, x)" in run(*port, cwd=project).stdout
    run(*port, "--signature", "target,input", cwd=project)
    run(*port, "--signature", "input,target", cwd=project, code=1)


def test_a_crash_is_a_reason_and_not_the_end(project):
    ports = ["torch=mine:crashes", "jax=mine:focal_in_jax"]
    done = run("check", *ports, "--reference", "sigmoid_focal_loss", cwd=project, code=2)
    assert "RuntimeError: out of luck" in done.stdout
    assert "focal_in_jax is the same loss as sigmoid_focal_loss." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nope"], "there is no loss 'nope'; there are"),
        (["check", "--backends", "foo"], "there is no backend 'foo'"),
        (["check", "torch=mine:focal", "--against", "jax=mine:focal_in_jax"], "reduction must be declared"),
        (["check", "torch=mine:focal", "--against", "jax=mine:focal_in_jax", "--reduction", "none"], "signature must be declared"),
        (["check", "torch=mine:nothing", "--against", "jax=mine:focal_in_jax", *MINE], "module mine has no 'nothing'"),
        (["check", "torch=absent:focal", "--against", "jax=mine:focal_in_jax", *MINE], "No module named 'absent'"),
        (["check", "squared_error", "--points", "sparse"], "points must be among edges, grid, random, digits; got 'sparse'"),
        (["check", "squared_error", "--report", "page.pdf"], "--report writes .html or .md; got page.pdf"),
        (["check", "squared_error", "-o", "delta"], "write name=value; got 'delta'"),
        (["plot", "nope", "-o", "x.png"], "there is no loss 'nope'"),
    ],
)
def test_usage_errors(project, arguments, said):
    assert said in " ".join(run(*arguments, cwd=project, code=2).stderr.split())


def test_a_named_backend_that_is_missing_is_a_usage_error():
    missing = [name for name, library in libraries.LIBRARIES.items() if library.missing()]
    if not missing:
        pytest.skip("every library is installed here")
    assert f"backend {missing[0]}: {libraries.LIBRARIES[missing[0]].missing()}" in run("check", "--backends", missing[0], code=2).stderr


def test_no_colour_and_a_fixed_width_without_a_terminal():
    for environment in ({}, {"COLUMNS": "40"}):
        text = run("list", **environment).stdout
        assert "\x1b" not in text
        assert max(map(len, text.splitlines())) > 100


def test_no_colour_is_honoured_on_a_terminal():
    from io import StringIO

    class Terminal(StringIO):
        def isatty(self):
            return True

    def printed(**environment):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TERM", "xterm-256color")
            patch.delenv("NO_COLOR", raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            stream = Terminal()
            commands.console(stream).print("[red]differ[/]")
            return stream.getvalue()

    assert "\x1b[31m" in printed()
    assert "\x1b[31m" not in printed(NO_COLOR="1")


def test_list_info_and_version():
    from arrayloss import __version__

    text = run("list").stdout
    for name in ("softmax_focal_loss", "gaussian_nll_loss", "dice_loss"):
        assert name in text
    info = run("info").stdout
    for word in ("arrayloss", "python", "threads", "numpy", "cupy"):
        assert word in info
    assert __version__ in run("--version").stdout


def test_plots(tmp_path):
    out = tmp_path / "focal.png"
    run("plot", "sigmoid_focal_loss", "-o", str(out))
    assert out.read_bytes().startswith(b"\x89PNG")
    run("plot", "huber_loss", "squared_error", "--option", "delta=[0.5,1.0]", "-o", str(out), code=2)  # squared_error has no delta
    run("plot", "huber_loss", "--option", "delta=[0.5,1.0]", "-o", str(out))


@pytest.mark.parametrize("absent", ["rich", "click", "mpmath"])
def test_a_missing_extra_is_named(absent):
    program = f"import sys; sys.modules[{absent!r}] = None\nfrom arrayloss.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.strip() == f"arrayloss: {absent} is not installed; the command needs: pip install 'arrayloss[check]'"


def test_numpy_alone_will_do():
    """Neither PyTorch, JAX, Dask nor matplotlib is imported, even where they are installed."""
    program = """
import sys
for name in ("torch", "jax", "dask", "matplotlib", "array_api_strict", "scipy", "sklearn"):
    sys.modules[name] = None
from arrayloss.cli import main
sys.argv = ["arrayloss", "check", "--backends", "numpy"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "They agree." in done.stdout
