"""Classifier-based rejection sampling (Razavi et al. 2019, section 3.3): diversity traded for quality.

Of many samples of a class only those are kept to which a classifier gives the class the highest probability. The
likelihood of a model says nothing about what is left, so it is never quoted for it.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.likelihood import LikelihoodModel

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
