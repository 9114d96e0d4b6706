"""The score network of VDM: a U-net without changes of resolution that predicts the noise.

Kingma et al. 2021, appendix B; sizes and order as in the official code. Letters: `B` batch, `C` image channels, `H`,
`W` height and width, `N` network channels, `E` Fourier exponents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError
from zoo.likelihood.precision import outside_autocast

NORM_EPS = 1e-6  # flax's default; torch's is ten times larger


@dataclass(frozen=True)
class ScoreConfig:
    """Shape of the score network; defaults of the paper's CIFAR-10 model without augmentation.

    Attributes:
        width: channels N, the same in every layer (`sm_n_embd`).
        blocks: L residual blocks on the way down (`sm_n_layer`); there are L + 1 on the way up and two in the middle.
        attention: attention behind every block, not only in the middle.
        middle_attention: attention between the two middle blocks; always there in the paper.
        groups: groups of every normalisation. With one channel per group the network cannot see the time at all,
            since a normalised channel forgets the constant that the conditioning added: keep `width > groups`.
        dropout: rate inside the residual blocks.
        fourier_exponents: exponents of the Fourier features of z; None for bits - 2 and bits - 1 (6 and 7 at 8 bits, as
            the official code), [] for none.
    """

    width: int = 128
    blocks: int = 32
    attention: bool = False
    middle_attention: bool = True
    groups: int = 32
    dropout: float = 0.1
    fourier_exponents: list[int] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.width % self.groups:
            raise UserError(f"width={self.width} must be a multiple of groups={self.groups}; change one of them")

    def at(self, bits: int) -> ScoreConfig:
        """With the Fourier exponents of a depth filled in."""
        if self.fourier_exponents is not None:
            return self
        return replace(self, fourier_exponents=[bits - 2, bits - 1])


def fourier_features(z: Tensor, exponents: Sequence[int]) -> Tensor:
    """`z` with the sines and cosines of `2 pi 2^e z` appended.

    They let the network tell neighbouring levels apart when the noise is finer than the grid of levels. Order: the
    channels of z, all sines (channel-major, exponent-minor), all cosines.

    Args:
        z: (B, C, H, W).
        exponents: E whole numbers.

    Returns:
        (B, C + 2 C E, H, W).
    """
    if not exponents:
        return z
    angles = torch.stack([z * (2.0 * math.pi * 2.0**e) for e in exponents], dim=2)  # (B, C, E, H, W)
    angles = angles.flatten(1, 2)  # -> (B, C E, H, W)
    return torch.cat([z, angles.sin(), angles.cos()], dim=1)


def time_embedding(t: Tensor, width: int) -> Tensor:
    """Sinusoids of `1000 t`: (B,) -> (B, width), all sines before all cosines."""
    half = width // 2
    index = torch.arange(half, dtype=torch.float64, device=t.device)
    frequencies = torch.exp(index * (-math.log(10000.0) / max(half - 1, 1)))
    angles = 1000.0 * t.double().unsqueeze(1) * frequencies  # (B, half); float64 since angles reach 1000
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))


def lecun_normal_(weight: Tensor) -> None:
    """The default of flax: normal truncated at two deviations with variance 1 / fan-in."""
    std = 1.0 / math.sqrt(weight[0].numel())
    nn.init.trunc_normal_(weight, std=std / 0.87962566103423978, a=-2 * std, b=2 * std)


class ResnetBlock(nn.Module):
    """Two 3x3 convolutions around the conditioning vector, with a residual connection."""

    def __init__(self, in_channels: int, width: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1)
        self.condition = nn.Linear(4 * width, width, bias=False)
        self.norm2 = nn.GroupNorm(groups, width, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, width, 1) if in_channels != width else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, in_channels, H, W) and (B, 4N) -> (B, N, H, W)."""
        in_place = not torch.is_grad_enabled()  # nothing is needed again for a gradient
        h = self.conv1(F.silu(self.norm1(x), in_place))
        h += self.condition(condition)[:, :, None, None]  # (B, N) -> (B, N, 1, 1)
        h = self.conv2(self.dropout(F.silu(self.norm2(h), in_place)))
        result: Tensor = self.shortcut(x) + h
        return result


class AttentionBlock(nn.Module):
    """One head over all positions, with a residual connection."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=NORM_EPS)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, H, W) -> (B, N, H, W)."""
        h = self.norm(x).flatten(2).transpose(1, 2)  # (B, N, H, W) -> (B, HW, N)
        q, k, v = (layer(h).unsqueeze(1) for layer in (self.query, self.key, self.value))  # (B, 1, HW, N)
        h = self.project(F.scaled_dot_product_attention(q, k, v).squeeze(1))
        result: Tensor = x + h.transpose(1, 2).unflatten(2, x.shape[2:])  # (B, HW, N) -> (B, N, H, W)
        return result


class Stage(nn.Module):
    """A residual block and, if asked for, attention behind it."""

    def __init__(self, in_channels: int, width: int, groups: int, dropout: float, attention: bool) -> None:
        super().__init__()
        self.block = ResnetBlock(in_channels, width, groups, dropout)
        self.attention = AttentionBlock(width, groups) if attention else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, in_channels, H, W) and (B, 4N) -> (B, N, H, W)."""
        result: Tensor = self.attention(self.block(x, condition))
        return result


class ScoreNetwork(nn.Module):
    """Predicts the noise in z from z and gamma.

    Args:
        channels: image channels C.
        config: shape.
        ends: gamma that is time 0 and gamma that is time 1 for the embedding (constants, whatever the schedule learns).
        num_classes: classes of the optional class embedding; 0 leaves it out.
    """

    def __init__(self, channels: int, config: ScoreConfig, ends: tuple[float, float], num_classes: int = 0) -> None:
        super().__init__()
        self.config, self.ends = config, ends
        self.fourier_exponents = tuple(config.fourier_exponents or ())
        width, groups, dropout = config.width, config.groups, config.dropout
        self.dense0 = nn.Linear(width + 1, 4 * width)
        self.dense1 = nn.Linear(4 * width, 4 * width)
        # One more row than classes: the last one stands for "no label".
        self.classes = nn.Embedding(num_classes + 1, 4 * width) if num_classes else None
        self.conv_in = nn.Conv2d(channels * (1 + 2 * len(self.fourier_exponents)), width, 3, padding=1)
        self.down = nn.ModuleList(Stage(width, width, groups, dropout, config.attention) for _ in range(config.blocks))
        self.middle1 = Stage(width, width, groups, dropout, config.middle_attention)
        self.middle2 = Stage(width, width, groups, dropout, False)
        self.up = nn.ModuleList(
            Stage(2 * width, width, groups, dropout, config.attention) for _ in range(config.blocks + 1)
        )
        self.norm_out = nn.GroupNorm(groups, width, eps=NORM_EPS)
        self.conv_out = nn.Conv2d(width, channels, 3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the official code: at the start the network returns z itself."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                lecun_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, ResnetBlock):
                nn.init.zeros_(module.conv2.weight)
                nn.init.zeros_(module.condition.weight)
            elif isinstance(module, AttentionBlock):
                nn.init.zeros_(module.project.weight)
        nn.init.zeros_(self.conv_out.weight)
        if self.classes is not None:
            nn.init.zeros_(self.classes.weight)

    def conditioning(self, gamma: Tensor, condition: Tensor, label: Tensor | None) -> Tensor:
        """(B,) gamma, (B,) flags and (B,) labels (-1 for none) -> (B, 4N)."""
        low, high = self.ends
        t = (gamma.double() - low) / (high - low)
        embedded = torch.cat(
            [time_embedding(t, self.config.width), condition.double().unsqueeze(1)], dim=1
        )  # (B, N + 1)
        h = self.dense0(embedded.to(self.dense0.weight.dtype))
        if self.classes is not None:
            none = self.classes.num_embeddings - 1
            row = h.new_full((len(h),), none, dtype=torch.long) if label is None else label.long()
            h = h + self.classes(torch.where(row < 0, none, row))
        return F.silu(self.dense1(F.silu(h)))

    def forward(self, z: Tensor, gamma: Tensor, condition: Tensor, label: Tensor | None = None) -> Tensor:
        """Predict the noise.

        Args:
            z: (B, C, H, W) noisy image; float64 keeps the Fourier features exact, the layers run in their own type.
            gamma: (B,) its negative log signal-to-noise ratio.
            condition: (B,) 1 for an augmented training image, else 0.
            label: (B,) classes, -1 for none.

        Returns:
            (B, C, H, W) in the dtype of `z`.
        """
        condition = self.conditioning(gamma, condition, label)
        h = self.conv_in(fourier_features(z, self.fourier_exponents).to(self.conv_in.weight.dtype))
        skips = [h]
        for stage in self.down:
            h = stage(h, condition)
            skips.append(h)
        h = self.middle2(self.middle1(h, condition), condition)
        for stage in self.up:
            h = stage(torch.cat([h, skips.pop()], dim=1), condition)  # (B, 2N, H, W)
        return z + outside_autocast(self.conv_out, F.silu(self.norm_out(h))).to(z.dtype)
