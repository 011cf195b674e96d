"""Blocked sweeps: the answer does not depend on how the work is cut, and what it costs is what was promised.

The sums of blocks are float64 and added in one order, so that they differ between two cuts by float64 roundings only. Every
element is computed alone, but PyTorch's vector instructions and the scalar ones at the end of a block round differently, each
within the figure of its loss, of which 10 units in the last place is the largest here.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from conftest import without_numpy_for_torch

import arrayloss
from arrayloss.adapters import blocks

random = np.random.default_rng(7)
SHAPE = (6, 5, 350)
ELEMENT = 10


def elements(shape: tuple[int, ...], dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    return (3 * random.standard_normal(shape)).astype(dtype), (random.random(shape) < 0.3).astype(dtype)


def rows(shape: tuple[int, ...], axis: int, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    x = (3 * random.standard_normal(shape)).astype(dtype)
    return x, random.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])


CASES: dict[str, tuple[Any, tuple[Any, Any], dict[str, Any]]] = {
    "bce": (arrayloss.sigmoid_cross_entropy, elements(SHAPE), {}),
    "bce of integers": (arrayloss.sigmoid_cross_entropy, (elements(SHAPE)[0], random.integers(0, 2, SHAPE)), {}),
    "bce per sample": (arrayloss.sigmoid_cross_entropy, elements(SHAPE), {"reduce_axes": (1, 2)}),
    "bce of the last axis": (arrayloss.sigmoid_cross_entropy, elements(SHAPE), {"reduce_axes": 0}),
    "bce of elements": (arrayloss.sigmoid_cross_entropy, elements(SHAPE), {"reduction": "none"}),
    "focal": (arrayloss.sigmoid_focal_loss, elements(SHAPE), {"alpha": 0.25}),
    "focal in float64": (arrayloss.sigmoid_focal_loss, elements(SHAPE, "float64"), {"gamma": 1.5}),
    "focal in float16": (arrayloss.sigmoid_focal_loss, elements(SHAPE, "float16"), {}),
    "focal weighted": (arrayloss.sigmoid_focal_loss, elements(SHAPE), {"weights": random.random((6, 1, 350)).astype("float32")}),
    "focal of some": (arrayloss.sigmoid_focal_loss, elements(SHAPE), {"where": random.random(SHAPE) < 0.5}),
    "labels": (arrayloss.softmax_cross_entropy, rows((1500, 7), 1), {}),
    "labels in the middle": (arrayloss.softmax_cross_entropy, rows(SHAPE, 1), {"axis": 1}),
    "labels in front": (arrayloss.softmax_cross_entropy, rows(SHAPE, 0), {"axis": 0}),
    "labels, some ignored": (arrayloss.softmax_cross_entropy, rows((1500, 7), 1), {"ignore_index": 3}),
    "labels, focal": (arrayloss.softmax_focal_loss, rows((1500, 7), 1), {"alpha": (1, 2, 3, 4, 5, 6, 7)}),
    "squares": (arrayloss.squared_error, elements(SHAPE), {}),
}


@contextmanager
def cut_at(library: str, size: int) -> Iterator[None]:
    module = __import__(f"arrayloss.adapters.{library}", fromlist=["BLOCK"])
    with without_numpy_for_torch(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", size)
        yield


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(count))
        yield


def computed(library: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Value and gradient as NumPy arrays."""
    loss, (x, t), options = CASES[name]
    if library == "torch":
        torch = pytest.importorskip("torch")
        options = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        leaf = torch.from_numpy(x).requires_grad_()
        value = loss(leaf, torch.from_numpy(t), **options)
        value.sum().backward()
        return value.detach().numpy(), leaf.grad.numpy()
    value, gradient = loss.value_and_grad(x, t, **options)
    return np.asarray(value), gradient


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_answer_does_not_depend_on_the_size_of_blocks(library: str, name: str) -> None:
    with cut_at(library, 10**9):
        value, gradient = computed(library, name)
    for size in (64, 1000, 4096):
        with cut_at(library, size):
            cut_value, cut_gradient = computed(library, name)
        # sums are float64 and rounded once, elements may differ: see above
        eps = np.finfo(value.dtype).eps
        np.testing.assert_allclose(cut_value, value, rtol=eps if value.ndim == 0 else ELEMENT * eps, atol=0)
        np.testing.assert_allclose(cut_gradient, gradient, rtol=ELEMENT * eps, atol=np.finfo(gradient.dtype).tiny)


@pytest.mark.parametrize("name", CASES)
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    answers = []
    for count in (1, 2, 5):
        with cut_at("numpy", 256), on_threads(count):
            answers.append(computed("numpy", name))
    for value, gradient in answers[1:]:
        assert value.tobytes() == answers[0][0].tobytes()
        assert gradient.tobytes() == answers[0][1].tobytes()


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_same_run_gives_the_same_bits(library: str) -> None:
    with cut_at(library, 300), on_threads(3):
        first, second = computed(library, "focal"), computed(library, "focal")
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_sum_over_four_million_elements_is_right_to_the_last_digit(library: str) -> None:
    x = np.full(2**22, 0.1, np.float32)  # whose float32 sums round the same way everywhere
    x[::3] = 1e-3
    t = np.zeros_like(x)
    exact = float(np.sum(x.astype(np.float64) ** 2))  # each square rounds in float32 first: 2**-24 of it
    arrays = (x, t)
    if library == "torch":
        torch = pytest.importorskip("torch")
        arrays = (torch.from_numpy(x), torch.from_numpy(t))
    squares = float(np.sum(np.square(x).astype(np.float64)))
    total = float(arrayloss.squared_error.parts(*arrays).total)
    assert total == pytest.approx(squares, rel=1e-13)
    assert total == pytest.approx(exact, rel=2**-24)


TILED = [(0,), (1,), (7,), (4, 0, 3), (3, 4, 5), (1, 60, 1), (2, 3, 4, 5)]


@pytest.mark.parametrize(("shape", "whole"), [(shape, whole) for shape in TILED for whole in (None, *range(len(shape)))])
@pytest.mark.parametrize("size", [1, 7, 16, 1000])
def test_blocks_tile_an_array(shape: tuple[int, ...], whole: int | None, size: int) -> None:
    seen = np.zeros(shape, int)
    for index in blocks.indices(shape, whole, size):
        part = seen[index]
        part += 1
        assert part.size <= max(size, 1 if whole is None else shape[whole])
        assert whole is None or part.shape[whole] == shape[whole]
    assert (seen == 1).all()


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_an_error_in_a_block_comes_out_and_leaves_no_thread_behind(library: str, cores: int) -> None:
    x, t = (a.copy() for a in rows((4000, 7), 1))
    t[3500] = 9
    if library == "torch":
        torch = pytest.importorskip("torch")
        x, t = torch.from_numpy(x), torch.from_numpy(t)
    before = threading.active_count()
    with cut_at(library, 256), on_threads(cores), pytest.raises(ValueError, match="labels from 0 to 6; got 9"):
        arrayloss.softmax_cross_entropy.value_and_grad(x, t)
    assert threading.active_count() == before


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    with cut_at("numpy", 256), on_threads(4):
        computed("numpy", "focal")
    assert threading.active_count() == before


def _in_child(queue: Any) -> None:
    with cut_at("numpy", 256):
        queue.put(computed("numpy", "focal"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:os.fork.*:RuntimeWarning")  # the fork is what is tested
def test_a_forked_process_computes_on_threads_too() -> None:
    with cut_at("numpy", 256), on_threads(3):
        value, gradient = computed("numpy", "focal")  # the parent has used its threads
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_in_child, args=(queue,))
        child.start()
        child_value, child_gradient = queue.get(timeout=60)
        child.join(60)
    assert child.exitcode == 0
    assert child_value == value
    assert (child_gradient == gradient).all()


class _Samples:
    """A data set whose items are losses, computed where the item is loaded."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> float:
        with cut_at("numpy", 256):
            return float(computed("numpy", "focal")[0]) + i


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:os.fork.*:RuntimeWarning")  # the workers are forks
def test_losses_run_inside_workers_of_a_data_loader() -> None:
    data = pytest.importorskip("torch.utils.data")
    with on_threads(2):
        expected = [_Samples()[i] for i in range(4)]
        loaded = [float(v) for v in data.DataLoader(_Samples(), batch_size=None, num_workers=2)]
    assert loaded == expected


def test_threads_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from arrayloss.adapters.numpy import threads

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert threads() == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "none")
    assert threads() == len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads() >= 1


def test_numpy_holds_blocks_beside_the_gradient() -> None:
    x, t = elements((2**22,))

    def peak(work: Callable[[], Any]) -> int:
        work()
        gc.collect()
        tracemalloc.start()
        kept = work()
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        del kept
        return held

    from arrayloss.adapters.numpy import BLOCK

    loss = arrayloss.sigmoid_focal_loss
    with on_threads(2):
        assert peak(lambda: loss.value_and_grad(x, t)) - x.nbytes <= 32 * BLOCK * x.itemsize
        assert peak(lambda: loss(x, t)) <= 32 * BLOCK * x.itemsize


def test_torch_holds_blocks_beside_the_gradient_and_keeps_one_slope() -> None:
    torch = pytest.importorskip("torch")
    from torch.profiler import ProfilerActivity, profile

    from arrayloss.adapters.torch import BLOCK

    x, t = elements((2**22,))
    leaf, targets = torch.from_numpy(x).requires_grad_(), torch.from_numpy(t)

    def changes(work: Callable[[], Any]) -> list[int]:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
            kept = work()
        del kept
        return [e.nbytes() for e in sorted(run.profiler.kineto_results.events(), key=lambda e: e.start_ns()) if e.name() == "[memory]"]

    loss = arrayloss.sigmoid_focal_loss
    loss(leaf, targets)
    forward = changes(lambda: loss(leaf, targets))
    assert max(np.cumsum(forward)) - x.nbytes <= 32 * BLOCK * x.itemsize
    assert abs(sum(forward) - x.nbytes) < 4096  # one slope, and some numbers

    value = loss(leaf, targets)
    backward = changes(lambda: value.backward())
    assert max(np.cumsum(backward), default=0) < 4096  # the slope is the gradient: nothing is made
    assert leaf.grad is not None


def test_torch_keeps_its_slopes_as_long_as_the_graph() -> None:
    torch = pytest.importorskip("torch")
    x, t = elements((50,))
    leaf = torch.from_numpy(x).requires_grad_()
    value = arrayloss.sigmoid_focal_loss(leaf, torch.from_numpy(t))
    (first,) = torch.autograd.grad(value, leaf, retain_graph=True)
    kept = first.clone()
    first.zero_()  # what a caller does with a gradient reaches no later one
    (second,) = torch.autograd.grad(3 * value, leaf, retain_graph=True)
    (third,) = torch.autograd.grad(value, leaf)
    np.testing.assert_allclose(second, 3 * kept, rtol=2**-23)
    assert (third == kept).all()


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_choice_by_bits_is_where(library: str, dtype: str) -> None:
    values = random.standard_normal((40, 200)).astype(dtype)
    values[0, :4] = np.nan, np.inf, -np.inf, -0.0
    other = random.standard_normal((40, 200)).astype(dtype)
    mask = random.random((40, 200)) < 0.5
    mask[0, :4] = False, False, True, True
    cases = [(mask, values, other), (mask, other, values), (mask, values, 0.5), (mask, 0.0, values), (mask[:, :1], values, other)]
    for condition, a, b in cases:
        if library == "torch":
            torch = pytest.importorskip("torch")
            from arrayloss.adapters.torch_native import Eager

            given = [torch.from_numpy(np.ascontiguousarray(v)) if isinstance(v, np.ndarray) else v for v in (condition, a, b)]
            made = Eager().where(*given).numpy()
        else:
            from arrayloss.adapters.numpy_native import NAMESPACE

            made = NAMESPACE.where(condition, a, b)
        expected = np.where(condition, a, b).astype(dtype)
        assert made.dtype == expected.dtype
        assert made.tobytes() == expected.tobytes()
