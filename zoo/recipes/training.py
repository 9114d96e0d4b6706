"""Training one model: from a plan to a run folder with a self-describing export at the end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.recipes.configuration import Config

LAST = "last.ckpt"
EXPORT = "last.safetensors"
DATA_SETTINGS = ("dataset", "crop", "labels", "binarize", "pad", "val_split", "test_split")
"""What evaluation needs to know of the data a model was trained on."""


@dataclass(frozen=True)
class Plan:
    """What is to be trained, and where.

    Attributes:
        contents: configurations, merged from left to right.
        options: words for Lightning's parser, which win over the configurations.
        run_dir: folder of the run.
        resume: `last`, a checkpoint file, or None to start from the beginning.
        weights: parts of the network that start from checkpoints, see `zoo.recipes.parts.load_parts`.
    """

    contents: Sequence[Config]
    options: Sequence[str]
    run_dir: Path
    resume: str | None = None
    weights: dict[str, str] = field(default_factory=dict)


def train(plan: Plan) -> None:
    """Train one model."""
    from zoo.recipes.lightning import ZooCLI, quiet

    quiet()
    run_dir = plan.run_dir
    resume = _resume_file(plan.resume, run_dir) if plan.resume is not None else None
    # The folder goes into the saved configuration, so that `--config RUN/config.yaml --ckpt_path last` continues.
    contents = [*plan.contents, {"run_dir": str(run_dir), "ckpt_path": None}]
    cli = ZooCLI(contents, plan.options, "fit", run_dir, module_class(plan.contents), data_class(plan.contents))
    if plan.weights:
        from zoo.recipes.parts import StartFrom

        cli.trainer.callbacks.append(StartFrom(plan.weights))
    fresh = not cli.trainer.fast_dev_run
    if fresh and resume is None and (run_dir / LAST).exists():
        raise UserError(
            f"{run_dir} holds a run already ({LAST}); continue it with --ckpt_path last, or choose another folder "
            "with --run_dir"
        )
    if fresh:
        (run_dir / EXPORT).unlink(missing_ok=True)  # it would be older than what this run writes
        for unfinished in run_dir.glob(".last.*.part.*"):  # of a run that was killed while it wrote
            unfinished.unlink(missing_ok=True)
    if cli.trainer.is_global_zero:
        network = getattr(cli.model, "network", cli.model)
        size = sum(parameter.numel() for parameter in network.parameters())
        print(f"{type(network).__name__}: {size:,} parameters; run folder {run_dir}")
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=resume)
    if fresh and cli.trainer.is_global_zero:
        export(cli, run_dir)


def _resume_file(wanted: str, run_dir: Path) -> str | None:
    if wanted != "last":
        if not Path(wanted).is_file():
            raise UserError(f"{wanted}: no such checkpoint; give a file, or `last` to continue the run in {run_dir}")
        return wanted
    if (run_dir / LAST).is_file():
        return str(run_dir / LAST)
    print(f"{run_dir / LAST} is not there yet: starting from the beginning")
    return None


def module_class(contents: Sequence[Config]) -> Any:
    """`LitLikelihood`, or any LightningModule if a configuration names one as `model.class_path`."""
    import lightning.pytorch as pl

    from zoo.training.module import LitLikelihood

    return pl.LightningModule if _names_a_class(contents, "model") else LitLikelihood


def data_class(contents: Sequence[Config]) -> Any:
    """`ImageDataModule`, or any LightningDataModule if a configuration names one as `data.class_path`."""
    import lightning.pytorch as pl

    from zoo.data import ImageDataModule

    return pl.LightningDataModule if _names_a_class(contents, "data") else ImageDataModule


def _names_a_class(contents: Sequence[Config], key: str) -> bool:
    named = (content.get(key) for content in contents)
    return any(isinstance(value, dict) and "class_path" in value for value in named)


def export(cli: Any, run_dir: Path) -> None:
    """Write the averaged weights with their description, readable by every command."""
    from zoo.checkpoints import store

    if not hasattr(cli.model, "network"):
        return
    spec = dict(cli.model.hparams)["network"]
    if not str(spec["class_path"]).startswith("zoo."):
        print(f"{run_dir / LAST}: the trained model; only classes of the zoo are exported as {EXPORT}")
        return
    trainer = cli.trainer
    meta = {
        "run": run_dir.name,
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch,
        "data": {name: getattr(cli.datamodule, name) for name in DATA_SETTINGS if hasattr(cli.datamodule, name)},
        "augmented": any(getattr(cli.datamodule, name, False) for name in ("rotate", "swap_channels")),
        "skipped_updates": getattr(cli.model, "skipped_total", 0),
    }
    meta |= {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/bits_per")}
    path = store.save(run_dir / EXPORT, spec, cli.model.network, meta)
    print(f"{path}: averaged weights after {trainer.global_step} steps")
