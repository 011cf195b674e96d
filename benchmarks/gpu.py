"""Our losses against their peers on one GPU: values and gradients of large arrays.

    python -m benchmarks.gpu                          the table
    python -m benchmarks.gpu CuPy Dice                only rows whose name contains one of these words
    python -m benchmarks.gpu --smoke                  tiny sizes, to see that every row runs
    python -m benchmarks.gpu --write docs/speed.md    replace the table of that page

The clock runs from the first of some calls until the GPU has done the last. Beside the ratio stands how fast the inputs are read and the
gradient is written, as a share of what a copy of 1 GiB reads and writes.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # three libraries share the memory

from . import peers, rows
from .measure import Timing, Work, calls_in, seconds, versions
from .rows import (
    BCE,
    CE,
    CTC,
    DICE,
    F_BCE,
    F_CE,
    F_CTC,
    FOCAL,
    FORMULA,
    SOFTMAX_FOCAL,
    TORCHVISION,
    Function,
    Inputs,
    Row,
    functional,
    ours,
)

HEAD = "| | against | ours, ms | ratio | of a copy |\n|---|---|---|---|---|"
LIBRARIES = ("numpy", "cupy-cuda13x", "torch", "jax", "optax", "monai")


def _tensors(x: Any, t: Any) -> tuple[Any, Any]:
    import torch

    return torch.from_numpy(x).cuda().requires_grad_(), torch.from_numpy(t).cuda()


def _waiting(work: Work) -> Work:
    """With a wait for the GPU behind it."""
    import torch

    return lambda: (work(), torch.cuda.synchronize())


def _cupy(loss: Any, peer: Function, x: Any, t: Any, _: bool) -> rows.Pair:
    import cupy

    inputs = tuple(map(cupy.asarray, (x, t)))
    return lambda: loss.value_and_grad(*inputs), rows.backward(peer, *_tensors(x, t))


def _cupy_compiled(loss: Any, peer: Function, x: Any, t: Any, is_small: bool) -> rows.Pair:
    import torch

    torch._dynamo.reset()  # no row knows the sizes that another one compiled
    return _cupy(loss, torch.compile(peer), x, t, is_small)


def _torch(loss: Any, peer: Function, x: Any, t: Any, _: bool) -> rows.Pair:
    inputs = _tensors(x, t)
    return rows.backward(loss, *inputs), rows.backward(peer, *inputs)


def _torch_compiled(loss: Any, peer: Function, x: Any, t: Any, is_small: bool) -> rows.Pair:
    import torch

    torch._dynamo.reset()
    return _torch(torch.compile(lambda x, t: loss(x, t), fullgraph=True), torch.compile(peer), x, t, is_small)


def _jax(loss: Any, peer: Function, x: Any, t: Any, _: bool) -> rows.Pair:
    import jax

    inputs = tuple(map(jax.numpy.asarray, (x, t)))

    def work(function: Function) -> Work:
        run = jax.jit(jax.value_and_grad(function))
        return lambda: jax.block_until_ready(run(*inputs))

    return work(lambda x, t: loss(x, t)), work(peer)


MODES: dict[str, Callable[..., rows.Pair]] = {
    "CuPy": _cupy,
    "CuPy against torch.compile": _cupy_compiled,
    "PyTorch": _torch,
    "PyTorch, compiled": _torch_compiled,
    "JAX, jitted": _jax,
}
FLAT = Inputs((2**24,), (2**12,), "numbers")
TABLE, WORDS, PAIRS = Inputs((2**14, 1000), (64, 10)), Inputs((2048, 128_256), (16, 100)), Inputs((2**14, 1000), (64, 10), "logits")
VOLUMES = Inputs((2, 46, 64, 64, 64), (1, 5, 8, 8, 8), axis=1)
SHARED = [  # what both CuPy and PyTorch compute: name, our loss, the peer and what both get
    ("binary cross-entropy 16M", BCE, "F.bce_with_logits", F_BCE, FLAT),
    ("sigmoid focal 16M", FOCAL, TORCHVISION, peers.torchvision_focal, FLAT),
    ("huber 16M", ours("huber_loss"), "F.huber_loss", functional("huber_loss"), FLAT),
    ("cross-entropy 16384x1000", CE, "F.cross_entropy", F_CE, TABLE),
    ("cross-entropy 2048x128256", CE, "F.cross_entropy", F_CE, WORDS),
    ("cross-entropy 4x21x512x512", rows.PIXEL_CE, "F.cross_entropy", F_CE, rows.SCENES),
    ("softmax focal 16384x1000", SOFTMAX_FOCAL, FORMULA, peers.softmax_focal, TABLE),
    ("KL divergence 16384x1000", ours("kl_divergence"), "F.kl_div", peers.torch_kl, PAIRS),
    ("Dice 2x46x64x64x64", DICE, "MONAI", rows.MONAI_DICE, VOLUMES),
    ("cross-entropy 32x10", CE, "F.cross_entropy", F_CE, rows.TINY),
]
OF_OPTAX = [
    ("cross-entropy 16384x1000", CE, peers.optax_cross_entropy, TABLE),
    ("sigmoid focal 16M", FOCAL, peers.optax_focal, FLAT),
    ("log-cosh 16M", ours("log_cosh_loss"), peers.of_optax("log_cosh"), FLAT),
]
ROWS = [
    *[Row(mode, *row, aims=()) for mode in ("CuPy", "CuPy against torch.compile", "PyTorch", "PyTorch, compiled") for row in SHARED],
    Row("PyTorch", "CTC 400x16x100, 50 labels", CTC, "F.ctc_loss", F_CTC, rows.SPEECH, ()),
    *[Row("JAX, jitted", name, loss, "optax", peer, inputs, ()) for name, loss, peer, inputs in OF_OPTAX],
]


def repeated(work: Work, calls: int) -> Work:
    def run() -> None:
        for _ in range(calls):
            work()

    return run


def compare(ours: Work, peer: Work, budget: float) -> Timing:
    """Both sides in turn, after a warm-up that compiles; a budget of 0 only sees that they run."""
    import torch

    works = (ours, peer)
    for work in works * (3 if budget else 1):
        _waiting(work)()
    if not budget:
        return Timing(1.0, 1.0)
    calls = [calls_in(_waiting(work), 0.01) for work in works]
    times: tuple[list[float], list[float]] = ([], [])
    start = perf_counter()
    while len(times[0]) < 5 or perf_counter() - start < budget:
        for side, work in enumerate(works):
            times[side].append(seconds(_waiting(repeated(work, calls[side])), 1) / calls[side])
    torch.cuda.empty_cache()
    return Timing(*[1e3 * median(side) for side in times])


def copied_per_second() -> float:
    """Bytes that a copy reads and writes."""
    import torch

    a = torch.ones(2**28, device="cuda")
    b = torch.empty_like(a)
    copy = _waiting(lambda: b.copy_(a))
    copy()
    return 2 * a.nbytes / median(seconds(copy, 1) for _ in range(10))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only rows whose name contains one of these words")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that every row runs")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long to measure a row")
    parser.add_argument("--write", type=Path, help="put the table into this page, between its marks")
    options = parser.parse_args(arguments)
    if find_spec("torch") is None or not (torch := __import__("torch")).cuda.is_available():
        print("needs a GPU, and PyTorch with CUDA", file=sys.stderr)
        return 2
    speed = copied_per_second()
    machine = f"{torch.cuda.get_device_name()}, a copy at {speed / 1e12:.2f} TB/s, {versions(*LIBRARIES)}"
    table = [HEAD]
    print(f"{machine}\n\n{HEAD}")
    for row in ROWS:
        if options.words and not any(word in row.title for word in options.words):
            continue
        missing = [library for library in ("cupy", "jax", "optax", "monai") if _needs(row, library) and find_spec(library) is None]
        if missing:
            print(f"{row.title}: {missing[0]} is not installed")
            continue
        x, t = row.inputs.arrays(options.smoke)
        timing = compare(*MODES[row.mode](row.loss.get(), row.peer, x, t, options.smoke), 0.0 if options.smoke else options.seconds)
        share = (2 * x.nbytes + t.nbytes) / (timing.ours / 1e3) / speed
        table.append(f"| {row.title} | {row.against} | {timing.ours:.3g} | {timing.ratio:.2f} | {share:.2f} |")
        print(table[-1], flush=True)
    if options.write:
        text = "\n\n".join([f"Measured on {machine}.", "\n".join(table)])
        page = options.write.read_text()
        options.write.write_text(re.sub(r"(?s)(<!-- gpu -->\n).*(\n<!-- end of gpu -->)", lambda m: m[1] + text + m[2], page))
    return 0


def _needs(row: Row, library: str) -> bool:
    return library.lower() in f"{row.mode} {row.against}".lower()


if __name__ == "__main__":
    sys.exit(main())
