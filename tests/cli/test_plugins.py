"""A model in one's own file is fitted, exported, priced and sampled as the zoo's own, once its module is trusted."""

import json
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.tiny import write
from zoo import plugins
from zoo.checkpoints import read
from zoo.cli.main import main

MODEL = '''
import torch
from torch import nn
from zoo.likelihood import Categorical, LikelihoodModel, LikelihoodTerms, Objective

class Independent(LikelihoodModel):
    """One table of 256 levels for each colour and place."""

    kind = "exact"

    def __init__(self, size: int, bits: int = 8) -> None:
        super().__init__()
        self.image_shape, self.bits = (3, size, size), bits
        self.logits = nn.Parameter(torch.zeros(3, size, size, 2**bits))

    def terms(self, x, label=None, noise=None):
        pixels = Categorical(self.logits.expand(len(x), -1, -1, -1, -1))
        return LikelihoodTerms(-pixels.log_prob(x.long() >> (8 - self.bits)), {}, x[0].numel())

    def objective(self, x, label=None, step=0):
        terms = self.terms(x)
        return Objective(terms.nelbo.mean() / terms.num_dims, terms, {})

    def sample(self, n, temperature=1.0, label=None):
        levels = Categorical(self.logits.expand(n, -1, -1, -1, -1)).sample()
        return (levels << (8 - self.bits)).to(torch.uint8)
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module and a configuration that names its class."""
    (tmp_path / "my_models.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    monkeypatch.setenv(plugins.VARIABLE, "")
    network = {"class_path": "my_models.Independent", "init_args": {"size": 16}}
    write(tmp_path / "own.yaml", model__network=network, trainer__max_steps=2, data__rotate=True)
    return tmp_path


def test_a_model_of_ones_own(own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "own.yaml", "--run_dir", "run", "--plugins", "my_models"]) == 0
    assert main(["test", "run", "--plugins=my_models", "--records", "records"]) == 0
    assert main(["sample", "run", "--n", "2", "--output", "samples.png", "--plugins", "my_models"]) == 0
    record = json.loads(next((own / "records").glob("*.jsonl")).read_text())
    assert record["kind"] == "exact"
    assert record["augmented"] is True
    assert (own / "samples.png").is_file()
    capfd.readouterr()
    monkey = pytest.MonkeyPatch()
    monkey.setenv(plugins.VARIABLE, "")
    assert main(["sample", "run", "--n", "2", "--output", "more.png"]) == 2
    monkey.undo()
    assert "say so with --plugins my_models" in capfd.readouterr().err


def test_every_checkpoint_of_a_run_says_where_it_comes_from(own: Path) -> None:
    assert main(["fit", "--config", "own.yaml", "--run_dir", "run", "--plugins", "my_models"]) == 0
    last, export = read(own / "run" / "last.ckpt").meta, read(own / "run" / "last.safetensors").meta
    for meta in (last, export):
        assert meta["run"] == "run"
        assert meta["augmented"] is True
        assert meta["data"]["dataset"] == "photos"
        assert len(meta["data_sha256"]) == 64
    assert torch.load(own / "run" / "last.ckpt", weights_only=True)["zoo_notes"] == {
        key: last[key] for key in ("run", "data", "augmented", "reproduces", "data_sha256")
    }
