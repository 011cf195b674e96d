"""The rows of the table: what is measured, against whom, and the ratio to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import peers
from .measure import Work

Pair = tuple[Work, Work]


@dataclass(frozen=True)
class Row:
    """One comparison; `make(small)` returns our work and the peer's."""

    name: str
    peer: str
    target: float
    library: str
    make: Callable[[bool], Pair]
    needs: tuple[str, ...] = ()  # modules
    threads: int | None = None  # None: as many as the machine allows
    memory: bool = True


def arrays(shape: tuple[int, ...], classes: int | None = None, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and binary targets as floating-point numbers or integer labels."""
    random = np.random.default_rng(0)
    x = (2 * random.standard_normal(shape)).astype(np.float32)
    if classes is None:
        return x, (random.random(shape) < 0.3).astype(np.float32)
    axis %= len(shape)
    return x, random.integers(0, classes, shape[:axis] + shape[axis + 1 :])


def backward(function: Callable[..., Any], *inputs: Any) -> Work:
    """Forward and backward in PyTorch, the gradient thrown away."""
    x = inputs[0]

    def work() -> None:
        function(*inputs).backward()
        x.grad = None

    return work


def torch_inputs(shape: tuple[int, ...], classes: int | None = None, axis: int = -1) -> tuple[Any, Any]:
    import torch

    x, t = arrays(shape, classes, axis)
    return torch.from_numpy(x).requires_grad_(), torch.from_numpy(t)


def torch_pair(ours: Callable[..., Any], peer: Callable[..., Any], *inputs: Any) -> Pair:
    return backward(ours, *inputs), backward(peer, *inputs)


def compiled_pair(ours: Callable[..., Any], peer: Callable[..., Any], *inputs: Any) -> Pair:
    import torch

    torch._dynamo.reset()  # a row knows nothing of the sizes that another one compiled
    return torch_pair(torch.compile(ours, fullgraph=True), torch.compile(peer), *inputs)  # MONAI breaks graphs


BINARY = ((4_000_000,), (4096,))
ROWS_OF_LABELS = ((8192, 1000), (64, 10))
PIXELS = ((4, 21, 512, 512), (2, 5, 8, 8))
MASKS = ((8, 4, 256, 256), (2, 3, 16, 16))
SCENES = ((4, 21, 256, 256), (2, 5, 8, 8))


def _cross_entropy(pair: Any, sizes: Any, axis: int) -> Callable[[bool], Pair]:
    def make(small: bool) -> Pair:
        import torch.nn.functional as F  # noqa: N812

        from arrayloss import softmax_cross_entropy

        shape = sizes[small]
        x, t = torch_inputs(shape, shape[axis], axis)
        return pair(lambda x, t: softmax_cross_entropy(x, t, axis=axis), F.cross_entropy, x, t)

    return make


def _bce(pair: Any, sizes: Any) -> Callable[[bool], Pair]:
    def make(small: bool) -> Pair:
        import torch.nn.functional as F  # noqa: N812

        from arrayloss import sigmoid_cross_entropy

        return pair(sigmoid_cross_entropy, F.binary_cross_entropy_with_logits, *torch_inputs(sizes[small]))

    return make


def _sigmoid_focal(pair: Any, sizes: Any) -> Callable[[bool], Pair]:
    def make(small: bool) -> Pair:
        from arrayloss import sigmoid_focal_loss

        ours = lambda x, t: sigmoid_focal_loss(x, t, gamma=2.0, alpha=0.25)  # noqa: E731
        return pair(ours, peers.torchvision_sigmoid_focal, *torch_inputs(sizes[small]))

    return make


def _softmax_focal(pair: Any) -> Callable[[bool], Pair]:
    def make(small: bool) -> Pair:
        from kornia.losses import focal_loss

        from arrayloss import softmax_focal_loss

        x, t = torch_inputs(ROWS_OF_LABELS[small], ROWS_OF_LABELS[small][1])
        ours = lambda x, t: softmax_focal_loss(x, t, gamma=2.0)  # noqa: E731
        peer = lambda x, t: focal_loss(x, t, alpha=None, gamma=2.0, reduction="mean")  # noqa: E731
        return pair(ours, peer, x, t)

    return make


def _dice(pair: Any) -> Callable[[bool], Pair]:
    def make(small: bool) -> Pair:
        import torch
        from monai.losses import DiceLoss

        from arrayloss import dice_loss

        shape = MASKS[small]
        x, labels = torch_inputs(shape, shape[1], 1)
        t = torch.nn.functional.one_hot(labels, shape[1]).movedim(-1, 1).float().contiguous()
        return pair(lambda x, t: dice_loss(x, t, activation="softmax", axis=1), DiceLoss(softmax=True), x, t)

    return make


def _dice_cross_entropy(pair: Any, sizes: Any) -> Callable[[bool], Pair]:
    def make(small: bool) -> Pair:
        from monai.losses import DiceCELoss

        from arrayloss import cross_entropy, dice_loss

        shape = sizes[small]
        x, labels = torch_inputs(shape, shape[1], 1)
        ours = dice_loss.bind(activation="softmax", axis=1) + cross_entropy.bind(axis=1)
        theirs = DiceCELoss(softmax=True, to_onehot_y=True, batch=True)
        return pair(lambda x, t: ours(x, t[:, 0]), theirs, x, labels[:, None])

    return make


def _jax_cross_entropy(small: bool) -> Pair:
    import jax
    import optax

    from arrayloss import softmax_cross_entropy

    x, t = map(jax.numpy.asarray, arrays(ROWS_OF_LABELS[small], ROWS_OF_LABELS[small][1]))
    return _jax_pair(softmax_cross_entropy, lambda x, t: optax.softmax_cross_entropy_with_integer_labels(x, t).mean(), x, t)


def _jax_focal(small: bool) -> Pair:
    import jax
    import optax

    from arrayloss import sigmoid_focal_loss

    x, t = map(jax.numpy.asarray, arrays(BINARY[small]))
    ours = lambda x, t: sigmoid_focal_loss(x, t, gamma=2.0, alpha=0.25)  # noqa: E731
    return _jax_pair(ours, lambda x, t: optax.sigmoid_focal_loss(x, t, alpha=0.25, gamma=2.0).mean(), x, t)


def _jax_pair(ours: Callable[..., Any], peer: Callable[..., Any], *inputs: Any) -> Pair:
    import jax

    def work(function: Callable[..., Any]) -> Work:
        run = jax.jit(jax.value_and_grad(function))
        return lambda: jax.block_until_ready(run(*inputs))

    return work(ours), work(peer)


def _numpy_bce(small: bool) -> Pair:
    from arrayloss import sigmoid_cross_entropy

    x, t = arrays(BINARY[small])
    return lambda: sigmoid_cross_entropy.value_and_grad(x, t), lambda: peers.numpy_bce(x, t)


def _numpy_cross_entropy(small: bool) -> Pair:
    from arrayloss import softmax_cross_entropy

    x, t = arrays(ROWS_OF_LABELS[small], ROWS_OF_LABELS[small][1])
    return lambda: softmax_cross_entropy.value_and_grad(x, t), lambda: peers.numpy_cross_entropy(x, t)


def _sklearn_bce(small: bool) -> Pair:
    from sklearn._loss import HalfBinomialLoss

    from arrayloss import sigmoid_cross_entropy

    x, t = arrays((1_000_000,) if not small else (4096,))
    peer = HalfBinomialLoss()
    loss, gradient = np.empty_like(x), np.empty_like(x)
    return (
        lambda: sigmoid_cross_entropy.value_and_grad(x, t),
        lambda: peer.loss_gradient(t, x, loss_out=loss, gradient_out=gradient, n_threads=1),
    )


def _tiny_numpy(name: str) -> Callable[[bool], Pair]:
    """One call on NumPy against PyTorch's native loss, forward and backward, on the same numbers."""

    def make(_: bool) -> Pair:
        import torch.nn.functional as F  # noqa: N812

        import arrayloss

        hard = name == "softmax_cross_entropy"
        x, t = arrays((32, 10), 10 if hard else None)
        ours = getattr(arrayloss, name)
        peer = F.cross_entropy if hard else F.binary_cross_entropy_with_logits
        return lambda: ours.value_and_grad(x, t), backward(peer, *torch_inputs((32, 10), 10 if hard else None))

    return make


TINY = ((32, 10), (32, 10))
T, K, M = ("torch",), ("torch", "kornia"), ("torch", "monai")

ROWS = [
    Row("torch cross-entropy 8192x1000", "F.cross_entropy", 0.75, "torch", _cross_entropy(torch_pair, ROWS_OF_LABELS, -1), T),
    Row("torch cross-entropy 4x21x512x512", "F.cross_entropy", 0.75, "torch", _cross_entropy(torch_pair, PIXELS, 1), T),
    Row("torch bce 4M", "F.bce_with_logits", 1.0, "torch", _bce(torch_pair, BINARY), T),
    Row("torch sigmoid focal 4M", "torchvision's formula", 0.40, "torch", _sigmoid_focal(torch_pair, BINARY), T),
    Row("torch softmax focal 8192x1000", "kornia", 0.55, "torch", _softmax_focal(torch_pair), K),
    Row("torch dice 8x4x256x256", "MONAI", 1.0, "torch", _dice(torch_pair), M),
    Row("torch dice + cross-entropy 8x4x256x256", "MONAI", 1.0, "torch", _dice_cross_entropy(torch_pair, MASKS), M),
    Row("torch dice + cross-entropy 4x21x256x256", "MONAI", 1.0, "torch", _dice_cross_entropy(torch_pair, SCENES), M),
    Row("compiled cross-entropy 8192x1000", "F.cross_entropy", 1.0, "compiled", _cross_entropy(compiled_pair, ROWS_OF_LABELS, -1), T),
    Row("compiled cross-entropy 4x21x512x512", "F.cross_entropy", 1.0, "compiled", _cross_entropy(compiled_pair, PIXELS, 1), T),
    Row("compiled bce 4M", "F.bce_with_logits", 1.0, "compiled", _bce(compiled_pair, BINARY), T),
    Row("compiled sigmoid focal 4M", "torchvision's formula", 1.0, "compiled", _sigmoid_focal(compiled_pair, BINARY), T),
    Row("compiled softmax focal 8192x1000", "kornia", 1.0, "compiled", _softmax_focal(compiled_pair), K),
    Row("compiled dice 8x4x256x256", "MONAI", 1.0, "compiled", _dice(compiled_pair), M),
    Row("jax cross-entropy 8192x1000", "optax", 1.0, "jax", _jax_cross_entropy, ("jax", "optax")),
    Row("jax sigmoid focal 4M", "optax", 0.25, "jax", _jax_focal, ("jax", "optax")),
    Row("numpy bce 4M", "straightforward NumPy", 0.45, "numpy", _numpy_bce),
    Row("numpy cross-entropy 8192x1000", "straightforward NumPy", 0.40, "numpy", _numpy_cross_entropy),
    Row("numpy bce 1M, one thread", "scikit-learn", 0.4, "numpy", _sklearn_bce, ("sklearn",), threads=1),
    Row("torch cross-entropy 32x10", "F.cross_entropy", 2.5, "torch", _cross_entropy(torch_pair, TINY, -1), T, memory=False),
    Row("torch bce 32x10", "F.bce_with_logits", 2.5, "torch", _bce(torch_pair, TINY), T, memory=False),
    Row("torch sigmoid focal 32x10", "torchvision's formula", 0.7, "torch", _sigmoid_focal(torch_pair, TINY), T, memory=False),
    Row("numpy cross-entropy 32x10", "F.cross_entropy", 2.5, "numpy", _tiny_numpy("softmax_cross_entropy"), T, memory=False),
    Row("numpy bce 32x10", "F.bce_with_logits", 2.5, "numpy", _tiny_numpy("sigmoid_cross_entropy"), T, memory=False),
]
