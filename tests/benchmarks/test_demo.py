import dataclasses

import pytest
import torch

from tests.benchmarks.test_records import make_record
from zoo.benchmarks import records, render, suite
from zoo.benchmarks.records import Measurement, Record, references
from zoo.benchmarks.tables import demo, lossless
from zoo.checkpoints import store
from zoo.cli.main import main
from zoo.errors import UserError


def classical(subject, layout, bits, value, digest="cd" * 32):
    settings = {
        "dataset": "photos",
        "digest": digest,
        "layout": layout,
        "bits": bits,
        "how": "x",
        "stored as": "levels",
    }
    return Measurement(question="classical", subject=subject, settings=settings, values={"bits/dim": value, "tiles": 4})


LINES = [
    make_record(config="vdvae-photos-8bit", coded_net=4.51, coded_gross=4.9, coded_estimate=4.5, coded_images=4),
    make_record(config="vdvae-photos-5bit", bits=5, bits_per_dim=2.0),
    make_record(config="vdm-photos-8bit", model="VDM", bits_per_dim=4.0, rate=1.0),
    make_record(config="vqvae2-photos-8bit", model="VQ-VAE-2", priced="codes"),
    make_record(config="vdvae-photos-8bit", bins="vdvae", bits_per_dim=1.0),
    classical("PNG", "tiles", 8, 4.9),
    classical("PNG", "montage", 8, 4.7),
    classical("PNG", "tiles", 5, 2.4),
]


def test_demo_table_puts_models_and_codecs_side_by_side():
    (section,) = demo.build(LINES, references.load()).sections
    texts = [[cell.text for cell in row] for row in section.rows]
    assert [row[0] for row in texts] == [
        "VDVAE",
        "VDM",
        "PNG, each tile its own file",
        "PNG, all in one image",
    ]
    assert texts[0][2:] == ["≤ 4.500 ± 0.100", "+0.22 % (4)", "≤ 2.000 ± 0.100", "not run"]
    assert texts[1][4:] == ["not run", "not run"]
    assert texts[2][2] == "4.900"
    assert texts[3][4] == "not run"


def test_demo_table_refuses_to_mix_versions_of_the_photographs():
    with pytest.raises(ValueError, match="different versions"):
        demo.build([*LINES, classical("PNG", "tiles", 8, 4.9, digest="other")], references.load())


def test_lossless_table_holds_net_against_the_estimate_of_the_same_images():
    ours, published, *_ = lossless.build(LINES, references.load()).sections
    assert ours.title == "photos, test split, 32x32 tiles, 8 bits"
    texts = [cell.text for cell in ours.rows[0]]
    assert texts[:7] == ["vdvae-photos-8bit", "4", "4.500", "not run", "4.510", "+0.22 %", "4.900"]
    assert [row[0].text for row in ours.rows[1:]] == ["PNG, each tile its own file", "PNG, all tiles in one image"]
    assert "≥ 8.00" in {cell.text for row in published.rows for cell in row}


def test_an_output_file_with_markers_keeps_what_stands_around_them(tmp_path, capsys):
    for line in LINES:
        records.append(tmp_path / "a.jsonl", line)
    page = tmp_path / "README.md"
    page.write_text("before\n\n<!-- table demo -->\nold\n<!-- end of table demo -->\n\nafter\n")
    for _ in range(2):
        assert main(["bench", "--table", "demo", "--records", str(tmp_path), "--output", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert text.count("| VDVAE |") == 1
    assert "old" not in text
    assert "# Small models" not in text


TINY = {
    "class_path": "zoo.models.VDVAE",
    "init_args": {
        "image_size": 32,
        "bits": 5,
        "encoder": [{"resolution": 32, "blocks": 1, "downsample": 32}, {"resolution": 1, "blocks": 1}],
        "decoder": [{"resolution": 1, "blocks": 1}, {"resolution": 32, "blocks": 1, "upsample_from": 1}],
        "width": 8,
        "latent_channels": 2,
        "mixtures": 2,
    },
}


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder of shipped checkpoints with one tiny model in it."""
    folder = tmp_path / "shipped"
    torch.manual_seed(0)
    store.save(folder / "vdvae-photos-5bit.safetensors", TINY, store.build(TINY))
    monkeypatch.setattr(store, "SHIPPED", folder)
    return folder


@pytest.mark.slow
def test_demo_prices_codes_and_samples_with_what_ships(shipped, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["bench", "--suite", "demo", "--output", str(out), "--only", "vdvae", "--tiles=16", "--samples=4"]) == 0
    (record,) = records.of_kind(records.read(out / "records"), Record)
    assert record.images == 256
    assert record.coded_images == 16
    assert record.coded_net == pytest.approx(record.coded_estimate, rel=0.02)
    assert (out / "samples" / "vdvae-photos-5bit.png").stat().st_size > 100
    assert "VDVAE" in (out / "leaderboard.md").read_text()
    text = capsys.readouterr().out
    assert str(out / "leaderboard.md") in text.replace("\n", "")


@pytest.mark.slow
def test_evaluating_a_checkpoint_twice_gives_the_same_record(shipped):
    from zoo.benchmarks.measures.evaluator import evaluate_checkpoint

    first, second = (evaluate_checkpoint("vdvae-photos-5bit", limit=2) for _ in range(2))
    same = {"date": "", "seconds": 0.0, "hardware": {}}
    assert dataclasses.replace(first, **same) == dataclasses.replace(second, **same)
    assert not first.complete


def test_without_checkpoints_the_demo_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    assert main(["bench", "--suite", "demo", "--output", str(tmp_path / "out")]) == 2
    assert "--train" in capsys.readouterr().err


def test_readme_shows_the_committed_records():
    from pathlib import Path

    page = Path(__file__).parents[2] / "README.md"
    begin, end = render.markers("demo")
    shown = page.read_text().partition(begin)[2].partition(end)[0].strip()
    lines = records.read(records.PACKAGED) if records.PACKAGED.is_dir() else []
    expected = render.fragment(demo.build(lines, references.load())).strip()
    assert shown == expected


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "records").mkdir()
    kept = tmp_path / "records" / "vdvae-photos-5bit.jsonl"
    kept.write_text("mine")
    with pytest.raises(UserError, match="no demo made"):
        suite.demo(output=str(tmp_path), only="vdvae-photos-5bit")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]
    assert kept.read_text() == "mine"
