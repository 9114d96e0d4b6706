"""Small models with known behaviour, and data for them; the classes can also be named in configurations."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.likelihood.categorical import Categorical
from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.latents import LatentPolicy, LatentSite
from zoo.likelihood.model import AncestralModel
from zoo.likelihood.noise import Noise
from zoo.likelihood.terms import LikelihoodTerms, Objective

SIZE = 4


class Noisy(AncestralModel):
    """One Gaussian latent per pixel, one categorical per channel value."""

    def __init__(
        self,
        bits: int = 2,
        size: int = SIZE,
        channels: int = 1,
        fail_from: int | None = None,
        blow_up_at: int | None = None,
    ):
        super().__init__()
        self.bits = bits
        self.image_shape = (channels, size, size)
        self.fail_from = fail_from
        self.blow_up_at = blow_up_at
        self.posterior = nn.Conv2d(channels, 2, 1)
        self.prior = nn.Parameter(torch.zeros(2, size, size))
        self.logits = nn.Conv2d(1, channels * 2**bits, 1)
        self.register_buffer("calls", torch.tensor(0))

    def ancestral_pass(self, policy: LatentPolicy, x=None, n=1, label=None) -> Categorical:
        batch = n if x is None else len(x)
        prior = DiagonalGaussian(*self.prior.expand(batch, -1, -1, -1).chunk(2, dim=1))
        posterior = None if x is None else DiagonalGaussian(*self.posterior(x.float() / 255 - 0.5).chunk(2, dim=1))
        z = policy(LatentSite("z", 0, prior, posterior))
        return self.pixels(z)

    def pixels(self, z: Tensor) -> Categorical:
        logits = self.logits(z).unflatten(1, (-1, 2**self.bits))  # (B, C * V, H, W) -> (B, C, V, H, W)
        return Categorical(logits.movedim(2, -1))

    def objective(self, x: Tensor, label: Tensor | None = None, step: int | Tensor = 0) -> Objective:
        self.calls += 1
        objective = super().objective(x, label, step)
        step, factor = torch.as_tensor(step), torch.ones(())
        if self.fail_from is not None:
            factor = torch.where(step >= self.fail_from, torch.nan, factor)
        if self.blow_up_at is not None:
            factor = torch.where(step == self.blow_up_at, 1e6, factor)
        return Objective(objective.loss * factor, objective.terms, {"calls": self.calls.float()})


class Exact(Noisy):
    """No latent and no noise, so that any split of a batch over processes gives the same gradient."""

    def terms(self, x: Tensor, label: Tensor | None = None, noise: Noise | None = None) -> LikelihoodTerms:
        pixels = self.pixels(self.prior[:1].expand(len(x), -1, -1, -1))
        used = self.posterior(x.float() / 255).mean() * 0.0 + self.prior.sum() * 0.0  # every parameter has a gradient
        return LikelihoodTerms(-pixels.log_prob(x.long() >> (8 - self.bits)) + used, {}, x[0].numel())


def loader(batches: int, batch_size: int = 4, size: int = SIZE) -> DataLoader:
    """Fixed images in fixed order."""
    generator = torch.Generator().manual_seed(1)
    count = batches * batch_size
    images = torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8, generator=generator)
    return DataLoader(TensorDataset(images, torch.full((count,), -1)), batch_size)
