"""Runs test files of another library in this process, and prints which tests pass with our losses, and why others do not."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def download(requirement: str, place: Path, *, source: bool) -> Path:
    """A release of a library, unpacked: its source distribution, or its wheel."""
    how = ["--no-binary", ":all:"] if source else ["--only-binary", ":all:"]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", *how, "-d", str(place), requirement], check=True)
    (archive,) = [p for p in place.iterdir() if p.is_file()]
    if source:
        with tarfile.open(archive) as tar:
            tar.extractall(place, filter="data")
    else:
        zipfile.ZipFile(archive).extractall(place)
    return place


class Results:
    """What became of every test: None, or the last line of its error."""

    def __init__(self) -> None:
        self.errors: dict[str, str | None] = {}

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """The same numbers in every run: some tests draw a mask that may leave one class."""
        np.random.seed(0)

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.partition("::")[2]
        if report.when == "call" and not report.skipped:
            lines = str(report.longrepr).strip().splitlines() if report.failed else []
            errors = [line[1:].strip() for line in lines if line.startswith("E ")]
            self.errors[name] = (errors or lines[-1:] or [""])[0] if report.failed else None


def run(files: Sequence[Path], left_out: Mapping[str, str], title: str) -> int:
    """`left_out`: parts of the names of tests that need not pass, and the reasons."""
    results = Results()
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "pytest.ini").write_text("[pytest]\n")
        options = ["-p", "no:cacheprovider", "-p", "no:terminal", "-c", f"{place}/pytest.ini"]
        pytest.main([*options, *map(str, files)], plugins=[results])
    failed = {name: error for name, error in results.errors.items() if error is not None}
    print(f"{title}: {len(results.errors) - len(failed)} of {len(results.errors)} tests pass")
    unknown = 0
    for name, error in failed.items():
        why = next((w for part, w in left_out.items() if part in name), None)
        unknown += why is None
        print(f"    {name}: {why or error}")
    print(f"{unknown} of the others for no known reason")
    return int(unknown > 0 or not results.errors)
