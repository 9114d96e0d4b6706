"""Metrics between sets of features, one vector per image.

Letters: N images of one set, D features, K classes. Numbers of different extractors, image sizes or sample counts are
not comparable; the tables name all three.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

EXACT_PAIRS = 1 << 24


class _Identity(nn.Module):
    """Stands where torchmetrics wants a network: the features are computed before."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


class FrechetDistance:
    """Frechet distance between Gaussians fitted to two sets of features (Heusel et al. 2017), by torchmetrics.

    Sums are kept in float64, so batches of any size give the same number.

    Args:
        num_features: D.
    """

    def __init__(self, num_features: int) -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance

        self._metric = FrechetInceptionDistance(feature=_Identity(num_features), normalize=True)
        self._metric.set_dtype(torch.float64)

    def update(self, features: Tensor, real: bool) -> None:
        """Add features (N, D) of real images or of samples."""
        self._metric.update(features.double(), real=real)

    def compute(self) -> float:
        """The distance, no less than 0."""
        return max(0.0, float(self._metric.compute()))


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Frechet distance of two sets of features, (N, D) and (N', D).

    The value is biased upwards, by about (2 D + D (D + 1) / 2) / N for white features: compare only equal N.
    """
    distance = FrechetDistance(real.shape[1])
    distance.update(real, real=True)
    distance.update(fake, real=False)
    return distance.compute()


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (a.b / D + 1)^3, over all pairs (KID).

    Args:
        real: (N, D).
        fake: (N', D).
    """
    real, fake = real.double(), fake.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1.0) ** 3

    def within(a: Tensor) -> Tensor:
        k = kernel(a, a)
        return (k.sum() - k.diagonal().sum()) / (len(a) * (len(a) - 1))

    return float(within(real) + within(fake) - 2.0 * kernel(real, fake).mean())


def inception_score(logits: Tensor, split_size: int | None = None) -> float:
    """Exponential of the mean KL between each image's class probabilities and their mean (Salimans et al. 2016).

    Args:
        logits: (N, K) of samples.
        split_size: images per split, in the given order; the result is the mean over splits. None: one split.
    """
    log_p = logits.double().log_softmax(dim=1)
    scores = []
    for split in log_p.split(split_size or len(log_p)):
        marginal = torch.logsumexp(split, dim=0) - torch.log(torch.tensor(float(len(split))).double())  # (K,)
        scores.append(torch.exp((split.exp() * (split - marginal)).sum(dim=1).mean()))
    return float(torch.stack(scores).mean())


def precision_recall(real: Tensor, fake: Tensor, k: int = 3, chunk: int = 2048) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019, section 3).

    The radius of a point is its distance to the k-th nearest other point of its set. Precision is the share of samples
    within the radius of some real image, recall the share of real images within the radius of some sample.

    Args:
        real: (N, D).
        fake: (N', D).
        k: neighbours, 3 in the paper and in the ADM evaluator.
        chunk: rows of the distance matrix that are held at once.

    Returns:
        Precision and recall, in [0, 1].
    """
    real, fake = real.double(), fake.double()
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"precision and recall with k = {k} need more than {k} images in each set")
    return _covered(fake, real, k, chunk), _covered(real, fake, k, chunk)


def _covered(points: Tensor, centres: Tensor, k: int, chunk: int) -> float:
    """Share of the points that lie in the ball of some centre."""
    radii = torch.cat([rows.kthvalue(k + 1, dim=1).values for rows in _distances(centres, centres, chunk)])
    inside = [(rows <= radii).any(dim=1) for rows in _distances(points, centres, chunk)]
    return float(torch.cat(inside).double().mean())


def _distances(a: Tensor, b: Tensor, chunk: int) -> Iterator[Tensor]:
    """Blocks of rows of the matrix of distances, (<= chunk, N').

    Up to some thousand points they are exact, so that a point is at distance 0 of itself; beyond, matrix products are
    a hundred times faster and float64 leaves errors of 1e-7.
    """
    exact = len(a) * len(b) <= EXACT_PAIRS
    mode = "donot_use_mm_for_euclid_dist" if exact else "use_mm_for_euclid_dist"
    for rows in a.split(chunk):
        yield torch.cdist(rows, b, compute_mode=mode)
