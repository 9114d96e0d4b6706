"""Independent categorical symbols: pixel levels with a softmax head, or codes on a grid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from zoo.likelihood.precision import full
from zoo.likelihood.visit import Choose, Table, draw


class Categorical:
    """Independent symbols in [0, V).

    Args:
        logits: (B, ..., V) unnormalised log-probabilities; V last.

    Example:
        >>> Categorical(torch.zeros(1, 2, 4)).log_prob(torch.tensor([[0, 3]])).exp().item()
        0.0625
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = full(logits)

    def log_prob(self, symbols: Tensor) -> Tensor:
        """(B,) nats of integer symbols (B, ...)."""
        log_probs = F.log_softmax(self.logits, dim=-1).gather(-1, symbols.unsqueeze(-1)).squeeze(-1)
        return log_probs.flatten(1).sum(1)

    def sample(self) -> Tensor:
        """(B, ...) int64 symbols."""
        return self.visit(draw)

    def visit(self, choose: Choose) -> Tensor:
        """Visit all symbols at once; see `zoo.likelihood.visit`."""
        return choose((), Table(torch.softmax(self.logits.double(), dim=-1)))
