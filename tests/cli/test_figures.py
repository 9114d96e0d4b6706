import numpy as np
import pytest
from PIL import Image

from tests.cli.tiny import NETWORK
from zoo.checkpoints import build, save
from zoo.cli.main import main
from zoo.pictures.grid import GAP


@pytest.fixture
def checkpoints(tmp_path):
    paths = []
    for bits in (8, 5):
        spec = {**NETWORK, "init_args": {**NETWORK["init_args"], "bits": bits}}
        paths.append(str(save(tmp_path / f"tiny-{bits}bit.safetensors", spec, build(spec))))
    return paths


def test_banding_has_a_column_for_each_depth_and_model(checkpoints, tmp_path, capsys):
    output = tmp_path / "banding.png"
    assert main(["figure", "banding", *checkpoints, "--n", "2", "--output", str(output)]) == 0
    assert "2 image(s), 2 model(s)" in capsys.readouterr().out
    side = 160
    with Image.open(output) as image:
        assert image.width == 4 * side + 3 * GAP  # original, its five bits, and both models
        pixels = np.asarray(image)
    top = image.height - side
    first, reduced = pixels[top:, :side], pixels[top:, side + GAP : 2 * side + GAP]
    assert len(np.unique(reduced)) <= 32 < len(np.unique(first))


@pytest.mark.parametrize("words", [[], ["pixelsnail-photos-8bit"]])
def test_models_that_keep_nothing_get_one_line(words, tmp_path, capsys):
    assert main(["figure", "banding", *words, "--n", "1", "--output", str(tmp_path / "no.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "no.png").exists()
