"""Variational diffusion model (Kingma, Salimans, Poole, Ho 2021, arXiv 2107.00630).

    x --level centres--> f     z_t = alpha_t f + sigma_t eps,  alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma)

    z_1 --> z_{1-1/T} --> ... --> z_{1/T} --> z_0 --> p(x | z_0)         T steps of one network, T chosen afterwards

`VDM.price` is the paper's loss, three terms under three headings. `terms` estimates the continuous-time bound from a
few low-discrepancy times; `ancestral_pass` is the T-step hierarchy itself, which samples and codes.

Letters: `B` batch, `C`, `H`, `W` image, `T` steps, `K` time draws per image.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError, closest
from zoo.likelihood import (
    AncestralModel,
    Categorical,
    DiagonalGaussian,
    LatentPolicy,
    LatentSite,
    LikelihoodTerms,
    Noise,
    Objective,
    Recording,
    SamplePrior,
    check_bits,
    from_levels,
    per_image,
    to_levels,
)
from zoo.likelihood.noise import GLOBAL_NOISE
from zoo.models.vdm.figures import loss_chart, schedule_chart, to_tensor
from zoo.models.vdm.network import ScoreConfig, ScoreNetwork, Stage
from zoo.models.vdm.ode import flow_log_density
from zoo.models.vdm.pixels import encode_levels, pixel_distribution, pixel_log_prob, reach
from zoo.models.vdm.schedules import NoiseLevel, NoiseSchedule, ScheduleConfig, make_schedule
from zoo.pictures import grid

Dequantiser = Literal["truncated", "gaussian"]


@dataclass(frozen=True)
class BoundConfig:
    """How the bound is estimated; nothing here changes what the model is.

    Attributes:
        train_steps: train on the T-step bound with this T; 0 for continuous time.
        low_discrepancy: stratify the times of a batch.
        eval_draws: times per image in `terms`.
        ode_tolerance: of the probability-flow ODE: of the latent in each step, of the density in all steps together
            (nats/dim).
    """

    train_steps: int = 0
    low_discrepancy: bool = True
    eval_draws: int = 8
    ode_tolerance: float = 1e-2

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        if self.eval_draws < 1 or self.train_steps < 0:
            raise UserError(
                f"eval_draws={self.eval_draws} must be at least 1, train_steps={self.train_steps} at least 0"
            )


@dataclass(frozen=True)
class Draws:
    """The random numbers of one estimate.

    Attributes:
        eps0: (B, C, H, W) noise of z_0.
        times: (B,) times in [0, 1].
        eps: (B, C, H, W) noise of z_t.
    """

    eps0: Tensor
    times: Tensor
    eps: Tensor


def stratified(first: Tensor, draws: int = 1) -> Tensor:
    """Times that cover [0, 1] evenly, over the images and over the draws of each image.

    `t[k, b] = (u_b + k) / K`: if the u are evenly spread so are all K B times, the K times of an image are 1/K apart,
    and each alone is uniform (Kingma et al. 2021, appendix I.1, for K = 1).

    Args:
        first: (B,) u, evenly spread over [0, 1).
        draws: K.

    Returns:
        (K, B) float64.
    """
    offsets = torch.arange(draws, dtype=torch.float64, device=first.device)
    return (first.unsqueeze(0) + offsets.unsqueeze(1)) / draws  # (1, B) + (K, 1) -> (K, B)


def signal_and_noise(gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise scale of gamma; sigma is formed from gamma itself, never as 1 - alpha^2."""
    return torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()


def over_pixels(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return values.reshape(-1, 1, 1, 1)


class VDM(AncestralModel):
    """Variational diffusion model.

    Args:
        image_shape: [C, H, W] to sample; pricing takes any H and W.
        bits: depth of the levels.
        score: shape of the score network.
        schedule: the noise schedule.
        bound: how the bound is estimated.
        labels: what a batch's labels tell the network: nothing (`ignored`), whether a training image was changed
            (`augmented`, with `data.labels: augmented`), or its class (`class`; -1 is no known class). Changed images
            exist in training only: pricing and sampling always take the images as they are.
        num_classes: number of classes when `labels` is `class`.
        steps: T of `ancestral_pass`: sampling, T-step bound, bits-back coding. May be changed at any time.

    Example:
        >>> model = VDM([1, 4, 4], score=ScoreConfig(width=8, blocks=1, groups=4), steps=3)
        >>> model.sample(2).shape
        torch.Size([2, 1, 4, 4])
    """

    default_estimator = "continuous"
    compiled = ("network",)
    steps: int

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 32, 32),
        bits: int = 8,
        score: ScoreConfig = ScoreConfig(),  # noqa: B008 (frozen)
        schedule: ScheduleConfig = ScheduleConfig(),  # noqa: B008
        bound: BoundConfig = BoundConfig(),
        labels: Literal["ignored", "augmented", "class"] = "ignored",
        num_classes: int = 0,
        steps: int = 1000,
    ) -> None:
        super().__init__()
        if steps < 1:
            raise UserError(f"steps={steps} must be at least 1")
        if (num_classes > 0) != (labels == "class"):
            raise UserError(f"num_classes={num_classes} with labels={labels!r}: classes need both, or neither")
        self.image_shape = (image_shape[0], image_shape[1], image_shape[2])
        self.bits = check_bits(bits)
        self.bound, self.labels, self.steps = bound, labels, steps
        self._window = 0
        schedule = schedule.at(bits)
        self.schedule = make_schedule(schedule)
        self.network = ScoreNetwork(self.image_shape[0], score.at(bits), schedule.ends, num_classes)

    # ------------------------------------------------------------------------------------------------ the bound

    def price(
        self, x: Tensor, draws: Draws, steps: int = 0, label: Tensor | None = None
    ) -> tuple[LikelihoodTerms, NoiseLevel]:
        """One estimate of the bound from given random numbers.

        Args:
            x: (B, C, H, W) uint8.
            draws: the random numbers.
            steps: T, or 0 for continuous time.
            label: (B,) classes or flags, see `labels`.

        Returns:
            The terms, and the schedule at the times used.
        """
        levels = to_levels(x, self.bits)
        f = encode_levels(levels, self.bits)
        gamma_0, gamma_1 = (end.to(x.device) for end in self.schedule.ends())

        # Reconstruction: -log p(x | z_0) at z_0 / alpha_0 = f + sigma_0 / alpha_0 eps_0.
        rescaled = f + torch.exp(0.5 * gamma_0) * draws.eps0.double()
        distortion = -pixel_log_prob(rescaled, levels, gamma_0, self.bits, self._window_of(gamma_0))

        # Latent: KL(q(z_1 | x) || N(0, I)); the variance of z_1 is 1 - signal.
        signal = torch.sigmoid(-gamma_1)
        latent = per_image(0.5 * (signal * f.square() - signal + F.softplus(-gamma_1)))

        # Diffusion: gamma'(t) / 2 |eps - eps_hat|^2 in continuous time (equation 18 with dt), with T steps
        # T / 2 expm1(gamma(t) - gamma(s)) |eps - eps_hat|^2 at the next multiple t of 1/T, s = t - 1/T (equation 13).
        times, eps = draws.times.double(), draws.eps.double()
        if steps:
            times = torch.ceil(times * steps).clamp_min(1.0) / steps
        level = self.schedule(times)
        alpha, sigma = (over_pixels(v) for v in signal_and_noise(level.gamma))
        error = per_image((eps - self.predict(alpha * f + sigma * eps, level.gamma, label)).square())
        weight = level.slope
        if steps:
            weight = steps * torch.expm1(level.gamma - self.schedule(times - 1.0 / steps).gamma)

        rates = {"latent": latent, "diffusion": 0.5 * weight * error}
        return LikelihoodTerms(distortion, rates, num_dims=x[0].numel()), level

    def predict(self, z: Tensor, gamma: Tensor, label: Tensor | None = None) -> Tensor:
        """Noise predicted from z (B, C, H, W) at gamma, a scalar or (B,), and labels or flags (B,)."""
        gamma = gamma.expand(len(z))
        changed = torch.zeros_like(gamma)
        if self.labels == "augmented" and label is not None:
            changed = label.to(gamma).clamp_min(0.0)
        result: Tensor = self.network(z, gamma, changed, label if self.labels == "class" else None)
        return result

    def draw(self, x: Tensor, count: int, noise: Noise | None = None) -> list[Draws]:
        """`count` sets of random numbers for a batch, their times stratified together."""
        noise = noise or GLOBAL_NOISE
        like = torch.empty(x.shape, device=x.device)
        eps = [(noise.normal(f"eps0/{k}", like), noise.normal(f"eps/{k}", like)) for k in range(count)]
        if self.bound.low_discrepancy:
            times = stratified(noise.spread("time", like), count)
        else:
            times = noise.uniform("time", like.new_empty(len(x), count)).T
        return [Draws(eps[k][0], times[k], eps[k][1]) for k in range(count)]

    def objective(self, x: Tensor, label: Tensor | None = None, step: int | Tensor = 0) -> Objective:
        """The bound in nats per dimension; the interior of a monotone schedule descends on the estimate's variance.

        In continuous time the expected loss does not depend on the interior of the schedule, so minimising the variance
        is minimising E[L^2], whose gradient is E[2 L dL] (Kingma et al. 2021, section 5.3 and appendix I.2). The
        ordinary backward pass already brings dL to the schedule's values at the drawn times; multiplied there by
        2 L of its image it becomes the gradient of L^2. One pass over the network serves both.
        """
        if step % 100 == 0 or not self._window:
            self._window = 0
            self._window = self._window_of(self.schedule.ends()[0] + 0.5)
        terms, level = self.price(x, self.draw(x, 1)[0], self.bound.train_steps, label)
        loss = terms.rates["diffusion"] / terms.num_dims
        if not self.bound.train_steps:
            scale = 2.0 * loss.detach()
            for values in level.interior:
                if values.requires_grad:
                    values.register_hook(lambda gradient: gradient * scale)
        gamma_0, gamma_1 = self.schedule.ends()
        parts = {
            "gamma_0": gamma_0.detach(),
            "gamma_1": gamma_1.detach(),
            "diffusion_std": loss.detach().std(correction=0),
        }
        return Objective(loss=terms.nelbo.mean() / terms.num_dims, terms=terms, parts=parts)

    # ------------------------------------------------------------------------------------------------ estimators

    def terms(self, x: Tensor, label: Tensor | None = None, noise: Noise | None = None) -> LikelihoodTerms:
        """Continuous-time bound, estimated from `eval_draws` times per image; see `LikelihoodModel.terms`."""
        return self.sampled_terms(x, label, noise=noise)

    def sampled_terms(
        self, x: Tensor, label: Tensor | None = None, steps: int = 0, noise: Noise | None = None
    ) -> LikelihoodTerms:
        """The bound for T = `steps` (0: continuous time), its sum over times estimated from `eval_draws` draws."""
        label = self._class_of(label)
        priced = [self.price(x, draws, steps, label)[0] for draws in self.draw(x, self.bound.eval_draws, noise)]
        rates = {name: torch.stack([t.rates[name] for t in priced]).mean(0) for name in priced[0].rates}
        return LikelihoodTerms(torch.stack([t.distortion for t in priced]).mean(0), rates, priced[0].num_dims)

    def estimators(self) -> dict[str, str]:
        """Names that `terms_with` takes, and what each number is. Any T may stand in `steps-<T>`."""
        bounds = {f"steps-{T}": f"bound of the {T}-step model" for T in (100, 250, 1000)}
        tolerance = f"local errors sum to {self.bound.ode_tolerance:g} nats/dim"
        flow = f"probability-flow ODE, {tolerance}, one divergence probe"
        return {
            "continuous": "bound in continuous time",
            **bounds,
            "ode": f"{flow}, truncated-normal dequantisation (bound up to the tolerance)",
            "ode-gaussian": f"{flow}, Gaussian dequantisation (bound up to the tolerance)",
        }

    def terms_with(
        self, estimator: str, x: Tensor, label: Tensor | None = None, noise: Noise | None = None
    ) -> LikelihoodTerms:
        """Price a batch by a named estimator; see `estimators`.

        Raises:
            UserError: no estimator has this name.
        """
        if estimator == "continuous":
            return self.sampled_terms(x, label, noise=noise)
        if found := re.fullmatch(r"steps-([1-9]\d*)", estimator):
            return self.sampled_terms(x, label, int(found[1]), noise)
        if estimator in ("ode", "ode-gaussian"):
            # The divergence needs gradients, which inference mode forbids.
            with torch.inference_mode(False), torch.no_grad():
                label = None if label is None else label.clone()
                dequantiser: Dequantiser = "gaussian" if estimator == "ode-gaussian" else "truncated"
                return self.ode_terms(x.clone(), label, dequantiser, noise)
        raise UserError(f"estimator {estimator!r} is unknown; {closest(estimator, self.estimators())}")

    def ode_terms(
        self,
        x: Tensor,
        label: Tensor | None = None,
        dequantiser: Dequantiser = "truncated",
        noise: Noise | None = None,
    ) -> LikelihoodTerms:
        """Price a batch by the probability-flow ODE, one draw of z_0 and one probe per image; see `zoo.models.vdm.ode`.

        Variational dequantisation (Zheng et al. 2023, section 4.2): for z_0 drawn from any q inside the bin of x,
        `-log P(x) <= E_q[log q(z_0) - log p(z_0)]`, P being the flow's mass of the bin. With the truncated normal the
        number is therefore an upper bound on -log P(x), up to the tolerance. It is a different model than the one that
        the variational bound prices: tables name the estimator.

        Args:
            x: (B, C, H, W) uint8.
            label: (B,) classes.
            dequantiser: `truncated`, noise of the schedule cut off at the edges of the level's bin, everything in the
                rate `flow`; or `gaussian`, the model's own q(z_0 | x) and p(x | z_0), which loses a little more.
            noise: where random numbers come from; None is torch's global generator.

        Returns:
            Terms with one rate, `flow`.
        """
        label, noise = self._class_of(label), noise or GLOBAL_NOISE
        gamma_0, gamma_1 = (end.to(x.device) for end in self.schedule.ends())
        alpha, sigma = signal_and_noise(gamma_0)
        f = self.encode(x)
        log_scale = 0.5 * math.log(2.0 * math.pi) + sigma.log()
        if dequantiser == "truncated":
            mass = torch.erf(alpha / (2**self.bits * sigma) / math.sqrt(2.0))  # of the bin under the noise
            uniform = (2.0 * noise.uniform("dequantise", f) - 1.0) * mass
            eps = math.sqrt(2.0) * torch.erfinv(uniform)
            log_scale = log_scale + mass.log()
            distortion = f.new_zeros(len(x))
        else:
            eps = noise.normal("dequantise", f)
            distortion = -pixel_log_prob(
                f + sigma / alpha * eps, to_levels(x, self.bits), gamma_0, self.bits, self._window_of(gamma_0)
            )
        # log q of the very draw, not the entropy of q: where the flow is a good model the two densities vary together
        log_q = per_image(-0.5 * eps.square() - log_scale)
        probe = torch.where(noise.uniform("probe", f) < 0.5, -1.0, 1.0).to(f)
        log_p, _ = flow_log_density(
            lambda z, gamma: self.predict(z, gamma, label),
            alpha * f + sigma * eps,
            probe,
            ends=(gamma_0.item(), gamma_1.item()),
            tolerance=self.bound.ode_tolerance,
        )
        return LikelihoodTerms(distortion.detach(), {"flow": (log_q - log_p).detach()}, num_dims=x[0].numel())

    # ------------------------------------------------------------------------------------------------ T steps

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> Categorical:
        """Visit z_1, z_{1 - 1/T}, ..., z_0 with T = `steps`; see `AncestralModel.ancestral_pass`.

        The sites are named z<T> (pure noise) to z0. Latents are float64: near t = 0 a step's standard deviation falls
        below 1e-4 and float32 would blur the difference of the two means.
        """
        T, label = self.steps, self._class_of(label)
        parameter = next(self.parameters(), torch.empty(()))
        gammas = self.schedule(torch.linspace(1.0, 0.0, T + 1, dtype=torch.float64, device=parameter.device)).gamma
        f = None if x is None else self.encode(x)
        shape = (n, *self.image_shape) if x is None else tuple(x.shape)
        prior = DiagonalGaussian.standard_like(torch.empty(shape, dtype=torch.float64, device=parameter.device))
        posterior = None
        if f is not None:
            alpha, sigma = signal_and_noise(gammas[0])
            posterior = DiagonalGaussian(alpha * f, sigma.log().expand_as(f))
        z = policy(LatentSite(f"z{T}", 0, prior, posterior)).double()
        for i in range(T):
            gamma_t, gamma_s = gammas[i], gammas[i + 1]
            prior = self.transition(z, gamma_t, gamma_s, self.predict(z, gamma_t, label))
            if f is not None:
                alpha, sigma = signal_and_noise(gamma_t)
                posterior = self.transition(z, gamma_t, gamma_s, (z - alpha * f) / sigma)
            z = policy(LatentSite(f"z{T - i - 1}", i + 1, prior, posterior)).double()
            if self.progress is not None:
                self.progress(i + 1, T)
        return self.pixels(z)

    def transition(self, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, eps: Tensor) -> DiagonalGaussian:
        """z_s given z_t and the noise in it, s < t: p(z_s | z_t) for predicted noise, q(z_s | z_t, x) for true noise.

        Kingma et al. 2021, appendix A.4; both have the same standard deviation.
        """
        (alpha_t, sigma_t), (alpha_s, sigma_s) = signal_and_noise(gamma_t), signal_and_noise(gamma_s)
        c = -torch.expm1(gamma_s - gamma_t)
        mean = alpha_s / alpha_t * (z - sigma_t * c * eps)
        return DiagonalGaussian(mean, (sigma_s * c.sqrt()).log().expand_as(mean))

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> the centres of their levels, float64."""
        return encode_levels(to_levels(x, self.bits), self.bits)

    def pixels(self, z0: Tensor) -> Categorical:
        """p(x | z_0) for z_0 (B, C, H, W)."""
        gamma_0 = self.schedule.ends()[0].to(z0.device)
        return pixel_distribution(z0 / signal_and_noise(gamma_0)[0], gamma_0, self.bits)

    def _class_of(self, label: Tensor | None) -> Tensor | None:
        """Labels that matter when images are priced, sampled or coded."""
        return label if self.labels == "class" else None

    def _window_of(self, gamma_0: Tensor) -> int:
        """Levels around z_0 that the decoder's normaliser runs over.

        To know gamma_0 the host waits for the device. While the model trains it therefore looks at it every 100 steps
        only, and allows for what gamma_0 may rise in between.
        """
        if self.training and self._window:
            return self._window
        return reach(
            -13.3 if gamma_0.is_meta else gamma_0.item(), self.bits
        )  # meta: compute is counted, without values

    def recomputed_blocks(self) -> Iterator[tuple[nn.Module, str]]:
        """The stages of the score network."""
        return ((module, "forward") for module in self.network.modules() if isinstance(module, Stage))

    # ------------------------------------------------------------------------------------------------ to be looked at

    @contextmanager
    def on_schedule(self, schedule: NoiseSchedule) -> Iterator[None]:
        """Within the block the model runs on another schedule; the network takes gamma, so it needs no retraining."""
        own, self.schedule = self.schedule, schedule
        try:
            yield
        finally:
            self.schedule = own

    @torch.no_grad()
    def losses_over_time(self, x: Tensor, points: int = 50, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Diffusion loss of every image at the middles of `points` equal intervals of time, one noise each.

        Returns:
            (P,) times and (P, B) nats.
        """
        times = (torch.arange(points, dtype=torch.float64, device=x.device) + 0.5) / points
        still = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
        draws = (Draws(still, t.expand(len(x)), torch.randn_like(still)) for t in times)
        losses = [self.price(x, one, label=self._class_of(label))[0].rates["diffusion"] for one in draws]
        return times, torch.stack(losses)

    @torch.no_grad()
    def samples_over_time(self, n: int, columns: int = 8, label: Tensor | None = None) -> Tensor:
        """Samples on their way from noise to image, one row each: the first picture is z_1, the last the sample.

        Args:
            n: samples.
            columns: pictures per row.
            label: (n,) classes.

        Returns:
            (n, columns, C, H, W) uint8. Latents are shown without their scale, z / sqrt(alpha^2 + sigma^2) = z.
        """
        recording = Recording(SamplePrior())
        levels = self.ancestral_pass(recording, n=n, label=label).sample()
        last = len(recording.latents) - 1
        shown = [recording.latents[round(k * last / max(columns - 2, 1))] for k in range(columns - 1)]
        pictures = [((z.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8) for z in shown]
        return torch.stack([*pictures, from_levels(levels, self.bits)], dim=1)

    def compared_with_linear(
        self, x: Tensor, points: int = 40, label: Tensor | None = None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """`losses_over_time` under the model's own schedule and under the line with the same ends, by name."""
        own = self.losses_over_time(x, points, label)
        with self.on_schedule(self.schedule.straight()):
            return {"learned": own, "linear, same ends": self.losses_over_time(x, points, label)}

    def previews(self, x: Tensor | None, label: Tensor | None = None) -> Mapping[str, Tensor]:
        """Samples over time, schedule and loss over time, to be shown while the model trains."""
        rows = self.samples_over_time(4)
        over_time = grid(rows.flatten(0, 1).cpu(), columns=rows.shape[1])  # (n, K, C, H, W) -> (n K, C, H, W)
        pictures = {
            "samples_over_time": torch.from_numpy(over_time).permute(2, 0, 1),
            "schedule": to_tensor(schedule_chart(self.schedule)),
        }
        if x is not None:
            losses = self.compared_with_linear(x, 20, label)
            pictures["loss_over_time"] = to_tensor(loss_chart(losses, x[0].numel()))
        return pictures
