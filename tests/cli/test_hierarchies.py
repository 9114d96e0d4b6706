"""`zoo interpolate`, `traverse` and `outpaint` on real files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.checkpoints import save
from zoo.cli.main import run
from zoo.cli.outpaint import place
from zoo.errors import UserError
from zoo.pictures.grid import GAP, VISIBLE

SIDE = 16
LEVELS = {"width_mult": [1] * 4, "ffn_mult": [1] * 4, "groups": [1, 1, 1, 2], "encoder_blocks": [1] * 4}
LATENT_VAE = {
    "class_path": "zoo.models.LatentVAE",
    "init_args": {
        "first_stage": {"class_path": "zoo.models.latent_vae.PixelSpace"},
        "hierarchy": {
            "class_path": "zoo.models.latent_vae.HierarchicalVAE",
            "init_args": {
                "resolution": SIDE,
                "channels": 3,
                "width": 4,
                "latent_channels": 2,
                "attention": [0] * 4,
                "heads": [0] * 4,
                **LEVELS,
            },
        },
        "image_size": SIDE,
    },
}
VDVAE = {
    "class_path": "zoo.models.VDVAE",
    "init_args": {
        "encoder": [{"resolution": 16, "blocks": 1, "downsample": 16}, {"resolution": 1, "blocks": 1}],
        "decoder": [{"resolution": 1, "blocks": 2}, {"resolution": 16, "blocks": 1, "upsample_from": 1}],
        "width": 6,
        "latent_channels": 2,
        "mixtures": 2,
        "image_size": SIDE,
    },
}


@pytest.fixture(scope="module", params=["latent_vae", "vdvae"])
def checkpoint(request, tmp_path_factory):
    from zoo.checkpoints import build

    spec = LATENT_VAE if request.param == "latent_vae" else VDVAE
    torch.manual_seed(0)
    network = build(spec)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return save(tmp_path_factory.mktemp(request.param) / "model.safetensors", spec, network)


@pytest.fixture
def photos(tmp_path):
    files = []
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(pixels).save(files[-1])
    return files


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def cells(path, columns):
    """Pictures of a grid, row by row."""
    pixels = read(path)
    factor = -(-VISIBLE // SIDE)
    shown, step = SIDE * factor, SIDE * factor + GAP
    places = [(r * step, c * step) for r in range((pixels.shape[0] + GAP) // step) for c in range(columns)]
    return [pixels[y : y + shown : factor, x : x + shown : factor] for y, x in places]


def test_a_walk_stands_between_the_two_images(checkpoint, photos, tmp_path):
    output = tmp_path / "walk.png"
    run(["interpolate", str(checkpoint), *photos, "--steps", "4", "--output", str(output)])
    row = cells(output, 6)
    assert len(row) == 6
    for picture, file in zip((row[0], row[-1]), photos, strict=True):
        assert np.array_equal(picture, read(file))
    again = tmp_path / "again.png"
    run(["interpolate", str(checkpoint), *photos, "--steps", "2", "--mix", "spherical", "--output", str(again)])
    ends = cells(again, 4)
    assert np.array_equal(ends[1], row[1])
    assert np.array_equal(ends[2], row[4])


def test_mixing_no_level_stays_at_the_first_image(checkpoint, photos, tmp_path):
    output = tmp_path / "walk.png"
    run(["interpolate", str(checkpoint), *photos, "--steps", "2", "--levels", "[1]", "--output", str(output)])
    with pytest.raises(UserError, match="--levels 7"):
        run(["interpolate", str(checkpoint), *photos, "--levels", "[7]", "--output", str(output)])


def test_an_odd_number_of_images_is_refused(checkpoint, photos, tmp_path):
    with pytest.raises(UserError, match="two for each walk"):
        run(["interpolate", str(checkpoint), photos[0], "--output", str(tmp_path / "x.png")])


def test_a_traversal_is_a_square_of_pictures(checkpoint, tmp_path):
    output = tmp_path / "grid.png"
    run(["traverse", str(checkpoint), "--columns", "3", "--count", "4", "--output", str(output)])
    assert len(cells(output, 3)) == 9


def test_outpainting_widens_or_says_why_not(checkpoint, photos, tmp_path):
    output = tmp_path / "wide.png"
    arguments = [str(checkpoint), *photos, "--output", str(output)]
    if "vdvae" in str(checkpoint.parent.name):
        with pytest.raises(UserError, match="cannot grow"):
            run(["outpaint", *arguments])
        return
    run(["outpaint", *arguments, "--size", "24", "--side", "left"])
    with Image.open(output) as picture:
        assert picture.size == (24 * 4, 2 * SIDE * 4 + GAP)
    with pytest.raises(UserError, match="multiple of 4"):
        run(["outpaint", *arguments, "--size", "18"])


@pytest.mark.parametrize(
    ("side", "canvas", "start"),
    [
        ("right", (16, 32), (0.0, 0.0)),
        ("left", (16, 32), (0.0, 0.5)),
        ("both", (16, 32), (0.0, 0.25)),
        ("up", (32, 16), (0.5, 0.0)),
        ("down", (32, 16), (0.0, 0.0)),
    ],
)
def test_the_image_lies_where_the_side_says(side, canvas, start):
    assert place((16, 16), None, side, 4) == (canvas, start)


def test_a_folder_of_images_is_walked_pair_by_pair(checkpoint, tmp_path, photos):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, photo in enumerate([*photos, *photos]):
        (folder / f"{number}.png").write_bytes(Path(photo).read_bytes())
    output = tmp_path / "x.png"
    run(["interpolate", str(checkpoint), str(folder), "--steps", "2", "--output", str(output)])
    with Image.open(output) as picture:
        assert picture.height > 2 * SIDE
    with pytest.raises(UserError, match="--device cuda:9: not here; choose from: auto, cpu"):
        run(["interpolate", str(checkpoint), str(folder), "--device", "cuda:9"])
