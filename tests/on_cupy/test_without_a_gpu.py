"""The real CuPy where there is no GPU: its arrays over host memory are dispatched, planned and refused like any other, and every
kernel that a call plans is compiled by NVIDIA's own compiler for the architectures of data-centre GPUs. Nothing is launched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import util
from typing import Any

import numpy as np
import pytest

import arrayloss as al
from arrayloss.check.definitions import DEFINITIONS
from arrayloss.check.points import batches
from arrayloss.core.operation import ArrayRef

from ..operations import CASES, additive_of

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: .ci/cupy installs it in an environment of its own")
if util.find_spec("cupy_cpu") is not None:
    pytest.skip("this is the CPU double of CuPy; the real one is wanted here", allow_module_level=True)

BY_ARRAY_CALLS = ("ctc_loss", "sparsemax_loss", "multilabel_margin_loss")  # loops, sorted rows and pairs of classes are no kernels
ARCHITECTURES = ("80", "90")
TOGETHER = 64  # kernels in one compilation, which shares the cost of the headers
DTYPES = ("float32", "float64", "float16", "bfloat16")
Sources = dict[str, str]  # names of kernels by their sources


def over_host_memory(values: Any, dtype: str | None = None) -> Any:
    """A real `cupy.ndarray` that needs no driver."""
    import ml_dtypes

    values = np.array(values, order="C")
    values = values if dtype is None else values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    memory = cupy.cuda.UnownedMemory(values.ctypes.data, max(values.nbytes, 1), values, 0)
    return cupy.ndarray(values.shape, values.dtype, cupy.cuda.MemoryPointer(memory, 0))


class HostMemory:
    """The namespace of the adapter, with the two functions that frontends call before anything is recorded."""

    def __getattr__(self, name: str) -> Any:
        import array_api_compat.cupy as library

        return getattr(library, name)

    @staticmethod
    def asarray(values: Any, *, dtype: Any = None, device: Any = None) -> Any:
        return over_host_memory(values, np.dtype(dtype).name)

    @staticmethod
    def astype(a: Any, dtype: Any, *, copy: bool = True) -> Any:
        if not copy and a.dtype == np.dtype(dtype):
            return a
        return over_host_memory(np.zeros(a.shape), np.dtype(dtype).name)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Sources:
    """The sources of what would be launched. Array calls fail, since there is no driver."""
    from arrayloss.adapters import cupy as adapter
    from arrayloss.engine.cuda.launcher import Plan

    sources: Sources = {}

    def run(plan: Any, arrays: Any, _: Any) -> tuple[Any, ...]:
        sources.update({launch.kernel.source: launch.kernel.name for launch in plan.launches})
        every = [*arrays, *[over_host_memory(np.zeros(shape), dtype) for shape, dtype in plan.outputs]]
        return tuple([every[r.index] if type(r) is ArrayRef else r for r in plan.results])

    monkeypatch.setattr(Plan, "run", run)
    monkeypatch.setattr(adapter.ADAPTER, "xp", HostMemory())
    return sources


@pytest.fixture(scope="module")
def nvrtc() -> Iterator[Callable[[Sources], None]]:
    """NVIDIA's compiler behind CuPy's own front end."""
    missing = "NVRTC is not installed: nvidia-cuda-nvrtc, nvidia-cuda-runtime, nvidia-cuda-crt"
    path = pytest.importorskip("nvidia.cu13", reason=missing).__path__[0]
    from cupy.cuda import compiler

    before = compiler._get_arch_for_options_for_nvrtc
    compiler._get_arch_for_options_for_nvrtc = lambda arch=None: (f"-arch=sm_{arch}", "cubin")
    options = ("--std=c++17", "-ftz=true", "--device-as-default-execution-space", f"-I{path}/include")  # as CuPy compiles a RawKernel

    def compile_all(sources: Sources) -> None:
        assert sources
        every = list(sources.items())
        for start in range(0, len(every), TOGETHER):
            unit = "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n"
            for i, (source, name) in enumerate(every[start : start + TOGETHER]):
                renamed = source.replace(f" void {name}(", f" void {name}_{i}(")
                assert renamed != source
                lines = [line for line in renamed.splitlines() if not line.startswith("#include")]
                unit += "\n".join([f"namespace n{i} {{", *lines, "}\n"])
            for architecture in ARCHITECTURES:
                binary, _ = compiler.compile_using_nvrtc(unit, options, architecture, "kernels.cu")
                assert binary[:4] == b"\x7fELF"

    yield compile_all
    compiler._get_arch_for_options_for_nvrtc = before


def test_there_is_no_gpu_here() -> None:
    if cupy.is_available():
        pytest.skip("there is a GPU here: pytest -m gpu")
    with pytest.raises(Exception, match=r"cudaErrorInsufficientDriver|cudaErrorNoDevice"):
        cupy.zeros(1)


def test_arrays_are_dispatched_and_stay_where_they_are(planned: Sources) -> None:
    value = al.softmax_cross_entropy(over_host_memory(np.zeros((4, 3), np.float32)), over_host_memory(np.zeros(4, np.int64)))
    assert type(value) is cupy.ndarray
    assert value.shape == ()
    assert list(planned.values()) == ["arrayloss_cross_entropy_of_labels_sums"]
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        np.asarray(value)


def test_targets_of_another_library_are_an_error_that_names_the_conversion(planned: Sources) -> None:
    with pytest.raises(TypeError, match=r"targets must be an array of cupy, .*; got numpy\.ndarray: pass cupy\.asarray\(targets\)"):
        al.squared_error(over_host_memory(np.zeros(3)), np.zeros(3))


def plan_everything(loss: Any, arrays: list[Any], options: dict[str, Any]) -> None:
    """Plan all that can be asked of a loss."""
    loss.value_and_grad(*arrays, **options)
    loss(*arrays, **options)
    if options.get("reduction") != "none":
        loss.finish(loss.parts(*arrays, **{name: value for name, value in options.items() if name != "normalizer"}))
    try:
        loss.grad_and_hess(*arrays, **options)
    except NotImplementedError as e:
        assert "no second derivative" in str(e)  # noqa: PT017  # a loss may have none; then there is nothing to compile


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in DEFINITIONS if name not in BY_ARRAY_CALLS])
def test_nvrtc_compiles_every_option_of_a_loss(name: str, dtype: str, planned: Sources, nvrtc: Any) -> None:
    loss = getattr(al, name)
    for definition in DEFINITIONS[name]:
        for kind in definition.targets:
            for options in definition.options:
                for problem in batches(definition.predictions, kind, "random", np.random.default_rng(0), options):
                    arrays = [*problem.predictions, *([] if problem.targets is None else [problem.targets])]
                    there = [over_host_memory(a, dtype if a.dtype.kind == "f" else None) for a in arrays]
                    plan_everything(loss, there, dict(problem.options))
                    plan_everything(loss, there, {**problem.options, "reduction": "none"})
    nvrtc(planned)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", DTYPES)
def test_nvrtc_compiles_every_kind_of_operation(dtype: str, planned: Sources, nvrtc: Any) -> None:
    def convert(a: Any) -> Any:
        return over_host_memory(a, dtype if a.dtype.kind == "f" else None)

    for name, case in additive_of(CASES).items():
        if not name.startswith("sequence") and case.path != "combination":
            targets, options = case.arguments(convert)
            predictions = [convert(x) for x in case.kind.stack]
            plan_everything(case.loss, [*predictions, *targets], options)
    nvrtc(planned)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nvrtc_compiles_sums_of_several_blocks_and_warps_of_a_row(dtype: str, planned: Sources, nvrtc: Any) -> None:
    x, masks = over_host_memory(np.zeros((4000, 64)), dtype), over_host_memory(np.zeros((4000, 64), np.uint8))
    labels = over_host_memory(np.zeros(4000, np.int16))
    where = over_host_memory(np.ones((4000, 1), bool))
    al.softmax_focal_loss.value_and_grad(x, labels, gamma=1.5)
    al.sigmoid_focal_loss.value_and_grad(x, masks, where=where)
    for options in ({}, {"class_weights": (0.5,) * 64, "absent": "skip"}, {"pool_axes": (0, 1)}):
        al.dice_loss.value_and_grad(x, labels, activation="softmax", axis=1, **options)
        al.generalized_dice_loss.value_and_grad(x, masks, activation="sigmoid", axis=1, **{"smooth": 0.5, **options, "pool_axes": 0})
    assert "arrayloss_gather" in planned.values()
    nvrtc(planned)
