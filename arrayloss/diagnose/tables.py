"""The check of numbers of a function whose call was found out: it gets the arrays of the check in the shapes that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import numpy as np

from arrayloss.check.compare import check
from arrayloss.check.libraries import LIBRARIES, Library
from arrayloss.check.report import Report
from arrayloss.check.run import target_position

Array = Any
ELEMENTS = {"N x 1": (-1, 1), "N x C x H x W": (-1, 1, 1, 1)}
ROWS = {"N x C x L": (-1, 0, 1), "N x L x C": (-1, 1, 0), "images": (-1, 0, 1, 1), "images, classes last": (-1, 1, 1, 0)}  # 0: the classes


def numbers(
    function: Callable[..., Array], library: str, convention: Mapping[str, Any], say: Callable[[str], Any], **shared: Any
) -> Report:
    """The report of `check`, with the convention of a diagnosis."""
    declared = {k: convention[k] for k in ("signature", "reduction", "domain", "targets", "target_dtype")}
    called = shaped(function, LIBRARIES[library], convention)
    options = {**shared.pop("options", {}), **convention["options"]}
    if convention.get("layout") == "mask":  # of one channel, which is a class alone
        shared["classes"], options["axis"] = 1, 1
        options |= {"pool_axes": (2, 3)} if options.get("pool_axes") == (1, 2, 3) else {}
    return check({library: called}, reference=convention["loss"], progress=say, **{**shared, **declared, **options})


def shaped(function: Callable[..., Array], library: Library, convention: Mapping[str, Any]) -> Callable[..., Array]:
    """The function of elements (N,) or rows (N, C)."""
    form, targets = convention.get("layout", ""), convention.get("form", "")
    shape = ELEMENTS.get(form) or ROWS.get(form)
    if shape is None and targets not in ("one-hot", "-1 or 1", "0 or 1"):
        return function
    at = target_position(convention["signature"])

    @wraps(function)
    def call(*arrays: Array) -> Array:
        predictions = [a for i, a in enumerate(arrays) if i != at]
        t, classes = arrays[at], predictions[0].shape[-1]
        if targets == "one-hot":
            t = library.array(np.eye(classes), str(predictions[0].dtype).rpartition(".")[2])[t]
        elif targets == "-1 or 1" and convention["targets"] == "binary":
            t = 2 * t - 1
        elif targets == "0 or 1" and convention["targets"] == "signs":
            t = (t + 1) / 2
        predictions = [_reshape(p, shape, classes) for p in predictions]
        result = function(*predictions[:at], _reshape(t, shape, classes), *predictions[at:])
        return result.reshape(-1) if getattr(result, "ndim", 0) > 1 else result

    return call


def _reshape(a: Array, shape: tuple[int, ...] | None, classes: int) -> Array:
    """An array of elements or rows in another shape; that of labels has no classes."""
    if shape is None:
        return a
    return a.reshape([classes if n == 0 else n for n in shape] if a.ndim > 1 or 0 not in shape else [n for n in shape if n])
