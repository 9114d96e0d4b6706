"""The forms of a list of tables: rich (terminal), markdown, json, csv and html (one self-contained page)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Literal

from zoo.benchmarks.render.table import NOT_PUBLISHED, NOT_RUN, Cell, Column, Section, Table
from zoo.errors import UserError, closest

Format = Literal["rich", "markdown", "json", "csv", "html"]
FORMATS = ("rich", "markdown", "json", "csv", "html")
SUFFIXES = {".md": "markdown", ".json": "json", ".csv": "csv", ".html": "html", ".txt": "rich"}


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


def render(tables: Table | Sequence[Table], form: Format, width: int | None = None) -> str:
    """Tables as text in one of the forms, ending in a line break.

    Args:
        tables: what to print, one or several.
        form: one of `FORMATS`.
        width: columns of the terminal (rich only); default: as wide as needed.
    """
    several = [tables] if isinstance(tables, Table) else list(tables)
    if form == "json":
        payload = as_dict(tables) if isinstance(tables, Table) else {"tables": [as_dict(table) for table in tables]}
        return json.dumps(payload, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    if form == "csv":
        return as_csv(several)
    if form == "html":
        from zoo.benchmarks.render.page import page

        return page(several)
    if form == "markdown":
        return "\n".join(_markdown(table) for table in several)
    return "\n".join(_rich_text(table, width) for table in several)


# -- data -----------------------------------------------------------------------------------------------------------


def as_dict(table: Table) -> dict[str, Any]:
    """The table as plain types: rows are lists of cells beside the list of column names; what is unset is left out."""
    return {
        "name": table.name,
        "title": table.title,
        "intro": list(table.intro),
        "sections": [
            {
                "title": section.title,
                "note": section.note,
                "dataset": section.dataset,
                "variant": section.variant,
                "columns": [column.name for column in section.columns],
                "rows": [[_cell(cell) for cell in row] for row in section.rows],
            }
            for section in table.sections
        ],
        "marks": table.used_marks(),
        "notes": list(table.notes),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    """Text, value and marks of a cell, and where it comes from."""
    about = {"why": cell.reason, "kind": cell.kind, "link": cell.link, "refs": list(cell.refs), "record": cell.record}
    plain = {"text": cell.text, "value": cell.value, "marks": list(cell.marks)}
    return plain | {name: value for name, value in about.items() if value}


CSV_COLUMNS = ("table", "section", "row", "column", "value", "text", "marks", "kind", "published_ids", "source")
CSV_RECORD = ("experiment", "weights", "dataset", "dataset_digest", "split", "images", "repeat", "command", "date")


def as_csv(tables: Sequence[Table]) -> str:
    """One line for each number: raw value, where it stands, and what it was published or measured by."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*CSV_COLUMNS, *CSV_RECORD])
    for table in tables:
        for section in table.sections:
            for row in section.rows:
                label = " | ".join(c.text for c, k in zip(row, section.columns, strict=True) if not k.numeric)
                for column, cell in zip(section.columns, row, strict=True):
                    if column.numeric and not cell.empty:
                        where = [table.name, section.title, label, column.name, cell.value, cell.text]
                        origin = ["".join(cell.marks), cell.kind, " ".join(cell.refs), cell.link]
                        record = cell.record or {}
                        writer.writerow([*where, *origin, *(record.get(name, "") for name in CSV_RECORD)])
    return stream.getvalue()


# -- terminal -------------------------------------------------------------------------------------------------------


def print_rich(tables: Table | Sequence[Table]) -> None:
    """Print to the terminal, with colours if it has them; a table that does not fit is printed wider, not squeezed."""
    from rich.console import Console

    for table in [tables] if isinstance(tables, Table) else tables:
        _print(table, Console())


def _rich_text(table: Table, width: int | None) -> str:
    """The terminal's form without colours."""
    from rich.console import Console

    stream = io.StringIO()
    _print(table, Console(file=stream, width=width or 120, color_system=None))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _print(table: Table, console: Any) -> None:
    """Title, sections, marks and notes."""
    from rich.text import Text

    console.print(Text(table.title, style="bold"), *(Text(line) for line in table.intro), sep="\n")
    if table.empty and table.expects:
        console.print(Text(f"\nnothing to show: {table.expects}", style="yellow"))
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
        grid.add_row(*(_rich_cell(cell) for cell in row))
    return grid


def _rich_cell(cell: Cell) -> Any:
    """Text and marks; what is empty is dim."""
    from rich.text import Text

    text = Text(cell.text, style="dim" if cell.text in (NOT_RUN, NOT_PUBLISHED) else "")
    if cell.marks:
        text.append(" " + "".join(cell.marks), style="yellow")
    return text


# -- markdown -------------------------------------------------------------------------------------------------------


def _markdown(table: Table) -> str:
    """GitHub's dialect; marks stand behind the number, numbers link to their sources."""
    lines = [f"# {table.title}", ""]
    for line in table.intro:
        lines += [line, ""]
    if table.empty and table.expects:
        lines += [f"Nothing to show: {table.expects}", ""]
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
    lines.append("|" + "|".join(_rule(column) for column in section.columns) + "|")
    for row in section.rows:
        texts = [_pipes(" ".join(filter(None, [cell.text, "".join(cell.marks)]))) for cell in row]
        lines.append("| " + " | ".join(texts) + " |")
    return lines


def _rule(column: Column) -> str:
    return "---:" if column.numeric else ":---"


def _pipes(text: str) -> str:
    """Text that does not end a markdown cell."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")
