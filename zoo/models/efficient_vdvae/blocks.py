"""Building blocks of Efficient-VDVAE: residual cells, bottom-up levels, stochastic top-down blocks.

Shapes: `B` batch, `W` width, `S` skip width, `Z` latent channels, `R` resolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.latents import LatentPolicy
from zoo.likelihood.precision import outside_autocast
from zoo.models.blocks import TopDownLayer, site_name
from zoo.models.efficient_vdvae.architecture import Architecture, BottomUpStage, ScaleBase, TopDownStage


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
    assert conv.bias is not None
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

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, R, R) -> (B, outputs, R, R)."""
        h = self.convs(x)
        result: Tensor = x + h if self.residual else h
        return result


def residual_cells(
    width: int, stage: BottomUpStage | TopDownStage, *, final_scale: float, pointwise: bool
) -> nn.Sequential:
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


class BottomUpLevel(nn.Module):
    """Residual blocks, a skip connection, and pooling if the level is the last of its resolution.

    Args:
        stage: the stage of the level.
        blocks: residual blocks.
        pooled: channels after pooling, or None without pooling.
        final_scale: see `Cell`.
        pointwise: see `Cell`.
    """

    def __init__(
        self, stage: BottomUpStage, blocks: int, pooled: int | None, final_scale: float, pointwise: bool
    ) -> None:
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

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(B, W, R, R) -> mean and log standard deviation, (B, Z, R, R) each."""
        mean, raw = outside_autocast(self.projection, h).chunk(2, dim=1)  # (B, 2Z, R, R) -> 2 x (B, Z, R, R)
        return mean, log_softplus(raw, self.beta) if self.base == "std" else self.beta * raw


class StochasticBlock(TopDownLayer):
    """One stochastic layer of the top-down pass (paper, figure 5).

    Args:
        index: position in the top-down order.
        resolution: (height, width).
        stage: the stage of the block.
        skip: channels of the skip connection.
        inputs: channels of the block above if this block unpools, else None.
        net: the whole network.
        max_posterior_shift: see `zoo.models.blocks.within`.
    """

    def __init__(
        self,
        index: int,
        resolution: tuple[int, int],
        stage: TopDownStage,
        skip: int,
        inputs: int | None,
        net: Architecture,
        max_posterior_shift: float | None = None,
    ) -> None:
        super().__init__(index, site_name(index + 1, *resolution), max_posterior_shift)
        width, joint, cell = stage.width, stage.width + skip, (stage.kernel, stage.layers)
        self.latent_shape = (stage.latents, *resolution)
        self.residual_posterior = net.residual_posterior
        self.unpool = None if inputs is None else Unpool(inputs, width, stage.stride, resolution)
        scale, narrow, middle = 0.0 if net.zero_prior else 1.0, int(width * stage.ratio), int(joint * stage.ratio * 0.5)
        self.prior_net = Cell(width, 2 * width, narrow, *cell, final_scale=scale, pointwise=net.pointwise)
        self.posterior_net = Cell(joint, int(joint * 0.5), middle, *cell, pointwise=net.pointwise)
        self.prior_head = GaussianHead(width, stage.latents, net.latent_scale, net.latent_beta)
        self.posterior_head = GaussianHead(int(joint * 0.5), stage.latents, net.latent_scale, net.latent_beta)
        self.z_projection = xavier_conv(stage.latents, width)
        with torch.no_grad():
            self.z_projection.weight.mul_(net.shrinking)  # without it training diverges at once (appendix C.1)
        self.residual = residual_cells(width, stage, final_scale=net.final_scale, pointwise=net.pointwise)

    def propose(self, h: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The prior, and what it adds to the state (B, W, R, R)."""
        residual, features = self.prior_net(h).chunk(2, dim=1)  # (B, 2W, R, R) -> 2 x (B, W, R, R)
        return *self.prior_head(features), residual

    def infer(self, h: Tensor, skip: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The posterior, from the state (B, W, R, R) and the image's skip connection (B, S, R, R)."""
        mean, log_std = self.posterior_head(self.posterior_net(torch.cat([h, skip], dim=1)))
        return mean, log_std

    def near(self, posterior: DiagonalGaussian, prior: DiagonalGaussian) -> DiagonalGaussian:
        """The posterior as it is used: relative to the prior, if the network is built so."""
        if self.residual_posterior:
            posterior = DiagonalGaussian(posterior.mean + prior.mean, posterior.log_std + prior.log_std)
        return super().near(posterior, prior)

    def descend(self, h: Tensor, residual: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        """The state below, (B, W, R, R)."""
        return cast(Tensor, self.residual(h + residual + self.z_projection(z)))


class TopDownLevel(nn.Module):
    """The stochastic blocks that read one skip connection; only the first may unpool."""

    def __init__(self, blocks: Sequence[StochasticBlock]) -> None:
        super().__init__()
        self.first = blocks[0]
        self.rest = nn.ModuleList(blocks[1:])

    @property
    def blocks(self) -> list[StochasticBlock]:
        """All of them, in order."""
        return [self.first, *cast(Iterable[StochasticBlock], self.rest)]

    def forward(self, h: Tensor, skip: Tensor | None, policy: LatentPolicy) -> Tensor:
        """The state above and the skip connection of the image (None without one) -> the state below."""
        for block in self.blocks:
            if block.unpool is not None:
                h = block.unpool(h)
            h = block(h, skip, policy)
        return h
