"""What every loss promises: its largest error, and the reason beside every figure that could be thought too large.

The tests assert this table over the sweeps, on every backend, eager and compiled; the page docs/accuracy.md is printed from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .sweeps import Floats, Numbers, Sweep
from .ulp import FORMATS, spacing


@dataclass(frozen=True)
class Bound:
    """The largest error in ulps, in float32 and in float64, and what it grows with.

    16-bit results are promised to 0.51 ulp throughout: they are computed in float32 and rounded once.
    """

    float32: float
    float64: float
    per_gamma: float = 0.0  # for every unit of gamma
    spread: bool = False  # half a relative epsilon for every unit that a logit which counts lies below the maximum of its row
    most: tuple[float, float] | None = None  # however wide the spread: ulps in float32 and float64
    terms: bool = False  # judged in ulps of the terms: the exact result has zeros of its own, where its terms cancel
    extra: Mapping[str, float] = field(default_factory=dict)  # on a backend (and dtype) with less accurate primitives
    underflow: int = 8  # bits above the smallest normal number below which a factor of the result may be subnormal
    reason: str = ""  # why it is not smaller

    def allowed(self, sweep: Sweep, numbers: Numbers, quantity: str, backend: str) -> Floats:
        """The largest error of every number, absolute."""
        size = np.abs(numbers.exact.high)
        of = np.fmax(size, numbers.terms) if self.terms else size
        if sweep.dtype in ("float16", "bfloat16") and not self.terms:
            return 0.51 * spacing(size, sweep.dtype)
        dtype = "float64" if sweep.dtype == "float64" else "float32"
        library = backend.split()[0]
        extra = self.extra.get(library, 0.0) + self.extra.get(f"{library} {dtype}", 0.0)
        allowed = (getattr(self, dtype) + self.per_gamma * sweep.gamma + extra) * spacing(of, dtype)
        if self.spread:
            power = 1 + sweep.gamma if "focal" in sweep.loss else 1
            below = sweep.spread["value" if quantity == "value" else "derivative"]
            allowed = allowed + power * below * np.ldexp(of, -FORMATS[dtype].digits)
        if self.most is not None:
            allowed = np.minimum(allowed, self.most[dtype == "float64"] * spacing(of, dtype))
        return allowed + (0.51 * spacing(size, sweep.dtype) if sweep.dtype in ("float16", "bfloat16") else 0.0)

    def __str__(self) -> str:
        grows = f" + {self.per_gamma:g} gamma" if self.per_gamma else ""
        grows += " + spread/2" if self.spread else ""
        most = ("", "") if self.most is None else tuple(f", at most {ulps:g}" for ulps in self.most)
        return f"{self.float32:g}{grows}{most[0]} / {self.float64:g}{grows}{most[1]}"


ZEROS = "in ulps of its terms, which cancel where the exact result is 0 itself"
SPREAD = "the exponential of x - max carries the rounding of x - max"
TWICE = "float64 has rows with a spread of 708, whose worst in the sweep is 506 ulp"
WIDEST = 70.0, 520.0
POWER = "a power carries the error of its base gamma times"
PRIMITIVES = f"{POWER}; NumPy's float32 exp has errors of 2.5 ulp, XLA's float64 exp of 2"
ROWS = "NumPy adds up a long row in eight sums, entry by entry: equal entries are rounded alike"
RANDOM = "over the sweep; of 190000 random rows in float32 one in a thousand is beyond 3.6 ulp (4.4 on NumPy), the worst at 6.7"
NOTHING = Bound(0, 0)


def _because(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def _table() -> dict[tuple[str, str, str], tuple[Bound, Bound, Bound | None]]:
    """(loss, what is given, hard or soft targets): value, gradient, Hessian diagonal."""
    numpy, jax = {"numpy float32": 2.0}, {"jax float64": 4.0}
    log1p = {"jax float64": 26.0}
    log1p_reason = "XLA's float64 log1p has errors up to 28 ulp between -0.4 and -0.3"
    made: dict[tuple[str, str, str], tuple[Bound, Bound, Bound | None]] = {
        ("sigmoid_cross_entropy", "logits", "hard"): (
            Bound(4, 2.5, reason="2 without pos_weight, which is rounded once more"),
            Bound(4, 2.5, reason="2 without pos_weight, which is rounded once more"),
            Bound(5, 4),
        ),
        ("sigmoid_cross_entropy", "logits", "soft"): (Bound(4, 4), Bound(4, 4, terms=True, reason=ZEROS), Bound(5, 4)),
        ("binary_cross_entropy", "probs", "hard"): (Bound(4, 2, extra=log1p, reason=log1p_reason), Bound(4, 2), Bound(4, 4)),
        ("binary_cross_entropy", "probs", "soft"): (
            Bound(4, 5, extra=log1p, reason=log1p_reason),
            Bound(4, 4, terms=True, reason=ZEROS),
            Bound(4, 4),
        ),
        ("sigmoid_focal_loss", "logits", "hard"): (
            Bound(5.4, 3.5, per_gamma=1.32, extra=numpy | jax, reason=PRIMITIVES),
            Bound(6, 4.5, per_gamma=1.4, extra=numpy | jax, reason=PRIMITIVES),
            Bound(6, 5.5, per_gamma=1.4, terms=True, underflow=14, reason=f"{POWER}; {ZEROS}"),
        ),
        ("sigmoid_focal_loss", "logits", "soft"): (
            Bound(6, 6, per_gamma=1.6, extra=numpy | jax, reason=PRIMITIVES),
            Bound(7, 7, per_gamma=1.6, extra=numpy | jax, terms=True, reason=f"{PRIMITIVES}; {ZEROS}"),
            Bound(8, 8, per_gamma=1.6, extra=numpy, terms=True, underflow=14, reason=f"{PRIMITIVES}; {ZEROS}"),
        ),
        ("sigmoid_focal_loss", "probs", "hard"): (
            Bound(5, 5, extra=log1p, reason=log1p_reason),
            Bound(5, 5, extra=log1p, reason=log1p_reason),
            None,
        ),
        ("sigmoid_focal_loss", "probs", "soft"): (
            Bound(5, 5, extra=log1p, reason=log1p_reason),
            Bound(5, 5, extra=log1p, terms=True, underflow=40, reason=f"{log1p_reason}; {ZEROS}"),
            None,
        ),
        ("squared_error", "numbers", "soft"): (Bound(2, 2), Bound(1, 1), Bound(0, 0)),
        ("huber_loss", "numbers", "soft"): (
            Bound(2, 2, reason="the difference is rounded before it is squared"),
            Bound(0.5, 0.5),
            Bound(0, 0),
        ),
        ("log_cosh_loss", "numbers", "soft"): (
            Bound(5, 3, extra={"jax": 3.0}, reason="XLA's sinh has errors of 3 ulp, and is squared"),
            Bound(3, 3, extra={"jax": 3.0}, reason="XLA's tanh has errors of 4 ulp"),
            Bound(6, 6, spread=True, reason="the exponential of twice the difference carries its rounding (spread: twice the difference)"),
        ),
        ("gaussian_nll_loss", "numbers", "soft"): (
            Bound(4, 4, terms=True, reason=ZEROS),
            Bound(4, 4, terms=True, reason=ZEROS),
            Bound(4, 4, terms=True, reason=ZEROS),
        ),
    }
    for targets in ("hard", "soft"):
        soft = targets == "soft"
        slope = f"{SPREAD}; {ZEROS}" if soft else SPREAD
        made["softmax_cross_entropy", "logits", targets] = (
            Bound(6, 6, spread=True, most=WIDEST, reason=f"{SPREAD}; {TWICE}"),
            Bound(6, 6, spread=True, most=WIDEST, terms=soft, reason=f"{slope}; {TWICE}"),
            Bound(8, 8, spread=True, reason=SPREAD),
        )
        made["nll_loss", "log_probs", targets] = Bound(3, 3), Bound(2, 2), Bound(0, 0)
        made["nll_loss", "probs", targets] = Bound(3, 3), Bound(2, 2), Bound(3, 3)
        made["softmax_focal_loss", "logits", targets] = (
            Bound(8, 8, per_gamma=6, spread=True, reason=f"{SPREAD}; {POWER}"),
            Bound(8, 8, per_gamma=6, spread=True, terms=soft, reason=f"{slope}; {POWER}"),
            None if soft else Bound(12, 12, per_gamma=6, spread=True, terms=True, underflow=14, reason=f"{SPREAD}; {POWER}; {ZEROS}"),
        )
        made["softmax_focal_loss", "probs", targets] = Bound(5, 5), Bound(5, 5), None
    for loss in ("dice_loss", "jaccard_loss", "tversky_loss", "focal_tversky_loss", "generalized_dice_loss"):
        power, why = (2.0, POWER) if loss == "focal_tversky_loss" else (0.0, "")
        for targets in ("hard", "soft"):
            soft = targets == "soft"
            for given in ("softmax", "sigmoid", "probs"):
                spread = SPREAD if given == "softmax" else ""
                zeros = ZEROS if soft or spread else ""
                made[loss, given, targets] = (
                    Bound(4, 4, per_gamma=power, spread=bool(spread), reason=_because(spread, why)),
                    Bound(16, 16, per_gamma=power, spread=bool(spread), terms=bool(zeros), reason=_because(spread, why, zeros)),
                    None,
                )
    made["kl_divergence", "logits", "soft"] = (
        Bound(4, 4, extra={"numpy": 2.0}, underflow=26, reason=f"{RANDOM}; {ROWS}"),
        Bound(4, 4, extra={"numpy": 2.0}, terms=True, underflow=26, reason=f"{RANDOM}; {ROWS}; {ZEROS}"),
        Bound(5, 4, underflow=26),
    )
    return made


PROMISES = _table()


def promised() -> str:
    """The page that states what every loss promises."""
    rows = []
    notes: dict[str, int] = {}
    for (loss, given, targets), bounds in PROMISES.items():
        cells = []
        for bound in bounds:
            if bound is None:
                cells.append("-")
                continue
            marks = [] if not bound.reason else [f"[{notes.setdefault(part, len(notes) + 1)}]" for part in bound.reason.split("; ")]
            more = "".join(f", {name} +{ulps:g}" for name, ulps in bound.extra.items())
            cells.append(" ".join([f"{bound}{more}", *marks]))
        rows.append(f"| `{loss}` | {given} | {targets} | " + " | ".join(cells) + " |")
    reasons = [f"{number}. {reason[0].upper()}{reason[1:]}." for reason, number in notes.items()]
    return "\n".join([*_HEAD.splitlines(), *rows, "", "## Why some figures are not smaller", "", *reasons, ""])


_HEAD = """# What every loss promises

The largest error of a value, a gradient and a Hessian diagonal in units in the last place (ulp) of the exact result, float32 / float64, on
NumPy, PyTorch and JAX, eager and compiled. float16 and bfloat16 are computed in float32 and rounded once: 0.51 ulp throughout.

The tests assert this table against definitions in mpmath at 60 digits, over magnitudes from 1e-30 to 1e4, all the gammas, hard and soft
targets, tied, confident and wide rows of 2 to 1000 classes. `arrayloss check --accuracy` measures the same on your machine. Two backends
differ by no more than the sum of their bounds. There is no NaN, and no zero or infinity where the exact result is finite and normal.

`gamma` is that of the focal losses. `spread` is how far a logit lies below the maximum of its row, as far as it counts: spread/2 is
counted in relative epsilons (up to twice as many ulps), and a focal loss has it 1 + gamma times. "Soft" are targets that are neither
labels nor 0 and 1, and all targets of regression. For losses of overlaps "given" is the activation; where `smooth` is 0 every class is
there, since an absent one has the loss 1 as long as its probabilities do not underflow, and then 0.

Results within 8 bits of the smallest normal number are set apart (14 bits for the Hessian diagonal of focal losses, 40 for soft targets
of focal losses from probabilities, 26 for the divergence): a factor or a correction of them may be subnormal, and XLA makes it 0.

| loss | given | targets | value | gradient | Hessian diagonal |
| --- | --- | --- | --- | --- | --- |"""
