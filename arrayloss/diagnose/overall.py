"""What `arrayloss check` alone shows: a line each loss, and at the end what came of them in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from arrayloss.check.libraries import LIBRARIES
from arrayloss.check.overview import Line
from arrayloss.check.rows import Row, describe, format_ulp
from arrayloss.check.ulp import FORMATS

INSTALLED_BY = {  # what to install where it has another name than the module
    "dask": '"dask[array]"',
    "cupy": "cupy-cuda13x (for an NVIDIA GPU with CUDA 13)",
    "strict": "array-api-strict (the array API standard and nothing else, for developers)",
}
QUANTITIES = {"value": "value", "grad": "gradient", "hess": "second derivative"}


def unit(verbose: bool) -> str:
    """What differences are measured in."""
    return "differences in units in the last place (ulps)" if verbose else "relative differences"


def headings(verbose: bool) -> tuple[str, ...]:
    """The headings of the table; the last one, over the verdicts, is empty."""
    by = (
        ("value ulp", "gradient ulp", "between two", "by their terms")
        if verbose
        else ("value off by", "gradient off by", "between libraries")
    )
    return ("loss", "mean loss", "norm of gradient", *by, "")


def cells(line: Line, verbose: bool) -> list[str]:
    """A line of the table up to its verdict."""
    by = [worst(line, ["value"]), worst(line, ["grad"]), worst(line, ["value", "grad"], between=True)]
    numbers = [format_ulp(r.max_ulp) if verbose else written(relative(r)) for r in by]
    count = [str(sum(r.conditioned for r in line.report.rows) or "")] if verbose else []
    return [line.label, f"{line.value:.7g}", f"{line.gradient:.4e}", *numbers, *count]


def worst(line: Line, quantities: Sequence[str], *, between: bool = False) -> Row:
    """The row with the largest difference from the reference, or between two libraries; an empty one where nothing was compared."""
    rows = [r for r in line.report.rows if r.quantity in quantities and r.count and (r.against == "each other") == between]
    return max(rows, key=relative, default=Row(line.label, ""))


def relative(row: Row) -> float:
    """The largest error as a relative difference: at most so much."""
    return row.max_ulp * 2.0 ** (1 - FORMATS[row.dtype].digits) if row.count else 0.0


def written(difference: float) -> str:
    """A relative difference as people read it."""
    return f"{difference:.1e}" if difference else "0"


def sentences(lines: Sequence[Line], backends: Sequence[str] | None, verbose: bool) -> Iterator[str]:
    """How many losses on which libraries, what fails, where the differences are largest, and what is not installed."""
    rows = [row for line in lines for row in line.report.rows]
    used = [name for name in LIBRARIES if any(r.backend == name and r.count for r in rows)]
    dtypes = list(dict.fromkeys(row.dtype for row in rows if row.backend in used))
    losses, forms = len({row.subject for row in rows}), len(lines) // max(1, len(dtypes))
    versions = joined([f"{called(name)} {LIBRARIES[name].version}" for name in used])
    in_forms = f" in {forms} forms (of logits, of probabilities, ...)" if forms > losses else ""
    computed = f"computed with {versions or 'no library'}" + (f", in {joined(dtypes)}" if dtypes else "")
    yield f"{losses} loss{'es' * (losses != 1)}{in_forms} and the gradients were {computed}."
    for line in lines:
        for row in line.report.failures:
            yield f"{line.label}: {describe(row)}" if verbose else failure(line.label, row)
    for between, whom in ((False, "from the exact numbers"), (True, "between two libraries")):
        found = [(line.label, r) for line in lines if (r := worst(line, list(QUANTITIES), between=between)).count]
        if found:
            label, row = max(found, key=lambda pair: relative(pair[1]))
            where = f", in the {QUANTITIES[row.quantity]} of {label} with {whose(row)}" if relative(row) else ""
            yield f"The largest relative difference {whom} is {written(relative(row))}{where}."
    for name, library in LIBRARIES.items():
        reason = library.missing() if backends is None else None
        if reason == "not installed":
            yield f"{called(name)} is not installed: pip install {INSTALLED_BY.get(name, name)}"
        elif reason:
            yield f"{called(name)} {reason}."


def failure(label: str, row: Row) -> str:
    """A failure: which number it is, and which it should be."""
    what = f"{label} differs: the {QUANTITIES.get(row.quantity, row.quantity)} in {row.dtype} with {whose(row)}"
    if row.worst is None:
        return f"{what}: {row.said}."
    apart = f"{row.worst.computed!r} where {row.other} {row.worst.exact!r}, a relative difference of {written(relative(row))}"
    return f"{what} is {apart} ({row.wrong} of {row.count} numbers are wrong; --verbose names the worst)."


def whose(row: Row) -> str:
    """The library of a row, or both."""
    return joined([called(name) for name in row.backend.replace("float64 reference", "numpy").split(" - ")])


def called(name: str) -> str:
    """A library by the name that people know."""
    return {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX", "dask": "Dask", "cupy": "CuPy", "strict": "array-api-strict"}.get(
        name, name
    )


def joined(names: Sequence[str]) -> str:
    """Names as a sentence lists them."""
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)
