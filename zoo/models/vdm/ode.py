"""Likelihood by the probability-flow ODE of a noise predictor: the third estimator beside the two bounds.

A noise predictor also defines a deterministic flow with the same marginals (Song et al. 2021); in the variable gamma it
reads `dz/dgamma = sigma/2 (eps_hat(z, gamma) - sigma z)`, so the interior of the schedule plays no part. Its density at
gamma_0 is exact up to the tolerance of the solver and the (unbiased) Hutchinson estimate of the divergence:

    log p(z_0) = log N(z_1; 0, I) + integral from gamma_0 to gamma_1 of div(dz/dgamma)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.errors import UserError
from zoo.likelihood import per_image

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
"""Derivative of a state (B, S) at a time."""
Predictor = Callable[[Tensor, Tensor], Tensor]
"""Noise in z (B, C, H, W) at a scalar gamma."""


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
        error: Tensor = step * sum((e * k for e, k in zip(ERROR, slopes, strict=True) if e), torch.zeros_like(state))
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


def flow_log_density(
    predict: Predictor, z0: Tensor, probe: Tensor, ends: tuple[float, float], tolerance: float = 1e-2
) -> tuple[Tensor, int]:
    """Log density of the flow at z_0.

    Args:
        predict: the noise in z (B, C, H, W) at a scalar gamma, differentiable in z.
        z0: (B, C, H, W) float64, at gamma_0.
        probe: of its shape, random signs for the estimate of the divergence.
        ends: gamma_0 and gamma_1.
        tolerance: of the solver; the accumulated divergence is held to it, in nats/dim, over the whole way.

    Returns:
        (B,) nats, and the evaluations of `predict`.
    """
    dims = z0[0].numel()

    def field(gamma: float, state: Tensor) -> Tensor:
        level = torch.tensor(gamma, dtype=torch.float64, device=state.device)
        sigma = torch.sigmoid(level).sqrt()
        with torch.enable_grad():
            z = state[:, :-1].reshape(z0.shape).detach().requires_grad_()  # (B, D) -> (B, C, H, W)
            eps = predict(z, level)
            (pulled,) = torch.autograd.grad(eps, z, probe)
        slope = 0.5 * sigma * (eps.detach() - sigma * z.detach())
        # one probe of signs for div eps_hat, exact where its Jacobian is diagonal; div z is exact
        divergence = 0.5 * sigma * (per_image(pulled * probe) / dims - sigma)
        return torch.cat([slope.flatten(1), divergence.unsqueeze(1)], dim=1)

    start = torch.cat([z0.detach().flatten(1), z0.new_zeros(len(z0), 1)], dim=1)  # (B, D + 1)
    solution = integrate(field, start, *ends, tolerance)
    z1, divergence = solution.state[:, :-1], solution.state[:, -1] * dims
    log_prior = -0.5 * (z1.square() + math.log(2.0 * math.pi)).sum(1)
    return log_prior + divergence, solution.evaluations
