"""Every configuration has a small version that builds, and a dry run goes through all stages."""

from pathlib import Path

import pytest
import torch
import yaml

from tests.cli.processes import ROOT
from zoo.checkpoints import load
from zoo.checkpoints.configurations import configuration_names, find_configuration
from zoo.cli.main import main
from zoo.recipes.configuration import read_config
from zoo.recipes.dry_run import shrunk_config, shrunk_network

LARGE = 20_000_000
ONE_A_FAMILY = ("vdvae_imagenet64", "efficient_vdvae_cifar10_c1", "vdm_cifar10", "pixelsnail_cifar10")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ONE_A_FAMILY else pytest.mark.night) for n in configuration_names()]
)
def test_every_configuration_shrinks_to_something_that_builds(name, tmp_path):
    _, facts = shrunk_config(read_config(name), tmp_path, ["--data.dataset=photos"])
    for fact in facts:
        assert int(fact.split(", ")[-1].split()[0].replace(",", "")) < LARGE, fact


def test_shrinking_keeps_what_stages_share():
    spec = {
        "class_path": "zoo.models.latent_vae.HierarchicalVAE",
        "init_args": {"channels": 16, "width": 64, "heads": [4, 0]},
    }
    small = shrunk_network(spec, 8)["init_args"]
    assert small == {"channels": 16, "width": 8, "heads": [1, 0]}
    assert spec["init_args"]["width"] == 64


def test_a_dry_run_without_the_data_leaves_a_model_that_works(tmp_path, capsys):
    config = yaml.safe_load((ROOT / "configs/vdvae_cifar10.yaml").read_text())
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(file), "--dry_run", "--run_dir", str(tmp_path / "dry")]) == 0
    shown = capsys.readouterr().out
    assert "8 random images of 32x32" in shown
    assert "parameters at full size" in shown
    assert "every stage ran" in shown
    network = load(tmp_path / "dry/run").network
    assert torch.isfinite(network.terms(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).nelbo).all()


@pytest.mark.slow
def test_all_stages_of_the_published_configuration(tmp_path):
    """The four networks, the extraction and the assembly of VQ-VAE-2 for ImageNet."""
    assert main(["fit", "--config", "vqvae2_imagenet", "--dry_run", "--run_dir", str(tmp_path)]) == 0
    assert load(tmp_path).network.image_shape == (3, 256, 256)
    assert find_configuration("vqvae2_imagenet").is_file()
    assert Path(tmp_path / "codes").is_dir()
