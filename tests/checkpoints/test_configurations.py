"""Configurations are found by path and by name."""

from pathlib import Path

import pytest

from zoo.checkpoints.configurations import configuration_names, configurations_folder, find_configuration
from zoo.errors import UserError


def test_every_name_finds_its_file() -> None:
    names = configuration_names()
    assert {"vdvae_cifar10", "demo/vdvae_photos_8bit"} <= set(names)
    for name in names:
        assert find_configuration(name) == configurations_folder() / f"{name}.yaml"
        assert find_configuration(f"configs/{name}.yaml").samefile(configurations_folder() / f"{name}.yaml")


def test_a_file_of_the_user_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vdvae_cifar10.yaml").write_text("model: {}\n")
    assert find_configuration("vdvae_cifar10.yaml") == Path("vdvae_cifar10.yaml")


@pytest.mark.parametrize("name", ["vdvae_cifar", "vdvae_cifar.yaml", "../vdvae_cifar10", "/vdvae_cifar10"])
def test_unknown_names_suggest_the_nearest(name: str) -> None:
    with pytest.raises(UserError, match=r"no such configuration file; .*vdvae_cifar10"):
        find_configuration(name)
