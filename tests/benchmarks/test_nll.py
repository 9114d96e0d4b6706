import json
import subprocess
import sys

import pytest

from tests.benchmarks.test_records import make_record
from zoo.benchmarks import records, render
from zoo.benchmarks.records import references
from zoo.benchmarks.tables import nll
from zoo.errors import UserError


def cells(table, section, model):
    (found,) = [part for part in table.sections if part.title == section]
    names = [column.name for column in found.columns]
    return [dict(zip(names, row, strict=True)) for row in found.rows if row[0].text == model]


def test_no_heading_holds_two_variants():
    known = references.load()
    table = nll.build([], known)
    for section in table.sections:
        for row in section.rows:
            assert any(row[0].text.startswith(n.model) for n in known.select(metric="nll"))
    titles = [section.title for section in table.sections]
    assert len(titles) == len(set(titles))
    for variant in known.variants:
        values = {n.value for n in known.select(metric="nll", variant=variant) if known.heading(variant) == variant}
        assert bool(values) == any(title.endswith(f", {variant}") for title in titles)


def test_imagenet_of_two_preparations_is_never_side_by_side():
    table = nll.build([], references.load())
    assert cells(table, "ImageNet 32x32, old-small", "VDVAE")
    assert cells(table, "ImageNet 32x32, new-box", "Efficient-VDVAE")
    assert not cells(table, "ImageNet 32x32, old-small", "Efficient-VDVAE")


def test_marks_of_published_numbers():
    table = nll.build([], references.load())
    vdm = cells(table, "CIFAR-10 32x32", "VDM")
    assert {row["8 bits, published"].text: row["8 bits, published"].marks for row in vdm} == {
        "≤ 2.49": ("*",),
        "≤ 2.65": ("°",),
    }
    (ffhq,) = cells(table, "FFHQ 256x256, ffhq256-vdvae", "VDVAE")
    assert ffhq["5 bits, published"].marks == ("‡",)
    assert ffhq["5 bits, measured"].text == render.NOT_RUN
    assert "zoo test" in ffhq["5 bits, measured"].why


def test_both_depths_of_an_experiment_share_a_row():
    lines = [
        make_record(config="vdvae-photos-8bit", bits=8),
        make_record(config="vdvae-photos-5bit", bits=5, bits_per_dim=2.25),
    ]
    (row,) = cells(nll.build(lines, references.load()), "Bundled photos 32x32", "VDVAE")
    assert row["8 bits, measured"].text == "≤ 4.500 ± 0.100"
    assert row["5 bits, measured"].text == "≤ 2.250 ± 0.100"
    assert row["experiment"].text == "vdvae-photos"


def test_numbers_of_another_kind_get_their_own_row_and_mark():
    lines = [
        make_record(),
        make_record(kind="importance", importance_samples=50),
        make_record(bins="vdvae"),
        make_record(spec={"class_path": "zoo.models.VQVAE2"}, model="VQ-VAE-2", augmented=True),
    ]
    table = nll.build(lines, references.load())
    section = table.sections[0]
    assert len(section.rows) == 4
    assert set(table.used_marks()) >= {"†", "§", "ᵏ", "*"}


def test_codes_never_stand_in_the_table():
    table = nll.build([make_record(priced="codes")], references.load())
    assert not any(section.title.startswith("Bundled") for section in table.sections)
    assert "codes" in table.notes[0]


def test_images_of_an_unknown_file_are_not_put_with_others():
    lines = [make_record(dataset="mine", dataset_digest="1" * 64), make_record(dataset="mine", dataset_digest="2" * 64)]
    table = nll.build([lines[0], make_record(dataset="mine", dataset_digest="2" * 64, seed=3)], references.load())
    assert sum(section.title.startswith("mine") for section in table.sections) >= 1
    both = [nll.heading_of(line, references.load()) for line in lines]
    assert both[0] != both[1]


def test_imagenet_of_unstated_preparation_has_its_own_heading():
    table = nll.build([make_record(dataset="imagenet32-box")], references.load())
    assert any(section.title == "ImageNet 32x32, variant not stated" for section in table.sections)


def test_mnist_is_in_nats():
    line = make_record(dataset="mnist", resolution=28, bits=1, num_dims=784, bits_per_dim=0.15, nats_per_image=81.5)
    (section,) = [part for part in nll.build([line], references.load()).sections if "not stated" in part.title]
    names = [column.name for column in section.columns]
    assert section.rows[0][names.index("nats, measured")].text.startswith("≤ 81.50 ±")


def test_rows_stand_by_value():
    for section in nll.build([make_record(bits_per_dim=9.0)], references.load()).sections:
        names = [column.name for column in section.columns]
        place = next(names.index(name) for name in names if name.endswith(("published", "measured")))
        values = [row[place].value for row in section.rows if row[place].value is not None]
        assert values == sorted(values)


def test_the_projects_own_names_of_data_sets_select():
    known = references.load()
    everything = nll.build([], known).sections
    for name, wanted in (("cifar10", {("CIFAR-10 32x32", "")}), ("imagenet32-box", {("ImageNet 32x32", "new-box")})):
        found = nll.build([], known, dataset=name).sections
        assert {(section.dataset, section.variant) for section in found} == wanted
    assert len(nll.build([], known, dataset="ffhq").sections) < len(everything)
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        nll.build([], known, dataset="cifar11")


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "zoo", "bench", *arguments],
        capture_output=True,
        text=True,
        **options,
    )


def test_command_prints_json_without_importing_torch(tmp_path):
    records.append(tmp_path / "a.jsonl", make_record())
    done = run("--table", "nll", "--format", "json", "--records", str(tmp_path))
    assert done.returncode == 0, done.stderr[-500:]
    first = json.loads(done.stdout)["sections"][0]
    assert first["title"] == "Bundled photos 32x32"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "lightning", "numpy"} & imported


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "nlll"], "did you mean 'nll'"),
        (["--suite", "dmo"], "did you mean 'demo'"),
        ([], "give --table NAME"),
        (["--table"], "expected a value"),
        (["--table", "nll", "--suite", "demo"], "exclude each other"),
        (["--table", "nll", "--records", "/nonexistent"], "no such file or folder"),
        (["--table", "nll", "--format", "pdf"], "pdf"),
        (["--table", "nll", "--dateset", "x"], "did you mean 'dataset'"),
    ],
)
def test_mistakes_get_one_line_and_status_2(arguments, message, capsys):
    from zoo.cli.main import main

    assert main(["bench", *arguments]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1


def test_output_is_written_whole_and_its_suffix_chooses_the_form(tmp_path, capsys):
    from zoo.cli.main import main

    target = tmp_path / "new" / "leaderboard.html"
    assert main(["bench", "--table", "nll", "--output", str(target)]) == 0
    assert target.read_text().startswith("<!DOCTYPE html>")
    assert list(target.parent.iterdir()) == [target]
    assert str(target) in capsys.readouterr().out


def test_a_switch_needs_no_value(capsys):
    from zoo.cli.main import main

    assert main(["bench", "--table", "nll", "--format", "markdown"]) == 0
    without = capsys.readouterr().out
    assert main(["bench", "--table", "nll", "--ablations", "--format", "markdown"]) == 0
    assert len(capsys.readouterr().out) > len(without)
