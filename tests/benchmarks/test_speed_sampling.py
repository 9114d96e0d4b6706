"""Seconds to draw images, on networks that take no time."""

import pytest

from zoo.benchmarks import records
from zoo.benchmarks.measures import sampling, walking
from zoo.benchmarks.records import references
from zoo.benchmarks.tables.speed_sampling import build
from zoo.checkpoints import build as build_network
from zoo.checkpoints import save
from zoo.errors import UserError

SPEC = {
    "class_path": "zoo.models.PixelSNAIL",
    "init_args": {
        "image_shape": [3, 8, 8],
        "bits": 5,
        "mixtures": 2,
        "trunk": {
            "channels": 8,
            "residual_channels": 8,
            "blocks": 1,
            "layers_per_block": 1,
            "heads": 1,
            "key_channels": 8,
        },
    },
}
TOP = """
stages:
  - name: top
    model:
      network:
        class_path: CodePrior
        init_args: {name: top, grids: [[4, 4]], codes: [7], trunk: {channels: 8, residual_channels: 8, blocks: 1,
          layers_per_block: 1, heads: 1}}
"""


@pytest.fixture
def checkpoint(tmp_path):
    return str(save(tmp_path / "tiny.safetensors", SPEC, build_network(SPEC)))


def test_models_and_walks_are_measured_recorded_and_shown_beside_the_published_times(tmp_path, checkpoint):
    target, config = tmp_path / "records.jsonl", tmp_path / "top.yaml"
    config.write_text(TOP)
    for source in (checkpoint, str(config)):
        for line in walking.measure(source):
            records.append(target, line)
    for line in sampling.measure(checkpoint, images=2, batch_size=2):
        records.append(target, line)
    table = build(records.read(target), references.load())
    published, models, walks = table.sections
    assert "Latent VAE" in {row[0].text for row in published.rows}
    (row,) = models.rows
    assert (row[0].text, row[1].text) == ("tiny", "8x8")
    assert row[2].value > 0
    assert {(row[0].text, row[2].text) for row in walks.rows} == {("tiny", "8x8"), ("top top", "4x4")}


def test_reached_by_a_flag_of_the_speed_table(capsys):
    from zoo.cli.main import main

    assert main(["bench", "--table", "speed_sampling", "--format", "markdown"]) == 0
    assert "213.8" in capsys.readouterr().out


def test_bad_options_are_one_line(checkpoint):
    with pytest.raises(UserError, match="at least 1"):
        next(sampling.measure(checkpoint, images=0))
    with pytest.raises(UserError, match="no such configuration"):
        next(walking.measure("none.yaml"))
    with pytest.raises(UserError, match="nowhere"):
        next(sampling.measure("nowhere"))
