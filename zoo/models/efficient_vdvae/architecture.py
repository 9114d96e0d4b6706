"""How an Efficient-VDVAE is written down: stages of equal levels, and the options of the network.

A *level* is what shares one skip connection: a run of residual blocks bottom-up, a run of stochastic blocks top-down.
A *stage* is a run of equal levels at one resolution; it is only a way to write a network down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.errors import UserError

ScaleBase = Literal["std", "logstd"]
LN2 = 0.6931472  # the published smoothing, to the digits of the official configurations


@dataclass(frozen=True)
class BottomUpStage:
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
class TopDownStage:
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


@dataclass(frozen=True)
class Architecture:
    """The network, as data.

    Attributes:
        bottom_up: stages from the image down to the lowest resolution.
        top_down: stages from the lowest resolution up to the image.
        pad: border added on every side (level 0) before the network and cut off its output: 2 for 28 x 28 digits.
        latent_scale: "std" (softplus) or "logstd" (exponential) latents.
        latent_beta: gradient smoothing of the latents; 1 = none.
        residual_posterior: posterior relative to the prior (in no published configuration).
        zero_prior: start with priors that ignore the state above.
        stable_init: scale the last convolution of residual blocks by 1 / sqrt(layers).
        pointwise: outer convolutions of a cell are 1 x 1.
        input_kernel: side of the first convolution.
        output_kernel: side of the last convolution.

    Raises:
        UserError: if the stages do not fit together.
    """

    bottom_up: list[BottomUpStage]
    top_down: list[TopDownStage]
    pad: int = 0
    latent_scale: ScaleBase = "std"
    latent_beta: float = LN2
    residual_posterior: bool = False
    zero_prior: bool = False
    stable_init: bool = True
    pointwise: bool = True
    input_kernel: int = 1
    output_kernel: int = 1

    def __post_init__(self) -> None:
        """Refuse stages that do not fit together."""
        ups, downs = self.bottom_up, self.top_down
        for name, stages in (("bottom_up", ups), ("top_down", downs)):
            if not stages or not all(stage.blocks and min(stage.blocks) > 0 for stage in stages):
                raise UserError(f"{name}: needs at least one stage, and at least one block in every level (blocks)")
            if any(int(stage.width * stage.ratio) < 1 for stage in stages):
                raise UserError(f"{name}: width * ratio is below 1 in a stage; raise either")
        if ups[-1].stride != 1 or downs[0].stride != 1:
            raise UserError(
                "bottom_up, top_down: the last and the first stage work at the same resolution, so both need stride 1"
            )
        levels = [sum(len(stage.blocks) for stage in stages) for stages in (ups, downs)]
        if levels[0] != levels[1]:
            raise UserError(f"bottom_up has {levels[0]} levels, top_down {levels[1]}; they must have as many")
        up_steps = [stage.stride for stage in ups if stage.stride > 1]
        down_steps = [stage.stride for stage in reversed(downs) if stage.stride > 1]
        if up_steps != down_steps:
            raise UserError(f"strides of bottom_up are {up_steps}, of top_down backwards {down_steps}; make them equal")

    @property
    def shrinking(self) -> float:
        """1 / sqrt(stochastic layers), the scale of what every layer adds at the start."""
        result: float = float(sum(sum(stage.blocks) for stage in self.top_down)) ** -0.5
        return result

    @property
    def final_scale(self) -> float:
        """Factor on the initial weights of the last convolution of a residual block."""
        return self.shrinking if self.stable_init else 1.0

    @property
    def skips(self) -> list[int]:
        """Channels of the skip connection of every top-down level."""
        return [stage.skip or stage.width for stage in self.bottom_up for _ in stage.blocks][::-1]
