"""The rows of the table: what is computed, against whom, and the ratios to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import peers
from .measure import Work
from .peers import Function, Monai, functional

Pair = tuple[Work, Work]
Aims = tuple[float, ...]  # of ours / the peer: alone, behind an OpenMP region, on busy cores; what has none is not measured


@dataclass(frozen=True)
class Inputs:
    """Logits of a shape (and of a small one), and targets: labels along an axis, "numbers" of 0 and 1, "signs", "counts", or "logits".

    "sequences": log-probabilities of T x N x C, and T / 8 labels for each of N sequences.
    """

    shape: tuple[int, ...]
    small: tuple[int, ...]
    targets: str = "labels"
    axis: int = -1

    def arrays(self, is_small: bool) -> tuple[Any, Any]:
        random, shape = np.random.default_rng(0), self.small if is_small else self.shape
        x = 2 * random.standard_normal(shape, dtype=np.float32)
        if self.targets == "numbers":
            return x, (random.random(shape, dtype=np.float32) < 0.3).astype(np.float32)
        if self.targets == "signs":
            return x, np.where(random.random(shape) < 0.5, np.float32(-1), np.float32(1))
        if self.targets == "counts":
            return x, random.integers(0, 5, shape).astype(np.float32)
        if self.targets == "sequences":
            x -= np.log(np.sum(np.exp(x), axis=2, keepdims=True))
            return x, random.integers(1, shape[2], (shape[1], shape[0] // 8))
        if self.targets == "logits":
            return x, x + random.standard_normal(shape, dtype=np.float32)
        axis = self.axis % len(shape)
        return x, random.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])


@dataclass(frozen=True)
class Loss:
    """One of our losses by name, with options; they are imported when they are needed."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    plus: Loss | None = None

    def get(self) -> Any:
        import arrayloss

        loss = getattr(arrayloss, self.name).bind(**dict(self.options))
        return loss if self.plus is None else loss + self.plus.get()


@dataclass(frozen=True)
class OfSequences(Loss):
    """A loss of sequences that are all as long as their arrays."""

    def get(self) -> Any:
        return peers.with_lengths(super().get())


def ours(name: str, **options: Any) -> Loss:
    return Loss(name, tuple(options.items()))


@dataclass(frozen=True)
class Row:
    """One comparison, in one of `MODES`."""

    mode: str
    name: str
    loss: Loss
    against: str
    peer: Function
    inputs: Inputs
    aims: Aims
    module: str = ""  # that the peer needs

    @property
    def title(self) -> str:
        return f"{self.mode}: {self.name}"

    def works(self, is_small: bool) -> Pair:
        """Our work and the peer's."""
        return MODES[self.mode](self.loss.get(), self.peer, *self.inputs.arrays(is_small), is_small)


def _leaf(x: Any, t: Any) -> tuple[Any, Any]:
    import torch

    return torch.from_numpy(x).requires_grad_(), torch.from_numpy(t)


def backward(function: Function, x: Any, t: Any) -> Work:
    """Forward and backward in PyTorch, the gradient thrown away."""

    def work() -> None:
        function(x, t).backward()
        x.grad = None

    return work


def _torch(loss: Any, peer: Function, x: Any, t: Any, _: bool) -> Pair:
    inputs = _leaf(x, t)
    return backward(loss, *inputs), backward(peer, *inputs)


def _torch_linear(loss: Any, peer: Function, x: Any, t: Any, is_small: bool) -> Pair:
    """Of features and the weight of a last layer; labels are those of some of its classes."""
    import torch

    inputs = linear_inputs(x, t, is_small)

    def work(function: Function) -> Work:
        def run() -> None:
            function(*inputs).backward()
            for a in inputs[:2]:
                a.grad = None

        return run

    return work(lambda x, w, t: loss(x, w, t)), work(lambda x, w, t: peer(torch.matmul(x, w.T), t))


def linear_inputs(x: Any, t: Any, is_small: bool) -> tuple[Any, Any, Any]:
    """Features, weight and labels."""
    import torch

    random, classes = np.random.default_rng(1), 1000 if is_small else CLASSES
    weight = random.standard_normal((classes, x.shape[1]), dtype=np.float32) / x.shape[1] ** 0.5
    return torch.from_numpy(x).requires_grad_(), torch.from_numpy(weight).requires_grad_(), torch.from_numpy(t)


def _torch_value(loss: Any, peer: Function, x: Any, t: Any, _: bool) -> Pair:
    x, t = _leaf(x, t)
    x = x.detach()
    return lambda: loss(x, t), lambda: peer(x, t)


def _compiled(loss: Any, peer: Function, x: Any, t: Any, is_small: bool) -> Pair:
    import torch

    torch._dynamo.reset()  # no row knows the sizes that another one compiled
    backend = "aot_eager" if is_small else "inductor"
    whole = torch.compile(lambda x, t: loss(x, t), fullgraph=True, backend=backend)
    return _torch(whole, torch.compile(peer, backend=backend), x, t, is_small)


def _jax(loss: Any, peer: Function, x: Any, t: Any, _: bool) -> Pair:
    import jax

    inputs = tuple(map(jax.numpy.asarray, (x, t)))

    def work(function: Function) -> Work:
        run = jax.jit(jax.value_and_grad(function))
        return lambda: jax.block_until_ready(run(*inputs))

    return work(lambda x, t: loss(x, t)), work(peer)


def _numpy(loss: Any, peer: Function, x: Any, t: Any, _: bool) -> Pair:
    return lambda: loss.value_and_grad(x, t), lambda: peer(x, t)


def _torch_gradient(loss: Any, peer: Function, x: Any, t: Any, _: bool) -> Pair:
    import torch

    x, t = map(torch.from_numpy, (x, t))
    return lambda: loss.value_and_grad(x, t), lambda: peer(x, t)


def _objective(loss: Any, peer: Function, x: Any, t: Any, _: bool) -> Pair:
    return lambda: loss.grad_and_hess(x, t), lambda: peer(x, t)


def _numpy_torch(loss: Any, peer: Function, x: Any, t: Any, _: bool) -> Pair:
    return lambda: loss.value_and_grad(x, t), backward(peer, *_leaf(x, t))


MODES: dict[str, Callable[..., Pair]] = {
    "PyTorch": _torch,
    "PyTorch, linear layer": _torch_linear,
    "PyTorch, value": _torch_value,
    "PyTorch, loss and gradient": _torch_gradient,
    "PyTorch, compiled": _compiled,
    "JAX, jitted": _jax,
    "NumPy": _numpy,
    "NumPy, gradient and Hessian": _objective,
    "NumPy against PyTorch": _numpy_torch,
}

CLASSES = 50_304  # of the linear layer
FEATURES = Inputs((4096, 512), (64, 16))
FLAT, MILLION = Inputs((4_000_000,), (4096,), "numbers"), Inputs((2**20,), (4096,), "numbers")
TABLE, NARROW, WORDS = Inputs((8192, 1000), (64, 10)), Inputs((8192, 100), (64, 10)), Inputs((2048, 32_000), (16, 100))
COUNTS, MANY_COUNTS, SIGNS = (
    Inputs((2**20,), (4096,), "counts"),
    Inputs((4_000_000,), (4096,), "counts"),
    Inputs((4_000_000,), (4096,), "signs"),
)
BOOSTING, PAIRS = Inputs((100_000, 10), (100, 10)), Inputs((8192, 100), (64, 10), "logits")
SCENES = Inputs((4, 21, 512, 512), (2, 5, 8, 8), axis=1)
PIXELS, MASKS = Inputs((8, 4, 256, 256), (2, 3, 16, 16), axis=1), Inputs((8, 4, 256, 256), (2, 3, 16, 16), "numbers")
VOLUME = Inputs((1, 46, 64, 64, 64), (1, 5, 8, 8, 8), axis=1)
SPEECH = Inputs((400, 16, 100), (16, 2, 5), "sequences")
TINY, TINY_NUMBERS = Inputs((32, 10), (32, 10)), Inputs((32, 10), (32, 10), "numbers")

CE, BCE = ours("softmax_cross_entropy"), ours("sigmoid_cross_entropy")
FOCAL, SOFTMAX_FOCAL = ours("sigmoid_focal_loss", alpha=0.25), ours("softmax_focal_loss")
PIXEL_CE = ours("softmax_cross_entropy", axis=1)
DICE = ours("dice_loss", activation="softmax", axis=1)
SMOOTH = ours("softmax_cross_entropy", label_smoothing=0.1, axis=1)
CTC, F_CTC = OfSequences("ctc_loss", (("length_normalized", True),)), peers.with_lengths(functional("ctc_loss"))
F_CE, F_BCE = functional("cross_entropy"), functional("binary_cross_entropy_with_logits")
F_SMOOTH = functional("cross_entropy", label_smoothing=0.1)
MONAI_DICE = Monai("DiceLoss", softmax=True, to_onehot_y=True, batch=True)
MONAI_DICE_CE = Monai("DiceCELoss", softmax=True, to_onehot_y=True, batch=True)
MONAI_SIGMOID = Monai("DiceLoss", sigmoid=True, batch=True)
DICE_CE = Loss("dice_loss", DICE.options, PIXEL_CE)
ARRAY_API = [  # our loss, scikit-learn's, and what both get
    (
        "binary cross-entropy 1M",
        ours("sigmoid_cross_entropy", reduction="none"),
        peers.sklearn_array_api("HalfBinomialLossArrayAPI"),
        MILLION,
    ),
    (
        "cross-entropy 100000x10",
        ours("softmax_cross_entropy", reduction="none"),
        peers.sklearn_array_api("HalfMultinomialLossArrayAPI", n_classes=10),
        BOOSTING,
    ),
    ("Poisson 1M", ours("poisson_nll_loss", reduction="none"), peers.sklearn_array_api("HalfPoissonLossArrayAPI"), COUNTS),
]
ELEMENTS = [  # our loss, that of torch.nn.functional, and what both get
    ("absolute error 4M", "absolute_error", "l1_loss", FLAT),
    ("smooth L1 4M", "smooth_l1_loss", "smooth_l1_loss", FLAT),
    ("Poisson 4M", "poisson_nll_loss", "poisson_nll_loss", MANY_COUNTS),
    ("soft margin 4M", "soft_margin_loss", "soft_margin_loss", SIGNS),
    ("hinge embedding 4M", "hinge_embedding_loss", "hinge_embedding_loss", SIGNS),
]
OF_OPTAX = [("log-cosh 4M", "log_cosh_loss", "log_cosh", FLAT), ("hinge 4M", "hinge_loss", "hinge_loss", SIGNS)]
FORMULA, TORCHVISION = "plain formula", "torchvision's formula"

ROWS = [
    Row("PyTorch", "cross-entropy 8192x1000", CE, "F.cross_entropy", F_CE, TABLE, (0.4, 0.5, 0.4)),
    Row("PyTorch", "cross-entropy 4x21x512x512", PIXEL_CE, "F.cross_entropy", F_CE, SCENES, (0.4, 0.5, 0.4)),
    Row("PyTorch", "cross-entropy 8192x1000, smoothed", SMOOTH, "F.cross_entropy", F_SMOOTH, TABLE, (0.4, 0.5, 0.4)),
    Row("PyTorch", "cross-entropy 4x21x512x512, smoothed", SMOOTH, "F.cross_entropy", F_SMOOTH, SCENES, (0.4, 0.5, 0.4)),
    Row("PyTorch", "cross-entropy 8x4x256x256", PIXEL_CE, "F.cross_entropy", F_CE, PIXELS, (0.4, 0.5, 0.4)),
    Row("PyTorch", "cross-entropy 8x4x256x256, smoothed", SMOOTH, "F.cross_entropy", F_SMOOTH, PIXELS, (0.4, 0.5, 0.4)),
    Row("PyTorch", "sigmoid focal 4M", FOCAL, TORCHVISION, peers.torchvision_focal, FLAT, (0.1, 0.15, 0.1)),
    Row("PyTorch", "binary cross-entropy 4M", BCE, "F.bce_with_logits", F_BCE, FLAT, (0.25, 0.5, 0.3)),
    Row("PyTorch", "huber 4M", ours("huber_loss"), "F.huber_loss", functional("huber_loss"), FLAT, (0.5, 0.8, 0.3)),
    *[Row("PyTorch", name, ours(loss), f"F.{peer}", functional(peer), inputs, (0.5,)) for name, loss, peer, inputs in ELEMENTS],
    Row("PyTorch", "Dice 1x46x64x64x64", DICE, "MONAI", MONAI_DICE, VOLUME, (0.8, 0.9, 0.6), "monai"),
    Row("PyTorch", "Dice 8x4x256x256", DICE, "MONAI", MONAI_DICE, PIXELS, (0.8, 0.9, 0.6), "monai"),
    Row(
        "PyTorch",
        "Dice 8x4x256x256, sigmoid",
        ours("dice_loss", activation="sigmoid", axis=1),
        "MONAI",
        MONAI_SIGMOID,
        MASKS,
        (0.8, 0.9, 0.6),
        "monai",
    ),
    Row("PyTorch", "Dice + cross-entropy 8x4x256x256", DICE_CE, "MONAI", MONAI_DICE_CE, PIXELS, (0.8, 0.9, 0.6), "monai"),
    Row("PyTorch", "softmax focal 8192x100", SOFTMAX_FOCAL, FORMULA, peers.softmax_focal, NARROW, (1.0, 1.0, 1.0)),
    Row("PyTorch", "softmax focal 8192x1000", SOFTMAX_FOCAL, "kornia", peers.kornia_focal, TABLE, (0.55, 0.6, 0.55), "kornia"),
    Row("PyTorch", "KL divergence 8192x100", ours("kl_divergence"), "F.kl_div", peers.torch_kl, PAIRS, (1.0,)),
    Row("PyTorch", "nll 2048x32000", ours("nll_loss"), "F.nll_loss", functional("nll_loss"), WORDS, (0.5,)),
    Row("PyTorch, value", "nll 2048x32000", ours("nll_loss"), "F.nll_loss", functional("nll_loss"), WORDS, (12.5,)),  # 100 us
    Row(
        "PyTorch, linear layer",
        "cross-entropy 4096x512x50304",
        ours("linear_cross_entropy"),
        "F.cross_entropy",
        F_CE,
        FEATURES,
        (1.05,),
    ),
    Row("PyTorch", "CTC 400x16x100, 50 labels", CTC, "F.ctc_loss", F_CTC, SPEECH, (2.0, 2.0, 2.0)),
    Row("PyTorch", "cross-entropy 32x10", CE, "F.cross_entropy", F_CE, TINY, (3.5,)),
    Row("PyTorch", "binary cross-entropy 32x10", BCE, "F.bce_with_logits", F_BCE, TINY_NUMBERS, (4.5,)),
    Row("PyTorch", "sigmoid focal 32x10", FOCAL, TORCHVISION, peers.torchvision_focal, TINY_NUMBERS, (1.0,)),
    Row("PyTorch, compiled", "cross-entropy 8192x1000", CE, "F.cross_entropy", F_CE, TABLE, (1.0,)),
    Row("PyTorch, compiled", "cross-entropy 4x21x512x512", PIXEL_CE, "F.cross_entropy", F_CE, SCENES, (1.0,)),
    Row("PyTorch, compiled", "binary cross-entropy 4M", BCE, "F.bce_with_logits", F_BCE, FLAT, (1.0,)),
    Row("PyTorch, compiled", "sigmoid focal 4M", FOCAL, TORCHVISION, peers.torchvision_focal, FLAT, (1.0,)),
    Row("PyTorch, compiled", "softmax focal 8192x1000", SOFTMAX_FOCAL, "kornia", peers.kornia_focal, TABLE, (1.0,), "kornia"),
    Row("PyTorch, compiled", "Dice 8x4x256x256", DICE, "MONAI", MONAI_DICE, PIXELS, (1.0,), "monai"),
    Row("JAX, jitted", "cross-entropy 8192x1000", CE, "optax", peers.optax_cross_entropy, TABLE, (1.0,), "optax"),
    Row("JAX, jitted", "sigmoid focal 4M", FOCAL, "optax", peers.optax_focal, FLAT, (0.25,), "optax"),
    *[
        Row("JAX, jitted", name, ours(loss), "optax", peers.of_optax(peer), inputs, (1.0,), "optax")
        for name, loss, peer, inputs in OF_OPTAX
    ],
    Row("NumPy", "binary cross-entropy 4M", BCE, FORMULA, peers.numpy_bce, FLAT, (0.15, 0.15, 0.15)),
    Row("NumPy", "cross-entropy 8192x1000", CE, FORMULA, peers.numpy_cross_entropy, TABLE, (0.15, 0.15, 0.15)),
    Row("NumPy", "binary cross-entropy 1M", BCE, "scikit-learn", peers.sklearn_bce, MILLION, (0.15,), "sklearn"),
    Row("NumPy", "KL divergence 8192x100", ours("kl_divergence"), FORMULA, peers.numpy_kl, PAIRS, (1.0,)),
    *[
        Row(mode, name, loss, "scikit-learn, array API", peer, inputs, (0.5,), "sklearn")
        for mode in ("NumPy", "PyTorch, loss and gradient")
        for name, loss, peer, inputs in ARRAY_API
    ],
    Row("NumPy, gradient and Hessian", "binary cross-entropy 1M", BCE, FORMULA, peers.numpy_binary_objective, MILLION, (0.5,)),
    Row("NumPy, gradient and Hessian", "cross-entropy 100000x10", CE, FORMULA, peers.numpy_softmax_objective, BOOSTING, (0.5,)),
    Row("NumPy against PyTorch", "cross-entropy 32x10", CE, "F.cross_entropy", F_CE, TINY, (2.5,)),
    Row("NumPy against PyTorch", "binary cross-entropy 32x10", BCE, "F.bce_with_logits", F_BCE, TINY_NUMBERS, (2.5,)),
]
