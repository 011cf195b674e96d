"""A pytest plugin: tests over every installed library, and losses compared inside tests.

`loss_backend`
    A fixture with every installed library in turn, or those of `--arrayloss-backends numpy,torch`. It makes arrays,
    `loss_backend.array(values, "float32")`, and reads them back, `loss_backend.numpy(array)`, in float64.
`assert_losses_agree`
    `arrayloss.check.check` with the same arguments, which fails the test with every disagreement. As a fixture of the same
    name it keeps to `--arrayloss-backends`; the worst rows of all of them stand at the end of the run.

Nothing heavy is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .check import Report

MOST_ROWS = 5  # rows of the summary
_REPORTS: pytest.StashKey[list[Any]] = pytest.StashKey()


def assert_losses_agree(subject: Any, **options: Any) -> Report:
    """`arrayloss.check.check`, raising an AssertionError where libraries do not agree; the report otherwise."""
    __tracebackhide__ = True
    from .check import check

    report = check(subject, **options)
    report.raise_for_failures()
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that names libraries."""
    group = parser.getgroup("arrayloss")
    group.addoption("--arrayloss-backends", metavar="NAMES", help="libraries for loss_backend and assert_losses_agree, joined by commas")


def pytest_configure(config: pytest.Config) -> None:
    """A place for the reports of this run; a library that cannot be had is a usage error before anything is collected."""
    config.stash[_REPORTS] = []
    _libraries_of(config)


def _libraries_of(config: pytest.Config) -> list[str] | None:
    """The libraries that were named."""
    value = config.getoption("--arrayloss-backends")
    if value is None:
        return None
    from .check.libraries import LIBRARIES

    names = [n.strip() for n in value.split(",") if n.strip()]
    for name in names:
        if name not in LIBRARIES:
            raise pytest.UsageError(f"--arrayloss-backends: there is no backend {name!r}; there are {', '.join(LIBRARIES)}")
        if LIBRARIES[name].missing():
            raise pytest.UsageError(f"--arrayloss-backends: {name}: {LIBRARIES[name].missing()}")
    return names


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a library; one that is missing is a skipped test, never a silent pass."""
    if "loss_backend" not in metafunc.fixturenames:
        return
    from .check.libraries import LIBRARIES

    names = _libraries_of(metafunc.config)
    parameters = []
    for name, library in LIBRARIES.items():
        if names is None or name in names:
            reason = library.missing()
            marks = [pytest.mark.skip(reason=f"{name}: {reason}")] if reason else []
            parameters.append(pytest.param(library, id=name, marks=marks))
    metafunc.parametrize("loss_backend", parameters, indirect=True)


@pytest.fixture
def loss_backend(request: pytest.FixtureRequest) -> Any:
    """Every installed library in turn: `array` makes arrays of it, `numpy` reads them back."""
    return request.param


@pytest.fixture(name="assert_losses_agree")
def assert_losses_agree_here(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`assert_losses_agree` on the libraries of `--arrayloss-backends`, remembered for the summary."""
    names = _libraries_of(request.config)

    def compare(subject: Any, **options: Any) -> Report:
        __tracebackhide__ = True
        from .check import check

        if names is not None and "backends" not in options:
            options["backends"] = [n for n in names if not isinstance(subject, dict) or n in subject]
        report = check(subject, **options)
        request.config.stash[_REPORTS].append(report)
        report.raise_for_failures()
        return report

    return compare


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The rows with the largest errors of all comparisons."""
    reports = config.stash[_REPORTS]
    rows = [r for report in reports for r in report.rows if r.status in ("agrees", "differs", "crashed")]
    if not rows:
        return
    from .check.rows import describe, format_ulp

    rows.sort(key=lambda r: (not r.failed, -r.max_ulp))
    terminalreporter.section("arrayloss: worst rows", sep="-")
    for row in rows[:MOST_ROWS]:
        text = describe(row) if row.failed else f"{row.backend} {row.mode} {row.dtype} {row.quantity}: {format_ulp(row.max_ulp)} ulp"
        terminalreporter.line(f"{row.subject}: {text}", red=row.failed)
    terminalreporter.line(f"{len(rows)} comparisons in {len(reports)} checks")
