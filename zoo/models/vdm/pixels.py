"""Between levels and the diffusion's [-1, 1] axis: encoding, and p(x | z_0).

Kingma et al. 2021, section 3.3. The decoder has no parameters: `p(x | z_0)` is proportional to `q(z_0 | x)`, a softmax
over the centres of all levels. Letters: `B` batch, `C` channels, `V` levels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.likelihood import Categorical


def encode_levels(levels: Tensor, bits: int) -> Tensor:
    """Centres of levels: `2 (k + 1/2) / V - 1`, float64, V = 2**bits."""
    result: Tensor = (levels.double() + 0.5) * (2.0 / 2**bits) - 1.0
    return result


def pixel_distribution(rescaled: Tensor, gamma_0: Tensor, bits: int) -> Categorical:
    """p(x | z_0) with the full table, for sampling and coding.

    Args:
        rescaled: (B, C, H, W) z_0 / alpha_0.
        gamma_0: scalar gamma(0).
        bits: depth of the levels.

    Returns:
        Independent symbols with logits (B, C, H, W, V).
    """
    centres = encode_levels(torch.arange(2**bits, device=rescaled.device), bits)
    return Categorical(-0.5 * torch.exp(-gamma_0) * (rescaled.unsqueeze(-1) - centres).square())


def reach(gamma_0: float, bits: int) -> int:
    """Levels on each side of z_0 outside which the mass is below e^-40 of the largest.

    The noise at t = 0 is finer than the grid of levels, so only a few neighbours of z_0 have any mass.
    """
    result: int = math.ceil(9.0 * math.exp(0.5 * gamma_0) * 2 ** (bits - 1)) if gamma_0 < 0 else 2**bits
    return result


def pixel_log_prob(rescaled: Tensor, levels: Tensor, gamma_0: Tensor, bits: int, window: int) -> Tensor:
    """Log-probability of levels given z_0: that of `pixel_distribution` without its full table.

    Args:
        rescaled: (B, C, H, W) z_0 / alpha_0, float64.
        levels: (B, C, H, W) int64.
        gamma_0: scalar gamma(0).
        bits: depth of the levels.
        window: levels on each side of z_0 that the normaliser runs over, at least `reach(gamma_0, bits)`.

    Returns:
        (B,) nats.
    """
    size = 2**bits
    spacing = 2.0 / size
    if 2 * window + 1 >= size:
        candidates = torch.arange(size, device=levels.device)
    else:
        nearest = ((rescaled.detach() + 1.0) / spacing - 0.5).round().clamp(0, size - 1).long().unsqueeze(-1)
        candidates = nearest + torch.arange(-window, window + 1, device=levels.device)  # (B, C, H, W, 2 window + 1)
    precision = torch.exp(-gamma_0)
    logits = -0.5 * precision * (rescaled.unsqueeze(-1) - encode_levels(candidates, bits)).square()
    logits = logits.masked_fill((candidates < 0) | (candidates >= size), -torch.inf)
    chosen = -0.5 * precision * (rescaled - encode_levels(levels, bits)).square()
    return (chosen - torch.logsumexp(logits, dim=-1)).flatten(1).sum(1)
