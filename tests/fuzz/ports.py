"""Functions that a user may hand to `arrayloss check`: right ones, and what goes wrong with them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def right(x: Any, t: Any) -> Any:
    return (x - t) ** 2


def doubled(x: Any, t: Any) -> Any:
    return 2 * (x - t) ** 2


def mean(x: Any, t: Any) -> Any:
    return ((x - t) ** 2).mean()


def raises(x: Any, t: Any) -> Any:
    raise RuntimeError("out of [luck]")


def raises_nothing_to_say(x: Any, t: Any) -> Any:
    raise KeyError


def exits(x: Any, t: Any) -> Any:
    sys.exit(0)


def exits_with_text(x: Any, t: Any) -> Any:
    sys.exit("good bye")


def interrupts(x: Any, t: Any) -> Any:
    raise KeyboardInterrupt


def prints(x: Any, t: Any) -> Any:
    print("[bold]", x.shape)
    return (x - t) ** 2


def none(x: Any, t: Any) -> None:
    return None


def text(x: Any, t: Any) -> str:
    return "nan"


def nan(x: Any, t: Any) -> Any:
    return (x - t) * float("nan")


def shapeless(x: Any, t: Any) -> Any:
    return ((x - t) ** 2)[:0]


def column(x: Any, t: Any) -> Any:
    return ((x - t) ** 2)[:, None]


def wide(x: Any, t: Any) -> Any:
    return np.asarray(x, np.float64) - np.asarray(t, np.float64)


def listed(x: Any, t: Any) -> Any:
    return [float(v) for v in (x - t) ** 2]


def complex_number(x: Any, t: Any) -> Any:
    return (x - t) * 1j


def boolean(x: Any, t: Any) -> Any:
    return x == t


def one_argument(x: Any) -> Any:
    return x


def changes_its_input(x: Any, t: Any) -> Any:
    x -= t
    return x * x


def recursive(x: Any, t: Any) -> Any:
    return recursive(x, t)


class Port:
    """A callable object, which has no name."""

    def __call__(self, x: Any, t: Any) -> Any:
        return (x - t) ** 2


an_object = Port()
a_number = 3
