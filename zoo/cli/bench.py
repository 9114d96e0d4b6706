"""`zoo bench`: tables of published beside measured numbers, and the demo that produces the measured ones."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from zoo.cli.reader import call
from zoo.errors import UserError, closest

SUITES = ("demo",)


def bench(*rest: str, table: str | None = None, suite: str | None = None) -> int:
    """Print a table, or run the demo.

    Args:
        rest: those of the table or of the suite.
        table: table to print.
        suite: suite to run.
    """
    if table and suite:
        raise UserError("zoo bench: --table and --suite exclude each other; give one of them")
    if table == "all":
        return call(show_all, rest, "bench --table all")
    if table is not None:
        from zoo.benchmarks import tables

        _refuse_measuring(table, rest)
        build = tables.find(table)
        return call(show, [f"--table={table}", *rest], f"bench --table {table}", build, {"records", "references"})
    if suite is not None:
        if suite not in SUITES:
            raise UserError(f"--suite {suite}: no such suite; {closest(suite, SUITES)}")
        from zoo.benchmarks.suite import demo

        return call(demo, rest, f"bench --suite {suite}")
    if "--help" not in rest:
        raise UserError("zoo bench: give --table NAME or --suite demo; `zoo bench --help` lists the tables")
    print(_overview())
    return 0


MEASURING = {"measure", "checkpoint", "checkpoints", "samples", "model", "models", "priors", "save"}
"""Options that tables had while they measured."""


def _refuse_measuring(table: str, words: Sequence[str]) -> None:
    """Name the command that measures, where an option of earlier versions asks a table to."""
    for word in words:
        if word.startswith("--") and word[2:].partition("=")[0] in MEASURING:
            raise UserError(
                f"zoo bench --table {table} {word}: tables only show records; "
                "`zoo measure QUESTION CKPT` makes them (`zoo measure --help` lists the questions)"
            )


def show(
    *,
    table: str,
    format: Literal["rich", "markdown", "json", "csv", "html"] | None = None,
    output: str | None = None,
    records: str | None = None,
    **options: Any,
) -> None:
    """Build a table and print or write it.

    Args:
        table: name of the table.
        format: form of the table; default: from the suffix of --output, else rich.
        output: file to write (.md, .json, .csv, .html, .txt); default: print. In a markdown file that has the lines
            `<!-- table NAME -->` and `<!-- end of table NAME -->`, only what is between them is replaced.
        records: file or folder of records; default: the shipped ones and ./records.
        options: arguments of the table itself.
    """
    from zoo.benchmarks import records as store
    from zoo.benchmarks import render, tables
    from zoo.benchmarks.records import references
    from zoo.files import atomic_path

    form = render.choose_format(format, output)
    built = tables.find(table)(store.collect(records), references.load(), **options)
    if output is not None:
        target, text = Path(output), None
        if form == "markdown" and target.is_file():
            text = render.insert(target.read_text(encoding="utf-8"), built)
        with atomic_path(target) as path:
            path.write_text(render.render(built, form) if text is None else text, encoding="utf-8")
        print(f"wrote {Path(output)}")
    elif form == "rich":
        render.print_rich(built)
    else:
        sys.stdout.write(render.render(built, form))


def show_all(
    *,
    format: Literal["rich", "markdown", "json", "csv", "html"] | None = None,
    output: str | None = None,
    records: str | None = None,
) -> None:
    """Build every table from stored records and print or write them together; .html is one page with filters.

    Args:
        format: form of the tables; default: from the suffix of --output, else rich.
        output: file to write (.md, .json, .csv, .html, .txt); default: print.
        records: file or folder of records; default: the shipped ones and ./records.
    """
    from zoo.benchmarks import records as store
    from zoo.benchmarks import render, tables
    from zoo.benchmarks.records import references
    from zoo.files import atomic_path

    form = render.choose_format(format, output)
    built = tables.build_all(store.collect(records), references.load())
    if output is not None:
        with atomic_path(output) as path:
            path.write_text(render.render(built, form), encoding="utf-8")
        print(f"wrote {output}: {len(built)} tables")
    elif form == "rich":
        render.print_rich(built)
    else:
        sys.stdout.write(render.render(built, form))


def _overview() -> str:
    """The text of `zoo bench --help`."""
    from zoo.benchmarks.tables import known

    width = max(map(len, known()))
    rows = "\n".join(f"  {name:<{width}}  {info.summary}" for name, info in known().items())
    return (
        "usage: zoo bench --table NAME|all [OPTIONS] | --suite demo [OPTIONS]\n\n"
        "Published beside measured numbers (--table NAME), or the demo that measures (--suite demo).\n\n"
        f"tables:\n{rows}\n\n`zoo bench --table NAME --help` and `zoo bench --suite demo --help` show their own flags."
    )
