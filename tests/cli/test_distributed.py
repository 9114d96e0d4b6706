"""Two processes do what one does."""

import json

import pytest
import torch

from tests.cli.processes import run
from tests.cli.tiny import write

TWO = ["--trainer.strategy", "ddp", "--trainer.devices", 2]
NOISELESS = {"class_path": "tests.training.toy.Exact", "init_args": {"size": 16, "channels": 3}}


def weights(path):
    return torch.load(path, weights_only=True)["current_model_state"]


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_images(tmp_path):
    """A process of two takes every other batch, so half the batch size gives the same images at each step."""
    config = write(tmp_path / "c.yaml", model__network=NOISELESS, trainer__limit_val_batches=None)
    one = run("fit", "--config", config, "--run_dir", "one", cwd=tmp_path)
    two = run("fit", "--config", config, "--run_dir", "two", *TWO, "--data.batch_size", 2, cwd=tmp_path)
    expected, found = weights(tmp_path / "one/last.ckpt"), weights(tmp_path / "two/last.ckpt")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-7, msg=name)
    shown = [output.split("val bits/dim ")[1].split()[0] for output in (one, two)]
    assert shown[0] == shown[1]


@pytest.mark.slow
def test_two_processes_write_the_same_record_and_prices_as_one(tmp_path):
    config = write(tmp_path / "c.yaml", trainer__max_steps=2)
    run("fit", "--config", config, "--run_dir", "run", cwd=tmp_path)
    words = ["--ckpt_path", "run", "--data.limit", 3, "--data.eval_batch_size", 5]
    results = []
    for name, extra in (("one", []), ("two", TWO)):
        run("test", *words, *extra, "--records", name, "--passes", 2, cwd=tmp_path)
        record = json.loads((tmp_path / name / "run.jsonl").read_text())
        run("predict", *words, *extra, "--output", f"{name}.jsonl", cwd=tmp_path)
        prices = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        results.append(({key: record[key] for key in ("bits_per_dim", "standard_error", "rates", "images")}, prices))
    assert results[0] == results[1]
    record, prices = results[0]
    assert [price["index"] for price in prices] == list(range(record["images"]))
