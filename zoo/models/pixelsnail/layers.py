"""Weight-normalised convolutions, gated blocks and attention of PixelSNAIL.

Letters: `B` batch, `C` trunk channels, `H`, `W` grid, `P` = H * W positions in raster order, `N` heads.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

ResidualSkip = Literal["identity", "elu"]
DropoutPlace = Literal["after", "inside"]
AttentionDropout = Literal["logits", "probs"]


class NormedConv2d(nn.Module):
    """Convolution whose kernel is a direction times a gain (Salimans and Kingma 2016).

    Padding is the caller's, so one class serves shifted, causal and ordinary convolutions.

    Args:
        inputs: channels read.
        outputs: channels written.
        kernel: height and width.
        bias: whether a bias is added.
        mask: (height, width) of zeros and ones. Masked taps are removed before the norm is taken, as the public
            implementation does; its saved kernels hold rubbish there.
    """

    mask: Tensor | None

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int] = (1, 1), bias: bool = True, mask: Tensor | None = None
    ) -> None:
        super().__init__()
        self.kernel = kernel
        fresh = nn.Conv2d(inputs, outputs, kernel).weight.detach()
        self.register_buffer("mask", mask, persistent=False)
        self.direction = nn.Parameter(fresh)
        masked = fresh if mask is None else fresh * mask
        self.gain = nn.Parameter(masked.flatten(1).norm(dim=1))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def weight(self) -> Tensor:
        """The kernel in use, (outputs, inputs, height, width)."""
        direction = self.direction if self.mask is None else self.direction * self.mask
        norm = direction.flatten(1).norm(dim=1)
        result: Tensor = direction * (self.gain / norm)[:, None, None, None]
        return result

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (B, inputs, H, W) without padding."""
        return F.conv2d(x, self.weight(), self.bias)


def bias_of(conv: NormedConv2d) -> nn.Parameter:
    """The bias of a convolution that has one."""
    assert conv.bias is not None
    return conv.bias


class CausalConv2d(NormedConv2d):
    """Convolution that reads earlier positions in raster order only.

    Output (i, j) reads rows i-above .. i-1 at columns j-left .. j+right, and row i at columns j-left .. j-1
    (.. j when the centre is open).

    Args:
        inputs: channels read.
        outputs: channels written.
        above: rows above the current one.
        left: columns to the left.
        right: columns to the right, in the rows above.
        centre: whether the current position itself is read. Harmless inside the network, whose features at a
            position depend on earlier symbols only.
    """

    def __init__(self, inputs: int, outputs: int, above: int, left: int, right: int, centre: bool) -> None:
        mask = torch.ones(above + 1, left + right + 1)
        self_taps = left + int(centre)
        mask[-1, self_taps:] = 0
        super().__init__(
            inputs, outputs, (above + 1, left + right + 1), mask=mask if self_taps < left + right + 1 else None
        )
        self.above, self.left, self.right, self.self_taps = above, left, right, self_taps

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        return super().forward(F.pad(x, (self.left, self.right, self.above, 0)))


class GatedBlock(nn.Module):
    """Gated residual block: two convolutions, then `first * sigmoid(second)` added to the input.

    Args:
        first: convolution C -> hidden.
        second: convolution hidden -> 2C.
        aux: channels of a second input added after the first convolution, or 0.
        condition: channels of the conditioning map, or 0.
        classes: number of classes whose learned row is added before the gate, or 0.
        dropout: rate.
        place: `after` the gate (Razavi et al. 2019, section 3.2: "after each residual block") or `inside`, before the
            second convolution (the public implementation).
        skip: `identity`, or `elu` for weights trained when the public code's activation worked in place.
    """

    def __init__(
        self,
        first: NormedConv2d,
        second: NormedConv2d,
        aux: int = 0,
        condition: int = 0,
        classes: int = 0,
        dropout: float = 0.0,
        place: DropoutPlace = "after",
        skip: ResidualSkip = "identity",
    ) -> None:
        super().__init__()
        self.first, self.second = first, second
        hidden, doubled = first.direction.shape[0], second.direction.shape[0]
        self.aux = NormedConv2d(aux, hidden) if aux else None
        self.condition = NormedConv2d(condition, doubled, bias=False) if condition else None
        self.classes = nn.Parameter(0.05 * torch.randn(classes, doubled)) if classes else None
        self.dropout, self.place, self.skip = dropout, place, skip

    def context(self, condition: Tensor | None, label: Tensor | None) -> Tensor | None:
        """What the condition and the label add before the gate.

        Args:
            condition: (B, C', h, w) conditioning map, or None.
            label: (B,) classes, -1 = none, or None.

        Returns:
            (B, 2C, h, w) or (B, 2C, 1, 1), or None when there is nothing to add.
        """
        total = None
        if self.condition is not None and condition is not None:
            total = self.condition(condition)
        if self.classes is not None and label is not None:
            rows = self.classes[label.clamp_min(0)] * (label >= 0)[:, None]  # (B, 2C)
            total = rows[:, :, None, None] if total is None else total + rows[:, :, None, None]
        return total

    def forward(self, x: Tensor, aux: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to the same shape.

        Args:
            x: features.
            aux: (B, aux, H, W) second input.
            context: (B, 2C, H / f, W / f) from `context`, repeated to the grid, or None.
        """
        active = F.elu(x)
        hidden = self.first(active)
        if self.aux is not None and aux is not None:
            hidden = hidden + self.aux(F.elu(aux))
        hidden = F.elu(hidden)
        if self.place == "inside":
            hidden = F.dropout(hidden, self.dropout, self.training)
        gated = self.second(hidden)
        if context is not None:
            factor = x.shape[-1] // context.shape[-1] if context.shape[-1] > 1 else 1
            gated = gated + (context if factor == 1 else F.interpolate(context, scale_factor=factor))
        out = F.glu(gated, dim=1)
        if self.place == "after":
            out = F.dropout(out, self.dropout, self.training)
        return (active if self.skip == "elu" else x) + out


def coordinates(height: int, width: int) -> Tensor:
    """Centred row and column of every position, (1, 2, H, W), in [-1/2, 1/2)."""
    rows = (torch.arange(height) - height / 2) / height
    columns = (torch.arange(width) - width / 2) / width
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]


def strictly_causal_attention(
    query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0, kind: AttentionDropout = "probs"
) -> Tensor:
    """Attention in which position p reads positions s < p; position 0 gets zeros.

    Dropping the first query and the last key turns the strict mask into the ordinary causal one, so the fused kernels
    apply.

    Args:
        query: (B, N, P, D).
        key: (B, N, P, D).
        value: (B, N, P, V).
        dropout: rate, 0 outside training.
        kind: drop `logits` before the softmax (Razavi et al. 2019) or `probs` after it.

    Returns:
        (B, N, P, V).
    """
    query, key, value = query[:, :, 1:], key[:, :, :-1], value[:, :, :-1]
    if dropout and kind == "logits":
        logits = F.dropout(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, dropout)  # (B, N, P-1, P-1)
        later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
        out = logits.masked_fill(later, float("-inf")).softmax(-1) @ value
    else:
        # The fused kernels want heads of one size; zeros change neither logits nor the values that are kept.
        keys, values = query.shape[-1], value.shape[-1]
        query, key = (F.pad(t, (0, max(values - keys, 0))) for t in (query, key))
        value = F.pad(value, (0, max(keys - values, 0)))
        scale = keys**-0.5
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout, scale=scale)
        out = out[..., :values]
    return F.pad(out, (0, 0, 1, 0))


class CausalAttention(nn.Module):
    """Multi-head attention over all earlier positions, between two gated 1x1 blocks and merged by a third.

    Args:
        channels: C of the trunk.
        heads: number of heads.
        key_channels: total size of queries and keys.
        value_channels: total size of values.
        symbol_channels: channels of the symbol's own embedding joined to the keys' input, 0 to leave it out. Without
            it the last symbol of the previous row is invisible to most of the next row.
        dropout: rate of the attention matrix and the blocks.
        kind: where the attention's dropout acts.
        place: where the blocks' dropout acts.
        skip: the blocks' skip rule.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        key_channels: int,
        value_channels: int,
        symbol_channels: int = 0,
        dropout: float = 0.0,
        kind: AttentionDropout = "logits",
        place: DropoutPlace = "after",
        skip: ResidualSkip = "identity",
    ) -> None:
        super().__init__()
        content = 2 * channels + 2 + symbol_channels

        def block(width: int, aux: int = 0) -> GatedBlock:
            first, second = NormedConv2d(width, channels), NormedConv2d(channels, 2 * width)
            return GatedBlock(first, second, aux=aux, dropout=dropout, place=place, skip=skip)

        self.key_block, self.query_block = block(content), block(channels + 2)
        self.query = NormedConv2d(channels + 2, key_channels)
        self.key = NormedConv2d(content, key_channels)
        self.value = NormedConv2d(content, value_channels)
        self.out_block = block(channels, aux=value_channels)
        self.heads, self.dropout, self.kind, self.skip = heads, dropout, kind, skip

    def keys_and_values(self, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Keys and values (B, key_channels, H, W), (B, value_channels, H, W) of concatenated parts."""
        features = self.key_block(torch.cat(parts, 1))
        return self.key(features), self.value(features)

    def queries(self, x: Tensor, background: Tensor) -> Tensor:
        """Queries (B, key_channels, H, W) of features (B, C, H, W) and coordinates (B, 2, H, W)."""
        result: Tensor = self.query(self.query_block(torch.cat([x, background], 1)))
        return result

    def forward(self, before: Tensor, x: Tensor, background: Tensor, symbols: Tensor | None) -> Tensor:
        """Map (B, C, H, W) to the same shape.

        Args:
            before: (B, C, H, W) features that entered the pixel block.
            x: (B, C, H, W) features after its gated blocks.
            background: (B, 2, H, W) coordinates.
            symbols: (B, symbol_channels, H, W) embedding of the symbol *at* each position, or None.
        """
        batch, _, height, width = x.shape
        parts = [before, x, background] if symbols is None else [before, x, background, symbols]

        def split(t: Tensor) -> Tensor:
            t = t.reshape(batch, self.heads, -1, height * width).transpose(-1, -2)  # (B, N, P, D)
            # With rows in order the fused kernels apply, which hold no matrix of P x P. Pricing keeps the order of
            # summation that all records were made with.
            return t.contiguous() if self.training else t

        key, value = self.keys_and_values(parts)
        dropout = self.dropout if self.training else 0.0
        out = strictly_causal_attention(
            split(self.queries(x, background)), split(key), split(value), dropout, self.kind
        )
        merged = out.transpose(-1, -2).reshape(batch, -1, height, width)  # (B, value_channels, H, W)
        result: Tensor = self.out_block(x, aux=merged)
        return result
