"""A run folder belongs to one run; a run that is told to stop saves itself and says how to go on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.cli.processes import environment, start
from tests.cli.tiny import write
from zoo.cli.main import main
from zoo.errors import UserError
from zoo.recipes.folder import LOCK, claimed


def endless(folder: Path) -> Path:
    return write(folder / "c.yaml", trainer__max_steps=100000, trainer__limit_val_batches=0, model__grid_every=0)


def started(folder: Path, *words: object) -> subprocess.Popen[str]:
    """A fit that has made its first steps."""
    process = start("fit", "--config", "c.yaml", "--run_dir", "run", "--checkpoint_every", 2, *words, cwd=folder)
    waiting = time.monotonic() + 240
    while not (folder / "run/last.ckpt").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < waiting
        time.sleep(0.1)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_its_state_saved_and_advice(signum, status, tmp_path):
    endless(tmp_path)
    process = started(tmp_path)
    assert main(["fit", "--config", str(tmp_path / "c.yaml"), "--run_dir", str(tmp_path / "run")]) == 2
    assert main(["fit", "--config", str(tmp_path / "run/config.yaml"), "--ckpt_path", "last"]) == 2
    process.send_signal(signum)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == status, output
    assert "run/last.ckpt is saved, continue with: zoo fit --config run/config.yaml --ckpt_path last" in output
    step = int(output.split("at step ")[1].split(";")[0])
    assert torch.load(tmp_path / "run/last.ckpt", weights_only=True)["global_step"] == step
    assert not (tmp_path / "run" / LOCK).exists()


@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">&-", "| head -n 1", "2>&-"])
def test_a_training_without_a_reader_goes_on_to_its_end(redirection, tmp_path):
    write(tmp_path / "c.yaml")
    command = f"{sys.executable} -m zoo fit --config c.yaml --run_dir run {redirection}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, env=environment(), timeout=300)
    assert done.returncode == 0
    assert (tmp_path / "run/last.safetensors").is_file()


def test_a_held_folder_is_refused_and_an_unused_one_removed(tmp_path):
    folder = tmp_path / "runs" / "a"
    with claimed(folder):
        with pytest.raises(UserError, match=r"a run is going on here \(process \d+ on "), claimed(folder):
            pass
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []
    with claimed(folder):
        (folder / "file").touch()
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written_is_found_first(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), claimed(tmp_path / "file" / "run"):
        pass


def test_images_of_another_size_are_refused_before_anything_is_made(tmp_path, capsys):
    config = write(tmp_path / "c.yaml", data__crop=32)
    assert main(["fit", "--config", str(config), "--run_dir", str(tmp_path / "run")]) == 2
    assert "images are (3, 32, 32) (channels, height, width), the network takes (3, 16, 16)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_metric_that_is_not_there_is_one_line(tmp_path, capsys):
    stopping = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/nothing"}}
    config = write(tmp_path / "c.yaml", trainer__callbacks=[stopping], trainer__val_check_interval=1)
    assert main(["fit", "--config", str(config), "--run_dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "val/nothing" in error
    assert [line for line in error.splitlines() if line.startswith(("error", "internal"))] == [error.splitlines()[-1]]


def test_weights_start_a_new_run(tmp_path):
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    config = str(write(tmp_path / "c.yaml", trainer__max_steps=1))
    assert main(["fit", "--config", config, "--run_dir", first]) == 0
    assert main(["fit", "--config", config, "--run_dir", second, "--weights", first, "--model.lr", "1e-12"]) == 0
    before, after = (torch.load(f"{run}/last.ckpt", weights_only=True) for run in (first, second))
    assert after["global_step"] == 1
    for name, tensor in before["state_dict"].items():
        torch.testing.assert_close(after["state_dict"][name], tensor, atol=1e-6, rtol=0, msg=name)


def test_continuing_a_finished_run_keeps_its_validation_and_the_best_is_kept(tmp_path):
    from zoo.checkpoints import load

    config = write(tmp_path / "c.yaml")
    words = ["fit", "--config", str(config), "--run_dir", str(tmp_path / "run"), "--keep_every", "2"]
    assert main(words) == 0
    before = load(tmp_path / "run").meta
    assert main([*words, "--ckpt_path", "last"]) == 0
    assert load(tmp_path / "run").meta == before
    assert "val/bits_per_dim" in before
    assert "val/bits_per_dim" in load(tmp_path / "run/best.safetensors").meta
    assert (tmp_path / "run/step-2.ckpt").is_file()
