"""PyTorch's own samples of its losses (OpInfo: those of its tests, and its reference and error inputs) through `arrayloss.compat.torch`.

    python -m tests.compat.theirs.opinfo [name of a loss ...]

Every sample is run on tensors (value, gradients, and gradgradcheck where PyTorch has it), on NumPy arrays and on JAX arrays (value and
gradient). Of samples with NaN and infinities it is the value alone. Needs expecttest, as PyTorch's tests do.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db

from arrayloss import pairwise_distance
from arrayloss.compat import torch as compat

LEFT_OUT = {  # what an error says -> why
    "binary targets must be from 0 to 1": "targets outside 0 to 1 are refused",
    "class_weights must be at least 0": "weights of classes below 0 are refused",
}


def numbers(value: Any, to: Callable[[Any], Any]) -> Any:
    """The arguments with tensors as arrays of another library, and PyTorch's own distance as ours."""
    if isinstance(value, torch.Tensor):
        return to(value.detach().numpy())
    if isinstance(value, torch.nn.PairwiseDistance):
        return lambda a, b: pairwise_distance(a, b, eps=value.eps)
    return {n: numbers(v, to) for n, v in value.items()} if isinstance(value, dict) else value


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-9, atol=1e-12)
    assert np.shape(a) == np.shape(b)


def on_tensors(op: Any, ours: Any, args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
    """Value, and the gradients of all that is differentiated; the gradients, for the other libraries."""
    expected, value = op.op(*args, **kwargs), ours(*args, **kwargs)
    close(value.detach(), expected.detach())
    tensors = [a for a in [*args, *kwargs.values()] if isinstance(a, torch.Tensor)]
    leaves = [a for a in tensors if a.requires_grad]
    if not (leaves and expected.requires_grad and all(bool(a.isfinite().all()) for a in tensors)):
        return []
    theirs, own = (torch.autograd.grad(v.sum(), leaves, allow_unused=True) for v in (expected, value))
    for leaf, a, b in zip(leaves, own, theirs, strict=True):
        close(torch.zeros_like(leaf) if a is None else a, torch.zeros_like(leaf) if b is None else b)
    if op.supports_gradgrad:
        moving = tuple([leaf for leaf, a, b in zip(leaves, own, theirs, strict=True) if a is not None and b is not None])
        torch.autograd.gradgradcheck(lambda *_: ours(*args, **kwargs), moving, fast_mode=True)
    predictions = {"gaussian_nll_loss": [args[0], args[-1]], "linear_cross_entropy": [*args[:2], kwargs.get("linear_bias")]}
    return [g for a in predictions.get(ours.name, args) for leaf, g in zip(leaves, theirs, strict=True) if leaf is a]


def elsewhere(expected: Any, gradients: list[Any], ours: Any, args: list[Any], kwargs: dict[str, Any], to: Any) -> None:
    args, kwargs = [numbers(a, to) for a in args], numbers(kwargs, to)
    close(ours(*args, **kwargs), expected.detach())
    if gradients and not callable(kwargs.get("distance_function")):
        own = ours.value_and_grad(*args, **kwargs)[1]
        for a, b in zip(own if isinstance(own, tuple) else (own,), gradients, strict=False):
            close(a, b)


def checks(op: Any, ours: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    """Every check by the name of its kind."""
    draw = op.sample_inputs if op.reference_inputs_func is None else op.reference_inputs  # the samples are among these
    for s in draw("cpu", torch.float64, requires_grad=True):
        args, kwargs, kept = [s.input, *s.args], s.kwargs, {}

        def tensors(args: Any = args, kwargs: Any = kwargs, kept: Any = kept) -> None:
            kept["gradients"] = on_tensors(op, ours, args, kwargs)

        yield "tensors", tensors
        for name, to in (("NumPy", np.asarray), ("JAX", jax.numpy.asarray)):

            def arrays(args: Any = args, kwargs: Any = kwargs, kept: Any = kept, to: Any = to) -> None:
                elsewhere(op.op(*args, **kwargs), kept.get("gradients", []), ours, args, kwargs, to)

            yield name, arrays
    for e in op.error_inputs("cpu") if op.error_inputs_func else ():

        def refuses(e: Any = e) -> None:
            try:
                ours(e.sample_input.input, *e.sample_input.args, **e.sample_input.kwargs)
            except (ValueError, TypeError, NotImplementedError):
                return
            raise AssertionError(f"no error, where PyTorch says {e.error_regex!r}")

        yield "errors", refuses


def main(names: list[str]) -> int:
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    all_passed = all_made = unknown = 0
    for op in op_db:
        name = op.name.rpartition(".")[2]
        if not op.name.startswith("nn.functional.") or name not in compat.LOSSES or (names and name not in names):
            continue
        passed, made, reasons = Counter(), Counter(), Counter()
        for kind, check in checks(op, compat.LOSSES[name]):
            made[kind] += 1
            try:
                check()
            except Exception as error:
                text = f"{type(error).__name__} {error}".strip().replace("\n", " ")[:300]
                known = [why for says, why in LEFT_OUT.items() if says in text]
                reasons[kind, (known or [text])[0]] += 1
                unknown += not known
            else:
                passed[kind] += 1
        print(f"{name:36}", *[f"{kind} {passed[kind]} / {n}" for kind, n in made.items()], sep="  ", flush=True)
        for (kind, why), n in reasons.items():
            print(f"    {n} of {kind}: {why}", flush=True)
        all_passed, all_made = all_passed + passed.total(), all_made + made.total()
    print(f"{all_passed} of {all_made} checks passed; {unknown} of the others for no known reason")
    return unknown > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
