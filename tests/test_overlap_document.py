"""The examples of docs/overlap.md run."""

import doctest
from pathlib import Path


def test_the_examples_run() -> None:
    path = Path(__file__).resolve().parent.parent / "docs" / "overlap.md"
    done = doctest.testfile(str(path), module_relative=False)
    assert done.attempted > 20
    assert done.failed == 0
