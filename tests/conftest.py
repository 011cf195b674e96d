"""What tests share: JAX with float64 and a cache of compiled code; array libraries, kinds of operation and cases as fixtures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module, util
from pathlib import Path

import pytest

from arrayloss import use_engine
from arrayloss.engine.c import library

from .helpers import BACKENDS, Backend, each
from .operations import CASES, KINDS, additive_of, sample_of

collect_ignore = ["on_four_devices.py", "on_cupy/double"]  # programs that run in processes of their own


def pytest_configure(config: pytest.Config) -> None:
    """Compiling is most of what tests of JAX cost: what one process or run has compiled, others load.

    On the host NumPy computes, but in the tests of the compiled engine.
    """
    os.environ.setdefault("ARRAYLOSS_ENGINE", "numpy")
    if util.find_spec("jax") is None:
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    cache = getattr(config, "cache", None)  # absent with `-p no:cacheprovider`
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache.mkdir("jax")))
        jax.config.update("jax_compilation_cache_max_size", 2**30)  # with a limit there is a lock, and no process reads half a file
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Thousands of tests that would be deselected are not even collected."""
    return True if collection_path.name in ("exhaustive", "gpu") and config.getoption("markexpr").strip() == "not exhaustive" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On JAX and Dask a test takes a hundred times what it takes on NumPy.

    There two kinds stand for all kinds, and what the frontend does for every library alike is exhaustive: all but `everywhere`.
    """
    stand_ins = [KINDS["class weights"], KINDS["overlap"]]
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        is_slow = str(params.get("xp")) in ("jax", "dask") and item.path.name.startswith("test_contract")
        if is_slow and not (params["kind"] in stand_ins if "kind" in params else item.get_closest_marker("everywhere")):
            item.add_marker(pytest.mark.exhaustive)


@pytest.fixture
def compiled() -> Iterator[None]:
    """The compiled engine for arrays in the host's memory."""
    if not library._find_compiler().command:  # one that fails is no reason
        pytest.skip(library.MISSING)
    with use_engine("compiled"):
        yield


@pytest.fixture(params=["numpy", "compiled"])
def engine(request: pytest.FixtureRequest) -> str:
    """Both engines of arrays in the host's memory."""
    if request.param == "compiled":
        request.getfixturevalue("compiled")
    return str(request.param)


@pytest.fixture(params=[b for b in BACKENDS.values() if b.name != "cupy" or b.missing() is None], ids=str)
def xp(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every array library in turn; CuPy where it can run. JAX runs one operation after the other, which compiles less."""
    backend: Backend = request.param
    reason = backend.missing()
    if reason is not None:
        pytest.skip(reason)
    with import_module("jax").disable_jit() if backend.name == "jax" else nullcontext():
        yield backend


kind = each(KINDS)  # every kind of operation
case = each(CASES)  # every kind of operation on every path
additive = each(additive_of(CASES))  # every case that has parts
sample = each(sample_of(CASES, "overlap"))  # for what costs a second: every kind on the longest path, and one kind on every path
spine = each(sample_of(CASES))  # for what has nothing to do with paths: every kind on the longest path
