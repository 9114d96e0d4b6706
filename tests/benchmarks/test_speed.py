"""The speed table: what it measures is of the network it was given."""

import pytest
import torch

from zoo import checkpoints
from zoo.benchmarks.measures.speed import matmul_peak, measure
from zoo.benchmarks.tables.speed import build
from zoo.errors import UserError

ARGUMENTS = {
    "encoder": [{"resolution": 4, "blocks": 1, "downsample": 4}, {"resolution": 1, "blocks": 1}],
    "decoder": [{"resolution": 1, "blocks": 1}, {"resolution": 4, "blocks": 1, "upsample_from": 1}],
    "width": 8,
    "image_size": 4,
    "mixtures": 1,
}


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "tiny.safetensors"
    spec = {"class_path": "zoo.models.VDVAE", "init_args": ARGUMENTS}
    checkpoints.save(path, spec, checkpoints.build(spec))
    return str(path)


def test_rows_hold_images_per_second_flops_and_their_share_of_the_peak(checkpoint):
    threads = torch.get_num_threads()
    table = build(list(measure(checkpoint, batch_size=2, threads=1, repeats=1)), None)
    assert torch.get_num_threads() == threads
    [section] = table.sections
    assert section.title.startswith("tiny: VDVAE")
    assert [(row[0].value, row[1].value) for row in section.rows] == [
        ("evaluation", "contiguous"),
        ("training", "contiguous"),
        ("evaluation", "channels-last"),
        ("training", "channels-last"),
    ]
    names = [column.name for column in section.columns]
    for row in section.rows:
        images, seconds, work, rate, share = (
            row[names.index(name)].value for name in ("images/s", "s/batch", "GFLOP/image", "GFLOP/s", "share of peak")
        )
        assert images == pytest.approx(2 / seconds)
        assert rate == pytest.approx(work * images)
        assert 0 < share < 1
    evaluation, training = (row[names.index("GFLOP/image")].value for row in section.rows[:2])
    assert 2 * evaluation < training <= 3 * evaluation


def test_the_peak_is_that_of_a_real_matrix_product():
    assert 1e8 < matmul_peak() < 1e15


def test_errors_name_the_option(tmp_path):
    with pytest.raises(UserError, match="no such configuration file"):
        list(measure(str(tmp_path / "missing.yaml")))
    (tmp_path / "empty.yaml").write_text("data: {}\n")
    with pytest.raises(UserError, match="describes 0 networks"):
        list(measure(str(tmp_path / "empty.yaml")))
    with pytest.raises(UserError, match="--threads 0"):
        list(measure("any", threads=0))
