"""Files of codes: whole or not there, named after what they were made from, damage detected, extraction resumable."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from zoo.checkpoints import save
from zoo.checkpoints.codes import extract
from zoo.data.codes import CodeDataModule, CodeReader, CodeWriter, describe_codes
from zoo.data.plans import Request
from zoo.errors import UserError
from zoo.models import QuantisedAutoencoder

GRIDS = [(2, 3), (4, 6)]
DATA = {"dataset": "photos", "crop": 16, "batch_size": 2, "limit": 3}


def writer(path: Path, key: str = "k") -> CodeWriter:
    return CodeWriter(path, key, ["top", "bottom"], GRIDS, [7, 7], {})


def batch(seed: int, count: int = 5) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    codes = [torch.randint(7, (count, *grid), generator=generator) for grid in GRIDS]
    return codes, torch.arange(count) + 10 * seed


def written(path: Path) -> Path:
    file = writer(path)
    for seed in range(2):
        file.append("train", *batch(seed))
    return file.finish()


def test_codes_come_back_in_any_order_and_as_many_levels_as_asked(tmp_path: Path) -> None:
    info = describe_codes(written(tmp_path / "codes.h5"), verify=True)
    codes, labels = CodeReader(info, "train").__getitems__(Request(np.array([7, 0, 7, 3])))
    parts = [torch.cat([batch(seed)[0][level].flatten(1) for seed in range(2)]) for level in range(2)]
    assert torch.equal(codes, torch.cat(parts, 1)[[7, 0, 7, 3]])
    assert labels.tolist() == [12, 0, 12, 3]
    assert CodeReader(info, "train", levels=1).__getitems__(Request(np.array([1])))[0].shape == (1, 6)


def test_interrupted_writer_goes_on_and_another_key_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "codes.h5"
    file = writer(path)
    file.append("train", *batch(0))
    file.close()
    assert not path.exists()
    again = writer(path)
    assert again.done("train") == 5
    again.append("train", *batch(1))
    assert describe_codes(again.finish(), verify=True).counts == {"train": 10}
    other = writer(tmp_path / "other.h5")
    other.append("train", *batch(0))
    other.close()
    other = writer(tmp_path / "other.h5", key="new")
    assert other.done("train") == 0
    other.close()


@pytest.mark.parametrize("left", [0, 1, 40, 130, 131, 300, 700, 5000])
def test_a_journal_cut_or_damaged_anywhere_is_continued_behind_its_last_whole_batch(left: int, tmp_path: Path) -> None:
    path = tmp_path / "codes.h5"
    for damage in ("cut", "changed"):
        file = writer(path)
        for seed in range(3):
            file.append("train", *batch(seed))
        file.close()
        content = file.journal.read_bytes()
        changed = content[:left] + bytes([content[left] ^ 1]) + content[left + 1 :] if left < len(content) else content
        file.journal.write_bytes(content[:left] if damage == "cut" else changed)
        again = writer(path)
        assert again.done("train") in (0, 5, 10, 15)
        for seed in range(again.done("train") // 5, 3):
            again.append("train", *batch(seed))
        codes, labels = CodeReader(describe_codes(again.finish(), verify=True), "train").__getitems__(
            Request(np.arange(15))
        )
        assert labels.tolist() == [*range(5), *range(10, 15), *range(20, 25)]
        assert torch.equal(codes[:, :6], torch.cat([batch(seed)[0][0].flatten(1) for seed in range(3)]))
        assert [found.name for found in tmp_path.iterdir()] == ["codes.h5"]
        path.unlink()


def test_two_extractions_of_one_file_exclude_each_other(tmp_path: Path) -> None:
    file = writer(tmp_path / "codes.h5")
    with pytest.raises(UserError, match="another process"):
        writer(tmp_path / "codes.h5")
    file.close()


@pytest.mark.parametrize("damage", ["changed", "cut", "unfinished", "foreign"])
def test_damage_is_detected(damage: str, tmp_path: Path) -> None:
    path = written(tmp_path / "codes.h5")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3000])
    elif damage == "foreign":
        path.write_bytes(b"no HDF5 at all")
    else:
        with h5py.File(path, "r+") as file:
            if damage == "changed":
                file["train/bottom"][3, 1, 1] += 1
            else:
                file.attrs["complete"] = 0
    with pytest.raises(UserError, match="extract the codes again"):
        describe_codes(path, verify=True)


def test_every_row_once_in_evaluation_and_an_epoch(tmp_path: Path) -> None:
    data = CodeDataModule(str(written(tmp_path / "codes.h5")), batch_size=5, val_split="train")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        labels = torch.cat([label for _, label in loader])
        assert sorted(labels.tolist()) == [*range(5), *range(10, 15)]
    with pytest.raises(UserError, match="no split 'test'"):
        data.test_dataloader()


def test_extraction_is_done_once_resumes_and_follows_weights_and_settings(tmp_path: Path) -> None:
    arguments = {"image_shape": [3, 16, 16], "strides": [2, 2], "channels": 8, "num_codes": 8, "code_dim": 4}
    spec = {"class_path": "QuantisedAutoencoder", "init_args": arguments}
    network = QuantisedAutoencoder(**arguments).train()
    network.objective(torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8))
    checkpoint = str(save(tmp_path / "a.safetensors", spec, network.eval()))
    first = extract(checkpoint, DATA, str(tmp_path), accelerator="cpu")
    made = first.stat().st_mtime_ns
    assert extract(checkpoint, DATA, str(tmp_path), accelerator="cpu") == first
    assert first.stat().st_mtime_ns == made
    info = describe_codes(first, verify=True)
    assert info.counts == {"train": 48, "val": 48, "test": 48}  # 3 images of 16 tiles

    assert extract(checkpoint, DATA, str(tmp_path), epochs=2, accelerator="cpu") != first
    with torch.no_grad():
        network.to_code[0].bias += 1
    other = str(save(tmp_path / "b.safetensors", spec, network))
    assert extract(other, DATA, str(tmp_path), accelerator="cpu") != first

    with h5py.File(first, "r+") as file:
        file["val/top"][0] = 0
        file["val/top"][0, 0, 0] = 7
    assert extract(checkpoint, DATA, str(tmp_path), accelerator="cpu") == first
    describe_codes(first, verify=True)
