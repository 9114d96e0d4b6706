"""`zoo sample`, `zoo reconstruct` and `zoo import`, run on small checkpoints and real files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.tiny import NETWORK
from zoo.checkpoints import build, load, save
from zoo.cli.main import main
from zoo.pictures.grid import GAP, VISIBLE

ARGUMENTS = NETWORK["init_args"]
HPARAMS = {
    "dataset": "cifar10",
    "enc_blocks": "16d16,1x1",
    "dec_blocks": "1x1,16m1",
    "width": 6,
    "zdim": 2,
    "num_mixtures": 2,
    "image_size": 16,
}


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    network = build(NETWORK)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return str(save(tmp_path / "tiny.safetensors", NETWORK, network))


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def cells(path, side=16):
    """The images of a grid, (rows, columns, side, side, 3), at their own size."""
    grid, factor = pixels(path), -(-VISIBLE // side)
    shown, step = side * factor, side * factor + GAP
    assert (grid.shape[0] + GAP) % step == (grid.shape[1] + GAP) % step == 0
    rows, columns = (grid.shape[0] + GAP) // step, (grid.shape[1] + GAP) // step
    return np.stack(
        [
            [grid[r * step : r * step + shown : factor, c * step : c * step + shown : factor] for c in range(columns)]
            for r in range(rows)
        ]
    )


def test_every_temperature_is_a_row_of_its_own_from_the_same_noise(checkpoint, tmp_path):
    path = tmp_path / "samples.png"
    arguments = ["sample", checkpoint, "--output", str(path), "--n", "3"]
    assert main([*arguments, "--temperature", "[1.0,0.5,1.0]"]) == 0
    grid = cells(path)
    assert grid.shape[:2] == (3, 3)
    assert np.array_equal(grid[0], grid[2])
    assert not np.array_equal(grid[0], grid[1])
    assert main([*arguments, "--seed", "1"]) == 0
    assert not np.array_equal(cells(path)[0, 0], grid[0, 0])


def test_rows_of_reconstructions_start_with_the_images_and_keep_more_and_more(checkpoint, tmp_path, capsys):
    image = np.random.default_rng(0).integers(0, 256, (20, 18, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "in.png")
    path = tmp_path / "out.png"
    assert main(["reconstruct", checkpoint, str(tmp_path / "in.png"), "--output", str(path)]) == 0
    grid = cells(path)
    assert grid.shape[:2] == (3, 1)  # the image, the 1x1 groups kept, all kept
    assert np.array_equal(grid[0, 0], image[2:18, 1:17])  # the centre
    printed = capsys.readouterr().out
    assert "1 of 2 groups kept" in printed
    assert "2 of 2 groups kept" in printed
    assert main(["reconstruct", checkpoint, "--output", str(path), "--n", "2", "--keep", "[0]"]) == 0
    assert cells(path).shape[:2] == (2, 2)


def test_an_imported_checkpoint_is_complete_and_says_where_it_came_from(tmp_path, capsys):
    network = build({"class_path": "VDVAE", "init_args": ARGUMENTS})
    names = [("encoder.stem.", "encoder.in_conv."), ("encoder.blocks.", "encoder.enc_blocks.")]
    names += [("decoder.layers.", "decoder.dec_blocks."), (".posterior.conv", ".enc.c"), (".prior.conv", ".prior.c")]
    names += [(".residual.conv", ".resnet.c"), (".project.", ".z_proj."), (".conv", ".c")]
    names += [("decoder.biases.16", "decoder.bias_xs.1"), ("decoder.biases.1", "decoder.bias_xs.0")]
    names += [("head.", "decoder.out_net.out_conv.")]
    official = {}
    for key, weight in network.state_dict().items():
        for ours, theirs in names:
            key = key.replace(ours, theirs)
        official[key] = weight
    source, config, output = tmp_path / "x-model-ema.th", tmp_path / "hps.json", tmp_path / "ours.safetensors"
    torch.save(official, source)
    config.write_text(json.dumps(HPARAMS))
    arguments = ["import", "vdvae", str(source), "--config", str(config), "--output", str(output)]
    assert main(arguments) == 0
    loaded = load(output)
    assert loaded.meta["source"] == "vdvae"
    assert set(loaded.meta["files"]) == {source.name}
    for key, weight in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], weight)
    assert f"{sum(p.numel() for p in network.parameters()):,} parameters" in capsys.readouterr().out
    assert main([*arguments, "--bins", "vdvae"]) == 0
    assert load(output).network.bins == "vdvae"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "CKPT", "--output", "x.jpg"], "ends in .png"),
        (["sample", "CKPT", "--n", "0"], "--n 0"),
        (["sample", "CKPT", "--temperature", "[-1]"], "--temperature"),
        (["sample", "CKPT", "--guidance_mean", "2"], "has no guidance"),
        (["sample", "CKPT", "--steps", "5"], "--steps 5"),
        (["sample", "vdave-photos-8bit"], "no such checkpoint"),
        (["reconstruct", "CKPT", "--keep", "[3]"], "expected 0 to 2"),
        (["reconstruct", "CKPT", "SMALL"], "needs 16x16"),
        (["reconstruct", "CKPT", "--dataset", "nothing"], "nothing"),
        (["import", "vdave", "x.th"], "did you mean 'vdvae'"),
        (["import", "vdvae", "x.th", "--output", "x.safetensors"], "x.th: no such file"),
        (["import", "vdvae", "x.th", "--output", "x.ckpt"], ".safetensors"),
        (["import", "vdvae", "x.th", "--output", "x.safetensors", "--weights", "best"], "weights"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(checkpoint, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    before = sorted(tmp_path.iterdir())
    words = [{"CKPT": checkpoint, "SMALL": "small.png"}.get(word, word) for word in arguments]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.iterdir()) == before


def test_levels_of_codes_are_kept_one_by_one_and_the_rest_is_their_mean(tmp_path, capsys):
    path = tmp_path / "levels.png"
    assert main(["reconstruct", "vqvae2-photos-8bit", "--n", "2", "--output", str(path)]) == 0
    assert "levels kept: top, bottom" in capsys.readouterr().out
    rows = cells(path, 32)
    model = load("vqvae2-photos-8bit").network
    image, whole = (torch.from_numpy(rows[row, 0].copy()).permute(2, 0, 1)[None] for row in (0, 2))
    assert (model.reconstruct(image).int() - whole.int()).abs().max() <= 1  # floats of a batch of one
    assert main(["reconstruct", "vdvae-photos-8bit", "--fill", "mean", "--output", str(tmp_path / "no.png")]) == 2
    assert not (tmp_path / "no.png").exists()
