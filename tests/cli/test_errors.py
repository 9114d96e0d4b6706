"""Every mistake a user can make ends in one line that names what is wrong, and status 2."""

import pytest
import torch

from tests.cli.tiny import write
from zoo.cli.main import main

FIT = {
    "misspelt class": ({"model__network": {"class_path": "VDAVE"}}, "no class 'VDAVE'; did you mean 'VDVAE'?"),
    "misspelt full class": ({"model__network": {"class_path": "zoo.models.VDAVE"}}, "did you mean 'VDVAE'?"),
    "class of another kind": ({"model__network": {"class_path": "torch.nn.Identity"}}, "is no LikelihoodModel"),
    "misspelt argument": (
        {"model__network__init_args__widht": 3},
        "VDVAE has no argument 'widht'; ",
    ),
    "missing argument": (
        {"model__network": {"class_path": "VDVAE"}},
        "VDVAE needs architecture.encoder",
    ),
    "bit depth": ({"model__network__init_args__bits": 9}, "bits=9: expected a whole number from 1 to 8"),
    "misspelt dataset": ({"data__dataset": "fotos"}, "did you mean 'photos'?"),
    "missing data file": ({"data__dataset": "nowhere.h5"}, "nowhere.h5"),
    "misspelt key": ({"data__datset": "photos"}, "no option 'data.datset'; did you mean 'data.dataset'?"),
    "misspelt group": ({"modle__lr": 1.0}, "no option 'modle.lr'"),
    "wrong type": ({"model__lr": "fast"}, "model.lr=fast: expected a number"),
    "unknown choice": ({"model__optimizer": "adamv"}, "model.optimizer=adamv: did you mean 'adam"),
    "impossible value": ({"model__ema_decay": 2.0}, "model.ema_decay=2.0: expected at least 0 and below 1"),
    "unknown strategy": ({"trainer__strategy": "dpp"}, "strategy='dpp'"),
    "cosine without length": ({"model__schedule": "cosine"}, "decay_steps"),
    "crop that does not fit": ({"data__crop": 100}, "crop=100"),
}


def fails(argv, capsys, *parts):
    """The command ends with status 2, one line on stderr, and that line holds the parts."""
    assert main(argv) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    for part in parts:
        assert part in errors[0]


@pytest.mark.parametrize("case", FIT)
def test_fit_names_the_mistake(case, tmp_path, capsys):
    changes, message = FIT[case]
    config = write(tmp_path / "c.yaml", **changes)
    fails(["fit", "--config", str(config), "--run_dir", str(tmp_path / "run")], capsys, message)
    assert not list(tmp_path.glob("run/*.ckpt")) + list(tmp_path.glob("run/*.safetensors"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.network.bitz", "5"], "VDVAE has no argument 'bitz'; did you mean 'bits'?"),
        (["--modl.lr", "1"], "no option '--modl.lr'; did you mean"),
        (["surprise"], "unexpected argument 'surprise'"),
        (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
    ],
)
def test_fit_names_the_mistaken_option(words, message, tmp_path, capsys):
    config = write(tmp_path / "c.yaml")
    fails(["fit", "--config", str(config), "--run_dir", str(tmp_path / "run"), *words], capsys, message)


def test_missing_configuration_gets_a_hint(tmp_path, capsys):
    write(tmp_path / "small.yaml")
    fails(["fit", "--config", str(tmp_path / "smal.yaml")], capsys, "smal.yaml: no such", "did you mean", "small.yaml")


def test_broken_yaml_names_the_line(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text("model:\n  lr: [1\ndata: {}\n")
    fails(["fit", "--config", str(path)], capsys, f"{path}, line 3: not valid YAML")


def test_no_configuration_says_how_to_name_one(capsys, tmp_path):
    fails(["fit", "--run_dir", str(tmp_path)], capsys, "--config")


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
@pytest.mark.parametrize("name", ["bad.ckpt", "bad.safetensors"])
def test_damaged_checkpoint_is_named(command, name, tmp_path, capsys):
    path = tmp_path / name
    path.write_bytes(b"not a checkpoint")
    fails([command, "--ckpt_path", str(path)], capsys, str(path))


def test_truncated_checkpoint_is_named(tmp_path, capsys):
    path = tmp_path / "half.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    fails(["test", "--ckpt_path", str(path)], capsys, str(path), "damaged")


def test_checkpoint_with_code_inside_is_refused(tmp_path, capsys):
    class Dangerous:
        def __reduce__(self):
            return print, ("executed",)

    path = tmp_path / "trap.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": Dangerous()}, path)
    fails(["test", "--ckpt_path", str(path)], capsys, str(path), "run code")


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_evaluation_asks_for_a_checkpoint(command, capsys):
    fails([command], capsys, "no CKPT given")


def test_misspelt_shipped_name_or_missing_file(capsys):
    fails(["test", "--ckpt_path", "no-such-model"], capsys, "no-such-model: no such checkpoint")


def test_unexpected_errors_are_one_line_without_debug(monkeypatch, capsys):
    import zoo.cli.main as module

    monkeypatch.setattr(module, "load", lambda command: lambda: 1 / 0)
    assert main(["fit"]) == 1
    assert capsys.readouterr().err.startswith("internal error: ZeroDivisionError: division by zero")
    with pytest.raises(ZeroDivisionError):
        main(["--debug", "fit"])
