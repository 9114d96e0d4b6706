"""Bernoulli pixels, for binarised images (bits = 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from zoo.likelihood.precision import full
from zoo.likelihood.visit import Choose, Table, draw


class Bernoulli:
    """Independent binary levels.

    Args:
        logits: (B, C, H, W) log-odds of level 1.

    Example:
        >>> Bernoulli(torch.zeros(1, 1, 1, 2)).log_prob(torch.tensor([[[[0, 1]]]])).exp().item()
        0.25
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = full(logits)

    def log_prob(self, levels: Tensor) -> Tensor:
        """(B,) nats of integer levels (B, C, H, W) in {0, 1}."""
        signed = self.logits * (2 * levels - 1).to(self.logits.dtype)
        return F.logsigmoid(signed).flatten(1).sum(1)

    def sample(self) -> Tensor:
        """(B, C, H, W) int64 levels."""
        return self.visit(draw)

    def visit(self, choose: Choose) -> Tensor:
        """Visit all pixels at once; see `zoo.likelihood.visit`."""
        one = torch.sigmoid(self.logits.double())
        return choose((), Table(torch.stack([1.0 - one, one], dim=-1)))  # (B, C, H, W, 2)
