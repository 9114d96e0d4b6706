"""Averaging, skipping and logging of `LitLikelihood`, on real trainers with tiny models."""

import copy
import math
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.toy import Exact, Noisy, loader
from zoo.errors import UserError
from zoo.recipes.saving import RunCheckpoint
from zoo.training.averaging import CURRENT
from zoo.training.checkpointing import AtomicCheckpointIO
from zoo.training.module import LitLikelihood


class Watch(pl.Callback):
    """Keeps the weights after every step."""

    def __init__(self):
        self.weights = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.weights.append({name: p.detach().clone() for name, p in pl_module.named_parameters()})


def fit(module, steps=4, callbacks=(), val=False, **options):
    watch = Watch()
    options = {"logger": False, "enable_checkpointing": False, "limit_val_batches": None if val else 0, **options}
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        callbacks=[watch, *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        **options,
    )
    trainer.fit(module, loader(steps), loader(2))
    return trainer, watch


def lit(network=None, **arguments):
    arguments = {"lr": 0.1, "warmup_steps": 0, "grid_every": 0, "ema_decay": 0.0, **arguments}
    return LitLikelihood(network or Noisy(), **arguments)


# ----------------------------------------------------------------------------------------------------------------------
# Averaged weights


def test_average_starts_from_the_initial_weights_and_follows_the_recursion():
    module = lit(ema_decay=0.5)
    expected = {name: p.detach().clone() for name, p in module.named_parameters()}
    _, watch = fit(module, steps=3)
    for weights in watch.weights:
        expected = {name: 0.5 * expected[name] + 0.5 * weights[name] for name in expected}
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, expected[name])


def test_average_stands_still_on_skipped_updates():
    module = lit(Noisy(blow_up_at=1), ema_decay=0.5, skip_norm=1e4)
    expected = {name: p.detach().clone() for name, p in module.named_parameters()}
    _, watch = fit(module, steps=3)
    for step in (0, 2):
        expected = {name: 0.5 * expected[name] + 0.5 * watch.weights[step][name] for name in expected}
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, expected[name])


def test_buffers_are_not_averaged():
    module = lit(ema_decay=0.99)
    fit(module, steps=3)
    assert module.network.calls == 3


def test_validation_sees_the_average_and_training_goes_on_from_the_raw_weights():
    seen = {}

    class Peek(pl.Callback):
        def on_validation_batch_start(self, trainer, pl_module, *_):
            seen["validation"] = pl_module.network.prior.detach().clone()

        def on_train_batch_start(self, trainer, pl_module, *_):
            seen.setdefault("next", []).append(pl_module.network.prior.detach().clone())

    module = lit(ema_decay=0.9)
    start = module.network.prior.detach().clone()
    _, watch = fit(module, steps=2, callbacks=[Peek()], val=True, val_check_interval=1)
    raw = [weights["network.prior"] for weights in watch.weights]
    torch.testing.assert_close(seen["next"][1], raw[0])
    first = 0.9 * start + 0.1 * raw[0]
    torch.testing.assert_close(seen["validation"], 0.9 * first + 0.1 * raw[1])


def test_checkpoint_holds_average_raw_weights_and_a_plain_description(tmp_path):
    module = lit(ema_decay=0.9)
    trainer, watch = fit(
        module,
        callbacks=[RunCheckpoint(tmp_path, 100)],
        enable_checkpointing=True,
        plugins=[AtomicCheckpointIO()],
    )
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    torch.testing.assert_close(checkpoint[CURRENT]["network.prior"], watch.weights[-1]["network.prior"])
    torch.testing.assert_close(checkpoint["state_dict"]["network.prior"], module.network.prior.detach())
    assert not torch.equal(checkpoint[CURRENT]["network.prior"], checkpoint["state_dict"]["network.prior"])
    assert checkpoint["global_step"] == trainer.global_step
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


# ----------------------------------------------------------------------------------------------------------------------
# Clipping and skipping


def test_skipped_update_touches_neither_weights_nor_moments():
    module = lit(Noisy(blow_up_at=2), skip_norm=1e4, weight_decay=0.1)
    moments = []

    class Moments(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            moments.append(copy.deepcopy(trainer.optimizers[0].state_dict()["state"]))

    _, watch = fit(module, steps=4, callbacks=[Moments()])
    assert module.skipped_total == 1
    assert all(torch.equal(watch.weights[1][name], watch.weights[2][name]) for name in watch.weights[1])
    assert not torch.equal(watch.weights[2]["network.prior"], watch.weights[3]["network.prior"])
    for key, state in moments[1].items():
        assert all(torch.equal(state[name], moments[2][key][name]) for name in state)


def test_clipping_bounds_the_step_of_plain_descent():
    """Adam hides the gradient's scale, so the clipped gradient itself is looked at."""
    norms = []

    class Norms(pl.Callback):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
            if grads:
                norms.append(float(torch.nn.utils.get_total_norm(grads)))

    fit(lit(Noisy(blow_up_at=1), clip_norm=1e-3), steps=3, callbacks=[Norms()])
    assert norms
    assert max(norms) <= 1e-3 * (1 + 1e-4)


def test_skip_threshold_waits_for_its_start():
    module = lit(Noisy(blow_up_at=0), skip_norm=1e-9, skip_start=2, max_consecutive_skips=100)
    fit(module, steps=4)
    assert module.skipped_total == 2


def test_nan_is_skipped_and_then_stops_with_one_clear_line():
    module = lit(Noisy(fail_from=2), max_consecutive_skips=3)
    with pytest.raises(UserError, match=r"step 5: 3 updates in a row were skipped \(last gradient norm nan"):
        fit(module, steps=10)
    assert all(p.isfinite().all() for p in module.parameters())
    assert module.consecutive_skips == 3


def test_a_good_step_resets_the_run_of_skips():
    module = lit(Noisy(blow_up_at=1), skip_norm=1e4, max_consecutive_skips=2)
    fit(module, steps=4)
    assert (module.skipped_total, module.consecutive_skips) == (1, 0)


@pytest.mark.parametrize("name", ["lr", "ema_decay", "clip_norm", "max_consecutive_skips"])
def test_impossible_arguments_are_named(name):
    with pytest.raises(UserError, match=f"model.{name}="):
        lit(**{name: -1})


# ----------------------------------------------------------------------------------------------------------------------
# Precision, noise, logs


@pytest.mark.parametrize("optimizer", ["adamw", "adamax", "adam"])
def test_training_lowers_the_loss(optimizer):
    module = lit(Exact(), optimizer=optimizer)
    trainer, _ = fit(module, steps=1)
    before = float(trainer.callback_metrics["train/bits_per_dim"])
    trainer, _ = fit(module, steps=30)
    assert float(trainer.callback_metrics["train/bits_per_dim"]) < before


def test_bf16_trains_and_prices_in_float32():
    module = lit()
    trainer, _ = fit(module, steps=3, precision="bf16-mixed")
    assert math.isfinite(float(trainer.callback_metrics["train/bits_per_dim"]))
    assert module.network.prior.dtype == torch.float32


def test_channels_last_changes_nothing_but_layout():
    results = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        module = lit(channels_last=channels_last)
        fit(module, steps=3)
        results.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    torch.testing.assert_close(*results)


@pytest.mark.slow
def test_compilation_changes_nothing_but_rounding():
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        module = lit(compile=compiled)
        fit(module, steps=3)
        results.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_noise_depends_on_the_batch_not_on_what_happened_before():
    draws = []
    for extra in (0, 3):
        module = lit()
        torch.rand(extra)
        module.seed_noise("train", 7)
        draws.append(torch.rand(4))
        module.seed_noise("train", 8)
        assert not torch.equal(draws[-1], torch.rand(4))
    assert torch.equal(*draws)


def test_validating_more_often_does_not_change_training():
    results = []
    for interval in (1, 4):
        torch.manual_seed(0)
        module = lit()
        fit(module, steps=4, val=True, val_check_interval=interval)
        results.append(module.network.prior.detach().clone())
    assert torch.equal(*results)


def test_tensorboard_has_every_term_and_the_grids(tmp_path):
    module = lit(Noisy(blow_up_at=1), ema_decay=0.9, grid_every=2, grid_images=3, skip_norm=1e4)
    logger = TensorBoardLogger(tmp_path, name="", version="", default_hp_metric=False)
    fit(module, steps=4, val=True, val_check_interval=2, logger=logger)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    terms = {"bits_per_dim", "rate", "distortion", "rate/z"}
    expected = {f"{split}/{term}" for split in ("train", "val") for term in terms}
    expected |= {f"train/{name}" for name in ("loss", "lr", "grad_norm", "skipped_total", "images_per_second", "calls")}
    assert expected <= set(events.Tags()["scalars"])
    assert set(events.Tags()["images"]) == {"samples", "reconstructions"}
    assert [round(event.value) for event in events.Scalars("train/skipped_total")] == [0, 1, 1, 1]
    total = events.Scalars("train/bits_per_dim")[-1].value
    parts = events.Scalars("train/rate")[-1].value + events.Scalars("train/distortion")[-1].value
    assert total == pytest.approx(parts, rel=1e-5)


def test_a_killed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch):
    path = tmp_path / "last.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint({"value": 1}, path)

    class Breaks:
        def __reduce__(self):
            raise OSError("disk full")

    with pytest.raises(UserError, match=r"last.ckpt: cannot be written \(disk full\)"):
        io.save_checkpoint({"value": Breaks()}, path)
    assert io.load_checkpoint(path) == {"value": 1}
    assert list(tmp_path.iterdir()) == [path]
