"""`zoo validate`, `zoo test` and `zoo predict`: price a checkpoint on a split, on any number of processes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from torch import Tensor
from typing_extensions import override

from zoo.benchmarks import records
from zoo.benchmarks.measures.bits_per_dim import Summary
from zoo.benchmarks.measures.evaluator import Evaluation, Settings, describe_split
from zoo.checkpoints import store
from zoo.cli.fit import DATA_SETTINGS
from zoo.cli.lightning import ZooCLI, option, quiet, without_option
from zoo.errors import UserError
from zoo.files import atomic_path
from zoo.likelihood import nats_to_bits_per_dim


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
        loader = self.trainer.test_dataloaders
        self.evaluation.update(*batch, loader.plan.global_batch(batch_idx))

    @override
    def on_test_epoch_end(self) -> None:
        loader = self.trainer.test_dataloaders

        def example() -> tuple[Tensor, Tensor]:
            x, label = loader.reader.__getitems__(loader.plan.request(0, -loader.plan.rank))
            return x[:1].to(self.device), label[:1].to(self.device)

        self.summary = self.evaluation.summary(example)

    @override
    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> list[dict[str, Any]]:
        loader = self.trainer.predict_dataloaders
        number = loader.plan.global_batch(batch_idx)
        terms, nelbo = self.evaluation.price(*batch, number)
        columns = {"bits_per_dim": nelbo, "rate": terms.rate, "distortion": terms.distortion}
        values = {name: nats_to_bits_per_dim(nats, terms.num_dims).tolist() for name, nats in columns.items()}
        first = number * loader.batch_size
        return [
            {"index": first + row, **{name: value[row] for name, value in values.items()}, "priced": terms.priced}
            for row in range(len(nelbo))
        ]


@dataclass(frozen=True)
class Subject:
    """A checkpoint with its weights in the command's network, and the data to price."""

    cli: ZooCLI
    path: Path
    spec: dict[str, Any]
    name: str
    augmented: bool


def validate(argv: list[str]) -> int:
    """Run `zoo validate` with these arguments."""
    subject = _open(argv, "validate")
    if subject is None:
        return 0
    cli = subject.cli
    results = cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    for name, value in results[0].items():
        if "rate/" not in name:
            print(f"{name} {value:.5f}")
    return 0


def test(argv: list[str]) -> int:
    """Run `zoo test` with these arguments."""
    subject = _open(argv, "test")
    if subject is None:
        return 0
    cli, config = subject.cli, subject.cli.config
    settings = Settings(config.passes, config.importance_samples, int(config.seed_everything), config.estimator)
    pricing = Pricing(Evaluation(cli.model.network, settings))
    cli.trainer.test(pricing, datamodule=cli.datamodule, verbose=False)
    loader = cli.trainer.test_dataloaders
    limit = cli.datamodule.limit
    notes = [config.note, f"first {limit} images of the file only" if limit else ""]
    assert pricing.summary is not None
    record = pricing.evaluation.record(
        describe_split(loader),
        loader.batch_size,
        pricing.summary,
        config=subject.name,
        checkpoint=subject.path.name,
        spec=subject.spec,
        augmented=subject.augmented,
        partial=bool(limit),
        note="; ".join(note for note in notes if note),
    )
    if cli.trainer.is_global_zero:
        target = Path(config.records) / f"{subject.name}.jsonl"
        records.append(target, record)
        _show(record, target)
    return 0


def _show(record: Any, target: Path) -> None:
    unit = "bits/dim" if record.priced == "pixels" else "bits/code"
    print(
        f"{record.config}: {record.bits_per_dim:.4f} +- {record.standard_error:.4f} {unit} "
        f"(rate {record.rate:.4f}, distortion {record.distortion:.4f}; {record.bits} bits, {record.bins}, "
        f"{record.estimator}) over {record.images} images of {record.dataset}/{record.split}"
    )
    print(f"record appended to {target}")


def predict(argv: list[str]) -> int:
    """Run `zoo predict` with these arguments."""
    subject = _open(argv, "predict")
    if subject is None:
        return 0
    cli, config = subject.cli, subject.cli.config
    pricing = Pricing(Evaluation(cli.model.network, Settings(seed=int(config.seed_everything))))
    batches = cli.trainer.predict(pricing, datamodule=cli.datamodule) or []
    rows = [row for batch in batches for row in batch]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        shares: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(shares, rows)
        rows = sorted((row for share in shares for row in share), key=lambda row: row["index"])
    if cli.trainer.is_global_zero:
        with atomic_path(config.output) as path:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        print(f"{config.output}: prices of {len(rows)} images")
    return 0


def _open(argv: list[str], command: str) -> Subject | None:
    """Read the checkpoint, then parse: its network and data are the defaults that files and options override."""
    quiet()
    source = option(argv, "--ckpt_path")
    if source is None:
        if {"-h", "--help"} & set(argv):
            ZooCLI(argv, command)
            return None
        raise UserError(f"zoo {command}: name a checkpoint with --ckpt_path (a file, a run folder or a shipped name)")
    path = store.resolve(source)
    contents = store.read(path)
    trusted = option(argv, "--model.network") or option(argv, "--config")
    spec = contents.spec if trusted else store.qualified(contents.spec)
    defaults = [f"--model.network={json.dumps(spec)}"]
    for key, value in _data(path, contents.meta).items():
        defaults.append(f"--data.{key}={value if isinstance(value, str) else json.dumps(value)}")
    cli = ZooCLI([*defaults, *without_option(argv, "--ckpt_path")], command)
    store.fit_weights(cli.model.network, contents.weights, str(path))
    cli.model.eval()
    cli.datamodule.tile_for(cli.model.network.image_shape)
    spec = {"class_path": cli.config.model.network.class_path}
    spec["init_args"] = _plain(cli.config.model.network.get("init_args", {}))
    return Subject(cli, path, spec, store.experiment_name(path), bool(contents.meta.get("augmented")))


def _plain(value: Any) -> Any:
    """A parsed configuration as JSON types."""
    if hasattr(value, "as_dict"):
        return _plain(value.as_dict())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _data(path: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """Settings of the data the checkpoint was trained on, as far as evaluation shares them."""
    data = meta.get("data")
    beside = path.with_name("config.yaml")
    if data is None and beside.is_file():
        data = (yaml.safe_load(beside.read_text(encoding="utf-8")) or {}).get("data")
    return {key: data[key] for key in DATA_SETTINGS if key in data} if isinstance(data, dict) else {}
