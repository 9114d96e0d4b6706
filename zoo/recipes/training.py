"""Training one model: from a plan to a run folder with a self-describing export at the end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo import plugins
from zoo.errors import UserError
from zoo.recipes.configuration import Config
from zoo.recipes.folder import EXPORT, LAST, SAVED, check_new, claimed, resume_file
from zoo.recipes.processes import is_first_process

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
    """Train one model, in a folder that is tried and held before anything heavy begins.

    Raises:
        UserError: for anything in plan, data or folder that does not fit.
        Stop: if a signal ended the training; its state is saved.
    """
    with claimed(plan.run_dir):
        resume = resume_file(plan.resume, plan.run_dir) if plan.resume is not None else None
        if plan.resume is None and is_first_process():
            check_new(plan.run_dir)
        _train(plan, resume)


def _train(plan: Plan, resume: str | None) -> None:
    from zoo.recipes.lightning import ZooCLI, quiet

    quiet()
    # The folder goes into the saved configuration, so that `--config RUN/config.yaml --ckpt_path last` continues.
    contents = [*plan.contents, {"run_dir": str(plan.run_dir.resolve()), "ckpt_path": None}]
    classes = module_class(plan.contents), data_class(plan.contents)
    cli: Any = ZooCLI(contents, plan.options, "fit", plan.run_dir, *classes, first_step=_first_step(plan, resume))
    check_images(cli.model, cli.datamodule)
    cli.model.notes = notes_of(cli, plan.run_dir)
    if plan.weights:
        from zoo.recipes.parts import StartFrom

        cli.trainer.callbacks.append(StartFrom(plan.weights))
    if cli.saving is not None:
        cli.saving.export = lambda path: export(cli, path)
    fresh = not cli.trainer.fast_dev_run
    if fresh and is_first_process():
        (plan.run_dir / EXPORT).unlink(missing_ok=True)  # it would be older than what this run writes
        for unfinished in plan.run_dir.glob(".*.part.*"):  # of a run that was killed while it wrote
            unfinished.unlink(missing_ok=True)
    if cli.trainer.is_global_zero:
        network = getattr(cli.model, "network", cli.model)
        size = sum(parameter.numel() for parameter in network.parameters())
        print(f"{type(network).__name__}: {size:,} parameters; run folder {plan.run_dir}", flush=True)
    _fit(cli, resume, plan.run_dir)
    if fresh and cli.trainer.is_global_zero:
        _report(export(cli, plan.run_dir / EXPORT), plan.run_dir, cli.trainer.global_step)


def _fit(cli: Any, resume: str | None, run_dir: Path) -> None:
    """Run the trainer; mistakes that Lightning finds only now are the user's, too."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from zoo.recipes.signals import Stop

    if cli.saving is not None:
        cli.saving.notice.listen()
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=resume)
    except Stop as stop:
        if cli.trainer.is_global_zero:
            again = f"zoo fit --config {run_dir / SAVED} --ckpt_path last"
            saved = (run_dir / LAST).is_file()
            print(f"stopped by {stop} at step {cli.trainer.global_step}", end="; " if saved else "\n")
            print(f"{run_dir / LAST} is saved, continue with: {again}" if saved else "", flush=True)
        if not is_first_process():  # or Lightning would kill the first process for the failure of this one
            raise SystemExit(0) from stop
        raise
    except (MisconfigurationException, RuntimeError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, MisconfigurationException) or "conditioned on metric" in text:
            raise UserError(f"the trainer cannot do what the configuration asks for: {text}") from error
        raise
    finally:
        if cli.saving is not None:
            cli.saving.notice.ignore()


def _first_step(plan: Plan, resume: str | None) -> int | None:
    """The step at which logging goes on: 0 if a run begins again, None if nothing was logged before."""
    if resume is None:
        return 0 if plan.resume is not None else None
    import torch

    try:
        return int(torch.load(resume, mmap=True, weights_only=True, map_location="cpu")["global_step"])
    except Exception:  # whatever is wrong with the file is said where it is read in earnest
        return None


def check_images(module: Any, data: Any) -> None:
    """Refuse data whose images are not of the network's size, before anything is trained.

    Raises:
        UserError: naming both sizes.
    """
    wanted = getattr(getattr(module, "network", None), "image_shape", None)
    found = getattr(data, "image_shape", None)
    if wanted is None or found is None or tuple(wanted) == tuple(found):
        return
    raise UserError(
        f"data.dataset={data.dataset}: images are {tuple(found)} (channels, height, width), the network takes "
        f"{tuple(wanted)}; choose another --data.dataset, --data.crop or --data.pad"
    )


def _report(path: Path | None, run_dir: Path, steps: int) -> None:
    """What was written, and what one does with it."""
    if path is None:
        print(
            f"{run_dir / LAST}: the trained model; it is not exported as {EXPORT}, since its class is not the zoo's: "
            "name its module with --plugins"
        )
        return
    print(f"{path}: averaged weights after {steps} steps; {run_dir / LAST} continues the run")
    print(f"next: zoo test {run_dir}; zoo sample {run_dir}; tensorboard --logdir {run_dir}")


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


def notes_of(cli: Any, run_dir: Path) -> dict[str, Any]:
    """What every checkpoint of a run says of the run and of the data it learns from, as plain values."""
    data = cli.datamodule
    notes = {
        "run": run_dir.resolve().name,
        "data": {name: getattr(data, name) for name in DATA_SETTINGS if hasattr(data, name)},
        "augmented": any(getattr(data, name, False) for name in ("rotate", "swap_channels")),
        "reproduces": list(cli.config.get("reproduces") or []),
    }
    digest = getattr(getattr(getattr(data, "info", None), "splits", {}).get("train"), "sha256", None)
    return notes if digest is None else notes | {"data_sha256": digest}


def export(cli: Any, path: Path) -> Path | None:
    """Write the averaged weights with their description, readable by every command; None for foreign classes."""
    from zoo.checkpoints import store
    from zoo.recipes.continuing import Continuation

    spec = dict(cli.model.hparams).get("network")
    if spec is None or not plugins.is_trusted(str(spec["class_path"])):
        return None
    trainer = cli.trainer
    meta = {
        **notes_of(cli, path.resolve().parent),
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch,
        "skipped_updates": getattr(cli.model, "skipped_total", 0),
    }
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for callback in trainer.callbacks:
        if isinstance(callback, Continuation):
            found = {**callback.validation, **found}  # of an earlier sitting, if this one has not validated
    meta |= {name: value for name, value in found.items() if name.startswith("val/bits_per")}
    return store.save(path, spec, cli.model.network, meta)
