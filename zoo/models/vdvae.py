"""Very deep VAE (Child 2020, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images").

Shape letters: B batch, C image channels, H = W image size, R resolution of a layer, W width (channels) at that
resolution, Z latent channels per position, M logistic mixtures.

A bottom-up encoder leaves one activation per resolution. The top-down decoder holds one stream of features per
resolution and visits its stochastic layers from 1x1 to the image size; each layer reads its stream, proposes a prior
and (given an image) a posterior, asks the policy for the latents, and writes them back into the stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError
from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.latents import LatentPolicy, LatentSite
from zoo.likelihood.levels import Convention, check_bits, from_levels, to_levels
from zoo.likelihood.mixture import LogisticMixture
from zoo.likelihood.protocols import AncestralModel
from zoo.models.blocks import nearest_upsample, pad_channels, recomputed

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
class _Layout:
    """Channels per resolution and the constants every block needs."""

    width: int
    widths: Mapping[int, int]
    bottleneck: float
    latent_channels: int

    def at(self, resolution: int) -> int:
        return self.widths.get(resolution, self.width)

    def middle(self, resolution: int) -> int:
        return int(self.at(resolution) * self.bottleneck)


def _conv(width_in: int, width_out: int, kernel: int, gain: float = 1.0) -> nn.Conv2d:
    """A "same" convolution with PyTorch's default weights times `gain` and zero bias (official initialisation)."""
    conv = nn.Conv2d(width_in, width_out, kernel, padding=kernel // 2)
    with torch.no_grad():
        conv.weight.mul_(gain)
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
        self.conv1 = _conv(width_in, width_middle, 1)
        self.conv2 = _conv(width_middle, width_middle, kernel)
        self.conv3 = _conv(width_middle, width_middle, kernel)
        self.conv4 = _conv(width_middle, width_out, 1, gain)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, R, R) -> (B, width_out, R, R)."""
        return self.after_conv1(self.conv1(F.gelu(x)))

    def after_conv1(self, h: Tensor) -> Tensor:
        """The rest of the block, for callers that computed the first convolution together with another one."""
        h = self.conv2(F.gelu(h))
        h = self.conv3(F.gelu(h))
        return self.conv4(F.gelu(h))


# ----------------------------------------------------------------------------------------------------------------------
# Bottom-up


class Encoder(nn.Module):
    """Residual blocks and average pooling; keeps the last activation of every resolution.

    Args:
        stages: runs of blocks, from the image size downwards.
        layout: channels per resolution. Channels are padded with zeros where the next resolution is wider.
        image_channels: channels of the input.
    """

    def __init__(self, stages: Sequence[EncoderStage], layout: _Layout, image_channels: int) -> None:
        super().__init__()
        count = sum(stage.blocks for stage in stages)
        self.stem = _conv(image_channels, layout.width, 3)
        self.blocks = nn.ModuleList()
        self._plan: list[tuple[int, int]] = []  # pooling factor and output width of each block
        for stage in stages:
            width, middle = layout.at(stage.resolution), layout.middle(stage.resolution)
            for position in range(stage.blocks):
                factor = stage.downsample if position == stage.blocks - 1 else 1
                self.blocks.append(Bottleneck(width, middle, width, stage.resolution, gain=math.sqrt(1 / count)))
                self._plan.append((factor, layout.at(stage.resolution // factor)))

    def forward(self, x: Tensor, recompute: bool = False) -> dict[int, Tensor]:
        """Activations of the image.

        Args:
            x: (B, C, H, W) normalised pixels.
            recompute: whether to drop the activations inside the blocks until the backward pass.

        Returns:
            Resolution -> (B, W, R, R).
        """
        x = self.stem(x)
        activations = {x.shape[-1]: x}
        for block, (factor, width) in zip(self.blocks, self._plan, strict=True):
            x = x + (recomputed(block, x) if recompute else block(x))
            if factor > 1:
                x = F.avg_pool2d(x, factor)  # (B, W, R, R) -> (B, W, R / factor, R / factor)
            x = pad_channels(x, width)
            activations[x.shape[-1]] = x
        return activations


# ----------------------------------------------------------------------------------------------------------------------
# Top-down


class StochasticLayer(nn.Module):
    """One group of latents: prior, posterior, and how the drawn value enters the stream (paper, figure 3).

    Args:
        name: name of the group in `LikelihoodTerms.rates`.
        stage: where the layer lives.
        upsample_from: resolution of the stream added before the layer, or None.
        layout: channels.
        gain: factor on the initial weights of the two residual branches (official: sqrt(1 / number of layers)).
    """

    def __init__(self, name: str, resolution: int, upsample_from: int | None, layout: _Layout, gain: float) -> None:
        super().__init__()
        width, middle, latent = layout.at(resolution), layout.middle(resolution), layout.latent_channels
        self.name, self.resolution, self.upsample_from = name, resolution, upsample_from
        self.width, self.latent_channels = width, latent
        self.posterior = Bottleneck(2 * width, middle, 2 * latent, resolution)
        self.prior = Bottleneck(width, middle, 2 * latent + width, resolution, gain=0.0)
        self.project = _conv(latent, width, 1, gain)
        self.residual = Bottleneck(width, middle, width, resolution, gain)

    def read(self, y: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Outputs of the prior and the posterior network.

        The posterior reads stream and encoder activation side by side; its first convolution is computed as the sum of
        two, so that nothing is concatenated and each GELU is computed once.

        Args:
            y: (B, W, R, R) stream.
            seen: (B, W, R, R) GELU of the encoder activation, or None when nothing is seen.

        Returns:
            (B, 2Z + W, R, R): prior mean, prior log std, and features for the stream; and
            (B, 2Z, R, R): posterior mean and log std, or None.
        """
        active = F.gelu(y)
        prior = self.prior.after_conv1(self.prior.conv1(active))
        if seen is None:
            return prior, None
        first = self.posterior.conv1
        of_stream, of_image = first.weight.split(self.width, dim=1)  # (mid, 2W, 1, 1) -> twice (mid, W, 1, 1)
        h = F.conv2d(active, of_stream) + F.conv2d(seen, of_image, first.bias)
        return prior, self.posterior.after_conv1(h)

    def write(self, y: Tensor, features: Tensor, z: Tensor) -> Tensor:
        """The stream behind this layer: (B, W, R, R), given the prior's features and the latents (B, Z, R, R)."""
        y = y + features + self.project(z)
        return y + self.residual(y)


class Decoder(nn.Module):
    """Stochastic layers from the lowest resolution to the image size.

    Args:
        stages: runs of layers, top first.
        layout: channels per resolution.
        bias_up_to: largest resolution whose stream starts from a learned bias; others start from zeros.
    """

    def __init__(self, stages: Sequence[DecoderStage], layout: _Layout, bias_up_to: int) -> None:
        super().__init__()
        gain = math.sqrt(1 / sum(stage.blocks for stage in stages))
        self.layers = nn.ModuleList()
        for stage in stages:
            for position in range(stage.blocks):
                name = f"z{len(self.layers):02d}_{stage.resolution}x{stage.resolution}"
                source = stage.upsample_from if position == 0 else None
                self.layers.append(StochasticLayer(name, stage.resolution, source, layout, gain))
        self.image_size = stages[-1].resolution
        resolutions = sorted({stage.resolution for stage in stages if stage.resolution <= bias_up_to})
        self.biases = nn.ParameterDict({str(r): nn.Parameter(torch.zeros(1, layout.at(r), r, r)) for r in resolutions})
        self.gain = nn.Parameter(torch.ones(1, layout.width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, layout.width, 1, 1))

    def forward(
        self, policy: LatentPolicy, seen: Mapping[int, Tensor] | None, n: int, recompute: bool = False
    ) -> Tensor:
        """The one traversal.

        Args:
            policy: where latents come from.
            seen: encoder activations per resolution, or None without an image.
            n: images in the batch.
            recompute: whether to drop the activations inside the layers until the backward pass.

        Returns:
            (B, W, H, W) features of the image.
        """
        if seen is not None:
            seen = {layer.resolution: seen[layer.resolution] for layer in self.layers}
            seen = {resolution: F.gelu(activation) for resolution, activation in seen.items()}
        streams = {int(r): bias.expand(n, -1, -1, -1) for r, bias in self.biases.items()}
        for index, layer in enumerate(self.layers):
            y = self._stream(streams, layer, n)
            act = None if seen is None else seen[layer.resolution]
            outputs, q = recomputed(layer.read, y, act) if recompute else layer.read(y, act)
            mean, log_std, features = outputs.split([layer.latent_channels, layer.latent_channels, layer.width], dim=1)
            prior = DiagonalGaussian(mean, log_std)
            posterior = None if q is None else DiagonalGaussian(*q.chunk(2, dim=1))
            z = policy(LatentSite(layer.name, index, prior, posterior))
            streams[layer.resolution] = (
                recomputed(layer.write, y, features, z) if recompute else layer.write(y, features, z)
            )
        return streams[self.image_size] * self.gain + self.bias

    def _stream(self, streams: Mapping[int, Tensor], layer: StochasticLayer, n: int) -> Tensor:
        """The stream a layer reads, with the upsampled lower one added where the layer says so."""
        y = streams.get(layer.resolution)
        if y is None:
            y = self.gain.new_zeros(n, layer.width, layer.resolution, layer.resolution)
        if layer.upsample_from is not None:
            below = streams[layer.upsample_from][:, : layer.width]  # widths shrink upwards: the first channels go on
            y = y + nearest_upsample(below, layer.resolution // layer.upsample_from)
        return y


# ----------------------------------------------------------------------------------------------------------------------
# The model


class VDVAE(AncestralModel):
    """Very deep VAE with a discretised logistic mixture over the pixels.

    Args:
        encoder: stages from the image size downwards.
        decoder: stages from the lowest resolution upwards; the last one has the image size.
        width: channels of every resolution that `widths` does not name.
        widths: resolution -> channels. They may only shrink towards high resolutions.
        latent_channels: latents per position of every stochastic layer.
        mixtures: logistics per pixel.
        bottleneck: channels inside a block, as a fraction of its width.
        bias_up_to: largest resolution with a learned bias.
        bits: depth of the pixels that are priced.
        input_bits: depth of the pixels the encoder sees; None means `bits`. The official 5-bit model sees 8 bits, which
            prices correctly but cannot be coded: a receiver has only the 5-bit image (see `docs/models/vdvae.md`).
        image_size: height and width of the images.
        image_channels: 3 or 1.
        shift: added to the 8-bit pixel value before it enters the encoder.
        scale: then multiplied by this.
        convention: how the mass of a level is computed; "vdvae" is the official formula.
        checkpoint_activations: recompute the activations inside every block in the backward pass. Saves most of the
            memory for about a third more time.

    Example:
        >>> model = VDVAE([EncoderStage(4, 2, 4), EncoderStage(1, 1)],
        ...               [DecoderStage(1, 1), DecoderStage(4, 2, 1)], width=8, latent_channels=2, image_size=4)
        >>> model.terms(torch.zeros(5, 3, 4, 4, dtype=torch.uint8)).bits_per_dim().shape
        torch.Size([5])
    """

    def __init__(
        self,
        encoder: Sequence[EncoderStage],
        decoder: Sequence[DecoderStage],
        width: int = 384,
        widths: dict[int, int] | None = None,
        latent_channels: int = 16,
        mixtures: int = 10,
        bottleneck: float = 0.25,
        bias_up_to: int = 64,
        bits: int = 8,
        input_bits: int | None = None,
        image_size: int = 32,
        image_channels: int = 3,
        shift: float = -127.5,
        scale: float = 1 / 64,
        convention: Convention = "normalised",
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        encoder = [stage if isinstance(stage, EncoderStage) else EncoderStage(**stage) for stage in encoder]
        decoder = [stage if isinstance(stage, DecoderStage) else DecoderStage(**stage) for stage in decoder]
        # A checkpoint carries the arguments as JSON, where keys are strings.
        layout = _Layout(width, {int(r): w for r, w in (widths or {}).items()}, bottleneck, latent_channels)
        _check_stages(encoder, decoder, layout, image_size)
        if image_channels not in (1, 3):
            raise UserError(f"image_channels={image_channels}: the logistic mixture prices 1 or 3 channels")
        self.bits = check_bits(bits)
        self.input_bits = self.bits if input_bits is None else check_bits(input_bits)
        self.image_shape = (image_channels, image_size, image_size)
        self.shift, self.scale, self.convention = shift, scale, convention
        self.checkpoint_activations = checkpoint_activations
        self.encoder = Encoder(encoder, layout, image_channels)
        self.decoder = Decoder(decoder, layout, bias_up_to)
        numbers = 1 + 2 * image_channels + (3 if image_channels == 3 else 0)  # logit, means, scales, coefficients
        self.head = _conv(layout.width, numbers * mixtures, 1)

    def encode(self, x: Tensor) -> dict[int, Tensor]:
        """Encoder activations of 8-bit pixels: (B, C, H, W) uint8 -> resolution -> (B, W, R, R)."""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ValueError(f"expected images of shape {self.image_shape} (C, H, W), got {tuple(x.shape[1:])}")
        pixels = from_levels(to_levels(x, self.input_bits), self.input_bits)
        values = (pixels.to(self.head.weight.dtype) + self.shift) * self.scale
        return self.encoder(values, self.checkpoint_activations and self.training)

    def decode(self, policy: LatentPolicy, seen: Mapping[int, Tensor] | None, n: int) -> Tensor:
        """Top-down traversal: (B, 10M, H, W), the parameters of the pixel distribution."""
        return self.head(self.decoder(policy, seen, n, self.checkpoint_activations and self.training))

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> LogisticMixture:
        """Visit every stochastic layer, top first, and return the distribution of the pixels.

        Args:
            policy: where the latents come from.
            x: (B, C, H, W) uint8, or None to traverse without an image (no posteriors).
            n: batch size without an image.
            label: ignored; the model is unconditional.

        Returns:
            Distribution over (B, C, H, W) integer levels.
        """
        seen = None if x is None else self.encode(x)
        head = self.decode(policy, seen, n if x is None else len(x))
        if self.image_shape[0] == 3:
            return LogisticMixture.from_head(head, self.bits, self.convention)
        logits, means, log_scales = head.chunk(3, dim=1)  # (B, 3M, H, W) -> three times (B, M, H, W)
        return LogisticMixture(logits, means.unsqueeze(1), log_scales.unsqueeze(1), None, self.bits, self.convention)


def _check_stages(
    encoder: Sequence[EncoderStage], decoder: Sequence[DecoderStage], layout: _Layout, image_size: int
) -> None:
    """Refuse architectures that cannot be built, naming the stage."""
    size, reached = image_size, {image_size}
    for number, stage in enumerate(encoder):
        if stage.resolution != size or stage.blocks < 1 or stage.downsample < 1 or size % stage.downsample:
            raise UserError(f"encoder stage {number}: {stage} does not fit features of {size}x{size}")
        size //= stage.downsample
        reached.add(size)
        if layout.at(size) < layout.at(stage.resolution):
            raise UserError(f"widths: {layout.at(size)} at {size}x{size} is less than at {stage.resolution}x; widen it")
    started: set[int] = set()
    for number, stage in enumerate(decoder):
        source = stage.upsample_from
        if stage.resolution not in reached or stage.blocks < 1:
            raise UserError(f"decoder stage {number}: {stage}; the encoder reaches {sorted(reached)}")
        if source is not None and (source not in started or stage.resolution % source):
            raise UserError(f"decoder stage {number}: upsample_from {source}, expected one of {sorted(started)}")
        started.add(stage.resolution)
    if not decoder or decoder[-1].resolution != image_size or layout.at(image_size) != layout.width:
        raise UserError(f"decoder: the last stage must have resolution {image_size} and width {layout.width}")
