"""Every loss with every option on a GPU, in each library: NumPy's numbers, nothing that waits, the same bits, and calls compiled whole."""

from __future__ import annotations

import warnings
from importlib import import_module, util
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import arrayloss as al
from arrayloss.check.definitions import DEFINITIONS
from arrayloss.check.points import Problem, batches

from ..helpers import BACKENDS, EPSILON, quietly, several
from .devices import no_cuda, no_gpu

pytestmark = pytest.mark.gpu
WIDE = {"float64": "float64"}  # values of 16 bits are float32
Arrays = list[Any]


class Library:
    """Arrays of one library on the GPU."""

    def __init__(self, name: str) -> None:
        self.name, self.backend = name, BACKENDS[name]

    def missing(self) -> str | None:
        if self.name == "cupy":
            return no_gpu()
        if self.name == "torch":
            return no_cuda()
        is_there = util.find_spec("jax") is not None and import_module("jax").default_backend() == "gpu"
        return None if is_there else "needs a GPU, and JAX with CUDA"

    def array(self, values: Any, dtype: str | None = None) -> Any:
        array = self.backend.array(values, dtype)
        return array.to("cuda") if self.name == "torch" else array

    def numpy(self, array: Any) -> Any:
        return self.backend.numpy(array.cpu() if self.name == "torch" else array)

    def arguments(self, problem: Problem, dtype: str) -> tuple[Arrays, Arrays, dict[str, Any]]:
        """Predictions and targets there, the same numbers in NumPy's float64, and the options there."""
        arrays = [a for a in (*problem.predictions, problem.targets) if a is not None]
        there = [self.array(a, dtype if a.dtype.kind == "f" else None) for a in arrays]
        here = [a if a.dtype.kind in "biu" else a.astype(np.float64) for a in map(self.numpy, there)]
        return there, here, {n: self.array(v) if isinstance(v, np.ndarray) else v for n, v in problem.options.items()}

    def assert_gradients(self, found: Any, loss: Any, here: Arrays, problem: Problem, dtype: str) -> None:
        for g, s in zip(several(found), several(loss.value_and_grad(*here, **problem.options)[1]), strict=True):
            assert_allclose(self.numpy(g), s, rtol=64 * EPSILON[dtype], atol=EPSILON[dtype] / 8)


@pytest.fixture
def library(request: pytest.FixtureRequest) -> Library:
    found = Library(request.param)
    if reason := found.missing():
        pytest.skip(reason)
    return found


def of(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("library", names, indirect=True)


each_loss = pytest.mark.parametrize("name", DEFINITIONS)


def problems(name: str, first: bool = False) -> list[Problem]:
    """A batch for every option and every kind of targets; or for the first ones of each form."""
    rows = [(d, kind, options) for d in DEFINITIONS[name] for kind in d.targets for options in d.options]
    if first:
        rows = [(d, d.targets[0], d.options[0]) for d in DEFINITIONS[name]]
    return [problem for d, kind, options in rows for problem in batches(d.predictions, kind, "random", np.random.default_rng(0), options)]


@of("cupy", "torch")
@each_loss
def test_values_and_gradients(name: str, library: Library) -> None:
    loss = getattr(al, name)
    for problem, dtype in product(problems(name), EPSILON):
        there, here, options = library.arguments(problem, dtype)
        value, gradients = loss.value_and_grad(*there, **options)
        assert_allclose(library.numpy(value), loss(*here, **problem.options), rtol=32 * EPSILON[WIDE.get(dtype, "float32")])
        library.assert_gradients(gradients, loss, here, problem, dtype)


@of("cupy", "torch")
@each_loss
def test_the_same_call_gives_the_same_bits(name: str, library: Library) -> None:
    for problem in problems(name):
        there, _, options = library.arguments(problem, "float32")
        first, second = (getattr(al, name).value_and_grad(*there, **options) for _ in range(2))
        for a, b in zip(first[:1] + several(first[1]), second[:1] + several(second[1]), strict=True):
            np.testing.assert_array_equal(library.numpy(a), library.numpy(b))


@of("torch")
@each_loss
def test_nothing_waits_for_the_gpu(name: str, library: Library) -> None:
    """Forward and backward. A tuple of numbers among the options is copied to the GPU, which waits once."""
    import torch

    loss = getattr(al, name)
    for problem in problems(name):
        there, here, options = library.arguments(problem, "float32")
        leaves = [a.requires_grad_() for a in there[: len(problem.predictions)]]
        loss(*there, **options).backward()
        library.assert_gradients(tuple([a.grad for a in leaves]), loss, here, problem, "float32")
        if any(isinstance(v, tuple) for v in options.values()):
            continue
        with warnings.catch_warnings(action="ignore"):  # the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        try:
            loss(*there, **options).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@of("torch")
@each_loss
def test_a_loss_compiles_whole(name: str, library: Library) -> None:
    import torch

    loss = getattr(al, name)
    for problem in problems(name, first=True):
        there, here, options = library.arguments(problem, "float32")
        leaves = [a.requires_grad_() for a in there[: len(problem.predictions)]]
        torch._dynamo.reset()
        with quietly():
            torch.compile(lambda *arrays, options=options: loss(*arrays, **options), fullgraph=True)(*there).backward()
        library.assert_gradients(tuple([a.grad for a in leaves]), loss, here, problem, "float32")


@of("jax")
@each_loss
def test_a_jitted_loss(name: str, library: Library) -> None:
    import jax

    loss = getattr(al, name)
    for problem in problems(name):
        there, here, options = library.arguments(problem, "float32")
        count = len(problem.predictions)
        run = jax.jit(jax.value_and_grad(lambda p, t, options=options: loss(*p, *t, **options)))
        value, gradients = run(there[:count], there[count:])
        assert_allclose(np.asarray(value), loss(*here, **problem.options), rtol=64 * EPSILON["float32"])
        library.assert_gradients(tuple(gradients), loss, here, problem, "float32")
