"""How much faster the cached walk of PixelSNAIL is than recomputing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.benchmarks.measures.counting import configured_networks, is_configuration
from zoo.benchmarks.records import Measurement, stamp
from zoo.checkpoints import build, load
from zoo.errors import UserError
from zoo.models import PixelSNAIL
from zoo.models.pixelsnail import CodePrior


def measure(checkpoint: str, batch_size: int = 1) -> Iterator[Measurement]:
    """Processor seconds of the cached walk of PixelSNAIL, and of recomputing.

    Args:
        checkpoint: checkpoint or configuration (.yaml) with a PixelSNAIL, or a prior of a top level, in it.
        batch_size: grids drawn at once.
    """
    if batch_size < 1:
        raise UserError(f"--batch_size {batch_size}: expected at least 1")
    for stage, network in _walkable(checkpoint):
        speed = sampling_speed(network, batch_size)
        settings = {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "grid": f"{speed.height}x{speed.width}",
            "batch_size": batch_size,
            "threads": torch.get_num_threads(),
        }
        yield Measurement(
            question="speed_walk",
            subject=f"{Path(checkpoint).stem} {stage}".strip(),
            settings=settings,
            values={"cached": speed.cached, "rows": speed.rows, "whole": speed.whole},
            **stamp(),
        )


def _walkable(path: str) -> Iterator[tuple[str, Any]]:
    """Every network in a configuration or checkpoint that walks a grid without needing upper codes first."""
    found: list[tuple[str, Any]] = []
    if is_configuration(path):
        specs = configured_networks(path)
        walks = [
            (stage, spec) for stage, spec in specs if spec["class_path"].split(".")[-1] in ("CodePrior", "PixelSNAIL")
        ]
        found = [(stage, build(spec)) for stage, spec in walks]
    else:
        network: Any = load(path).network
        found = [("", module) for module in network.modules() if isinstance(module, CodePrior | PixelSNAIL)]
    walkable = [(stage, n) for stage, n in found if isinstance(n, PixelSNAIL) or len(n.grids) == 1]
    if not walkable:
        raise UserError(f"{path}: no PixelSNAIL and no prior of a top level in it")
    yield from walkable


@dataclass(frozen=True)
class SamplingSpeed:
    """Processor seconds to draw one batch.

    Attributes:
        n: batch size.
        height: rows of the grid.
        width: columns.
        cached: the whole walk, measured.
        rows: recomputing rows 0..i for each symbol of row i (the public implementation), summed from timed passes.
        whole: recomputing the whole grid for each symbol, from one timed pass.
    """

    n: int
    height: int
    width: int
    cached: float
    rows: float
    whole: float

    @property
    def ratio(self) -> float:
        """How many times faster the cached walk is than recomputing the rows so far."""
        return self.rows / self.cached


@torch.inference_mode()
def sampling_speed(network: CodePrior | PixelSNAIL, n: int = 1, timed: int = 5) -> SamplingSpeed:
    """Time drawing `n` grids with and without the cache, in processor time of this process.

    Args:
        network: a prior without upper levels, or a model of pixels.
        n: batch size.
        timed: numbers of rows at which the full pass is timed; between them the cost is interpolated.
    """
    network = network.eval()
    height, width = network.trunk.background.shape[2:]
    if isinstance(network, CodePrior):
        symbols = torch.randint(network.num_codes, (n, height, width))
    else:
        symbols = torch.rand(n, network.image_shape[0], height, width) * 2 - 1

    def full(rows: int) -> float:
        start = time.process_time()
        network.trunk(symbols[..., :rows, :])
        return time.process_time() - start

    full(1)
    marks = sorted({max(1, round(height * k / timed)) for k in range(1, timed + 1)})
    costs = [min(full(rows), full(rows)) for rows in marks]
    start = time.process_time()
    _walk(network, symbols, n)
    cached = time.process_time() - start
    growing = sum(width * _between(marks, costs, row) for row in range(1, height + 1))
    return SamplingSpeed(n, height, width, cached, growing, height * width * costs[-1])


def _walk(network: CodePrior | PixelSNAIL, symbols: Tensor, n: int) -> None:
    """The cached walk over known symbols, tables of codes included."""
    stepper = network.stepper(n)
    for row in range(stepper.height):
        for column in range(stepper.width):
            stepper.at(row, column).double().softmax(-1)
            stepper.store(row, column, symbols[..., row, column])


def _between(marks: list[int], costs: list[float], row: int) -> float:
    """Cost of a pass over `row` rows, linear between the timed ones and proportional below the first."""
    previous, cost = 0, 0.0
    for mark, found in zip(marks, costs, strict=True):
        if row <= mark:
            return cost + (found - cost) * (row - previous) / (mark - previous)
        previous, cost = mark, found
    return costs[-1]
