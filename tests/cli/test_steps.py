"""`zoo sample` of models that sample in steps."""

import pytest
from PIL import Image

from zoo.checkpoints import build, save
from zoo.cli.sample import sample
from zoo.errors import UserError


@pytest.fixture
def checkpoint(tmp_path):
    score = {"width": 8, "blocks": 1, "groups": 2, "middle_attention": False}
    arguments = {"image_shape": [3, 8, 8], "score": score, "schedule": {"kind": "fixed"}}
    spec = {"class_path": "zoo.models.VDM", "init_args": arguments}
    return str(save(tmp_path / "tiny.safetensors", spec, build(spec)))


def test_steps_other_than_the_trained_ones(checkpoint, tmp_path, capsys):
    target = tmp_path / "samples.png"
    sample(checkpoint, output=str(target), n=3, steps=2)
    with Image.open(target) as picture:
        assert picture.size == (2 * 96 + 4, 2 * 96 + 4)  # 2 x 2 images of 8 pixels, enlarged, with gaps of 4
    assert "3 image(s)" in capsys.readouterr().out


def test_samples_over_time_fill_one_row_each(checkpoint, tmp_path):
    target = tmp_path / "samples.png"
    sample(checkpoint, output=str(target), n=2, steps=3, over_time=4)
    with Image.open(target) as picture:
        assert picture.size == (4 * 100 - 4, 2 * 100 - 4)


def test_one_picture_is_no_way_from_noise(checkpoint, tmp_path):
    with pytest.raises(UserError, match="at least 2"):
        sample(checkpoint, output=str(tmp_path / "samples.png"), n=2, over_time=1)
