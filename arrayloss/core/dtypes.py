"""Dtypes by name.

`isdtype` of the array API costs microseconds and refuses bfloat16 on NumPy and CuPy; one dictionary look-up does not.
"""

from __future__ import annotations

from typing import Any

_KINDS: dict[Any, str] = {}
_RANGES: dict[Any, tuple[int, int]] = {}


def name(dtype: Any) -> str:
    """`"float32"` for every library's float32."""
    text = getattr(dtype, "__name__" if isinstance(dtype, type) else "name", None)  # jax.numpy.float32 is a class
    return text if isinstance(text, str) else str(dtype).rsplit(".", 1)[-1]


def kind(dtype: Any) -> str:
    """`"bool"`, `"integer"`, `"half"` (16 bits), `"float"` (32 bits and more) or `"other"`."""
    key = type(dtype), dtype  # the type first: dtypes of two libraries are not to be compared
    found = _KINDS.get(key)
    if found is None:
        text = name(dtype)
        if text in ("bool", "bool_"):
            found = "bool"
        elif text.rstrip("0123456789") in ("int", "uint"):
            found = "integer"
        elif text in ("float16", "bfloat16"):
            found = "half"
        elif text in ("float32", "float64", "longdouble", "float96", "float128", "mpf"):
            found = "float"
        else:
            found = "other"
        _KINDS[key] = found
    return found


_UNDERFLOW = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}


def smallest_normal(dtype: Any) -> float:
    """Below this a number has fewer digits or, where a device flushes, is 0; 0 for a dtype of unknown range."""
    return _UNDERFLOW.get(name(dtype), 0.0)


def integer_range(dtype: Any) -> tuple[int, int]:
    """Smallest and largest value of an integer or boolean dtype."""
    key = type(dtype), dtype
    found = _RANGES.get(key)
    if found is None:
        text = name(dtype)
        bits = 1 if kind(dtype) == "bool" else int(text.lstrip("uint"))
        found = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if text.startswith("i") else (0, 2**bits - 1)
        _RANGES[key] = found
    return found
