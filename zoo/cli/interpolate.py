"""`zoo interpolate`: walk between two images through latent space (Luhman & Luhman 2023, section 5.2)."""

from typing import Literal

from zoo.errors import UserError


def interpolate(
    checkpoint: str,
    images: list[str] | None = None,
    *,
    output: str = "interpolation.png",
    steps: int = 5,
    mix: Literal["linear", "spherical", "variance_preserving"] = "linear",
    levels: list[int] | None = None,
    dataset: str | None = None,
    split: str = "test",
    pairs: int = 4,
    device: str = "auto",
    seed: int = 0,
) -> None:
    """Walk between pairs of real images through all their latents.

    A row of the PNG: an image, its reconstruction, pictures in between, the other's reconstruction, the other image.

    Args:
        checkpoint: path or name of a checkpoint of a hierarchical VAE.
        images: files or folders, two for each row; larger images give their centre.
        output: PNG file to write.
        steps: pictures of a walk, both ends included.
        mix: linear mixes as the paper does; spherical follows great circles; variance_preserving keeps the variance of
            independent latents.
        levels: sides of the latents that are mixed, as a list like [1,4]; the others stay those of the first image.
        dataset: prepared data set to take images from, if no files are given (photos).
        split: of the data set.
        pairs: rows, if no files are given.
        device: where the network runs: cpu, cuda, cuda:1, mps; auto takes a GPU if there is one.
        seed: of the latents and of the pixel noise.
    """
    import torch

    from zoo.cli.devices import device_of
    from zoo.cli.hierarchies import load_hierarchy, pictures, record
    from zoo.cli.pictures import check_png, read_images, save_grid
    from zoo.likelihood.latents import Given
    from zoo.likelihood.manipulation import mix_latents

    path = check_png(output)
    if steps < 2:
        raise UserError(f"--steps {steps}: expected at least 2, the two ends")
    model, data = load_hierarchy(checkpoint, "interpolate", device)
    most = None if images else 2 * pairs
    x = read_images(images or [], dataset, split, most, model.image_shape, data).to(device_of(model))
    if len(x) < 2 or len(x) % 2:
        raise UserError(f"interpolate: got {len(x)} image(s); give two for each walk")
    torch.manual_seed(seed)
    seen = record(model, x, checkpoint, "interpolate")
    sides = {z.shape[-1] for z in seen.latents}
    if levels is not None and (unknown := set(levels) - sides):
        raise UserError(f"--levels {min(unknown)}: no latents of that side; this model has {sorted(sides)}")
    first, second = [z[0::2] for z in seen.latents], [z[1::2] for z in seen.latents]
    count = len(x) // 2

    def policy(step: int) -> Given:
        weight = 1.0 - step / (steps - 1)
        return Given(mix_latents(first, second, weight, mix, lambda _, z: levels is None or z.shape[-1] in levels))

    walk = pictures(model, ((policy(step), count) for step in range(steps)), seed)
    columns = [x[0::2], *walk, x[1::2]]
    save_grid(torch.stack(columns, dim=1).flatten(0, 1), path, columns=len(columns))  # (pairs, columns) -> rows
    print(f"{path}: {count} walk(s) of {steps} pictures, {mix}")
