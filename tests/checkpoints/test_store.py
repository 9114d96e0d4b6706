"""Self-describing checkpoints: what is written comes back, and nothing else is believed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from zoo.checkpoints import build, load, names, read, save, weights_digest
from zoo.checkpoints.keymap import Rule, translate
from zoo.errors import UserError

SPEC = {
    "class_path": "VDVAE",
    "init_args": {
        "image_size": 4,
        "bits": 8,
        "encoder": [{"resolution": 4, "blocks": 1, "downsample": 4}, {"resolution": 1, "blocks": 1}],
        "decoder": [{"resolution": 1, "blocks": 1}, {"resolution": 4, "blocks": 1, "upsample_from": 1}],
        "width": 8,
        "latent_channels": 2,
        "mixtures": 2,
    },
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save(tmp_path / "model.safetensors", SPEC, build(SPEC), {"steps": 3})


def test_a_checkpoint_rebuilds_its_model(path: Path) -> None:
    torch.manual_seed(0)
    original = build(SPEC).eval()
    loaded = load(path)
    x = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    torch.manual_seed(1)
    expected = original.terms(x).nelbo
    torch.manual_seed(1)
    assert torch.equal(loaded.network.terms(x).nelbo, expected)
    assert loaded.meta == {"steps": 3}
    assert loaded.digest == weights_digest(original.state_dict())
    assert not loaded.network.training


def test_half_precision_storage_is_priced_identically_after_every_load(tmp_path: Path) -> None:
    small = save(tmp_path / "half.safetensors", SPEC, build(SPEC), dtype=torch.float16)
    once = load(small)
    again = load(save(tmp_path / "again.safetensors", once.spec, once.network, dtype=torch.float16))
    assert once.digest == again.digest
    assert once.identity == again.identity
    assert all(tensor.dtype == torch.float32 for tensor in read(small).weights.values())


def test_overrides_change_the_network_and_its_identity(path: Path) -> None:
    plain, other = load(path), load(path, bits=5)
    assert other.network.bits == 5
    assert plain.digest == other.digest
    assert plain.identity != other.identity


def test_digest_knows_names_shapes_and_values() -> None:
    weights = {"a": torch.arange(4.0), "b": torch.zeros(2, 2)}
    base = weights_digest(weights)
    assert weights_digest(dict(reversed(weights.items()))) == base
    assert weights_digest({"a": torch.arange(4.0), "c": torch.zeros(2, 2)}) != base
    assert weights_digest({"a": torch.arange(4.0), "b": torch.zeros(4)}) != base
    assert weights_digest({"a": torch.arange(4.0) + 1e-6, "b": torch.zeros(2, 2)}) != base


@pytest.mark.parametrize("spec", [{"class_path": "os.system"}, {"class_path": "torch.nn.Linear", "init_args": {}}])
def test_classes_from_elsewhere_are_refused(spec: dict) -> None:
    with pytest.raises(UserError, match="nor trusted"):
        build(spec)


def test_nested_classes_from_elsewhere_are_refused() -> None:
    with pytest.raises(UserError, match="nor trusted"):
        build({"class_path": "VDVAE", "init_args": {"encoder": [{"class_path": "subprocess.Popen"}]}})


def test_misspelt_models_and_arguments_get_a_hint() -> None:
    with pytest.raises(UserError, match="VDVAE"):
        build({"class_path": "VDVEA"})
    with pytest.raises(UserError, match="widht"):
        build({"class_path": "VDVAE", "init_args": {**SPEC["init_args"], "widht": 3}})


@pytest.mark.parametrize("damage", ["truncated", "noise", "empty"])
def test_damaged_files_are_one_line_errors(path: Path, damage: str) -> None:
    data = path.read_bytes()
    path.write_bytes({"truncated": data[: len(data) // 2], "noise": b"noise" * 100, "empty": b""}[damage])
    with pytest.raises(UserError, match="not a readable safetensors file") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_files_without_description_point_to_import(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, str(tmp_path / "bare.safetensors"))
    with pytest.raises(UserError, match="zoo import"):
        load(tmp_path / "bare.safetensors")


def test_weights_of_another_network_are_refused(path: Path, tmp_path: Path) -> None:
    contents = read(path)
    weights = dict(contents.weights)
    name = next(iter(weights))
    weights[name] = torch.zeros(1, 2, 3)
    with pytest.raises(UserError, match="has shape"):
        load(save(tmp_path / "shape.safetensors", SPEC, weights))
    del weights[name]
    with pytest.raises(UserError, match="1 missing"):
        load(save(tmp_path / "missing.safetensors", SPEC, weights))


def test_missing_names_are_suggested(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        load(tmp_path / "nothing.safetensors")
    with pytest.raises(UserError, match="no checkpoint in this folder"):
        load(tmp_path)


@pytest.mark.parametrize("name", names())
def test_shipped_checkpoints_load_and_are_small(name: str) -> None:
    loaded = load(name)
    assert loaded.path.stat().st_size <= 2 * 2**20
    assert json.dumps(loaded.meta)
    assert name.endswith(f"-{loaded.network.bits}bit")


def test_every_foreign_key_is_used_exactly_once() -> None:
    rules = [Rule("enc.{i}.{p:w|b}", "encoder.{i}.{p}"), Rule("ema", None), Rule("t", "t", lambda a: a.T)]
    done = translate({"enc.12.w": torch.zeros(1), "ema": torch.zeros(1), "t": torch.zeros(2, 3)}, rules, "f")
    assert set(done) == {"encoder.12.w", "t"}
    assert done["t"].shape == (3, 2)
    with pytest.raises(UserError, match="is not a key of this format"):
        translate({"enc.12.x": torch.zeros(1)}, rules, "f")
    with pytest.raises(UserError, match="fits 2 rules"):
        translate({"ema": torch.zeros(1)}, [*rules, Rule("ema", "e")], "f")
    with pytest.raises(UserError, match="two keys become"):
        translate({"a": torch.zeros(1), "b": torch.zeros(1)}, [Rule("a", "x"), Rule("b", "x")], "f")
