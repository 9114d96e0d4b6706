"""`zoo fit`: LightningCLI training in a run folder, resumable, with a self-describing export at the end."""

from pathlib import Path
from typing import Any

from zoo.errors import UserError

RUNS = Path("runs")
LAST = "last.ckpt"
EXPORT = "last.safetensors"
DATA_SETTINGS = ("dataset", "crop", "labels", "binarize", "pad", "val_split", "test_split")
"""What evaluation needs to know of the data a model was trained on."""


def run(argv: list[str]) -> int:
    """Train what the configuration describes, stage by stage if it has stages."""
    from zoo.cli.lightning import config_files, read_config

    files = config_files(argv)
    for file in files:
        if isinstance(read_config(file).get("stages"), list):
            from zoo.cli.stages import run_stages

            rest = [word for word in argv if word not in ("--config", "-c", str(file), f"--config={file}")]
            return run_stages(file, rest) or 0
    return train(argv, files)


def train(argv: list[str], files: list[Path]) -> int:
    """Train one model.

    Args:
        argv: arguments behind `zoo fit`.
        files: the configuration files among them.
    """
    from zoo.cli.lightning import ZooCLI, option, quiet, read_config, without_option

    quiet()
    named = {key: value for file in files for key, value in read_config(file).items() if value is not None}
    stem = files[-1].stem if files else "unnamed"
    run_dir = Path(option(argv, "--run_dir") or named.get("run_dir") or RUNS / stem)
    resume = option(argv, "--ckpt_path") or named.get("ckpt_path")
    if resume is not None:
        resume = _resume_file(resume, run_dir)
    # The folder goes into the saved configuration, so that `--config RUN/config.yaml --ckpt_path last` continues.
    argv = [*without_option(without_option(argv, "--ckpt_path"), "--run_dir"), f"--run_dir={run_dir}"]
    cli = ZooCLI(argv, "fit", run_dir, _module_class(files), _data_class(files))
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
    return 0


def _resume_file(wanted: str, run_dir: Path) -> str | None:
    if wanted != "last":
        if not Path(wanted).is_file():
            raise UserError(f"{wanted}: no such checkpoint; give a file, or `last` to continue the run in {run_dir}")
        return wanted
    if (run_dir / LAST).is_file():
        return str(run_dir / LAST)
    print(f"{run_dir / LAST} is not there yet: starting from the beginning")
    return None


def _module_class(files: list[Path]) -> Any:
    """`LitLikelihood`, or any LightningModule if a configuration names one as `model.class_path`."""
    import lightning.pytorch as pl

    from zoo.cli.lightning import read_config
    from zoo.training.module import LitLikelihood

    for file in files:
        model = read_config(file).get("model")
        if isinstance(model, dict) and "class_path" in model:
            return pl.LightningModule
    return LitLikelihood


def _data_class(files: list[Path]) -> Any:
    """`ImageDataModule`, or any LightningDataModule if a configuration names one as `data.class_path`."""
    import lightning.pytorch as pl

    from zoo.cli.lightning import read_config
    from zoo.data import ImageDataModule

    named = (read_config(file).get("data") for file in files)
    return (
        pl.LightningDataModule
        if any(isinstance(data, dict) and "class_path" in data for data in named)
        else (ImageDataModule)
    )


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
