"""From a trained autoencoder and a data set to a file of codes, once."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch

from zoo.checkpoints import store
from zoo.data import ImageDataModule
from zoo.data.codes import CodeWriter, code_key, describe_codes
from zoo.data.plans import EvaluationPlan
from zoo.errors import UserError
from zoo.models import QuantisedAutoencoder
from zoo.progress import counting


def extract(
    checkpoint: str,
    data: dict[str, Any],
    folder: str,
    epochs: int = 0,
    splits: list[str] = ["train", "val", "test"],  # noqa: B006
    accelerator: str = "auto",
) -> Path:
    """Encode a data set with a first stage, or find the file where that was done before.

    The file is named by a digest of the weights, the data's own digests and all settings, so a stale one cannot be
    taken; one that does not hold what was written is made anew. An interrupted extraction goes on where it stopped.

    Args:
        checkpoint: of a `QuantisedAutoencoder`: path, run folder or name.
        data: arguments of `ImageDataModule` (data set, crop, flip, batch size, ...).
        folder: where files of codes are kept.
        epochs: 0 encodes every training image once and unchanged (its tiles, if there is a crop); k > 0 encodes k
            epochs as training would see them, with random crops and flips.
        splits: what to encode; splits that the data lack are left out.
        accelerator: `cpu`, `cuda` or `auto`.

    Returns:
        The file.

    Raises:
        UserError: if the checkpoint is no quantised autoencoder.
    """
    loaded = store.load(checkpoint)
    network = loaded.network
    if not isinstance(network, QuantisedAutoencoder):
        raise UserError(f"{checkpoint}: holds a {type(network).__name__}, expected a QuantisedAutoencoder")
    module = _Alone(**data)
    present = [split for split in splits if split in module.info.splits]
    settings = {
        "weights": loaded.digest,
        "network": loaded.spec,
        "data": data,
        "pixels": {split: module.info.split(split).sha256 for split in present},
        "epochs": epochs,
    }
    key = code_key(settings)
    path = Path(folder) / f"codes-{key[:16]}.h5"
    if path.is_file():
        try:
            if describe_codes(path, verify=True).key == key:
                print(f"{path}: codes of these weights and data are there already")
                return path
        except UserError as error:
            print(f"{error}; extracting again")
        path.unlink()
    device = "cuda" if accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available()) else "cpu"
    network = network.to(device)
    counts = [network.num_codes] * len(network.names)
    writer = CodeWriter(path, key, network.names, network.grids, counts, settings)
    try:
        for split in present:
            _encode(network, _batches(module, split, epochs), split, writer, device)
        return writer.finish()
    finally:
        writer.close()


class _Alone(ImageDataModule):
    """All images in this process, whatever other processes of the run there are."""

    def _place(self) -> tuple[int, int]:
        return 0, 1


def _batches(module: Any, split: str, epochs: int) -> list[Any]:
    """Loaders that follow one another."""
    if split != "train" or not epochs:
        return [module.evaluation_loader(split)]
    loaders = []
    for epoch in range(epochs):
        loader = module.train_dataloader()
        loader.set_epoch(epoch)
        loaders.append(loader)
    return loaders


def _images(loader: Any) -> int:
    """Images that a loader hands out."""
    plan = loader.plan
    return plan.num_samples if isinstance(plan, EvaluationPlan) else len(plan) * plan.batch_size


@torch.inference_mode()
def _encode(network: Any, loaders: list[Any], split: str, writer: CodeWriter, device: str) -> None:
    """Write the codes of all batches that are not there yet.

    Raises:
        UserError: if the file holds another number of codes than there are images.
    """
    done, seen = writer.done(split), 0
    total = sum(_images(loader) for loader in loaders)
    with counting(f"codes of {split}", total) as advance:
        for x, label in itertools.chain.from_iterable(loaders):
            seen += len(x)
            if seen > done:
                writer.append(split, network.encode(network.normalise(x.to(device))).codes, label)
            advance(len(x))
    if writer.done(split) != total:
        raise UserError(f"{writer.path}: {writer.done(split)} codes of {split}, expected {total}; extract them again")
