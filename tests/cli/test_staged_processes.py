"""Stages with two processes: the same codes as one, one error when something fails, nobody waits for ever."""

import copy
import os
import time
from pathlib import Path

import pytest
import yaml

from tests.cli.processes import run, start
from tests.cli.test_stages import stages
from zoo.checkpoints import load
from zoo.data.codes import describe_codes

TWO = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 2]
TWO += ["--stages.top.data.init_args.batch_size", 2]


def write(path: Path, content: list, **changes: dict) -> Path:
    content = copy.deepcopy(content)
    for stage in content:
        stage.update(changes.get(stage["name"], {}))
    path.write_text(yaml.safe_dump({"stages": content}))
    return path


@pytest.mark.slow
def test_two_processes_walk_all_stages_and_extract_all_codes(tmp_path):
    file = write(tmp_path / "two.yaml", stages(tmp_path)[:3])
    shown = run("fit", "--config", file, "--run_dir", "run", *TWO, cwd=tmp_path)
    assert shown.count("stage 2/3: codes") == 1
    (codes,) = (tmp_path / "codes").glob("codes-*.h5")
    assert describe_codes(codes, verify=True).counts == {"train": 4, "val": 16 * 4, "test": 16 * 4}
    assert load(tmp_path / "run/top").meta["steps"] == 2


@pytest.mark.slow
def test_a_failed_call_is_one_error_and_ends_all(tmp_path):
    content = stages(tmp_path)[:3]
    content[1]["arguments"]["checkpoint"] = str(tmp_path / "nowhere.safetensors")
    file = write(tmp_path / "c.yaml", content)
    process = start("fit", "--config", file, "--run_dir", "run", *TWO, cwd=tmp_path)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 2, output
    assert output.count("error:") == 1, output
    assert "nowhere.safetensors: no such checkpoint" in output
    for _ in range(50):  # the other process sees it within moments
        if not processes_in(tmp_path):
            return
        time.sleep(0.2)
    raise AssertionError(processes_in(tmp_path))


def processes_in(folder: Path) -> list[int]:
    """Living processes whose working folder this is."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(path / "cwd") == str(folder):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_different_numbers_of_processes_are_refused_before_anything_runs(tmp_path, capsys):
    from zoo.cli.main import main

    content = stages(tmp_path)[:3]
    content[0]["trainer"]["devices"] = 8
    content[2]["trainer"] |= {"devices": 8, "num_nodes": 16}
    file = write(tmp_path / "c.yaml", content)
    assert main(["fit", "--config", str(file), "--run_dir", str(tmp_path / "run")]) == 2
    assert "(autoencoder 8, top 128); run them one by one with --stage NAME" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
