"""What `zoo validate`, `test` and `predict` share: a checkpoint in Lightning's loops, on any number of processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor
from typing_extensions import override

from zoo.benchmarks.measures import identity
from zoo.benchmarks.measures.bits_per_dim import Summary
from zoo.benchmarks.measures.evaluator import Evaluation
from zoo.checkpoints import store
from zoo.checkpoints.specification import qualified
from zoo.errors import UserError
from zoo.likelihood import nats_to_bits_per_dim
from zoo.recipes.configuration import read_config
from zoo.recipes.lightning import ZooCLI, quiet
from zoo.recipes.training import DATA_SETTINGS


class Pricing(pl.LightningModule):
    """Drives the evaluator with the test or predict loop, so that Lightning places model and batches on devices.

    Args:
        evaluation: prices batches.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        super().__init__()
        self.network = evaluation.network
        self.evaluation = evaluation
        self.summary: Summary | None = None

    @override
    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        loader: Any = self.trainer.test_dataloaders
        self.evaluation.update(*batch, loader.indices(batch_idx))

    @override
    def on_test_epoch_end(self) -> None:
        loader: Any = self.trainer.test_dataloaders

        def example() -> tuple[Tensor, Tensor]:
            x, label = loader.reader.__getitems__(loader.plan.request(0, -loader.plan.rank))
            return x[:1].to(self.device), label[:1].to(self.device)

        self.summary = self.evaluation.summary(example)

    @override
    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> list[dict[str, Any]]:
        loader: Any = self.trainer.predict_dataloaders
        indices = loader.indices(batch_idx)
        terms, nelbo = self.evaluation.price(*batch, indices)
        columns = {"bits_per_dim": nelbo, "rate": terms.rate, "distortion": terms.distortion}
        values = {name: nats_to_bits_per_dim(nats, terms.num_dims).tolist() for name, nats in columns.items()}
        return [
            {"index": int(indices[row]), **{name: value[row] for name, value in values.items()}, "priced": terms.priced}
            for row in range(len(nelbo))
        ]


@dataclass(frozen=True)
class Subject:
    """A checkpoint with its weights in the command's network, the data to price, its folder and its steps."""

    cli: ZooCLI
    described: dict[str, Any]
    folder: Path
    step: int


def open_subject(command: str, source: str | None, options: Sequence[str], config: Sequence[str]) -> Subject:
    """Read the checkpoint, then parse: its network and data are the defaults that files and options override."""
    quiet()
    if not source:
        raise UserError(f"zoo {command}: no CKPT given: a file, a run folder or a shipped name (zoo {command} --help)")
    path = store.resolve(source)
    contents = store.read(path)
    trusted = bool(config) or any(word.startswith("--model.network") for word in options)
    spec = contents.spec if trusted else qualified(contents.spec)
    noted = identity.notes(path, contents.meta).get("data") or {}
    data = {key: noted[key] for key in DATA_SETTINGS if key in noted}
    cli = ZooCLI([{"model": {"network": spec}, "data": data}, *map(read_config, config)], options, command)
    store.fit_weights(cli.model.network, contents.weights, str(path))
    cli.model.eval()
    cli.datamodule.tile_for(cli.model.network.image_shape)
    priced = {"class_path": cli.config.model.network.class_path}
    priced["init_args"] = _plain(cli.config.model.network.get("init_args", {}))
    step = contents.meta.get("steps", contents.meta.get("global_step", 0))
    return Subject(cli, identity.described(path, contents.meta, contents.spec, priced), path.parent, int(step))


def _plain(value: Any) -> Any:
    """A parsed configuration as JSON types."""
    if hasattr(value, "as_dict"):
        return _plain(value.as_dict())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
