"""Short trainings that a table makes by itself, through the same module and trainer as `zoo fit`."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch

from zoo.benchmarks.measures.evaluator import Settings, evaluate
from zoo.benchmarks.records import Record
from zoo.checkpoints.specification import build
from zoo.data import ImageDataModule, open_split
from zoo.errors import UserError
from zoo.likelihood import LikelihoodModel
from zoo.training.module import LitLikelihood

LN2 = 0.6931472
"""Gradient smoothing of Hazami et al. (2022): softplus with this beta; 1 is none."""


class GradientNorms(pl.Callback):
    """Keeps the gradient norm of every step, before clipping."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Remember the norm of this step."""
        self.norms.append(float(pl_module.get_buffer("gradient_norm")))


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        network: with averaged weights, in eval mode.
        norms: gradient norm of every step in nats/dim.
        skipped: updates that were skipped.
        diverged: training ended early, since nothing but skips was left or a cost was not finite.
        seconds: wall time.
    """

    network: LikelihoodModel
    norms: list[float]
    skipped: int
    diverged: bool
    seconds: float


def network(beta: float, bits: int = 8, min_log_scale: float = -250.0, **options: Any) -> dict[str, Any]:
    """Spec of the small network the short trainings use: 7 stochastic layers, 32x32.

    Args:
        beta: gradient smoothing of latents and output, 1 = none.
        bits: depth it prices.
        min_log_scale: lower limit of the scales of the output.
        options: further arguments of `EfficientVDVAE`.
    """
    up = [
        {"width": 16, "blocks": [1], "ratio": 0.5, "stride": 2},
        {"width": 32, "blocks": [1], "ratio": 0.5, "stride": 2},
        {"width": 48, "blocks": [1], "ratio": 0.5, "stride": 2},
        {"width": 48, "blocks": [1], "ratio": 0.5},
    ]
    down = [
        {"width": 48, "blocks": [1], "ratio": 0.5, "latents": 8},
        {"width": 48, "blocks": [2], "ratio": 0.5, "latents": 8, "stride": 2},
        {"width": 32, "blocks": [3], "ratio": 0.5, "latents": 8, "stride": 2},
        {"width": 16, "blocks": [1], "ratio": 0.5, "latents": 4, "stride": 2},
    ]
    arguments = {
        "image_shape": [3, 32, 32],
        "bits": bits,
        "architecture": {"bottom_up": up, "top_down": down, "latent_beta": beta},
        "output": {"mixtures": 3, "beta": beta, "min_log_scale": min_log_scale},
        "schedule": {"steps": 200, "balance_steps": 200},
    }
    return {"class_path": "zoo.models.EfficientVDVAE", "init_args": {**arguments, **options}}


def train(
    spec: Mapping[str, Any],
    *,
    dataset: str = "photos",
    steps: int,
    batch_size: int,
    seed: int = 0,
    **training: Any,
) -> Run:
    """Train a network from its spec for a number of steps.

    Args:
        spec: class path and arguments.
        dataset: what `ImageDataModule` takes; windows of the network's size are cut from larger images.
        steps: optimiser steps.
        batch_size: images per step.
        seed: of weights, data order and noise.
        training: further arguments of `LitLikelihood`.
    """
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]), _quiet():
        pl.seed_everything(seed, verbose=False)
        network = build(dict(spec))
        if not isinstance(network, LikelihoodModel):
            raise UserError(f"{spec['class_path']}: not a likelihood model")
        data = ImageDataModule(dataset, batch_size=batch_size, crop=network.image_shape[1], flip=True, seed=seed)
        module = LitLikelihood(network, **{"grid_every": 0, "ema_decay": 0.99, **training})
        norms = GradientNorms()
        trainer = _trainer(steps, norms)
        diverged = False
        try:
            trainer.fit(module, train_dataloaders=data.train_dataloader())
        except (UserError, ValueError):  # stopped after too many skips, or latents without a finite scale
            diverged = True
    return Run(network.eval(), norms.norms, module.skipped_total, diverged, time.perf_counter() - started)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's remarks on hardware, workers and log intervals out of a table."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _trainer(steps: int, callback: pl.Callback) -> pl.Trainer:
    """One process on the CPU that writes nothing."""
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,  # skips are counted by the host whenever numbers are logged
    )


def price(run: Run, dataset: str, split: str = "test", seed: int = 0, limit: int | None = None) -> Record | None:
    """Price a split with the trained network; None if a cost is not finite.

    Args:
        run: a finished training.
        dataset: as in `train`.
        split: which part.
        seed: of the noise.
        limit: at most this many images of the file.
    """
    loader = open_split(dataset, split, run.network.image_shape, limit=limit)
    try:
        return evaluate(run.network, loader, Settings(seed=seed))
    except UserError:
        return None
