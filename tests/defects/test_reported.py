"""What people reported of other losses, tried here: denominators, axes, masks, slopes and shapes.

Shown elsewhere:
- probabilities an ulp above 1 under a power -> tests/test_limits.py, and more of them here
- a mean whose denominator is 0 for every kind of operation -> test_contract_leaving_out.py, `TestPositives` in test_contract_reduction.py
- time of label smoothing, divergences, Dice on volumes -> benchmarks (docs/speed.md)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

import arrayloss as al
from arrayloss import define, metrics

from ..helpers import BACKENDS, Backend, needs_whole_graphs

jax = pytest.importorskip("jax")
libraries = pytest.mark.parametrize("xp", [BACKENDS[name] for name in ("numpy", "torch", "jax")], ids=str, indirect=True)
readable = pytest.mark.parametrize("xp", [BACKENDS[name] for name in ("numpy", "torch")], ids=str)
RNG = np.random.default_rng(5)
X, IGNORED = RNG.normal(size=(4, 3)).astype(np.float32), np.full(4, -100)


class TestDenominatorOf0:
    """Tried: a sum of the library, a Python int, a NumPy number, weights, class weights, `finish` and `bind`, combinations."""

    @libraries
    @pytest.mark.parametrize("loss", [al.cross_entropy, al.nll_loss, al.cross_entropy + al.softmax_focal_loss])
    def test_a_batch_of_ignored_labels_stopped_a_training_by_its_own_count(self, loss: Any, xp: Backend) -> None:
        x, labels = xp.array(X), xp.array(IGNORED)
        kept = (labels != -100).sum()
        for normalizer in (kept, int(kept), np.int64(int(kept))):
            value, gradient = loss.value_and_grad(x, labels, ignore_index=-100, normalizer=normalizer)
            np.testing.assert_array_equal(xp.numpy(value), 0)
            np.testing.assert_array_equal(xp.numpy(gradient), np.zeros_like(X))
            parts = loss.parts(x, labels, ignore_index=-100)
            assert float(loss.finish(parts + parts, normalizer=normalizer)) == 0

    @libraries
    def test_a_focal_loss_without_positives_was_infinite(self, xp: Backend) -> None:
        x, nothing = xp.array(X), xp.array(np.zeros_like(X))
        value, gradient = al.sigmoid_focal_loss.value_and_grad(x, nothing, normalizer=nothing.sum())
        np.testing.assert_array_equal(xp.numpy(value), 0)
        np.testing.assert_array_equal(xp.numpy(gradient), 0)
        whole = al.sigmoid_focal_loss(x, nothing, reduction="sum")
        np.testing.assert_allclose(float(al.sigmoid_focal_loss(x, nothing, normalizer="positives")), float(whole), rtol=1e-6)

    @libraries
    @pytest.mark.parametrize("zero", [lambda t: t.sum() * 0.0, lambda t: 0])
    def test_autograd_over_nothing_is_0(self, zero: Callable[[Any], Any], xp: Backend) -> None:
        """A gradient of NaN turned all weights into NaN."""
        if xp.name == "jax":
            gradient = jax.grad(lambda x: al.sigmoid_focal_loss(x, xp.array(X > 0), normalizer=zero(x)))(xp.array(X))
        elif xp.name == "torch":
            leaf = torch.tensor(X, requires_grad=True)
            al.sigmoid_focal_loss(leaf, torch.tensor(X > 0), normalizer=zero(torch.tensor(X))).backward()
            gradient = leaf.grad
        else:
            gradient = al.sigmoid_focal_loss.value_and_grad(X, X > 0, normalizer=zero(X))[1]
        np.testing.assert_array_equal(xp.numpy(gradient), 0)

    @libraries
    @pytest.mark.parametrize("loss", [al.cross_entropy, al.nll_loss.bind(given="probs")])
    def test_class_weights_of_0_with_label_smoothing_were_infinite(self, loss: Any, xp: Backend) -> None:
        """The numerator is not 0, the denominator is. Parts turned into Python floats on the way, and gave another number."""
        loss = loss.bind(class_weights=(0.0, 1.0, 1.0), label_smoothing=0.1)
        p, labels = xp.array(np.full((4, 3), 1 / 3, np.float32)), xp.array(np.zeros(4, np.int64))
        value, gradient = loss.value_and_grad(p, labels)
        np.testing.assert_array_equal(xp.numpy(value), 0)
        np.testing.assert_array_equal(xp.numpy(gradient), 0)
        parts = loss.parts(p, labels)
        assert float(loss.finish(parts)) == float(loss.finish(parts + parts)) == float(loss.finish(sum([parts, parts]))) == 0


class TestAxes:
    """Which axis the classes are on was guessed."""

    @pytest.mark.parametrize(
        ("loss", "options"),
        [
            (al.sigmoid_cross_entropy, {"pos_weight": (1.0, 2.0, 3.0)}),
            (al.sigmoid_cross_entropy, {"class_weights": np.array([1.0, 2.0, 3.0])}),
            (al.binary_cross_entropy, {"class_weights": [1.0, 2.0, 3.0]}),
            (al.sigmoid_focal_loss, {"alpha": (0.1, 0.2, 0.3)}),
        ],
    )
    def test_weights_of_channels_went_along_the_width(self, loss: Any, options: dict[str, Any]) -> None:
        p, t = np.full((2, 3, 5, 3), 0.25), np.ones((2, 3, 5, 3))
        with pytest.raises(ValueError, match=rf"axis must be named: {next(iter(options))} has 3 entries, as have the axes \[1, 3\]"):
            loss(p, t, **options)
        along = loss(p, t, axis=1, reduction="none", **options)
        assert np.ptp(along, axis=3).max() == 0 < np.ptp(along, axis=1).min()
        assert loss(p[..., :2], t[..., :2], reduction="sum", **options, axis=1) > 0

    @pytest.mark.parametrize("loss", [al.cross_entropy, al.softmax_focal_loss, al.softmax_focal_loss.bind(given="probs")])
    def test_cross_entropy_of_one_channel_was_0_without_a_word(self, loss: Any) -> None:
        """Tried: labels and masks, a combination with Dice, a divergence, Dice itself; tensors and JAX take the same way."""
        x, labels = np.ones((2, 1, 4, 4)), np.zeros((2, 4, 4), int)
        for targets in (labels, np.ones((2, 1, 4, 4))):
            for call in (loss, loss.value_and_grad, loss.parts):
                with pytest.raises(ValueError, match=r"at least two classes along axis 1; .*use sigmoid_cross_entropy"):
                    call(x, targets, axis=1)
        both = loss.bind(axis=1) + al.dice_loss.bind(activation="sigmoid", axis=1)
        with pytest.raises(ValueError, match="use sigmoid_cross_entropy"):
            both(x, labels)
        with pytest.raises(ValueError, match="use sigmoid_cross_entropy"):
            al.kl_divergence(x, x, axis=1)
        with pytest.raises(ValueError, match="pass activation='sigmoid'"):
            al.dice_loss(x, labels, activation="softmax", axis=1)


OVERLAPS = [
    al.dice_loss,
    al.jaccard_loss,
    al.generalized_dice_loss,
    al.tversky_loss.bind(alpha=0.3, beta=0.7),
    al.focal_tversky_loss.bind(alpha=0.3, beta=0.7),
]


class TestOneChannel:
    @readable
    @pytest.mark.parametrize("loss", OVERLAPS, ids=lambda loss: loss.name)
    @pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, np.float32])
    def test_an_empty_mask_counted_as_a_full_one(self, loss: Any, dtype: type, xp: Backend) -> None:
        """0 was read as class 0. Tried: every overlap, no activation, a mask of what counts, an ignored value, regions of one sample."""
        loss, mask = loss.bind(activation="sigmoid", axis=1), np.zeros((2, 4, 4), dtype)
        nothing, everything = (xp.array(np.full((2, 1, 4, 4), x)) for x in (-30.0, 30.0))
        assert float(loss(nothing, xp.array(mask))) < 1e-6 < 0.5 < float(loss(everything, xp.array(mask)))
        assert float(loss(everything, xp.array(mask + np.ones_like(mask)))) < 1e-6
        half = np.full((2, 4, 4), dtype(1))
        half[:, :2] = 0
        x, where = xp.array(RNG.normal(size=(2, 1, 4, 4))), xp.array(half[:, None] == 0)
        cases: list[dict[str, Any]] = [{}, {"pool_axes": (2, 3)}, {"where": where}] + [{"ignore_index": 1}] * (dtype is not np.float32)
        for options in cases:
            a, b = (xp.numpy(loss(x, xp.array(t), **options)) for t in (half, half[:, None]))
            np.testing.assert_array_equal(a, b)

    @libraries
    def test_the_counts_of_a_mask_were_those_of_its_complement(self, xp: Backend) -> None:
        x, mask = np.full((1, 1, 2, 2), -9.0), np.zeros((1, 2, 2), np.uint8)
        counts = metrics.confusion(xp.array(x), xp.array(mask), activation="sigmoid", axis=1)
        assert [float(xp.numpy(a)[0]) for a in counts.arrays] == [0, 0, 0, 4]

    @needs_whole_graphs
    def test_a_compiled_loss_of_one_channel(self) -> None:
        x, mask = torch.randn(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64)
        loss = al.dice_loss.bind(activation="sigmoid", axis=1)
        compiled = torch.compile(loss, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x, mask), loss(x, mask))
        jitted = jax.jit(loss)(jax.numpy.asarray(x.numpy()), jax.numpy.asarray(mask.numpy()))
        np.testing.assert_allclose(jitted, loss(x, mask), rtol=1e-5)


BINARY = [al.sigmoid_cross_entropy, al.sigmoid_focal_loss, al.binary_cross_entropy]


@define.loss
def hinge(predictions: Any, targets: Any, **options: Any) -> Any:
    """A loss of someone's own."""

    def kernel(xp: Any, x: Any, t: Any) -> Any:
        yield xp.where(1 - (2 * t - 1) * x > 0, 1 - (2 * t - 1) * x, 0.0)

    return define.binary(kernel, predictions, targets, options)


class TestFloatingMasks:
    """Tried: 16 bits, byte orders, strides, sizes around a block, 0-d and empty arrays, masks of what counts, each question, a GPU's
    silence (compilers and transforms read nothing).
    """

    @readable
    @pytest.mark.parametrize("loss", [*BINARY, hinge, *[o.bind(activation="sigmoid") for o in OVERLAPS if o.name[:3] != "gen"]], ids=repr)
    def test_a_mask_of_0_and_255_was_taken_at_its_word(self, loss: Any, xp: Backend) -> None:
        """Cross-entropy was -254, the focal loss -9.5 million."""
        x, mask = xp.array(np.full((2, 8, 8), 0.5, np.float32)), np.zeros((2, 8, 8), np.float32)
        mask[1, 3:, 3:] = 255
        for call in (loss, loss.value_and_grad, loss.parts, loss + al.squared_error):
            with pytest.raises(ValueError, match=r"binary targets must be from 0 to 1; got 255 \(of a mask pass `targets > 0`\)"):
                call(x, xp.array(mask))
        with pytest.raises(ValueError, match="got -1 "):
            loss(x, xp.array(2 * (mask > 0).astype(np.float32) - 1))
        loss(x, xp.array(mask / 255 * np.float32(1.0005)))  # interpolation may overshoot
        loss(x, xp.array(mask), where=xp.array(mask < 255))  # what is masked may be anything
        loss(x, xp.array(mask), where=xp.array(np.array([[[True]], [[False]]])))
        loss(x, xp.array(np.where(mask > 0, np.nan, 0)))

    @readable
    def test_an_accuracy_was_128(self, xp: Backend) -> None:
        with pytest.raises(ValueError, match="got 255"):
            metrics.confusion(xp.array(np.ones(4)), xp.array(np.full(4, 255.0)), activation="sigmoid")

    @pytest.mark.parametrize("shape", [(), (3,), (2**16,), (2**16 + 1,), (1, 2, 300, 300), (70000, 2)])
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
    def test_the_first_block_is_looked_at_whatever_its_form(self, shape: tuple[int, ...], dtype: str) -> None:
        x, t = np.zeros(shape, dtype), np.zeros(shape, dtype)
        al.sigmoid_cross_entropy(x, t)
        t.reshape(-1)[2**16 - 1 if len(shape) == 1 and shape[0] > 3 else 0] = 255  # the last entry of the block, or the first
        for targets in (t, t[::-1][::-1] if shape else t, t.copy("F")):
            with pytest.raises(ValueError, match="got 255"):
                al.sigmoid_cross_entropy(x, targets)
        if dtype != ">f4":
            for kind in {torch.bfloat16, torch.from_numpy(np.atleast_1d(t)).dtype}:
                with pytest.raises(ValueError, match="got 255"):
                    al.sigmoid_cross_entropy(torch.tensor(x).to(kind).requires_grad_(), torch.tensor(t).to(kind).requires_grad_())

    def test_no_targets_and_distributions_are_not_looked_at(self) -> None:
        assert al.sigmoid_cross_entropy(np.zeros((0, 3)), np.zeros((0, 3))) == 0
        assert al.cross_entropy(np.zeros((1, 2)), np.array([[255.0, 0.0]])) > 100  # a distribution need not sum to 1

    @needs_whole_graphs
    def test_where_nothing_may_be_read_nothing_is(self) -> None:
        x, t = torch.zeros(4), torch.full((4,), 255.0)
        torch.compile(lambda x, t: al.sigmoid_cross_entropy(x, t), backend="eager", fullgraph=True)(x, t)
        torch.func.vmap(al.sigmoid_cross_entropy)(x, t)
        jax.jit(al.sigmoid_cross_entropy)(jax.numpy.zeros(4), jax.numpy.full(4, 255.0))


@libraries
@pytest.mark.parametrize("gamma", [0.5, 0.75, 1.0, 4 / 3, 2.0])
def test_interpolated_probabilities_made_a_power_nan(gamma: float, xp: Backend) -> None:
    """An ulp above 1, of each of the masked and unmasked classes; the sums then are an ulp below 0."""
    p, t = np.array([[1.0000001, 1.0000001], [-1e-8, 0.0]], np.float32), np.array([[1, 1], [0, 0]])
    for smooth in (0.0, 1.0):
        options = {"activation": None, "alpha": 0.5, "beta": 0.5, "gamma": gamma, "smooth": smooth}
        value, gradient = al.focal_tversky_loss.value_and_grad(xp.array(p), xp.array(t), **options)
        assert float(xp.numpy(value)) == 0
        assert np.isfinite(xp.numpy(gradient)).all()


LABELS = torch.tensor([0, 1, 2, 0])
CONSTANT_SLOPES: dict[str, Callable[[Any], Any]] = {
    "labels": lambda x: al.nll_loss(x, LABELS),
    "sum": lambda x: al.nll_loss(x, LABELS, reduction="sum"),
    "none": lambda x: al.nll_loss(x, LABELS, reduction="none").sum(),
    "class weights": lambda x: al.nll_loss(x, LABELS, class_weights=(1.0, 2.0, 3.0)),
    "a distribution": lambda x: al.nll_loss(x, x.detach().exp()),
    "smoothing": lambda x: al.nll_loss(x, LABELS, label_smoothing=0.1),
    "ignored": lambda x: al.nll_loss(x, LABELS, ignore_index=0),
    "masked": lambda x: al.nll_loss(x, LABELS, where=LABELS > 0),
    "a tensor divides": lambda x: al.nll_loss(x, LABELS, normalizer=torch.tensor(3.0)),
    "over nothing": lambda x: al.nll_loss(x, LABELS, ignore_index=(0, 1, 2)),
    "of no samples": lambda x: al.nll_loss(x[:0], LABELS[:0]),
    "parts": lambda x: al.nll_loss.finish(al.nll_loss.parts(x, LABELS) + al.nll_loss.parts(x, LABELS)),
    "a combination": lambda x: (al.nll_loss + 2 * al.nll_loss.bind(label_smoothing=0.1))(x, LABELS),
    "far from the target": lambda x: al.huber_loss(x, torch.full_like(x, 100.0)),
}


@pytest.mark.parametrize("loss", CONSTANT_SLOPES.values(), ids=list(CONSTANT_SLOPES))
def test_a_constant_slope_had_no_graph(loss: Callable[[Any], Any]) -> None:
    """The second backward pass said "does not require grad"; zeros are right."""
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).log_softmax(1).requires_grad_()
    (slope,) = torch.autograd.grad(loss(x), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    assert not second.any()
    assert not torch.autograd.functional.hessian(loss, x.detach()).any()
    assert not torch.func.hessian(loss)(x.detach()).any()


@pytest.mark.parametrize("gap", [5.0, 20.0, 30.0, 80.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_of_a_reverse_divergence_lost_its_digits(dtype: str, gap: float) -> None:
    """Of the target on confident rows: at a gap of 20 a float32 was 19 % off, at 30 all of it. Tried: both dtypes, PyTorch and JAX."""
    x, t = np.array([0.3, -0.2, 0.1], dtype), np.array([gap, 0.5, -0.25], dtype)
    with mpmath.workdps(80):
        (p, q) = ([mpmath.exp(v) / mpmath.fsum(map(mpmath.exp, a)) for v in a] for a in ([mpmath.mpf(float(v)) for v in b] for b in (t, x)))
        mean = mpmath.fsum(a * mpmath.log(a / b) for a, b in zip(p, q, strict=True))
        exact = [float(a * (mpmath.log(a / b) - mean)) for a, b in zip(p, q, strict=True)]
    target = torch.tensor(t, requires_grad=True)
    al.kl_divergence(torch.tensor(x), target).backward()
    np.testing.assert_allclose(target.grad, exact, rtol=8 * np.finfo(dtype).eps)
    if gap == 30 and dtype == "float32":  # what JAX compiles costs seconds
        gradient = jax.grad(lambda t: al.kl_divergence(jax.numpy.asarray(x), t))(jax.numpy.asarray(t))
        np.testing.assert_allclose(gradient, exact, rtol=8 * np.finfo(dtype).eps)
