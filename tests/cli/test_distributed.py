"""Two processes do what one does."""

import json

import pytest
import torch

from tests.cli.processes import run
from tests.cli.tiny import write
from zoo.cli.main import main

TWO = ["--trainer.strategy", "ddp", "--trainer.devices", 2]
NOISELESS = {"class_path": "tests.training.toy.Exact", "init_args": {"size": 16, "channels": 3}}


def weights(path):
    return torch.load(path, weights_only=True)["current_model_state"]


@pytest.fixture
def alone(tmp_path, monkeypatch, capfd):
    """Runs a command in this process, in the test's folder, and returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)

    def call(*argv):
        assert main(list(map(str, argv))) == 0
        return capfd.readouterr().out

    return call


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_images(tmp_path, alone):
    """A process of two takes every other batch, so half the batch size gives the same images at each step."""
    config = write(tmp_path / "c.yaml", model__network=NOISELESS, trainer__limit_val_batches=None)
    one = alone("fit", "--config", config, "--run_dir", "one")
    two = run("fit", "--config", config, "--run_dir", "two", *TWO, "--data.batch_size", 2, cwd=tmp_path)
    expected, found = weights(tmp_path / "one/last.ckpt"), weights(tmp_path / "two/last.ckpt")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-7, msg=name)
    shown = [output.split("val bits/dim ")[1].split()[0] for output in (one, two)]
    assert shown[0] == shown[1]


@pytest.mark.slow
def test_two_processes_write_the_same_record_and_prices_as_one(tmp_path, alone):
    config = write(tmp_path / "c.yaml", trainer__max_steps=2)
    alone("fit", "--config", config, "--run_dir", "run")
    words = ["--ckpt_path", "run", "--data.limit", 3, "--data.eval_batch_size", 5]
    results = []
    for name, command in (("one", alone), ("two", lambda *argv: run(*argv, *TWO, cwd=tmp_path))):
        command("test", *words, "--records", name, "--passes", 2)
        record = json.loads((tmp_path / name / "run.jsonl").read_text())
        command("predict", *words, "--output", f"{name}.jsonl")
        prices = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        results.append(({key: record[key] for key in ("bits_per_dim", "standard_error", "rates", "images")}, prices))
    assert results[0] == results[1]
    record, prices = results[0]
    assert [price["index"] for price in prices] == list(range(record["images"]))
