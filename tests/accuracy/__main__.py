"""`python -m tests.accuracy [LOSS...]`: errors over the sweeps, ours and those of installed peers; `--page` writes docs/accuracy.md."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from arrayloss.check.accuracy import Line, lines
from arrayloss.check.definitions import DEFINITIONS
from arrayloss.check.libraries import LIBRARIES

from .accuracy import run
from .page import PAGE, printed
from .peers import PEERS, installed
from .sweeps import sweeps


def table(losses: Iterable[str], dtypes: Iterable[str], backends: Iterable[str], dense: bool = False) -> Iterator[Line]:
    """The accuracy of every loss over its sweeps, and of the same loss of installed peers."""
    for loss in losses:
        batches = [batch for dtype in dtypes for batch in sweeps(dtype, loss, dense)]
        ours = [m for batch in batches for name in backends if LIBRARIES[name].missing() is None for m in run(batch, name)]
        theirs = [m for batch in batches for peer in installed(loss) for m in peer.measure(batch)]
        yield from lines(ours + theirs, peers=[peer.name for peer in PEERS])


def text(rows: Iterable[Line]) -> Iterator[str]:
    """The table, a line at a time."""
    yield f"{'loss':24}{'given':10}{'targets':8}{'':10}{'dtype':9}{'by':14}{'max ulp':>9}{'median':>8}{'NaN':>5}{'lost':>6}  promise"
    for r in rows:
        yield (
            f"{r.loss:24}{r.given:10}{r.targets:8}{r.quantity:10}{r.dtype:9}{r.backend:14}{r.max_ulp:9.3g}{r.median_ulp:8.2g}"
            f"{r.nans:5d}{r.lost:6d}  {r.promise}" + ("  BROKEN" if r.promise and not r.holds else "")
        )
        if not r.holds:
            yield f"{'':24}worst at {r.worst}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.accuracy", description=__doc__)
    parser.add_argument("losses", nargs="*", default=list(DEFINITIONS))
    parser.add_argument("--dtypes", default="float32,float64")
    parser.add_argument("--backends", default="numpy,torch,jax")
    parser.add_argument("--dense", action="store_true", help="five times as many points")
    parser.add_argument("--page", action="store_true", help="write docs/accuracy.md")
    arguments = parser.parse_args()
    if arguments.page:
        PAGE.write_text(printed(), encoding="utf-8")
    else:
        for line in text(table(arguments.losses, arguments.dtypes.split(","), arguments.backends.split(","), arguments.dense)):
            print(line, flush=True)
