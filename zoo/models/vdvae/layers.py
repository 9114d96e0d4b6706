"""Building blocks of VDVAE: residual blocks, encoder, stochastic layers, decoder.

Shape letters: B batch, C image channels, R resolution of a layer, W width (channels) at that resolution, Z latent
channels per position.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.likelihood.latents import LatentPolicy
from zoo.models.blocks import Pointwise, TopDownLayer, nearest_upsample, pad_channels, site_name

# ----------------------------------------------------------------------------------------------------------------------
# Architecture as plain data


@dataclass(frozen=True)
class EncoderStage:
    """A run of residual blocks at one resolution.

    Attributes:
        resolution: height and width of the feature maps the blocks work on.
        blocks: residual blocks in a row.
        downsample: factor of the average pooling behind the last of them; 1 keeps the resolution.
    """

    resolution: int
    blocks: int
    downsample: int = 1


@dataclass(frozen=True)
class DecoderStage:
    """A run of stochastic layers at one resolution.

    Attributes:
        resolution: height and width of the feature maps and of the latents.
        blocks: stochastic layers in a row.
        upsample_from: resolution whose stream is upsampled and added before the first layer; None adds nothing.
    """

    resolution: int
    blocks: int
    upsample_from: int | None = None


@dataclass(frozen=True)
class Layout:
    """Channels per resolution and the constants every block needs."""

    width: int
    widths: Mapping[int, int]
    bottleneck: float
    latent_channels: int

    def at(self, resolution: int) -> int:
        """Channels at a resolution."""
        return self.widths.get(resolution, self.width)

    def middle(self, resolution: int) -> int:
        """Channels inside the blocks of a resolution."""
        return int(self.at(resolution) * self.bottleneck)


def convolution(width_in: int, width_out: int, kernel: int, gain: float = 1.0) -> nn.Conv2d:
    """A "same" convolution with PyTorch's default weights times `gain` and zero bias (official initialisation)."""
    conv = (
        Pointwise(width_in, width_out) if kernel == 1 else nn.Conv2d(width_in, width_out, kernel, padding=kernel // 2)
    )
    with torch.no_grad():
        conv.weight.mul_(gain)
        if conv.bias is not None:
            conv.bias.zero_()
    return conv


class Bottleneck(nn.Module):
    """Four convolutions (1x1, 3x3, 3x3, 1x1), each preceded by a GELU; the middle ones are 1x1 up to resolution 2.

    Args:
        width_in: channels read.
        width_middle: channels of the two convolutions in the middle.
        width_out: channels written.
        resolution: decides the kernel of the middle convolutions.
        gain: factor on the initial weights of the last convolution.
    """

    def __init__(self, width_in: int, width_middle: int, width_out: int, resolution: int, gain: float = 1.0) -> None:
        super().__init__()
        kernel = 3 if resolution > 2 else 1
        self.conv1 = convolution(width_in, width_middle, 1)
        self.conv2 = convolution(width_middle, width_middle, kernel)
        self.conv3 = convolution(width_middle, width_middle, kernel)
        self.conv4 = convolution(width_middle, width_out, 1, gain)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, R, R) -> (B, width_out, R, R)."""
        result: Tensor = self.conv4(self.inside(self.conv1(F.gelu(x))))
        return result

    def inside(self, h: Tensor) -> Tensor:
        """What stands between the first and the last convolution, for callers that compute those two differently."""
        h = self.conv2(F.gelu(h))
        return F.gelu(self.conv3(F.gelu(h)))


# ----------------------------------------------------------------------------------------------------------------------
# Bottom-up


class Encoder(nn.Module):
    """Residual blocks and average pooling; keeps the last activation of every resolution.

    Args:
        stages: runs of blocks, from the image size downwards.
        layout: channels per resolution. Channels are padded with zeros where the next resolution is wider.
        image_channels: channels of the input.
    """

    def __init__(self, stages: Sequence[EncoderStage], layout: Layout, image_channels: int) -> None:
        super().__init__()
        count = sum(stage.blocks for stage in stages)
        self.stem = convolution(image_channels, layout.width, 3)
        self.blocks = nn.ModuleList()
        self._plan: list[tuple[int, int]] = []  # pooling factor and output width of each block
        for stage in stages:
            width, middle = layout.at(stage.resolution), layout.middle(stage.resolution)
            for position in range(stage.blocks):
                factor = stage.downsample if position == stage.blocks - 1 else 1
                self.blocks.append(Bottleneck(width, middle, width, stage.resolution, gain=math.sqrt(1 / count)))
                self._plan.append((factor, layout.at(stage.resolution // factor)))

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """(B, C, H, W) normalised pixels -> resolution -> activation (B, W, R, R)."""
        x = self.stem(x)
        activations = {x.shape[-1]: x}
        for block, (factor, width) in zip(self.blocks, self._plan, strict=True):
            x = x + block(x)
            if factor > 1:
                x = F.avg_pool2d(x, factor)  # (B, W, R, R) -> (B, W, R / factor, R / factor)
            x = pad_channels(x, width)
            activations[x.shape[-1]] = x
        return activations


# ----------------------------------------------------------------------------------------------------------------------
# Top-down


class StochasticLayer(TopDownLayer):
    """One group of latents: prior, posterior, and how the drawn value enters the stream (paper, figure 3).

    Args:
        index: position from the top.
        resolution: height and width of its latents.
        upsample_from: resolution of the stream added before the layer, or None.
        layout: channels.
        gain: factor on the initial weights of the two residual branches (official: sqrt(1 / number of layers)).
        max_posterior_shift: see `zoo.models.blocks.within`.
    """

    def __init__(
        self,
        index: int,
        resolution: int,
        upsample_from: int | None,
        layout: Layout,
        gain: float,
        max_posterior_shift: float | None = None,
    ) -> None:
        super().__init__(index, site_name(index, resolution, resolution), max_posterior_shift)
        width, middle, latent = layout.at(resolution), layout.middle(resolution), layout.latent_channels
        self.resolution, self.upsample_from = resolution, upsample_from
        self.width, self.latent_channels = width, latent
        self.posterior = Bottleneck(2 * width, middle, 2 * latent, resolution)
        self.prior = Bottleneck(width, middle, 2 * latent + width, resolution, gain=0.0)
        self.project = convolution(latent, width, 1, gain)
        self.residual = Bottleneck(width, middle, width, resolution, gain)

    def propose(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The prior, and what it adds to the stream (B, W, R, R)."""
        mean, log_std, features = self.prior(y).split([self.latent_channels, self.latent_channels, self.width], dim=1)
        return mean, log_std, features

    def infer(self, y: Tensor, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The posterior, from the stream and the encoder's activation of this resolution, (B, W, R, R) each."""
        mean, log_std = self.posterior(torch.cat([y, image], dim=1)).chunk(2, dim=1)
        return mean, log_std

    def descend(self, y: Tensor, features: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        """The stream behind the layer."""
        y = y + features + self.project(z)
        result: Tensor = y + self.residual(y)
        return result


class Decoder(nn.Module):
    """Stochastic layers from the lowest resolution to the image size.

    Args:
        stages: runs of layers, top first.
        layout: channels per resolution.
        bias_up_to: largest resolution whose stream starts from a learned bias; others start from zeros.
        max_posterior_shift: see `zoo.models.blocks.within`; None leaves posteriors as they are.
        layer: class of the layers.
    """

    def __init__(
        self,
        stages: Sequence[DecoderStage],
        layout: Layout,
        bias_up_to: int,
        max_posterior_shift: float | None = None,
        layer: type[StochasticLayer] = StochasticLayer,
    ) -> None:
        super().__init__()
        gain = math.sqrt(1 / sum(stage.blocks for stage in stages))
        sources = [(s.resolution, s.upsample_from if i == 0 else None) for s in stages for i in range(s.blocks)]
        self.layers = nn.ModuleList(
            layer(index, resolution, source, layout, gain, max_posterior_shift)
            for index, (resolution, source) in enumerate(sources)
        )
        self.image_size = stages[-1].resolution
        resolutions = sorted({stage.resolution for stage in stages if stage.resolution <= bias_up_to})
        self.biases = nn.ParameterDict({str(r): nn.Parameter(torch.zeros(1, layout.at(r), r, r)) for r in resolutions})
        self.gain = nn.Parameter(torch.ones(1, layout.width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, layout.width, 1, 1))

    def forward(self, policy: LatentPolicy, seen: Mapping[int, Tensor] | None, n: int) -> Tensor:
        """The one traversal.

        Args:
            policy: where latents come from.
            seen: encoder activations per resolution, or None without an image.
            n: images in the batch.

        Returns:
            (B, W, H, W) features of the image.
        """
        streams = {int(r): bias.expand(n, -1, -1, -1) for r, bias in self.biases.items()}
        for layer in cast(Iterable[StochasticLayer], self.layers):
            y = self._stream(streams, layer, n)
            streams[layer.resolution] = layer(y, None if seen is None else seen[layer.resolution], policy)
        result: Tensor = streams[self.image_size] * self.gain + self.bias
        return result

    def _stream(self, streams: Mapping[int, Tensor], layer: StochasticLayer, n: int) -> Tensor:
        """The stream a layer reads, with the upsampled lower one added where the layer says so."""
        y = streams.get(layer.resolution)
        if layer.upsample_from is None:
            shape = (n, layer.width, layer.resolution, layer.resolution)
            return self.gain.new_zeros(shape) if y is None else y
        below = streams[layer.upsample_from][:, : layer.width]  # widths shrink upwards: the first channels go on
        above = nearest_upsample(below, layer.resolution // layer.upsample_from)
        return above if y is None else y + above  # a stream without bias starts from zeros
