"""Very deep VAE (Child 2020, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images").

Shape letters: B batch, C image channels, H = W image size, R resolution of a layer, W width (channels) at that
resolution, Z latent channels per position, M logistic mixtures.

A bottom-up encoder leaves one activation per resolution. The top-down decoder holds one stream of features per
resolution and visits its stochastic layers from 1x1 to the image size; each layer reads its stream, proposes a prior
and (given an image) a posterior, asks the policy for the latents, and writes them back into the stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from zoo.errors import UserError
from zoo.likelihood.latents import LatentPolicy
from zoo.likelihood.levels import Bins, check_bits, from_levels, to_levels
from zoo.likelihood.mixture import LogisticMixture
from zoo.likelihood.model import AncestralModel
from zoo.likelihood.terms import Objective
from zoo.models.vdvae.layers import Decoder, DecoderStage, Encoder, EncoderStage, Layout, convolution


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
        bins: how the mass of a level is computed; "vdvae" is the official formula.
        posterior_gain: factor on the initial weights that make the posterior's means. Officially 1, which makes them so
            small that fine latents carry nothing until late in training; short trainings want more.
        posterior_reach: largest distance of a posterior's mean from the prior's, in the prior's standard deviations;
            None (officially) sets no limit. Keeps images unlike the training data from costing without bound.
        kl_warmup_steps: training steps over which the weight of the rates rises from 0.1 to 1. Officially 0: no rise.
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
        bins: Bins = "normalised",
        posterior_gain: float = 1.0,
        posterior_reach: float | None = None,
        kl_warmup_steps: int = 0,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        encoder = [stage if isinstance(stage, EncoderStage) else EncoderStage(**stage) for stage in encoder]
        decoder = [stage if isinstance(stage, DecoderStage) else DecoderStage(**stage) for stage in decoder]
        # A checkpoint carries the arguments as JSON, where keys are strings.
        layout = Layout(width, {int(r): w for r, w in (widths or {}).items()}, bottleneck, latent_channels)
        _check_stages(encoder, decoder, layout, image_size)
        if image_channels not in (1, 3):
            raise UserError(f"image_channels={image_channels}: the logistic mixture prices 1 or 3 channels")
        self.bits = check_bits(bits)
        self.input_bits = self.bits if input_bits is None else check_bits(input_bits)
        self.image_shape = (image_channels, image_size, image_size)
        self.shift, self.scale, self.bins = shift, scale, bins
        self.kl_warmup_steps = kl_warmup_steps
        self.checkpoint_activations = checkpoint_activations
        self.encoder = Encoder(encoder, layout, image_channels)
        self.decoder = Decoder(decoder, layout, bias_up_to, posterior_reach)
        numbers = 1 + 2 * image_channels + (3 if image_channels == 3 else 0)  # logit, means, scales, coefficients
        self.head = convolution(layout.width, numbers * mixtures, 1)
        with torch.no_grad():
            for layer in self.decoder.layers:
                layer.posterior.conv4.weight[:latent_channels] *= posterior_gain

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
            return LogisticMixture.from_head(head, self.bits, self.bins)
        logits, means, log_scales = head.chunk(3, dim=1)  # (B, 3M, H, W) -> three times (B, M, H, W)
        return LogisticMixture(logits, means.unsqueeze(1), log_scales.unsqueeze(1), None, self.bits, self.bins)

    def objective(self, x: Tensor, label: Tensor | None = None, step: int = 0) -> Objective:
        """The negative ELBO in nats per dimension; during the warm-up the rates weigh less than they cost."""
        if step >= self.kl_warmup_steps:
            return super().objective(x, label, step)
        terms = self.terms(x, label)
        weight = 0.1 + 0.9 * step / self.kl_warmup_steps
        loss = (terms.distortion + weight * terms.rate).mean() / terms.num_dims
        return Objective(loss, terms, {"kl_weight": torch.tensor(weight)})


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
    for number, stage in enumerate(decoder):
        source = stage.upsample_from
        if stage.resolution not in reached or stage.blocks < 1:
            raise UserError(f"decoder stage {number}: {stage}; the encoder reaches {sorted(reached)}")
        if source is not None and (source not in started or stage.resolution % source):
            raise UserError(f"decoder stage {number}: upsample_from {source}, expected one of {sorted(started)}")
        started.add(stage.resolution)
    if not decoder or decoder[-1].resolution != image_size or layout.at(image_size) != layout.width:
        raise UserError(f"decoder: the last stage must have resolution {image_size} and width {layout.width}")
