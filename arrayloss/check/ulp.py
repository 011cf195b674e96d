"""Counting in units in the last place, truthfully.

An error is |computed - exact| divided by the spacing of the dtype at the exact number. The exact number is a pair of float64,
their sum, so that float64 results can be judged too. A result is right if its error is at most `max_ulp`; beyond that only

* where the number itself is badly conditioned (near a zero of a second derivative, say, or in a row with a wide spread), in
  proportion to what the last place of the *input* moves it: there a relative error says nothing;
* where the exact number is subnormal, and the result is subnormal or zero: XLA, for one, flushes those. They are counted apart,
  and so is a zero for a number so small that a factor of it can be subnormal.

NaN agrees with NaN only where the exact number is NaN, an infinity with the same infinity only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Format:
    """A floating-point format: digits of its significand, and its exponents."""

    digits: int
    low: int  # the smallest normal number is 2**low
    high: int  # numbers stay below 2**high


FORMATS = {
    "float16": Format(11, -14, 16),
    "bfloat16": Format(8, -126, 128),
    "float32": Format(24, -126, 128),
    "float64": Format(53, -1022, 1024),
}


UNDERFLOW = 2.0**8  # above the smallest normal number by this factor, a zero may still be a flushed factor


@dataclass(frozen=True)
class Exact:
    """Numbers, each the sum of two float64, and the sums of the absolute terms that each is made of."""

    high: Floats
    low: Floats
    terms: Floats

    @classmethod
    def of(cls, values: Any) -> Exact:
        """Plain float64 numbers."""
        high = np.asarray(values, dtype=np.float64)
        return cls(high, np.zeros_like(high), np.abs(high))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.high.shape


@dataclass(frozen=True)
class Judgement:
    """What became of every number."""

    errors: Floats  # in ulps; 0 where subnormal
    judged: Floats  # the same, but of numbers that are right by what the inputs' last place moves them: in units of that
    wrong: np.ndarray[Any, np.dtype[np.bool_]]
    lost: int  # wrong numbers that would be right beside the largest of the batch: the same loss, with digits lost
    conditioned: int  # beyond max_ulp, and right because the input's last place moves the number by more
    flushed: int  # subnormal numbers that came out as 0
    subnormal: int

    @property
    def worst(self) -> int:
        """Where the largest error is."""
        return int(np.argmax(self.judged))

    @property
    def max_ulp(self) -> float:
        return float(self.judged.max(initial=0.0))


def spacing(size: Floats, dtype: str) -> Floats:
    """The distance of neighbouring numbers of a dtype at numbers of that size."""
    f = FORMATS[dtype]
    _, exponent = np.frexp(np.where(np.isfinite(size), size, 1.0))
    exponent = np.where(size == 0, f.low + 1, exponent)
    return np.ldexp(1.0, np.maximum(exponent - 1, f.low) - (f.digits - 1))


def in_ulps(computed: Floats, exact: Exact, dtype: str) -> Floats:
    """The error of every number in ulps; infinite where one is not finite and the other does not agree."""
    f = FORMATS[dtype]
    with np.errstate(all="ignore"):
        largest = np.ldexp(2.0 - np.ldexp(1.0, -f.digits), f.high - 1)  # what rounds to infinity
        high = np.where(np.abs(exact.high) >= largest, np.copysign(np.inf, exact.high), exact.high)
        errors = np.abs((computed - high) - exact.low) / spacing(np.abs(high), dtype)
    same = (computed == high) & ~np.isfinite(high) | (np.isnan(computed) & np.isnan(high))
    errors = np.where(same, 0.0, errors)
    return np.where(np.isnan(errors), np.inf, errors)


def flushable(computed: Any, exact: Exact, dtype: str) -> Any:
    """Where a zero stands for a number so small that it, or a factor of it, is subnormal."""
    size = np.abs(exact.high)
    return (np.asarray(computed) == 0) & (size > 0) & (size < UNDERFLOW * np.ldexp(1.0, FORMATS[dtype].low))


def judge(
    computed: Any, exact: Exact, dtype: str, max_ulp: float, moved: Callable[[Any], Floats], *, relative_to: str = "number"
) -> Judgement:
    """Judge results. `moved(wrong)` says by how much a relative change of the inputs changes the numbers that the mask names.

    `relative_to="batch"` takes the spacing at the largest number of the batch for all of them.
    """
    computed = np.asarray(computed, dtype=np.float64)
    if computed.shape != exact.shape:
        raise ValueError(f"the result has shape {computed.shape} where {exact.shape} was declared")
    f = FORMATS[dtype]
    errors = in_ulps(computed, exact, dtype)
    tiny = np.ldexp(1.0, f.low)
    subnormal = (np.abs(exact.high) < tiny) & (np.abs(computed) <= tiny) & ((exact.high != 0) | (computed != 0))
    subnormal |= flushable(computed, exact, dtype)
    errors = np.where(subnormal, 0.0, errors)
    judged = errors.copy()
    absolute = errors * spacing(np.abs(exact.high), dtype)
    largest: Any = np.max(np.abs(exact.high), where=np.isfinite(exact.high), initial=0.0)
    beside = absolute / spacing(np.asarray(largest), dtype)
    if relative_to == "batch":
        judged = np.where(np.isfinite(errors), beside, errors)
    beyond = judged > max_ulp
    finite = beyond & np.isfinite(errors)
    if finite.any():
        units = np.maximum(np.ldexp(moved(finite), 1 - f.digits), spacing(np.abs(exact.high[finite]), dtype))
        judged[finite] = absolute[finite] / units
    wrong = judged > max_ulp
    judged = np.where(wrong, errors, judged)
    lost = int((wrong & (beside <= max_ulp)).sum())
    conditioned = int((beyond & ~wrong).sum())
    return Judgement(errors, judged, wrong, lost, conditioned, int((subnormal & (computed == 0)).sum()), int(subnormal.sum()))
