"""The data path's speed table, on few images."""

import numpy as np
import pytest

from zoo.benchmarks.measures import speed_data
from zoo.benchmarks.tables.speed_data import build
from zoo.errors import UserError


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(speed_data, "SIZES", {32: 4000, 256: 64})


def test_both_sizes_are_measured_and_whole_batches_keep_up_with_memmap():
    table = build(list(speed_data.measure([32, 256], repeats=5, workers=0)), None)
    for section, least in zip(table.sections, (0.5, 0.8), strict=True):
        rows = {row[0].text: row for row in section.rows}
        assert all(row[1].value > 0 for row in section.rows)
        assert rows["PackedSplit, whole batches"][4].value > least / 1.5  # room for the noise of few images


def test_generated_images_are_the_same_in_both_files(tmp_path):
    speed_data._generate(8, 5, tmp_path / "a.npy", tmp_path / "b.h5")
    from zoo.data.packed import PackedSplit

    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), PackedSplit(tmp_path / "b.h5", "train").images(range(5)))


def test_unknown_sizes_are_refused():
    with pytest.raises(UserError, match="expected some of"):
        list(speed_data.measure([33]))


def test_a_flag_of_the_speed_table_leads_to_the_one_of_data(capsys, tmp_path):
    from zoo.cli.main import main

    place = ["--records", str(tmp_path)]
    assert main(["measure", "speed_data", "--sizes", "[32]", "--repeats", "1", "--workers", "0", *place]) == 0
    capsys.readouterr()
    assert main(["bench", "--table", "speed_data", *place]) == 0
    assert "np.memmap" in capsys.readouterr().out
