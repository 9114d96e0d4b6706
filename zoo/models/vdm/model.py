"""Variational diffusion model (Kingma, Salimans, Poole, Ho 2021, arXiv 2107.00630).

    x --level centres--> f     z_t = alpha_t f + sigma_t eps,  alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma)

    z_1 --> z_{1-1/T} --> ... --> z_{1/T} --> z_0 --> p(x | z_0)         T steps of one network, T chosen afterwards

The bound has three terms: `latent` KL(q(z_1 | x) || N(0, I)), `diffusion` (the sum over all steps, in the limit of
infinitely many an integral over t), and the distortion -log p(x | z_0). `terms` estimates the continuous-time bound
from a few low-discrepancy times; `ancestral_pass` is the T-step hierarchy itself, which samples and codes.

Letters: `B` batch, `C`, `H`, `W` image, `T` steps, `K` time draws per image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
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
    check_bits,
    per_image,
    to_levels,
)
from zoo.likelihood.noise import GLOBAL_NOISE
from zoo.models.vdm.network import ScoreNetwork
from zoo.models.vdm.ode import ode_terms
from zoo.models.vdm.pixels import encode_levels, pixel_distribution, pixel_log_prob
from zoo.models.vdm.schedules import NoiseLevel, ScheduleName, make_schedule


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
        width: channels of the score network (`sm_n_embd`).
        blocks: residual blocks on the way down (`sm_n_layer`).
        attention: attention behind every block.
        middle_attention: attention in the middle; always there in the paper.
        groups: groups of every group normalisation; 32 in the paper.
        dropout: rate inside the residual blocks.
        fourier_exponents: exponents of the Fourier features of z; None for bits - 2 and bits - 1 (6 and 7 at 8 bits, as
            the official code), [] for none.
        schedule: `fixed` (linear), `scalar` (linear, ends learned), `network` (the official code's network), `monotone`
            (the paper's: ends learned on the bound, interior on the variance of its estimate).
        schedule_width: hidden units of a schedule with a network.
        gamma_min: gamma(0) before training; None for -13.3 at 8 bits, moved by 2 ln 2 per bit so that the noise stays
            in proportion to the spacing of the levels.
        gamma_max: gamma(1) before training.
        labels: what a batch's labels tell the network: nothing (`ignored`), whether a training image was changed
            (`augmented`, with `data.labels: augmented`), or its class (`class`; -1 is no known class). Changed images
            exist in training only: pricing and sampling always take the images as they are.
        num_classes: number of classes when `labels` is `class`.
        train_steps: train on the T-step bound with this T; 0 for continuous time.
        low_discrepancy: stratify the times of a batch.
        eval_draws: times per image in `terms`.
        ode_tolerance: of the probability-flow ODE: of the latent in each step, of the density in all
            steps together (nats/dim).
        coding_steps: T of `ancestral_pass`: sampling, T-step bound, bits-back coding. The attribute
            `steps` may be changed at any time.
        checkpoint_activations: recompute blocks in the backward pass to save memory.
    """

    default_estimator = "continuous"

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 32, 32),
        bits: int = 8,
        width: int = 128,
        blocks: int = 32,
        attention: bool = False,
        middle_attention: bool = True,
        groups: int = 32,
        dropout: float = 0.1,
        fourier_exponents: list[int] | None = None,
        schedule: ScheduleName = "monotone",
        schedule_width: int = 1024,
        gamma_min: float | None = None,
        gamma_max: float = 5.0,
        labels: Literal["ignored", "augmented", "class"] = "ignored",
        num_classes: int = 0,
        train_steps: int = 0,
        low_discrepancy: bool = True,
        eval_draws: int = 8,
        ode_tolerance: float = 1e-2,
        coding_steps: int = 1000,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        if width % groups:
            raise UserError(f"width={width} must be a multiple of groups={groups}; change one of them")
        if eval_draws < 1 or coding_steps < 1 or train_steps < 0:
            raise UserError(
                f"eval_draws={eval_draws} and coding_steps={coding_steps} must be at least 1, "
                f"train_steps={train_steps} at least 0"
            )
        if (num_classes > 0) != (labels == "class"):
            raise UserError(f"num_classes={num_classes} with labels={labels!r}: classes need both, or neither")
        self.image_shape = (image_shape[0], image_shape[1], image_shape[2])
        self.bits = check_bits(bits)
        self.labels = labels
        self.train_steps = train_steps
        self.low_discrepancy = low_discrepancy
        self.eval_draws = eval_draws
        self.ode_tolerance = ode_tolerance
        self.steps = coding_steps
        if gamma_min is None:
            gamma_min = -13.3 + (8 - bits) * 2.0 * 0.6931471805599453
        if fourier_exponents is None:
            fourier_exponents = [bits - 2, bits - 1]
        self.schedule = make_schedule(schedule, gamma_min, gamma_max, schedule_width)
        self.network = ScoreNetwork(
            channels=self.image_shape[0],
            width=width,
            blocks=blocks,
            attention=attention,
            middle_attention=middle_attention,
            groups=groups,
            dropout=dropout,
            fourier_exponents=fourier_exponents,
            gamma_min=gamma_min,
            gamma_max=gamma_max,
            num_classes=num_classes,
            checkpoint_activations=checkpoint_activations,
        )

    # ------------------------------------------------------------------------------------------------ pieces

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> the centres of their levels, float64."""
        return encode_levels(to_levels(x, self.bits), self.bits)

    def predict(self, z: Tensor, gamma: Tensor, label: Tensor | None = None) -> Tensor:
        """Noise predicted from z (B, C, H, W) at gamma, a scalar or (B,), and labels or flags (B,)."""
        gamma = gamma.expand(len(z))
        changed = torch.zeros_like(gamma)
        if self.labels == "augmented" and label is not None:
            changed = label.to(gamma).clamp_min(0.0)
        return self.network(z, gamma, changed, label if self.labels == "class" else None)

    def transition(self, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, eps: Tensor) -> DiagonalGaussian:
        """z_s given z_t and the noise in it, s < t: p(z_s | z_t) for predicted noise, q(z_s | z_t, x) for true noise.

        Kingma et al. 2021, appendix A.4; both have the same standard deviation.
        """
        (alpha_t, sigma_t), (alpha_s, sigma_s) = signal_and_noise(gamma_t), signal_and_noise(gamma_s)
        c = -torch.expm1(gamma_s - gamma_t)
        mean = alpha_s / alpha_t * (z - sigma_t * c * eps)
        return DiagonalGaussian(mean, (sigma_s * c.sqrt()).log().expand_as(mean))

    def latent_nats(self, f: Tensor) -> Tensor:
        """(B,) KL(q(z_1 | x) || N(0, I)) for centres f (B, C, H, W)."""
        gamma_1 = self.schedule.ends()[1].to(f.device)
        signal = torch.sigmoid(-gamma_1)  # alpha^2; the variance of z_1 is 1 - signal
        return per_image(0.5 * (signal * f.square() - signal + F.softplus(-gamma_1)))

    def reconstruction_nats(self, x: Tensor, f: Tensor, eps0: Tensor) -> Tensor:
        """(B,) -log p(x | z_0) at z_0 = alpha_0 f + sigma_0 eps0."""
        gamma_0 = self.schedule.ends()[0].to(f.device)
        rescaled = f + torch.exp(0.5 * gamma_0) * eps0
        return -pixel_log_prob(rescaled, to_levels(x, self.bits), gamma_0, self.bits)

    def diffusion_nats(
        self,
        f: Tensor,
        times: Tensor,
        eps: Tensor,
        steps: int = 0,
        label: Tensor | None = None,
    ) -> tuple[Tensor, NoiseLevel]:
        """Diffusion loss of each image at one time.

        Continuous time: `gamma'(t) / 2 * |eps - eps_hat|^2` (equation 18 with dt). T steps: t is moved up to the next
        multiple of 1/T and the weight is `T/2 * expm1(gamma(t) - gamma(s))` (equation 13).

        Args:
            f: (B, C, H, W) centres of the levels.
            times: (B,).
            eps: (B, C, H, W) noise.
            steps: T, or 0 for continuous time.
            label: (B,) classes or flags, see `labels`.

        Returns:
            (B,) nats, and the schedule at the times used.
        """
        times = times.double()
        if steps:
            times = torch.ceil(times * steps).clamp_min(1.0) / steps
        level = self.schedule(times)
        alpha, sigma = (over_pixels(v) for v in signal_and_noise(level.gamma))
        error = per_image((eps - self.predict(alpha * f + sigma * eps, level.gamma, label)).square())
        if steps:
            weight = steps * torch.expm1(level.gamma - self.schedule(times - 1.0 / steps).gamma)
        else:
            weight = level.slope
        return 0.5 * weight * error, level

    def price(
        self,
        x: Tensor,
        draws: Draws,
        steps: int = 0,
        label: Tensor | None = None,
    ) -> tuple[LikelihoodTerms, NoiseLevel]:
        """One estimate of the bound from given random numbers; `steps` is T, 0 for continuous time.

        Returns:
            The terms, and the schedule at the times used.
        """
        f = self.encode(x)
        diffusion, level = self.diffusion_nats(f, draws.times, draws.eps.double(), steps, label)
        distortion = self.reconstruction_nats(x, f, draws.eps0.double())
        rates = {"latent": self.latent_nats(f), "diffusion": diffusion}
        return LikelihoodTerms(distortion, rates, num_dims=x[0].numel()), level

    def draw(self, x: Tensor, count: int, noise: Noise | None = None) -> list[Draws]:
        """`count` sets of random numbers for a batch, their times stratified together."""
        noise = noise or GLOBAL_NOISE
        like = torch.empty(x.shape, device=x.device)
        eps = [(noise.normal(f"eps0/{k}", like), noise.normal(f"eps/{k}", like)) for k in range(count)]
        if self.low_discrepancy:
            times = stratified(noise.spread("time", like), count)
        else:
            times = noise.uniform("time", like.new_empty(len(x), count)).T
        return [Draws(eps[k][0], times[k], eps[k][1]) for k in range(count)]

    def _class_of(self, label: Tensor | None) -> Tensor | None:
        """Labels that matter when images are priced, sampled or coded."""
        return label if self.labels == "class" else None

    # ------------------------------------------------------------------------------------------------ the seams

    def terms(self, x: Tensor, label: Tensor | None = None, noise: Noise | None = None) -> LikelihoodTerms:
        """Continuous-time bound, estimated from `eval_draws` times per image; see `LikelihoodModel.terms`."""
        return self.sampled_terms(x, label, noise=noise)

    def sampled_terms(
        self, x: Tensor, label: Tensor | None = None, steps: int = 0, noise: Noise | None = None
    ) -> LikelihoodTerms:
        """The bound for T = `steps` (0: continuous time), its sum over times estimated from `eval_draws` draws."""
        label = self._class_of(label)
        priced = [self.price(x, draws, steps, label)[0] for draws in self.draw(x, self.eval_draws, noise)]
        rates = {name: torch.stack([t.rates[name] for t in priced]).mean(0) for name in priced[0].rates}
        return LikelihoodTerms(torch.stack([t.distortion for t in priced]).mean(0), rates, priced[0].num_dims)

    def estimators(self) -> dict[str, str]:
        """Names that `terms_with` takes, and what each number is. Any T may stand in `steps-<T>`."""
        bounds = {f"steps-{T}": f"bound of the {T}-step model" for T in (100, 250, 1000)}
        flow = f"probability-flow ODE, local errors sum to {self.ode_tolerance:g} nats/dim, one divergence probe"
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
            dequantiser = "gaussian" if estimator == "ode-gaussian" else "truncated"
            # The divergence needs gradients, which inference mode forbids.
            with torch.inference_mode(False), torch.no_grad():
                label = None if label is None else label.clone()
                return ode_terms(self, x.clone(), self._class_of(label), dequantiser, self.ode_tolerance, noise)
        raise UserError(f"estimator {estimator!r} is unknown; {closest(estimator, self.estimators())}")

    def objective(self, x: Tensor, label: Tensor | None = None, step: int = 0) -> Objective:
        """The bound in nats per dimension; the interior of a monotone schedule descends on the estimate's variance.

        In continuous time the expected loss does not depend on the interior of the schedule, so minimising the variance
        is minimising E[L^2], whose gradient is E[2 L dL] (Kingma et al. 2021, section 5.3 and appendix I.2). The
        ordinary backward pass already brings dL to the schedule's values at the drawn times; multiplied there by
        2 L of its image it becomes the gradient of L^2. One pass over the network serves both.
        """
        terms, level = self.price(x, self.draw(x, 1)[0], self.train_steps, label)
        loss = terms.rates["diffusion"] / terms.num_dims
        if not self.train_steps:
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

    def previews(self, x: Tensor | None, label: Tensor | None = None) -> Mapping[str, Tensor]:
        """Samples over time, schedule and loss over time, to be shown while the model trains."""
        from zoo.models.vdm.figures import previews

        return previews(self, x, label=self._class_of(label))

    def pixels(self, z0: Tensor) -> Categorical:
        """p(x | z_0) for z_0 (B, C, H, W)."""
        gamma_0 = self.schedule.ends()[0].to(z0.device)
        return pixel_distribution(z0 / signal_and_noise(gamma_0)[0], gamma_0, self.bits)
