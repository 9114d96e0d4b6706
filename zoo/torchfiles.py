"""Files of weights, read without running code from them, and what a file is that holds no weights."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import UserError

NOTES = "zoo_notes"
"""Key of a training checkpoint under which stands what is known of its training, as plain values."""
_BEGINNINGS = {
    b"version https://git-lfs": "a git-lfs pointer, not the file it stands for; fetch that with `git lfs pull`",
    b"<": "a web page or XML, not weights; open its address in a browser to see what the server says",
    b"\x89PNG": "a picture",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\x89HDF": "an HDF5 file",
    b"\x89ZOO": "a file of coded images",
    b"%PDF": "a PDF",
}


def kind_of_file(path: str | os.PathLike[str]) -> str:
    """What a file is that cannot be read as weights, in words; empty if nothing is known of it."""
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError as error:
        return (error.strerror or "it cannot be opened").lower()
    if not start:
        return "it is empty"
    found = [text for beginning, text in _BEGINNINGS.items() if start.startswith(beginning)]
    return f"it is {found[0]}" if found else ""


def safe_torch_load(path: str | os.PathLike[str]) -> Any:
    """Read a torch file without running code from it.

    Args:
        path: a file written by `torch.save`.

    Returns:
        The stored object, tensors on the CPU.

    Raises:
        UserError: the file is missing, damaged, no torch file, or holds more than tensors and plain types.
    """
    import torch

    file = Path(path)
    if not file.is_file():
        raise UserError(f"{file}: no such checkpoint file; give the path of an existing one")
    damaged = f"{file}: damaged or not a torch checkpoint; copy or download it again"
    kind = kind_of_file(file)
    if kind:
        raise UserError(f"{file}: not a torch checkpoint: {kind}")
    try:
        _check_sums(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights only" in str(error).lower() or "weights_only" in str(error):
            raise UserError(
                f"{file}: holds Python objects besides tensors and plain types and is not loaded, since that would "
                "run code from the file; re-save its state dict alone"
            ) from error
        raise UserError(damaged) from error
    except MemoryError as error:
        raise UserError(f"{file}: needs more memory than there is; it may be damaged") from error
    except Exception as error:  # what a reader raises over a damaged file is of every kind
        raise UserError(damaged) from error


def _check_sums(file: Path) -> None:
    """Compare the check sums of the archive's members, which torch itself does not.

    Raises:
        ValueError: one differs.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > max(16 * file.stat().st_size, 1 << 20):  # torch stores without compression
            raise ValueError("unfolds to far more than its size")
        if archive.testzip() is not None:
            raise ValueError("a check sum differs")


WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_forward_module.", "_checkpoint_wrapped_module.")
"""What wrappers (DataParallel, torch.compile, sharding, recomputation) put into the names of weights."""
_INSIDE = ("state_dict", "model_state_dict", "model", "net", "network")


def unwrapped(content: Any) -> Any:
    """A state dict without what wrappers put around and into it; anything else is returned as it is.

    Example:
        >>> unwrapped({"state_dict": {"module._orig_mod.layer.weight": 1}})
        {'layer.weight': 1}
    """
    for name in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return content
    return {_bare(key): value for key, value in content.items()}


def _bare(key: str) -> str:
    for wrapper in WRAPPERS:
        key = f".{key}".replace(f".{wrapper}", ".").removeprefix(".")
    return key
