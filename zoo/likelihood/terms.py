"""What an image costs: named terms in nats, and the one place where nats become bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

Priced = Literal["pixels", "codes"]


def nats_to_bits_per_dim(nats: Tensor, num_dims: int) -> Tensor:
    """Nats per image to bits per dimension: `nats / (num_dims * ln 2)`.

    Every conversion in the zoo goes through this function, so no two tables can disagree about the unit.
    """
    return nats / (num_dims * math.log(2.0))


@dataclass(frozen=True)
class LikelihoodTerms:
    """What each image of a batch costs, in nats, split the way a coder would spend it.

    The sum `nelbo = distortion + rate` is an upper bound on -log p(x), because every pixel distribution of the zoo is
    normalised over the integer levels.

    Attributes:
        distortion: (B,) nats, -log p(x | z) under the pixel distribution.
        rates: group name -> (B,) nats, KL(posterior || prior) of that group, top group first.
        num_dims: dimensions of one image, C * H * W (or the number of codes if `priced` is "codes").
        priced: "pixels" if the terms bound the likelihood of the pixels; "codes" if they price only the codes of a
            first stage, in which case the number never stands in a bits/dim column.

    Example:
        >>> terms = LikelihoodTerms(torch.tensor([8.0]), {"z1": torch.tensor([4.0])}, num_dims=3)
        >>> round(terms.bits_per_dim().item(), 4)
        5.7708
    """

    distortion: Tensor
    rates: Mapping[str, Tensor] = field(default_factory=dict)
    num_dims: int = 1
    priced: Priced = "pixels"

    @property
    def rate(self) -> Tensor:
        """(B,) nats, all groups together."""
        if not self.rates:
            return torch.zeros_like(self.distortion)
        return torch.stack(list(self.rates.values())).sum(dim=0)  # (groups, B) -> (B,)

    @property
    def nelbo(self) -> Tensor:
        """(B,) nats, the negative ELBO: an upper bound on -log p(x)."""
        return self.distortion + self.rate

    def bits_per_dim(self) -> Tensor:
        """(B,) the negative ELBO in bits per dimension."""
        return nats_to_bits_per_dim(self.nelbo, self.num_dims)


@dataclass(frozen=True)
class Objective:
    """What a training step minimises, with everything worth logging.

    Attributes:
        loss: scalar in nats per dimension; published clip and skip thresholds are on this scale.
        terms: the likelihood terms of the batch, logged in bits/dim; None if the step prices nothing.
        parts: other scalars to log under their own names (codebook perplexity, KL weights, ...).
    """

    loss: Tensor
    terms: LikelihoodTerms | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)
