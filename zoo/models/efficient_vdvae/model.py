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

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError
from zoo.likelihood.bernoulli import Bernoulli
from zoo.likelihood.latents import LatentPolicy, SamplePosterior
from zoo.likelihood.levels import Bins, check_bits, level_values, to_levels
from zoo.likelihood.mixture import head_channels
from zoo.likelihood.model import AncestralModel, PixelDistribution
from zoo.likelihood.precision import outside_autocast
from zoo.likelihood.terms import LikelihoodTerms, Objective
from zoo.models.efficient_vdvae.architecture import LN2, Architecture, ScaleBase
from zoo.models.efficient_vdvae.blocks import BottomUpLevel, StochasticBlock, TopDownLevel, xavier_conv
from zoo.models.efficient_vdvae.output import smoothed_mixture, starting_bias
from zoo.models.efficient_vdvae.schedule import KLSchedule


@dataclass(frozen=True)
class Output:
    """The distribution of the pixels.

    Attributes:
        mixtures: components of the logistic mixture; 0 = Bernoulli output for binary images (needs bits = 1).
        scale: "std" (softplus) or "logstd" (exponential) scales.
        beta: gradient smoothing of the scales; 1 = none.
        min_log_scale: lower limit of the log scale; -7 is the paper's "bounded", -14 (5 bits) and -250 (8 bits) its
            "unbounded".
    """

    mixtures: int = 10
    scale: ScaleBase = "std"
    beta: float = LN2
    min_log_scale: float = -250.0


@dataclass(frozen=True)
class Aids:
    """What helps short trainings; the defaults are the official code, which has none.

    Attributes:
        initial_scale: start with a mixture of this scale, spread over the axis (see `starting_bias`); None starts from
            zeros.
        posterior_gain: factor on the initial weights of the posterior means, so that latents are used sooner.
        max_posterior_shift: largest distance of a posterior's mean from the prior's, in the prior's standard
            deviations (see `zoo.models.blocks.within`); None sets no limit.
    """

    initial_scale: float | None = None
    posterior_gain: float = 1.0
    max_posterior_shift: float | None = None


class EfficientVDVAE(AncestralModel):
    """Hierarchical VAE with per-resolution widths and softplus standard deviations.

    Differences to VDVAE: SiLU; pooling and unpooling by convolutions with LeakyReLU; a learned bias map at every
    unpooling and a learned start; projected skip connections, one per level and not per resolution; widths that change
    through convolutions; no gain and bias before the output.

    Args:
        image_shape: (C, H, W) of the images it prices.
        bits: bit depth, 1 to 8. Input and target are both reduced to it.
        architecture: the network.
        output: the distribution of the pixels.
        bins: how a level's mass is computed; "efficient_vdvae" gives the official numbers.
        schedule: KL weights during training.
        aids: for short trainings.

    Raises:
        UserError: if resolutions, widths and depth do not fit together.
    """

    latent_sizes: Tensor

    def __init__(
        self,
        image_shape: Sequence[int],
        bits: int,
        architecture: Architecture,
        output: Output = Output(),
        bins: Bins = "normalised",
        schedule: KLSchedule = KLSchedule(),  # noqa: B008
        aids: Aids = Aids(),
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.image_shape = (channels, height, width)
        self.bits = check_bits(bits)
        if output.mixtures == 0 and bits != 1:
            raise UserError(f"mixtures=0 (Bernoulli output) needs bits=1, not bits={bits}")
        if channels not in (1, 3) and output.mixtures:
            raise UserError(f"image_shape: the mixture output knows 1 or 3 channels, not {channels}")
        self.described, self.bins, self.schedule, self.pad = output, bins, schedule, architecture.pad
        net, first = architecture, architecture.bottom_up[0]
        self.input = xavier_conv(channels, first.width, net.input_kernel, padding=net.input_kernel // 2)
        self.bottom_up = _build_bottom_up(net)
        bottom = _bottom_resolution(net, (height + 2 * self.pad, width + 2 * self.pad))
        self.start = nn.Parameter(torch.empty(1, net.top_down[0].width, *bottom))
        limit = (3.0 / self.start[0].numel()) ** 0.5
        nn.init.uniform_(self.start, -limit, limit)
        self.top_down = _build_top_down(net, bottom, aids.max_posterior_shift)
        numbers = head_channels(channels, output.mixtures) if output.mixtures else channels
        self.output = xavier_conv(net.top_down[-1].width, numbers, net.output_kernel, padding=net.output_kernel // 2)
        sizes = [float(math.prod(block.latent_shape)) for block in self.blocks]
        self.register_buffer("latent_sizes", torch.tensor(sizes), persistent=False)
        self._start(aids)

    @torch.no_grad()
    def _start(self, aids: Aids) -> None:
        """Initial values that differ from the official ones."""
        out = self.described
        if aids.initial_scale is not None and out.mixtures and self.output.bias is not None:
            bias = starting_bias(self.image_shape[0], out.mixtures, out.scale, out.beta, aids.initial_scale)
            self.output.bias.copy_(bias)
        for block in self.blocks:
            block.posterior_head.projection.weight[: block.latent_shape[0]].mul_(aids.posterior_gain)

    @property
    def blocks(self) -> list[StochasticBlock]:
        """All stochastic blocks in top-down order."""
        levels = cast(Iterable[TopDownLevel], self.top_down)
        return [block for level in levels for block in level.blocks]

    def network_input(self, x: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> what the network sees, (B, C, H + 2 pad, W + 2 pad) in the network's precision."""
        levels = to_levels(x, self.bits)
        dtype = self.start.dtype
        values = level_values(levels, self.bits, dtype) if self.described.mixtures else levels.to(dtype)
        return F.pad(values, (self.pad,) * 4, value=-1.0 if self.described.mixtures else 0.0)

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
        return outside_autocast(self.output, h)

    def pixels(self, head: Tensor) -> PixelDistribution:
        """Raw output -> distribution over levels (B, C, H, W)."""
        if self.pad:
            head = head[..., self.pad : -self.pad, self.pad : -self.pad]
        if self.described.mixtures == 0:
            return Bernoulli(head)
        return smoothed_mixture(
            head,
            channels=self.image_shape[0],
            bits=self.bits,
            base=self.described.scale,
            beta=self.described.beta,
            min_log_scale=self.described.min_log_scale,
            bins=self.bins,
        )

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> PixelDistribution:
        """See `AncestralModel`; the model is unconditional, so `label` is not used."""
        return self.pixels(self.head(policy, x, n))

    def objective(self, x: Tensor, label: Tensor | None = None, step: int | Tensor = 0) -> Objective:
        """Distortion plus scheduled KL in nats per dimension; see `KLSchedule`."""
        policy = SamplePosterior()
        pixels = self.ancestral_pass(policy, x)
        terms = LikelihoodTerms(pixels.log_prob(to_levels(x, self.bits)).neg(), policy.rates, self.num_dims)
        return Objective(self.training_loss(terms, step), terms, {"kl_weight": self.schedule.weight(step)})

    def recomputed_blocks(self) -> Iterator[tuple[nn.Module, str]]:
        """See `LikelihoodModel`."""
        for level in cast(Iterable[BottomUpLevel], self.bottom_up):
            yield from ((block, "forward") for block in (*level.rest, level.last))
        for block in self.blocks:
            yield from ((block, method) for method in ("propose", "infer", "descend"))

    @property
    def num_dims(self) -> int:
        """Dimensions of one image."""
        channels, height, width = self.image_shape
        return channels * height * width

    def training_loss(self, terms: LikelihoodTerms, step: int | Tensor) -> Tensor:
        """Scalar in nats per dimension: mean distortion plus the KL terms as the schedule weighs them at `step`."""
        rate = self.schedule.weighted_rate(terms.rates, self.latent_sizes, terms.num_dims, step)
        return terms.distortion.mean() / terms.num_dims + rate

    def site_temperatures(self, per_level: Sequence[float]) -> list[float]:
        """One temperature per level (lowest resolution first) -> one per stochastic block.

        The official code sets temperatures by level; `SamplePrior` takes one per site.
        """
        if len(per_level) != len(self.top_down):
            raise UserError(f"{len(per_level)} temperatures for {len(self.top_down)} levels")
        levels = cast(Iterable[TopDownLevel], self.top_down)
        return [t for t, level in zip(per_level, levels, strict=True) for _ in level.blocks]


def linear_temperatures(first: float, last: float, levels: int) -> list[float]:
    """`levels` temperatures from `first` towards `last`, which is never reached (as in the official code).

    Example:
        >>> linear_temperatures(0.5, 1.0, 2)
        [0.5, 0.75]
    """
    return [first + i * (last - first) / levels for i in range(levels)]


def _bottom_resolution(net: Architecture, resolution: tuple[int, int]) -> tuple[int, int]:
    """Height and width after all poolings."""
    *_, factor = accumulate((stage.stride for stage in net.bottom_up), lambda a, b: a * b)
    if resolution[0] % factor or resolution[1] % factor:
        raise UserError(
            f"image_shape: {resolution} with border is not divisible by {factor}, the product of all strides"
        )
    return resolution[0] // factor, resolution[1] // factor


def _build_bottom_up(net: Architecture) -> nn.ModuleList:
    """One level per entry of every stage's `blocks`; the last of a stage pools to the next stage's width."""
    levels: list[BottomUpLevel] = []
    for stage, after in zip(net.bottom_up, [*net.bottom_up[1:], None], strict=True):
        if after is not None and stage.stride == 1 and after.width != stage.width:
            raise UserError(f"bottom_up: width changes from {stage.width} to {after.width} without pooling (stride)")
        last = len(stage.blocks) - 1
        for position, blocks in enumerate(stage.blocks):
            pooled = after.width if after is not None and position == last and stage.stride > 1 else None
            levels.append(BottomUpLevel(stage, blocks, pooled, net.final_scale, net.pointwise))
    return nn.ModuleList(levels)


def _build_top_down(net: Architecture, resolution: tuple[int, int], max_shift: float | None) -> nn.ModuleList:
    """One level per entry of every stage's `blocks`; the first block of a stage with a stride unpools."""
    levels: list[TopDownLevel] = []
    width, index, skips = net.top_down[0].width, 0, net.skips
    for stage in net.top_down:
        if stage.stride == 1 and stage.width != width:
            raise UserError(f"top_down: width changes from {width} to {stage.width} without unpooling (stride)")
        resolution = (resolution[0] * stage.stride, resolution[1] * stage.stride)
        for position, blocks in enumerate(stage.blocks):
            made = []
            for number in range(blocks):
                inputs = width if stage.stride > 1 and position == 0 and number == 0 else None
                made.append(StochasticBlock(index, resolution, stage, skips[len(levels)], inputs, net, max_shift))
                width, index = stage.width, index + 1
            levels.append(TopDownLevel(made))
    return nn.ModuleList(levels)
