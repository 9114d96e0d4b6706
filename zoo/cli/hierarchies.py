"""What `zoo interpolate`, `traverse` and `outpaint` share: models with a hierarchy of Gaussian latents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from zoo.checkpoints import load
from zoo.cli.devices import placed
from zoo.errors import UserError
from zoo.likelihood import AncestralModel, DiagonalGaussian, LatentPolicy, Recording, SamplePosterior
from zoo.likelihood.latents import LatentSite

FIT = "it works with VDVAE, Efficient-VDVAE and latent VAEs"


def load_hierarchy(checkpoint: str, command: str, device: str = "cpu") -> tuple[AncestralModel, dict[str, Any]]:
    """The model of a checkpoint and the settings of its data, if its latents are a hierarchy.

    Raises:
        UserError: it has no latents, or those are codes or the steps of a diffusion.
    """
    loaded = load(checkpoint)
    model = loaded.network
    kind = type(model).__name__
    if not isinstance(model, AncestralModel):
        raise UserError(f"{checkpoint}: {kind} has no latents, so there is nothing to {command}; {FIT}")
    if model.steps is not None:
        raise UserError(f"{checkpoint}: the latents of {kind} are noisy images, not a hierarchy; {command}: {FIT}")
    return placed(model, device), loaded.data


def record(model: AncestralModel, x: Tensor, checkpoint: str, command: str) -> Recording:
    """Sites and posterior samples of images (N, C, H, W) uint8.

    Raises:
        UserError: the latents are codes.
    """
    policy = Recording(_Gaussian(SamplePosterior(), f"{checkpoint}: {type(model).__name__}", command))
    with torch.inference_mode():
        model.visit_sites(policy, x)
    return policy


class _Gaussian:
    """Lets Gaussian sites through and refuses codes."""

    def __init__(self, policy: LatentPolicy, subject: str, command: str) -> None:
        self.policy, self.subject, self.command = policy, subject, command

    def __call__(self, site: LatentSite) -> Tensor:
        if not isinstance(site.prior, DiagonalGaussian):
            raise UserError(f"{self.subject} has codes as latents, which have no values between; {self.command}: {FIT}")
        return self.policy(site)


def pictures(model: AncestralModel, policies: Iterable[tuple[LatentPolicy, int]], seed: int) -> list[Tensor]:
    """Decode latents; every picture gets the same noise of the pixels.

    Latent VAEs show the mean that follows from the latents of the hierarchy, as their paper does; other models draw
    from their pixel distribution.

    Args:
        model: a hierarchy.
        policies: (policy, batch size) per call.
        seed: of the noise.

    Returns:
        uint8 (n, C, H, W) per policy.
    """
    shown = []
    with torch.inference_mode():
        for policy, n in policies:
            torch.manual_seed(seed)
            shown.append(model.render(policy, n))
    return shown
