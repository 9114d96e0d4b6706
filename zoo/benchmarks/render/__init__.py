"""Tables as data, and their four forms: rich (terminal), markdown, json and html (one self-contained page)."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from zoo.errors import UserError, closest

NOT_RUN = "not run"
NOT_PUBLISHED = "–"
Format = Literal["rich", "markdown", "json", "html"]
FORMATS = ("rich", "markdown", "json", "html")
SUFFIXES = {".md": "markdown", ".json": "json", ".html": "html", ".txt": "rich"}


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what is printed.
        value: the number behind it, for json and for sorting; None if there is none.
        marks: keys of `Table.marks`, printed behind the text.
    """

    text: str
    value: float | int | str | None = None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column's heading. Numbers stand right, words left."""

    name: str
    numeric: bool = True


@dataclass(frozen=True)
class Section:
    """Rows that may be compared with each other, under one heading."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A titled list of sections with the explanation of every mark it uses."""

    name: str
    title: str
    sections: Sequence[Section]
    intro: Sequence[str] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def used_marks(self) -> dict[str, str]:
        """The marks that occur in a cell, with their meaning, in the order of `marks`."""
        used = {mark for section in self.sections for row in section.rows for cell in row for mark in cell.marks}
        missing = used - set(self.marks)
        if missing:
            raise ValueError(f"table {self.name}: marks without a meaning: {sorted(missing)}")
        return {mark: meaning for mark, meaning in self.marks.items() if mark in used}


def number(
    value: float | None,
    digits: int = 3,
    empty: str = NOT_RUN,
    prefix: str = "",
    suffix: str = "",
    marks: Sequence[str] = (),
) -> Cell:
    """A cell with a number in fixed notation, or `empty` without marks if there is none."""
    if value is None:
        return Cell(empty)
    return Cell(f"{prefix}{value:,.{digits}f}{suffix}", value, tuple(marks))


def word(text: str) -> Cell:
    """A cell with text."""
    return Cell(text, text)


def choose_format(wanted: str | None, output: str | None) -> Format:
    """The format asked for, or the one the output's suffix says, or rich.

    Raises:
        UserError: no such format.
    """
    if wanted is None:
        suffix = "." + output.rpartition(".")[2] if output and "." in output else ""
        wanted = SUFFIXES.get(suffix.lower(), "rich" if output is None else "markdown")
    if wanted not in FORMATS:
        raise UserError(f"--format {wanted}: no such format; {closest(wanted, FORMATS)}")
    return wanted  # type: ignore[return-value]


def render(table: Table, form: Format, width: int | None = None) -> str:
    """The table as text in one of the four forms, ending in a line break.

    Args:
        table: what to print.
        form: one of `FORMATS`.
        width: columns of the terminal (rich only); default: as wide as needed.
    """
    if form == "json":
        return json.dumps(as_dict(table), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    return {"markdown": _markdown, "html": _html}[form](table) if form != "rich" else _rich_text(table, width)


def as_dict(table: Table) -> dict[str, Any]:
    """The table as plain types: rows are lists of {text, value, marks} beside the list of column names."""
    return {
        "name": table.name,
        "title": table.title,
        "intro": list(table.intro),
        "sections": [
            {
                "title": section.title,
                "note": section.note,
                "columns": [column.name for column in section.columns],
                "rows": [
                    [{"text": cell.text, "value": cell.value, "marks": list(cell.marks)} for cell in row]
                    for row in section.rows
                ],
            }
            for section in table.sections
        ],
        "marks": table.used_marks(),
        "notes": list(table.notes),
    }


def print_rich(table: Table) -> None:
    """Print to the terminal, with colours if it has them; a table that does not fit is printed wider, not squeezed."""
    from rich.console import Console

    _print(table, Console())


def _rich_text(table: Table, width: int | None) -> str:
    """The terminal's form without colours."""
    import io

    from rich.console import Console

    stream = io.StringIO()
    _print(table, Console(file=stream, width=width or 120, color_system=None))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _print(table: Table, console: Any) -> None:
    """Title, sections, marks and notes."""
    from rich.text import Text

    console.print(Text(table.title, style="bold"), *(Text(line) for line in table.intro), sep="\n")
    for section in table.sections:
        console.print(Text(f"\n{section.title}", style="bold cyan"))
        if section.note:
            console.print(Text(section.note, style="dim"))
        grid = _rich_grid(section)
        terminal = console.width
        console.width = max(terminal, console.measure(grid, options=console.options.update(width=1000)).minimum)
        console.print(grid)
        console.width = terminal
    lines = [f"{mark}  {meaning}" for mark, meaning in table.used_marks().items()] + list(table.notes)
    if lines:
        console.print(Text("\n" + "\n".join(lines), style="dim"))


def _rich_grid(section: Section) -> Any:
    """A section as rich's table: numbers never wrap, words wrap between words."""
    import textwrap

    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(header_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(section.columns):
        texts = [f"{row[number].text} {''.join(row[number].marks)}".strip() for row in section.rows]
        widest = max(map(len, texts), default=0)
        head = [line for part in column.name.split(", ") for line in textwrap.wrap(part, max(widest, 11))]
        room = widest if column.numeric else min(widest, 30)
        grid.add_column(
            Text("\n".join(head)),
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            min_width=max(room, *map(len, head)),
        )
    for row in section.rows:
        texts = []
        for cell in row:
            text = Text(cell.text, style="dim" if cell.text in (NOT_RUN, NOT_PUBLISHED) else "")
            if cell.marks:
                text.append(" " + "".join(cell.marks), style="yellow")
            texts.append(text)
        grid.add_row(*texts)
    return grid


def _markdown(table: Table) -> str:
    """GitHub's dialect; marks stand behind the number."""
    lines = [f"# {table.title}", ""]
    for line in table.intro:
        lines += [line, ""]
    for section in table.sections:
        lines += [f"## {section.title}", ""] + ([section.note, ""] if section.note else [])
        lines += [*markdown_grid(section), ""]
    lines += [f"- {mark} {meaning}" for mark, meaning in table.used_marks().items()]
    lines += [f"- {note}" for note in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def markers(name: str) -> tuple[str, str]:
    """Lines between which a page shows a table."""
    return f"<!-- table {name} -->", f"<!-- end of table {name} -->"


def fragment(table: Table) -> str:
    """Markdown of the table without its title, for a place inside a page."""
    lines = _markdown(table).splitlines()
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in lines[2:]) + "\n"


def insert(page: str, table: Table) -> str | None:
    """The page with the table between its markers; None if the page has no markers of that table."""
    begin, end = markers(table.name)
    head, found, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    return f"{head}{begin}\n\n{fragment(table)}\n{end}{tail}" if found and closed else None


def markdown_grid(section: Section) -> list[str]:
    """The lines of a section's table alone."""
    lines = ["| " + " | ".join(_pipes(column.name) for column in section.columns) + " |"]
    lines.append("|" + "|".join("---:" if column.numeric else ":---" for column in section.columns) + "|")
    for row in section.rows:
        texts = [_pipes(" ".join(filter(None, [cell.text, "".join(cell.marks)]))) for cell in row]
        lines.append("| " + " | ".join(texts) + " |")
    return lines


def _pipes(text: str) -> str:
    """Text that does not end a markdown cell."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


def _html(table: Table) -> str:
    """One page without outside files: style and the row filter are inside."""
    body = [f"<h1>{html.escape(table.title)}</h1>", *(f"<p>{html.escape(line)}</p>" for line in table.intro)]
    for section in table.sections:
        body += [f"<h2>{html.escape(section.title)}</h2>"]
        body += [f'<p class="note">{html.escape(section.note)}</p>'] * bool(section.note)
        body += ['<div class="wide"><table><thead><tr>']
        body += [f'<th class="{_side(column)}">{html.escape(column.name)}</th>' for column in section.columns]
        body += ["</tr></thead><tbody>"]
        for row in section.rows:
            cells = zip(section.columns, row, strict=True)
            body += ["<tr>" + "".join(_html_cell(column, cell, table.marks) for column, cell in cells) + "</tr>"]
        body += ["</tbody></table></div>"]
    marks = table.used_marks()
    body += ["<dl>", *(f"<dt>{html.escape(m)}</dt><dd>{html.escape(t)}</dd>" for m, t in marks.items()), "</dl>"]
    body += [f'<p class="note">{html.escape(note)}</p>' for note in table.notes]
    page = resources.files("zoo.benchmarks.render").joinpath("page.html").read_text(encoding="utf-8")
    return page.replace("{{title}}", html.escape(table.title)).replace("{{body}}", "\n".join(body))


def _side(column: Column) -> str:
    return "number" if column.numeric else "word"


def _html_cell(column: Column, cell: Cell, meanings: Mapping[str, str]) -> str:
    """A table cell; its marks are superscripts that explain themselves when pointed at, an empty cell is grey."""
    grey = " empty" if cell.text in (NOT_RUN, NOT_PUBLISHED) else ""
    marks = "".join(f'<sup title="{html.escape(meanings[mark])}">{html.escape(mark)}</sup>' for mark in cell.marks)
    return f'<td class="{_side(column)}{grey}">{html.escape(cell.text)}{marks}</td>'
