"""The output layer of Efficient-VDVAE: a mixture of discretised logistics with smoothed scales."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.likelihood.levels import Convention
from zoo.likelihood.mixture import LogisticMixture
from zoo.likelihood.official import efficient_vdvae_log_mass
from zoo.models.efficient_vdvae.blocks import ScaleBase, log_softplus


class _OfficialLogStd(LogisticMixture):
    """The official formula when the scales are `exp(beta * log_scale)` and beta is not 1.

    There the density branch subtracts `log_scale` and not `beta * log_scale`; no published configuration does this, but
    a run of the official code with such settings can only be reproduced in this way.
    """

    beta = 1.0

    def _log_mass(self, values: Tensor, means: Tensor, levels: Tensor) -> Tensor:
        return efficient_vdvae_log_mass(values, means, self.raw_log_scales, self.bits, self.raw_log_scales / self.beta)


def smoothed_mixture(
    head: Tensor,
    *,
    channels: int,
    bits: int,
    base: ScaleBase,
    beta: float,
    min_log_scale: float,
    convention: Convention,
) -> LogisticMixture:
    """Raw output of the network -> distribution over levels.

    The channel axis holds M logits, then for each colour M means, M raw scales and (for three colours) M coefficients.

    Args:
        head: (B, M (3 C + 1), H, W) for C = 3; (B, 3 M, H, W) for C = 1.
        channels: C.
        bits: depth of the levels.
        base: "std": the scale is softplus_beta(raw), at least exp(min_log_scale); "logstd": the raw value, at least
            `min_log_scale`, times beta is the log scale.
        beta: gradient smoothing.
        min_log_scale: see `base`.
        convention: see `zoo.likelihood.levels.Convention`.

    Returns:
        The mixture over (B, C, H, W).
    """
    parts = 3 if channels == 3 else 2
    mixtures = head.shape[1] // (1 + parts * channels)
    logits, rest = head[:, :mixtures], head[:, mixtures:]
    groups = rest.unflatten(1, (channels, parts, mixtures))  # (B, C, parts, M, H, W)
    raw = groups[:, :, 1]  # (B, C, M, H, W)
    coefficients = torch.tanh(groups[:, :, 2]) if channels == 3 else None
    if base == "std":
        log_scales = log_softplus(raw, beta).clamp_min(min_log_scale)
    else:
        log_scales = beta * raw.clamp_min(min_log_scale)
        min_log_scale = beta * min_log_scale
    unusual = convention == "efficient_vdvae" and base == "logstd" and beta != 1.0
    mixture = (_OfficialLogStd if unusual else LogisticMixture)(
        logits, groups[:, :, 0], log_scales, coefficients, bits, convention, min_log_scale
    )
    if isinstance(mixture, _OfficialLogStd):
        mixture.beta = beta
    return mixture
