"""Programs of a few lines that reproduce one number, with its inputs as hex floats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import arrayloss

from .points import Problem
from .run import Subject

LONGEST = 400  # numbers that a snippet may hold
ARRAYS = {  # by library, what is imported, and how an array is written
    "numpy": ("import numpy as np", "np.asarray({values}, dtype={dtype!r})"),
    "torch": ("import torch", "torch.tensor({values}, dtype=torch.{dtype})"),
    "jax": ("import jax\nimport jax.numpy as jnp", "jnp.asarray({values}, dtype={dtype!r})"),
    "dask": ("import dask.array as da\nimport numpy as np", "da.from_array(np.asarray({values}, dtype={dtype!r}))"),
    "cupy": ("import cupy as cp", "cp.asarray({values}, dtype={dtype!r})"),
    "strict": ("import array_api_strict as xp\nimport numpy as np", "xp.asarray(np.asarray({values}, dtype={dtype!r}))"),
}


def snippet(subject: Subject, library: str, mode: str, dtype: str, quantity: str, which: int, batch: Problem, index: Sequence[int]) -> str:
    """A program that prints the number at `index` of a quantity; of a loss that is reduced, it takes the whole batch."""
    index = tuple(int(i) for i in index)
    predictions, targets = list(batch.predictions), batch.targets
    if not batch.whole and subject.reduction == "none":
        classes = int(batch.axis is not None and quantity != "value")
        element = index[: len(index) - classes]
        predictions, targets = [p[element][None] for p in predictions], None if targets is None else targets[element][None]
        index = (0, *index[len(element) :])
    if sum(np.size(p) for p in predictions) > LONGEST:
        return f"# The whole batch of {predictions[0].shape} is needed: run the check again with the same points and seed."
    imports, array = ARRAYS[library]
    lines = [imports]
    if library == "jax" and dtype == "float64":
        lines.append('jax.config.update("jax_enable_x64", True)')
    lines += _function(subject, library)
    options = "".join(f", {k}={v!r}" for k, v in subject.options(batch).items())
    names = [f"x{i}" if len(predictions) > 1 else "x" for i in range(len(predictions))]
    labels = batch.labels and (subject.loss is not None or batch.targets_kind == "labels")
    target_dtype = subject.target_dtype if subject.target_dtype not in (None, "float") else "int64" if labels else dtype
    if library == "jax" and target_dtype == "int64" and dtype != "float64":
        target_dtype = "int32"
    lines.append("h = float.fromhex")
    for name, values in zip(names, predictions, strict=True):
        lines.append(f"{name} = {array.format(values=literal(values), dtype=dtype)}")
    if targets is not None:
        lines.append(f"t = {array.format(values=literal(targets), dtype=target_dtype)}")
    arguments = ", ".join(names if targets is None else subject.in_order([*names, "t"]))
    if mode == "compiled":
        static = f", static_argnames={list(subject.options(batch))!r}" if options else ""
        lines.append("f = torch.compile(f)" if library == "torch" else f"f = jax.jit(f{static})")
    place = "".join(f"[{i}]" for i in index)
    lines += _result(subject, library, quantity, which, f"f({arguments}{options})", names, place)
    return "\n".join([*lines, f"print(float(result{place}))"])


def _function(subject: Subject, library: str) -> list[str]:
    function: Any = subject.loss or subject.functions[library]
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if getattr(arrayloss, str(name), None) is function:
        module = "arrayloss"
    if module and module != "__main__" and name and "<" not in name and "." not in name:
        return [f"from {module} import {name} as f"]
    return [f"f = ...  # the {library} function that was given: {name or function!r}"]


def _result(subject: Subject, library: str, quantity: str, which: int, call: str, names: list[str], place: str) -> list[str]:
    name = names[which]
    if quantity == "value":
        return [f"result = {call}"]
    if quantity == "grad" and library == "torch":
        return [f"{name}.requires_grad_()", f"{call}.sum().backward()", f"result = {name}.grad"]
    if quantity == "grad" and library == "jax":
        return [f"result = jax.grad(lambda {name}: {call}.sum())({name})"]
    if subject.loss is not None or quantity == "grad":
        method = "value_and_grad" if quantity == "grad" else "grad_and_hess"
        return [f"result = f.{method}{call[1:]}[1]" + (f"[{which}]" if len(names) > 1 else "")]
    if library == "torch":
        slope = f"(slope,) = torch.autograd.grad({call}.sum(), {name}, create_graph=True)"
        return [f"{name}.requires_grad_()", slope, f"(result,) = torch.autograd.grad(slope{place}, {name})"]
    return [f"slope = jax.grad(lambda {name}: {call}.sum())", f"result = jax.grad(lambda {name}: slope({name}){place})({name})"]


def literal(values: Any) -> str:
    """Numbers as Python, floats in hex; labels as they are."""
    values = np.asarray(values)
    if values.ndim:
        return "[" + ", ".join(literal(v) for v in values) + "]"
    return str(int(values)) if values.dtype.kind in "iu" else f'h("{float(values).hex()}")'
