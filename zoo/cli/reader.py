"""The one reader of command lines: a typed function is a command, its signature and docstring are options and help.

Parameters before the `*` of a signature are words, in order; a list among them takes any number. Those behind it are
options: `--name value`, `--name=value`, dashes or underscores, several times for a list, `--name` alone for a switch.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import UserError, closest

METAVAR = {"checkpoint": "CKPT"}
_SHORT = {"-h": "--help", "-c": "--config"}
_NUMBER = re.compile(r"-\.?\d.*")


def call(
    function: Callable[..., Any],
    argv: Sequence[str],
    command: str,
    more: Callable[..., Any] | None = None,
    skip: Collection[str] = (),
) -> int:
    """Read the arguments of a typed function and call it.

    A function with `*options: str` gets what it does not know, for a parser behind it; with `*rest: str` it gets
    `--help` as well. A function with a `**` parameter takes the options of `more`.

    Args:
        function: the command.
        argv: arguments behind the command's name.
        command: its name, for help and errors.
        more: a second function whose parameters are options of this command.
        skip: parameters of `more` that are no options.

    Returns:
        What the function returns if that is a status, else 0.

    Raises:
        UserError: if an argument is unknown, missing or of the wrong type.
    """
    form = _Form.of(function, more, skip)
    given = _split(argv, form, command)
    if "help" in given.options and "rest" not in form.parameters:
        print(form.parser(command).format_help(), end="")
        return 0
    help_asked = ["--help"] if given.options.pop("help", None) else []
    values = _typed(form, given, command)
    words = [values.pop(name) for name in form.words]
    return function(*words, *(given.unknown + help_asked if form.passes_on else []), **values) or 0


@dataclass(frozen=True)
class _Given:
    """An argument list taken apart."""

    words: list[str] = field(default_factory=list)
    options: dict[str, list[str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Form:
    """What a command accepts."""

    function: Callable[..., Any]
    more: Callable[..., Any] | None
    skip: frozenset[str]
    parameters: dict[str, inspect.Parameter]

    @classmethod
    def of(cls, function: Callable[..., Any], more: Callable[..., Any] | None, skip: Collection[str]) -> _Form:
        parameters = dict(inspect.signature(function).parameters)
        if more is not None:
            further = inspect.signature(more).parameters
            parameters |= {
                name: parameter.replace(kind=parameter.KEYWORD_ONLY)
                for name, parameter in further.items()
                if name not in skip
            }
        return cls(function, more, frozenset(skip), parameters)

    def _of_kind(self, *kinds: Any) -> list[str]:
        return [name for name, parameter in self.parameters.items() if parameter.kind in kinds]

    @property
    def words(self) -> list[str]:
        return self._of_kind(inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

    @property
    def options(self) -> list[str]:
        return self._of_kind(inspect.Parameter.KEYWORD_ONLY)

    @property
    def passes_on(self) -> bool:
        return bool(self._of_kind(inspect.Parameter.VAR_POSITIONAL))

    def takes_word(self, count: int) -> bool:
        """Whether another word is one of the command's own, or (without a reader behind it) an error of its own."""
        return not self.passes_on or count < len(self.words)

    def is_switch(self, name: str) -> bool:
        return name in self.parameters and "bool" in _annotation(self.parameters[name]).split(" | ")

    def is_list(self, name: str) -> bool:
        return _annotation(self.parameters[name]).startswith("list[")

    def is_required(self, name: str) -> bool:
        return self.parameters[name].default is inspect.Parameter.empty

    def parser(self, command: str) -> Any:
        """A parser of the same arguments, for types and help."""
        import docstring_parser
        import jsonargparse

        functions = [self.function, *([self.more] if self.more else [])]
        documented = [docstring_parser.parse(inspect.getdoc(function) or "") for function in functions]
        parser = jsonargparse.ArgumentParser(
            prog=f"zoo {command}",
            description=documented[-1].short_description,
            exit_on_error=False,
            formatter_class=_formatter(),
        )
        described = {found.arg_name: found.description for page in documented for found in page.params}
        for name in self.words:
            many = "*" if self.is_list(name) else None if self.is_required(name) else "?"
            shown = METAVAR.get(name, name.upper())
            default = {} if self.is_required(name) else {"default": self.parameters[name].default}
            parser.add_argument(name, type=str, nargs=many, metavar=shown, help=described.get(name), **default)
        own: set[str | int] = {name for name in self.parameters if name not in self.options}
        parser.add_function_arguments(self.function, skip=own, fail_untyped=False)
        if self.more is not None:
            parser.add_function_arguments(self.more, skip=set(self.skip), fail_untyped=False)
        return parser


def _annotation(parameter: inspect.Parameter) -> str:
    """An annotation as text, whether or not the module postpones their evaluation."""
    kind = parameter.annotation
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind)) if kind is bool else str(kind)


def _formatter() -> type:
    import jsonargparse

    class Help(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        """Keeps the line breaks of a description."""

    return Help


def _split(argv: Sequence[str], form: _Form, command: str) -> _Given:
    """Take an argument list apart into words and options."""
    given, queue = _Given(), [_SHORT.get(word, word) for word in argv]
    while queue:
        word = queue.pop(0)
        if word == "--":
            given.words.extend(queue)
            break
        if not _is_option(word):
            (given.words if form.takes_word(len(given.words)) else given.unknown).append(word)
            continue
        spelt, equals, value = word[2:].partition("=")
        name = spelt if "." in spelt else spelt.replace("-", "_")
        known = name in form.options
        if name == "help":
            given.options["help"] = ["true"]
        elif known:
            given.options.setdefault(name, []).append(value if equals else _value(name, spelt, queue, form))
        elif form.passes_on:
            # A value must not be taken for one of the command's own words.
            if not equals and form.takes_word(len(given.words)) and queue and not _is_option(queue[0]):
                equals, value = "=", queue.pop(0)
            given.unknown.append(f"--{name}{equals}{value}")
        else:
            raise UserError(f"no option '--{spelt}'; {closest(name, form.options)} (zoo {command} --help)")
    return given


def _is_option(word: str) -> bool:
    return word.startswith("-") and len(word) > 1 and not _NUMBER.fullmatch(word)


def _value(name: str, spelt: str, queue: list[str], form: _Form) -> str:
    """The value behind an option; a switch needs none."""
    if form.is_switch(name):
        return queue.pop(0) if queue and queue[0].lower() in ("true", "false", "null") else "true"
    if not queue or _is_option(queue[0]):
        raise UserError(f"--{spelt}: expected a value behind it")
    return queue.pop(0)


def _typed(form: _Form, given: _Given, command: str) -> dict[str, Any]:
    """Values by parameter, of the types that the signatures ask for."""
    import json

    from zoo.recipes.explain import explain

    words = list(given.words)
    single = [name for name in form.words if not form.is_list(name)]
    missing = [name for name in single[len(words) :] if form.is_required(name)]
    if missing:
        raise UserError(f"zoo {command}: no {METAVAR.get(missing[0], missing[0].upper())} given (zoo {command} --help)")
    if len(words) > len(single) and len(single) == len(form.words):
        raise UserError(
            f"unexpected argument '{words[len(single)]}'; options are given as --name value (zoo {command} --help)"
        )
    absent = [name for name in form.options if form.is_required(name) and name not in given.options]
    if absent:
        raise UserError(f"zoo {command}: no --{absent[0]} given (zoo {command} --help)")
    for name, values in given.options.items():
        listed = form.is_list(name) and not (len(values) == 1 and values[0].startswith("["))
        words.append(f"--{name}={json.dumps(values) if listed else values[-1]}")
    try:
        result: dict[str, Any] = form.parser(command).parse_args(words).as_dict()
        return result
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise UserError(explain(error, command, form.options)) from error
