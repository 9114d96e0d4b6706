"""`zoo compress` and `zoo decompress` as a user runs them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli import processes
from tests.cli.tiny import NETWORK
from zoo.checkpoints import build, save
from zoo.cli.main import main


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save(tmp_path / "tiny.safetensors", NETWORK, build(NETWORK))


@pytest.fixture
def images(tmp_path: Path) -> dict[str, np.ndarray]:
    """Files of every kind that can be coded, with what they hold."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    colour, grey = rng.integers(0, 256, (20, 37, 3), dtype=np.uint8), rng.integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(colour).save(folder / "colour.png")
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(colour).save(folder / "lossless.webp", lossless=True)
    Image.fromarray(colour).save(folder / "photo.jpg")
    np.save(folder / "pair.npy", np.stack([colour, colour[::-1]]))
    with Image.open(folder / "photo.jpg") as photo:
        decoded = np.asarray(photo)
    return {
        "colour.png": colour,
        "grey.png": grey,
        "lossless.webp.png": colour,
        "photo.jpg.png": decoded,
        "pair-000000.npy": colour,
        "pair-000001.npy": colour[::-1],
    }


def read(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("mode", ["auto", "chained", "single"])
def test_files_come_back_bit_for_bit_with_their_names(
    checkpoint: Path, images: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    coded, out = tmp_path / "f.zoo", tmp_path / "out"
    assert main(["compress", str(checkpoint), str(tmp_path / "in"), "--output", str(coded), "--mode", mode]) == 0
    line = capsys.readouterr().out.strip()
    assert "6 image(s)" in line
    assert f"{coded.stat().st_size:,} bytes" in line
    assert main(["decompress", str(checkpoint), str(coded), "--output", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(images)
    for name, pixels in images.items():
        assert np.array_equal(read(out / name), pixels), name


def test_another_process_gets_a_split_back(checkpoint: Path, tmp_path: Path) -> None:
    processes.run(
        "compress", checkpoint, "--dataset", "photos", "--limit", 2, "--output", tmp_path / "f.zoo", cwd=tmp_path
    )
    printed = processes.run("decompress", checkpoint, tmp_path / "f.zoo", "--output", tmp_path / "out", cwd=tmp_path)
    assert "2 image(s), check sum holds" in printed
    from zoo.data.locate import locate
    from zoo.data.packed import PackedSplit

    original = PackedSplit(locate("photos"), "test").images([0, 1])
    for number in range(2):
        assert np.array_equal(read(tmp_path / "out" / f"test-{number:06d}.png"), original[number])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.png", "--output", "f.zoo"], "nothing.png: no such image"),
        (["--output", "f.zoo"], "give image files, or --dataset"),
        (["in", "--output", "f.zip"], "ends in .zoo"),
        (["in/broken.png", "--output", "f.zoo"], "not an image"),
        (["in/alpha.png", "--output", "f.zoo"], "plain 8-bit images only"),
        (["in/float.npy", "--output", "f.zoo"], "expected uint8"),
        (["empty", "--output", "f.zoo"], "no image in this folder"),
        (["in/grey.png", "--output", "f.zoo", "--steps", "3"], "no choice of steps"),
        (["in/grey.png", "--output", "f.zoo", "--batch-size", "100"], "expected 1 to 63"),
        (["in/grey.png", "--output", "f.zoo", "--mood", "x"], "mood"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    checkpoint: Path,
    images: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "in" / "broken.png").write_bytes(b"broken")
    Image.new("RGBA", (4, 4)).save(tmp_path / "in" / "alpha.png")
    np.save(tmp_path / "in" / "float.npy", np.zeros((4, 4)))
    assert main(["compress", str(checkpoint), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not list(tmp_path.glob("f.z*"))


def test_damage_and_wrong_checkpoints_leave_nothing(
    checkpoint: Path, images: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coded, out = tmp_path / "f.zoo", tmp_path / "out"
    main(["compress", str(checkpoint), str(tmp_path / "in" / "grey.png"), "--output", str(coded)])
    other = save(tmp_path / "other.safetensors", NETWORK, build(NETWORK))
    data = coded.read_bytes()
    cases = [(str(other), data, "another checkpoint"), (str(checkpoint), data[:-9], "damaged or truncated")]
    for used, content, message in cases:
        coded.write_bytes(content)
        capsys.readouterr()
        assert main(["decompress", used, str(coded), "--output", str(out)]) == 2
        assert message in capsys.readouterr().err
        assert not out.exists() or list(out.iterdir()) == []
