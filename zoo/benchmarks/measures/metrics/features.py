"""Feature networks: uint8 images in, one vector (and class logits, where there are some) per image out.

A metric's name says which network it used: only `inception` gives what papers call FID.
"""

from __future__ import annotations

import itertools
import os
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError, closest
from zoo.files import atomic_path

DIGITS = Path(__file__).with_name("digits.safetensors")
INCEPTION_URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
NAMES = ("inception", "vgg16", "alexnet", "digits", "pixels")


class Extractor(nn.Module):
    """A frozen feature network.

    Attributes:
        name: what the metric is called after.
        num_features: D.
        has_logits: whether `logits` works (the Inception Score needs it).
    """

    name: str
    num_features: int
    has_logits = False

    def train(self, mode: bool = True) -> Extractor:
        """Stays in eval mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, D)."""
        raise NotImplementedError

    def logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, K)."""
        raise UserError(f"extractor {self.name}: has no classes, so it gives no Inception Score; choose another")


class Pixels(Extractor):
    """Averages of 8x8 cells of the image: no network at all, for checks."""

    name = "pixels"
    num_features = 192

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, 192) in [0, 1]."""
        return F.adaptive_avg_pool2d(_colour(images) / 255.0, 8).flatten(1)


Backbone = Literal["vgg16", "alexnet"]


class Packaged(Extractor):
    """Spatial mean of the last feature map of VGG16 or AlexNet, trained on ImageNet.

    Args:
        name: "vgg16" or "alexnet".
    """

    def __init__(self, name: Backbone) -> None:
        from zoo.training.perceptual import Features

        super().__init__()
        self.name = name
        self.network = Features(name)
        self.num_features = self.network.num_features

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, D); images below 64 pixels are enlarged, as the pools need that much."""
        x = _colour(images) / 127.5 - 1.0
        if min(x.shape[-2:]) < 64:
            x = F.interpolate(x, size=(64, 64), mode="bilinear", antialias=True)
        result: Tensor = self.network(x)[-1].mean(dim=(2, 3))
        return result


class TorchScript(Extractor):
    """A TorchScript network that takes images on the 0..255 axis, as the Inception network of StyleGAN2-ADA does.

    Args:
        path: file written by `torch.jit.save`. If its `forward` knows `return_features`, that gives the features, and
            `no_output_bias` the logits of the ADM evaluator; else the output is the features.
        name: name of the metric's extractor.
    """

    def __init__(self, path: Path, name: str) -> None:
        super().__init__()
        self.name = name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, the form these weights come in
                self.network = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path}: not a TorchScript file; give one written by torch.jit.save") from error
        arguments = {argument.name for argument in self.network.forward.schema.arguments}
        self._options = {"return_features": True} if "return_features" in arguments else {}
        self.has_logits = "no_output_bias" in arguments
        self.num_features = self(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape[1]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, D)."""
        result: Tensor = self.network(_colour(images), **self._options).flatten(1)
        return result

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Log-probabilities of the classes, from the last layer without its bias."""
        if not self.has_logits:
            return super().logits(images)
        result: Tensor = self.network(_colour(images), no_output_bias=True).clamp_min(1e-30).log()
        return result


class Digits(Extractor):
    """Small convolutional network trained on 8,000 real digits of MNIST (scripts/train_digits.py); ships with the zoo.

    Meant for digits and for tests. On other images its features mean little.
    """

    name = "digits"
    num_features = 64
    has_logits = True

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 48)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths))
        self.hidden = nn.Linear(48 * 9, self.num_features)
        self.head = nn.Linear(self.num_features, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, 64); colour is averaged, the size brought to 28x28."""
        x = images.float().mean(dim=1, keepdim=True) / 127.5 - 1.0
        if x.shape[-2:] != (28, 28):
            x = F.interpolate(x, size=(28, 28), mode="bilinear", antialias=True)
        for conv in self.convs:
            x = F.max_pool2d(F.relu(conv(x)), 2)  # 28 -> 14 -> 7 -> 3
        return F.relu(self.hidden(x.flatten(1)))

    def logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, 10)."""
        result: Tensor = self.head(self(images))
        return result


def _colour(images: Tensor) -> Tensor:
    """uint8 with one or three channels -> float32 with three, on 0..255."""
    return images.float().expand(-1, 3, -1, -1)


def cache_folder() -> Path:
    """Where downloads are kept: $XDG_CACHE_HOME/zoo or ~/.cache/zoo."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoo"


def _download(url: str, timeout: float = 20.0) -> Path:
    """The cached file behind a URL, fetched if it is not there yet.

    Raises:
        UserError: there is no way to the host.
    """
    target = cache_folder() / url.rpartition("/")[2]
    if target.is_file():
        return target
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response, atomic_path(target) as temporary:
            temporary.write_bytes(response.read())
    except (urllib.error.URLError, OSError) as error:
        raise UserError(
            f"extractor inception: cannot download {url} ({error}); fetch it elsewhere and give --extractor FILE, or "
            "use --extractor vgg16"
        ) from error
    return target


def load_extractor(name: str = "inception") -> Extractor:
    """A feature network by name or file.

    Args:
        name: `inception` (downloaded on first use), `vgg16`, `alexnet`, `digits`, `pixels`, or the path of a
            TorchScript file.

    Raises:
        UserError: unknown name, missing file, or weights that are not to be had.
    """
    if name == "pixels":
        return Pixels().eval()
    if name == "digits":
        from safetensors.torch import load_file

        network = Digits()
        network.load_state_dict({key: tensor.float() for key, tensor in load_file(DIGITS).items()})
        return network.requires_grad_(False).eval()
    packaged: dict[str, Backbone] = {"vgg16": "vgg16", "alexnet": "alexnet"}
    if name in packaged:
        return Packaged(packaged[name]).eval()
    if name == "inception":
        return TorchScript(_download(INCEPTION_URL), "inception").eval()
    path = Path(name)
    if not path.is_file():
        raise UserError(f"--extractor {name}: no such file or name; {closest(name, NAMES)}")
    return TorchScript(path, path.stem).eval()
