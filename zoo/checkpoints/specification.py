"""Specifications: what class a network is of and with which arguments, as plain JSON that cannot do harm.

A specification is `{"class_path": ..., "init_args": {...}}`, the form that LightningCLI reads from YAML, nested where
an argument is a network itself. It may name classes of the zoo and of trusted plugins, and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from zoo import plugins
from zoo.checkpoints.migrations import migrated
from zoo.errors import UserError, closest

Spec = dict[str, Any]
_PLAIN = re.compile(r"[\w+-]*")
_MOST_NODES = 100_000


def qualified(node: Any) -> Any:
    """A specification, or anything that holds some, with today's arguments and whole class names.

    Raises:
        UserError: at some depth stands a class from elsewhere, or a text that could be read as one.
    """
    try:
        return _checked(_completed(migrated(node)), [_MOST_NODES])
    except RecursionError:
        raise UserError("the network's description is nested too deeply; it is damaged or not one") from None


def _completed(node: Any) -> Any:
    if isinstance(node, Mapping):
        node = {str(key): _completed(value) for key, value in node.items()}
        path = node.get("class_path")
        if isinstance(path, str):
            arguments = node.get("init_args") or {}
            if not isinstance(arguments, Mapping):
                raise UserError(f"class {path!r}: init_args is {arguments!r:.40}, expected arguments by name")
            node |= {"class_path": _whole_name(path), "init_args": dict(arguments)}
        return node
    return [_completed(value) for value in node] if isinstance(node, (list, tuple)) else node


def _whole_name(path: str) -> str:
    import zoo.models

    if "." in path or path in zoo.models.MODULES:
        return path if "." in path else f"zoo.models.{path}"
    found = plugins.find_model(path)
    if found is None:
        raise UserError(f"unknown model {path!r}; {closest(path, zoo.models.MODULES)}")
    return found


def _checked(node: Any, budget: list[int], key: str = "") -> Any:
    """The same, if every text in it is a word or the name of a trusted class: parsers import what looks like a name."""
    budget[0] -= 1
    if budget[0] < 0:
        raise UserError(f"the network's description has more than {_MOST_NODES:,} values; it is damaged or not one")
    if isinstance(node, Mapping):
        for name, value in node.items():
            _checked(value, budget, name)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _checked(value, budget, key)
    elif isinstance(node, str) and not _PLAIN.fullmatch(node) and not plugins.is_trusted(node):
        if re.fullmatch(r"\w+(\.\w+)+", node):
            root = node.rpartition(".")[0]
            raise UserError(
                f"class {node!r}: neither the zoo's nor trusted; if you trust it, say so with --plugins {root} or "
                f"{plugins.VARIABLE}={root}"
            )
        raise UserError(f"{key}={node!r:.60}: expected a word; a description of a network holds no other text")
    return node


def build(spec: Spec, most_tensors: int | None = None, most_elements: int | None = None) -> nn.Module:
    """Build a network from its specification, with every argument checked against the signature.

    Args:
        spec: `{"class_path": "zoo.models.VDVAE", "init_args": {...}}`; a name without dots is looked up in zoo.models
            and the plugins.
        most_tensors: parameters it may have.
        most_elements: numbers that its parameters may hold together.

    Raises:
        UserError: if the class is unknown or not trusted, an argument does not fit, or the network grows too large.

    Example:
        >>> from zoo.checkpoints import build
        >>> build({"class_path": "os.system"})
        Traceback (most recent call last):
        zoo.errors.UserError: class 'os.system': neither the zoo's nor trusted; if you trust it, say so with ...
    """
    from jsonargparse import ArgumentError

    name = str(spec.get("class_path")).rpartition(".")[2]
    try:
        parser, parsed = _parsed(spec)
        with _at_most(most_tensors, most_elements):
            network: nn.Module = parser.instantiate(parsed).network
    except ArgumentError as error:
        raise UserError(f"cannot build {name}: {first_line(error)}") from error
    except (ValueError, TypeError, RuntimeError, OverflowError, MemoryError, IndexError, KeyError) as error:
        raise UserError(f"cannot build {name}: its arguments do not fit together ({first_line(error)})") from error
    return network


def _parsed(spec: Spec) -> tuple[Any, Any]:
    """A parser for one network, and the specification with all defaults filled in."""
    from jsonargparse import ArgumentParser

    spec = qualified(spec)
    module, _, name = str(spec.get("class_path")).rpartition(".")
    import zoo.models

    if module == "zoo.models" and name not in zoo.models.MODULES:
        raise UserError(f"unknown model {name!r}; {closest(name, zoo.models.MODULES)}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--network", type=nn.Module)
    return parser, parser.parse_object({"network": spec})


@contextlib.contextmanager
def _at_most(tensors: int | None, elements: int | None) -> Iterator[None]:
    """Stop a network that registers more parameters than this, before their memory is written."""
    left = {"tensors": tensors, "elements": elements}

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is None or module._parameters.get(name) is not None:
            return  # nothing new
        for what, size in (("tensors", 1), ("elements", parameter.numel())):
            allowed = left[what]
            if allowed is not None:
                left[what] = allowed - size
                if allowed < size:
                    raise UserError("the description asks for a larger network than the file holds weights for")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def first_line(error: BaseException) -> str:
    """An error's text on one line, not too long."""
    return " ".join(str(error).split())[:300] or type(error).__name__


# -- identity ----------------------------------------------------------------------------------------------------------


def canonical(spec: Spec) -> list[str]:
    """What a specification says, whatever its arguments are called and however they are grouped.

    Returns:
        The class's name, and all values that differ from the defaults, in sorted order. Writing out a default,
        renaming an argument or adding one with a default changes nothing.
    """
    _, parsed = _parsed(spec)
    return sorted(_stated(_plain(parsed.network)))


def _plain(node: Any) -> Any:
    """Parsed arguments as JSON types."""
    if hasattr(node, "as_dict"):
        return _plain(node.as_dict())
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return _plain(dataclasses.asdict(node))
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, (list, tuple)) else node


def _stated(node: Any, default: Any = None) -> Iterator[str]:
    """Every value that is not the default's; lists count as a whole, networks by what they state themselves."""
    if isinstance(node, Mapping) and isinstance(node.get("class_path"), str):
        path = node["class_path"]
        yield path.rpartition(".")[2]
        defaults = _defaults(path)
        for name, value in (node.get("init_args") or {}).items():
            yield from _stated(value, defaults.get(name))
    elif isinstance(node, Mapping):
        before = default if isinstance(default, Mapping) else {}
        for name, value in node.items():
            yield from _stated(value, before.get(name))
    elif isinstance(node, list) and any(isinstance(item, Mapping) for item in node):
        yield json.dumps([sorted(_stated(item)) for item in node])
    elif node is not None and node != default:
        number = isinstance(node, (int, float)) and not isinstance(node, bool)
        yield json.dumps(float(node) if number else node)


def _defaults(path: str) -> dict[str, Any]:
    """Defaults of a class's arguments, groups spread out."""
    module, _, name = path.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    return {p.name: _plain(p.default) for p in parameters if p.default is not inspect.Parameter.empty}


def identity(spec: Spec, digest: str) -> bytes:
    """12 bytes that name architecture and weights together; coded files and records carry them."""
    return hashlib.sha256(json.dumps([canonical(spec), digest]).encode()).digest()[:12]
