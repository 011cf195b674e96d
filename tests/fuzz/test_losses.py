"""Random losses, options, shapes, layouts and libraries against plain formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import reject

import arrayloss as al
from tests.helpers import BACKENDS, Backend, quietly, several

from .budget import fuzz
from .cases import Case, cases, rounded
from .oracle import BINARY, ELEMENTWISE, OVERLAPS, ROWS, Exact, directions_of, exact

pytestmark = pytest.mark.exhaustive
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
LEAST = {"float64": 1e-290, "float32": 1e-36, "float16": 2.0**-24, "bfloat16": 1e-36}
ULPS = 256
ORACLE = 1e-17  # of what the oracle itself may be off
POWERS = ("dice_loss", "jaccard_loss", "tversky_loss", "focal_tversky_loss")  # of 1 - overlap


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Any, monkeypatch: Any) -> None:
    """Thousands of compiled functions that nobody will call again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def answer(case: Case, directions: Any = None) -> Exact:
    directions = directions_of(case.plain) if directions is None else directions
    return exact(case.name, case.plain, case.dense, directions, case.exact, case.copies)


def loss_of(case: Case) -> Any:
    return getattr(al, case.name)


def laid_out(a: Any, how: str) -> Any:
    """The same numbers in another layout of NumPy's memory."""
    if how == "strided" and a.ndim:
        wide = np.zeros([2 * n for n in a.shape], a.dtype)
        view = wide[tuple([slice(1, None, 2)] * a.ndim)]
    elif how == "reversed" and a.ndim:
        view = np.empty_like(a)[tuple([slice(None, None, -1)] * a.ndim)]
    elif how == "fortran":
        view = np.empty(a.shape, a.dtype, order="F")
    elif how == "foreign" and a.dtype.itemsize > 1:
        view = np.empty(a.shape, a.dtype.newbyteorder())
    elif how == "unaligned":
        view = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    else:
        view = np.empty_like(a)
    view[...] = a
    view.flags.writeable = how != "read-only"
    return view


def torch_layout(a: Any, how: str) -> Any:
    """The same for tensors, which have no negative strides and one byte order."""
    if how == "strided" and a.ndim:
        view = torch.zeros([2 * n for n in a.shape], dtype=a.dtype)[tuple([slice(1, None, 2)] * a.ndim)]
    elif how in ("fortran", "reversed") and a.ndim:
        view = torch.empty(a.shape[::-1], dtype=a.dtype).permute(*reversed(range(a.ndim)))
    else:
        return a
    return view.copy_(a)


def arrays_for(case: Case, xp: Backend) -> tuple[list[Any], Any, dict[str, Any]]:
    """Predictions, targets and options of one library."""
    dtype = case.dtype if xp.has(case.dtype) else "float32"
    arrays = [xp.array(x, dtype) for x in case.predictions]

    def array(a: Any) -> Any:
        if xp.name == "torch":
            return torch.from_numpy(a.reshape(-1).copy()).reshape(a.shape)
        return xp.array(a, "float32" if xp.name == "strict" and a.dtype == np.float16 else None)

    options = {n: array(v) if isinstance(v, np.ndarray) else v for n, v in case.options.items()}
    t = array(case.targets)
    if xp.name == "numpy":
        hows = [case.layouts[i % 3] for i in range(len(arrays) + 1)]
        arrays = [laid_out(a, how) for a, how in zip(arrays, hows, strict=False)]
        t = laid_out(t, hows[-1])
        options = {n: laid_out(v, case.layouts[2]) if isinstance(v, np.ndarray) and v.ndim else v for n, v in options.items()}
    elif xp.name == "torch":
        arrays, t = [torch_layout(a, case.layouts[0]) for a in arrays], torch_layout(t, case.layouts[1])
    return arrays, t, options


def near(actual: Any, expected: Any, dtype: str, scale: float, computed: str, what: str, oracle: float = ORACLE) -> None:
    """As near as rounding of terms of this size, and of the result, explains; where the oracle is finite."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, not {expected.shape}"
    known = np.isfinite(expected)
    limit = np.abs(expected) * EPSILON[dtype] + ULPS * EPSILON[computed] * np.maximum(scale, np.abs(expected)) + LEAST[dtype] + oracle
    huge = float(np.finfo(np.float32).max) if dtype != "float16" else 65504.0
    known &= np.abs(expected) < (huge if dtype != "float64" else 1e300)
    with np.errstate(invalid="ignore"):  # two infinities, which are not compared
        wrong = known & ~(np.abs(actual - expected) <= limit)
    if wrong.any():
        at = tuple(int(i[0]) for i in np.nonzero(wrong)) if wrong.ndim else ()
        raise AssertionError(f"{what}: {actual[at]!r} at {at}, not {expected[at]!r} (scale {scale:.3g}, {wrong.sum()} wrong)")


def oracle_of(case: Case) -> float:
    """What the oracle may be off: of a root of 1 - overlap much, since that has no digits near 0."""
    return ORACLE ** min(1.0, case.exact.get("gamma", 1.0) if case.name in POWERS else 1.0)


def judge(case: Case, right: Exact, results: dict[str, Any], where: str) -> None:
    dtype, computed = case.dtype, "float32" if case.dtype in ("float16", "bfloat16") else case.dtype
    is_unreduced = case.exact["reduction"] == "none"
    ends = np.cumsum([x.size for x in case.plain])
    oracle = oracle_of(case)
    for key, result in results.items():
        if key == "value" or key.endswith(" value"):
            near(result, right.value, dtype if is_unreduced else computed, right.size, computed, f"{where} {key}", oracle)
            continue
        if np.isinf(right.value).any():  # of -log(0), the loss of no overlap, the slope is no number
            continue
        slopes = right.first if key.endswith("grad") else right.second
        finite = np.abs(slopes[np.isfinite(slopes)])
        scale = max(float(np.max(finite, initial=0.0)), right.slope)
        for i, (g, x, end) in enumerate(zip(several(result), case.plain, ends, strict=True)):
            expected = slopes[end - x.size : end].reshape(x.shape) if slopes.size == ends[-1] else np.zeros(x.shape)
            expected = np.concatenate([expected] * case.copies) if case.copies > 1 else expected
            if case.is_split:
                assert np.shape(g) == case.predictions[i].shape
                g = np.reshape(g, expected.shape)
            near(g, expected, dtype, scale, computed, f"{where} {key} {i}", oracle)


@contextmanager
def unchanged(arrays: list[Any], xp: Backend) -> Iterator[None]:
    before = [np.array(xp.numpy(a)) for a in arrays]
    yield
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(xp.numpy(a), b, err_msg="an input has changed")


def run(case: Case, xp: Backend) -> dict[str, Any]:
    """What a library returns: value, gradient, Hessian diagonal of the sum, parts."""
    xs, t, options = arrays_for(case, xp)
    loss = loss_of(case)
    with unchanged([*xs, t], xp):
        results = {"value": xp.numpy(loss(*xs, t, **options))}
        value, gradients = loss.value_and_grad(*xs, t, **options)
        results |= {"joint value": xp.numpy(value), "grad": tuple(map(xp.numpy, several(gradients)))}
        if xp.name in ("numpy", "torch"):
            assert all(getattr(g, "flags", np.ones(1).flags).writeable for g in several(gradients)), "a gradient cannot be written"
        for g, x in zip(several(gradients), xs, strict=True):
            assert g.dtype == (x.dtype if xp.name != "numpy" else x.dtype.newbyteorder("=")), f"gradient {g.dtype} of {x.dtype}"
        if has_parts(case):
            results["finished value"] = xp.numpy(split(case, xp, xs, t, options))
        if xp.name == "torch":
            results |= by_autograd(case, xs, t, options)
    return results


def has_parts(case: Case) -> bool:
    """Whether a loss has parts under its options."""
    axes, ndim = case.exact.get("reduce_axes"), case.plain[0].ndim
    if case.exact["reduction"] == "none":
        return False
    if case.name in OVERLAPS:  # of tensors: parameters must be Python numbers
        return not any(isinstance(v, np.ndarray) and n not in ("weights", "where") for n, v in case.options.items())
    reduced = range(ndim) if axes is None else {a % ndim for a in np.atleast_1d(axes).astype(int)}
    return not ndim or 0 in reduced or (case.name in ROWS and case.axis == 0)


def can_be_cut(case: Case) -> bool:
    """Whether the parts of batches along axis 0 add up to the whole."""
    ndim, axes = case.plain[0].ndim, case.exact.get("pool_axes")
    if not ndim or case.axis == 0 or len(case.predictions[0]) < 2:
        return False
    if case.name in OVERLAPS:
        return axes is None or 0 in {a % ndim for a in np.atleast_1d(axes).astype(int)}
    return ndim > 1 or not any(np.ndim(case.exact.get(n, 0)) for n in ("class_weights", "pos_weight", "alpha"))


def split(case: Case, xp: Backend, xs: list[Any], t: Any, options: dict[str, Any]) -> Any:
    """The number from the parts of batches, cut at random along axis 0."""
    loss, rule = loss_of(case), options.get("normalizer")
    options = {n: v for n, v in options.items() if n != "normalizer"}
    more = {} if rule is None or case.name in OVERLAPS else {"normalizer": rule}
    if not can_be_cut(case):
        return loss.finish(loss.parts(*xs, t, **options), **more)
    n = xs[0].shape[0]
    cut = int(np.random.default_rng(case.seed).integers(0, n + 1))
    total: Any = 0
    for piece in (slice(None, cut), slice(cut, None)):
        some = {
            k: v[piece, ...] if k in ("weights", "where") and getattr(v, "ndim", 0) and v.shape[0] == n != 1 else v
            for k, v in options.items()
        }
        total = total + loss.parts(*[x[piece, ...] for x in xs], t[piece, ...] if t.ndim else t, **some)
    return loss.finish(total, **more)


def by_autograd(case: Case, xs: list[Any], t: Any, options: dict[str, Any]) -> dict[str, Any]:
    """PyTorch's gradient of the sum, from one graph, twice."""
    leaves = [x.detach().requires_grad_() for x in xs]
    value = loss_of(case)(*leaves, t, **options)
    gradients = torch.autograd.grad(value.sum(), leaves, retain_graph=True)
    again = torch.autograd.grad(value.sum(), leaves)
    for a, b in zip(gradients, again, strict=True):
        assert torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)), "a second backward pass gives another gradient"
    numpy = BACKENDS["torch"].numpy
    return {"graph value": numpy(value), "autograd grad": tuple(map(numpy, gradients))}


def refused(error: Exception) -> bool:
    """Whether a call is one that the contract refuses: the strategies know most of those."""
    text = str(error)
    return "must be named" in text or ("one entry for each" in text and "pass axis" in text)


def check(case: Case, backends: tuple[str, ...], engines: tuple[str, ...] = ("numpy", "compiled")) -> None:
    right = answer(case)
    if right.least < (1e-250 if case.dtype == "float64" else 1e-30):
        reject()  # where this underflows the overlap is empty
    for name in backends:
        xp = BACKENDS[name]
        if not xp.has(case.dtype):
            case.dtype = "float32"
            case.plain = [rounded(x, "float32") for x in case.plain]
            right = answer(case)
        for engine in engines if name in ("numpy", "torch") else ("numpy",):
            quiet = np.errstate(all="ignore") if name in ("strict", "dask") else nullcontext()  # NumPy's own, of those libraries
            with al.use_engine(engine), quiet:
                try:
                    results = run(case, xp)
                    results |= hessian(case, xp)
                except (ValueError, TypeError) as error:
                    if refused(error):
                        reject()
                    raise AssertionError(f"{name} {engine} {case}") from error
                except Exception as error:
                    raise AssertionError(f"{name} {engine} {case}") from error
            try:
                judge(case, right, {n: r for n, r in results.items() if n != "hess"}, f"{name} {engine}")
                if "hess" in results:
                    summed = Case(
                        **{**vars(case), "exact": {**case.exact, "reduction": "sum", "reduce_axes": None, "normalizer": "weights"}}
                    )
                    judge(summed, answer(summed), {n: r for n, r in results.items() if n == "hess"}, f"{name} {engine}")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{case}") from None


def hessian(case: Case, xp: Backend) -> dict[str, Any]:
    if case.name in OVERLAPS:
        return {}
    xs, t, options = arrays_for(case, xp)
    try:
        return {"hess": tuple(map(xp.numpy, several(loss_of(case).grad_and_hess(*xs, t, **options)[1])))}
    except NotImplementedError:
        return {}


def along(case: Case) -> tuple[list[Any], Exact]:
    """A random direction for all predictions, and what the derivatives along it are: g.v and v.H.v."""
    rng = np.random.default_rng(case.seed)
    vs = [rounded(rng.integers(-2, 3, x.shape), case.dtype) for x in case.plain]
    return vs, answer(case, [v[None] for v in vs])


def check_directions(case: Case) -> None:
    """Forward mode, second derivatives, `torch.func` and `jax.jvp` of the sum."""
    if case.dtype in ("float16", "bfloat16") or case.copies > 1 or case.name in OVERLAPS or case.options.get("gamma") == 0.5:
        reject()
    vs, right = along(case)
    computed, at = case.dtype, [np.isfinite(right.first), np.isfinite(right.second)]
    if not all(map(np.all, at)):
        reject()
    scale = max(float(np.max(abs(answer(case).first), initial=0.0)), right.slope) * (1 + sum(abs(v).sum() for v in vs))
    scale2 = max(float(np.max(abs(right.second), initial=0.0)), right.slope * (1 + sum((v * v).sum() for v in vs)))
    for name in ("torch", "jax"):
        xs, t, options = arrays_for(case, BACKENDS[name])
        ws = [BACKENDS[name].array(v.reshape(x.shape), case.dtype) for v, x in zip(vs, case.predictions, strict=True)]
        summed = partial(total_of, case, t, options)
        try:
            results = (by_torch if name == "torch" else by_jax)(summed, xs, ws)
            for key, number in results.items():
                is_first = key.startswith("first")
                expected = right.first if is_first else right.second
                near(
                    number,
                    expected.reshape(()) if expected.size else np.zeros(()),
                    case.dtype,
                    scale if is_first else scale2,
                    computed,
                    key,
                    oracle_of(case),
                )
        except Exception as error:
            if isinstance(error, ValueError | TypeError) and refused(error):
                reject()
            raise AssertionError(f"{name}: {error}\n{case}") from error


def call_of(case: Case, t: Any, options: dict[str, Any], *xs: Any) -> Any:
    return loss_of(case)(*xs, t, **options)


def total_of(case: Case, t: Any, options: dict[str, Any], *xs: Any) -> Any:
    return call_of(case, t, options, *xs).sum()


def by_torch(f: Callable[..., Any], xs: list[Any], vs: list[Any]) -> dict[str, Any]:
    leaves = [x.detach().clone().requires_grad_() for x in xs]
    gradients = torch.autograd.grad(f(*leaves), leaves, create_graph=True)
    first = sum((g * v).sum() for g, v in zip(gradients, vs, strict=True))
    again = torch.autograd.grad(first, leaves, allow_unused=True) if first.requires_grad else []
    second = sum((h * v).sum() for h, v in zip(again, vs, strict=False) if h is not None)
    _, forward = torch.func.jvp(f, tuple(xs), tuple(vs))
    slope = torch.func.grad(f, argnums=tuple(range(len(xs))))
    _, bend = torch.func.jvp(lambda *a: sum((g * v).sum() for g, v in zip(slope(*a), vs, strict=True)), tuple(xs), tuple(vs))
    results = {"first of autograd": first, "second of autograd": second, "first of func.jvp": forward, "second of func.jvp": bend}
    return {n: float(torch.as_tensor(r).detach()) for n, r in results.items()}


def by_jax(f: Callable[..., Any], xs: list[Any], vs: list[Any]) -> dict[str, Any]:
    with jax.disable_jit():
        _, first = jax.jvp(f, tuple(xs), tuple(vs))
        slope = jax.grad(f, argnums=tuple(range(len(xs))))
        gradients, bends = jax.jvp(slope, tuple(xs), tuple(vs))
    second = sum(jnp.sum(b * v) for b, v in zip(bends, vs, strict=True))
    reverse = sum(jnp.sum(g * v) for g, v in zip(gradients, vs, strict=True))
    return {"first of jvp": float(first), "first of grad": float(reverse), "second of jvp of grad": float(second)}


def check_compiled(case: Case) -> None:
    """`torch.compile` and `jax.jit` of value and gradient give what eager calls give."""
    right = answer(case)
    if right.least < 1e-30 or case.copies > 1:
        reject()
    for name in ("torch", "jax"):
        xs, t, options = arrays_for(case, BACKENDS[name])
        numpy = BACKENDS[name].numpy
        try:
            if name == "jax":
                both = jax.jit(lambda xs, t, options=options: loss_of(case).value_and_grad(*xs, t, **options))(xs, t)
                value, gradients = both[0], several(both[1])
            else:
                torch.compiler.reset()
                leaves = [x.detach().requires_grad_() for x in xs]
                with quietly():
                    is_whole = not any(isinstance(v, np.generic) for v in options.values())  # dynamo would have to read numbers of NumPy
                    program = torch.compile(partial(call_of, case, t, options), fullgraph=is_whole, dynamic=False)
                    value = program(*leaves)
                    gradients = torch.autograd.grad(value.sum(), leaves)
            judge(case, right, {"value": numpy(value), "grad": tuple(map(numpy, gradients))}, f"compiled {name}")
        except Exception as error:
            if isinstance(error, ValueError | TypeError) and refused(error):
                reject()
            raise AssertionError(f"{name}: {error}\n{case}") from error


def check_wrong_labels(case: Case) -> None:
    """A label that no class has, and that counts: an error where labels are read, else NaN; never a number."""
    if case.targets.dtype.kind not in "iu" or case.name in ELEMENTWISE or case.name == "kl_divergence" or not case.targets.size:
        reject()
    if case.copies > 1 or case.is_split:
        reject()
    counts = case.exact["mask"]
    if case.targets.shape != counts.shape:
        counts = counts.any(axis=case.axis, keepdims=True).reshape(case.targets.shape)
    has_classes = case.axis is not None and case.targets.shape != case.exact["mask"].shape
    top = case.plain[0].shape[case.axis or 0] if has_classes else 2
    top = 2 if top == 1 and case.name in OVERLAPS else top  # one channel has a mask
    places = np.argwhere(counts)
    if not len(places):
        reject()
    bounds = np.iinfo(case.targets.dtype)
    rng = np.random.default_rng(case.seed)
    ignored = np.atleast_1d(np.asarray(case.options.get("ignore_index", ()), np.int64)).tolist()
    values = [top, top + 5, 127, 200, -1, -2, -100, bounds.max]
    values = [v for v in values if bounds.min <= v <= bounds.max and v not in ignored and not 0 <= v < top]
    if not values:
        reject()
    label = values[rng.integers(len(values))]
    case.targets = np.array(case.targets)
    case.targets[tuple(places[rng.integers(len(places))])] = label
    w = np.asarray(case.exact.get("weights", 1.0))
    for name in ("numpy", "torch", "jax", "strict", "dask"):
        xp = BACKENDS[name]
        if not xp.has(case.dtype):
            continue
        for engine in ("numpy", "compiled") if xp.reads_labels else ("numpy",):
            with al.use_engine(engine), np.errstate(all="ignore"):
                xs, t, options = arrays_for(case, xp)
                for ask in (loss_of(case), loss_of(case).value_and_grad, *([] if case.name in OVERLAPS else [loss_of(case).grad_and_hess])):
                    try:
                        result = ask(*xs, t, **options)
                    except NotImplementedError:
                        continue
                    except (ValueError, TypeError) as error:
                        if refused(error):
                            reject()
                        if not xp.reads_labels or "integer targets must be" not in str(error):
                            raise AssertionError(f"{name} {engine}: {error}\n{case}") from error
                        continue
                    assert not xp.reads_labels, f"{name} {engine}: label {label} gives {result}\n{case}"
                    numbers = [xp.numpy(r) for r in (result if isinstance(result, tuple) else (result,))]
                    is_hidden = case.name in OVERLAPS or (w == 0).any() or "normalizer" in options
                    assert is_hidden or any(np.isnan(n).any() for n in numbers), f"{name}: label {label} gives {result}\n{case}"


def test_numpys_engine():
    fuzz(0.1, 200, cases(), partial(check, backends=("numpy", "torch"), engines=("numpy",)))


def test_compiled_engine():
    fuzz(0.2, 30, cases(), partial(check, backends=("numpy", "torch"), engines=("compiled",)))


def test_other_libraries():
    fuzz(0.15, 20, cases(), partial(check, backends=("strict", "dask", "jax")))


def test_directions():
    fuzz(0.1, 10, cases((*ELEMENTWISE, *BINARY, *ROWS)), check_directions)


def test_compilers():
    fuzz(0.1, 5, cases(), check_compiled)


def test_labels_that_no_class_has():
    fuzz(0.05, 20, cases((*BINARY, *ROWS, *OVERLAPS)), check_wrong_labels)
