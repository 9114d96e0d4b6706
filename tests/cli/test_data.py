"""`zoo data` as a user types it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.data import formats
from zoo.cli.main import main


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return formats.write_cifar(folder)[0]


def test_prepare_list_verify_show(source, home, capsys, tmp_path):
    assert main(["data", "prepare", "cifar10", "--source", str(source), "--no-verify"]) == 0
    assert (home / "cifar10.h5").is_file()
    assert main(["data", "verify", "cifar10"]) == 0
    assert "every byte and every pixel" in capsys.readouterr().out
    assert main(["data", "list", "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["prepared"]["cifar10"]["images"] == {"train": 18, "val": 2, "test": 4}
    assert listed["known"]["cifar10"]["counts"] == {"train": 50_000, "test": 10_000}
    assert main(["data", "show", "cifar10", "--output", str(tmp_path / "sheet.png")]) == 0
    assert (tmp_path / "sheet.png").is_file()
    assert "4 classes of 1 to 1 images" in capsys.readouterr().out


def test_other_split_rules_have_their_own_file(source, home, capsys):
    for rule in ("full", "vdvae"):
        assert main(["data", "prepare", "cifar10", "--source", str(source), "--no-verify", "--split", rule]) == 0
    assert sorted(path.name for path in home.iterdir()) == ["cifar10-full.h5", "cifar10.h5"]


@pytest.mark.parametrize("form", ["rich", "markdown"])
def test_list_shows_every_set(form, capsys):
    assert main(["data", "list", "--format", form]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("photos", "imagenet32-small", "imagenet32-box", "ffhq1024"))


def test_damaged_files_are_listed_as_such(source, home, capsys):
    main(["data", "prepare", "cifar10", "--source", str(source), "--no-verify"])
    content = (home / "cifar10.h5").read_bytes()
    (home / "cifar10.h5").write_bytes(content[:100])
    assert main(["data", "list", "--format", "markdown"]) == 0
    assert "damaged: prepare it again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lsit"], "did you mean 'list'"),
        (["prepare"], "no NAME given"),
        (["prepare", "mnst"], "did you mean 'mnist'"),
        (["prepare", "cifar10"], "--source PATH, or --download"),
        (["prepare", "imagenet32-box"], "account needed"),
        (["prepare", "cifar10", "--source", "/nowhere"], "/nowhere: no such file"),
        (["prepare", "cifar10", "--source", ".", "--limit", "x"], "--limit x: expected a whole number"),
        (["prepare", "cifar10", "--source", ".", "--limit", "0"], "--limit 0"),
        (["prepare", "cifar10", "--source", ".", "--sourec", "x"], "did you mean 'source'"),
        (["prepare", "cifar10", "--source", ".", "--split", "vdvea"], "did you mean 'vdvae'"),
        (["prepare", "cifar10", "--source", ".", "--resolution", "8"], "zoo data prepare folder"),
        (["verify", "cifar10"], "not prepared"),
        (["verify", "/etc/hostname.h5"], "no such file"),
        (["show", "photos", "--split", "trian"], "--split trian"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_missing_parts_are_mentioned(tmp_path, capsys):
    formats.write_mnist(tmp_path)
    for path in tmp_path.glob("train-*"):
        path.unlink()
    assert main(["data", "prepare", "mnist", "--source", str(tmp_path), "--no-verify"]) == 0
    assert "the source lacks its part 'train' (60,000 images)" in capsys.readouterr().out


def test_help_of_every_command(capsys):
    for command in ("list", "prepare", "verify", "show"):
        assert main(["data", command, "--help"]) == 0
        assert command in capsys.readouterr().out


def test_listing_imports_no_torch():
    code = "import sys; from zoo.cli.main import main; main(['data', 'list']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_prepared_file_feeds_the_data_module(source):
    from zoo.data.datamodule import ImageDataModule

    main(["data", "prepare", "cifar10", "--source", str(source), "--no-verify"])
    images, labels = next(iter(ImageDataModule("cifar10", batch_size=4).test_dataloader()))
    assert images.shape == (4, 3, 32, 32)
    assert labels.tolist() == [6, 7, 8, 9]
    assert np.asarray(images).any()
