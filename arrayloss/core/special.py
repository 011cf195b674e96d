"""Stable special functions, written once in the array API.

A namespace that derives from `Native` may offer its own version of a function under the same name (a fused primitive, say); it is then
preferred. The forms here are safe to differentiate: no branch that `where` leaves out puts a NaN into a derivative, and the derivative
at 0 is the true one (`abs` and `maximum` have a wrong one there, where the logits of a zero-initialised layer are).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from math import prod
from typing import Any, TypeVar

from . import dtypes

Array = Any
F = TypeVar("F", bound=Callable[..., Any])


class Native:
    """Base of the namespaces that kernels get: native primitives, and beside them the names of `library`."""

    library: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)


def native_first(function: F) -> F:
    """A namespace's own version of a function is preferred."""
    name = function.__name__

    @wraps(function)
    def pick(xp: Any, *args: Any, **options: Any) -> Any:
        native = getattr(type(xp), name, None) if isinstance(xp, Native) else None
        return (function if native is None else native)(xp, *args, **options)

    return pick  # type: ignore[return-value]  # the same signature


def generic(function: Any) -> Any:
    """The form that is written in the array API, for a namespace's own version to fall back on."""
    return function.__wrapped__


@native_first
def clip(xp: Any, x: Array, low: Any, high: Any) -> Array:
    """x between low and high, two numbers or two arrays. A NaN stays."""
    return xp.minimum(xp.maximum(x, low), high) if dtypes.is_array(low) else xp.where(x < low, low, xp.where(x > high, high, x))


def lerp(b: Any, a: Any, t: Array) -> Array:
    """t*a + (1-t)*b, exact at both ends."""
    return t * a + (1 - t) * b


def power(xp: Any, base: Array, exponent: Any) -> Array:
    """base ** exponent for base >= 0, with 0 ** 0 = 1 and a finite derivative at base 0.

    Small whole exponents are multiplications: faster than `pow`, and rounded once or twice only.
    """
    if isinstance(exponent, (int, float)):
        if exponent == int(exponent) and 0 <= exponent <= 8:
            return _whole_power(xp, base, int(exponent))
        if exponent >= 1:
            return base**exponent
    zero = base == 0
    raised = xp.where(zero, xp.ones_like(base), base) ** exponent
    return xp.where(zero, 0.0 if isinstance(exponent, (int, float)) else xp.astype(exponent == 0, base.dtype), raised)


def _whole_power(xp: Any, base: Array, exponent: int) -> Array:
    if exponent < 2:
        return base if exponent else xp.ones_like(base)
    half = _whole_power(xp, base, exponent // 2)
    return half * half * base if exponent % 2 else half * half


def split_sign(xp: Any, x: Array) -> tuple[Array, Array]:
    """x >= 0 and |x|, with the derivative 1 of |x| at 0: the one that belongs to x >= 0."""
    is_positive = x >= 0
    return is_positive, xp.where(is_positive, x, -x)


def sign(xp: Any, x: Array) -> Array:
    """-1, 0 or 1, flat at 0 too. A NaN stays: array-api-compat's for PyTorch writes it by a mask, which `vmap` refuses."""
    return xp.where(x > 0, 1.0, xp.where(x < 0, -1.0, 0 * x))


def divide(xp: Any, a: Array, b: Array, at_0_over_0: Any) -> Array:
    """a / b with a value (or a function that gives it) for 0 / 0; a / 0 stays infinite.

    What underflows on both sides is 0 / 0 too: such a quotient has no digits, XLA flushes its terms to 0, and the 1 / b in its
    derivative is infinite. A factor of 4 leaves room for a numerator and a denominator on different sides of that line.
    """
    low = 4 * dtypes.smallest_normal(b.dtype)
    both = (abs(a) <= low) & (abs(b) <= low)
    return xp.where(both, at_0_over_0() if callable(at_0_over_0) else at_0_over_0, quotient(xp, a, xp.where(both, 1.0, b)))


@native_first
def quotient(xp: Any, a: Array, b: Array) -> Array:
    """a / b, with a derivative that is finite wherever it can be: a namespace whose own squares 1 / b has another form."""
    return a / b


def multiply_no_nan(xp: Any, a: Array, b: Array) -> Array:
    """a * b, and 0 where a is 0 even if b is infinite."""
    lost = (a == 0) & (abs(b) == float("inf"))  # and nowhere else: the derivative for a is b
    return xp.where(lost, 0.0, a * xp.where(lost, 0.0, b))


@native_first
def sum_to(xp: Any, a: Array, shape: tuple[int, ...], axes: tuple[int, ...], dtype: Any) -> Array:
    """The sum over `axes`, kept, of `a` broadcast to `shape`, without the broadcast copy."""
    summed = xp.sum(a, axis=axes, keepdims=True, dtype=dtype) if axes else xp.astype(a, dtype, copy=False)
    if tuple(a.shape) == shape:
        return summed
    summed = summed * prod([shape[i] for i in axes if a.shape[i] == 1])
    return xp.broadcast_to(summed, tuple([1 if i in axes else n for i, n in enumerate(shape)]))


@native_first
def as_index(xp: Any, a: Array) -> Array:
    """Labels in the integer dtype that gathers take."""
    return xp.astype(a, xp.int64, copy=False)


def constant(xp: Any, number: float, dtype: Any, like: Array) -> Array:
    """A number as an array of as many dimensions as `like`, on its device."""
    return xp.full((1,) * like.ndim, number, dtype=dtype, device=getattr(like, "device", None))  # Dask has no device


@native_first
def constants(xp: Any, numbers: Sequence[float], dtype: Any, like: Array) -> Array:
    """Numbers as an array of one dimension, on the device of `like`."""
    return xp.asarray(list(numbers), dtype=dtype, device=getattr(like, "device", None))


@native_first
def labels_to_int32(xp: Any, labels: Array, classes: int) -> Array:
    """Labels from 0 to `classes` - 1, perhaps in a smaller dtype; what is out of range may become something else that is."""
    return labels


@native_first
def label_range(xp: Any, a: Array) -> tuple[int, int]:
    """The smallest and the largest label, read now."""
    return int(xp.min(a)), int(xp.max(a))


@native_first
def arange_along(xp: Any, a: Array, axis: int) -> Array:
    """0, 1, 2, ... along one axis of `a`, on its device, with size 1 along the others."""
    return xp.reshape(xp.arange(a.shape[axis], device=getattr(a, "device", None)), tuple([-1 if i == axis else 1 for i in range(a.ndim)]))


@native_first
def gather_label(xp: Any, a: Array, labels: Array, axis: int) -> Array:
    """The entry of every row that its label names, the axis kept with size 1. Labels are in range."""
    if hasattr(xp, "take_along_axis"):
        return xp.take_along_axis(a, labels, axis=axis)
    return xp.sum(xp.where(arange_along(xp, a, axis) == labels, a, xp.zeros_like(a)), axis=axis, keepdims=True)


@native_first
def scatter_label(xp: Any, a: Array, labels: Array, entries: Any, axis: int) -> Array:
    """The rows `a`, with the entry that a row's label names replaced."""
    return xp.where(arange_along(xp, a, axis) == labels, entries, a)


@native_first
def place_at_label(xp: Any, like: Array, labels: Array, entries: Any, axis: int) -> Array:
    """Rows of zeros of the shape of `like`, with `entries` where labels name a class."""
    return xp.where(arange_along(xp, like, axis) == labels, entries, xp.zeros_like(like))


def one_hot(xp: Any, labels: Array, like: Array, axis: Any) -> Array:
    """Labels as masks of the shape and the dtype of `like`."""
    return xp.astype(arange_along(xp, like, axis) == labels, like.dtype)


def unit_rows(xp: Any, a: Array, axis: int) -> tuple[Array, Array, Callable[[Array], Array]]:
    """Rows of norm 1; which rows are 0, and stay it; and a function that divides rows by the norms, and makes those zeros again.

    Norms are taken behind a division by the largest entry: squares neither overflow nor vanish.
    """
    largest = xp.max(abs(a), axis=axis, keepdims=True)
    is_zero = largest == 0
    scale = xp.where(is_zero, 1.0, largest)
    scaled = quotient(xp, a, scale)
    norm = xp.sqrt(xp.where(is_zero, 1.0, xp.sum(scaled * scaled, axis=axis, keepdims=True)))
    return scaled / norm, is_zero, lambda g: xp.where(is_zero, 0.0, quotient(xp, g / norm, scale))


def sigmoid_pair(xp: Any, x: Array) -> tuple[Array, Array]:
    """p = sigmoid(x) and q = 1 - p, both without cancellation."""
    is_positive, size = split_sign(xp, x)
    u = xp.exp(-size)
    one = xp.ones_like(u)
    return xp.where(is_positive, one, u) / (1 + u), xp.where(is_positive, u, one) / (1 + u)


def sigmoid_terms(xp: Any, x: Array) -> tuple[Array, Array, Callable[[], Array], Callable[..., Array]]:
    """`step`: the likelier answer, 1 where x >= 0, else 0; `tail_prob`: the probability of the other one; `softplus_neg_abs()`: the loss of
    the likelier answer, log(1 + exp(-|x|)), to be called once; and `add_sigmoid_minus_step(a, weight=1)`: a + weight * (sigmoid(x) - step).

    What is subtracted from sigmoid(x) is subtracted from the step first: nothing is lost.
    """
    is_positive, size = split_sign(xp, x)
    u = xp.exp(-size)
    tail = u / (1 + u)

    def add_sigmoid_minus_step(a: Array, weight: Any = None) -> Array:
        signed = xp.where(is_positive, tail, -tail)
        return a - (signed if weight is None else weight * signed)

    return xp.astype(is_positive, x.dtype), tail, lambda: xp.log1p(u), add_sigmoid_minus_step


@native_first
def softmax_with_complement(xp: Any, x: Array, axis: int) -> tuple[Array, Array, Callable[[], Array], Callable[[], Array]]:
    """`argmax` (the axis kept); p = softmax(x); and functions for q = 1 - p and for -log(p), all without cancellation.

    The sum of exponentials leaves the maximum out: a confident row keeps its digits. log-sum-exp is max + log1p(s), q there s / (1 + s).
    """
    argmax = xp.expand_dims(xp.argmax(x, axis=axis), axis=axis)
    m = gather_label(xp, x, argmax, axis)
    is_max = arange_along(xp, x, axis) == argmax
    # A constant at the maximum: not inf - inf where that is infinite, and no derivative of it and of m that cancel each other
    d = xp.where(is_max | (x == float("inf")), xp.zeros_like(x), x - m)
    e = xp.exp(d)
    s = xp.sum(xp.where(is_max, xp.zeros_like(e), e), axis=axis, keepdims=True)
    p = e / (1 + s)
    return argmax, p, lambda: xp.where(is_max, s / (1 + s), 1 - p), lambda: xp.log1p(s) - d


@native_first
def softmax_vjp(xp: Any, argmax: Array, p: Array, u: Array, axis: int) -> Array:
    """p * (u - sum(p * u)), the derivatives for logits from those for p.

    u counts from its entry at the maximum: as it stands, that difference loses everything in confident rows. p and u may be overwritten.
    """
    # XLA computes u twice, once with a fused multiply-add: its entry at the maximum less itself was 1e-16 of it, and not 0
    v = scatter_label(xp, u - gather_label(xp, u, argmax, axis), argmax, 0.0, axis)
    return p * (v - xp.sum(p * v, axis=axis, keepdims=True))


def cross_entropy_grad(xp: Any, argmax: Array, p: Array, q: Array, weight: Array, axis: int) -> Array:
    """p * sum(weight) - weight, the slope of the sum of weight_c * -log(p_c): as a difference of what does not cancel.

    Beside the maximum q is at least 1/2. At the maximum q may be tiny, and the weight of the other classes must keep its digits: it is
    summed, not what remains of the whole.
    """
    others = xp.sum(scatter_label(xp, weight, argmax, 0.0, axis), axis=axis, keepdims=True)
    sum_of_others = scatter_label(xp, others + gather_label(xp, weight, argmax, axis) - weight, argmax, others, axis)
    return sum_of_others * p - weight * q


def nll_and_grad_at_label(xp: Any, x: Array, labels: Array, axis: int) -> tuple[Array, Array, Callable[..., Array], Callable[[Any], Array]]:
    """`nll`: -log(p_y) of p = softmax(x); `q`: 1 - p_y; `grad(weight=None, base=None)`; `base_nll(base)`; all without cancellation.

    `grad` is weight * p - target. The target is `base` (a number, or one for each class; None: 0), and at the label what is missing to
    `weight` (one for each row; None: 1). It may overwrite what it is made of: call it once. `base_nll` is the sum of base * -log(p).
    """
    m = xp.max(x, axis=axis, keepdims=True)

    def minus_max(a: Array) -> Array:
        return xp.where(a == float("inf"), xp.zeros_like(a), a - m)

    d_y = minus_max(gather_label(xp, x, labels, axis))
    e_y = xp.exp(d_y)
    others = scatter_label(xp, xp.exp(minus_max(x)), labels, 0.0, axis)  # one array for the sum and for the slope
    rest = xp.sum(others, axis=axis, keepdims=True)
    s = rest + e_y
    is_likely = rest < e_y
    nll_if_likely = xp.log1p(xp.where(is_likely, rest, 0.0) / xp.where(is_likely, e_y, 1.0))

    def grad(weight: Any = None, base: Any = None) -> Array:
        slope = scatter_label(xp, others, labels, -rest, axis) / s
        slope = slope if weight is None else weight * slope
        if base is None:
            return slope
        slope, whole = slope - base, xp.sum(base) if dtypes.is_array(base) else base * x.shape[axis]
        return scatter_label(xp, slope, labels, gather_label(xp, slope, labels, axis) + whole, axis)

    def base_nll(base: Any) -> Array:
        base = base if dtypes.is_array(base) else base * xp.ones_like(x)
        return xp.sum(multiply_no_nan(xp, base, xp.log(s) - minus_max(x)), axis=axis, keepdims=True)

    return xp.where(is_likely, nll_if_likely, xp.log(s) - d_y), rest / s, grad, base_nll


@native_first
def in_order(xp: Any, a: Array, b: Array) -> tuple[Array, Array]:
    """The larger and the smaller of two numbers; by a choice, so that derivatives of every order are right where they are equal."""
    is_larger = b > a
    return xp.where(is_larger, b, a), xp.where(is_larger, a, b)


@native_first
def label_columns(xp: Any, like: Array, labels: Array) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """`take(a)`: the entries of the rows `a`, N x C as `like`, that L x N labels name, L x N; and `add(b)`, its transpose: for every class
    of a row the sum of the entries whose labels name it.
    """
    hot = xp.expand_dims(labels, axis=2) == xp.expand_dims(arange_along(xp, like, 1), axis=0)
    return (
        lambda a: xp.sum(xp.where(hot, xp.expand_dims(a, axis=0), 0.0), axis=2),
        lambda b: xp.sum(xp.where(hot, xp.expand_dims(b, axis=2), 0.0), axis=0),
    )


@native_first
def scan(xp: Any, body: Callable[..., Any], carry: Any, inputs: tuple[Array, ...], *, reverse: bool = False) -> tuple[Any, Any]:
    """A loop along the first axis of `inputs`: `body(carry, slices)` returns the next carry and arrays. Returns the last carry, and the
    arrays of all steps stacked. A library with a loop of its own runs that: its compiler sees one step, and autodiff keeps carries only.
    """
    results, order = [], 1 - 2 * reverse
    for i in range(inputs[0].shape[0])[::order]:
        carry, arrays = body(carry, tuple([a[i, ...] for a in inputs]))
        results.append(arrays)
    return carry, tuple([xp.stack(many) for many in zip(*results[::order], strict=True)])


def scan_blocks(xp: Any, body: Callable[..., Any], carry: Any, arrays: Sequence[Array], size: int) -> tuple[Any, tuple[Array, ...]]:
    """`scan` over blocks of at most `size` rows of the arrays, of about one size. What the body puts out are rows, too."""
    n = arrays[0].shape[0]
    size = -(-n // max(1, -(-n // size)))
    if n <= size:
        carry, outputs = body(carry, arrays)
        return carry, tuple(outputs)
    count, last = n // size, n // size * size
    blocks = [xp.reshape(a[:last, ...], (count, size, *a.shape[1:])) for a in arrays]
    carry, stacks = scan(xp, body, carry, tuple(blocks))
    outputs = tuple([xp.reshape(a, (last, *a.shape[2:])) for a in stacks])
    if last == n:
        return carry, outputs
    carry, rest = body(carry, [a[last:, ...] for a in arrays])
    return carry, tuple([xp.concat(both, axis=0) for both in zip(outputs, rest, strict=True)])


@native_first
def map_rows(xp: Any, function: Callable[..., Any], a: Array, *others: Array) -> Any:
    """function(a, *others): the rows that come after those of `a`, or None, and numbers of each row. `a` may be overwritten."""
    return function(a, *others)


@native_first
def add_product(xp: Any, total: Array, a: Array, b: Array) -> Array:
    """total + a.T @ b; `total` may be overwritten."""
    return total + xp.matmul(xp.matrix_transpose(a), b)
