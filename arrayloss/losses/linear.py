"""Cross-entropy behind a linear layer, whose logits are never there at once."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Unpack

from arrayloss.core import special
from arrayloss.frontend.build import linear_rows
from arrayloss.frontend.check import integers, number, per_class
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import ElementOptions, Integers

from .binary import Real
from .multiclass import Weights, _cross_entropy_of_distribution, _cross_entropy_of_labels, changes_of_logits, of_changed_logits

Array = Any
BLOCK = 2**23  # logits of a block of rows: of float32, the largest memory that glibc keeps for the next block


def _linear_cross_entropy(
    xp: Any, features: Array, weight: Array, bias: Array = None, *, t: Array, class_weights: Any, block: Any, **own: Any
) -> Iterator[Any]:
    """Blocks of rows of logits: nothing of one is kept for the pullback, which finds the losses too."""
    (classes, *maps), count, depth = weight.shape[:-1], prod(features.shape[:-1]), features.shape[-1]
    shape, width = (*features.shape[:-1], 1, *maps), prod(maps)
    size = block or max(64, BLOCK // (classes * width))  # fewer rows would read and write d_weight too often
    f, w = xp.reshape(features, (count, depth)), xp.reshape(weight, (classes * width, depth))
    t = xp.reshape(t, (count, classes if t.shape[features.ndim - 1] == classes else 1, width))
    own = {n: xp.reshape(a, (1, -1, 1)) if hasattr(a, "dtype") else a for n, a in own.items()}
    per_class = None if class_weights is None else xp.reshape(class_weights, (1, classes, 1))
    known: list[Array] = []  # the losses, where the pullback came first

    def steps_of(x: Array, t: Array) -> Iterator[Any]:
        x = x if bias is None else x + xp.reshape(bias, (1, classes, width))
        steps = of_changed_logits(xp, x, t, 1, class_weights=per_class, **own)
        yield next(steps) if per_class is None else next(steps)[0]
        yield next(steps)

    def logits(f: Array) -> Array:
        return xp.reshape(xp.matmul(f, xp.matrix_transpose(w)), (f.shape[0], classes, width))

    def losses() -> Array:
        def body(carry: Any, arrays: Sequence[Array]) -> Any:
            return carry, special.map_rows(xp, lambda x, t: (None, next(steps_of(x, t))), logits(arrays[0]), arrays[1])[1:]

        if not known:
            known.extend(special.scan_blocks(xp, body, (), (f, t), size)[1])
        return xp.reshape(known[0], shape)

    def losses_and_slopes(x: Array, t: Array, g: Array) -> tuple[Array, Array]:
        steps = steps_of(x, t)
        value = next(steps)
        return g * next(steps), value

    def pullback(g: Any) -> tuple[Array, ...]:
        def body(carry: Any, arrays: Sequence[Array]) -> Any:
            (d_weight, d_bias), (f, t, g) = carry, arrays
            slopes, value = special.map_rows(xp, losses_and_slopes, logits(f), t, g)
            slopes = xp.reshape(slopes, (f.shape[0], classes * width))
            d_weight = special.add_product(xp, d_weight, slopes, f)
            d_bias = d_bias if bias is None else d_bias + xp.sum(slopes, axis=0)
            return (d_weight, d_bias), (xp.matmul(slopes, w), value)

        g = g if hasattr(g, "dtype") else special.constant(xp, g, features.dtype, features)
        g = xp.reshape(xp.broadcast_to(g, shape), (count, 1, width))
        carry = xp.zeros_like(w), None if bias is None else xp.zeros_like(xp.reshape(bias, (classes * width,)))
        (d_weight, d_bias), (d_features, value) = special.scan_blocks(xp, body, carry, (f, t, g), size)
        known[:] = [value]
        gradients = xp.reshape(d_features, features.shape), xp.reshape(d_weight, weight.shape)
        return gradients if bias is None else (*gradients, xp.reshape(d_bias, bias.shape))

    if class_weights is None:
        yield (losses,)
    elif t.shape[1] == 1:
        yield losses, xp.reshape(xp.take(xp.reshape(per_class, (classes,)), xp.reshape(t, (count * width,))), shape)
    else:
        yield losses, xp.reshape(xp.sum(t * per_class, axis=1), shape)
    yield pullback


@loss(properties=lambda **_: Properties())
def linear_cross_entropy(
    features: Array,
    weight: Array,
    targets: Array,
    *,
    bias: Array | None = None,
    class_weights: Weights = None,
    label_smoothing: float = 0.0,
    z_loss: Real = 0.0,
    softcap: Real | None = None,
    logit_offsets: Sequence[float] | Array | None = None,
    block: int | None = None,
    ignore_index: Integers = None,
    **options: Unpack[ElementOptions],
) -> Array:
    """Cross-entropy of the outputs of a linear layer, without the memory of its logits: language models, many classes.

    .. code-block:: text

        loss = softmax_cross_entropy(x, targets) + z_loss * lse(x)**2;   x = softcap * tanh(y / softcap) + logit_offsets
        y = features @ weight.T + bias,   lse(x) = log(sum over c of exp(x_c))

    Gradient: of features, weight and bias, in this order, finite everywhere. Blocks of rows of logits are computed again for it, but of a
    mean or a sum on NumPy and in plain PyTorch: there one pass finds both. There is no Hessian diagonal.
    Source: Y. Wijmans et al., Cut Your Losses in Large-Vocabulary Language Models, ICLR 2025, sections 3 and 4.

    Parameters
    ----------
    features : array of shape (..., D), floating point: the inputs of the layer, one row for each element
    weight : array of shape (C, D), C >= 2, or (C, d1, .., dK, D) for K maps of logits of shape (..., C, d1, .., dK)
    targets : array
        Labels or distributions for these logits, as for `softmax_cross_entropy`: shape (..., d1, .., dK) or that of the logits.
    bias : array of the shape of `weight` without its last axis
    class_weights, label_smoothing, z_loss, softcap, logit_offsets
        As for `softmax_cross_entropy`.
    block : int >= 1
        Rows of logits that are there at a time; by default as many as have 2**23 entries, but 64 at least.
    ignore_index : int or tuple of int: labels that are masked
    {options}

    >>> import numpy as np
    >>> features, weight = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]])
    >>> print(f"{linear_cross_entropy(features, weight, np.array([1, 0])):.6f}")
    0.388294
    """
    own = changes_of_logits(z_loss, softcap, logit_offsets)
    own |= {"label_smoothing": number("label_smoothing", label_smoothing, 0, 1), "block": rows_of(block)}
    arrays, weights = {"features": features, "weight": weight, "bias": bias}, per_class(class_weights, scalar=False)
    kernels = _linear_cross_entropy, _cross_entropy_of_labels, _cross_entropy_of_distribution
    return linear_rows(*kernels, arrays, targets, options, ignore_index, weights, **own)


def rows_of(block: Any) -> int | None:
    """A checked number of rows; None: as many as fit."""
    if block is not None and (len(integers("block", block)) != 1 or integers("block", block)[0] < 1):
        raise ValueError(f"block must be an integer of at least 1; got {block!r}")
    return None if block is None else int(block)
