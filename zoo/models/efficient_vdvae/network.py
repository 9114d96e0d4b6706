"""Efficient-VDVAE, the network (Hazami, Mama and Thurairatnam 2022, "Less is more", arXiv:2203.13751).

Signal flow, with one skip connection per level::

    image -> input -> level -> level -> ... -> level
                        |        |               |
                      skips, read in the opposite order
                                                 v
    start -> level (blocks) -> level (blocks) -> ... -> output -> pixel distribution
               z1, z2, ..        z3, ..
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError
from zoo.likelihood.bernoulli import Bernoulli
from zoo.likelihood.latents import LatentPolicy, SamplePosterior
from zoo.likelihood.levels import Bins, check_bits, level_values, to_levels
from zoo.likelihood.model import AncestralModel, PixelDistribution
from zoo.likelihood.terms import LikelihoodTerms, Objective
from zoo.models.efficient_vdvae.blocks import (
    Cell,
    DownBlock,
    DownLevel,
    DownStage,
    LatentOptions,
    ScaleBase,
    UpLevel,
    UpStage,
    xavier_conv,
)
from zoo.models.efficient_vdvae.output import smoothed_mixture, starting_bias
from zoo.models.efficient_vdvae.schedule import KLSchedule

LN2 = 0.6931472  # the published smoothing, to the digits of the official configurations


class EfficientVDVAE(AncestralModel):
    """Hierarchical VAE with per-resolution widths and softplus standard deviations.

    Differences to VDVAE: SiLU; pooling and unpooling by convolutions with LeakyReLU; a learned bias map at every
    unpooling and a learned start; projected skip connections, one per level and not per resolution; widths that change
    through convolutions; no gain and bias before the output.

    Args:
        image_shape: (C, H, W) of the images it prices.
        bits: bit depth, 1 to 8. Input and target are both reduced to it.
        bottom_up: stages from the image down to the lowest resolution.
        top_down: stages from the lowest resolution up to the image.
        mixtures: components of the logistic mixture; 0 = Bernoulli output for binary images (needs bits = 1).
        pad: border added on every side (level 0) before the network and cut off its output: 2 for 28 x 28 digits.
        latent_scale: "std" (softplus) or "logstd" (exponential) latents.
        latent_beta: gradient smoothing of the latents; 1 = none.
        output_scale: the same choice for the scales of the mixture.
        output_beta: gradient smoothing of the mixture scales.
        min_log_scale: lower limit of the mixture's log scale; -7 is the paper's "bounded", -14 (5 bits) and -250
            (8 bits) its "unbounded".
        bins: how a level's mass is computed; "efficient_vdvae" gives the official numbers.
        residual_posterior: posterior relative to the prior (in no published configuration).
        zero_prior: start with priors that ignore the state above.
        stable_init: scale the last convolution of residual blocks by 1 / sqrt(layers).
        pointwise: outer convolutions of a cell are 1 x 1.
        input_kernel: side of the first convolution.
        output_kernel: side of the last convolution.
        schedule: KL weights during training.
        recompute: trade time for memory: cells recompute their activations in the backward pass.
        initial_scale: start with a mixture of this scale, spread over the axis (see `starting_bias`); None starts from
            zeros, as the official code. For short trainings.
        posterior_gain: factor on the initial weights of the posterior means, so that latents are used sooner; 1 as in
            the official code.
        posterior_reach: largest distance of a posterior's mean from the prior's, in the prior's standard deviations
            (see `zoo.models.blocks.within_reach`); None, as in the official code, sets no limit.

    Raises:
        UserError: if stages, resolutions or widths do not fit together.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        bits: int,
        bottom_up: list[UpStage],
        top_down: list[DownStage],
        mixtures: int = 10,
        pad: int = 0,
        latent_scale: ScaleBase = "std",
        latent_beta: float = LN2,
        output_scale: ScaleBase = "std",
        output_beta: float = LN2,
        min_log_scale: float = -250.0,
        bins: Bins = "normalised",
        residual_posterior: bool = False,
        zero_prior: bool = False,
        stable_init: bool = True,
        pointwise: bool = True,
        input_kernel: int = 1,
        output_kernel: int = 1,
        schedule: KLSchedule | None = None,
        recompute: bool = False,
        initial_scale: float | None = None,
        posterior_gain: float = 1.0,
        posterior_reach: float | None = None,
    ) -> None:
        super().__init__()
        ups = [stage if isinstance(stage, UpStage) else UpStage(**stage) for stage in bottom_up]
        downs = [stage if isinstance(stage, DownStage) else DownStage(**stage) for stage in top_down]
        channels, height, width = image_shape
        self.image_shape = (channels, height, width)
        self.bits = check_bits(bits)
        self.mixtures, self.pad, self.bins = mixtures, pad, bins
        self.output_scale, self.output_beta, self.min_log_scale = output_scale, output_beta, min_log_scale
        self.schedule = KLSchedule(**schedule) if isinstance(schedule, Mapping) else schedule or KLSchedule()
        self._check(ups, downs)
        layers = sum(sum(stage.blocks) for stage in downs)
        scale = layers**-0.5
        options = LatentOptions(
            base=latent_scale,
            beta=latent_beta,
            residual_posterior=residual_posterior,
            zero_prior=zero_prior,
            pointwise=pointwise,
            final_scale=scale if stable_init else 1.0,
            z_scale=scale,  # without it training diverges at once (paper, appendix C.1)
            posterior_reach=posterior_reach,
        )
        self.input = xavier_conv(channels, ups[0].width, input_kernel, padding=input_kernel // 2)
        self.bottom_up = _build_bottom_up(ups, options)
        bottom = _bottom_resolution(ups, (height + 2 * pad, width + 2 * pad))
        self.start = nn.Parameter(torch.empty(1, downs[0].width, *bottom))
        limit = (3.0 / self.start[0].numel()) ** 0.5
        nn.init.uniform_(self.start, -limit, limit)
        self.top_down = _build_top_down(downs, _skip_widths(ups), bottom, options)
        self.output = xavier_conv(downs[-1].width, self._head_channels(), output_kernel, padding=output_kernel // 2)
        for module in self.modules():
            if isinstance(module, Cell):
                module.recompute = recompute
        self._start(initial_scale, posterior_gain)

    @torch.no_grad()
    def _start(self, initial_scale: float | None, posterior_gain: float) -> None:
        """Initial values that differ from the official ones."""
        if initial_scale is not None and self.mixtures:
            channels = self.image_shape[0]
            bias = starting_bias(channels, self.mixtures, self.output_scale, self.output_beta, initial_scale)
            self.output.bias.copy_(bias)  # type: ignore[union-attr]
        for block in self.blocks:
            block.posterior_head.projection.weight[: block.latent_shape[0]].mul_(posterior_gain)

    def _check(self, ups: list[UpStage], downs: list[DownStage]) -> None:
        channels = self.image_shape[0]
        for name, stages in (("bottom_up", ups), ("top_down", downs)):
            if not stages or not all(stage.blocks and min(stage.blocks) > 0 for stage in stages):
                raise UserError(f"{name}: needs at least one stage, and at least one block in every level (blocks)")
            if any(int(stage.width * stage.ratio) < 1 for stage in stages):
                raise UserError(f"{name}: width * ratio is below 1 in a stage; raise either")
        if self.mixtures == 0 and self.bits != 1:
            raise UserError(f"mixtures=0 (Bernoulli output) needs bits=1, not bits={self.bits}")
        if channels not in (1, 3) and self.mixtures:
            raise UserError(f"image_shape: the mixture output knows 1 or 3 channels, not {channels}")
        if ups[-1].stride != 1 or downs[0].stride != 1:
            raise UserError(
                "bottom_up, top_down: the last and the first stage work at the same resolution, so both need stride 1"
            )
        up_levels = [len(stage.blocks) for stage in ups]
        down_levels = [len(stage.blocks) for stage in downs]
        if sum(up_levels) != sum(down_levels):
            raise UserError(
                f"bottom_up has {sum(up_levels)} levels, top_down {sum(down_levels)}; they must have as many"
            )
        up_steps = [s.stride for s in ups if s.stride > 1]
        down_steps = [s.stride for s in downs if s.stride > 1]
        if up_steps != down_steps[::-1]:
            raise UserError(
                f"strides of bottom_up are {up_steps}, of top_down backwards {down_steps[::-1]}; make them equal"
            )

    def _head_channels(self) -> int:
        channels = self.image_shape[0]
        if self.mixtures == 0:
            return channels
        return self.mixtures * (1 + (3 if channels == 3 else 2) * channels)

    @property
    def blocks(self) -> list[DownBlock]:
        """All stochastic blocks in top-down order."""
        return [block for level in self.top_down for block in (level.first, *level.rest)]

    def network_input(self, x: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> what the network sees, (B, C, H + 2 pad, W + 2 pad) in the network's precision."""
        levels = to_levels(x, self.bits)
        dtype = self.start.dtype
        values = level_values(levels, self.bits, dtype) if self.mixtures else levels.to(dtype)
        return F.pad(values, (self.pad,) * 4, value=-1.0 if self.mixtures else 0.0)

    def skips(self, x: Tensor) -> list[Tensor]:
        """The skip connections of images (B, C, H, W) uint8, lowest resolution first."""
        h, skips = self.input(self.network_input(x)), []
        for level in self.bottom_up:
            h, skip = level(h)
            skips.append(skip)
        return skips[::-1]

    def head(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, skips: Sequence[Tensor] | None = None
    ) -> Tensor:
        """The one traversal: raw output (B, channels, H + 2 pad, W + 2 pad) with every latent asked of `policy`.

        Args:
            policy: where each latent comes from.
            x: images that the posteriors look at, or None for a pass without posteriors.
            n: batch size if `x` is None.
            skips: the skip connections of `x`, if already computed.
        """
        if skips is None and x is not None:
            skips = self.skips(x)
        batch = n if skips is None else len(skips[0])
        h = self.start.expand(batch, -1, -1, -1)  # (B, W, R, R)
        for index, level in enumerate(self.top_down):
            h = level(h, None if skips is None else skips[index], policy)
        return self.output(h)

    def pixels(self, head: Tensor) -> PixelDistribution:
        """Raw output -> distribution over levels (B, C, H, W)."""
        if self.pad:
            head = head[..., self.pad : -self.pad, self.pad : -self.pad]
        if self.mixtures == 0:
            return Bernoulli(head)
        return smoothed_mixture(
            head,
            channels=self.image_shape[0],
            bits=self.bits,
            base=self.output_scale,
            beta=self.output_beta,
            min_log_scale=self.min_log_scale,
            bins=self.bins,
        )

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> PixelDistribution:
        """See `AncestralModel`; the model is unconditional, so `label` is not used."""
        return self.pixels(self.head(policy, x, n))

    def objective(self, x: Tensor, label: Tensor | None = None, step: int = 0) -> Objective:
        """Distortion plus scheduled KL in nats per dimension; see `KLSchedule`."""
        policy = SamplePosterior()
        pixels = self.ancestral_pass(policy, x)
        terms = LikelihoodTerms(pixels.log_prob(to_levels(x, self.bits)).neg(), policy.rates, self.num_dims)
        weight = torch.tensor(self.schedule.weight(step))
        return Objective(self.training_loss(terms, step), terms, {"kl_weight": weight})

    @property
    def num_dims(self) -> int:
        """Dimensions of one image."""
        channels, height, width = self.image_shape
        return channels * height * width

    def training_loss(self, terms: LikelihoodTerms, step: int) -> Tensor:
        """Scalar in nats per dimension: mean distortion plus the KL terms as the schedule weighs them at `step`."""
        sizes = [latents * height * width for latents, height, width in (b.latent_shape for b in self.blocks)]
        rate = self.schedule.weighted_rate(terms.rates, sizes, terms.num_dims, step)
        return terms.distortion.mean() / terms.num_dims + rate

    def site_temperatures(self, per_level: Sequence[float]) -> list[float]:
        """One temperature per level (lowest resolution first) -> one per stochastic block.

        The official code sets temperatures by level; `SamplePrior` takes one per site.
        """
        if len(per_level) != len(self.top_down):
            raise UserError(f"{len(per_level)} temperatures for {len(self.top_down)} levels")
        return [t for t, level in zip(per_level, self.top_down, strict=True) for _ in range(1 + len(level.rest))]


def linear_temperatures(first: float, last: float, levels: int) -> list[float]:
    """`levels` temperatures from `first` towards `last`, which is never reached (as in the official code).

    Example:
        >>> linear_temperatures(0.5, 1.0, 2)
        [0.5, 0.75]
    """
    return [first + i * (last - first) / levels for i in range(levels)]


def _skip_widths(ups: list[UpStage]) -> list[int]:
    """Channels of the skip connection of every top-down level."""
    return [stage.skip or stage.width for stage in ups for _ in stage.blocks][::-1]


def _bottom_resolution(ups: list[UpStage], resolution: tuple[int, int]) -> tuple[int, int]:
    """Height and width after all poolings."""
    *_, factor = accumulate((stage.stride for stage in ups), lambda a, b: a * b)
    if resolution[0] % factor or resolution[1] % factor:
        raise UserError(
            f"image_shape: {resolution} with border is not divisible by {factor}, the product of all strides"
        )
    return resolution[0] // factor, resolution[1] // factor


def _build_bottom_up(ups: list[UpStage], options: LatentOptions) -> nn.ModuleList:
    """One `UpLevel` per entry of every stage's `blocks`; the last of a stage pools to the next stage's width."""
    levels: list[UpLevel] = []
    for stage, after in pairwise([*ups, None]):
        if after is not None and stage.stride == 1 and after.width != stage.width:
            raise UserError(f"bottom_up: width changes from {stage.width} to {after.width} without pooling (stride)")
        last = len(stage.blocks) - 1
        for position, blocks in enumerate(stage.blocks):
            pooled = after.width if after is not None and position == last and stage.stride > 1 else None
            levels.append(UpLevel(stage, blocks, pooled, options.final_scale, options.pointwise))
    return nn.ModuleList(levels)


def _build_top_down(
    downs: list[DownStage], skips: list[int], resolution: tuple[int, int], options: LatentOptions
) -> nn.ModuleList:
    """One `DownLevel` per entry of every stage's `blocks`; the first block of a stage with a stride unpools."""
    levels: list[DownLevel] = []
    width, index = downs[0].width, 0
    for stage in downs:
        if stage.stride == 1 and stage.width != width:
            raise UserError(f"top_down: width changes from {width} to {stage.width} without unpooling (stride)")
        resolution = (resolution[0] * stage.stride, resolution[1] * stage.stride)
        for position, blocks in enumerate(stage.blocks):
            skip = skips[len(levels)]
            made = []
            for number in range(blocks):
                unpools = stage.stride > 1 and position == 0 and number == 0
                made.append(DownBlock(index, resolution, stage, skip, width if unpools else None, options))
                width, index = stage.width, index + 1
            levels.append(DownLevel(made))
    return nn.ModuleList(levels)


__all__: list[Any] = ["EfficientVDVAE", "linear_temperatures"]
