"""A pytest plugin that runs CONTRIBUTING.md, so that its loss is in the registry when tests are collected."""

from __future__ import annotations

import doctest
from pathlib import Path

failed, _ = doctest.testfile(str(Path(__file__).parents[1] / "CONTRIBUTING.md"), module_relative=False)
assert failed == 0, "an example of CONTRIBUTING.md fails"
