"""Alignments of frames with labels: against their enumeration, at the edges, on all libraries, and beside PyTorch's and optax's."""

from __future__ import annotations

import subprocess
import sys
from itertools import groupby, permutations, product
from typing import Any

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from arrayloss import ctc_loss
from arrayloss.adapters.dispatch import adapter_of
from arrayloss.check.definitions import ctc_loss as definition
from arrayloss.check.libraries import LIBRARIES
from arrayloss.core import special

from .helpers import WHOLE_GRAPHS, Backend, assert_close, quietly

RNG = np.random.default_rng(0)
T, N, C, S = 6, 5, 4, 3
LOGITS = RNG.normal(size=(T, N, C))
LOG_PROBS = LOGITS - np.logaddexp.reduce(LOGITS, axis=2, keepdims=True)
TARGETS = RNG.integers(1, C, (N, S))
TARGETS[0] = 2  # the same label three times: two blanks between them
FRAMES, LENGTHS = np.array([6, 5, 6, 1, 6]), np.array([3, 2, 0, 2, 3])  # the third is empty, the fourth impossible
POSSIBLE = [0, 1, 2, 4]
ALL = (LOGITS, TARGETS, FRAMES, LENGTHS)
ZERO: dict[str, Any] = {"given": "logits", "zero_infinity": True}


def some(x: Any = LOGITS) -> tuple[Any, ...]:
    """The sequences whose targets are possible."""
    return x[:, POSSIBLE], TARGETS[POSSIBLE], FRAMES[POSSIBLE], LENGTHS[POSSIBLE]


def by_enumeration(x: Any, target: Any, blank: int) -> Any:
    """The loss of one sequence from all alignments, and the occupancies."""
    total, gamma = mpf(0), np.full(x.shape, mpf(0))
    p = np.frompyfunc(lambda v: mpmath.exp(mpf(float(v))), 1, 1)(x)
    for path in product(range(x.shape[1]), repeat=len(x)):
        if [c for c, _ in groupby(path) if c != blank] == list(target):
            weight = mpmath.fprod([p[t, c] for t, c in enumerate(path)])
            total += weight
            for t, c in enumerate(path):
                gamma[t, c] += weight
    return -mpmath.log(total) if total else mpf("inf"), p - gamma / total if total else 0 * gamma


@pytest.mark.parametrize("blank", [0, 2])
def test_it_is_the_sum_over_all_alignments(blank: int) -> None:
    """Of every length up to six frames; the definition is, too."""
    for frames, target in product((0, 1, 2, 3, 4, 6), ([], [1], [1, 1], [1, 3], [3, 1, 3], [3, 3, 3])):
        x = LOG_PROBS[:frames, :1]
        t, n, s = np.array([[*target, 99]]), np.array([frames]), np.array([len(target)])
        with mpmath.workdps(40):
            value, slope = by_enumeration(x[:, 0], target, blank)
            exact = np.frompyfunc(lambda v: mpf(float(v)), 1, 1)(x.transpose(1, 0, 2))
            if value < mpf("inf"):
                assert abs(definition(exact, t, n, s, blank=blank)[0].orders[0] - value) < 1e-35
        ours, gradient = ctc_loss.value_and_grad(x, t, n, s, blank=blank, reduction="sum")
        assert_close(ours, float(value))
        assert_close(gradient[:, 0], slope.astype(float))
        if frames:
            batch = np.concatenate([x, x[::-1]], axis=0)[: frames + 1]  # a frame of padding behind
            assert_close(ctc_loss(batch, t, n, s, blank=blank), float(value))


def test_hundreds_of_frames_in_float32() -> None:
    """Logarithms of hundreds have errors of 1e-5 each, which add up: 2e-4 in PyTorch, 2e-5 with rows rescaled, here 1e-6."""
    x, t = np.random.default_rng(0).normal(size=(400, 16, 100)), np.random.default_rng(1).integers(1, 100, (16, 50))
    lengths = np.full(16, 400), np.full(16, 50)
    for given in ("logits", "log_probs"):
        y = (x if given == "logits" else x - np.logaddexp.reduce(x, axis=2, keepdims=True)).astype(np.float32)
        options: dict[str, Any] = {"given": given, "reduction": "sum"}
        value, gradient = ctc_loss.value_and_grad(y, t, *lengths, **options)
        exact, slopes = ctc_loss.value_and_grad(y.astype(np.float64), t, *lengths, **options)
        assert np.abs(gradient - slopes).max() < 2e-6
        assert abs(value / exact - 1) < 2.0**-23
        each, exactly = (ctc_loss(a, t, *lengths, given=given, reduction="none") for a in (y, y.astype(np.float64)))
        np.testing.assert_allclose(each, exactly, rtol=2.0**-23)


def test_confident_frames_keep_their_digits() -> None:
    """A slope is p - q, with both next to 1: the others of its row have its digits."""
    x = np.zeros((3, 1, 3), np.float32)
    x[[0, 1, 2], 0, [1, 0, 2]] = 20
    arrays = np.array([[1, 2]]), np.array([3]), np.array([2])
    _, gradient = ctc_loss.value_and_grad(x, *arrays, given="logits")
    _, exact = ctc_loss.value_and_grad(x.astype(np.float64), *arrays, given="logits")
    assert np.abs(exact).max() < 1e-8
    np.testing.assert_allclose(gradient, exact, rtol=1e-5, atol=1e-14)


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_every_order_of_axes(axes: tuple[int, int, int]) -> None:
    time, batch, classes = (axes.index(i) for i in range(3))
    value, gradient = ctc_loss.value_and_grad(*ALL, **ZERO)
    again, other = ctc_loss.value_and_grad(
        np.ascontiguousarray(LOGITS.transpose(axes)), *ALL[1:], **ZERO, time_axis=time, batch_axis=batch, axis=classes - 3
    )
    assert again == value
    np.testing.assert_array_equal(other, gradient.transpose(axes))


def test_one_sequence_without_a_batch() -> None:
    for x, axes in ((LOGITS[:, 1], {"axis": 1}), (LOGITS[:, 1].T, {"time_axis": 1, "axis": 0})):
        value, gradient = ctc_loss.value_and_grad(x, TARGETS[1], *map(np.array, (5, 2)), given="logits", batch_axis=None, **axes)
        expected, slope = ctc_loss.value_and_grad(LOGITS[:, 1:2], TARGETS[1:2], FRAMES[1:2], LENGTHS[1:2], given="logits")
        assert value == expected
        np.testing.assert_array_equal(gradient if axes["axis"] else gradient.T, slope[:, 0])


def test_padded_and_flat_targets(xp: Backend) -> None:
    """On every library; padding, of frames and of labels, may be anything."""
    x, t = LOGITS.copy(), TARGETS.copy()
    for i in range(N):
        x[FRAMES[i] :, i], t[i, LENGTHS[i] :] = np.nan, -7
    flat = np.concatenate([row[:n] for row, n in zip(t, LENGTHS, strict=True)])
    expected, slopes = ctc_loss.value_and_grad(*ALL, **ZERO)
    slopes = np.where(np.isnan(x), 0, slopes)
    for targets in {"jax": (flat,), "dask": (t,)}.get(xp.name, (t, flat, t.astype(np.int8))):
        value, gradient = ctc_loss.value_and_grad(*map(xp.array, (x, targets, FRAMES, LENGTHS)), **ZERO)
        assert_close(xp.numpy(value), expected)
        assert_close(xp.numpy(gradient), slopes)


def test_what_alignments_are_made_of(xp: Backend) -> None:
    """A loop, entries at labels and their transpose, and the order of two numbers, on every library."""
    rows, labels, entries = LOGITS[0], TARGETS.T, RNG.normal(size=(S, N))
    a, t, b = map(xp.array, (rows, labels, entries))
    names = adapter_of(a).xp
    take, add = special.label_columns(names, a, t)
    np.testing.assert_array_equal(xp.numpy(take(a)), rows[np.arange(N), labels])
    assert_close(xp.numpy(add(b)), ((labels[..., None] == np.arange(C)) * entries[..., None]).sum(axis=0))
    larger, smaller = special.in_order(names, take(a), b)
    np.testing.assert_array_equal(xp.numpy(larger), np.maximum(rows[np.arange(N), labels], entries))
    np.testing.assert_array_equal(xp.numpy(smaller), np.minimum(rows[np.arange(N), labels], entries))
    for reverse in (False, True):
        last, (sums,) = special.scan(names, lambda total, row: (total + row[0], (total + row[0],)), 0 * b[0, ...], (b,), reverse=reverse)
        expected = entries[::-1].cumsum(axis=0)[::-1] if reverse else entries.cumsum(axis=0)
        assert_close(xp.numpy(sums), expected)
        assert_close(xp.numpy(last), expected[0 if reverse else -1])


def test_edges() -> None:
    losses = ctc_loss(*ALL, given="logits", reduction="none")
    assert np.isfinite(losses).tolist() == [True, True, True, False, True]
    value, gradient = ctc_loss.value_and_grad(*ALL, given="logits")
    assert value == np.inf
    assert (gradient[:, 3] == 0).all()
    assert ctc_loss(*ALL, **ZERO) == np.where(np.isfinite(losses), losses, 0).mean()
    assert ctc_loss(*ALL, given="logits", where=losses < np.inf) == losses[POSSIBLE].mean()
    no_frames = ctc_loss(LOGITS[:0], TARGETS, 0 * FRAMES, LENGTHS, reduction="none")
    np.testing.assert_array_equal(no_frames, [np.inf, np.inf, 0, np.inf, np.inf])
    assert not np.signbit(no_frames).any()
    no_labels = ctc_loss(LOG_PROBS, TARGETS[:, :0], FRAMES, 0 * LENGTHS, reduction="none")
    assert_close(no_labels, [-LOG_PROBS[:n, i, 0].sum() for i, n in enumerate(FRAMES)])
    assert ctc_loss(LOGITS[:, :0], TARGETS[:0], FRAMES[:0], LENGTHS[:0]) == 0
    certain = np.where(np.arange(3) == np.array([1, 0, 2])[:, None], 0.0, -np.inf)[:, None]
    value, gradient = ctc_loss.value_and_grad(certain, np.array([[1, 2]]), np.array([3]), np.array([2]))
    assert value == 0
    assert (gradient == 0).all()


def test_nan_in_nan_out() -> None:
    """Of the sequence that has it."""
    x = LOGITS.copy()
    x[2, 4] = np.nan
    losses = ctc_loss(x, *ALL[1:], **ZERO, reduction="none")
    _, gradient = ctc_loss.value_and_grad(x, *ALL[1:], **ZERO)
    assert np.isnan(losses).tolist() == [False] * 4 + [True]
    assert np.isnan(gradient).any(axis=(0, 2)).tolist() == [False] * 4 + [True]
    value, gradient = ctc_loss.value_and_grad(x, *ALL[1:], **ZERO, where=~np.isnan(losses))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def replaced(place: int, index: Any, number: int) -> list[Any]:
    arrays = [np.array(a) for a in ALL]
    arrays[place][index] = number
    return arrays


WRONG = {
    "targets must be from 0 to 3; got 4": (replaced(1, (1, 0), 4), {}),
    "targets must be from 0 to 3; got -1": (replaced(1, (1, 0), -1), {}),
    "targets must not contain the blank, class 0": (replaced(1, (1, 0), 0), {}),
    "input_lengths must be from 0 to 6; got 7": (replaced(2, 1, 7), {}),
    "target_lengths must be from 0 to 3; got 4": (replaced(3, 1, 4), {}),
    "blank must be a class from 0 to 3; got 4": (ALL, {"blank": 4}),
    "blank must be a class from 0 to 3; got -1": (ALL, {"blank": -1}),
    "targets must be integers; got float64": ((LOGITS, TARGETS * 1.0, FRAMES, LENGTHS), {}),
    "input_lengths must be integers; got bool": ((LOGITS, TARGETS, FRAMES > 2, LENGTHS), {}),
    "target_lengths must be one length for each sequence, of shape (5,); got (4,)": ((LOGITS, TARGETS, FRAMES, LENGTHS[1:]), {}),
    "targets must be a row for each of (5,) sequences, or one dimension of all labels; got (4, 3)": (
        (LOGITS, TARGETS[1:], FRAMES, LENGTHS),
        {},
    ),
    "targets of one dimension must have as many labels as target_lengths say, 10; got 3": ((LOGITS, TARGETS[0], FRAMES, LENGTHS), {}),
    "time_axis, batch_axis, axis must name all axes of predictions, each once; got time_axis=0, batch_axis=1, axis=1": (ALL, {"axis": 1}),
    "input_lengths must be an array of numpy": ((LOGITS, TARGETS, FRAMES.tolist(), LENGTHS), {}),
    "given must be 'log_probs' or 'logits'; got 'probs'": (ALL, {"given": "probs"}),
    "zero_infinity must be True or False; got 2": (ALL, {"zero_infinity": 2}),
    "no second derivative is defined for ctc_loss": (ALL, {}),
}


@pytest.mark.parametrize("text", WRONG)
def test_errors(text: str) -> None:
    arrays, options = WRONG[text]
    call = ctc_loss.grad_and_hess if text.startswith("no second") else ctc_loss
    with pytest.raises((TypeError, ValueError, NotImplementedError)) as error:
        call(*arrays, **options)
    assert str(error.value).startswith(text)


def test_what_is_masked_may_be_out_of_range() -> None:
    where = np.arange(N) != 1
    expected = ctc_loss(*ALL, **ZERO, where=where)
    for arrays in (replaced(1, (1, 0), 4), replaced(1, (1, 0), 0), replaced(2, 1, 7), replaced(3, 1, -4)):
        assert ctc_loss(*arrays, **ZERO, where=where) == expected


def test_out_of_range_is_nan_where_nothing_is_read() -> None:
    """And reaches no other sequence."""
    jax = pytest.importorskip("jax")
    expected = ctc_loss(*ALL, **ZERO, reduction="none")
    gradients = jax.jit(lambda *a: ctc_loss.value_and_grad(*a, **ZERO, reduction="none"))
    for place, index, number in ((1, (1, 0), 4), (1, (1, 1), -1), (1, (1, 0), 0), (2, 1, 7), (2, 1, -1), (3, 1, 4), (3, 1, -1)):
        with LIBRARIES["jax"].precision("float64"):
            losses, slopes = gradients(*map(jax.numpy.asarray, replaced(place, index, number)))
        assert np.isnan(losses).tolist() == [i == 1 for i in range(N)]
        assert np.isnan(slopes).any(axis=(0, 2)).tolist() == [i == 1 for i in range(N)]
        np.testing.assert_allclose(losses[2:], expected[2:], rtol=1e-12)


# -- autograd ----------------------------------------------------------------------------------------------------------------


def test_torch_double_backward_and_transforms() -> None:
    """Ties of zero-initialised layers included: every alignment is as likely there."""
    torch = pytest.importorskip("torch")
    x, *rest = map(torch.tensor, ALL)
    for start in (x[:3, :2], torch.zeros_like(x[:3, :2])):
        leaf = start.clone().requires_grad_()
        loss = lambda a: ctc_loss(a, rest[0][1:3], torch.tensor([3, 2]), rest[2][1:3], **ZERO)  # noqa: E731
        assert torch.autograd.gradcheck(loss, leaf)
        assert torch.autograd.gradgradcheck(loss, leaf)
    value, gradient = ctc_loss.value_and_grad(*ALL, **ZERO)
    of_one = lambda *a: ctc_loss(*a, **ZERO, batch_axis=None, axis=1, reduction="sum")  # noqa: E731
    (slopes, values) = torch.func.vmap(torch.func.grad_and_value(of_one), in_dims=(1, 0, 0, 0))(x, *rest)
    assert_close(values.mean(), value)
    assert_close(slopes.transpose(0, 1) / N, gradient)
    _, along = torch.func.jvp(lambda a: ctc_loss(a, *rest, **ZERO), (x,), (x,))
    assert_close(along, (gradient * LOGITS).sum())
    infinite = x.clone()
    infinite[0, 1, 0], infinite[3, 4, 1] = -np.inf, np.inf
    leaf = infinite.requires_grad_()
    (g,) = torch.autograd.grad(ctc_loss(leaf, *rest, **ZERO), leaf, create_graph=True)
    assert torch.isfinite(g).all()
    assert torch.isfinite(torch.autograd.grad((g * g).sum(), leaf)[0]).all()


@pytest.mark.exhaustive  # compiles for some seconds
def test_torch_compile() -> None:
    """Frames are unrolled: three of them here."""
    torch = pytest.importorskip("torch")
    torch._dynamo.reset()
    x, t = torch.tensor(LOGITS[:3], requires_grad=True), torch.tensor(TARGETS[:, :1])
    frames, lengths = torch.tensor([3, 2, 3, 1, 3]), torch.tensor([1, 1, 0, 1, 1])
    loss = torch.compile(lambda x: ctc_loss(x, t, frames, lengths, given="logits"), fullgraph=WHOLE_GRAPHS, backend="aot_eager")
    with quietly():
        value = loss(x)
        value.backward()
    expected, gradient = ctc_loss.value_and_grad(*[a.detach().numpy() for a in (x, t, frames, lengths)], given="logits")
    assert_close(value.detach(), expected)
    assert_close(x.grad, gradient)


def test_jax_transforms() -> None:
    """A loop of its own: gradients, products with the Hessian, `vmap`. Hessians are symmetric: slopes are those of the value."""
    jax = pytest.importorskip("jax")
    with LIBRARIES["jax"].precision("float64"):
        x, *rest = map(jax.numpy.asarray, (LOGITS[:4], TARGETS, np.minimum(FRAMES, 4), LENGTHS))
        of_one = lambda *a: ctc_loss(*a, **ZERO, batch_axis=None, axis=1, reduction="sum")  # noqa: E731

        @jax.jit
        def program(x: Any, direction: Any) -> Any:
            gradient = jax.grad(lambda a: ctc_loss(a, *rest, **ZERO))
            _, product = jax.jvp(gradient, (x,), (direction,))
            transposed = jax.vjp(gradient, x)[1](direction)[0]
            return gradient(x), product, transposed, jax.vmap(jax.grad(of_one), in_axes=(1, 0, 0, 0), out_axes=1)(x, *rest)

        direction = np.random.default_rng(5).normal(size=x.shape)
        gradient, product, transposed, one_by_one = program(x, direction)
    arrays = LOGITS[:4], TARGETS, np.minimum(FRAMES, 4), LENGTHS
    slopes = [ctc_loss.value_and_grad(arrays[0] + h * direction, *arrays[1:], **ZERO)[1] for h in (0, 1e-6, -1e-6)]
    assert_close(gradient, slopes[0])
    assert_close(one_by_one / N, slopes[0])
    np.testing.assert_allclose(product, (slopes[1] - slopes[2]) / 2e-6, atol=1e-9)
    assert_close(product, transposed)


# -- peers -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("flat", [False, True])
def test_torch_2_13(reduction: str, zero_infinity: bool, blank: int, flat: bool) -> None:
    """Its mean divides by the target lengths. Its gradient of an impossible target is NaN."""
    torch = pytest.importorskip("torch")
    arrays = [LOG_PROBS, (TARGETS - 1 + (blank == 0)), FRAMES, LENGTHS] if zero_infinity else list(some(LOG_PROBS))
    arrays[1] = arrays[1] if zero_infinity else arrays[1] - (blank != 0)
    if flat:
        arrays[1] = np.concatenate([t[:n] for t, n in zip(arrays[1], arrays[3], strict=True)])
    x, *rest = map(torch.tensor, arrays)
    options: dict[str, Any] = {"blank": blank, "zero_infinity": zero_infinity, "reduction": reduction}
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    ours = ctc_loss(leaves[0], *rest, **options, length_normalized=reduction == "mean")
    theirs = torch.nn.functional.ctc_loss(leaves[1], *rest, **options)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    for value in (ours, theirs):
        value.sum().backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-10, atol=1e-13)


def test_torch_2_13_of_one_sequence() -> None:
    torch = pytest.importorskip("torch")
    arrays = torch.tensor(LOG_PROBS[:, 1]), torch.tensor(TARGETS[1, :2]), torch.tensor(5), torch.tensor(2)
    torch.testing.assert_close(ctc_loss(*arrays, batch_axis=None, axis=1), torch.nn.functional.ctc_loss(*arrays, reduction="sum"))


def test_torch_2_13_has_no_gradient_where_a_target_is_impossible() -> None:
    torch = pytest.importorskip("torch")
    x, *rest = map(torch.tensor, (LOG_PROBS, *ALL[1:]))
    theirs = x.clone().requires_grad_()
    torch.nn.functional.ctc_loss(theirs, *rest, reduction="sum").backward()
    assert theirs.grad[:, 3].isnan().any()
    ours = x.clone().requires_grad_()
    ctc_loss(ours, *rest, reduction="sum").backward()
    assert (ours.grad[:, 3] == 0).all()


@pytest.mark.exhaustive  # compiles for some seconds
def test_optax_0_2_8() -> None:
    """Batch first, logits, paddings for lengths. An impossible target is 100001.6 there, inf here."""
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    with LIBRARIES["jax"].precision("float64"):
        logits, targets, frames, lengths = map(jax.numpy.asarray, ALL)
        paddings = [np.arange(size) >= n[:, None] for size, n in ((T, FRAMES), (S, LENGTHS))]
        peer = lambda x: optax.ctc_loss(x, paddings[0] * 1.0, targets, paddings[1] * 1.0)  # noqa: E731
        ours = lambda x: ctc_loss(x, targets, frames, lengths, **ZERO, time_axis=1, batch_axis=0, reduction="none")  # noqa: E731
        x = logits.transpose(1, 0, 2)
        counts = np.isfinite(ctc_loss(*ALL, reduction="none"))
        (a, slope), (b, other) = jax.jit(
            lambda x: [jax.value_and_grad(lambda x, f=f: ((v := f(x)) @ counts, v), has_aux=True)(x) for f in (ours, peer)]
        )(x)
        a, b = a[1], b[1]
    np.testing.assert_allclose(a[counts], b[counts], rtol=1e-12)
    np.testing.assert_allclose(slope, other, atol=1e-12)
    assert b[3] > 1e4


# -- memory ------------------------------------------------------------------------------------------------------------------


MEMORY = """
import resource, numpy as np, arrayloss as al
n, frames, labels, classes = 8, 2000, 100, 200
x = np.zeros((frames, n, classes), np.float32)
arrays = np.ones((n, labels), int), np.full(n, frames), np.full(n, labels)
al.ctc_loss.value_and_grad(x[:5], arrays[0][:, :1], arrays[1] * 0 + 5, arrays[2] * 0 + 1, given="logits")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
al.ctc_loss.value_and_grad(x, *arrays, given="logits")
taken = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
print(taken / (4 * frames * n * (2 * labels + 1)), taken / x.nbytes)
"""


def test_memory_is_a_few_numbers_for_every_frame_and_state() -> None:
    """Nothing has frames x states x states, or classes x states."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    states, predictions = map(float, done.stdout.split())
    assert states < 16
    assert predictions < 16
