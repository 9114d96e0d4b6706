"""First stages of latent diffusion: convolutional autoencoders regularised by a KL term or by a codebook.

Rombach et al. 2022 ("High-Resolution Image Synthesis with Latent Diffusion Models"), section 3.1 and appendix G. Images
are real-valued in [-1, 1]; nothing here knows about bit depth. Letters: B batch, C channels, E embedding channels,
K codes, H x W image size, f downsampling factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError
from zoo.likelihood.first_stage import FirstStage, FirstStagePass
from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.levels import level_values, to_levels

NORM_GROUPS = 32
LOG_VARIANCE_RANGE = (-30.0, 20.0)


def _norm(width: int) -> nn.GroupNorm:
    """Group normalisation as the released checkpoints have it (32 groups, eps 1e-6)."""
    if width % NORM_GROUPS:
        msg = f"every width must be a multiple of {NORM_GROUPS} (group normalisation), got {width}"
        raise UserError(msg)
    return nn.GroupNorm(NORM_GROUPS, width, eps=1e-6)


class ResidualBlock(nn.Module):
    """Two pre-normalised 3x3 convolutions and a shortcut, which is a 1x1 convolution where the width changes."""

    def __init__(self, width_in: int, width_out: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = _norm(width_in)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.norm2 = _norm(width_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.shortcut = nn.Identity() if width_in == width_out else nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, H, W) -> (B, width_out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        result: Tensor = self.shortcut(x) + h
        return result


class SpatialAttention(nn.Module):
    """One-head self-attention over all positions, with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.query = nn.Conv2d(width, width, 1)
        self.key = nn.Conv2d(width, width, 1)
        self.value = nn.Conv2d(width, width, 1)
        self.output = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        h = self.norm(x)
        # (B, width, H, W) -> (B, H*W, width)
        query, key, value = (p(h).flatten(2).transpose(1, 2) for p in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = x + self.output(mixed.transpose(1, 2).reshape(x.shape))  # (B, H*W, width) -> (B, width, H, W)
        return result


class Downsample(nn.Module):
    """Stride-2 convolution padded with zeros on the right and at the bottom only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, width, H/2, W/2)."""
        result: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return result


class Upsample(nn.Module):
    """Nearest-neighbour doubling followed by a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, width, 2H, 2W)."""
        result: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return result


class Level(nn.Module):
    """The blocks of one resolution, an attention layer after each of them if asked for, then a change of resolution."""

    def __init__(self, width_in: int, width: int, blocks: int, attention: bool, resample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(width_in if j == 0 else width, width) for j in range(blocks))
        self.attentions = nn.ModuleList(SpatialAttention(width) for _ in range(blocks if attention else 0))
        self.resample = resample if resample is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in, H, W) -> (B, width, H', W')."""
        for j, block in enumerate(self.blocks):
            x = block(x)
            if self.attentions:
                x = self.attentions[j](x)
        result: Tensor = self.resample(x)
        return result


class Middle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, width: int, attention: bool) -> None:
        super().__init__()
        self.block1 = ResidualBlock(width, width)
        self.attention = SpatialAttention(width) if attention else nn.Identity()
        self.block2 = ResidualBlock(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        result: Tensor = self.block2(self.attention(self.block1(x)))
        return result


def to_uint8(reconstruction: Tensor) -> Tensor:
    """Decoder output on [-1, 1] to pixels the way the released pipeline does: clipped, scaled, truncated."""
    return ((0.5 * reconstruction + 0.5).clamp(0.0, 1.0) * 255.0).to(torch.uint8)


@dataclass(frozen=True)
class AutoencoderShape:
    """What encoder and decoder have in common.

    Attributes:
        width: channels of the highest resolution, a multiple of 32.
        width_mult: multiple of `width` at each level, highest resolution first; f = 2 ** (len - 1).
        blocks: residual blocks of an encoder level (a decoder level has one more).
        attention_levels: levels (0 = highest resolution) with attention after every block.
        z_channels: channels between encoder and decoder, before the 1x1 convolutions to and from the embedding.
        image_channels: 3 for colour.
        middle_attention: whether the middle has its attention layer (the "noattn" files have none).
    """

    width: int
    width_mult: tuple[int, ...]
    blocks: int
    attention_levels: tuple[int, ...]
    z_channels: int
    image_channels: int = 3
    middle_attention: bool = True

    @property
    def widths(self) -> list[int]:
        """Channels of each level, highest resolution first."""
        return [self.width * m for m in self.width_mult]


class Encoder(nn.Module):
    """Image to moments (or pre-quantisation code) at 1/f of the resolution."""

    def __init__(self, shape: AutoencoderShape, out_channels: int) -> None:
        super().__init__()
        widths = shape.widths
        self.conv_in = nn.Conv2d(shape.image_channels, shape.width, 3, padding=1)
        self.levels = nn.ModuleList()
        width_in = shape.width
        for i, width in enumerate(widths):
            resample = Downsample(width) if i < len(widths) - 1 else None
            self.levels.append(Level(width_in, width, shape.blocks, i in shape.attention_levels, resample))
            width_in = width
        self.middle = Middle(widths[-1], shape.middle_attention)
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H/f, W/f)."""
        h = self.conv_in(images)
        for level in self.levels:
            h = level(h)
        result: Tensor = self.conv_out(F.silu(self.norm_out(self.middle(h))))
        return result


class Decoder(nn.Module):
    """Latent to image; levels are stored highest resolution first, like the encoder's, and run from the last one."""

    def __init__(self, shape: AutoencoderShape) -> None:
        super().__init__()
        widths = shape.widths
        self.conv_in = nn.Conv2d(shape.z_channels, widths[-1], 3, padding=1)
        self.middle = Middle(widths[-1], shape.middle_attention)
        self.levels = nn.ModuleList()
        for i, width in enumerate(widths):
            width_in = widths[min(i + 1, len(widths) - 1)]
            resample = Upsample(width) if i > 0 else None
            self.levels.append(Level(width_in, width, shape.blocks + 1, i in shape.attention_levels, resample))
        self.norm_out = _norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], shape.image_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, z_channels, H/f, W/f) -> (B, C, H, W), neither squashed nor clamped."""
        h = self.middle(self.conv_in(z))
        for level in reversed(self.levels):
            h = level(h)
        result: Tensor = self.conv_out(F.silu(self.norm_out(h)))
        return result


class Autoencoder(FirstStage):
    """What the two first stages share; see `KLAutoencoder` and `VQAutoencoder`."""

    trains = True

    def __init__(self, shape: AutoencoderShape, embed_channels: int, moments: int) -> None:
        super().__init__()
        self.latent_channels = embed_channels
        self.factor = 2 ** (len(shape.width_mult) - 1)
        self.image_channels = shape.image_channels
        self.encoder = Encoder(shape, moments * shape.z_channels)
        self.decoder = Decoder(shape)
        self.to_embedding = nn.Conv2d(moments * shape.z_channels, moments * embed_channels, 1)
        self.from_embedding = nn.Conv2d(embed_channels, shape.z_channels, 1)

    @property
    def last_layer(self) -> Tensor:
        """The kernel that the adaptive adversarial weight compares gradients at."""
        return self.decoder.conv_out.weight

    def decode(self, latent: Tensor) -> Tensor:
        """(B, E, H/f, W/f) -> image (B, C, H, W), not clamped."""
        result: Tensor = self.decoder(self.from_embedding(latent))
        return result

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Encode and decode (B, C, H, W) uint8 without noise: uint8, truncated as the released pipeline does."""
        return to_uint8(self.decode(self.latent(level_values(to_levels(x, 8), 8))))


class KLAutoencoder(Autoencoder):
    """Autoencoder with a Gaussian latent, weakly drawn to the standard normal.

    Args:
        width: channels of the highest resolution (128 in the released files), a multiple of 32.
        width_mult: multiple of `width` per level, highest resolution first.
        blocks: residual blocks per encoder level.
        attention_levels: levels (0 = highest resolution) with attention.
        z_channels: channels between encoder and decoder.
        embed_channels: channels of the latent.
        image_channels: channels of the image.
        middle_attention: False for networks without any attention.
    """

    gaussian = True

    def __init__(
        self,
        width: int = 128,
        width_mult: Sequence[int] = (1, 2, 4, 4),
        blocks: int = 2,
        attention_levels: Sequence[int] = (),
        z_channels: int = 4,
        embed_channels: int = 4,
        image_channels: int = 3,
        middle_attention: bool = True,
    ) -> None:
        shape = AutoencoderShape(
            width, tuple(width_mult), blocks, tuple(attention_levels), z_channels, image_channels, middle_attention
        )
        super().__init__(shape, embed_channels, moments=2)

    def encode(self, images: Tensor) -> DiagonalGaussian:
        """(B, C, H, W) in [-1, 1] -> Gaussian over (B, E, H/f, W/f); log-variance clamped to [-30, 20]."""
        mean, log_variance = self.to_embedding(self.encoder(images)).chunk(2, dim=1)
        return DiagonalGaussian(mean, 0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE))

    def latent(self, images: Tensor) -> Tensor:
        """Mean of the encoder's Gaussian, (B, E, H/f, W/f)."""
        return self.encode(images).mean

    def training_pass(self, images: Tensor) -> FirstStagePass:
        """Decode a sample of the latent; the penalty is KL(q || N(0, I)) in nats per image, batch mean."""
        posterior = self.encode(images)
        prior = DiagonalGaussian(torch.zeros_like(posterior.mean), torch.zeros_like(posterior.mean))
        latent = posterior.sample(torch.randn_like(posterior.mean))
        kl = posterior.kl(prior).sum(dim=(1, 2, 3)).mean()
        return FirstStagePass(self.decode(latent), kl, {"kl": kl.detach()})


class VQAutoencoder(Autoencoder):
    """Autoencoder whose latent is replaced by the nearest of K codebook vectors when it is decoded.

    The second stage models the continuous latent before quantisation ("interface" class of latent diffusion), so
    `latent` returns that and `decode` quantises.

    Args:
        num_codes: K, size of the codebook.
        commitment: weight of the codebook part of the loss. The released files used the "legacy" form, where it
            multiplies the term that moves the codes and not the one that moves the encoder.
        width: see `KLAutoencoder`, as for the rest.
        width_mult: multiple of `width` per level.
        blocks: residual blocks per encoder level.
        attention_levels: levels with attention.
        z_channels: channels between encoder and decoder.
        embed_channels: channels of a code.
        image_channels: channels of the image.
        middle_attention: False for networks without any attention.
    """

    def __init__(
        self,
        num_codes: int = 8192,
        commitment: float = 0.25,
        width: int = 128,
        width_mult: Sequence[int] = (1, 2, 4),
        blocks: int = 2,
        attention_levels: Sequence[int] = (),
        z_channels: int = 3,
        embed_channels: int = 3,
        image_channels: int = 3,
        middle_attention: bool = True,
    ) -> None:
        shape = AutoencoderShape(
            width, tuple(width_mult), blocks, tuple(attention_levels), z_channels, image_channels, middle_attention
        )
        super().__init__(shape, embed_channels, moments=1)
        self.commitment = commitment
        self.codebook = nn.Embedding(num_codes, embed_channels)
        nn.init.uniform_(self.codebook.weight, -1.0 / num_codes, 1.0 / num_codes)

    def latent(self, images: Tensor) -> Tensor:
        """Latent before quantisation, (B, E, H/f, W/f)."""
        result: Tensor = self.to_embedding(self.encoder(images))
        return result

    def nearest(self, latent: Tensor) -> Tensor:
        """Index of the nearest code: (B, E, h, w) -> (B, h, w) int64; the first one wins ties."""
        flat = latent.permute(0, 2, 3, 1).reshape(-1, latent.shape[1])  # (B, E, h, w) -> (B*h*w, E)
        codes = self.codebook.weight
        distance = flat.square().sum(1, keepdim=True) + codes.square().sum(1) - 2 * flat @ codes.T  # (B*h*w, K)
        return distance.argmin(dim=1).reshape(latent.shape[0], *latent.shape[2:])

    def embed(self, indices: Tensor) -> Tensor:
        """(B, h, w) codes -> (B, E, h, w) vectors."""
        result: Tensor = self.codebook(indices).permute(0, 3, 1, 2)  # (B, h, w, E) -> (B, E, h, w)
        return result

    def decode(self, latent: Tensor, quantise: bool = True) -> Tensor:
        """Quantise (unless told not to) and decode: (B, E, H/f, W/f) -> (B, C, H, W)."""
        return super().decode(self.embed(self.nearest(latent)) if quantise else latent)

    def codebook_loss(self, latent: Tensor, quantised: Tensor) -> Tensor:
        """Scalar, per-element means: mean((sg(e) - z)^2) + commitment * mean((e - sg(z))^2)."""
        return F.mse_loss(latent, quantised.detach()) + self.commitment * F.mse_loss(quantised, latent.detach())

    def training_pass(self, images: Tensor) -> FirstStagePass:
        """Decode the quantised latent; the encoder's gradient passes straight through the quantiser."""
        latent = self.latent(images)
        indices = self.nearest(latent)
        quantised = self.embed(indices)
        penalty = self.codebook_loss(latent, quantised)
        through = latent + (quantised - latent).detach()
        usage = torch.bincount(indices.flatten(), minlength=self.codebook.num_embeddings) / indices.numel()
        perplexity = torch.exp(-torch.special.xlogy(usage, usage).sum())
        parts = {"codebook_loss": penalty.detach(), "perplexity": perplexity}
        return FirstStagePass(super().decode(through), penalty, parts)
