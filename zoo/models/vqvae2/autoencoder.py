"""The hierarchical quantised autoencoder of VQ-VAE-2 (Razavi et al. 2019, section 3.1), for any number of levels.

Level 0 is the top (smallest grid). Letters: `C` channels, `D` code size, `K` codes, `L` levels.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError
from zoo.likelihood import (
    AncestralModel,
    Categorical,
    LatentPolicy,
    LatentSite,
    LogisticMixture,
    Objective,
    PointMass,
    check_bits,
    level_values,
    to_levels,
)
from zoo.likelihood.precision import outside_autocast
from zoo.models.vqvae2.quantiser import CodebookInit, Quantised, VectorQuantiser, mean_over_processes

ReluSkip = Literal["identity", "relu"]


class Residual(nn.Module):
    """`x + conv1x1(relu(conv3x3(relu(x))))`.

    Args:
        channels: C.
        hidden: channels of the 3x3 convolution.
        skip: `relu` for weights trained when the public code's activation worked in place: the skip is relu(x).
    """

    def __init__(self, channels: int, hidden: int, skip: ReluSkip = "identity") -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, channels, 1)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        active = F.relu(x)
        result: Tensor = (active if self.skip == "relu" else x) + self.second(F.relu(self.first(active)))
        return result


def _residuals(channels: int, hidden: int, count: int, skip: ReluSkip) -> list[nn.Module]:
    return [Residual(channels, hidden, skip) for _ in range(count)]


class Encoder(nn.Sequential):
    """Halves the grid log2(stride) times, then residual blocks.

    Args:
        inputs: channels read.
        channels: C.
        hidden: channels inside residual blocks.
        blocks: number of residual blocks.
        stride: 2, 4 or 8.
        skip: see `Residual`.
    """

    def __init__(self, inputs: int, channels: int, hidden: int, blocks: int, stride: int, skip: ReluSkip) -> None:
        steps = _steps(stride)
        widths = [inputs, channels // 2, *[channels] * (steps - 1)]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]
        layers.append(nn.Conv2d(widths[-1], channels, 3, padding=1))
        super().__init__(*layers, *_residuals(channels, hidden, blocks, skip), nn.ReLU())


class Decoder(nn.Sequential):
    """Residual blocks, then doubles the grid log2(stride) times.

    Args:
        inputs: channels read.
        outputs: channels written, without output nonlinearity.
        channels: C.
        hidden: channels inside residual blocks.
        blocks: number of residual blocks.
        stride: 2, 4 or 8.
        skip: see `Residual`.
    """

    def __init__(
        self, inputs: int, outputs: int, channels: int, hidden: int, blocks: int, stride: int, skip: ReluSkip
    ) -> None:
        steps = _steps(stride)
        widths = [channels, *[channels] * (steps - 2), *[channels // 2] * (steps > 1), outputs]
        layers: list[nn.Module] = [nn.Conv2d(inputs, channels, 3, padding=1)]
        layers += _residuals(channels, hidden, blocks, skip)
        for a, b in itertools.pairwise(widths):
            layers += [nn.ReLU(), nn.ConvTranspose2d(a, b, 4, 2, 1)]
        # One relu ends the residual blocks; between transposed convolutions each has its own.
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, H, W); the last layer makes pixels, in full precision."""
        *body, last = self
        for layer in body:
            x = layer(x)
        return outside_autocast(last, x)


def _steps(stride: int) -> int:
    if stride not in (2, 4, 8):
        raise UserError(f"stride is {stride}, expected 2, 4 or 8")
    return stride.bit_length() - 1


def level_names(levels: int) -> list[str]:
    """Names of the levels, top first: top, mid, bottom where they fit."""
    known = {1: ["codes"], 2: ["top", "bottom"], 3: ["top", "mid", "bottom"]}
    return known.get(levels) or [f"level{n}" for n in range(levels, 0, -1)]


@dataclass(frozen=True)
class Encoded:
    """All levels of a batch, top first."""

    levels: list[Quantised]

    @property
    def codes(self) -> list[Tensor]:
        """(B, H_l, W_l) int64 of each level, top first."""
        return [level.codes for level in self.levels]


class QuantisedAutoencoder(AncestralModel):
    """Encoder to several grids of codes and decoder back; the first stage of VQ-VAE-2.

    It is trained by mean squared error and commitment. So that it can be watched in bits/dim from the first step, it is
    also a (poor) likelihood model: uniform prior over codes, and one discretised logistic per colour around the
    reconstruction, whose scale follows the mean absolute error. That part is ours, not the paper's.

    Args:
        image_shape: [channels, height, width]; every side divisible by the product of the strides.
        strides: downscaling of each level, bottom first, 2, 4 or 8 for the first and 2 for the others.
        channels: C, "hidden units".
        residual_channels: "residual units".
        residual_blocks: per encoder and decoder, "layers".
        num_codes: K.
        code_dim: D.
        commitment: weight of the commitment loss.
        decay: of the codebook's moving averages.
        codebook_init: see `VectorQuantiser`.
        revive_below: see `VectorQuantiser`.
        residual_skip: see `Residual`.
        bits: depth of the pixels it sees and prices.
    """

    reconstructs = True

    def __init__(
        self,
        image_shape: list[int],
        strides: list[int] = [4, 2],  # noqa: B006
        channels: int = 128,
        residual_channels: int = 64,
        residual_blocks: int = 2,
        num_codes: int = 512,
        code_dim: int = 64,
        commitment: float = 0.25,
        decay: float = 0.99,
        codebook_init: CodebookInit = "data",
        revive_below: float = 0.0,
        residual_skip: ReluSkip = "identity",
        bits: int = 8,
    ) -> None:
        super().__init__()
        planes, height, width = image_shape
        self.image_shape, self.bits = (planes, height, width), check_bits(bits)
        self.num_codes, self.code_dim, self.commitment = num_codes, code_dim, commitment
        self.strides, count = list(strides), len(strides)
        self.names = level_names(count)
        total = 1
        grids = []
        for stride in strides:
            total *= stride
            if height % total or width % total:
                raise UserError(f"image {height}x{width} is not divisible by the strides {strides}")
            grids.append((height // total, width // total))
        self.grids = grids[::-1]
        body = (channels, residual_channels, residual_blocks)
        d, skip = code_dim, residual_skip
        # bottom-up, bottom first; everything else top first
        self.encoders = nn.ModuleList(
            Encoder(planes if n == 0 else channels, *body, stride, skip) for n, stride in enumerate(strides)
        )
        self.to_code = nn.ModuleList(nn.Conv2d(channels if n == 0 else d + channels, d, 1) for n in range(count))
        self.quantisers = nn.ModuleList(
            VectorQuantiser(num_codes, d, decay, init=codebook_init, revive_below=revive_below) for _ in range(count)
        )
        # level_decoders[n] turns the codes of levels 0..n into what conditions level n + 1
        self.level_decoders = nn.ModuleList(
            Decoder(d * (n + 1), d, *body, strides[count - 1 - n], skip) for n in range(count - 1)
        )
        # upsamplers[n] brings level n to the resolution of the bottom level
        self.upsamplers = nn.ModuleList(
            nn.Sequential(*(nn.ConvTranspose2d(d, d, 4, 2, 1) for _ in range(count - 1 - n))) for n in range(count - 1)
        )
        self.decoder = Decoder(d * count, planes, *body, strides[0], skip)
        self.absolute_error: Tensor
        self.register_buffer("absolute_error", torch.full((planes,), 0.1))

    # -- encode and decode --------------------------------------------------------------------------------------------

    def normalise(self, x: Tensor) -> Tensor:
        """Source pixels (B, C, H, W) uint8 to [-1, 1] at the model's depth."""
        return level_values(to_levels(x, self.bits), self.bits, next(self.decoder.parameters()).dtype)

    def encode(self, values: Tensor) -> Encoded:
        """Quantise images on [-1, 1]; in training mode the codebooks move."""
        features = []
        for encoder in self.encoders:
            values = encoder(values)
            features.append(values)
        levels: list[Quantised] = []
        for n, (convolution, quantiser) in enumerate(zip(self.to_code, self.quantisers, strict=True)):
            h = features[-1 - n]
            if n:
                above = [_repeat(level.vectors, levels[-1].vectors) for level in levels]
                h = torch.cat([self.level_decoders[n - 1](torch.cat(above, 1)), h], 1)  # (B, D + C, H_l, W_l)
            levels.append(quantiser(outside_autocast(convolution, h)))
        return Encoded(levels)

    def lookup(self, codes: list[Tensor]) -> list[Tensor]:
        """Code vectors (B, D, H_l, W_l) of every level, top first."""
        quantisers = cast(Iterable[VectorQuantiser], self.quantisers)
        return [quantiser.lookup(grid) for quantiser, grid in zip(quantisers, codes, strict=True)]

    def joined(self, vectors: list[Tensor]) -> Tensor:
        """All levels at the bottom's resolution, (B, L D, H_bottom, W_bottom)."""
        upper = [up(vector) for up, vector in zip(self.upsamplers, vectors, strict=False)]
        return torch.cat([*upper, vectors[-1]], 1)

    def decode(self, vectors: list[Tensor]) -> Tensor:
        """Reconstruction (B, C, H, W) on [-1, 1], not clamped, from code vectors, top first."""
        result: Tensor = self.decoder(self.joined(vectors))
        return result

    @torch.no_grad()
    def reconstruct(self, x: Tensor, levels: int | None = None) -> Tensor:
        """(B, C, H, W) uint8 from the codes of the upper `levels` alone; lower ones get their mean code vector."""
        return to_pixels(self.rebuilt(x, levels))

    def rebuilt(self, x: Tensor, levels: int | None = None) -> Tensor:
        """As `reconstruct`, (B, C, H, W) on [-1, 1] and not clamped."""
        codes = self.encode(self.normalise(x)).codes
        vectors = self.lookup(codes)
        for n in range(levels if levels is not None else len(vectors), len(vectors)):
            quantiser = cast(VectorQuantiser, self.quantisers[n])
            weights = quantiser.counts
            mean = (weights[:, None] * quantiser.codebook).sum(0) / weights.sum().clamp_min(1e-12)
            vectors[n] = mean[None, :, None, None].expand_as(vectors[n])
        return self.decode(vectors)

    # -- likelihood ---------------------------------------------------------------------------------------------------

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> LogisticMixture:
        """Sites of codes under a uniform prior, then one logistic per colour."""
        codes = None if x is None else self.encode(self.normalise(x)).codes
        batch = n if x is None else len(x)
        chosen = []
        for level, (name, grid) in enumerate(zip(self.names, self.grids, strict=True)):
            uniform = Categorical(self.absolute_error.new_zeros(1).expand(batch, *grid, self.num_codes))
            posterior = None if codes is None else PointMass(codes[level])
            chosen.append(policy(LatentSite(name, level, uniform, posterior)))
        return self.pixels(self.decode(self.lookup(chosen)))

    def pixels(self, mean: Tensor) -> LogisticMixture:
        """One logistic per colour around a reconstruction (B, C, H, W)."""
        # E|x - mean| of a logistic is 2 ln 2 times its scale
        log_scale = (self.absolute_error / 1.3863).clamp_min(1e-3).log()
        means = mean[:, :, None]  # (B, C, 1, H, W)
        coefficients = None
        if self.image_shape[0] == 3:
            coefficients = torch.zeros_like(means)
        scales = log_scale[None, :, None, None, None].expand_as(means)
        return LogisticMixture(torch.zeros_like(mean[:, :1]), means, scales, coefficients, self.bits)

    def objective(self, x: Tensor, label: Tensor | None = None, step: int | Tensor = 0) -> Objective:
        """Mean squared error plus weighted commitment, summed over levels; pixels on [-1, 1]."""
        values = self.normalise(x)
        encoded = self.encode(values)
        reconstruction = self.decode([level.vectors for level in encoded.levels])
        mse = F.mse_loss(reconstruction, values)
        commitment = torch.stack([level.commitment for level in encoded.levels]).sum()
        if self.training:
            with torch.no_grad():
                error = mean_over_processes((reconstruction - values).abs().mean((0, 2, 3)))
                self.absolute_error.lerp_(error.to(self.absolute_error.dtype), 0.01)
        parts = {"mse": mse.detach(), "commitment": commitment.detach()}
        quantisers = cast(Iterable[VectorQuantiser], self.quantisers)
        for name, level, quantiser in zip(self.names, encoded.levels, quantisers, strict=True):
            parts[f"perplexity/{name}"] = level.perplexity
            parts[f"used/{name}"] = level.used
            parts[f"dead/{name}"] = (quantiser.counts < 0.01).float().sum()
        return Objective(mse + self.commitment * commitment, None, parts)

    def mse(self, x: Tensor) -> Tensor:
        """(B,) mean squared error of the reconstruction, pixels on [-1, 1]."""
        values = self.normalise(x)
        return (self.decode(self.lookup(self.encode(values).codes)) - values).pow(2).flatten(1).mean(1)


def to_pixels(values: Tensor) -> Tensor:
    """Nearest 8-bit pixel of values on [-1, 1]."""
    return (values.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)


def _repeat(vectors: Tensor, like: Tensor) -> Tensor:
    """Bring a coarser level to the grid of another by repetition."""
    return vectors if vectors.shape == like.shape else F.interpolate(vectors, size=like.shape[2:])
