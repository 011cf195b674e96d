"""Every example in the Markdown files runs, and CONTRIBUTING's new loss gets the property tests for free."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import arrayloss

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if p.name != "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_examples_run(path):
    assert doctest.testfile(str(path), module_relative=False, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_loss_of_contributing_gets_its_tests_for_free():
    """In a process of its own, since it enters the registry: the page runs, then the tests of all losses find its loss."""
    topics = ["properties", *(f"contract_{t}" for t in ("shapes", "leaving_out", "reduction", "dtypes", "parts")), "dask", "torch", "jax"]
    files = [f"tests/test_{topic}.py" for topic in topics]
    run = [sys.executable, "-m", "pytest", *files, "-p", "tests.contributed", "-k", "pinball", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 150


def test_the_public_names_are_documented():
    readme = (ROOT / "README.md").read_text()
    for name in arrayloss.core.loss.REGISTRY:
        assert f"`{name}`" in readme, f"README's table lacks {name}"
        documentation = getattr(arrayloss, name).__doc__
        for section in ("Parameters", "Returns", "Notes", "Gradient", "Examples", "References"):
            assert section in documentation, f"{name} has no {section}"
