"""LightningCLI as the zoo uses it: one module class, short names of models, run folders, one-line errors."""

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from typing_extensions import override

import zoo.models
from zoo.checkpoints.migrations import migrated
from zoo.data import ImageDataModule
from zoo.errors import UserError
from zoo.recipes.configuration import Config, as_words
from zoo.recipes.continuing import Continuation
from zoo.recipes.explain import explain, option_names
from zoo.recipes.notes import RunNotes
from zoo.recipes.saving import RunCheckpoint
from zoo.training.checkpointing import AtomicCheckpointIO
from zoo.training.module import LitLikelihood
from zoo.training.progress import progress

KNOWN_NOISE = (
    ".*LeafSpec.*",  # Lightning 2.6 under torch 2.13
    ".*treespec.*",
    ".*does not have many workers.*",  # up to 64x64 no worker is the fastest
    ".*Checkpoint directory .* exists and is not empty.*",  # resuming is the rule, not the exception
    ".*The number of training batches.*is smaller than the logging interval.*",
    ".*lr_scheduler.step.*before.*optimizer.step.*",
    ".*`ModelCheckpoint.*could not find the monitored key.*",
    ".*dirpath has changed.*",
    ".*module.s. in eval mode at the start of training.*",  # frozen first stages
)


class _NoAdvertising(logging.Filter):
    """Drops Lightning's tips for other products."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(word in message for word in ("litlogger", "litmodels", "LitLogger", "LitModel", "💡"))


def quiet() -> None:
    """Silence advertising and warnings that say nothing about the user's run."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).addFilter(_NoAdvertising())
    for message in KNOWN_NOISE:
        warnings.filterwarnings("ignore", message=message)


class ZooCLI(LightningCLI):
    """Parser and objects of one `zoo fit`, `validate`, `test` or `predict`.

    Args:
        contents: configurations, merged from left to right.
        options: words of the command line, which win.
        command: the command, for the help text.
        run_dir: folder of the run; None writes neither logs nor checkpoints.
        model_class: the LightningModule to configure.
        data_class: the LightningDataModule to configure; the base class lets the configuration name one.
        first_step: step at which a run goes on; what an earlier sitting logged from there is dropped.
    """

    def __init__(
        self,
        contents: Sequence[Config],
        options: Sequence[str],
        command: str,
        run_dir: Path | None = None,
        model_class: type[pl.LightningModule] = LitLikelihood,
        data_class: type[pl.LightningDataModule] = ImageDataModule,
        first_step: int | None = None,
    ) -> None:
        self.command = command
        self.run_dir = run_dir
        self.first_step = first_step
        self.saving: RunCheckpoint | None = None
        for name in zoo.models.__all__:
            getattr(zoo.models, name)  # short class names are found among the classes that have been imported
        super().__init__(
            model_class,
            data_class,
            subclass_mode_model=model_class is pl.LightningModule,
            subclass_mode_data=data_class is pl.LightningDataModule,
            save_config_callback=SaveConfigCallback if command == "fit" and run_dir is not None else None,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            parser_kwargs={"prog": f"zoo {command}", "exit_on_error": False, "description": _DESCRIPTIONS[command]},
            args=[*(as_words(migrated(content)) for content in contents), *options],
            run=False,
            auto_configure_optimizers=False,
        )

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise UserError(explain(error, self.command, option_names(parser))) from error

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run_dir", type=str | None, help="Folder of the run. Default: runs/<name of the config>")
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            help="Checkpoint: a file, a run folder or a shipped name; for fit, `last` continues the run",
        )
        parser.add_argument(
            "--reproduces",
            type=list[str],
            default=[],
            help="Rows of the published tables this configuration reproduces; records carry them",
        )
        parser.add_argument("--checkpoint_every", type=int, default=1000, help="Steps between two writes of last.ckpt")
        parser.add_argument("--keep_every", type=int, default=0, help="Steps between checkpoints that stay; 0: none")

    @override
    def before_instantiate_classes(self) -> None:
        """Name files of data from the root, so that the saved configuration means the same in every folder."""
        data = self.config.get("data")
        for key in ("dataset", "path", "init_args.dataset", "init_args.path"):
            named = data.get(key) if data is not None else None
            if isinstance(named, str) and Path(named).is_file():
                data[key] = str(Path(named).resolve())

    @override
    def instantiate_classes(self) -> None:
        """Build model, data and trainer; values that a constructor refuses are the user's error."""
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
            raise UserError(f"the configuration cannot be built: {str(error).splitlines()[0]}") from error

    @override
    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Trainer with our run folder, whole-or-nothing checkpoints and progress."""
        config = self._get(self.config_init, "trainer", default={})
        kwargs["plugins"] = [*_as_list(config.get("plugins")), AtomicCheckpointIO()]
        loggers = config.get("logger")
        if self.run_dir is None or config.get("fast_dev_run"):
            kwargs["logger"] = False
        elif loggers is not False:
            others = [] if loggers in (None, True) else _as_list(loggers)
            kwargs["logger"] = [*others, _tensorboard(self.run_dir, self.first_step)]
        callbacks = [progress()] if config.get("enable_progress_bar") is not False else []
        keeps = self.command == "fit" and self.run_dir is not None and not config.get("fast_dev_run")
        if keeps and self.run_dir is not None and config.get("enable_checkpointing") is not False:
            every, keep = (self._get(self.config_init, key) for key in ("checkpoint_every", "keep_every"))
            self.saving = RunCheckpoint(self.run_dir, every, keep)
            configuration = self.parser.dump(self.config, skip_none=False)
            callbacks += [Continuation(), RunNotes(configuration), self.saving]
        elif not config.get("callbacks"):
            kwargs["enable_checkpointing"] = False
        kwargs["enable_model_summary"] = bool(config.get("enable_model_summary"))
        if config.get("enable_progress_bar") is None and not sys.stdout.isatty():
            kwargs["enable_progress_bar"] = False
        self.trainer_defaults["callbacks"] = callbacks
        return super().instantiate_trainer(**kwargs)


def _tensorboard(folder: Path, first_step: int | None) -> TensorBoardLogger:
    """Curves and images of a run, in its folder."""
    return TensorBoardLogger(folder, name="", version="", default_hp_metric=False, purge_step=first_step)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


_DESCRIPTIONS = {
    "fit": "Train a model. Rerun with --ckpt_path last to continue a run that was stopped.",
    "validate": "Price the validation split and print the means.",
    "test": "Price every image of the split once and append a record.",
    "predict": "Write the price of every image of the split, one line each.",
}
