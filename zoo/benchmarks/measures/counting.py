"""Counts what a network would need without running it: parameters, FLOPs and saved activations on the meta device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from zoo.benchmarks.records import Measurement, stamp
from zoo.checkpoints.configurations import configurations_folder
from zoo.checkpoints.specification import Spec, build
from zoo.errors import UserError
from zoo.likelihood import LikelihoodModel


@dataclass(frozen=True)
class Count:
    """What one network of one configuration needs.

    Attributes:
        config: stem of the file; `stage` names the network if the file has several.
        parameters: trained scalars; -1 if the network could not be built.
        forward, backward: FLOPs for one image (a multiply and an add are two), matrix products and convolutions.
        saved: bytes that one image's forward pass keeps for the backward pass, parameters not included.
        problem: why something is missing, in words.
        reproduces: rows of the published tables that the configuration names, if it describes one network.
    """

    config: str
    stage: str
    model: str
    shape: tuple[int, ...] = ()
    bits: int = 0
    parameters: int = -1
    forward: int | None = None
    backward: int | None = None
    saved: int | None = None
    problem: str = ""
    reproduces: tuple[str, ...] = ()


class FlopTally(TorchDispatchMode):
    """Adds up FLOPs by torch's own table of formulas; twice as fast as its counter, which also tracks modules.

    A model that looks at a value on the meta device is given 0 (or False): it may only choose between ways that cost
    the same.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return torch.zeros((), dtype=args[0].dtype, device="cpu").item()  # a model asks for a value: there is none
        if func is torch.ops.aten.bincount.default and args[0].is_meta:  # its length would depend on values
            return torch.empty((kwargs or {}).get("minlength", args[2] if len(args) > 2 else 0), device="meta").long()
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Adds up the memory that autograd keeps, each storage once, those of `module`'s own tensors left out."""

    def __init__(self, module: nn.Module) -> None:
        own = [*module.parameters(), *module.buffers()]
        self._known = {tensor.untyped_storage()._cdata for tensor in own}
        self._alive: list[Tensor] = []  # keeps identities of storages from being reused
        self.total = 0
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self._alive.append(tensor.detach())
            self.total += storage.nbytes()
        return tensor


def count_network(spec: Spec, config: str = "", stage: str = "") -> Count:
    """Build a network on the meta device and push one image through it and back.

    Args:
        spec: class path and arguments.
        config: name for the result.
        stage: name of the network within the configuration.
    """
    found = Count(config, stage, str(spec.get("class_path", "?")).rpartition(".")[2])
    try:
        with torch.device("meta"):
            network = build(spec).train()
    except (UserError, ValueError, RuntimeError, NotImplementedError) as error:
        return replace(found, problem=f"not built: {_reason(error)}")
    found = replace(found, parameters=sum(p.numel() for p in network.parameters()))
    if not isinstance(network, LikelihoodModel):
        return replace(found, problem="has no objective of its own: trained by another module")
    found = replace(found, bits=network.bits, shape=tuple(network.image_shape))
    try:
        forward, backward, saved = _one_image(network)
    except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
        return replace(found, problem=f"needs values, which the meta device has not: {_reason(error)}")
    return replace(found, forward=forward, backward=backward, saved=saved)


def _one_image(network: LikelihoodModel) -> tuple[int, int, int]:
    """FLOPs of the forward pass, of the backward pass, and bytes saved in between."""
    with torch.device("meta"):
        x = network.example()
        label = torch.zeros(1, dtype=torch.int64)
        saved = SavedBytes(network)
        with FlopTally() as forward, saved, _without_autocast():
            loss = network.objective(x, label, 0).loss
    with FlopTally() as backward:
        loss.backward()
    return forward.total, backward.total, saved.total


@contextmanager
def _without_autocast() -> Iterator[None]:
    """The meta device has no mixed precision, not even switched off; counts are for float32."""
    real = torch.autocast
    torch.autocast = lambda device_type, *args, **kwargs: (  # type: ignore[assignment, misc]
        nullcontext() if device_type == "meta" else real(device_type, *args, **kwargs)
    )
    try:
        yield
    finally:
        torch.autocast = real  # type: ignore[misc]


def _reason(error: Exception) -> str:
    """First line of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def networks_of(config: Mapping[str, Any]) -> Iterator[tuple[str, Spec]]:
    """Every network that a configuration trains, with the name of its stage ("" if there is one network only)."""
    described: dict[str, Spec] = {}
    for position, stage in enumerate(config.get("stages") or []):
        if isinstance(stage, Mapping):
            name = str(stage.get("name", f"stage {position + 1}"))
            for _, spec in networks_of(stage):
                described[name] = _resolved(spec, described)
                yield name, described[name]
    model = config.get("model") or {}
    network = model.get("network") or model.get("init_args", {}).get("network")
    if isinstance(network, Mapping) and "class_path" in network:
        yield "", dict(network)
    elif isinstance(model.get("class_path"), str):
        yield "", {"class_path": model["class_path"], "init_args": dict(model.get("init_args", {}))}


def _resolved(node: Any, described: Mapping[str, Spec]) -> Any:
    """The node with every `spec:STAGE.path` replaced by what that stage describes."""
    if isinstance(node, Mapping):
        return {key: _resolved(value, described) for key, value in node.items()}
    if isinstance(node, list):
        return [_resolved(value, described) for value in node]
    if isinstance(node, str) and node.startswith("spec:"):
        name, *path = node.removeprefix("spec:").split(".")
        found: Any = described.get(name, node)
        for key in path:
            found = found.get(key, node) if isinstance(found, Mapping) else node
        return found
    return node


def count_file(path: Path) -> list[Count]:
    """Counts of every network of a configuration file."""
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return [Count(path.stem, "", "?", problem=f"not YAML: {_reason(error)}")]
    found = [count_network(spec, path.stem, stage) for stage, spec in networks_of(config or {})]
    if len(found) == 1:
        return [replace(found[0], reproduces=tuple(config.get("reproduces") or ()))]
    return found or [Count(path.stem, "", "?", problem="describes no network")]


def count_folder(folder: str | Path, pattern: str = "", workers: int | None = None) -> list[Count]:
    """Counts of every configuration of a folder, subfolders included, in parallel.

    Args:
        folder: where the YAML files are.
        pattern: count only files whose name contains this.
        workers: processes; default: one per core, at most 8.

    Raises:
        UserError: no such folder, or no matching file in it.
    """
    import multiprocessing
    import os

    root = Path(folder)
    files = [path for path in sorted(root.rglob("*.yaml")) if pattern in path.stem]
    if not files:
        raise UserError(f"{root}: no configuration files{f' with {pattern!r} in their name' if pattern else ''} here")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(workers or cores, len(files), 8)
    if workers == 1:
        return [count for path in files for count in count_file(path)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return [count for counts in pool.map(count_file, files) for count in counts]


def measure(source: str = "configs", only: str = "", workers: int = 0) -> Iterator[Measurement]:
    """Parameters, FLOPs and saved activations of every network of a configuration file or a folder of them.

    Args:
        source: configuration file, or folder of such files; without a folder `configs` here, those of the package.
        only: count only files whose name contains this.
        workers: processes to count with; 0 = one per core.
    """
    place = configurations_folder() if source == "configs" and not Path(source).is_dir() else Path(source)
    counts = count_file(place) if place.is_file() else count_folder(place, only, workers or None)
    for count in counts:
        found = {"parameters": count.parameters, "forward FLOP": count.forward, "backward FLOP": count.backward}
        found["saved bytes"] = count.saved
        settings = {"stage": count.stage, "model": count.model, "shape": "x".join(map(str, count.shape))}
        yield Measurement(
            question="compute",
            subject=count.config,
            settings={**settings, "bits": count.bits, "problem": count.problem},
            values={name: value for name, value in found.items() if value is not None and value >= 0},
            reproduces=count.reproduces,
            **stamp(),
        )


def is_configuration(source: str) -> bool:
    """Whether a word names a configuration file and not a checkpoint."""
    return source.endswith((".yaml", ".yml"))


def configured_networks(source: str) -> list[tuple[str, Spec]]:
    """Stage and spec of every network that a configuration file trains.

    Raises:
        UserError: there is no such file, or it is not YAML.
    """
    import yaml

    path = Path(source)
    if not path.is_file():
        raise UserError(f"{source}: no such configuration file")
    try:
        return list(networks_of(yaml.safe_load(path.read_text(encoding="utf-8")) or {}))
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not YAML ({str(error).splitlines()[0]})") from error
