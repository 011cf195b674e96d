"""`check` of losses made with `arrayloss.define`: right kernels pass, each kind of mistake is found and named."""

from __future__ import annotations

import ast
import re

import mpmath
import numpy as np
import pytest
from click.testing import CliRunner

from arrayloss import define
from arrayloss.check import check, commands
from arrayloss.check.derivatives import summary
from arrayloss.check.precise import NAMESPACE, precise

FAST = {"backends": ["numpy"], "modes": ["eager"]}


# -- kernels ---------------------------------------------------------------------------------------------------------------


def quantile(xp, x, t, q):
    above = xp.astype(x >= t, x.dtype)
    yield (above - q) * (x - t)
    yield above - q
    yield xp.zeros_like(x)


def gaussian(xp, mean, variance, t):
    r = mean - t
    yield (xp.log(variance) + r * r / variance) / 2
    yield r / variance, (1 - r * r / variance) / (2 * variance)
    yield 1 / variance, (r * r / variance - 0.5) / variance**2


def logistic(xp, x, t):
    t = xp.astype(t, x.dtype)
    p = 1 / (1 + xp.exp(-x))
    yield xp.log1p(xp.exp(-abs(x))) + xp.where(x > 0, x, 0.0) - t * x
    yield p - t
    yield p * (1 - p)


def likelihood(xp, p, t):
    """Of probabilities: logits have no loss."""
    t = xp.astype(t, p.dtype)
    yield -t * xp.log(p) - (1 - t) * xp.log(1 - p)
    yield (1 - t) / (1 - p) - t / p
    yield t / p**2 + (1 - t) / (1 - p) ** 2


def softmax(xp, x, axis):
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


def of_labels(xp, x, t, axis):
    hot = define.special.one_hot(xp, t, x, axis)
    p = softmax(xp, x, axis)
    yield -xp.log(xp.sum(hot * p, axis=axis, keepdims=True))
    yield p - hot
    yield p * (1 - p)


def of_distribution(xp, x, t, axis):
    p = softmax(xp, x, axis)
    yield -xp.sum(t * xp.log(p), axis=axis, keepdims=True)
    yield p * xp.sum(t, axis=axis, keepdims=True) - t


def regions(xp, x, t, activation, axis, labels):
    p, t = 1 / (1 + xp.exp(-x)), xp.astype(t, x.dtype)
    yield t * p, (1 - t) * p, t * (1 - p)
    yield lambda tp, fp, fn: p * (1 - p) * (t * (tp - fn) + (1 - t) * fp)


def jaccard(xp, tp, fp, fn):
    union = tp + fp + fn + 1
    yield (fp + fn) / union
    yield -(fp + fn) / union**2, (tp + 1) / union**2, (tp + 1) / union**2


def contrast(xp, queries, keys, temperature):
    p = softmax(xp, queries @ keys.T / temperature, 1)
    same = xp.eye(p.shape[0], dtype=p.dtype)
    yield -xp.log(xp.sum(p * same, axis=1, keepdims=True))

    def pullback(g):
        g = g * (p - same) / temperature
        return g @ keys, g.T @ queries

    yield pullback


def roughness(xp, x, t, axes):
    steps = (x - t)[:, 1:] - (x - t)[:, :-1]
    yield xp.sum(steps * steps, axis=axes, keepdims=True)
    none = xp.zeros_like(x[:, :1])
    yield lambda g: 2 * g * (xp.concat([none, steps], axis=1) - xp.concat([steps, none], axis=1))


# -- losses of a kernel ----------------------------------------------------------------------------------------------------


def elementwise(kernel=quantile):
    @define.loss
    def elementwise_loss(predictions, targets, *, q=0.3, **options):
        return define.elementwise(kernel, predictions, targets, options, q=define.fraction(q))

    return elementwise_loss


def of_two(kernel=gaussian):
    @define.loss
    def loss_of_two(mean, variance, targets, **options):
        return define.elementwise(kernel, {"mean": mean, "variance": variance}, targets, options)

    return loss_of_two


def binary(kernel=logistic):
    @define.loss
    def binary_loss(predictions, targets, **options):
        return define.binary(kernel, predictions, targets, options)

    return binary_loss


def rows(kernel=of_labels, other=of_distribution):
    @define.loss
    def row_loss(predictions, targets, **options):
        return define.rows(kernel, other, predictions, targets, options)

    return row_loss


def overlap(kernel=regions, formula=jaccard):
    @define.loss
    def overlap_loss(predictions, targets, *, activation, **options):
        return define.overlap(kernel, formula, predictions, targets, activation, options)

    return overlap_loss


def coupled(kernel=contrast):
    @define.loss
    def coupled_loss(queries, keys, *, temperature=0.5, **options):
        return define.coupled(kernel, {"queries": queries, "keys": keys}, options, temperature=temperature)

    return coupled_loss


def sequence(kernel=roughness):
    @define.loss
    def sequence_loss(predictions, targets, **options):
        return define.sequences(kernel, predictions, targets, options, event_axes=(1, 2))

    return sequence_loss


def changed(kernel, number, change):
    """The kernel with its yield of that number changed."""

    def wrong(xp, *predictions, **arguments):
        for i, step in enumerate(kernel(xp, *predictions, **arguments)):
            yield change(step) if i == number else step

    return wrong


RIGHT = {
    "elementwise": (elementwise(), "slope and curvature agree with differences of the value at 224 numbers (120 digits)"),
    "several predictions": (of_two(), "slope and curvature agree"),
    "binary": (binary(), "slope and curvature agree"),
    "probabilities": (binary(likelihood), "slope and curvature agree"),
    "rows": (rows(), "no curvature is defined for distribution targets"),
    "rows of numbers": (rows(None), "slope agrees with differences of the value at 246 numbers (120 digits); no curvature is defined"),
    "overlap": (overlap(), "slope agrees"),
    "coupled": (coupled(), "slope agrees with differences of the value at 24 numbers"),
    "sequence": (sequence(), "slope agrees"),
}
WRONG = {
    "sign": elementwise(changed(quantile, 1, lambda slope: -slope)),
    "factor": binary(changed(logistic, 1, lambda slope: 1.0001 * slope)),
    "slope of the other parameter": of_two(changed(gaussian, 1, lambda slopes: slopes[::-1])),
    "missing term": rows(None, changed(of_distribution, 1, abs)),
    "shape": rows(changed(of_labels, 1, lambda slope: slope[:, :1])),
    "curvature": binary(changed(logistic, 2, lambda curvature: 2 * curvature)),
    "curvature of one prediction": of_two(changed(gaussian, 2, lambda bends: (bends[0], 2 * bends[1]))),
    "pullback of an overlap": overlap(changed(regions, 1, lambda pullback: lambda tp, fp, fn: pullback(tp, fp, -fn))),
    "formula of an overlap": overlap(regions, changed(jaccard, 1, lambda d: (d[0], d[1], -d[2]))),
    "pullback of one array": coupled(changed(contrast, 1, lambda pullback: lambda g: (pullback(g)[0], -pullback(g)[1]))),
    "pullback of a sequence": sequence(changed(roughness, 1, lambda pullback: lambda g: pullback(g) / 2)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_kernels_pass(name):
    loss, said = RIGHT[name]
    report = check(loss, **FAST)
    report.raise_for_failures()
    assert said in summary([row for row in report.rows if row.backend == "kernel"])


@pytest.mark.parametrize("name", WRONG)
def test_wrong_kernels_are_caught(name):
    report = check(WRONG[name], **FAST)
    assert not report.passed
    assert all(row.backend == "kernel" and row.message for row in report.failures)
    assert ("curvature" in report.failures[0].message) == name.startswith("curvature")


def test_the_point_that_is_named_is_wrong_there():
    """The arguments in the message are Python literals that lead to the same numbers."""
    loss = WRONG["sign"]
    (row,) = check(loss, **FAST).failures
    found = re.fullmatch(
        r"the slope is wrong at predictions = (\S+), targets = (\S+): the kernel says (\S+), differences .* say (\S+)", row.message
    )
    x, t, says, quotient = map(ast.literal_eval, found.groups())
    assert loss.value_and_grad(np.array([x]), np.array([t]))[1] == says
    step = 1e-6
    measured = (loss(np.array([x + step]), np.array([t])) - loss(np.array([x - step]), np.array([t]))) / (2 * step)
    assert measured == pytest.approx(quotient, rel=1e-8)


def test_a_slope_at_a_kink_lies_between_the_one_sided_ones():
    def absolute(xp, x, t, at_0):
        yield abs(x - t)
        yield xp.where(x == t, at_0, xp.sign(x - t))

    @define.loss
    def absolute_loss(predictions, targets, *, at_0=0.0, **options):
        return define.elementwise(absolute, predictions, targets, options, at_0=at_0)

    point = (np.array([0.5]), np.array([0.5]))
    check(absolute_loss, arguments=point, at_0=-1.0, **FAST).raise_for_failures()
    assert (
        "the kernel says 1.5, differences of its value say 0.0"
        in check(absolute_loss, arguments=point, at_0=1.5, **FAST).failures[0].message
    )


def test_a_kernel_that_mpmath_cannot_follow_is_compared_in_float64():
    def cubed(xp, x, t):
        xp.finfo(x.dtype)
        yield abs(x - t) ** 3
        yield 3 * (x - t) * abs(x - t)
        yield 6 * abs(x - t)

    @define.loss
    def cubed_loss(predictions, targets, **options):
        return define.elementwise(cubed, predictions, targets, options)

    report = check(cubed_loss, **FAST)
    report.raise_for_failures()
    assert {row.dtype for row in report.rows if row.backend == "kernel"} == {"float64"}
    for number in (1, 2):
        wrong = elementwise(lambda xp, x, t, q, number=number: changed(cubed, number, lambda d: 1.01 * d)(xp, x, t))
        assert not check(wrong, **FAST).passed


def test_options_are_those_of_the_loss_and_its_binding():
    wrong_beyond = changed(quantile, 1, lambda slope: slope)

    def kernel(xp, x, t, q):
        steps = wrong_beyond(xp, x, t=t, q=q)
        yield next(steps)
        yield next(steps) * (2.0 if q > 0.5 else 1.0)

    loss = elementwise(kernel)
    assert check(loss, **FAST).passed
    assert not check(loss, q=0.75, **FAST).passed
    assert not check(loss.bind(q=0.75), **FAST).passed


def test_libraries_are_compared_with_each_other():
    def dialect(xp, x, t, q):
        scale = 1.01 if type(x).__module__.startswith("jax") else 1.0
        for step in quantile(xp, x, t, q):
            yield scale * step

    report = check(elementwise(dialect), backends=["numpy", "torch", "jax"], modes=["eager"], quantities=["value", "grad"])
    assert {row.backend for row in report.rows if row.status == "agrees"} == {"kernel", "numpy", "torch"}
    assert {row.backend for row in report.failures} == {"jax", "numpy - jax"}


def test_arguments_that_are_not_found_are_asked_for():
    def pairs(xp, x, times, events):
        if tuple(times.shape) != (5,) or events.shape[0] != 5 or xp.any(times < 10):
            raise ValueError("times begin at 10")
        yield x * x * times
        yield lambda g: 2 * g * x * times

    @define.loss
    def needs_times(predictions, times, events, **options):
        return define.coupled(pairs, {"x": predictions, "times": times.astype(int), "events": events}, options)

    with pytest.raises(
        ValueError, match=r"pass arguments= for needs_times: no arrays are known that it takes as predictions, times, events"
    ):
        check(needs_times, **FAST)
    arguments = (np.linspace(0.1, 0.5, 5), np.arange(10.0, 15.0), np.array([True, False, True, True, False]))
    check(needs_times, arguments=arguments, **FAST).raise_for_failures()


MODULE = """
import numpy as np
from arrayloss import define

def kernel(xp, x, t):
    yield (x - t) ** 4
    yield FACTOR * (x - t) ** 3

@define.loss
def quartic(predictions, targets, **options):
    return define.elementwise(kernel, predictions, targets, options)

def arguments():
    return np.array([0.25, 2.0]), np.array([0.5, 1.0])
"""


@pytest.mark.parametrize("factor", [4, 3])
def test_the_command(tmp_path, monkeypatch, factor):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"quartic{factor}.py").write_text(MODULE.replace("FACTOR", str(factor)))
    arguments = ["check", f"quartic{factor}:quartic", "--backends", "numpy", "--arguments", f"quartic{factor}:arguments"]
    done = CliRunner().invoke(commands.arrayloss, arguments)
    assert done.exit_code == (0 if factor == 4 else 1), done.output
    if factor == 4:
        assert "quartic: slope agrees with differences of the value at 2 numbers (120 digits); no curvature is defined." in done.output
    else:
        assert "the kernel says -0.046875, differences of its value say -0.0625" in done.output


def test_precise_arrays_have_the_digits_of_mpmath():
    with mpmath.workdps(50):
        x = precise([0.1, -0.0, 2.0])
        for name, function in (("exp", mpmath.exp), ("expm1", mpmath.expm1), ("tanh", mpmath.tanh), ("erf", mpmath.erf)):
            assert getattr(NAMESPACE, name)(x).tolist() == [function(v) for v in x.tolist()]
        assert NAMESPACE.sum(x) == mpmath.fsum(x.tolist())
        assert NAMESPACE.log(x)[1] == mpmath.mpf("-inf")
        assert NAMESPACE.isnan(NAMESPACE.log(-x)).tolist() == [True, False, True]
        assert (1 / x).tolist() == [1 / x.tolist()[0], mpmath.mpf("inf"), mpmath.mpf(0.5)]
        assert (x > 0).dtype == bool
