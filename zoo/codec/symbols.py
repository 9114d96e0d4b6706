"""Both ends of the walk through discrete symbols: recording tables to push, and popping.

Pixels of a padded tile outside the photograph are not coded: they repeat the nearest pixel inside, which both sides
know by the time they need it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.codec.stack import Stack, Symbols
from zoo.likelihood import Index


class Region:
    """Which symbols of a batch are real, and what the others repeat.

    Args:
        shape: (B, C, H, W) of the symbols, or any shape if all are real.
        sizes: (height, width) of the real part of every tile, from its top left corner; None if all is real.
    """

    def __init__(self, shape: tuple[int, ...], sizes: list[tuple[int, int]] | None = None) -> None:
        self.positions = torch.arange(int(np.prod(shape))).reshape(shape)
        self.real = torch.ones(shape, dtype=torch.bool)
        source = self.positions
        if sizes is not None:
            sources = []
            for number, (height, width) in enumerate(sizes):
                rows = torch.arange(shape[2]).clamp_max(height - 1)
                columns = torch.arange(shape[3]).clamp_max(width - 1)
                sources.append(self.positions[number][:, rows][:, :, columns])
                self.real[number, :, height:] = False
                self.real[number, :, :, width:] = False
            source = torch.stack(sources)
        self.source = source.reshape(-1)
        self.real = self.real.reshape(-1)

    def split(self, index: Index) -> tuple[Tensor, Tensor]:
        """Flat positions of a visit, and which of them are real."""
        positions = self.positions[index].reshape(-1)
        return positions, self.real[positions]


def _table(probs: Tensor, real: Tensor) -> NDArray[np.float32]:
    """(n, V) float32 rows of the real symbols; both sides round alike."""
    rows = probs.reshape(-1, probs.shape[-1])
    return np.ascontiguousarray(rows[real].to("cpu", torch.float32).numpy())


class Recorder:
    """The encoder's `choose`: returns known symbols and keeps the tables, to be pushed last visit first.

    Args:
        symbols: the known array, int64, padding included.
        region: which of them are real.

    Attributes:
        nats: cost of the real symbols visited so far.
    """

    def __init__(self, symbols: Tensor, region: Region) -> None:
        self.symbols = symbols.reshape(-1)
        self.region = region
        self.visits: list[tuple[Symbols, NDArray[np.float32]]] = []
        self.nats = 0.0

    def __call__(self, index: Index, probs: Tensor) -> Tensor:
        """Remember this visit's table and return its symbols."""
        positions, real = self.region.split(index)
        known = self.symbols[positions]
        table = _table(probs, real)
        coded = known[real].to(torch.int32).numpy()
        self.visits.append((np.ascontiguousarray(coded), table))
        mass = table[np.arange(len(table)), coded].astype(np.float64) / table.sum(axis=-1, dtype=np.float64)
        self.nats -= float(np.log(np.maximum(mass, 2.0**-24)).sum())
        return known.reshape(probs.shape[:-1])

    def push(self, stack: Stack) -> None:
        """Push everything visited, last visit first."""
        for symbols, table in reversed(self.visits):
            stack.push_table(symbols, table)


class Popper:
    """The decoder's `choose`: pops the real symbols and repeats pixels into the padding.

    Args:
        stack: where the symbols come from.
        region: which of them are real.

    Attributes:
        symbols: flat array of what is known so far.
    """

    def __init__(self, stack: Stack, region: Region) -> None:
        self.stack = stack
        self.region = region
        self.symbols = torch.zeros(region.positions.numel(), dtype=torch.long)

    def __call__(self, index: Index, probs: Tensor) -> Tensor:
        """Pop this visit's symbols."""
        positions, real = self.region.split(index)
        self.symbols[positions[real]] = torch.from_numpy(self.stack.pop_table(_table(probs, real)).astype(np.int64))
        padding = positions[~real]
        self.symbols[padding] = self.symbols[self.region.source[padding]]
        return self.symbols[positions].reshape(probs.shape[:-1])
