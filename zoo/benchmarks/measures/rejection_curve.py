"""Quality of samples over the share that a classifier rejects (Razavi et al. 2019, figure 7)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch

from zoo.benchmarks.measures.metrics import Extractor, load_extractor
from zoo.benchmarks.measures.quality import Images, sample_scores
from zoo.benchmarks.measures.rejection import Logits, load_classifier, rejection_sample
from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError
from zoo.likelihood import LikelihoodModel

RATES = [0.0, 0.5, 0.8, 0.9, 0.95]


def measure(
    checkpoint: str,
    classifier: str = "digits",
    dataset: str = "mnist",
    split: str = "test",
    extractor: str = "digits",
    rates: list[float] = RATES,
    per_class: int = 20,
    temperature: float = 1.0,
    batch_size: int = 32,
    seed: int = 0,
) -> Iterator[Measurement]:
    """FID, precision, recall and Inception Score of the samples that are kept, at several rejection rates.

    Args:
        checkpoint: of a class-conditional model: path or name.
        classifier: scores samples: `digits`, a class path or a TorchScript file.
        dataset: prepared and labelled data set with the real images.
        split: of the data set.
        extractor: feature network: inception (downloaded when first used), vgg16, digits, pixels or a TorchScript file.
        rates: shares that are rejected, from 0 up to but not including 1.
        per_class: samples kept of each class, and real images of each class at most.
        temperature: of the samples.
        batch_size: samples drawn at once.
        seed: of the samples, the same at every rate.

    Raises:
        UserError: no labels, or a rate that is none.
    """
    from zoo.benchmarks.measures.identity import experiment
    from zoo.checkpoints import load
    from zoo.data import open_split

    loaded = load(checkpoint)
    model = loaded.network
    if not isinstance(model, LikelihoodModel):
        raise UserError(f"{checkpoint}: {type(model).__name__} draws no images of its own")
    real = Images(*open_split(dataset, split, model.image_shape, loaded.data).first(100 * per_class))
    named: dict[str, str | int | float | bool | None] = {"dataset": dataset, "split": split, "weights": loaded.digest}
    named |= {"classifier": classifier, "temperature": temperature, "seed": seed}
    scorers = (load_classifier(classifier), load_extractor(extractor))
    yield from curve(model, experiment(loaded.path, loaded.meta), real, scorers, rates, per_class, batch_size, named)


def curve(
    model: LikelihoodModel,
    subject: str,
    real: Images,
    scorers: tuple[Logits, Extractor],
    rates: Sequence[float],
    per_class: int,
    batch_size: int,
    settings: dict[str, str | int | float | bool | None],
) -> Iterator[Measurement]:
    """One line for each rate.

    Args:
        model: class-conditional.
        subject: its name.
        real: labelled images; their classes are drawn.
        scorers: classifier and feature network.
        rates: shares that are rejected.
        per_class: samples kept of each class.
        batch_size: samples drawn at once.
        settings: what else tells the lines from others; `temperature` and `seed` are used.

    Raises:
        UserError: no labels, or a rate that is none.
    """
    classes = real.labels.unique()
    if bool((classes < 0).any()):
        raise UserError("rejection: the data set has no labels, so no class can be drawn; use a labelled one")
    classifier, extractor = scorers
    for rate in rates:
        if not 0.0 <= rate < 1.0:
            raise UserError(f"--rates {rate:g}: expected shares from 0 up to but not including 1")
        start = time.perf_counter()
        torch.manual_seed(int(settings.get("seed") or 0))
        temperature = float(settings.get("temperature") or 1.0)
        kept = rejection_sample(model, classifier, classes, per_class, 1.0 - rate, temperature, batch_size)
        scores = sample_scores(real, Images(kept.images, kept.labels), extractor)
        known: dict[str, str | int | float | bool | None] = {"rejected": rate, "extractor": extractor.name}
        known |= {"real": len(real), "samples": len(kept.images), "resolution": real.pixels.shape[-1]}
        values = {**scores, "mean probability of the class": float(kept.scores.mean())}
        line = {**stamp(), "seconds": time.perf_counter() - start}
        yield Measurement(question="rejection", subject=subject, settings={**known, **settings}, values=values, **line)
