"""Seconds to draw images, on networks that take no time."""

import pytest

from zoo.benchmarks import records, render
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
    table = build(
        [],
        references.load(),
        models=[checkpoint],
        priors=[checkpoint, str(config)],
        images=2,
        batch_size=2,
        save=str(target),
    )
    published, models, walks = table.sections
    assert "Latent VAE" in {row[0].text for row in published.rows}
    (row,) = models.rows
    assert (row[0].text, row[1].text) == ("tiny", "8x8")
    assert row[2].value > 0
    assert {(row[0].text, row[2].text) for row in walks.rows} == {("tiny", "8x8"), ("top top", "4x4")}
    lines = records.read(target)
    again = build(lines, references.load())
    assert render.render(again, "markdown") == render.render(table, "markdown")


def test_reached_by_a_flag_of_the_speed_table(capsys):
    from zoo.cli.main import main

    assert main(["bench", "--table", "speed_sampling", "--format", "markdown"]) == 0
    assert "213.8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [({"images": 0}, "at least 1"), ({"priors": ["none.yaml"]}, "no such configuration"), ({"models": ["x"]}, "x")],
)
def test_bad_options_are_one_line(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        build([], references.load(), save=str(tmp_path / "r.jsonl"), **options)
