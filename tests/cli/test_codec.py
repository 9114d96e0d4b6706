"""`zoo compress` and `zoo decompress` as a user runs them."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

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
    (folder / "sub").mkdir()
    Image.fromarray(grey > 99).save(folder / "sub" / "grey.png")
    Image.fromarray(np.dstack([colour, colour[..., :1]])).save(folder / "alpha.png")
    Image.fromarray(grey).save(folder / "indexed.gif")
    (folder / "._colour.png").write_bytes(b"\0\5\x16\7")
    (folder / "notes.txt").write_text("no image")
    with Image.open(folder / "photo.jpg") as photo:
        decoded = np.asarray(photo)
    return {
        "colour.png": colour,
        "grey.png": grey,
        "lossless.webp.png": colour,
        "photo.jpg.png": decoded,
        "pair.npy": np.stack([colour, colour[::-1]]),
        "sub/grey.png": grey > 99,
        "alpha.png": np.dstack([colour, colour[..., :1]]),
        "indexed.gif.png": np.dstack([grey] * 3),
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
    printed = capsys.readouterr()
    line = printed.out.strip()
    assert "9 image(s)" in line
    assert "1 file(s) that are no pictures, skipped" in printed.err
    assert f"{coded.stat().st_size:,} bytes" in line
    assert main(["decompress", str(checkpoint), str(coded), "--output", str(out)]) == 0
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == sorted(images)
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
        (["nothing.png", "--output", "f.zoo"], "nothing.png: no such picture"),
        (["--output", "f.zoo"], "give image files, or --dataset"),
        (["in", "--output", "f.zip"], "ends in .zoo"),
        (["in/broken.png", "--output", "f.zoo"], "expected a picture"),
        (["in/grey.png", "--output", "f.zoo", "--max-pixels", "255"], "more than the 255 allowed"),
        (["in/deep.png", "--output", "f.zoo"], "16 bits a sample"),
        (["in/moving.gif", "--output", "f.zoo"], "several frames"),
        (["in/cut.jpg", "in/grey.png", "--output", "f.zoo"], "in/cut.jpg: damaged picture"),
        (["in/photo.jpg", "in/photo.jpg.png", "--output", "f.zoo"], "given back under this name"),
        (["in/float.npy", "--output", "f.zoo"], "expected uint8"),
        (["empty", "--output", "f.zoo"], "no picture in this folder"),
        (["in/grey.png", "--output", "f.zoo", "--steps", "3"], "no choice of steps"),
        (["in/grey.png", "--output", "f.zoo", "--batch-size", "300"], "expected 1 to 256"),
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
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "in" / "deep.png")
    frames = [Image.new("L", (4, 4), shade) for shade in (0, 9)]
    frames[0].save(tmp_path / "in" / "moving.gif", save_all=True, append_images=frames[1:])
    photo = (tmp_path / "in" / "photo.jpg").read_bytes()
    (tmp_path / "in" / "cut.jpg").write_bytes(photo[: len(photo) * 2 // 3])
    Image.new("RGB", (4, 4)).save(tmp_path / "in" / "photo.jpg.png")
    np.save(tmp_path / "in" / "float.npy", np.zeros((4, 4)))
    assert main(["compress", str(checkpoint), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not list(tmp_path.glob("f.z*"))


def test_what_defines_a_picture_comes_back(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Orientation, colour profile and gamma are kept; a camera's second picture is no animation."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    picture, exif, notes = Image.fromarray(pixels), Image.Exif(), PngInfo()
    exif[0x0112] = 6
    notes.add(b"gAMA", (45455).to_bytes(4, "big"))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save(tmp_path / "phone.jpg", quality=95, exif=exif, icc_profile=profile)
    picture.save(tmp_path / "gamma.png", pnginfo=notes)
    picture.save(tmp_path / "two.jpg", format="MPO", save_all=True, append_images=[picture.resize((5, 3))])
    names = [str(tmp_path / name) for name in ("phone.jpg", "gamma.png", "two.jpg")]
    coded, out = str(tmp_path / "f.zoo"), tmp_path / "out"
    assert main(["compress", str(checkpoint), *names, "--output", coded]) == 0
    assert main(["decompress", str(checkpoint), coded, "--output", str(out)]) == 0
    with Image.open(out / "phone.jpg.png") as back, Image.open(tmp_path / "phone.jpg") as given:
        assert back.getexif()[0x0112] == 6
        assert back.info["icc_profile"] == profile
        assert np.array_equal(np.asarray(back), np.asarray(given))
    with Image.open(out / "gamma.png") as back:
        assert back.info["gamma"] == pytest.approx(0.45455)
    with Image.open(out / "two.jpg.png") as back, Image.open(tmp_path / "two.jpg") as given:
        assert np.array_equal(np.asarray(back), np.asarray(given))


def test_sixteen_bits_are_seen_in_the_file_not_in_the_mode(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pillow opens 16-bit RGB as mode RGB and drops the low bytes."""

    def chunk(key: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + key + data + zlib.crc32(key + data).to_bytes(4, "big")

    head = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(13))) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(png)
    assert main(["compress", str(checkpoint), str(tmp_path / "deep.png"), "--output", str(tmp_path / "f.zoo")]) == 2
    assert "16 bits a sample" in capsys.readouterr().err


def test_decompress_gives_all_or_nothing_and_the_next_run_cleans_up(
    checkpoint: Path, images: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coded, out = tmp_path / "f.zoo", tmp_path / "out"
    main(["compress", str(checkpoint), str(tmp_path / "in" / "grey.png"), "--output", str(coded)])
    left = tmp_path / ".out.part-12345678"  # what a killed run leaves
    left.mkdir()
    (left / "grey.png").write_bytes(b"half")
    arguments = ["decompress", str(checkpoint), str(coded), "--output", str(out)]
    assert main(arguments) == 0
    assert not left.exists()
    assert [path.name for path in out.iterdir()] == ["grey.png"]
    capsys.readouterr()
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


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
