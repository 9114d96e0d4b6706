"""Bin masses exactly as the official codes compute them, to reproduce their numbers.

At 8 bits they agree with the normalised bins but for the far tails, where they use the density at the centre. At 5 bits
their bins are wider than the spacing of the levels and overlap, so their numbers are not bounds (docs/five_bits.md).
Nothing of the zoo trains or codes with them by default.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def _interior(values: Tensor, means: Tensor, inverse: Tensor, density_log_scale: Tensor, half: float) -> Tensor:
    """The interior of both codes: difference of sigmoids, or the density where that difference is below 1e-5."""
    centred = values - means
    plus, minus, mid = inverse * (centred + half), inverse * (centred - half), inverse * centred
    difference = torch.sigmoid(plus) - torch.sigmoid(minus)
    density = mid - density_log_scale - 2.0 * F.softplus(mid) - math.log(0.5 / half)
    return torch.where(difference > 1e-5, torch.log(difference.clamp_min(1e-12)), density)


def vdvae_log_mass(values: Tensor, means: Tensor, log_scales: Tensor, bits: int) -> Tensor:
    """Log-mass of a level in the code of Child (2020).

    Half-width 1 / (2**bits - 1); the outer bins are recognised by |value| > 0.999, so at 5 bits, where the highest
    level lies at 0.945, the top bin stays closed.

    Args:
        values: centres of the levels on the [-1, 1] axis.
        means: means of the logistics, broadcastable.
        log_scales: clamped log-scales, broadcastable.
        bits: depth of the levels.

    Returns:
        Nats, the broadcast shape.
    """
    half = 1.0 / (2**bits - 1)
    inverse = torch.exp(-log_scales)
    lowest = F.logsigmoid(inverse * (values - means + half))
    highest = -F.softplus(inverse * (values - means - half))
    interior = _interior(values, means, inverse, log_scales, half)
    return torch.where(values < -0.999, lowest, torch.where(values > 0.999, highest, interior))


def efficient_vdvae_log_mass(
    values: Tensor, means: Tensor, log_scales: Tensor, bits: int, density_log_scales: Tensor | None = None
) -> Tensor:
    """Log-mass of a level in the code of Hazami et al. (2022).

    As `vdvae_log_mass`, but the outer bins are found by equality with the outermost levels, so both are open at any
    depth. The caller clamps the scales. `density_log_scales` is what the density branch subtracts; in the official code
    it differs from the log-scales if these are smoothed (`logstd` with a beta that is not 1).
    """
    half = 1.0 / (2**bits - 1)
    inverse = torch.exp(-log_scales)
    lowest = F.logsigmoid(inverse * (values - means + half))
    highest = -F.softplus(inverse * (values - means - half))
    interior = _interior(values, means, inverse, log_scales if density_log_scales is None else density_log_scales, half)
    top = (256 - 2 ** (8 - bits) - 127.5) / 127.5
    is_top = values == torch.tensor(top, dtype=values.dtype, device=values.device)
    return torch.where(values == -1.0, lowest, torch.where(is_top, highest, interior))


def vdvae_sample(
    logits: Tensor,
    means: Tensor,
    log_scales: Tensor,
    coefficients: Tensor,
    u_component: Tensor,
    u_logistic: Tensor,
) -> tuple[Tensor, Tensor]:
    """Draw three-colour pixels as the code of Child (2020) does, from given uniform numbers.

    Unlike exact sampling, values are clipped before the next colour sees them and truncated to pixels at the end.

    Args:
        logits: (B, M, H, W).
        means: (B, 3, M, H, W).
        log_scales: (B, 3, M, H, W), not yet clamped.
        coefficients: (B, 3, M, H, W), squashed.
        u_component: (B, M, H, W) in (0, 1), choose the component by the Gumbel trick.
        u_logistic: (B, 3, H, W) in (0, 1).

    Returns:
        Values on the [-1, 1] axis before truncation, (B, 3, H, W), and the uint8 pixels.
    """
    chosen = (logits - torch.log(-torch.log(u_component))).argmax(dim=1)[:, None, None]  # (B, 1, 1, H, W)
    spread = chosen.expand(-1, 3, -1, -1, -1)
    mean, log_scale, mix = (t.gather(2, spread).squeeze(2) for t in (means, log_scales, coefficients))  # (B, 3, H, W)
    raw = mean + log_scale.clamp_min(-7.0).exp() * torch.logit(u_logistic)
    red = raw[:, 0].clamp(-1, 1)
    green = (raw[:, 1] + mix[:, 0] * red).clamp(-1, 1)
    blue = (raw[:, 2] + mix[:, 1] * red + mix[:, 2] * green).clamp(-1, 1)
    values = torch.stack([red, green, blue], dim=1)
    return values, ((values + 1.0) * 127.5).clamp(0, 255).to(torch.uint8)
