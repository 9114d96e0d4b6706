"""`zoo measure`: numbers are printed, then stored; the place is tried before the work."""

import os

import pytest

from tests.benchmarks.test_speed import ARGUMENTS
from zoo.benchmarks import records
from zoo.benchmarks.measures import QUESTIONS, find
from zoo.checkpoints import build, save
from zoo.cli.main import main


@pytest.fixture
def checkpoint(tmp_path):
    spec = {"class_path": "zoo.models.VDVAE", "init_args": ARGUMENTS}
    return str(save(tmp_path / "tiny.safetensors", spec, build(spec)))


def test_a_question_is_answered_printed_and_stored(checkpoint, tmp_path, capsys):
    words = ["measure", "speed_sampling", checkpoint, "--images", "1", "--batch_size", "1"]
    assert main([*words, "--records", str(tmp_path / "r")]) == 0
    printed = capsys.readouterr().out.splitlines()
    (line,) = records.read(tmp_path / "r" / "speed_sampling.jsonl")
    assert f"{line.values['seconds per 1000 images']:.6g}" in printed[0]
    assert printed[1] == f"record appended to {tmp_path / 'r' / 'speed_sampling.jsonl'}"


@pytest.mark.parametrize("place", ["a file", "a file/below.jsonl", "torn.jsonl"])
def test_a_place_that_cannot_take_records_is_found_before_the_work(place, tmp_path, capsys):
    (tmp_path / "a file").write_text("")
    (tmp_path / "torn.jsonl").write_text('{"schema"')
    assert main(["measure", "codes", "no-such-checkpoint", "--records", str(tmp_path / place)]) == 2
    captured = capsys.readouterr()
    assert place.split("/")[0] in captured.err
    assert "no-such-checkpoint" not in captured.err
    assert sorted(os.listdir(tmp_path)) == ["a file", "torn.jsonl"]


def test_every_question_has_help_and_a_failed_one_leaves_no_folder(tmp_path, capsys):
    assert main(["measure", "--help"]) == 0
    listed = capsys.readouterr().out
    for question in QUESTIONS:
        assert question in listed
        assert find(question).__doc__
    assert main(["measure", "codes", "no-such-checkpoint", "--records", str(tmp_path / "r")]) == 2
    assert not (tmp_path / "r").exists()


def test_tables_name_the_command_that_measures(capsys):
    assert main(["bench", "--table", "depth", "--measure"]) == 2
    assert "zoo measure" in capsys.readouterr().err
