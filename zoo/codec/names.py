"""Names of images in a coded file: each can be written on any system, and no two are written to one file."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from zoo.errors import UserError

_LONGEST = 255  # bytes of one part; what ext4, NTFS and APFS take
_LONGEST_PATH = 1024
_FORBIDDEN = set('<>:"|?*\\')
_DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}


def given_name(name: str, mode: str) -> str:
    """What the decoder calls an image: arrays come back as .npy, everything else as PNG.

    Example:
        >>> given_name("photo.jpg", "R"), given_name("a.png", "L"), given_name("a.npy", "A")
        ('photo.jpg.png', 'a.png', 'a.npy')
    """
    suffix = ".npy" if mode == "A" else ".png"
    return name if name.lower().endswith(suffix) else name + suffix


def check_names(names: Iterable[str]) -> None:
    """Refuse names, as `given_name` gives them, that cannot all be written side by side on every system.

    Raises:
        UserError: naming the first, and what is wrong with it.
    """
    seen: dict[str, str] = {}
    folders: set[str] = set()
    for name in names:
        _check(name)
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            raise UserError(
                f"{name}: two images would be given back under this name (the other as {seen[key]}); "
                "rename one, or code them into separate files"
            )
        seen[key] = name
        parts = key.split("/")
        folders.update("/".join(parts[:length]) for length in range(1, len(parts)))
    for key in folders & seen.keys():
        raise UserError(f"{seen[key]}: an image and a folder would be given back under this name; rename one")


def _check(name: str) -> None:
    shown = repr(name.encode("utf-8", "backslashreplace").decode())[:80]
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise UserError(f"{shown}: this name is not UTF-8, so it cannot be given back everywhere; rename it") from error
    if length > _LONGEST_PATH or any(len(part.encode()) > _LONGEST for part in name.split("/")):
        raise UserError(f"{shown}...: this name is longer than {_LONGEST} bytes with the ending .png; rename it")
    for part in name.split("/"):
        if part in ("", ".", ".."):
            raise UserError(f"{shown}: not a plain file name below the folder")
        if any(character in _FORBIDDEN or unicodedata.category(character) == "Cc" for character in part):
            raise UserError(f"{shown}: holds a character that not every system allows in a plain file name; rename it")
        if part[-1] in " ." or part[0] == " " or part.split(".")[0].lower() in _DEVICES:
            raise UserError(f"{shown}: not every system can write this as a plain file name; rename it")
