"""How much faster the cached walk is than recomputing: the measurement behind `zoo bench --table speed`."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.models.pixelsnail.codes import CodePrior
from zoo.models.pixelsnail.pixels import PixelSNAIL


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
