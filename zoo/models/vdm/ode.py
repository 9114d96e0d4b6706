"""Likelihood of VDM by its probability-flow ODE: the third estimator beside the continuous and the T-step bound.

The score network also defines a deterministic flow with the same marginals (Song et al. 2021); in the variable gamma it
reads `dz/dgamma = sigma/2 (eps_hat(z, gamma) - sigma z)`, so the interior of the schedule plays no part. Its density at
gamma_0 is exact up to the tolerance of the solver and the (unbiased) Hutchinson estimate of the divergence:

    log p(z_0) = log N(z_1; 0, I) + integral from gamma_0 to gamma_1 of div(dz/dgamma)

From that density to a probability of levels leads variational dequantisation (Zheng et al. 2023, section 4.2): for z_0
drawn from any q inside the bin of x, `-log P(x) <= E_q[log q(z_0) - log p(z_0)]`, P being the flow's mass of the bin.
With the truncated normal the number is therefore an upper bound on -log P(x), up to the tolerance. It is a different
model than the one that the variational bound prices: tables name the estimator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from zoo.errors import UserError
from zoo.likelihood import LikelihoodTerms, Noise, per_image, to_levels
from zoo.likelihood.noise import GLOBAL_NOISE
from zoo.models.vdm.pixels import pixel_log_prob

if TYPE_CHECKING:
    from zoo.models.vdm.model import VDM

Dequantiser = Literal["truncated", "gaussian"]

# Dormand and Prince 1980, RK5(4)7M: nodes, stages, weights of order 5, and their difference to those of order 4.
NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

Field = Callable[[float, Tensor], Tensor]


@dataclass(frozen=True)
class Solution:
    """End of an integration.

    Attributes:
        state: (B, S) at the end.
        evaluations: of the field, rejected steps included.
    """

    state: Tensor
    evaluations: int


def integrate(field: Field, state: Tensor, start: float, end: float, tolerance: float, limit: int = 10_000) -> Solution:
    """Adaptive Dormand-Prince of order 5, one step size for the batch.

    A step is accepted when for every row the root mean square error of the state is within `tolerance * (1 + |state|)`
    and the error of the last column within that step's share of `tolerance`. So the errors that the solver sees in the
    wanted integral add up to at most `tolerance`, however many steps there are.

    Args:
        field: derivative of the state at (time, state).
        state: (B, S) float64 at `start`; the last column is the integral that is wanted.
        start: time of `state`.
        end: time of the result, above `start`.
        tolerance: of the state relative and absolute in each step; of the last column over the whole way.
        limit: most evaluations allowed.

    Raises:
        UserError: the limit was reached; the tolerance is finer than the rounding of the field.
    """
    time, step = start, (end - start) / 50
    slope, evaluations = field(time, state), 1
    while time < end - 1e-12 * (end - start):
        step = min(step, end - time)
        slopes = [slope]
        for row in STAGES[1:]:
            inner = state + step * sum(a * k for a, k in zip(row, slopes, strict=True) if a)
            slopes.append(field(time + step * NODES[len(slopes)], inner))
        evaluations += 6
        error = step * sum(e * k for e, k in zip(ERROR, slopes, strict=True) if e)
        ratio = error.abs() / (tolerance * (1.0 + torch.maximum(state.abs(), inner.abs())))
        share = tolerance * step / (end - start)
        worst = max(ratio.square().mean(1).sqrt().max().item(), error[:, -1].abs().max().item() / share)
        if worst <= 1.0:
            # The last stage was evaluated at the new state: it is the first one of the next step.
            time, state, slope = time + step, inner, slopes[-1]
        step *= min(5.0, max(0.2, 0.9 * max(worst, 1e-10) ** -0.2))
        if evaluations > limit:
            raise UserError(f"no ODE solution within {limit} evaluations; raise ode_tolerance above {tolerance:g}")
    return Solution(state, evaluations)


def _field(model: VDM, shape: torch.Size, probe: Tensor, label: Tensor | None) -> Field:
    """Slope of (z, accumulated divergence per dimension) in gamma, as rows (B, D + 1)."""
    dims = shape[1:].numel()

    def field(gamma: float, state: Tensor) -> Tensor:
        level = torch.tensor(gamma, dtype=torch.float64, device=state.device)
        sigma = torch.sigmoid(level).sqrt()
        with torch.enable_grad():
            z = state[:, :-1].reshape(shape).detach().requires_grad_()  # (B, D) -> (B, C, H, W)
            eps = model.predict(z, level, label)
            (pulled,) = torch.autograd.grad(eps, z, probe)
        slope = 0.5 * sigma * (eps.detach() - sigma * z.detach())
        # one probe of signs for div eps_hat, exact where its Jacobian is diagonal; div z is exact
        divergence = 0.5 * sigma * (per_image(pulled * probe) / dims - sigma)
        return torch.cat([slope.flatten(1), divergence.unsqueeze(1)], dim=1)

    return field


def log_density(
    model: VDM, z0: Tensor, tolerance: float = 1e-2, label: Tensor | None = None, noise: Noise | None = None
) -> tuple[Tensor, int]:
    """Log density of the flow at z_0.

    Args:
        model: the model, in eval mode.
        z0: (B, C, H, W) float64, at gamma_0.
        tolerance: of the solver; the accumulated divergence is held to it, in nats/dim, over the whole way.
        label: (B,) classes.
        noise: of the divergence's probe; None is torch's global generator.

    Returns:
        (B,) nats, and the evaluations of the network.
    """
    dims = z0[0].numel()
    probe = torch.where((noise or GLOBAL_NOISE).uniform("probe", z0) < 0.5, -1.0, 1.0).to(z0)
    start = torch.cat([z0.flatten(1), z0.new_zeros(len(z0), 1)], dim=1)
    gamma_0, gamma_1 = (end.item() for end in model.schedule.ends())
    solution = integrate(_field(model, z0.shape, probe, label), start, gamma_0, gamma_1, tolerance)
    z1, divergence = solution.state[:, :-1], solution.state[:, -1] * dims
    log_prior = -0.5 * (z1.square() + math.log(2.0 * math.pi)).sum(1)
    return log_prior + divergence, solution.evaluations


def ode_terms(
    model: VDM,
    x: Tensor,
    label: Tensor | None = None,
    dequantiser: Dequantiser = "truncated",
    tolerance: float = 1e-2,
    noise: Noise | None = None,
) -> LikelihoodTerms:
    """Price a batch by the probability-flow ODE, one draw of z_0 and one probe per image.

    Args:
        model: the model, in eval mode.
        x: (B, C, H, W) uint8.
        label: (B,) classes.
        dequantiser: `truncated`, noise of the schedule cut off at the edges of the level's bin, everything in the rate
            `flow`; or `gaussian`, the model's own q(z_0 | x) and p(x | z_0), which loses a little more.
        tolerance: of the solver; the accumulated divergence is held to it, in nats/dim, over the whole way.
        noise: where random numbers come from; None is torch's global generator.

    Returns:
        Terms with one rate, `flow`.
    """
    gamma_0 = model.schedule.ends()[0].to(x.device)
    alpha, sigma = torch.sigmoid(-gamma_0).sqrt(), torch.sigmoid(gamma_0).sqrt()
    f, noise = model.encode(x), noise or GLOBAL_NOISE
    log_scale = 0.5 * math.log(2.0 * math.pi) + sigma.log()
    if dequantiser == "truncated":
        mass = torch.erf(alpha / (2**model.bits * sigma) / math.sqrt(2.0))  # of the bin under the noise
        uniform = (2.0 * noise.uniform("dequantise", f) - 1.0) * mass
        eps = math.sqrt(2.0) * torch.erfinv(uniform)
        log_scale = log_scale + mass.log()
        distortion = f.new_zeros(len(x))
    else:
        eps = noise.normal("dequantise", f)
        rescaled = f + sigma / alpha * eps
        distortion = -pixel_log_prob(rescaled, to_levels(x, model.bits), gamma_0, model.bits)
    # log q of the very draw, not the entropy of q: where the flow is a good model the two densities vary together
    log_q = per_image(-0.5 * eps.square() - log_scale)
    log_p, _ = log_density(model, (alpha * f + sigma * eps).detach(), tolerance, label, noise)
    return LikelihoodTerms(distortion.detach(), {"flow": (log_q - log_p).detach()}, num_dims=x[0].numel())
