"""One network column per symbol: the causal network run position by position with everything earlier cached.

By causality a feature at a position never changes once it is computed, so a whole grid costs the arithmetic of one full
pass (the plain way recomputes all earlier rows for each symbol). Every causal convolution is split into the rows above,
summed for a whole row at once when the row starts, and the taps to the left, summed when the position is reached.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from zoo.models.pixelsnail.layers import CausalAttention, CausalConv2d, GatedBlock, NormedConv2d
from zoo.models.pixelsnail.trunk import CodeInput, PixelBlock, PixelInput, SnailTrunk


class _Pointwise:
    """A 1x1 convolution on (B, inputs) vectors, with its norm taken once."""

    def __init__(self, conv: NormedConv2d) -> None:
        self.weight, self.bias = conv.weight()[:, :, 0, 0], conv.bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class _PointwiseBlock:
    """A gated 1x1 block on (B, C) vectors."""

    def __init__(self, block: GatedBlock) -> None:
        self.first, self.second = _Pointwise(block.first), _Pointwise(block.second)
        self.aux = None if block.aux is None else _Pointwise(block.aux)
        self.skip = block.skip

    def __call__(self, x: Tensor, aux: Tensor | None = None) -> Tensor:
        active = F.elu(x)
        hidden = self.first(active)
        if self.aux is not None and aux is not None:
            hidden = hidden + self.aux(F.elu(aux))
        out = F.glu(self.second(F.elu(hidden)), dim=1)
        return (active if self.skip == "elu" else x) + out


class _CachedConv:
    """A causal convolution and the part of its input that later positions read.

    Views of every column are made once: at one vector per step, indexing would cost as much as arithmetic.
    """

    def __init__(self, conv: CausalConv2d, n: int, width: int) -> None:
        kernel = conv.weight()  # (outputs, inputs, above + 1, left + right + 1)
        taps = conv.self_taps
        self.open = taps > conv.left
        self.above_kernel, self.bias = kernel[:, :, :-1], conv.bias
        row = kernel[:, :, -1, :taps]
        self.row_matrix = row.permute(2, 1, 0).reshape(-1, kernel.shape[0]).contiguous()  # (taps * inputs, outputs)
        # (above + 1, left + W + right, B, inputs): the rows a position may read, the current one last
        self.rows = kernel.new_zeros(conv.above + 1, conv.left + width + conv.right, n, kernel.shape[1])
        current = self.rows[-1]
        self.slots = [current[conv.left + column] for column in range(width)]  # (B, inputs) each
        windows = [current[column : column + taps].transpose(0, 1) for column in range(width)]
        self.windows = [window.view(1, -1) for window in windows] if n == 1 else windows  # (B, taps, inputs) each
        self.sums: tuple[Tensor, ...] = ()

    def start_row(self, extra: Tensor | None = None) -> None:
        """Shift the rows up and sum what all positions of the new row read above them.

        Args:
            extra: (W, B, outputs) added to every position, or None.
        """
        self.rows[:-1] = self.rows[1:].clone()
        self.rows[-1] = 0
        above = F.conv2d(self.rows[:-1].permute(2, 3, 0, 1), self.above_kernel, self.bias)  # (B, outputs, 1, W)
        sums = above[:, :, 0].permute(2, 0, 1).contiguous()  # (W, B, outputs)
        if extra is not None:
            sums += extra
        self.sums = sums.unbind(0)

    def at(self, column: int, active: Tensor) -> Tensor:
        """Output (B, outputs) at a column whose own input (B, inputs) is `active`."""
        if self.open:
            self.slots[column].copy_(active)
        out = torch.addmm(self.sums[column], self.windows[column].flatten(1), self.row_matrix)
        if not self.open:
            self.slots[column].copy_(active)
        return out


class _GatedStep:
    """A gated causal block with its two cached convolutions."""

    def __init__(self, block: GatedBlock, n: int, width: int, condition: Tensor | None, label: Tensor | None) -> None:
        first, second = cast(CausalConv2d, block.first), cast(CausalConv2d, block.second)
        self.first, self.second = _CachedConv(first, n, width), _CachedConv(second, n, width)
        self.skip = block.skip
        self.context = block.context(condition, label)  # (B, 2C, h, w), (B, 2C, 1, 1) or None

    def start_row(self, row: int, height: int, width: int) -> None:
        self.first.start_row()
        extra = None
        if self.context is not None:
            line = self.context[:, :, row * self.context.shape[2] // height]  # (B, 2C, w)
            extra = line.repeat_interleave(width // line.shape[-1], -1).permute(2, 0, 1)  # (W, B, 2C)
        self.second.start_row(extra)

    def at(self, column: int, x: Tensor) -> Tensor:
        active = F.elu(x)
        hidden = F.elu(self.first.at(column, active))
        out = F.glu(self.second.at(column, hidden), dim=1)
        return (active if self.skip == "elu" else x) + out


class _AttentionStep:
    """Attention whose keys and values of finished positions are kept."""

    def __init__(self, attention: CausalAttention, n: int, positions: int) -> None:
        self.key_block = _PointwiseBlock(attention.key_block)
        self.query_block = _PointwiseBlock(attention.query_block)
        self.out_block = _PointwiseBlock(attention.out_block)
        self.query, self.key = _Pointwise(attention.query), _Pointwise(attention.key)
        self.value = _Pointwise(attention.value)
        self.heads = attention.heads
        keys, values = len(self.key.weight), len(self.value.weight)
        self.scale = (keys // self.heads) ** -0.5
        self.keys = self.key.weight.new_zeros(n, self.heads, positions, keys // self.heads)
        self.values = self.value.weight.new_zeros(n, self.heads, positions, values // self.heads)
        self.pending: list[Tensor] = []

    def at(self, position: int, before: Tensor, x: Tensor, background: Tensor) -> Tensor:
        self.pending = [before, x, background]
        batch = len(x)
        if position == 0:
            merged = x.new_zeros(batch, self.values.shape[1] * self.values.shape[3])
        else:
            query = self.query(self.query_block(torch.cat([x, background], 1))) * self.scale
            query = query.view(batch, self.heads, 1, -1)  # (B, N, 1, D)
            scores = query @ self.keys[:, :, :position].transpose(-1, -2)
            merged = (scores.softmax(-1) @ self.values[:, :, :position]).view(batch, -1)
        return self.out_block(x, merged)

    def finish(self, position: int, symbols: Tensor | None) -> None:
        """Keep the position's key and value, once its symbol (B, symbol_channels) is known."""
        parts = self.pending if symbols is None else [*self.pending, symbols]
        features = self.key_block(torch.cat(parts, 1))
        batch = len(features)
        self.keys[:, :, position] = self.key(features).view(batch, self.heads, -1)
        self.values[:, :, position] = self.value(features).view(batch, self.heads, -1)


class _BlockStep:
    """A pixel block."""

    def __init__(
        self,
        block: PixelBlock,
        n: int,
        height: int,
        width: int,
        condition: Tensor | None,
        label: Tensor | None,
    ) -> None:
        self.gated = [
            _GatedStep(gated, n, width, condition, label) for gated in cast(Iterable[GatedBlock], block.gated)
        ]
        self.attention = None if block.attention is None else _AttentionStep(block.attention, n, height * width)
        self.out = None if block.out is None else _Pointwise(block.out)
        self.skip = block.skip

    def at(self, position: int, column: int, x: Tensor, background: Tensor) -> Tensor:
        before = F.elu(x) if self.skip == "elu" else x
        for gated in self.gated:
            x = gated.at(column, x)
        if self.attention is None:
            assert self.out is not None
            return self.out(torch.cat([x, background], 1))
        return self.attention.at(position, before, x, background)


class _CodeWindow:
    """Codes seen so far, and the input layer on the window above and to the left."""

    def __init__(self, inputs: CodeInput, n: int, height: int, width: int) -> None:
        r = self.radius = inputs.radius
        self.inputs, self.table = inputs, inputs.table()
        device = self.table.device
        self.padded = torch.full((n, height + r, width + 2 * r), inputs.num_codes, device=device)
        self.offsets = (inputs.num_codes + 1) * torch.arange(r * (2 * r + 1) + (r + 1) * r, device=device)

    def at(self, row: int, column: int) -> Tensor:
        r = self.radius
        above = self.padded[:, row : row + r, column : column + 2 * r + 1].flatten(1)
        left = self.padded[:, row : row + r + 1, column : column + r].flatten(1)
        return F.embedding_bag(torch.cat([above, left], 1) + self.offsets, self.table, mode="sum")

    def store(self, row: int, column: int, codes: Tensor) -> None:
        self.padded[:, row + self.radius, column + self.radius] = codes


class _PixelWindow:
    """Pixel values seen so far, and the input layer on the window above and to the left."""

    def __init__(self, inputs: PixelInput, n: int, height: int, width: int) -> None:
        r = self.radius = inputs.radius
        kernels = [conv.weight().flatten(1) for conv in (inputs.horizontal, inputs.vertical)]
        self.matrix = torch.cat(kernels, 1)  # (C, (channels + 1) * taps)
        self.padded = self.matrix.new_zeros(n, inputs.symbol_channels + 1, height + r, width + 2 * r)

    def at(self, row: int, column: int) -> Tensor:
        r = self.radius
        above = self.padded[:, :, row : row + r, column : column + 2 * r + 1].flatten(1)
        left = self.padded[:, :, row : row + r + 1, column : column + r].flatten(1)
        return F.linear(torch.cat([above, left], 1), self.matrix)

    def store(self, row: int, column: int, values: Tensor) -> None:
        self.padded[:, :-1, row + self.radius, column + self.radius] = values
        self.padded[:, -1, row + self.radius, column + self.radius] = 1


class SnailStepper:
    """Runs a `SnailTrunk` position by position in raster order.

    Call `at(row, column)` for the output, then `store(row, column, symbols)`, for every position in order. Dropout is
    off. With the same symbols and the same batch two runs give bitwise equal outputs, which is what a coder needs; the
    full pass agrees up to rounding.

    Args:
        trunk: the network.
        n: batch size.
        condition: (B, C', h, w) conditioning map, or None.
        label: (B,) classes, -1 = none, or None.
    """

    def __init__(self, trunk: SnailTrunk, n: int, condition: Tensor | None = None, label: Tensor | None = None) -> None:
        self.trunk, self.n = trunk, n
        self.height, self.width = trunk.background.shape[2:]
        self.window: _CodeWindow | _PixelWindow
        if isinstance(trunk.inputs, CodeInput):
            self.window = _CodeWindow(trunk.inputs, n, self.height, self.width)
        else:
            self.window = _PixelWindow(trunk.inputs, n, self.height, self.width)
        self.edges = trunk.inputs.edges(self.height, self.width)[0].permute(1, 2, 0).contiguous()  # (H, W, C)
        self.background = trunk.background[0].permute(1, 2, 0).to(self.edges.dtype)[:, :, None].expand(-1, -1, n, -1)
        blocks, stack = cast(Iterable[PixelBlock], trunk.blocks), cast(Iterable[GatedBlock], trunk.output_stack)
        self.blocks = [_BlockStep(block, n, self.height, self.width, condition, label) for block in blocks]
        self.output_stack = [_PointwiseBlock(block) for block in stack]
        self.final = _Pointwise(trunk.final)

    def at(self, row: int, column: int) -> Tensor:
        """Output (B, outputs) at a position; all earlier symbols must be stored."""
        if column == 0:
            for block in self.blocks:
                for gated in block.gated:
                    gated.start_row(row, self.height, self.width)
        x = self.window.at(row, column) + self.edges[row, column]
        background = self.background[row, column]  # (B, 2)
        for block in self.blocks:
            x = block.at(row * self.width + column, column, x, background)
        for pointwise in self.output_stack:
            x = pointwise(x)
        return self.final(F.elu(x))

    def store(self, row: int, column: int, symbols: Tensor) -> None:
        """Make the symbols of a position known: codes (B,) or pixel values (B, channels)."""
        self.window.store(row, column, symbols)
        held = self.trunk.embed(symbols)
        for block in self.blocks:
            if block.attention is not None:
                block.attention.finish(row * self.width + column, held)
