"""One self-contained HTML page for any number of tables: sorting, filters, plots, links to papers and to records."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from zoo.benchmarks.render.table import Cell, Column, Section, Table
from zoo.pictures import Plot
from zoo.pictures.plot import svg

TITLE = "Likelihood zoo: published beside measured"
KINDS = {"exact": "exact", "bound": "bound", "importance": "importance-weighted", "ode": "ODE"}
COMMANDS = {"repeat": "repeat", "command": "as it was typed"}
SHOWN = ("experiment", "dataset", "split", "images", "estimator", "value", "date")  # first lines of a record


class _Records:
    """The records that cells link to, each with a name of its own on the page."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self.found: dict[str, Mapping[str, Any]] = {}

    def name(self, record: Mapping[str, Any]) -> str:
        """Anchor of a record."""
        key = repr(sorted(record.items(), key=lambda item: item[0]))
        name = self._names.setdefault(key, f"record-{len(self._names) + 1}")
        self.found[name] = record
        return name


def page(tables: Sequence[Table]) -> str:
    """The page as text, ending in a line break; it needs no other file."""
    records = _Records()
    articles = [_article(table, records, alone=len(tables) == 1) for table in tables]
    title = tables[0].title if len(tables) == 1 else TITLE
    values = {
        "title": _text(title),
        "provenance": _provenance(records.found.values()),
        "navigation": _navigation(tables, bool(records.found)),
        "filters": _filters(tables),
        "body": "\n".join(articles),
        "footer": _record_list(records.found),
        "style": _file("page.css"),
        "script": _file("page.js"),
    }
    text = _file("page.html")
    for name, value in values.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text + "\n"


def _file(name: str) -> str:
    return resources.files("zoo.benchmarks.render").joinpath(name).read_text(encoding="utf-8").rstrip()


def _text(words: object) -> str:
    return html.escape(str(words))


def _prose(words: str) -> str:
    """A sentence; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(words))


def _provenance(records: Any) -> str:
    """Version of the package, how many records, when and on what they were measured."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        package = f"likelihood-zoo {version('likelihood-zoo')}"
    except PackageNotFoundError:
        package = "likelihood-zoo"
    lines = list(records)
    if not lines:
        return f"{package}; no measured number on this page"
    dates = sorted(str(line.get("date", ""))[:10] for line in lines if line.get("date"))
    machines = sorted({str(line.get("hardware", "")) for line in lines} - {""})
    when = f"measured {dates[0]} to {dates[-1]}" if dates else ""
    where = f"on {machines[0]}" if len(machines) == 1 else f"on {len(machines)} kinds of machine" if machines else ""
    return _text("; ".join(filter(None, [package, f"{len(lines)} records", f"{when} {where}".strip()])))


def _navigation(tables: Sequence[Table], records: bool) -> str:
    """Links to the tables, if there are several."""
    if len(tables) < 2:
        return ""
    links = [f'<a href="#{_text(table.name)}">{_text(table.name.replace("_", " "))}</a>' for table in tables]
    links += ['<a href="#records">records</a>'] * records
    return f'<nav aria-label="tables">{"".join(links)}</nav>'


def _filters(tables: Sequence[Table]) -> str:
    """A search field, and a choice for everything that differs between rows."""
    sections = [section for table in tables for section in table.sections]
    columns = {column.bits for section in sections for column in section.columns if column.bits}
    kinds = {cell.kind for table in tables for cell in table.cells()}
    parts = ['<label>find <input type="search" name="words" placeholder="VDVAE ImageNet"></label>']
    parts.append(_choice("dataset", "data set", sorted({s.dataset for s in sections} - {""})))
    parts.append(_choice("variant", "variant", sorted({s.variant for s in sections} - {""})))
    parts.append(_choice("bits", "bits", sorted(map(str, columns))))
    parts.append(_choice("kind", "kind", [kind for kind in KINDS if kind in kinds], KINDS))
    if any(cell.record for table in tables for cell in table.cells()):
        parts.append('<label><input type="checkbox" name="measured"> measured only</label>')
    return "\n".join(filter(None, parts))


def _choice(name: str, label: str, options: Sequence[str], words: Mapping[str, str] | None = None) -> str:
    """A drop-down list; nothing if there is no choice."""
    if len(options) < 2:
        return ""
    entries = "".join(f'<option value="{_text(o)}">{_text((words or {}).get(o, o))}</option>' for o in options)
    return f'<label>{label} <select name="{name}"><option value="">all</option>{entries}</select></label>'


def _article(table: Table, records: _Records, alone: bool) -> str:
    """A table with its heading, plots, sections and marks."""
    parts = [f'<article id="{_text(table.name)}">', *[f"<h2>{_text(table.title)}</h2>"] * (not alone)]
    parts += [f"<p>{_prose(line)}</p>" for line in table.intro]
    if table.empty and table.expects:
        parts.append(f'<p class="note">Nothing to show: {_prose(table.expects)}</p>')
    parts.append(_plots(table.plots))
    parts += [_section(section, table.marks, records) for section in table.sections]
    marks = "".join(f"<dt>{_text(mark)}</dt><dd>{_prose(said)}</dd>" for mark, said in table.used_marks().items())
    parts += [f"<dl>{marks}</dl>"] * bool(marks)
    parts += [f'<p class="note">{_prose(note)}</p>' for note in table.notes]
    return "\n".join(filter(None, [*parts, "</article>"]))


def _plots(plots: Sequence[Plot]) -> str:
    drawn = [f"<figure>{svg(plot)}</figure>" for plot in plots if any(curve.points for curve in plot.curves)]
    return f'<div class="plots">{"".join(drawn)}</div>' if drawn else ""


def _section(section: Section, marks: Mapping[str, str], records: _Records) -> str:
    """A heading with its rows."""
    parts = [f'<section data-dataset="{_text(section.dataset)}" data-variant="{_text(section.variant)}">']
    parts.append(f"<h3>{_text(section.title)}</h3>")
    parts += [f'<p class="note">{_prose(section.note)}</p>'] * bool(section.note)
    parts.append('<div class="wide"><table><thead><tr>')
    for column in section.columns:
        button = f'<button type="button">{_text(column.name)}</button>'
        parts.append(f'<th class="{_side(column)}"{_bits(column)} scope="col">{button}</th>')
    parts.append("</tr></thead><tbody>")
    for row in section.rows:
        cells = zip(section.columns, row, strict=True)
        parts.append("<tr>" + "".join(_cell(column, cell, marks, records) for column, cell in cells) + "</tr>")
    parts += ["</tbody></table></div>", _plots(section.plots), "</section>"]
    return "\n".join(filter(None, parts))


def _side(column: Column) -> str:
    return "number" if column.numeric else "word"


def _bits(column: Column) -> str:
    return f' data-bits="{column.bits}"' if column.bits else ""


def _cell(column: Column, cell: Cell, marks: Mapping[str, str], records: _Records) -> str:
    """A table cell: raw value for sorting, a link to where it comes from, marks that explain themselves."""
    classes = [_side(column)] + ["empty"] * (cell.empty and column.numeric) + ["measured"] * (cell.record is not None)
    attributes = f' class="{" ".join(classes)}"{_bits(column)}'
    attributes += f' data-value="{_text(cell.value)}"' if cell.value is not None else ""
    attributes += f' data-kind="{_text(cell.kind)}"' if cell.kind else ""
    attributes += f' data-refs="{_text(" ".join(cell.refs))}"' if cell.refs else ""
    attributes += f' title="{_text(cell.reason)}"' if column.numeric and cell.reason else ""
    inside = _text(cell.text)
    if cell.record is not None:
        inside = f'<a href="#{records.name(cell.record)}">{inside}</a>'
    elif cell.link:
        inside = f'<a href="{_text(cell.link)}" target="_blank" rel="noopener">{inside}</a>'
    said = "".join(f'<sup title="{_text(marks[mark])}">{_text(mark)}</sup>' for mark in cell.marks)
    return f"<td{attributes}>{inside}{said}</td>"


def _record_list(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Every record that a cell links to, with the command that repeats it."""
    if not records:
        return ""
    entries = []
    for name, record in records.items():
        head = ", ".join(str(record[key]) for key in SHOWN if record.get(key) not in (None, ""))
        rest = {key: value for key, value in record.items() if key not in COMMANDS and value not in (None, "", {})}
        rows = "".join(f"<dt>{_text(key.replace('_', ' '))}</dt><dd>{_text(value)}</dd>" for key, value in rest.items())
        typed = [(word, record[key]) for key, word in COMMANDS.items() if record.get(key)]
        rows = "".join(f"<dt>{word}</dt><dd><code>{_text(line)}</code></dd>" for word, line in typed) + rows
        entries.append(f'<details id="{name}"><summary>{_text(head)}</summary><dl>{rows}</dl></details>')
    title = "Records: how each measured number came to be, and the command that repeats it"
    return "\n".join([f'<section id="records"><h2>{title}</h2>', *entries, "</section>"])
