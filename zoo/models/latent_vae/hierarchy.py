"""Hierarchical VAE over normalised latents (Luhman & Luhman 2023, section 3).

Letters: B batch, C channels of the data (here: of a first stage's latent), c width, Z latent channels, L stochastic
layers, R resolution of a level, h x w size of the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.latents import LatentPolicy
from zoo.likelihood.precision import full, outside_autocast
from zoo.models.latent_vae.blocks import (
    Attention,
    AttentionMode,
    Resample,
    ResidualBlock,
    StochasticLayer,
    attention_positions,
    residual_gain,
    scaled_xavier_,
)


def pyramid(resolution: int, levels: int) -> list[int]:
    """Resolutions of the levels, highest first: halved down to 4, after which comes 1.

    Args:
        resolution: side of the data, a power of two from 4 upwards.
        levels: how many levels there are; a network that upsamples has fewer than the whole pyramid.

    Raises:
        UserError: the side is no power of two, or there are more levels than resolutions.

    Example:
        >>> pyramid(32, 5), pyramid(256, 4)
        ([32, 16, 8, 4, 1], [256, 128, 64, 32])
    """
    if resolution < 4 or resolution & (resolution - 1):
        raise UserError(f"resolution: {resolution} is not a power of two of at least 4; resize the data")
    sides = [resolution]
    while sides[-1] > 4:
        sides.append(sides[-1] // 2)
    sides.append(1)
    if levels > len(sides):
        raise UserError(f"groups: {levels} levels, but a side of {resolution} has only {len(sides)}: {sides}")
    return sides[:levels]


class Encoder(nn.Module):
    """Bottom-up pass that leaves one activation per level, taken after the level's last block.

    Args:
        sides: resolutions, highest first.
        widths: channels per level.
        ffn_mult: see `ResidualBlock`, per level.
        blocks: residual blocks per level.
        attention: nominal count of attention layers per level.
        heads: attention heads per level.
        channels: C.
        label_channels: E.
        mode: see `AttentionMode`.
    """

    def __init__(
        self,
        sides: Sequence[int],
        widths: Sequence[int],
        ffn_mult: Sequence[int],
        blocks: Sequence[int],
        attention: Sequence[int],
        heads: Sequence[int],
        channels: int,
        label_channels: int,
        mode: AttentionMode,
    ) -> None:
        super().__init__()
        gain = residual_gain(sum(blocks))
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        scaled_xavier_(self.stem)
        self.levels = nn.ModuleList()
        self.pools = nn.ModuleList()
        for i, (side, width) in enumerate(zip(sides, widths, strict=True)):
            level = nn.ModuleList()
            for number in range(blocks[i]):
                level.append(ResidualBlock(width, side, ffn_mult[i], None, label_channels, gain))
                if number in attention_positions(blocks[i], attention[i]):
                    level.append(Attention(width, max(heads[i], 1), mode))
            self.levels.append(level)
            if i < len(sides) - 1:
                self.pools.append(Resample(width, widths[i + 1], factor=side // sides[i + 1]))

    def forward(self, y: Tensor, label: Tensor | None) -> list[Tensor]:
        """(B, C, h, w) -> one activation (B, width, R, R) per level, lowest resolution first."""
        x = self.stem(y)
        activations = []
        for i, level in enumerate(self.levels):
            for layer in level.children():
                x = layer(x, label)
            activations.append(x)
            if i < len(self.pools):
                x = self.pools[i](x)
        return activations[::-1]


class HierarchicalVAE(nn.Module):
    """Top-down hierarchy of Gaussian latents over an array of real numbers.

    All lists run from the highest resolution to the lowest, as in the paper's Table 5.

    Args:
        resolution: side of the data.
        channels: C.
        width: decoder channels, before `width_mult`.
        width_mult: multiple of `width` per level.
        ffn_mult: widening of the feed-forward part per level, 0 for none.
        groups: stochastic layers per level; its length is the number of levels.
        encoder_blocks: residual blocks of the encoder per level.
        attention: nominal count of attention layers per level; see `attention_positions`.
        heads: attention heads per level.
        encoder_width: encoder channels; None means `width`.
        latent_channels: Z, 16 in every published model.
        num_classes: 0 is unconditional.
        hierarchical_prior: learned priors; else every latent has the prior N(0, 1).
        attention_mode: "correct", or "as_released" for official weights; see `AttentionMode`.
        condition_channels: channels of a low-resolution image of the lowest level's side that the decoder starts from
            (the upsampling stack of Table 1), 0 for a learned start.

    Example:
        >>> vae = HierarchicalVAE(8, 3, 16, [1, 1, 1], [2, 2, 2], [2, 2, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0])
        >>> [layer.name for layer in vae.layers]
        ['z00_1x1', 'z01_4x4', 'z02_4x4', 'z03_8x8', 'z04_8x8']
    """

    def __init__(
        self,
        resolution: int,
        channels: int,
        width: int,
        width_mult: Sequence[int],
        ffn_mult: Sequence[int],
        groups: Sequence[int],
        encoder_blocks: Sequence[int],
        attention: Sequence[int],
        heads: Sequence[int],
        encoder_width: int | None = None,
        latent_channels: int = 16,
        num_classes: int = 0,
        hierarchical_prior: bool = False,
        attention_mode: AttentionMode = "correct",
        condition_channels: int = 0,
    ) -> None:
        super().__init__()
        sides = pyramid(resolution, len(groups))
        self.sides = sides[::-1]
        lists = {"width_mult": width_mult, "ffn_mult": ffn_mult, "encoder_blocks": encoder_blocks}
        _check_lengths(len(groups), **lists, attention=attention, heads=heads)
        self.resolution, self.channels, self.num_classes = resolution, channels, num_classes
        self.latent_channels, self.hierarchical_prior = latent_channels, hierarchical_prior
        self.attention_mode: AttentionMode = attention_mode
        widths = [width * m for m in width_mult]
        encoder_widths = [(encoder_width or width) * m for m in width_mult]
        label_channels = widths[-1] if num_classes else 0
        # One more row: the label of an image that has none.
        self.embed = nn.Embedding(num_classes + 1, label_channels) if num_classes else None
        self.encoder = Encoder(
            sides, encoder_widths, ffn_mult, encoder_blocks, attention, heads, channels, label_channels, attention_mode
        )
        self.start, self.condition = _beginning(widths[-1], sides[-1], condition_channels)
        self._gain = residual_gain(sum(groups))
        self.levels, self.upsamples = nn.ModuleList(), nn.ModuleList()
        for i in reversed(range(len(sides))):
            first = sum(groups[i + 1 :])
            level = self._level(first, groups[i], sides[i], widths[i], encoder_widths[i], ffn_mult[i], label_channels)
            self.levels.append(self._with_attention(level, attention[i], heads[i]))
            if i > 0:
                self.upsamples.append(Resample(widths[i], widths[i - 1]))
        self.head = nn.Conv2d(widths[0], 2 * channels, 1)
        scaled_xavier_(self.head)

    def _level(
        self, first: int, count: int, side: int, width: int, encoder_width: int, ffn_mult: int, label_channels: int
    ) -> list[StochasticLayer]:
        """The stochastic layers of one level; `first` is the number of the first one."""
        return [
            StochasticLayer(
                index=number,
                width=width,
                encoder_width=encoder_width,
                resolution=side,
                ffn_mult=ffn_mult,
                latent_channels=self.latent_channels,
                label_channels=label_channels,
                learned_prior=self.hierarchical_prior,
                out_gain=self._gain,
            )
            for number in range(first, first + count)
        ]

    def _with_attention(self, layers: list[StochasticLayer], nominal: int, heads: int) -> nn.ModuleList:
        """The layers of a level with its attention layers between them."""
        positions = attention_positions(len(layers), nominal)
        level = nn.ModuleList()
        for number, layer in enumerate(layers, start=1):
            level.append(layer)
            if number in positions:
                width = layer.merge.out_channels
                level.append(Attention(width, max(heads, 1), self.attention_mode))
        return level

    @property
    def layers(self) -> list[StochasticLayer]:
        """The stochastic layers in generation order, lowest resolution first."""
        return [layer for level in self.levels for layer in level.children() if isinstance(layer, StochasticLayer)]

    def recomputed_blocks(self) -> Iterator[tuple[nn.Module, str]]:
        """See `LikelihoodModel`."""
        for module in self.modules():
            if isinstance(module, StochasticLayer):
                yield from ((module, method) for method in ("propose", "infer", "descend"))
        for level in (*self.encoder.levels, *self.levels):
            yield from ((layer, "forward") for layer in level if not isinstance(layer, StochasticLayer))

    def embed_label(self, label: Tensor | None, n: int) -> Tensor | None:
        """(n,) class labels, -1 where there is none (None: nowhere) -> (n, E); None for unconditional networks."""
        if self.embed is None:
            return None
        none = torch.full((n,), self.num_classes, device=self.head.weight.device)
        result: Tensor | None = self.embed(none if label is None else torch.where(label < 0, none, label))
        return result

    def ancestral_pass(
        self,
        policy: LatentPolicy,
        y: Tensor | None = None,
        n: int = 1,
        label: Tensor | None = None,
        prior_label: Tensor | None = None,
        condition: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> DiagonalGaussian:
        """Visit every group from the lowest resolution up.

        Args:
            policy: where the latents come from.
            y: (B, C, h, w) data, if posteriors are wanted.
            n: batch size when there are no data.
            label: (B,) class labels, -1 for none; seen by encoder, posteriors and priors.
            prior_label: what priors and state see instead, for label dropout; None means `label`.
            condition: (B, C', R, R) low-resolution image, for networks built with `condition_channels`.
            size: (h, w) to generate when there are no data, multiples of `resolution` / 4; None is the side built for.

        Returns:
            Gaussian over (B, C, h, w). Samples of the paper are its mean.
        """
        batch = n if y is None else len(y)
        embedded = self.embed_label(label, batch)
        dropped = embedded if prior_label is None else self.embed_label(prior_label, batch)
        activations = None if y is None else self.encoder(y, embedded)
        x = self._initial(batch, condition)
        height, width = size or (self.resolution, self.resolution)
        for i, level in enumerate(self.levels):
            seen = None if activations is None else activations[i]
            for layer in level.children():
                x = layer(x) if isinstance(layer, Attention) else layer(x, seen, policy, embedded, dropped)
            if i < len(self.upsamples):
                above = self.sides[i + 1]
                x = self.upsamples[i](x, (above * height // self.resolution, above * width // self.resolution))
        mean, log_variance = outside_autocast(self.head, x).chunk(2, dim=1)
        return DiagonalGaussian(full(mean), 0.5 * full(log_variance))

    def _initial(self, batch: int, condition: Tensor | None) -> Tensor:
        """State before the first group: the learned start, or the projected low-resolution image."""
        if self.start is not None:
            return self.start.expand(batch, -1, -1, -1)
        assert self.condition is not None
        if condition is None:
            raise ValueError("this network upsamples: give it the low-resolution image as `condition`")
        result: Tensor = self.condition(condition)
        return result


def _beginning(width: int, side: int, channels: int) -> tuple[nn.Parameter | None, nn.Conv2d | None]:
    """What the state starts from: a learned array, or a projection of a small image with so many channels."""
    if not channels:
        return nn.Parameter(torch.zeros(1, width, side, side)), None
    projection = nn.Conv2d(channels, width, 1)
    scaled_xavier_(projection)
    return None, projection


def _check_lengths(levels: int, **lists: Sequence[int]) -> None:
    """Every per-level list needs one entry per level."""
    for name, values in lists.items():
        if len(values) != levels:
            raise UserError(f"{name}: {len(values)} entries for {levels} levels; give one per level, highest first")
