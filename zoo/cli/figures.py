"""`zoo figure banding`: what few levels do to smooth areas, and what models of 5 and of 8 bits make of them."""

from typing import TYPE_CHECKING

from zoo.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.likelihood import LikelihoodModel

SIDE = 160  # pixels a side that images are shown at, at least


def banding(
    checkpoints: list[str],
    *,
    output: str = "banding.png",
    images: list[str] = [],  # noqa: B006 (a default for the reader, never changed)
    dataset: str | None = None,
    split: str = "test",
    n: int = 4,
    seed: int = 0,
) -> None:
    """Draw images beside their own reduced levels and beside the reconstruction of every model, one row each.

    Bands are what the likelihood of 5-bit images rewards (Hazami et al. 2022, figure 3): compare the columns of 5-bit
    models with those of 8-bit models.

    Args:
        checkpoints: paths or names of checkpoints, all for images of one size.
        output: PNG file to write.
        images: files or folders, as a list; larger images give their centre.
        dataset: prepared data set to take images from, if no files are given (photos).
        split: of the data set.
        n: images at most.
        seed: of the noise.
    """
    import torch

    from zoo.benchmarks.measures.identity import experiment
    from zoo.checkpoints import load
    from zoo.cli.pictures import check_png, read_images, save_grid
    from zoo.likelihood import LikelihoodModel, from_levels, to_levels

    path = check_png(output)
    models: dict[str, LikelihoodModel] = {}
    for name in checkpoints:
        found = load(name)
        if not isinstance(found.network, LikelihoodModel):
            raise UserError(f"{name}: {type(found.network).__name__} is a part of a model; name a whole one")
        models[experiment(found.path, found.meta)] = found.network
    if not models:
        raise UserError("figure banding: name one checkpoint or several, such as vdvae-photos-5bit vdvae-photos-8bit")
    shapes = {model.image_shape for model in models.values()}
    if len(shapes) > 1:
        raise UserError(f"figure banding: the models are for images of different sizes, {sorted(shapes)}")
    x = read_images(images, dataset, split, n, shapes.pop())
    columns, heads = [x], ["original, 8 bits"]
    for bits in sorted({model.bits for model in models.values()} - {8}):
        columns.append(from_levels(to_levels(x, bits), bits))
        heads.append(f"original, {bits} bits")
    for name, model in models.items():
        torch.manual_seed(seed)
        with torch.inference_mode():
            columns.append(reconstruction(model, x, name))
        heads.append(name)
    rows = torch.stack(columns, dim=1).flatten(0, 1)  # (N, K, C, H, W) -> (N K, C, H, W)
    save_grid(rows, path, columns=len(columns), scale=-(-SIDE // max(x.shape[-2:])), heads=heads)
    print(f"{path}: {len(x)} image(s), {len(models)} model(s)")


def reconstruction(model: "LikelihoodModel", x: "Tensor", name: str) -> "Tensor":
    """What a model makes of images from all that it keeps of them: (B, C, H, W) uint8.

    Raises:
        UserError: it has neither latents nor a first stage.
    """
    from zoo.likelihood import AncestralModel, from_levels
    from zoo.likelihood.latents import SamplePosterior

    if model.reconstructs:
        return model.reconstruct(x)
    if isinstance(model, AncestralModel) and model.kind == "bound":
        return from_levels(model.ancestral_pass(SamplePosterior(), x).sample(), model.bits)
    raise UserError(f"{name}: {type(model).__name__} has no latents, so there is nothing it reconstructs from")
