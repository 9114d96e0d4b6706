"""`zoo fit` and what the other commands do with the run it leaves, in one process."""

import json
import math

import pytest
import torch
import yaml

from tests.cli.tiny import CONFIG, write
from zoo.benchmarks.records import Record, read
from zoo.checkpoints import store
from zoo.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a configuration and a finished run in the default place."""
    path = tmp_path_factory.mktemp("fit")
    config = write(path / "small.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert main(["fit", "--config", str(config)]) == 0
    return path


@pytest.fixture(autouse=True)
def _inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_run_folder_is_named_after_the_configuration_and_whole(folder):
    names = {path.name for path in (folder / "runs/small").iterdir()}
    assert {"config.yaml", "last.ckpt", "last.safetensors"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not [name for name in names if ".part" in name]


def test_checkpoint_and_export_are_the_same_weights(folder):
    ours = store.load(folder / "runs/small/last.safetensors")
    lightning = store.load(folder / "runs/small/last.ckpt")
    assert ours.digest == lightning.digest
    assert ours.spec == lightning.spec
    assert ours.meta["steps"] == CONFIG["trainer"]["max_steps"]
    assert ours.meta["data"]["dataset"] == "photos"
    x = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    torch.manual_seed(0)
    expected = ours.network.terms(x).nelbo
    torch.manual_seed(0)
    assert torch.equal(lightning.network.terms(x).nelbo, expected)


def test_checkpoint_holds_only_tensors_and_plain_types(folder):
    checkpoint = torch.load(folder / "runs/small/last.ckpt", weights_only=True)
    network = checkpoint["hyper_parameters"]["network"]
    assert network["class_path"] == "zoo.models.VDVAE"
    assert json.loads(json.dumps(network)) == network


def test_saved_configuration_trains_the_same_model(folder, tmp_path):
    again = ["fit", "--config", "runs/small/config.yaml", "--run_dir", str(tmp_path / "again")]
    assert main(again) == 0
    assert store.load(tmp_path / "again").digest == store.load("runs/small").digest


def test_a_finished_run_is_not_overwritten(folder, capsys):
    before = (folder / "runs/small/last.ckpt").read_bytes()
    assert main(["fit", "--config", "small.yaml"]) == 2
    assert "--ckpt_path last" in capsys.readouterr().err
    assert (folder / "runs/small/last.ckpt").read_bytes() == before


def test_options_win_over_files_and_more_steps_extend_a_run(tmp_path):
    words = ["fit", "--config", "small.yaml", "--run_dir", str(tmp_path / "run"), "--trainer.max_steps"]
    assert main([*words, "2"]) == 0
    assert main([*words, "4", "--ckpt_path", "last"]) == 0
    assert store.load(tmp_path / "run").digest == store.load("runs/small").digest


def test_the_saved_configuration_knows_its_folder(tmp_path):
    run = tmp_path / "elsewhere"
    assert main(["fit", "--config", "small.yaml", "--run_dir", str(run), "--trainer.max_steps", "2"]) == 0
    (run / ".last.0.part.ckpt").write_bytes(b"left by a killed run")
    words = ["fit", "--config", str(run / "config.yaml"), "--ckpt_path", "last", "--trainer.max_steps", "4"]
    assert main(words) == 0
    assert store.load(run).digest == store.load("runs/small").digest
    assert not list(run.glob(".*"))


def test_switching_averaging_off_goes_on_from_the_raw_weights(tmp_path):
    words = ["fit", "--config", "small.yaml", "--run_dir", str(tmp_path / "run"), "--ckpt_path", "last"]
    assert main([*words, "--trainer.max_steps", "2"]) == 0
    raw = torch.load(tmp_path / "run/last.ckpt", weights_only=True)["current_model_state"]
    assert main([*words, "--trainer.max_steps", "2", "--model.ema_decay", "0"]) == 0
    found = store.read(tmp_path / "run/last.safetensors").weights
    assert all(torch.equal(found[name.removeprefix("network.")], tensor) for name, tensor in raw.items())


def test_resuming_what_never_began_begins(tmp_path, capsys):
    words = ["fit", "--config", "small.yaml", "--run_dir", str(tmp_path / "run"), "--trainer.max_steps", "1"]
    assert main([*words, "--ckpt_path", "last"]) == 0
    assert "not there yet" in capsys.readouterr().out


def test_time_limit_ends_with_an_export(tmp_path):
    words = ["fit", "--config", "small.yaml", "--run_dir", str(tmp_path / "run")]
    assert main([*words, "--trainer.max_steps", "100000", "--trainer.max_time", "00:00:00:01"]) == 0
    steps = store.load(tmp_path / "run").meta["steps"]
    assert 0 < steps < 100000
    assert torch.load(tmp_path / "run/last.ckpt", weights_only=True)["global_step"] == steps


def test_fast_dev_run_leaves_nothing(tmp_path):
    words = ["fit", "--config", "small.yaml", "--run_dir", str(tmp_path / "run"), "--trainer.fast_dev_run", "1"]
    assert main(words) == 0
    assert not list(tmp_path.iterdir())


def test_print_config_shows_everything_and_trains_nothing(capsys, tmp_path):
    with pytest.raises(SystemExit) as leaving:
        main(["fit", "--config", "small.yaml", "--run_dir", str(tmp_path / "run"), "--print_config"])
    assert leaving.value.code == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["model"]["network"]["init_args"]["image_shape"] == [3, 16, 16]
    assert shown["model"]["ema_decay"] == CONFIG["model"]["ema_decay"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["runs/small", "runs/small/last.ckpt", "runs/small/last.safetensors"])
def test_test_needs_only_the_checkpoint(source, tmp_path):
    assert main(["test", "--ckpt_path", source, "--data.limit", "2", "--records", str(tmp_path)]) == 0
    (record,) = read(tmp_path)
    assert isinstance(record, Record)
    assert record.images == 2 * 16  # 64x64 photographs in 16x16 windows
    assert record.weights == store.load(source).digest
    assert record.bits_per_dim == pytest.approx(record.rate + record.distortion)
    assert math.isfinite(record.standard_error)


def test_importance_samples_tighten_the_bound_and_are_recorded(tmp_path):
    common = ["test", "--ckpt_path", "runs/small", "--data.limit", "2", "--records", str(tmp_path)]
    assert main(common) == 0
    assert main([*common, "--importance-samples", "8"]) == 0
    plain, weighted = read(tmp_path)
    assert (plain.kind, weighted.kind, weighted.importance_samples) == ("bound", "importance", 8)
    assert weighted.bits_per_dim < plain.bits_per_dim


def test_prices_average_to_the_record(tmp_path):
    common = ["--ckpt_path", "runs/small", "--data.limit", "2"]
    assert main(["test", *common, "--records", str(tmp_path / "records")]) == 0
    assert main(["predict", *common, "--output", str(tmp_path / "prices.jsonl")]) == 0
    (record,) = read(tmp_path / "records")
    prices = [json.loads(line)["bits_per_dim"] for line in (tmp_path / "prices.jsonl").read_text().splitlines()]
    assert len(prices) == record.images
    assert sum(prices) / len(prices) == pytest.approx(record.bits_per_dim)


def test_validate_prints_the_terms(capsys):
    assert main(["validate", "--ckpt_path", "runs/small", "--data.limit", "2"]) == 0
    shown = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("val/"))
    total = float(shown["val/bits_per_dim"])
    assert total == pytest.approx(float(shown["val/rate"]) + float(shown["val/distortion"]), abs=2e-5)


def test_data_of_another_shape_is_refused(capsys):
    assert main(["test", "--ckpt_path", "runs/small", "--data.crop", "32"]) == 2
    assert "the checkpoint prices (3, 16, 16)" in capsys.readouterr().err


def test_tensorboard_has_configuration_hyperparameters_and_test(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    assert main(["fit", "--config", "small.yaml", "--run_dir", str(run)]) == 0
    assert main(["test", str(run), "--data.limit", "2", "--records", str(tmp_path)]) == 0
    events = EventAccumulator(str(run))
    events.Reload()
    tags = events.Tags()
    assert "configuration/text_summary" in tags["tensors"]
    assert {"val/bits_per_dim", "final/bits_per_dim", "test/bits_per_dim"} <= set(tags["scalars"])
    (record,) = read(tmp_path)
    (point,) = events.Scalars("test/bits_per_dim")
    assert point.step == CONFIG["trainer"]["max_steps"]
    assert point.value == pytest.approx(record.bits_per_dim)
    shown = plugins(events)
    assert "hparams" in shown


def plugins(events):
    return events.summary_metadata and {data.plugin_data.plugin_name for data in events.summary_metadata.values()}


def test_other_loggers_work_beside_and_lines_say_how_much_is_left(tmp_path, capsys):
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path / "csv"), "name": ""}}
    config = write(tmp_path / "c.yaml", trainer__logger=logger)
    assert main(["fit", "--config", str(config), "--run_dir", str(tmp_path / "run")]) == 0
    assert list((tmp_path / "csv").rglob("metrics.csv"))
    assert list((tmp_path / "run").glob("events*"))
    assert "step 2 of 4, " in capsys.readouterr().out
