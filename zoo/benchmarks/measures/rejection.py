"""Classifier-based rejection sampling (Razavi et al. 2019, section 3.3): diversity traded for quality.

Of many samples of a class only those are kept to which a classifier gives the class the highest probability. The
likelihood of a model says nothing about what is left, so it is never quoted for it.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.benchmarks.records import Measurement, stamp
from zoo.errors import UserError
from zoo.likelihood import LikelihoodModel

if TYPE_CHECKING:
    from zoo.benchmarks.measures.quality import Images

SHARES = [1.0, 0.5, 0.25, 0.1]
Logits = Callable[[Tensor], Tensor]
"""(N, C, H, W) uint8 -> (N, K) logits or log-probabilities."""


@dataclass(frozen=True)
class Kept:
    """What rejection leaves.

    Attributes:
        images: (n, C, H, W) uint8, best first within each class.
        labels: (n,) int64, the class each was drawn for.
        scores: (n,) probability the classifier gives that class.
        drawn: how many samples were drawn in all.
    """

    images: Tensor
    labels: Tensor
    scores: Tensor
    drawn: int

    @property
    def acceptance(self) -> float:
        """Share of the samples that was kept."""
        return len(self.images) / self.drawn


def load_classifier(source: str) -> Logits:
    """A classifier by name of a shipped extractor with classes, class path, or TorchScript file.

    Args:
        source: `digits`; `package.module.Class` (built without arguments, so it loads its own weights); or a file.

    Raises:
        UserError: if it is none of these.
    """
    from zoo.benchmarks.measures.metrics import load_extractor

    if source == "digits":
        return load_extractor(source).logits
    if Path(source).is_file():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript itself
                result: Callable[[Tensor], Tensor] = torch.jit.load(source, map_location="cpu").eval()
                return result
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{source}: not a TorchScript file; give one written by torch.jit.save") from error
    module, _, name = source.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"classifier {source}: no such file or class; give a TorchScript file or a class path"
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"classifier {source}: expected a class derived from torch.nn.Module")
    return found().eval()


@torch.no_grad()
def rejection_sample(
    model: LikelihoodModel,
    classifier: Logits,
    labels: Tensor,
    per_class: int,
    keep: float,
    temperature: float = 1.0,
    batch_size: int = 32,
) -> Kept:
    """Draw samples of each class and keep the best share.

    Args:
        model: a class-conditional model.
        classifier: scores images.
        labels: (K,) classes to draw.
        per_class: samples kept of each class.
        keep: share to keep, in (0, 1]; 1 keeps everything.
        temperature: of the samples.
        batch_size: samples drawn at once.

    Returns:
        The kept samples, classes in the order given.

    Raises:
        UserError: if `keep` is not a share.
    """
    if not 0 < keep <= 1:
        raise UserError(f"keep={keep}: expected a share above 0 and at most 1")
    needed = math.ceil(per_class / keep)
    images, scores = [], []
    for label in labels.tolist():
        drawn, found = [], []
        for start in range(0, needed, batch_size):
            count = min(batch_size, needed - start)
            batch = model.sample(count, temperature, torch.full((count,), label))
            drawn.append(batch)
            found.append(classifier(batch).float().softmax(-1)[:, label])
        score = torch.cat(found)
        best = score.argsort(descending=True)[:per_class]
        images.append(torch.cat(drawn)[best])
        scores.append(score[best])
    kept = labels.repeat_interleave(per_class)
    return Kept(torch.cat(images), kept, torch.cat(scores), needed * len(labels))


def measure(
    checkpoint: str,
    classifier: str = "digits",
    dataset: str | None = None,
    split: str = "test",
    keep: list[float] = SHARES,
    per_class: int = 10,
    classes: list[int] | None = None,
    extractor: str = "inception",
    batch_size: int = 32,
    seed: int = 0,
) -> Iterator[Measurement]:
    """Distance, Inception Score, precision and recall of samples by how many are rejected.

    Args:
        checkpoint: of a class-conditional model: path or shipped name.
        classifier: shipped name, class path or TorchScript file that scores samples.
        dataset: labelled data set of the real images; null = the data the model was trained on.
        split: of the data set.
        keep: shares of the samples that are kept; 1 keeps everything.
        per_class: samples kept of each class.
        classes: which are drawn; null = those among the real images.
        extractor: feature network: inception, vgg16, digits, pixels or a TorchScript file.
        batch_size: samples drawn at once.
        seed: of the samples.

    Raises:
        UserError: the data have no classes.
    """
    from zoo.benchmarks.measures.identity import describe
    from zoo.benchmarks.measures.metrics import load_extractor
    from zoo.benchmarks.measures.quality import Images, batched, reconstruction_scores, sample_scores
    from zoo.checkpoints import load

    loaded = load(checkpoint)
    model = loaded.network
    if not isinstance(model, LikelihoodModel):
        raise UserError(f"{checkpoint}: {type(model).__name__} draws no images")
    real = _real_images(model, dataset, split, {**loaded.data, "labels": "class"}, per_class, classes)
    labels = torch.tensor(classes) if classes else real.labels.unique()
    judge, network = load_classifier(classifier), load_extractor(extractor)
    rebuilt = batched(model.reconstruct, real.pixels, batch_size) if model.reconstructs else None
    for share in keep:
        torch.manual_seed(seed)
        kept = rejection_sample(model, judge, labels, per_class, share, batch_size=batch_size)
        fake = Images(kept.images, kept.labels)
        values = sample_scores(real, fake, network) | {"score": float(kept.scores.mean())}
        if rebuilt is not None:  # FID* of Razavi et al.: the codes' own errors do not count
            found = reconstruction_scores(real, rebuilt, fake, network)
            values |= {name: value for name, value in found.items() if name.endswith("_star")}
        yield Measurement(
            question="rejection",
            subject=describe(loaded)["config"],
            settings={
                "keep": share,
                "samples": len(fake),
                "drawn": kept.drawn,
                "extractor": network.name,
                "classifier": classifier,
                "weights": loaded.digest,
                "seed": seed,
            },
            values=values,
            **stamp(),
        )


def _real_images(
    model: LikelihoodModel,
    dataset: str | None,
    split: str,
    settings: Mapping[str, Any],
    per_class: int,
    classes: list[int] | None,
) -> Images:
    """As many real images as are drawn, spread over the split.

    Raises:
        UserError: they have no classes, and none were named.
    """
    from zoo.benchmarks.measures.quality import Images
    from zoo.data import open_split

    loader = open_split(dataset, split, model.image_shape, settings)
    real = Images(*loader.spread(per_class * len(classes or range(10))))
    if not classes and bool((real.labels < 0).any()):
        raise UserError(f"{loader.reader.images.path}: no classes in it; choose a labelled --dataset or give --classes")
    return real
