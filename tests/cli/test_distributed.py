"""Two processes do what one does."""

import copy
import json
import os

import pytest
import torch
import yaml

from tests.cli.processes import run
from tests.cli.tiny import write
from zoo.cli.main import main
from zoo.likelihood.first_stage import FirstStagePass
from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.models.latent_vae import KLAutoencoder

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
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=5e-7, msg=name)  # a few last places
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


FIRST_STAGE = {
    "class_path": "zoo.training.adversarial.LitAutoencoder",
    "init_args": {
        "network": {
            "class_path": "tests.cli.test_distributed.Deterministic",
            "init_args": {"width": 32, "width_mult": [1, 1], "blocks": 1, "middle_attention": False},
        },
        "perceptual": "none",
        "lr": 1e-4,
        "disc_start": 2,
        "disc_width": 4,
        "disc_layers": 2,
        "grid_every": 0,
    },
}


class Deterministic(KLAutoencoder):
    """A first stage without noise, whose reconstruction is no number for the third batch of the second process."""

    def __init__(self, bad: bool = False, **settings):
        super().__init__(**settings)
        self.bad, self.calls = bad, 0

    def training_pass(self, images):
        self.calls += 1
        posterior = self.encode(images)
        out = self.decode(posterior.mean)
        if self.bad and self.calls == 3 and os.environ.get("LOCAL_RANK") == "1":
            out = out * float("nan")
        zeros = torch.zeros_like(posterior.mean)
        return FirstStagePass(out, posterior.kl(DiagonalGaussian(zeros, zeros)).mean(), {})


def first_stage(folder, name, bad=False, **changes):
    model = copy.deepcopy(FIRST_STAGE)
    model["init_args"]["network"]["init_args"]["bad"] = bad
    model["init_args"] |= changes
    data = {"dataset": "photos", "batch_size": 2, "global_batch_size": 4, "crop": 32, "limit": 8}
    trainer = {"accelerator": "cpu", "max_steps": 5, "limit_val_batches": 0, "log_every_n_steps": 1}
    path = folder / name
    path.write_text(yaml.safe_dump({"model": model, "data": {**data, "crops_per_image": 2}, "trainer": trainer}))
    return path


def state(path):
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_an_adversarial_stage_on_two_processes_is_one_with_accumulation(weight, tmp_path):
    """Plain ddp; the discriminator's statistics are those of the first process, so its weights follow them loosely."""
    config = first_stage(tmp_path, "c.yaml", disc_weight=weight)
    run("fit", "--config", config, "--run_dir", "one", cwd=tmp_path)
    run("fit", "--config", config, "--run_dir", "two", *TWO, cwd=tmp_path)
    one, two = state(tmp_path / "one/last.ckpt"), state(tmp_path / "two/last.ckpt")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        if name.startswith("network."):
            torch.testing.assert_close(two[name], tensor, rtol=0, atol=2e-4, msg=name)


@pytest.mark.slow
def test_a_bad_batch_of_one_process_is_skipped_by_all(tmp_path):
    config = first_stage(tmp_path, "c.yaml", bad=True, disc_weight=0.5, disc_start=0)
    output = run("fit", "--config", config, "--run_dir", "two", *TWO, cwd=tmp_path)
    assert "a step has 4 images: 2 at once x 2 processes" in output
    checkpoint = torch.load(tmp_path / "two/last.ckpt", weights_only=True)
    assert checkpoint["zoo_training"]["skipped_total"] == 1
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())
