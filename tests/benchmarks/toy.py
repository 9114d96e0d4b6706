"""A model small enough to price by hand, used by the tests of this folder."""

import torch

from zoo.likelihood import AncestralModel, Categorical, DiagonalGaussian, LatentSite


class ToyVAE(AncestralModel):
    """One latent per image, pixels independent given it."""

    def __init__(self, bits=8, image_shape=(3, 8, 8)):
        super().__init__()
        self.bits, self.image_shape = bits, tuple(image_shape)
        self.slope = torch.nn.Parameter(torch.tensor(0.7))
        self.table = torch.nn.Parameter(torch.linspace(-1, 1, 2**bits))

    def ancestral_pass(self, policy, x=None, n=1, label=None):
        n = n if x is None else len(x)
        prior = DiagonalGaussian.from_std(torch.zeros(n, 1), torch.ones(n, 1))
        posterior = None
        if x is not None:
            mean = x.float().flatten(1).mean(1, keepdim=True) / 127.5 - 1
            posterior = DiagonalGaussian.from_std(self.slope * mean, torch.full((n, 1), 0.5))
        z = policy(LatentSite("z", 0, prior, posterior))
        logits = self.table * z.view(-1, 1, 1, 1, 1)  # (B, 1, 1, 1, V)
        return Categorical(logits.expand(-1, *self.image_shape, -1))
