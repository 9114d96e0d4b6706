"""`zoo compress`: code images losslessly into one file."""

import io
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.codec import Image


def compress(
    checkpoint: str,
    images: list[str] | None = None,
    *,
    output: str = "",
    dataset: str | None = None,
    split: str = "test",
    limit: int | None = None,
    mode: Literal["auto", "chained", "single"] = "auto",
    batch_size: int = 16,
    steps: int = 0,
    seed: int = 0,
    reduce_bits: bool = False,
    verify: bool | None = None,
    quiet: bool = False,
) -> None:
    """Code images losslessly into one file.

    Args:
        checkpoint: path or name of a checkpoint; the same one is needed to decompress.
        images: files or folders: PNG, JPEG, WebP, BMP, .npy.
        output: file to write, ending in .zoo.
        dataset: code a split of this data set instead of files.
        split: which split of the data set.
        limit: at most this many images of the data set.
        mode: chained = bits-back over all tiles; single = rounded latents, no initial bits; auto = the smaller one.
        batch_size: tiles priced at once, at most 64.
        steps: sampling steps of models that have a choice (VDM: 20 to 100 are sensible for files).
        seed: of the generator that encoder and decoder share.
        reduce_bits: set the bits that a model of fewer than 8 bits cannot code to zero, instead of refusing.
        verify: decode again and compare before the file gets its name; None does so up to 256 tiles.
        quiet: no progress bar.
    """
    from zoo.cli.codec_options import load_codec, progress_bar
    from zoo.codec import encode
    from zoo.files import atomic_path

    if not output.endswith(".zoo"):
        raise UserError(f"--output {output or '(missing)'}: name a file that ends in .zoo")
    if not 1 <= batch_size <= 63:
        raise UserError(f"--batch_size {batch_size}: expected 1 to 63")
    loaded = load_codec(checkpoint, steps)
    model = loaded.network
    sources = _sources(images or [], dataset, split, limit, model.image_shape, model.bits, reduce_bits)
    chained = {"auto": None, "chained": True, "single": False}[mode]
    start = time.perf_counter()
    with progress_bar("encoding", quiet) as progress:
        data, report = encode(model, loaded.identity, sources, batch_size, chained, seed, progress)
    seconds = time.perf_counter() - start
    tiles = sum(-(-h // model.image_shape[1]) * -(-w // model.image_shape[2]) for h, w in (s.size for s in sources))
    if verify or (verify is None and tiles <= 256):
        _verify(model, loaded.identity, data, sources, output, quiet)
    with atomic_path(output) as temporary:
        temporary.write_bytes(data)
    png = _png_bytes(sources)
    how = "bits-back chain" if report.chained else "no initial bits"
    print(
        f"{output}: {len(sources)} image(s), {report.file_bytes:,} bytes ({how}); "
        f"{report.gross:.4f} bits/dim in the file, {report.net:.4f} net of {report.initial_bits // 8:,} initial bytes, "
        f"bound {report.bound:.4f}; {report.file_bytes / png:.3f} of PNG's {png:,} bytes; "
        f"{len(sources) / seconds:.2f} images/s"
    )


def _sources(
    paths: list[str],
    dataset: str | None,
    split: str,
    limit: int | None,
    shape: tuple[int, int, int],
    bits: int,
    reduce: bool,
) -> "list[Image]":
    from zoo.codec import find_images, open_image

    if (dataset is None) == (not paths):
        raise UserError("zoo compress: give image files, or --dataset NAME, one of the two")
    if dataset is None:
        return [image for path in find_images(paths) for image in open_image(path, shape[0], bits, reduce)]
    from zoo.cli.split_images import split_images

    return split_images(dataset, split, limit, shape, bits, reduce)


def _png_bytes(sources: "Iterable[Image]") -> int:
    """Bytes of the same images as PNG files, one each."""
    from PIL import Image as Pillow

    total = 0
    for source in sources:
        pixels = source.load()
        buffer = io.BytesIO()
        array = pixels[0] if source.mode in "Ll" or len(pixels) == 1 else pixels.transpose(1, 2, 0)
        Pillow.fromarray(array).save(buffer, format="PNG", optimize=True)
        total += buffer.tell()
    return total


def _verify(model: object, identity: bytes, data: bytes, sources: "list[Image]", output: str, quiet: bool) -> None:
    import numpy as np

    from zoo.cli.codec_options import progress_bar
    from zoo.codec import decode

    originals = {source.name: source for source in sources}
    with progress_bar("verifying", quiet) as progress:
        for name, _, pixels in decode(model, identity, data, output, progress):
            if not np.array_equal(pixels, originals[name].load()):
                raise UserError(f"{output}: not written: {name} does not decode to itself on this machine")
