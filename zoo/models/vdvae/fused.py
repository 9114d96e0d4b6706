"""The stochastic layer of VDVAE with fewer and cheaper operations: the same function up to rounding, faster."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from zoo.likelihood.precision import outside_autocast
from zoo.models.blocks import pointwise
from zoo.models.vdvae.layers import StochasticLayer


class FusedLayer(StochasticLayer):
    """Computes what `StochasticLayer` says in another order.

    The posterior's first convolution is the sum of one of the stream and one of the image, so that nothing is
    concatenated. Of the prior's last convolution, the part that makes mean and log std comes first and the part that is
    added to the stream later, in one convolution with the latents. `features` is what that convolution reads.
    """

    def propose(self, y: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """See `StochasticLayer`; the features are (B, mid, R, R)."""
        hidden = self.prior.inside(self.prior.conv1(F.gelu(y)))
        last, numbers = self.prior.conv4, 2 * self.latent_channels
        bias = cast(Tensor, last.bias)[:numbers]
        mean, log_std = outside_autocast(pointwise, hidden, last.weight[:numbers], bias).chunk(2, dim=1)
        return mean, log_std, hidden

    def infer(self, y: Tensor, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `StochasticLayer`."""
        first = self.posterior.conv1
        of_stream, of_image = first.weight.split(self.width, dim=1)  # (mid, 2W, 1, 1) -> twice (mid, W, 1, 1)
        h = pointwise(F.gelu(y), of_stream) + pointwise(F.gelu(image), of_image, first.bias)
        mean, log_std = outside_autocast(self.posterior.conv4, self.posterior.inside(h)).chunk(2, dim=1)
        return mean, log_std

    def descend(self, y: Tensor, hidden: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        """See `StochasticLayer`."""
        last, numbers = self.prior.conv4, 2 * self.latent_channels
        weight = torch.cat([last.weight[numbers:], self.project.weight], dim=1)  # (W, mid + Z, 1, 1)
        bias = cast(Tensor, last.bias)[numbers:] + cast(Tensor, self.project.bias)
        y = y + pointwise(torch.cat([hidden, z], dim=1), weight, bias)
        result: Tensor = y + self.residual(y)
        return result
