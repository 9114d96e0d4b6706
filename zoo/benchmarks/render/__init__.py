"""Tables as data (`table`), their forms (`forms`) and the page with sorting, filters and plots (`page`)."""

from zoo.benchmarks.render.forms import (
    FORMATS,
    Format,
    as_csv,
    as_dict,
    choose_format,
    fragment,
    insert,
    markdown_grid,
    markers,
    print_rich,
    render,
)
from zoo.benchmarks.render.table import NOT_PUBLISHED, NOT_RUN, Cell, Column, Section, Table, number, word

__all__ = [
    "FORMATS",
    "NOT_PUBLISHED",
    "NOT_RUN",
    "Cell",
    "Column",
    "Format",
    "Section",
    "Table",
    "as_csv",
    "as_dict",
    "choose_format",
    "fragment",
    "insert",
    "markdown_grid",
    "markers",
    "number",
    "print_rich",
    "render",
    "word",
]
