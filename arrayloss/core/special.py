"""Stable special functions, written once in the array API.

A namespace that derives from `Native` may offer its own version of any of them under the same name (a fused primitive,
say); it is then preferred. The forms here are also safe to differentiate: no branch that `where` leaves out can put a NaN
into a derivative, and the derivative at 0 is the true one (`abs` and `maximum` have a wrong one there, exactly where a
zero-initialised model stands).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from . import dtypes

Array = Any
F = TypeVar("F", bound=Callable[..., Any])


class Native:
    """Base of the namespaces that adapters hand to kernels: native primitives, and beside them the names of `library`."""

    library: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)

    def native(self, name: str) -> Any:
        """Its own version of a special function, or None; not what `__getattr__` finds."""
        return getattr(self, name) if hasattr(type(self), name) else None


def native_first(function: F) -> F:
    """A namespace's own version of a function is preferred."""
    name = function.__name__

    @wraps(function)
    def pick(xp: Any, *args: Any, **kwargs: Any) -> Any:
        native = xp.native(name) if isinstance(xp, Native) else None
        return function(xp, *args, **kwargs) if native is None else native(*args, **kwargs)

    return pick  # type: ignore[return-value]  # the same signature, by construction


@native_first
def mix(xp: Any, a: Array, b: Array, t: Array) -> Array:
    """t*a + (1-t)*b: a choice where the targets t are boolean, exact at both ends where they are not."""
    if is_hard(t):
        return xp.where(t, a, b)
    return t * a + (1 - t) * b


@native_first
def power(xp: Any, base: Array, exponent: Any) -> Array:
    """base ** exponent for base >= 0, with 0 ** 0 = 1 and a finite derivative at base 0.

    Small whole exponents are multiplications: faster than `pow`, and rounded once or twice only.
    """
    if isinstance(exponent, int | float):
        if exponent == int(exponent) and 0 <= exponent <= 8:
            return _whole_power(xp, base, int(exponent))
        if exponent >= 1:
            return base**exponent
    zero = base == 0
    grown = xp.where(zero, xp.ones_like(base), base) ** exponent
    at_zero = 0.0 if isinstance(exponent, int | float) else xp.astype(exponent == 0, base.dtype)
    return xp.where(zero, at_zero, grown)


def _whole_power(xp: Any, base: Array, exponent: int) -> Array:
    if exponent == 0:
        return xp.ones_like(base)
    if exponent == 1:
        return base
    half = _whole_power(xp, base, exponent // 2)
    return half * half * base if exponent % 2 else half * half


def fold(xp: Any, x: Array) -> tuple[Array, Array]:
    """x >= 0 and |x|; the derivative of |x| at 0 is 1, which agrees with the choice `x >= 0` everywhere below."""
    positive = x >= 0
    return positive, xp.where(positive, x, -x)


@native_first
def sigmoid_pair(xp: Any, x: Array) -> tuple[Array, Array]:
    """p = sigmoid(x) and q = 1 - p, both without cancellation."""
    positive, size = fold(xp, x)
    u = xp.exp(-size)
    one = xp.ones_like(u)
    return xp.where(positive, one, u) / (1 + u), xp.where(positive, u, one) / (1 + u)


@native_first
def logistic(xp: Any, x: Array) -> tuple[Array, Array, Array, Callable[[], Array]]:
    """h, q, -log(1 - q) and the tail: the likelier answer, 1 or 0; the probability of the other one; the loss of h itself; h - sigmoid(x).

    The tail is q with the sign of x, given when it is called. What is taken from sigmoid(x) is taken from h first: nothing is lost.
    """
    positive, size = fold(xp, x)
    u = xp.exp(-size)
    q = u / (1 + u)
    return xp.astype(positive, x.dtype), q, xp.log1p(u), lambda: xp.where(positive, q, -q)


@native_first
def beside(xp: Any, a: Array, factor: Any, b: Array, t: Array) -> Array:
    """a + factor * (1 - 2*t) * b: b is taken from a where t is 1, and added where it is 0."""
    return a + factor * (1 - 2 * t) * b


@native_first
def beyond(xp: Any, p: Array, t: Array) -> Array:
    """(1 - t) * p: what is predicted where the target is not."""
    return (1 - t) * p


@native_first
def overlaps(
    xp: Any, t: Array, p: Array, axis: int, shape: tuple[int, ...], axes: tuple[int, ...], dtype: Any, of_labels: bool
) -> tuple[Array, ...] | None:
    """The sums of t * p, (1 - t) * p and t * (1 - p) over `axes`, kept, for rows p that add up to 1 along `axis`; None where there is
    no shorter way than the terms. `of_labels`: t is 1 for one class of each row and 0 for the others.
    """
    return None


@native_first
def magnitude(xp: Any, off: Array, h: Array) -> Array:
    """|off|, for off >= 0 where h is 1 and off <= 0 where it is 0: then it has a derivative at 0 too."""
    return (2 * h - 1) * off


@native_first
def plus_product(xp: Any, c: Array, a: Array, b: Array) -> Array:
    """c + a * b, where 0 times infinity is 0. c may be overwritten."""
    return c + product(xp, a, b)


@native_first
def xlogy(xp: Any, x: Array, y: Array) -> Array:
    """x * log(y), and 0 where both are 0."""
    both = (x == 0) & (y == 0)
    return xp.where(both, xp.zeros_like(y), x * xp.log(xp.where(both, xp.ones_like(y), y)))


@native_first
def xlog1py(xp: Any, x: Array, y: Array) -> Array:
    """x * log(1 + y), and 0 where x and 1 + y are both 0."""
    both = (x == 0) & (y == -1)
    return xp.where(both, xp.zeros_like(y), x * xp.log1p(xp.where(both, xp.zeros_like(y), y)))


@native_first
def ratio(xp: Any, a: Array, b: Array, zero_over_zero: Any) -> Array:
    """a / b, with a value for 0 / 0 (or a function that gives it); a / 0 stays infinite.

    What underflows on both sides is 0 / 0 too: such a quotient has no digits, XLA flushes its terms to 0, and the 1 / b in its
    derivative is infinite. A factor of 4 leaves room for a numerator and a denominator on different sides of that line.
    """
    low = 4 * dtypes.smallest_normal(b.dtype)
    both = (abs(a) <= low) & (abs(b) <= low)
    return xp.where(both, zero_over_zero() if callable(zero_over_zero) else zero_over_zero, xp.divide(a, xp.where(both, 1.0, b)))


@native_first
def product(xp: Any, a: Array, b: Array) -> Array:
    """a * b, and 0 where a is 0 even if b is infinite."""
    lost = (a == 0) & (abs(b) == float("inf"))  # and nowhere else: the derivative for a is b
    return xp.where(lost, 0.0, a * xp.where(lost, 0.0, b))


def is_hard(t: Array) -> bool:
    """Whether targets are 0 or 1 by their type."""
    return dtypes.kind(t.dtype) == "bool"


@native_first
def as_float(xp: Any, t: Array, like: Array) -> Array:
    """Boolean targets as numbers."""
    return xp.astype(t, like.dtype) if is_hard(t) else t


@native_first
def as_index(xp: Any, a: Array) -> Array:
    """Labels in the integer dtype that gathers take."""
    return xp.astype(a, xp.int64, copy=False)


@native_first
def narrow(xp: Any, labels: Array, classes: int) -> Array:
    """Labels from 0 to `classes` - 1, perhaps in a smaller dtype; what is out of range may become something else that is."""
    return labels


@native_first
def in_range(xp: Any, labels: Array, classes: int) -> bool:
    """Whether labels name classes, read now."""
    low, high = bounds(xp, labels)
    return low >= 0 and high < classes


@native_first
def bounds(xp: Any, a: Array) -> tuple[int, int]:
    """The smallest and the largest of some labels, read now."""
    return int(xp.min(a)), int(xp.max(a))


def constant(xp: Any, number: float, dtype: Any, like: Array) -> Array:
    """A number as an array of as many dimensions as `like`, on its device: libraries have another one by default."""
    return xp.full((1,) * like.ndim, number, dtype=dtype, device=getattr(like, "device", None))  # Dask has none


@native_first
def positions(xp: Any, a: Array, axis: int) -> Array:
    """0, 1, 2, ... along one axis of `a`, on its device, with size 1 along the others."""
    shape = [1] * a.ndim
    shape[axis] = a.shape[axis]
    device = getattr(a, "device", None)  # Dask has none
    return xp.reshape(xp.arange(a.shape[axis], device=device), tuple(shape))


@native_first
def at_label(xp: Any, a: Array, labels: Array, axis: int) -> Array:
    """The entry of every row that its label names, the axis kept with size 1. Labels are in range."""
    if hasattr(xp, "take_along_axis"):
        return xp.take_along_axis(a, labels, axis=axis)
    here = positions(xp, a, axis) == labels
    return xp.sum(xp.where(here, a, xp.zeros_like(a)), axis=axis, keepdims=True)


@native_first
def with_label(xp: Any, a: Array, labels: Array, entries: Any, axis: int) -> Array:
    """The rows `a`, with the entry that a row's label names replaced."""
    return xp.where(positions(xp, a, axis) == labels, entries, a)


@native_first
def one_hot(xp: Any, labels: Array, like: Array, axis: int) -> Array:
    """Labels as masks: booleans, or the numbers 0 and 1. Labels are in range."""
    return positions(xp, like, axis) == labels


@native_first
def softmax_rows(xp: Any, x: Array, axis: int) -> tuple[Array, Array, Array, Array]:
    """top, d, e, s: where a row has its maximum m, d = x - m, e = exp(d), and s = the sum of e beside the maximum.

    softmax is e / (1 + s). The sum leaves the maximum out, so that a confident row keeps its digits: log-sum-exp is
    m + log1p(s), and 1 - p at the maximum is s / (1 + s).
    """
    top = xp.expand_dims(xp.argmax(x, axis=axis), axis=axis)
    m = at_label(xp, x, top, axis)
    here = positions(xp, x, axis) == top
    # A constant at the maximum: not inf - inf where that is infinite, and no derivative of it and of m that cancel each other
    d = xp.where(here | (x == float("inf")), xp.zeros_like(x), x - m)
    e = xp.exp(d)
    s = xp.sum(xp.where(here, xp.zeros_like(e), e), axis=axis, keepdims=True)
    return top, d, e, s


@native_first
def softmax_pair(xp: Any, x: Array, axis: int) -> tuple[Array, Array, Array, Array]:
    """Where a row has its maximum; p = softmax(x), q = 1 - p and -log(p), all three without cancellation."""
    top, d, e, s = softmax_rows(xp, x, axis)
    p = e / (1 + s)
    return top, p, with_label(xp, 1 - p, top, s / (1 + s), axis), xp.log1p(s) - d


@native_first
def softmax_parts(
    xp: Any, x: Array, axis: int, kept: Array | None = None, place: Array | None = None
) -> tuple[Array, Array, Callable[[], Array]]:
    """Where a row has its maximum (for `softmax_back`), p = softmax(x), and q = 1 - p without cancellation, when it is called.

    `kept`: the p of an earlier call, and `place`: where p may be put, for forms that they spare work.
    """
    top, _, e, s = softmax_rows(xp, x, axis)
    p = e / (1 + s)
    return top, p, lambda: with_label(xp, 1 - p, top, s / (1 + s), axis)


@native_first
def softmax_back(xp: Any, top: Array, p: Array, u: Array, axis: int) -> Array:
    """p * (u - sum(p * u)), the derivatives for logits from those for p.

    u counts from its entry at the maximum: for confident rows, as it stands, that difference has lost everything. p may be
    overwritten.
    """
    v = u - at_label(xp, u, top, axis)
    return p * (v - xp.sum(p * v, axis=axis, keepdims=True))


@native_first
def softmax_pull(xp: Any, top: Array, p: Array, q: Array, weight: Array, axis: int) -> Array:
    """p * sum(weight) - weight, the slope of the sum of weight_c * -log(p_c): as a difference of what does not cancel.

    Beside the maximum q is at least 1/2. At the maximum q may be tiny, and what the other classes weigh must keep its digits:
    it is summed, not left over from the whole.
    """
    others = xp.sum(with_label(xp, weight, top, 0.0, axis), axis=axis, keepdims=True)
    beside = with_label(xp, others + at_label(xp, weight, top, axis) - weight, top, others, axis)
    return beside * p - weight * q


@native_first
def softmax_at_label(xp: Any, x: Array, labels: Array, axis: int) -> tuple[Array, Array, Array]:
    """-log(p_y), its derivative p - 1 at y and p elsewhere, and q_y = 1 - p_y; p = softmax(x), without cancellation."""
    m = xp.max(x, axis=axis, keepdims=True)

    def below(x: Array) -> Array:
        return xp.where(x == float("inf"), xp.zeros_like(x), x - m)

    return at_label_of_exponentials(xp, xp.exp(below(x)), below(at_label(xp, x, labels, axis)), labels, axis)


def at_label_of_exponentials(xp: Any, e: Array, d_y: Array, labels: Array, axis: int) -> tuple[Array, Array, Array]:
    """`softmax_at_label` from e = exp(x - m) and d_y = x_y - m, where m is the maximum of its row."""
    e_y = xp.exp(d_y)
    others = with_label(xp, e, labels, 0.0, axis)  # all that is needed of e: one array for the sum and for the slope
    rest = xp.sum(others, axis=axis, keepdims=True)
    s = rest + e_y
    likely = rest < e_y
    sure = xp.log1p(xp.where(likely, rest, 0.0) / xp.where(likely, e_y, 1.0))
    return xp.where(likely, sure, xp.log(s) - d_y), with_label(xp, others, labels, -rest, axis) / s, rest / s
