"""Reading configurations: each file once, into plain mappings."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from zoo.checkpoints.configurations import find_configuration
from zoo.errors import UserError

Config = dict[str, Any]
_MOST_NODES = 100_000


def read_config(name: Path | str) -> Config:
    """A configuration as a mapping.

    Args:
        name: a file, or the name of a published configuration (`vdvae_cifar10`).

    Raises:
        UserError: there is no such file, or it is no YAML mapping.
    """
    path = find_configuration(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise UserError(
            f"{path}{line}: not valid YAML; {getattr(error, 'problem', None) or 'check the file'}"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a configuration is a mapping with the keys model, data and trainer")
    if _nodes(content, _MOST_NODES) < 0:
        raise UserError(f"{path}: more than {_MOST_NODES:,} values, or one that contains itself; check its aliases (*)")
    return content


def _nodes(node: Any, budget: int) -> int:
    """What is left of a budget of values; below 0 if there are more (an alias counts as often as it is used)."""
    budget -= 1
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        if budget < 0:
            break
        try:
            budget = _nodes(child, budget)
        except RecursionError:
            return -1
    return budget


def as_words(content: Mapping[str, Any]) -> str:
    """A configuration as one word of a command line, for a parser of Lightning's."""
    return f"--config={json.dumps(content, default=str)}"


def setting(contents: list[Config], key: str) -> Any:
    """The value of a top-level key in the last configuration that states one, or None."""
    stated = [content[key] for content in contents if content.get(key) is not None]
    return stated[-1] if stated else None
