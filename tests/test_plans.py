"""Calls like earlier ones: a loss remembers what it found about types, shapes and options, and must never be wrong about it.

- the second call is the first                             test_the_second_call_gives_what_the_first_gave
- errors stay errors                                       test_an_error_is_raised_each_time
- values are checked each time                             test_labels_are_checked_in_every_call
- what looks alike and is not                              test_options_that_are_equal_but_not_the_same, test_arrays_in_turn
- what must not be remembered                              test_what_is_not_remembered
"""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from drawn import CASES, Case
from helpers import arguments

import arrayloss
from arrayloss.core import plan
from arrayloss.core.loss import Loss

random = np.random.default_rng(11)
X = random.standard_normal((6, 5)).astype(np.float32)
LABELS = random.integers(0, 5, 6)
MASK = random.integers(0, 2, (6, 5))


def fresh(loss: Loss[Any], **options: Any) -> Loss[Any]:
    """The same loss without a memory."""
    return Loss(loss._function, {**loss.options, **options})


def remembered(loss: Loss[Any]) -> int:
    return len(loss._plans._known)


def numpy_of(value: Any) -> np.ndarray:
    return value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)


def same(first: Any, second: Any) -> None:
    first, second = (tuple(map(numpy_of, v)) if isinstance(v, tuple) else (numpy_of(v),) for v in (first, second))
    for a, b in zip(first, second, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


def made(library: str, a: np.ndarray) -> Any:
    if library == "numpy":
        return a
    return pytest.importorskip("torch").from_numpy(np.array(a, order="C"))


@pytest.fixture(params=["numpy", "torch"])
def array(request: pytest.FixtureRequest) -> Callable[[np.ndarray], Any]:
    return lambda a: made(request.param, a)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_second_call_gives_what_the_first_gave(case: Case, dtype: str, library: str) -> None:
    pytest.importorskip(library)
    xp = Backend(library, library)
    loss = fresh(case.loss, **case.options)
    given = arguments(case, xp, dtype)
    others = arguments(case, xp, dtype, seed=1)
    for method in ("__call__", "value_and_grad"):
        first = [getattr(loss, method)(*a) for a in (given, others)]
        again = [getattr(loss, method)(*a) for a in (given, others)]
        alone = [getattr(fresh(loss), method)(*a) for a in (given, others)]
        for one, two, three in zip(first, again, alone, strict=True):
            same(one, two)
            same(one, three)


def test_a_call_is_remembered(array: Any) -> None:
    loss = fresh(arrayloss.softmax_cross_entropy)
    for _ in range(3):
        loss(array(X), array(LABELS))
    assert remembered(loss) == 1


def test_weights_and_masks_are_arrays_of_a_call(array: Any) -> None:
    loss = fresh(arrayloss.softmax_cross_entropy)
    for seed in range(3):
        draw = np.random.default_rng(seed)
        weights, where = draw.random(6), draw.random((6, 1)) < 0.5  # float64, to be cast
        given = {"weights": array(weights), "where": array(where)}
        same(loss.value_and_grad(array(X), array(LABELS), **given), fresh(loss).value_and_grad(array(X), array(LABELS), **given))
        swapped = dict(reversed(given.items()))
        same(loss(array(X), array(LABELS), **given), loss(array(X), array(LABELS), **swapped))
    assert remembered(loss) == 2  # the order of names is one of them


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "avg"}, "reduction must be"),
        ({"axis": 7}, "axis must be from"),
        ({"label_smoothing": 2.0}, "label_smoothing must be"),
        ({"class_weights": (1.0, 2.0)}, "class_weights must have one entry"),
        ({"weights": "all"}, "weights must be"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_an_error_is_raised_each_time(array: Any, options: dict[str, Any], message: str) -> None:
    loss = fresh(arrayloss.softmax_cross_entropy)
    loss(array(X), array(LABELS))
    for _ in range(3):
        with pytest.raises((TypeError, ValueError), match=message):
            loss(array(X), array(LABELS), **options)
    assert remembered(loss) == 1


def test_labels_are_checked_in_every_call(array: Any) -> None:
    loss = fresh(arrayloss.softmax_cross_entropy)
    for _ in range(3):
        loss(array(X), array(LABELS))
        with pytest.raises(ValueError, match="labels from 0 to 4; got 5"):
            loss(array(X), array(np.full(6, 5)))
        with pytest.raises(ValueError, match="labels from 0 to 4; got -1"):
            loss.value_and_grad(array(X), array(np.full(6, -1)))


EQUAL = [
    (arrayloss.softmax_cross_entropy, LABELS, "label_smoothing", [0, 0.0, -0.0, False, 0.5]),
    (arrayloss.softmax_cross_entropy, LABELS, "axis", [1, 1.0, True, -1]),
    (arrayloss.softmax_cross_entropy, LABELS, "ignore_index", [1, True, 1.0, (1,), (True,), (1.0,), (1, 0), [1]]),
    (arrayloss.sigmoid_cross_entropy, MASK, "pos_weight", [1, 1.0, True, (1.0,) * 5, (True,) * 5, [1.0] * 5, np.float32(1), "1", None]),
    (arrayloss.sigmoid_focal_loss, MASK, "gamma", [2, 2.0, 0.0, -0.0, np.float64(2), np.inf, np.nan, True]),
    (arrayloss.sigmoid_focal_loss, MASK, "normalizer", [1, 1.0, True, 0, 0.0, -0.0, "count", "weights"]),
    (arrayloss.sigmoid_focal_loss, MASK, "where", [True, 1, 1.0, False, 0, None]),
    (arrayloss.sigmoid_focal_loss, MASK, "weights", [True, 1, 1.0, 0, -0.0, None]),
    (arrayloss.sigmoid_focal_loss, MASK, "reduce_axes", [1, True, (1,), (True,), 1.0, (0, 1), (1, 0), (1, 1), None]),
]


def outcome(loss: Loss[Any], *args: Any, **options: Any) -> Any:
    try:
        return tuple(numpy_of(v).tobytes() for v in loss.value_and_grad(*args, **options))
    except (TypeError, ValueError) as error:
        return type(error), str(error)


@pytest.mark.parametrize(("loss", "targets", "name", "values"), EQUAL, ids=lambda v: getattr(v, "name", v if isinstance(v, str) else ""))
@pytest.mark.parametrize("bound", [False, True], ids=["given", "bound"])
def test_options_that_are_equal_but_not_the_same(array: Any, loss: Any, targets: Any, name: str, values: list[Any], bound: bool) -> None:
    """True == 1 == 1.0 and 0.0 == -0.0: each gives what it gives to a loss that remembers nothing, whatever came before."""
    x, t = array(X), array(targets)
    loss = fresh(loss, **({name: values[0]} if bound else {}))
    for value in (*values, *reversed(values), *values):
        assert outcome(loss, x, t, **{name: value}) == outcome(fresh(loss), x, t, **{name: value})


def test_arrays_in_turn(array: Any) -> None:
    """Dtypes, shapes and roles change from call to call."""
    loss = fresh(arrayloss.softmax_cross_entropy)
    square = random.standard_normal((3, 5, 3))
    calls: list[tuple[tuple[np.ndarray, ...], dict[str, Any]]] = [
        ((X, LABELS), {}),
        ((X.astype(np.float64), LABELS), {}),
        ((X.astype(np.float16), LABELS), {}),
        ((X, LABELS.astype(np.uint8)), {}),
        ((X, LABELS[:, None]), {}),
        ((X, np.abs(X)), {}),
        ((X, MASK), {}),
        ((X, MASK == 1), {}),
        ((X[:4], LABELS[:4]), {}),
        ((X.T, LABELS), {"axis": 0}),
        ((X, LABELS), {"axis": 1}),
        ((X[0], LABELS[0]), {}),
        ((square, np.zeros((3, 3), int)), {}),  # ambiguous
        ((square, np.zeros((3, 3), int)), {"axis": 1}),
        ((X, LABELS.astype(np.float32)), {}),  # labels must be integers
        ((X[:, :0], LABELS), {}),
        ((X[:0], LABELS[:0]), {}),
    ]
    for _ in range(3):
        for arrays, options in calls:
            given = [array(np.asarray(a)) for a in arrays]
            assert outcome(loss, *given, **options) == outcome(fresh(loss), *given, **options)


def test_one_array_in_two_places(array: Any) -> None:
    loss = fresh(arrayloss.squared_error)
    x, y = array(X), array(X + 1)
    assert float(loss(x, x)) == 0
    assert float(loss(x, y)) == pytest.approx(1)
    assert float(loss(x, x)) == 0
    weighted = fresh(arrayloss.squared_error)
    assert float(weighted(x, y, weights=x)) == pytest.approx(1)  # the weights are the predictions
    assert float(weighted(x, y, weights=array(np.zeros_like(X)))) == 0


def test_what_is_not_remembered(array: Any) -> None:
    loss = fresh(arrayloss.sigmoid_focal_loss)
    x, t = array(X), array(MASK)
    unknown: list[dict[str, Any]] = [
        {"alpha": (0.1, 0.2, 0.3, 0.4, 0.5)},  # becomes an array
        {"alpha": [0.1, 0.2, 0.3, 0.4, 0.5]},
        {"where": False},
        {"normalizer": array(np.array(3.0))},
        {"gamma": np.float32(2)},
    ]
    for options in unknown:
        loss(x, t, **options)
    for options in unknown:
        loss(predictions=x, targets=t, **options)
    assert remembered(loss) == 0
    for factor in (1.0, 2.0):
        normalizer = array(np.array(factor))
        assert float(loss(x, t, normalizer=normalizer)) == pytest.approx(float(loss(x, t, reduction="sum")) / factor)


def test_an_array_that_is_bound_may_change() -> None:
    weights = np.ones_like(X)
    loss = arrayloss.sigmoid_focal_loss.bind(weights=weights, reduction="sum")
    first = float(loss(X, MASK))
    weights *= 2
    assert float(loss(X, MASK)) == pytest.approx(2 * first)


def test_the_memory_is_bounded_and_holds_no_array(array: Any) -> None:
    loss = fresh(arrayloss.squared_error)
    for n in range(1, 3 * plan.LIMIT):
        x = array(np.ones(n, np.float32))
        assert float(loss(x, array(np.zeros(n)))) == 1
        assert remembered(loss) <= plan.LIMIT
    x = array(np.ones(7))
    gone = weakref.ref(x)
    loss(x, array(np.zeros(7)))
    del x
    gc.collect()
    assert gone() is None


def test_other_types_of_array_take_the_long_way() -> None:
    class Mine(np.ndarray):
        pass

    loss = fresh(arrayloss.softmax_cross_entropy)
    loss(X, LABELS)
    loss(X.view(Mine), LABELS)
    with pytest.raises(TypeError, match=r"pass its \.data"):
        loss(np.ma.masked_array(X), LABELS)
    with pytest.raises(TypeError, match="targets must be an array"):
        loss(X, LABELS.tolist())
    assert remembered(loss) == 1


def test_mixtures_of_libraries_stay_errors() -> None:
    torch = pytest.importorskip("torch")
    loss = fresh(arrayloss.softmax_cross_entropy)
    for _ in range(2):
        loss(X, LABELS)
        loss(torch.from_numpy(X), torch.from_numpy(LABELS))
        with pytest.raises(TypeError, match="numpy ndarray beside predictions that are a torch Tensor"):
            loss(torch.from_numpy(X), LABELS)
        with pytest.raises(TypeError, match="torch Tensor beside predictions that are a numpy ndarray"):
            loss(X, torch.from_numpy(LABELS))


def test_devices_are_told_apart() -> None:
    torch = pytest.importorskip("torch")
    loss = fresh(arrayloss.softmax_cross_entropy)
    x, t = torch.from_numpy(X), torch.from_numpy(LABELS)
    for _ in range(2):
        loss(x, t)
        assert loss(x.to("meta"), t.to("meta")).device.type == "meta"
        with pytest.raises(ValueError, match="on the device of the predictions, cpu; got meta"):
            loss(x, t.to("meta"))
    assert remembered(loss) == 2


def test_pickles_copies_and_identity_know_nothing_of_it() -> None:
    bound = arrayloss.softmax_cross_entropy.bind(label_smoothing=0.1)
    before, shown = hash(bound), repr(bound)
    value = bound(X, LABELS)
    assert remembered(bound) == 1
    assert hash(bound) == before
    assert repr(bound) == shown
    for twin in (pickle.loads(pickle.dumps(bound)), copy.copy(bound), copy.deepcopy(bound)):
        assert twin == bound
        assert twin(X, LABELS) == value
    further = bound.bind(label_smoothing=0.0)
    assert remembered(further) == 0
    assert further(X, LABELS) == arrayloss.softmax_cross_entropy(X, LABELS)


def test_a_compiler_and_transforms_after_eager_calls() -> None:
    torch = pytest.importorskip("torch")
    loss = fresh(arrayloss.softmax_cross_entropy)
    x, t = torch.from_numpy(X), torch.from_numpy(LABELS)
    expected = loss(x, t)
    known = remembered(loss)
    counter = __import__("torch._dynamo.testing", fromlist=["CompileCounter"]).CompileCounter()
    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    for _ in range(2):
        torch.testing.assert_close(compiled(x, t), expected)
        loss(x[:4], t[:4])  # what is remembered meanwhile recompiles nothing
        loss(x[:3], t[:3])
    assert counter.frame_count == 1
    per_row = torch.func.vmap(lambda x, t: loss(x, t))(x, t)
    torch.testing.assert_close(per_row, loss(x, t, reduction="none"))
    torch.testing.assert_close(torch.func.grad(loss)(x, t), loss.value_and_grad(x, t)[1])
    tangent = torch.func.jvp(lambda x: loss(x, t), (x,), (torch.ones_like(x),))[1]
    assert abs(float(tangent)) < 1e-6  # a shift of all logits changes nothing
    assert remembered(loss) == known + 3  # two shorter batches, and reduction="none"


def test_gradients_of_weights_after_calls_without() -> None:
    torch = pytest.importorskip("torch")
    loss = fresh(arrayloss.squared_error)
    x, t, w = (torch.rand(4, dtype=torch.float64) for _ in range(3))
    for leaf in ("x", "t", "w", "xtw"):
        given = {name: a.clone().requires_grad_(name in leaf) for name, a in (("x", x), ("t", t), ("w", w))}
        loss(given["x"], given["t"], weights=given["w"], reduction="sum").backward()
        expected = {"x": 2 * w * (x - t), "t": 2 * w * (t - x), "w": (x - t) ** 2}
        for name in leaf:
            torch.testing.assert_close(given[name].grad, expected[name])
    assert remembered(loss) == 1


def test_threads_share_one_memory() -> None:
    loss = fresh(arrayloss.squared_error)
    wrong: list[int] = []

    def work(start: int) -> None:
        for i in range(300):
            n = 1 + (start * 37 + i) % (plan.LIMIT + 20)
            if float(loss(np.ones(n), np.zeros(n))) != 1:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert remembered(loss) <= plan.LIMIT
