"""Rejection sampling on real digits: what is kept is better and less diverse."""

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.benchmarks.measures.metrics import precision_recall
from zoo.benchmarks.measures.rejection import load_classifier, rejection_sample
from zoo.errors import UserError
from zoo.likelihood import LikelihoodModel, LikelihoodTerms, Noise, Objective

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"


def digits() -> tuple[Tensor, Tensor]:
    """Real digits (N, 1, 28, 28) uint8 and their labels (N,)."""
    parts = []
    for name, offset in (("t10k-images-idx3-ubyte.gz", 16), ("t10k-labels-idx1-ubyte.gz", 8)):
        with gzip.open(MNIST / name) as file:
            parts.append(torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=offset).copy()))
    return parts[0].view(-1, 1, 28, 28), parts[1].long()


class GaussianDigits(LikelihoodModel):
    """A Gaussian over the leading principal components of each class: draws digits, many of them poor."""

    bits, image_shape = 8, (1, 28, 28)

    def __init__(self, images: Tensor, labels: Tensor, components: int = 25) -> None:
        super().__init__()
        self.parts = []
        for label in range(10):
            flat = images[labels == label].flatten(1).float()
            centred = flat - flat.mean(0)
            _, spread, axes = torch.linalg.svd(centred, full_matrices=False)
            self.parts.append((flat.mean(0), axes[:components] * spread[:components, None] / len(flat) ** 0.5))

    def sample(self, n: int, temperature: float = 1.0, label: Tensor | None = None) -> Tensor:
        rows = [mean + temperature * torch.randn(len(axes)) @ axes for mean, axes in (self.parts[y] for y in label)]
        return torch.stack(rows).clamp(0, 255).byte().view(n, 1, 28, 28)

    def terms(self, x: Tensor, label: Tensor | None = None, noise: Noise | None = None) -> LikelihoodTerms:
        raise NotImplementedError

    def objective(self, x: Tensor, label: Tensor | None = None, step: int = 0) -> Objective:
        raise NotImplementedError


def trained_classifier(images: Tensor, labels: Tensor) -> nn.Module:
    """A small network that has seen real digits for a moment."""

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(784, 32)
            self.second = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x.flatten(1).float() / 255).relu())

    network = Classifier()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(300):
        rows = torch.randint(len(images), (128,))
        loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.mark.skipif(not MNIST.is_dir(), reason="no ../shared/data/mnist")
def test_precision_rises_and_diversity_falls(tmp_path: Path) -> None:
    images, labels = digits()
    classifier = trained_classifier(images[:6000], labels[:6000])
    held_out = classifier(images[6000:]).argmax(1).eq(labels[6000:]).float().mean()
    assert held_out > 0.85
    path = tmp_path / "classifier.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript itself
        torch.jit.trace(classifier, images[:2]).save(str(path))
    loaded = load_classifier(str(path))

    model = GaussianDigits(images[:6000], labels[:6000])
    everything, best = (rejection_sample(model, loaded, torch.arange(10), 40, keep) for keep in (1.0, 0.1))
    assert everything.acceptance == 1
    assert best.acceptance == pytest.approx(0.1)
    assert best.scores.mean() > everything.scores.mean()

    extractor = load_classifier("digits").__self__
    real, first, second = (extractor(part) for part in (images[6000:6400], everything.images, best.images))
    precision = [precision_recall(real, part)[0] for part in (first, second)]
    spread = [torch.stack([c.var(0).sum() for c in part.chunk(10)]).mean() for part in (first, second)]
    assert precision[1] > precision[0]
    assert spread[1] < spread[0], "what is kept of a class lies closer together"


def test_wrong_share_or_classifier_is_one_line() -> None:
    with pytest.raises(UserError, match="share"):
        rejection_sample(None, None, torch.arange(1), 1, 0.0)
    with pytest.raises(UserError, match="no such file or class"):
        load_classifier("nowhere.Network")
    with pytest.raises(UserError, match=r"torch\.nn\.Module"):
        load_classifier("collections.OrderedDict")
