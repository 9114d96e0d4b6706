"""Wherever a run is stopped, continuing it is the run in one sitting, bit for bit."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from tests.training.toy import Noisy
from zoo.data import ImageDataModule
from zoo.errors import UserError
from zoo.recipes.continuing import RUN, Continuation
from zoo.recipes.saving import RunCheckpoint
from zoo.training.checkpointing import AtomicCheckpointIO
from zoo.training.module import LitLikelihood

EPOCH = 3  # 6 images in batches of 2
STEPS = 3 * EPOCH


class Watch(pl.Callback):
    """Keeps what is seen: the images of every step, and the steps after which validation ran."""

    def __init__(self) -> None:
        self.images: dict[int, int] = {}
        self.validated: list[int] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.images[trainer.global_step] = int(batch[0].long().sum())

    def on_validation_end(self, trainer, pl_module) -> None:
        self.validated.append(trainer.global_step)


def fit(folder: Path, steps: int, checkpoint: Path | None = None, **changes: Any) -> Watch:
    """Train to a step; returns what was seen."""
    data = {"dataset": "photos", "batch_size": 2, "crop": 16, "limit": 6, "flip": True, "eval_batch_size": 16}
    trainer = {"val_check_interval": 2, "check_val_every_n_epoch": None}
    data |= {key: value for key, value in changes.items() if key not in trainer and key != "accumulate_grad_batches"}
    trainer |= {key: value for key, value in changes.items() if key not in data}
    torch.manual_seed(0)
    module = LitLikelihood(Noisy(size=16, channels=3), lr=1e-2, warmup_steps=0, ema_decay=0.9, grid_every=0)
    watch = Watch()
    pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        callbacks=[watch, Continuation(), RunCheckpoint(folder, 10_000)],
        plugins=[AtomicCheckpointIO()],
        logger=False,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **trainer,
    ).fit(module, datamodule=ImageDataModule(**data), ckpt_path=checkpoint)
    return watch


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def state(folder: Path) -> dict[str, Any]:
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    place = {key: value for key, value in checkpoint[RUN].items() if key != "validation"}
    kept = ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "global_step")
    return {key: checkpoint[key] for key in kept} | place


@pytest.fixture(scope="module")
def sittings(tmp_path_factory):
    """A folder for every length of one sitting, and what the longest one saw."""
    folder = tmp_path_factory.mktemp("sittings")
    seen = {steps: fit(folder / str(steps), steps) for steps in range(1, STEPS + 1)}
    return folder, seen[STEPS]


@pytest.mark.parametrize("first", range(1, STEPS))
def test_every_pair_of_stopping_points_equals_one_sitting(first, sittings, tmp_path):
    """Stopped at `first` and again at every later step; longer chains follow, since the states are equal."""
    folder, whole = sittings
    for second in range(first + 1, STEPS + 1):
        seen = fit(tmp_path / str(second), second, folder / str(first) / "last.ckpt")
        assert seen.images == {step: whole.images[step] for step in range(first, second)}
        assert seen.validated == [step for step in whole.validated if first < step <= second]
        assert same(state(folder / str(second)), state(tmp_path / str(second))), (first, second)


def test_a_chain_of_single_steps_sees_the_images_of_one_sitting(sittings, tmp_path):
    _, whole = sittings
    found = fit(tmp_path, 1).images
    for steps in range(2, STEPS + 1):
        found |= fit(tmp_path, steps, tmp_path / "last.ckpt").images
    assert found == whole.images
    assert len(set(found.values())) > EPOCH  # epochs differ


@pytest.mark.parametrize("stop", [EPOCH - 1, EPOCH, EPOCH + 1])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 4}, "images of a step was 2 and is 4"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"crop": 32}, "crop was 16 and is 32"),
        ({"flip": False}, "flip was True and is False"),
        ({"limit": 8}, "num_images was 6 and is 8"),
        ({"accumulate_grad_batches": 2}, "images of a step was 2 and is 4"),
    ],
)
def test_another_order_of_data_is_refused_at_every_place(change, message, stop, sittings, tmp_path):
    folder, _ = sittings
    with pytest.raises(UserError, match=message):
        fit(tmp_path, STEPS, folder / str(stop) / "last.ckpt", **change)


def test_smaller_batches_accumulated_to_the_same_steps_go_on(sittings, tmp_path):
    folder, _ = sittings
    halves = {"batch_size": 1, "accumulate_grad_batches": 2}
    for stop in (EPOCH - 1, EPOCH, EPOCH + 2):
        seen = fit(tmp_path / str(stop), STEPS, folder / str(stop) / "last.ckpt", **halves)
        assert sorted(seen.images) == list(range(stop, STEPS))
        assert state(tmp_path / str(stop))["place"]["total"] == 2 * STEPS
