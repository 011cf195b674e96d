"""Compiled functions over dtypes, sizes, layouts and options, beside NumPy's results; `test_sanitizers.py` runs it under sanitizers.

PyTorch and JAX are not imported. NumPy's arrays are memory of their own from malloc, and those made here end where it ends: a sanitizer
sees an access beside them. With the name of a fault the program commits it instead.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import arrayloss as al
from arrayloss import define
from arrayloss.engine.c import library
from tests.helpers import several
from tests.operations import CASES, info_nce_loss, norm_loss

Array = Any
RANDOM = np.random.default_rng(0)
TOLERANCES = {"float16": 2e-2, "float32": 1e-4, "float64": 1e-9}
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
SIZES = (1, 2, 15, 17, 63, 65, 100, 513, 2049, 70_000)
CLASSES = (2, 3, 10, 63, 64, 65, 100, 513, 5000)
BINARY: dict[str, Any] = {
    "cross-entropy": al.sigmoid_cross_entropy,
    "smoothed": al.sigmoid_cross_entropy.bind(label_smoothing=0.1, pos_weight=2.0),
    "focal": al.sigmoid_focal_loss,
    "focal, any power": al.sigmoid_focal_loss.bind(gamma=1.5, alpha=0.25),
}
REAL: dict[str, Any] = {loss.name: loss for loss in (al.huber_loss, al.log_cosh_loss, al.gaussian_nll_loss)}
ROWS: dict[str, Any] = {
    "cross-entropy": al.softmax_cross_entropy,
    "smoothed": al.softmax_cross_entropy.bind(label_smoothing=0.1),
    "focal": al.softmax_focal_loss,
    "softmax Dice": al.dice_loss.bind(activation="softmax"),
}
MORE_ROWS: dict[str, Any] = {
    "nll": al.nll_loss,
    "divergence": al.kl_divergence,
    "generalized Dice": al.generalized_dice_loss.bind(activation="softmax", axis=1),
    "sigmoid Dice": al.dice_loss.bind(activation="sigmoid"),
    "squared Dice": al.dice_loss.bind(activation="softmax", squared=True),
}
LAYOUTS: dict[str, Callable[[Array], Array]] = {  # the last entry in memory is one of the array
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=0)[1::2],
    "strided within": lambda a: np.repeat(a, 2, axis=-1)[..., 1::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "reversed within": lambda a: a[..., ::-1].copy()[..., ::-1],
    "a window": lambda a: np.concatenate([a, a], axis=-1)[..., a.shape[-1] :],
    "unaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "broadcast": lambda a: np.broadcast_to(a[:1].copy(), a.shape),
    "broadcast within": lambda a: np.broadcast_to(a[..., :1].copy(), a.shape),
}


def _of_two_sums(xp: Any, x: Array, t: Array, axis: int, **_: Any) -> Iterator[Any]:
    is_large = xp.log(1 + xp.exp(-x * x)) > 0.3
    power = xp.exp(x)
    total = xp.sum(xp.where(is_large, power, 0.0), axis=axis, keepdims=True)
    yield xp.sum(xp.where(is_large, power / total, t), axis=axis, keepdims=True)
    yield xp.where(is_large, power / total, t * total)


@define.loss
def kept_loss(predictions: Array, targets: Array, **options: Any) -> Any:
    """Of rows: for each class a boolean and numbers are kept for a later sum."""
    return define.rows(None, _of_two_sums, {"predictions": predictions}, targets, options)


FAULTS = {
    "beyond an array": "void fault(const int* a, int n, int* sum) { for (int i = 0; i <= n; ++i) *sum += a[i]; }",
    "before an array": "void fault(const int* a, int n, int* sum) { for (int i = n; i-- > -1;) *sum += a[i]; }",
    "overflow of an int": "void fault(const int* a, int n, int* sum) { *sum = a[0] + 2147483647 + n; }",
    "a shift by too much": "void fault(const int* a, int n, int* sum) { *sum = a[0] << (n + 30); }",
    "misaligned": "void fault(const int* a, int n, int* sum) { *sum = *(const int*)((const char*)a + 1) + n; }",
}


def draw(shape: Sequence[int], dtype: str, integers: bool = False) -> Array:
    """Normal numbers, or 0 and 1."""
    return RANDOM.integers(0, 2, shape) if integers else RANDOM.normal(size=shape).astype(dtype)


def calls(loss: Any, arrays: Sequence[Array], every: bool, options: dict[str, Any]) -> Iterator[Callable[[], Any]]:
    """The methods of a loss; value and gradient stand for all, but with `every`."""
    yield lambda: loss.value_and_grad(*arrays, **options)
    if every:
        rest = {name: value for name, value in options.items() if name != "reduce_axes"}
        yield lambda: loss(*arrays, **options)
        yield lambda: loss(*arrays, **{**rest, "reduction": "none"})
        yield lambda: loss.value_and_grad(*arrays, **{**rest, "reduction": "none"})
        yield lambda: loss.grad_and_hess(*arrays, **rest)
        yield lambda: loss.parts(*arrays, **options)


def flat(result: Any) -> list[Array]:
    """All arrays of a result."""
    if isinstance(result, tuple):
        return [array for one in result for array in flat(one)]
    return [np.asarray(a) for a in vars(result).values()] if hasattr(result, "__dict__") else [np.asarray(result)]


def check(loss: Any, arrays: Sequence[Array], every: bool = False, **options: Any) -> None:
    """Both engines agree."""
    tolerance = TOLERANCES[arrays[0].dtype.name]
    for call in calls(loss, arrays, every, options):
        try:
            result = flat(call())
        except NotImplementedError:
            continue
        with al.use_engine("numpy"):
            for a, b in zip(result, flat(call()), strict=True):
                if a.dtype.kind == "f":
                    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def elements(dtype: str) -> None:
    """Every size, and all methods for float32."""
    for size in SIZES:
        for loss in BINARY.values():
            check(loss, (draw([size], dtype), draw([size], dtype, True)), dtype == "float32")
        for loss in REAL.values():
            x, t = draw([size], dtype), draw([size], dtype)
            check(loss, (x, 1 + x * x, t) if loss is al.gaussian_nll_loss else (x, t), dtype == "float32")
    check(al.huber_loss, (draw([3, 100_001], dtype), draw([3, 100_001], dtype)))  # for several threads


def rows(dtype: str) -> None:
    """Every number of classes, the class axis first, between and last; for float32 with all methods where classes are few, and many."""
    for classes, axis in itertools.product(CLASSES if dtype == "float32" else (3, 65, 513), (0, 1, 2)):
        shape = [5, 3] if classes > 600 else [17, 5] if classes > 3 else [700, 3]
        labels = RANDOM.integers(0, classes, shape)
        shape.insert(axis, classes)
        x, of_all = draw(shape, dtype), np.abs(draw(shape, "float64"))
        distribution = (of_all / of_all.sum(axis=axis, keepdims=True)).astype(dtype)
        every = dtype == "float32" and (classes, axis) in ((3, 2), (65, 0), (65, 2))
        for loss in ROWS.values():
            check(loss, (x, labels), every, axis=axis)
            if classes in (3, 65, 513):
                check(loss, (x, distribution), every and axis == 2, axis=axis)
        if every or classes == 100:
            for loss in MORE_ROWS.values():
                check(loss, (x, distribution), every and axis == 2, axis=axis)
        if every:
            check(al.nll_loss, (x, labels), every, axis=axis)
            check(ROWS["smoothed"], (x, labels), every, axis=axis, class_weights=tuple(np.linspace(0.5, 2.0, classes)))
            check(ROWS["softmax Dice"], (x, labels), every, axis=axis, pool_axes=tuple({0, 1, 2} - {axis}))
            check(ROWS["softmax Dice"], (x, labels), every, axis=axis, pool_axes=1 if axis == 0 else 0)


def labels() -> None:
    """In every integer dtype, and out of range."""
    for dtype, (classes, axis) in itertools.product(INTEGERS, ((10, 0), (100, 1))):
        x = draw((classes, 33) if axis == 0 else (33, classes), "float32")
        t = RANDOM.integers(0, classes, 33).astype(dtype)
        for loss in (ROWS["cross-entropy"], ROWS["softmax Dice"]):
            check(loss, (x, t), axis=axis)
            limits = np.iinfo(dtype)
            for label, place in itertools.product({classes, limits.max, limits.min, max(-1, limits.min)} - {0}, (0, 32)):
                wrong = t.copy()
                wrong[place] = label
                every = loss is ROWS["cross-entropy"] and dtype in ("int64", "uint64")
                for call in calls(loss, (x, wrong), every, {"axis": axis}):
                    with pytest.raises(ValueError, match=f"got {label}"):
                        call()
        if dtype in ("int8", "int64"):
            t[::3] = -100
            check(ROWS["cross-entropy"], (x, t), axis=axis, ignore_index=-100)


def layouts() -> None:
    """Of predictions, and of all arrays."""
    for layout in LAYOUTS.values():
        for shape, axis in (((37, 5), 1), ((65, 37), 0), ((9, 70), 1)):
            x, t = draw(shape, "float32"), draw(shape, "float32", True).astype(np.float32)
            classes = shape[axis]
            of_rows = RANDOM.integers(0, classes, shape[1 - axis])
            for arrays in ((layout(x), layout(t)), (x, layout(t))):
                check(BINARY["cross-entropy"], arrays)
                check(ROWS["cross-entropy"], arrays, axis=axis)
            check(ROWS["softmax Dice"], (layout(x), layout(of_rows)), axis=axis)
            check(ROWS["cross-entropy"], (layout(x), layout(of_rows)), axis=axis, weights=layout(draw([shape[1 - axis]], "float32") ** 2))


def kept(dtype: str) -> None:
    """Numbers of several sizes that a function keeps for a later loop, of an odd number of classes."""
    for shape, axis in (((7, 65), 1), ((7, 5), 1), ((65, 7), 0)):
        check(kept_loss, (draw(shape, dtype), draw(shape, dtype)), axis=axis)


def masks() -> None:
    """Masks and weights of elements, of samples and of classes, and sums along some axes."""
    for shape, axis in (((6, 5, 7), 1), ((6, 5, 7), 2), ((6, 65, 7), 1), ((6, 5, 100), 2), ((65, 6, 7), 0)):
        others = [a for a in range(3) if a != axis]
        x, t, of_rows = draw(shape, "float32"), draw(shape, "float32", True), RANDOM.integers(0, shape[axis], [shape[a] for a in others])
        ones = [1 if a != 0 else n for a, n in enumerate(shape)]
        for of_elements, size in (
            ({}, None),
            ({"reduce_axes": (0,)}, shape),
            ({"reduce_axes": (1, 2)}, ones),
            ({"reduce_axes": ()}, shape),
        ):
            more = {} if size is None else {"weights": np.abs(draw(size, "float32")), "where": draw(size, "float32") > 0}
            check(BINARY["focal"], (x, t), **of_elements, **more)
        for along in ((), (0,), (1,)):
            mask = draw(of_rows.shape, "float32") > 0
            weights = np.abs(draw([of_rows.shape[0], 1], "float32"))
            axes = tuple([others[a] for a in along])
            check(ROWS["cross-entropy"], (x, of_rows), axis=axis, where=mask, weights=weights, reduce_axes=axes)
            check(ROWS["softmax Dice"], (x, of_rows), axis=axis, where=mask, pool_axes=tuple(others)[: 1 + len(along)])


def cases() -> None:
    """Every kind of operation on every path, by every method."""
    for case in CASES.values():
        if case.kind.loss not in (norm_loss, info_nce_loss):  # which NumPy computes
            targets, options = case.arguments(np.asarray)
            result, gradient = case.loss.value_and_grad(*case.unstack(case.kind.x), *targets, **options)
            for a, b in zip((result, np.reshape(several(gradient), case.kind.x.shape)), case.reference, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
            if case.path != "combination":
                check(case.loss, (*case.unstack(case.kind.x), *targets), **options)


def commit(fault: str) -> None:
    """A sanitizer has to see it."""
    import ctypes

    array, total = np.ones(1000, np.int32), np.zeros(1, np.int32)
    function = library.function("fault", FAULTS[fault] + "\n")
    assert function is not None
    function.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    function(array.ctypes.data, array.size, total.ctypes.data)


def main() -> None:
    """Everything, or one fault."""
    if sys.argv[1:]:
        commit(sys.argv[1])
        return
    jobs: list[tuple[Callable[..., None], tuple[str, ...]]] = [(job, (dtype,)) for job in (elements, rows, kept) for dtype in TOLERANCES]
    for job, arguments in [*jobs, (labels, ()), (layouts, ()), (masks, ()), (cases, ())]:
        start, before = time.perf_counter(), len(library._state.functions)
        job(*arguments)
        made = len(library._state.functions) - before
        print(f"{job.__name__} {' '.join(arguments)}: {made} functions, {time.perf_counter() - start:.0f} s", flush=True)
    assert not {"torch", "jax"} & {*sys.modules}
    print("nothing found")


if __name__ == "__main__":
    main()
