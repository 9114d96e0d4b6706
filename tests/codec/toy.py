"""Two small models for the codec: one that behaves like a VAE, one whose every float is exact on any machine."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.likelihood import (
    AncestralModel,
    Categorical,
    Choose,
    DiagonalGaussian,
    LatentPolicy,
    LatentSite,
    LogisticMixture,
    PointMass,
    Table,
    draw,
    level_values,
    to_levels,
)


class ToyVAE(AncestralModel):
    """Two groups of 4 channels over 8x8 images; one channel of each group ignores the image."""

    def __init__(self, bits: int = 8, seed: int = 0) -> None:
        super().__init__()
        self.bits, self.image_shape = bits, (3, 8, 8)
        generator = torch.Generator().manual_seed(seed)
        self.down = nn.Parameter(torch.randn(8, 3, 1, 1, generator=generator))
        self.mix = nn.Parameter(0.5 * torch.randn(4, 4, 1, 1, generator=generator))
        self.up = nn.Parameter(0.3 * torch.randn(3, 8, 1, 1, generator=generator))

    def _site(self, index: int, mean: Tensor, evidence: Tensor | None) -> LatentSite:
        prior = DiagonalGaussian(mean, torch.full_like(mean, 0.3))
        posterior = None
        if evidence is not None:
            informed = torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(1, 4, 1, 1)  # the last channel repeats the prior
            posterior = DiagonalGaussian(
                mean + informed * (evidence - 0.5 * mean), prior.log_std - informed * torch.tensor(1.6)
            )
        return LatentSite(f"z{index}", index, prior, posterior)

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> LogisticMixture:
        n = n if x is None else len(x)
        features = None
        if x is not None:
            values = level_values(to_levels(x, self.bits), self.bits)
            features = F.conv2d(values, self.down)  # (B, 8, 8, 8)
        top = policy(
            self._site(0, torch.zeros(n, 4, 4, 4), None if features is None else F.avg_pool2d(features[:, :4], 2))
        )
        state = F.interpolate(F.conv2d(top, self.mix), scale_factor=2.0)  # (B, 4, 8, 8)
        low = policy(self._site(1, state, None if features is None else features[:, 4:]))
        centre = F.conv2d(torch.cat([state, low], dim=1), self.up)  # (B, 3, 8, 8)
        means = torch.stack([centre, 0.5 * centre], dim=2)  # (B, 3, 2, 8, 8)
        scales = torch.full_like(means, -1.5)
        return LogisticMixture(torch.zeros(n, 2, 8, 8), means, scales, None, self.bits)


class Dyadic:
    """A pixel distribution whose masses are multiples of 1/256, rolled by a whole number per image and channel."""

    def __init__(self, shift: Tensor, bits: int) -> None:
        self.shift, self.bits = shift, bits

    def _probs(self) -> Tensor:
        levels = 2**self.bits
        base = torch.ones(levels, dtype=torch.float64)
        base[0] = 256.0 - (levels - 1)
        index = (torch.arange(levels) - self.shift.unsqueeze(-1)) % levels
        return base[index] / 256.0

    def log_prob(self, levels: Tensor) -> Tensor:
        return self._probs().gather(-1, levels.unsqueeze(-1)).squeeze(-1).log().flatten(1).sum(1).float()

    def sample(self) -> Tensor:
        return self.visit(draw)

    def visit(self, choose: Choose) -> Tensor:
        return choose((), Table(self._probs()))


class ExactModel(AncestralModel):
    """Only sums, products with powers of two and whole numbers: the same floats everywhere."""

    def __init__(self, bits: int = 4) -> None:
        super().__init__()
        self.bits, self.image_shape = bits, (3, 4, 4)

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> Dyadic:
        n = n if x is None else len(x)
        zero = torch.zeros(n, 3, 1, 1)
        posterior, codes = None, None
        if x is not None:
            levels = to_levels(x, self.bits).float()
            mean = levels.flatten(2).sum(2)[:, :, None, None] / 2.0**8
            posterior = DiagonalGaussian(mean, zero)
            codes = PointMass(to_levels(x, self.bits)[:, :, 0, 0] % 4)
        z = policy(LatentSite("z", 0, DiagonalGaussian(zero, zero), posterior))
        code = policy(LatentSite("code", 1, Categorical(torch.zeros(n, 3, 4)), codes))
        shift = torch.floor(z * 4.0).long().expand(n, 3, 4, 4) + code[:, :, None, None]
        return Dyadic(shift, self.bits)
