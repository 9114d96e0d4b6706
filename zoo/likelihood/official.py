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
    interior = _interior(
        values, means, inverse, log_scales if density_log_scales is None else density_log_scales, half
    )
    top = (256 - 2 ** (8 - bits) - 127.5) / 127.5
    is_top = values == torch.tensor(top, dtype=values.dtype, device=values.device)
    return torch.where(values == -1.0, lowest, torch.where(is_top, highest, interior))
