"""A PixelCNN with a softmax over the levels of grey images (van den Oord et al. 2016): exact, and coded pixel by pixel.

ZOO_PLUGINS=pixelcnn zoo fit --config pixelcnn.yaml
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from zoo.likelihood import AncestralModel, Categorical, Choose, LatentPolicy, check_bits, draw, level_values


class CausalConv(nn.Conv2d):
    """A convolution that sees the rows above, the columns to the left and, unless it is the first, its own place."""

    def __init__(self, inputs: int, outputs: int, size: int, first: bool) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)
        mask = torch.ones(size, size)
        mask[size // 2, size // 2 + (not first) :] = 0
        mask[size // 2 + 1 :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        return conv2d(x, self.weight * self.get_buffer("mask"), self.bias, padding=self.padding)


class Pixels:
    """The distribution over images (B, 1, H, W): priced in one pass, drawn and coded in raster order."""

    def __init__(self, model: PixelCNN, n: int) -> None:
        self.model, self.n = model, n

    def log_prob(self, levels: Tensor) -> Tensor:
        """(B,) nats of levels (B, 1, H, W)."""
        return Categorical(self.model.logits(levels)).log_prob(levels)

    def sample(self) -> Tensor:
        """(B, 1, H, W) levels."""
        return self.visit(draw)

    def visit(self, choose: Choose) -> Tensor:
        """Visit every level with its table."""
        levels = torch.zeros(self.n, *self.model.image_shape, dtype=torch.int64)
        for row in range(levels.shape[2]):
            for column in range(levels.shape[3]):
                here = (slice(None), 0, row, column)
                levels[here] = choose(here, self.model.logits(levels)[here].double().softmax(-1))
        return levels


class PixelCNN(AncestralModel):
    """Masked convolutions, no latents.

    Args:
        image_size: height and width of the images.
        bits: depth of the levels.
        width: channels of the hidden layers; `layers` is their number.
    """

    kind = "exact"

    def __init__(self, image_size: int = 28, bits: int = 8, width: int = 32, layers: int = 3) -> None:
        super().__init__()
        self.bits, self.image_shape = check_bits(bits), (1, image_size, image_size)
        hidden = [m for _ in range(layers) for m in (nn.GELU(), CausalConv(width, width, 5, first=False))]
        self.network = nn.Sequential(CausalConv(1, width, 7, first=True), *hidden, nn.Conv2d(width, 2**bits, 1))

    def logits(self, levels: Tensor) -> Tensor:
        """(B, 1, H, W, V) of every position, given the levels (B, 1, H, W) before it."""
        return self.network(level_values(levels, self.bits)).movedim(1, -1).unsqueeze(1)

    def ancestral_pass(
        self, policy: LatentPolicy, x: Tensor | None = None, n: int = 1, label: Tensor | None = None
    ) -> Pixels:
        """The pixel distribution; there is no site to visit."""
        return Pixels(self, n if x is None else len(x))
