"""Networks that start from weights which other networks have learned."""

from collections.abc import Mapping

import lightning.pytorch as pl
from torch import nn
from typing_extensions import override

from zoo.checkpoints import store
from zoo.errors import UserError


def load_parts(network: nn.Module, weights: Mapping[str, str]) -> None:
    """Load parts of a network from checkpoints.

    Args:
        network: the whole.
        weights: submodule of the network (empty: all of it) -> `path::part`, where part is a submodule of the stored
            network or empty.

    Raises:
        UserError: if a part does not exist or does not fit.
    """
    for part, source in weights.items():
        path, _, inner = source.partition("::")
        try:
            module = network.get_submodule(part)
        except AttributeError as error:
            raise UserError(f"weights: the network has no part {part!r}") from error
        stored = store.read(path).weights
        prefix = f"{inner}." if inner else ""
        chosen = {key.removeprefix(prefix): tensor for key, tensor in stored.items() if key.startswith(prefix)}
        store.fit_weights(module, chosen, f"{path} as {part or 'the network'}")


class StartFrom(pl.Callback):
    """Gives parts of the network the weights of checkpoints before training starts.

    Args:
        weights: see `load_parts`.
    """

    def __init__(self, weights: Mapping[str, str]) -> None:
        self.weights = weights

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Load them; a checkpoint that is resumed from is read later and wins."""
        if stage == "fit":
            load_parts(pl_module.get_submodule("network"), self.weights)
