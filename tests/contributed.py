"""A pytest plugin that runs CONTRIBUTING.md, so that its loss is in the registry when tests are collected."""

from __future__ import annotations

import doctest
from pathlib import Path


def pytest_configure() -> None:
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    page = doctest.DocTestParser().get_doctest(text, {}, "CONTRIBUTING.md", None, None)
    assert doctest.DocTestRunner().run(page, clear_globs=False).failed == 0, "an example of CONTRIBUTING.md fails"
