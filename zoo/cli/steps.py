"""Models that sample in steps whose number can be chosen (VDM): the number, a progress bar, pictures on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zoo.errors import UserError
from zoo.progress import reporting

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.likelihood import LikelihoodModel


def set_steps(model: LikelihoodModel, steps: int) -> None:
    """Choose the number of steps of a model that has the choice; 0 keeps its own.

    Raises:
        UserError: if it has none.
    """
    if not steps:
        return
    if steps < 1 or model.steps is None:
        raise UserError(f"--steps {steps}: {type(model).__name__} has no such choice; leave the option out")
    model.steps = steps


@contextmanager
def step_progress(model: LikelihoodModel) -> Iterator[None]:
    """A bar that advances as the model samples, batch by batch; models that sample in one go show none."""
    with reporting() as report:
        model.progress = lambda done, total: report("sampling", done, total)
        try:
            yield
        finally:
            model.progress = None


def draw_over_time(model: LikelihoodModel, n: int, pictures: int, label: Tensor | None) -> Tensor:
    """Samples on their way from noise, `pictures` of each: (n * pictures, C, H, W) uint8, row by row.

    Raises:
        UserError: if the model does not sample in steps, or fewer than two pictures are asked for.
    """
    from zoo.models import VDM

    if not isinstance(model, VDM):
        raise UserError(
            f"--over_time {pictures}: {type(model).__name__} does not sample in steps; leave the option out"
        )
    if pictures < 2:
        raise UserError(f"--over_time {pictures}: expected at least 2, the noise and the sample")
    result: Tensor = model.samples_over_time(n, pictures, label).flatten(0, 1)  # (n, K, C, H, W) -> (n K, C, H, W)
    return result
