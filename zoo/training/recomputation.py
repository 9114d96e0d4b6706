"""Activations recomputed in the backward pass, applied to the blocks of any network from outside."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from zoo.errors import UserError
from zoo.likelihood.model import LikelihoodModel


def recompute_blocks(network: LikelihoodModel) -> None:
    """Keep no activations inside the blocks that the network names, from now on, while it trains.

    Costs about a third of a training step and saves most of its memory; random numbers drawn inside are repeated, so
    gradients are the same. Names of weights do not change.

    Args:
        network: says with `recomputed_blocks()` which methods of which modules take and return tensors alone.

    Raises:
        UserError: the network names none.
    """
    blocks = list(network.recomputed_blocks())
    if not blocks:
        raise UserError(
            f"model.recompute: {type(network).__name__} names no blocks that can be recomputed; leave it out"
        )
    for module, method in blocks:
        plain = getattr(module, method)
        if not isinstance(plain, _Recomputed):
            setattr(module, method, _Recomputed(module, plain))


class _Recomputed:
    """A method whose activations are dropped until the backward pass."""

    def __init__(self, module: torch.nn.Module, plain: Callable[..., Any]) -> None:
        self.module, self.plain = module, plain
        functools.update_wrapper(self, plain)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if not (self.module.training and torch.is_grad_enabled()):
            return self.plain(*arguments, **named)
        return checkpoint(self.plain, *arguments, use_reentrant=False, **named)
