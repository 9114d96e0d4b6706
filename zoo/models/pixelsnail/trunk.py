"""The causal network of PixelSNAIL over a grid of symbols: codes of a quantised autoencoder, or pixels.

Chen et al. 2018 ("PixelSNAIL"); as prior over codes Razavi et al. 2019, section 3.2. Letters as in `layers`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError, closest
from zoo.likelihood.precision import outside_autocast
from zoo.models.pixelsnail.layers import (
    AttentionDropout,
    CausalAttention,
    CausalConv2d,
    DropoutPlace,
    GatedBlock,
    NormedConv2d,
    ResidualSkip,
    bias_of,
    coordinates,
)

Attention = Literal["every", "last", "none"]
VariantName = Literal["razavi", "razavi-fused", "chen", "public", "public-inplace"]


@dataclass(frozen=True)
class Variant:
    """What goes together in one source of the network.

    Attributes:
        taps: `wide`, kernel_size x kernel_size causal windows, or `down_right`, 2x2 windows.
        centre: whether hidden layers read the current position too.
        key_content: `symbols` joins each position's own symbol to its key and value, `features` leaves it out.
        dropout_place: `after` each gated block or `inside` it.
        attention_dropout: on the `logits` or the `probs` of the attention.
        residual_skip: what a gated block adds its output to, its input or (`elu`) its activated input.
    """

    taps: Literal["wide", "down_right"]
    centre: Literal["open", "masked"]
    key_content: Literal["symbols", "features"]
    dropout_place: DropoutPlace
    attention_dropout: AttentionDropout
    residual_skip: ResidualSkip = "identity"


VARIANTS: dict[VariantName, Variant] = {
    "razavi": Variant("wide", "open", "symbols", "after", "logits"),
    "razavi-fused": Variant("wide", "open", "symbols", "after", "probs"),
    "chen": Variant("down_right", "open", "symbols", "inside", "probs"),
    "public": Variant("wide", "masked", "features", "inside", "probs"),
    "public-inplace": Variant("wide", "masked", "features", "inside", "probs", "elu"),
}


@dataclass(frozen=True)
class SnailConfig:
    """Shape and options of the causal network. Defaults: top prior of Razavi et al. 2019, table 3.

    Attributes:
        channels: C, "hidden units".
        residual_channels: channels between the two convolutions of a gated block, "residual units".
        blocks: pixel blocks; each ends in attention or a 1x1 convolution.
        layers_per_block: gated blocks per pixel block ("attention every 5 layers").
        kernel_size: odd kernel of the wide convolutions.
        variant: whose network it is. `razavi`: Razavi et al. 2019, over codes; `razavi-fused`: the same with the
            attention's dropout on its probabilities, for which there are fast kernels; `chen`: Chen et al. 2018, over
            pixels; `public`: rosinality/vq-vae-2-pytorch; `public-inplace`: its weights from before July 2020, when an
            activation worked in place.
        attention: which pixel blocks end in attention.
        heads: attention heads.
        key_channels: total size of queries and keys; 0 means C / 2.
        value_channels: total size of values; 0 means C / 2.
        output_layers: gated 1x1 blocks on top of the network, "output stack layers".
        dropout: rate in the trunk and the attention.
        stack_dropout: rate in output and conditioning stacks; below 0 means `dropout`.
        gate_gain: initial gain of the second convolution of every gated block in trunk and stacks.
    """

    channels: int = 512
    residual_channels: int = 2048
    blocks: int = 4
    layers_per_block: int = 5
    kernel_size: int = 5
    variant: VariantName = "razavi"
    attention: Attention = "every"
    heads: int = 8
    key_channels: int = 0
    value_channels: int = 0
    output_layers: int = 0
    dropout: float = 0.1
    stack_dropout: float = -1.0
    gate_gain: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.variant not in VARIANTS:
            raise UserError(f"trunk: variant {self.variant!r} is unknown; {closest(self.variant, VARIANTS)}")
        if self.kernel_size % 2 == 0:
            raise UserError(f"kernel_size is {self.kernel_size}, expected an odd number")
        if self.attention != "none" and (self.keys % self.heads or self.values % self.heads):
            raise UserError(f"keys ({self.keys}) and values ({self.values}) must be multiples of heads ({self.heads})")

    @property
    def rules(self) -> Variant:
        """What the variant stands for."""
        return VARIANTS[self.variant]

    @property
    def keys(self) -> int:
        """Total size of queries and keys."""
        return self.key_channels or self.channels // 2

    @property
    def values(self) -> int:
        """Total size of values."""
        return self.value_channels or self.channels // 2

    @property
    def input_kernel(self) -> int:
        """Kernel of the two shifted input convolutions."""
        return 3 if self.rules.taps == "down_right" else self.kernel_size

    def attends(self, block: int) -> bool:
        """Whether that pixel block ends in attention."""
        return self.attention == "every" or (self.attention == "last" and block == self.blocks - 1)

    @classmethod
    def of(cls, config: "SnailConfig | dict[str, Any]") -> "SnailConfig":
        """The configuration itself, or one made from plain values."""
        return config if isinstance(config, SnailConfig) else cls(**config)


class ShiftedInput(nn.Module):
    """Two convolutions that see only earlier symbols: rows above, and columns to the left.

    Row 0 of the first and column 0 of the second are exactly zero, without bias.

    Args:
        inputs: channels of a symbol (K of a one-hot code, or colour channels and a plane of ones).
        outputs: C.
        kernel_size: odd k; kernels are (k // 2) x k and ((k + 1) // 2) x (k // 2).
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int) -> None:
        super().__init__()
        self.radius = kernel_size // 2
        self.horizontal = NormedConv2d(inputs, outputs, (kernel_size // 2, kernel_size))
        self.vertical = NormedConv2d(inputs, outputs, ((kernel_size + 1) // 2, kernel_size // 2))

    def edges(self, height: int, width: int) -> Tensor:
        """Biases, absent in row 0 and column 0 respectively, (1, C, H, W)."""
        horizontal = bias_of(self.horizontal)[:, None, None].expand(-1, height - 1, width)
        vertical = bias_of(self.vertical)[:, None, None].expand(-1, height, width - 1)
        return (F.pad(horizontal, (0, 0, 1, 0)) + F.pad(vertical, (1, 0)))[None]


class PixelInput(ShiftedInput):
    """Input layer over colour values; a plane of ones tells black from outside.

    Args:
        channels: colour channels.
        outputs: C.
        kernel_size: odd k.
    """

    def __init__(self, channels: int, outputs: int, kernel_size: int) -> None:
        super().__init__(channels + 1, outputs, kernel_size)
        self.symbol_channels = channels

    def embed(self, values: Tensor) -> Tensor:
        """What keys hold of a pixel: its values, (B, channels, ...)."""
        return values

    def forward(self, values: Tensor) -> Tensor:
        """Map (B, channels, H, W) values on [-1, 1] to (B, C, H, W)."""
        r = self.radius
        x = torch.cat([values, torch.ones_like(values[:, :1])], 1)
        above = F.conv2d(F.pad(x[:, :, :-1], (r, r, r, 0)), self.horizontal.weight())
        left = F.conv2d(F.pad(x[:, :, :, :-1], (r, 0, r, 0)), self.vertical.weight())
        return above + left + self.edges(*values.shape[2:])


class CodeInput(ShiftedInput):
    """Input layer over codes: the convolution of one-hot planes, computed by looking rows up.

    Args:
        num_codes: K.
        outputs: C.
        kernel_size: odd k.
        symbol_channels: size of the learned embedding that keys hold of a code, 0 for none.
    """

    def __init__(self, num_codes: int, outputs: int, kernel_size: int, symbol_channels: int = 0) -> None:
        super().__init__(num_codes, outputs, kernel_size)
        self.num_codes, self.symbol_channels = num_codes, symbol_channels
        self.embedding = nn.Embedding(num_codes, symbol_channels) if symbol_channels else None

    def embed(self, codes: Tensor) -> Tensor | None:
        """What keys hold of a code: (B, ...) -> (B, symbol_channels, ...)."""
        return None if self.embedding is None else self.embedding(codes).movedim(-1, 1)

    def table(self) -> Tensor:
        """Contribution of each code at each tap, (taps * (K + 1), C); row K of every tap is zero (outside)."""
        kernels = [conv.weight().flatten(2) for conv in (self.horizontal, self.vertical)]
        taps = torch.cat(kernels, 2).permute(2, 1, 0)  # (taps, K, C)
        return F.pad(taps, (0, 0, 0, 1)).flatten(0, 1)

    def windows(self, padded: Tensor, row: slice | int, column: slice | int) -> list[Tensor]:
        """Codes under every tap for the positions asked, from codes padded by r on top, left and right."""
        r = self.radius

        def shifted(where: slice | int, by: int) -> slice | int:
            return where + by if isinstance(where, int) else slice(where.start + by, where.stop + by)

        taps = [(a, b) for a in range(r) for b in range(2 * r + 1)]
        taps += [(a, b) for a in range(r + 1) for b in range(r)]
        return [padded[:, shifted(row, a), shifted(column, b)] for a, b in taps]

    def forward(self, codes: Tensor) -> Tensor:
        """Map (B, H, W) codes to (B, C, H, W)."""
        batch, height, width = codes.shape
        r = self.radius
        padded = F.pad(codes, (r, r, r, 0), value=self.num_codes)
        rows = torch.stack(self.windows(padded, slice(0, height), slice(0, width)), -1)  # (B, H, W, taps)
        rows = rows + (self.num_codes + 1) * torch.arange(rows.shape[-1], device=codes.device)
        summed = F.embedding_bag(rows.flatten(0, 2), self.table(), mode="sum")
        return summed.view(batch, height, width, -1).permute(0, 3, 1, 2) + self.edges(height, width)


class PixelBlock(nn.Module):
    """Gated causal blocks followed by attention, or by a 1x1 convolution that sees the coordinates.

    Args:
        config: the network's shape.
        attends: whether it ends in attention.
        symbol_channels: what keys hold of a symbol.
        condition: channels of the conditioning map, or 0.
        classes: classes of the label, or 0.
    """

    def __init__(self, config: SnailConfig, attends: bool, symbol_channels: int, condition: int, classes: int) -> None:
        super().__init__()
        c, hidden = config.channels, config.residual_channels
        k, rules = config.kernel_size, config.rules
        above, left, right = (1, 1, 0) if rules.taps == "down_right" else (k - 1, k // 2, k // 2)
        window = (above, left, right, rules.centre == "open")
        self.gated = nn.ModuleList(
            GatedBlock(
                CausalConv2d(c, hidden, *window),
                CausalConv2d(hidden, 2 * c, *window),
                condition=condition,
                classes=classes,
                dropout=config.dropout,
                place=config.rules.dropout_place,
                skip=config.rules.residual_skip,
            )
            for _ in range(config.layers_per_block)
        )
        self.skip = rules.residual_skip
        self.attention: CausalAttention | None = None
        self.out: NormedConv2d | None = None
        if attends:
            self.attention = CausalAttention(
                c,
                config.heads,
                config.keys,
                config.values,
                symbol_channels,
                dropout=config.dropout,
                kind=rules.attention_dropout,
                place=config.rules.dropout_place,
                skip=config.rules.residual_skip,
            )
        else:
            self.out = NormedConv2d(c + 2, c)

    def forward(
        self, x: Tensor, background: Tensor, symbols: Tensor | None, condition: Tensor | None, label: Tensor | None
    ) -> Tensor:
        """Map (B, C, H, W) to the same shape; arguments as in `CausalAttention` and `GatedBlock.context`."""
        before = F.elu(x) if self.skip == "elu" else x
        for block in cast(Iterable[GatedBlock], self.gated):
            x = block(x, context=block.context(condition, label))
        result: Tensor
        if self.attention is not None:
            result = self.attention(before, x, background, symbols)
        else:
            assert self.out is not None
            result = self.out(torch.cat([x, background], 1))
        return result


class SnailTrunk(nn.Module):
    """Symbols in, one vector per position out, which depends on earlier symbols only.

    Args:
        inputs: input layer (`CodeInput` or `PixelInput`).
        config: shape and options.
        outputs: channels of the result.
        height: rows of the grid.
        width: columns of the grid.
        condition: channels of the conditioning map, or 0.
        classes: classes of the label, or 0.
    """

    def __init__(
        self,
        inputs: CodeInput | PixelInput,
        config: SnailConfig,
        outputs: int,
        height: int,
        width: int,
        condition: int = 0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.inputs, self.config = inputs, config
        self.background: Tensor
        self.register_buffer("background", coordinates(height, width), persistent=False)
        held = inputs.symbol_channels if config.rules.key_content == "symbols" else 0
        self.blocks = nn.ModuleList(
            PixelBlock(config, config.attends(n), held, condition, classes) for n in range(config.blocks)
        )
        rate = config.dropout if config.stack_dropout < 0 else config.stack_dropout
        self.output_stack = nn.ModuleList(
            GatedBlock(
                NormedConv2d(config.channels, config.residual_channels),
                NormedConv2d(config.residual_channels, 2 * config.channels),
                dropout=rate,
                place=config.rules.dropout_place,
                skip=config.rules.residual_skip,
            )
            for _ in range(config.output_layers)
        )
        self.final = NormedConv2d(config.channels, outputs)
        with torch.no_grad():
            for block in self.modules():
                if isinstance(block, GatedBlock):
                    block.second.gain.mul_(config.gate_gain)

    def embed(self, symbols: Tensor) -> Tensor | None:
        """What keys hold of the symbols, or None."""
        return self.inputs.embed(symbols) if self.config.rules.key_content == "symbols" else None

    def forward(self, symbols: Tensor, condition: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        """All positions at once, or those of the first rows alone.

        Args:
            symbols: codes (B, H, W) or pixel values (B, channels, H, W); H may be smaller than the grid's height.
            condition: (B, C', h, w) conditioning map; h and w divide H and W.
            label: (B,) classes, -1 = none.

        Returns:
            (B, outputs, H, W).
        """
        x = self.inputs(symbols)
        held = self.embed(symbols)
        background = self.background[:, :, : x.shape[2]].expand(len(x), -1, -1, -1).to(x.dtype)
        for block in self.blocks:
            x = block(x, background, held, condition, label)
        for block in self.output_stack:
            x = block(x)
        return outside_autocast(self.final, F.elu(x))
