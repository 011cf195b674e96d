"""How accurate a loss promises to be: its largest error, and the reason beside every figure that could be thought too large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

ZEROS = "in ulps of its terms, which cancel where the exact result is 0 itself"
SPREAD = "the exponential of x - max carries the rounding of x - max"
POWER = "a power carries the error of its base gamma times"
PRIMITIVES = f"{POWER}; NumPy's float32 exp has errors of 2.5 ulp, XLA's float64 exp of 2"
LOG1P = "XLA's float64 log1p has errors up to 28 ulp between -0.4 and -0.3"


@dataclass(frozen=True)
class Bound:
    """The largest error in ulps, in float32 and in float64, what it grows with, and the reasons why it is not smaller.

    16-bit results are within 0.51 ulp throughout: they are computed in float32 and rounded once.
    """

    float32: float
    float64: float
    reason: str = ""  # several are separated by "; "
    per_gamma: float = 0.0  # for every unit of gamma
    spread: int = 0  # how often half a relative epsilon for every unit that a logit which counts lies below the maximum of its row
    of_label: bool = False  # that spread, and how far the label lies below the maximum
    at_most: tuple[float, float] | None = None  # however wide the spread: ulps in float32 and float64
    of_terms: bool = False  # in ulps of the terms: the exact result has zeros of its own, where its terms cancel
    extra: Mapping[str, float] = field(default_factory=dict)  # on a backend (and dtype) with less accurate primitives
    underflow: int = 8  # bits above the smallest normal number below which a factor of the result may be subnormal

    def ulps(self, dtype: str, backend: str, gamma: float) -> float:
        """The bound of a number that no spread moves. Eager PyTorch on the CPU and others compute by NumPy's primitives."""
        width = "float64" if dtype == "float64" else "float32"
        library = "numpy" if backend in ("torch", "torch large", "strict", "dask") else backend.split()[0]
        extra = self.extra.get(library, 0.0) + self.extra.get(f"{library} {width}", 0.0)
        return float(getattr(self, width)) + self.per_gamma * gamma + extra

    def with_zeros(self, **others: Any) -> Bound:
        """The same in ulps of the terms."""
        return replace(self, of_terms=True, reason="; ".join(filter(None, (self.reason, ZEROS))), **others)

    def __str__(self) -> str:
        grows = f" + {self.per_gamma:g} gamma" if self.per_gamma else ""
        spreads = "two spreads" if self.of_label else "spread" if self.spread == 1 else f"{self.spread} spreads"
        grows += f" + {spreads}/2" if self.spread else ""
        most = ("", "") if self.at_most is None else tuple(f", at most {ulps:g}" for ulps in self.at_most)
        extra = "".join(f", {name} +{ulps:g}" for name, ulps in self.extra.items())
        return f"{self.float32:g}{grows}{most[0]} / {self.float64:g}{grows}{most[1]}{extra}"


class Promise(NamedTuple):
    """The bounds of the value, the gradient and the Hessian diagonal; None where there is no Hessian."""

    value: Bound
    grad: Bound
    hess: Bound | None = None

    @classmethod
    def of_all(cls, bound: Bound) -> Promise:
        """One bound for all three."""
        return cls(bound, bound, bound)

    def with_zeros(self) -> Promise:
        """The same with the gradient in ulps of its terms."""
        return self._replace(grad=self.grad.with_zeros())


def within_spread(*bounds: Bound | None, times: int = 1) -> Promise:
    """A promise that grows with the spread of a row, or several times it."""
    several = [b and replace(b, spread=times, reason="; ".join(filter(None, (SPREAD, b.reason)))) for b in bounds]
    return Promise(*several)  # type: ignore[arg-type]
