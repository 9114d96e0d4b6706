"""Numbers that cannot lie: what was priced is said exactly, and published rows are met only by what reproduces them."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
import yaml

from tests.benchmarks.test_records import make_record
from zoo.benchmarks import records
from zoo.benchmarks.measures import claims, identity
from zoo.benchmarks.measures.identity import Split
from zoo.benchmarks.records import Measurement, references
from zoo.benchmarks.tables import find, nll
from zoo.checkpoints import build, load, save
from zoo.checkpoints.configurations import configuration_names, find_configuration
from zoo.cli.main import main
from zoo.data.writer import PackedWriter

CONFIGS = [name for name in configuration_names() if "/" not in name]
TINY = {
    "class_path": "zoo.models.VDVAE",
    "init_args": {
        "image_size": 32,
        "encoder": [{"resolution": 32, "blocks": 1, "downsample": 32}, {"resolution": 1, "blocks": 1}],
        "decoder": [{"resolution": 1, "blocks": 1}, {"resolution": 32, "blocks": 1, "upsample_from": 1}],
        "width": 8,
        "mixtures": 1,
    },
}


def config(name):
    return yaml.safe_load(find_configuration(name).read_text(encoding="utf-8"))


def fake_cifar(path, **attributes):
    """A prepared file that calls itself CIFAR-10."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with PackedWriter(path, {"train": 1, "test": 2}, (32, 32, 3)) as writer:
        for split, image in zip(("train", "test", "test"), images, strict=True):
            writer.add(split, image)
        writer.finish({"name": "cifar10", "variant": "cifar10", **attributes})
    return path


# -- the join ----------------------------------------------------------------------------------------------------------


def made_up(name, content):
    """A record as an evaluation of this configuration would write it."""
    known = references.load()
    rows = content["reproduces"]
    numbers = [n for n in known.numbers if n.row in rows and n.metric == "nll"]
    dataset, variant, split = claims.split_of(content)
    return make_record(
        model=numbers[0].model.partition(" (")[0],
        config=name,
        dataset=dataset,
        variant=variant,
        split=split,
        resolution=known.datasets[dataset].resolution,
        bits=numbers[0].bits,
        augmented=numbers[0].augmented,
        kind="exact" if numbers[0].kind == "exact" else "bound",
        estimator="continuous" if numbers[0].model == "VDM" else "",
        reproduces=tuple(rows),
        bits_per_dim=7.77,
    )


def priced(name):
    """The published likelihoods that a configuration reproduces."""
    rows = config(name)["reproduces"]
    return [n for n in references.load().numbers if n.row in rows and n.metric == "nll"]


@pytest.fixture(scope="module")
def everything():
    """One table with a made-up record of every configuration that a likelihood is published for."""
    lines = [made_up(name, config(name)) for name in CONFIGS if priced(name)]
    return nll.build(lines, references.load())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_record_of_every_published_configuration_stands_beside_its_value_and_no_others(name, everything):
    known, rows, own = references.load(), set(config(name)["reproduces"]), priced(name)
    if not own:
        metrics = {n.metric for n in known.numbers if n.row in rows}
        assert metrics or not rows, f"{name} reproduces rows without numbers"
        return
    lines = [row for section in everything.sections for row in section.rows]
    (published,) = [
        left for row in lines for left, cell in itertools.pairwise(row) if (cell.record or {}).get("experiment") == name
    ]
    printed = {(n.value, n.model) for n in own}
    assert rows.intersection(published.refs)
    assert all((n.value, n.model) in printed for n in known.numbers if n.id in published.refs)


def test_codes_stand_beside_nats_per_code():
    content, known = config("vqvae2_imagenet"), references.load()
    rows = tuple(row for row in content["reproduces"] if not row.endswith(".train"))
    values = {"top nats/code": 7.71, "bottom nats/code": 7.72, "mse [0,1]": 0.077}
    line = Measurement(question="codes", subject="ours", values=values, reproduces=rows, settings={"split": "test"})
    cells = [row for section in find("razavi2019")([line], known).sections for row in section.rows]
    found = {
        ref: cell.value
        for row in cells
        for published, cell in itertools.pairwise(row)
        for ref in published.refs
        if (cell.record or {}).get("experiment") == "ours"
    }
    assert found["razavi2019.t1.top.imagenet256.8bit.validation.prior_nll"] == 7.71
    assert found["razavi2019.t1.bottom.imagenet256.8bit.validation.prior_nll"] == 7.72
    assert found["razavi2019.t1.decoder.imagenet256.8bit.validation.mse"] == 0.077
    assert not any(".train" in ref for ref in found)


@pytest.mark.parametrize("name", ["vdvae_cifar10", "vdm_imagenet32", "pixelsnail_cifar10"])
def test_rows_are_upheld_while_architecture_and_data_are_those_of_the_configuration(name):
    content = config(name)
    dataset, variant, test = claims.split_of(content)
    split = Split(dataset, variant, test, "d" * 64, 32, 10, verified=True, complete=True)
    network, *_ = claims.architectures(content)
    rows = tuple(content["reproduces"])
    assert claims.upheld(rows, network, split) == rows
    assert claims.upheld((*rows, "child2020.ffhq256.5bit"), network, split) == rows, "not named by the configuration"
    assert claims.upheld(rows, "another", split) == ()
    assert claims.upheld(rows, network, split, own=False) == ()
    for changed in ({"variant": "other"}, {"verified": False}, {"complete": False}, {"split": "val"}):
        assert claims.upheld(rows, network, dataclasses.replace(split, **changed)) == ()


# -- numbers that lied -------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path):
    return str(save(tmp_path / "tiny.safetensors", TINY, build(TINY)))


def test_invented_images_never_stand_under_the_official_heading(tiny, tmp_path):
    for number, attributes in enumerate(({"verified": False}, {"verified": True}, {})):
        place = str(tmp_path / f"r{number}")
        path = fake_cifar(tmp_path / f"{number}.h5", **attributes)
        assert main(["test", tiny, "--data.dataset", str(path), "--records", place]) == 0
        (record,) = records.read(place)
        official = bool(attributes.get("verified"))
        assert record.verified is official
        headings = {
            section.title: [cell for row in section.rows for cell in row if cell.record]
            for section in nll.build([record], references.load()).sections
        }
        assert bool(headings["CIFAR-10 32x32"]) is official
        if not official:
            (cell,) = headings["CIFAR-10 32x32, CIFAR-10, not verified"]
            assert "ᵘ" in cell.marks


def test_a_depth_changed_at_test_time_does_not_replace_the_number_of_that_depth(tmp_path):
    words = ["vdvae-photos-8bit", "--model.network.bits", "5", "--data.limit", "1", "--records", str(tmp_path)]
    assert main(["test", *words]) == 0
    (record,) = records.read(tmp_path)
    assert record.overrides == {"bits": 5}
    shipped = records.of_kind(records.read(records.PACKAGED), records.Record)
    before, after = (
        [cell for section in nll.build(lines, references.load()).sections for row in section.rows for cell in row]
        for lines in (shipped, [*shipped, dataclasses.replace(record, images=10_000, complete=True)])
    )
    kept = {cell.text for cell in before if cell.record}
    assert kept <= {cell.text for cell in after if cell.record}
    (own,) = [cell for cell in after if cell.record and cell.record["overrides"]]
    assert "ᵗ" in own.marks


@pytest.mark.parametrize(
    ("path", "meta", "expected"),
    [
        ("runs/mine/last.ckpt", {}, "mine"),
        ("runs/mine/epoch=0-step=4.ckpt", {}, "mine"),
        ("runs/mine/checkpoints/epoch=0-step=4.ckpt", {}, "mine"),
        ("logs/mine/version_3/checkpoints/step-10.ckpt", {}, "mine"),
        ("copied/last.safetensors", {"run": "mine"}, "mine"),
        ("vdm-photos-8bit.safetensors", {"run": "vdm_photos_8bit"}, "vdm-photos-8bit"),
    ],
)
def test_an_experiment_is_called_after_its_run(tmp_path, path, meta, expected):
    assert identity.experiment(tmp_path / path, meta) == expected


def test_what_a_run_did_to_its_images_is_known_from_every_checkpoint_of_it(tmp_path):
    (tmp_path / "config.yaml").write_text("data: {dataset: cifar10, rotate: true}\nreproduces: [a]\n")
    known = identity.notes(tmp_path / "last.ckpt", {"epoch": 1})
    assert known["augmented"] is True
    assert known["reproduces"] == ["a"]
    assert known["data"]["dataset"] == "cifar10"


def test_a_split_prepared_in_part_is_said_to_be_so_once(tiny, tmp_path):
    path = fake_cifar(tmp_path / "part.h5", verified=False, variant="cifar10-first3")
    assert main(["test", tiny, "--data.dataset", str(path), "--records", str(tmp_path / "r")]) == 0
    (record,) = records.read(tmp_path / "r")
    assert (record.variant, record.complete) == ("cifar10", False)


def test_a_limit_beyond_the_split_prices_all_of_it(tiny, tmp_path):
    path = fake_cifar(tmp_path / "all.h5", verified=True)
    for limit, complete in ((100, True), (1, False)):
        place = str(tmp_path / str(limit))
        assert main(["test", tiny, "--data.dataset", str(path), "--data.limit", str(limit), "--records", place]) == 0
        (record,) = records.read(place)
        assert (record.complete, "first" in record.variant) == (complete, False)


def test_what_a_specification_says_does_not_depend_on_how_it_is_written():
    spelled = {**TINY, "init_args": {**TINY["init_args"], "bits": 8, "bottleneck": 0.25, "bins": "vdvae"}}
    assert identity.architecture(TINY) == identity.architecture(spelled)
    assert identity.changed(TINY, spelled) == {}
    wider = {**TINY, "init_args": {**TINY["init_args"], "width": 16}}
    assert identity.architecture(TINY) != identity.architecture(wider)
    assert identity.changed(TINY, wider) == {"width": 16}


def test_a_class_is_checked_once_it_has_passed_and_again_after_a_change(tmp_path, monkeypatch):
    from zoo import passed

    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_of_a_user.py").write_text("class Mine: pass\n")
    import mine_of_a_user

    assert passed.has_passed(type(load("vdvae-photos-8bit").network))
    assert not passed.has_passed(mine_of_a_user.Mine)
    passed.note_passed(mine_of_a_user.Mine)
    assert passed.has_passed(mine_of_a_user.Mine)
    (tmp_path / "mine_of_a_user.py").write_text("class Mine:\n    changed = True\n")
    assert not passed.has_passed(mine_of_a_user.Mine)


def test_the_readme_number_comes_out_of_zoo_test_at_any_batch_size(tmp_path, capsys):
    for batch in ("8", "256"):
        place = str(tmp_path / batch)
        words = ["vdvae-photos-8bit", "--data.dataset", "photos", "--data.eval_batch_size", batch, "--records", place]
        assert main(["test", *words]) == 0
    one, two = (records.read(tmp_path / batch)[0] for batch in ("8", "256"))
    assert one.bits_per_dim == pytest.approx(two.bits_per_dim, rel=1e-6)
    shipped = records.best(records.of_kind(records.read(records.PACKAGED), records.Record))
    (known,) = [r for r in shipped if r.config == "vdvae-photos-8bit"]
    assert one.question == known.question
    assert json.dumps(one.bits_per_dim)[:7] == json.dumps(known.bits_per_dim)[:7]
    assert torch.isfinite(torch.tensor(one.bits_per_dim))
