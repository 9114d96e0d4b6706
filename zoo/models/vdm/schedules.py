"""Noise schedules of VDM: gamma(t), the negative log signal-to-noise ratio, and its slope.

Kingma et al. 2021, section 3 and appendix H. gamma rises with t; the signal has alpha^2 = sigmoid(-gamma), the noise
sigma^2 = sigmoid(gamma). Everything is float64: a step of T = 1000 changes gamma by 0.02 while gamma itself is -13,
and float32 would lose the difference. All slopes are in closed form, so no second derivative is ever taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError, closest

ScheduleName = Literal["fixed", "scalar", "network", "monotone", "beta-linear", "alpha-cosine"]


@dataclass(frozen=True)
class ScheduleConfig:
    """A noise schedule before training.

    Attributes:
        kind: `fixed` (log-SNR linear), `scalar` (linear, ends learned), `network` (the official code's network),
            `monotone` (the paper's: ends learned on the bound, interior on the variance of its estimate),
            `beta-linear` and `alpha-cosine` (nothing learned; what the paper compares with).
        width: hidden units of the kinds with a network.
        gamma_min: gamma(0); None for -13.3 at 8 bits, moved by 2 ln 2 per bit so that the noise stays in proportion to
            the spacing of the levels.
        gamma_max: gamma(1).
    """

    kind: ScheduleName = "monotone"
    width: int = 1024
    gamma_min: float | None = None
    gamma_max: float = 5.0

    def at(self, bits: int) -> ScheduleConfig:
        """With the lower end of a depth filled in.

        Raises:
            UserError: ends in the wrong order.
        """
        filled = self
        if self.gamma_min is None:
            filled = replace(self, gamma_min=-13.3 + (8 - bits) * 2.0 * 0.6931471805599453)
        low, high = filled.ends
        if not low < high:
            raise UserError(f"gamma_min={low} must lie below gamma_max={high}: gamma rises with time")
        return filled

    @property
    def ends(self) -> tuple[float, float]:
        """gamma(0) and gamma(1) once both are known."""
        if self.gamma_min is None:
            raise ValueError("gamma_min depends on the depth: call at(bits) first")
        return self.gamma_min, self.gamma_max


@dataclass(frozen=True)
class NoiseLevel:
    """A schedule at some times.

    Attributes:
        gamma: any shape, float64, negative log signal-to-noise ratio.
        slope: same shape, d gamma / d t, not negative.
        interior: the tensors through which `gamma` and `slope` depend on parameters that leave both end points alone;
            empty for schedules without such parameters. Gradients that arrive there may be rescaled (see
            `VDM.objective`).
    """

    gamma: Tensor
    slope: Tensor
    interior: tuple[Tensor, ...] = ()


class NoiseSchedule(nn.Module):
    """A monotone map from time in [0, 1] to gamma."""

    def forward(self, t: Tensor) -> NoiseLevel:
        """Evaluate at times of any shape."""
        raise NotImplementedError

    def ends(self) -> tuple[Tensor, Tensor]:
        """gamma(0) and gamma(1), scalars."""
        device = next((p.device for p in self.parameters()), None)
        gamma = self(torch.arange(2, dtype=torch.float64, device=device)).gamma
        return gamma[0], gamma[1]

    def straight(self) -> FixedSchedule:
        """The log-SNR-linear schedule with the end points of this one."""
        low, high = (end.item() for end in self.ends())
        return FixedSchedule(low, high)


class FixedSchedule(NoiseSchedule):
    """`gamma_min + (gamma_max - gamma_min) t`: log-SNR linear, nothing to learn (official name `fixed`)."""

    def __init__(self, gamma_min: float, gamma_max: float) -> None:
        super().__init__()
        self.gamma_min, self.gamma_max = gamma_min, gamma_max

    def forward(self, t: Tensor) -> NoiseLevel:
        """Evaluate at times of any shape."""
        t = t.double()
        span = self.gamma_max - self.gamma_min
        return NoiseLevel(self.gamma_min + span * t, torch.full_like(t, span))


class ScalarSchedule(NoiseSchedule):
    """`b + |w| t`: linear with both ends learned (official name `learnable_scalar`)."""

    def __init__(self, gamma_min: float, gamma_max: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([gamma_max - gamma_min]))
        self.b = nn.Parameter(torch.tensor([gamma_min]))

    def forward(self, t: Tensor) -> NoiseLevel:
        """Evaluate at times of any shape."""
        t, span = t.double(), self.w.double().abs()
        return NoiseLevel(self.b.double() + span * t, span.expand(t.shape))


class NetworkSchedule(NoiseSchedule):
    """The monotone network of the official code (`learnable_nnet`), end points not separated.

    `gamma(t) = |k1| t + b1 + mean_j |k3_j| (2 sigmoid(|k2_j| (2t - 1) + b2_j) - 1)` with 1024 hidden units. Its ends
    move with every parameter, so it can only be trained on the bound itself.
    """

    def __init__(self, gamma_min: float, gamma_max: float, width: int = 1024) -> None:
        super().__init__()
        self.l1_kernel = nn.Parameter(torch.tensor([gamma_max - gamma_min]))
        self.l1_bias = nn.Parameter(torch.tensor([gamma_min]))
        self.l2_kernel = nn.Parameter(0.01 * torch.randn(width))
        self.l2_bias = nn.Parameter(torch.zeros(width))
        self.l3_kernel = nn.Parameter(0.01 * torch.randn(width))

    def forward(self, t: Tensor) -> NoiseLevel:
        """Evaluate at times of any shape."""
        t = t.double()
        rise, steep, weight = (k.double().abs() for k in (self.l1_kernel, self.l2_kernel, self.l3_kernel))
        unit = torch.sigmoid((2 * t - 1).unsqueeze(-1) * steep + self.l2_bias.double())  # (..., width)
        gamma = rise * t + self.l1_bias.double() + ((2 * unit - 1) * weight).mean(-1)
        slope = rise + (4 * unit * (1 - unit) * steep * weight).mean(-1)
        return NoiseLevel(gamma, slope)


class MonotoneSchedule(NoiseSchedule):
    """The schedule of the paper: learned ends, and an interior that leaves the ends alone (appendix H).

    `gamma(t) = gamma_0 + (gamma_1 - gamma_0) (g(t) - g(0)) / (g(1) - g(0))` with
    `g(t) = t + sum_j w_j sigmoid(a_j (t - c_j))` and positive w, a (through softplus). The hidden units start with
    centres spread over [0, 1], so that the first updates can already bend the line anywhere; at the start gamma is
    close to linear.

    Args:
        gamma_min: gamma(0) before training.
        gamma_max: gamma(1) before training.
        width: hidden units.
    """

    def __init__(self, gamma_min: float, gamma_max: float, width: int = 1024) -> None:
        super().__init__()
        self.gamma_0 = nn.Parameter(torch.tensor(gamma_min))
        self.gamma_1 = nn.Parameter(torch.tensor(gamma_max))
        self.raw_steepness = nn.Parameter(torch.full((width,), 16.0))
        self.raw_weight = nn.Parameter(torch.full((width,), math.log(math.expm1(1.0))))
        self.centre = nn.Parameter((torch.arange(width) + 0.5) / width)

    def _unnormalised(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """g(t) and its slope, for t of any shape."""
        steep, weight = F.softplus(self.raw_steepness.double()), F.softplus(self.raw_weight.double())
        unit = torch.sigmoid((t.unsqueeze(-1) - self.centre.double()) * steep)  # (..., width)
        return t + (unit * weight).mean(-1), 1 + (unit * (1 - unit) * steep * weight).mean(-1)

    def forward(self, t: Tensor) -> NoiseLevel:
        """Evaluate at times of any shape."""
        t = t.double()
        (low, high), _ = self._unnormalised(torch.arange(2, dtype=t.dtype, device=t.device))
        value, slope = self._unnormalised(t)
        part, part_slope = (value - low) / (high - low), slope / (high - low)  # rises from 0 to 1
        start, span = self.gamma_0.double(), self.gamma_1.double() - self.gamma_0.double()
        return NoiseLevel(start + span * part, span * part_slope, interior=(part, part_slope))


class BetaLinearSchedule(NoiseSchedule):
    """`alpha^2(t) = exp(-(c + (d - c) t^2))`: the variance of the noise grows linearly (Ho et al. 2020).

    Kingma et al. 2021 compare with its continuous form, `exp(-1e-4 - 10 t^2)`; here c and d follow from the ends.
    """

    def __init__(self, gamma_min: float, gamma_max: float) -> None:
        super().__init__()
        self.first, self.last = (math.log1p(math.exp(end)) for end in (gamma_min, gamma_max))  # -log alpha^2

    def forward(self, t: Tensor) -> NoiseLevel:
        """Evaluate at times of any shape."""
        t, rise = t.double(), self.last - self.first
        spent = self.first + rise * t.square()
        return NoiseLevel(torch.expm1(spent).log(), -2.0 * rise * t / torch.expm1(-spent))


class AlphaCosineSchedule(NoiseSchedule):
    """`alpha(t) = cos(a(t))` with an angle linear in t (Nichol and Dhariwal 2021), from and to the given ends."""

    def __init__(self, gamma_min: float, gamma_max: float) -> None:
        super().__init__()
        self.first, self.last = (math.atan(math.exp(0.5 * end)) for end in (gamma_min, gamma_max))

    def forward(self, t: Tensor) -> NoiseLevel:
        """Evaluate at times of any shape."""
        t, rise = t.double(), self.last - self.first
        angle = self.first + rise * t
        return NoiseLevel(2.0 * angle.tan().log(), 4.0 * rise / (2.0 * angle).sin())


SCHEDULES: dict[str, type[NoiseSchedule]] = {
    "fixed": FixedSchedule,
    "scalar": ScalarSchedule,
    "network": NetworkSchedule,
    "monotone": MonotoneSchedule,
    "beta-linear": BetaLinearSchedule,
    "alpha-cosine": AlphaCosineSchedule,
}


def make_schedule(config: ScheduleConfig) -> NoiseSchedule:
    """Build a schedule whose lower end is known.

    Raises:
        UserError: unknown kind.
    """
    if config.kind not in SCHEDULES:
        raise UserError(f"schedule kind {config.kind!r} is unknown; {closest(config.kind, SCHEDULES)}")
    if config.kind in ("network", "monotone"):
        return SCHEDULES[config.kind](*config.ends, config.width)
    return SCHEDULES[config.kind](*config.ends)
