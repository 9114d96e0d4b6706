"""Code of others that the zoo was told to trust: models, data sets, importers and tables of your own.

A plugin is a module. Naming it with `--plugins my_module` or in `ZOO_PLUGINS` imports it and lets checkpoints name its
classes; what it adds to `zoo.data.datasets.DATASETS`, `zoo.checkpoints.SOURCES` or `zoo.benchmarks.tables.TABLES` is
known everywhere. An installed package needs no such word if it has entry points in one of the groups below.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Sequence
from typing import Any

from zoo.errors import UserError

VARIABLE = "ZOO_PLUGINS"
"""Environment variable: names of trusted modules, separated by commas."""
MODELS, DATASETS, IMPORTERS, TABLES = (f"zoo.{kind}" for kind in ("models", "datasets", "importers", "tables"))
"""Groups of entry points."""


def names() -> list[str]:
    """The modules that were named, in order."""
    return [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]


def trust(*modules: str) -> None:
    """Trust modules for the rest of this process and in the processes it starts, and import them.

    Raises:
        UserError: one cannot be imported.
    """
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*names(), *modules]))
    import_all()


def take_option(words: Sequence[str]) -> list[str]:
    """Words of a command line without `--plugins NAMES`, whose names are trusted from now on.

    Raises:
        UserError: no name follows, or a module cannot be imported.
    """
    rest, named = [], []
    iterator = iter(words)
    for word in iterator:
        option, equals, value = word.partition("=")
        if option != "--plugins":
            rest.append(word)
            continue
        value = value if equals else next(iterator, "")
        if not value:
            raise UserError("--plugins: name one or several modules, separated by commas")
        named.append(value)
    trust(*(name for value in named for name in value.split(",")))
    return rest


def import_all() -> None:
    """Import every module that was named.

    Raises:
        UserError: one cannot be imported.
    """
    for name in names():
        try:
            importlib.import_module(name)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"plugin {name}: cannot be imported ({reason}); check {VARIABLE} and --plugins") from error


@functools.cache
def _entry_points(group: str) -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=group)}


def installed(group: str) -> dict[str, Any]:
    """Name -> object of the entry points of a group, in the installed packages.

    Raises:
        UserError: one cannot be imported.
    """
    found = {}
    for name, point in _entry_points(group).items():
        try:
            found[name] = point.load()
        except Exception as error:
            raise UserError(f"plugin {point.value}: cannot be imported ({error}); update or remove it") from error
    return found


def modules(group: str) -> dict[str, str]:
    """Name -> module of the entry points of a group, not imported."""
    return {name: str(point.value).partition(":")[0] for name, point in _entry_points(group).items()}


def is_trusted(path: str) -> bool:
    """Whether a class or function of this full name belongs to the zoo or to a plugin."""
    packages = {module.partition(".")[0] for module in modules(MODELS).values()}
    return any(path.startswith(f"{name}.") for name in ("zoo", *names(), *packages))


def find_model(name: str) -> str | None:
    """Full name of a plugin's class from its short name, or None."""
    point = _entry_points(MODELS).get(name)
    if point is not None:
        return str(point.value).replace(":", ".")
    import_all()
    for module in names():
        if hasattr(importlib.import_module(module), name):
            return f"{module}.{name}"
    return None
