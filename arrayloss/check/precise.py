"""The array API on numbers of any precision: object arrays of mpmath's `mpf`, on which a kernel runs as it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from arrayloss.adapters.base import Adapter
from arrayloss.adapters.dispatch import ADAPTERS
from arrayloss.core import dtypes, special


class Dtype:
    """The dtype of `mpf` numbers; `arrayloss.core.dtypes` knows it by its name."""

    name = "mpf"


MPF: Any = Dtype()


class PreciseArray(np.ndarray[Any, Any]):
    """A NumPy array of mpf numbers; masks and labels are of NumPy's dtypes."""

    @property
    def dtype(self) -> Any:
        own = super().dtype
        return MPF if own.kind == "O" else own

    def __array_namespace__(self, /, *, api_version: str | None = None) -> Any:
        return NAMESPACE

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Operators: NumPy's, but for those that mpf numbers refuse at 0. The result is an array also where it has no dimensions."""
        function = FUNCTIONS[ufunc.__name__] if ufunc in (np.divide, np.power) else getattr(ufunc, method)
        return _wrap(function(*map(_plain, inputs), **{n: _plain(v) for n, v in options.items()}))

    def __getitem__(self, index: Any) -> Any:
        return _wrap(super().__getitem__(index))

    def __repr__(self) -> str:
        return repr(_plain(self))

    __str__ = __repr__


def precise(values: Any, dtype: Any = None) -> Any:
    """Floating-point numbers as mpf; with a floating dtype whatever they are."""
    array = _plain(np.asarray(values))
    if dtype is not None and dtypes.kind(dtype) in ("bool", "integer"):
        return array.astype(dtype).view(PreciseArray)
    if array.dtype.kind in "fO" or dtype is not None:
        array = np.asarray(_TO_MPF(array.astype(object)), dtype=object)
    return array.view(PreciseArray)


def _plain(a: Any) -> Any:
    if isinstance(a, list | tuple):
        return type(a)(map(_plain, a))
    return a.view(np.ndarray) if isinstance(a, PreciseArray) else a


def _wrap(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(map(_wrap, result))
    return precise(result) if isinstance(result, np.ndarray | np.generic | mpf) else result


def _entrywise(function: Callable[..., Any], inputs: int = 1, kind: type = object) -> Callable[..., Any]:
    """A function of arrays. What is not real is NaN."""

    def of_numbers(*numbers: Any) -> Any:
        try:
            result = function(*numbers)
        except (ZeroDivisionError, ValueError):
            return mpf("nan")
        return result if isinstance(result, mpf | bool) else mpf("nan")

    apply = np.frompyfunc(of_numbers, inputs, 1)
    return lambda *arrays: np.asarray(apply(*[_plain(precise(a, MPF)) for a in arrays])).astype(kind)


def _logaddexp(a: Any, b: Any) -> Any:
    top = max(a, b)
    return top if mpmath.isinf(top) else top + mpmath.log1p(mpmath.exp(-abs(a - b)))


_TO_MPF = np.frompyfunc(lambda v: v if isinstance(v, mpf) else mpf(v), 1, 1)
_NAMES = ["exp", "expm1", "log", "log1p", "log10", "sqrt", "erf", "digamma", "floor", "ceil"]
_NAMES += [f"{a}{name}{h}" for a in ("", "a") for name in ("sin", "cos", "tan") for h in ("", "h")]
FUNCTIONS: dict[str, Any] = {name: _entrywise(getattr(mpmath, name)) for name in _NAMES}
FUNCTIONS |= {name: _entrywise(getattr(mpmath, name), kind=bool) for name in ("isnan", "isinf", "isfinite")}
FUNCTIONS |= {"lgamma": _entrywise(mpmath.loggamma), "log2": _entrywise(lambda x: mpmath.log(x, 2))}
FUNCTIONS |= {"logaddexp": _entrywise(_logaddexp, 2), "atan2": _entrywise(mpmath.atan2, 2)}
FUNCTIONS["divide"] = _entrywise(lambda a, b: a / b if b != 0 else a * mpf("inf"), 2)
FUNCTIONS["pow"] = FUNCTIONS["power"] = _entrywise(lambda a, b: a**b, 2)
FUNCTIONS["asarray"] = FUNCTIONS["astype"] = lambda values, dtype=None, copy=None: precise(values, dtype)


class Namespace(special.Native):
    """NumPy's functions, which take objects too, and mpmath's in the place of those that do not."""

    mpf = float16 = float32 = float64 = MPF

    def __getattr__(self, name: str) -> Any:
        function = FUNCTIONS.get(name) or getattr(np, name)
        if not callable(function) or isinstance(function, type):
            return function

        def call(*arguments: Any, **options: Any) -> Any:
            options.pop("device", None)
            return _wrap(function(*map(_plain, arguments), **{n: object if v is MPF else _plain(v) for n, v in options.items()}))

        return call


NAMESPACE = Namespace()
ADAPTERS[PreciseArray] = Adapter(NAMESPACE, "mpmath")
