"""Pictures, with matplotlib: errors in ulps against the logit, and losses with their derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from .problems import ROWS, WHOLE
from .subject import named_loss

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
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(rows, columns, squeeze=False)


def errors(report: Report) -> bytes:
    """The error of every number in ulps against its logit (of a row: its margin), by backend and dtype: a PNG."""
    rows = [r for r in report.rows if r.errors is not None and np.size(r.errors) and not np.all(np.isnan(r.at))]
    quantities = list(dict.fromkeys(r.quantity for r in rows))
    dtypes = list(dict.fromkeys(r.dtype for r in rows))
    if not rows:
        raise ValueError("there is nothing to draw: no row has numbers of single elements")
    made, axes = figure(len(dtypes), len(quantities), 5.2 * len(quantities), 3.6 * len(dtypes) + 0.6)
    finite = [np.asarray(r.errors)[np.isfinite(r.errors)] for r in rows]
    top = 10 * max(2 * report.max_ulp, *(float(f.max(initial=0.0)) for f in finite))
    for i, dtype in enumerate(dtypes):
        for j, quantity in enumerate(quantities):
            ax = axes[i][j]
            named = set()
            for r in rows:
                if (r.dtype, r.quantity) != (dtype, quantity):
                    continue
                label = f"{r.backend} {r.mode}"
                size = np.clip(np.where(np.isfinite(r.errors), r.errors, top), FLOOR, top).ravel()
                filled = MARKERS[r.backend] in "x+" or r.mode == "eager"
                colour = COLOURS[r.backend]
                style: dict[str, Any] = {"color": colour} if filled else {"facecolors": "none", "edgecolors": colour}
                style |= {"s": 14, "marker": MARKERS[r.backend], "alpha": 0.7, "lw": 0.9}
                ax.scatter(np.ravel(r.at), size, label=None if label in named else label, **style)
                named.add(label)
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
    made.legend(list(handles.values()), labels, loc="outside lower center", ncols=min(6, len(labels)), fontsize="small", frameon=False)
    made.suptitle(f"{report.subject}: errors against the reference (top edge: infinite)", fontsize="medium")
    return _png(made)


def curves(names: Sequence[str], variants: Sequence[Mapping[str, Any]]) -> bytes:
    """Loss, gradient and curvature against the logit of the target, one line a loss and set of options: a PNG."""
    made, axes = figure(1, 3, 13.0, 4.2)
    x = np.linspace(-6.0, 6.0, 481)
    for name in names:
        for options in variants or [{}]:
            values = _curve(name, x, options)
            label = " ".join([name, ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in options.items())])
            for ax, y in zip(axes[0], values, strict=True):
                if y is not None:
                    ax.plot(x, y, label=label)
    for ax, title in zip(axes[0], ("loss", "gradient", "curvature"), strict=True):
        ax.set(title=title, xlabel=_axis(names))
        ax.grid(alpha=0.25)
        if not ax.lines:
            ax.text(0.5, 0.5, "not defined", ha="center", va="center", transform=ax.transAxes)
    axes[0][0].legend(fontsize="small")
    return _png(made)


def _axis(names: Sequence[str]) -> str:
    kinds = {_domain(n) for n in names}
    return "distance from the target" if kinds == {"regression"} else "logit in favour of the target"


def _domain(name: str) -> str:
    from .compare import forms

    domains, kinds, _, _ = forms(name, {})[0]
    return "whole" if domains[0] in WHOLE else "row" if domains[0] in ROWS else domains[0] if kinds[0] == "binary" else "regression"


def _curve(name: str, x: Any, options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Loss, gradient and curvature with respect to the logit, the prediction being a function of it where it is no logit."""
    from .compare import forms

    loss, kind = named_loss(name), _domain(name)
    domains, _, settled, _ = forms(name, options)[0]
    if kind == "whole":  # a region that is half target, with the logit for the right answer everywhere
        settled = {**settled, "axis": None, "pool_axes": (1,), "reduction": "none"} if name != "generalized_dice_loss" else {**settled}
        t = np.broadcast_to(np.array([1.0, 0.0]), (len(x), 2))
        scores = np.stack([x, -x], axis=1)
        if name == "generalized_dice_loss":
            values = np.array([loss(row[None, :, None], t[:1, :, None], **settled) for row in scores])
        else:
            p = 1 / (1 + np.exp(-scores)) if settled["activation"] is None else scores
            values = loss(p, t, **settled)
        return values, np.gradient(values, x), None
    settled = {**settled, "reduction": "none"}
    if kind == "row":
        row = np.stack([x, np.zeros_like(x)], axis=1)
        t = np.zeros(len(x), dtype=np.int64)
        if domains[0] != "logits":
            log_p = row - np.logaddexp(row[:, :1], row[:, 1:])
            values = loss(log_p if domains[0] == "log_probs" else np.exp(log_p), t, **settled)
            return values, np.gradient(values, x), None
        predictions: tuple[Any, ...] = (row,)
    elif kind == "regression":
        t = np.zeros_like(x)
        predictions = (x, *(np.ones_like(x) for _ in domains[1:]))
    elif kind == "unit":
        values = loss(1 / (1 + np.exp(-x)), np.ones_like(x), **settled)
        return values, np.gradient(values, x), None
    else:
        t, predictions = np.ones_like(x), (x,)
    values, slopes = loss.value_and_grad(*predictions, t, **settled)
    bends = loss.grad_and_hess(*predictions, t, **settled)[1]
    slope, bend = (d[0] if isinstance(d, tuple) else d for d in (slopes, bends))
    return values, slope[:, 0] if kind == "row" else slope, bend[:, 0] if kind == "row" else bend


def _png(made: Any) -> bytes:
    out = BytesIO()
    made.savefig(out, format="png", dpi=110)
    return out.getvalue()
