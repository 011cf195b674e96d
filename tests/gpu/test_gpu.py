"""What only a GPU can show of CuPy: nothing waits, what a call holds and launches, the same bits, and the bridge to PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import arrayloss as al

from .devices import no_cuda, no_gpu

pytestmark = pytest.mark.gpu
SIZE = 2**24  # elements; 64 MiB of float32
ROWS, CLASSES = 2**14, 2**10
VOLUMES = (2, 46, 64, 64, 64)


@pytest.fixture(scope="module")
def cupy() -> Any:
    reason = no_gpu()
    if reason is not None:
        pytest.skip(reason)
    return import_module("cupy")


@pytest.fixture(scope="module")
def torch(cupy: Any) -> Any:
    reason = no_cuda()
    if reason is not None:
        pytest.skip(reason)
    return import_module("torch")


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
