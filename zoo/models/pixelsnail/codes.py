"""PixelSNAIL as prior over a grid of codes, conditioned on the grids above it (Razavi et al. 2019, section 3.2)."""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import UserError
from zoo.likelihood import Choose, LikelihoodModel, LikelihoodTerms, Noise, Objective, Table, draw
from zoo.models.pixelsnail.incremental import SnailStepper
from zoo.models.pixelsnail.layers import GatedBlock, NormedConv2d
from zoo.models.pixelsnail.trunk import CodeInput, SnailConfig, SnailTrunk


class SameConv2d(NormedConv2d):
    """Ordinary convolution that keeps the grid (zero padding)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        return F.conv2d(x, self.weight(), self.bias, padding=(self.kernel[0] // 2, self.kernel[1] // 2))


class ConditioningStack(nn.Module):
    """Residual network over the upper codes, not causal ("conditioning stack" of tables 3 and 4).

    Args:
        codes: codebook sizes of the upper grids, top first.
        channels: C'.
        layers: gated blocks.
        kernel: their kernel.
        config: dropout, its place and the skip rule.
    """

    def __init__(self, codes: list[int], channels: int, layers: int, kernel: int, config: SnailConfig) -> None:
        super().__init__()
        self.codes = list(codes)
        window = (kernel, kernel)
        self.first = SameConv2d(sum(codes), channels, window)
        rate = config.dropout if config.stack_dropout < 0 else config.stack_dropout
        self.blocks = nn.ModuleList(
            GatedBlock(
                SameConv2d(channels, channels, window),
                SameConv2d(channels, 2 * channels, window),
                dropout=rate,
                place=config.rules.dropout_place,
                skip=config.rules.residual_skip,
            )
            for _ in range(layers)
        )
        with torch.no_grad():
            for block in cast(Iterable[GatedBlock], self.blocks):
                block.second.gain.mul_(config.gate_gain)

    def forward(self, upper: list[Tensor]) -> Tensor:
        """Map upper grids (B, h_l, w_l), top first, to (B, C', h, w) at the resolution of the last one."""
        height, width = upper[-1].shape[1:]
        planes = []
        for grid, codes in zip(upper, self.codes, strict=True):
            symbols = torch.arange(codes, device=grid.device)[:, None, None]
            plane = (grid.unsqueeze(1) == symbols).to(self.first.gain.dtype)  # (B, K, h_l, w_l), one where the code is
            planes.append(F.interpolate(plane, size=(height, width)))
        x = self.first(torch.cat(planes, 1))
        for block in self.blocks:
            x = block(x)
        result: Tensor = x
        return result


class AutoregressiveCodes:
    """Distribution over a grid of codes: priced in one pass, drawn and coded position by position.

    Args:
        prior: the network.
        n: batch size.
        upper: grids (B, h, w) above, top first.
        label: (B,) classes, -1 = none, or None.
        temperature: divides the logits when drawing or coding; pricing is at 1 whatever it is.
    """

    def __init__(
        self,
        prior: "CodePrior",
        n: int,
        upper: list[Tensor] | None = None,
        label: Tensor | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.prior, self.n, self.upper, self.label, self.temperature = prior, n, upper or [], label, temperature

    def scaled(self, temperature: float) -> "AutoregressiveCodes":
        """The same distribution drawn at a temperature."""
        return AutoregressiveCodes(self.prior, self.n, self.upper, self.label, temperature)

    def log_prob(self, codes: Tensor) -> Tensor:
        """(B,) nats of codes (B, H, W)."""
        logits = self.prior.logits(codes, self.upper, self.label)  # (B, K, H, W)
        return -F.cross_entropy(logits, codes, reduction="none").flatten(1).sum(1)

    def sample(self) -> Tensor:
        """(B, H, W) codes."""
        return self.visit(draw)

    def visit(self, choose: Choose) -> Tensor:
        """Visit every code in raster order; tables are (B, K), indices `(slice(None), row, column)`."""
        height, width = self.prior.grid
        with torch.inference_mode():
            stepper = self.prior.stepper(self.n, self.upper, self.label)
            codes = torch.zeros(self.n, height, width, dtype=torch.long, device=stepper.edges.device)
            for row in range(height):
                for column in range(width):
                    logits = stepper.at(row, column).double() / max(self.temperature, 1e-6)
                    chosen = choose((slice(None), row, column), Table(logits.softmax(-1)))
                    codes[:, row, column] = chosen
                    stepper.store(row, column, chosen)
                if self.prior.progress is not None:
                    self.prior.progress(row + 1, height)
        return codes.clone()


class CodePrior(LikelihoodModel):
    """PixelSNAIL over one level of codes. Batches are flat (B, n) int64: all grids one after the other, top first.

    Args:
        grids: [height, width] of every level from the top down to the one priced (the last).
        codes: codebook size of each of these levels.
        trunk: the causal network; defaults are the paper's top prior.
        condition_layers: gated blocks of the conditioning stack (when there are upper grids).
        condition_channels: its channels; 0 means the trunk's `residual_channels`.
        condition_kernel: its kernel.
        classes: number of classes the label is drawn from, 0 for none.
        name: name of the level, the key of its rate.

    Example:
        >>> small = SnailConfig(channels=16, residual_channels=8, blocks=1, layers_per_block=1, heads=2)
        >>> prior = CodePrior(grids=[[2, 3]], codes=[5], trunk=small)
        >>> prior.distribution(n=4).sample().shape
        torch.Size([4, 2, 3])
    """

    bits = 8
    priced = "codes"
    kind = "exact"

    def __init__(
        self,
        grids: list[list[int]],
        codes: list[int],
        trunk: SnailConfig | dict[str, Any] = SnailConfig(),  # noqa: B008
        condition_layers: int = 20,
        condition_channels: int = 0,
        condition_kernel: int = 3,
        classes: int = 0,
        name: str = "codes",
    ) -> None:
        super().__init__()
        if len(grids) != len(codes) or not grids:
            raise UserError(f"grids ({len(grids)}) and codes ({len(codes)}) must name the same levels")
        config = SnailConfig.of(trunk)
        self.grids = [(int(h), int(w)) for h, w in grids]
        self.codes = list(codes)
        self.grid, self.num_codes, self.classes, self.name = self.grids[-1], codes[-1], classes, name
        self.image_shape = (1, *self.grid)
        self.code_grids = {name: self.grid}
        self.conditioning = None
        width = 0
        if len(grids) > 1:
            width = condition_channels or config.residual_channels
            self.conditioning = ConditioningStack(codes[:-1], width, condition_layers, condition_kernel, config)
        joined = config.rules.key_content == "symbols" and config.attention != "none"
        held = max(1, config.channels // 4) if joined else 0
        inputs = CodeInput(self.num_codes, config.channels, config.kernel_size, held)
        self.trunk = SnailTrunk(inputs, config, self.num_codes, *self.grid, condition=width, classes=classes)

    def condition(self, upper: list[Tensor]) -> Tensor | None:
        """The conditioning map (B, C', h, w) of upper grids, None at the top level."""
        return None if self.conditioning is None else self.conditioning(upper)

    def logits(self, codes: Tensor, upper: list[Tensor] | None = None, label: Tensor | None = None) -> Tensor:
        """(B, K, H, W) of all positions at once, each given the codes before it; arguments as `distribution`."""
        result: Tensor = self.trunk(codes, self.condition(upper or []), label if self.classes else None)
        return result

    def stepper(self, n: int, upper: list[Tensor] | None = None, label: Tensor | None = None) -> SnailStepper:
        """The cached network, for walking position by position; arguments as `distribution`."""
        return SnailStepper(self.trunk, n, self.condition(upper or []), label if self.classes else None)

    def distribution(
        self, n: int = 1, upper: list[Tensor] | None = None, label: Tensor | None = None
    ) -> AutoregressiveCodes:
        """p(codes | upper grids, label).

        Args:
            n: batch size.
            upper: grids (B, h, w) above this level, top first.
            label: (B,) classes, -1 = none.
        """
        return AutoregressiveCodes(self, n, upper, label)

    def example(self, n: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Flat codes of all grids, (n, number of codes) int64: random, or all zeros without a generator."""
        if generator is None:
            return torch.zeros(n, sum(h * w for h, w in self.grids), dtype=torch.int64)
        sizes = zip(self.grids, self.codes, strict=True)
        return torch.cat([torch.randint(k, (n, h * w), generator=generator) for (h, w), k in sizes], dim=1)

    def split(self, x: Tensor) -> list[Tensor]:
        """Grids (B, h, w), top first, of flat codes (B, n); what lies below this level is ignored."""
        sizes = [h * w for h, w in self.grids]
        parts = x[:, : sum(sizes)].long().split(sizes, 1)
        return [part.reshape(-1, h, w) for part, (h, w) in zip(parts, self.grids, strict=True)]

    def terms(self, x: Tensor, label: Tensor | None = None, noise: Noise | None = None) -> LikelihoodTerms:
        """Price flat codes (B, n); the unit `dim` is one code of this level."""
        *upper, codes = self.split(x)
        nats = -self.distribution(len(x), upper, label).log_prob(codes)
        return LikelihoodTerms(torch.zeros_like(nats), {self.name: nats}, self.grid[0] * self.grid[1], priced="codes")

    def objective(self, x: Tensor, label: Tensor | None = None, step: int | Tensor = 0) -> Objective:
        """Mean cross-entropy in nats per code."""
        terms = self.terms(x, label)
        loss = terms.nelbo.mean() / terms.num_dims
        return Objective(loss, terms, {f"{self.name}/nats_per_code": loss.detach()})

    def sample(self, n: int, temperature: float = 1.0, label: Tensor | None = None) -> Tensor:
        """Codes of a level that has no level above it, shown as shades of grey: (n, 1, H, W) uint8.

        The codes themselves are `distribution(n).sample()`.

        Raises:
            UserError: the level is conditioned on codes above it.
        """
        if self.conditioning is not None:
            raise UserError(
                f"the prior of level {self.name!r} needs the codes above it and cannot be drawn from alone; "
                "draw from the whole model (while it trains: model.grid_every 0)"
            )
        codes = self.distribution(n, None, label).scaled(temperature).sample()
        return (codes * 255 // max(self.num_codes - 1, 1)).to(torch.uint8).unsqueeze(1)

    def recomputed_blocks(self) -> Iterator[tuple[nn.Module, str]]:
        """The pixel blocks."""
        return ((block, "forward") for block in self.trunk.blocks)
