"""Self-describing checkpoints: the weights, and what is needed to rebuild the network they belong to.

A checkpoint is a safetensors file whose metadata carries a spec, `{"class_path": ..., "init_args": {...}}`, the same
form that LightningCLI reads from YAML. Lightning's own `.ckpt` files are read too. Nothing that is loaded can execute:
safetensors holds arrays only, `.ckpt` files are read with `weights_only=True`, and a spec may only name classes of the
zoo and of trusted plugins. A digest of the weights stands beside them and is compared when they are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.checkpoints.migrations import migrated
from zoo.checkpoints.specification import Spec, build, first_line, identity, qualified
from zoo.errors import UserError, closest
from zoo.files import atomic_path, zoo_home
from zoo.likelihood.model import AncestralModel, LikelihoodModel
from zoo.torchfiles import NOTES, kind_of_file, safe_torch_load

FORMAT = 1
SHIPPED = Path(__file__).parent / "shipped"
HUB = "model.safetensors"
"""Name of the weights in a folder of the Hugging Face layout; `config.json` stands beside."""
DIGEST = "weights_sha256"
"""Key of the metadata under which the digest of the weights stands."""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory.

    Attributes:
        network: the model, in eval mode.
        spec: class path and arguments it was built from, overrides included.
        meta: whatever the writer noted (training data, steps, source, ...), plain JSON.
        digest: SHA-256 of the weights, see `weights_digest`.
        path: the file.
        stored: specification in the file, before overrides.
    """

    network: nn.Module
    spec: Spec
    meta: dict[str, Any]
    digest: str
    path: Path
    stored: Spec = field(default_factory=dict)

    @property
    def model(self) -> LikelihoodModel:
        """The network as a model that prices.

        Raises:
            UserError: it is none, but a first stage for example.
        """
        if not isinstance(self.network, LikelihoodModel):
            raise UserError(f"{self.path}: holds a {type(self.network).__name__}, which prices no images")
        return self.network

    @property
    def ancestral(self) -> AncestralModel:
        """The network as a model with an ancestral pass, which can be coded.

        Raises:
            UserError: it has none.
        """
        if not isinstance(self.network, AncestralModel):
            raise UserError(f"{self.path}: {type(self.network).__name__} has no ancestral pass")
        return self.network

    @property
    def data(self) -> dict[str, Any]:
        """Settings of the training data, as `zoo.data.open_split` takes them; empty where none are noted."""
        noted = self.meta.get("data")
        return noted if isinstance(noted, dict) else {}

    @property
    def identity(self) -> bytes:
        """12 bytes that name architecture and weights together, see `specification.identity`."""
        return identity(self.spec, self.digest)


@dataclass(frozen=True)
class Contents:
    """What a checkpoint file holds before the network is built."""

    spec: Spec
    weights: dict[str, Tensor]
    meta: dict[str, Any] = field(default_factory=dict)


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
        metadata = {"zoo": json.dumps(header, sort_keys=True), DIGEST: weights_digest(stored)}
        save_file(stored, str(temporary), metadata=metadata)
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
        for candidate in ("last.safetensors", "last.ckpt", HUB, "checkpoints/last.ckpt"):
            if (path / candidate).is_file():
                return path / candidate
        raise UserError(
            f"{path}: no checkpoint in this folder (expected last.safetensors, last.ckpt or model.safetensors)"
        )
    if path.is_file():
        return path
    for kept in (SHIPPED / f"{source}.safetensors", pulled_path(str(source))):
        if kept.is_file():
            return kept
    raise UserError(f"{source}: no such checkpoint file, and none of that name ships; {closest(str(source), names())}")


def pulled_path(name: str) -> Path:
    """Where `zoo pull NAME` keeps its checkpoint."""
    return zoo_home() / "checkpoints" / f"{name}.safetensors"


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
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            beside = path.with_name("config.json")
            described = beside.read_text(encoding="utf-8") if path.name == HUB and beside.is_file() else "{}"
            header = json.loads(metadata.get("zoo", described))
    except (SafetensorError, OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        what = kind_of_file(path) or first_line(error)
        raise UserError(f"{path}: not a readable safetensors file ({what}); copy or download it again") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT or "network" not in header:
        raise UserError(f"{path}: no zoo description inside (official weights are converted with `zoo import`)")
    stated = metadata.get(DIGEST)
    if stated is not None and stated != weights_digest(weights):
        raise UserError(f"{path}: damaged, its weights are not those that were written; copy or download it again")
    meta = header["meta"] if isinstance(header.get("meta"), dict) else {}
    return Contents(_description(path, header["network"]), _sound(path, weights), meta)


def _read_lightning(path: Path) -> Contents:
    checkpoint = safe_torch_load(path)
    if not isinstance(checkpoint, Mapping):
        raise UserError(f"{path}: holds a {type(checkpoint).__name__}, expected a training checkpoint")
    hyper = checkpoint.get("hyper_parameters")
    spec = hyper.get("network") if isinstance(hyper, Mapping) else None
    state = checkpoint.get("state_dict")
    if not isinstance(spec, Mapping) or not isinstance(state, Mapping):
        raise UserError(f"{path}: no zoo network described inside (expected hyper_parameters.network and state_dict)")
    prefix = "network."
    weights = {str(name).removeprefix(prefix): t for name, t in state.items() if str(name).startswith(prefix)}
    notes = checkpoint.get(NOTES)
    meta = {**(notes if isinstance(notes, Mapping) else {})}
    meta |= {key: checkpoint[key] for key in ("epoch", "global_step") if key in checkpoint}
    return Contents(_description(path, spec), _sound(path, weights), meta)


def _description(path: Path, spec: Any) -> Spec:
    """The specification of a file, if it is one."""
    if not isinstance(spec, Mapping) or not isinstance(spec.get("class_path"), str):
        raise UserError(f"{path}: its description names no class; it is damaged, or not written by the zoo")
    description: Spec = migrated(spec)
    return description


def _sound(path: Path, weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights as they are computed with: tensors of numbers, half precision widened.

    Raises:
        UserError: something else stands among them.
    """
    sound = {}
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor):
            raise UserError(f"{path}: {name} is no tensor; the file is damaged, or not a checkpoint")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"{path}: {name} holds values that are no numbers; the training diverged, or it is damaged")
        sound[name] = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    return sound


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
    weights = contents.weights
    try:
        stored = qualified(contents.spec)
        spec = {**stored, "init_args": {**stored.get("init_args", {}), **overrides}}
        # Some layers make parameters that they replace, hence the room.
        elements = sum(tensor.numel() for tensor in weights.values())
        network = build(spec, 4 * len(weights) + 1000, 4 * elements + 1_000_000)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    fit_weights(network, weights, str(path))
    return Loaded(network.eval(), spec, contents.meta, weights_digest(network.state_dict()), path, stored)


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
