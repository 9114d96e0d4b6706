"""Vector quantiser whose codebook follows moving averages (van den Oord et al. 2017, appendix A.1)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.likelihood.precision import no_autocast

CodebookInit = Literal["data", "normal", "debiased"]
_CHUNK = 1 << 16  # vectors compared with the codebook at once


@dataclass(frozen=True)
class Quantised:
    """What the quantiser makes of a batch.

    Attributes:
        vectors: (B, D, H, W) code vectors; the gradient passes straight through to the input.
        codes: (B, H, W) int64.
        commitment: scalar, mean squared distance to the chosen code, with gradient to the input.
        perplexity: scalar, exp of the entropy of the batch's code frequencies.
        used: scalar, share of the codebook that the batch uses.
    """

    vectors: Tensor
    codes: Tensor
    commitment: Tensor
    perplexity: Tensor
    used: Tensor


class VectorQuantiser(nn.Module):
    """Nearest code vector, straight-through gradient, and a codebook of exponential moving averages.

    In training mode, after the lookup: `N <- g N + (1 - g) n`, `m <- g m + (1 - g) S`, code = m / N with Laplace
    smoothing of N, where n and S count and sum the vectors of each code over all processes. The codebook is a buffer.

    Args:
        num_codes: K.
        dim: D.
        decay: g (0.99 in every experiment of Razavi et al. 2019).
        epsilon: smoothing of the counts.
        init: `data` starts from random vectors of the first batch; `normal` from N(0, 1) codes with empty counts (the
            public implementation); `debiased` divides both averages by 1 - g^t (Sonnet).
        revive_below: a code whose averaged count falls below this is moved to a random vector of the batch; 0 never.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    updates: Tensor

    def __init__(
        self,
        num_codes: int,
        dim: int,
        decay: float = 0.99,
        epsilon: float = 1e-5,
        init: CodebookInit = "data",
        revive_below: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_codes, self.dim, self.decay, self.epsilon = num_codes, dim, decay, epsilon
        self.init, self.revive_below = init, revive_below
        self._started = False
        codebook = torch.randn(num_codes, dim)
        self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.zeros(num_codes))
        self.register_buffer("sums", torch.zeros_like(codebook) if init == "debiased" else codebook.clone())
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def nearest(self, vectors: Tensor) -> Tensor:
        """Index of the nearest code of each vector (n, D), first of equals, computed in float32."""
        squared = self.codebook.pow(2).sum(1)
        parts = [
            (part.pow(2).sum(1, keepdim=True) - 2 * part @ self.codebook.T + squared).argmin(1)
            for part in vectors.to(self.codebook.dtype).split(_CHUNK)
        ]
        return torch.cat(parts)

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors (B, D, H, W) of codes (B, H, W)."""
        return F.embedding(codes, self.codebook).movedim(-1, 1)

    def forward(self, z: Tensor) -> Quantised:
        """Quantise (B, D, H, W) and, in training mode, update the codebook afterwards."""
        with no_autocast(z):
            z = z.to(self.codebook.dtype)
            flat = z.movedim(1, -1).flatten(0, 2).detach()  # (B * H * W, D)
            if self.training and not self._started:
                self._start(flat)
            index = self.nearest(flat)
            codes = index.view(z.shape[0], *z.shape[2:])
            chosen = self.lookup(codes).detach().clone()
            sums = self._sums(flat, index)
            counts = sums[:, -1].clone()
            if self.training:
                self._update(sums, self._fresh(flat) if self.revive_below else None)
        frequency = counts / counts.sum()
        entropy = -(frequency * frequency.clamp_min(1e-30).log()).sum()
        return Quantised(
            vectors=z + (chosen - z).detach(),
            codes=codes,
            commitment=F.mse_loss(z, chosen),
            perplexity=entropy.exp(),
            used=(counts > 0).float().mean(),
        )

    # -- moving averages: nothing here waits for the device, and there is one sum over all processes ------------------

    def _sums(self, flat: Tensor, index: Tensor) -> Tensor:
        """(K, D + 1): the sum of the vectors of each code, and their number."""
        counted = torch.cat([flat, torch.ones_like(flat[:, :1])], 1)
        return counted.new_zeros(self.num_codes, self.dim + 1).index_add_(0, index, counted)

    @torch.no_grad()
    def _update(self, sums: Tensor, fresh: Tensor | None) -> None:
        joined = sums if fresh is None else torch.cat([sums, fresh], 1)  # (K, D + 1) or (K, 2 D + 1)
        all_reduce(joined)
        self.updates += 1
        self.sums.mul_(self.decay).add_(joined[:, : self.dim], alpha=1 - self.decay)
        self.counts.mul_(self.decay).add_(joined[:, self.dim], alpha=1 - self.decay)
        counts, sums = self.counts, self.sums
        if self.init == "debiased":
            correction = 1 - self.decay**self.updates
            counts, sums = counts / correction, sums / correction
        total = counts.sum()
        smoothed = (counts + self.epsilon) / (total + self.num_codes * self.epsilon) * total
        self.codebook.copy_(sums / smoothed[:, None])
        if fresh is not None:
            self._revive(joined[:, self.dim + 1 :])

    def _revive(self, fresh: Tensor) -> None:
        """Move dead codes to random vectors of the batch (K, D)."""
        dead = self.counts < self.revive_below
        self.counts.masked_fill_(dead, 1.0)
        for held in (self.sums, self.codebook):
            held.copy_(torch.where(dead[:, None], fresh, held))

    def _fresh(self, flat: Tensor) -> Tensor:
        """(K, D) random vectors of the joint batch: those that this process holds, zeros in the place of the others.

        The positions are a function of the number of updates alone, so that any number of processes with equal shares
        picks what one process with the joined batch would.
        """
        where = scattered(self.updates * self.num_codes + torch.arange(self.num_codes, device=flat.device))
        world, rank = (dist.get_world_size(), dist.get_rank()) if distributed() else (1, 0)
        owner = (where * world) >> 32
        local = ((where * world - (owner << 32)) * len(flat)) >> 32
        return torch.where((owner == rank)[:, None], flat[local], torch.zeros_like(flat[:1]))

    # -- the first batch ----------------------------------------------------------------------------------------------

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def _start(self, flat: Tensor) -> None:
        """Take the first codebook from the data, unless it was loaded; asks the device in the first steps of a run."""
        if self.init != "data" or self.updates > 0:
            self._started = True  # known only now: a skipped first update takes the codebook back
            return
        self.codebook.copy_(self._first_vectors(flat))
        self.sums.copy_(self.codebook)
        self.counts.fill_(1.0)

    def _first_vectors(self, flat: Tensor) -> Tensor:
        """K random vectors of the joint batch of all processes, different ones if it has so many, (K, D)."""
        sizes, rank = [len(flat)], 0
        if distributed():
            rank = dist.get_rank()
            gathered = [torch.zeros(1, dtype=torch.long, device=flat.device) for _ in range(dist.get_world_size())]
            dist.all_gather(gathered, torch.tensor([len(flat)], device=flat.device))
            sizes = [int(size) for size in gathered]
        generator = torch.Generator().manual_seed(0)
        total, first = sum(sizes), sum(sizes[:rank])
        if total >= self.num_codes:
            picked = torch.randperm(total, generator=generator)[: self.num_codes]
        else:
            picked = torch.randint(total, (self.num_codes,), generator=generator)
        local = picked.to(flat.device) - first
        held = (local >= 0) & (local < len(flat))
        vectors = torch.where(held[:, None], flat[local.clamp(0, len(flat) - 1)], torch.zeros_like(flat[:1]))
        all_reduce(vectors)
        return vectors


def scattered(counter: Tensor) -> Tensor:
    """Whole numbers scattered over [0, 2**32): random numbers that have a counter and no state."""
    for _ in range(2):
        counter = ((counter ^ (counter >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return counter ^ (counter >> 16)


def distributed() -> bool:
    """Whether several processes train together; asked at every call, as the group starts after the model is built."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_reduce(values: Tensor) -> None:
    """Sum in place over all processes, if there are several."""
    if distributed():
        dist.all_reduce(values)


def mean_over_processes(values: Tensor) -> Tensor:
    """Mean over all processes, each with the same weight."""
    if distributed():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values
