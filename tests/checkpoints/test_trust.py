"""What a checkpoint says is checked before anything of it is imported, built or believed."""

import json
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.checkpoints.test_store import SPEC
from zoo import plugins
from zoo.checkpoints import build, load, read, save
from zoo.checkpoints.specification import canonical, identity, qualified
from zoo.errors import UserError
from zoo.torchfiles import safe_torch_load, unwrapped

EVIL = "open('touched', 'w').close()\nfrom zoo.models import VDVAE\nclass Evil(VDVAE):\n    pass\n"


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module whose import leaves a trace; the path of the trace."""
    (tmp_path / "evil_module.py").write_text(EVIL)
    (tmp_path / "config").write_text("class_path: evil_module.Evil\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    monkeypatch.delitem(sys.modules, "evil_module", raising=False)
    return tmp_path / "touched"


HOSTILE = [
    "evil_module.Evil",
    '{"class_path": "evil_module.Evil"}',
    "class_path: evil_module.Evil",
    "./config",
    {"class_path": "evil_module.Evil"},
    {"class_path": "zoo.models.VQVAE2", "init_args": {"autoencoder": "evil_module.Evil"}},
    {"class_path": "zoo.models.VQVAE2", "init_args": {"autoencoder": {"class_path": "evil_module.Evil"}}},
    {"class_path": "zoo.models.VQVAE2", "dict_kwargs": {"autoencoder": "evil_module.Evil"}},
    {"class_path": ["evil_module.Evil"]},
    {"class_path": {"class_path": "evil_module.Evil"}},
    {"class_path": "zoo.models.VDVAE", "init_args": "evil_module.Evil"},
    {"class_path": "zoo.models.VDVAE", "__path__": "evil_module.Evil"},
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
def test_nothing_untrusted_is_imported(hostile: object, evil: Path, tmp_path: Path) -> None:
    nested = {"class_path": "VQVAE2", "init_args": {"autoencoder": hostile, "priors": [hostile]}}
    path = save(tmp_path / "good.safetensors", SPEC, build(SPEC))
    for spec in (hostile, nested):
        with safe_open(str(path), framework="pt") as file:
            header = json.loads(file.metadata()["zoo"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        save_file(weights, "hostile.safetensors", metadata={"zoo": json.dumps({**header, "network": spec})})
        with pytest.raises(UserError) as caught:
            load("hostile.safetensors")
        assert "\n" not in str(caught.value)
    assert not evil.exists()


def test_a_trusted_module_is_loaded_like_the_zoos_own(evil: Path, tmp_path: Path) -> None:
    spec = {"class_path": "evil_module.Evil", "init_args": qualified(SPEC)["init_args"]}
    with pytest.raises(UserError, match="say so with --plugins evil_module or ZOO_PLUGINS=evil_module"):
        build(spec)
    plugins.trust("evil_module")
    assert evil.exists()
    path = save(tmp_path / "evil.safetensors", spec, build(spec))
    assert type(load(path).network).__name__ == "Evil"
    assert type(build({**spec, "class_path": "Evil"})).__name__ == "Evil"


def test_plugins_are_named_on_the_command_line(evil: Path) -> None:
    assert plugins.take_option(["fit", "--plugins", "evil_module", "--x=1"]) == ["fit", "--x=1"]
    assert plugins.names() == ["evil_module"]
    with pytest.raises(UserError, match="plugin no_such_module: cannot be imported"):
        plugins.take_option(["--plugins=no_such_module"])
    with pytest.raises(UserError, match="--plugins: name one"):
        plugins.take_option(["fit", "--plugins"])


MANY = [{"resolution": 4, "blocks": 100_000, "downsample": 4}, {"resolution": 1, "blocks": 1}]


@pytest.mark.parametrize("change", [{"width": 100_000}, {"encoder": MANY}], ids=str)
def test_a_description_larger_than_its_file_is_refused_at_once(change: dict, tmp_path: Path) -> None:
    arguments = {**SPEC["init_args"], **change}
    path = save(tmp_path / "large.safetensors", {"class_path": "VDVAE", "init_args": arguments}, build(SPEC))
    with pytest.raises(UserError, match="larger network than the file holds weights for"):
        load(path)


# -- weights -----------------------------------------------------------------------------------------------------------


def test_any_flipped_bit_of_the_weights_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "model.safetensors", SPEC, build(SPEC))
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    for position in range(begin, len(data), (len(data) - begin) // 40):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged, its weights are not those that were written"):
            read(path)


def test_any_flipped_bit_of_a_training_checkpoint_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"w{i}": torch.randn(100) for i in range(5)}}, path)
    with zipfile.ZipFile(path) as archive:
        content = next(archive.read(name) for name in archive.namelist() if name.endswith("data/3"))
    data = path.read_bytes()
    start = data.index(content)
    for position in range(start, start + 400, 37):
        damaged = bytearray(data)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged or not a torch checkpoint"):
            safe_torch_load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    weights = build(SPEC).state_dict()
    name = next(iter(weights))
    weights[name].view(-1)[0] = value
    path = save(tmp_path / "model.safetensors", SPEC, weights)
    with pytest.raises(UserError, match=f"{name} holds values that are no numbers"):
        load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n", "picture"),
    ],
)
def test_files_that_are_no_weights_are_named(content: bytes, words: str, tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.th"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        load(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=words):
        safe_torch_load(tmp_path / "model.th")


def test_what_wrappers_add_to_names_is_taken_off() -> None:
    plain = {"layer.module_list.0.weight": 1, "b": 2}
    for prefix in ("", "module.", "_orig_mod.", "module._orig_mod."):
        for wrapper in ("", "state_dict", "model"):
            named = {f"{prefix}{key}": value for key, value in plain.items()}
            assert unwrapped({wrapper: named} if wrapper else named) == plain
    assert unwrapped({"layer._orig_mod.weight": 1}) == {"layer.weight": 1}
    assert unwrapped([1]) == [1]


# -- identity ----------------------------------------------------------------------------------------------------------


def test_identity_is_of_what_is_built_not_of_how_it_is_written() -> None:
    arguments = SPEC["init_args"]
    full = {key: value for key, value in arguments.items() if key != "bits"}
    written = [
        SPEC,
        {"class_path": "zoo.models.VDVAE", "init_args": dict(reversed(arguments.items()))},
        {"class_path": "zoo.models.VDVAE", "init_args": {**full, "bits": 8, "bins": "normalised"}},
        {"class_path": "zoo.models.VDVAE", "init_args": {**full, "convention": "normalised", "bits": 8}},
    ]
    assert len({identity(spec, "weights") for spec in written}) == 1
    others = [{**arguments, "bits": 5}, {**arguments, "mixtures": 3}, {**arguments, "bins": "vdvae"}]
    assert len({identity({**SPEC, "init_args": other}, "weights") for other in [arguments, *others]}) == 4
    assert identity(SPEC, "weights") != identity(SPEC, "other weights")


def test_every_shipped_checkpoint_says_the_same_with_its_defaults_written_out() -> None:
    from zoo.checkpoints import names
    from zoo.checkpoints.specification import _parsed, _plain

    for name in names():
        spec = qualified(read(name).spec)
        full = _plain(_parsed(spec)[1].network)
        assert canonical(spec) == canonical(full), name
