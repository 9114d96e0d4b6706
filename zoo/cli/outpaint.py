"""`zoo outpaint`: continue an image beyond its border (Luhman & Luhman 2023, section 5.3)."""

from typing import Literal

from zoo.errors import UserError

Side = Literal["left", "right", "both", "up", "down"]


def outpaint(
    checkpoint: str,
    images: list[str] | None = None,
    *,
    output: str = "outpainted.png",
    size: int | None = None,
    side: Side = "right",
    temperature: float = 1.0,
    dataset: str | None = None,
    split: str = "test",
    n: int = 4,
    device: str = "auto",
    seed: int = 0,
) -> None:
    """Continue images beyond their border: their latents stay, new ones are drawn beside them.

    Each row of the PNG is one picture. Its given part is decoded from the image's latents, so it is a reconstruction.

    Args:
        checkpoint: path or name of a checkpoint of a latent VAE.
        images: files or folders; larger images give their centre.
        output: PNG file to write.
        size: width of the whole picture in pixels (height for up and down); null doubles it.
        side: where new columns go; `both` puts half on each side, `up` and `down` add rows.
        temperature: of the new latents.
        dataset: prepared data set to take images from, if no files are given (photos).
        split: of the data set.
        n: images at most.
        device: where the network runs: cpu, cuda, cuda:1, mps; auto takes a GPU if there is one.
        seed: of the new latents.
    """
    import torch

    from zoo.cli.devices import device_of
    from zoo.cli.hierarchies import load_hierarchy, record
    from zoo.cli.pictures import check_png, read_images, save_grid
    from zoo.likelihood.manipulation import Widen

    path = check_png(output)
    model, data = load_hierarchy(checkpoint, "outpaint", device)
    if model.canvas_unit is None:
        raise UserError(
            f"{checkpoint}: the decoder of {type(model).__name__} starts from arrays of fixed size, so its pictures "
            "cannot grow; outpaint works with latent VAEs"
        )
    x = read_images(images or [], dataset, split, n, model.image_shape, data).to(device_of(model))
    height, width = x.shape[-2:]
    canvas, start = place((height, width), size, side, model.canvas_unit)
    torch.manual_seed(seed)
    given = record(model, x, checkpoint, "outpaint").latents
    shown = model.render(Widen(given, start, temperature), len(x), canvas=canvas)
    save_grid(shown, path, columns=1 if canvas[1] > canvas[0] else None)
    print(f"{path}: {len(x)} picture(s) of {canvas[1]}x{canvas[0]} pixels (width x height)")


def place(
    image: tuple[int, int], size: int | None, side: Side, unit: int
) -> tuple[tuple[int, int], tuple[float, float]]:
    """Size of the canvas and where the image lies on it.

    Args:
        image: (H, W) of the image.
        size: wanted length along the direction of growth; None doubles it.
        side: see `outpaint`.
        unit: pixels by which the canvas can grow.

    Returns:
        (H, W) of the canvas, and (top, left) of the image as fractions of it.

    Raises:
        UserError: a size that is too small or no multiple of the unit.
    """
    axis = 0 if side in ("up", "down") else 1
    length = image[axis]
    size = 2 * length if size is None else size
    if size <= length or size % unit:
        nearest = max(length + unit, round(size / unit) * unit)
        raise UserError(f"--size {size}: expected a multiple of {unit} above {length}, for example {nearest}")
    extra = size - length
    before = {"right": 0, "down": 0, "left": extra, "up": extra, "both": extra // unit // 2 * unit}[side]
    canvas = (size, image[1]) if axis == 0 else (image[0], size)
    start = (before / size, 0.0) if axis == 0 else (0.0, before / size)
    return canvas, start
