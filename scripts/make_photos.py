"""Make the bundled `photos` set: freely licensed photographs, box-reduced and cut into 64x64 blocks.

Sources (nothing is downloaded by this script):

* Debian packages lomiri-wallpapers-16.04 and lomiri-wallpapers-20.04 (20.04.0-2), unpacked with `dpkg-deb -x`;
* the scikit-image 0.26.0 wheel, unzipped.

    python scripts/make_photos.py --debian DIR --skimage DIR

Every photograph is checked against its digest, reduced by an integer box filter (at least 4, so that the 8x8 blocks of
the JPEG sources are gone), and its centre is cut into non-overlapping blocks. The factor grows with the size of the
picture so that no photograph dominates. A photograph belongs to exactly one split. JPEG decoders may differ in the
last bit between builds; the pixel digest in the file is that of the blocks we ship.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.data.packed import SPLITS
from zoo.data.writer import PackedWriter, new_file

BLOCK = 64
DEBIAN = "Debian package lomiri-wallpapers-{} 20.04.0-2"
SKIMAGE = "scikit-image 0.26.0 wheel, skimage/data/{}"
LICENCE_URLS = {
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC-BY-SA-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "public domain": "",
}


@dataclass(frozen=True)
class Photo:
    """One photograph: where it comes from, whose it is, how far it is reduced."""

    file: str
    title: str
    author: str
    licence: str
    source: str
    factor: int
    split: str
    sha256: str  # first 16 hex digits of the source file


# split | factor | licence | source | start of sha256 | file | title | author
TABLE = """
train |  7 | CC-BY-SA-4.0  | 16.04   | bd86b081f9975e2b | Bridge_by_Sander_Klootwijk.jpg | Bridge | Sander Klootwijk, 2018
train |  6 | CC-BY-SA-4.0  | 16.04   | af5af17841009732 | Dragonfly_by_Bolly.jpg | Dragonfly | Bolly, 2018
train |  5 | CC-BY-4.0     | 16.04   | 66268e7b48f8854d | aitzgorri_by_Aitzol_Berasategi.jpg | Aitzgorri | Aitzol Berasategi, 2018
train |  6 | CC-BY-SA-4.0  | 16.04   | 85a5453c2fed514c | free_by_Peter_Nerlich.jpg | Free | Peter Nerlich, 2018
train |  6 | CC-BY-SA-4.0  | 16.04   | e7b20e2db9dcd6e2 | greentock_by_Peter_Nerlich.jpg | Greentock | Peter Nerlich, 2018
train |  4 | CC-BY-4.0     | 16.04   | 4c119350ead80201 | life_by_Aitzol_Berasategi.jpg | Life | Aitzol Berasategi, 2018
train |  7 | CC0-1.0       | 16.04   | a5634d1ab5e41a35 | seeding_by_Clements_Engelhardt.jpg | Seeding | Clemens Engelhardt, 2018
train |  7 | CC-BY-4.0     | 16.04   | 474dab6a4b9f94dc | sunset_by_Aitzol_Berasategi.jpg | Sunset | Aitzol Berasategi, 2018
train | 10 | CC-BY-SA-3.0  | 20.04   | 6572410c09f4492c | Kleiber_by_Lukas_Baubkus.jpg | Kleiber | Lukas Baubkus, 2021
train |  4 | public domain | skimage | 3a19c5dd8a927a93 | hubble_deep_field.jpg | Hubble eXtreme Deep Field | NASA
val   |  6 | CC-BY-4.0     | 16.04   | c8c0ab18e48d9e04 | Picture_0B_by_freespace.jpg | Picture 0B | Trevor "Freespace", 2018
val   |  8 | CC-BY-4.0     | 16.04   | cc40e313c74e421e | friends_by_Aitzol_Berasategi.jpg | Friends | Aitzol Berasategi, 2018
val   |  4 | CC0-1.0       | skimage | 596aa1e7cb875eb7 | chelsea.png | Chelsea | Stefan van der Walt
test  |  8 | CC-BY-4.0     | 16.04   | 414d0072b2f6f2c5 | picosdeeuropa_by_Aitzol_Berasategi.jpg | Picos de Europa | Aitzol Berasategi, 2018
test  | 10 | CC-BY-4.0     | 16.04   | d2e96e6d4da40dd8 | Wine_by_Jakkub_Mede.jpg | Wine | Jakub Mede, 2018
test  |  5 | CC-BY-4.0     | 16.04   | 89e86af38d04daae | Picture_1A_by_freespace.jpg | Picture 1A | Trevor "Freespace", 2018
test  |  4 | public domain | skimage | 88431cd9653ccd53 | astronaut.png | Eileen Collins | NASA
test  |  4 | CC0-1.0       | skimage | cc02f8ca188b167c | coffee.png | Coffee | Rachel Michetti, courtesy of Pikolo Espresso Bar
test  |  4 | public domain | skimage | c2dd0de7c538df8d | rocket.jpg | Launch of DSCOVR on Falcon 9 | SpaceX
"""  # noqa: E501


def _parse(row: str) -> Photo:
    split, factor, licence, source, digest, file, title, author = (cell.strip() for cell in row.split("|"))
    origin = SKIMAGE.format(file) if source == "skimage" else DEBIAN.format(source)
    return Photo(file, title, author, licence, origin, int(factor), split, digest)


PHOTOS = tuple(_parse(row) for row in TABLE.strip().splitlines())


def find(name: str, roots: list[Path]) -> Path:
    """The one file called `name` below the given folders."""
    found = [path for root in roots for path in root.rglob(name)]
    if not found:
        raise SystemExit(f"{name}: not found below {', '.join(map(str, roots))}; unpack the packages named in --help")
    return found[0]


def box_reduce(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Mean over factor x factor boxes, rounded half up; (H, W, 3) uint8 in and out, incomplete boxes cut off."""
    height, width = (side // factor for side in pixels.shape[:2])
    boxes = pixels[: height * factor, : width * factor].astype(np.uint32)
    boxes = boxes.reshape(height, factor, width, factor, 3).sum(axis=(1, 3))  # (H/f, W/f, 3)
    return ((boxes + factor * factor // 2) // (factor * factor)).astype(np.uint8)


def cut(pixels: np.ndarray) -> np.ndarray:
    """Non-overlapping blocks of the centred area, row by row: (N, 64, 64, 3)."""
    rows, columns = (side // BLOCK for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - rows * BLOCK) // 2, (pixels.shape[1] - columns * BLOCK) // 2
    area = pixels[top : top + rows * BLOCK, left : left + columns * BLOCK]
    blocks = area.reshape(rows, BLOCK, columns, BLOCK, 3).swapaxes(1, 2)  # (rows, columns, 64, 64, 3)
    return blocks.reshape(-1, BLOCK, BLOCK, 3)


def blocks_of(photo: Photo, roots: list[Path]) -> np.ndarray:
    """Check, decode, reduce and cut one photograph."""
    path = find(photo.file, roots)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(photo.sha256):
        raise SystemExit(f"{path}: sha256 starts {digest[:16]}, expected {photo.sha256}; use the versions in --help")
    with Image.open(path) as image:
        return cut(box_reduce(np.asarray(image.convert("RGB")), photo.factor))


def write(path: Path, blocks: list[np.ndarray]) -> None:
    """Write the data file: photograph by photograph, provenance as attributes."""
    counts = {split: sum(len(b) for p, b in zip(PHOTOS, blocks, strict=True) if p.split == split) for split in SPLITS}
    photos = [asdict(photo) | {"blocks": len(block)} for photo, block in zip(PHOTOS, blocks, strict=True)]
    with PackedWriter(path, counts, (BLOCK, BLOCK, 3)) as writer:
        for photo, block in zip(PHOTOS, blocks, strict=True):
            for image in block:
                writer.add(photo.split, image)
        digests = writer.finish(
            {
                "name": "photos",
                "variant": "photos",
                "filter": "integer box filter, factor per photograph (4 to 10), rounded half up",
                "split_rule": "by photograph, as listed in scripts/make_photos.py; no photograph in two splits",
                "licence": "per photograph: CC-BY-4.0, CC-BY-SA-4.0, CC-BY-SA-3.0, CC0-1.0, public domain",
                "photographs": photos,
            }
        )
    for split, digest in digests.items():
        print(f"{split}: {counts[split]} blocks, sha256 {digest}")


def write_attribution(path: Path, blocks: list[np.ndarray]) -> None:
    """Write the licence table that the Creative Commons licences ask for."""
    lines = [
        "# Attribution of the bundled `photos` set",
        "",
        "`photos.h5` is a collection of blocks cut from the photographs below. Every photograph was changed:",
        "reduced by the given box factor and cut into 64x64 blocks. Blocks of a share-alike photograph stay under its",
        "licence; the licence of the code does not apply to them. The Debian files are listed with their licences in",
        "the packages' `copyright` files (upstream: https://gitlab.com/ubports/development/core/lomiri-wallpapers);",
        "the scikit-image files in its `skimage.data` documentation. Made by `scripts/make_photos.py`.",
        "",
        "| photograph | author | licence | source | factor | split | blocks |",
        "|---|---|---|---|---|---|---|",
    ]
    for photo, block in zip(PHOTOS, blocks, strict=True):
        url = LICENCE_URLS[photo.licence]
        licence = f"[{photo.licence}]({url})" if url else photo.licence
        source = photo.source if photo.file in photo.source else f"{photo.source}, `{photo.file}`"
        cells = (photo.title, photo.author, licence, source, photo.factor, photo.split, len(block))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Read the arguments, make the file and its attribution page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--debian", type=Path, required=True, help="folder with both packages unpacked")
    parser.add_argument("--skimage", type=Path, required=True, help="folder with the wheel unzipped")
    parser.add_argument("--output", type=Path, default=Path("zoo/data/photos.h5"))
    parser.add_argument("--attribution", type=Path, default=Path("zoo/data/ATTRIBUTION.md"))
    args = parser.parse_args()
    blocks = [blocks_of(photo, [args.debian, args.skimage]) for photo in PHOTOS]
    with new_file(args.output) as path:
        write(path, blocks)
    write_attribution(args.attribution, blocks)


if __name__ == "__main__":
    main()
