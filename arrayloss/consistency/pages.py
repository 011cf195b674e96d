"""A report as a page: Markdown, or HTML that needs no other file."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from pathlib import Path

from .report import HEADINGS, Report, Row, described, format_ulp, versions

WORST = 10  # inputs that a page shows
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: 1em 0; } th, td { padding: .2em .7em; text-align: left; border-bottom: 1px solid #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } tr.failed { background: #fbe3e0; } tr.absent { color: #777; }
pre { background: #f4f4f4; padding: .8em; overflow-x: auto; } img { max-width: 100%; } .verdict { font-size: 1.25em; font-weight: 600; }
"""


def markdown(report: Report, picture: Path | None) -> str:
    """The page as Markdown; the picture is written to a file beside it."""
    lines = [f"# {report.subject}", "", f"**{verdict(report)}** ({report.summary()}; max_ulp = {report.max_ulp:g})", ""]
    lines += [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    lines += [f"| {' | '.join(c.replace('|', chr(92) + '|') for c in r.cells())} |" for r in report.rows]
    if picture is not None:
        drawn = drawing(report)
        if isinstance(drawn, bytes):
            picture.write_bytes(drawn)
            lines += ["", f"![error in ulps against the logit]({picture.name})"]
        else:
            lines += ["", drawn]
    worst = worst_rows(report)
    if worst:
        lines += ["", "## The worst inputs", "", *(f"- {_line(r)}" for r in worst)]
    for row in report.failures:
        lines += ["", f"## {row.backend} {row.mode} {row.dtype} {row.quantity}", "", described(row)]
        if row.worst is not None and row.worst.snippet:
            lines += ["", "```python", row.worst.snippet, "```"]
    lines += ["", "## Versions", "", *(f"- {name} {version}" for name, version in versions().items()), ""]
    return "\n".join(lines)


def html(report: Report) -> str:
    """The page as HTML with the picture inside."""
    head = f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(report.subject)}</title><style>{STYLE}</style></head>"
    parts = [head, f"<body><h1>{escape(report.subject)}</h1>"]
    parts.append(f"<p class=verdict>{verdict(report)}</p><p>{escape(report.summary())}; max_ulp = {report.max_ulp:g}</p>")
    parts.append("<table><tr>" + "".join(f"<th>{escape(h)}</th>" for h in HEADINGS) + "</tr>")
    for row in report.rows:
        kind = "failed" if row.failed else "absent" if row.status in ("absent", "missing") else ""
        cells = [f"<td{' class=number' if h == 'max ulp' else ''}>{escape(c)}</td>" for h, c in zip(HEADINGS, row.cells(), strict=True)]
        parts.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
    parts.append("</table>")
    drawn = drawing(report)
    if isinstance(drawn, bytes):
        parts.append(f'<img alt="error in ulps against the logit" src="data:image/png;base64,{b64encode(drawn).decode()}">')
    else:
        parts.append(f"<p>{escape(drawn)}</p>")
    worst = worst_rows(report)
    if worst:
        parts.append("<h2>The worst inputs</h2><ul>" + "".join(f"<li>{escape(_line(r))}</li>" for r in worst) + "</ul>")
    for row in report.failures:
        parts.append(f"<h2>{escape(f'{row.backend} {row.mode} {row.dtype} {row.quantity}')}</h2><p>{escape(described(row))}</p>")
        if row.worst is not None and row.worst.snippet:
            parts.append(f"<pre>{escape(row.worst.snippet)}</pre>")
    parts.append("<h2>Versions</h2><ul>" + "".join(f"<li>{escape(f'{n} {v}')}</li>" for n, v in versions().items()) + "</ul></body></html>")
    return "\n".join(parts)


def verdict(report: Report) -> str:
    """One sentence."""
    if report.failures:
        return "They do not agree."
    return "They agree." if report.passed else "Nothing was compared."


def worst_rows(report: Report) -> list[Row]:
    """The rows with the largest errors, failures first."""
    found = [r for r in report.rows if r.worst is not None and r.max_ulp > 0]
    return sorted(found, key=lambda r: (not r.failed, -r.max_ulp))[:WORST]


def drawing(report: Report) -> bytes | str:
    """The picture, or why there is none."""
    from . import picture

    try:
        return picture.errors(report)
    except (ModuleNotFoundError, ValueError) as error:
        return f"No picture: {error}"


def _line(row: Row) -> str:
    worst = row.worst
    assert worst is not None
    where = " ".join(w for w in (row.backend, row.mode, row.dtype, row.quantity) if w)
    return f"{where}: {format_ulp(worst.ulp)} ulp at {worst.hex}: {worst.computed!r} where {row.other} {worst.exact!r}"
