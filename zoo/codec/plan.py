"""Choosing how a stream is coded: chained or rounded, which channels are seeded, how fine the grids are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from zoo.codec.bits_back import BatchCost, Plan, SiteStatistics, encode_batch
from zoo.codec.grid import SEEDED, Profile, step_code
from zoo.codec.stack import WORD, Stack, Words, keystream
from zoo.codec.tiles import Size
from zoo.likelihood import AncestralModel

# A uniform error as wide as this many standard deviations of the posterior has the posterior's variance.
_ROUNDED = math.sqrt(12.0)
# Steps of a chained grid in posterior standard deviations: fine enough to lose nothing that can be measured.
_CHAINED = 0.25
_SUPPLY_BLOCK = 4096
_SUPPLY_COUNTER = 1 << 62


@dataclass(frozen=True)
class Candidate:
    """A plan with what it is expected to cost.

    Attributes:
        plan: the plan.
        bits: predicted bits of the whole stream, initial bits included.
        initial: bits the first batch must borrow.
    """

    plan: Plan
    bits: float
    initial: float


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
    codes = []
    for kl, log_ratio in zip(statistics.kl, statistics.log_ratio, strict=True):
        steps = np.array([step_code(scale * math.exp(ratio)) for ratio in log_ratio], dtype=np.uint8)
        codes.append(np.where(kl < threshold, SEEDED, steps).astype(np.uint8))
    return Profile(tuple(codes))


def choose_plan(
    model: AncestralModel, x: Tensor, sizes: list[Size], tiles: int, chained: bool | None = None, seed: int = 0
) -> Candidate:
    """Price a handful of plans on the first batch and take the cheapest for the whole stream.

    Args:
        model: in eval mode.
        x: first batch, (B, C, H, W) uint8.
        sizes: real sizes of its tiles.
        tiles: how many tiles the stream has.
        chained: force bits-back (True) or rounding (False); None decides by predicted size.
        seed: of the shared generator.
    """
    statistics = SiteStatistics()
    model.ancestral_pass(statistics, x, len(x))
    if not statistics.kl:
        return Candidate(Plan(Profile(()), chained=False, seed=seed), 0.0, 0.0)
    candidates = []
    if chained is not False:
        for threshold in (0.0, 3e-4, 3e-3):
            plan = Plan(_profile(statistics, threshold, _CHAINED), chained=True, seed=seed)
            candidates.append(_price_chained(model, x, sizes, tiles, plan))
    # Rounding pays for every latent of every tile; beyond a few batches the chain always wins, so do not even price it.
    if chained is False or (chained is None and tiles <= 4 * len(x)):
        for threshold in (3e-3, 1e-2, 3e-2, 1e-1):
            for scale in (_ROUNDED, 1.5 * _ROUNDED):
                plan = Plan(_profile(statistics, threshold, scale), chained=False, seed=seed)
                cost = encode_batch(model, x, sizes, plan, 0, None)
                header = 8.0 * len(plan.profile.to_bytes())
                candidates.append(Candidate(plan, cost.direct * tiles / len(x) + header, 0.0))
    return min(candidates, key=lambda candidate: candidate.bits)


def _price_chained(model: AncestralModel, x: Tensor, sizes: list[Size], tiles: int, plan: Plan) -> Candidate:
    stack = fresh_stack(plan.seed)
    cost: BatchCost = encode_batch(model, x, sizes, plan, 0, stack)
    initial = float(WORD * (stack.supplied - max(0, stack.lowest - 1)))
    return Candidate(plan, cost.bound * tiles / len(x) + initial + 8.0 * len(plan.profile.to_bytes()), initial)
