"""`zoo decompress`: get the images back, bit for bit."""

import shutil
import tempfile
import time
from pathlib import Path

from zoo.errors import UserError


def decompress(checkpoint: str, file: str, *, output: str = "", quiet: bool = False) -> None:
    """Get images back from a .zoo file.

    Nothing appears in the output folder before every image has been decoded and the check sum over all pixels holds.

    Args:
        checkpoint: the checkpoint the file was made with.
        file: a file that `zoo compress` wrote.
        output: folder for the images; must not hold files of their names.
        quiet: no progress bar.
    """
    from zoo.cli.codec_options import load_codec, progress_bar
    from zoo.codec import decode, environment, save_image, unpack

    if not output:
        raise UserError("--output: name a folder for the images")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{file}: no such file; give one that `zoo compress` wrote")
    data = path.read_bytes()
    header, _ = unpack(data, file)
    loaded = load_codec(checkpoint)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    if header.environment != environment():
        print(f"note: written with {header.environment}; here {environment()}. The check sum will tell.")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part, progress_bar("decoding", quiet) as progress:
        for name, mode, pixels in decode(loaded.network, loaded.identity, data, file, progress):
            save_image(Path(part), name, mode, pixels)
        written = sorted(Path(part).iterdir())
        taken = [item.name for item in written if (folder / item.name).exists()]
        if taken:
            raise UserError(f"{folder / taken[0]}: exists already; choose an empty output folder")
        for item in written:
            shutil.move(str(item), folder / item.name)
    seconds = time.perf_counter() - start
    print(f"{folder}: {len(written)} image(s), check sum holds; {len(written) / seconds:.2f} images/s")
