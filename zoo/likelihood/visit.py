"""The coding seam: how a discrete distribution shows its symbols to a sampler, an encoder or a decoder.

A distribution over integer arrays *visits* its symbols in an order in which each visit depends only on symbols
of earlier visits. At every visit it offers a law of these symbols and asks `choose` for them:

* a sampler draws them (`draw`),
* an encoder returns the known ones and remembers what it needs of the law,
* a decoder pops them from its stack.

All three run the very same code of the distribution, so encoder and decoder cannot disagree about a probability. A law
is a table of probabilities, or it tells the cumulative distribution where it is asked: a coder needs a dozen values of
it, not all 256.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

Index = tuple[Any, ...]


class Law(Protocol):
    """The distribution of the symbols of one visit, independent of each other given earlier visits."""

    @property
    def levels(self) -> int:
        """V: symbols lie in [0, V)."""
        ...

    @property
    def shape(self) -> torch.Size:
        """Of the symbols."""
        ...

    def probs(self) -> Tensor:
        """(..., V) float64, one table per symbol; rows sum to one up to rounding."""
        ...

    def below(self, edges: Tensor) -> Tensor:
        """P(symbol < edge) for int64 edges (E, ...) in [0, V]; (E, ...) in the law's precision."""
        ...


class Table:
    """A law given by its probabilities.

    Args:
        table: (..., V), one row per symbol.

    Example:
        >>> Table(torch.tensor([[0.25, 0.5, 0.25]])).below(torch.tensor([[2]]))
        tensor([[0.7500]])
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table

    @property
    def levels(self) -> int:
        """V."""
        return self.table.shape[-1]

    @property
    def shape(self) -> torch.Size:
        """Of the symbols."""
        return self.table.shape[:-1]

    def probs(self) -> Tensor:
        """The table itself."""
        return self.table

    def below(self, edges: Tensor) -> Tensor:
        """Cumulative sums of the table."""
        cumulative = torch.nn.functional.pad(self.table.cumsum(-1), (1, 0))
        return cumulative.expand(len(edges), *cumulative.shape).gather(-1, edges.unsqueeze(-1)).squeeze(-1)


def as_law(law: Law | Tensor) -> Law:
    """A law as it is, a plain tensor (..., V) of probabilities as a `Table`."""
    return Table(law) if isinstance(law, Tensor) else law


class Choose(Protocol):
    """Where the symbols of a visit come from."""

    def __call__(self, index: Index, law: Law | Tensor) -> Tensor:
        """Return the symbols of this visit.

        Args:
            index: indexes the array of all symbols, so that `symbols[index]` has the shape of this visit; `()` is all.
            law: of the symbols, or its table of probabilities.

        Returns:
            (...) int64 symbols in [0, V).
        """
        ...


def draw(index: Index, law: Law | Tensor) -> Tensor:
    """Draw every symbol from its table, by inversion with torch's global generator."""
    cumulative = as_law(law).probs().cumsum(dim=-1)
    # Scaling by the total instead of assuming one keeps the last level reachable and never out of range.
    uniform = torch.rand(cumulative.shape[:-1], dtype=cumulative.dtype, device=cumulative.device) * cumulative[..., -1]
    symbols = torch.searchsorted(cumulative, uniform.unsqueeze(-1), right=True).squeeze(-1)
    return symbols.clamp_max(cumulative.shape[-1] - 1)


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

    def __call__(self, index: Index, law: Law | Tensor) -> Tensor:
        """Return `symbols[index]` and note their cost."""
        symbols, probs = self.symbols[index], as_law(law).probs()
        mass = probs.gather(-1, symbols.unsqueeze(-1)).squeeze(-1) / probs.sum(-1)
        self.costs[index] = -mass.log()
        return symbols
