"""Building blocks of the hierarchical VAE over latents (Luhman & Luhman 2023, section 3). No normalisation anywhere.

Letters: B batch, c width, E width of the label embedding, Z latent channels, R resolution.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError
from zoo.likelihood.precision import full, outside_autocast
from zoo.models.blocks import TopDownLayer, site_name

AttentionMode = Literal["correct", "as_released"]
"""`as_released`: the released code overwrites the result of multi-head attention by the query, so that the layer is a
per-position linear map. Official weights were trained, and must be run, like that."""

SOFTPLUS_SHARPNESS = 0.693  # the official constant; not ln 2
SMALLEST_VARIANCE = 1e-20


def variance_head(mean: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation of the Gaussian whose variance is softplus(0.693 raw) / 0.693."""
    variance = F.softplus(SOFTPLUS_SHARPNESS * full(raw)) / SOFTPLUS_SHARPNESS
    return full(mean), 0.5 * variance.clamp_min(SMALLEST_VARIANCE).log()


def scaled_xavier_(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> None:
    """Xavier-uniform kernel times `gain` and a zero bias: the initialisation of the original code."""
    nn.init.xavier_uniform_(layer.weight)
    with torch.no_grad():
        layer.weight *= gain
        if layer.bias is not None:
            layer.bias.zero_()


class ResidualBlock(nn.Module):
    """Two k x k convolutions, then a 1x1 feed-forward part that widens by `ffn_mult` (section 3.2).

    Args:
        width: input channels.
        resolution: 3x3 kernels from 4x4 upwards, 1x1 below.
        ffn_mult: widening of the feed-forward part; 0 leaves it out.
        out_channels: output channels; None adds the input (residual), a number returns the bare result.
        label_channels: width of the label embedding; 0 is unconditional.
        out_gain: factor on the last kernel at initialisation.
    """

    def __init__(
        self,
        width: int,
        resolution: int,
        ffn_mult: int,
        out_channels: int | None = None,
        label_channels: int = 0,
        out_gain: float = 1.0,
    ) -> None:
        super().__init__()
        kernel = 3 if resolution >= 4 else 1
        out = width if out_channels is None else out_channels
        self.residual = out_channels is None
        self.label = nn.Linear(label_channels, width) if label_channels else None
        self.conv1 = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(width, width if ffn_mult else out, kernel, padding=kernel // 2)
        self.widen = nn.Conv2d(width, ffn_mult * width, 1) if ffn_mult else None
        self.narrow = nn.Conv2d(ffn_mult * width, out, 1) if ffn_mult else None
        for layer in (self.conv1, self.conv2, self.widen, self.narrow, self.label):
            if layer is not None:
                scaled_xavier_(layer, out_gain if layer is self.last else 1.0)

    @property
    def last(self) -> nn.Conv2d:
        """The convolution that gives the output."""
        return self.conv2 if self.narrow is None else self.narrow

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, c, R, R) and an embedded label (B, E) -> (B, out, R, R)."""
        u = x if self.label is None or label is None else x + self.label(label)[:, :, None, None]
        u = F.silu(self.conv1(F.silu(u)))
        if self.widen is not None:
            u = F.silu(self.widen(F.silu(self.conv2(u))))
        return x + self.last(u) if self.residual else outside_autocast(self.last, u)  # what is no residual is a head


class Attention(nn.Module):
    """Self-attention over all positions with a residual connection and no normalisation.

    With one head the official network uses a fused form: keys and values are the input itself.

    Args:
        width: channels, a multiple of `heads`.
        heads: attention heads.
        mode: see `AttentionMode`; one-head layers are right in the released code and the same in both modes.
    """

    def __init__(self, width: int, heads: int, mode: AttentionMode = "correct") -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"attention: width {width} is not a multiple of {heads} heads; change `heads`")
        self.heads, self.mode = heads, mode
        self.project = nn.Linear(width, width if heads == 1 else 3 * width)
        self.output = nn.Linear(width, width)
        scaled_xavier_(self.project)
        scaled_xavier_(self.output, 0.0)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, c, h, w) -> the same shape; the label is not used."""
        batch, width, *grid = x.shape
        tokens = x.flatten(2).transpose(1, 2)  # (B, c, h, w) -> (B, h*w, c)
        if self.heads == 1:
            mixed = F.scaled_dot_product_attention(self.project(tokens), tokens, tokens)
        elif self.mode == "as_released":
            mixed = self.project(tokens)[..., :width]
        else:
            # (B, h*w, 3c) -> three of (B, heads, h*w, c/heads)
            split = self.project(tokens).reshape(batch, -1, 3, self.heads, width // self.heads)
            query, key, value = split.permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(query, key, value)
            mixed = mixed.transpose(1, 2).reshape(batch, -1, width)  # (B, heads, h*w, c/heads) -> (B, h*w, c)
        result: Tensor = x + self.output(mixed).transpose(1, 2).reshape(batch, width, *grid)
        return result


class StochasticLayer(TopDownLayer):
    """One group of latents: prior, posterior, and the way the drawn value enters the state (section 3.3).

    Args:
        index: position from the top.
        width: decoder channels c.
        encoder_width: channels of the encoder's activation.
        resolution: R.
        ffn_mult: see `ResidualBlock`.
        latent_channels: Z.
        label_channels: E, 0 for unconditional models.
        learned_prior: whether mean and variance of the prior depend on the state ("hierarchical prior"); else N(0, 1).
        out_gain: initial factor on what is added to the state, 1 / sqrt(number of layers).
    """

    def __init__(
        self,
        index: int,
        width: int,
        encoder_width: int,
        resolution: int,
        ffn_mult: int,
        latent_channels: int,
        label_channels: int,
        learned_prior: bool,
        out_gain: float,
    ) -> None:
        super().__init__(index, site_name(index, resolution, resolution))
        self.resolution, self.latent_channels, self.learned_prior = resolution, latent_channels, learned_prior
        moments = 2 * latent_channels
        prior_out = width + (moments if learned_prior else 0)
        self.merge = nn.Conv2d(width + encoder_width, width, 1)
        self.posterior_block = ResidualBlock(width, resolution, ffn_mult, moments, label_channels)
        self.prior_block = ResidualBlock(width, resolution, ffn_mult, prior_out, label_channels, out_gain=1e-10)
        self.inject = nn.Conv2d(latent_channels, width, 1, bias=False)
        self.shared_block = ResidualBlock(width, resolution, ffn_mult, None, label_channels, out_gain)
        scaled_xavier_(self.merge)
        scaled_xavier_(self.inject, out_gain)

    def propose(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The prior, and the part of the state that does not wait for z, (B, c, R, R)."""
        out = self.prior_block(x, label)
        if not self.learned_prior:
            zeros = x.new_zeros(len(x), self.latent_channels, *x.shape[2:])
            return zeros, zeros, out
        mean, raw, residual = out.split([self.latent_channels, self.latent_channels, x.shape[1]], dim=1)
        return *variance_head(mean, raw), residual

    def infer(self, x: Tensor, activation: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The posterior, given the encoder's activation (B, encoder width, R, R)."""
        merged = self.merge(torch.cat([x, activation], dim=1))
        mean, raw = self.posterior_block(merged, label).chunk(2, dim=1)
        return variance_head(mean, raw)

    def descend(self, x: Tensor, residual: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        """State after the group: (B, c, R, R)."""
        out: Tensor = self.shared_block(x + self.inject(z) + residual, label)
        return out


class Resample(nn.Module):
    """Average pooling down or nearest neighbours up, then a 1x1 convolution where the width changes.

    Args:
        width_in: channels before.
        width_out: channels after.
        factor: pooling factor of an encoder level; None means upsampling to the size given to `forward`.
    """

    def __init__(self, width_in: int, width_out: int, factor: int | None = None) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(width_in, width_out, 1) if width_in != width_out else None
        if self.conv is not None:
            scaled_xavier_(self.conv)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """(B, width_in, h, w) -> (B, width_out, h / factor, w / factor), or to `size`."""
        x = F.interpolate(x, size=size, mode="nearest") if self.factor is None else F.avg_pool2d(x, self.factor)
        return x if self.conv is None else self.conv(x)


def attention_positions(layers: int, nominal: int) -> set[int]:
    """Numbers of the layers that are followed by attention: round(i * layers / (nominal + 1)), half to even.

    The decoder counts its layers from 1, the encoder from 0, and a number that occurs twice gives one attention layer.

    Example:
        >>> sorted(attention_positions(layers=4, nominal=4)), sorted(attention_positions(8, 4))
        ([1, 2, 3], [2, 3, 5, 6])
    """
    return {round(i * layers / (nominal + 1)) for i in range(1, nominal + 1)}


def residual_gain(layers: int) -> float:
    """Initial factor that keeps the variance of a sum over `layers` residual branches."""
    return 1.0 / math.sqrt(layers)
