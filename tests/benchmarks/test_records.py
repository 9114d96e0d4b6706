import dataclasses
import json
import multiprocessing

import pytest

from zoo.benchmarks import records
from zoo.benchmarks.records import Measurement, Record
from zoo.errors import UserError


def make_record(**changes):
    values = {
        "model": "VDVAE",
        "config": "toy-8bit",
        "weights": "ab" * 32,
        "parameters": 10,
        "dataset": "photos",
        "resolution": 32,
        "split": "test",
        "dataset_digest": "cd" * 32,
        "images": 4,
        "num_dims": 3072,
        "bits": 8,
        "seed": 0,
        "batch_size": 2,
        "bits_per_dim": 4.5,
        "standard_error": 0.1,
        "nats_per_image": 9581.9,
        "rate": 1.5,
        "distortion": 3.0,
        "rates": {"z1": 1.0, "z2": 0.5},
    }
    return Record(**(values | changes))


def test_part_of_a_split_never_stands_for_the_whole():
    whole, part = make_record(bits_per_dim=3.0), make_record(bits_per_dim=2.0, images=2, complete=False)
    assert records.best([whole, part]) == records.best([part, whole]) == [whole]
    assert records.best([part]) == [part]


def test_what_is_appended_is_read_back_in_order(tmp_path):
    file = tmp_path / "deep" / "a.jsonl"
    written = [
        make_record(seed=1),
        Measurement(question="speed", subject="VDVAE", values={"images/s": 3.5}),
        make_record(seed=2, coded_net=4.51),
    ]
    for line in written:
        records.append(file, line)
    assert records.read(file) == written
    assert records.read(tmp_path / "deep") == written
    assert [record.seed for record in records.of_kind(records.read(file), Record)] == [1, 2]


def test_record_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_record().bits = 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 9}, "bits is 9"),
        ({"bits_per_dim": float("nan")}, "bits_per_dim"),
        ({"kind": "importance"}, "importance_samples"),
        ({"images": 0}, "images"),
        ({"split": 3}, "split"),
        ({"bins": "best"}, "bins"),
    ],
)
def test_an_impossible_record_is_not_written(tmp_path, changes, message):
    file = tmp_path / "a.jsonl"
    with pytest.raises(UserError, match=message):
        records.append(file, make_record(**changes))
    assert not file.exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2] + "\n", "not JSON"),
        (lambda text: text.replace('"bits": 8', '"bits": "eight"'), "field 'bits' is 'eight', expected a whole number"),
        (lambda text: text.replace('"seed": 0, ', ""), "field 'seed' is missing"),
        (lambda text: text.replace('"seed": 0', '"sede": 0'), "unknown field 'sede': did you mean 'seed'"),
        (lambda text: text.replace('"schema": 2', '"schema": 7'), "schema 7"),
        (lambda text: text.replace('"schema": 2', '"schema": 1'), "zoo.benchmarks.records.migrate"),
        (lambda text: text.replace('"line": "likelihood"', '"line": ["likelihood"]'), "line"),
        (lambda text: text.replace('"seed": 0', '"seed": ' + "9" * 5000), "not JSON"),
        (
            lambda text: text.replace('"images": 4', '"images": 4' + "0" * 400).replace("4.5", "4" + "0" * 400),
            "bits_per",
        ),
        (lambda text: "[" * 100_000 + "\n", "not JSON"),
        (lambda text: text.replace('"split": "test"', '"split": "\\ud800"'), "half a character"),
        (lambda text: text.replace('"likelihood"', '"likelyhood"'), "did you mean 'likelihood'"),
        (lambda text: "[1]\n", "expected an object"),
        (lambda text: text.replace('"bits_per_dim": 4.5', '"bits_per_dim": Infinity'), "bits_per_dim"),
    ],
)
def test_a_damaged_line_is_named_by_file_and_number(tmp_path, damage, message):
    file = tmp_path / "a.jsonl"
    records.append(file, make_record())
    file.write_text(file.read_text() + damage(file.read_text()))
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: ") as error:
        records.read(file)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_named_by_line(tmp_path):
    file = tmp_path / "a.jsonl"
    records.append(file, make_record())
    file.write_bytes(file.read_bytes() + b"\xff\xfe\n")
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: not UTF-8"):
        records.read(file)


def test_nothing_is_appended_behind_half_a_line(tmp_path):
    file = tmp_path / "a.jsonl"
    records.append(file, make_record())
    file.write_text(file.read_text()[:-20])
    before = file.read_bytes()
    with pytest.raises(UserError, match="last line has no end"):
        records.append(file, make_record())
    assert file.read_bytes() == before


def test_a_missing_path_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no such file or folder of records"):
        records.read(tmp_path / "none")


def _append_many(file, subject):
    for number in range(40):
        records.append(file, Measurement(question="t", subject=subject, values={"n": number}, note="x" * 3000))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_append_to_one_file_without_mixing_lines(tmp_path):
    file = tmp_path / "a.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append_many, args=(file, name)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = records.read(file)
    for name in "abc":
        assert [line.values["n"] for line in lines if line.subject == name] == list(range(40))


@pytest.mark.parametrize("worse", [{"images": 3}, {"passes": 1}])
def test_of_equal_questions_more_images_count_then_more_passes(worse):
    good = make_record(passes=2)
    bad = make_record(**({"passes": 2} | worse))
    assert records.best([good, bad]) == records.best([bad, good]) == [good]


def test_of_equal_answers_the_newest_counts():
    old, new = make_record(bits_per_dim=5.0), make_record(bits_per_dim=4.0, seed=3)
    assert records.best([old, new]) == [new]


@pytest.mark.parametrize(
    "other",
    [
        {"weights": "ef" * 32},
        {"architecture": "other"},
        {"overrides": {"bits": 5}},
        {"dataset_digest": "ef" * 32},
        {"verified": False},
        {"split": "val"},
        {"bits": 5},
        {"bins": "vdvae"},
        {"estimator": "steps-250"},
        {"kind": "exact"},
        {"kind": "importance", "importance_samples": 5},
        {"precision": "bfloat16"},
        {"tf32": True},
        {"augmented": True},
        {"config": "another"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_nothing_replaces_a_number_of_another_identity(other):
    one, two = make_record(), make_record(images=100, **other)
    assert records.best([one, two]) == [one, two]


def test_a_line_ends_where_it_ends_and_not_at_a_separator_in_its_note(tmp_path):
    file = tmp_path / "a.jsonl"
    noted = make_record(note="one\u2028two\x85three\x0cfour")
    records.append(file, noted)
    records.append(file, make_record())
    assert records.read(file) == [noted, make_record()]


def test_records_of_the_first_schema_are_migrated_once(tmp_path):
    from zoo.benchmarks.records.migrate import migrate

    line = json.loads(json.dumps(dataclasses.asdict(make_record())))
    for new in ("architecture", "overrides", "checked", "verified", "complete", "precision", "tf32", "reproduces"):
        del line[new]
    line |= {"schema": 1, "kind": "likelihood", "estimator": "bound", "estimate": "ode", "partial": True}
    old = [line, {"schema": 1, "kind": "measurement", "table": "speed", "subject": "a", "values": {"b": 1.0}}]
    file = tmp_path / "old.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in old))
    assert migrate(file) == 2
    expected = make_record(kind="bound", estimator="ode", complete=False)
    assert records.read(file) == [expected, Measurement(question="speed", subject="a", values={"b": 1.0})]
    before = file.read_bytes()
    migrate(file)
    assert file.read_bytes() == before


def test_shipped_records_are_valid():
    for line in records.read(records.PACKAGED) if records.PACKAGED.is_dir() else []:
        assert line.check() is None


def test_stamp_names_versions_and_hardware_but_no_folders():
    stamp = records.stamp()
    assert {"python", "torch"} <= set(stamp["versions"])
    assert stamp["hardware"]["cores"] >= 1
    assert "/home" not in json.dumps(stamp)
