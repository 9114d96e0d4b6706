"""The entropy coder: a stack of bits, fed with whole arrays.

The stack is constriction's ANS coder (Duda 2009; 32-bit words, 64-bit state, 24-bit probabilities). This file guards
the places where a library call would go wrong silently: an empty coder, tables with NaN, means out of range.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

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
_TOP = 1 << 16  # words kept in the coder when a stack is settled


class StackError(Exception):
    """The stack cannot go on: it ran empty, or a distribution is not finite."""


def keystream(seed: int, counter: int, words: int) -> Words:
    """Reproducible random words: Philox counters (Salmon et al. 2011), raw output, so no library version matters."""
    generator = np.random.Philox(key=np.array([seed, counter], dtype=np.uint64))
    raw: NDArray[np.uint64] = generator.random_raw((words + 1) // 2)
    return raw.astype("<u8").view("<u4")[:words].astype(np.uint32)


class Stack:
    """Last in, first out: what is pushed under a distribution is popped under the same one.

    Only the top is in the coder; what lies deeper is kept aside, so that work on the top costs nothing for the depth.

    Args:
        words: contents from an earlier `words()`; None for an empty stack.
        supply: gives the n-th seeded word below the bottom, for stacks that may be extended downwards; popping from a
            stack without supply never extends it.

    Attributes:
        lowest: fewest words held since the last `mark`.
    """

    def __init__(self, words: Words | None = None, supply: Callable[[int, int], Words] | None = None) -> None:
        whole = np.zeros(0, dtype=np.uint32) if words is None else words
        cut = max(0, len(whole) - _TOP) if len(whole) > 2 * _TOP else 0
        self._deep = [whole[first : min(first + _TOP, cut)] for first in range(0, cut, _TOP)]
        self._coder = _coder(whole[cut:])
        self._supply = supply
        self.supplied = 0
        self.lowest = self.num_words()

    # -- contents -------------------------------------------------------------------------------------------------

    def words(self) -> Words:
        """A copy of the contents, bottom first."""
        return np.concatenate([*self._deep, self._coder.get_compressed()])

    def num_words(self) -> int:
        """Words held."""
        return sum(map(len, self._deep)) + int(self._coder.num_words())

    def num_bits(self) -> int:
        """Bits held."""
        return WORD * sum(map(len, self._deep)) + int(self._coder.num_valid_bits())

    @property
    def untouched(self) -> int:
        """Seeded words at the bottom that no pop reached."""
        return min(max(0, self.lowest - 2), self.supplied)

    def settle(self) -> None:
        """Put aside what lies deep, if that is much."""
        if self._coder.num_words() > 4 * _TOP:
            contents: Words = self._coder.get_compressed()
            self._deep.append(contents[:-_TOP])
            self._coder = _coder(contents[-_TOP:])

    def scramble(self, key: Callable[[int], Words], words: int) -> None:
        """XOR the top words, all but the very last, with a keystream; doing it twice undoes it."""
        while self._deep and self._coder.num_words() < words + 3:
            self._raise(self._deep.pop())
        contents: Words = self._coder.get_compressed()
        count = min(words, len(contents) - 1)
        if count > 0:
            contents[-1 - count : -1] ^= key(count)
            self._coder = _coder(contents)
            self.lowest = min(self.lowest, self.num_words() - 1 - count)

    def _raise(self, below: Words) -> None:
        """Put words below those in the coder."""
        self._coder = _coder(np.concatenate([below, self._coder.get_compressed()]))

    def _fetch(self, symbols: int) -> int:
        """See that pops take what lies deep; returns the bits they may need at most."""
        needed = _BITS_AT_MOST * symbols + 2 * WORD
        while self._deep and self._coder.num_valid_bits() < needed:
            self._raise(self._deep.pop())
        return needed

    def _ready_to_pop(self, symbols: int) -> None:
        """Extend downwards if pops might run dry."""
        needed = self._fetch(symbols)
        held = int(self._coder.num_valid_bits())
        if self._supply is not None and held < needed:
            more = (needed - held) // WORD + 64
            below = self._supply(self.supplied, more)[::-1]  # deeper words have higher numbers
            self.supplied += more
            self.lowest += more
            self._raise(below)

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
        self.lowest = min(self.lowest, self.num_words())
        return symbols

    def push_table(self, symbols: Symbols, table: NDArray[np.float64]) -> None:
        """Push symbols under one table each: (n,) symbols, (n, V) non-negative masses, rows need not sum to one."""
        if symbols.size:
            _check_table(table)
            with _no_panic():
                self._coder.encode_reverse(symbols, _TABLE, table)

    def pop_table(self, table: NDArray[np.float64]) -> Symbols:
        """Pop symbols pushed by `push_table` with the same table."""
        if not len(table):
            return np.zeros(0, dtype=np.int32)
        _check_table(table)
        self._fetch(len(table))
        with _no_panic():
            symbols: Symbols = self._coder.decode(_TABLE, table)
        return symbols


def _coder(words: Words) -> Any:
    """A coder with these contents; no word at all is an empty one."""
    return constriction.stream.stack.AnsCoder(np.ascontiguousarray(words) if len(words) else None)


@contextlib.contextmanager
def _no_panic() -> Iterator[None]:
    """The library's panics are no ordinary exceptions and would pass every handler."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise StackError(f"the coder gave up ({error})") from error


def _check_gaussian(mean: Floats, std: Floats) -> None:
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise StackError("a latent distribution is not finite")


def _check_table(table: NDArray[np.float64]) -> None:
    positive = not table.size or table.min() > 0  # nearly always, and cheaper to see than the sum of every row
    if not np.isfinite(table.sum()) or not (positive or (table.sum(axis=-1) > 0).all()):
        raise StackError("a pixel distribution is not finite")
