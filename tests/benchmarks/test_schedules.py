import pytest
from PIL import Image

from zoo.benchmarks import records, render
from zoo.benchmarks.measures.schedules import measure
from zoo.benchmarks.records import references
from zoo.benchmarks.tables.schedules import build
from zoo.checkpoints import build as build_network
from zoo.checkpoints import save

SPEC = {
    "class_path": "zoo.models.VDM",
    "init_args": {
        "image_shape": [3, 8, 8],
        "score": {"width": 8, "blocks": 1, "groups": 2, "middle_attention": False},
        "schedule": {"kind": "fixed"},
    },
}


def test_checkpoint_is_measured_recorded_and_plotted(tmp_path):
    checkpoint = save(tmp_path / "tiny.safetensors", SPEC, build_network(SPEC))
    target, plot = tmp_path / "records.jsonl", tmp_path / "plot.png"
    (line,) = measure(str(checkpoint), images=2, plot=str(plot))
    records.append(target, line)
    table = build(records.read(target), references.load())
    assert line.values["ratio"] == 1.0  # its own schedule is the linear one
    assert line.values["gamma_0"] == pytest.approx(-13.3)
    with Image.open(plot) as picture:
        assert picture.width > 600
    for form in render.FORMATS:
        assert "tiny" in render.render(table, form)
    assert len(table.sections) == 2
