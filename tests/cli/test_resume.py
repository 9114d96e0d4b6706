"""A run that is killed and continued is the run that was never interrupted, bit for bit."""

import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cli.processes import run, start
from tests.cli.tiny import write

STEPS = 60


def losses(folder) -> dict[int, set[float]]:
    """Every loss logged at each step; steps that ran twice have two chances to disagree."""
    found: dict[int, set[float]] = {}
    for file in folder.glob("events.*"):
        events = EventAccumulator(str(file))
        events.Reload()
        if "train/loss" in events.Tags()["scalars"]:
            for event in events.Scalars("train/loss"):
                found.setdefault(event.step, set()).add(event.value)
    return found


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.slow
def test_killed_run_continues_bit_exactly(tmp_path):
    # 8 photographs in batches of 4 with 3 windows each: six steps an epoch, so the kill falls inside an epoch
    config = write(
        tmp_path / "c.yaml",
        trainer__max_steps=STEPS,
        trainer__val_check_interval=4,
        data__crops_per_image=3,
        model__skip_norm=1e4,
        model__weight_decay=0.01,
    )
    words = ["fit", "--config", config, "--checkpoint_every", 1]
    run(*words, "--run_dir", "whole", cwd=tmp_path)

    killed = start(*words, "--run_dir", "killed", cwd=tmp_path)
    checkpoint = tmp_path / "killed" / "last.ckpt"
    while not (checkpoint.exists() and torch.load(checkpoint, weights_only=True)["global_step"] >= 10):
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    reached = torch.load(checkpoint, weights_only=True)["global_step"]
    assert 10 <= reached < STEPS
    assert reached % 6
    assert not (tmp_path / "killed" / "last.safetensors").exists()
    run(*words, "--run_dir", "killed", "--ckpt_path", "last", cwd=tmp_path)

    expected = torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)
    found = torch.load(checkpoint, weights_only=True)
    for part in (
        "state_dict",
        "current_model_state",
        "optimizer_states",
        "lr_schedulers",
        "global_step",
        "zoo_training",
    ):
        assert same(expected[part], found[part]), part
    once, twice = losses(tmp_path / "whole"), losses(tmp_path / "killed")
    assert once == twice
    assert sorted(once) == list(range(STEPS))
