"""Exact answers, computed once: they are files in pytest's cache, keyed by the definitions and the points."""

from __future__ import annotations

import os
import shutil
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrayloss import check
from arrayloss.check.accuracy import Batch
from arrayloss.check.ulp import Exact


@cache
def _directory(config: pytest.Config) -> Path | None:
    """Where the answers of these definitions are; those of other ones are removed. None with `-p no:cacheprovider`."""
    files = getattr(config, "cache", None)
    if files is None:
        return None
    sources = [
        Path(check.__file__).with_name(f"{name}.py").read_bytes()
        for name in ("definitions", "elements", "margins", "overlaps", "evaluate", "jets")
    ]
    digest = sha256(b"".join(sources)).hexdigest()[:16]
    everything = files.mkdir("exact")
    for other in everything.iterdir():
        if other.name != digest:
            shutil.rmtree(other, ignore_errors=True)
    (everything / digest).mkdir(exist_ok=True)
    return everything / digest


def with_answers(config: pytest.Config, batch: Batch) -> Batch:
    """The batch, its exact answers read from a file, or computed and written to one."""
    directory = _directory(config)
    if directory is None or "exact" in batch.__dict__:
        return batch
    problem = batch.problem
    arrays = [np.ascontiguousarray(a) for a in (*problem.predictions, problem.targets) if a is not None]
    words = (batch.definition.loss, batch.definition.predictions, sorted(problem.options.items()), problem.samples, batch.quantities)
    key = sha256(repr([words, [(a.shape, a.dtype.str) for a in arrays]]).encode() + b"".join([a.tobytes() for a in arrays]))
    file = directory / f"{key.hexdigest()[:32]}.npz"
    if not file.exists():
        flat: dict[str, Any] = {
            f"{quantity} {i} {part}": getattr(exact, part)
            for quantity, several in batch.exact.items()
            for i, exact in enumerate(several)
            for part in ("high", "low", "terms")
        }
        partial = file.with_suffix(f".{os.getpid()}.part")
        with partial.open("wb") as f:
            np.savez(f, **flat)
        partial.replace(file)  # another process may do the same
        return batch
    with np.load(file, allow_pickle=False) as data:
        answers = {
            q: [Exact(*[data[f"{q} {i} {part}"] for part in ("high", "low", "terms")]) for i in _numbers(data, q)] for q in batch.quantities
        }
    batch.__dict__["exact"] = answers
    return batch


def _numbers(data: Any, quantity: str) -> range:
    """The predictions that there are answers for."""
    return range(sum(name.startswith(f"{quantity} ") for name in data) // 3)
