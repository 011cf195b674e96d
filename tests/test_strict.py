"""Any library of the array API, as array-api-strict holds it: no array is read, and results are on the device of the predictions."""

from __future__ import annotations

from typing import Any

import array_api_strict as strict
import numpy as np
import pytest

import arrayloss as al

from .helpers import BACKENDS, assert_same

BACKEND = BACKENDS["strict"]
RANDOM = np.random.default_rng(0)
X, LABELS, DECISIONS = RANDOM.normal(size=(6, 3)), RANDOM.integers(0, 3, 6), RANDOM.integers(0, 2, (6, 3))
WEIGHTS, MASK, DISTRIBUTIONS = RANDOM.random(6), RANDOM.random(6) < 0.7, RANDOM.dirichlet(np.ones(3), 6)
CALLS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "elements": (al.sigmoid_focal_loss, DECISIONS, {"gamma": np.asarray(1.5), "alpha": (0.2, 0.3, 0.4), "weights": WEIGHTS[:, None]}),
    "positives": (al.sigmoid_cross_entropy, DECISIONS, {"pos_weight": (2.0, 3.0, 4.0), "where": MASK[:, None]}),
    "labels": (al.softmax_cross_entropy, LABELS, {"class_weights": np.array([1.0, 2.0, 3.0]), "weights": WEIGHTS, "where": MASK}),
    "smoothed": (al.softmax_cross_entropy, LABELS, {"class_weights": (1.0, 2.0, 3.0), "label_smoothing": 0.1, "ignore_index": 1}),
    "distribution": (al.softmax_cross_entropy, DISTRIBUTIONS, {"class_weights": (1.0, 2.0, 3.0)}),
    "overlap": (al.dice_loss, LABELS, {"activation": "softmax", "axis": 1, "class_weights": (1.0, 2.0, 3.0), "ignore_index": 1}),
    "masks": (al.dice_loss, DECISIONS, {"activation": "sigmoid", "axis": 1, "where": MASK[:, None]}),
}


CONVERSIONS = ("__bool__", "__float__", "__int__", "__index__", "__complex__", "__array__", "__dlpack__", "__buffer__")


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("an array was read")


@pytest.mark.parametrize(("loss", "targets", "options"), CALLS.values(), ids=CALLS)
def test_nothing_is_read_and_nothing_moves(loss: Any, targets: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def results_of(x: Any, t: Any, options: dict[str, Any]) -> list[Any]:
        parts = loss.parts(x, t, **options)
        number = loss.finish(parts.unstack(parts.stack()))
        second = () if "activation" in options else loss.grad_and_hess(x, t, **options)
        return [number, loss(x, t, reduction="none", **options), *loss.value_and_grad(x, t, **options), *second, *parts.arrays]

    x, t, moved = BACKEND.array(X), BACKEND.array(targets), BACKEND.arrays(options)
    with monkeypatch.context() as patch:
        for name in CONVERSIONS:
            patch.setattr(type(x), name, refuse, raising=False)
        results = results_of(x, t, moved)
    assert all(a.device == strict.Device("device1") for a in results)
    for result, expected in zip(results, results_of(X, targets, options), strict=True):
        assert_same(BACKEND.numpy(result), expected)


def test_labels_out_of_range_are_nan() -> None:
    """They cannot be read, and no gather may meet them."""
    unreduced = al.softmax_cross_entropy(BACKEND.array(X[:3]), BACKEND.array([0, 3, -1]), reduction="none")
    assert np.isnan(BACKEND.numpy(unreduced)).tolist() == [False, True, True]
