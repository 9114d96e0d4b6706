"""The number everything else compares: mean bits/dim over images, summed so that no partition changes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.errors import UserError
from zoo.likelihood import LikelihoodTerms, nats_to_bits_per_dim

GRID = 2.0**-32  # bits/dim; sums of multiples of it are exact in float64 up to 2**21 bits/dim
NATS_GRID = 2.0**-12  # nats per image, exact up to 2**41 nats


class Summary(NamedTuple):
    """Means over images, bits/dim but for `nats_per_image`.

    `standard_error` holds everything that varies from image to image, the random draws included; `draw_error` is the
    part of it that repeated draws for the same images show, None if there was one draw.
    """

    images: int
    bits_per_dim: float
    standard_error: float
    nats_per_image: float
    distortion: float
    rates: Mapping[str, float]
    draw_error: float | None = None

    @property
    def rate(self) -> float:
        """All groups together."""
        return sum(self.rates.values())


class BitsPerDim(Metric):
    """Mean bits/dim over images with its standard error, its distortion and the rate of every group.

    States are sums in float64 of values rounded to a fixed grid, so that adding is exact and therefore does not depend
    on the order of images, the size of batches or the number of processes. The rounding changes a value by less than
    2**-33 bits/dim.

    Args:
        groups: names of the rates, top first.

    Example:
        >>> metric = BitsPerDim(["z"])
        >>> metric.update(LikelihoodTerms(torch.tensor([2.0, 4.0]), {"z": torch.tensor([0.0, 0.0])}, num_dims=1))
        >>> round(metric.compute().nats_per_image, 6)
        3.0
    """

    full_state_update = False
    higher_is_better = False
    images: Tensor
    total: Tensor
    squares: Tensor
    nats: Tensor
    distortion: Tensor
    rates: Tensor
    variance: Tensor
    repeated: Tensor

    def __init__(self, groups: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = tuple(groups)
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("repeated", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("total", "squares", "nats", "distortion", "variance"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rates", torch.zeros(len(self.groups), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, terms: LikelihoodTerms, nelbo: Tensor | None = None, variance: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            terms: the cost of each image.
            nelbo: (B,) nats, a tighter bound to report instead of `terms.nelbo`.
            variance: (B,) squared nats, of `nelbo` under new random draws.
        """
        if tuple(terms.rates) != self.groups:
            raise ValueError(f"rates {tuple(terms.rates)} differ from the groups {self.groups} of this metric")
        bound = (terms.nelbo if nelbo is None else nelbo).double()  # (B,)
        bits = _on_grid(nats_to_bits_per_dim(bound, terms.num_dims), GRID)
        self.images += len(bound)
        self.total += bits.sum()
        self.squares += _on_grid(bits.square(), GRID).sum()
        self.nats += _on_grid(bound, NATS_GRID).sum()
        self.distortion += _on_grid(nats_to_bits_per_dim(terms.distortion.double(), terms.num_dims), GRID).sum()
        if variance is not None:
            scale = float(nats_to_bits_per_dim(torch.ones((), dtype=torch.float64), terms.num_dims))
            self.variance += _on_grid(variance.double() * scale**2, GRID).sum()
            self.repeated += len(bound)
        if self.groups:
            nats = torch.stack([rate.double() for rate in terms.rates.values()])  # (groups, B)
            self.rates += _on_grid(nats_to_bits_per_dim(nats, terms.num_dims), GRID).sum(dim=1)

    def compute(self) -> Summary:
        """The means so far, over all processes."""
        count = int(self.images)
        if count == 0:
            raise UserError("no image was priced: the split is empty")
        mean = float(self.total) / count
        spread = max(float(self.squares) - count * mean * mean, 0.0)
        return Summary(
            images=count,
            bits_per_dim=mean,
            standard_error=(spread / (count * (count - 1))) ** 0.5 if count > 1 else 0.0,
            nats_per_image=float(self.nats) / count,
            distortion=float(self.distortion) / count,
            rates={name: float(rate) / count for name, rate in zip(self.groups, self.rates, strict=True)},
            draw_error=float(self.variance) ** 0.5 / count if int(self.repeated) == count else None,
        )


def _on_grid(values: Tensor, grid: float) -> Tensor:
    """Values rounded to multiples of a power of two."""
    return torch.round(values / grid) * grid
