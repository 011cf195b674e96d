"""The host engine, on NumPy and compiled: blocks, threads, layouts of memory, and whose memory results are."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import arrayloss as al
from arrayloss import define, use_engine
from arrayloss.engine import host
from arrayloss.engine.c import program

from .helpers import assert_same, several
from .operations import CASES, Case, norm_loss, normal_loss

pytestmark = pytest.mark.usefixtures("engine")
RANDOM = np.random.default_rng(0)
softmax_dice = al.dice_loss.bind(activation="softmax", axis=1)
sigmoid_dice = al.dice_loss.bind(activation="sigmoid")


def elementwise(kernel: Callable[..., Iterator[Any]]) -> Any:
    """The loss of a kernel of one prediction."""
    return define.loss(lambda predictions, targets, **options: define.elementwise(kernel, predictions, targets, options))


def value_and_grad(case: Case, convert: Callable[[Any], Any] = np.asarray) -> tuple[Any, ...]:
    """Returns the value, then the gradient of each prediction."""
    targets, options = case.arguments(convert)
    value, gradient = case.loss.value_and_grad(*map(convert, case.unstack(case.kind.x)), *targets, **options)
    return value, *several(gradient)


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Called with a number of threads: NumPy computes blocks of 6 entries (rows: 12), compiled functions parts of 6 on these threads."""

    def set_threads(count: int) -> None:
        monkeypatch.setattr(host, "BLOCK", 6)
        for name, value in {"PART": 6, "ELEMENTS": 5, "ROWS": 5}.items():
            monkeypatch.setattr(program, name, value)
        monkeypatch.setattr(host, "threads", lambda: count)
        program._plan.cache_clear()

    return set_threads


class TestBlocks:
    """What is computed in blocks, on one thread or several."""

    @pytest.mark.parametrize("loss", [al.sigmoid_cross_entropy, al.cross_entropy, normal_loss], ids=lambda loss: loss.name)
    def test_grad_and_hess_in_blocks(self, loss: Any, in_blocks: Callable[[int], None]) -> None:
        """They were computed on whole arrays, at ten times the cost. The number of threads changes no bit."""
        x = RANDOM.normal(size=(40, 3))
        targets = RANDOM.integers(0, 2, 40 if loss is al.cross_entropy else x.shape)
        arguments = (x, x[::-1].copy(), x / 2) if loss is normal_loss else (x, targets)

        def derivatives() -> Any:
            return np.stack([a for many in loss.grad_and_hess(*arguments) for a in several(many)])

        whole = derivatives()
        in_blocks(1)
        alone = derivatives()
        in_blocks(3)
        assert_same(alone, whole)
        assert np.array_equal(derivatives(), alone)

    @pytest.mark.parametrize("axes", [(1,), (0, 2), ()])
    def test_sums_per_sample(self, axes: tuple[int, ...], in_blocks: Callable[[int], None]) -> None:
        """Blocks are cut along axes that are summed and along others."""
        x, t = RANDOM.normal(size=(2, 5, 7, 3))
        whole = al.huber_loss.value_and_grad(x, t, reduce_axes=axes, weights=t[:, :1] ** 2)
        in_blocks(3)
        for result, expected in zip(al.huber_loss.value_and_grad(x, t, reduce_axes=axes, weights=t[:, :1] ** 2), whole, strict=True):
            assert_same(result, expected)

    @pytest.mark.parametrize("threads", [1, 3])
    def test_an_error_in_a_block_is_raised(self, threads: int, in_blocks: Callable[[int], None]) -> None:
        in_blocks(threads)
        labels = np.where(np.arange(60) == 50, 3, 0)
        with pytest.raises(ValueError, match="labels from 0 to 2; got 3"):
            al.cross_entropy.value_and_grad(np.zeros((60, 3)), labels)

    def test_a_kernel_runs_once_where_it_is_one_block(self) -> None:
        """A coupled loss ran twice, for its value and for its gradient."""
        runs = []

        def kernel(xp: Any, x: Any) -> Iterator[Any]:
            runs.append(1)
            yield xp.sum(x, axis=0, keepdims=True) * x
            yield lambda g: xp.sum(x, axis=0, keepdims=True) * g + xp.sum(x * g, axis=0, keepdims=True)

        @define.loss
        def products(x: Any, **options: Any) -> Any:
            return define.coupled(kernel, {"x": x}, options)

        x = RANDOM.normal(size=8)
        value, gradient = products.value_and_grad(x, reduction="sum")
        assert len(runs) == 1
        assert_same(value, x.sum() ** 2)
        assert_same(gradient, 2 * x.sum() * np.ones(8))

    def test_a_gradient_at_a_label_costs_no_pass(self) -> None:
        """A gradient of zeros but for one entry a row was copied, and the value read all classes."""
        x, labels = np.full((64, 2**15), -10.0, np.float32), np.arange(64)
        al.nll_loss(x, labels)
        tracemalloc.start()
        try:
            al.nll_loss(x, labels)
            assert tracemalloc.get_traced_memory()[1] < 2**18
            tracemalloc.reset_peak()
            al.nll_loss.value_and_grad(x, labels)
            assert tracemalloc.get_traced_memory()[1] < x.nbytes + 2**18
        finally:
            tracemalloc.stop()


class TestLimits:
    """What overflows or is infinite has its limit."""

    def test_a_slope_that_overflows(self) -> None:
        """Only the value was looked at: sigmoid(-100) is 0 in float32, its slope was NaN."""

        def kernel(xp: Any, x: Any, t: Any) -> Iterator[Any]:
            p, q = define.special.sigmoid_pair(xp, x)
            yield (p - t) ** 2
            yield 2 * (p - t) * p * q

        x = np.array([-100.0, 100.0, 0.0], np.float32)
        _, gradient = elementwise(kernel).value_and_grad(x, np.ones(3, np.float32), reduction="sum")
        assert_same(gradient, [0, 0, -0.25])

    @pytest.mark.parametrize("size", [4, 2**17 + 8])
    def test_infinite_logits_have_their_limits(self, size: int) -> None:
        x, t = np.full(size, -np.inf, np.float32), np.zeros(size, np.float32)
        x[-1] = 0.0
        value, gradient = al.sigmoid_cross_entropy.value_and_grad(x, t, reduction="sum")
        assert_same(value, np.float32(np.log(2)))
        assert np.array_equal(gradient, 0.5 * (x == 0))


def sizes(dtype: str) -> Any:
    """Zero, subnormal and normal numbers up to the largest, the ends of exponentials, infinity and NaN, with both signs."""
    limits = np.finfo(dtype)
    largest = 3e38 if dtype == "float32" else 1.7e308
    tiny = [0, limits.smallest_subnormal, limits.smallest_normal - limits.smallest_subnormal, limits.smallest_normal]
    positive = np.array([*tiny, 1e-30, 1e-8, 0.5, 1, 20, 88, 104, 710, 745, largest, np.inf, np.nan], dtype)
    return np.concatenate([positive, -positive])


def probabilities(dtype: str) -> Any:
    """Both ends of [0, 1], what is beside them, and NaN."""
    limits = np.finfo(dtype)
    inner = [limits.smallest_subnormal, limits.smallest_normal, 1e-30, 1e-8, 0.3, 0.5, 0.7, 1 - limits.eps, 1 - limits.epsneg]
    return np.array([0, -0.0, *inner, 1, np.nan], dtype)


def crossed(*values: Any) -> tuple[Any, ...]:
    """Arrays with every combination of some numbers."""
    return tuple([a.ravel() for a in np.meshgrid(*values, indexing="ij")])


def rows_of(values: Any, classes: int) -> Any:
    """Rows of ones, but for the first and the last class, which have every pair of some numbers."""
    first, last = crossed(values, values)
    rows = np.ones((len(first), classes), values.dtype)
    rows[:, 0], rows[:, -1] = first, last
    return rows


def labels_of(rows: Any) -> Any:
    """The first class, the last one, and one between."""
    return np.arange(len(rows)) * (rows.shape[1] - 1) // 2 % rows.shape[1]


def distributions_of(rows: Any) -> Any:
    """All of one class, parts of two, and a part of every class."""
    of_all = np.array([3, 2, *[4, 2, 1] * rows.shape[1]][: rows.shape[1]])
    several = np.zeros((3, rows.shape[1]), rows.dtype)
    several[0, 0], several[1, [0, -1]], several[2] = 1, (0.3, 0.7), of_all / of_all.sum()
    return several[np.arange(len(rows)) % 3]


def each_row_with(targets_of: Callable[[Any], Any], values_of: Callable[[str], Any], classes: int) -> Callable[[str], tuple[Any, ...]]:
    """Called with a dtype: every row and targets; short rows with each of three targets, long ones with the next of these."""

    def arguments(dtype: str) -> tuple[Any, ...]:
        rows = np.repeat(rows_of(values_of(dtype), classes), 3 if classes < 64 else 1, axis=0)
        return rows, targets_of(rows)

    return arguments


def special_cases() -> Iterator[tuple[str, Any, Callable[[str], tuple[Any, ...]]]]:
    """A name, a loss, and its predictions and targets in a dtype."""
    targets = {
        "numbers": lambda d: np.array([0, 1, 0.3], d),
        "integers": lambda d: np.array([0, 1]),
        "booleans": lambda d: np.array([False, True]),
    }
    focal, smooth = al.sigmoid_focal_loss, {"label_smoothing": 0.1}
    for name, t in targets.items():
        for options in ({}, smooth, {"pos_weight": 2.5}) if name == "numbers" else ({},):
            yield (
                f"sigmoid cross-entropy {name} {options}",
                al.sigmoid_cross_entropy.bind(**options),
                lambda d, t=t: crossed(sizes(d), t(d)),
            )
        for options in ({}, {"gamma": 1.5}, {"gamma": 0}, {"gamma": 0.5}, {"alpha": 0.25}) if name == "numbers" else ({},):
            yield f"sigmoid focal {name} {options}", focal.bind(**options), lambda d, t=t: crossed(sizes(d), t(d))
    of_probabilities = [al.binary_cross_entropy, *[focal.bind(given="probs", gamma=gamma) for gamma in (2, 1.5, 0, 0.5)]]
    for number, loss in enumerate(of_probabilities):
        yield f"probabilities {number}", loss, lambda d: crossed(probabilities(d), targets["numbers"](d))
    for loss in (al.huber_loss, al.log_cosh_loss, al.squared_error):
        yield loss.name, loss, lambda d: crossed(sizes(d), sizes(d))
    some = [0, 1, 0.3, np.inf, np.nan]
    yield "gaussian_nll_loss", al.gaussian_nll_loss, lambda d: crossed(sizes(d), sizes(d)[: sizes(d).size // 2], np.array(some, d))
    yield "sigmoid Dice", sigmoid_dice.bind(pool_axes=1), lambda d: tuple([a[:, None] for a in crossed(sizes(d), targets["numbers"](d))])
    for classes in (3, 70):
        for what, of in (("labels", labels_of), ("distributions", distributions_of)):
            logits, probs = each_row_with(of, sizes, classes), each_row_with(of, probabilities, classes)
            name = f"{what} of {classes} classes"
            for options in ({}, smooth, {"class_weights": [1.0, 0.5, 2.0, 0.75, *[1.5] * (classes - 4)][:classes]}):
                yield f"cross-entropy {name} {[*options]}", al.cross_entropy.bind(axis=1, **options), logits
            yield f"focal {name}", al.softmax_focal_loss.bind(axis=1), logits
            yield f"focal of probabilities {name}", al.softmax_focal_loss.bind(axis=1, given="probs"), probs
            yield f"nll {name}", al.nll_loss.bind(axis=1), logits
            yield f"nll of probabilities {name}", al.nll_loss.bind(axis=1, given="probs"), probs
            yield f"softmax Dice {name}", softmax_dice.bind(pool_axes=1), logits
        yield (
            f"divergence of {classes} classes",
            al.kl_divergence.bind(axis=1),
            each_row_with(lambda a: np.roll(a, 7, axis=0), sizes, classes),
        )


SPECIAL = {name: (loss, arguments) for name, loss, arguments in special_cases()}


@pytest.mark.parametrize("engine", ["compiled"], indirect=True)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values_give_what_numpy_gives(name: str, dtype: str) -> None:
    """NaN and infinities are in the same places, and numbers differ by 1e-5 (float32) or 1e-13 (float64) of their size, or are subnormal.

    Terms that cancel in rows of 70 classes are probabilities of about 1/70: their roundings are allowed for. A divergence of rows that
    nearly agree may differ by 32 times as much; its promise grows with the spread of the row.
    """
    loss, arguments = SPECIAL[name]
    arrays, limits = arguments(dtype), np.finfo(dtype)
    rtol = (1e-5 if dtype == "float32" else 1e-13) * (32 if name.startswith("divergence") else 1)
    floor = 8 * limits.eps / 70 if "70 classes" in name else limits.smallest_normal
    with use_engine("numpy"):
        expected = loss.value_and_grad(*arrays, reduction="none")
    result = loss.value_and_grad(*arrays, reduction="none")
    for a, b in zip((result[0], *several(result[1])), (expected[0], *several(expected[1])), strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=float(floor))


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "unaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
}


class TestLayouts:
    """Whatever lies in memory, the result is that of a contiguous copy."""

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("name", [name for name in CASES if name.endswith("weighted and masked")])
    def test_of_inputs(self, name: str, layout: str, in_blocks: Callable[[int], None]) -> None:
        """Big-endian numbers were a KeyError."""
        case = CASES[name]

        def convert(a: Any) -> Any:
            a = LAYOUTS[layout](np.asarray(a)) if np.ndim(a) else np.asarray(a)
            a.flags.writeable = False
            return a

        expected = value_and_grad(case)
        for _ in range(2):
            for result, reference in zip(value_and_grad(case, convert), expected, strict=True):
                assert_same(result, reference)
                assert result.dtype == np.float64
            in_blocks(2)

    def test_broadcast_inputs(self, in_blocks: Callable[[int], None]) -> None:
        x, t = np.broadcast_to(RANDOM.normal(size=(5, 1, 3)), (5, 4, 3)), np.broadcast_to(0.5, (5, 4, 3))
        expected = al.huber_loss.value_and_grad(x.copy(), t.copy())
        in_blocks(2)
        for result, reference in zip(al.huber_loss.value_and_grad(x, t), expected, strict=True):
            assert_same(result, reference)

    @pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
    def test_one_entry(self, shape: tuple[int, ...]) -> None:
        x = np.full(shape, 0.5)
        for reduction in ("mean", "none"):
            value, gradient = al.huber_loss.value_and_grad(x, np.zeros(shape), reduction=reduction)
            assert np.shape(value) == (shape if reduction == "none" else ())
            assert_same(gradient, np.full(shape, 0.5))
        assert al.huber_loss.grad_and_hess(x, np.zeros(shape))[1].shape == shape

    @pytest.mark.parametrize(
        ("loss", "shape", "targets"),
        [
            (al.sigmoid_focal_loss, (0, 3), np.zeros((0, 3))),
            (al.cross_entropy, (0, 3), np.zeros(0, int)),
            (al.cross_entropy, (0, 3), np.zeros((0, 3))),
            (softmax_dice, (0, 3), np.zeros(0, int)),
            (sigmoid_dice, (2, 0), np.zeros((2, 0))),
            (norm_loss, (0, 3, 2), np.zeros((0, 3, 2))),
        ],
    )
    def test_no_entries(self, loss: Any, shape: tuple[int, ...], targets: Any) -> None:
        value, gradient = loss.value_and_grad(np.zeros(shape), targets)
        assert value == 0
        assert gradient.shape == shape


class TestLabels:
    """Labels out of range, in every integer dtype."""

    @pytest.mark.parametrize("dtype", ["i1", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8"])
    @pytest.mark.parametrize("label", [-1, -100, 4, 100])
    def test_signed(self, dtype: str, label: int) -> None:
        """A negative label was read as unsigned: the entry of another row."""
        with pytest.raises(ValueError, match=f"from 0 to 3; got {label}"):
            al.cross_entropy(np.zeros((4, 4)), np.array([0, 1, label, 2], dtype))

    @pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<u4", ">u4", "<u8", ">u8"])
    def test_unsigned(self, dtype: str) -> None:
        with pytest.raises(ValueError, match="from 0 to 3; got 200"):
            al.cross_entropy(np.zeros((4, 4)), np.array([0, 1, 200, 2], dtype))

    @pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])
    def test_ends_of_a_dtype(self, dtype: Any) -> None:
        """2**63 became a negative label, whose entry was read before the array."""
        for label in (np.iinfo(dtype).max, np.iinfo(dtype).min or 2**31, np.iinfo(dtype).max // 2 + 1):
            with pytest.raises(ValueError, match=f"from 0 to 3; got {label}"):
                al.cross_entropy(np.zeros((4, 4)), np.array([0, 1, label, 2], dtype))

    @pytest.mark.parametrize("dtype", ["i1", "u1", ">i2", ">u4", ">i8"])
    def test_in_range(self, dtype: str) -> None:
        x, labels = RANDOM.normal(size=(4, 5)), np.array([4, 0, 1, 3])
        results = al.cross_entropy.value_and_grad(x, labels.astype(dtype))
        assert all(map(np.array_equal, results, al.cross_entropy.value_and_grad(x, labels)))


class TestResults:
    """What is returned belongs to the caller."""

    @pytest.mark.parametrize("size", [4, 2**17 + 8])
    @pytest.mark.parametrize("reduction", ["sum", "none"])
    def test_share_no_memory(self, size: int, reduction: str) -> None:
        """A value, a slope and a curvature that are an input, a constant or each other."""

        def kernel(xp: Any, x: Any, y: Any, t: Any) -> Iterator[Any]:
            yield x
            yield t, t
            yield xp.broadcast_to(xp.ones_like(x[:1]), x.shape), x

        @define.loss
        def loss(x: Any, y: Any, targets: Any, **options: Any) -> Any:
            return define.elementwise(kernel, {"x": x, "y": y}, targets, options)

        inputs = np.ones((3, size))
        value, gradients = loss.value_and_grad(*inputs, reduction=reduction)
        results = [*gradients, *loss.grad_and_hess(*inputs)[0], *loss.grad_and_hess(*inputs)[1]]
        results += [value, loss(*inputs, reduction="none")] if reduction == "none" else []
        for i, result in enumerate(results):
            result += i + 1
        assert all((result == i + 2).all() for i, result in enumerate(results))
        assert (inputs == 1).all()

    @pytest.mark.parametrize("size", [4, 2**17 + 8])
    def test_overlaps_of_16_bits_have_the_dtype_of_the_predictions(self, size: int) -> None:
        """Unreduced ones were float32; a mean is."""
        x = RANDOM.normal(size=(2, size)).astype(np.float16)
        options = {"pool_axes": 1, "reduction": "none"}
        value, gradient = sigmoid_dice.value_and_grad(x, x > 0, **options)
        assert sigmoid_dice(x, x > 0, **options).dtype == value.dtype == gradient.dtype == np.float16
        assert sigmoid_dice(x, x > 0).dtype == np.float32

    @pytest.mark.parametrize("options", [{}, {"weights": np.float32([[2.0], [1.0], [3.0]])}, {"reduction": "none"}])
    def test_gradients_of_16_bits_are_rounded_once(self, options: dict[str, Any]) -> None:
        """They were multiplied by the factor of a weighted mean after they had been rounded."""
        x = RANDOM.normal(size=(3, 2**17)).astype(np.float16)
        _, gradient = al.sigmoid_cross_entropy.value_and_grad(x, x > 0, **options)
        _, expected = al.sigmoid_cross_entropy.value_and_grad(x.astype(np.float32), x > 0, **options)
        assert np.array_equal(gradient, expected.astype(np.float16))


def test_no_cycle_holds_an_array() -> None:
    """Every gradient of an overlap left its predictions alive until a garbage collection."""
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for loss in (softmax_dice, sigmoid_dice, al.cross_entropy, al.sigmoid_focal_loss):
            for size in (8, 50_000):
                x = RANDOM.normal(size=(size, 3))
                t = RANDOM.integers(0, 2, size if loss in (softmax_dice, al.cross_entropy) else x.shape)
                loss.value_and_grad(x, t), loss(x, t), loss.finish(loss.parts(x, t))
        gc.collect()
        assert not [a for a in gc.garbage if isinstance(a, np.ndarray) or hasattr(a, "gi_frame")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
