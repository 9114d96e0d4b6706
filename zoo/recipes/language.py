"""The language of configurations in several stages: kinds of stages, references between them, changes from outside.

* a *fit* has the keys of any configuration (`model`, `data`, `trainer`, ...) and may start from `weights`,
* a *call* names a function of the zoo and its `arguments`; its result is the path it returns,
* an *assembly* has a `network` and the `weights` of its parts, and writes one self-describing checkpoint.

Anywhere in a stage, the text `stage:NAME` stands for the result of an earlier stage, and `spec:NAME` for the
description of its network (`spec:NAME.init_args.head` for a part of it).
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import UserError, closest

Stage = dict[str, Any]
KINDS = {"model": "fit", "call": "call", "network": "assembly"}
_REFERENCE = re.compile(r"(stage|spec):([\w-]+)(.*)")
_SHARED = "stages"
"""First word of an option for one stage: `--stages.NAME.trainer.max_steps 5`."""


def checked(stages: Any, path: Path | str) -> list[Stage]:
    """The list of stages; every one has a name of its own and is of one kind.

    Raises:
        UserError: for a malformed list.
    """
    if not isinstance(stages, list):
        raise UserError(f"{path}: stages are a list, each with a name")
    for position, stage in enumerate(stages, 1):
        if not isinstance(stage, dict) or not isinstance(stage.get("name"), str):
            raise UserError(f"{path}: stage {position} has no name; give each stage `name: ...`")
        if sum(key in stage for key in KINDS) != 1:
            raise UserError(
                f"{path}: stage {stage['name']!r} needs one of model (a fit), call or network (an assembly)"
            )
    names = [stage["name"] for stage in stages]
    if len(set(names)) < len(names) or not names:
        raise UserError(f"{path}: stages need different names, got {names}")
    for position, stage in enumerate(stages):
        for name in references(stage):
            if name not in names[:position]:
                raise UserError(
                    f"{path}: stage {stage['name']!r} refers to {name!r}, which does not come before it: "
                    f"{names[:position]}"
                )
    return stages


def references(node: Any) -> list[str]:
    """Names of the stages that a stage refers to."""
    found: list[str] = []
    replaced(node, lambda kind, name, rest: found.append(name))
    return found


def replaced(node: Any, value: Callable[[str, str, str], Any]) -> Any:
    """A copy of a stage with each reference replaced.

    Args:
        node: the stage or a part of it.
        value: from kind (`stage` or `spec`), name and what stands behind it, to what takes the reference's place.
    """
    if isinstance(node, Mapping):
        return {key: replaced(item, value) for key, item in node.items()}
    if isinstance(node, (list, tuple)):
        return [replaced(item, value) for item in node]
    found = _REFERENCE.fullmatch(node) if isinstance(node, str) else None
    return node if found is None else value(*found.groups())


def part_of(spec: Any, rest: str, text: str) -> Any:
    """The part of a network's description that `.init_args.head` names.

    Raises:
        UserError: if it has none.
    """
    for key in rest.split(".")[1:]:
        if not isinstance(spec, Mapping) or key not in spec:
            raise UserError(f"{text} names nothing in the network of that stage")
        spec = spec[key]
    return copy.deepcopy(spec)


def network_of(stage: Mapping[str, Any]) -> Any:
    """The description of the network that a stage makes, or None."""
    model = stage.get("model") or {}
    network = stage.get("network") or model.get("network") or model.get("init_args", {}).get("network")
    if network is None and isinstance(model.get("class_path"), str):
        return {"class_path": model["class_path"], "init_args": dict(model.get("init_args", {}))}
    return network


def networks_of(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every network that a configuration trains, with the name of its stage ("" if there is one network only)."""
    if "stages" not in config:
        network = network_of(config)
        if isinstance(network, Mapping):
            yield "", dict(network)
        return
    described: dict[str, Any] = {}
    for stage in config["stages"]:
        network = replaced(
            network_of(stage), lambda kind, name, rest: part_of(described.get(name), rest, f"{kind}:{name}{rest}")
        )
        if network is not None:
            described[stage["name"]] = network
        if "model" in stage:
            yield stage["name"], network


# -- changes from the command line and from further files -------------------------------------------------------------


def joined(options: Sequence[str]) -> list[str]:
    """Options as one word each: `--name=value`, or `--name` alone."""
    words: list[str] = []
    for word in options:
        if words and not word.startswith("--") and "=" not in words[-1] and words[-1].startswith("--"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def options_for(name: str, options: Sequence[str], names: Sequence[str]) -> list[str]:
    """The options that concern one stage: those for all, and those that name it, without the name.

    Raises:
        UserError: if an option names no stage.
    """
    chosen = []
    for word in joined(options):
        head, _, rest = word.removeprefix("--").partition(".")
        if head != _SHARED:
            chosen.append(word)
            continue
        stage, _, key = rest.partition(".")
        if stage not in names:
            raise UserError(f"{word}: no stage '{stage}'; {closest(stage, names)}")
        if stage == name:
            chosen.append(f"--{key}")
    return chosen


def changed(node: Mapping[str, Any], options: Sequence[str]) -> dict[str, Any]:
    """A copy of a mapping with the values that options `--a.b=value` give."""
    result = copy.deepcopy(dict(node))
    for word in joined(options):
        key, equals, text = word.removeprefix("--").partition("=")
        *parents, last = key.split(".")
        inner = result
        for parent in parents:
            if not isinstance(inner.get(parent), dict):
                inner[parent] = {}
            inner = inner[parent]
        try:
            inner[last] = yaml.safe_load(text) if equals else True
        except yaml.YAMLError:
            inner[last] = text
    return result


def merged(node: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a mapping in which another one's values stand, key by key at any depth."""
    result = copy.deepcopy(dict(node))
    for key, value in other.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return result
