"""`zoo reconstruct`: keep the upper latents of an image, draw the others (Child 2020, figure 4)."""

from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.likelihood.latents import LatentSite

MOST_ROWS = 10


def reconstruct(
    checkpoint: str,
    images: list[str] | None = None,
    *,
    output: str = "reconstructions.png",
    keep: list[int] | None = None,
    fill: Literal["prior", "mean"] | None = None,
    temperature: float = 0.1,
    dataset: str | None = None,
    split: str = "test",
    n: int = 8,
    steps: int = 0,
    device: str = "auto",
    seed: int = 0,
) -> None:
    """Show what the upper latents of images hold: those are kept, the ones below are drawn or replaced by their mean.

    The first row of the PNG are the images; every further row keeps more latents, the last one all of them.

    Args:
        checkpoint: path or name of a checkpoint.
        images: files or folders; larger images give their centre.
        output: PNG file to write.
        keep: numbers of kept groups, as a list like [1,4,10]; null takes every resolution in turn.
        fill: what stands for the latents that are not kept: a draw from the prior, or (VQ-VAE-2) the mean code vector
            of the level, which shows the decoder alone (Razavi et al. 2019, figure 3). null: mean where there is one.
        temperature: of the drawn latents.
        dataset: prepared data set to take images from, if no files are given (photos).
        split: of the data set.
        n: images at most.
        steps: steps, for models that have a choice (VDM); 0 keeps the model's own.
        device: where the network runs: cpu, cuda, cuda:1, mps; auto takes a GPU if there is one.
        seed: of the noise.
    """
    import torch

    from zoo.checkpoints import load
    from zoo.cli.devices import device_of, placed
    from zoo.cli.pictures import check_png, read_images, save_grid
    from zoo.cli.steps import set_steps
    from zoo.likelihood import AncestralModel, from_levels, to_levels
    from zoo.models import VQVAE2

    path = check_png(output)
    loaded = load(checkpoint)
    model: Any = placed(loaded.network, device)
    if not isinstance(model, AncestralModel):
        raise UserError(f"{checkpoint}: {type(model).__name__} has no latents to keep")
    if fill == "mean" and not isinstance(model, VQVAE2):
        raise UserError(f"--fill mean: {type(model).__name__} has no mean code vectors; use --fill prior")
    set_steps(model, steps)
    x = read_images(images or [], dataset, split, n, model.image_shape, loaded.data).to(device_of(model))
    rows = [from_levels(to_levels(x, model.bits), model.bits)]
    with torch.inference_mode():
        if isinstance(model, VQVAE2) and fill != "prior":
            rows += _with_means(model, x, keep)
        else:
            rows += _with_draws(model, x, keep, temperature, seed)
    save_grid(torch.cat(rows), path, columns=len(x))
    print(f"{path}: {len(x)} image(s), {len(rows) - 1} reconstruction(s) of each")


def _with_draws(model: Any, x: "Tensor", keep: list[int] | None, temperature: float, seed: int) -> "list[Tensor]":
    """One row for every number of kept groups, the others drawn from the prior (Child 2020, figure 4)."""
    import torch

    from zoo.likelihood import PosteriorThenPrior, Recording, SamplePosterior, from_levels
    from zoo.likelihood.latents import site_kl
    from zoo.likelihood.terms import nats_to_bits_per_dim

    seen = Recording(SamplePosterior())
    model.ancestral_pass(seen, x)
    spent = [nats_to_bits_per_dim(site_kl(site).mean(), x[0].numel()).item() for site in seen.sites]
    rows = []
    for k in _kept(keep, seen.sites):
        torch.manual_seed(seed)
        pixels = model.ancestral_pass(PosteriorThenPrior(k, temperature), x)
        rows.append(from_levels(pixels.sample(), model.bits))
        last = f", the last one {seen.sites[k - 1].name}" if k else ""
        print(f"row {len(rows) + 1}: {k} of {len(spent)} groups kept{last}: {sum(spent[:k]):.4f} bits/dim")
    return rows


def _with_means(model: Any, x: "Tensor", keep: list[int] | None) -> "list[Tensor]":
    """One row for every number of kept levels of codes, the others replaced by their mean vector."""
    levels = len(model.autoencoder.names)
    rows = []
    for k in keep if keep is not None else range(1, levels + 1):
        if not 0 <= k <= levels:
            raise UserError(f"--keep {k}: expected 0 to {levels}, the number of levels of this model")
        rows.append(model.reconstruct(x, k))
        mse = (rows[-1].float() - x).div(127.5).square().mean()
        kept = ", ".join(model.autoencoder.names[:k]) or "none"
        print(f"row {len(rows) + 1}: levels kept: {kept}; mean squared error on [-1, 1]: {mse:.4f}")
    return rows


def _kept(keep: list[int] | None, sites: "list[LatentSite]") -> list[int]:
    """How many groups each row keeps."""
    if keep is not None:
        for k in keep:
            if not 0 <= k <= len(sites):
                raise UserError(f"--keep {k}: expected 0 to {len(sites)}, the number of groups of this model")
        return keep
    shapes = [_shape(site) for site in sites]
    ends = [k for k in range(1, len(sites) + 1) if k == len(sites) or shapes[k] != shapes[k - 1]]
    if len(ends) == 1 and len(sites) > 1:  # all groups have one size (a diffusion model): equal shares
        rows = min(MOST_ROWS, len(sites))
        ends = [round(len(sites) * (row + 1) / rows) for row in range(rows)]
    return ends


def _shape(site: "LatentSite") -> tuple[int, ...]:
    """Shape of a site's latents, or of its codes."""
    from zoo.likelihood.latents import PointMass

    prior: Any = site.prior
    value = site.posterior.codes if isinstance(site.posterior, PointMass) else prior.mean
    return tuple(value.shape)
