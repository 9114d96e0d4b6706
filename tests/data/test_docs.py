"""docs/adding-a-data-set.md and docs/format.md say what the code does."""

import hashlib
import io
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.test_docs import ROOT, blocks, zoo


def test_the_data_set_of_the_guide_is_prepared_as_the_guide_shows(tmp_path):
    page = ROOT / "docs" / "adding-a-data-set.md"
    (entry, make), (shown,) = blocks(page, "python"), blocks(page, "console")
    (tmp_path / "bars.py").write_text(entry)
    subprocess.run([sys.executable, "-c", make], cwd=tmp_path, check=True)
    command, expected = shown.split("\n", 1)
    assert zoo(tmp_path, *command.removeprefix("$ zoo ").split()).strip() == expected.strip()
    assert "bars" in zoo(tmp_path, "data", "list", "--plugins", "bars", "--format", "markdown")

    (entry_point,) = blocks(page, "toml")
    name, value = re.search(r'^(\w+) = "(.+)"', entry_point, re.MULTILINE).groups()
    module, _, attribute = value.partition(":")
    (tmp_path / f"{module}.py").write_text(re.sub(r'^DATASETS\["bars"\]', attribute, entry, flags=re.MULTILINE))
    installed = tmp_path / "bars-1.0.dist-info"  # as pip leaves it of a package with this entry point
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: bars\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[zoo.datasets]\n{name} = {value}\n")
    assert "public domain" in zoo(tmp_path, *command.removeprefix("$ zoo ").replace("--plugins bars ", "").split())


def read_as_the_page_says(path):
    """Images and labels of a data file, {split: (uint8 (N, H, W, C), int64 (N,))}, following docs/format.md alone."""
    content = path.read_bytes()
    assert content[:20] == b"zoo-images 1\nsha256 "
    assert content[20:84].decode() == hashlib.sha256(content[512:]).hexdigest()
    assert content[84:512] == b"\n" * 428
    found = {}
    with h5py.File(io.BytesIO(content)) as file:
        assert (file.attrs["format"], file.attrs["format_version"]) == ("zoo-images", 1)
        for name in {"train", "val", "test"} & set(file):
            group = file[name]
            if file.attrs["encoding"] == "raw":
                at, shape = group["images"].id.get_offset(), group["images"].shape
                images = np.frombuffer(content, np.uint8, int(np.prod(shape)), at).reshape(shape)
            else:
                count, *size = group.attrs["shape"]
                offsets, stored = group["offsets"][:], group["bytes"][:].tobytes()
                files = [stored[offsets[i] : offsets[i + 1]] for i in range(count)]
                images = np.stack([np.asarray(Image.open(io.BytesIO(png))).reshape(size) for png in files])
            assert hashlib.sha256(images.tobytes()).hexdigest() == group.attrs["sha256"]
            labels = group["labels"][:] if "labels" in group else np.full(len(images), -1)
            found[name] = images, labels
    return found


@pytest.mark.parametrize("side", [16, 520])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_reader_that_follows_the_page_reads_what_the_zoo_reads(tmp_path, side, channels):
    from zoo.data.packed import PackedSplit, describe
    from zoo.data.prepare import Preparation, prepare

    pixels = np.random.default_rng(0).integers(0, 256, (10, side, side, channels), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.arange(10) % 2)
    prepare(Preparation("folder", tmp_path / "x.npz", tmp_path / "x.h5"))
    found = read_as_the_page_says(tmp_path / "x.h5")
    assert {name: len(images) for name, (images, _) in found.items()} == {"train": 9, "test": 1}
    assert describe(tmp_path / "x.h5").encoding == ("raw" if side == 16 else "png")
    for name, (images, labels) in found.items():
        split = PackedSplit(tmp_path / "x.h5", name)
        np.testing.assert_array_equal(images, split.images(range(len(split))))
        np.testing.assert_array_equal(labels, split.labels(range(len(split))))
