"""The tests of optax's losses, from its source distribution, with `arrayloss.compat.optax` in the place of its functions.

    python -m tests.compat.theirs.optax

Arguments are made arrays of JAX first, as optax does. Needs chex, as optax's tests do.
"""

from __future__ import annotations

import sys
import tempfile
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from arrayloss.compat import optax as compat

from .runner import download, run

MODULES = [
    f"optax.losses._{n}"
    for n in ("classification", "regression", "ranking", "self_supervised", "segmentation", "fenchel_young", "smoothing")
]
LEFT_OUT = {
    "test_equals_to_cross_entropy_when_eps04": "a softmax of one class is refused",
    "test_with_one_to_one_alignment": "ctc_loss_with_forward_probs is refused: the table of forward probabilities is not kept",
    "test_deprecated_alias": "the deprecated name does not warn",
    "test_fenchel_young_reg": "make_fenchel_young_loss is refused: its max_fun is a function of JAX",
    "test_probability_validation": "values of arrays of JAX are not read",
}


def on_jax(function: Any) -> Any:
    """The function, of what JAX makes arrays of."""

    def as_array(value: Any) -> Any:
        return jnp.asarray(value) if isinstance(value, (list, np.ndarray, np.generic)) else value

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*map(as_array, args), **{n: as_array(v) for n, v in kwargs.items()})

    return call


def main() -> int:
    import optax

    for module in map(import_module, MODULES):
        for name in compat.__all__:
            if hasattr(module, name):
                setattr(module, name, on_jax(getattr(compat, name)))
                setattr(optax, name, getattr(module, name))
                setattr(optax.losses, name, getattr(module, name))
    with tempfile.TemporaryDirectory() as place:
        found = download(f"optax=={optax.__version__}", Path(place), source=True)
        files = sorted(found.glob("optax-*/optax/losses/*_test.py"))
        copies = [Path(place) / f.name for f in files]  # beside the package they would import it instead of the installed one
        for copy, file in zip(copies, files, strict=True):
            copy.write_text(file.read_text())
        return run(copies, LEFT_OUT, f"optax {optax.__version__}")


if __name__ == "__main__":
    sys.exit(main())
