"""Models by name, and checkpoints as folders that others can carry."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.checkpoints.test_store import SPEC
from zoo.checkpoints import create_model, load, push_to
from zoo.cli.main import main
from zoo.errors import UserError
from zoo.models import VDVAE


def test_a_model_comes_by_the_name_of_class_configuration_or_checkpoint() -> None:
    assert isinstance(create_model("demo/vdvae_photos_5bit"), VDVAE)
    assert isinstance(create_model("VDVAE", **SPEC["init_args"]), VDVAE)
    assert create_model("vdvae-photos-5bit", pretrained=True).bits == 5
    assert create_model("VDVAE", pretrained="vdvae-photos-5bit").bits == 5
    assert create_model("vdvae_photos_8bit", bits=3).bits == 3
    with pytest.raises(UserError, match="did you mean"):
        create_model("vdvae_photos_9bit")


def test_a_pushed_folder_is_a_checkpoint_even_if_others_rewrote_its_weights(tmp_path: Path) -> None:
    folder = push_to(tmp_path / "mine", "vdvae-photos-5bit", ["1.63 bits/dim somewhere"])
    original, again = load("vdvae-photos-5bit"), load(folder)
    assert (again.digest, again.identity, again.meta) == (original.digest, original.identity, original.meta)
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")  # without our description
    bare = load(folder)
    assert (bare.digest, bare.identity, bare.meta) == (original.digest, original.identity, original.meta)
    text = (folder / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: likelihood-zoo\nlicense: mit\n")
    assert "1.63 bits/dim somewhere" in text
    assert original.digest in text
    with pytest.raises(UserError, match="exists already"):
        push_to(folder, "vdvae-photos-5bit")


def test_the_command_writes_the_recorded_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "vdvae-photos-5bit", str(tmp_path / "hub")]) == 0
    assert "bits/dim on photos/test" in (tmp_path / "hub" / "README.md").read_text()
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["network"]["class_path"].endswith("VDVAE")
    assert "model card" not in capsys.readouterr().err
