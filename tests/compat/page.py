"""The page of presets: `docs/compat.md` is what `python -m tests.compat.page` prints."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from arrayloss.compat import keras, optax, torch
from arrayloss.compat._preset import Preset

PAGE = Path(__file__).parents[2] / "docs" / "compat.md"
HEAD = """# Losses of PyTorch, optax and Keras by their own names

`arrayloss.compat.torch`, `arrayloss.compat.optax` and `arrayloss.compat.keras` have the losses of `torch.nn.functional`, `optax.losses` and
`keras.losses`: their names, order of arguments, defaults, reductions and results, on NumPy, PyTorch, JAX, CuPy and Dask arrays. The
library itself is not imported. Unknown arguments and reductions are errors, as there.

```python
>>> import numpy as np
>>> from arrayloss.compat import keras, torch as F
>>> logits, labels = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]]), np.array([0, -100])
>>> value, gradient = F.cross_entropy.value_and_grad(logits, labels, label_smoothing=0.1)
>>> print(f"{value:.6f}")
0.507606
>>> loss = keras.CategoricalFocalCrossentropy(alpha=1.0, from_logits=True, reduction="sum")
>>> print(f"{loss(np.eye(3)[:2], logits, sample_weight=np.array([1.0, 2.0])):.6f}")
0.047235

```

What they print is the call of this package with the same number: how to migrate. `native` of the same arguments is that call with its
arrays; `value_and_grad`, `grad_and_hess` and `parts` take the same arguments too, and `native(...).finish(parts)` is the number of parts.

```python
>>> F.huber_loss
<torch.nn.functional.huber_loss of PyTorch 2.13: huber_loss(input, target)>
>>> loss
<keras.losses.CategoricalFocalCrossentropy(alpha=1.0, from_logits=True, reduction='sum') of Keras 3.15: \
softmax_focal_loss(y_pred, y_true, axis=-1, reduction='sum')>

```

Everywhere: a mean over nothing is 0, where others have NaN; sums and means of 16-bit predictions are float32; integer labels out of range,
weights of classes below 0, yes/no targets outside 0 to 1 and a softmax of one class are errors; of wrong shapes and dtypes the errors are
those of this package (`ValueError`, `TypeError`). What cannot be had exactly raises `NotImplementedError` and says what differs.
`python -m tests.compat.theirs.opinfo` (and `.optax`, `.keras`) runs the tests of those libraries through these functions.

The table is printed by `python -m tests.compat.page` from the presets.
"""
REFUSED = {  # what cannot be had, and what it says
    "optax": {name: getattr(optax, name) for name in ("ctc_loss_with_forward_probs", "make_fenchel_young_loss")},
}


class Names(dict[str, Any]):
    """Every name is an array."""

    def __init__(self, loss: Preset[Any]) -> None:
        super().__init__(dict=dict)
        self.loss = loss

    def __missing__(self, name: str) -> Any:
        return self.loss.symbol(name)


def rows(name: str, loss: Preset[Any]) -> list[str]:
    """The call there, the call here, and what differs."""
    required = [p.name for p in inspect.signature(loss).parameters.values() if p.default is p.empty]
    lines = []
    for i, options in enumerate(("", *loss.shows)):
        given = eval(f"dict({options})", {}, Names(loss))
        if "q" in required and "q" not in given:
            given["q"] = 0.5
        arrays = [n for n in required if n not in given]
        there = ", ".join([*arrays, *[f"{n}={v!r}" for n, v in given.items()]])
        lines += [f"| `{name}({there})` | `{loss.sketch(**given)!r}` | {loss.differs if i == 0 else ''} |"]
    return lines


def printed() -> str:
    """The page."""
    lines = [HEAD]
    for title, module in (
        ("torch.nn.functional, PyTorch 2.13", torch),
        ("optax.losses, optax 0.2.8", optax),
        ("keras.losses, Keras 3.15", keras),
    ):
        lines += [f"## {title}\n", "| there | here | what differs |", "| --- | --- | --- |"]
        lines += [line for name, loss in module.LOSSES.items() for line in rows(name, loss)]
        for name, function in REFUSED.get(module.__name__.rpartition(".")[2], {}).items():
            lines += [f"| `{name}` | | {inspect.getdoc(function)} |"]
        lines += [""]
    lines += ["The classes of Keras take `(y_true, y_pred, sample_weight=None)`; these are they without options:\n"]
    lines += ["| there | here |", "| --- | --- |"]
    lines += [f"| `{name}()` | `{here_of(loss())}` |" for name, loss in keras.CLASSES.items()]
    return "\n".join([*lines, ""])


def here_of(loss: Any) -> str:
    return re.search(r"of Keras 3.15: (.*)>$", repr(loss))[1]


if __name__ == "__main__":
    PAGE.write_text(printed(), encoding="utf-8")
