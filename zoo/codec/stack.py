"""The entropy coder: a stack of bits, fed with whole arrays.

The stack is constriction's ANS coder (Duda 2009; 32-bit words, 64-bit state, 24-bit probabilities). This file guards
the places where a library call would go wrong silently: an empty coder, tables with NaN, means out of range.
"""

from __future__ import annotations

from collections.abc import Callable

import constriction
import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
Symbols = NDArray[np.int32]
Floats = NDArray[np.float64]

_model = constriction.stream.model
_TABLE = _model.Categorical(perfect=False)
_BITS_AT_MOST = 24  # no symbol costs more under 24-bit probabilities
WORD = 32


class StackError(Exception):
    """The stack cannot go on: it ran empty, or a distribution is not finite."""


def keystream(seed: int, counter: int, words: int) -> Words:
    """Reproducible random words: Philox counters (Salmon et al. 2011), raw output, so no library version matters."""
    generator = np.random.Philox(key=np.array([seed, counter], dtype=np.uint64))
    raw: NDArray[np.uint64] = generator.random_raw((words + 1) // 2)
    return raw.astype("<u8").view("<u4")[:words].astype(np.uint32)


class Stack:
    """Last in, first out: what is pushed under a distribution is popped under the same one.

    Args:
        words: contents from an earlier `words()`; None for an empty stack.
        supply: gives the n-th seeded word below the bottom, for stacks that may be extended downwards; popping from a
            stack without supply never extends it.

    Attributes:
        lowest: fewest words held since the last `mark`.
    """

    def __init__(self, words: Words | None = None, supply: Callable[[int, int], Words] | None = None) -> None:
        self._coder = constriction.stream.stack.AnsCoder(None if words is None else np.ascontiguousarray(words))
        self._supply = supply
        self.supplied = 0
        self.lowest = self._coder.num_words()

    # -- contents -------------------------------------------------------------------------------------------------

    def words(self) -> Words:
        """A copy of the contents, bottom first."""
        contents: Words = self._coder.get_compressed()
        return contents

    def replace(self, words: Words) -> None:
        """Put other contents in place of the present ones."""
        self._coder = constriction.stream.stack.AnsCoder(np.ascontiguousarray(words))

    def num_bits(self) -> int:
        """Bits held."""
        return int(self._coder.num_valid_bits())

    def mark(self) -> None:
        """Start to watch the lowest fill anew."""
        self.lowest = self._coder.num_words()

    def _ready_to_pop(self, symbols: int) -> None:
        """Extend downwards if the pops might run dry, or complain if there is nothing left to pop."""
        needed = _BITS_AT_MOST * symbols + 2 * WORD
        held = self.num_bits()
        if self._supply is not None and held < needed:
            more = (needed - held) // WORD + 64
            below = self._supply(self.supplied, more)[::-1]  # deeper words have higher numbers
            self.supplied += more
            self.lowest += more
            self.replace(np.concatenate([below, self.words()]))

    # -- distributions --------------------------------------------------------------------------------------------

    def push_gaussian(self, symbols: Symbols, reach: int, mean: Floats, std: Floats) -> None:
        """Push integers in [-reach, reach] under Gaussians binned to the integers; arrays are flat."""
        if symbols.size:
            _check_gaussian(mean, std)
            self._coder.encode_reverse(symbols, _model.QuantizedGaussian(-reach, reach), mean, std)

    def pop_gaussian(self, reach: int, mean: Floats, std: Floats) -> Symbols:
        """Pop integers pushed by `push_gaussian` with the same arguments."""
        if not mean.size:
            return np.zeros(0, dtype=np.int32)
        _check_gaussian(mean, std)
        self._ready_to_pop(mean.size)
        symbols: Symbols = self._coder.decode(_model.QuantizedGaussian(-reach, reach), mean, std)
        self.lowest = min(self.lowest, self._coder.num_words())
        return symbols

    def push_table(self, symbols: Symbols, table: NDArray[np.float32]) -> None:
        """Push symbols under one table each: (n,) symbols, (n, V) non-negative masses, rows need not sum to one."""
        if symbols.size:
            _check_table(table)
            self._coder.encode_reverse(symbols, _TABLE, table)

    def pop_table(self, table: NDArray[np.float32]) -> Symbols:
        """Pop symbols pushed by `push_table` with the same table."""
        if not len(table):
            return np.zeros(0, dtype=np.int32)
        _check_table(table)
        symbols: Symbols = self._coder.decode(_TABLE, table)
        return symbols


def _check_gaussian(mean: Floats, std: Floats) -> None:
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise StackError("a latent distribution is not finite")


def _check_table(table: NDArray[np.float32]) -> None:
    if not np.isfinite(table).all() or (table.sum(axis=-1) <= 0).any():
        raise StackError("a pixel distribution is not finite")
