"""Choosing how a stream is coded: chained or rounded, which channels are seeded, how fine the grids are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.codec.bits_back import Plan, SiteStatistics, encode_batch
from zoo.codec.grid import SEEDED, Profile, step_code
from zoo.codec.stack import WORD, Stack, Words, keystream
from zoo.codec.symbols import Recorder, Region
from zoo.codec.tiles import Size
from zoo.likelihood import AncestralModel, to_levels

# A uniform error as wide as this many standard deviations of the posterior has the posterior's variance.
_ROUNDED = math.sqrt(12.0)
# Steps of a chained grid in posterior standard deviations: fine enough to lose nothing that can be measured.
_CHAINED = 0.25
_POP = math.log2(math.sqrt(2.0 * math.pi * math.e) / _CHAINED)  # bits a latent borrows: its posterior's entropy
_CHAINED_THRESHOLDS = (1e-4, 3e-4, 1e-3, 3e-3)  # nats: channels of less are seeded
_ROUNDED_THRESHOLDS = (3e-3, 1e-2, 3e-2, 1e-1)
# Rounding pays for every latent of every tile, so in longer streams the chain always wins and it is not even priced.
_LONGEST_ROUNDED = 64
_SUPPLY_BLOCK = 4096
_SUPPLY_COUNTER = 1 << 62


@dataclass(frozen=True)
class Candidate:
    """A plan with what it is expected to cost.

    Attributes:
        plan: the plan.
        bits: predicted bits of the whole stream, initial bits included.
    """

    plan: Plan
    bits: float


def initial_words(seed: int, first: int, count: int) -> Words:
    """Seeded words `first` to `first + count` of the endless supply below the stack."""
    start, stop = first // _SUPPLY_BLOCK, -(-(first + count) // _SUPPLY_BLOCK)
    blocks = [keystream(seed, _SUPPLY_COUNTER + block, _SUPPLY_BLOCK) for block in range(start, stop)]
    offset = first - start * _SUPPLY_BLOCK
    return np.concatenate(blocks)[offset : offset + count] if blocks else np.zeros(0, dtype=np.uint32)


def fresh_stack(seed: int) -> Stack:
    """A stack that starts with nothing but a sentinel and draws seeded words from below when a pop needs them."""
    return Stack(np.ones(1, dtype=np.uint32), supply=lambda first, count: initial_words(seed, first, count))


def _profile(statistics: SiteStatistics, threshold: float, scale: float) -> Profile:
    """Seed channels whose mean KL is below the threshold (nats); step = scale * std_q / std_p elsewhere."""
    kl, log_ratio = np.concatenate(statistics.kl), np.concatenate(statistics.log_ratio)
    steps = np.array([step_code(scale * math.exp(ratio)) for ratio in log_ratio], dtype=np.uint8)
    return Profile(np.where(kl < threshold, SEEDED, steps).astype(np.uint8))


def choose_plan(
    model: AncestralModel,
    x: Tensor,
    sizes: list[Size],
    tiles: int,
    chained: bool | None = None,
    seed: int = 0,
    first: int = 1,
) -> Plan:
    """Take the cheapest of a handful of plans for the whole stream.

    One pass tells what every channel is worth. Chained plans are compared by it alone; rounding, which moves latents
    far, is priced on the sample, and only as long as it gets better.

    Args:
        model: in eval mode.
        x: a sample of the stream's tiles, (B, C, H, W) uint8.
        sizes: their real sizes.
        tiles: how many tiles the stream has.
        chained: force bits-back (True) or rounding (False); None decides by predicted size.
        seed: of the shared generator.
        first: tiles of the first batch, which borrows.
    """
    statistics = SiteStatistics()
    pixels = model.ancestral_pass(statistics, x, len(x))
    if not statistics.kl:
        return Plan(Profile(np.zeros(0, dtype=np.uint8)), chained=False, seed=seed)
    candidates: list[Candidate] = []
    if chained is not False:
        recorder = Recorder(to_levels(x, model.bits), Region(tuple(x.shape), sizes))
        pixels.visit(recorder)
        rate = float(sum(rate.sum(dtype=torch.float64) for rate in statistics.rates.values()))
        bound = (recorder.nats + rate) / math.log(2.0) / len(x)
        candidates += _chained(statistics, bound * tiles, tiles, seed, first)
    if chained is False or (chained is None and tiles <= _LONGEST_ROUNDED):
        candidates += _rounded(model, x, sizes, tiles, statistics, seed)
    return min(candidates, key=lambda candidate: candidate.bits).plan


def _chained(statistics: SiteStatistics, bound: float, tiles: int, seed: int, first: int) -> list[Candidate]:
    """Plans with bits-back. Seeding a channel is taken to lose its KL."""
    latents = np.repeat(statistics.latents, [len(kl) for kl in statistics.kl])
    kl = np.concatenate(statistics.kl)
    candidates = []
    for threshold in _CHAINED_THRESHOLDS:
        plan = Plan(_profile(statistics, threshold, _CHAINED), chained=True, seed=seed)
        seeded = kl < threshold
        lost = tiles * float((latents * kl)[seeded].sum()) / math.log(2.0)
        initial = first * _POP * float(latents[~seeded].sum())
        candidates.append(Candidate(plan, bound + lost + initial + 8.0 * len(plan.profile.to_bytes())))
    return candidates


def _rounded(
    model: AncestralModel, x: Tensor, sizes: list[Size], tiles: int, statistics: SiteStatistics, seed: int
) -> list[Candidate]:
    """Plans without initial bits: channels are seeded while that makes the file shorter, then steps widened."""

    def priced(threshold: float, scale: float) -> Candidate:
        plan = Plan(_profile(statistics, threshold, scale), chained=False, seed=seed)
        cost = encode_batch(model, x, sizes, plan, 0, None).direct
        return Candidate(plan, cost * tiles / len(x) + 8.0 * len(plan.profile.to_bytes()))

    best, threshold = priced(_ROUNDED_THRESHOLDS[0], _ROUNDED), _ROUNDED_THRESHOLDS[0]
    for next_threshold in _ROUNDED_THRESHOLDS[1:]:
        tried = priced(next_threshold, _ROUNDED)
        if tried.bits >= best.bits:
            break
        best, threshold = tried, next_threshold
    return [best, priced(threshold, 1.5 * _ROUNDED)]


def next_batch(stack: Stack, per_tile: int, left: int, most: int) -> int:
    """Tiles of the next batch of a chain: no more than the stack can pay for, so that nothing more is borrowed.

    Args:
        stack: what is there to be popped.
        per_tile: words that a tile pops.
        left: tiles not yet coded.
        most: the largest batch.
    """
    affordable = (stack.num_bits() // WORD - stack.untouched) // per_tile
    size = max(1, min(most, affordable, left))
    return -(-left // -(-left // size))  # no small rest at the end
