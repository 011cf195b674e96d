"""A pytest plugin: tests over every installed library, and losses compared inside tests.

`loss_backend`
    A fixture with every installed library in turn, or those of `--arrayloss-backends numpy,torch`. It makes arrays,
    `loss_backend.array(values, "float32")`, and reads them back, `loss_backend.numpy(array)`, in float64.
`assert_losses_agree`
    For functions of the project's own: how each is called is found out, and the test fails with what is different, in words. With
    `signature=` and `reduction=`, and for losses of this package, it is `arrayloss.check.check` with the same arguments, and the
    test fails with every disagreement. As a fixture of the same name it keeps to `--arrayloss-backends`; what came of all of them
    stands at the end of the run.

Nothing heavy is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .check import Report
    from .diagnose import Diagnosis

MOST_ROWS = 5  # rows of the summary
_REPORTS: pytest.StashKey[list[Any]] = pytest.StashKey()
_DIAGNOSES: pytest.StashKey[list[Any]] = pytest.StashKey()


def assert_losses_agree(subject: Any, *, strict: bool = False, **options: Any) -> Report | list[Diagnosis]:
    """Fail the test where functions are not the loss that they are compared with, or where libraries do not agree.

    Parameters
    ----------
    subject : function, mapping such as {"torch": f, "jax": g}, name of one of our losses, or a loss
    strict : bool
        Whether a function that is the same loss, but for the digits of small results, fails.
    reference : name of one of our losses
        What functions are compared with. Without it the first of them is identified, and is what the others are compared with.
    signature, reduction, domain, targets : str
        As in `arrayloss.check.check`; what is not given is found out by `arrayloss.diagnose.diagnose`.
    options
        Those of the reference. Where signature and reduction are both given, and for losses of this package, all options are those of
        `check`, which compares number by number.

    Returns
    -------
    list of Diagnosis, or Report
        One diagnosis a function, or the report of the check.

    Raises
    ------
    DisagreementError
        An AssertionError with the lines of the diagnoses, or with the worst inputs of the check.
    """
    __tracebackhide__ = True
    result = _compared(subject, strict, options)
    _raise_for(result, strict)
    return result


def _compared(subject: Any, strict: bool, options: dict[str, Any]) -> Report | list[Diagnosis]:
    """The diagnoses, or the report of the check."""
    from .check import check
    from .diagnose.several import diagnosed, is_diagnosed

    if is_diagnosed(subject, options):
        return diagnosed(subject, **options)
    if strict:
        raise ValueError("strict is for functions whose signature and reduction are found out; lost digits fail a check of numbers anyway")
    return check(subject, **options)


def _raise_for(result: Report | list[Diagnosis], strict: bool) -> None:
    """An AssertionError with what is different."""
    __tracebackhide__ = True
    if not isinstance(result, list):
        return result.raise_for_failures()
    from .check import DisagreementError

    wrong = [d for d in result if d.verdict not in ("same", "digits") or (strict and d.verdict == "digits")]
    if wrong or not result:
        text = "\n\n".join("\n".join([f"{d.library}: {d.title}", *d.lines()[1:]]) for d in wrong)
        raise DisagreementError(text or "nothing was compared: there is no function for these libraries")
    return None


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that names libraries."""
    group = parser.getgroup("arrayloss")
    group.addoption("--arrayloss-backends", metavar="NAMES", help="libraries for loss_backend and assert_losses_agree, joined by commas")


def pytest_configure(config: pytest.Config) -> None:
    """A place for the reports of this run; a library that cannot be had is a usage error before anything is collected."""
    config.stash[_REPORTS], config.stash[_DIAGNOSES] = [], []
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

    def compare(subject: Any, *, strict: bool = False, **options: Any) -> Report | list[Diagnosis]:
        __tracebackhide__ = True
        if names is not None and "backends" not in options:
            options["backends"] = [n for n in names if not isinstance(subject, dict) or n in subject]
        result = _compared(subject, strict, options)
        if isinstance(result, list):
            request.config.stash[_DIAGNOSES] += result
        else:
            request.config.stash[_REPORTS].append(result)
        _raise_for(result, strict)
        return result

    return compare


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What every function is, and the rows with the largest errors of all checks."""
    diagnoses = config.stash[_DIAGNOSES]
    if diagnoses:
        terminalreporter.section("arrayloss: functions", sep="-")
    for diagnosis in diagnoses:
        codes = f" [{', '.join(reason.code for reason in diagnosis.reasons)}]" if diagnosis.reasons else ""
        terminalreporter.line(f"{diagnosis.library}: {diagnosis.title}{codes}", red=diagnosis.verdict in ("different", "not_compared"))
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
