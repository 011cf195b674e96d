"""The tests of Keras's losses, from its wheel, with `arrayloss.compat.keras` in the place of its functions and classes.

    KERAS_BACKEND=numpy python -m tests.compat.theirs.keras

Arguments are made arrays first, as Keras does: lists of Python numbers in float32.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from arrayloss.compat import keras as compat

from .runner import download, run

LEFT_OUT = {
    "CosineSimilarityTest::test_config": "the config has all options; that of Keras forgets axis",
    "HuberLossTest::test_config": "the config has all options; that of Keras forgets delta",
    "::test_config": "Keras does not serialize classes that are not its own",
    "CTCTest": "a blank among the labels is refused",
    "DiceTest": "targets above 1 are refused",
    "TverskyTest": "targets above 1 are refused",
}


def as_array(value: Any) -> Any:
    value = np.asarray(value) if isinstance(value, (list, tuple, np.generic)) else value
    return value.astype("float32") if isinstance(value, np.ndarray) and value.dtype == "float64" else value


def of_arrays(function: Any) -> Any:
    """The function, of arrays."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(
            *[as_array(a) if i < 3 else a for i, a in enumerate(args)], **{n: as_array(v) if n != "axis" else v for n, v in kwargs.items()}
        )

    return call


def class_of_arrays(loss: Any) -> Any:
    """The class, called with arrays."""
    return type(loss.__name__, (loss,), {"__call__": of_arrays_of_method(loss.__call__)})


def of_arrays_of_method(method: Any) -> Any:
    return lambda self, *args, **kwargs: method(self, *map(as_array, args), **{n: as_array(v) for n, v in kwargs.items()})


def main() -> int:
    import keras

    module = import_module("keras.src.losses.losses")
    for name in compat.LOSSES:
        setattr(module, name, of_arrays(compat.LOSSES[name]))
    for name in compat.CLASSES:
        setattr(module, name, class_of_arrays(compat.CLASSES[name]))
    with tempfile.TemporaryDirectory() as place:
        found = download(f"keras=={keras.__version__}", Path(place), source=False)
        copy = Path(place) / "losses_test.py"  # beside the package it would import it instead of the installed one
        copy.write_text((found / "keras/src/losses/losses_test.py").read_text())
        return run([copy], LEFT_OUT, f"Keras {keras.__version__}, {keras.backend.backend()}")


if __name__ == "__main__":
    sys.exit(main())
