"""Both ends of the walk through discrete symbols: recording tables to push, and popping.

Pixels of a padded tile outside the photograph are not coded: they repeat the nearest pixel inside, which both sides
know by the time they need it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.codec.stack import Stack, Symbols
from zoo.likelihood import Index, Law, Table, as_law

_BASE = 4
_LEAST = 1e-20  # mass of a digit far out in a tail, where differences of the distribution vanish


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


def _rows(masses: Tensor, real: Tensor) -> NDArray[np.float64]:
    """(V, n) masses -> (m, V) float64 rows of the real symbols.

    Not float32: the coder's sums over a row would round, and leave the last symbol without probability.
    """
    kept = masses if bool(real.all()) else masses[:, real]
    return np.ascontiguousarray(kept.to("cpu", torch.float64).t().numpy())


Decide = Callable[[Tensor, int], Tensor]
"""Given the masses (V, ...) of the digits and the step of this digit, the digits (...)."""


def by_digits(law: Law, decide: Decide) -> Tensor:
    """Find symbols digit by digit, to the base four, the highest first.

    A digit needs the cumulative distribution at three places, so a level of 256 costs twelve instead of 255.

    Args:
        law: of the symbols (...).
        decide: chooses every digit.

    Returns:
        (...) int64 symbols.
    """
    width = law.levels
    low = torch.zeros(law.shape, dtype=torch.int64)
    ends = torch.stack([torch.zeros(law.shape), torch.ones(law.shape)])  # cumulative distribution at both ends
    while width > 1:
        step = max(1, width // _BASE)
        count = width // step
        edges = low + step * torch.arange(1, count).view(-1, *[1] * low.ndim)
        cumulative = torch.cat([ends[:1], law.below(edges), ends[1:]])  # (count + 1, ...)
        digit = decide(torch.diff(cumulative, dim=0).clamp_min_(_LEAST), step)
        low = low + step * digit
        ends = cumulative.gather(0, torch.stack([digit, digit + 1]))
        width = step
    return low


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
        self.visits: list[tuple[Symbols, NDArray[np.float64]]] = []
        self.nats = 0.0

    def __call__(self, index: Index, law: Law | Tensor) -> Tensor:
        """Remember this visit's tables and return its symbols."""
        law = as_law(law)
        positions, real = self.region.split(index)
        known = self.symbols[positions]
        if isinstance(law, Table):
            self._record(law.table.reshape(-1, law.levels).t(), known, real)
            return known.reshape(law.shape)

        def digit(masses: Tensor, step: int) -> Tensor:
            digits = known // step % masses.shape[0]
            self._record(masses.flatten(1), digits, real)
            return digits.reshape(masses.shape[1:])

        return by_digits(law, digit)

    def _record(self, masses: Tensor, symbols: Tensor, real: Tensor) -> None:
        """Keep masses (V, n) and symbols (n,) of the real positions, and count what they cost."""
        table, coded = _rows(masses, real), symbols[real].to(torch.int32).numpy()
        self.visits.append((np.ascontiguousarray(coded), table))
        chosen = masses.gather(0, symbols.unsqueeze(0)).squeeze(0) / masses.sum(0)
        self.nats -= float(chosen[real].clamp_min(2.0**-24).log().sum(dtype=torch.float64))

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

    def __call__(self, index: Index, law: Law | Tensor) -> Tensor:
        """Pop this visit's symbols."""
        law = as_law(law)
        positions, real = self.region.split(index)
        if isinstance(law, Table):
            popped = self._pop(law.table.reshape(-1, law.levels).t(), real)
            shape = law.shape
        else:
            found = by_digits(law, lambda masses, step: self._pop(masses.flatten(1), real).reshape(masses.shape[1:]))
            popped, shape = found.reshape(-1), found.shape
        self.symbols[positions[real]] = popped[real]
        padding = positions[~real]
        self.symbols[padding] = self.symbols[self.region.source[padding]]
        return self.symbols[positions].reshape(shape)

    def _pop(self, masses: Tensor, real: Tensor) -> Tensor:
        """(n,) symbols popped under masses (V, n); zero where nothing was coded."""
        symbols = torch.zeros(masses.shape[1], dtype=torch.int64)
        symbols[real] = torch.from_numpy(self.stack.pop_table(_rows(masses, real)).astype(np.int64))
        return symbols
