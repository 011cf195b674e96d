"""What people reported of other losses, tried here: shapes that broadcast, tensors of other packages, metrics, soft labels, subnormal
numbers, memory.

Shown elsewhere: `nll_loss` of labels makes no array of N x C on NumPy -> test_engine.py, `test_a_gradient_at_a_label_costs_no_pass`; times
and the memory of a whole vocabulary -> benchmarks (docs/speed.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import arrayloss as al
from arrayloss import define, metrics
from benchmarks.measure import peak_bytes

from ..helpers import BACKENDS, Backend

jax = pytest.importorskip("jax")
libraries = pytest.mark.parametrize("xp", [BACKENDS[name] for name in ("numpy", "torch", "jax")], ids=str, indirect=True)
readable = pytest.mark.parametrize("xp", [BACKENDS[name] for name in ("numpy", "torch")], ids=str)
eager = pytest.mark.parametrize("xp", [BACKENDS[name] for name in ("numpy", "torch", "strict")], ids=str)
RNG = np.random.default_rng(6)
SHAPES = [(), (1, 1, 1), (4, 1, 1), (1, 3, 1), (4, 3, 1)]


def summed(a: Any, shape: tuple[int, ...]) -> Any:
    """The sum over what was broadcast."""
    axes = tuple([i for i, n in enumerate(a.shape) if not shape or shape[i] != n])
    return a.sum(axis=axes, dtype=np.float64).reshape(shape)


class TestSharedVariance:
    """One variance a sample, a channel, a batch. Tried: both engines, 16 bits, masks, second order, forward mode, vmap, compilers, Dask,
    2**19 elements, `parts`, a loss of someone's own with several predictions.
    """

    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_variance_of_one_channel_was_refused(self, shape: tuple[int, ...], xp: Backend) -> None:
        mean, targets, variance = RNG.normal(size=(4, 3, 5)), RNG.normal(size=(4, 3, 5)), RNG.uniform(0.5, 2, shape)
        arrays, loss = [xp.array(a) for a in (mean, variance, targets)], al.gaussian_nll_loss
        plain = mean, np.broadcast_to(variance, mean.shape), targets
        value, (of_mean, of_variance) = loss.value_and_grad(*arrays)
        expected, (d_mean, d_variance) = loss.value_and_grad(*plain)
        np.testing.assert_allclose(xp.numpy(value), expected, rtol=1e-12)
        np.testing.assert_allclose(xp.numpy(of_mean), d_mean, rtol=1e-12)
        assert of_variance.shape == shape
        np.testing.assert_allclose(xp.numpy(of_variance), summed(d_variance, shape), rtol=1e-10)
        second = loss.grad_and_hess(*arrays)[1][1]
        np.testing.assert_allclose(xp.numpy(second), summed(loss.grad_and_hess(*plain)[1][1], shape), rtol=1e-10)
        np.testing.assert_allclose(xp.numpy(loss.finish(loss.parts(*arrays))), expected, rtol=1e-12)

    def test_a_variance_may_be_a_number(self) -> None:
        x, t = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
        for number in (2.0, 2, np.float64(2)):
            value, (_, of_variance) = al.gaussian_nll_loss.value_and_grad(x, number, t)
            np.testing.assert_allclose(value, al.gaussian_nll_loss(x, np.full_like(x, 2.0), t), rtol=1e-14)
            assert of_variance.shape == ()

    @pytest.mark.parametrize("shape", SHAPES[:4])
    def test_autograd_of_a_shared_variance(self, shape: tuple[int, ...]) -> None:
        mean, targets = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True), torch.randn(4, 3, 2, dtype=torch.float64)
        variance = torch.full(shape, 1.5, dtype=torch.float64, requires_grad=True)

        def loss(mean: Any, variance: Any) -> Any:
            return al.gaussian_nll_loss(mean, variance, targets)

        assert torch.autograd.gradcheck(loss, (mean, variance))
        assert torch.autograd.gradgradcheck(loss, (mean, variance))
        inputs = mean.detach(), variance.detach()
        (of_mean, of_variance) = torch.func.grad(loss, argnums=(0, 1))(*inputs)
        _, tangent = torch.func.jvp(loss, inputs, tuple(map(torch.ones_like, inputs)))
        torch.testing.assert_close(tangent, of_mean.sum() + of_variance.sum())
        arrays = [jax.numpy.asarray(a.numpy()) for a in (*inputs, targets)]
        with jax.disable_jit():
            gradient = jax.grad(al.gaussian_nll_loss, argnums=1)(*arrays)
        np.testing.assert_allclose(gradient, of_variance, rtol=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_a_shared_variance_of_many_elements(self, dtype: Any, engine: str) -> None:
        with al.use_engine(engine):
            mean, targets = torch.randn(2**17 + 1, 3).to(dtype), torch.randn(2**17 + 1, 3).to(dtype)
            variance = torch.tensor([[0.5, 1.0, 2.0]], dtype=dtype)
            value, (_, of_variance) = al.gaussian_nll_loss.value_and_grad(mean, variance, targets)
            exact = al.gaussian_nll_loss.value_and_grad(*[a.double() for a in (mean, variance, targets)])
            torch.testing.assert_close(value, exact[0].float(), rtol=1e-5, atol=0)
            error = 2e-5 if dtype == torch.float32 else 0.02  # of 16 bits every gradient has been rounded before the sum
            torch.testing.assert_close(of_variance.double(), exact[1][1], rtol=error, atol=error / 10)

    def test_a_variance_of_what_is_masked_may_be_nan(self) -> None:
        x, variance, kept = np.zeros((2, 3)), np.array([[np.nan], [1.0]]), np.array([[False], [True]])
        value, gradients = al.gaussian_nll_loss.value_and_grad(x, variance, x + 1, where=kept)
        assert value == 0.5
        assert all(np.isfinite(g).all() for g in gradients)

    def test_other_shapes_are_refused_as_before(self) -> None:
        for shape in ((3,), (5, 3), (4, 2), (4, 3, 1)):
            with pytest.raises(ValueError, match=r"variance must have the shape of mean, \(4, 3\); got "):
                al.gaussian_nll_loss(np.zeros((4, 3)), np.ones(shape), np.zeros((4, 3)))

    def test_the_second_prediction_of_a_loss_of_your_own_broadcasts(self) -> None:
        @define.loss
        def scaled(x: Any, scale: Any, targets: Any, **options: Any) -> Any:
            def kernel(xp: Any, x: Any, s: Any, t: Any) -> Any:
                r = s * x - t
                yield r * r / 2
                yield s * r, x * r

            return define.elementwise(kernel, {"x": x, "scale": scale}, targets, options)

        _, (_, of_scale) = scaled.value_and_grad(np.ones((2, 3)), np.full((2, 1), 3.0), np.ones((2, 3)), reduction="sum")
        np.testing.assert_array_equal(of_scale, [[6.0], [6.0]])


class Image(torch.Tensor):
    """A class that packages derive: it is asked about every operation, and refuses strangers."""


class Mask(torch.Tensor):
    pass


class Lenient(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize(("one", "other"), [(Image, Mask), (Image, torch.Tensor), (torch.Tensor, Mask), (Lenient, Mask)])
@pytest.mark.parametrize("loss", [al.cross_entropy.bind(axis=1), al.dice_loss.bind(activation="softmax", axis=1)])
def test_an_image_and_a_mask_of_two_classes_failed_deep_inside(loss: Any, one: Any, other: Any) -> None:
    """Tried: predictions, targets, weights, masks; eager, transforms, `value_and_grad`, parts, metrics. Results are plain tensors."""
    x, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    where = (labels > 0)[:, None] if loss.name == "dice_loss" else labels > 0
    leaf = x.clone().requires_grad_()
    value = loss(leaf.as_subclass(one), labels.as_subclass(other), where=where.as_subclass(other))
    value.backward()
    expected, gradient = loss.value_and_grad(x, labels, where=where)
    torch.testing.assert_close(value.detach(), expected)
    torch.testing.assert_close(leaf.grad, gradient)
    assert type(value) is torch.Tensor
    assert type(loss.value_and_grad(x.as_subclass(one), labels.as_subclass(other))[1]) is torch.Tensor
    counts = metrics.confusion(x.as_subclass(one), labels.as_subclass(other), activation="softmax", axis=1)
    torch.testing.assert_close(counts.tp, metrics.confusion(x, labels, activation="softmax", axis=1).tp)
    parts = loss.parts(x.as_subclass(one), labels.as_subclass(other))
    torch.testing.assert_close(loss.finish(parts).float(), loss(x, labels))


def test_tensors_that_compute_in_their_own_way_stay_what_they_are() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        assert type(al.squared_error(torch.zeros(3), torch.ones(3))).__name__ == "FakeTensor"
    parameter = torch.nn.Parameter(torch.zeros(3))
    al.squared_error(parameter, torch.ones(3)).backward()
    assert parameter.grad is not None


def constant_predictor() -> tuple[Any, Any]:
    """Four classes of four elements each; the first is always predicted."""
    return np.eye(4, dtype=np.float32)[np.zeros(16, int)], np.repeat(np.arange(4), 4)


class TestMetrics:
    @eager
    def test_the_precision_of_a_class_that_is_never_predicted_was_1(self, xp: Backend) -> None:
        x, labels = constant_predictor()
        counts = metrics.confusion(xp.array(x), xp.array(labels), activation="softmax", axis=1)
        np.testing.assert_allclose(xp.numpy(metrics.precision(counts, average=None)), [0.25, 0, 0, 0])
        np.testing.assert_allclose(xp.numpy(metrics.precision(counts)), 0.0625)
        assert float(metrics.precision(counts, empty=0.5)) == 0.0625

    @eager
    def test_empty_may_be_nan(self, xp: Backend) -> None:
        """Then what is absent from prediction and target does not count in a mean."""
        nothing = xp.array(np.zeros((2, 3), bool))
        counts = metrics.confusion(nothing, nothing, activation=None)
        for metric in (metrics.precision, metrics.recall, metrics.dice, metrics.jaccard):
            assert np.isnan(float(metric(counts, empty=float("nan"))))
        two = np.array([[1, 0], [0, 0], [1, 0]], bool)
        counts = metrics.confusion(xp.array(two), xp.array(two), activation=None, axis=1)
        assert float(metrics.dice(counts, empty=float("nan"), absent="keep")) == 1
        np.testing.assert_array_equal(xp.numpy(metrics.dice(counts, empty=float("nan"), average=None)), [1, np.nan])

    @eager
    def test_the_mean_over_no_samples_was_nan(self, xp: Backend) -> None:
        counts = metrics.confusion(
            xp.array(np.zeros((0, 4, 2))), xp.array(np.zeros((0, 2), int)), activation="softmax", axis=1, pool_axes=2
        )
        with pytest.raises(ValueError, match=r"there is no mean over no elements: the counts have shape \(0, 4\)"):
            metrics.dice(counts)
        assert metrics.dice(counts, average=None).shape == (0, 4)
        pooled = metrics.confusion(xp.array(np.zeros((0, 4))), xp.array(np.zeros(0, int)), activation="softmax", axis=1)
        assert float(metrics.dice(pooled)) == 1

    @libraries
    @pytest.mark.parametrize("activation", [None, "softmax"])
    def test_a_nan_counted_as_a_no(self, activation: Any, xp: Backend) -> None:
        x, t = np.array([[np.nan, 1.0], [0.0, 1.0]]), np.array([[1, 0], [0, 1]])
        for decide in (metrics.confusion, jax.jit(metrics.confusion, static_argnames=("activation", "axis"))):
            if decide is metrics.confusion or xp.name == "jax":
                counts = decide(xp.array(x), xp.array(t), activation=activation, axis=1)
                assert np.isnan(xp.numpy(counts.tp)[0])
                assert np.isnan(xp.numpy(metrics.dice(counts)))

    @eager
    def test_means_over_samples_and_means_by_support(self, xp: Backend) -> None:
        x, labels = RNG.normal(size=(3, 4, 9)), RNG.integers(0, 3, (3, 9))  # the last class is absent
        counts = metrics.confusion(xp.array(x), xp.array(labels), activation="softmax", axis=1, pool_axes=2)
        each = xp.numpy(metrics.dice(counts, average=None))
        support = xp.numpy(counts.tp) + xp.numpy(counts.fn)
        by_class = [each[support[:, c] > 0, c].mean() if support[:, c].any() else each[:, c].mean() for c in range(4)]
        np.testing.assert_allclose(xp.numpy(metrics.dice(counts, axes=0)), by_class, rtol=1e-12)
        np.testing.assert_allclose(xp.numpy(metrics.dice(counts, average="weighted")), (support * each).sum() / support.sum(), rtol=1e-12)
        weighted = (support * each).sum(axis=1) / support.sum(axis=1)
        np.testing.assert_allclose(xp.numpy(metrics.dice(counts, average="weighted", axes=-1)), weighted, rtol=1e-12)
        micro = metrics.confusion(xp.array(x), xp.array(labels), activation="softmax", axis=1)
        np.testing.assert_allclose(
            xp.numpy(metrics.jaccard(counts, average="micro", axes=0)), xp.numpy(metrics.jaccard(micro, average=None))
        )
        with pytest.raises(ValueError, match="axes must be from -2 to 1"):
            metrics.dice(counts, axes=2)

    @pytest.mark.parametrize("xp", [BACKENDS[n] for n in ("numpy", "torch", "strict", "jax")], ids=str, indirect=True)
    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_label_maps_were_refused_as_predictions(self, axis: int, xp: Backend) -> None:
        """Tried: where the classes are, regions, weights, masks, ignored labels, classes that count, small dtypes, boolean labels."""
        p, t = RNG.integers(0, 3, (4, 3)), RNG.integers(0, 3, (4, 3))
        one_hot = np.moveaxis(np.eye(3)[p], -1, axis)
        kept, per_element = np.moveaxis(RNG.random((4, 3, 1)) > 0.3, -1, axis), RNG.random((4, 3))
        cases: list[dict[str, Any]] = [{}, {"weights": per_element, "where": kept, "ignore_index": 0, "classes": (0, 2)}]
        cases += [
            {"pool_axes": tuple([a for a in range(3) if a not in (axis % 3, k)])} for k in range(3) if k != axis % 3 and xp.name != "jax"
        ]
        for options in cases if xp.name != "jax" else cases[:2]:
            passed = {n: xp.array(v) if isinstance(v, np.ndarray) else v for n, v in options.items()}
            counts = metrics.confusion(xp.array(p), xp.array(t), activation=None, num_classes=3, axis=axis, **passed)
            expected = metrics.confusion(one_hot, t, activation=None, axis=axis, **options)
            for a, b in zip(counts.arrays, expected.arrays, strict=True):
                np.testing.assert_allclose(xp.numpy(a), b, rtol=1e-6, atol=1e-6)

    @readable
    def test_label_maps_are_checked(self, xp: Backend) -> None:
        p, t = np.array([0, 1, 7]), np.array([0, -1, 1])
        count = metrics.confusion
        with pytest.raises(
            TypeError, match=r"integer predictions are labels: pass num_classes= and axis=; of a mask pass predictions == 1"
        ):
            count(xp.array(p), xp.array(t), activation=None)
        with pytest.raises(ValueError, match="predictions must be labels from 0 to 2; got 7"):
            count(xp.array(p), xp.array(t * 0), activation=None, num_classes=3, axis=1)
        with pytest.raises(ValueError, match="integer targets must be labels from 0 to 7; got -1"):
            count(xp.array(p), xp.array(t), activation=None, num_classes=8, axis=1)
        with pytest.raises(ValueError, match="activation must be None for integer predictions; got 'softmax'"):
            count(xp.array(p), xp.array(t), activation="softmax", num_classes=8, axis=1)
        ignored = count(xp.array(p), xp.array(t), activation=None, num_classes=3, axis=1, ignore_index=-1, where=xp.array(p[:, None] < 7))
        assert [xp.numpy(a).tolist() for a in ignored.arrays] == [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 1]]
        assert metrics.accuracy(count(xp.array(p[:0]), xp.array(t[:0]), activation=None, num_classes=3, axis=1)) == 1

    def test_label_maps_make_no_array_of_all_classes(self) -> None:
        p, t = RNG.integers(0, 100, 2**16), RNG.integers(0, 100, 2**16)
        assert peak_bytes(lambda: metrics.confusion(p, t, activation=None, num_classes=100, axis=1)) < 2**16 * 100


SOFT = [al.dice_loss, al.jaccard_loss, al.tversky_loss.bind(alpha=0.3, beta=0.7), al.focal_tversky_loss.bind(alpha=0.3, beta=0.7)]


class TestSoftLabels:
    @pytest.mark.parametrize("loss", SOFT, ids=lambda loss: loss.name)
    def test_no_form_but_squares_was_smallest_at_the_target(self, loss: Any, engine: str) -> None:
        t = RNG.random((2, 3, 9))
        with al.use_engine(engine):
            value, gradient = loss.value_and_grad(t, t, activation=None, axis=1, soft_labels=True)
            assert value == 0
            assert not gradient.any()
            for step in (-1e-3, 1e-3):
                assert loss((t + step).clip(0, 1), t, activation=None, axis=1, soft_labels=True) > 1e-5
            assert loss.bind(activation=None)(t, t) > 0.1

    @pytest.mark.parametrize("loss", SOFT, ids=lambda loss: loss.name)
    @pytest.mark.parametrize("activation", [None, "sigmoid", "softmax"])
    def test_the_form_for_soft_labels_is_the_same_for_hard_ones(self, loss: Any, activation: Any) -> None:
        x, labels = (RNG.random if activation is None else RNG.normal)(size=(2, 3, 9)), RNG.integers(0, 3, (2, 9))
        loss = loss.bind(activation=activation, axis=1)
        for targets in (labels, np.moveaxis(np.eye(3)[labels], -1, 1)):
            for a, b in zip(loss.value_and_grad(x, targets, soft_labels=True), loss.value_and_grad(x, targets), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-17)
        soft = torch.tensor(RNG.random((2, 3, 9)))
        assert torch.autograd.gradcheck(lambda x: loss(x, soft, soft_labels=True), torch.tensor(x, requires_grad=True))

    def test_monai_has_the_same(self) -> None:
        losses = pytest.importorskip("monai.losses")
        x, t = torch.randn(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
        options = {"activation": "softmax", "axis": 1, "pool_axes": (2, 3), "soft_labels": True}
        theirs = {"softmax": True, "soft_label": True, "smooth_nr": 1.0, "smooth_dr": 1.0}
        torch.testing.assert_close(al.dice_loss(x, t, **options), losses.DiceLoss(**theirs)(x, t))
        expected = losses.TverskyLoss(alpha=0.3, beta=0.7, **theirs)(x, t)
        torch.testing.assert_close(al.tversky_loss(x, t, alpha=0.3, beta=0.7, **options), expected)

    def test_one_form_at_a_time(self) -> None:
        with pytest.raises(ValueError, match="soft_labels and squared must not both be True"):
            al.dice_loss.bind(activation=None, soft_labels=True, squared=True)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("size", [2, 2**18])
def test_the_gradient_of_a_subnormal_probability(dtype: str, size: int, engine: str) -> None:
    """It is infinite where 1 / p is, as docstrings now say; and no warning is shown."""
    p, t = np.full(size, np.finfo(dtype).smallest_subnormal), np.ones(size, bool)
    with al.use_engine(engine), np.errstate(all="raise"):
        for loss in (al.binary_cross_entropy, al.sigmoid_focal_loss.bind(given="probs")):
            value, gradient = loss.value_and_grad(p, t, reduction="sum")
            assert np.isfinite(value)
            assert (gradient == -np.inf).all()
            assert "subnormal" in loss.__doc__
        assert np.isinf(al.squared_error(np.full(size, 300, "f2"), np.zeros(size, "f2"), reduction="none")).all()


class TestMemory:
    def test_logits_of_16_bits_took_more_memory_than_those_of_32(self, engine: str) -> None:
        """The gradient in its own dtype, and blocks."""
        x, labels = torch.randn(256, 2**15).bfloat16().requires_grad_(), torch.randint(0, 2**15, (256,))

        def step() -> None:
            x.grad = None
            al.cross_entropy(x, labels).backward()

        with al.use_engine(engine):
            assert peak_bytes(step) < x.numel() * 2 + 14 * 2**20

    @readable
    def test_the_value_of_a_likelihood_read_all_classes(self, xp: Backend) -> None:
        """Here they would be 2**50 numbers: all of them are one."""
        x, labels = np.broadcast_to(np.float32(-1.5), (2**10, 2**40)), np.arange(2**10)
        predictions = torch.tensor([[-1.5]]).expand(x.shape) if xp.name == "torch" else x
        assert float(al.nll_loss(predictions, xp.array(labels))) == 1.5
        for options in (
            {"ignore_index": (0, 1)},
            {"where": xp.array(labels > 3)},
            {"class_weights": None, "weights": xp.array(labels * 1.0)},
        ):
            assert float(al.nll_loss(predictions, xp.array(labels), **options)) == 1.5
        assert float(al.nll_loss.finish(al.nll_loss.parts(predictions, xp.array(labels)))) == 1.5
