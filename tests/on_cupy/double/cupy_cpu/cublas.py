"""Takes the place of CuPy's cuBLAS: products and transposes of matrices by NumPy. Everything else raises."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from . import NotEmulatedError, counters

available = True
_CONSTANTS = {"OP_N": 0, "OP_T": 1, "OP_C": 2, "POINTER_MODE_HOST": 0, "POINTER_MODE_DEVICE": 1, "SIDE_LEFT": 0, "SIDE_RIGHT": 1}
_CONSTANTS |= {"FILL_MODE_LOWER": 0, "FILL_MODE_UPPER": 1, "DIAG_NON_UNIT": 0, "DIAG_UNIT": 1, "GEMM_DEFAULT": -1}
_CONSTANTS |= {"DEFAULT_MATH": 0, "TENSOR_OP_MATH": 1, "PEDANTIC_MATH": 2, "TF32_TENSOR_OP_MATH": 3, "GEMM_DEFAULT_TENSOR_OP": 99}
_CONSTANTS |= {"COMPUTE_16F": 64, "COMPUTE_16F_PEDANTIC": 65, "COMPUTE_32F": 68, "COMPUTE_32F_PEDANTIC": 69}
_CONSTANTS |= {"COMPUTE_32F_FAST_16F": 74, "COMPUTE_32F_FAST_16BF": 75, "COMPUTE_32F_FAST_TF32": 77}
_CONSTANTS |= {"COMPUTE_64F": 70, "COMPUTE_64F_PEDANTIC": 71, "COMPUTE_32I": 72, "COMPUTE_32I_PEDANTIC": 73}
globals().update({f"CUBLAS_{name}": value for name, value in _CONSTANTS.items()})
_DTYPES = {0: np.float32, 1: np.float64, 2: np.float16, 14: ml_dtypes.bfloat16}  # by cudaDataType
_COMPUTED = {70: np.float64, 71: np.float64, 64: np.float16, 65: np.float16}  # by cublasComputeType; else float32
_modes = {"math": 0, "pointer": 0}


class CUBLASError(RuntimeError):
    """CuPy names it."""


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)

    def refuse(*_: Any, **__: Any) -> None:
        raise NotEmulatedError(f"cuBLAS {name} is not emulated")

    return refuse


def create() -> int:
    return 1


def destroy(handle: int) -> None:
    pass


def setStream(handle: int, stream: int) -> None:
    pass


def getStream(handle: int) -> int:
    return 0


def getVersion(handle: int) -> int:
    return 130000


def setMathMode(handle: int, mode: int) -> None:
    _modes["math"] = mode


def getMathMode(handle: int) -> int:
    return _modes["math"]


def setPointerMode(handle: int, mode: int) -> None:
    _modes["pointer"] = mode


def getPointerMode(handle: int) -> int:
    return _modes["pointer"]


def _view(pointer: int, count: int, dtype: Any) -> Any:
    dtype = np.dtype(dtype)
    memory = (ctypes.c_char * max(1, count * dtype.itemsize)).from_address(pointer)
    return np.frombuffer(memory, dtype=np.uint8, count=count * dtype.itemsize).view(dtype)


def _matrix(pointer: int, rows: int, columns: int, step: int, dtype: Any) -> Any:
    """Column by column, as Fortran does."""
    a = _view(pointer, step * (columns - 1) + rows, dtype)
    return np.lib.stride_tricks.as_strided(a, (rows, columns), (a.itemsize, step * a.itemsize))


def _operand(is_transposed: int, pointer: int, rows: int, columns: int, step: int, dtype: Any) -> Any:
    return _matrix(pointer, columns, rows, step, dtype).T if is_transposed else _matrix(pointer, rows, columns, step, dtype)


def gemmEx(
    h: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int, a: int, at: int, lda: int,
    b: int, bt: int, ldb: int, beta: int, c: int, ct: int, ldc: int, compute: int, algorithm: int,
) -> None:  # fmt: skip
    """C = alpha * A @ B + beta * C."""
    counters().launches += 1
    scale = _COMPUTED.get(compute, np.float32)
    wide = np.result_type(scale, np.float32)
    of_product, of_result = _view(alpha, 1, scale)[0].astype(wide), _view(beta, 1, scale)[0].astype(wide)
    out = _matrix(c, m, n, ldc, _DTYPES[ct])
    x, y = _operand(ta, a, m, k, lda, _DTYPES[at]).astype(wide), _operand(tb, b, k, n, ldb, _DTYPES[bt]).astype(wide)
    result = of_product * (x @ y)
    out[...] = (result if of_result == 0 else result + of_result * out.astype(wide)).astype(out.dtype)


def gemmStridedBatchedEx(
    h: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int, a: int, at: int, lda: int, sa: int, b: int, bt: int, ldb: int,
    sb: int, beta: int, c: int, ct: int, ldc: int, sc: int, batch: int, compute: int, algorithm: int,
) -> None:  # fmt: skip
    """Many of them."""
    sizes = [np.dtype(_DTYPES[t]).itemsize for t in (at, bt, ct)]
    for i in range(batch):
        a_i, b_i, c_i = (p + i * step * size for p, step, size in zip((a, b, c), (sa, sb, sc), sizes, strict=True))
        gemmEx(h, ta, tb, m, n, k, alpha, a_i, at, lda, b_i, bt, ldb, beta, c_i, ct, ldc, compute, algorithm)


def _gemm(dtype: int, compute: int) -> Callable[..., None]:
    def gemm(
        h: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int, a: int, lda: int, b: int, ldb: int, beta: int, c: int, ldc: int
    ) -> None:
        gemmEx(h, ta, tb, m, n, k, alpha, a, dtype, lda, b, dtype, ldb, beta, c, dtype, ldc, compute, 0)

    return gemm


def _geam(dtype: Any) -> Callable[..., None]:
    def geam(h: int, ta: int, tb: int, m: int, n: int, alpha: int, a: int, lda: int, beta: int, b: int, ldb: int, c: int, ldc: int) -> None:
        """C = alpha * A + beta * B, by which CuPy transposes."""
        counters().launches += 1
        of_a, of_b = _view(alpha, 1, dtype)[0], _view(beta, 1, dtype)[0]
        result = np.zeros((m, n), dtype)
        if of_a != 0:
            result += of_a * _operand(ta, a, m, n, lda, dtype)
        if of_b != 0:
            result += of_b * _operand(tb, b, m, n, ldb, dtype)
        _matrix(c, m, n, ldc, dtype)[...] = result

    return geam


sgemm, dgemm = _gemm(0, 68), _gemm(1, 70)
sgeam, dgeam = _geam(np.float32), _geam(np.float64)
