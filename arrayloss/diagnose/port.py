"""`Port`: a function of the user's own that is asked for numbers, with NumPy arrays at both ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from arrayloss.check.libraries import LIBRARIES, Library

Floats = np.ndarray[Any, np.dtype[np.float64]]


class NoNumberError(TypeError):
    """A function returned something that is no array of numbers."""


@dataclass
class Port:
    """A function of arrays of one library."""

    function: Callable[..., Any]
    library_name: str
    name: str
    constants: Mapping[str, float] = field(default_factory=dict)  # its parameters' defaults and its attributes
    arguments: Sequence[str] = ()  # the names of those that take arrays
    returned: tuple[str, tuple[int, ...]] = ("", ())  # dtype and shape of the last result
    changed: bool = False  # whether a call has changed its inputs

    @cached_property
    def library(self) -> Library:
        return LIBRARIES[self.library_name]

    def arrays(self, values: Sequence[Any], dtype: str, *, strided: str = "") -> list[Any]:
        """Arrays of the library: floats in a dtype, integers as they are."""
        return [self._array(np.asarray(v), dtype, strided) for v in values]

    def _array(self, values: Any, dtype: str, strided: str) -> Any:
        if strided == "slice" and values.ndim:  # every second entry of a longer array
            values = np.repeat(values, 2, axis=-1)
        if strided == "transpose" and values.ndim > 1:
            values = np.ascontiguousarray(np.swapaxes(values, 0, -1))
        made = self.library.array(values, dtype if values.dtype.kind == "f" else None)
        if strided == "transpose" and values.ndim > 1:
            return made.swapaxes(0, -1)
        return made[..., ::2] if strided == "slice" and values.ndim else made

    def value(self, values: Sequence[Any], dtype: str = "float64", *, strided: str = "") -> Floats:
        """What it returns, in float64."""
        with self.library.precision(dtype), np.errstate(all="ignore"):
            arrays = self.arrays(values, dtype, strided=strided)
            result = self.function(*arrays)
            number = self._number(result)
            for before, array in zip(values, arrays, strict=True):
                kept = np.asarray(before) if np.asarray(before).dtype.kind != "f" else self._rounded(before, dtype)
                self.changed |= not np.array_equal(self.library.numpy(array), kept, equal_nan=True)
            return number

    def _rounded(self, values: Any, dtype: str) -> Any:
        return self.library.numpy(self.library.array(np.asarray(values), dtype))

    def _number(self, result: Any) -> Floats:
        shape = getattr(result, "shape", None)
        if shape is None and not isinstance(result, int | float | complex | np.number):
            raise NoNumberError(f"it returned {type(result).__name__}, which is no array")
        self.returned = str(getattr(result, "dtype", type(result).__name__)).rpartition(".")[2], tuple(shape or ())
        return np.asarray(self.library.numpy(result) if shape is not None else result, dtype=np.float64)

    def gradient(self, values: Sequence[Any], at: int, dtype: str = "float64") -> Floats:
        """The gradient of the sum of what it returns with respect to one argument, by autograd."""
        with self.library.precision(dtype), np.errstate(all="ignore"):
            arrays = self.arrays(values, dtype)
            others = [a for i, a in enumerate(arrays) if i != at]

            def call(x: Any, *rest: Any) -> Any:
                return self.function(*rest[:at], x, *rest[at:])

            (slope,) = self.library.gradient(call, [arrays[at]], others)
            return np.asarray(self.library.numpy(slope))
