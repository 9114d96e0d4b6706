"""Every configuration parses, builds on the meta device and has the number of parameters it states."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.cli.processes import ROOT
from zoo.recipes.lightning import ZooCLI
from zoo.recipes.training import data_class, module_class

FILES = sorted((ROOT / "configs").rglob("*.yaml"))
STATED = re.compile(r"^# parameters(?: of (?P<stage>[\w-]+))?: (?P<count>[\d_,]+)", re.MULTILINE)


class Parsed(ZooCLI):
    """Checks all of a configuration as `zoo fit` does, and builds only the module, without memory."""

    def instantiate_classes(self) -> None:
        with torch.device("meta"):
            self.model = self.parser.instantiate_classes(self.config).model


def reference(node: Any, specs: dict[str, Any]) -> Any:
    """A stage with `spec:NAME.path` replaced by the network that the earlier stage describes."""
    if isinstance(node, dict):
        return {key: reference(value, specs) for key, value in node.items()}
    if isinstance(node, list):
        return [reference(value, specs) for value in node]
    if isinstance(node, str) and node.startswith("spec:"):
        name, *path = node.removeprefix("spec:").split(".")
        found = specs[name]
        for key in path:
            found = found[key]
        return copy.deepcopy(found)
    return node


def fits(content: dict[str, Any]) -> list[tuple[str | None, dict[str, Any]]]:
    """The fits of a configuration, by stage name, ready to parse."""
    if "stages" not in content:
        return [(None, content)]
    specs: dict[str, Any] = {}
    found = []
    for stage in content["stages"]:
        stage = reference(stage, specs)
        if "network" in stage:
            specs[stage["name"]] = stage["network"]
        if "model" in stage:
            model = stage["model"]
            specs[stage["name"]] = model.get("network") or model["init_args"]["network"]
            found.append((stage["name"], {key: stage[key] for key in stage if key not in ("name", "weights")}))
    return found


def stated(text: str) -> dict[str | None, int]:
    """Numbers of parameters that the comments state, by stage."""
    return {found["stage"]: int(re.sub(r"[_,]", "", found["count"])) for found in STATED.finditer(text)}


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT / "configs")) for path in FILES])
def test_configuration_builds_with_the_stated_size(path: Path):
    text = path.read_text()
    sizes = {}
    for name, content in fits(yaml.safe_load(text)):
        network = Parsed([content], [], "fit", None, module_class([content]), data_class([content])).model.network
        sizes[name] = sum(parameter.numel() for parameter in network.parameters())
    numbers = stated(text)
    assert numbers.keys() <= sizes.keys()
    assert numbers == {name: sizes[name] for name in numbers}
    if path.parent.name != "demo":
        assert numbers, "a published configuration states its size: `# parameters: N`"


def test_there_are_configurations():
    assert FILES
