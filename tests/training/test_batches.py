"""A step has the images that the configuration states, on any number of devices."""

import lightning.pytorch as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.test_adversarial import QUIET
from tests.training.test_adversarial import module as first_stage
from tests.training.test_module import lit
from tests.training.toy import Noisy
from zoo.data import ImageDataModule
from zoo.errors import UserError
from zoo.training.batches import in_words, spread


@given(st.integers(1, 4096), st.integers(1, 300), st.integers(1, 64))
def test_nothing_is_lost_and_no_device_is_overfilled(images, largest, processes):
    if images % processes:
        with pytest.raises(UserError, match=r"cannot be dealt out to"):
            spread(images, largest, processes)
        return
    batch, accumulation = spread(images, largest, processes)
    assert batch * accumulation * processes == images
    assert batch <= largest


def test_the_words_say_what_differs():
    assert in_words(16, 1, 1, None) == "a step has 16 images"
    assert in_words(16, 8, 2, 256) == "a step has 256 images: 16 at once x 8 processes x 2 accumulated batches"
    assert in_words(16, 8, 1, 256).endswith("; the configuration states 256")


@pytest.mark.parametrize("given_accumulation", [1, 2])
def test_a_step_has_the_stated_images(given_accumulation, capsys):
    data = ImageDataModule("photos", batch_size=4, global_batch_size=12, crop=16, limit=8, crops_per_image=3)
    module = lit(Noisy(size=16, channels=3))
    trainer = pl.Trainer(max_steps=2, accumulate_grad_batches=given_accumulation, limit_val_batches=0, **QUIET)
    trainer.fit(module, datamodule=data)
    accumulation = {1: 3, 2: 2}[given_accumulation]  # what the user gives stands
    assert (data.batch_size, trainer.accumulate_grad_batches) == (4, accumulation)
    assert trainer.fit_loop.epoch_loop.total_batch_idx + 1 == 2 * accumulation
    said = capsys.readouterr().out
    assert "a step has" in said
    assert ("the configuration states 12" in said) == (given_accumulation == 2)


def test_a_first_stage_accumulates_too():
    data = ImageDataModule("photos", batch_size=2, global_batch_size=6, crop=32, limit=8, crops_per_image=3)
    module = first_stage(disc_start=0)
    trainer = pl.Trainer(max_steps=2, limit_val_batches=0, **QUIET)
    trainer.fit(module, datamodule=data)
    assert (module.accumulation, trainer.global_step) == (3, 2)
    assert trainer.fit_loop.epoch_loop.total_batch_idx + 1 == 6
