"""An integer discrete flow (Hoogeboom et al. 2019): a bijection of levels, so the price is exact and a file proves it.

Couplings shift one half of the pixels by a rounded function of the other half, modulo the number of levels. The codes
are a point-mass site; given the codes the image is certain and costs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from zoo.likelihood import AncestralModel, Categorical, LatentPolicy, LatentSite, Objective, PointMass, to_levels


class IntegerFlow(AncestralModel):
    """Modular additive couplings over a checkerboard; the base is a logistic over the levels, one per channel.

    Args:
        image_shape: [C, H, W].
        bits: depth of the levels.
        width: channels of the couplings.
        couplings: how many there are; they take turns.
    """

    kind = "exact"

    def __init__(self, image_shape: list[int], bits: int = 8, width: int = 32, couplings: int = 4) -> None:
        super().__init__()
        channels, height, columns = image_shape
        self.bits, self.image_shape, self.levels = bits, (channels, height, columns), 2**bits
        self.shifts = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 5, padding=2), nn.GELU(), nn.Conv2d(width, channels, 5, padding=2))
            for _ in range(couplings)
        )
        self.mean, self.log_scale = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        board = torch.arange(height)[:, None] + torch.arange(columns)
        self.register_buffer("board", board % 2 == 0, persistent=False)  # (H, W)

    def shift(self, number: int, levels: Tensor) -> Tensor:
        """By how many levels coupling `number` moves its half of (B, C, H, W), given the other half."""
        moved = self.get_buffer("board") if number % 2 == 0 else ~self.get_buffer("board")
        exact = self.shifts[number]((levels * 2 / self.levels - 1) * ~moved) * self.levels / 4 * moved
        return exact + (exact.round() - exact).detach()  # rounded, with the gradient of no rounding

    def codes(self, levels: Tensor) -> Tensor:
        """(B, C, H, W) whole numbers in [0, V), as floats."""
        codes = levels.float()
        for number in range(len(self.shifts)):
            codes = (codes + self.shift(number, codes)) % self.levels
        return codes

    def score(self, codes: Tensor) -> Tensor:
        """Unnormalised log-probability under the base, (C, ...) with the channel first."""
        shape = (-1, *[1] * (codes.dim() - 1))
        u = (codes * 2 / self.levels - 1 - self.mean.view(shape)) * torch.exp(-self.log_scale.view(shape))
        return -u - 2 * softplus(-u)

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> Categorical:
        """Levels to codes, the site, codes to levels."""
        posterior = None if x is None else PointMass(self.codes(to_levels(x, self.bits)).long())
        table = self.score(torch.arange(self.levels, device=self.mean.device).expand(len(self.mean), -1))  # (C, V)
        logits = table[:, None, None].expand(n if x is None else len(x), -1, *self.image_shape[1:], -1)
        levels = policy(LatentSite("codes", 0, Categorical(logits), posterior)).float()
        for number in reversed(range(len(self.shifts))):
            levels = (levels - self.shift(number, levels)) % self.levels
        return Categorical(one_hot(levels.long(), self.levels).double().clamp_min(1e-30).log())

    def objective(self, x: Tensor, label: Tensor | None = None, step: int = 0) -> Objective:
        """The price again, with a gradient for the couplings: a table of levels has none for the code it is read at."""
        scores = self.score(self.codes(to_levels(x, self.bits)).movedim(1, 0))  # (C, B, H, W)
        table = self.score(torch.arange(self.levels, device=x.device).expand(len(self.mean), -1))  # (C, V)
        loss = -(scores.mean() - table.logsumexp(1).mean())
        return Objective(loss=loss, terms=self.terms(x, label))
