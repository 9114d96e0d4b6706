"""`zoo bench`: tables of published beside measured numbers, and the demo that produces the measured ones."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from zoo.errors import UserError, closest

SUITES = ("demo",)


def run(argv: list[str]) -> int:
    """Run `zoo bench` with these arguments."""
    for flag in ("data", "sampling"):  # reading and drawing images have tables of their own
        if _peek(argv, "--table") == "speed" and f"--{flag}" in argv:
            argv = [f"speed_{flag}" if word == "speed" else word.replace("=speed", f"=speed_{flag}") for word in argv]
            argv.remove(f"--{flag}")
    name, suite = _peek(argv, "--table"), _peek(argv, "--suite")
    if name and suite:
        raise UserError("zoo bench: --table and --suite exclude each other; give one of them")
    if suite is not None:
        if suite not in SUITES:
            raise UserError(f"--suite {suite}: no such suite; {closest(suite, SUITES)}")
        from zoo.benchmarks.suite import demo

        parser = _parser("trains, prices and codes with every family that ships; writes leaderboard, samples, records")
        parser.add_argument("--suite", type=Literal["demo"], help="what to run")
        parser.add_function_arguments(demo, fail_untyped=False)
        values = _parse(parser, argv, demo)
        values.pop("suite")
        demo(**values)
        return 0
    if name is None:
        parser = _parser(_overview())
        parser.add_argument("--table", help="table to print")
        parser.add_argument("--suite", help="suite to run")
        parser.add_function_arguments(show, skip={"table", "options"})
        _parse(parser, argv, show)
        raise UserError("zoo bench: give --table NAME or --suite demo; `zoo bench --help` lists the tables")
    from zoo.benchmarks import tables

    build = tables.find(name)
    parser = _parser(tables.TABLES[name].summary)
    parser.add_argument("--table", type=str, help="table to print")
    parser.add_function_arguments(show, skip={"table", "options"})
    parser.add_function_arguments(build, nested_key=None, skip={"records", "references"}, fail_untyped=False)
    values = _parse(parser, argv, build)
    common = {key: values.pop(key) for key in ("format", "output", "records")}
    show(values.pop("table"), options=values, **common)
    return 0


def show(
    table: str,
    options: dict[str, Any],
    format: Literal["rich", "markdown", "json", "html"] | None = None,
    output: str | None = None,
    records: str | None = None,
) -> None:
    """Build a table and print or write it.

    Args:
        table: name of the table.
        options: arguments of the table itself.
        format: form of the table; default: from the suffix of --output, else rich.
        output: file to write (.md, .json, .html, .txt); default: print. In a markdown file that has the lines
            `<!-- table NAME -->` and `<!-- end of table NAME -->`, only what is between them is replaced.
        records: file or folder of records; default: the shipped ones and ./records.
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


def _parser(description: str) -> Any:
    """A parser whose errors are one line."""
    import argparse

    import jsonargparse

    class Help(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        """Keeps the line breaks of the description."""

    return jsonargparse.ArgumentParser(
        prog="zoo bench", description=description, exit_on_error=False, formatter_class=Help
    )


def _parse(parser: Any, argv: list[str], function: Callable[..., Any]) -> dict[str, Any]:
    """Parsed values as a plain dictionary; a switch of `function` may stand without a value.

    Raises:
        UserError: an unknown flag or a value of the wrong type.
    """
    import argparse

    from zoo.cli.functions import spelled_out
    from zoo.cli.parsing import explain, option_names

    parameters = {
        name: parameter.replace(annotation=bool) if parameter.annotation == "bool" else parameter
        for name, parameter in inspect.signature(function).parameters.items()
    }
    try:
        return parser.parse_args(spelled_out(argv, parameters)).as_dict()
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise UserError(explain(error, "bench", option_names(parser))) from error


def _peek(argv: list[str], flag: str) -> str | None:
    """Value of a flag before the full parser is known, which depends on it."""
    for position, argument in enumerate(argv):
        if argument == flag:
            if position + 1 == len(argv) or argv[position + 1].startswith("-"):
                raise UserError(f"{flag}: expected a name behind it; `zoo bench --help` lists them")
            return argv[position + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


def _overview() -> str:
    """The list of tables, for the help text."""
    from zoo.benchmarks.tables import TABLES

    width = max(map(len, TABLES))
    rows = "\n".join(f"  {name:<{width}}  {info.summary}" for name, info in TABLES.items())
    return (
        "Published beside measured numbers (--table NAME), or the demo that measures (--suite demo).\n\n"
        f"tables:\n{rows}\n\n`zoo bench --table NAME --help` and `zoo bench --suite demo --help` show their own flags."
    )
