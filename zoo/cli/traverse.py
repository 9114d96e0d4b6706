"""`zoo traverse`: vary the most informative dimensions of the first groups (Luhman & Luhman 2023, section 5.1)."""

from typing import TYPE_CHECKING, Any

from zoo.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.likelihood import AncestralModel


def traverse(
    checkpoint: str,
    *,
    output: str = "traversal.png",
    columns: int = 8,
    span: float = 2.25,
    groups: list[int] = [0, 1],  # noqa: B006 (a default for the parser, never changed)
    temperature: float = 1.0,
    dataset: str = "photos",
    split: str = "train",
    count: int = 1000,
    batch_size: int = 50,
    device: str = "auto",
    seed: int = 0,
) -> None:
    """Show a grid of pictures in which two latent channels vary and everything else stays.

    The channels are the ones with the largest KL in two groups, averaged over images. Their noise goes from -span to
    span, the first one's from left to right, the second one's from top to bottom.

    Args:
        checkpoint: path or name of a checkpoint of a hierarchical VAE.
        output: PNG file to write.
        columns: pictures along each side.
        span: largest value of the noise, in standard deviations of the prior.
        groups: numbers of the two groups, the first one made is 0.
        temperature: of all other latents.
        dataset: prepared data set to measure the KL on.
        split: of the data set.
        count: images to measure on.
        batch_size: images measured at once.
        device: where the network runs: cpu, cuda, cuda:1, mps; auto takes a GPU if there is one.
        seed: of the noise that all pictures share.
    """
    import torch

    from zoo.cli.devices import device_of
    from zoo.cli.hierarchies import load_hierarchy, pictures
    from zoo.cli.pictures import check_png, read_images, save_grid
    from zoo.likelihood.manipulation import SharedNoise

    path = check_png(output)
    if columns < 2 or count < 1 or batch_size < 1:
        raise UserError(f"--columns {columns} --count {count}: expected at least 2 columns and 1 image")
    model, data = load_hierarchy(checkpoint, "traverse", device)
    x = read_images([], dataset, split, count, model.image_shape, data).to(device_of(model))
    torch.manual_seed(seed)
    activity = channel_activity(model, x, batch_size, checkpoint)
    if len(groups) != 2 or not all(0 <= g < len(activity) for g in groups):
        raise UserError(f"--groups {groups}: expected two numbers from 0 to {len(activity) - 1}")
    channels = [int(activity[group].argmax()) for group in groups]
    values = torch.linspace(-span, span, columns, device=x.device)
    across, down = values.repeat(columns), values.repeat_interleave(columns)  # (columns^2,), row by row
    if groups[0] == groups[1]:
        raise UserError(f"--groups {groups}: give two different groups")
    edits = {groups[0]: (channels[0], across), groups[1]: (channels[1], down)}
    shown = pictures(model, [(SharedNoise(edits, seed, temperature), columns**2)], seed)[0]
    save_grid(shown, path, columns)
    for group, channel in zip(groups, channels, strict=True):
        print(f"group {group}: channel {channel}, {activity[group][channel]:.3f} nats per image")
    print(f"{path}: {columns}x{columns} pictures, noise from {-span:g} to {span:g}")


def channel_activity(
    model: "AncestralModel", x: "Tensor", batch_size: int = 50, checkpoint: str = ""
) -> "list[Tensor]":
    """Mean KL of every channel of every group, nats per image.

    Args:
        model: a hierarchy.
        x: (N, C, H, W) uint8.
        batch_size: images at once.
        checkpoint: name for errors.

    Returns:
        (Z,) per group, in order.
    """
    import torch

    from zoo.cli.hierarchies import record

    totals: list[Tensor] = []
    for part in x.split(batch_size):
        sites = record(model, part, checkpoint, "traverse").sites
        with torch.inference_mode():
            pairs: Any = [(site.posterior, site.prior) for site in sites]  # of Gaussians: codes are not traversed
            kls = [posterior.kl(prior).sum(dim=(0, 2, 3)) for posterior, prior in pairs]  # (B, Z, R, R) -> (Z,)
        totals = kls if not totals else [a + b for a, b in zip(totals, kls, strict=True)]
    return [total / len(x) for total in totals]
