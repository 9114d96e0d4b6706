"""Training data continue bit-exactly wherever Lightning stopped."""

import zlib
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from zoo.data.datamodule import ImageDataModule
from zoo.errors import UserError


class Listener(pl.LightningModule):
    """Learns nothing, writes down what it was shown."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: dict[int, int] = {}
        self.stop_at = stop_at

    def training_step(self, batch, batch_idx):
        if self.stop_at == self.global_step:
            raise KeyboardInterrupt
        images, _ = batch
        self.seen[self.global_step] = zlib.crc32(images.numpy().tobytes())
        return (self.weight * images.float().mean()).sum()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data(**options) -> ImageDataModule:
    return ImageDataModule("photos", batch_size=4, crop=32, limit=26, **options)  # 6 batches an epoch


def trainer(folder: Path, **options) -> pl.Trainer:
    every = ModelCheckpoint(
        folder, every_n_train_steps=2, save_top_k=-1, filename="{step}", auto_insert_metric_name=False
    )
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [every],
        "max_epochs": 3,
        "limit_val_batches": 1,
    }
    return pl.Trainer(**settings | options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[int, int]:
    module = Listener()
    trainer(tmp_path_factory.mktemp("whole")).fit(module, data())
    assert sorted(module.seen) == list(range(18))
    assert len(set(module.seen.values())) == 18  # every epoch has its own order and windows
    return module.seen


@pytest.mark.parametrize("saved_at", [2, 4, 6, 8, 12])
def test_continues_inside_and_between_epochs(whole, saved_at, tmp_path):
    first = Listener()
    trainer(tmp_path, max_steps=saved_at, max_epochs=-1).fit(first, data())
    second = Listener()
    trainer(tmp_path).fit(second, data(), ckpt_path=tmp_path / f"{saved_at}.ckpt")
    assert first.seen | second.seen == whole
    assert sorted(second.seen) == list(range(saved_at, 18))


def test_continues_after_an_interrupt_with_validation_inside_the_epoch(whole, tmp_path):
    first = Listener(stop_at=9)
    with pytest.raises(SystemExit):
        trainer(tmp_path, val_check_interval=3).fit(first, data())
    second = Listener()
    trainer(tmp_path, val_check_interval=3).fit(second, data(), ckpt_path=tmp_path / "8.ckpt")
    assert first.seen | second.seen == whole
    assert sorted(second.seen) == list(range(8, 18))


def test_overfitting_repeats_the_same_batches(tmp_path):
    module = Listener()
    trainer(tmp_path, overfit_batches=2, limit_val_batches=0).fit(module, data())
    assert [module.seen[step] for step in (0, 1)] * 3 == [module.seen[step] for step in range(6)]


def test_another_batch_size_inside_an_epoch_is_refused(tmp_path):
    loader = data().train_dataloader()
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    other = ImageDataModule("photos", batch_size=8, crop=32, limit=26).train_dataloader()
    with pytest.raises(UserError, match="global_batch_size=4, this run has 8"):
        other.load_state_dict(state)
