import pytest
from PIL import Image

from zoo.benchmarks.measures.evaluator import evaluate_checkpoint
from zoo.benchmarks.measures.pruning import measure
from zoo.benchmarks.records import references
from zoo.benchmarks.render import as_dict
from zoo.benchmarks.tables import pruning
from zoo.checkpoints import build, save
from zoo.errors import UserError

SPEC = {
    "class_path": "zoo.models.EfficientVDVAE",
    "init_args": {
        "image_shape": [3, 32, 32],
        "bits": 8,
        "mixtures": 1,
        "bottom_up": [
            {"width": 4, "blocks": [1], "ratio": 0.5, "stride": 8},
            {"width": 4, "blocks": [1], "ratio": 0.5},
        ],
        "top_down": [
            {"width": 4, "blocks": [1], "latents": 3, "ratio": 0.5},
            {"width": 4, "blocks": [1], "latents": 1, "ratio": 0.5, "stride": 8},
        ],
    },
}


@pytest.fixture
def checkpoint(tmp_path):
    return save(tmp_path / "tiny.safetensors", SPEC, build(SPEC))


def test_all_posteriors_are_the_plain_evaluation_and_none_the_prior(checkpoint):
    lines = list(measure(str(checkpoint), percent=[100.0, 20.0, 0.0], limit=3))
    plain = evaluate_checkpoint(checkpoint, limit=3)
    none, some, every = lines
    assert [line.settings["percent"] for line in lines] == [0.0, 20.0, 100.0]
    for name in ("bits_per_dim", "rate", "distortion", "standard_error"):
        assert every.values[name] == getattr(plain, name)
    assert none.values["rate"] == none.values["kept_latents"] == none.values["megabytes"] == 0
    assert 0 < some.values["megabytes"] < every.values["megabytes"]
    assert every.values["kept_latents"] == every.values["latents"] == 3 * 4 * 4 + 32 * 32


@pytest.mark.parametrize("granularity", ["dimension", "channel"])
def test_table_shows_what_was_measured_beside_the_paper(checkpoint, tmp_path, granularity):
    picture = tmp_path / "p.png"
    options = {"percent": [50.0, 100.0], "limit": 2, "granularity": granularity}
    lines = list(measure(str(checkpoint), **options))
    table = pruning.build(lines, references.load(), plot=str(picture))
    published, measured = as_dict(table)["sections"]
    assert [row[0]["value"] for row in measured["rows"]] == [50.0, 100.0]
    size = published["columns"].index("size, GB, published")
    assert published["rows"][-1][size]["value"] == 4433.0
    with Image.open(picture) as image:
        assert len(image.getcolors(1 << 20)) > 3


def test_plot_needs_something_measured(tmp_path):
    with pytest.raises(UserError, match="nothing is measured"):
        pruning.build([], references.load(), plot=str(tmp_path / "p.png"))
