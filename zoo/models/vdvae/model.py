"""Very deep VAE (Child 2020, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images").

Shape letters: B batch, C image channels, H = W image size, R resolution of a layer, W width (channels) at that
resolution, Z latent channels per position, M logistic mixtures.

A bottom-up encoder leaves one activation per resolution. The top-down decoder holds one stream of features per
resolution and visits its stochastic layers from 1x1 to the image size; each layer reads its stream, proposes a prior
and (given an image) a posterior, asks the policy for the latents, and writes them back into the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.likelihood.latents import LatentPolicy
from zoo.likelihood.levels import Bins, check_bits, from_levels, to_levels
from zoo.likelihood.mixture import LogisticMixture, head_channels
from zoo.likelihood.model import AncestralModel
from zoo.likelihood.precision import outside_autocast
from zoo.likelihood.terms import Objective
from zoo.models.blocks import ramp
from zoo.models.vdvae.fused import FusedLayer
from zoo.models.vdvae.layers import Decoder, DecoderStage, Encoder, EncoderStage, Layout, StochasticLayer, convolution


@dataclass(frozen=True)
class Architecture:
    """The network, as data.

    Attributes:
        encoder: stages from the image size downwards.
        decoder: stages from the lowest resolution upwards; the last one has the image size.
        width: channels of every resolution that `widths` does not name.
        widths: resolution -> channels. They may only shrink towards high resolutions.
        latent_channels: latents per position of every stochastic layer.
        bottleneck: channels inside a block, as a fraction of its width.
        bias_up_to: largest resolution with a learned bias.
        mixtures: logistics per pixel.
    """

    encoder: list[EncoderStage]
    decoder: list[DecoderStage]
    width: int = 384
    widths: dict[int, int] | None = None
    latent_channels: int = 16
    bottleneck: float = 0.25
    bias_up_to: int = 64
    mixtures: int = 10

    @property
    def layout(self) -> Layout:
        """Channels by resolution."""
        # A checkpoint carries the arguments as JSON, where keys are strings.
        widths = {int(resolution): width for resolution, width in (self.widths or {}).items()}
        return Layout(self.width, widths, self.bottleneck, self.latent_channels)


@dataclass(frozen=True)
class EncoderInput:
    """What the encoder sees of an image.

    Attributes:
        bits: depth; None means the depth that is priced. The official 5-bit model sees 8 bits, which prices correctly
            but cannot be coded: a receiver has only the 5-bit image (see `docs/models/vdvae.md`).
        shift: added to the 8-bit pixel value.
        scale: then multiplied by this.
    """

    bits: int | None = None
    shift: float = -127.5
    scale: float = 1 / 64


@dataclass(frozen=True)
class Aids:
    """What helps short trainings; the defaults are the official code, which has none.

    Attributes:
        posterior_gain: factor on the initial weights that make the posterior's means. Officially 1, which makes them so
            small that fine latents carry nothing until late in training.
        max_posterior_shift: largest distance of a posterior's mean from the prior's, in the prior's standard
            deviations; None sets no limit. Keeps images unlike the training data from costing without bound.
        kl_warmup_steps: training steps over which the weight of the rates rises to 1, from no less than 0.1.
    """

    posterior_gain: float = 1.0
    max_posterior_shift: float | None = None
    kl_warmup_steps: int = 0


class VDVAE(AncestralModel):
    """Very deep VAE with a discretised logistic mixture over the pixels.

    Args:
        architecture: the network.
        image_shape: (C, H, W) of the images, square; C is 3 or 1.
        bits: depth of the pixels that are priced.
        bins: how the mass of a level is computed; "vdvae" is the official formula.
        sees: what the encoder sees.
        aids: for short trainings.

    Example:
        >>> small = Architecture([EncoderStage(4, 2, 4), EncoderStage(1, 1)],
        ...                      [DecoderStage(1, 1), DecoderStage(4, 2, 1)], width=8, latent_channels=2)
        >>> VDVAE(small, [3, 4, 4]).terms(torch.zeros(5, 3, 4, 4, dtype=torch.uint8)).bits_per_dim().shape
        torch.Size([5])
    """

    def __init__(
        self,
        architecture: Architecture,
        image_shape: Sequence[int] = (3, 32, 32),
        bits: int = 8,
        bins: Bins = "normalised",
        sees: EncoderInput = EncoderInput(),
        aids: Aids = Aids(),
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        net, layout = architecture, architecture.layout
        if channels not in (1, 3) or height != width:
            raise UserError(f"image_shape={list(image_shape)}: expected square images of 1 or 3 channels")
        _check_stages(net.encoder, net.decoder, layout, height)
        self.image_shape, self.bits, self.bins = (channels, height, width), check_bits(bits), bins
        self.sees, self.input_bits = sees, self.bits if sees.bits is None else check_bits(sees.bits)
        self.kl_warmup_steps = aids.kl_warmup_steps
        self.encoder = Encoder(net.encoder, layout, channels)
        self.decoder = Decoder(net.decoder, layout, net.bias_up_to, aids.max_posterior_shift, FusedLayer)
        self.head = convolution(layout.width, head_channels(channels, net.mixtures), 1)
        with torch.no_grad():
            for layer in cast(Iterable[StochasticLayer], self.decoder.layers):
                layer.posterior.conv4.weight[: net.latent_channels] *= aids.posterior_gain

    def encode(self, x: Tensor) -> dict[int, Tensor]:
        """Encoder activations of 8-bit pixels: (B, C, H, W) uint8 -> resolution -> (B, W, R, R)."""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ValueError(f"expected images of shape {self.image_shape} (C, H, W), got {tuple(x.shape[1:])}")
        pixels = from_levels(to_levels(x, self.input_bits), self.input_bits)
        values = (pixels.to(self.head.weight.dtype) + self.sees.shift) * self.sees.scale
        result: dict[int, Tensor] = self.encoder(values)
        return result

    def decode(self, policy: LatentPolicy, seen: Mapping[int, Tensor] | None, n: int) -> Tensor:
        """Top-down traversal: (B, 10M, H, W), the parameters of the pixel distribution."""
        return outside_autocast(self.head, self.decoder(policy, seen, n))

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
        return LogisticMixture.from_head(head, self.bits, self.bins, channels=self.image_shape[0])

    def objective(self, x: Tensor, label: Tensor | None = None, step: int | Tensor = 0) -> Objective:
        """The negative ELBO in nats per dimension; during the warm-up the rates weigh less than they cost."""
        if self.kl_warmup_steps == 0:
            return super().objective(x, label, step)
        terms, weight = self.terms(x, label), ramp(step, 0, self.kl_warmup_steps, 0.1)
        loss = (terms.distortion + weight * terms.rate).mean() / terms.num_dims
        return Objective(loss, terms, {"kl_weight": weight})

    def recomputed_blocks(self) -> Iterator[tuple[nn.Module, str]]:
        """See `LikelihoodModel`."""
        yield from ((block, "forward") for block in self.encoder.blocks)
        for layer in self.decoder.layers:
            yield from ((layer, method) for method in ("propose", "infer", "descend"))


def _check_stages(
    encoder: Sequence[EncoderStage], decoder: Sequence[DecoderStage], layout: Layout, image_size: int
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
    for number, run in enumerate(decoder):
        source = run.upsample_from
        if run.resolution not in reached or run.blocks < 1:
            raise UserError(f"decoder stage {number}: {run}; the encoder reaches {sorted(reached)}")
        if source is not None and (source not in started or run.resolution % source):
            raise UserError(f"decoder stage {number}: upsample_from {source}, expected one of {sorted(started)}")
        started.add(run.resolution)
    if not decoder or decoder[-1].resolution != image_size or layout.at(image_size) != layout.width:
        raise UserError(f"decoder: the last stage must have resolution {image_size} and width {layout.width}")
