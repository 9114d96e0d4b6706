"""PixelSNAIL over colour pixels: the autoregressive baseline (Chen et al. 2018)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.likelihood import (
    AncestralModel,
    Choose,
    LatentPolicy,
    Law,
    LogisticMixture,
    Table,
    check_bits,
    draw,
    from_levels,
    level_values,
)
from zoo.likelihood.mixture import head_channels
from zoo.likelihood.visit import Index
from zoo.models.pixelsnail.incremental import SnailStepper
from zoo.models.pixelsnail.layers import bias_of
from zoo.models.pixelsnail.trunk import PixelInput, SnailConfig, SnailTrunk

_FIRST_LOG_SCALE = -2.0


class AutoregressivePixels:
    """Distribution over images: priced in one pass, drawn and coded pixel by pixel.

    A spatial position is one step of the network and C visits, red before green before blue.

    Args:
        network: the causal network.
        n: batch size.
        label: (B,) classes, -1 = none, or None.
        condition: (B, C', h, w) map that every pixel may look at, or None.
        temperature: divides the log-probability of every level when drawing or coding.
    """

    def __init__(
        self,
        network: "CausalPixels",
        n: int,
        label: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.network, self.n, self.label, self.condition = network, n, label, condition
        self.temperature = temperature

    def scaled(self, temperature: float) -> "AutoregressivePixels":
        """The same distribution drawn at a temperature."""
        return AutoregressivePixels(self.network, self.n, self.label, self.condition, temperature)

    def log_prob(self, levels: Tensor) -> Tensor:
        """(B,) nats of levels (B, C, H, W)."""
        return self.network.mixture(self.network.head(levels, self.label, self.condition)).log_prob(levels)

    def sample(self) -> Tensor:
        """(B, C, H, W) levels."""
        return self.visit(draw)

    def visit(self, choose: Choose) -> Tensor:
        """Visit every level in raster order; tables are (B, V), indices `(slice(None), channel, row, column)`."""
        channels, height, width = self.network.image_shape
        with torch.inference_mode():
            stepper = self.network.stepper(self.n, self.label, self.condition)
            levels = torch.zeros(self.n, channels, height, width, dtype=torch.long, device=stepper.edges.device)
            for row in range(height):
                for column in range(width):
                    pixel = self._pixel(stepper.at(row, column), row, column, choose)  # (B, C)
                    levels[:, :, row, column] = pixel
                    stepper.store(row, column, level_values(pixel, self.network.bits, stepper.edges.dtype))
                if self.network.progress is not None:
                    self.network.progress(row + 1, height)
        return levels.clone()

    def _pixel(self, head: Tensor, row: int, column: int, choose: Choose) -> Tensor:
        """The C visits of one position, (B, C)."""

        def here(index: Index, law: Law | Tensor) -> Tensor:
            assert not isinstance(law, Tensor)  # a mixture gives laws
            images, channel, *_ = index
            table = law.probs().flatten(0, 2)  # (b, 1, 1, V) -> (b, V)
            if self.temperature != 1.0:
                table = torch.softmax(table.clamp_min(1e-300).log() / max(self.temperature, 1e-6), -1)
            return choose((images, channel, row, column), Table(table)).view(-1, 1, 1)

        return self.network.mixture(head[:, :, None, None]).visit(here)[:, :, 0, 0]


class CausalPixels(nn.Module):
    """p(pixels | condition): a causal network over pixels with a discretised mixture of logistics.

    `PixelSNAIL` is this network alone. Behind a decoder it takes the place of pixels drawn independently of each other
    (Gulrajani et al. 2017, "PixelVAE").

    Args:
        image_shape: [channels, height, width]; channels 1 or 3.
        bits: depth of the levels.
        trunk: the causal network.
        mixtures: logistic components per pixel.
        classes: number of classes the label is drawn from, 0 for none.
        condition: channels C' of the map that every pixel may look at, 0 for none.
    """

    progress: Callable[[int, int], None] | None = None

    def __init__(
        self,
        image_shape: Sequence[int],
        bits: int,
        trunk: SnailConfig | dict[str, Any],
        mixtures: int,
        classes: int = 0,
        condition: int = 0,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        config = SnailConfig.of(trunk)
        self.image_shape, self.bits = (channels, height, width), check_bits(bits)
        self.mixtures, self.classes = mixtures, classes
        inputs = PixelInput(channels, config.channels, config.input_kernel)
        outputs = head_channels(channels, mixtures)
        self.trunk = SnailTrunk(inputs, config, outputs, height, width, condition=condition, classes=classes)
        with torch.no_grad():  # start with scales of natural images; a bias moves by no more than the rate in a step
            bias = bias_of(self.trunk.final)
            scales = bias[mixtures:].view(3, 3, mixtures)[:, 1] if channels == 3 else bias.view(3, mixtures)[2]
            scales.fill_(_FIRST_LOG_SCALE)

    def head(self, levels: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """(B, 10 M or 3 M, H, W) mixture parameters of all positions, each given the pixels before it."""
        values = level_values(levels, self.bits, self.trunk.final.gain.dtype)
        result: Tensor = self.trunk(values, condition, label if self.classes else None)
        return result

    def mixture(self, head: Tensor) -> LogisticMixture:
        """The distribution that a head (B, outputs, H, W) describes."""
        return LogisticMixture.from_head(head, self.bits, channels=self.image_shape[0])

    def stepper(self, n: int, label: Tensor | None = None, condition: Tensor | None = None) -> SnailStepper:
        """The cached network, for walking position by position."""
        return SnailStepper(self.trunk, n, condition, label if self.classes else None)


class PixelSNAIL(CausalPixels, AncestralModel):
    """Causal network over pixels with a discretised mixture of logistics. It has no latents.

    Args:
        image_shape: [channels, height, width]; channels 1 or 3.
        bits: depth of the levels.
        trunk: the causal network. `SnailConfig` documents its options; the published networks are `variant: chen`.
        mixtures: logistic components per pixel.
        classes: number of classes the label is drawn from, 0 for none.

    Example:
        >>> small = SnailConfig(channels=16, residual_channels=8, blocks=1, layers_per_block=1, heads=2)
        >>> PixelSNAIL(image_shape=[3, 4, 4], trunk=small).sample(2).shape
        torch.Size([2, 3, 4, 4])
    """

    kind = "exact"

    def __init__(
        self,
        image_shape: list[int],
        bits: int = 8,
        trunk: SnailConfig | dict[str, Any] = SnailConfig(),  # noqa: B008
        mixtures: int = 10,
        classes: int = 0,
    ) -> None:
        super().__init__(image_shape, bits, trunk, mixtures, classes)

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> AutoregressivePixels:
        """The pixel distribution; there is no site to visit."""
        return AutoregressivePixels(self, n if x is None else len(x), label)

    def sample(self, n: int, temperature: float = 1.0, label: Tensor | None = None) -> Tensor:
        """Draw `n` images (n, C, H, W) uint8; the temperature divides the log-probabilities of the levels."""
        return from_levels(AutoregressivePixels(self, n, label, temperature=temperature).sample(), self.bits)

    def recomputed_blocks(self) -> Iterator[tuple[nn.Module, str]]:
        """The pixel blocks."""
        return ((block, "forward") for block in self.trunk.blocks)
