"""The stack: last in, first out, at the price of the distributions."""

import numpy as np
import pytest

from zoo.codec.grid import pop_posterior, push_posterior
from zoo.codec.plan import fresh_stack, initial_words
from zoo.codec.stack import Stack, StackError, keystream
from zoo.codec.stream import whiten


class OracleStack:
    """The textbook coder on one Python integer, for checking lengths; exact and slow."""

    PRECISION = 24

    def __init__(self) -> None:
        self.state = 1 << 64

    def _interval(self, symbol: int, probs: np.ndarray) -> tuple[int, int]:
        free = (1 << self.PRECISION) - len(probs)
        edges = np.floor(np.concatenate([[0.0], np.cumsum(probs / probs.sum())]) * free) + np.arange(len(probs) + 1)
        edges[-1] = 1 << self.PRECISION
        return int(edges[symbol]), int(edges[symbol + 1] - edges[symbol])

    def push(self, symbol: int, probs: np.ndarray) -> None:
        start, mass = self._interval(symbol, probs)
        self.state = (self.state // mass << self.PRECISION) + start + self.state % mass

    def pop(self, probs: np.ndarray) -> int:
        slot = self.state & ((1 << self.PRECISION) - 1)
        for symbol in range(len(probs)):
            start, mass = self._interval(symbol, probs)
            if start <= slot < start + mass:
                self.state = mass * (self.state >> self.PRECISION) + slot - start
                return symbol
        raise AssertionError("unreachable")


def _tables(count: int, symbols: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    tables = rng.dirichlet(np.ones(symbols), size=count)
    drawn = np.array([rng.choice(symbols, p=row / row.sum()) for row in tables], dtype=np.int32)
    return drawn, tables


def test_length_and_symbols_agree_with_the_oracle() -> None:
    drawn, tables = _tables(3000, 16)
    oracle, stack = OracleStack(), fresh_stack(0)
    for symbol, row in zip(drawn[::-1], tables[::-1].astype(np.float64), strict=True):
        oracle.push(int(symbol), row)
    stack.push_table(drawn, tables)
    held = int.from_bytes(stack.words().astype("<u4").tobytes(), "little").bit_length() - 1
    assert held == pytest.approx(oracle.state.bit_length() - 65, abs=25)  # a fresh coder pays 24 bits once
    assert [oracle.pop(row) for row in tables.astype(np.float64)] == drawn.tolist()
    assert stack.pop_table(tables).tolist() == drawn.tolist()


def test_bits_back_returns_the_stack() -> None:
    rng = np.random.default_rng(0)
    mean, std = rng.normal(scale=20.0, size=5000), np.exp(rng.normal(scale=2.0, size=5000))
    stack = fresh_stack(7)
    k = pop_posterior(stack, mean, std, reach=160)
    push_posterior(stack, k, mean, std, reach=160)
    seeded = initial_words(7, 0, stack.supplied)[::-1]
    assert np.array_equal(stack.words(), np.append(seeded, 1).astype(np.uint32))


def test_popped_latents_follow_the_posterior_without_outliers() -> None:
    mean, std = np.linspace(-100.0, 100.0, 200_000), np.full(200_000, 3.0)
    k = pop_posterior(fresh_stack(1), mean, std, reach=160)
    deviation = (k - mean) / std
    assert np.abs(deviation).max() < 7.0
    assert deviation.mean() == pytest.approx(0.0, abs=0.02)
    assert deviation.std() == pytest.approx(1.0, abs=0.02)


def test_posterior_positions_stay_on_the_grid() -> None:
    mean, std = np.array([-160.0, 160.0, 0.0]).repeat(500), np.array([5.0, 5.0, 300.0]).repeat(500)
    k = pop_posterior(fresh_stack(1), mean, std, reach=160)
    assert np.abs(k).max() <= 160


def test_an_impossible_position_is_refused() -> None:
    with pytest.raises(StackError, match="does not belong"):
        push_posterior(fresh_stack(0), np.array([90], dtype=np.int32), np.array([0.0]), np.array([1.0]), reach=160)


def test_whitening_twice_undoes_it() -> None:
    stack = fresh_stack(0)
    stack.push_table(*_tables(300, 8))
    before = stack.words()
    whiten(stack, seed=5, batch=2, words=10)
    assert not np.array_equal(stack.words(), before)
    whiten(stack, seed=5, batch=2, words=10)
    assert np.array_equal(stack.words(), before)


def test_an_empty_stack_is_extended_from_the_seeded_supply_not_with_zeros() -> None:
    stack = fresh_stack(0)
    k = stack.pop_gaussian(50, np.zeros(2000), np.full(2000, 5.0))
    assert stack.supplied > 0
    assert k.std() == pytest.approx(5.0, rel=0.1)
    bare = Stack(np.ones(1, dtype=np.uint32))  # what the library alone does: the lowest symbol for ever
    assert set(bare.pop_gaussian(50, np.zeros(50), np.full(50, 5.0))[5:].tolist()) == {-50}


def test_a_deep_stack_is_one_stack() -> None:
    """Putting the bottom aside and fetching it again changes no symbol and no word."""
    drawn, tables = _tables(20_000, 16)
    plain, settled = fresh_stack(0), fresh_stack(0)
    for _ in range(60):
        plain.push_table(drawn, tables)
        settled.push_table(drawn, tables)
        settled.settle()
    assert np.array_equal(plain.words(), settled.words())
    again = Stack(settled.words())
    for number in range(60):
        whiten(again, 0, number, 50)
        whiten(again, 0, number, 50)
        assert np.array_equal(again.pop_table(tables), drawn)
    assert np.array_equal(again.words(), fresh_stack(0).words())


def test_rows_with_all_mass_in_front_leave_the_last_symbol_some() -> None:
    """In float32 the sums over such rows round up, and the library panics."""
    rng = np.random.default_rng(0)
    tables = (rng.random((50_000, 4)) ** 9).astype(np.float32).astype(np.float64)
    tables[rng.random(tables.shape) < 0.4] = 1e-20
    stack = fresh_stack(0)
    last = np.full(len(tables), 3, dtype=np.int32)
    stack.push_table(last, tables)
    assert np.array_equal(stack.pop_table(tables), last)


def test_distributions_that_are_not_finite_are_refused() -> None:
    stack = fresh_stack(0)
    with pytest.raises(StackError, match="not finite"):
        stack.pop_gaussian(10, np.array([np.nan]), np.array([1.0]))
    with pytest.raises(StackError, match="not finite"):
        stack.push_table(np.zeros(1, dtype=np.int32), np.array([[np.nan, 1.0]], dtype=np.float64))
    with pytest.raises(StackError, match="not finite"):
        stack.pop_table(np.zeros((1, 4), dtype=np.float64))


def test_keystream_never_changes() -> None:
    assert keystream(1, 2, 3).tolist() == keystream(1, 2, 8)[:3].tolist()
    assert keystream(0, 0, 2).tolist() != keystream(0, 1, 2).tolist()
