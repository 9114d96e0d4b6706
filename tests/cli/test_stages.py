"""Fits in stages: one command trains all, finished ones are kept, a stopped one goes on, stale ones are named."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from zoo.checkpoints import load
from zoo.cli.main import run
from zoo.errors import UserError

TRUNK = {"channels": 16, "residual_channels": 8, "blocks": 1, "layers_per_block": 1, "heads": 2, "kernel_size": 3}
IMAGES = {"dataset": "photos", "crop": 16, "batch_size": 4, "limit": 4}
TRAINER = {
    "accelerator": "cpu",
    "devices": 1,
    "max_steps": 2,
    "limit_val_batches": 1,
    "log_every_n_steps": 1,
    "enable_progress_bar": False,
}


def fit(name: str, network: str, arguments: dict[str, Any], data: dict[str, Any], **more: Any) -> dict[str, Any]:
    settings = {"optimizer": "adam", "lr": 1e-3, "ema_decay": 0, "grid_every": 0, "warmup_steps": 0}
    model = {"network": {"class_path": network, "init_args": arguments}, **settings}
    return {"name": name, "model": model, "data": data, "trainer": dict(TRAINER), **more}


def prior(name: str, grids: list[list[int]]) -> dict[str, Any]:
    arguments = {"name": name, "grids": grids, "codes": [8] * len(grids), "condition_layers": 1, "trunk": TRUNK}
    data = {"class_path": "zoo.data.codes.CodeDataModule", "init_args": {"path": "stage:codes", "batch_size": 4}}
    return fit(name, "CodePrior", arguments, data)


def stages(folder: Path) -> list[dict[str, Any]]:
    first = {"image_shape": [3, 16, 16], "strides": [2, 2], "channels": 8, "num_codes": 8, "code_dim": 4}
    head = {"mixtures": 1, "channels": 8, "residual_channels": 4, "fine_channels": 4}
    extraction = {"checkpoint": "stage:autoencoder", "data": IMAGES, "folder": str(folder / "codes"), "epochs": 1}
    parts = {"autoencoder": "stage:autoencoder", "priors.0": "stage:top", "priors.1": "stage:bottom"}
    whole = {
        "autoencoder": "spec:autoencoder",
        "priors": ["spec:top", "spec:bottom"],
        "head": "spec:pixels.init_args.head",
    }
    return [
        fit("autoencoder", "QuantisedAutoencoder", first, IMAGES),
        {"name": "codes", "call": "zoo.checkpoints.codes.extract", "arguments": extraction},
        prior("top", [[4, 4]]),
        prior("bottom", [[4, 4], [8, 8]]),
        fit(
            "pixels",
            "VQVAE2",
            {"autoencoder": "spec:autoencoder", "head": head},
            IMAGES,
            weights={"autoencoder": "stage:autoencoder"},
        ),
        {
            "name": "model",
            "network": {"class_path": "VQVAE2", "init_args": whole},
            "weights": {**parts, "head": "stage:pixels/head"},
        },
    ]


def write(folder: Path, content: list[dict[str, Any]]) -> Path:
    path = folder / "stages.yaml"
    path.write_text(yaml.safe_dump({"stages": content}))
    return path


def fit_stages(path: Path, *words: object) -> None:
    assert run(["fit", "--config", str(path), *map(str, words)]) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    fit_stages(write(folder, stages(folder)), "--run_dir", str(folder / "run"))
    return folder


def test_all_stages_make_one_model_with_the_weights_of_its_parts(trained: Path) -> None:
    whole = load(trained / "run").network
    for part, stage in (("autoencoder", "autoencoder"), ("priors.0", "top"), ("priors.1", "bottom")):
        own = load(trained / "run" / stage).network.state_dict()
        for key, value in whole.get_submodule(part).state_dict().items():
            assert torch.equal(value, own[key]), key
    x = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    assert list(whole.terms(x).rates) == ["top", "bottom"]


def test_autoencoder_is_the_same_before_and_after_the_later_stages(trained: Path) -> None:
    first = load(trained / "run" / "autoencoder").network.state_dict()
    later = load(trained / "run" / "pixels").network.autoencoder.state_dict()
    assert all(torch.equal(value, later[key]) for key, value in first.items())


def test_finished_stages_are_not_repeated(trained: Path, capsys: pytest.CaptureFixture) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("last.ckpt")}
    fit_stages(trained / "stages.yaml", "--run_dir", str(trained / "run"))
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("last.ckpt")}
    assert capsys.readouterr().out.count("done already") == 6


def test_stopped_stage_goes_on_from_its_checkpoint(trained: Path) -> None:
    folder = trained / "run" / "top"
    done = (folder / "done.json").read_text()
    (folder / "done.json").unlink()
    (folder / "last.safetensors").unlink()
    fit_stages(trained / "stages.yaml", "--run_dir", str(trained / "run"), "--stage", "top")
    assert json.loads((folder / "done.json").read_text()) == json.loads(done)
    assert load(folder).meta["steps"] == 2


def test_finished_stage_with_another_configuration_is_an_error(trained: Path) -> None:
    content = copy.deepcopy(stages(trained))
    content[0]["model"]["lr"] = 5e-4
    path = trained / "changed.yaml"
    path.write_text(yaml.safe_dump({"stages": content}))
    with pytest.raises(UserError, match=r"autoencoder: finished with another configuration"):
        fit_stages(path, "--run_dir", str(trained / "run"))
    with pytest.raises(UserError, match="another configuration of this stage or of one before it"):
        fit_stages(path, "--run_dir", str(trained / "run"), "--stage", "model")


def test_one_stage_alone_needs_the_ones_before_it(tmp_path: Path) -> None:
    path = write(tmp_path, stages(tmp_path))
    with pytest.raises(UserError, match="stage 'codes' has not been run"):
        fit_stages(path, "--run_dir", str(tmp_path / "run"), "--stage", "top")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[0].pop("name"), "stage 1 has no name"),
        (lambda s: s[1].pop("call"), "'codes' needs one of"),
        (lambda s: s[1].update(name="top"), "different names"),
        (lambda s: s[1].update(call="os.system", arguments={}), "expected a function of the zoo"),
        (lambda s: s[1]["arguments"].update(checkpoint="stage:model"), "does not come before it"),
    ],
)
def test_malformed_configurations_are_one_line(change: Any, message: str, tmp_path: Path) -> None:
    content = stages(tmp_path)
    change(content)
    only = ["--stage", "codes"] if "function" in message or "before" in message else []
    with pytest.raises(UserError, match=message):
        fit_stages(write(tmp_path, content), "--run_dir", str(tmp_path / "run"), *only)


def test_unknown_stage_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'bottom'"):
        fit_stages(write(tmp_path, stages(tmp_path)), "--stage", "botom")
