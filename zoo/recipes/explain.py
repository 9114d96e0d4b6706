"""Errors of jsonargparse in one line, with the nearest accepted word."""

import importlib
import inspect
import re
from collections.abc import Iterable
from typing import Any

from zoo.errors import closest


def explain(error: Exception, command: str, options: Iterable[str] = ()) -> str:
    """What the user got wrong, in one line.

    Args:
        error: what the parser raised.
        command: name of the command, for the advice.
        options: all options of the parser, without dashes.
    """
    options = list(options)
    text = " ".join(str(error).split())
    # "Parser key "a": Problem with given class_path 'B': Parser key "c": ..." -> the path a.c and the innermost problem
    keys = ".".join(re.findall(r'Parser key "([^"]+)":', text))
    classes = re.findall(r"Problem with given class_path '([^']+)':", text)
    core = re.split(r"""Parser key "[^"]+":|Problem with given class_path '[^']+':""", text)[-1].strip()
    for pattern, rule in _RULES:
        found = re.search(pattern, core)
        if found:
            result: str = rule(keys, found, classes, options) + f" (zoo {command} --help)"
            return result
    return f"{keys + ': ' if keys else ''}{core} (zoo {command} --help)"


def _unknown_model(keys: str, found: re.Match[str], classes: list[str], options: list[str]) -> str:
    import zoo.models

    name = found.group(1).rpartition(".")[2]
    return f"{keys or 'model.network'}: no class '{name}'; {closest(name, zoo.models.__all__)}"


def _wrong_class(keys: str, found: re.Match[str], classes: list[str], options: list[str]) -> str:
    import zoo.models

    return f"{keys}: '{found.group(1)}' is no {found.group(2)}; choose from: {', '.join(sorted(zoo.models.__all__))}"


def _unknown_argument(keys: str, found: re.Match[str], classes: list[str], options: list[str]) -> str:
    name = found.group("name")
    if classes:
        owner, known = classes[-1].rpartition(".")[2], _arguments(classes[-1])
        return f"{keys}: {owner} has no argument '{name}'; {closest(name, known)}"
    group = found.groupdict().get("group")
    full = f"{group}.{name}" if group else name
    return f"no option '{full}'; {closest(full, options)}"


def _unrecognized(keys: str, found: re.Match[str], classes: list[str], options: list[str]) -> str:
    word = found.group(1).split()[0]
    if not word.startswith("-"):
        return f"unexpected argument '{word}'; options are given as --name value"
    name = word.lstrip("-").partition("=")[0]
    return f"no option '--{name}'; {closest(name, options)}"


def _wrong_value(keys: str, found: re.Match[str], classes: list[str], options: list[str]) -> str:
    given = f"{keys}={found['value']}" if "." in keys else f"--{keys} {found['value']}"
    literal = re.search(r"Literal\[(.*?)\]", found["kind"])
    if literal:
        choices = [choice.strip().strip("'\"") for choice in literal.group(1).split(",")]
        return f"{given}: {closest(found['value'], choices)}"
    return f"{given}: expected {_readable(found['kind'])}"


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "Path": "a path"}


def _readable(kinds: str) -> str:
    """Types as jsonargparse writes them, in words: `<class 'int'>, <class 'NoneType'>` -> "a whole number"."""
    plain = re.sub(r"<class '([^']+)'>", r"\1", kinds).replace("typing.", "")
    parts = [part.strip().rpartition(".")[2] for part in re.split(r",\s*(?![^\[]*\])", plain)]
    return " or ".join(_KINDS.get(part, part) for part in parts if part != "NoneType")


def _required(keys: str, found: re.Match[str], classes: list[str], options: list[str]) -> str:
    if classes:
        return f"{keys}: {classes[-1].rpartition('.')[2]} needs {found.group(1)}"
    return f"no {found.group(1)} given; name a configuration with --config configs/NAME.yaml"


_RULES: list[tuple[str, Any]] = [
    (r"has no attribute '([^']+)'", _unknown_model),
    (r"Expected a dot import path string: (\S+)", _unknown_model),
    (r"Import path (\S+) does not correspond to a subclass of (\w+)", _wrong_class),
    (r"Group '(?P<group>[^']+)' does not accept option '(?P<name>[^']+)'", _unknown_argument),
    (r"Option '(?P<name>[^']+)' is not accepted", _unknown_argument),
    (r"unrecognized arguments: (.+)", _unrecognized),
    (r"Union subtypes Subtypes: \[(?P<kind>.+)\] Errors: .* Given value: (?P<value>.+)", _wrong_value),
    (r"Expected an? (?P<kind>.+?)\. Got value: (?P<value>.+)", _wrong_value),
    (r"arguments are required: (.+)", _required),
]


def _arguments(class_path: str) -> list[str]:
    """Names of a class's arguments."""
    module, _, name = class_path.rpartition(".")
    try:
        return [p for p in inspect.signature(getattr(importlib.import_module(module), name)).parameters if p != "self"]
    except (ImportError, AttributeError, ValueError, TypeError):
        return []


def option_names(parser: Any) -> list[str]:
    """All options of a parser, without dashes."""
    return [option.lstrip("-") for action in parser._actions for option in action.option_strings if len(option) > 2]
