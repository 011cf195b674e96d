"""Pictures, with matplotlib: errors in ulps against the logit, and losses with their derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from .points import FRAMES, ROWS, WHOLE
from .run import form, named_loss

if TYPE_CHECKING:
    from .report import Report

MARKERS = {"numpy": "o", "torch": "s", "jax": "^", "dask": "x", "cupy": "D", "strict": "+"}
COLOURS = {"numpy": "#0072b2", "torch": "#d55e00", "jax": "#009e73", "dask": "#cc79a7", "cupy": "#e69f00", "strict": "#666666"}
FLOOR = 1e-2  # ulps: what is exact is drawn here


def figure(rows: int, columns: int, width: float, height: float) -> Any:
    """A figure that needs no screen, and its axes."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed; pictures need: pip install 'arrayloss[plot]'", name=error.name
        ) from error
    result = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(result)
    return result, result.subplots(rows, columns, squeeze=False)


def errors(report: Report) -> bytes:
    """The error of every number in ulps against its logit (of a row: its margin), by backend and dtype: a PNG."""
    rows = [r for r in report.rows if r.at is not None and np.size(r.errors) and not np.all(np.isnan(r.at))]
    quantities = list(dict.fromkeys(r.quantity for r in rows))
    dtypes = list(dict.fromkeys(r.dtype for r in rows))
    if not rows:
        raise ValueError("there is nothing to draw: no row has numbers of single elements")
    page, axes = figure(len(dtypes), len(quantities), 5.2 * len(quantities), 3.6 * len(dtypes) + 0.6)
    finite = [np.asarray(r.errors)[np.isfinite(r.errors)] for r in rows]
    top = 10 * max(2 * report.max_ulp, *(float(f.max(initial=0.0)) for f in finite))
    for i, dtype in enumerate(dtypes):
        for j, quantity in enumerate(quantities):
            ax = axes[i][j]
            legend = set()
            for r in rows:
                if (r.dtype, r.quantity) != (dtype, quantity):
                    continue
                label = f"{r.backend} {r.mode}"
                size = np.clip(np.where(np.isfinite(r.errors), r.errors, top), FLOOR, top).ravel()
                filled = MARKERS[r.backend] in "x+" or r.mode == "eager"
                colour = COLOURS[r.backend]
                style: dict[str, Any] = {"color": colour} if filled else {"facecolors": "none", "edgecolors": colour}
                style |= {"s": 14, "marker": MARKERS[r.backend], "alpha": 0.7, "lw": 0.9}
                ax.scatter(np.ravel(r.at), size, label=None if label in legend else label, **style)
                legend.add(label)
            ax.axhline(report.max_ulp, color="black", lw=1, ls="--", label=f"max_ulp = {report.max_ulp:g}")
            ax.set(xscale="symlog", yscale="log", ylim=(FLOOR / 1.5, 2 * top), title=f"{quantity}, {dtype}")
            ax.set_xticks([-1e4, -1e2, -1, 0, 1, 1e2, 1e4])
            ax.set_xlabel("logit (of a row: its margin)")
            ax.set_ylabel("error in ulps" if j == 0 else "")
            ax.grid(alpha=0.25)
    handles: dict[str, Any] = {}
    for ax in axes.ravel():
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = list(handles)
    page.legend(list(handles.values()), labels, loc="outside lower center", ncols=min(6, len(labels)), fontsize="small", frameon=False)
    page.suptitle(f"{report.subject}: errors against the reference (top edge: infinite)", fontsize="medium")
    return _png(page)


def curves(names: Sequence[str], variants: Sequence[Mapping[str, Any]]) -> bytes:
    """Loss, gradient and curvature against the logit of the target, one line a loss and set of options: a PNG."""
    page, axes = figure(1, 3, 13.0, 4.2)
    x = np.linspace(-6.0, 6.0, 481)
    kinds = set()
    for name in names:
        for options in variants or [{}]:
            kind, y = _values(name, x, options)
            kinds.add(kind)
            label = " ".join([name, ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in options.items())])
            for ax in axes[0]:  # derivatives are those of the curve, which is smooth at this scale
                ax.plot(x, y, label=label)
                y = np.gradient(y, x, edge_order=2)
    for ax, title in zip(axes[0], ("loss", "gradient", "curvature"), strict=True):
        ax.set(title=title, xlabel="distance from the target" if kinds == {"regression"} else "logit in favour of the target")
        ax.grid(alpha=0.25)
    axes[0][0].legend(fontsize="small")
    return _png(page)


def _values(name: str, x: Any, options: Mapping[str, Any]) -> tuple[str, Any]:
    """The kind of a loss, and its values. Where a prediction is no logit, it is the function of the logit that it stands for."""
    loss = named_loss(name)
    definition, options = form(loss.name, options)
    domain, p, options = definition.predictions[0], 1 / (1 + np.exp(-x)), {**options, "reduction": "none"}
    if domain in FRAMES:
        raise ValueError(f"{name} is no function of one logit: there is no curve")
    if domain in WHOLE:  # every sample is a region of two entries, half of it target, with the same logit for the right answer
        scores = np.stack([p, 1 - p] if domain == "mask_probs" else [x, -x], axis=1)[:, None]
        t = np.broadcast_to(np.array([1.0, 0.0]), scores.shape)
        return "whole", loss(scores, t, **{**options, "pool_axes": (2,)}).reshape(x.shape)
    if domain in ROWS:
        logits = np.stack([x, np.zeros_like(x)], axis=1)
        log_p = logits - np.logaddexp(x, 0)[:, None]
        t = np.tile([1.0, 0.0], (len(x), 1)) if definition.targets[0] != "labels" else np.zeros(len(x), dtype=np.int64)
        return "row", loss({"logits": logits, "log_probs": log_p, "probs": np.exp(log_p)}[domain], t, **options)
    if definition.targets[0] == "binary":
        return "binary", loss(p if domain == "unit" else x, np.ones_like(x), **options)
    return "regression", loss(x, *(np.ones_like(x) for _ in definition.predictions[1:]), np.zeros_like(x), **options)


def _png(page: Any) -> bytes:
    out = BytesIO()
    page.savefig(out, format="png", dpi=110)
    return out.getvalue()
