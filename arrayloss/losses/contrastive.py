"""Losses of embeddings against each other: the similarities of all pairs are never there at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Unpack

from arrayloss.core import dtypes, special
from arrayloss.frontend.build import coupled
from arrayloss.frontend.check import Parameter, choice, positive
from arrayloss.frontend.loss import Properties, loss
from arrayloss.frontend.options import ElementOptions

from .binary import Real
from .linear import rows_of

Array = Any
BLOCK = 2**22  # similarities of a block of rows


def _unit_rows(xp: Any, x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Rows of length 1, and their pullback. A row of zeros stays, with gradient 0."""
    u, _, over = special.unit_rows(xp, x, -1)
    return u, lambda g: over(g - u * xp.sum(u * g, axis=-1, keepdims=True))


def _pairs(
    xp: Any, x: Array, keys: Array = None, *, labels: Array, key_labels: Array = None, rows: Any, normalize: bool, block: Any, **own: Any
) -> Iterator[Any]:
    """Every embedding against every key, or every other embedding. `rows` is the kernel of rows of similarities.

    It yields losses and weights of the rows, then slopes for the similarities. Nothing of a block is kept for the pullback.
    """
    n, others = x.shape[0], labels if key_labels is None else key_labels
    u, to_embeddings = _unit_rows(xp, x) if normalize else (x, lambda g: g)
    v, to_keys = (u, to_embeddings) if keys is None else _unit_rows(xp, keys) if normalize else (keys, lambda g: g)
    columns = xp.reshape(special.arange_along(xp, v, 0), (1, v.shape[0]))
    size, others = max(1, block or BLOCK // max(1, v.shape[0])), xp.reshape(others, (1, v.shape[0]))
    inputs = u, xp.reshape(labels, (n, 1)), special.arange_along(xp, u, 0)

    def steps_of(s: Array, labels: Array, places: Array) -> Iterator[Any]:
        is_same = labels == others
        return rows(xp, s, is_same if keys is not None else is_same & (places != columns), ~is_same, **own)

    def similarities(u: Array) -> Array:
        return xp.matmul(u, xp.matrix_transpose(v))

    def losses() -> tuple[Array, ...]:
        def body(carry: Any, arrays: Sequence[Array]) -> Any:
            u, *of_rows = arrays
            return carry, special.map_rows(xp, lambda *a: (None, *next(steps_of(*a))), similarities(u), *of_rows)[1:]

        return special.scan_blocks(xp, body, (), inputs, size)[1]

    def slopes(s: Array, labels: Array, places: Array, g: Array) -> tuple[Array]:
        steps = steps_of(s, labels, places)
        next(steps)
        return (g * next(steps),)

    def pullback(g: Any) -> tuple[Array, ...]:
        def body(carry: Array, arrays: Sequence[Array]) -> Any:
            u, *of_rows = arrays
            (d_s,) = special.map_rows(xp, slopes, similarities(u), *of_rows)
            return special.add_product(xp, carry, d_s, u), (xp.matmul(d_s, v),)

        g = xp.broadcast_to(g if hasattr(g, "dtype") else special.constant(xp, g, u.dtype, u), (n, 1))
        d_v, (d_u,) = special.scan_blocks(xp, body, xp.zeros_like(v), (*inputs, g), size)
        return (to_embeddings(d_u + d_v),) if keys is None else (to_embeddings(d_u), to_keys(d_v))

    if 0 in (n, v.shape[0]):
        zeros = xp.zeros_like(x[:, :1])
        yield zeros, zeros
        yield lambda g: tuple([xp.zeros_like(a) for a in (x, keys) if a is not None])
        return
    yield losses
    yield pullback


def _of_pairs(
    rows: Any, embeddings: Array, labels: Array, keys: Array, key_labels: Array, options: Any, block: Any, normalize: bool, **own: Any
) -> Any:
    """The call of a loss of pairs, checked."""
    if (keys is None) != (key_labels is None):
        raise TypeError("keys and key_labels must be passed together")
    arrays = {"embeddings": embeddings, "keys": keys, "labels": labels, "key_labels": key_labels}
    arrays = {n: a for n, a in arrays.items() if a is not None}
    own |= {"rows": rows, "normalize": choice("normalize", normalize, (True, False)), "block": rows_of(block)}
    call = coupled(_pairs, arrays, options, additive=keys is not None, has_weights=True, **own)
    for name, width, a, t in (("", None, embeddings, labels), ("key_", None if keys is None else embeddings.shape[1:], keys, key_labels)):
        if a is not None:
            if len(a.shape) != 2 or (width is not None and tuple(a.shape[1:]) != tuple(width)):
                raise ValueError(f"{'keys' if name else 'embeddings'} must have shape (N, D), D that of all; got {tuple(a.shape)}")
            if dtypes.kind(t.dtype) not in ("integer", "bool"):
                raise TypeError(f"{name}labels must be integers; got {dtypes.name(t.dtype)}")
            if tuple(t.shape) != tuple(a.shape[:1]):
                raise ValueError(f"{name}labels must have shape {tuple(a.shape[:1])}; got {tuple(t.shape)}")
    return call


def _exponentials(xp: Any, z: Array, mask: Array) -> tuple[Array, Array, Array, Array]:
    """`m`, the largest masked z of a row; exp(z - m), 0 elsewhere; its sum (1 where nothing is masked); and whether something is."""
    has = xp.any(mask, axis=1, keepdims=True)
    m = xp.where(has, xp.max(xp.where(mask, z, -float("inf")), axis=1, keepdims=True), 0.0)
    e = xp.where(mask, xp.exp(xp.where(mask, z - m, 0.0)), 0.0)
    return m, e, xp.where(has, xp.sum(e, axis=1, keepdims=True), 1.0), has


def _softplus(xp: Any, x: Array) -> Array:
    is_positive, size = special.split_sign(xp, x)
    return xp.where(is_positive, x, 0.0) + xp.log1p(xp.exp(-size))


def _ntxent(xp: Any, s: Array, is_positive: Array, is_negative: Array, temperature: Any) -> Iterator[Any]:
    z = s / temperature
    m, e, total, has = _exponentials(xp, z, is_negative)
    counts = is_positive & has
    gap = xp.where(counts, (m - z) + xp.log(total), 0.0)  # of the pair form: nothing is subtracted from itself
    losses = xp.where(counts, _softplus(xp, gap), 0.0)
    yield xp.sum(losses, axis=1, keepdims=True), xp.sum(xp.astype(is_positive, s.dtype), axis=1, keepdims=True)
    push = xp.where(counts, special.sigmoid_pair(xp, gap)[0], 0.0)
    yield (e / total * xp.sum(push, axis=1, keepdims=True) - push) / temperature


@loss(properties=lambda **_: Properties())
def ntxent_loss(
    embeddings: Array,
    labels: Array,
    *,
    temperature: Real = 0.07,
    normalize: bool = True,
    keys: Array | None = None,
    key_labels: Array | None = None,
    block: int | None = None,
    **options: Unpack[ElementOptions],
) -> Array:
    """Normalized temperature-scaled cross-entropy: embeddings of one label find each other among those of other labels.

    .. code-block:: text

        loss_i = sum over j with y_j = y_i, j != i of log(1 + sum over k with y_k != y_i of exp(s_ik - s_ij))
        s_ij = cos(e_i, e_j) / temperature

    An element is an anchor i, its weight the number of its positives j: the mean is over pairs. Without positives an anchor does not
    count, without negatives its loss is 0. A masked anchor is still a positive or negative of others.

    Gradient: of the embeddings (and the keys), finite everywhere; 0 for an embedding of zeros. Blocks of similarities are computed again
    for it. There is no Hessian diagonal. Parts add with `keys` only: else the losses depend on the whole batch.
    Source: T. Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020, equation 1, for pairs of
    one label.

    Parameters
    ----------
    embeddings : array of shape (N, D), floating point
    labels : integers of shape (N,): any values, what matters is which are equal; two views of N images are 0, .., N - 1 twice
    temperature : number > 0, or 0-d array
    normalize : bool: similarities are cosines; False: inner products
    keys, key_labels : arrays of shape (M, D) and (M,)
        The other side of the pairs: every key counts, none is an anchor. By default the other embeddings.
    block : int >= 1
        Anchors whose similarities are there at a time; by default as many as have 2**22.
    {options}

    >>> import numpy as np
    >>> views = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.2, 1.0]])
    >>> print(f"{ntxent_loss(views, np.array([0, 1, 0, 1]), temperature=0.5):.6f}")
    0.322003
    """
    own = {"temperature": positive(temperature)}
    return _of_pairs(_ntxent, embeddings, labels, keys, key_labels, options, block, normalize, **own)


def _circle(xp: Any, s: Array, is_positive: Array, is_negative: Array, margin: Any, gamma: Any, constant_weights: bool) -> Iterator[Any]:
    push, pull = special.clip(xp, s + margin, 0.0, float("inf")), special.clip(xp, 1 + margin - s, 0.0, float("inf"))
    m, e, sum_n, has_n = _exponentials(xp, gamma * push * (s - margin), is_negative)
    k, d, sum_p, has_p = _exponentials(xp, -gamma * pull * (s - 1 + margin), is_positive)
    counts = has_n & has_p
    z = xp.where(counts, (m + xp.log(sum_n)) + (k + xp.log(sum_p)), 0.0)
    yield xp.where(counts, _softplus(xp, z), 0.0), xp.astype(counts, s.dtype)
    slope_n, slope_p = push, pull
    if not constant_weights:
        slope_n, slope_p = xp.where(push > 0, 2 * s, 0.0), xp.where(pull > 0, 2 * (1 - s), 0.0)
    yield gamma * xp.where(counts, special.sigmoid_pair(xp, z)[0], 0.0) * (e / sum_n * slope_n - d / sum_p * slope_p)


@loss(properties=lambda **_: Properties())
def circle_loss(
    embeddings: Array,
    labels: Array,
    *,
    margin: Real = 0.4,
    gamma: Real = 80.0,
    constant_weights: bool = True,
    normalize: bool = True,
    keys: Array | None = None,
    key_labels: Array | None = None,
    block: int | None = None,
    **options: Unpack[ElementOptions],
) -> Array:
    """Circle loss: similarities of one label above, of other labels below, each pulled by how far it is off.

    .. code-block:: text

        loss_i = log(1 + sum over k with y_k != y_i of exp(a_ik) * sum over j with y_j = y_i, j != i of exp(b_ij))
        a = gamma * max(s + margin, 0) * (s - margin),   b = -gamma * max(1 + margin - s, 0) * (s - 1 + margin),   s = cos(e_i, e_j)

    An element is an anchor with a positive and a negative; others do not count. A masked anchor takes part in the losses of others.
    PyTorch Metric Learning and Keras divide by the number of losses above 0: pass it as `normalizer`.

    Gradient: of the embeddings (and the keys), finite everywhere. With `constant_weights` it is that of the paper, in which the factors
    max(..) are constants: not the derivative of the value. There is no Hessian diagonal. Parts add with `keys` only.
    Source: Y. Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020, equations 6 and 8.

    Parameters
    ----------
    embeddings, labels, normalize, keys, key_labels, block
        As for `ntxent_loss`.
    margin : number, or 0-d array: similarities are to be above 1 - margin and below margin
    gamma : number > 0, or 0-d array
    constant_weights : bool: whether the factors max(..) count as constants in the gradient
    {options}

    >>> import numpy as np
    >>> views = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.2, 1.0]])
    >>> print(f"{circle_loss(views, np.array([0, 1, 0, 1]), gamma=2.0):.6f}")
    0.756143
    """
    own: dict[str, Any] = {"margin": Parameter(margin), "gamma": positive(gamma)}
    choice("constant_weights", constant_weights, (True, False))
    return _of_pairs(_circle, embeddings, labels, keys, key_labels, options, block, normalize, constant_weights=constant_weights, **own)
