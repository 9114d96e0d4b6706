"""Learning-rate schedules as factors of the peak rate, functions of the step alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from zoo.errors import UserError

ScheduleName = Literal["constant", "cosine", "cycle"]


@dataclass(frozen=True)
class Schedule:
    """How the learning rate moves.

    Steps count from 0 and advance on skipped updates too, as in the official codes.

    Attributes:
        name: `constant`; `cosine`: constant until `decay_start`, then half a cosine down to `min_factor` at
            `decay_start + decay_steps`; `cycle`: linear from 1/25 over `warmup_steps`, then half a cosine down to
            almost nothing at `decay_steps` (rosinality's option for VQ-VAE-2).
        warmup_steps: the factor rises linearly from 0 at step 0, so the first update moves nothing (VDVAE,
            Efficient-VDVAE and VDM all do this). 0 switches it off.
        decay_start: step at which the cosine begins.
        decay_steps: its length; required for `cosine` and `cycle`.
        min_factor: lowest rate as a share of the peak.
    """

    name: ScheduleName = "constant"
    warmup_steps: int = 0
    decay_start: int = 0
    decay_steps: int | None = None
    min_factor: float = 0.0

    def __post_init__(self) -> None:
        if self.name != "constant" and not self.decay_steps:
            raise UserError(f"schedule={self.name} needs decay_steps (optimiser steps, > 0); set --model.decay_steps")
        if self.name == "cycle" and self.decay_steps is not None and self.decay_steps <= self.warmup_steps:
            raise UserError(
                f"schedule=cycle: decay_steps={self.decay_steps} must exceed warmup_steps={self.warmup_steps}"
            )

    def __call__(self, step: int) -> float:
        """Factor of the peak learning rate at an optimiser step."""
        return _FACTORS[self.name](self, step)


def _constant(schedule: Schedule, step: int) -> float:
    return min(1.0, step / schedule.warmup_steps) if schedule.warmup_steps > 0 else 1.0


def _cosine(schedule: Schedule, step: int) -> float:
    done = (step - schedule.decay_start) / (schedule.decay_steps or 1)
    half_cosine = 0.5 * (1.0 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
    return _constant(schedule, step) * (schedule.min_factor + (1.0 - schedule.min_factor) * half_cosine)


def _cycle(schedule: Schedule, step: int) -> float:
    low, total = 1.0 / 25.0, schedule.decay_steps or 1
    position = step % total + 1  # the official scheduler is stepped before the optimiser
    if position <= schedule.warmup_steps:
        return low + (1.0 - low) * position / schedule.warmup_steps
    done = (position - schedule.warmup_steps) / (total - schedule.warmup_steps)
    end = low / 1e4
    return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * done))


_FACTORS: dict[str, Callable[[Schedule, int], float]] = {"constant": _constant, "cosine": _cosine, "cycle": _cycle}
