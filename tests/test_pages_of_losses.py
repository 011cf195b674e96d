"""The pages of losses: every loss has a line and a page, and what they say is the same loss elsewhere is the same."""

from __future__ import annotations

import os
import re
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayloss
from arrayloss.check.libraries import LIBRARIES
from arrayloss.frontend.loss import REGISTRY

from .helpers import is_release

DOCS = Path(__file__).parents[1] / "docs"
MODULES = {
    "F": "torch.nn.functional",
    "optax": "optax",
    "keras": "keras",
    "monai": "monai.losses",
    "kornia": "kornia.losses",
    "metrics": "sklearn.metrics",
}
LEARNED = ("x", "y", "p", "a", "b", "c", "image", "features", "layer", "rates", "v", "frames", "batch")
SAME = [
    pytest.param(*row, id=f"{page.stem}-{row[0]}-{row[1]}", marks=() if row[0] in ("F", "metrics") else pytest.mark.exhaustive)
    for page in sorted(DOCS.glob("losses/*.md"))
    for row in re.findall(rf"^\| `({'|'.join(MODULES)})(\..*?)` \| `(.*?)`", page.read_text(), re.MULTILINE)
]


def test_every_loss_has_a_line_and_a_page() -> None:
    families = (DOCS / "losses.md").read_text().split("\n## ")[1:]
    names = [re.findall(r"^\| `(\w+)`", family, re.MULTILINE) for family in families]
    assert Counter(name for some in names for name in some) == Counter([*REGISTRY, "fenchel_young", "pairwise_distance", "outputs"])
    for family, some in zip(families, names, strict=True):
        page = (DOCS / re.findall(r"\]\((.*?)\)", family)[0]).read_text()
        assert not [name for name in some if f"`{name}`" not in page]


def arrays() -> dict[str, Any]:
    """What the pages call predictions, targets, weights."""
    rng = np.random.default_rng(0)
    x, y = 2 * rng.normal(size=(2, 8, 4))
    a, b, c = rng.normal(size=(3, 8, 5))
    image, mask = rng.normal(size=(2, 3, 4, 5)), rng.integers(0, 3, size=(2, 4, 5))
    features, layer, tokens = rng.normal(size=(6, 5)), rng.normal(size=(9, 5)), rng.integers(0, 9, size=6)
    e, labels, rows = np.exp(x), np.array([0, 1, 2, 3, 1, 0, 3, 2]), rng.dirichlet(np.ones(4), size=8)
    yes, soft = rng.integers(0, 2, size=(8, 4)).astype(float), rng.uniform(size=(8, 4))
    signs, lists = 2 * yes - 1, np.array([[1, 3, -1, 0], [0, -1, -1, -1], [-1, 2, -1, -1], [3, 2, 1, 0]] * 2)
    (v, rates), counts = rng.uniform(0.5, 9.0, size=(2, 8, 4)), rng.poisson(3.0, size=(8, 4)).astype(float)
    t, pairs, grades, items = rng.normal(size=(8, 4)), signs[:, 0], counts, rng.random((8, 4)) < 0.7
    frames, words = rng.normal(size=(7, 3, 5)), np.array([[1, 2, 2], [3, 4, 0], [1, 0, 0]])
    batch, times, sizes = frames.transpose(1, 0, 2), np.array([7, 6, 4]), np.array([3, 2, 1])
    silent, unused = 1.0 * (np.arange(7) >= times[:, None]), 1.0 * (np.arange(3) >= sizes[:, None])
    p, w = e / e.sum(axis=-1, keepdims=True), np.array([1.0, 0.5, 2.0, 4.0])
    return {name: value for name, value in locals().items() if isinstance(value, np.ndarray)}


@pytest.mark.parametrize(("library", "there", "here"), SAME)
def test_the_same_loss_elsewhere(library: str, there: str, here: str) -> None:
    """The mean of its elements, in float64 (Keras and MONAI compute in float32); in PyTorch and optax its gradients too."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    peer = pytest.importorskip(MODULES[library])
    backend = {"optax": "jax", "metrics": "numpy"}.get(library, "torch")
    some, modules = LIBRARIES[backend], {library: peer, backend: import_module(backend)}
    learned = [n for n in LEARNED if re.search(rf"\b{n}\b(?!=)", there)]
    if not is_release("torch", "2.13") and not hasattr(peer, name := re.split(r"\W", there[1:])[0]):  # with that release it is an error
        pytest.skip(f"{MODULES[library]} has no {name} in the version that is installed")
    rtol = 1e-6 if library in ("keras", "monai") else 1e-9
    if library == "keras":
        peer.config.set_floatx("float64")
    with some.precision("float64"):
        given = {n: some.array(a) for n, a in arrays().items()}
        calls = [mean_of(code, {**vars(arrayloss), **given, **modules}, learned) for code in (library + there, here)]
        predictions = [given[n] for n in learned]
        np.testing.assert_allclose(*[some.numpy(f(*predictions)) for f in calls], rtol=rtol, atol=rtol / 10)
        if library in ("F", "optax"):
            for ours, theirs in zip(*[some.gradient(f, predictions, ()) for f in calls], strict=True):
                np.testing.assert_allclose(some.numpy(ours), some.numpy(theirs), rtol=1e-7, atol=1e-12)


def mean_of(code: str, names: dict[str, Any], learned: list[str]) -> Any:
    def call(*xs: Any) -> Any:
        value = eval(code, {**names, **dict(zip(learned, xs, strict=True))})
        return value if isinstance(value, float) else value.mean()

    return call
