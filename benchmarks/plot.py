"""A picture of the table: ratios as bars, growth as lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [r for r in result["rows"] if "ratio" in r]
    figure, (bars, lines) = pyplot.subplots(1, 2, figsize=(14, 1.5 + 0.3 * max(len(rows), 12)), layout="constrained")
    places = range(len(rows))
    bars.barh(places, [r["ratio"] for r in rows], label="ours / peer")
    bars.scatter([r["target"] for r in rows], places, marker="|", s=200, color="black", label="target")
    bars.set_yticks(places, [f"{r['name']} / {r['peer']}" for r in rows])
    bars.invert_yaxis()
    bars.set_xlabel("time, ours / peer (less is better)")
    bars.axvline(1, linestyle=":", color="grey")
    bars.legend()
    for name in [n for n in (result["growth"] or [{}])[0] if n != "elements"]:
        lines.loglog([e["elements"] for e in result["growth"]], [e[name] for e in result["growth"]], marker=".", label=name)
    lines.set_xlabel("elements")
    lines.set_ylabel("ms, sigmoid focal loss with gradient")
    if result["growth"]:
        lines.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
