"""Every function and class of `arrayloss.compat.keras` beside Keras: value and gradient on tensors of PyTorch and on NumPy arrays.

KERAS_BACKEND=torch python -m tests.compat.theirs.keras_numbers
"""

from __future__ import annotations

import inspect
import sys
from itertools import product
from typing import Any

import numpy as np
import torch

from arrayloss.compat import keras as compat

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(6, 4)) * 2, rng.normal(size=(6, 4))
UNIT, SOFT = rng.uniform(0.05, 0.95, size=(6, 4)), rng.dirichlet(np.ones(4), size=6)
SIGNS, LABELS = np.where(rng.uniform(size=(6, 4)) < 0.5, 1.0, -1.0), np.array([0, 3, 2, 1, 1, 2])
HOT, ROWS = np.eye(4)[LABELS], rng.uniform(0.5, 2.0, size=6)
EMBEDDINGS = Y / np.linalg.norm(Y, axis=-1, keepdims=True)
EDGES = np.where(UNIT < 0.2, 0.0, np.where(UNIT > 0.8, 1.0, UNIT))
MAPS = rng.normal(size=(2, 3, 5, 4))
REGRESSION = [(Y, X, {}), (np.abs(Y) > 1, X, {}), (Y[..., None], X, {}), (Y[:, :1], X, {})]
FORMS: dict[str, list[tuple[Any, Any, dict[str, Any]]]] = {
    "mean_squared_error": REGRESSION,
    "mean_absolute_error": REGRESSION,
    "mean_absolute_percentage_error": [(Y, X, {})],
    "mean_squared_logarithmic_error": [(Y, X, {})],
    "cosine_similarity": [(Y, X, {}), (Y, X, {"axis": 0})],
    "huber": [(Y, X, {"delta": 0.5})],
    "log_cosh": [(Y, X, {})],
    "hinge": [(SIGNS, X, {}), (SIGNS > 0, X, {})],
    "squared_hinge": [(SIGNS, X, {}), (SIGNS > 0, X, {})],
    "categorical_hinge": [(HOT, X, {}), (HOT, -np.abs(X), {}), (SOFT, X, {})],
    "kl_divergence": [(SOFT, UNIT, {}), (HOT, EDGES, {})],
    "poisson": [(UNIT * 5, UNIT, {})],
    "categorical_crossentropy": [
        (t, x, {"from_logits": f, "label_smoothing": s})
        for t, (x, f), s in product((HOT, SOFT), ((X, True), (UNIT, False), (EDGES + 1e-9, False)), (0.0, 0.1))
    ],
    "sparse_categorical_crossentropy": [
        (t, x, {"from_logits": f, "ignore_class": i})
        for t, (x, f), i in product((LABELS, LABELS[:, None].astype(float)), ((X, True), (UNIT, False)), (None, 1))
    ],
    "binary_crossentropy": [
        (t, x, {"from_logits": f, "label_smoothing": s})
        for t, (x, f), s in product((HOT, SOFT), ((X, True), (UNIT, False), (EDGES, False)), (0.0, 0.1))
    ]
    + [(SOFT, UNIT, {"axis": 0})],
    "binary_focal_crossentropy": [
        (t, x, {"from_logits": f, "label_smoothing": s, "apply_class_balancing": b})
        for t, (x, f), s, b in product((HOT, SOFT), ((X, True), (UNIT, False)), (0.0, 0.1), (False, True))
    ],
    "categorical_focal_crossentropy": [
        (t, x, {"from_logits": f, "label_smoothing": s, "gamma": g})
        for t, (x, f), s, g in product((HOT, SOFT), ((X, True), (UNIT, False)), (0.0, 0.1), (2.0, 0.5))
    ]
    + [(HOT, X, {"alpha": [0.1, 0.2, 0.3, 0.4], "from_logits": True})],
    "ctc": [(np.array([[1, 2, 0], [3, 3, 0], [2, 0, 0]]), rng.normal(size=(3, 7, 4)), {})],
    "dice": [(HOT, UNIT, {}), (HOT, UNIT, {"axis": 0}), (MAPS > 0, 1 / (1 + np.exp(-MAPS)), {"axis": (1, 2)})],
    "tversky": [(HOT, UNIT, {"alpha": 0.3, "beta": 0.7}), (MAPS > 0, 1 / (1 + np.exp(-MAPS)), {"axis": (1, 2, 3), "beta": 0.0})],
    "circle": [(np.array([0, 1, 0, 1, 2, 2]), EMBEDDINGS, {"gamma": 2.0}), (np.array([0, 1, 0, 1, 3, 2]), EMBEDDINGS, {})],
    "categorical_generalized_cross_entropy": [(LABELS, SOFT, {"q": 0.3})],
}


TOLERANCES = 1e-9, 1e-6  # Keras computes some in float32, whatever it is given


def close(a: Any, b: Any, rtol: float) -> None:
    assert np.shape(a) == np.shape(b), (np.shape(a), np.shape(b))
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=rtol)


def compare(theirs: Any, ours: Any, y_true: Any, y_pred: Any, *weights: Any, rtol: float) -> None:
    """Value and gradient."""
    t, x = torch.from_numpy(np.ascontiguousarray(y_true)), torch.tensor(y_pred, requires_grad=True)
    results = []
    for loss in (theirs, ours):
        value = loss(t, x, *[torch.tensor(w) if isinstance(w, np.ndarray) else w for w in weights])
        results += [(value.detach(), torch.autograd.grad(value.sum(), x)[0])]
    (expected, gradient), (value, found) = results
    close(value, expected, rtol)
    close(found, gradient, rtol)
    value, found = ours.value_and_grad(y_true, y_pred, *weights)
    close(value, expected, rtol)
    close(found, gradient, rtol)


def main() -> int:
    import keras

    keras.config.set_floatx("float64")
    if len(sys.argv) < 2:
        assert set(FORMS) >= set(compat.LOSSES), set(compat.LOSSES) - set(FORMS)
    total, failures = 0, [[], []]
    for name, forms in FORMS.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        theirs = getattr(keras.losses, name, None) or getattr(keras.src.losses.losses, name)
        classes = [n for n, c in compat.CLASSES.items() if c.function.name == name]
        for y_true, y_pred, options in forms:
            calls: list[Any] = [
                (f"{name}({options})", lambda t, x, f=theirs, o=options: f(t, x, **o), Bound(compat.LOSSES[name], options), ())
            ]
            known = inspect.signature(compat.CLASSES[classes[0]]).parameters if classes else {}
            own = {n: v for n, v in options.items() if n in known}
            for reduction, weight in product(("sum_over_batch_size", "sum", "none", "mean_with_sample_weight"), (None, ROWS, 2.0)):
                shape = np.shape(compat.LOSSES[name](y_true, y_pred, **options))
                if isinstance(weight, float) and (options.get("ignore_class") or name == "circle"):
                    continue  # Keras fails: a mask is multiplied into the number in place
                if weight is None or np.ndim(weight) == 0 or shape == np.shape(weight):
                    for n in classes:
                        peer = getattr(keras.losses, n, None) or getattr(keras.src.losses.losses, n)
                        made = [c(**own, reduction=reduction) for c in (peer, compat.CLASSES[n])]
                        calls += [
                            (
                                f"{n}({own}, {reduction}), weight {np.shape(weight) if weight is not None else None}",
                                *made,
                                () if weight is None else (weight,),
                            )
                        ]
            for text, peer, loss, weights in calls:
                for n, rtol in enumerate(TOLERANCES):
                    try:
                        compare(peer, loss, y_true, y_pred, *weights, rtol=rtol)
                    except Exception as error:
                        failures[n] += [f"{text}: {type(error).__name__} {' '.join(str(error).split())[:240]}"]
                    else:
                        break
                total += 1
        print(f"{name:40}", total, *map(len, failures), flush=True)
    exact, near = (total - len(f) for f in failures)
    print(f"Keras {keras.__version__}: {near} of {total} calls have its value and gradient, {exact} to 1e-9, others to 1e-6")
    print(*failures[1], sep="\n")
    return int(near < total)


class Bound:
    """A loss with options."""

    def __init__(self, loss: Any, options: dict[str, Any]) -> None:
        self.loss, self.options = loss, options

    def __call__(self, *arrays: Any) -> Any:
        return self.loss(*arrays, **self.options)

    def value_and_grad(self, *arrays: Any) -> Any:
        return self.loss.value_and_grad(*arrays, **self.options)


if __name__ == "__main__":
    sys.exit(main())
