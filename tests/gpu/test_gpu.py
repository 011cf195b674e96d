"""What only a GPU can show. `pytest -m gpu -s tests/gpu` runs all of it and prints a table of times for docs/cupy.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module, util
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import arrayloss as al
from arrayloss.check.definitions import DEFINITIONS
from arrayloss.check.points import batches

from ..helpers import BACKENDS, EPSILON, several

pytestmark = pytest.mark.gpu
CUPY = BACKENDS["cupy"]
SIZE = 2**24  # elements; 64 MiB of float32
ROWS, CLASSES = 2**14, 2**10
VOLUMES = (2, 46, 64, 64, 64)


def no_gpu() -> str | None:
    """Why nothing here can run."""
    if util.find_spec("cupy_cpu") is not None:
        return "needs a GPU; this is the CPU double of CuPy"
    return f"needs a GPU; {CUPY.missing()}" if CUPY.missing() else None


@pytest.fixture(scope="module")
def cupy() -> Any:
    reason = no_gpu()
    if reason is not None:
        pytest.skip(reason)
    return import_module("cupy")


@pytest.fixture(scope="module")
def torch(cupy: Any) -> Any:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    return torch


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = [("value and gradient", "generated kernels", "array calls", "torch, same GPU"), ("---", *["---:"] * 3)]
    yield rows
    if len(rows) > 2:
        print("\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows))


def peak(cupy: Any, function: Callable[[], Any]) -> int:
    """The most bytes that a call holds beside what was there before."""
    pool = cupy.get_default_memory_pool()
    function()
    pool.free_all_blocks()
    before = pool.used_bytes()
    most = [before]

    class Watch(cupy.cuda.MemoryHook):
        name = "watch"

        def malloc_postprocess(self, **_: Any) -> None:
            most.append(pool.used_bytes())

    with Watch():
        function()
    return max(most) - before


def milliseconds(function: Callable[[], Any]) -> float:
    """The median of twenty runs on the GPU's own clock, after a warm-up that compiles."""
    times = import_module("cupyx.profiler").benchmark(function, n_repeat=20, n_warmup=3).gpu_times[0]
    return float(np.median(times)) * 1e3


def large_calls(cupy: Any) -> dict[str, Callable[[], Any]]:
    """Value and gradient of four losses."""
    rng = np.random.default_rng(0)
    x, t = (cupy.asarray(a.astype(np.float32)) for a in (rng.normal(size=SIZE), rng.integers(0, 2, size=SIZE)))
    rows, labels = cupy.asarray(rng.normal(size=(ROWS, CLASSES)).astype(np.float32)), cupy.asarray(rng.integers(0, CLASSES, size=ROWS))
    volumes = cupy.asarray(rng.normal(size=VOLUMES).astype(np.float32))
    regions = cupy.asarray(rng.integers(0, VOLUMES[1], size=(VOLUMES[0], *VOLUMES[2:])))
    return {
        "sigmoid cross-entropy, 16M": lambda: al.sigmoid_cross_entropy.value_and_grad(x, t),
        "sigmoid focal loss, 16M": lambda: al.sigmoid_focal_loss.value_and_grad(x, t),
        "softmax cross-entropy, 16k x 1k": lambda: al.softmax_cross_entropy.value_and_grad(rows, labels),
        "Dice, 2 x 46 x 64^3": lambda: al.dice_loss.value_and_grad(volumes, regions, activation="softmax", axis=1),
    }


@pytest.mark.parametrize("name", DEFINITIONS)
def test_values_and_gradients_are_those_of_numpy(name: str, cupy: Any) -> None:
    """Of every option, for every kind of targets, in every dtype."""
    loss = getattr(al, name)
    rows = [(d, kind, options) for d in DEFINITIONS[name] for kind in d.targets for options in d.options]
    for (definition, kind, options), dtype in product(rows, ("float32", "float64", "float16", "bfloat16")):
        (problem,) = batches(definition.predictions, kind, "random", np.random.default_rng(0), options)
        there = [CUPY.array(a, dtype if a.dtype.kind == "f" else None) for a in (*problem.predictions, problem.targets)]
        here = [CUPY.numpy(a) if a.dtype.kind in "biu" else CUPY.numpy(a).astype(np.float64) for a in there]
        value, gradients = loss.value_and_grad(*there, **CUPY.arrays(dict(problem.options)))
        expected, slopes = loss.value_and_grad(*here, **problem.options)
        assert_allclose(value.get(), expected, rtol=32 * (EPSILON["float64"] if dtype == "float64" else EPSILON["float32"]))
        for g, s in zip(several(gradients), several(slopes), strict=True):
            assert_allclose(CUPY.numpy(g), s, rtol=32 * EPSILON[dtype], atol=EPSILON[dtype] / 64)


def test_nothing_is_copied_to_the_host_and_nothing_waits(cupy: Any) -> None:
    """Everything is queued behind a kernel that holds the stream, so a hidden wait would take as long as it does."""
    source = "const long long start = clock64(); while (clock64() - start < n) {}"
    hold = cupy.RawKernel(f'extern "C" __global__ void hold(long long n) {{ {source} }}', "hold")
    for call in large_calls(cupy).values():
        call()
        cupy.cuda.Device().synchronize()
        end = cupy.cuda.Event()
        hold((1,), (1,), (2_000_000_000,))  # about a second
        end.record()
        call()
        assert not end.done
        cupy.cuda.Device().synchronize()


def test_a_gradient_holds_only_itself(cupy: Any) -> None:
    for call in large_calls(cupy).values():
        assert peak(cupy, call) < call()[1].nbytes + 2**20


def test_launches(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = import_module("arrayloss.engine.cuda.launcher")
    names: list[str] = []
    compiled = launcher._compiled
    monkeypatch.setattr(launcher, "_compiled", lambda name, source: (names.append(name), compiled(name, source))[1])
    for call in large_calls(cupy).values():
        names.clear()
        call()
        assert len(names) <= 4


def test_the_same_call_gives_the_same_bits(cupy: Any) -> None:
    for call in large_calls(cupy).values():
        (value, gradient), (again, same) = call(), call()
        assert value == again
        assert (gradient == same).all()


def test_the_bridge_to_torch_copies_nothing(cupy: Any, torch: Any) -> None:
    logits = torch.randn(1000, device="cuda", requires_grad=True)
    targets = (torch.rand(1000, device="cuda") > 0.5).float()
    lent = cupy.from_dlpack(logits.detach())
    assert lent.data.ptr == logits.data_ptr()
    value, gradient = al.sigmoid_focal_loss.value_and_grad(lent, cupy.from_dlpack(targets))
    back = torch.from_dlpack(gradient)
    assert back.data_ptr() == gradient.data.ptr
    al.sigmoid_focal_loss(logits, targets).backward()
    torch.testing.assert_close(back, logits.grad, rtol=1e-5, atol=1e-9)
    assert float(value) == pytest.approx(float(al.sigmoid_focal_loss(logits.detach(), targets)), rel=1e-5)


def test_speed(cupy: Any, table: list[tuple[str, ...]]) -> None:
    """Prints a table; nothing is asserted about time."""
    torch = import_module("torch") if util.find_spec("torch") is not None else None
    has_torch = torch is not None and torch.cuda.is_available()
    for name, call in large_calls(cupy).items():
        generated = milliseconds(call)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("arrayloss.adapters.cupy.execute", lambda *_: None)
            array_calls = milliseconds(call)
        theirs = f"{_torch_milliseconds(torch, name):.2f} ms" if has_torch and not name.startswith("Dice") else "-"
        table.append((name, f"{generated:.2f} ms", f"{array_calls:.2f} ms", theirs))


def _torch_milliseconds(torch: Any, name: str) -> float:
    """The same loss and its backward pass in PyTorch, on the GPU's clock."""
    functional = torch.nn.functional
    shape = (ROWS, CLASSES) if name.startswith("softmax") else (SIZE,)
    logits = torch.randn(shape, device="cuda", requires_grad=True)
    targets = torch.randint(0, CLASSES, (ROWS,), device="cuda") if name.startswith("softmax") else (logits > 0.3).float()

    def run() -> None:
        logits.grad = None
        if name.startswith("softmax"):
            loss = functional.cross_entropy(logits, targets)
        else:
            ce = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
            p = torch.sigmoid(logits)
            loss = (ce if "focal" not in name else ce * (1 - (p * targets + (1 - p) * (1 - targets))) ** 2).mean()
        loss.backward()

    for _ in range(3):
        run()
    times = []
    for _ in range(20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return float(np.median(times))
