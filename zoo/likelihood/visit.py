"""The coding seam: how a discrete distribution shows its symbols to a sampler, an encoder or a decoder.

A distribution over integer arrays *visits* its symbols in an order in which each visit depends only on symbols
of earlier visits. At every visit it offers a table of probabilities and asks `choose` for the symbols:

* a sampler draws them (`draw`),
* an encoder returns the known ones and remembers the table,
* a decoder pops them from its stack.

All three run the very same code of the distribution, so encoder and decoder cannot disagree about a probability.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

Index = tuple[Any, ...]


class Choose(Protocol):
    """Where the symbols of a visit come from."""

    def __call__(self, index: Index, probs: Tensor) -> Tensor:
        """Return the symbols of this visit.

        Args:
            index: indexes the array of all symbols, so that `symbols[index].shape == probs.shape[:-1]`; `()` is all.
            probs: (..., V) float64, one table per symbol; rows sum to one up to rounding.

        Returns:
            (...) int64 symbols in [0, V).
        """
        ...


def draw(index: Index, probs: Tensor) -> Tensor:
    """Draw every symbol from its table, by inversion with torch's global generator."""
    cumulative = probs.cumsum(dim=-1)
    # Scaling by the total instead of assuming one keeps the last level reachable and never out of range.
    uniform = torch.rand(probs.shape[:-1], dtype=probs.dtype, device=probs.device) * cumulative[..., -1]
    symbols = torch.searchsorted(cumulative, uniform.unsqueeze(-1), right=True).squeeze(-1)
    return symbols.clamp_max(probs.shape[-1] - 1)


class Known:
    """A `choose` that returns given symbols and keeps what each of them costs.

    Args:
        symbols: (B, ...) int64, the full array.

    Attributes:
        costs: (B, ...) float64 nats, -log p of each symbol visited so far.
    """

    def __init__(self, symbols: Tensor) -> None:
        self.symbols = symbols
        self.costs = torch.zeros(symbols.shape, dtype=torch.float64, device=symbols.device)

    @property
    def nats(self) -> Tensor:
        """(B,) float64, what each image has cost so far."""
        return self.costs.flatten(1).sum(1)

    def __call__(self, index: Index, probs: Tensor) -> Tensor:
        """Return `symbols[index]` and note their cost."""
        symbols = self.symbols[index]
        mass = probs.gather(-1, symbols.unsqueeze(-1)).squeeze(-1) / probs.sum(-1)
        self.costs[index] = -mass.log()
        return symbols
