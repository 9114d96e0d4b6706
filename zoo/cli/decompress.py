"""`zoo decompress`: get the images back, bit for bit."""

import time
from pathlib import Path

from zoo.errors import UserError


def decompress(
    checkpoint: str,
    file: str,
    *,
    output: str = "",
    max_pixels: int = 64_000_000,
    max_memory: int = 1024,
    force: bool = False,
    quiet: bool = False,
) -> None:
    """Get images back from a .zoo file.

    The output folder appears, whole, when every image has been decoded and the check sum over all pixels holds.

    Args:
        checkpoint: the checkpoint the file was made with.
        file: a file that `zoo compress` wrote.
        output: a folder that does not exist yet, or is empty.
        max_pixels: refuse files with larger pictures.
        max_memory: MiB that the largest picture and the file may take, estimated before anything is unfolded.
        force: try although the file names other vector instructions; the check sums still guard the pixels.
        quiet: no progress bar.
    """
    from zoo import portable

    if not output:
        raise UserError("--output: name a folder for the images")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{file}: no such file; give one that `zoo compress` wrote")
    with open(path, "rb") as raw:
        head = raw.read(10)
    if len(head) == 10 and head[9] & 2:  # the flag "portable", see docs/format.md
        portable.cap()
    from zoo.cli.codec_options import load_codec, progress_bar
    from zoo.codec import Limits, decode, environment, save_image, unpack
    from zoo.files import atomic_folder

    data, limits = path.read_bytes(), Limits(max_pixels, max_memory << 20)
    header, _ = unpack(data, file, limits)
    loaded = load_codec(checkpoint)
    if header.environment != environment():
        print(f"note: written with {header.environment}; here {environment()}. The check sums will tell.")
    start = time.perf_counter()
    with atomic_folder(output) as part, progress_bar("decoding", quiet) as progress:
        for entry, frame, pixels in decode(loaded.ancestral, loaded.identity, data, file, progress, limits, force):
            save_image(part, entry, frame, pixels)
    seconds = time.perf_counter() - start
    megapixels = sum(height * width for height, width in header.sizes) / 1e6
    print(f"{output}: {len(header.sizes)} image(s), check sum holds; {megapixels / seconds:.3f} MP/s")
