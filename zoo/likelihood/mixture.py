"""Discretised mixture of logistics: the pixel distribution of most likelihood models (Salimans et al. 2017, section 2).

Letters: B batch, C channels (1 or 3), M mixture components, H and W image size, V = 2**bits levels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from zoo.likelihood.levels import Bins, check_bits, half_bin, level_values
from zoo.likelihood.official import efficient_vdvae_log_mass, vdvae_log_mass
from zoo.likelihood.precision import full
from zoo.likelihood.visit import Choose

# exp(30) still fits float32 with room for products, and a logistic this sharp is a point mass on every grid of levels.
_SHARPEST, _WIDEST = -30.0, 60.0
_HUGE = 1e30
_BLOCK_ELEMENTS = 1 << 16  # components of pixels visited at once, so that a few arrays of them stay in the cache


def bin_log_mass(offset: Tensor, log_scale: Tensor, levels: Tensor, bits: int) -> Tensor:
    """Log-mass of one bin of a logistic, exact and free of branches.

    With edges a > b in units of the scale, `log(sigmoid(a) - sigmoid(b))` equals
    `logsigmoid(a) + logsigmoid(-b) + log(1 - exp(b - a))`, and a - b is the bin width alone, so nothing cancels however
    far the bin lies in a tail. The lowest and the highest bin reach to infinity.

    Args:
        offset: centre of the level minus mean of the logistic, broadcastable.
        log_scale: natural logarithm of the scale, broadcastable with `offset`.
        levels: integer levels, broadcastable.
        bits: depth of the levels.

    Returns:
        Nats, the broadcast shape.
    """
    half = half_bin(bits)
    inverse = torch.exp(-log_scale)
    upper = (inverse * (offset + half)).clamp(-_HUGE, _HUGE)
    lower = (inverse * (offset - half)).clamp(-_HUGE, _HUGE)
    below_upper = F.logsigmoid(upper)
    above_lower = F.logsigmoid(-lower)
    width = torch.log(-torch.expm1(-2.0 * half * inverse))
    interior = below_upper + above_lower + width
    return torch.where(levels == 0, below_upper, torch.where(levels == 2**bits - 1, above_lower, interior))


def head_channels(channels: int, mixtures: int) -> int:
    """Channels of the network output that describes M logistics over C colours: 10 M for C = 3, 3 M for C = 1."""
    return mixtures * (1 + channels * (3 if channels == 3 else 2))


def split_head(head: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The parts of a network output, in the layout of the official codes and in full precision.

    Channels: M logits, then for each colour M means, M log-scales and (if C = 3) M raw coefficients.

    Args:
        head: (B, `head_channels`, H, W).
        channels: C, 1 or 3.

    Returns:
        Logits (B, M, H, W); means and log-scales (B, C, M, H, W); coefficients (B, 3, M, H, W), squashed by tanh, or
        None for C = 1.
    """
    kinds = 3 if channels == 3 else 2
    mixtures = head.shape[1] // (1 + kinds * channels)
    if mixtures == 0 or head.shape[1] != head_channels(channels, mixtures):
        unit = head_channels(channels, 1)
        raise ValueError(
            f"a mixture head of {channels} channel(s) has a multiple of {unit} channels, got {head.shape[1]}"
        )
    head = full(head)
    # (B, kinds C M, H, W) -> (B, C, kind, M, H, W)
    means, log_scales, *raw = head[:, mixtures:].unflatten(1, (channels, kinds, mixtures)).unbind(dim=2)
    return head[:, :mixtures], means, log_scales, raw[0].tanh() if raw else None


class LogisticMixture:
    """Mixture of logistics over integer levels; one mixture index per pixel, colours coupled by the means.

    The mean of green moves with red, the mean of blue with red and green:
    `m_G + c_0 r`, `m_B + c_1 r + c_2 g`, where r and g are the true values on the [-1, 1] axis.

    Args:
        logits: (B, M, H, W) unnormalised log-weights.
        means: (B, C, M, H, W) on the [-1, 1] axis.
        log_scales: (B, C, M, H, W) natural logarithm of the scales, clamped from below to `min_log_scale`.
        coefficients: (B, 3, M, H, W) in the order R->G, R->B, G->B, already squashed; None for C = 1.
        bits: depth of the levels it prices, 1 to 8.
        bins: "normalised" (default; levels sum to one), or the formula of an official code.
        min_log_scale: smallest log-scale. Child (2020) uses -7; Hazami et al. (2022, section 6) lift the bound.

    Example:
        >>> mixture = LogisticMixture.from_head(torch.zeros(1, 10, 1, 1), bits=8)
        >>> mixture.log_prob(torch.zeros(1, 3, 1, 1, dtype=torch.long)).shape
        torch.Size([1])
    """

    def __init__(
        self,
        logits: Tensor,
        means: Tensor,
        log_scales: Tensor,
        coefficients: Tensor | None,
        bits: int,
        bins: Bins = "normalised",
        min_log_scale: float = -7.0,
    ) -> None:
        self.bits = check_bits(bits)
        self.bins = bins
        self.min_log_scale = min_log_scale
        self.logits = logits
        self.means = means
        self.raw_log_scales = log_scales
        self.coefficients = coefficients

    @classmethod
    def from_head(
        cls, head: Tensor, bits: int, bins: Bins = "normalised", min_log_scale: float = -7.0, channels: int = 3
    ) -> LogisticMixture:
        """Read the head of the official codes; see `split_head`.

        Args:
            head: (B, 10 M or 3 M, H, W) network output for C = 3 or 1.
            bits: depth of the levels.
            bins: see the class.
            min_log_scale: see the class.
            channels: C.
        """
        return cls(*split_head(head, channels), bits, bins, min_log_scale)

    @property
    def log_scales(self) -> Tensor:
        """(B, C, M, H, W), clamped to the range in which float32 stays finite."""
        return self.raw_log_scales.clamp(max(self.min_log_scale, _SHARPEST), _WIDEST)

    @property
    def num_channels(self) -> int:
        """C, 1 or 3."""
        return self.means.shape[1]

    def log_prob(self, levels: Tensor) -> Tensor:
        """Log-probability of integer levels.

        Args:
            levels: (B, C, H, W) int64 in [0, 2**bits).

        Returns:
            (B,) nats, summed over pixels.
        """
        values = level_values(levels, self.bits, self.means.dtype)  # (B, C, H, W)
        means = self._conditional_means(values)  # (B, C, M, H, W)
        log_mass = self._log_mass(values.unsqueeze(2), means, levels.unsqueeze(2)).sum(1)  # (B, M, H, W)
        log_pixel = torch.logsumexp(log_mass + F.log_softmax(self.logits, dim=1), dim=1)  # (B, H, W)
        return log_pixel.flatten(1).sum(1)

    def sample(self) -> Tensor:
        """Draw levels exactly: pick a component, draw its logistic, round to the bin it falls in.

        Bins are open at both ends of the axis, so rounding and clipping gives just the mass of each level.

        Returns:
            (B, C, H, W) int64 levels.
        """
        gumbel = -torch.log(-torch.log(torch.rand_like(self.logits).clamp_min(1e-20)))
        chosen = (self.logits + gumbel).argmax(dim=1, keepdim=True)  # (B, 1, H, W)
        uniform = torch.rand_like(self.means[:, :, 0]).clamp(1e-7, 1 - 1e-7)
        noise = torch.logit(uniform)  # (B, C, H, W) standard logistic
        levels: list[Tensor] = []
        for channel in range(self.num_channels):
            values = [level_values(known, self.bits, self.means.dtype) for known in levels]
            mean = self._channel_mean(channel, values).gather(1, chosen).squeeze(1)  # (B, H, W)
            scale = self.log_scales[:, channel].gather(1, chosen).squeeze(1).exp()
            levels.append(self._nearest_level(mean + scale * noise[:, channel]))
        return torch.stack(levels, dim=1)

    def visit(self, choose: Choose) -> Tensor:
        """Visit red, green and blue in turn, a block of images or rows at a time; see `zoo.likelihood.visit`.

        The weights of the components are updated by each known colour, which makes the product of the three laws
        equal to the joint mixture.

        Raises:
            ValueError: under an official bins, whose bins may overlap and so cannot be coded.
        """
        if self.bins != "normalised":
            raise ValueError(f"only the normalised bins can be coded, not {self.bins!r}")
        shape = (self.means.shape[0], self.num_channels, *self.means.shape[3:])
        levels = torch.zeros(shape, dtype=torch.long, device=self.means.device)
        for images, rows in self._blocks():
            block = self._crop(images, rows)
            log_weights = F.log_softmax(block.logits, dim=1)  # (b, M, h, W)
            values: list[Tensor] = []
            for channel in range(self.num_channels):
                mean = block._channel_mean(channel, values)
                scales = block.log_scales[:, channel]
                index = (images, channel, rows)
                known = choose(index, MixtureLaw(mean, scales, log_weights.softmax(dim=1), self.bits))  # (b, h, W)
                levels[index] = known
                if channel == self.num_channels - 1:
                    continue
                value = level_values(known, self.bits, mean.dtype)
                log_weights = log_weights + bin_log_mass(
                    value.unsqueeze(1) - mean, scales, known.unsqueeze(1), self.bits
                )
                values.append(value)
        return levels

    # -- internals ------------------------------------------------------------------------------------------------

    def _log_mass(self, values: Tensor, means: Tensor, levels: Tensor) -> Tensor:
        """Log-mass per component under the bins, (B, C, M, H, W) nats."""
        if self.bins == "vdvae":
            return vdvae_log_mass(values, means, self.raw_log_scales.clamp_min(self.min_log_scale), self.bits)
        if self.bins == "efficient_vdvae":
            return efficient_vdvae_log_mass(values, means, self.raw_log_scales, self.bits)
        return bin_log_mass(values - means, self.log_scales, levels, self.bits)

    def _conditional_means(self, values: Tensor) -> Tensor:
        """(B, C, M, H, W) means given the true values (B, C, H, W) of the earlier colours."""
        if self.coefficients is None:
            return self.means
        earlier = list(values.unbind(dim=1))
        return torch.stack([self._channel_mean(c, earlier[:c]) for c in range(self.num_channels)], dim=1)

    def _channel_mean(self, channel: int, earlier: list[Tensor]) -> Tensor:
        """(B, M, H, W) means of one colour given the values (B, H, W) of the earlier ones."""
        mean = self.means[:, channel]
        if self.coefficients is None or channel == 0:
            return mean
        if channel == 1:
            return mean + self.coefficients[:, 0] * earlier[0].unsqueeze(1)
        return (
            mean + self.coefficients[:, 1] * earlier[0].unsqueeze(1) + self.coefficients[:, 2] * earlier[1].unsqueeze(1)
        )

    def _nearest_level(self, value: Tensor) -> Tensor:
        """The level whose bin contains a real value of the [-1, 1] axis."""
        steps = (value + 1.0) / (2.0 * half_bin(self.bits))
        return steps.round().clamp(0, 2**self.bits - 1).long()

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        """Slices of images and rows whose components stay near the cache."""
        batch, mixtures, height, width = self.logits.shape
        rows = max(1, min(height, _BLOCK_ELEMENTS // (mixtures * width)))
        images = max(1, _BLOCK_ELEMENTS // (mixtures * width * height))
        for first in range(0, batch, images):
            for top in range(0, height, rows):
                yield slice(first, min(first + images, batch)), slice(top, min(top + rows, height))

    def _crop(self, images: slice, rows: slice) -> LogisticMixture:
        """A block of images and rows, at least in float32."""
        kept = torch.promote_types(self.means.dtype, torch.float32)
        return LogisticMixture(
            self.logits[images, :, rows].to(kept),
            self.means[images, :, :, rows].to(kept),
            self.raw_log_scales[images, :, :, rows].to(kept),
            None if self.coefficients is None else self.coefficients[images, :, :, rows].to(kept),
            self.bits,
            self.bins,
            self.min_log_scale,
        )


class MixtureLaw:
    """The law of one colour of a block of pixels, given the colours before it.

    Args:
        means: (b, M, h, W) of the components.
        log_scales: the same shape.
        weights: the same shape, summing to one over the components.
        bits: depth of the levels.
    """

    def __init__(self, means: Tensor, log_scales: Tensor, weights: Tensor, bits: int) -> None:
        self.means, self.log_scales, self.weights, self.bits = means, log_scales, weights, bits
        self.inverse = torch.exp(-log_scales)

    @property
    def levels(self) -> int:
        """V = 2**bits."""
        return 1 << self.bits

    @property
    def shape(self) -> torch.Size:
        """(b, h, W)."""
        return self.means[:, 0].shape

    def probs(self) -> Tensor:
        """(b, h, W, V) float64 masses of every level."""
        inner = level_values(torch.arange(self.levels - 1, device=self.means.device), self.bits, torch.float64)
        edges = inner + half_bin(self.bits)  # (V - 1,)
        # (b, M, h, W) -> (pixels, M): components last, so that the weights contract them in one matrix product
        last = [part.double().permute(0, 2, 3, 1).flatten(0, 2) for part in (self.means, self.log_scales, self.weights)]
        weights = last[2] / last[2].sum(1, keepdim=True)  # to one in float64: the tails are that small
        inverse = torch.exp(-last[1])
        centres = last[0] * inverse
        below = torch.addcmul(-centres.unsqueeze(-1), inverse.unsqueeze(-1), edges).sigmoid_()  # (pixels, M, V - 1)
        cumulative = torch.bmm(weights.unsqueeze(1), below).squeeze(1)  # (pixels, V - 1)
        mass = torch.diff(F.pad(F.pad(cumulative, (1, 0), value=0.0), (0, 1), value=1.0)).clamp_min(0.0)
        return mass.reshape(self.means.shape[0], *self.means.shape[2:], -1)  # (b, h, W, V)

    def below(self, edges: Tensor) -> Tensor:
        """P(level < edge), (E, b, h, W) for inner edges (E, b, h, W); where an edge is 0 or V the caller knows it."""
        places = level_values(edges, self.bits, self.means.dtype) - half_bin(self.bits)
        inside = torch.sub(places.unsqueeze(2), self.means)  # (E, b, M, h, W)
        return inside.mul_(self.inverse).sigmoid_().mul_(self.weights).sum(2)
