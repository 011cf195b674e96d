"""What a diagnosis says: the verdict, the reasons for it, and the first screen."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any

MOST_LINES, LARGEST_WIDTH = 25, 80

CODES = {
    "factor": "it is a constant multiple of the loss",
    "denominator": "it divides by something else",
    "sum_for_mean": "it adds up where the loss takes the mean",
    "mean_for_sum": "it takes the mean where a sum was asked for",
    "sign": "it has the other sign",
    "offset": "a constant is added",
    "axis": "the classes are taken along another axis",
    "softmax_twice": "softmax is applied to what is a softmax already",
    "softmax_missing": "logits are taken for log-probabilities or probabilities",
    "sigmoid_twice": "sigmoid is applied to what is a sigmoid already",
    "sigmoid_missing": "logits are taken for probabilities",
    "sigmoid_for_softmax": "every class has a sigmoid of its own where the loss has one softmax",
    "softmax_for_sigmoid": "one softmax where every class has a sigmoid of its own",
    "alpha_swapped": "alpha weighs the negative elements",
    "alpha_constant": "alpha multiplies all elements alike",
    "alpha_missing": "alpha has no effect",
    "gamma": "another gamma",
    "option": "another constant",
    "label_smoothing": "another label smoothing",
    "clamp": "probabilities are clamped",
    "epsilon": "a number is added to probabilities",
    "labels_shifted": "labels are shifted",
    "ignored_label_counted": "an ignored label is counted",
    "detached": "the gradient takes a part of the value for a constant",
    "zero_gradient": "the gradient is 0",
    "wrong_gradient": "the gradient is not the slope of the value",
    "gradient_of_another": "the gradient is that of another loss",
    "inputs_changed": "it changes its inputs",
    "noise": "two calls give two numbers",
    "state": "a call depends on earlier calls",
    "batch_dependence": "the loss of a row depends on other rows",
    "overflow": "it overflows",
    "digits_lost": "small results lose digits",
    "float16": "it is wrong in float16 only",
    "strided": "it is wrong for arrays that are not contiguous",
    "from_classes": "it is wrong from a number of classes on",
    "from_elements": "it is wrong from a number of elements on",
    "dtype": "it returns another dtype",
    "shape": "it returns another shape",
    "another_loss": "it is another loss",
    "unexplained": "it is none of the losses, nor one with a defect that is known",
    "import_error": "it cannot be imported",
    "raises": "it raises an error",
    "exits": "it ends the process",
    "hangs": "it does not come to an end",
    "dies": "its process dies",
    "no_number": "it returns no numbers",
}


@dataclass(frozen=True)
class Reason:
    """One thing that is different: its code, what it is in words, the smallest example that shows it, and what to change."""

    code: str  # one of CODES
    text: str
    example: str = ""
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        return {"code": self.code, "text": self.text, "example": self.example, "fix": self.fix}


@dataclass
class Diagnosis:
    """What is known of one function: how it is called, which loss it is, and what is different.

    >>> reason = Reason("sum_for_mean", "It adds up.", fix="take the mean")
    >>> found = Diagnosis("mse", "numpy", "different", "squared_error", reasons=[reason])
    >>> print("\\n".join(found.lines()))
    mse is not squared_error.
    <BLANKLINE>
    It adds up. [sum_for_mean]
    To change: take the mean
    """

    name: str
    library: str
    verdict: str = "not_compared"
    reference: str = ""  # the call that it was compared with
    taken: str = ""  # how it is called, in one line
    reasons: list[Reason] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)  # the calls that replace it, simplest first
    residual: float | None = None  # relative, of the first of them, or of the nearest
    ruled_out: list[str] = field(default_factory=list)
    convention: dict[str, Any] = field(default_factory=dict)  # what a check of its numbers is called with

    @property
    def title(self) -> str:
        """The verdict as a sentence."""
        whom = self.reference or (self.calls[0] if self.calls else "")
        return {
            "same": f"{self.name} is the same loss as {whom}.",
            "digits": f"{self.name} is the same loss as {whom}, but for digits.",
            "different": f"{self.name} is not {whom or 'a loss of this package'}.",
            "not_compared": f"{self.name} was not compared.",
        }[self.verdict]

    def lines(self, width: int = LARGEST_WIDTH) -> list[str]:
        """The first screen."""
        lines = _fold(self.title, width)
        if self.taken:
            lines += _fold(f"taken as: {self.taken}", width)
        shown = self.reasons[:3]
        for reason in shown:
            lines += ["", *_fold(f"{reason.text} [{reason.code}]", width)]
            lines += [line[:width] for line in reason.example.splitlines()]
            if reason.fix:
                lines += _fold(f"To change: {reason.fix}", width)
        if more := self.reasons[len(shown) :]:
            lines += ["", *_fold(f"And: {', '.join(r.code for r in more)}.", width)]
        if len(self.calls) > 1:
            lines += ["", *_fold(f"The same number have: {'; '.join(self.calls[1:])}", width)]
        for note in self.notes:
            lines += _fold(note, width)
        return lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "(--verbose says more)"]

    def to_dict(self) -> dict[str, Any]:
        plain = {k: v for k, v in vars(self).items() if k not in ("reasons", "convention")}
        return plain | {"reasons": [r.to_dict() for r in self.reasons]}


def _fold(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=True, break_on_hyphens=False) or [""]
