"""Full precision where probabilities are made, whatever the precision of the network around them.

Half precision has 8 bits of mantissa or 11, which is as coarse as the levels themselves: a mean that is rounded to it
costs bits. So the last layers, the distributions and everything after them run in float32 or better.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor


def full(x: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is that already."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def outside_autocast(layer: Callable[..., Tensor], x: Tensor, *parameters: Tensor | None) -> Tensor:
    """A layer computed in full precision under autocast, and as it is elsewhere.

    Args:
        layer: called with `x` and the parameters.
        x: its input.
        parameters: weights given to the layer, in the precision that they are stored in.
    """
    if not _under_autocast(x):
        return layer(x, *parameters)
    with no_autocast(x):
        return layer(full(x), *parameters)


def no_autocast(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Block in which nothing is computed in lower precision because autocast would, on the device of `x`."""
    return torch.autocast(x.device.type, enabled=False) if _under_autocast(x) else contextlib.nullcontext()


def _under_autocast(x: Tensor) -> bool:
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)
