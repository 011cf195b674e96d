"""Memory that stayed.

Shown elsewhere: `test_torch.TestBackward.test_memory_goes_when_its_references_go` and `test_engine.test_no_cycle_holds_an_array`.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import arrayloss as al

torch = pytest.importorskip("torch")
SOFTMAX: dict[str, Any] = {"activation": "softmax", "axis": 1}
LOSSES = {
    "dice": al.dice_loss.bind(**SOFTMAX),
    "weighted dice": al.dice_loss.bind(class_weights=(1.0, 2.0, 3.0), pool_axes=(2, 3), absent="skip", **SOFTMAX),
    "generalized dice": al.generalized_dice_loss.bind(**SOFTMAX),
    "jaccard": al.jaccard_loss.bind(**SOFTMAX),
    "focal tversky": al.focal_tversky_loss.bind(alpha=0.3, beta=0.7, **SOFTMAX),
    "cross-entropy": al.cross_entropy.bind(axis=1, ignore_index=1, class_weights=(1.0, 2.0, 3.0)),
    "combination": al.dice_loss.bind(**SOFTMAX) + al.cross_entropy.bind(axis=1),
}

QUICK = ("dice", "combination")  # the others are exhaustive
SAMPLE = [pytest.param(loss, id=name, marks=() if name in QUICK else pytest.mark.exhaustive) for name, loss in LOSSES.items()]


def _backward(loss: Any, x: Any, t: Any) -> None:
    loss(x.requires_grad_(), t).backward()


def _twice(loss: Any, x: Any, t: Any) -> None:
    (gradient,) = torch.autograd.grad(loss(x.requires_grad_(), t), x, create_graph=True)
    gradient.square().sum().backward()


def _of_parts(loss: Any, x: Any, t: Any) -> None:
    loss.finish(loss.parts(x.requires_grad_(), t)).backward()


def _value_and_grad(loss: Any, x: Any, t: Any) -> None:
    loss.value_and_grad(x, t)


def _transform(loss: Any, x: Any, t: Any) -> None:
    torch.func.grad(loss)(x, t)


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """Training loops turn it off."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("size", [pytest.param(8, marks=pytest.mark.exhaustive), 160])
@pytest.mark.parametrize("way", [_backward, _twice, _of_parts, _value_and_grad, _transform])
@pytest.mark.parametrize("loss", SAMPLE)
def test_no_batch_stays_alive_without_the_garbage_collector(loss: Any, way: Callable[..., None], size: int) -> None:
    """Every gradient of an overlap left a cycle that held predictions and cotangents.

    All overlaps, rows, combinations; small tensors and those beyond the size of a block; backward, twice, of parts, without autograd and
    by a transform. PyTorch's own `grad` with `create_graph` makes a cycle of a tensor and its gradient, which the test does not make.
    """
    alive = []
    for _ in range(3):
        x = torch.randn(2, 3, size, size)
        way(loss, x, torch.randint(0, 3, (2, size, size)))
        alive.append(weakref.ref(x))
        del x
    assert [r() is None for r in alive[1:]] == [True, True]  # the first use of a transform keeps its frame, once


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("size", [8, pytest.param(160, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("engine", ["numpy", pytest.param("compiled", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("loss", SAMPLE)
def test_no_array_of_numpy_stays_alive_without_the_garbage_collector(loss: Any, size: int, engine: str) -> None:
    """On both engines, with metrics; arrays that the calls returned as well."""
    t = np.random.default_rng(0).integers(0, 3, (2, size, size))
    with al.use_engine(engine):
        x = np.random.default_rng(1).normal(size=(2, 3, size, size))
        value, gradient = loss.value_and_grad(x, t)
        parts, counts = loss.parts(x, t), al.metrics.confusion(x, t, **SOFTMAX)
        loss(x, t), loss.finish(parts), al.metrics.dice(counts)
        alive = [weakref.ref(a) for a in (x, gradient, *[c for c in counts.arrays if isinstance(c, np.ndarray)])]
        del x, value, gradient, parts, counts
    assert all(r() is None for r in alive)
