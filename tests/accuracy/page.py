"""The page that states what every loss promises."""

from __future__ import annotations

from pathlib import Path

from arrayloss.check.definitions import DEFINITIONS, Bound, Definition

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"
HEAD = """# What every loss promises

The largest error of a value, a gradient and a Hessian diagonal in units in the last place (ulp) of the exact result, float32 / float64, on
NumPy, PyTorch and JAX, eager and compiled. float16 and bfloat16 are computed in float32 and rounded once: 0.51 ulp throughout.
PyTorch on the CPU, eager, computes as NumPy does: what is added for NumPy is added there too.

The tests assert this table against definitions in mpmath at 60 digits, over magnitudes from 1e-30 to 1e4, all the gammas, hard and soft
targets, tied, confident and wide rows of 2 to 1000 classes. `arrayloss check --accuracy` measures the same on your machine. Two backends
differ by no more than the sum of their bounds. There is no NaN, and no zero or infinity where the exact result is finite and normal.

`gamma` is that of the focal losses. `spread` is how far a logit lies below the maximum of its row, as far as it counts: spread/2 is
counted in relative epsilons (up to twice as many ulps), and a focal loss has it 1 + gamma times. "Soft" are targets that are neither
labels nor signs nor 0 and 1, and all targets of regression. "Given" are the predictions, of divergences also the targets; for losses of
overlaps it is the activation, and where `smooth` is 0 every class is there, since an absent one has the loss 1 as long as its
probabilities do not underflow, and then 0.

Results within 8 bits of the smallest normal number are set apart (14 bits for the Hessian diagonal of focal losses, 40 for soft targets
of focal losses from probabilities, 26 for the divergence, 20 for capped and changed logits): a factor or a correction of them may be
subnormal, and XLA makes it 0.

| loss | given | targets | value | gradient | Hessian diagonal |
| --- | --- | --- | --- | --- | --- |"""


def printed() -> str:
    """The page."""
    notes: dict[str, int] = {}
    rows = [
        _row(d, targets, notes)
        for several in sorted(DEFINITIONS.values(), key=lambda d: d[0].whole)
        for d in several
        for targets in _targets(d)
    ]
    reasons = [f"{number}. {reason[0].upper()}{reason[1:]}." for reason, number in notes.items()]
    return "\n".join([*HEAD.splitlines(), *rows, "", "## Why some figures are not smaller", "", *reasons, ""])


def _targets(definition: Definition) -> list[str]:
    """The rows of a definition: one where the promise is the same for all targets."""
    hard = {"labels", "binary", "signs"} & set(definition.targets)
    soft = {"unit", "distribution"} & set(definition.targets) or definition.regions
    if not hard:
        return ["soft"]
    return ["hard, soft"] if soft and definition.hard == definition.soft else ["hard", "soft"] if soft else ["hard"]


def _row(definition: Definition, targets: str, notes: dict[str, int]) -> str:
    promise = definition.hard if "hard" in targets else definition.soft
    cells = [_cell(bound, notes) for bound in promise or (None, None, None)]
    return f"| `{definition.loss}` | {definition.given} | {targets} | " + " | ".join(cells) + " |"


def _cell(bound: Bound | None, notes: dict[str, int]) -> str:
    if bound is None:
        return "-"
    reasons = bound.reason.split("; ") if bound.reason else []
    return " ".join([str(bound), *[f"[{notes.setdefault(reason, len(notes) + 1)}]" for reason in reasons]])
