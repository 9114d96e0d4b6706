"""Commands that are plain typed functions: signature and docstring become options and help."""

import argparse
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.cli.parsing import explain, option_names
from zoo.errors import UserError


def call(function: Callable[..., Any], argv: list[str], command: str, positional: Sequence[str] = ()) -> int:
    """Parse the arguments of a typed function and call it.

    Args:
        function: its signature and Google docstring are the interface.
        argv: arguments behind the command's name.
        command: name of the command, for help and errors.
        positional: parameters given without their name; a list among them takes any number of words.

    Returns:
        0; the command's errors are exceptions.

    Raises:
        UserError: if an argument is unknown, missing or of the wrong type.
    """
    import docstring_parser
    import jsonargparse

    parsed = docstring_parser.parse(inspect.getdoc(function) or "")
    described = {parameter.arg_name: parameter.description for parameter in parsed.params}
    parser = jsonargparse.ArgumentParser(
        prog=f"zoo {command}", description=parsed.short_description, exit_on_error=False
    )
    parameters = inspect.signature(function).parameters
    for name in positional:
        many = "list" in str(parameters[name].annotation)
        parser.add_argument(name, type=str, nargs="*" if many else None, help=described.get(name))
    parser.add_function_arguments(function, skip=set(positional), fail_untyped=False)
    try:
        values = parser.parse_args(spelled_out(argv, parameters)).as_dict()
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise UserError(explain(error, command, option_names(parser))) from error
    function(**values)
    return 0


def spelled_out(argv: list[str], parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Options as the parser knows them: `--reduce-bits` becomes `--reduce_bits true`."""
    words = []
    for position, word in enumerate(argv):
        if not word.startswith("--"):
            words.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        words.append(f"--{name}{equals}{value}")
        following = argv[position + 1] if position + 1 < len(argv) else ""
        is_switch = name in parameters and parameters[name].annotation in (bool, bool | None)
        if is_switch and not equals and following.lower() not in ("true", "false", "null"):
            words.append("true")
    return words
