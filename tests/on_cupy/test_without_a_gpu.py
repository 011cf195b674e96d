"""The real CuPy where there is no GPU: its arrays over host memory are dispatched, planned and refused like any other, and every
kernel that a call plans is compiled by NVIDIA's own compiler for the architectures of data-centre GPUs. Nothing is launched.
"""

from __future__ import annotations

from importlib import util
from typing import Any

import numpy as np
import pytest
from drawn import CASES, Case

import arrayloss as al

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
if util.find_spec("cupy_cpu") is not None:
    pytest.skip("this is the CPU double of CuPy; the real one is wanted here", allow_module_level=True)

ARCHITECTURES = ("80", "90")
TOGETHER = 64  # kernels in one compilation, which shares the cost of the headers
DTYPES = ("float32", "float64", "float16", "bfloat16")


def over_host_memory(values: Any, dtype: str | None = None) -> Any:
    """A real `cupy.ndarray` that needs no driver."""
    import ml_dtypes

    values = np.array(values, order="C")
    values = values if dtype is None else values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    memory = cupy.cuda.UnownedMemory(values.ctypes.data, max(values.nbytes, 1), values, 0)
    return cupy.ndarray(values.shape, values.dtype, cupy.cuda.MemoryPointer(memory, 0))


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The sources of what would be launched."""
    from arrayloss.adapters import cuda
    from arrayloss.adapters import cupy as adapter

    sources: dict[str, str] = {}

    def run(plan: Any, arrays: Any) -> tuple[Any, ...]:
        kernels = [plan.kernel]
        if plan.workers > 1:
            kernels.append(cuda.gather(tuple(dtype for _, dtype in plan.outputs), "divisor" in plan.numbers))
        sources.update({k.source: k.name for k in kernels})
        made = iter([over_host_memory(np.zeros(shape), dtype) for shape, dtype in plan.outputs])
        return tuple(next(made) if f is None else f for f in plan.fixed or (None,) * len(plan.outputs))

    monkeypatch.setattr(adapter._Plan, "run", run)
    monkeypatch.setattr(
        adapter.CuPy, "constant", lambda self, values, dtype, like: over_host_memory(np.asarray(values), np.dtype(dtype).name)
    )
    return sources


def arguments(case: Case, dtype: str, samples: int = 6) -> list[Any]:
    predictions, targets = case.draw(samples=samples)
    return [*(over_host_memory(p, dtype) for p in predictions), over_host_memory(targets, dtype if targets.dtype.kind == "f" else None)]


def every_question(case: Case, dtype: str, samples: int = 6) -> None:
    """Plan all that can be asked of a loss."""
    arrays = arguments(case, dtype, samples)
    shape = arrays[0].shape[:-1] if case.oracle.rows else arrays[0].shape
    weights, where = over_host_memory(np.ones(shape), dtype), over_host_memory(np.ones(shape, bool))
    case.loss.value_and_grad(*arrays, **case.options)
    case.loss.value_and_grad(*arrays, weights=weights, where=where, **case.options)
    case.loss.value_and_grad(*arrays, reduction="none", **case.options)
    case.loss.value_and_grad(*arrays, normalizer=over_host_memory(np.ones(())), reduce_axes=0, **case.options)
    if case.targets in ("labels", "binary"):
        case.loss.value_and_grad(*arrays, ignore_index=(0, 255), **case.options)
    try:
        case.loss.grad_and_hess(*arrays, **case.options)
    except NotImplementedError as e:
        assert "no curvature" in str(e)  # noqa: PT017  # a loss may have none; then there is nothing to compile


def test_there_is_no_gpu_here() -> None:
    if cupy.is_available():
        pytest.skip("there is a GPU here: pytest -m gpu")
    with pytest.raises(Exception, match=r"cudaErrorInsufficientDriver|cudaErrorNoDevice"):
        cupy.zeros(1)


def test_arrays_are_dispatched_and_stay_where_they_are(planned: dict[str, str]) -> None:
    x = over_host_memory(np.zeros((4, 3), np.float32))
    value = al.softmax_cross_entropy(x, over_host_memory(np.zeros(4, np.int64)))
    assert type(value) is cupy.ndarray
    assert value.shape == ()
    assert list(planned.values()) == ["arrayloss_cross_entropy_of_labels_mean"]
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        np.asarray(value)


def test_targets_of_another_library_are_an_error_that_names_the_conversion(planned: dict[str, str]) -> None:
    with pytest.raises(
        TypeError, match=r"targets is a numpy ndarray beside predictions that are a cupy ndarray: convert it first, .*cupy\.asarray"
    ):
        al.squared_error(over_host_memory(np.zeros(3)), np.zeros(3))


@pytest.fixture(scope="module")
def nvrtc() -> Any:
    """NVIDIA's compiler behind CuPy's own front end."""
    path = pytest.importorskip(
        "nvidia.cu13", reason="NVRTC is not installed: nvidia-cuda-nvrtc, nvidia-cuda-runtime, nvidia-cuda-crt"
    ).__path__[0]
    from cupy.cuda import compiler

    before = compiler._get_arch_for_options_for_nvrtc
    compiler._get_arch_for_options_for_nvrtc = lambda arch=None: (f"-arch=sm_{arch}", "cubin")
    options = ("--std=c++17", "-ftz=true", "--device-as-default-execution-space", f"-I{path}/include")  # as CuPy compiles a RawKernel

    def compile_all(sources: dict[str, str]) -> None:
        assert sources
        many = list(sources.items())
        for start in range(0, len(many), TOGETHER):
            unit = "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n"
            for i, (source, name) in enumerate(many[start : start + TOGETHER]):
                renamed = source.replace(f" void {name}(", f" void {name}_{i}(")
                assert renamed != source
                lines = [line for line in renamed.splitlines() if not line.startswith("#include")]
                unit += "\n".join([f"namespace n{i} {{", *lines, "}\n"])
            for architecture in ARCHITECTURES:
                binary, _ = compiler.compile_using_nvrtc(unit, options, architecture, "kernels.cu")
                assert binary[:4] == b"\x7fELF"

    yield compile_all
    compiler._get_arch_for_options_for_nvrtc = before


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted({c.name for c in CASES}))
def test_nvrtc_compiles_every_loss(name: str, dtype: str, planned: dict[str, str], nvrtc: Any) -> None:
    for case in CASES:
        if case.name == name:
            every_question(case, dtype)
    nvrtc(planned)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nvrtc_compiles_sums_of_several_blocks_and_warps_of_a_row(dtype: str, planned: dict[str, str], nvrtc: Any) -> None:
    x = over_host_memory(np.zeros((4000, 64)), dtype)
    al.softmax_focal_loss.value_and_grad(x, over_host_memory(np.zeros(4000, np.int16)), gamma=1.5)
    al.sigmoid_focal_loss.value_and_grad(
        x, over_host_memory(np.zeros((4000, 64), np.uint8)), where=over_host_memory(np.ones((4000, 1), bool))
    )
    assert "arrayloss_gather" in planned.values()
    nvrtc(planned)
