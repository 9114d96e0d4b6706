"""The tables of the papers: every number is somewhere, and what reproduces it stands beside it and nowhere else."""

import csv
import io
import math
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.benchmarks.test_records import make_record
from zoo.benchmarks import records, render, tables
from zoo.benchmarks.records import references
from zoo.benchmarks.tables import hazami2022, nll, shared

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

PAPERS = ("child2020", "hazami2022", "kingma2021", "razavi2019", "luhman2023", "disputes", "lossless", "nll")


def test_every_published_number_is_in_some_table_and_links_to_its_source():
    known = references.load()
    cells = [cell for name in PAPERS for cell in tables.find(name)([], known).cells()]
    shown = {name for cell in cells for name in cell.refs}
    wanted = {n.id for n in known.numbers} | {d.id for d in known.depths} | {d.id for d in known.disputes}
    assert wanted - shown == set()
    assert all(cell.link.startswith("https://") for cell in cells if cell.refs and cell.value is not None and cell.link)
    numbers = {n.id: n for n in known.numbers}
    for cell in cells:
        held = [numbers[name] for name in cell.refs if name in numbers]
        assert not held or cell.link in {known.sources[number.source].url for number in held}
        for number in held:
            if number.unit != "nats/dim" and isinstance(cell.value, float):
                assert cell.value in (number.value, number.value * 1e6)


def test_no_cell_is_empty_without_a_reason():
    known = references.load()
    for table in tables.build_all(records.collect(), known):
        for section in table.sections:
            for row in section.rows:
                for column, cell in zip(section.columns, row, strict=True):
                    assert not (column.numeric and cell.empty) or cell.reason, (table.name, section.title, column.name)
        assert table.empty <= bool(table.expects), table.name


def made_up(path, known, price):
    """A record as `zoo test` would make it for weights of this configuration, if it prices pixels."""
    content = yaml.safe_load(path.read_text())
    rows = {n.row: n for n in known.select(metric="nll")}
    first = next((rows[name] for name in content["reproduces"] if name in rows), None)
    if first is None:
        return None
    data = {(d.name, d.resolution, d.variant): key for key, d in known.datasets.items()}
    key = data.get((first.dataset, first.resolution, first.variant)) or data[first.dataset, first.resolution, ""]
    side = 784 if first.bits == 1 else 3 * first.resolution**2
    return make_record(
        model=known.families[content["model"]["network"]["class_path"].rpartition(".")[2]].name,
        config=path.stem,
        dataset=key,
        resolution=first.resolution,
        variant=first.variant or key,
        bits=first.bits,
        bins=first.bins,
        augmented=first.augmented,
        kind="exact" if first.kind == "exact" else "bound",
        estimator="continuous" if first.model == "VDM" else "",
        bits_per_dim=price,
        nats_per_image=price * side * math.log(2),
        num_dims=side,
        reproduces=tuple(content["reproduces"]),
    )


def test_a_record_of_every_configuration_stands_beside_its_published_number_and_no_other():
    known = references.load()
    prices = {path: 2.0 + 0.001 * place for place, path in enumerate(CONFIGS)}
    lines = {path: line for path in CONFIGS if (line := made_up(path, known, prices[path])) is not None}
    assert len(lines) >= 25
    table = nll.build(list(lines.values()), known)
    for path, line in lines.items():
        found = []
        for section in table.sections:
            for row in section.rows:
                cells = dict(zip([column.name for column in section.columns], row, strict=True))
                if any(cell.record and cell.record["experiment"] == path.stem for cell in cells.values()):
                    found.append(cells)
        (cells,) = found
        (column,) = [name for name, c in cells.items() if c.record and c.record["experiment"] == path.stem]
        measured, published = cells[column], cells[column.replace("measured", "published")]
        assert set(published.refs) & set(line.reproduces), path.stem
        assert set(measured.marks) & {"ˢ", "ᵇ"} == set()
        assert {"exact": "exact"}.get(published.kind, "bound") == measured.kind


def test_a_record_stands_in_every_paper_table_that_prints_its_number():
    known = references.load()
    path = ROOT / "configs" / "efficient_vdvae_cifar10_baseline.yaml"
    line = made_up(path, known, 2.345)
    found = shared.joined([line], known)
    nlls = {name for name in line.reproduces if name in {n.id for n in known.select(metric="nll")}}
    assert {name for name in found if found[name].value == 2.345} == nlls
    table = hazami2022.build([line], known)
    texts = [cell.text for cell in table.cells() if cell.record]
    assert sum(text.startswith("2.345") for text in texts) == 4  # tables 3, 4, 8 and 9


@pytest.mark.parametrize(
    ("change", "mark"),
    [
        ({"variant": "cifar10"}, "ˢ"),
        ({"bins": "efficient_vdvae"}, "ᵇ"),
        ({"bits": 5}, None),
        ({"dataset": "photos"}, None),
        ({"augmented": True}, None),
        ({"estimator": "steps-10"}, None),
        ({"kind": "importance", "importance_samples": 10}, None),
        ({"verified": False}, None),
        ({"overrides": {"bits": 5}}, None),
        ({"complete": False}, None),
        ({"precision": "bfloat16"}, None),
        ({"priced": "codes"}, None),
    ],
)
def test_what_differs_is_marked_or_not_joined(change, mark):
    known = references.load()
    path = ROOT / "configs" / "efficient_vdvae_cifar10_baseline.yaml"
    (wanted,) = [n for n in known.numbers if n.id == "hazami2022.t4.efficient-vdvae-unbounded.cifar10.8bit"]
    line = made_up(path, known, 2.345)
    assert shared.deviations(line, wanted, known) == ()
    changed = records.Record(**{**vars(line), **change})
    found = shared.deviations(changed, wanted, known)
    assert found == (None if mark is None else (mark,))


@pytest.mark.parametrize(
    "change",
    [{"verified": False}, {"overrides": {"network.bits": 5}}, {"tf32": True}],
)
def test_a_changed_number_never_stands_in_the_row_of_a_published_one_nor_hides_ours(change):
    known = references.load()
    path = ROOT / "configs" / "vdvae_cifar10.yaml"
    line = made_up(path, known, 2.345)
    changed = records.Record(**{**vars(line), "bits_per_dim": 1.234, **change})
    cells = {}
    for section in nll.build([line, changed], known).sections:
        for row in section.rows:
            refs = {name for cell in row for name in cell.refs}
            for cell in row:
                if cell.record:
                    cells[cell.value] = (refs, cell)
    assert cells[2.345][0] & set(line.reproduces)
    assert cells[1.234][0] == set()
    assert set(cells[1.234][1].marks) & {"ᵘ", "ᵗ", "ᵖ", "ᵈ"}


def test_all_tables_are_one_page_within_ten_seconds_and_without_torch(tmp_path):
    target = tmp_path / "board.html"
    command = [sys.executable, "-X", "importtime", "-m", "zoo", "bench", "--table", "all", "--output", str(target)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-500:]
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 10  # whatever else is running
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "lightning", "numpy"} & imported
    page = target.read_text(encoding="utf-8")
    assert all(f'<article id="{name}"' in page for name in tables.TABLES)


def test_raw_numbers_keep_what_they_were_measured_or_published_by():
    known = references.load()
    text = render.render(tables.build_all(records.collect(), known), "csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    measured = [line for line in lines if line["weights"]]
    assert len(measured) > 50
    assert all(len(line["weights"]) == 64 and line["repeat"] for line in measured)
    assert {n.id for n in known.numbers} <= {name for line in lines for name in line["published_ids"].split()}
    assert all(line["source"].startswith("https://") for line in lines if line["published_ids"])
