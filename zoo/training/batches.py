"""From the images of a training step, as a configuration states them, to the batch of each process."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from zoo.errors import UserError


@runtime_checkable
class StatesBatch(Protocol):
    """A data module that says how many images a step has.

    Attributes:
        batch_size: images of a batch of one process; at most as many as fit a device.
        global_batch_size: images of a step over all processes and accumulated batches; None: what comes out.
    """

    batch_size: int
    global_batch_size: int | None


def spread(images: int, largest: int, processes: int) -> tuple[int, int]:
    """Batch of a process, and the batches accumulated in a step.

    Args:
        images: of a step.
        largest: images that fit a device.
        processes: number of processes.

    Returns:
        Batch size and number of batches, whose product with `processes` is `images`; the batch is as large as it may
        be.

    Raises:
        UserError: the images cannot be dealt out evenly.

    Example:
        >>> spread(1024, 16, 8)
        (16, 8)
        >>> spread(32, 16, 8)
        (4, 1)
    """
    share, rest = divmod(images, processes)
    if rest or not share:
        raise UserError(
            f"data.global_batch_size={images}: cannot be dealt out to {processes} processes; choose a multiple of "
            f"{processes}, such as {max(1, round(images / processes)) * processes}, or other trainer.devices"
        )
    batch = next(size for size in range(min(share, largest), 0, -1) if share % size == 0)
    return batch, share // batch


def in_words(batch: int, processes: int, accumulation: int, stated: int | None) -> str:
    """What a training step is made of, and whether that is what the configuration states."""
    total = batch * processes * accumulation
    factors = [f"{batch} at once"]
    if processes > 1:
        factors.append(f"{processes} processes")
    if accumulation > 1:
        factors.append(f"{accumulation} accumulated batches")
    text = f"a step has {total} images" + (f": {' x '.join(factors)}" if len(factors) > 1 else "")
    return text if stated in (None, total) else f"{text}; the configuration states {stated}"
