"""Which classes of models passed `zoo.testing.check_model`: those of the zoo in its own tests, others where noted.

The note is a file of `$ZOO_HOME/checked`, named after the class and the text of its module, so that a changed model
has to pass again.
"""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

from zoo.files import zoo_home


def has_passed(cls: type) -> bool:
    """Whether a class of models passed the checks, with the text it has now."""
    if cls.__module__.partition(".")[0] == "zoo":
        return True
    note = _note(cls)
    return note is not None and note.is_file()


def note_passed(cls: type) -> None:
    """Note that a class passed; where that cannot be written, nothing is noted."""
    note = _note(cls)
    if note is not None and cls.__module__.partition(".")[0] != "zoo":
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()
        except OSError:
            return


def _note(cls: type) -> Path | None:
    """The file that says that a class passed; None for a class without a source file."""
    try:
        text = Path(inspect.getfile(cls)).read_bytes()
    except (OSError, TypeError):
        return None
    return zoo_home() / "checked" / f"{cls.__name__}-{hashlib.sha256(text).hexdigest()[:24]}"
