"""What every loss of overlaps means, in mpmath: whole losses from whole arrays, by their textbook formulas.

Nothing here is taken from the library's own formulas: probabilities, sums and 1 - a / b at high precision, where the textbook's form
loses nothing that matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import mpmath
from mpmath import mpf

DIGITS = 80
Number = Any
Index = tuple[int, ...]
Field = Mapping[Index, Number]  # an array as a mapping from indices to numbers


@dataclass(frozen=True)
class OverlapOracle:
    """One loss: the overlap of some entries from their probabilities and targets, and options worth testing."""

    value: Callable[..., Number]
    options: tuple[Mapping[str, Any], ...] = field(default=({},))


OVERLAPS: dict[str, OverlapOracle] = {}


def overlap(*options: Mapping[str, Any]) -> Callable[[Callable[..., Number]], Callable[..., Number]]:
    """Enter a definition. It gets the probabilities and targets of every class as lists, and the weights of the classes."""

    def enter(value: Callable[..., Number]) -> Callable[..., Number]:
        OVERLAPS[value.__name__] = OverlapOracle(value, options or ({},))
        return value

    return enter


def one_minus(a: Number, b: Number) -> Number:
    """1 - a / b; a perfect overlap where both are nothing."""
    return mpf(0) if a == 0 and b == 0 else 1 - a / b


def counts(p: Sequence[Number], t: Sequence[Number]) -> tuple[Number, Number, Number]:
    """True positives, false positives, false negatives."""
    pairs = list(zip(p, t, strict=True))
    return (
        mpmath.fsum(a * b for a, b in pairs),
        mpmath.fsum(a * (1 - b) for a, b in pairs),
        mpmath.fsum((1 - a) * b for a, b in pairs),
    )


@overlap({}, {"smooth": 0.0}, {"squared": True}, {"squared": True, "smooth": 0.0})
def dice_loss(p: Sequence[Number], t: Sequence[Number], smooth: float = 1.0, squared: bool = False) -> Number:
    """One minus twice the overlap over the sum of both."""
    power = 2 if squared else 1
    both = mpmath.fsum(a**power for a in p) + mpmath.fsum(b**power for b in t)
    return one_minus(2 * mpmath.fsum(a * b for a, b in zip(p, t, strict=True)) + smooth, both + smooth)


@overlap({}, {"smooth": 0.0}, {"squared": True})
def jaccard_loss(p: Sequence[Number], t: Sequence[Number], smooth: float = 1.0, squared: bool = False) -> Number:
    """One minus the intersection over the union."""
    power = 2 if squared else 1
    shared = mpmath.fsum(a * b for a, b in zip(p, t, strict=True))
    union = mpmath.fsum(a**power for a in p) + mpmath.fsum(b**power for b in t) - shared
    return one_minus(shared + smooth, union + smooth)


@overlap({"alpha": 0.3, "beta": 0.7}, {"alpha": 1.5, "beta": 0.25, "smooth": 0.0})
def tversky_loss(p: Sequence[Number], t: Sequence[Number], alpha: float, beta: float, smooth: float = 1.0) -> Number:
    """Dice with a price for each kind of error."""
    tp, fp, fn = counts(p, t)
    return one_minus(tp + smooth, tp + mpf(alpha) * fp + mpf(beta) * fn + smooth)


@overlap({"alpha": 0.3, "beta": 0.7}, {"alpha": 0.5, "beta": 0.5, "gamma": 2.0, "smooth": 0.0})
def focal_tversky_loss(
    p: Sequence[Number], t: Sequence[Number], alpha: float, beta: float, gamma: float = 0.75, smooth: float = 1.0
) -> Number:
    """A power of the Tversky loss."""
    return tversky_loss(p, t, alpha, beta, smooth) ** mpf(gamma)


def generalized(
    p: Sequence[Sequence[Number]], t: Sequence[Sequence[Number]], weights: Sequence[Number], smooth: float, volume_weights: str
) -> Number:
    """One Dice of all classes, weighed by a power of their volumes in the target."""
    volumes = [mpmath.fsum(row) for row in t]
    smallest = min((v for v in volumes if v > 0), default=mpf(1))
    power = {"square": 2, "simple": 1, "uniform": 0}[volume_weights]
    scale = [w * ((smallest / v) ** power if v > 0 else 1) for w, v in zip(weights, volumes, strict=True)]
    both = mpmath.fsum(s * (mpmath.fsum(a) + v) for s, a, v in zip(scale, p, volumes, strict=True))
    shared = mpmath.fsum(s * counts(a, b)[0] for s, a, b in zip(scale, p, t, strict=True))
    return one_minus(2 * shared + smooth, both + smooth)


@overlap({}, {"smooth": 0.0}, {"volume_weights": "simple"}, {"volume_weights": "uniform"})
def generalized_dice_loss(
    p: Sequence[Sequence[Number]],
    t: Sequence[Sequence[Number]],
    weights: Sequence[Number],
    smooth: float = 1.0,
    volume_weights: str = "square",
) -> Number:
    """See `generalized`."""
    return generalized(p, t, weights, smooth, volume_weights)


def probabilities(x: Field, shape: Sequence[int], activation: str | None, axis: int | None) -> dict[Index, Number]:
    """Predictions to probabilities."""
    if activation is None:
        return dict(x)
    if activation == "sigmoid":
        return {i: 1 / (1 + mpmath.exp(-v)) for i, v in x.items()}
    assert axis is not None

    def row(i: Index) -> list[Number]:
        return [x[(*i[:axis], c, *i[axis + 1 :])] for c in range(shape[axis])]

    return {i: 1 / mpmath.fsum(mpmath.exp(v - x[i]) for v in row(i)) for i in x}


def whole(
    name: str,
    x: Field,
    t: Field,
    shape: Sequence[int],
    *,
    activation: str | None,
    axis: int | None = None,
    pool_axes: Sequence[int] | None = None,
    classes: Sequence[int] | None = None,
    class_weights: Sequence[float] | None = None,
    absent: str = "keep",
    weights: Field | None = None,
    where: Field | None = None,
    **options: Any,
) -> Number:
    """The mean loss of whole arrays: masks `t` of the shape of `x`, entries that count in `where`."""
    every = [i for i in product(*map(range, shape)) if where is None or where[i]]
    p = probabilities(x, shape, activation, axis)
    pool = [a for a in range(len(shape)) if a != axis] if pool_axes is None else list(pool_axes)
    chosen = [None] if axis is None else list(range(shape[axis]) if classes is None else classes)
    place = 0 if axis is None else axis
    kept = [a for a in range(len(shape)) if a not in pool and a != axis]
    assert weights is None, "weighed elements are compared with repeated ones"
    total, mass = mpf(0), mpf(0)
    for corner in product(*(range(shape[a]) for a in kept)):
        here = [i for i in every if all(i[a] == c for a, c in zip(kept, corner, strict=True))]
        rows_p = [[p[i] for i in here if c is None or i[place] == c] for c in chosen]
        rows_t = [[t[i] for i in here if c is None or i[place] == c] for c in chosen]
        scale = [mpf(1 if class_weights is None or c is None else class_weights[c]) for c in chosen]
        if absent == "skip":
            scale = [w if mpmath.fsum(row) > 0 else mpf(0) for w, row in zip(scale, rows_t, strict=True)]
        if name == "generalized_dice_loss":
            total, mass = total + generalized_dice_loss(rows_p, rows_t, scale, **options), mass + 1
            continue
        for w, a, b in zip(scale, rows_p, rows_t, strict=True):
            total, mass = total + w * OVERLAPS[name].value(a, b, **options), mass + w
    return total / mass if mass else mpf(0)


def gradient(name: str, x: Field, t: Field, shape: Sequence[int], at: Sequence[Index], **options: Any) -> list[Number]:
    """Derivatives of `whole` for some entries, by central differences at high precision."""
    out = []
    with mpmath.workdps(DIGITS):
        step = mpf(10) ** (-DIGITS // 4)
        for i in at:
            up, down = ({**x, i: x[i] + sign * step} for sign in (1, -1))
            out.append((whole(name, up, t, shape, **options) - whole(name, down, t, shape, **options)) / (2 * step))
    return out
