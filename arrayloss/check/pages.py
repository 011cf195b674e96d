"""A report as a page: Markdown, or HTML that needs no other file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import picture
from .rows import HEADINGS, describe, versions

if TYPE_CHECKING:
    from .report import Report

MARKUP = str.maketrans({c: f"\\{c}" for c in "\\`*<>[]|"})  # what Markdown would take for its own
WORST = 10  # inputs that a page shows
PICTURE = "error in ulps against the logit"
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: 1em 0; } th, td { padding: .2em .7em; text-align: left; border-bottom: 1px solid #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } tr.failed { background: #fbe3e0; } tr.absent { color: #777; }
pre { background: #f4f4f4; padding: .8em; overflow-x: auto; } img { max-width: 100%; } .verdict { font-size: 1.25em; font-weight: 600; }
"""


def blocks(report: Report, *, with_picture: bool) -> Iterator[tuple[str, Any]]:
    """The page in pieces: HTML's name of each, and its content (text, bytes of a PNG, rows of the table, items of a list)."""
    yield "h1", report.subject
    yield "verdict", report.verdict
    yield "p", f"{report.summary()}; max_ulp = {report.max_ulp:g}"
    yield "table", report.rows
    if with_picture:
        image = _image(report)
        yield "p" if isinstance(image, str) else "img", image
    worst = sorted([r for r in report.rows if r.worst is not None and r.max_ulp > 0], key=lambda r: (not r.failed, -r.max_ulp))
    if worst:
        yield "h2", "The worst inputs"
        yield "ul", [describe(row) for row in worst[:WORST]]
    for row in report.failures:
        yield "h2", " ".join(c for c in (row.backend, row.mode, row.dtype, row.quantity) if c)
        yield "p", describe(row)
        if row.worst is not None and row.worst.snippet:
            yield "pre", row.worst.snippet
    yield "h2", "Versions"
    yield "ul", [f"{name} {version}" for name, version in versions().items()]


def markdown(report: Report, png: Path | None) -> str:
    """The page as Markdown; the picture is written to `png`."""
    templates = {"h1": "# {}", "h2": "## {}", "verdict": "**{}**", "p": "{}", "pre": "```python\n{}\n```"}
    parts = []
    for kind, content in blocks(report, with_picture=png is not None):
        if kind == "table":
            cells = [HEADINGS, ["---"] * len(HEADINGS), *[[c.translate(MARKUP) for c in row.cells()] for row in content]]
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in cells))
        elif kind == "ul":
            parts.append("\n".join(f"- {item.translate(MARKUP)}" for item in content))
        elif kind == "img":
            assert png is not None
            png.write_bytes(content)
            parts.append(f"![{PICTURE}]({png.name})")
        else:
            parts.append(templates[kind].format(content if kind == "pre" else content.translate(MARKUP)))
    return "\n\n".join(parts) + "\n"


def html(report: Report) -> str:
    """The page as HTML with the picture inside."""
    parts = [f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(report.subject)}</title><style>{STYLE}</style></head>"]
    parts.append("<body>")
    for kind, content in blocks(report, with_picture=True):
        if kind == "table":
            parts.append("<table><tr>" + "".join(f"<th>{escape(h)}</th>" for h in HEADINGS) + "</tr>")
            for row in content:
                style = "failed" if row.failed else "absent" if row.status in ("absent", "missing") else ""
                cells = zip(HEADINGS, map(escape, row.cells()), strict=True)
                text = "".join(f"<td{' class=number' if heading == 'max ulp' else ''}>{cell}</td>" for heading, cell in cells)
                parts.append(f'<tr class="{style}">{text}</tr>')
            parts.append("</table>")
        elif kind == "ul":
            parts.append("<ul>" + "".join(f"<li>{escape(item)}</li>" for item in content) + "</ul>")
        elif kind == "img":
            parts.append(f'<img alt="{PICTURE}" src="data:image/png;base64,{b64encode(content).decode()}">')
        elif kind == "verdict":
            parts.append(f"<p class=verdict>{content}</p>")
        else:
            parts.append(f"<{kind}>{escape(content)}</{kind}>")
    return "\n".join([*parts, "</body></html>"])


def _image(report: Report) -> bytes | str:
    """The picture, or why there is none."""
    try:
        return picture.errors(report)
    except (ModuleNotFoundError, ValueError) as error:
        return f"No picture: {error}"
