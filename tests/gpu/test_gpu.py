"""What only a GPU can show. `pytest -m gpu -s tests/gpu` runs all of it and prints the table for the README."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module, util
from typing import Any

import numpy as np
import pytest
from drawn import CASES, Case
from numpy.testing import assert_allclose

import arrayloss as al

pytestmark = pytest.mark.gpu
SIZE = 2**24  # elements; 64 MiB of float32
ROWS, CLASSES = 2**14, 2**10


def no_gpu() -> str | None:
    """Why nothing here can run."""
    if util.find_spec("cupy") is None:
        return "needs a GPU and CuPy; CuPy is not installed"
    if util.find_spec("cupy_cpu") is not None:
        return "needs a GPU; this is the CPU double of CuPy"
    return None if import_module("cupy").is_available() else "needs a GPU; CuPy finds none"


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
    rows: list[tuple[str, ...]] = [("value and gradient", "one kernel", "array calls", "torch, same GPU"), ("---", "---:", "---:", "---:")]
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

    class Watch(cupy.cuda.MemoryHook):  # type: ignore[misc, name-defined]
        name = "watch"

        def malloc_postprocess(self, **_: Any) -> None:
            most.append(pool.used_bytes())

    with Watch():
        function()
    return max(most) - before


def milliseconds(cupy: Any, function: Callable[[], Any]) -> float:
    """The median of twenty runs on the GPU's own clock, after a warm-up that compiles."""
    times = import_module("cupyx.profiler").benchmark(function, n_repeat=20, n_warmup=3).gpu_times[0]
    return float(np.median(times)) * 1e3


def drawn(cupy: Any) -> dict[str, tuple[Any, Any, Any]]:
    """A large call of three losses."""
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=SIZE).astype(np.float32), rng.integers(0, 2, size=SIZE).astype(np.float32)
    rows, labels = rng.normal(size=(ROWS, CLASSES)).astype(np.float32), rng.integers(0, CLASSES, size=ROWS)
    return {
        "sigmoid cross-entropy, 16M": (al.sigmoid_cross_entropy, cupy.asarray(x), cupy.asarray(t)),
        "sigmoid focal loss, 16M": (al.sigmoid_focal_loss, cupy.asarray(x), cupy.asarray(t)),
        "softmax cross-entropy, 16k x 1k": (al.softmax_cross_entropy, cupy.asarray(rows), cupy.asarray(labels)),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_are_those_of_numpy(case: Case, dtype: str, cupy: Any) -> None:
    predictions, targets = case.draw(samples=64)
    there = [cupy.asarray(p.astype(dtype)) for p in predictions]
    t = cupy.asarray(targets.astype(dtype) if targets.dtype.kind == "f" else targets)
    value, gradients = case.loss.value_and_grad(*there, t, **case.options)
    exact_t = t.get().astype(np.float64) if targets.dtype.kind == "f" else targets
    expected, slopes = case.loss.value_and_grad(*(p.get().astype(np.float64) for p in there), exact_t, **case.options)
    epsilon = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10}[dtype]
    of_value = max(epsilon, 2.0**-23) if dtype == "float16" else epsilon
    assert_allclose(value.get(), expected, rtol=32 * (2.0**-23 if dtype == "float16" else of_value))
    for g, s in zip(*(a if isinstance(a, tuple) else (a,) for a in (gradients, slopes)), strict=True):
        assert_allclose(g.get(), s, rtol=32 * epsilon, atol=epsilon / 64)


def test_nothing_is_copied_to_the_host_and_nothing_waits(cupy: Any) -> None:
    """Everything is queued behind a kernel that holds the stream, so a hidden wait would take as long as it does."""
    hold = cupy.RawKernel(
        'extern "C" __global__ void hold(long long n) { const long long start = clock64(); while (clock64() - start < n) {} }', "hold"
    )
    for loss, x, t in drawn(cupy).values():
        loss.value_and_grad(x, t)
        cupy.cuda.Device().synchronize()
        done = cupy.cuda.Event()
        hold((1,), (1,), (2_000_000_000,))  # about a second
        done.record()
        loss.value_and_grad(x, t)
        assert not done.done
        cupy.cuda.Device().synchronize()


def test_a_value_holds_nothing_and_a_gradient_only_itself(cupy: Any) -> None:
    for loss, x, t in drawn(cupy).values():
        assert peak(cupy, lambda loss=loss, x=x, t=t: loss(x, t)) < 2**20
        assert peak(cupy, lambda loss=loss, x=x, t=t: loss.value_and_grad(x, t)) < x.nbytes + 2**20


def test_launches(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = import_module("arrayloss.adapters.cupy")
    names: list[str] = []
    compiled = adapter._compiled
    monkeypatch.setattr(adapter, "_compiled", lambda name, source: (names.append(name), compiled(name, source))[1])
    for loss, x, t in drawn(cupy).values():
        names.clear()
        loss.value_and_grad(x, t)
        assert len(names) <= 3


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
    plain = import_module("arrayloss.adapters.cupy").CuPy(fused=False)
    for name, (loss, x, t) in drawn(cupy).items():
        call = loss._call(x, t)
        fused = milliseconds(cupy, lambda loss=loss, x=x, t=t: loss.value_and_grad(x, t))
        call.backend = plain
        unfused = milliseconds(cupy, call.value_and_grad)
        theirs = "-"
        if torch is not None and torch.cuda.is_available():
            theirs = f"{_torch_milliseconds(torch, name, x, t):.2f} ms"
        table.append((name, f"{fused:.2f} ms", f"{unfused:.2f} ms", theirs))


def _torch_milliseconds(torch: Any, name: str, x: Any, t: Any) -> float:
    """The same loss and its backward pass in PyTorch, on the GPU's clock."""
    functional = torch.nn.functional
    logits, targets = torch.from_dlpack(x).clone().requires_grad_(), torch.from_dlpack(t)

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
