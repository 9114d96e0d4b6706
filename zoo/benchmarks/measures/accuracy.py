"""Classification accuracy score (Ravuri and Vinyals 2019; Razavi et al. 2019, table 2): what a classifier can learn.

The same classifier is trained on real images, on their reconstructions and on samples of the model, and each time
tested on the same real images.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from zoo.benchmarks.measures.quality import Images, class_scores, drawn_images
from zoo.benchmarks.measures.reconstruction import reconstruct
from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError
from zoo.likelihood import LikelihoodModel


def measure(
    checkpoint: str,
    dataset: str | None = None,
    count: int = 1000,
    epochs: int = 10,
    batch_size: int = 32,
    seed: int = 0,
) -> Iterator[Measurement]:
    """Accuracy of a classifier trained on real images, on reconstructions and on samples, tested on real images.

    Args:
        checkpoint: of a class-conditional model: path or shipped name.
        dataset: labelled data set; null = the data the model was trained on.
        count: images of each training set, and at most as many to test on.
        epochs: passes over each training set.
        batch_size: images drawn at once.
        seed: of samples and classifiers.

    Raises:
        UserError: the data have no classes.
    """
    from zoo.benchmarks.measures.identity import describe
    from zoo.checkpoints import load
    from zoo.data import open_split

    loaded = load(checkpoint)
    model = loaded.network
    if not isinstance(model, LikelihoodModel):
        raise UserError(f"{checkpoint}: {type(model).__name__} draws no images")
    settings = {**loaded.data, "labels": "class"}
    train, test = (
        Images(*open_split(dataset, split, model.image_shape, settings).spread(count)) for split in ("train", "test")
    )
    if bool((train.labels < 0).any() | (test.labels < 0).any()):
        raise UserError(f"{checkpoint}: the data have no classes; choose a labelled --dataset")
    for source in ("real", "reconstructions", "samples"):
        images = _training_set(source, model, train, batch_size, seed)
        if images is not None:
            found = class_scores(images, test, epochs, seed)
            yield Measurement(
                question="accuracy",
                subject=describe(loaded)["config"],
                settings={"trained on": source, "images": len(images), "epochs": epochs, "weights": loaded.digest},
                values={"top1 %": found["cas_top1"], "top5 %": found["cas_top5"]},
                **stamp(),
            )


def _training_set(source: str, model: LikelihoodModel, real: Images, batch_size: int, seed: int) -> Images | None:
    """What a classifier is trained on; None where the model cannot make it."""
    if source == "real":
        return real
    if source == "samples":
        return drawn_images(model, real.labels, batch_size, seed)
    try:
        parts = torch.arange(len(real)).split(batch_size)
        return Images(torch.cat([reconstruct(model, real.pixels[part], part, seed) for part in parts]), real.labels)
    except UserError:
        return None
