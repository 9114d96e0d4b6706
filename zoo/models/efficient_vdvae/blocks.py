"""Building blocks of Efficient-VDVAE: residual cells, bottom-up levels, stochastic top-down blocks.

A *level* is what shares one skip connection: a run of residual blocks bottom-up, a run of stochastic blocks top-down.
A *stage* is a run of equal levels at one resolution; it is only a way to write a network down.
Shapes: `B` batch, `W` width, `S` skip width, `Z` latent channels, `R` resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.latents import LatentPolicy, LatentSite
from zoo.models.blocks import within_reach

ScaleBase = Literal["std", "logstd"]


@dataclass(frozen=True)
class UpStage:
    """Bottom-up levels at one resolution.

    Attributes:
        width: channels.
        blocks: residual blocks of each level; a level ends with the skip connection that its top-down twin reads.
        ratio: bottleneck width as a share of `width`.
        kernel: side of the inner convolutions (1 at resolution 1, where there is nothing to look at).
        stride: pooling after the last level, by a convolution with kernel = stride; 1 = none.
        skip: channels of the skip connections; None = `width`.
        cells: residual cells per block.
        layers: inner convolutions per cell.
    """

    width: int
    blocks: list[int]
    ratio: float = 0.25
    kernel: int = 3
    stride: int = 1
    skip: int | None = None
    cells: int = 1
    layers: int = 2


@dataclass(frozen=True)
class DownStage:
    """Top-down levels at one resolution.

    Attributes:
        width: channels.
        blocks: stochastic blocks of each level; all blocks of a level see the same skip connection.
        latents: latent channels of every block.
        ratio: bottleneck width as a share of `width`.
        kernel: side of the inner convolutions.
        stride: unpooling before the first block; 1 = none.
        cells: residual cells per block.
        layers: inner convolutions per cell.
    """

    width: int
    blocks: list[int]
    latents: int
    ratio: float = 0.25
    kernel: int = 3
    stride: int = 1
    cells: int = 1
    layers: int = 2


def log_softplus(raw: Tensor, beta: float) -> Tensor:
    """ln(softplus_beta(raw)), with softplus_beta(r) = ln(1 + exp(beta r)) / beta, finite for every finite input.

    Far below zero softplus underflows, and the official code then divides by zero; there ln(1 + e^y) = e^y to all
    digits, so its logarithm is y itself.
    """
    y = beta * raw
    clamped = F.softplus(raw.clamp_min(-30.0 / beta), beta=beta) * beta
    return torch.where(y < -30.0, y, clamped.log()) - math.log(beta)


def xavier_conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution with Xavier-uniform weights and zero bias (paper, appendix C.1)."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


class Cell(nn.Module):
    """SiLU and convolutions in a bottleneck: 1x1 in, `layers` of k x k, 1x1 out; optionally residual.

    The first convolution keeps PyTorch's own initialisation, as in the official code.

    Args:
        inputs: channels of the input.
        outputs: channels of the result.
        middle: channels in between.
        kernel: side of the inner convolutions.
        layers: number of inner convolutions.
        residual: add the input to the result (needs outputs == inputs).
        final_scale: factor on the initial weights of the last convolution.
        pointwise: False makes the outer convolutions k x k too.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        middle: int,
        kernel: int,
        layers: int,
        *,
        residual: bool = False,
        final_scale: float = 1.0,
        pointwise: bool = True,
    ) -> None:
        super().__init__()
        outer = 1 if pointwise else kernel
        convs = [nn.Conv2d(inputs, middle, outer, padding=outer // 2)]
        convs += [xavier_conv(middle, middle, kernel, padding=kernel // 2) for _ in range(layers)]
        convs.append(xavier_conv(middle, outputs, outer, padding=outer // 2))
        with torch.no_grad():
            convs[-1].weight.mul_(final_scale)
        self.convs = nn.Sequential(*(module for conv in convs for module in (nn.SiLU(), conv)))
        self.residual = residual
        self.recompute = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, R, R) -> (B, outputs, R, R)."""
        if self.recompute and torch.is_grad_enabled():
            h = checkpoint(self.convs, x, use_reentrant=False)
        else:
            h = self.convs(x)
        return x + h if self.residual else h


def residual_cells(width: int, stage: UpStage | DownStage, *, final_scale: float, pointwise: bool) -> nn.Sequential:
    """The `stage.cells` residual cells of one block."""
    middle = int(width * stage.ratio)
    return nn.Sequential(
        *(
            Cell(
                width,
                width,
                middle,
                stage.kernel,
                stage.layers,
                residual=True,
                final_scale=final_scale,
                pointwise=pointwise,
            )
            for _ in range(stage.cells)
        )
    )


class UpLevel(nn.Module):
    """Residual blocks, a skip connection, and pooling if the level is the last of its resolution.

    Args:
        stage: the stage of the level.
        blocks: residual blocks.
        pooled: channels after pooling, or None without pooling.
        final_scale: see `Cell`.
        pointwise: see `Cell`.
    """

    def __init__(self, stage: UpStage, blocks: int, pooled: int | None, final_scale: float, pointwise: bool) -> None:
        super().__init__()
        width = stage.width

        def block() -> nn.Sequential:
            return residual_cells(width, stage, final_scale=final_scale, pointwise=pointwise)

        self.rest = nn.ModuleList(block() for _ in range(blocks - 1))
        self.last = block()
        self.skip = xavier_conv(width, stage.skip or width)
        self.pool = None
        if pooled is not None:
            self.pool = nn.Sequential(xavier_conv(width, pooled, stage.stride, stage.stride), nn.LeakyReLU(0.1))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(B, W, R, R) -> the input of the next level, and the skip connection (B, S, R, R)."""
        for block in self.rest:
            h = block(h)
        h = self.last(h)
        skip = self.skip(h)  # before pooling
        return (h if self.pool is None else self.pool(h)), skip


class Unpool(nn.Module):
    """1x1 convolution, LeakyReLU, nearest-neighbour upsampling and a learned bias per position.

    The bias ties a network to its resolution (it is no longer fully convolutional).

    Args:
        inputs: channels of the input.
        outputs: channels of the result.
        stride: upsampling factor.
        resolution: (height, width) of the result.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, resolution: tuple[int, int]) -> None:
        super().__init__()
        self.conv = xavier_conv(inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(1, outputs, *resolution))
        self.stride = stride

    def forward(self, h: Tensor) -> Tensor:
        """(B, inputs, R, R) -> (B, outputs, stride * R, stride * R)."""
        h = F.leaky_relu(self.conv(h), 0.1)
        return F.interpolate(h, scale_factor=self.stride, mode="nearest") + self.bias


class GaussianHead(nn.Module):
    """1x1 convolution to a diagonal Gaussian with gradient smoothing (paper, section 5).

    `std`: standard deviation softplus_beta(raw); `logstd`: exp(beta raw). With beta below 1 the gradient of the raw
    value is bounded by beta, so that one bad batch cannot throw the network far.

    Args:
        width: channels of the input.
        latents: latent channels.
        base: "std" or "logstd".
        beta: smoothing; ln 2 gives a standard deviation of 1 at raw = 0, 1 means no smoothing.
    """

    def __init__(self, width: int, latents: int, base: ScaleBase, beta: float) -> None:
        super().__init__()
        self.projection = xavier_conv(width, 2 * latents)
        self.base = base
        self.beta = beta

    def forward(self, h: Tensor) -> DiagonalGaussian:
        """(B, W, R, R) -> Gaussians of shape (B, Z, R, R)."""
        mean, raw = self.projection(h).chunk(2, dim=1)  # (B, 2Z, R, R) -> 2 x (B, Z, R, R)
        log_std = log_softplus(raw, self.beta) if self.base == "std" else self.beta * raw
        return DiagonalGaussian(mean, log_std)


@dataclass(frozen=True)
class LatentOptions:
    """What all stochastic blocks of a network have in common; see `EfficientVDVAE`."""

    base: ScaleBase
    beta: float
    residual_posterior: bool
    zero_prior: bool
    pointwise: bool
    final_scale: float
    z_scale: float
    posterior_reach: float | None = None


class DownBlock(nn.Module):
    """One stochastic layer of the top-down pass (paper, figure 5).

    Args:
        index: position in the top-down order.
        resolution: (height, width).
        stage: the stage of the block.
        skip: channels of the skip connection.
        inputs: channels of the block above if this block unpools, else None.
        options: settings of the whole network.
    """

    def __init__(
        self,
        index: int,
        resolution: tuple[int, int],
        stage: DownStage,
        skip: int,
        inputs: int | None,
        options: LatentOptions,
    ) -> None:
        super().__init__()
        width, cell = stage.width, (stage.kernel, stage.layers)
        self.index = index
        self.name = f"z{index + 1:02d}_{resolution[0]}x{resolution[1]}"
        self.latent_shape = (stage.latents, *resolution)
        self.options = options
        self.unpool = None if inputs is None else Unpool(inputs, width, stage.stride, resolution)
        self.prior_net = Cell(
            width,
            2 * width,
            int(width * stage.ratio),
            *cell,
            final_scale=0.0 if options.zero_prior else 1.0,
            pointwise=options.pointwise,
        )
        joint = width + skip
        self.posterior_net = Cell(
            joint, int(joint * 0.5), int(joint * stage.ratio * 0.5), *cell, pointwise=options.pointwise
        )
        self.prior_head = GaussianHead(width, stage.latents, options.base, options.beta)
        self.posterior_head = GaussianHead(int(joint * 0.5), stage.latents, options.base, options.beta)
        self.z_projection = xavier_conv(stage.latents, width)
        with torch.no_grad():
            self.z_projection.weight.mul_(options.z_scale)
        self.residual = residual_cells(width, stage, final_scale=options.final_scale, pointwise=options.pointwise)

    def posterior(self, h: Tensor, skip: Tensor, prior: DiagonalGaussian) -> DiagonalGaussian:
        """The approximate posterior, from the state (B, W, R, R) and the image's skip connection (B, S, R, R)."""
        q = self.posterior_head(self.posterior_net(torch.cat([h, skip], dim=1)))  # (B, W + S, R, R)
        if self.options.residual_posterior:
            q = DiagonalGaussian(q.mean + prior.mean, q.log_std + prior.log_std)
        reach = self.options.posterior_reach
        return q if reach is None else within_reach(q, prior, reach)

    def forward(self, h: Tensor, skip: Tensor | None, policy: LatentPolicy) -> Tensor:
        """The state above -> the state below, (B, W, R, R); `skip` is None when no image is given."""
        if self.unpool is not None:
            h = self.unpool(h)
        residual, features = self.prior_net(h).chunk(2, dim=1)  # (B, 2W, R, R) -> 2 x (B, W, R, R)
        prior = self.prior_head(features)
        posterior = None if skip is None else self.posterior(h, skip, prior)
        z = policy(LatentSite(self.name, self.index, prior, posterior))  # (B, Z, R, R)
        return self.residual(h + residual + self.z_projection(z))


class DownLevel(nn.Module):
    """The stochastic blocks that read one skip connection; only the first may unpool."""

    def __init__(self, blocks: Sequence[DownBlock]) -> None:
        super().__init__()
        self.first = blocks[0]
        self.rest = nn.ModuleList(blocks[1:])

    def forward(self, h: Tensor, skip: Tensor | None, policy: LatentPolicy) -> Tensor:
        """See `DownBlock.forward`."""
        for block in (self.first, *self.rest):
            h = block(h, skip, policy)
        return h
