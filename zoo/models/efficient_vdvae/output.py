"""The output layer of Efficient-VDVAE: a mixture of discretised logistics with smoothed scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.likelihood.levels import Bins, level_values
from zoo.likelihood.mixture import LogisticMixture, split_head
from zoo.likelihood.official import efficient_vdvae_log_mass
from zoo.models.efficient_vdvae.architecture import ScaleBase
from zoo.models.efficient_vdvae.blocks import log_softplus


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
    bins: Bins,
) -> LogisticMixture:
    """Raw output of the network -> distribution over levels.

    Args:
        head: network output, see `zoo.likelihood.mixture.split_head`.
        channels: C.
        bits: depth of the levels.
        base: "std": the scale is softplus_beta(raw), at least exp(min_log_scale); "logstd": the raw value, at least
            `min_log_scale`, times beta is the log scale.
        beta: gradient smoothing.
        min_log_scale: see `base`.
        bins: see `zoo.likelihood.levels.Bins`.

    Returns:
        The mixture over (B, C, H, W).
    """
    logits, means, raw, coefficients = split_head(head, channels)
    if base == "std":
        log_scales = log_softplus(raw, beta).clamp_min(min_log_scale)
    else:
        log_scales = beta * raw.clamp_min(min_log_scale)
        min_log_scale = beta * min_log_scale
    unusual = bins == "efficient_vdvae" and base == "logstd" and beta != 1.0
    mixture = (_OfficialLogStd if unusual else LogisticMixture)(
        logits, means, log_scales, coefficients, bits, bins, min_log_scale
    )
    if isinstance(mixture, _OfficialLogStd):
        mixture.beta = beta
    return mixture


def starting_bias(channels: int, mixtures: int, base: ScaleBase, beta: float, scale: float) -> Tensor:
    """Bias of the output layer for a mixture that fits images roughly before any training.

    Components are spread over the axis, green follows red and blue follows green by tanh(1) = 0.76, and every
    component has the given scale. The official code starts from zeros, which takes thousands of steps to leave.

    Args:
        channels: C.
        mixtures: M.
        base: see `smoothed_mixture`.
        beta: see `smoothed_mixture`.
        scale: of the components, on the [-1, 1] axis.

    Returns:
        (channels of the output,).
    """
    raw = math.log(math.expm1(beta * scale)) / beta if base == "std" else math.log(scale) / beta
    groups = torch.zeros(channels, 3 if channels == 3 else 2, mixtures)  # (C, parts, M)
    groups[0, 0] = torch.linspace(-0.8, 0.8, mixtures)
    groups[:, 1] = raw
    if channels == 3:
        groups[0, 2] = groups[2, 2] = 1.0  # R->G and G->B
    return torch.cat([torch.zeros(mixtures), groups.flatten()])


def draw_values(
    mixture: LogisticMixture, uniform_component: Tensor, uniform_logistic: Tensor, temperature: float = 1.0
) -> Tensor:
    """Real-valued draws with an output temperature, as the official code makes its pictures.

    Temperature divides the logits and multiplies the scales. Each colour is clipped to the range of the levels before
    the next one is conditioned on it. `LogisticMixture.sample` draws levels exactly and is what the zoo samples with.

    Args:
        mixture: three colours.
        uniform_component: (B, M, H, W) in (0, 1), for the choice of the component.
        uniform_logistic: (B, 3, H, W) in (0, 1), for the logistic noise.
        temperature: of the output.

    Returns:
        (B, 3, H, W) on the [-1, 1] axis.
    """
    gumbel = -torch.log(-torch.log(uniform_component))
    chosen = (mixture.logits / temperature + gumbel).argmax(dim=1, keepdim=True).unsqueeze(1)  # (B, 1, 1, H, W)
    index = chosen.expand(-1, 3, -1, -1, -1)
    mean, log_scale = (part.gather(2, index).squeeze(2) for part in (mixture.means, mixture.raw_log_scales))
    assert mixture.coefficients is not None
    red_green, red_blue, green_blue = mixture.coefficients.gather(2, index).squeeze(2).unbind(1)  # 3 x (B, H, W)
    noise = log_scale.exp() * temperature * torch.logit(uniform_logistic)
    highest = float(level_values(torch.tensor(2**mixture.bits - 1), mixture.bits))
    red, green, blue = (mean + noise).unbind(1)
    red = red.clamp(-1.0, highest)
    green = (green + red_green * red).clamp(-1.0, highest)
    blue = (blue + red_blue * red + green_blue * green).clamp(-1.0, highest)
    return torch.stack([red, green, blue], dim=1)
