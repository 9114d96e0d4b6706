"""Importers of the public VQ-VAE-2 code: nothing in a file runs, and every key has to be accounted for."""

import argparse
import os
from pathlib import Path

import pytest
import torch

from tests.vectors.cases import cases
from zoo.checkpoints import build, fit_weights, pixelsnail, vqvae2
from zoo.checkpoints.migrations import migrated
from zoo.errors import UserError

CASES = cases("vqvae2", "*/pixelsnail_top.pt")


class Command:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("place", ["beside", "inside the namespace"])
def test_code_in_a_file_is_refused_and_does_not_run(place: str, tmp_path: Path) -> None:
    trace, path = tmp_path / "it-ran", tmp_path / "prior.pt"
    content = {"model": {}, "args": argparse.Namespace(dropout=0.1)}
    if place == "beside":
        content["extra"] = Command(trace)
    else:
        content["args"].dropout = Command(trace)
    torch.save(content, path)
    with pytest.raises(UserError, match="would run code"):
        pixelsnail.import_checkpoint([path])
    assert not trace.exists()


@pytest.mark.parametrize("path", CASES)
def test_prefixes_and_new_names_of_the_weight_norm_are_understood(path: Path, tmp_path: Path) -> None:
    weights, _ = pixelsnail.read_public(path)
    modern = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    renamed = {}
    for key, tensor in weights.items():
        *parents, last = key.split(".")
        renamed[".".join(["module", *parents, modern.get(last, last)])] = tensor
    torch.save(renamed, tmp_path / "bare.pt")
    expected, found = (pixelsnail.import_checkpoint([file])[1] for file in (path, tmp_path / "bare.pt"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("path", CASES)
def test_missing_and_surplus_keys_are_named(path: Path, tmp_path: Path) -> None:
    weights, _ = pixelsnail.read_public(path)
    torch.save({**weights, "blocks.0.mystery": torch.zeros(1)}, tmp_path / "surplus.pt")
    with pytest.raises(UserError, match=r"blocks\.0\.mystery"):
        pixelsnail.import_checkpoint([tmp_path / "surplus.pt"])
    weights.pop("blocks.0.resblocks.0.conv2.conv.conv.bias")
    torch.save(weights, tmp_path / "missing.pt")
    spec, state = pixelsnail.import_checkpoint([tmp_path / "missing.pt"])
    with pytest.raises(UserError, match="1 missing"):
        fit_weights(build(spec), state, "missing.pt")


@pytest.mark.parametrize("path", CASES)
def test_wrong_kinds_and_numbers_of_files_are_one_line(path: Path, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="expected a PixelSNAIL prior"):
        pixelsnail.import_checkpoint([tmp_path / "other.pt"])
    with pytest.raises(UserError, match="one first-stage file"):
        vqvae2.import_checkpoint([path])
    with pytest.raises(UserError, match="expected a VQ-VAE first stage"):
        vqvae2.import_checkpoint([tmp_path / "other.pt"])
    stage1 = path.parent / "vqvae.pt"
    if stage1.is_file():
        with pytest.raises(UserError, match="came alone"):
            vqvae2.import_checkpoint([stage1, path])


@pytest.mark.parametrize(
    ("old", "variant"),
    [
        ({"taps": "down_right", "dropout": 0.0}, "chen"),
        ({"taps": "down_right", "dropout_place": "inside", "attention_dropout": "probs"}, "chen"),
        ({"attention_dropout": "probs", "checkpointing": True}, "razavi-fused"),
        (
            {
                "centre": "masked",
                "key_content": "features",
                "dropout_place": "inside",
                "attention_dropout": "probs",
                "residual_skip": "elu",
            },
            "public-inplace",
        ),
    ],
)
def test_switches_from_before_there_were_variants_are_migrated(old: dict, variant: str) -> None:
    spec = {"class_path": "PixelSNAIL", "init_args": {"image_shape": [3, 4, 4], "trunk": {"channels": 16, **old}}}
    trunk = migrated(spec)["init_args"]["trunk"]
    assert trunk == {"channels": 16, "variant": variant, **({"dropout": 0.0} if "dropout" in old else {})}
    assert migrated(migrated(spec)) == migrated(spec)


def test_switches_of_no_variant_are_refused() -> None:
    spec = {"class_path": "PixelSNAIL", "init_args": {"trunk": {"taps": "down_right", "centre": "masked"}}}
    with pytest.raises(UserError, match="no variant"):
        migrated(spec)
