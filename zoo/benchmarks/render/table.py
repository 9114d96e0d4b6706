"""Tables as data: what a table builds and every form prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.pictures import Plot

NOT_RUN = "not run"
NOT_PUBLISHED = "–"
WHY = {
    NOT_RUN: "no record answers this yet",
    NOT_PUBLISHED: "no source prints such a number",
    "-": "has none",
    "not counted": "the meta device cannot count it",
    "diverged": "the run without gradient smoothing diverged",
    "": "does not apply",
}


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what is printed.
        value: the number behind it, for json, csv and for sorting; None if there is none.
        marks: keys of `Table.marks`, printed behind the text.
        why: why there is no number, shown when pointed at.
        link: address of the source of a published number.
        refs: ids of the published numbers it shows.
        record: of a measured number, all that is needed to repeat it.
        kind: of a likelihood: "exact", "bound", "importance" or "ode".
    """

    text: str
    value: float | int | str | None = None
    marks: tuple[str, ...] = ()
    why: str = ""
    link: str = ""
    refs: tuple[str, ...] = ()
    record: Mapping[str, Any] | None = field(default=None, compare=False)
    kind: str = ""

    @property
    def empty(self) -> bool:
        """Whether the cell stands for a number that is not there."""
        return self.value is None

    @property
    def reason(self) -> str:
        """Why there is no number; "" if there is one."""
        return self.why or WHY.get(self.text, "") if self.empty else ""


@dataclass(frozen=True)
class Column:
    """A column's heading. Numbers stand right, words left; `bits` says which depth all its numbers have."""

    name: str
    numeric: bool = True
    bits: int | None = None


@dataclass(frozen=True)
class Section:
    """Rows that may be compared with each other, under one heading.

    Attributes:
        title: heading.
        columns, rows: the grid.
        note: below the heading.
        dataset, variant: which images, where all rows are about the same; a page filters by them.
        plots: drawn on a page below the grid.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    dataset: str = ""
    variant: str = ""
    plots: Sequence[Plot] = ()


@dataclass(frozen=True)
class Table:
    """A titled list of sections with the explanation of every mark it uses.

    Attributes:
        name: that of `zoo bench --table NAME`.
        title: heading.
        sections: in order.
        intro: paragraphs above them.
        marks: mark -> meaning.
        notes: lines below.
        plots: drawn on a page above the sections.
        expects: what would give rows, said where there are none.
    """

    name: str
    title: str
    sections: Sequence[Section]
    intro: Sequence[str] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    expects: str = ""

    def used_marks(self) -> dict[str, str]:
        """The marks that occur in a cell, with their meaning, in the order of `marks`."""
        used = {mark for cell in self.cells() for mark in cell.marks}
        missing = used - set(self.marks)
        if missing:
            raise ValueError(f"table {self.name}: marks without a meaning: {sorted(missing)}")
        return {mark: meaning for mark, meaning in self.marks.items() if mark in used}

    def cells(self) -> list[Cell]:
        """All cells, in order."""
        return [cell for section in self.sections for row in section.rows for cell in row]

    @property
    def empty(self) -> bool:
        """Whether no section has a row."""
        return not any(section.rows for section in self.sections)


def number(
    value: float | None,
    digits: int = 3,
    empty: str = NOT_RUN,
    prefix: str = "",
    suffix: str = "",
    marks: Sequence[str] = (),
    why: str = "",
    **about: Any,
) -> Cell:
    """A cell with a number in fixed notation, or `empty` without marks if there is none.

    Args:
        value: the number.
        digits: decimals.
        empty: what stands there without a number.
        prefix: before the number.
        suffix: behind it.
        marks: keys of `Table.marks`.
        why: why there is no number.
        about: `link`, `refs`, `record` and `kind` of the cell.
    """
    if value is None:
        return Cell(empty, why=why)
    return Cell(f"{prefix}{value:,.{digits}f}{suffix}", value, tuple(marks), **about)


def word(text: str, **about: Any) -> Cell:
    """A cell with text."""
    return Cell(text, text, **about)
