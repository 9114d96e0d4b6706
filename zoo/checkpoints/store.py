"""Self-describing checkpoints: the weights, and what is needed to rebuild the network they belong to.

A checkpoint is a safetensors file whose metadata carries a spec, `{"class_path": ..., "init_args": {...}}`, the same
form that LightningCLI reads from YAML. Lightning's own `.ckpt` files are read too. Nothing that is loaded can execute:
safetensors holds arrays only, `.ckpt` files are read with `weights_only=True`, and a spec may only name classes of the
zoo.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.checkpoints.migrations import migrated
from zoo.errors import UserError, closest
from zoo.files import atomic_path, safe_torch_load

FORMAT = 1
SHIPPED = Path(__file__).parent / "shipped"
Spec = dict[str, Any]


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory.

    Attributes:
        network: the model, in eval mode.
        spec: class path and arguments it was built from, overrides included.
        meta: whatever the writer noted (training data, steps, source, ...), plain JSON.
        digest: SHA-256 of the weights, see `weights_digest`.
        path: the file.
    """

    network: nn.Module
    spec: Spec
    meta: dict[str, Any]
    digest: str
    path: Path

    @property
    def described(self) -> dict[str, Any]:
        """What a record says of the checkpoint: file name, spec, and whether its training augmented the images."""
        return {"checkpoint": self.path.name, "spec": self.spec, "augmented": bool(self.meta.get("augmented"))}

    @property
    def data(self) -> dict[str, Any]:
        """Settings of the training data, as `zoo.data.open_split` takes them; empty where none are noted."""
        noted = self.meta.get("data")
        return noted if isinstance(noted, dict) else {}

    @property
    def identity(self) -> bytes:
        """12 bytes that name spec and weights together; coded files carry them."""
        text = json.dumps(self.spec, sort_keys=True) + self.digest
        return hashlib.sha256(text.encode()).digest()[:12]


@dataclass(frozen=True)
class Contents:
    """What a checkpoint file holds before the network is built."""

    spec: Spec
    weights: dict[str, Tensor]
    meta: dict[str, Any] = field(default_factory=dict)


def build(spec: Spec) -> nn.Module:
    """Build a network from its spec, with every argument checked against the signature.

    Args:
        spec: `{"class_path": "zoo.models.VDVAE", "init_args": {...}}`; a name without dots is looked up in zoo.models.

    Raises:
        UserError: if the class is unknown or not the zoo's, or an argument does not fit.

    Example:
        >>> from zoo.checkpoints import build
        >>> build({"class_path": "os.system"})
        Traceback (most recent call last):
        zoo.errors.UserError: class 'os.system': a checkpoint may only name classes of the zoo (zoo.models....)
    """
    from jsonargparse import ArgumentError, ArgumentParser

    import zoo.models

    spec = qualified(spec)
    module, _, name = spec["class_path"].rpartition(".")
    if module == "zoo.models" and not hasattr(zoo.models, name):
        raise UserError(f"unknown model {name!r}; {closest(name, list(zoo.models.__all__))}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--network", type=nn.Module)
    try:
        return parser.instantiate(parser.parse_object({"network": spec})).network
    except ArgumentError as error:
        raise UserError(f"cannot build {name}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:300]


def qualified(node: Any) -> Any:
    """The spec with today's arguments and whole class names; refuses classes from elsewhere at any depth."""
    return _qualified(migrated(node))


def _qualified(node: Any) -> Any:
    if isinstance(node, Mapping):
        node = {key: _qualified(value) for key, value in node.items()}
        path = node.get("class_path")
        if isinstance(path, str):
            node["class_path"] = path if "." in path else f"zoo.models.{path}"
            if not node["class_path"].startswith("zoo."):
                raise UserError(f"class {path!r}: a checkpoint may only name classes of the zoo (zoo.models....)")
            node["init_args"] = dict(node.get("init_args") or {})
        return node
    if isinstance(node, (list, tuple)):
        return [_qualified(value) for value in node]
    return node


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors in the order of their names.

    It depends on the weights alone, not on the file format, so a checkpoint and its export agree.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def save(
    path: str | Path,
    spec: Spec,
    network: nn.Module | Mapping[str, Tensor],
    meta: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a self-describing checkpoint, atomically.

    Args:
        path: file to write, ending in `.safetensors`.
        spec: class path and arguments.
        network: the model or its state dict.
        meta: anything plain worth keeping.
        dtype: store floating-point weights in this type (float16 halves the file); they are loaded as float32.

    Raises:
        UserError: if the path has another ending.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(
            f"{path}: a checkpoint is written as .safetensors, not {path.suffix or 'a file without ending'}"
        )
    weights = network.state_dict() if isinstance(network, nn.Module) else network
    stored = {name: _stored(tensor, dtype) for name, tensor in weights.items()}
    header = {"format": FORMAT, "network": qualified(spec), "meta": dict(meta or {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file(stored, str(temporary), metadata={"zoo": json.dumps(header, sort_keys=True)})
    return path


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu()
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(dtype)
    return tensor.clone(memory_format=torch.contiguous_format)


def resolve(source: str | Path) -> Path:
    """The file behind a path, a run folder (its last checkpoint) or the name of a shipped checkpoint.

    Raises:
        UserError: if there is none; close names are suggested.
    """
    path = Path(source)
    if path.is_dir():
        for candidate in ("last.safetensors", "last.ckpt", "checkpoints/last.ckpt"):
            if (path / candidate).is_file():
                return path / candidate
        raise UserError(f"{path}: no checkpoint in this folder (expected last.safetensors or last.ckpt)")
    if path.is_file():
        return path
    for kept in (SHIPPED / f"{source}.safetensors", pulled_path(str(source))):
        if kept.is_file():
            return kept
    raise UserError(f"{source}: no such checkpoint file, and none of that name ships; {closest(str(source), names())}")


def zoo_home() -> Path:
    """Where fetched checkpoints are kept: `$ZOO_HOME`, by default `~/.cache/zoo`."""
    return Path(os.environ.get("ZOO_HOME") or "~/.cache/zoo").expanduser()


def pulled_path(name: str) -> Path:
    """Where `zoo pull NAME` keeps its checkpoint."""
    return zoo_home() / "checkpoints" / f"{name}.safetensors"


def experiment_name(path: Path) -> str:
    """What records and tables call a checkpoint: its run folder if the file is the `last` of one, else its own name."""
    return path.parent.name if path.stem == "last" else path.stem


def names() -> list[str]:
    """Names of the checkpoints that ship with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def read(path: str | Path) -> Contents:
    """Spec, weights and notes of a checkpoint file, without building the network.

    Raises:
        UserError: if the file is damaged or does not describe its network.
    """
    path = resolve(path)
    return _read_lightning(path) if path.suffix == ".ckpt" else _read_safetensors(path)


def _read_safetensors(path: Path) -> Contents:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("zoo", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({_first_line(error)}); copy it again") from error
    if header.get("format") != FORMAT or "network" not in header:
        raise UserError(f"{path}: no zoo description inside (official weights are converted with `zoo import`)")
    widened = {name: w.float() if w.dtype in (torch.float16, torch.bfloat16) else w for name, w in weights.items()}
    return Contents(migrated(header["network"]), widened, header.get("meta", {}))


def _read_lightning(path: Path) -> Contents:
    checkpoint = safe_torch_load(path)
    hyper = checkpoint.get("hyper_parameters", {}) if isinstance(checkpoint, dict) else {}
    spec = hyper.get("network")
    if not isinstance(spec, Mapping) or "class_path" not in spec:
        raise UserError(f"{path}: no zoo network described inside (expected hyper_parameters.network)")
    prefix = "network."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(prefix)
    }
    meta = {key: checkpoint[key] for key in ("epoch", "global_step") if key in checkpoint}
    return Contents(migrated(spec), weights, meta)


def load(source: str | Path, **overrides: Any) -> Loaded:
    """Rebuild a model from its checkpoint.

    Args:
        source: path, run folder, or name of a shipped checkpoint.
        overrides: arguments of the network to replace, for example `bins="vdvae"`.

    Raises:
        UserError: if the file is missing, damaged, or does not fit its own description.
    """
    path = resolve(source)
    contents = read(path)
    spec = qualified(contents.spec)
    spec["init_args"] = {**spec.get("init_args", {}), **overrides}
    network = build(spec)
    fit_weights(network, contents.weights, str(path))
    return Loaded(network.eval(), spec, contents.meta, weights_digest(network.state_dict()), path)


def fit_weights(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Load weights into a network, strictly; a one-line error says which keys or shapes disagree.

    Raises:
        UserError: if a key is missing, unexpected or of another shape.
    """
    own = network.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or extra:
        raise UserError(
            f"{name}: weights do not fit the network: {len(missing)} missing (first {missing[:1]}), "
            f"{len(extra)} unexpected (first {extra[:1]})"
        )
    for key, tensor in weights.items():
        if tensor.shape != own[key].shape:
            raise UserError(f"{name}: {key} has shape {tuple(tensor.shape)}, expected {tuple(own[key].shape)}")
    network.load_state_dict(dict(weights))
