"""The check of numbers hands a function the arrays in the shapes that it was found to take."""

from __future__ import annotations

import numpy as np
import pytest

from arrayloss.check.libraries import LIBRARIES
from arrayloss.diagnose.tables import numbers, shaped

SHARED = {"signature": "input,target", "reduction": "none", "target_dtype": "float"}
ROWS = {**SHARED, "domain": "logits", "targets": "labels", "target_dtype": "int64", "loss": "softmax_cross_entropy", "options": {}}
BINARY = {**SHARED, "domain": "real", "targets": "binary", "loss": "sigmoid_cross_entropy", "options": {}}


def nll(x, labels, axis):
    shifted = x - x.max(axis, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
    return -np.take_along_axis(log_p, np.expand_dims(labels, axis), axis).squeeze(axis)


def of_images(x, labels):
    assert x.ndim == 4
    assert labels.ndim == 3
    return nll(x, labels, 1)


def of_one_hot(x, t):
    assert x.shape == t.shape
    return nll(x, t.argmax(-1), -1)


def of_columns(x, t):
    assert x.shape == t.shape == (len(x), 1)
    return np.logaddexp(0, x) - t * x


def of_signs(x, t):
    assert set(np.unique(t)) <= {-1, 1}
    return np.logaddexp(0, -t * x)


@pytest.mark.parametrize(
    ("function", "convention"),
    [
        (of_images, {**ROWS, "layout": "images"}),
        (of_one_hot, {**ROWS, "layout": "rows", "form": "one-hot"}),
        (of_columns, {**BINARY, "layout": "N x 1"}),
        (of_signs, {**BINARY, "layout": "N", "form": "-1 or 1"}),
        (lambda t, x: of_columns(x, t), {**BINARY, "layout": "N x 1", "signature": "target,input"}),
    ],
)
def test_shapes_and_targets(function, convention):
    report = numbers(function, "numpy", convention, print, points="random", relative_to="batch", quantities=["value"])
    assert [(row.backend, row.status) for row in report.rows] == [("numpy", "agrees")], report.rows


def test_plain_functions_stay_as_they_are():
    assert shaped(of_columns, LIBRARIES["numpy"], {**BINARY, "layout": "N x C"}) is of_columns
