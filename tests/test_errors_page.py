"""The page of wrong calls, and the line that each of them gets: `docs/errors.md` is what `python -m tests.test_errors_page` prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import arrayloss as al
from arrayloss.check.commands import arrayloss as command

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
HEAD = """# Wrong calls, and what they say

Every error is one line: the argument, the rule, what came, and what to pass instead where the rule does not say it. The calls below run in
the tests, which compare this page with what they raise. Options and dtypes are checked before anything is computed, many of them when they
are bound. Values of arrays are read in the memory of the host alone: on a GPU and under a compiler a label out of range makes its loss NaN.

```python
import numpy as np, torch, jax.numpy as jnp, scipy.sparse, arrayloss as al
from arrayloss import metrics

x, y = np.zeros((4, 3)), np.array([0, 1, 2, 0])  # scores of three classes, labels
tx, ty, jx = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), jnp.zeros((4, 3))
image, masks = np.zeros((2, 3, 4, 5)), np.zeros((2, 4, 5), int)  # N x C x H x W, labels of the pixels
both = al.cross_entropy + 0.5 * al.dice_loss.bind(activation="softmax", axis=1)
```
"""

CALLS = {
    "Elements and yes/no decisions": """
al.squared_error([1.0], [0.0])
al.squared_error(x, 0.0)
al.squared_error(x, x[:, 0])
al.squared_error(x.astype(int), x)
al.squared_error(x, x.astype(complex))
al.squared_error(x, x.astype(str))
al.sigmoid_cross_entropy(x[:, :1], y)
al.sigmoid_cross_entropy(x, np.full((4, 3), 255))
al.sigmoid_cross_entropy(np.zeros((3, 3)), np.zeros((3, 3)), pos_weight=(1, 2, 3))
al.sigmoid_focal_loss(x, x, alpha=(0.2, 0.8))
al.sigmoid_focal_loss(x, x, alpha=1.5)
al.sigmoid_focal_loss(x, x, gamma=-1)
al.sigmoid_focal_loss(x, x, clip=1e-7)
al.binary_cross_entropy(x, x, clip=0.5)
al.huber_loss(x, x, delta="auto")
al.gaussian_nll_loss(x, x.astype("float32"), x)
""",
    "One choice among classes": """
al.cross_entropy(x, y.astype(float))
al.cross_entropy(tx, ty.float())
al.cross_entropy(x, np.array(["cat", "dog", "cat", "cow"]))
al.cross_entropy(x, y + 1)
al.cross_entropy(x, np.array([0, 1, -100, 2]))
al.cross_entropy(x, y[:3])
al.cross_entropy(image, masks)
al.cross_entropy(image, image)
al.cross_entropy(np.zeros((2, 3, 3)), np.zeros((2, 3), int))
al.cross_entropy(x[:, :1], y)
al.cross_entropy(x, y, axis=2)
al.cross_entropy(x, y, class_weights=(1, 2))
al.cross_entropy(x, y, class_weights=np.array([1.0, -2.0, 3.0]))
al.cross_entropy(x, y, label_smoothing=7)
al.cross_entropy(x, x, ignore_index=-100)
al.softmax_focal_loss(x, y, alpha=0.25)
al.nll_loss(x, y, given="logits")
al.kl_divergence(x, y)
al.kl_divergence(x, x, given="probs", targets_given="probs", temperature=2)
al.kl_divergence(x, x, elementwise=True)
""",
    "Overlaps": """
al.dice_loss(image, masks, activation="relu")
al.dice_loss(image, masks, activation="softmax")
al.dice_loss(image[:, :1], masks, activation="softmax", axis=1)
al.dice_loss(image, masks, activation="softmax", axis=1, classes=3)
al.dice_loss(image, image, activation="sigmoid", classes=(1, 2))
al.dice_loss(image, image, activation="sigmoid", class_weights=(1, 2, 3))
al.dice_loss(image, masks, activation="softmax", axis=1, smooth=-1)
al.generalized_dice_loss(image, image, activation="sigmoid")
""",
    "Options of all losses": """
al.cross_entropy(x, y, weight=(1, 2, 3))
al.cross_entropy(x, y, reduction="avg")
al.cross_entropy(x, y, reduction="none", reduce_axes=0)
al.cross_entropy(x, y, reduce_axes=1)
al.cross_entropy(x, y, normalizer="batch")
al.cross_entropy(x, y, normalizer=np.ones(2))
al.cross_entropy(x, y, weights=[1, 1, 1, 1])
al.cross_entropy(x, y, weights=np.ones(3))
al.cross_entropy(x, y, where=np.ones(4))
al.cross_entropy(x, y, where=x == 0)
""",
    "Arrays of several libraries, and what is no array": """
al.squared_error(tx, x)
al.squared_error(x, tx)
al.squared_error(jx, tx)
al.squared_error(tx, tx.to("meta"))
al.squared_error(np.ma.masked_array(x), x)
al.squared_error(torch.masked.masked_tensor(tx, tx == 0), tx)
al.squared_error(tx, tx.to_sparse())
al.squared_error(torch.nested.nested_tensor([tx, tx[:2]]), tx)
al.squared_error(x, scipy.sparse.csr_array(x))
al.squared_error(x, x.astype(object))
al.squared_error(x, zarr.open("targets.zarr"))
al.cross_entropy(tx, h5py.File("targets.h5")["labels"])
""",
    "Parts, bound losses, combinations": """
al.cross_entropy.finish(sum([]))
al.cross_entropy.finish(al.nll_loss.parts(x, y))
al.huber_loss.parts(x, x, delta=1.0) + al.huber_loss.parts(x, x, delta=2.0)
al.cross_entropy.parts(x, y) + al.cross_entropy.parts(tx, ty)
al.cross_entropy.parts(x, y) + 1.0
al.cross_entropy.parts(x, y, normalizer=4)
al.cross_entropy.parts(x, y, reduction="none")
al.cross_entropy.bind(dim=1)
al.cross_entropy.bind(targets=y)
al.dice_loss.bind(absent="drop")
both(x)
both(x, y, axis=1)
float("nan") * al.huber_loss
""",
    "Metrics, one-hot arrays": """
metrics.confusion(image, masks, activation="softmax", axis=1, threshold=2)
metrics.dice(al.dice_loss.parts(image, masks, activation="softmax", axis=1))
metrics.dice(x)
al.one_hot(y.astype(float), 3)
al.one_hot(y, 0)
""",
    "The command line": """
$ arrayloss check huber_los
$ arrayloss check huber_loss --points sparse
$ arrayloss check huber_loss --backends tensorflow
$ arrayloss check huber_loss --dtype float8
""",
}


class OnDisk:
    """What an array in a file shows to a library that looks for arrays."""

    def __init__(self, array: np.ndarray) -> None:
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim


def names() -> dict[str, Any]:
    """What the page imports and makes. Files are stood for by classes that are called like those of their libraries."""
    import jax.numpy as jnp
    import scipy.sparse
    import torch
    import torch.masked

    space: dict[str, Any] = {"np": np, "torch": torch, "jnp": jnp, "scipy": scipy, "al": al}
    exec(re.search(r"```python\nimport.*\n((?:.*\n)*?)```", HEAD)[1], space)
    zarr = type("Array", (OnDisk,), {"__module__": "zarr.core.array"})
    hdf5 = type("Dataset", (OnDisk,), {"__module__": "h5py._hl.dataset"})
    space["zarr"] = SimpleNamespace(open=lambda path: zarr(space["x"]))
    space["h5py"] = SimpleNamespace(File=lambda path: {"labels": hdf5(space["y"])})
    return space


def error_of(call: str, space: dict[str, Any]) -> str:
    """The line that a call gets."""
    if call.startswith("$ "):
        return CliRunner().invoke(command, shlex.split(call)[2:]).output.strip().split("\n")[-1].removeprefix("Error: ")
    try:
        eval(call, space)
    except (TypeError, ValueError, NotImplementedError) as error:
        return str(error)
    raise AssertionError(f"{call} is no error")


def printed() -> str:
    """The page."""
    space, lines = names(), [HEAD]
    for title, calls in CALLS.items():
        lines += [f"## {title}\n", "| call | error |", "| --- | --- |"]
        lines += [f"| `{call.replace('|', chr(92) + '|')}` | {escaped(error_of(call, space))} |" for call in calls.strip().split("\n")]
        lines += [""]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text in a table of Markdown."""
    return re.sub(r"([|*<>])", r"\\\1", text)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of PyTorch, that nested and masked tensors are young
def test_the_page_states_what_wrong_calls_say() -> None:
    """If this fails: python -m tests.test_errors_page"""
    pytest.importorskip("torch"), pytest.importorskip("jax"), pytest.importorskip("scipy")
    text = printed()
    assert PAGE.read_text(encoding="utf-8") == text
    rows = re.findall(r"^\| `(.*)` \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) >= 60
    for call, line in rows:
        assert re.search(r"; got |did you mean|there is no|; options are|with axis=1|has 3 entries|delta is|no normalizer", line), call


if __name__ == "__main__":
    PAGE.write_text(printed(), encoding="utf-8")
