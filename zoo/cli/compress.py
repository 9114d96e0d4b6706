"""`zoo compress`: code images losslessly into one file."""

import sys
import time
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.codec import Image, Report


def compress(
    checkpoint: str,
    images: list[str] | None = None,
    *,
    output: str = "",
    dataset: str | None = None,
    split: str = "test",
    limit: int | None = None,
    mode: Literal["auto", "chained", "single"] = "auto",
    batch_size: int = 64,
    steps: int = 0,
    seed: int = 0,
    reduce_bits: bool = False,
    verify: bool = True,
    native: bool = False,
    max_pixels: int = 64_000_000,
    quiet: bool = False,
) -> None:
    """Code images losslessly into one file. The same images give the same bytes.

    Args:
        checkpoint: path or name of a checkpoint; the same one is needed to decompress.
        images: files or folders: PNG, JPEG, WebP, BMP, GIF, TIFF, PPM of 8 bits a sample, .npy of bytes.
        output: file to write, ending in .zoo.
        dataset: code a split of this data set instead of files.
        split: which split of the data set.
        limit: at most this many images of the data set.
        mode: chained = bits-back over all tiles; single = rounded latents, no initial bits; auto = the smaller one.
        batch_size: most tiles priced at once, 1 to 256.
        steps: sampling steps of models that have a choice (VDM: 20 to 100 are sensible for files).
        seed: of the generator that encoder and decoder share.
        reduce_bits: set the bits that a model of fewer than 8 bits cannot code to zero, instead of refusing.
        verify: decode once and compare before the file gets its name.
        native: use this processor's own instructions; faster on some, but the file decodes on like processors only.
        max_pixels: refuse larger pictures.
        quiet: no progress bar.
    """
    from zoo import portable

    if not output.endswith(".zoo"):
        raise UserError(f"--output {output or '(missing)'}: name a file that ends in .zoo")
    if not 1 <= batch_size <= 256:
        raise UserError(f"--batch_size {batch_size}: expected 1 to 256")
    if not native:
        portable.cap()
    from zoo.cli.codec_options import load_codec, progress_bar
    from zoo.codec import Options, encode
    from zoo.files import atomic_path, check_place

    loaded = load_codec(checkpoint, steps)
    model: Any = loaded.network
    reduced = (model.bits, reduce_bits)
    if (dataset is None) == (not images):
        raise UserError("zoo compress: give image files, or --dataset NAME, one of the two")
    if dataset is None:
        sources = _from_files(images or [], model.image_shape[0], *reduced, max_pixels)
    else:
        from zoo.cli.split_images import split_images

        sources = split_images(dataset, split, limit, model.image_shape, *reduced)
    options = Options(batch_size, {"auto": None, "chained": True, "single": False}[mode], seed)
    check_place(output)
    with atomic_path(output) as temporary:
        start = time.perf_counter()
        with progress_bar("encoding", quiet) as progress:
            data, report = encode(model, loaded.identity, sources, options, progress)
        seconds = time.perf_counter() - start
        if verify:
            _verify(model, loaded.identity, data, output, quiet)
        temporary.write_bytes(data)
    count, given = sum(source.entry.count for source in sources), _file_bytes(images or [])
    megapixels = report.dims / model.image_shape[0] / 1e6
    print(f"{output}: {count} image(s), {_summary(report, given)}; {megapixels / seconds:.3f} MP/s")


def _summary(report: "Report", given: int) -> str:
    """What the file costs, in one line."""
    how = "bits-back chain" if report.chained else "no initial bits"
    beside = f"; {report.file_bytes / given:.3f} of the {given:,} bytes given" if given else ""
    return (
        f"{report.file_bytes:,} bytes ({how}); {report.gross:.4f} bits/dim in the file, "
        f"{report.net:.4f} net of {report.initial_bits // 8:,} initial bytes, bound {report.bound:.4f}{beside}"
    )


def _from_files(paths: list[str], channels: int, bits: int, reduce: bool, max_pixels: int) -> "list[Image]":
    """All images, each read once, and all that stands against coding them said before any work."""
    from zoo.codec import check_names, find_images, given_name, open_image
    from zoo.imagefiles import kind_of_file

    files, left_out = find_images(paths)
    for line in left_out:
        print(f"note: {line}", file=sys.stderr)
    check_names(given_name(name, "A" if kind_of_file(path) == "npy" else "R") for path, name in files)
    return [open_image(path, channels, bits, reduce, name, max_pixels) for path, name in files]


def _file_bytes(paths: list[str]) -> int:
    """Bytes of the files given."""
    from zoo.codec import find_images

    return sum(path.stat().st_size for path, _ in find_images(paths)[0]) if paths else 0


def _verify(model: Any, identity: bytes, data: bytes, output: str, quiet: bool) -> None:
    """Decode once; the check sum over all pixels was taken of the originals."""
    from zoo.cli.codec_options import progress_bar
    from zoo.codec import Limits, decode

    everything = Limits(1 << 40, 1 << 60)
    try:
        with progress_bar("verifying", quiet) as progress:
            for _ in decode(model, identity, data, output, progress, everything):
                pass
    except UserError as error:
        raise UserError(f"{output}: not written: does not decode to itself on this machine ({error})") from error
